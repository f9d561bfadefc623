//! Which bridges there are, and how each is made from its configuration.

use crate::describe::{Server, Wrong};
use crate::library::{self, Loaded};
use crate::outside::{Outside, Start};
use crate::process::Launch;
use crate::remote::{self, Listens};
use crate::run::{Pace, Restart, Run};
use mesyx_sdk::config::validate;
use mesyx_sdk::wire::host::{Faults, Limits};
use mesyx_sdk::{Bridge, Config, ConfigErrors, Grant, ListenSpec, Manifest};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// One bridge's part of the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The bridge's name, as its manifest has it.
    pub name: String,
    /// How it runs.
    pub run: Run,
    /// What it may do; `None` is all that it asks for, which only this program's own bridges get without being told.
    pub grants: Option<Vec<Grant>>,
    /// When it is started again after a failure; `None` is as the supervisor has it.
    pub restart: Option<Restart>,
    /// How fast it may call; `None` is any pace for this program's own bridges, and [`Pace::default`] for others.
    pub pace: Option<Pace>,
    /// The bridge's own configuration.
    pub config: Config,
    /// What [`crate::describe`] told of a bridge that is not linked in; `None` where nobody asked.
    pub manifest: Option<Manifest>,
    /// Where things are.
    pub places: Places,
}

/// Where things are that bridges outside need.
#[derive(Debug, Clone)]
pub struct Places {
    /// As whom the server runs.
    pub server: Server,
    /// The directory of the sockets of child processes; each life makes one of its own in it.
    pub sockets: PathBuf,
    /// The directory of the certificates of remote bridges; each has one of its name in it.
    pub certificates: PathBuf,
}

/// A bridge that can be started.
#[derive(Clone)]
pub struct Prepared {
    /// What the bridge says of itself.
    pub manifest: Manifest,
    /// How it runs.
    pub run: Run,
    /// When it is started again after a failure; `None` is as the supervisor has it.
    pub restart: Option<Restart>,
    /// How fast it may call, where that is bounded.
    pub pace: Option<Pace>,
    /// What it did against its contract.
    pub faults: Arc<Faults>,
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
        // Another version of its file is another manifest.
        self.manifest == other.manifest
            && self.run == other.run
            && self.restart == other.restart
            && self.pace == other.pace
            && self.grants == other.grants
            && self.config == other.config
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prepared({} {})", self.manifest.name, self.run.way())
    }
}

type Build = fn(Config) -> Result<Arc<dyn Bridge>, ConfigErrors>;

/// A bridge that is linked in.
#[derive(Debug)]
struct Linked {
    manifest: Manifest,
    build: Build,
    /// Serves it in a process of its own.
    main: fn() -> ExitCode,
}

/// The bridges that are linked in.
#[derive(Debug, Default)]
pub struct Registry {
    linked: BTreeMap<String, Linked>,
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
        self.linked
            .insert(manifest.name.clone(), Linked { manifest, build, main: mesyx_sdk::wire::from_environment::<B> });
        self
    }

    /// What the linked bridges say of themselves, by name.
    pub fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        self.linked.values().map(|linked| &linked.manifest)
    }

    /// What one bridge says of itself.
    #[must_use]
    pub fn manifest(&self, name: &str) -> Option<&Manifest> {
        self.linked.get(name).map(|linked| &linked.manifest)
    }

    /// The main function of a linked bridge that runs in a process of its own, told by its environment whom to serve.
    #[must_use]
    pub fn main(&self, name: &str) -> Option<fn() -> ExitCode> {
        self.linked.get(name).map(|linked| linked.main)
    }

    /// Makes a bridge from its configuration. Pure but for looking whether paths and users exist, as [`Bridge::build`] is.
    ///
    /// # Errors
    /// All that is wrong, each with its path in the bridge's table.
    pub fn prepare(&self, settings: Settings) -> Result<Prepared, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let manifest = self.known(&settings)?;
        for (index, grant) in settings.grants.iter().flatten().enumerate() {
            // Which ports a bridge listens on and which secrets it needs is the operator's choice, so any may be granted.
            if !matches!(grant, Grant::Listen(_) | Grant::Secret(_)) && !manifest.grants.contains(grant) {
                let what = format!("the bridge never asks for '{grant}'");
                errors.push(format!("grants[{index}]"), what, "take it out");
            }
        }
        // A bridge of ours that runs elsewhere is checked as thoroughly as where it runs here.
        let ours = self.linked.get(&settings.name).filter(|linked| linked.manifest == manifest);
        let pace = settings.pace.or_else(|| ours.is_none().then(Pace::default));
        let faults = Arc::<Faults>::default();
        let built = match ours {
            Some(linked) => Some((linked.build)(settings.config.clone())),
            None => {
                errors.0.extend(validate::check(&manifest.config_schema, settings.config.value()));
                None
            }
        };
        let built = match built.transpose() {
            Ok(built) => built,
            Err(more) => {
                errors.0.extend(more.0);
                None
            }
        };
        let listeners = match &built {
            Some(bridge) => bridge.listeners(),
            None => configured(&settings.config),
        };
        let secrets = built.as_ref().map(|bridge| bridge.secrets()).unwrap_or_default();
        let asked = || {
            let secrets = secrets.iter().cloned().map(Grant::Secret);
            manifest.grants.iter().cloned().chain(listeners.iter().map(Grant::from)).chain(secrets).collect()
        };
        let grants: Vec<Grant> = match settings.grants {
            Some(grants) => grants,
            None if settings.run.is_own() => asked(),
            None => Vec::new(),
        };
        for name in &secrets {
            let wanted = Grant::Secret(name.clone());
            if !grants.iter().any(|given| given.covers(&wanted)) {
                let what = format!("the bridge is to use the secret '{name}', but has no grant for it");
                errors.push("grants", what, format!("add \"secret:{name}\""));
            }
        }
        for spec in &listeners {
            let grant = Grant::from(spec);
            if !grants.contains(&grant) {
                let what = format!("the bridge is to listen on port {}, but has no grant for it", spec.address.port());
                errors.push("grants", what, format!("add \"{grant}\""));
            }
        }
        let places = &settings.places;
        let start = match &settings.run {
            Run::Builtin(_) => None,
            Run::Library(library) => {
                Some(library::check(library).map(|()| Start::Library(Loaded::new(library, places.server))))
            }
            Run::Process(process) => Some(
                Launch::new(process, &grants, places.server)
                    .map(|launch| Start::Process(Box::new(launch), places.sockets.clone())),
            ),
            Run::Remote(remote) => {
                let own = places.certificates.join(&settings.name);
                let certificates = remote.certificates.clone().unwrap_or(own);
                Some(remote::server_config(&certificates).map(|_| Start::Remote(Listens::new(remote, certificates))))
            }
        };
        let bridge: Option<Arc<dyn Bridge>> = match start {
            None => built,
            Some(Ok(start)) => {
                let remote = matches!(start, Start::Remote(_));
                let mut outside = Outside::new(&settings.name, start, settings.config.clone(), grants.clone());
                // What it listens on over there is not bound here.
                outside.listeners = if remote { Vec::new() } else { listeners };
                outside.secrets = secrets;
                outside.limits = Limits {
                    calls: pace.map(|pace| pace.calls),
                    messages: pace.map(|pace| pace.messages),
                    faults: Arc::clone(&faults),
                    ..Limits::default()
                };
                Some(Arc::new(outside))
            }
            Some(Err(wrong)) => {
                note(&mut errors, wrong);
                None
            }
        };
        let (run, restart, config) = (settings.run, settings.restart, settings.config);
        match bridge {
            Some(bridge) => errors.or(Prepared { manifest, run, restart, pace, faults, grants, config, bridge }),
            None => Err(errors),
        }
    }

    /// What the bridge says of itself: told by its file, or by this program where it is one of its own.
    fn known(&self, settings: &Settings) -> Result<Manifest, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let linked = self.manifest(&settings.name);
        match (&settings.manifest, linked) {
            (Some(manifest), _) if manifest.name != settings.name => {
                let what = format!("what runs there is the bridge '{}'", manifest.name);
                errors.push("run", what, format!("write its table as [bridge.{}]", manifest.name));
            }
            (Some(manifest), _) => return Ok(manifest.clone()),
            (None, Some(linked)) => return Ok(linked.clone()),
            (None, None) if settings.run.is_own() => {
                let known = self.linked.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                let what = format!("there is no bridge '{}' in this program", settings.name);
                errors.push(
                    "",
                    what,
                    format!("the bridges are: {known}; others need run = {{ process = \"PROGRAM\" }}"),
                );
            }
            (None, None) if matches!(settings.run, Run::Remote(_)) => {
                let fix = "add manifest = \"FILE\", with what the bridge's program prints with --manifest";
                errors.push("run", "nothing tells what this bridge asks for and how it is configured", fix);
            }
            // Its file was not looked at, or is told wrong elsewhere.
            (None, None) => {
                return Ok(Manifest {
                    name: settings.name.clone(),
                    version: String::new(),
                    summary: String::new(),
                    grants: settings.grants.clone().unwrap_or_default(),
                    delivers: Vec::new(),
                    config_schema: serde_json::Value::Bool(true),
                });
            }
        }
        Err(errors)
    }
}

impl Prepared {
    /// What the bridge asks for and was not granted; ports and secrets aside, which depend on its configuration.
    #[must_use]
    pub fn ungranted(&self) -> Vec<Grant> {
        let plain = |grant: &&Grant| !matches!(grant, Grant::Listen(_) | Grant::Secret(_));
        self.manifest.grants.iter().filter(plain).filter(|grant| !self.grants.contains(grant)).cloned().collect()
    }
}

fn note(errors: &mut ConfigErrors, wrong: Wrong) {
    let path = if wrong.key.is_empty() { "run".to_owned() } else { format!("run.{}", wrong.key) };
    errors.push(path, wrong.what, wrong.fix);
}

/// The listeners that a configuration names in the customary way, as `listeners = [{ name = "x", address = "[::]:25" }]`, so that
/// ports are bound while we may; others are bound when the bridge asks.
fn configured(config: &Config) -> Vec<ListenSpec> {
    let entries = config.value()["listeners"].as_array().map_or(&[][..], Vec::as_slice);
    let spec = |entry: &serde_json::Value| {
        let address = entry["address"].as_str()?.parse().ok()?;
        Some(ListenSpec { name: entry["name"].as_str()?.to_owned(), address })
    };
    entries.iter().filter_map(spec).collect()
}
