//! Messages that go out: the queue on the whole program, with a next hop that counts.

use crate::imap;
use crate::instance::Instance;
use crate::support::port::free_port;
use crate::support::sink::{Sink, Taken};
use crate::support::ways::expect;
use crate::support::{Demo, json, until};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A user's program that submits; its calls fail where the line breaks.
pub struct Client(BufReader<TcpStream>);

impl Client {
    pub fn login(port: u16, name: &str, password: &str) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut client = Self(BufReader::new(stream));
        client.reply()?;
        client.command("EHLO client.example.net")?;
        let token = STANDARD.encode(format!("\0{name}\0{password}"));
        let reply = client.command(&format!("AUTH PLAIN {token}"))?;
        expect(&reply, "235")?;
        Ok(client)
    }

    fn command(&mut self, line: &str) -> std::io::Result<String> {
        self.0.get_mut().write_all(format!("{line}\r\n").as_bytes())?;
        self.reply()
    }

    fn reply(&mut self) -> std::io::Result<String> {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if line.as_bytes().get(3) == Some(&b' ') {
                return Ok(line);
            }
        }
    }

    /// Submits one message; the last answer.
    pub fn submit(&mut self, from: &str, to: &[&str], subject: &str) -> std::io::Result<String> {
        self.submit_whole(from, to, &format!("From: <{from}>\r\nSubject: {subject}\r\n\r\ntext\r\nthe end\r\n"))
    }

    /// Submits these bytes, whose lines begin with no dot.
    pub fn submit_whole(&mut self, from: &str, to: &[&str], message: &str) -> std::io::Result<String> {
        let reply = self.command(&format!("MAIL FROM:<{from}>"))?;
        if !reply.starts_with("250") {
            return Ok(reply);
        }
        for to in to {
            let reply = self.command(&format!("RCPT TO:<{to}>"))?;
            if !reply.starts_with("250") {
                return Ok(reply);
            }
        }
        self.command("DATA")?;
        self.command(&format!("{message}."))
    }
}

fn demo(sink: &Sink) -> Demo {
    Demo::start_with(&["--smarthost", &format!("127.0.0.1:{}", sink.port)])
}

fn alice(demo: &Demo) -> Client {
    let alice = demo.user("alice");
    Client::login(demo.port("submission"), &alice.name, &alice.password).unwrap()
}

fn jobs(demo: &Demo) -> u64 {
    json(&["--config", &demo.config(), "queue", "status", "--json"], "")["jobs"].as_u64().unwrap()
}

fn subjects(taken: &[Taken]) -> HashMap<String, usize> {
    let mut subjects = HashMap::new();
    taken.iter().for_each(|taken| *subjects.entry(taken.subject.clone()).or_default() += 1);
    subjects
}

#[test]
fn what_is_submitted_for_others_elsewhere_arrives_once_and_stays_for_those_here() {
    let sink = Sink::start();
    let demo = demo(&sink);
    let mut client = alice(&demo);
    let from = demo.user("alice").address;
    let bob = demo.user("bob");
    for number in 0..50 {
        let to = ["joe@example.net", "ann@example.net", "eve@example.com", &bob.address];
        let reply = client.submit(&from, &to, &format!("number {number}")).unwrap();
        assert!(reply.starts_with("250"), "{reply}");
    }
    until("all is sent", || jobs(&demo) == 0);
    let taken = sink.taken();
    assert_eq!(imap::count(&demo, &bob, "INBOX"), 50);
    let (mut net, mut com) = (0, 0);
    for one in &taken {
        match one.to.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["joe@example.net", "ann@example.net"] => net += 1,
            ["eve@example.com"] => com += 1,
            _ => panic!("one transaction for each domain, all its recipients in it: {:?}", one.to),
        }
        assert!(!String::from_utf8_lossy(&one.bytes).contains("Return-Path"), "that is the last hop's to write");
        assert!(one.bytes.ends_with(b"text\r\nthe end\r\n"));
    }
    assert_eq!((net, com), (50, 50));
    assert_eq!(imap::count(&demo, &demo.user("alice"), "INBOX"), 0, "nobody asked for notices");
}

#[test]
fn failures_are_told_deferrals_tried_again_and_the_operator_sees_it() {
    let sink = Sink::start();
    let demo = demo(&sink);
    sink.answer("gone@example.net", "550 5.1.1 there is nobody of that name");
    for _ in 0..20 {
        sink.answer("busy@example.net", "451 4.2.0 try again later");
    }
    let from = demo.user("alice").address;
    let reply = alice(&demo).submit(&from, &["gone@example.net", "busy@example.net"], "both").unwrap();
    assert!(reply.starts_with("250"), "{reply}");
    let config = demo.config();
    let list = || json(&["--config", &config, "queue", "list", "--json"], "");
    until("one failed, one waits", || {
        let list = list();
        list.as_array().unwrap().len() == 1 && list[0]["state"] == "deferred"
    });
    let job = list()[0].clone();
    assert_eq!((job["to"].as_str(), job["user"].as_str()), (Some("busy@example.net"), Some("alice")));
    assert!(job["why"].as_str().unwrap().contains("4.2.0"), "{job}");
    assert_eq!(imap::count(&demo, &demo.user("alice"), "INBOX"), 1, "a notice");
    let (status, metrics) = crate::support::http(demo.address("admin"), "/metrics");
    assert!(status == 200 && metrics.contains("mesyx_queue_jobs{state=\"deferred\"} 1"), "{metrics}");
    let id = job["id"].as_str().unwrap();
    let change = |arguments: &[&str]| {
        let all: Vec<&str> = ["--config", &config, "queue"].iter().chain(arguments).copied().collect();
        json(&all, "")["changed"].as_u64().unwrap()
    };
    assert_eq!(change(&["hold", id, "--json"]), 1);
    assert_eq!(list()[0]["state"], "held");
    assert_eq!(change(&["retry", "--all", "--json"]), 1);
    assert_eq!(list()[0]["state"], "held", "retrying does not release");
    assert_eq!(change(&["release", "--user", "alice", "--json"]), 1);
    until("dropped, with a notice", || change(&["drop", "--domain", "example.net", "--yes", "--json"]) == 1);
    assert_eq!((jobs(&demo), imap::count(&demo, &demo.user("alice"), "INBOX")), (0, 2));
    assert!(sink.taken().is_empty());
    let traced = json(&["--config", &config, "trace", "busy@example.net", "--json"], "");
    let steps: Vec<_> = traced.as_array().unwrap().iter().filter_map(|line| line["what"].as_str()).collect();
    assert!(
        steps.iter().any(|step| step.contains("queued")) && steps.iter().any(|step| step.contains("tried again")),
        "{steps:?}"
    );
}

#[test]
fn strangers_can_not_use_the_next_hop() {
    let sink = Sink::start();
    let demo = demo(&sink);
    let mut smtp = crate::smtp::Smtp::connect(demo.port("smtp"));
    let domain = demo.text("domain");
    for to in ["joe@example.net".to_owned(), format!("joe%example.net@{domain}"), format!("@{domain}:joe@example.net")]
    {
        assert_eq!(smtp.command("MAIL FROM:<alice@example.org>").code, 250);
        let code = smtp.command(&format!("RCPT TO:<{to}>")).code;
        assert!((500..600).contains(&code), "{to}: {code}");
        smtp.command("RSET");
    }
    assert!(sink.taken().is_empty() && jobs(&demo) == 0);
}

#[test]
fn a_line_that_breaks_after_the_last_dot_costs_no_message() {
    let sink = Sink::start();
    let mut instance = Outgoing::new(&sink);
    sink.break_next(10);
    instance.start();
    let mut client = instance.login().unwrap();
    for number in 0..40 {
        let reply = client.submit("alice@example.org", &["joe@example.net"], &format!("number {number}")).unwrap();
        assert!(reply.starts_with("250"), "{reply}");
    }
    instance.drained();
    let subjects = subjects(&sink.taken());
    assert_eq!(sink.broken(), 10);
    assert_eq!(subjects.len(), 40, "none is lost");
    assert!(subjects.values().all(|count| *count == 1), "what was answered is not sent again: {subjects:?}");
}

const KILLS: usize = 50;
const SENDERS: usize = 4;

/// A message is sent twice only where the kill came between the end of its DATA and the moment at which the answer to it was durable:
/// then its job still stands in the store that the kill left behind. And at most once by each life of the server.
#[test]
fn no_message_is_lost_when_the_server_is_killed_and_none_sent_twice_whose_answer_was_written_down() {
    let sink = Sink::start();
    let mut instance = Outgoing::new(&sink);
    let next = Arc::new(AtomicUsize::new(0));
    let answered = Arc::new(Mutex::new(Vec::new()));
    let mut random = 0x9e37_79b9_7f4a_7c15_u64 ^ u64::from(std::process::id());
    // The recipients whose jobs each kill left in the store.
    let mut left: Vec<HashSet<String>> = Vec::new();
    for round in 0..KILLS {
        sink.set_generation(round);
        instance.start();
        let stop = Arc::new(AtomicBool::new(false));
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                let (next, answered, stop) = (Arc::clone(&next), Arc::clone(&answered), Arc::clone(&stop));
                let (port, password) = (instance.submission, instance.inner.password.clone());
                std::thread::spawn(move || {
                    let send = || -> std::io::Result<()> {
                        let mut client = Client::login(port, "alice", &password)?;
                        while !stop.load(Ordering::Relaxed) {
                            let number = next.fetch_add(1, Ordering::Relaxed);
                            let subject = format!("number {number}");
                            let to = format!("joe{number}@d{}.example.net", number % 7);
                            let reply = client.submit("alice@example.org", &[&to], &subject)?;
                            expect(&reply, "250")?;
                            answered.lock().unwrap().push(subject);
                            // One user may have 10,000 messages waiting, and no life here is long enough to send many.
                            std::thread::sleep(Duration::from_millis(10));
                        }
                        Ok(())
                    };
                    // The line breaks when the server is killed; that is what this is about.
                    let _ = send();
                })
            })
            .collect();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_millis(20 + (random >> 33) % 400));
        instance.inner.kill();
        stop.store(true, Ordering::Relaxed);
        for sender in senders {
            sender.join().unwrap();
        }
        left.push(instance.waiting());
    }
    sink.set_generation(KILLS);
    instance.start();
    instance.drained();
    let answered = Arc::try_unwrap(answered).unwrap().into_inner().unwrap();
    assert!(answered.len() >= KILLS, "only {} messages were answered in {KILLS} rounds", answered.len());
    let taken = sink.taken();
    let mut lives: HashMap<&str, Vec<usize>> = HashMap::new();
    taken.iter().for_each(|taken| lives.entry(&taken.subject).or_default().push(taken.generation));
    let lost: Vec<_> = answered.iter().filter(|subject| !lives.contains_key(subject.as_str())).collect();
    assert!(lost.is_empty(), "answered with 250 and lost: {lost:?}");
    let mut again = 0;
    for (subject, lives) in &lives {
        let mut each = lives.clone();
        each.dedup();
        assert_eq!(each.len(), lives.len(), "{subject} was sent twice by one life of the server: {lives:?}");
        again += lives.len() - 1;
    }
    let not_durable =
        taken.iter().filter(|taken| left.get(taken.generation).is_some_and(|left| left.contains(&taken.to[0])));
    let not_durable = not_durable.count();
    println!(
        "{} submitted and answered, {KILLS} kills, {} transactions; the answers to {not_durable} were not durable at the kill; {again} sent again",
        answered.len(),
        taken.len()
    );
    let mut last: HashMap<&str, usize> = HashMap::new();
    for taken in &taken {
        if let Some(before) = last.insert(&taken.to[0], taken.generation) {
            assert!(left[before].contains(&taken.to[0]), "{} was sent again though its end was durable", taken.to[0]);
        }
    }
    assert_eq!(again, not_durable, "each of those is sent again, and no other");
    assert!(lives.len() <= next.load(Ordering::Relaxed));
}

#[test]
fn stopping_finishes_what_is_on_the_line() {
    let sink = Sink::start();
    let mut instance = Outgoing::new(&sink);
    for round in 0..5 {
        instance.start();
        let mut client = instance.login().unwrap();
        for number in 0..30 {
            let subject = format!("{round} {number}");
            client.submit("alice@example.org", &["joe@example.net"], &subject).unwrap();
        }
        let pid = instance.inner.pid().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        instance.inner.wait();
    }
    instance.start();
    instance.drained();
    let subjects = subjects(&sink.taken());
    assert!(subjects.values().all(|count| *count == 1), "{subjects:?}");
}

/// An instance that sends everything to a sink.
pub struct Outgoing {
    pub inner: Instance,
    submission: u16,
}

impl Outgoing {
    pub fn new(sink: &Sink) -> Self {
        let inner = Instance::new();
        let submission = free_port();
        let path = inner.home().join("mesyx.toml");
        let mut config = std::fs::read_to_string(&path).unwrap();
        config.push_str(&format!(
            "[[bridge.smtp.delivery.routes]]\ndomains = [\"*\"]\nhosts = [\"127.0.0.1:{}\"]\ntls = \"none\"\n\
             [bridge.submission]\nlisteners = [{{ name = \"submission\", address = \"127.0.0.1:{submission}\", tls = \"starttls\", plain_auth_without_tls = true }}]\n\
             [queue]\nfirst_retry = 1\nlongest_retry = 2\n[pgp]\npolicy = \"off\"\nwkd = false\n",
            sink.port
        ));
        std::fs::write(path, config).unwrap();
        Self { inner, submission }
    }

    pub fn start(&mut self) {
        self.inner.start();
        until("submission listens", || TcpStream::connect(("127.0.0.1", self.submission)).is_ok());
    }

    fn login(&self) -> std::io::Result<Client> {
        self.login_as("alice", &self.inner.password)
    }

    pub fn login_as(&self, name: &str, password: &str) -> std::io::Result<Client> {
        Client::login(self.submission, name, password)
    }

    /// The recipients whose jobs stand in the store, while no server runs.
    fn waiting(&self) -> HashSet<String> {
        let list = self.inner.mesyx(&["queue", "list", "--limit", "1000000", "--json"]);
        let list: serde_json::Value = serde_json::from_slice(&list).unwrap();
        list.as_array().unwrap().iter().map(|job| job["to"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until nothing is left to send.
    pub fn drained(&self) {
        until("all is sent", || {
            let status = self.inner.mesyx(&["queue", "status", "--json"]);
            serde_json::from_slice::<serde_json::Value>(&status).unwrap()["jobs"] == 0
        });
    }
}
