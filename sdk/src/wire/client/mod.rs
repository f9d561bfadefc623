//! The bridge's side: a [`Host`](crate::Host) and its [`Session`](crate::Session)s at the other end of a connection.
//!
//! A bridge written with this crate does not use this module: [`super::serve_bridge`] does. It is public for tools that speak the protocol
//! themselves.

mod feeds;
mod host;
mod known;
mod session;

use super::status::from_status;
use super::v1::host_client::HostClient;
use super::v1::life_client::LifeClient;
use super::v1::session_client::SessionClient;
use super::{BRIDGE_WINDOW, CALL, FRAME, HEADERS, MAX_EVENT, STREAM_WINDOW, v1};
use crate::{ByteBudget, Certificates, Domain, Error, ErrorKind, Grant, Health, Signal};
use hyper_util::rt::TokioIo;
use known::Known;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Streaming};

#[cfg(unix)]
use super::descriptors::{Inbox, Receiving};

/// Lists may come whole in one message, two numbers for each run of UIDs.
const LARGEST: usize = 4 * MAX_EVENT;
/// How many reports of health, and how many signals, may wait to be sent.
const WAITING: usize = 256;

/// A connection to a host, not introduced yet.
#[derive(Clone)]
pub struct Connection {
    channel: Channel,
    #[cfg(unix)]
    inbox: Option<Arc<Inbox>>,
}

impl Connection {
    /// Speaks HTTP/2 over a stream.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where the other side does not.
    pub async fn over<S>(stream: S) -> Result<Self, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut stream = Some(TokioIo::new(stream));
        // One stream, one connection: when it is gone, there is no other.
        let connector = tower::service_fn(move |_: http::Uri| {
            let stream = stream.take();
            async move { stream.ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "the connection has ended")) }
        });
        let channel = Endpoint::from_static("http://mesyx.invalid")
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(BRIDGE_WINDOW)
            .max_frame_size(FRAME)
            .http2_max_header_list_size(HEADERS)
            // A host that is gone without a word (another machine's power) is noticed within a minute.
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(30))
            .keep_alive_while_idle(true)
            .connect_with_connector(connector)
            .await
            .map_err(|error| Error::new(ErrorKind::Unavailable, format!("can't speak with the host: {error}")))?;
        Ok(Self {
            channel,
            #[cfg(unix)]
            inbox: None,
        })
    }

    /// The same over a unix socket, on which the host can pass listening sockets.
    ///
    /// # Errors
    /// As [`Connection::over`].
    #[cfg(unix)]
    pub async fn over_unix(stream: tokio::net::UnixStream) -> Result<Self, Error> {
        let inbox = Arc::new(Inbox::default());
        let connection = Self::over(Receiving::new(stream, Arc::clone(&inbox))).await?;
        Ok(Self { inbox: Some(inbox), ..connection })
    }

    /// The features that this side can offer on this connection.
    #[must_use]
    pub fn features(&self) -> Vec<String> {
        #[cfg(unix)]
        if self.inbox.is_some() {
            return vec![super::DESCRIPTORS.to_owned()];
        }
        Vec::new()
    }

    /// The service `Life`.
    #[must_use]
    pub fn life(&self) -> LifeClient<Channel> {
        LifeClient::new(self.channel.clone()).max_decoding_message_size(LARGEST)
    }

    fn host(&self) -> HostClient<Channel> {
        HostClient::new(self.channel.clone()).max_decoding_message_size(LARGEST)
    }

    fn session(&self) -> SessionClient<Channel> {
        SessionClient::new(self.channel.clone()).max_decoding_message_size(LARGEST)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

/// The host at the other end, once it said that the bridge is to run. Clones share everything.
#[derive(Clone)]
pub struct RemoteHost(Arc<Shared>);

struct Shared {
    connection: Connection,
    hostname: String,
    domain: Domain,
    budget: ByteBudget,
    stopping: watch::Receiver<bool>,
    certificates: Option<watch::Receiver<Arc<Certificates>>>,
    uploads: Semaphore,
    known: Known,
    health: mpsc::Sender<Report>,
    signals: mpsc::Sender<Signal>,
}

/// What is told in its order, and not waited for.
enum Report {
    Health(Health),
    /// Tells when all before it was told.
    Told(oneshot::Sender<()>),
}

impl RemoteHost {
    /// The host that said `run` after `welcome` on a connection. `stopping` becomes true when the bridge must stop.
    ///
    /// Fetches the certificates, where they are granted.
    ///
    /// # Errors
    /// Where the host said something unusable, or does not give the certificates.
    pub async fn new(
        connection: Connection,
        welcome: &v1::Welcome,
        run: v1::Run,
        stopping: watch::Receiver<bool>,
    ) -> Result<Self, Error> {
        let unreadable = |_| Error::new(ErrorKind::Invalid, "the host's domain can't be read");
        let certificates = match run.granted.contains(&Grant::Certificates.to_string()) {
            true => Some(certificates(&connection).await?),
            false => None,
        };
        let (health, reports) = mpsc::channel(WAITING);
        let (signals, sent) = mpsc::channel(WAITING);
        tokio::spawn(tell_health(connection.clone(), reports));
        tokio::spawn(tell_signals(connection.clone(), sent));
        Ok(Self(Arc::new(Shared {
            connection,
            hostname: run.hostname,
            domain: run.domain.parse().map_err(unreadable)?,
            budget: ByteBudget::new(usize::try_from(run.budget).unwrap_or(usize::MAX)),
            stopping,
            certificates,
            known: Known::default(),
            uploads: Semaphore::new(welcome.max_uploads.max(1) as usize),
            health,
            signals,
        })))
    }

    /// Resolves when all that was told by [`crate::Host::health`] has reached the host.
    pub async fn flush(&self) {
        let (told, done) = oneshot::channel();
        if self.0.health.send(Report::Told(told)).await.is_ok() {
            // It fails where the connection is gone: there is nobody to tell.
            let _ = done.await;
        }
    }
}

impl fmt::Debug for RemoteHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteHost({})", self.0.hostname)
    }
}

/// A request with its deadline.
fn timed<T>(message: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

/// Makes a call with a deadline; what it answers, or the error.
macro_rules! ask {
    ($client:expr, $call:ident, $message:expr) => {
        $crate::wire::client::ask!($client, $call, $message, $crate::wire::CALL)
    };
    ($client:expr, $call:ident, $message:expr, $limit:expr) => {
        $client
            .$call($crate::wire::client::timed($message, $limit))
            .await
            .map(tonic::Response::into_inner)
            .map_err(|status| $crate::wire::status::from_status(&status))
    };
}
use ask;

/// The next message of a stream; `None` at its end.
async fn next<T>(stream: &mut Streaming<T>) -> Result<Option<T>, Error> {
    stream.message().await.map_err(|status| from_status(&status))
}

/// Ends what takes longer than a call may.
async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(limit, call)
        .await
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Unavailable, "the host did not answer in time")))
}

/// The certificates, and a task that follows their replacements.
async fn certificates(connection: &Connection) -> Result<watch::Receiver<Arc<Certificates>>, Error> {
    let stream = connection.host().certificates(Request::new(v1::CertificatesRequest {})).await;
    let mut stream = stream.map_err(|status| from_status(&status))?.into_inner();
    let first = within(CALL, next(&mut stream)).await?;
    let first = first.ok_or_else(|| Error::new(ErrorKind::Unavailable, "the host gave no certificates"))?;
    let (newest, watched) = watch::channel(Arc::new(Certificates::try_from(first)?));
    tokio::spawn(async move {
        while let Ok(Some(replaced)) = next(&mut stream).await {
            match Certificates::try_from(replaced) {
                Ok(certificates) => drop(newest.send_replace(Arc::new(certificates))),
                Err(error) => tracing::warn!(%error, "the host's new certificates can't be used"),
            }
        }
    });
    Ok(watched)
}

async fn tell_health(connection: Connection, mut reports: mpsc::Receiver<Report>) {
    let mut host = connection.host();
    while let Some(report) = reports.recv().await {
        match report {
            Report::Health(health) => {
                if let Err(error) = ask!(host, health, v1::HealthRequest::from(&health)) {
                    tracing::debug!(%error, "the host was not told how the bridge does");
                }
            }
            Report::Told(told) => drop(told.send(())),
        }
    }
}

async fn tell_signals(connection: Connection, mut signals: mpsc::Receiver<Signal>) {
    let mut host = connection.host();
    while let Some(signal) = signals.recv().await {
        // Signals are lossy.
        let _ = ask!(host, signal, v1::SignalRequest { signal: Some((&signal).into()) });
    }
}

#[cfg(all(test, feature = "wire-host"))]
impl Connection {
    pub(super) fn channel_for_tests(&self) -> Channel {
        self.channel.clone()
    }

    pub(super) fn host_for_tests(&self) -> HostClient<Channel> {
        self.host()
    }

    pub(super) fn session_for_tests(&self) -> SessionClient<Channel> {
        self.session()
    }
}
