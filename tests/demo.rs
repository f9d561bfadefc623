//! `mesyx demo`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use serde_json::Value;
use support::{Demo, Lines, deliver, http, json, mesyx, run, until};

#[test]
fn it_announces_itself_on_one_line_and_removes_what_it_made_when_its_input_closes() {
    let demo = Demo::start();
    let line = demo.line.as_object().unwrap();
    let keys: Vec<_> = line.keys().map(String::as_str).collect();
    for key in ["dir", "domain", "users", "smtp", "submission", "submissions", "imap", "imaps", "admin", "tls_ca"] {
        assert!(keys.contains(&key), "{key} in {keys:?}");
    }
    let names: Vec<_> = line["users"].as_array().unwrap().iter().map(|user| user["name"].clone()).collect();
    assert_eq!(names, ["alice", "bob"]);
    assert_eq!(demo.user("bob").address, format!("bob@{}", line["domain"].as_str().unwrap()));
    for listener in ["smtp", "submission", "submissions", "imap", "imaps", "admin"] {
        assert!(std::net::TcpStream::connect(demo.address(listener)).is_ok(), "{listener}");
    }
    let dir = demo.dir();
    assert!(dir.join("data").is_dir());
    assert!(demo.close(), "it ended well");
    assert!(!dir.exists(), "{} is gone", dir.display());
}

#[test]
fn a_message_comes_in_and_is_read() {
    let demo = Demo::start();
    let alice = demo.user("alice");
    deliver(demo.address("smtp"), &alice.address, "Subject: the canary sings\r\n\r\nTweet.\r\n");
    let mut imap = Lines::connect(demo.address("imap"));
    assert!(imap.line().starts_with("* OK"));
    let login = imap.imap("a", &format!("LOGIN {} {}", alice.name, alice.password));
    assert!(login.last().unwrap().starts_with("a OK"), "{login:?}");
    let select = imap.imap("b", "SELECT INBOX");
    assert!(select.iter().any(|line| line == "* 1 EXISTS"), "{select:?}");
    let body = imap.imap("c", "FETCH 1 BODY.PEEK[]");
    assert!(body.iter().any(|line| line == "Subject: the canary sings"), "{body:?}");
    assert!(body.iter().any(|line| line == "Tweet."), "{body:?}");

    let status = json(&["--config", &demo.config(), "status", "--json"], "");
    // The mail, and that alice and bob joined #demo.
    assert_eq!(status["core"]["messages"], 3, "{status}");
    assert_eq!(status["core"]["unlocked"][0]["user"], "alice", "{status}");
    let trace = json(&["--config", &demo.config(), "trace", "joe@example.net", "--json"], "");
    assert!(!trace.as_array().unwrap().is_empty(), "{trace}");
}

#[test]
fn the_admin_listener_tells_how_it_does() {
    let demo = Demo::start();
    let admin = demo.address("admin");
    let (status, body) = http(admin, "/ready");
    assert_eq!(status, 200, "{body}");
    let ready: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(ready["bridges"]["imap"]["is"], "ready", "{body}");
    assert_eq!(http(admin, "/health").0, 200);
    let (status, body) = http(admin, "/metrics");
    assert_eq!(status, 200);
    assert!(body.contains("mesyx_bridge_ready{bridge=\"smtp\"} 1"), "{body}");
    assert!(body.contains("mesyx_users 2"), "{body}");
    assert_eq!(http(admin, "/").0, 404);
}

#[test]
fn it_stops_on_sigterm_and_removes_what_it_made() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("here");
    let demo = Demo::start_with(&["--dir", dir.to_str().unwrap()]);
    assert_eq!(demo.dir(), dir);
    let pid = demo.pid().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    until("the directory is removed", || !dir.exists());
}

#[test]
fn a_directory_that_exists_is_left_alone() {
    let parent = tempfile::tempdir().unwrap();
    std::fs::write(parent.path().join("mine"), "precious").unwrap();
    let output = run(1, &["demo", "--json", "--dir", parent.path().to_str().unwrap()], "");
    assert!(String::from_utf8_lossy(&output.stderr).contains("does not exist yet"));
    assert_eq!(std::fs::read_to_string(parent.path().join("mine")).unwrap(), "precious");
}

#[test]
fn what_it_made_is_removed_after_an_error_too() {
    let parent = tempfile::tempdir().unwrap();
    // Longer than a socket's path may be, so that the start fails after everything was written.
    let dir = parent.path().join("x".repeat(120));
    let output = mesyx(&["demo", "--json", "--dir", dir.to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.is_empty());
    assert!(!dir.exists());
}
