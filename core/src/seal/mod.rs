//! Sealing: from clear bytes to OpenPGP messages that only a keyset's secret keys open.

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
