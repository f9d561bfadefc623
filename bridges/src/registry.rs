//! Which bridges there are, and how each is made from its configuration.

use mesyx_sdk::{Bridge, Config, ConfigErrors, Grant, Manifest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// How a bridge is run.
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

/// One bridge's part of the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The bridge's name, as its manifest has it.
    pub name: String,
    /// How it runs.
    pub run: Way,
    /// What it may do; `None` is all that it asks for, which only bridges that are linked in get without being told.
    pub grants: Option<Vec<Grant>>,
    /// The bridge's own configuration.
    pub config: Config,
}

/// A bridge that can be started.
#[derive(Clone)]
pub struct Prepared {
    /// What the bridge says of itself.
    pub manifest: Manifest,
    /// How it runs.
    pub run: Way,
    /// What it may do.
    pub grants: Vec<Grant>,
    /// Its configuration, kept to see whether a new one differs.
    pub config: Config,
    /// The bridge itself.
    pub bridge: Arc<dyn Bridge>,
}

impl Prepared {
    /// Whether `other` would run just the same, so that it need not be restarted.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.manifest.name == other.manifest.name
            && self.run == other.run
            && self.grants == other.grants
            && self.config == other.config
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prepared({} {})", self.manifest.name, self.run)
    }
}

type Build = fn(Config) -> Result<Arc<dyn Bridge>, ConfigErrors>;

/// The bridges that are linked in.
#[derive(Debug, Default)]
pub struct Registry {
    linked: BTreeMap<String, (Manifest, Build)>,
}

impl Registry {
    /// Without any bridge.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with one bridge more.
    #[must_use]
    pub fn link<B: Bridge>(mut self) -> Self {
        let build: Build = |config| Ok(Arc::new(B::build(config)?));
        let manifest = B::manifest();
        self.linked.insert(manifest.name.clone(), (manifest, build));
        self
    }

    /// What the linked bridges say of themselves, by name.
    pub fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        self.linked.values().map(|(manifest, _)| manifest)
    }

    /// What one bridge says of itself.
    #[must_use]
    pub fn manifest(&self, name: &str) -> Option<&Manifest> {
        self.linked.get(name).map(|(manifest, _)| manifest)
    }

    /// Makes a bridge from its configuration. Pure, as [`Bridge::build`] is.
    ///
    /// # Errors
    /// All that is wrong, each with its path in the bridge's table.
    pub fn prepare(&self, settings: Settings) -> Result<Prepared, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        if settings.run != Way::Builtin {
            let what = format!("bridges that run as '{}' are not supported by this version", settings.run);
            errors.push("run", what, "write run = \"builtin\", or leave the line out");
        }
        let Some((manifest, build)) = self.linked.get(&settings.name) else {
            let known = self.linked.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let what = format!("there is no bridge '{}' in this program", settings.name);
            errors.push("", what, format!("the bridges are: {known}"));
            return Err(errors);
        };
        for (index, grant) in settings.grants.iter().flatten().enumerate() {
            // Which ports a bridge listens on and which secrets it needs is the operator's choice, so any may be granted.
            if !matches!(grant, Grant::Listen(_) | Grant::Secret(_)) && !manifest.grants.contains(grant) {
                let what = format!("the bridge never asks for '{grant}'");
                errors.push(format!("grants[{index}]"), what, "take it out");
            }
        }
        let bridge = match build(settings.config.clone()) {
            Ok(bridge) => bridge,
            Err(more) => {
                errors.0.extend(more.0);
                return Err(errors);
            }
        };
        let grants = settings.grants.unwrap_or_else(|| {
            let listeners = bridge.listeners();
            let secrets = bridge.secrets().into_iter().map(Grant::Secret);
            manifest.grants.iter().cloned().chain(listeners.iter().map(Grant::from)).chain(secrets).collect()
        });
        for name in bridge.secrets() {
            let wanted = Grant::Secret(name.clone());
            if !grants.iter().any(|given| given.covers(&wanted)) {
                let what = format!("the bridge is to use the secret '{name}', but has no grant for it");
                errors.push("grants", what, format!("add \"secret:{name}\""));
            }
        }
        for spec in bridge.listeners() {
            let grant = Grant::from(&spec);
            if !grants.contains(&grant) {
                let what = format!("the bridge is to listen on port {}, but has no grant for it", spec.address.port());
                errors.push("grants", what, format!("add \"{grant}\""));
            }
        }
        errors.or(Prepared { manifest: manifest.clone(), run: settings.run, grants, config: settings.config, bridge })
    }
}
