//! ngircd, somebody else on it, and the bridge with a user on a host in memory.

use mesyx_bridge_irc::link::{Ask, News};
use mesyx_bridge_irc::network::IrcNetwork;
use mesyx_sdk::*;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

/// ngircd takes one or two lines a second from each client, and a verification is dozens of them.
pub const PATIENCE: Duration = Duration::from_secs(240);

pub fn skipped() -> bool {
    std::env::var_os("MESYX_SKIP_PEERS").is_some_and(|value| value == "1")
}

pub use super::port::free_port;

/// A server of the network; ended by its process id.
pub struct Ngircd {
    child: Option<Child>,
    config: PathBuf,
    pub port: u16,
    _dir: tempfile::TempDir,
}

impl Ngircd {
    pub async fn start(name: &str, port: u16, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("ngircd.conf");
        let text = format!(
            "[Global]\nName = {name}.example\nInfo = test\nListen = 127.0.0.1\nPorts = {port}\nMotdPhrase = \"hello\"\n\
             [Limits]\nMaxConnectionsIP = 0\nMaxJoins = 0\nPingTimeout = 120\nPongTimeout = 20\nConnectRetry = 5\nMaxNickLength = 20\nMaxPenaltyTime = 0\n\
             [Options]\nDNS = no\nIdent = no\nPAM = no\nDefaultUserModes = \n{more}\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut server = Self { child: None, config, port, _dir: dir };
        server.run().await;
        server
    }

    pub async fn run(&mut self) {
        let child = Command::new("ngircd")
            .arg("--nodaemon")
            .arg("--config")
            .arg(&self.config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.expect("ngircd starts: install ngircd"));
        let started = timeout(PATIENCE, async {
            while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        started.await.expect("ngircd listens");
    }

    pub fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Freezes it, or lets it go on.
    pub fn signal(&self, signal: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }
}

impl Drop for Ngircd {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.signal("-CONT");
        }
        self.end();
    }
}

/// Somebody else: a plain client.
pub struct Other {
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
}

impl Other {
    pub async fn connect(port: u16, nick: &str) -> Self {
        let (read, write) = TcpStream::connect(("127.0.0.1", port)).await.unwrap().into_split();
        let mut other = Self { lines: BufReader::new(read).lines(), write };
        other.send(&format!("NICK {nick}\r\nUSER {nick} 0 * :{nick}")).await;
        loop {
            let line = other.next().await.expect("the server answers");
            if line.contains(" 433 ") {
                // Who had it before is still leaving.
                tokio::time::sleep(Duration::from_millis(200)).await;
                other.send(&format!("NICK {nick}")).await;
            } else if line.contains(" 376 ") {
                return other;
            }
        }
    }

    pub async fn send(&mut self, line: &str) {
        self.write.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
    }

    pub async fn join(&mut self, channel: &str) {
        self.send(&format!("JOIN {channel}")).await;
        self.wait(" 366 ").await;
    }

    /// The next line; PINGs are answered.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            let line = self.lines.next_line().await.ok()??;
            match line.strip_prefix("PING ") {
                Some(token) => self.send(&format!("PONG {token}")).await,
                None => return Some(line),
            }
        }
    }

    /// The next line that holds `text`.
    pub async fn wait(&mut self, text: &str) -> String {
        let found = timeout(PATIENCE, async {
            loop {
                let line = self.next().await.unwrap_or_else(|| panic!("the connection ended; {text} did not come"));
                if line.contains(text) {
                    return line;
                }
            }
        });
        found.await.unwrap_or_else(|_| panic!("{text} did not come"))
    }
}

/// Waits until nobody has this nick: who left may be on the way out still.
pub async fn free_nick(port: u16, nick: &str) {
    let mut look = Other::connect(port, "look").await;
    loop {
        look.send(&format!("ISON {nick}")).await;
        if !look.wait(" 303 ").await.ends_with(nick) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The bridge, and what came of it.
pub struct Bridged {
    pub host: MemoryHost,
    pub user: User,
    pub bridge: Arc<IrcNetwork>,
    running: tokio::task::JoinHandle<Result<(), Fatal>>,
    seen: usize,
}

impl Bridged {
    /// Al, on the network `net` at this port.
    pub async fn start(port: u16, more: serde_json::Value) -> Self {
        let host = MemoryHost::new("example.org".parse().unwrap());
        let user = host.add_user("al", "pw").unwrap();
        let bridged = Self::again(host, user, port, more);
        bridged.ask(Ask::Connect { network: "net".into() }).await.unwrap();
        bridged
    }

    /// The same host, the bridge anew.
    pub fn again(host: MemoryHost, user: User, port: u16, more: serde_json::Value) -> Self {
        let mut network = serde_json::json!({
            "name": "net", "host": "127.0.0.1", "port": port, "tls": false, "line_milliseconds": 100, "channels": ["#a"],
        });
        let mut config = serde_json::json!({ "limits": { "reconnect_seconds": 1, "reconnect_most_seconds": 3 } });
        for (key, value) in more.as_object().cloned().unwrap_or_default() {
            match key.strip_prefix("network.") {
                Some(key) => network[key] = value,
                None => config[key] = value,
            }
        }
        config["network"] = serde_json::json!([network]);
        let bridge = Arc::new(IrcNetwork::build(Config::new(config)).unwrap());
        let seen = host.signals().len();
        let running = tokio::spawn({
            let (bridge, host): (_, Arc<dyn Host>) = (Arc::clone(&bridge), Arc::new(host.clone()));
            async move { bridge.run(host).await }
        });
        Self { host, user, bridge, running, seen }
    }

    pub async fn ask(&self, ask: Ask) -> Result<Answer, Error> {
        loop {
            match self.bridge.answer(Arc::new(self.host.clone()), ask.question(&self.user)).await {
                Err(error) if error.message().contains("is starting") => {
                    tokio::time::sleep(Duration::from_millis(10)).await
                }
                answer => return answer,
            }
        }
    }

    pub async fn service(&self, text: &str) -> String {
        let answer = self.ask(Ask::Service { network: Some("net".into()), text: text.into() }).await.unwrap();
        mesyx_bridge_irc::link::text::of(&answer).join("\n")
    }

    /// The next news that is looked for.
    pub async fn news<T>(&mut self, what: &str, mut found: impl FnMut(News) -> Option<T>) -> T {
        let looking = timeout(PATIENCE, async {
            loop {
                let signals = self.host.signals();
                while self.seen < signals.len() {
                    let mut signal = signals[self.seen].clone();
                    self.seen += 1;
                    signal.bridge = "irc-network".into();
                    if let Some(found) = News::of(&signal).and_then(|(_, news)| found(news)) {
                        return found;
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        match looking.await {
            Ok(found) => found,
            Err(_) => panic!("{what} did not come; all news: {:?}", self.host.signals()),
        }
    }

    /// In the channel `#a`.
    pub async fn joined(&mut self) {
        self.news("the own join", |news| match news {
            News::Join { channel, who, .. } => (channel == "#a" && who.nick == "al").then_some(()),
            _ => None,
        })
        .await;
    }

    /// Says a text, and tells how it fared.
    pub async fn say(&self, target: &str, line: Line) -> Outcome {
        let from = chat::address_of(&self.user, self.host.domain()).unwrap();
        self.say_as(from, target, line).await
    }

    /// The same, from another address.
    pub async fn say_as(&self, from: Address, target: &str, line: Line) -> Outcome {
        let to: Address = format!("irc:net/{target}").parse().unwrap();
        let id = MessageId::random();
        let now = Timestamp::now();
        let headers = LineHeaders { id, from: from.clone(), nick: "al".into(), to: to.clone(), at: now };
        let content = line.to_content(&headers, self.host.domain()).unwrap();
        let mut envelope = memory::envelope(Some(from), vec![to], content);
        envelope.id = id;
        let job = Delivery::of(&envelope, Timestamp(now.0 + 55_000));
        self.bridge.deliver(Arc::new(self.host.clone()), job).await.remove(0)
    }

    pub async fn says(&self, target: &str, text: &str) {
        let outcome = self.say(target, Line::say(text)).await;
        assert!(matches!(outcome, Outcome::Delivered { .. }), "{text}: {outcome:?}");
    }

    /// The lines that were stored, with what protected them.
    pub fn lines(&self) -> Vec<(LineHeaders, Line, Protection)> {
        let read = |envelope: Envelope| {
            let (headers, line) = Line::from_content(&envelope.content, self.host.domain()).unwrap();
            (headers, line, envelope.origin.protection)
        };
        self.host.accepted().into_iter().map(read).collect()
    }

    /// What the service nick told: in passing, and in lines that are stored.
    pub fn words(&self) -> Vec<String> {
        let signals = self.host.signals().into_iter().filter(|signal| signal.name == "service");
        let passing = signals.map(|signal| signal.args.last().cloned().unwrap_or_default());
        let stored = self.lines().into_iter().filter(|(headers, ..)| headers.from.to_string() == "irc:net/-otr-");
        passing.chain(stored.map(|(_, line, _)| line.text)).collect()
    }

    /// The stored line with this text.
    pub async fn line(&self, text: &str) -> (LineHeaders, Line, Protection) {
        let found = timeout(PATIENCE, async {
            loop {
                if let Some(found) = self.lines().into_iter().find(|(_, line, _)| line.text == text) {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        match found.await {
            Ok(found) => found,
            Err(_) => panic!(
                "{text} was not stored; {:?}",
                self.lines().iter().map(|(_, line, _)| line.text.clone()).collect::<Vec<_>>()
            ),
        }
    }

    pub async fn stop(self) -> (MemoryHost, User) {
        self.host.stop();
        timeout(PATIENCE, self.running).await.expect("the bridge ends").unwrap().unwrap();
        (self.host, self.user)
    }
}

/// A pace that makes nobody wait.
pub fn fast() -> serde_json::Value {
    serde_json::json!({ "network.burst": 50, "network.line_milliseconds": 20 })
}

/// The bridge anew, on a host that has what lasts of the old one.
pub async fn restart(old: Bridged, port: u16, more: serde_json::Value) -> Bridged {
    let (host, user) = old.stop().await;
    let next = MemoryHost::new("example.org".parse().unwrap());
    next.add_user("al", "pw").unwrap();
    for key in Host::checkpoints(&host, "").await.unwrap() {
        let kept = Host::checkpoint(&host, &key).await.unwrap();
        Host::set_checkpoint(&next, &key, kept).await.unwrap();
    }
    free_nick(port, "al").await;
    let mut new = Bridged::again(next, user, port, more);
    new.joined().await;
    new
}

/// What is kept of al's OTR key and instance tag.
pub async fn identity(al: &Bridged) -> String {
    let keys = Host::checkpoints(&al.host, "otr/").await.unwrap();
    let kept = Host::checkpoint(&al.host, &keys[0]).await.unwrap().unwrap();
    let kept: serde_json::Value = serde_json::from_slice(kept.expose()).unwrap();
    kept["identity"].as_str().unwrap().to_owned()
}
