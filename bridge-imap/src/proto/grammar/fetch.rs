//! FETCH and what it asks for.

use super::base::{
    Input, Parsed, astring, atom, close, eat, expected, fail, number, number64, nz_number, open, sequence_set, sp,
};
use crate::proto::command::{Fetch, Item, Section, SectionText};
use winnow::combinator::{cut_err, separated};
use winnow::prelude::*;
use winnow::token::take_while;

/// Most data items in one FETCH.
const MAX_ITEMS: usize = 200;
/// Most part numbers in one section; no message is looked into deeper.
const MAX_PATH: usize = 100;

pub(super) fn fetch(uid: bool, input: &mut Input<'_>) -> Parsed<Fetch> {
    let set = sequence_set(input)?;
    sp(input)?;
    let mut items = if eat("(", input) {
        let items = separated(1..=MAX_ITEMS, item, b' ').context(expected("1 to 200 data items")).parse_next(input)?;
        close(input)?;
        items
    } else {
        macro_or_item(input)?
    };
    if uid && !items.contains(&Item::Uid) {
        items.insert(0, Item::Uid);
    }
    let mut fetch = Fetch { uid, set, items, changed_since: None, vanished: false };
    if !input.is_empty() {
        sp(input)?;
        open(input)?;
        loop {
            if eat("CHANGEDSINCE", input) {
                sp(input)?;
                fetch.changed_since = Some(number64(input)?);
            } else if eat("VANISHED", input) {
                fetch.vanished = true;
            } else {
                return fail("CHANGEDSINCE or VANISHED");
            }
            if !eat(" ", input) {
                break;
            }
        }
        close(input)?;
        if fetch.vanished && (!uid || fetch.changed_since.is_none()) {
            return fail("VANISHED with UID FETCH and CHANGEDSINCE only");
        }
    }
    Ok(fetch)
}

fn macro_or_item(input: &mut Input<'_>) -> Parsed<Vec<Item>> {
    let mut items = vec![Item::Flags, Item::InternalDate, Item::Size];
    if eat("ALL", input) {
        items.push(Item::Envelope);
    } else if eat("FULL", input) {
        items.extend([Item::Envelope, Item::Body]);
    } else if !eat("FAST", input) {
        items = vec![item(input)?];
    }
    Ok(items)
}

fn item(input: &mut Input<'_>) -> Parsed<Item> {
    let name = take_while(1.., |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.')
        .context(expected("a data item such as FLAGS or BODY[]"))
        .parse_next(input)?;
    Ok(match name.to_ascii_uppercase().as_slice() {
        b"UID" => Item::Uid,
        b"FLAGS" => Item::Flags,
        b"INTERNALDATE" => Item::InternalDate,
        b"ENVELOPE" => Item::Envelope,
        b"BODYSTRUCTURE" => Item::BodyStructure,
        b"MODSEQ" => Item::ModSeq,
        b"EMAILID" => Item::EmailId,
        b"THREADID" => Item::ThreadId,
        b"RFC822" => Item::Rfc822,
        b"RFC822.SIZE" => Item::Size,
        b"RFC822.HEADER" => Item::Rfc822Header,
        b"RFC822.TEXT" => Item::Rfc822Text,
        b"BODY" if input.first() != Some(&b'[') => Item::Body,
        b"BODY" => section_item(false, input)?,
        b"BODY.PEEK" => section_item(true, input)?,
        _ => return fail("a data item such as FLAGS or BODY[]"),
    })
}

fn section_item(peek: bool, input: &mut Input<'_>) -> Parsed<Item> {
    cut_err(b'[').context(expected("[ and a section")).parse_next(input)?;
    let section = section(input)?;
    cut_err(b']').context(expected("] after the section")).parse_next(input)?;
    let mut partial = None;
    if eat("<", input) {
        let start = number(input)?;
        cut_err(b'.').context(expected("a partial such as <0.1000>")).parse_next(input)?;
        partial = Some((start, nz_number(input)?));
        cut_err(b'>').context(expected("a partial such as <0.1000>")).parse_next(input)?;
    }
    Ok(Item::Section { peek, section, partial })
}

fn section(input: &mut Input<'_>) -> Parsed<Section> {
    let mut path = Vec::new();
    while input.first().is_some_and(u8::is_ascii_digit) {
        if path.len() == MAX_PATH {
            return fail("at most 100 part numbers");
        }
        path.push(nz_number(input)?);
        if !eat(".", input) {
            return Ok(Section { path, text: SectionText::All });
        }
    }
    if input.first() == Some(&b']') && path.is_empty() {
        return Ok(Section { path, text: SectionText::All });
    }
    let name = atom.context(expected("HEADER, HEADER.FIELDS, HEADER.FIELDS.NOT, TEXT or MIME")).parse_next(input)?;
    let text = match name.to_ascii_uppercase().as_slice() {
        b"HEADER" => SectionText::Header,
        b"HEADER.FIELDS" => fields(false, input)?,
        b"HEADER.FIELDS.NOT" => fields(true, input)?,
        b"TEXT" => SectionText::Text,
        b"MIME" if !path.is_empty() => SectionText::Mime,
        _ => return fail("HEADER, HEADER.FIELDS, HEADER.FIELDS.NOT, TEXT, or MIME after a part number"),
    };
    Ok(Section { path, text })
}

fn fields(not: bool, input: &mut Input<'_>) -> Parsed<SectionText> {
    sp(input)?;
    open(input)?;
    let name = astring.map(|name| name.into_owned());
    let names = separated(1..=500, name, b' ').context(expected("1 to 500 header names")).parse_next(input)?;
    close(input)?;
    Ok(SectionText::Fields { not, names })
}
