//! What one group of writes shares: the clock, the counters, mailbox rows in memory, and how a write is undone.

use super::blobs::BlobName;
use super::{Event, Options, StoreError};
use crate::id::{InstanceId, SessionKeyId};
use crate::operation::{LogEntry, Operation, Stamp};
use mesyx_sdk::{MailboxId, MessageId, ModSeq, Uid, UserId};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};
use std::collections::HashMap;

/// The row `meta`.
#[derive(Debug, Clone)]
pub(super) struct Meta {
    pub(super) me: InstanceId,
    pub(super) day: i32,
    pub(super) counter: u64,
    /// Number of our last log entry.
    pub(super) sequence: u64,
    pub(super) uid_validity: u32,
    /// Id of the last attestation.
    pub(super) attestation: i64,
    /// Rows in `pending`.
    pub(super) pending: i64,
    pub(super) log_entries: i64,
    pub(super) messages: i64,
    pub(super) bytes: i64,
}

impl Meta {
    pub(super) fn load(connection: &Connection) -> Result<Option<Self>, StoreError> {
        let row = |row: &Row<'_>| {
            Ok(Self {
                me: InstanceId(row.get(0)?),
                day: row.get(1)?,
                counter: row.get::<_, i64>(2)?.unsigned_abs(),
                sequence: row.get::<_, i64>(3)?.unsigned_abs(),
                uid_validity: row.get(4)?,
                attestation: row.get(5)?,
                pending: row.get(6)?,
                log_entries: row.get(7)?,
                messages: row.get(8)?,
                bytes: row.get(9)?,
            })
        };
        const SQL: &str = "SELECT instance, stamp_day, counter, sequence, uid_validity, attestation, pending, log_entries, messages, bytes FROM meta";
        Ok(connection.query_row(SQL, [], row).optional()?)
    }

    pub(super) fn create(connection: &Connection, me: InstanceId) -> Result<Self, StoreError> {
        connection.execute("INSERT INTO meta VALUES (1, ?, 0, 0, 0, 0, 0, 0, 0, 0, 0)", [me.0])?;
        Ok(Self {
            me,
            day: 0,
            counter: 0,
            sequence: 0,
            uid_validity: 0,
            attestation: 0,
            pending: 0,
            log_entries: 0,
            messages: 0,
            bytes: 0,
        })
    }

    fn save(&self, connection: &Connection) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE meta SET stamp_day = ?, counter = ?, sequence = ?, uid_validity = ?, attestation = ?, pending = ?, log_entries = ?, messages = ?, bytes = ?";
        connection.prepare_cached(SQL)?.execute(params![
            self.day,
            self.counter.cast_signed(),
            self.sequence.cast_signed(),
            self.uid_validity,
            self.attestation,
            self.pending,
            self.log_entries,
            self.messages,
            self.bytes
        ])?;
        Ok(())
    }
}

/// What the numbers of a mailbox are at the moment; a row of `mailboxes` without names.
#[derive(Debug, Clone)]
pub(super) struct MailboxRow {
    pub(super) mailbox: MailboxId,
    pub(super) user_id: UserId,
    pub(super) uid_validity: u32,
    pub(super) uid_next: Uid,
    pub(super) modseq: ModSeq,
    pub(super) recent_from: Uid,
    pub(super) messages: u32,
    pub(super) unseen: u32,
    pub(super) size: u64,
    pub(super) vanished: u32,
    pub(super) forgotten: ModSeq,
    /// Whether this write has taken a modification sequence already: all that it changes has the same one.
    bumped: bool,
}

impl MailboxRow {
    const SELECT: &str = "SELECT m.mailbox, u.user, uid_validity, uid_next, modseq, recent_from, messages, unseen, size, vanished, forgotten
        FROM mailboxes m JOIN users u ON u.id = m.user WHERE m.id = ?";

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            mailbox: MailboxId(row.get(0)?),
            user_id: UserId(row.get(1)?),
            uid_validity: row.get(2)?,
            uid_next: row.get(3)?,
            modseq: row.get::<_, i64>(4)?.unsigned_abs(),
            recent_from: row.get(5)?,
            messages: row.get(6)?,
            unseen: row.get(7)?,
            size: row.get::<_, i64>(8)?.unsigned_abs(),
            vanished: row.get(9)?,
            forgotten: row.get::<_, i64>(10)?.unsigned_abs(),
            bumped: false,
        })
    }

    /// The modification sequence of what this write changes in the mailbox.
    pub(super) fn touch(&mut self) -> ModSeq {
        if !self.bumped {
            self.bumped = true;
            self.modseq += 1;
        }
        self.modseq
    }

    /// The next UID, taken.
    pub(super) fn take_uid(&mut self) -> Result<Uid, StoreError> {
        let uid = self.uid_next;
        self.uid_next =
            uid.checked_add(1).ok_or(StoreError::Invalid("the mailbox has no UIDs left: make a new one"))?;
        Ok(uid)
    }
}

/// Local ids already looked up. Right across groups as long as it is emptied whenever a write is undone.
#[derive(Debug, Default)]
pub(super) struct Ids {
    pub(super) users: HashMap<UserId, i64>,
    pub(super) mailboxes: HashMap<MailboxId, i64>,
    pub(super) session_keys: HashMap<SessionKeyId, i64>,
    pub(super) instances: HashMap<InstanceId, i64>,
    /// How many jobs a user has waiting.
    pub(super) jobs: HashMap<i64, u64>,
}

impl Ids {
    const MOST: usize = 20_000;

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn bound(&mut self) {
        if self.users.len() + self.mailboxes.len() + self.session_keys.len() + self.instances.len() + self.jobs.len()
            > Self::MOST
        {
            self.clear();
        }
    }
}

/// Content that this write put into the store a moment ago.
#[derive(Debug, Clone, Copy)]
pub(super) struct Content {
    pub(super) id: i64,
    pub(super) user: i64,
    pub(super) message: MessageId,
    pub(super) size: i64,
    pub(super) day: i32,
}

/// Digests of new parts that await this instance's signature under one attestation.
#[derive(Debug, Default)]
pub(super) struct Digests {
    pub(super) id: i64,
    pub(super) digests: Vec<u8>,
}

/// What a write leaves for after the commit.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) events: Vec<Event>,
    /// Files whose rows are gone.
    pub(super) blobs_gone: Vec<BlobName>,
    pub(super) mailboxes_gone: Vec<MailboxId>,
}

impl Effects {
    fn append(&mut self, other: &mut Self) {
        self.events.append(&mut other.events);
        self.blobs_gone.append(&mut other.blobs_gone);
        self.mailboxes_gone.append(&mut other.mailboxes_gone);
    }

    pub(super) fn event(&mut self, event: Event) {
        if !self.events.contains(&event) {
            self.events.push(event);
        }
    }
}

/// One group in its transaction. Writes run one after the other, each between [`Tx::begin`] and [`Tx::keep`] or [`Tx::undo`].
#[derive(Debug)]
pub(super) struct Tx<'c> {
    pub(super) connection: &'c Connection,
    pub(super) options: &'c Options,
    pub(super) today: i32,
    pub(super) meta: Meta,
    pub(super) ids: &'c mut Ids,
    /// Whether the entry applied now was just made here, so that what it names anew can't be there yet.
    pub(super) local: bool,
    /// The last content put in, so that its placement needs no query.
    pub(super) last_content: Option<Content>,
    pub(super) attestations: Vec<Digests>,
    pub(super) effects: Effects,
    /// Whether this write runs in a savepoint.
    savepoint: bool,
    meta_before: Meta,
    attested_before: (usize, usize),
    /// Mailboxes that this write looked at; `None`: deleted.
    rows: HashMap<i64, Option<MailboxRow>>,
    group_rows: HashMap<i64, Option<MailboxRow>>,
    group_effects: Effects,
}

impl<'c> Tx<'c> {
    pub(super) fn new(connection: &'c Connection, options: &'c Options, meta: Meta, ids: &'c mut Ids) -> Self {
        ids.bound();
        Self {
            connection,
            options,
            today: (options.today)(),
            savepoint: false,
            meta_before: meta.clone(),
            meta,
            ids,
            local: false,
            last_content: None,
            attestations: Vec::new(),
            effects: Effects::default(),
            attested_before: (0, 0),
            rows: HashMap::new(),
            group_rows: HashMap::new(),
            group_effects: Effects::default(),
        }
    }

    pub(super) fn sql(&self, sql: &str) -> Result<CachedStatement<'c>, StoreError> {
        Ok(self.connection.prepare_cached(sql)?)
    }

    /// `shared`: other writes are in the transaction, so that this one must be undone alone. Without, a failure is the
    /// whole transaction's, and [`Tx::undo`] must not be called.
    pub(super) fn begin(&mut self, shared: bool) -> Result<(), StoreError> {
        if shared {
            self.sql("SAVEPOINT one")?.execute([])?;
        }
        self.savepoint = shared;
        self.meta_before = self.meta.clone();
        self.attested_before = (self.attestations.len(), self.attestations.last().map_or(0, |last| last.digests.len()));
        Ok(())
    }

    /// The write succeeded: what it did stays, if the group commits.
    pub(super) fn keep(&mut self) -> Result<(), StoreError> {
        if self.savepoint {
            self.sql("RELEASE one")?.execute([])?;
        }
        for (id, row) in self.rows.drain() {
            let bumped = row.as_ref().is_some_and(|row| row.bumped);
            if let (true, Some(row)) = (bumped, &row) {
                self.effects.event(Event::Mailbox(row.user_id, row.mailbox, row.modseq));
            }
            self.group_rows.insert(id, row.map(|row| MailboxRow { bumped: false, ..row }));
        }
        self.group_effects.append(&mut self.effects);
        self.last_content = None;
        Ok(())
    }

    /// The write failed: everything is as before it.
    pub(super) fn undo(&mut self) -> Result<(), StoreError> {
        self.sql("ROLLBACK TO one")?.execute([])?;
        self.sql("RELEASE one")?.execute([])?;
        self.meta = self.meta_before.clone();
        self.attestations.truncate(self.attested_before.0);
        if let Some(last) = self.attestations.last_mut() {
            last.digests.truncate(self.attested_before.1);
        }
        self.rows.clear();
        self.effects = Effects::default();
        self.ids.clear();
        self.last_content = None;
        Ok(())
    }

    /// Writes what was held in memory. The caller commits.
    pub(super) fn finish(mut self, sign: &dyn Fn(&[u8]) -> Vec<u8>) -> Result<Finished, StoreError> {
        let me = self.instance(self.meta.me)?;
        for Digests { id, digests } in std::mem::take(&mut self.attestations) {
            if digests.is_empty() {
                continue;
            }
            let mut signed = super::Attestation::SIGNED_PREFIX.to_vec();
            signed.extend_from_slice(&digests);
            self.sql("INSERT INTO attestations VALUES (?, ?, ?, ?)")?.execute(params![
                id,
                me,
                digests,
                sign(&signed)
            ])?;
        }
        const SQL: &str = "UPDATE mailboxes SET uid_next = ?, modseq = ?, recent_from = ?, messages = ?, unseen = ?, size = ?, vanished = ?, forgotten = ? WHERE id = ?";
        for (id, row) in &self.group_rows {
            let Some(row) = row else { continue };
            self.sql(SQL)?.execute(params![
                row.uid_next,
                row.modseq.cast_signed(),
                row.recent_from,
                row.messages,
                row.unseen,
                row.size.cast_signed(),
                row.vanished,
                row.forgotten.cast_signed(),
                id
            ])?;
        }
        self.meta.save(self.connection)?;
        Ok(Finished {
            meta: self.meta,
            effects: self.group_effects,
            mailboxes: self.group_rows.into_values().flatten().collect(),
        })
    }

    /// The numbers of a mailbox, to be changed in place.
    pub(super) fn mailbox(&mut self, id: i64) -> Result<&mut MailboxRow, StoreError> {
        if !self.rows.contains_key(&id) {
            let row = match self.group_rows.get(&id) {
                Some(row) => row.clone(),
                None => self.sql(MailboxRow::SELECT)?.query_row([id], MailboxRow::read).optional()?,
            };
            self.rows.insert(id, row);
        }
        self.rows.get_mut(&id).and_then(Option::as_mut).ok_or(StoreError::NotFound("mailbox"))
    }

    /// The mailbox's row was deleted.
    pub(super) fn mailbox_gone(&mut self, id: i64, mailbox: MailboxId) {
        self.rows.insert(id, None);
        self.ids.mailboxes.remove(&mailbox);
        self.effects.mailboxes_gone.push(mailbox);
    }

    pub(super) fn user(&mut self, user: UserId) -> Result<Option<i64>, StoreError> {
        if let Some(id) = self.ids.users.get(&user) {
            return Ok(Some(*id));
        }
        let id = self.sql("SELECT id FROM users WHERE user = ?")?.query_row([user.0], |row| row.get(0)).optional()?;
        self.ids.users.extend(id.map(|id| (user, id)));
        Ok(id)
    }

    pub(super) fn mailbox_id(&mut self, mailbox: MailboxId) -> Result<Option<i64>, StoreError> {
        if let Some(id) = self.ids.mailboxes.get(&mailbox) {
            return Ok(Some(*id));
        }
        let mut find = self.sql("SELECT id FROM mailboxes WHERE mailbox = ?")?;
        let id = find.query_row([mailbox.0], |row| row.get(0)).optional()?;
        self.ids.mailboxes.extend(id.map(|id| (mailbox, id)));
        Ok(id)
    }

    /// The mailbox, if it is there and this user's.
    pub(super) fn mailbox_of(&mut self, user: UserId, mailbox: MailboxId) -> Result<i64, StoreError> {
        let id = self.mailbox_id(mailbox)?.ok_or(StoreError::NotFound("mailbox"))?;
        if self.mailbox(id)?.user_id == user { Ok(id) } else { Err(StoreError::NotFound("mailbox")) }
    }

    pub(super) fn instance(&mut self, instance: InstanceId) -> Result<i64, StoreError> {
        if let Some(id) = self.ids.instances.get(&instance) {
            return Ok(*id);
        }
        self.sql("INSERT OR IGNORE INTO instances (instance) VALUES (?)")?.execute([instance.0])?;
        let id = self.sql("SELECT id FROM instances WHERE instance = ?")?.query_row([instance.0], |row| row.get(0))?;
        self.ids.instances.insert(instance, id);
        Ok(id)
    }

    /// A new entry of our own log, later than everything seen.
    pub(super) fn entry(&mut self, operation: Operation) -> LogEntry {
        self.meta.day = self.meta.day.max(self.today);
        self.meta.counter += 1;
        self.meta.sequence += 1;
        let stamp = Stamp { day: self.meta.day, counter: self.meta.counter, instance: self.meta.me };
        LogEntry { sequence: self.meta.sequence, stamp, operation }
    }

    /// Adds an entry to the log; `false`: it was there.
    pub(super) fn log(&mut self, entry: &LogEntry) -> Result<bool, StoreError> {
        let instance = self.instance(entry.stamp.instance)?;
        let operation = minicbor::to_vec(&entry.operation).map_err(|error| StoreError::Backend(error.to_string()))?;
        let added = self.sql("INSERT OR IGNORE INTO log VALUES (?, ?, ?, ?, ?)")?.execute(params![
            instance,
            entry.sequence.cast_signed(),
            entry.stamp.day,
            entry.stamp.counter.cast_signed(),
            operation
        ])?;
        self.meta.log_entries += added.cast_signed() as i64;
        Ok(added == 1)
    }

    /// Whether the thing of that id was removed for good.
    pub(super) fn removed(&self, id: [u8; 16]) -> Result<bool, StoreError> {
        Ok(self.sql("SELECT 1 FROM removed WHERE id = ?")?.exists([id])?)
    }

    /// Remembers for good that the thing of that id was removed.
    pub(super) fn remove(&self, id: [u8; 16]) -> Result<(), StoreError> {
        self.sql("INSERT OR IGNORE INTO removed VALUES (?)")?.execute([id])?;
        Ok(())
    }
}

/// A group that waits for its commit.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) meta: Meta,
    pub(super) effects: Effects,
    pub(super) mailboxes: Vec<MailboxRow>,
}
