//! What the store is asked for conversations, groups, and what bridges keep.

use super::{NewJob, NewRecord, Placing, QueuedMessage, StoredPart, StoredRecord};
use crate::id::{KeysetId, RecordId, SessionKeyId};
use bytes::Bytes;
use mesyx_sdk::{MailboxId, MailboxName, Uid, UserId};
use std::fmt;

/// Something that a bridge keeps between its lives.
#[derive(Debug)]
pub struct CheckpointWrite {
    /// The bridge.
    pub bridge: String,
    /// Keyed hash of the name.
    pub hash: [u8; 32],
    /// Name and value, each sealed by the caller; `None` takes it away.
    pub sealed: Option<(Vec<u8>, Vec<u8>)>,
    /// Most things that the bridge may keep.
    pub most: u32,
}

/// A line of a conversation: all of it is done, or nothing.
#[derive(Debug)]
pub struct Speaking {
    /// Mailboxes of conversations that are made first, where they are not there.
    pub make: Vec<NewConversation>,
    /// The line, sealed for each reader, or once for a group.
    pub copies: Vec<Placing>,
    /// HMAC of what the origin calls it; known already, nothing is done.
    pub dedup: Option<[u8; 32]>,
    /// What goes to a network outside: content, jobs, and most jobs that the user may have waiting.
    pub outbound: Option<(QueuedMessage, Vec<NewJob>, u64)>,
    /// Who says it, in a group: the line counts as read by them.
    pub author: Option<UserId>,
    /// What changes in a group with the line that tells of it, done before the line.
    pub change: Option<Box<GroupWrite>>,
    /// Called once it is durable, before anything that is written later.
    pub then: Option<Then>,
}

/// A mailbox of a conversation, which has a name that says nothing and a sealed record that says all.
#[derive(Debug)]
pub struct NewConversation {
    /// Its id.
    pub mailbox: MailboxId,
    /// Its name in clear.
    pub name: MailboxName,
    /// What it is about; whose it is.
    pub record: NewRecord,
}

/// What is done with the UIDs that lines got, one for each copy, right after their commit. Must be quick and must not block: later
/// writes wait for it.
pub struct Then(pub Told);

/// Told the UIDs of what was stored, once.
pub type Told = Box<dyn FnOnce(&[Uid]) + Send>;

impl fmt::Debug for Then {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Then")
    }
}

/// A change of a group, done whole or not at all.
#[derive(Debug)]
pub struct GroupWrite {
    /// Which; it is made where it is not there.
    pub group: UserId,
    /// Ranks by user; `None` takes out.
    pub members: Vec<(UserId, Option<u8>)>,
    /// Records to put.
    pub records: Vec<NewRecord>,
    /// Records to remove.
    pub remove_records: Vec<RecordId>,
    /// The key of an epoch, sealed for each member.
    pub keys: Vec<GroupKey>,
    /// Who gives up all lines of the group seen so far. Lines that nobody sees any more are erased, and the group with its last.
    pub forget: Option<UserId>,
}

impl GroupWrite {
    /// A change of nothing yet.
    #[must_use]
    pub const fn of(group: UserId) -> Self {
        Self {
            group,
            members: Vec::new(),
            records: Vec::new(),
            remove_records: Vec::new(),
            keys: Vec::new(),
            forget: None,
        }
    }
}

/// The key of an epoch, sealed for one member.
#[derive(Debug, Clone)]
pub struct GroupKey {
    /// Which epoch.
    pub epoch: SessionKeyId,
    /// Whose copy.
    pub user: UserId,
    /// To which keyset.
    pub keyset: KeysetId,
    /// PKESK packets.
    pub packets: Bytes,
}

/// A group as stored.
#[derive(Debug, Clone)]
pub struct StoredGroup {
    /// Its id.
    pub group: UserId,
    /// Its mailbox.
    pub mailbox: MailboxId,
    /// Members by user, with the numbers of their ranks.
    pub members: Vec<(UserId, u8)>,
    /// Users who see lines of it, members or not.
    pub readers: Vec<UserId>,
    /// Its records.
    pub records: Vec<StoredRecord>,
}

/// Which lines are wanted.
#[derive(Debug, Clone, Copy)]
pub struct LineRange {
    /// Only those with a higher UID.
    pub after: Uid,
    /// Only those with a lower UID.
    pub before: Uid,
    /// Whether the last of them are wanted, or the first.
    pub last: bool,
    /// At most so many.
    pub limit: u32,
    /// Stops early once so many bytes are gathered, but never before the first.
    pub max_bytes: u64,
}

/// The body of a line.
#[derive(Debug, Clone)]
pub struct StoredLine {
    /// The body.
    pub part: StoredPart,
    /// It has the flag `\Seen`.
    pub seen: bool,
}

/// How far a conversation has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LineNumbers {
    /// The first line; 0 where there is none.
    pub first: Uid,
    /// The last line; 0 where there is none.
    pub last: Uid,
    /// All lines up to this one were read.
    pub read: Uid,
}
