//! An exchange with both IRC bridges, a network of ngircd outside, and clients on either side.

use crate::support::{PATIENCE, Server, until, ways};
use crate::tools::{python, run, succeed};
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Networks take few lines at a time, and key exchanges are dozens of them.
const LONG: Duration = Duration::from_secs(200);

pub use crate::support::port::free_port;

/// The network outside; ended by its process id.
pub struct Ngircd {
    child: Option<Child>,
    dir: tempfile::TempDir,
    pub port: u16,
}

impl Ngircd {
    pub fn start() -> Self {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let text = format!(
            "[Global]\nName = irc.outside.example\nInfo = test\nListen = 127.0.0.1\nPorts = {port}\nMotdPhrase = \"hello\"\n\
             [Limits]\nMaxConnectionsIP = 0\nMaxJoins = 0\nPingTimeout = 120\nPongTimeout = 20\nMaxNickLength = 20\nMaxPenaltyTime = 0\n\
             [Options]\nDNS = no\nIdent = no\nPAM = no\nDefaultUserModes = \n"
        );
        fs::write(dir.path().join("ngircd.conf"), text).unwrap();
        let mut server = Self { child: None, dir, port };
        server.run();
        server
    }

    pub fn run(&mut self) {
        let config = self.dir.path().join("ngircd.conf");
        let mut command = Command::new("ngircd");
        command.args(["--nodaemon", "--config"]).arg(config).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("install ngircd"));
        until("ngircd listens", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    pub fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Ngircd {
    fn drop(&mut self) {
        self.end();
    }
}

/// An exchange with the users alice and bob; the network is `net`.
pub struct Exchange {
    dir: tempfile::TempDir,
    server: Option<Server>,
    _elsewhere: ways::Elsewhere,
    passwords: Vec<(String, String)>,
}

impl Exchange {
    /// `pace`: lines at once, and milliseconds for each further one.
    pub fn start(port: u16, pace: (u32, u32)) -> Self {
        Self::with(port, pace, "channels = [\"#chan\"]\n")
    }

    /// `more`: of the network's configuration.
    pub fn with(port: u16, (burst, milliseconds): (u32, u32), more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("mesyx");
        let program = env!("CARGO_BIN_EXE_mesyx");
        succeed(Command::new(program).arg("init").arg(&home).args(["--domain", "example.org"]), b"");
        let config = format!(
            "hostname = \"mail.example.org\"\ndomains = [\"example.org\"]\ntls = [{{ chain = \"tls/chain.pem\", key = \"tls/key.pem\" }}]\n\
             [admin]\nlisten = \"127.0.0.1:0\"\n[memory]\nlock = \"off\"\n[pgp]\nwkd = false\n\
             [bridge.smtp]\nlisteners = [{{ name = \"mx\", address = \"127.0.0.1:0\", tls = \"starttls\" }}]\n\
             [bridge.submission]\nlisteners = [{{ name = \"submission\", address = \"127.0.0.1:0\", tls = \"starttls\", plain_auth_without_tls = true }}]\n\
             [bridge.imap]\nlisteners = [{{ name = \"imap\", address = \"127.0.0.1:0\", tls = \"starttls\", plain_auth_without_tls = true }}]\n\
             [bridge.irc-client]\nmotd = \"hello\"\nlisteners = [{{ name = \"irc\", address = \"127.0.0.1:0\", tls = \"none\" }}]\n\
             [bridge.irc-network]\n[bridge.irc-network.limits]\nreconnect_seconds = 1\nreconnect_most_seconds = 2\n\
             [[bridge.irc-network.network]]\nname = \"net\"\nhost = \"127.0.0.1\"\nport = {port}\ntls = false\n\
             burst = {burst}\nline_milliseconds = {milliseconds}\n{more}"
        );
        let path = home.join("mesyx.toml");
        fs::write(&path, config).unwrap();
        let mut passwords = Vec::new();
        for name in ["alice", "bob"] {
            let arguments = ["user", "add", name, "--no-password", "--app-password", "test", "--json"];
            let added = succeed(Command::new(program).arg("--config").arg(&path).args(arguments), b"");
            let added: serde_json::Value = serde_json::from_slice(&added).unwrap();
            passwords.push((name.to_owned(), added["app_password"].as_str().unwrap().to_owned()));
        }
        let elsewhere = ways::Elsewhere::apply(ways::Way::wanted(), &path);
        let mut exchange = Self { dir, server: None, _elsewhere: elsewhere, passwords };
        exchange.run();
        exchange
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("mesyx/mesyx.toml")
    }

    pub fn run(&mut self) {
        let server = Server::start(&self.config());
        ways::ready(|| server.status());
        self.server = Some(server);
    }

    pub fn stop(&mut self) {
        assert!(self.server.take().expect("it runs").stop());
    }

    pub fn at(&self, bridge: &str, listener: &str) -> SocketAddr {
        self.server.as_ref().expect("it runs").address(bridge, listener)
    }

    pub fn password(&self, name: &str) -> &str {
        &self.passwords.iter().find(|(user, _)| user == name).unwrap().1
    }

    /// A client of one of the users: `login` is the login name with what comes behind it, such as `alice/net@desk`.
    pub fn client(&self, login: &str, caps: &str) -> Talker {
        let name = login.split(['/', '@']).next().unwrap();
        let mut client = Talker::connect(self.at("irc-client", "irc"));
        client.send(&format!("CAP REQ :message-tags {caps}"));
        client.send(&format!("PASS {login}:{}", self.password(name)));
        client.send(&format!("NICK {name}\r\nUSER {name} 0 * :{name}\r\nCAP END"));
        client.until(" 376 ");
        client
    }

    /// The same, by SASL and BOUNCER BIND.
    pub fn bound_client(&self, name: &str, network: &str) -> Talker {
        let mut client = Talker::connect(self.at("irc-client", "irc"));
        let script = "import base64, sys; print(base64.b64encode(b'\\0' + sys.argv[1].encode() + b'\\0' + sys.argv[2].encode()).decode())";
        let word = python(script, &[&format!("{name}@bound"), self.password(name)]);
        client.send("CAP REQ :sasl soju.im/bouncer-networks\r\nNICK x\r\nUSER x 0 * :x\r\nAUTHENTICATE PLAIN");
        client.until("AUTHENTICATE +");
        client.send(&format!("AUTHENTICATE {}", word.trim()));
        client.until(" 903 ");
        client.send(&format!("BOUNCER BIND {network}\r\nCAP END"));
        client.until(" 376 ");
        client
    }

    /// What curl gets of a user's mail.
    pub fn imap(&self, name: &str, path: &str, command: Option<&str>) -> String {
        let mut curl = Command::new("curl");
        curl.args(["-s", "--user", &format!("{name}:{}", self.password(name))]);
        curl.arg(format!("imap://{}/{path}", self.at("imap", "imap")));
        if let Some(command) = command {
            curl.args(["-X", command]);
        }
        String::from_utf8_lossy(&run(&mut curl, b"").stdout).into_owned()
    }

    /// The numbers of the messages of a mailbox that hold a text.
    fn search(&self, name: &str, mailbox: &str, text: &str) -> Vec<String> {
        let found = self.imap(name, mailbox, Some(&format!("SEARCH BODY \"{text}\"")));
        let found = found.lines().find_map(|line| line.trim_end().strip_prefix("* SEARCH"));
        found.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    }

    /// How many messages of a mailbox hold a text.
    pub fn count(&self, name: &str, mailbox: &str, text: &str) -> usize {
        self.search(name, mailbox, text).len()
    }

    /// The message of a mailbox that holds a text.
    pub fn message(&self, name: &str, mailbox: &str, text: &str) -> String {
        let found = self.search(name, mailbox, text);
        assert_eq!(found.len(), 1, "'{text}' in {mailbox}");
        self.imap(name, &format!("{mailbox};MAILINDEX={}", found[0]), None)
    }

    /// Sends a mail with swaks as a user.
    pub fn mail(&self, name: &str, to: &str, body: &str) {
        let server = self.at("submission", "submission").to_string();
        let from = format!("{name}@example.org");
        let login = ["--auth", "PLAIN", "--auth-user", name, "--auth-password", self.password(name)];
        let mail = ["--server", &server, "--from", &from, "--to", to, "--body", body];
        succeed(Command::new("swaks").args(login).args(mail), b"");
    }
}

/// A client that says what it is told to, of the exchange or of the network.
pub struct Talker {
    reading: BufReader<TcpStream>,
    writing: TcpStream,
}

impl Talker {
    pub fn connect(address: SocketAddr) -> Self {
        let writing = TcpStream::connect(address).expect("connected");
        writing.set_read_timeout(Some(LONG)).unwrap();
        Self { reading: BufReader::new(writing.try_clone().unwrap()), writing }
    }

    /// Somebody on the network itself.
    pub fn outside(port: u16, nick: &str) -> Self {
        let mut client = Self::connect(SocketAddr::from(([127, 0, 0, 1], port)));
        client.send(&format!("NICK {nick}\r\nUSER {nick} 0 * :{nick}"));
        client.until(" 376 ");
        client
    }

    pub fn send(&mut self, line: &str) {
        self.writing.write_all(format!("{line}\r\n").as_bytes()).unwrap();
    }

    /// The next line; PINGs are answered.
    pub fn line(&mut self) -> String {
        loop {
            let mut line = String::new();
            let read = self.reading.read_line(&mut line).unwrap_or_else(|error| panic!("no more lines: {error}"));
            assert!(read > 0, "the connection ended");
            let line = line.trim_end().to_owned();
            match line.strip_prefix("PING ") {
                Some(token) => self.send(&format!("PONG {token}")),
                None => return line,
            }
        }
    }

    /// The lines up to the first that holds `text`.
    pub fn until(&mut self, text: &str) -> Vec<String> {
        let mut all = Vec::new();
        let end = Instant::now() + LONG;
        loop {
            let mut line = String::new();
            match self.reading.read_line(&mut line) {
                Ok(0) => panic!("closed before '{text}': {all:#?}"),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => panic!("no '{text}': {error}: {all:#?}"),
            }
            assert!(Instant::now() < end, "no '{text}': {all:#?}");
            let line = line.trim_end().to_owned();
            if let Some(token) = line.strip_prefix("PING ") {
                self.send(&format!("PONG {token}"));
                continue;
            }
            all.push(line);
            if all.last().unwrap().contains(text) {
                return all;
            }
        }
    }

    /// The last of them.
    pub fn hears(&mut self, text: &str) -> String {
        self.until(text).pop().unwrap()
    }

    /// Everything that came by the time the server has answered a PING.
    pub fn rest(&mut self, token: &str) -> Vec<String> {
        self.send(&format!("PING :{token}"));
        let pong = |line: &String| line.contains(" PONG ") && line.ends_with(token);
        let mut all = Vec::new();
        while !all.last().is_some_and(pong) {
            all.push(self.line());
        }
        all
    }
}

/// irssi in a terminal of tmux, ended with this.
pub struct Irssi {
    socket: String,
    home: tempfile::TempDir,
}

impl Irssi {
    /// `startup`: what is typed for it at once.
    pub fn start(startup: &str, arguments: &[&str]) -> Self {
        Self::at(tempfile::tempdir().unwrap(), startup, arguments)
    }

    /// The same, in a home that is prepared.
    pub fn at(home: tempfile::TempDir, startup: &str, arguments: &[&str]) -> Self {
        let socket = home.path().join("tmux").to_str().unwrap().to_owned();
        let irssi = Self { socket, home };
        // irssi sends one line every two seconds, and waits up to six behind one of more than a hundred bytes, unless the pace is 10 ms.
        let startup = format!("set cmd_queue_speed 10msec\nset cmds_max_at_once 1000\n{startup}\n");
        fs::write(irssi.home.path().join("startup"), startup).unwrap();
        let command = format!("irssi --home={} {}", irssi.home.path().display(), arguments.join(" "));
        irssi.tmux(&["new-session", "-d", "-x", "200", "-y", "50", &command]);
        irssi
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut tmux = Command::new("tmux");
        tmux.args(["-S", &self.socket, "-f", "/dev/null"]).args(arguments).env("TERM", "xterm");
        String::from_utf8_lossy(&tmux.output().expect("install tmux").stdout).into_owned()
    }

    pub fn type_line(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
        self.tmux(&["send-keys", "Enter"]);
    }

    pub fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-S", "-300"])
    }

    pub fn see(&self, text: &str) {
        let end = Instant::now() + LONG.max(PATIENCE);
        while !self.screen().contains(text) {
            assert!(Instant::now() < end, "irssi does not show '{text}':\n{}", self.screen());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Irssi {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}
