//! What each command does.

mod backup;
pub(crate) mod bridge;
mod bridge_new;
pub(crate) mod contact;
pub(crate) mod dns;
mod examine;
pub(crate) mod group;
pub(crate) mod identity;
pub(crate) mod keyset;
pub(crate) mod keyset_keys;
pub(crate) mod queue;
mod secret;
mod show;
mod user;

use crate::cli::{Cli, Command, Keyset};
use crate::config::check::{self, Checked};
use crate::control::{Request, client};
use crate::exit::{Failure, USAGE, trying};
use crate::serve::{self, logging, registry};
use mesyx_sdk::Secret;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::io::{BufRead, IsTerminal, Read};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Longest secret that is read from a file or from standard input.
const MAX_SECRET: u64 = 64 << 10;

/// Does what the command line asks for.
pub(crate) fn execute(cli: Cli) -> Result<(), Failure> {
    let config = cli.config;
    match cli.command {
        Command::Init(init) => crate::init::init(&init),
        Command::Check(output) => examine::check(&find(config), output.json),
        Command::Identity { command } => identity::execute(&load(config)?, command),
        Command::User { command } => user::execute(&load(config)?, command),
        Command::Queue { command } => queue::execute(&load(config)?, command),
        Command::Contact { command } => contact::execute(&load(config)?, command),
        Command::Group { command } => group::execute(&load(config)?, &command),
        Command::Run => {
            let checked = load(config)?;
            let log = logging::start(&checked.log);
            serve::run::run(checked, log)
        }
        Command::Status(output) => show::status(&client::ask_server(&socket(config)?, Request::Status)?, output.json),
        Command::Reload(output) => reload(&socket(config)?, output.json),
        Command::Demo(demo) => crate::demo::demo(&demo),
        Command::Backup { to } => backup::backup(&load(config)?, &to),
        Command::Restore { from } => backup::restore(&load(config)?, &from),
        Command::Trace { address, days, json } => {
            let lines = client::ask(&load(config)?, Request::Trace { address, days })?;
            show::trace(&lines, json.json)
        }
        Command::Keyset { command: Keyset::Manage(command) } => keyset::execute(&load(config)?, command),
        Command::Keyset { command: Keyset::SecretKeys(command) } => keyset_keys::execute(&load(config)?, command),
        Command::Dns(command) => dns::execute(&load(config)?, command),
        Command::Secret { command } => secret::execute(&load(config)?, command),
        Command::Bridge { command } => bridge::execute(config, command),
    }
}

/// The configuration file to use.
fn find(given: Option<PathBuf>) -> PathBuf {
    given.or_else(|| std::env::var_os("MESYX_CONFIG").map(PathBuf::from)).unwrap_or_else(|| {
        let here = PathBuf::from(crate::init::FILE);
        if here.exists() { here } else { Path::new("/etc/mesyx").join(crate::init::FILE) }
    })
}

/// The running server's socket, also where the configuration has errors meanwhile.
fn socket(given: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let path = std::path::absolute(find(given)).map_err(trying("the configuration's path"))?;
    Ok(check::control_socket(&path))
}

/// The configuration, checked. Relative paths in it hold wherever we stand.
fn load(given: Option<PathBuf>) -> Result<Checked, Failure> {
    let path = std::path::absolute(find(given)).map_err(trying("the configuration's path"))?;
    Ok(check::read(&path, &registry())?)
}

fn reload(socket: &Path, as_json: bool) -> Result<(), Failure> {
    let value = client::ask_server(socket, Request::Reload)?;
    if as_json {
        return print_json(&json!({ "restarted": value }));
    }
    let restarted: Vec<String> = parse(value)?;
    let restarted = if restarted.is_empty() { "none".to_owned() } else { restarted.join(", ") };
    say!("Configuration and certificates were read again. Bridges restarted: {restarted}");
    Ok(())
}

/// Writes JSON on one line, or on several to a person.
fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = if std::io::stdout().is_terminal() {
        serde_json::to_string_pretty(value)
    } else {
        serde_json::to_string(value)
    };
    let text = Zeroizing::new(text.map_err(trying("the answer"))?);
    say!("{}", *text);
    Ok(())
}

/// The answer to a request as its type.
fn parse<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    serde_json::from_value(value).map_err(trying("the server's answer"))
}

/// The first line of a reader, without its end.
fn first_line(reader: impl Read, what: &str) -> Result<Secret, Failure> {
    let mut line = Zeroizing::new(Vec::with_capacity(1024));
    std::io::BufReader::new(reader.take(MAX_SECRET)).read_until(b'\n', &mut line).map_err(trying(what))?;
    trim(&mut line);
    if line.is_empty() {
        return Err(Failure::new(format!("{what}: the first line is empty")));
    }
    utf8(&line, what)
}

fn trim(bytes: &mut Zeroizing<Vec<u8>>) {
    while matches!(bytes.last(), Some(b'\n' | b'\r')) {
        bytes.pop();
    }
}

fn utf8(bytes: &[u8], what: &str) -> Result<Secret, Failure> {
    if std::str::from_utf8(bytes).is_err() {
        return Err(Failure::new(format!("{what}: it must be UTF-8 text")));
    }
    Ok(Secret::new(bytes.to_vec()))
}

/// Asks a person, without showing what is typed.
fn prompt(what: &str, otherwise: &str) -> Result<Secret, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::with(USAGE, format!("nobody is there to be asked; use {otherwise}")));
    }
    let text = rpassword::prompt_password(format!("{what}: ")).map_err(trying(what))?;
    Ok(Secret::from(text))
}

/// Asks a person to confirm by typing `word`.
fn confirm(what: &str, word: &str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::with(USAGE, "nobody is there to be asked; use --yes"));
    }
    eprint!("{what}\nType '{word}' to go on: ");
    let mut line = String::new();
    std::io::stdin().lock().take(1024).read_line(&mut line).map_err(trying("standard input"))?;
    if line.trim() == word { Ok(()) } else { Err(Failure::new("nothing was changed")) }
}
