//! Queries, in prefix order on the wire: no nesting, so that no decoder's limit on depth matters.

use super::super::v1;
use super::{id, invalid, need};
use crate::{Error, Flag, MessageId, Query};
use v1::term::Term as Wire;

/// A query's terms in prefix order.
#[must_use]
pub fn terms(query: &Query) -> Vec<v1::Term> {
    let mut terms = Vec::new();
    add(query, &mut terms);
    terms
}

fn add(query: &Query, terms: &mut Vec<v1::Term>) {
    // More than `u32::MAX` terms don't fit into memory.
    let count = |of: &[Query]| u32::try_from(of.len()).unwrap_or(u32::MAX);
    let term = match query {
        Query::All => Wire::All(v1::Nothing {}),
        Query::And(all) => Wire::And(count(all)),
        Query::Or(any) => Wire::Or(count(any)),
        Query::Not(_) => Wire::Not(v1::Nothing {}),
        Query::Uids(ranges) => Wire::Uids(v1::UidRanges {
            bounds: ranges.iter().flat_map(|range| [*range.start(), *range.end()]).collect(),
        }),
        Query::Flag(flag) => Wire::Flag(flag.as_str().to_owned()),
        Query::Header(name, text) => Wire::Header(v1::HeaderTerm { name: name.clone(), text: text.clone() }),
        Query::Body(text) => Wire::Body(text.clone()),
        Query::Text(text) => Wire::Text(text.clone()),
        Query::Before(day) => Wire::Before(*day),
        Query::On(day) => Wire::On(*day),
        Query::Since(day) => Wire::Since(*day),
        Query::SentBefore(day) => Wire::SentBefore(*day),
        Query::SentOn(day) => Wire::SentOn(*day),
        Query::SentSince(day) => Wire::SentSince(*day),
        Query::Larger(size) => Wire::Larger(*size),
        Query::Smaller(size) => Wire::Smaller(*size),
        Query::ModSeq(modseq) => Wire::Modseq(*modseq),
        Query::Message(message) => Wire::Message(message.0.to_vec()),
    };
    terms.push(v1::Term { term: Some(term) });
    match query {
        Query::And(inner) | Query::Or(inner) => inner.iter().for_each(|inner| add(inner, terms)),
        Query::Not(inner) => add(inner, terms),
        _ => {}
    }
}

/// The query of terms in prefix order.
///
/// # Errors
/// [`crate::ErrorKind::Invalid`] for terms that are no query, too many or too deep.
pub fn query(terms: Vec<v1::Term>) -> Result<Query, Error> {
    if terms.len() > Query::MAX_TERMS {
        return Err(invalid(format!("a query has at most {} terms", Query::MAX_TERMS)));
    }
    let mut terms = terms.into_iter();
    let query = read(&mut terms, 0)?;
    if terms.next().is_some() {
        return Err(invalid("a query ends before its terms do"));
    }
    Ok(query)
}

fn read(terms: &mut std::vec::IntoIter<v1::Term>, depth: usize) -> Result<Query, Error> {
    if depth > Query::MAX_DEPTH {
        return Err(invalid(format!("a query is at most {} deep", Query::MAX_DEPTH)));
    }
    let term = terms.next().ok_or_else(|| invalid("a query's terms end before it does"))?;
    let mut inner = |count: u32| -> Result<Vec<Query>, Error> { (0..count).map(|_| read(terms, depth + 1)).collect() };
    Ok(match need(term.term, "term")? {
        Wire::All(_) => Query::All,
        Wire::And(count) => Query::And(inner(count)?),
        Wire::Or(count) => Query::Or(inner(count)?),
        Wire::Not(_) => Query::Not(Box::new(read(terms, depth + 1)?)),
        Wire::Uids(ranges) => {
            let (ranges, []) = ranges.bounds.as_chunks::<2>() else {
                return Err(invalid("ranges of UIDs have half a range"));
            };
            Query::Uids(ranges.iter().map(|[first, last]| *first..=*last).collect())
        }
        Wire::Flag(flag) => Query::Flag(Flag::new(&flag)?),
        Wire::Header(header) => Query::Header(header.name, header.text),
        Wire::Body(text) => Query::Body(text),
        Wire::Text(text) => Query::Text(text),
        Wire::Before(day) => Query::Before(day),
        Wire::On(day) => Query::On(day),
        Wire::Since(day) => Query::Since(day),
        Wire::SentBefore(day) => Query::SentBefore(day),
        Wire::SentOn(day) => Query::SentOn(day),
        Wire::SentSince(day) => Query::SentSince(day),
        Wire::Larger(size) => Query::Larger(size),
        Wire::Smaller(size) => Query::Smaller(size),
        Wire::Modseq(modseq) => Query::ModSeq(modseq),
        Wire::Message(message) => Query::Message(MessageId(id(&message)?)),
    })
}
