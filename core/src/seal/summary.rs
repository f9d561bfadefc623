//! The clear form of a summary: CBOR arrays with fields in a fixed order.
//!
//! Fields may be added at the end of an array, never moved: a reader passes over those that it does not know, and one that
//! is missing has its default. The tree of parts stands flat, in the order of the text, each part followed by its children, so
//! reading needs no recursion; its depth is bounded all the same, because dropping a tree recurses.

use super::body::{FRAME_LENGTH, frame};
use super::packet::Clear;
use super::padding::padded_length;
use super::{OpenError, PartContext, PartName, SealError, Sealed, SessionKey};
use bytes::Bytes;
use mesyx_sdk::mime::MAX_DEPTH;
use mesyx_sdk::summary::{MailAddressee, MailFields, PartKind};
use mesyx_sdk::{Content, Origin, Part, Protection, Summary, Timestamp, UserId};
use minicbor::decode::Error;
use minicbor::{Decoder, Encoder};

type Written = Result<(), minicbor::encode::Error<std::convert::Infallible>>;
type Out<'a> = Encoder<&'a mut Vec<u8>>;
type Parameters = Vec<(Vec<u8>, Vec<u8>)>;

/// Seals a summary.
pub(super) fn seal(context: &PartContext, summary: &Summary, key: &SessionKey) -> Result<Sealed, SealError> {
    let mut clear = Clear::with_capacity(FRAME_LENGTH + 2 * summary.headers.len() + 2048);
    let buffer = clear.buffer();
    buffer.resize(Clear::START + FRAME_LENGTH, 0);
    write_summary(&mut Encoder::new(&mut *buffer), summary).map_err(super::packet::crypto)?;
    let length = buffer.len() - Clear::START;
    let mut line = Vec::with_capacity(FRAME_LENGTH);
    frame(&mut line, PartName::Summary, context, FRAME_LENGTH, length - FRAME_LENGTH);
    buffer[Clear::START..Clear::START + FRAME_LENGTH].copy_from_slice(&line);
    let padded = usize::try_from(padded_length(length as u64)).map_err(|_| SealError::TooLarge)?;
    buffer.resize(Clear::START + padded, 0);
    clear.seal(key)
}

/// Reads a summary; its headers share the memory of `clear`.
pub(super) fn decode(clear: Bytes) -> Result<Summary, OpenError> {
    read_summary(&clear).map_err(|_| OpenError::Damaged("its summary can't be read"))
}

fn write_summary(out: &mut Out<'_>, summary: &Summary) -> Written {
    let Summary { internal_date, size, headers, fields, structure, origin } = summary;
    out.array(6)?.i64(internal_date.0)?.u64(*size)?.bytes(headers)?;
    write_fields(out, fields)?;
    write_parts(out, structure)?;
    match origin {
        Some(origin) => write_origin(out, origin),
        None => out.null()?.ok(),
    }
}

fn read_summary(clear: &Bytes) -> Result<Summary, Error> {
    let input = &mut Decoder::new(clear);
    let mut left = array(input)?;
    let internal_date = Timestamp(field(input, &mut left, Decoder::i64)?);
    let size = field(input, &mut left, Decoder::u64)?;
    let headers = field(input, &mut left, |input| input.bytes().map(|bytes| Content::from(clear.slice_ref(bytes))))?;
    let fields = field(input, &mut left, read_fields)?;
    let structure = field(input, &mut left, read_parts)?;
    let origin = field(input, &mut left, |input| optional(input, read_origin))?;
    skip(input, left)?;
    Ok(Summary { internal_date, size, headers, fields, structure, origin })
}

fn write_fields(out: &mut Out<'_>, fields: &MailFields) -> Written {
    let MailFields { date, subject, from, sender, reply_to, to, cc, bcc, in_reply_to, message_id } = fields;
    out.array(10)?;
    write_optional(out, date.as_deref())?;
    write_optional(out, subject.as_deref())?;
    for list in [from, sender, reply_to, to, cc, bcc] {
        out.array(list.len() as u64)?;
        for addressee in list {
            write_addressee(out, addressee)?;
        }
    }
    write_optional(out, in_reply_to.as_deref())?;
    write_optional(out, message_id.as_deref())
}

fn read_fields(input: &mut Decoder<'_>) -> Result<MailFields, Error> {
    let mut left = array(input)?;
    let mut fields = MailFields {
        date: field(input, &mut left, read_optional)?,
        subject: field(input, &mut left, read_optional)?,
        ..MailFields::default()
    };
    let MailFields { from, sender, reply_to, to, cc, bcc, .. } = &mut fields;
    for list in [from, sender, reply_to, to, cc, bcc] {
        *list = field(input, &mut left, |input| list_of(input, read_addressee))?;
    }
    fields.in_reply_to = field(input, &mut left, read_optional)?;
    fields.message_id = field(input, &mut left, read_optional)?;
    skip(input, left)?;
    Ok(fields)
}

/// A mailbox is an array of four; the start of a group is its name; the end of one is null.
fn write_addressee(out: &mut Out<'_>, addressee: &MailAddressee) -> Written {
    match addressee {
        MailAddressee::Mailbox { name, route, local, domain } => {
            out.array(4)?;
            write_optional(out, name.as_deref())?;
            write_optional(out, route.as_deref())?;
            out.bytes(local)?.bytes(domain)?.ok()
        }
        MailAddressee::GroupStart(name) => out.bytes(name)?.ok(),
        MailAddressee::GroupEnd => out.null()?.ok(),
    }
}

fn read_addressee(input: &mut Decoder<'_>) -> Result<MailAddressee, Error> {
    use minicbor::data::Type;
    match input.datatype()? {
        Type::Null => input.null().map(|()| MailAddressee::GroupEnd),
        Type::Bytes => read_bytes(input).map(MailAddressee::GroupStart),
        _ => {
            let mut left = array(input)?;
            let mailbox = MailAddressee::Mailbox {
                name: field(input, &mut left, read_optional)?,
                route: field(input, &mut left, read_optional)?,
                local: field(input, &mut left, read_bytes)?,
                domain: field(input, &mut left, read_bytes)?,
            };
            skip(input, left)?;
            Ok(mailbox)
        }
    }
}

/// How many parts follow a part as its children, and what it is itself.
const LEAF: u64 = 0;
const MULTIPART: u64 = 1;
const MESSAGE: u64 = 2;

/// All parts in one array, each before its children.
fn write_parts(out: &mut Out<'_>, root: &Part) -> Written {
    out.begin_array()?;
    let mut waiting = vec![root];
    while let Some(part) = waiting.pop() {
        write_part(out, part)?;
        match &part.kind {
            PartKind::Leaf => {}
            PartKind::Multipart(parts) => waiting.extend(parts.iter().rev()),
            PartKind::Message(_, inner) => waiting.push(inner),
        }
    }
    out.end()?.ok()
}

fn write_part(out: &mut Out<'_>, part: &Part) -> Written {
    out.array(14)?.bytes(&part.content_type.0)?.bytes(&part.content_type.1)?;
    write_parameters(out, &part.parameters)?;
    write_optional(out, part.id.as_deref())?;
    write_optional(out, part.description.as_deref())?;
    out.bytes(&part.encoding)?;
    write_optional(out, part.md5.as_deref())?;
    match &part.disposition {
        Some((name, parameters)) => {
            out.array(2)?.bytes(name)?;
            write_parameters(out, parameters)?;
        }
        None => {
            out.null()?;
        }
    }
    out.array(part.language.len() as u64)?;
    for tag in &part.language {
        out.bytes(tag)?;
    }
    write_optional(out, part.location.as_deref())?;
    for range in [&part.header, &part.body] {
        out.array(2)?.u64(range.start)?.u64(range.end)?;
    }
    out.u32(part.lines)?;
    match &part.kind {
        PartKind::Leaf => out.array(1)?.u64(LEAF)?.ok(),
        PartKind::Multipart(parts) => out.array(2)?.u64(MULTIPART)?.u64(parts.len() as u64)?.ok(),
        PartKind::Message(fields, _) => {
            out.array(2)?.u64(MESSAGE)?;
            write_fields(out, fields)
        }
    }
}

/// A part whose children are still to come.
struct Open {
    part: Part,
    missing: u64,
}

fn read_parts(input: &mut Decoder<'_>) -> Result<Part, Error> {
    let definite = input.array()?;
    // A message part and the multipart in it are two levels where MIME counts one.
    let deepest = 2 * MAX_DEPTH + 2;
    let mut above: Vec<Open> = Vec::new();
    loop {
        let (mut done, missing) = read_part(input)?;
        if missing > 0 {
            if above.len() >= deepest {
                return Err(Error::message("parts are nested too deep"));
            }
            above.push(Open { part: done, missing });
            continue;
        }
        // A finished part goes into the one above, which may be finished by it.
        loop {
            let Some(mut parent) = above.pop() else {
                if definite.is_none() {
                    input.skip()?;
                }
                return Ok(done);
            };
            match &mut parent.part.kind {
                PartKind::Multipart(parts) => parts.push(done),
                PartKind::Message(_, inner) => **inner = done,
                PartKind::Leaf => return Err(Error::message("a leaf has parts")),
            }
            parent.missing -= 1;
            if parent.missing > 0 {
                above.push(parent);
                break;
            }
            done = parent.part;
        }
    }
}

fn read_part(input: &mut Decoder<'_>) -> Result<(Part, u64), Error> {
    let mut left = array(input)?;
    let content_type = (field(input, &mut left, read_bytes)?, field(input, &mut left, read_bytes)?);
    let mut part = Part { content_type, ..placeholder() };
    part.parameters = field(input, &mut left, read_parameters)?;
    part.id = field(input, &mut left, read_optional)?;
    part.description = field(input, &mut left, read_optional)?;
    part.encoding = field(input, &mut left, read_bytes)?;
    part.md5 = field(input, &mut left, read_optional)?;
    part.disposition = field(input, &mut left, |input| {
        optional(input, |input| {
            let mut left = array(input)?;
            let disposition = (field(input, &mut left, read_bytes)?, field(input, &mut left, read_parameters)?);
            skip(input, left)?;
            Ok(disposition)
        })
    })?;
    part.language = field(input, &mut left, |input| list_of(input, read_bytes))?;
    part.location = field(input, &mut left, read_optional)?;
    for range in [&mut part.header, &mut part.body] {
        *range = field(input, &mut left, |input| {
            let mut left = array(input)?;
            let (start, end) = (field(input, &mut left, Decoder::u64)?, field(input, &mut left, Decoder::u64)?);
            skip(input, left)?;
            if start > end { Err(Error::message("a part ends before it begins")) } else { Ok(start..end) }
        })?;
    }
    part.lines = field(input, &mut left, Decoder::u32)?;
    let (kind, children) = field(input, &mut left, |input| {
        let mut left = array(input)?;
        let kind = match field(input, &mut left, Decoder::u64)? {
            MULTIPART => (PartKind::Multipart(Vec::new()), field(input, &mut left, Decoder::u64)?),
            MESSAGE => {
                let fields = field(input, &mut left, read_fields)?;
                (PartKind::Message(Box::new(fields), Box::new(placeholder())), 1)
            }
            _ => (PartKind::Leaf, 0),
        };
        skip(input, left)?;
        Ok(kind)
    })?;
    part.kind = kind;
    skip(input, left)?;
    Ok((part, children))
}

fn placeholder() -> Part {
    Part {
        content_type: (Vec::new(), Vec::new()),
        parameters: Vec::new(),
        id: None,
        description: None,
        encoding: Vec::new(),
        md5: None,
        disposition: None,
        language: Vec::new(),
        location: None,
        header: 0..0,
        body: 0..0,
        lines: 0,
        kind: PartKind::Leaf,
    }
}

fn write_parameters(out: &mut Out<'_>, parameters: &Parameters) -> Written {
    out.array(2 * parameters.len() as u64)?;
    for (name, value) in parameters {
        out.bytes(name)?.bytes(value)?;
    }
    Ok(())
}

fn read_parameters(input: &mut Decoder<'_>) -> Result<Parameters, Error> {
    let flat = list_of(input, read_bytes)?;
    let mut flat = flat.into_iter();
    let mut parameters = Vec::new();
    while let Some(name) = flat.next() {
        parameters.push((name, flat.next().unwrap_or_default()));
    }
    Ok(parameters)
}

fn write_origin(out: &mut Out<'_>, origin: &Origin) -> Written {
    let Origin { bridge, network, peer, protection, authenticated, checks } = origin;
    out.array(6)?.str(bridge)?.str(network)?;
    match peer {
        Some(peer) => out.str(peer)?,
        None => out.null()?,
    };
    match protection {
        Protection::Tls { version, cipher } => out.array(3)?.u8(1)?.str(version)?.str(cipher)?,
        Protection::Otr { verified } => out.array(2)?.u8(2)?.bool(*verified)?,
        Protection::Pgp => out.array(1)?.u8(3)?,
        _ => out.array(1)?.u8(0)?,
    };
    write_optional(out, authenticated.as_ref().map(|user| &user.as_bytes()[..]))?;
    out.array(checks.len() as u64)?;
    for check in checks {
        out.str(check)?;
    }
    Ok(())
}

fn read_origin(input: &mut Decoder<'_>) -> Result<Origin, Error> {
    let text = |input: &mut Decoder<'_>| input.str().map(str::to_owned);
    let mut left = array(input)?;
    let origin = Origin {
        bridge: field(input, &mut left, text)?,
        network: field(input, &mut left, text)?,
        peer: field(input, &mut left, |input| optional(input, text))?,
        protection: field(input, &mut left, |input| {
            let mut left = array(input)?;
            let protection = match field(input, &mut left, Decoder::u8)? {
                1 => {
                    Protection::Tls { version: field(input, &mut left, text)?, cipher: field(input, &mut left, text)? }
                }
                2 => Protection::Otr { verified: field(input, &mut left, Decoder::bool)? },
                3 => Protection::Pgp,
                // A protection that is not known here raises no trust.
                _ => Protection::None,
            };
            skip(input, left)?;
            Ok(protection)
        })?,
        authenticated: field(input, &mut left, read_optional)?
            .map(|id| id.try_into().map(UserId).map_err(|_| Error::message("a user id has 16 bytes")))
            .transpose()?,
        checks: field(input, &mut left, |input| list_of(input, text))?,
    };
    skip(input, left)?;
    Ok(origin)
}

fn write_optional(out: &mut Out<'_>, bytes: Option<&[u8]>) -> Written {
    match bytes {
        Some(bytes) => out.bytes(bytes)?.ok(),
        None => out.null()?.ok(),
    }
}

fn read_bytes(input: &mut Decoder<'_>) -> Result<Vec<u8>, Error> {
    input.bytes().map(<[u8]>::to_vec)
}

fn read_optional(input: &mut Decoder<'_>) -> Result<Option<Vec<u8>>, Error> {
    optional(input, read_bytes)
}

fn optional<T>(
    input: &mut Decoder<'_>,
    read: impl FnOnce(&mut Decoder<'_>) -> Result<T, Error>,
) -> Result<Option<T>, Error> {
    if input.datatype()? == minicbor::data::Type::Null { input.null().map(|()| None) } else { read(input).map(Some) }
}

/// The elements of an array; memory grows only as they are read, whatever length it claims.
fn list_of<'b, T>(
    input: &mut Decoder<'b>,
    mut read: impl FnMut(&mut Decoder<'b>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let length = array(input)?;
    let mut list = Vec::with_capacity(length.min(16) as usize);
    for _ in 0..length {
        list.push(read(input)?);
    }
    Ok(list)
}

fn array(input: &mut Decoder<'_>) -> Result<u64, Error> {
    input.array()?.ok_or_else(|| Error::message("an array has no length"))
}

/// The next field of an array with `left` fields to come.
fn field<'b, T>(
    input: &mut Decoder<'b>,
    left: &mut u64,
    read: impl FnOnce(&mut Decoder<'b>) -> Result<T, Error>,
) -> Result<T, Error> {
    *left = left.checked_sub(1).ok_or_else(|| Error::message("a field is missing"))?;
    read(input)
}

/// Passes over fields that a newer Mesyx has added.
fn skip(input: &mut Decoder<'_>, left: u64) -> Result<(), Error> {
    for _ in 0..left {
        input.skip()?;
    }
    Ok(())
}
