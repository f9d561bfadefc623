//! OTR with irssi and its plugin, in tmux.

use crate::support::{Bridged, Ngircd, Other, PATIENCE, free_port, skipped};
use mesyx_sdk::Protection;
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;

/// irssi in a tmux of its own.
struct Irssi {
    socket: String,
}

impl Irssi {
    async fn start(home: &Path, port: u16) -> Self {
        let irssi = Self { socket: home.join("tmux").to_str().unwrap().to_owned() };
        std::fs::write(
            home.join("config"),
            "settings = { core = { real_name = \"bob\"; user_name = \"bob\"; nick = \"bob\"; }; };\n",
        )
        .unwrap();
        // A verification takes many lines, which irssi would send one every two seconds.
        std::fs::write(
            home.join("startup"),
            format!(
                "load otr\nset cmd_queue_speed 100msec\nset cmds_max_at_once 20\nconnect -nocap 127.0.0.1 {port}\n"
            ),
        )
        .unwrap();
        let run = format!("irssi --home={}", home.display());
        irssi.tmux(&["new-session", "-d", "-x", "200", "-y", "50", &run]).await;
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

    async fn shows(&self, text: &str) {
        let found = tokio::time::timeout(PATIENCE, async {
            while !self.tmux(&["capture-pane", "-p", "-S", "-200"]).await.contains(text) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        if found.await.is_err() {
            panic!("irssi does not show {text}:\n{}", self.tmux(&["capture-pane", "-p", "-S", "-200"]).await);
        }
    }
}

impl Drop for Irssi {
    fn drop(&mut self) {
        let _ = std::process::Command::new("tmux").args(["-S", &self.socket, "kill-server"]).status();
    }
}

#[tokio::test]
async fn a_private_conversation_with_irssi() {
    if skipped() {
        return;
    }
    let server = Ngircd::start("irc", free_port(), "").await;
    let home = tempfile::tempdir().unwrap();
    let mut al = Bridged::start(server.port, serde_json::json!({})).await;
    al.joined().await;
    while al.service("fingerprints").await.contains("not made yet") {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let irssi = Irssi::start(home.path(), server.port).await;
    // Until irssi is there.
    let mut look = Other::connect(server.port, "look").await;
    tokio::time::timeout(PATIENCE, async {
        loop {
            look.send("ISON bob").await;
            if look.wait(" 303 ").await.contains("bob") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await
    .expect("irssi connects");
    // The plugin has its keys under irssi's name for the connection: what stands before the first dot of the address.
    irssi.type_in("/otr genkey 127").await;
    irssi.shows("completed").await;

    // Begun by the offer in our first text, which the plugin takes up.
    al.says("bob", "hello irssi").await;
    irssi.type_in("/query al").await;
    irssi.shows("hello irssi").await;
    tokio::time::timeout(PATIENCE, async {
        while !al.service("status bob").await.contains("private") {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .expect("the conversation becomes private");
    for n in 0..10 {
        al.says("bob", &format!("from al {n}")).await;
        irssi.type_in(&format!("from bob {n}")).await;
    }
    irssi.shows("from al 9").await;
    let (_, _, protection) = al.line("from bob 9").await;
    assert_eq!(protection, Protection::Otr { verified: false });
    // The peer verifies, then ends.
    irssi.type_in("/otr auth sesame").await;
    tokio::time::timeout(PATIENCE, async {
        while !al.service("answer bob sesame").await.contains("being checked") {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        while !al.service("status bob").await.contains("verified by a shared secret") {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .expect("verified");
    irssi.type_in("/otr finish").await;
    tokio::time::timeout(PATIENCE, async {
        while !al.service("status bob").await.contains("ended by") {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .expect("ended");
    let outcome = al.say("bob", mesyx_sdk::Line::say("leak")).await;
    assert!(matches!(outcome, mesyx_sdk::Outcome::Failed { .. }));
    // Begun by the peer.
    irssi.type_in("/otr init").await;
    tokio::time::timeout(PATIENCE, async {
        while !al.service("status bob").await.contains("private") {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .expect("private again");
    al.says("bob", "private again").await;
    irssi.shows("private again").await;
    al.stop().await;
}
