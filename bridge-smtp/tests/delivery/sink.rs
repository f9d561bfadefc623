//! A mail host that behaves as it is told, and remembers what it heard.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// What to do with a command, or with a message's end (`.`), instead of saying yes.
#[derive(Clone)]
pub enum Act {
    Say(String),
    /// Says it and hangs up.
    Last(String),
    /// Hangs up without a word.
    Drop,
    /// Never answers.
    Silent,
}

pub type Decide = Arc<dyn Fn(&str, &Heard) -> Option<Act> + Send + Sync>;

/// How the host behaves.
#[derive(Clone)]
pub struct Manner {
    pub greeting: Act,
    pub offers: Vec<&'static str>,
    pub tls: Option<Arc<ServerConfig>>,
    /// Offers STARTTLS, says yes, and then speaks no TLS.
    pub broken_tls: bool,
    /// TLS from the first byte.
    pub implicit: bool,
    pub decide: Decide,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            greeting: Act::Say("220 sink ESMTP".into()),
            offers: vec!["PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "SIZE 10000000"],
            tls: None,
            broken_tls: false,
            implicit: false,
            decide: Arc::new(|_, _| None),
        }
    }
}

/// A message that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub from: String,
    pub to: Vec<String>,
    pub content: Vec<u8>,
    pub tls: bool,
}

#[derive(Debug, Default)]
pub struct Heard {
    pub commands: Vec<String>,
    pub taken: Vec<Taken>,
    pub peers: Vec<SocketAddr>,
}

#[derive(Clone)]
pub struct Sink {
    heard: Arc<Mutex<Heard>>,
    open: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Sink {
    pub async fn start(address: SocketAddr, manner: Manner) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let sink = Self { heard: Arc::default(), open: Arc::default(), most: Arc::default() };
        let this = sink.clone();
        tokio::spawn(async move {
            while let Ok((tcp, peer)) = listener.accept().await {
                this.heard().peers.push(peer);
                let (this, manner) = (this.clone(), manner.clone());
                tokio::spawn(async move {
                    let open = this.open.fetch_add(1, Ordering::SeqCst) + 1;
                    this.most.fetch_max(open, Ordering::SeqCst);
                    this.serve(tcp, &manner).await;
                    this.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        sink
    }

    pub fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap()
    }

    pub fn taken(&self) -> Vec<Taken> {
        self.heard().taken.clone()
    }

    pub fn connections(&self) -> usize {
        self.heard().peers.len()
    }

    /// Most connections at once.
    pub fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    async fn serve(&self, tcp: tokio::net::TcpStream, manner: &Manner) {
        let acceptor = manner.tls.clone().map(TlsAcceptor::from);
        if manner.implicit {
            if let Ok(tls) = acceptor.unwrap().accept(tcp).await {
                self.speak(tls, manner, true, true).await;
            }
            return;
        }
        let Some(tcp) = self.speak(tcp, manner, false, true).await else { return };
        if let Some(acceptor) = acceptor
            && let Ok(tls) = acceptor.accept(tcp).await
        {
            self.speak(tls, manner, true, false).await;
        }
    }

    /// Speaks until the end, or until a handshake is due; then the stream comes back.
    async fn speak<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        manner: &Manner,
        tls: bool,
        greet: bool,
    ) -> Option<S> {
        let mut wire = Wire { stream, read: Vec::new() };
        if greet && !wire.act(manner.greeting.clone()).await {
            return None;
        }
        let (mut from, mut to) = (String::new(), Vec::new());
        loop {
            let line = wire.line().await?;
            let decided = {
                let mut heard = self.heard();
                heard.commands.push(line.clone());
                (manner.decide)(&line, &heard)
            };
            if let Some(act) = decided {
                if !wire.act(act).await {
                    return None;
                }
                continue;
            }
            let verb = line.split(' ').next().unwrap().to_ascii_uppercase();
            let answer = match verb.as_str() {
                "EHLO" => {
                    let mut offers = vec!["sink"];
                    offers.extend(manner.offers.iter().copied());
                    if !tls && (manner.broken_tls || manner.tls.is_some()) {
                        offers.push("STARTTLS");
                    }
                    let last = offers.len() - 1;
                    let lines = offers.iter().enumerate();
                    lines
                        .map(|(at, line)| format!("250{}{line}", if at == last { ' ' } else { '-' }))
                        .collect::<Vec<_>>()
                        .join("\r\n")
                }
                "STARTTLS" if manner.broken_tls => {
                    wire.act(Act::Say("220 go".into())).await;
                    wire.read.clear();
                    wire.more().await?;
                    wire.act(Act::Last("this is no TLS at all, whatever was said before".into())).await;
                    return None;
                }
                "STARTTLS" => {
                    wire.act(Act::Say("220 go".into())).await;
                    return Some(wire.stream);
                }
                "AUTH" => "235 2.7.0 welcome".into(),
                "MAIL" => {
                    (from, to) = (line.clone(), Vec::new());
                    "250 2.1.0 ok".into()
                }
                "RCPT" => {
                    to.push(line.clone());
                    "250 2.1.5 ok".into()
                }
                "DATA" | "BDAT" => {
                    let content = if verb == "DATA" {
                        wire.act(Act::Say("354 go on".into())).await;
                        let mut content = Vec::new();
                        loop {
                            let line = wire.line().await?;
                            match line.as_str() {
                                "." => break,
                                line => content.extend_from_slice(line.strip_prefix('.').unwrap_or(line).as_bytes()),
                            }
                            content.extend_from_slice(b"\r\n");
                        }
                        content
                    } else {
                        wire.bytes(line.split(' ').nth(1).unwrap().parse().unwrap()).await?
                    };
                    let decided = (manner.decide)(".", &self.heard());
                    if let Some(act) = decided {
                        if !wire.act(act).await {
                            return None;
                        }
                        continue;
                    }
                    let mut heard = self.heard();
                    let to = std::mem::take(&mut to);
                    heard.taken.push(Taken { from: std::mem::take(&mut from), to, content, tls });
                    format!("250 2.0.0 Ok: queued as {}", heard.taken.len())
                }
                "RSET" | "NOOP" => "250 2.0.0 ok".into(),
                "QUIT" => {
                    wire.act(Act::Last("221 2.0.0 bye".into())).await;
                    return None;
                }
                _ => "502 5.5.2 what".into(),
            };
            if !wire.act(Act::Say(answer)).await {
                return None;
            }
        }
    }
}

struct Wire<S> {
    stream: S,
    read: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    async fn more(&mut self) -> Option<()> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer).await {
            Ok(bytes) if bytes > 0 => self.read.extend_from_slice(&buffer[..bytes]),
            _ => return None,
        }
        Some(())
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.windows(2).position(|window| window == b"\r\n") {
                let line: Vec<u8> = self.read.drain(..end + 2).take(end).collect();
                assert!(!line.contains(&b'\n') && !line.contains(&b'\r'), "a bare line end came over the wire");
                return Some(String::from_utf8(line).unwrap());
            }
            self.more().await?;
        }
    }

    async fn bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.read.len() < count {
            self.more().await?;
        }
        Some(self.read.drain(..count).collect())
    }

    /// Whether the conversation goes on.
    async fn act(&mut self, act: Act) -> bool {
        let (text, last) = match act {
            Act::Say(text) => (text, false),
            Act::Last(text) => (text, true),
            Act::Drop => return false,
            Act::Silent => std::future::pending().await,
        };
        let _ = self.stream.write_all(format!("{text}\r\n").as_bytes()).await;
        let _ = self.stream.flush().await;
        if last {
            let _ = self.stream.shutdown().await;
        }
        !last
    }
}
