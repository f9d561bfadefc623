//! What is known of a group besides its members: each thing a sealed record of its own, so that changes of two instances both hold.

use crate::core::Shared;
use crate::id::RecordId;
use crate::store::{NewRecord, RecordKind, StoredRecord};
use mesyx_sdk::{Timestamp, UserId};
use minicbor::{Decode, Encode};
use std::collections::{BTreeMap, BTreeSet};

/// Sealed fields are rounded up to a multiple of this many bytes.
const STEP: usize = 256;

/// Masks of one list, each with who set it and when.
type Masks = Vec<(String, String, Timestamp)>;

/// Everything about a group but who belongs to it.
#[derive(Debug, Clone)]
pub(crate) struct Fields {
    pub(super) name: String,
    pub(super) created: Timestamp,
    pub(super) topic: Option<(String, String, Timestamp)>,
    pub(super) modes: BTreeMap<char, String>,
    pub(super) lists: BTreeMap<char, Masks>,
    /// Who may join whatever the modes say.
    pub(super) invited: BTreeSet<UserId>,
}

/// One of these things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    /// Its name as it was founded, and when.
    About(String, Timestamp),
    /// Topic, who set it, and when.
    Topic(String, String, Timestamp),
    /// A mode with its parameter.
    Mode(char, String),
    /// A mask on a list, who set it, and when.
    Mask(char, String, String, Timestamp),
    /// Somebody who was invited.
    Invited(UserId),
}

/// A field as it is sealed. Fields may be added, never renumbered.
#[derive(Encode, Decode)]
struct Sealed {
    #[n(0)]
    kind: u8,
    #[n(1)]
    key: String,
    #[n(2)]
    value: String,
    #[n(3)]
    by: String,
    /// Milliseconds since 1970.
    #[n(4)]
    at: i64,
}

impl Field {
    fn sealed(&self) -> Sealed {
        let sealed = |kind, key: String, value: &str, by: &str, at: Timestamp| Sealed {
            kind,
            key,
            value: value.to_owned(),
            by: by.to_owned(),
            at: at.0,
        };
        match self {
            Self::About(name, created) => sealed(0, String::new(), name, "", *created),
            Self::Topic(text, by, at) => sealed(1, String::new(), text, by, *at),
            Self::Mode(letter, parameter) => sealed(2, letter.to_string(), parameter, "", Timestamp(0)),
            Self::Mask(letter, mask, by, at) => sealed(3, letter.to_string(), mask, by, *at),
            Self::Invited(user) => sealed(4, user.to_string(), "", "", Timestamp(0)),
        }
    }

    fn of(sealed: Sealed) -> Option<Self> {
        let letter = sealed.key.chars().next();
        Some(match sealed.kind {
            0 => Self::About(sealed.value, Timestamp(sealed.at)),
            1 => Self::Topic(sealed.value, sealed.by, Timestamp(sealed.at)),
            2 => Self::Mode(letter?, sealed.value),
            3 => Self::Mask(letter?, sealed.value, sealed.by, Timestamp(sealed.at)),
            4 => Self::Invited(sealed.key.parse().ok()?),
            _ => return None,
        })
    }
}

impl Fields {
    /// A group that was founded a moment ago.
    pub(super) fn new(name: String, created: Timestamp) -> Self {
        let (modes, lists, invited) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { name, created, topic: None, modes, lists, invited }
    }

    fn take(&mut self, field: Field) {
        match field {
            Field::About(name, created) => (self.name, self.created) = (name, created),
            Field::Topic(text, by, at) => self.topic = Some((text, by, at)),
            Field::Mode(letter, parameter) => drop(self.modes.insert(letter, parameter)),
            Field::Mask(letter, mask, by, at) => self.lists.entry(letter).or_default().push((mask, by, at)),
            Field::Invited(user) => drop(self.invited.insert(user)),
        }
    }

    /// Everything but the name, to be taken away when the last member has left.
    pub(super) fn all_but_name(&self) -> Vec<Field> {
        let mut all: Vec<Field> = self.modes.keys().map(|letter| Field::Mode(*letter, String::new())).collect();
        for (letter, masks) in &self.lists {
            all.extend(masks.iter().map(|(mask, ..)| Field::Mask(*letter, mask.clone(), String::new(), Timestamp(0))));
        }
        all.extend(self.invited.iter().map(|user| Field::Invited(*user)));
        all.extend(self.topic.iter().map(|_| Field::Topic(String::new(), String::new(), Timestamp(0))));
        all
    }
}

impl Shared {
    /// Where a field stands: of a list each mask has its own place.
    pub(super) fn field_id(&self, group: UserId, field: &Field) -> RecordId {
        let Sealed { kind, key, value, .. } = field.sealed();
        let value = if kind == 3 { super::fold(&value) } else { String::new() };
        let hash =
            self.instance.name_hash("group field", &[group.as_bytes(), &[kind], key.as_bytes(), value.as_bytes()]);
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        RecordId(id)
    }

    /// A field as a record of its group.
    pub(super) fn field_record(&self, group: UserId, field: &Field) -> NewRecord {
        let record = self.field_id(group, field);
        let mut clear = minicbor::to_vec(field.sealed()).unwrap_or_default();
        clear.resize(clear.len().next_multiple_of(STEP), 0);
        let sealed = self.instance.seal_secret(&name_of(group, record), &clear);
        let (kind, day) = (RecordKind::GROUP, Timestamp::now().day());
        NewRecord { user: group, record, kind, day, sealed, most: None, only_new: false }
    }

    /// Opens the fields of a group. One that does not open is left out, with a word in the log.
    pub(super) fn open_fields(&self, group: UserId, records: &[StoredRecord]) -> Fields {
        let mut fields = Fields::new(format!("#{group}"), Timestamp(0));
        for stored in records {
            let opened = self.instance.open_secret(&name_of(group, stored.record), &stored.sealed);
            let field = opened.ok().and_then(|clear| Field::of(minicbor::decode(&clear).ok()?));
            match field {
                Some(field) if self.field_id(group, &field) == stored.record => fields.take(field),
                _ => tracing::warn!(%group, record = %stored.record, "a field of a group can't be opened"),
            }
        }
        fields.lists.values_mut().for_each(|masks| masks.sort_by_key(|(.., at)| *at));
        fields
    }
}

fn name_of(group: UserId, record: RecordId) -> String {
    format!("group:{group}:{record}")
}
