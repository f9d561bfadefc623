//! Which fingerprints a peer was seen with, and how far each is trusted. Pure data: the caller stores it.

use crate::identity::Fingerprint;
use crate::limits;
use std::collections::BTreeMap;

/// How far a fingerprint is trusted to belong to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trust {
    /// Never met with this peer.
    Unknown,
    /// Met before. Says that it is the same as last time, and no more.
    Seen,
    /// Verified with SMP: both knew the same secret.
    Smp,
    /// Compared and set by the user.
    ByHand,
}

/// Whom a fingerprint belongs to. Names are compared as they are: fold their case by the network's rules first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerName {
    /// The network.
    pub network: String,
    /// Our account there.
    pub account: String,
    /// The peer's nick or account.
    pub peer: String,
}

/// What the book says to a fingerprint that was just met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// The first one of this peer.
    First,
    /// Met before, and trusted as far as given.
    Known(Trust),
    /// **Another than before**: the peer has a new client, or somebody is in between. Those met before follow.
    Changed(Vec<(Fingerprint, Trust)>),
}

/// The fingerprints of all peers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FingerprintBook {
    peers: BTreeMap<PeerName, Vec<(Fingerprint, Trust)>>,
}

impl FingerprintBook {
    /// An empty book.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a fingerprint that was met, and says what is known of it.
    ///
    /// At most [`limits::MAX_FINGERPRINTS`] are kept per peer. The oldest that was only seen gives way; verified ones
    /// stay, and if there are only those, the new one is not noted.
    pub fn observe(&mut self, peer: &PeerName, fingerprint: Fingerprint) -> Observation {
        let known = self.peers.entry(peer.clone()).or_default();
        if let Some((_, trust)) = known.iter().find(|(print, _)| *print == fingerprint) {
            return Observation::Known(*trust);
        }
        let before = known.clone();
        if known.len() >= limits::MAX_FINGERPRINTS
            && let Some(spare) = known.iter().position(|(_, trust)| *trust <= Trust::Seen)
        {
            known.remove(spare);
        }
        if known.len() < limits::MAX_FINGERPRINTS {
            known.push((fingerprint, Trust::Seen));
        }
        if before.is_empty() { Observation::First } else { Observation::Changed(before) }
    }

    /// How far a fingerprint is trusted.
    #[must_use]
    pub fn trust(&self, peer: &PeerName, fingerprint: Fingerprint) -> Trust {
        let found = self.of(peer).iter().find(|(print, _)| *print == fingerprint);
        found.map_or(Trust::Unknown, |(_, trust)| *trust)
    }

    /// Sets the trust, for instance after a verification, or when reading the book back from storage.
    /// [`Trust::Unknown`] removes the fingerprint.
    pub fn set_trust(&mut self, peer: &PeerName, fingerprint: Fingerprint, trust: Trust) {
        if trust != Trust::Unknown {
            self.observe(peer, fingerprint);
        }
        let Some(known) = self.peers.get_mut(peer) else { return };
        if trust == Trust::Unknown {
            known.retain(|(print, _)| *print != fingerprint);
        } else if let Some((_, old)) = known.iter_mut().find(|(print, _)| *print == fingerprint) {
            *old = trust;
        }
        if known.is_empty() {
            self.peers.remove(peer);
        }
    }

    /// The fingerprints of a peer, for [`Config::known`](crate::Config::known).
    #[must_use]
    pub fn known(&self, peer: &PeerName) -> Vec<Fingerprint> {
        self.of(peer).iter().map(|(fingerprint, _)| *fingerprint).collect()
    }

    /// The whole book, peer by peer, oldest fingerprint first: for storage, and for showing it.
    pub fn entries(&self) -> impl Iterator<Item = (&PeerName, Fingerprint, Trust)> {
        self.peers.iter().flat_map(|(peer, known)| known.iter().map(move |(print, trust)| (peer, *print, *trust)))
    }

    fn of(&self, peer: &PeerName) -> &[(Fingerprint, Trust)] {
        self.peers.get(peer).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> PeerName {
        PeerName { network: "net".into(), account: "us".into(), peer: "bob".into() }
    }

    fn print(n: u8) -> Fingerprint {
        Fingerprint([n; 20])
    }

    #[test]
    fn first_known_changed() {
        let mut book = FingerprintBook::new();
        assert_eq!(book.trust(&peer(), print(1)), Trust::Unknown);
        assert_eq!(book.observe(&peer(), print(1)), Observation::First);
        assert_eq!(book.observe(&peer(), print(1)), Observation::Known(Trust::Seen));
        book.set_trust(&peer(), print(1), Trust::Smp);
        assert_eq!(book.observe(&peer(), print(2)), Observation::Changed(vec![(print(1), Trust::Smp)]));
        assert_eq!(book.observe(&peer(), print(1)), Observation::Known(Trust::Smp));
        let other = PeerName { network: "other".into(), ..peer() };
        assert_eq!(book.observe(&other, print(1)), Observation::First);
        assert_eq!(book.known(&peer()), [print(1), print(2)]);
    }

    #[test]
    fn a_book_survives_storage() {
        let mut book = FingerprintBook::new();
        book.set_trust(&peer(), print(1), Trust::ByHand);
        book.observe(&peer(), print(2));
        let mut back = FingerprintBook::new();
        book.entries().for_each(|(peer, print, trust)| back.set_trust(peer, print, trust));
        assert_eq!(back, book);
        back.set_trust(&peer(), print(1), Trust::Unknown);
        back.set_trust(&peer(), print(2), Trust::Unknown);
        assert_eq!(back, FingerprintBook::new());
    }

    #[test]
    fn a_flood_of_keys_does_not_push_out_verified_ones() {
        let mut book = FingerprintBook::new();
        book.set_trust(&peer(), print(0), Trust::ByHand);
        for n in 1..100 {
            book.observe(&peer(), print(n));
        }
        assert_eq!(book.entries().count(), limits::MAX_FINGERPRINTS);
        assert_eq!(book.trust(&peer(), print(0)), Trust::ByHand);
    }
}
