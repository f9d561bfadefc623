//! SEARCH.

use crate::connection::{Connection, Fault, Handled, Reply};
use crate::proto::command::{Key, Results, Search};
use crate::proto::sequence::{SequenceSet, compress};
use crate::view::View;
use mesyx_sdk::{Flag, ModSeq, Query, Uid};
use std::ops::RangeInclusive;

impl Connection {
    pub(crate) async fn search(&mut self, tag: &str, search: Search) -> Handled {
        // All is UTF-8 then (RFC 9755, section 3).
        if search.charset.is_some() && self.user()?.utf8 {
            return Ok(Reply::bad("With UTF8=ACCEPT no CHARSET is given"));
        }
        let charset = search.charset.as_deref().unwrap_or("US-ASCII");
        if !["US-ASCII", "UTF-8"].iter().any(|known| known.eq_ignore_ascii_case(charset)) {
            return Ok(Reply::no("Searches are in US-ASCII or UTF-8").code("BADCHARSET (US-ASCII UTF-8)"));
        }
        let mailbox = self.selected()?.mailbox;
        let by_modseq = asks_modseq(&search.key);
        if by_modseq {
            self.enable_condstore()?;
        }
        let query = query(&search.key, &self.selected()?.view)?;
        let found = self.session()?.search(mailbox, &query).await?;
        let view = &self.selected()?.view;
        // Messages that the client was not told of have no number yet.
        let number = |uid: &Uid| view.sequence(*uid).map(|sequence| if search.uid { *uid } else { sequence });
        let numbers: Vec<u32> = found.uids.iter().filter_map(number).collect();
        let modseq = (by_modseq && !numbers.is_empty()).then_some(found.highest_modseq);
        match search.results {
            Some(results) => self.write_esearch(tag, search.uid, results, &numbers, modseq),
            None => self.write_search(&numbers, modseq),
        }
        if found.unsearchable > 0 {
            let count = found.unsearchable;
            self.wire.out().put(format_args!(
                "* OK {count} messages could not be searched whole: the secret key that opens them is not here\r\n"
            ));
        }
        Ok(Reply::ok("searched"))
    }

    fn write_search(&mut self, numbers: &[u32], modseq: Option<ModSeq>) {
        let out = self.wire.out();
        out.text("* SEARCH");
        for number in numbers {
            out.text(" ");
            out.number((*number).into());
        }
        if let Some(modseq) = modseq {
            out.put(format_args!(" (MODSEQ {modseq})"));
        }
        out.text("\r\n");
    }

    /// RFC 4731, section 3.
    fn write_esearch(&mut self, tag: &str, uid: bool, results: Results, numbers: &[u32], modseq: Option<ModSeq>) {
        let out = self.wire.out();
        out.put(format_args!("* ESEARCH (TAG \"{tag}\")"));
        if uid {
            out.text(" UID");
        }
        if let (Some(first), Some(last)) = (numbers.first(), numbers.last()) {
            if results.min {
                out.put(format_args!(" MIN {first}"));
            }
            if results.max {
                out.put(format_args!(" MAX {last}"));
            }
            if results.all {
                out.text(" ALL ");
                out.ranges(&compress(numbers.iter().copied()));
            }
        }
        if results.count {
            out.put(format_args!(" COUNT {}", numbers.len()));
        }
        if let Some(modseq) = modseq {
            out.put(format_args!(" MODSEQ {modseq}"));
        }
        out.text("\r\n");
    }
}

fn asks_modseq(key: &Key) -> bool {
    match key {
        Key::ModSeq(_) => true,
        Key::And(keys) => keys.iter().any(asks_modseq),
        Key::Or(one, other) => asks_modseq(one) || asks_modseq(other),
        Key::Not(key) => asks_modseq(key),
        _ => false,
    }
}

/// The key in the terms of the store: sequence numbers become UIDs, texts UTF-8.
fn query(key: &Key, view: &View) -> Result<Query, Fault> {
    let not = |query| Query::Not(Box::new(query));
    Ok(match key {
        Key::All => Query::All,
        Key::And(keys) => Query::And(keys.iter().map(|key| query(key, view)).collect::<Result<_, _>>()?),
        Key::Or(one, other) => Query::Or(vec![query(one, view)?, query(other, view)?]),
        Key::Not(key) => not(query(key, view)?),
        Key::Sequence(set) => Query::Uids(by_sequence(set, view)?),
        Key::Uid(set) => Query::Uids(set.ranges(view.rows()[..view.exists()].last().map_or(0, |row| row.uid))),
        Key::Flag(flag) => Query::Flag(flag.clone()),
        Key::Recent => Query::Uids(vec![view.recent_uids()]),
        Key::Old => not(Query::Uids(vec![view.recent_uids()])),
        Key::New => Query::And(vec![Query::Uids(vec![view.recent_uids()]), not(Query::Flag(Flag::Seen))]),
        Key::Header(name, value) => Query::Header(text(name)?, text(value)?),
        Key::Body(value) => Query::Body(text(value)?),
        Key::Text(value) => Query::Text(text(value)?),
        Key::Before(day) => Query::Before(*day),
        Key::On(day) => Query::On(*day),
        Key::Since(day) => Query::Since(*day),
        Key::SentBefore(day) => Query::SentBefore(*day),
        Key::SentOn(day) => Query::SentOn(*day),
        Key::SentSince(day) => Query::SentSince(*day),
        Key::Larger(size) => Query::Larger(*size),
        Key::Smaller(size) => Query::Smaller(*size),
        Key::ModSeq(modseq) => Query::ModSeq(*modseq),
        Key::EmailId(Some(message)) => Query::Message(*message),
        // No message has such an id, and none has a THREADID (RFC 8474, section 5.4).
        Key::EmailId(None) | Key::ThreadId => Query::Uids(Vec::new()),
    })
}

fn by_sequence(set: &SequenceSet, view: &View) -> Result<Vec<RangeInclusive<Uid>>, Fault> {
    let ranges = view.by_sequence(set).ok_or_else(|| Reply::bad("There is no message of such a number"))?;
    let ends = |range: std::ops::Range<usize>| {
        let rows = view.rows().get(range)?;
        // UIDs between that the client does not know of are taken out of what is found.
        Some(rows.first()?.uid..=rows.last()?.uid)
    };
    Ok(ranges.into_iter().filter_map(ends).collect())
}

fn text(bytes: &[u8]) -> Result<String, Fault> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Reply::bad("A text to search for must be UTF-8").into())
}
