//! OTR on a real network, against libotr (version 3) and python3-potr (version 2): the peer is another implementation behind a plain client.

use crate::support::{Bridged, Ngircd, Other, PATIENCE, free_nick, free_port, skipped};
use mesyx_sdk::Protection;
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Libotr,
    Potr,
}

/// Bob, whose client speaks OTR by another implementation.
struct Bob {
    irc: Other,
    _child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    reports: Vec<String>,
}

fn hex(text: &str) -> String {
    if text.is_empty() { "-".into() } else { text.bytes().map(|byte| format!("{byte:02x}")).collect() }
}

fn unhex(text: &str) -> String {
    let digits = if text == "-" { "" } else { text };
    let bytes = (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect();
    String::from_utf8(bytes).unwrap()
}

impl Bob {
    async fn start(kind: Kind, port: u16, directory: &Path) -> Self {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("otr/tests/peers");
        let mut command = match kind {
            Kind::Libotr => {
                let program = directory.join("peer");
                let compiled = Command::new("cc")
                    .arg("-o")
                    .args([&program, &sources.join("libotr_peer.c")])
                    .args(["-lotr", "-lgcrypt"])
                    .status();
                assert!(compiled.await.unwrap().success(), "install gcc, libotr5-dev and libgcrypt20-dev");
                let mut command = Command::new(program);
                command.arg(directory).arg("23");
                command
            }
            Kind::Potr => {
                let mut command = Command::new("/usr/bin/python3");
                command.arg(sources.join("potr_peer.py")).arg(directory);
                command
            }
        };
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()).lines());
        let irc = Other::connect(port, "bob").await;
        let mut bob = Self { irc, _child: child, stdin, stdout, reports: Vec::new() };
        bob.collect().await;
        bob.tell("fragment 400").await;
        bob
    }

    /// Takes reports until the command is done; lines go to al.
    async fn collect(&mut self) {
        loop {
            let report = tokio::time::timeout(PATIENCE, self.stdout.next_line())
                .await
                .unwrap()
                .unwrap()
                .expect("the peer answers");
            match (report.as_str(), report.strip_prefix("line ")) {
                ("done", _) => return,
                (_, Some(line)) => {
                    let line = unhex(line);
                    assert!(line.len() <= 400, "{}", line.len());
                    self.irc.send(&format!("PRIVMSG al :{line}")).await;
                }
                _ => self.reports.push(report),
            }
        }
    }

    async fn tell(&mut self, command: &str) {
        self.stdin.write_all(format!("{command}\n").as_bytes()).await.unwrap();
        self.collect().await;
    }

    /// Handles what comes from al until a report begins with one of these.
    async fn until(&mut self, wanted: &[&str]) -> String {
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Some(at) =
                    self.reports.iter().position(|report| wanted.iter().any(|wanted| report.starts_with(wanted)))
                {
                    return self.reports.remove(at);
                }
                let line = self.irc.next().await.expect("bob stays connected");
                if let Some((_, text)) = line.split_once(" PRIVMSG bob :") {
                    assert!(line.len() <= 510);
                    let command = format!("recv {}", hex(text));
                    self.tell(&command).await;
                }
            }
        });
        match found.await {
            Ok(found) => found,
            Err(_) => panic!("bob did not get: {wanted:?}; {:?}", self.reports),
        }
    }
}

/// A private conversation has begun, or has fresh keys: at both ends. libotr calls fresh keys a new conversation.
async fn began(al: &Bridged, bob: &mut Bob) {
    bob.until(&["private ", "refreshed "]).await;
    let private = meanwhile(bob, async {
        for _ in 0..600 {
            if al.service("status bob").await.contains("bob: private") {
                return true;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        false
    });
    assert!(private.await, "the conversation did not become private");
}

/// What bob does while al waits for something.
async fn meanwhile<T>(bob: &mut Bob, al: impl Future<Output = T>) -> T {
    tokio::pin!(al);
    loop {
        tokio::select! {
            done = &mut al => return done,
            line = bob.irc.next() => {
                if let Some((_, text)) = line.expect("bob stays connected").split_once(" PRIVMSG bob :") {
                    let command = format!("recv {}", hex(text));
                    bob.tell(&command).await;
                }
            }
        }
    }
}

/// Ten each way, in bursts of three, long enough for several fragments now and then.
async fn ten_each_way(al: &Bridged, bob: &mut Bob, round: &str) {
    for n in 0..10 {
        let long = if n % 4 == 0 { "x".repeat(700) } else { String::new() };
        let (ours, theirs) = (format!("{round} ours {n} {long}"), format!("{round} theirs {n} {long}"));
        meanwhile(bob, al.says("bob", ours.trim())).await;
        bob.tell(&format!("say {}", hex(theirs.trim()))).await;
        if n % 3 == 2 {
            bob.until(&[&format!("text private {}", hex(ours.trim()))]).await;
            let (_, _, protection) = meanwhile(bob, al.line(theirs.trim())).await;
            assert!(matches!(protection, Protection::Otr { .. }), "{protection:?}");
        }
    }
    meanwhile(bob, al.line(&format!("{round} theirs 9"))).await;
}

async fn word(al: &Bridged, bob: &mut Bob, text: &str) {
    let found = meanwhile(bob, async {
        for _ in 0..1500 {
            if al.words().iter().any(|word| word.contains(text)) {
                return true;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        false
    });
    assert!(found.await, "al was not told: {text}; {:?}", al.words());
}

async fn life(kind: Kind) {
    if skipped() {
        return;
    }
    let server = Ngircd::start("irc", free_port(), "").await;
    let directory = tempfile::tempdir().unwrap();
    let mut bob = Bob::start(kind, server.port, directory.path()).await;
    // Of a leading offer potr shows nothing.
    let more = serde_json::json!({ "otr": { "offer": if kind == Kind::Potr { "trailing" } else { "leading" } } });
    let mut al = Bridged::start(server.port, more.clone()).await;
    al.joined().await;
    // The key is made meanwhile.
    while al.service("fingerprints").await.contains("not made yet") {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let ours = al.service("fingerprints").await;

    // Begun by an offer in the first text.
    meanwhile(&mut bob, al.says("bob", "hello")).await;
    began(&al, &mut bob).await;
    word(&al, &mut bob, "NOT VERIFIED").await;
    ten_each_way(&al, &mut bob, "one").await;

    // Verification: by us, wrong and right; by the peer, wrong and right.
    for (answer, report, told) in
        [("wrong", "smp different", "VERIFICATION FAILED"), ("right", "smp same", "Verified:")]
    {
        meanwhile(&mut bob, al.service("verify bob right")).await;
        bob.until(&["asked"]).await;
        bob.tell(&format!("answer {}", hex(answer))).await;
        bob.until(&[report]).await;
        word(&al, &mut bob, told).await;
    }
    for (answer, report) in [("wrong", "smp different"), ("right", "smp same")] {
        bob.tell(&format!("smp {} -", hex("right"))).await;
        word(&al, &mut bob, "asks you to verify").await;
        // Asked before: the answer may only be given once the question is there.
        let mut said = String::new();
        for _ in 0..200 {
            said = meanwhile(&mut bob, al.service(&format!("answer bob {answer}"))).await;
            if said.contains("being checked") {
                break;
            }
            meanwhile(&mut bob, tokio::time::sleep(std::time::Duration::from_millis(50))).await;
        }
        assert!(said.contains("being checked"), "{said}");
        bob.until(&[report]).await;
    }
    ten_each_way(&al, &mut bob, "two").await;
    let verified = al
        .lines()
        .into_iter()
        .filter(|(_, line, _)| line.text.starts_with("two"))
        .all(|(_, _, protection)| protection == Protection::Otr { verified: true });
    assert!(verified);

    // Fresh keys, by either side; the end by the peer: nothing leaks; begun by the peer; the end by us.
    bob.reports.clear();
    meanwhile(&mut bob, al.service("refresh bob")).await;
    began(&al, &mut bob).await;
    bob.tell("query").await;
    began(&al, &mut bob).await;
    ten_each_way(&al, &mut bob, "three").await;
    bob.tell("end").await;
    word(&al, &mut bob, "ended the private conversation").await;
    let outcome = al.say("bob", mesyx_sdk::Line::say("leak")).await;
    assert!(matches!(&outcome, mesyx_sdk::Outcome::Failed { why } if why.contains("not sent")), "{outcome:?}");
    bob.reports.clear();
    bob.tell("query").await;
    began(&al, &mut bob).await;
    ten_each_way(&al, &mut bob, "four").await;
    meanwhile(&mut bob, al.service("end bob")).await;
    bob.until(&["finished"]).await;
    bob.tell("end").await;

    // Both start anew, with the same keys: a text is held until it is private.
    let host = al.host.clone();
    let (_, user) = al.stop().await;
    drop(bob);
    let next = mesyx_sdk::MemoryHost::new("example.org".parse().unwrap());
    next.add_user("al", "pw").unwrap();
    for key in mesyx_sdk::Host::checkpoints(&host, "").await.unwrap() {
        let kept = mesyx_sdk::Host::checkpoint(&host, &key).await.unwrap();
        mesyx_sdk::Host::set_checkpoint(&next, &key, kept).await.unwrap();
    }
    free_nick(server.port, "al").await;
    let mut bob = Bob::start(kind, server.port, directory.path()).await;
    let mut al = Bridged::again(next, user, server.port, more);
    al.joined().await;
    let now = al.service("fingerprints").await;
    assert_eq!(now.lines().next(), ours.lines().next());
    meanwhile(&mut bob, al.says("bob", "private from the start")).await;
    bob.until(&[&format!("text private {}", hex("private from the start"))]).await;
    bob.tell(&format!("say {}", hex("welcome back"))).await;
    let (_, _, protection) = meanwhile(&mut bob, al.line("welcome back")).await;
    assert_eq!(protection, Protection::Otr { verified: true });
    assert!(
        !bob.reports.iter().any(|report| report.starts_with("text clear") && report.contains(&hex("private from")))
    );
    al.stop().await;
}

#[tokio::test]
async fn the_life_of_a_conversation_with_libotr() {
    life(Kind::Libotr).await;
}

#[tokio::test]
async fn the_life_of_a_conversation_with_potr() {
    life(Kind::Potr).await;
}
