//! TLS as a client: whom to believe, by which policy.

use super::dane;
use mesyx_net::Tlsa;
use ring::digest::{SHA256, digest};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::io;
use std::sync::Arc;

/// What a connection to a host must prove before a message goes over it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Requirement {
    /// Nothing: TLS is not even asked for.
    None,
    /// Nothing, but TLS is used where it is offered and works.
    Opportunistic,
    /// TLS, with whatever certificate.
    Encrypted,
    /// TLS, and a certificate for the host's name from an authority that we believe (RFC 8461, section 4.2; or the operator's wish).
    Verified,
    /// TLS from the first byte, and such a certificate.
    Implicit,
    /// TLS, and a certificate that the host's TLSA records name (RFC 7672). `names` are those that a certificate
    /// from a named authority may be for.
    Dane { records: Vec<Tlsa>, names: Vec<String> },
}

/// Makes the TLS side of connections; one for all of a bridge.
#[derive(Debug)]
pub(crate) struct ClientTls {
    provider: Arc<CryptoProvider>,
    anyone: Arc<ClientConfig>,
    /// Absent where there are no authorities to believe; with why.
    verified: Result<Arc<ClientConfig>, String>,
}

impl ClientTls {
    pub(crate) fn new(roots: Result<RootCertStore, String>) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let anyone = with(&provider, Arc::new(Anyone { provider: Arc::clone(&provider) }))?;
        let verified = roots.and_then(|roots| {
            let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
            with(&provider, builder.build().map_err(|error| error.to_string())?)
        });
        Ok(Self { provider, anyone, verified })
    }

    /// The configuration by which a requirement is checked.
    pub(crate) fn config(&self, requirement: &Requirement) -> Result<Arc<ClientConfig>, String> {
        match requirement {
            Requirement::None | Requirement::Opportunistic | Requirement::Encrypted => Ok(Arc::clone(&self.anyone)),
            Requirement::Verified | Requirement::Implicit => self.verified.clone(),
            Requirement::Dane { records, names } => with(
                &self.provider,
                Arc::new(Dane { provider: Arc::clone(&self.provider), records: records.clone(), names: names.clone() }),
            ),
        }
    }
}

fn with(provider: &Arc<CryptoProvider>, verifier: Arc<dyn ServerCertVerifier>) -> Result<Arc<ClientConfig>, String> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    Ok(Arc::new(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()))
}

/// What went wrong in a handshake, as RFC 8460, section 4.3, names it.
pub(crate) fn result_type(error: &io::Error) -> &'static str {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(Error::InvalidCertificate(error)) => match error {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => "certificate-expired",
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "certificate-host-mismatch"
            }
            CertificateError::UnknownIssuer => "certificate-not-trusted",
            _ => "validation-failure",
        },
        _ => "validation-failure",
    }
}

/// Takes every certificate, as long as the other side has its key. Against those who listen, not against those who interfere.
#[derive(Debug)]
struct Anyone {
    provider: Arc<CryptoProvider>,
}

/// Takes the certificates that TLSA records name.
#[derive(Debug)]
struct Dane {
    provider: Arc<CryptoProvider>,
    records: Vec<Tlsa>,
    names: Vec<String>,
}

macro_rules! signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.provider.signature_verification_algorithms.supported_schemes()
        }
    };
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    signatures!();
}

impl ServerCertVerifier for Dane {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let algorithms = self.provider.signature_verification_algorithms.all;
        dane::verify(&self.records, &self.names, end_entity, intermediates, now, algorithms)
    }

    signatures!();
}

/// A short name of a requirement, that tells two apart; for keys of tables.
pub(crate) fn fingerprint(requirement: &Requirement) -> [u8; 8] {
    let hash = digest(&SHA256, format!("{requirement:?}").as_bytes());
    let mut short = [0; 8];
    short.copy_from_slice(&hash.as_ref()[..8]);
    short
}
