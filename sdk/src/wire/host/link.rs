//! What the services of one connection and the [`super::RemoteBridge`] share.

use super::line::Closing;
use super::lines::{Allowance, log_line, word};
use super::pace::Pace;
use super::{Admission, Introduced, Limits};
use crate::wire::convert;
use crate::wire::status::to_status;
use crate::wire::v1;
use crate::{
    Answer, ByteBudget, Content, Delivery, Error, ErrorKind, Grant, Host, Outcome, Question, Reservation, Session, Uid,
};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tonic::Status;
use v1::event::Event;

/// Events that wait for the bridge to take them: some have a body of 64 KiB with them.
const EVENTS: usize = 32;

/// Most lines for the log in one call, and the longest, in bytes; the longest name of a part of the bridge.
const LINES: usize = 256;
const LONGEST_LINE: usize = 4096;
const LONGEST_PART: usize = 100;

pub(super) type Events = mpsc::Receiver<Result<v1::Event, Status>>;
type Introduction = Result<Introduced, String>;

/// A delivery under way.
struct Job {
    content: Content,
    recipients: usize,
    done: oneshot::Sender<Result<Vec<Outcome>, String>>,
}

/// How far a bridge's life has come.
#[derive(Default)]
struct Progress {
    /// There while it is to run.
    host: Option<Arc<dyn Host>>,
    granted: Vec<Grant>,
    built: Option<oneshot::Sender<v1::BuiltRequest>>,
    sessions: HashMap<u64, Arc<dyn Session>>,
    jobs: HashMap<u64, Job>,
    questions: HashMap<u64, oneshot::Sender<Result<Answer, Error>>>,
    /// What it said when it ended: `Some(None)` is that it was told to stop.
    ended: Option<Option<String>>,
    over: bool,
}

/// One connection to a bridge.
pub(super) struct Link {
    pub(super) limits: Limits,
    pub(super) admission: Admission,
    pub(super) closing: Arc<Closing>,
    #[cfg(unix)]
    pub(super) outbox: Option<Arc<crate::wire::descriptors::Outbox>>,
    /// Whether the bridge has introduced itself and was let in.
    pub(super) admitted: AtomicBool,
    /// Whether listening sockets can be passed.
    pub(super) descriptors: AtomicBool,
    /// Bytes of requests that are being read or worked at.
    pub(super) requests: ByteBudget,
    /// This bridge's share of the common budget.
    pub(super) share: ByteBudget,
    /// How fast it calls, and brings messages.
    pub(super) calls: Pace,
    pub(super) messages: Pace,
    pub(super) uploads: Arc<Semaphore>,
    pub(super) downloads: Arc<Semaphore>,
    deliveries: Semaphore,
    asked: Semaphore,
    events: mpsc::Sender<Result<v1::Event, Status>>,
    hello: Mutex<Option<oneshot::Sender<Introduction>>>,
    progress: Mutex<Progress>,
    numbers: AtomicU64,
    ended: watch::Sender<bool>,
    /// How much of what it says is logged.
    allowance: Mutex<Allowance>,
}

/// The ends of a link that are used once.
pub(super) struct Watched {
    pub(super) hello: oneshot::Receiver<Introduction>,
    pub(super) events: Events,
}

impl Link {
    pub(super) fn new(admission: Admission, limits: Limits) -> (Self, Watched) {
        let (events, taken) = mpsc::channel(EVENTS);
        let (hello, introduced) = oneshot::channel();
        let link = Self {
            admission,
            closing: Arc::new(Closing::new()),
            #[cfg(unix)]
            outbox: None,
            admitted: AtomicBool::new(false),
            descriptors: AtomicBool::new(false),
            requests: ByteBudget::new(limits.requests),
            share: ByteBudget::new(limits.upload_share),
            calls: Pace::new(limits.calls),
            messages: Pace::new(limits.messages),
            uploads: Arc::new(Semaphore::new(limits.uploads)),
            downloads: Arc::new(Semaphore::new(limits.downloads)),
            deliveries: Semaphore::new(limits.deliveries),
            asked: Semaphore::new(limits.questions),
            events,
            hello: Mutex::new(Some(hello)),
            progress: Mutex::default(),
            numbers: AtomicU64::new(1),
            ended: watch::Sender::new(false),
            allowance: Mutex::default(),
            limits,
        };
        (link, Watched { hello: introduced, events: taken })
    }

    /// Tells how the introduction went; `false` where there was one already.
    pub(super) fn introduced(&self, introduction: Introduction) -> bool {
        let hello = self.hello.lock().unwrap_or_else(PoisonError::into_inner).take();
        let let_in = introduction.is_ok();
        let first = hello.is_some_and(|hello| hello.send(introduction).is_ok());
        self.admitted.store(first && let_in, Ordering::Release);
        first
    }

    /// Sends an event; `false` where the connection is gone.
    pub(super) async fn send(&self, event: Event) -> bool {
        tokio::select! {
            sent = self.events.send(Ok(v1::Event { event: Some(event) })) => sent.is_ok(),
            () = self.over() => false,
        }
    }

    pub(super) fn expect_built(&self, built: oneshot::Sender<v1::BuiltRequest>) {
        self.progress().built = Some(built);
    }

    pub(super) fn built(&self, request: v1::BuiltRequest) -> Result<(), Error> {
        let built = self.progress().built.take();
        let unasked = || Error::new(ErrorKind::Invalid, "nobody asked the bridge to be built");
        built.ok_or_else(unasked)?.send(request).map_err(|_| unasked())
    }

    /// From now on calls go to this host.
    pub(super) fn start(&self, host: Arc<dyn Host>, granted: &[Grant]) {
        let mut progress = self.progress();
        if !progress.over {
            progress.host = Some(host);
            progress.granted = granted.to_vec();
        }
    }

    /// The host, while the bridge is to run.
    pub(super) fn host(&self) -> Result<Arc<dyn Host>, Status> {
        let absent = || to_status(&Error::new(ErrorKind::Unavailable, "the bridge is not to run now"));
        self.progress().host.clone().ok_or_else(absent)
    }

    /// Whether something was granted, where the host itself is not asked.
    pub(super) fn granted(&self, wanted: &Grant) -> bool {
        self.progress().granted.iter().any(|given| given.covers(wanted))
    }

    /// Notes a session; its number.
    pub(super) fn open(&self, session: Arc<dyn Session>) -> Result<u64, Error> {
        let mut progress = self.progress();
        if progress.sessions.len() >= self.limits.sessions {
            let what = format!("the bridge has {} sessions open, and may have no more", self.limits.sessions);
            return Err(Error::new(ErrorKind::TooMany, what));
        }
        if progress.over {
            return Err(Error::new(ErrorKind::Unavailable, "the bridge has ended"));
        }
        let number = self.number();
        progress.sessions.insert(number, session);
        Ok(number)
    }

    pub(super) fn session(&self, number: u64) -> Result<Arc<dyn Session>, Status> {
        let absent = || to_status(&Error::new(ErrorKind::NotFound, "there is no such session; it was closed"));
        self.progress().sessions.get(&number).cloned().ok_or_else(absent)
    }

    pub(super) fn close_session(&self, number: u64) {
        let closed = self.progress().sessions.remove(&number);
        // Dropped without the lock: it may take its time.
        drop(closed);
    }

    /// A list of UIDs, reserved among the requests.
    pub(super) fn uids(&self, list: Option<v1::Uids>) -> Result<(Vec<Uid>, Reservation), Status> {
        let list = list.unwrap_or_default();
        let count = list.count().map_err(|error| to_status(&error))?;
        if count > crate::wire::MAX_UIDS {
            let what = format!("a list has more than {} UIDs; ask for fewer at once", crate::wire::MAX_UIDS);
            return Err(to_status(&Error::new(ErrorKind::TooLarge, what)));
        }
        let held = self.requests.reserve(count * size_of::<Uid>()).ok_or_else(too_much)?;
        Ok((list.try_into().map_err(|error| to_status(&error))?, held))
    }

    /// One attempt to deliver. `handed` becomes true when the bridge may have begun.
    pub(super) async fn attempt(&self, job: Delivery, handed: &AtomicBool) -> Result<Vec<Outcome>, String> {
        // It can't fail: the semaphore is never closed.
        let _turn = self.deliveries.acquire().await;
        let number = self.number();
        let (done, outcomes) = oneshot::channel();
        let deliver: v1::Deliver = (number, &job).into();
        {
            let mut progress = self.progress();
            if progress.over || progress.host.is_none() {
                return Err("the bridge is not running".to_owned());
            }
            progress.jobs.insert(number, Job { content: job.content, recipients: job.recipients.len(), done });
        }
        let attempt = Attempt { link: self, number, handed };
        let sent = self.events.send(Ok(v1::Event { event: Some(Event::Deliver(deliver)) }));
        tokio::select! {
            sent = sent => if sent.is_err() {
                return Err(self.ended_because());
            },
            () = self.over() => return Err(self.ended_because()),
        }
        handed.store(true, Ordering::Relaxed);
        let ended = outcomes.await;
        drop(attempt);
        ended.unwrap_or_else(|_| Err(self.ended_because()))
    }

    /// The body of a delivery under way.
    pub(super) fn body(&self, job: u64) -> Option<Content> {
        self.progress().jobs.get(&job).map(|job| job.content.clone())
    }

    /// Takes the outcomes of a delivery.
    pub(super) fn outcomes(&self, job: u64, outcomes: Vec<v1::Outcome>) -> Result<(), Error> {
        let unknown = || Error::new(ErrorKind::NotFound, "nobody waits for that delivery");
        let job = self.progress().jobs.remove(&job).ok_or_else(unknown)?;
        let given = outcomes.len();
        let right = given == job.recipients;
        let wrong = format!("the bridge gave {given} outcomes for {} recipients", job.recipients);
        let told = if right { Ok(outcomes.into_iter().map(Into::into).collect()) } else { Err(wrong.clone()) };
        if !right {
            self.limits
                .faults
                .note(format!("it gave {given} outcomes for a delivery to {} recipients", job.recipients));
        }
        job.done.send(told).map_err(|_| unknown())?;
        if right { Ok(()) } else { Err(Error::new(ErrorKind::Invalid, wrong)) }
    }

    pub(super) async fn ask(&self, question: &Question) -> Result<Answer, Error> {
        let gone = || Error::new(ErrorKind::Unavailable, self.ended_because());
        // It can't fail: the semaphore is never closed.
        let _turn = self.asked.acquire().await;
        let id = self.number();
        let (done, answer) = oneshot::channel();
        {
            let mut progress = self.progress();
            if progress.over || progress.host.is_none() {
                return Err(Error::new(ErrorKind::Unavailable, "the bridge is not running"));
            }
            progress.questions.insert(id, done);
        }
        let _forgets = Asked { link: self, id };
        let ask = v1::Ask { id, question: Some(question.into()) };
        if !self.send(Event::Ask(ask)).await {
            return Err(gone());
        }
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    pub(super) fn answered(&self, id: u64, answer: Result<Answer, Error>) -> Result<(), Error> {
        let unknown = || Error::new(ErrorKind::NotFound, "nobody waits for that answer");
        let question = self.progress().questions.remove(&id).ok_or_else(unknown)?;
        question.send(answer).map_err(|_| unknown())
    }

    /// The bridge says that it has ended.
    pub(super) fn say_ended(&self, fatal: Option<String>) {
        self.progress().ended.get_or_insert(fatal);
        self.ended.send_replace(true);
    }

    /// What it said at its end, if it did.
    pub(super) fn said_at_its_end(&self) -> Option<Option<String>> {
        self.progress().ended.clone()
    }

    /// Why there is no bridge any more.
    pub(super) fn ended_because(&self) -> String {
        match self.said_at_its_end() {
            Some(Some(why)) => why,
            Some(None) => "the bridge has ended".to_owned(),
            None => "the bridge closed the connection without a word; it crashed, or was ended".to_owned(),
        }
    }

    /// Resolves when the bridge said that it has ended, or the connection is gone.
    pub(super) async fn over(&self) {
        let mut ended = self.ended.subscribe();
        tokio::select! {
            // It can't fail: the sending side lives as long as this.
            _ = ended.wait_for(|ended| *ended) => {}
            () = self.closing.closed() => {}
        }
    }

    /// Logs what the bridge says, as much of it as is bearable.
    pub(super) fn log(&self, lines: &[v1::LogLine]) {
        let name = self.admission.name.as_deref().unwrap_or_default();
        let mut allowance = self.allowance.lock().unwrap_or_else(PoisonError::into_inner);
        for line in lines.iter().take(LINES) {
            if allowance.one_more(name) {
                let text = &line.text[..line.text.floor_char_boundary(LONGEST_LINE)];
                let part = &line.target[..line.target.floor_char_boundary(LONGEST_PART)];
                log_line(name, word(line.level), &format!("{part}: {text}"));
            }
        }
    }

    /// Lets go of everything that hung on the connection.
    pub(super) fn forget_all(&self) {
        let mut progress = self.progress();
        progress.over = true;
        let old = std::mem::take(&mut *progress);
        progress.over = true;
        progress.ended.clone_from(&old.ended);
        drop(progress);
        // Dropped without the lock: sessions may take their time.
        drop(old);
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The requests of this bridge are more than it may have at once.
pub(super) fn too_much() -> Status {
    to_status(&Error::new(ErrorKind::Full, "the bridge has too many requests under way; try again later"))
}

/// An attempt that somebody waits for.
struct Attempt<'a> {
    link: &'a Link,
    number: u64,
    handed: &'a AtomicBool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let given_up = self.link.progress().jobs.remove(&self.number).is_some();
        if given_up && self.handed.load(Ordering::Relaxed) {
            let event = Event::Cancel(v1::Cancel { job: self.number });
            // Where too many events wait, the bridge ends the attempt at its deadline.
            let _ = self.link.events.try_send(Ok(v1::Event { event: Some(event) }));
        }
    }
}

/// A question that somebody waits for.
struct Asked<'a> {
    link: &'a Link,
    id: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.link.progress().questions.remove(&self.id);
    }
}

/// The error of a request that can't be read.
pub(super) fn refuse(error: Error) -> Status {
    to_status(&error)
}

/// The member that must be there.
pub(super) fn need<T>(member: Option<T>, what: &str) -> Result<T, Status> {
    convert::need(member, what).map_err(refuse)
}
