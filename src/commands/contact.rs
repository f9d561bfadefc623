//! `mesyx contact`: the keys of correspondents, and how mail to them is protected.

use super::{parse, print_json, user};
use crate::cli::{Json, OldPassword};
use crate::config::check::Checked;
use crate::control::{Request, client};
use crate::exit::{Failure, USAGE, trying};
use crate::operate::contact::Change;
use clap::{Args, Subcommand};
use mesyx_core::pgp::{ContactReport, KeyReport, Policy, Signing};
use serde_json::json;
use std::io::Read;
use std::path::PathBuf;

/// Longest file of keys, in bytes.
const LONGEST: u64 = 128 << 10;

#[derive(Debug, Subcommand)]
pub(crate) enum Contact {
    /// List a user's contacts, and what happens to mail to each.
    #[command(after_help = "Example: mesyx contact list alice")]
    List {
        #[command(flatten)]
        whose: Whose,
        #[command(flatten)]
        json: Json,
    },
    /// Show a contact: its keys, where they come from, policy and pin.
    #[command(after_help = "Example: mesyx contact show alice bob@example.net")]
    Show {
        #[command(flatten)]
        whose: Whose,
        /// The contact's address.
        address: String,
        #[command(flatten)]
        json: Json,
    },
    /// Give a contact a key, binary or armored; it is trusted before any that was found.
    #[command(after_help = "Example: mesyx contact import alice bob@example.net bob.asc")]
    Import {
        #[command(flatten)]
        whose: Whose,
        /// The contact's address.
        address: String,
        /// The file of the key, or - for standard input.
        file: PathBuf,
        /// Take a key that does not name the address too.
        #[arg(long)]
        any_name: bool,
        #[command(flatten)]
        json: Json,
    },
    /// Use only this key of a contact, whatever is found later. Messages are held while it can't be used.
    #[command(after_help = "Example: mesyx contact pin alice bob@example.net 0123456789ABCDEF0123456789ABCDEF01234567")]
    Pin {
        #[command(flatten)]
        whose: Whose,
        /// The contact's address.
        address: String,
        /// The key's fingerprint.
        #[arg(required_unless_present = "none", conflicts_with = "none")]
        fingerprint: Option<String>,
        /// Take the pin away.
        #[arg(long)]
        none: bool,
        #[command(flatten)]
        json: Json,
    },
    /// Say that you compared a key's fingerprint with its owner: it is trusted before any that was merely found.
    #[command(
        after_help = "Example: mesyx contact verify alice bob@example.net 0123456789ABCDEF0123456789ABCDEF01234567"
    )]
    Verify {
        #[command(flatten)]
        whose: Whose,
        /// The contact's address.
        address: String,
        /// The key's fingerprint.
        fingerprint: String,
        #[command(flatten)]
        json: Json,
    },
    /// Set whether mail to a contact is encrypted: require, prefer, off, or default.
    #[command(after_help = "Example: mesyx contact policy alice bob@example.net require")]
    Policy {
        #[command(flatten)]
        whose: Whose,
        /// The contact's address; "all" sets what holds for contacts without a policy of their own.
        address: String,
        /// require, prefer, off; default: what holds for all, or what the configuration says.
        policy: String,
        #[command(flatten)]
        json: Json,
    },
    /// Set whether a user's encrypted messages are signed: require, prefer, off, or default.
    #[command(after_help = "Example: mesyx contact sign alice require")]
    Sign {
        #[command(flatten)]
        whose: Whose,
        /// require, prefer, off; default: what the configuration says.
        sign: String,
        #[command(flatten)]
        json: Json,
    },
    /// Forget a contact, with keys, pin and policy.
    #[command(after_help = "Example: mesyx contact forget alice bob@example.net")]
    Forget {
        #[command(flatten)]
        whose: Whose,
        /// The contact's address.
        address: String,
        #[command(flatten)]
        json: Json,
    },
}

/// Whose contacts, and what opens them: they are sealed to the user's identity.
#[derive(Debug, Args)]
pub(crate) struct Whose {
    /// The user's login name.
    pub(crate) user: String,
    #[command(flatten)]
    proof: OldPassword,
}

pub(super) fn execute(checked: &Checked, command: Contact) -> Result<(), Failure> {
    match command {
        Contact::List { whose, json } => {
            let value = ask(checked, whose, Change::List)?;
            if json.json {
                return print_json(&value);
            }
            let contacts: Vec<ContactReport> = parse(value)?;
            if contacts.is_empty() {
                say!(
                    "There are no contacts yet: keys are found as messages come and go, or given with `mesyx contact import`."
                );
            }
            for contact in contacts {
                let pinned = if contact.pin.is_some() { ", pinned" } else { "" };
                let keys = match contact.keys.first() {
                    Some(key) => format!("{} key from {}{pinned}", contact.keys.len(), key.source),
                    None => "no key".to_owned(),
                };
                let aside = if contact.aside.is_empty() { "" } else { "; OTHER KEYS WERE FOUND" };
                say!("{}  {}  {} ({keys}){aside}", contact.address, contact.effective_policy, contact.outcome);
            }
            Ok(())
        }
        Contact::Show { whose, address, json } => shown(checked, whose, Change::Show { address }, json.json),
        Contact::Import { whose, address, file, any_name, json } => {
            let key = read(&file)?;
            shown(checked, whose, Change::Import { address, key, any_name }, json.json)
        }
        Contact::Pin { whose, address, fingerprint, none, json } => {
            let fingerprint = fingerprint.filter(|_| !none);
            shown(checked, whose, Change::Pin { address, fingerprint }, json.json)
        }
        Contact::Verify { whose, address, fingerprint, json } => {
            shown(checked, whose, Change::Verify { address, fingerprint }, json.json)
        }
        Contact::Policy { whose, address, policy, json } => {
            let policy = word::<Policy>(&policy)?;
            let text = policy.map_or_else(|| "the default".to_owned(), |policy| policy.to_string());
            let of_all = address == "all";
            ask(checked, whose, Change::Policy { address: Some(address.clone()).filter(|_| !of_all), policy })?;
            if json.json {
                return print_json(&json!({ "address": address, "policy": policy }));
            }
            let whom = if of_all { "contacts without a policy of their own" } else { &address };
            say!("The policy for mail to {whom} is {text}.");
            Ok(())
        }
        Contact::Sign { whose, sign, json } => {
            let sign = word::<Signing>(&sign)?;
            ask(checked, whose, Change::Sign { sign })?;
            if json.json {
                return print_json(&json!({ "sign": sign }));
            }
            let text = sign.map_or_else(|| "the default".to_owned(), |sign| sign.to_string());
            say!("The policy for signing is {text}.");
            Ok(())
        }
        Contact::Forget { whose, address, json } => {
            ask(checked, whose, Change::Forget { address: address.clone() })?;
            if json.json {
                return print_json(&json!({ "address": address, "forgotten": true }));
            }
            say!("The contact {address} is forgotten.");
            Ok(())
        }
    }
}

fn ask(checked: &Checked, whose: Whose, change: Change) -> Result<serde_json::Value, Failure> {
    let proof = user::proof(&whose.proof)?;
    client::ask(checked, Request::Contact { name: whose.user, proof, change })
}

/// A policy's word; `None` for `default`.
fn word<T: std::str::FromStr<Err = String>>(text: &str) -> Result<Option<T>, Failure> {
    match text {
        "default" => Ok(None),
        text => text.parse().map(Some).map_err(|error| Failure::with(USAGE, format!("{error}, default"))),
    }
}

fn read(file: &std::path::Path) -> Result<Vec<u8>, Failure> {
    let mut key = Vec::new();
    let what = || file.display().to_string();
    if file.as_os_str() == "-" {
        std::io::stdin().lock().take(LONGEST + 1).read_to_end(&mut key).map_err(trying("standard input"))?;
    } else {
        let opened = std::fs::File::open(file).map_err(trying(what()))?;
        opened.take(LONGEST + 1).read_to_end(&mut key).map_err(trying(what()))?;
    }
    if key.len() as u64 > LONGEST {
        return Err(Failure::new(format!("{}: a key has at most {LONGEST} bytes here; export a smaller one", what())));
    }
    Ok(key)
}

/// Does something with a contact, and shows it as it is then.
fn shown(checked: &Checked, whose: Whose, change: Change, json: bool) -> Result<(), Failure> {
    let value = ask(checked, whose, change)?;
    if json {
        return print_json(&value);
    }
    let contact: ContactReport = parse(value)?;
    say!("{}", contact.address);
    let own = if contact.policy.is_some() { "its own" } else { "the default" };
    say!("  policy: {} ({own})", contact.effective_policy);
    say!("  mail sent now: {}", contact.outcome);
    if let Some(pin) = &contact.pin {
        say!("  pinned: {pin}");
    }
    for key in &contact.keys {
        show_key(key, if key.in_use { "key in use" } else { "key" });
    }
    for key in &contact.aside {
        show_key(key, "FOUND, NOT USED");
    }
    Ok(())
}

fn show_key(key: &KeyReport, what: &str) {
    say!("  {what}: {}", key.fingerprint);
    let authenticated = if key.authenticated { ", in mail shown to be from there" } else { "" };
    say!("      from {}{authenticated}; first {}, last {}", key.source, key.first_seen, key.last_seen);
    for user_id in &key.user_ids {
        say!("      {user_id}");
    }
    if let Some(why) = &key.unusable {
        say!("      can't be used: {why}");
    }
}
