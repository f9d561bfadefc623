//! The client against a model of a server, and against servers that behave badly.

use super::client::{Client, End, Login, Need, Report, Said, Stage, StartTls};
use super::message::{Envelope, Message};
use super::simulate;
use bytes::Bytes;
use mesyx_sdk::{Address, Dsn, Notify, Recipient, ReturnPart, Secret};
use proptest::prelude::*;
use std::sync::Arc;

/// A server that keeps to the standard and says what it is told to.
struct Model {
    offers: Vec<&'static str>,
    /// What it says to each MAIL, RCPT, DATA, BDAT and content, one after the other; then yes.
    answers: Vec<u16>,
    next: usize,
    input: Vec<u8>,
    /// Bytes of BDAT that are still to come, or `usize::MAX` within DATA.
    content: Option<usize>,
    from: Option<String>,
    to: Vec<String>,
    commands: Vec<String>,
    /// Sender line, recipients and content of what it took.
    taken: Vec<(String, Vec<String>, Vec<u8>)>,
}

impl Model {
    fn new(offers: &[&'static str], answers: &[u16]) -> Self {
        Self {
            offers: offers.to_vec(),
            answers: answers.to_vec(),
            next: 0,
            input: Vec::new(),
            content: None,
            from: None,
            to: Vec::new(),
            commands: Vec::new(),
            taken: Vec::new(),
        }
    }

    fn answer(&mut self) -> u16 {
        let answer = self.answers.get(self.next).copied().unwrap_or(250);
        self.next += 1;
        answer
    }

    /// Takes what the client wrote and gives the answers.
    fn hear(&mut self, bytes: &[u8]) -> String {
        self.input.extend_from_slice(bytes);
        let mut said = String::new();
        loop {
            match self.content {
                Some(usize::MAX) => {
                    let whole = [b"\r\n", &self.input[..]].concat();
                    let Some(end) = whole.windows(5).position(|window| window == b"\r\n.\r\n") else { return said };
                    let lines = String::from_utf8(whole[2..end + 2].to_vec()).unwrap();
                    self.input.drain(..end + 3);
                    let content: String =
                        lines.split_inclusive("\r\n").map(|line| line.strip_prefix('.').unwrap_or(line)).collect();
                    said.push_str(&self.take(content.into_bytes()));
                }
                Some(size) => {
                    if self.input.len() < size {
                        return said;
                    }
                    let content = self.input.drain(..size).collect();
                    said.push_str(&self.take(content));
                }
                None => {
                    let Some(end) = self.input.windows(2).position(|window| window == b"\r\n") else { return said };
                    let line = String::from_utf8(self.input.drain(..end + 2).take(end).collect()).unwrap();
                    assert!(line.len() <= 1500 && !line.contains(['\r', '\n']), "{line:?}");
                    said.push_str(&self.command(&line));
                    self.commands.push(line);
                }
            }
        }
    }

    fn take(&mut self, content: Vec<u8>) -> String {
        self.content = None;
        let code = self.answer();
        let from = self.from.take().unwrap_or_default();
        let to = std::mem::take(&mut self.to);
        if code == 250 {
            self.taken.push((from, to, content));
        }
        format!("{code} {}.0.0 that was the content\r\n", code / 100)
    }

    fn command(&mut self, line: &str) -> String {
        let verb = line.split(' ').next().unwrap();
        match verb {
            "EHLO" => {
                let lines: Vec<_> = std::iter::once("model").chain(self.offers.iter().copied()).collect();
                let last = lines.len() - 1;
                let line = |(index, line)| format!("250{}{line}\r\n", if index == last { ' ' } else { '-' });
                lines.into_iter().enumerate().map(line).collect()
            }
            "MAIL" => match self.answer() {
                250 => {
                    assert!(self.from.is_none(), "MAIL within a transaction");
                    self.from = Some(line.to_owned());
                    "250 2.1.0 ok\r\n".to_owned()
                }
                code => format!("{code} {}.7.1 not from you\r\n", code / 100),
            },
            "RCPT" if self.from.is_none() => "503 5.5.1 MAIL first\r\n".to_owned(),
            "RCPT" => match self.answer() {
                250 => {
                    self.to.push(line.to_owned());
                    "250 2.1.5 ok\r\n".to_owned()
                }
                code => format!("{code} {}.1.1 nobody\r\n", code / 100),
            },
            "DATA" if self.to.is_empty() => "503 5.5.1 RCPT first\r\n".to_owned(),
            "DATA" => match self.answer() {
                250 => {
                    self.content = Some(usize::MAX);
                    "354 go on\r\n".to_owned()
                }
                code => format!("{code} no\r\n"),
            },
            "BDAT" => {
                assert!(self.offers.contains(&"CHUNKING") && !self.to.is_empty(), "BDAT unasked");
                let mut words = line.split(' ').skip(1);
                self.content = Some(words.next().unwrap().parse().unwrap());
                assert_eq!(words.next(), Some("LAST"));
                String::new()
            }
            "RSET" => {
                (self.from, self.to) = (None, Vec::new());
                "250 2.0.0 ok\r\n".to_owned()
            }
            "QUIT" => "221 2.0.0 bye\r\n".to_owned(),
            other => panic!("the model does not know {other}"),
        }
    }
}

/// Runs the client until it is idle or over; what the model says reaches it in pieces of `cut` bytes.
fn converse(client: &mut Client, model: &mut Model, waiting: &mut Vec<u8>, cut: usize) {
    loop {
        match client.need() {
            Need::Write => {
                let mut out = Vec::new();
                client.output(&mut out);
                waiting.extend_from_slice(model.hear(&out).as_bytes());
            }
            Need::Read(stage) => {
                assert!(!waiting.is_empty(), "both sides wait, for {stage:?}");
                let piece: Vec<u8> = waiting.drain(..cut.min(waiting.len())).collect();
                client.input(&piece);
            }
            Need::Handshake | Need::Nothing | Need::Close => return,
        }
    }
}

fn session(model: &mut Model, cut: usize) -> Client {
    let mut client = Client::new("mail.example.org", StartTls::IfOffered, None);
    let mut waiting = b"220 model ESMTP\r\n".to_vec();
    converse(&mut client, model, &mut waiting, cut);
    assert_eq!(client.need(), Need::Nothing, "{client:?}");
    client
}

fn send(client: &mut Client, model: &mut Model, envelope: Envelope, message: Message, cut: usize) -> Report {
    client.send(envelope, Arc::new(message));
    converse(client, model, &mut Vec::new(), cut);
    client.report().unwrap()
}

fn recipients(count: usize) -> Vec<Recipient> {
    (0..count).map(|index| Recipient::new(format!("r{index}@example.net").parse().unwrap())).collect()
}

fn envelope(to: Vec<Recipient>) -> Envelope {
    let from: Address = "alice@example.org".parse().unwrap();
    Envelope { from: from.as_mail().cloned(), dsn: Dsn::default(), to }
}

fn content(text: &str) -> Message {
    Message::new(Vec::new(), Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

const ALL: [&str; 6] = ["PIPELINING", "CHUNKING", "8BITMIME", "SMTPUTF8", "DSN", "SIZE 1000000"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever the server offers and says, it takes exactly what the client believes that it took.
    #[test]
    fn both_sides_agree_on_what_was_taken(
        offers in prop::sample::subsequence(ALL.to_vec(), 0..=6),
        answers in prop::collection::vec(prop_oneof![6 => Just(250_u16), 1 => Just(550_u16), 1 => Just(451_u16)], 0..80),
        messages in prop::collection::vec((1_usize..120, prop::collection::vec("[.a-z ]{0,8}", 0..20)), 1..4),
        cut in 1_usize..200,
    ) {
        let mut model = Model::new(&offers, &answers);
        let mut client = session(&mut model, cut);
        let mut expected = Vec::new();
        for (count, lines) in messages {
            let text: String = lines.iter().map(|line| format!("{line}\r\n")).collect::<String>() + "end\r\n";
            let report = send(&mut client, &mut model, envelope(recipients(count)), content(&text), cut);
            prop_assert_eq!(report.said.len(), count);
            let taken: Vec<_> = report.said.iter().enumerate().filter(|(_, said)| matches!(said, Said::Taken(_))).collect();
            if !taken.is_empty() {
                let to: Vec<_> = taken.iter().map(|(index, _)| format!("RCPT TO:<r{index}@example.net>")).collect();
                expected.push((to, text));
            }
            let odd = report.said.iter().any(|said| matches!(said, Said::Unheard { .. } | Said::Unable(_)));
            prop_assert!(!odd);
            prop_assert_eq!(client.need(), Need::Nothing);
        }
        let got: Vec<_> =
            model.taken.iter().map(|(_, to, content)| (to.clone(), String::from_utf8(content.clone()).unwrap())).collect();
        prop_assert_eq!(got, expected);
    }

    #[test]
    fn anything_a_server_says_is_survived(
        wish in any::<u8>(),
        cut in any::<u8>(),
        lines in prop::collection::vec(
            prop_oneof![
                6 => "(220|250|334|354|235|421|450|550)[ -][ -~]{0,12}\r\n".prop_map(String::into_bytes),
                2 => "250-(PIPELINING|CHUNKING|STARTTLS|AUTH PLAIN LOGIN|SIZE 5)\r\n".prop_map(String::into_bytes),
                1 => prop::collection::vec(any::<u8>(), 0..20),
            ],
            0..30,
        ),
    ) {
        simulate::fuzz(&[&[wish, cut][..], &lines.concat()].concat());
    }
}

#[test]
fn pipelining_saves_round_trips_and_keeps_a_window() {
    let mut model = Model::new(&["PIPELINING"], &[]);
    let mut client = session(&mut model, 1000);
    client.send(envelope(recipients(300)), Arc::new(content("x\r\n")));
    let (mut writes, mut waiting) = (0, Vec::new());
    while client.need() != Need::Nothing {
        match client.need() {
            Need::Write => {
                let mut out = Vec::new();
                client.output(&mut out);
                let answers = model.hear(&out);
                assert!(answers.lines().count() <= 50, "no more answers than fit");
                waiting.extend_from_slice(answers.as_bytes());
                writes += 1;
            }
            _ => client.input(&std::mem::take(&mut waiting)),
        }
    }
    assert_eq!(model.taken[0].1.len(), 300);
    assert!(writes < 20, "{writes} writes");
    let mut model = Model::new(&["PIPELINING"], &[]);
    let mut client = session(&mut model, 1000);
    client.send(envelope(recipients(2)), Arc::new(content("x\r\n")));
    let mut out = Vec::new();
    client.output(&mut out);
    let text = String::from_utf8(out).unwrap();
    assert_eq!(
        text,
        "MAIL FROM:<alice@example.org>\r\nRCPT TO:<r0@example.net>\r\nRCPT TO:<r1@example.net>\r\nDATA\r\n"
    );
}

#[test]
fn wishes_are_passed_on_where_the_server_knows_them() {
    let mut to = recipients(2);
    to[0].notify = Some(Notify { success: true, failure: true, delay: false });
    to[0].original = Some("rfc822;list+members@example.org".to_owned());
    to[1].notify = Some(Notify::default());
    to[1].original = Some("evil\r\n;x".to_owned());
    let mut wishes = envelope(to);
    wishes.dsn = Dsn { ret: Some(ReturnPart::Headers), envid: Some("id=1 2".to_owned()) };
    let text = "Subject: ä\r\n\r\nö\r\n";
    let mut model = Model::new(&ALL, &[]);
    let report = send(&mut session(&mut model, 99), &mut model, wishes.clone(), content(text), 99);
    assert!(report.dsn);
    assert_eq!(
        model.taken[0].0,
        "MAIL FROM:<alice@example.org> SIZE=19 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=id+3D1+202"
    );
    assert_eq!(
        model.taken[0].1,
        [
            "RCPT TO:<r0@example.net> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;list+2Bmembers@example.org",
            "RCPT TO:<r1@example.net> NOTIFY=NEVER",
        ]
    );
    let mut model = Model::new(&["8BITMIME"], &[]);
    let report = send(&mut session(&mut model, 99), &mut model, wishes, content("Subject: a\r\n\r\nö\r\n"), 99);
    assert!(!report.dsn);
    assert_eq!(model.taken[0].0, "MAIL FROM:<alice@example.org> BODY=8BITMIME");
    assert_eq!(model.taken[0].1[0], "RCPT TO:<r0@example.net>");
    let bounce = Envelope { from: None, ..envelope(recipients(1)) };
    let mut model = Model::new(&[], &[]);
    send(&mut session(&mut model, 99), &mut model, bounce, content("x\r\n"), 99);
    assert_eq!(model.taken[0].0, "MAIL FROM:<>");
}

#[test]
fn what_the_server_can_not_take_is_not_sent_to_it() {
    let unable = |offers: &[&'static str], to: Vec<Recipient>, text: &str| {
        let mut model = Model::new(offers, &[]);
        let mut client = session(&mut model, 99);
        let report = send(&mut client, &mut model, envelope(to), content(text), 99);
        assert_eq!(client.need(), Need::Nothing);
        let codes = report.said.iter().map(|said| match said {
            Said::Unable(why) => &why[..5],
            Said::Taken(_) => "taken",
            other => panic!("{other:?}"),
        });
        codes.collect::<Vec<_>>()
    };
    let mixed = vec![Recipient::new("δ@example.net".parse().unwrap()), recipients(1).remove(0)];
    assert_eq!(unable(&["8BITMIME"], mixed.clone(), "x\r\n"), ["5.6.7", "taken"]);
    assert_eq!(unable(&["8BITMIME", "SMTPUTF8"], mixed, "x\r\n"), ["taken", "taken"]);
    assert_eq!(unable(&["8BITMIME"], recipients(1), "Subject: ä\r\n\r\nx\r\n"), ["5.6.7"]);
    assert_eq!(unable(&[], recipients(2), "Subject: a\r\n\r\nä\r\n"), ["5.6.3", "5.6.3"]);
    assert_eq!(unable(&["SIZE 10"], recipients(1), "Subject: a\r\n\r\nx\r\n"), ["5.3.4"]);
    assert_eq!(unable(&["SIZE 0"], recipients(1), "Subject: a\r\n\r\nx\r\n"), ["taken"]);
    // A domain beyond ASCII is written in ASCII, which every server takes.
    let idn = vec![Recipient::new("a@bücher.example".parse().unwrap())];
    assert_eq!(unable(&[], idn, "x\r\n"), ["taken"]);
}

/// Says this to the client, line by line as it asks; the end.
fn script(client: &mut Client, lines: &[&str]) -> Vec<u8> {
    let mut written = Vec::new();
    let mut lines = lines.iter();
    loop {
        match client.need() {
            Need::Write => client.output(&mut written),
            Need::Read(_) => match lines.next() {
                Some(line) => client.input(line.as_bytes()),
                None => return written,
            },
            Need::Handshake => client.secured(),
            Need::Nothing | Need::Close => return written,
        }
    }
}

/// What a host says to each recipient is kept until all is said, and is in no budget.
#[test]
fn of_a_long_no_to_each_recipient_little_is_kept() {
    let mut client = Client::new("me", StartTls::Never, None);
    script(&mut client, &["220 hi\r\n", "250-x\r\n250 PIPELINING\r\n"]);
    let message = Arc::new(content("x\r\n"));
    client.send(envelope(recipients(100)), message);
    let long = format!("{}550 5.1.1 end\r\n", format!("550-5.1.1 {}\r\n", "x".repeat(4000)).repeat(199));
    let mut lines = vec!["250 ok\r\n"];
    lines.extend(std::iter::repeat_n(&long[..], 100));
    lines.extend(["503 nobody\r\n", "250 reset\r\n"]);
    script(&mut client, &lines);
    let report = client.report().unwrap();
    let kept: usize = report
        .said
        .iter()
        .map(|said| match said {
            Said::Refused(_, reply) => reply.lines.iter().map(|line| line.capacity()).sum::<usize>(),
            other => panic!("{other:?}"),
        })
        .sum();
    assert!(kept < 100 * 2048, "{kept} bytes");
}

#[test]
fn nothing_that_came_before_the_handshake_counts_after_it() {
    for injected in ["220 go\r\n250 evil\r\n", "220 go\r\n2", "220 go\r\n\r\n"] {
        for starttls in [StartTls::Always, StartTls::IfOffered] {
            let mut client = Client::new("me", starttls, None);
            script(&mut client, &["220 hi\r\n", "250-x\r\n250 STARTTLS\r\n", injected]);
            assert_eq!(client.need(), Need::Close);
            assert!(
                matches!(client.end(), Some(End::Injected | End::Malformed(_))),
                "{injected:?}: {:?}",
                client.end()
            );
        }
    }
    let mut client = Client::new("me", StartTls::Always, None);
    let written =
        script(&mut client, &["220 hi\r\n", "250-x\r\n250-PIPELINING\r\n250 STARTTLS\r\n", "220 go\r\n", "250 x\r\n"]);
    assert_eq!(written, b"EHLO me\r\nSTARTTLS\r\nEHLO me\r\n");
    assert!(!client.offers().pipelining && !client.offers().starttls, "what was offered before is forgotten");
    assert_eq!(client.need(), Need::Nothing);
}

#[test]
fn without_tls_there_is_no_login_and_no_mail_where_it_is_needed() {
    let login = || Some(Login { name: "alice".to_owned(), password: Secret::from("secret".to_owned()) });
    let mut client = Client::new("me", StartTls::Always, login());
    assert_eq!(script(&mut client, &["220 hi\r\n", "250-x\r\n250 AUTH PLAIN\r\n"]), b"EHLO me\r\n");
    assert_eq!(client.end(), Some(&End::NoTls));
    let mut client = Client::new("me", StartTls::Always, None);
    script(&mut client, &["220 hi\r\n", "250 STARTTLS\r\n", "454 4.7.0 no\r\n"]);
    assert_eq!(client.end(), Some(&End::NoTls), "EHLO's first line names the server");
    let mut client = Client::new("me", StartTls::Always, None);
    script(&mut client, &["220 hi\r\n", "250-x\r\n250 STARTTLS\r\n", "454 4.7.0 no\r\n"]);
    assert!(matches!(client.end(), Some(End::TlsRefused(_))));
    let mut client = Client::new("me", StartTls::IfOffered, None);
    script(&mut client, &["220 hi\r\n", "250-x\r\n250 STARTTLS\r\n", "454 4.7.0 no\r\n"]);
    assert_eq!(client.need(), Need::Nothing);
}

#[test]
fn both_ways_to_log_in_work() {
    let client = || {
        Client::new(
            "me",
            StartTls::Never,
            Some(Login { name: "alice".into(), password: Secret::from("secret".to_owned()) }),
        )
    };
    let mut plain = client();
    let written = script(&mut plain, &["220 hi\r\n", "250-x\r\n250 AUTH LOGIN PLAIN\r\n", "235 2.7.0 yes\r\n"]);
    assert_eq!(written, b"EHLO me\r\nAUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n");
    assert_eq!(plain.need(), Need::Nothing);
    let mut old = client();
    let lines =
        ["220 hi\r\n", "250-x\r\n250 AUTH=LOGIN\r\n", "334 VXNlcm5hbWU6\r\n", "334 UGFzc3dvcmQ6\r\n", "235 yes\r\n"];
    assert_eq!(script(&mut old, &lines), b"EHLO me\r\nAUTH LOGIN\r\nYWxpY2U=\r\nc2VjcmV0\r\n");
    assert_eq!(old.need(), Need::Nothing);
    let mut refused = client();
    script(&mut refused, &["220 hi\r\n", "250-x\r\n250 AUTH PLAIN\r\n", "535 5.7.8 no\r\n"]);
    assert!(matches!(refused.end(), Some(End::LoginRefused(_))));
    let mut other = client();
    script(&mut other, &["220 hi\r\n", "250-x\r\n250 AUTH CRAM-MD5\r\n"]);
    assert_eq!(other.end(), Some(&End::NoLogin));
    assert!(!format!("{:?} {plain:?}", client()).contains("secret"));
}

#[test]
fn a_session_that_is_refused_says_so() {
    for (lines, stage) in [
        (&["554 5.7.1 no service\r\n"][..], Stage::Greeting),
        (&["421 busy\r\n"], Stage::Greeting),
        (&["220 hi\r\n", "450 later\r\n"], Stage::Ehlo),
        (&["220 hi\r\n", "500 what\r\n", "550 no\r\n"], Stage::Helo),
    ] {
        let mut client = Client::new("me", StartTls::IfOffered, None);
        script(&mut client, lines);
        assert!(matches!(client.end(), Some(End::Refused(at, _)) if *at == stage), "{lines:?}: {:?}", client.end());
    }
    let mut old = Client::new("me", StartTls::IfOffered, None);
    assert_eq!(script(&mut old, &["220 hi\r\n", "502 what\r\n", "250 x\r\n"]), b"EHLO me\r\nHELO me\r\n");
    assert_eq!(old.need(), Need::Nothing);
}

fn ready(offers: &str) -> Client {
    let mut client = Client::new("me", StartTls::Never, None);
    script(&mut client, &["220 hi\r\n", offers]);
    let (envelope, message) = simulate::message();
    client.send(envelope, message);
    client
}

#[test]
fn only_silence_after_the_whole_message_may_mean_that_it_was_taken() {
    let unheard = |maybe_sent| vec![Said::Unheard { maybe_sent }; 2];
    let mut client = ready("250 x\r\n");
    script(&mut client, &["250 ok\r\n", "250 ok\r\n", "250 ok\r\n", "354 go\r\n"]);
    client.lost("cut");
    assert_eq!(client.report().unwrap().said, unheard(true));
    let mut client = ready("250 x\r\n");
    script(&mut client, &["250 ok\r\n", "250 ok\r\n", "250 ok\r\n"]);
    client.lost("cut");
    assert_eq!(client.report().unwrap().said, unheard(false));
    let mut client = ready("250 x\r\n");
    script(&mut client, &["250 ok\r\n", "250 ok\r\n", "250 ok\r\n"]);
    // It answers 354 and is gone before anything of the message is written.
    client.input(b"354 go\r\n");
    client.lost("cut");
    assert_eq!(client.report().unwrap().said, unheard(false));
    let mut client = ready("250-x\r\n250 CHUNKING\r\n");
    script(&mut client, &["250 ok\r\n", "250 ok\r\n", "250 ok\r\n"]);
    client.lost("cut");
    assert_eq!(client.report().unwrap().said, unheard(true));
}

#[test]
fn a_server_that_breaks_off_is_believed() {
    let mut client = ready("250-x\r\n250 PIPELINING\r\n");
    script(&mut client, &["250 ok\r\n", "550 5.1.1 nobody\r\n", "421 4.3.2 going down\r\n"]);
    let said = client.report().unwrap().said;
    assert!(matches!(&said[0], Said::Refused(Stage::Rcpt(0), reply) if reply.code == 550));
    assert!(matches!(&said[1], Said::Refused(Stage::Rcpt(1), reply) if reply.code == 421));
    assert_eq!(client.need(), Need::Close);
    // All were refused, and it wants the message all the same: it gets nothing, not even a dot.
    let mut client = ready("250-x\r\n250 PIPELINING\r\n");
    let written = script(&mut client, &["250 ok\r\n", "550 no\r\n", "550 no\r\n", "354 go\r\n"]);
    assert_eq!(client.end(), Some(&End::Abandoned));
    assert!(written.ends_with(b"DATA\r\n"));
    assert!(client.report().unwrap().said.iter().all(|said| matches!(said, Said::Refused(Stage::Rcpt(_), _))));
    // An answer to nothing.
    let mut client = Client::new("me", StartTls::Never, None);
    script(&mut client, &["220 hi\r\n", "250 x\r\n250 y\r\n"]);
    assert!(matches!(client.end(), Some(End::Malformed(_))));
}
