//! From the configuration to a server that serves, and to its end.

use super::instance::{Instance, Listening};
use super::logging::LogLevel;
use super::memory::{self, MemoryStatus};
use super::{admin, privileges};
use crate::config::check::Checked;
use crate::control::server::ControlSocket;
use crate::exit::{Failure, trying};
use crate::http;
use mesyx_bridges::Sockets;
use mesyx_sdk::ListenSpec;
use metrics_exporter_prometheus::PrometheusHandle;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sd_notify::NotifyState;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

/// How long the bridges may take to be ready before the service manager is told that we are up all the same.
const SETTLE: Duration = Duration::from_secs(10);

/// A server whose sockets are open and whose privileges are given up, but which does not serve yet.
pub(crate) struct Bound {
    checked: Checked,
    sockets: Arc<Sockets>,
    admin: Option<TcpListener>,
    memory: MemoryStatus,
    /// With TLS or without.
    http: Vec<(TcpListener, bool)>,
}

/// A server that serves.
pub(crate) struct Running {
    pub(crate) instance: Arc<Instance>,
    helpers: Vec<JoinHandle<()>>,
    control: ControlSocket,
}

/// Opens the listening sockets and gives up privileges. Must be called before any thread is started.
pub(crate) fn bind(checked: Checked) -> Result<Bound, Failure> {
    more_descriptors();
    let sockets = Sockets::from_service_manager().map_err(trying("the sockets that systemd passed"))?;
    for (name, address) in sockets.passed() {
        tracing::info!(name, %address, "took over a socket");
    }
    for bridge in &checked.bridges {
        for spec in bridge.bridge.listeners() {
            sockets.listen(&bridge.manifest.name, &spec)?;
        }
    }
    let admin = match checked.admin {
        Some(address) => Some(sockets.listen("mesyx", &ListenSpec { name: "admin".into(), address })?),
        None => None,
    };
    let mut http = Vec::new();
    for (spec, tls) in &checked.http.listeners {
        http.push((sockets.listen("mesyx", spec)?, *tls));
    }
    privileges::drop(checked.run_as.as_ref())?;
    let memory = memory::lock(checked.memory)?;
    Ok(Bound { checked, sockets: Arc::new(sockets), admin, memory, http })
}

/// Each connection takes a file descriptor; the soft limit is for programs that use select(2), which nothing here does.
fn more_descriptors() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(soft, hard)| if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) });
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}

/// The runtime that everything runs on: one worker for each core.
pub(crate) fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(trying("starting a runtime"))
}

/// Serves from now on; returns when the bridges are ready or have failed.
pub(crate) async fn start(bound: Bound, log: Option<LogLevel>, metrics: PrometheusHandle) -> Result<Running, Failure> {
    let mut control = ControlSocket::bind(&bound.checked.control_socket)?;
    let address = |listener: &TcpListener| listener.local_addr().ok();
    let listening = Listening {
        admin: bound.admin.as_ref().and_then(address),
        http: bound.http.iter().filter_map(|(listener, tls)| Some((address(listener)?, *tls))).collect(),
    };
    let instance = Instance::start(bound.checked, bound.sockets, listening, bound.memory, log).await?;
    let mut helpers = Vec::new();
    helpers.extend(control.serve(Arc::clone(&instance)));
    if let Some(listener) = bound.admin {
        helpers.extend(admin::serve(listener, Arc::clone(&instance), metrics)?);
    }
    helpers.extend(http::serve(bound.http, &instance)?);
    instance.supervisor().settled(SETTLE).await;
    Ok(Running { instance, helpers, control })
}

impl Running {
    /// Stops everything, in order.
    pub(crate) async fn stop(self) {
        drop(self.control);
        for helper in &self.helpers {
            helper.abort();
        }
        self.instance.stop().await;
    }
}

/// `mesyx run`.
pub(crate) fn run(checked: Checked, log: Option<LogLevel>) -> Result<(), Failure> {
    let bound = bind(checked)?;
    let metrics = admin::record()?;
    runtime()?.block_on(async {
        // Before anything is told of us: a signal that comes early must not kill us.
        let mut hangup = signal(SignalKind::hangup()).map_err(trying("signals"))?;
        let stop = stop_signal()?;
        let running = start(bound, log, metrics).await?;
        let ready = running.instance.supervisor().status().iter().all(|b| b.state == mesyx_bridges::State::Ready);
        notify(&[
            NotifyState::Ready,
            NotifyState::Status(if ready { "serving" } else { "serving in part: see the log" }),
        ]);
        tracing::info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "serving");
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                received = hangup.recv() => {
                    if received.is_some() {
                        reload(&running.instance).await;
                    }
                }
            }
        }
        notify(&[NotifyState::Stopping]);
        tracing::info!("stopping");
        running.stop().await;
        tracing::info!("stopped");
        Ok(())
    })
}

/// Resolves on SIGTERM or SIGINT. The signals are caught from the call on.
pub(crate) fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(trying("signals"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(trying("signals"))?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Follows SIGHUP; what went wrong is in the log.
async fn reload(instance: &Instance) {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
    if let Err(failure) = instance.reload().await {
        tracing::error!("the configuration stays as it was: {}", failure.text.lines().next().unwrap_or_default());
    }
    notify(&[NotifyState::Ready]);
}

/// Tells the service manager, where there is one.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager could not be told");
    }
}
