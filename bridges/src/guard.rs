//! The host as one bridge sees it.

use crate::questions::{self, Questions};
use crate::services::Services;
use crate::sockets::Sockets;
use crate::supervisor::Monitor;
use async_trait::async_trait;
use mesyx_sdk::{
    Accepted, Address, Answer, ByteBudget, Certificates, Conversation, Credentials, Domain, Envelope, Error, ErrorKind,
    Grant, Group, Health, Host, ListenSpec, LiveFeed, Question, RecipientStatus, Secret, Sender, Session, Signal,
    Style, UserId,
};
use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;
use tokio::sync::watch;

/// One bridge's host for one life of the bridge: from the start of `run` to its end.
///
/// Checks the grant of each call, and refuses everything once the life is over.
pub struct GuardedHost {
    bridge: String,
    grants: Vec<Grant>,
    services: Arc<dyn Services>,
    sockets: Arc<Sockets>,
    monitor: Arc<Monitor>,
    /// The way to the other bridges.
    questions: Weak<dyn Questions>,
    life: watch::Receiver<Life>,
    /// The sessions that were opened through this bridge, as long as it holds them.
    sessions: Mutex<HashMap<UserId, Vec<Weak<dyn Session>>>>,
    refusals: Mutex<Refusals>,
}

/// Refused calls, which are logged as far as that is bearable: a bridge that makes nothing else must not fill the disk.
struct Refusals {
    /// How many more may be logged now.
    allowed: f64,
    looked: Instant,
    /// How many were not, since the last one that was.
    silent: u64,
}

impl Refusals {
    /// Most at once, and how many more each second.
    const BURST: f64 = 20.0;
    const PER_SECOND: f64 = 0.2;

    /// Notes one: `Some` where it is to be logged, with the number of those before it that were not.
    fn note(&mut self, now: Instant) -> Option<u64> {
        let more = now.duration_since(self.looked).as_secs_f64() * Self::PER_SECOND;
        (self.allowed, self.looked) = ((self.allowed + more).min(Self::BURST), now);
        if self.allowed < 1.0 {
            self.silent += 1;
            return None;
        }
        self.allowed -= 1.0;
        Some(std::mem::take(&mut self.silent))
    }
}

/// How far a bridge's life has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// It serves.
    Running,
    /// It was asked to stop; calls still work, so that it can finish.
    Stopping,
    /// `run` has ended.
    Over,
}

impl GuardedHost {
    pub(crate) fn new(
        bridge: &str,
        grants: Vec<Grant>,
        services: Arc<dyn Services>,
        sockets: Arc<Sockets>,
        monitor: Arc<Monitor>,
        questions: Weak<dyn Questions>,
        life: watch::Receiver<Life>,
    ) -> Self {
        let bridge = bridge.to_owned();
        let refusals = Mutex::new(Refusals { allowed: Refusals::BURST, looked: Instant::now(), silent: 0 });
        Self { bridge, grants, services, sockets, monitor, questions, life, sessions: Mutex::default(), refusals }
    }

    /// Whether this bridge holds a session of the user.
    fn has_session(&self, user: UserId) -> bool {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.get(&user).is_some_and(|held| held.iter().any(|session| session.strong_count() > 0))
    }

    fn remember(&self, session: &Arc<dyn Session>) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        // Swept only now and then, so that a login does not cost a look at every session.
        if sessions.len().is_power_of_two() {
            sessions.retain(|_, held| held.iter().any(|session| session.strong_count() > 0));
        }
        let held = sessions.entry(session.user().id).or_default();
        held.retain(|session| session.strong_count() > 0);
        held.push(Arc::downgrade(session));
    }

    fn need(&self, grant: &Grant) -> Result<(), Error> {
        if *self.life.borrow() == Life::Over || self.life.has_changed().is_err() {
            return Err(Error::new(ErrorKind::Unavailable, format!("the bridge {} has ended", self.bridge)));
        }
        if self.grants.iter().any(|given| given.covers(grant)) {
            return Ok(());
        }
        let noted = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).note(Instant::now());
        if let Some(silent) = noted {
            let (bridge, grant) = (&self.bridge, grant.to_string());
            tracing::warn!(bridge, grant, silent, "refused a call: the bridge was not granted it");
        }
        self.monitor.fault(format!("it called for what needs the grant '{grant}', which it was not given"));
        metrics::counter!("mesyx_bridge_calls_refused_total", "bridge" => self.bridge.clone()).increment(1);
        let what = format!("the bridge {} was not granted '{grant}'", self.bridge);
        Err(Error::new(ErrorKind::NotGranted, what))
    }
}

#[async_trait]
impl Host for GuardedHost {
    async fn accept(&self, mut batch: Vec<Envelope>) -> Vec<Result<Accepted, Error>> {
        if let Err(error) = self.need(&Grant::Accept) {
            return batch.iter().map(|_| Err(error.clone())).collect();
        }
        // What is said in a group of ours comes from people without an account there, whom only some bridges may let in.
        let in_group = |envelope: &Envelope| {
            let group = envelope.conversation.as_ref();
            matches!(group, Some(Conversation::Group(Address::Mesyx(_))) if envelope.style == Style::Instant)
        };
        if batch.iter().any(in_group)
            && let Err(error) = self.need(&Grant::Guests)
        {
            return batch.iter().map(|_| Err(error.clone())).collect();
        }
        for envelope in &mut batch {
            envelope.origin.bridge.clone_from(&self.bridge);
        }
        self.services.accept(&self.bridge, batch).await
    }

    async fn recipient(&self, address: &Address, sender: &Sender) -> Result<RecipientStatus, Error> {
        self.need(&Grant::Directory)?;
        self.services.recipient(address, sender).await
    }

    async fn is_user(&self, name: &str) -> Result<bool, Error> {
        self.need(&Grant::Directory)?;
        self.services.is_user(name).await
    }

    async fn login(&self, credentials: Credentials) -> Result<Arc<dyn Session>, Error> {
        self.need(&Grant::Access)?;
        let session = self.services.login(credentials).await?;
        self.remember(&session);
        Ok(session)
    }

    fn certificates(&self) -> Result<watch::Receiver<Arc<Certificates>>, Error> {
        self.need(&Grant::Certificates)?;
        Ok(self.services.certificates())
    }

    async fn secret(&self, name: &str) -> Result<Secret, Error> {
        self.need(&Grant::Secret(name.to_owned()))?;
        self.services.secret(name).await
    }

    async fn listen(&self, spec: &ListenSpec) -> Result<TcpListener, Error> {
        self.need(&Grant::from(spec))?;
        self.sockets.listen(&self.bridge, spec)
    }

    fn budget(&self) -> &ByteBudget {
        self.services.budget()
    }

    fn hostname(&self) -> &str {
        self.services.hostname()
    }

    fn domain(&self) -> &Domain {
        self.services.domain()
    }

    async fn checkpoint(&self, key: &str) -> Result<Option<Secret>, Error> {
        self.need(&Grant::Checkpoint)?;
        self.services.checkpoint(&self.bridge, key).await
    }

    async fn set_checkpoint(&self, key: &str, value: Option<Secret>) -> Result<(), Error> {
        self.need(&Grant::Checkpoint)?;
        questions::check_checkpoint(key, value.as_ref())?;
        self.services.set_checkpoint(&self.bridge, key, value).await
    }

    async fn checkpoints(&self, prefix: &str) -> Result<Vec<String>, Error> {
        self.need(&Grant::Checkpoint)?;
        self.services.checkpoints(&self.bridge, prefix).await
    }

    fn signal(&self, mut signal: Signal) {
        if self.need(&Grant::Signal).is_err() {
            return;
        }
        if let Err(why) = questions::check_signal(&signal) {
            tracing::warn!(bridge = self.bridge, why, "a signal was dropped");
            return;
        }
        signal.bridge.clone_from(&self.bridge);
        self.services.signal(signal);
    }

    async fn query(&self, mut question: Question) -> Result<Answer, Error> {
        self.need(&Grant::Query)?;
        questions::check_question(&question)?;
        if let Some(user) = &question.user
            && !self.has_session(user.id)
        {
            tracing::warn!(bridge = self.bridge, user = %user.id, "refused a question for a user who has no session here");
            let what = format!("the bridge {} has no session of the user that it asks for", self.bridge);
            return Err(Error::new(ErrorKind::Forbidden, what));
        }
        question.asker.clone_from(&self.bridge);
        match self.questions.upgrade() {
            Some(questions) => questions.ask(question).await,
            None => Err(Error::new(ErrorKind::Unavailable, "the server is stopping")),
        }
    }

    async fn guests(&self) -> Result<LiveFeed, Error> {
        self.need(&Grant::Guests)?;
        self.services.guests().await
    }

    async fn groups(&self) -> Result<Vec<Arc<Group>>, Error> {
        self.need(&Grant::Guests)?;
        self.services.groups().await
    }

    fn health(&self, health: Health) {
        if *self.life.borrow() != Life::Over {
            self.monitor.health(health);
        }
    }

    async fn stopped(&self) {
        // An error means that the supervisor is gone, which ends the life as well.
        let _ = self.life.clone().wait_for(|life| *life != Life::Running).await;
    }
}
