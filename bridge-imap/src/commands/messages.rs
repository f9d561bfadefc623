//! STORE, COPY, MOVE and EXPUNGE.

use super::append::try_create;
use crate::connection::{Connection, Fault, Handled, Reply};
use crate::proto::command::{Action, Store, Transfer};
use crate::proto::sequence::{AsSet, SequenceSet};
use mesyx_sdk::{Copied, Entry, FlagChange, Flags, MailboxId, Uid};
use std::collections::HashSet;

impl Connection {
    /// The UIDs that a set names, in order.
    pub(crate) fn uids(&mut self, set: &SequenceSet, uid: bool) -> Result<Vec<Uid>, Fault> {
        let view = &self.selected()?.view;
        let ranges = if uid {
            view.by_uid(set)
        } else {
            view.by_sequence(set).ok_or_else(|| Reply::bad("There is no message of such a number"))?
        };
        Ok(ranges.into_iter().flat_map(|range| &view.rows()[range]).map(|row| row.uid).collect())
    }

    pub(crate) async fn store(&mut self, store: Store) -> Handled {
        let mailbox = self.writable()?.mailbox;
        if store.unchanged_since.is_some() {
            self.enable_condstore()?;
        }
        let uids = self.uids(&store.set, store.uid)?;
        if uids.is_empty() {
            return Ok(Reply::ok("no message changed"));
        }
        if store.flags.len() > Flags::MAX {
            return Ok(Reply::no("A message has at most 100 flags").code("LIMIT"));
        }
        let flags = store.flags.clone();
        let change = match store.action {
            Action::Set => FlagChange::Set(flags),
            Action::Add => FlagChange::Add(flags),
            Action::Remove => FlagChange::Remove(flags),
        };
        let session = self.session()?;
        let stored = session.store_flags(mailbox, &uids, &change, store.unchanged_since).await?;
        let condstore = self.user()?.condstore;
        let view = &mut self.selected()?.view;
        let mut tell = Vec::new();
        for entry in stored.entries.iter().filter(not_in(&stored.modified)) {
            let Some(row) = view.row(entry.uid) else { continue };
            // Another's change that came along is told even to a client that wants silence.
            let surprise = entry.flags != applied(&row.flags, &change);
            let changed = entry.modseq != row.modseq;
            view.stored(entry);
            if !store.silent || surprise || condstore && changed {
                tell.push((entry.uid, !store.silent || surprise));
            }
        }
        if let Some(selected) = self.user.as_deref_mut().and_then(|user| user.selected.as_mut()) {
            selected.view.tell_new_keywords(self.wire.out());
        }
        for (uid, with_flags) in tell {
            self.write_stored(uid, with_flags, store.uid, condstore)?;
            self.wire.gathered().await?;
        }
        if stored.modified.is_empty() {
            return Ok(Reply::ok("stored"));
        }
        let view = &mut self.selected()?.view;
        // Their new flags are told by the changes at the end of the command (RFC 7162, section 3.1.3).
        stored.modified.iter().for_each(|uid| view.must_tell(*uid));
        let number = |uid: &Uid| if store.uid { Some(*uid) } else { view.sequence(*uid) };
        let modified: Vec<u32> = stored.modified.iter().filter_map(number).collect();
        Ok(Reply::ok("some messages changed meanwhile").code(format!("MODIFIED {}", AsSet(modified.into_iter()))))
    }

    fn write_stored(&mut self, uid: Uid, with_flags: bool, with_uid: bool, condstore: bool) -> Result<(), Fault> {
        let Some(selected) = self.user.as_deref().and_then(|user| user.selected.as_ref()) else { return Ok(()) };
        let view = &selected.view;
        let (Some(sequence), Some(row)) = (view.sequence(uid), view.row(uid)) else { return Ok(()) };
        let out = self.wire.out();
        out.put(format_args!("* {sequence} FETCH ("));
        let mut space = "";
        if with_uid || condstore {
            out.put(format_args!("UID {uid}"));
            space = " ";
        }
        if with_flags {
            out.put(format_args!("{space}FLAGS "));
            out.flags(&row.flags, uid >= view.recent_from);
            space = " ";
        }
        if condstore {
            out.put(format_args!("{space}MODSEQ ({})", row.modseq));
        }
        out.text(")\r\n");
        Ok(())
    }

    async fn target(&mut self, raw: &[u8]) -> Result<MailboxId, Fault> {
        match self.mailbox(raw).await {
            Err(Fault::Reply(reply)) => Err(try_create(reply).into()),
            mailbox => mailbox,
        }
    }

    pub(crate) async fn copy(&mut self, transfer: Transfer) -> Handled {
        let uids = self.uids(&transfer.set, transfer.uid)?;
        let from = self.selected()?.mailbox;
        let to = self.target(&transfer.mailbox).await?;
        if uids.is_empty() {
            return Ok(Reply::ok("no message copied"));
        }
        let copied = self.session()?.copy(from, &uids, to).await?;
        if copied.uids.is_empty() && !transfer.uid {
            return Ok(all_gone());
        }
        let reply = Reply::ok("copied");
        Ok(match copy_uid(&copied) {
            Some(code) => reply.code(code),
            None => reply,
        })
    }

    pub(crate) async fn move_messages(&mut self, transfer: Transfer) -> Handled {
        let from = self.writable()?.mailbox;
        let uids = self.uids(&transfer.set, transfer.uid)?;
        let to = self.target(&transfer.mailbox).await?;
        if uids.is_empty() {
            return Ok(Reply::ok("no message moved"));
        }
        let moved = self.session()?.move_messages(from, &uids, to).await?;
        if moved.uids.is_empty() && !transfer.uid {
            return Ok(all_gone());
        }
        // The client must know the new UIDs before the old ones go (RFC 6851, section 4.3).
        if let Some(code) = copy_uid(&moved) {
            self.wire.out().put(format_args!("* OK [{code}] moved\r\n"));
        }
        let view = &mut self.selected()?.view;
        moved.uids.iter().for_each(|(old, _)| view.remove(*old));
        self.done_expunging("moved", !moved.uids.is_empty()).await
    }

    pub(crate) async fn expunge(&mut self, set: Option<&SequenceSet>) -> Handled {
        let mailbox = self.writable()?.mailbox;
        let only = match set {
            Some(set) => Some(self.uids(set, true)?),
            None => None,
        };
        let gone = self.session()?.expunge(mailbox, only.as_deref()).await?;
        let view = &mut self.selected()?.view;
        gone.iter().for_each(|uid| view.remove(*uid));
        self.done_expunging("expunged", !gone.is_empty()).await
    }

    /// Says up to where the client is in step, if it keeps account (RFC 7162, sections 3.2.7 and 3.2.8).
    async fn done_expunging(&mut self, text: &'static str, any: bool) -> Handled {
        let reply = Reply::ok(text);
        if !any || !self.user()?.qresync {
            return Ok(reply);
        }
        self.sync(true).await?;
        let modseq = self.selected()?.view.modseq;
        Ok(reply.code(format!("HIGHESTMODSEQ {modseq}")))
    }
}

/// Sequence numbers named only messages that another client expunged (RFC 5530, section 3); UIDs of such are passed over.
fn all_gone() -> Reply {
    Reply::no("The messages exist no longer").code("EXPUNGEISSUED")
}

/// Those that a conditional STORE did not leave alone: what it left alone is told once, with the changes.
fn not_in(modified: &[Uid]) -> impl FnMut(&&Entry) -> bool {
    let modified: HashSet<Uid> = modified.iter().copied().collect();
    move |entry| !modified.contains(&entry.uid)
}

/// `COPYUID` with the old and new UIDs side by side (RFC 4315, section 3).
fn copy_uid(copied: &Copied) -> Option<String> {
    if copied.uids.is_empty() {
        return None;
    }
    let old = AsSet(copied.uids.iter().map(|(old, _)| *old));
    let new = AsSet(copied.uids.iter().map(|(_, new)| *new));
    Some(format!("COPYUID {} {old} {new}", copied.uid_validity))
}

/// What a message's flags are after a change.
fn applied(flags: &Flags, change: &FlagChange) -> Flags {
    match change {
        FlagChange::Set(set) => set.iter().cloned().collect(),
        FlagChange::Add(add) => flags.iter().chain(add).cloned().collect(),
        FlagChange::Remove(remove) => flags.iter().filter(|flag| !remove.contains(flag)).cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesyx_sdk::{Append, Content, MemoryHost};

    /// A store gives the entries of messages left alone too; their FETCH was sent twice.
    #[tokio::test]
    async fn what_a_conditional_store_left_alone_is_not_told_as_stored() {
        let host = MemoryHost::new("example.org".parse().expect("a domain"));
        host.add_user("ann", "secret").expect("a user");
        let session = host.session("ann").expect("a session");
        let inbox = session.mailboxes().await.expect("mailboxes")[0].id;
        let message =
            || Append { flags: vec![], internal_date: None, content: Content::from(b"A: b\r\n\r\n".to_vec()) };
        session.append(inbox, vec![message(), message()]).await.expect("appended");
        let stored = session.store_flags(inbox, &[1, 2], &FlagChange::Add(vec![]), None).await.expect("stored");
        let told: Vec<Uid> = stored.entries.iter().filter(not_in(&[1])).map(|entry| entry.uid).collect();
        assert_eq!(told, [2]);
    }
}
