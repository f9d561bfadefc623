//! The message that is shown, put together: our field, the fields outside, those inside where they are protected, and one body.

use super::Uncomposed;
use super::look::Looked;
use mesyx_sdk::summary::{MailAddressee, Part};
use mesyx_sdk::{Content, Timestamp, mime};
use std::collections::HashSet;

/// Fields inside that are never shown: what only hosts on the way may say, what only we may say, and From, whose sender is the one that
/// was checked. `HP-Outer` repeats what stood outside (RFC 9788, section 2.2).
const NEVER: [&str; 14] = [
    "From",
    "Received",
    "Return-Path",
    "Delivered-To",
    "Authentication-Results",
    "ARC-Seal",
    "ARC-Message-Signature",
    "ARC-Authentication-Results",
    "DKIM-Signature",
    "Received-SPF",
    "HP-Outer",
    "Autocrypt",
    "Sender",
    "Bcc",
];

/// The message as it is stored.
pub(super) struct Outside<'a> {
    pub(super) content: &'a Content,
    /// Where its header block ends, with the empty line.
    pub(super) header: u64,
}

impl Outside<'_> {
    fn block(&self) -> Content {
        self.content.slice(0, self.header)
    }

    /// The whole message under a field of ours; `protected`: fields that stand in place of those outside.
    pub(super) fn under(&self, field: &str, protected: Option<&[u8]>) -> Content {
        let mut shown = Vec::with_capacity(field.len() + self.content.len() + protected.map_or(0, <[u8]>::len));
        shown.extend_from_slice(field.as_bytes());
        copy_fields(&mut shown, &self.block(), &names(protected), true);
        if let Some(protected) = protected {
            copy_protected(&mut shown, protected);
        }
        shown.extend_from_slice(b"\r\n");
        shown.extend_from_slice(self.content.get(self.block().len()..).unwrap_or_default());
        Content::from(shown)
    }

    /// A decrypted entity as the whole body, with its own fields on what the body is.
    pub(super) fn around(&self, field: &str, entity: &Content, protected: Option<&[u8]>) -> Content {
        let mut shown = Vec::with_capacity(field.len() + self.block().len() + entity.len() + 64);
        shown.extend_from_slice(field.as_bytes());
        copy_fields(&mut shown, &self.block(), &names(protected), false);
        if let Some(protected) = protected {
            copy_protected(&mut shown, protected);
        }
        shown.extend_from_slice(b"MIME-Version: 1.0\r\n");
        let (header, body) = entity.split_at(header_length(entity));
        for inner in mime::fields(header).filter(|inner| is_structural(inner.name) && !inner.is("MIME-Version")) {
            push_field(&mut shown, &header[inner.range]);
        }
        shown.extend_from_slice(b"\r\n");
        shown.extend_from_slice(body);
        Content::from(shown)
    }
}

/// Fields on what the body is (RFC 9788, section 1.8).
fn is_structural(name: &[u8]) -> bool {
    let start = name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"Content-"));
    start || name.eq_ignore_ascii_case(b"MIME-Version")
}

fn is_ours(name: &[u8]) -> bool {
    name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case(b"Mesyx-"))
}

/// The names of protected fields that are shown, in lower case.
fn names(protected: Option<&[u8]>) -> HashSet<Vec<u8>> {
    let fields = mime::fields(protected.unwrap_or_default());
    fields.filter(|field| is_shown(field.name)).map(|field| field.name.to_ascii_lowercase()).collect()
}

fn is_shown(name: &[u8]) -> bool {
    !is_structural(name) && !is_ours(name) && !NEVER.iter().any(|never| name.eq_ignore_ascii_case(never.as_bytes()))
}

/// The fields outside, without ours and those that something else stands in place of.
fn copy_fields(shown: &mut Vec<u8>, block: &[u8], replaced: &HashSet<Vec<u8>>, structural: bool) {
    for field in mime::fields(block) {
        let goes = is_ours(field.name)
            || !structural && is_structural(field.name)
            || replaced.contains(&field.name.to_ascii_lowercase());
        if !goes {
            push_field(shown, &block[field.range]);
        }
    }
}

/// Protected fields, each name once: of two Subjects some programs would show the other one.
fn copy_protected(shown: &mut Vec<u8>, protected: &[u8]) {
    let mut seen = HashSet::new();
    for field in mime::fields(protected).filter(|field| is_shown(field.name)) {
        if seen.insert(field.name.to_ascii_lowercase()) {
            push_field(shown, &protected[field.range]);
        }
    }
}

fn push_field(shown: &mut Vec<u8>, field: &[u8]) {
    shown.extend_from_slice(field);
    if !field.ends_with(b"\r\n") {
        let end = field.len() - field.trim_ascii_end().len();
        shown.truncate(shown.len() - end);
        shown.extend_from_slice(b"\r\n");
    }
}

/// How long the header block is, with the empty line behind it.
fn header_length(entity: &[u8]) -> usize {
    let mut at = 0;
    for line in entity.split_inclusive(|&byte| byte == b'\n') {
        at += line.len();
        if line == b"\r\n" || line == b"\n" {
            break;
        }
    }
    at
}

/// A decrypted text as a MIME entity with CRLF line ends: many programs encrypt it with the line ends of their system, and some no
/// MIME entity at all.
///
/// # Errors
/// Why it can't be shown by IMAP.
pub(super) fn entity(plain: Vec<u8>) -> Result<Vec<u8>, Uncomposed> {
    if plain.contains(&0) {
        return Err("it has bytes that no message may have");
    }
    let bare = plain.iter().enumerate().any(|(at, &byte)| byte == b'\n' && (at == 0 || plain[at - 1] != b'\r'));
    let mut entity = plain;
    if bare {
        let mut ends = Vec::with_capacity(entity.len() + entity.len() / 32);
        let mut before = 0;
        for byte in entity {
            if byte == b'\n' && before != b'\r' {
                ends.push(b'\r');
            }
            ends.push(byte);
            before = byte;
        }
        entity = ends;
    }
    let begins = mime::fields(&entity).next().is_some_and(|field| field.range.start == 0);
    if !begins && !entity.starts_with(b"\r\n") {
        entity.splice(0..0, *b"Content-Type: text/plain; charset=utf-8\r\n\r\n");
    }
    Ok(entity)
}

/// The header block of what was protected, if it says that its fields are (`hp=`, RFC 9788, section 2.1; `protected-headers=` before it).
pub(super) fn protected_headers(looked: &Looked) -> Option<Vec<u8>> {
    // A part as it stands in a multipart is an entity of its own.
    for entity in [&looked.signed, &looked.entity].into_iter().flatten() {
        let summary = mime::summarize(entity, Timestamp(0), None).ok()?;
        if says_protected(&summary.structure) {
            return Some(summary.headers.to_vec());
        }
    }
    None
}

fn says_protected(part: &Part) -> bool {
    part.parameters.iter().any(|(name, value)| {
        let is = |known: &str| value.eq_ignore_ascii_case(known.as_bytes());
        name.eq_ignore_ascii_case(b"hp") && (is("cipher") || is("clear"))
            || name.eq_ignore_ascii_case(b"protected-headers") && is("v1")
    })
}

/// The author inside, where it is another one than outside.
pub(super) fn other_author(outside: &[u8], inside: &[u8]) -> Option<String> {
    let authors = |block: &[u8]| -> Vec<String> {
        let found = mime::addresses_in(block, "From").unwrap_or_default();
        let mailboxes = found.into_iter().filter_map(|addressee| match addressee {
            MailAddressee::Mailbox { local, domain, .. } => {
                let (local, domain) = (String::from_utf8_lossy(&local), String::from_utf8_lossy(&domain));
                Some(format!("{local}@{domain}").to_lowercase())
            }
            _ => None,
        });
        mailboxes.collect()
    };
    let (outside, inside) = (authors(outside), authors(inside));
    inside.into_iter().find(|author| !outside.contains(author))
}
