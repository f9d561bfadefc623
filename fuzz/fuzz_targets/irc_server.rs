//! The server for people's own IRC clients: whatever three clients send, it stays consistent, and answers in lines of its own.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesyx_bridge_irc::client::engine::outbox::{Outbox, Pending};
use mesyx_bridge_irc::client::engine::{Ask, ClientId, Facts, Given, Server};
use mesyx_irc_codec::{Limits, Line};
use mesyx_sdk::{Error, ErrorKind, Timestamp, User, UserId};
use std::sync::Arc;

fn facts() -> Facts {
    Facts {
        server: "irc.example.org".into(),
        network: "Example".into(),
        domain: "example.org".parse().expect("a domain"),
        motd: vec!["Welcome.".into()],
        guests: true,
        started: Timestamp(1_700_000_000_000),
        channels: 20,
        topic: 390,
        channel_name: 50,
        register: 60_000,
        ping: 120_000,
        cloak: [7; 32],
    }
}

/// What a host might answer, by what the input says.
fn outcome(ask: &Ask, byte: u8) -> Result<Given, Error> {
    match ask {
        Ask::Taken { nick } => Ok(Given::Taken(nick.eq_ignore_ascii_case("alice"))),
        Ask::Login { name, .. } if byte % 4 != 0 => {
            let address = "alice@example.org".parse().expect("an address");
            Ok(Given::User(User { id: UserId([1; 16]), name: name.chars().take(64).collect(), address }))
        }
        Ask::Enter => Ok(Given::Entered { groups: Vec::new(), networks: Vec::new(), bound: None }),
        Ask::Marker { .. } => Ok(Given::Marker((byte % 2 == 0).then_some(Timestamp(i64::from(byte))))),
        Ask::History { .. } => Ok(Given::Lines(Vec::new())),
        Ask::Targets { .. } => Ok(Given::Targets(Vec::new())),
        Ask::MailService { text } => Ok(Given::Text(vec![text.clone()])),
        Ask::Say { .. } | Ask::GuestSays { .. } => Ok(Given::Said),
        _ => {
            let kinds = [ErrorKind::NotFound, ErrorKind::Forbidden, ErrorKind::Exists, ErrorKind::OverQuota];
            Err(Error::new(kinds[usize::from(byte) % kinds.len()], "no"))
        }
    }
}

/// Reads what waits for a client: lines of ours, each one.
fn read(outbox: &Outbox) {
    while let Pending::Send(bytes) = outbox.take() {
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let body = line.strip_suffix(b"\r\n").expect("a line ends with CR LF");
            let line = Line::parse(body, Limits::FROM_SERVER).expect("what is sent is a line");
            assert!(line.source.is_some() || line.is("ERROR"));
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut server = Server::new(facts());
    let mut now = Timestamp(1_700_000_000_000);
    let mut clients: Vec<(ClientId, Arc<Outbox>)> = Vec::new();
    for nick in ["ann", "bob", ""] {
        let outbox = Arc::new(Outbox::new(1 << 20));
        let id = server.connected(now, [192, 0, 2, 1].into(), false, Arc::clone(&outbox));
        clients.push((id, outbox));
        if !nick.is_empty() {
            let caps = "CAP REQ :message-tags batch labeled-response echo-message server-time draft/multiline draft/read-marker";
            for line in [caps, &format!("NICK {nick}"), "USER u 0 * :Real", "CAP END", "JOIN #x"] {
                send(&mut server, now, id, line.as_bytes(), 1);
            }
        }
    }
    for line in data.split(|byte| *byte == b'\n') {
        let Some((&first, line)) = line.split_first() else { continue };
        let (id, _) = clients[usize::from(first) % 3];
        now.0 += i64::from(first);
        send(&mut server, now, id, line, first);
        for (_, outbox) in &clients {
            read(outbox);
        }
    }
    server.tick(now);
    for (id, outbox) in &clients {
        server.disconnected(now, *id, "gone");
        read(outbox);
    }
});

fn send(server: &mut Server, now: Timestamp, id: ClientId, line: &[u8], byte: u8) {
    let mut asks = server.line(now, id, line);
    // An answer may lead to more to ask, but not for ever.
    for _ in 0..20 {
        if asks.is_empty() {
            break;
        }
        let ask = asks.remove(0);
        let outcome = outcome(&ask, byte);
        let mut more = server.given(now, id, ask, outcome);
        more.append(&mut asks);
        asks = more;
    }
    server.finish(id);
}
