//! Sealed records of users: registers, each with the write of the highest stamp.
//!
//! The log keeps the bytes of a record only as long as they hold: whoever takes their place, or removes them, erases them from the
//! entry that brought them. The entry itself stays, with nothing in it, and folds to the same state wherever it comes.

use super::apply::{Applied, perform, wait};
use super::tx::Tx;
use super::{Event, StoreError};
use crate::id::RecordId;
use crate::operation::{LogEntry, Operation, Stamp};
use crate::store::{NewRecord, RecordKind, StoredRecord, Written};
use mesyx_sdk::UserId;
use rusqlite::{Connection, OptionalExtension, Row, params};

/// Longest sealed record, in bytes: room for a certificate with some history.
pub(super) const LONGEST: usize = 256 << 10;

/// Carries out [`crate::store::Write::PutRecord`].
pub(super) fn put(tx: &mut Tx<'_>, new: NewRecord) -> Result<Written, StoreError> {
    let NewRecord { user, record, kind, day, sealed, most, only_new } = new;
    let id = tx.user(user)?.ok_or(StoreError::NotFound("user"))?;
    if sealed.is_empty() || sealed.len() > LONGEST {
        return Err(StoreError::Invalid("a record has 1 byte to 256 KiB"));
    }
    let there = tx
        .sql("SELECT 1 FROM records WHERE user = ? AND record = ? AND sealed IS NOT NULL")?
        .exists(params![id, record.0])?;
    if there && only_new {
        return Ok(Written::Done);
    }
    if !there && let Some(most) = most {
        make_room(tx, user, id, kind, most)?;
    }
    perform(tx, Operation::PutRecord { user, record, kind: kind.number(), day, sealed })?;
    Ok(Written::Done)
}

/// Removes the oldest of a kind, so that one more makes `most` at the most.
fn make_room(tx: &mut Tx<'_>, user: UserId, id: i64, kind: RecordKind, most: u32) -> Result<(), StoreError> {
    const SQL: &str = "SELECT record FROM records WHERE user = ? AND kind = ? AND sealed IS NOT NULL
        ORDER BY stamp DESC LIMIT -1 OFFSET ?";
    let kept = most.max(1) - 1;
    let mut select = tx.sql(SQL)?;
    let old = select.query_map(params![id, kind.number(), kept], |row| Ok(RecordId(row.get(0)?)))?;
    for record in old.collect::<Result<Vec<_>, _>>()? {
        perform(tx, Operation::RemoveRecord { user, record })?;
    }
    Ok(())
}

/// Carries out [`crate::store::Write::RemoveRecords`]; those that are not there are passed over.
pub(super) fn remove(tx: &mut Tx<'_>, user: UserId, records: &[RecordId]) -> Result<Written, StoreError> {
    let id = tx.user(user)?.ok_or(StoreError::NotFound("user"))?;
    for record in records {
        const SQL: &str = "SELECT 1 FROM records WHERE user = ? AND record = ? AND sealed IS NOT NULL";
        if tx.sql(SQL)?.exists(params![id, record.0])? {
            perform(tx, Operation::RemoveRecord { user, record: *record })?;
        }
    }
    Ok(Written::Done)
}

/// A write to the register of one record.
pub(super) struct Change<'a> {
    pub(super) user: UserId,
    pub(super) record: RecordId,
    /// Kind and day; of a removal, what the record had stays.
    pub(super) about: Option<(u8, i32)>,
    /// Empty: removed, or replaced by a later write that is still to come.
    pub(super) sealed: &'a [u8],
}

/// The record as it is.
struct Held {
    stamp: [u8; 28],
    instance: i64,
    sequence: i64,
    about: (u8, i32),
}

impl Change<'_> {
    pub(super) fn apply(&self, tx: &mut Tx<'_>, entry: &LogEntry) -> Result<Applied, StoreError> {
        let stamp: [u8; 28] = entry.stamp.to_bytes();
        let (instance, sequence) = (tx.instance(entry.stamp.instance)?, entry.sequence.cast_signed());
        if tx.removed(self.user.0)? {
            erase(tx, instance, sequence)?;
            return Ok(Applied::Done);
        }
        let Some(user) = tx.user(self.user)? else { return wait(tx, entry, self.user.0, None) };
        const SQL: &str = "SELECT stamp, instance, sequence, kind, day FROM records WHERE user = ? AND record = ?";
        let held = tx.sql(SQL)?.query_row(params![user, self.record.0], |row| {
            Ok(Held {
                stamp: row.get(0)?,
                instance: row.get(1)?,
                sequence: row.get(2)?,
                about: (row.get(3)?, row.get(4)?),
            })
        });
        let held = held.optional()?;
        let about = self.about.or(held.as_ref().map(|held| held.about)).unwrap_or_default();
        match held {
            Some(held) if held.stamp == stamp => return Ok(Applied::Done),
            Some(held) if held.stamp > stamp => {
                // A removal that came before what it removes does not know its kind.
                if let Some((kind, day)) = self.about.filter(|_| held.about == (0, 0)) {
                    let mut update = tx.sql("UPDATE records SET kind = ?, day = ? WHERE user = ? AND record = ?")?;
                    update.execute(params![kind, day, user, self.record.0])?;
                }
                erase(tx, instance, sequence)?;
                return Ok(Applied::Done);
            }
            Some(held) => erase(tx, held.instance, held.sequence)?,
            None => {}
        }
        const PUT: &str = "INSERT INTO records (user, record, kind, day, stamp, instance, sequence, sealed)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (user, record)
            DO UPDATE SET kind = ?3, day = ?4, stamp = ?5, instance = ?6, sequence = ?7, sealed = ?8";
        let sealed = Some(self.sealed).filter(|sealed| !sealed.is_empty());
        tx.sql(PUT)?.execute(params![user, self.record.0, about.0, about.1, stamp, instance, sequence, sealed])?;
        tx.effects.event(Event::Records(self.user));
        Ok(Applied::Done)
    }
}

/// A user goes: the log forgets the bytes of their records.
pub(super) fn user_goes(tx: &mut Tx<'_>, user: i64) -> Result<(), StoreError> {
    let mut select = tx.sql("SELECT instance, sequence FROM records WHERE user = ? AND sealed IS NOT NULL")?;
    let entries = select.query_map([user], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<Vec<_>, _>>()?;
    entries.into_iter().try_for_each(|(instance, sequence)| erase(tx, instance, sequence))
}

/// Takes the sealed bytes out of a log entry.
fn erase(tx: &Tx<'_>, instance: i64, sequence: i64) -> Result<(), StoreError> {
    let mut select = tx.sql("SELECT operation FROM log WHERE instance = ? AND sequence = ?")?;
    let encoded: Option<Vec<u8>> = select.query_row(params![instance, sequence], |row| row.get(0)).optional()?;
    let failed = |error: &dyn std::fmt::Display| StoreError::Backend(format!("an entry of the operation log: {error}"));
    let Some(encoded) = encoded else { return Ok(()) };
    let operation = minicbor::decode::<Operation>(&encoded).map_err(|error| failed(&error))?;
    let Operation::PutRecord { user, record, kind, day, sealed } = operation else { return Ok(()) };
    if sealed.is_empty() {
        return Ok(());
    }
    let emptied = Operation::PutRecord { user, record, kind, day, sealed: Vec::new() };
    let emptied = minicbor::to_vec(&emptied).map_err(|error| failed(&error))?;
    tx.sql("UPDATE log SET operation = ? WHERE instance = ? AND sequence = ?")?
        .execute(params![emptied, instance, sequence])?;
    Ok(())
}

const SELECT: &str = "SELECT r.record, r.kind, r.day, r.stamp, r.sealed FROM records r JOIN users u ON u.id = r.user
    WHERE u.user = ? AND r.sealed IS NOT NULL";

fn read(row: &Row<'_>) -> rusqlite::Result<StoredRecord> {
    let stamp: [u8; 28] = row.get(3)?;
    Ok(StoredRecord {
        record: RecordId(row.get(0)?),
        kind: RecordKind::of_number(row.get(1)?),
        day: row.get(2)?,
        stamp: Stamp::from_bytes(stamp),
        sealed: row.get(4)?,
    })
}

/// All records of one kind, the oldest write first.
pub(super) fn of_kind(
    connection: &Connection,
    user: UserId,
    kind: RecordKind,
) -> Result<Vec<StoredRecord>, StoreError> {
    let mut select = connection.prepare_cached(&format!("{SELECT} AND r.kind = ? ORDER BY r.stamp"))?;
    Ok(select.query_map(params![user.0, kind.number()], read)?.collect::<Result<_, _>>()?)
}

/// One record.
pub(super) fn one(connection: &Connection, user: UserId, record: RecordId) -> Result<Option<StoredRecord>, StoreError> {
    let mut select = connection.prepare_cached(&format!("{SELECT} AND r.record = ?"))?;
    Ok(select.query_row(params![user.0, record.0], read).optional()?)
}

/// Carries out [`crate::store::Write::PutCached`].
pub(super) fn put_cached(
    tx: &Tx<'_>,
    hash: [u8; 32],
    day: i32,
    value: &[u8],
    oldest: i32,
    most: u32,
) -> Result<Written, StoreError> {
    tx.sql("DELETE FROM cached WHERE day < ?")?.execute([oldest])?;
    tx.sql("INSERT OR REPLACE INTO cached VALUES (?, ?, ?)")?.execute(params![hash, day, value])?;
    let count: i64 = tx.sql("SELECT count(*) FROM cached")?.query_row([], |row| row.get(0))?;
    if count > i64::from(most) {
        const SQL: &str =
            "DELETE FROM cached WHERE hash IN (SELECT hash FROM cached WHERE hash <> ?1 ORDER BY day LIMIT ?2)";
        tx.sql(SQL)?.execute(params![hash, count - i64::from(most)])?;
    }
    Ok(Written::Done)
}

/// A value that is kept for a while.
pub(super) fn cached(connection: &Connection, hash: [u8; 32]) -> Result<Option<Vec<u8>>, StoreError> {
    let mut select = connection.prepare_cached("SELECT value FROM cached WHERE hash = ?")?;
    Ok(select.query_row([hash], |row| row.get(0)).optional()?)
}
