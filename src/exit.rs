//! How a command ends: exit codes, and what is said on standard error.

use crate::config::locate::Problem;
use std::fmt::Display;

/// It failed.
pub(crate) const FAILED: u8 = 1;
/// The command line makes no sense (clap's own code too).
pub(crate) const USAGE: u8 = 2;
/// The configuration has errors.
pub(crate) const CONFIG: u8 = 3;
/// The server is not running, or can't be reached.
pub(crate) const NOT_RUNNING: u8 = 4;

/// What `--help` says of exit codes.
pub(crate) const HELP: &str = "Exit codes: 0 done; 1 failed; 2 wrong command line; 3 errors in the configuration; \
     4 the server is not running or can't be reached.";

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) code: u8,
    /// What to say, one line each.
    pub(crate) text: String,
}

impl Failure {
    /// With code 1.
    pub(crate) fn new(text: impl Display) -> Self {
        Self { code: FAILED, text: text.to_string() }
    }

    /// With another code.
    pub(crate) fn with(code: u8, text: impl Display) -> Self {
        Self { code, text: text.to_string() }
    }
}

impl From<mesyx_sdk::Error> for Failure {
    fn from(error: mesyx_sdk::Error) -> Self {
        Self::new(error.message())
    }
}

impl From<Vec<Problem>> for Failure {
    fn from(problems: Vec<Problem>) -> Self {
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        Self::with(CONFIG, lines.join("\n"))
    }
}

/// Adds what was tried to an error of the operating system.
pub(crate) fn trying<E: Display>(what: impl Display) -> impl FnOnce(E) -> Failure {
    move |error| Failure::new(format!("{what}: {error}"))
}
