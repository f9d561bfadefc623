//! Keys of data messages: how they rotate, and how messages are protected under them.
//!
//! Each side holds its two newest Diffie-Hellman pairs and the peer's two newest public keys, all numbered. A message
//! names the pair of keys that it is under and announces the sender's next key. Once a peer uses a key, the one
//! before it is forgotten, and the MAC keys that verified messages under it are published: from then on anybody could
//! have written those messages.

use crate::auth::{Agreed, OUR_KEYID};
use crate::group::{DhPair, Element};
use crate::kdf::{DataKeys, MacKey, aes_ctr, hmac_sha1, same};
use crate::message::{DataMessage, Header};
use crate::{Error, Rejection, limits};
use zeroize::Zeroizing;

pub(crate) struct Ratchet {
    /// Serial number of `our_next`; `our_last` has the number before it.
    our_keyid: u32,
    our_next: DhPair,
    our_last: DhPair,
    /// Serial number of `their_newest`; `their_last` has the number before it.
    their_keyid: u32,
    their_newest: Element,
    their_last: Option<Element>,
    /// At most the four combinations of the keys above.
    pairings: Vec<Pairing>,
    to_reveal: Vec<MacKey>,
}

/// The keys and counters between one of our and one of their Diffie-Hellman keys.
struct Pairing {
    ours: u32,
    theirs: u32,
    keys: DataKeys,
    sent: u64,
    received: u64,
    verified: bool,
}

impl Ratchet {
    /// The state after a key exchange: both sides are at the keys of the exchange, and ours is followed by a new one.
    /// MAC keys that a previous state did not get to publish are handed on.
    pub(crate) fn new(agreed: &Agreed, previous: Option<Self>) -> Result<Self, Error> {
        let mut to_reveal = Vec::new();
        if let Some(mut previous) = previous {
            previous.forget(|_| true);
            to_reveal = previous.to_reveal;
        }
        Ok(Self {
            our_keyid: OUR_KEYID + 1,
            our_next: DhPair::generate()?,
            our_last: agreed.ours.clone(),
            their_keyid: agreed.their_keyid,
            their_newest: agreed.theirs,
            their_last: None,
            pairings: Vec::new(),
            to_reveal,
        })
    }

    /// Protects a plaintext and encodes it as a data message.
    pub(crate) fn encrypt(
        &mut self,
        header: Header,
        plain: &[u8],
        ignore_unreadable: bool,
    ) -> Result<Vec<u8>, Rejection> {
        let (ours, theirs) = (self.our_keyid - 1, self.their_keyid);
        let next_key = self.our_next.public;
        let revealed = std::mem::take(&mut self.to_reveal);
        let pairing = self.pairing(ours, theirs)?;
        // The counter starts at 1 and never repeats under one key.
        pairing.sent += 1;
        let counter = pairing.sent.to_be_bytes();
        let mut encrypted = plain.to_vec();
        aes_ctr(&pairing.keys.send_cipher, &counter, &mut encrypted);
        let message = DataMessage {
            ignore_unreadable,
            sender_keyid: ours,
            recipient_keyid: theirs,
            next_key,
            counter,
            encrypted,
        };
        Ok(message.encode(header, |covered| hmac_sha1(&pairing.keys.send_mac, covered), &revealed))
    }

    /// Verifies and opens a data message, then rotates the keys as it asks.
    pub(crate) fn decrypt(
        &mut self,
        message: DataMessage,
        covered: &[u8],
        mac: &[u8; 20],
    ) -> Result<Zeroizing<Vec<u8>>, Rejection> {
        let pairing = self.pairing(message.recipient_keyid, message.sender_keyid)?;
        if !same(&hmac_sha1(&pairing.keys.receive_mac, covered), mac) {
            return Err(Rejection::BadMac);
        }
        let counter = u64::from_be_bytes(message.counter);
        if counter <= pairing.received {
            return Err(Rejection::Replayed);
        }
        pairing.received = counter;
        pairing.verified = true;
        let mut plain = Zeroizing::new(message.encrypted);
        aes_ctr(&pairing.keys.receive_cipher, &message.counter, &mut plain);
        if message.recipient_keyid == self.our_keyid {
            self.rotate_ours()?;
        }
        if message.sender_keyid == self.their_keyid {
            self.rotate_theirs(message.next_key);
        }
        Ok(plain)
    }

    /// The peer used our next key: the last one is not needed any more.
    fn rotate_ours(&mut self) -> Result<(), Rejection> {
        let next_id = self.our_keyid.checked_add(1).ok_or(Rejection::UnknownKeys)?;
        let next = DhPair::generate()?;
        let gone = self.our_keyid - 1;
        self.forget(|pairing| pairing.ours == gone);
        self.our_last = std::mem::replace(&mut self.our_next, next);
        self.our_keyid = next_id;
        Ok(())
    }

    /// The peer used its newest key and announced another.
    fn rotate_theirs(&mut self, next: Element) {
        let Some(next_id) = self.their_keyid.checked_add(1) else { return };
        let gone = self.their_keyid - 1;
        self.forget(|pairing| pairing.theirs == gone);
        self.their_last = Some(std::mem::replace(&mut self.their_newest, next));
        self.their_keyid = next_id;
    }

    /// Drops keys, and keeps those for publication that verified something.
    fn forget(&mut self, gone: impl Fn(&Pairing) -> bool) {
        let used = self.pairings.iter().filter(|pairing| gone(pairing) && pairing.verified);
        self.to_reveal.extend(used.map(|pairing| pairing.keys.receive_mac));
        self.pairings.retain(|pairing| !gone(pairing));
        let excess = self.to_reveal.len().saturating_sub(limits::MAX_REVEALED_MACS);
        self.to_reveal.drain(..excess);
    }

    /// The keys between two serial numbers, derived when first asked for.
    fn pairing(&mut self, ours: u32, theirs: u32) -> Result<&mut Pairing, Rejection> {
        let known = self.pairings.iter().position(|pairing| (pairing.ours, pairing.theirs) == (ours, theirs));
        let at = match known {
            Some(at) => at,
            None => {
                let pairing = self.derive(ours, theirs)?;
                self.pairings.push(pairing);
                self.pairings.len() - 1
            }
        };
        self.pairings.get_mut(at).ok_or(Rejection::UnknownKeys)
    }

    fn derive(&self, ours: u32, theirs: u32) -> Result<Pairing, Rejection> {
        let our_pair = match self.our_keyid.checked_sub(ours) {
            Some(0) => &self.our_next,
            Some(1) => &self.our_last,
            _ => return Err(Rejection::UnknownKeys),
        };
        let their_key = match self.their_keyid.checked_sub(theirs) {
            Some(0) => self.their_newest,
            Some(1) => self.their_last.ok_or(Rejection::UnknownKeys)?,
            _ => return Err(Rejection::UnknownKeys),
        };
        let secret = our_pair.shared_secret(&their_key);
        let keys = DataKeys::derive(&secret, our_pair.public.is_above(&their_key));
        Ok(Pairing { ours, theirs, keys, sent: 0, received: 0, verified: false })
    }
}

#[cfg(test)]
mod tests;
