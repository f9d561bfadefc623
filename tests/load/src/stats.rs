//! A few figures of many times.

use std::fmt;
use std::time::Duration;

/// Times, shown as median, 99th percentile and maximum.
#[derive(Debug, Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    pub fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    fn percentile(sorted: &[Duration], percent: usize) -> f64 {
        let at = (sorted.len().saturating_sub(1) * percent).div_ceil(100);
        sorted.get(at).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
    }
}

impl Extend<Duration> for Samples {
    fn extend<I: IntoIterator<Item = Duration>>(&mut self, times: I) {
        self.0.extend(times);
    }
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.0.clone();
        sorted.sort();
        let [median, p99, max] = [50, 99, 100].map(|percent| Self::percentile(&sorted, percent));
        write!(f, "median {median:.2} ms, p99 {p99:.2} ms, max {max:.2} ms ({} samples)", sorted.len())
    }
}
