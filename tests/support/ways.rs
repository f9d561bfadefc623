//! The way in which the tests' bridges run: `MESYX_TEST_WAY=library`, `process` or `remote`; unless set, linked in.
//!
//! Whatever configuration a test writes, [`Elsewhere::apply`] gives every bridge in it a line `run = …`, and starts what a remote one needs.

use super::{PATIENCE, mesyx};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// How bridges run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Builtin,
    Library,
    Process,
    Remote,
}

impl Way {
    /// What `MESYX_TEST_WAY` says.
    pub fn wanted() -> Self {
        match std::env::var("MESYX_TEST_WAY").as_deref() {
            Err(_) | Ok("builtin" | "") => Self::Builtin,
            Ok("library") => Self::Library,
            Ok("process") => Self::Process,
            Ok("remote") => Self::Remote,
            Ok(other) => panic!("MESYX_TEST_WAY={other}: write builtin, library, process or remote"),
        }
    }
}

/// A user number that nobody has, for processes where the tests run as root.
pub const USER: &str = "61234";

/// The key `run` for one of our own bridges in a process.
pub fn process() -> String {
    if nix::unistd::geteuid().is_root() {
        format!("{{ process = \"mesyx\", user = \"{USER}\" }}")
    } else {
        "{ process = \"mesyx\" }".to_owned()
    }
}

/// The library of one of our own bridges: `cargo test` builds it, since its package has a test that needs it.
pub fn library(bridge: &str) -> PathBuf {
    let name = format!("libmesyx_plugin_{}.so", bridge.replace('-', "_"));
    // target/debug/mesyx -> target/debug/deps
    let path = Path::new(env!("CARGO_BIN_EXE_mesyx")).with_file_name("deps").join(&name);
    assert!(path.exists(), "{} is missing; `cargo test --workspace` builds it", path.display());
    path
}

/// Programs of remote bridges; ended when dropped.
#[derive(Default)]
pub struct Elsewhere(Vec<Child>);

impl Elsewhere {
    /// Has all bridges of a configuration run in the wanted way.
    pub fn apply(way: Way, config: &Path) -> Self {
        let mut elsewhere = Self::default();
        if way == Way::Builtin {
            return elsewhere;
        }
        let text = fs::read_to_string(config).unwrap();
        let names = bridges(&text);
        let granted = granted(config);
        let mut text = text;
        for name in names {
            let port = super::port::free_port();
            let run = match way {
                Way::Builtin => continue,
                Way::Library => format!("{{ library = \"{}\" }}", library(&name).display()),
                Way::Process => process(),
                Way::Remote => {
                    elsewhere.start(config, &name, port);
                    format!("{{ remote = \"127.0.0.1:{port}\" }}")
                }
            };
            let header = format!("[bridge.{name}]\n");
            let mut lines = format!("{header}run = {run}\n");
            let table = text.split_once(&header).expect("the table").1;
            let table = table.split("\n[").next().unwrap_or_default();
            if way != Way::Process && !table.lines().any(|line| line.starts_with("grants =")) {
                lines.push_str(&format!("grants = {}\n", granted[name.as_str()]));
            }
            text = text.replacen(&header, &lines, 1);
        }
        fs::write(config, text).unwrap();
        elsewhere
    }

    /// Starts a remote bridge, which tries until somebody listens at that port.
    fn start(&mut self, config: &Path, name: &str, port: u16) {
        let carried = config.with_file_name(format!("carry-{name}"));
        let config = config.to_str().unwrap();
        let to = carried.to_str().unwrap();
        super::run(0, &["--config", config, "bridge", "certificate", name, "--host", "127.0.0.1", "--to", to], "");
        let child = mesyx(&["bridge", "serve", name, "--log", "warn"])
            .env("MESYX_BRIDGE", format!("tls:127.0.0.1:{port}"))
            .env("MESYX_BRIDGE_NAME", "host.mesyx.internal")
            .env("MESYX_BRIDGE_CA", carried.join("authority.pem"))
            .env("MESYX_BRIDGE_CERT", carried.join("bridge.pem"))
            .env("MESYX_BRIDGE_KEY", carried.join("bridge.key"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the remote bridge starts");
        self.0.push(child);
    }
}

impl Elsewhere {
    /// Their process ids.
    pub fn pids(&self) -> Vec<u32> {
        self.0.iter().map(Child::id).collect()
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// For a client that goes on until its server is killed: the answer begins as is wanted, or the line is as good as broken. A bridge in a
/// process of its own outlives its host by moments, and one elsewhere goes on: it answers that the message is to be sent again.
pub fn expect(reply: &str, wanted: &str) -> std::io::Result<()> {
    if matches!(Way::wanted(), Way::Process | Way::Remote) && reply.starts_with('4') {
        return Err(std::io::ErrorKind::BrokenPipe.into());
    }
    assert!(reply.starts_with(wanted), "{reply}");
    Ok(())
}

/// The bridges that a configuration names.
fn bridges(text: &str) -> Vec<String> {
    let header = |line: &str| {
        let name = line.strip_prefix("[bridge.")?.strip_suffix(']')?;
        (!name.contains('.')).then(|| name.to_owned())
    };
    text.lines().filter_map(header).collect()
}

/// What each bridge has where it is linked in and nothing is said, as TOML.
fn granted(config: &Path) -> serde_json::Map<String, serde_json::Value> {
    let list = super::json(&["--config", config.to_str().unwrap(), "bridge", "list", "--json"], "");
    let entries = list.as_array().unwrap().iter();
    entries.map(|entry| (entry["name"].as_str().unwrap().to_owned(), entry["granted"].clone())).collect()
}

/// The processes that a server started: process id and command line.
pub fn children(server: u32) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        if parent == Some(server) {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            found.push((pid, String::from_utf8_lossy(&line).replace('\0', " ")));
        }
    }
    found
}

/// Waits until every bridge of a server is ready; `status` gives what `mesyx status --json` says.
pub fn ready(mut status: impl FnMut() -> serde_json::Value) -> serde_json::Value {
    let end = Instant::now() + PATIENCE;
    loop {
        let status = status();
        let all = status["bridges"].as_array().cloned().unwrap_or_default();
        if !all.is_empty() && all.iter().all(|bridge| bridge["state"]["is"] == "ready") {
            return status;
        }
        assert!(Instant::now() < end, "the bridges never came up: {status}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
