//! Reading a MIME message's headers and structure, in linear time and bounded memory.
//!
//! ```text
//!  bytes --> structure: lines, boundaries --> nodes with offsets --> Part tree
//!                 header: fields of a block --> parameter: Content-Type and kin
//!                                           --> address: From, To, ... --> MailFields
//! ```
//!
//! Nothing is decoded: encoded words, transfer encodings, character sets and RFC 2231 parameters stay as they are
//! written. Nothing fails either: what makes no sense is read as the nearest thing that does. Only a message whose
//! own header block is over a limit is refused.
//!
//! All work is linear in the size of the message, whatever its nesting. What a [`Summary`] holds beside the top
//! headers is bounded: [`MAX_PARTS`] parts, [`MAX_ITEMS`] addresses and parameters, [`MAX_VALUE_BYTES`] bytes of text.

mod address;
mod budget;
mod date;
mod header;
mod parameter;
mod structure;

#[cfg(test)]
mod tests;

pub use address::{TooManyAddresses, addresses, addresses_in};
pub use date::sent_day;
pub use header::{Field, Fields, fields, unfold};

use crate::{Content, MailFields, Origin, Summary, Timestamp};
use budget::Budget;

/// Deepest nesting of parts that is looked into; what lies deeper is a leaf. The message itself is at depth 0.
pub const MAX_DEPTH: usize = 100;
/// Most parts that are told apart, counting the message itself and messages inside; the rest belongs to the last one.
pub const MAX_PARTS: usize = 1000;
/// Longest header block of a message, in bytes.
pub const MAX_HEADER_BYTES: usize = 1_000_000;
/// Longest header block of a message, in lines.
pub const MAX_HEADER_LINES: usize = 10_000;
/// Most addresses, parameters and language tags that one summary holds; further ones are left out of it.
pub const MAX_ITEMS: usize = 20_000;
/// Most bytes of header values that one summary holds beside the top headers; further values are left out of it.
pub const MAX_VALUE_BYTES: usize = 4_000_000;
/// Longest boundary that is looked for, in bytes (RFC 2046, section 5.1.1, allows 70).
pub const MAX_BOUNDARY: usize = 1000;

/// The message's header block is over a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message has more than 1000000 bytes or 10000 lines of headers")]
pub struct HeadersTooLarge;

/// Reads a message's headers and structure.
///
/// What IMAP fetches is a range of the message's bytes: `BODY[HEADER]` and `BODY[TEXT]` are `header` and `body` of the
/// outermost part; `BODY[1.2.MIME]` is `header` and `BODY[1.2]` is `body` of that part; `BODY[1.2.HEADER]` and
/// `BODY[1.2.TEXT]` are `header` and `body` of the part inside a [`crate::summary::PartKind::Message`].
///
/// A leaf never claims to be `multipart/*` or `message/rfc822`: a multipart in which no part was found is `text/plain`,
/// and a message that is not looked into (encoded, too deep, over a limit) is `application/octet-stream`.
///
/// # Errors
/// Only where its headers are over a limit; anything else is read as far as it makes sense.
///
/// # Examples
/// ```
/// use mesyx_sdk::{Content, Timestamp, mime, summary::PartKind};
/// let message = Content::from(
///     b"Subject: two\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\none\r\n--x\r\n\r\ntwo\r\n--x--\r\n".to_vec(),
/// );
/// let summary = mime::summarize(&message, Timestamp(0), None)?;
/// assert_eq!(summary.fields.subject.as_deref(), Some(&b"two"[..]));
/// let PartKind::Multipart(parts) = &summary.structure.kind else { unreachable!() };
/// assert_eq!(&*message.slice(parts[1].body.start, parts[1].body.end), b"two");
/// # Ok::<(), mime::HeadersTooLarge>(())
/// ```
pub fn summarize(
    content: &Content,
    internal_date: Timestamp,
    origin: Option<Origin>,
) -> Result<Summary, HeadersTooLarge> {
    let mut budget = Budget::new();
    let nodes = structure::scan(content)?;
    let headers = nodes.top_headers(content);
    let fields = mail_fields(&headers, &mut budget);
    let structure = nodes.into_tree(content, &mut budget);
    Ok(Summary { internal_date, size: content.len() as u64, headers, fields, structure, origin })
}

/// Picks ENVELOPE's headers out of a header block.
///
/// Of a field that must stand once, the first counts; of address fields, all do.
fn mail_fields(headers: &[u8], budget: &mut Budget) -> MailFields {
    let mut picked = MailFields::default();
    for field in fields(headers) {
        let is = |name: &str| field.is(name);
        let addresses = if is("From") {
            &mut picked.from
        } else if is("Sender") {
            &mut picked.sender
        } else if is("Reply-To") {
            &mut picked.reply_to
        } else if is("To") {
            &mut picked.to
        } else if is("Cc") {
            &mut picked.cc
        } else if is("Bcc") {
            &mut picked.bcc
        } else {
            let text = if is("Date") {
                &mut picked.date
            } else if is("Subject") {
                &mut picked.subject
            } else if is("In-Reply-To") {
                &mut picked.in_reply_to
            } else if is("Message-ID") {
                &mut picked.message_id
            } else {
                continue;
            };
            if text.is_none() && budget.take(0, field.value.len()) {
                *text = Some(unfold(field.value));
            }
            continue;
        };
        address::parse(field.value, |addressee| {
            let affordable = budget.take(1, address::weight(&addressee));
            if affordable {
                addresses.push(addressee);
            }
            affordable
        });
    }
    picked
}
