//! Serving HTTP/1.1: what the admin listener and the pages for others have in common.
//!
//! Everything is bounded: connections, also of one peer, the head of a request, the time that a connection may last.

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use mesyx_sdk::ServerTls;
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// Most bytes of a request's head. Ours are asked for by short paths, with the few fields that programs send.
const MAX_HEAD: usize = 16 << 10;
/// The pause after a connection could not be taken (too many open files, mostly).
const PAUSE: Duration = Duration::from_millis(100);

/// An answer.
pub(crate) type Answer = Response<Full<Bytes>>;

/// What is allowed to connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// For the head of a request, and for a TLS handshake.
    pub(crate) head: Duration,
    /// For all of a connection.
    pub(crate) life: Duration,
}

/// How many connections there are; shared by several listeners.
#[derive(Debug)]
pub(crate) struct Places {
    most: usize,
    most_per_peer: usize,
    taken: Mutex<(usize, HashMap<IpAddr, usize>)>,
}

/// A connection's place; given back when this is dropped.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    peer: Option<IpAddr>,
}

impl Places {
    /// So many in all, and so many for one IPv4 address or IPv6 /64 network. Loopback counts in all only: behind it are
    /// proxies, which stand for many.
    pub(crate) fn new(most: usize, most_per_peer: usize) -> Arc<Self> {
        Arc::new(Self { most, most_per_peer, taken: Mutex::default() })
    }

    fn take(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let peer = Some(network_of(peer)).filter(|peer| !peer.is_loopback());
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.0 >= self.most {
            return None;
        }
        if let Some(peer) = peer {
            let count = taken.1.entry(peer).or_insert(0);
            if *count >= self.most_per_peer {
                return None;
            }
            *count += 1;
        }
        taken.0 += 1;
        Some(Place { places: Arc::clone(self), peer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.0 -= 1;
        if let Some(peer) = self.peer
            && let Some(count) = taken.1.get_mut(&peer)
        {
            *count -= 1;
            if *count == 0 {
                taken.1.remove(&peer);
            }
        }
    }
}

fn network_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        other => other,
    }
}

/// Takes connections until the task is aborted, and has `answer` answer their requests; it is told the name that the
/// client gave in the TLS handshake, where there was one.
pub(crate) async fn serve<S, F>(
    listener: TcpListener,
    what: &'static str,
    places: Arc<Places>,
    tls: Option<Arc<ServerTls>>,
    times: impl Fn() -> Times,
    answer: S,
) where
    S: Fn(Request<Incoming>, Option<Arc<str>>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(listener = what, %error, "a connection could not be taken");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Over the limit: closed at once, so that a client sees it.
        let Some(place) = places.take(peer.ip()) else {
            metrics::counter!("mesyx_http_connections_refused_total", "listener" => what).increment(1);
            continue;
        };
        let (times, tls, answer) = (times(), tls.clone(), answer.clone());
        tokio::spawn(async move {
            let connection = converse(stream, tls, times, answer);
            if timeout(times.life, connection).await.is_err() {
                tracing::debug!(listener = what, "a connection took too long");
            }
            drop(place);
        });
    }
}

async fn converse<S, F>(stream: TcpStream, tls: Option<Arc<ServerTls>>, times: Times, answer: S)
where
    S: Fn(Request<Incoming>, Option<Arc<str>>) -> F + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let Some(tls) = tls else { return speak(stream, None, times, answer).await };
    let config = match tls.config() {
        Ok(config) => config,
        Err(error) => return tracing::warn!(%error, "no TLS for a connection"),
    };
    let accepting = Box::pin(TlsAcceptor::from(config).accept(stream));
    match timeout(times.head, accepting).await {
        Ok(Ok(stream)) => {
            let name = stream.get_ref().1.server_name().map(Arc::from);
            speak(stream, name, times, answer).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

async fn speak<S, F>(stream: impl AsyncRead + AsyncWrite + Unpin, name: Option<Arc<str>>, times: Times, answer: S)
where
    S: Fn(Request<Incoming>, Option<Arc<str>>) -> F + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let service = service_fn(|request| {
        let answered = answer(request, name.clone());
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(times.head).max_buf_size(MAX_HEAD);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection failed");
    }
}

/// An answer with a text.
pub(crate) fn reply(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_given_back() {
        let places = Places::new(3, 1);
        let take = |ip: &str| places.take(ip.parse().unwrap());
        let one = take("2001:db8::1").unwrap();
        assert!(take("2001:db8::2").is_none(), "one /64 is one peer");
        let two = take("192.0.2.1").unwrap();
        assert!(take("::ffff:192.0.2.1").is_none(), "the same host in another spelling");
        let three = take("::1").unwrap();
        assert!(take("127.0.0.1").is_none(), "three in all");
        drop(two);
        assert!(take("192.0.2.1").is_some());
        drop((one, three));
        assert_eq!(*places.taken.lock().unwrap(), (0, HashMap::new()));
    }
}
