//! What the store holds opens with OpenPGP programs that nobody here wrote: GnuPG 2.2 and Sequoia's `sq`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking; clippy does not exempt its helpers")]

use mesyx_core::id::KeysetId;
use mesyx_core::keys::import::{ImportError, read_certificates, read_secret_key};
use mesyx_core::keys::{Keyset, Levels, Profile, Span, generate_keyset};
use mesyx_core::seal::{SealedMessage, Sealer, message};
use mesyx_sdk::{Content, MessageId, Secret, Timestamp, UserId, mime};
use sequoia_openpgp::Cert;
use sequoia_openpgp::serialize::SerializeInto;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

/// A message with bytes that a careless program changes on the way.
const MAIL: &[u8] =
    b"From: Alice <alice@example.org>\r\nTo: bob@example.net\r\nSubject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\n\
    Date: Sun, 22 Nov 2026 22:00:00 +0000\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\
    From here on\r\n--mesyx-\r\n trailing \r\n\xff\xfe\0 no line end";

fn sealed(certificates: Vec<Cert>) -> SealedMessage {
    sealed_mail(certificates, MAIL)
}

fn sealed_mail(certificates: Vec<Cert>, mail: &[u8]) -> SealedMessage {
    let keyset = Keyset::new(KeysetId::random(), "test", Span::Always, Levels::ALL, certificates).unwrap();
    let content = Content::from(mail.to_vec());
    let summary = mime::summarize(&content, Timestamp(1_795_400_000_000), None).unwrap();
    let sealer = Sealer::default();
    sealer.seal(&keyset, UserId::random(), MessageId::random(), &summary, &content, Instant::now()).unwrap()
}

fn secret() -> Cert {
    generate_keyset("x", Span::Always, Levels::ALL, Profile::V4).unwrap().1
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; apt-get install gnupg sq"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Decrypts with GnuPG, in a home directory of its own that has only this secret key.
fn with_gpg(dir: &Path, secret: &Cert, file: &Path) -> Vec<u8> {
    let gpg = Gpg::new(dir, &secret.fingerprint().to_hex());
    let key = dir.join("secret.pgp");
    std::fs::write(&key, secret.as_tsk().to_vec().unwrap()).unwrap();
    run(gpg.command().arg("--import").arg(&key));
    run(gpg.command().arg("--decrypt").arg(file)).stdout
}

/// GnuPG with a home directory of its own.
struct Gpg(PathBuf);

impl Gpg {
    fn new(dir: &Path, name: &str) -> Self {
        use std::os::unix::fs::DirBuilderExt;
        let home = dir.join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&home).unwrap();
        // What GnuPG hashes to lock a key, otherwise measured by a tenth of a second.
        std::fs::write(home.join("gpg-agent.conf"), "s2k-count 65536\n").unwrap();
        Self(home)
    }

    fn command(&self) -> Command {
        let mut gpg = Command::new("gpg");
        gpg.arg("--homedir").arg(&self.0).args(["--batch", "--quiet", "--pinentry-mode", "loopback"]);
        gpg
    }

    /// Makes a key, and gives what `export` gives of it.
    fn generate(&self, passphrase: &str, algorithm: &str, export: &str) -> Vec<u8> {
        let generate = ["--passphrase", passphrase, "--quick-generate-key", "Alice <alice@example.org>", algorithm];
        run(self.command().args(generate).args(["default", "never"]));
        run(self.command().args(["--passphrase", passphrase, export])).stdout
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").arg("--homedir").arg(&self.0).args(["--kill", "all"]).output();
    }
}

fn with_sq(dir: &Path, secret: &Cert, file: &Path) -> Vec<u8> {
    let key = dir.join("secret-sq.pgp");
    std::fs::write(&key, secret.as_tsk().to_vec().unwrap()).unwrap();
    run(Command::new("sq").args(["decrypt", "--recipient-key"]).arg(&key).arg(file)).stdout
}

/// What a mail reader finds in the decrypted entity.
fn check(clear: Vec<u8>) {
    let entity = Content::from(clear);
    assert_eq!(inner(&entity), MAIL, "the exact bytes");
    let seen = mime::summarize(&entity, Timestamp(0), None).unwrap();
    assert_eq!(seen.fields.subject.as_deref(), Some(&b"=?utf-8?Q?Gr=C3=BC=C3=9Fe?="[..]));
    assert_eq!(seen.fields.date.as_deref(), Some(&b"Sun, 22 Nov 2026 22:00:00 +0000"[..]));
    let original = mime::summarize(&Content::from(MAIL.to_vec()), Timestamp(0), None).unwrap();
    assert_eq!((&seen.fields.from, &seen.fields.to), (&original.fields.from, &original.fields.to));
}

/// The message inside of a decrypted body.
fn inner(entity: &Content) -> &[u8] {
    let seen = mime::summarize(entity, Timestamp(0), None).unwrap();
    let mesyx_sdk::summary::PartKind::Multipart(parts) = &seen.structure.kind else { panic!("{:?}", seen.structure) };
    assert_eq!(parts.len(), 1);
    assert_eq!(parts[0].content_type, (b"message".to_vec(), b"rfc822".to_vec()));
    &entity[parts[0].body.start as usize..parts[0].body.end as usize]
}

#[test]
fn gpg_and_sq_open_a_stored_body_with_each_of_three_certificates_alone() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = [secret(), secret(), secret()];
    let sealed = sealed(secrets.to_vec());
    let file = dir.path().join("message.pgp");
    std::fs::write(&file, message(&sealed.session_key, &sealed.body)).unwrap();
    for secret in &secrets {
        check(with_gpg(dir.path(), secret, &file));
        check(with_sq(dir.path(), secret, &file));
    }
}

#[test]
fn gpg_opens_a_stored_summary_too() {
    let dir = tempfile::tempdir().unwrap();
    let secret = secret();
    let sealed = sealed(vec![secret.clone()]);
    let file = dir.path().join("message.pgp");
    std::fs::write(&file, message(&sealed.session_key, &sealed.summary)).unwrap();
    assert!(with_gpg(dir.path(), &secret, &file).starts_with(b"Mesyx-Part: summary; v=1; message="));
}

#[test]
fn a_signature_inside_verifies_after_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let alice = Gpg::new(dir.path(), "alice");
    alice.generate("", "future-default", "--export");
    let certificate = dir.path().join("alice.asc");
    std::fs::write(&certificate, run(alice.command().args(["--armor", "--export"])).stdout).unwrap();
    // What RFC 3156 signs: with CRLF, spaces at line ends, and bytes beyond ASCII.
    let entity = b"Content-Type: text/plain; charset=utf-8\r\n\r\nGr\xc3\xbc\xc3\x9fe, \r\n-- \r\nAlice\t \r\n";
    let signed = dir.path().join("entity");
    std::fs::write(&signed, entity).unwrap();
    let signature = run(alice.command().args(["--armor", "--detach-sign", "--output", "-"]).arg(&signed)).stdout;
    let mail = [
        b"From: Alice <alice@example.org>\r\nTo: bob@example.net\r\nSubject: signed\r\nMIME-Version: 1.0\r\n\
          Content-Type: multipart/signed; micalg=pgp-sha256; protocol=\"application/pgp-signature\"; boundary=x\r\n\r\n--x\r\n",
        &entity[..],
        b"\r\n--x\r\nContent-Type: application/pgp-signature\r\n\r\n",
        &signature,
        b"\r\n--x--\r\n",
    ]
    .concat();
    let secret = secret();
    let sealed = sealed_mail(vec![secret.clone()], &mail);
    let file = dir.path().join("message.pgp");
    std::fs::write(&file, message(&sealed.session_key, &sealed.body)).unwrap();
    for clear in [with_gpg(dir.path(), &secret, &file), with_sq(dir.path(), &secret, &file)] {
        let clear = Content::from(clear);
        let opened = Content::from(inner(&clear).to_vec());
        let seen = mime::summarize(&opened, Timestamp(0), None).unwrap();
        let mesyx_sdk::summary::PartKind::Multipart(parts) = &seen.structure.kind else { panic!("{seen:?}") };
        let bytes = |range: &std::ops::Range<u64>| &opened[range.start as usize..range.end as usize];
        let (text, found) = (dir.path().join("text"), dir.path().join("found.asc"));
        std::fs::write(&text, &opened[parts[0].header.start as usize..parts[0].body.end as usize]).unwrap();
        std::fs::write(&found, bytes(&parts[1].body)).unwrap();
        run(alice.command().arg("--verify").arg(&found).arg(&text));
        let mut sq = Command::new("sq");
        sq.args(["verify", "--signer-cert"]).arg(&certificate).arg("--detached").arg(&found).arg(&text);
        run(&mut sq);
        std::fs::write(&text, [&entity[..], b" "].concat()).unwrap();
        let verified = alice.command().arg("--verify").arg(&found).arg(&text).output().unwrap();
        assert!(!verified.status.success(), "a changed text does not verify");
    }
}

/// People bring the certificates that they have, and open with what they have.
#[test]
fn gpg_opens_what_was_sealed_to_certificates_that_it_made() {
    // GnuPG 2.2 makes RSA keys of 3,072 bits by default.
    for algorithm in ["default", "future-default"] {
        let dir = tempfile::tempdir().unwrap();
        let gpg = Gpg::new(dir.path(), "gnupg");
        let certificates = read_certificates(&gpg.generate("", algorithm, "--export")).unwrap();
        let sealed = sealed(certificates);
        let file = dir.path().join("message.pgp");
        std::fs::write(&file, message(&sealed.session_key, &sealed.body)).unwrap();
        check(run(gpg.command().arg("--decrypt").arg(&file)).stdout);
    }
}

#[test]
fn secret_keys_that_gpg_exports_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let gpg = Gpg::new(dir.path(), "gnupg");
    let secret = |text: &str| Secret::from(text.to_owned());
    let locked = gpg.generate("pass phrase", "future-default", "--export-secret-keys");
    let key = read_secret_key(&locked, Some(&secret("pass phrase"))).unwrap();
    assert_eq!(key.keys().unencrypted_secret().count(), 2);
    assert_eq!(read_secret_key(&locked, Some(&secret("pass"))), Err(ImportError::WrongPassphrase));
    assert_eq!(read_secret_key(&locked, None), Err(ImportError::PassphraseNeeded));
    assert_eq!(
        read_secret_key(&locked[..locked.len() - 40], Some(&secret("pass phrase"))),
        Err(ImportError::Truncated)
    );
    // The primary key stays at home: a stub of it stands in the file.
    let subkeys = run(gpg.command().args(["--armor", "--passphrase", "pass phrase", "--export-secret-subkeys"])).stdout;
    let key = read_secret_key(&subkeys, Some(&secret("pass phrase"))).unwrap();
    assert!(!key.primary_key().key().has_secret());
    assert_eq!(key.keys().unencrypted_secret().count(), 1);
    let rsa = Gpg::new(dir.path(), "rsa").generate("", "default", "--export-secret-keys");
    let refused = read_secret_key(&rsa, None);
    match sequoia_openpgp::crypto::backend().starts_with("RustCrypto") {
        true => assert_eq!(refused, Err(ImportError::VariableTime("RSA"))),
        false => assert!(refused.is_ok()),
    }
}

/// With rPGP, since Debian has no program that knows version 6 and the post-quantum kinds.
#[test]
#[ignore = "needs the program of tests/rpgp, which tests/run builds and $OPEN_WITH_RPGP names"]
fn rpgp_opens_every_kind_with_each_certificate_alone() {
    let program = std::env::var_os("OPEN_WITH_RPGP").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (key, file) = (dir.path().join("key"), dir.path().join("message"));
    for profile in [Profile::V4, Profile::V6, Profile::PostQuantum] {
        let make = |name| generate_keyset(name, Span::Always, Levels::ALL, profile).unwrap().1;
        let secrets = [make("x"), make("y")];
        let sealed = sealed(secrets.to_vec());
        for part in [&sealed.body, &sealed.summary] {
            std::fs::write(&file, message(&sealed.session_key, part)).unwrap();
            for secret in &secrets {
                std::fs::write(&key, secret.as_tsk().to_vec().unwrap()).unwrap();
                let clear = run(Command::new(&program).arg(&key).arg(&file)).stdout;
                match std::ptr::eq(part, &sealed.body) {
                    true => check(clear),
                    false => assert!(clear.starts_with(b"Mesyx-Part: summary; v=1; message=")),
                }
            }
        }
        std::fs::write(&key, make("z").as_tsk().to_vec().unwrap()).unwrap();
        let refused = Command::new(&program).arg(&key).arg(&file).output().unwrap();
        assert!(!refused.status.success(), "it is sealed to other keys");
    }
}

/// For programs that Debian does not have: see core/tests/openpgpjs.mjs.
#[test]
#[ignore = "writes keys and sealed messages of each kind to the directory that $MESYX_SAMPLES names"]
fn samples_for_other_programs() {
    let dir = PathBuf::from(std::env::var_os("MESYX_SAMPLES").unwrap());
    for (name, profile) in [("v4", Profile::V4), ("v6", Profile::V6), ("post-quantum", Profile::PostQuantum)] {
        let secret = generate_keyset("x", Span::Always, Levels::ALL, profile).unwrap().1;
        let other = generate_keyset("y", Span::Always, Levels::ALL, profile).unwrap().1;
        let sealed = sealed(vec![other, secret.clone()]);
        std::fs::write(dir.join(format!("{name}.key")), secret.as_tsk().to_vec().unwrap()).unwrap();
        std::fs::write(dir.join(format!("{name}.message")), message(&sealed.session_key, &sealed.body)).unwrap();
    }
    std::fs::write(dir.join("mail"), MAIL).unwrap();
}
