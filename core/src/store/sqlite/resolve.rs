//! From what is asked to operations, against the present state; whatever is refused is refused here.

use super::apply::{Applied, apply, perform};
use super::content::{self, Prepared};
use super::flags::{DELETED, FlagReader};
use super::tx::Tx;
use super::{Event, StoreError, names, queue, read, records, reshow};
use crate::id::{mailbox_id_for_role, role_name};
use crate::operation::{LogEntry, Operation, Stamp, UserRecord};
use crate::seal::SealedMessage;
use crate::store::{Attestation, NewUser, Placing, StoredSecretKey, StoredSlot, Write, Written};
use mesyx_sdk::{
    Appended, Copied, Flag, FlagChange, Flags, FlagsStored, Mailbox, MailboxId, MailboxName, MessageId, ModSeq,
    PlacementId, Role, Uid, UserId,
};
use rusqlite::{OptionalExtension, params};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Carries out one write. `prepared` has one element for each message in it, in order.
pub(super) fn run(tx: &mut Tx<'_>, write: Write, prepared: &[Prepared]) -> Result<Written, StoreError> {
    match write {
        Write::AddUser(new) => add_user(tx, &new).map(done),
        Write::PutUser(user, record) => put_user(tx, user, record).map(done),
        Write::RemoveUser(user) => {
            existing_user(tx, user)?;
            perform(tx, Operation::RemoveUser { user }).map(done)
        }
        Write::PutKeyset { user, keyset, record, secret } => {
            let id = existing_user(tx, user)?;
            perform(tx, Operation::PutKeyset { user, keyset, record })?;
            if let Some(wrapped) = secret {
                put_secret_key(tx, id, &StoredSecretKey { keyset: Some(keyset), wrapped, held: Vec::new() })?;
                tx.effects.event(Event::Secrets(user));
            }
            Ok(Written::Done)
        }
        Write::PutSecrets { user, put_slots, remove_slots, secret_keys } => {
            let id = existing_user(tx, user)?;
            for slot in &put_slots {
                put_slot(tx, id, slot)?;
            }
            for slot in remove_slots {
                tx.sql("DELETE FROM slots WHERE user = ? AND slot = ?")?.execute(params![id, slot.0])?;
            }
            if let Some(keys) = secret_keys {
                tx.sql("DELETE FROM secret_keys WHERE user = ?")?.execute([id])?;
                keys.iter().try_for_each(|key| put_secret_key(tx, id, key))?;
            }
            tx.effects.event(Event::Secrets(user));
            Ok(Written::Done)
        }
        Write::PutKeys(change) => super::keys::change(tx, &change).map(done),
        Write::Deliver { copies, dedup } => deliver(tx, &copies, prepared, dedup),
        Write::Submit(submission) => queue::submit(tx, &submission, prepared),
        Write::Progress(progress) => queue::progress(tx, &progress, prepared),
        Write::ChangeJobs { jobs, change, due } => queue::change(tx, &jobs, change, due),
        Write::KeysCame { user, due } => queue::keys_came(tx, user, due),
        Write::Append(messages) => append(tx, &messages, prepared),
        Write::Flags { user, mailbox, uids, change, unchanged_since } => {
            store_flags(tx, user, mailbox, &uids, &change, unchanged_since)
        }
        Write::Copy { user, from, uids, to, remove } => copy(tx, user, from, &uids, to, remove),
        Write::Expunge { user, mailbox, uids } => expunge(tx, user, mailbox, uids),
        Write::CreateMailbox { user, mailbox, name, role } => {
            create_mailbox(tx, user, mailbox, &name, role)?;
            Ok(Written::Done)
        }
        Write::RenameMailbox { user, name, new, fresh } => rename(tx, user, &name, &new, fresh).map(done),
        Write::DeleteMailbox { user, name } => delete_mailbox(tx, user, &name).map(done),
        Write::Subscribe { user, name, subscribed } => subscribe(tx, user, &name, subscribed).map(done),
        Write::ClaimRecent { user, mailbox } => {
            if let Some(view) = super::groups::view(tx, user, mailbox)? {
                return Ok(Written::RecentFrom(tx.mailbox(view.mailbox)?.uid_next));
            }
            let id = tx.mailbox_of(user, mailbox)?;
            let row = tx.mailbox(id)?;
            Ok(Written::RecentFrom(std::mem::replace(&mut row.recent_from, row.uid_next)))
        }
        Write::SlotUsed { user, slot, day } => {
            let id = existing_user(tx, user)?;
            const SQL: &str = "UPDATE slots SET last_used = ?3 WHERE user = ?1 AND slot = ?2 AND (last_used IS NULL OR last_used < ?3)";
            tx.sql(SQL)?.execute(params![id, slot.0, day])?;
            Ok(Written::Done)
        }
        Write::PutRecord(new) => records::put(tx, new),
        Write::PutCached { hash, day, value, oldest, most } => records::put_cached(tx, hash, day, &value, oldest, most),
        Write::RemoveRecords { user, records } => records::remove(tx, user, &records),
        Write::PutValue(name, Some(value)) => {
            tx.sql("INSERT OR REPLACE INTO named_values VALUES (?, ?)")?.execute(params![name, value])?;
            Ok(Written::Done)
        }
        Write::PutValue(name, None) => {
            tx.sql("DELETE FROM named_values WHERE name = ?")?.execute([name])?;
            Ok(Written::Done)
        }
        Write::Speak(line) => super::conversations::speak(tx, *line, prepared).map(|(written, _)| written),
        Write::MarkRead { user, mailbox, up_to } => super::conversations::mark_read(tx, user, mailbox, up_to),
        Write::Group(write) => super::groups::write(tx, *write),
        Write::PutCheckpoint(write) => super::checkpoints::put(tx, write),
        Write::Keys(write) => reshow::run(tx, write, prepared),
        Write::Merge { entries, messages } => merge(tx, &entries, &messages, prepared).map(done),
    }
}

pub(super) fn done<T>(_: T) -> Written {
    Written::Done
}

pub(super) fn existing_user(tx: &mut Tx<'_>, user: UserId) -> Result<i64, StoreError> {
    tx.user(user)?.ok_or(StoreError::NotFound("user"))
}

fn free_name(tx: &Tx<'_>, user: UserId, name: &str) -> Result<(), StoreError> {
    let taken = tx.sql("SELECT 1 FROM users WHERE name = ? AND user <> ?")?.exists(params![name, user.0])?;
    if taken { Err(StoreError::Exists("a user of that name")) } else { Ok(()) }
}

fn add_user(tx: &mut Tx<'_>, new: &NewUser) -> Result<(), StoreError> {
    let user = new.user;
    if tx.user(user)?.is_some() || tx.removed(user.0)? {
        return Err(StoreError::Exists("a user of that id"));
    }
    free_name(tx, user, &new.record.name)?;
    perform(tx, Operation::PutUser { user, record: new.record.clone() })?;
    perform(tx, Operation::PutIdentity { user, certificate: new.identity.clone() })?;
    for (keyset, record) in &new.keysets {
        perform(tx, Operation::PutKeyset { user, keyset: *keyset, record: record.clone() })?;
    }
    for (role, name) in Role::STANDARD {
        let mailbox = mailbox_id_for_role(user, role);
        let (name, role) = (name.to_owned(), Some(role_name(role)));
        perform(tx, Operation::CreateMailbox { user, mailbox, name: name.clone(), role })?;
        perform(tx, Operation::Subscribe { user, name, subscribed: true })?;
    }
    if let Some(record) = &new.rotation {
        perform(tx, Operation::PutRotation { user, record: record.clone() })?;
    }
    let id = existing_user(tx, user)?;
    new.secrets.slots.iter().try_for_each(|slot| put_slot(tx, id, slot))?;
    new.secrets.secret_keys.iter().try_for_each(|key| put_secret_key(tx, id, key))
}

fn put_user(tx: &mut Tx<'_>, user: UserId, record: UserRecord) -> Result<(), StoreError> {
    existing_user(tx, user)?;
    free_name(tx, user, &record.name)?;
    perform(tx, Operation::PutUser { user, record })?;
    Ok(())
}

pub(super) fn put_slot(tx: &Tx<'_>, user: i64, slot: &StoredSlot) -> Result<(), StoreError> {
    let mut put = tx.sql("INSERT OR REPLACE INTO slots VALUES (?, ?, ?, ?)")?;
    put.execute(params![user, slot.id.0, slot.record, slot.last_used])?;
    Ok(())
}

pub(super) fn put_secret_key(tx: &Tx<'_>, user: i64, key: &StoredSecretKey) -> Result<(), StoreError> {
    let keyset = key.keyset.as_ref().map_or(&[][..], |keyset| &keyset.0[..]);
    let mut put = tx.sql("INSERT OR REPLACE INTO secret_keys (user, keyset, wrapped, held) VALUES (?, ?, ?, ?)")?;
    put.execute(params![user, keyset, key.wrapped, super::keys::listed(&key.held)?])?;
    Ok(())
}

fn texts<'a>(flags: impl IntoIterator<Item = &'a Flag>) -> Result<Vec<String>, StoreError> {
    let flags: BTreeSet<&Flag> = flags.into_iter().collect();
    limit_keywords(flags.iter().copied())?;
    Ok(flags.into_iter().map(|flag| flag.as_str().to_owned()).collect())
}

pub(super) fn place(tx: &mut Tx<'_>, placing: &Placing, prepared: Prepared) -> Result<Uid, StoreError> {
    let user = placing.message.user;
    if placing.message.session_key.user != user {
        return Err(StoreError::Invalid("a session key is another user's"));
    }
    tx.mailbox_of(user, placing.mailbox)?;
    super::keys::refuse_removed(tx, &placing.message.session_key)?;
    let local = existing_user(tx, user)?;
    let content = content::put(tx, local, &placing.message, prepared, None)?;
    put_in(tx, user, placing.mailbox, content.message, texts(&placing.flags)?)
}

fn put_in(
    tx: &mut Tx<'_>,
    user: UserId,
    mailbox: MailboxId,
    message: MessageId,
    flags: Vec<String>,
) -> Result<Uid, StoreError> {
    let placement = PlacementId::random();
    match perform(tx, Operation::Place { placement, user, mailbox, message, flags })? {
        Applied::At(uid) => Ok(uid),
        Applied::Done | Applied::Waits => Err(StoreError::Backend("a placement came to nothing".to_owned())),
    }
}

pub(super) fn deliver(
    tx: &mut Tx<'_>,
    copies: &[Placing],
    prepared: &[Prepared],
    dedup: Option<[u8; 32]>,
) -> Result<Written, StoreError> {
    if let Some(hash) = dedup {
        let new = tx.sql("INSERT OR IGNORE INTO dedup VALUES (?, ?)")?.execute(params![hash, tx.today])?;
        if new == 0 {
            tx.effects.blobs_gone.extend(prepared.iter().filter_map(|prepared| prepared.blob));
            return Ok(Written::Delivered { duplicate: true });
        }
    }
    for (placing, prepared) in copies.iter().zip(prepared) {
        place(tx, placing, *prepared)?;
    }
    Ok(Written::Delivered { duplicate: false })
}

fn append(tx: &mut Tx<'_>, messages: &[Placing], prepared: &[Prepared]) -> Result<Written, StoreError> {
    let first = messages.first().ok_or(StoreError::Invalid("nothing to append"))?;
    let (user, mailbox) = (first.message.user, first.mailbox);
    if messages.iter().any(|placing| placing.mailbox != mailbox || placing.message.user != user) {
        return Err(StoreError::Invalid("messages are appended to one mailbox at a time"));
    }
    let id = tx.mailbox_of(user, mailbox)?;
    let uids = messages.iter().zip(prepared).map(|(placing, prepared)| place(tx, placing, *prepared));
    let uids = uids.collect::<Result<_, _>>()?;
    Ok(Written::Placed(Appended { uid_validity: tx.mailbox(id)?.uid_validity, uids }))
}

/// A message as `uids` name it.
struct Target {
    uid: Uid,
    placement: PlacementId,
    message: MessageId,
    modseq: ModSeq,
    flags: Flags,
}

/// The messages of `uids` that are there, in the order of their UIDs, each once.
fn targets(tx: &Tx<'_>, mailbox: i64, uids: &[Uid]) -> Result<Vec<Target>, StoreError> {
    let uids: BTreeSet<Uid> = uids.iter().copied().collect();
    const SQL: &str =
        "SELECT placement, message, modseq, flags, keywords FROM placements WHERE mailbox = ? AND uid = ?";
    let mut select = tx.sql(SQL)?;
    let mut flags = FlagReader::default();
    let mut found = Vec::with_capacity(uids.len());
    for uid in uids {
        let target = select.query_row(params![mailbox, uid], |row| {
            Ok(Target {
                uid,
                placement: PlacementId(row.get(0)?),
                message: MessageId(row.get(1)?),
                modseq: row.get::<_, i64>(2)?.unsigned_abs(),
                flags: flags.read(row.get(3)?, row.get_ref(4)?.as_str_or_null()?),
            })
        });
        found.extend(target.optional()?);
    }
    Ok(found)
}

fn store_flags(
    tx: &mut Tx<'_>,
    user: UserId,
    mailbox: MailboxId,
    uids: &[Uid],
    change: &FlagChange,
    unchanged_since: Option<ModSeq>,
) -> Result<Written, StoreError> {
    if let Some(view) = super::groups::view(tx, user, mailbox)? {
        return super::groups::store_flags(tx, view, uids, change, unchanged_since);
    }
    let id = tx.mailbox_of(user, mailbox)?;
    let targets = targets(tx, id, uids)?;
    let mut modified = Vec::new();
    for target in &targets {
        if unchanged_since.is_some_and(|since| target.modseq > since) {
            modified.push(target.uid);
            continue;
        }
        let (add, remove) = difference(&target.flags, change)?;
        if !add.is_empty() {
            perform(tx, Operation::AddFlags { placement: target.placement, flags: add })?;
        }
        if !remove.is_empty() {
            perform(tx, Operation::RemoveFlags { placement: target.placement, flags: remove })?;
        }
    }
    let all: Vec<Uid> = targets.iter().map(|target| target.uid).collect();
    let entries = read::entries_of(tx.connection, id, &all)?;
    Ok(Written::Flags(FlagsStored { entries, modified }))
}

/// What a change adds to the present flags, and what it takes from them.
pub(super) fn difference(present: &Flags, change: &FlagChange) -> Result<(Vec<String>, Vec<String>), StoreError> {
    let (add, remove): (Vec<&Flag>, Vec<&Flag>) = match change {
        FlagChange::Add(flags) => (flags.iter().collect(), Vec::new()),
        FlagChange::Remove(flags) => (Vec::new(), flags.iter().collect()),
        FlagChange::Set(flags) => {
            (flags.iter().collect(), present.iter().filter(|flag| !flags.contains(flag)).collect())
        }
    };
    let kept = present.iter().filter(|flag| !remove.contains(flag));
    limit_keywords(kept.chain(add.iter().copied().filter(|flag| !present.contains(flag))))?;
    let add = texts(add.into_iter().filter(|flag| !present.contains(flag)))?;
    let remove = texts(remove.into_iter().filter(|flag| present.contains(flag)))?;
    Ok((add, remove))
}

/// System flags don't count: a message must always be markable as seen or deleted.
fn limit_keywords<'a>(flags: impl Iterator<Item = &'a Flag>) -> Result<(), StoreError> {
    if flags.filter(|flag| matches!(flag, Flag::Keyword(_))).count() > Flags::MAX {
        return Err(StoreError::Invalid("a message has at most 100 keywords"));
    }
    Ok(())
}

fn copy(
    tx: &mut Tx<'_>,
    user: UserId,
    from: MailboxId,
    uids: &[Uid],
    to: MailboxId,
    remove: bool,
) -> Result<Written, StoreError> {
    let source = tx.mailbox_of(user, from)?;
    let target = tx.mailbox_of(user, to)?;
    let mut pairs = Vec::new();
    for Target { uid, placement, message, flags, .. } in targets(tx, source, uids)? {
        let new = if remove {
            match perform(tx, Operation::Move { placement, mailbox: to })? {
                Applied::At(uid) => uid,
                Applied::Done | Applied::Waits => {
                    return Err(StoreError::Backend("a move came to nothing".to_owned()));
                }
            }
        } else {
            put_in(tx, user, to, message, texts(&flags)?)?
        };
        pairs.push((uid, new));
    }
    Ok(Written::Copied(Copied { uid_validity: tx.mailbox(target)?.uid_validity, uids: pairs }))
}

fn expunge(tx: &mut Tx<'_>, user: UserId, mailbox: MailboxId, only: Option<Vec<Uid>>) -> Result<Written, StoreError> {
    let only: Option<BTreeSet<Uid>> = only.map(|uids| uids.into_iter().collect());
    if let Some(view) = super::groups::view(tx, user, mailbox)? {
        return super::groups::expunge(tx, view, only.as_ref());
    }
    let id = tx.mailbox_of(user, mailbox)?;
    const SQL: &str = "SELECT uid, placement FROM placements WHERE mailbox = ? AND flags & 2 ORDER BY uid";
    const { assert!(DELETED == 2) };
    let mut select = tx.sql(SQL)?;
    let deleted = select.query_map([id], |row| Ok((row.get::<_, Uid>(0)?, PlacementId(row.get(1)?))))?;
    let deleted = deleted.collect::<Result<Vec<_>, _>>()?;
    let mut gone = Vec::new();
    for (uid, placement) in deleted {
        if only.as_ref().is_none_or(|only| only.contains(&uid)) {
            perform(tx, Operation::Expunge { placement })?;
            gone.push(uid);
        }
    }
    Ok(Written::Expunged(gone))
}

fn mailboxes(tx: &mut Tx<'_>, user: UserId) -> Result<Vec<Mailbox>, StoreError> {
    let id = existing_user(tx, user)?;
    names::mailboxes(tx.connection, id)
}

fn create_mailbox(
    tx: &mut Tx<'_>,
    user: UserId,
    mailbox: MailboxId,
    name: &MailboxName,
    role: Option<Role>,
) -> Result<(), StoreError> {
    let present = mailboxes(tx, user)?;
    if present.iter().any(|present| present.name == *name) {
        return Err(StoreError::Exists("a mailbox of that name"));
    }
    if role.is_some() && present.iter().any(|present| present.role == role) {
        return Err(StoreError::Exists("a mailbox of that special use"));
    }
    if tx.mailbox_id(mailbox)?.is_some() || tx.removed(mailbox.0)? {
        return Err(StoreError::Invalid("the id of a new mailbox was used before: take a random one"));
    }
    let (name, role) = (name.as_str().to_owned(), role.map(role_name));
    perform(tx, Operation::CreateMailbox { user, mailbox, name, role })?;
    Ok(())
}

fn rename(
    tx: &mut Tx<'_>,
    user: UserId,
    name: &MailboxName,
    new: &MailboxName,
    fresh: MailboxId,
) -> Result<(), StoreError> {
    if name.is_inbox() {
        return rename_inbox(tx, user, new, fresh);
    }
    let present = mailboxes(tx, user)?;
    let below = |other: &MailboxName| -> Option<String> {
        let rest = other.as_str().strip_prefix(name.as_str())?;
        (rest.is_empty() || rest.starts_with('/')).then(|| format!("{}{rest}", new.as_str()))
    };
    let renamed: Vec<(MailboxId, String)> =
        present.iter().filter_map(|mailbox| below(&mailbox.name).map(|name| (mailbox.id, name))).collect();
    if renamed.is_empty() {
        return Err(StoreError::NotFound("mailbox"));
    }
    if below(new).is_some() {
        return Err(StoreError::Invalid("a mailbox can't be renamed to itself or below itself"));
    }
    let stays: BTreeSet<&str> =
        present.iter().filter(|mailbox| below(&mailbox.name).is_none()).map(|mailbox| mailbox.name.as_str()).collect();
    if stays.contains(new.as_str()) || renamed.iter().any(|(_, name)| stays.contains(name.as_str())) {
        return Err(StoreError::Exists("a mailbox of that name"));
    }
    for (mailbox, name) in renamed {
        MailboxName::new(&name)
            .map_err(|_| StoreError::Invalid("a mailbox below it would get a name that is too long"))?;
        perform(tx, Operation::RenameMailbox { mailbox, name })?;
    }
    Ok(())
}

/// INBOX stays and gives its messages away (RFC 3501, section 6.3.5).
fn rename_inbox(tx: &mut Tx<'_>, user: UserId, new: &MailboxName, fresh: MailboxId) -> Result<(), StoreError> {
    create_mailbox(tx, user, fresh, new, None)?;
    let inbox = tx.mailbox_of(user, mailbox_id_for_role(user, Role::Inbox))?;
    for placement in placements(tx, inbox)? {
        perform(tx, Operation::Move { placement, mailbox: fresh })?;
    }
    Ok(())
}

fn placements(tx: &Tx<'_>, mailbox: i64) -> Result<Vec<PlacementId>, StoreError> {
    let mut select = tx.sql("SELECT placement FROM placements WHERE mailbox = ? ORDER BY uid")?;
    let placements = select.query_map([mailbox], |row| Ok(PlacementId(row.get(0)?)))?;
    Ok(placements.collect::<Result<_, _>>()?)
}

fn delete_mailbox(tx: &mut Tx<'_>, user: UserId, name: &MailboxName) -> Result<(), StoreError> {
    if name.is_inbox() {
        return Err(StoreError::Invalid("INBOX can't be deleted"));
    }
    let present = mailboxes(tx, user)?;
    let found = present.iter().find(|mailbox| mailbox.name == *name).ok_or(StoreError::NotFound("mailbox"))?;
    let id = tx.mailbox_of(user, found.id)?;
    for placement in placements(tx, id)? {
        perform(tx, Operation::Expunge { placement })?;
    }
    perform(tx, Operation::DeleteMailbox { mailbox: found.id })?;
    Ok(())
}

fn subscribe(tx: &mut Tx<'_>, user: UserId, name: &MailboxName, subscribed: bool) -> Result<(), StoreError> {
    let id = existing_user(tx, user)?;
    const SQL: &str = "SELECT subscribed FROM subscriptions WHERE user = ? AND name = ?";
    let present: Option<bool> = tx.sql(SQL)?.query_row(params![id, name.as_str()], |row| row.get(0)).optional()?;
    if present.unwrap_or(false) != subscribed {
        perform(tx, Operation::Subscribe { user, name: name.as_str().to_owned(), subscribed })?;
    }
    Ok(())
}

fn merge(
    tx: &mut Tx<'_>,
    entries: &[LogEntry],
    messages: &[(SealedMessage, Arc<Attestation>)],
    prepared: &[Prepared],
) -> Result<(), StoreError> {
    for LogEntry { stamp, sequence, .. } in entries {
        let possible = stamp.counter <= Stamp::MAX_COUNTER && (1..=Stamp::MAX_COUNTER).contains(sequence);
        if !possible || stamp.day > tx.today.saturating_add(2) {
            return Err(StoreError::Invalid("an operation has a stamp or number that no honest instance gives"));
        }
    }
    // Content first, if its user is known; what turns out unplaced and unwanted goes again.
    let mut brought = Vec::new();
    let mut later = Vec::new();
    for (at, (message, attestation)) in messages.iter().enumerate() {
        let Some(part) = prepared.get(at) else { continue };
        match tx.user(message.user)? {
            Some(user) => {
                let content = content::put(tx, user, message, *part, Some(attestation))?;
                brought.push(content);
                super::apply::wake(tx, message.message.0)?;
            }
            None => later.push(at),
        }
    }
    for entry in entries {
        tx.meta.day = tx.meta.day.max(entry.stamp.day);
        tx.meta.counter = tx.meta.counter.max(entry.stamp.counter);
        if entry.stamp.instance == tx.meta.me {
            tx.meta.sequence = tx.meta.sequence.max(entry.sequence);
        }
        if tx.log(entry)? {
            apply(tx, entry)?;
        }
    }
    for at in later {
        let (Some((message, attestation)), Some(part)) = (messages.get(at), prepared.get(at)) else { continue };
        match tx.user(message.user)? {
            Some(user) => {
                brought.push(content::put(tx, user, message, *part, Some(attestation))?);
                super::apply::wake(tx, message.message.0)?;
            }
            None => tx.effects.blobs_gone.extend(part.blob),
        }
    }
    for content in brought {
        content::release(tx, content.id, content.message)?;
    }
    Ok(())
}
