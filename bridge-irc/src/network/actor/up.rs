//! While there is a connection: the socket, the engine and OTR.

use super::{Actor, Order, Say, hearing, key, sleep_until};
use crate::link::{News, State};
use crate::network::dial::Stream;
use crate::network::proto::{Again, Engine, Event, FROM_NETWORK, Identity, Over};
use mesyx_irc_codec::{Framed, Framer};
use mesyx_sdk::Protection;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

/// Lines that the kernel has not taken yet; a server that stops reading makes no more wait.
const UNWRITTEN: usize = 256;
/// A connection that lasted this long was a good one: the next pause is the shortest again.
const GOOD: Duration = Duration::from_secs(60);
/// The last word of a server that stops.
const STOPPING: &str = "Mesyx is stopping";
/// How long the last words may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// A connection.
pub(super) struct Live {
    pub(super) engine: Engine,
    pub(super) protection: Protection,
    /// Texts by the job that carries them.
    pub(super) jobs: HashMap<u64, Vec<u64>>,
    pub(super) asks: super::asks::Open,
    /// Texts that wait for a channel to be joined, by the question that joins it.
    pub(super) after_join: HashMap<u64, Say>,
    pub(super) joining: HashSet<String>,
    /// What is being taken in.
    pub(super) current: Option<crate::network::proto::Said>,
}

impl Actor {
    /// Serves a connection until it is over; `None`: the bridge stops.
    pub(super) async fn up(
        &mut self,
        stream: Box<dyn Stream>,
        protection: Protection,
        identity: Identity,
    ) -> Option<Over> {
        let (mut read, mut write) = tokio::io::split(stream);
        let (unwritten, mut lines) = mpsc::channel::<Vec<u8>>(UNWRITTEN);
        let writer = tokio::spawn(async move {
            while let Some(line) = lines.recv().await {
                if write.write_all(&line).await.is_err() || (lines.is_empty() && write.flush().await.is_err()) {
                    return;
                }
            }
            let _ = write.shutdown().await;
        });
        let began = Instant::now();
        let mut live = Live {
            engine: Engine::new(identity, began),
            protection,
            jobs: HashMap::new(),
            asks: HashMap::new(),
            after_join: HashMap::new(),
            joining: HashSet::new(),
            current: None,
        };
        let mut framer = Framer::new(FROM_NETWORK);
        let mut buffer = vec![0; 16_384];
        // The bridge stops, and what was begun is finished until then.
        let mut leaving: Option<Instant> = None;
        let over = loop {
            let now = Instant::now();
            match self.events(&mut live).await {
                Some(over) => break Some(over),
                None => self.begin_waiting(&mut live).await,
            }
            if leaving.is_none() {
                self.relay_review(&mut live).await;
            } else if leaving.is_some_and(|until| until <= now) || !self.relay_unfinished(&live) {
                live.engine.quit(STOPPING);
                break None;
            }
            let mut full = false;
            while let Some(line) = live.engine.next_bytes(now) {
                full |= unwritten.try_send(line).is_err();
            }
            if full {
                break Some(Over { why: "the server takes nothing any more".to_owned(), again: Again::Soon });
            }
            let deadlines = [
                Some(live.engine.deadline(now)),
                self.desk.deadline(),
                self.next_expiry(),
                live.asks.values().map(|ask| ask.until).min(),
                self.relay.as_ref().and_then(|relay| relay.waiting.deadline()),
                leaving,
            ];
            let wake = deadlines.into_iter().flatten().min();
            tokio::select! {
                biased;
                order = self.orders.recv(), if leaving.is_none() => match order {
                    None | Some(Order::Stop) => {
                        self.relay_stops(&mut live);
                        if !self.relay_unfinished(&live) {
                            live.engine.quit(STOPPING);
                            break None;
                        }
                        leaving = Some(Instant::now() + GOODBYE);
                    }
                    Some(Order::Disconnect(reason)) => {
                        live.engine.quit(&reason);
                        self.wanted = false;
                        break Some(Over { why: "disconnected by the user".to_owned(), again: Again::Soon });
                    }
                    Some(order) => self.online(&mut live, order).await,
                },
                // Where the host takes nothing in, nothing is read: the network keeps it, for a while.
                count = read.read(&mut buffer), if self.intake.capacity() > 64 => match count {
                    Ok(0) => break Some(Over { why: "the server closed the connection".to_owned(), again: Again::Soon }),
                    Ok(count) => {
                        let now = Instant::now();
                        framer.push(&buffer[..count], |framed| match framed {
                            Framed::Line(line) => live.engine.line(&line, now),
                            Framed::TooLong => tracing::debug!("a line of the server was too long and is lost"),
                        });
                    }
                    Err(error) => break Some(Over { why: format!("the connection broke: {error}"), again: Again::Soon }),
                },
                () = unwritten.closed() => {
                    break Some(Over { why: "the connection broke".to_owned(), again: Again::Soon });
                }
                heard = hearing(&mut self.heard), if leaving.is_none() => self.heard(heard).await,
                made = key(&mut self.key_wanted) => self.key_made(made).await,
                () = sleep_until(wake) => {
                    let now = Instant::now();
                    live.engine.tick(now);
                    let told = self.desk.tick(now);
                    self.told(&mut live, told).await;
                    self.overdue(&mut live, now);
                    self.asks_overdue(&mut live, now);
                    let waiting = self.waiting.extract_if(.., |say| say.deadline <= now);
                    for say in waiting {
                        let why = "the network has not finished the greeting";
                        let _ = say.done.send(super::down::deferred(why, mesyx_sdk::DeferScope::Host, false));
                    }
                }
            }
        };
        // Last words, such as QUIT.
        while let Some(line) = live.engine.next_bytes(Instant::now()) {
            if unwritten.try_send(line).is_err() {
                break;
            }
        }
        drop(unwritten);
        let abort = writer.abort_handle();
        if tokio::time::timeout(GOODBYE, writer).await.is_err() {
            abort.abort();
        }
        if began.elapsed() > GOOD {
            self.failures = 0;
        }
        self.waiting.extend(live.after_join.drain().map(|(_, say)| say));
        over
    }

    /// Does what the engine tells.
    async fn events(&mut self, live: &mut Live) -> Option<Over> {
        while let Some(event) = live.engine.event() {
            match event {
                Event::Ready => {
                    self.set_status(State::Connected, "");
                    self.desk.set_casemapping(live.engine.casemapping());
                    if let Some(away) = self.away.clone() {
                        live.engine.away(Some(&away));
                    }
                }
                Event::News(news) => {
                    if let News::Nick { who, nick } = &news {
                        self.desk.renamed(&who.nick, nick);
                    }
                    if let Ok(mut status) = self.status.lock() {
                        status.nick = live.engine.presence().nick;
                    }
                    self.relay_news(live, &news).await;
                    self.news(news).await;
                }
                Event::Said(said) if self.relay.is_some() => self.relay_said(live, said).await,
                Event::Said(said) => self.said(live, said).await,
                Event::Job(job, fate) if self.relay.is_some() => self.relay_job(job, fate).await,
                Event::Job(job, fate) => self.job(live, job, fate).await,
                Event::Answer(id, replies) => match live.after_join.remove(&id) {
                    Some(say) => self.say(live, say).await,
                    None => self.answered(live, id, &replies),
                },
                Event::Over(over) => return Some(over),
            }
        }
        None
    }

    /// Says what waited for the connection.
    async fn begin_waiting(&mut self, live: &mut Live) {
        while live.engine.is_ready() && live.engine.backlog() < self.limits.waiting as usize {
            if self.waiting.is_empty() {
                return;
            }
            let say = self.waiting.remove(0);
            self.say(live, say).await;
        }
    }

    async fn online(&mut self, live: &mut Live, order: Order) {
        match order {
            Order::Say(say) => self.wait(say),
            Order::Ask(ask, reply) => self.question(live, ask, reply).await,
            Order::Plan(plan, user) => {
                self.user = user.or(self.user);
                let mut identity = plan.identity.clone();
                // Fetched at the next connection.
                identity.sasl = None;
                live.engine.change(identity, Instant::now());
                self.plan = *plan;
            }
            Order::Connect | Order::Disconnect(_) | Order::Stop => {}
        }
    }
}
