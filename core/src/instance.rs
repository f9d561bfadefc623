//! The instance's own key: what it needs without anybody's password.
//!
//! One secret of 32 bytes in a file outside the data directory, so that a copy of the data alone opens nothing. From it come, by
//! HKDF-SHA256, keys that serve one purpose each: the signing key of attestations, the key of service secrets, and HMAC keys.
//! It opens no stored message.

use crate::id::InstanceId;
use crate::keys::KeyError;
use crate::keys::vault;
use crate::store::{Attest, Attestation};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use ring::{digest, hmac};
use std::collections::HashSet;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The keys of one instance. `Debug` hides them; they are erased when dropped, as far as ring lets us.
pub struct InstanceKey {
    id: InstanceId,
    signing: Ed25519KeyPair,
    secrets: Zeroizing<[u8; 32]>,
    dedup: hmac::Key,
    addresses: hmac::Key,
    names: hmac::Key,
}

/// Why an instance key can't be made or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstanceKeyError {
    /// The file system refused.
    #[error("the instance key {}: {error}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// Others than its owner may read or write the file.
    #[error("the instance key {} may be read by others (mode {mode:o}): run `chmod 600` on it", .path.display())]
    Mode {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It holds something else, or was cut short.
    #[error("the instance key {} is damaged: restore it from your backup; without it service secrets and the queue can't be read", .0.display())]
    Damaged(PathBuf),
}

/// A service secret can't be opened: damaged, stored under another name, or sealed under another instance key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the service secret {name} can't be opened: {why}")]
pub struct SecretError {
    name: String,
    why: KeyError,
}

/// What the file begins with.
const MARK: &str = "mesyx instance key 1 ";

impl InstanceKey {
    /// Makes a key and writes it to a new file with mode 0600, synced to disk.
    ///
    /// # Errors
    /// Where the file is there already, or can't be written.
    pub fn create(path: &Path) -> Result<Self, InstanceKeyError> {
        let file_error = |error| InstanceKeyError::File { path: path.to_owned(), error };
        let secret: Zeroizing<[u8; 32]> = Zeroizing::new(vault::random());
        let text = Zeroizing::new(format!("{MARK}{}\n", STANDARD_NO_PAD.encode(&secret[..])));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(file_error)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        // The name is durable only when its directory is.
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let written = written.and_then(|()| File::open(parent)?.sync_all());
        if let Err(error) = written {
            let _ = std::fs::remove_file(path);
            return Err(file_error(error));
        }
        Self::from_secret(&secret).ok_or_else(|| InstanceKeyError::Damaged(path.to_owned()))
    }

    /// Reads a key from a file that only its owner may read.
    ///
    /// # Errors
    /// Where it can't be read, is damaged, or may be read by others.
    pub fn load(path: &Path) -> Result<Self, InstanceKeyError> {
        Self::read(path, true)
    }

    /// Reads a key from systemd's credential directory (`LoadCredential=`), whose files the service manager protects.
    ///
    /// # Errors
    /// Where it can't be read or is damaged.
    pub fn load_credential(path: &Path) -> Result<Self, InstanceKeyError> {
        Self::read(path, false)
    }

    fn read(path: &Path, check_mode: bool) -> Result<Self, InstanceKeyError> {
        let file_error = |error| InstanceKeyError::File { path: path.to_owned(), error };
        let file = File::open(path).map_err(file_error)?;
        let mode = file.metadata().map_err(file_error)?.permissions().mode() & 0o777;
        if check_mode && mode & 0o077 != 0 {
            return Err(InstanceKeyError::Mode { path: path.to_owned(), mode });
        }
        let damaged = || InstanceKeyError::Damaged(path.to_owned());
        let mut text = Zeroizing::new(String::with_capacity(256));
        file.take(200).read_to_string(&mut text).map_err(file_error)?;
        let encoded = text.strip_prefix(MARK).ok_or_else(damaged)?.trim_end();
        let bytes = Zeroizing::new(STANDARD_NO_PAD.decode(encoded).map_err(|_| damaged())?);
        let secret = Zeroizing::new(<[u8; 32]>::try_from(&bytes[..]).map_err(|_| damaged())?);
        Self::from_secret(&secret).ok_or_else(damaged)
    }

    fn from_secret(secret: &[u8; 32]) -> Option<Self> {
        let key = |purpose: &[u8]| vault::derive(b"mesyx instance key 1", secret, &[purpose]);
        let signing = Ed25519KeyPair::from_seed_unchecked(&key(b"attestation")[..]).ok()?;
        Some(Self {
            id: instance_id(signing.public_key().as_ref()),
            signing,
            secrets: key(b"service secrets"),
            dedup: hmac::Key::new(hmac::HMAC_SHA256, &key(b"dedup")[..]),
            addresses: hmac::Key::new(hmac::HMAC_SHA256, &key(b"addresses in logs")[..]),
            names: hmac::Key::new(hmac::HMAC_SHA256, &key(b"names")[..]),
        })
    }

    /// The public key that verifies this instance's attestations: Ed25519, 32 bytes.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        self.signing.public_key().as_ref()
    }

    /// Seals a service secret (DKIM key, TLS key, a network's password) under its name.
    #[must_use]
    pub fn seal_secret(&self, name: &str, secret: &[u8]) -> Vec<u8> {
        // Fails only beyond 64 GiB.
        vault::seal(&self.secret_key(name), name.as_bytes(), secret).unwrap_or_default()
    }

    /// Opens a service secret; only under the name that it was sealed under.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn open_secret(&self, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        vault::open(&self.secret_key(name), name.as_bytes(), sealed)
            .map_err(|why| SecretError { name: name.to_owned(), why })
    }

    fn secret_key(&self, name: &str) -> Zeroizing<[u8; 32]> {
        vault::derive(b"mesyx service secret 1", &self.secrets[..], &[name.as_bytes()])
    }

    /// What the store keeps of the name that an origin gave a message: a bare hash would confirm a guess.
    #[must_use]
    pub fn dedup(&self, name: &[u8]) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(hmac::sign(&self.dedup, name).as_ref());
        out
    }

    /// What stands in the store for a name that must not: a keyed hash of its pieces, for one purpose.
    #[must_use]
    pub fn name_hash(&self, purpose: &str, pieces: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.names);
        for piece in std::iter::once(purpose.as_bytes()).chain(pieces.iter().copied()) {
            context.update(&(piece.len() as u64).to_be_bytes());
            context.update(piece);
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.sign().as_ref());
        out
    }

    /// What a log shows of an address on a day (days since 1970-01-01, UTC): 16 hexadecimal digits, others the next day.
    #[must_use]
    pub fn address_hash(&self, day: i32, address: &str) -> String {
        let mut context = hmac::Context::with_key(&self.addresses);
        context.update(&day.to_be_bytes());
        context.update(address.to_lowercase().as_bytes());
        context.sign().as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Attest for InstanceKey {
    fn instance(&self) -> InstanceId {
        self.id
    }

    fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        self.signing.sign(bytes).as_ref().to_vec()
    }
}

impl fmt::Debug for InstanceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InstanceKey({})", self.id)
    }
}

/// An instance's id is the beginning of SHA-256 of its public key, so that it can't claim another's.
#[must_use]
pub fn instance_id(public_key: &[u8]) -> InstanceId {
    let mut id = [0; 16];
    id.copy_from_slice(&digest::digest(&digest::SHA256, public_key).as_ref()[..16]);
    InstanceId(id)
}

/// An attestation whose signature was verified: what its instance says that it took in. Keep it to look up many parts.
#[derive(Debug)]
pub struct VerifiedAttestation {
    instance: InstanceId,
    digests: HashSet<[u8; 32]>,
}

impl VerifiedAttestation {
    /// Verifies an attestation's signature; `None` where it is not this key's, or its form is wrong.
    #[must_use]
    pub fn verify(attestation: &Attestation, public_key: &[u8]) -> Option<Self> {
        if attestation.instance != instance_id(public_key) {
            return None;
        }
        let (digests, []) = attestation.digests.as_chunks::<32>() else { return None };
        let signed = [Attestation::SIGNED_PREFIX, &attestation.digests].concat();
        UnparsedPublicKey::new(&ED25519, public_key).verify(&signed, &attestation.signature).ok()?;
        Some(Self { instance: attestation.instance, digests: digests.iter().copied().collect() })
    }

    /// Which instance signed.
    #[must_use]
    pub const fn instance(&self) -> InstanceId {
        self.instance
    }

    /// Whether it covers a part, by its [`crate::store::part_digest`].
    #[must_use]
    pub fn covers(&self, digest: &[u8; 32]) -> bool {
        self.digests.contains(digest)
    }
}

/// Whether an attestation is signed by this key and covers a part. For one look; [`VerifiedAttestation`] for many.
#[must_use]
pub fn verify_attestation(attestation: &Attestation, public_key: &[u8], digest: &[u8; 32]) -> bool {
    VerifiedAttestation::verify(attestation, public_key).is_some_and(|verified| verified.covers(digest))
}

#[cfg(test)]
mod tests;
