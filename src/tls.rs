//! TLS certificates: read from files, and made for a start.

use mesyx_sdk::TlsIdentity;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::crypto::ring::default_provider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Largest file that is read as a chain or a key.
const MAX_FILE: u64 = 1 << 20;

/// Where a certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// The chain in PEM.
    pub(crate) chain: PathBuf,
    /// The private key in PEM.
    pub(crate) key: PathBuf,
    /// The names to serve it for; `None`: those in the certificate.
    pub(crate) names: Option<Vec<String>>,
    /// Where `chain` and `key` stand in the configuration file.
    pub(crate) lines: (usize, usize),
}

/// What is wrong with a certificate.
#[derive(Debug)]
pub(crate) struct Wrong {
    /// Which key of the configuration: `chain` or `key`.
    pub(crate) key: &'static str,
    /// What.
    pub(crate) what: String,
    /// What to do.
    pub(crate) fix: String,
}

/// Reads a certificate and checks that key and chain belong together.
pub(crate) fn load(files: &TlsFiles) -> Result<TlsIdentity, Wrong> {
    let wrong = |key, path: &Path, what: &str, fix: &str| Wrong {
        key,
        what: format!("{}: {what}", path.display()),
        fix: fix.to_owned(),
    };
    let read = |key, path: &Path| {
        let unreadable = |error: std::io::Error| {
            let fix = "name a PEM file that the server's user may read";
            wrong(key, path, &format!("it can't be read: {error}"), fix)
        };
        let length = std::fs::metadata(path).map_err(unreadable)?.len();
        if length > MAX_FILE {
            return Err(wrong(key, path, "it is larger than 1 MiB", "name a PEM file"));
        }
        std::fs::read(path).map(Zeroizing::new).map_err(unreadable)
    };
    let pem = read("chain", &files.chain)?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong("chain", &files.chain, &format!("it is no PEM: {error}"), "name a chain in PEM"))?;
    if chain.is_empty() {
        return Err(wrong("chain", &files.chain, "there is no certificate in it", "name a chain in PEM"));
    }
    let pem = read("key", &files.key)?;
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| wrong("key", &files.key, "there is no private key in it", "name an unencrypted key in PEM"))?;
    CertifiedKey::from_der(chain.clone(), key.clone_key(), &default_provider()).map_err(|error| {
        let fix = "name the key that the certificate was made for: RSA, ECDSA P-256 or P-384, or Ed25519";
        wrong("key", &files.key, &format!("key and chain don't fit: {error}"), fix)
    })?;
    let names = files.names.clone().unwrap_or_else(|| names(&chain[0]));
    Ok(TlsIdentity { names, chain, key })
}

/// The host names that stand in a certificate.
fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    webpki::EndEntityCert::try_from(certificate)
        .map(|certificate| certificate.valid_dns_names().map(str::to_ascii_lowercase).collect())
        .unwrap_or_default()
}

/// Whether a certificate for these names is one for `host`: the name itself, or `*.` and one label.
pub(crate) fn covers(names: &[String], host: &str) -> bool {
    let wild = host.split_once('.').map(|(_, rest)| format!("*.{rest}"));
    names.iter().any(|name| {
        name.eq_ignore_ascii_case(host) || wild.as_ref().is_some_and(|wild| name.eq_ignore_ascii_case(wild))
    })
}

/// SHA-256 of a certificate's public key (SubjectPublicKeyInfo), as TLSA records of the kind `3 1 1` have it (RFC 6698).
pub(crate) fn key_digest(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    Some(sha256(&certificate.subject_public_key_info()))
}

/// SHA-256, by the provider that TLS uses.
pub(crate) fn sha256(data: &[u8]) -> Vec<u8> {
    use rustls::SupportedCipherSuite::{Tls12, Tls13};
    let hash = match rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256 {
        Tls13(suite) => suite.common.hash_provider,
        Tls12(suite) => suite.common.hash_provider,
    };
    hash.hash(data).as_ref().to_vec()
}

/// A certificate with its key, in PEM.
pub(crate) struct Made {
    /// The chain.
    pub(crate) chain: String,
    /// The private key.
    pub(crate) key: Zeroizing<String>,
}

/// A self-signed certificate for the names (or IP addresses), valid for a year.
pub(crate) fn self_signed(names: &[String]) -> Result<Made, rcgen::Error> {
    let key = KeyPair::generate()?;
    let certificate = server(names)?.self_signed(&key)?;
    Ok(Made { chain: certificate.pem(), key: Zeroizing::new(key.serialize_pem()) })
}

/// A throw-away authority, and a certificate for the names that it signed. The authority's key is forgotten at once.
pub(crate) fn with_authority(names: &[String]) -> Result<(String, Made), rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, "Mesyx demo authority");
    let key = KeyPair::generate()?;
    let authority = params.self_signed(&key)?;
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate()?;
    let mut params = server(names)?;
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok((authority.pem(), Made { chain: certificate.pem(), key: Zeroizing::new(key.serialize_pem()) }))
}

fn server(names: &[String]) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(first) = names.first() {
        params.distinguished_name.push(DnType::CommonName, first.as_str());
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let now = time::OffsetDateTime::now_utc();
    params.not_before = now - time::Duration::hours(1);
    params.not_after = now + time::Duration::days(365);
    Ok(params)
}
