//! A bridge over a host in memory, and a client that speaks lines.
#![allow(clippy::expect_used, reason = "a test fails where its helper does")]
#![allow(dead_code, reason = "each test file uses its part")]

use mesyx_bridge_imap::Imap;
use mesyx_sdk::{Append, Bridge, Certificates, Config, Content, Fatal, Flag, Host, MailboxId, MemoryHost, TlsIdentity};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Long enough for a slow machine; passed only when something hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A bridge that runs, with user `ann` (password `secret`).
pub struct Server {
    pub host: MemoryHost,
    pub plain: SocketAddr,
    pub starttls: SocketAddr,
    pub implicit: SocketAddr,
    pub certificate: CertificateDer<'static>,
    pub running: JoinHandle<Result<(), Fatal>>,
}

impl Server {
    pub async fn start() -> Self {
        Self::with(MemoryHost::new("example.org".parse().expect("a domain")), json!({})).await
    }

    pub async fn with(host: MemoryHost, limits: serde_json::Value) -> Self {
        host.add_user("ann", "secret").expect("a user");
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let certificate = made.cert.der().clone();
        let key = made.signing_key.serialize_der().try_into().expect("a key");
        let chain = vec![certificate.clone()];
        host.set_certificates(Certificates(vec![TlsIdentity { names: vec!["localhost".into()], chain, key }]));
        let config = json!({
            "listeners": [
                { "name": "plain", "address": "127.0.0.1:0", "tls": "starttls", "plain_auth_without_tls": true },
                { "name": "imap", "address": "127.0.0.1:0", "tls": "starttls" },
                { "name": "imaps", "address": "[::1]:0", "tls": "implicit" },
            ],
            "limits": limits,
        });
        let imap = Imap::build(Config::new(config)).expect("a configuration");
        let running = tokio::spawn({
            let host: Arc<dyn Host> = Arc::new(host.clone());
            async move { imap.run(host).await }
        });
        Self {
            plain: host.listening("plain").await,
            starttls: host.listening("imap").await,
            implicit: host.listening("imaps").await,
            certificate,
            host,
            running,
        }
    }

    pub async fn inbox(&self) -> MailboxId {
        let mailboxes = self.host.session("ann").expect("ann").mailboxes().await.expect("mailboxes");
        mailboxes.into_iter().find(|mailbox| mailbox.name.is_inbox()).expect("an INBOX").id
    }

    /// Puts a message into the INBOX.
    pub async fn deliver(&self, flags: &[Flag], text: &str) {
        let content = Content::from(text.replace('\n', "\r\n").into_bytes());
        let append = Append { flags: flags.to_vec(), internal_date: None, content };
        self.host.session("ann").expect("ann").append(self.inbox().await, vec![append]).await.expect("appended");
    }

    /// A client on the plain listener that has read the greeting.
    pub async fn connect(&self) -> Client<TcpStream> {
        let mut client = Client::new(TcpStream::connect(self.plain).await.expect("a connection"));
        client.line().await;
        client
    }

    /// The same, logged in.
    pub async fn login(&self) -> Client<TcpStream> {
        let mut client = self.connect().await;
        client.ok("LOGIN ann secret").await;
        client
    }

    /// The same, with the INBOX selected.
    pub async fn select(&self) -> Client<TcpStream> {
        let mut client = self.login().await;
        client.ok("SELECT INBOX").await;
        client
    }

    pub fn tls(&self) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a root");
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS")
            .with_root_certificates(roots)
            .with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    }

    pub fn name() -> ServerName<'static> {
        "localhost".try_into().expect("a name")
    }
}

/// A client that sends what it is told and reads lines.
pub struct Client<S> {
    pub stream: S,
    buffer: Vec<u8>,
    tag: u32,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new(), tag: 0 }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("sent");
    }

    /// The next line without its end, `None` when the server has closed. Literals are lines of their own, as they stand.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..at]).into_owned();
                self.buffer.drain(..at + 2);
                return Some(line);
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await.expect("the server hangs");
            if matches!(read, Ok(0) | Err(_)) {
                return None;
            }
        }
    }

    pub async fn line(&mut self) -> String {
        self.next().await.expect("a line")
    }

    /// Sends a command; all lines up to the tagged one, which comes last without its tag.
    pub async fn run(&mut self, command: &str) -> Vec<String> {
        self.tag += 1;
        let tag = format!("t{}", self.tag);
        self.send(format!("{tag} {command}\r\n")).await;
        self.until(&tag).await
    }

    pub async fn until(&mut self, tag: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.line().await;
            if let Some(rest) = line.strip_prefix(&format!("{tag} ")) {
                lines.push(rest.to_owned());
                return lines;
            }
            lines.push(line);
        }
    }

    /// Runs a command that must succeed; the untagged lines.
    pub async fn ok(&mut self, command: &str) -> Vec<String> {
        let mut lines = self.run(command).await;
        let last = lines.pop().expect("an answer");
        assert!(last.starts_with("OK"), "{command}: {last}");
        lines
    }

    /// Runs a command that must not; the tagged line.
    pub async fn refused(&mut self, command: &str) -> String {
        let last = self.run(command).await.pop().expect("an answer");
        assert!(!last.starts_with("OK"), "{command}: {last}");
        last
    }
}

pub const MAIL: &str = "From: Bob <bob@example.net>\nTo: ann@example.org\nSubject: Lunch?\n\nAt noon?\n";
