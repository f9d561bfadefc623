//! What one user holds of the byte budget, so that one account can't keep all others from their mail.

use mesyx_sdk::{ByteBudget, Reservation, UserId};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

/// A user may hold one part in this many of the byte budget through this bridge.
const PARTS: usize = 4;

type Counts = Arc<Mutex<HashMap<UserId, usize>>>;

/// The shares of all users. A user who holds nothing may take any one reservation, since a message can be larger than a share.
#[derive(Debug, Clone)]
pub(crate) struct Shares {
    budget: ByteBudget,
    counts: Counts,
}

/// Bytes of the budget that count as a user's; given back when dropped.
#[derive(Debug)]
pub(crate) struct Held {
    counts: Counts,
    user: UserId,
    reservation: Reservation,
}

impl Shares {
    pub(crate) fn new(budget: ByteBudget) -> Self {
        Self { budget, counts: Counts::default() }
    }

    /// The whole budget in bytes.
    pub(crate) const fn total(&self) -> usize {
        self.budget.total()
    }

    /// Takes `bytes` for the user now; `None` where the budget or the user's share has not so much left.
    pub(crate) fn reserve(&self, user: &UserId, bytes: usize) -> Option<Held> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let held = counts.get(user).copied().unwrap_or(0);
        if held > 0 && held.saturating_add(bytes) > self.total() / PARTS {
            return None;
        }
        let reservation = self.budget.reserve(bytes)?;
        *counts.entry(*user).or_default() += reservation.bytes();
        Some(Held { counts: Arc::clone(&self.counts), user: *user, reservation })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut held) = counts.entry(self.user) {
            *held.get_mut() = held.get().saturating_sub(self.reservation.bytes());
            if *held.get() == 0 {
                held.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesyx_sdk::MemoryHost;

    #[test]
    fn one_user_leaves_most_of_the_budget_to_others() {
        let host = MemoryHost::new("example.org".parse().expect("a domain"));
        let [ann, bob] = ["ann", "bob"].map(|name| {
            host.add_user(name, "secret").expect("a user");
            host.session(name).expect("a session").user().id
        });
        let shares = Shares::new(ByteBudget::new(64 * 1024));
        let first = shares.reserve(&ann, 10 * 1024).expect("within the share");
        let second = shares.reserve(&ann, 6 * 1024).expect("up to the share");
        assert!(shares.reserve(&ann, 1024).is_none(), "beyond the share");
        assert!(shares.reserve(&bob, 40 * 1024).is_some(), "one message may be larger than a share");
        drop((first, second));
        let _large = shares.reserve(&ann, 40 * 1024).expect("the share is free again");
        assert!(shares.reserve(&ann, 1024).is_none(), "beside a large message there is nothing");
    }
}
