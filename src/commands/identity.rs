//! `mesyx identity`.

use super::user::proof;
use super::{confirm, parse, print_json};
use crate::cli::{Json, OldPassword};
use crate::config::check::Checked;
use crate::control::keys::IdentityRequest;
use crate::control::{Hidden, Request, client};
use crate::exit::{Failure, USAGE, trying};
use clap::Subcommand;
use mesyx_core::keysets::{CertificateInfo, IdentityInfo};
use serde_json::Value;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub(crate) enum Identity {
    /// Show a user's identity: fingerprint, user IDs, expiry, where its secret key is, and the identities before it.
    #[command(after_help = "Example: mesyx identity show alice")]
    Show {
        /// The login name.
        user: String,
        #[command(flatten)]
        json: Json,
    },
    /// Write out a user's public certificate; with --secret, the secret key, as gpg and others import it.
    #[command(
        after_help = "Examples:\n  mesyx identity export alice > alice.asc\n  mesyx identity export alice --secret --to alice-secret.asc"
    )]
    Export {
        /// The login name.
        user: String,
        /// The identity to write out, by its fingerprint. Unless given: the present one.
        #[arg(long, value_name = "FINGERPRINT")]
        fingerprint: Option<String>,
        /// The secret key, not locked: whoever has the file can sign as the user and read mail encrypted to them. Needs the user's
        /// password or the recovery key.
        #[arg(long, requires = "to")]
        secret: bool,
        /// The file to write; it must not exist, and only you can read it. Unless given: standard output.
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        #[command(flatten)]
        old: OldPassword,
    },
    /// Make a new identity for the user's present addresses, certified by the old one. The old secret key stays, so that mail to it still
    /// opens. Needs the user's password or the recovery key.
    #[command(after_help = "Example: mesyx identity rotate alice --recovery-key-file key.txt")]
    Rotate {
        /// The login name.
        user: String,
        /// The kind of the new certificate: v4 (what GnuPG 2.2 and Thunderbird read), v6, pq. Unless given: as the configuration says.
        #[arg(long, value_parser = ["v4", "v6", "pq"])]
        profile: Option<String>,
        /// Have the old certificate say that it is superseded, so that nobody who has a fresh copy encrypts to it any more.
        #[arg(long)]
        revoke_old: bool,
        #[command(flatten)]
        old: OldPassword,
        /// Don't ask.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        json: Json,
    },
}

pub(super) fn execute(checked: &Checked, command: Identity) -> Result<(), Failure> {
    let ask = |request| client::ask(checked, Request::Identity { request });
    match command {
        Identity::Show { user, json } => show(&ask(IdentityRequest::Show { user })?, json.json),
        Identity::Export { user, fingerprint, secret: false, to, old: _ } => {
            let armored: String = parse(ask(IdentityRequest::Export { user, fingerprint })?)?;
            match to {
                Some(path) => write_new(&path, armored.as_bytes()),
                None => {
                    say!("{}", armored.trim_end());
                    Ok(())
                }
            }
        }
        Identity::Export { user, fingerprint, secret: true, to, old } => {
            let path = to.ok_or_else(|| Failure::with(USAGE, "say with --to which file to write"))?;
            refuse_existing(&path)?;
            let request = IdentityRequest::ExportSecret { user: user.clone(), fingerprint, proof: proof(&old)? };
            let armored: Hidden = parse(ask(request)?)?;
            write_new(&path, armored.0.expose())?;
            say!(
                "The secret key of {user} is in {}, not locked. Move it where only {user} can read it.",
                path.display()
            );
            Ok(())
        }
        Identity::Rotate { user, profile, revoke_old, old, yes, json } => {
            if !yes {
                let what =
                    format!("{user} gets a new public key. Whoever pinned the old one must be told of the new one.");
                confirm(&what, &user)?;
            }
            let request = IdentityRequest::Rotate { user, proof: proof(&old)?, profile, revoke: revoke_old };
            show(&ask(request)?, json.json)
        }
    }
}

fn show(value: &Value, json: bool) -> Result<(), Failure> {
    if json {
        return print_json(value);
    }
    let info: IdentityInfo = parse(value.clone())?;
    say!("identity of {}: {}", info.user, certificate(&info.certificate));
    for user_id in &info.user_ids {
        say!("  {user_id}");
    }
    for address in &info.missing_addresses {
        say!("  {address} is in no user ID: `mesyx identity rotate` brings it in");
    }
    let place = match (info.secret_here, info.unlocked) {
        (true, true) => "here, unlocked by a session of the user",
        (true, false) => "here, locked by the user's passwords",
        (false, _) => "not on this instance",
    };
    say!("  secret key: {place}");
    for earlier in &info.earlier {
        let opens = if earlier.secret_here { "mail to it still opens" } else { "its secret key is not here" };
        say!("before: {}; {opens}", certificate(&earlier.certificate));
    }
    Ok(())
}

/// A certificate on one line.
pub(super) fn certificate(info: &CertificateInfo) -> String {
    let expires = info.expires.as_ref().map_or_else(|| "does not expire".to_owned(), |at| format!("expires {at}"));
    let unusable = info.unusable.as_ref().map(|why| format!("; NOT USABLE: {why}")).unwrap_or_default();
    format!("{} ({}, made {}, {expires}){unusable}", info.fingerprint, info.kind, info.created)
}

fn refuse_existing(path: &Path) -> Result<(), Failure> {
    if path.exists() {
        return Err(Failure::new(format!("{} exists; nothing was written", path.display())));
    }
    Ok(())
}

/// Writes a file that does not exist yet and that only its owner can read; whole, or not at all.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).map_err(trying(path.display()))?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.map_err(|error| {
        let _ = std::fs::remove_file(path);
        Failure::new(format!("{}: {error}; nothing was written", path.display()))
    })
}
