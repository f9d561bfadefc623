//! Mailboxes, flags, and the numbers that clients know messages by.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

use crate::{Error, ErrorKind, MailboxId, MessageId, Timestamp};

/// A message's number in its mailbox: 1 to 2^32-1, growing, never used again (RFC 3501, section 2.3.1.1). Each instance has its own.
pub type Uid = u32;

/// The number that changes when a mailbox's UIDs start anew (RFC 3501, section 2.3.1.1).
pub type UidValidity = u32;

/// A mailbox's modification sequence (RFC 7162): 1 to 2^63-1, growing with every change.
pub type ModSeq = u64;

/// One mailbox of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    /// The same on every instance.
    pub id: MailboxId,
    /// Its name, with `/` between levels.
    pub name: MailboxName,
    /// Its special use, where it has one.
    pub role: Option<Role>,
    /// Whether it can be opened; a name that only has mailboxes below it can't (`\Noselect`).
    pub selectable: bool,
}

/// A mailbox's name: 1 to 1,000 bytes of UTF-8, levels separated by `/`, no empty level, no control character.
/// The name INBOX, in any case, is written `INBOX`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct MailboxName(Arc<str>);

impl MailboxName {
    /// Longest name, in bytes.
    pub const MAX_LENGTH: usize = 1000;
    /// Deepest name, in levels.
    pub const MAX_LEVELS: usize = 20;

    /// Checks a name.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`], with what is wrong with it.
    pub fn new(name: &str) -> Result<Self, Error> {
        let wrong = |why: &str| Err(Error::new(ErrorKind::Invalid, format!("not a mailbox name: {why}")));
        if name.is_empty() || name.len() > Self::MAX_LENGTH {
            return wrong("it must have 1 to 1000 bytes");
        }
        if name.chars().any(char::is_control) {
            return wrong("it has a control character");
        }
        if name.split('/').any(str::is_empty) {
            return wrong("it has an empty level (a slash at an end, or two in a row)");
        }
        if name.split('/').count() > Self::MAX_LEVELS {
            return wrong("it has more than 20 levels");
        }
        let (first, rest) = name.split_once('/').map_or((name, None), |(first, rest)| (first, Some(rest)));
        if !first.eq_ignore_ascii_case("INBOX") {
            return Ok(Self(name.into()));
        }
        Ok(Self(rest.map_or_else(|| "INBOX".into(), |rest| format!("INBOX/{rest}").into())))
    }

    /// The mailbox that every user has.
    #[must_use]
    pub fn inbox() -> Self {
        Self("INBOX".into())
    }

    /// Whether this is INBOX itself.
    #[must_use]
    pub fn is_inbox(&self) -> bool {
        &*self.0 == "INBOX"
    }

    /// The name one level up.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MailboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<MailboxName> for String {
    fn from(name: MailboxName) -> String {
        name.0.as_ref().to_owned()
    }
}

impl TryFrom<String> for MailboxName {
    type Error = Error;

    fn try_from(name: String) -> Result<Self, Error> {
        Self::new(&name)
    }
}

/// A mailbox's special use (RFC 6154, section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Role {
    /// Where new messages come in.
    Inbox,
    /// `\Archive`
    Archive,
    /// `\Drafts`
    Drafts,
    /// `\Junk`
    Junk,
    /// `\Sent`
    Sent,
    /// `\Trash`
    Trash,
}

impl Role {
    /// Every role that a user has a mailbox for from the start, with that mailbox's name.
    pub const STANDARD: [(Self, &'static str); 6] = [
        (Self::Inbox, "INBOX"),
        (Self::Archive, "Archive"),
        (Self::Drafts, "Drafts"),
        (Self::Junk, "Junk"),
        (Self::Sent, "Sent"),
        (Self::Trash, "Trash"),
    ];
}

/// A mailbox's numbers (RFC 3501, section 6.3.10; RFC 7162, section 3.1.2; RFC 7889).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailboxStatus {
    /// How many messages it holds.
    pub messages: u32,
    /// How many of them lack `\Seen`.
    pub unseen: u32,
    /// How many of them no session was told of as recent yet.
    pub recent: u32,
    /// The UID that the next message gets at the least.
    pub uid_next: Uid,
    /// See [`UidValidity`].
    pub uid_validity: UidValidity,
    /// See [`ModSeq`].
    pub highest_modseq: ModSeq,
    /// Padded sizes of its messages added up, in bytes.
    pub size: u64,
}

/// One message in a mailbox, as far as it is known without opening anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub uid: Uid,
    /// Which message: `EMAILID` (RFC 8474).
    pub message: MessageId,
    /// When it last changed.
    pub modseq: ModSeq,
    /// Its flags, without `\Recent`.
    pub flags: Flags,
    /// Its size, padded: at least the true size in bytes, told by no key.
    pub padded_size: u64,
    /// The day on which it was received, at midnight UTC.
    pub day: Timestamp,
}

/// One flag (RFC 3501, section 2.3.2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Flag {
    /// `\Answered`
    Answered,
    /// `\Deleted`
    Deleted,
    /// `\Draft`
    Draft,
    /// `\Flagged`
    Flagged,
    /// `\Seen`
    Seen,
    /// A keyword: an atom of 1 to 100 ASCII characters that does not begin with `\`. Compared without regard to case, kept as first written.
    Keyword(Keyword),
}

/// A keyword of [`Flag::Keyword`].
#[derive(Debug, Clone)]
pub struct Keyword(Arc<str>);

impl Keyword {
    /// The keyword as first written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn folded(&self) -> impl Iterator<Item = u8> + '_ {
        self.0.bytes().map(|byte| byte.to_ascii_lowercase())
    }
}

impl PartialEq for Keyword {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Keyword {}

impl PartialOrd for Keyword {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Keyword {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.folded().cmp(other.folded())
    }
}

impl std::hash::Hash for Keyword {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.folded().for_each(|byte| state.write_u8(byte));
    }
}

impl Flag {
    /// Longest keyword, in bytes.
    pub const MAX_KEYWORD: usize = 100;

    /// Reads a flag as IMAP writes it. `\Recent` is no flag that can be set.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for an unknown `\` flag, and for a keyword that is no atom.
    pub fn new(text: &str) -> Result<Self, Error> {
        if let Some(name) = text.strip_prefix('\\') {
            let system = [
                ("answered", Self::Answered),
                ("deleted", Self::Deleted),
                ("draft", Self::Draft),
                ("flagged", Self::Flagged),
                ("seen", Self::Seen),
            ];
            let known = system.into_iter().find(|(known, _)| name.eq_ignore_ascii_case(known));
            return known.map(|(_, flag)| flag).ok_or_else(|| {
                Error::new(
                    ErrorKind::Invalid,
                    "unknown system flag; \\Answered \\Deleted \\Draft \\Flagged \\Seen can be set",
                )
            });
        }
        let atom = |byte: u8| byte.is_ascii_graphic() && !b"(){%*\"\\]".contains(&byte);
        if text.is_empty() || text.len() > Self::MAX_KEYWORD || !text.bytes().all(atom) {
            return Err(Error::new(ErrorKind::Invalid, "a keyword is an atom of 1 to 100 ASCII characters"));
        }
        Ok(Self::Keyword(Keyword(text.into())))
    }

    /// The flag as IMAP writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Answered => "\\Answered",
            Self::Deleted => "\\Deleted",
            Self::Draft => "\\Draft",
            Self::Flagged => "\\Flagged",
            Self::Seen => "\\Seen",
            Self::Keyword(keyword) => keyword.as_str(),
        }
    }
}

impl From<Flag> for String {
    fn from(flag: Flag) -> String {
        flag.as_str().to_owned()
    }
}

impl TryFrom<String> for Flag {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        Self::new(&text)
    }
}

/// The flags of one message: sorted, each once, at most [`Flags::MAX`] keywords among them. Clones share the memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags(Option<Arc<[Flag]>>);

impl Flags {
    /// Most keywords on one message. System flags don't count: a message must always be markable as seen or deleted.
    pub const MAX: usize = 100;

    /// Whether the flag is set.
    #[must_use]
    pub fn contains(&self, flag: &Flag) -> bool {
        self.iter().any(|set| set == flag)
    }

    /// The flags in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Flag> {
        self.0.as_deref().unwrap_or_default().iter()
    }

    /// Whether none is set.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl FromIterator<Flag> for Flags {
    fn from_iter<I: IntoIterator<Item = Flag>>(flags: I) -> Self {
        let mut flags: Vec<Flag> = flags.into_iter().collect();
        flags.sort();
        flags.dedup();
        Self((!flags.is_empty()).then(|| flags.into()))
    }
}

impl<'a> IntoIterator for &'a Flags {
    type Item = &'a Flag;
    type IntoIter = std::slice::Iter<'a, Flag>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
