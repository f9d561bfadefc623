//! A channel: who is in it, and its modes.

use super::names::{fold, full_mask};
use super::{Person, PersonId};
use mesyx_irc_codec::mask;
use mesyx_sdk::address::CaseMapping;
use mesyx_sdk::{Group, Rank, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most masks in one list of a channel.
pub const MOST_MASKS: usize = 100;

/// What a member may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    pub founder: bool,
    pub operator: bool,
    pub voice: bool,
}

impl Standing {
    /// The prefixes before the nick, the highest first.
    pub fn prefixes(self, all: bool) -> String {
        let signs = [(self.founder, '~'), (self.operator, '@'), (self.voice, '+')];
        let mut signs = signs.into_iter().filter(|(has, _)| *has).map(|(_, sign)| sign);
        if all { signs.collect() } else { signs.next().into_iter().collect() }
    }

    pub const fn may_operate(self) -> bool {
        self.founder || self.operator
    }

    pub const fn may_speak(self) -> bool {
        self.founder || self.operator || self.voice
    }
}

impl From<Rank> for Standing {
    fn from(rank: Rank) -> Self {
        Self { founder: rank == Rank::Founder, operator: rank == Rank::Operator, voice: rank == Rank::Voice }
    }
}

/// A mask in a list: the mask, who set it, when.
pub type Masks = Vec<(String, String, Timestamp)>;

/// A channel.
#[derive(Debug)]
pub struct Channel {
    pub name: String,
    pub created: Timestamp,
    pub topic: Option<(String, String, Timestamp)>,
    pub members: BTreeMap<PersonId, Standing>,
    pub modes: BTreeMap<char, String>,
    pub lists: BTreeMap<char, Masks>,
    /// It is a group of the exchange, and its state is the host's.
    pub group: Option<Arc<Group>>,
}

impl Channel {
    pub fn new(name: &str, now: Timestamp) -> Self {
        Self {
            name: name.to_owned(),
            created: now,
            topic: None,
            members: BTreeMap::new(),
            modes: ['n', 't'].map(|mode| (mode, String::new())).into(),
            lists: BTreeMap::new(),
            group: None,
        }
    }

    pub fn has(&self, mode: char) -> bool {
        self.modes.contains_key(&mode)
    }

    pub fn standing(&self, person: PersonId) -> Option<Standing> {
        self.members.get(&person).copied()
    }

    /// Whether somebody who is not in it may see it and its members.
    pub fn seen_by(&self, person: PersonId) -> bool {
        !self.has('s') || self.members.contains_key(&person)
    }

    fn listed(&self, list: char, person: &Person) -> bool {
        // A user is known by the login name too, whatever the nick: as the host, which knows no nicks, has it.
        let login = person.account.as_ref().map(|name| format!("{name}!{}@{}", person.user, person.host));
        let full = [Some(person.mask()), login];
        let matches = |(text, ..): &(String, String, Timestamp)| {
            full.iter().flatten().any(|full| mask::matches(text, full, CaseMapping::Ascii))
        };
        self.lists.get(&list).is_some_and(|masks| masks.iter().any(matches))
    }

    /// Banned, and not excepted.
    pub fn banned(&self, person: &Person) -> bool {
        self.listed('b', person) && !self.listed('e', person)
    }

    /// Excepted from `+i`.
    pub fn welcome(&self, person: &Person) -> bool {
        self.listed('I', person)
    }

    /// `+ntk key`, the parameters behind; the key only for members.
    pub fn mode_words(&self, member: bool) -> Vec<String> {
        let mut words = vec![format!("+{}", self.modes.keys().collect::<String>())];
        for (mode, value) in &self.modes {
            match mode {
                'k' if !member => words.push("*".into()),
                'k' | 'l' => words.push(value.clone()),
                _ => {}
            }
        }
        words
    }

    /// Adds a mask; `false` where it is there.
    pub fn add_mask(&mut self, list: char, mask: &str, by: &str, now: Timestamp) -> bool {
        let masks = self.lists.entry(list).or_default();
        if masks.iter().any(|(known, ..)| fold(known) == fold(mask)) {
            return false;
        }
        masks.push((full_mask(mask), by.to_owned(), now));
        true
    }

    /// Takes a mask out; `false` where it is not there.
    pub fn remove_mask(&mut self, list: char, mask: &str) -> bool {
        let Some(masks) = self.lists.get_mut(&list) else { return false };
        let before = masks.len();
        masks.retain(|(known, ..)| fold(known) != fold(mask) && fold(known) != fold(&full_mask(mask)));
        masks.len() != before
    }
}
