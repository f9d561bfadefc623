//! What a bridge says of itself before it runs.

use crate::AddressKind;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A bridge's name, version, wishes and configuration.
///
/// As JSON it is an object with the fields' names: what `--manifest` prints, and what a library holds in its section `.mesyx.manifest`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Short name, unique in an instance: lower-case letters, digits and `-`. The bridge's table in the configuration has it.
    pub name: String,
    /// The bridge's own version.
    pub version: String,
    /// One sentence on what it connects.
    #[serde(default)]
    pub summary: String,
    /// What it asks for. The operator's configuration decides what it gets.
    #[serde(default)]
    pub grants: Vec<Grant>,
    /// The kinds of addresses that it brings messages to, where it holds [`Grant::Deliver`].
    #[serde(default)]
    pub delivers: Vec<AddressKind>,
    /// JSON Schema (2020-12) of its configuration, as [`crate::config::schema`] makes it from the configuration's type.
    pub config_schema: serde_json::Value,
}

impl Manifest {
    /// Longest JSON text of a manifest, in bytes.
    pub const MAX_LENGTH: usize = 512 << 10;
    /// Longest name, in bytes.
    pub const MAX_NAME: usize = 32;

    /// The manifest of a bridge whose configuration is a `T`, to a network of the bridge's own name, where people are `NAME:someone`.
    #[must_use]
    pub fn of_network<T: schemars::JsonSchema>(name: &str, version: &str, summary: &str, grants: Vec<Grant>) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            summary: summary.to_owned(),
            grants,
            // A name that no network can have is not one that the host takes.
            delivers: crate::NetworkName::new(name).map(AddressKind::Other).into_iter().collect(),
            config_schema: crate::config::schema::<T>(),
        }
    }

    /// The manifest as JSON, for people and programs; ends with a line end.
    #[must_use]
    pub fn to_json(&self) -> String {
        // It can't fail: all keys are text.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Reads what [`Manifest::to_json`] writes. Fields that are not known are passed over.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn from_json(text: &str) -> Result<Self, String> {
        if text.len() > Self::MAX_LENGTH {
            return Err(format!("the manifest is longer than {} bytes", Self::MAX_LENGTH));
        }
        let manifest: Self =
            serde_json::from_str(text).map_err(|error| format!("the manifest can't be read: {error}"))?;
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if manifest.name.is_empty() || manifest.name.len() > Self::MAX_NAME || !manifest.name.bytes().all(letter) {
            return Err("the manifest's name must have 1 to 32 lower-case letters, digits or '-'".to_owned());
        }
        if manifest.version.is_empty()
            || [&manifest.version, &manifest.summary].iter().any(|t| t.contains(char::is_control))
        {
            return Err("the manifest's version must not be empty, and version and summary have no control character"
                .to_owned());
        }
        if !manifest.config_schema.is_object() && !manifest.config_schema.is_boolean() {
            return Err("the manifest's config_schema must be a JSON Schema".to_owned());
        }
        Ok(manifest)
    }
}

/// One permission to call the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
#[non_exhaustive]
pub enum Grant {
    /// Bring messages in: [`crate::Host::accept`].
    Accept,
    /// Be given messages to bring out: [`crate::Bridge::deliver`].
    Deliver,
    /// Log users in and act for them: [`crate::Host::login`].
    Access,
    /// Ask which addresses are ours: [`crate::Host::recipient`].
    Directory,
    /// Read a service secret by its name: [`crate::Host::secret`]. A name that ends in `.*` stands for all that begin with
    /// what is before the star: `dkim.*` is `dkim.example.org` and the others.
    Secret(String),
    /// Take connections on a TCP port: [`crate::Host::listen`]. Port 0 is any free port.
    Listen(u16),
    /// Serve TLS with the instance's certificates: [`crate::Host::certificates`].
    Certificates,
    /// Keep small things of its own, sealed under the instance key: [`crate::Host::checkpoint`].
    Checkpoint,
    /// Send what is transient: [`crate::Host::signal`].
    Signal,
    /// Ask other bridges: [`crate::Host::query`].
    Query,
    /// Let people without an account take part in groups: [`crate::Host::guests`].
    Guests,
}

impl Grant {
    /// Whether who was given this may do `wanted`: the same, or a secret that this one's `.*` stands for.
    ///
    /// # Examples
    /// ```
    /// use mesyx_sdk::Grant;
    /// let secret = |name: &str| Grant::Secret(name.to_owned());
    /// assert!(secret("dkim.*").covers(&secret("dkim.example.org")));
    /// assert!(!secret("dkim.*").covers(&secret("dkim")));
    /// assert!(!secret("dkim.example.org").covers(&secret("dkim.*")));
    /// ```
    #[must_use]
    pub fn covers(&self, wanted: &Self) -> bool {
        match (self, wanted) {
            (Self::Secret(given), Self::Secret(name)) => {
                let prefix = given.strip_suffix('*').filter(|prefix| prefix.ends_with('.'));
                given == name || prefix.is_some_and(|prefix| name.starts_with(prefix) && name.len() > prefix.len())
            }
            _ => self == wanted,
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Deliver => f.write_str("deliver"),
            Self::Access => f.write_str("access"),
            Self::Directory => f.write_str("directory"),
            Self::Secret(name) => write!(f, "secret:{name}"),
            Self::Listen(port) => write!(f, "listen:{port}"),
            Self::Certificates => f.write_str("certificates"),
            Self::Checkpoint => f.write_str("checkpoint"),
            Self::Signal => f.write_str("signal"),
            Self::Query => f.write_str("query"),
            Self::Guests => f.write_str("guests"),
        }
    }
}

/// The text names no grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no grant; grants are accept, deliver, access, directory, certificates, checkpoint, signal, query, guests, secret:NAME and listen:PORT"
)]
pub struct GrantError(String);

impl FromStr for Grant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        let unknown = || GrantError(text.to_owned());
        Ok(match text {
            "accept" => Self::Accept,
            "deliver" => Self::Deliver,
            "access" => Self::Access,
            "directory" => Self::Directory,
            "certificates" => Self::Certificates,
            "checkpoint" => Self::Checkpoint,
            "signal" => Self::Signal,
            "query" => Self::Query,
            "guests" => Self::Guests,
            _ => match text.split_once(':') {
                Some(("secret", name)) if !name.is_empty() => Self::Secret(name.to_owned()),
                Some(("listen", port)) => Self::Listen(port.parse().map_err(|_| unknown())?),
                _ => return Err(unknown()),
            },
        })
    }
}

impl From<Grant> for String {
    fn from(grant: Grant) -> String {
        grant.to_string()
    }
}

impl TryFrom<String> for Grant {
    type Error = GrantError;

    fn try_from(text: String) -> Result<Self, GrantError> {
        text.parse()
    }
}
