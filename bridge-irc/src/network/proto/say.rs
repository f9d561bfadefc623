//! Texts that go out: split so that nothing is lost, written in order, and watched until the server has read them.

use super::outbox::Mark;
use super::{Engine, Event, Fate};
use mesyx_irc_codec::{WriteError, Writer, ctcp, split};
use mesyx_sdk::Verb;
use std::collections::VecDeque;
use std::time::Duration;

/// User name and host as long as servers let them be, for as long as ours are not known (RFC 2812, section 2.3.1; HOSTLEN of most servers).
const UNKNOWN_USER: usize = 12;
const UNKNOWN_HOST: usize = 64;

/// A text under way.
#[derive(Debug)]
pub(super) struct Job {
    id: u64,
    target: String,
    lines: usize,
    refused: Option<Fate>,
    msgid: Option<String>,
}

/// Those that are under way, oldest first.
pub(super) type Jobs = VecDeque<Job>;

impl Engine {
    /// Says a text: as many lines as it takes. [`Event::Job`] tells how it fared.
    pub(crate) fn say(&mut self, id: u64, target: &str, verb: Verb, text: &str) -> Result<(), String> {
        let lines = match verb {
            Verb::Say | Verb::Notice if self.caps.has("draft/multiline") => self.multiline(target, command(verb), text),
            _ => None,
        };
        let lines = match lines {
            Some(lines) => lines,
            None => self.plain_lines(target, verb, text).map_err(|error| error.to_string())?,
        };
        self.track(id, target, lines)
    }

    /// Sends lines as they are, one message each: those of OTR, which are cut to length already.
    pub(crate) fn say_lines(&mut self, id: u64, target: &str, texts: &[Vec<u8>]) -> Result<(), String> {
        let lines = texts.iter().map(|text| self.message("PRIVMSG", target, text)).collect::<Result<Vec<_>, _>>();
        self.track(id, target, lines.map_err(|error| error.to_string())?)
    }

    fn track(&mut self, id: u64, target: &str, lines: Vec<Vec<u8>>) -> Result<(), String> {
        if lines.is_empty() {
            return Err("there is nothing in it to send".to_owned());
        }
        let target = self.fold(target);
        self.jobs.push_back(Job { id, target, lines: lines.len(), refused: None, msgid: None });
        self.out.marked(Mark::Job(id), lines);
        Ok(())
    }

    /// Takes a text back. Whether none of it was written.
    pub(crate) fn take_back(&mut self, id: u64) -> bool {
        let Some(at) = self.jobs.iter().position(|job| job.id == id) else { return false };
        let lines = self.jobs[at].lines;
        let whole = self.out.take_back(Mark::Job(id), lines);
        self.jobs.remove(at);
        whole
    }

    /// Whether none of a text was written yet.
    pub(crate) fn is_untouched(&self, id: u64) -> bool {
        self.jobs.iter().find(|job| job.id == id).is_some_and(|job| self.out.is_untouched(Mark::Job(id), job.lines))
    }

    /// Says something of our own, that nobody waits for: no program answers a NOTICE.
    pub(crate) fn tell(&mut self, target: &str, text: &str) {
        let room = self.room("NOTICE", target);
        for piece in split::pieces(text.as_bytes(), room) {
            let line = Writer::new("NOTICE").and_then(|line| line.parameter(target.as_bytes()));
            self.normal(line.and_then(|line| line.trailing(piece)));
        }
    }

    /// Lines that wait to be written.
    pub(crate) fn backlog(&self) -> usize {
        self.out.waiting()
    }

    /// The bytes of text that one PRIVMSG to `target` has room for when the server puts our prefix before it.
    pub(crate) fn room(&self, command: &str, target: &str) -> usize {
        let or = |text: &str, most: usize| if text.is_empty() { most } else { text.len() };
        let prefix = self.me.nick.len() + or(&self.me.user, UNKNOWN_USER) + or(&self.me.host, UNKNOWN_HOST) + 4;
        // `:nick!user@host COMMAND target :`
        let around = prefix + command.len() + target.len() + 4;
        self.limits().rest.saturating_sub(around).max(64)
    }

    fn plain_lines(&self, target: &str, verb: Verb, text: &str) -> Result<Vec<Vec<u8>>, WriteError> {
        let command = command(verb);
        let room = self.room(command, target);
        if verb != Verb::Action {
            return split::pieces(text.as_bytes(), room).map(|piece| self.message(command, target, piece)).collect();
        }
        let room = room - "\u{1}ACTION \u{1}".len();
        split::pieces(text.as_bytes(), room)
            .map(|piece| self.message(command, target, &ctcp::write("ACTION", piece)))
            .collect()
    }

    /// A text of several lines as one message (IRCv3 `draft/multiline`); `None` where one line is enough, or it is too much for one.
    fn multiline(&mut self, target: &str, command: &str, text: &str) -> Option<Vec<Vec<u8>>> {
        let room = self.room(command, target);
        if text.len() <= room && !text.contains('\n') || !self.caps.has("batch") {
            return None;
        }
        let limit = |name: &str| {
            let value = self.caps.value("draft/multiline")?;
            value.split(',').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse::<usize>().ok())
        };
        let (most_bytes, most_lines) = (limit("max-bytes")?, limit("max-lines").unwrap_or(usize::MAX));
        let mut pieces: Vec<(&[u8], bool)> = Vec::new();
        for line in text.split('\n') {
            let before = pieces.len();
            pieces.extend(split::pieces(line.as_bytes(), room).map(|piece| (piece, false)));
            if pieces.len() == before {
                pieces.push((b"", false));
            }
            pieces[before + 1..].iter_mut().for_each(|piece| piece.1 = true);
        }
        // Not only blank lines, which the specification refuses.
        if text.len() > most_bytes || pieces.len() > most_lines || pieces.iter().all(|(piece, _)| piece.is_empty()) {
            return None;
        }
        self.next_batch += 1;
        let reference = format!("m{}", self.next_batch);
        let limits = self.limits();
        let begin = Writer::new("BATCH").ok()?.parameter(format!("+{reference}").as_bytes()).ok()?;
        let begin = begin.parameter(b"draft/multiline").ok()?.parameter(target.as_bytes()).ok()?;
        let mut lines = vec![begin.finish(limits).ok()?];
        for (piece, joined) in pieces {
            let mut line = Writer::new(command).ok()?.tag("batch", &reference).ok()?;
            if joined {
                line = line.tag("draft/multiline-concat", "").ok()?;
            }
            lines.push(line.parameter(target.as_bytes()).ok()?.trailing(piece).ok()?.finish(limits).ok()?);
        }
        let end = Writer::new("BATCH").ok()?.parameter(format!("-{reference}").as_bytes()).ok()?;
        lines.push(end.finish(limits).ok()?);
        Some(lines)
    }

    fn message(&self, command: &str, target: &str, text: &[u8]) -> Result<Vec<u8>, WriteError> {
        Writer::new(command)?.parameter(target.as_bytes())?.trailing(text)?.finish(self.limits())
    }

    /// The user types.
    pub(crate) fn typing(&mut self, target: &str, state: &str) {
        if self.caps.has("message-tags") && matches!(state, "active" | "paused" | "done") {
            let line = Writer::new("TAGMSG").and_then(|line| line.tag("+typing", state));
            // Typing is worth nothing late.
            if self.out.waiting() == 0 {
                self.normal(line.and_then(|line| line.parameter(target.as_bytes())));
            }
        }
    }

    /// A CTCP request.
    pub(crate) fn request_ctcp(&mut self, target: &str, command: &str, text: &str) -> bool {
        let text = ctcp::write(&command.to_ascii_uppercase(), text.as_bytes());
        let line = Writer::new("PRIVMSG").and_then(|line| line.parameter(target.as_bytes()));
        self.normal(line.and_then(|line| line.trailing(&text)))
    }

    /// A PONG came: texts and commands that were written before its PING have been read.
    pub(super) fn pong(&mut self, token: &str) {
        for mark in self.out.pong(token) {
            match mark {
                Mark::Ask(id) => self.answered(id),
                Mark::Job(id) => {
                    let Some(at) = self.jobs.iter().position(|job| job.id == id) else { continue };
                    let Some(job) = self.jobs.remove(at) else { continue };
                    let fate = job.refused.unwrap_or(Fate::Taken { msgid: job.msgid });
                    self.events.push_back(Event::Job(id, fate));
                }
            }
        }
    }

    /// Our own text came back (`echo-message`): the network's name for it is worth keeping.
    pub(super) fn echoed(&mut self, target: &str, msgid: Option<String>) {
        let target = self.fold(target);
        let job = self.jobs.iter_mut().find(|job| job.target == target && job.msgid.is_none());
        if let Some(job) = job {
            job.msgid = msgid;
        }
    }

    /// Whether a numeric refuses a text that is under way.
    pub(super) fn refused(&mut self, numeric: u16, target: &str, text: &str) -> bool {
        let later = matches!(numeric, 263 | 439);
        let refusal = later
            || matches!(
                numeric,
                401 | 402 | 403 | 404 | 407 | 408 | 411..=415 | 477 | 482 | 486 | 489 | 494 | 505 | 531 | 716
            );
        if !refusal || self.asked_about(target) {
            return false;
        }
        let target = self.fold(target);
        // 263 names the command, not the target.
        let belongs = |job: &&mut Job| job.refused.is_none() && (job.target == target || numeric == 263);
        let Some(job) = self.jobs.iter_mut().find(belongs) else { return false };
        let why = format!("{numeric:03} {text}");
        job.refused = Some(if later { Fate::Later(why, Duration::from_secs(60)) } else { Fate::Refused(why) });
        true
    }

    /// `FAIL PRIVMSG …` (IRCv3 standard replies).
    pub(super) fn failed(&mut self, command: &str, code: &str, context: &[String], text: &str) -> bool {
        if !matches!(command, "PRIVMSG" | "NOTICE" | "BATCH") {
            return false;
        }
        let context: Vec<_> = context.iter().map(|word| self.fold(word)).collect();
        let job = self.jobs.iter_mut().find(|job| {
            job.refused.is_none() && (context.is_empty() || command == "BATCH" || context.contains(&job.target))
        });
        let Some(job) = job else { return false };
        job.refused = Some(Fate::Refused(format!("{code} {text}")));
        true
    }
}

const fn command(verb: Verb) -> &'static str {
    match verb {
        Verb::Notice => "NOTICE",
        _ => "PRIVMSG",
    }
}
