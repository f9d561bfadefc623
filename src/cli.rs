//! The command line.

use crate::commands::keyset_keys::SecretKeys;
use crate::exit;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Message exchange: mail and chat over a store that is sealed to its users' keys.
#[derive(Debug, Parser)]
#[command(name = "mesyx", version, after_help = exit::HELP, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// The configuration file. Unless given: $MESYX_CONFIG, else mesyx.toml here, else /etc/mesyx/mesyx.toml.
    #[arg(long, short, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a new instance: configuration, keys, a self-signed certificate. Overwrites nothing.
    #[command(after_help = "Example: mesyx init /etc/mesyx --domain example.org --hostname mail.example.org")]
    Init(Init),
    /// Find everything that is wrong with the configuration, with file, line and what to write instead.
    #[command(after_help = "Example: mesyx check --config /etc/mesyx/mesyx.toml")]
    Check(Json),
    /// Add, list and remove users, and set their passwords.
    #[command(after_help = "Example: mesyx user add alice")]
    User {
        #[command(subcommand)]
        command: User,
    },
    /// Messages that wait to be sent to other hosts: list, retry, hold, release, drop.
    #[command(after_help = "Example: mesyx queue list")]
    Queue {
        #[command(subcommand)]
        command: crate::commands::queue::Queue,
    },
    /// Keys of correspondents, and how mail to them is protected. Needs the user's password, or the recovery key.
    #[command(after_help = "Example: mesyx contact list alice")]
    Contact {
        #[command(subcommand)]
        command: crate::commands::contact::Contact,
    },
    /// Groups of users, the channels of chat networks: which there are, and who belongs to them.
    #[command(after_help = "Example: mesyx group list")]
    Group {
        #[command(subcommand)]
        command: crate::commands::group::Groups,
    },
    /// Show, write out and rotate users' identities: the keys that others know them by.
    #[command(after_help = "Example: mesyx identity show alice")]
    Identity {
        #[command(subcommand)]
        command: crate::commands::identity::Identity,
    },
    /// Serve until SIGTERM. SIGHUP reads configuration and certificates again.
    #[command(after_help = "Example: mesyx run --config /etc/mesyx/mesyx.toml")]
    Run,
    /// Show how the running server does, and which secrets it holds.
    #[command(after_help = "Example: mesyx status --json")]
    Status(Json),
    /// Have the running server read configuration and certificates again, and say what is wrong with them.
    #[command(after_help = "Example: mesyx reload")]
    Reload(Json),
    /// Try Mesyx: a throw-away instance on loopback ports, with users alice and bob.
    #[command(
        after_help = "Example: mesyx demo\n\nIt stops on Ctrl-C, or with --json when standard input closes, and removes what it made."
    )]
    Demo(Demo),
    /// Copy the store, consistent and whole, into an empty directory; also while the server runs.
    #[command(
        after_help = "Example: mesyx backup /srv/backup/2026-11-22\n\nThe instance key and the configuration are not in it: keep copies of those elsewhere."
    )]
    Backup {
        /// The directory to write to; made where it does not exist.
        to: PathBuf,
    },
    /// Put a backup in the place of the store, which must be empty or absent. The server must not run.
    #[command(after_help = "Example: mesyx restore /srv/backup/2026-11-22")]
    Restore {
        /// The backup's directory.
        from: PathBuf,
    },
    /// Show what happened to messages from or to an address.
    #[command(after_help = "Example: mesyx trace bob@example.net --days 3")]
    Trace {
        /// The address.
        address: String,
        /// How many days back.
        #[arg(long, default_value_t = 7)]
        days: u16,
        #[command(flatten)]
        json: Json,
    },
    /// Keysets: which keys messages are sealed to, by time and importance, and where their secret keys are.
    #[command(
        after_help = "Examples:\n  mesyx keyset list alice\n  mesyx keyset offline alice 2025 --to /media/stick/2025.asc"
    )]
    Keyset {
        #[command(subcommand)]
        command: Keyset,
    },
    /// Show the records that our domains need in DNS, compare them with what is there, and change the keys that sign mail.
    #[command(after_help = "Example: mesyx dns example.org --zone\n         mesyx dns --check")]
    Dns(crate::commands::dns::Dns),
    /// Keep passwords and keys that bridges need, sealed to the instance key.
    #[command(after_help = "Example: printf %s \"$PASSWORD\" | mesyx secret set libera.password")]
    Secret {
        #[command(subcommand)]
        command: Secret,
    },
    /// Bridges: which there are and how they do, what one asks for, certificates for remote ones.
    #[command(after_help = "Example: mesyx bridge list")]
    Bridge {
        #[command(subcommand)]
        command: crate::commands::bridge::Bridge,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Json {
    /// Answer in JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The directory to make.
    pub(crate) dir: PathBuf,
    /// The mail domain of the first users.
    #[arg(long, default_value = "example.org")]
    pub(crate) domain: String,
    /// This host's name. Unless given: mail.DOMAIN.
    #[arg(long)]
    pub(crate) hostname: Option<String>,
    /// The user that the server is to become when root starts it; it gets the files.
    #[arg(long)]
    pub(crate) user: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Print one line of JSON when everything is up, and stop when standard input closes.
    #[arg(long)]
    pub(crate) json: bool,
    /// Where to put the instance: a directory that does not exist yet, removed at the end. Unless given: under the temporary directory.
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Hand all mail for other domains to this host, by SMTP without TLS, as 127.0.0.1:2525. Unless given, such mail is refused:
    /// the demo reaches nothing outside.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) smarthost: Option<String>,
    /// Let people without an account in over IRC, and slow nobody down there: for conformance suites.
    #[arg(long)]
    pub(crate) guests: bool,
    /// What to log: error, warn, info, debug, trace.
    #[arg(long, default_value = "warn")]
    pub(crate) log: String,
}

/// Where a new password comes from. Unless given: asked for, without showing it.
#[derive(Debug, Args)]
pub(crate) struct NewPassword {
    /// Take the new password from the first line of this file.
    #[arg(long, value_name = "FILE", group = "new")]
    pub(crate) password_file: Option<PathBuf>,
    /// Take the new password from the first line of standard input.
    #[arg(long, group = "new")]
    pub(crate) password_stdin: bool,
}

/// What proves that the keys may be wrapped anew.
#[derive(Debug, Args)]
pub(crate) struct OldPassword {
    /// Take the old password from the first line of this file. Unless given: asked for.
    #[arg(long, value_name = "FILE", group = "old")]
    pub(crate) old_password_file: Option<PathBuf>,
    /// Take the recovery key, shown when the user was added, from the first line of this file.
    #[arg(long, value_name = "FILE", group = "old")]
    pub(crate) recovery_key_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum User {
    /// Add a user. Shows the recovery key, once.
    #[command(after_help = "Example: mesyx user add alice --address alice@example.org --app-password phone")]
    Add {
        /// The login name.
        name: String,
        /// An address of the user, the main one first. Unless given: the name at the first domain.
        #[arg(long = "address", value_name = "ADDRESS")]
        addresses: Vec<String>,
        #[command(flatten)]
        password: NewPassword,
        /// Without a password of the user's own: app passwords only.
        #[arg(long, group = "new")]
        no_password: bool,
        /// Make an app password with this label too, and show it.
        #[arg(long, value_name = "LABEL")]
        app_password: Option<String>,
        #[command(flatten)]
        json: Json,
    },
    /// List all users.
    #[command(after_help = "Example: mesyx user list --json")]
    List(Json),
    /// Remove a user, with all messages, for good.
    #[command(after_help = "Example: mesyx user remove alice")]
    Remove {
        /// The login name.
        name: String,
        /// Don't ask.
        #[arg(long)]
        yes: bool,
    },
    /// Set a user's password, with the old one or the recovery key.
    #[command(after_help = "Example: mesyx user password alice --recovery-key-file key.txt")]
    Password {
        /// The login name.
        name: String,
        #[command(flatten)]
        old: OldPassword,
        #[command(flatten)]
        new: NewPassword,
        /// Where both are lost: throw the user's keys away and make new ones. Says first what becomes unreadable for good.
        #[arg(long, conflicts_with = "old")]
        discard_keys: bool,
        /// Don't ask.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        json: Json,
    },
    /// After a theft of the store and a password: a new master key, new keysets, a new recovery key. Old messages stay readable.
    #[command(
        after_help = "Example: mesyx user rekey alice\n\nThe password stays, unless a new one is given; app passwords are revoked, and every session ends. \
        With the recovery key a new password is needed: it remains should the new recovery key be lost before you saw it."
    )]
    Rekey {
        /// The login name.
        name: String,
        #[command(flatten)]
        old: OldPassword,
        #[command(flatten)]
        new: NewPassword,
        #[command(flatten)]
        json: Json,
    },
    /// Passwords for single devices and programs.
    #[command(after_help = "Example: mesyx user app-password add alice phone")]
    AppPassword {
        #[command(subcommand)]
        command: AppPassword,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Keyset {
    #[command(flatten)]
    Manage(crate::commands::keyset::Keyset),
    #[command(flatten)]
    SecretKeys(SecretKeys),
}

#[derive(Debug, Subcommand)]
pub(crate) enum AppPassword {
    /// Make one, and show it, once. Needs the user's password or the recovery key.
    #[command(after_help = "Example: mesyx user app-password add alice phone")]
    Add {
        /// The login name.
        name: String,
        /// What it is for.
        label: String,
        #[command(flatten)]
        old: OldPassword,
        #[command(flatten)]
        json: Json,
    },
    /// List a user's app passwords, with the day of their last use.
    #[command(after_help = "Example: mesyx user app-password list alice")]
    List {
        /// The login name.
        name: String,
        #[command(flatten)]
        json: Json,
    },
    /// Take one away and end its sessions.
    #[command(after_help = "Example: mesyx user app-password revoke alice phone")]
    Revoke {
        /// The login name.
        name: String,
        /// Its label or id.
        which: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Secret {
    /// Store a secret: what stands on standard input, or is typed. A line end at the end is taken off.
    #[command(after_help = "Example: printf %s \"$PASSWORD\" | mesyx secret set libera.password")]
    Set {
        /// Its name, as the bridge's configuration has it.
        name: String,
    },
    /// List the names.
    #[command(after_help = "Example: mesyx secret list")]
    List(Json),
    /// Forget one.
    #[command(after_help = "Example: mesyx secret remove libera.password")]
    Remove {
        /// Its name.
        name: String,
    },
}
