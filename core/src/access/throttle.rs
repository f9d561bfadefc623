//! Slowing down those who guess passwords.
//!
//! Three counts of failures, each in a bounded table:
//! - by **client** (IPv4 address, IPv6 /64), whatever names it tries;
//! - by **user**, over all clients that never logged in as that user, so that a thousand hosts don't get a thousand times the tries;
//! - by **pair** of a client and a user it has logged in as: such a pair is judged by its own count alone. So a stranger who
//!   hammers at a name, or a neighbour behind the same address, does not lock its owner out of the places where the owner is known.
//!
//! Names are counted as typed (folded), known or not: an unknown name slows down like a known one.
//! A right app password never waits: it has 128 random bits, and costs nothing to check.

use crate::settings::LoginLimits;
use mesyx_sdk::Timestamp;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

/// Entries of each table; beyond it the oldest half of what is harmless goes, then the oldest half.
const MAX_ENTRIES: usize = 10_000;

#[derive(Debug, Default)]
pub(crate) struct Throttle {
    clients: Table<Client>,
    users: Table<u64>,
    pairs: Table<(Client, u64)>,
}

/// A client as it is counted: one IPv4 address, or one IPv6 network of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Client(u128);

impl From<IpAddr> for Client {
    fn from(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self(ip.to_ipv6_mapped().to_bits()),
            IpAddr::V6(ip) => Self(ip.to_bits() >> 64 << 64),
        }
    }
}

#[derive(Debug)]
struct Table<K>(HashMap<K, Count>);

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

#[derive(Debug, Clone, Copy)]
struct Count {
    failures: u32,
    /// Of the last failure or success.
    last: Timestamp,
}

impl Throttle {
    /// How long this attempt must wait; `None`: it may be made now. `name` is a keyed hash of the folded name.
    pub(crate) fn wait(&self, limits: &LoginLimits, ip: IpAddr, name: u64, now: Timestamp) -> Option<Duration> {
        let client = Client::from(ip);
        if let Some(count) = self.pairs.0.get(&(client, name)) {
            return count.wait(limits, now);
        }
        let client = self.clients.0.get(&client).and_then(|count| count.wait(limits, now));
        let user = self.users.0.get(&name).and_then(|count| count.wait(limits, now));
        client.max(user)
    }

    pub(crate) fn failed(&mut self, limits: &LoginLimits, ip: IpAddr, name: u64, now: Timestamp) {
        let client = Client::from(ip);
        if self.pairs.0.contains_key(&(client, name)) {
            return self.pairs.count(limits, (client, name), now);
        }
        self.clients.count(limits, client, now);
        self.users.count(limits, name, now);
    }

    /// The user is known at this client from now on. The client's own count stays: one right password must not buy new guesses at others.
    pub(crate) fn succeeded(&mut self, limits: &LoginLimits, ip: IpAddr, name: u64, now: Timestamp) {
        self.pairs.make_room(limits, now);
        self.pairs.0.insert((ip.into(), name), Count { failures: 0, last: now });
    }
}

impl<K: Copy + Eq + Hash> Table<K> {
    fn count(&mut self, limits: &LoginLimits, key: K, now: Timestamp) {
        self.make_room(limits, now);
        let count = self.0.entry(key).or_insert(Count { failures: 0, last: now });
        if count.is_over(limits, now) {
            count.failures = 0;
        }
        count.failures = count.failures.saturating_add(1);
        count.last = now;
    }

    fn make_room(&mut self, limits: &LoginLimits, now: Timestamp) {
        if self.0.len() < MAX_ENTRIES {
            return;
        }
        self.0.retain(|_, count| !count.is_over(limits, now));
        if self.0.len() < MAX_ENTRIES {
            return;
        }
        let mut times: Vec<(u32, Timestamp)> = self.0.values().map(|count| (count.failures, count.last)).collect();
        let (_, middle, _) = times.select_nth_unstable(MAX_ENTRIES / 2);
        let middle = *middle;
        self.0.retain(|_, count| (count.failures, count.last) > middle);
    }
}

impl Count {
    fn is_over(&self, limits: &LoginLimits, now: Timestamp) -> bool {
        now.0.saturating_sub(self.last.0) > millis(limits.forget_after)
    }

    fn wait(&self, limits: &LoginLimits, now: Timestamp) -> Option<Duration> {
        if self.failures < limits.free_failures.max(1) || self.is_over(limits, now) {
            return None;
        }
        let doublings = (self.failures - limits.free_failures.max(1)).min(20);
        let wait = limits.first_wait.saturating_mul(1 << doublings).min(limits.longest_wait);
        let passed = Duration::from_millis(now.0.saturating_sub(self.last.0).max(0).unsigned_abs());
        wait.checked_sub(passed).filter(|left| !left.is_zero())
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const STRANGER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_000_000 + seconds)
    }

    fn fail(throttle: &mut Throttle, ip: IpAddr, name: u64, times: u32) {
        (0..times).for_each(|_| throttle.failed(&LoginLimits::default(), ip, name, at(0)));
    }

    #[test]
    fn waits_grow_and_are_forgotten() {
        let limits = LoginLimits::default();
        let mut throttle = Throttle::default();
        fail(&mut throttle, STRANGER, 1, 4);
        assert_eq!(throttle.wait(&limits, STRANGER, 1, at(0)), None);
        fail(&mut throttle, STRANGER, 1, 1);
        assert_eq!(throttle.wait(&limits, STRANGER, 1, at(0)), Some(Duration::from_secs(1)));
        fail(&mut throttle, STRANGER, 1, 2);
        assert_eq!(throttle.wait(&limits, STRANGER, 1, at(1)), Some(Duration::from_secs(3)));
        fail(&mut throttle, STRANGER, 1, 100);
        assert_eq!(throttle.wait(&limits, STRANGER, 1, at(0)), Some(limits.longest_wait));
        assert_eq!(throttle.wait(&limits, STRANGER, 1, at(1801)), None);
    }

    #[test]
    fn a_stranger_locks_nobody_out_where_they_are_known() {
        let limits = LoginLimits::default();
        let mut throttle = Throttle::default();
        throttle.succeeded(&limits, HOME, 1, at(0));
        fail(&mut throttle, STRANGER, 1, 50);
        assert_eq!(throttle.wait(&limits, HOME, 1, at(0)), None);
        let elsewhere = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9));
        assert!(throttle.wait(&limits, elsewhere, 1, at(0)).is_some());
        assert_eq!(throttle.wait(&limits, elsewhere, 2, at(0)), None);
    }

    #[test]
    fn one_right_password_buys_no_guesses() {
        let limits = LoginLimits::default();
        let mut throttle = Throttle::default();
        throttle.succeeded(&limits, STRANGER, 7, at(0));
        fail(&mut throttle, STRANGER, 1, 10);
        throttle.succeeded(&limits, STRANGER, 7, at(0));
        assert!(throttle.wait(&limits, STRANGER, 1, at(0)).is_some());
        assert!(throttle.wait(&limits, STRANGER, 2, at(0)).is_some());
        fail(&mut throttle, STRANGER, 7, 10);
        assert!(throttle.wait(&limits, STRANGER, 7, at(0)).is_some());
    }

    #[test]
    fn a_network_of_ipv6_is_one_client_and_mapped_addresses_are_ipv4() {
        let client = |text: &str| Client::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:1"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
        assert_ne!(client("192.0.2.1"), client("192.0.2.2"));
    }

    #[test]
    fn tables_stay_bounded_and_keep_the_worst() {
        let limits = LoginLimits::default();
        let mut throttle = Throttle::default();
        fail(&mut throttle, STRANGER, 0, 30);
        for name in 1..50_000 {
            throttle.failed(&limits, IpAddr::V4(u32::try_from(name).unwrap().into()), name, at(1));
        }
        assert!(throttle.clients.0.len() <= MAX_ENTRIES && throttle.users.0.len() <= MAX_ENTRIES);
        assert!(throttle.wait(&limits, STRANGER, 0, at(1)).is_some());
    }
}
