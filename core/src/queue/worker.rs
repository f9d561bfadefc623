//! The task that works through the queue: it alone decides what is attempted, and writes down what came of it.
//!
//! ```text
//!  store (due jobs, page by page) --+
//!  submissions, just committed -----+--> Window --> attempts (tasks) --> what came of them --> one write at a time --> release
//! ```
//!
//! While something can't be written down, nothing new is attempted: it could not be written down either, and would be sent again.

use super::attempt::{Attempt, Done, jitter};
use super::piece::{Piece, Unwritten, WriteDown};
use super::schedule::{Happened, Next, decide, must_tell};
use super::sealed::{DataKey, Job};
use super::window::{Batch, Destination, Offered, Signal, Window};
use super::{Ask, Deliverer};
use crate::core::Shared;
use crate::id::JobId;
use crate::store::{JobChange, JobLater, StoreError, StoredJob, Write};
use mesyx_sdk::{Address, DeferScope, Outcome, Timestamp};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle, JoinSet};

/// Jobs read from the store at once.
const PAGE: usize = 256;
/// The whole queue is looked through anew at least this often: whatever went wrong in memory is mended by then.
const RESCAN: Duration = Duration::from_secs(60);
/// The pause after a page with nothing to attempt now: 100,000 such jobs are looked through in some 8 s.
const FRUITLESS: Duration = Duration::from_millis(20);
/// The pause after the store could not write.
const TROUBLE: Duration = Duration::from_secs(5);
/// Notices about jobs that are not attempted, made side by side.
const SETTLING: usize = 20;
/// How long jobs wait for which there is no bridge.
const NO_BRIDGE: Duration = Duration::from_secs(300);

/// See the module's text.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    deliverer: Arc<dyn Deliverer>,
    asks: mpsc::UnboundedReceiver<Ask>,
    offers: mpsc::Receiver<Vec<Job>>,
    /// When to be through, once that is told.
    stop: watch::Receiver<Option<Instant>>,
    window: Window,
    attempts: JoinSet<Done>,
    /// What each task is about.
    about: HashMap<tokio::task::Id, About>,
    settling: usize,
    unwritten: Unwritten,
    writing: Option<Writing>,
    trouble: Option<Instant>,
    /// The last outcomes could not be written down, and have not been since.
    failed: bool,
    /// How far the store's due jobs were looked through.
    scanned: (i64, i64),
    /// When to look on.
    next_scan: Instant,
    next_rescan: Instant,
    /// Where to look for more jobs of a destination that had to leave some out.
    refill: Option<(i64, i64)>,
    /// The store has more due jobs than were looked through.
    more_due: bool,
}

/// What an attempt is about, kept for when it ends badly.
struct About {
    destination: Destination,
    jobs: Vec<Job>,
    /// It is no attempt, only a notice.
    settled: bool,
}

struct Writing {
    what: Unwritten,
    task: JoinHandle<WriteDown>,
}

impl Worker {
    pub(crate) fn new(
        shared: Arc<Shared>,
        deliverer: Arc<dyn Deliverer>,
        asks: mpsc::UnboundedReceiver<Ask>,
        offers: mpsc::Receiver<Vec<Job>>,
        stop: watch::Receiver<Option<Instant>>,
    ) -> Self {
        Self {
            shared,
            deliverer,
            asks,
            offers,
            stop,
            window: Window::default(),
            attempts: JoinSet::new(),
            about: HashMap::new(),
            settling: 0,
            unwritten: Unwritten::default(),
            writing: None,
            trouble: None,
            failed: false,
            scanned: START,
            next_scan: Instant::now(),
            next_rescan: Instant::now() + RESCAN,
            refill: None,
            more_due: true,
        }
    }

    /// Works until it is told to stop, and everything begun is written down or its time is over.
    pub(crate) async fn run(mut self) {
        loop {
            let deadline = *self.stop.borrow_and_update();
            let more = deadline.is_none() && self.fill().await;
            if deadline.is_none() {
                self.dispatch();
            }
            self.write();
            if let Some(deadline) = deadline {
                let idle = self.attempts.is_empty() && self.writing.is_none() && self.unwritten.is_empty();
                if idle {
                    return;
                }
                if Instant::now() >= deadline {
                    self.give_up().await;
                    return;
                }
            }
            let pause = if more { Duration::ZERO } else { self.pause(deadline) };
            tokio::select! {
                biased;
                written = written(&mut self.writing) => self.on_written(written),
                Some(joined) = self.attempts.join_next_with_id() => self.on_joined(joined),
                Some(ask) = self.asks.recv() => self.on_ask(ask),
                changed = self.stop.changed(), if deadline.is_none() => {
                    if changed.is_err() {
                        return;
                    }
                }
                Some(jobs) = self.offers.recv(), if deadline.is_none() => self.on_offer(&jobs),
                () = tokio::time::sleep(pause) => {}
            }
            // Before the store is read again, which takes longer.
            while let Some(joined) = self.attempts.try_join_next_with_id() {
                self.on_joined(joined);
            }
        }
    }

    /// Time is over: what runs is cut off, and tried again after the next start. What ended well is written down.
    async fn give_up(&mut self) {
        let running = self.attempts.len();
        if running > 0 {
            tracing::warn!(running, "attempts to send were cut off; they are made again after the next start");
        }
        self.attempts.shutdown().await;
        if self.writing.is_some() {
            let written = written(&mut self.writing).await;
            self.on_written(written);
        }
        let what = std::mem::take(&mut self.unwritten);
        if !what.is_empty()
            && let Some(error) = what.write(&self.shared).await.trouble
        {
            tracing::error!(%error, "what came of the last attempts could not be written down");
        }
    }

    fn pause(&self, deadline: Option<Instant>) -> Duration {
        let now = Instant::now();
        let ends = [Some(self.next_scan), Some(self.next_rescan), self.trouble, deadline, self.window.resumes(now)];
        let first = ends.into_iter().flatten().min().unwrap_or(now);
        first.saturating_duration_since(now).max(Duration::from_millis(5))
    }

    /// Reads due jobs where there is room for them. Whether there is more to read.
    async fn fill(&mut self) -> bool {
        let now = Instant::now();
        if self.trouble.is_some_and(|until| now < until) {
            return false;
        }
        self.trouble = None;
        if now >= self.next_rescan {
            self.rescan();
        }
        if let Some((due, row)) = self.window.wanting(now) {
            self.refill_from((due, row - 1));
        }
        if self.window.has_room()
            && let Some(from) = self.refill.take()
        {
            let read = self.read(from).await;
            // Behind a page of which nothing was taken and some were left out again, the window itself says when to look.
            if read.whole && (read.taken > 0 || !read.left_out) {
                self.refill_from(read.last.unwrap_or(from));
                // Where there is no room, an attempt that ends makes some.
                return !read.full && self.window.has_room();
            }
        }
        if now < self.next_scan || !self.window.has_room() {
            return false;
        }
        let read = self.read(self.scanned).await;
        self.scanned = read.last.unwrap_or(self.scanned);
        self.more_due = read.whole;
        if read.whole {
            if read.taken == 0 {
                // Jobs of destinations that have enough waiting: looked through, but not at the cost of what can be sent.
                self.next_scan = Instant::now() + FRUITLESS;
                return false;
            }
            return self.window.has_room();
        }
        let now = Timestamp::now().seconds();
        let next = self.shared.store.next_due(now).await.ok().flatten();
        let wait = next.map_or(RESCAN, |due| Duration::from_secs(due.saturating_sub(now).max(1).unsigned_abs()));
        self.next_scan = Instant::now() + wait.min(RESCAN);
        false
    }

    /// Jobs behind this place are to be looked at as soon as there is room.
    fn refill_from(&mut self, from: (i64, i64)) {
        self.refill = Some(self.refill.map_or(from, |before| before.min(from)));
    }

    fn rescan(&mut self) {
        self.more_due = true;
        self.scanned = START;
        self.next_scan = Instant::now();
        self.next_rescan = Instant::now() + RESCAN;
    }

    /// Reads one page and offers what is in it.
    async fn read(&mut self, from: (i64, i64)) -> Read {
        let page = match self.shared.store.due_jobs(Timestamp::now().seconds(), from, PAGE).await {
            Ok(page) => page,
            Err(error) => {
                tracing::warn!(%error, "the queue can't be read; it is tried again");
                self.trouble = Some(Instant::now() + TROUBLE);
                return Read::default();
            }
        };
        let mut read = Read { whole: page.len() == PAGE, ..Read::default() };
        for stored in page {
            let position = (stored.due, stored.row);
            if !self.window.knows(stored.job) {
                match self.offer_stored(stored, position) {
                    Some(Offered::Full) => {
                        (read.whole, read.full) = (true, true);
                        return read;
                    }
                    Some(Offered::Taken) => read.taken += 1,
                    Some(Offered::Later) => read.left_out = true,
                    _ => {}
                }
            }
            read.last = Some(position);
        }
        read
    }

    fn offer_stored(&mut self, stored: StoredJob, position: (i64, i64)) -> Option<Offered> {
        let (id, message) = (stored.job, stored.message);
        match Job::open(&self.shared.instance, stored) {
            Ok(job) => Some(self.offer(job, position)),
            Err(error) => {
                tracing::error!(job = %id, %message, %error, "a queued job waits for the operator now");
                self.window.lease(&[id]);
                let shared = Arc::clone(&self.shared);
                // Held, it is not read again, and the operator's commands find it free.
                tokio::spawn(async move {
                    let write = Write::ChangeJobs { jobs: vec![id], change: JobChange::Hold, due: 0 };
                    match shared.store.write(write).await {
                        Ok(_) => drop(shared.queue.ask(Ask::Release(vec![id]))),
                        Err(error) => tracing::error!(job = %id, %error, "a queued job can't be held"),
                    }
                });
                None
            }
        }
    }

    fn offer(&mut self, job: Job, position: (i64, i64)) -> Offered {
        let Some(destination) = self.destination(&job) else {
            let why = "no bridge of this server brings messages there now";
            // What is said on a network keeps its place; it is looked at again by the next rescan.
            let keeps = !matches!(job.to.address, Address::Mail(_) | Address::Mesyx(_));
            if keeps && !must_tell(&self.shared.settings().queue, &job, Timestamp::now()) {
                return Offered::Blocked(why.to_owned(), NO_BRIDGE);
            }
            self.postpone(job, why.to_owned(), NO_BRIDGE);
            return Offered::Blocked(why.to_owned(), NO_BRIDGE);
        };
        let offered = self.window.offer(&destination, &job, position, Instant::now());
        if let Offered::Blocked(why, left) = &offered {
            self.postpone(job, why.clone(), *left);
        }
        offered
    }

    fn destination(&self, job: &Job) -> Option<Destination> {
        let address = &job.to.address;
        let bridge = self.deliverer.route(address.kind())?;
        let host = match address {
            Address::Mail(address) => address.domain().to_string(),
            Address::Mesyx(address) => address.user.domain().to_string(),
            // What is said to one is said in order.
            other => Destination::in_order(job.user, other),
        };
        Some(Destination { bridge, host })
    }

    /// A job can't be attempted for a while. Its sender may have to be told so all the same.
    fn postpone(&mut self, job: Job, why: String, left: Duration) {
        let settings = self.shared.settings();
        let now = Timestamp::now();
        let until = Timestamp(now.0.saturating_add(i64::try_from(left.as_millis()).unwrap_or(i64::MAX)));
        let happened = Happened::Postponed { why, until };
        self.window.lease(&[job.id]);
        if must_tell(&settings.queue, &job, now) {
            if self.settling < SETTLING {
                self.settling += 1;
                self.spawn(Destination { bridge: String::new(), host: String::new() }, vec![job], Some(happened));
            } else {
                self.window.release(&[job.id]);
            }
            return;
        }
        let Next::Later { due, attempts, hold, .. } = decide(&settings.queue, &job, happened, now, jitter()).next
        else {
            return;
        };
        let later = JobLater { job: job.id, due, attempts, hold, progress: None };
        self.unwritten.push(Piece::later(vec![later]));
        self.due_at(due);
    }

    /// Something is due then.
    fn due_at(&mut self, due: i64) {
        let wait = Duration::from_secs(due.saturating_sub(Timestamp::now().seconds()).max(1).unsigned_abs());
        if let Some(at) = Instant::now().checked_add(wait) {
            self.next_scan = self.next_scan.min(at);
        }
    }

    fn dispatch(&mut self) {
        // What can't be written down would be sent again after a restart.
        if self.trouble.is_some() || self.failed {
            return;
        }
        let settings = self.shared.settings();
        while let Some(Batch { destination, jobs }) = self.window.next(&settings.queue, Instant::now()) {
            self.spawn(destination, jobs, None);
        }
    }

    fn spawn(&mut self, destination: Destination, jobs: Vec<Job>, settled: Option<Happened>) {
        let about = About { destination: destination.clone(), jobs: jobs.clone(), settled: settled.is_some() };
        let (shared, deliverer) = (Arc::clone(&self.shared), Arc::clone(&self.deliverer));
        let attempt = Attempt { shared, deliverer, destination, jobs, settled };
        let handle = self.attempts.spawn(attempt.run());
        self.about.insert(handle.id(), about);
    }

    fn on_joined(&mut self, joined: Result<(tokio::task::Id, Done), JoinError>) {
        let id = match &joined {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let Some(about) = self.about.remove(&id) else { return };
        let (Done { pieces, signal, due, .. }, settle) = match joined {
            Ok((_, done)) => (done, Vec::new()),
            Err(error) => {
                tracing::error!(%error, "an attempt to send broke off inside; it is made again later");
                self.broken(&about)
            }
        };
        if about.settled {
            self.settling = self.settling.saturating_sub(1);
        } else {
            let settings = self.shared.settings();
            let in_order = due.is_some() && about.destination.is_in_order();
            let signal = match signal.unwrap_or(Signal::Nothing) {
                // Whatever kept it from getting through, what comes after it waits.
                Signal::Good | Signal::Nothing if in_order => {
                    let why = "what was said before it has not got through yet".to_owned();
                    Signal::Down { scope: DeferScope::Host, why, retry_after: None }
                }
                signal => signal,
            };
            let why = if let Signal::Down { why, .. } = &signal { why.clone() } else { String::new() };
            let now = Instant::now();
            let out = self.window.finished(&settings.queue, &about.destination, signal, now, jitter());
            if let Some(first) = about.jobs.first().filter(|_| in_order) {
                self.window.hold(&about.destination, first);
            }
            for (destination, job) in out {
                let left = self.window.blocked(&destination, now).map_or(TROUBLE, |(_, left)| left);
                self.postpone(job, why.clone(), left);
            }
        }
        let mut nothing: HashSet<JobId> = about.jobs.iter().map(|job| job.id).collect();
        pieces.iter().flat_map(|piece| &piece.jobs).chain(settle.iter().map(|(job, _)| &job.id)).for_each(|job| {
            nothing.remove(job);
        });
        // Those that had changed meanwhile: nothing came of them.
        self.window.release(&nothing.into_iter().collect::<Vec<_>>());
        pieces.into_iter().for_each(|piece| self.unwritten.push(piece));
        if let Some(due) = due {
            self.due_at(due);
        }
        for (job, happened) in settle {
            // They stay leased. Beyond the usual number, since the attempt that they are of is over.
            self.settling += 1;
            self.spawn(about.destination.clone(), vec![job], Some(happened));
        }
    }

    /// What follows from an attempt that panicked: it counts as one that may have sent. Those jobs whose senders must be told something
    /// are settled, which opens the message; where that is what panics, they are the operator's to look into.
    fn broken(&self, about: &About) -> (Done, Vec<(Job, Happened)>) {
        const WHY: &str = "the attempt broke off inside this server, by a defect that its log tells of";
        let settings = self.shared.settings();
        let now = Timestamp::now();
        let mut done = Done::default();
        let mut settle = Vec::new();
        let mut piece = Piece::default();
        for job in &about.jobs {
            let outcome = Outcome::Deferred {
                why: WHY.to_owned(),
                retry_after: None,
                scope: DeferScope::Recipient,
                maybe_sent: !about.settled,
            };
            let happened = Happened::Attempt(outcome);
            let mut decision = decide(&settings.queue, job, happened.clone(), now, jitter());
            if decision.tell.is_some() || matches!(decision.next, Next::End(_)) {
                if !about.settled {
                    settle.push((job.clone(), happened));
                    continue;
                }
                decision = decide(&settings.queue, job, Happened::Held(WHY.to_owned()), now, jitter());
            }
            let Next::Later { due, attempts, hold, progress } = decision.next else { continue };
            let key = DataKey::unwrap(&self.shared.instance, job.message, &job.data_key);
            let progress = key.and_then(|key| key.seal_progress(job.id, &progress)).ok();
            piece.wait(JobLater { job: job.id, due, attempts, hold, progress });
            done.due = Some(done.due.map_or(due, |before| before.min(due)));
        }
        done.pieces.push(piece);
        (done, settle)
    }

    /// Begins to write down what there is, unless that is being done.
    fn write(&mut self) {
        let now = Instant::now();
        if self.writing.is_some() || self.unwritten.is_empty() || self.trouble.is_some_and(|until| now < until) {
            return;
        }
        let what = std::mem::take(&mut self.unwritten);
        let (shared, pieces) = (Arc::clone(&self.shared), what.clone());
        let task = tokio::spawn(async move { pieces.write(&shared).await });
        self.writing = Some(Writing { what, task });
    }

    fn on_written(&mut self, outcome: Result<WriteDown, JoinError>) {
        let Some(Writing { what, .. }) = self.writing.take() else { return };
        let broke = |error: JoinError| {
            let trouble = Some(StoreError::Backend(error.to_string()));
            WriteDown { left: what, trouble, ..WriteDown::default() }
        };
        let WriteDown { durable, keyless, mut left, trouble } = outcome.unwrap_or_else(broke);
        if keyless {
            self.shared.queue.keyless.store(true, Ordering::Release);
        }
        self.window.release(&durable);
        self.failed = trouble.is_some();
        if let Some(error) = trouble {
            tracing::error!(%error, "what came of attempts to send could not be written down; it is tried again");
            self.trouble = Some(Instant::now() + TROUBLE);
        }
        left.append(std::mem::take(&mut self.unwritten));
        self.unwritten = left;
    }

    fn on_offer(&mut self, jobs: &[Job]) {
        for job in jobs {
            // Its number in the store is not known here: whatever is due in the same second is looked at again.
            let position = (job.due, 0);
            let destination = self.destination(job).filter(Destination::is_in_order);
            if let Some(destination) = destination.filter(|_| self.more_due || self.refill.is_some()) {
                // The store may have some that come before it.
                match self.more_due {
                    true => self.scanned = self.scanned.min((job.due, -1)),
                    false => self.window.leave(&destination, (job.due, -1)),
                }
                continue;
            }
            if !self.window.has_room() || self.offer(job.clone(), position) == Offered::Full {
                self.refill_from((job.due, -1));
            }
        }
    }

    fn on_ask(&mut self, ask: Ask) {
        match ask {
            Ask::Lease(jobs, answer) => {
                let busy = self.window.lease(&jobs);
                if let Err(busy) = answer.send(busy) {
                    let taken: Vec<JobId> = jobs.into_iter().filter(|job| !busy.contains(job)).collect();
                    self.window.release(&taken);
                }
            }
            Ask::Release(jobs) => {
                self.window.release(&jobs);
                // What was changed is due now at the earliest; whatever else was kept out is found by the next rescan.
                self.scanned = self.scanned.min((Timestamp::now().seconds() - 2, i64::MAX));
                self.next_scan = Instant::now();
            }
            Ask::TryNow => {
                self.window.forget_pauses();
                self.rescan();
            }
            Ask::Look => self.rescan(),
            Ask::Running(answer) => drop(answer.send(self.window.running())),
        }
    }
}

#[cfg(test)]
#[path = "tests/worker.rs"]
mod tests;

/// Before every job.
const START: (i64, i64) = (i64::MIN, i64::MIN);

/// What reading a page came to.
#[derive(Default)]
struct Read {
    /// The place of the last job that was looked at.
    last: Option<(i64, i64)>,
    /// There may be more.
    whole: bool,
    taken: usize,
    /// Some were left out, since enough for the same destination wait.
    left_out: bool,
    /// It ended at one for which there is no room.
    full: bool,
}

/// The end of the write that is under way; never, where none is.
async fn written(writing: &mut Option<Writing>) -> Result<WriteDown, JoinError> {
    match writing {
        Some(writing) => (&mut writing.task).await,
        None => std::future::pending().await,
    }
}
