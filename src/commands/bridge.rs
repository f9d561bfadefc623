//! `mesyx bridge`: which bridges there are, how they do, what one asks for.

mod certificate;

use super::{find, load, print_json, socket};
use crate::cli::Json;
use crate::config::check::Checked;
use crate::control::{Request, client};
use crate::exit::{Failure, NOT_RUNNING, USAGE, trying};
use crate::serve::{logging, registry, status};
use clap::Subcommand;
use mesyx_bridges::confine::{self, Confinement};
use mesyx_bridges::{Breaker, Server, State, Status};
use mesyx_sdk::{AddressKind, Grant, Manifest};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum Bridge {
    /// List the bridges: how each runs and does, what it asks for and was granted, and why one is not tried any more.
    #[command(after_help = "Example: mesyx bridge list --json")]
    List(Json),
    /// Show what a bridge asks for before it is enabled: a library, a program, or a manifest in a file NAME.json. A program is run
    /// with --manifest, confined.
    #[command(after_help = "Example: mesyx bridge check /usr/local/lib/mesyx/libxmpp.so")]
    Check {
        /// The library, program or manifest.
        file: PathBuf,
        #[command(flatten)]
        json: Json,
    },
    /// Print the JSON Schema of a bridge's configuration; without a name, that of the whole configuration file.
    #[command(after_help = "Example: mesyx bridge schema imap")]
    Schema {
        /// The bridge: one of this program's own, or one that the configuration names.
        name: Option<String>,
    },
    /// Write the beginnings of a bridge: it compiles, carries lines, and passes the SDK's test kit.
    #[command(after_help = "Example: mesyx bridge new pigeon --sdk /usr/src/mesyx/sdk")]
    New(super::bridge_new::New),
    /// Make the certificates by which a bridge on another host and this one know each other. New ones replace the old.
    #[command(after_help = "Example: mesyx bridge certificate xmpp --host mail.example.org --to /root/xmpp")]
    Certificate(certificate::Certificate),
    /// Be one of this program's own bridges, in a process of its own or on another host; the environment says whom to serve.
    #[command(after_help = "Example: MESYX_BRIDGE=tls:mail.example.org:7443 MESYX_BRIDGE_CA=authority.pem \
        MESYX_BRIDGE_CERT=bridge.pem MESYX_BRIDGE_KEY=bridge.key mesyx bridge serve smtp")]
    Serve {
        /// The bridge.
        name: String,
        /// What to log: error, warn, info, debug, trace.
        #[arg(long, default_value = "info")]
        log: String,
        /// Print what the bridge says of itself, as JSON, and end.
        #[arg(long)]
        manifest: bool,
    },
    /// Confine this process, then become the program that the JSON names.
    #[command(hide = true)]
    ExecConfined {
        /// How.
        confinement: String,
    },
}

pub(super) fn execute(config: Option<PathBuf>, command: Bridge) -> Result<(), Failure> {
    match command {
        Bridge::List(output) => list(config, output.json),
        Bridge::Check { file, json } => check(&file, json.json),
        Bridge::Schema { name: Some(name) } => schema(config, &name),
        Bridge::Schema { name: None } => print_json(&crate::config::schema()),
        Bridge::New(new) => super::bridge_new::make(&new),
        Bridge::Certificate(certificate) => certificate::make(&find(config), &certificate),
        Bridge::Serve { name, log: _, manifest: true } => manifest(&name),
        Bridge::Serve { name, log, manifest: false } => serve(&name, &log),
        Bridge::ExecConfined { confinement } => {
            let confinement: Confinement = serde_json::from_str(&confinement).map_err(trying("the argument"))?;
            match confine::exec(&confinement) {
                Ok(never) => match never {},
                Err(why) => Err(Failure::new(why)),
            }
        }
    }
}

/// A bridge, as `list` shows it.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    version: String,
    /// How it is run.
    run: String,
    summary: String,
    /// What it asks for.
    grants: Vec<Grant>,
    /// What it was given; absent where the configuration does not name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    granted: Option<Vec<Grant>>,
    /// How it does, where a server runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

fn list(config: Option<PathBuf>, as_json: bool) -> Result<(), Failure> {
    let registry = registry();
    let mut all: BTreeMap<String, Listed> = BTreeMap::new();
    for manifest in registry.manifests() {
        all.insert(manifest.name.clone(), listed(manifest, "builtin".into()));
    }
    // Without a configuration, or with one that has errors, what this program has is shown all the same.
    let path = find(config.clone());
    let checked = if path.exists() { Some(load(config.clone())) } else { None };
    for prepared in checked.iter().flatten().flat_map(|checked: &Checked| &checked.bridges) {
        let mut entry = listed(&prepared.manifest, prepared.run.way().to_string());
        entry.granted = Some(prepared.grants.clone());
        all.insert(prepared.manifest.name.clone(), entry);
    }
    for status in running(config)?.into_iter().flatten() {
        let entry = all.entry(status.name.clone()).or_insert_with(|| Listed {
            name: status.name.clone(),
            version: status.version.clone(),
            run: String::new(),
            summary: String::new(),
            grants: status.grants.clone(),
            granted: None,
            status: None,
        });
        entry.run = status.run.to_string();
        entry.granted = Some(status.grants.clone());
        entry.status = Some(status);
    }
    let all: Vec<_> = all.into_values().collect();
    if as_json {
        return print_json(&all);
    }
    all.iter().for_each(show);
    if let Some(Err(failure)) = checked {
        eprintln!(
            "mesyx: the configuration has errors, so it is not shown how its bridges are to run:\n{}",
            failure.text
        );
    }
    Ok(())
}

fn listed(manifest: &Manifest, run: String) -> Listed {
    Listed {
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        run,
        summary: manifest.summary.clone(),
        grants: manifest.grants.clone(),
        granted: None,
        status: None,
    }
}

/// How the bridges of the running server do; `None` where none runs.
fn running(config: Option<PathBuf>) -> Result<Option<Vec<Status>>, Failure> {
    match client::ask_server(&socket(config)?, Request::Status) {
        Ok(value) => Ok(Some(super::parse::<status::Status>(value)?.bridges)),
        Err(failure) if failure.code == NOT_RUNNING => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn show(bridge: &Listed) {
    let state = match (&bridge.status, &bridge.granted) {
        (Some(status), _) => state(status),
        (None, Some(_)) => "configured; no server runs".to_owned(),
        (None, None) => "not configured".to_owned(),
    };
    say!("{} {} ({}): {state}", bridge.name, bridge.version, bridge.run);
    if !bridge.summary.is_empty() {
        say!("    {}", bridge.summary);
    }
    say!("    asks for: {}", joined(&bridge.grants));
    if let Some(granted) = &bridge.granted {
        say!("    granted: {}", joined(granted));
    }
    let Some(status) = &bridge.status else { return };
    if !status.ungranted.is_empty() {
        say!("    asks for, but was not granted: {}", joined(&status.ungranted));
    }
    for (name, at) in &status.listening {
        say!("    listens: {name} {at}");
    }
    if status.restarts > 0 {
        say!("    restarts: {}", status.restarts);
    }
    let breaker = match status.breaker {
        Breaker::Closed => None,
        Breaker::Open => Some("open: it is left alone, then tried once"),
        Breaker::HalfOpen => Some("half-open: this is its one try; a healthy life closes it"),
    };
    if let Some(breaker) = breaker {
        say!("    circuit breaker {breaker}; {} failures in a row", status.failures);
    }
    if let Some(why) = &status.last_failure {
        say!("    last failure: {why}");
    }
    if let Some(what) = &status.last_fault {
        let times = if status.faults == 1 { "once".to_owned() } else { format!("{} times", status.faults) };
        say!("    broke its contract {times}; the last time: {what}");
    }
}

fn state(status: &Status) -> String {
    match &status.state {
        State::Starting => "starting".to_owned(),
        State::Ready => "ready".to_owned(),
        State::Degraded { why } => format!("degraded: {why}"),
        State::Failed { pause, .. } => format!("failed; tried again after {pause} s"),
        State::Broken { pause, .. } => format!("broken; tried again after {pause} s"),
        State::Stopped => "stopped".to_owned(),
    }
}

fn joined(grants: &[Grant]) -> String {
    if grants.is_empty() {
        return "nothing".to_owned();
    }
    let mut names: Vec<_> = grants.iter().map(ToString::to_string).collect();
    // One port for both kinds of addresses is asked for twice.
    names.dedup();
    names.join(", ")
}

fn check(file: &std::path::Path, as_json: bool) -> Result<(), Failure> {
    let file = std::path::absolute(file).map_err(trying("the file's path"))?;
    let manifest = mesyx_bridges::describe_file(&file, Server::current()).map_err(Failure::new)?;
    if as_json {
        return print_json(&manifest);
    }
    say!("{} {}: {}", manifest.name, manifest.version, manifest.summary);
    say!("asks for: {}", joined(&manifest.grants));
    for grant in &manifest.grants {
        say!("    {grant}: {}", meaning(grant));
    }
    if !manifest.delivers.is_empty() {
        let kinds: Vec<_> = manifest.delivers.iter().map(|kind| reached(*kind)).collect();
        say!("brings messages to {}", kinds.join(", "));
    }
    let grants: Vec<_> = manifest.grants.iter().map(|grant| format!("\"{grant}\"")).collect();
    say!("To enable it, granting all that, write:");
    say!("[bridge.{}]", manifest.name);
    let key = if file.extension().is_some_and(|extension| extension == "so") { "library" } else { "process" };
    // As `mesyx check` would say otherwise.
    let user = if key == "process" && Server::current().uid == 0 { ", user = \"mesyx-bridge\"" } else { "" };
    say!("run = {{ {key} = \"{}\"{user} }}", file.display());
    say!("grants = [{}]", grants.join(", "));
    say!(
        "# and \"listen:PORT\" for each port that it is to take connections on, \"secret:NAME\" for each secret that it is to read"
    );
    let required = manifest.config_schema["required"].as_array();
    for (key, schema) in manifest.config_schema["properties"].as_object().into_iter().flatten() {
        let needed = required.is_some_and(|required| required.iter().any(|name| name == key));
        let what =
            schema["description"].as_str().map(|text| format!(": {}", text.replace('\n', " "))).unwrap_or_default();
        say!("# {key}{}{what}", if needed { " (needed)" } else { "" });
    }
    Ok(())
}

/// Whom a bridge reaches that delivers to addresses of a kind.
fn reached(kind: AddressKind) -> String {
    match kind {
        AddressKind::Other(network) => {
            format!("{network}:NAME, which mail programs write as NAME@{network}.x.DOMAIN")
        }
        AddressKind::Mail => "mail addresses elsewhere".to_owned(),
        AddressKind::Irc => "channels and nicks on IRC networks".to_owned(),
        kind => format!("{kind:?}").to_lowercase(),
    }
}

/// What a grant allows, for somebody who decides on it.
fn meaning(grant: &Grant) -> String {
    match grant {
        Grant::Accept => "bring messages in, to any user, from any address".into(),
        Grant::Deliver => "be given the messages that leave, in clear".into(),
        Grant::Access => "log users in with their passwords, and read and change what they have".into(),
        Grant::Directory => "ask which addresses exist here".into(),
        Grant::Secret(name) => format!("read the secret '{name}' (mesyx secret)"),
        Grant::Listen(0) => "take connections on a free port".into(),
        Grant::Listen(port) => format!("take connections on TCP port {port}"),
        Grant::Certificates => "hold the private keys of the TLS certificates".into(),
        Grant::Checkpoint => "keep small things of its own, sealed".into(),
        Grant::Signal => "send what is transient: presence, typing".into(),
        Grant::Query => "ask other bridges".into(),
        Grant::Guests => "let people without an account take part in groups".into(),
        other => format!("{other}"),
    }
}

fn schema(config: Option<PathBuf>, name: &str) -> Result<(), Failure> {
    if let Some(manifest) = registry().manifest(name) {
        return print_json(&manifest.config_schema);
    }
    let absent = || Failure::new(format!("there is no bridge '{name}'; `mesyx bridge list` shows them"));
    if !find(config.clone()).exists() {
        return Err(absent());
    }
    let checked = load(config)?;
    let prepared = checked.bridges.iter().find(|prepared| prepared.manifest.name == name).ok_or_else(absent)?;
    print_json(&prepared.manifest.config_schema)
}

fn absent(name: &str) -> Failure {
    Failure::with(USAGE, format!("there is no bridge '{name}' in this program; `mesyx bridge list` shows them"))
}

fn manifest(name: &str) -> Result<(), Failure> {
    let registry = registry();
    say!("{}", registry.manifest(name).ok_or_else(|| absent(name))?.to_json().trim_end());
    Ok(())
}

fn serve(name: &str, log: &str) -> Result<(), Failure> {
    let registry = registry();
    let main = registry.main(name).ok_or_else(|| absent(name))?;
    logging::start_lines(log).map_err(|error| Failure::with(USAGE, error))?;
    let code = main();
    if code == std::process::ExitCode::SUCCESS {
        Ok(())
    } else {
        Err(Failure::new(format!("the bridge {name} failed")))
    }
}
