//! Reads key files that somebody hands in: certificates made elsewhere, secret keys brought back.
//!
//! ```text
//!   bytes --(length)--> armor off --(kinds, counts, sizes of packets)--> certificates
//!   secret key --(cost of all passphrase hashing, added up)--> unlocked --> fits its certificate? --> Cert
//! ```
//! A file may be hostile. Before anything is computed, everything that decides what it will cost is known and within
//! [`ImportLimits`]: the length of the file, the number and size of packets (a signature out of place is hashed with every
//! component of its certificate), and the work that all of its passphrase hashing (S2K, RFC 9580, section 3.7) asks for.

mod packets;
mod unlock;

use mesyx_sdk::Secret;
use openpgp::Cert;
use openpgp::cert::CertParser;
use sequoia_openpgp as openpgp;

/// How much a key file may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportLimits {
    /// Length of the file, armor included, in bytes.
    pub file_bytes: usize,
    /// Certificates in one file.
    pub certificates: usize,
    /// Keys of one certificate.
    pub keys: usize,
    /// Length of one key's packet, in bytes: the longest post-quantum ones have some 5,000.
    pub key_bytes: usize,
    /// User IDs and attributes of one certificate, and packets of unknown kinds.
    pub user_ids: usize,
    /// Signatures of one certificate.
    pub signatures: usize,
    /// Bytes that iterated S2K may hash, all keys together. One key takes 65 MB at most, which `sq` and a fast GnuPG ask for.
    pub hashed_bytes: u64,
    /// Memory for Argon2, in KiB.
    pub argon2_memory_kib: u64,
    /// Memory in KiB times passes of Argon2, all keys together.
    pub argon2_work_kib: u64,
}

impl ImportLimits {
    /// Room for what people have: a year of weekly certificates, a key with ten subkeys under the costliest iterated S2K or under
    /// the second choice of RFC 9106 (64 MiB, 3 passes). At worst a few seconds and 1 GiB for a moment.
    pub const DEFAULT: Self = Self {
        file_bytes: 1 << 20,
        certificates: 256,
        keys: 32,
        key_bytes: 16 << 10,
        user_ids: 32,
        signatures: 1000,
        hashed_bytes: 1 << 30,
        argon2_memory_kib: 1 << 20,
        argon2_work_kib: 4 << 20,
    };
}

impl Default for ImportLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Why a key file is refused. Each text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// Longer than a key file is.
    #[error("the file is longer than {0} bytes: export this key alone, without signatures that others made on it")]
    TooLarge(usize),
    /// Neither armored nor binary OpenPGP.
    #[error("this is no OpenPGP key file: it begins neither with -----BEGIN PGP nor with an OpenPGP packet")]
    NotOpenPgp,
    /// OpenPGP, but a message or a signature.
    #[error(
        "this is OpenPGP, but no key: it holds {0}; export a key with `gpg --export` or `gpg --export-secret-keys`"
    )]
    NoKey(String),
    /// It breaks off.
    #[error("the file is cut short: it ends in the middle; copy it again, whole")]
    Truncated,
    /// It has more of something than is taken: of what, and the limit.
    #[error("the file has more than {1} {0}: export fewer, without signatures that others made")]
    TooMany(&'static str, usize),
    /// It can't be read: why.
    #[error("the key file is damaged: {0}; export it again")]
    Damaged(String),
    /// More certificates than one.
    #[error("the file holds {0} keys: give one that holds a single key")]
    Several(usize),
    /// A public certificate, where a secret key is wanted.
    #[error("the file holds only the public certificate {0}: export the secret key, with `gpg --export-secret-keys`")]
    PublicOnly(String),
    /// The secret part that opens messages was left out or lies on a card.
    #[error(
        "the secret key that opens messages is not in the file: {0} was exported without it (a stub, as GnuPG writes for keys on a card or on another machine); export it where it is"
    )]
    Stub(String),
    /// It is locked, and no passphrase was given.
    #[error("the secret key is locked: give its passphrase")]
    PassphraseNeeded,
    /// The passphrase is not the right one, or the locked part was damaged.
    #[error("the secret key does not open with this passphrase: check it, and that the file is whole")]
    WrongPassphrase,
    /// Unlocking it would cost more than is allowed: what it asks for.
    #[error(
        "unlocking this key asks for {0}, more than is allowed: change its passphrase where it was made, with a smaller cost, and export it again"
    )]
    Costly(String),
    /// It is locked in a way that is not known here: which.
    #[error("the secret key is locked in a way that this program does not know ({0}): export it with a common one")]
    UnknownLock(String),
    /// This build does not use secret keys of that kind.
    #[error(
        "{0} secret keys are not used in this build, because its arithmetic takes a time that depends on the key: keep it offline and open its messages with your own program, or build Mesyx with `--no-default-features --features crypto-openssl`"
    )]
    VariableTime(&'static str),
    /// The secret part belongs to another key than the public part that it stands beside.
    #[error("the secret key does not fit its own certificate: key {0}; export it again")]
    Mismatch(String),
}

/// Reads a file with one secret key: armored or binary, locked or not. Every secret key in the result is unlocked; those that the
/// file has only a stub of are public in it. May take seconds and much memory within [`ImportLimits::DEFAULT`]: not for a thread that serves others.
///
/// Whether it is expired or revoked is not looked at: such a key still opens what was sealed to it.
///
/// # Errors
/// See [`ImportError`].
pub fn read_secret_key(bytes: &[u8], passphrase: Option<&Secret>) -> Result<Cert, ImportError> {
    read_secret_key_within(&ImportLimits::DEFAULT, bytes, passphrase)
}

/// As [`read_secret_key`], with other limits.
///
/// # Errors
/// As there.
pub fn read_secret_key_within(
    limits: &ImportLimits,
    bytes: &[u8],
    passphrase: Option<&Secret>,
) -> Result<Cert, ImportError> {
    let mut certificates = read(limits, bytes)?;
    let certificate = certificates.pop().ok_or_else(|| ImportError::NoKey("nothing".into()))?;
    if !certificates.is_empty() {
        return Err(ImportError::Several(certificates.len() + 1));
    }
    unlock::unlock(limits, certificate, passphrase)
}

/// Most certificates whose secret keys a keyset holds here, and so most of one file: those of a keyset that are in use at once, and
/// as many that were replaced.
pub const MOST_SECRET_KEYS: usize = 32;

/// As [`read_secret_key`], of a file with the secret keys of up to [`MOST_SECRET_KEYS`] certificates, all locked with one passphrase or
/// none; each within the limits by itself.
///
/// # Errors
/// As there.
pub fn read_secret_keys(bytes: &[u8], passphrase: Option<&Secret>) -> Result<Vec<Cert>, ImportError> {
    let limits = ImportLimits { certificates: MOST_SECRET_KEYS, ..ImportLimits::DEFAULT };
    let certificates = read(&limits, bytes)?;
    certificates.into_iter().map(|certificate| unlock::unlock(&limits, certificate, passphrase)).collect()
}

/// Reads a file of certificates, at least one: armored or binary. Secret parts, should there be any, are dropped and erased.
///
/// # Errors
/// See [`ImportError`].
pub fn read_certificates(bytes: &[u8]) -> Result<Vec<Cert>, ImportError> {
    let certificates = read(&ImportLimits::DEFAULT, bytes)?;
    Ok(certificates.into_iter().map(Cert::strip_secret_key_material).collect())
}

/// The certificates of a file as they stand there.
fn read(limits: &ImportLimits, bytes: &[u8]) -> Result<Vec<Cert>, ImportError> {
    let packets = packets::read(limits, bytes)?;
    let damaged = |error: openpgp::anyhow::Error| ImportError::Damaged(one_line(&error));
    let certificates: Vec<_> = CertParser::from(packets).collect::<Result<_, _>>().map_err(damaged)?;
    if certificates.is_empty() {
        return Err(ImportError::NoKey("nothing".into()));
    }
    Ok(certificates)
}

/// What the library said, fit for one line: it may quote the file.
fn one_line(error: &openpgp::anyhow::Error) -> String {
    let text = error.to_string();
    text.chars().filter(|c| !c.is_control()).take(160).collect()
}

#[cfg(test)]
mod tests;
