//! How a bridge is run: the key `run` of its table in the configuration.

use crate::supervisor::RestartPolicy;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How a bridge is run, in a word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Linked into the program.
    #[default]
    Builtin,
    /// A shared library, loaded into the program.
    Library,
    /// A child process.
    Process,
    /// A program on another host.
    Remote,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Builtin => "builtin",
            Self::Library => "library",
            Self::Process => "process",
            Self::Remote => "remote",
        })
    }
}

/// How a bridge is run: `"builtin"`, or a table whose first key says which way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Run {
    /// Linked into the program.
    Builtin(Builtin),
    /// A shared library.
    Library(Library),
    /// A child process.
    Process(Box<Process>),
    /// A program on another host.
    Remote(Remote),
}

impl Default for Run {
    fn default() -> Self {
        Self::Builtin(Builtin::Builtin)
    }
}

impl Run {
    /// Which way it is.
    #[must_use]
    pub const fn way(&self) -> Way {
        match self {
            Self::Builtin(_) => Way::Builtin,
            Self::Library(_) => Way::Library,
            Self::Process(_) => Way::Process,
            Self::Remote(_) => Way::Remote,
        }
    }

    /// Whether it is this very program that runs, so that its own bridges are what is served.
    #[must_use]
    pub fn is_own(&self) -> bool {
        match self {
            Self::Builtin(_) => true,
            Self::Process(process) => process.is_own(),
            Self::Library(_) | Self::Remote(_) => false,
        }
    }

    /// The same with relative paths taken from the directory `base`.
    #[must_use]
    pub fn at(mut self, base: &std::path::Path) -> Self {
        match &mut self {
            Self::Builtin(_) => {}
            Self::Library(library) => library.library = base.join(&library.library),
            Self::Process(process) => {
                if !process.is_own() {
                    process.process = base.join(&process.process);
                }
                for path in process.readable.iter_mut().chain(&mut process.writable) {
                    *path = base.join(&path);
                }
            }
            Self::Remote(remote) => {
                for path in [&mut remote.certificates, &mut remote.manifest].into_iter().flatten() {
                    *path = base.join(&path);
                }
            }
        }
        self
    }
}

/// The word `"builtin"`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Builtin {
    /// Linked into the program.
    #[default]
    Builtin,
}

/// A shared library, loaded into the program: it shares our memory, so it must be trusted as the program itself is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Library {
    /// The file. It, and every directory above it, must belong to root or to the server's user, and nobody else may write to it.
    pub library: PathBuf,
    /// The file's SHA-256 in hexadecimal, as `sha256sum` prints it; another file is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// The word that stands for this program itself in [`Process::process`].
const OWN: &str = "mesyx";

/// A child process, confined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// The program's file, or `mesyx` for one of this program's own bridges in a process of its own.
    pub process: PathBuf,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The file's SHA-256 in hexadecimal; another file is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The user to run as, by name or number. Needs a server that is root. Unless given: the server's own user, which must not be root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Memory in bytes; more, and it is killed. 512 MiB hold the messages in flight of a busy bridge.
    #[serde(default = "memory")]
    #[schemars(range(min = 16_777_216))]
    pub memory: u64,
    /// Processor time: 0.5 is half of one core. What takes more for seconds is slowed down to it.
    #[serde(default = "cpu")]
    #[schemars(range(min = 0.05, max = 1024.0))]
    pub cpu: f64,
    /// Open files and connections at once.
    #[serde(default = "files")]
    #[schemars(range(min = 32, max = 1_048_576))]
    pub files: u64,
    /// Files and directories that it may read, beside the system's libraries and certificates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub readable: Vec<PathBuf>,
    /// Files and directories that it may write to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writable: Vec<PathBuf>,
    /// More variables of its environment. Whoever is root or of its user can read them: no place for secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Whether it may start processes of its own. Limits then hold for each of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub subprocesses: bool,
    /// What happens where the kernel can't confine it (Landlock, seccomp).
    #[serde(default)]
    pub confine: Confine,
}

impl Process {
    /// Whether it is this very program.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.process.as_os_str() == OWN
    }
}

/// Whether a process must be confined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Confine {
    /// As far as the kernel offers it; the log says what is missing.
    #[default]
    Try,
    /// Wholly, or it is not started.
    Require,
    /// Not at all; for finding out what a program needs. Limits and the user still hold.
    Off,
}

/// A program on another host, which connects to us by mutual TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Remote {
    /// Where this host listens for the bridge: address and port, its own for each bridge.
    #[schemars(with = "String", extend("examples" = ["0.0.0.0:7443"]))]
    pub remote: SocketAddr,
    /// The directory of the certificates, which `mesyx bridge certificate NAME` makes. Unless given: bridges/NAME.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<PathBuf>,
    /// The bridge's manifest: what `PROGRAM --manifest` prints. Not needed for this program's own bridges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<PathBuf>,
}

/// How fast a bridge that is not linked in may call. It has a second's calls in reserve; who calls faster waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Pace {
    /// Calls of any kind a second. A thousand cost some 5 % of a core.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub calls: u32,
    /// Messages brought in a second, each 64 KiB of one counted. A hundred cost some 5 % of a core, which is what a flood takes from the others.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub messages: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { calls: 1000, messages: 100 }
    }
}

/// When a bridge that failed is started again.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Restart {
    /// The pause after the first failure, in seconds; it doubles with each further one.
    #[schemars(range(min = 0.01, max = 3600.0))]
    pub first: f64,
    /// The longest of these pauses, in seconds.
    #[schemars(range(min = 0.01, max = 86_400.0))]
    pub longest: f64,
    /// After so many failures in a row it is tried only now and then.
    #[schemars(range(min = 1, max = 1000))]
    pub failures: u32,
    /// How many seconds it is left alone then, before one more try.
    #[schemars(range(min = 0.01, max = 86_400.0))]
    pub broken: f64,
    /// A run that lasted so many seconds starts the count of failures anew.
    #[schemars(range(min = 0.01, max = 86_400.0))]
    pub healthy: f64,
    /// How many seconds it may take to stop before it is cut off. The contract says 10.
    #[schemars(range(min = 0.01, max = 3600.0))]
    pub stop: f64,
}

impl Default for Restart {
    fn default() -> Self {
        let policy = RestartPolicy::default();
        Self {
            first: policy.first.as_secs_f64(),
            longest: policy.longest.as_secs_f64(),
            failures: policy.failures,
            broken: policy.broken.as_secs_f64(),
            healthy: policy.healthy.as_secs_f64(),
            stop: policy.stop.as_secs_f64(),
        }
    }
}

impl From<Restart> for RestartPolicy {
    fn from(restart: Restart) -> Self {
        let span = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX / 4);
        Self {
            first: span(restart.first),
            longest: span(restart.longest),
            failures: restart.failures,
            broken: span(restart.broken),
            healthy: span(restart.healthy),
            stop: span(restart.stop),
        }
    }
}

const fn memory() -> u64 {
    512 << 20
}

const fn cpu() -> f64 {
    1.0
}

const fn files() -> u64 {
    4096
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesyx_sdk::config::{schema, validate};
    use serde_json::json;

    fn read(value: serde_json::Value) -> Result<Run, String> {
        let errors = validate::check(&schema::<Run>(), &value);
        if !errors.is_empty() {
            return Err(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
        }
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn each_way_takes_one_line() {
        let way = |value| read(value).unwrap().way();
        assert_eq!(way(json!("builtin")), Way::Builtin);
        assert_eq!(way(json!({ "library": "/x.so" })), Way::Library);
        assert_eq!(way(json!({ "process": "mesyx" })), Way::Process);
        assert_eq!(way(json!({ "remote": "0.0.0.0:7443" })), Way::Remote);
    }

    #[test]
    fn what_is_misspelled_is_told() {
        assert!(read(json!("buildin")).unwrap_err().contains("builtin"));
        let error = read(json!({ "process": "mesyx", "memry": 1 })).unwrap_err();
        assert!(error.contains("memry") && error.contains("memory"), "{error}");
        assert!(read(json!({ "library": 5 })).is_err());
        assert!(read(json!({ "process": "mesyx", "cpu": 0 })).is_err());
    }

    #[test]
    fn paths_are_taken_from_the_configuration() {
        let at = |value| read(value).unwrap().at(std::path::Path::new("/etc/mesyx"));
        let Run::Process(own) = at(json!({ "process": "mesyx", "readable": ["keys"] })) else { panic!() };
        assert!(own.is_own());
        assert_eq!(own.readable, [PathBuf::from("/etc/mesyx/keys")]);
        let Run::Process(other) = at(json!({ "process": "bin/x" })) else { panic!() };
        assert_eq!(other.process, PathBuf::from("/etc/mesyx/bin/x"));
    }
}
