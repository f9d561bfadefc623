//! One attempt: from leased jobs of one message to what is to be written down about them.
//!
//! ```text
//!  content, still there? --> each recipient: ours by now? wrap --> transactions --> outcomes --> decisions, sealed notices
//! ```

use super::Deliverer;
use super::notice::{Kind, Report};
use super::piece::Piece;
use super::schedule::{Decision, Happened, Next, Tell, decide};
use super::sealed::{DataKey, Job, Unopened};
use super::window::{Destination, Signal};
use crate::core::Shared;
use crate::errors::broken;
use crate::id::{JobId, mailbox_id_for_role};
use crate::intake::SealJob;
use crate::keys::vault;
use crate::pgp::{Outgoing, Wrapped};
use crate::seal::SealFor;
use crate::store::{Hold, JobEnd, JobLater, Placing, Queued};
use futures_util::StreamExt;
use futures_util::stream;
use mesyx_sdk::{
    Address, Content, DeferScope, Delivery, Importance, MessageId, Origin, Outcome, Recipient, RecipientStatus,
    Reservation, Role, Sender, Timestamp, UserId,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// How long memory for a message is waited for; then the attempt is put off.
const MEMORY: Duration = Duration::from_secs(60);
/// Recipients whose certificates are looked for side by side.
const WRAPS: usize = 8;
/// Above this size, only one form of a message is made at a time.
const LARGE_BYTES: usize = 1 << 20;
/// Above this size, opening is done on a thread of its own.
const INLINE_BYTES: usize = 64 << 10;

/// An attempt to make.
pub(crate) struct Attempt {
    pub(crate) shared: Arc<Shared>,
    pub(crate) deliverer: Arc<dyn Deliverer>,
    pub(crate) destination: Destination,
    /// Jobs of one message.
    pub(crate) jobs: Vec<Job>,
    /// Instead of an attempt: what happened to all of them.
    pub(crate) settled: Option<Happened>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// To be written down: first what came of it, then a piece for each recipient who is local by now.
    pub(crate) pieces: Vec<Piece>,
    /// For the destination.
    pub(crate) signal: Option<Signal>,
    /// The earliest time at which one of the jobs is due again, in seconds since 1970.
    pub(crate) due: Option<i64>,
    /// Jobs that something was decided about.
    pub(crate) settled: usize,
}

impl Attempt {
    pub(crate) async fn run(mut self) -> Done {
        let Some(_memory) = self.reserve().await else { return self.put_off() };
        let ids: Vec<JobId> = self.jobs.iter().map(|job| job.id).collect();
        let Some(first) = self.jobs.first() else { return Done::default() };
        let (message, data_key) = (first.message, first.data_key.clone());
        let found = match self.shared.store.queued(message, &ids).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%message, %error, "a queued message can't be read; it will be tried again");
                return self.put_off();
            }
        };
        // Everything about them is done.
        let Some(Queued { content, jobs: stored }) = found else { return Done::default() };
        let same = |job: &Job| {
            stored
                .iter()
                .any(|stored| stored.job == job.id && stored.attempts == job.attempts && stored.hold != Hold::Operator)
        };
        let by_operator = matches!(self.settled, Some(Happened::Dropped | Happened::Held(_)));
        let there = |job: &Job| stored.iter().any(|stored| stored.job == job.id);
        self.jobs.retain(|job| if by_operator { there(job) } else { same(job) });
        if self.jobs.is_empty() {
            return Done::default();
        }
        let opened = match content {
            Some(sealed) => self.open(message, data_key, sealed).await.map_err(|error| error.to_string()),
            None => Err("its file is gone from the store".to_owned()),
        };
        let outgoing = match opened {
            Ok(outgoing) => outgoing,
            Err(why) => return self.without_content(&why).await,
        };
        let mut copies = HashMap::new();
        let happened = match self.settled.clone() {
            Some(happened) => self.jobs.iter().map(|_| happened.clone()).collect(),
            None => self.attempt(&outgoing, &mut copies).await,
        };
        self.conclude(&outgoing.original, happened, copies).await
    }

    /// The content can't be had, and no later attempt would get it: the operator's to look into, who can still drop it.
    async fn without_content(mut self, why: &str) -> Done {
        if let Some(first) = self.jobs.first() {
            tracing::error!(message = %first.message, why, "a queued message is held for the operator now");
        }
        let held = || Happened::Held(format!("the content of the message can't be read: {why}"));
        let happened = match &self.settled {
            Some(Happened::Dropped) => Happened::Dropped,
            _ => held(),
        };
        self.settled = Some(happened.clone());
        let happened = self.jobs.iter().map(|_| happened.clone()).collect();
        self.conclude(&Content::default(), happened, HashMap::new()).await
    }

    /// Takes room for the message, sealed, opened, and as it goes out.
    async fn reserve(&self) -> Option<Reservation> {
        let bytes = self.jobs.first().map_or(0, |job| usize::try_from(job.bytes).unwrap_or(usize::MAX));
        let wanted = bytes.saturating_mul(3).min(self.shared.budget.total() / 2);
        let end = tokio::time::Instant::now() + MEMORY;
        loop {
            if let Some(reservation) = self.shared.budget.reserve(wanted) {
                return Some(reservation);
            }
            if tokio::time::Instant::now() >= end {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn open(&self, message: MessageId, data_key: Vec<u8>, sealed: bytes::Bytes) -> Result<Outgoing, Unopened> {
        let shared = Arc::clone(&self.shared);
        let small = sealed.len() < INLINE_BYTES;
        let work = move || DataKey::unwrap(&shared.instance, message, &data_key)?.open_content(message, &sealed);
        if small {
            return work();
        }
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
            let _ = broken(&error);
            Err(Unopened)
        })
    }

    /// Nothing could be tried, by no fault of the destination's: soon again, with nothing counted.
    fn put_off(&self) -> Done {
        let due = Timestamp::now().seconds() + 60;
        let in_order = self.destination.is_in_order();
        let later = self.jobs.iter().map(|job| JobLater {
            job: job.id,
            due: if in_order { job.due } else { due },
            attempts: job.attempts,
            hold: job.hold,
            progress: None,
        });
        let pieces = vec![Piece::later(later.collect())];
        Done { pieces, due: Some(due), ..Done::default() }
    }

    /// What happens to each job, in their order. Who gets the message in a form of their own gets it as soon as that is
    /// made, so that few forms are in memory; the others get theirs together.
    async fn attempt(&self, outgoing: &Outgoing, copies: &mut Copies) -> Vec<Happened> {
        let mut happened: Vec<Option<Happened>> = vec![None; self.jobs.len()];
        let mut plain: Option<(Vec<usize>, Content)> = None;
        let mut down = None;
        let wraps = if outgoing.original.len() > LARGE_BYTES { 1 } else { WRAPS };
        let mut wraps = stream::iter((0..self.jobs.len()).map(|at| self.wrap(at, outgoing))).buffered(wraps);
        while let Some((at, way)) = wraps.next().await {
            let what = match way {
                Way::Out(Wrapped::Plain(content)) => {
                    plain.get_or_insert_with(|| (Vec::new(), content)).0.push(at);
                    continue;
                }
                Way::Out(Wrapped::Encrypted(content)) => {
                    self.transact(vec![at], content, &mut happened, &mut down).await;
                    continue;
                }
                Way::Out(Wrapped::Hold(why)) => Happened::NeedsKey(why),
                Way::Local(users) => self.keep(at, outgoing, users, copies).await,
                Way::Nowhere(why) => Happened::Attempt(Outcome::Failed { why }),
            };
            set(&mut happened, at, what);
        }
        if let Some((recipients, content)) = plain {
            self.transact(recipients, content, &mut happened, &mut down).await;
        }
        let silent = || Happened::Attempt(defer("the attempt came to nothing", DeferScope::Recipient));
        happened.into_iter().map(|happened| happened.unwrap_or_else(silent)).collect()
    }

    /// One transaction, unless one before found the host `down`.
    async fn transact(
        &self,
        recipients: Vec<usize>,
        content: Content,
        happened: &mut [Option<Happened>],
        down: &mut Option<String>,
    ) {
        if let Some(why) = down {
            let until = Timestamp::now();
            for at in recipients {
                set(happened, at, Happened::Postponed { why: why.clone(), until });
            }
            return;
        }
        let outcomes = self.deliver(&recipients, content).await;
        for (at, outcome) in recipients.into_iter().zip(outcomes) {
            if let Outcome::Deferred { scope: DeferScope::Host | DeferScope::Bridge, why, .. } = &outcome {
                *down = Some(why.clone());
            }
            set(happened, at, Happened::Attempt(outcome));
        }
    }

    /// How the message goes to one recipient.
    async fn wrap(&self, at: usize, outgoing: &Outgoing) -> (usize, Way) {
        let way = match self.jobs.get(at) {
            Some(job) => self.wrap_for(job, outgoing).await,
            None => Way::Nowhere("there is no such job".to_owned()),
        };
        (at, way)
    }

    async fn wrap_for(&self, job: &Job, outgoing: &Outgoing) -> Way {
        let Address::Mail(address) = &job.to.address else {
            return Way::Out(Wrapped::Plain(outgoing.original.clone()));
        };
        // It may be ours by now: then it never leaves.
        let (status, users) = self.shared.directory().addresses.resolve(&job.to.address, &Sender::User(job.user));
        match status {
            RecipientStatus::Local => Way::Local(users.iter().copied().collect()),
            RecipientStatus::Unknown => Way::Nowhere("5.1.1 there is nobody of that name here".to_owned()),
            RecipientStatus::Refused(why) => Way::Nowhere(format!("5.7.1 {why}")),
            RecipientStatus::Foreign | RecipientStatus::Remote => {
                Way::Out(self.shared.wrap(job.user, outgoing, address).await)
            }
        }
    }

    /// Makes the copies for users here.
    async fn keep(&self, at: usize, outgoing: &Outgoing, users: BTreeSet<UserId>, copies: &mut Copies) -> Happened {
        let Some(job) = self.jobs.get(at) else { return Happened::Local };
        let origin = Origin { authenticated: Some(job.user), ..internal() };
        match seal(&self.shared, &users, job.message, outgoing.original.clone(), origin).await {
            Ok(sealed) => {
                copies.insert(job.id, sealed);
                Happened::Local
            }
            Err(why) => Happened::Attempt(defer(&why, DeferScope::Recipient)),
        }
    }

    async fn deliver(&self, recipients: &[usize], content: Content) -> Vec<Outcome> {
        let settings = self.shared.settings();
        let attempt = settings.queue.attempt;
        let to: Vec<Recipient> =
            recipients.iter().filter_map(|at| self.jobs.get(*at)).map(|job| job.to.clone()).collect();
        let count = to.len();
        let Some(first) = self.jobs.first() else { return Vec::new() };
        let milliseconds = i64::try_from(attempt.as_millis()).unwrap_or(i64::MAX);
        let delivery = Delivery {
            id: first.message,
            from: first.from.clone(),
            recipients: to,
            dsn: first.dsn.clone(),
            deadline: Timestamp(Timestamp::now().0.saturating_add(milliseconds)),
            content,
        };
        let answer = self.deliverer.deliver(&self.destination.bridge, delivery);
        let outcomes = match tokio::time::timeout(attempt.saturating_add(settings.queue.grace), answer).await {
            Ok(outcomes) if outcomes.len() == count => outcomes,
            Ok(_) => Vec::new(),
            Err(_) => {
                let why = format!("the bridge {} gave no answer in time", self.destination.bridge);
                let scope = DeferScope::Host;
                vec![Outcome::Deferred { why, retry_after: None, scope, maybe_sent: true }; count]
            }
        };
        if outcomes.is_empty() {
            let why = format!("the bridge {} gave a wrong number of outcomes", self.destination.bridge);
            let scope = DeferScope::Recipient;
            return vec![Outcome::Deferred { why, retry_after: None, scope, maybe_sent: true }; count];
        }
        outcomes
    }

    /// From what happened to what is written down, with notices to the sender.
    async fn conclude(&self, original: &Content, happened: Vec<Happened>, mut copies: Copies) -> Done {
        let settings = self.shared.settings();
        let now = Timestamp::now();
        let mut done = Done::default();
        let mut main = Piece::default();
        if self.settled.is_none() {
            done.signal = Some(signal(&happened, self.destination.is_in_order()));
        }
        let first = self.jobs.first();
        let key = first.and_then(|job| DataKey::unwrap(&self.shared.instance, job.message, &job.data_key).ok());
        let mut told: Vec<(Job, Tell)> = Vec::new();
        for (job, happened) in self.jobs.iter().zip(happened) {
            count(&happened);
            let what = words(&happened);
            let Decision { next, tell } = decide(&settings.queue, job, happened, now, jitter());
            let mut seen = job.clone();
            match next {
                Next::End(end) => {
                    match copies.remove(&job.id).filter(|_| end == JobEnd::Delivered) {
                        Some(copies) => done.pieces.push(Piece::kept(job, copies)),
                        None => main.end(job.id, end),
                    }
                    seen.progress.last_attempt = Some(now.0);
                }
                Next::Later { due, attempts, hold, progress } => {
                    done.due = Some(done.due.map_or(due, |before| before.min(due)));
                    let sealed = key.as_ref().and_then(|key| key.seal_progress(job.id, &progress).ok());
                    main.wait(JobLater { job: job.id, due, attempts, hold, progress: sealed });
                    seen.progress = progress;
                }
            }
            done.settled += 1;
            let to = std::iter::once(&job.to.address);
            self.shared.trace.delivered(&self.shared.instance, job.message, job.from.as_ref(), to, what);
            told.extend(tell.map(|tell| (seen, tell)));
        }
        self.tell(&settings.hostname, original, told, now, &mut main).await;
        done.pieces.insert(0, main);
        done
    }

    /// Seals a notice of each kind to the sender.
    async fn tell(
        &self,
        hostname: &str,
        original: &Content,
        told: Vec<(Job, Tell)>,
        now: Timestamp,
        piece: &mut Piece,
    ) {
        let settings = self.shared.settings();
        let mut kinds: BTreeMap<Kind, Vec<(&Job, &Tell)>> = BTreeMap::new();
        for (job, tell) in &told {
            kinds.entry(tell.kind()).or_default().push((job, tell));
        }
        for recipients in kinds.values() {
            let Some((first, _)) = recipients.first() else { continue };
            let Some(sender) = &first.from else { continue };
            let domain = settings.domains.first().map(|first| &first.domain);
            let report = Report { settings: &settings.queue, hostname, domain, now, recipients, original };
            let content = report.message(sender);
            let notice = Notice::new(first.user, content);
            match notice.seal(&self.shared).await {
                Ok(copies) => {
                    let to = std::iter::once(sender);
                    self.shared.trace.delivered(&self.shared.instance, notice.id, None, to, "a notice to the sender");
                    piece.tell(notice, copies);
                }
                Err(error) => tracing::error!(message = %first.message, error, "a notice to a sender can't be sealed"),
            }
        }
    }
}

/// Copies for users here, by the job that they end.
type Copies = HashMap<JobId, Vec<Placing>>;

/// A notice to a sender, in clear: it is sealed anew where a keyset goes before it is stored.
#[derive(Debug, Clone)]
pub(crate) struct Notice {
    id: MessageId,
    user: UserId,
    content: Content,
}

impl Notice {
    /// A notice to a user.
    pub(crate) fn new(user: UserId, content: Content) -> Self {
        Self { id: MessageId::random(), user, content }
    }

    /// Seals it for its reader's inbox.
    pub(crate) async fn seal(&self, shared: &Arc<Shared>) -> Result<Vec<Placing>, String> {
        seal(shared, &BTreeSet::from([self.user]), self.id, self.content.clone(), internal()).await
    }
}

fn set(happened: &mut [Option<Happened>], at: usize, what: Happened) {
    if let Some(place) = happened.get_mut(at) {
        *place = Some(what);
    }
}

/// How a message goes to a recipient.
enum Way {
    /// Through the bridge.
    Out(Wrapped),
    /// To users here.
    Local(BTreeSet<UserId>),
    /// To nobody: why.
    Nowhere(String),
}

/// Seals a message of our own, or one of a user to others here, for their inboxes.
async fn seal(
    shared: &Arc<Shared>,
    users: &BTreeSet<UserId>,
    message: MessageId,
    content: Content,
    origin: Origin,
) -> Result<Vec<Placing>, String> {
    let importance = Importance::Normal;
    let targets = shared.seal_for(users, |user| SealFor { user, message, importance });
    let job = SealJob { shared: Arc::clone(shared), targets: targets.map_err(|error| error.to_string())? };
    let sealed = job.run(content, Timestamp::now(), Some(origin)).await.map_err(|error| error.to_string())?;
    let place = |message: crate::seal::SealedMessage| Placing {
        mailbox: mailbox_id_for_role(message.user, Role::Inbox),
        message,
        flags: Vec::new(),
    };
    Ok(sealed.into_iter().map(place).collect())
}

/// Where messages of the queue itself come from.
fn internal() -> Origin {
    Origin { bridge: "queue".to_owned(), network: "mesyx".to_owned(), ..Origin::default() }
}

/// A deferral in which nothing can have been sent.
pub(crate) fn defer(why: &str, scope: DeferScope) -> Outcome {
    Outcome::Deferred { why: why.to_owned(), retry_after: None, scope, maybe_sent: false }
}

/// What an attempt says of its destination.
fn signal(happened: &[Happened], in_order: bool) -> Signal {
    let mut signal = Signal::Nothing;
    for happened in happened {
        let Happened::Attempt(outcome) = happened else { continue };
        match outcome {
            Outcome::Deferred { scope, why, retry_after, .. }
                if matches!(scope, DeferScope::Host | DeferScope::Bridge) =>
            {
                return Signal::Down { scope: *scope, why: why.clone(), retry_after: *retry_after };
            }
            // Nothing overtakes it, so everything waits.
            Outcome::Deferred { why, retry_after, .. } if in_order => {
                return Signal::Down { scope: DeferScope::Host, why: why.clone(), retry_after: *retry_after };
            }
            Outcome::Deferred { maybe_sent: true, .. } => {}
            _ => signal = Signal::Good,
        }
    }
    signal
}

fn count(happened: &Happened) {
    let outcome = match happened {
        Happened::Attempt(Outcome::Delivered { .. }) => "delivered",
        Happened::Attempt(Outcome::Failed { .. }) => "failed",
        Happened::Attempt(Outcome::Deferred { .. }) => "deferred",
        Happened::Local => "local",
        Happened::NeedsKey(_) => "held",
        Happened::Postponed { .. } => "postponed",
        Happened::Dropped => "dropped",
        Happened::Held(_) => "held-by-operator",
    };
    metrics::counter!("mesyx_queue_attempts_total", "outcome" => outcome).increment(1);
}

fn words(happened: &Happened) -> &'static str {
    match happened {
        Happened::Attempt(Outcome::Delivered { .. }) => "sent: the next host took it",
        Happened::Attempt(Outcome::Failed { .. }) => "not sent: it failed for good",
        Happened::Attempt(Outcome::Deferred { .. }) => "not sent yet: it will be tried again",
        Happened::Local => "delivered",
        Happened::NeedsKey(_) => "held: it waits for a key",
        Happened::Postponed { .. } => "not sent yet: its host is left alone for a while",
        Happened::Dropped => "dropped by the operator",
        Happened::Held(_) => "held by the operator",
    }
}

/// Between 0 and 1.
pub(crate) fn jitter() -> f64 {
    f64::from(u32::from_be_bytes(vault::random())) / f64::from(u32::MAX)
}
