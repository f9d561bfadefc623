//! `[memory]`: keeping what is in memory off the disk.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Keeping what is in memory off the disk.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Memory {
    /// Whether all memory of the server is locked, so that keys and clear messages never reach a swap area: try (and say in the
    /// log and in `mesyx status` where it can't be), require (don't start otherwise), off. Needs root, or the limit
    /// of locked memory (LimitMEMLOCK= in a systemd unit) to be infinity. Needs a restart.
    pub(crate) lock: MemoryLock,
}

/// How much locking matters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MemoryLock {
    /// Where it can be.
    #[default]
    Try,
    /// No server without.
    Require,
    /// Not at all.
    Off,
}
