//! Messages made to cost: nesting, parts, headers. Each is taken or refused, shown, and costs little.

use crate::imap;
use crate::smtp::Smtp;
use crate::support::Demo;
use crate::tools::python;
use std::fmt::Write;

fn bombs() -> Vec<(&'static str, String)> {
    let mut deep = "Subject: deep\r\nMIME-Version: 1.0\r\n".to_owned();
    for level in 0..10_000 {
        write!(deep, "Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n").unwrap();
    }
    let mut letters = "Subject: letters\r\n".to_owned();
    for _ in 0..10_000 {
        letters.push_str("Content-Type: message/rfc822\r\n\r\n");
    }
    let mut wide = "Subject: wide\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n".to_owned();
    for _ in 0..100_000 {
        wide.push_str("--b\r\n\r\nx\r\n");
    }
    let mut near = format!("Subject: near\r\nContent-Type: multipart/mixed; boundary={}\r\n\r\n", "b".repeat(69));
    for _ in 0..20_000 {
        write!(near, "--{}\r\n", "b".repeat(68)).unwrap();
    }
    let addresses = format!("Subject: addresses\r\nTo: {}\r\n\r\nx\r\n", "a@b.example,\r\n ".repeat(60_000));
    let comments = format!("Subject: comments\r\nTo: {}\r\n\r\nx\r\n", "(".repeat(500_000));
    let parameters =
        format!("Subject: parameters\r\nContent-Type: text/plain{}\r\n\r\nx\r\n", ";\r\n a=b".repeat(60_000));
    vec![
        ("deep", deep),
        ("letters", letters),
        ("wide", wide),
        ("near", near),
        ("addresses", addresses),
        ("comments", comments),
        ("parameters", parameters),
    ]
}

#[test]
fn bombs_are_taken_and_described() {
    let demo = Demo::start();
    let alice = demo.user("alice");
    let mut smtp = Smtp::connect(demo.port("smtp"));
    let mut taken = 0;
    for (name, bomb) in bombs() {
        let reply = smtp.message("a@example.net", &alice.address, bomb.as_bytes());
        assert!(reply.code == 250 || (500..600).contains(&reply.code), "{name}: {reply:?}");
        taken += usize::from(reply.code == 250);
    }
    assert!(taken >= 4, "{taken} taken");
    let script = "
import imaplib, sys
imaplib._MAXLINE = 100_000_000
port, name, password, count = sys.argv[1:]
imap = imaplib.IMAP4('127.0.0.1', int(port))
imap.login(name, password)
imap.select('INBOX', readonly=True)
for number in range(1, int(count) + 1):
    kind, data = imap.fetch(str(number), '(ENVELOPE BODYSTRUCTURE)')
    assert kind == 'OK' and data[0], (number, data)
kind, data = imap.search(None, 'TEXT', 'nowhere')
assert kind == 'OK', data
print('described')
";
    let port = demo.port("imap").to_string();
    assert!(python(script, &[&port, &alice.name, &alice.password, &taken.to_string()]).contains("described"));
    assert_eq!(imap::count(&demo, &alice, "INBOX"), taken);
}

#[test]
fn too_many_headers_are_refused() {
    let demo = Demo::start();
    let alice = demo.user("alice");
    let mut smtp = Smtp::connect(demo.port("smtp"));
    let lines = format!("{}\r\nx\r\n", "X-A: b\r\n".repeat(10_001));
    let bytes = format!("X-A: {}\r\n\r\nx\r\n", "b\r\n ".repeat(400_000));
    for message in [lines, bytes] {
        assert!((500..600).contains(&smtp.message("a@example.net", &alice.address, message.as_bytes()).code));
    }
    let loops =
        format!("{}Subject: x\r\n\r\nx\r\n", "Received: from a by b; Tue, 03 Mar 2026 10:11:12 +0100\r\n".repeat(51));
    let reply = smtp.message("a@example.net", &alice.address, loops.as_bytes());
    assert_eq!((reply.code, &reply.text[..5]), (554, "5.4.6"));
    assert_eq!(imap::count(&demo, &alice, "INBOX"), 0);
}
