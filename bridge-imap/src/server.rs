//! Takes connections, counts them, and ends them when the bridge stops.

use crate::config::{Limits, Listener, Settings, Tls};
use crate::connection::{Connection, Peer};
use crate::share::Shares;
use crate::wire::Wire;
use mesyx_sdk::{Fatal, Health, Host, ListenSpec, ServerTls};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long running commands may go on once the bridge must stop; `run` has 10 s in all.
const GRACE: Duration = Duration::from_secs(8);

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) limits: Limits,
    pub(crate) shares: Shares,
    pub(crate) tls: Option<ServerTls>,
    /// Becomes true when the bridge must stop.
    pub(crate) stopping: watch::Receiver<bool>,
    places: Places,
}

/// Serves all listeners until the host stops the bridge.
pub(crate) async fn run(settings: &Settings, host: Arc<dyn Host>) -> Result<(), Fatal> {
    let (stop, stopping) = watch::channel(false);
    let tls = server_tls(settings, &*host)?;
    let places = Places::new(&settings.limits);
    let limits = settings.limits.clone();
    let shares = Shares::new(host.budget().clone());
    let shared = Arc::new(Shared { host: Arc::clone(&host), limits, shares, tls, stopping, places });
    let mut accepting = JoinSet::new();
    for listener in &settings.listeners {
        let spec = ListenSpec { name: listener.name.clone(), address: listener.address };
        let socket = spec.open(&*host).await?;
        accepting.spawn(accept(listener.clone(), socket, Arc::clone(&shared)));
    }
    host.health(Health::Ready);
    host.stopped().await;
    let _ = stop.send(true);
    let ended = async { while accepting.join_next().await.is_some() {} };
    let _ = timeout(GRACE + Duration::from_secs(1), ended).await;
    accepting.shutdown().await;
    Ok(())
}

fn server_tls(settings: &Settings, host: &dyn Host) -> Result<Option<ServerTls>, Fatal> {
    match host.certificates() {
        Ok(certificates) => Ok(Some(ServerTls::new(certificates, &[b"imap"]))),
        // Without certificates only a listener for tests on this machine can serve.
        Err(_) if settings.listeners.iter().all(|listener| listener.plain_auth_without_tls) => Ok(None),
        Err(error) => Err(Fatal::new(format!("imap has no certificates to serve TLS with: {error}"))),
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
                    connections.spawn(Box::pin(serve(stream, address, listener.clone(), Arc::clone(&shared))));
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

async fn serve(mut stream: TcpStream, address: SocketAddr, listener: Listener, shared: Arc<Shared>) {
    let ip = address.ip().to_canonical();
    let Some(_place) = shared.places.take(ip) else {
        metrics::counter!("mesyx_imap_refused_connections_total").increment(1);
        if listener.tls == Tls::Starttls {
            let text = b"* BYE [UNAVAILABLE] Too many connections; try again later\r\n";
            let _ = timeout(Duration::from_secs(1), stream.write_all(text)).await;
        }
        return;
    };
    metrics::counter!("mesyx_imap_connections_total").increment(1);
    let _ = stream.set_nodelay(true);
    let mut wire = Wire::new(stream, shared.limits.append_bytes, shared.limits.write());
    let mut tls = false;
    if listener.tls == Tls::Implicit {
        let Some(config) = shared.tls.as_ref().and_then(|tls| tls.config().ok()) else {
            tracing::error!(
                listener = listener.name,
                "there is no certificate that can be used; a connection was dropped"
            );
            return;
        };
        let mut stopping = shared.stopping.clone();
        let done = tokio::select! {
            done = wire.start_tls(config) => done,
            // Nothing was begun that would have to be finished.
            () = stopped(&mut stopping) => return,
        };
        if let Err(error) = done {
            tracing::debug!(listener = listener.name, %error, "a TLS handshake failed");
            return;
        }
        tls = true;
    }
    let may_start_tls = !tls && shared.tls.is_some();
    let peer = Peer { ip, tls, may_start_tls, plain_auth: tls || listener.plain_auth_without_tls };
    Connection::new(Arc::clone(&shared), wire, peer).serve().await;
}

/// Resolves when the bridge must stop.
pub(crate) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    drop(stopping.wait_for(|stop| *stop).await);
}

/// Counts connections, all and per address.
struct Places {
    counts: Arc<Mutex<Counts>>,
}

struct Counts {
    free: usize,
    per_ip: usize,
    by_ip: HashMap<IpAddr, usize>,
}

/// One connection's place; given back when dropped.
struct Place {
    counts: Arc<Mutex<Counts>>,
    ip: IpAddr,
}

impl Places {
    fn new(limits: &Limits) -> Self {
        let counts = Counts { free: limits.connections, per_ip: limits.connections_per_ip, by_ip: HashMap::new() };
        Self { counts: Arc::new(Mutex::new(counts)) }
    }

    fn take(&self, ip: IpAddr) -> Option<Place> {
        let ip = network(ip);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let per_ip = counts.per_ip;
        if counts.free == 0 {
            return None;
        }
        let taken = counts.by_ip.entry(ip).or_default();
        if *taken >= per_ip {
            return None;
        }
        *taken += 1;
        counts.free -= 1;
        metrics::gauge!("mesyx_imap_connections").increment(1);
        Some(Place { counts: Arc::clone(&self.counts), ip })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.free += 1;
        if let Some(taken) = counts.by_ip.get_mut(&self.ip) {
            *taken -= 1;
            if *taken == 0 {
                counts.by_ip.remove(&self.ip);
            }
        }
        metrics::gauge!("mesyx_imap_connections").decrement(1);
    }
}

/// What counts as one address: of IPv6 the first 64 bits, which one customer has at the least.
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_given_back() {
        let places = Places::new(&Limits { connections: 3, connections_per_ip: 2, ..Limits::default() });
        let [one, two, three]: [IpAddr; 3] =
            ["2001:db8::1", "2001:db8::2", "192.0.2.1"].map(|ip| ip.parse().expect("an address"));
        let first = places.take(one).expect("a place");
        let _second = places.take(two).expect("a place");
        assert!(places.take(two).is_none(), "one network has two places");
        let _third = places.take(three).expect("a place");
        assert!(places.take(three).is_none(), "three in all");
        drop(first);
        assert!(places.take(one).is_some());
    }
}
