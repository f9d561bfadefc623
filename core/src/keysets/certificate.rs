//! Certificates: what is shown of them, and the files that they come in.

use super::report::{CertificateInfo, Counted};
use crate::keys::import::{ImportError, read_certificates, read_secret_key};
use crate::keys::{certificate_expiry, encryption_key};
use crate::trace::rfc3339;
use mesyx_sdk::{Error, ErrorKind, Secret, Timestamp};
use openpgp::Cert;
use openpgp::serialize::SerializeInto;
use sequoia_openpgp as openpgp;
use std::time::{SystemTime, UNIX_EPOCH};

/// A key file that somebody hands in, armored or binary, locked or not.
#[derive(Debug, Clone)]
pub struct KeyFile {
    /// Its bytes: they may be secret.
    pub bytes: Secret,
    /// What its secret key is locked with.
    pub passphrase: Option<Secret>,
}

/// The certificates of a file, armored, without secret parts; and whether the file had any.
///
/// # Errors
/// [`ErrorKind::Invalid`], with what is wrong with the file.
pub fn read_public(bytes: &[u8]) -> Result<(Vec<u8>, bool), Error> {
    let certificates = read_certificates(bytes).map_err(refused)?;
    // A public file says so; whatever else is said of it, it holds a secret part.
    let secret = certificates.len() == 1 && !matches!(read_secret_key(bytes, None), Err(ImportError::PublicOnly(_)))
        || certificates.len() > 1 && holds_secret_armor(bytes);
    let mut armored = Vec::new();
    for certificate in certificates {
        armored.extend(certificate.armored().to_vec().map_err(|error| refused(error.to_string()))?);
    }
    Ok((armored, secret))
}

/// The unlocked secret key of a file that holds one, armored.
///
/// # Errors
/// See [`ImportError`]; [`ImportError::PassphraseNeeded`] where it is locked and no passphrase was given.
pub fn read_secret(bytes: &[u8], passphrase: Option<&Secret>) -> Result<Secret, ImportError> {
    let secret = read_secret_key(bytes, passphrase)?;
    let armored = secret.as_tsk().armored().to_vec().map_err(|error| ImportError::Damaged(error.to_string()))?;
    Ok(Secret::new(armored))
}

fn holds_secret_armor(bytes: &[u8]) -> bool {
    const LABEL: &[u8] = b"PRIVATE KEY BLOCK";
    bytes.windows(LABEL.len()).any(|window| window == LABEL)
}

/// The public certificates of files, each once.
pub(super) fn public(files: &[KeyFile]) -> Result<Vec<Cert>, Error> {
    let mut found: Vec<Cert> = Vec::new();
    for file in files {
        // What `read_public` wrote may be several armored blocks, one after the other.
        for block in blocks(file.bytes.expose()) {
            for certificate in read_certificates(block).map_err(refused)? {
                if !found.iter().any(|known| known.fingerprint() == certificate.fingerprint()) {
                    found.push(certificate);
                }
            }
        }
    }
    if found.is_empty() {
        return Err(refused("there is no certificate in it"));
    }
    Ok(found)
}

/// The armored blocks of a file; a binary file is one block.
fn blocks(bytes: &[u8]) -> Vec<&[u8]> {
    const BEGIN: &[u8] = b"-----BEGIN PGP PUBLIC KEY BLOCK-----";
    let starts: Vec<usize> =
        (0..bytes.len().saturating_sub(BEGIN.len())).filter(|at| bytes[*at..].starts_with(BEGIN)).collect();
    if starts.len() < 2 {
        return vec![bytes];
    }
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    starts.iter().zip(ends).map(|(start, end)| &bytes[*start..end]).collect()
}

/// The unlocked secret keys of files, each with its certificate.
pub(super) fn secret(files: &[KeyFile]) -> Result<Vec<Cert>, Error> {
    files.iter().map(|file| read_secret_key(file.bytes.expose(), file.passphrase.as_ref()).map_err(refused)).collect()
}

fn refused(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Invalid, error.to_string())
}

/// What is shown of a certificate.
pub(super) fn describe(certificate: &Cert, now: Timestamp) -> CertificateInfo {
    let key = encryption_key(certificate, now);
    let primary = certificate.primary_key();
    let algorithm = match &key {
        Ok((key, _)) => key.pk_algo(),
        Err(_) => primary.key().pk_algo(),
    };
    CertificateInfo {
        fingerprint: certificate.fingerprint().to_hex(),
        kind: format!("v{} {algorithm}", primary.key().version()),
        created: rfc3339(timestamp(primary.key().creation_time())),
        expires: certificate_expiry(certificate, now).map(rfc3339),
        unusable: key.err(),
    }
}

pub(super) fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

impl Counted {
    /// Of messages of days since 1970-01-01, the first and the last of them.
    pub(super) fn of(messages: u64, bytes: u64, days: (i32, i32)) -> Self {
        Self { messages, bytes, first_day: Some(day(days.0)), last_day: Some(day(days.1)) }
    }
}

/// A day as `YYYY-MM-DD`.
pub(super) fn day(day: i32) -> String {
    Timestamp(i64::from(day) * 86_400_000).utc().date().to_string()
}
