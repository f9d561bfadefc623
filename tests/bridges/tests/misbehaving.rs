//! What a bridge in a process does wrong is its own: deliveries still end, nothing is taken twice, and another bridge beside it brings in
//! every message of its own, once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use mesyx_misbehaving::{Misbehaving, message};
use mesyx_sdk::wire::host::{Admission, BuildError, Limits, RemoteBridge};
use mesyx_sdk::*;
use serde_json::json;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The longest that anything here is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A bridge in a process, served by a host in memory.
struct Running {
    life: RemoteBridge,
    host: MemoryHost,
    run: JoinHandle<Result<(), Fatal>>,
    _child: Ends,
    _dir: tempfile::TempDir,
}

struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn host() -> MemoryHost {
    let host = MemoryHost::new("example.org".parse().unwrap());
    host.add_user("ann", "secret").unwrap();
    host
}

fn limits() -> Limits {
    Limits { hello: Duration::from_secs(20), build: Duration::from_secs(5), ..Limits::default() }
}

async fn connect() -> (RemoteBridge, Ends, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_mesyx-misbehaving"))
        .env("MESYX_BRIDGE", format!("unix:{}", socket.display()))
        .env("MESYX_BRIDGE_TOKEN", "once")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let child = Ends(child);
    let (stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let admission = Admission { token: Some(Secret::from("once".to_owned())), name: Some("misbehaving".into()) };
    (RemoteBridge::connect_unix(stream, admission, limits()).await.unwrap(), child, dir)
}

async fn start(how: &str) -> Running {
    let (life, child, dir) = connect().await;
    life.build(&Config::new(json!({ "how": how }))).await.unwrap();
    let host = host();
    let granted = vec![Grant::Accept, Grant::Deliver];
    host.grant_only(granted.clone());
    let run = tokio::spawn({
        let (life, host): (_, Arc<dyn Host>) = (life.clone(), Arc::new(host.clone()));
        async move { life.run(host, &granted).await }
    });
    Running { life, host, run, _child: child, _dir: dir }
}

impl Running {
    async fn ready(self) -> Self {
        let ready = async {
            while !self.host.health_reports().contains(&Health::Ready) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, ready).await.expect("it is ready");
        self
    }

    async fn ends(self) -> Result<(), Fatal> {
        timeout(PATIENCE, self.run).await.expect("its run ends").unwrap()
    }
}

fn job(recipients: usize, milliseconds: i64) -> Delivery {
    let to = Recipient::new("misbehaving:somebody".parse().unwrap());
    let deadline = Timestamp(Timestamp::now().0 + milliseconds);
    Delivery { recipients: vec![to; recipients], ..Delivery::of(&message("out"), deadline) }
}

/// Everything here is deferred, perhaps sent: it may be tried again, and the sender is told if it came twice.
fn maybe(outcomes: &[Outcome]) -> bool {
    outcomes.iter().all(|outcome| matches!(outcome, Outcome::Deferred { maybe_sent: true, .. }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_ends_whatever_the_bridge_does() {
    let well = start("well").await.ready().await;
    assert_eq!(well.life.deliver(job(3, 20_000)).await, vec![Outcome::Delivered { remote_id: None, dsn: false }; 3]);
    for (how, milliseconds) in [("hangs-in-deliver", 1500), ("panics-in-deliver", 5000), ("lies-about-number", 20_000)]
    {
        let bad = start(how).await.ready().await;
        let outcomes = timeout(PATIENCE, bad.life.deliver(job(3, milliseconds))).await.expect(how);
        assert!(outcomes.len() == 3 && maybe(&outcomes), "{how}: {outcomes:?}");
    }
    // Nobody but the network knows better: what a bridge says is delivered counts as that.
    let lies = start("lies-delivered").await.ready().await;
    assert_eq!(lies.life.deliver(job(2, 20_000)).await, vec![Outcome::delivered(); 2]);
    let exits = start("exits").await;
    let life = exits.life.clone();
    assert!(exits.ends().await.is_err(), "an end without a word is a failure");
    let outcomes = timeout(PATIENCE, life.deliver(job(2, 2000))).await.expect("it ends");
    assert!(outcomes.len() == 2 && outcomes.iter().all(|outcome| matches!(outcome, Outcome::Deferred { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_hangs_is_given_up() {
    let (life, _child, _dir) = connect().await;
    let built =
        timeout(PATIENCE, life.build(&Config::new(json!({ "how": "hangs-at-start" })))).await.expect("an answer");
    assert!(matches!(built, Err(BuildError::Lost(_))), "{built:?}");
    let panics = start("panics").await;
    assert!(panics.ends().await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_protocol_are_refused() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let huge =
        [&preface[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0], &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1], &[0; 70_000]].concat();
    for bytes in
        [b"\0\xff garbage\r\n\r\n".to_vec(), preface.to_vec(), huge, b"GET / HTTP/1.1\r\n\r\n".to_vec(), Vec::new()]
    {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let limits = Limits { hello: Duration::from_secs(2), ..Limits::default() };
        let connecting = tokio::spawn(RemoteBridge::connect_unix(ours, Admission::default(), limits));
        let _ = theirs.write_all(&bytes).await;
        let refused = timeout(PATIENCE, connecting).await.expect("an answer").unwrap();
        assert!(refused.is_err(), "{} bytes were a good hello", bytes.len());
    }
}

/// One bridge's own messages, one after the other; how many of them its host holds, and whether each stands there once.
async fn brings(number: usize) {
    let host = host();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let served = tokio::spawn(wire::serve_bridge_unix::<Misbehaving>(theirs.into_std().unwrap(), None));
    let life = RemoteBridge::connect_unix(ours, Admission::default(), limits()).await.unwrap();
    life.build(&Config::new(json!({ "how": "echoes" }))).await.unwrap();
    let shared: Arc<dyn Host> = Arc::new(host.clone());
    let run = tokio::spawn({
        let life = life.clone();
        async move { life.run(shared, &[Grant::Accept, Grant::Deliver]).await }
    });
    while !host.health_reports().contains(&Health::Ready) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for at in 0..number {
        // What it is given it brings in again, before it says that it is delivered.
        let outcomes = timeout(PATIENCE, life.deliver(job(1 + at % 3, 30_000))).await.expect("an outcome");
        assert_eq!(outcomes, vec![Outcome::Delivered { remote_id: None, dsn: false }; 1 + at % 3]);
        assert_eq!(host.accepted().len(), at + 1, "each is there, once");
    }
    host.stop();
    timeout(PATIENCE, run).await.expect("it stops").unwrap().unwrap();
    let _ = timeout(PATIENCE, served).await.expect("it ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_bridge_goes_on_beside_each_of_them() {
    for how in [
        "floods",
        "claims",
        "ignores-stop",
        "never-ready",
        "speaks-garbage",
        "hangs-in-deliver",
        "malformed",
        "oversized",
    ] {
        let bad = start(how).await;
        brings(100).await;
        match how {
            "floods" => {
                // What it brought is held once each, however much it was.
                let ids: std::collections::BTreeSet<_> =
                    bad.host.accepted().iter().map(|envelope| envelope.id).collect();
                assert!(!ids.is_empty() && ids.len() <= bad.host.accepted().len());
            }
            "claims" => assert!(bad.host.accepted().is_empty() && !bad.run.is_finished()),
            _ => {}
        }
        // Killed without a word, it is a failure, and its run ends.
        let Running { life, run, mut _child, .. } = bad;
        _child.0.kill().unwrap();
        assert!(timeout(PATIENCE, run).await.expect(how).unwrap().is_err(), "{how}");
        let outcomes = timeout(PATIENCE, life.deliver(job(2, 2000))).await.expect(how);
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Deferred { .. })));
    }
}
