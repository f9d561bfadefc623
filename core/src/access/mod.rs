//! Access: logins, and what a logged-in user sees.
//!
//! ```text
//!  login --> throttle --> slot (or a password known to be right) --> OpenUser (keys) --> AccessSession
//!  AccessSession -- sealed parts, one read --> attestation, digest, opening (all cores) --> cache --> client
//!  store events --> feeds --> watchers
//! ```

mod chat;
mod feed;
mod keys;
mod login;
mod lru;
mod open;
mod opened;
mod pgp;
mod search;
mod session;
mod submit;
mod throttle;
mod unreadable;
mod views;

pub(crate) use feed::{Batch, Feeds};
pub(crate) use keys::OpenKeys;
pub(crate) use login::{login_failed, read_slots};
use open::OpenedSummary;
pub(crate) use session::AccessSession;

use crate::id::{KeysetId, SessionKeyId};
use crate::keys::{Keyring, LoginTags};
use crate::settings::Caches;
use crate::store::{Shown, StoredSecretKey, StoredSecrets};
use lru::Lru;
use mesyx_sdk::{Content, MailboxId, MessageId, Uid, UserId};
pub(crate) use opened::OpenUser;
use ring::hmac;
use sequoia_openpgp::Cert;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use throttle::Throttle;
use tokio::sync::Semaphore;
use views::Place;
pub(crate) use views::{UnlockedView, Views};

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
    /// See [`Access::following`]; by a byte of the user's id.
    following: [tokio::sync::Mutex<()>; 64],
    pub(crate) feeds: Feeds,
    pub(crate) live: Arc<crate::chat::LiveFeeds>,
    summaries: Mutex<Lru<SummaryKey, OpenedSummary>>,
    /// Large bodies, for clients that fetch them piece by piece.
    bodies: Mutex<Lru<(UserId, MailboxId, Uid), Content>>,
    attestations: open::Attestations,
    /// Counts the times that opened content was forgotten: what was opened before must not be kept after.
    epoch: AtomicU64,
    /// Grows when somebody's keys begin to be replaced, and again when they are.
    replaced: AtomicU64,
    /// Mailboxes of keysets that are unlocked for a while.
    pub(crate) views: Views,
    /// Users whose keys are being replaced: nobody logs in meanwhile.
    held: Mutex<HashSet<UserId>>,
}

/// A summary as it is shown: another one where the message is sealed anew, or shown otherwise.
type SummaryKey = (UserId, MessageId, SessionKeyId, Shown);

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
            following: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            feeds: Feeds::default(),
            live: Arc::default(),
            summaries: Mutex::new(Lru::new(caches.summary_bytes)),
            bodies: Mutex::new(Lru::new(caches.body_bytes)),
            attestations: open::Attestations::default(),
            epoch: AtomicU64::new(0),
            replaced: AtomicU64::new(0),
            views: Views::default(),
            held: Mutex::default(),
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

    /// Forgets what was opened for a user, also what is just being opened.
    pub(crate) fn forget(&self, user: UserId) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        lock(&self.summaries).retain(|(of, ..)| *of != user);
        lock(&self.bodies).retain(|(of, ..)| *of != user);
    }

    /// To be taken before what is to be kept is read.
    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    fn keep_summary(&self, epoch: u64, key: SummaryKey, summary: OpenedSummary, weight: usize) {
        let mut summaries = lock(&self.summaries);
        if self.epoch() == epoch {
            summaries.put(key, summary, weight);
        }
    }

    fn keep_body(&self, epoch: u64, key: (UserId, MailboxId, Uid), content: Content) {
        let mut bodies = lock(&self.bodies);
        if self.epoch() == epoch {
            let weight = content.len();
            bodies.put(key, content, weight);
        }
    }

    /// What a mailbox's id stands for: a mailbox of the store, or one of a keyset that is unlocked for a while.
    fn place(&self, user: UserId, mailbox: MailboxId) -> Place {
        Place::new(user, mailbox, self.views.get(user, mailbox))
    }

    /// A keyset's secret keys have come: open sessions have them from now on. Answers whether there are any such.
    pub(crate) fn keyset_came(&self, user: UserId, keyset: KeysetId, secrets: &[Cert]) -> bool {
        let open = lock(&self.open).get(&user).cloned();
        open.inspect(|open| open.keys.insert(keyset, secrets)).is_some()
    }

    /// A keyset's secret key has gone: no open session has it any more, nor what was opened with it.
    pub(crate) fn keyset_went(&self, user: UserId, keyset: KeysetId) {
        if let Some(open) = lock(&self.open).get(&user) {
            open.keys.forget(keyset);
        }
        self.forget(user);
    }

    /// Brings the keys of open sessions in line with what is stored, as far as the sessions themselves can.
    pub(crate) fn follow_secrets(&self, user: UserId, secrets: &StoredSecrets, keyring: &Keyring) {
        let Some(open) = lock(&self.open).get(&user).cloned() else { return };
        let stored: HashMap<KeysetId, &StoredSecretKey> =
            secrets.secret_keys.iter().filter_map(|key| Some((key.keyset?, key))).collect();
        for keyset in open.keys.keysets() {
            if !stored.contains_key(&keyset) {
                self.keyset_went(user, keyset);
            }
        }
        for (keyset, key) in stored {
            if !open.keys.has_all(keyset, &key.held)
                && keyring.get(keyset).is_some()
                && let Ok(secrets) = open.keys.wrapping_key().unwrap(key)
            {
                open.keys.insert(keyset, &secrets);
            }
        }
    }

    /// Keeps everybody from logging in as a user until the result is dropped.
    pub(crate) fn hold(&self, user: UserId) -> Hold<'_> {
        lock(&self.held).insert(user);
        self.replaced.fetch_add(1, Ordering::SeqCst);
        Hold { access: self, user }
    }

    /// To be taken before a user's secrets are read: with [`Access::is_current`].
    fn replaced(&self) -> u64 {
        self.replaced.load(Ordering::SeqCst)
    }

    /// Whether what was read of a user's secrets since `replaced` is what there is still. To be asked under the lock of the open
    /// keys: keys that were opened with an old master key must not come to stand there, where new ones would be locked with them.
    fn is_current(&self, user: UserId, replaced: u64) -> bool {
        !self.is_held(user) && self.replaced() == replaced
    }

    fn is_held(&self, user: UserId) -> bool {
        lock(&self.held).contains(&user)
    }

    /// To be held while a user's secrets are read and the user's sessions brought in line with them.
    pub(crate) async fn following(&self, user: UserId) -> tokio::sync::MutexGuard<'_, ()> {
        self.following[usize::from(user.0[0]) % self.following.len()].lock().await
    }

    /// Sessions from this number on begin later.
    pub(crate) fn begun(&self) -> u64 {
        self.next_session.load(Ordering::SeqCst)
    }

    /// Ends sessions of a user, of those before `begun`, whose slot `keep` says no to.
    pub(crate) fn end(&self, user: UserId, why: &str, begun: u64, keep: impl Fn(crate::id::SlotId) -> bool) {
        let open = lock(&self.open).get(&user).cloned();
        let Some(open) = open else { return };
        for session in open.end(begun, keep) {
            self.feeds.end(user, session, why);
            self.live.end(user, session, why);
        }
    }

    /// Ends every session of a user, and closes the keys.
    pub(crate) fn end_all(&self, user: UserId, why: &str) {
        self.end(user, why, u64::MAX, |_| false);
        self.close(user);
    }

    /// A user whose keys are open.
    pub(crate) fn open_user(&self, user: UserId) -> Option<Arc<OpenUser>> {
        lock(&self.open).get(&user).cloned()
    }

    /// Whether these keys are still the ones that are open.
    pub(crate) fn is_open(&self, keys: &Arc<OpenUser>) -> bool {
        lock(&self.open).get(&keys.member.id).is_some_and(|open| Arc::ptr_eq(open, keys))
    }

    pub(crate) fn unlocked(&self) -> Vec<Arc<OpenUser>> {
        let mut open: Vec<_> = lock(&self.open).values().cloned().collect();
        open.sort_by(|a, b| a.member.name.cmp(&b.member.name));
        open
    }
}

/// See [`Access::hold`].
pub(crate) struct Hold<'a> {
    access: &'a Access,
    user: UserId,
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.access.replaced.fetch_add(1, Ordering::SeqCst);
        lock(&self.access.held).remove(&self.user);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
