//! Messages that were taken while the peer could no longer hear so.
//!
//! A peer that got no answer sends the message again. Two equal mails are two mails, so only what is known to have gone
//! unanswered is looked for: the same peer, within 15 minutes, with the same `Message-ID`, envelope and bytes.

use mesyx_sdk::{Envelope, MessageId, Timestamp};
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How long an unanswered message is remembered.
const MILLISECONDS: i64 = 15 * 60 * 1000;
/// How many are remembered at most; the oldest go first.
const MOST: usize = 4096;

/// The unanswered messages of the last 15 minutes.
#[derive(Debug, Default)]
pub(crate) struct Unanswered {
    /// A secret of this process, so that nobody can make two messages that look alike here.
    hasher: RandomState,
    entries: Mutex<VecDeque<(Fingerprint, MessageId, Timestamp)>>,
}

/// Peer, `Message-ID`, sender, recipients and bytes of a message, as one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint(u64);

impl Unanswered {
    /// The fingerprint of a message from `ip` whose first `trace` bytes are ours.
    pub(crate) fn fingerprint(&self, ip: IpAddr, message_id: &[u8], envelope: &Envelope, trace: usize) -> Fingerprint {
        let to: Vec<_> = envelope.to.iter().map(|recipient| &recipient.address).collect();
        Fingerprint(self.hasher.hash_one((ip, message_id, &envelope.from, to, &envelope.content[trace..])))
    }

    /// As which message it was taken before, where the peer did not hear so.
    pub(crate) fn look_up(&self, fingerprint: Fingerprint, now: Timestamp) -> Option<MessageId> {
        let mut entries = self.entries();
        while entries.front().is_some_and(|(_, _, at)| now.0 - at.0 > MILLISECONDS) {
            entries.pop_front();
        }
        entries.iter().find(|(known, _, _)| *known == fingerprint).map(|(_, id, _)| *id)
    }

    /// Remembers a message that was taken, whose answer did not reach the peer.
    pub(crate) fn remember(&self, fingerprint: Fingerprint, id: MessageId, now: Timestamp) {
        let mut entries = self.entries();
        if entries.len() == MOST {
            entries.pop_front();
        }
        entries.push_back((fingerprint, id, now));
    }

    fn entries(&self) -> MutexGuard<'_, VecDeque<(Fingerprint, MessageId, Timestamp)>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesyx_sdk::{Content, MailAddress, memory};

    fn message(trace: &str, body: &str) -> Envelope {
        let to: MailAddress = "a@example.org".parse().unwrap();
        memory::envelope(None, vec![to.into()], Content::from(format!("{trace}{body}").into_bytes()))
    }

    #[test]
    fn only_the_very_same_from_the_same_peer_in_time() {
        let unanswered = Unanswered::default();
        let (ip, other): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = unanswered.fingerprint(ip, b"<1>", &message("one", "x"), 3);
        assert_eq!(unanswered.look_up(first, Timestamp(0)), None);
        let id = MessageId([1; 16]);
        unanswered.remember(first, id, Timestamp(0));
        let again = unanswered.fingerprint(ip, b"<1>", &message("two", "x"), 3);
        assert_eq!(unanswered.look_up(again, Timestamp(MILLISECONDS)), Some(id));
        for (ip, message_id, body) in [(ip, b"<1>", "y"), (ip, b"<2>", "x"), (other, b"<1>", "x")] {
            let another = unanswered.fingerprint(ip, message_id, &message("two", body), 3);
            assert_eq!(unanswered.look_up(another, Timestamp(1)), None);
        }
        assert_eq!(unanswered.look_up(again, Timestamp(MILLISECONDS + 1)), None);
    }

    #[test]
    fn the_table_is_bounded() {
        let unanswered = Unanswered::default();
        for _ in 0..MOST + 10 {
            unanswered.remember(Fingerprint(1), MessageId([1; 16]), Timestamp(0));
        }
        assert_eq!(unanswered.entries().len(), MOST);
    }
}
