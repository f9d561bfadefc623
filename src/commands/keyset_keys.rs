//! `mesyx keyset offline|online|unlock|lock|reseal`, and `mesyx user rekey`: what happens to secret keys.

use super::user::{new_password, proof};
use super::{first_line, parse, print_json, prompt};
use crate::cli::{Json, NewPassword, OldPassword};
use crate::config::check::Checked;
use crate::control::secret_keys::{Exported, Key, NewKeys, SecretKeyRequest as Ask, operate};
use crate::control::{Hidden, Proof, Request, client};
use crate::exit::{Failure, trying};
use clap::{Args, Subcommand};
use mesyx_core::secret_keys::{KeysetShown, ResealProgress, UnlockedKeyset};
use mesyx_sdk::Secret;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use zeroize::Zeroizing;

/// Longest file of secret keys that is sent to the server; it has its own limits on what is in it.
const LONGEST_FILE: u64 = 128 << 10;
/// How often progress is asked for.
const PACE: Duration = Duration::from_millis(500);

#[derive(Debug, Subcommand)]
pub(crate) enum SecretKeys {
    /// Take a keyset's secret key out of the server, into a file. Its messages are then shown sealed, as PGP/MIME.
    #[command(after_help = "Example: mesyx keyset offline alice 2025 --to /media/stick/2025.asc\n\n\
        The file is an OpenPGP secret key, as GnuPG (`gpg --import`) and sq take it. It is written, synced and read back before the key is erased here.\n\
        Copies in backups of the store stay: they open with the passwords of their time.")]
    Offline {
        #[command(flatten)]
        which: Which,
        /// The file to make; it must not exist.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        #[command(flatten)]
        how: How,
    },
    /// Bring a keyset's secret key back for good. Its messages are then shown opened.
    #[command(after_help = "Example: mesyx keyset online alice 2025 --from /media/stick/2025.asc")]
    Online {
        #[command(flatten)]
        which: Which,
        /// The file of the secret key.
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        #[command(flatten)]
        how: How,
    },
    /// Show opened copies of an offline keyset's messages in a mailbox Unlocked/NAME, for a while.
    #[command(after_help = "Example: mesyx keyset unlock alice 2025 --for 10m --from /media/stick/2025.asc\n\n\
        The secret key is in the server's memory only. The mailbox goes when the time is over, by `mesyx keyset lock`, or when the server stops.")]
    Unlock {
        #[command(flatten)]
        which: Which,
        /// For how long: 30s, 10m, 2h, 1d; a week at most.
        #[arg(long = "for", value_name = "TIME", value_parser = duration)]
        time: Duration,
        /// The file of the secret key.
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        #[command(flatten)]
        passphrase: Passphrase,
        #[command(flatten)]
        json: Json,
    },
    /// End an unlocking before its time.
    #[command(after_help = "Example: mesyx keyset lock alice 2025")]
    Lock(Which),
    /// Seal a keyset's messages anew, to another keyset's certificates.
    #[command(
        after_help = "Example: mesyx keyset reseal alice --from 2025 --to archive\nExample: mesyx keyset reseal alice --from 2025 --to archive --key /media/stick/2025.asc\n\n\
        Mail goes on coming in meanwhile. Broken off by whatever means, nothing is lost: the same command goes on. `mesyx status` shows how far it is."
    )]
    Reseal {
        /// The user's login name.
        user: String,
        /// The keyset that messages leave: name or id.
        #[arg(long, value_name = "KEYSET")]
        from: String,
        /// The keyset that they are sealed to: name or id.
        #[arg(long, value_name = "KEYSET")]
        to: String,
        /// The file of the first one's secret key, where that is offline.
        #[arg(long, value_name = "FILE", conflicts_with = "old")]
        key: Option<PathBuf>,
        #[command(flatten)]
        how: How,
    },
}

/// One keyset of one user.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The user's login name.
    user: String,
    /// The keyset's name or id.
    keyset: String,
}

/// What proves that the key may be moved, what its file is locked with, and how to answer.
#[derive(Debug, Args)]
pub(crate) struct How {
    #[command(flatten)]
    passphrase: Passphrase,
    #[command(flatten)]
    old: OldPassword,
    #[command(flatten)]
    json: Json,
}

/// What a file of secret keys is locked with.
#[derive(Debug, Args)]
pub(crate) struct Passphrase {
    /// The passphrase of the file is the first line of this one.
    #[arg(long, value_name = "FILE", group = "lock")]
    passphrase_file: Option<PathBuf>,
    /// Ask for the passphrase of the file.
    #[arg(long, group = "lock")]
    passphrase: bool,
}

impl Passphrase {
    fn read(&self, new: bool) -> Result<Option<Hidden>, Failure> {
        if let Some(path) = &self.passphrase_file {
            let file = File::open(path).map_err(trying(path.display()))?;
            return Ok(Some(Hidden(first_line(file, &path.display().to_string())?)));
        }
        if !self.passphrase {
            return Ok(None);
        }
        let first = prompt("Passphrase of the key file", "--passphrase-file")?;
        if new && prompt("Once more", "--passphrase-file")? != first {
            return Err(Failure::new("the two passphrases differ; nothing was changed"));
        }
        Ok(Some(Hidden(first)))
    }
}

pub(super) fn execute(checked: &Checked, command: SecretKeys) -> Result<(), Failure> {
    match command {
        SecretKeys::Offline { which, to, how: How { passphrase, old, json } } => {
            offline(checked, which, &to, passphrase.read(true)?, proof(&old)?, json.json)
        }
        SecretKeys::Online { which: Which { user, keyset }, from, how: How { passphrase, old, json } } => {
            let (file, passphrase) = (key_file(&from)?, passphrase.read(false)?);
            let value = ask(checked, Ask::Online { user, keyset, proof: proof(&old)?, file, passphrase })?;
            if json.json {
                return print_json(&value);
            }
            let shown: KeysetShown = parse(value)?;
            say!("Keyset {} is online: {} messages are shown opened, under new UIDs.", shown.keyset, shown.messages);
            Ok(())
        }
        SecretKeys::Unlock { which: Which { user, keyset }, time, from, passphrase, json } => {
            if !client::is_running(checked)? {
                return Err(Failure::with(crate::exit::NOT_RUNNING, "no server is running that could show anything"));
            }
            let (file, passphrase) = (key_file(&from)?, passphrase.read(false)?);
            let request = Ask::Unlock { user, keyset, file, passphrase, seconds: time.as_secs() };
            let value = ask(checked, request)?;
            if json.json {
                return print_json(&value);
            }
            let unlocked: UnlockedKeyset = parse(value)?;
            say!(
                "Mailbox {} shows the messages of keyset {} until {}.",
                unlocked.mailbox,
                unlocked.keyset,
                unlocked.until
            );
            Ok(())
        }
        SecretKeys::Lock(Which { user, keyset }) => {
            ask(checked, Ask::Lock { user, keyset: keyset.clone() })?;
            say!("Keyset {keyset} is locked again.");
            Ok(())
        }
        SecretKeys::Reseal { user, from, to, key, how: How { passphrase, old, json } } => {
            let key = match key {
                Some(path) => Key::File { file: key_file(&path)?, passphrase: passphrase.read(false)? },
                None => Key::Proof(proof(&old)?),
            };
            reseal(checked, Ask::Reseal { user, from, to, key }, json.json)
        }
    }
}

fn ask(checked: &Checked, request: Ask) -> Result<Value, Failure> {
    client::ask(checked, Request::SecretKeys { request })
}

/// Writes the file first, and has the key erased only after it was synced and read back.
fn offline(
    checked: &Checked,
    Which { user, keyset }: Which,
    to: &Path,
    passphrase: Option<Hidden>,
    proof: Proof,
    json: bool,
) -> Result<(), Failure> {
    if to.exists() {
        return Err(Failure::new(format!("{}: it exists already; nothing was changed", to.display())));
    }
    let request = Ask::Export {
        user: user.clone(),
        keyset: keyset.clone(),
        proof: proof.clone(),
        passphrase: passphrase.clone(),
    };
    let exported: Exported = parse(ask(checked, request)?)?;
    write_new(to, exported.armored.text().as_bytes())?;
    let written = key_file(to)?;
    let request = Ask::Offline { user, keyset, proof, exported: written, passphrase };
    let value = ask(checked, request).map_err(|failure| {
        let text = format!("{}\nThe file {} holds a copy of the secret key all the same.", failure.text, to.display());
        Failure::with(failure.code, text)
    })?;
    if json {
        let shown: KeysetShown = parse(value)?;
        return print_json(&json!({
            "keyset": shown.keyset,
            "messages": shown.messages,
            "file": to,
            "fingerprints": exported.fingerprints,
        }));
    }
    let shown: KeysetShown = parse(value)?;
    say!("Keyset {} is offline: {} messages are shown sealed, under new UIDs.", shown.keyset, shown.messages);
    say!(
        "Its secret key is in {} and nowhere else; keep copies of it. Fingerprint: {}",
        to.display(),
        exported.fingerprints.join(", ")
    );
    Ok(())
}

/// Makes a file that only its owner can read; durable, with its name, when this returns.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let what = || path.display().to_string();
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path).map_err(trying(what()))?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(error) = written {
        let _ = std::fs::remove_file(path);
        return Err(trying(what())(error));
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(trying(parent.display()))
}

/// A file of secret keys, as text: binary ones are armored here, so that they can be sent.
fn key_file(path: &Path) -> Result<Hidden, Failure> {
    let what = || path.display().to_string();
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST_FILE as usize + 1));
    let file = File::open(path).map_err(trying(what()))?;
    file.take(LONGEST_FILE + 1).read_to_end(&mut bytes).map_err(trying(what()))?;
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(Failure::new(format!("{}: it is longer than 128 KiB, which no secret key is", what())));
    }
    if std::str::from_utf8(&bytes).is_ok() {
        return Ok(Hidden(Secret::new(bytes.to_vec())));
    }
    use base64::Engine as _;
    let mut text = Zeroizing::new(String::with_capacity(bytes.len() * 3 / 2 + 100));
    text.push_str("-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n");
    for line in bytes.chunks(48) {
        base64::engine::general_purpose::STANDARD.encode_string(line, &mut text);
        text.push('\n');
    }
    text.push_str("-----END PGP PRIVATE KEY BLOCK-----\n");
    Ok(Hidden(Secret::new(text.as_bytes().to_vec())))
}

/// Starts it, and tells how far it is until it has ended: by the server where one runs, otherwise here.
fn reseal(checked: &Checked, start: Ask, json: bool) -> Result<(), Failure> {
    let last = if client::is_running(checked)? {
        let begun: ResealProgress = parse(ask(checked, start)?)?;
        follow(&begun, json, || parse(ask(checked, Ask::Reseals)?))?
    } else {
        client::with_core(checked, async |core| {
            let begun: ResealProgress = parse(operate(core, start).await?)?;
            tell(&begun, json)?;
            loop {
                tokio::time::sleep(PACE).await;
                let now = latest(&begun, parse(operate(core, Ask::Reseals).await?)?)?;
                tell(&now, json)?;
                if now.finished {
                    return Ok(now);
                }
            }
        })?
    };
    if let Some(error) = last.error {
        return Err(Failure::new(format!("it ended early: {error}")));
    }
    if !json {
        say!("Done: {} messages are sealed to keyset {} now.", last.done, last.to);
        say!("{} remain sealed to keyset {}, {} of which can't be opened.", last.remaining, last.from, last.failed);
    }
    Ok(())
}

fn follow(
    begun: &ResealProgress,
    json: bool,
    ask: impl Fn() -> Result<Vec<ResealProgress>, Failure>,
) -> Result<ResealProgress, Failure> {
    tell(begun, json)?;
    loop {
        std::thread::sleep(PACE);
        let now = latest(begun, ask()?)?;
        tell(&now, json)?;
        if now.finished {
            return Ok(now);
        }
    }
}

/// The one that was begun, as it is now.
fn latest(begun: &ResealProgress, all: Vec<ResealProgress>) -> Result<ResealProgress, Failure> {
    let same = |other: &ResealProgress| (&other.user, &other.from, &other.to) == (&begun.user, &begun.from, &begun.to);
    all.into_iter().rfind(same).ok_or_else(|| Failure::new("the server was restarted; start it again to go on"))
}

fn tell(progress: &ResealProgress, json: bool) -> Result<(), Failure> {
    if json {
        return print_json(progress);
    }
    eprintln!("sealed anew: {}, remaining: {}", progress.done, progress.remaining);
    Ok(())
}

/// `mesyx user rekey`.
pub(super) fn rekey(
    checked: &Checked,
    user: String,
    old: &OldPassword,
    new: &NewPassword,
    json: bool,
) -> Result<(), Failure> {
    let proof = proof(old)?;
    let given = new.password_file.is_some() || new.password_stdin;
    let password = match &proof {
        _ if given => Some(Hidden(new_password(new)?)),
        Proof::RecoveryKey(_) => Some(Hidden(new_password(new)?)),
        Proof::Password(_) => None,
    };
    let value = ask(checked, Ask::Rekey { user, proof, password })?;
    if json {
        return print_json(&value);
    }
    let keys: NewKeys = parse(value)?;
    say!("User {} has a new master key; new keysets: {}", keys.name, list(&keys.keysets));
    if !keys.offline.is_empty() {
        say!("Unchanged, because their secret keys are not here: {}", list(&keys.offline));
    }
    say!("Recovery key, shown only now; the old one opens nothing any more: {}", keys.recovery_key.text());
    say!("The password is set.");
    if !keys.revoked.is_empty() {
        say!("App passwords that are revoked, make new ones: {}", list(&keys.revoked));
    }
    say!("The identity is the same; where its secret key may be in other hands, run `mesyx identity rotate` too.");
    Ok(())
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// `30s`, `10m`, `2h`, `1d`.
fn duration(text: &str) -> Result<Duration, String> {
    let bad = || "write a number and s, m, h or d: 10m".to_owned();
    let unit = text.chars().last().ok_or_else(bad)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(bad()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| bad())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(duration("1d"), Ok(Duration::from_secs(86_400)));
        for bad in ["", "m", "10", "-1m", "10 m", "1w", "99999999999999999999d", "ü"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
