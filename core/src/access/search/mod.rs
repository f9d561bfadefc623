//! Searching: what is known without a key first, then summaries, then bodies, each only for what is still undecided.

mod decode;
#[cfg(test)]
mod tests;

use mesyx_sdk::{Entry, Error, ErrorKind, Flag, MessageId, ModSeq, Query, Summary, Uid, mime};
use std::cell::OnceCell;
use std::ops::RangeInclusive;

/// A checked query, its texts folded.
#[derive(Debug, Clone)]
pub(crate) struct Search {
    root: Term,
    /// Every text that is looked for in bodies; terms name them by their place.
    body_texts: Vec<String>,
}

#[derive(Debug, Clone)]
enum Term {
    Constant(bool),
    All(Vec<Term>),
    Any(Vec<Term>),
    Not(Box<Term>),
    Uids(Vec<RangeInclusive<Uid>>),
    Flag(Flag),
    Header(String, String),
    /// In the body: the text's place in [`Search::body_texts`].
    Body(usize),
    /// In the headers or the body.
    Text(String, usize),
    Day(Compare, i32),
    Sent(Compare, i32),
    Larger(u64),
    Smaller(u64),
    ModSeq(ModSeq),
    Message(MessageId),
}

#[derive(Debug, Clone, Copy)]
enum Compare {
    Before,
    On,
    Since,
}

impl Compare {
    const fn holds(self, day: i32, bound: i32) -> bool {
        match self {
            Self::Before => day < bound,
            Self::On => day == bound,
            Self::Since => day >= bound,
        }
    }
}

/// What is known of a message so far. What is not known makes a term undecided.
pub(crate) struct Facts<'a> {
    pub(crate) entry: &'a Entry,
    pub(crate) summary: Option<&'a SummaryFacts<'a>>,
    pub(crate) body: Option<&'a BodyFacts>,
}

/// What a search looks at in a summary.
pub(crate) struct SummaryFacts<'a> {
    summary: &'a Summary,
    /// All headers as `name: value`, decoded when first asked for.
    headers: OnceCell<Vec<(String, String)>>,
}

/// Which of [`Search::body_texts`] are in a body.
pub(crate) struct BodyFacts(Vec<bool>);

impl Search {
    /// # Errors
    /// [`ErrorKind::Invalid`] where the query is too deep or too large, or of a kind that is not known here.
    pub(crate) fn new(query: &Query) -> Result<Self, Error> {
        let mut search = Self { root: Term::Constant(true), body_texts: Vec::new() };
        let mut terms = 0;
        search.root = search.term(query, 0, &mut terms)?;
        Ok(search)
    }

    fn term(&mut self, query: &Query, depth: usize, terms: &mut usize) -> Result<Term, Error> {
        *terms += 1;
        if depth > Query::MAX_DEPTH || *terms > Query::MAX_TERMS {
            let text = "the search is too large: at most 50 levels and 1000 terms";
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        let mut each = |queries: &[Query]| {
            queries.iter().map(|query| self.term(query, depth + 1, terms)).collect::<Result<_, _>>()
        };
        Ok(match query {
            Query::All => Term::Constant(true),
            Query::And(queries) => Term::All(each(queries)?),
            Query::Or(queries) => Term::Any(each(queries)?),
            Query::Not(query) => Term::Not(Box::new(self.term(query, depth + 1, terms)?)),
            Query::Uids(ranges) => Term::Uids(ranges.clone()),
            Query::Flag(flag) => Term::Flag(flag.clone()),
            Query::Header(name, text) => Term::Header(name.to_ascii_lowercase(), decode::fold(text)),
            Query::Body(text) => Term::Body(self.body_text(text)),
            Query::Text(text) => Term::Text(decode::fold(text), self.body_text(text)),
            Query::Before(day) => Term::Day(Compare::Before, *day),
            Query::On(day) => Term::Day(Compare::On, *day),
            Query::Since(day) => Term::Day(Compare::Since, *day),
            Query::SentBefore(day) => Term::Sent(Compare::Before, *day),
            Query::SentOn(day) => Term::Sent(Compare::On, *day),
            Query::SentSince(day) => Term::Sent(Compare::Since, *day),
            Query::Larger(bytes) => Term::Larger(*bytes),
            Query::Smaller(bytes) => Term::Smaller(*bytes),
            Query::ModSeq(modseq) => Term::ModSeq(*modseq),
            Query::Message(message) => Term::Message(*message),
            _ => return Err(Error::new(ErrorKind::Invalid, "a search term is not known to this version")),
        })
    }

    fn body_text(&mut self, text: &str) -> usize {
        let text = decode::fold(text);
        if let Some(known) = self.body_texts.iter().position(|known| *known == text) {
            return known;
        }
        self.body_texts.push(text);
        self.body_texts.len() - 1
    }

    /// Whether the message matches; `None` where more must be known to say.
    pub(crate) fn matches(&self, facts: &Facts<'_>) -> Option<bool> {
        self.root.holds(facts)
    }

    /// Looks for every text of the query in the text parts of a body.
    pub(crate) fn look_into(&self, message: &[u8], summary: &Summary) -> BodyFacts {
        let mut found: Vec<bool> = self.body_texts.iter().map(String::is_empty).collect();
        decode::text_parts(message, &summary.structure, &mut |text| {
            for (found, wanted) in found.iter_mut().zip(&self.body_texts) {
                *found = *found || text.contains(wanted.as_str());
            }
            found.iter().all(|found| *found)
        });
        BodyFacts(found)
    }
}

impl BodyFacts {
    /// Of a body that can't be opened: nothing is in it.
    pub(crate) fn unreadable(search: &Search) -> Self {
        Self(vec![false; search.body_texts.len()])
    }
}

impl<'a> SummaryFacts<'a> {
    pub(crate) const fn new(summary: &'a Summary) -> Self {
        Self { summary, headers: OnceCell::new() }
    }

    fn headers(&self) -> &[(String, String)] {
        self.headers.get_or_init(|| {
            mime::fields(&self.summary.headers)
                .map(|field| {
                    (String::from_utf8_lossy(field.name).to_ascii_lowercase(), decode::header_value(field.value))
                })
                .collect()
        })
    }

    /// Decodes only the headers of that name.
    fn header_has(&self, name: &str, text: &str) -> bool {
        match self.headers.get() {
            Some(headers) => headers.iter().any(|(known, value)| known == name && value.contains(text)),
            None => mime::fields(&self.summary.headers)
                .any(|field| field.is(name) && (text.is_empty() || decode::header_value(field.value).contains(text))),
        }
    }

    fn any_header_has(&self, text: &str) -> bool {
        self.headers().iter().any(|(name, value)| {
            value.contains(text)
                || name.contains(text)
                || text.contains(':') && format!("{name}: {value}").contains(text)
        })
    }
}

impl Term {
    /// Three-valued logic: `None` is "not known yet".
    fn holds(&self, facts: &Facts<'_>) -> Option<bool> {
        let entry = facts.entry;
        match self {
            Self::Constant(value) => Some(*value),
            Self::All(terms) => combine(terms, facts, false),
            Self::Any(terms) => combine(terms, facts, true),
            Self::Not(term) => term.holds(facts).map(|holds| !holds),
            Self::Uids(ranges) => Some(ranges.iter().any(|range| range.contains(&entry.uid))),
            Self::Flag(flag) => Some(entry.flags.contains(flag)),
            Self::ModSeq(modseq) => Some(entry.modseq >= *modseq),
            Self::Message(message) => Some(entry.message == *message),
            Self::Day(compare, day) => Some(compare.holds(entry.day.day(), *day)),
            // The padded size is no smaller than the true one.
            Self::Larger(bytes) if entry.padded_size <= *bytes => Some(false),
            Self::Larger(bytes) => facts.summary.map(|facts| facts.summary.size > *bytes),
            Self::Smaller(bytes) if entry.padded_size < *bytes => Some(true),
            Self::Smaller(bytes) => facts.summary.map(|facts| facts.summary.size < *bytes),
            Self::Header(name, text) => facts.summary.map(|facts| facts.header_has(name, text)),
            Self::Sent(compare, day) => facts.summary.map(|facts| {
                let date = facts.summary.fields.date.as_deref();
                date.and_then(decode::written_day).is_some_and(|written| compare.holds(written, *day))
            }),
            Self::Body(text) => facts.body.map(|body| body.has(*text)),
            Self::Text(text, place) => match (facts.summary, facts.body) {
                (Some(summary), _) if summary.any_header_has(text) => Some(true),
                (_, Some(body)) => Some(body.has(*place)),
                _ => None,
            },
        }
    }
}

impl BodyFacts {
    fn has(&self, place: usize) -> bool {
        self.0.get(place).copied().unwrap_or(false)
    }
}

/// One term with the value `decisive` decides for all; otherwise all must be known. The terms are cheap where nothing has
/// been opened, so all are asked before giving up.
fn combine(terms: &[Term], facts: &Facts<'_>, decisive: bool) -> Option<bool> {
    let mut unknown = false;
    for term in terms {
        match term.holds(facts) {
            Some(value) if value == decisive => return Some(decisive),
            Some(_) => {}
            None => unknown = true,
        }
    }
    (!unknown).then_some(!decisive)
}
