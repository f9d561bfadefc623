//! Only CRLF.CRLF ends a message (CVE-2023-51764 and its kin).

use crate::imap;
use crate::smtp::Smtp;
use crate::support::Demo;

#[test]
fn no_other_sequence_ends_a_message() {
    let demo = Demo::start();
    let alice = demo.user("alice");
    let endings: [&[u8]; 12] = [
        b"\n.\n",
        b"\n.\r\n",
        b"\r\n.\n",
        b"\r.\r",
        b"\r.\r\n",
        b"\r\n.\r",
        b"\n.\r",
        b"\r.\n",
        b"\r\n\0.\r\n",
        b"\r\n.\0\r\n",
        b"\r\r\n.\r\r\n",
        b"\n\n.\r\n",
    ];
    for ending in endings {
        let mut smtp = Smtp::connect(demo.port("smtp"));
        smtp.begin_data("outer@example.net", &alice.address);
        let mut stream = b"Subject: outer\r\n\r\ntext".to_vec();
        stream.extend_from_slice(ending);
        stream.extend_from_slice(
            format!(
                "MAIL FROM:<smuggled@example.net>\r\nRCPT TO:<{}>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n",
                alice.address
            )
            .as_bytes(),
        );
        smtp.send(&stream);
        let first = smtp.reply();
        assert!((500..600).contains(&first.code), "{:?} was answered with {first:?}", String::from_utf8_lossy(ending));
        // One reply to one message: the connection ends, or goes on with the command that was sent.
        if smtp.try_send(b"NOOP\r\n")
            && let Some(reply) = smtp.try_reply()
        {
            assert_eq!(reply.code, 250, "{:?}: {reply:?}", String::from_utf8_lossy(ending));
        }
    }
    assert_eq!(imap::count(&demo, &alice, "INBOX"), 0, "neither half of any of them was taken");
}

#[test]
fn bare_line_ends_in_commands_are_refused() {
    let demo = Demo::start();
    let alice = demo.user("alice");
    for (name, bytes) in [
        ("LF", format!("MAIL FROM:<a@example.net>\nRCPT TO:<{}>\r\n", alice.address)),
        ("CR", format!("MAIL FROM:<a@example.net>\rRCPT TO:<{}>\r\n", alice.address)),
        ("NUL", "MAIL FROM:<a\0@example.net>\r\n".to_owned()),
    ] {
        let mut smtp = Smtp::connect(demo.port("smtp"));
        smtp.send(bytes.as_bytes());
        assert!((500..600).contains(&smtp.reply().code), "{name}");
        // What stood behind the bare line end is never run: the connection ends, or goes on without a transaction.
        if smtp.try_send(format!("RCPT TO:<{}>\r\n", alice.address).as_bytes())
            && let Some(reply) = smtp.try_reply()
        {
            assert!((500..600).contains(&reply.code), "{name}: {reply:?}");
        }
    }
}

#[test]
fn chunks_are_held_to_the_same() {
    let demo = Demo::start();
    let alice = demo.user("alice");
    let good = b"Subject: chunked\r\n\r\n.\r\nA line of one dot stands above.\r\n";
    let mut smtp = Smtp::connect(demo.port("smtp"));
    assert_eq!(smtp.command("MAIL FROM:<a@example.net>").code, 250);
    assert_eq!(smtp.command(&format!("RCPT TO:<{}>", alice.address)).code, 250);
    smtp.send(b"BDAT 5\r\nSubje");
    assert_eq!(smtp.reply().code, 250);
    smtp.send(format!("BDAT {} LAST\r\n", good.len() - 5).as_bytes());
    smtp.send(&good[5..]);
    assert_eq!(smtp.reply().code, 250);
    assert_eq!(imap::without_trace(&imap::messages(&demo, &alice, "INBOX")[0]), good);

    for bad in [&b"Subject: x\n\ny\r\n"[..], b"Subject: x\r\n\r\ny\rz\r\n", b"Subject: x\r\n\r\ny\0\r\n"] {
        assert_eq!(smtp.command("MAIL FROM:<a@example.net>").code, 250);
        assert_eq!(smtp.command(&format!("RCPT TO:<{}>", alice.address)).code, 250);
        smtp.send(format!("BDAT {} LAST\r\n", bad.len()).as_bytes());
        smtp.send(bad);
        assert!((500..600).contains(&smtp.reply().code));
        assert_eq!(smtp.command("RSET").code, 250);
    }
    assert_eq!(imap::count(&demo, &alice, "INBOX"), 1);
}

#[test]
fn nothing_that_a_peer_says_of_itself_makes_a_second_header() {
    let demo = Demo::start();
    let alice = demo.user("alice");
    let mut smtp = Smtp::connect_silent(demo.port("smtp"));
    smtp.reply();
    for hostile in ["EHLO a\tb X-Injected: 1", "EHLO (comment", "EHLO a;b\"c", "EHLO \u{1}\u{7f}x"] {
        smtp.command(hostile);
        smtp.command("RSET");
    }
    smtp.command("EHLO client.example.net");
    for from in ["\"a b\"@example.net", "\"x> X-Injected: 1\"@example.net", "\"\\\"quoted\\\\\"@example.net"] {
        let reply = smtp.message(from, &alice.address, b"Subject: injected\r\n\r\nx\r\n");
        assert!(reply.code == 250 || reply.code >= 500, "{reply:?}");
    }
    for message in imap::messages(&demo, &alice, "INBOX") {
        for line in message.split(|&byte| byte == b'\n') {
            assert!(!line.starts_with(b"X-Injected"), "{}", String::from_utf8_lossy(&message));
        }
        assert!(imap::without_trace(&message).starts_with(b"Subject: injected\r\n"));
    }
}
