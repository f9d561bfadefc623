//! A bridge on another host, which connects to us by mutual TLS.
//!
//! Each remote bridge has an address of its own here, and an authority of its own, which signed two certificates and was then forgotten: ours
//! for that address, and the bridge's. So whoever shows a certificate of that authority is that bridge and no other.

use crate::describe::Wrong;
use crate::run::Remote;
use mesyx_sdk::Fatal;
use mesyx_sdk::wire::host::{Admission, Limits, RemoteBridge};
use rustls::crypto::ring::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use socket2::{SockRef, TcpKeepalive};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The files of one remote bridge on our side: its authority, our certificate and key.
pub const AUTHORITY: &str = "authority.pem";
/// Our certificate.
pub const CERTIFICATE: &str = "host.pem";
/// Our key.
pub const KEY: &str = "host.key";
/// The name in our certificate, beside the host's own, which every bridge can check.
pub const NAME: &str = "host.mesyx.internal";

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes at once; a bridge needs one.
const HANDSHAKES: usize = 16;

/// Where a remote bridge is waited for.
#[derive(Debug, Clone)]
pub(crate) struct Listens {
    address: SocketAddr,
    certificates: PathBuf,
}

impl Listens {
    pub(crate) fn new(remote: &Remote, certificates: PathBuf) -> Self {
        Self { address: remote.remote, certificates }
    }

    /// Waits for the bridge's connection; `waiting` is told where. Everybody else is turned away.
    pub(crate) async fn connection(
        &self,
        name: &str,
        limits: &Limits,
        waiting: impl FnOnce(SocketAddr) + Send,
    ) -> Result<RemoteBridge, Fatal> {
        let config =
            server_config(&self.certificates).map_err(|wrong| Fatal::new(format!("{}; {}", wrong.what, wrong.fix)))?;
        let failed = |error: io::Error| Fatal::new(format!("listening at {} for the bridge: {error}", self.address));
        let listener = TcpListener::bind(self.address).await.map_err(failed)?;
        waiting(listener.local_addr().map_err(failed)?);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let mut handshakes = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept(), if handshakes.len() < HANDSHAKES => match accepted {
                    Ok((stream, peer)) => {
                        handshakes.spawn(greet(acceptor.clone(), stream, peer));
                    }
                    Err(error) => {
                        tracing::warn!(bridge = name, %error, "a remote bridge's connection could not be taken");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(greeted) = handshakes.join_next() => match greeted {
                    Ok(Ok((stream, peer))) => {
                        tracing::info!(bridge = name, %peer, "the remote bridge has connected");
                        let admission = Admission { token: None, name: Some(name.to_owned()) };
                        return RemoteBridge::connect(stream, admission, limits.clone()).await;
                    }
                    Ok(Err((peer, error))) => {
                        tracing::warn!(bridge = name, %peer, %error, "refused a connection that is not the remote bridge's");
                    }
                    Err(error) => tracing::error!(bridge = name, %error, "a handshake failed"),
                },
            }
        }
    }
}

type Greeted = Result<(TlsStream<TcpStream>, SocketAddr), (SocketAddr, io::Error)>;

async fn greet(acceptor: TlsAcceptor, stream: TcpStream, peer: SocketAddr) -> Greeted {
    let prepared = stream.set_nodelay(true).and_then(|()| {
        // A host that vanished is noticed within a minute.
        let alive = TcpKeepalive::new().with_time(Duration::from_secs(20)).with_interval(Duration::from_secs(10));
        SockRef::from(&stream).set_tcp_keepalive(&alive.with_retries(4))
    });
    prepared.map_err(|error| (peer, error))?;
    match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Ok((stream, peer)),
        Ok(Err(error)) => Err((peer, error)),
        Err(_) => Err((peer, io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long"))),
    }
}

/// The TLS side of an address for one bridge, from the files in a directory.
pub(crate) fn server_config(directory: &Path) -> Result<ServerConfig, Wrong> {
    let make = |path: &Path, why: String| {
        let fix = "make the certificates with `mesyx bridge certificate NAME`";
        Wrong::new("certificates", format!("{}: {why}", path.display()), fix)
    };
    let read = |file: &str| {
        let path = directory.join(file);
        let text = fs::read(&path).map_err(|error| make(&path, error.to_string()))?;
        Ok::<_, Wrong>((path, text))
    };
    let chain = |(path, text): (PathBuf, Vec<u8>)| {
        let parsed: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(&text).collect();
        match parsed {
            Ok(chain) if !chain.is_empty() => Ok(chain),
            _ => Err(make(&path, "there is no certificate in it".into())),
        }
    };
    let authority = directory.join(AUTHORITY);
    let mut roots = RootCertStore::empty();
    for certificate in chain(read(AUTHORITY)?)? {
        roots.add(certificate).map_err(|error| make(&authority, error.to_string()))?;
    }
    let certificates = chain(read(CERTIFICATE)?)?;
    let (path, text) = read(KEY)?;
    let mode = fs::metadata(&path).map_err(|error| make(&path, error.to_string()))?.mode();
    if mode & 0o077 != 0 {
        return Err(Wrong::new("certificates", format!("{}: others may read the key", path.display()), "chmod 0600"));
    }
    // The program's allocator erases what is freed, so the text goes with its buffer.
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|_| make(&path, "there is no private key in it".into()))?;
    let provider = Arc::new(default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| make(&authority, error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| make(&path, error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates, key)
        .map_err(|error| make(&path, error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
