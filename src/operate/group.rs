//! What an operator asks of groups.

use crate::exit::{Failure, trying};
use mesyx_core::core::Core;
use mesyx_sdk::{Group, Rank};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A request about groups.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do", deny_unknown_fields)]
pub(crate) enum GroupRequest {
    /// → list of [`GroupReport`]
    List,
}

/// A group as an operator sees it: who belongs to it, not what is said in it, nor about what.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct GroupReport {
    /// Its name.
    pub(crate) name: String,
    /// The day on which it was founded.
    pub(crate) founded: String,
    /// Modes that are set, without their parameters.
    pub(crate) modes: String,
    /// Its members, by name.
    pub(crate) members: Vec<MemberReport>,
}

/// A member.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MemberReport {
    /// The login name.
    pub(crate) name: String,
    /// `founder`, `operator`, `voice` or `member`.
    pub(crate) rank: String,
}

/// Carries out a request.
pub(crate) fn operate(core: &Core, request: &GroupRequest) -> Result<Value, Failure> {
    match request {
        GroupRequest::List => {
            let reports: Vec<GroupReport> = core.all_groups().iter().map(|group| report(group)).collect();
            serde_json::to_value(reports).map_err(trying("the answer"))
        }
    }
}

fn report(group: &Group) -> GroupReport {
    let rank = |rank: Rank| match rank {
        Rank::Founder => "founder",
        Rank::Operator => "operator",
        Rank::Voice => "voice",
        Rank::Member => "member",
    };
    let members = group.members.iter();
    GroupReport {
        name: group.name.clone(),
        founded: group.created.utc().date().to_string(),
        modes: group.modes.keys().collect(),
        members: members
            .map(|member| MemberReport { name: member.name.clone(), rank: rank(member.rank).to_owned() })
            .collect(),
    }
}
