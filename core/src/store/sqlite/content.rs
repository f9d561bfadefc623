//! Sealed content: put in once, erased with its last placement.

use super::blobs::BlobName;
use super::tx::{Content, Digests, Tx};
use super::{StoreError, reshow};
use crate::seal::{PartName, SealedMessage, SealedSessionKey};
use crate::store::{Attestation, part_digest};
use mesyx_sdk::MessageId;
use rusqlite::{OptionalExtension, params};
use std::sync::Arc;

/// Most bytes of digests under one attestation: 64 messages. Reading one message needs them all.
const MOST_DIGESTS: usize = 64 * 64;

/// What is worked out for a message before its write is queued, so that the writer need not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prepared {
    /// The digests of summary and body.
    pub(super) digests: [u8; 64],
    /// The file that holds the body.
    pub(super) blob: Option<BlobName>,
}

impl Prepared {
    pub(super) fn new(message: &SealedMessage, blob: Option<BlobName>) -> Self {
        let mut digests = [0; 64];
        let (summary, body) = digests.split_at_mut(32);
        summary.copy_from_slice(&part_digest(message.user, message.message, PartName::Summary, &message.summary));
        body.copy_from_slice(&part_digest(message.user, message.message, PartName::Body, &message.body));
        Self { digests, blob }
    }

    /// Of the queue's content, which nothing attests: it never leaves its instance so.
    pub(super) const fn of_queued(blob: Option<BlobName>) -> Self {
        Self { digests: [0; 64], blob }
    }
}

/// Puts a message's content in, unless the user has it already. `attested`: by another instance; otherwise by this one
/// when the group is complete.
pub(super) fn put(
    tx: &mut Tx<'_>,
    user: i64,
    message: &SealedMessage,
    prepared: Prepared,
    attested: Option<&Attestation>,
) -> Result<Content, StoreError> {
    if let Some(content) = find(tx, user, message.message)? {
        tx.effects.blobs_gone.extend(prepared.blob);
        return Ok(content);
    }
    let session_key = session_key(tx, user, &message.session_key)?;
    let attestation = match attested {
        Some(attestation) => foreign(tx, attestation)?,
        None => own(tx, &prepared.digests),
    };
    let size = i64::try_from(message.padded_size).map_err(|_| StoreError::Invalid("a message's size is impossible"))?;
    let (summary, body) = (&message.summary.0[..], &message.body.0[..]);
    let shown = reshow::shown(tx, user, &message.session_key)?;
    tx.sql("INSERT INTO messages VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?.execute(params![
        user,
        message.message.0,
        session_key,
        attestation,
        size,
        message.day,
        body.len().cast_signed() as i64,
        prepared.blob,
        summary,
        reshow::column(shown)
    ])?;
    let id = tx.connection.last_insert_rowid();
    if prepared.blob.is_none() {
        tx.sql("INSERT INTO bodies VALUES (?, ?)")?.execute(params![id, body])?;
    }
    tx.meta.messages += 1;
    tx.meta.bytes += (summary.len() + body.len()).cast_signed() as i64;
    let content = Content { id, user, message: message.message, size, day: message.day };
    tx.last_content = Some(content);
    Ok(content)
}

/// A user's content of that id.
pub(super) fn find(tx: &Tx<'_>, user: i64, message: MessageId) -> Result<Option<Content>, StoreError> {
    if let Some(content) = tx.last_content.filter(|content| content.user == user && content.message == message) {
        return Ok(Some(content));
    }
    let mut find = tx.sql("SELECT id, size, day FROM messages WHERE message = ? AND user = ?")?;
    let content = find.query_row(params![message.0, user], |row| {
        Ok(Content { id: row.get(0)?, user, message, size: row.get(1)?, day: row.get(2)? })
    });
    Ok(content.optional()?)
}

/// Erases content that no placement has and no waiting operation wants.
pub(super) fn release(tx: &mut Tx<'_>, id: i64, message: MessageId) -> Result<(), StoreError> {
    let placed = tx.sql("SELECT 1 FROM placements WHERE content = ?")?.exists([id])?;
    let wanted =
        placed || tx.meta.pending > 0 && tx.sql("SELECT 1 FROM pending WHERE message = ?")?.exists([message.0])?;
    if wanted { Ok(()) } else { erase(tx, id) }
}

/// Erases content, and the session key and the attestation that it was the last to need.
pub(super) fn erase(tx: &mut Tx<'_>, id: i64) -> Result<(), StoreError> {
    const SQL: &str =
        "DELETE FROM messages WHERE id = ? RETURNING session_key, attestation, blob, length(summary) + body_bytes";
    let mut delete = tx.sql(SQL)?;
    let gone: Option<(i64, i64, Option<BlobName>, i64)> = {
        let mut rows = delete.query([id])?;
        let gone = rows.next()?.map(|row| Ok::<_, StoreError>((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)));
        let gone = gone.transpose()?;
        while rows.next()?.is_some() {}
        gone
    };
    let Some((session_key, attestation, blob, bytes)) = gone else { return Ok(()) };
    tx.last_content = None;
    tx.meta.messages -= 1;
    tx.meta.bytes -= bytes;
    match blob {
        Some(blob) => tx.effects.blobs_gone.push(blob),
        None => {
            tx.sql("DELETE FROM bodies WHERE id = ?")?.execute([id])?;
        }
    }
    release_proofs(tx, session_key, attestation)
}

/// Erases a session key and an attestation that no message needs any more.
pub(super) fn release_proofs(tx: &mut Tx<'_>, session_key: i64, attestation: i64) -> Result<(), StoreError> {
    const KEY: &str =
        "DELETE FROM session_keys WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM messages WHERE session_key = ?1)";
    if tx.sql(KEY)?.execute([session_key])? > 0 {
        tx.ids.session_keys.retain(|_, known| *known != session_key);
    }
    const ATTESTATION: &str =
        "DELETE FROM attestations WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM messages WHERE attestation = ?1)";
    tx.sql(ATTESTATION)?.execute([attestation])?;
    Ok(())
}

/// The local id of a session key, put in where it is new.
pub(super) fn session_key(tx: &mut Tx<'_>, user: i64, key: &Arc<SealedSessionKey>) -> Result<i64, StoreError> {
    if let Some(id) = tx.ids.session_keys.get(&key.id) {
        return Ok(*id);
    }
    const PUT: &str = "INSERT OR IGNORE INTO session_keys (session_key, user, keyset, packets) VALUES (?, ?, ?, ?)";
    tx.sql(PUT)?.execute(params![key.id.0, user, key.keyset.0, &key.packets[..]])?;
    const GET: &str = "SELECT id, user FROM session_keys WHERE session_key = ?";
    let (id, owner): (i64, i64) = tx.sql(GET)?.query_row([key.id.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if owner != user {
        return Err(StoreError::Invalid("a session key is another user's"));
    }
    tx.ids.session_keys.insert(key.id, id);
    Ok(id)
}

pub(super) fn own(tx: &mut Tx<'_>, digests: &[u8; 64]) -> i64 {
    match tx.attestations.last_mut() {
        Some(last) if last.digests.len() < MOST_DIGESTS => {
            last.digests.extend_from_slice(digests);
            last.id
        }
        _ => {
            tx.meta.attestation += 1;
            let id = tx.meta.attestation;
            tx.attestations.push(Digests { id, digests: digests.to_vec() });
            id
        }
    }
}

fn foreign(tx: &mut Tx<'_>, attestation: &Attestation) -> Result<i64, StoreError> {
    let instance = tx.instance(attestation.instance)?;
    // Messages of one group come one after the other, so that only the last is worth comparing.
    const LAST: &str = "SELECT id FROM attestations WHERE id = ? AND instance = ? AND signature = ?";
    let mut last = tx.sql(LAST)?;
    let known = last.query_row(params![tx.meta.attestation, instance, attestation.signature], |row| row.get(0));
    if let Some(id) = known.optional()? {
        return Ok(id);
    }
    tx.meta.attestation += 1;
    tx.sql("INSERT INTO attestations VALUES (?, ?, ?, ?)")?.execute(params![
        tx.meta.attestation,
        instance,
        attestation.digests,
        attestation.signature
    ])?;
    Ok(tx.meta.attestation)
}
