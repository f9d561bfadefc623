//! What the operator decides about the queue.

use std::time::Duration;

/// How messages are brought out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSettings {
    /// The pause after the first attempt that failed: 1 min, doubled with each further one. Greylisting hosts want a few minutes.
    pub first_retry: Duration,
    /// The longest pause: 4 h, so that a host that was down for a day has its mail soon after.
    pub longest_retry: Duration,
    /// How long a message is tried: 5 days (RFC 5321, section 4.5.4.1).
    pub expire: Duration,
    /// When the sender is told that it takes long: after 4 h.
    pub delay_notice: Duration,
    /// How often a message that waits for a certificate is looked at: each hour.
    pub key_retry: Duration,
    /// How long one attempt may take: 30 min. RFC 5321, section 4.5.3.2, gives the end of a message alone 10 min.
    pub attempt: Duration,
    /// What a bridge is given beyond that before it counts as dead: 60 s.
    pub grace: Duration,
    /// Attempts at once by one bridge: 100. Each bridge has its own, so that one which never answers holds up nobody else.
    pub attempts: usize,
    /// Attempts at once for one destination, such as a domain: 20, what large hosts take from one peer.
    pub attempts_per_destination: usize,
    /// Recipients of one message that are brought in one attempt: 100, what every host takes (RFC 5321, section 4.5.3.1.8).
    pub recipients_per_attempt: usize,
    /// Jobs of one user that may wait: 10,000; over it nothing more is taken from that user. Bounds what a stolen password sends.
    pub jobs_per_user: u64,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            first_retry: Duration::from_secs(60),
            longest_retry: Duration::from_secs(4 * 3600),
            expire: Duration::from_secs(5 * 86_400),
            delay_notice: Duration::from_secs(4 * 3600),
            key_retry: Duration::from_secs(3600),
            attempt: Duration::from_secs(30 * 60),
            grace: Duration::from_secs(60),
            attempts: 100,
            attempts_per_destination: 20,
            recipients_per_attempt: 100,
            jobs_per_user: 10_000,
        }
    }
}
