//! `mesyx dns`.

use super::{parse, print_json};
use crate::cli::Json;
use crate::config::check::Checked;
use crate::config::http::Announce;
use crate::control::{Request, client};
use crate::dns::keys::{KeysRequest, PublicKey};
use crate::dns::live::{self, Compared, Found};
use crate::dns::records::{self, Zone};
use crate::exit::{FAILED, Failure, trying};
use crate::serve::endpoints;
use crate::serve::status::Status;
use clap::{Args, Subcommand};
use mesyx_net::Dns as Resolver;
use serde_json::json;

/// What to show of DNS.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Dns {
    /// Of this domain alone. Unless given: of every configured domain.
    domain: Option<String>,
    /// As a zone file has them, and nothing else.
    #[arg(long, conflicts_with_all = ["json", "check"])]
    zone: bool,
    /// Look up what DNS says now; the exit code is 1 where something is missing or differs.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    json: Json,
    #[command(subcommand)]
    command: Option<DnsCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DnsCommand {
    /// The keys that sign outgoing mail (DKIM).
    #[command(
        after_help = "Example: mesyx dns keys list\n\nTo change the keys of a domain: `rotate` makes new ones; publish their records (`mesyx dns`); an hour after, \
         `activate` signs with them; a week after, `drop` forgets the old ones, and their records can go."
    )]
    Keys {
        #[command(subcommand)]
        command: Keys,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// List the keys of every domain.
    #[command(after_help = "Example: mesyx dns keys list --json")]
    List(Json),
    /// Make keys for the domains that have none; they sign within a minute.
    #[command(after_help = "Example: mesyx dns keys add example.com")]
    Add {
        /// The domain. Unless given: every configured domain.
        domain: Option<String>,
    },
    /// Make the keys that are to follow. They sign nothing yet.
    #[command(after_help = "Example: mesyx dns keys rotate example.org")]
    Rotate {
        /// The domain.
        domain: String,
    },
    /// Sign with the keys that `rotate` made, and no more with the old ones, whose secret parts are destroyed.
    #[command(after_help = "Example: mesyx dns keys activate example.org")]
    Activate {
        /// The domain.
        domain: String,
    },
    /// Forget the old keys.
    #[command(after_help = "Example: mesyx dns keys drop example.org")]
    Drop {
        /// The domain.
        domain: String,
    },
}

pub(super) fn execute(checked: &Checked, dns: Dns) -> Result<(), Failure> {
    match dns.command {
        Some(DnsCommand::Keys { command }) => keys(checked, command),
        None => show(checked, &dns),
    }
}

fn show(checked: &Checked, dns: &Dns) -> Result<(), Failure> {
    let zones = zones(checked, dns.domain.as_deref())?;
    if dns.check {
        return compare(checked, &zones, dns.json.json);
    }
    if dns.json.json {
        return print_json(&zones);
    }
    for zone in &zones {
        if dns.zone {
            zone.records.iter().for_each(|record| say!("{record}"));
            continue;
        }
        say!("; {}", zone.domain);
        let mut purpose = "";
        for record in &zone.records {
            if record.purpose != purpose {
                purpose = record.purpose;
                say!("\n; {purpose}");
            }
            say!("{record}");
        }
        say!("");
        zone.hints.iter().for_each(|hint| say!("; {hint}"));
    }
    Ok(())
}

/// The records of one domain, or of all.
fn zones(checked: &Checked, only: Option<&str>) -> Result<Vec<Zone>, Failure> {
    let domains: Vec<&str> = checked.core.domains.iter().filter_map(|domain| domain.domain.as_name()).collect();
    let wanted = match only {
        None => domains,
        Some(name) => {
            let parsed = name.parse::<mesyx_sdk::Domain>().ok();
            let asked = parsed.as_ref().and_then(|domain| domain.as_name());
            let known = domains.into_iter().find(|domain| Some(*domain) == asked);
            vec![known.ok_or_else(|| Failure::new(format!("{name} is none of the configured domains")))?]
        }
    };
    let keys: Vec<PublicKey> = parse(client::ask(checked, KeysRequest::List.into())?)?;
    let servers = servers(checked)?;
    Ok(wanted.into_iter().map(|domain| records::of(domain, checked, &keys, &servers)).collect())
}

/// Where mail programs reach us: at the ports that the running server listens on, else at those that are configured.
fn servers(checked: &Checked) -> Result<Vec<Announce>, Failure> {
    let mut endpoints = endpoints::configured(&checked.bridges);
    if client::is_running(checked)? {
        let status: Status = parse(client::ask_server(&checked.control_socket, Request::Status)?)?;
        endpoints = endpoints::running(&endpoints, &status.bridges);
    }
    endpoints.retain(|endpoint| endpoint.address.port() != 0);
    let host = &checked.core.hostname;
    Ok(endpoints::servers(&endpoints, &checked.http.announce, host, host))
}

fn compare(checked: &Checked, zones: &[Zone], as_json: bool) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(trying("a runtime"))?;
    let resolver = Resolver::new(&checked.dns).map_err(Failure::new)?;
    let mut all: Vec<Compared> = Vec::new();
    for zone in zones {
        all.extend(runtime.block_on(live::compare(zone, &resolver, &checked.core.hostname)));
    }
    let wrong = all.iter().filter(|compared| compared.dns != Found::Right).count();
    if as_json {
        print_json(&json!({ "ok": wrong == 0, "records": all }))?;
    } else {
        for compared in &all {
            let record = &compared.record;
            say!(
                "{:<8} {} {}",
                if compared.dns == Found::Right { "ok" } else { "WRONG" },
                record.name,
                record.data.kind()
            );
            if compared.dns != Found::Right {
                say!("         {}; it should be: {}", compared.dns.text(), record.data);
            }
        }
    }
    match wrong {
        0 => Ok(()),
        // What is wrong stands in the JSON.
        _ if as_json => Err(Failure::with(FAILED, "")),
        wrong => Err(Failure::new(format!("{wrong} of {} records are not as they should be", all.len()))),
    }
}

fn keys(checked: &Checked, command: Keys) -> Result<(), Failure> {
    match command {
        Keys::List(output) => {
            let value = client::ask(checked, KeysRequest::List.into())?;
            if output.json {
                return print_json(&value);
            }
            for key in parse::<Vec<PublicKey>>(value)? {
                let state = format!("{:?}", key.state).to_lowercase();
                say!("{}  {}  {}  {state}  made {}", key.domain, key.selector, key.algorithm.name(), key.made);
            }
            Ok(())
        }
        Keys::Add { domain } => {
            let made: Vec<String> = parse(client::ask(checked, KeysRequest::Add { domain }.into())?)?;
            if made.is_empty() {
                say!("Nothing to do: there are keys already. `mesyx dns keys rotate DOMAIN` makes new ones.");
            }
            for domain in made {
                say!("Made keys for {domain}. Publish their records now: mesyx dns {domain}");
            }
            Ok(())
        }
        Keys::Rotate { domain } => {
            client::ask(checked, KeysRequest::Rotate { domain: domain.clone() }.into())?;
            say!(
                "Made the next keys of {domain}. Publish their records (mesyx dns {domain}); after an hour: mesyx dns keys activate {domain}"
            );
            Ok(())
        }
        Keys::Activate { domain } => {
            client::ask(checked, KeysRequest::Activate { domain: domain.clone() }.into())?;
            say!(
                "{domain} signs with its new keys within a minute. Leave the old records in DNS for a week; then: mesyx dns keys drop {domain}"
            );
            Ok(())
        }
        Keys::Drop { domain } => {
            client::ask(checked, KeysRequest::Drop { domain: domain.clone() }.into())?;
            say!("The old keys of {domain} are forgotten; their records can go from DNS.");
            Ok(())
        }
    }
}
