//! SEARCH and its keys.

use super::base::{
    Input, MAX_DEPTH, Parsed, astring, atom, close, eat, expected, fail, number, number64, open, sequence_set, sp,
    string, text, word,
};
use crate::proto::command::{Key, Results, Search};
use crate::proto::date;
use mesyx_sdk::{Flag, Query};
use winnow::prelude::*;

pub(super) fn search(uid: bool, input: &mut Input<'_>) -> Parsed<Search> {
    let mut results = None;
    if eat("RETURN ", input) {
        results = Some(result_options(input)?);
        sp(input)?;
    }
    let mut charset = None;
    if eat("CHARSET ", input) {
        charset = Some(astring.map(|name| text(&name)).context(expected("a character set")).parse_next(input)?);
        sp(input)?;
    }
    let mut terms = 0;
    let key = keys(0, &mut terms, input)?;
    Ok(Search { uid, charset, results, key })
}

fn result_options(input: &mut Input<'_>) -> Parsed<Results> {
    let mut results = Results::default();
    open(input)?;
    if eat(")", input) {
        results.all = true;
        return Ok(results);
    }
    loop {
        match word(input)?.as_str() {
            "MIN" => results.min = true,
            "MAX" => results.max = true,
            "ALL" => results.all = true,
            "COUNT" => results.count = true,
            _ => return fail("MIN, MAX, ALL or COUNT"),
        }
        if !eat(" ", input) {
            break;
        }
    }
    close(input)?;
    Ok(results)
}

/// Keys with spaces between, up to the end or a closing parenthesis; all must hold.
fn keys(depth: usize, terms: &mut usize, input: &mut Input<'_>) -> Parsed<Key> {
    let first = key(depth, terms, input)?;
    let mut all = vec![first];
    while eat(" ", input) {
        all.push(key(depth, terms, input)?);
    }
    Ok(if all.len() == 1 { all.swap_remove(0) } else { Key::And(all) })
}

fn key(depth: usize, terms: &mut usize, input: &mut Input<'_>) -> Parsed<Key> {
    *terms += 1;
    // Half of what a query may have, since some keys become two terms.
    if *terms > Query::MAX_TERMS / 3 || depth > MAX_DEPTH {
        return fail("a search of at most 333 keys, nested at most 40 deep");
    }
    match input.first() {
        Some(b'(') => {
            open(input)?;
            let inner = keys(depth + 1, terms, input)?;
            close(input)?;
            return Ok(inner);
        }
        Some(b'*' | b'0'..=b'9') => return Ok(Key::Sequence(sequence_set(input)?)),
        _ => {}
    }
    let name = atom.context(expected("a search key")).parse_next(input)?.to_ascii_uppercase();
    if let Some(key) = simple(&name) {
        return Ok(key);
    }
    sp(input)?;
    Ok(match name.as_slice() {
        b"NOT" => Key::Not(Box::new(key(depth + 1, terms, input)?)),
        b"OR" => {
            let one = key(depth + 1, terms, input)?;
            sp(input)?;
            Key::Or(Box::new(one), Box::new(key(depth + 1, terms, input)?))
        }
        b"UID" => Key::Uid(sequence_set(input)?),
        b"KEYWORD" => Key::Flag(keyword(input)?),
        b"UNKEYWORD" => Key::Not(Box::new(Key::Flag(keyword(input)?))),
        b"HEADER" => {
            let name = value(input)?;
            sp(input)?;
            Key::Header(name, value(input)?)
        }
        b"BCC" => Key::Header(b"Bcc".to_vec(), value(input)?),
        b"CC" => Key::Header(b"Cc".to_vec(), value(input)?),
        b"FROM" => Key::Header(b"From".to_vec(), value(input)?),
        b"SUBJECT" => Key::Header(b"Subject".to_vec(), value(input)?),
        b"TO" => Key::Header(b"To".to_vec(), value(input)?),
        b"BODY" => Key::Body(value(input)?),
        b"TEXT" => Key::Text(value(input)?),
        b"BEFORE" => Key::Before(day(input)?),
        b"ON" => Key::On(day(input)?),
        b"SINCE" => Key::Since(day(input)?),
        b"SENTBEFORE" => Key::SentBefore(day(input)?),
        b"SENTON" => Key::SentOn(day(input)?),
        b"SENTSINCE" => Key::SentSince(day(input)?),
        b"LARGER" => Key::Larger(number(input)?.into()),
        b"SMALLER" => Key::Smaller(number(input)?.into()),
        b"MODSEQ" => modseq(input)?,
        b"EMAILID" => Key::EmailId(text(&value(input)?).parse().ok()),
        b"THREADID" => {
            value(input)?;
            Key::ThreadId
        }
        _ => return fail("a search key of RFC 3501, MODSEQ, EMAILID or THREADID"),
    })
}

fn simple(name: &[u8]) -> Option<Key> {
    let lacks = |flag| Key::Not(Box::new(Key::Flag(flag)));
    Some(match name {
        b"ALL" => Key::All,
        b"ANSWERED" => Key::Flag(Flag::Answered),
        b"DELETED" => Key::Flag(Flag::Deleted),
        b"DRAFT" => Key::Flag(Flag::Draft),
        b"FLAGGED" => Key::Flag(Flag::Flagged),
        b"SEEN" => Key::Flag(Flag::Seen),
        b"UNANSWERED" => lacks(Flag::Answered),
        b"UNDELETED" => lacks(Flag::Deleted),
        b"UNDRAFT" => lacks(Flag::Draft),
        b"UNFLAGGED" => lacks(Flag::Flagged),
        b"UNSEEN" => lacks(Flag::Seen),
        b"NEW" => Key::New,
        b"OLD" => Key::Old,
        b"RECENT" => Key::Recent,
        _ => return None,
    })
}

/// `MODSEQ ["/flags/\Seen" all] 620162338`: all flags of a message share one modification sequence, so the name changes nothing.
fn modseq(input: &mut Input<'_>) -> Parsed<Key> {
    if input.first() == Some(&b'"') {
        string(input)?;
        sp(input)?;
        if !(eat("priv", input) || eat("shared", input) || eat("all", input)) {
            return fail("priv, shared or all");
        }
        sp(input)?;
    }
    Ok(Key::ModSeq(number64(input)?))
}

fn keyword(input: &mut Input<'_>) -> Parsed<Flag> {
    let name = text(atom.context(expected("a keyword")).parse_next(input)?);
    match Flag::new(&name) {
        Ok(flag) => Ok(flag),
        Err(_) => fail("a keyword of 1 to 100 characters"),
    }
}

fn value(input: &mut Input<'_>) -> Parsed<Vec<u8>> {
    astring.map(|value| value.into_owned()).context(expected("a text to search for")).parse_next(input)
}

fn day(input: &mut Input<'_>) -> Parsed<i32> {
    let date = astring.context(expected("a date such as 1-Feb-1994")).parse_next(input)?;
    match date::day(&text(&date)) {
        Some(day) => Ok(day),
        None => fail("a date such as 1-Feb-1994"),
    }
}
