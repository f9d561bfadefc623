//! `mesyx group`: groups of users, the channels of chat networks.

use super::{parse, print_json};
use crate::cli::Json;
use crate::config::check::Checked;
use crate::control::{Request, client};
use crate::exit::Failure;
use crate::operate::group::{GroupReport, GroupRequest};
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Groups {
    /// List the groups, with how many belong to each and who leads it. Topics and what is said are not shown.
    #[command(after_help = "Example: mesyx group list --json")]
    List(Json),
}

pub(super) fn execute(checked: &Checked, command: &Groups) -> Result<(), Failure> {
    match command {
        Groups::List(json) => {
            let value = client::ask(checked, Request::Group(GroupRequest::List))?;
            if json.json {
                return print_json(&value);
            }
            let groups: Vec<GroupReport> = parse(value)?;
            if groups.is_empty() {
                say!("There are no groups.");
            }
            for group in groups {
                let leads = |rank: &str| rank == "founder" || rank == "operator";
                let leaders = group.members.iter().filter(|member| leads(&member.rank));
                let leaders: Vec<&str> = leaders.map(|member| member.name.as_str()).collect();
                let (name, count) = (&group.name, group.members.len());
                say!(
                    "{name}  +{}  since {}  {count} members  led by {}",
                    group.modes,
                    group.founded,
                    leaders.join(", ")
                );
            }
            Ok(())
        }
    }
}
