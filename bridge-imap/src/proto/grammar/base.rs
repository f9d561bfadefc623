//! Strings, numbers and names.

use crate::proto::framing::is_tag_byte;
use crate::proto::sequence::{Bound, SequenceSet};
use mesyx_sdk::Flag;
use std::borrow::Cow;
use winnow::ascii::Caseless;
use winnow::combinator::{alt, cut_err, delimited, opt, preceded, separated};
use winnow::error::{ContextError, ErrMode, StrContext, StrContextValue};
use winnow::prelude::*;
use winnow::token::{any, literal, take, take_while};

pub(super) type Input<'a> = &'a [u8];
pub(super) type Parsed<T> = ModalResult<T>;

/// Deepest nesting of parentheses that any rule follows.
pub(super) const MAX_DEPTH: usize = 40;

/// What a rule expects, for the text of `BAD`.
pub(super) const fn expected(what: &'static str) -> StrContext {
    StrContext::Expected(StrContextValue::Description(what))
}

/// The end of all attempts: nothing else can be meant.
pub(super) fn fail<T>(what: &'static str) -> Parsed<T> {
    let mut error = ContextError::new();
    error.push(expected(what));
    Err(ErrMode::Cut(error))
}

pub(super) fn sp(input: &mut Input<'_>) -> Parsed<()> {
    cut_err(b' '.void()).context(expected("a space and one more argument")).parse_next(input)
}

pub(super) fn open(input: &mut Input<'_>) -> Parsed<()> {
    cut_err(b'('.void()).context(expected("an opening parenthesis")).parse_next(input)
}

pub(super) fn close(input: &mut Input<'_>) -> Parsed<()> {
    cut_err(b')'.void()).context(expected("a closing parenthesis")).parse_next(input)
}

/// Whether the input goes on with this word, in any case; takes it then.
pub(super) fn eat(word: &'static str, input: &mut Input<'_>) -> bool {
    let found: Parsed<Option<&[u8]>> = opt(literal(Caseless(word))).parse_next(input);
    matches!(found, Ok(Some(_)))
}

pub(super) fn tag(input: &mut Input<'_>) -> Parsed<String> {
    let tag = take_while(1..=64, is_tag_byte).context(expected("a tag of 1 to 64 characters")).parse_next(input)?;
    sp(input)?;
    Ok(text(tag))
}

/// Bytes that are ASCII already, as text.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const fn is_atom_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'(' | b')' | b'{' | b'%' | b'*' | b'"' | b'\\' | b']')
}

const fn is_astring_byte(byte: u8) -> bool {
    is_atom_byte(byte) || byte == b']'
}

pub(super) fn atom<'a>(input: &mut Input<'a>) -> Parsed<&'a [u8]> {
    take_while(1.., is_atom_byte).parse_next(input)
}

/// An atom in upper case, for keywords of the protocol.
pub(super) fn word(input: &mut Input<'_>) -> Parsed<String> {
    atom.map(|atom| text(atom).to_ascii_uppercase()).parse_next(input)
}

pub(super) fn astring<'a>(input: &mut Input<'a>) -> Parsed<Cow<'a, [u8]>> {
    alt((string, take_while(1.., is_astring_byte).map(Cow::Borrowed)))
        .context(expected("an atom or a string"))
        .parse_next(input)
}

pub(super) fn string<'a>(input: &mut Input<'a>) -> Parsed<Cow<'a, [u8]>> {
    alt((literal_string.map(Cow::Borrowed), quoted)).context(expected("a string")).parse_next(input)
}

pub(super) fn nstring(input: &mut Input<'_>) -> Parsed<Option<Vec<u8>>> {
    if eat("NIL", input) {
        return Ok(None);
    }
    string.map(|string| Some(string.into_owned())).context(expected("a string or NIL")).parse_next(input)
}

/// `{12}` or `{12+}`, a line end and that many bytes. NUL is no character of IMAP.
pub(super) fn literal_string<'a>(input: &mut Input<'a>) -> Parsed<&'a [u8]> {
    let length: usize = delimited(b'{', digits, (opt(b'+'), b"}\r\n"))
        .verify_map(|digits| usize::try_from(digits).ok())
        .parse_next(input)?;
    cut_err(take(length)).context(expected("a literal of the announced size")).parse_next(input)
}

/// A quoted string. Bytes beyond ASCII are let through: passwords have them, and UTF8=ACCEPT allows them.
fn quoted<'a>(input: &mut Input<'a>) -> Parsed<Cow<'a, [u8]>> {
    let inside = |byte: u8| !matches!(byte, b'"' | b'\\' | b'\r' | b'\n' | 0);
    b'"'.parse_next(input)?;
    let mut value = Cow::Borrowed(take_while(0.., inside).parse_next(input)?);
    loop {
        match cut_err(any).context(expected("a closing quote")).parse_next(input)? {
            b'"' => return Ok(value),
            b'\\' => {
                let escaped = cut_err(alt((b'"', b'\\'))).context(expected("\" or \\ after \\")).parse_next(input)?;
                value.to_mut().push(escaped);
                let more: &[u8] = take_while(0.., inside).parse_next(input)?;
                value.to_mut().extend_from_slice(more);
            }
            _ => return fail("a quoted string without CR, LF and NUL"),
        }
    }
}

/// A mailbox name, still in the spelling that it came in.
pub(super) fn mailbox(input: &mut Input<'_>) -> Parsed<Vec<u8>> {
    cut_err(astring).map(Cow::into_owned).context(expected("a mailbox name")).parse_next(input)
}

/// A mailbox name that may hold `%` and `*`.
pub(super) fn pattern(input: &mut Input<'_>) -> Parsed<Vec<u8>> {
    let list_byte = |byte: u8| is_astring_byte(byte) || matches!(byte, b'%' | b'*');
    cut_err(alt((string, take_while(1.., list_byte).map(Cow::Borrowed))))
        .map(Cow::into_owned)
        .context(expected("a mailbox name or pattern"))
        .parse_next(input)
}

fn digits(input: &mut Input<'_>) -> Parsed<u64> {
    take_while(1..=19, |byte: u8| byte.is_ascii_digit())
        .map(|digits: &[u8]| digits.iter().fold(0_u64, |value, digit| value * 10 + u64::from(digit - b'0')))
        .parse_next(input)
}

pub(super) fn number(input: &mut Input<'_>) -> Parsed<u32> {
    digits
        .verify_map(|value| u32::try_from(value).ok())
        .context(expected("a number up to 4294967295"))
        .parse_next(input)
}

pub(super) fn nz_number(input: &mut Input<'_>) -> Parsed<u32> {
    number.verify(|value| *value > 0).context(expected("a number from 1 to 4294967295")).parse_next(input)
}

/// A number up to 2^63-1: a size or a modification sequence.
pub(super) fn number64(input: &mut Input<'_>) -> Parsed<u64> {
    digits.verify(|value| i64::try_from(*value).is_ok()).context(expected("a number below 2^63")).parse_next(input)
}

pub(super) fn sequence_set(input: &mut Input<'_>) -> Parsed<SequenceSet> {
    let bound = |input: &mut Input<'_>| alt((b'*'.value(Bound::Last), nz_number.map(Bound::Number))).parse_next(input);
    let range = |input: &mut Input<'_>| {
        let from = bound(input)?;
        let to: Option<Bound> = opt(preceded(b':', cut_err(bound))).parse_next(input)?;
        Ok((from, to.unwrap_or(from)))
    };
    separated(1.., range, b',')
        .map(SequenceSet)
        .context(expected("a set of message numbers, such as 1:5,7,9:*"))
        .parse_next(input)
}

/// One flag that can be set; `\Recent`, which clients send back at times, is `None`.
fn flag(input: &mut Input<'_>) -> Parsed<Option<Flag>> {
    let name = (opt(b'\\'), atom).take().context(expected("a flag")).parse_next(input)?;
    if name.eq_ignore_ascii_case(b"\\Recent") {
        return Ok(None);
    }
    match std::str::from_utf8(name).ok().and_then(|name| Flag::new(name).ok()) {
        Some(flag) => Ok(Some(flag)),
        None => fail("\\Answered, \\Deleted, \\Draft, \\Flagged, \\Seen, or a keyword of 1 to 100 characters"),
    }
}

pub(super) fn flag_list(input: &mut Input<'_>) -> Parsed<Vec<Flag>> {
    open(input)?;
    let flags: Vec<Option<Flag>> = separated(0.., flag, b' ').parse_next(input)?;
    close(input)?;
    Ok(flags.into_iter().flatten().collect())
}

/// Flags as STORE takes them: in parentheses or bare.
pub(super) fn store_flags(input: &mut Input<'_>) -> Parsed<Vec<Flag>> {
    if input.first() == Some(&b'(') {
        return flag_list(input);
    }
    let flags: Vec<Option<Flag>> = separated(1.., flag, b' ').context(expected("flags")).parse_next(input)?;
    Ok(flags.into_iter().flatten().collect())
}
