//! An instance with the demo's users and bridges, and one bridge more beside them.

use crate::support::ways::{self, USER};
use crate::support::{Demo, DemoUser, LOG, Server, json, mesyx, run};
use crate::tools;
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub struct Beside {
    dir: PathBuf,
    text: String,
    server: Option<Server>,
    pub alice: DemoUser,
    pub bob: DemoUser,
}

impl Beside {
    /// An instance that does not run; `queue` are lines of that table.
    pub fn new(queue: &str) -> Self {
        let mut command = mesyx(&["demo", "--json"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).env_remove(LOG);
        let demo = Demo::spawn(&mut command);
        let (alice, bob) = (demo.user("alice"), demo.user("bob"));
        let dir = demo.kill();
        let text = fs::read_to_string(dir.join("mesyx.toml")).unwrap();
        let text = text.replacen("\n[queue]\n", &format!("\n[queue]\n{queue}\n"), 1);
        Self { dir, text, server: None, alice, bob }
    }

    pub fn config(&self) -> PathBuf {
        self.dir.join("mesyx.toml")
    }

    /// A directory that a bridge's process may reach and, where it is told so, write to.
    pub fn open_directory(&self) -> PathBuf {
        let open = self.dir.with_extension("open");
        fs::create_dir_all(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        open
    }

    /// A program of the tests where a bridge's process may execute it.
    pub fn program(&self, name: &str) -> PathBuf {
        let made = Path::new(env!("CARGO_BIN_EXE_mesyx")).with_file_name(name);
        assert!(made.exists(), "{} is missing; `cargo test --workspace` builds it", made.display());
        let to = self.dir.with_extension(name);
        // Not copied here: what another test starts in that moment would hold the file open for writing, and nobody could execute it.
        tools::succeed(Command::new("install").args(["-m", "755"]).arg(made).arg(&to), b"");
        to
    }

    /// Has the bridge configured so: lines of its table.
    pub fn configure(&self, name: &str, lines: &str) {
        fs::write(self.config(), format!("{}\n[bridge.{name}]\n{lines}\n", self.text)).unwrap();
    }

    pub fn start(&mut self) {
        let mut command = mesyx(&["--config", self.config().to_str().unwrap(), "run"]);
        command.stderr(fs::File::create(self.dir.join("log")).unwrap());
        self.server = Some(Server::start_command(command, &self.config()));
    }

    /// Has the server read its configuration anew.
    pub fn reload(&self) {
        run(0, &["--config", self.config().to_str().unwrap(), "reload"], "");
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// What a command prints as JSON.
    pub fn json(&self, command: &[&str]) -> Value {
        let mut arguments = vec!["--config", self.config().to_str().unwrap().to_owned().leak()];
        arguments.extend(command);
        arguments.push("--json");
        json(&arguments, "")
    }

    /// How `mesyx bridge list` has a bridge that is configured.
    pub fn listed(&self, name: &str) -> Value {
        let list = self.json(&["bridge", "list"]);
        list.as_array().unwrap().iter().find(|bridge| bridge["name"] == name).expect("the bridge")["status"].clone()
    }

    pub fn address(&self, bridge: &str, listener: &str) -> SocketAddr {
        self.server.as_ref().expect("it runs").address(bridge, listener)
    }

    /// The server's process.
    pub fn pid(&self) -> u32 {
        self.server.as_ref().expect("it runs").pid()
    }

    /// Runs a script in Python that has `imap()`, a connection of `user`, and what `smtplib` and `sys.argv` give.
    pub fn python(&self, user: &DemoUser, script: &str, arguments: &[&str]) -> String {
        let head = "
import imaplib, smtplib, sys, time
imap_port, submission_port, name, password, address = sys.argv[1:6]
del sys.argv[1:6]
def imap():
    box = imaplib.IMAP4('127.0.0.1', int(imap_port))
    box.login(name, password)
    return box
def submit(to, text):
    smtp = smtplib.SMTP('127.0.0.1', int(submission_port))
    smtp.login(name, password)
    smtp.sendmail(address, to, f'From: {address}\\r\\nTo: {to[0]}\\r\\nSubject: {text}\\r\\n\\r\\n{text}\\r\\n')
    smtp.quit()
";
        let (imap, submission) = (self.address("imap", "imap"), self.address("submission", "submission"));
        let ports = [imap.port().to_string(), submission.port().to_string()];
        let mut all = vec![ports[0].as_str(), ports[1].as_str(), &user.name, &user.password, &user.address];
        all.extend(arguments);
        tools::python(&format!("{head}\n{script}"), &all)
    }

    /// Stops the server; whether it ended well.
    pub fn stop(&mut self) -> bool {
        self.server.take().is_some_and(Server::stop)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let config = self.config();
            let queue = mesyx(&["--config", config.to_str().unwrap(), "queue", "list"]).output();
            let queue = queue.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            eprintln!("{}\n{queue:?}", self.log());
        }
        drop(self.server.take());
        let _ = fs::remove_dir_all(&self.dir);
        let prefix = self.dir.file_name().unwrap().to_string_lossy().into_owned() + ".";
        for entry in fs::read_dir(self.dir.parent().unwrap()).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                let _ = fs::remove_dir_all(entry.path());
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// The key `user` of a process, where the tests run as root.
pub fn user() -> String {
    if nix::unistd::geteuid().is_root() { format!(", user = \"{USER}\"") } else { String::new() }
}

/// Waits until all bridges are ready.
pub fn ready(beside: &Beside) {
    ways::ready(|| beside.json(&["status"]));
}
