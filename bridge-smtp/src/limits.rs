//! How many connections there may be, in all and from one peer.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts connections.
#[derive(Debug)]
pub(crate) struct Connections {
    most: usize,
    most_per_peer: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_peer: HashMap<IpAddr, usize>,
}

/// A connection that is counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    connections: Arc<Connections>,
    peer: Option<IpAddr>,
}

impl Connections {
    pub(crate) fn new(most: usize, most_per_peer: usize) -> Arc<Self> {
        Arc::new(Self { most, most_per_peer, counts: Mutex::default() })
    }

    /// Counts one more connection, or `None` where there are too many.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Counted> {
        let mut counts = self.counts();
        if counts.all >= self.most {
            return None;
        }
        counts.all += 1;
        Some(Counted { connections: Arc::clone(self), peer: None })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    /// Counts it for its peer as well; `false` where that peer has too many. Loopback is not counted: behind it are this
    /// machine's own programs and relays, which stand for many.
    pub(crate) fn of_peer(&mut self, ip: IpAddr) -> bool {
        if ip.to_canonical().is_loopback() {
            return true;
        }
        let peer = network_of(ip);
        let mut counts = self.connections.counts();
        let count = counts.by_peer.entry(peer).or_insert(0);
        if *count >= self.connections.most_per_peer {
            return false;
        }
        *count += 1;
        drop(counts);
        self.peer = Some(peer);
        true
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.connections.counts();
        counts.all -= 1;
        if let Some(peer) = self.peer
            && let Some(count) = counts.by_peer.get_mut(&peer)
        {
            *count -= 1;
            if *count == 0 {
                counts.by_peer.remove(&peer);
            }
        }
    }
}

/// What counts as one peer: an IPv4 address, or the /64 that one IPv6 customer has at the least.
pub(crate) fn network_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_go_up_and_down() {
        let connections = Connections::new(3, 1);
        let ip = |text: &str| text.parse().unwrap();
        let mut one = connections.enter().unwrap();
        let mut two = connections.enter().unwrap();
        assert!(one.of_peer(ip("2001:db8::1")));
        assert!(!two.of_peer(ip("2001:db8::2")), "one /64 is one peer");
        assert!(two.of_peer(ip("2001:db8:0:1::1")));
        let mut three = connections.enter().unwrap();
        assert!(connections.enter().is_none());
        drop(one);
        assert!(three.of_peer(ip("2001:db8::3")));
        drop((two, three));
        assert_eq!(connections.counts().all, 0);
        assert!(connections.counts().by_peer.is_empty());
    }

    #[test]
    fn loopback_is_not_counted_per_peer() {
        let connections = Connections::new(3, 1);
        let mut all: Vec<_> = (0..3).map(|_| connections.enter().unwrap()).collect();
        assert!(all.iter_mut().all(|counted| counted.of_peer("127.0.0.1".parse().unwrap())));
    }
}
