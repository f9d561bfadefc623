//! An instance that outlives its server, so that the server can be killed and started again.

use crate::support;
use crate::support::port::free_port;
use crate::tools::succeed;
use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// An instance with one user, alice@example.org; its files go when it is dropped, its server is killed before.
pub struct Instance {
    dir: tempfile::TempDir,
    server: Option<Child>,
    elsewhere: support::ways::Elsewhere,
    pub smtp: u16,
    pub imap: u16,
    pub password: String,
    /// Proves that alice may change her keys.
    pub recovery_key: PathBuf,
}

impl Instance {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("mesyx");
        succeed(
            Command::new(env!("CARGO_BIN_EXE_mesyx")).arg("init").arg(&home).args(["--domain", "example.org"]),
            b"",
        );
        let [smtp, imap] = free_ports();
        let config = format!(
            "hostname = \"mail.example.org\"\ndomains = [\"example.org\"]\ntls = [{{ chain = \"tls/chain.pem\", key = \"tls/key.pem\" }}]\n\
             [admin]\nlisten = \"127.0.0.1:0\"\n\
             [bridge.smtp]\nlisteners = [{{ name = \"mx\", address = \"127.0.0.1:{smtp}\", tls = \"starttls\" }}]\n\
             [bridge.imap]\nlisteners = [{{ name = \"imap\", address = \"127.0.0.1:{imap}\", tls = \"starttls\", plain_auth_without_tls = true }}]\n"
        );
        fs::write(home.join("mesyx.toml"), config).unwrap();
        let recovery_key = dir.path().join("recovery");
        let elsewhere = support::ways::Elsewhere::default();
        let mut instance = Self { dir, server: None, elsewhere, smtp, imap, password: String::new(), recovery_key };
        let added = instance.mesyx(&["user", "add", "alice", "--no-password", "--app-password", "test", "--json"]);
        let added: serde_json::Value = serde_json::from_slice(&added).unwrap();
        added["app_password"].as_str().expect("an app password").clone_into(&mut instance.password);
        fs::write(&instance.recovery_key, added["recovery_key"].as_str().expect("a recovery key")).unwrap();
        instance
    }

    pub fn home(&self) -> PathBuf {
        self.dir.path().join("mesyx")
    }

    /// Runs a command of the program on this instance; its output.
    pub fn mesyx(&self, arguments: &[&str]) -> Vec<u8> {
        let config = self.home().join("mesyx.toml");
        succeed(Command::new(env!("CARGO_BIN_EXE_mesyx")).arg("--config").arg(config).args(arguments), b"")
    }

    /// Starts the server and waits until it listens.
    pub fn start(&mut self) {
        self.start_with(|_| ());
    }

    pub fn start_with(&mut self, prepare: impl FnOnce(&mut Command)) {
        let config = self.home().join("mesyx.toml");
        if !fs::read_to_string(&config).unwrap().contains("\nrun = ") {
            self.elsewhere = support::ways::Elsewhere::apply(support::ways::Way::wanted(), &config);
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_mesyx"));
        command.arg("--config").arg(self.home().join("mesyx.toml")).arg("run");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        prepare(&mut command);
        self.server = Some(command.spawn().unwrap());
        // Its ports are open a moment before it answers commands.
        support::until("it answers", || self.home().join("control.sock").exists());
        for port in [self.smtp, self.imap] {
            let deadline = Instant::now() + support::PATIENCE;
            while TcpStream::connect(("127.0.0.1", port)).is_err() {
                assert!(Instant::now() < deadline, "the server never listened on {port}");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        if support::ways::Way::wanted() != support::ways::Way::Builtin {
            // Ports are open before bridges outside have started.
            let config = self.home().join("mesyx.toml");
            support::ways::ready(|| {
                let said =
                    support::mesyx(&["--config", config.to_str().unwrap(), "status", "--json"]).output().unwrap();
                serde_json::from_slice(&said.stdout).unwrap_or_default()
            });
        }
    }

    /// SIGKILL, with no time for anything.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    /// Waits for the server's end.
    pub fn wait(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.wait().unwrap();
        }
    }

    /// The running server's process id.
    pub fn pid(&self) -> u32 {
        self.server.as_ref().expect("it runs").id()
    }

    /// Whatever has to do with messages: the server, and the processes of its bridges.
    pub fn processes(&self) -> Vec<u32> {
        let children = support::ways::children(self.pid()).into_iter().map(|(pid, _)| pid);
        std::iter::once(self.pid()).chain(children).chain(self.elsewhere.pids()).collect()
    }

    pub fn data(&self) -> PathBuf {
        self.home().join("data")
    }

    /// The subjects of all messages in INBOX.
    pub fn subjects(&self) -> Vec<String> {
        let script = "
import imaplib, sys
port, password = sys.argv[1:]
imap = imaplib.IMAP4('127.0.0.1', int(port))
imap.login('alice', password)
count = int(imap.select('INBOX', readonly=True)[1][0])
if count:
    kind, data = imap.fetch('1:*', '(BODY.PEEK[])')
    assert kind == 'OK', data
    bodies = [item[1] for item in data if isinstance(item, tuple)]
    assert len(bodies) == count, (len(bodies), count)
    for body in bodies:
        lines = body.split(b'\\r\\n')
        assert lines[-2] == b'the end', body
        print([line for line in lines if line.startswith(b'Subject: ')][0][9:].decode())
";
        let output = crate::tools::python(script, &[&self.imap.to_string(), &self.password]);
        output.lines().map(str::to_owned).collect()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_ports<const N: usize>() -> [u16; N] {
    std::array::from_fn(|_| free_port())
}
