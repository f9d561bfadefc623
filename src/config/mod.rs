//! The configuration file: one definition, from which come the parser, the check, the commented default and its documentation.
//!
//! ```text
//!  mesyx.toml -- locate --> JSON + where each key stands -- schema, serde --> File -- check --> Checked
//!                                        every error on the way: a Problem with its line
//! ```

pub(crate) mod bridges;
pub(crate) mod check;
pub(crate) mod groups;
pub(crate) mod http;
pub(crate) mod keysets;
pub(crate) mod locate;
pub(crate) mod memory;
pub(crate) mod network;
pub(crate) mod pgp;
pub(crate) mod queue;
pub(crate) mod template;

#[cfg(test)]
mod tests;

use mesyx_bridges::{Pace, Restart, Run};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// All of `mesyx.toml`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// The name by which this host is known to other hosts, as it stands in DNS.
    pub(crate) hostname: String,
    /// The mail domains that users have addresses in. The first is the primary one: a new user's address is NAME@FIRST.
    pub(crate) domains: Vec<String>,
    /// Where messages and keys are kept. Paths that don't begin with / are taken from this file's directory.
    #[serde(default = "data_dir")]
    pub(crate) data_dir: PathBuf,
    /// The file of the instance key, which opens service secrets and nothing else. It must lie outside data_dir, so that
    /// a backup of data_dir alone opens nothing. "credential:NAME" takes it from systemd's LoadCredential=.
    #[serde(default = "instance_key")]
    pub(crate) instance_key: PathBuf,
    /// The socket by which commands reach the running server; only root and the server's own user may.
    #[serde(default = "control_socket")]
    pub(crate) control_socket: PathBuf,
    /// Which parts of Mesyx this instance runs: gateway (bridges to other networks), store, access (clients).
    #[serde(default = "modes")]
    pub(crate) modes: Vec<Mode>,
    /// Characters that end a user's name in an address: mail for alice+lists@ goes to alice. Empty: no such addresses.
    #[serde(default = "separators")]
    pub(crate) separators: String,
    /// Who reads what comes to postmaster and abuse where nobody has that address: a user or an address. Unless given, the first user by name.
    #[schemars(extend("examples" = ["alice"]))]
    pub(crate) postmaster: Option<String>,
    /// Addresses that stand for others: users, or addresses in these domains. As "info@example.org" = ["alice", "bob"].
    #[serde(default)]
    pub(crate) aliases: BTreeMap<String, Vec<String>>,
    /// Who takes what is addressed to nobody in a domain, as "example.org" = "alice". In other domains such addresses are refused.
    #[serde(default)]
    pub(crate) catch_all: BTreeMap<String, String>,
    /// The user to become once the listening sockets are open. Needed only where the program is started by root.
    #[schemars(extend("examples" = [{ "user": "mesyx", "group": "mesyx" }]))]
    pub(crate) run_as: Option<RunAs>,
    /// TLS certificates; the first serves every name that none is given for. Read again on SIGHUP.
    #[serde(default)]
    pub(crate) tls: Vec<Tls>,
    /// For the machine's own supervision.
    #[serde(default)]
    pub(crate) admin: Admin,
    /// Pages for mail programs and other hosts: users' OpenPGP certificates (WKD), the MTA-STS policy, settings for mail
    /// programs. docs/operating.md says which names in DNS and in the certificate that takes; `mesyx check` says which are missing.
    #[serde(default)]
    pub(crate) http: http::Http,
    /// What is logged, to standard error.
    #[serde(default)]
    pub(crate) log: Log,
    /// Limits on what users and peers may do.
    #[serde(default)]
    pub(crate) limits: Limits,
    /// Limits on logins.
    #[serde(default)]
    pub(crate) login: Login,
    /// The cost of checking a password that a person chose (Argon2id, RFC 9106). Passwords set earlier keep theirs.
    #[serde(default)]
    pub(crate) argon2: Argon2,
    /// How messages are sealed.
    #[serde(default)]
    pub(crate) sealing: Sealing,
    /// The keys that messages are sealed to.
    #[serde(default)]
    pub(crate) keysets: keysets::Keysets,
    /// Memory for opened messages, over all users together; given back when the user's last session ends.
    #[serde(default)]
    pub(crate) caches: Caches,
    /// How messages are brought to other hosts.
    #[serde(default)]
    pub(crate) queue: queue::Queue,
    /// Limits of groups of users, the channels of chat networks.
    #[serde(default)]
    pub(crate) groups: groups::Groups,
    /// PGP for mail that leaves.
    #[serde(default)]
    pub(crate) pgp: pgp::Pgp,
    /// How names are looked up, for everything that reaches other hosts.
    #[serde(default)]
    pub(crate) dns: mesyx_net::DnsConfig,
    /// How files are fetched from other hosts: the policies of MTA-STS, and keys by WKD.
    #[serde(default)]
    pub(crate) https: mesyx_net::HttpsConfig,
    /// Keeping what is in memory off the disk.
    #[serde(default)]
    pub(crate) memory: memory::Memory,
    /// The bridges to run, each by its name; those not named here don't run.
    #[serde(default)]
    pub(crate) bridge: BTreeMap<String, serde_json::Map<String, serde_json::Value>>,
}

/// A part of Mesyx.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// Bridges to other networks.
    Gateway,
    /// Keeps sealed messages.
    Store,
    /// Serves clients.
    Access,
}

/// A user of the operating system.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunAs {
    /// Its name.
    pub(crate) user: String,
    /// The group; unless given, the user's own.
    pub(crate) group: Option<String>,
}

/// A certificate chain and its private key.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tls {
    /// The chain in PEM, the host's own certificate first.
    pub(crate) chain: PathBuf,
    /// The private key in PEM. "credential:NAME" takes it from systemd's LoadCredential=.
    pub(crate) key: PathBuf,
    /// The names to serve it for; unless given, those that stand in the certificate.
    #[schemars(extend("examples" = [["mail.example.org"]]))]
    pub(crate) names: Option<Vec<String>>,
}

/// For the machine's own supervision.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Admin {
    /// Where /health, /ready and /metrics are served by HTTP: a loopback address, since nobody has to log in. Empty: nowhere.
    pub(crate) listen: String,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: "127.0.0.1:9190".into() }
    }
}

/// What is logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// How lines look: text for people, json for programs.
    pub(crate) format: LogFormat,
    /// How much: error, warn, info, debug or trace; single parts too, as "info,mesyx_bridge_smtp=debug".
    pub(crate) level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".into() }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Limits on what users and peers may do.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Largest message in bytes: 50 MiB, which is what large providers take.
    #[schemars(range(min = 1024, max = 1_073_741_824))]
    pub(crate) message_bytes: usize,
    /// All messages in flight together, in bytes: 256 MiB, five of the largest. Needs a restart.
    #[schemars(range(min = 1_048_576))]
    pub(crate) budget_bytes: usize,
    /// Mailboxes of one user; clients list them all.
    #[schemars(range(min = 10, max = 100_000))]
    pub(crate) mailboxes: usize,
    /// Stored bytes of one user; over it nothing more is taken in for that user. Unless given, there is no limit.
    #[schemars(extend("examples" = [10_737_418_240_u64]))]
    pub(crate) quota_bytes: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        let core = mesyx_core::settings::Limits::default();
        Self {
            message_bytes: core.message_bytes,
            budget_bytes: core.budget_bytes,
            mailboxes: core.mailboxes,
            quota_bytes: core.quota_bytes,
        }
    }
}

/// Limits on logins.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Login {
    /// Failed logins of one client, or against one user from unknown clients, before each further one must wait. People mistype twice or thrice.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) free_failures: u32,
    /// The first wait, in seconds; it doubles with each failure.
    #[schemars(range(min = 1, max = 3600))]
    pub(crate) first_wait: u64,
    /// The longest wait, in seconds: 5 minutes leave a guesser 288 tries a day.
    #[schemars(range(min = 1, max = 86_400))]
    pub(crate) longest_wait: u64,
    /// After so many seconds without a failure, the count starts anew.
    #[schemars(range(min = 1, max = 604_800))]
    pub(crate) forget_after: u64,
    /// Sessions of one user at once: several devices with a connection for each mailbox.
    #[schemars(range(min = 1, max = 100_000))]
    pub(crate) sessions_per_user: usize,
    /// How many seconds a user's keys stay open after the last session, so that a client that connects for each check costs
    /// no Argon2 run each time. 0 closes them at once.
    #[schemars(range(max = 3600))]
    pub(crate) grace: u64,
}

impl Default for Login {
    fn default() -> Self {
        let core = mesyx_core::settings::LoginLimits::default();
        Self {
            free_failures: core.free_failures,
            first_wait: core.first_wait.as_secs(),
            longest_wait: core.longest_wait.as_secs(),
            forget_after: core.forget_after.as_secs(),
            sessions_per_user: core.sessions_per_user,
            grace: core.grace.as_secs(),
        }
    }
}

/// The cost of checking a password.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Argon2 {
    /// Memory for each check, in KiB: 64 MiB is the second choice of RFC 9106, section 4.
    #[schemars(range(min = 19_456, max = 4_194_304))]
    pub(crate) memory_kib: u32,
    /// Passes over that memory.
    #[schemars(range(min = 1, max = 100))]
    pub(crate) passes: u32,
    /// Lanes.
    #[schemars(range(min = 1, max = 64))]
    pub(crate) lanes: u32,
}

impl Default for Argon2 {
    fn default() -> Self {
        let core = mesyx_core::settings::Argon2Settings::default();
        Self { memory_kib: core.memory_kib, passes: core.passes, lanes: core.lanes }
    }
}

/// How messages are sealed.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Sealing {
    /// For how many seconds one session key may serve the messages of one keyset. Longer saves computing, and lets one leaked
    /// session key open more. 0: each message has its own.
    #[schemars(range(max = 60))]
    pub(crate) window: u64,
}

impl Default for Sealing {
    fn default() -> Self {
        Self { window: 10 }
    }
}

/// Memory for opened messages.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Caches {
    /// For summaries, in bytes: 64 MiB hold some 20,000 messages.
    pub(crate) summary_bytes: usize,
    /// For bodies, in bytes, since clients fetch a large message piece by piece.
    pub(crate) body_bytes: usize,
}

impl Default for Caches {
    fn default() -> Self {
        let core = mesyx_core::settings::Caches::default();
        Self { summary_bytes: core.summary_bytes, body_bytes: core.body_bytes }
    }
}

/// What every bridge's table may hold, beside the bridge's own keys.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(crate) struct BridgeHead {
    /// How the bridge is run: "builtin" (linked into the program), { library = "FILE.so" }, { process = "PROGRAM" } or { remote = "ADDRESS:PORT" }.
    /// docs/bridges.md says what each promises and which keys it takes; process = "mesyx" runs this program's own bridge as a process.
    pub(crate) run: Run,
    /// What the bridge may do; unless given, all that it asks for (`mesyx bridge list` shows it) and the ports that it is told to listen on.
    /// For a library, a remote bridge or another program than mesyx itself: nothing, unless given.
    #[schemars(with = "Option<Vec<String>>", extend("examples" = [["accept", "directory", "certificates", "listen:25"]]))]
    pub(crate) grants: Option<Vec<String>>,
    /// When the bridge is started again after a failure. All in seconds but failures, the number in a row after which it is left alone for a while.
    #[schemars(extend("examples" = [Restart::default()]))]
    pub(crate) restart: Option<Restart>,
    /// How fast a bridge that is not linked in may call: calls of any kind, and messages, a second. Unless given: this program's own bridges as
    /// fast as they can, others as the example has it, so that a flood is felt by nobody else.
    #[schemars(extend("examples" = [Pace::default()]))]
    pub(crate) pace: Option<Pace>,
}

fn data_dir() -> PathBuf {
    "data".into()
}

fn instance_key() -> PathBuf {
    "instance.key".into()
}

fn control_socket() -> PathBuf {
    "control.sock".into()
}

fn modes() -> Vec<Mode> {
    vec![Mode::Gateway, Mode::Store, Mode::Access]
}

fn separators() -> String {
    "+".into()
}

/// The JSON Schema of the whole file; each bridge's own keys have one of their own.
pub(crate) fn schema() -> serde_json::Value {
    mesyx_sdk::config::schema::<File>()
}
