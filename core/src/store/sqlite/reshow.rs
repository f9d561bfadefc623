//! What is shown of messages changes, and with it, in the same transaction, their UIDs (RFC 3501, section 2.3.1.1).
//!
//! ```text
//!   offline: begin (new mail is shown sealed) -> some, some, … -> end (secret key erased) -> scrub -> forget
//!   online:  begin (secret key put in)        -> some, some, … -> end                     -> scrub -> forget
//! ```
//! A keyset may have certificates whose secret keys are elsewhere. So a message is shown opened where a secret key of its keyset is
//! here *and* its session key is sealed to it; whatever came before or comes later, that is looked at for each session key.
//!
//! Killed anywhere between, every message is shown as its row says, under UIDs that never showed anything else; the row in
//! `keyset_moves` says what to go on with.

use super::apply::{find, relocate};
use super::content::{self, Prepared};
use super::keys::{held, listed};
use super::resolve::{done, existing_user, put_secret_key};
use super::tx::Tx;
use super::{Event, StoreError, read};
use crate::id::KeysetId;
use crate::seal::{RecipientId, SealedSessionKey, recipients};
use crate::store::{Held, KeyWrite, KeysetMove, Resealed, Shown, Written};
use mesyx_sdk::{PlacementId, Uid, UserId};
use rusqlite::{OptionalExtension, params};
use std::collections::{BTreeMap, BTreeSet};

/// Carries out one change; see [`resolve::run`].
pub(super) fn run(tx: &mut Tx<'_>, write: KeyWrite, prepared: &[Prepared]) -> Result<Written, StoreError> {
    match write {
        KeyWrite::RewrapSlot { user, old, new } => {
            let id = existing_user(tx, user)?;
            const SQL: &str = "UPDATE slots SET record = ?3 WHERE user = ?1 AND slot = ?2 AND record = ?4";
            tx.sql(SQL)?.execute(params![id, new.id.0, new.record, old])?;
            Ok(Written::Done)
        }
        KeyWrite::Move { keyset, secret } => {
            let id = existing_user(tx, keyset.user)?;
            if let Some(secret) = secret {
                if secret.keyset != Some(keyset.keyset) {
                    return Err(StoreError::Invalid("a secret key is another keyset's"));
                }
                put_secret_key(tx, id, &secret)?;
            }
            begin(tx, id, keyset).map(done)
        }
        KeyWrite::List { user, keyset, held } => {
            let id = existing_user(tx, user)?;
            list(tx, id, KeysetMove { user, keyset, shown: Shown::Opened }, &held).map(done)
        }
        KeyWrite::Reshow { user, keyset, after, limit } => {
            let id = existing_user(tx, user)?;
            some(tx, id, keyset, after, limit)
        }
        KeyWrite::EndMove { user, keyset } => {
            let id = existing_user(tx, user)?;
            end(tx, id, user, keyset).map(done)
        }
        KeyWrite::ForgetMove { user, keyset } => {
            let id = existing_user(tx, user)?;
            forget(tx, id, keyset).map(done)
        }
        KeyWrite::Scrub => Ok(Written::Done),
        KeyWrite::Reseal(messages) => {
            let mut resealed = 0;
            for (message, prepared) in messages.iter().zip(prepared) {
                let user = existing_user(tx, message.message.user)?;
                resealed += u32::from(reseal(tx, user, message, *prepared)?);
            }
            Ok(Written::Resealed(resealed))
        }
    }
}

/// The column `shown`.
pub(super) const fn column(shown: Shown) -> i64 {
    match shown {
        Shown::Opened => 0,
        Shown::Sealed => 1,
    }
}

/// How a message that comes now under a session key is shown.
pub(super) fn shown(tx: &Tx<'_>, user: i64, key: &SealedSessionKey) -> Result<Shown, StoreError> {
    Ok(Opens::now(tx, user, key.keyset)?.shown(&key.packets))
}

/// Which messages of a keyset are to be shown opened.
enum Opens {
    /// None: no secret key is here, or it is on its way out.
    Nothing,
    /// Those whose session keys are sealed to one of these keys.
    These(BTreeSet<RecipientId>),
    /// All: a secret key is here, and it is not known which.
    All,
}

impl Opens {
    fn now(tx: &Tx<'_>, user: i64, keyset: KeysetId) -> Result<Self, StoreError> {
        if moving(tx, user, keyset)? == Some(Shown::Sealed) {
            return Ok(Self::Nothing);
        }
        let mut select = tx.sql("SELECT held FROM secret_keys WHERE user = ? AND keyset = ?")?;
        let held = select.query_row(params![user, keyset.0], |row| Ok(held(row.get_ref(0)?.as_blob_or_null()?)));
        Ok(match held.optional()? {
            None => Self::Nothing,
            Some(held) if held.is_empty() => Self::All,
            Some(held) => Self::These(held.into_iter().flat_map(|held| held.keys).collect()),
        })
    }

    fn shown(&self, packets: &[u8]) -> Shown {
        let opens = match self {
            Self::Nothing => false,
            Self::These(keys) => recipients(packets).iter().any(|recipient| keys.contains(recipient)),
            Self::All => true,
        };
        if opens { Shown::Opened } else { Shown::Sealed }
    }
}

fn moving(tx: &Tx<'_>, user: i64, keyset: KeysetId) -> Result<Option<Shown>, StoreError> {
    let mut select = tx.sql("SELECT shown FROM keyset_moves WHERE user = ? AND keyset = ?")?;
    Ok(select.query_row(params![user, keyset.0], |row| row.get(0)).optional()?.map(read::shown))
}

pub(super) fn begin(tx: &mut Tx<'_>, user: i64, to: KeysetMove) -> Result<(), StoreError> {
    let mut put = tx.sql("INSERT OR REPLACE INTO keyset_moves VALUES (?, ?, ?)")?;
    put.execute(params![user, to.keyset.0, column(to.shown)])?;
    if to.shown == Shown::Opened {
        tx.effects.event(Event::Secrets(to.user));
    }
    Ok(())
}

/// What is in a secret key becomes known; its messages are looked at again, unless they are on their way already.
fn list(tx: &mut Tx<'_>, user: i64, to: KeysetMove, held: &[Held]) -> Result<(), StoreError> {
    let mut update = tx.sql("UPDATE secret_keys SET held = ? WHERE user = ? AND keyset = ? AND held IS NULL")?;
    let known = update.execute(params![listed(held)?, user, to.keyset.0])? > 0;
    if known && moving(tx, user, to.keyset)?.is_none() {
        begin(tx, user, to)?;
    }
    Ok(())
}

/// The next messages that are shown the old way, of the next session keys. A session key with more of them than that is the next again.
pub(super) fn some(
    tx: &mut Tx<'_>,
    user: i64,
    keyset: KeysetId,
    after: u64,
    limit: u32,
) -> Result<Written, StoreError> {
    if moving(tx, user, keyset)?.is_none() {
        return Ok(Written::Reshown { messages: 0, next: None });
    }
    let opens = Opens::now(tx, user, keyset)?;
    const KEYS: &str =
        "SELECT id, packets FROM session_keys WHERE user = ? AND keyset = ? AND id >= ? ORDER BY id LIMIT ?";
    let mut select = tx.sql(KEYS)?;
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let mut keys = select.query(params![user, keyset.0, after, limit])?;
    const OLD: &str = "SELECT id FROM messages WHERE session_key = ? AND shown <> ? ORDER BY id LIMIT ?";
    let mut old = tx.sql(OLD)?;
    let (mut contents, mut looked_at, mut next) = (Vec::new(), 0, None);
    while let Some(key) = keys.next()? {
        let id: i64 = key.get(0)?;
        let shown = column(opens.shown(key.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?));
        let room = (limit as usize).saturating_sub(contents.len());
        let most = i64::try_from(room).unwrap_or(i64::MAX).saturating_add(1);
        let found = old.query_map(params![id, shown, most], |row| row.get::<_, i64>(0))?;
        let found = found.collect::<Result<Vec<_>, _>>()?;
        contents.extend(found.iter().take(room).map(|content| (*content, shown)));
        looked_at += 1;
        if found.len() > room {
            next = Some(id.unsigned_abs());
            break;
        }
        next = (looked_at == limit).then(|| id.unsigned_abs() + 1);
    }
    for (content, shown) in &contents {
        tx.sql("UPDATE messages SET shown = ? WHERE id = ?")?.execute(params![shown, content])?;
    }
    let contents: Vec<i64> = contents.into_iter().map(|(content, _)| content).collect();
    renumber(tx, &contents)?;
    Ok(Written::Reshown { messages: u32::try_from(contents.len()).unwrap_or(u32::MAX), next })
}

/// Gives every placement of these contents a new UID in its mailbox; within a mailbox they keep their order. What no session had
/// been told of as recent stays so, and only that.
fn renumber(tx: &mut Tx<'_>, contents: &[i64]) -> Result<(), StoreError> {
    let mut placed: BTreeMap<(i64, Uid), PlacementId> = BTreeMap::new();
    for content in contents {
        let mut select = tx.sql("SELECT mailbox, uid, placement FROM placements WHERE content = ?")?;
        let mut rows = select.query([content])?;
        while let Some(row) = rows.next()? {
            placed.insert((row.get(0)?, row.get(1)?), PlacementId(row.get(2)?));
        }
    }
    let mailboxes: BTreeSet<i64> = placed.keys().map(|(mailbox, _)| *mailbox).collect();
    let mut claimed = Vec::new();
    for mailbox in mailboxes {
        let row = tx.mailbox(mailbox)?;
        if row.recent_from >= row.uid_next {
            claimed.push(mailbox);
        }
    }
    for placement in placed.into_values() {
        if let Some(found) = find(tx, placement)? {
            let mailbox = found.mailbox;
            relocate(tx, &found, mailbox, None)?;
        }
    }
    for mailbox in claimed {
        let row = tx.mailbox(mailbox)?;
        row.recent_from = row.uid_next;
    }
    Ok(())
}

pub(super) fn end(tx: &mut Tx<'_>, user: i64, of: UserId, keyset: KeysetId) -> Result<(), StoreError> {
    // Where they are shown opened, each message is shown as its own row says, and nothing goes now.
    if moving(tx, user, keyset)? != Some(Shown::Sealed) {
        return Ok(());
    }
    const LEFT: &str = "SELECT 1 FROM session_keys k JOIN messages m ON m.session_key = k.id
        WHERE k.user = ? AND k.keyset = ? AND m.shown <> ?";
    if tx.sql(LEFT)?.exists(params![user, keyset.0, column(Shown::Sealed)])? {
        return Err(StoreError::Invalid("messages remain that are shown the old way"));
    }
    let mut delete = tx.sql("DELETE FROM secret_keys WHERE user = ? AND keyset = ?")?;
    delete.execute(params![user, keyset.0])?;
    tx.effects.event(Event::Secrets(of));
    Ok(())
}

pub(super) fn forget(tx: &mut Tx<'_>, user: i64, keyset: KeysetId) -> Result<(), StoreError> {
    tx.sql("DELETE FROM keyset_moves WHERE user = ? AND keyset = ?")?.execute(params![user, keyset.0])?;
    Ok(())
}

/// Puts a message sealed anew in the place of what it was; `false` where that is not there any more.
pub(super) fn reseal(
    tx: &mut Tx<'_>,
    user: i64,
    Resealed { old, message }: &Resealed,
    prepared: Prepared,
) -> Result<bool, StoreError> {
    const FIND: &str =
        "SELECT m.id, m.session_key, m.attestation, m.size, length(m.summary) + m.body_bytes, m.blob, m.shown
        FROM messages m JOIN session_keys k ON k.id = m.session_key
        WHERE m.message = ? AND m.user = ? AND k.session_key = ?";
    let found = tx.sql(FIND)?.query_row(params![message.message.0, user, old.0], |row| {
        Ok((
            row.get::<_, i64>(0)?,
            (row.get::<_, i64>(1)?, row.get::<_, i64>(2)?),
            (row.get::<_, i64>(3)?, row.get::<_, i64>(4)?),
            row.get(5)?,
            read::shown(row.get(6)?),
        ))
    });
    let Some((id, (old_key, old_attestation), (old_size, old_bytes), old_blob, old_shown)) = found.optional()? else {
        tx.effects.blobs_gone.extend(prepared.blob);
        return Ok(false);
    };
    super::keys::refuse_removed(tx, &message.session_key)?;
    let session_key = content::session_key(tx, user, &message.session_key)?;
    let attestation = content::own(tx, &prepared.digests);
    let shown = shown(tx, user, &message.session_key)?;
    let size = i64::try_from(message.padded_size).map_err(|_| StoreError::Invalid("a message's size is impossible"))?;
    let (summary, body) = (&message.summary.0[..], &message.body.0[..]);
    const UPDATE: &str =
        "UPDATE messages SET session_key = ?2, attestation = ?3, size = ?4, body_bytes = ?5, blob = ?6,
        summary = ?7, shown = ?8 WHERE id = ?1";
    tx.sql(UPDATE)?.execute(params![
        id,
        session_key,
        attestation,
        size,
        body.len().cast_signed() as i64,
        prepared.blob,
        summary,
        column(shown)
    ])?;
    match prepared.blob {
        Some(_) => tx.sql("DELETE FROM bodies WHERE id = ?")?.execute([id])?,
        None => tx.sql("INSERT OR REPLACE INTO bodies VALUES (?, ?)")?.execute(params![id, body])?,
    };
    tx.effects.blobs_gone.extend::<Option<super::blobs::BlobName>>(old_blob);
    tx.last_content = None;
    tx.meta.bytes += (summary.len() + body.len()).cast_signed() as i64 - old_bytes;
    content::release_proofs(tx, old_key, old_attestation)?;
    if size != old_size {
        resize(tx, id, size)?;
    }
    if (old_shown, shown) != (Shown::Opened, Shown::Opened) {
        renumber(tx, &[id])?;
    }
    Ok(true)
}

/// The padded size that placements and mailboxes repeat.
fn resize(tx: &mut Tx<'_>, content: i64, size: i64) -> Result<(), StoreError> {
    let mut select = tx.sql("SELECT mailbox, uid, size FROM placements WHERE content = ?")?;
    let placed = select.query_map([content], |row| Ok((row.get(0)?, row.get::<_, Uid>(1)?, row.get::<_, i64>(2)?)))?;
    for (mailbox, uid, old) in placed.collect::<Result<Vec<_>, _>>()? {
        let mut update = tx.sql("UPDATE placements SET size = ? WHERE mailbox = ? AND uid = ?")?;
        update.execute(params![size, mailbox, uid])?;
        let row = tx.mailbox(mailbox)?;
        row.size = row.size.saturating_add_signed(size - old);
    }
    Ok(())
}
