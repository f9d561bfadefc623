//! Conversations of one user: lines as they are said, how far they were read, ranges of them.

use super::apply::perform;
use super::content::Prepared;
use super::flags::SEEN;
use super::read::{FoundPart, Gathering, Want, numbers_id};
use super::resolve::{existing_user, place};
use super::tx::Tx;
use super::{StoreError, groups, queue, records};
use crate::operation::Operation;
use crate::store::{LineNumbers, LineRange, NewConversation, Speaking, Written};
use mesyx_sdk::{MailboxId, MessageId, PlacementId, Uid, UserId};
use rusqlite::{Connection, OptionalExtension, Rows, params};

/// Carries out [`crate::store::Write::Speak`]. `prepared` has one element for each copy, and one for the content that leaves.
pub(super) fn speak(tx: &mut Tx<'_>, line: Speaking, prepared: &[Prepared]) -> Result<(Written, Vec<Uid>), StoreError> {
    let Speaking { make, copies, dedup, outbound, author, change, then: _ } = line;
    if let Some(hash) = dedup {
        let new = tx.sql("INSERT OR IGNORE INTO dedup VALUES (?, ?)")?.execute(params![hash, tx.today])?;
        if new == 0 {
            tx.effects.blobs_gone.extend(prepared.iter().filter_map(|prepared| prepared.blob));
            return Ok((Written::Spoken { duplicate: true }, Vec::new()));
        }
    }
    for conversation in make {
        create(tx, conversation)?;
    }
    if let Some(change) = change {
        groups::write(tx, *change)?;
    }
    let mut uids = Vec::with_capacity(copies.len());
    for (placing, prepared) in copies.iter().zip(prepared) {
        let uid = place(tx, placing, *prepared)?;
        if let Some(author) = author {
            groups::said(tx, placing.message.user, placing.mailbox, uid, author)?;
        }
        uids.push(uid);
    }
    if let Some((message, jobs, most_jobs)) = outbound {
        let content = prepared.get(copies.len()).ok_or(StoreError::Invalid("a line's content was not prepared"))?;
        queue::enqueue_all(tx, &message, &jobs, most_jobs, *content)?;
    }
    Ok((Written::Spoken { duplicate: false }, uids))
}

/// Makes a conversation's mailbox, where it is not there.
fn create(tx: &mut Tx<'_>, NewConversation { mailbox, name, record }: NewConversation) -> Result<(), StoreError> {
    let user = record.user;
    existing_user(tx, user)?;
    if tx.mailbox_id(mailbox)?.is_some() {
        return Ok(());
    }
    if tx.removed(mailbox.0)? {
        return Err(StoreError::Exists("a conversation of that id, which was deleted,"));
    }
    let name = name.as_str().to_owned();
    perform(tx, Operation::CreateMailbox { user, mailbox, name: name.clone(), role: None })?;
    perform(tx, Operation::Subscribe { user, name, subscribed: true })?;
    records::put(tx, record)?;
    Ok(())
}

/// Carries out [`crate::store::Write::MarkRead`].
pub(super) fn mark_read(tx: &mut Tx<'_>, user: UserId, mailbox: MailboxId, up_to: Uid) -> Result<Written, StoreError> {
    if let Some(view) = groups::view(tx, user, mailbox)? {
        return groups::mark_read(tx, view, up_to);
    }
    let id = tx.mailbox_of(user, mailbox)?;
    const { assert!(SEEN == 16) };
    const SQL: &str = "SELECT placement FROM placements WHERE mailbox = ? AND flags & 16 = 0 AND uid <= ?";
    let mut select = tx.sql(SQL)?;
    let unseen = select.query_map(params![id, up_to], |row| Ok(PlacementId(row.get(0)?)))?;
    for placement in unseen.collect::<Result<Vec<_>, _>>()? {
        perform(tx, Operation::AddFlags { placement, flags: vec!["\\Seen".to_owned()] })?;
    }
    Ok(Written::Done)
}

/// How far a mailbox was read.
pub(super) fn numbers(connection: &Connection, of: UserId, mailbox: MailboxId) -> Result<LineNumbers, StoreError> {
    let id = numbers_id(connection, of, mailbox)?;
    let one = |sql: &str| -> Result<Option<Uid>, StoreError> {
        Ok(connection.prepare_cached(sql)?.query_row([id], |row| row.get(0)).optional()?)
    };
    let last = one("SELECT uid FROM placements WHERE mailbox = ? ORDER BY uid DESC LIMIT 1")?.unwrap_or(0);
    let first = one("SELECT uid FROM placements WHERE mailbox = ? ORDER BY uid LIMIT 1")?.unwrap_or(0);
    let unread = one("SELECT uid FROM placements WHERE mailbox = ? AND flags & 16 = 0 ORDER BY uid LIMIT 1")?;
    Ok(LineNumbers { first, last, read: unread.map_or(last, |uid| uid - 1) })
}

/// Bodies of a range, each with whether it was read.
pub(super) fn lines(
    connection: &Connection,
    of: UserId,
    mailbox: MailboxId,
    range: LineRange,
) -> Result<Vec<(FoundPart, bool)>, StoreError> {
    let id = numbers_id(connection, of, mailbox)?;
    let want = Want::Bodies(range.max_bytes);
    let order = if range.last { "DESC" } else { "ASC" };
    let sql = format!(
        "{}, p.uid, p.flags & 16 <> 0 FROM placements p JOIN messages m ON m.id = p.content
        JOIN session_keys k ON k.id = m.session_key LEFT JOIN bodies b ON b.id = m.id
        WHERE p.mailbox = ? AND p.uid > ? AND p.uid < ? ORDER BY p.uid {order} LIMIT ?",
        want.columns()
    );
    let mut select = connection.prepare_cached(&sql)?;
    let rows = select.query(params![id, range.after, range.before, range.limit])?;
    gathered(Gathering::new(connection, of, want), rows, range.last)
}

/// Lines and whether they were read, from rows that have the UID and that behind what [`Want::columns`] names; `backwards`: the last line first.
pub(super) fn gathered(
    mut gathering: Gathering<'_>,
    mut rows: Rows<'_>,
    backwards: bool,
) -> Result<Vec<(FoundPart, bool)>, StoreError> {
    let mut seen = Vec::new();
    while let Some(row) = rows.next()? {
        if !gathering.take(row.get(8)?, row)? {
            break;
        }
        seen.push(row.get(9)?);
    }
    let mut lines: Vec<_> = gathering.done().into_iter().zip(seen).collect();
    if backwards {
        lines.reverse();
    }
    Ok(lines)
}

/// The number of a message in a mailbox.
pub(super) fn uid_of(
    connection: &Connection,
    of: UserId,
    mailbox: MailboxId,
    message: MessageId,
) -> Result<Option<Uid>, StoreError> {
    let id = numbers_id(connection, of, mailbox)?;
    const SQL: &str = "SELECT p.uid FROM users u JOIN messages m ON m.user = u.id AND m.message = ?
        JOIN placements p ON p.content = m.id AND p.mailbox = ? WHERE u.user = ?";
    let mut select = connection.prepare_cached(SQL)?;
    Ok(select.query_row(params![message.0, id, of.0], |row| row.get(0)).optional()?)
}
