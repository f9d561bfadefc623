//! What a bridge says of itself before it runs, read without letting it do anything.

use crate::confine::Confinement;
use crate::process::Launch;
use crate::run::{Library, Process, Remote, Run};
use crate::trust;
use mesyx_sdk::Manifest;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use object::read::ReadCache;
use object::{Object, ObjectSection};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

/// The section of a library, or of a program, that holds its manifest as JSON.
pub(crate) const SECTION: &str = ".mesyx.manifest";
/// Largest manifest; most of one is the schema of the configuration.
const MAX_MANIFEST: u64 = 1 << 20;
/// How long a program may take to print its manifest.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a bridge can't be described or run as the configuration says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The key below `run`, as `library`; empty for `run` itself.
    pub key: &'static str,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub fix: String,
}

impl Wrong {
    pub(crate) fn new(key: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { key, what: what.into(), fix: fix.into() }
    }
}

/// The manifest of a bridge that is not linked in: from a section of its file, from what `PROGRAM --manifest` prints (run confined),
/// or from the file that the configuration names. `None` where nothing tells it: a remote bridge without `manifest`.
///
/// Reads files and may run the program, so it blocks for up to 10 seconds.
///
/// # Errors
/// What is wrong with the file or with what it says.
pub fn describe(run: &Run, server: Server) -> Result<Option<Manifest>, Wrong> {
    match run {
        Run::Builtin(_) => Ok(None),
        Run::Library(library) => of_library(library, server).map(Some),
        Run::Process(process) if process.is_own() => Ok(None),
        Run::Process(process) => of_process(process, server).map(Some),
        Run::Remote(remote) => of_remote(remote),
    }
}

/// As whom the server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Server {
    /// Its user, once it has given up root's rights.
    pub uid: u32,
    /// That user's group.
    pub gid: u32,
}

impl Server {
    /// The user and group of this process.
    #[must_use]
    pub fn current() -> Self {
        Self { uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw() }
    }
}

fn of_library(library: &Library, server: Server) -> Result<Manifest, Wrong> {
    let wrong = |why: String| {
        let fix = "name a library made with mesyx_sdk::plugin!, such as target/release/libmybridge.so";
        Wrong::new("library", format!("{}: {why}", library.library.display()), fix)
    };
    let file = trust::open(&library.library, server.uid, library.sha256.as_deref()).map_err(wrong)?;
    let text = section(&file).map_err(wrong)?;
    let text = text.ok_or_else(|| wrong(format!("it has no section {SECTION}, so it is no bridge of ours")))?;
    parse(&text).map_err(wrong)
}

fn of_process(process: &Process, server: Server) -> Result<Manifest, Wrong> {
    let wrong = |why: String| {
        let fix = "name a program that prints its manifest when it is run with --manifest";
        Wrong::new("process", format!("{}: {why}", process.process.display()), fix)
    };
    let file = trust::open(&process.process, server.uid, process.sha256.as_deref()).map_err(wrong)?;
    // A script is no ELF file, and a program needs no section.
    let text = match section(&file).ok().flatten() {
        Some(text) => text,
        None => {
            let launch = Launch::new(process, &[], server)?;
            printed(&launch.confinement(&[], &["--manifest".to_owned()]), &process.environment).map_err(wrong)?
        }
    };
    parse(&text).map_err(wrong)
}

fn of_remote(remote: &Remote) -> Result<Option<Manifest>, Wrong> {
    let Some(path) = &remote.manifest else { return Ok(None) };
    let wrong = |why: String| {
        let fix = "write there what the bridge's program prints with --manifest";
        Wrong::new("manifest", format!("{}: {why}", path.display()), fix)
    };
    let file = File::open(path).map_err(|error| wrong(format!("it can't be read: {error}")))?;
    let mut text = String::new();
    file.take(MAX_MANIFEST).read_to_string(&mut text).map_err(|error| wrong(format!("it can't be read: {error}")))?;
    parse(text.as_bytes()).map(Some).map_err(wrong)
}

/// What stands in the manifest's section of an ELF file; `None` where it has none.
pub(crate) fn section(file: &File) -> Result<Option<Vec<u8>>, String> {
    let cache = ReadCache::new(file);
    let elf = object::File::parse(&cache).map_err(|error| format!("it is no shared library: {error}"))?;
    let Some(section) = elf.section_by_name(SECTION) else { return Ok(None) };
    if section.size() > MAX_MANIFEST {
        return Err(format!("its section {SECTION} is larger than 1 MiB"));
    }
    section.data().map(|data| Some(data.to_vec())).map_err(|error| format!("its section {SECTION}: {error}"))
}

/// A manifest from its JSON.
///
/// # Errors
/// What does not fit.
pub(crate) fn parse(text: &[u8]) -> Result<Manifest, String> {
    Manifest::from_json(std::str::from_utf8(text).map_err(|_| "its manifest is no UTF-8")?)
}

/// What a program prints, run confined and with its environment, as it will be.
fn printed(confinement: &Confinement, environment: &BTreeMap<String, String>) -> Result<Vec<u8>, String> {
    let mut command = crate::process::command(confinement).map_err(|error| error.to_string())?;
    command.envs(environment).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(|error| format!("it can't be started: {error}"))?;
    let group = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
        return Err("its output can't be read".into());
    };
    // Both are read at once, so that neither pipe fills up; killing the group ends both.
    let (send, receive) = mpsc::channel();
    let said = std::thread::spawn(move || read(err));
    std::thread::spawn(move || send.send(read(out)));
    let printed = receive.recv_timeout(PATIENCE);
    let _ = killpg(group, Signal::SIGKILL);
    let status = child.wait();
    let said = said.join().unwrap_or_default();
    let Ok(printed) = printed else { return Err("with --manifest it did not end within 10 seconds".into()) };
    // One that ended by itself before it was killed has a code; killing what has ended changes nothing.
    if status.as_ref().is_ok_and(|status| status.code().is_some_and(|code| code != 0)) || printed.is_empty() {
        let said = mesyx_sdk::wire::host::escaped(String::from_utf8_lossy(&said).lines().last().unwrap_or("nothing"));
        return Err(format!("with --manifest it failed; it said: {said}"));
    }
    Ok(printed)
}

fn read(stream: impl Read) -> Vec<u8> {
    let mut text = Vec::new();
    let _ = stream.take(MAX_MANIFEST).read_to_end(&mut text);
    text
}

/// What a file asks for that may be a library, a program, or a manifest itself: for looking at it before it is enabled.
///
/// # Errors
/// Why it can't be told.
pub fn describe_file(path: &Path, server: Server) -> Result<Manifest, String> {
    let whole = |wrong: Wrong| format!("{}; {}", wrong.what, wrong.fix);
    let is_library = File::open(path)
        .map_err(|error| format!("{}: {error}", path.display()))
        .map(|file| section(&file).ok().flatten().is_some())?;
    if is_library {
        let library = Library { library: path.to_owned(), sha256: None };
        return of_library(&library, server).map_err(whole);
    }
    if path.extension().is_some_and(|extension| extension == "json") {
        let text = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let fix = "write there what the bridge's program prints with --manifest";
        return parse(&text).map_err(|why| format!("{}: {why}; {fix}", path.display()));
    }
    let mut process: Process = serde_json::from_value(serde_json::json!({ "process": path }))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    if nix::unistd::geteuid().is_root() && server.uid == 0 {
        // It is only asked for its name here, so anybody will do who owns nothing.
        process.user = Some(NOBODY.to_string());
    }
    of_process(&process, server).map_err(whole)
}

/// The user that owns nothing (65534 on every Linux).
const NOBODY: u32 = 65_534;
