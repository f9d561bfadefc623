//! What tests of the whole program share: a demo that runs, the program as a command, small clients.
//!
//! A server is ended with its [`Demo`] or [`Server`], by its process id, also where the test fails.
#![allow(dead_code, reason = "each test program uses its own part")]

pub mod port;
pub mod sink;
pub mod ways;

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::time::{Duration, Instant};
use ways::Way;

/// The variable by which a test says in which file the log of a demo stands, for bridges that run in another way.
pub const LOG: &str = "MESYX_TEST_LOG";
/// The longest that anything here is waited for.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The program, with `arguments`.
pub fn mesyx(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mesyx"));
    command.args(arguments).env_remove("MESYX_CONFIG").env_remove("NOTIFY_SOCKET").env_remove("LISTEN_PID");
    command
}

/// Runs the program with `input` on its standard input; fails the test where it does not end with `code`.
pub fn run(code: i32, arguments: &[&str], input: &str) -> Output {
    let mut child = mesyx(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().unwrap();
    // The program may end without reading.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("the program ends");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "mesyx {arguments:?}\n--- stdout\n{out}\n--- stderr\n{err}");
    output
}

/// The same, with what it printed on standard output.
pub fn stdout(code: i32, arguments: &[&str], input: &str) -> String {
    String::from_utf8(run(code, arguments, input).stdout).expect("UTF-8")
}

/// The same, with its JSON.
pub fn json(arguments: &[&str], input: &str) -> Value {
    serde_json::from_str(&stdout(0, arguments, input)).expect("JSON")
}

/// A running `mesyx demo --json`.
pub struct Demo {
    child: Child,
    stdin: Option<ChildStdin>,
    /// What it announced.
    pub line: Value,
    /// Where its bridges don't run linked in: the instance that was the demo's goes on as one of `mesyx run`.
    elsewhere: Option<ways::Elsewhere>,
}

/// A user of the demo.
#[derive(Debug, Clone)]
pub struct DemoUser {
    /// Login name.
    pub name: String,
    /// Mail address.
    pub address: String,
    /// App password.
    pub password: String,
}

impl Demo {
    /// Starts one and waits until all its listeners accept.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same, with more arguments.
    pub fn start_with(arguments: &[&str]) -> Self {
        Self::start_prepared(|command| {
            command.args(arguments);
        })
    }

    /// The same, after `prepare` had its way with the command.
    pub fn start_prepared(prepare: impl FnOnce(&mut Command)) -> Self {
        let mut command = mesyx(&["demo", "--json"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        prepare(&mut command);
        let demo = Self::spawn(&mut command);
        match Way::wanted() {
            Way::Builtin => demo,
            way => demo.elsewhere(way, &command),
        }
    }

    /// Starts one by a command that is ready to be started.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("the demo starts");
        let stdin = child.stdin.take();
        let mut text = String::new();
        let read = BufReader::new(child.stdout.take().unwrap()).read_line(&mut text);
        let demo = |line| Self { child, stdin, line, elsewhere: None };
        match (read, serde_json::from_str(&text)) {
            (Ok(_), Ok(line)) => demo(line),
            (read, parsed) => {
                drop(demo(Value::Null));
                panic!("the demo announced nothing: {read:?}, {parsed:?}: {text:?}");
            }
        }
    }

    /// The same instance with its bridges run in another way.
    pub fn elsewhere(self, way: Way, started: &Command) -> Self {
        let mut line = self.line.clone();
        let dir = self.kill();
        let config = dir.join("mesyx.toml");
        let elsewhere = ways::Elsewhere::apply(way, &config);
        let mut command = mesyx(&["--config", config.to_str().unwrap(), "run"]);
        for (key, value) in started.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        // Where the demo's log went can't be told from its command.
        if let Some((_, Some(log))) = started.get_envs().find(|(key, _)| *key == LOG) {
            command.stderr(std::fs::File::options().append(true).open(log).expect("the log"));
        }
        // No stop by the end of its input: `drop` sends a signal.
        let child = command.stdin(Stdio::null()).spawn().expect("the server starts");
        let text = config.to_str().unwrap().to_owned();
        let demo = Self { child, stdin: None, line: line.clone(), elsewhere: Some(elsewhere) };
        let status = ways::ready(|| {
            let said = mesyx(&["--config", &text, "status", "--json"]).output().expect("status runs");
            serde_json::from_slice(&said.stdout).unwrap_or_default()
        });
        let mut place = |name: &str, address: &str| {
            let address: SocketAddr = address.parse().unwrap();
            line[name] = serde_json::json!({ "host": address.ip(), "port": address.port() });
        };
        for bridge in status["bridges"].as_array().unwrap() {
            for pair in bridge["listening"].as_array().unwrap() {
                place(pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
            }
        }
        place("admin", status["admin"].as_str().expect("the admin listener"));
        for url in status["http"].as_array().into_iter().flatten() {
            let (name, address) = url.as_str().unwrap().split_once("://").unwrap();
            place(name, address);
        }
        let mut demo = demo;
        demo.line = line;
        if way == Way::Remote {
            demo.announce();
        }
        demo
    }

    /// Names the listeners of remote bridges to mail programs, as an operator must: the server does not know how others reach them.
    fn announce(&self) {
        let server =
            |name: &&str| format!("{{ service = \"{name}\", host = \"localhost\", port = {} }}", self.port(name));
        let servers: Vec<_> = ["imaps", "imap", "submissions", "submission"].iter().map(server).collect();
        let text = std::fs::read_to_string(self.config()).unwrap();
        let changed = text.replacen("[http]\n", &format!("[http]\nannounce = [{}]\n", servers.join(", ")), 1);
        assert_ne!(text, changed, "it serves pages");
        std::fs::write(self.config(), changed).unwrap();
        run(0, &["--config", &self.config(), "reload"], "");
    }

    /// The address of a listener: `smtp`, `submission`, `submissions`, `imap`, `imaps`, `admin`.
    pub fn address(&self, listener: &str) -> SocketAddr {
        let at = &self.line[listener];
        let host = at["host"].as_str().unwrap_or_else(|| panic!("no {listener} in {}", self.line));
        SocketAddr::new(host.parse().unwrap(), self.port(listener))
    }

    /// The port of a listener.
    pub fn port(&self, listener: &str) -> u16 {
        u16::try_from(self.line[listener]["port"].as_u64().expect("a port")).unwrap()
    }

    /// A user, by name: `alice` or `bob`.
    pub fn user(&self, name: &str) -> DemoUser {
        let users = self.line["users"].as_array().expect("users");
        let user = users.iter().find(|user| user["name"] == name).expect("the user");
        let text = |key: &str| user[key].as_str().expect(key).to_owned();
        DemoUser { name: text("name"), address: text("address"), password: text("password") }
    }

    /// The instance's directory; the store is in `data`.
    pub fn dir(&self) -> PathBuf {
        PathBuf::from(self.line["dir"].as_str().expect("dir"))
    }

    /// The configuration file, for `mesyx --config`.
    pub fn config(&self) -> String {
        self.dir().join("mesyx.toml").to_str().unwrap().to_owned()
    }

    /// The PEM file of the authority that signed the certificate.
    pub fn tls_ca(&self) -> PathBuf {
        PathBuf::from(self.line["tls_ca"].as_str().expect("tls_ca"))
    }

    /// Something else that it announced, as text.
    pub fn text(&self, key: &str) -> &str {
        self.line[key].as_str().unwrap_or_else(|| panic!("no {key} in {}", self.line))
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The server's process, and those of its bridges where they are processes of their own.
    pub fn processes(&self) -> Vec<u32> {
        let children = ways::children(self.pid()).into_iter().map(|(pid, _)| pid);
        let elsewhere = self.elsewhere.iter().flat_map(ways::Elsewhere::pids);
        std::iter::once(self.pid()).chain(children).chain(elsewhere).collect()
    }

    /// Closes its standard input, which ends it, and waits for that. Whether it ended with code 0.
    pub fn close(mut self) -> bool {
        self.end();
        wait(&mut self.child).is_some_and(|code| code == 0)
    }

    /// Asks it to stop.
    fn end(&mut self) {
        drop(self.stdin.take());
        if self.elsewhere.is_some() && self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        }
    }

    /// Kills it with SIGKILL, so that it removes nothing, and waits for its end. The directory is the test's to remove.
    pub fn kill(mut self) -> PathBuf {
        let dir = self.dir();
        let _ = self.child.kill();
        let _ = self.child.wait();
        // With it, the directory would go.
        self.elsewhere = None;
        dir
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.end();
        if wait(&mut self.child).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if self.elsewhere.is_some() {
            // A demo removes its directory itself.
            let _ = std::fs::remove_dir_all(self.dir());
        }
    }
}

/// A running `mesyx run`.
pub struct Server {
    child: Child,
    /// Its configuration.
    pub config: String,
}

impl Server {
    /// Starts one and waits until it answers `status`.
    pub fn start(config: &Path) -> Self {
        Self::start_command(mesyx(&["--config", config.to_str().unwrap(), "run"]), config)
    }

    /// The same, with a command of the test's own.
    pub fn start_command(mut command: Command, config: &Path) -> Self {
        let config = config.to_str().unwrap().to_owned();
        let child = command.stdin(Stdio::null()).spawn().expect("the server starts");
        let mut server = Self { child, config };
        let end = Instant::now() + PATIENCE;
        loop {
            let status = mesyx(&["--config", &server.config, "status"]).output().expect("status runs");
            if status.status.success() {
                return server;
            }
            if let Some(code) = server.child.try_wait().unwrap() {
                panic!("the server ended: {code}");
            }
            assert!(Instant::now() < end, "the server never answered: {}", String::from_utf8_lossy(&status.stderr));
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// What `status --json` says.
    pub fn status(&self) -> Value {
        json(&["--config", &self.config, "status", "--json"], "")
    }

    /// Where one of its listeners listens.
    pub fn address(&self, bridge: &str, listener: &str) -> SocketAddr {
        let end = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            let bridges = status["bridges"].as_array().unwrap();
            let bridge = bridges.iter().find(|status| status["name"] == bridge).expect("the bridge");
            let listening = bridge["listening"].as_array().unwrap();
            if let Some(found) = listening.iter().find(|pair| pair[0] == listener) {
                return found[1].as_str().unwrap().parse().unwrap();
            }
            // Commands are answered while bridges still start.
            assert!(Instant::now() < end, "{listener} in {status}");
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal: `HUP`, `TERM`.
    pub fn signal(&self, name: &str) {
        let done = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(done.expect("kill runs").success());
    }

    /// Stops it by SIGTERM. Whether it ended with code 0.
    pub fn stop(mut self) -> bool {
        self.signal("TERM");
        wait(&mut self.child).is_some_and(|code| code == 0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.signal("TERM");
            if wait(&mut self.child).is_none() {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
        }
    }
}

/// Waits for a child's end; its code, or `None` where it goes on for too long.
pub fn wait(child: &mut Child) -> Option<i32> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status.code().unwrap_or(-1));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

/// Tries something until it is true, at most [`PATIENCE`].
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A text protocol's client: lines out, lines in.
pub struct Lines {
    reader: BufReader<TcpStream>,
}

impl Lines {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { reader: BufReader::new(stream) }
    }

    /// Reads one line, without its end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("a line");
        line.trim_end_matches(['\r', '\n']).to_owned()
    }

    /// Writes a line.
    pub fn send(&mut self, line: &str) {
        self.reader.get_mut().write_all(format!("{line}\r\n").as_bytes()).expect("sent");
    }

    /// Writes an SMTP command and reads the reply; returns its last line.
    pub fn smtp(&mut self, line: &str) -> String {
        self.send(line);
        self.smtp_reply()
    }

    /// Reads an SMTP reply; returns its last line.
    pub fn smtp_reply(&mut self) -> String {
        loop {
            let line = self.line();
            assert!(!line.is_empty(), "the server closed the connection");
            if line.as_bytes().get(3) != Some(&b'-') {
                return line;
            }
        }
    }

    /// Writes an IMAP command under a tag and reads up to its tagged answer; returns all lines, the tagged one last.
    /// Literals come as the lines that they hold.
    pub fn imap(&mut self, tag: &str, command: &str) -> Vec<String> {
        self.send(&format!("{tag} {command}"));
        let mut lines = Vec::new();
        loop {
            let line = self.line();
            let last = line.starts_with(&format!("{tag} "));
            lines.push(line);
            if last {
                return lines;
            }
            assert!(lines.last().is_some_and(|line| !line.is_empty()) || lines.len() < 100_000, "no end");
        }
    }
}

/// Brings one message to the MX listener; panics unless it is taken.
pub fn deliver(smtp: SocketAddr, to: &str, message: &str) {
    let mut peer = Lines::connect(smtp);
    assert!(peer.smtp_reply().starts_with("220"));
    assert!(peer.smtp("EHLO peer.example.net").starts_with("250"));
    assert!(peer.smtp("MAIL FROM:<joe@example.net>").starts_with("250"));
    let reply = peer.smtp(&format!("RCPT TO:<{to}>"));
    assert!(reply.starts_with("250"), "{reply}");
    assert!(peer.smtp("DATA").starts_with("354"));
    peer.reader.get_mut().write_all(message.as_bytes()).unwrap();
    let reply = peer.smtp(".");
    assert!(reply.starts_with("250"), "{reply}");
    peer.smtp("QUIT");
}

/// The body of a HTTP answer, and its status.
pub fn http(address: SocketAddr, path: &str) -> (u16, String) {
    http_at(address, "localhost", path)
}

/// The same, asked for under a name.
pub fn http_at(address: SocketAddr, host: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    (status, body)
}
