//! A user's contact book: contacts, opened while the user's keys are, with what was seen since folded in.
//!
//! Folding may be broken off anywhere and done again: a contact is written before the sightings that went into it are removed, and
//! learning the same twice changes nothing.

use super::certificate;
use super::contact::{Contact, Known, Learnt, Source};
use super::{Policy, Signing};
use crate::core::Shared;
use crate::errors::stored;
use crate::id::RecordId;
use crate::keys::Unlocked;
use crate::operation::Stamp;
use crate::records::Put;
use crate::store::RecordKind;
use mesyx_sdk::{Error, ErrorKind, Timestamp, UserId};
use minicbor::{Decode, Encode};
use sequoia_openpgp as openpgp;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Most contacts of one user; the oldest go beyond.
const MOST_CONTACTS: u32 = 20_000;
/// Most contacts that are made of what was seen: strangers can make no room for theirs by pushing out what the user set.
const MOST_HARVESTED: usize = 15_000;
/// Most sightings of one user that wait to be folded in. A stranger who floods them pushes out others, which come again with the next
/// message of their owner.
const MOST_SEEN: u32 = 500;

/// A certificate of a correspondent, met while no session was there to be told.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Sighting {
    /// See [`certificate::canonical`].
    #[n(0)]
    pub(crate) address: String,
    #[n(1)]
    pub(crate) known: Known,
}

/// How a user wants mail to be protected, where that differs from the operator's settings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Preferences {
    #[n(0)]
    pub(crate) policy: Option<Policy>,
    #[n(1)]
    pub(crate) sign: Option<Signing>,
}

/// The contacts of one user.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// Opened records by id, as of the write that they are.
    opened: HashMap<RecordId, (Stamp, Contact)>,
    /// The contacts by address. Where several records are of one address (two instances made one each), they are joined; the first record is
    /// the one to write, the others go with the next write.
    contacts: BTreeMap<String, (Vec<RecordId>, Contact)>,
    preferences: Preferences,
    preferences_record: Option<RecordId>,
}

/// Something that the user should be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Discovery {
    pub(crate) address: String,
    pub(crate) fingerprint: String,
    pub(crate) source: Source,
    pub(crate) learnt: Learnt,
    /// The certificate in use, by its fingerprint.
    pub(crate) in_use: Option<String>,
}

impl Book {
    /// The contact of an address.
    pub(crate) fn get(&self, address: &str) -> Option<&Contact> {
        self.contacts.get(address).map(|(_, contact)| contact)
    }

    /// All contacts, by address.
    pub(crate) fn contacts(&self) -> impl Iterator<Item = &Contact> {
        self.contacts.values().map(|(_, contact)| contact)
    }

    pub(crate) const fn preferences(&self) -> Preferences {
        self.preferences
    }

    /// Reads what changed since the last time.
    async fn read(&mut self, shared: &Shared, keys: &Unlocked) -> Result<(), Error> {
        let stored_contacts = shared.store.records(keys.user(), RecordKind::CONTACT).await.map_err(stored)?;
        let mut opened = HashMap::with_capacity(stored_contacts.len());
        for record in &stored_contacts {
            if let Some((stamp, contact)) = self.opened.remove(&record.record)
                && stamp == record.stamp
            {
                opened.insert(record.record, (stamp, contact));
                continue;
            }
            let Some(payload) = shared.open_record(keys, record) else { continue };
            match Contact::from_bytes(&payload.payload) {
                Ok(contact) => drop(opened.insert(record.record, (record.stamp, contact))),
                Err(error) => {
                    tracing::warn!(user = %keys.user(), record = %record.record, error, "a contact is passed over");
                }
            }
        }
        self.opened = opened;
        self.contacts.clear();
        for record in &stored_contacts {
            let Some((_, contact)) = self.opened.get(&record.record) else { continue };
            match self.contacts.get_mut(&contact.address) {
                Some((records, joined)) => {
                    records.push(record.record);
                    joined.merge(contact);
                }
                None => {
                    let entry = (vec![record.record], contact.clone());
                    self.contacts.insert(contact.address.clone(), entry);
                }
            }
        }
        (self.preferences, self.preferences_record) = (Preferences::default(), None);
        for record in shared.records(keys, RecordKind::PREFERENCES).await? {
            if let Ok(preferences) = minicbor::decode(&record.payload) {
                (self.preferences, self.preferences_record) = (preferences, Some(record.record));
            }
        }
        Ok(())
    }

    /// Folds in what was seen. What the user should hear of is returned.
    async fn fold(&mut self, shared: &Shared, keys: &Unlocked) -> Result<Vec<Discovery>, Error> {
        let seen = shared.records(keys, RecordKind::SEEN).await?;
        let mut touched = HashSet::new();
        let mut discoveries = Vec::new();
        let mut done = Vec::with_capacity(seen.len());
        for record in seen {
            done.push(record.record);
            let Ok(Sighting { address, known }) = minicbor::decode::<Sighting>(&record.payload) else { continue };
            if self.contacts.len() >= MOST_HARVESTED && !self.contacts.contains_key(&address) {
                continue;
            }
            let new = || (Vec::new(), Contact::new(&address));
            let (_, contact) = self.contacts.entry(address.clone()).or_insert_with(new);
            let learnt = contact.learn(&known);
            if learnt == Learnt::Nothing {
                continue;
            }
            touched.insert(address.clone());
            if matches!(learnt, Learnt::Changed(_) | Learnt::Aside) {
                let in_use = contact.best().map(|best| best.fingerprint.clone());
                let Known { fingerprint, source, .. } = known;
                discoveries.push(Discovery { address, fingerprint, source, learnt, in_use });
            }
        }
        for address in touched {
            self.write(shared, keys.user(), &address).await?;
        }
        shared.remove_records(keys.user(), done).await?;
        Ok(discoveries)
    }

    /// Writes the contact of an address as it is now.
    async fn write(&mut self, shared: &Shared, user: UserId, address: &str) -> Result<(), Error> {
        let Some((records, contact)) = self.contacts.get_mut(address) else { return Ok(()) };
        let record = records.first().copied().unwrap_or_else(RecordId::random);
        let payload = contact.to_bytes().map_err(damaged)?;
        let put =
            Put { kind: RecordKind::CONTACT, record, payload: &payload, most: Some(MOST_CONTACTS), only_new: false };
        shared.put_record(user, put).await?;
        let doubles = records.split_off(records.len().min(1));
        *records = vec![record];
        shared.remove_records(user, doubles).await
    }

    /// Changes the contact of an address, making it where there is none.
    pub(crate) async fn change<T>(
        &mut self,
        shared: &Shared,
        user: UserId,
        address: &str,
        change: impl FnOnce(&mut Contact) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (_, before) = self.contacts.get(address).cloned().unwrap_or_else(|| (Vec::new(), Contact::new(address)));
        let mut contact = before.clone();
        let result = change(&mut contact)?;
        if contact != before || !self.contacts.contains_key(address) {
            let entry = self.contacts.entry(address.to_owned()).or_insert_with(|| (Vec::new(), Contact::new(address)));
            entry.1 = contact;
            self.write(shared, user, address).await?;
        }
        Ok(result)
    }

    /// Forgets a contact; whether there was one.
    pub(crate) async fn forget(&mut self, shared: &Shared, user: UserId, address: &str) -> Result<bool, Error> {
        let Some((records, _)) = self.contacts.remove(address) else { return Ok(false) };
        shared.remove_records(user, records).await?;
        Ok(true)
    }

    pub(crate) async fn set_preferences(
        &mut self,
        shared: &Shared,
        user: UserId,
        preferences: Preferences,
    ) -> Result<(), Error> {
        let record = *self.preferences_record.get_or_insert_with(RecordId::random);
        let payload = minicbor::to_vec(preferences).map_err(|error| damaged(error.to_string()))?;
        let put = Put { kind: RecordKind::PREFERENCES, record, payload: &payload, most: None, only_new: false };
        shared.put_record(user, put).await?;
        self.preferences = preferences;
        Ok(())
    }
}

fn damaged(error: String) -> Error {
    tracing::error!(error, "a contact can't be written");
    Error::new(ErrorKind::Unavailable, "a contact can't be stored; ask the operator to look into the server's log")
}

impl Shared {
    /// Brings a book up to date: what other instances and commands wrote, and what was seen since.
    ///
    /// # Errors
    /// As the store's.
    pub(crate) async fn refresh_book(&self, book: &mut Book, keys: &Unlocked) -> Result<(), Error> {
        book.read(self, keys).await?;
        for discovery in book.fold(self, keys).await? {
            self.tell_of(keys.user(), &discovery).await;
        }
        Ok(())
    }

    /// Notes a certificate for the user's next session. Needs no secret.
    ///
    /// # Errors
    /// As [`Shared::put_record`].
    pub(crate) async fn put_sighting(&self, user: UserId, sighting: &Sighting) -> Result<(), Error> {
        let payload = minicbor::to_vec(sighting).map_err(|error| damaged(error.to_string()))?;
        let put = Put {
            kind: RecordKind::SEEN,
            // Random: an id derived from the address would show which messages are of one correspondent.
            record: RecordId::random(),
            payload: &payload,
            most: Some(MOST_SEEN),
            only_new: false,
        };
        self.put_record(user, put).await
    }
}

impl Sighting {
    /// A certificate of an address, cut to what is needed.
    ///
    /// # Errors
    /// Where it is too long.
    pub(crate) fn new(address: &str, found: openpgp::Cert, source: Source, at: Timestamp) -> Result<Self, String> {
        let known = Known::new(&certificate::cut(found, address), source, at.0.div_euclid(1000))?;
        Ok(Self { address: address.to_owned(), known })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Home, correspondent, public};
    use super::*;
    use mesyx_sdk::Timestamp;
    use sequoia_openpgp::Cert;
    use sequoia_openpgp::parse::Parse;

    async fn see(home: &Home, address: &str) {
        let certificate = Cert::from_bytes(&public(&correspondent(address)));
        let sighting = Sighting::new(address, certificate.expect("a key"), Source::Autocrypt, Timestamp::now());
        home.core.shared.put_sighting(home.user(), &sighting.expect("a sighting")).await.expect("noted");
    }

    /// Strangers choose whom they write as: what is harvested of them can't fill the book without end.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_full_book_takes_no_strangers_and_learns_of_those_in_it() {
        let home = Home::new().await;
        let open = home.core.shared.access.open_user(home.user()).expect("alice is logged in");
        let mut book = Book::default();
        book.read(&home.core.shared, &open.keys).await.expect("read");
        for number in 1..MOST_HARVESTED {
            let address = format!("a{number}@example.com");
            book.contacts.insert(address.clone(), (Vec::new(), Contact::new(&address)));
        }
        see(&home, "bob@example.net").await;
        book.fold(&home.core.shared, &open.keys).await.expect("folded");
        assert!(book.get("bob@example.net").is_some(), "the last place");
        see(&home, "carol@example.net").await;
        see(&home, "a1@example.com").await;
        book.fold(&home.core.shared, &open.keys).await.expect("folded");
        assert!(book.get("carol@example.net").is_none());
        assert_eq!(book.get("a1@example.com").expect("a contact").certificates.len(), 1);
        let left = home.core.shared.store.records(home.user(), RecordKind::SEEN).await.expect("read");
        assert!(left.is_empty(), "nor does it wait for ever");
    }
}
