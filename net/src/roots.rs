//! Whom we believe about certificates.

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::path::{Path, PathBuf};

/// There are no certificate authorities to believe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootsError {
    /// The file that the configuration names can't be used.
    #[error("the certificate authorities in {0} can't be read: {1}")]
    File(PathBuf, String),
    /// The system has none.
    #[error(
        "this system has no certificate authorities; install the package ca-certificates, or name a PEM file in `roots`"
    )]
    None,
}

/// The certificate authorities of the PEM file, or of the system where there is none. Reads files: call it once.
///
/// # Errors
/// Where the file can't be read or holds none, or the system has none.
pub fn roots(file: Option<&Path>) -> Result<RootCertStore, RootsError> {
    let mut store = RootCertStore::empty();
    match file {
        Some(path) => {
            let wrong = |error: &dyn std::fmt::Display| RootsError::File(path.to_owned(), error.to_string());
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))? {
                store.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
            }
            if store.is_empty() {
                return Err(wrong(&"it holds no certificate"));
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "some of the system's certificate authorities can't be read");
            }
            store.add_parsable_certificates(found.certs);
            if store.is_empty() {
                return Err(RootsError::None);
            }
        }
    }
    Ok(store)
}
