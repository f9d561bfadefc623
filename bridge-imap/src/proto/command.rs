//! What a client asks for, read and checked as far as grammar goes.

use super::sequence::SequenceSet;
use mesyx_sdk::{Flag, MessageId, Secret, Timestamp};

/// One command. Borrows the messages of APPEND from its frame.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Command<'a> {
    pub(crate) tag: String,
    pub(crate) body: Body<'a>,
}

/// A mailbox name as it came: modified UTF-7, or UTF-8 where that is enabled.
pub(crate) type RawName = Vec<u8>;

/// A command's name and arguments.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Body<'a> {
    Capability,
    Noop,
    Logout,
    StartTls,
    /// The initial response is still in base64.
    Authenticate {
        mechanism: String,
        initial: Option<Secret>,
    },
    Login {
        name: Vec<u8>,
        password: Secret,
    },
    Enable(Vec<String>),
    Select(Select),
    Create {
        mailbox: RawName,
        uses: Vec<String>,
    },
    Delete(RawName),
    Rename {
        from: RawName,
        to: RawName,
    },
    Subscribe(RawName),
    Unsubscribe(RawName),
    List(List),
    Lsub {
        reference: RawName,
        pattern: RawName,
    },
    Status {
        mailbox: RawName,
        items: Vec<StatusItem>,
    },
    Append {
        mailbox: RawName,
        messages: Vec<Message<'a>>,
    },
    Namespace,
    Id(Vec<(Vec<u8>, Option<Vec<u8>>)>),
    Idle,
    Check,
    Close,
    Unselect,
    Expunge(Option<SequenceSet>),
    Search(Search),
    Fetch(Fetch),
    Store(Store),
    Copy(Transfer),
    Move(Transfer),
}

/// SELECT or EXAMINE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Select {
    pub(crate) mailbox: RawName,
    pub(crate) read_only: bool,
    pub(crate) condstore: bool,
    pub(crate) qresync: Option<Resync>,
}

/// What a client knows of a mailbox from before (RFC 7162, section 3.2.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resync {
    pub(crate) uid_validity: u32,
    pub(crate) modseq: u64,
    pub(crate) known: Option<SequenceSet>,
}

/// LIST with the options of RFC 5258.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct List {
    /// Whether options of RFC 5258 were given at all.
    pub(crate) extended: bool,
    pub(crate) reference: RawName,
    pub(crate) patterns: Vec<RawName>,
    pub(crate) select_subscribed: bool,
    pub(crate) select_special_use: bool,
    pub(crate) recursive_match: bool,
    pub(crate) return_subscribed: bool,
    pub(crate) return_status: Vec<StatusItem>,
}

/// What STATUS can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StatusItem {
    Messages,
    Recent,
    UidNext,
    UidValidity,
    Unseen,
    HighestModSeq,
    Size,
    MailboxId,
    AppendLimit,
}

/// One message of APPEND.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) flags: Vec<Flag>,
    pub(crate) date: Option<Timestamp>,
    pub(crate) bytes: &'a [u8],
    /// It came as `UTF8 (~{…})` (RFC 6855, section 4; RFC 9755 lets it come as any other message too).
    pub(crate) utf8: bool,
}

/// COPY or MOVE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transfer {
    pub(crate) uid: bool,
    pub(crate) set: SequenceSet,
    pub(crate) mailbox: RawName,
}

/// STORE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Store {
    pub(crate) uid: bool,
    pub(crate) set: SequenceSet,
    pub(crate) unchanged_since: Option<u64>,
    pub(crate) action: Action,
    pub(crate) silent: bool,
    pub(crate) flags: Vec<Flag>,
}

/// How STORE changes flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Set,
    Add,
    Remove,
}

/// FETCH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fetch {
    pub(crate) uid: bool,
    pub(crate) set: SequenceSet,
    pub(crate) items: Vec<Item>,
    pub(crate) changed_since: Option<u64>,
    pub(crate) vanished: bool,
}

/// One data item of FETCH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Uid,
    Flags,
    InternalDate,
    Size,
    Envelope,
    Body,
    BodyStructure,
    ModSeq,
    EmailId,
    ThreadId,
    Rfc822,
    Rfc822Header,
    Rfc822Text,
    Section { peek: bool, section: Section, partial: Option<(u32, u32)> },
}

/// What stands in `BODY[…]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Section {
    /// Part numbers, each at least 1.
    pub(crate) path: Vec<u32>,
    pub(crate) text: SectionText,
}

/// Which piece of a message or part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SectionText {
    All,
    Header,
    Fields { not: bool, names: Vec<Vec<u8>> },
    Text,
    Mime,
}

/// SEARCH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Search {
    pub(crate) uid: bool,
    pub(crate) charset: Option<String>,
    /// RFC 4731; `None` where no RETURN was given.
    pub(crate) results: Option<Results>,
    pub(crate) key: Key,
}

/// What an extended search returns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Results {
    pub(crate) min: bool,
    pub(crate) max: bool,
    pub(crate) all: bool,
    pub(crate) count: bool,
}

/// A search key (RFC 3501, section 6.4.4). Texts are as they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    All,
    And(Vec<Key>),
    Or(Box<Key>, Box<Key>),
    Not(Box<Key>),
    Sequence(SequenceSet),
    Uid(SequenceSet),
    Flag(Flag),
    New,
    Old,
    Recent,
    Header(Vec<u8>, Vec<u8>),
    Body(Vec<u8>),
    Text(Vec<u8>),
    Before(i32),
    On(i32),
    Since(i32),
    SentBefore(i32),
    SentOn(i32),
    SentSince(i32),
    Larger(u64),
    Smaller(u64),
    ModSeq(u64),
    EmailId(Option<MessageId>),
    ThreadId,
}
