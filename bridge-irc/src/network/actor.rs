//! One connection of one user: made when it is wanted, kept, made again; with all that waits for it.
//!
//! ```text
//!  orders --> Actor: down (pause, or until wanted) -> dialling -> up (socket <-> Engine, Desk) -> down …
//! ```

mod asks;
mod down;
mod lines;
mod relay;
mod say;
mod up;

use super::config::IrcNetworkConfig;
use super::dial::{Stream, dial};
use super::intake::{self, Item};
use super::otr::Desk;
use super::proto::{Again, Over};
use super::records::{Plan, short};
use super::relay::{Heard, Relay};
use crate::link::{Ask, News, State};
use mesyx_otr::Identity;
use mesyx_sdk::{Answer, Error, Host, MailAddress, MessageId, Outcome, Protection, UserId, Verb};
use say::Pending;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// What others want of the connection.
pub(crate) enum Order {
    Say(Say),
    Ask(Ask, oneshot::Sender<Result<Answer, Error>>),
    /// Settings changed, or the user became known.
    Plan(Box<Plan>, Option<UserId>),
    Connect,
    Disconnect(String),
    Stop,
}

/// A text to say, for one recipient.
pub(crate) struct Say {
    pub(crate) id: MessageId,
    pub(crate) target: String,
    pub(crate) verb: Verb,
    pub(crate) text: String,
    pub(crate) deadline: Instant,
    pub(crate) done: oneshot::Sender<Outcome>,
}

/// What others may see without asking.
#[derive(Debug, Default)]
pub(crate) struct Status {
    pub(crate) state: State,
    pub(crate) error: String,
    /// Channels that the user wants, as they are now.
    pub(crate) nick: String,
}

/// A connection that runs.
pub(crate) struct Link {
    pub(crate) orders: mpsc::Sender<Order>,
    pub(crate) status: Arc<Mutex<Status>>,
    pub(crate) task: JoinHandle<()>,
}

pub(crate) struct Actor {
    host: Arc<dyn Host>,
    limits: super::config::IrcNetworkLimits,
    plan: Plan,
    user: Option<UserId>,
    address: MailAddress,
    orders: mpsc::Receiver<Order>,
    status: Arc<Mutex<Status>>,
    intake: mpsc::Sender<Item>,
    desk: Desk,
    key_wanted: Option<oneshot::Receiver<Result<Identity, mesyx_otr::Error>>>,
    /// Texts that could not be begun yet.
    waiting: Vec<Say>,
    /// Texts under way.
    pending: HashMap<u64, Pending>,
    next: u64,
    away: Option<String>,
    /// The user or something to say wants the connection.
    wanted: bool,
    failures: u32,
    /// A server asked for TLS on this port.
    upgrade: Option<u16>,
    /// The connection is a relay's, and no user's.
    relay: Option<Box<Relay>>,
    /// What the relay hears of groups.
    heard: Option<mpsc::Receiver<Heard>>,
}

/// How a stretch of the actor's life ended.
enum Flow {
    Go,
    Stop,
}

impl Actor {
    /// Starts a connection's life.
    pub(crate) fn start(
        host: &Arc<dyn Host>,
        config: &IrcNetworkConfig,
        plan: Plan,
        user: Option<UserId>,
        address: MailAddress,
        relay: Option<(Relay, mpsc::Receiver<Heard>)>,
    ) -> Link {
        let (orders, receiver) = mpsc::channel(256);
        let (intake, items) = mpsc::channel(intake::WAITING);
        let status = Arc::new(Mutex::new(Status { nick: plan.identity.nick.clone(), ..Status::default() }));
        let (relay, heard) = relay.map(|(relay, heard)| (Box::new(relay), heard)).unzip();
        let desk = Desk::new(&plan.network, &address.to_string(), config.otr.clone(), plan.otr);
        let actor = Self {
            host: Arc::clone(host),
            limits: config.limits.clone(),
            wanted: plan.connect,
            plan,
            user,
            address,
            orders: receiver,
            status: Arc::clone(&status),
            intake,
            desk,
            key_wanted: None,
            waiting: Vec::new(),
            pending: HashMap::new(),
            next: 0,
            away: None,
            failures: 0,
            upgrade: None,
            relay,
            heard,
        };
        let host = Arc::clone(host);
        let task = tokio::spawn(async move {
            let bringing = tokio::spawn(intake::bring(host, items));
            actor.run().await;
            // What has come in is stored before the bridge is over.
            let _ = bringing.await;
        });
        Link { orders, status, task }
    }

    async fn run(mut self) {
        self.load_otr().await;
        loop {
            let pause = self.pause();
            if let Flow::Stop = self.down(pause).await {
                break;
            }
            let over = match self.dial().await {
                Ok(None) => break,
                Ok(Some((stream, protection, identity))) => match self.up(stream, protection, identity).await {
                    Some(over) => over,
                    None => break,
                },
                Err(why) => Over { why, again: Again::Soon },
            };
            self.lost(over).await;
        }
        self.give_back("the server is stopping");
    }

    /// How long to wait before the next attempt; doubles, with a random part, so that many users of one network don't come at once.
    fn pause(&self) -> Duration {
        if self.failures == 0 {
            return Duration::ZERO;
        }
        let (least, most) = (u64::from(self.limits.reconnect_seconds), u64::from(self.limits.reconnect_most_seconds));
        let seconds = least.saturating_mul(1 << (self.failures - 1).min(16)).min(most);
        let mut random = [0; 2];
        let _ = getrandom::fill(&mut random);
        Duration::from_millis(seconds * 1000 + seconds * u64::from(u16::from_le_bytes(random)) / 131)
    }

    async fn lost(&mut self, over: Over) {
        tracing::info!(network = self.plan.network, why = over.why, "an IRC connection is over");
        match over.again {
            Again::Soon => self.failures = (self.failures + 1).min(20),
            Again::Late => self.failures = 20,
            Again::Tls(port) => self.upgrade = Some(port),
        }
        self.set_status(State::Disconnected, &over.why);
        self.news(News::Disconnected { why: over.why.clone() }).await;
        self.unfinished(&over.why);
        self.relay_lost();
    }

    async fn dial(&mut self) -> Result<Option<(Box<dyn Stream>, Protection, super::proto::Identity)>, String> {
        self.set_status(State::Connecting, "");
        let (plan, host, upgrade) = (self.plan.clone(), Arc::clone(&self.host), self.upgrade);
        let dialling = async move {
            let (mut target, mut identity) = plan.with_secrets(&*host).await?;
            if let Some(port) = upgrade {
                (target.port, target.tls, identity.tls) = (port, true, true);
            }
            let (stream, protection) = dial(&target).await?;
            Ok(Some((stream, protection, identity)))
        };
        tokio::pin!(dialling);
        loop {
            let expiry = self.next_expiry();
            tokio::select! {
                done = &mut dialling => return done,
                order = self.orders.recv() => match order {
                    None | Some(Order::Stop) => return Ok(None),
                    Some(Order::Disconnect(_)) => {
                        self.wanted = false;
                        return Err("disconnected by the user".to_owned());
                    }
                    Some(order) => self.offline(order).await,
                },
                heard = hearing(&mut self.heard) => self.heard(heard).await,
                () = sleep_until(expiry) => self.expire(),
            }
        }
    }

    fn set_status(&self, state: State, error: &str) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.state = state;
        error.clone_into(&mut status.error);
    }

    fn error(&self) -> String {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).error.clone()
    }

    /// Tells the user, once everything before it is stored.
    async fn news(&self, news: News) {
        if let Some(user) = self.user {
            let _ = self.intake.send(Item::News(Box::new(news.signal(&self.plan.network, user)))).await;
        }
    }

    fn otr_key(&self) -> String {
        otr_key(&self.address.to_string(), &self.plan.network)
    }

    /// Reads the OTR key and fingerprints, or has a key made.
    async fn load_otr(&mut self) {
        if self.relay.is_some() {
            return;
        }
        match self.host.checkpoint(&self.otr_key()).await {
            Ok(Some(kept)) => {
                // Never replaced by a new key in silence: others know the old one.
                if let Err(error) = self.desk.load(&kept) {
                    tracing::error!(
                        network = self.plan.network,
                        error,
                        "the OTR key of a user can't be read: there is no OTR for now"
                    );
                }
            }
            Ok(None) => {
                let (send, made) = oneshot::channel();
                tokio::task::spawn_blocking(move || drop(send.send(Identity::generate())));
                self.key_wanted = Some(made);
            }
            Err(error) => {
                tracing::error!(network = self.plan.network, %error, "OTR keys can't be read: there is no OTR for now")
            }
        }
    }

    async fn key_made(&mut self, made: Option<Identity>) {
        self.key_wanted = None;
        if let Some(identity) = made {
            self.desk.set_identity(Arc::new(identity));
            self.desk.touch();
            self.save_otr().await;
        }
    }

    async fn save_otr(&mut self) {
        if let Some(kept) = self.desk.save()
            && let Err(error) = self.host.set_checkpoint(&self.otr_key(), Some(kept)).await
        {
            tracing::error!(network = self.plan.network, %error, "OTR keys can't be kept");
        }
    }
}

/// Where a user's OTR key and fingerprints on a network are kept.
pub(crate) fn otr_key(address: &str, network: &str) -> String {
    format!("otr/{}/{network}", short(address))
}

/// Sleeps until a moment, or for ever.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// What a relay hears next; never where there is none, or it hears nothing any more.
async fn hearing(heard: &mut Option<mpsc::Receiver<Heard>>) -> Heard {
    let next = match heard {
        Some(heard) => heard.recv().await,
        None => None,
    };
    match next {
        Some(heard) => heard,
        None => std::future::pending().await,
    }
}

/// The key that is being made, once it is; never where none is.
async fn key(made: &mut Option<oneshot::Receiver<Result<Identity, mesyx_otr::Error>>>) -> Option<Identity> {
    match made {
        Some(made) => made.await.ok().and_then(Result::ok),
        None => std::future::pending().await,
    }
}
