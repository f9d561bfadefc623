//! A user's master key, and secret keys wrapped under it.
//!
//! A wrapped secret key begins with a byte that says how it was wrapped:
//! - 1: directly under the master key, one certificate;
//! - 2: under a key derived from the master key for wrapping alone ([`WrappingKey`]), any number of certificates, with a clear
//!   list of them in front, so that it can be told without a password which keys are here.

use super::vault::{derive, open, random, seal};
use crate::id::KeysetId;
use crate::seal::RecipientId;
use crate::store::{Held, StoredSecretKey};
use mesyx_sdk::UserId;
use minicbor::{Decode, Encode};
use openpgp::Cert;
use openpgp::cert::CertParser;
use openpgp::parse::Parse;
use openpgp::serialize::MarshalInto;
use sequoia_openpgp as openpgp;
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The key that a user's secret keys are wrapped under: 32 random bytes. Erased when dropped.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; 32]>);

/// Why a secret key can't be wrapped or unwrapped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// It was damaged, or wrapped for another user, keyset or master key.
    #[error("a stored secret key is damaged or belongs elsewhere")]
    Damaged,
    /// It was written by a newer Mesyx.
    #[error("a stored secret key was written by a newer Mesyx: use the newer program")]
    Newer,
    /// The certificate has no secret part, or one that is locked with a passphrase.
    #[error("the certificate has no secret key, or it is locked with a passphrase: remove that first")]
    NoSecret,
}

impl MasterKey {
    /// A fresh key.
    #[must_use]
    pub fn random() -> Self {
        Self(Zeroizing::new(random()))
    }

    pub(super) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(super) fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// What wraps and unwraps a user's secret keys, and can do nothing else: no password can be set with it.
    #[must_use]
    pub fn wrapping_key(&self, user: UserId) -> WrappingKey {
        let key = derive(&[], &self.0[..], &[b"mesyx wrapping key 1\0", user.as_bytes()]);
        WrappingKey { user, key: Box::new(key) }
    }

    /// Wraps the secret part of a certificate: of a keyset, or of the identity where `keyset` is `None`.
    ///
    /// # Errors
    /// [`KeyError::NoSecret`].
    pub fn wrap(&self, user: UserId, keyset: Option<KeysetId>, secret: &Cert) -> Result<StoredSecretKey, KeyError> {
        self.wrapping_key(user).wrap(keyset, std::slice::from_ref(secret))
    }

    /// Opens wrapped secret keys: one certificate for each secret key that is there, never none.
    ///
    /// # Errors
    /// [`KeyError::Damaged`] also where the key stood for another user or keyset.
    pub fn unwrap(&self, user: UserId, stored: &StoredSecretKey) -> Result<Vec<Cert>, KeyError> {
        if stored.wrapped.first() != Some(&DIRECT) {
            return self.wrapping_key(user).unwrap(stored);
        }
        let keyset = stored.keyset;
        let bound = aad(DIRECT_PREFIX, user, keyset, &[]);
        certificates(&open(&derive(&[], &self.0[..], &[&bound]), &bound, &stored.wrapped)?)
    }
}

/// Wraps and unwraps one user's secret keys. An unlocked session holds it, so that a rotation can keep the secret keys that
/// it makes. Erased when dropped.
#[derive(Clone)]
pub struct WrappingKey {
    user: UserId,
    /// In one place, however often this is moved.
    key: Box<Zeroizing<[u8; 32]>>,
}

/// A certificate whose secret key is kept, as it stands in clear before the wrapped keys.
#[derive(Encode, Decode)]
struct Listed {
    /// The certificate's fingerprint.
    #[cbor(n(0), with = "minicbor::bytes")]
    fingerprint: Vec<u8>,
}

/// The fingerprints of the certificates whose secret keys are in a wrapped record, read without any key; what opens is what counts.
/// `None` for records that don't say it (those of the first format: one certificate each).
#[must_use]
pub fn listed(stored: &StoredSecretKey) -> Option<Vec<Vec<u8>>> {
    let (header, _) = split(&stored.wrapped).ok()?;
    let listed: Vec<Listed> = minicbor::decode(header).ok()?;
    Some(listed.into_iter().map(|listed| listed.fingerprint).collect())
}

/// What a certificate would open, were its secret parts here: of one with secret parts, those that are.
pub(crate) fn holding(certificate: &Cert) -> Held {
    let whole = !certificate.is_tsk();
    let keys = certificate.keys().filter(|key| whole || key.key().has_secret());
    let keys = keys.filter_map(|key| RecipientId::of(&key.key().keyid())).collect();
    Held { fingerprint: certificate.fingerprint().as_bytes().to_vec(), keys }
}

impl WrappingKey {
    /// Whose secret keys it wraps.
    #[must_use]
    pub const fn user(&self) -> UserId {
        self.user
    }

    /// Wraps the secret parts of certificates, at least one: of a keyset, or of the identity where `keyset` is `None`.
    ///
    /// # Errors
    /// [`KeyError::NoSecret`] where one has none, or one that is locked with a passphrase.
    pub fn wrap(&self, keyset: Option<KeysetId>, secrets: &[Cert]) -> Result<StoredSecretKey, KeyError> {
        let locked = |cert: &Cert| cert.keys().secret().any(|key| key.key().secret().is_encrypted());
        if secrets.is_empty() || secrets.iter().any(|secret| !secret.is_tsk() || locked(secret)) {
            return Err(KeyError::NoSecret);
        }
        let length = secrets.iter().map(|secret| secret.as_tsk().serialized_len()).sum();
        let mut clear = Zeroizing::new(Vec::with_capacity(length));
        let mut list = Vec::with_capacity(secrets.len());
        for secret in secrets {
            let bytes = Zeroizing::new(secret.as_tsk().to_vec().map_err(|_| KeyError::NoSecret)?);
            clear.extend_from_slice(&bytes);
            list.push(Listed { fingerprint: secret.fingerprint().as_bytes().to_vec() });
        }
        let header = minicbor::to_vec(list).map_err(|_| KeyError::Damaged)?;
        let length = u16::try_from(header.len()).map_err(|_| KeyError::Damaged)?;
        let bound = aad(DERIVED_PREFIX, self.user, keyset, &header);
        let sealed = seal(&self.key_for(keyset), &bound, &clear).ok_or(KeyError::Damaged)?;
        let mut wrapped = vec![DERIVED];
        wrapped.extend_from_slice(&length.to_be_bytes());
        wrapped.extend_from_slice(&header);
        wrapped.extend_from_slice(&sealed);
        Ok(StoredSecretKey { keyset, wrapped, held: secrets.iter().map(holding).collect() })
    }

    /// Opens what [`WrappingKey::wrap`] made.
    ///
    /// # Errors
    /// [`KeyError::Damaged`] also where it was wrapped directly under the master key, which this is not.
    pub fn unwrap(&self, stored: &StoredSecretKey) -> Result<Vec<Cert>, KeyError> {
        let (header, sealed) = split(&stored.wrapped)?;
        let bound = aad(DERIVED_PREFIX, self.user, stored.keyset, header);
        certificates(&open(&self.key_for(stored.keyset), &bound, sealed)?)
    }

    /// A key of its own for each secret key, so that a random nonce can't repeat under one.
    fn key_for(&self, keyset: Option<KeysetId>) -> Zeroizing<[u8; 32]> {
        derive(&[], &self.key[..], &[&aad(DERIVED_PREFIX, self.user, keyset, &[])])
    }
}

impl fmt::Debug for WrappingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WrappingKey(…)")
    }
}

/// The first byte of what is wrapped directly under the master key.
const DIRECT: u8 = 1;
/// The first byte of what is wrapped under a [`WrappingKey`].
const DERIVED: u8 = 2;
const DIRECT_PREFIX: &[u8] = b"mesyx secret key 1\0";
const DERIVED_PREFIX: &[u8] = b"mesyx secret key 2\0";

/// The clear list, and the sealed keys.
fn split(wrapped: &[u8]) -> Result<(&[u8], &[u8]), KeyError> {
    match wrapped {
        [DERIVED, high, low, rest @ ..] => {
            rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low]))).ok_or(KeyError::Damaged)
        }
        [DIRECT | DERIVED, ..] | [] => Err(KeyError::Damaged),
        _ => Err(KeyError::Newer),
    }
}

fn certificates(clear: &[u8]) -> Result<Vec<Cert>, KeyError> {
    let parser = CertParser::from_bytes(clear).map_err(|_| KeyError::Damaged)?;
    let found = parser.collect::<openpgp::Result<Vec<Cert>>>().map_err(|_| KeyError::Damaged)?;
    if found.is_empty() { Err(KeyError::Damaged) } else { Ok(found) }
}

impl PartialEq for MasterKey {
    fn eq(&self, other: &Self) -> bool {
        self.0[..].ct_eq(&other.0[..]).into()
    }
}

impl Eq for MasterKey {}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

/// What a wrapped secret key is bound to.
fn aad(prefix: &[u8], user: UserId, keyset: Option<KeysetId>, list: &[u8]) -> Vec<u8> {
    let mut aad = prefix.to_vec();
    aad.extend_from_slice(user.as_bytes());
    match keyset {
        Some(keyset) => {
            aad.push(1);
            aad.extend_from_slice(&keyset.0);
        }
        None => aad.push(0),
    }
    aad.extend_from_slice(list);
    aad
}
