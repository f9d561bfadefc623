//! How fast a bridge may call, and what it did wrong.

use super::link::{Link, refuse};
use crate::{Error, ErrorKind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;

/// Where a bridge is so far ahead of its pace, more is refused instead of being kept waiting.
const LONGEST: Duration = Duration::from_secs(30);
/// A message counts once for each 64 KiB of it that are begun: sealing them costs about as much as a small message.
const PIECE: u64 = 64 << 10;

/// What a bridge did against its contract, over all its lives: how often, and the last of it.
#[derive(Debug, Default)]
pub struct Faults(Mutex<(u64, Option<String>)>);

impl Faults {
    /// Notes one, in a line for the operator.
    pub fn note(&self, what: impl Into<String>) {
        let mut faults = self.faults();
        *faults = (faults.0.saturating_add(1), Some(what.into()));
    }

    /// How many there were, and the last one.
    #[must_use]
    pub fn so_far(&self) -> (u64, Option<String>) {
        self.faults().clone()
    }

    fn faults(&self) -> MutexGuard<'_, (u64, Option<String>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So many turns a second; some may be saved up.
#[derive(Debug)]
pub(super) struct Pace {
    per_second: Option<f64>,
    /// Most that are saved.
    burst: f64,
    /// The turns that are saved, less those that were taken in advance; as of then.
    saved: Mutex<(f64, Instant)>,
}

impl Pace {
    /// Those of one second are saved. `None` is any pace.
    pub(super) fn new(per_second: Option<u32>) -> Self {
        let per_second = per_second.map(|number| number.max(1));
        let burst = f64::from(per_second.unwrap_or_default());
        Self { per_second: per_second.map(f64::from), burst, saved: Mutex::new((burst, Instant::now())) }
    }

    /// So many a second, and so many at once.
    pub(super) fn with_burst(per_second: u32, burst: u32) -> Self {
        let burst = f64::from(burst);
        Self { per_second: Some(f64::from(per_second.max(1))), burst, saved: Mutex::new((burst, Instant::now())) }
    }

    /// Takes a turn if one is there now.
    pub(super) fn take_now(&self, now: Instant) -> bool {
        let Some(per_second) = self.per_second else { return true };
        let mut state = self.refreshed(per_second, now);
        let there = state.0 >= 1.0;
        if there {
            state.0 -= 1.0;
        }
        there
    }

    /// What is saved, as of now.
    fn refreshed(&self, per_second: f64, now: Instant) -> MutexGuard<'_, (f64, Instant)> {
        let mut state = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let (saved, at) = *state;
        *state = ((saved + now.duration_since(at).as_secs_f64() * per_second).min(self.burst), now);
        state
    }

    /// Takes turns: how long to wait for them. `None`, with nothing taken, where too many wait already.
    fn take(&self, turns: u64, now: Instant) -> Option<Duration> {
        let Some(per_second) = self.per_second else { return Some(Duration::ZERO) };
        let mut state = self.refreshed(per_second, now);
        let saved = state.0;
        if -saved / per_second > LONGEST.as_secs_f64() {
            return None;
        }
        // A message has no more bytes than fit a float exactly.
        #[allow(clippy::cast_precision_loss, reason = "at most 2^53")]
        let left = saved - turns as f64;
        state.0 = left;
        Some(Duration::from_secs_f64((-left / per_second).max(0.0)))
    }
}

impl Link {
    /// How long a call waits for its turn.
    pub(super) fn call_turn(&self) -> Result<Duration, Status> {
        self.turn(&self.calls, 1, self.limits.calls, "calls")
    }

    /// Waits for the turn of messages of these sizes in bytes, which have come.
    pub(super) async fn message_turn(&self, sizes: impl Iterator<Item = u64>) -> Result<(), Status> {
        let turns = sizes.map(|size| size.div_ceil(PIECE).max(1)).sum();
        let wait = self.turn(&self.messages, turns, self.limits.messages, "messages")?;
        // The timer counts in milliseconds: no time at all would be one.
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    fn turn(&self, pace: &Pace, turns: u64, most: Option<u32>, what: &str) -> Result<Duration, Status> {
        let wait = pace.take(turns, Instant::now());
        let most = most.unwrap_or_default();
        if wait != Some(Duration::ZERO) {
            self.limits.faults.note(format!("it brings more than {most} {what} a second, and is held back"));
        }
        wait.ok_or_else(|| {
            let what = format!("the bridge brings more than {most} {what} a second; try again later");
            refuse(Error::new(ErrorKind::TooMany, what))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Admission, Limits};
    use super::*;

    #[test]
    fn turns_come_at_their_pace() {
        let pace = Pace::new(Some(100));
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        // A second's are there at once, all others one after the other.
        assert_eq!(pace.take(100, start), Some(Duration::ZERO));
        assert_eq!(pace.take(50, start), Some(Duration::from_millis(500)));
        assert_eq!(pace.take(50, start), Some(Duration::from_secs(1)));
        // Nothing more is saved than a second's.
        assert_eq!(pace.take(100, at(60)), Some(Duration::ZERO));
        // One that is larger than that waits, and whoever comes when it is too late is refused without making it later.
        assert_eq!(pace.take(4000, at(60)), Some(Duration::from_secs(40)));
        assert_eq!(pace.take(1, at(60)), None);
        assert_eq!(pace.take(1, at(69)), None);
        assert_eq!(pace.take(100, at(80)), Some(Duration::from_secs(21)));
        assert_eq!(Pace::new(None).take(u64::MAX, start), Some(Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn who_need_not_wait_does_not() {
        let (link, _watched) = Link::new(Admission::default(), Limits::default());
        // Within a millisecond of the timer, as nearly always.
        tokio::time::advance(Duration::from_micros(100)).await;
        let began = Instant::now();
        link.message_turn([4096].into_iter()).await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[test]
    fn turns_that_are_not_there_are_not_waited_for() {
        let pace = Pace::with_burst(20, 200);
        let start = Instant::now();
        assert_eq!((0..300).filter(|_| pace.take_now(start)).count(), 200);
        assert!((0..300).filter(|_| pace.take_now(start + Duration::from_secs(1))).count().abs_diff(20) <= 1);
        assert_eq!((0..300).filter(|_| pace.take_now(start + Duration::from_secs(60))).count(), 200);
    }
}
