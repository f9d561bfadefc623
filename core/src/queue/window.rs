//! The part of the queue that is in memory: which jobs are next, which are being attempted, which hosts to leave alone.
//!
//! Pure: events in, batches out, the clock passed in. It holds at most [`Limits::ready`] jobs that wait for their turn,
//! however many the store has; of one destination at most [`Limits::ready_per_line`], so that a slow host does not keep the
//! others' jobs out; and of one bridge at most [`Limits::ready_per_bridge`] wait and [`QueueSettings::attempts`] run, so that a
//! bridge which never answers keeps nothing from the other bridges.
//!
//! A job that is handed out is *leased*: it is not handed out again until [`Window::release`], which comes when what
//! became of it is durable. Leases are in memory, so none outlives this process.

use super::schedule::backoff;
use super::sealed::Job;
use super::settings::QueueSettings;
use crate::id::JobId;
use mesyx_sdk::{DeferScope, MessageId, UserId};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

/// Where a job goes: the bridge, and what of the address says which host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Destination {
    /// The bridge's name.
    pub(crate) bridge: String,
    /// The domain; or one address of a network where what is said comes in order, see [`Destination::in_order`].
    pub(crate) host: String,
}

impl Destination {
    /// The host of an address to which one message of a user is brought at a time. Another user's go by another connection, which
    /// has its own troubles.
    pub(crate) fn in_order(user: UserId, address: &mesyx_sdk::Address) -> String {
        format!("~{user} {address}")
    }

    /// Whether what goes there comes in order. Such jobs keep the time at which they were submitted as the time when they are due, so that
    /// the store has them in their order whatever happens to this process; while one can't get through, its line takes none.
    pub(crate) fn is_in_order(&self) -> bool {
        self.host.starts_with('~')
    }

    /// Most attempts at once.
    fn most(&self, settings: &QueueSettings) -> usize {
        if self.is_in_order() { 1 } else { settings.attempts_per_destination }
    }
}

/// Jobs of one message for one destination, to be attempted together.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Where.
    pub(crate) destination: Destination,
    /// At least one, all of one message.
    pub(crate) jobs: Vec<Job>,
}

/// What became of an offered job.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Offered {
    /// It waits for its turn from now on.
    Taken,
    /// It waits here already, or is leased.
    Known,
    /// Its destination has enough waiting: it is to be offered again once [`Window::wanting`] says so.
    Later,
    /// Nothing more can wait here.
    Full,
    /// The destination or its bridge failed a moment ago: how, and how long it is left alone.
    Blocked(String, Duration),
}

/// How an attempt went for the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Signal {
    /// The host answered.
    Good,
    /// Everything for the host or the bridge is to wait.
    Down {
        /// For which of the two.
        scope: DeferScope,
        /// How it failed.
        why: String,
        /// The host's own wish.
        retry_after: Option<Duration>,
    },
    /// Nothing was learned.
    Nothing,
}

/// Bounds on memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Jobs that wait for their turn in memory.
    pub(crate) ready: usize,
    /// Of these, for one bridge.
    pub(crate) ready_per_bridge: usize,
    /// Of these, for one destination.
    pub(crate) ready_per_line: usize,
    /// Destinations that are remembered.
    pub(crate) lines: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { ready: 20_000, ready_per_bridge: 5000, ready_per_line: 250, lines: 25_000 }
    }
}

/// The first pause after a bridge failed as a whole, and the longest: it is ours, so it is soon looked at again.
const BRIDGE_PAUSE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));
/// The first pause where what is said comes in order, and the longest: people wait for it, and an attempt costs little.
const IN_ORDER_PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// With how many attempts at once a destination is begun with; each success allows one more.
const FIRST_ATTEMPTS: usize = 5;

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Window {
    limits: Limits,
    lines: HashMap<Destination, Line>,
    bridges: HashMap<String, Pause>,
    shares: BTreeMap<String, Share>,
    /// Counts attempts, so that each bridge is the first to be asked for the next one in its turn.
    begun: usize,
    /// Jobs that wait for their turn.
    waiting: HashSet<JobId>,
    /// Jobs that were handed out, or are kept out by a command.
    leased: HashSet<JobId>,
    /// Attempts under way.
    running: usize,
    /// Jobs that others must not overtake, until what became of them is durable.
    first: HashMap<JobId, Destination>,
}

/// One destination.
#[derive(Debug, Default)]
struct Line {
    ready: VecDeque<Job>,
    running: usize,
    /// How many attempts may run at once; 0 stands for [`FIRST_ATTEMPTS`].
    allowed: usize,
    pause: Pause,
    /// The first job that was offered and not taken: where in the order of the store to look for more.
    skipped: Option<(i64, i64)>,
    /// A job that did not get through, and that nothing may overtake, is not written down yet.
    waits: bool,
}

impl Line {
    /// Leaves a job to the store: it is found there when the line takes jobs again.
    fn skip(&mut self, position: (i64, i64)) {
        self.skipped = Some(self.skipped.map_or(position, |before| before.min(position)));
    }
}

/// What one bridge has of the window.
#[derive(Debug, Default)]
struct Share {
    /// Destinations with jobs that wait, in the order of their turns.
    turns: VecDeque<Destination>,
    /// Jobs that wait for their turn.
    waiting: usize,
    /// Attempts under way.
    running: usize,
    /// The first job that was offered and found no room: where in the order of the store to look for more.
    skipped: Option<(i64, i64)>,
}

/// A host or bridge that is left alone for a while.
#[derive(Debug, Default)]
struct Pause {
    until: Option<Instant>,
    failures: u32,
    why: String,
}

impl Pause {
    fn left(&self, now: Instant) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }
}

impl Window {
    /// An empty window.
    #[cfg(test)]
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Whether more jobs can wait here.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() < self.limits.ready
    }

    /// Whether the window knows the job: it waits here, or is leased.
    pub(crate) fn knows(&self, job: JobId) -> bool {
        self.waiting.contains(&job) || self.leased.contains(&job)
    }

    /// Attempts under way.
    pub(crate) const fn running(&self) -> usize {
        self.running
    }

    /// A job is due. `position` is its place in the store's order.
    pub(crate) fn offer(
        &mut self,
        destination: &Destination,
        job: &Job,
        position: (i64, i64),
        now: Instant,
    ) -> Offered {
        if self.knows(job.id) {
            return Offered::Known;
        }
        let (blocked, in_order) = (self.blocked(destination, now), destination.is_in_order());
        let shut = blocked.is_some();
        if let Some((why, left)) = blocked.filter(|_| !in_order) {
            return Offered::Blocked(why, left);
        }
        if !self.has_room() {
            return Offered::Full;
        }
        let most = self.limits.ready_per_bridge;
        let share = self.shares.entry(destination.bridge.clone()).or_default();
        let full = share.waiting >= most;
        if full && !in_order {
            share.skipped = Some(share.skipped.map_or(position, |before| before.min(position)));
            return Offered::Later;
        }
        if !self.lines.contains_key(destination) && !self.make_room(now) {
            return Offered::Full;
        }
        let line = self.lines.entry(destination.clone()).or_default();
        // Nothing overtakes what the store has, where what is said comes in order.
        let behind = in_order && (full || shut || line.waits || line.skipped.is_some_and(|skipped| skipped < position));
        if behind || line.ready.len() >= self.limits.ready_per_line {
            line.skip(position);
            return Offered::Later;
        }
        let share = self.shares.entry(destination.bridge.clone()).or_default();
        if line.ready.is_empty() {
            share.turns.push_back(destination.clone());
        }
        share.waiting += 1;
        self.waiting.insert(job.id);
        line.ready.push_back(job.clone());
        Offered::Taken
    }

    /// Why the destination is left alone, and for how long.
    pub(crate) fn blocked(&self, destination: &Destination, now: Instant) -> Option<(String, Duration)> {
        let pauses = [self.bridges.get(&destination.bridge), self.lines.get(destination).map(|line| &line.pause)];
        let blocked = pauses.into_iter().flatten().filter_map(|pause| Some((pause.left(now)?, &pause.why)));
        blocked.max_by_key(|(left, _)| *left).map(|(left, why)| (why.clone(), left))
    }

    /// Makes room for one more destination by forgetting one that nothing happens with. `false` where there is none.
    fn make_room(&mut self, now: Instant) -> bool {
        if self.lines.len() < self.limits.lines {
            return true;
        }
        let idle = |line: &Line| line.ready.is_empty() && line.running == 0 && line.skipped.is_none() && !line.waits;
        let forgotten = self.lines.iter().filter(|(_, line)| idle(line)).min_by_key(|(_, line)| line.pause.left(now));
        let Some(forgotten) = forgotten.map(|(destination, _)| destination.clone()) else { return false };
        self.lines.remove(&forgotten);
        true
    }

    /// Where in the store's order to look for more jobs of a destination or bridge that had to leave some out and has room now.
    /// Asked once, it is not said again until a job is left out again.
    pub(crate) fn wanting(&mut self, now: Instant) -> Option<(i64, i64)> {
        let (room, of_bridge) = (self.limits.ready_per_line / 2, self.limits.ready_per_bridge / 2);
        let (bridges, shares) = (&self.bridges, &self.shares);
        let shut = |destination: &Destination, line: &Line| {
            let bridge = bridges.get(&destination.bridge).and_then(|pause| pause.left(now));
            let full = shares.get(&destination.bridge).is_some_and(|share| share.waiting > of_bridge);
            full || line.waits || bridge.is_some() || line.pause.left(now).is_some()
        };
        let hungry = |(destination, line): &(&Destination, &mut Line)| {
            let open = !destination.is_in_order() || !shut(destination, line);
            line.skipped.is_some() && line.ready.len() <= room && open
        };
        let lines = self.lines.iter_mut().filter(hungry).filter_map(|(_, line)| line.skipped.take()).min();
        let hungry = |share: &&mut Share| share.skipped.is_some() && share.waiting <= of_bridge;
        let shares = self.shares.values_mut().filter(hungry).filter_map(|share| share.skipped.take());
        lines.into_iter().chain(shares).min()
    }

    /// When a destination takes jobs again of which the store has some: [`Window::wanting`] says where then.
    pub(crate) fn resumes(&self, now: Instant) -> Option<Instant> {
        let waiting = |(destination, line): &(&Destination, &Line)| destination.is_in_order() && line.skipped.is_some();
        let ends = |(destination, line): (&Destination, &Line)| {
            let pauses = [self.bridges.get(&destination.bridge), Some(&line.pause)];
            pauses.into_iter().flatten().filter_map(|pause| pause.until).filter(|until| *until > now).max()
        };
        self.lines.iter().filter(waiting).filter_map(ends).min()
    }

    /// A job was not offered, since the store has more that may be before it.
    pub(crate) fn leave(&mut self, destination: &Destination, position: (i64, i64)) {
        self.lines.entry(destination.clone()).or_default().skip(position);
    }

    /// A job did not get through to where what is said comes in order: the store has it, and all behind it, until its line takes jobs again.
    pub(crate) fn hold(&mut self, destination: &Destination, job: &Job) {
        let line = self.lines.entry(destination.clone()).or_default();
        for job in line.ready.drain(..) {
            self.waiting.remove(&job.id);
        }
        line.skip((job.due, -1));
        line.waits = true;
        self.first.insert(job.id, destination.clone());
        self.count_waiting();
    }

    /// The next jobs to attempt; they are leased.
    pub(crate) fn next(&mut self, settings: &QueueSettings, now: Instant) -> Option<Batch> {
        let first = self.begun % self.shares.len().max(1);
        let (before, after): (Vec<_>, Vec<_>) = self.shares.iter_mut().enumerate().partition(|(at, _)| *at < first);
        let bridges = after.into_iter().chain(before).map(|(_, (_, share))| share);
        // One that has all it may have costs nothing here, however much waits for it.
        for share in bridges.filter(|share| share.running < settings.attempts) {
            for _ in 0..share.turns.len() {
                let destination = share.turns.pop_front()?;
                let Some(line) = self.lines.get_mut(&destination) else { continue };
                let allowed = if line.allowed == 0 { FIRST_ATTEMPTS } else { line.allowed };
                if line.running >= allowed.min(destination.most(settings)) {
                    share.turns.push_back(destination);
                    continue;
                }
                let jobs = take_batch(&mut line.ready, settings.recipients_per_attempt);
                if jobs.is_empty() {
                    continue;
                }
                if !line.ready.is_empty() {
                    share.turns.push_back(destination.clone());
                }
                line.running += 1;
                share.running += 1;
                share.waiting = share.waiting.saturating_sub(jobs.len());
                self.running += 1;
                self.begun = self.begun.wrapping_add(1);
                for job in &jobs {
                    self.waiting.remove(&job.id);
                    self.leased.insert(job.id);
                }
                debug_assert!(self.blocked(&destination, now).is_none(), "what is blocked has nothing that waits");
                return Some(Batch { destination, jobs });
            }
        }
        None
    }

    /// An attempt is over; its jobs stay leased. Returns the jobs of that destination, or bridge, that can't be attempted now:
    /// they don't wait here any more.
    pub(crate) fn finished(
        &mut self,
        settings: &QueueSettings,
        destination: &Destination,
        signal: Signal,
        now: Instant,
        jitter: f64,
    ) -> Vec<(Destination, Job)> {
        self.running = self.running.saturating_sub(1);
        if let Some(share) = self.shares.get_mut(&destination.bridge) {
            share.running = share.running.saturating_sub(1);
        }
        let line = self.lines.entry(destination.clone()).or_default();
        line.running = line.running.saturating_sub(1);
        match signal {
            Signal::Nothing => {}
            Signal::Good => {
                let allowed = if line.allowed == 0 { FIRST_ATTEMPTS } else { line.allowed };
                line.allowed = (allowed + 1).min(settings.attempts_per_destination);
                // An attempt that began before the others failed does not say that all is well now.
                if line.pause.left(now).is_none() {
                    line.pause = Pause::default();
                }
                if let Some(pause) = self.bridges.get_mut(&destination.bridge)
                    && pause.left(now).is_none()
                {
                    *pause = Pause::default();
                }
            }
            Signal::Down { scope: DeferScope::Bridge, why, retry_after } => {
                let pause = self.bridges.entry(destination.bridge.clone()).or_default();
                if pause.left(now).is_none() {
                    pause.failures = pause.failures.saturating_add(1);
                    let doubled = BRIDGE_PAUSE.0.saturating_mul(2_u32.saturating_pow(pause.failures - 1));
                    let length = doubled.min(BRIDGE_PAUSE.1).mul_f64(0.75 + 0.5 * jitter);
                    pause.until = now.checked_add(length.max(retry_after.unwrap_or_default()));
                    pause.why = why;
                }
                return self.drain(|other| other.bridge == destination.bridge);
            }
            Signal::Down { why, retry_after, .. } => {
                // Attempts that ran side by side fail side by side: that counts once.
                if line.pause.left(now).is_none() {
                    line.pause.failures = line.pause.failures.saturating_add(1);
                    let length = match destination.is_in_order() {
                        true => backoff(&impatient(settings), line.pause.failures, jitter),
                        false => backoff(settings, line.pause.failures, jitter),
                    };
                    let length = length.max(retry_after.unwrap_or_default());
                    line.pause.until = now.checked_add(length.min(settings.expire));
                    line.pause.why = why;
                }
                // One attempt finds out whether the host is back.
                line.allowed = 1;
                return self.drain(|other| other == destination);
            }
        }
        self.tidy(destination, now);
        Vec::new()
    }

    /// Jobs of some destinations don't wait here any more.
    fn drain(&mut self, which: impl Fn(&Destination) -> bool) -> Vec<(Destination, Job)> {
        let mut out = Vec::new();
        for (destination, line) in self.lines.iter_mut().filter(|(destination, _)| which(destination)) {
            // Where what is said comes in order, they wait in the store as they are.
            if let Some(first) = line.ready.front().filter(|_| destination.is_in_order()) {
                let position = (first.due, -1);
                line.skip(position);
            }
            for job in line.ready.drain(..) {
                self.waiting.remove(&job.id);
                if !destination.is_in_order() {
                    out.push((destination.clone(), job));
                }
            }
        }
        self.count_waiting();
        out
    }

    /// Counts anew what waits of each bridge, and takes away the turns of destinations with nothing that waits.
    fn count_waiting(&mut self) {
        let waits = |turn: &Destination| self.lines.get(turn).map_or(0, |line| line.ready.len());
        for share in self.shares.values_mut() {
            share.turns.retain(|turn| waits(turn) > 0);
            // Whatever waits has one turn.
            share.waiting = share.turns.iter().map(waits).sum();
        }
    }

    /// Forgets a destination with which nothing happens.
    fn tidy(&mut self, destination: &Destination, now: Instant) {
        let idle = self.lines.get(destination).is_some_and(|line| {
            let quiet = line.ready.is_empty() && line.running == 0 && line.skipped.is_none() && !line.waits;
            quiet && line.pause.failures == 0 && line.pause.left(now).is_none()
        });
        if idle {
            self.lines.remove(destination);
        }
    }

    /// What became of these jobs is durable, or they are let go.
    pub(crate) fn release(&mut self, jobs: &[JobId]) {
        for job in jobs {
            self.leased.remove(job);
            let first = self.first.remove(job);
            if let Some(line) = first.and_then(|destination| self.lines.get_mut(&destination)) {
                line.waits = false;
            }
        }
    }

    /// Keeps jobs out until [`Window::release`]; those that wait here don't any more. Returns those that are leased already.
    pub(crate) fn lease(&mut self, jobs: &[JobId]) -> Vec<JobId> {
        let (busy, free): (Vec<JobId>, Vec<JobId>) = jobs.iter().partition(|job| self.leased.contains(job));
        let free: HashSet<JobId> = free.into_iter().collect();
        // All of them, not only the first: one that is still said to wait would never be offered again.
        let waited = free.iter().filter(|job| self.waiting.remove(job)).count();
        if waited > 0 {
            self.lines.values_mut().for_each(|line| line.ready.retain(|job| !free.contains(&job.id)));
            self.count_waiting();
        }
        self.leased.extend(free);
        busy
    }

    /// Forgets every pause: the operator wants everything tried now.
    pub(crate) fn forget_pauses(&mut self) {
        self.bridges.clear();
        self.lines.values_mut().for_each(|line| line.pause = Pause::default());
    }
}

/// The settings with the pauses of what is said on networks.
fn impatient(settings: &QueueSettings) -> QueueSettings {
    let first_retry = settings.first_retry.min(IN_ORDER_PAUSE.0);
    QueueSettings { first_retry, longest_retry: settings.longest_retry.min(IN_ORDER_PAUSE.1), ..settings.clone() }
}

/// The first job, and others of the same message.
fn take_batch(ready: &mut VecDeque<Job>, most: usize) -> Vec<Job> {
    let Some(first) = ready.pop_front() else { return Vec::new() };
    let message: MessageId = first.message;
    let mut jobs = vec![first];
    let mut at = 0;
    while jobs.len() < most && at < ready.len() {
        if ready.get(at).is_some_and(|job| job.message == message) {
            jobs.extend(ready.remove(at));
        } else {
            at += 1;
        }
    }
    jobs
}

#[cfg(test)]
mod tests {
    use super::super::sealed::Progress;
    use super::*;
    use crate::store::Hold;
    use mesyx_sdk::{Dsn, Recipient, Timestamp, UserId};

    fn job(to: &str) -> Job {
        Job {
            id: JobId::random(),
            message: MessageId::random(),
            user: UserId([1; 16]),
            due: 0,
            attempts: 0,
            hold: Hold::No,
            from: None,
            to: Recipient::new(to.parse().unwrap()),
            dsn: Dsn::default(),
            submitted: Timestamp(0),
            progress: Progress::default(),
            bytes: 0,
            data_key: Vec::new(),
        }
    }

    fn at(bridge: &str, host: &str) -> Destination {
        Destination { bridge: bridge.into(), host: host.into() }
    }

    /// Whatever waits for a bridge that never answers, another bridge's jobs find room, and run.
    #[test]
    fn a_bridge_that_never_answers_holds_up_no_other() {
        let (mut window, settings, now) = (Window::default(), QueueSettings::default(), Instant::now());
        let mut later = 0;
        for number in 0..6000 {
            let hangs = job(&format!("xmpp:contact{number}@example.net"));
            let offered = window.offer(&at("xmpp", &format!("~contact{number}")), &hangs, (0, number), now);
            later += usize::from(offered == Offered::Later);
        }
        assert_eq!(later, 1000, "it has its share of the room, and no more");
        let mut hanging = Vec::new();
        while let Some(batch) = window.next(&settings, now) {
            hanging.push(batch);
        }
        assert_eq!(hanging.len(), settings.attempts);
        let good = job("bob@example.net");
        assert_eq!(window.offer(&at("smtp", "example.net"), &good, (0, 7000), now), Offered::Taken);
        let batch = window.next(&settings, now).expect("it is attempted at once");
        assert_eq!(batch.jobs[0].id, good.id);
        // What found no room is asked for when there is some, and not before.
        assert_eq!(window.wanting(now), None);
        for batch in hanging.drain(..) {
            window.finished(&settings, &batch.destination, Signal::Nothing, now, 0.5);
        }
        while window.shares["xmpp"].waiting > 2500 {
            let batch = window.next(&settings, now).unwrap();
            window.finished(&settings, &batch.destination, Signal::Nothing, now, 0.5);
        }
        assert_eq!(window.wanting(now), Some((0, 5000)));
        assert_eq!(window.wanting(now), None, "said once");
    }

    /// The operator's commands keep several jobs out at once, and give them all back.
    #[test]
    fn several_jobs_kept_out_at_once_all_come_back() {
        let (mut window, now) = (Window::default(), Instant::now());
        let jobs: Vec<Job> = (0..3).map(|number| job(&format!("r{number}@example.net"))).collect();
        let destination = at("smtp", "example.net");
        for job in &jobs {
            assert_eq!(window.offer(&destination, job, (0, 1), now), Offered::Taken);
        }
        let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
        assert!(window.lease(&ids).is_empty());
        assert!(window.next(&QueueSettings::default(), now).is_none());
        window.release(&ids);
        for job in &jobs {
            assert_eq!(window.offer(&destination, job, (0, 1), now), Offered::Taken, "it waits again");
        }
    }
}
