//! Another implementation of OTR as a child process, and a conversation with it.

use mesyx_otr::{Config, Event, Identity, Output, Sent, Session};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Longer than any answer takes on a slow machine; a peer that hangs fails the test.
const PATIENCE: Duration = Duration::from_secs(120);

/// Which program, and which versions it is to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Libotr(&'static str),
    Potr,
}

/// Set to leave these tests out where the other programs can't be had. Without it their absence is a failure.
pub fn skipped() -> bool {
    std::env::var_os("MESYX_SKIP_PEERS").is_some_and(|value| value == "1")
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers")
}

/// Compiles the libotr peer once.
fn libotr_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libotr_peer");
        let compiled = Command::new("cc")
            .args(["-O1", "-o"])
            .args([&program, &sources().join("libotr_peer.c")])
            .args(["-lotr", "-lgcrypt"])
            .status()
            .expect("a C compiler: install gcc");
        assert!(compiled.success(), "libotr_peer.c does not compile: install libotr5-dev and libgcrypt20-dev");
        program
    })
}

fn command(kind: Kind, directory: &Path) -> Command {
    match kind {
        Kind::Libotr(versions) => {
            let mut command = Command::new(libotr_program());
            command.arg(directory).arg(versions);
            command
        }
        Kind::Potr => {
            // Debian's own Python, which has Debian's potr, whatever else comes first in the path.
            let mut command = Command::new("/usr/bin/python3");
            command.arg(sources().join("potr_peer.py")).arg(directory);
            command
        }
    }
}

/// The running program.
pub struct Peer {
    child: Child,
    stdin: ChildStdin,
    reports: Receiver<String>,
    pub fingerprint: String,
}

impl Peer {
    pub fn start(kind: Kind, directory: &Path) -> Self {
        let mut child = command(kind, directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{kind:?} does not start ({error}): install libotr5-dev, python3-potr"));
        let (send, reports) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| send.send(line).ok()));
        let stdin = child.stdin.take().unwrap();
        let mut peer = Self { child, stdin, reports, fingerprint: String::new() };
        let started = peer.reports();
        let fingerprint = started.first().and_then(|line| line.strip_prefix("fingerprint "));
        peer.fingerprint = fingerprint.expect("the peer names its key").to_uppercase();
        peer
    }

    fn command(&mut self, command: &str) -> Vec<String> {
        writeln!(self.stdin, "{command}").unwrap();
        self.reports()
    }

    fn reports(&mut self) -> Vec<String> {
        let mut reports = Vec::new();
        loop {
            let line = self.reports.recv_timeout(PATIENCE).expect("the peer answers (is python3-potr installed?)");
            if line == "done" {
                return reports;
            }
            reports.push(line);
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() { "-".into() } else { bytes.iter().map(|byte| format!("{byte:02x}")).collect() }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = if text == "-" { "" } else { text };
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

/// A session of ours in conversation with a peer, every line delivered in order.
pub struct Conversation {
    pub us: Session,
    pub peer: Peer,
    pub events: Vec<Event>,
    /// What the peer reported, but for its lines.
    pub reports: Vec<String>,
    /// Both ways; true: ours.
    pub lines: Vec<(bool, Vec<u8>)>,
}

impl Conversation {
    pub fn new(identity: Arc<Identity>, config: Config, mut peer: Peer) -> Self {
        if let Some(max) = config.max_line {
            peer.command(&format!("fragment {max}"));
        }
        Self { us: Session::new(identity, config), peer, events: vec![], reports: vec![], lines: vec![] }
    }

    /// Our side did something: deliver it, and all that follows.
    pub fn ours(&mut self, out: Output) {
        self.run(out, VecDeque::new());
    }

    /// The peer is told to do something.
    pub fn tell(&mut self, command: &str) {
        let reports = self.peer.command(command);
        let lines = self.sort(reports);
        self.run(Output::default(), lines);
    }

    fn run(&mut self, out: Output, mut to_us: VecDeque<Vec<u8>>) {
        let mut to_peer: VecDeque<_> = out.lines.into();
        self.events.extend(out.events);
        loop {
            if let Some(line) = to_peer.pop_front() {
                let reports = self.peer.command(&format!("recv {}", hex(&line)));
                self.lines.push((true, line));
                to_us.extend(self.sort(reports));
            } else if let Some(line) = to_us.pop_front() {
                let out = self.us.receive(&line, Instant::now());
                self.lines.push((false, line));
                to_peer.extend(out.lines);
                self.events.extend(out.events);
            } else {
                return;
            }
        }
    }

    fn sort(&mut self, reports: Vec<String>) -> VecDeque<Vec<u8>> {
        let mut lines = VecDeque::new();
        for report in reports {
            match report.strip_prefix("line ") {
                Some(line) => lines.push_back(unhex(line)),
                None => self.reports.push(report),
            }
        }
        lines
    }

    pub fn say(&mut self, text: &[u8]) -> Sent {
        let (sent, out) = self.us.send(text, Instant::now()).unwrap();
        self.ours(out);
        sent
    }

    pub fn peer_says(&mut self, text: &[u8]) {
        self.tell(&format!("say {}", hex(text)));
    }

    /// Events and reports since the last call.
    pub fn take(&mut self) -> (Vec<Event>, Vec<String>) {
        (std::mem::take(&mut self.events), std::mem::take(&mut self.reports))
    }
}
