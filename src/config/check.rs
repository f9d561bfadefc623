//! From the file's text to what the program works with: everything that is wrong is found at once.

use super::http::CheckedHttp;
use super::locate::{Located, Problem, join};
use super::memory::MemoryLock;
use super::{File, Log, Mode, RunAs, Tls, bridges, network};
use crate::tls::{self, TlsFiles};
use mesyx_bridges::{Prepared, Registry, Run};
use mesyx_core::settings::{
    Alias, Argon2Settings, Caches, DomainSettings, Limits, LoginLimits, Settings as CoreSettings,
};
use mesyx_sdk::config::{schema, validate};
use mesyx_sdk::{Certificates, Domain, Grant, MailAddress};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A configuration without errors.
#[derive(Debug)]
pub(crate) struct Checked {
    /// Where it stands.
    pub(crate) file: PathBuf,
    /// What the core is told.
    pub(crate) core: CoreSettings,
    /// The bridges to run.
    pub(crate) bridges: Vec<Prepared>,
    /// Where the certificates are.
    pub(crate) tls: Vec<TlsFiles>,
    /// Where the admin listener listens, if anywhere.
    pub(crate) admin: Option<SocketAddr>,
    /// How names are looked up.
    pub(crate) dns: mesyx_net::DnsConfig,
    /// How files are fetched.
    pub(crate) https: mesyx_net::HttpsConfig,
    /// The pages for others.
    pub(crate) http: CheckedHttp,
    /// The control socket.
    pub(crate) control_socket: PathBuf,
    /// What is logged.
    pub(crate) log: Log,
    /// Whom to become.
    pub(crate) run_as: Option<RunAs>,
    /// Whether memory is locked.
    pub(crate) memory: MemoryLock,
}

impl Checked {
    /// Reads the certificates.
    pub(crate) fn certificates(&self) -> Result<Certificates, Vec<Problem>> {
        let mut identities = Vec::new();
        let mut problems = Vec::new();
        for (index, files) in self.tls.iter().enumerate() {
            match tls::load(files) {
                Ok(identity) => identities.push(identity),
                Err(wrong) => problems.push(Problem {
                    file: self.file.clone(),
                    line: if wrong.key == "chain" { files.lines.0 } else { files.lines.1 },
                    path: format!("tls[{index}].{}", wrong.key),
                    what: wrong.what,
                    fix: wrong.fix,
                }),
            }
        }
        if problems.is_empty() { Ok(Certificates(identities)) } else { Err(problems) }
    }
}

/// Reads and checks the file at `path`, certificates included.
pub(crate) fn read(path: &Path, registry: &Registry) -> Result<Checked, Vec<Problem>> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let fix = "make one with `mesyx init DIR`, or name another with --config".to_owned();
        let what = format!("the configuration can't be read: {error}");
        vec![Problem { file: path.to_owned(), line: 1, path: String::new(), what, fix }]
    })?;
    examine(path, &text, registry, true)
}

/// Where the server that `path` configures can be reached, whatever else is wrong with the file.
pub(crate) fn control_socket(path: &Path) -> PathBuf {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let value = Located::read(path, &text).value;
    let socket = value["control_socket"].as_str().map_or_else(super::control_socket, PathBuf::from);
    path.parent().map_or_else(PathBuf::new, Path::to_owned).join(socket)
}

/// Checks the text of the file at `path`, without looking at other files.
#[cfg(test)]
pub(crate) fn check(path: &Path, text: &str, registry: &Registry) -> Result<Checked, Vec<Problem>> {
    examine(path, text, registry, false)
}

fn examine(path: &Path, text: &str, registry: &Registry, with_files: bool) -> Result<Checked, Vec<Problem>> {
    let mut located = Located::read(path, text);
    if !located.is_clean() {
        return Err(located.into_problems());
    }
    let base = path.parent().map_or_else(PathBuf::new, Path::to_owned);
    let misshapen = validate::check(&schema::<File>(), &located.value);
    let bridges = match located.value.get("bridge").cloned() {
        Some(Value::Object(tables)) => bridges::read(&mut located, &tables, registry, &base, with_files),
        _ => Vec::new(),
    };
    // What has the wrong shape is left out or replaced, so that the rest can be looked at all the same.
    let mut value = located.without(misshapen.iter().map(|error| error.path.as_str()));
    for error in misshapen {
        located.note(&error.path, error.what, error.fix);
    }
    if let Value::Object(map) = &mut value {
        map.entry("hostname").or_insert_with(|| "mail.example.org".into());
        map.entry("domains").or_insert_with(|| serde_json::json!(["example.org"]));
    }
    let file = match serde_json::from_value::<File>(value) {
        Ok(file) => file,
        Err(error) => {
            if located.is_clean() {
                located.note("", error.to_string(), "write it as the file that `mesyx init` makes shows");
            }
            return Err(located.into_problems());
        }
    };
    let core = core(&mut located, &file, &base);
    let admin = admin(&mut located, &file.admin.listen);
    let tls = tls_files(&mut located, &file.tls, &base);
    if with_files {
        for (index, files) in tls.iter().enumerate() {
            if let Err(wrong) = tls::load(files) {
                located.note(&format!("tls[{index}].{}", wrong.key), wrong.what, wrong.fix);
            }
        }
    }
    let hostname = core.as_ref().map_or("", |core| core.hostname.as_str());
    let http = CheckedHttp::of(&file.http, hostname, &mut located);
    listeners(&mut located, &bridges, admin, &http);
    if tls.is_empty() && http.listeners.iter().any(|(_, tls)| *tls) {
        let fix = "add [[tls]] with chain and key, or write tls = false where a proxy does TLS";
        located.note("http.listeners", "they need a TLS certificate", fix);
    }
    if tls.is_empty() && bridges.iter().any(|bridge| bridge.manifest.grants.contains(&Grant::Certificates)) {
        let fix = "add [[tls]] with chain and key; `mesyx init` makes a self-signed certificate";
        located.note("tls", "the bridges need a TLS certificate", fix);
    }
    if let Some(run_as) = &file.run_as {
        crate::serve::privileges::check(run_as, &mut located);
    }
    if let Err(error) = crate::serve::logging::filter(&file.log.level) {
        located.note("log.level", error, "write a level, such as info, or info,mesyx_bridge_smtp=debug");
    }
    let (dns, https) = network::check(&mut located, &file.dns, &file.https, &base);
    modes(&mut located, &file.modes);
    match (core, located.is_clean()) {
        (Some(core), true) => Ok(Checked {
            file: path.to_owned(),
            core,
            bridges,
            tls,
            admin,
            dns,
            https,
            http,
            control_socket: base.join(&file.control_socket),
            log: file.log,
            run_as: file.run_as,
            memory: file.memory.lock,
        }),
        _ => Err(located.into_problems()),
    }
}

fn modes(located: &mut Located, modes: &[Mode]) {
    let missing: Vec<_> = [Mode::Gateway, Mode::Store, Mode::Access]
        .into_iter()
        .filter(|mode| !modes.contains(mode))
        .map(|mode| format!("{mode:?}").to_lowercase())
        .collect();
    if !missing.is_empty() {
        let what = format!("this version runs all three parts; {} is missing", missing.join(" and "));
        located.note("modes", what, "leave the line out");
    }
}

/// The core's settings; `None` where something without which there are none is wrong.
fn core(located: &mut Located, file: &File, base: &Path) -> Option<CoreSettings> {
    let hostname = name(located, "hostname", &file.hostname, "mail.example.org");
    let domains = domains(located, file);
    let data_dir = base.join(&file.data_dir);
    let instance_key = secret_path(located, "instance_key", &file.instance_key, base);
    if instance_key.starts_with(&data_dir) {
        let what = "the instance key lies inside data_dir, so that a backup of that would hold the key that opens it";
        located.note("instance_key", what, "choose a path outside data_dir");
    }
    let names: Vec<_> = domains.iter().map(|domain| domain.domain.clone()).collect();
    let separators: Vec<char> = file.separators.chars().collect();
    if let Some(odd) = separators.iter().find(|c| !matches!(c, '+' | '-' | '_' | '=' | '.' | '#' | '~')) {
        let what = format!("'{}' can't end a user's name in an address", odd.escape_default());
        located.note("separators", what, "write some of + - _ = . # ~");
    }
    let first = domains.first()?;
    // Where it is wrong, the rest is checked all the same.
    let hostname = hostname.unwrap_or_default();
    let mut settings = CoreSettings::new(data_dir, instance_key, hostname, first.domain.clone());
    settings.aliases = aliases(located, file, &names);
    settings.domains = domains;
    settings.separators = separators;
    settings.postmaster.clone_from(&file.postmaster);
    let limits = &file.limits;
    if limits.budget_bytes < limits.message_bytes {
        let what = "less than one message of the largest size would fit";
        located.note("limits.budget_bytes", what, "write at least limits.message_bytes");
    }
    settings.limits = Limits {
        message_bytes: limits.message_bytes,
        budget_bytes: limits.budget_bytes,
        mailboxes: limits.mailboxes,
        quota_bytes: limits.quota_bytes,
    };
    let login = &file.login;
    if login.longest_wait < login.first_wait {
        located.note("login.longest_wait", "it is shorter than login.first_wait", "write at least as much");
    }
    settings.login = LoginLimits {
        free_failures: login.free_failures,
        first_wait: Duration::from_secs(login.first_wait),
        longest_wait: Duration::from_secs(login.longest_wait),
        forget_after: Duration::from_secs(login.forget_after),
        sessions_per_user: login.sessions_per_user,
        grace: Duration::from_secs(login.grace),
    };
    let argon2 = &file.argon2;
    settings.argon2 = Argon2Settings { memory_kib: argon2.memory_kib, passes: argon2.passes, lanes: argon2.lanes };
    settings.sealing_window = Duration::from_secs(file.sealing.window);
    settings.keysets = (&file.keysets).into();
    if settings.keysets.ahead_days <= settings.keysets.warn_days {
        let what = "the next keyset would be warned of before it is made";
        located.note("keysets.ahead_days", what, "write more than keysets.warn_days");
    }
    settings.caches = Caches { summary_bytes: file.caches.summary_bytes, body_bytes: file.caches.body_bytes };
    settings.pgp = file.pgp.settings();
    settings.queue = file.queue.settings(located);
    settings.groups = (&file.groups).into();
    contradictions(located, file, &settings);
    Some(settings)
}

/// What the core finds contradictory, where nothing was found wrong with that key before.
fn contradictions(located: &mut Located, file: &File, settings: &CoreSettings) {
    for text in settings.check() {
        let alias = file.aliases.keys().find(|alias| is_about(&text, alias));
        let path = alias.map_or_else(String::new, |alias| join("aliases", alias));
        if alias.is_some() && !located.is_noted(&path) || alias.is_none() && located.is_clean() {
            let (what, fix) = text.split_once([':', ';']).unwrap_or((&text, "mend it"));
            located.note(&path, what.trim(), fix.trim());
        }
    }
}

/// Whether the core speaks of this alias, which it spells in its own way.
fn is_about(text: &str, alias: &str) -> bool {
    let rest = text.strip_prefix("the alias ").and_then(|rest| rest.split([' ', ';']).next());
    let address = alias.parse::<MailAddress>().map(|address| address.to_string());
    rest.is_some_and(|rest| address.is_ok_and(|address| rest.trim_end_matches(':') == address))
}

/// A host name as A-labels.
fn name(located: &mut Located, path: &str, text: &str, example: &str) -> Option<String> {
    match text.parse::<Domain>() {
        Ok(Domain::Name(name)) => Some(name.to_string()),
        _ => {
            located.note(path, "that is no name of a host", format!("write one such as \"{example}\""));
            None
        }
    }
}

fn domains(located: &mut Located, file: &File) -> Vec<DomainSettings> {
    let mut domains: Vec<DomainSettings> = Vec::new();
    if file.domains.is_empty() {
        located.note("domains", "there is none", "write domains = [\"example.org\"]");
    }
    for (index, text) in file.domains.iter().enumerate() {
        let path = format!("domains[{index}]");
        let Some(domain) = name(located, &path, text, "example.org").and_then(|name| name.parse::<Domain>().ok())
        else {
            continue;
        };
        if domains.iter().any(|other| other.domain == domain) {
            located.note(&path, "this domain stands here twice", "take one out");
            continue;
        }
        domains.push(DomainSettings { domain, catch_all: None });
    }
    for (text, target) in &file.catch_all {
        let path = join("catch_all", text);
        let domain = text.parse::<Domain>().ok();
        match domains.iter_mut().find(|known| Some(&known.domain) == domain.as_ref()) {
            Some(known) => known.catch_all = Some(target.clone()),
            None => located.note(&path, "that is none of the domains", "add it to domains, or take this out"),
        }
    }
    domains
}

fn aliases(located: &mut Located, file: &File, domains: &[Domain]) -> Vec<Alias> {
    let mut aliases: Vec<Alias> = Vec::new();
    for (text, targets) in &file.aliases {
        let path = join("aliases", text);
        if targets.is_empty() {
            located.note(&path, "it stands for nobody", "name users or addresses: [\"alice\"]");
        }
        match text.parse::<MailAddress>() {
            Err(error) => located.note(&path, error.to_string(), "write \"info@example.org\" = [\"alice\"]"),
            Ok(address) if !domains.contains(address.domain()) => {
                located.note(&path, "it is in none of the domains", "add its domain to domains, or take this out");
            }
            Ok(address) if aliases.iter().any(|other| other.address == address) => {
                located.note(&path, "this address stands here twice, spelled in two ways", "take one out");
            }
            Ok(address) => aliases.push(Alias { address, targets: targets.clone() }),
        }
    }
    aliases
}

fn tls_files(located: &mut Located, entries: &[Tls], base: &Path) -> Vec<TlsFiles> {
    let mut files = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let names = entry.names.as_ref().map(|names| {
            let mut good = Vec::new();
            for (at, text) in names.iter().enumerate() {
                let path = format!("tls[{index}].names[{at}]");
                let (star, rest) = text.strip_prefix("*.").map_or(("", text.as_str()), |rest| ("*.", rest));
                good.extend(name(located, &path, rest, "mail.example.org").map(|name| format!("{star}{name}")));
            }
            good
        });
        let key = secret_path(located, &format!("tls[{index}].key"), &entry.key, base);
        let line = |key: &str| located.line_of(&format!("tls[{index}].{key}"));
        let lines = (line("chain"), line("key"));
        files.push(TlsFiles { chain: base.join(&entry.chain), key, names, lines });
    }
    files
}

/// A path relative to the file, or `credential:NAME` from systemd (systemd.exec(5), `LoadCredential=`).
fn secret_path(located: &mut Located, path: &str, value: &Path, base: &Path) -> PathBuf {
    let Some(name) = value.to_str().and_then(|text| text.strip_prefix("credential:")) else {
        return base.join(value);
    };
    if name.is_empty() || name.contains('/') {
        located.note(path, "that names no credential", "write \"credential:NAME\", as in LoadCredential=NAME:PATH");
    }
    match std::env::var_os("CREDENTIALS_DIRECTORY") {
        Some(directory) => PathBuf::from(directory).join(name),
        // Only the service has the credentials; whoever else checks the file can't look at them.
        None => PathBuf::from("/run/credentials/mesyx.service").join(name),
    }
}

fn admin(located: &mut Located, text: &str) -> Option<SocketAddr> {
    if text.is_empty() {
        return None;
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Some(address),
        Ok(_) => {
            let what = "nobody has to log in there, so it may listen on a loopback address only";
            located.note("admin.listen", what, "write \"127.0.0.1:9190\", and put a proxy before it where needed");
            None
        }
        Err(_) => {
            let fix = "write \"127.0.0.1:9190\", or \"\" for none";
            located.note("admin.listen", "that is no address with a port", fix);
            None
        }
    }
}

/// No two listeners may want the same address.
fn listeners(located: &mut Located, bridges: &[Prepared], admin: Option<SocketAddr>, http: &CheckedHttp) {
    let mut taken: BTreeMap<SocketAddr, String> = BTreeMap::new();
    if let Some(address) = admin {
        taken.insert(address, "admin.listen".into());
    }
    for (spec, _) in http.listeners.iter().filter(|(spec, _)| spec.address.port() != 0) {
        if let Some(other) = taken.insert(spec.address, format!("http, listener {}", spec.name)) {
            let what = format!("listener {} wants {}, which {other} has", spec.name, spec.address);
            located.note("http.listeners", what, "give each its own address or port");
        }
    }
    let remote = bridges.iter().filter_map(|bridge| match &bridge.run {
        Run::Remote(remote) => Some((bridge.manifest.name.clone(), "of the remote bridge".to_owned(), remote.remote)),
        _ => None,
    });
    let wanted = bridges.iter().flat_map(|bridge| {
        let name = &bridge.manifest.name;
        bridge.bridge.listeners().into_iter().map(move |spec| (name.clone(), spec.name.clone(), spec.address))
    });
    let wanted: Vec<_> = wanted.chain(remote).chain(unprepared(&located.value["bridge"], bridges)).collect();
    for (name, listener, address) in wanted.into_iter().filter(|(_, _, address)| address.port() != 0) {
        let whose = format!("bridge.{name}, listener {listener}");
        if let Some(other) = taken.insert(address, whose) {
            let what = format!("listener {listener} wants {address}, which {other} has");
            located.note(&join("bridge", &name), what, "give each its own address or port");
        }
    }
}

/// What bridges want to listen on that can't be prepared, since something else is wrong with them.
fn unprepared(tables: &Value, bridges: &[Prepared]) -> Vec<(String, String, SocketAddr)> {
    let mut wanted = Vec::new();
    for (name, table) in tables.as_object().into_iter().flatten() {
        if bridges.iter().any(|bridge| bridge.manifest.name == *name) {
            continue;
        }
        for listener in table["listeners"].as_array().into_iter().flatten() {
            let address = listener["address"].as_str().and_then(|text| text.parse().ok());
            let label = listener["name"].as_str().unwrap_or_default().to_owned();
            wanted.extend(address.map(|address| (name.clone(), label, address)));
        }
    }
    wanted
}
