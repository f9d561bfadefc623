//! OTR on a real network, against libotr (version 3) and python3-potr (version 2): the peer is another implementation behind a plain client.

use crate::support::{Bridged, Ngircd, Other, PATIENCE, fast, free_port, identity, restart, skipped};
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
    /// Al's instance tag, as it is known to the peer.
    tag: Option<String>,
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
        let mut bob = Self { irc, _child: child, stdin, stdout, reports: Vec::new(), tag: None };
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
                _ => match report.strip_prefix("instance ") {
                    Some(tag) => self.tag = Some(tag.to_owned()),
                    None => self.reports.push(report),
                },
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

/// Ten each way, in bursts of three before the other answers; some need several fragments.
async fn ten_each_way(al: &Bridged, bob: &mut Bob, round: &str) {
    let text = |who: &str, n: usize| {
        let long = if n == 0 || n == 4 || n == 8 { "x".repeat(700) } else { String::new() };
        format!("{round} {who} {n} {long}").trim().to_owned()
    };
    for burst in [0..3, 3..6, 6..9, 9..10] {
        for n in burst.clone() {
            meanwhile(bob, al.says("bob", &text("al", n))).await;
        }
        for n in burst.clone() {
            bob.until(&[&format!("text private {}", hex(&text("al", n)))]).await;
        }
        for n in burst.clone() {
            bob.tell(&format!("say {}", hex(&text("bob", n)))).await;
        }
        for n in burst {
            let (_, _, protection) = meanwhile(bob, al.line(&text("bob", n))).await;
            assert!(matches!(protection, Protection::Otr { .. }), "{protection:?}");
        }
    }
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
    let mut more = fast();
    more["otr"] = serde_json::json!({ "offer": if kind == Kind::Potr { "trailing" } else { "leading" } });
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

    // Both start anew, with the same keys and, where the version has one, the same instance tag: a text is held until it is private.
    let (kept, tag) = (identity(&al).await, bob.tag.clone());
    drop(bob);
    let al = restart(al, server.port, more.clone()).await;
    let mut bob = Bob::start(kind, server.port, directory.path()).await;
    let now = al.service("fingerprints").await;
    assert_eq!(now.lines().next(), ours.lines().next());
    meanwhile(&mut bob, al.says("bob", "private from the start")).await;
    bob.until(&[&format!("text private {}", hex("private from the start"))]).await;
    bob.tell(&format!("say {}", hex("welcome back"))).await;
    let (_, _, protection) = meanwhile(&mut bob, al.line("welcome back")).await;
    assert_eq!(protection, Protection::Otr { verified: true });
    assert!(!bob.reports.iter().any(|report| report.starts_with("text clear")), "{:?}", bob.reports);
    ten_each_way(&al, &mut bob, "five").await;
    assert_eq!((identity(&al).await, &bob.tag), (kept, &tag));
    assert_eq!(tag.is_some(), kind == Kind::Libotr);

    // Somebody else by bob's nick, with another key: loudly told, and nothing that was meant for bob is sent until the user says so.
    drop(bob);
    let al = restart(al, server.port, more).await;
    let another = tempfile::tempdir().unwrap();
    let mut bob = Bob::start(kind, server.port, another.path()).await;
    let waits = al.say("bob", mesyx_sdk::Line::say("for the old one"));
    let trusts = async {
        while !al.words().iter().any(|word| word.contains("THE FINGERPRINT OF bob HAS CHANGED. It was VERIFIED as")) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        // What the other says meanwhile is not marked as verified.
        assert!(al.service("status bob").await.contains("bob: private, not verified"));
        al.service("trust bob").await
    };
    let both = async { tokio::join!(waits, trusts) };
    let (outcome, trusted) = meanwhile(&mut bob, both).await;
    assert!(trusted.contains("verified by hand"), "{trusted}");
    assert!(matches!(outcome, mesyx_sdk::Outcome::Delivered { .. }), "{outcome:?}");
    bob.until(&[&format!("text private {}", hex("for the old one"))]).await;
    assert!(!bob.reports.iter().any(|report| report.starts_with("text")), "{:?}", bob.reports);
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
