//! Sealed records: small values of one user that anybody here can write, and only the user's open keys can read.
//!
//! ```text
//!   intake, queue (no secret) --+
//!   a session ------------------+--> put_record: sealed to the identity, signed by this instance --> store
//!   a session --> records: opened, each checked to stand in its own place and to be written by this instance
//! ```

#![allow(dead_code, reason = "the parts of the core that keep records use what they need")]

use crate::core::Shared;
use crate::errors::stored;
use crate::id::RecordId;
use crate::keys::Unlocked;
use crate::seal::{RecordContext, open_record, seal_record};
use crate::store::{NewRecord, RecordKind, StoredRecord, Write};
use mesyx_sdk::{Error, ErrorKind, Timestamp, UserId};
use std::sync::Arc;
use zeroize::Zeroizing;

/// A record to write.
#[derive(Debug)]
pub(crate) struct Put<'a> {
    pub(crate) kind: RecordKind,
    pub(crate) record: RecordId,
    pub(crate) payload: &'a [u8],
    /// Most records of the kind; where a new one would be one more, the oldest go.
    pub(crate) most: Option<u32>,
    /// Leave one of that id as it is.
    pub(crate) only_new: bool,
}

/// A record that was opened.
#[derive(Debug)]
pub(crate) struct OpenedRecord {
    pub(crate) record: RecordId,
    pub(crate) payload: Zeroizing<Vec<u8>>,
}

impl Shared {
    /// Seals a record to a user's identity and stores it, durable when this resolves. Needs no secret of the user's.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is no such user, [`ErrorKind::Unavailable`] where the identity can't be sealed to.
    pub(crate) async fn put_record(&self, user: UserId, put: Put<'_>) -> Result<(), Error> {
        let Put { kind, record, payload, most, only_new } = put;
        let directory = self.directory();
        let keyring = directory.keyrings.get(&user).map(Arc::clone);
        let keyring = keyring.ok_or_else(|| Error::new(ErrorKind::NotFound, "there is no such user"))?;
        let day = Timestamp::now().day();
        let context = RecordContext { user, record, kind, day };
        let sealed = seal_record(keyring.identity(), &context, payload, &*self.instance).map_err(|error| {
            tracing::error!(%user, %error, "a record can't be sealed to the user's identity, so it is not kept");
            Error::new(ErrorKind::Unavailable, "a note can't be sealed to the user's identity certificate")
        })?;
        let new = NewRecord { user, record, kind, day, sealed, most, only_new };
        self.store.write(Write::PutRecord(new)).await.map_err(stored)?;
        self.records_changed(user);
        Ok(())
    }

    /// Removes records.
    ///
    /// # Errors
    /// As the store's.
    pub(crate) async fn remove_records(&self, user: UserId, records: Vec<RecordId>) -> Result<(), Error> {
        if records.is_empty() {
            return Ok(());
        }
        self.store.write(Write::RemoveRecords { user, records }).await.map_err(stored)?;
        self.records_changed(user);
        Ok(())
    }

    /// What is kept of a user's records in memory is not believed any more. Done before a change is answered, not only when the store's
    /// event comes round: whoever changed a policy can rely on it from then on.
    pub(crate) fn records_changed(&self, user: UserId) {
        if let Some(open) = self.access.open_user(user) {
            open.contacts.touch();
            open.conversations.touch();
        }
    }

    /// A user's records of one kind, opened, the oldest write first. One that does not open is left out, with a warning in the log.
    ///
    /// # Errors
    /// As the store's.
    pub(crate) async fn records(&self, keys: &Unlocked, kind: RecordKind) -> Result<Vec<OpenedRecord>, Error> {
        let found = self.store.records(keys.user(), kind).await.map_err(stored)?;
        Ok(found.iter().filter_map(|stored| self.open_record(keys, stored)).collect())
    }

    /// One record of a user, opened; `None` where there is none of that id and kind, or it does not open (then the log says why).
    ///
    /// # Errors
    /// As the store's.
    pub(crate) async fn record(
        &self,
        keys: &Unlocked,
        kind: RecordKind,
        record: RecordId,
    ) -> Result<Option<OpenedRecord>, Error> {
        let found = self.store.record(keys.user(), record).await.map_err(stored)?;
        Ok(found.filter(|stored| stored.kind == kind).and_then(|stored| self.open_record(keys, &stored)))
    }

    pub(crate) fn open_record(&self, keys: &Unlocked, stored: &StoredRecord) -> Option<OpenedRecord> {
        let StoredRecord { record, kind, day, sealed, .. } = stored;
        let context = RecordContext { user: keys.user(), record: *record, kind: *kind, day: *day };
        match open_record(keys, &context, self.instance.public_key(), sealed) {
            Ok(payload) => Some(OpenedRecord { record: *record, payload }),
            Err(error) => {
                tracing::warn!(user = %keys.user(), %record, kind = kind.number(), %error, "a sealed record is passed over");
                None
            }
        }
    }
}
