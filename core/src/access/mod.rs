//! Access: logins, and what a logged-in user sees.
//!
//! ```text
//!  login --> throttle --> slot (or a password known to be right) --> OpenUser (keys) --> AccessSession
//!  AccessSession -- sealed parts, one read --> attestation, digest, opening (all cores) --> cache --> client
//!  store events --> feeds --> watchers
//! ```

mod feed;
mod login;
mod lru;
mod open;
mod opened;
mod search;
mod session;
mod submit;
mod throttle;
mod unreadable;

pub(crate) use feed::{Batch, Feeds};
pub(crate) use login::{login_failed, read_slots};
use open::OpenedSummary;

use crate::keys::LoginTags;
use crate::settings::Caches;
use lru::Lru;
use mesyx_sdk::{Content, MailboxId, MessageId, Uid, UserId};
pub(crate) use opened::OpenUser;
use ring::hmac;
use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use throttle::Throttle;
use tokio::sync::Semaphore;

/// What all sessions share.
#[derive(Debug)]
pub(crate) struct Access {
    throttle: Mutex<Throttle>,
    /// Hashes names for the throttle: a stranger must not be able to aim at another name's place.
    names: hmac::Key,
    tags: LoginTags,
    /// Argon2 runs: as many at once as there are cores; the byte budget is asked only when one's turn comes.
    turns: Arc<Semaphore>,
    open: Mutex<HashMap<UserId, Arc<OpenUser>>>,
    next_session: AtomicU64,
    pub(crate) feeds: Feeds,
    summaries: Mutex<Lru<(UserId, MessageId), OpenedSummary>>,
    /// Large bodies, for clients that fetch them piece by piece.
    bodies: Mutex<Lru<(UserId, MailboxId, Uid), Content>>,
    attestations: open::Attestations,
}

impl Access {
    pub(crate) fn new(caches: &Caches) -> Self {
        let names = hmac::Key::new(hmac::HMAC_SHA256, &[UserId::random().0, UserId::random().0].concat());
        Self {
            throttle: Mutex::default(),
            names,
            tags: LoginTags::new(),
            turns: Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from))),
            open: Mutex::default(),
            next_session: AtomicU64::new(1),
            feeds: Feeds::default(),
            summaries: Mutex::new(Lru::new(caches.summary_bytes)),
            bodies: Mutex::new(Lru::new(caches.body_bytes)),
            attestations: open::Attestations::default(),
        }
    }

    pub(crate) fn resize(&self, caches: &Caches) {
        lock(&self.summaries).resize(caches.summary_bytes);
        lock(&self.bodies).resize(caches.body_bytes);
    }

    /// A mailbox changed: bodies of it that are kept may be gone from it.
    pub(crate) fn forget_bodies(&self, user: UserId, mailbox: MailboxId) {
        lock(&self.bodies).retain(|(of, from, _)| (*of, *from) != (user, mailbox));
    }

    /// Closes a user's keys, and forgets what was opened with them.
    pub(crate) fn close(&self, user: UserId) {
        lock(&self.open).remove(&user);
        self.forget(user);
    }

    fn forget(&self, user: UserId) {
        lock(&self.summaries).retain(|(of, _)| *of != user);
        lock(&self.bodies).retain(|(of, ..)| *of != user);
    }

    /// Ends sessions of a user whose slot `keep` says no to.
    pub(crate) fn end(&self, user: UserId, why: &str, keep: impl Fn(crate::id::SlotId) -> bool) {
        let open = lock(&self.open).get(&user).cloned();
        let Some(open) = open else { return };
        for session in open.end(keep) {
            self.feeds.end(user, session, why);
        }
    }

    /// Ends every session of a user, and closes the keys.
    pub(crate) fn end_all(&self, user: UserId, why: &str) {
        self.end(user, why, |_| false);
        self.close(user);
    }

    /// A user whose keys are open.
    pub(crate) fn open_user(&self, user: UserId) -> Option<Arc<OpenUser>> {
        lock(&self.open).get(&user).cloned()
    }

    pub(crate) fn unlocked(&self) -> Vec<Arc<OpenUser>> {
        let mut open: Vec<_> = lock(&self.open).values().cloned().collect();
        open.sort_by(|a, b| a.member.name.cmp(&b.member.name));
        open
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
