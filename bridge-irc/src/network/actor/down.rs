//! While there is no connection.

use super::{Actor, Flow, Order, Say, hearing, key, sleep_until};
use crate::link::{Ask, Channel, Presence, State};
use mesyx_sdk::{DeferScope, Error, ErrorKind, Outcome};
use std::time::{Duration, Instant};

impl Actor {
    /// Waits until the connection is wanted and the pause is over.
    pub(super) async fn down(&mut self, pause: Duration) -> Flow {
        let ready = Instant::now() + pause;
        loop {
            let now = Instant::now();
            if self.wanted && now >= ready {
                return Flow::Go;
            }
            let wake =
                [self.wanted.then_some(ready), self.next_expiry(), self.desk.deadline()].into_iter().flatten().min();
            tokio::select! {
                order = self.orders.recv() => match order {
                    None | Some(Order::Stop) => return Flow::Stop,
                    Some(Order::Connect) => {
                        // The user's word counts more than the pause.
                        self.wanted = true;
                        return Flow::Go;
                    }
                    Some(order) => self.offline(order).await,
                },
                heard = hearing(&mut self.heard) => self.heard(heard).await,
                made = key(&mut self.key_wanted) => self.key_made(made).await,
                () = sleep_until(wake) => {
                    self.expire();
                    let told = self.desk.tick(Instant::now());
                    self.told_offline(told).await;
                }
            }
        }
    }

    /// An order while there is no connection.
    pub(super) async fn offline(&mut self, order: Order) {
        match order {
            Order::Say(say) => {
                self.wanted = true;
                self.wait(say);
            }
            Order::Plan(plan, user) => {
                self.wanted |= plan.connect;
                (self.plan, self.user) = (*plan, user.or(self.user));
            }
            Order::Connect => self.wanted = true,
            Order::Disconnect(_) | Order::Stop => self.wanted = false,
            Order::Ask(ask, reply) => {
                let answer = match ask {
                    Ask::Presence { .. } => {
                        let state = self.status.lock().map_or(State::Disconnected, |status| status.state);
                        let nick = self.plan.identity.nick.clone();
                        Ok(Presence { state, nick, away: self.away.clone(), ..Presence::default() }.answer())
                    }
                    Ask::Channels { .. } => {
                        let all = self.plan.identity.channels.iter();
                        let all: Vec<_> =
                            all.map(|(name, _)| Channel { name: name.clone(), ..Channel::default() }).collect();
                        Ok(Channel::answer(&all))
                    }
                    Ask::Away { text, .. } => {
                        self.away = text;
                        Ok(Default::default())
                    }
                    // Kept by who asked: done on connecting.
                    Ask::Join { .. } | Ask::Part { .. } | Ask::Typing { .. } => Ok(Default::default()),
                    Ask::Service { text, .. } => {
                        let (lines, told) = self.desk.command(&text, 400, Instant::now()).await;
                        self.told_offline(told).await;
                        self.save_otr().await;
                        Ok(crate::link::text::answer(lines))
                    }
                    _ => Err(self.not_connected()),
                };
                let _ = reply.send(answer);
            }
        }
    }

    fn not_connected(&self) -> Error {
        let error = self.error();
        let why = if error.is_empty() { String::new() } else { format!(": {error}") };
        Error::new(ErrorKind::Unavailable, format!("not connected to {}{why}", self.plan.network))
    }

    /// Keeps a text until there is a connection, or its time is over.
    pub(super) fn wait(&mut self, say: Say) {
        if self.waiting.len() >= self.limits.waiting as usize {
            let why = format!("{} texts wait for {} already", self.waiting.len(), self.plan.network);
            let _ = say.done.send(deferred(why, DeferScope::Host, false));
            return;
        }
        self.waiting.push(say);
    }

    /// The moment when the next text has waited too long.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        let waiting = self.waiting.iter().map(|say| say.deadline);
        waiting.chain(self.pending.values().map(|pending| pending.deadline)).min()
    }

    /// Gives back texts whose time is over without a connection.
    pub(super) fn expire(&mut self) {
        let now = Instant::now();
        let why = self.not_connected().to_string();
        for say in self.waiting.extract_if(.., |say| say.deadline <= now) {
            let _ = say.done.send(deferred(why.clone(), DeferScope::Host, false));
        }
        let over: Vec<_> =
            self.pending.iter().filter(|(_, pending)| pending.deadline <= now).map(|(say, _)| *say).collect();
        for say in over {
            if let Some(done) = self.pending.remove(&say).and_then(|pending| pending.done) {
                let _ = done.send(deferred(why.clone(), DeferScope::Host, true));
            }
        }
    }

    /// Gives back everything.
    pub(super) fn give_back(&mut self, why: &str) {
        for say in self.waiting.drain(..) {
            let _ = say.done.send(deferred(why.to_owned(), DeferScope::Bridge, false));
        }
        for (_, pending) in self.pending.drain() {
            if let Some(done) = pending.done {
                let _ = done.send(deferred(why.to_owned(), DeferScope::Bridge, !pending.jobs.is_empty()));
            }
        }
    }

    /// The connection was lost: what was being written may have arrived.
    pub(super) fn unfinished(&mut self, why: &str) {
        // Texts that OTR holds stay: they are sent when it begins again, or given back.
        for (_, pending) in self.pending.extract_if(|_, pending| !pending.jobs.is_empty()) {
            if let Some(done) = pending.done {
                let _ = done.send(deferred(why.to_owned(), DeferScope::Host, true));
            }
        }
    }
}

/// Not now.
pub(super) fn deferred(why: impl Into<String>, scope: DeferScope, maybe_sent: bool) -> Outcome {
    Outcome::Deferred { why: why.into(), retry_after: None, scope, maybe_sent }
}
