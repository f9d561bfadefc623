//! What happened to messages, remembered without anybody's address.
//!
//! An address is remembered, and logged, as a keyed hash that is another one each day ([`crate::Core::log_tag`]): whoever gets
//! the log learns no correspondent, and can't follow one from day to day. Who knows an address can look for it:
//! [`crate::Core::trace`] makes the hash of each day asked for and looks for these in a ring of the last
//! 10,000 deliveries and 5,000 refusals, kept apart so that probing can't wash deliveries away.
//! The last 5,000 lines of conversations have a ring of their own.
//! The rings are in memory and begin anew with the program; older days are found by looking for the hashes in the log.

use crate::instance::InstanceKey;
use mesyx_sdk::{Address, MessageId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// One thing that happened, as `mesyx trace` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceLine {
    /// When, as RFC 3339 in UTC.
    pub time: String,
    /// The message's id, where there is one.
    pub message: Option<String>,
    /// Which side the address asked for was on: `from` or `to`.
    pub side: String,
    /// What happened, in a few words.
    pub what: String,
}

/// The ring.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    deliveries: Mutex<VecDeque<Happened>>,
    refusals: Mutex<VecDeque<Happened>>,
    lines: Mutex<VecDeque<Happened>>,
}

#[derive(Debug)]
struct Happened {
    at: Timestamp,
    message: Option<MessageId>,
    from: Option<String>,
    to: Vec<String>,
    what: &'static str,
}

impl Trace {
    /// Deliveries that are remembered: a busy day of a small host, in some 3 MB.
    pub(crate) const DELIVERIES: usize = 10_000;
    /// Refusals that are remembered.
    pub(crate) const REFUSALS: usize = 5_000;
    /// Lines of conversations that are remembered, apart from mail, which talk would wash away.
    pub(crate) const LINES: usize = 5_000;
    /// Recipients of one message that are remembered.
    const RECIPIENTS: usize = 20;

    /// Remembers that a message was taken in or submitted, and logs it.
    pub(crate) fn delivered<'a>(
        &self,
        instance: &InstanceKey,
        message: MessageId,
        from: Option<&Address>,
        to: impl Iterator<Item = &'a Address>,
        what: &'static str,
    ) {
        let happened = Happened::new(instance, Some(message), from, to, what);
        tracing::info!(message = %message, from = happened.from.as_deref().unwrap_or("<>"), to = ?happened.to, "{what}");
        push(&self.deliveries, happened, Self::DELIVERIES);
    }

    /// Remembers that something was refused.
    pub(crate) fn refused<'a>(
        &self,
        instance: &InstanceKey,
        from: Option<&Address>,
        to: impl Iterator<Item = &'a Address>,
        what: &'static str,
    ) {
        let happened = Happened::new(instance, None, from, to, what);
        tracing::debug!(from = happened.from.as_deref().unwrap_or("<>"), to = ?happened.to, "{what}");
        push(&self.refusals, happened, Self::REFUSALS);
    }

    /// Remembers that a line was stored; logged only where details are, since there may be thousands a second.
    pub(crate) fn line(
        &self,
        instance: &InstanceKey,
        id: MessageId,
        (from, to): (&Address, &Address),
        what: &'static str,
    ) {
        let happened = Happened::new(instance, Some(id), Some(from), std::iter::once(to), what);
        tracing::debug!(message = %id, from = ?happened.from, to = ?happened.to, "{what}");
        push(&self.lines, happened, Self::LINES);
    }

    /// What happened to an address in the last `days` days (today counts as one), oldest first.
    pub(crate) fn find(&self, instance: &InstanceKey, address: &Address, days: u16, now: Timestamp) -> Vec<TraceLine> {
        let text = address.to_string();
        let first = now.day().saturating_sub(i32::from(days.max(1)) - 1);
        let tags: Vec<(i32, String)> =
            (first..=now.day()).map(|day| (day, instance.address_hash(day, &text))).collect();
        let mut found = Vec::new();
        for ring in [&self.deliveries, &self.refusals, &self.lines] {
            for happened in ring.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                let Some((_, tag)) = tags.iter().find(|(day, _)| *day == happened.at.day()) else { continue };
                let side = if happened.to.contains(tag) {
                    "to"
                } else if happened.from.as_ref() == Some(tag) {
                    "from"
                } else {
                    continue;
                };
                let message = happened.message.map(|id| id.to_string());
                found.push((
                    happened.at,
                    TraceLine { time: rfc3339(happened.at), message, side: side.into(), what: happened.what.into() },
                ));
            }
        }
        found.sort_by_key(|(at, _)| *at);
        found.into_iter().map(|(_, line)| line).collect()
    }
}

impl Happened {
    fn new<'a>(
        instance: &InstanceKey,
        message: Option<MessageId>,
        from: Option<&Address>,
        to: impl Iterator<Item = &'a Address>,
        what: &'static str,
    ) -> Self {
        let at = Timestamp::now();
        let tag = |address: &Address| instance.address_hash(at.day(), &address.to_string());
        Self { at, message, from: from.map(tag), to: to.take(Trace::RECIPIENTS).map(tag).collect(), what }
    }
}

fn push(ring: &Mutex<VecDeque<Happened>>, happened: Happened, most: usize) {
    let mut ring = ring.lock().unwrap_or_else(PoisonError::into_inner);
    if ring.len() >= most {
        ring.pop_front();
    }
    ring.push_back(happened);
}

/// A time as people and programs read it.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    let utc = Timestamp::from_seconds(at.seconds()).utc();
    utc.format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
}
