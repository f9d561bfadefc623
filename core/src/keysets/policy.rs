//! How a user's keysets are renewed.

use crate::keys::{Levels, Period, Profile, RecordError};
use minicbor::{Decode, Encode};

/// For which levels of importance keysets are renewed, how often, and by whom. Empty: not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RotationPolicy {
    rules: Vec<RotationRule>,
}

/// One rule: a keyset for each period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RotationRule {
    /// For messages of these levels.
    pub levels: Levels,
    /// How long each keyset lasts.
    pub every: Period,
    /// Of which kind its certificate is.
    pub profile: Profile,
    /// Made here by itself, while the user is unlocked. Otherwise certificates that were made elsewhere are uploaded ahead.
    pub make: bool,
}

#[derive(Encode, Decode)]
struct Record {
    #[n(0)]
    version: u32,
    #[n(1)]
    rules: Vec<Rule>,
}

#[derive(Encode, Decode)]
struct Rule {
    #[n(0)]
    levels: u8,
    #[n(1)]
    every: Period,
    #[n(2)]
    profile: Profile,
    #[n(3)]
    make: bool,
}

const VERSION: u32 = 1;

impl RotationPolicy {
    /// A policy of these rules.
    ///
    /// # Errors
    /// Where two rules would make keysets that are equally specific for the same messages: their levels must be apart, or of
    /// different number.
    pub fn new(rules: Vec<RotationRule>) -> Result<Self, RecordError> {
        for (index, one) in rules.iter().enumerate() {
            for other in &rules[index + 1..] {
                let meet = one.levels.bits() & other.levels.bits() != 0;
                if meet && one.levels.count() == other.levels.count() {
                    let text = "two rules are equally specific for the same messages; change one's importance";
                    return Err(RecordError::Damaged("rotation policy", text.to_owned()));
                }
            }
        }
        Ok(Self { rules })
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &[RotationRule] {
        &self.rules
    }

    /// The record that the store keeps.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let rule = |rule: &RotationRule| Rule {
            levels: rule.levels.bits(),
            every: rule.every,
            profile: rule.profile,
            make: rule.make,
        };
        let record = Record { version: VERSION, rules: self.rules.iter().map(rule).collect() };
        // Writing to memory can't fail.
        minicbor::to_vec(record).unwrap_or_default()
    }

    /// Reads a record.
    ///
    /// # Errors
    /// Where it is damaged, or newer than this program.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let damaged = |what: String| RecordError::Damaged("rotation policy", what);
        let record: Record = minicbor::decode(bytes).map_err(|error| damaged(error.to_string()))?;
        if record.version != VERSION {
            return Err(RecordError::Newer("rotation policy"));
        }
        let rules = record.rules.into_iter().map(|rule| {
            let levels = Levels::from_bits(rule.levels).ok_or_else(|| damaged("it has no level".to_owned()))?;
            Ok(RotationRule { levels, every: rule.every, profile: rule.profile, make: rule.make })
        });
        Self::new(rules.collect::<Result<_, RecordError>>()?)
    }
}
