//! How much of the byte budget strangers may hold, all together and from one network.
//!
//! Without this, one stranger with many half-sent messages would take the whole budget from everybody else.

use crate::limits::network_of;
use mesyx_sdk::{ByteBudget, Reservation};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What strangers hold of the byte budget at this moment.
#[derive(Debug, Default)]
pub struct Shares(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_network: HashMap<IpAddr, usize>,
}

/// Where one connection's memory for messages comes from.
#[derive(Debug, Clone)]
pub(crate) struct Purse {
    budget: ByteBudget,
    /// The limits of strangers, and the network this one is counted with; `None` for who has logged in.
    share: Option<(Arc<Shares>, IpAddr)>,
}

/// Bytes of the budget, which are counted until this is dropped.
#[derive(Debug)]
pub struct Held {
    reservation: Reservation,
    bytes: usize,
    share: Option<(Arc<Shares>, IpAddr)>,
}

impl Shares {
    /// Counts `more` bytes for `network`. Strangers together may hold 3/4 of `total`, one network of them 1/4.
    fn add(&self, network: IpAddr, more: usize, total: usize) -> bool {
        let mut counts = self.counts();
        let all = counts.all.saturating_add(more);
        let of_network = counts.by_network.get(&network).copied().unwrap_or(0).saturating_add(more);
        let granted = all <= total / 4 * 3 && of_network <= total / 4;
        if granted {
            counts.all = all;
            counts.by_network.insert(network, of_network);
        }
        granted
    }

    fn take_off(&self, network: IpAddr, bytes: usize) {
        let mut counts = self.counts();
        counts.all -= bytes;
        if let Some(held) = counts.by_network.get_mut(&network) {
            *held -= bytes;
            if *held == 0 {
                counts.by_network.remove(&network);
            }
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Purse {
    /// The budget without limits of its own.
    pub(crate) const fn whole(budget: ByteBudget) -> Self {
        Self { budget, share: None }
    }

    /// What a stranger at `ip` may hold.
    pub(crate) fn of_stranger(budget: ByteBudget, shares: Arc<Shares>, ip: IpAddr) -> Self {
        Self { budget, share: Some((shares, network_of(ip))) }
    }

    /// Takes `bytes`, or `None` where so much is not to be had.
    pub(crate) fn reserve(&self, bytes: usize) -> Option<Held> {
        if let Some((shares, network)) = &self.share
            && !shares.add(*network, bytes, self.budget.total())
        {
            return None;
        }
        let Some(reservation) = self.budget.reserve(bytes) else {
            if let Some((shares, network)) = &self.share {
                shares.take_off(*network, bytes);
            }
            return None;
        };
        Some(Held { reservation, bytes, share: self.share.clone() })
    }

    /// Makes `held` be `bytes` in all, from nothing if need be; `false`, with nothing changed, where that is too much.
    pub(crate) fn grow(&self, held: &mut Option<Held>, bytes: usize) -> bool {
        match held {
            Some(held) => held.grow(bytes, self.budget.total()),
            none => {
                *none = self.reserve(bytes);
                none.is_some()
            }
        }
    }
}

impl Held {
    fn grow(&mut self, bytes: usize, total: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if let Some((shares, network)) = &self.share
            && !shares.add(*network, more, total)
        {
            return false;
        }
        let granted = self.reservation.grow(bytes);
        if granted {
            self.bytes += more;
        } else if let Some((shares, network)) = &self.share {
            shares.take_off(*network, more);
        }
        granted
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some((shares, network)) = &self.share {
            shares.take_off(*network, self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOTAL: usize = 64 << 10;

    #[test]
    fn strangers_leave_a_quarter_and_one_network_takes_no_more_than_one() {
        let budget = ByteBudget::new(TOTAL);
        let shares = Arc::new(Shares::default());
        let purse = |ip: &str| Purse::of_stranger(budget.clone(), Arc::clone(&shares), ip.parse().unwrap());
        let mut first = purse("2001:db8::1").reserve(TOTAL / 8);
        assert!(purse("2001:db8::1").grow(&mut first, TOTAL / 4));
        assert!(!purse("2001:db8::1").grow(&mut first, TOTAL / 4 + 1), "over its quarter by growing");
        assert!(purse("2001:db8::2").reserve(1).is_none(), "one /64 is one network");
        let others = [purse("127.0.0.1").reserve(TOTAL / 4), purse("192.0.2.1").reserve(TOTAL / 4)];
        assert!(others.iter().all(Option::is_some));
        assert!(purse("192.0.2.2").reserve(1).is_none(), "over what all strangers may hold");
        let known = Purse::whole(budget.clone()).reserve(TOTAL / 4);
        assert!(known.is_some(), "the last quarter is for who has logged in");
        drop((first, others, known));
        assert_eq!(budget.available(), TOTAL);
        assert!(shares.counts().all == 0 && shares.counts().by_network.is_empty());
    }

    #[test]
    fn what_the_budget_refuses_is_not_counted() {
        let budget = ByteBudget::new(TOTAL);
        let shares = Arc::new(Shares::default());
        let purse = Purse::of_stranger(budget.clone(), Arc::clone(&shares), [192, 0, 2, 1].into());
        let mut held = purse.reserve(1024);
        let rest = budget.reserve(budget.available());
        assert!(purse.reserve(1024).is_none() && !purse.grow(&mut held, 4096));
        assert_eq!(shares.counts().all, 1024);
        drop((held, rest));
        assert_eq!(shares.counts().all, 0);
    }
}
