//! Keys of users: what a change of them does, and what is sealed to which.

use super::apply::{Applied, perform, wait};
use super::resolve::{existing_user, put_secret_key, put_slot};
use super::tx::Tx;
use super::{Event, StoreError, reshow};
use crate::id::KeysetId;
use crate::operation::{LogEntry, Operation};
use crate::seal::{SealedSessionKey, recipients};
use crate::store::{Held, KeyChange, KeysetMove, KeysetUse, SealedUse, Shown, StoredSecretKey};
use mesyx_sdk::UserId;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::BTreeMap;

/// Carries out a change of a user's keys.
pub(super) fn change(tx: &mut Tx<'_>, change: &KeyChange) -> Result<(), StoreError> {
    let user = change.user;
    let id = existing_user(tx, user)?;
    for (identity, certificate) in &change.keep_identities {
        perform(tx, Operation::KeepIdentity { user, identity: *identity, certificate: certificate.clone() })?;
    }
    if let Some(certificate) = &change.identity {
        perform(tx, Operation::PutIdentity { user, certificate: certificate.clone() })?;
    }
    for (keyset, record) in &change.put_keysets {
        if tx.removed(keyset.0)? {
            return Err(StoreError::Invalid("a keyset of this id was removed; make one with another id"));
        }
        perform(tx, Operation::PutKeyset { user, keyset: *keyset, record: record.clone() })?;
    }
    for keyset in &change.remove_keysets {
        if sealed_to(tx, id, *keyset)? {
            return Err(StoreError::Invalid("messages are sealed to this keyset: its secret key must stay"));
        }
        perform(tx, Operation::RemoveKeyset { user, keyset: *keyset })?;
    }
    if let Some(record) = &change.rotation {
        perform(tx, Operation::PutRotation { user, record: record.clone() })?;
    }
    for slot in &change.remove_slots {
        tx.sql("DELETE FROM slots WHERE user = ? AND slot = ?")?.execute(params![id, slot.0])?;
    }
    change.put_slots.iter().try_for_each(|slot| put_slot(tx, id, slot))?;
    if change.drop_secret_keys {
        tx.sql("DELETE FROM secret_keys WHERE user = ?")?.execute([id])?;
    }
    for keyset in &change.remove_secret_keys {
        let keyset = keyset.as_ref().map_or(&[][..], |keyset| &keyset.0[..]);
        tx.sql("DELETE FROM secret_keys WHERE user = ? AND keyset = ?")?.execute(params![id, keyset])?;
    }
    change.put_secret_keys.iter().try_for_each(|key| put_secret_key(tx, id, key))?;
    for keyset in &change.show_sealed {
        reshow::begin(tx, id, KeysetMove { user, keyset: *keyset, shown: Shown::Sealed })?;
    }
    tx.effects.event(Event::Secrets(user));
    Ok(())
}

/// Whether any message of a user is sealed to a keyset: a session key goes with its last message.
fn sealed_to(tx: &Tx<'_>, user: i64, keyset: KeysetId) -> Result<bool, StoreError> {
    const SQL: &str = "SELECT 1 FROM session_keys WHERE user = ?1 AND keyset = ?2
        UNION ALL SELECT 1 FROM group_keys WHERE user = ?1 AND keyset = ?2";
    Ok(tx.sql(SQL)?.exists(params![user, keyset.0])?)
}

/// Refuses a new message that was sealed a moment before its keyset was removed: its secret key may be gone. A session key that is
/// known has messages, so that its keyset was not removed.
pub(super) fn refuse_removed(tx: &Tx<'_>, key: &SealedSessionKey) -> Result<(), StoreError> {
    if !tx.ids.session_keys.contains_key(&key.id) && tx.removed(key.keyset.0)? {
        return Err(StoreError::KeysetGone);
    }
    Ok(())
}

/// Applies `KeepIdentity`: of each certificate the latest version stays.
pub(super) fn keep_identity(
    tx: &mut Tx<'_>,
    entry: &LogEntry,
    user: UserId,
    identity: KeysetId,
    certificate: &[u8],
) -> Result<Applied, StoreError> {
    if tx.removed(user.0)? {
        return Ok(Applied::Done);
    }
    let Some(id) = tx.user(user)? else { return wait(tx, entry, user.0, None) };
    const SQL: &str = "INSERT INTO identities VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT (user, identity) DO UPDATE SET certificate = ?3, stamp = ?4 WHERE stamp < ?4";
    tx.sql(SQL)?.execute(params![id, identity.0, certificate, entry.stamp.to_bytes()])?;
    tx.effects.event(Event::Directory);
    Ok(Applied::Done)
}

/// Applies `PutRotation`: the latest policy holds.
pub(super) fn put_rotation(
    tx: &mut Tx<'_>,
    entry: &LogEntry,
    user: UserId,
    record: &[u8],
) -> Result<Applied, StoreError> {
    if tx.removed(user.0)? {
        return Ok(Applied::Done);
    }
    let Some(id) = tx.user(user)? else { return wait(tx, entry, user.0, None) };
    const SQL: &str = "INSERT INTO rotations VALUES (?1, ?2, ?3)
        ON CONFLICT (user) DO UPDATE SET record = ?2, stamp = ?3 WHERE stamp < ?3";
    tx.sql(SQL)?.execute(params![id, record, entry.stamp.to_bytes()])?;
    tx.effects.event(Event::Directory);
    Ok(Applied::Done)
}

/// What is sealed to each keyset of a user.
pub(super) fn usage(connection: &Connection, user: UserId) -> Result<Vec<KeysetUse>, StoreError> {
    const SQL: &str = "SELECT k.keyset, count(*), sum(m.size), min(m.day), max(m.day)
        FROM session_keys k JOIN messages m ON m.session_key = k.id
        WHERE k.user = (SELECT id FROM users WHERE user = ?) GROUP BY k.keyset";
    let mut select = connection.prepare_cached(SQL)?;
    let rows = select.query_map([user.0], |row| {
        let number = |at| row.get::<_, i64>(at).map(i64::unsigned_abs);
        let days = (row.get(3)?, row.get(4)?);
        Ok(KeysetUse { keyset: KeysetId(row.get(0)?), messages: number(1)?, bytes: number(2)?, days })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// As [`usage`], by the keys too that messages are sealed to.
pub(super) fn sealed_use(connection: &Connection, user: UserId) -> Result<Vec<SealedUse>, StoreError> {
    const SQL: &str = "SELECT k.keyset, k.packets, count(*), sum(m.size), min(m.day), max(m.day)
        FROM session_keys k JOIN messages m ON m.session_key = k.id
        WHERE k.user = (SELECT id FROM users WHERE user = ?) GROUP BY k.id";
    let mut select = connection.prepare_cached(SQL)?;
    let mut rows = select.query([user.0])?;
    let mut found: BTreeMap<_, SealedUse> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let number = |at| row.get::<_, i64>(at).map(i64::unsigned_abs);
        let keyset = KeysetId(row.get(0)?);
        let mut recipients = recipients(row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?);
        recipients.sort_unstable();
        let (first, last) = (row.get(4)?, row.get(5)?);
        let none = || SealedUse { keyset, recipients: recipients.clone(), messages: 0, bytes: 0, days: (first, last) };
        let group = found.entry((keyset, recipients.clone())).or_insert_with(none);
        group.messages += number(2)?;
        group.bytes += number(3)?;
        group.days = (group.days.0.min(first), group.days.1.max(last));
    }
    Ok(found.into_values().collect())
}

pub(super) fn shows_sealed(connection: &Connection, user: UserId, keyset: KeysetId) -> Result<bool, StoreError> {
    const SQL: &str = "SELECT 1 FROM session_keys k JOIN messages m ON m.session_key = k.id
        WHERE k.user = (SELECT id FROM users WHERE user = ?) AND k.keyset = ? AND m.shown <> 0";
    Ok(connection.prepare_cached(SQL)?.exists(params![user.0, keyset.0])?)
}

/// The column `held`: nothing where it is not known.
pub(super) fn listed(held: &[Held]) -> Result<Option<Vec<u8>>, StoreError> {
    let encoded = (!held.is_empty()).then(|| minicbor::to_vec(held));
    encoded.transpose().map_err(|error| StoreError::Backend(error.to_string()))
}

/// What [`listed`] wrote; nothing where that can't be read, so that it counts as not known.
pub(super) fn held(column: Option<&[u8]>) -> Vec<Held> {
    column.and_then(|bytes| minicbor::decode(bytes).ok()).unwrap_or_default()
}

/// The columns keyset, wrapped and held, the first of which is number `first`.
pub(super) fn secret_key(row: &Row<'_>, first: usize) -> rusqlite::Result<StoredSecretKey> {
    let keyset = row.get_ref(first)?.as_blob()?;
    Ok(StoredSecretKey {
        keyset: keyset.try_into().ok().map(KeysetId),
        wrapped: row.get(first + 1)?,
        held: held(row.get_ref(first + 2)?.as_blob_or_null()?),
    })
}

/// Secret keys of keysets of which it is not known what they open.
pub(super) fn unlisted(connection: &Connection) -> Result<Vec<(UserId, StoredSecretKey)>, StoreError> {
    const SQL: &str = "SELECT u.user, s.keyset, s.wrapped, s.held FROM secret_keys s JOIN users u ON u.id = s.user
        WHERE s.held IS NULL AND length(s.keyset) > 0";
    let mut select = connection.prepare_cached(SQL)?;
    let rows = select.query_map([], |row| Ok((UserId(row.get(0)?), secret_key(row, 1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn was_removed(connection: &Connection, keyset: KeysetId) -> Result<bool, StoreError> {
    let mut select = connection.prepare_cached("SELECT 1 FROM removed WHERE id = ?")?;
    Ok(select.query_row([keyset.0], |_| Ok(())).optional()?.is_some())
}
