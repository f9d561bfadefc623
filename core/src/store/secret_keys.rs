//! What happens to secret keys and to the messages under them, as a store is asked for it.

use super::{StoredSecretKey, StoredSlot};
use crate::id::{KeysetId, SessionKeyId};
use crate::seal::{RecipientId, SealedMessage};
use mesyx_sdk::{Flags, MessageId, UserId};
use minicbor::{Decode, Encode};

/// One change of secret keys, slots, or of what is shown. All are this instance's own.
#[derive(Debug)]
#[non_exhaustive]
pub enum KeyWrite {
    /// A slot is wrapped anew, where its record is still `old`; its last use stays. → [`super::Written::Done`], also where it is not
    RewrapSlot {
        /// Whose.
        user: UserId,
        /// The slot's record as it was read.
        old: Vec<u8>,
        /// The slot as it is to be.
        new: StoredSlot,
    },
    /// The messages of a keyset are to be shown otherwise: sealed, which takes its secret key away at the end, or opened as far as the
    /// secret keys here open them, which puts `secret` in. From here on new ones are shown so; the others follow by
    /// [`KeyWrite::Reshow`]. → [`super::Written::Done`]
    Move {
        /// Which, and how they are to be shown.
        keyset: KeysetMove,
        /// The keyset's wrapped secret key, for [`Shown::Opened`].
        secret: Option<StoredSecretKey>,
    },
    /// What is in a secret key of which it was not known; its messages are looked at again as by [`KeyWrite::Move`] to
    /// [`Shown::Opened`]. → [`super::Written::Done`]
    List {
        /// Whose.
        user: UserId,
        /// Of which keyset.
        keyset: KeysetId,
        /// What is in it.
        held: Vec<Held>,
    },
    /// Shows at most `limit` messages of a keyset on the move in the other way, under new UIDs, of at most `limit` session keys.
    /// → [`super::Written::Reshown`]
    Reshow {
        /// Whose.
        user: UserId,
        /// Which.
        keyset: KeysetId,
        /// Where the last such write ended; 0 for the first.
        after: u64,
        /// How many messages at the most.
        limit: u32,
    },
    /// A move ends: the secret key of a keyset that is shown sealed goes. → [`super::Written::Done`]; [`super::StoreError::Invalid`] where messages
    /// remain that are shown the old way.
    EndMove {
        /// Whose.
        user: UserId,
        /// Which.
        keyset: KeysetId,
    },
    /// Nothing of the move remains to be done, now that [`KeyWrite::Scrub`] succeeded. → [`super::Written::Done`]
    ForgetMove {
        /// Whose.
        user: UserId,
        /// Which.
        keyset: KeysetId,
    },
    /// Leaves no copy of what was erased in the files of the store: folds the write-ahead log in and empties it. → [`super::Written::Done`]
    Scrub,
    /// Messages are sealed anew: each takes the place of the one sealed with the session key named; one that was expunged or sealed
    /// anew meanwhile is passed over. What is shown differently gets new UIDs. → [`super::Written::Resealed`]
    Reseal(Vec<Resealed>),
}

/// A certificate whose secret key is here, and what of it opens messages.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Held {
    /// The certificate's fingerprint.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub fingerprint: Vec<u8>,
    /// Its keys whose secret parts are here: session keys that are sealed to one of them open.
    #[n(1)]
    pub keys: Vec<RecipientId>,
}

/// How a message is shown under its UIDs, which change with it (RFC 3501, section 2.3.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shown {
    /// Opened, with the keyset's secret key. Of a keyset on the move: as the secret keys that are here open each message.
    Opened,
    /// As it is stored, as PGP/MIME, whether a secret key is here or not.
    Sealed,
}

/// A keyset whose messages are to be shown otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeysetMove {
    /// Whose.
    pub user: UserId,
    /// Which.
    pub keyset: KeysetId,
    /// How they are to be shown.
    pub shown: Shown,
}

/// A message that is sealed to the keyset asked for.
#[derive(Debug, Clone)]
pub struct SealedTo {
    /// Its place in that order.
    pub at: (u64, u64),
    /// Which message.
    pub message: MessageId,
    /// The session key of its parts.
    pub session_key: SessionKeyId,
    /// The keys that this is sealed to.
    pub recipients: Vec<RecipientId>,
    /// See `mesyx_sdk::Entry::padded_size`.
    pub padded_size: u64,
    /// Sealed bytes of both parts.
    pub bytes: u64,
    /// Day of the internal date, since 1970-01-01, UTC.
    pub day: i32,
    /// How it is shown.
    pub shown: Shown,
    /// The flags of one of its placements; none where it has no placement yet.
    pub flags: Flags,
}

/// Messages of one keyset whose session keys are sealed to the same keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedUse {
    /// Which keyset; it may be removed, or never have been known here.
    pub keyset: KeysetId,
    /// The keys, in order. One was enough to open them; of a keyset's certificates only those that could be sealed to then are there.
    pub recipients: Vec<RecipientId>,
    /// Messages, at least one.
    pub messages: u64,
    /// Their padded sizes added up, in bytes.
    pub bytes: u64,
    /// The days of the first and of the last internal date (days since 1970-01-01, UTC).
    pub days: (i32, i32),
}

/// A message sealed anew.
#[derive(Debug, Clone)]
pub struct Resealed {
    /// The session key that it was sealed with before.
    pub old: SessionKeyId,
    /// The message as it is sealed now.
    pub message: SealedMessage,
}
