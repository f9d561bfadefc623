//! What the operator and the user decide about PGP.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Whether a message to a recipient is encrypted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cbor(index_only)]
pub enum Policy {
    /// Never in clear: without a usable key the message is held.
    #[n(0)]
    Require,
    /// Where a key is known; in clear where none is. A known key that is expired or revoked holds the message all the same.
    #[default]
    #[n(1)]
    Prefer,
    /// Never encrypted by us.
    #[n(2)]
    Off,
}

/// Whether messages that are encrypted are signed too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cbor(index_only)]
pub enum Signing {
    /// A message that can't be signed is refused at submission.
    #[n(0)]
    Require,
    /// Where the key is at hand; otherwise it goes unsigned, and its sender is told.
    #[default]
    #[n(1)]
    Prefer,
    /// Never.
    #[n(2)]
    Off,
}

macro_rules! words {
    ($type:ident: $($variant:ident $word:literal)*) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $word),* })
            }
        }
        impl FromStr for $type {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(format!("'{text}' is none of {}", [$($word),*].join(", "))),
                }
            }
        }
    };
}
words!(Policy: Require "require" Prefer "prefer" Off "off");
words!(Signing: Require "require" Prefer "prefer" Off "off");

/// What is done where the web key directory of a recipient can't be asked, and no key is known otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LookupFailure {
    /// The message goes in clear, as to anybody without a key.
    #[default]
    Send,
    /// The message is held until the directory answers, with yes or no.
    Hold,
}

/// PGP for mail that leaves, as the operator decides it. Users and their contacts may have other policies.
#[derive(Debug, Clone)]
pub struct PgpSettings {
    /// The policy of users and contacts who have none of their own.
    pub policy: Policy,
    /// Whether encrypted messages are signed.
    pub sign: Signing,
    /// Whether keys are looked for in web key directories.
    pub wkd: bool,
    /// What is done where that fails.
    pub lookup_failure: LookupFailure,
    /// For how long a found key is believed before the directory is asked again: 1 day.
    pub wkd_fresh: Duration,
    /// For how long an address without a key is not asked for again: 6 h.
    pub wkd_absent: Duration,
    /// Whether Autocrypt headers are sent and harvested.
    pub autocrypt: bool,
    /// Whether encrypted messages can be read by their sender's own identity too. Off: the client keeps a copy in `Sent`, and
    /// each further key that can read a message is one more that can be lost.
    pub encrypt_to_self: bool,
}

impl Default for PgpSettings {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            sign: Signing::default(),
            wkd: true,
            lookup_failure: LookupFailure::default(),
            wkd_fresh: Duration::from_secs(24 * 3600),
            wkd_absent: Duration::from_secs(6 * 3600),
            autocrypt: true,
            encrypt_to_self: false,
        }
    }
}
