//! Sealing: from clear bytes to OpenPGP messages that only a keyset's secret keys open.
//!
//! ```text
//!   Sealer::seal   summary -> CBOR -> padded  --+-- one session key --> two SEIPD packets
//!                  content -> MIME -> padded  --+        |
//!                                                        +--> PKESK for each certificate of the keyset
//!   open_summary / open_body   SEIPD -> integrity of the whole -> names the right part, message, user, keyset? -> clear
//! ```
//!
//! # Sharing a session key
//! The messages that reach one keyset within a short window (60 s by default, at most [`Sealer::MOST_SHARED`] messages)
//! share one session key, because making one costs more than all the rest of sealing. Why that is sound:
//! - Confidentiality. SEIPD version 1 is CFB with 16 fresh random bytes in front: under one key they play the part of a random
//!   initialisation vector, and CFB stays secure up to about 2^64 blocks under a key; here are fewer than 2^40. SEIPD version 2
//!   derives key and nonce of each packet from a salt of 32 fresh random bytes (RFC 9580, section 5.13.2), so no nonce repeats.
//! - Integrity. The MDC covers the random bytes in front, which nobody but a holder of the key knows, so pieces of two packets
//!   can't be joined to one that passes. Beyond that each part names its message, user and keyset inside, and the instance that
//!   took the message in signs the digests of the sealed bytes.
//! - What it does cost: who sees the store learns that these messages came within one window (their order it sees anyway),
//!   and who learns one session key, by whatever way, can open that window's messages for that keyset, not one alone.
//!
//! A window of zero turns sharing off.

mod body;
mod error;
mod open;
mod packet;
mod padding;
mod recipients;
mod record;
mod sealer;
mod summary;

pub use error::{OpenError, SealError};
pub use open::{message, open_body, open_summary};
pub(crate) use packet::Format;
pub use packet::SessionKey;
pub use padding::padded_length;
pub(crate) use recipients::MOST_RECIPIENTS;
pub use recipients::{RecipientId, recipients};
pub(crate) use record::{RecordContext, open_record, seal_record};
pub(crate) use sealer::seal_session_key;
pub use sealer::{SealFor, Sealer};

use crate::id::{KeysetId, SessionKeyId};
use bytes::Bytes;
use mesyx_sdk::{MessageId, UserId};
use std::fmt;
use std::sync::Arc;

/// Sealed bytes: one OpenPGP SEIPD packet. A type of its own, so that they are never taken for clear ones.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(pub Bytes);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

/// A session key, sealed to every certificate of a keyset: PKESK packets, stored once for all messages that share it.
/// `packets` followed by a message's [`Sealed`] part is a whole OpenPGP message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSessionKey {
    /// Its id.
    pub id: SessionKeyId,
    /// Whose.
    pub user: UserId,
    /// To which keyset.
    pub keyset: KeysetId,
    /// The PKESK packets.
    pub packets: Bytes,
}

impl SealedSessionKey {
    /// The keys that it is sealed to: see [`recipients()`].
    #[must_use]
    pub fn recipients(&self) -> Vec<RecipientId> {
        recipients(&self.packets)
    }
}

/// One message, sealed for one user: what the store keeps.
#[derive(Debug, Clone)]
pub struct SealedMessage {
    /// Which message.
    pub message: MessageId,
    /// For whom.
    pub user: UserId,
    /// The session key of both parts; its keyset is the message's.
    pub session_key: Arc<SealedSessionKey>,
    /// Headers, structure, sizes, exact times.
    pub summary: Sealed,
    /// The message itself.
    pub body: Sealed,
    /// The size that is told without a key: the message's own, rounded up.
    pub padded_size: u64,
    /// The day of its internal date (days since 1970-01-01, UTC).
    pub day: i32,
}

/// Which of a message's two parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PartName {
    /// [`SealedMessage::summary`]
    Summary,
    /// [`SealedMessage::body`]
    Body,
}

impl PartName {
    /// The name as it stands in the clear part.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Summary => "summary",
            Self::Body => "body",
        }
    }
}

/// What a sealed part must name inside, so that it can't be taken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartContext {
    /// For whom.
    pub user: UserId,
    /// Of which message.
    pub message: MessageId,
    /// Sealed to which keyset.
    pub keyset: KeysetId,
}

#[cfg(test)]
pub(crate) mod tests;
