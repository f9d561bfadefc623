//! Whether a message matches a query (RFC 3501, section 6.4.4).

use super::decode;
use super::store::Message;
use crate::summary::PartKind;
use crate::{Error, ErrorKind, Part, Query, Uid, mime};

/// Refuses a query over the limits of [`Query`].
pub(super) fn check(query: &Query) -> Result<(), Error> {
    let mut terms = 0;
    let mut waiting = vec![(query, 1)];
    while let Some((query, depth)) = waiting.pop() {
        terms += 1;
        if depth > Query::MAX_DEPTH || terms > Query::MAX_TERMS {
            return Err(Error::new(ErrorKind::Invalid, "the search has more than 1000 terms or is more than 50 deep"));
        }
        match query {
            Query::And(queries) | Query::Or(queries) => waiting.extend(queries.iter().map(|query| (query, depth + 1))),
            Query::Not(query) => waiting.push((query, depth + 1)),
            _ => {}
        }
    }
    Ok(())
}

/// Whether the message matches; the query's depth was checked.
pub(super) fn matches(query: &Query, uid: Uid, message: &Message) -> bool {
    let summary = &message.summary;
    let received = summary.internal_date.day();
    let sent = || summary.fields.date.as_deref().and_then(mime::sent_day);
    match query {
        Query::All => true,
        Query::And(queries) => queries.iter().all(|query| matches(query, uid, message)),
        Query::Or(queries) => queries.iter().any(|query| matches(query, uid, message)),
        Query::Not(query) => !matches(query, uid, message),
        Query::Uids(ranges) => ranges.iter().any(|range| range.contains(&uid)),
        Query::Flag(flag) => message.flags.contains(flag),
        Query::Header(name, text) => {
            let has = |field: mime::Field<'_>| field.is(name) && contains(&decode::header(field.value), text);
            mime::fields(&summary.headers).any(has)
        }
        Query::Body(text) => in_body(&summary.structure, message, text),
        Query::Text(text) => {
            let in_header =
                |field: mime::Field<'_>| contains(&decode::header(&summary.headers[field.range.clone()]), text);
            mime::fields(&summary.headers).any(in_header) || in_body(&summary.structure, message, text)
        }
        Query::Before(day) => received < *day,
        Query::On(day) => received == *day,
        Query::Since(day) => received >= *day,
        Query::SentBefore(day) => sent().is_some_and(|sent| sent < *day),
        Query::SentOn(day) => sent().is_some_and(|sent| sent == *day),
        Query::SentSince(day) => sent().is_some_and(|sent| sent >= *day),
        Query::Larger(size) => summary.size > *size,
        Query::Smaller(size) => summary.size < *size,
        Query::ModSeq(modseq) => message.modseq >= *modseq,
        Query::Message(id) => message.id == *id,
    }
}

fn contains(text: &str, wanted: &str) -> bool {
    text.to_lowercase().contains(&wanted.to_lowercase())
}

/// Parts are at most [`mime::MAX_DEPTH`] deep.
fn in_body(part: &Part, message: &Message, wanted: &str) -> bool {
    match &part.kind {
        PartKind::Multipart(parts) => parts.iter().any(|part| in_body(part, message, wanted)),
        PartKind::Message(_, inner) => {
            let headers = message.content.slice(inner.header.start, inner.header.end);
            mime::fields(&headers).any(|field| contains(&decode::header(field.value), wanted))
                || in_body(inner, message, wanted)
        }
        PartKind::Leaf if part.content_type.0.eq_ignore_ascii_case(b"text") => {
            let body = message.content.slice(part.body.start, part.body.end);
            contains(&decode::text(&body, &part.encoding), wanted)
        }
        PartKind::Leaf => false,
    }
}
