//! The host's side: serves the protocol to one bridge, and stands for that bridge.
//!
//! ```text
//!   Supervisor -- run, deliver, answer --> RemoteBridge ==> Link <== Life, Host, Session (services of one connection)
//!                                                            |
//!                         Arc<dyn Host> (grants are checked there) <-- every call of the bridge
//! ```
//!
//! Nothing that the bridge does is believed. What it can make the host hold is bounded by [`Limits`]:
//! - requests that are being read or worked at: [`Limits::requests`] bytes;
//! - messages on their way in: [`Limits::upload_share`] bytes of the common budget, in [`Limits::uploads`] calls;
//! - lists and bodies on their way out: [`Limits::downloads`] calls, each cut off when it is not read for [`Limits::unread`];
//! - sessions, streams, deliveries: each a number of its own;
//! - and of our processor: [`Limits::calls`] and [`Limits::messages`] a second, where they are set.

mod calls;
mod life;
mod line;
mod lines;
mod link;
mod pace;
mod routes;
mod session;
mod upload;

use super::convert;
use super::{FRAME, HEADERS, HOST_WINDOW, STREAM_WINDOW, v1};
use crate::{
    Answer, Config, ConfigErrors, DeferScope, Delivery, Error, ErrorKind, Fatal, Grant, Host, ListenSpec, Manifest,
    Outcome, Question, Secret, Timestamp,
};
use line::Line;
pub use lines::{Allowance, escaped, log_line};
use link::{Link, Watched};
pub use pace::Faults;
use routes::Routes;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::transport::Server;
use v1::event::Event;

/// How long the connection of a bridge that was not let in stays open, so that it can read why.
const REFUSAL: Duration = Duration::from_millis(500);

/// What one bridge may make the host hold, and how long it may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Calls and feeds at once. 4,096: a thousand clients with a feed or two each.
    pub streams: u32,
    /// Bytes of requests that are being read or worked at, bodies apart. 32 MiB.
    pub requests: usize,
    /// Calls that bring messages, at once. 64.
    pub uploads: usize,
    /// Bytes of the common budget that messages of this bridge may take while they come in. 64 MiB: a quarter of the usual budget.
    pub upload_share: usize,
    /// How long the bytes of such a call may take. 120 s.
    pub upload: Duration,
    /// Largest message, in bytes. 64 MiB: more than mail allows unless it is configured.
    pub largest: u64,
    /// Calls that are answered with lists or bodies, at once; others wait. 32.
    pub downloads: usize,
    /// How long a bridge may leave such an answer unread before it is cut off. 60 s.
    pub unread: Duration,
    /// Sessions at once. 10,000.
    pub sessions: usize,
    /// Deliveries at once; others wait. 64.
    pub deliveries: usize,
    /// Questions at once. 64.
    pub questions: usize,
    /// How long the introduction may take. 10 s.
    pub hello: Duration,
    /// How long [`crate::Bridge::build`] may take. 10 s.
    pub build: Duration,
    /// How long any call may take, feeds apart. 300 s: what is left of a deadline that a bridge sets too late.
    pub call: Duration,
    /// Calls a second; who makes more waits. `None`: as many as it makes.
    pub calls: Option<u32>,
    /// Messages a second, each 64 KiB of one counted; who brings more waits. `None`: as many as it brings.
    pub messages: Option<u32>,
    /// Where it is noted what the bridge does against its contract, or faster than it may.
    pub faults: Arc<Faults>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams: 4096,
            requests: 32 << 20,
            uploads: 64,
            upload_share: 64 << 20,
            upload: Duration::from_secs(120),
            largest: 64 << 20,
            downloads: 32,
            unread: Duration::from_secs(60),
            sessions: 10_000,
            deliveries: 64,
            questions: 64,
            hello: Duration::from_secs(10),
            build: Duration::from_secs(10),
            call: Duration::from_secs(300),
            calls: None,
            messages: None,
            faults: Arc::default(),
        }
    }
}

/// Who may come in by a connection.
#[derive(Debug, Clone, Default)]
pub struct Admission {
    /// The token that the bridge must show; `None` where something else vouches for it.
    pub token: Option<Secret>,
    /// The name that its manifest must have.
    pub name: Option<String>,
}

/// What a bridge says to its configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Built {
    /// See [`crate::Bridge::listeners`].
    pub listeners: Vec<ListenSpec>,
    /// See [`crate::Bridge::secrets`].
    pub secrets: Vec<String>,
}

/// Why a bridge was not built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(ConfigErrors),
    /// The bridge failed, or its connection.
    #[error("{0}")]
    Lost(Fatal),
}

/// One connection to a bridge that is not linked in. Clones stand for the same one.
#[derive(Clone)]
pub struct RemoteBridge {
    link: Arc<Link>,
    introduced: Arc<Introduced>,
    /// The connection is closed with the last clone.
    _closes: Arc<CloseOnDrop>,
}

/// What a bridge said of itself.
pub(super) struct Introduced {
    manifest: Manifest,
    sdk: String,
    minor: u32,
    features: Vec<String>,
}

impl RemoteBridge {
    /// Serves the protocol on a stream, in tasks of its own. Resolves when the bridge has introduced itself.
    ///
    /// # Errors
    /// Where it does not do so in time, shows no or a wrong token, or has an unusable manifest. The stream is closed then.
    pub async fn connect<S>(stream: S, admission: Admission, limits: Limits) -> Result<Self, Fatal>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (link, watched) = Link::new(admission, limits);
        Self::introduce(stream, link, watched).await
    }

    /// The same over a unix socket, by which listening sockets can be passed.
    ///
    /// # Errors
    /// As [`RemoteBridge::connect`].
    #[cfg(unix)]
    pub async fn connect_unix(
        stream: tokio::net::UnixStream,
        admission: Admission,
        limits: Limits,
    ) -> Result<Self, Fatal> {
        let outbox = Arc::new(super::descriptors::Outbox::default());
        let (mut link, watched) = Link::new(admission, limits);
        link.outbox = Some(Arc::clone(&outbox));
        Self::introduce(super::descriptors::Sending::new(stream, outbox), link, watched).await
    }

    async fn introduce<S>(stream: S, link: Link, watched: Watched) -> Result<Self, Fatal>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Watched { hello, events } = watched;
        let limits = link.limits.clone();
        let link = Arc::new(link);
        let line = Line::new(stream, Arc::clone(&link.closing));
        let routes = Routes::new(Arc::clone(&link), events);
        let server = Server::builder()
            .timeout(limits.call)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(HOST_WINDOW)
            .max_concurrent_streams(limits.streams)
            .max_frame_size(FRAME)
            .http2_max_header_list_size(HEADERS)
            // A bridge that hangs as a whole is noticed within a minute.
            .http2_keepalive_interval(Some(Duration::from_secs(30)))
            .http2_keepalive_timeout(Some(Duration::from_secs(30)))
            .serve_with_incoming(routes, tokio_stream::once(Ok::<_, std::io::Error>(line)));
        tokio::spawn(server);
        let closes = Arc::new(CloseOnDrop(Arc::clone(&link)));
        let introduced = match timeout(limits.hello, hello).await {
            Ok(Ok(Ok(introduced))) => introduced,
            Ok(Ok(Err(why))) => {
                // The bridge is to read why before the connection goes.
                tokio::spawn(async move {
                    tokio::time::sleep(REFUSAL).await;
                    drop(closes);
                });
                return Err(Fatal::new(format!("the bridge was not let in: {why}")));
            }
            Ok(Err(_)) => return Err(Fatal::new("the bridge closed the connection before it introduced itself")),
            Err(_) => {
                let seconds = limits.hello.as_secs_f32();
                return Err(Fatal::new(format!("the bridge did not introduce itself within {seconds} seconds")));
            }
        };
        tracing::debug!(
            bridge = introduced.manifest.name,
            sdk = introduced.sdk,
            minor = introduced.minor,
            "a bridge has introduced itself"
        );
        Ok(Self { link, introduced: Arc::new(introduced), _closes: closes })
    }

    /// What the bridge says of itself. Believed only as far as the configuration agrees.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.introduced.manifest
    }

    /// The library that speaks for it.
    #[must_use]
    pub fn sdk(&self) -> &str {
        &self.introduced.sdk
    }

    /// The minor version of the protocol that both keep to.
    #[must_use]
    pub fn minor(&self) -> u32 {
        self.introduced.minor
    }

    /// The features that both know.
    #[must_use]
    pub fn features(&self) -> &[String] {
        &self.introduced.features
    }

    /// Has the bridge made from its configuration; may be done again, until [`RemoteBridge::run`].
    ///
    /// # Errors
    /// What the bridge finds wrong with it, or that the bridge failed.
    pub async fn build(&self, config: &Config) -> Result<Built, BuildError> {
        let lost = |why: String| BuildError::Lost(Fatal::new(why));
        let (built, answer) = oneshot::channel();
        self.link.expect_built(built);
        let event = Event::Build(v1::Build { config: config.value().to_string() });
        let built = async {
            if !self.link.send(event).await {
                return Err(lost(self.link.ended_because()));
            }
            tokio::select! {
                answer = answer => answer.map_err(|_| lost(self.link.ended_because())),
                () = self.link.over() => Err(lost(self.link.ended_because())),
            }
        };
        let late = |_| lost("the bridge did not check its configuration in time".to_owned());
        let built = timeout(self.link.limits.build, built).await.map_err(late)??;
        if !built.errors.is_empty() {
            return Err(BuildError::Config(ConfigErrors(built.errors.into_iter().map(Into::into).collect())));
        }
        let unreadable = |error: Error| lost(format!("the bridge said something unusable of itself: {error}"));
        let listeners = convert::each(built.listeners, TryInto::try_into).map_err(unreadable)?;
        Ok(Built { listeners, secrets: built.secrets })
    }

    /// The bridge's life, from now until it has ended, or was asked to by `host.stopped()` and did. Once only, after
    /// [`RemoteBridge::build`]. The connection is closed when this resolves or is dropped.
    ///
    /// Every call of the bridge goes to `host`, which checks the grants; `granted` is what the bridge is told of them, and what decides
    /// where it binds its sockets itself.
    ///
    /// # Errors
    /// Why the bridge failed.
    pub async fn run(&self, host: Arc<dyn Host>, granted: &[Grant]) -> Result<(), Fatal> {
        let _closes = CloseOnDrop(Arc::clone(&self.link));
        let run = v1::Run {
            granted: granted.iter().map(ToString::to_string).collect(),
            hostname: host.hostname().to_owned(),
            domain: host.domain().to_string(),
            budget: host.budget().total() as u64,
        };
        self.link.start(Arc::clone(&host), granted);
        if !self.link.send(Event::Run(run)).await {
            return Err(Fatal::new(self.link.ended_because()));
        }
        let stopped = async {
            host.stopped().await;
            // It fails where the bridge is gone, which is noticed below.
            self.link.send(Event::Stop(v1::Stop {})).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = stopped => {}
            () = self.link.over() => {}
        }
        match self.link.said_at_its_end() {
            Some(None) => Ok(()),
            Some(Some(why)) => Err(Fatal::new(why)),
            None => Err(Fatal::new(self.link.ended_because())),
        }
    }

    /// One attempt to deliver, as [`crate::Bridge::deliver`]; ended by the job's deadline whatever the bridge does. Dropping it tells the
    /// bridge to give the attempt up.
    pub async fn deliver(&self, job: Delivery) -> Vec<Outcome> {
        let count = job.recipients.len();
        let left = u64::try_from(job.deadline.0.saturating_sub(Timestamp::now().0)).unwrap_or(0);
        if left == 0 {
            // The bridge may be quick enough for a message that the host has given up by then.
            let why = "its time was over before it was handed to the bridge".to_owned();
            let scope = DeferScope::Recipient;
            return vec![Outcome::Deferred { why, retry_after: None, scope, maybe_sent: false }; count];
        }
        let deadline = Instant::now() + Duration::from_millis(left);
        let handed = AtomicBool::new(false);
        let why = match timeout_at(deadline, self.link.attempt(job, &handed)).await {
            Ok(Ok(outcomes)) => return outcomes,
            Ok(Err(why)) => why,
            Err(_) => {
                self.link.limits.faults.note("it did not answer in time whether it had delivered a message");
                "the bridge did not answer in time".to_owned()
            }
        };
        let maybe_sent = handed.load(Ordering::Relaxed);
        let scope = if maybe_sent { DeferScope::Recipient } else { DeferScope::Bridge };
        vec![Outcome::Deferred { why, retry_after: None, scope, maybe_sent }; count]
    }

    /// Has the bridge answer, as [`crate::Bridge::answer`], within 10 seconds.
    ///
    /// # Errors
    /// What the bridge answers; [`ErrorKind::Unavailable`] where it does not.
    pub async fn answer(&self, question: Question) -> Result<Answer, Error> {
        let unavailable = |why: String| Error::new(ErrorKind::Unavailable, why);
        let late = |_| unavailable("the bridge did not answer in time".to_owned());
        timeout(Duration::from_secs(10), self.link.ask(&question)).await.map_err(late)?
    }

    /// Closes the connection. What was under way on it fails.
    pub fn close(&self) {
        self.link.closing.close();
    }

    /// Resolves when the connection is closed.
    pub async fn closed(&self) {
        self.link.closing.closed().await;
    }
}

impl fmt::Debug for RemoteBridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteBridge({} {})", self.introduced.manifest.name, self.introduced.manifest.version)
    }
}

/// Closes a connection with its owner.
struct CloseOnDrop(Arc<Link>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.closing.close();
        self.0.forget_all();
    }
}

/// A stream as the server takes it.
#[cfg(test)]
pub(super) fn line_for_tests<S>(stream: S) -> Line<S> {
    Line::new(stream, Arc::new(line::Closing::new()))
}
