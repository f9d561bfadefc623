//! A bridge's life, told by both ends.

use super::super::host::{BuildError, Built, Limits};
use super::stage::{Ends, PATIENCE, Wired, ends, pass, sum, wired, wired_as};
use crate::{
    Answer, Config, Content, DeferScope, Delivery, Dsn, ErrorKind, Grant, ListenSpec, MemoryHost, MessageId, Outcome,
    Question, Recipient, Timestamp,
};
use std::time::Duration;
use tokio::time::timeout;

fn host() -> MemoryHost {
    MemoryHost::new("example.org".parse().unwrap())
}

fn job(to: &[&str], content: Vec<u8>, within: Duration) -> Delivery {
    Delivery {
        id: MessageId::random(),
        from: None,
        recipients: to.iter().map(|to| Recipient::new(format!("{to}@example.net").parse().unwrap())).collect(),
        dsn: Dsn::default(),
        deadline: Timestamp(Timestamp::now().0 + i64::try_from(within.as_millis()).unwrap()),
        content: Content::from(content),
    }
}

fn echo() -> Question {
    Question { bridge: "puppet".into(), asker: "x".into(), user: None, name: "echo".into(), args: vec![] }
}

/// Why each was deferred, and whether it may have been sent.
fn deferred(outcomes: &[Outcome]) -> Vec<(&str, bool)> {
    let each = outcomes.iter().map(|outcome| match outcome {
        Outcome::Deferred { why, maybe_sent, .. } => (why.as_str(), *maybe_sent),
        other => panic!("{other:?}"),
    });
    each.collect()
}

#[tokio::test]
async fn a_bridge_is_built_run_and_stopped() {
    let host = host();
    let Ends { bridge, life } = ends(Limits::default()).await;
    assert_eq!((bridge.manifest().name.as_str(), bridge.manifest().version.as_str()), ("puppet", "1.2.3"));
    assert_eq!((bridge.features(), bridge.minor()), (&["descriptors".to_owned()][..], 0));
    let wrong = bridge.build(&Config::new(serde_json::json!({ "test": 5, "run": 7 }))).await;
    let Err(BuildError::Config(errors)) = wrong else { panic!("{wrong:?}") };
    let paths: Vec<_> = errors.0.iter().map(|error| error.path.as_str()).collect();
    assert!(paths.contains(&"test") && paths.contains(&"run"), "{errors}");
    let built = bridge.build(&Config::new(serde_json::json!({ "test": "x" }))).await.unwrap();
    let mx = ListenSpec { name: "mx".into(), address: ([127, 0, 0, 1], 25).into() };
    assert_eq!(built, Built { listeners: vec![mx], secrets: vec!["a.b".into()] });
    bridge.close();
    assert!(timeout(PATIENCE, life).await.unwrap().unwrap().is_err(), "the host went away");

    let both = wired(&host, Limits::default(), &[Grant::Accept]).await;
    assert_eq!((both.remote.hostname(), both.remote.domain()), ("mail.example.org", &"example.org".parse().unwrap()));
    assert_eq!(both.remote.budget().total(), crate::Host::budget(&host).total());
    host.stop();
    assert_eq!(timeout(PATIENCE, both.run).await.unwrap().unwrap(), Ok(()));
    assert_eq!(timeout(PATIENCE, both.life).await.unwrap().unwrap(), Ok(()));
}

#[tokio::test]
async fn how_a_bridge_ends_is_told() {
    let host = host();
    for (how, wanted) in [
        ("fatal", Err("the network is down; plug it in")),
        ("panic", Err("the bridge panicked: a hole in the bridge")),
        ("quit", Ok(())),
    ] {
        let Ends { bridge, life } = ends(Limits::default()).await;
        bridge.build(&Config::new(serde_json::json!({ "test": "x", "run": how }))).await.unwrap();
        let ended = timeout(PATIENCE, bridge.run(std::sync::Arc::new(host.clone()), &[])).await.unwrap();
        assert_eq!(ended.map_err(|fatal| fatal.to_string()), wanted.map_err(str::to_owned), "{how}");
        assert_eq!(life.await.unwrap().is_ok(), wanted.is_ok());
    }
    let Ends { bridge, .. } = ends(Limits::default()).await;
    let failed = bridge.build(&Config::new(serde_json::json!({ "test": "x", "build": "panic" }))).await;
    assert!(matches!(&failed, Err(BuildError::Lost(why)) if why.to_string().contains("built badly")), "{failed:?}");
}

#[tokio::test]
async fn a_bridge_that_vanishes_takes_its_deliveries_with_it() {
    let both = wired(&host(), Limits::default(), &[Grant::Deliver]).await;
    let bridge = both.bridge.clone();
    let delivery = tokio::spawn(async move { bridge.deliver(job(&["hang", "ok"], vec![], PATIENCE)).await });
    let asked = both.bridge.clone();
    tokio::task::yield_now().await;
    // Answered, so the delivery that went before it has arrived.
    asked.answer(echo()).await.unwrap();
    // All that holds its end of the connection.
    let Wired { remote, run, life, .. } = both;
    life.abort();
    drop(remote);
    let outcomes = timeout(PATIENCE, delivery).await.unwrap().unwrap();
    let gone = "the bridge closed the connection without a word; it crashed, or was ended";
    assert_eq!(deferred(&outcomes), [(gone, true), (gone, true)]);
    assert_eq!(timeout(PATIENCE, run).await.unwrap().unwrap().unwrap_err().to_string(), gone);
    assert_eq!(deferred(&asked.deliver(job(&["ok"], vec![], PATIENCE)).await), [("the bridge is not running", false)]);
    assert_eq!(asked.answer(echo()).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn deliveries_have_an_outcome_for_each_recipient() {
    let both = wired(&host(), Limits::default(), &[Grant::Deliver]).await;
    for size in [0, 1, 65_536, 65_537, 3_000_000] {
        let content: Vec<u8> = (0..size).map(|at: u32| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        let told = Outcome::Delivered { remote_id: Some(sum(&content).to_string()), dsn: true };
        let outcomes = both.bridge.deliver(job(&["ok", "later", "never"], content, PATIENCE)).await;
        let later = Outcome::Deferred {
            why: "busy".into(),
            retry_after: Some(Duration::from_secs(7)),
            scope: DeferScope::Host,
            maybe_sent: false,
        };
        assert_eq!(outcomes, [told, later, Outcome::Failed { why: "no such name".into() }], "{size}");
    }
    let bridge = &both.bridge;
    let short = bridge.deliver(job(&["short", "ok"], vec![], PATIENCE)).await;
    assert_eq!(deferred(&short), [("the bridge gave a wrong number of outcomes", true); 2]);
    let panicked = bridge.deliver(job(&["panic"], vec![], PATIENCE)).await;
    assert_eq!(deferred(&panicked), [("the bridge failed inside its delivery", true)]);
    let hung = tokio::spawn({
        let bridge = bridge.clone();
        async move { bridge.deliver(job(&["hang"], vec![], PATIENCE)).await }
    });
    tokio::task::yield_now().await;
    // Answered, so the delivery that went before it has arrived.
    bridge.answer(echo()).await.unwrap();
    pass(PATIENCE).await;
    let hung = timeout(PATIENCE, hung).await.unwrap().unwrap();
    assert!(deferred(&hung)[0].1, "{hung:?}");
    let late = bridge.deliver(job(&["ok"], vec![], Duration::ZERO)).await;
    assert_eq!(deferred(&late), [("its time was over before it was handed to the bridge", false)]);
    // It serves all the same.
    assert!(matches!(bridge.deliver(job(&["ok"], vec![], PATIENCE)).await[0], Outcome::Delivered { .. }));
}

#[tokio::test]
async fn deliveries_run_side_by_side_within_their_number() {
    let limits = Limits { deliveries: 2, ..Limits::default() };
    let both = wired(&host(), limits, &[Grant::Deliver]).await;
    let [one, two] = [0, 1].map(|_| {
        let bridge = both.bridge.clone();
        tokio::spawn(async move { bridge.deliver(job(&["hang"], vec![], PATIENCE)).await })
    });
    tokio::task::yield_now().await;
    both.bridge.answer(echo()).await.unwrap();
    let waits = both.bridge.deliver(job(&["ok"], vec![], PATIENCE / 2));
    let (full, ()) = tokio::join!(waits, pass(PATIENCE / 2));
    assert_eq!(deferred(&full), [("the bridge did not answer in time", false)], "it was never handed over");
    // Given up by who waits for it, it makes room.
    one.abort();
    assert!(matches!(both.bridge.deliver(job(&["ok"], vec![], PATIENCE)).await[0], Outcome::Delivered { .. }));
    two.abort();
}

#[tokio::test]
async fn questions_are_answered() {
    let both = wired(&host(), Limits::default(), &[]).await;
    let ask = |name: &str| Question {
        bridge: "puppet".into(),
        asker: "other".into(),
        user: None,
        name: name.into(),
        args: vec!["a".into(), String::new()],
    };
    let rows = vec![vec!["a".into(), String::new()], vec!["other".into()]];
    assert_eq!(both.bridge.answer(ask("echo")).await, Ok(Answer { rows }));
    assert_eq!(both.bridge.answer(ask("panic")).await.unwrap_err().kind(), ErrorKind::Unavailable);
    let error = both.bridge.answer(ask("what")).await.unwrap_err();
    let told = (error.kind(), error.message(), error.wait());
    assert_eq!(told, (ErrorKind::Exists, "asked before", Some(Duration::from_millis(1500))));
}

#[tokio::test]
async fn a_bridge_that_does_not_stop_is_left() {
    let host = host();
    let both = wired_as(&host, Limits::default(), &[], "deaf").await;
    host.stop();
    // Whoever runs it gives up waiting, and the connection is closed by that.
    both.run.abort();
    timeout(PATIENCE, both.bridge.closed()).await.unwrap();
}
