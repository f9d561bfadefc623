//! What readers ask. Each function sees one moment of the store when its caller holds a read transaction.

use super::StoreError;
use super::apply::read_entry;
use super::blobs::BlobName;
use super::flags::FlagReader;
use crate::id::{InstanceId, KeysetId, SessionKeyId, SlotId};
use crate::operation::LogEntry;
use crate::seal::{Sealed, SealedSessionKey, recipients};
use crate::store::{
    Attestation, KeysetMove, SealedTo, Shown, StoredPart, StoredSecrets, StoredSlot, StoredUser, Totals,
};
use bytes::Bytes;
use mesyx_sdk::{
    Changes, Entry, MailboxId, MailboxName, MailboxStatus, MessageId, ModSeq, Snapshot, Timestamp, Uid, UserId,
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::HashMap;
use std::sync::Arc;

const ENTRY: &str = "uid, message, modseq, flags, keywords, size, day";

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

/// The entries of `uids` in their order.
pub(super) fn entries_of(connection: &Connection, mailbox: i64, uids: &[Uid]) -> Result<Vec<Entry>, StoreError> {
    let sql = format!("SELECT {ENTRY} FROM placements WHERE mailbox = ? AND uid = ?");
    let mut select = connection.prepare_cached(&sql)?;
    let mut flags = FlagReader::default();
    let mut entries = Vec::with_capacity(uids.len());
    for uid in uids {
        entries.extend(select.query_row(params![mailbox, uid], |row| entry(row, &mut flags)).optional()?);
    }
    Ok(entries)
}

fn user(connection: &Connection, user: UserId) -> Result<i64, StoreError> {
    let mut select = connection.prepare_cached("SELECT id FROM users WHERE user = ?")?;
    select.query_row([user.0], |row| row.get(0)).optional()?.ok_or(StoreError::NotFound("user"))
}

pub(super) fn users(connection: &Connection) -> Result<Vec<StoredUser>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT id, user, record, identity FROM users WHERE id NOT IN (SELECT grp FROM groups) ORDER BY name, user",
    )?;
    let mut keysets = connection.prepare_cached("SELECT keyset, record FROM keysets WHERE user = ? ORDER BY keyset")?;
    const IDENTITIES: &str = "SELECT identity, certificate FROM identities WHERE user = ? ORDER BY stamp DESC";
    let mut identities = connection.prepare_cached(IDENTITIES)?;
    let mut rotation = connection.prepare_cached("SELECT record FROM rotations WHERE user = ?")?;
    let users = select.query_and_then([], |row| {
        let record = minicbor::decode(row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?)
            .map_err(|error| StoreError::Backend(format!("a user's record: {error}")))?;
        let id = row.get::<_, i64>(0)?;
        let keysets = keysets.query_map([id], |row| Ok((KeysetId(row.get(0)?), row.get(1)?)))?;
        let identities = identities.query_map([id], |row| Ok((KeysetId(row.get(0)?), row.get(1)?)))?;
        Ok(StoredUser {
            user: UserId(row.get(1)?),
            record,
            identity: row.get::<_, Option<_>>(3)?.unwrap_or_default(),
            keysets: keysets.collect::<Result<_, _>>()?,
            identities: identities.collect::<Result<_, _>>()?,
            rotation: rotation.query_row([id], |row| row.get(0)).optional()?,
        })
    })?;
    users.collect()
}

pub(super) fn secrets(connection: &Connection, of: UserId) -> Result<StoredSecrets, StoreError> {
    let id = user(connection, of)?;
    let mut slots =
        connection.prepare_cached("SELECT slot, record, last_used FROM slots WHERE user = ? ORDER BY slot")?;
    let slots = slots.query_map([id], |row| {
        Ok(StoredSlot { id: SlotId(row.get(0)?), record: row.get(1)?, last_used: row.get(2)? })
    })?;
    let slots = slots.collect::<Result<_, _>>()?;
    let mut keys =
        connection.prepare_cached("SELECT keyset, wrapped, held FROM secret_keys WHERE user = ? ORDER BY keyset")?;
    let keys = keys.query_map([id], |row| super::keys::secret_key(row, 0))?;
    Ok(StoredSecrets { slots, secret_keys: keys.collect::<Result<_, _>>()? })
}

pub(super) fn mailboxes(connection: &Connection, of: UserId) -> Result<Vec<mesyx_sdk::Mailbox>, StoreError> {
    super::names::mailboxes(connection, user(connection, of)?)
}

pub(super) fn subscriptions(connection: &Connection, of: UserId) -> Result<Vec<MailboxName>, StoreError> {
    let id = user(connection, of)?;
    let mut select =
        connection.prepare_cached("SELECT name FROM subscriptions WHERE user = ? AND subscribed ORDER BY name")?;
    let names = select.query_map([id], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    let mut names: Vec<_> = names.iter().filter_map(|name| MailboxName::new(name).ok()).collect();
    names.sort();
    Ok(names)
}

/// A mailbox's row, as readers need it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers {
    id: i64,
    pub(super) status: MailboxStatus,
    recent_from: Uid,
    forgotten: ModSeq,
}

pub(super) fn numbers(connection: &Connection, of: UserId, mailbox: MailboxId) -> Result<Numbers, StoreError> {
    const SQL: &str = "SELECT m.id, uid_validity, uid_next, modseq, recent_from, messages, unseen, size, forgotten
        FROM mailboxes m JOIN users u ON u.id = m.user WHERE m.mailbox = ? AND u.user = ?";
    let mut select = connection.prepare_cached(SQL)?;
    let numbers = select.query_row(params![mailbox.0, of.0], |row| {
        Ok(Numbers {
            id: row.get(0)?,
            status: MailboxStatus {
                messages: row.get(5)?,
                unseen: row.get(6)?,
                recent: 0,
                uid_next: row.get(2)?,
                uid_validity: row.get(1)?,
                highest_modseq: row.get::<_, i64>(3)?.unsigned_abs(),
                size: row.get::<_, i64>(7)?.unsigned_abs(),
            },
            recent_from: row.get(4)?,
            forgotten: row.get::<_, i64>(8)?.unsigned_abs(),
        })
    });
    let mut numbers = numbers.optional()?.ok_or(StoreError::NotFound("mailbox"))?;
    if numbers.recent_from < numbers.status.uid_next {
        let mut count = connection.prepare_cached("SELECT count(*) FROM placements WHERE mailbox = ? AND uid >= ?")?;
        numbers.status.recent = count.query_row(params![numbers.id, numbers.recent_from], |row| row.get(0))?;
    }
    Ok(numbers)
}

pub(super) fn snapshot(connection: &Connection, of: UserId, mailbox: MailboxId) -> Result<Snapshot, StoreError> {
    let Numbers { id, status, recent_from, .. } = numbers(connection, of, mailbox)?;
    let sql = format!("SELECT {ENTRY} FROM placements WHERE mailbox = ? ORDER BY uid");
    let mut select = connection.prepare_cached(&sql)?;
    let mut flags = FlagReader::default();
    let mut entries = Vec::with_capacity(status.messages as usize);
    let mut rows = select.query([id])?;
    while let Some(row) = rows.next()? {
        entries.push(entry(row, &mut flags)?);
    }
    Ok(Snapshot {
        uid_validity: status.uid_validity,
        uid_next: status.uid_next,
        highest_modseq: status.highest_modseq,
        recent_from,
        entries,
    })
}

/// What changed after `since`, and the numbers it was read with.
pub(super) fn changes(
    connection: &Connection,
    of: UserId,
    mailbox: MailboxId,
    since: ModSeq,
) -> Result<Changes, StoreError> {
    let Numbers { id, status, forgotten, .. } = match numbers(connection, of, mailbox) {
        Ok(numbers) => numbers,
        Err(StoreError::NotFound(_)) => return Ok(deleted(since)),
        Err(error) => return Err(error),
    };
    let since_bound = i64::try_from(since).unwrap_or(i64::MAX);
    let sql = format!("SELECT {ENTRY} FROM placements WHERE mailbox = ? AND modseq > ?");
    let mut select = connection.prepare_cached(&sql)?;
    let mut flags = FlagReader::default();
    let changed = select.query_map(params![id, since_bound], |row| entry(row, &mut flags))?;
    let mut changed = changed.collect::<Result<Vec<_>, _>>()?;
    changed.sort_by_key(|entry| entry.uid);
    let mut vanished: Vec<Uid> = if since < forgotten {
        // What vanished so long ago is not listed any more: every UID that is not there may have.
        let mut select = connection.prepare_cached("SELECT uid FROM placements WHERE mailbox = ? ORDER BY uid")?;
        let present = select.query_map([id], |row| row.get::<_, Uid>(0))?.collect::<Result<Vec<_>, _>>()?;
        let mut present = present.into_iter().peekable();
        (1..status.uid_next).filter(|uid| present.next_if_eq(uid).is_none()).collect()
    } else {
        let mut select = connection.prepare_cached("SELECT uid FROM vanished WHERE mailbox = ? AND modseq > ?")?;
        select.query_map(params![id, since_bound], |row| row.get(0))?.collect::<Result<_, _>>()?
    };
    vanished.sort_unstable();
    Ok(Changes { highest_modseq: status.highest_modseq, uid_next: status.uid_next, changed, vanished, deleted: false })
}

/// The answer for a mailbox that is not there (any more).
fn deleted(since: ModSeq) -> Changes {
    Changes { highest_modseq: since, uid_next: 1, changed: Vec::new(), vanished: Vec::new(), deleted: true }
}

/// A part whose bytes may still be in a file.
#[derive(Debug)]
pub(super) struct FoundPart {
    pub(super) part: StoredPart,
    pub(super) blob: Option<BlobName>,
}

/// Which part, and how much of it at once.
#[derive(Debug, Clone, Copy)]
pub(super) enum Want {
    Summaries,
    /// Until this many bytes.
    Bodies(u64),
}

impl Want {
    /// What is selected.
    pub(super) const fn columns(self) -> &'static str {
        match self {
            Self::Summaries => SUMMARY,
            Self::Bodies(_) => BODY,
        }
    }
}

/// Joined with the messages `m`, and what must be read of them; the number is the part's own size.
const SUMMARY: &str = "SELECT m.message, k.id, m.attestation, length(m.summary), NULL, m.summary, m.shown, m.day";
const BODY: &str = "SELECT m.message, k.id, m.attestation, m.body_bytes, m.blob, b.body, m.shown, m.day";

pub(super) fn parts(
    connection: &Connection,
    of: UserId,
    mailbox: MailboxId,
    uids: &[Uid],
    want: Want,
) -> Result<Vec<FoundPart>, StoreError> {
    let mailbox = numbers_id(connection, of, mailbox)?;
    let sql = match want {
        Want::Summaries => format!(
            "{SUMMARY} FROM placements p
            JOIN messages m ON m.id = p.content JOIN session_keys k ON k.id = m.session_key WHERE p.mailbox = ? AND p.uid = ?"
        ),
        Want::Bodies(_) => format!(
            "{BODY} FROM placements p
            JOIN messages m ON m.id = p.content JOIN session_keys k ON k.id = m.session_key
            LEFT JOIN bodies b ON b.id = m.id WHERE p.mailbox = ? AND p.uid = ?"
        ),
    };
    let mut select = connection.prepare_cached(&sql)?;
    let mut gathering = Gathering::new(connection, of, want);
    for uid in uids {
        let mut rows = select.query(params![mailbox, uid])?;
        let Some(row) = rows.next()? else { continue };
        if !gathering.take(*uid, row)? {
            break;
        }
    }
    Ok(gathering.parts)
}

/// As [`parts`], by the messages' ids.
pub(super) fn parts_of(
    connection: &Connection,
    of: UserId,
    messages: &[MessageId],
    want: Want,
) -> Result<Vec<FoundPart>, StoreError> {
    let id = user(connection, of)?;
    let sql = match want {
        Want::Summaries => format!(
            "{SUMMARY} FROM messages m JOIN session_keys k ON k.id = m.session_key WHERE m.message = ? AND m.user = ?"
        ),
        Want::Bodies(_) => format!(
            "{BODY} FROM messages m JOIN session_keys k ON k.id = m.session_key
            LEFT JOIN bodies b ON b.id = m.id WHERE m.message = ? AND m.user = ?"
        ),
    };
    let mut select = connection.prepare_cached(&sql)?;
    let mut gathering = Gathering::new(connection, of, want);
    for message in messages {
        let mut rows = select.query(params![message.0, id])?;
        let Some(row) = rows.next()? else { continue };
        if !gathering.take(0, row)? {
            break;
        }
    }
    Ok(gathering.parts)
}

/// Who reads lines of a group.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReaderOf {
    pub(super) group: UserId,
    pub(super) grp: i64,
    pub(super) user: i64,
    pub(super) of: UserId,
}

/// Parts with their session keys and attestations, each of which is read once.
pub(super) struct Gathering<'c> {
    connection: &'c Connection,
    of: UserId,
    group: Option<ReaderOf>,
    most: u64,
    bytes: u64,
    session_keys: HashMap<i64, (Arc<SealedSessionKey>, Option<Shown>)>,
    attestations: HashMap<i64, Arc<Attestation>>,
    parts: Vec<FoundPart>,
}

impl<'c> Gathering<'c> {
    pub(super) fn of_group(
        connection: &'c Connection,
        of: UserId,
        want: Want,
        view: &super::group_views::Numbers,
    ) -> Self {
        let group = ReaderOf { group: view.group, grp: view.grp, user: view.user, of };
        Self { group: Some(group), ..Self::new(connection, of, want) }
    }

    /// What was taken.
    pub(super) fn done(self) -> Vec<FoundPart> {
        self.parts
    }

    pub(super) fn new(connection: &'c Connection, of: UserId, want: Want) -> Self {
        let most = match want {
            Want::Summaries => u64::MAX,
            Want::Bodies(most) => most,
        };
        Self {
            connection,
            of,
            group: None,
            most,
            bytes: 0,
            session_keys: HashMap::new(),
            attestations: HashMap::new(),
            parts: Vec::new(),
        }
    }

    /// Takes one row of [`SUMMARY`] or [`BODY`]; `false` where that would be too much.
    pub(super) fn take(&mut self, uid: Uid, row: &Row<'_>) -> Result<bool, StoreError> {
        let size = row.get::<_, i64>(3)?.unsigned_abs();
        if !self.parts.is_empty() && self.bytes.saturating_add(size) > self.most {
            return Ok(false);
        }
        self.bytes = self.bytes.saturating_add(size);
        let bytes = row.get_ref(5)?.as_blob_or_null().map_err(rusqlite::Error::from)?;
        let (session_key, shown_now) = self.session_key(row.get(1)?)?;
        let part = StoredPart {
            uid,
            message: MessageId(row.get(0)?),
            session_key,
            shown: shown_now.unwrap_or(shown(row.get(6)?)),
            day: row.get(7)?,
            group: self.group.map(|reader| reader.group),
            part: Sealed(bytes.map(Bytes::copy_from_slice).unwrap_or_default()),
            attestation: attestation(self.connection, &mut self.attestations, row.get(2)?)?,
        };
        self.parts.push(FoundPart { part, blob: row.get(4)? });
        Ok(true)
    }

    /// A session key; for a line of a group the reader's copy, and how the reader's lines of that epoch are shown.
    fn session_key(&mut self, id: i64) -> Result<(Arc<SealedSessionKey>, Option<Shown>), StoreError> {
        if let Some(known) = self.session_keys.get(&id) {
            return Ok(known.clone());
        }
        if let Some(reader) = self.group {
            let found = super::group_views::epoch_key(self.connection, reader, id)?;
            let (key, shown) = found.ok_or(StoreError::NotFound("session key"))?;
            self.session_keys.insert(id, (Arc::clone(&key), Some(shown)));
            return Ok((key, Some(shown)));
        }
        let mut select =
            self.connection.prepare_cached("SELECT session_key, keyset, packets FROM session_keys WHERE id = ?")?;
        let key = select.query_row([id], |row| {
            Ok(SealedSessionKey {
                id: SessionKeyId(row.get(0)?),
                user: self.of,
                keyset: KeysetId(row.get(1)?),
                packets: Bytes::from(row.get::<_, Vec<u8>>(2)?),
            })
        })?;
        let key = Arc::new(key);
        self.session_keys.insert(id, (Arc::clone(&key), None));
        Ok((key, None))
    }
}

/// The column `shown`.
pub(super) const fn shown(column: i64) -> Shown {
    if column == 0 { Shown::Opened } else { Shown::Sealed }
}

pub(super) fn sealed_to(
    connection: &Connection,
    of: UserId,
    keyset: KeysetId,
    after: (u64, u64),
    limit: u32,
) -> Result<Vec<SealedTo>, StoreError> {
    let id = user(connection, of)?;
    const SQL: &str =
        "SELECT k.id, m.id, m.message, k.session_key, m.size, length(m.summary) + m.body_bytes, m.day, m.shown,
        p.flags, p.keywords, k.packets FROM session_keys k JOIN messages m ON m.session_key = k.id
        LEFT JOIN placements p ON p.placement = (SELECT min(placement) FROM placements WHERE content = m.id)
        WHERE k.user = ?1 AND k.keyset = ?2 AND k.id >= ?3 AND (k.id > ?3 OR m.id > ?4) ORDER BY k.id, m.id LIMIT ?5";
    let mut select = connection.prepare_cached(SQL)?;
    let mut flags = FlagReader::default();
    let bound = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let found = select.query_map(params![id, keyset.0, bound(after.0), bound(after.1), limit], |row| {
        let number = |at| row.get::<_, i64>(at).map(i64::unsigned_abs);
        Ok(SealedTo {
            at: (number(0)?, number(1)?),
            message: MessageId(row.get(2)?),
            session_key: SessionKeyId(row.get(3)?),
            recipients: recipients(row.get_ref(10)?.as_blob()?),
            padded_size: number(4)?,
            bytes: number(5)?,
            day: row.get(6)?,
            shown: shown(row.get(7)?),
            flags: match row.get::<_, Option<i64>>(8)? {
                Some(bits) => flags.read(bits, row.get_ref(9)?.as_str_or_null()?),
                None => mesyx_sdk::Flags::default(),
            },
        })
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

pub(super) fn keyset_moves(connection: &Connection) -> Result<Vec<KeysetMove>, StoreError> {
    const SQL: &str = "SELECT u.user, v.keyset, v.shown FROM keyset_moves v JOIN users u ON u.id = v.user";
    let mut select = connection.prepare_cached(SQL)?;
    let moves = select.query_map([], |row| {
        Ok(KeysetMove { user: UserId(row.get(0)?), keyset: KeysetId(row.get(1)?), shown: shown(row.get(2)?) })
    })?;
    Ok(moves.collect::<Result<_, _>>()?)
}

pub(super) fn numbers_id(connection: &Connection, of: UserId, mailbox: MailboxId) -> Result<i64, StoreError> {
    const SQL: &str = "SELECT m.id FROM mailboxes m JOIN users u ON u.id = m.user WHERE m.mailbox = ? AND u.user = ?";
    let mut select = connection.prepare_cached(SQL)?;
    let id = select.query_row(params![mailbox.0, of.0], |row| row.get(0)).optional()?;
    id.ok_or(StoreError::NotFound("mailbox"))
}

fn attestation(
    connection: &Connection,
    known: &mut HashMap<i64, Arc<Attestation>>,
    id: i64,
) -> Result<Arc<Attestation>, StoreError> {
    if let Some(attestation) = known.get(&id) {
        return Ok(attestation.clone());
    }
    const SQL: &str = "SELECT i.instance, digests, signature FROM attestations a JOIN instances i ON i.id = a.instance WHERE a.id = ?";
    let attestation = connection.prepare_cached(SQL)?.query_row([id], |row| {
        Ok(Attestation { instance: InstanceId(row.get(0)?), digests: row.get(1)?, signature: row.get(2)? })
    })?;
    let attestation = Arc::new(attestation);
    known.insert(id, attestation.clone());
    Ok(attestation)
}

pub(super) fn session_key(
    connection: &Connection,
    of: UserId,
    id: SessionKeyId,
) -> Result<Arc<SealedSessionKey>, StoreError> {
    const SQL: &str =
        "SELECT keyset, packets FROM session_keys k JOIN users u ON u.id = k.user WHERE session_key = ? AND u.user = ?";
    let key = connection.prepare_cached(SQL)?.query_row(params![id.0, of.0], |row| {
        let packets = Bytes::from(row.get::<_, Vec<u8>>(1)?);
        Ok(SealedSessionKey { id, user: of, keyset: KeysetId(row.get(0)?), packets })
    });
    key.optional()?.map(Arc::new).ok_or(StoreError::NotFound("session key"))
}

pub(super) fn log(
    connection: &Connection,
    of: InstanceId,
    after: u64,
    limit: usize,
) -> Result<Vec<LogEntry>, StoreError> {
    const SQL: &str =
        "SELECT i.instance, sequence, day, counter, operation FROM instances i JOIN log l ON l.instance = i.id
        WHERE i.instance = ? AND sequence > ? ORDER BY sequence LIMIT ?";
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut select = connection.prepare_cached(SQL)?;
    select.query_and_then(params![of.0, after, limit], read_entry)?.collect()
}

pub(super) fn value(connection: &Connection, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let mut select = connection.prepare_cached("SELECT value FROM named_values WHERE name = ?")?;
    Ok(select.query_row([name], |row| row.get(0)).optional()?)
}

pub(super) fn totals(connection: &Connection) -> Result<Totals, StoreError> {
    const SQL: &str =
        "SELECT (SELECT count(*) FROM users) - (SELECT count(*) FROM groups), messages, bytes, log_entries FROM meta";
    let totals = connection.prepare_cached(SQL)?.query_row([], |row| {
        let number = |at| row.get::<_, i64>(at).map(i64::unsigned_abs);
        Ok(Totals { users: number(0)?, messages: number(1)?, bytes: number(2)?, log_entries: number(3)? })
    });
    Ok(totals?)
}
