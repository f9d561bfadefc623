//! Counts attempts over a span of time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Allows a number of attempts within any span.
pub(crate) struct Throttle {
    attempts: VecDeque<Instant>,
    most: usize,
    span: Duration,
}

impl Throttle {
    pub(crate) fn new(most: usize, span: Duration) -> Self {
        Self { attempts: VecDeque::with_capacity(most), most, span }
    }

    /// Counts an attempt, if there is one left.
    pub(crate) fn allow(&mut self, now: Instant) -> bool {
        while self.attempts.front().is_some_and(|first| now.saturating_duration_since(*first) >= self.span) {
            self.attempts.pop_front();
        }
        let allowed = self.attempts.len() < self.most;
        if allowed {
            self.attempts.push_back(now);
        }
        allowed
    }
}
