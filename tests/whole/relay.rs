//! An unauthenticated sender reaches our own recipients and nobody else.

use crate::imap;
use crate::smtp::Smtp;
use crate::support::Demo;

#[test]
fn strangers_reach_nobody_else() {
    let demo = Demo::start();
    let domain = demo.text("domain");
    let mut smtp = Smtp::connect(demo.port("smtp"));
    let foreign = [
        "someone@example.net".to_owned(),
        format!("someone%example.net@{domain}"),
        format!("someone@example.net@{domain}"),
        format!("example.net!someone@{domain}"),
        format!("\"someone@example.net\"@{domain}"),
        format!("\"someone%example.net\"@{domain}"),
        format!("@{domain}:someone@example.net"),
        format!("@{domain},@relay.example:someone@example.net"),
        "someone@[127.0.0.1]".to_owned(),
        "someone@[IPv6:::1]".to_owned(),
        format!("someone@sub.{domain}"),
        format!("someone@{domain}.example.net"),
        format!("|cat@{domain}"),
        format!("/etc/passwd@{domain}"),
        "someone".to_owned(),
        format!("#chan@libera.irc.{domain}"),
        format!("nick@libera.irc.{domain}"),
    ];
    for address in foreign {
        assert_eq!(smtp.command("MAIL FROM:<stranger@example.net>").code, 250);
        let reply = smtp.command(&format!("RCPT TO:<{address}>"));
        assert!((500..600).contains(&reply.code), "{address} was answered with {reply:?}");
        smtp.command("RSET");
    }
    assert_eq!(smtp.command("MAIL FROM:<stranger@example.net> SMTPUTF8").code, 250);
    for address in [format!("jörg@{domain}"), "jörg@bücher.example".to_owned()] {
        assert!((500..600).contains(&smtp.command(&format!("RCPT TO:<{address}>")).code), "{address}");
    }
}

#[test]
fn our_own_are_reached_by_every_spelling() {
    let demo = Demo::start();
    let (alice, domain) = (demo.user("alice"), demo.text("domain").to_owned());
    let mut smtp = Smtp::connect(demo.port("smtp"));
    let ours = [
        format!("alice@{domain}"),
        format!("ALICE@{}", domain.to_uppercase()),
        format!("\"alice\"@{domain}"),
        format!("alice+list@{domain}"),
        format!("@relay.example:alice@{domain}"),
    ];
    for (number, address) in ours.iter().enumerate() {
        assert_eq!(smtp.message("stranger@example.net", address, b"Subject: x\r\n\r\ny\r\n").code, 250, "{address}");
        assert_eq!(imap::count(&demo, &alice, "INBOX"), number + 1, "{address}");
    }
    for address in
        [format!("postmaster@{domain}"), format!("abuse@{domain}"), "postmaster".to_owned(), "Postmaster".to_owned()]
    {
        assert_eq!(smtp.message("", &address, b"Subject: x\r\n\r\ny\r\n").code, 250, "{address}");
    }
}

#[test]
fn unknown_recipients_are_refused_in_session_with_their_code() {
    let demo = Demo::start();
    let domain = demo.text("domain");
    let mut smtp = Smtp::connect(demo.port("smtp"));
    assert_eq!(smtp.command("MAIL FROM:<stranger@example.net>").code, 250);
    let unknown = smtp.command(&format!("RCPT TO:<nobody@{domain}>"));
    assert_eq!((unknown.code, &unknown.text[..5]), (550, "5.1.1"));
    let foreign = smtp.command("RCPT TO:<someone@example.net>");
    assert_eq!((foreign.code, &foreign.text[..5]), (550, "5.7.1"));
    assert!(smtp.command("DATA").code >= 500, "DATA without a recipient");
}

#[test]
fn recipients_beyond_the_limit_wait_for_the_next_transaction() {
    let demo = Demo::start();
    let domain = demo.text("domain");
    let mut smtp = Smtp::connect(demo.port("smtp"));
    assert_eq!(smtp.command("MAIL FROM:<stranger@example.net>").code, 250);
    let mut batch = String::new();
    for number in 0..1001 {
        batch.push_str(&format!("RCPT TO:<alice+{number}@{domain}>\r\n"));
    }
    smtp.send(batch.as_bytes());
    let codes: Vec<u16> = (0..1001).map(|_| smtp.reply().code).collect();
    assert!(codes[..1000].iter().all(|&code| code == 250));
    assert_eq!(codes[1000], 452);
}
