//! Connections that are open: no more to one host than allowed, and kept for a while after use.

use super::link::Link;
use metrics::{Gauge, gauge};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// What makes two connections the same: the host, by name and address, what it had to prove, and as whom we logged in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) address: SocketAddr,
    pub(crate) name: String,
    pub(crate) requirement: [u8; 8],
    pub(crate) user: Option<String>,
}

/// The connections to all hosts.
#[derive(Debug)]
pub(crate) struct Pool {
    most: usize,
    idle: Duration,
    hosts: Mutex<HashMap<Key, Host>>,
    open: Gauge,
}

#[derive(Debug, Default)]
struct Host {
    /// Connections that are open or being opened, idle ones too.
    open: usize,
    /// With the time of their last use; the newest last.
    idle: Vec<(Instant, Link)>,
    freed: Arc<Notify>,
    waiting: usize,
}

/// A place among the connections to a host; gives it back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    pool: Arc<Pool>,
    key: Key,
    /// The place went to an idle connection.
    given: bool,
}

impl Pool {
    pub(crate) fn new(most: usize, idle: Duration) -> Arc<Self> {
        let open = gauge!("mesyx_smtp_outbound_connections");
        Arc::new(Self { most: most.max(1), idle, hosts: Mutex::default(), open })
    }

    /// A place at a host, with an idle connection where there is one; waits for a free place until `until`.
    pub(crate) async fn place(self: &Arc<Self>, key: &Key, until: Instant) -> Option<(Place, Option<Link>)> {
        loop {
            let freed = {
                let mut hosts = self.hosts();
                let host = hosts.entry(key.clone()).or_default();
                let place = || Place { pool: Arc::clone(self), key: key.clone(), given: false };
                if let Some((_, link)) = host.idle.pop() {
                    return Some((place(), Some(link)));
                }
                if host.open < self.most {
                    host.open += 1;
                    self.open.increment(1);
                    return Some((place(), None));
                }
                host.waiting += 1;
                Arc::clone(&host.freed)
            };
            let _waiting = Waiting { pool: self, key };
            timeout_at(until, freed.notified()).await.ok()?;
        }
    }

    /// Takes out connections that were idle for too long at this time; all of them where `all`.
    pub(crate) fn expired(&self, now: Instant, all: bool) -> Vec<Link> {
        let mut expired = Vec::new();
        let mut hosts = self.hosts();
        for host in hosts.values_mut() {
            let keep = host.idle.partition_point(|(since, _)| all || now.duration_since(*since) >= self.idle);
            host.open -= keep;
            self.open.decrement(f64::from(u32::try_from(keep).unwrap_or(u32::MAX)));
            expired.extend(host.idle.drain(..keep).map(|(_, link)| link));
            if keep > 0 {
                host.freed.notify_one();
            }
        }
        hosts.retain(|_, host| host.open > 0 || host.waiting > 0);
        expired
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<Key, Host>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts who waits, so that what they wait on is not thrown away.
struct Waiting<'p> {
    pool: &'p Pool,
    key: &'p Key,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(host) = self.pool.hosts().get_mut(self.key) {
            host.waiting -= 1;
            // Whoever was woken and gave up hands it on.
            if host.open < self.pool.most || !host.idle.is_empty() {
                host.freed.notify_one();
            }
        }
    }
}

impl Place {
    /// Keeps the connection, and the place with it, for whoever comes next.
    pub(crate) fn keep(mut self, link: Link) {
        if self.pool.idle.is_zero() {
            return;
        }
        if let Some(host) = self.pool.hosts().get_mut(&self.key) {
            host.idle.push((Instant::now(), link));
            host.freed.notify_one();
            self.given = true;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.given {
            return;
        }
        let mut hosts = self.pool.hosts();
        if let Some(host) = hosts.get_mut(&self.key) {
            host.open -= 1;
            self.pool.open.decrement(1);
            host.freed.notify_one();
            if host.open == 0 && host.waiting == 0 {
                hosts.remove(&self.key);
            }
        }
    }
}
