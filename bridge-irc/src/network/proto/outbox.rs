//! Lines that wait to be written, no faster than the server wants; and what waits for the server to have read them.
//!
//! Behind a text or a command goes a PING. Servers answer in order, so what they say of the text comes before the PONG. One PING is
//! under way at a time: however many lines are written meanwhile, they share the next one.

use mesyx_irc_codec::pace::Pace;
use std::collections::VecDeque;
use std::time::Duration;

/// What a PING of ours has in front of its number.
const TOKEN: &str = "mesyx-";

/// What is told of when the server has read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Job(u64),
    Ask(u64),
}

struct Entry {
    bytes: Vec<u8>,
    /// Whose line it is.
    of: Option<Mark>,
    /// The last of its lines.
    last: bool,
}

pub(super) struct Outbox {
    urgent: VecDeque<Vec<u8>>,
    lines: VecDeque<Entry>,
    pace: Pace,
    /// Written, and no PING behind them.
    written: Vec<Mark>,
    /// Written before the PING that is under way.
    waiting: Vec<Mark>,
    barrier: u64,
    under_way: bool,
}

impl Outbox {
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            urgent: VecDeque::new(),
            lines: VecDeque::new(),
            pace,
            written: Vec::new(),
            waiting: Vec::new(),
            barrier: 0,
            under_way: false,
        }
    }

    pub(super) fn urgent(&mut self, bytes: Vec<u8>) {
        self.urgent.push_back(bytes);
    }

    pub(super) fn normal(&mut self, bytes: Vec<u8>) {
        self.lines.push_back(Entry { bytes, of: None, last: true });
    }

    /// Lines that belong together.
    pub(super) fn marked(&mut self, mark: Mark, lines: Vec<Vec<u8>>) {
        let count = lines.len();
        let entry = |(at, bytes)| Entry { bytes, of: Some(mark), last: at + 1 == count };
        self.lines.extend(lines.into_iter().enumerate().map(entry));
    }

    /// Takes back lines of which none was written. Whether that was so.
    pub(super) fn take_back(&mut self, mark: Mark, lines: usize) -> bool {
        let whole = self.is_untouched(mark, lines);
        if whole {
            self.lines.retain(|entry| entry.of != Some(mark));
        }
        whole
    }

    /// Whether none of these lines was written yet.
    pub(super) fn is_untouched(&self, mark: Mark, lines: usize) -> bool {
        self.lines.iter().filter(|entry| entry.of == Some(mark)).count() == lines
    }

    /// How many lines wait.
    pub(super) fn waiting(&self) -> usize {
        self.lines.len()
    }

    /// How long until the next line may go; `None` where none waits.
    pub(super) fn wait(&self, now: Duration) -> Option<Duration> {
        if !self.urgent.is_empty() {
            return Some(Duration::ZERO);
        }
        (!self.lines.is_empty()).then(|| self.pace.wait(now))
    }

    /// The next line, where one may go.
    pub(super) fn next(&mut self, now: Duration) -> Option<Vec<u8>> {
        // What can't wait is paid for all the same: the server counts it.
        if let Some(bytes) = self.urgent.pop_front() {
            self.pace.spend(now, 1);
            return Some(bytes);
        }
        if self.lines.is_empty() || !self.pace.wait(now).is_zero() {
            return None;
        }
        let entry = self.lines.pop_front()?;
        self.pace.spend(now, 1);
        if entry.last
            && let Some(mark) = entry.of
        {
            self.written.push(mark);
            self.ping();
        }
        Some(entry.bytes)
    }

    fn ping(&mut self) {
        if self.under_way || self.written.is_empty() {
            return;
        }
        self.under_way = true;
        self.barrier += 1;
        self.waiting = std::mem::take(&mut self.written);
        self.urgent.push_back(format!("PING :{TOKEN}{}\r\n", self.barrier).into_bytes());
    }

    /// A PONG came: all that the server has read by now.
    pub(super) fn pong(&mut self, token: &str) -> Vec<Mark> {
        let ours = match token.strip_prefix(TOKEN) {
            Some(number) => number.parse() == Ok(self.barrier),
            // Some servers answer with a name of theirs instead of our word.
            None => token != super::KEEPALIVE,
        };
        if !self.under_way || !ours {
            return Vec::new();
        }
        self.under_way = false;
        let read = std::mem::take(&mut self.waiting);
        self.ping();
        read
    }
}
