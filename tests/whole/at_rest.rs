//! No file holds a clear byte of a message, while the program runs and after it was killed.

use crate::imap;
use crate::smtp::Smtp;
use crate::support::{Demo, LOG};
use crate::tools::python;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Words that stand in the subject, the body, the attachment's name and text, and the addresses of every message sent here.
const CANARIES: [&str; 8] = [
    "canarysubject",
    "canarybody",
    "canaryfile",
    "canaryattachment",
    "canarysender",
    "canaryname",
    "canarysubaddress",
    "canarydraft",
];

fn message(number: usize) -> Vec<u8> {
    let filler = "canarybody and more of it\r\n".repeat(if number.is_multiple_of(10) { 20_000 } else { 20 });
    format!(
        "From: canaryname <canarysender@example.net>\r\nTo: x <canarysubaddress@example.net>\r\nSubject: canarysubject {number}\r\n\
         MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n{filler}\r\n--b\r\n\
         Content-Type: text/plain; name=\"canaryfile.txt\"\r\n\r\ncanaryattachment\r\n--b--\r\n"
    )
    .into_bytes()
}

/// Every canary in every file below `dir`.
fn leaks(dir: &Path) -> Vec<(PathBuf, &'static str)> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = fs::read(&path) {
                let leaked = CANARIES.into_iter().filter(|canary| imap::contains(&bytes, canary.as_bytes()));
                found.extend(leaked.map(|canary| (path.clone(), canary)));
            }
        }
    }
    found
}

fn files(dir: &Path) -> usize {
    let output = Command::new("find").arg(dir).args(["-type", "f"]).output().unwrap();
    output.stdout.iter().filter(|&&byte| byte == b'\n').count()
}

#[test]
fn no_canary_in_any_file_also_after_a_kill() {
    let place = tempfile::tempdir().unwrap();
    let log = place.path().join("log");
    let logged = fs::File::create(&log).unwrap();
    let demo = Demo::start_prepared(|command| {
        command.args(["--log", "trace"]).env("TMPDIR", place.path()).env(LOG, &log).stderr(logged);
    });
    let (alice, domain) = (demo.user("alice"), demo.text("domain").to_owned());
    assert!(demo.dir().starts_with(place.path()), "the demo's directory follows TMPDIR");
    let mut smtp = Smtp::connect(demo.port("smtp"));
    for number in 0..40 {
        let to = format!("alice+canarysubaddress@{domain}");
        assert_eq!(smtp.message("canarysender@example.net", &to, &message(number)).code, 250);
        if number % 8 == 0 {
            assert_eq!(leaks(place.path()), [], "while messages come in");
        }
    }
    smtp.command("MAIL FROM:<canarysender@example.net>");
    smtp.command(&format!("RCPT TO:<canaryname@{domain}>"));
    let script = "
import imaplib, sys
port, name, password = sys.argv[1:]
imap = imaplib.IMAP4('127.0.0.1', int(port))
imap.login(name, password)
imap.append('Drafts', None, None, b'Subject: canarydraft\\r\\n\\r\\ncanarybody\\r\\n')
imap.select('INBOX')
assert imap.search(None, 'TEXT', 'canaryattachment')[1][0].split(), 'the canaries are really there'
imap.fetch('1:*', '(ENVELOPE BODYSTRUCTURE BODY[])')
imap.copy('1:5', 'Archive')
imap.store('6', '+FLAGS', '(\\\\Deleted)')
imap.expunge()
";
    let port = demo.port("imap").to_string();
    python(script, &[&port, &alice.name, &alice.password]);
    assert!(files(&demo.dir()) > 3, "there are files to look into");
    let logged = fs::metadata(&log).unwrap().len();
    assert!(logged > 10_000, "the log at its most talkative is looked into too; it has {logged} bytes");
    assert_eq!(leaks(place.path()), [], "after reading");

    // Killed in the middle of taking messages, half of one on its way.
    smtp.command("RSET");
    smtp.begin_data("canarysender@example.net", &alice.address);
    smtp.send(&message(0)[..300_000]);
    let killed = Command::new("kill").args(["-KILL", &demo.pid().to_string()]).status().unwrap();
    assert!(killed.success());
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(files(place.path()) > 3, "a killed demo leaves its files");
    assert_eq!(leaks(place.path()), [], "after SIGKILL");
}

/// Nothing listens where messages are to be handed on, so that they wait: small ones in the database, large ones in files.
#[test]
fn no_canary_in_any_file_while_messages_wait_to_be_sent() {
    let place = tempfile::tempdir().unwrap();
    let logged = fs::File::create(place.path().join("log")).unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let demo = Demo::start_prepared(|command| {
        command.args(["--log", "trace", "--smarthost", &closed.to_string()]).env("TMPDIR", place.path()).stderr(logged);
    });
    let alice = demo.user("alice");
    let mut client = crate::queue::Client::login(demo.port("submission"), &alice.name, &alice.password).unwrap();
    let from = alice.address.replace('@', "+canarysubaddress@");
    for number in 0..12 {
        let message = String::from_utf8(message(number)).unwrap();
        let message = message.replace("canarysender@example.net", &from);
        let reply =
            client.submit_whole(&from, &["canaryname@example.net", "canarysender@example.com"], &message).unwrap();
        assert!(reply.starts_with("250"), "{reply}");
    }
    let config = demo.config();
    let list = || crate::support::json(&["--config", &config, "queue", "list", "--json"], "");
    crate::support::until("each was tried", || {
        let list = list();
        let jobs = list.as_array().unwrap();
        jobs.len() == 24 && jobs.iter().any(|job| job["why"] != "")
    });
    assert!(list().to_string().contains("canaryname@example.net"), "the operator can see them");
    assert_eq!(leaks(place.path()), [], "while they wait");
    let killed = Command::new("kill").args(["-KILL", &demo.pid().to_string()]).status().unwrap();
    assert!(killed.success());
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(files(place.path()) > 3, "a killed demo leaves its files");
    assert_eq!(leaks(place.path()), [], "after SIGKILL");
}
