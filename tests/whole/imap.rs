//! Reading mailboxes by Python's imaplib.

use crate::support::{Demo, DemoUser as User};
use crate::tools::{python, succeed};
use std::process::Command;

/// How many messages a mailbox holds.
pub fn count(demo: &Demo, user: &User, mailbox: &str) -> usize {
    let script = "
import imaplib, sys
port, name, password, mailbox = sys.argv[1:]
imap = imaplib.IMAP4('127.0.0.1', int(port))
imap.login(name, password)
kind, data = imap.select(mailbox, readonly=True)
assert kind == 'OK', data
print(int(data[0]))
imap.logout()
";
    let port = demo.port("imap").to_string();
    python(script, &[&port, &user.name, &user.password, mailbox]).trim().parse().unwrap()
}

/// The exact bytes of every message of a mailbox, in the order of their UIDs.
pub fn messages(demo: &Demo, user: &User, mailbox: &str) -> Vec<Vec<u8>> {
    let script = "
import imaplib, sys
port, name, password, mailbox = sys.argv[1:]
imap = imaplib.IMAP4('127.0.0.1', int(port))
imap.login(name, password)
kind, data = imap.select(mailbox, readonly=True)
assert kind == 'OK', data
if int(data[0]):
    kind, data = imap.fetch('1:*', '(BODY.PEEK[])')
    assert kind == 'OK', data
    for item in data:
        if isinstance(item, tuple):
            sys.stdout.buffer.write(b'%d\\n' % len(item[1]) + item[1])
imap.logout()
";
    let port = demo.port("imap").to_string();
    let mut command = Command::new("python3");
    command.arg("-c").arg(script).args([&port, &user.name, &user.password, mailbox]);
    let output = succeed(&mut command, b"");
    let mut rest = output.as_slice();
    let mut messages = Vec::new();
    while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
        let length: usize = std::str::from_utf8(&rest[..end]).unwrap().parse().unwrap();
        messages.push(rest[end + 1..end + 1 + length].to_vec());
        rest = &rest[end + 1 + length..];
    }
    messages
}

/// The one message of a mailbox whose bytes contain `needle`.
pub fn message_with(demo: &Demo, user: &User, mailbox: &str, needle: &str) -> Vec<u8> {
    let mut found = messages(demo, user, mailbox);
    found.retain(|message| contains(message, needle.as_bytes()));
    assert_eq!(found.len(), 1, "messages with {needle:?} in {mailbox}");
    found.remove(0)
}

pub fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

/// A received message without what Mesyx puts on top: what it makes of a signature, where there is one, one Return-Path, one Received.
pub fn without_trace(message: &[u8]) -> &[u8] {
    let mut rest = message;
    for name in ["Mesyx-PGP:", "Return-Path:", "Received:"] {
        if name == "Mesyx-PGP:" && !rest.starts_with(name.as_bytes()) {
            continue;
        }
        assert!(
            rest.starts_with(name.as_bytes()),
            "{name} on top of {}",
            String::from_utf8_lossy(&rest[..200.min(rest.len())])
        );
        loop {
            let end = rest.windows(2).position(|two| two == b"\r\n").expect("a line end") + 2;
            rest = &rest[end..];
            if !rest.starts_with(b" ") && !rest.starts_with(b"\t") {
                break;
            }
        }
    }
    rest
}
