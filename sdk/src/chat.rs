//! Conversations as they are spoken: lines, who speaks, groups, and what is transient.
//!
//! A line is a message of style [`crate::Style::Instant`]: sealed and stored like mail, one mailbox for each conversation of a
//! user. What is transient (typing, presence, who joined) is a [`Signal`], and what one bridge asks another is a [`Question`];
//! neither is ever stored.
//!
//! ```text
//!   client --submit--> core --sealed, durable--> live feeds of every reader --> clients
//!                        |--queue--> deliver of the network's bridge
//!   network's bridge --accept--> core          --signal--> live feeds        query <--> answer
//! ```

mod line;
#[cfg(test)]
mod tests;
mod text;

pub use line::{LineHeaders, from_mail, to_mail};
pub use text::line_of;

use crate::{
    Address, Conversation, Error, ErrorKind, Host, MailAddress, MailboxId, MessageId, Protection, RecipientStatus,
    Sender, Timestamp, Uid, UserId,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// The user of ours that people on a bridge's network write to by this name: the one whose mail address is `NAME@DOMAIN`.
///
/// # Errors
/// [`ErrorKind::NotFound`] where there is nobody of that name, and those of [`Host::recipient`].
pub async fn user(host: &dyn Host, name: &str) -> Result<Address, Error> {
    let nobody = || Error::new(ErrorKind::NotFound, "there is nobody of that name here");
    if name.is_empty() {
        return Err(nobody());
    }
    let user = Address::Mail(MailAddress::new(name, host.domain().clone()).map_err(|_| nobody())?);
    match host.recipient(&user, &Sender::Stranger).await? {
        RecipientStatus::Local => Ok(user),
        _ => Err(nobody()),
    }
}

/// What a line does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verb {
    /// Something said.
    Say,
    /// Something said that no program may answer.
    Notice,
    /// What the speaker does (`/me`).
    Action,
    /// A new topic of the group: the text.
    Topic,
    /// The speaker joined the group for good. Coming and going of clients is a signal.
    Join,
    /// The speaker left the group: why.
    Part,
    /// The speaker removed `args[0]` from the group: why.
    Kick,
    /// The speaker changed modes of the group: `args`, as IRC writes them.
    Mode,
}

impl Verb {
    /// The word for it, as the header `Mesyx-Line` has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Say => "say",
            Self::Notice => "notice",
            Self::Action => "action",
            Self::Topic => "topic",
            Self::Join => "join",
            Self::Part => "part",
            Self::Kick => "kick",
            Self::Mode => "mode",
        }
    }

    /// The verb of a word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        let all = [Self::Say, Self::Notice, Self::Action, Self::Topic, Self::Join, Self::Part, Self::Kick, Self::Mode];
        all.into_iter().find(|verb| verb.as_str() == word)
    }
}

/// What is said, whatever the network.
#[derive(Clone, PartialEq, Eq)]
pub struct Line {
    /// What the line does.
    pub verb: Verb,
    /// See [`Verb`]; at most 10, none with a line end or NUL.
    pub args: Vec<String>,
    /// The text; may have several lines, parted by `\n`. At most 64 KiB.
    pub text: String,
}

impl Line {
    /// Longest text, in bytes.
    pub const MAX_TEXT: usize = 65_536;

    /// Something said.
    #[must_use]
    pub fn say(text: impl Into<String>) -> Self {
        Self { verb: Verb::Say, args: Vec::new(), text: text.into() }
    }
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Line({}, {} bytes)", self.verb.as_str(), self.text.len())
    }
}

/// A line of a conversation as one user sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatLine {
    /// The conversation's mailbox.
    pub mailbox: MailboxId,
    /// The line's number in it; lines stand in the order of their numbers.
    pub uid: Uid,
    /// The message's id, the same for every reader.
    pub id: MessageId,
    /// When Mesyx took it in. Never falls within a conversation.
    pub at: Timestamp,
    /// Who said it.
    pub from: Address,
    /// The name that its speaker is shown by (the nick, as the speaker writes it).
    pub nick: String,
    /// The reader said it, with whichever client.
    pub own: bool,
    /// The reader has read it.
    pub seen: bool,
    /// What was said.
    pub line: Line,
    /// What protected it on its way to us.
    pub protection: Protection,
}

/// One conversation of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationInfo {
    /// Its mailbox.
    pub mailbox: MailboxId,
    /// Which one.
    pub conversation: Conversation,
    /// The number of its last line; 0 where there is none.
    pub last: Uid,
    /// The lines up to this number have been read, on whichever client.
    pub read: Uid,
}

/// A place in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// At this moment.
    Time(Timestamp),
    /// At this message; where it is not there, the call fails with [`ErrorKind::NotFound`].
    Message(MessageId),
}

/// Which lines of a conversation are wanted (the selectors of IRCv3 `chathistory`). The places themselves are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// The last ones, after the place where there is one.
    Latest(Option<Anchor>),
    /// The last ones before the place.
    Before(Anchor),
    /// The first ones after the place.
    After(Anchor),
    /// Those around the place, the place included.
    Around(Anchor),
    /// From the first place towards the second, whichever is earlier.
    Between(Anchor, Anchor),
}

/// A group of users of this exchange. Its address is [`Address::Mesyx`] with a name that begins with `#`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its address.
    pub address: Address,
    /// Its name as its founder wrote it.
    pub name: String,
    /// When it was founded.
    pub created: Timestamp,
    /// Topic, who set it (nick), and when.
    pub topic: Option<(String, String, Timestamp)>,
    /// Who belongs to it. Empty for who may not see it.
    pub members: Vec<GroupMember>,
    /// Modes that are set, by their letter as IRC names them (`i`, `k`, `l`, `m`, `n`, `s`, `t`), with their parameter (or nothing).
    pub modes: BTreeMap<char, String>,
    /// Lists by the letter of their mode (`b`, `e`, `I`): mask, who set it, when.
    pub lists: BTreeMap<char, Vec<(String, String, Timestamp)>>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// Who.
    pub user: UserId,
    /// The login name, which is also the nick.
    pub name: String,
    /// What the member may do.
    pub rank: Rank,
}

/// What a member of a group may do; each may do what those before it may.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rank {
    /// Speak, unless the group is moderated.
    #[default]
    Member,
    /// Speak in a moderated group (`+v`).
    Voice,
    /// Change topic, modes, members and their ranks up to this one (`+o`).
    Operator,
    /// Who founded it: nobody else can change or remove this member (`+q`).
    Founder,
}

/// A change of a group. Who may make which is the core's to decide.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupChange {
    /// Join it, with its key where it has one; where there is none of that name, found it.
    Join {
        /// The key (`+k`).
        key: Option<String>,
    },
    /// Leave it. A group without members is gone.
    Leave {
        /// Why.
        reason: String,
    },
    /// Set its topic; an empty one takes it away.
    Topic(String),
    /// Set or take away a mode: letter and parameter.
    Mode {
        /// Set, or take away.
        set: bool,
        /// Which.
        mode: char,
        /// Its parameter (for `k`, `l`).
        parameter: Option<String>,
    },
    /// Add a mask to a list, or take it out.
    List {
        /// Add, or take out.
        add: bool,
        /// The list's letter.
        mode: char,
        /// The mask.
        mask: String,
    },
    /// Give a member a rank.
    Rank {
        /// Whom, by login name.
        member: String,
        /// Which.
        rank: Rank,
    },
    /// Let a user join, whatever the modes say.
    Invite {
        /// Whom, by login name.
        user: String,
    },
    /// Remove a member.
    Kick {
        /// Whom, by login name.
        member: String,
        /// Why.
        reason: String,
    },
}

/// Something transient: lossy, bounded, never stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// Whom it is for.
    pub to: SignalTo,
    /// The bridge that sends it; the host fills this in.
    pub bridge: String,
    /// The conversation that it is about.
    pub conversation: Option<Conversation>,
    /// Who causes it.
    pub from: Option<Address>,
    /// What it is, in the words of the bridges that use it: `typing`, `join`, `part`, `quit`, `nick`, `away`, `connected`, … 1 to 32
    /// letters, digits or `-`.
    pub name: String,
    /// Details; at most 16 of at most 1,024 bytes.
    pub args: Vec<String>,
}

/// Whom a signal is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignalTo {
    /// The live feeds of a user.
    User(UserId),
    /// The live feeds of a group's members.
    Group(Address),
}

/// What one bridge asks another, such as who is in a channel. Answered within 10 seconds or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The bridge that is asked.
    pub bridge: String,
    /// The bridge that asks; the host fills this in.
    pub asker: String,
    /// For whom, where a user is behind it. The host checks that the asking bridge has a session of that user.
    pub user: Option<crate::User>,
    /// What, in the words of the bridge asked: `names`, `who`, `join`, `networks`, …
    pub name: String,
    /// Details; at most 64 KiB together.
    pub args: Vec<String>,
}

/// The answer to a [`Question`]: rows of fields, as the question's name defines them; at most 1 MiB together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The rows.
    pub rows: Vec<Vec<String>>,
}

/// Something that a live feed tells.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ChatEvent {
    /// A line was said, and is durable. Lines of one conversation come in their order; own ones come too.
    Line(Arc<ChatLine>),
    /// A line was said in a group, as the feeds of [`Host::guests`] hear it.
    GroupLine {
        /// The group.
        group: Address,
        /// The line; own to nobody.
        line: Arc<ChatLine>,
    },
    /// Lines were read up to this number, on whichever client.
    Read {
        /// The conversation's mailbox.
        mailbox: MailboxId,
        /// The last line read.
        up_to: Uid,
    },
    /// A group that the user belongs to, or did until now, is like this now.
    Group(Arc<Group>),
    /// Something transient.
    Signal(Arc<Signal>),
    /// More happened than was kept: look at the conversations again.
    Lagged,
    /// The session is over: why, in one line. Nothing follows.
    Ended(String),
}

/// The receiving end of [`crate::Session::live`]: at most [`LiveFeed::CAPACITY`] events wait, then what comes is
/// dropped and one [`ChatEvent::Lagged`] stands for it.
#[derive(Debug)]
pub struct LiveFeed(mpsc::Receiver<ChatEvent>);

impl LiveFeed {
    /// Most events that wait to be taken.
    pub const CAPACITY: usize = 4096;

    /// A feed fed by a channel.
    #[must_use]
    pub const fn new(events: mpsc::Receiver<ChatEvent>) -> Self {
        Self(events)
    }

    /// The next event; `None` when there will be no more. May be dropped while waiting; no event is lost by that.
    pub async fn next(&mut self) -> Option<ChatEvent> {
        self.0.recv().await
    }

    /// The next event if one waits already.
    pub fn try_next(&mut self) -> Option<ChatEvent> {
        self.0.try_recv().ok()
    }
}

/// A user's address in the chat world: the login name at the exchange's domain, whatever mail addresses the user has.
///
/// # Errors
/// [`ErrorKind::Invalid`] where the name can't be a local part, which no login name of Mesyx is.
pub fn address_of(user: &crate::User, domain: &crate::Domain) -> Result<Address, Error> {
    let user = MailAddress::new(&user.name.to_lowercase(), domain.clone());
    let user = user.map_err(|error| Error::new(ErrorKind::Invalid, error.to_string()))?;
    Ok(Address::Mesyx(crate::MesyxAddress { user }))
}

/// What a call about chat answers where there is no chat: the text says so.
pub(crate) fn none<T>() -> Result<T, Error> {
    Err(Error::new(ErrorKind::Unavailable, "this host has no conversations"))
}
