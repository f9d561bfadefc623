//! The forms of a message: what is protected, and what stays visible (RFC 3156, RFC 9788).
//!
//! ```text
//!   payload (signed, encrypted)                      outside
//!   every header but Bcc and traces                  traces, From, To, Cc, Date, Message-ID, References, ...
//!   HP-Outer: what stands outside of them            Subject: [...]
//!   Content-Type: …; hp="cipher"                     Content-Type: multipart/encrypted
//!   the body, byte for byte                            version part, OpenPGP message in ASCII armor
//! ```

use mesyx_sdk::summary::{Part, PartKind};
use mesyx_sdk::{Content, MessageId, Timestamp, mime};
use std::borrow::Cow;

/// What stands for a Subject outside (RFC 9788, section 3.2.1, `hcp_baseline`).
const SUBJECT: &[u8] = b"[...]";

/// Headers that stay outside as they are: what delivering, threading and handling of automatic mail need. All others are
/// protected and stand inside alone.
const SHOWN: [&str; 16] = [
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "Auto-Submitted",
    "Precedence",
    "List-Id",
    "List-Post",
    "List-Help",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
];

/// Headers that are about the way of a message, not of it: outside alone.
const TRACES: [&str; 11] = [
    "Received",
    "Return-Path",
    "Delivered-To",
    "Autocrypt",
    "DKIM-Signature",
    "Authentication-Results",
    "ARC-Seal",
    "ARC-Message-Signature",
    "ARC-Authentication-Results",
    "Received-SPF",
    "DomainKey-Signature",
];

/// Headers that reach nobody.
const BLIND: [&str; 2] = ["Bcc", "Resent-Bcc"];

/// A message taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parted {
    /// What is signed and encrypted.
    pub(crate) payload: Vec<u8>,
    /// The header block outside, without the fields that say what the body is.
    pub(crate) outer: Vec<u8>,
}

/// How long the header block is, with the empty line behind it; everything where there is none.
pub(crate) fn header_length(content: &[u8]) -> usize {
    let mut at = 0;
    while let Some(length) = content[at..].iter().position(|byte| *byte == b'\n') {
        let line = &content[at..at + length];
        at += length + 1;
        if line.is_empty() || line == b"\r" {
            return at;
        }
    }
    content.len()
}

/// The message without the headers that reach nobody.
pub(crate) fn without_blind(content: &[u8]) -> Option<Vec<u8>> {
    let header = &content[..header_length(content)];
    if !mime::fields(header).any(|field| is_one_of(&field, &BLIND)) {
        return None;
    }
    let mut out = Vec::with_capacity(content.len());
    let mut at = 0;
    for field in mime::fields(header).filter(|field| is_one_of(field, &BLIND)) {
        out.extend_from_slice(&content[at..field.range.start]);
        at = field.range.end;
    }
    out.extend_from_slice(&content[at..]);
    Some(out)
}

fn is_one_of(field: &mime::Field<'_>, names: &[&str]) -> bool {
    names.iter().any(|name| field.is(name))
}

/// Takes a message apart.
pub(crate) fn part(content: &[u8]) -> Parted {
    let length = header_length(content);
    let (header, body) = content.split_at(length);
    let mut outer = Vec::with_capacity(length);
    let mut payload = Vec::with_capacity(content.len() + length + 512);
    let (mut records, mut structure) = (Vec::new(), Vec::new());
    let mut typed = false;
    for field in mime::fields(header) {
        let whole = &header[field.range.clone()];
        let structural = field.name.len() > 8 && field.name[..8].eq_ignore_ascii_case(b"content-");
        if structural {
            if field.is("Content-Type") && !typed {
                typed = true;
                content_type(&mut structure, field.value);
            } else {
                line(&mut structure, whole);
            }
        } else if is_one_of(&field, &TRACES) {
            line(&mut outer, whole);
        } else if is_one_of(&field, &BLIND) || field.is("HP-Outer") || field.is("MIME-Version") {
            // HP-Outer is ours to say.
        } else {
            line(&mut payload, whole);
            if is_one_of(&field, &SHOWN) {
                line(&mut outer, whole);
                records.extend_from_slice(b"HP-Outer: ");
                line(&mut records, whole);
            } else if field.is("Subject") {
                let hidden = [b"Subject: ", SUBJECT, b"\r\n"].concat();
                outer.extend_from_slice(&hidden);
                records.extend_from_slice(b"HP-Outer: ");
                records.extend_from_slice(&hidden);
            }
        }
    }
    if !typed {
        content_type(&mut structure, b" text/plain; charset=us-ascii");
    }
    payload.extend_from_slice(&records);
    payload.extend_from_slice(b"MIME-Version: 1.0\r\n");
    payload.extend_from_slice(&structure);
    payload.extend_from_slice(b"\r\n");
    payload.extend_from_slice(body);
    Parted { payload, outer }
}

/// A field with a line end: CRLF also where it had LF alone, or, as the last of a message without a body may, none. Otherwise the end of the
/// header block would be what some take for it and others not.
fn line(out: &mut Vec<u8>, field: &[u8]) {
    let field = field.strip_suffix(b"\n").unwrap_or(field);
    out.extend_from_slice(field.strip_suffix(b"\r").unwrap_or(field));
    out.extend_from_slice(b"\r\n");
}

/// Says of the payload that its headers count: `hp` for those who know RFC 9788, `protected-headers` for those who know what was before it.
fn content_type(out: &mut Vec<u8>, value: &[u8]) {
    let value = value.trim_ascii();
    let value = value.strip_suffix(b";").unwrap_or(value).trim_ascii_end();
    out.extend_from_slice(b"Content-Type: ");
    out.extend_from_slice(value);
    if !claims_protection(value) {
        out.extend_from_slice(b";\r\n hp=\"cipher\"; protected-headers=\"v1\"");
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether the client said something of its own about protected headers, which then stands.
fn claims_protection(value: &[u8]) -> bool {
    let value = String::from_utf8_lossy(value).to_ascii_lowercase();
    value.split(';').skip(1).any(|parameter| {
        let name = parameter.split('=').next().unwrap_or_default().trim();
        name == "hp" || name == "protected-headers"
    })
}

/// The message that goes out: PGP/MIME (RFC 3156, section 4) around an OpenPGP message in ASCII armor.
pub(crate) fn encrypted(outer: &[u8], armored: &[u8]) -> Vec<u8> {
    // Random, so that no text can have been made to hold it; and armor has no line that begins so.
    let boundary = format!("mesyx-{}", MessageId::random());
    let mut out = Vec::with_capacity(outer.len() + armored.len() + armored.len() / 60 + 1024);
    out.extend_from_slice(outer);
    let head = format!(
        "MIME-Version: 1.0\r\n\
         Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\";\r\n boundary=\"{boundary}\"\r\n\
         \r\n\
         This message is encrypted with OpenPGP (RFC 3156).\r\n\
         \r\n\
         --{boundary}\r\n\
         Content-Type: application/pgp-encrypted\r\n\
         Content-Description: PGP/MIME version identification\r\n\
         \r\n\
         Version: 1\r\n\
         \r\n\
         --{boundary}\r\n\
         Content-Type: application/octet-stream; name=\"encrypted.asc\"\r\n\
         Content-Description: OpenPGP encrypted message\r\n\
         Content-Disposition: inline; filename=\"encrypted.asc\"\r\n\
         \r\n"
    );
    out.extend_from_slice(head.as_bytes());
    for text in armored.split(|byte| *byte == b'\n') {
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if !text.is_empty() || !out.ends_with(b"\r\n\r\n") {
            out.extend_from_slice(text);
            out.extend_from_slice(b"\r\n");
        }
    }
    out.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    out
}

/// What a client did to a message before it came to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(index_only)]
pub(crate) enum Protected {
    /// Nothing.
    #[n(0)]
    No,
    /// It is signed, or encrypted in part: left as it is, and not good enough where encryption is required.
    #[n(1)]
    Signed,
    /// It is encrypted whole.
    #[n(2)]
    Encrypted,
}

const BEGIN_MESSAGE: &[u8] = b"-----BEGIN PGP MESSAGE-----";
const END_MESSAGE: &[u8] = b"-----END PGP MESSAGE-----";
const BEGIN_SIGNED: &[u8] = b"-----BEGIN PGP SIGNED MESSAGE-----";

/// What the client did: PGP/MIME, S/MIME, or PGP in the text. Believed of encryption only where what should be encrypted looks so.
/// Text counts only where it begins with such a block: a message that quotes or attaches one is as any other.
pub(crate) fn protection(content: &Content) -> Protected {
    let Ok(summary) = mime::summarize(content, Timestamp(0), None) else { return Protected::No };
    let header = &content[..header_length(content)];
    let value = mime::fields(header).find(|field| field.is("Content-Type")).map(|field| mime::unfold(field.value));
    let value = value.map(|value| String::from_utf8_lossy(&value).to_ascii_lowercase()).unwrap_or_default();
    let whole = &summary.structure;
    match value.split(';').next().unwrap_or_default().trim() {
        "multipart/encrypted" => match armored_part(&content.slice(whole.body.start, whole.body.end)) {
            true => Protected::Encrypted,
            false => Protected::Signed,
        },
        "multipart/signed" => Protected::Signed,
        "application/pkcs7-mime" | "application/x-pkcs7-mime" => match value.contains("enveloped-data") {
            true => Protected::Encrypted,
            false => Protected::Signed,
        },
        _ => inline(content, whole),
    }
}

/// Looks at the first text of a message.
fn inline(content: &Content, whole: &Part) -> Protected {
    let mut first = whole;
    while let PartKind::Multipart(parts) = &first.kind {
        let Some(part) = parts.first() else { return Protected::No };
        first = part;
    }
    let (kind, subkind) = &first.content_type;
    if !kind.eq_ignore_ascii_case(b"text") || !subkind.eq_ignore_ascii_case(b"plain") {
        return Protected::No;
    }
    let body = content.slice(first.body.start, first.body.end);
    let base64 = first.encoding.eq_ignore_ascii_case(b"base64");
    let text: Cow<'_, [u8]> = if base64 { Cow::Owned(decoded_start(&body)) } else { Cow::Borrowed(&body) };
    let text = text.trim_ascii_start();
    if !text.starts_with(BEGIN_MESSAGE) && !text.starts_with(BEGIN_SIGNED) {
        return Protected::No;
    }
    match !base64 && std::ptr::eq(first, whole) && inline_whole(text) {
        true => Protected::Encrypted,
        false => Protected::Signed,
    }
}

/// The beginning of a base64 text: enough to see what it begins with.
fn decoded_start(body: &[u8]) -> Vec<u8> {
    use base64::Engine;
    let digits: Vec<u8> = body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).take(128).collect();
    let whole = &digits[..digits.len() / 4 * 4];
    base64::engine::general_purpose::STANDARD.decode(whole).unwrap_or_default()
}

/// Whether a multipart/encrypted's second part is an OpenPGP message and nothing else: after its headers nothing but armor, and no third
/// part.
fn armored_part(body: &[u8]) -> bool {
    let Some(begin) = line_start(body, BEGIN_MESSAGE) else { return false };
    let Some(end) = line_start(&body[begin..], END_MESSAGE) else { return false };
    let after = &body[begin + end + END_MESSAGE.len()..];
    // Behind the armor: the closing delimiter alone.
    let mut rest = after.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let closing = rest.next().is_some_and(|line| line.starts_with(b"--") && line.ends_with(b"--"));
    if !closing || rest.next().is_some() {
        return false;
    }
    // In front of it: delimiters, part headers, the version; no text of anybody's.
    let before = &body[..begin];
    let is_part_line = |line: &&[u8]| {
        let line = line.trim_ascii();
        line.is_empty()
            || line.starts_with(b"--")
            || line.to_ascii_lowercase().starts_with(b"content-")
            || line.eq_ignore_ascii_case(b"Version: 1")
            || line.starts_with(b"name=")
            || line.starts_with(b"filename=")
    };
    let texts = before.split(|byte| *byte == b'\n').filter(|line| !is_part_line(line));
    // A preamble is customary: up to a few lines that say what this is.
    texts.map(<[u8]>::len).sum::<usize>() <= 512
}

/// Whether a text is one armored message from its first line to its last.
fn inline_whole(body: &[u8]) -> bool {
    let text = body.trim_ascii();
    text.starts_with(BEGIN_MESSAGE)
        && text.ends_with(END_MESSAGE)
        && line_start(&text[BEGIN_MESSAGE.len()..], END_MESSAGE)
            .is_some_and(|end| BEGIN_MESSAGE.len() + end + END_MESSAGE.len() == text.len())
}

/// Where a line begins that begins with `what`.
fn line_start(text: &[u8], what: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        if text[at..].starts_with(what) {
            return Some(at);
        }
        at += text[at..].iter().position(|byte| *byte == b'\n')? + 1;
    }
}
