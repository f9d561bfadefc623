//! Log output.

use crate::config::{Log, LogFormat};
use std::io::IsTerminal;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

/// Changes the level while the program runs.
pub(crate) struct LogLevel(reload::Handle<EnvFilter, Registry>);

impl LogLevel {
    /// From now on.
    pub(crate) fn set(&self, level: &str) {
        if let Ok(filter) = filter(level)
            && let Err(error) = self.0.reload(filter)
        {
            tracing::warn!(%error, "the log level could not be changed");
        }
    }
}

/// What a level may be.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Reads a level, or levels of parts.
pub(crate) fn filter(level: &str) -> Result<EnvFilter, String> {
    // A word alone would be taken for the name of a part, with everything from it logged and nothing from the others.
    let known = |part: &&str| part.contains('=') || LEVELS.iter().any(|known| known.eq_ignore_ascii_case(part));
    if let Some(odd) = level.split(',').map(str::trim).find(|part| !known(part)) {
        return Err(format!("'{}' is no log level", odd.escape_debug()));
    }
    EnvFilter::builder().parse(level).map_err(|error| format!("'{}' is no log level: {error}", level.escape_debug()))
}

/// Sends logs to standard error as lines of JSON, which the server that started this process logs in its turn.
pub(crate) fn start_lines(level: &str) -> Result<(), String> {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).json().flatten_event(true);
    // It is started once, so there is none before.
    let _ = tracing_subscriber::registry().with(filter(level)?).with(lines).try_init();
    Ok(())
}

/// Sends logs to standard error from now on. `None` where that was done before.
pub(crate) fn start(log: &Log) -> Option<LogLevel> {
    let (filter, handle) = reload::Layer::new(filter(&log.level).unwrap_or_else(|_| EnvFilter::new("info")));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    // The service manager stamps lines itself.
    let stamped = std::env::var_os("JOURNAL_STREAM").is_some();
    let lines = match (log.format, stamped) {
        (LogFormat::Json, _) => lines.json().flatten_event(true).boxed(),
        (LogFormat::Text, true) => lines.without_time().with_ansi(false).boxed(),
        (LogFormat::Text, false) => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(lines).try_init().ok()?;
    Some(LogLevel(handle))
}
