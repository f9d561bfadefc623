//! The store: sealed messages, mailboxes, users, and the log of operations.
//!
//! [`Store`] is all that the core asks of a backend. A write is one [`Write`]: it is resolved against the present state,
//! turned into operations, applied by one function, and durable together with its log entries when
//! [`Store::write`] resolves. Writes that wait at the same time are committed as one group; each succeeds or
//! fails for itself, whole or not at all.

mod chat;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod queue;
mod secret_keys;
mod sqlite;

pub use chat::{
    CheckpointWrite, GroupKey, GroupWrite, LineNumbers, LineRange, NewConversation, Speaking, StoredGroup, StoredLine,
    Then, Told,
};
pub use queue::{
    Hold, JobChange, JobEnd, JobLater, NewJob, QueueProgress, QueueTotals, Queued, QueuedMessage, StoredJob, Submission,
};
pub use secret_keys::{Held, KeyWrite, KeysetMove, Resealed, SealedTo, SealedUse, Shown};
pub use sqlite::{Options, SqliteStore};

use crate::id::{InstanceId, JobId, KeysetId, RecordId, SessionKeyId, SlotId};
use crate::operation::{LogEntry, Stamp, UserRecord};
use crate::seal::{PartName, Sealed, SealedMessage, SealedSessionKey};
use async_trait::async_trait;
use mesyx_sdk::{
    Changes, Copied, Flag, FlagChange, FlagsStored, Mailbox, MailboxId, MailboxName, MailboxStatus, MessageId, ModSeq,
    Role, Snapshot, Uid, UserId,
};
use std::sync::Arc;
use tokio::sync::{broadcast, oneshot};

/// A backend. Calls may be made from any task, side by side.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Makes one change durable.
    ///
    /// Dropping the future does not undo a change that was queued.
    ///
    /// # Errors
    /// The change was refused, or the backend failed; either way nothing of it is there.
    async fn write(&self, write: Write) -> Result<Written, StoreError> {
        let answer = self.enqueue(write).await?;
        answer.await.map_err(|_| StoreError::Backend("the writer stopped: see the log".to_owned()))?
    }

    /// Puts one change in its place among all; the answer comes when it is durable. What is enqueued later is done later.
    ///
    /// # Errors
    /// As [`Store::write`]; those of the change itself come with the answer.
    async fn enqueue(&self, write: Write) -> Result<oneshot::Receiver<Result<Written, StoreError>>, StoreError>;

    /// Every user, with keysets and identity; read once at start and after [`Event::Directory`].
    async fn users(&self) -> Result<Vec<StoredUser>, StoreError>;

    /// A user's slots and wrapped secret keys; empty on an instance that has no such secrets.
    async fn secrets(&self, user: UserId) -> Result<StoredSecrets, StoreError>;

    /// A user's mailboxes, sorted by name (real ones only).
    async fn mailboxes(&self, user: UserId) -> Result<Vec<Mailbox>, StoreError>;

    /// The names that a user subscribed to, sorted.
    async fn subscriptions(&self, user: UserId) -> Result<Vec<MailboxName>, StoreError>;

    /// A mailbox's numbers. Every call with a mailbox names its user too, and finds nothing in another's.
    async fn status(&self, user: UserId, mailbox: MailboxId) -> Result<MailboxStatus, StoreError>;

    /// All entries of a mailbox, in the order of their UIDs (`recent_from` as it stands, nothing claimed).
    async fn snapshot(&self, user: UserId, mailbox: MailboxId) -> Result<Snapshot, StoreError>;

    /// What changed after `since`; no disk is read where nothing did.
    async fn changes(&self, user: UserId, mailbox: MailboxId, since: ModSeq) -> Result<Changes, StoreError>;

    /// The sealed summaries of messages in the order of `uids`, passing over those that are not there.
    async fn summaries(&self, user: UserId, mailbox: MailboxId, uids: &[Uid]) -> Result<Vec<StoredPart>, StoreError>;

    /// The sealed bodies of messages in the order of `uids`; stops early once `max_bytes` are gathered, but never before the first.
    async fn bodies(
        &self,
        user: UserId,
        mailbox: MailboxId,
        uids: &[Uid],
        max_bytes: u64,
    ) -> Result<Vec<StoredPart>, StoreError>;

    /// A sealed session key.
    async fn session_key(&self, user: UserId, id: SessionKeyId) -> Result<Arc<SealedSessionKey>, StoreError>;

    /// What instance `of` did after its entry number `after`, at most `limit` entries, in order.
    async fn log(&self, of: InstanceId, after: u64, limit: usize) -> Result<Vec<LogEntry>, StoreError>;

    /// A service secret or other named value of this instance, sealed under the instance key by the caller.
    async fn value(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// A user's sealed records of one kind, the oldest write first; none for a user who is not there.
    async fn records(&self, user: UserId, kind: RecordKind) -> Result<Vec<StoredRecord>, StoreError>;

    /// One sealed record of a user.
    async fn record(&self, user: UserId, record: RecordId) -> Result<Option<StoredRecord>, StoreError>;

    /// How many messages are sealed to each of a user's keysets, by keyset id. Reads an index, no message.
    async fn keyset_use(&self, user: UserId) -> Result<Vec<KeysetUse>, StoreError>;

    /// Whether a keyset of this id was removed, so that none can have the id again.
    async fn keyset_removed(&self, keyset: KeysetId) -> Result<bool, StoreError>;
    /// A value that this instance keeps for a while, by its hash.
    async fn cached(&self, hash: [u8; 32]) -> Result<Option<Vec<u8>>, StoreError>;
    /// Jobs of this instance that are due at `until` (in seconds since 1970), in the order of their due times and numbers,
    /// after the one with these. Those that the operator holds are never due.
    async fn due_jobs(&self, until: i64, after: (i64, i64), limit: usize) -> Result<Vec<StoredJob>, StoreError>;

    /// When the first job is due that is due after `after`, in seconds since 1970.
    async fn next_due(&self, after: i64) -> Result<Option<i64>, StoreError>;

    /// All jobs, held ones too, in the order in which they came, after the one of number `after`.
    async fn jobs(&self, after: i64, limit: usize) -> Result<Vec<StoredJob>, StoreError>;

    /// Those of the wanted jobs that are there.
    async fn these_jobs(&self, wanted: &[JobId]) -> Result<Vec<StoredJob>, StoreError>;

    /// The sealed content of a queued message, and those of the wanted jobs that are there, as of one moment. `None` once
    /// its last job is done.
    async fn queued(&self, message: MessageId, wanted: &[JobId]) -> Result<Option<Queued>, StoreError>;

    /// Counts of the queue.
    async fn queue_totals(&self) -> Result<QueueTotals, StoreError>;

    /// Everything that changes from now on. Sent after the commit; a slow receiver is told that it lagged.
    fn events(&self) -> broadcast::Receiver<Event>;

    /// Writes a consistent copy of everything, blobs included, into the empty directory `to`, while serving.
    async fn backup(&self, to: &std::path::Path) -> Result<(), StoreError>;

    /// The sealed parts of messages by their ids, in that order, whatever mailboxes they are in; the UIDs say 0. Messages that are not
    /// there are passed over. Of bodies it stops early once `max_bytes` are gathered, but never before the first.
    async fn parts_of(
        &self,
        user: UserId,
        messages: &[MessageId],
        name: PartName,
        max_bytes: u64,
    ) -> Result<Vec<StoredPart>, StoreError>;

    /// At most `limit` messages sealed to a keyset, about in the order in which they came here, after the one at `after`
    /// (zeros: from the first).
    async fn sealed_to(
        &self,
        user: UserId,
        keyset: KeysetId,
        after: (u64, u64),
        limit: u32,
    ) -> Result<Vec<SealedTo>, StoreError>;

    /// Keysets whose messages are on their way to be shown otherwise: begun by [`KeyWrite::Move`], and not ended.
    async fn keyset_moves(&self) -> Result<Vec<KeysetMove>, StoreError>;

    /// The bodies of lines of a conversation (or of a group, as this user sees it), in the order of their UIDs.
    async fn lines(&self, user: UserId, mailbox: MailboxId, range: LineRange) -> Result<Vec<StoredLine>, StoreError>;

    /// How far a conversation has come.
    async fn line_numbers(&self, user: UserId, mailbox: MailboxId) -> Result<LineNumbers, StoreError>;

    /// The number of a message in a mailbox.
    async fn uid_of(&self, user: UserId, mailbox: MailboxId, message: MessageId) -> Result<Option<Uid>, StoreError>;

    /// Every group, or one.
    async fn groups(&self, only: Option<UserId>) -> Result<Vec<StoredGroup>, StoreError>;

    /// The keys of groups' epochs that are sealed to a keyset of a user: group, and the sealed key.
    async fn group_keys(
        &self,
        user: UserId,
        keyset: KeysetId,
    ) -> Result<Vec<(UserId, Arc<SealedSessionKey>)>, StoreError>;

    /// What a bridge keeps under the hash of a name, as it was sealed.
    async fn checkpoint(&self, bridge: &str, hash: [u8; 32]) -> Result<Option<Vec<u8>>, StoreError>;

    /// The sealed names of all that a bridge keeps, in no order.
    async fn checkpoints(&self, bridge: &str) -> Result<Vec<Vec<u8>>, StoreError>;

    /// A user's messages by keyset and by the keys that they are sealed to. Reads every session key, no message.
    async fn sealed_use(&self, user: UserId) -> Result<Vec<SealedUse>, StoreError>;

    /// Whether any message that is sealed to a keyset is shown sealed, under the keyset's name.
    async fn shows_sealed(&self, user: UserId, keyset: KeysetId) -> Result<bool, StoreError>;

    /// Secret keys of keysets of which it is not known what they open, as earlier formats wrote them.
    async fn unlisted_secret_keys(&self) -> Result<Vec<(UserId, StoredSecretKey)>, StoreError>;

    /// Counts for `status` and the metrics.
    async fn totals(&self) -> Result<Totals, StoreError>;

    /// Finishes what was queued and closes; later calls fail with [`StoreError::Closed`].
    async fn close(&self);
}

/// One change, as it is asked for.
#[derive(Debug)]
#[non_exhaustive]
pub enum Write {
    /// A new user with the standard mailboxes (subscribed), keysets, identity, slots and wrapped secret keys, at once. → [`Written::Done`]
    AddUser(Box<NewUser>),
    /// A newer record of a user. → [`Written::Done`]
    PutUser(UserId, UserRecord),
    /// A user and everything of theirs goes. → [`Written::Done`]
    RemoveUser(UserId),
    /// A keyset, or a newer record of one; with its wrapped secret key, where there is one. → [`Written::Done`]
    PutKeyset {
        /// Whose.
        user: UserId,
        /// Which.
        keyset: KeysetId,
        /// Encoded public record.
        record: Vec<u8>,
        /// Wrapped secret key.
        secret: Option<Vec<u8>>,
    },
    /// Slots and wrapped secret keys replaced, all at once; what is `None` stays as it is. → [`Written::Done`]
    PutSecrets {
        /// Whose.
        user: UserId,
        /// Slots to add or replace.
        put_slots: Vec<StoredSlot>,
        /// Slots to remove.
        remove_slots: Vec<SlotId>,
        /// All wrapped secret keys, replaced.
        secret_keys: Option<Vec<StoredSecretKey>>,
    },
    /// Keys of a user change, all in one: identity, keysets, rotation, slots, wrapped secret keys. → [`Written::Done`]
    PutKeys(Box<KeyChange>),
    /// A message comes to one or more users, each copy in one mailbox. With `dedup` known already, nothing is done. → [`Written::Delivered`]
    Deliver {
        /// One for each user.
        copies: Vec<Placing>,
        /// HMAC of what the origin calls the message.
        dedup: Option<[u8; 32]>,
    },
    /// A user submitted a message for recipients elsewhere, and perhaps for some here: all or nothing. → [`Written::Delivered`]
    Submit(Box<Submission>),
    /// What came of attempts to bring messages out. → [`Written::Done`]
    Progress(Box<QueueProgress>),
    /// The operator holds jobs, releases them, or has them tried at once. Local. → [`Written::Done`]
    ChangeJobs {
        /// Which; those that are not there are passed over.
        jobs: Vec<JobId>,
        /// How.
        change: JobChange,
        /// When they become due, in seconds since 1970.
        due: i64,
    },
    /// Certificates may have come that a user's jobs wait for. Local. → [`Written::Done`]
    KeysCame {
        /// Whose jobs.
        user: UserId,
        /// When they become due, in seconds since 1970, where that is not earlier.
        due: i64,
    },
    /// Messages are added to a mailbox, in order. → [`Written::Placed`]
    Append(Vec<Placing>),
    /// Flags change. → [`Written::Flags`]
    Flags {
        /// Whose.
        user: UserId,
        /// Where.
        mailbox: MailboxId,
        /// Which messages.
        uids: Vec<Uid>,
        /// How.
        change: FlagChange,
        /// See `mesyx_sdk::Session::store_flags`.
        unchanged_since: Option<ModSeq>,
    },
    /// Messages are copied, or moved. → [`Written::Copied`]
    Copy {
        /// Whose.
        user: UserId,
        /// From where.
        from: MailboxId,
        /// Which messages.
        uids: Vec<Uid>,
        /// Where to.
        to: MailboxId,
        /// Whether they leave the first.
        remove: bool,
    },
    /// Messages with `\Deleted` go. → [`Written::Expunged`]
    Expunge {
        /// Whose.
        user: UserId,
        /// From where.
        mailbox: MailboxId,
        /// Only these.
        uids: Option<Vec<Uid>>,
    },
    /// A mailbox is made. → [`Written::Done`]
    CreateMailbox {
        /// Whose.
        user: UserId,
        /// Its id.
        mailbox: MailboxId,
        /// Its name.
        name: MailboxName,
        /// Its special use.
        role: Option<Role>,
    },
    /// A mailbox and those below it get new names; INBOX gives its messages to a new mailbox `fresh`. → [`Written::Done`]
    RenameMailbox {
        /// Whose.
        user: UserId,
        /// The old name.
        name: MailboxName,
        /// The new name.
        new: MailboxName,
        /// The id of the new mailbox, where INBOX is renamed.
        fresh: MailboxId,
    },
    /// A mailbox goes with its messages. → [`Written::Done`]
    DeleteMailbox {
        /// Whose.
        user: UserId,
        /// Which.
        name: MailboxName,
    },
    /// A subscription comes or goes. → [`Written::Done`]
    Subscribe {
        /// Whose.
        user: UserId,
        /// Which name.
        name: MailboxName,
        /// Subscribed, or not any more.
        subscribed: bool,
    },
    /// Recent messages are told to the session that asks: `recent_from` moves to `uid_next`. Local. → [`Written::RecentFrom`]
    ClaimRecent {
        /// Whose.
        user: UserId,
        /// Where.
        mailbox: MailboxId,
    },
    /// A slot was used on this day; writes only where the day is new. Local. → [`Written::Done`]
    SlotUsed {
        /// Whose.
        user: UserId,
        /// Which.
        slot: SlotId,
        /// Days since 1970-01-01, UTC.
        day: i32,
    },
    /// A sealed record of a user, or a newer version of one. → [`Written::Done`]
    PutRecord(NewRecord),
    /// Sealed records of a user go; those that are not there are passed over. → [`Written::Done`]
    RemoveRecords {
        /// Whose.
        user: UserId,
        /// Which.
        records: Vec<RecordId>,
    },
    /// What happens to secret keys, and to the messages under them. → see [`KeyWrite`]
    Keys(KeyWrite),
    /// A named value of this instance comes, changes, or goes (`None`). Local. → [`Written::Done`]
    PutValue(String, Option<Vec<u8>>),
    /// A value that this instance keeps for a while comes or changes; those written before the day `oldest` go, and the oldest beyond `most`.
    /// Local. → [`Written::Done`]
    PutCached {
        /// What it is kept under.
        hash: [u8; 32],
        /// Days since 1970-01-01, UTC.
        day: i32,
        /// The value, sealed by the caller.
        value: Vec<u8>,
        /// The first day whose values stay.
        oldest: i32,
        /// Most values.
        most: u32,
    },
    /// A line is said. → [`Written::Spoken`]
    Speak(Box<Speaking>),
    /// Messages up to this UID get the flag `\\Seen`. → [`Written::Done`]
    MarkRead {
        /// Whose.
        user: UserId,
        /// Where.
        mailbox: MailboxId,
        /// Up to where.
        up_to: Uid,
    },
    /// A group changes. → [`Written::Done`]
    Group(Box<GroupWrite>),
    /// A bridge keeps something, or forgets it. Local. → [`Written::Done`]
    PutCheckpoint(CheckpointWrite),
    /// Operations of another instance, with the content that they place. Known ones are passed over. → [`Written::Done`]
    Merge {
        /// The entries.
        entries: Vec<LogEntry>,
        /// Content that they refer to and that is not here yet, with the proof of who took it in.
        messages: Vec<(SealedMessage, Arc<Attestation>)>,
    },
}

/// A sealed message and the mailbox that it goes to.
#[derive(Debug, Clone)]
pub struct Placing {
    /// The message, sealed for the mailbox's user.
    pub message: SealedMessage,
    /// Where to.
    pub mailbox: MailboxId,
    /// Its flags.
    pub flags: Vec<Flag>,
}

/// A new user.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// Who.
    pub user: UserId,
    /// Name and addresses.
    pub record: UserRecord,
    /// Public identity certificate.
    pub identity: Vec<u8>,
    /// Keysets: id and encoded public record.
    pub keysets: Vec<(KeysetId, Vec<u8>)>,
    /// Slots and wrapped secret keys.
    pub secrets: StoredSecrets,
    /// How keysets are renewed: CBOR of `keysets::RotationPolicy`.
    pub rotation: Option<Vec<u8>>,
}

/// A change of a user's keys, done whole or not at all. What is empty or `None` stays as it is.
#[derive(Debug, Clone)]
pub struct KeyChange {
    /// Whose.
    pub user: UserId,
    /// The identity certificate that is current from now on.
    pub identity: Option<Vec<u8>>,
    /// Identity certificates to keep known, each under the id that its secret key stands under once it is not current any more.
    pub keep_identities: Vec<(KeysetId, Vec<u8>)>,
    /// Keysets that come or change: id and encoded public record. Refused for a keyset that was removed.
    pub put_keysets: Vec<(KeysetId, Vec<u8>)>,
    /// Keysets that go, with their wrapped secret keys. Refused while messages are sealed to one.
    pub remove_keysets: Vec<KeysetId>,
    /// How keysets are renewed: CBOR of `keysets::RotationPolicy`.
    pub rotation: Option<Vec<u8>>,
    /// Slots to add or replace.
    pub put_slots: Vec<StoredSlot>,
    /// Slots to remove.
    pub remove_slots: Vec<SlotId>,
    /// Removes every wrapped secret key before those of `put_secret_keys` come.
    pub drop_secret_keys: bool,
    /// Wrapped secret keys to remove.
    pub remove_secret_keys: Vec<Option<KeysetId>>,
    /// Wrapped secret keys to add or replace.
    pub put_secret_keys: Vec<StoredSecretKey>,
    /// Keysets whose messages are shown sealed from now on, as by [`KeyWrite::Move`].
    pub show_sealed: Vec<KeysetId>,
}

impl KeyChange {
    /// A change of nothing yet.
    #[must_use]
    pub const fn of(user: UserId) -> Self {
        Self {
            user,
            identity: None,
            keep_identities: Vec::new(),
            put_keysets: Vec::new(),
            remove_keysets: Vec::new(),
            rotation: None,
            put_slots: Vec::new(),
            remove_slots: Vec::new(),
            drop_secret_keys: false,
            remove_secret_keys: Vec::new(),
            put_secret_keys: Vec::new(),
            show_sealed: Vec::new(),
        }
    }
}

/// How many messages are sealed to one keyset of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeysetUse {
    /// Which keyset; it may be removed, or never have been known here.
    pub keyset: KeysetId,
    /// Messages, at least one.
    pub messages: u64,
    /// Their padded sizes added up, in bytes.
    pub bytes: u64,
    /// The days of the first and of the last internal date (days since 1970-01-01, UTC).
    pub days: (i32, i32),
}

/// What a change came to.
#[derive(Debug)]
#[non_exhaustive]
pub enum Written {
    /// It is done.
    Done,
    /// A message was delivered, or had been before.
    Delivered {
        /// Nothing was stored: `dedup` was known.
        duplicate: bool,
    },
    /// A line was said, or had been before.
    Spoken {
        /// Nothing was stored: `dedup` was known.
        duplicate: bool,
    },
    /// Messages were added: the mailbox's UIDVALIDITY and the UIDs, in order.
    Placed(mesyx_sdk::Appended),
    /// Flags were changed.
    Flags(FlagsStored),
    /// Messages were copied or moved.
    Copied(Copied),
    /// Messages went.
    Expunged(Vec<Uid>),
    /// Messages from this UID on were recent until now.
    RecentFrom(Uid),
    /// Messages are shown otherwise.
    Reshown {
        /// How many.
        messages: u32,
        /// What to hand to the next [`KeyWrite::Reshow`]; `None` where all session keys were looked at.
        next: Option<u64>,
    },
    /// Messages were sealed anew: how many of those handed in.
    Resealed(u32),
}

/// What sort of sealed record it is: all that stands in clear of one beside its id, size and day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKind(u8);

impl RecordKind {
    /// A correspondent, with certificates and policy.
    pub const CONTACT: Self = Self(1);
    /// A certificate of a correspondent that an instance came across while it had no session to tell: from an Autocrypt header, from
    /// an attachment, from a web key directory.
    pub const SEEN: Self = Self(2);
    /// What came of checking the signature of a message.
    pub const VERDICT: Self = Self(3);
    /// How a user wants mail to be protected.
    pub const PREFERENCES: Self = Self(4);
    /// Which conversation a mailbox is.
    pub const CONVERSATION: Self = Self(5);
    /// Something about a group: its name, topic, a mode. Sealed under the instance key.
    pub const GROUP: Self = Self(6);

    /// As the store and operations write it.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The kind of that number, also where this program does not know it.
    #[must_use]
    pub const fn of_number(number: u8) -> Self {
        Self(number)
    }
}

/// A record to store.
#[derive(Debug, Clone)]
pub struct NewRecord {
    /// Whose.
    pub user: UserId,
    /// Which.
    pub record: RecordId,
    /// What sort.
    pub kind: RecordKind,
    /// When, in days since 1970-01-01, UTC.
    pub day: i32,
    /// The sealed bytes, 1 to 262,144.
    pub sealed: Vec<u8>,
    /// Most records of this kind; where a new one would be one more, the oldest go.
    pub most: Option<u32>,
    /// Do nothing where there is a record of that id already.
    pub only_new: bool,
}

/// A sealed record as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Which.
    pub record: RecordId,
    /// What sort.
    pub kind: RecordKind,
    /// When, in days since 1970-01-01, UTC.
    pub day: i32,
    /// The write that holds.
    pub stamp: Stamp,
    /// The sealed bytes.
    pub sealed: Vec<u8>,
}

/// A user as stored.
#[derive(Debug, Clone)]
pub struct StoredUser {
    /// Who.
    pub user: UserId,
    /// Name and addresses.
    pub record: UserRecord,
    /// Public identity certificate.
    pub identity: Vec<u8>,
    /// Keysets, those that are retired too.
    pub keysets: Vec<(KeysetId, Vec<u8>)>,
    /// Identity certificates that are kept, the latest first; the current one may be among them.
    pub identities: Vec<(KeysetId, Vec<u8>)>,
    /// How keysets are renewed: CBOR of `keysets::RotationPolicy`.
    pub rotation: Option<Vec<u8>>,
}

/// A user's secrets as stored; nothing here opens anything without a password.
#[derive(Debug, Clone, Default)]
pub struct StoredSecrets {
    /// The slots.
    pub slots: Vec<StoredSlot>,
    /// The wrapped secret keys.
    pub secret_keys: Vec<StoredSecretKey>,
}

/// One slot: the master key, wrapped under one password.
#[derive(Debug, Clone)]
pub struct StoredSlot {
    /// Which.
    pub id: SlotId,
    /// Kind, label, parameters, wrapped master key: CBOR of `keys::Slot`.
    pub record: Vec<u8>,
    /// The last day it was used.
    pub last_used: Option<i32>,
}

/// One secret key, wrapped under the master key.
#[derive(Debug, Clone)]
pub struct StoredSecretKey {
    /// Of which keyset; `None` is the identity.
    pub keyset: Option<KeysetId>,
    /// The wrapped key.
    pub wrapped: Vec<u8>,
    /// What is in it, told without a password. Empty where that is not known: then it counts as opening all that is sealed to the keyset.
    pub held: Vec<Held>,
}

/// One sealed part of a message in a mailbox, with the proof of who took it in.
#[derive(Debug, Clone)]
pub struct StoredPart {
    /// The message's number in the mailbox asked.
    pub uid: Uid,
    /// Which message.
    pub message: MessageId,
    /// The session key that opens it; its keyset is the message's.
    pub session_key: Arc<SealedSessionKey>,
    /// How it is shown.
    pub shown: Shown,
    /// The day of the message's internal date (days since 1970-01-01, UTC).
    pub day: i32,
    /// Where it is a line of a group, the group: the line is sealed for that, under an epoch's key (the id of `session_key`) that
    /// `session_key` seals for the user asked.
    pub group: Option<UserId>,
    /// The sealed bytes.
    pub part: Sealed,
    /// The instance's signature that covers this part.
    pub attestation: Arc<Attestation>,
}

/// The signature by which an instance says that it took a group of sealed messages in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    /// Which instance.
    pub instance: InstanceId,
    /// SHA-256 of each sealed part in the group: summary and body of each message, as [`part_digest`] makes them, 32 bytes each.
    pub digests: Vec<u8>,
    /// Ed25519 over [`Attestation::SIGNED_PREFIX`] and `digests`.
    pub signature: Vec<u8>,
}

impl Attestation {
    /// What stands before the digests in the signed bytes, so that the key's other signatures can't be mistaken for this.
    pub const SIGNED_PREFIX: &'static [u8] = b"mesyx attestation 1\0";
}

/// Signs for the instance.
pub trait Attest: Send + Sync + 'static {
    /// Which instance this is.
    fn instance(&self) -> InstanceId;
    /// Ed25519 over `bytes`.
    fn sign(&self, bytes: &[u8]) -> Vec<u8>;
}

/// Something has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// In this mailbox, up to this modification sequence.
    Mailbox(UserId, MailboxId, ModSeq),
    /// A user's mailboxes or subscriptions.
    MailboxList(UserId),
    /// Users or keysets.
    Directory,
    /// A user's slots or secret keys.
    Secrets(UserId),
    /// A user's sealed records.
    Records(UserId),
    /// What a user has read in this mailbox, otherwise than by messages that came read.
    Seen(UserId, MailboxId),
    /// A group: who belongs to it, or its records.
    Group(UserId),
}

/// Counts over the whole store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Users.
    pub users: u64,
    /// Messages (content, each user's copy for itself).
    pub messages: u64,
    /// Sealed bytes of messages.
    pub bytes: u64,
    /// Entries in the operation log.
    pub log_entries: u64,
}

/// Why the store did not do it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no such user, mailbox or message: which.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// Something of that name is there already: what.
    #[error("{0} exists already")]
    Exists(&'static str),
    /// The change makes no sense: why.
    #[error("{0}")]
    Invalid(&'static str),
    /// The message is sealed to a keyset that was removed meanwhile; seal it anew.
    #[error("the keyset that the message is sealed to was removed")]
    KeysetGone,
    /// More than is allowed: of what.
    #[error("{0}; try again later")]
    Limit(&'static str),
    /// The disk is full.
    #[error("the disk is full")]
    Full,
    /// Another process has the store open: which directory.
    #[error("the store in {0} is in use by another process: stop that one first")]
    InUse(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// The store was written by a newer Mesyx.
    #[error("the store has format {found}, this program knows formats up to {known}: use the newer program")]
    Newer {
        /// Its format.
        found: u32,
        /// The newest that this program knows.
        known: u32,
    },
    /// The backend failed: what it said.
    #[error("the store failed: {0}")]
    Backend(String),
}

/// The digest of one sealed part, as an [`Attestation`] holds it: it binds the sealed bytes to user, message and part name.
#[must_use]
pub fn part_digest(user: UserId, message: MessageId, name: PartName, part: &Sealed) -> [u8; 32] {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(user.as_bytes());
    context.update(message.as_bytes());
    context.update(&[name as u8]);
    context.update(&part.0);
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}
