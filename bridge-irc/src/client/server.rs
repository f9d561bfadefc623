//! Takes connections, counts them, and ends them when the bridge stops.

use super::config::{Guests, Limits, Listener, Settings, Tls};
use super::connection;
use super::engine::outbox::Outbox;
use super::engine::{Facts, Server, names};
use mesyx_sdk::{ChatEvent, Fatal, Health, Host, ListenSpec, ServerTls, Timestamp};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long connections may take to end; `run` has 10 s in all.
const GRACE: Duration = Duration::from_secs(5);
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// How often silent clients are looked for.
const TICK: Duration = Duration::from_secs(5);

/// What all connections share.
pub(super) struct Shared {
    pub(super) host: Arc<dyn Host>,
    pub(super) limits: Limits,
    server: Mutex<Server>,
    tls: Option<ServerTls>,
    /// Becomes true when the bridge must stop.
    pub(super) stopping: watch::Receiver<bool>,
    places: Mutex<HashMap<IpAddr, usize>>,
    /// One change of the markers at a time.
    pub(super) marking: tokio::sync::Mutex<()>,
}

impl Shared {
    /// The server; nothing may be awaited while this is held.
    pub(super) fn server(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves all listeners until the host stops the bridge.
pub(super) async fn run(settings: &Settings, host: Arc<dyn Host>) -> Result<(), Fatal> {
    let (stop, stopping) = watch::channel(false);
    let tls = match host.certificates() {
        Ok(certificates) => Some(ServerTls::new(certificates, &[b"irc"])),
        Err(_) if settings.listeners.iter().all(|listener| listener.tls == Tls::None) => None,
        Err(error) => return Err(Fatal::new(format!("irc-client has no certificates to serve TLS with: {error}"))),
    };
    let mut cloak = [0; 32];
    getrandom::fill(&mut cloak).map_err(|error| Fatal::new(format!("no random bytes: {error}")))?;
    let facts = Facts {
        server: host.hostname().to_owned(),
        network: settings.network.clone(),
        domain: host.domain().clone(),
        motd: settings.motd.lines().map(str::to_owned).collect(),
        guests: settings.guests == Guests::On,
        started: Timestamp::now(),
        channels: settings.limits.channels,
        topic: settings.groups.topic_bytes.min(names::TOPIC),
        channel_name: settings.groups.name_bytes.min(names::CHANNEL),
        register: i64::try_from(settings.limits.login_seconds * 1000).unwrap_or(i64::MAX),
        ping: i64::try_from(settings.limits.ping_seconds * 1000).unwrap_or(i64::MAX),
        cloak,
    };
    let guests = facts.guests;
    let shared = Arc::new(Shared {
        host: Arc::clone(&host),
        limits: settings.limits.clone(),
        server: Mutex::new(Server::new(facts)),
        tls,
        stopping,
        places: Mutex::default(),
        marking: tokio::sync::Mutex::default(),
    });
    let mut tasks = JoinSet::new();
    tasks.spawn(tick(Arc::clone(&shared)));
    if guests {
        tasks.spawn(hear_groups(Arc::clone(&shared)));
    }
    for listener in &settings.listeners {
        let spec = ListenSpec { name: listener.name.clone(), address: listener.address };
        let socket = spec.open(&*host).await?;
        tasks.spawn(accept(listener.clone(), socket, Arc::clone(&shared)));
    }
    host.health(Health::Ready);
    host.stopped().await;
    let _ = stop.send(true);
    let ended = async { while tasks.join_next().await.is_some() {} };
    let _ = timeout(GRACE + Duration::from_secs(1), ended).await;
    tasks.shutdown().await;
    Ok(())
}

async fn tick(shared: Arc<Shared>) {
    let mut stopping = shared.stopping.clone();
    loop {
        tokio::select! {
            () = stopped(&mut stopping) => return,
            () = tokio::time::sleep(TICK) => shared.server().tick(Timestamp::now()),
        }
    }
}

/// What is said in groups, for all guests.
async fn hear_groups(shared: Arc<Shared>) {
    let mut stopping = shared.stopping.clone();
    loop {
        let heard = async {
            let mut feed = shared.host.guests().await?;
            for group in shared.host.groups().await? {
                shared.server().update_group(&group);
            }
            while let Some(event) = feed.next().await {
                let now = Timestamp::now();
                match event {
                    ChatEvent::GroupLine { group, line } => shared.server().said_to_guests(now, &group, &line),
                    ChatEvent::Group(group) => shared.server().update_group(&group),
                    _ => {}
                }
            }
            Ok::<_, mesyx_sdk::Error>(())
        };
        tokio::select! {
            () = stopped(&mut stopping) => return,
            ended = heard => {
                if let Err(error) = ended {
                    tracing::warn!(%error, "guests don't hear what is said in groups; trying again in 10 s");
                }
            }
        }
        tokio::select! {
            () = stopped(&mut stopping) => return,
            () = tokio::time::sleep(Duration::from_secs(10)) => {}
        }
    }
}

/// Takes connections of one listener; returns when all of them have ended after the stop.
async fn accept(listener: Listener, socket: TcpListener, shared: Arc<Shared>) {
    let mut stopping = shared.stopping.clone();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stopped(&mut stopping) => break,
            _ = connections.join_next(), if !connections.is_empty() => {}
            accepted = socket.accept() => match accepted {
                Ok((stream, address)) => {
                    connections.spawn(Box::pin(serve(stream, address, listener.tls, Arc::clone(&shared))));
                }
                Err(error) => {
                    // Out of sockets, most likely: connections that end give some back.
                    tracing::warn!(listener = listener.name, %error, "a connection can't be taken");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(socket);
    let ended = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(GRACE, ended).await;
    connections.shutdown().await;
}

async fn serve(stream: TcpStream, address: SocketAddr, tls: Tls, shared: Arc<Shared>) {
    let ip = address.ip().to_canonical();
    let Some(_place) = Place::take(&shared, ip) else {
        metrics::counter!("mesyx_irc_refused_connections_total").increment(1);
        return;
    };
    metrics::counter!("mesyx_irc_connections_total").increment(1);
    let _ = stream.set_nodelay(true);
    let outbox = Arc::new(Outbox::new(shared.limits.sendq_bytes));
    if tls == Tls::None {
        return connection::serve(stream, ip, false, outbox, &shared).await;
    }
    let Some(config) = shared.tls.as_ref().and_then(|tls| tls.config().ok()) else {
        tracing::error!("irc-client has no certificate that can be used; a connection was dropped");
        return;
    };
    let mut stopping = shared.stopping.clone();
    tokio::select! {
        done = timeout(HANDSHAKE, tokio_rustls::TlsAcceptor::from(config).accept(stream)) => match done {
            Ok(Ok(stream)) => connection::serve(stream, ip, true, outbox, &shared).await,
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        },
        // Nothing was begun that would have to be finished.
        () = stopped(&mut stopping) => {}
    }
}

/// Resolves when the bridge must stop.
pub(super) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    drop(stopping.wait_for(|stop| *stop).await);
}

/// One connection's place among those of its address; given back when dropped.
struct Place {
    shared: Arc<Shared>,
    ip: IpAddr,
}

impl Place {
    fn take(shared: &Arc<Shared>, ip: IpAddr) -> Option<Self> {
        // Of IPv6 the first 64 bits, which one customer has at the least.
        let ip = match ip {
            IpAddr::V4(_) => ip,
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::from([a, b, c, d, 0, 0, 0, 0])
            }
        };
        let mut places = shared.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.values().sum::<usize>() >= shared.limits.connections {
            return None;
        }
        let taken = places.entry(ip).or_default();
        if *taken >= shared.limits.connections_per_ip {
            return None;
        }
        *taken += 1;
        Some(Self { shared: Arc::clone(shared), ip })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.shared.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = places.get_mut(&self.ip) {
            *taken -= 1;
            if *taken == 0 {
                places.remove(&self.ip);
            }
        }
    }
}
