//! Every sentence of the contract, by the SDK's test kit: of both bridges.

use crate::support::{Ngircd, Other, free_port, skipped};
use mesyx_bridge_irc::client::IrcClient;
use mesyx_bridge_irc::network::IrcNetwork;
use mesyx_sdk::testkit::{self, Acknowledges, Fate, Incoming, Manner, Must, Network, Reply};
use mesyx_sdk::{Address, Content, Domain, Line, LineHeaders, MemoryHost, MessageId, Timestamp, async_trait};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// People's IRC clients.
struct Clients;

#[async_trait]
impl Network for Clients {
    fn config(&self) -> Value {
        json!({ "listeners": [{ "name": "irc", "address": "127.0.0.1:0", "tls": "none" }] })
    }
    async fn send(&self, host: &MemoryHost, message: &Incoming) -> Reply {
        let mut stream = BufReader::new(TcpStream::connect(host.listening("irc").await).await.unwrap());
        let hello = "CAP REQ :echo-message\r\nPASS bob@kit:hidden\r\nNICK bob\r\nUSER bob 0 * :bob\r\nCAP END\r\n";
        let _ = stream.write_all(hello.as_bytes()).await;
        let mut line = String::new();
        while stream.read_line(&mut line).await.is_ok_and(|length| length > 0) {
            let text = std::mem::take(&mut line);
            match text.split(' ').nth(1) {
                Some("376" | "422") => {
                    let said = format!("PRIVMSG {} :{}\r\n", message.to.local(), message.text);
                    let _ = stream.write_all(said.as_bytes()).await;
                }
                Some("PRIVMSG") if text.contains(&message.text) => return Reply::Taken,
                Some("263") => return Reply::TryLater,
                Some("401") => return Reply::Refused,
                _ => {}
            }
        }
        Reply::Nothing
    }
    async fn garbage(&self, host: &MemoryHost, bytes: &[u8]) {
        let Ok(mut stream) = TcpStream::connect(host.listening("irc").await).await else { return };
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        // Hundreds of lines are read at a stranger's pace, longer than this waits.
        let _ = timeout(Duration::from_secs(2), stream.read_to_end(&mut Vec::new())).await;
    }
    async fn log_in(&self, host: &MemoryHost, name: &str, password: &str) -> Option<Reply> {
        let mut stream = BufReader::new(TcpStream::connect(host.listening("irc").await).await.unwrap());
        let hello = format!("PASS {name}@kit:{password}\r\nNICK {name}\r\nUSER {name} 0 * :{name}\r\n");
        stream.write_all(hello.as_bytes()).await.unwrap();
        let mut line = String::new();
        while stream.read_line(&mut line).await.unwrap() > 0 {
            let text = std::mem::take(&mut line);
            match text.split(' ').nth(1) {
                Some("001") => return Some(Reply::Taken),
                Some("464") => return Some(Reply::Refused),
                Some("263") => return Some(Reply::TryLater),
                _ => {}
            }
        }
        Some(Reply::Nothing)
    }
}

#[test]
fn irc_client_keeps_the_contract() {
    testkit::check::<IrcClient>(&Clients).assert();
}

/// ngircd, with one who writes to ann and hears what is written to them.
struct Irc {
    server: Ngircd,
    says: mpsc::UnboundedSender<String>,
    heard: Arc<Mutex<Vec<String>>>,
    /// How many configurations were given, each with a user name of its own, by which its life of the bridge is known.
    lives: AtomicUsize,
    _runtime: tokio::runtime::Runtime,
}

impl Irc {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let (says, mut said) = mpsc::unbounded_channel::<String>();
        let (server, mut other) = runtime.block_on(async {
            let server = Ngircd::start("kit", free_port(), "").await;
            let mut other = Other::connect(server.port, "other").await;
            other.join("#kit").await;
            (server, other)
        });
        let writes = Arc::clone(&heard);
        runtime.spawn(async move {
            loop {
                tokio::select! {
                    line = other.next() => match line {
                        Some(line) => writes.lock().unwrap().push(line),
                        None => return,
                    },
                    said = said.recv() => match said {
                        Some(line) => other.send(&line).await,
                        None => return,
                    },
                }
            }
        });
        Self { server, says, heard, lives: AtomicUsize::new(0), _runtime: runtime }
    }

    fn say(&self, line: &str) {
        self.says.send(line.to_owned()).unwrap();
    }

    /// Waits until this life of the bridge is in the channel; under which nick: the life before it may not have left yet.
    async fn ann(&self) -> String {
        let this = format!("!~life{}@", self.lives.load(Ordering::SeqCst));
        loop {
            let heard = self.heard.lock().unwrap().clone();
            let mut of_this = heard.iter().filter(|line| line.contains(&this));
            if of_this.any(|line| line.contains(" JOIN ")) {
                // `:NICK!USER@HOST NICK :NEW`: it took the nick that it wanted as soon as that was free.
                let last = heard.iter().rfind(|line| line.contains(&this)).unwrap();
                let nick = match last.split_once(" NICK :") {
                    Some((_, now)) => now,
                    None => last.trim_start_matches(':').split('!').next().unwrap(),
                };
                return nick.to_owned();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[async_trait]
impl Network for Irc {
    fn config(&self) -> Value {
        let life = self.lives.fetch_add(1, Ordering::SeqCst) + 1;
        json!({
            "network": [{
                "username": format!("life{life}"), "channels": ["#kit"], "name": "kit", "host": "127.0.0.1", "port": self.server.port, "tls": false, "users": ["ann"],
                "line_milliseconds": 100, "burst": 20,
            }],
            "limits": { "reconnect_seconds": 1, "reconnect_most_seconds": 2 },
        })
    }
    fn acknowledges(&self) -> Acknowledges {
        Acknowledges::Never
    }
    async fn send(&self, _: &MemoryHost, message: &Incoming) -> Reply {
        let nick = if message.to.local() == "ann" { self.ann().await } else { message.to.local().to_owned() };
        self.say(&format!("PRIVMSG {nick} :{}", message.text));
        Reply::Nothing
    }
    async fn garbage(&self, _: &MemoryHost, bytes: &[u8]) {
        let nick = self.ann().await;
        // The server lets nothing through that is no line.
        let text: String =
            String::from_utf8_lossy(bytes).chars().filter(|c| !"\r\n\0".contains(*c)).take(100).collect();
        for line in
            [format!("PRIVMSG {nick} :{text}"), format!("NOTICE {nick} :{text}"), format!("INVITE {nick} {text}")]
        {
            self.say(&line);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    fn recipients(&self) -> Vec<(Address, Fate)> {
        let address = |name: &str| format!("irc:kit/{name}").parse().unwrap();
        vec![(address("other"), Fate::Taken), (address("gone"), Fate::Refused), (address("other"), Fate::Taken)]
    }
    fn sender(&self) -> Option<Address> {
        "mesyx:ann@example.org".parse().ok()
    }
    fn outgoing(&self, marker: &str) -> Content {
        let domain: Domain = "example.org".parse().unwrap();
        let headers = LineHeaders {
            id: MessageId::random(),
            from: "mesyx:ann@example.org".parse().unwrap(),
            nick: "ann".into(),
            to: "irc:kit/other".parse().unwrap(),
            at: Timestamp::now(),
        };
        Line::say(marker).to_content(&headers, &domain).unwrap()
    }
    async fn arrived(&self, marker: &str) -> usize {
        // The server has told the bridge a moment before it tells them.
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.heard.lock().unwrap().iter().filter(|line| line.contains("PRIVMSG other") && line.contains(marker)).count()
    }
    async fn behave(&self, manner: Manner) -> bool {
        match manner {
            Manner::Silent => self.server.signal("-STOP"),
            Manner::Usual => self.server.signal("-CONT"),
            _ => return false,
        }
        true
    }
    fn exempt(&self) -> Vec<(Must, &'static str)> {
        vec![(Must::NullSender, "IRC has no null sender: only users speak")]
    }
}

#[test]
fn irc_network_keeps_the_contract() {
    if !skipped() {
        testkit::check::<IrcNetwork>(&Irc::new()).assert();
    }
}
