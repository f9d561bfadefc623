//! How fast lines may follow each other.

use std::time::Duration;

/// A pace of lines: some at once, then one every so often. As servers count (RFC 1459, section 8.10), for keeping to it as a
/// client and for holding others to it as a server. The clock is passed in, as time since any fixed moment.
#[derive(Debug, Clone)]
pub struct Pace {
    each: Duration,
    ahead: Duration,
    /// When all that was said is paid for.
    paid: Duration,
}

impl Pace {
    /// `burst` lines at once (at least 1), and one more for every `each` that passes.
    #[must_use]
    pub fn new(burst: u32, each: Duration) -> Self {
        Self { each, ahead: each.saturating_mul(burst.max(1) - 1), paid: Duration::ZERO }
    }

    /// How long the next line must wait; zero where it may go now.
    #[must_use]
    pub fn wait(&self, now: Duration) -> Duration {
        self.paid.saturating_sub(now).saturating_sub(self.ahead)
    }

    /// A line of this weight goes now; most weigh 1.
    pub fn spend(&mut self, now: Duration, weight: u32) {
        self.paid = self.paid.max(now).saturating_add(self.each.saturating_mul(weight));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// In any stretch of time go at most the burst and what the stretch allows.
        #[test]
        fn no_stretch_has_more_than_it_may(burst in 1_u32..6, each in 1_u64..5, steps in proptest::collection::vec(0_u64..4, 1..60)) {
            let mut pace = Pace::new(burst, Duration::from_secs(each));
            let (mut now, mut sent) = (Duration::ZERO, Vec::new());
            for step in steps {
                now += Duration::from_secs(step);
                if pace.wait(now).is_zero() {
                    pace.spend(now, 1);
                    sent.push(now);
                }
            }
            for (at, first) in sent.iter().enumerate() {
                for (count, last) in sent[at..].iter().enumerate() {
                    let most = u64::from(burst) + (*last - *first).as_secs() / each;
                    prop_assert!((count as u64) < most);
                }
            }
            prop_assert!(pace.wait(now + Duration::from_secs(each * u64::from(burst))).is_zero());
        }
    }
}
