//! Texts on their way out: through OTR where that is wanted, then to the engine, until their fate is known.

use super::down::deferred;
use super::{Actor, Say};
use crate::link::{News, Who};
use crate::network::actor::up::Live;
use crate::network::otr::{Told, Took};
use crate::network::proto::{Fate, Which};
use mesyx_irc_codec::split;
use mesyx_sdk::{DeferScope, MessageId, Outcome, Verb};
use std::time::Instant;
use tokio::sync::oneshot;

/// A text under way.
pub(super) struct Pending {
    id: MessageId,
    target: String,
    pub(super) done: Option<oneshot::Sender<Outcome>>,
    /// Parts whose fate is open.
    open: usize,
    failed: Option<Fate>,
    msgid: Option<String>,
    otr: bool,
    pub(super) deadline: Instant,
    /// Jobs of the engine that carry it.
    pub(super) jobs: Vec<u64>,
}

impl Actor {
    /// Says a text now: there is a connection.
    pub(super) async fn say(&mut self, live: &mut Live, say: Say) {
        let now = Instant::now();
        if live.engine.is_channel(&say.target)
            && !live.engine.in_channel(&say.target)
            && !live.joining.contains(&say.target)
        {
            // Who writes to a channel is in it: networks refuse others, and the answer would not be heard.
            live.joining.insert(say.target.clone());
            let key = self
                .plan
                .identity
                .channels
                .iter()
                .find(|(name, _)| *name == say.target)
                .and_then(|(_, key)| key.clone());
            live.engine.want(&say.target, key.clone());
            self.next += 1;
            let parameters: Vec<_> = std::iter::once(say.target.clone()).chain(key).collect();
            if live.engine.ask(self.next, "JOIN", &parameters, Which::Errors).is_ok() {
                live.after_join.insert(self.next, say);
                return;
            }
        }
        let Say { id, target, verb, text, deadline, done } = say;
        self.next += 1;
        let number = self.next;
        self.pending.insert(
            number,
            Pending {
                id,
                target: target.clone(),
                done: Some(done),
                open: 1,
                failed: None,
                msgid: None,
                otr: false,
                deadline,
                jobs: Vec::new(),
            },
        );
        let private = !live.engine.is_channel(&target) && self.desk.concerned_by(&target, verb);
        if !private {
            return self.plain(live, number, &target, verb, &text).await;
        }
        let room = live.engine.room("PRIVMSG", &target);
        if text.split('\n').all(str::is_empty) {
            return self.resolve(number, Fate::Refused("there is nothing in it to send".to_owned())).await;
        }
        for line in text.split('\n').filter(|line| !line.is_empty()) {
            self.open(number);
            match self.desk.send(&target, line, verb == Verb::Action, number, room, now) {
                Ok((Took::Clear, told)) if told.is_empty() => self.plain(live, number, &target, verb, line).await,
                Ok((took, told)) => {
                    if took != Took::Clear
                        && let Some(pending) = self.pending.get_mut(&number)
                    {
                        pending.otr = true;
                    }
                    self.told(live, told).await;
                }
                Err(why) => self.resolve(number, Fate::Refused(why)).await,
            }
        }
        // The one that it began with.
        self.resolve(number, Fate::Taken { msgid: None }).await;
    }

    fn open(&mut self, number: u64) {
        if let Some(pending) = self.pending.get_mut(&number) {
            pending.open += 1;
        }
    }

    /// A part goes out as it is.
    async fn plain(&mut self, live: &mut Live, number: u64, target: &str, verb: Verb, text: &str) {
        self.next += 1;
        let job = self.next;
        match live.engine.say(job, target, verb, text) {
            Ok(()) => self.carry(live, job, vec![number]),
            Err(why) => self.resolve(number, Fate::Refused(why)).await,
        }
    }

    fn carry(&mut self, live: &mut Live, job: u64, says: Vec<u64>) {
        for say in &says {
            if let Some(pending) = self.pending.get_mut(say) {
                pending.jobs.push(job);
            }
        }
        live.jobs.insert(job, says);
    }

    /// Does what OTR wants done.
    pub(super) async fn told(&mut self, live: &mut Live, told: Vec<Told>) {
        for told in told {
            match told {
                Told::Lines { nick, lines, says } => {
                    self.next += 1;
                    let job = self.next;
                    let room = live.engine.room("PRIVMSG", &nick);
                    // OTR cuts its own lines to length; a text in the clear is cut here.
                    let fit = |line: &Vec<u8>| split::pieces(line, room).map(<[u8]>::to_vec).collect::<Vec<_>>();
                    let lines: Vec<_> = lines.iter().flat_map(fit).collect();
                    match live.engine.say_lines(job, &nick, &lines) {
                        Ok(()) => self.carry(live, job, says),
                        Err(why) => {
                            for say in says {
                                self.resolve(say, Fate::Refused(why.clone())).await;
                            }
                        }
                    }
                }
                Told::Failed { say, why } => self.resolve(say, Fate::Refused(why)).await,
                Told::Text { nick, text, private, unexpected } => {
                    self.private_text(live, &nick, &text, private, unexpected).await;
                }
                Told::Word { nick, text, lasting } => self.word(&nick, text, lasting).await,
            }
        }
    }

    /// The same while there is no connection: nothing can be sent, the rest is told.
    pub(super) async fn told_offline(&mut self, told: Vec<Told>) {
        for told in told {
            match told {
                Told::Failed { say, why } => self.resolve(say, Fate::Refused(why)).await,
                Told::Word { nick, text, lasting } => self.word(&nick, text, lasting).await,
                Told::Lines { says, .. } => {
                    for say in says {
                        self.resolve(say, Fate::Refused("not sent: the connection is gone".to_owned())).await;
                    }
                }
                Told::Text { .. } => {}
            }
        }
    }

    /// A job of the engine is over.
    pub(super) async fn job(&mut self, live: &mut Live, job: u64, fate: Fate) {
        for say in live.jobs.remove(&job).unwrap_or_default() {
            if let Some(pending) = self.pending.get_mut(&say) {
                pending.jobs.retain(|other| *other != job);
            }
            self.resolve(say, fate.clone()).await;
        }
    }

    /// The fate of one part of a text is known.
    async fn resolve(&mut self, number: u64, fate: Fate) {
        let Some(pending) = self.pending.get(&number) else { return };
        let (id, otr, target) = (pending.id, pending.otr, pending.target.clone());
        let msgid = match &fate {
            Fate::Taken { msgid } => msgid.clone().unwrap_or_default(),
            _ => String::new(),
        };
        match self.settle(number, fate) {
            Some(Outcome::Delivered { .. }) => self.news(News::Sent { id, otr, msgid }).await,
            // The queue writes a mail on it; who is there is told at once.
            Some(Outcome::Failed { why }) => {
                let text = format!("To {target}: {why}");
                self.news(News::Notice { who: Who::default(), text }).await;
            }
            _ => {}
        }
    }

    /// What became of the whole text, where that is known by this.
    fn settle(&mut self, number: u64, fate: Fate) -> Option<Outcome> {
        let pending = self.pending.get_mut(&number)?;
        pending.open = pending.open.saturating_sub(1);
        match fate {
            Fate::Taken { msgid } => pending.msgid = pending.msgid.take().or(msgid),
            fate => pending.failed = pending.failed.take().or(Some(fate)),
        }
        if pending.open > 0 {
            return None;
        }
        let Pending { done: Some(done), failed, msgid, .. } = self.pending.remove(&number)? else { return None };
        let outcome = match failed {
            None | Some(Fate::Taken { .. }) => Outcome::Delivered { remote_id: msgid, dsn: false },
            Some(Fate::Refused(why)) => Outcome::Failed { why },
            Some(Fate::Later(why, after)) => {
                Outcome::Deferred { why, retry_after: Some(after), scope: DeferScope::Recipient, maybe_sent: false }
            }
        };
        let delivered = matches!(outcome, Outcome::Delivered { .. });
        metrics::counter!("mesyx_irc_texts_sent_total", "delivered" => if delivered { "yes" } else { "no" })
            .increment(1);
        let _ = done.send(outcome.clone());
        Some(outcome)
    }

    /// Texts whose time is over, while there is a connection: taken back where none of it was written.
    pub(super) fn overdue(&mut self, live: &mut Live, now: Instant) {
        let over: Vec<_> =
            self.pending.iter().filter(|(_, pending)| pending.deadline <= now).map(|(say, _)| *say).collect();
        for number in over {
            let Some(pending) = self.pending.remove(&number) else { continue };
            let untouched = pending.jobs.iter().all(|job| live.engine.take_back(*job)) && !pending.otr;
            pending.jobs.iter().for_each(|job| drop(live.jobs.remove(job)));
            if let Some(done) = pending.done {
                let why = "it waited too long for its turn: the network takes few lines at a time";
                let _ = done.send(deferred(why, DeferScope::Recipient, !untouched));
            }
        }
    }
}
