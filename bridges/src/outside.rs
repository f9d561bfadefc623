//! A bridge that runs outside, as the supervisor sees it: a [`Bridge`] that stands for it.

use crate::library::{self, Loaded};
use crate::process::{self, Launch};
use crate::remote::Listens;
use mesyx_sdk::wire::host::{BuildError, Limits, RemoteBridge};
use mesyx_sdk::{
    Answer, Bridge, Config, ConfigErrors, DeferScope, Delivery, Error, ErrorKind, Fatal, Grant, Health, Host,
    ListenSpec, Manifest, Outcome, Question, async_trait,
};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// How the bridge comes to life.
#[derive(Debug)]
pub(crate) enum Start {
    /// By loading a library.
    Library(Loaded),
    /// By starting a process, with its socket in a directory below this one.
    Process(Box<Launch>, PathBuf),
    /// By waiting for its connection.
    Remote(Listens),
}

/// What keeps a bridge alive, beside its connection.
enum Keeper {
    Library(library::Running),
    Process(process::Running),
    Remote,
}

/// A bridge that runs outside.
pub(crate) struct Outside {
    pub(crate) name: String,
    pub(crate) start: Start,
    pub(crate) config: Config,
    pub(crate) grants: Vec<Grant>,
    pub(crate) listeners: Vec<ListenSpec>,
    pub(crate) secrets: Vec<String>,
    /// What it may make us hold and do.
    pub(crate) limits: Limits,
    current: Mutex<Option<RemoteBridge>>,
}

impl Outside {
    pub(crate) fn new(name: &str, start: Start, config: Config, grants: Vec<Grant>) -> Self {
        Self {
            name: name.to_owned(),
            start,
            config,
            grants,
            listeners: Vec::new(),
            secrets: Vec::new(),
            limits: Limits::default(),
            current: Mutex::default(),
        }
    }

    async fn begin(&self, host: &dyn Host) -> Result<(RemoteBridge, Keeper), Fatal> {
        match &self.start {
            Start::Library(library) => {
                let (bridge, running) = library.start(&self.name, &self.limits).await?;
                Ok((bridge, Keeper::Library(running)))
            }
            Start::Process(launch, directory) => {
                let (bridge, running) = launch.start(&self.name, directory, &self.limits).await?;
                Ok((bridge, Keeper::Process(running)))
            }
            Start::Remote(listens) => {
                let waiting = |at| host.health(Health::Degraded(format!("waiting at {at} for the bridge to connect")));
                let bridge = listens.connection(&self.name, &self.limits, waiting).await?;
                host.health(Health::Degraded("it has connected and is not ready".to_owned()));
                Ok((bridge, Keeper::Remote))
            }
        }
    }

    /// One life, from the connection to its end.
    async fn live(&self, host: &Arc<dyn Host>, bridge: &RemoteBridge) -> Result<(), Fatal> {
        match bridge.build(&self.config).await {
            Ok(_) => {}
            Err(BuildError::Config(errors)) => {
                let errors: Vec<_> = errors.0.iter().map(ToString::to_string).collect();
                return Err(Fatal::new(format!("the bridge refuses its configuration: {}", errors.join("; "))));
            }
            Err(BuildError::Lost(fatal)) => return Err(fatal),
        }
        self.set(Some(bridge.clone()));
        let ended = bridge.run(Arc::clone(host), &self.grants).await;
        self.set(None);
        ended
    }

    fn set(&self, bridge: Option<RemoteBridge>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = bridge;
    }

    fn current(&self) -> Option<RemoteBridge> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Forgets the connection however a life ends, also where it is cut off.
struct Forget<'a>(&'a Outside);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        let left = self.0.current.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(bridge) = left {
            bridge.close();
        }
    }
}

#[async_trait]
impl Bridge for Outside {
    /// The one that stands in [`crate::Prepared`] counts; this is of no bridge in particular.
    fn manifest() -> Manifest {
        Manifest {
            name: "outside".into(),
            version: String::new(),
            summary: String::new(),
            grants: Vec::new(),
            delivers: Vec::new(),
            config_schema: serde_json::Value::Bool(true),
        }
    }

    fn build(_config: Config) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        errors.push("run", "a bridge outside is made by its way", "write run = { process = … }");
        Err(errors)
    }

    fn listeners(&self) -> Vec<ListenSpec> {
        self.listeners.clone()
    }

    fn secrets(&self) -> Vec<String> {
        self.secrets.clone()
    }

    async fn run(&self, host: Arc<dyn Host>) -> Result<(), Fatal> {
        let _forget = Forget(self);
        let (bridge, keeper) = tokio::select! {
            begun = self.begin(&*host) => begun?,
            () = host.stopped() => return Ok(()),
        };
        let live = self.live(&host, &bridge);
        tokio::pin!(live);
        let ended = match &keeper {
            Keeper::Process(running) => tokio::select! {
                biased;
                ended = &mut live => ended,
                // What it said before it ended is still on the connection.
                how = running.ended() => match tokio::time::timeout(process::SETTLE, &mut live).await {
                    Ok(ended) => ended,
                    Err(_) => Err(Fatal::new(how)),
                },
            },
            Keeper::Library(_) | Keeper::Remote => live.await,
        };
        bridge.close();
        let how = match keeper {
            Keeper::Process(running) => running.end().await,
            Keeper::Library(running) => running.end().await,
            Keeper::Remote => None,
        };
        match (ended, how) {
            (Err(fatal), Some(how)) if how.contains(&fatal.to_string()) => Err(Fatal::new(how)),
            (Err(fatal), Some(how)) if !fatal.to_string().contains(&how) => Err(Fatal::new(format!("{fatal} ({how})"))),
            (ended, _) => ended,
        }
    }

    async fn deliver(&self, _host: Arc<dyn Host>, job: Delivery) -> Vec<Outcome> {
        match self.current() {
            Some(bridge) => bridge.deliver(job).await,
            None => {
                let why = format!("the bridge {} is not connected", self.name);
                let outcome =
                    Outcome::Deferred { why, retry_after: None, scope: DeferScope::Bridge, maybe_sent: false };
                vec![outcome; job.recipients.len()]
            }
        }
    }

    async fn answer(&self, _host: Arc<dyn Host>, question: Question) -> Result<Answer, Error> {
        match self.current() {
            Some(bridge) => bridge.answer(question).await,
            None => Err(Error::new(ErrorKind::Unavailable, format!("the bridge {} is not connected", self.name))),
        }
    }
}
