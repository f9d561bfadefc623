//! Before a message is asked for: how much a network may send, and who must come again (RFC 6647).

use super::config::Checked;
use crate::limits::network_of;
use mesyx_sdk::{Address, Error, ErrorKind, MailAddress, Timestamp};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many networks are counted at once; where more come, those counted longest ago are forgotten.
const MOST_NETWORKS: usize = 50_000;
/// A minute and a day, in milliseconds.
const MINUTE: i64 = 60_000;
const DAY: i64 = 86_400_000;
/// How long who was asked to come again may take, in milliseconds: two days.
const WINDOW: i64 = 2 * DAY;

/// What was seen of networks, senders and recipients, as keyed hashes: nothing of it tells who wrote to whom.
#[derive(Debug)]
pub(crate) struct Gate {
    config: Checked,
    /// Two secrets of this process, so that nobody can make two that look alike here.
    hashers: (RandomState, RandomState),
    messages: Mutex<Counts>,
    recipients: Mutex<Counts>,
    seen: Mutex<Seen>,
}

/// What stands for a network, or for a network with sender and recipient.
type Key = (u64, u64);

/// How much each network sent in this minute.
#[derive(Debug, Default)]
struct Counts {
    counts: HashMap<Key, (i64, u32)>,
}

#[derive(Debug, Default)]
struct Seen {
    entries: HashMap<Key, Entry>,
    /// Keys in the order in which they came.
    order: VecDeque<Key>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// When it first came, in milliseconds.
    first: i64,
    /// When a message was last let through; 0 for never.
    last: i64,
}

impl Gate {
    pub(crate) fn new(config: &Checked) -> Self {
        Self {
            config: config.clone(),
            hashers: (RandomState::new(), RandomState::new()),
            messages: Mutex::default(),
            recipients: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    /// A recipient of ours, before it is taken.
    ///
    /// # Errors
    /// [`ErrorKind::TooMany`]: come again.
    pub(crate) fn recipient(
        &self,
        ip: IpAddr,
        from: Option<&MailAddress>,
        to: &Address,
        now: Timestamp,
    ) -> Result<(), Error> {
        if self.config.exempts(ip) {
            return Ok(());
        }
        self.count(&self.recipients, self.config.rate.recipients_per_minute, ip, now)?;
        if !self.config.greylist.enabled {
            return Ok(());
        }
        let from = from.map(|from| from.to_string().to_lowercase());
        let key = self.key(&(network(ip), from, to.to_string().to_lowercase()));
        match lock(&self.seen).wait(key, &self.config, now) {
            None => Ok(()),
            Some(wait) => {
                let text = format!("greylisted: come again in {} seconds", wait.as_secs());
                Err(Error::new(ErrorKind::TooMany, text).retry_after(wait))
            }
        }
    }

    /// A message, before it is checked.
    ///
    /// # Errors
    /// As [`Gate::recipient`].
    pub(crate) fn message(&self, ip: IpAddr, now: Timestamp) -> Result<(), Error> {
        if self.config.exempts(ip) {
            return Ok(());
        }
        self.count(&self.messages, self.config.rate.messages_per_minute, ip, now)
    }

    fn count(&self, counts: &Mutex<Counts>, most: u32, ip: IpAddr, now: Timestamp) -> Result<(), Error> {
        if most == 0 || lock(counts).take(self.key(&network(ip)), most, now) {
            return Ok(());
        }
        let text = "too much from your network within a minute; come again later";
        Err(Error::new(ErrorKind::TooMany, text).retry_after(Duration::from_secs(60)))
    }

    fn key(&self, of: &impl Hash) -> Key {
        (self.hashers.0.hash_one(of), self.hashers.1.hash_one(of))
    }
}

impl Counts {
    fn take(&mut self, key: Key, most: u32, now: Timestamp) -> bool {
        let minute = now.0.div_euclid(MINUTE);
        if self.counts.len() >= MOST_NETWORKS && !self.counts.contains_key(&key) {
            self.counts.retain(|_, (of, _)| *of == minute);
            if self.counts.len() >= MOST_NETWORKS {
                self.counts.clear();
            }
        }
        let (of, count) = self.counts.entry(key).or_insert((minute, 0));
        if *of != minute {
            (*of, *count) = (minute, 0);
        }
        *count = count.saturating_add(1);
        *count <= most
    }
}

impl Seen {
    /// How long it must wait still.
    fn wait(&mut self, key: Key, config: &Checked, now: Timestamp) -> Option<Duration> {
        let delay = i64::from(config.greylist.delay_seconds) * 1000;
        let kept = i64::from(config.greylist.days) * DAY;
        match self.entries.get_mut(&key) {
            Some(entry) if entry.last > 0 && now.0 - entry.last <= kept => {
                entry.last = now.0;
                return None;
            }
            Some(entry) if entry.last == 0 && now.0 - entry.first <= WINDOW => {
                let waited = now.0 - entry.first;
                if waited >= delay {
                    entry.last = now.0.max(1);
                    return None;
                }
                return Some(Duration::from_millis(u64::try_from(delay - waited).unwrap_or(0)));
            }
            Some(entry) => *entry = Entry { first: now.0, last: 0 },
            None => {
                while self.entries.len() >= config.greylist.entries as usize {
                    let Some(oldest) = self.order.pop_front() else { break };
                    self.entries.remove(&oldest);
                }
                self.entries.insert(key, Entry { first: now.0, last: 0 });
                self.order.push_back(key);
            }
        }
        Some(Duration::from_millis(u64::try_from(delay).unwrap_or(0)))
    }
}

/// What counts as one network: large senders come from several hosts of one.
fn network(ip: IpAddr) -> IpAddr {
    match network_of(ip) {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            IpAddr::V4(Ipv4Addr::new(a, b, c, 0))
        }
        ip => ip,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
