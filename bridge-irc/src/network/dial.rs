//! Making a connection: name, TCP, TLS.

use mesyx_sdk::{Protection, Secret};
use ring::digest::{SHA256, digest};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// The longest that each step may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where to connect to, and what the other end must prove.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: bool,
    /// Whom to believe where there is TLS.
    pub(crate) trust: Trust,
    /// PEM of a certificate and its key.
    pub(crate) certificate: Option<Secret>,
    /// Private, loopback and link-local addresses are allowed.
    pub(crate) private: bool,
}

/// Whom to believe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trust {
    System,
    File(PathBuf),
    /// The SHA-256 of the server's certificate.
    Pinned([u8; 32]),
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connects. The error is one line for the user.
pub(crate) async fn dial(target: &Target) -> Result<(Box<dyn Stream>, Protection), String> {
    let Target { host, port, .. } = target;
    let late = |what: &str| format!("{host}:{port}: {what} took longer than {} seconds", PATIENCE.as_secs());
    let found = timeout(PATIENCE, tokio::net::lookup_host((host.as_str(), *port))).await;
    let found = found.map_err(|_| late("looking up the name"))?;
    let addresses: Vec<SocketAddr> = found.map_err(|error| format!("{host}: {error}"))?.collect();
    let mut why = format!("{host} has no address");
    for address in addresses.iter().take(6) {
        if !target.private && !is_public(address.ip()) {
            why = format!("{host} is at {}, a private address, which the operator does not allow", address.ip());
            continue;
        }
        match timeout(PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                if !target.tls {
                    return Ok((Box::new(stream), Protection::None));
                }
                let shaken = timeout(PATIENCE, handshake(stream, target)).await;
                return shaken.map_err(|_| late("the TLS handshake"))?.map_err(|why| format!("{host}:{port}: {why}"));
            }
            Ok(Err(error)) => why = format!("{address}: {error}"),
            Err(_) => why = late("connecting"),
        }
    }
    Err(why)
}

async fn handshake(stream: TcpStream, target: &Target) -> Result<(Box<dyn Stream>, Protection), String> {
    let (trust, certificate) = (target.trust.clone(), target.certificate.clone());
    // Reads files.
    let config = tokio::task::spawn_blocking(move || config(&trust, certificate.as_ref())).await;
    let config = config.map_err(|error| error.to_string())??;
    let name = ServerName::try_from(target.host.clone()).map_err(|error| error.to_string())?;
    let stream = TlsConnector::from(config).connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
    let (_, session) = stream.get_ref();
    let version = match session.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3".to_owned(),
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2".to_owned(),
        other => format!("{other:?}"),
    };
    let cipher = session.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite())).unwrap_or_default();
    Ok((Box::new(stream), Protection::Tls { version, cipher }))
}

fn config(trust: &Trust, certificate: Option<&Secret>) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Pinned(print) => Arc::new(Pinned { print: *print, provider: Arc::clone(&provider) }),
        Trust::System | Trust::File(_) => {
            let mut roots = RootCertStore::empty();
            let certificates = match trust {
                Trust::File(path) => CertificateDer::pem_file_iter(path)
                    .and_then(Iterator::collect)
                    .map_err(|error| format!("{}: {error}", path.display()))?,
                _ => rustls_native_certs::load_native_certs().certs,
            };
            roots.add_parsable_certificates(certificates);
            let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
            builder
                .build()
                .map_err(|error| format!("no authorities to believe: {error}; set ca_file or fingerprint"))?
        }
    };
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?.dangerous().with_custom_certificate_verifier(verifier);
    let Some(pem) = certificate else { return Ok(Arc::new(builder.with_no_client_auth())) };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.expose()).flatten().collect();
    let key = PrivateKeyDer::from_pem_slice(pem.expose())
        .map_err(|_| "the client certificate has no private key".to_owned())?;
    let config = builder.with_client_auth_cert(chain, key);
    config.map(Arc::new).map_err(|error| format!("the client certificate can't be used: {error}"))
}

/// Believes one certificate.
#[derive(Debug)]
struct Pinned {
    print: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if digest(&SHA256, certificate).as_ref() == self.print {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// An address of the Internet at large.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let shared = a == 100 && (64..128).contains(&b);
            let special = ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_multicast();
            let reserved = ip.is_broadcast() || ip.is_documentation() || a == 0 || a >= 240;
            !(special || reserved || shared)
        }
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(mapped) => is_public(IpAddr::V4(mapped)),
            // Global unicast alone (RFC 4291, section 2.4), without the tunnels that hold IPv4 addresses (RFC 3056, RFC 6052 is outside of it).
            None => ip.segments()[0] & 0xe000 == 0x2000 && ip.segments()[0] != 0x2002,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_told_from_public_ones() {
        let public = |text: &str| is_public(text.parse().unwrap());
        for text in [
            "127.0.0.1",
            "10.1.1.1",
            "192.168.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "::1",
            "fe80::1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "2002:a00:1::1",
            "64:ff9b::a00:1",
        ] {
            assert!(!public(text), "{text}");
        }
        for text in ["1.1.1.1", "2a00:1450::1", "::ffff:1.1.1.1"] {
            assert!(public(text), "{text}");
        }
    }
}
