//! Lines on their way out: each durable, sealed, from when it is heard until the network has answered.

use mesyx_sdk::{Error, Host, Secret, Timestamp, Verb};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// Longest text that is kept, in bytes: more than the lines that it may become outside hold.
const LONGEST: usize = 12_000;
/// How long a line may wait for the network, in milliseconds: an hour. Later it would be an answer to nothing.
pub(super) const LATE: i64 = 3_600_000;

/// A line of a group that is to be said outside.
pub(crate) struct Kept {
    number: u64,
    /// What the tie is kept under: the channel and the group.
    pub(crate) tie: String,
    pub(crate) nick: String,
    pub(crate) verb: Verb,
    pub(crate) text: String,
    pub(crate) at: Timestamp,
    /// The job of the engine that carries it.
    pub(crate) job: Option<u64>,
    /// The network wants to hear it later.
    pub(crate) after: Option<Instant>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    tie: String,
    nick: String,
    verb: String,
    text: String,
    at: i64,
}

/// All of them, the oldest first.
pub(crate) struct Waiting {
    host: Arc<dyn Host>,
    prefix: String,
    next: u64,
    lines: VecDeque<Kept>,
}

impl Waiting {
    pub(super) async fn load(host: Arc<dyn Host>, network: &str, ties: &[String]) -> Result<Self, Error> {
        let prefix = format!("relay-line/{network}/");
        let mut waiting = Self { host, prefix, next: 0, lines: VecDeque::new() };
        for key in waiting.host.checkpoints(&waiting.prefix).await? {
            let number = key.strip_prefix(&waiting.prefix).and_then(|number| u64::from_str_radix(number, 16).ok());
            let Some(number) = number else { continue };
            waiting.next = waiting.next.max(number + 1);
            let Some(kept) = waiting.host.checkpoint(&key).await? else { continue };
            let stored: Option<Stored> = serde_json::from_slice(kept.expose()).ok();
            let line = stored.and_then(|stored| {
                let verb = Verb::of(&stored.verb)?;
                let Stored { tie, nick, text, at, .. } = stored;
                Some(Kept { number, tie, nick, verb, text, at: Timestamp(at), job: None, after: None })
            });
            match line.filter(|line| ties.contains(&line.tie)) {
                Some(line) => waiting.lines.push_back(line),
                None => waiting.host.set_checkpoint(&key, None).await?,
            }
        }
        Ok(waiting)
    }

    fn key(&self, number: u64) -> String {
        format!("{}{number:016x}", self.prefix)
    }

    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Kept> {
        self.lines.iter_mut()
    }

    /// Takes a line in; durable when it resolves.
    pub(crate) async fn push(
        &mut self,
        tie: &str,
        nick: &str,
        verb: Verb,
        text: &str,
        at: Timestamp,
    ) -> Result<(), Error> {
        let text = text[..text.floor_char_boundary(LONGEST)].to_owned();
        let stored =
            Stored { tie: tie.to_owned(), nick: nick.to_owned(), verb: verb.as_str().to_owned(), text, at: at.0 };
        let number = self.next;
        self.next += 1;
        if let Ok(bytes) = serde_json::to_vec(&stored) {
            self.host.set_checkpoint(&self.key(number), Some(Secret::new(bytes))).await?;
        }
        let Stored { tie, nick, text, .. } = stored;
        self.lines.push_back(Kept { number, tie, nick, verb, text, at, job: None, after: None });
        Ok(())
    }

    /// Lets go of lines: said, refused, or not to be said any more. How many there were.
    pub(crate) async fn remove(&mut self, mut which: impl FnMut(&Kept) -> bool) -> usize {
        let mut gone = Vec::new();
        self.lines.retain(|line| {
            let goes = which(line);
            if goes {
                gone.push(line.number);
            }
            !goes
        });
        for number in &gone {
            if let Err(error) = self.host.set_checkpoint(&self.key(*number), None).await {
                tracing::error!(%error, "a relayed line can't be forgotten, and may be said again after a restart");
            }
        }
        gone.len()
    }

    /// The connection is gone: what was being said is said again.
    pub(crate) fn again(&mut self) {
        for line in &mut self.lines {
            (line.job, line.after) = (None, None);
        }
    }

    /// The line that a job of the engine carries.
    pub(crate) fn carried(&mut self, job: u64) -> Option<&mut Kept> {
        self.lines.iter_mut().find(|line| line.job == Some(job))
    }

    /// When there is something to do for lines that the network wants to hear later.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.lines.iter().filter_map(|line| line.after).min()
    }
}

impl Kept {
    pub(crate) fn is_late(&self, now: Timestamp) -> bool {
        now.0.saturating_sub(self.at.0) > LATE
    }
}

/// Forgets what channels allowed that are not tied any more.
pub(super) async fn sweep(host: &dyn Host, network: &str, ties: &[String]) -> Result<(), Error> {
    for key in host.checkpoints(&format!("relay/{network}/")).await? {
        if !ties.contains(&key) {
            host.set_checkpoint(&key, None).await?;
        }
    }
    Ok(())
}
