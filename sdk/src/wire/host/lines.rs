//! What bridges say, in the host's log.

use super::pace::Pace;
use crate::wire::v1;
use tokio::time::Instant;

/// Lines of one bridge that are logged at once, and how many more each second.
const BURST: u32 = 200;
const PER_SECOND: u32 = 20;

/// How much more of what a bridge says is logged now: 200 lines at once, and 20 more each second.
#[derive(Debug)]
pub struct Allowance {
    pace: Pace,
    left_out: u64,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { pace: Pace::with_burst(PER_SECOND, BURST), left_out: 0 }
    }
}

impl Allowance {
    /// Whether one more line is logged. Says in the log how many of this bridge's were not since the last that was.
    pub fn one_more(&mut self, bridge: &str) -> bool {
        if !self.pace.take_now(Instant::now()) {
            self.left_out += 1;
            return false;
        }
        if self.left_out > 0 {
            tracing::warn!(bridge, lines = self.left_out, "the bridge says so much that lines of it were left out");
            self.left_out = 0;
        }
        true
    }
}

/// What a bridge says, as it may be shown: in one line, without control characters.
#[must_use]
pub fn escaped(text: &str) -> String {
    text.escape_debug().to_string().replace("\\'", "'")
}

/// Logs a line that a bridge says, at a level: `ERROR`, `WARN`, `DEBUG`, `TRACE`, anything else for `INFO`.
pub fn log_line(bridge: &str, level: &str, text: &str) {
    let text = escaped(text);
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
