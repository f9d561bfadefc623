//! A relay: one nick on a network, no user's own, that ties channels there to groups of this exchange.
//!
//! ```text
//!  group --guests' feed--> hear --Heard--> Relay: kept until the network has answered --> Engine --> `<alice> text` in the channel
//!  channel --Said--> Relay --> intake --> Host::accept: a line of the group, by `nick` of the network
//! ```
//!
//! What always holds:
//! - Nothing is said, and nothing heard is passed on, in a channel whose operators have not allowed it ([`tie::Ground`]), nor of a group that is not
//!   open to all. What was said before that, or after it ended, never leaves.
//! - Both sides are told when it begins and when it ends.
//! - What the relay says never comes back: the network's echo of it is no line, and lines that came from the network are not said on it.

mod config;
mod hear;
mod keep;
#[cfg(test)]
mod tests;
mod tie;
pub(crate) mod words;

pub use config::{RelayChannel, RelayConfig};
pub(crate) use config::{check, plan};
pub(crate) use hear::{Heard, hear};
pub(crate) use keep::Kept;
use keep::Waiting;
pub(crate) use tie::{Look, Tie, Turn};

use mesyx_irc_codec::pace::Pace;
use mesyx_sdk::address::CaseMapping;
use mesyx_sdk::{Error, Group, Host};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the same person is not answered again in private.
const ANSWERED: Duration = Duration::from_secs(600);
/// Most people who are remembered for that.
const MOST_ANSWERED: usize = 500;

/// A relay on one network.
pub(crate) struct Relay {
    network: String,
    /// The nick that it is to have.
    pub(crate) nick: String,
    /// Nicks that are not heard: other relays, folded.
    ignore: Vec<String>,
    pub(crate) ties: Vec<Tie>,
    pub(crate) waiting: Waiting,
    answered: HashMap<String, Instant>,
    answers: Pace,
    began: Instant,
}

impl Relay {
    /// A relay as it was when the bridge last ended.
    ///
    /// # Errors
    /// Where what is kept of it can't be read.
    pub(crate) async fn load(host: Arc<dyn Host>, network: &str, config: &RelayConfig) -> Result<Self, Error> {
        let mut ties = Vec::new();
        for channel in &config.channels {
            ties.push(Tie::load(&*host, network, channel).await?);
        }
        let wanted: Vec<_> = ties.iter().map(|tie| tie.key().to_owned()).collect();
        keep::sweep(&*host, network, &wanted).await?;
        let waiting = Waiting::load(host, network, &wanted).await?;
        let fold = |nick: &String| CaseMapping::Rfc1459.fold(nick);
        Ok(Self {
            network: network.to_owned(),
            nick: config.nick.clone(),
            ignore: config.ignore.iter().map(fold).collect(),
            ties,
            waiting,
            answered: HashMap::new(),
            answers: Pace::new(3, Duration::from_secs(10)),
            began: Instant::now(),
        })
    }

    pub(crate) fn tie(&mut self, channel: &str) -> Option<&mut Tie> {
        let folded = CaseMapping::Rfc1459.fold(channel);
        self.ties.iter_mut().find(|tie| tie.folded == folded)
    }

    pub(crate) fn tie_of_group(&mut self, group: &str) -> Option<&mut Tie> {
        let folded = group.to_lowercase();
        self.ties.iter_mut().find(|tie| tie.group == folded)
    }

    /// How the groups are now.
    pub(crate) fn groups(&mut self, groups: &[Arc<Group>]) {
        for tie in &mut self.ties {
            let found = groups.iter().find(|group| hear::name_of(&group.address).as_deref() == Some(&*tie.group));
            tie.group_is(found.map(|group| &**group));
        }
    }

    /// Another relay's nick.
    pub(crate) fn ignores(&self, nick: &str) -> bool {
        self.ignore.contains(&CaseMapping::Rfc1459.fold(nick))
    }

    /// Whether somebody who writes in private is answered now: once, and few people at a time.
    pub(crate) fn may_answer(&mut self, nick: &str, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.began);
        self.answered.retain(|_, at| now.saturating_duration_since(*at) < ANSWERED);
        let nick = CaseMapping::Rfc1459.fold(nick);
        if self.answered.contains_key(&nick)
            || self.answered.len() >= MOST_ANSWERED
            || !self.answers.wait(since).is_zero()
        {
            return false;
        }
        self.answers.spend(since, 1);
        self.answered.insert(nick, now);
        true
    }

    /// What it says of itself to who asks.
    pub(crate) fn about(&self, domain: &str) -> Vec<String> {
        words::about(&self.nick, &self.network, domain, &self.ties)
    }
}
