//! A relay's connection: what is heard of groups goes out, what is said in channels comes in.

use super::Actor;
use super::lines::Draft;
use super::up::Live;
use crate::link::{News, RELAY_NAME, RELAY_NICK};
use crate::network::proto::{Fate, Said};
use crate::network::relay::{Heard, Look, Relay, Tie, Turn, words};
use mesyx_sdk::{Timestamp, Verb};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// How long a relay stays out of a channel that it would be the founder of, and at least of one that it was removed from.
const FOUNDED: Duration = Duration::from_secs(60);
const REMOVED: Duration = Duration::from_secs(300);
/// How often a group is told at most that something could not be said, or that it is relayed.
const SELDOM: Duration = Duration::from_secs(600);

impl Actor {
    /// Something of groups.
    pub(super) async fn heard(&mut self, heard: Heard) {
        let Some(mut relay) = self.relay.take() else { return };
        match heard {
            Heard::Groups(groups) => relay.groups(&groups),
            Heard::Missed => {
                for tie in relay.ties.iter_mut().filter(|tie| tie.is_on()) {
                    self.complain(tie, "more was said at once than a relay hears").await;
                }
            }
            Heard::Joined(group) => {
                if let Some(tie) = relay.tie_of_group(&group)
                    && tie.is_on()
                    && seldom(&mut tie.greeted)
                {
                    let text = words::began_inside(&tie.channel, &self.plan.network, &self.plan.identity.nick);
                    self.say_inside(tie, text).await;
                }
            }
            Heard::Line(group, line) => {
                // What came from the network is not said on it.
                let own = matches!(&line.from, mesyx_sdk::Address::Irc(irc) if irc.network() == self.plan.network);
                let most = self.limits.waiting as usize;
                let Relay { ties, waiting, .. } = &mut *relay;
                if let Some(tie) = ties.iter_mut().find(|tie| tie.group() == group)
                    && tie.is_on()
                    && !own
                {
                    if waiting.len() >= most {
                        self.complain(tie, "too much waits for the network").await;
                    } else if let Err(error) =
                        waiting.push(tie.key(), &line.nick, line.line.verb, &line.line.text, line.at).await
                    {
                        tracing::error!(network = self.plan.network, %error, "a line for a relay can't be kept and is lost");
                        self.complain(tie, "the server could not keep it").await;
                    }
                }
            }
        }
        self.relay = Some(relay);
    }

    /// Looks how things stand in the channels, tells what is to be told, and says what waits.
    pub(super) async fn relay_review(&mut self, live: &mut Live) {
        if !live.engine.is_ready() {
            return;
        }
        let Some(mut relay) = self.relay.take() else { return };
        let now = Instant::now();
        let Relay { ties, waiting, nick, .. } = &mut *relay;
        let mut speaking = HashSet::new();
        for tie in &mut *ties {
            let standing = live.engine.standing(&tie.channel);
            let look = tie.look(standing.as_ref(), nick);
            if look == Look::Founded {
                live.engine.stay_out(&tie.channel, FOUNDED, now);
            }
            let turn = tie.turn(standing.is_some() && look != Look::Founded);
            if look != Look::Same || turn.is_some() {
                self.keep_tie(tie).await;
            }
            match turn {
                Some(Turn::Began { inside }) => {
                    let domain = self.host.domain().to_string();
                    live.engine.tell(&tie.channel, &words::began_outside(tie.group(), &domain, &tie.channel));
                    if inside {
                        self.say_inside(tie, words::began_inside(&tie.channel, &self.plan.network, nick)).await;
                        tie.greeted = Some(now);
                    }
                }
                Some(Turn::Ended(why)) => {
                    if tie.allowed() && standing.is_some() {
                        live.engine.tell(&tie.channel, &words::ended_outside(tie.group(), &why));
                    }
                    self.say_inside(tie, words::ended_inside(&tie.channel, &self.plan.network, &why)).await;
                }
                None => {}
            }
            if tie.is_off() {
                let gone = |line: &crate::network::relay::Kept| line.tie == tie.key();
                for job in waiting.iter_mut().filter(|line| gone(line)).filter_map(|line| line.job) {
                    live.engine.take_back(job);
                }
                waiting.remove(gone).await;
            } else if let Some(standing) = standing.filter(|_| tie.is_on())
                && (!standing.moderated || !standing.signs.is_empty())
            {
                speaking.insert(tie.key().to_owned());
            }
            let today = Timestamp::now();
            let late = waiting.remove(|line| line.tie == tie.key() && line.job.is_none() && line.is_late(today)).await;
            if late > 0 {
                self.complain(tie, "it had waited for an hour").await;
            }
        }
        for line in waiting.iter_mut() {
            if line.after.is_some_and(|after| after > now) {
                // What comes behind it waits as well.
                speaking.remove(&line.tie);
            }
            let full = live.engine.backlog() >= self.limits.waiting as usize;
            if line.job.is_some() || full || !speaking.contains(&line.tie) {
                continue;
            }
            let Some(tie) = ties.iter().find(|tie| tie.key() == line.tie) else { continue };
            let room = live.engine.room("PRIVMSG", &tie.channel);
            let taken = live.engine.is_member(&tie.channel, &line.nick);
            let lines = words::lines(line.verb, &line.nick, taken, &line.text, room);
            self.next += 1;
            line.after = None;
            // What can't be written is nothing to keep: it goes with the jobs that are done.
            line.job = Some(self.next);
            if let Err(why) = live.engine.say_lines(self.next, &tie.channel, &lines) {
                tracing::debug!(network = self.plan.network, why, "a line can't be relayed");
                line.job = Some(0);
            }
        }
        waiting.remove(|line| line.job == Some(0)).await;
        self.relay = Some(relay);
    }

    /// What became of a line.
    pub(super) async fn relay_job(&mut self, job: u64, fate: Fate) {
        let Some(mut relay) = self.relay.take() else { return };
        let Relay { ties, waiting, .. } = &mut *relay;
        if let Some(line) = waiting.carried(job) {
            let tie = ties.iter_mut().find(|tie| tie.key() == line.tie);
            match fate {
                Fate::Later(_, pause) => (line.job, line.after) = (None, Some(Instant::now() + pause)),
                fate => {
                    let said = matches!(fate, Fate::Taken { .. });
                    waiting.remove(|line| line.job == Some(job)).await;
                    if let (Fate::Refused(why), Some(tie)) = (fate, tie) {
                        self.complain(tie, &format!("the network refused it: {why}")).await;
                    }
                    let said = if said { "yes" } else { "no" };
                    metrics::counter!("mesyx_irc_texts_sent_total", "delivered" => said).increment(1);
                }
            }
        }
        self.relay = Some(relay);
    }

    /// Something was said in a channel, or to the relay itself.
    pub(super) async fn relay_said(&mut self, live: &mut Live, said: Said) {
        let Some(mut relay) = self.relay.take() else { return };
        match &said.channel {
            None => self.answer_in_private(live, &mut relay, &said),
            // What is for some of the channel is not for the group.
            Some(channel) if !said.to_some && !relay.ignores(&said.who.nick) => {
                if let Some(tie) = relay.tie(channel)
                    && tie.is_on()
                    && !tie.moderated
                {
                    let draft = Draft {
                        channel: None,
                        group: Some(tie.address.clone()),
                        text: live.engine.decode(&said.raw),
                        nick: said.who.nick,
                        verb: said.verb,
                        at: said.at,
                        msgid: said.msgid,
                        protection: live.protection.clone(),
                        checks: Vec::new(),
                        service: None,
                    };
                    self.bring(draft, live.engine.casemapping()).await;
                }
            }
            Some(_) => {}
        }
        self.relay = Some(relay);
    }

    /// Says who it is to who writes to it, once; nothing of it is stored.
    fn answer_in_private(&self, live: &mut Live, relay: &mut Relay, said: &Said) {
        let nick = &said.who.nick;
        if said.verb != Verb::Say || !relay.may_answer(nick, Instant::now()) {
            return;
        }
        if words::is_otr(&said.raw) {
            return live.engine.tell(nick, words::NO_OTR);
        }
        for line in relay.about(&self.host.domain().to_string()) {
            live.engine.tell(nick, &line);
        }
    }

    /// What ends the stay in a channel.
    pub(super) async fn relay_news(&mut self, live: &mut Live, news: &News) {
        let Some(mut relay) = self.relay.take() else { return };
        let (channel, why, out) = match news {
            News::Kick { channel, who, nick, reason } if live.engine.is_own(nick) => {
                (channel, Some(format!("{} removed it from {channel} ({reason})", who.nick)), true)
            }
            News::Part { channel, who, .. } if live.engine.is_own(&who.nick) => (channel, None, false),
            // ERR_BANNEDFROMCHAN
            News::Numeric { command, parameters, .. } if command == "474" && parameters.len() > 1 => {
                (&parameters[1], Some(format!("it is banned from {}", parameters[1])), false)
            }
            _ => {
                self.relay = Some(relay);
                return;
            }
        };
        if let Some(tie) = relay.tie(channel) {
            tie.left();
            if let Some(why) = why
                && tie.withdraw(why)
            {
                self.keep_tie(tie).await;
            }
            if out {
                live.engine.stay_out(&tie.channel, REMOVED, Instant::now());
            }
        }
        self.relay = Some(relay);
    }

    /// The connection is gone.
    pub(super) fn relay_lost(&mut self) {
        if let Some(relay) = &mut self.relay {
            relay.waiting.again();
            relay.ties.iter_mut().for_each(Tie::left);
        }
    }

    /// The bridge stops: lines that were not begun are said by its next life.
    pub(super) fn relay_stops(&mut self, live: &mut Live) {
        let Some(relay) = &mut self.relay else { return };
        for line in relay.waiting.iter_mut() {
            if let Some(job) = line.job.filter(|job| live.engine.is_untouched(*job)) {
                live.engine.take_back(job);
                line.job = None;
            }
        }
    }

    /// Whether the network has not answered yet for something that was begun.
    pub(super) fn relay_unfinished(&mut self, live: &Live) -> bool {
        let ready = live.engine.is_ready();
        self.relay.as_mut().is_some_and(|relay| ready && relay.waiting.iter_mut().any(|line| line.job.is_some()))
    }

    async fn keep_tie(&self, tie: &Tie) {
        if let Err(error) = self.host.set_checkpoint(tie.key(), tie.kept()).await {
            tracing::error!(network = self.plan.network, channel = tie.channel, %error, "what a channel allows can't be kept");
        }
    }

    /// Tells a group that not all was said outside, now and then.
    async fn complain(&self, tie: &mut Tie, why: &str) {
        tracing::info!(network = self.plan.network, channel = tie.channel, why, "a line was not relayed");
        if seldom(&mut tie.complained) {
            self.say_inside(tie, words::unsaid(&tie.channel, &self.plan.network, why)).await;
        }
    }

    /// A word of the relay's own in the group.
    async fn say_inside(&self, tie: &Tie, text: String) {
        let nick = &self.plan.identity.nick;
        self.service_notice(Some(tie.address.clone()), nick, text, (RELAY_NAME, RELAY_NICK)).await;
    }
}

/// Whether something that is told seldom may be told now.
fn seldom(last: &mut Option<Instant>) -> bool {
    let now = Instant::now();
    let may = last.is_none_or(|at| now.saturating_duration_since(at) >= SELDOM);
    if may {
        *last = Some(now);
    }
    may
}
