//! Which host gets the mail.

use crate::lab::{CONTENT, Lab, deferred, delivered, failed};
use crate::sink::Manner;
use serde_json::json;

#[tokio::test]
async fn hosts_are_tried_by_preference() {
    let lab = Lab::new();
    lab.zone.mx("example.net", 20, "mx3.example.net").mx("example.net", 10, "mx2.example.net");
    let (first, second) = (lab.sink(2, Manner::default()).await, lab.sink(3, Manner::default()).await);
    assert!(delivered(&lab.sender(json!({})).one("bob@example.net").await));
    assert_eq!((first.taken().len(), second.taken().len()), (1, 0));
    let taken = first.taken().remove(0);
    assert_eq!(taken.content, CONTENT.as_bytes());
    assert_eq!(taken.from, format!("MAIL FROM:<alice@example.org> SIZE={}", CONTENT.len()));
    assert_eq!(taken.to, ["RCPT TO:<bob@example.net>"]);
    // Nobody listens at the best one.
    let lab = Lab::new();
    lab.zone.mx("example.net", 10, "mx9.example.net").address("mx9.example.net", "127.0.0.9");
    lab.zone.mx("example.net", 5, "gone.example.net").mx("example.net", 20, "mx3.example.net");
    let second = lab.sink(3, Manner::default()).await;
    assert!(delivered(&lab.sender(json!({})).one("bob@example.net").await));
    assert_eq!(second.taken().len(), 1);
}

#[tokio::test]
async fn hosts_of_one_preference_share_the_load() {
    let lab = Lab::new();
    lab.zone.mx("example.net", 10, "mx2.example.net").mx("example.net", 10, "mx3.example.net");
    let (one, two) = (lab.sink(2, Manner::default()).await, lab.sink(3, Manner::default()).await);
    let sender = lab.sender(json!({}));
    for _ in 0..60 {
        assert!(delivered(&sender.one("bob@example.net").await));
    }
    assert!(!one.taken().is_empty() && !two.taken().is_empty());
    assert_eq!(one.taken().len() + two.taken().len(), 60);
}

#[tokio::test]
async fn a_domain_without_mx_is_its_own_host() {
    let lab = Lab::new();
    lab.zone.address("plain.example", "127.0.0.2").alias("alias.example", "plain.example");
    let sink = lab.sink(2, Manner::default()).await;
    let sender = lab.sender(json!({}));
    assert!(delivered(&sender.one("bob@plain.example").await));
    assert!(delivered(&sender.one("bob@alias.example").await));
    assert!(delivered(&sender.one("bob@[127.0.0.2]").await));
    assert_eq!(sink.taken().len(), 3);
    assert_eq!(sink.taken()[2].to, ["RCPT TO:<bob@[127.0.0.2]>"]);
}

#[tokio::test]
async fn domains_that_take_no_mail_fail_at_once() {
    let lab = Lab::new();
    lab.zone.mx("null.example", 0, ".").txt("empty.example", "x").mx("dangling.example", 10, "gone.example");
    lab.zone.fail("broken.example", None).mx("half.example", 10, "broken.example");
    let sender = lab.sender(json!({}));
    for (to, status) in [
        ("bob@null.example", "5.1.10"),
        ("bob@gone.example", "5.1.2"),
        ("bob@empty.example", "5.4.4"),
        ("bob@dangling.example", "5.4.4"),
    ] {
        let outcome = sender.one(to).await;
        assert!(failed(&outcome).starts_with(status), "{to}: {outcome:?}");
    }
    for to in ["bob@broken.example", "bob@half.example"] {
        let outcome = sender.one(to).await;
        let (why, host, maybe) = deferred(&outcome);
        assert!(why.starts_with("4.4.3") && host && !maybe, "{to}: {why}");
    }
    // What can't be found for good does not make what can't be told now fail.
    lab.zone.mx("mixed.example", 10, "broken.example").mx("mixed.example", 20, "gone.example");
    deferred(&sender.one("bob@mixed.example").await);
}

#[tokio::test]
async fn mail_never_comes_back_to_us_nor_goes_where_it_must_not() {
    let lab = Lab::new();
    // The memory host is mail.example.org.
    lab.zone.mx("loop.example", 10, "MAIL.example.org").address("mail.example.org", "127.0.0.2");
    lab.zone.mx("backup.example", 10, "mx2.example.net").mx("backup.example", 20, "mail.example.org");
    let sink = lab.sink(2, Manner::default()).await;
    let sender = lab.sender(json!({}));
    assert!(failed(&sender.one("bob@loop.example").await).starts_with("5.4.6"));
    assert!(delivered(&sender.one("bob@backup.example").await), "a better one than us is there");
    lab.zone.mx("worse.example", 10, "mail.example.org").mx("worse.example", 20, "mx2.example.net");
    assert!(failed(&sender.one("bob@worse.example").await).starts_with("5.4.6"));
    // The very address and port that we listen at, under another name.
    let mut config = lab.config();
    config["listeners"] = json!([{ "address": format!("127.0.0.2:{}", lab.port) }]);
    config["delivery"] = json!({ "port": lab.port, "allow_private": true });
    let own = lab.sender_with(config);
    assert!(failed(&own.one("bob@backup.example").await).starts_with("5.4.6"));
    // Without leave, private addresses are not reached, by name or literal.
    let sender = lab.sender(json!({ "allow_private": false }));
    for to in ["bob@backup.example", "bob@[127.0.0.2]"] {
        assert!(failed(&sender.one(to).await).starts_with("5.4.4"), "{to}");
    }
    assert_eq!(sink.connections(), 1);
}

#[tokio::test]
async fn routes_lead_elsewhere() {
    let lab = Lab::new();
    let (relay, direct) = (lab.sink(3, Manner::default()).await, lab.only(Manner::default()).await);
    let port = lab.port;
    let routes = json!([
        { "domains": ["*.example.com", "example.com"], "hosts": [format!("127.0.0.9:{port}"), format!("mx3.example.net:{port}")] },
        { "domains": ["tls.example"], "tls": "required" },
    ]);
    // An operator's hosts may be anywhere, and their domains need not exist.
    let sender = lab.sender(json!({ "routes": routes.clone(), "allow_private": false }));
    assert!(delivered(&sender.one("bob@deep.example.com").await));
    let sender = lab.sender(json!({ "routes": routes }));
    let outcomes = sender.send(&["a@example.net", "b@example.com", "c@example.net", "d@gone.example"]).await;
    assert!(outcomes[..3].iter().all(delivered), "{outcomes:?}");
    failed(&outcomes[3]);
    assert_eq!(direct.taken()[0].to, ["RCPT TO:<a@example.net>", "RCPT TO:<c@example.net>"]);
    assert_eq!(relay.taken().len(), 2);
    lab.zone.mx("tls.example", 10, "mx2.example.net");
    let outcome = sender.one("bob@tls.example").await;
    assert!(deferred(&outcome).0.starts_with("4.7.4"), "{outcome:?}");
}

#[tokio::test]
async fn the_local_address_can_be_chosen() {
    let lab = Lab::new();
    let sink = lab.only(Manner::default()).await;
    let sender = lab.sender(json!({ "bind_ipv4": "127.0.0.77", "helo": "out.example.org" }));
    assert!(delivered(&sender.one("bob@example.net").await));
    assert_eq!(sink.heard().peers[0].ip().to_string(), "127.0.0.77");
    assert_eq!(sink.heard().commands[0], "EHLO out.example.org");
}

#[tokio::test]
async fn ipv6_is_spoken() {
    let lab = Lab::new();
    lab.zone.mx("six.example", 10, "mx6.example.net").address("mx6.example.net", "::1");
    let address = format!("[::1]:{}", lab.port).parse().unwrap();
    let sink = crate::sink::Sink::start(address, Manner::default()).await;
    assert!(delivered(&lab.sender(json!({ "prefer": "ipv4" })).one("bob@six.example").await));
    assert!(delivered(&lab.sender(json!({})).one("bob@[IPv6:::1]").await));
    assert_eq!(sink.taken().len(), 2);
}

/// The root's key signing key of 2017, in a file that is not there at first.
const ANCHOR: &str = ". IN DNSKEY 257 3 8 AwEAAaz/tAm8yTn4Mfeh5eyI96WSVexTBAvkMgJzkKTOiW1vkIbzxeF3+/4RgWOq7HrxRixHlFlExOLAJr5emLvN7SWXgnLh4\
    +B5xQlNVz8Og8kvArMtNROxVQuCaSnIDdD5LKyWbRd2n9WGe2R8PzgCmr3EgVLrjyBxWezF0jLHwVN8efS3rCj/EWgvIWgb9tarpVUDK/b58Da+sqqls3eNbuv7pr+eoZG\
    +SrDK6nWeL3c6H5Apxz7LjVc1uTIdsIXxuOLYA4/ilBmSVIzuDWfdRUfhHdY6+cn8HFRm+2hM8AnXGXws9555KrUB5qihylGa8subX2Nn6UwNR1AkUTV74bU=\n";

#[tokio::test]
async fn what_sending_needs_and_was_not_there_is_looked_for_again() {
    let lab = Lab::new();
    let sink = lab.only(Manner::default()).await;
    let anchor = std::env::temp_dir().join(format!("mesyx-anchor-{}", mesyx_sdk::MessageId::random()));
    let mut config = lab.config();
    config["listeners"] = json!([{ "address": "127.0.0.1:0" }]);
    let way = format!("127.0.0.2:{}", lab.port);
    config["delivery"] = json!({ "routes": [{ "domains": ["example.net"], "hosts": [way] }] });
    config["dns"]["dnssec"] = json!("validate");
    config["dns"]["trust_anchor"] = json!(anchor);
    let sender = lab.sender_with(config);
    let outcome = sender.one("bob@example.net").await;
    let mesyx_sdk::Outcome::Deferred { why, scope: mesyx_sdk::DeferScope::Bridge, .. } = &outcome else {
        panic!("{outcome:?}")
    };
    assert!(why.contains("trust anchor"), "{why}");
    std::fs::write(&anchor, ANCHOR).unwrap();
    let outcome = sender.one("bob@example.net").await;
    std::fs::remove_file(&anchor).unwrap();
    assert!(delivered(&outcome), "{outcome:?}");
    assert_eq!(sink.taken().len(), 1);
}
