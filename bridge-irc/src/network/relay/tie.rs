//! A channel outside and the group here that a relay ties to it: whether both sides allow it. No I/O and no clock.

use super::config::RelayChannel;
use super::hear::name_of;
use crate::network::proto::Standing;
use crate::network::records::short;
use mesyx_sdk::address::CaseMapping;
use mesyx_sdk::{Address, Error, ErrorKind, Group, Host, MailAddress, MesyxAddress, Secret};
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// By what a channel allows the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Ground {
    /// An operator gave it voice, or more. That lasts until it is taken away: a server forgets it when the connection ends, we do not.
    Rank,
    /// The topic, which only operators can set, names it.
    Topic,
}

/// What lasts of a tie.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Lasting {
    allowed: Option<Ground>,
    /// Those in the group know that there is a relay, and those in the channel.
    told: bool,
    told_outside: bool,
}

/// A channel and a group.
#[derive(Debug)]
pub(crate) struct Tie {
    /// The channel, as configured and folded.
    pub(crate) channel: String,
    pub(super) folded: String,
    /// The group's name, folded, and its address.
    pub(super) group: String,
    pub(crate) address: Address,
    key: String,
    lasting: Lasting,
    /// Whether the group is open to all; `None`: not known yet.
    open: Option<bool>,
    /// Only some may speak in the group, and nobody outside.
    pub(crate) moderated: bool,
    /// Whether the stay in the channel is new, and whether there was a rank in it.
    stay: Option<bool>,
    /// Why it ended.
    why: String,
    /// When the group was last told of something that went wrong, and of the relay.
    pub(crate) complained: Option<Instant>,
    pub(crate) greeted: Option<Instant>,
}

/// What a look at the channel shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    Same,
    /// What lasts is another.
    Changed,
    /// There was no such channel: the relay made it by joining, and is its only operator. That is no word of anybody's.
    Founded,
}

/// What there is to tell both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Lines go both ways from now on. `inside`: the group does not know yet.
    Began { inside: bool },
    /// They do no more: why.
    Ended(String),
}

impl Tie {
    pub(super) async fn load(host: &dyn Host, network: &str, config: &RelayChannel) -> Result<Self, Error> {
        let mut tie = Self::new(network, config, host)?;
        if let Some(kept) = host.checkpoint(&tie.key).await? {
            match serde_json::from_slice(kept.expose()) {
                Ok(lasting) => tie.lasting = lasting,
                // Without it the channel is asked again.
                Err(error) => {
                    tracing::error!(network, channel = tie.channel, %error, "what a channel allowed can't be read")
                }
            }
        }
        Ok(tie)
    }

    pub(super) fn new(network: &str, config: &RelayChannel, host: &dyn Host) -> Result<Self, Error> {
        let group = config.group.to_lowercase();
        let user = MailAddress::new(&group, host.domain().clone())
            .map_err(|error| Error::new(ErrorKind::Invalid, format!("the group {group}: {error}")))?;
        let folded = CaseMapping::Rfc1459.fold(&config.name);
        Ok(Self {
            channel: config.name.clone(),
            // Another group is another thing to allow.
            key: format!("relay/{network}/{}", short(&format!("{folded} {group}"))),
            folded,
            group,
            address: Address::Mesyx(MesyxAddress { user }),
            lasting: Lasting::default(),
            open: None,
            moderated: false,
            stay: None,
            why: String::new(),
            complained: None,
            greeted: None,
        })
    }

    /// The key that it is kept under.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// What is kept of it.
    pub(crate) fn kept(&self) -> Option<Secret> {
        (self.lasting != Lasting::default()).then(|| serde_json::to_vec(&self.lasting).ok().map(Secret::new))?
    }

    /// The group's name.
    pub(crate) fn group(&self) -> &str {
        &self.group
    }

    pub(crate) fn allowed(&self) -> bool {
        self.lasting.allowed.is_some()
    }

    /// Lines go both ways.
    pub(crate) fn is_on(&self) -> bool {
        self.allowed() && self.open == Some(true)
    }

    /// Nothing goes, and nothing waits.
    pub(crate) fn is_off(&self) -> bool {
        !self.allowed() || self.open == Some(false)
    }

    /// How the group is; `None`: there is none that people who don't belong to it could see.
    pub(crate) fn group_is(&mut self, group: Option<&Group>) {
        let shut = |group: &Group| group.modes.keys().any(|mode| matches!(mode, 's' | 'i' | 'k'));
        self.open = Some(group.is_some_and(|group| !shut(group)));
        self.moderated = group.is_some_and(|group| group.modes.contains_key(&'m'));
        if let Some(group) = group.filter(|group| name_of(&group.address).is_some()) {
            self.address = group.address.clone();
        }
        if self.open == Some(false) {
            self.why = format!("the group {} is not open to all here (+s, +i, +k), or is gone", self.group);
        }
    }

    /// The relay is not in the channel.
    pub(crate) fn left(&mut self) {
        self.stay = None;
    }

    /// Looks at the channel: `standing` is `None` as long as not all of it is known.
    pub(crate) fn look(&mut self, standing: Option<&Standing>, nick: &str) -> Look {
        let Some(standing) = standing else { return Look::Same };
        let rank = !standing.signs.is_empty();
        if self.stay.is_none() && rank && standing.alone {
            // Whoever makes it anew is told what the relay is.
            self.lasting.told_outside = false;
            return Look::Founded;
        }
        let ranked = self.stay.unwrap_or(false);
        self.stay = Some(rank);
        let allowed = if rank {
            Some(Ground::Rank)
        } else if standing.guarded && names(&standing.topic, nick) {
            Some(Ground::Topic)
        } else if ranked {
            None
        } else {
            // Given before this stay, and never taken away.
            self.lasting.allowed.filter(|ground| *ground == Ground::Rank)
        };
        if allowed == self.lasting.allowed {
            return Look::Same;
        }
        if allowed.is_none() {
            let how = if ranked { "took its voice" } else { "took it out of the topic" };
            self.why = format!("an operator of {} {how}", self.channel);
        }
        self.lasting.allowed = allowed;
        Look::Changed
    }

    /// The channel does not want it any more. Whether it did before.
    pub(crate) fn withdraw(&mut self, why: String) -> bool {
        self.stay = None;
        self.why = why;
        self.lasting.allowed.take().is_some()
    }

    /// What both sides are to be told now. `here`: the relay is in the channel, and knows all of it.
    pub(crate) fn turn(&mut self, here: bool) -> Option<Turn> {
        if self.is_on() && here && !(self.lasting.told && self.lasting.told_outside) {
            let inside = !self.lasting.told;
            (self.lasting.told, self.lasting.told_outside) = (true, true);
            return Some(Turn::Began { inside });
        }
        if self.is_off() && self.lasting.told {
            (self.lasting.told, self.lasting.told_outside) = (false, false);
            return Some(Turn::Ended(std::mem::take(&mut self.why)));
        }
        None
    }
}

/// Whether a topic names the relay: `relay:NICK` as a word of its own.
fn names(topic: &str, nick: &str) -> bool {
    let wanted = CaseMapping::Rfc1459.fold(&format!("relay:{nick}"));
    let mut words = topic.split(|c: char| c.is_whitespace() || c.is_control() || ",;|()".contains(c));
    words.any(|word| CaseMapping::Rfc1459.fold(word.trim_end_matches('.')) == wanted)
}
