//! Every sentence of the contract, by the SDK's test kit: mail comes in from a peer, and goes out to a host of the lab.

use crate::lab::{Lab, certify};
use crate::sink::{Act, Heard, Manner as Host, Sink, Taken};
use mesyx_bridge_smtp::Smtp;
use mesyx_sdk::testkit::{self, Fate, Incoming, Manner, Network, Reply, WrongConfig};
use mesyx_sdk::{Address, MemoryHost, async_trait};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// A peer that sends, and the mail host of example.net.
struct Mail {
    lab: Lab,
    sink: Sink,
    manner: Arc<Mutex<Manner>>,
    _runtime: tokio::runtime::Runtime,
}

impl Mail {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let lab = Lab::new();
        let manner = Arc::new(Mutex::new(Manner::Usual));
        let now = Arc::clone(&manner);
        let decide = move |command: &str, _: &Heard| match (*now.lock().unwrap(), command) {
            (Manner::Silent, _) => Some(Act::Silent),
            (Manner::HangsUp, ".") => Some(Act::Drop),
            (Manner::Usual, command) if command.contains("gone@") => Some(Act::Say("550 5.1.1 nobody".into())),
            (Manner::Usual, command) if command.contains("later@") => Some(Act::Say("451 4.3.0 later".into())),
            _ => None,
        };
        let host = Host { decide: Arc::new(decide), ..Host::default() };
        let sink = runtime.block_on(lab.only(host));
        Self { lab, sink, manner, _runtime: runtime }
    }

    async fn talk(&self, host: &MemoryHost, message: &Incoming) -> std::io::Result<Reply> {
        let mut stream = BufReader::new(TcpStream::connect(host.listening("mx").await).await?);
        let mut last = "220".to_owned();
        let text = format!("From: a@peer.example\r\nSubject: x\r\n\r\n{}\r\n.\r\n", message.text);
        for command in [
            String::new(),
            "EHLO peer.example\r\n".into(),
            "MAIL FROM:<a@peer.example>\r\n".into(),
            format!("RCPT TO:<{}>\r\n", message.to),
            "DATA\r\n".into(),
            text,
        ] {
            stream.write_all(command.as_bytes()).await?;
            last.clear();
            while last.is_empty() || last.as_bytes().get(3) == Some(&b'-') {
                last.clear();
                if stream.read_line(&mut last).await? == 0 {
                    return Ok(Reply::Nothing);
                }
            }
            match last.as_bytes()[0] {
                b'4' => return Ok(Reply::TryLater),
                b'5' => return Ok(Reply::Refused),
                _ => {}
            }
        }
        Ok(Reply::Taken)
    }
}

#[async_trait]
impl Network for Mail {
    fn config(&self) -> Value {
        json!({
            "listeners": [{ "name": "mx", "address": "127.0.0.1:0" }],
            "delivery": { "port": self.lab.port, "allow_private": true },
            "dns": self.lab.zone.config(),
        })
    }
    fn wrong_configs(&self) -> Vec<WrongConfig> {
        let config = json!({ "listeners": [{ "address": "nowhere" }], "limits": { "recipients": 5000 } });
        vec![WrongConfig { config, paths: vec!["listeners[0].address".into(), "limits.recipients".into()] }]
    }
    fn prepare(&self, host: &MemoryHost) {
        certify(host);
    }
    async fn send(&self, host: &MemoryHost, message: &Incoming) -> Reply {
        self.talk(host, message).await.unwrap_or(Reply::Nothing)
    }
    async fn garbage(&self, host: &MemoryHost, bytes: &[u8]) {
        let mut stream = TcpStream::connect(host.listening("mx").await).await.unwrap();
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    fn recipients(&self) -> Vec<(Address, Fate)> {
        let address = |name: &str| format!("{name}@example.net").parse().unwrap();
        vec![
            (address("bob"), Fate::Taken),
            (address("gone"), Fate::Refused),
            (address("later"), Fate::Later),
            (address("cleo"), Fate::Taken),
        ]
    }
    async fn arrived(&self, marker: &str) -> usize {
        let has = |taken: &&Taken| String::from_utf8_lossy(&taken.content).contains(marker);
        self.sink.taken().iter().filter(has).map(|taken| taken.to.len()).sum()
    }
    async fn behave(&self, manner: Manner) -> bool {
        *self.manner.lock().unwrap() = manner;
        true
    }
}

#[test]
fn smtp_keeps_the_contract() {
    let report = testkit::check::<Smtp>(&Mail::new());
    report.assert();
    println!("{report}");
}
