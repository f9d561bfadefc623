//! The one unit that travels everywhere.

use crate::{Address, Content, MessageId, Timestamp, UserId};

/// A message on its way: what it is, for whom, where it came from, and its bytes.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// Made once, where the message enters.
    pub id: MessageId,
    /// What the origin calls this message, where it has a name that it will repeat for the very same message.
    /// The core keeps an HMAC of it only. For mail: set only after a connection that ended unanswered;
    /// two equal mails are two mails.
    pub dedup: Option<Vec<u8>>,
    /// How the message is meant to be read.
    pub style: Style,
    /// What sort of thing it is.
    pub kind: Kind,
    /// The envelope sender (RFC 5321 reverse-path); `None` is the null reverse-path, which is never answered.
    pub from: Option<Address>,
    /// Whom it is for, 1 to 1,000.
    pub to: Vec<Recipient>,
    /// The conversation it belongs to, where the network has such a notion.
    pub conversation: Option<Conversation>,
    /// When its author says it was sent.
    pub sent: Option<Timestamp>,
    /// When Mesyx took it in.
    pub received: Timestamp,
    /// How much it matters to the reader; chooses the keyset.
    pub importance: Importance,
    /// One MIME entity, whatever the protocol. Bytes that came in are kept exactly.
    pub content: Content,
    /// Where it came from and what was checked.
    pub origin: Origin,
    /// The bridge's own checks say that it belongs among the unwanted: each reader finds it in the mailbox with the role
    /// [`crate::Role::Junk`], or in INBOX where there is no such mailbox.
    pub junk: bool,
    /// The sender's wishes on delivery notices (RFC 3461), kept for the next hop.
    pub dsn: Dsn,
}

/// How a message is meant to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Style {
    /// Read when the reader gets to it: mail.
    Delayed,
    /// Read as it is said: chat.
    Instant,
}

/// What sort of thing a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Something said.
    Message,
    /// That something was delivered or read.
    Receipt,
    /// A short answer attached to another message.
    Reaction,
    /// A new text for an earlier message.
    Edit,
    /// An earlier message taken back.
    Retraction,
    /// A lasting event of a conversation, such as a new topic. Presence and typing are signals, not messages.
    Event,
}

/// One recipient, with the delivery notices asked for (RFC 3461, sections 4.1 and 4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// The address as the sender gave it.
    pub address: Address,
    /// `NOTIFY`, where given.
    pub notify: Option<Notify>,
    /// `ORCPT`, where given: the decoded `addr-type;address`.
    pub original: Option<String>,
}

impl Recipient {
    /// A recipient with no wishes on notices.
    #[must_use]
    pub const fn new(address: Address) -> Self {
        Self { address, notify: None, original: None }
    }
}

/// Which delivery notices a recipient's sender wants; all `false` is `NEVER`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Notify {
    /// On delivery.
    pub success: bool,
    /// On final failure.
    pub failure: bool,
    /// On delay.
    pub delay: bool,
}

/// The sender's wishes that hold for the whole message (RFC 3461, sections 4.3 and 4.4).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dsn {
    /// `RET`: how much of the message a notice returns.
    pub ret: Option<ReturnPart>,
    /// `ENVID`: the sender's own identifier, decoded, at most 100 characters.
    pub envid: Option<String>,
}

/// How much of a message a failure notice returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReturnPart {
    /// The whole message.
    Full,
    /// The headers only.
    Headers,
}

/// The conversation that a message belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Conversation {
    /// Between the reader and one other.
    Direct(Address),
    /// A group with a name of its own, such as a channel.
    Group(Address),
}

/// How much a message matters to its reader.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Importance {
    /// May wait.
    Low,
    /// The usual.
    #[default]
    Normal,
    /// Marked as important by its sender, or by a rule of the reader.
    High,
}

/// Where a message came from. Believed only under the signature of the instance that took it in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The bridge that brought it; the host fills this in and ignores what the bridge wrote.
    pub bridge: String,
    /// The network, in the bridge's own words: `smtp`, `libera`.
    pub network: String,
    /// The peer: for SMTP its address and the name that it gave itself.
    pub peer: Option<String>,
    /// What protected it in transit.
    pub protection: Protection,
    /// The user who handed it in, where the sender was logged in.
    pub authenticated: Option<UserId>,
    /// What was checked, as `method=result` (`spf=pass`, `dkim=fail`), oldest first.
    pub checks: Vec<String>,
}

/// What protected a message on its way to us.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protection {
    /// Nothing.
    #[default]
    None,
    /// TLS between its last hop and us: protocol version and cipher suite, such as `TLSv1.3` and `TLS13_AES_256_GCM_SHA384`.
    Tls {
        /// Protocol version.
        version: String,
        /// Cipher suite.
        cipher: String,
    },
    /// OTR up to this gateway.
    Otr {
        /// The peer's fingerprint is known to be theirs.
        verified: bool,
    },
    /// OpenPGP, end to end.
    Pgp,
}
