//! Groups: one log of lines for all members, and what is each member's own.
//!
//! A group is an owner like a user: its lines are placements in its one mailbox, sealed for it under the keys of its epochs. Who has a
//! row in `group_keys` sees the lines of that epoch; flags, what was read and what was expunged are rows of the member's own. UIDs and
//! modification sequences are those of the group's mailbox, for all members.

use super::apply::{Applied, perform, wait, wake};
use super::flags::{DELETED, Registers, SEEN, columns};
use super::resolve::{difference, existing_user};
use super::tx::Tx;
use super::{Event, StoreError, group_views, records};
use crate::id::{SessionKeyId, mailbox_id_for_role, role_name};
use crate::operation::{LogEntry, Operation, Stamp};
use crate::store::{GroupWrite, Written};
use mesyx_sdk::{Flag, FlagChange, FlagsStored, MailboxId, ModSeq, PlacementId, Role, Uid, UserId};
use ring::digest;
use rusqlite::{OptionalExtension, params};
use std::collections::BTreeSet;

/// A member's view of a group, by local ids.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub(super) grp: i64,
    pub(super) user: i64,
    pub(super) of: UserId,
    pub(super) mailbox: i64,
}

impl View {
    /// Group, user and mailbox.
    pub(super) const fn ids(&self) -> (i64, i64, i64) {
        (self.grp, self.user, self.mailbox)
    }
}

/// The view, where the mailbox is a group's and the user has one.
pub(super) fn view(tx: &mut Tx<'_>, of: UserId, id: MailboxId) -> Result<Option<View>, StoreError> {
    let Some(mailbox) = tx.mailbox_id(id)? else { return Ok(None) };
    let owner = tx.mailbox(mailbox)?.user_id;
    if owner == of {
        return Ok(None);
    }
    let (Some(grp), Some(user)) = (tx.user(owner)?, tx.user(of)?) else { return Ok(None) };
    let member = tx.sql("SELECT 1 FROM members WHERE grp = ? AND user = ?")?.exists(params![grp, user])?;
    Ok(member.then_some(View { grp, user, of, mailbox }))
}

/// Carries out [`crate::store::Write::Group`].
pub(super) fn write(tx: &mut Tx<'_>, write: GroupWrite) -> Result<Written, StoreError> {
    let GroupWrite { group, members, records, remove_records, keys, forget } = write;
    if tx.user(group)?.is_none() {
        if tx.removed(group.0)? {
            return Err(StoreError::Invalid("the id of a new group was used before"));
        }
        perform(tx, Operation::PutGroup { group })?;
    }
    for (user, rank) in members {
        existing_user(tx, user)?;
        perform(tx, Operation::SetMember { group, user, rank })?;
    }
    for key in keys {
        // Who was removed a moment ago needs no key.
        if tx.user(key.user)?.is_some() {
            let (epoch, user, keyset) = (key.epoch, key.user, key.keyset);
            if tx.removed(keyset.0)? {
                return Err(StoreError::KeysetGone);
            }
            perform(tx, Operation::PutGroupKey { group, epoch, user, keyset, packets: key.packets.to_vec() })?;
        }
    }
    if !records.is_empty() || !remove_records.is_empty() {
        tx.effects.event(Event::Group(group));
    }
    for record in records {
        records::put(tx, record)?;
    }
    records::remove(tx, group, &remove_records)?;
    if let Some(user) = forget {
        tx.effects.event(Event::Group(group));
        give_up(tx, group, user)?;
    }
    Ok(Written::Done)
}

/// A user gives up what they see; what nobody sees any more is erased.
fn give_up(tx: &mut Tx<'_>, group: UserId, user: UserId) -> Result<(), StoreError> {
    let (grp, id) = (existing_user(tx, group)?, tx.user(user)?);
    if let Some(id) = id {
        let mut select = tx.sql("SELECT epoch FROM group_keys WHERE grp = ? AND user = ?")?;
        let epochs = select.query_map(params![grp, id], |row| Ok(SessionKeyId(row.get(0)?)))?;
        let epochs = epochs.collect::<Result<Vec<_>, _>>()?;
        if !epochs.is_empty() {
            perform(tx, Operation::ForgetGroupKeys { group, user, epochs })?;
        }
    }
    const UNSEEN: &str = "SELECT p.placement FROM placements p JOIN messages m ON m.id = p.content
        JOIN session_keys k ON k.id = m.session_key
        WHERE p.mailbox = (SELECT id FROM mailboxes WHERE user = ?1)
        AND NOT EXISTS (SELECT 1 FROM group_keys g WHERE g.grp = ?1 AND g.epoch = k.session_key)";
    let mut select = tx.sql(UNSEEN)?;
    let lines = select.query_map([grp], |row| Ok(PlacementId(row.get(0)?)))?.collect::<Result<Vec<_>, _>>()?;
    for placement in lines {
        perform(tx, Operation::Expunge { placement })?;
    }
    const USED: &str = "SELECT 1 FROM members WHERE grp = ?1 AND rank IS NOT NULL
        UNION ALL SELECT 1 FROM group_keys WHERE grp = ?1";
    if !tx.sql(USED)?.exists([grp])? {
        perform(tx, Operation::RemoveUser { user: group })?;
    }
    Ok(())
}

/// What stands among the removed ids for one user's key of one epoch that was given up.
fn key_id(group: UserId, user: UserId, epoch: SessionKeyId) -> [u8; 16] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"mesyx group key 1\0");
    [group.as_bytes(), user.as_bytes(), &epoch.0].iter().for_each(|piece| context.update(*piece));
    let mut id = [0; 16];
    id.copy_from_slice(&context.finish().as_ref()[..16]);
    id
}

/// Applies `PutGroup`.
pub(super) fn put_group(tx: &mut Tx<'_>, entry: &LogEntry, group: UserId) -> Result<Applied, StoreError> {
    if tx.removed(group.0)? || tx.user(group)?.is_some() {
        return Ok(Applied::Done);
    }
    const SQL: &str = "INSERT INTO users (user, name, record, record_stamp) VALUES (?, '', x'', ?)";
    tx.sql(SQL)?.execute(params![group.0, entry.stamp.to_bytes()])?;
    let id = tx.connection.last_insert_rowid();
    tx.sql("INSERT INTO groups VALUES (?)")?.execute([id])?;
    let mailbox = mailbox_id_for_role(group, Role::Inbox);
    super::apply::create_mailbox(tx, entry, group, mailbox, "INBOX", Some(&role_name(Role::Inbox)))?;
    tx.effects.event(Event::Group(group));
    wake(tx, group.0)?;
    Ok(Applied::Done)
}

/// Group and user, or what to wait for; `None` where one of them was removed.
enum Both {
    Here(i64, i64),
    Missing(UserId),
    Removed,
}

fn both(tx: &mut Tx<'_>, group: UserId, user: UserId) -> Result<Both, StoreError> {
    if tx.removed(group.0)? || tx.removed(user.0)? {
        return Ok(Both::Removed);
    }
    Ok(match (tx.user(group)?, tx.user(user)?) {
        (None, _) => Both::Missing(group),
        (_, None) => Both::Missing(user),
        (Some(group), Some(user)) => Both::Here(group, user),
    })
}

/// A stamp before all others.
const NEVER: [u8; 28] = [0; 28];

fn know(tx: &Tx<'_>, grp: i64, user: i64, marker: Uid) -> Result<(), StoreError> {
    let mut insert = tx.sql("INSERT OR IGNORE INTO members VALUES (?, ?, NULL, ?, ?, ?)")?;
    insert.execute(params![grp, user, NEVER, marker, NEVER])?;
    Ok(())
}

/// Applies `SetMember`.
pub(super) fn set_member(
    tx: &mut Tx<'_>,
    entry: &LogEntry,
    group: UserId,
    user: UserId,
    rank: Option<u8>,
) -> Result<Applied, StoreError> {
    let (grp, id) = match both(tx, group, user)? {
        Both::Here(grp, id) => (grp, id),
        Both::Missing(subject) => return wait(tx, entry, subject.0, None),
        Both::Removed => return Ok(Applied::Done),
    };
    know(tx, grp, id, 0)?;
    const SQL: &str = "UPDATE members SET rank = ?3, stamp = ?4 WHERE grp = ?1 AND user = ?2 AND stamp < ?4";
    tx.sql(SQL)?.execute(params![grp, id, rank, entry.stamp.to_bytes()])?;
    tx.effects.event(Event::Group(group));
    tx.effects.event(Event::MailboxList(user));
    Ok(Applied::Done)
}

/// Applies `PutGroupKey`: of each user's copy the latest stays.
pub(super) fn put_key(tx: &mut Tx<'_>, entry: &LogEntry) -> Result<Applied, StoreError> {
    let Operation::PutGroupKey { group, epoch, user, keyset, packets } = &entry.operation else {
        return Ok(Applied::Done);
    };
    if tx.removed(key_id(*group, *user, *epoch))? {
        return Ok(Applied::Done);
    }
    let (grp, id) = match both(tx, *group, *user)? {
        Both::Here(grp, id) => (grp, id),
        Both::Missing(subject) => return wait(tx, entry, subject.0, None),
        Both::Removed => return Ok(Applied::Done),
    };
    know(tx, grp, id, 0)?;
    const SQL: &str =
        "INSERT INTO group_keys (grp, user, epoch, keyset, packets, stamp) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
        ON CONFLICT (user, grp, epoch) DO UPDATE SET keyset = ?4, packets = ?5, stamp = ?6 WHERE stamp < ?6";
    let stamp = entry.stamp.to_bytes();
    tx.sql(SQL)?.execute(params![grp, id, epoch.0, keyset.0, packets, stamp])?;
    Ok(Applied::Done)
}

/// Applies `ForgetGroupKeys`.
pub(super) fn forget_keys(
    tx: &mut Tx<'_>,
    group: UserId,
    user: UserId,
    epochs: &[SessionKeyId],
) -> Result<Applied, StoreError> {
    for epoch in epochs {
        tx.remove(key_id(group, user, *epoch))?;
    }
    if let (Some(grp), Some(id)) = (tx.user(group)?, tx.user(user)?) {
        for epoch in epochs {
            let mut delete = tx.sql("DELETE FROM group_keys WHERE grp = ? AND user = ? AND epoch = ?")?;
            delete.execute(params![grp, id, epoch.0])?;
        }
        tx.effects.event(Event::Group(group));
        tx.effects.event(Event::MailboxList(user));
    }
    Ok(Applied::Done)
}

/// A line by its placement: its group, and where it stands.
struct Line {
    grp: i64,
    mailbox: i64,
    id: MailboxId,
    uid: Uid,
    modseq: ModSeq,
}

/// The line, or what came of it without one.
enum Found {
    Line(Line, i64),
    Applied(Applied),
}

fn line(tx: &mut Tx<'_>, entry: &LogEntry, user: UserId, placement: PlacementId) -> Result<Found, StoreError> {
    if tx.removed(placement.0)? || tx.removed(user.0)? {
        return Ok(Found::Applied(Applied::Done));
    }
    let Some(id) = tx.user(user)? else { return wait(tx, entry, user.0, None).map(Found::Applied) };
    let mut select = tx.sql("SELECT mailbox, uid, modseq FROM placements WHERE placement = ?")?;
    let found = select.query_row([placement.0], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, Uid>(1)?, row.get::<_, i64>(2)?.unsigned_abs()))
    });
    let Some((mailbox, uid, modseq)) = found.optional()? else {
        return wait(tx, entry, placement.0, None).map(Found::Applied);
    };
    let row = tx.mailbox(mailbox)?;
    let (owner, at) = (row.user_id, row.mailbox);
    let Some(grp) = tx.user(owner)? else { return Ok(Found::Applied(Applied::Done)) };
    // Another user's message: no honest instance says so.
    if !tx.sql("SELECT 1 FROM groups WHERE grp = ?")?.exists([grp])? {
        return Ok(Found::Applied(Applied::Done));
    }
    Ok(Found::Line(Line { grp, mailbox, id: at, uid, modseq }, id))
}

/// Applies `ReadTo`: the farthest marker holds, and says for the lines up to it what flags said before.
pub(super) fn read_to(
    tx: &mut Tx<'_>,
    entry: &LogEntry,
    user: UserId,
    placement: PlacementId,
) -> Result<Applied, StoreError> {
    let (line, id) = match line(tx, entry, user, placement)? {
        Found::Line(line, id) => (line, id),
        Found::Applied(applied) => return Ok(applied),
    };
    know(tx, line.grp, id, 0)?;
    let stamp = entry.stamp.to_bytes();
    const MOVE: &str = "UPDATE members SET marker = ?3, marked = ?4 WHERE grp = ?1 AND user = ?2
        AND (marker < ?3 OR (marker = ?3 AND marked < ?4)) RETURNING 1";
    let (before, marked): (Uid, [u8; 28]) = tx
        .sql("SELECT marker, marked FROM members WHERE grp = ? AND user = ?")?
        .query_row(params![line.grp, id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let moved = tx.sql(MOVE)?.query_row(params![line.grp, id, line.uid, stamp], |_| Ok(())).optional()?.is_some();
    if !moved {
        return Ok(Applied::Done);
    }
    let modseq = tx.mailbox(line.mailbox)?.touch();
    let mut overruled = settle(tx, &line, id, (line.uid, entry.stamp), marked > stamp)?;
    // What came with this very write is new to everybody anyway.
    overruled |= !(line.modseq == modseq && before + 1 >= line.uid);
    if overruled {
        let mut mark = tx.sql("INSERT OR REPLACE INTO group_marks VALUES (?, ?, ?, ?)")?;
        mark.execute(params![line.grp, id, line.uid, modseq.cast_signed()])?;
        prune_marks(tx, line.grp, id)?;
        tx.effects.event(Event::Seen(user, line.id));
    }
    Ok(Applied::Done)
}

/// Lines whose flag `\Seen` was written before the marker came past them have the marker's word. `all`: an earlier marker is farther than a
/// later one, so that flags which that had overruled hold again.
fn settle(tx: &mut Tx<'_>, line: &Line, user: i64, marker: (Uid, Stamp), all: bool) -> Result<bool, StoreError> {
    const OWN: &str = "SELECT uid, registers FROM group_flags INDEXED BY group_flags_seen
        WHERE grp = ? AND user = ? AND uid <= ? AND seen IS NOT NULL";
    const ALL: &str = "SELECT uid, registers FROM group_flags WHERE grp = ? AND user = ? AND uid <= ?";
    let mut select = tx.sql(if all { ALL } else { OWN })?;
    let rows = select.query_map(params![line.grp, user, marker.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let rows = rows.collect::<Result<Vec<(Uid, Vec<u8>)>, _>>()?;
    let modseq = tx.mailbox(line.mailbox)?.touch();
    let mut changed = false;
    for (uid, registers) in rows {
        let registers = Registers::decode(&registers)?;
        let seen = registers.written("\\Seen").filter(|(_, stamp)| *stamp > marker.1).map(|(set, _)| set);
        const SET: &str = "UPDATE group_flags SET seen = ?4, modseq = ?5
            WHERE grp = ?1 AND user = ?2 AND uid = ?3 AND seen IS NOT ?4";
        changed |= tx.sql(SET)?.execute(params![line.grp, user, uid, seen, modseq.cast_signed()])? > 0;
    }
    Ok(changed)
}

/// Keeps the marks of a member few. Without one, lines seem to have changed at the next one's time: told once too often, never too seldom.
fn prune_marks(tx: &Tx<'_>, grp: i64, user: i64) -> Result<(), StoreError> {
    const MOST: i64 = 512;
    const COUNT: &str = "SELECT count(*) FROM group_marks WHERE grp = ? AND user = ?";
    if tx.sql(COUNT)?.query_row(params![grp, user], |row| row.get::<_, i64>(0))? > MOST {
        const SQL: &str = "DELETE FROM group_marks WHERE grp = ?1 AND user = ?2 AND up_to IN
            (SELECT up_to FROM group_marks WHERE grp = ?1 AND user = ?2 ORDER BY up_to LIMIT ?3)";
        tx.sql(SQL)?.execute(params![grp, user, MOST / 2])?;
    }
    Ok(())
}

/// A member's row for a line.
struct Own {
    registers: Registers,
    gone: bool,
}

fn own(tx: &Tx<'_>, line: &Line, user: i64) -> Result<Own, StoreError> {
    let mut select = tx.sql("SELECT registers, gone FROM group_flags WHERE grp = ? AND user = ? AND uid = ?")?;
    let found: Option<(Vec<u8>, bool)> =
        select.query_row(params![line.grp, user, line.uid], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    Ok(match found {
        Some((registers, gone)) => Own { registers: Registers::decode(&registers)?, gone },
        None => Own { registers: Registers::new(Stamp::from_bytes(NEVER), &[]), gone: false },
    })
}

fn put_own(tx: &mut Tx<'_>, line: &Line, user: i64, own: &Own) -> Result<(), StoreError> {
    let marker: Option<(Uid, [u8; 28])> = tx
        .sql("SELECT marker, marked FROM members WHERE grp = ? AND user = ?")?
        .query_row(params![line.grp, user], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (marker, marked) = marker.unwrap_or((0, NEVER));
    let seen = own.registers.written("\\Seen");
    let seen = seen.filter(|(_, stamp)| line.uid > marker || stamp.to_bytes() > marked).map(|(set, _)| set);
    let set: BTreeSet<Flag> = own.registers.set().into_iter().filter(|flag| *flag != Flag::Seen).collect();
    let (bits, keywords) = columns(&set);
    let modseq = tx.mailbox(line.mailbox)?.touch().cast_signed();
    let mut put = tx.sql("INSERT OR REPLACE INTO group_flags VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
    put.execute(params![line.grp, user, line.uid, modseq, bits, keywords, seen, own.gone, own.registers.encode()?])?;
    Ok(())
}

/// Applies `MemberFlags`.
pub(super) fn write_flags(
    tx: &mut Tx<'_>,
    entry: &LogEntry,
    user: UserId,
    placement: PlacementId,
    (flags, set): (&[String], bool),
) -> Result<Applied, StoreError> {
    let (line, id) = match line(tx, entry, user, placement)? {
        Found::Line(line, id) => (line, id),
        Found::Applied(applied) => return Ok(applied),
    };
    know(tx, line.grp, id, 0)?;
    let mut own = own(tx, &line, id)?;
    let before = own.registers.clone();
    own.registers.write(flags, set, entry.stamp);
    if own.registers != before {
        put_own(tx, &line, id, &own)?;
        let new = line.modseq == tx.mailbox(line.mailbox)?.modseq;
        if !new && flags.iter().any(|flag| flag.eq_ignore_ascii_case("\\Seen")) {
            tx.effects.event(Event::Seen(user, line.id));
        }
    }
    Ok(Applied::Done)
}

/// Applies `MemberExpunge`: for good.
pub(super) fn member_expunge(
    tx: &mut Tx<'_>,
    entry: &LogEntry,
    user: UserId,
    placement: PlacementId,
) -> Result<Applied, StoreError> {
    let (line, id) = match line(tx, entry, user, placement)? {
        Found::Line(line, id) => (line, id),
        Found::Applied(applied) => return Ok(applied),
    };
    know(tx, line.grp, id, 0)?;
    let mut own = own(tx, &line, id)?;
    if !own.gone {
        own.gone = true;
        put_own(tx, &line, id, &own)?;
    }
    Ok(Applied::Done)
}

/// A line was expunged for all: nobody has flags on it any more.
pub(super) fn line_goes(tx: &mut Tx<'_>, owner: UserId, uid: Uid) -> Result<(), StoreError> {
    if let Some(grp) = tx.user(owner)? {
        tx.sql("DELETE FROM group_flags WHERE grp = ? AND uid = ?")?.execute(params![grp, uid])?;
    }
    Ok(())
}

/// A user goes: the groups that they belonged to hear of it.
pub(super) fn user_goes(tx: &mut Tx<'_>, user: i64) -> Result<(), StoreError> {
    let mut select = tx.sql("SELECT u.user FROM members m JOIN users u ON u.id = m.grp WHERE m.user = ?")?;
    let groups = select.query_map([user], |row| Ok(UserId(row.get(0)?)))?.collect::<Result<Vec<_>, _>>()?;
    groups.into_iter().for_each(|group| tx.effects.event(Event::Group(group)));
    Ok(())
}

/// The author of a line has read it.
pub(super) fn said(
    tx: &mut Tx<'_>,
    group: UserId,
    mailbox: MailboxId,
    uid: Uid,
    author: UserId,
) -> Result<(), StoreError> {
    let Some(view) = view(tx, author, mailbox)? else { return Ok(()) };
    let placement = tx
        .sql("SELECT placement FROM placements WHERE mailbox = ? AND uid = ?")?
        .query_row(params![view.mailbox, uid], |row| Ok(PlacementId(row.get(0)?)))?;
    let marker: Uid = tx
        .sql("SELECT marker FROM members WHERE grp = ? AND user = ?")?
        .query_row(params![view.grp, view.user], |row| row.get(0))?;
    // The marker says for every line up to it that it was read: it must not come past one that was taken back to unread.
    let taken_back = || -> Result<bool, StoreError> {
        const SQL: &str = "SELECT 1 FROM group_flags INDEXED BY group_flags_seen
            WHERE grp = ? AND user = ? AND uid <= ? AND seen = 0 AND NOT gone";
        Ok(tx.sql(SQL)?.exists(params![view.grp, view.user, marker])?)
    };
    if marker + 1 == uid && !taken_back()? {
        perform(tx, Operation::ReadTo { group, user: author, placement })?;
    } else {
        let flags = vec!["\\Seen".to_owned()];
        perform(tx, Operation::MemberFlags { user: author, placement, flags, set: true })?;
    }
    Ok(())
}

/// Marks what a member sees up to `up_to` as read.
pub(super) fn mark_read(tx: &mut Tx<'_>, view: View, up_to: Uid) -> Result<Written, StoreError> {
    let Some(last) = group_views::last_to(tx.connection, view.ids(), up_to)? else { return Ok(Written::Done) };
    if group_views::numbers(tx.connection, view.ids())?.read >= last {
        return Ok(Written::Done);
    }
    let placement = tx
        .sql("SELECT placement FROM placements WHERE mailbox = ? AND uid = ?")?
        .query_row(params![view.mailbox, last], |row| Ok(PlacementId(row.get(0)?)))?;
    let group = tx.mailbox(view.mailbox)?.user_id;
    let marker: Uid = tx
        .sql("SELECT marker FROM members WHERE grp = ? AND user = ?")?
        .query_row(params![view.grp, view.user], |row| row.get(0))?;
    if marker >= last {
        // Lines before the marker were taken back to unread: their flags say so.
        let uids = group_views::unseen_to(tx.connection, view.ids(), last)?;
        store_flags(tx, view, &uids, &FlagChange::Add(vec![Flag::Seen]), None)?;
    } else {
        perform(tx, Operation::ReadTo { group, user: view.of, placement })?;
    }
    Ok(Written::Done)
}

/// Changes a member's flags.
pub(super) fn store_flags(
    tx: &mut Tx<'_>,
    view: View,
    uids: &[Uid],
    change: &FlagChange,
    unchanged_since: Option<ModSeq>,
) -> Result<Written, StoreError> {
    let entries = group_views::entries_of(tx.connection, view.ids(), uids)?;
    let mut modified = Vec::new();
    for entry in &entries {
        if unchanged_since.is_some_and(|since| entry.modseq > since) {
            modified.push(entry.uid);
            continue;
        }
        let placement = tx
            .sql("SELECT placement FROM placements WHERE mailbox = ? AND uid = ?")?
            .query_row(params![view.mailbox, entry.uid], |row| Ok(PlacementId(row.get(0)?)))?;
        let (add, remove) = difference(&entry.flags, change)?;
        for (flags, set) in [(add, true), (remove, false)] {
            if !flags.is_empty() {
                perform(tx, Operation::MemberFlags { user: view.of, placement, flags, set })?;
            }
        }
    }
    let all: Vec<Uid> = entries.iter().map(|entry| entry.uid).collect();
    let entries = group_views::entries_of(tx.connection, view.ids(), &all)?;
    Ok(Written::Flags(FlagsStored { entries, modified }))
}

/// Takes lines with `\Deleted` out of a member's view; what nobody sees any more is erased.
pub(super) fn expunge(tx: &mut Tx<'_>, view: View, only: Option<&BTreeSet<Uid>>) -> Result<Written, StoreError> {
    const { assert!(DELETED == 2 && SEEN == 16) };
    const SQL: &str =
        "SELECT f.uid, p.placement FROM group_flags f JOIN placements p ON p.mailbox = ? AND p.uid = f.uid
        WHERE f.grp = ? AND f.user = ? AND f.flags & 2 AND NOT f.gone ORDER BY f.uid";
    let mut select = tx.sql(SQL)?;
    let found = select.query_map(params![view.mailbox, view.grp, view.user], |row| {
        Ok((row.get::<_, Uid>(0)?, PlacementId(row.get(1)?)))
    })?;
    let mut gone = Vec::new();
    for (uid, placement) in found.collect::<Result<Vec<_>, _>>()? {
        if only.is_some_and(|only| !only.contains(&uid)) {
            continue;
        }
        perform(tx, Operation::MemberExpunge { user: view.of, placement })?;
        gone.push(uid);
        const KEPT: &str = "SELECT 1 FROM placements p JOIN messages m ON m.id = p.content
            JOIN session_keys k ON k.id = m.session_key JOIN group_keys g ON g.grp = ?2 AND g.epoch = k.session_key
            LEFT JOIN group_flags f ON f.grp = g.grp AND f.user = g.user AND f.uid = p.uid
            WHERE p.mailbox = ?1 AND p.uid = ?3 AND NOT coalesce(f.gone, 0)";
        if !tx.sql(KEPT)?.exists(params![view.mailbox, view.grp, uid])? {
            perform(tx, Operation::Expunge { placement })?;
        }
    }
    Ok(Written::Expunged(gone))
}
