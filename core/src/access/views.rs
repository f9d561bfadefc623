//! Mailboxes of keysets that are unlocked for a while: `Unlocked/NAME`, in memory only.
//!
//! A view shows opened copies of the messages that are sealed to one keyset and shown sealed everywhere else. It has its own secret
//! key, which no other mailbox is opened with, a fresh id and UIDVALIDITY each time, and is gone with its time, with
//! [`Views::take`], or with the process. Flags set in it stay in it.

use super::{OpenKeys, OpenUser};
use crate::errors::stored;
use crate::id::KeysetId;
use crate::seal::PartName;
use crate::store::{SealedTo, Shown, Store, StoreError, StoredPart};
use mesyx_sdk::{
    Changes, Entry, Error, ErrorKind, Flag, FlagChange, Flags, FlagsStored, Mailbox, MailboxId, MailboxName,
    MailboxStatus, MessageId, ModSeq, Snapshot, Timestamp, Uid, UserId,
};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Every view, by user and mailbox.
#[derive(Debug, Default)]
pub(crate) struct Views(Mutex<HashMap<(UserId, MailboxId), Arc<UnlockedView>>>);

impl Views {
    fn lock(&self) -> MutexGuard<'_, HashMap<(UserId, MailboxId), Arc<UnlockedView>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, user: UserId, mailbox: MailboxId) -> Option<Arc<UnlockedView>> {
        self.lock().get(&(user, mailbox)).cloned()
    }

    pub(crate) fn put(&self, view: Arc<UnlockedView>) {
        self.lock().insert((view.user, view.mailbox), view);
    }

    /// Takes the views away that `which` says yes to, and erases their keys.
    pub(crate) fn take(&self, which: impl Fn(&UnlockedView) -> bool) -> Vec<Arc<UnlockedView>> {
        let mut views = self.lock();
        let gone: Vec<_> = views.values().filter(|view| which(view)).cloned().collect();
        for view in &gone {
            views.remove(&(view.user, view.mailbox));
            view.keys.forget(view.keyset);
        }
        gone
    }

    /// All views, by name.
    pub(crate) fn all(&self) -> Vec<Arc<UnlockedView>> {
        let mut all: Vec<_> = self.lock().values().cloned().collect();
        all.sort_by(|a, b| (a.user, &a.name).cmp(&(b.user, &b.name)));
        all
    }

    /// A user's views, as they are listed.
    pub(super) fn mailboxes(&self, user: UserId) -> Vec<Mailbox> {
        let views = self.all().into_iter().filter(|view| view.user == user);
        views.map(|view| Mailbox { id: view.mailbox, name: view.name.clone(), role: None, selectable: true }).collect()
    }

    /// Something of a user's changed, so that views may have other messages now. Answers with the views and their next
    /// modification sequences.
    pub(crate) fn stale(&self, user: UserId) -> Vec<(MailboxId, ModSeq)> {
        let views = self.lock();
        let of_user = views.values().filter(|view| view.user == user);
        of_user
            .map(|view| {
                let mut state = view.state();
                state.stale = true;
                (view.mailbox, state.modseq + 1)
            })
            .collect()
    }
}

/// One view.
#[derive(Debug)]
pub(crate) struct UnlockedView {
    pub(crate) user: UserId,
    pub(crate) keyset: KeysetId,
    pub(crate) mailbox: MailboxId,
    pub(crate) name: MailboxName,
    pub(crate) until: Timestamp,
    uid_validity: u32,
    keys: OpenKeys,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    entries: Vec<Entry>,
    modseq: ModSeq,
    uid_next: Uid,
    recent_from: Uid,
    vanished: Vec<(ModSeq, Uid)>,
    /// The messages must be listed anew.
    stale: bool,
}

impl UnlockedView {
    pub(crate) fn new(
        (user, keyset): (UserId, KeysetId),
        name: MailboxName,
        until: Timestamp,
        uid_validity: u32,
        keys: OpenKeys,
    ) -> Self {
        let state =
            State { entries: Vec::new(), modseq: 1, uid_next: 1, recent_from: 1, vanished: Vec::new(), stale: true };
        Self { user, keyset, mailbox: MailboxId::random(), name, until, uid_validity, keys, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists the keyset's messages anew, where something may have changed.
    async fn refresh(&self, store: &dyn Store) -> Result<(), Error> {
        /// Messages in one read.
        const AT_ONCE: u32 = 2000;
        if !std::mem::take(&mut self.state().stale) {
            return Ok(());
        }
        let mut found = Vec::new();
        let mut after = (0, 0);
        loop {
            let some = store.sealed_to(self.user, self.keyset, after, AT_ONCE).await;
            let some = some.inspect_err(|_| self.state().stale = true).map_err(stored)?;
            let Some(last) = some.last() else { break };
            after = last.at;
            let shown = |message: &SealedTo| message.shown == Shown::Sealed && self.keys.opens(&message.recipients);
            found.extend(some.into_iter().filter(shown));
        }
        let present: HashSet<MessageId> = found.iter().map(|message| message.message).collect();
        let mut state = self.state();
        let known: HashSet<MessageId> = state.entries.iter().map(|entry| entry.message).collect();
        let modseq = state.modseq + 1;
        let gone: Vec<Uid> =
            state.entries.iter().filter(|entry| !present.contains(&entry.message)).map(|entry| entry.uid).collect();
        let mut changed = !gone.is_empty();
        state.vanished.extend(gone.into_iter().map(|uid| (modseq, uid)));
        state.entries.retain(|entry| present.contains(&entry.message));
        for message in found.into_iter().filter(|message| !known.contains(&message.message)) {
            let uid = state.uid_next;
            state.uid_next += 1;
            changed = true;
            state.entries.push(Entry {
                uid,
                message: message.message,
                modseq,
                flags: message.flags,
                padded_size: message.padded_size,
                day: Timestamp::from_seconds(i64::from(message.day) * 86_400),
            });
        }
        if changed {
            state.modseq = modseq;
        }
        Ok(())
    }

    pub(super) async fn status(&self, store: &dyn Store) -> Result<MailboxStatus, Error> {
        self.refresh(store).await?;
        let state = self.state();
        let count = |of: &dyn Fn(&Entry) -> bool| {
            u32::try_from(state.entries.iter().filter(|entry| of(entry)).count()).unwrap_or(u32::MAX)
        };
        Ok(MailboxStatus {
            messages: count(&|_| true),
            unseen: count(&|entry| !entry.flags.contains(&Flag::Seen)),
            recent: count(&|entry| entry.uid >= state.recent_from),
            uid_next: state.uid_next,
            uid_validity: self.uid_validity,
            highest_modseq: state.modseq,
            size: state.entries.iter().map(|entry| entry.padded_size).sum(),
        })
    }

    pub(super) async fn snapshot(&self, store: &dyn Store, claim_recent: bool) -> Result<Snapshot, Error> {
        self.refresh(store).await?;
        let mut state = self.state();
        let snapshot = Snapshot {
            uid_validity: self.uid_validity,
            uid_next: state.uid_next,
            highest_modseq: state.modseq,
            recent_from: state.recent_from,
            entries: state.entries.clone(),
        };
        if claim_recent {
            state.recent_from = state.uid_next;
        }
        Ok(snapshot)
    }

    pub(super) async fn changes(&self, store: &dyn Store, since: ModSeq) -> Result<Changes, Error> {
        self.refresh(store).await?;
        let state = self.state();
        let vanished = state.vanished.iter().filter(|(modseq, _)| *modseq > since);
        Ok(Changes {
            highest_modseq: state.modseq,
            uid_next: state.uid_next,
            changed: state.entries.iter().filter(|entry| entry.modseq > since).cloned().collect(),
            vanished: vanished.map(|(_, uid)| *uid).collect(),
            deleted: false,
        })
    }

    /// Changes flags in this view alone. The second says whether any changed.
    pub(super) fn store_flags(
        &self,
        uids: &[Uid],
        change: &FlagChange,
        unchanged_since: Option<ModSeq>,
    ) -> (FlagsStored, Option<ModSeq>) {
        let wanted: HashSet<Uid> = uids.iter().copied().collect();
        let mut state = self.state();
        let modseq = state.modseq + 1;
        let mut outcome = FlagsStored::default();
        let mut changed = false;
        for entry in state.entries.iter_mut().filter(|entry| wanted.contains(&entry.uid)) {
            if unchanged_since.is_some_and(|since| entry.modseq > since) {
                outcome.modified.push(entry.uid);
            } else {
                let flags: Flags = match change {
                    FlagChange::Set(flags) => flags.iter().cloned().collect(),
                    FlagChange::Add(flags) => entry.flags.iter().chain(flags).take(Flags::MAX).cloned().collect(),
                    FlagChange::Remove(flags) => {
                        entry.flags.iter().filter(|flag| !flags.contains(flag)).cloned().collect()
                    }
                };
                if flags != entry.flags {
                    entry.flags = flags;
                    entry.modseq = modseq;
                    changed = true;
                }
            }
            outcome.entries.push(entry.clone());
        }
        if changed {
            state.modseq = modseq;
        }
        (outcome, changed.then_some(modseq))
    }

    /// The parts of `uids`, to be opened.
    async fn parts(
        &self,
        store: &dyn Store,
        uids: &[Uid],
        name: PartName,
        max_bytes: u64,
    ) -> Result<Vec<StoredPart>, StoreError> {
        let wanted: Vec<(Uid, MessageId)> = {
            let state = self.state();
            let find = |uid: &Uid| {
                let at = state.entries.binary_search_by_key(uid, |entry| entry.uid).ok()?;
                Some((*uid, state.entries[at].message))
            };
            uids.iter().filter_map(find).collect()
        };
        let messages: Vec<MessageId> = wanted.iter().map(|(_, message)| *message).collect();
        let mut parts = store.parts_of(self.user, &messages, name, max_bytes).await?;
        // Sealed to another keyset meanwhile, or shown opened in its own mailbox: not this view's any more.
        parts.retain(|part| part.session_key.keyset == self.keyset && part.shown == Shown::Sealed);
        let uid_of: HashMap<MessageId, Uid> = wanted.into_iter().map(|(uid, message)| (message, uid)).collect();
        for part in &mut parts {
            part.uid = uid_of.get(&part.message).copied().unwrap_or_default();
            part.shown = Shown::Opened;
        }
        Ok(parts)
    }
}

/// What may not be done to a view.
pub(super) fn read_only() -> Error {
    let text = "this mailbox shows opened copies for a while; change the messages in the mailboxes that they are in";
    Error::new(ErrorKind::Forbidden, text)
}

/// Where messages are read from.
#[derive(Debug, Clone)]
pub(super) struct Place {
    user: UserId,
    mailbox: MailboxId,
    pub(super) view: Option<Arc<UnlockedView>>,
}

impl Place {
    pub(super) const fn new(user: UserId, mailbox: MailboxId, view: Option<Arc<UnlockedView>>) -> Self {
        Self { user, mailbox, view }
    }

    /// The keys that open what is here.
    pub(super) fn keys<'a>(&'a self, user: &'a OpenUser) -> &'a OpenKeys {
        self.view.as_ref().map_or(&user.keys, |view| &view.keys)
    }

    pub(super) async fn summaries(&self, store: &dyn Store, uids: &[Uid]) -> Result<Vec<StoredPart>, Error> {
        let found = match &self.view {
            Some(view) => view.parts(store, uids, PartName::Summary, u64::MAX).await,
            None => store.summaries(self.user, self.mailbox, uids).await,
        };
        found.map_err(stored)
    }

    pub(super) async fn bodies(
        &self,
        store: &dyn Store,
        uids: &[Uid],
        max_bytes: u64,
    ) -> Result<Vec<StoredPart>, Error> {
        let found = match &self.view {
            Some(view) => view.parts(store, uids, PartName::Body, max_bytes).await,
            None => store.bodies(self.user, self.mailbox, uids, max_bytes).await,
        };
        found.map_err(stored)
    }

    pub(super) async fn snapshot(&self, store: &dyn Store) -> Result<Snapshot, Error> {
        match &self.view {
            Some(view) => view.snapshot(store, false).await,
            None => store.snapshot(self.user, self.mailbox).await.map_err(stored),
        }
    }
}
