//! What the operator sees of the queue, and does with it; with a worker that runs or without.

use super::Ask;
use super::attempt::Attempt;
use super::schedule::{BY_OPERATOR, Happened};
use super::sealed::{Job, Unopened};
use super::window::Destination;
use super::{Deliverer, Handle};
use crate::core::{Core, Shared};
use crate::errors::stored;
use crate::id::JobId;
use crate::store::{Hold, JobChange, JobEnd, QueueProgress, StoredJob, Write};
use crate::trace::rfc3339;
use async_trait::async_trait;
use mesyx_sdk::{Address, AddressKind, Delivery, Error, ErrorKind, MessageId, Outcome, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Jobs looked at together.
const PAGE: usize = 500;

/// Which jobs are meant: those that all that is given is true of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFilter {
    /// Ids of jobs or messages, or the beginnings of such, at least 4 digits.
    pub ids: Vec<String>,
    /// The recipient's domain or network.
    pub destination: Option<String>,
    /// The login name of who submitted it.
    pub user: Option<String>,
    /// Only those that the operator holds.
    pub held: bool,
}

/// A job, as `mesyx queue` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStatus {
    /// Its id.
    pub id: String,
    /// The message's id, the same for all recipients.
    pub message: String,
    /// The login name of who submitted it.
    pub user: String,
    /// The envelope sender; empty where it is the null one.
    pub from: String,
    /// The recipient.
    pub to: String,
    /// When it was submitted, as RFC 3339 in UTC. Like addresses and other times, empty where the job can't be opened.
    pub submitted: String,
    /// When it is given up.
    pub expires: String,
    /// Bytes of the sealed content.
    pub bytes: u64,
    /// Attempts so far.
    pub attempts: u32,
    /// `waiting` (no attempt so far), `deferred`, `held` (by the operator), `needs-key`.
    pub state: String,
    /// When it is due; of a held one, when it would be.
    pub due: String,
    /// When the last attempt was.
    pub last_attempt: Option<String>,
    /// How that went, or what it waits for.
    pub why: String,
    /// The recipient may have the message already: an attempt ended without an answer.
    pub maybe_sent: bool,
}

/// How many jobs a command had an effect on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Jobs that were changed.
    pub changed: usize,
    /// Jobs that were left as they are, because an attempt is under way.
    pub busy: usize,
}

/// How the queue stands, for `mesyx status` and the metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// Jobs that are not done: one for each recipient elsewhere.
    pub jobs: u64,
    /// Of these, those that had an attempt.
    pub deferred: u64,
    /// Of these, those that the operator holds.
    pub held: u64,
    /// Of these, those that wait for a certificate.
    pub needs_key: u64,
    /// Attempts under way.
    pub running: usize,
    /// How many seconds ago the oldest was submitted.
    pub oldest_seconds: Option<u64>,
    /// Whether something is sent at all: the queue's worker runs.
    pub sending: bool,
}

impl JobFilter {
    /// Whether nothing is given, so that all jobs are meant.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    fn check(&self) -> Result<(), Error> {
        let good = |id: &String| (4..=32).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        match self.ids.iter().find(|id| !good(id)) {
            Some(_) => Err(Error::new(ErrorKind::Invalid, "an id has 4 to 32 hexadecimal digits, as `list` shows it")),
            None => Ok(()),
        }
    }

    fn takes(&self, job: &Found, user: &str) -> bool {
        let (id, message, hold) = match job {
            Found::Opened(job) => (job.id, job.message, job.hold),
            Found::Unopened(stored) => (stored.job, stored.message, stored.hold),
        };
        let named = |wanted: &String| {
            let wanted = wanted.to_ascii_lowercase();
            id.to_string().starts_with(&wanted) || message.to_string().starts_with(&wanted)
        };
        let destination = match job {
            Found::Opened(job) => Some(match &job.to.address {
                Address::Mail(address) => address.domain().to_string(),
                Address::Irc(address) => address.network().to_string(),
                other => other.to_string(),
            }),
            Found::Unopened(_) => None,
        };
        let goes_to = |wanted: &String| {
            destination.as_ref().is_some_and(|destination| destination.eq_ignore_ascii_case(&a_labels(wanted)))
        };
        (self.ids.is_empty() || self.ids.iter().any(named))
            && self.destination.as_ref().is_none_or(goes_to)
            && self.user.as_ref().is_none_or(|wanted| user.eq_ignore_ascii_case(wanted))
            && (!self.held || hold == Hold::Operator)
    }
}

/// A job that a command is about.
enum Found {
    Opened(Box<Job>),
    /// Damaged, or sealed under another instance key: it can be shown, held and dropped, but nobody can be told.
    Unopened(Box<StoredJob>),
}

impl Found {
    fn id(&self) -> JobId {
        match self {
            Self::Opened(job) => job.id,
            Self::Unopened(stored) => stored.job,
        }
    }

    fn user(&self) -> UserId {
        match self {
            Self::Opened(job) => job.user,
            Self::Unopened(stored) => stored.user,
        }
    }
}

/// A domain in the spelling of addresses.
fn a_labels(domain: &str) -> String {
    domain.parse::<mesyx_sdk::Domain>().map_or_else(|_| domain.to_owned(), |domain| domain.to_string())
}

impl Core {
    /// Jobs that the filter takes, in the order in which they came, at most `limit`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for an id that is none; as the store's.
    pub async fn queue_list(&self, filter: &JobFilter, limit: usize) -> Result<Vec<JobStatus>, Error> {
        let jobs = self.find_jobs(filter, limit).await?;
        let status = |found: &Found| match found {
            Found::Opened(job) => self.job_status(job),
            Found::Unopened(stored) => self.unopened_status(stored),
        };
        Ok(jobs.iter().map(status).collect())
    }

    /// Holds, releases or retries jobs. With `tell`, the senders of held ones are told. Retrying also forgets which hosts are
    /// left alone for a while.
    ///
    /// # Errors
    /// As [`Core::queue_list`].
    pub async fn queue_change(&self, filter: &JobFilter, change: JobChange, tell: bool) -> Result<Changed, Error> {
        if tell && change == JobChange::Hold {
            return self.settle_jobs(filter, Happened::Held(BY_OPERATOR.to_owned())).await;
        }
        filter.check()?;
        if change == JobChange::Retry {
            // First: what is due while its host is left alone is put off again.
            self.shared.queue.ask(Ask::TryNow);
        }
        let mut changed = Changed::default();
        let mut after = 0;
        while let Some(page) = self.find_page(filter, &mut after).await? {
            self.change_jobs(&page, change, &mut changed).await?;
        }
        Ok(changed)
    }

    async fn change_jobs(&self, page: &[Found], change: JobChange, changed: &mut Changed) -> Result<(), Error> {
        let ids: Vec<JobId> = page.iter().map(Found::id).collect();
        let (leased, busy) = self.shared.queue.lease(&ids).await;
        let due = Timestamp::now().seconds();
        let write = Write::ChangeJobs { jobs: leased.jobs.clone(), change, due };
        self.shared.store.write(write).await.map_err(stored)?;
        changed.changed += leased.jobs.len();
        changed.busy += busy.len();
        Ok(())
    }

    /// Takes jobs out for good. With `tell`, their senders are told.
    ///
    /// # Errors
    /// As [`Core::queue_list`].
    pub async fn queue_drop(&self, filter: &JobFilter, tell: bool) -> Result<Changed, Error> {
        if tell {
            return self.settle_jobs(filter, Happened::Dropped).await;
        }
        filter.check()?;
        let mut changed = Changed::default();
        let mut after = 0;
        while let Some(page) = self.find_page(filter, &mut after).await? {
            self.drop_jobs(&page, &mut changed).await?;
        }
        Ok(changed)
    }

    async fn drop_jobs(&self, page: &[Found], changed: &mut Changed) -> Result<(), Error> {
        let ids: Vec<JobId> = page.iter().map(Found::id).collect();
        let (leased, busy) = self.shared.queue.lease(&ids).await;
        let ended = leased.jobs.iter().map(|job| (*job, JobEnd::Dropped)).collect();
        let progress = QueueProgress { ended, ..QueueProgress::default() };
        self.shared.store.write(Write::Progress(Box::new(progress))).await.map_err(stored)?;
        changed.changed += leased.jobs.len();
        changed.busy += busy.len();
        Ok(())
    }

    /// How the queue stands.
    ///
    /// # Errors
    /// As the store's.
    pub async fn queue_status(&self) -> Result<QueueStatus, Error> {
        let shared = &self.shared;
        let totals = shared.store.queue_totals().await.map_err(stored)?;
        let first = shared.store.jobs(0, 1).await.map_err(stored)?.pop();
        let oldest = first.and_then(|stored| Job::open(&shared.instance, stored).ok());
        let now = Timestamp::now();
        let (answer, running) = oneshot::channel();
        let sending = shared.queue.ask(Ask::Running(answer));
        Ok(QueueStatus {
            jobs: totals.jobs,
            deferred: totals.deferred,
            held: totals.held,
            needs_key: totals.keyless,
            running: if sending { running.await.unwrap_or(0) } else { 0 },
            oldest_seconds: oldest.map(|job| (now.0.saturating_sub(job.submitted.0) / 1000).max(0).unsigned_abs()),
            sending,
        })
    }

    /// Ends or holds jobs with a notice to their senders, message by message.
    async fn settle_jobs(&self, filter: &JobFilter, happened: Happened) -> Result<Changed, Error> {
        filter.check()?;
        let mut changed = Changed::default();
        let mut after = 0;
        while let Some(page) = self.find_page(filter, &mut after).await? {
            self.settle_page(page, &happened, &mut changed).await?;
        }
        Ok(changed)
    }

    async fn settle_page(&self, page: Vec<Found>, happened: &Happened, changed: &mut Changed) -> Result<(), Error> {
        let mut messages: BTreeMap<MessageId, Vec<Job>> = BTreeMap::new();
        let mut unopened = Vec::new();
        for found in page {
            match found {
                Found::Opened(job) => messages.entry(job.message).or_default().push(*job),
                unopened_job @ Found::Unopened(_) => unopened.push(unopened_job),
            }
        }
        match happened {
            _ if unopened.is_empty() => {}
            Happened::Dropped => self.drop_jobs(&unopened, changed).await?,
            _ => self.change_jobs(&unopened, JobChange::Hold, changed).await?,
        }
        for jobs in messages.into_values() {
            let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
            let (leased, busy) = self.shared.queue.lease(&ids).await;
            changed.busy += busy.len();
            let attempt = Attempt {
                shared: Arc::clone(&self.shared),
                deliverer: Arc::new(Nobody),
                destination: Destination { bridge: String::new(), host: String::new() },
                jobs: jobs.into_iter().filter(|job| leased.jobs.contains(&job.id)).collect(),
                settled: Some(happened.clone()),
            };
            let done = attempt.run().await;
            changed.changed += done.settled;
            let mut progress = QueueProgress::default();
            done.pieces.into_iter().for_each(|piece| progress.append(piece.progress));
            self.shared.store.write(Write::Progress(Box::new(progress))).await.map_err(stored)?;
        }
        Ok(())
    }

    async fn find_jobs(&self, filter: &JobFilter, limit: usize) -> Result<Vec<Found>, Error> {
        filter.check()?;
        let mut found = Vec::new();
        let mut after = 0;
        while let Some(mut page) = self.find_page(filter, &mut after).await? {
            page.truncate(limit - found.len());
            found.append(&mut page);
            if found.len() >= limit {
                break;
            }
        }
        Ok(found)
    }

    /// The jobs of the next page that the filter takes, perhaps none; `None` after the last page.
    async fn find_page(&self, filter: &JobFilter, after: &mut i64) -> Result<Option<Vec<Found>>, Error> {
        let page = self.shared.store.jobs(*after, PAGE).await.map_err(stored)?;
        let Some(last) = page.last() else { return Ok(None) };
        *after = last.row;
        let mut found = Vec::new();
        for stored in page {
            let job = match Job::open(&self.shared.instance, stored.clone()) {
                Ok(job) => Found::Opened(Box::new(job)),
                Err(Unopened) => Found::Unopened(Box::new(stored)),
            };
            if filter.takes(&job, &self.user_name(job.user())) {
                found.push(job);
            }
        }
        Ok(Some(found))
    }

    fn user_name(&self, user: UserId) -> String {
        let directory = self.shared.directory();
        directory.addresses.member(user).map_or_else(|| user.to_string(), |member| member.name.clone())
    }

    fn unopened_status(&self, job: &StoredJob) -> JobStatus {
        JobStatus {
            id: job.job.to_string(),
            message: job.message.to_string(),
            user: self.user_name(job.user),
            from: String::new(),
            to: String::new(),
            submitted: String::new(),
            expires: String::new(),
            bytes: job.bytes,
            attempts: job.attempts,
            state: state(job.hold, job.attempts).to_owned(),
            due: rfc3339(Timestamp::from_seconds(job.due)),
            last_attempt: None,
            why: format!("the job can't be read: {Unopened}"),
            maybe_sent: false,
        }
    }

    fn job_status(&self, job: &Job) -> JobStatus {
        let settings = self.shared.settings();
        JobStatus {
            id: job.id.to_string(),
            message: job.message.to_string(),
            user: self.user_name(job.user),
            from: job.from.as_ref().map(ToString::to_string).unwrap_or_default(),
            to: job.to.address.to_string(),
            submitted: rfc3339(job.submitted),
            expires: rfc3339(Timestamp(super::schedule::deadline(&settings.queue, job))),
            bytes: job.bytes,
            attempts: job.attempts,
            state: state(job.hold, job.attempts).to_owned(),
            due: rfc3339(Timestamp::from_seconds(job.due)),
            last_attempt: job.progress.last_attempt.map(|at| rfc3339(Timestamp(at))),
            why: job.progress.why.clone(),
            maybe_sent: job.progress.maybe_sent,
        }
    }
}

fn state(hold: Hold, attempts: u32) -> &'static str {
    match (hold, attempts) {
        (Hold::Operator, _) => "held",
        (Hold::Key, _) => "needs-key",
        (Hold::No, 0) => "waiting",
        (Hold::No, _) => "deferred",
    }
}

/// For what is settled without an attempt.
struct Nobody;

#[async_trait]
impl Deliverer for Nobody {
    fn route(&self, _: AddressKind) -> Option<String> {
        None
    }

    async fn deliver(&self, _: &str, _: Delivery) -> Vec<Outcome> {
        Vec::new()
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handle")
    }
}

impl Shared {
    /// Whether what this server's users submit is brought to addresses of this kind.
    pub(crate) fn sends_to(&self, address: &Address) -> bool {
        self.queue.route(address.kind()).is_some()
    }
}
