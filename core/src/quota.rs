//! How much a user's messages take, kept near the truth without asking the store for each message.

use crate::core::Shared;
use crate::errors::stored;
use mesyx_sdk::{Error, ErrorKind, UserId};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Counts of padded bytes by user, each believed for [`Quota::BELIEVED`].
#[derive(Debug, Default)]
pub(crate) struct Quota(Mutex<HashMap<UserId, (u64, Instant)>>);

impl Quota {
    /// After that long the store is asked again, so that room made by an expunge is seen.
    const BELIEVED: Duration = Duration::from_secs(10);

    /// Something was added.
    pub(crate) fn add(&self, user: UserId, bytes: u64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((used, _)) = counts.get_mut(&user) {
            *used = used.saturating_add(bytes);
        }
    }

    fn known(&self, user: UserId) -> Option<u64> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.retain(|_, (_, since)| since.elapsed() < Self::BELIEVED);
        counts.get(&user).map(|(used, _)| *used)
    }
}

impl Shared {
    /// Whether `bytes` more fit into the quota of each user.
    ///
    /// # Errors
    /// [`ErrorKind::OverQuota`].
    pub(crate) async fn check_quota(&self, users: &BTreeSet<UserId>, bytes: usize) -> Result<(), Error> {
        let Some(limit) = self.settings().limits.quota_bytes else { return Ok(()) };
        for user in users {
            let used = match self.quota.known(*user) {
                Some(used) => used,
                None => self.count(*user).await?,
            };
            if used.saturating_add(bytes as u64) > limit {
                return Err(Error::new(
                    ErrorKind::OverQuota,
                    "the mailbox is full; try again when its owner has made room",
                ));
            }
        }
        Ok(())
    }

    async fn count(&self, user: UserId) -> Result<u64, Error> {
        let mut used: u64 = 0;
        for mailbox in self.store.mailboxes(user).await.map_err(stored)? {
            used = used.saturating_add(self.store.status(user, mailbox.id).await.map_err(stored)?.size);
        }
        let mut counts = self.quota.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.insert(user, (used, Instant::now()));
        Ok(used)
    }
}
