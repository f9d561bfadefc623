//! What must not happen to mail that leaves: blind recipients shown, mail of ours sent away, answers to answers, circles.

use crate::delivery::{NextHop, Taken, demo};
use crate::imap;
use crate::smtp::{Reply, Smtp};
use crate::support::{self, Demo, DemoUser as User, json, until};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

fn login(demo: &Demo, user: &User) -> Smtp {
    let mut smtp = Smtp::connect(demo.port("submission"));
    let token = STANDARD.encode(format!("\0{}\0{}", user.name, user.password));
    assert_eq!(smtp.command(&format!("AUTH PLAIN {token}")).code, 235);
    smtp
}

/// Submits a message to recipients of the envelope; the answer.
fn submit(smtp: &mut Smtp, from: &str, to: &[&str], message: &str) -> Reply {
    assert_eq!(smtp.command(&format!("MAIL FROM:<{from}>")).code, 250);
    for to in to {
        let reply = smtp.command(&format!("RCPT TO:<{to}>"));
        assert_eq!(reply.code, 250, "{to}: {reply:?}");
    }
    assert_eq!(smtp.command("DATA").code, 354);
    smtp.send(format!("{message}.\r\n").as_bytes());
    smtp.reply()
}

/// Waits until nothing is left to send; what has left.
fn left(demo: &Demo, hop: &NextHop) -> Vec<Taken> {
    until("the queue is empty", || {
        json(&["--config", &demo.config(), "queue", "status", "--json"], "")["jobs"].as_u64() == Some(0)
    });
    hop.taken()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn what_mesyx_can_deliver_itself_never_leaves() {
    let hop = NextHop::start();
    let demo = demo(&hop);
    let (alice, bob) = (demo.user("alice"), demo.user("bob"));
    let message = format!("From: {}\r\nSubject: to all\r\n\r\nhello\r\n", alice.address);
    let to = ["bob@example.org", "BOB+lists@EXAMPLE.org", "postmaster@mail.example.org", "joe@example.net"];
    assert_eq!(submit(&mut login(&demo, &alice), &alice.address, &to, &message).code, 250);
    let taken = left(&demo, &hop);
    assert_eq!(taken.len(), 1, "{taken:?}");
    assert_eq!(taken[0].to, ["RCPT TO:<joe@example.net>"]);
    assert!(imap::count(&demo, &bob, "INBOX") > 0);
    imap::message_with(&demo, &alice, "INBOX", "to all");
    // An address of ours that is nobody's is refused at once, not sent to find out.
    let mut smtp = login(&demo, &alice);
    assert_eq!(smtp.command(&format!("MAIL FROM:<{}>", alice.address)).code, 250);
    assert_eq!(smtp.command("RCPT TO:<nobody@example.org>").code, 550);
    assert_eq!(hop.taken().len(), 1);
}

#[test]
fn blind_recipients_are_shown_to_nobody() {
    let hop = NextHop::start();
    let demo = demo(&hop);
    let (alice, bob) = (demo.user("alice"), demo.user("bob"));
    let message = format!(
        "From: {}\r\nTo: joe@example.net\r\nBCC : carl@example.com,\r\n\tbob@example.org\r\nSubject: quiet\r\nResent-Bcc: dora@example.com\r\n\r\n\
         hello\r\n",
        alice.address
    );
    let to = ["joe@example.net", "carl@example.com", "dora@example.com", "bob@example.org"];
    assert_eq!(submit(&mut login(&demo, &alice), &alice.address, &to, &message).code, 250);
    let taken = left(&demo, &hop);
    let mut reached: Vec<&str> =
        taken.iter().flat_map(|one| one.to.iter()).filter_map(|line| line.split(['<', '>']).nth(1)).collect();
    reached.sort_unstable();
    assert_eq!(reached, ["carl@example.com", "dora@example.com", "joe@example.net"]);
    let local = imap::message_with(&demo, &bob, "INBOX", "quiet");
    for copy in taken.iter().map(|one| one.content.as_slice()).chain([imap::without_trace(&local)]) {
        let copy = text(copy).to_lowercase();
        // By lines: the letters may well stand in a signature.
        let named = copy.lines().any(|line| line.starts_with("bcc") || line.starts_with("resent-bcc"));
        assert!(!named && copy.contains("to: joe@example.net"), "{copy}");
        assert!(!copy.contains("carl@") && !copy.contains("dora@") && !copy.contains("bob@"), "{copy}");
    }
}

#[test]
fn notices_go_to_who_sent_it_and_are_answered_by_nothing() {
    let hop = NextHop::start();
    let demo = demo(&hop);
    let alice = demo.user("alice");
    let message = format!("From: {}\r\nSubject: for nobody\r\n\r\nhello\r\n", alice.address);
    let mut smtp = login(&demo, &alice);
    assert_eq!(submit(&mut smtp, &alice.address, &["gone@example.net"], &message).code, 250);
    assert!(left(&demo, &hop).is_empty(), "the notice is for somebody here");
    let notice = text(&imap::message_with(&demo, &alice, "INBOX", "5.1.1"));
    let header = notice.split("\r\n\r\n").next().unwrap();
    assert!(header.contains("Return-Path: <>") && header.contains("Auto-Submitted: auto-replied"), "{header}");
    assert!(header.contains("report-type=delivery-status"), "{header}");
    // Without a sender there is nobody to tell.
    assert_eq!(submit(&mut smtp, "", &["gone@example.net"], &message).code, 250);
    assert!(left(&demo, &hop).is_empty());
    assert_eq!(imap::count(&demo, &alice, "INBOX"), 1);
    // A stranger's mail for nobody is refused in the session, so that no notice is ever owed to one.
    let mut stranger = Smtp::connect(demo.port("smtp"));
    assert_eq!(stranger.command("MAIL FROM:<victim@example.com>").code, 250);
    assert_eq!(stranger.command("RCPT TO:<nobody@example.org>").code, 550);
    assert!(hop.taken().is_empty());
}

#[test]
fn nothing_answers_lists_and_answers() {
    let hop = NextHop::start();
    let demo = demo(&hop);
    let alice = demo.user("alice");
    let fields = [
        "List-Id: <tea.example.net>\r\nPrecedence: list\r\nList-Unsubscribe: <mailto:leave@example.net>\r\n",
        "Auto-Submitted: auto-replied\r\n",
        "Disposition-Notification-To: joe@example.net\r\nReturn-Receipt-To: joe@example.net\r\n",
        "X-Auto-Response-Suppress: All\r\n",
    ];
    for (index, fields) in fields.iter().enumerate() {
        let message = format!("From: joe@example.net\r\nSubject: number {index}\r\n{fields}\r\nhello\r\n");
        support::deliver(demo.address("smtp"), &alice.address, &message);
        let kept = text(&imap::message_with(&demo, &alice, "INBOX", &format!("number {index}")));
        assert!(kept.contains(fields), "kept as they came: {kept}");
    }
    assert!(left(&demo, &hop).is_empty(), "nothing answers by itself");
}

#[test]
fn mail_that_goes_in_a_circle_is_stopped() {
    let hop = NextHop::start();
    let demo = demo(&hop);
    let alice = demo.user("alice");
    let message = |hops: usize| {
        let received =
            "Received: from a.example.net by b.example.net; Mon, 23 Nov 2026 10:00:00 +0000\r\n".repeat(hops);
        format!("{received}From: {}\r\nSubject: round {hops}\r\n\r\nhello\r\n", alice.address)
    };
    let mut smtp = login(&demo, &alice);
    let reply = submit(&mut smtp, &alice.address, &["joe@example.net"], &message(60));
    assert_eq!((reply.code, &reply.text[..5]), (554, "5.4.6"), "{reply:?}");
    let mut stranger = Smtp::connect(demo.port("smtp"));
    let reply = submit(&mut stranger, "joe@example.net", &[&alice.address], &message(60));
    assert_eq!((reply.code, &reply.text[..5]), (554, "5.4.6"), "{reply:?}");
    assert_eq!(submit(&mut stranger, "joe@example.net", &[&alice.address], &message(30)).code, 250);
    assert!(left(&demo, &hop).is_empty());
}
