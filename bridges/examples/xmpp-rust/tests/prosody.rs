//! Against Prosody, with people who speak through slixmpp.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../../prosody/mod.rs"]
mod prosody;

use mesyx_sdk::*;
use prosody::{Prosody, Xmpp};
use std::sync::Arc;
use std::time::Duration;

#[test]
fn the_contract() {
    testkit::check::<xmpp_bridge::Xmpp>(&Xmpp::new()).assert();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_both_ways_and_presence() {
    let server = Prosody::start();
    let host = MemoryHost::new("example.org".parse().unwrap());
    host.add_user("ann", "secret").unwrap();
    host.set_secret("xmpp", Secret::from("shared".to_owned()));
    let bridge = Arc::new(xmpp_bridge::Xmpp::build(Config::new(server.config())).unwrap());
    let shared: Arc<dyn Host> = Arc::new(host.clone());
    let running = tokio::spawn({
        let (bridge, host) = (Arc::clone(&bridge), Arc::clone(&shared));
        async move { bridge.run(host).await }
    });
    while !host.health_reports().contains(&Health::Ready) {
        assert!(!running.is_finished(), "{:?}", running.await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    let server = tokio::task::spawn_blocking(move || {
        prosody::presence(&server);
        server
    });
    let server = server.await.unwrap();
    let accepted = host.accepted();
    let (headers, line) = Line::from_content(&accepted[0].content, host.domain()).unwrap();
    assert_eq!((line.text.as_str(), headers.nick.as_str()), ("hello <&> \u{e9}", "romeo"));
    assert_eq!(accepted[0].from, Some("xmpp:romeo@localhost".parse().unwrap()));
    assert_eq!(accepted.len(), 1);

    let juliet = server.person("juliet");
    let content = prosody::line("wherefore </body> \"art\" thou\n\u{e9}?", host.domain());
    let job = Delivery {
        id: MessageId::random(),
        from: Some("ann@example.org".parse().unwrap()),
        recipients: vec![Recipient::new("xmpp:juliet@localhost".parse().unwrap())],
        dsn: Dsn::default(),
        deadline: Timestamp(Timestamp::now().0 + 20_000),
        content,
    };
    let outcomes = bridge.deliver(shared, job).await;
    assert_eq!(outcomes, [Outcome::Delivered { remote_id: None, dsn: false }]);
    let heard =
        tokio::task::spawn_blocking(move || juliet.hears("ann", |event| event["event"] == "message")).await.unwrap();
    assert_eq!(heard["body"], "wherefore </body> \"art\" thou\n\u{e9}?");
    assert_eq!(heard["sender"], "ann@mesyx.localhost");
    host.stop();
    running.await.unwrap().unwrap();
}

#[test]
fn it_stays_an_example() {
    let all = concat!(include_str!("../src/main.rs"), include_str!("../src/lib.rs"));
    let lines = all.lines().count();
    assert!(lines < 200, "{lines} lines");
}
