//! Commands of the user, and what the server answers to them.
//!
//! One command is under way at a time: numerics that come between it and the PONG behind it answer it.

use super::outbox::Mark;
use super::{Engine, Event};
use crate::link::Reply;
use mesyx_irc_codec::{Line, WriteError, Writer};
use std::collections::VecDeque;

/// Most commands that wait.
const MOST: usize = 32;
/// Most rows and bytes of one answer; LIST of a large network is longer.
const MOST_ROWS: usize = 5_000;
const MOST_BYTES: usize = 900_000;

#[derive(Default)]
pub(super) struct Asks {
    current: Option<Current>,
    waiting: VecDeque<(u64, Vec<u8>, Which)>,
}

struct Current {
    id: u64,
    which: Which,
    replies: Vec<Reply>,
    bytes: usize,
    /// Words of the command, folded: a refusal that names one belongs here rather than to a text.
    words: Vec<String>,
}

/// Which numerics are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    All,
    /// Errors alone: the rest is known by the room's state.
    Errors,
}

impl Engine {
    /// Sends a command for the user; [`Event::Answer`] tells what came.
    ///
    /// # Errors
    /// Where it can't be written as one line, or too many wait.
    pub(crate) fn ask(&mut self, id: u64, command: &str, parameters: &[String], which: Which) -> Result<(), String> {
        let write = |line: Writer, (at, parameter): (usize, &String)| {
            // The last one may be anything; those before must be words.
            if at + 1 == parameters.len()
                && (parameter.is_empty() || parameter.contains(' ') || parameter.starts_with(':'))
            {
                return line.trailing(parameter.as_bytes());
            }
            line.parameter(parameter.as_bytes())
        };
        let line = Writer::new(command).and_then(|line| parameters.iter().enumerate().try_fold(line, write));
        let bytes = line.and_then(|line| line.finish(self.limits())).map_err(|error: WriteError| error.to_string())?;
        if self.asks.waiting.len() >= MOST {
            return Err("too many commands wait for the network's answer".to_owned());
        }
        self.asks.waiting.push_back((id, bytes, which));
        self.next_ask();
        Ok(())
    }

    /// Nobody waits for the answer any more: what came so far.
    pub(crate) fn give_up(&mut self, id: u64) {
        self.asks.waiting.retain(|(other, ..)| *other != id);
        if self.asks.current.as_ref().is_some_and(|current| current.id == id) {
            self.answered(id);
        }
    }

    fn next_ask(&mut self) {
        if self.asks.current.is_some() {
            return;
        }
        let Some((id, bytes, which)) = self.asks.waiting.pop_front() else { return };
        let words = String::from_utf8_lossy(&bytes);
        let words = words.split_whitespace().map(|word| self.fold(word.trim_start_matches(':'))).collect();
        self.asks.current = Some(Current { id, which, replies: Vec::new(), bytes: 0, words });
        self.out.marked(Mark::Ask(id), vec![bytes]);
    }

    pub(super) fn answered(&mut self, id: u64) {
        if let Some(current) = self.asks.current.take_if(|current| current.id == id) {
            self.events.push_back(Event::Answer(id, current.replies));
        }
        self.next_ask();
    }

    /// Whether the command under way has this word.
    pub(super) fn asked_about(&self, word: &str) -> bool {
        let word = self.fold(word);
        self.asks.current.as_ref().is_some_and(|current| current.words.contains(&word))
    }

    /// Takes a numeric as an answer, where a command is under way.
    pub(super) fn collect(&mut self, line: &Line<'_>, numeric: u16) -> bool {
        let charset = self.id.charset;
        let Some(current) = &mut self.asks.current else { return false };
        if current.which == Which::Errors && !matches!(numeric, 400..=599 | 700..=729 | 900..) {
            return true;
        }
        let parameters: Vec<_> = line.parameters.iter().map(|parameter| charset.decode(parameter)).collect();
        current.bytes += parameters.iter().map(String::len).sum::<usize>() + 64;
        if current.replies.len() < MOST_ROWS && current.bytes < MOST_BYTES {
            let source = line.source.map(|source| charset.decode(source.whole)).unwrap_or_default();
            let command = charset.decode(line.command);
            current.replies.push(Reply { source, command, parameters });
        }
        true
    }
}
