//! The bridge `smtp` over real sockets.
#![allow(clippy::unwrap_used, clippy::panic)]

mod checks;
mod support;

use mesyx_sdk::{Error, ErrorKind, Host, Protection};
use serde_json::json;
use std::time::Duration;
use support::{Client, Running, certify, host};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

fn listener() -> serde_json::Value {
    json!({ "listeners": [{ "name": "mx", "address": "127.0.0.1:0" }] })
}

#[tokio::test]
async fn mail_comes_in_with_every_other_byte_kept() {
    let running = Running::smtp(listener());
    let mut client = running.connect("mx").await;
    let hello = client.greet().await;
    for extension in
        ["PIPELINING", "SIZE 52428800", "8BITMIME", "SMTPUTF8", "CHUNKING", "ENHANCEDSTATUSCODES", "DSN", "STARTTLS"]
    {
        assert!(hello.contains(extension), "{extension}: {hello}");
    }
    assert!(!hello.contains("AUTH"));
    let body = "Subject: caf\u{e9}\r\nReturn-Path: <other@example.net>\r\n\r\n \t trailing  \r\n\r\n\r\n";
    assert_eq!(client.deliver("a@example.net", body).await, 250);
    assert_eq!(client.say("QUIT").await, 221);
    assert_eq!(client.rest().await, "");
    let accepted = running.host.accepted();
    let content = std::str::from_utf8(&accepted[0].content).unwrap();
    let (trace, kept) = content.split_at(content.len() - body.len() - 2);
    assert_eq!(kept, format!("{body}\r\n"));
    assert!(trace.starts_with("Return-Path: <a@example.net>\r\nReceived: from client.example\r\n\t([127.0.0.1])\r\n"));
    assert_eq!(accepted[0].origin.protection, Protection::None);
}

#[tokio::test]
async fn nothing_is_acknowledged_before_the_host_has_taken_it() {
    let running = Running::smtp(listener());
    running.host.hold_accepts();
    let mut client = running.connect("mx").await;
    client.greet().await;
    assert_eq!(client.say("MAIL FROM:<>").await, 250);
    assert_eq!(client.say("RCPT TO:<alice@example.org>").await, 250);
    assert_eq!(client.say("DATA").await, 354);
    client.send("x\r\n.\r\n").await;
    running.host.brought(1).await;
    assert!(tokio::time::timeout(Duration::from_millis(100), client.code()).await.is_err());
    running.host.release_accepts();
    assert_eq!(client.code().await, 250);
}

#[tokio::test]
async fn the_hosts_errors_have_their_codes() {
    let running = Running::smtp(listener());
    let mut client = running.connect("mx").await;
    client.greet().await;
    for (kind, code) in [
        (ErrorKind::Full, 452),
        (ErrorKind::OverQuota, 452),
        (ErrorKind::Unavailable, 451),
        (ErrorKind::TooLarge, 552),
        (ErrorKind::Invalid, 554),
        (ErrorKind::Forbidden, 550),
    ] {
        running.host.fail_next_accept(Error::new(kind, "no"));
        assert_eq!(client.deliver("a@example.net", "x").await, code, "{kind:?}");
    }
    assert_eq!(client.deliver("a@example.net", "x").await, 250);
}

#[tokio::test]
async fn pipelined_and_chunked() {
    let running = Running::smtp(listener());
    let mut client = running.connect("mx").await;
    client.greet().await;
    client
        .send(
            "MAIL FROM:<a@example.net>\r\nRCPT TO:<alice@example.org>\r\nRCPT TO:<nobody@example.org>\r\n\
             BDAT 7\r\nX: y\r\n\rBDAT 5\r\n\n.\r\n\r",
        )
        .await;
    for code in [250, 250, 550] {
        assert_eq!(client.code().await, code);
    }
    // The first chunk ends in CR and the second begins with LF.
    assert_eq!(client.code().await, 250);
    assert_eq!(client.code().await, 250);
    client.send("BDAT 1 LAST\r\n\nNOOP\r\n").await;
    assert_eq!((client.code().await, client.code().await), (250, 250));
    assert!(running.host.accepted()[0].content.ends_with(b"\r\nX: y\r\n\r\n.\r\n\r\n"));
}

#[tokio::test]
async fn byte_by_byte() {
    let running = Running::smtp(listener());
    let mut client = running.connect("mx").await;
    client.0.set_nodelay(true).unwrap();
    for byte in b"EHLO p\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n..x\r\n.\r\nQUIT\r\n" {
        client.send([*byte]).await;
        tokio::task::yield_now().await;
    }
    let codes: Vec<_> = client
        .rest()
        .await
        .lines()
        .filter(|line| line.get(3..4) == Some(" "))
        .map(|line| line[..3].to_owned())
        .collect();
    assert_eq!(codes, ["220", "250", "250", "250", "354", "250", "221"]);
    assert!(running.host.accepted()[0].content.ends_with(b"\r\n.x\r\n"));
}

#[tokio::test]
async fn a_megabyte_comes_in_whole() {
    let running = Running::smtp(listener());
    let mut client = running.connect("mx").await;
    client.greet().await;
    let body: String = (0..20_000).map(|line| format!("line {line} ..................................\r\n")).collect();
    assert_eq!(client.deliver("a@example.net", &format!("X: y\r\n\r\n{}", body.trim_end())).await, 250);
    assert!(running.host.accepted()[0].content.ends_with(body.as_bytes()));
    let budget = running.host.budget();
    assert_eq!(budget.available(), budget.total());
}

#[tokio::test]
async fn smuggled_commands_are_not_acted_on() {
    let running = Running::smtp(listener());
    for end in ["\n.\n", "\r\n.\n", "\n.\r\n", "\r.\r", "\r\n.\r", "\r.\r\n"] {
        let mut client = running.connect("mx").await;
        client.greet().await;
        let code = client
            .deliver(
                "a@example.net",
                &format!("one{end}MAIL FROM:<e@example.net>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\ntwo"),
            )
            .await;
        assert_eq!(code, 554, "{end:?}");
        assert_eq!(client.rest().await, "", "{end:?}: the connection is closed");
    }
    assert!(running.host.accepted().is_empty());
}

#[tokio::test]
async fn starttls() {
    let running = Running::smtp(listener());
    let mut plain = running.connect("mx").await;
    plain.greet().await;
    assert_eq!(plain.say("STARTTLS").await, 220);
    let mut client = running.tls(plain.0).await.unwrap();
    assert_eq!(client.say("MAIL FROM:<>").await, 503);
    client.send("EHLO again.example\r\n").await;
    let hello = client.reply().await;
    assert!(!hello.contains("STARTTLS") && !hello.contains("AUTH"), "{hello}");
    assert_eq!(client.deliver("a@example.net", "x").await, 250);
    let accepted = running.host.accepted();
    let content = std::str::from_utf8(&accepted[0].content).unwrap();
    assert!(content.contains("\tby mail.example.org with ESMTPS (TLSv1.3 TLS13_"), "{content}");
    assert!(matches!(&accepted[0].origin.protection, Protection::Tls { version, .. } if version == "TLSv1.3"));
}

#[tokio::test]
async fn bytes_behind_starttls_are_never_acted_on() {
    let running = Running::smtp(listener());
    let mut together = running.connect("mx").await;
    together.greet().await;
    together.send("STARTTLS\r\nNOOP\r\n").await;
    assert_eq!(together.code().await, 501);
    assert_eq!(together.rest().await, "");
    // What arrives after the reply, in the clear, is no TLS record: the handshake fails.
    let mut later = running.connect("mx").await;
    later.greet().await;
    assert_eq!(later.say("STARTTLS").await, 220);
    later.send("NOOP\r\n").await;
    assert!(running.tls(later.0).await.is_err());
}

#[tokio::test]
async fn new_certificates_are_used_without_dropping_connections() {
    let mut running = Running::smtp(listener());
    let mut old = running.connect("mx").await;
    old.greet().await;
    assert_eq!(old.say("STARTTLS").await, 220);
    let mut old = running.tls(old.0).await.unwrap();
    let before = running.certificate.clone();
    running.certificate = certify(&running.host);
    assert_ne!(before, running.certificate);
    let mut new = running.connect("mx").await;
    new.greet().await;
    assert_eq!(new.say("STARTTLS").await, 220);
    assert!(running.tls(new.0).await.is_ok());
    assert_eq!(old.say("NOOP").await, 250);
}

#[tokio::test]
async fn proxy_headers() {
    let running = Running::smtp(json!({ "listeners": [
        { "name": "mx", "address": "127.0.0.1:0", "proxy": true },
        { "name": "strict", "address": "127.0.0.1:0", "proxy": true, "proxy_from": ["192.0.2.0/24"] },
    ] }));
    let mut client = running.connect("mx").await;
    client.send("PROXY TCP4 198.51.100.7 192.0.2.1 4000 25\r\n").await;
    client.greet().await;
    assert_eq!(client.deliver("a@example.net", "x").await, 250);
    let accepted = running.host.accepted();
    assert!(std::str::from_utf8(&accepted[0].content).unwrap().contains("([198.51.100.7])"));
    for (listener, first) in
        [("mx", "EHLO p.example.net\r\n"), ("strict", "PROXY TCP4 198.51.100.7 192.0.2.1 4000 25\r\nEHLO p\r\n")]
    {
        let mut client = running.connect(listener).await;
        client.send(first).await;
        assert_eq!(client.reply().await, "", "{listener}");
    }
}

#[tokio::test]
async fn too_many_connections_are_told() {
    let running = Running::smtp(json!({
        "listeners": [{ "name": "mx", "address": "127.0.0.1:0", "proxy": true }, { "name": "all", "address": "127.0.0.1:0" }],
        "limits": { "connections": 3, "connections_per_ip": 1 },
    }));
    let header = "PROXY TCP4 198.51.100.7 192.0.2.1 4000 25\r\n";
    let mut first = running.connect("mx").await;
    first.send(header).await;
    first.greet().await;
    let mut second = running.connect("mx").await;
    second.send(header).await;
    assert_eq!(second.code().await, 421);
    drop(second);
    let mut others = Vec::new();
    for _ in 0..2 {
        let mut other = running.connect("all").await;
        other.greet().await;
        others.push(other);
    }
    let mut more = running.connect("all").await;
    assert_eq!(more.code().await, 421);
    drop(first);
    // The place is free as soon as the server has seen the end.
    loop {
        let mut next = running.connect("all").await;
        if next.code().await == 220 {
            break;
        }
    }
}

#[tokio::test]
async fn hundreds_of_silent_connections_do_not_keep_mail_out() {
    let running = Running::smtp(listener());
    let mut silent = Vec::new();
    for _ in 0..400 {
        let mut client = running.connect("mx").await;
        assert_eq!(client.code().await, 220);
        silent.push(client);
    }
    let mut client = running.connect("mx").await;
    client.greet().await;
    assert_eq!(client.deliver("a@example.net", "x").await, 250);
}

#[tokio::test]
async fn a_stop_lets_the_message_under_way_finish() {
    let running = Running::smtp(listener());
    let mut idle = running.connect("mx").await;
    idle.greet().await;
    let mut busy = running.connect("mx").await;
    busy.greet().await;
    assert_eq!(busy.say("MAIL FROM:<>").await, 250);
    assert_eq!(busy.say("RCPT TO:<alice@example.org>").await, 250);
    assert_eq!(busy.say("DATA").await, 354);
    busy.send("half").await;
    running.host.stop();
    assert_eq!(idle.code().await, 421);
    assert_eq!(idle.rest().await, "");
    assert_eq!(busy.say("\r\n.").await, 250);
    assert_eq!(busy.code().await, 421);
    running.task.await.unwrap().unwrap();
    assert_eq!(running.host.accepted().len(), 1);
}

#[tokio::test]
async fn a_message_whose_answer_was_lost_is_not_stored_twice() {
    let running = Running::smtp(listener());
    let message = "Message-ID: <1@example.net>\r\n\r\nx";
    let lost = || async {
        running.host.hold_accepts();
        let mut client = running.connect("mx").await;
        client.greet().await;
        assert_eq!(client.say("MAIL FROM:<>").await, 250);
        assert_eq!(client.say("RCPT TO:<alice@example.org>").await, 250);
        assert_eq!(client.say("DATA").await, 354);
        client.send(format!("{message}\r\n.\r\n")).await;
        running.host.brought(running.host.accepted().len() + 1).await;
        // Closed with a reset, so that the answer can't be heard.
        client.0.set_zero_linger().unwrap();
        drop(client);
        tokio::time::sleep(Duration::from_millis(100)).await;
        running.host.release_accepts();
        while running.host.accepted().is_empty() {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    lost().await;
    let mut again = running.connect("mx").await;
    again.greet().await;
    assert_eq!(again.deliver("", message).await, 250);
    assert_eq!(running.host.accepted().len(), 1, "the repeated one");
    assert_eq!(again.deliver("", &format!("{message} and more")).await, 250);
    assert_eq!(running.host.accepted().len(), 2, "another text is another message");
}

#[tokio::test]
async fn two_equal_mails_are_two_mails() {
    let running = Running::smtp(listener());
    for _ in 0..2 {
        let mut client = running.connect("mx").await;
        client.greet().await;
        assert_eq!(client.deliver("", "Message-ID: <1@example.net>\r\n\r\nx").await, 250);
        // Gone without QUIT, but the answer was heard.
        client.0.shutdown().await.unwrap();
    }
    assert_eq!(running.host.accepted().len(), 2);
}

#[tokio::test]
async fn without_a_certificate_there_is_no_starttls() {
    use mesyx_bridge_smtp::Smtp;
    use mesyx_sdk::{Bridge, Config};
    let host = host();
    let bridge = Smtp::build(Config::new(listener())).unwrap();
    let shared: std::sync::Arc<dyn Host> = std::sync::Arc::new(host.clone());
    let task = tokio::spawn(async move { bridge.run(shared).await });
    let mut client = Client(TcpStream::connect(host.listening("mx").await).await.unwrap());
    assert!(!client.greet().await.contains("STARTTLS"));
    assert_eq!(client.say("STARTTLS").await, 502);
    host.stop();
    task.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn silence_and_dribbling_end_the_connection() {
    let running = Running::smtp(listener());
    let mut silent = running.connect("mx").await;
    silent.greet().await;
    let reply = silent.reply().await;
    assert!(reply.starts_with("421 4.4.2"), "{reply}");
    assert_eq!(silent.rest().await, "");
    // One byte now and then does not keep a command's time from running out.
    let mut dribbling = running.connect("mx").await;
    dribbling.greet().await;
    let start = tokio::time::Instant::now();
    for byte in b"NOO" {
        dribbling.send([*byte]).await;
        tokio::time::sleep(Duration::from_secs(130)).await;
    }
    let reply = dribbling.reply().await;
    assert!(reply.starts_with("421 4.4.2"), "{reply}");
    // On the test's own clock: 300 seconds from the greeting, not from the last byte.
    assert!(start.elapsed() < Duration::from_secs(450));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_dribbles_in_ends_the_connection() {
    let running = Running::smtp(listener());
    for (begin, code) in [("DATA", "354"), ("BDAT 1", "250")] {
        let mut client = running.connect("mx").await;
        client.greet().await;
        let start = tokio::time::Instant::now();
        client.send(format!("MAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\n{begin}\r\nx")).await;
        let rest = client.rest().await;
        let lines: Vec<_> = rest.lines().collect();
        assert!(lines.len() == 4 && lines[2].starts_with(code) && lines[3].starts_with("421 4.4.2"), "{rest}");
        // On the test's own clock: the silence alone would have been borne for 300 seconds.
        assert!(start.elapsed() < Duration::from_secs(100), "{begin}");
    }
}

#[tokio::test]
async fn ipv6() {
    let running = Running::smtp(json!({ "listeners": [{ "name": "mx", "address": "[::1]:0" }] }));
    let mut client = running.connect("mx").await;
    client.greet().await;
    assert_eq!(client.deliver("a@example.net", "x").await, 250);
    assert!(std::str::from_utf8(&running.host.accepted()[0].content).unwrap().contains("\t([IPv6:::1])\r\n"));
}
