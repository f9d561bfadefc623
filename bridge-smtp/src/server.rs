//! Listening, and stopping.

use crate::config::{Checked, CheckedListener, TlsMode};
use crate::connection;
use crate::limits::Connections;
use crate::meters::Meters;
use crate::proto::{Role, Settings};
use crate::unanswered::Unanswered;
use crate::verify::{Claims, Gate, Verifier};
use mesyx_sdk::{Fatal, Health, Host, ServerTls};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

/// How long connections may finish what they have begun; a bridge has 10 seconds in all.
const FINISHING: Duration = Duration::from_secs(8);
/// The pause after a connection could not be taken (too many open files, mostly).
const PAUSE: Duration = Duration::from_millis(100);

/// What all connections of a bridge share.
pub(crate) struct Shared {
    pub(crate) host: Arc<dyn Host>,
    /// The bridge's name, which is also the protocol's.
    pub(crate) protocol: &'static str,
    pub(crate) settings: Arc<Settings>,
    pub(crate) checked: Checked,
    pub(crate) tls: Option<ServerTls>,
    pub(crate) unanswered: Unanswered,
    pub(crate) connections: Arc<Connections>,
    pub(crate) stopping: watch::Receiver<bool>,
    pub(crate) meters: Meters,
    /// Which fields of a message only we may write.
    pub(crate) claims: Claims,
    /// What is asked and checked of strangers; `None` where none come.
    pub(crate) strangers: Option<Strangers>,
}

/// What mail from strangers goes through.
pub(crate) struct Strangers {
    pub(crate) gate: Gate,
    /// `None` where nothing is to be checked.
    pub(crate) verifier: Option<Verifier>,
}

/// Serves until the host stops.
pub(crate) async fn serve(
    host: Arc<dyn Host>,
    protocol: &'static str,
    role: Role,
    checked: &Checked,
) -> Result<(), Fatal> {
    let (stop, stopping) = watch::channel(false);
    let mut listeners = Vec::new();
    for listener in &checked.listeners {
        listeners.push((listener.spec.open(&*host).await?, Arc::new(listener.clone())));
    }
    let shared = Arc::new(Shared {
        protocol,
        settings: Arc::new(Settings {
            role,
            hostname: host.hostname().to_owned(),
            limits: checked.session.clone(),
            budget: host.budget().clone(),
            shares: Arc::default(),
        }),
        checked: checked.clone(),
        tls: server_tls(&*host, checked)?,
        unanswered: Unanswered::default(),
        connections: Connections::new(checked.connections, checked.connections_per_ip),
        stopping,
        meters: Meters::new(protocol),
        claims: Claims::new(host.hostname()),
        strangers: strangers(&*host, checked)?,
        host: Arc::clone(&host),
    });
    let mut tasks = JoinSet::new();
    for (socket, listener) in listeners {
        tasks.spawn(listen(Arc::clone(&shared), listener, socket));
    }
    host.health(Health::Ready);
    host.stopped().await;
    stop.send_replace(true);
    while tasks.join_next().await.is_some() {}
    info!(bridge = protocol, "stopped");
    Ok(())
}

fn strangers(host: &dyn Host, checked: &Checked) -> Result<Option<Strangers>, Fatal> {
    let Some((verify, dns)) = &checked.verify else { return Ok(None) };
    let verifier = Verifier::new(verify, dns, host.hostname());
    let verifier = verifier.map_err(|error| Fatal::new(format!("checking who mail comes from: {error}")))?;
    Ok(Some(Strangers { gate: Gate::new(verify), verifier }))
}

fn server_tls(host: &dyn Host, checked: &Checked) -> Result<Option<ServerTls>, Fatal> {
    if checked.listeners.iter().all(|listener| listener.tls == TlsMode::None) {
        return Ok(None);
    }
    let certificates = host.certificates().map_err(|error| Fatal::new(format!("TLS: {error}")))?;
    let tls = ServerTls::new(certificates, &[]);
    if let Err(error) = tls.config() {
        host.health(Health::Degraded(format!("no TLS: {error}")));
    }
    Ok(Some(tls))
}

/// Takes connections until the bridge stops, then waits for them.
async fn listen(shared: Arc<Shared>, listener: Arc<CheckedListener>, socket: TcpListener) {
    let mut connections = JoinSet::new();
    let mut stopping = shared.stopping.clone();
    loop {
        tokio::select! {
            () = stopped(&mut stopping) => break,
            // Finished connections are collected as they end.
            Some(_) = connections.join_next() => {}
            accepted = socket.accept() => match accepted {
                Ok((tcp, peer)) => match shared.connections.enter() {
                    Some(counted) => {
                        let serving = connection::serve(Arc::clone(&shared), Arc::clone(&listener), tcp, peer, counted);
                        connections.spawn(serving);
                    }
                    None => {
                        shared.meters.crowded.increment(1);
                        refuse(&tcp, &listener);
                    }
                },
                Err(error) => {
                    warn!(bridge = shared.protocol, %error, "a connection could not be taken");
                    sleep(PAUSE).await;
                }
            },
        }
    }
    drop(socket);
    let finished = async { while connections.join_next().await.is_some() {} };
    if timeout(FINISHING, finished).await.is_err() {
        warn!(bridge = shared.protocol, "connections were cut off while stopping");
        connections.shutdown().await;
    }
}

/// Resolves when the bridge stops.
pub(crate) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // It fails where the sending side is gone, which is a stop as well.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// There are too many connections: says so if the socket takes it at once, and waits for nothing.
fn refuse(tcp: &TcpStream, listener: &CheckedListener) {
    if listener.tls != TlsMode::Implicit && listener.proxy.is_none() {
        // A peer that does not hear it sees the connection closed, which says the same.
        let _ = tcp.try_write(b"421 4.7.0 too many connections; come back later\r\n");
    }
}
