//! `mesyx check`: errors of the configuration, and what will not go as its author may think.

use super::{parse, print_json};
use crate::config::check::{self, Checked};
use crate::control::{Request, client};
use crate::exit::{CONFIG, Failure};
use crate::http::LABELS;
use crate::serve::registry;
use crate::tls;
use mesyx_core::admin::Account;
use mesyx_core::lookup;
use serde_json::json;
use std::path::Path;

pub(super) fn check(path: &Path, as_json: bool) -> Result<(), Failure> {
    let result = check::read(path, &registry());
    let warnings = result.as_ref().map(warnings).unwrap_or_default();
    if as_json {
        let problems = result.as_ref().err().map_or(&[][..], Vec::as_slice);
        print_json(&json!({ "ok": result.is_ok(), "problems": problems, "warnings": warnings }))?;
        return result.map(drop).map_err(|_| Failure::with(CONFIG, ""));
    }
    let checked = result?;
    let bridges: Vec<_> = checked.bridges.iter().map(|bridge| bridge.manifest.name.as_str()).collect();
    say!("{}: no errors; bridges: {}", path.display(), bridges.join(", "));
    for warning in warnings {
        say!("warning: {warning}");
    }
    Ok(())
}

/// What is no error, but will not work as it stands.
fn warnings(checked: &Checked) -> Vec<String> {
    let mut warnings = uncovered(checked);
    for bridge in checked.bridges.iter().filter(|bridge| !bridge.run.is_own()) {
        let ungranted: Vec<_> = bridge.ungranted().iter().map(ToString::to_string).collect();
        if !ungranted.is_empty() {
            let (name, what) = (&bridge.manifest.name, ungranted.join(", "));
            warnings.push(format!("the bridge {name} was not granted {what}, which it asks for"));
        }
    }
    match users(checked) {
        Ok(users) => warnings.extend(lookup::problems(&checked.core, &users)),
        Err(why) => {
            warnings.push(format!("whether aliases, catch-alls and postmaster name users was not checked: {why}"))
        }
    }
    warnings
}

/// Names that others ask for by TLS, and that no certificate has.
fn uncovered(checked: &Checked) -> Vec<String> {
    let Ok(certificates) = checked.certificates() else { return Vec::new() };
    let names: Vec<String> = certificates.0.into_iter().flat_map(|identity| identity.names).collect();
    if names.is_empty() {
        return Vec::new();
    }
    let domains = checked.core.domains.iter().filter_map(|domain| domain.domain.as_name());
    let mut needed = vec![(checked.core.hostname.clone(), "mail programs and other hosts")];
    if checked.http.listeners.iter().any(|(_, tls)| *tls) {
        for domain in domains {
            for label in LABELS {
                let why = match label {
                    "mta-sts" if checked.http.policy.is_some() => "hosts that look for an MTA-STS policy",
                    "openpgpkey" if checked.http.wkd => "programs that look for OpenPGP certificates",
                    "autoconfig" | "autodiscover" if checked.http.autoconfig => "mail programs that set themselves up",
                    _ => continue,
                };
                needed.push((format!("{label}.{domain}"), why));
            }
        }
    }
    let missing = needed.into_iter().filter(|(name, _)| !tls::covers(&names, name));
    missing.map(|(name, why)| format!("no TLS certificate has the name {name}, which {why} ask for")).collect()
}

/// The users: from the running server, else from the store where it lies, which is not changed by it.
fn users(checked: &Checked) -> Result<Vec<Account>, String> {
    match client::is_running(checked) {
        Ok(true) => {
            let answer = client::ask_server(&checked.control_socket, Request::UserList);
            answer.and_then(parse).map_err(|failure| failure.text)
        }
        Ok(false) => lookup::users_at_rest(&checked.core).map_err(|error| error.message().to_owned()),
        Err(failure) => Err(failure.text),
    }
}
