//! The section `[groups]`.

use mesyx_core::settings::GroupLimits;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Limits of groups of users, the channels of chat networks.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Groups {
    /// Groups on this server. All are held in memory, some KiB each.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) groups: usize,
    /// Members of one group: each new key is sealed for all of them.
    #[schemars(range(min = 2, max = 10_000))]
    pub(crate) members: usize,
    /// Groups that one user belongs to; clients list them all.
    #[schemars(range(min = 1, max = 10_000))]
    pub(crate) groups_of_one: usize,
    /// Masks on one list (bans, exceptions, invitations), as networks have it; each is compared with whoever joins or speaks.
    #[schemars(range(min = 1, max = 10_000))]
    pub(crate) masks: usize,
    /// Longest topic, in bytes. Networks allow 300 to 400, and one line of IRC takes 512.
    #[schemars(range(min = 50, max = 390))]
    pub(crate) topic_bytes: usize,
    /// Longest name of a new group, in bytes with its #. It is the local part of a mail address too, where some characters take three.
    #[schemars(range(min = 2, max = 50))]
    pub(crate) name_bytes: usize,
    /// Lines that one key seals: a key that leaks opens no more than these. Fewer cost a sealing for each member more often.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) epoch_lines: u32,
    /// For how many seconds one key serves, for the same reason: an hour.
    #[schemars(range(min = 1, max = 86_400))]
    pub(crate) epoch: u64,
}

impl Default for Groups {
    fn default() -> Self {
        let core = GroupLimits::default();
        Self {
            groups: core.groups,
            members: core.members,
            groups_of_one: core.groups_of_one,
            masks: core.masks,
            topic_bytes: core.topic_bytes,
            name_bytes: core.name_bytes,
            epoch_lines: core.epoch_lines,
            epoch: core.epoch.as_secs(),
        }
    }
}

impl From<&Groups> for GroupLimits {
    fn from(groups: &Groups) -> Self {
        Self {
            groups: groups.groups,
            members: groups.members,
            groups_of_one: groups.groups_of_one,
            masks: groups.masks,
            topic_bytes: groups.topic_bytes,
            name_bytes: groups.name_bytes,
            epoch_lines: groups.epoch_lines,
            epoch: Duration::from_secs(groups.epoch),
        }
    }
}
