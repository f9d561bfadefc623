//! One logged-in user.

use crate::{
    Accepted, Address, ChatLine, Content, Conversation, ConversationInfo, Entry, Envelope, Error, Flag, Flags, Group,
    GroupChange, History, LiveFeed, MailAddress, Mailbox, MailboxId, MailboxName, MailboxStatus, ModSeq, Query,
    RecipientStatus, Role, SearchResult, Summary, Timestamp, Uid, UidValidity, UserId, chat,
};
use async_trait::async_trait;
use std::sync::Arc;
use tokio::sync::mpsc;

/// What a logged-in user may do: the grant `access`.
///
/// The user's keys stay open while a session lives, so drop it when the client goes. Calls may run side by side.
/// UIDs that are not there are passed over silently, as IMAP wants it; a mailbox that is not there is
/// [`crate::ErrorKind::NotFound`].
#[async_trait]
pub trait Session: Send + Sync + 'static {
    /// Whose session this is.
    fn user(&self) -> &User;

    /// Every mailbox of the user, sorted by name; names that only have mailboxes below them too.
    async fn mailboxes(&self) -> Result<Vec<Mailbox>, Error>;

    /// The names that the user subscribed to, sorted; they need not exist (RFC 3501, section 6.3.6).
    async fn subscriptions(&self) -> Result<Vec<MailboxName>, Error>;

    /// Adds a name to the subscriptions or takes it out; doing so twice is no error.
    async fn subscribe(&self, name: &MailboxName, subscribed: bool) -> Result<(), Error>;

    /// Makes a mailbox. Missing names above it come to be as names only.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Exists`]; [`crate::ErrorKind::OverQuota`] over the limit of mailboxes.
    async fn create_mailbox(&self, name: &MailboxName, role: Option<Role>) -> Result<MailboxId, Error>;

    /// Renames a mailbox and all below it. Renaming INBOX moves its messages to a new mailbox instead (RFC 3501, section 6.3.5).
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`], [`crate::ErrorKind::Exists`], [`crate::ErrorKind::Invalid`] (below itself).
    async fn rename_mailbox(&self, name: &MailboxName, new: &MailboxName) -> Result<(), Error>;

    /// Deletes a mailbox with its messages; mailboxes below it stay. INBOX can't be deleted.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`], [`crate::ErrorKind::Forbidden`].
    async fn delete_mailbox(&self, name: &MailboxName) -> Result<(), Error>;

    /// The mailbox's numbers, counted without opening anything.
    async fn status(&self, mailbox: MailboxId) -> Result<MailboxStatus, Error>;

    /// All entries of a mailbox in the order of their UIDs. With `claim_recent`, messages that no session was told of
    /// as recent are now told to this one (RFC 3501, section 2.3.2).
    async fn snapshot(&self, mailbox: MailboxId, claim_recent: bool) -> Result<Snapshot, Error>;

    /// What changed in a mailbox after the modification sequence `since`. Cheap where nothing did.
    async fn changes(&self, mailbox: MailboxId, since: ModSeq) -> Result<Changes, Error>;

    /// The summaries of messages, in the order of `uids`. A message that can't be opened has a summary that says so.
    ///
    /// May answer for fewer than asked for, from the front, so that the answer stays bounded; never for none while one is there.
    /// Ask again for the rest.
    async fn summaries(&self, mailbox: MailboxId, uids: &[Uid]) -> Result<Vec<(Uid, Arc<Summary>)>, Error>;

    /// The exact bytes of messages, in the order of `uids`, opened and checked whole before any is given.
    ///
    /// May answer for fewer than asked for, as [`Session::summaries`].
    async fn bodies(&self, mailbox: MailboxId, uids: &[Uid]) -> Result<Vec<(Uid, Content)>, Error>;

    /// Changes flags. With `unchanged_since`, messages changed after that are left alone and named (RFC 7162, section 3.1.3).
    async fn store_flags(
        &self,
        mailbox: MailboxId,
        uids: &[Uid],
        change: &FlagChange,
        unchanged_since: Option<ModSeq>,
    ) -> Result<FlagsStored, Error>;

    /// Adds messages to a mailbox, all or none, durable when it resolves. Sends nothing to anybody.
    async fn append(&self, mailbox: MailboxId, messages: Vec<Append>) -> Result<Appended, Error>;

    /// Copies messages with their flags, all or none.
    async fn copy(&self, from: MailboxId, uids: &[Uid], to: MailboxId) -> Result<Copied, Error>;

    /// Moves messages with their flags, all or none (RFC 6851).
    async fn move_messages(&self, from: MailboxId, uids: &[Uid], to: MailboxId) -> Result<Copied, Error>;

    /// Expunges messages that have `\Deleted`: those among `uids`, or all. Answers with the UIDs that went.
    async fn expunge(&self, mailbox: MailboxId, uids: Option<&[Uid]>) -> Result<Vec<Uid>, Error>;

    /// The UIDs of messages that match, in order.
    async fn search(&self, mailbox: MailboxId, query: &Query) -> Result<SearchResult, Error>;

    /// A feed of changes to the user's mailboxes, from now on. Dropped when the watcher is.
    async fn watch(&self) -> Result<Watcher, Error>;

    /// Whether the address is the user's own (aliases and subaddresses too), so that it may stand in MAIL FROM and From.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unavailable`] where nobody can tell now: no reason to refuse it for good.
    async fn may_send_as(&self, address: &MailAddress) -> Result<bool, Error>;

    /// What an address is to this user: whether [`Session::submit`] would take it.
    async fn recipient(&self, address: &Address) -> Result<RecipientStatus, Error>;

    /// Sends a message as this user: durable when it resolves, for all recipients or none.
    ///
    /// The envelope sender and every address in the From and Sender headers must be the user's own.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Forbidden`] for a foreign sender; as [`crate::Host::accept`].
    ///
    /// A line (style [`crate::Style::Instant`], with its conversation) to someone in the chat world or to a group goes the same way; the sender's
    /// own feeds tell of it too, under the envelope's id.
    async fn submit(&self, envelope: Envelope) -> Result<Accepted, Error>;

    /// The user's conversations, in no order.
    async fn conversations(&self) -> Result<Vec<ConversationInfo>, Error> {
        chat::none()
    }

    /// One conversation; made where there is none yet and `create` says so.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`]; a group that the user does not belong to is not found.
    async fn conversation(&self, conversation: &Conversation, create: bool) -> Result<ConversationInfo, Error> {
        let _ = (conversation, create);
        chat::none()
    }

    /// Lines of a conversation in their order, at most `limit` and at most 1,000.
    async fn history(&self, mailbox: MailboxId, wanted: History, limit: usize) -> Result<Vec<Arc<ChatLine>>, Error> {
        let _ = (mailbox, wanted, limit);
        chat::none()
    }

    /// The lines up to `up_to` have been read: they get the flag `\Seen`, and the user's other clients are told. Never takes a mark back.
    async fn mark_read(&self, mailbox: MailboxId, up_to: Uid) -> Result<(), Error> {
        let _ = (mailbox, up_to);
        chat::none()
    }

    /// What happens in the user's conversations, from now on.
    async fn live(&self) -> Result<LiveFeed, Error> {
        chat::none()
    }

    /// The groups that the user belongs to or may see (all but secret ones).
    async fn groups(&self) -> Result<Vec<Arc<Group>>, Error> {
        chat::none()
    }

    /// Changes a group as this user; answers with the group as it is then.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`], [`crate::ErrorKind::Forbidden`] (the text says which mode or rank forbids it),
    /// [`crate::ErrorKind::Invalid`], [`crate::ErrorKind::OverQuota`].
    async fn change_group(&self, group: &Address, change: GroupChange) -> Result<Arc<Group>, Error> {
        let _ = (group, change);
        chat::none()
    }
}

/// Who is logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user.
    pub id: UserId,
    /// The login name.
    pub name: String,
    /// The user's main address.
    pub address: MailAddress,
}

/// All of a mailbox at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// See [`UidValidity`].
    pub uid_validity: UidValidity,
    /// The UID that the next message gets at the least.
    pub uid_next: Uid,
    /// The mailbox's modification sequence; hand it to [`Session::changes`].
    pub highest_modseq: ModSeq,
    /// Messages with this UID or a higher one are recent to this session.
    pub recent_from: Uid,
    /// The messages in the order of their UIDs.
    pub entries: Vec<Entry>,
}

/// What changed in a mailbox.
#[derive(Debug, Clone)]
pub struct Changes {
    /// The mailbox's modification sequence now; hand it to the next call.
    pub highest_modseq: ModSeq,
    /// The UID that the next message gets at the least.
    pub uid_next: Uid,
    /// New and changed messages, in the order of their UIDs.
    pub changed: Vec<Entry>,
    /// UIDs that went, in order. May hold some that the caller never saw.
    pub vanished: Vec<Uid>,
    /// The mailbox itself is gone.
    pub deleted: bool,
}

/// How to change the flags of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlagChange {
    /// Exactly these.
    Set(Vec<Flag>),
    /// These too.
    Add(Vec<Flag>),
    /// These no more.
    Remove(Vec<Flag>),
}

/// How changing flags went.
#[derive(Debug, Clone, Default)]
pub struct FlagsStored {
    /// The messages as they are now, in the order of their UIDs; unchanged ones too.
    pub entries: Vec<Entry>,
    /// UIDs left alone because they changed after `unchanged_since`.
    pub modified: Vec<Uid>,
}

/// A message to add to a mailbox.
#[derive(Debug, Clone)]
pub struct Append {
    /// Its flags.
    pub flags: Vec<Flag>,
    /// Its internal date; chooses the keyset. `None`: now.
    pub internal_date: Option<Timestamp>,
    /// Its exact bytes.
    pub content: Content,
}

/// Where added messages went (RFC 4315, `APPENDUID`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The mailbox's UIDVALIDITY.
    pub uid_validity: UidValidity,
    /// The new UIDs, in the order of the messages.
    pub uids: Vec<Uid>,
}

/// Where copied or moved messages went (RFC 4315, `COPYUID`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// The target's UIDVALIDITY.
    pub uid_validity: UidValidity,
    /// Old and new UIDs, in the order of the old ones.
    pub uids: Vec<(Uid, Uid)>,
}

/// The flags as a set, for the [`Append`] of an entry that exists.
impl From<&Flags> for Vec<Flag> {
    fn from(flags: &Flags) -> Self {
        flags.iter().cloned().collect()
    }
}

/// Something changed; what exactly, [`Session::changes`] and [`Session::mailboxes`] tell.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// In this mailbox, up to this modification sequence.
    Mailbox(MailboxId, ModSeq),
    /// A mailbox was made, renamed or deleted.
    MailboxList,
    /// More changed than was kept: look at everything again.
    Lagged,
    /// The session is over (its credential was revoked, or the user removed): why, in one line. Nothing follows.
    Ended(String),
}

/// The receiving end of [`Session::watch`]: at most [`Watcher::CAPACITY`] changes wait, then they become one [`Change::Lagged`].
#[derive(Debug)]
pub struct Watcher(mpsc::Receiver<Change>);

impl Watcher {
    /// Most changes that wait to be taken.
    pub const CAPACITY: usize = 64;

    /// A watcher fed by a channel.
    #[must_use]
    pub const fn new(changes: mpsc::Receiver<Change>) -> Self {
        Self(changes)
    }

    /// The next change; `None` when there will be no more. May be dropped while waiting; no change is lost by that.
    pub async fn next(&mut self) -> Option<Change> {
        self.0.recv().await
    }

    /// The next change if one waits already.
    pub fn try_next(&mut self) -> Option<Change> {
        self.0.try_recv().ok()
    }
}
