//! Operations: the facts from which every instance folds the same state.
//!
//! Merging is commutative and idempotent: whatever order operations come in, and however often, the state is the same.
//! - a register (a name, a user's or keyset's or sealed record, the mailbox of a placement, one flag of one placement, one subscription) holds the
//!   write with the highest [`Stamp`];
//! - a removal (`Expunge`, `DeleteMailbox`, `RemoveUser`, `RemoveKeyset`, `Outcome`) wins over everything, for good;
//! - who deletes a mailbox expunges what it sees in it by operations of their own; what another instance puts there
//!   meanwhile is shown in INBOX, so that no merge loses a message that nobody removed. INBOX itself can't be deleted;
//! - a member of a group has read what the farthest `ReadTo` says, and of the lines up to there what later flags say otherwise;
//! - an operation on something that has not come yet is kept until it does.
//!
//! Operations name placements and never UIDs, which are each instance's own; they refer to content by id, so that an
//! expunge can really erase it. They are encoded as CBOR with numbered fields: fields may be added, never renumbered.

use crate::id::{InstanceId, JobId, KeysetId, RecordId, SessionKeyId};
use crate::store::JobEnd;
use mesyx_sdk::{MailboxId, MessageId, PlacementId, UserId};
use minicbor::{Decode, Encode};

/// Hybrid logical time: the day, and a counter that grows with every operation seen; no exact time, because sealing hides it.
/// Ordered by day, then counter, then instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Stamp {
    /// Days since 1970-01-01, UTC; never earlier than that of an operation seen before.
    #[n(0)]
    pub day: i32,
    /// Greater than the counter of every operation seen before.
    #[n(1)]
    pub counter: u64,
    /// Who stamped it.
    #[n(2)]
    pub instance: InstanceId,
}

impl Stamp {
    /// The latest counter that is believed: a foreign one above it would leave no room for later stamps.
    pub const MAX_COUNTER: u64 = 1 << 62;

    /// 28 bytes that sort as stamps do.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 28] {
        let mut bytes = [0; 28];
        let day = (self.day as u32) ^ (1 << 31);
        bytes[..4].copy_from_slice(&day.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.counter.to_be_bytes());
        bytes[12..].copy_from_slice(&self.instance.0);
        bytes
    }

    /// The stamp that [`Stamp::to_bytes`] wrote.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 28]) -> Self {
        let (mut day, mut counter, mut instance) = ([0; 4], [0; 8], [0; 16]);
        day.copy_from_slice(&bytes[..4]);
        counter.copy_from_slice(&bytes[4..12]);
        instance.copy_from_slice(&bytes[12..]);
        let day = (u32::from_be_bytes(day) ^ (1 << 31)) as i32;
        Self { day, counter: u64::from_be_bytes(counter), instance: InstanceId(instance) }
    }
}

/// One entry of the operation log.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct LogEntry {
    /// The entry's number in its instance's own log: 1, 2, 3, …
    #[n(0)]
    pub sequence: u64,
    /// When it happened, and where.
    #[n(1)]
    pub stamp: Stamp,
    /// What happened.
    #[n(2)]
    pub operation: Operation,
}

/// A change that all instances of the users concerned learn of.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Operation {
    /// A user, or a newer record of one.
    #[n(0)]
    PutUser {
        /// Who.
        #[cbor(n(0), with = "cbor_id")]
        user: UserId,
        /// What is known of the user in clear.
        #[n(1)]
        record: UserRecord,
    },
    /// A user is gone, with mailboxes, messages, keysets.
    #[n(1)]
    RemoveUser {
        /// Who.
        #[cbor(n(0), with = "cbor_id")]
        user: UserId,
    },
    /// A keyset, or a newer record of one.
    #[n(2)]
    PutKeyset {
        /// Whose.
        #[cbor(n(0), with = "cbor_id")]
        user: UserId,
        /// Which.
        #[n(1)]
        keyset: KeysetId,
        /// The keyset: CBOR of `keys::Keyset`, public parts only.
        #[cbor(n(2), with = "minicbor::bytes")]
        record: Vec<u8>,
    },
    /// A keyset is gone, for sealing and opening: nothing was sealed to it where this was asked for.
    #[n(3)]
    RemoveKeyset {
        /// Whose.
        #[cbor(n(0), with = "cbor_id")]
        user: UserId,
        /// Which.
        #[n(1)]
        keyset: KeysetId,
    },
    /// The user's identity certificate, public part.
    #[n(4)]
    PutIdentity {
        /// Whose.
        #[cbor(n(0), with = "cbor_id")]
        user: UserId,
        /// The certificate, as OpenPGP packets.
        #[cbor(n(1), with = "minicbor::bytes")]
        certificate: Vec<u8>,
    },
    /// A mailbox.
    #[n(5)]
    CreateMailbox {
        /// Whose.
        #[cbor(n(0), with = "cbor_id")]
        user: UserId,
        /// Which; of INBOX and the special-use mailboxes derived from the user's id, so that two instances make one.
        #[cbor(n(1), with = "cbor_id")]
        mailbox: MailboxId,
        /// Its name.
        #[n(2)]
        name: String,
        /// Its special use, as `mesyx_sdk::Role` writes it.
        #[n(3)]
        role: Option<String>,
    },
    /// A mailbox has a new name.
    #[n(6)]
    RenameMailbox {
        /// Which.
        #[cbor(n(0), with = "cbor_id")]
        mailbox: MailboxId,
        /// The new name.
        #[n(1)]
        name: String,
    },
    /// A mailbox is gone. Its placements are expunged by operations of their own; any other is shown in INBOX.
    #[n(7)]
    DeleteMailbox {
        /// Which.
        #[cbor(n(0), with = "cbor_id")]
        mailbox: MailboxId,
    },
    /// A name was subscribed or unsubscribed.
    #[n(8)]
    Subscribe {
        /// Whose.
        #[cbor(n(0), with = "cbor_id")]
        user: UserId,
        /// Which name.
        #[n(1)]
        name: String,
        /// Subscribed, or not any more.
        #[n(2)]
        subscribed: bool,
    },
    /// A message is in a mailbox.
    #[n(9)]
    Place {
        /// The placement.
        #[cbor(n(0), with = "cbor_id")]
        placement: PlacementId,
        /// Whose.
        #[cbor(n(1), with = "cbor_id")]
        user: UserId,
        /// Which mailbox.
        #[cbor(n(2), with = "cbor_id")]
        mailbox: MailboxId,
        /// Which message.
        #[cbor(n(3), with = "cbor_id")]
        message: MessageId,
        /// Flags that it has from the start.
        #[n(4)]
        flags: Vec<String>,
    },
    /// Flags were set.
    #[n(10)]
    AddFlags {
        /// Where.
        #[cbor(n(0), with = "cbor_id")]
        placement: PlacementId,
        /// Which.
        #[n(1)]
        flags: Vec<String>,
    },
    /// Flags were taken away.
    #[n(11)]
    RemoveFlags {
        /// Where.
        #[cbor(n(0), with = "cbor_id")]
        placement: PlacementId,
        /// Which.
        #[n(1)]
        flags: Vec<String>,
    },
    /// A message went to another mailbox.
    #[n(12)]
    Move {
        /// The placement.
        #[cbor(n(0), with = "cbor_id")]
        placement: PlacementId,
        /// The new mailbox.
        #[cbor(n(1), with = "cbor_id")]
        mailbox: MailboxId,
    },
    /// A message is gone from its mailbox; without another placement its content is erased.
    #[n(13)]
    Expunge {
        /// The placement.
        #[cbor(n(0), with = "cbor_id")]
        placement: PlacementId,
    },
    /// A message waits to be brought to one recipient elsewhere. Whom and what stands nowhere in the log.
    #[n(60)]
    Enqueue {
        /// The job.
        #[n(0)]
        job: JobId,
        /// The message.
        #[cbor(n(1), with = "cbor_id")]
        message: MessageId,
        /// Who submitted it. With the user, the job goes.
        #[cbor(n(2), with = "cbor_id")]
        user: UserId,
        /// Who is to bring it.
        #[n(3)]
        gateway: InstanceId,
    },
    /// Another instance is to bring it.
    #[n(61)]
    Assign {
        /// The job.
        #[n(0)]
        job: JobId,
        /// Who is to bring it now.
        #[n(1)]
        gateway: InstanceId,
    },
    /// A job is done; its content is erased with the message's last one.
    #[n(62)]
    Outcome {
        /// The job.
        #[n(0)]
        job: JobId,
        /// How it ended.
        #[n(1)]
        end: JobEnd,
    },
    /// A group: an owner of one mailbox with lines, and of records. `RemoveUser` removes it.
    #[n(70)]
    PutGroup {
        /// Its id.
        #[cbor(n(0), with = "cbor_id")]
        group: UserId,
    },
    /// A user belongs to a group, or does not any more.
    #[n(71)]
    SetMember {
        /// Which group.
        #[cbor(n(0), with = "cbor_id")]
        group: UserId,
        /// Who.
        #[cbor(n(1), with = "cbor_id")]
        user: UserId,
        /// What the member may do: the number of `mesyx_sdk::Rank`; `None`: does not belong to it.
        #[n(2)]
        rank: Option<u8>,
    },
    /// The key of one epoch of a group, sealed to a keyset of one member: who has it sees the epoch's lines.
    #[n(72)]
    PutGroupKey {
        /// Which group.
        #[cbor(n(0), with = "cbor_id")]
        group: UserId,
        /// Which epoch: the id of its session key.
        #[n(1)]
        epoch: SessionKeyId,
        /// Whose copy.
        #[cbor(n(2), with = "cbor_id")]
        user: UserId,
        /// To which keyset it is sealed.
        #[n(3)]
        keyset: KeysetId,
        /// PKESK packets.
        #[cbor(n(4), with = "minicbor::bytes")]
        packets: Vec<u8>,
    },
    /// A user gave up lines of a group: those of these epochs, for good.
    #[n(73)]
    ForgetGroupKeys {
        /// Which group.
        #[cbor(n(0), with = "cbor_id")]
        group: UserId,
        /// Who.
        #[cbor(n(1), with = "cbor_id")]
        user: UserId,
        /// Which epochs.
        #[n(2)]
        epochs: Vec<SessionKeyId>,
    },
    /// A member has read the lines up to this one, in the order of whichever instance.
    #[n(74)]
    ReadTo {
        /// Which group.
        #[cbor(n(0), with = "cbor_id")]
        group: UserId,
        /// Who.
        #[cbor(n(1), with = "cbor_id")]
        user: UserId,
        /// Up to where.
        #[cbor(n(2), with = "cbor_id")]
        placement: PlacementId,
    },
    /// Flags of one member on a line of a group were set or taken away.
    #[n(75)]
    MemberFlags {
        /// Who.
        #[cbor(n(0), with = "cbor_id")]
        user: UserId,
        /// Which line.
        #[cbor(n(1), with = "cbor_id")]
        placement: PlacementId,
        /// Which flags.
        #[n(2)]
        flags: Vec<String>,
        /// Set, or taken away.
        #[n(3)]
        set: bool,
    },
    /// A line of a group is gone from the view of one member.
    #[n(76)]
    MemberExpunge {
        /// Who.
        #[cbor(n(0), with = "cbor_id")]
        user: UserId,
        /// Which line.
        #[cbor(n(1), with = "cbor_id")]
        placement: PlacementId,
    },
    /// A sealed record of a user, or a newer version of one.
    #[n(40)]
    PutRecord {
        /// Whose.
        #[cbor(n(0), with = "cbor_id")]
        user: UserId,
        /// Which.
        #[n(1)]
        record: RecordId,
        /// What sort of record, as `store::RecordKind::number` writes it.
        #[n(2)]
        kind: u8,
        /// When, in days since 1970-01-01, UTC.
        #[n(3)]
        day: i32,
        /// The sealed bytes. Empty once a later write to the record took their place.
        #[cbor(n(4), with = "minicbor::bytes")]
        sealed: Vec<u8>,
    },
    /// A sealed record is gone, unless a later write brings one of that id again.
    #[n(41)]
    RemoveRecord {
        /// Whose.
        #[cbor(n(0), with = "cbor_id")]
        user: UserId,
        /// Which.
        #[n(1)]
        record: RecordId,
    },
    /// An identity certificate of a user that stays known, the current one or an earlier one.
    #[n(20)]
    KeepIdentity {
        /// Whose.
        #[cbor(n(0), with = "cbor_id")]
        user: UserId,
        /// Its id: see `id::identity_id`.
        #[n(1)]
        identity: KeysetId,
        /// The certificate, as OpenPGP packets.
        #[cbor(n(2), with = "minicbor::bytes")]
        certificate: Vec<u8>,
    },
    /// How a user's keysets are renewed.
    #[n(21)]
    PutRotation {
        /// Whose.
        #[cbor(n(0), with = "cbor_id")]
        user: UserId,
        /// CBOR of `keysets::RotationPolicy`.
        #[cbor(n(1), with = "minicbor::bytes")]
        record: Vec<u8>,
    },
}

/// What is known of a user in clear.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct UserRecord {
    /// Login name: lower-case, unique in the exchange.
    #[n(0)]
    pub name: String,
    /// The user's addresses, the main one first, each `local@domain`.
    #[n(1)]
    pub addresses: Vec<String>,
    /// Logins are refused; mail is still taken.
    #[n(2)]
    pub disabled: bool,
}

/// The SDK's ids as CBOR byte strings.
pub mod cbor_id {
    use minicbor::bytes::ByteArray;
    use minicbor::decode::Error;
    use minicbor::encode as cbor;
    use minicbor::{Decoder, Encoder};

    /// An id of 16 bytes.
    pub trait Id16: Sized {
        /// The bytes.
        fn to_bytes(&self) -> [u8; 16];
        /// From the bytes.
        fn from_bytes(bytes: [u8; 16]) -> Self;
    }

    macro_rules! id16 {
        ($($name:ident)*) => {$(
            impl Id16 for mesyx_sdk::$name {
                fn to_bytes(&self) -> [u8; 16] {
                    self.0
                }
                fn from_bytes(bytes: [u8; 16]) -> Self {
                    Self(bytes)
                }
            }
        )*};
    }
    id16!(UserId MailboxId MessageId PlacementId);

    /// Writes 16 bytes.
    ///
    /// # Errors
    /// As the writer's.
    pub fn encode<C, I: Id16, W: cbor::Write>(
        id: &I,
        encoder: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), cbor::Error<W::Error>> {
        encoder.bytes(&id.to_bytes())?.ok()
    }

    /// Reads 16 bytes.
    ///
    /// # Errors
    /// Where there are not exactly 16.
    pub fn decode<'b, C, I: Id16>(decoder: &mut Decoder<'b>, context: &mut C) -> Result<I, Error> {
        decoder.decode_with::<C, ByteArray<16>>(context).map(|bytes| I::from_bytes(bytes.into()))
    }
}
