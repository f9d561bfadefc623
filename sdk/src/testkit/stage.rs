//! A bridge that runs, on a runtime of its own, so that what it leaves behind can be seen.

use super::{Network, PATIENCE, Subject};
use crate::{Bridge, Config, Delivery, Fatal, Health, Host, MemoryHost, Outcome};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// The byte budget of the stage's host.
pub(super) const BUDGET: usize = 16 << 20;
/// What the contract gives a bridge to stop, and what a slow machine adds to it.
const STOP: Duration = Duration::from_secs(15);

pub(super) struct Stage {
    pub(super) host: MemoryHost,
    pub(super) bridge: Arc<dyn Bridge>,
    runtime: Option<Runtime>,
    run: Option<JoinHandle<Result<(), Fatal>>>,
}

/// How a life ended.
pub(super) struct Ended {
    /// `run` returned in time, and how; else what happened.
    pub(super) run: Result<Result<(), Fatal>, String>,
    /// What was left behind.
    pub(super) left: Vec<String>,
}

/// A host with the users that the kit speaks of.
pub(super) fn host(network: &dyn Network) -> Result<MemoryHost, String> {
    let domain = "example.org".parse().map_err(|error| format!("{error}"))?;
    let host = MemoryHost::with_budget(domain, BUDGET);
    for (name, password) in [("ann", "secret"), ("bob", "hidden")] {
        host.add_user(name, password).map_err(|error| error.to_string())?;
    }
    network.prepare(&host);
    Ok(host)
}

impl Stage {
    /// Builds the bridge and runs it; does not wait for it.
    pub(super) fn start(subject: &Subject, network: &dyn Network) -> Result<Self, String> {
        Self::start_on(subject, network, host(network)?)
    }

    pub(super) fn start_on(subject: &Subject, network: &dyn Network, host: MemoryHost) -> Result<Self, String> {
        let config = Config::new(network.config());
        let build = subject.build;
        let bridge =
            apart(move || build(config))?.map_err(|errors| format!("the configuration is refused: {errors}"))?;
        let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("bridge").enable_all().build();
        let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
        let run = runtime.spawn({
            let (bridge, host): (_, Arc<dyn Host>) = (Arc::clone(&bridge), Arc::new(host.clone()));
            async move { bridge.run(host).await }
        });
        Ok(Self { host, bridge, runtime: Some(runtime), run: Some(run) })
    }

    /// The same, when it serves.
    pub(super) async fn ready(subject: &Subject, network: &dyn Network) -> Result<Self, String> {
        let mut stage = Self::start(subject, network)?;
        match timeout(PATIENCE, stage.until_ready()).await {
            Ok(Ok(())) => Ok(stage),
            Ok(Err(why)) => Err(why),
            Err(_) => Err(format!("it never said that it is ready; it said {:?}", stage.host.health_reports())),
        }
    }

    async fn until_ready(&mut self) -> Result<(), String> {
        loop {
            if self.host.health_reports().contains(&Health::Ready) {
                return Ok(());
            }
            if self.has_ended() {
                return Err(format!("`run` ended before it was ready: {}", self.how_it_ended().await));
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.run.as_ref().is_none_or(JoinHandle::is_finished)
    }

    async fn how_it_ended(&mut self) -> String {
        match self.run.take() {
            None => "it is gone".to_owned(),
            Some(run) => match run.await {
                Ok(Ok(())) => "without being asked to".to_owned(),
                Ok(Err(fatal)) => fatal.to_string(),
                Err(_) => "it panicked".to_owned(),
            },
        }
    }

    /// One attempt, on the bridge's own runtime; `Err` where it panicked or went on past its deadline.
    pub(super) async fn deliver(&self, job: Delivery) -> Result<Vec<Outcome>, String> {
        let (bridge, host): (_, Arc<dyn Host>) = (Arc::clone(&self.bridge), Arc::new(self.host.clone()));
        let Some(runtime) = &self.runtime else { return Err("there is no runtime".to_owned()) };
        let left = u64::try_from(job.deadline.0 - crate::Timestamp::now().0).unwrap_or(0);
        let attempt = runtime.spawn(async move { bridge.deliver(host, job).await });
        let abort = attempt.abort_handle();
        // What a slow machine needs is no fault of the bridge.
        match timeout(Duration::from_millis(left) + Duration::from_secs(3), attempt).await {
            Ok(Ok(outcomes)) => Ok(outcomes),
            Ok(Err(_)) => Err("`deliver` panicked".to_owned()),
            Err(_) => {
                abort.abort();
                Err("`deliver` did not return before its deadline".to_owned())
            }
        }
    }

    /// Tells the bridge to stop, waits for it, and looks at what is left.
    pub(super) async fn stop(mut self) -> Ended {
        self.host.stop();
        self.end().await
    }

    /// The same after the bridge was told.
    pub(super) async fn end(&mut self) -> Ended {
        let run = match self.run.take() {
            None => Err("`run` had ended".to_owned()),
            Some(mut run) => match timeout(STOP, &mut run).await {
                Ok(Ok(result)) => Ok(result),
                Ok(Err(_)) => Err("`run` panicked".to_owned()),
                Err(_) => {
                    run.abort();
                    Err("`run` did not return within 10 seconds of being told to stop".to_owned())
                }
            },
        };
        let left = if run.is_ok() { self.left().await } else { Vec::new() };
        Ended { run, left }
    }

    async fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        let tasks = || self.runtime.as_ref().map_or(0, |runtime| runtime.metrics().num_alive_tasks());
        // A task that was told to end takes a moment to be gone.
        for _ in 0..200 {
            if tasks() == 0 {
                break;
            }
            sleep(Duration::from_millis(5)).await;
        }
        if tasks() > 0 {
            left.push(format!("{} tasks are left", tasks()));
        }
        for report in self.host.health_reports() {
            if let Health::Listening { name, address } = report
                && still_open(address)
            {
                left.push(format!("the listener {name} still listens on {address}"));
            }
        }
        left
    }
}

fn still_open(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // It may not be waited for inside of the kit's own runtime.
            runtime.shutdown_background();
        }
    }
}

/// Runs on a thread that belongs to no runtime; `Err` where that panics.
pub(super) fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    std::thread::spawn(work).join().map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        format!("it panicked: {}", text.unwrap_or_default())
    })
}
