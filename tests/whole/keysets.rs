//! Identities and keysets by the program's own commands, with GnuPG and `sq` on the other side.

use crate::instance::Instance;
use crate::support::{self, Lines, until};
use crate::tools::{run, succeed};
use serde_json::Value;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// An instance with carol, whose recovery key stands in a file.
struct Carol {
    instance: Instance,
    password: String,
}

impl Carol {
    fn new() -> Self {
        let instance = Instance::new();
        let added = instance.mesyx(&["user", "add", "carol", "--no-password", "--app-password", "test", "--json"]);
        let added: Value = serde_json::from_slice(&added).unwrap();
        std::fs::write(instance.home().join("recovery"), added["recovery_key"].as_str().unwrap()).unwrap();
        let password = added["app_password"].as_str().unwrap().to_owned();
        Self { instance, password }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.instance.home().join(name)
    }

    /// Runs a command; `@` before a name stands for a file in the instance's directory.
    fn mesyx(&self, code: i32, line: &str) -> (String, String) {
        let home = self.instance.home();
        let config = home.join("mesyx.toml");
        let mut command = Command::new(env!("CARGO_BIN_EXE_mesyx"));
        command.arg("--config").arg(config);
        for word in line.split_whitespace() {
            match word.strip_prefix('@') {
                Some(file) => command.arg(home.join(file)),
                None => command.arg(word),
            };
        }
        let output = run(&mut command, b"");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "mesyx {line}\n--- stdout\n{out}\n--- stderr\n{err}");
        (out, err)
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.mesyx(0, &format!("{line} --json")).0).unwrap()
    }

    fn keyset(&self, name: &str) -> Value {
        let list = self.json("keyset list carol");
        let found = list.as_array().unwrap().iter().find(|keyset| keyset["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {list}")).clone()
    }

    fn deliver(&self, subject: &str) {
        let message =
            format!("From: joe@example.net\r\nTo: carol@example.org\r\nSubject: {subject}\r\n\r\n{subject} inside\r\n");
        support::deliver(([127, 0, 0, 1], self.instance.smtp).into(), "carol@example.org", &message);
    }

    fn login(&self) -> Lines {
        let mut imap = Lines::connect(([127, 0, 0, 1], self.instance.imap).into());
        imap.line();
        let answer = imap.imap("a", &format!("LOGIN carol {}", self.password));
        assert!(answer.last().unwrap().starts_with("a OK"), "{answer:?}");
        imap
    }

    /// The last message of INBOX, as it is served.
    fn last_message(&self) -> String {
        let mut imap = self.login();
        imap.imap("b", "SELECT INBOX");
        imap.imap("c", "FETCH * BODY.PEEK[]").join("\n")
    }
}

/// A home directory of GnuPG's; its agent ends with it.
struct Gpg(tempfile::TempDir);

impl Gpg {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir.path()).unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        Self(dir)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut gpg = Command::new("gpg");
        gpg.arg("--homedir")
            .arg(self.0.path())
            .args(["--batch", "--quiet", "--pinentry-mode", "loopback"])
            .args(arguments);
        gpg
    }

    fn run(&self, arguments: &[&str], input: &[u8]) -> String {
        String::from_utf8_lossy(&succeed(&mut self.command(arguments), input)).into_owned()
    }

    /// Makes a key that signs and encrypts; its fingerprint.
    fn make(&self, primary: &str, subkey: &str, expires: &str) -> String {
        let text = format!(
            "%no-protection\n{primary}\n{subkey}\nName-Email: mine@example.net\nExpire-Date: {expires}\n%commit\n"
        );
        self.run(&["--gen-key"], text.as_bytes());
        let list = self.run(&["--list-keys", "--with-colons"], b"");
        list.lines().find_map(|line| line.strip_prefix("fpr:::::::::")).unwrap().trim_end_matches(':').to_owned()
    }

    fn export(&self, to: &Path, what: &str) {
        std::fs::write(to, self.run(&["--armor", what], b"")).unwrap();
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").arg("--homedir").arg(self.0.path()).args(["--kill", "all"]).status();
    }
}

const RSA: (&str, &str) = (
    "Key-Type: RSA\nKey-Length: 2048\nKey-Usage: sign",
    "Subkey-Type: RSA\nSubkey-Length: 2048\nSubkey-Usage: encrypt",
);
const CV25519: (&str, &str) = (
    "Key-Type: EDDSA\nKey-Curve: ed25519\nKey-Usage: sign",
    "Subkey-Type: ECDH\nSubkey-Curve: cv25519\nSubkey-Usage: encrypt",
);

#[test]
fn a_rotated_identity_is_believed_by_gpg_and_sq_through_the_old_one() {
    let carol = Carol::new();
    let recovery = "--recovery-key-file @recovery";
    carol.mesyx(0, "identity export carol --to @old.asc");
    let old = carol.json("identity show carol")["fingerprint"].as_str().unwrap().to_owned();
    let shown = carol.json(&format!("identity rotate carol --yes {recovery}"));
    let new = shown["fingerprint"].as_str().unwrap().to_owned();
    assert_ne!(old, new);
    assert_eq!(shown["earlier"][0]["fingerprint"], old.as_str());
    carol.mesyx(0, "identity export carol --to @new.asc");
    carol.mesyx(1, "identity export carol --to @new.asc");
    carol.mesyx(0, &format!("identity export carol --fingerprint {old} --to @kept.asc"));

    // The certification verifies with the old certificate as it was before.
    let gpg = Gpg::new();
    for file in ["old.asc", "new.asc"] {
        gpg.run(&["--import", carol.path(file).to_str().unwrap()], b"");
    }
    let signatures = gpg.run(&["--with-colons", "--check-sigs", &new], b"");
    let by_old = format!(":{}:", &old[24..]);
    let good = signatures.lines().any(|line| line.starts_with("sig:!:") && line.contains(&by_old));
    assert!(good, "{signatures}");
    gpg.run(&["--import", carol.path("kept.asc").to_str().unwrap()], b"");
    let signatures = gpg.run(&["--with-colons", "--check-sigs", &old], b"");
    let by_new = format!(":{}:", &new[24..]);
    assert!(signatures.lines().any(|line| line.starts_with("sig:!:") && line.contains(&by_new)), "{signatures}");
    let inspected = succeed(Command::new("sq").args(["inspect", "--certifications"]).arg(carol.path("new.asc")), b"");
    let inspected = String::from_utf8_lossy(&inspected).into_owned();
    assert!(inspected.contains(&old[24..]), "{inspected}");

    // What somebody encrypts to the old one opens with the secret key that is still there.
    let clear = b"to the old identity";
    let sealed = succeed(&mut gpg.command(&["--trust-model", "always", "--encrypt", "--recipient", &old]), clear);
    carol.mesyx(2, &format!("identity export carol --secret --fingerprint {old} {recovery}"));
    carol.mesyx(0, &format!("identity export carol --secret --fingerprint {old} --to @secret.asc {recovery}"));
    let mode = std::fs::metadata(carol.path("secret.asc")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let other = Gpg::new();
    other.run(&["--import", carol.path("secret.asc").to_str().unwrap()], b"");
    assert_eq!(succeed(&mut other.command(&["--decrypt"]), &sealed), clear);
    let sealed_file = carol.path("sealed.pgp");
    std::fs::write(&sealed_file, &sealed).unwrap();
    let mut sq = Command::new("sq");
    sq.args(["decrypt", "--recipient-key"]).arg(carol.path("secret.asc")).arg(&sealed_file);
    assert_eq!(succeed(&mut sq, b""), clear);

    // Nobody gets a secret key without proof.
    std::fs::write(carol.path("wrong"), "0000-0000-0000-0000-0000-0000-0000-0000").unwrap();
    let (_, told) = carol.mesyx(1, "identity export carol --secret --to @stolen.asc --recovery-key-file @wrong");
    assert!(told.contains("recovery key") && !carol.path("stolen.asc").exists(), "{told}");
}

#[test]
fn messages_are_sealed_to_certificates_that_gpg_made_and_gpg_opens_them() {
    let mut carol = Carol::new();
    let (rsa, cv) = (Gpg::new(), Gpg::new());
    rsa.make(RSA.0, RSA.1, "0");
    let cv_fingerprint = cv.make(CV25519.0, CV25519.1, "10d");
    rsa.export(&carol.path("rsa.asc"), "--export-secret-keys");
    cv.export(&carol.path("cv.asc"), "--export");
    carol.instance.start();
    let (_, told) =
        carol.mesyx(0, "keyset add carol --span yearly --name own --certificate @rsa.asc --certificate @cv.asc");
    assert!(told.contains("rsa.asc holds a secret key"), "{told}");
    let own = carol.keyset("own");
    assert_eq!((own["secret_here"].as_bool(), own["certificates"].as_array().unwrap().len()), (Some(false), 2));
    carol.deliver("canary-one");
    assert_eq!(carol.keyset("own")["messages"], 1);
    let served = carol.last_message();
    assert!(!served.contains("canary-one") && served.contains("keyset own"), "{served}");
    let from = served.find("-----BEGIN PGP MESSAGE-----").unwrap();
    let to = served.find("-----END PGP MESSAGE-----").unwrap();
    let armored = format!("{}-----END PGP MESSAGE-----\n", &served[from..to]);
    for gpg in [&rsa, &cv] {
        let clear = gpg.run(&["--decrypt"], armored.as_bytes());
        assert!(clear.contains("Subject: canary-one") && clear.contains("canary-one inside"), "{clear}");
    }

    // The certificate that expires in ten days is told everywhere.
    let status = || carol.json("status");
    until("a warning in status", || {
        status()["core"]["problems"].as_array().unwrap().iter().any(|problem| {
            let problem = problem.as_str().unwrap();
            problem.starts_with("carol: ") && problem.contains(&cv_fingerprint) && problem.contains("expires")
        })
    });
    let admin = status()["admin"].as_str().unwrap().parse().unwrap();
    let (_, metrics) = support::http(admin, "/metrics");
    assert!(metrics.contains("mesyx_keyset_warnings{kind=\"expires\"} 1"), "{metrics}");

    // Its expiry put off: told no more.
    cv.run(&["--quick-set-expire", &cv_fingerprint, "3y"], b"");
    cv.run(&["--quick-set-expire", &cv_fingerprint, "3y", "*"], b"");
    cv.export(&carol.path("longer.asc"), "--export");
    carol.mesyx(0, "keyset certificate carol own @longer.asc");
    until("no warning any more", || status()["core"]["problems"].as_array().unwrap().is_empty());

    // Revoked: the other certificate alone is sealed to; without another the default keyset.
    let revocation = cv.0.path().join("openpgp-revocs.d").join(format!("{cv_fingerprint}.rev"));
    let revocation = std::fs::read_to_string(revocation).unwrap().replace(":-----BEGIN", "-----BEGIN");
    cv.run(&["--import"], revocation.as_bytes());
    cv.export(&carol.path("revoked.asc"), "--export");
    carol.mesyx(0, "keyset certificate carol own @revoked.asc");
    let listed = carol.mesyx(0, "keyset list carol").0;
    assert!(listed.contains("NOT USABLE") && listed.contains("revoked"), "{listed}");
    carol.deliver("canary-two");
    assert_eq!(carol.keyset("own")["messages"], 2);
    let rsa_fingerprint = own["certificates"].as_array().unwrap().iter();
    let rsa_fingerprint =
        rsa_fingerprint.map(|one| one["fingerprint"].as_str().unwrap()).find(|one| *one != cv_fingerprint).unwrap();
    carol.mesyx(0, &format!("keyset certificate carol own @revoked.asc --replace {rsa_fingerprint}"));
    carol.deliver("canary-three");
    assert_eq!((&carol.keyset("own")["messages"], &carol.keyset("default")["messages"]), (&2.into(), &1.into()));
    let (_, told) = carol.mesyx(1, "keyset add carol --span 2040 --certificate @revoked.asc");
    assert!(told.contains("revoked"), "{told}");
    let audit = carol.mesyx(0, "keyset audit carol").0;
    assert!(audit.contains("2 messages are opened by no key on this instance"), "{audit}");
    carol.instance.kill();
}

#[test]
fn keysets_are_planned_rotated_changed_and_removed() {
    let mut carol = Carol::new();
    carol.instance.start();
    assert!(carol.mesyx(0, "keyset rotation carol").0.contains("not renewed"));

    // While nobody is logged in who could make them, the keysets that are missing are told everywhere.
    let status = || carol.json("status");
    let admin = status()["admin"].as_str().unwrap().parse().unwrap();
    let missing = || {
        let (_, metrics) = support::http(admin, "/metrics");
        let line = metrics.lines().find_map(|line| line.strip_prefix("mesyx_keyset_warnings{kind=\"missing\"} "));
        line.unwrap_or_else(|| panic!("{metrics}")).parse::<u32>().unwrap()
    };
    assert_eq!(missing(), 0);
    carol.mesyx(0, "keyset rotation carol --every week");
    until("keysets that are missing", || missing() > 0);
    let problems = status()["core"]["problems"].to_string();
    assert!(problems.contains("carol: there is no keyset for"), "{problems}");
    carol.mesyx(0, "keyset rotation carol --every none");
    until("none is missing", || missing() == 0);

    // Who is unlocked, since when, and by which client.
    assert_eq!(status()["core"]["unlocked"], serde_json::json!([]));
    let session = carol.login();
    let unlocked = &status()["core"]["unlocked"][0];
    let live = &unlocked["sessions"][0];
    assert_eq!((&unlocked["user"], &live["ip"]), (&"carol".into(), &"127.0.0.1".into()), "{unlocked}");
    assert_eq!((&live["protocol"], &live["credential"]), (&"imap".into(), &"app password test".into()), "{unlocked}");
    let since = |value: &Value| {
        let rfc3339 = &time::format_description::well_known::Rfc3339;
        let since = time::OffsetDateTime::parse(value["since"].as_str().unwrap(), rfc3339).unwrap();
        assert!((time::OffsetDateTime::now_utc() - since).whole_minutes().abs() < 10, "{value}");
    };
    since(unlocked);
    since(live);
    let told = carol.mesyx(0, "status").0;
    assert!(told.contains("unlocked: carol since 20"), "{told}");
    assert!(told.contains("  imap from 127.0.0.1 by app password test since 20"), "{told}");
    drop(session);
    until("the session is over", || status()["core"]["unlocked"][0]["sessions"].as_array().is_none_or(Vec::is_empty));

    let _session = carol.login();
    let rules = carol.json("keyset rotation carol --every week --profile v6");
    assert_eq!(rules[0]["every"], "week");
    let list = carol.json("keyset list carol");
    assert_eq!(list.as_array().unwrap().len(), 6, "{list}");
    assert!(list[1]["certificates"][0]["kind"].as_str().unwrap().starts_with("v6"), "{list}");
    let plan = carol.json("keyset plan carol --weeks 8");
    assert_eq!(plan.as_array().unwrap().len(), 8);
    for week in 0..5 {
        assert_eq!(plan[week]["normal"][0], plan[week]["week"], "{plan}");
        assert_eq!(plan[week]["problems"].as_array().unwrap().len(), 0);
    }
    assert!(plan[5]["problems"][0].as_str().unwrap().contains("no keyset for"), "{plan}");
    carol.deliver("weekly");
    let this = plan[0]["week"].as_str().unwrap();
    assert_eq!(carol.keyset(this)["messages"], 1);
    assert!(carol.last_message().contains("weekly inside"), "it opens in the session");

    // While she is logged in, no proof is needed; ties are refused; the default can change.
    carol.mesyx(0, "keyset add carol --span always --name vault --importance high --profile pq");
    let (_, told) = carol.mesyx(1, "keyset add carol --span always --name second");
    assert!(told.contains("equally specific") && told.contains("default"), "{told}");
    carol.mesyx(0, "keyset add carol --span 2040 --name next");
    carol.mesyx(0, "keyset default carol next");
    assert_eq!(carol.keyset("next")["default"], true);
    assert!(carol.keyset("default")["retired"].is_string());
    carol.mesyx(0, "keyset set carol vault --name safe --importance high,normal");
    let importance = carol.keyset("safe")["importance"].clone();
    assert_eq!(importance, serde_json::json!(["normal", "high"]));
    carol.deliver("safe");
    assert_eq!(carol.keyset("safe")["messages"], 1);

    // A key that opens something stays.
    let (_, told) = carol.mesyx(1, "keyset remove carol safe --discard-secret");
    assert!(told.contains("1 messages are sealed to safe"), "{told}");
    let told = carol.mesyx(0, "keyset remove carol safe").0;
    assert!(told.contains("1 messages depend") && told.contains("stays here"), "{told}");
    assert!(carol.last_message().contains("safe inside"));
    carol.mesyx(1, "keyset remove carol next");
    let last = plan[4]["week"].as_str().unwrap();
    assert!(carol.mesyx(0, &format!("keyset remove carol {last} --discard-secret")).0.contains("is gone"));
    let audit = carol.json("keyset audit carol");
    let line = |name: &str| {
        let found = audit.as_array().unwrap().iter().find(|line| line["name"] == name);
        found.unwrap_or_else(|| panic!("{name} in {audit}")).clone()
    };
    assert_eq!((&line(this)["messages"], &line(this)["secret_here"]), (&1.into(), &true.into()));
    assert_eq!((&line("safe")["messages"], &line("safe")["kind"]), (&1.into(), &"retired keyset".into()));
    assert_eq!(line("safe")["first_day"], line("safe")["last_day"]);
    for wrong in [
        "keyset add carol --span 2026-W99",
        "keyset add carol --span sometimes",
        "keyset plan carol --weeks 0",
        "keyset rotation carol --every day",
    ] {
        carol.mesyx(2, wrong);
    }
    carol.mesyx(1, "keyset list nobody");
    carol.instance.kill();
}
