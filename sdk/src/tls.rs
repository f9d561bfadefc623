//! Serving TLS with the instance's certificates.

use crate::{Error, ErrorKind};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, crypto::ring as provider};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// A certificate chain with its private key, and the names that it is served for.
pub struct TlsIdentity {
    /// Host names in lower-case ASCII (`mail.example.org`, or `*.example.org` for one level); the first identity of [`Certificates`] serves all others too.
    pub names: Vec<String>,
    /// The chain, the host's own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key.
    pub key: PrivateKeyDer<'static>,
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsIdentity({})", self.names.join(", "))
    }
}

/// All TLS identities of the instance, the default one first.
#[derive(Debug, Default)]
pub struct Certificates(pub Vec<TlsIdentity>);

/// The TLS side of a listener: always the newest certificates, one [`ServerConfig`] for all connections until they change.
///
/// TLS 1.2 and 1.3, as rustls's defaults have them.
pub struct ServerTls {
    certificates: watch::Receiver<Arc<Certificates>>,
    alpn: Vec<Vec<u8>>,
    current: Mutex<Option<(Arc<Certificates>, Arc<ServerConfig>)>>,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls")
    }
}

impl ServerTls {
    /// Serves what [`crate::Host::certificates`] gave. `alpn` is empty for protocols that don't use it.
    #[must_use]
    pub fn new(certificates: watch::Receiver<Arc<Certificates>>, alpn: &[&[u8]]) -> Self {
        let alpn = alpn.iter().map(|name| name.to_vec()).collect();
        Self { certificates, alpn, current: Mutex::new(None) }
    }

    /// The configuration for a handshake that begins now.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where there is no certificate, or its key is of a kind that can't be used.
    pub fn config(&self) -> Result<Arc<ServerConfig>, Error> {
        let certificates = Arc::clone(&self.certificates.borrow());
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, config)) = &*current
            && Arc::ptr_eq(of, &certificates)
        {
            return Ok(Arc::clone(config));
        }
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ByName::new(&certificates)?));
        config.alpn_protocols.clone_from(&self.alpn);
        let config = Arc::new(config);
        *current = Some((certificates, Arc::clone(&config)));
        Ok(config)
    }
}

fn unusable(error: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the TLS certificate can't be used: {error}"))
}

/// Chooses by server name (RFC 6066, section 3); the first identity where no name fits.
struct ByName {
    default: Arc<CertifiedKey>,
    by_name: HashMap<String, Arc<CertifiedKey>>,
}

impl ByName {
    fn new(certificates: &Certificates) -> Result<Self, Error> {
        let mut keys = Vec::new();
        for identity in &certificates.0 {
            let key = provider::sign::any_supported_type(&identity.key).map_err(unusable)?;
            keys.push((identity, Arc::new(CertifiedKey::new(identity.chain.clone(), key))));
        }
        let Some((_, default)) = keys.first() else {
            return Err(Error::new(ErrorKind::Unavailable, "there is no TLS certificate; `mesyx init` makes one"));
        };
        let default = Arc::clone(default);
        let mut by_name = HashMap::new();
        for (identity, key) in keys {
            for name in &identity.names {
                by_name.entry(name.to_ascii_lowercase()).or_insert_with(|| Arc::clone(&key));
            }
        }
        Ok(Self { default, by_name })
    }
}

impl fmt::Debug for ByName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| {
            let name = name.to_ascii_lowercase();
            let wildcard = || name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
            self.by_name.get(&name).or_else(|| self.by_name.get(&wildcard()?))
        });
        Some(Arc::clone(named.unwrap_or(&self.default)))
    }
}
