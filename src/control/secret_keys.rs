//! What can be asked about secret keys, and how it is carried out.

use super::{Hidden, Proof};
use crate::exit::{Failure, trying};
use mesyx_core::core::Core;
use mesyx_core::secret_keys::{NewReseal, NewUnlock, Rekeyed, ResealKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;

/// One request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub(crate) enum SecretKeyRequest {
    /// → [`Exported`]
    Export { user: String, keyset: String, proof: Proof, passphrase: Option<Hidden> },
    /// → `mesyx_core::secret_keys::KeysetShown`
    Offline { user: String, keyset: String, proof: Proof, exported: Hidden, passphrase: Option<Hidden> },
    /// → `mesyx_core::secret_keys::KeysetShown`
    Online { user: String, keyset: String, proof: Proof, file: Hidden, passphrase: Option<Hidden> },
    /// → `mesyx_core::secret_keys::UnlockedKeyset`
    Unlock { user: String, keyset: String, file: Hidden, passphrase: Option<Hidden>, seconds: u64 },
    /// → nothing
    Lock { user: String, keyset: String },
    /// → `mesyx_core::secret_keys::ResealProgress`
    Reseal { user: String, from: String, to: String, key: Key },
    /// → list of `mesyx_core::secret_keys::ResealProgress`
    Reseals,
    /// → [`NewKeys`]
    Rekey { user: String, proof: Proof, password: Option<Hidden> },
}

/// What opens the messages that are to be sealed anew.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub(crate) enum Key {
    /// The keyset is online.
    Proof(Proof),
    /// The keyset is offline.
    File { file: Hidden, passphrase: Option<Hidden> },
}

/// A keyset's secret keys, to be written to a file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Exported {
    /// The armored keys.
    pub(crate) armored: Hidden,
    /// The fingerprints of their certificates.
    pub(crate) fingerprints: Vec<String>,
    /// Messages that are sealed to the keyset.
    pub(crate) messages: u64,
}

/// A user has new keys. The recovery key is shown once.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NewKeys {
    /// The login name.
    pub(crate) name: String,
    /// Opens the user's messages where every password is lost.
    pub(crate) recovery_key: Hidden,
    /// App passwords that are gone.
    pub(crate) revoked: Vec<String>,
    /// Keysets that were replaced.
    pub(crate) keysets: Vec<String>,
    /// Keysets that stay, because their secret keys are not here.
    pub(crate) offline: Vec<String>,
}

impl From<Rekeyed> for NewKeys {
    fn from(rekeyed: Rekeyed) -> Self {
        let Rekeyed { account, recovery_key, revoked, keysets, offline } = rekeyed;
        Self { name: account.name, recovery_key: Hidden(recovery_key), revoked, keysets, offline }
    }
}

/// Carries out a request.
pub(crate) async fn operate(core: &Core, request: SecretKeyRequest) -> Result<Value, Failure> {
    use SecretKeyRequest as R;
    let open = |passphrase: Option<Hidden>| passphrase.map(|hidden| hidden.0);
    match request {
        R::Export { user, keyset, proof, passphrase } => {
            let exported = core.export_keyset(&user, &keyset, proof.into(), open(passphrase)).await?;
            let armored = Hidden(exported.armored);
            json(Exported { armored, fingerprints: exported.fingerprints, messages: exported.messages })
        }
        R::Offline { user, keyset, proof, exported, passphrase } => {
            let passphrase = open(passphrase);
            json(core.take_keyset_offline(&user, &keyset, proof.into(), &exported.0, passphrase.as_ref()).await?)
        }
        R::Online { user, keyset, proof, file, passphrase } => {
            let passphrase = open(passphrase);
            json(core.bring_keyset_online(&user, &keyset, proof.into(), &file.0, passphrase.as_ref()).await?)
        }
        R::Unlock { user, keyset, file, passphrase, seconds } => {
            let passphrase = open(passphrase);
            let time = Duration::from_secs(seconds);
            json(core.unlock_keyset(NewUnlock { user, keyset, file: file.0, passphrase, time }).await?)
        }
        R::Lock { user, keyset } => Ok(core.lock_keyset(&user, &keyset).map(|()| Value::Null)?),
        R::Reseal { user, from, to, key } => {
            let key = match key {
                Key::Proof(proof) => ResealKey::Proof(proof.into()),
                Key::File { file, passphrase } => ResealKey::File { file: file.0, passphrase: open(passphrase) },
            };
            json(core.start_reseal(NewReseal { user, from, to, key }).await?)
        }
        R::Reseals => json(core.reseals()),
        R::Rekey { user, proof, password } => {
            json(NewKeys::from(core.rekey(&user, proof.into(), open(password)).await?))
        }
    }
}

fn json(value: impl Serialize) -> Result<Value, Failure> {
    serde_json::to_value(value).map_err(trying("the answer"))
}
