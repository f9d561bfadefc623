//! What `mesyx contact` asks for, carried out.

use super::{done, json};
use crate::control::Proof;
use crate::exit::Failure;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mesyx_core::core::Core;
use mesyx_core::pgp::{Policy, Signing};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// What is to be done with a user's contacts. All but the last three answer with a `mesyx_core::pgp::ContactReport`, or a list of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub(crate) enum Change {
    List,
    Show {
        address: String,
    },
    Import {
        address: String,
        #[serde(serialize_with = "encode", deserialize_with = "decode")]
        key: Vec<u8>,
        any_name: bool,
    },
    Pin {
        address: String,
        fingerprint: Option<String>,
    },
    Verify {
        address: String,
        fingerprint: String,
    },
    /// Of a contact, or of all who have none of their own.
    Policy {
        address: Option<String>,
        policy: Option<Policy>,
    },
    Sign {
        sign: Option<Signing>,
    },
    Forget {
        address: String,
    },
}

fn encode<S: Serializer>(key: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(key))
}

fn decode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    STANDARD.decode(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// Carries it out.
pub(crate) async fn carry_out(core: &Core, name: &str, proof: Proof, change: Change) -> Result<Value, Failure> {
    let proof = proof.into();
    match change {
        Change::List => json(core.contacts(name, proof).await?),
        Change::Show { address } => json(core.contact(name, proof, &address).await?),
        Change::Import { address, key, any_name } => {
            json(core.import_contact(name, proof, &address, &key, any_name).await?)
        }
        Change::Pin { address, fingerprint } => {
            json(core.pin_contact(name, proof, &address, fingerprint.as_deref()).await?)
        }
        Change::Verify { address, fingerprint } => {
            json(core.verify_contact(name, proof, &address, &fingerprint).await?)
        }
        Change::Policy { address, policy } => done(core.set_policy(name, proof, address.as_deref(), policy).await),
        Change::Sign { sign } => done(core.set_signing(name, proof, sign).await),
        Change::Forget { address } => done(core.forget_contact(name, proof, &address).await),
    }
}
