use super::super::simulate::{self, converse, settings};
use super::*;
use mesyx_sdk::{ByteBudget, RecipientStatus};
use proptest::prelude::*;
use std::net::Ipv4Addr;

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The codes after the greeting.
fn codes(role: Role, text: &str) -> Vec<u16> {
    converse(&settings(role), &[text.as_bytes()]).codes()[1..].to_vec()
}

fn mx(text: &str) -> Vec<u16> {
    codes(Role::Mx, &format!("EHLO peer\r\n{text}"))[1..].to_vec()
}

fn submission(text: &str) -> Vec<u16> {
    let login = sasl::plain_response("alice", "secret");
    codes(Role::Submission, &format!("EHLO peer\r\nAUTH PLAIN {login}\r\n{text}"))[2..].to_vec()
}

#[test]
fn a_message_comes_in() {
    let text = "EHLO peer.example\r\nMAIL FROM:<a@b.org> RET=HDRS ENVID=id\r\nRCPT TO:<alice@example.org> NOTIFY=NEVER \
        ORCPT=rfc822;x@y.z\r\nDATA\r\nSubject: x\r\n\r\n..dot\r\n.\r\nQUIT\r\n";
    let transcript = converse(&settings(Role::Mx), &[text.as_bytes()]);
    assert_eq!(transcript.codes(), [220, 250, 250, 250, 354, 250, 221]);
    assert_eq!(transcript.bodies(), [b"Subject: x\r\n\r\n.dot\r\n"]);
    let envelope = &transcript.taken[0].0;
    let content = String::from_utf8(envelope.content.to_vec()).unwrap();
    assert!(
        content.starts_with("Return-Path: <a@b.org>\r\nReceived: from peer.example\r\n\t([127.0.0.1])\r\n"),
        "{content}"
    );
    assert!(content.contains("with ESMTP\r\n"));
    assert_eq!(envelope.dsn.envid.as_deref(), Some("id"));
    assert_eq!(envelope.to[0].notify, Some(Default::default()));
    assert_eq!(envelope.to[0].original.as_deref(), Some("rfc822;x@y.z"));
    assert_eq!(envelope.dedup, None);
}

#[test]
fn commands_out_of_order() {
    assert_eq!(codes(Role::Mx, "MAIL FROM:<a@b.org>\r\nDATA\r\nRCPT TO:<alice@example.org>\r\n"), [503, 503, 503]);
    assert_eq!(mx("MAIL FROM:<a@b.org>\r\nMAIL FROM:<a@b.org>\r\nDATA\r\nRSET\r\nDATA\r\n"), [250, 503, 554, 250, 503]);
    assert_eq!(mx("AUTH PLAIN\r\nSTARTTLS\r\nEXPN x\r\nVRFY x\r\nHELP\r\nFOO\r\n"), [502, 502, 502, 252, 214, 500]);
}

#[test]
fn strangers_reach_our_recipients_only() {
    let mail = "MAIL FROM:<a@b.org> SMTPUTF8\r\n";
    for (to, code) in [
        ("alice@example.org", 250),
        ("Postmaster", 250),
        ("@b.org,@c.org:alice@example.org", 250),
        ("\"alice\"@example.org", 250),
        ("δ@example.org", 250),
        ("nobody@example.org", 550),
        ("x@other.example", 550),
        ("@example.org:x@other.example", 550),
        ("x%other.example@example.org", 550),
        ("other.example!x@example.org", 550),
        ("\"x@other.example\"@example.org", 550),
        ("\"x%other.example\"@example.org", 550),
        ("δ@other.example", 550),
        ("x@[127.0.0.1]", 550),
        ("x@other.example@example.org", 501),
        ("example.org:x@other.example", 501),
        ("", 501),
    ] {
        assert_eq!(mx(&format!("{mail}RCPT TO:<{to}>\r\n")), [250, code], "{to}");
    }
}

#[test]
fn addresses_beyond_ascii_need_smtputf8() {
    assert_eq!(mx("MAIL FROM:<a@b.org>\r\nRCPT TO:<δ@example.org>\r\n"), [250, 553]);
    assert_eq!(mx("MAIL FROM:<δ@b.org>\r\n"), [553]);
}

/// CVE-2023-51764 and its kin: no variant of a false end gives two messages, nor one with what was hidden.
#[test]
fn smuggling_gives_no_message_at_all() {
    let ends = [
        "\n.\n",
        "\n.\r\n",
        "\r.\r\n",
        "\r.\r",
        "\r\n.\n",
        "\r\n.\r",
        "\n.\r",
        "\r.\n",
        "\r\n.\r\r\n",
        "\r\r\n.\r\r\n",
        "\r\n.\0\r\n",
        "\r\n\0.\r\n",
    ];
    for end in ends {
        let hidden = "MAIL FROM:<evil@b.org>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\nhidden\r\n.\r\n";
        let text = format!(
            "EHLO p\r\nMAIL FROM:<a@b.org>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\nSubject: x\r\n\r\nx{end}{hidden}NOOP\r\n"
        );
        let transcript = converse(&settings(Role::Mx), &[text.as_bytes()]);
        assert!(transcript.taken.is_empty(), "{end:?}");
        // A NUL makes no false end for anybody; after any other the connection ends, and NOOP is not run.
        let after: &[u16] = if end.contains('\0') { &[250] } else { &[] };
        assert_eq!(transcript.codes(), [&[220, 250, 250, 250, 354, 554], after].concat(), "{end:?}");
        assert_eq!(transcript.closed, after.is_empty(), "{end:?}");
    }
}

#[test]
fn bare_line_ends_in_commands_end_the_connection() {
    for bad in ["NOOP\nQUIT\r\n", "NOOP\rQUIT\r\n", "MAIL FROM:<a@b.org>\nRCPT TO:<alice@example.org>\r\n"] {
        let transcript = converse(&settings(Role::Mx), &[format!("EHLO p\r\n{bad}").as_bytes()]);
        assert_eq!(transcript.codes(), [220, 250, 500], "{bad:?}");
        assert!(transcript.closed);
    }
}

#[test]
fn chunks() {
    let start = "MAIL FROM:<a@b.org>\r\nRCPT TO:<alice@example.org>\r\n";
    assert_eq!(
        mx(&format!("{start}BDAT 3\r\na\r\nBDAT 0\r\nBDAT 3 LAST\r\n.\r\nNOOP\r\n")),
        [250, 250, 250, 250, 250, 250]
    );
    assert_eq!(mx(&format!("{start}BDAT 0 LAST\r\n")), [250, 250, 250]);
    assert_eq!(mx(&format!("{start}BDAT 2\r\na\nBDAT 3 LAST\r\nb\r\nNOOP\r\n")), [250, 250, 554, 503, 250]);
    assert_eq!(mx(&format!("{start}BDAT 2\r\na\rBDAT 1 LAST\r\n\nNOOP\r\n")), [250, 250, 250, 250, 250]);
    assert_eq!(mx(&format!("{start}BDAT 2 LAST\r\na\rNOOP\r\n")), [250, 250, 554, 250]);
    assert_eq!(mx(&format!("{start}BDAT 2\r\n\r\nDATA\r\nRCPT TO:<bob@example.org>\r\n")), [250, 250, 250, 503, 503]);
    // Without a transaction the bytes are read all the same: QUIT in them is no command.
    assert_eq!(mx("BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n"), [503, 250]);
    let transcript = converse(&settings(Role::Mx), &[format!("EHLO p\r\n{start}BDAT 10001\r\n").as_bytes()]);
    assert_eq!(transcript.codes().last(), Some(&552));
    assert!(transcript.closed);
}

#[test]
fn sizes() {
    let start = "MAIL FROM:<a@b.org>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n";
    assert_eq!(mx("MAIL FROM:<a@b.org> SIZE=10000\r\nRSET\r\nMAIL FROM:<a@b.org> SIZE=10001\r\n"), [250, 250, 552]);
    let long = "x".repeat(998) + "\r\n";
    assert_eq!(mx(&format!("{start}{}.\r\nNOOP\r\n", long.repeat(10))), [250, 250, 354, 250, 250]);
    assert_eq!(mx(&format!("{start}{}x\r\n.\r\nNOOP\r\n", long.repeat(10))), [250, 250, 354, 552, 250]);
    assert_eq!(mx(&format!("NOOP {}\r\nNOOP\r\n", "x".repeat(600))), [500, 250]);
}

#[test]
fn an_endless_message_ends_the_connection() {
    let line = "x".repeat(998) + "\r\n";
    let text = format!("EHLO p\r\nMAIL FROM:<a@b.org>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n{}", line.repeat(2000));
    let pieces: Vec<_> = text.as_bytes().chunks(4096).collect();
    let transcript = converse(&settings(Role::Mx), &pieces);
    assert_eq!(transcript.codes().last(), Some(&552));
    assert!(transcript.closed && transcript.taken.is_empty());
}

#[test]
fn a_spent_budget_is_452_and_given_back() {
    let mut settings = settings(Role::Mx);
    Arc::get_mut(&mut settings).unwrap().budget = ByteBudget::new(4096);
    let text = "EHLO p\r\nMAIL FROM:<a@b.org>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\nx\r\n.\r\nMAIL FROM:<a@b.org> SIZE=9000\r\n";
    assert_eq!(converse(&settings, &[text.as_bytes()]).codes(), [220, 250, 250, 250, 354, 452, 452]);
    assert_eq!(settings.budget.available(), 4096);
}

#[test]
fn a_bare_line_end_behind_another_refusal_ends_the_connection_too() {
    let text = "EHLO p\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n\0\r\nx\n.\r\n\r\n.\r\nNOOP\r\n";
    let transcript = converse(&settings(Role::Mx), &[text.as_bytes()]);
    assert_eq!(transcript.codes(), [220, 250, 250, 250, 354, 554]);
    assert!(transcript.closed);
}

#[test]
fn white_space_in_front_does_not_continue_our_headers() {
    for white in [" ", "\t"] {
        let text = format!("RCPT TO:<alice@example.org>\r\nDATA\r\n{white}x\r\n\r\nx\r\n.\r\n");
        assert_eq!(mx(&format!("MAIL FROM:<>\r\n{text}")), [250, 250, 354, 554]);
        assert_eq!(submission(&format!("MAIL FROM:<alice@example.org>\r\n{text}")), [250, 250, 354, 554]);
    }
}

#[test]
fn headers_without_end_are_refused() {
    let mut settings = settings(Role::Submission);
    Arc::get_mut(&mut settings).unwrap().limits.message_size = 100_000;
    let login = sasl::plain_response("alice", "secret");
    let text = format!(
        "EHLO p\r\nAUTH PLAIN {login}\r\nMAIL FROM:<alice@example.org>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n{}.\r\n",
        "a:b\r\n".repeat(10_001)
    );
    assert_eq!(converse(&settings, &[text.as_bytes()]).codes(), [220, 250, 235, 250, 250, 354, 554]);
}

#[test]
fn one_stranger_gets_a_quarter_of_the_budget() {
    let mut settings = settings(Role::Mx);
    Arc::get_mut(&mut settings).unwrap().budget = ByteBudget::new(64 << 10);
    let half = format!("EHLO p\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n{}", "x".repeat(8000));
    let mut senders = Vec::new();
    for ip in [[192, 0, 2, 1], [192, 0, 2, 1], [192, 0, 2, 2]] {
        let mut session = Session::new(Arc::clone(&settings), ip.into(), None, false, false);
        let mut input = half.as_bytes();
        while let Step::Recipient(_) = session.advance(&mut input, Timestamp(0)) {
            session.answer(Answer::Recipient(Ok(RecipientStatus::Local)));
        }
        session.output().clear();
        senders.push(session);
    }
    let end = |session: &mut Session| {
        let taken = matches!(session.advance(&mut &b"\r\n.\r\n"[..], Timestamp(0)), Step::Take(_));
        (taken, session.output().starts_with(b"452 4.3.1"))
    };
    assert_eq!(end(&mut senders[1]), (false, true), "the second from the same address");
    assert_eq!(end(&mut senders[2]), (true, false), "another address");
    assert_eq!(end(&mut senders[0]), (true, false), "the first");
    drop(senders);
    assert_eq!(settings.budget.available(), settings.budget.total());
}

#[test]
fn a_sender_is_refused_for_good_only_where_that_is_known() {
    assert_eq!(submission("MAIL FROM:<bob@example.org>\r\nMAIL FROM:<away@example.org>\r\n"), [550, 451]);
}

#[test]
fn recipients_are_limited_and_told_once() {
    let mut settings = settings(Role::Mx);
    Arc::get_mut(&mut settings).unwrap().limits.recipients = 1;
    let text = "EHLO p\r\nMAIL FROM:<a@b.org>\r\nRCPT TO:<alice@example.org>\r\nRCPT TO:<bob@example.org>\r\n";
    assert_eq!(converse(&settings, &[text.as_bytes()]).codes(), [220, 250, 250, 250, 452]);
    let twice = "EHLO p\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\nRCPT TO:<alice@EXAMPLE.org>\r\nDATA\r\n.\r\n";
    let transcript = converse(&simulate::settings(Role::Mx), &[twice.as_bytes()]);
    assert_eq!(transcript.taken[0].0.to.len(), 1);
    assert_eq!(transcript.taken[0].0.from, None);
}

#[test]
fn too_many_errors_commands_or_bytes_end_the_connection() {
    let errors = converse(&settings(Role::Mx), &["FOO\r\n".repeat(30).as_bytes()]);
    assert_eq!(errors.codes().len(), 1 + 20 + 1);
    let commands = converse(&settings(Role::Mx), &["NOOP\r\n".repeat(60).as_bytes()]);
    assert_eq!(commands.codes().len(), 1 + 50 + 1);
    let rcpt = format!("RCPT TO:<alice@example.org> ORCPT=rfc822;{}\r\n", "x".repeat(490));
    let text = format!("EHLO p\r\nMAIL FROM:<>\r\n{}", rcpt.repeat(200));
    let bytes = converse(&settings(Role::Mx), &[text.as_bytes()]);
    for transcript in [errors, commands, bytes] {
        assert_eq!(transcript.codes().last(), Some(&421));
        assert!(transcript.closed);
    }
}

#[test]
fn a_line_that_never_ends_is_cut_off() {
    let piece = [b'x'; 4096];
    let transcript = converse(&settings(Role::Mx), &[&piece[..]; 100]);
    assert_eq!(transcript.codes(), [220, 421]);
}

#[test]
fn a_message_in_a_circle_is_refused() {
    let message = |count| format!("{}\r\nx\r\n.\r\n", "Received: x\r\n".repeat(count));
    let start = "MAIL FROM:<a@b.org>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n";
    assert_eq!(mx(&format!("{start}{}", message(50))), [250, 250, 354, 250]);
    assert_eq!(mx(&format!("{start}{}", message(51))), [250, 250, 354, 554]);
}

#[test]
fn an_http_request_ends_the_connection() {
    let transcript = converse(&settings(Role::Mx), &[b"POST / HTTP/1.1\r\nHost: x\r\n\r\nEHLO p\r\n"]);
    assert_eq!(transcript.codes(), [220, 500, 421]);
}

#[test]
fn hosts_refusals_are_passed_on() {
    assert_eq!(
        mx("MAIL FROM:<a@b.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\nx\r\n.\r\nNOOP\r\n"),
        [250, 250, 354, 452, 250]
    );
}

#[test]
fn users_log_in_first_and_write_as_themselves() {
    assert_eq!(codes(Role::Submission, "EHLO p\r\nMAIL FROM:<alice@example.org>\r\n"), [250, 530]);
    assert_eq!(submission("MAIL FROM:<bob@example.org>\r\nMAIL FROM:<alice@example.org>\r\n"), [550, 250]);
    assert_eq!(submission("MAIL FROM:<alice@example.org>\r\nRCPT TO:<x@other.example>\r\n"), [250, 550]);
    assert_eq!(submission("AUTH PLAIN\r\n"), [503]);
    let wrong = format!("AUTH PLAIN {}\r\n", sasl::plain_response("alice", "wrong"));
    let guesses = codes(Role::Submission, &format!("EHLO p\r\n{}", wrong.repeat(10)));
    assert_eq!(guesses, [250, 535, 535, 535, 535, 535, 421]);
    let login = "EHLO p\r\nAUTH LOGIN\r\nYWxpY2U=\r\nc2VjcmV0\r\nMAIL FROM:<alice@example.org>\r\n";
    assert_eq!(codes(Role::Submission, login), [250, 334, 334, 235, 250]);
    let cancelled = "EHLO p\r\nAUTH LOGIN\r\n*\r\nAUTH CRAM-MD5\r\nHELO p\r\nAUTH PLAIN\r\n";
    assert_eq!(codes(Role::Submission, cancelled), [250, 334, 501, 504, 250, 503]);
}

#[test]
fn a_submission_is_completed() {
    let login = sasl::plain_response("alice", "secret");
    let text = format!(
        "EHLO p\r\nAUTH PLAIN {login}\r\nMAIL FROM:<alice@example.org>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n\
         From: alice@example.org\r\nBcc: bob@example.org\r\n\r\nx\r\n.\r\n"
    );
    let transcript = converse(&settings(Role::Submission), &[text.as_bytes()]);
    let body = String::from_utf8(transcript.bodies().remove(0)).unwrap();
    assert!(body.starts_with("Date: Sun, 22 Nov 2026 22:37:44 +0000\r\nMessage-ID: <"), "{body}");
    assert!(body.ends_with("@mail.example.org>\r\nFrom: alice@example.org\r\n\r\nx\r\n"), "{body}");
    assert_eq!(transcript.taken[0].0.origin.authenticated, Some(UserId([1; 16])));
}

#[test]
fn starttls_forgets_what_came_before_and_refuses_what_came_along() {
    let session = |role| Session::new(settings(role), LOCAL, None, true, false);
    let injected = simulate::run(session(Role::Mx), &[b"EHLO p\r\nSTARTTLS\r\nNOOP\r\n", b"NOOP\r\n"]);
    assert_eq!(injected.codes(), [220, 250, 501]);
    assert!(injected.closed);
    let done = simulate::run(
        session(Role::Submission),
        &[b"EHLO p\r\nAUTH PLAIN\r\nSTARTTLS\r\n", b"MAIL FROM:<a@b.org>\r\nEHLO p\r\nSTARTTLS\r\nAUTH PLAIN\r\n"],
    );
    assert_eq!(done.codes(), [220, 250, 538, 220, 503, 250, 503, 334]);
    let hello = String::from_utf8(done.output).unwrap();
    let (before, after) = hello.split_once("begin TLS").unwrap();
    assert!(before.contains("STARTTLS") && !before.contains("AUTH PLAIN LOGIN"), "{before}");
    assert!(
        !after.contains("250-STARTTLS") && !after.contains("250 STARTTLS") && after.contains("AUTH PLAIN LOGIN"),
        "{after}"
    );
}

#[test]
fn a_stop_ends_the_idle_at_once_and_the_busy_after_their_message() {
    let mut idle = Session::new(settings(Role::Mx), LOCAL, None, false, false);
    assert!(idle.stop());
    assert!(matches!(idle.advance(&mut &b"NOOP\r\n"[..], Timestamp(0)), Step::Close));
    let mut busy = Session::new(settings(Role::Mx), LOCAL, None, false, false);
    let mut input = &b"EHLO p\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\n"[..];
    assert!(matches!(busy.advance(&mut input, Timestamp(0)), Step::Recipient(_)));
    busy.answer(Answer::Recipient(Ok(RecipientStatus::Local)));
    let mut input = &b"DATA\r\nx"[..];
    assert!(matches!(busy.advance(&mut input, Timestamp(0)), Step::Read));
    assert!(!busy.stop());
    let mut input = &b"\r\n.\r\nNOOP\r\n"[..];
    let Step::Take(incoming) = busy.advance(&mut input, Timestamp(0)) else { panic!() };
    busy.output().clear();
    busy.answer(Answer::Taken(Ok(Accepted { id: incoming.envelope.id, duplicate: false })));
    assert!(matches!(busy.advance(&mut input, Timestamp(0)), Step::Close));
    let said = String::from_utf8(busy.output().clone()).unwrap();
    assert!(said.starts_with("250 ") && said.contains("\r\n421 4.3.2"), "{said}");
}

#[test]
fn names_that_could_inject_are_refused() {
    assert_eq!(codes(Role::Mx, "EHLO a b\r\nEHLO a(b\r\nHELO\r\nEHLO [127.0.0.1]\r\n"), [501, 501, 501, 250]);
}

proptest! {
    #[test]
    fn any_cutting_gives_the_same_conversation(
        role in 0_u8..2,
        cut in 0_u8..40,
        text in prop::collection::vec(prop_oneof![
            4 => Just("EHLO p\r\n"), 4 => Just("MAIL FROM:<alice@example.org>\r\n"), 4 => Just("RCPT TO:<alice@example.org>\r\n"),
            3 => Just("DATA\r\n"), 4 => Just("text\r\n"), 4 => Just(".\r\n"), 2 => Just("BDAT 6 LAST\r\n"), 2 => Just("BDAT 7\r\n"),
            2 => Just("AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n"), 1 => Just("AUTH LOGIN\r\n"), 1 => Just("RSET\r\n"), 1 => Just("\r\n"),
            1 => Just("\n"), 1 => Just("."), 1 => Just("\r"), 1 => Just("\0"),
        ], 0..30),
    ) {
        let mut data = vec![role, cut];
        data.extend(text.concat().bytes());
        simulate::fuzz(&data);
    }

    #[test]
    fn any_bytes_are_survived(data in prop::collection::vec(any::<u8>(), 0..300)) {
        simulate::fuzz(&data);
    }
}
