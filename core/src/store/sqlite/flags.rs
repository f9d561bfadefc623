//! Flags and their registers, as rows hold them.

use super::StoreError;
use crate::operation::Stamp;
use mesyx_sdk::{Flag, Flags};
use minicbor::{Decode, Encode};
use std::collections::BTreeSet;

/// The bits of `placements.flags`.
const SYSTEM: [Flag; 5] = [Flag::Answered, Flag::Deleted, Flag::Draft, Flag::Flagged, Flag::Seen];
/// The bit of `\Deleted`, as the index `placements_deleted` has it.
pub(super) const DELETED: i64 = 2;
/// The bit of `\Seen`.
pub(super) const SEEN: i64 = 16;

/// Sets of flags from their columns; equal sets without keywords share their memory.
#[derive(Debug, Default)]
pub(super) struct FlagReader([Option<Flags>; 32]);

impl FlagReader {
    pub(super) fn read(&mut self, bits: i64, keywords: Option<&str>) -> Flags {
        let system =
            || SYSTEM.into_iter().enumerate().filter(move |(bit, _)| bits >> bit & 1 == 1).map(|(_, flag)| flag);
        match keywords {
            Some(keywords) => {
                system().chain(keywords.split(' ').filter_map(|keyword| Flag::new(keyword).ok())).collect()
            }
            None => {
                let slot = &mut self.0[bits.unsigned_abs() as usize & 31];
                slot.get_or_insert_with(|| system().collect()).clone()
            }
        }
    }
}

/// The columns of a set of flags.
pub(super) fn columns(flags: &BTreeSet<Flag>) -> (i64, Option<String>) {
    let mut bits = 0;
    let mut keywords = String::new();
    for flag in flags {
        match SYSTEM.iter().position(|system| system == flag) {
            Some(bit) => bits |= 1 << bit,
            None => {
                if !keywords.is_empty() {
                    keywords.push(' ');
                }
                keywords.push_str(flag.as_str());
            }
        }
    }
    (bits, (!keywords.is_empty()).then_some(keywords))
}

/// Who wrote what last, of one placement.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct Registers {
    /// Of the mailbox that the placement is in.
    #[n(0)]
    pub(super) mailbox: Stamp,
    /// Of each flag ever written, in no order.
    #[n(1)]
    pub(super) flags: Vec<FlagRegister>,
}

/// One flag's last write.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct FlagRegister {
    #[n(0)]
    flag: String,
    #[n(1)]
    set: bool,
    #[n(2)]
    stamp: Stamp,
}

impl Registers {
    /// Of a placement made at `stamp` with `flags`. Flags that this program can't read are passed over.
    pub(super) fn new(stamp: Stamp, flags: &[String]) -> Self {
        let mut registers = Self { mailbox: stamp, flags: Vec::new() };
        registers.write(flags, true, stamp);
        registers
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        minicbor::decode(bytes).map_err(|error| StoreError::Backend(format!("a placement's registers: {error}")))
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, StoreError> {
        minicbor::to_vec(self).map_err(|error| StoreError::Backend(error.to_string()))
    }

    /// Writes flags, where `stamp` is later than what was written before.
    pub(super) fn write(&mut self, flags: &[String], set: bool, stamp: Stamp) {
        for flag in flags {
            if Flag::new(flag).is_err() {
                continue;
            }
            let new = FlagRegister { flag: flag.clone(), set, stamp };
            match self.flags.iter_mut().find(|old| old.flag.eq_ignore_ascii_case(flag)) {
                Some(old) if old.stamp < stamp => *old = new,
                Some(_) => {}
                None => self.flags.push(new),
            }
        }
    }

    /// The last write of a flag: what, and when.
    pub(super) fn written(&self, flag: &str) -> Option<(bool, Stamp)> {
        let found = self.flags.iter().find(|register| register.flag.eq_ignore_ascii_case(flag));
        found.map(|register| (register.set, register.stamp))
    }

    /// The flags that are set.
    pub(super) fn set(&self) -> BTreeSet<Flag> {
        self.flags
            .iter()
            .filter(|register| register.set)
            .filter_map(|register| Flag::new(&register.flag).ok())
            .collect()
    }
}
