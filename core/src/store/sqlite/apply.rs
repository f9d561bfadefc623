//! The fold: what each operation does to the state. One function for our own operations and for those of others.

use super::flags::{Registers, SEEN, columns};
use super::tx::{Content, Tx};
use super::{Event, StoreError, content, groups, queue, records};
use crate::id::{InstanceId, KeysetId, mailbox_id_for_role};
use crate::operation::{LogEntry, Operation, Stamp, UserRecord};
use mesyx_sdk::{MailboxId, MessageId, PlacementId, Role, Uid, UserId};
use rusqlite::{OptionalExtension, params};

/// What applying came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Applied {
    /// It took effect, or a later write or a removal had the better of it.
    Done,
    /// A placement got this UID.
    At(Uid),
    /// It waits for something that has not come yet.
    Waits,
}

/// Makes an operation of our own: logged and applied.
pub(super) fn perform(tx: &mut Tx<'_>, operation: Operation) -> Result<Applied, StoreError> {
    let entry = tx.entry(operation);
    if !tx.log(&entry)? {
        return Err(StoreError::Backend("the log has an entry of this number already".to_owned()));
    }
    tx.local = true;
    let applied = apply(tx, &entry);
    tx.local = false;
    match applied? {
        Applied::Waits => Err(StoreError::Backend("an operation names something that is not there".to_owned())),
        applied => Ok(applied),
    }
}

/// Applies an entry that is in the log. Doing so again changes nothing.
pub(super) fn apply(tx: &mut Tx<'_>, entry: &LogEntry) -> Result<Applied, StoreError> {
    let stamp = entry.stamp;
    match &entry.operation {
        Operation::PutUser { user, record } => put_user(tx, stamp, *user, record),
        Operation::RemoveUser { user } => remove_user(tx, *user),
        Operation::PutKeyset { user, keyset, record } => put_keyset(tx, entry, *user, *keyset, record),
        Operation::RemoveKeyset { user, keyset } => remove_keyset(tx, *user, *keyset),
        Operation::PutIdentity { user, certificate } => put_identity(tx, entry, *user, certificate),
        Operation::KeepIdentity { user, identity, certificate } => {
            super::keys::keep_identity(tx, entry, *user, *identity, certificate)
        }
        Operation::PutRotation { user, record } => super::keys::put_rotation(tx, entry, *user, record),
        Operation::CreateMailbox { user, mailbox, name, role } => {
            create_mailbox(tx, entry, *user, *mailbox, name, role.as_deref())
        }
        Operation::RenameMailbox { mailbox, name } => rename_mailbox(tx, entry, *mailbox, name),
        Operation::DeleteMailbox { mailbox } => delete_mailbox(tx, entry, *mailbox),
        Operation::Subscribe { user, name, subscribed } => subscribe(tx, entry, *user, name, *subscribed),
        Operation::Place { placement, user, mailbox, message, flags } => {
            let place = Place { placement: *placement, user: *user, mailbox: *mailbox, message: *message, flags };
            place.apply(tx, entry)
        }
        Operation::AddFlags { placement, flags } => write_flags(tx, entry, *placement, flags, true),
        Operation::RemoveFlags { placement, flags } => write_flags(tx, entry, *placement, flags, false),
        Operation::Move { placement, mailbox } => move_placement(tx, entry, *placement, *mailbox),
        Operation::Expunge { placement } => expunge(tx, *placement),
        Operation::Enqueue { job, message, user, gateway } => {
            queue::enqueue(tx, entry, *job, *message, *user, *gateway)
        }
        Operation::Assign { job, gateway } => queue::assign(tx, entry, *job, *gateway),
        Operation::Outcome { job, .. } => queue::outcome(tx, *job),
        Operation::PutGroup { group } => groups::put_group(tx, entry, *group),
        Operation::SetMember { group, user, rank } => groups::set_member(tx, entry, *group, *user, *rank),
        Operation::PutGroupKey { .. } => groups::put_key(tx, entry),
        Operation::ForgetGroupKeys { group, user, epochs } => groups::forget_keys(tx, *group, *user, epochs),
        Operation::ReadTo { user, placement, .. } => groups::read_to(tx, entry, *user, *placement),
        Operation::MemberFlags { user, placement, flags, set } => {
            groups::write_flags(tx, entry, *user, *placement, (flags, *set))
        }
        Operation::MemberExpunge { user, placement } => groups::member_expunge(tx, entry, *user, *placement),
        Operation::PutRecord { user, record, kind, day, sealed } => {
            records::Change { user: *user, record: *record, about: Some((*kind, *day)), sealed }.apply(tx, entry)
        }
        Operation::RemoveRecord { user, record } => {
            records::Change { user: *user, record: *record, about: None, sealed: &[] }.apply(tx, entry)
        }
    }
}

/// Keeps an entry until `subject` comes; `message` is content that it will want.
pub(super) fn wait(
    tx: &mut Tx<'_>,
    entry: &LogEntry,
    subject: [u8; 16],
    message: Option<MessageId>,
) -> Result<Applied, StoreError> {
    let instance = tx.instance(entry.stamp.instance)?;
    let added = tx.sql("INSERT OR IGNORE INTO pending VALUES (?, ?, ?, ?)")?.execute(params![
        subject,
        instance,
        entry.sequence.cast_signed(),
        message.map(|message| message.0)
    ])?;
    tx.meta.pending += added.cast_signed() as i64;
    Ok(Applied::Waits)
}

/// `subject` has come: applies what waited for it.
pub(super) fn wake(tx: &mut Tx<'_>, subject: [u8; 16]) -> Result<(), StoreError> {
    if tx.meta.pending == 0 {
        return Ok(());
    }
    const SQL: &str = "SELECT i.instance, l.sequence, l.day, l.counter, l.operation FROM pending p
        JOIN log l ON l.instance = p.instance AND l.sequence = p.sequence JOIN instances i ON i.id = p.instance
        WHERE p.subject = ?";
    let mut select = tx.sql(SQL)?;
    let entries = select.query_and_then([subject], read_entry)?.collect::<Result<Vec<_>, _>>()?;
    forget(tx, subject)?;
    let local = std::mem::replace(&mut tx.local, false);
    for entry in entries {
        apply(tx, &entry)?;
    }
    tx.local = local;
    Ok(())
}

/// `subject` will never come: drops what waited for it.
pub(super) fn forget(tx: &mut Tx<'_>, subject: [u8; 16]) -> Result<(), StoreError> {
    if tx.meta.pending > 0 {
        let gone = tx.sql("DELETE FROM pending WHERE subject = ?")?.execute([subject])?;
        tx.meta.pending -= gone.cast_signed() as i64;
    }
    Ok(())
}

/// A log entry from the columns instance, sequence, day, counter, operation.
pub(super) fn read_entry(row: &rusqlite::Row<'_>) -> Result<LogEntry, StoreError> {
    let operation = minicbor::decode(row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?)
        .map_err(|error| StoreError::Backend(format!("an entry of the operation log: {error}")))?;
    let stamp =
        Stamp { day: row.get(2)?, counter: row.get::<_, i64>(3)?.unsigned_abs(), instance: InstanceId(row.get(0)?) };
    Ok(LogEntry { sequence: row.get::<_, i64>(1)?.unsigned_abs(), stamp, operation })
}

fn put_user(tx: &mut Tx<'_>, stamp: Stamp, user: UserId, record: &UserRecord) -> Result<Applied, StoreError> {
    if tx.removed(user.0)? {
        return Ok(Applied::Done);
    }
    const SQL: &str = "INSERT INTO users (user, name, record, record_stamp) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT (user) DO UPDATE SET name = ?2, record = ?3, record_stamp = ?4 WHERE record_stamp < ?4";
    let encoded = minicbor::to_vec(record).map_err(|error| StoreError::Backend(error.to_string()))?;
    let new = tx.user(user)?.is_none();
    tx.sql(SQL)?.execute(params![user.0, record.name, encoded, stamp.to_bytes()])?;
    tx.effects.event(Event::Directory);
    if new {
        wake(tx, user.0)?;
    }
    Ok(Applied::Done)
}

fn remove_user(tx: &mut Tx<'_>, user: UserId) -> Result<Applied, StoreError> {
    tx.remove(user.0)?;
    forget(tx, user.0)?;
    let Some(id) = tx.user(user)? else { return Ok(Applied::Done) };
    let mut select = tx.sql("SELECT id, mailbox FROM mailboxes WHERE user = ?")?;
    let mailboxes = select
        .query_map([id], |row| Ok((row.get::<_, i64>(0)?, MailboxId(row.get(1)?))))?
        .collect::<Result<Vec<_>, _>>()?;
    for (local, mailbox) in mailboxes {
        tx.sql("DELETE FROM placements WHERE mailbox = ?")?.execute([local])?;
        tx.sql("DELETE FROM vanished WHERE mailbox = ?")?.execute([local])?;
        tx.sql("DELETE FROM mailboxes WHERE id = ?")?.execute([local])?;
        tx.mailbox_gone(local, mailbox);
    }
    let mut select = tx.sql("SELECT id FROM messages WHERE user = ?")?;
    let contents = select.query_map([id], |row| row.get::<_, i64>(0))?.collect::<Result<Vec<_>, _>>()?;
    for content in contents {
        content::erase(tx, content)?;
    }
    groups::user_goes(tx, id)?;
    records::user_goes(tx, id)?;
    queue::user_goes(tx, id)?;
    tx.sql("DELETE FROM users WHERE id = ?")?.execute([id])?;
    tx.ids.clear();
    tx.effects.event(Event::Directory);
    tx.effects.event(Event::MailboxList(user));
    tx.effects.event(Event::Secrets(user));
    Ok(Applied::Done)
}

fn put_keyset(
    tx: &mut Tx<'_>,
    entry: &LogEntry,
    user: UserId,
    keyset: KeysetId,
    record: &[u8],
) -> Result<Applied, StoreError> {
    if tx.removed(keyset.0)? || tx.removed(user.0)? {
        return Ok(Applied::Done);
    }
    let Some(user) = tx.user(user)? else { return wait(tx, entry, user.0, None) };
    const SQL: &str = "INSERT INTO keysets VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT (user, keyset) DO UPDATE SET record = ?3, stamp = ?4 WHERE stamp < ?4";
    tx.sql(SQL)?.execute(params![user, keyset.0, record, entry.stamp.to_bytes()])?;
    tx.effects.event(Event::Directory);
    Ok(Applied::Done)
}

fn remove_keyset(tx: &mut Tx<'_>, user: UserId, keyset: KeysetId) -> Result<Applied, StoreError> {
    tx.remove(keyset.0)?;
    if let Some(id) = tx.user(user)? {
        tx.sql("DELETE FROM keysets WHERE user = ? AND keyset = ?")?.execute(params![id, keyset.0])?;
        // What came here meanwhile and is sealed to it stays readable.
        const SECRET: &str = "DELETE FROM secret_keys WHERE user = ?1 AND keyset = ?2
            AND NOT EXISTS (SELECT 1 FROM session_keys WHERE user = ?1 AND keyset = ?2)";
        tx.sql(SECRET)?.execute(params![id, keyset.0])?;
        tx.effects.event(Event::Directory);
        tx.effects.event(Event::Secrets(user));
    }
    Ok(Applied::Done)
}

fn put_identity(tx: &mut Tx<'_>, entry: &LogEntry, user: UserId, certificate: &[u8]) -> Result<Applied, StoreError> {
    if tx.removed(user.0)? {
        return Ok(Applied::Done);
    }
    let Some(id) = tx.user(user)? else { return wait(tx, entry, user.0, None) };
    const SQL: &str = "UPDATE users SET identity = ?2, identity_stamp = ?3
        WHERE id = ?1 AND (identity_stamp IS NULL OR identity_stamp < ?3)";
    tx.sql(SQL)?.execute(params![id, certificate, entry.stamp.to_bytes()])?;
    tx.effects.event(Event::Directory);
    Ok(Applied::Done)
}

fn subscribe(
    tx: &mut Tx<'_>,
    entry: &LogEntry,
    user: UserId,
    name: &str,
    subscribed: bool,
) -> Result<Applied, StoreError> {
    if tx.removed(user.0)? {
        return Ok(Applied::Done);
    }
    let Some(id) = tx.user(user)? else { return wait(tx, entry, user.0, None) };
    const SQL: &str = "INSERT INTO subscriptions VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT (user, name) DO UPDATE SET subscribed = ?3, stamp = ?4 WHERE stamp < ?4";
    tx.sql(SQL)?.execute(params![id, name, subscribed, entry.stamp.to_bytes()])?;
    tx.effects.event(Event::MailboxList(user));
    Ok(Applied::Done)
}

pub(super) fn create_mailbox(
    tx: &mut Tx<'_>,
    entry: &LogEntry,
    user: UserId,
    mailbox: MailboxId,
    name: &str,
    role: Option<&str>,
) -> Result<Applied, StoreError> {
    let inbox = mailbox == mailbox_id_for_role(user, Role::Inbox);
    if tx.removed(user.0)? || (!inbox && tx.removed(mailbox.0)?) {
        forget(tx, mailbox.0)?;
        return Ok(Applied::Done);
    }
    let Some(id) = tx.user(user)? else { return wait(tx, entry, user.0, None) };
    let stamp = entry.stamp.to_bytes();
    let new = tx.mailbox_id(mailbox)?.is_none();
    if new {
        // The day in the upper half: a store restored from a backup does not give again what it gave on another day.
        let today = u32::from(u16::try_from(tx.today).unwrap_or_default()) << 16;
        let validity = today.max(tx.meta.uid_validity.saturating_add(1)).max(1);
        tx.meta.uid_validity = validity;
        const SQL: &str =
            "INSERT INTO mailboxes (mailbox, user, name, name_stamp, created, role, uid_validity, uid_next,
            modseq, recent_from, messages, unseen, size, vanished, forgotten)
            VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?6, 1, 1, 1, 0, 0, 0, 0, 0)";
        tx.sql(SQL)?.execute(params![mailbox.0, id, name, stamp, role, validity])?;
    } else {
        // Made by two instances, so a standard mailbox: the first made it, the last named it.
        const NAME: &str =
            "UPDATE mailboxes SET name = ?2, name_stamp = ?3 WHERE mailbox = ?1 AND user = ?4 AND name_stamp < ?3";
        tx.sql(NAME)?.execute(params![mailbox.0, name, stamp, id])?;
        const MADE: &str =
            "UPDATE mailboxes SET role = ?2, created = ?3 WHERE mailbox = ?1 AND user = ?4 AND created > ?3";
        tx.sql(MADE)?.execute(params![mailbox.0, role, stamp, id])?;
    }
    tx.effects.event(Event::MailboxList(user));
    if new {
        wake(tx, mailbox.0)?;
    }
    Ok(Applied::Done)
}

fn rename_mailbox(tx: &mut Tx<'_>, entry: &LogEntry, mailbox: MailboxId, name: &str) -> Result<Applied, StoreError> {
    let Some(id) = tx.mailbox_id(mailbox)? else {
        return if tx.removed(mailbox.0)? { Ok(Applied::Done) } else { wait(tx, entry, mailbox.0, None) };
    };
    let user = tx.mailbox(id)?.user_id;
    const SQL: &str = "UPDATE mailboxes SET name = ?2, name_stamp = ?3 WHERE id = ?1 AND name_stamp < ?3";
    tx.sql(SQL)?.execute(params![id, name, entry.stamp.to_bytes()])?;
    tx.effects.event(Event::MailboxList(user));
    Ok(Applied::Done)
}

fn delete_mailbox(tx: &mut Tx<'_>, entry: &LogEntry, mailbox: MailboxId) -> Result<Applied, StoreError> {
    let Some(id) = tx.mailbox_id(mailbox)? else {
        tx.remove(mailbox.0)?;
        // Placements that wait for it go to INBOX now, if that is there.
        wake(tx, mailbox.0)?;
        return Ok(Applied::Done);
    };
    let row = tx.mailbox(id)?.clone();
    let inbox = mailbox_id_for_role(row.user_id, Role::Inbox);
    if mailbox == inbox {
        return Ok(Applied::Done);
    }
    if row.messages > 0 {
        let Some(inbox) = tx.mailbox_id(inbox)? else { return wait(tx, entry, inbox.0, None) };
        let mut select = tx.sql("SELECT placement FROM placements WHERE mailbox = ? ORDER BY uid")?;
        let placements = select.query_map([id], |row| row.get(0))?.collect::<Result<Vec<[u8; 16]>, _>>()?;
        for placement in placements {
            if let Some(found) = find(tx, PlacementId(placement))? {
                relocate(tx, &found, inbox, None)?;
            }
        }
    }
    tx.remove(mailbox.0)?;
    tx.sql("DELETE FROM vanished WHERE mailbox = ?")?.execute([id])?;
    tx.sql("DELETE FROM mailboxes WHERE id = ?")?.execute([id])?;
    tx.mailbox_gone(id, mailbox);
    tx.effects.event(Event::MailboxList(row.user_id));
    tx.effects.event(Event::Mailbox(row.user_id, mailbox, row.modseq + 1));
    Ok(Applied::Done)
}

/// Where a placement goes whose register says `mailbox`: INBOX once that mailbox is removed.
enum Location {
    Here(i64),
    /// What has to come first.
    Wait([u8; 16]),
    /// The mailbox is another user's: no honest instance says so.
    Wrong,
}

fn locate(tx: &mut Tx<'_>, user: UserId, mailbox: MailboxId) -> Result<Location, StoreError> {
    let mut found = tx.mailbox_id(mailbox)?;
    let mut missing = mailbox;
    if found.is_none() && tx.removed(mailbox.0)? {
        missing = mailbox_id_for_role(user, Role::Inbox);
        found = tx.mailbox_id(missing)?;
    }
    let Some(found) = found else { return Ok(Location::Wait(missing.0)) };
    Ok(if tx.mailbox(found)?.user_id == user { Location::Here(found) } else { Location::Wrong })
}

struct Place<'a> {
    placement: PlacementId,
    user: UserId,
    mailbox: MailboxId,
    message: MessageId,
    flags: &'a [String],
}

impl Place<'_> {
    fn apply(&self, tx: &mut Tx<'_>, entry: &LogEntry) -> Result<Applied, StoreError> {
        if !tx.local {
            if tx.removed(self.placement.0)? || tx.removed(self.user.0)? {
                forget(tx, self.placement.0)?;
                return Ok(Applied::Done);
            }
            if find(tx, self.placement)?.is_some() {
                return Ok(Applied::Done);
            }
        }
        let wanted = Some(self.message);
        let Some(user) = tx.user(self.user)? else { return wait(tx, entry, self.user.0, wanted) };
        let mailbox = match locate(tx, self.user, self.mailbox)? {
            Location::Here(mailbox) => mailbox,
            Location::Wait(missing) => return wait(tx, entry, missing, wanted),
            Location::Wrong => return Ok(Applied::Done),
        };
        let Some(content) = content::find(tx, user, self.message)? else {
            return wait(tx, entry, self.message.0, wanted);
        };
        let registers = Registers::new(entry.stamp, self.flags);
        let uid = insert(tx, mailbox, self.placement, &content, &registers)?;
        wake(tx, self.placement.0)?;
        Ok(Applied::At(uid))
    }
}

/// Puts a placement into a mailbox, as its newest message.
fn insert(
    tx: &mut Tx<'_>,
    mailbox: i64,
    placement: PlacementId,
    content: &Content,
    registers: &Registers,
) -> Result<Uid, StoreError> {
    let (flags, keywords) = columns(&registers.set());
    let row = tx.mailbox(mailbox)?;
    let (uid, modseq) = (row.take_uid()?, row.touch());
    row.messages += 1;
    row.unseen += u32::from(flags & SEEN == 0);
    row.size += content.size.unsigned_abs();
    tx.sql("INSERT INTO placements VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?.execute(params![
        mailbox,
        uid,
        modseq.cast_signed(),
        flags,
        keywords,
        content.size,
        content.day,
        content.id,
        content.message.0,
        placement.0,
        registers.encode()?
    ])?;
    Ok(uid)
}

/// A placement's row.
pub(super) struct Placed {
    placement: PlacementId,
    pub(super) mailbox: i64,
    pub(super) uid: Uid,
    flags: i64,
    registers: Registers,
    content: Content,
}

pub(super) fn find(tx: &mut Tx<'_>, placement: PlacementId) -> Result<Option<Placed>, StoreError> {
    const SQL: &str =
        "SELECT mailbox, uid, flags, content, message, size, day, registers FROM placements WHERE placement = ?";
    let mut select = tx.sql(SQL)?;
    let mut rows = select.query([placement.0])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let content =
        Content { id: row.get(3)?, user: 0, message: MessageId(row.get(4)?), size: row.get(5)?, day: row.get(6)? };
    let registers = Registers::decode(row.get_ref(7)?.as_blob().map_err(rusqlite::Error::from)?)?;
    Ok(Some(Placed { placement, mailbox: row.get(0)?, uid: row.get(1)?, flags: row.get(2)?, registers, content }))
}

fn write_flags(
    tx: &mut Tx<'_>,
    entry: &LogEntry,
    placement: PlacementId,
    flags: &[String],
    set: bool,
) -> Result<Applied, StoreError> {
    let Some(mut placed) = find(tx, placement)? else { return missing(tx, entry, placement) };
    let before = placed.registers.clone();
    placed.registers.write(flags, set, entry.stamp);
    if placed.registers == before {
        return Ok(Applied::Done);
    }
    let registers = placed.registers.encode()?;
    if before.set() == placed.registers.set() {
        let mut update = tx.sql("UPDATE placements SET registers = ? WHERE mailbox = ? AND uid = ?")?;
        update.execute(params![registers, placed.mailbox, placed.uid])?;
        return Ok(Applied::Done);
    }
    let (bits, keywords) = columns(&placed.registers.set());
    let row = tx.mailbox(placed.mailbox)?;
    row.unseen += u32::from(placed.flags & SEEN != 0 && bits & SEEN == 0);
    row.unseen -= u32::from(placed.flags & SEEN == 0 && bits & SEEN != 0);
    let modseq = row.touch().cast_signed();
    let (user, mailbox) = (row.user_id, row.mailbox);
    if placed.flags & SEEN != bits & SEEN {
        tx.effects.event(Event::Seen(user, mailbox));
    }
    const SQL: &str =
        "UPDATE placements SET modseq = ?, flags = ?, keywords = ?, registers = ? WHERE mailbox = ? AND uid = ?";
    tx.sql(SQL)?.execute(params![modseq, bits, keywords, registers, placed.mailbox, placed.uid])?;
    Ok(Applied::Done)
}

fn move_placement(
    tx: &mut Tx<'_>,
    entry: &LogEntry,
    placement: PlacementId,
    mailbox: MailboxId,
) -> Result<Applied, StoreError> {
    let Some(placed) = find(tx, placement)? else { return missing(tx, entry, placement) };
    if placed.registers.mailbox >= entry.stamp {
        return Ok(Applied::Done);
    }
    let user = tx.mailbox(placed.mailbox)?.user_id;
    match locate(tx, user, mailbox)? {
        Location::Here(to) => Ok(Applied::At(relocate(tx, &placed, to, Some(entry.stamp))?)),
        Location::Wait(subject) => wait(tx, entry, subject, None),
        Location::Wrong => Ok(Applied::Done),
    }
}

fn expunge(tx: &mut Tx<'_>, placement: PlacementId) -> Result<Applied, StoreError> {
    tx.remove(placement.0)?;
    forget(tx, placement.0)?;
    if let Some(placed) = find(tx, placement)? {
        take_out(tx, &placed)?;
        let owner = tx.mailbox(placed.mailbox)?.user_id;
        groups::line_goes(tx, owner, placed.uid)?;
        content::release(tx, placed.content.id, placed.content.message)?;
    }
    Ok(Applied::Done)
}

fn missing(tx: &mut Tx<'_>, entry: &LogEntry, placement: PlacementId) -> Result<Applied, StoreError> {
    if tx.removed(placement.0)? { Ok(Applied::Done) } else { wait(tx, entry, placement.0, None) }
}

/// Moves a placement to where it gets a new UID. Without a stamp its register stays as it is: it was merely rehomed.
pub(super) fn relocate(tx: &mut Tx<'_>, placed: &Placed, to: i64, stamp: Option<Stamp>) -> Result<Uid, StoreError> {
    take_out(tx, placed)?;
    let mut registers = placed.registers.clone();
    registers.mailbox = stamp.unwrap_or(registers.mailbox);
    insert(tx, to, placed.placement, &placed.content, &registers)
}

fn take_out(tx: &mut Tx<'_>, placed: &Placed) -> Result<(), StoreError> {
    let kept = tx.options.vanished_kept;
    let row = tx.mailbox(placed.mailbox)?;
    row.messages -= 1;
    row.unseen -= u32::from(placed.flags & SEEN == 0);
    row.size -= placed.content.size.unsigned_abs();
    row.vanished += 1;
    let modseq = row.touch();
    let full = row.vanished > kept.saturating_mul(2);
    tx.sql("DELETE FROM placements WHERE mailbox = ? AND uid = ?")?.execute(params![placed.mailbox, placed.uid])?;
    let vanished = params![placed.mailbox, modseq.cast_signed(), placed.uid];
    tx.sql("INSERT INTO vanished VALUES (?, ?, ?)")?.execute(vanished)?;
    if full { forget_vanished(tx, placed.mailbox, kept) } else { Ok(()) }
}

/// Keeps the newest `kept` vanished UIDs of a mailbox, and a little more where many went at once.
fn forget_vanished(tx: &mut Tx<'_>, mailbox: i64, kept: u32) -> Result<(), StoreError> {
    const LAST: &str = "SELECT modseq FROM vanished WHERE mailbox = ? ORDER BY modseq DESC LIMIT 1 OFFSET ?";
    let last: Option<i64> = tx.sql(LAST)?.query_row(params![mailbox, kept], |row| row.get(0)).optional()?;
    let Some(last) = last else { return Ok(()) };
    let gone = tx.sql("DELETE FROM vanished WHERE mailbox = ? AND modseq <= ?")?.execute(params![mailbox, last])?;
    let row = tx.mailbox(mailbox)?;
    row.vanished = row.vanished.saturating_sub(u32::try_from(gone).unwrap_or(u32::MAX));
    row.forgotten = row.forgotten.max(last.unsigned_abs());
    Ok(())
}
