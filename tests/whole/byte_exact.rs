//! What goes in comes out, to the byte.

use crate::imap;
use crate::smtp::Smtp;
use crate::support::Demo;
use crate::tools::{python, succeed};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The sample messages that the mail-parser crate ships, with CRLF line ends.
fn samples() -> Vec<(PathBuf, Vec<u8>)> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--format-version", "1", "--offline", "--filter-platform"]);
    command.arg(format!("{}-unknown-linux-gnu", std::env::consts::ARCH)).arg("--manifest-path");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    let metadata: serde_json::Value = serde_json::from_slice(&succeed(&mut command, b"")).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let parser = packages.iter().find(|package| package["name"] == "mail-parser").expect("mail-parser is a dependency");
    let manifest = Path::new(parser["manifest_path"].as_str().unwrap());
    let mut found = Vec::new();
    let mut folders = vec![manifest.parent().unwrap().join("resources/eml")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "eml") {
                let bytes = with_crlf(&fs::read(&path).unwrap());
                found.push((path, bytes));
            }
        }
    }
    found.sort();
    assert!(found.len() >= 100, "{} samples", found.len());
    found
}

/// Every line end, whether LF, CR or CRLF, as CRLF; a last line without an end gets one.
fn with_crlf(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 40);
    let mut bytes = bytes.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\r' => {
                bytes.next_if_eq(&b'\n');
                out.extend_from_slice(b"\r\n");
            }
            b'\n' => out.extend_from_slice(b"\r\n"),
            byte => out.push(byte),
        }
    }
    if !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out
}

#[test]
fn every_sample_message_comes_out_as_it_went_in_and_is_described() {
    let demo = Demo::start();
    let alice = demo.user("alice");
    let mut smtp = Smtp::connect(demo.port("smtp"));
    let mut sent = Vec::new();
    let mut refused = 0;
    for (path, message) in samples() {
        let reply = smtp.message("someone@example.net", &alice.address, &message);
        if message.contains(&0) {
            assert!(reply.code >= 500, "{}: NUL was answered with {reply:?}", path.display());
            refused += 1;
        } else {
            assert_eq!(reply.code, 250, "{}: {reply:?}", path.display());
            sent.push((path, message));
        }
    }
    assert_eq!(refused, 1, "one sample holds NUL");
    let received = imap::messages(&demo, &alice, "INBOX");
    assert_eq!(received.len(), sent.len());
    for ((path, sent), received) in sent.iter().zip(&received) {
        assert!(imap::without_trace(received) == sent.as_slice(), "{} came out changed", path.display());
    }
    let script = "
import imaplib, sys
port, name, password, count = sys.argv[1:]
imap = imaplib.IMAP4('127.0.0.1', int(port))
imap.login(name, password)
imap.select('INBOX', readonly=True)
for number in range(1, int(count) + 1):
    kind, data = imap.fetch(str(number), '(UID ENVELOPE BODY BODYSTRUCTURE RFC822.SIZE)')
    assert kind == 'OK' and data and data[0], (number, data)
    text = b''.join(part if isinstance(part, bytes) else b''.join(part) for part in data)
    for word in (b'ENVELOPE (', b'BODYSTRUCTURE (', b'BODY (', b'RFC822.SIZE '):
        assert word in text, (number, word, text)
print('described', count)
";
    let count = sent.len().to_string();
    let port = demo.port("imap").to_string();
    assert!(python(script, &[&port, &alice.name, &alice.password, &count]).contains("described"));
}

#[test]
fn samples_with_bare_line_ends_are_refused() {
    let demo = Demo::start();
    let alice = demo.user("alice");
    for (name, bytes) in [
        ("bare LF", &b"Subject: x\r\n\r\none\ntwo\r\n"[..]),
        ("bare CR", b"Subject: x\r\n\r\none\rtwo\r\n"),
        ("LF in headers", b"Subject: x\nX-Y: z\r\n\r\ntext\r\n"),
        ("CR CR LF", b"Subject: x\r\n\r\none\r\r\ntwo\r\n"),
    ] {
        let mut smtp = Smtp::connect(demo.port("smtp"));
        smtp.begin_data("someone@example.net", &alice.address);
        smtp.send(bytes);
        smtp.send(b"\r\n.\r\n");
        assert!((500..600).contains(&smtp.reply().code), "{name}");
    }
    assert_eq!(imap::count(&demo, &alice, "INBOX"), 0);
}

#[test]
fn a_message_signed_by_gpg_verifies_after_the_round_trip() {
    let demo = Demo::start();
    let (alice, bob) = (demo.user("alice"), demo.user("bob"));
    let home = tempfile::tempdir().unwrap();
    let gpg = |arguments: &[&str], input: &[u8]| {
        let mut command = Command::new("gpg");
        command.arg("--homedir").arg(home.path()).args([
            "--batch",
            "--no-tty",
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            "",
        ]);
        succeed(command.args(arguments), input)
    };
    gpg(&["--quick-generate-key", "Alice <alice@example.net>", "ed25519", "sign", "never"], b"");
    let entity = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGr\xc3\xbc\xc3\x9fe \r\n-- \r\nA signed line with a trailing space \r\n";
    let signature = String::from_utf8(gpg(&["--armor", "--detach-sign"], entity)).unwrap().replace('\n', "\r\n");
    let mut message = format!(
        "From: {}\r\nTo: {}\r\nSubject: signed\r\nDate: Tue, 03 Mar 2026 10:11:12 +0100\r\nMessage-ID: <signed@example.net>\r\n\
         MIME-Version: 1.0\r\nContent-Type: multipart/signed; micalg=pgp-sha512; protocol=\"application/pgp-signature\"; boundary=\"s\"\r\n\r\n\
         --s\r\n",
        alice.address, bob.address
    )
    .into_bytes();
    message.extend_from_slice(entity);
    message.extend_from_slice(
        format!(
            "\r\n--s\r\nContent-Type: application/pgp-signature; name=signature.asc\r\n\r\n{signature}\r\n--s--\r\n"
        )
        .as_bytes(),
    );
    let mut smtp = Smtp::connect(demo.port("smtp"));
    assert_eq!(smtp.message("someone@example.net", &bob.address, &message).code, 250);
    let received = imap::message_with(&demo, &bob, "INBOX", "Subject: signed");
    assert_eq!(imap::without_trace(&received), message);

    // The parts as IMAP gives them, as a client that verifies would ask for them.
    let parts = tempfile::tempdir().unwrap();
    let script = "
import imaplib, sys
port, name, password, folder = sys.argv[1:]
imap = imaplib.IMAP4('127.0.0.1', int(port))
imap.login(name, password)
imap.select('INBOX', readonly=True)
def part(section):
    kind, data = imap.fetch('1', '(BODY.PEEK[%s])' % section)
    return data[0][1]
open(folder + '/signed', 'wb').write(part('1.MIME') + part('1'))
open(folder + '/signature', 'wb').write(part('2'))
";
    let port = demo.port("imap").to_string();
    python(script, &[&port, &bob.name, &bob.password, &parts.path().display().to_string()]);
    let path = |name: &str| parts.path().join(name).display().to_string();
    gpg(&["--verify", &path("signature"), &path("signed")], b"");
    let mut changed = fs::read(path("signed")).unwrap();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(path("signed"), changed).unwrap();
    let mut verify = Command::new("gpg");
    verify.arg("--homedir").arg(home.path()).args(["--batch", "--verify", &path("signature"), &path("signed")]);
    assert!(!crate::tools::run(&mut verify, b"").status.success(), "a changed byte must not verify");
}
