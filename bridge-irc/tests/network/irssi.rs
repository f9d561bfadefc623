//! OTR with irssi and its plugin, in tmux.

use crate::support::{Bridged, Ngircd, Other, PATIENCE, fast, free_nick, free_port, identity, restart, skipped};
use mesyx_sdk::{Outcome, Protection};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::process::Command;

/// irssi in a tmux of its own.
struct Irssi {
    socket: String,
}

impl Irssi {
    /// Bob's, in a home that may have been used before: connected, with a key.
    async fn start(home: &Path, port: u16) -> Self {
        let irssi = Self { socket: home.join("tmux").to_str().unwrap().to_owned() };
        std::fs::write(
            home.join("config"),
            "settings = { core = { real_name = \"bob\"; user_name = \"bob\"; nick = \"bob\"; }; };\n",
        )
        .unwrap();
        // irssi sends one line every two seconds, and waits up to six behind one of more than a hundred bytes, unless the pace is 10 ms.
        std::fs::write(
            home.join("startup"),
            format!(
                "load otr\nset cmd_queue_speed 10msec\nset cmds_max_at_once 1000\nconnect -nocap 127.0.0.1 {port}\n"
            ),
        )
        .unwrap();
        let run = format!("irssi --home={}", home.display());
        irssi.tmux(&["new-session", "-d", "-x", "200", "-y", "50", &run]).await;
        let mut look = Other::connect(port, "look").await;
        soon("irssi connects", async || {
            look.send("ISON bob").await;
            look.wait(" 303 ").await.contains("bob")
        })
        .await;
        // The plugin has its keys under irssi's name for the connection: what stands before the first dot of the address.
        if !home.join("otr/otr.key").exists() {
            irssi.type_in("/otr genkey 127").await;
            irssi.shows("completed").await;
        }
        irssi.type_in("/query al").await;
        irssi
    }

    async fn tmux(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux")
            .args(["-S", &self.socket, "-f", "/dev/null"])
            .args(arguments)
            .env("TERM", "xterm")
            .output()
            .await;
        String::from_utf8_lossy(&output.expect("install tmux").stdout).into_owned()
    }

    async fn type_in(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]).await;
        self.tmux(&["send-keys", "Enter"]).await;
    }

    /// What stands in the window, without blanks: long lines are broken.
    async fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"]).await.split_whitespace().collect()
    }

    async fn shows(&self, text: &str) {
        let text: String = text.split_whitespace().collect();
        soon(&format!("irssi shows {text}"), async || self.screen().await.contains(&text)).await;
    }

    /// Clears the window; what comes after this is shown.
    async fn clear(&self) {
        static CLEARED: AtomicU32 = AtomicU32::new(0);
        let mark = format!("cleared-{}-", CLEARED.fetch_add(1, Ordering::Relaxed));
        self.type_in("/clear").await;
        self.type_in(&format!("/echo {mark}")).await;
        self.shows(&mark).await;
    }

    /// Ends it as a user does: its connection too.
    async fn quit(self, port: u16) {
        self.type_in("/quit").await;
        free_nick(port, "bob").await;
    }
}

/// Waits until something holds.
async fn soon(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = tokio::time::timeout(PATIENCE, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    waiting.await.unwrap_or_else(|_| panic!("in vain: {what}"));
}

async fn state(al: &Bridged, wanted: &str) {
    soon(&format!("{wanted}: {:?}", al.words()), async || al.service("status bob").await.contains(wanted)).await;
}

/// What al is told of bob from the service nick, after what was told before.
async fn told(al: &Bridged, before: &[String], wanted: &str) {
    let count = |words: &[String]| words.iter().filter(|word| word.contains(wanted)).count();
    soon(&format!("{wanted}: {before:?}"), async || count(&al.words()) > count(before)).await;
}

/// Ten each way, in bursts of three before the other answers; some need several fragments.
async fn ten_each_way(al: &Bridged, irssi: &Irssi, round: &str) {
    irssi.clear().await;
    let text = |who: &str, n: usize| {
        // irssi cuts a text that would not fit one line in the clear; what encryption adds is for its plugin to cut.
        let long = if n == 4 { "x".repeat(if who == "al" { 700 } else { 380 }) } else { String::new() };
        format!("{round} {who} {n} {long}end")
    };
    for burst in [0..3, 3..6, 6..9, 9..10] {
        for n in burst.clone() {
            al.says("bob", &text("al", n)).await;
        }
        // Once irssi reads what is encrypted, it encrypts.
        for n in burst.clone() {
            irssi.shows(&text("al", n)).await;
        }
        for n in burst.clone() {
            irssi.type_in(&text("bob", n)).await;
        }
        for n in burst {
            let (_, _, protection) = al.line(&text("bob", n)).await;
            assert!(matches!(protection, Protection::Otr { .. }), "{protection:?}");
        }
    }
}

async fn key_is_made(al: &Bridged) -> String {
    soon("the key is made", async || !al.service("fingerprints").await.contains("not made yet")).await;
    al.service("fingerprints").await.lines().next().unwrap().to_owned()
}

/// What is not sent comes back at once, with the reason.
async fn refused(al: &Bridged, text: &str) {
    let outcome = al.say("bob", mesyx_sdk::Line::say(text)).await;
    assert!(matches!(&outcome, Outcome::Failed { why } if why.contains("not sent")), "{outcome:?}");
}

impl Drop for Irssi {
    fn drop(&mut self) {
        let _ = std::process::Command::new("tmux").args(["-S", &self.socket, "kill-server"]).status();
    }
}

#[tokio::test]
async fn the_life_of_a_conversation_with_irssi() {
    if skipped() {
        return;
    }
    let server = Ngircd::start("irc", free_port(), "").await;
    let home = tempfile::tempdir().unwrap();
    let mut al = Bridged::start(server.port, fast()).await;
    al.joined().await;
    let ours = key_is_made(&al).await;
    let irssi = Irssi::start(home.path(), server.port).await;

    // Begun by the offer in our first text, which the plugin takes up.
    al.says("bob", "hello irssi").await;
    irssi.shows("hello irssi").await;
    state(&al, "bob: private, not verified").await;
    ten_each_way(&al, &irssi, "one").await;

    // Verification: begun by us, then by the peer; with a wrong secret, then with the right one.
    for (answer, verdict) in [("mustard", "VERIFICATION FAILED"), ("sesame", "Verified: bob knows the same secret")] {
        irssi.clear().await;
        let before = al.words();
        assert!(al.service("verify bob sesame").await.contains("is asked"));
        irssi.shows("/otr auth").await;
        irssi.type_in(&format!("/otr auth {answer}")).await;
        told(&al, &before, verdict).await;
    }
    state(&al, "bob: private, verified by a shared secret").await;
    al.service("distrust bob").await;
    for (answer, verdict) in [("mustard", "VERIFICATION FAILED"), ("sesame", "Verified: bob knows the same secret")] {
        irssi.clear().await;
        let before = al.words();
        irssi.type_in("/otr auth sesame").await;
        told(&al, &before, "asks you to verify").await;
        assert!(al.service(&format!("answer bob {answer}")).await.contains("being checked"));
        told(&al, &before, verdict).await;
    }
    state(&al, "bob: private, verified by a shared secret").await;

    // Fresh keys in the middle of it, begun by either side.
    let before = al.words();
    assert!(al.service("refresh bob").await.contains("fresh keys"));
    told(&al, &before, "has fresh keys").await;
    ten_each_way(&al, &irssi, "two").await;
    let before = al.words();
    irssi.type_in("/quote PRIVMSG al :?OTRv23?").await;
    told(&al, &before, "has fresh keys").await;
    ten_each_way(&al, &irssi, "three").await;

    // The end by the peer: nothing goes out until the user says so.
    irssi.type_in("/otr finish").await;
    state(&al, "ended by bob").await;
    refused(&al, "LEAK").await;
    // Begun by the peer; the end by us: what the peer types then is not sent by its plugin.
    irssi.type_in("/otr init").await;
    state(&al, "bob: private, verified by a shared secret").await;
    ten_each_way(&al, &irssi, "four").await;
    assert!(al.service("end bob").await.contains("IN THE CLEAR"));
    irssi.shows("has finished").await;
    irssi.type_in("LEAK of the peer").await;
    irssi.type_in("/otr finish").await;
    irssi.type_in("in the clear again").await;
    let (_, _, protection) = al.line("in the clear again").await;
    assert_eq!(protection, Protection::None);
    assert!(!al.lines().iter().any(|(_, line, _)| line.text.contains("LEAK of")));
    assert!(!irssi.screen().await.contains("al>LEAK"));

    // The bridge starts anew, with the same key and instance tag: what is said waits until it is private.
    let kept = identity(&al).await;
    let mut al = restart(al, server.port, fast()).await;
    assert_eq!(key_is_made(&al).await, ours);
    al.says("bob", "private from the start").await;
    irssi.shows("private from the start").await;
    state(&al, "bob: private, verified by a shared secret").await;
    ten_each_way(&al, &irssi, "five").await;
    assert_eq!(identity(&al).await, kept);

    // The peer's irssi starts anew: it has the same key, and is known by it.
    irssi.quit(server.port).await;
    let irssi = Irssi::start(home.path(), server.port).await;
    let before = al.words();
    irssi.type_in("/otr init").await;
    told(&al, &before, "Private conversation with bob (OTR), verified").await;
    ten_each_way(&al, &irssi, "six").await;

    // A peer with another key: loudly told, and nothing that was meant for the old one is sent until the user says so.
    irssi.quit(server.port).await;
    let home = tempfile::tempdir().unwrap();
    let irssi = Irssi::start(home.path(), server.port).await;
    al = restart(al, server.port, fast()).await;
    assert_eq!(key_is_made(&al).await, ours);
    let waits = al.say("bob", mesyx_sdk::Line::say("for the old one"));
    let trusts = async {
        soon("the warning", async || {
            let warned = |line: &mesyx_sdk::Line| line.text.contains("THE FINGERPRINT OF bob HAS CHANGED");
            al.lines().iter().any(|(_, line, _)| warned(line) && line.text.contains("VERIFIED as"))
        })
        .await;
        assert!(!irssi.screen().await.contains("fortheoldone"));
        assert!(al.service("status bob").await.contains("bob: private, not verified"));
        al.service("trust bob").await
    };
    let (outcome, trusted) = tokio::join!(waits, trusts);
    assert!(trusted.contains("verified by hand"), "{trusted}");
    assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");
    irssi.shows("for the old one").await;
    al.stop().await;
}
