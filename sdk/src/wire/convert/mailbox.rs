//! Mailboxes, entries and flags.

use super::super::{PAGE, v1};
use super::{each, id, invalid};
use crate::{
    Change, Changes, Copied, Entry, Error, Flag, FlagChange, Mailbox, MailboxId, MailboxName, MailboxStatus, MessageId,
    Role, Snapshot, Timestamp, Uid,
};

impl From<&Mailbox> for v1::Mailbox {
    fn from(mailbox: &Mailbox) -> Self {
        Self {
            id: mailbox.id.0.to_vec(),
            name: mailbox.name.to_string(),
            role: mailbox.role.map(|role| v1::Role::from(role).into()),
            selectable: mailbox.selectable,
        }
    }
}

impl TryFrom<v1::Mailbox> for Mailbox {
    type Error = Error;

    fn try_from(wire: v1::Mailbox) -> Result<Self, Error> {
        Ok(Self {
            id: MailboxId(id(&wire.id)?),
            name: MailboxName::new(&wire.name)?,
            role: role(wire.role),
            selectable: wire.selectable,
        })
    }
}

impl From<Role> for v1::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Inbox => Self::Inbox,
            Role::Archive => Self::Archive,
            Role::Drafts => Self::Drafts,
            Role::Junk => Self::Junk,
            Role::Sent => Self::Sent,
            Role::Trash => Self::Trash,
        }
    }
}

/// A role; none for one that is not known here.
pub(in super::super) fn role(wire: Option<i32>) -> Option<Role> {
    Some(match v1::Role::try_from(wire?).ok()? {
        v1::Role::Unspecified => return None,
        v1::Role::Inbox => Role::Inbox,
        v1::Role::Archive => Role::Archive,
        v1::Role::Drafts => Role::Drafts,
        v1::Role::Junk => Role::Junk,
        v1::Role::Sent => Role::Sent,
        v1::Role::Trash => Role::Trash,
    })
}

impl From<&MailboxStatus> for v1::StatusReply {
    fn from(status: &MailboxStatus) -> Self {
        Self {
            messages: status.messages,
            unseen: status.unseen,
            recent: status.recent,
            uid_next: status.uid_next,
            uid_validity: status.uid_validity,
            highest_modseq: status.highest_modseq,
            size: status.size,
        }
    }
}

impl From<v1::StatusReply> for MailboxStatus {
    fn from(wire: v1::StatusReply) -> Self {
        Self {
            messages: wire.messages,
            unseen: wire.unseen,
            recent: wire.recent,
            uid_next: wire.uid_next,
            uid_validity: wire.uid_validity,
            highest_modseq: wire.highest_modseq,
            size: wire.size,
        }
    }
}

impl From<&Entry> for v1::Entry {
    fn from(entry: &Entry) -> Self {
        Self {
            uid: entry.uid,
            message: entry.message.0.to_vec(),
            modseq: entry.modseq,
            flags: entry.flags.iter().map(|flag| flag.as_str().to_owned()).collect(),
            padded_size: entry.padded_size,
            day: entry.day.0,
        }
    }
}

impl TryFrom<v1::Entry> for Entry {
    type Error = Error;

    fn try_from(wire: v1::Entry) -> Result<Self, Error> {
        Ok(Self {
            uid: wire.uid,
            message: MessageId(id(&wire.message)?),
            modseq: wire.modseq,
            flags: flags(wire.flags)?.into_iter().collect(),
            padded_size: wire.padded_size,
            day: Timestamp(wire.day),
        })
    }
}

/// Flags as IMAP writes them.
pub(in super::super) fn flags(wire: Vec<String>) -> Result<Vec<Flag>, Error> {
    each(wire, |flag| Flag::new(&flag))
}

/// Flags as IMAP writes them.
pub(in super::super) fn words(flags: &[Flag]) -> Vec<String> {
    flags.iter().map(|flag| flag.as_str().to_owned()).collect()
}

/// Entries in pages; one page at least.
pub(in super::super) fn pages(entries: &[Entry]) -> impl Iterator<Item = Vec<v1::Entry>> + '_ {
    let none = entries.is_empty().then(Vec::new);
    none.into_iter().chain(entries.chunks(PAGE).map(|page| page.iter().map(Into::into).collect()))
}

/// A snapshot's pages.
pub(in super::super) fn snapshot_pages(snapshot: &Snapshot) -> impl Iterator<Item = v1::SnapshotPage> + '_ {
    pages(&snapshot.entries).map(|entries| v1::SnapshotPage {
        uid_validity: snapshot.uid_validity,
        uid_next: snapshot.uid_next,
        highest_modseq: snapshot.highest_modseq,
        recent_from: snapshot.recent_from,
        entries,
    })
}

/// The pages of what changed: what went stands in pages of its own.
pub(in super::super) fn changes_pages(changes: &Changes) -> impl Iterator<Item = v1::ChangesPage> + '_ {
    let page = |changed: Vec<v1::Entry>, vanished: &[Uid]| v1::ChangesPage {
        highest_modseq: changes.highest_modseq,
        uid_next: changes.uid_next,
        changed,
        vanished: Some(vanished.into()),
        deleted: changes.deleted,
    };
    let changed = pages(&changes.changed).map(move |entries| page(entries, &[]));
    changed.chain(changes.vanished.chunks(super::super::MAX_UIDS / 4).map(move |gone| page(Vec::new(), gone)))
}

impl From<&FlagChange> for v1::FlagChange {
    fn from(change: &FlagChange) -> Self {
        match change {
            FlagChange::Set(_) => Self::Set,
            FlagChange::Add(_) => Self::Add,
            FlagChange::Remove(_) => Self::Remove,
        }
    }
}

/// A change of flags.
pub(in super::super) fn flag_change(how: i32, wire: Vec<String>) -> Result<FlagChange, Error> {
    let flags = flags(wire)?;
    Ok(match v1::FlagChange::try_from(how) {
        Ok(v1::FlagChange::Set) => FlagChange::Set(flags),
        Ok(v1::FlagChange::Add) => FlagChange::Add(flags),
        Ok(v1::FlagChange::Remove) => FlagChange::Remove(flags),
        _ => return Err(invalid("a change of flags is of a sort that is not known here")),
    })
}

impl From<&Copied> for v1::CopyReply {
    fn from(copied: &Copied) -> Self {
        let (old, new): (Vec<Uid>, Vec<Uid>) = copied.uids.iter().copied().unzip();
        Self { uid_validity: copied.uid_validity, old: Some(old.as_slice().into()), new: Some(new.as_slice().into()) }
    }
}

impl TryFrom<v1::CopyReply> for Copied {
    type Error = Error;

    fn try_from(wire: v1::CopyReply) -> Result<Self, Error> {
        let old: Vec<Uid> = wire.old.unwrap_or_default().try_into()?;
        let new: Vec<Uid> = wire.new.unwrap_or_default().try_into()?;
        if old.len() != new.len() {
            return Err(invalid("there are not as many new UIDs as old ones"));
        }
        Ok(Self { uid_validity: wire.uid_validity, uids: old.into_iter().zip(new).collect() })
    }
}

impl From<&Change> for v1::Change {
    fn from(change: &Change) -> Self {
        use v1::change::Change as Wire;
        let change = match change {
            Change::Mailbox(mailbox, modseq) => {
                Wire::Mailbox(v1::MailboxChange { mailbox: mailbox.0.to_vec(), modseq: *modseq })
            }
            Change::MailboxList => Wire::MailboxList(v1::Nothing {}),
            Change::Lagged => Wire::Lagged(v1::Nothing {}),
            Change::Ended(why) => Wire::Ended(why.clone()),
        };
        Self { change: Some(change) }
    }
}

impl TryFrom<v1::Change> for Change {
    type Error = Error;

    fn try_from(wire: v1::Change) -> Result<Self, Error> {
        use v1::change::Change as Wire;
        Ok(match wire.change {
            Some(Wire::Mailbox(change)) => Self::Mailbox(MailboxId(id(&change.mailbox)?), change.modseq),
            Some(Wire::MailboxList(_)) => Self::MailboxList,
            // What is not known here may have changed anything.
            Some(Wire::Lagged(_)) | None => Self::Lagged,
            Some(Wire::Ended(why)) => Self::Ended(why),
        })
    }
}
