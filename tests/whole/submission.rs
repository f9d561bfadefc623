//! A login speaks for itself and for nobody else.

use crate::imap;
use crate::smtp::{Reply, Smtp};
use crate::support::{Demo, DemoUser as User};

fn login(demo: &Demo, user: &User) -> Smtp {
    let mut smtp = Smtp::connect(demo.port("submission"));
    let plain = base64(format!("\0{}\0{}", user.name, user.password).as_bytes());
    assert_eq!(smtp.command(&format!("AUTH PLAIN {plain}")).code, 235);
    smtp
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, &byte| (word << 8) | u32::from(byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let value = (word >> (18 - 6 * digit)) as usize & 63;
            text.push(if digit <= chunk.len() { DIGITS[value] as char } else { '=' });
        }
    }
    text
}

fn forbidden(reply: &Reply) {
    assert_eq!((reply.code, &reply.text[..5]), (550, "5.7.1"), "{reply:?}");
}

#[test]
fn without_login_nothing_is_taken() {
    let demo = Demo::start();
    let mut smtp = Smtp::connect(demo.port("submission"));
    assert_eq!(smtp.command(&format!("MAIL FROM:<{}>", demo.user("alice").address)).code, 530);
    let wrong = base64(b"\0alice\0wrong");
    assert_eq!(smtp.command(&format!("AUTH PLAIN {wrong}")).code, 535);
    assert_eq!(smtp.command("AUTH PLAIN ===").code, 501);
}

#[test]
fn senders_that_are_not_the_login_s_are_refused() {
    let demo = Demo::start();
    let (alice, bob) = (demo.user("alice"), demo.user("bob"));
    let mut smtp = login(&demo, &alice);
    forbidden(&smtp.command(&format!("MAIL FROM:<{}>", bob.address)));
    forbidden(&smtp.command("MAIL FROM:<someone@example.net>"));
    let mine = &alice.address;
    let theirs = &bob.address;
    for headers in [
        format!("From: {theirs}\r\n"),
        format!("From: {mine}, {theirs}\r\n"),
        format!("From: {mine}\r\nFrom: {theirs}\r\n"),
        format!("From: \"{mine}\" <{theirs}>\r\n"),
        format!("From: {mine}\r\nSender: {theirs}\r\n"),
        format!("from : {theirs}\r\n"),
        format!("From:\r\n {theirs}\r\n"),
        format!("From: group: {mine}, {theirs};\r\n"),
        format!("From: =?utf-8?q?x?= <{theirs}> ({mine})\r\n"),
        "From: \r\n".to_owned(),
        String::new(),
    ] {
        let reply = smtp.message(mine, theirs, format!("{headers}Subject: forged\r\n\r\nx\r\n").as_bytes());
        forbidden(&reply);
    }
    assert_eq!(imap::count(&demo, &bob, "INBOX"), 0);
    let subaddressed = mine.replace('@', "+shop@");
    for from in [mine.clone(), subaddressed] {
        let reply =
            smtp.message(&from, theirs, format!("From: Alice <{from}>\r\nSubject: mine\r\n\r\nx\r\n").as_bytes());
        assert_eq!(reply.code, 250, "{reply:?}");
    }
    assert_eq!(imap::count(&demo, &bob, "INBOX"), 2);
}

#[test]
fn foreign_recipients_are_refused_with_a_clear_text() {
    let demo = Demo::start();
    let alice = demo.user("alice");
    let mut smtp = login(&demo, &alice);
    assert_eq!(smtp.command(&format!("MAIL FROM:<{}>", alice.address)).code, 250);
    let reply = smtp.command("RCPT TO:<someone@example.net>");
    forbidden(&reply);
    assert!(reply.text.contains("brings messages there"), "{reply:?}");
}

#[test]
fn what_is_missing_is_added_and_bcc_goes() {
    let demo = Demo::start();
    let (alice, bob) = (demo.user("alice"), demo.user("bob"));
    let mut smtp = login(&demo, &alice);
    let message = format!(
        "From: {}\r\nBcc: secret@example.net,\r\n {}\r\nSubject: bare\r\n\r\nx\r\n",
        alice.address, bob.address
    );
    assert_eq!(smtp.message(&alice.address, &bob.address, message.as_bytes()).code, 250);
    let received = String::from_utf8(imap::message_with(&demo, &bob, "INBOX", "Subject: bare")).unwrap();
    assert!(received.contains("\r\nDate: ") && received.contains("\r\nMessage-ID: <"), "{received}");
    assert!(!received.contains("secret@") && !received.to_lowercase().contains("bcc:"), "{received}");
}

#[test]
fn append_sends_nothing() {
    let demo = Demo::start();
    let (alice, bob) = (demo.user("alice"), demo.user("bob"));
    let script = "
import imaplib, sys
port, name, password, to = sys.argv[1:]
imap = imaplib.IMAP4('127.0.0.1', int(port))
imap.login(name, password)
for mailbox in ('Sent', 'Drafts', 'INBOX'):
    kind, data = imap.append(mailbox, None, None, b'To: ' + to.encode() + b'\\r\\nSubject: kept\\r\\n\\r\\nx\\r\\n')
    assert kind == 'OK', data
";
    let port = demo.port("imap").to_string();
    crate::tools::python(script, &[&port, &alice.name, &alice.password, &bob.address]);
    assert_eq!(imap::count(&demo, &bob, "INBOX"), 0);
    assert_eq!(imap::count(&demo, &alice, "Sent"), 1);
}
