//! How commands reach a running server: one line of JSON each way, over a Unix socket.
//!
//! ```text
//!  {"version":1,"request":{"command":"user-list"}}\n  -->
//!  <--  {"version":1,"reply":{"ok":[…]}}\n
//! ```
//!
//! A connection may carry several requests, one after the other.

pub(crate) mod client;
pub(crate) mod keys;
pub(crate) mod secret_keys;
pub(crate) mod server;

use crate::dns::keys::KeysRequest;
use mesyx_sdk::Secret;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::path::PathBuf;

/// The protocol's version; both sides must have the same.
pub(crate) const VERSION: u32 = 1;
/// Longest request, in bytes.
pub(crate) const MAX_REQUEST: u64 = 256 << 10;
/// Longest reply, in bytes.
pub(crate) const MAX_REPLY: u64 = 64 << 20;

/// A request as it stands on the line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    pub(crate) version: u32,
    pub(crate) request: Request,
}

/// What a server of any version can read of a request.
#[derive(Debug, Deserialize)]
pub(crate) struct AskedVersion {
    pub(crate) version: u32,
}

/// A reply as it stands on the line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answered {
    pub(crate) version: u32,
    pub(crate) reply: Reply,
}

/// How a request went.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reply {
    /// What was asked for.
    Ok(serde_json::Value),
    /// Why not.
    Error(String),
}

/// What can be asked. The same requests are carried out without a server, where none runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", tag = "command", deny_unknown_fields)]
pub(crate) enum Request {
    /// → `status::Status`
    Status,
    /// Read the configuration and the certificates again. → the names of bridges that were restarted
    Reload,
    /// → `operate::Added`
    UserAdd { name: String, addresses: Vec<String>, password: Option<Hidden>, app_password: Option<String> },
    /// → list of `mesyx_core::admin::Account`
    UserList,
    /// → nothing
    UserRemove { name: String },
    /// → nothing
    UserPassword { name: String, proof: Proof, new: Hidden },
    /// → `mesyx_core::admin::DiscardReport`
    DiscardReport { name: String },
    /// → `operate::Added`
    DiscardKeys { name: String, new: Option<Hidden> },
    /// → the password
    AppPasswordAdd { name: String, proof: Proof, label: String },
    /// → list of `mesyx_core::admin::AppPassword`
    AppPasswordList { name: String },
    /// → nothing
    AppPasswordRevoke { name: String, which: String },
    /// Messages that wait to be sent. → see there
    Queue(crate::operate::queue::QueueRequest),
    /// Groups of users. → see there
    Group(crate::operate::group::GroupRequest),
    /// What is to be done with a user's contacts. → see there
    Contact { name: String, proof: Proof, change: crate::operate::contact::Change },
    /// About a user's identity: see [`keys::IdentityRequest`].
    Identity { request: keys::IdentityRequest },
    /// About a user's keysets: see [`keys::KeysetRequest`].
    Keyset { request: keys::KeysetRequest },
    /// → nothing
    SecretSet { name: String, value: Hidden },
    /// → list of names
    SecretList,
    /// → nothing
    SecretRemove { name: String },
    /// → nothing
    Backup { to: PathBuf },
    /// → as [`secret_keys::SecretKeyRequest`] says
    SecretKeys { request: secret_keys::SecretKeyRequest },
    /// → list of `mesyx_core::trace::TraceLine`
    Trace { address: String, days: u16 },
    /// → see there
    Keys(KeysRequest),
}

/// What proves that a password may be changed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Proof {
    /// The old password.
    Password(Hidden),
    /// The recovery key.
    RecoveryKey(Hidden),
}

/// A secret on its way: only ever on the socket, never in a log.
#[derive(Debug, Clone)]
pub(crate) struct Hidden(pub(crate) Secret);

impl Hidden {
    /// The text; empty where it is none, which no constructor lets happen.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(self.0.expose()).unwrap_or_default()
    }
}

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.0.expose()) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => Err(serde::ser::Error::custom("a secret must be UTF-8 text")),
        }
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Secret::from(String::deserialize(deserializer)?)))
    }
}
