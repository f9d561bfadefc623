//! The network of a test: names, ports, certificates, and the bridge that sends.

use crate::dns::Zone;
use crate::sink::{Manner, Sink};
use mesyx_bridge_smtp::Smtp;
use mesyx_sdk::{
    Bridge, Certificates, Config, Content, Delivery, Dsn, MemoryHost, MessageId, Outcome, Recipient, Timestamp,
    TlsIdentity,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PublicKeyData};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use tokio_rustls::rustls::{ServerConfig, crypto::ring};

pub const CONTENT: &str = "From: alice@example.org\r\nTo: bob@example.net\r\nDate: Sun, 22 Nov 2026 22:37:44 +0000\r\n\
    Message-ID: <m@example.org>\r\nSubject: x\r\n\r\n.dots\r\n..\r\nend\r\n";

pub struct Lab {
    pub zone: Zone,
    /// All mail hosts of the lab listen here, each at its own loopback address.
    pub port: u16,
    pub authority: CertifiedIssuer<'static, KeyPair>,
    roots: tempfile_path::File,
    pub host: MemoryHost,
}

/// A certificate with its key.
pub struct Identity {
    pub config: Arc<ServerConfig>,
    pub key: Vec<u8>,
    pub pem: String,
    pub key_pem: String,
}

impl Lab {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let roots = tempfile_path::File::new(&authority.pem());
        let port = free_port();
        let host = MemoryHost::new("example.org".parse().unwrap());
        Self { zone: Zone::start(), port, authority, roots, host }
    }

    /// Signed by the lab's authority, which the sender believes.
    pub fn identity(&self, names: &[&str]) -> Identity {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.authority).unwrap();
        let chain = vec![certificate.der().clone(), self.authority.der().clone()];
        identity(chain, certificate.pem(), &key)
    }

    /// A host at 127.0.0.N, of the name mxN.example.net.
    pub async fn sink(&self, number: u8, manner: Manner) -> Sink {
        let ip = format!("127.0.0.{number}");
        self.zone.address(&format!("mx{number}.example.net"), &ip);
        Sink::start(SocketAddr::new(ip.parse().unwrap(), self.port), manner).await
    }

    /// The same as the only mail exchanger of example.net.
    pub async fn only(&self, manner: Manner) -> Sink {
        self.zone.mx("example.net", 10, "mx2.example.net");
        self.sink(2, manner).await
    }

    /// A sender. `delivery` adds to its configuration.
    pub fn sender(&self, delivery: Value) -> Sender {
        let mut config = json!({
            "listeners": [{ "address": "127.0.0.1:0" }],
            "delivery": { "port": self.port, "allow_private": true },
            "dns": self.zone.config(),
            "https": { "roots": self.roots.path, "allow_private": true, "timeout_seconds": 5 },
        });
        merge(&mut config["delivery"], delivery);
        self.sender_with(config)
    }

    pub fn config(&self) -> Value {
        json!({ "dns": self.zone.config(), "https": { "roots": self.roots.path, "allow_private": true } })
    }

    pub fn sender_with(&self, config: Value) -> Sender {
        Sender { bridge: Arc::new(Smtp::build(Config::new(config)).unwrap()), host: self.host.clone() }
    }
}

/// A port that is free at every address, and that the kernel gives to nobody by itself.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 200).unwrap() * 100;
    loop {
        let port = 10_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

pub fn self_signed(names: &[&str]) -> Identity {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    identity(vec![certificate.der().clone()], certificate.pem(), &key)
}

/// Gives a host a certificate to listen with.
pub fn certify(host: &MemoryHost) {
    let made = rcgen::generate_simple_self_signed(vec!["mail.example.org".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let identity = TlsIdentity { names: vec!["mail.example.org".into()], chain: vec![made.cert.der().clone()], key };
    host.set_certificates(Certificates(vec![identity]));
}

fn identity(chain: Vec<CertificateDer<'static>>, pem: String, key: &KeyPair) -> Identity {
    let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .unwrap();
    Identity { config: Arc::new(config), key: key.subject_public_key_info(), pem, key_pem: key.serialize_pem() }
}

#[derive(Clone)]
pub struct Sender {
    pub bridge: Arc<Smtp>,
    pub host: MemoryHost,
}

impl Sender {
    pub async fn deliver(&self, job: Delivery) -> Vec<Outcome> {
        self.bridge.deliver(Arc::new(self.host.clone()), job).await
    }

    /// One message to these recipients.
    pub async fn send(&self, to: &[&str]) -> Vec<Outcome> {
        self.deliver(job(to, CONTENT)).await
    }

    pub async fn one(&self, to: &str) -> Outcome {
        self.send(&[to]).await.remove(0)
    }
}

pub fn job(to: &[&str], content: &str) -> Delivery {
    Delivery {
        id: MessageId::random(),
        from: Some("alice@example.org".parse().unwrap()),
        recipients: to.iter().map(|to| Recipient::new(to.parse().unwrap())).collect(),
        dsn: Dsn::default(),
        deadline: Timestamp(Timestamp::now().0 + 60_000),
        content: Content::from(content.as_bytes().to_vec()),
    }
}

pub fn delivered(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Delivered { .. })
}

/// Why it was put off, whether that holds for the host, and whether it may have been sent.
pub fn deferred(outcome: &Outcome) -> (&str, bool, bool) {
    match outcome {
        Outcome::Deferred { why, scope, maybe_sent, .. } => (why, *scope == mesyx_sdk::DeferScope::Host, *maybe_sent),
        other => panic!("not deferred: {other:?}"),
    }
}

pub fn failed(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Failed { why } => why,
        other => panic!("not failed: {other:?}"),
    }
}

mod tempfile_path {
    use std::path::PathBuf;

    /// A file that goes with its owner.
    pub struct File {
        pub path: PathBuf,
    }

    impl File {
        pub fn new(text: &str) -> Self {
            let name = format!("mesyx-lab-{}", mesyx_sdk::MessageId::random());
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, text).unwrap();
            Self { path }
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
