//! A bridge over a memory host, and a client that speaks by hand.
#![allow(dead_code)]

use mesyx_bridge_smtp::{Smtp, Submission};
use mesyx_sdk::{Bridge, Certificates, Config, Fatal, MemoryHost, TlsIdentity};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

/// A running bridge.
pub struct Running {
    pub host: MemoryHost,
    pub task: JoinHandle<Result<(), Fatal>>,
    pub certificate: CertificateDer<'static>,
}

impl Running {
    /// The bridge `smtp` with these listeners (JSON), on a host with the users alice and bob at example.org.
    pub fn smtp(config: serde_json::Value) -> Self {
        Self::with(Smtp::build(Config::new(config)).unwrap(), host())
    }

    pub fn submission(config: serde_json::Value) -> Self {
        Self::with(Submission::build(Config::new(config)).unwrap(), host())
    }

    pub fn with(bridge: impl Bridge, host: MemoryHost) -> Self {
        let certificate = certify(&host);
        let shared: Arc<dyn mesyx_sdk::Host> = Arc::new(host.clone());
        let task = tokio::spawn(async move { bridge.run(shared).await });
        Self { host, task, certificate }
    }

    pub async fn connect(&self, listener: &str) -> Client<TcpStream> {
        let address: SocketAddr = self.host.listening(listener).await;
        Client(TcpStream::connect(address).await.unwrap())
    }

    pub async fn tls<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> std::io::Result<Client<tokio_rustls::client::TlsStream<S>>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("mail.example.org").unwrap();
        Ok(Client(TlsConnector::from(Arc::new(config)).connect(name, stream).await?))
    }
}

pub fn host() -> MemoryHost {
    let host = MemoryHost::new("example.org".parse().unwrap());
    host.add_user("alice", "secret").unwrap();
    host.add_user("bob", "hidden").unwrap();
    host
}

/// Gives the host a new self-signed certificate.
pub fn certify(host: &MemoryHost) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(vec!["mail.example.org".to_owned()]).unwrap();
    let chain = vec![made.cert.der().clone()];
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    host.set_certificates(Certificates(vec![TlsIdentity { names: vec!["mail.example.org".into()], chain, key }]));
    made.cert.der().clone()
}

/// The other end of a conversation.
pub struct Client<S>(pub S);

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// One reply with all its lines; empty at the end of the connection.
    pub async fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                match self.0.read_u8().await {
                    Ok(byte) => line.push(byte),
                    Err(_) => return reply + std::str::from_utf8(&line).unwrap(),
                }
            }
            reply.push_str(std::str::from_utf8(&line).unwrap());
            if line.get(3) != Some(&b'-') {
                return reply;
            }
        }
    }

    pub async fn code(&mut self) -> u16 {
        let reply = self.reply().await;
        let last = reply.lines().last().unwrap_or_default();
        last.get(..3).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("no reply: {reply:?}"))
    }

    /// Sends one line and gives the reply's code.
    pub async fn say(&mut self, line: &str) -> u16 {
        self.send(format!("{line}\r\n")).await;
        self.code().await
    }

    /// Everything up to the end of the connection.
    pub async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        let _ = self.0.read_to_end(&mut rest).await;
        String::from_utf8(rest).unwrap()
    }

    /// The greeting, and EHLO.
    pub async fn greet(&mut self) -> String {
        assert_eq!(self.code().await, 220);
        self.send("EHLO client.example\r\n").await;
        self.reply().await
    }

    /// One message from `from` to alice, by DATA; the last code.
    pub async fn deliver(&mut self, from: &str, body: &str) -> u16 {
        assert_eq!(self.say(&format!("MAIL FROM:<{from}>")).await, 250);
        assert_eq!(self.say("RCPT TO:<alice@example.org>").await, 250);
        assert_eq!(self.say("DATA").await, 354);
        self.say(&format!("{body}\r\n.")).await
    }
}
