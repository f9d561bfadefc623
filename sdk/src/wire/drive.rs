//! Drives a [`Bridge`] through one life, as the host says.

use super::client::{Connection, RemoteHost};
use super::logs::Lines;
use super::status::from_status;
use super::{CALL, MINOR, STOP, convert, v1};
use crate::{
    Bridge, Config, Content, DeferScope, Delivery, Error, ErrorKind, Fatal, Outcome, Question, Secret, Timestamp,
};
use bytes::BytesMut;
use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinError, JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};
use tonic::transport::Channel;
use tonic::{Request, Streaming};
use v1::event::Event;
use v1::life_client::LifeClient;

/// Most deliveries that are under way at once, whatever the host says.
const DELIVERIES: usize = 1024;
/// Longest time that a question may take; the host gives up sooner.
const ANSWER: Duration = Duration::from_secs(10);

/// One life of a bridge over a stream: introduces it, makes it from the configuration that the host sends, runs it, hands it what is
/// to be delivered, and stops it when the host says so. Resolves when that life is over.
///
/// # Errors
/// What made the bridge fail, or the connection. The host was told already, if it could be.
pub async fn serve_bridge<B, S>(stream: S, token: Option<Secret>) -> Result<(), Fatal>
where
    B: Bridge,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    one_life::<B, S>(stream, token, &mut false).await
}

/// The same; `ran` becomes true when the host has let the bridge run.
pub(super) async fn one_life<B, S>(stream: S, token: Option<Secret>, ran: &mut bool) -> Result<(), Fatal>
where
    B: Bridge,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = Connection::over(stream).await.map_err(|error| Fatal::new(error.to_string()))?;
    live::<B>(connection, token, ran).await
}

/// The same over a unix socket, on which the host can pass listening sockets.
///
/// # Errors
/// As [`serve_bridge`].
#[cfg(unix)]
pub async fn serve_bridge_unix<B: Bridge>(
    stream: std::os::unix::net::UnixStream,
    token: Option<Secret>,
) -> Result<(), Fatal> {
    let unusable = |error: std::io::Error| Fatal::new(format!("the socket to the host can't be used: {error}"));
    stream.set_nonblocking(true).map_err(unusable)?;
    let stream = tokio::net::UnixStream::from_std(stream).map_err(unusable)?;
    let connection = Connection::over_unix(stream).await.map_err(|error| Fatal::new(error.to_string()))?;
    live::<B>(connection, token, &mut false).await
}

async fn live<B: Bridge>(connection: Connection, token: Option<Secret>, ran: &mut bool) -> Result<(), Fatal> {
    let hello = v1::Hello {
        minor: MINOR,
        features: connection.features(),
        sdk: concat!("mesyx-sdk ", env!("CARGO_PKG_VERSION")).to_owned(),
        token: token.map(|token| token.expose().to_vec()).unwrap_or_default(),
        manifest: B::manifest().to_json(),
    };
    let refused = |error: Error| Fatal::new(format!("the host did not take the bridge: {error}"));
    let silent = |_| Fatal::new("the host did not answer; is it a Mesyx host?");
    let mut life = connection.life();
    let live = timeout(CALL, life.live(Request::new(hello))).await.map_err(silent)?;
    let mut events = live.map_err(|status| refused(from_status(&status)))?.into_inner();
    let welcome = match timeout(CALL, events.message()).await {
        Ok(Ok(Some(v1::Event { event: Some(Event::Welcome(welcome)) }))) => welcome,
        Ok(Err(status)) => return Err(refused(from_status(&status))),
        _ => return Err(Fatal::new("the host did not welcome the bridge; is it a Mesyx host?")),
    };
    let (stop, stopping) = watch::channel(false);
    let lines = Lines::begin(&connection, welcome.log_level);
    let mut life = Life::<B> {
        lines,
        life,
        connection,
        welcome,
        stop,
        stopping,
        bridge: None,
        host: None,
        run: None,
        jobs: HashMap::new(),
        tasks: JoinSet::new(),
    };
    let result = life.follow(&mut events).await;
    *ran = life.host.is_some();
    life.end(result).await
}

/// A bridge in the course of its life.
struct Life<B> {
    lines: Lines,
    connection: Connection,
    life: LifeClient<Channel>,
    welcome: v1::Welcome,
    stop: watch::Sender<bool>,
    stopping: watch::Receiver<bool>,
    bridge: Option<Arc<B>>,
    host: Option<RemoteHost>,
    run: Option<JoinHandle<Result<(), Fatal>>>,
    /// The deliveries under way.
    jobs: HashMap<u64, AbortHandle>,
    /// Deliveries (with their number) and answers.
    tasks: JoinSet<Option<u64>>,
}

impl<B: Bridge> Life<B> {
    /// Does what the host says until the bridge has ended: by itself, because it was told to, or because the host is gone.
    async fn follow(&mut self, events: &mut Streaming<v1::Event>) -> Result<(), Fatal> {
        let mut stop_by = None;
        loop {
            let running = self.run.is_some();
            let run = async {
                match self.run.as_mut() {
                    Some(run) => run.await,
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                ended = run => {
                    self.run = None;
                    return told(ended);
                }
                Some(done) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    if let Ok(Some(job)) = done {
                        self.jobs.remove(&job);
                    }
                    continue;
                }
                event = events.message() => event,
                () = at(stop_by) => return Err(Fatal::new("the bridge did not stop in time and was cut off")),
            };
            match event {
                Ok(Some(v1::Event { event })) => match event {
                    Some(Event::Build(build)) => self.build(&build).await?,
                    Some(Event::Run(run)) if !running => self.start(run).await?,
                    Some(Event::Deliver(deliver)) => self.deliver(deliver),
                    Some(Event::Cancel(cancel)) => {
                        if let Some(job) = self.jobs.remove(&cancel.job) {
                            job.abort();
                        }
                    }
                    Some(Event::Ask(ask)) => self.answer(ask),
                    Some(Event::Stop(_)) => {
                        self.stop.send_replace(true);
                        if !running {
                            return Ok(());
                        }
                        stop_by.get_or_insert(Instant::now() + STOP);
                    }
                    // What a newer host says, and what must not be said twice.
                    Some(Event::Welcome(_) | Event::Run(_)) | None => {}
                },
                Ok(None) => return self.lost("the host closed the connection").await,
                Err(status) => return self.lost(&from_status(&status).to_string()).await,
            }
        }
    }

    /// The host is gone: the bridge gets its time to stop.
    async fn lost(&mut self, why: &str) -> Result<(), Fatal> {
        self.stop.send_replace(true);
        if let Some(mut run) = self.run.take()
            && timeout(STOP, &mut run).await.is_err()
        {
            run.abort();
        }
        Err(Fatal::new(format!("the host is gone: {why}")))
    }

    async fn build(&mut self, build: &v1::Build) -> Result<(), Fatal> {
        let config = serde_json::from_str(&build.config)
            .map_err(|error| Fatal::new(format!("the configuration from the host is no JSON: {error}")))?;
        let built = catch_unwind(AssertUnwindSafe(|| {
            let bridge = B::build(Config::new(config))?;
            Ok((bridge.listeners(), bridge.secrets(), bridge))
        }));
        let mut request = v1::BuiltRequest::default();
        match built {
            Ok(Ok((listeners, secrets, bridge))) => {
                request.listeners = listeners.iter().map(Into::into).collect();
                request.secrets = secrets;
                self.bridge = Some(Arc::new(bridge));
            }
            Ok(Err(crate::ConfigErrors(errors))) => request.errors = errors.iter().map(Into::into).collect(),
            Err(panic) => {
                let why = format!("the bridge panicked while it was built: {}", panic_text(&*panic));
                return Err(Fatal::new(why));
            }
        }
        self.life.built(timed(request)).await.map(drop).map_err(|status| Fatal::new(from_status(&status).to_string()))
    }

    async fn start(&mut self, run: v1::Run) -> Result<(), Fatal> {
        let Some(bridge) = self.bridge.clone() else {
            return Err(Fatal::new("the host wants the bridge to run before it was built"));
        };
        let host = RemoteHost::new(self.connection.clone(), &self.welcome, run, self.stopping.clone()).await;
        let host = host.map_err(|error| Fatal::new(error.to_string()))?;
        self.host = Some(host.clone());
        self.run = Some(tokio::spawn(async move { bridge.run(Arc::new(host)).await }));
        Ok(())
    }

    /// Begins a delivery, in a task of its own.
    fn deliver(&mut self, deliver: v1::Deliver) {
        let (number, count) = (deliver.job, deliver.recipients.len());
        let mut life = self.life.clone();
        let served = self.bridge.clone().zip(self.host.clone()).filter(|_| self.jobs.len() < DELIVERIES);
        let task = self.tasks.spawn(async move {
            let outcomes = match served {
                Some((bridge, host)) => attempt(&mut life, bridge, host, deliver).await,
                None => vec![deferred("the bridge is not ready to deliver", false); count],
            };
            let outcomes = outcomes.iter().map(Into::into).collect();
            if let Err(status) = life.outcomes(timed(v1::OutcomesRequest { job: number, outcomes })).await {
                tracing::debug!(error = %from_status(&status), "the host did not take the outcomes of a delivery");
            }
            Some(number)
        });
        self.jobs.insert(number, task);
    }

    /// Begins to answer a question, in a task of its own.
    fn answer(&mut self, ask: v1::Ask) {
        let mut life = self.life.clone();
        let served = self.bridge.clone().zip(self.host.clone());
        self.tasks.spawn(async move {
            use v1::answered_request::Result as Wire;
            let answer = async {
                let (bridge, host) =
                    served.ok_or_else(|| Error::new(ErrorKind::Unavailable, "the bridge is not running"))?;
                let question = Question::try_from(convert::need(ask.question, "question")?)?;
                // A task of its own, so that a panic ends there.
                let mut task = AbortOnDrop(tokio::spawn(async move { bridge.answer(Arc::new(host), question).await }));
                let late = |_| Error::new(ErrorKind::Unavailable, "the bridge did not answer in time");
                let failed = |_: JoinError| Error::new(ErrorKind::Unavailable, "the bridge failed inside its answer");
                timeout(ANSWER, &mut task.0).await.map_err(late)?.map_err(failed)?
            };
            let result = match answer.await {
                Ok(answer) => Wire::Answer(answer.into()),
                Err(error) => Wire::Error((&error).into()),
            };
            // It fails where nobody waits any more.
            let _ = life.answered(timed(v1::AnsweredRequest { id: ask.id, result: Some(result) })).await;
            None
        });
    }

    /// Tells the host how it ended, and leaves nothing running.
    async fn end(mut self, result: Result<(), Fatal>) -> Result<(), Fatal> {
        if let Some(run) = self.run.take() {
            run.abort();
        }
        // Outcomes of what was being delivered are worth a moment.
        let finish = async { while self.tasks.join_next().await.is_some() {} };
        let _ = timeout(STOP / 10, finish).await;
        self.tasks.abort_all();
        if let Some(host) = &self.host {
            let _ = timeout(STOP / 10, host.flush()).await;
        }
        self.lines.end().await;
        let fatal = result.as_ref().err().map(ToString::to_string);
        // It fails where the host is gone.
        let _ = timeout(STOP / 10, self.life.ended(timed(v1::EndedRequest { fatal }))).await;
        result
    }
}

/// One attempt: fetches the body, has the bridge deliver it before its deadline, and makes sure of the number of outcomes.
async fn attempt<B: Bridge>(
    life: &mut LifeClient<Channel>,
    bridge: Arc<B>,
    host: RemoteHost,
    deliver: v1::Deliver,
) -> Vec<Outcome> {
    let count = deliver.recipients.len();
    let left = deliver.deadline.saturating_sub(Timestamp::now().0);
    let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
    let late = || vec![deferred("the message did not reach the bridge in time", false); count];
    if left.is_zero() {
        return late();
    }
    let job = match timeout(left, fetch(life, deliver)).await {
        Ok(Ok(job)) => job,
        Ok(Err(error)) => {
            return vec![deferred(&format!("the message did not reach the bridge: {error}"), false); count];
        }
        Err(_) => return late(),
    };
    // A task of its own, so that a panic ends there.
    let mut task = AbortOnDrop(tokio::spawn(async move { bridge.deliver(Arc::new(host), job).await }));
    match timeout(left, &mut task.0).await {
        Ok(Ok(outcomes)) if outcomes.len() == count => outcomes,
        Ok(Ok(_)) => vec![deferred("the bridge gave a wrong number of outcomes", true); count],
        Ok(Err(_)) => vec![deferred("the bridge failed inside its delivery", true); count],
        Err(_) => vec![deferred("the bridge did not deliver in time", true); count],
    }
}

/// The delivery with its whole body.
async fn fetch(life: &mut LifeClient<Channel>, mut deliver: v1::Deliver) -> Result<Delivery, Error> {
    let size = usize::try_from(deliver.size).unwrap_or(usize::MAX);
    let inline = std::mem::take(&mut deliver.body);
    if inline.len() == size {
        return convert::delivery(deliver, Content::from(inline));
    }
    let request = Request::new(v1::BodyRequest { job: deliver.job });
    let mut chunks = life.body(request).await.map_err(|status| from_status(&status))?.into_inner();
    let mut body = BytesMut::new();
    while let Some(chunk) = chunks.message().await.map_err(|status| from_status(&status))? {
        if body.len() + chunk.data.len() > size {
            return Err(convert::invalid("the body is longer than was said"));
        }
        body.extend_from_slice(&chunk.data);
    }
    if body.len() < size {
        return Err(convert::invalid("the body is shorter than was said"));
    }
    convert::delivery(deliver, Content::from(body.freeze()))
}

/// Resolves at a time, if there is one.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn deferred(why: &str, maybe_sent: bool) -> Outcome {
    Outcome::Deferred { why: why.to_owned(), retry_after: None, scope: DeferScope::Recipient, maybe_sent }
}

/// How `run` ended.
fn told(ended: Result<Result<(), Fatal>, JoinError>) -> Result<(), Fatal> {
    match ended {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => Err(Fatal::new(format!("the bridge panicked: {}", panic_text(&*panic)))),
            Err(_) => Err(Fatal::new("the bridge was cut off")),
        },
    }
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("it did not say why")
}

pub(super) fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL);
    request
}

/// Ends a task with its owner.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
