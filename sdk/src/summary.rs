//! What a listing shows of a message: headers, structure, sizes, times.

use crate::{Content, Origin, Timestamp};
use std::ops::Range;

/// Everything a mail client's listing needs, without the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// When the message was received, or the date it was appended with (IMAP `INTERNALDATE`).
    pub internal_date: Timestamp,
    /// Its exact size in bytes (IMAP `RFC822.SIZE`).
    pub size: u64,
    /// The top headers exactly as they stand in the message, up to and with the empty line.
    pub headers: Content,
    /// The headers of ENVELOPE, picked out.
    pub fields: MailFields,
    /// The MIME structure.
    pub structure: Part,
    /// Where the message came from; `None` for appended messages.
    pub origin: Option<Origin>,
}

/// The headers that IMAP's ENVELOPE shows (RFC 3501, section 7.4.2), as raw unfolded bytes: encoded words are left encoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MailFields {
    /// `Date`
    pub date: Option<Vec<u8>>,
    /// `Subject`
    pub subject: Option<Vec<u8>>,
    /// `From`
    pub from: Vec<MailAddressee>,
    /// `Sender`
    pub sender: Vec<MailAddressee>,
    /// `Reply-To`
    pub reply_to: Vec<MailAddressee>,
    /// `To`
    pub to: Vec<MailAddressee>,
    /// `Cc`
    pub cc: Vec<MailAddressee>,
    /// `Bcc`
    pub bcc: Vec<MailAddressee>,
    /// `In-Reply-To`
    pub in_reply_to: Option<Vec<u8>>,
    /// `Message-ID`
    pub message_id: Option<Vec<u8>>,
}

/// An element of an address header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailAddressee {
    /// One mailbox: display name (unquoted, encoded words left as they are), local part (unquoted), domain.
    Mailbox {
        /// Display name.
        name: Option<Vec<u8>>,
        /// Source route (obsolete), without the closing colon.
        route: Option<Vec<u8>>,
        /// Local part, unquoted.
        local: Vec<u8>,
        /// Domain; empty where the header has none.
        domain: Vec<u8>,
    },
    /// A group begins: its display name.
    GroupStart(Vec<u8>),
    /// The group ends.
    GroupEnd,
}

/// Parameters of a MIME header in order: name and unquoted value; RFC 2231 names and values as written.
pub type Parameters = Vec<(Vec<u8>, Vec<u8>)>;

/// One part of the MIME tree (RFC 2045). Offsets are absolute, into the message's exact bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Type and subtype as written (`text/plain` where absent or unreadable).
    pub content_type: (Vec<u8>, Vec<u8>),
    /// Parameters of `Content-Type` in order: name and unquoted value.
    pub parameters: Parameters,
    /// `Content-ID`
    pub id: Option<Vec<u8>>,
    /// `Content-Description`
    pub description: Option<Vec<u8>>,
    /// `Content-Transfer-Encoding`, as written; `7bit` where absent.
    pub encoding: Vec<u8>,
    /// `Content-MD5`
    pub md5: Option<Vec<u8>>,
    /// `Content-Disposition`: its type and parameters.
    pub disposition: Option<(Vec<u8>, Parameters)>,
    /// `Content-Language`, each tag.
    pub language: Vec<Vec<u8>>,
    /// `Content-Location`
    pub location: Option<Vec<u8>>,
    /// The part's own headers, up to and with the empty line.
    pub header: Range<u64>,
    /// The part's body, still encoded; without the line end that belongs to the boundary.
    pub body: Range<u64>,
    /// Lines in the body (a last line without an end counts).
    pub lines: u32,
    /// What the body holds.
    pub kind: PartKind,
}

/// What a part's body holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartKind {
    /// Nothing that is looked into.
    Leaf,
    /// `multipart/*` with its parts in order; never empty (a multipart with no boundary found is a leaf shown as `text/plain`).
    Multipart(Vec<Part>),
    /// `message/rfc822` (or `message/global`) in an identity encoding, with the headers of the message inside and its structure.
    Message(Box<MailFields>, Box<Part>),
}
