//! `mesyx user`.

use super::{confirm, first_line, parse, print_json, prompt};
use crate::cli::{AppPassword, NewPassword, OldPassword, User};
use crate::config::check::Checked;
use crate::control::{Hidden, Proof, Request, client};
use crate::exit::{Failure, trying};
use crate::operate::Added;
use mesyx_core::admin::{Account, AppPassword as Listed, DiscardReport};
use mesyx_sdk::Secret;
use serde_json::json;
use std::fs::File;
use std::path::Path;

pub(super) fn execute(checked: &Checked, command: User) -> Result<(), Failure> {
    match command {
        User::Add { name, addresses, password, no_password, app_password, json } => {
            let password = if no_password { None } else { Some(Hidden(new_password(&password)?)) };
            let value = client::ask(checked, Request::UserAdd { name, addresses, password, app_password })?;
            added(parse(value)?, json.json)
        }
        User::List(output) => {
            let value = client::ask(checked, Request::UserList)?;
            if output.json {
                return print_json(&value);
            }
            for account in parse::<Vec<Account>>(value)? {
                let disabled = if account.disabled { "  (logins refused)" } else { "" };
                say!("{}  {}{disabled}", account.name, account.addresses.join(", "));
            }
            Ok(())
        }
        User::Remove { name, yes } => {
            if !yes {
                confirm(&format!("The user {name} and all messages of {name} will be gone for good."), &name)?;
            }
            client::ask(checked, Request::UserRemove { name: name.clone() })?;
            say!("The user {name} is gone.");
            Ok(())
        }
        User::Password { name, old, new, discard_keys, yes, json } => {
            if discard_keys {
                return discard(checked, &name, &new, yes, json.json);
            }
            let proof = proof(&old)?;
            let new = Hidden(new_password(&new)?);
            client::ask(checked, Request::UserPassword { name: name.clone(), proof, new })?;
            if json.json {
                return print_json(&json!({ "name": name }));
            }
            say!("The password of {name} is changed.");
            Ok(())
        }
        User::Rekey { name, old, new, json } => super::keyset_keys::rekey(checked, name, &old, &new, json.json),
        User::AppPassword { command } => app_password(checked, command),
    }
}

fn app_password(checked: &Checked, command: AppPassword) -> Result<(), Failure> {
    match command {
        AppPassword::Add { name, label, old, json } => {
            let proof = proof(&old)?;
            let request = Request::AppPasswordAdd { name, proof, label: label.clone() };
            let made: Hidden = parse(client::ask(checked, request)?)?;
            if json.json {
                return print_json(&json!({ "label": label, "password": made }));
            }
            say!("App password for {label}, shown only now: {}", made.text());
            Ok(())
        }
        AppPassword::List { name, json } => {
            let value = client::ask(checked, Request::AppPasswordList { name })?;
            if json.json {
                return print_json(&value);
            }
            for listed in parse::<Vec<Listed>>(value)? {
                let used = listed.last_used.as_deref().unwrap_or("never");
                say!("{}  {}  last used: {used}", listed.id, listed.label);
            }
            Ok(())
        }
        AppPassword::Revoke { name, which } => {
            client::ask(checked, Request::AppPasswordRevoke { name, which: which.clone() })?;
            say!("The app password {which} is gone.");
            Ok(())
        }
    }
}

fn discard(checked: &Checked, name: &str, new: &NewPassword, yes: bool, json: bool) -> Result<(), Failure> {
    let request = Request::DiscardReport { name: name.to_owned() };
    let report: DiscardReport = parse(client::ask(checked, request)?)?;
    let what = format!(
        "{} messages ({} bytes) of {name} become unreadable for good, with {} keysets; whoever pinned the user's public key must be told of the new one.",
        report.messages, report.bytes, report.keysets
    );
    if yes {
        eprintln!("{what}");
    } else {
        confirm(&what, name)?;
    }
    let new = Some(Hidden(new_password(new)?));
    added(parse(client::ask(checked, Request::DiscardKeys { name: name.to_owned(), new })?)?, json)
}

/// Shows what is shown once.
fn added(added: Added, json: bool) -> Result<(), Failure> {
    if json {
        return print_json(&added);
    }
    say!("User {} with {}", added.account.name, added.account.addresses.join(", "));
    say!("Recovery key, shown only now: {}", added.recovery_key.text());
    say!("It opens the user's messages where every password is lost. Keep it on paper.");
    if let Some(password) = &added.app_password {
        say!("App password, shown only now: {}", password.text());
    }
    Ok(())
}

pub(super) fn new_password(from: &NewPassword) -> Result<Secret, Failure> {
    if let Some(path) = &from.password_file {
        return from_file(path);
    }
    if from.password_stdin {
        return first_line(std::io::stdin().lock(), "standard input");
    }
    let otherwise = "--password-file or --password-stdin";
    let first = prompt("New password", otherwise)?;
    if prompt("Once more", otherwise)? != first {
        return Err(Failure::new("the two passwords differ; nothing was changed"));
    }
    Ok(first)
}

pub(super) fn proof(from: &OldPassword) -> Result<Proof, Failure> {
    if let Some(path) = &from.recovery_key_file {
        return Ok(Proof::RecoveryKey(Hidden(from_file(path)?)));
    }
    if let Some(path) = &from.old_password_file {
        return Ok(Proof::Password(Hidden(from_file(path)?)));
    }
    let password = prompt("Old password", "--old-password-file or --recovery-key-file")?;
    Ok(Proof::Password(Hidden(password)))
}

fn from_file(path: &Path) -> Result<Secret, Failure> {
    let file = File::open(path).map_err(trying(path.display()))?;
    first_line(file, &path.display().to_string())
}
