//! The section `[keysets]`.

use mesyx_core::keys::{Period, Profile as CoreProfile};
use mesyx_core::settings::KeysetSettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The keys that messages are sealed to.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Keysets {
    /// The kind of keys that new users get, and what is made later unless something else is asked for: v4 (read by GnuPG 2.2 and
    /// Thunderbird), v6 (RFC 9580, AEAD), pq (post-quantum, for what must stay secret for decades). Only v4 is widely read.
    pub(crate) profile: Profile,
    /// How often the keysets of new users are renewed: none, week, month, year. `mesyx keyset rotation` changes it for a user.
    pub(crate) rotation: Rotation,
    /// How many days before it begins the next keyset is made: long enough that somebody logs in meanwhile.
    #[schemars(range(min = 14, max = 366))]
    pub(crate) ahead_days: u16,
    /// How many days before a keyset is missing, or a certificate expires, the log, `mesyx status` and the metrics say so.
    #[schemars(range(min = 1, max = 366))]
    pub(crate) warn_days: u16,
}

/// Kinds of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Profile {
    /// Version 4.
    V4,
    /// Version 6.
    V6,
    /// Post-quantum.
    Pq,
}

/// How often keysets are renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Rotation {
    /// Not at all.
    None,
    /// Every week.
    Week,
    /// Every month.
    Month,
    /// Every year.
    Year,
}

impl Default for Keysets {
    fn default() -> Self {
        let core = KeysetSettings::default();
        Self { profile: Profile::V4, rotation: Rotation::None, ahead_days: core.ahead_days, warn_days: core.warn_days }
    }
}

impl From<&Keysets> for KeysetSettings {
    fn from(file: &Keysets) -> Self {
        let profile = match file.profile {
            Profile::V4 => CoreProfile::V4,
            Profile::V6 => CoreProfile::V6,
            Profile::Pq => CoreProfile::PostQuantum,
        };
        let rotation = match file.rotation {
            Rotation::None => None,
            Rotation::Week => Some(Period::Week),
            Rotation::Month => Some(Period::Month),
            Rotation::Year => Some(Period::Year),
        };
        Self { profile, rotation, ahead_days: file.ahead_days, warn_days: file.warn_days }
    }
}
