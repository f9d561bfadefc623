//! The queue's state machine against its invariants: random outcomes, crashes, an operator, and a clock that is passed in.
//!
//! The model's store holds what is durable. A crash takes the window, the attempts and what was not written yet. What must hold:
//! - no job is attempted while it is leased: being attempted, or waiting for what came of that to be durable;
//! - no job is attempted when it is not due, is held, or its host or bridge is left alone;
//! - the limits on attempts and on memory;
//! - each job ends exactly once, and none is lost: in the end, when all goes well, all have ended;
//! - a message is sent twice only where an attempt ended without an answer, or a crash took the answer.

use super::schedule::{Happened, Next, decide};
use super::sealed::{Job, Progress};
use super::settings::QueueSettings;
use super::window::{Batch, Destination, Limits, Offered, Signal, Window};
use crate::id::JobId;
use crate::store::{Hold, JobEnd};
use mesyx_sdk::{Address, DeferScope, Dsn, MessageId, Notify, Outcome, Recipient, Timestamp, UserId};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

#[derive(Debug, Clone)]
enum Step {
    /// A message for so many recipients at a host.
    Submit { recipients: usize, host: u8, notify: Option<u8> },
    /// Time goes by, in seconds.
    Wait(u32),
    /// Due jobs are read and attempts begun.
    Work,
    /// An attempt ends, each recipient with the next of these outcomes.
    End { which: usize, outcomes: Vec<Answer> },
    /// What ended is durable.
    Commit,
    /// Everything in memory is gone.
    Crash,
    /// The operator holds a job, or releases it, or drops it.
    Operator { which: usize, what: u8 },
}

#[derive(Debug, Clone, Copy)]
enum Answer {
    Delivered,
    Failed,
    Later,
    LaterMaybeSent,
    HostDown,
    BridgeDown,
    NeedsKey,
    Panic,
}

fn any_step() -> impl Strategy<Value = Step> {
    use Answer::*;
    let answer = prop::sample::select(vec![
        Delivered,
        Delivered,
        Delivered,
        Failed,
        Later,
        Later,
        LaterMaybeSent,
        HostDown,
        BridgeDown,
        NeedsKey,
        Panic,
    ]);
    prop_oneof![
        4 => (1..6_usize, 0..4_u8, prop::option::of(0..8_u8))
            .prop_map(|(recipients, host, notify)| Step::Submit { recipients, host, notify }),
        4 => prop_oneof![1..90_u32, 60..20_000_u32].prop_map(Step::Wait),
        8 => Just(Step::Work),
        8 => (any::<usize>(), prop::collection::vec(answer, 1..6))
            .prop_map(|(which, outcomes)| Step::End { which, outcomes }),
        6 => Just(Step::Commit),
        1 => Just(Step::Crash),
        2 => (any::<usize>(), 0..3_u8).prop_map(|(which, what)| Step::Operator { which, what }),
    ]
}

/// What is durable of a job.
struct Row {
    job: Job,
    number: i64,
    end: Option<JobEnd>,
}

/// What is to be written of a job.
type Pending = (JobId, Next);

struct Model {
    settings: QueueSettings,
    limits: Limits,
    now: Timestamp,
    clock: Instant,
    window: Window,
    rows: BTreeMap<JobId, Row>,
    running: Vec<Batch>,
    unwritten: Vec<Pending>,
    /// How often a recipient's host took the message, and how often that may be forgotten.
    taken: HashMap<JobId, (u32, u32)>,
    ends: HashMap<JobId, u32>,
    told: HashMap<JobId, u32>,
    next: i64,
}

impl Model {
    fn new() -> Self {
        let limits = Limits { ready: 12, ready_per_bridge: 8, ready_per_line: 5, lines: 3 };
        Self {
            settings: QueueSettings {
                attempts: 6,
                attempts_per_destination: 2,
                recipients_per_attempt: 3,
                ..QueueSettings::default()
            },
            limits,
            now: Timestamp(1_700_000_000_000),
            clock: Instant::now(),
            window: Window::new(limits),
            rows: BTreeMap::new(),
            running: Vec::new(),
            unwritten: Vec::new(),
            taken: HashMap::new(),
            ends: HashMap::new(),
            told: HashMap::new(),
            next: 0,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Submit { recipients, host, notify } => self.submit(recipients, host, notify),
            Step::Wait(seconds) => {
                self.now.0 += i64::from(seconds) * 1000;
                self.clock += Duration::from_secs(u64::from(seconds));
            }
            Step::Work => self.work(),
            Step::End { which, outcomes } if !self.running.is_empty() => {
                let which = which % self.running.len();
                self.end(which, &outcomes);
            }
            Step::End { .. } => {}
            Step::Commit => self.commit(),
            Step::Crash => self.crash(),
            Step::Operator { which, what } => self.operator(which, what),
        }
    }

    fn submit(&mut self, recipients: usize, host: u8, notify: Option<u8>) {
        let message = MessageId::random();
        for number in 0..recipients {
            let address: Address = format!("r{number}@h{host}.example").parse().unwrap();
            let bits = |bits: u8| Notify { success: bits & 1 != 0, failure: bits & 2 != 0, delay: bits & 4 != 0 };
            let job = Job {
                id: JobId::random(),
                message,
                user: UserId([1; 16]),
                due: self.now.seconds(),
                attempts: 0,
                hold: Hold::No,
                from: Some("alice@example.org".parse().unwrap()),
                to: Recipient { notify: notify.map(bits), ..Recipient::new(address) },
                dsn: Dsn::default(),
                submitted: self.now,
                progress: Progress::default(),
                bytes: 0,
                data_key: Vec::new(),
            };
            self.next += 1;
            self.rows.insert(job.id, Row { job, number: self.next, end: None });
        }
    }

    fn destination(job: &Job) -> Destination {
        let host = job.to.address.as_mail().unwrap().domain().to_string();
        // Every other host is another bridge's.
        let bridge = if host.as_bytes()[1].is_multiple_of(2) { "smtp" } else { "xmpp" };
        Destination { bridge: bridge.into(), host }
    }

    /// Offers what is due, in the store's order, and begins attempts.
    fn work(&mut self) {
        let mut due: Vec<(i64, i64, Job)> = self
            .rows
            .values()
            .filter(|row| row.end.is_none() && row.job.hold != Hold::Operator && row.job.due <= self.now.seconds())
            .map(|row| (row.job.due, row.number, row.job.clone()))
            .collect();
        due.sort_by_key(|(due, number, _)| (*due, *number));
        for (at, number, job) in due {
            let destination = Self::destination(&job);
            match self.window.offer(&destination, &job, (at, number), self.clock) {
                Offered::Blocked(why, left) => self.postpone(job, why, left),
                Offered::Full => break,
                Offered::Taken | Offered::Known | Offered::Later => {}
            }
        }
        while let Some(batch) = self.window.next(&self.settings, self.clock) {
            self.check(&batch);
            self.running.push(batch);
        }
        self.window.wanting(self.clock);
    }

    /// What must hold of an attempt that begins.
    fn check(&self, batch: &Batch) {
        assert!(!batch.jobs.is_empty() && batch.jobs.len() <= self.settings.recipients_per_attempt);
        let of_bridge = self.running.iter().filter(|running| running.destination.bridge == batch.destination.bridge);
        assert!(of_bridge.count() < self.settings.attempts);
        let beside = self.running.iter().filter(|running| running.destination == batch.destination).count();
        assert!(beside < self.settings.attempts_per_destination);
        assert!(self.window.blocked(&batch.destination, self.clock).is_none(), "the host is left alone");
        let message = batch.jobs[0].message;
        for job in &batch.jobs {
            assert_eq!((job.message, &Self::destination(job)), (message, &batch.destination));
            let leased = self.running.iter().flat_map(|running| &running.jobs).any(|other| other.id == job.id)
                || self.unwritten.iter().any(|(other, _)| *other == job.id);
            assert!(!leased, "attempted while leased");
            let row = &self.rows[&job.id];
            assert_eq!(row.end, None, "attempted after its end");
            assert_ne!(row.job.hold, Hold::Operator, "attempted while held");
            assert!(row.job.due <= self.now.seconds(), "attempted before its time");
            assert_eq!(row.job.attempts, job.attempts, "attempted from old knowledge");
        }
    }

    fn postpone(&mut self, job: Job, why: String, left: Duration) {
        self.window.lease(&[job.id]);
        let until = Timestamp(self.now.0 + i64::try_from(left.as_millis()).unwrap());
        self.decide(&job, Happened::Postponed { why, until });
    }

    fn decide(&mut self, job: &Job, happened: Happened) {
        let decision = decide(&self.settings, job, happened, self.now, 0.5);
        if let Next::Later { due, .. } = &decision.next {
            assert!(*due > self.now.seconds(), "it would be tried in a circle");
        }
        if decision.tell.is_some() {
            *self.told.entry(job.id).or_default() += 1;
        }
        self.unwritten.push((job.id, decision.next));
    }

    fn end(&mut self, which: usize, outcomes: &[Answer]) {
        let Batch { destination, jobs } = self.running.remove(which);
        let deferred = |scope, maybe_sent| {
            Happened::Attempt(Outcome::Deferred { why: "451 no".into(), retry_after: None, scope, maybe_sent })
        };
        let mut signal = Signal::Good;
        for (job, answer) in jobs.iter().zip(outcomes.iter().cycle()) {
            let down = |scope| Signal::Down { scope, why: "451 no".into(), retry_after: None };
            let (took, lost) = self.taken.entry(job.id).or_default();
            let happened = match answer {
                Answer::Delivered => {
                    *took += 1;
                    Happened::Attempt(Outcome::Delivered { remote_id: None, dsn: false })
                }
                Answer::Failed => Happened::Attempt(Outcome::Failed { why: "550 no".into() }),
                Answer::Later => deferred(DeferScope::Recipient, false),
                Answer::LaterMaybeSent | Answer::Panic => {
                    *took += 1;
                    *lost += 1;
                    deferred(DeferScope::Recipient, true)
                }
                Answer::HostDown => {
                    signal = down(DeferScope::Host);
                    deferred(DeferScope::Host, false)
                }
                Answer::BridgeDown => {
                    signal = down(DeferScope::Bridge);
                    deferred(DeferScope::Bridge, false)
                }
                Answer::NeedsKey => Happened::NeedsKey("no key".into()),
            };
            self.decide(job, happened);
        }
        let out = self.window.finished(&self.settings, &destination, signal, self.clock, 0.5);
        for (destination, job) in out {
            let left = self.window.blocked(&destination, self.clock).unwrap().1;
            self.postpone(job, "451 no".into(), left);
        }
    }

    fn commit(&mut self) {
        for (id, next) in std::mem::take(&mut self.unwritten) {
            let row = self.rows.get_mut(&id).unwrap();
            match next {
                Next::End(end) => {
                    assert_eq!(row.end, None, "a job ends once");
                    row.end = Some(end);
                    *self.ends.entry(id).or_default() += 1;
                }
                Next::Later { due, attempts, hold, progress } => {
                    let hold = if row.job.hold == Hold::Operator { Hold::Operator } else { hold };
                    row.job = Job { due, attempts, hold, progress, ..row.job.clone() };
                }
            }
            self.window.release(&[id]);
        }
    }

    fn crash(&mut self) {
        let cut = self.running.iter().flat_map(|batch| &batch.jobs).map(|job| job.id);
        // What was answered and not written down is forgotten.
        for id in cut.chain(self.unwritten.iter().map(|(id, _)| *id)) {
            let (took, lost) = self.taken.entry(id).or_default();
            *lost = (*lost).max(*took);
        }
        self.window = Window::new(self.limits);
        self.running.clear();
        self.unwritten.clear();
    }

    fn operator(&mut self, which: usize, what: u8) {
        let open: Vec<JobId> = self.rows.iter().filter(|(_, row)| row.end.is_none()).map(|(id, _)| *id).collect();
        if open.is_empty() {
            return;
        }
        let id = open[which % open.len()];
        if !self.window.lease(&[id]).is_empty() {
            return;
        }
        let row = self.rows.get_mut(&id).unwrap();
        match what {
            0 => row.job.hold = Hold::Operator,
            1 if row.job.hold == Hold::Operator => {
                row.job.hold = Hold::No;
                row.job.due = self.now.seconds();
            }
            2 => {
                row.end = Some(JobEnd::Dropped);
                *self.ends.entry(id).or_default() += 1;
            }
            _ => {}
        }
        self.window.release(&[id]);
    }

    /// From now on everything goes well.
    fn settle(&mut self) {
        let held: Vec<JobId> =
            self.rows.iter().filter(|(_, row)| row.job.hold == Hold::Operator).map(|(id, _)| *id).collect();
        for id in held {
            let row = self.rows.get_mut(&id).unwrap();
            row.job.hold = Hold::No;
            row.job.due = self.now.seconds();
        }
        for _ in 0..2000 {
            if self.rows.values().all(|row| row.end.is_some()) {
                return;
            }
            self.work();
            while !self.running.is_empty() {
                self.end(0, &[Answer::Delivered]);
            }
            self.commit();
            self.step(Step::Wait(600));
        }
        panic!("a job was lost: {:?}", self.rows.values().find(|row| row.end.is_none()).map(|row| &row.job));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn every_job_ends_once_and_none_is_lost(steps in prop::collection::vec(any_step(), 1..120)) {
        let mut model = Model::new();
        for step in steps {
            model.step(step);
        }
        model.settle();
        for (id, row) in &model.rows {
            prop_assert_eq!(model.ends.get(id), Some(&1));
            let (took, lost) = model.taken.get(id).copied().unwrap_or_default();
            prop_assert!(took <= lost + 1, "sent {} times, of which {} could not be known", took, lost);
            let dropped = row.end == Some(JobEnd::Dropped);
            if matches!(row.end, Some(JobEnd::Failed | JobEnd::Expired)) && row.job.to.notify.is_none_or(|notify| notify.failure) {
                prop_assert!(model.told.contains_key(id), "it failed and its sender heard nothing");
            }
            prop_assert!(dropped || took > 0 || row.end != Some(JobEnd::Delivered));
        }
    }

    #[test]
    fn pauses_grow_within_bounds(attempts in 1..1000_u32, jitter in 0.0..1.0_f64) {
        let settings = QueueSettings::default();
        let pause = super::schedule::backoff(&settings, attempts, jitter);
        prop_assert!(pause >= settings.first_retry.mul_f64(0.74) && pause <= settings.longest_retry.mul_f64(1.26));
        if attempts < 8 {
            prop_assert!(super::schedule::backoff(&settings, attempts + 1, jitter) > pause);
        }
    }
}

/// The pauses of a job whose host is never there, from the beginning to the end.
#[test]
fn a_job_that_never_succeeds_is_tried_for_five_days() {
    let mut model = Model::new();
    model.submit(1, 0, None);
    let (start, mut attempts, mut times) = (model.now, 0, Vec::new());
    while model.rows.values().any(|row| row.end.is_none()) {
        model.work();
        while !model.running.is_empty() {
            attempts += 1;
            times.push((model.now.0 - start.0) / 1000);
            model.end(0, &[Answer::Later]);
        }
        model.commit();
        model.step(Step::Wait(1));
        assert!(model.now.0 - start.0 < 6 * 86_400_000, "it never ends");
    }
    let row = model.rows.values().next().unwrap();
    assert_eq!(row.end, Some(JobEnd::Expired));
    assert_eq!(model.told[&row.job.id], 2, "told of the delay, and of the end");
    assert!((30..60).contains(&attempts), "{attempts}: {times:?}");
    assert_eq!(times[..4].iter().map(|at| (at + 30) / 60).collect::<Vec<_>>(), [0, 1, 3, 7], "minutes");
    assert_eq!(*times.last().unwrap(), 5 * 86_400, "the last when time is up");
}
