//! What the store holds opens with OpenPGP programs that nobody here wrote: GnuPG 2.2 and Sequoia's `sq`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking; clippy does not exempt its helpers")]

use mesyx_core::id::KeysetId;
use mesyx_core::keys::{Keyset, Levels, Profile, Span, generate_keyset};
use mesyx_core::seal::{SealedMessage, Sealer, message};
use mesyx_sdk::{Content, MessageId, Timestamp, UserId, mime};
use sequoia_openpgp::Cert;
use sequoia_openpgp::serialize::SerializeInto;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

/// A message with bytes that a careless program changes on the way.
const MAIL: &[u8] =
    b"From: Alice <alice@example.org>\r\nTo: bob@example.net\r\nSubject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\n\
    Date: Sun, 22 Nov 2026 22:00:00 +0000\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\
    From here on\r\n--mesyx-\r\n trailing \r\n\xff\xfe\0 no line end";

fn sealed(certificates: Vec<Cert>) -> SealedMessage {
    let keyset = Keyset::new(KeysetId::random(), "test", Span::Always, Levels::ALL, certificates).unwrap();
    let content = Content::from(MAIL.to_vec());
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
    use std::os::unix::fs::DirBuilderExt;
    let home = dir.join("gnupg");
    let _ = std::fs::remove_dir_all(&home);
    std::fs::DirBuilder::new().mode(0o700).create(&home).unwrap();
    let key = dir.join("secret.pgp");
    std::fs::write(&key, secret.as_tsk().to_vec().unwrap()).unwrap();
    let gpg = || {
        let mut gpg = Command::new("gpg");
        gpg.arg("--homedir").arg(&home).args(["--batch", "--quiet", "--pinentry-mode", "loopback"]);
        gpg
    };
    run(gpg().arg("--import").arg(&key));
    let clear = run(gpg().arg("--decrypt").arg(file)).stdout;
    run(Command::new("gpgconf").arg("--homedir").arg(&home).args(["--kill", "all"]));
    clear
}

fn with_sq(dir: &Path, secret: &Cert, file: &Path) -> Vec<u8> {
    let key = dir.join("secret-sq.pgp");
    std::fs::write(&key, secret.as_tsk().to_vec().unwrap()).unwrap();
    run(Command::new("sq").args(["decrypt", "--recipient-key"]).arg(&key).arg(file)).stdout
}

/// What a mail reader finds in the decrypted entity.
fn check(clear: Vec<u8>) {
    let entity = Content::from(clear);
    let seen = mime::summarize(&entity, Timestamp(0), None).unwrap();
    assert_eq!(seen.fields.subject.as_deref(), Some(&b"=?utf-8?Q?Gr=C3=BC=C3=9Fe?="[..]));
    assert_eq!(seen.fields.date.as_deref(), Some(&b"Sun, 22 Nov 2026 22:00:00 +0000"[..]));
    let original = mime::summarize(&Content::from(MAIL.to_vec()), Timestamp(0), None).unwrap();
    assert_eq!((&seen.fields.from, &seen.fields.to), (&original.fields.from, &original.fields.to));
    let mesyx_sdk::summary::PartKind::Multipart(parts) = &seen.structure.kind else { panic!("{:?}", seen.structure) };
    assert_eq!(parts.len(), 1);
    assert_eq!(parts[0].content_type, (b"message".to_vec(), b"rfc822".to_vec()));
    assert_eq!(&entity[parts[0].body.start as usize..parts[0].body.end as usize], MAIL, "the exact bytes");
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
