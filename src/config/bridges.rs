//! The tables `[bridge.NAME]`: from JSON to bridges that can be started.

use super::locate::{Located, join};
use super::{BridgeHead, network};
use mesyx_bridges::{Places, Prepared, Registry, Run, Server, Settings, describe};
use mesyx_sdk::config::{schema, validate};
use mesyx_sdk::{Config, Grant};
use nix::unistd::{Group, User};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// The keys of a bridge's table that are ours; the others are the bridge's own.
const HEAD: [&str; 4] = ["run", "grants", "restart", "pace"];

/// Makes every bridge that the tables name; `with_files` also looks at the files of those that are not linked in, and asks them
/// what they are.
pub(super) fn read(
    located: &mut Located,
    tables: &Map<String, Value>,
    registry: &Registry,
    base: &Path,
    with_files: bool,
) -> Vec<Prepared> {
    let places = places(&located.value, base);
    let mut bridges = Vec::new();
    for (name, table) in tables {
        let at = join("bridge", name);
        let Value::Object(table) = table else { continue };
        let (head, mut own): (Map<_, _>, Map<_, _>) =
            table.clone().into_iter().partition(|(key, _)| HEAD.contains(&key.as_str()));
        let Some(head) = read_head(located, &at, head) else { continue };
        let mut grants = Vec::new();
        for (index, text) in head.grants.iter().flatten().enumerate() {
            match text.parse::<Grant>() {
                Ok(grant) => grants.push(grant),
                Err(error) => located.note(&format!("{at}.grants[{index}]"), error.to_string(), "write one of these"),
            }
        }
        // With a way that can't be told, whose bridge it is can't either.
        if located.is_noted_below(&format!("{at}.run")) && registry.manifest(name).is_none() {
            continue;
        }
        let mut run = head.run.at(base);
        let described = if with_files { describe(&run, places.server) } else { Ok(None) };
        let manifest = match described {
            Ok(manifest) => manifest,
            Err(wrong) => {
                let dot = if wrong.key.is_empty() { "" } else { "." };
                located.note(&format!("{at}.run{dot}{}", wrong.key), wrong.what, wrong.fix);
                continue;
            }
        };
        if let Some(manifest) = manifest.as_ref().or_else(|| registry.manifest(name)) {
            network::pass_on(&located.value, &manifest.config_schema, base, &mut own);
        }
        readable(&mut run, &own);
        let settings = Settings {
            name: name.clone(),
            run,
            grants: head.grants.map(|_| grants),
            restart: head.restart,
            pace: head.pace,
            config: Config::new(Value::Object(own)),
            manifest,
            places: places.clone(),
        };
        match registry.prepare(settings) {
            Ok(prepared) => bridges.push(prepared),
            Err(errors) => {
                for error in errors.0 {
                    let dot = if error.path.is_empty() { "" } else { "." };
                    located.note(&format!("{at}{dot}{}", error.path), error.what, error.fix);
                }
            }
        }
    }
    bridges
}

/// What is ours in a bridge's table. What is wrong in it is noted and left out, so that the rest can be looked at.
fn read_head(located: &mut Located, at: &str, mut head: Map<String, Value>) -> Option<BridgeHead> {
    if let Some(word @ ("library" | "process" | "remote")) = head.get("run").and_then(Value::as_str) {
        let value = match word {
            "library" => "FILE.so",
            "process" => "PROGRAM",
            _ => "ADDRESS:PORT",
        };
        let fix = format!("write run = {{ {word} = \"{value}\" }}");
        located.note(&format!("{at}.run"), "this way needs more than its name", fix);
        head.remove("run");
    }
    for error in validate::check(&schema::<BridgeHead>(), &Value::Object(head.clone())) {
        let key = error.path.split(['.', '[']).next().unwrap_or_default();
        head.remove(key);
        located.note(&format!("{at}.{}", error.path), error.what, error.fix);
    }
    match serde_json::from_value(Value::Object(head)) {
        Ok(head) => Some(head),
        Err(error) => {
            located.note(
                at,
                format!("`run` or `grants` can't be read: {error}"),
                "write run = \"builtin\", or leave them out",
            );
            None
        }
    }
}

/// The files that the sections shared by bridges name are there for this program's own bridges in a process too.
fn readable(run: &mut Run, own: &Map<String, Value>) {
    let Run::Process(process) = run else { return };
    if process.is_own() {
        let files = network::files(own).into_iter().filter(|path| path.exists());
        process.readable.extend(files);
    }
}

/// As whom the server runs where something else than its configuration changes the user, as systemd does, and root gives a command: whose
/// the data is.
fn of_data(directory: &Path) -> Option<Server> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(directory).ok().filter(|_| nix::unistd::geteuid().is_root())?;
    Some(Server { uid: metadata.uid(), gid: metadata.gid() })
}

/// Where things are, by what the file says of the user to become.
fn places(file: &Value, base: &Path) -> Places {
    let user = file["run_as"]["user"].as_str().and_then(|name| User::from_name(name).ok().flatten());
    let server = match user {
        Some(user) => {
            let group = file["run_as"]["group"].as_str().and_then(|name| Group::from_name(name).ok().flatten());
            Server { uid: user.uid.as_raw(), gid: group.map_or(user.gid, |group| group.gid).as_raw() }
        }
        None => of_data(&base.join(file["data_dir"].as_str().unwrap_or("data"))).unwrap_or_else(Server::current),
    };
    // systemd's RuntimeDirectory=, else where temporary files are.
    let runtime = std::env::var("RUNTIME_DIRECTORY").ok().and_then(|list| list.split(':').next().map(PathBuf::from));
    let sockets = runtime.unwrap_or_else(std::env::temp_dir);
    Places { server, sockets, certificates: base.join("bridges") }
}
