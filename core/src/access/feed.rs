//! From the store's events to each session's watchers.

use crate::store::Event;
use mesyx_sdk::{Change, MailboxId, ModSeq, UserId, Watcher};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use tokio::sync::mpsc;

/// Everybody who watches, by user.
#[derive(Debug, Default)]
pub(crate) struct Feeds(Mutex<HashMap<UserId, Vec<Feed>>>);

/// One watcher's end. Two places of its channel are kept: one for [`Change::Lagged`], one for [`Change::Ended`].
#[derive(Debug)]
struct Feed {
    session: u64,
    changes: mpsc::Sender<Change>,
}

const KEPT_FOR_LAGGED: usize = 2;
const KEPT_FOR_ENDED: usize = 1;

/// What changed for one user, each mailbox once.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    mailboxes: BTreeMap<MailboxId, ModSeq>,
    list: bool,
}

impl Batch {
    /// Adds what an event says of this user's mailboxes.
    pub(crate) fn add(batches: &mut HashMap<UserId, Self>, event: Event) {
        match event {
            Event::Mailbox(user, mailbox, modseq) => {
                let highest = batches.entry(user).or_default().mailboxes.entry(mailbox).or_default();
                *highest = modseq.max(*highest);
            }
            Event::MailboxList(user) => batches.entry(user).or_default().list = true,
            _ => {}
        }
    }

    pub(crate) fn changed(&mut self, mailbox: MailboxId, modseq: ModSeq) {
        let highest = self.mailboxes.entry(mailbox).or_default();
        *highest = modseq.max(*highest);
    }

    pub(crate) fn mailboxes(&self) -> impl Iterator<Item = MailboxId> + '_ {
        self.mailboxes.keys().copied()
    }
}

impl Feeds {
    /// A feed for a session, from now on.
    pub(crate) fn watch(&self, user: UserId, session: u64) -> Watcher {
        let (changes, watcher) = mpsc::channel(Watcher::CAPACITY + KEPT_FOR_LAGGED);
        let mut feeds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_user = feeds.entry(user).or_default();
        of_user.retain(|feed| !feed.changes.is_closed());
        of_user.push(Feed { session, changes });
        Watcher::new(watcher)
    }

    /// Whether anybody watches a user.
    pub(crate) fn watches(&self, user: UserId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&user)
    }

    /// Tells everybody who watches this user.
    pub(crate) fn send(&self, user: UserId, batch: &Batch) {
        let mut feeds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(of_user) = feeds.get_mut(&user) else { return };
        of_user.retain(|feed| !feed.changes.is_closed());
        for feed in of_user.iter() {
            for (mailbox, modseq) in &batch.mailboxes {
                feed.send(Change::Mailbox(*mailbox, *modseq));
            }
            if batch.list {
                feed.send(Change::MailboxList);
            }
        }
        if of_user.is_empty() {
            feeds.remove(&user);
        }
    }

    /// Tells everybody whom one event concerns.
    pub(crate) fn tell(&self, event: Event) {
        let mut batches = HashMap::new();
        Batch::add(&mut batches, event);
        batches.iter().for_each(|(user, batch)| self.send(*user, batch));
    }

    /// Tells everybody that something was missed.
    pub(crate) fn lagged(&self) {
        let feeds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        feeds.values().flatten().for_each(Feed::lagged);
    }

    /// Tells a session's watchers that it is over; nothing follows.
    pub(crate) fn end(&self, user: UserId, session: u64, why: &str) {
        let mut feeds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(of_user) = feeds.get_mut(&user) else { return };
        of_user.retain(|feed| {
            if feed.session == session {
                // The last place is kept for this; a watcher that is gone hears nothing.
                let _ = feed.changes.try_send(Change::Ended(why.to_owned()));
            }
            feed.session != session
        });
    }

    /// Forgets a session's watchers.
    pub(crate) fn forget(&self, user: UserId, session: u64) {
        let mut feeds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_user) = feeds.get_mut(&user) {
            of_user.retain(|feed| feed.session != session);
            if of_user.is_empty() {
                feeds.remove(&user);
            }
        }
    }
}

impl Feed {
    fn send(&self, change: Change) {
        if self.changes.capacity() > KEPT_FOR_LAGGED {
            // A closed channel is swept with the next batch.
            let _ = self.changes.try_send(change);
        } else {
            self.lagged();
        }
    }

    /// A watcher that has not taken its `Lagged` yet looks at everything after taking it, so one is enough.
    fn lagged(&self) {
        if self.changes.capacity() > KEPT_FOR_ENDED {
            let _ = self.changes.try_send(Change::Lagged);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: UserId = UserId([1; 16]);

    fn change(feeds: &Feeds, mailbox: u8, modseq: ModSeq) {
        let mut batches = HashMap::new();
        Batch::add(&mut batches, Event::Mailbox(USER, MailboxId([mailbox; 16]), modseq));
        batches.iter().for_each(|(user, batch)| feeds.send(*user, batch));
    }

    #[test]
    fn changes_of_one_mailbox_become_one() {
        let feeds = Feeds::default();
        let mut watcher = feeds.watch(USER, 1);
        let mut batches = HashMap::new();
        for modseq in [3, 5, 4] {
            Batch::add(&mut batches, Event::Mailbox(USER, MailboxId([1; 16]), modseq));
        }
        batches.iter().for_each(|(user, batch)| feeds.send(*user, batch));
        assert_eq!(watcher.try_next(), Some(Change::Mailbox(MailboxId([1; 16]), 5)));
        assert_eq!(watcher.try_next(), None);
    }

    #[test]
    fn a_slow_watcher_is_told_once_that_it_lagged_and_still_hears_the_end() {
        let feeds = Feeds::default();
        let mut watcher = feeds.watch(USER, 1);
        (0..200).for_each(|modseq| change(&feeds, 1, modseq));
        feeds.end(USER, 1, "revoked");
        let mut heard = Vec::new();
        while let Some(change) = watcher.try_next() {
            heard.push(change);
        }
        assert_eq!(heard.len(), Watcher::CAPACITY + 2);
        assert_eq!(heard[Watcher::CAPACITY..], [Change::Lagged, Change::Ended("revoked".into())]);
        change(&feeds, 1, 201);
        assert_eq!(watcher.try_next(), None);
    }

    #[test]
    fn after_lagging_changes_come_again() {
        let feeds = Feeds::default();
        let mut watcher = feeds.watch(USER, 1);
        (0..100).for_each(|modseq| change(&feeds, 1, modseq));
        while watcher.try_next().is_some() {}
        change(&feeds, 2, 7);
        assert_eq!(watcher.try_next(), Some(Change::Mailbox(MailboxId([2; 16]), 7)));
    }
}
