//! A bridge that breaks its contract in every way there is, as a process and as a program on another host, beside the bridges that people use:
//! it hurts only itself, and the operator sees why. What it is, is in tests/bridges.
//!
//! | what it does | what the operator sees |
//! | --- | --- |
//! | fails: ends, panics, leaks, speaks no protocol, hangs before it serves | the reason as the last failure, and the circuit breaker |
//! | goes on: floods, claims, gives wrong outcomes or none | what it did and how often |
//! | says that it delivered what it never touched | nothing: only the network knows |

use crate::beside::{Beside, user};
use crate::support::port::free_port;
use crate::support::ways::{self, children};
use crate::support::{DemoUser, deliver, run, until};

use mesyx_misbehaving::grants;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

const NAME: &str = "misbehaving";
/// Tried again at once, given up after the third time; half a second to stop.
const RESTART: &str = "restart = { first = 0.01, longest = 0.02, failures = 3, broken = 600.0, stop = 0.5 }";

/// What it does, whether it is given something to deliver, and how that shows.
type Case = (&'static str, bool, fn(&Value) -> bool);

fn is(status: &Value, state: &str) -> bool {
    status["state"]["is"] == state
}

fn says(status: &Value, key: &str, text: &str) -> bool {
    status[key].as_str().is_some_and(|said| said.contains(text))
}

const EVERYWHERE: &[Case] = &[
    ("well", true, |status| is(status, "ready")),
    ("hangs-in-deliver", true, |status| is(status, "ready")),
    ("never-ready", false, |status| {
        is(status, "starting") || says(&status["state"], "why", "connected and is not ready")
    }),
    ("floods", false, |status| says(status, "last_fault", "more than 100 messages a second")),
    ("lies-about-number", true, |status| is(status, "ready")),
    ("panics-in-deliver", true, |status| is(status, "ready")),
    ("claims", false, |status| says(status, "last_fault", "it called for what needs the grant") && is(status, "ready")),
    ("ignores-stop", false, |status| is(status, "ready")),
    ("speaks-garbage", false, |status| is(status, "ready")),
    ("panics", false, |status| says(status, "last_failure", "panicked")),
    ("malformed", false, |status| !status["last_failure"].is_null()),
    ("oversized", false, |status| !status["last_failure"].is_null()),
    ("hangs-at-start", false, |status| says(status, "last_failure", "did not check its configuration in time")),
];
const PROCESS: &[Case] = &[
    ("exits", false, |status| says(status, "last_failure", "ended with code 7") && status["breaker"] == "open"),
    ("leaks", false, |status| says(status, "last_failure", "memory allocation")),
];
const REMOTE: &[Case] = &[("exits", false, |status| says(status, "last_failure", "without a word"))];

/// Why the queue keeps what was given to it.
const WAITS: &[(&str, &str)] =
    &[("lies-about-number", "wrong number of outcomes"), ("panics-in-deliver", "failed inside")];

/// The server, and what was asked of it.
struct Misbehaving {
    beside: Beside,
    record: PathBuf,
    /// The key `run`, and what starts the program on another host.
    run: String,
    elsewhere: Option<Command>,
    grants: String,
    program: Option<Child>,
    delivered: usize,
    submitted: Vec<String>,
}

impl Misbehaving {
    fn new() -> Self {
        let beside = Beside::new("attempt = 10\ngrace = 1");
        let record = beside.open_directory().join("record");
        let (run, submitted) = (String::new(), Vec::new());
        let grants = "[\"accept\", \"deliver\"]".to_owned();
        Self { beside, record, run, elsewhere: None, grants, program: None, delivered: 0, submitted }
    }

    fn library() -> Self {
        let mut this = Self::new();
        this.run = format!("{{ library = {:?} }}", ways::library(NAME));
        this.configure("well");
        this.beside.start();
        this
    }

    fn process() -> Self {
        let mut this = Self::new();
        let program = this.beside.program("mesyx-misbehaving");
        let open = this.beside.open_directory();
        this.run = format!("{{ process = {program:?}, memory = 134217728, writable = [{open:?}]{} }}", user());
        this.configure("well");
        this.beside.start();
        this
    }

    fn remote() -> Self {
        let mut this = Self::new();
        let program = this.beside.program("mesyx-misbehaving");
        let open = this.beside.open_directory();
        let manifest = open.join("manifest.json");
        fs::write(&manifest, Command::new(&program).arg("--manifest").output().unwrap().stdout).unwrap();
        let port = free_port();
        this.run = format!("{{ remote = \"127.0.0.1:{port}\", manifest = {manifest:?} }}");
        this.configure("well");
        let (config, carried) = (this.beside.config(), open.join("carried"));
        let (config, to) = (config.to_str().unwrap(), carried.to_str().unwrap());
        run(0, &["--config", config, "bridge", "certificate", NAME, "--host", "127.0.0.1", "--to", to], "");
        let mut command = Command::new(program);
        command.env("MESYX_BRIDGE", format!("tls:127.0.0.1:{port}")).env("MESYX_BRIDGE_NAME", "host.mesyx.internal");
        for (key, file) in [("CA", "authority.pem"), ("CERT", "bridge.pem"), ("KEY", "bridge.key")] {
            command.env(format!("MESYX_BRIDGE_{key}"), carried.join(file));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        this.elsewhere = Some(command);
        this.beside.start();
        this
    }

    fn configure(&self, how: &str) {
        let own = format!("how = {how:?}\nto = {:?}\nrecord = {:?}", self.beside.bob.address, self.record);
        let grants = &self.grants;
        self.beside.configure(NAME, &format!("run = {}\ngrants = {grants}\n{RESTART}\n{own}", self.run));
    }

    /// From now on it does this.
    fn does(&mut self, how: &str) {
        self.configure(how);
        self.end_program();
        self.beside.reload();
        if let Some(command) = &mut self.elsewhere {
            self.program = Some(command.spawn().expect("the program starts"));
        }
    }

    fn end_program(&mut self) {
        if let Some(mut program) = self.program.take() {
            let _ = program.kill();
            let _ = program.wait();
        }
    }

    fn status(&self) -> Value {
        self.beside.listed(NAME)
    }

    /// The other bridges do what they do.
    fn others_go_on(&mut self, how: &str) {
        let smtp = self.beside.address("smtp", "smtp");
        for number in 0..3 {
            deliver(smtp, &self.beside.alice.address, &format!("Subject: beside {how} {number}\r\n\r\nx\r\n"));
            self.delivered += 1;
        }
        assert_eq!(self.subjects(&self.beside.alice).len(), self.delivered, "beside {how}");
    }

    /// The subjects in a user's INBOX.
    fn subjects(&self, user: &DemoUser) -> Vec<String> {
        let script = "
box = imap()
box.select('INBOX', readonly=True)
numbers = box.search(None, 'ALL')[1][0].split()
if numbers:
    parts = box.fetch('1:*', '(BODY.PEEK[HEADER.FIELDS (SUBJECT)])')[1]
    print('\\n'.join(part[1].decode().strip() for part in parts if isinstance(part, tuple)))
";
        self.beside.python(user, script, &[]).lines().map(str::to_owned).collect()
    }

    fn case(&mut self, (how, delivers, shows): &Case) {
        self.does(how);
        if *delivers {
            until("it is there", || is(&self.status(), "ready"));
            let contact = format!("{how}@{NAME}.x.example.org");
            self.beside.python(&self.beside.alice, "submit([sys.argv[1]], sys.argv[1])", &[&contact]);
            self.submitted.push(format!("{NAME}:{how} "));
        }
        self.others_go_on(how);
        let mut status = Value::Null;
        let shown = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(how, || {
                status = self.status();
                shows(&status)
            });
        }));
        assert!(shown.is_ok(), "{how}: {status}\n{}", self.beside.log());
        // What was not answered well waits, and the operator sees why: until it is tried again, which says something else.
        let why = WAITS.iter().find(|(waits, _)| waits == how).map(|(_, why)| *why);
        if let Some(why) = why {
            until(why, || {
                let jobs = self.beside.json(&["queue", "list"]);
                let job = jobs.as_array().unwrap().iter().find(|job| job.to_string().contains(&format!(":{how}\"")));
                job.is_some_and(|job| says(job, "why", why))
            });
        }
    }

    /// In the end it behaves, and everything that waited arrives, once.
    fn behaves_in_the_end(mut self) {
        let config = self.beside.config();
        let config = config.to_str().unwrap();
        self.does("well");
        until("it is there", || is(&self.status(), "ready"));
        until("what waited has arrived", || {
            run(0, &["--config", config, "queue", "retry", "--all"], "");
            self.beside.json(&["queue", "status"])["jobs"] == 0
        });
        let record = fs::read_to_string(&self.record).unwrap();
        for to in &self.submitted {
            assert_eq!(record.lines().filter(|line| line.starts_with(to)).count(), 1, "{to}: {record}");
        }
        // And one that it only says is delivered: nobody can know better.
        self.does("lies-delivered");
        until("it is there", || is(&self.status(), "ready"));
        self.beside.python(&self.beside.alice, "submit(['lies@misbehaving.x.example.org'], 'x')", &[]);
        until("it counts as delivered", || self.beside.json(&["queue", "status"])["jobs"] == 0);
        assert!(!fs::read_to_string(&self.record).unwrap().contains(":lies "));
        let flood = self.subjects(&self.beside.bob);
        let distinct: BTreeSet<&String> = flood.iter().collect();
        assert!(!flood.is_empty() && distinct.len() == flood.len(), "each of the flood is there once");
        assert_eq!(self.subjects(&self.beside.alice).len(), self.delivered, "nothing else came, nothing is gone");
        let log = self.beside.log();
        assert!(log.contains("refused a call") && !log.contains("panicked at bridges/"), "{log}");
        let text = crate::support::stdout(0, &["--config", config, "bridge", "list"], "");
        assert!(text.contains("misbehaving 1.0.0"), "{text}");
        self.end_program();
        assert!(self.beside.stop(), "{}", self.beside.log());
    }
}

impl Drop for Misbehaving {
    fn drop(&mut self) {
        self.end_program();
    }
}

#[test]
fn as_a_process_it_hurts_only_itself() {
    let mut misbehaving = Misbehaving::process();
    for case in EVERYWHERE.iter().chain(PROCESS) {
        misbehaving.case(case);
        if case.0 == "ignores-stop" {
            // Cut off half a second after it was told to stop.
            let server = misbehaving.beside.pid();
            let own = || children(server).into_iter().filter(|(_, line)| line.contains(NAME)).count();
            assert_eq!(own(), 1);
            misbehaving.does("well");
            until("the old one is gone", || own() == 1 && is(&misbehaving.status(), "ready"));
        }
    }
    misbehaving.behaves_in_the_end();
}

#[test]
fn as_a_remote_bridge_it_hurts_only_itself() {
    let mut misbehaving = Misbehaving::remote();
    for case in EVERYWHERE.iter().chain(REMOTE) {
        misbehaving.case(case);
    }
    misbehaving.behaves_in_the_end();
}

/// Each call without its grant is refused and logged, and with it neither; linked in, the tests of mesyx-bridges do the same.
fn each_grant(mut misbehaving: Misbehaving) {
    let all: Vec<&str> = grants::CALLS.into_iter().chain(["deliver"]).collect();
    for granted in [false, true] {
        let _ = fs::remove_file(&misbehaving.record);
        let before = misbehaving.beside.log().len();
        misbehaving.grants = if granted { format!("{all:?}") } else { "[]".to_owned() };
        misbehaving.does("asks");
        let record = || fs::read_to_string(&misbehaving.record).unwrap_or_default();
        until("it has asked", || record().ends_with("all asked\n"));
        for (grant, how) in record().lines().filter_map(|line| line.split_once(' ')).filter(|(_, how)| *how != "asked")
        {
            assert_eq!(how, if granted { "allowed" } else { "refused" }, "{grant}");
        }
        let script = "
try:
    submit(['somebody@misbehaving.x.example.org'], 'x')
    print('taken')
except smtplib.SMTPRecipientsRefused:
    print('refused')
";
        let said = misbehaving.beside.python(&misbehaving.beside.alice, script, &[]);
        assert_eq!(said.trim(), if granted { "taken" } else { "refused" });
        until("it was brought", || record().contains("misbehaving:somebody") == granted);
        let log = misbehaving.beside.log();
        for grant in &all {
            let about = format!("grant=\"{grant}\"");
            let refused = log[before..].lines().any(|line| line.contains("refused") && line.contains(&about));
            assert_eq!(refused, !granted, "{grant}\n{}", &log[before..]);
        }
    }
    misbehaving.end_program();
    assert!(misbehaving.beside.stop());
}

#[test]
fn each_grant_counts_for_a_library() {
    each_grant(Misbehaving::library());
}

#[test]
fn each_grant_counts_for_a_process() {
    each_grant(Misbehaving::process());
}

#[test]
fn each_grant_counts_for_a_remote_bridge() {
    each_grant(Misbehaving::remote());
}
