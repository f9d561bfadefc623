//! What is said on a network comes in the order in which it was said, whatever happens on the way; one user's troubles are not another's.

use super::*;
use mesyx_sdk::{Address, Conversation, Kind, Line, LineHeaders, Style};
use std::collections::BTreeMap;

/// A network that sometimes takes nothing.
#[derive(Default)]
struct Network {
    /// By speaker and channel.
    said: Mutex<BTreeMap<(String, String), Vec<String>>>,
    attempts: Mutex<u32>,
    /// Nothing of alice's gets through.
    alice_is_down: AtomicBool,
    hangs: AtomicBool,
}

#[async_trait]
impl Deliverer for Network {
    fn route(&self, kind: AddressKind) -> Option<String> {
        (kind == AddressKind::Irc).then(|| "irc".to_owned())
    }

    async fn deliver(&self, _bridge: &str, job: Delivery) -> Vec<Outcome> {
        let from = job.from.as_ref().unwrap().to_string();
        let to = job.recipients[0].address.to_string();
        if from.contains("alice") && self.alice_is_down.load(Ordering::SeqCst) {
            if self.hangs.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            return vec![deferred(DeferScope::Host, "no connection")];
        }
        let attempt = {
            let mut attempts = self.attempts.lock().unwrap();
            *attempts += 1;
            *attempts
        };
        // Attempts take their time, some more than others.
        tokio::time::sleep(Duration::from_millis(u64::from(attempt % 4))).await;
        let scope = match attempt % 11 {
            3 => DeferScope::Host,
            6 => DeferScope::Recipient,
            9 if attempt < 40 => DeferScope::Bridge,
            _ => {
                let (_, line) = Line::from_content(&job.content, &"example.org".parse().unwrap()).unwrap();
                self.said.lock().unwrap().entry((from, to)).or_default().push(line.text);
                return vec![delivered()];
            }
        };
        vec![deferred(scope, "not now")]
    }
}

fn line(name: &str, to: &str, text: &str) -> Envelope {
    let (id, from, to): (_, Address, Address) =
        (MessageId::random(), format!("mesyx:{name}@example.org").parse().unwrap(), to.parse().unwrap());
    let headers = LineHeaders { id, from: from.clone(), nick: name.into(), to: to.clone(), at: Timestamp(0) };
    Envelope {
        id,
        style: Style::Instant,
        kind: Kind::Message,
        from: Some(from),
        conversation: Some(Conversation::Group(to.clone())),
        content: Line::say(text).to_content(&headers, &"example.org".parse().unwrap()).unwrap(),
        ..testing::envelope(None, vec![Recipient::new(to)], b"")
    }
}

fn texts(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|n| format!("line {n}")).collect()
}

async fn say(core: &Arc<Core>, name: &str, from: usize, to: usize) {
    let session = testing::login(core, name).await;
    for text in texts(from, to) {
        for channel in ["irc:net/#a", "irc:net/#b"] {
            session.submit(line(name, channel, &text)).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_on_a_network_comes_in_order_and_once() {
    let directory = TempDir::new().unwrap();
    let mut settings = testing::settings(directory.path());
    settings.queue.first_retry = Duration::from_millis(100);
    settings.queue.longest_retry = Duration::from_millis(400);
    let core = testing::core(&settings, &["alice", "bob"]).await;
    let network = Arc::new(Network::default());
    core.start_queue(network.clone());
    let until = async |core: &Arc<Core>, what: &str, jobs: u64| {
        let end = Instant::now() + Duration::from_secs(60);
        while core.queue_status().await.unwrap().jobs != jobs {
            assert!(Instant::now() < end, "never: {what}: {:?}", network.said.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    say(&core, "alice", 0, 20).await;
    until(&core, "the first lines are said", 0).await;
    // Alice's connection is gone: bob's lines to the same channels go on.
    network.alice_is_down.store(true, Ordering::SeqCst);
    say(&core, "alice", 20, 30).await;
    say(&core, "bob", 0, 10).await;
    until(&core, "bob's lines are said", 20).await;
    // Whether an attempt ends soon or never, and over a restart with lines that are said before and after it.
    network.hangs.store(true, Ordering::SeqCst);
    say(&core, "alice", 30, 35).await;
    core.close().await;
    drop(core);
    let core = Core::open(settings.clone()).await.unwrap();
    core.start_queue(network.clone());
    say(&core, "alice", 35, 40).await;
    network.hangs.store(false, Ordering::SeqCst);
    core.close().await;
    drop(core);
    network.alice_is_down.store(false, Ordering::SeqCst);
    let core = Core::open(settings).await.unwrap();
    core.start_queue(network.clone());
    say(&core, "alice", 40, 50).await;
    until(&core, "all is said", 0).await;
    let said = network.said.lock().unwrap().clone();
    for ((from, to), lines) in &said {
        let count = if from.contains("alice") { 50 } else { 10 };
        assert_eq!(*lines, texts(0, count), "{from} to {to}");
    }
    assert_eq!(said.len(), 4);
    assert!(*network.attempts.lock().unwrap() > 130, "some attempts failed");
    core.close().await;
}
