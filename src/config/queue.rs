//! The section `[queue]`.

use super::locate::Located;
use mesyx_core::queue::QueueSettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How messages are brought to other hosts. Each recipient elsewhere is one job.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Queue {
    /// The pause after the first attempt that failed, in seconds; it doubles with each further one. A minute, since hosts that
    /// greylist want a few.
    #[schemars(range(min = 1, max = 86_400))]
    pub(crate) first_retry: u64,
    /// The longest pause, in seconds: 4 hours, so that a host that was down for long has its mail soon after.
    #[schemars(range(min = 1, max = 86_400))]
    pub(crate) longest_retry: u64,
    /// For how many seconds a message is tried, before its sender is told that it failed: 5 days, as RFC 5321 has it.
    #[schemars(range(min = 60, max = 2_592_000))]
    pub(crate) expire: u64,
    /// After how many seconds the sender is told that it takes long: 4 hours.
    #[schemars(range(min = 60, max = 2_592_000))]
    pub(crate) delay_notice: u64,
    /// How often a message that waits for a key is looked at, in seconds: each hour. It is looked at too when a key comes.
    #[schemars(range(min = 60, max = 86_400))]
    pub(crate) key_retry: u64,
    /// How many seconds one attempt may take: half an hour. The end of a message alone may take 10 minutes (RFC 5321, section 4.5.3.2.6).
    #[schemars(range(min = 10, max = 86_400))]
    pub(crate) attempt: u64,
    /// How many seconds a bridge has beyond that to give its answer; then it counts as dead, and its messages are free for the next
    /// attempt. At most a minute.
    #[schemars(range(min = 1, max = 60))]
    pub(crate) grace: u64,
    /// Attempts at once by one bridge. Each costs a connection, and memory for its message.
    #[schemars(range(min = 1, max = 10_000))]
    pub(crate) attempts: usize,
    /// Attempts at once for one domain: what large hosts take from one peer. A host that fails is tried by one at a time until one succeeds.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) attempts_per_destination: usize,
    /// Recipients of one message in one attempt: 100, what every host takes (RFC 5321, section 4.5.3.1.8).
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) recipients_per_attempt: usize,
    /// Jobs of one user that may wait; over it nothing more is taken from that user. Bounds what a stolen password sends.
    #[schemars(range(min = 1))]
    pub(crate) jobs_per_user: u64,
}

impl Default for Queue {
    fn default() -> Self {
        let core = QueueSettings::default();
        Self {
            first_retry: core.first_retry.as_secs(),
            longest_retry: core.longest_retry.as_secs(),
            expire: core.expire.as_secs(),
            delay_notice: core.delay_notice.as_secs(),
            key_retry: core.key_retry.as_secs(),
            attempt: core.attempt.as_secs(),
            grace: core.grace.as_secs(),
            attempts: core.attempts,
            attempts_per_destination: core.attempts_per_destination,
            recipients_per_attempt: core.recipients_per_attempt,
            jobs_per_user: core.jobs_per_user,
        }
    }
}

impl Queue {
    /// What the core is told.
    pub(crate) fn settings(&self, located: &mut Located) -> QueueSettings {
        if self.longest_retry < self.first_retry {
            located.note("queue.longest_retry", "it is shorter than queue.first_retry", "write at least as much");
        }
        if self.delay_notice >= self.expire {
            let what = "by then the message has failed already";
            located.note("queue.delay_notice", what, "write less than queue.expire");
        }
        QueueSettings {
            first_retry: Duration::from_secs(self.first_retry),
            longest_retry: Duration::from_secs(self.longest_retry),
            expire: Duration::from_secs(self.expire),
            delay_notice: Duration::from_secs(self.delay_notice),
            key_retry: Duration::from_secs(self.key_retry),
            attempt: Duration::from_secs(self.attempt),
            grace: Duration::from_secs(self.grace),
            attempts: self.attempts,
            attempts_per_destination: self.attempts_per_destination,
            recipients_per_attempt: self.recipients_per_attempt,
            jobs_per_user: self.jobs_per_user,
        }
    }
}
