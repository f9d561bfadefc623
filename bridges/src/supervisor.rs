//! Keeps bridges running.

use crate::guard::{GuardedHost, Life};
use crate::questions::{self, Questions};
use crate::registry::Prepared;
use crate::run::Way;
use crate::services::Services;
use crate::sockets::Sockets;
use async_trait::async_trait;
use mesyx_sdk::wire::host::Faults;
use mesyx_sdk::{
    AddressKind, Answer, DeferScope, Delivery, Error, ErrorKind, Grant, Health, Outcome, Question, Timestamp,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;

/// When a bridge that failed is started again.
#[derive(Debug, Clone, Copy)]
pub struct RestartPolicy {
    /// The pause after the first failure; it doubles with each further one.
    pub first: Duration,
    /// The longest of these pauses.
    pub longest: Duration,
    /// After so many failures in a row the circuit opens: the bridge counts as broken.
    pub failures: u32,
    /// The pause before a broken bridge is tried once more.
    pub broken: Duration,
    /// A run that lasted so long starts the count of failures anew.
    pub healthy: Duration,
    /// How long a bridge may take to stop before it is cut off; the contract says 10 s. A process is then killed.
    pub stop: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(60),
            failures: 6,
            broken: Duration::from_secs(300),
            healthy: Duration::from_secs(60),
            stop: Duration::from_secs(10),
        }
    }
}

/// What a bridge is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "is")]
pub enum State {
    /// It was started and has not said that it is ready.
    Starting,
    /// It serves.
    Ready,
    /// It serves, but something is wrong.
    Degraded {
        /// What.
        why: String,
    },
    /// It failed and will be started again.
    Failed {
        /// How it failed.
        why: String,
        /// Seconds of the pause before the next start.
        pause: u64,
    },
    /// It failed so often that it is tried only now and then.
    Broken {
        /// How it failed the last time.
        why: String,
        /// Seconds of the pause before the next start.
        pause: u64,
    },
    /// It was stopped.
    Stopped,
}

/// How one bridge does, for `mesyx status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// How it is run.
    pub run: Way,
    /// What it may do.
    pub grants: Vec<Grant>,
    /// What it is doing.
    pub state: State,
    /// Where it listens: the listener's name and its real address.
    pub listening: Vec<(String, SocketAddr)>,
    /// How often it was started again.
    pub restarts: u64,
    /// How often it failed in a row; each failure within a short life adds one.
    #[serde(default)]
    pub failures: u32,
    /// How it failed the last time, also where it serves again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// What its circuit breaker does.
    #[serde(default)]
    pub breaker: Breaker,
    /// What it asks for and was not granted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ungranted: Vec<Grant>,
    /// How often it did something against its contract and went on: calls without their grant or faster than it may, deliveries without an
    /// answer or with a wrong one.
    #[serde(default)]
    pub faults: u64,
    /// The last of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_fault: Option<String>,
}

/// Whether a bridge that failed is started again at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Breaker {
    /// It is, after a short pause.
    #[default]
    Closed,
    /// It failed too often and is left alone for a while.
    Open,
    /// It was left alone and has its one more try: another failure opens the breaker again, a healthy life closes it.
    HalfOpen,
}

/// Collects what a bridge reports, and tells those who wait for it.
pub(crate) struct Monitor {
    status: Mutex<Status>,
    changed: watch::Sender<u64>,
    faults: Arc<Faults>,
}

impl Monitor {
    fn new(prepared: &Prepared, changed: watch::Sender<u64>) -> Self {
        let status = Status {
            name: prepared.manifest.name.clone(),
            version: prepared.manifest.version.clone(),
            run: prepared.run.way(),
            grants: prepared.grants.clone(),
            state: State::Starting,
            listening: Vec::new(),
            restarts: 0,
            failures: 0,
            last_failure: None,
            breaker: Breaker::Closed,
            ungranted: prepared.ungranted(),
            faults: 0,
            last_fault: None,
        };
        Self { status: Mutex::new(status), changed, faults: Arc::clone(&prepared.faults) }
    }

    pub(crate) fn health(&self, health: Health) {
        let mut status = self.status();
        match health {
            Health::Listening { name, address } => {
                tracing::info!(bridge = status.name, listener = name, %address, "listening");
                status.listening.retain(|(of, at)| *of != name || *at != address);
                status.listening.push((name, address));
            }
            Health::Ready => status.state = State::Ready,
            Health::Degraded(why) => {
                tracing::warn!(bridge = status.name, why, "degraded");
                status.state = State::Degraded { why };
            }
            other => tracing::debug!(bridge = status.name, health = ?other, "a report of a kind not known here"),
        }
        drop(status);
        self.tell();
    }

    /// Notes a failure, which is the so-many-th in a row.
    fn failed(&self, state: State, failures: u32) {
        {
            let mut status = self.status();
            status.failures = failures;
            if let State::Failed { why, .. } | State::Broken { why, .. } = &state {
                status.last_failure = Some(why.clone());
            }
        }
        self.enter(state);
    }

    /// Notes that a life has lasted long enough to forget failures before it.
    fn healthy(&self) {
        {
            let mut status = self.status();
            status.failures = 0;
            status.breaker = Breaker::Closed;
        }
        self.tell();
    }

    fn enter(&self, state: State) {
        {
            let mut status = self.status();
            status.breaker = match (&state, status.breaker) {
                (State::Broken { .. }, _) => Breaker::Open,
                (State::Starting, Breaker::Open) => Breaker::HalfOpen,
                (_, breaker) => breaker,
            };
            if state == State::Starting {
                status.restarts += 1;
            }
            if !matches!(state, State::Ready | State::Degraded { .. }) {
                status.listening.clear();
            }
            status.state = state;
        }
        self.tell();
    }

    /// Notes that it did something against its contract, and goes on.
    pub(crate) fn fault(&self, what: impl Into<String>) {
        self.faults.note(what);
    }

    /// How the bridge does now.
    fn now(&self) -> Status {
        let (faults, last_fault) = self.faults.so_far();
        Status { faults, last_fault, ..self.status().clone() }
    }

    fn tell(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One bridge under supervision.
struct Supervised {
    prepared: Prepared,
    monitor: Arc<Monitor>,
    /// Set to have it stopped.
    stop: watch::Sender<bool>,
    /// The host of the present life; `None` while it is not running.
    host: watch::Receiver<Option<Arc<GuardedHost>>>,
    task: JoinHandle<()>,
    /// Whether it was told already that nothing is brought to it.
    refused_delivery: AtomicBool,
}

impl Supervised {
    /// Tells, once, that a message is not brought to the bridge, which would take it, for want of the grant.
    fn refuse_delivery(&self) {
        if !self.refused_delivery.swap(true, Ordering::Relaxed) {
            let (bridge, grant) = (&self.prepared.manifest.name, Grant::Deliver.to_string());
            tracing::warn!(bridge, grant, "refused to bring messages out: the bridge was not granted it");
        }
    }
}

/// The bridges under supervision, by name.
#[derive(Default)]
struct Running(Mutex<BTreeMap<String, Supervised>>);

/// Starts bridges, restarts those that fail, stops them all.
pub struct Supervisor {
    services: Arc<dyn Services>,
    sockets: Arc<Sockets>,
    policy: RestartPolicy,
    bridges: Arc<Running>,
    /// The bridge that is being restarted with a changed configuration.
    restarting: Mutex<Option<Prepared>>,
    changed: watch::Sender<u64>,
}

impl Supervisor {
    /// Without bridges yet.
    #[must_use]
    pub fn new(services: Arc<dyn Services>, sockets: Arc<Sockets>, policy: RestartPolicy) -> Self {
        Self {
            services,
            sockets,
            policy,
            bridges: Arc::default(),
            restarting: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }

    /// Starts a bridge; one of the same name must have been stopped before.
    pub fn start(&self, prepared: Prepared) {
        self.start_in(&mut self.bridges(), prepared);
    }

    /// Does `first`, which may let others ask which bridge brings messages where, and starts bridges before anybody is answered: nobody
    /// is told that there is none because it was not started yet. `first` must not call this supervisor itself.
    pub fn start_all(&self, all: Vec<Prepared>, first: impl FnOnce()) {
        let mut bridges = self.bridges();
        first();
        for prepared in all {
            self.start_in(&mut bridges, prepared);
        }
    }

    fn start_in(&self, bridges: &mut BTreeMap<String, Supervised>, prepared: Prepared) {
        let name = prepared.manifest.name.clone();
        self.sockets.close_others(&name, &prepared.bridge.listeners());
        let monitor = Arc::new(Monitor::new(&prepared, self.changed.clone()));
        let (stop, stopping) = watch::channel(false);
        let (current, host) = watch::channel(None);
        let keeper = Keeper {
            prepared: prepared.clone(),
            services: Arc::clone(&self.services),
            sockets: Arc::clone(&self.sockets),
            monitor: Arc::clone(&monitor),
            policy: prepared.restart.map_or(self.policy, RestartPolicy::from),
            bridges: Arc::downgrade(&self.bridges),
            stopping,
            current,
        };
        let task = tokio::spawn(keeper.keep());
        bridges
            .insert(name, Supervised { prepared, monitor, stop, host, task, refused_delivery: AtomicBool::new(false) });
        self.changed.send_modify(|count| *count += 1);
    }

    /// Stops one bridge and waits for it. `false` where there is none of that name.
    pub async fn stop(&self, name: &str) -> bool {
        let Some(bridge) = self.bridges().remove(name) else {
            return false;
        };
        bridge.stop.send_replace(true);
        if let Err(error) = bridge.task.await {
            tracing::error!(bridge = name, %error, "the bridge's keeper failed");
        }
        true
    }

    /// Stops all bridges at once and waits for them; at most [`RestartPolicy::stop`].
    pub async fn stop_all(&self) {
        let all = std::mem::take(&mut *self.bridges());
        for bridge in all.values() {
            bridge.stop.send_replace(true);
        }
        for (name, bridge) in all {
            if let Err(error) = bridge.task.await {
                tracing::error!(bridge = name, %error, "the bridge's keeper failed");
            }
        }
    }

    /// Brings the running bridges to what `wanted` says: stops those that are not in it, restarts those that
    /// changed, starts new ones; the others are left alone with their connections. Returns the names of those touched.
    pub async fn reconcile(&self, wanted: Vec<Prepared>) -> Vec<String> {
        let gone: Vec<String> = {
            let running = self.bridges();
            let kept = |name: &String| wanted.iter().any(|prepared| prepared.manifest.name == *name);
            running.keys().filter(|name| !kept(name)).cloned().collect()
        };
        for name in &gone {
            self.stop(name).await;
            self.sockets.close_others(name, &[]);
        }
        let mut touched = gone;
        for prepared in wanted {
            let name = prepared.manifest.name.clone();
            let same = self.bridges().get(&name).is_some_and(|running| running.prepared.same_as(&prepared));
            if same {
                continue;
            }
            let restarting = |prepared| *self.restarting.lock().unwrap_or_else(PoisonError::into_inner) = prepared;
            restarting(Some(prepared.clone()));
            self.stop(&name).await;
            self.start(prepared);
            restarting(None);
            touched.push(name);
        }
        touched
    }

    /// How each bridge does, by name.
    #[must_use]
    pub fn status(&self) -> Vec<Status> {
        self.bridges().values().map(|bridge| bridge.monitor.now()).collect()
    }

    /// Waits until every bridge is ready or has failed once, at most `limit`. Whether all are ready.
    pub async fn settled(&self, limit: Duration) -> bool {
        let mut changed = self.changed.subscribe();
        let settled = async {
            while self.status().iter().any(|status| status.state == State::Starting) {
                if changed.changed().await.is_err() {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(limit, settled).await;
        self.status().iter().all(|status| status.state == State::Ready)
    }

    /// The bridge that brings messages to addresses of this kind: one that says so and was granted it, whether it is
    /// running now or not. The first by name where several do.
    #[must_use]
    pub fn route(&self, kind: AddressKind) -> Option<String> {
        let bridges = self.bridges();
        let serves =
            |bridge: &Prepared| bridge.manifest.delivers.contains(&kind) && bridge.grants.contains(&Grant::Deliver);
        let running = bridges.iter().filter(|(_, bridge)| serves(&bridge.prepared)).map(|(name, _)| name.clone()).min();
        if running.is_none() {
            for bridge in bridges.values().filter(|bridge| bridge.prepared.manifest.delivers.contains(&kind)) {
                bridge.refuse_delivery();
            }
        }
        // One that is being restarted is there again in a moment: nobody must be told that there is none.
        let restarting = self.restarting.lock().unwrap_or_else(PoisonError::into_inner).clone();
        running.or_else(|| restarting.filter(serves).map(|prepared| prepared.manifest.name))
    }

    /// One attempt to deliver through a bridge, ended by the job's deadline whatever the bridge does.
    ///
    /// One outcome for each recipient, in their order. What goes wrong inside an attempt defers that attempt alone: one
    /// message on which a bridge fails must not hold up all others.
    pub async fn deliver(&self, name: &str, job: Delivery) -> Vec<Outcome> {
        let recipients = job.recipients.len();
        let all = |why: String, scope: DeferScope, maybe_sent: bool| {
            vec![Outcome::Deferred { why, retry_after: None, scope, maybe_sent }; recipients]
        };
        let absent = |why: String| all(why, DeferScope::Bridge, false);
        let (bridge, host, monitor) = {
            let bridges = self.bridges();
            let Some(supervised) = bridges.get(name) else {
                return absent(format!("there is no bridge {name}"));
            };
            if !supervised.prepared.grants.contains(&Grant::Deliver) {
                supervised.refuse_delivery();
                return absent(format!("the bridge {name} was not granted 'deliver'"));
            }
            let Some(host) = supervised.host.borrow().clone() else {
                return absent(format!("the bridge {name} is not running"));
            };
            (Arc::clone(&supervised.prepared.bridge), host, Arc::clone(&supervised.monitor))
        };
        let left = u64::try_from(job.deadline.0.saturating_sub(Timestamp::now().0)).unwrap_or(0);
        if left == 0 {
            // The bridge may be quick enough for a message that its sender was told of by then.
            let why = format!("its time was over before it was handed to the bridge {name}");
            return all(why, DeferScope::Recipient, false);
        }
        let attempt = tokio::spawn(async move { bridge.deliver(host, job).await });
        // Whoever gives up waiting gives the attempt up too.
        let _ends = AbortOnDrop(attempt.abort_handle());
        match tokio::time::timeout(Duration::from_millis(left), attempt).await {
            Ok(Ok(outcomes)) if outcomes.len() == recipients => outcomes,
            Ok(Ok(outcomes)) => {
                monitor.fault(format!("it gave {} outcomes for a delivery to {recipients} recipients", outcomes.len()));
                all(format!("the bridge {name} gave a wrong number of outcomes"), DeferScope::Recipient, true)
            }
            Ok(Err(_)) => {
                monitor.fault("it panicked in a delivery; the log has the place");
                all(format!("the bridge {name} failed inside its delivery"), DeferScope::Recipient, true)
            }
            Err(_) => {
                monitor.fault("it did not answer in time whether it had delivered a message");
                all(format!("the bridge {name} did not answer in time"), DeferScope::Host, true)
            }
        }
    }

    fn bridges(&self) -> MutexGuard<'_, BTreeMap<String, Supervised>> {
        self.bridges.lock()
    }
}

impl Running {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Supervised>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bridge of that name with the host of its present life.
    fn running(&self, name: &str) -> Result<(Arc<dyn mesyx_sdk::Bridge>, Arc<GuardedHost>), Error> {
        let bridges = self.lock();
        let Some(supervised) = bridges.get(name) else {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no bridge {name}")));
        };
        let host = supervised.host.borrow().clone();
        let host = host.ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, format!("the bridge {name} is not running; try again later"))
        })?;
        Ok((Arc::clone(&supervised.prepared.bridge), host))
    }
}

#[async_trait]
impl Questions for Running {
    async fn ask(&self, question: Question) -> Result<Answer, Error> {
        let name = question.bridge.clone();
        let (bridge, host) = self.running(&name)?;
        let answering = tokio::spawn(async move { bridge.answer(host, question).await });
        // Whoever gives up waiting gives the answer up too.
        let _ends = AbortOnDrop(answering.abort_handle());
        match tokio::time::timeout(questions::TIME, answering).await {
            Ok(Ok(answer)) => questions::check_answer(&name, answer?),
            Ok(Err(_)) => {
                Err(Error::new(ErrorKind::Unavailable, format!("the bridge {name} failed inside its answer")))
            }
            Err(_) => Err(Error::new(ErrorKind::Unavailable, format!("the bridge {name} did not answer in time"))),
        }
    }
}

/// Ends a task with its owner.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The task that keeps one bridge running.
struct Keeper {
    prepared: Prepared,
    services: Arc<dyn Services>,
    sockets: Arc<Sockets>,
    monitor: Arc<Monitor>,
    policy: RestartPolicy,
    bridges: Weak<Running>,
    stopping: watch::Receiver<bool>,
    current: watch::Sender<Option<Arc<GuardedHost>>>,
}

impl Keeper {
    async fn keep(mut self) {
        let name = self.prepared.manifest.name.clone();
        let mut failures = 0;
        loop {
            let began = Instant::now();
            let Err(why) = self.one_life().await else {
                break;
            };
            failures = if began.elapsed() >= self.policy.healthy { 1 } else { failures + 1 };
            let doubled = self.policy.first.saturating_mul(2_u32.saturating_pow(failures - 1));
            let broken = failures >= self.policy.failures;
            let pause = if broken { self.policy.broken } else { doubled.min(self.policy.longest) };
            let seconds = pause.as_secs();
            tracing::error!(bridge = name, why, pause = seconds, failures, "the bridge failed and will be restarted");
            metrics::counter!("mesyx_bridge_failures_total", "bridge" => name.clone()).increment(1);
            let state =
                if broken { State::Broken { why, pause: seconds } } else { State::Failed { why, pause: seconds } };
            self.monitor.failed(state, failures);
            tokio::select! {
                () = tokio::time::sleep(pause) => self.monitor.enter(State::Starting),
                _ = self.stopping.wait_for(|stop| *stop) => break,
            }
        }
        self.monitor.enter(State::Stopped);
        tracing::info!(bridge = name, "the bridge has stopped");
    }

    /// Runs the bridge until it ends: `Ok` when it was asked to.
    async fn one_life(&mut self) -> Result<(), String> {
        if *self.stopping.borrow() {
            return Ok(());
        }
        let (life, watched) = watch::channel(Life::Running);
        let host = Arc::new(GuardedHost::new(
            &self.prepared.manifest.name,
            self.prepared.grants.clone(),
            Arc::clone(&self.services),
            Arc::clone(&self.sockets),
            Arc::clone(&self.monitor),
            self.bridges.clone(),
            watched,
        ));
        self.current.send_replace(Some(Arc::clone(&host)));
        let bridge = Arc::clone(&self.prepared.bridge);
        // A task of its own, so that a panic ends there.
        let mut run = tokio::spawn(async move { bridge.run(host).await });
        let healthy = tokio::time::sleep(self.policy.healthy);
        tokio::pin!(healthy);
        let ended = loop {
            tokio::select! {
                ended = &mut run => break Some(ended),
                _ = self.stopping.wait_for(|stop| *stop) => break None,
                () = &mut healthy, if !healthy.is_elapsed() => self.monitor.healthy(),
            }
        };
        let result = match ended {
            Some(Ok(Ok(()))) => Err("it ended without being asked to".to_owned()),
            Some(Ok(Err(fatal))) => Err(fatal.to_string()),
            Some(Err(_)) => Err("it panicked; the log has the place".to_owned()),
            None => {
                life.send_replace(Life::Stopping);
                self.finish(run).await;
                Ok(())
            }
        };
        self.current.send_replace(None);
        life.send_replace(Life::Over);
        result
    }

    /// Gives a bridge that was told to stop its time, then cuts it off.
    async fn finish(&self, mut run: JoinHandle<Result<(), mesyx_sdk::Fatal>>) {
        let name = &self.prepared.manifest.name;
        match tokio::time::timeout(self.policy.stop, &mut run).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(fatal))) => tracing::warn!(bridge = name, %fatal, "the bridge failed while stopping"),
            Ok(Err(_)) => tracing::warn!(bridge = name, "the bridge panicked while stopping"),
            Err(_) => {
                tracing::warn!(bridge = name, "the bridge did not stop in time and is cut off");
                run.abort();
            }
        }
    }
}
