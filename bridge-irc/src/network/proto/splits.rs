//! Netsplits, kept quiet: those who went with a server, and came back with it, are told of together.

use super::Engine;
use crate::link::News;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// How long pieces of one split are collected.
const COLLECT: Duration = Duration::from_secs(2);
/// How long somebody may be away and still be taken to come back from a split.
const REMEMBER: Duration = Duration::from_secs(30 * 60);
/// Most people remembered.
const MOST: usize = 20_000;
/// Bytes of nicks that one signal holds.
const PIECE: usize = 900;

#[derive(Default)]
pub(super) struct Splits {
    /// By the servers that lost each other.
    leaving: BTreeMap<String, Vec<String>>,
    /// By channel.
    coming: BTreeMap<String, Vec<String>>,
    flush: Option<Instant>,
    gone: HashMap<String, Instant>,
}

impl Splits {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.flush
    }
}

/// Whether the reason of a QUIT is that of a netsplit: two host names.
pub(super) fn is_split(reason: &str) -> bool {
    let name = |word: &str| {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '*' | '_');
        word.contains('.') && !word.starts_with('.') && !word.ends_with('.') && word.chars().all(good)
    };
    match reason.split_once(' ') {
        Some((one, other)) => one != other && name(one) && name(other),
        None => false,
    }
}

impl Engine {
    pub(super) fn split(&mut self, servers: &str, nick: &str, now: Instant) {
        let folded = self.fold(nick);
        self.splits.gone.retain(|_, since| now.saturating_duration_since(*since) < REMEMBER);
        if self.splits.gone.len() < MOST {
            self.splits.gone.insert(folded, now);
        }
        self.splits.leaving.entry(servers.to_owned()).or_default().push(nick.to_owned());
        self.splits.flush.get_or_insert(now + COLLECT);
    }

    /// Whether a join is the end of a split for this nick.
    pub(super) fn split_over(&mut self, channel: &str, nick: &str, now: Instant) -> bool {
        let back = self
            .splits
            .gone
            .get(&self.fold(nick))
            .is_some_and(|since| now.saturating_duration_since(*since) < REMEMBER);
        if back {
            self.splits.coming.entry(channel.to_owned()).or_default().push(nick.to_owned());
            self.splits.flush.get_or_insert(now + COLLECT);
        }
        back
    }

    pub(super) fn flush_splits(&mut self, now: Instant) {
        if self.splits.flush.is_none_or(|at| at > now) {
            return;
        }
        self.splits.flush = None;
        for (servers, nicks) in std::mem::take(&mut self.splits.leaving) {
            for nicks in pieces(nicks) {
                self.news(News::Split { servers: servers.clone(), nicks });
            }
        }
        for (channel, nicks) in std::mem::take(&mut self.splits.coming) {
            for nicks in pieces(nicks) {
                self.news(News::SplitOver { channel: channel.clone(), nicks });
            }
        }
    }
}

/// Nicks in groups that fit into one signal.
fn pieces(nicks: Vec<String>) -> Vec<Vec<String>> {
    let mut all: Vec<Vec<String>> = Vec::new();
    let mut bytes = PIECE;
    for nick in nicks {
        if bytes + nick.len() + 1 > PIECE {
            all.push(Vec::new());
            bytes = 0;
        }
        bytes += nick.len() + 1;
        if let Some(last) = all.last_mut() {
            last.push(nick);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_of_splits_are_told_from_others() {
        assert!(is_split("irc.a.example irc.b.example"));
        assert!(is_split("*.net *.split"));
        for reason in
            ["Ping timeout: 240 seconds", "a.example a.example", "see http://x.example/ y.example", "bye.", "so. long."]
        {
            assert!(!is_split(reason), "{reason}");
        }
    }

    #[test]
    fn many_nicks_fit_into_signals() {
        let nicks: Vec<String> = (0..500).map(|n| format!("nick{n}")).collect();
        let pieces = pieces(nicks.clone());
        assert!(pieces.iter().all(|piece| piece.join(" ").len() <= 1024));
        assert_eq!(pieces.concat(), nicks);
    }
}
