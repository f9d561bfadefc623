//! A bridge that misbehaves as its configuration's `how` says. Linked in, in a process, or on another host.
//!
//! | `how` | what it does |
//! | --- | --- |
//! | `well` | nothing wrong |
//! | `echoes` | nothing wrong; brings in again what it is given |
//! | `hangs-at-start` | `build` never returns |
//! | `never-ready` | `run` never says that it is ready |
//! | `hangs-in-deliver` | `deliver` never returns |
//! | `floods` | brings messages in as fast as it can, sixteen at a time |
//! | `lies-about-number` | gives one outcome too few |
//! | `lies-delivered` | says that what it never touched is delivered |
//! | `panics` | in `run` |
//! | `panics-in-deliver` | in `deliver` |
//! | `exits` | ends the process |
//! | `leaks` | takes memory and never gives it back |
//! | `ignores-stop` | `run` never returns |
//! | `asks` | nothing wrong; makes each call that needs a grant, and writes into `record` whether it was refused |
//! | `claims` | calls everything that it was not granted, over and over |
//! | `speaks-garbage` | sends bytes that are no protocol where the host listens |
//! | `malformed` | sends bytes that are no frames amid its own connection |
//! | `oversized` | sends a frame there that says it is larger than any may be |
//!
//! `to` is whom it floods and echoes to; into the file `record` it writes what it delivers.
#![forbid(unsafe_code)]
#![allow(clippy::panic, reason = "that is what it is for")]

pub mod grants;

use mesyx_sdk::*;
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// The bridge.
pub struct Misbehaving {
    how: String,
    to: String,
    record: Option<PathBuf>,
}

/// A message for ann, with a text that can be told from others.
#[must_use]
pub fn message(text: &str) -> Envelope {
    message_to("ann@example.org", text)
}

/// The same for somebody else.
#[must_use]
pub fn message_to(to: &str, text: &str) -> Envelope {
    let to = to.parse::<Address>().into_iter().collect();
    memory::envelope(None, to, Content::from(format!("Subject: {text}\r\n\r\n{text}\r\n").into_bytes()))
}

#[async_trait]
impl Bridge for Misbehaving {
    fn manifest() -> Manifest {
        Manifest {
            name: "misbehaving".into(),
            version: "1.0.0".into(),
            summary: "Breaks its contract".into(),
            grants: grants::CALLS.into_iter().chain(["deliver"]).filter_map(|grant| grant.parse().ok()).collect(),
            delivers: NetworkName::new("misbehaving").map(AddressKind::Other).into_iter().collect(),
            config_schema: json!({ "type": "object", "additionalProperties": false, "properties": {
                "how": { "type": "string" }, "to": { "type": "string" }, "record": { "type": "string" },
            } }),
        }
    }

    fn build(config: Config) -> Result<Self, ConfigErrors> {
        let text = |key: &str| config.value()[key].as_str().map(str::to_owned);
        let how = text("how").unwrap_or_default();
        if how == "hangs-at-start" {
            loop {
                std::thread::sleep(Duration::from_secs(3600));
            }
        }
        let to = text("to").unwrap_or_else(|| "ann@example.org".to_owned());
        Ok(Self { how, to, record: text("record").map(PathBuf::from) })
    }

    async fn run(&self, host: Arc<dyn Host>) -> Result<(), Fatal> {
        match self.how.as_str() {
            "never-ready" => std::future::pending().await,
            "panics" => panic!("on purpose"),
            "exits" => std::process::exit(7),
            "speaks-garbage" => speak_garbage().await,
            _ => {}
        }
        host.health(Health::Ready);
        let mut tasks = JoinSet::new();
        match self.how.as_str() {
            "asks" => {
                let asked = grants::ask(&*host).await;
                let word = |refused| if refused { "refused" } else { "allowed" };
                let lines = asked.into_iter().map(|(grant, refused)| format!("{grant} {}\n", word(refused)));
                self.write(&lines.chain(["all asked\n".to_owned()]).collect::<String>());
            }
            "floods" => {
                for sender in 0..16 {
                    let (host, to) = (Arc::clone(&host), self.to.clone());
                    tasks.spawn(async move {
                        for number in 0_u64.. {
                            let text = |at: i32| format!("flood {sender} {number} {at}");
                            let batch = (0..16).map(|at| message_to(&to, &text(at))).collect();
                            host.accept(batch).await;
                        }
                    });
                }
            }
            "leaks" => {
                tasks.spawn(async {
                    let mut leaked = Vec::new();
                    loop {
                        leaked.push(vec![1_u8; 8 << 20]);
                        tokio::task::yield_now().await;
                    }
                });
            }
            "claims" => {
                tasks.spawn({
                    let host = Arc::clone(&host);
                    async move {
                        loop {
                            let _ = host.secret("dkim.example.org").await;
                            let _ = host.certificates();
                            let spec = ListenSpec { name: "claimed".into(), address: ([127, 0, 0, 1], 1).into() };
                            let _ = host.listen(&spec).await;
                            let client = ClientInfo { ip: [127, 0, 0, 1].into(), protocol: "x".into(), tls: true };
                            let password = Secret::from("secret".to_owned());
                            let _ = host.login(Credentials { name: "ann".into(), password, client }).await;
                        }
                    }
                });
            }
            "ignores-stop" => std::future::pending().await,
            "malformed" => into_own_connections(&[0xff; 64]),
            "oversized" => into_own_connections(&[&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1][..], &[0; 70_000]].concat()),
            _ => {}
        }
        host.stopped().await;
        tasks.shutdown().await;
        Ok(())
    }

    async fn deliver(&self, host: Arc<dyn Host>, job: Delivery) -> Vec<Outcome> {
        let delivered = Outcome::Delivered { remote_id: None, dsn: false };
        match self.how.as_str() {
            "hangs-in-deliver" => std::future::pending().await,
            "panics-in-deliver" => panic!("on purpose"),
            "echoes" => match host.accept(vec![message_to(&self.to, "echo")]).await.remove(0) {
                Ok(_) => vec![delivered; job.recipients.len()],
                Err(error) => vec![Outcome::Failed { why: error.message().into() }; job.recipients.len()],
            },
            "lies-about-number" => vec![delivered; job.recipients.len() - 1],
            "lies-delivered" => vec![delivered; job.recipients.len()],
            _ => {
                self.record(&job);
                vec![delivered; job.recipients.len()]
            }
        }
    }
}

impl Misbehaving {
    /// One line for each recipient: the address, and the message's text.
    fn record(&self, job: &Delivery) {
        let text = String::from_utf8_lossy(&job.content).replace(['\r', '\n'], " ");
        let lines: String = job.recipients.iter().map(|to| format!("{} {text}\n", to.address)).collect();
        self.write(&lines);
    }

    fn write(&self, lines: &str) {
        let Some(path) = &self.record else { return };
        let file = std::fs::File::options().append(true).create(true).open(path);
        if let Err(error) = file.and_then(|mut file| file.write_all(lines.as_bytes())) {
            panic!("{}: {error}", path.display());
        }
    }
}

/// Bytes amid whatever this process is connected with, which is its host.
fn into_own_connections(bytes: &[u8]) {
    use nix::sys::socket::{MsgFlags, send};
    for descriptor in 3..64 {
        // Where it is no socket, or none that is connected, nothing happens.
        let _ = send(descriptor, bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
    }
}

/// Bytes that are no protocol, to wherever the host of this process listens; and a frame that says it is larger than any.
async fn speak_garbage() {
    let address = std::env::var("MESYX_BRIDGE").unwrap_or_default();
    let Some(path) = address.strip_prefix("unix:") else { return };
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for bytes in [&b"\0\xff garbage\r\n\r\n"[..], preface, &[&preface[..], &[0xff; 9]].concat()] {
        if let Ok(mut stream) = std::os::unix::net::UnixStream::connect(path) {
            let _ = stream.write_all(bytes);
        }
    }
}
