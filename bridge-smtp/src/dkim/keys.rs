//! A domain's keys, as a service secret holds them.

use super::Algorithm;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mail_auth::common::crypto::{DkimKey, Ed25519Key, RsaKey, Sha256};
use mesyx_sdk::Secret;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// All keys of one domain: made by the program, read by the bridge. The secret `dkim.DOMAIN` holds it as JSON.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRing {
    /// The newest last.
    pub keys: Vec<Key>,
}

/// One key.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// What stands before `._domainkey.DOMAIN`; unique in the domain.
    pub selector: String,
    /// What kind of key it is.
    pub algorithm: Algorithm,
    /// What it is for now.
    pub state: KeyState,
    /// The day on which it was made, as `YYYY-MM-DD` in UTC.
    pub made: String,
    /// The public part as `p=` has it: base64 of the SubjectPublicKeyInfo (RSA) or of the 32 bytes (Ed25519).
    pub public: String,
    /// The secret part: base64 of PKCS #8. Absent from a key that is retired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private: Option<PrivateKey>,
}

/// The secret part of a key as text; erased when dropped, never shown.
#[derive(PartialEq, Eq)]
pub struct PrivateKey(Zeroizing<String>);

impl PrivateKey {
    /// From PKCS #8 in DER.
    #[must_use]
    pub fn from_der(der: &[u8]) -> Self {
        Self(Zeroizing::new(STANDARD.encode(der)))
    }
}

impl Serialize for PrivateKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PrivateKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// To be published; it signs nothing until it is made active.
    Next,
    /// It signs.
    Active,
    /// It signs nothing any more, but what it signed may still be on its way: its record stays in DNS for a while.
    Retired,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({} {} {:?})", self.selector, self.algorithm.name(), self.state)
    }
}

/// Why keys can't be used. Says nothing of the keys themselves.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The secret is no key ring.
    #[error("the service secret is no ring of DKIM keys; make new ones with `mesyx dns keys add`")]
    Malformed,
    /// One key can't be read.
    #[error("the key {0} is damaged; make new ones with `mesyx dns keys rotate`")]
    Damaged(String),
}

impl KeyRing {
    /// Reads a service secret.
    ///
    /// # Errors
    /// [`KeyError::Malformed`].
    pub fn from_secret(secret: &Secret) -> Result<Self, KeyError> {
        serde_json::from_slice(secret.expose()).map_err(|_| KeyError::Malformed)
    }

    /// What a service secret is to hold.
    ///
    /// # Errors
    /// [`KeyError::Malformed`], which no ring that was made here is.
    pub fn to_secret(&self) -> Result<Secret, KeyError> {
        // Room enough that no shorter copy is left behind when it grows.
        let mut text = Vec::with_capacity(16 << 10);
        serde_json::to_writer(&mut text, self).map_err(|_| KeyError::Malformed)?;
        Ok(Secret::new(text))
    }

    /// The active keys of these kinds, ready to sign, in the order of `algorithms`.
    pub(super) fn signers(&self, algorithms: &[Algorithm]) -> Result<Vec<Signer>, KeyError> {
        let active = |algorithm: &Algorithm| {
            let algorithm = *algorithm;
            self.keys.iter().filter(move |key| key.state == KeyState::Active && key.algorithm == algorithm)
        };
        algorithms.iter().flat_map(active).map(Signer::new).collect()
    }
}

/// A key that signs.
pub(super) struct Signer {
    pub(super) selector: String,
    pub(super) algorithm: Algorithm,
    pub(super) key: DkimKey,
}

impl Signer {
    fn new(key: &Key) -> Result<Self, KeyError> {
        let damaged = || KeyError::Damaged(key.selector.clone());
        let text = key.private.as_ref().ok_or_else(damaged)?;
        let der = Zeroizing::new(STANDARD.decode(text.0.as_bytes()).map_err(|_| damaged())?);
        let loaded = match key.algorithm {
            Algorithm::RsaSha256 => {
                let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(&der[..]));
                RsaKey::<Sha256>::from_key_der(der).map(DkimKey::Rsa)
            }
            Algorithm::Ed25519Sha256 => Ed25519Key::from_pkcs8_maybe_unchecked_der(&der).map(DkimKey::Ed25519),
        };
        let selector = key.selector.clone();
        Ok(Self { selector, algorithm: key.algorithm, key: loaded.map_err(|_| damaged())? })
    }
}
