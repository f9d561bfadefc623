//! A user's master key, and secret keys wrapped under it.

use super::vault::{derive, open, random, seal};
use crate::id::KeysetId;
use crate::store::StoredSecretKey;
use mesyx_sdk::UserId;
use openpgp::Cert;
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

    /// Wraps the secret part of a certificate: of a keyset, or of the identity where `keyset` is `None`.
    ///
    /// # Errors
    /// [`KeyError::NoSecret`].
    pub fn wrap(&self, user: UserId, keyset: Option<KeysetId>, secret: &Cert) -> Result<StoredSecretKey, KeyError> {
        let locked = secret.keys().secret().any(|key| key.key().secret().is_encrypted());
        if !secret.is_tsk() || locked {
            return Err(KeyError::NoSecret);
        }
        let clear = Zeroizing::new(secret.as_tsk().to_vec().map_err(|_| KeyError::NoSecret)?);
        let wrapped = seal(&self.key_for(user, keyset), &aad(user, keyset), &clear).ok_or(KeyError::Damaged)?;
        Ok(StoredSecretKey { keyset, wrapped })
    }

    /// Opens a wrapped secret key.
    ///
    /// # Errors
    /// [`KeyError::Damaged`] also where the key stood for another user or keyset.
    pub fn unwrap(&self, user: UserId, stored: &StoredSecretKey) -> Result<Cert, KeyError> {
        let keyset = stored.keyset;
        let clear = open(&self.key_for(user, keyset), &aad(user, keyset), &stored.wrapped)?;
        Cert::from_bytes(&clear[..]).map_err(|_| KeyError::Damaged)
    }

    /// A key of its own for each secret key, so that a random nonce can't repeat under one.
    fn key_for(&self, user: UserId, keyset: Option<KeysetId>) -> Zeroizing<[u8; 32]> {
        derive(&[], &self.0[..], &[&aad(user, keyset)])
    }
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
fn aad(user: UserId, keyset: Option<KeysetId>) -> Vec<u8> {
    let mut aad = b"mesyx secret key 1\0".to_vec();
    aad.extend_from_slice(user.as_bytes());
    match keyset {
        Some(keyset) => {
            aad.push(1);
            aad.extend_from_slice(&keyset.0);
        }
        None => aad.push(0),
    }
    aad
}
