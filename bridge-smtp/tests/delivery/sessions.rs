//! Connections: how many, how long, and for what.

use crate::lab::{Lab, deferred, delivered};
use crate::sink::{Act, Manner};
use mesyx_sdk::{Bridge, Grant, Secret};
use serde_json::json;
use std::sync::Arc;
use tokio::task::JoinSet;

#[tokio::test]
async fn connections_are_used_again() {
    let lab = Lab::new();
    let sink = lab.only(Manner::default()).await;
    let sender = lab.sender(json!({ "limits": { "messages_per_connection": 4, "idle_seconds": 60 } }));
    for _ in 0..8 {
        assert!(delivered(&sender.one("bob@example.net").await));
    }
    assert_eq!((sink.taken().len(), sink.connections()), (8, 2));
    assert_eq!(sink.heard().commands.iter().filter(|line| *line == "QUIT").count(), 2);
    let sender = lab.sender(json!({ "limits": { "idle_seconds": 0 } }));
    for _ in 0..2 {
        assert!(delivered(&sender.one("bob@example.net").await));
    }
    assert_eq!(sink.connections(), 4);
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_made_anew() {
    for stale in [Act::Drop, Act::Last("421 4.4.2 idle for too long".into())] {
        let lab = Lab::new();
        let again = stale.clone();
        let decide = move |line: &str, heard: &crate::sink::Heard| {
            // The second MAIL on the first connection.
            let second = heard.peers.len() == 1 && heard.taken.len() == 1;
            (line.starts_with("MAIL") && second).then(|| again.clone())
        };
        let sink = lab.only(Manner { decide: Arc::new(decide), ..Manner::default() }).await;
        let sender = lab.sender(json!({ "limits": { "idle_seconds": 60 } }));
        for _ in 0..2 {
            assert!(delivered(&sender.one("bob@example.net").await));
        }
        assert_eq!(sink.connections(), 2);
    }
}

#[tokio::test]
async fn no_more_connections_than_allowed() {
    let lab = Lab::new();
    let sink = lab.only(Manner::default()).await;
    let sender = lab.sender(json!({ "limits": { "connections_per_host": 3 } }));
    let mut all = JoinSet::new();
    for _ in 0..60 {
        let sender = sender.clone();
        all.spawn(async move { sender.one("bob@example.net").await });
    }
    while let Some(outcome) = all.join_next().await {
        assert!(delivered(&outcome.unwrap()));
    }
    assert_eq!(sink.taken().len(), 60);
    assert!((1..=3).contains(&sink.most()), "{} at once", sink.most());
}

#[tokio::test]
async fn idle_connections_end_with_the_bridge() {
    let lab = Lab::new();
    let sink = lab.only(Manner::default()).await;
    let sender = lab.sender(json!({ "limits": { "idle_seconds": 60 } }));
    let bridge = Arc::clone(&sender.bridge);
    let host: Arc<dyn mesyx_sdk::Host> = Arc::new(lab.host.clone());
    crate::lab::certify(&lab.host);
    let running = tokio::spawn(async move { bridge.run(host).await });
    lab.host.listening("smtp-1").await;
    assert!(delivered(&sender.one("bob@example.net").await));
    assert!(!sink.heard().commands.contains(&"QUIT".to_owned()));
    lab.host.stop();
    running.await.unwrap().unwrap();
    assert!(sink.heard().commands.contains(&"QUIT".to_owned()));
}

#[tokio::test]
async fn a_smart_host_is_logged_in_to_under_tls_alone() {
    let lab = Lab::new();
    let identity = lab.identity(&["relay.example.net"]);
    lab.zone.address("relay.example.net", "127.0.0.5");
    let manner = Manner {
        tls: Some(identity.config.clone()),
        offers: vec!["AUTH PLAIN LOGIN"],
        decide: Arc::new(|line, _| {
            let wrong = line.starts_with("AUTH") && line != "AUTH PLAIN AGFsaWNlAHNlY3JldA==";
            wrong.then(|| Act::Say("535 5.7.8 wrong".into()))
        }),
        ..Manner::default()
    };
    let address = format!("127.0.0.5:{}", lab.port).parse().unwrap();
    let sink = crate::sink::Sink::start(address, manner).await;
    let route = |host: &str, tls: &str| {
        let route = json!({ "domains": ["*"], "hosts": [format!("{host}:{}", lab.port)], "tls": tls,
            "user": "alice", "password": "relay.password" });
        lab.sender(json!({ "routes": [route] }))
    };
    let sender = route("relay.example.net", "verified");
    assert_eq!(sender.bridge.secrets(), ["relay.password"]);
    let outcome = sender.one("bob@anywhere.example").await;
    assert!(deferred(&outcome).0.contains("'relay.password'"), "{outcome:?}");
    lab.host.set_secret("relay.password", Secret::from("secret".to_owned()));
    assert!(delivered(&sender.one("bob@anywhere.example").await));
    assert!(sink.taken()[0].tls);
    // Another name than the certificate's: no login, no mail.
    let commands = sink.heard().commands.len();
    lab.zone.address("other.example.net", "127.0.0.5");
    let outcome = route("other.example.net", "verified").one("bob@anywhere.example").await;
    assert!(deferred(&outcome).0.starts_with("4.7.5"), "{outcome:?}");
    assert_eq!(sink.heard().commands[commands..], ["EHLO mail.example.org", "STARTTLS"]);
    lab.host.set_secret("relay.password", Secret::from("wrong".to_owned()));
    let outcome = route("relay.example.net", "verified").one("bob@anywhere.example").await;
    let (why, host, _) = deferred(&outcome);
    assert!(why.starts_with("4.7.8") && !host, "all mail waits for it, not that of one domain: {outcome:?}");
    assert!(!why.contains("wrong\u{0}") && sink.taken().len() == 1);
    lab.host.grant_only([Grant::Deliver]);
    deferred(&route("relay.example.net", "verified").one("bob@anywhere.example").await);
}

#[tokio::test]
async fn tls_from_the_first_byte() {
    let lab = Lab::new();
    let identity = lab.identity(&["mx2.example.net"]);
    let manner = Manner { tls: Some(identity.config.clone()), implicit: true, ..Manner::default() };
    let sink = lab.only(manner).await;
    let route = json!({ "domains": ["*"], "hosts": [format!("mx2.example.net:{}", lab.port)], "tls": "implicit" });
    assert!(delivered(&lab.sender(json!({ "routes": [route] })).one("bob@example.net").await));
    assert!(sink.taken()[0].tls);
}

/// Where all mail goes to one host, whose domain it is for makes no difference.
#[tokio::test]
async fn a_smart_host_that_is_down_holds_up_all_domains() {
    let lab = Lab::new();
    let gone = format!("127.0.0.9:{}", lab.port);
    for (domains, all) in [(json!(["*"]), true), (json!(["example.net"]), false)] {
        let delivery = json!({ "routes": [{ "domains": domains, "hosts": [gone] }] });
        let outcome = lab.sender(delivery).one("bob@example.net").await;
        let mesyx_sdk::Outcome::Deferred { scope, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(scope == mesyx_sdk::DeferScope::Bridge, all, "{domains}");
    }
}
