//! What becomes of a job after an attempt: pure, with the time passed in.

use super::sealed::{Job, Progress};
use super::settings::QueueSettings;
use crate::store::{Hold, JobEnd};
use mesyx_sdk::{Address, Outcome, Timestamp};
use std::time::Duration;

/// What happened to one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Happened {
    /// An attempt was made.
    Attempt(Outcome),
    /// It was found to be for a user here; a copy goes with its end.
    Local,
    /// Nothing may be sent until a certificate comes: why.
    NeedsKey(String),
    /// No attempt was made, since one for the same host or bridge failed a moment ago: how, and when that may be over.
    Postponed {
        /// How the other one failed.
        why: String,
        /// When the next may be tried.
        until: Timestamp,
    },
    /// The operator takes it out.
    Dropped,
    /// It waits for the operator's word from now on: why.
    Held(String),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    /// With the job.
    pub(crate) next: Next,
    /// What the sender is told, if anything.
    pub(crate) tell: Option<Tell>,
}

/// What becomes of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// It is done.
    End(JobEnd),
    /// It waits.
    Later {
        /// Until when, in seconds since 1970.
        due: i64,
        /// Attempts so far.
        attempts: u32,
        /// For what.
        hold: Hold,
        /// What happened so far.
        progress: Progress,
    },
}

/// What a notice tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tell {
    /// It failed for good: how.
    Failed(String),
    /// It takes longer than usual: why.
    Delayed(String),
    /// It waits for a certificate: why.
    Waits(String),
    /// It waits for the operator of this server: why.
    Held(String),
    /// The next hop took it, and will tell nothing itself.
    Relayed,
}

/// Why a job waits that the operator holds by a command.
pub(crate) const BY_OPERATOR: &str = "the operator of this server holds the message for now";

/// Decides. `jitter` is between 0 and 1.
pub(crate) fn decide(settings: &QueueSettings, job: &Job, happened: Happened, now: Timestamp, jitter: f64) -> Decision {
    let expired = now.0 >= deadline(settings, job);
    match happened {
        Happened::Attempt(Outcome::Delivered { dsn, .. }) => taken(job, !dsn),
        Happened::Local => taken(job, true),
        Happened::Attempt(Outcome::Failed { why }) => failed(job, JobEnd::Failed, why),
        Happened::Dropped => {
            failed(job, JobEnd::Dropped, "the operator of this server took the message out of the queue".to_owned())
        }
        Happened::Held(why) => {
            let progress = Progress { why: why.clone(), ..job.progress.clone() };
            let next = Next::Later { due: job.due, attempts: job.attempts, hold: Hold::Operator, progress };
            Decision { next, tell: wants_any(job).then_some(Tell::Held(why)) }
        }
        Happened::Attempt(Outcome::Deferred { why, .. })
        | Happened::NeedsKey(why)
        | Happened::Postponed { why, .. }
            if expired =>
        {
            let why = format!("it was tried for {}; the last time: {why}", span(settings.expire));
            failed(job, JobEnd::Expired, why)
        }
        Happened::Attempt(Outcome::Deferred { why, retry_after, maybe_sent, .. }) => {
            let attempts = job.attempts.saturating_add(1);
            let wait = backoff(settings, attempts, jitter).max(retry_after.unwrap_or_default());
            let maybe_sent = job.progress.maybe_sent || maybe_sent;
            let progress = Progress { why, last_attempt: Some(now.0), maybe_sent, ..job.progress.clone() };
            Waiting { wait, attempts, hold: Hold::No, progress }.decide(settings, job, now)
        }
        Happened::NeedsKey(why) => {
            let progress = Progress { why, ..job.progress.clone() };
            let wait = settings.key_retry.mul_f64(0.9 + 0.2 * jitter);
            Waiting { wait, attempts: job.attempts, hold: Hold::Key, progress }.decide(settings, job, now)
        }
        Happened::Postponed { why, until } => {
            let progress = Progress { why, ..job.progress.clone() };
            let wait = Duration::from_millis(u64::try_from(until.0.saturating_sub(now.0)).unwrap_or(0));
            // Spread, so that they don't all come back in one moment.
            let wait = wait + wait.mul_f64(0.1 * jitter) + Duration::from_secs(1);
            Waiting { wait, attempts: job.attempts, hold: job.hold, progress }.decide(settings, job, now)
        }
    }
}

/// Whether a job that can't be tried now must be looked at all the same: its sender is to be told something.
pub(crate) fn must_tell(settings: &QueueSettings, job: &Job, now: Timestamp) -> bool {
    now.0 >= deadline(settings, job) || delayed(settings, job, now)
}

/// When a job is given up, in milliseconds since 1970.
pub(crate) fn deadline(settings: &QueueSettings, job: &Job) -> i64 {
    job.submitted.0.saturating_add(millis(settings.expire))
}

fn taken(job: &Job, ours_to_tell: bool) -> Decision {
    let wanted = job.from.is_some() && ours_to_tell && job.to.notify.is_some_and(|notify| notify.success);
    Decision { next: Next::End(JobEnd::Delivered), tell: wanted.then_some(Tell::Relayed) }
}

fn failed(job: &Job, end: JobEnd, why: String) -> Decision {
    let wanted = job.from.is_some() && job.to.notify.is_none_or(|notify| notify.failure);
    Decision { next: Next::End(end), tell: wanted.then_some(Tell::Failed(why)) }
}

/// Whether the sender hears of what keeps a message from going on: not with NOTIFY=NEVER, nor where only success matters.
fn wants_any(job: &Job) -> bool {
    job.from.is_some() && job.to.notify.is_none_or(|notify| notify.failure || notify.delay)
}

/// Without a wish, senders are told of delays (RFC 3461, section 4.1, leaves that to us).
fn delayed(settings: &QueueSettings, job: &Job, now: Timestamp) -> bool {
    let wanted = job.from.is_some() && job.to.notify.is_none_or(|notify| notify.delay);
    let late = now.0.saturating_sub(job.submitted.0) >= millis(settings.delay_notice);
    wanted && late && !job.progress.told_of_delay
}

/// A job that waits on.
struct Waiting {
    wait: Duration,
    attempts: u32,
    hold: Hold,
    progress: Progress,
}

impl Waiting {
    fn decide(self, settings: &QueueSettings, job: &Job, now: Timestamp) -> Decision {
        let Self { wait, attempts, hold, mut progress } = self;
        // The last attempt is made when time is up, not later.
        let last = deadline(settings, job).max(now.0.saturating_add(1000));
        let due = now.0.saturating_add(millis(wait)).min(last);
        let due = due.div_euclid(1000) + i64::from(due.rem_euclid(1000) > 0);
        let mut tell = None;
        if hold == Hold::Key && !progress.told_of_hold && wants_any(job) {
            progress.told_of_hold = true;
            tell = Some(Tell::Waits(progress.why.clone()));
        } else if delayed(settings, job, now) {
            progress.told_of_delay = true;
            tell = Some(Tell::Delayed(progress.why.clone()));
        }
        // What is said on a network keeps its place in the store's order: see `window`.
        let in_order = !matches!(job.to.address, Address::Mail(_) | Address::Mesyx(_));
        let due = if in_order && hold == Hold::No { job.due } else { due };
        Decision { next: Next::Later { due, attempts, hold, progress }, tell }
    }
}

/// The pause after so many attempts: doubled with each, spread by a quarter to both sides.
pub(crate) fn backoff(settings: &QueueSettings, attempts: u32, jitter: f64) -> Duration {
    let doubled = settings.first_retry.saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1)));
    doubled.min(settings.longest_retry).mul_f64(0.75 + 0.5 * jitter.clamp(0.0, 1.0))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A time span as people say it.
pub(crate) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (number, unit) = match seconds {
        172_800.. => (seconds / 86_400, "days"),
        7_200.. => (seconds / 3600, "hours"),
        120.. => (seconds / 60, "minutes"),
        _ => (seconds, "seconds"),
    };
    format!("{number} {unit}")
}
