//! GnuPG opens and verifies what leaves, with keys that it made itself.

use super::*;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

pub(super) struct Gpg(TempDir);

impl Gpg {
    pub(super) fn new() -> Self {
        Self(tempfile::Builder::new().prefix("g").tempdir_in("/tmp").expect("a directory"))
    }

    /// Runs it: standard output, and what it says of its status.
    pub(super) fn run(&self, arguments: &[&str], input: &[u8]) -> (Vec<u8>, String) {
        let mut child = Command::new("gpg")
            .args([
                "--homedir",
                self.0.path().to_str().expect("a path"),
                "--batch",
                "--no-tty",
                "--yes",
                "--trust-model",
                "always",
            ])
            .args(["--status-fd", "2", "--pinentry-mode", "loopback", "--passphrase", ""])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("gpg is installed (Debian: gnupg)");
        child.stdin.take().expect("its input").write_all(input).expect("written");
        let done = child.wait_with_output().expect("it ends");
        (done.stdout, String::from_utf8_lossy(&done.stderr).into_owned())
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let home: &Path = self.0.path();
        let _ =
            Command::new("gpgconf").args(["--homedir", home.to_str().unwrap_or_default(), "--kill", "all"]).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gnupg_opens_and_verifies_what_leaves() {
    let home = Home::new().await;
    let gpg = Gpg::new();
    for (algorithm, usage) in [("future-default", "default"), ("rsa2048", "default")] {
        let address = format!("bob-{algorithm}@example.net");
        let (_, said) = gpg.run(&["--quick-generate-key", &address, algorithm, usage, "never"], b"");
        assert!(said.contains("KEY_CREATED"), "{said}");
        if algorithm == "rsa2048" {
            let (list, _) = gpg.run(&["--with-colons", "--list-keys", &address], b"");
            let list = String::from_utf8_lossy(&list).into_owned();
            let finger = list.lines().find_map(|line| line.strip_prefix("fpr:::::::::")).expect("a fingerprint");
            gpg.run(&["--quick-add-key", finger.trim_end_matches(':'), "rsa2048", "encr"], b"");
        }
        let (key, _) = gpg.run(&["--export", "--armor", &address], b"");
        home.core.import_contact("alice", proof(), &address, &key, false).await.expect("imported");
        gpg.run(&["--import"], &public(&home.identity()));
        let message = encrypted(home.send(&address, MESSAGE).await);
        let shown = String::from_utf8_lossy(&message).into_owned();
        for hidden in ["secret plan", "between us", "meet at nine", "eve@example.com"] {
            assert!(!shown.contains(hidden), "{hidden} is outside:\n{shown}");
        }
        assert!(shown.contains("Subject: [...]\r\n") && shown.contains("\r\nMessage-ID: <1@example.org>\r\n"));
        let armored =
            &shown[shown.find("-----BEGIN").expect("armor")..shown.rfind("\r\n--mesyx-").expect("a boundary")];
        let (clear, said) = gpg.run(&["--decrypt"], armored.as_bytes());
        for status in ["DECRYPTION_OKAY", "GOODSIG", "VALIDSIG"] {
            assert!(said.contains(status), "{status} is not in {said}");
        }
        assert!(said.contains(&home.identity().fingerprint().to_hex()), "{said}");
        let clear = String::from_utf8(clear).expect("text");
        assert!(clear.contains("Subject: the secret plan\r\n") && clear.contains("hp=\"cipher\""), "{clear}");
        assert!(clear.ends_with("\r\n\r\nmeet at nine \u{e9}\r\n"), "{clear}");
        // One octet changed: nothing is opened.
        let broken = armored.replacen("\r\n\r\n", "\r\n\r\nA", 1);
        let (_, said) = gpg.run(&["--decrypt"], broken.as_bytes());
        assert!(!said.contains("DECRYPTION_OKAY"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gnupg_takes_the_key_from_our_autocrypt_header() {
    let home = Home::new().await;
    let Wrapped::Plain(sent) = home.send("bob@example.net", MESSAGE).await else { panic!("bob has no key") };
    let header = &sent[..compose::header_length(&sent)];
    let found = autocrypt::find(header).expect("an Autocrypt header");
    let gpg = Gpg::new();
    let (_, said) = gpg.run(&["--import"], &found.key);
    assert!(said.contains(&home.identity().fingerprint().to_hex()), "{said}");
    let (answer, said) = gpg.run(&["--encrypt", "--armor", "-r", "alice@example.org"], b"an answer");
    assert!(said.contains("END_ENCRYPTION"), "{said}");
    let open_user = home.core.shared.access.open_user(home.user()).expect("alice is logged in");
    let clear = open(&answer, &open_user.keys.identity().expect("an identity"), None);
    assert_eq!(clear, b"an answer");
}
