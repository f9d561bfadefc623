//! What happened to messages, remembered without anybody's address.

use serde::{Deserialize, Serialize};

/// One thing that happened, as `mesyx trace` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceLine {
    /// When, as RFC 3339 in UTC.
    pub time: String,
    /// The message's id, where there is one.
    pub message: Option<String>,
    /// Which side the address asked for was on: `from` or `to`.
    pub side: String,
    /// What happened, in a few words.
    pub what: String,
}
