use super::*;
use proptest::prelude::*;

fn code(line: &str) -> u16 {
    match parse(line.as_bytes()) {
        Ok(_) => 0,
        Err(reply) => reply.code,
    }
}

fn mail_of(line: &str) -> Mail {
    match parse(line.as_bytes()) {
        Ok(Command::Mail(mail)) => *mail,
        other => panic!("{line}: {other:?}"),
    }
}

fn rcpt_of(line: &str) -> Rcpt {
    match parse(line.as_bytes()) {
        Ok(Command::Rcpt(rcpt)) => *rcpt,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn verbs_in_any_case() {
    for (line, command) in [
        ("data", Command::Data),
        ("Quit ", Command::Quit),
        ("noop anything at all", Command::Noop),
        ("ehlo [192.0.2.1]", Command::Ehlo("[192.0.2.1]")),
        ("HELO", Command::Helo("")),
        ("BDAT 0 last", Command::Bdat { size: 0, last: true }),
        ("BDAT 99999999999999999999", Command::Bdat { size: u64::MAX, last: false }),
        ("AUTH PLAIN =", Command::Auth { mechanism: "PLAIN", initial: Some("=") }),
        ("starttls", Command::StartTls),
    ] {
        assert_eq!(parse(line.as_bytes()).unwrap(), command, "{line}");
    }
}

#[test]
fn malformed_commands_are_refused_with_the_right_code() {
    for (line, expected) in [
        ("", 500),
        ("FOO", 500),
        ("MAILFROM:<a@b>", 500),
        ("DATA now", 501),
        ("RSET x", 501),
        ("BDAT", 501),
        ("BDAT -1", 501),
        ("BDAT 1 FIRST", 501),
        ("BDAT 1 LAST LAST", 501),
        ("BDAT 0x10", 501),
        ("AUTH", 501),
        ("AUTH PLAIN a b", 501),
        ("STARTTLS now", 501),
        ("VRFY", 501),
        ("MAIL", 501),
        ("MAIL TO:<a@b.org>", 501),
        ("MAIL FROM:a@b.org", 501),
        ("MAIL FROM:<a@b.org>SIZE=1", 501),
        ("MAIL FROM:<postmaster>", 501),
        ("MAIL FROM:<a@b.org> SIZE=1x", 501),
        ("MAIL FROM:<a@b.org> SIZE=1 SIZE=2", 501),
        ("MAIL FROM:<a@b.org> BODY=BINARYMIME", 501),
        ("MAIL FROM:<a@b.org> RET=ALL", 501),
        ("MAIL FROM:<a@b.org> ENVID=a+0D+0AX", 501),
        ("MAIL FROM:<a@b.org> SMTPUTF8=1", 555),
        ("MAIL FROM:<a@b.org> FOO", 555),
        ("MAIL FROM:<a@b.org> NOTIFY=NEVER", 555),
        ("MAIL FROM:<δ@b.org>", 553),
        ("MAIL FROM:<a@bücher.example>", 553),
        ("RCPT TO:<>", 501),
        ("RCPT TO:<a@b.org> NOTIFY=NEVER,SUCCESS", 501),
        ("RCPT TO:<a@b.org> NOTIFY=", 501),
        ("RCPT TO:<a@b.org> ORCPT=rfc822", 501),
        ("RCPT TO:<a@b.org> ORCPT=rfc822;a+0Ab", 501),
        ("RCPT TO:<a@b.org> SIZE=1", 555),
        ("NOOP \0", 500),
        ("RCPT TO:<a\tb@c.org>", 501),
    ] {
        assert_eq!(code(line), expected, "{line}");
    }
    assert_eq!(parse(b"NOOP \xff").unwrap_err().code, 500);
}

#[test]
fn parameters_are_read() {
    let mail = mail_of("mail from: <a@b.org>  size=7 body=8bitmime smtputf8 RET=hdrs ENVID=QQ314159+2B auth=<>");
    assert_eq!((mail.size, mail.utf8, mail.eight_bit), (Some(7), true, true));
    assert_eq!((mail.dsn.ret, mail.dsn.envid.as_deref()), (Some(ReturnPart::Headers), Some("QQ314159+")));
    let rcpt = rcpt_of("RCPT TO:<b@b.org> NOTIFY=success,DELAY ORCPT=rfc822;B+2B1@b.org");
    assert_eq!(rcpt.notify, Some(Notify { success: true, failure: false, delay: true }));
    assert_eq!(rcpt.original.as_deref(), Some("rfc822;B+1@b.org"));
}

/// Whatever we take, an independent parser reads as the same address.
#[test]
fn another_parser_agrees() {
    for line in [
        "MAIL FROM:<a@example.org>",
        "MAIL FROM:<> SIZE=12",
        "RCPT TO:<a.b+c@example.org> NOTIFY=NEVER",
        "RCPT TO:<\"a b\"@example.org>",
        "MAIL FROM:<a@example.org> RET=FULL ENVID=abc SMTPUTF8",
    ] {
        let wire = format!("{line}\r\n");
        let theirs = smtp_proto::Request::parse(&mut wire.as_bytes().iter()).unwrap();
        let theirs = match theirs {
            smtp_proto::Request::Mail { from } => from.address.to_string(),
            smtp_proto::Request::Rcpt { to } => to.address.to_string(),
            other => panic!("{other:?}"),
        };
        let ours = match parse(line.as_bytes()).unwrap() {
            Command::Mail(mail) => mail.from,
            Command::Rcpt(rcpt) => rcpt.to,
            other => panic!("{other:?}"),
        };
        let ours = match ours {
            Path::Mailbox { address, .. } => format!("{}@{}", address.local(), address.domain()),
            _ => String::new(),
        };
        assert_eq!(ours, theirs.replace('"', ""), "{line}");
    }
}

/// `special`, or a mailbox.
fn path(special: Path) -> impl Strategy<Value = Path> {
    prop_oneof![
        Just(special),
        ("[a-z\"\\\\ .δ%!]{1,12}", "[a-z]{1,8}\\.[a-z]{2,3}").prop_filter_map("an address", |(local, domain)| {
            let address = mesyx_sdk::MailAddress::new(&local, domain.parse().ok()?).ok()?;
            let utf8 = !address.to_string().is_ascii();
            Some(Path::Mailbox { address, utf8 })
        }),
    ]
}

proptest! {
    #[test]
    fn mail_round_trips(
        from in path(Path::Null),
        size in prop::option::of(any::<u64>()),
        utf8: bool,
        eight_bit: bool,
        ret in prop::option::of(prop_oneof![Just(ReturnPart::Full), Just(ReturnPart::Headers)]),
        envid in prop::option::of("[!-~]{1,100}"),
    ) {
        let utf8 = utf8 || matches!(from, Path::Mailbox { utf8: true, .. });
        let mail = Mail { from, size, utf8, eight_bit, dsn: Dsn { ret, envid } };
        prop_assert_eq!(mail_of(&mail.to_string()), mail);
    }

    #[test]
    fn rcpt_round_trips(
        to in path(Path::Postmaster),
        notify in prop::option::of((any::<bool>(), any::<bool>(), any::<bool>())),
        original in prop::option::of("[!-~ δ]{1,100}"),
    ) {
        let notify = notify.map(|(success, failure, delay)| Notify { success, failure, delay });
        let rcpt = Rcpt { to, notify, original: original.map(|text| format!("utf-8;{text}")) };
        prop_assert_eq!(rcpt_of(&rcpt.to_string()), rcpt);
    }

    #[test]
    fn nothing_panics(line in prop::collection::vec(any::<u8>(), 0..80), text in "(MAIL FROM:|RCPT TO:|BDAT |AUTH ?)\\PC{0,60}") {
        let _ = parse(&line);
        let _ = parse(text.as_bytes());
    }
}
