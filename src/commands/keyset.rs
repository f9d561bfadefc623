//! `mesyx keyset`.

use super::identity::certificate;
use super::user::proof;
use super::{parse, print_json, prompt};
use crate::cli::{Json, OldPassword};
use crate::config::check::Checked;
use crate::control::keys::{Adding, KeysetRequest};
use crate::control::{Hidden, Request, client};
use crate::exit::{Failure, trying};
use clap::Subcommand;
use mesyx_core::keys::Span;
use mesyx_core::keys::import::ImportError;
use mesyx_core::keysets::{
    AuditLine, Counted, KeysetInfo, PlannedWeek, Removed, RotationInfo, read_public, read_secret,
};
use mesyx_sdk::Secret;
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Longest key file that is read.
const MAX_FILE: u64 = 1 << 20;

#[derive(Debug, Subcommand)]
pub(crate) enum Keyset {
    /// List a user's keysets as a timeline: spans, importance, certificates, where the secret keys are, messages.
    #[command(after_help = "Example: mesyx keyset list alice")]
    List {
        /// The login name.
        user: String,
        #[command(flatten)]
        json: Json,
    },
    /// Show which keyset each coming week would use.
    #[command(after_help = "Example: mesyx keyset plan alice --weeks 26")]
    Plan {
        /// The login name.
        user: String,
        /// How many weeks, this one included; at most 104.
        #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=104))]
        weeks: u16,
        #[command(flatten)]
        json: Json,
    },
    /// Add a keyset: with a key made here, or with certificates made elsewhere.
    #[command(
        after_help = "Examples:\n  mesyx keyset add alice --span 2027\n  mesyx keyset add alice --span always --importance high --name vault --profile pq\n  mesyx keyset add alice --span 2027-03 --certificate march.asc      (the secret key stays with you)\n\nSpans, in UTC: always, 2027, 2027-03, 2027-W09, FROM..UNTIL in days (either may be missing), and spans that move with\nthe time: weekly, monthly, yearly, last-7-days, last-week. Of the keysets that cover a message, the one for the fewest levels\nof importance is sealed to, among those the one with the shortest span. Two that are equally specific are refused."
    )]
    Add {
        /// The login name.
        user: String,
        /// When its messages arrive.
        #[arg(long, value_parser = span)]
        span: String,
        /// Its name. Unless given: the span.
        #[arg(long)]
        name: Option<String>,
        /// For messages of these levels: low, normal, high. Unless given: all.
        #[arg(long, value_delimiter = ',', value_parser = ["low", "normal", "high"])]
        importance: Option<Vec<String>>,
        /// The kind of key that is made: v4, v6, pq. Unless given: as the configuration says.
        #[arg(long, value_parser = ["v4", "v6", "pq"], conflicts_with = "certificates")]
        profile: Option<String>,
        /// A certificate that was made elsewhere, in place of a key made here. Several: each alone opens the messages.
        #[arg(long = "certificate", value_name = "FILE")]
        certificates: Vec<PathBuf>,
        /// Keep the secret keys of these files too, so that this server opens the messages.
        #[arg(long, requires = "certificates")]
        with_secret: bool,
        #[command(flatten)]
        old: OldPassword,
        #[command(flatten)]
        json: Json,
    },
    /// Stop sealing to a keyset. Its secret key stays, so that its messages open.
    #[command(
        after_help = "Examples:\n  mesyx keyset remove alice 2026-W40\n  mesyx keyset remove alice 2026-W40 --discard-secret      (refused while messages are sealed to it)"
    )]
    Remove {
        /// The login name.
        user: String,
        /// The keyset: its name or id.
        keyset: String,
        /// Throw the secret key away too, for good. Refused while messages are sealed to it.
        #[arg(long)]
        discard_secret: bool,
        #[command(flatten)]
        json: Json,
    },
    /// Change a keyset's name, span or importance. What was sealed to it stays sealed to it.
    #[command(after_help = "Example: mesyx keyset set alice vault --importance high --span 2027")]
    Set {
        /// The login name.
        user: String,
        /// The keyset: its name or id.
        keyset: String,
        /// A new name.
        #[arg(long)]
        name: Option<String>,
        /// A new span.
        #[arg(long, value_parser = span)]
        span: Option<String>,
        /// New levels: low, normal, high.
        #[arg(long, value_delimiter = ',', value_parser = ["low", "normal", "high"])]
        importance: Option<Vec<String>>,
        /// Seal to it again, after it was removed.
        #[arg(long)]
        in_use: bool,
        #[command(flatten)]
        json: Json,
    },
    /// Make a keyset the default: it takes what no other covers. The one before is removed, and its secret key stays.
    #[command(after_help = "Example: mesyx keyset default alice new-default")]
    Default {
        /// The login name.
        user: String,
        /// The keyset: its name or id.
        keyset: String,
        #[command(flatten)]
        json: Json,
    },
    /// Bring a newer version of a keyset's certificate, or further certificates: with a later expiry, revoked, or others.
    #[command(after_help = "Example: mesyx keyset certificate alice 2027-03 march-extended.asc")]
    Certificate {
        /// The login name.
        user: String,
        /// The keyset: its name or id.
        keyset: String,
        /// Files with certificates. Secret parts are left aside.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Add them beside those that it has; each alone opens what comes in from now on.
        #[arg(long)]
        add: bool,
        /// Put them in the place of one that it has.
        #[arg(long, value_name = "FINGERPRINT", conflicts_with = "add")]
        replace: Option<String>,
        #[command(flatten)]
        json: Json,
    },
    /// Show or set how keysets are renewed: a new one for each week, month or year, made ahead while the user is logged in.
    #[command(
        after_help = "Examples:\n  mesyx keyset rotation alice\n  mesyx keyset rotation alice --every month\n  mesyx keyset rotation alice --every week --importance high --profile pq\n  mesyx keyset rotation alice --every year --uploaded      (warns when you have to upload the next certificate)\n  mesyx keyset rotation alice --every none"
    )]
    Rotation {
        /// The login name.
        user: String,
        /// week, month, year; none takes the rule away.
        #[arg(long, value_parser = ["week", "month", "year", "none"])]
        every: Option<String>,
        /// For messages of these levels: low, normal, high. Unless given: all.
        #[arg(long, value_delimiter = ',', value_parser = ["low", "normal", "high"], requires = "every")]
        importance: Option<Vec<String>>,
        /// The kind of keys: v4, v6, pq. Unless given: as the configuration says.
        #[arg(long, value_parser = ["v4", "v6", "pq"], requires = "every")]
        profile: Option<String>,
        /// Make none: certificates made elsewhere are uploaded with `keyset add`.
        #[arg(long, requires = "every")]
        uploaded: bool,
        #[command(flatten)]
        json: Json,
    },
    /// Show, for each secret key on this instance, how many messages it opens and from which days; and what no key here opens.
    #[command(after_help = "Example: mesyx keyset audit alice --json")]
    Audit {
        /// The login name. Unless given: every user.
        user: Option<String>,
        #[command(flatten)]
        json: Json,
    },
}

pub(super) fn execute(checked: &Checked, command: Keyset) -> Result<(), Failure> {
    let ask = |request| client::ask(checked, Request::Keyset { request });
    match command {
        Keyset::List { user, json } => {
            let value = ask(KeysetRequest::List { user })?;
            if json.json {
                return print_json(&value);
            }
            parse::<Vec<KeysetInfo>>(value)?.iter().for_each(show);
            Ok(())
        }
        Keyset::Plan { user, weeks, json } => show_plan(&ask(KeysetRequest::Plan { user, weeks })?, json.json),
        Keyset::Add { user, span, name, importance, profile, certificates, with_secret, old, json } => {
            let files = read_files(&certificates, with_secret)?;
            let keeps = files.is_empty() || with_secret;
            let given = old.old_password_file.is_some() || old.recovery_key_file.is_some();
            let needs = || parse::<bool>(ask(KeysetRequest::NeedsProof { user: user.clone() })?);
            let proof = if keeps && (given || needs()?) { Some(proof(&old)?) } else { None };
            let new = Adding { name, span, importance, profile, files, with_secret };
            changed(&ask(KeysetRequest::Add { user, new, proof })?, json.json)
        }
        Keyset::Remove { user, keyset, discard_secret, json } => {
            let value = ask(KeysetRequest::Remove { user, keyset, discard: discard_secret })?;
            if json.json {
                return print_json(&value);
            }
            removed(&parse(value)?);
            Ok(())
        }
        Keyset::Set { user, keyset, name, span, importance, in_use, json } => {
            changed(&ask(KeysetRequest::Set { user, keyset, name, span, importance, in_use })?, json.json)
        }
        Keyset::Default { user, keyset, json } => changed(&ask(KeysetRequest::Default { user, keyset })?, json.json),
        Keyset::Certificate { user, keyset, files, add, replace, json } => {
            let files = read_files(&files, false)?;
            changed(&ask(KeysetRequest::Certificate { user, keyset, files, add, replace })?, json.json)
        }
        Keyset::Rotation { user, every: None, json, .. } => {
            show_rotation(&ask(KeysetRequest::Rotation { user })?, json.json)
        }
        Keyset::Rotation { user, every: Some(every), importance, profile, uploaded, json } => {
            let every = Some(every).filter(|every| every != "none");
            let request = KeysetRequest::SetRotation { user, importance, every, profile, uploaded };
            show_rotation(&ask(request)?, json.json)
        }
        Keyset::Audit { user, json } => show_audit(&ask(KeysetRequest::Audit { user })?, json.json),
    }
}

fn span(text: &str) -> Result<String, String> {
    text.parse::<Span>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// Reads key files. Secret parts leave this process only where they are to be kept.
fn read_files(paths: &[PathBuf], with_secret: bool) -> Result<Vec<Hidden>, Failure> {
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let bytes = read_file(path)?;
        let told = |error: mesyx_sdk::Error| Failure::new(format!("{}: {}", path.display(), error.message()));
        if with_secret {
            files.push(Hidden(unlocked(path, &bytes)?));
            continue;
        }
        let (armored, had_secret) = read_public(&bytes).map_err(told)?;
        if had_secret {
            eprintln!(
                "{} holds a secret key: only its public part is used. --with-secret of `keyset add` would keep the secret key here.",
                path.display()
            );
        }
        files.push(Hidden(Secret::new(armored)));
    }
    Ok(files)
}

/// A secret key from a file, unlocked; a passphrase is asked for where it is locked.
fn unlocked(path: &Path, bytes: &[u8]) -> Result<Secret, Failure> {
    let told = |error: ImportError| Failure::new(format!("{}: {error}", path.display()));
    match read_secret(bytes, None) {
        Err(ImportError::PassphraseNeeded) => {
            let passphrase = prompt(&format!("Passphrase of {}", path.display()), "a file whose key is not locked")?;
            read_secret(bytes, Some(&passphrase)).map_err(told)
        }
        result => result.map_err(told),
    }
}

fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let file = std::fs::File::open(path).map_err(trying(path.display()))?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(trying(path.display()))?;
    Ok(bytes)
}

fn changed(value: &Value, json: bool) -> Result<(), Failure> {
    if json {
        return print_json(value);
    }
    show(&parse(value.clone())?);
    Ok(())
}

fn show(info: &KeysetInfo) {
    let importance = if info.importance.len() == 3 { "all".to_owned() } else { info.importance.join(", ") };
    let mut marks = Vec::new();
    if info.default {
        marks.push("default".to_owned());
    }
    if let Some(day) = &info.retired {
        marks.push(format!("removed {day}"));
    }
    let marks = if marks.is_empty() { String::new() } else { format!("  [{}]", marks.join(", ")) };
    say!("{}  span {}, importance {importance}{marks}", info.name, info.span);
    let day = |at: &Option<String>| at.as_ref().map_or_else(|| "…".to_owned(), |at| at.chars().take(10).collect());
    if info.from.is_some() || info.until.is_some() {
        say!("    from {} until {}", day(&info.from), day(&info.until));
    }
    for one in &info.certificates {
        say!("    {}", certificate(one));
    }
    let secret = if info.secret_here { "here, locked by the user's passwords" } else { "not here (offline)" };
    say!("    secret key: {secret}; {}", messages(&info.sealed));
}

fn messages(counted: &Counted) -> String {
    let Counted { messages, first_day, last_day, .. } = counted;
    match (first_day, last_day) {
        (Some(first), Some(last)) => format!("{messages} messages from {first} to {last}"),
        _ => format!("{messages} messages"),
    }
}

fn show_plan(value: &Value, json: bool) -> Result<(), Failure> {
    if json {
        return print_json(value);
    }
    for week in parse::<Vec<PlannedWeek>>(value.clone())? {
        let names = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", then ") };
        let (low, normal, high) = (names(&week.low), names(&week.normal), names(&week.high));
        if low == normal && normal == high {
            say!("{} from {}: {normal}", week.week, week.from);
        } else {
            say!("{} from {}: low {low}; normal {normal}; high {high}", week.week, week.from);
        }
        week.problems.iter().for_each(|problem| say!("    {problem}"));
    }
    Ok(())
}

fn removed(removed: &Removed) {
    let Removed { name, messages, secret_here, gone } = removed;
    if *gone {
        say!("{name} is gone, and its secret key with it. No message was sealed to it.");
        return;
    }
    say!("Nothing is sealed to {name} any more. {messages} messages depend on its secret key.");
    if *secret_here {
        say!("The secret key stays here, so that they open.");
    } else {
        say!("The secret key is not here: keep it where it is.");
    }
}

fn show_rotation(value: &Value, json: bool) -> Result<(), Failure> {
    if json {
        return print_json(value);
    }
    let rules: Vec<RotationInfo> = parse(value.clone())?;
    if rules.is_empty() {
        say!("Keysets are not renewed by themselves.");
    }
    for rule in rules {
        let how = if rule.make { "made while the user is logged in" } else { "certificates to be uploaded" };
        say!("every {}: importance {}, {} ({how})", rule.every, rule.importance.join(", "), rule.profile);
    }
    Ok(())
}

fn show_audit(value: &Value, json: bool) -> Result<(), Failure> {
    if json {
        return print_json(value);
    }
    let lines: Vec<AuditLine> = parse(value.clone())?;
    let mut lost = 0;
    for line in &lines {
        let name = line.name.as_deref().or(line.id.as_deref()).unwrap_or_default();
        let fingerprints = line.fingerprints.join(" ");
        let is_identity = line.id.is_none();
        let opens = match (line.secret_here, is_identity) {
            (true, true) => "secret key here: signs, opens mail encrypted to it and the user's own records".to_owned(),
            (true, false) => {
                format!("secret key here, opens {}", messages(&line.opens))
            }
            (false, true) => "no secret key here".to_owned(),
            (false, false) => {
                lost += line.opens.messages;
                format!("no secret key here for {}", messages(&line.opens))
            }
        };
        say!("{}  {} {name}: {opens}", line.user, line.kind);
        if !fingerprints.is_empty() {
            say!("    {fingerprints}");
        }
    }
    if lost > 0 {
        say!("{lost} messages are opened by no key on this instance.");
    }
    Ok(())
}
