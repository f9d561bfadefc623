//! The section `[pgp]`.

use mesyx_core::pgp::{LookupFailure as CoreFailure, PgpSettings, Policy as CorePolicy, Signing as CoreSigning};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// PGP for mail that leaves. Users and their contacts may have policies of their own: `mesyx contact policy`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Pgp {
    /// Which messages to other hosts are encrypted: require (a message to somebody without a usable key is held, and its sender
    /// told), prefer (to whoever has a key; in clear to others), off. With prefer too, a known key that is expired or revoked
    /// holds the message: it never falls back to clear text.
    pub(crate) policy: Policy,
    /// Whether encrypted messages are signed with their sender's identity: prefer (unsigned where the key is not at hand, which the
    /// sender is told), require (then refused at submission), off.
    pub(crate) sign: Signing,
    /// Looks for keys in the Web Key Directories of recipients' domains, after a message was accepted. Their operators learn which of their
    /// addresses this host writes to.
    pub(crate) wkd: bool,
    /// What becomes of a message where the directory can't be asked and no key is known: send (in clear, as to anybody without a
    /// key) or hold (until it answers). With hold, a domain whose host takes no HTTPS gets no mail while wkd is on.
    pub(crate) lookup_failure: LookupFailure,
    /// For how many seconds a key that was found is believed before the directory is asked again: a day, so that revocations are heard of.
    #[schemars(range(min = 60, max = 2_592_000))]
    pub(crate) wkd_fresh: u64,
    /// For how many seconds an address without a key is not asked for again: six hours.
    #[schemars(range(min = 60, max = 2_592_000))]
    pub(crate) wkd_absent: u64,
    /// Sends Autocrypt headers with users' keys, and notes those of others, and keys that are attached to messages.
    pub(crate) autocrypt: bool,
    /// Encrypts each message to its sender too. Off: mail programs keep a copy in Sent, and each further key that can read a message is
    /// one more that can be lost.
    pub(crate) encrypt_to_self: bool,
}

/// Which messages are encrypted.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Policy {
    /// All; others are held.
    Require,
    /// Those to whoever has a key.
    Prefer,
    /// None.
    Off,
}

/// Which encrypted messages are signed.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Signing {
    /// All; others are refused.
    Require,
    /// Those whose sender's key is at hand.
    Prefer,
    /// None.
    Off,
}

/// What becomes of a message where a directory can't be asked.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LookupFailure {
    /// It is sent in clear.
    Send,
    /// It is held.
    Hold,
}

impl Default for Pgp {
    fn default() -> Self {
        let core = PgpSettings::default();
        Self {
            policy: match core.policy {
                CorePolicy::Require => Policy::Require,
                CorePolicy::Prefer => Policy::Prefer,
                CorePolicy::Off => Policy::Off,
            },
            sign: match core.sign {
                CoreSigning::Require => Signing::Require,
                CoreSigning::Prefer => Signing::Prefer,
                CoreSigning::Off => Signing::Off,
            },
            wkd: core.wkd,
            lookup_failure: match core.lookup_failure {
                CoreFailure::Send => LookupFailure::Send,
                CoreFailure::Hold => LookupFailure::Hold,
            },
            wkd_fresh: core.wkd_fresh.as_secs(),
            wkd_absent: core.wkd_absent.as_secs(),
            autocrypt: core.autocrypt,
            encrypt_to_self: core.encrypt_to_self,
        }
    }
}

impl Pgp {
    /// What the core is told.
    pub(crate) const fn settings(&self) -> PgpSettings {
        PgpSettings {
            policy: match self.policy {
                Policy::Require => CorePolicy::Require,
                Policy::Prefer => CorePolicy::Prefer,
                Policy::Off => CorePolicy::Off,
            },
            sign: match self.sign {
                Signing::Require => CoreSigning::Require,
                Signing::Prefer => CoreSigning::Prefer,
                Signing::Off => CoreSigning::Off,
            },
            wkd: self.wkd,
            lookup_failure: match self.lookup_failure {
                LookupFailure::Send => CoreFailure::Send,
                LookupFailure::Hold => CoreFailure::Hold,
            },
            wkd_fresh: Duration::from_secs(self.wkd_fresh),
            wkd_absent: Duration::from_secs(self.wkd_absent),
            autocrypt: self.autocrypt,
            encrypt_to_self: self.encrypt_to_self,
        }
    }
}
