//! Which keyset a message that arrives at any coming moment is sealed to.

use super::RotationRule;
use crate::keys::{Keyring, Keyset, Span, rank};
use mesyx_sdk::{Importance, Timestamp};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

/// A stretch of time in which one keyset takes all messages of a level.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    /// Milliseconds since 1970.
    pub(super) time: Range<i64>,
    /// The keyset that is chosen.
    pub(super) chosen: Arc<Keyset>,
    /// The keyset that is sealed to: the chosen one, the next most specific where that can't be used, none where none can.
    pub(super) used: Option<Arc<Keyset>>,
}

/// Splits a time into segments, without gap or overlap, for messages of one level that arrive in it.
///
/// What is chosen changes only where a span that stands still begins or ends, and what is used where a certificate expires too: a span
/// that moves with the time covers whatever arrives.
pub(super) fn segments(keyring: &Keyring, level: Importance, time: Range<i64>) -> Vec<Segment> {
    let mut cuts: BTreeSet<i64> = BTreeSet::from([time.start]);
    for keyset in keyring.keysets().iter().filter(|keyset| keyset.importance.contains(level)) {
        if !keyset.span.rolls() {
            let bounds = keyset.span.bounds(Timestamp(0));
            cuts.extend([bounds.start, bounds.end]);
        }
        // Milliseconds: a certificate that expires at a second is not used in that second any more.
        cuts.extend(keyset.certificates().iter().filter_map(|certificate| {
            crate::keys::certificate_expiry(certificate, Timestamp(time.start)).map(|end| end.0)
        }));
    }
    let cuts: Vec<i64> = cuts.into_iter().filter(|cut| time.contains(cut)).collect();
    let mut segments: Vec<Segment> = Vec::new();
    for (index, start) in cuts.iter().enumerate() {
        let end = cuts.get(index + 1).copied().unwrap_or(time.end);
        let at = Timestamp(*start);
        let chosen = Arc::clone(keyring.choose_when(at, level, at));
        let used = keyring.candidates(at, level, at).find(|keyset| keyset.is_usable(at)).cloned();
        let same = |last: &Segment| {
            last.chosen.id == chosen.id && last.used.as_ref().map(|used| used.id) == used.as_ref().map(|used| used.id)
        };
        match segments.last_mut().filter(|last| same(last)) {
            Some(last) => last.time.end = end,
            None => segments.push(Segment { time: *start..end, chosen, used }),
        }
    }
    segments
}

/// Whether every message of a rule's levels that arrives in `span`, from `now` on, has a keyset at least as specific as the one that the
/// rule asks for.
pub(super) fn is_covered(keyring: &Keyring, rule: &RotationRule, span: Span, now: Timestamp) -> bool {
    let bounds = span.bounds(now);
    let time = bounds.start.max(now.0)..bounds.end;
    let wanted = (rule.levels.count(), span.length(), false);
    time.is_empty()
        || rule
            .levels
            .iter()
            .all(|level| segments(keyring, level, time.clone()).iter().all(|segment| rank(&segment.chosen) <= wanted))
}

/// The spans of a rule that begin before `horizon`, the present one included, and that no keyset covers; in order, at most 100.
pub(super) fn due(keyring: &Keyring, rule: &RotationRule, now: Timestamp, horizon: Timestamp) -> Vec<Span> {
    const MOST: usize = 100;
    let first = Span::of(rule.every, now);
    let spans = std::iter::successors(Some(first), Span::next).take_while(|span| span.bounds(now).start <= horizon.0);
    spans.take(MOST).filter(|span| !is_covered(keyring, rule, *span, now)).collect()
}
