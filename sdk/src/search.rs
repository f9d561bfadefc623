//! Searching a mailbox (RFC 3501, section 6.4.4).

use crate::{Flag, MessageId, ModSeq, Uid};
use std::ops::RangeInclusive;

/// What a message must be to be found. At most [`Query::MAX_DEPTH`] deep and [`Query::MAX_TERMS`] terms large; beyond that the search is refused.
///
/// Texts are UTF-8 and match as substrings without regard to case, after decoding of encoded words, transfer encodings and character sets.
/// Days are counted from 1970-01-01, UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Query {
    /// Every message.
    All,
    /// All of these.
    And(Vec<Query>),
    /// One of these at least.
    Or(Vec<Query>),
    /// Not this.
    Not(Box<Query>),
    /// UID in one of these ranges (sequence numbers are turned into UIDs by the caller).
    Uids(Vec<RangeInclusive<Uid>>),
    /// Has the flag.
    Flag(Flag),
    /// Has this header, and the text in it (any value where the text is empty). The name matches without regard to case.
    Header(String, String),
    /// The text is in a text part of the body.
    Body(String),
    /// The text is in the headers or in a text part of the body.
    Text(String),
    /// `INTERNALDATE` is before this day.
    Before(i32),
    /// `INTERNALDATE` is on this day.
    On(i32),
    /// `INTERNALDATE` is on this day or later.
    Since(i32),
    /// The `Date` header, as written with its zone disregarded, is before this day.
    SentBefore(i32),
    /// The `Date` header is on this day.
    SentOn(i32),
    /// The `Date` header is on this day or later.
    SentSince(i32),
    /// Larger than this many bytes.
    Larger(u64),
    /// Smaller than this many bytes.
    Smaller(u64),
    /// Changed at this modification sequence or later (RFC 7162, section 3.1.5).
    ModSeq(ModSeq),
    /// Is this message (RFC 8474, section 5.4).
    Message(MessageId),
}

impl Query {
    /// Deepest nesting.
    pub const MAX_DEPTH: usize = 50;
    /// Most terms.
    pub const MAX_TERMS: usize = 1000;
}

/// What a search found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SearchResult {
    /// UIDs that match, in order.
    pub uids: Vec<Uid>,
    /// The highest modification sequence among them; 0 where none matches.
    pub highest_modseq: ModSeq,
    /// How many messages could not be searched whole, because their secret key is not here.
    pub unsearchable: u32,
}
