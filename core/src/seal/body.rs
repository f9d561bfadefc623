//! The clear form of a body: a MIME entity around the exact bytes, so that whoever decrypts it with their own tools can read it.
//!
//! ```text
//!   Mesyx-Part: body; v=1; message=…; user=…; keyset=…; at=…; size=…       what it is, and where in it the bytes stand
//!   MIME-Version, Date, From, To, Cc, Subject                              copies for a mail reader to show
//!   Content-Type: multipart/mixed; protected-headers="v1"; boundary="…"
//!
//!   --…
//!   Content-Type: message/rfc822
//!
//!   the exact bytes
//!   --…--
//!   lines of spaces up to the padded length (an epilogue: RFC 2046, section 5.1.1)
//! ```
//! The boundary is random and made after the bytes were there, so they can't hold it.

use super::packet::Clear;
use super::padding::{fill, padded_length};
use super::{OpenError, PartContext, PartName, SealError, Sealed, SessionKey};
use bytes::Bytes;
use mesyx_sdk::summary::{MailAddressee, MailFields};
use mesyx_sdk::{Content, MessageId};
use std::fmt::Write as _;

/// Seals a message's bytes; also the padded length of the clear part, which its sealed length tells anyway.
pub(super) fn seal(
    context: &PartContext,
    fields: &MailFields,
    content: &Content,
    key: &SessionKey,
) -> Result<(Sealed, u64), SealError> {
    let boundary = format!("mesyx-{}", MessageId::random());
    let mut head = String::with_capacity(1024);
    head.push_str("MIME-Version: 1.0\r\n");
    copies(&mut head, fields);
    let _ = write!(
        head,
        "Content-Type: multipart/mixed; protected-headers=\"v1\";\r\n boundary=\"{boundary}\"\r\n\r\n--{boundary}\r\n\
         Content-Type: message/rfc822\r\nContent-Transfer-Encoding: binary\r\nContent-Disposition: inline\r\n\r\n"
    );
    let at = FRAME_LENGTH + head.len();
    let tail = format!("\r\n--{boundary}--\r\n");
    let length = at + content.len() + tail.len();
    let padded = padded_length(length as u64);
    let capacity = usize::try_from(padded).map_err(|_| SealError::TooLarge)?;
    let mut clear = Clear::with_capacity(capacity);
    let buffer = clear.buffer();
    frame(buffer, PartName::Body, context, at, content.len());
    buffer.extend_from_slice(head.as_bytes());
    buffer.extend_from_slice(content);
    buffer.extend_from_slice(tail.as_bytes());
    fill(buffer, Clear::START + capacity);
    Ok((clear.seal(key)?, padded))
}

/// Length of the line that [`frame`] writes.
pub(super) const FRAME_LENGTH: usize = 188;

/// The line that begins every part: which part of which message it is, and where in the part the payload stands.
/// Of one length for all, so that the bytes after it can be counted before it is written.
pub(super) fn frame(out: &mut Vec<u8>, name: PartName, context: &PartContext, at: usize, size: usize) {
    let PartContext { user, message, keyset } = context;
    let line = format!(
        "Mesyx-Part: {name:<7}; v=1; message={message}; user={user}; keyset={keyset}; at={at:010}; size={size:012}",
        name = name.as_str()
    );
    out.extend_from_slice(line.as_bytes());
    debug_assert!(line.len() + 2 <= FRAME_LENGTH);
    out.resize(out.len() + FRAME_LENGTH - 2 - line.len(), b' ');
    out.extend_from_slice(b"\r\n");
}

/// Checks that a clear part is the one expected, and cuts out its payload, sharing the memory.
pub(super) fn unframe(clear: &Bytes, name: PartName, context: &PartContext) -> Result<Bytes, OpenError> {
    let damaged = || OpenError::Damaged("it does not say what it is");
    let line = clear.get(..FRAME_LENGTH).ok_or_else(damaged)?;
    let line = std::str::from_utf8(line).map_err(|_| damaged())?;
    let mut words = line.strip_prefix("Mesyx-Part: ").ok_or_else(damaged)?.split(';').map(str::trim);
    let part = words.next().unwrap_or_default();
    let mut field =
        |field: &str| words.next().and_then(|word| word.strip_prefix(field)?.strip_prefix('=')).ok_or_else(damaged);
    if field("v")? != "1" {
        return Err(OpenError::Refused("it was written by a newer Mesyx: use the newer program"));
    }
    let (message, user, keyset) = (field("message")?, field("user")?, field("keyset")?);
    let (at, size) = (field("at")?, field("size")?);
    if message != context.message.to_string() {
        return Err(OpenError::Swapped("message"));
    }
    if user != context.user.to_string() {
        return Err(OpenError::Swapped("user"));
    }
    if keyset != context.keyset.to_string() {
        return Err(OpenError::Swapped("keyset"));
    }
    if part != name.as_str() {
        return Err(OpenError::Swapped("part"));
    }
    let at: usize = at.parse().map_err(|_| damaged())?;
    let size: usize = size.parse().map_err(|_| damaged())?;
    let end = at.checked_add(size).filter(|end| *end <= clear.len()).ok_or_else(damaged)?;
    Ok(clear.slice(at..end))
}

/// Copies of the headers that a reader shows, made from what was read of the message, never its raw lines: a line of ours
/// can't be broken by what stood there.
pub(super) fn copies(head: &mut String, fields: &MailFields) {
    if let Some(date) = &fields.date {
        unstructured(head, "Date", date);
    }
    addresses(head, "From", &fields.from);
    addresses(head, "To", &fields.to);
    addresses(head, "Cc", &fields.cc);
    if let Some(subject) = &fields.subject {
        unstructured(head, "Subject", subject);
    }
}

/// Longest text of one copied header, in bytes; the message itself has the whole.
const MOST_TEXT: usize = 600;
/// Most addresses in one copied header.
const MOST_ADDRESSES: usize = 25;

fn unstructured(head: &mut String, name: &str, text: &[u8]) {
    let text = printable(text);
    let text = text.trim();
    let _ = write!(head, "{name}: ");
    if text.is_ascii() {
        // Encoded words stay whole: a cut or a fold is made at spaces only, where there are any.
        let mut column = name.len() + 2;
        for (index, word) in text.split(' ').enumerate() {
            if index > 0 {
                head.push_str(if column + word.len() > 76 { "\r\n " } else { " " });
                column = if column + word.len() > 76 { 0 } else { column };
            }
            head.push_str(word);
            column += word.len() + 1;
        }
    } else {
        encoded_words(head, text);
    }
    head.push_str("\r\n");
}

fn addresses(head: &mut String, name: &str, list: &[MailAddressee]) {
    let mut first = true;
    let mailboxes = list.iter().filter_map(|addressee| match addressee {
        MailAddressee::Mailbox { name, local, domain, .. } => Some((name, local, domain)),
        _ => None,
    });
    for (display, local, domain) in mailboxes.take(MOST_ADDRESSES) {
        let _ = if first { write!(head, "{name}: ") } else { write!(head, ",\r\n ") };
        first = false;
        if let Some(display) = display {
            phrase(head, &printable(display));
            head.push_str("\r\n ");
        }
        head.push('<');
        let local = printable(local);
        if !local.is_empty() && local.chars().all(|c| is_atext(c) || c == '.') {
            head.push_str(&local);
        } else {
            quoted(head, &local);
        }
        let domain = printable(domain);
        if !domain.is_empty() {
            head.push('@');
            head.extend(domain.chars().filter(|c| !matches!(c, '<' | '>' | '"' | '\\' | ' ' | ',' | ';' | '(' | ')')));
        }
        head.push('>');
    }
    if !first {
        head.push_str("\r\n");
    }
}

/// A display name (RFC 5322, section 3.2.5).
fn phrase(head: &mut String, text: &str) {
    if !text.is_ascii() {
        encoded_words(head, text);
    } else if text.chars().all(|c| is_atext(c) || c == ' ') {
        head.push_str(text.trim());
    } else {
        quoted(head, text);
    }
}

fn quoted(head: &mut String, text: &str) {
    head.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            head.push('\\');
        }
        head.push(c);
    }
    head.push('"');
}

fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || !c.is_ascii()
}

/// Text as encoded words (RFC 2047) of at most 75 characters, one a line.
fn encoded_words(head: &mut String, text: &str) {
    use base64::Engine;
    let mut rest = text;
    let mut first = true;
    while !rest.is_empty() {
        let mut cut = rest.len().min(42);
        while !rest.is_char_boundary(cut) {
            cut -= 1;
        }
        let (word, after) = rest.split_at(cut);
        let encoded = base64::engine::general_purpose::STANDARD.encode(word);
        let _ = write!(head, "{}=?utf-8?B?{encoded}?=", if first { "" } else { "\r\n " });
        first = false;
        rest = after;
    }
}

/// Text without control characters, at most [`MOST_TEXT`] bytes of it; what is no UTF-8 is marked.
fn printable(bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(&bytes[..bytes.len().min(MOST_TEXT)]).into_owned();
    if text.contains(char::is_control) {
        text = text.replace(char::is_control, " ");
    }
    text
}
