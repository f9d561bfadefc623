//! `mesyx contact`, with a key that GnuPG made.

use crate::support::json;
use crate::tools::{run, succeed};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A directory for GnuPG, whose agent is ended with it.
struct Gnupg(tempfile::TempDir);

impl Gnupg {
    fn new() -> Self {
        Self(tempfile::Builder::new().prefix("g").tempdir_in("/tmp").unwrap())
    }

    fn run(&self, arguments: &[&str]) -> Vec<u8> {
        let mut command = Command::new("gpg");
        command.arg("--homedir").arg(self.0.path()).args(["--batch", "--no-tty", "--pinentry-mode", "loopback"]);
        succeed(command.args(["--passphrase", ""]).args(arguments), b"")
    }
}

impl Drop for Gnupg {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").arg("--homedir").arg(self.0.path()).args(["--kill", "all"]).status();
    }
}

fn fingerprint(gpg: &Gnupg, address: &str) -> String {
    let listed = String::from_utf8(gpg.run(&["--with-colons", "--list-keys", address])).unwrap();
    let line = listed.lines().find_map(|line| line.strip_prefix("fpr:::::::::")).expect("a fingerprint");
    line.trim_end_matches(':').to_owned()
}

#[test]
fn contacts_are_given_pinned_shown_and_forgotten() {
    let place = tempfile::tempdir().unwrap();
    let home = place.path().join("mesyx");
    let secret = place.path().join("password");
    fs::write(&secret, "a long password\n").unwrap();
    let program = || Command::new(env!("CARGO_BIN_EXE_mesyx"));
    succeed(program().arg("init").arg(&home).args(["--domain", "example.org"]), b"");
    let config = home.join("mesyx.toml").to_str().unwrap().to_owned();
    let secret = secret.to_str().unwrap();
    let mesyx = |arguments: &[&str]| {
        let mut command = program();
        run(command.args(["--config", &config]).args(arguments).args(["--old-password-file", secret]), b"")
    };
    succeed(program().args(["--config", &config, "user", "add", "alice", "--password-file", secret]), b"");
    let gpg = Gnupg::new();
    for address in ["bob@example.net", "Robert <bob@example.net>"] {
        gpg.run(&["--quick-generate-key", address, "future-default", "default", "never"]);
    }
    let file = place.path().join("bob.asc");
    fs::write(&file, gpg.run(&["--export", "--armor", "=bob@example.net"])).unwrap();
    let file = file.to_str().unwrap();
    let finger = fingerprint(&gpg, "=bob@example.net");

    let said = |arguments: &[&str]| -> Value {
        let output = mesyx(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let refused = |arguments: &[&str], why: &str| {
        let output = mesyx(arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(why), "{arguments:?}: {text}");
    };
    assert_eq!(said(&["contact", "list", "alice", "--json"]), serde_json::json!([]));
    let shown = said(&["contact", "import", "alice", "bob@example.net", file, "--json"]);
    assert_eq!(shown["outcome"], "encrypted");
    assert_eq!(shown["keys"][0]["fingerprint"], finger.as_str());
    assert_eq!(shown["keys"][0]["source"], "user");
    refused(&["contact", "import", "alice", "carol@example.net", file], "--any-name");
    refused(&["contact", "pin", "alice", "bob@example.net", "0123"], "no key with the fingerprint");
    let shown = said(&["contact", "pin", "alice", "bob@example.net", &finger.to_lowercase(), "--json"]);
    assert_eq!(shown["pin"], finger.as_str());
    let other = place.path().join("other.asc");
    let second = fingerprint(&gpg, "Robert");
    fs::write(&other, gpg.run(&["--export", &second])).unwrap();
    refused(&["contact", "import", "alice", "bob@example.net", other.to_str().unwrap()], "pinned");
    assert!(mesyx(&["contact", "policy", "alice", "carol@example.net", "require"]).status.success());
    refused(&["contact", "policy", "alice", "carol@example.net", "perhaps"], "none of require, prefer, off, default");
    let listed = said(&["contact", "list", "alice", "--json"]);
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert!(listed[1]["outcome"].as_str().unwrap().starts_with("held: messages to carol@example.net"), "{listed}");
    let text = String::from_utf8(mesyx(&["contact", "list", "alice"]).stdout).unwrap();
    assert!(text.contains("bob@example.net  prefer  encrypted (1 key from user, pinned)"), "{text}");
    let policy = said(&["contact", "policy", "alice", "carol@example.net", "off", "--json"]);
    assert_eq!(policy, serde_json::json!({ "address": "carol@example.net", "policy": "off" }));
    let default = said(&["contact", "policy", "alice", "carol@example.net", "default", "--json"]);
    assert_eq!(default["policy"], Value::Null);
    assert_eq!(said(&["contact", "sign", "alice", "prefer", "--json"]), serde_json::json!({ "sign": "prefer" }));
    let forgotten = said(&["contact", "forget", "alice", "bob@example.net", "--json"]);
    assert_eq!(forgotten, serde_json::json!({ "address": "bob@example.net", "forgotten": true }));
    refused(&["contact", "show", "alice", "bob@example.net"], "there is no contact");
    // Nothing of it is clear on the disk, and without the password there is nothing to see.
    assert!(leaks(&home.join("data"), "carol@example.net").is_empty());
    let wrong = place.path().join("wrong");
    fs::write(&wrong, "not the password\n").unwrap();
    let mut command = program();
    command.args(["--config", &config, "contact", "list", "alice", "--old-password-file"]).arg(&wrong);
    assert!(!run(&mut command, b"").status.success());
    let _ = json(&["--config", &config, "user", "list", "--json"], "");
}

/// The files below a directory that hold a text.
fn leaks(dir: &Path, text: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(leaks(&path, text));
        } else if crate::imap::contains(&fs::read(&path).unwrap(), text.as_bytes()) {
            found.push(path);
        }
    }
    found
}
