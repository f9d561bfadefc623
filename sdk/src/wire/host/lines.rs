//! What bridges say, in the host's log.

use crate::wire::v1;
use std::time::Instant;

/// Lines of one bridge that are logged at once, and how many more each second.
const BURST: f64 = 200.0;
const PER_SECOND: f64 = 20.0;

/// How much more of what a bridge says is logged now: 200 lines at once, and 20 more each second.
#[derive(Debug)]
pub struct Allowance {
    allowed: f64,
    looked: Instant,
    left_out: u64,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { allowed: BURST, looked: Instant::now(), left_out: 0 }
    }
}

impl Allowance {
    /// Whether one more line is logged. Says in the log how many of this bridge's were not since the last that was.
    pub fn one_more(&mut self, bridge: &str) -> bool {
        let now = Instant::now();
        self.allowed = (self.allowed + now.duration_since(self.looked).as_secs_f64() * PER_SECOND).min(BURST);
        self.looked = now;
        if self.allowed < 1.0 {
            self.left_out += 1;
            return false;
        }
        self.allowed -= 1.0;
        if self.left_out > 0 {
            tracing::warn!(bridge, lines = self.left_out, "the bridge says so much that lines of it were left out");
            self.left_out = 0;
        }
        true
    }
}

/// Logs a line that a bridge says, at a level: `ERROR`, `WARN`, `DEBUG`, `TRACE`, anything else for `INFO`.
pub fn log_line(bridge: &str, level: &str, text: &str) {
    let text = text.escape_debug().to_string().replace("\\'", "'");
    match level {
        "ERROR" => tracing::error!(bridge, "{text}"),
        "WARN" => tracing::warn!(bridge, "{text}"),
        "DEBUG" => tracing::debug!(bridge, "{text}"),
        "TRACE" => tracing::trace!(bridge, "{text}"),
        _ => tracing::info!(bridge, "{text}"),
    }
}

/// The word for a level of the protocol.
pub(super) fn word(level: i32) -> &'static str {
    match v1::LogLevel::try_from(level) {
        Ok(v1::LogLevel::Error) => "ERROR",
        Ok(v1::LogLevel::Warn) => "WARN",
        Ok(v1::LogLevel::Debug) => "DEBUG",
        Ok(v1::LogLevel::Trace) => "TRACE",
        _ => "INFO",
    }
}
