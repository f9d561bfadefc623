//! Prosody on loopback with the people juliet and romeo, a person who speaks through slixmpp, and the XMPP network of the test kit.

use mesyx_sdk::testkit::{Acknowledges, Fate, Incoming, Manner, Must, Network, Reply};
use mesyx_sdk::{Address, Domain, Line, LineHeaders, MemoryHost, MessageId, Secret, Timestamp, async_trait};
use serde_json::{Value, json};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

mod server;

pub use server::{Person, Prosody};

/// XMPP for the test kit: romeo writes, juliet reads.
pub struct Xmpp {
    pub server: Prosody,
    romeo: Arc<Person>,
    juliet: Person,
}

impl Xmpp {
    pub fn new() -> Self {
        let server = Prosody::start();
        Self { romeo: Arc::new(server.person("romeo")), juliet: server.person("juliet"), server }
    }
}

#[async_trait]
impl Network for Xmpp {
    fn config(&self) -> Value {
        self.server.config()
    }
    fn prepare(&self, host: &MemoryHost) {
        host.set_secret("xmpp", Secret::from("shared".to_owned()));
    }
    fn acknowledges(&self) -> Acknowledges {
        Acknowledges::Failures
    }
    async fn send(&self, _: &MemoryHost, message: &Incoming) -> Reply {
        let (romeo, to) = (Arc::clone(&self.romeo), format!("{}@mesyx.localhost", message.to.local()));
        let text = message.text.clone();
        match tokio::task::spawn_blocking(move || romeo.says(&to, &text)).await.unwrap().as_deref() {
            None => Reply::Nothing,
            Some(error) if error.starts_with("wait ") => Reply::TryLater,
            Some(_) => Reply::Refused,
        }
    }
    async fn garbage(&self, _: &MemoryHost, bytes: &[u8]) {
        // The server lets nothing but XML through: whatever can stand in it.
        let text: String = String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).take(10_000).collect();
        let (romeo, to) = (Arc::clone(&self.romeo), format!("{text:.40}@mesyx.localhost"));
        let to =
            if text.chars().all(char::is_alphanumeric) && !text.is_empty() { to } else { "mesyx.localhost".into() };
        tokio::task::spawn_blocking(move || romeo.says(&to, &text)).await.unwrap();
    }
    fn recipients(&self) -> Vec<(Address, Fate)> {
        let address = |name: &str| format!("xmpp:{name}@localhost").parse().unwrap();
        vec![(address("juliet"), Fate::Taken), (address("nobody"), Fate::Refused), (address("juliet"), Fate::Taken)]
    }
    async fn arrived(&self, marker: &str) -> usize {
        let has = |event: &&Value| event["event"] == "message" && event["body"].as_str().unwrap().contains(marker);
        // The server has told the bridge a moment before it tells her.
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.juliet.heard().iter().filter(has).count()
    }
    async fn behave(&self, manner: Manner) -> bool {
        let signal = match manner {
            Manner::Silent => "-STOP",
            Manner::Usual => "-CONT",
            _ => return false,
        };
        Command::new("kill").args([signal, &self.server.pid().to_string()]).status().unwrap().success()
    }
    fn exempt(&self) -> Vec<(Must, &'static str)> {
        vec![(Must::NullSender, "XMPP has no null sender: notices stay on the mail's side")]
    }
}

/// What juliet is written by a user of ours.
#[allow(dead_code, reason = "one of the two test programs uses it")]
pub fn line(text: &str, domain: &Domain) -> mesyx_sdk::Content {
    let headers = LineHeaders {
        id: MessageId::random(),
        from: "ann@example.org".parse().unwrap(),
        nick: "ann".into(),
        to: "xmpp:juliet@localhost".parse().unwrap(),
        at: Timestamp::now(),
    };
    Line::say(text).to_content(&headers, domain).unwrap()
}

/// What people on XMPP see of the bridge: presence of users that are there and that are not, errors, messages both ways.
pub fn presence(server: &Prosody) {
    let romeo = server.person("romeo");
    let presence = |kind: &str, to: &str| {
        romeo.does(json!({ "presence": kind, "to": format!("{to}@mesyx.localhost") }));
    };
    let of = |kind: &'static str, from: &'static str| {
        move |event: &Value| {
            event["event"] == "presence"
                && event["kind"] == kind
                && event["sender"] == format!("{from}@mesyx.localhost")
        }
    };
    presence("subscribe", "nobody");
    romeo.hears("that nobody is there to subscribe to", of("unsubscribed", "nobody"));
    presence("subscribe", "ann");
    romeo.hears("that ann agrees", of("subscribed", "ann"));
    presence("probe", "ann");
    romeo.hears("that ann is there", of("available", "ann"));
    assert!(romeo.heard().iter().all(|event| !of("available", "nobody")(event) && !of("subscribed", "nobody")(event)));
    assert_eq!(romeo.says("nobody@mesyx.localhost", "hello?").as_deref(), Some("cancel item-not-found"));
    assert_eq!(romeo.says("ann@mesyx.localhost", "hello <&> \u{e9}"), None);
}
