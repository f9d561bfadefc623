//! What becomes of a message, as the host says.

use crate::lab::{CONTENT, Lab, deferred, delivered, failed, job};
use crate::sink::{Act, Manner};
use mesyx_sdk::{Outcome, Timestamp};
use serde_json::json;
use std::sync::Arc;
use std::time::Instant;

fn deciding(decide: impl Fn(&str, &crate::sink::Heard) -> Option<Act> + Send + Sync + 'static) -> Manner {
    Manner { decide: Arc::new(decide), ..Manner::default() }
}

fn say(text: &str) -> Option<Act> {
    Some(Act::Say(text.to_owned()))
}

#[tokio::test]
async fn every_recipient_has_an_outcome_of_its_own() {
    let lab = Lab::new();
    let sink = lab
        .only(deciding(|line, _| match line {
            "RCPT TO:<none@example.net>" => say("550 5.1.1 no such user"),
            "RCPT TO:<full@example.net>" => say("452 4.2.2 mailbox full"),
            "RCPT TO:<gray@example.net>" => say("450-4.7.1 come back\r\n450 4.7.1 later"),
            _ => None,
        }))
        .await;
    let to = ["a@example.net", "none@example.net", "full@example.net", "b@example.net", "gray@example.net"];
    let outcomes = lab.sender(json!({})).send(&to).await;
    assert!(delivered(&outcomes[0]) && delivered(&outcomes[3]), "{outcomes:?}");
    assert_eq!(outcomes[0], Outcome::Delivered { remote_id: Some("Ok: queued as 1".into()), dsn: true });
    assert_eq!(failed(&outcomes[1]), "5.1.1 mx2.example.net [127.0.0.2] said to RCPT: 550 5.1.1 no such user");
    assert!(deferred(&outcomes[2]).0.starts_with("4.2.2 mx2"));
    let (why, host, maybe) = deferred(&outcomes[4]);
    assert!(why.ends_with("450 4.7.1 come back 4.7.1 later") && !host && !maybe, "{why}");
    assert_eq!(sink.taken().len(), 1, "in one transaction");
    assert_eq!(sink.taken()[0].to, ["RCPT TO:<a@example.net>", "RCPT TO:<b@example.net>"]);
}

#[tokio::test]
async fn recipients_that_are_too_many_go_in_the_next_message() {
    let lab = Lab::new();
    let sink = lab
        .only(deciding(|line, heard| {
            let since = heard.commands.iter().rev().take_while(|line| !line.starts_with("MAIL")).count();
            (line.starts_with("RCPT") && since > 2).then(|| Act::Say("452 4.5.3 too many recipients".into()))
        }))
        .await;
    let to: Vec<String> = (0..7).map(|index| format!("r{index}@example.net")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let outcomes = lab.sender(json!({})).send(&to).await;
    assert!(outcomes.iter().all(delivered), "{outcomes:?}");
    assert_eq!(sink.taken().iter().map(|taken| taken.to.len()).collect::<Vec<_>>(), [2, 2, 2, 1]);
    assert_eq!(sink.connections(), 1);
}

#[tokio::test]
async fn refusals_of_the_whole_message_hold_for_all() {
    for (command, text, status) in [
        ("MAIL", "550 5.7.1 not from you", "5.7.1"),
        ("DATA", "554 no valid recipients", "5.0.0"),
        (".", "554 5.7.1 spam", "5.7.1"),
    ] {
        let lab = Lab::new();
        let sink = lab.only(deciding(move |line, _| line.starts_with(command).then(|| Act::Say(text.into())))).await;
        let sender = lab.sender(json!({}));
        for outcome in sender.send(&["a@example.net", "b@example.net"]).await {
            assert!(failed(&outcome).starts_with(status), "{command}: {outcome:?}");
        }
        assert!(sink.taken().is_empty());
    }
}

#[tokio::test]
async fn a_host_that_is_busy_is_put_off_as_a_host() {
    for (greeting, command, text) in [
        (Some("421 4.3.2 too busy"), "", ""),
        (Some("554 5.7.1 not welcome"), "", ""),
        (None, "EHLO", "451 4.3.0 not now"),
        (None, "MAIL", "421 4.7.0 slow down"),
        (None, "RCPT", "421 4.7.0 slow down"),
    ] {
        let lab = Lab::new();
        let mut manner =
            deciding(move |line, _| (!command.is_empty() && line.starts_with(command)).then(|| Act::Last(text.into())));
        if let Some(text) = greeting {
            manner.greeting = Act::Last(text.into());
        }
        lab.only(manner).await;
        let outcome = lab.sender(json!({})).one("bob@example.net").await;
        let (why, host, maybe) = deferred(&outcome);
        assert!(host && !maybe && why.starts_with('4'), "{command}: {outcome:?}");
        assert!(why.contains(greeting.unwrap_or(text)), "{why}");
    }
}

#[tokio::test]
async fn the_next_host_is_asked_unless_this_one_may_have_the_message() {
    for (at, act, elsewhere) in [
        (".", Act::Drop, false),
        ("DATA", Act::Drop, true),
        ("RCPT", Act::Drop, true),
        ("MAIL", Act::Last("421 bye".into()), true),
        (".", Act::Say("451 4.3.0 try again".into()), true),
        ("RCPT", Act::Say("450 4.2.0 greylisted".into()), true),
    ] {
        let lab = Lab::new();
        lab.zone.mx("example.net", 10, "mx2.example.net").mx("example.net", 20, "mx3.example.net");
        let what = match &act {
            Act::Drop => "hanging up".to_owned(),
            Act::Say(text) | Act::Last(text) => text.clone(),
            Act::Silent => String::new(),
        };
        let first = lab.sink(2, deciding(move |line, _| line.starts_with(at).then(|| act.clone()))).await;
        let second = lab.sink(3, Manner::default()).await;
        let outcome = lab.sender(json!({})).one("bob@example.net").await;
        assert_eq!(delivered(&outcome), elsewhere, "{what} at {at}: {outcome:?}");
        assert_eq!(second.taken().len(), usize::from(elsewhere), "{what} at {at}");
        assert_eq!(first.taken().len(), 0);
        if !elsewhere {
            let (why, host, maybe) = deferred(&outcome);
            assert!(maybe && !host && why.starts_with("4.4.2"), "{why}");
        }
    }
}

#[tokio::test]
async fn an_attempt_ends_before_its_deadline() {
    for (at, maybe_sent) in [("EHLO", false), ("RCPT", false), (".", true)] {
        let lab = Lab::new();
        lab.only(deciding(move |line, _| line.starts_with(at).then_some(Act::Silent))).await;
        let began = Instant::now();
        let mut job = job(&["bob@example.net"], CONTENT);
        job.deadline = Timestamp(Timestamp::now().0 + 2000);
        let outcome = lab.sender(json!({})).deliver(job).await.remove(0);
        assert!(began.elapsed().as_millis() < 2000, "at {at}");
        assert_eq!(deferred(&outcome).2, maybe_sent, "at {at}");
    }
    let lab = Lab::new();
    lab.only(deciding(|line, _| line.starts_with("MAIL").then_some(Act::Silent))).await;
    let outcome = lab.sender(json!({ "timeouts": { "command": 1 } })).one("bob@example.net").await;
    assert!(deferred(&outcome).0.contains("no answer to MAIL in time"), "{outcome:?}");
}

#[tokio::test]
async fn what_mail_can_not_carry_never_leaves() {
    let lab = Lab::new();
    let sink = lab.only(Manner::default()).await;
    let sender = lab.sender(json!({}));
    for bad in [
        "Subject: x\r\n\r\n\n.\r\nMAIL FROM:<x@y.example>\r\n",
        "a: b\r\n\r\nx\n.\n",
        "a: b\r\n\r\nx\r.\r\n",
        "a: b\n\nx\n",
    ] {
        let outcome = sender.deliver(job(&["bob@example.net"], bad)).await.remove(0);
        assert!(failed(&outcome).starts_with("5.6.0"), "{bad:?}");
    }
    let long = format!("a: b\r\n\r\n{}\r\n", "x".repeat(999));
    assert!(failed(&sender.deliver(job(&["bob@example.net"], &long)).await[0]).contains("998"));
    assert_eq!(sink.connections(), 0);
}

#[tokio::test]
async fn hosts_that_lack_what_is_needed_are_told_apart() {
    let lab = Lab::new();
    let sink = lab.only(Manner { offers: vec!["CHUNKING", "8BITMIME", "SIZE 500"], ..Manner::default() }).await;
    let sender = lab.sender(json!({}));
    let outcomes = sender.send(&["δ@example.net", "bob@example.net"]).await;
    assert!(failed(&outcomes[0]).starts_with("5.6.7") && delivered(&outcomes[1]), "{outcomes:?}");
    assert_eq!(sink.taken()[0].content, CONTENT.as_bytes(), "by BDAT");
    assert!(sink.heard().commands.iter().any(|line| *line == format!("BDAT {} LAST", CONTENT.len())));
    let big = format!("{CONTENT}{}", "x\r\n".repeat(200));
    assert!(failed(&sender.deliver(job(&["bob@example.net"], &big)).await[0]).starts_with("5.3.4"));
    let utf8 = "Subject: ä\r\n\r\nx\r\n";
    assert!(failed(&sender.deliver(job(&["bob@example.net"], utf8)).await[0]).starts_with("5.6.7"));
}

#[tokio::test]
async fn large_messages_arrive_byte_for_byte() {
    for offers in [vec![], vec!["PIPELINING"], vec!["PIPELINING", "CHUNKING"]] {
        let lab = Lab::new();
        let sink = lab.only(Manner { offers, ..Manner::default() }).await;
        let line = ".a line with a dot in front, to make it interesting\r\n.\r\n..\r\n";
        let content = format!("Subject: large\r\n\r\n{}", line.repeat(60_000));
        let outcome = lab.sender(json!({})).deliver(job(&["bob@example.net"], &content)).await.remove(0);
        assert!(delivered(&outcome), "{outcome:?}");
        assert!(sink.taken()[0].content == content.as_bytes());
    }
}
