//! A group as one of its members sees it: the lines of the epochs whose keys the member has, with the member's own flags.

use super::StoreError;
use super::conversations::gathered;
use super::flags::FlagReader;
use super::read::{FoundPart, Gathering, ReaderOf, Want, shown};
use crate::id::{KeysetId, RecordId, SessionKeyId, mailbox_id_for_role};
use crate::operation::Stamp;
use crate::seal::SealedSessionKey;
use crate::store::{LineNumbers, LineRange, RecordKind, Shown, StoredGroup, StoredRecord};
use bytes::Bytes;
use mesyx_sdk::{
    Changes, Entry, Mailbox, MailboxId, MailboxName, MailboxStatus, MessageId, ModSeq, Role, Snapshot, Timestamp, Uid,
    UserId,
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Lines of mailbox ?3 of group ?1 that user ?2 sees, in whichever order the mailbox is gone through.
const VISIBLE: &str = "FROM members v CROSS JOIN placements p CROSS JOIN messages m ON m.id = p.content
    CROSS JOIN session_keys k ON k.id = m.session_key
    CROSS JOIN group_keys g ON g.user = ?2 AND g.grp = ?1 AND g.epoch = k.session_key
    LEFT JOIN group_flags f ON f.grp = ?1 AND f.user = ?2 AND f.uid = p.uid
    WHERE v.grp = ?1 AND v.user = ?2 AND p.mailbox = ?3 AND NOT coalesce(f.gone, 0)";
/// Whether the member has read it.
const SEEN: &str = "coalesce(f.seen, p.uid <= v.marker)";
/// The columns of an entry.
const ENTRY: &str =
    "p.uid, p.message, max(p.modseq, coalesce(f.modseq, 0), coalesce((SELECT x.modseq FROM group_marks x
    WHERE x.grp = ?1 AND x.user = ?2 AND x.up_to >= p.uid ORDER BY x.up_to LIMIT 1), 0)),
    coalesce(f.flags, 0) | (16 * coalesce(f.seen, p.uid <= v.marker)), f.keywords, p.size, p.day";

/// A view by local ids, with the numbers of the group's mailbox.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers {
    pub(super) grp: i64,
    pub(super) user: i64,
    pub(super) group: UserId,
    pub(super) mailbox: i64,
    uid_validity: u32,
    uid_next: Uid,
    modseq: ModSeq,
    forgotten: ModSeq,
}

/// The view of a user on a group's mailbox.
///
/// # Errors
/// [`StoreError::NotFound`].
pub(super) fn find(connection: &Connection, of: UserId, mailbox: MailboxId) -> Result<Numbers, StoreError> {
    const SQL: &str = "SELECT v.grp, v.user, o.user, m.id, uid_validity, uid_next, modseq, forgotten FROM mailboxes m
        JOIN users o ON o.id = m.user JOIN groups ON groups.grp = o.id
        JOIN users u ON u.user = ?2 JOIN members v ON v.grp = o.id AND v.user = u.id WHERE m.mailbox = ?1";
    let found = connection.prepare_cached(SQL)?.query_row(params![mailbox.0, of.0], |row| {
        Ok(Numbers {
            grp: row.get(0)?,
            user: row.get(1)?,
            group: UserId(row.get(2)?),
            mailbox: row.get(3)?,
            uid_validity: row.get(4)?,
            uid_next: row.get(5)?,
            modseq: row.get::<_, i64>(6)?.unsigned_abs(),
            forgotten: row.get::<_, i64>(7)?.unsigned_abs(),
        })
    });
    found.optional()?.ok_or(StoreError::NotFound("mailbox"))
}

fn entry(row: &Row<'_>, flags: &mut FlagReader) -> rusqlite::Result<Entry> {
    Ok(Entry {
        uid: row.get(0)?,
        message: MessageId(row.get(1)?),
        modseq: row.get::<_, i64>(2)?.unsigned_abs(),
        flags: flags.read(row.get(3)?, row.get_ref(4)?.as_str_or_null()?),
        padded_size: row.get::<_, i64>(5)?.unsigned_abs(),
        day: Timestamp::from_seconds(row.get::<_, i64>(6)? * 86_400),
    })
}

/// The entries of `uids` in order, each once.
pub(super) fn entries_of(
    connection: &Connection,
    (grp, user, mailbox): (i64, i64, i64),
    uids: &[Uid],
) -> Result<Vec<Entry>, StoreError> {
    let mut select = connection.prepare_cached(&format!("SELECT {ENTRY} {VISIBLE} AND p.uid = ?4"))?;
    let mut flags = FlagReader::default();
    let mut entries = Vec::with_capacity(uids.len());
    for uid in uids.iter().copied().collect::<BTreeSet<_>>() {
        let found = select.query_row(params![grp, user, mailbox, uid], |row| entry(row, &mut flags));
        entries.extend(found.optional()?);
    }
    Ok(entries)
}

pub(super) fn status(connection: &Connection, of: UserId, mailbox: MailboxId) -> Result<MailboxStatus, StoreError> {
    let view = find(connection, of, mailbox)?;
    let sql = format!("SELECT count(*), coalesce(sum(NOT {SEEN}), 0), coalesce(sum(p.size), 0) {VISIBLE}");
    let mut select = connection.prepare_cached(&sql)?;
    Ok(select.query_row(params![view.grp, view.user, view.mailbox], |row| {
        Ok(MailboxStatus {
            messages: row.get(0)?,
            unseen: row.get(1)?,
            recent: 0,
            uid_next: view.uid_next,
            uid_validity: view.uid_validity,
            highest_modseq: view.modseq,
            size: row.get::<_, i64>(2)?.unsigned_abs(),
        })
    })?)
}

pub(super) fn snapshot(connection: &Connection, of: UserId, mailbox: MailboxId) -> Result<Snapshot, StoreError> {
    let view = find(connection, of, mailbox)?;
    let mut select = connection.prepare_cached(&format!("SELECT {ENTRY} {VISIBLE} ORDER BY p.uid"))?;
    let mut flags = FlagReader::default();
    let mut entries = Vec::new();
    let mut rows = select.query(params![view.grp, view.user, view.mailbox])?;
    while let Some(row) = rows.next()? {
        entries.push(entry(row, &mut flags)?);
    }
    Ok(Snapshot {
        uid_validity: view.uid_validity,
        uid_next: view.uid_next,
        highest_modseq: view.modseq,
        recent_from: view.uid_next,
        entries,
    })
}

pub(super) fn changes(
    connection: &Connection,
    of: UserId,
    mailbox: MailboxId,
    since: ModSeq,
) -> Result<Changes, StoreError> {
    let view = match find(connection, of, mailbox) {
        Ok(view) => view,
        Err(StoreError::NotFound(_)) => {
            let (changed, vanished) = (Vec::new(), Vec::new());
            return Ok(Changes { highest_modseq: since, uid_next: 1, changed, vanished, deleted: true });
        }
        Err(error) => return Err(error),
    };
    let bound = i64::try_from(since).unwrap_or(i64::MAX);
    let (grp, user, at) = (view.grp, view.user, view.mailbox);
    let mut uids: BTreeSet<Uid> = BTreeSet::new();
    let mut vanished: BTreeSet<Uid> = BTreeSet::new();
    let mut new = connection.prepare_cached("SELECT uid FROM placements WHERE mailbox = ? AND modseq > ?")?;
    for uid in new.query_map(params![at, bound], |row| row.get(0))? {
        uids.insert(uid?);
    }
    const OWN: &str = "SELECT uid, gone FROM group_flags WHERE grp = ? AND user = ? AND modseq > ?";
    let mut own = connection.prepare_cached(OWN)?;
    for row in own.query_map(params![grp, user, bound], |row| Ok((row.get(0)?, row.get::<_, bool>(1)?)))? {
        let (uid, gone) = row?;
        if gone {
            vanished.insert(uid)
        } else {
            uids.insert(uid)
        };
    }
    const MARKS: &str = "SELECT up_to, coalesce((SELECT max(y.up_to) FROM group_marks y
        WHERE y.grp = ?1 AND y.user = ?2 AND y.up_to < x.up_to), 0)
        FROM group_marks x WHERE x.grp = ?1 AND x.user = ?2 AND x.modseq > ?3";
    let mut marks = connection.prepare_cached(MARKS)?;
    let marks = marks.query_map(params![grp, user, bound], |row| Ok((row.get(0)?, row.get(1)?)))?;
    for (up_to, from) in marks.collect::<Result<Vec<(Uid, Uid)>, _>>()? {
        let mut read =
            connection.prepare_cached("SELECT uid FROM placements WHERE mailbox = ? AND uid > ? AND uid <= ?")?;
        for uid in read.query_map(params![at, from, up_to], |row| row.get(0))? {
            uids.insert(uid?);
        }
    }
    let changed = entries_of(connection, (grp, user, at), &uids.iter().copied().collect::<Vec<_>>())?;
    if since < view.forgotten {
        let snapshot = snapshot(connection, of, mailbox)?;
        let mut present = snapshot.entries.iter().map(|entry| entry.uid).peekable();
        vanished.extend((1..view.uid_next).filter(|uid| present.next_if_eq(uid).is_none()));
    } else {
        let mut select = connection.prepare_cached("SELECT uid FROM vanished WHERE mailbox = ? AND modseq > ?")?;
        for uid in select.query_map(params![at, bound], |row| row.get(0))? {
            vanished.insert(uid?);
        }
    }
    Ok(Changes {
        highest_modseq: view.modseq,
        uid_next: view.uid_next,
        changed,
        vanished: vanished.into_iter().collect(),
        deleted: false,
    })
}

/// The last line that a member sees with a UID up to this one.
pub(super) fn last_to(
    connection: &Connection,
    (grp, user, mailbox): (i64, i64, i64),
    up_to: Uid,
) -> Result<Option<Uid>, StoreError> {
    let sql = format!("SELECT p.uid {VISIBLE} AND p.uid <= ?4 ORDER BY p.uid DESC LIMIT 1");
    let mut select = connection.prepare_cached(&sql)?;
    Ok(select.query_row(params![grp, user, mailbox, up_to], |row| row.get(0)).optional()?)
}

/// What a member has not read with a UID up to this one.
pub(super) fn unseen_to(
    connection: &Connection,
    (grp, user, mailbox): (i64, i64, i64),
    up_to: Uid,
) -> Result<Vec<Uid>, StoreError> {
    let mut select = connection.prepare_cached(&format!("SELECT p.uid {VISIBLE} AND p.uid <= ?4 AND NOT {SEEN}"))?;
    Ok(select.query_map(params![grp, user, mailbox, up_to], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// How far a member has come.
pub(super) fn numbers(
    connection: &Connection,
    (grp, user, mailbox): (i64, i64, i64),
) -> Result<LineNumbers, StoreError> {
    let one = |sql: &str| -> Result<Option<Uid>, StoreError> {
        Ok(connection.prepare_cached(sql)?.query_row(params![grp, user, mailbox], |row| row.get(0)).optional()?)
    };
    let last = one(&format!("SELECT p.uid {VISIBLE} ORDER BY p.uid DESC LIMIT 1"))?;
    let first = one(&format!("SELECT p.uid {VISIBLE} ORDER BY p.uid LIMIT 1"))?;
    // Before the marker only what was taken back to unread is; the others come after it.
    let back =
        one("SELECT f.uid FROM members v CROSS JOIN group_flags f INDEXED BY group_flags_seen ON f.grp = ?1 AND f.user = ?2 AND f.uid <= v.marker
        WHERE v.grp = ?1 AND v.user = ?2 AND ?3 = ?3 AND f.seen = 0 AND NOT f.gone ORDER BY f.uid LIMIT 1")?;
    let after = one(&format!("SELECT p.uid {VISIBLE} AND p.uid > v.marker AND NOT {SEEN} ORDER BY p.uid LIMIT 1"))?;
    let last = last.unwrap_or(0);
    let unread = back.into_iter().chain(after).min();
    let read = unread.map_or(last, |uid| uid - 1);
    Ok(LineNumbers { first: first.unwrap_or(0), last, read })
}

/// What a reader of a group needs besides the parts: the epochs' keys.
pub(super) fn epoch_key(
    connection: &Connection,
    reader: ReaderOf,
    session_key: i64,
) -> Result<Option<(Arc<SealedSessionKey>, Shown)>, StoreError> {
    const SQL: &str = "SELECT k.session_key, g.keyset, g.packets,
        coalesce((SELECT s.shown FROM keyset_moves s WHERE s.user = g.user AND s.keyset = g.keyset),
            NOT EXISTS (SELECT 1 FROM secret_keys s WHERE s.user = g.user AND s.keyset = g.keyset))
        FROM session_keys k JOIN group_keys g ON g.user = ?2 AND g.grp = ?1 AND g.epoch = k.session_key WHERE k.id = ?3";
    let found = connection.prepare_cached(SQL)?.query_row(params![reader.grp, reader.user, session_key], |row| {
        let key = SealedSessionKey {
            id: SessionKeyId(row.get(0)?),
            user: reader.of,
            keyset: KeysetId(row.get(1)?),
            packets: Bytes::from(row.get::<_, Vec<u8>>(2)?),
        };
        Ok((Arc::new(key), shown(row.get(3)?)))
    });
    Ok(found.optional()?)
}

/// The parts of `uids` that a member sees.
pub(super) fn parts(
    connection: &Connection,
    of: UserId,
    mailbox: MailboxId,
    uids: &[Uid],
    want: Want,
) -> Result<Vec<FoundPart>, StoreError> {
    let view = find(connection, of, mailbox)?;
    let body = if matches!(want, Want::Bodies(_)) { "LEFT JOIN bodies b ON b.id = m.id" } else { "" };
    let visible = VISIBLE.replacen("WHERE", &format!("{body} WHERE"), 1);
    let mut select = connection.prepare_cached(&format!("{} {visible} AND p.uid = ?4", want.columns()))?;
    let mut gathering = Gathering::of_group(connection, of, want, &view);
    for uid in uids {
        let mut rows = select.query(params![view.grp, view.user, view.mailbox, uid])?;
        let Some(row) = rows.next()? else { continue };
        if !gathering.take(*uid, row)? {
            break;
        }
    }
    Ok(gathering.done())
}

/// Bodies of a range of lines, each with whether it was read.
pub(super) fn lines(
    connection: &Connection,
    of: UserId,
    mailbox: MailboxId,
    range: LineRange,
) -> Result<Vec<(FoundPart, bool)>, StoreError> {
    let view = find(connection, of, mailbox)?;
    let visible = VISIBLE.replacen("WHERE", "LEFT JOIN bodies b ON b.id = m.id WHERE", 1);
    let want = Want::Bodies(range.max_bytes);
    let order = if range.last { "DESC" } else { "ASC" };
    let sql = format!(
        "{}, p.uid, {SEEN} {visible} AND p.uid > ?4 AND p.uid < ?5 ORDER BY p.uid {order} LIMIT ?6",
        want.columns()
    );
    let mut select = connection.prepare_cached(&sql)?;
    let rows = select.query(params![view.grp, view.user, view.mailbox, range.after, range.before, range.limit])?;
    gathered(Gathering::of_group(connection, of, want, &view), rows, range.last)
}

/// The views of a user, as mailboxes; their names say nothing.
pub(super) fn mailboxes(connection: &Connection, of: UserId) -> Result<Vec<Mailbox>, StoreError> {
    const SQL: &str = "SELECT m.mailbox FROM users u JOIN members v ON v.user = u.id JOIN mailboxes m ON m.user = v.grp
        WHERE u.user = ? AND (v.rank IS NOT NULL
            OR EXISTS (SELECT 1 FROM group_keys g WHERE g.user = v.user AND g.grp = v.grp))";
    let mut select = connection.prepare_cached(SQL)?;
    let ids = select.query_map([of.0], |row| Ok(MailboxId(row.get(0)?)))?;
    let mut mailboxes = Vec::new();
    for id in ids {
        let id = id?;
        let Ok(name) = MailboxName::new(&format!("Chat/~{id}")) else { continue };
        mailboxes.push(Mailbox { id, name, role: None, selectable: true });
    }
    Ok(mailboxes)
}

/// The number of a message in a view.
pub(super) fn uid_of(
    connection: &Connection,
    of: UserId,
    mailbox: MailboxId,
    message: MessageId,
) -> Result<Option<Uid>, StoreError> {
    let view = find(connection, of, mailbox)?;
    const FIND: &str = "SELECT p.uid FROM messages m JOIN placements p ON p.content = m.id
        WHERE m.message = ? AND m.user = ? AND p.mailbox = ?";
    let mut select = connection.prepare_cached(FIND)?;
    let found: Option<Uid> =
        select.query_row(params![message.0, view.grp, view.mailbox], |row| row.get(0)).optional()?;
    let Some(uid) = found else { return Ok(None) };
    Ok(entries_of(connection, (view.grp, view.user, view.mailbox), &[uid])?.first().map(|entry| entry.uid))
}

/// Groups with members and records.
pub(super) fn groups(connection: &Connection, only: Option<UserId>) -> Result<Vec<StoredGroup>, StoreError> {
    const GROUPS: &str =
        "SELECT u.id, u.user FROM groups g JOIN users u ON u.id = g.grp WHERE ?1 IS NULL OR u.user = ?1";
    const MEMBERS: &str = "SELECT u.user, v.rank FROM members v JOIN users u ON u.id = v.user
        WHERE v.grp = ? AND v.rank IS NOT NULL ORDER BY u.user";
    const READERS: &str =
        "SELECT u.user FROM members v JOIN users u ON u.id = v.user WHERE v.grp = ?1 AND (v.rank IS NOT NULL
        OR EXISTS (SELECT 1 FROM group_keys g WHERE g.user = v.user AND g.grp = v.grp))";
    const RECORDS: &str = "SELECT record, kind, day, stamp, sealed FROM records WHERE user = ? AND sealed IS NOT NULL";
    let mut select = connection.prepare_cached(GROUPS)?;
    let found =
        select.query_map([only.map(|group| group.0)], |row| Ok((row.get::<_, i64>(0)?, UserId(row.get(1)?))))?;
    let mut groups = Vec::new();
    for row in found {
        let (id, group) = row?;
        let mut members = connection.prepare_cached(MEMBERS)?;
        let members = members.query_map([id], |row| Ok((UserId(row.get(0)?), row.get(1)?)))?;
        let mut readers = connection.prepare_cached(READERS)?;
        let readers = readers.query_map([id], |row| Ok(UserId(row.get(0)?)))?;
        let mut records = connection.prepare_cached(RECORDS)?;
        let records = records.query_map([id], |row| {
            Ok(StoredRecord {
                record: RecordId(row.get(0)?),
                kind: RecordKind::of_number(row.get(1)?),
                day: row.get(2)?,
                stamp: Stamp::from_bytes(row.get(3)?),
                sealed: row.get(4)?,
            })
        })?;
        groups.push(StoredGroup {
            group,
            mailbox: mailbox_id_for_role(group, Role::Inbox),
            members: members.collect::<Result<_, _>>()?,
            readers: readers.collect::<Result<_, _>>()?,
            records: records.collect::<Result<_, _>>()?,
        });
    }
    Ok(groups)
}

/// The keys of epochs that are sealed to a keyset.
pub(super) fn keys_of(
    connection: &Connection,
    of: UserId,
    keyset: KeysetId,
) -> Result<Vec<(UserId, Arc<SealedSessionKey>)>, StoreError> {
    const SQL: &str = "SELECT o.user, g.epoch, g.packets FROM group_keys g JOIN users u ON u.id = g.user
        JOIN users o ON o.id = g.grp WHERE u.user = ? AND g.keyset = ?";
    let mut select = connection.prepare_cached(SQL)?;
    let keys = select.query_map(params![of.0, keyset.0], |row| {
        let packets = Bytes::from(row.get::<_, Vec<u8>>(2)?);
        let key = SealedSessionKey { id: SessionKeyId(row.get(1)?), user: of, keyset, packets };
        Ok((UserId(row.get(0)?), Arc::new(key)))
    })?;
    Ok(keys.collect::<Result<_, _>>()?)
}
