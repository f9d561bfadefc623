//! How TLS went, by day and domain, in the words of TLS-RPT (RFC 8460).

use metrics::counter;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most domains that are counted in one day; the metrics count all.
const MAX_DOMAINS: usize = 10_000;

/// By which policy a connection was judged (section 4.4, `policy-type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Policy {
    /// DANE.
    Tlsa,
    /// MTA-STS.
    Sts,
    /// Neither.
    None,
}

impl Policy {
    const fn name(self) -> &'static str {
        match self {
            Self::Tlsa => "tlsa",
            Self::Sts => "sts",
            Self::None => "no-policy-found",
        }
    }
}

/// The counts of one domain under one policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) successes: u64,
    /// By result type (section 4.3).
    pub(crate) failures: BTreeMap<&'static str, u64>,
}

/// Counts of today; those of yesterday are summed up in the log when the day ends.
#[derive(Debug, Default)]
pub(crate) struct Reports(Mutex<Day>);

#[derive(Debug, Default)]
struct Day {
    day: i32,
    domains: BTreeMap<(String, Policy), Counts>,
}

impl Reports {
    /// A connection under TLS was made as the policy wants it.
    pub(crate) fn success(&self, today: i32, domain: &str, policy: Policy) {
        counter!("mesyx_smtp_tls_sessions_total", "policy" => policy.name(), "result" => "success").increment(1);
        self.count(today, domain, policy, |counts| counts.successes += 1);
    }

    /// It was not, for this reason (section 4.3).
    pub(crate) fn failure(&self, today: i32, domain: &str, policy: Policy, result: &'static str) {
        counter!("mesyx_smtp_tls_sessions_total", "policy" => policy.name(), "result" => result).increment(1);
        self.count(today, domain, policy, |counts| *counts.failures.entry(result).or_default() += 1);
    }

    fn count(&self, today: i32, domain: &str, policy: Policy, change: impl FnOnce(&mut Counts)) {
        let mut day = self.day();
        if day.day != today {
            day.sum_up();
            *day = Day { day: today, domains: BTreeMap::new() };
        }
        let key = (domain.to_owned(), policy);
        if day.domains.len() < MAX_DOMAINS || day.domains.contains_key(&key) {
            change(day.domains.entry(key).or_default());
        }
    }

    /// What was counted today for a domain.
    #[cfg(test)]
    pub(crate) fn of(&self, domain: &str, policy: Policy) -> Counts {
        self.day().domains.get(&(domain.to_owned(), policy)).cloned().unwrap_or_default()
    }

    fn day(&self) -> MutexGuard<'_, Day> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Day {
    /// The log names no domain, since that is whom users write to.
    fn sum_up(&self) {
        let successes: u64 = self.domains.values().map(|counts| counts.successes).sum();
        let mut failures: BTreeMap<&str, u64> = BTreeMap::new();
        for (result, count) in self.domains.values().flat_map(|counts| &counts.failures) {
            *failures.entry(result).or_default() += count;
        }
        if successes > 0 || !failures.is_empty() {
            tracing::info!(domains = self.domains.len(), successes, ?failures, "TLS to other hosts yesterday");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_kept_by_day_domain_and_policy() {
        let reports = Reports::default();
        reports.success(1, "a.example", Policy::Sts);
        reports.failure(1, "a.example", Policy::Sts, "starttls-not-supported");
        reports.failure(1, "a.example", Policy::Sts, "starttls-not-supported");
        reports.success(1, "a.example", Policy::Tlsa);
        let counts = reports.of("a.example", Policy::Sts);
        assert_eq!((counts.successes, counts.failures["starttls-not-supported"]), (1, 2));
        assert_eq!(reports.of("b.example", Policy::Sts), Counts::default());
        reports.success(2, "b.example", Policy::None);
        assert_eq!(reports.of("a.example", Policy::Sts), Counts::default());
        assert_eq!(reports.of("b.example", Policy::None).successes, 1);
        for domain in 0..2 * MAX_DOMAINS {
            reports.success(3, &domain.to_string(), Policy::None);
        }
        assert_eq!(reports.day().domains.len(), MAX_DOMAINS);
    }
}
