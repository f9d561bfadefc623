//! What `mesyx status` shows.

use super::memory::MemoryStatus;
use mesyx_core::admin::CoreStatus;
use serde::{Deserialize, Serialize};

/// How the running server does.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    /// The program's version.
    pub(crate) version: String,
    /// The server's process.
    pub(crate) pid: u32,
    /// Since when it runs, as RFC 3339 in UTC.
    pub(crate) since: String,
    /// The host's name.
    pub(crate) hostname: String,
    /// The parts that run.
    pub(crate) modes: Vec<String>,
    /// Which secrets this instance holds.
    pub(crate) secrets: Vec<String>,
    /// The core's numbers.
    pub(crate) core: CoreStatus,
    /// Messages that wait to be sent.
    pub(crate) queue: mesyx_core::queue::operate::QueueStatus,
    /// The bridges.
    pub(crate) bridges: Vec<mesyx_bridges::Status>,
    /// The names that certificates are served for; one list for each.
    pub(crate) certificates: Vec<Vec<String>>,
    /// Where the admin listener is.
    pub(crate) admin: Option<String>,
    /// Whether memory is locked.
    pub(crate) memory: MemoryStatus,
    /// Where the pages for mail programs and other hosts are.
    pub(crate) http: Vec<String>,
}
