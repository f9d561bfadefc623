//! Whatever stands in a field, from clients, mail, networks or the host: a client gets lines, each with one command of ours.

use super::*;
use crate::link::{News, Who};
use mesyx_sdk::{Address, Group, Line, MailboxId, Protection, Verb};

/// Text with what would end a line or a parameter in it.
fn nasty() -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop_oneof![
            4 => prop::sample::select(vec!["\r\n", "\r", "\n", "\0", "\r\nQUIT :x\r\n", " ", ":", "@", "!", ",", "#", "é", "\u{1}"]).prop_map(str::to_owned),
            4 => "[ -~]{0,12}",
            1 => ".{0,6}",
        ],
        0..6,
    )
    .prop_map(|pieces| pieces.concat())
}

const COMMANDS: &[&str] = &[
    "ADMIN",
    "AUTHENTICATE",
    "AWAY",
    "BATCH",
    "BOUNCER",
    "CAP",
    "CHATHISTORY",
    "HELP",
    "INFO",
    "INVITE",
    "ISON",
    "JOIN",
    "KICK",
    "KILL",
    "LINKS",
    "LIST",
    "LUSERS",
    "MARKREAD",
    "MODE",
    "MONITOR",
    "MOTD",
    "NAMES",
    "NICK",
    "NOTICE",
    "OPER",
    "PART",
    "PASS",
    "PING",
    "PONG",
    "PRIVMSG",
    "QUIT",
    "SETNAME",
    "STATS",
    "TAGMSG",
    "TIME",
    "TOPIC",
    "USER",
    "USERHOST",
    "USERIP",
    "VERSION",
    "WHO",
    "WHOIS",
    "WHOWAS",
];
const CAPS: &str = "message-tags batch labeled-response echo-message server-time account-tag extended-join away-notify setname draft/multiline \
    draft/read-marker draft/chathistory draft/event-playback invite-notify account-notify chghost soju.im/bouncer-networks";

/// Every line is one, and begins as lines of ours do.
fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let body = line.strip_suffix(b"\r\n");
        prop_assert!(body.is_some(), "{:?}", String::from_utf8_lossy(line));
        let body = body.unwrap_or_default();
        prop_assert!(!body.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
        let read = mesyx_irc_codec::Line::parse(body, mesyx_irc_codec::Limits::FROM_SERVER);
        prop_assert!(read.is_ok(), "{:?}: {:?}", read, String::from_utf8_lossy(body));
        prop_assert!(read.is_ok_and(|read| read.source.is_some() || read.is("ERROR")));
    }
    Ok(())
}

fn sent(world: &World, id: ClientId) -> Vec<u8> {
    let mut all = Vec::new();
    while let outbox::Pending::Send(bytes) = world.boxes[&id].take() {
        all.extend(bytes);
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_field_of_a_client_makes_a_line(
        steps in prop::collection::vec((0_usize..2, prop::sample::select(COMMANDS), nasty(), prop::collection::vec(nasty(), 0..4)), 1..30),
    ) {
        let mut world = World::new();
        let ids = [world.guest("ann", CAPS), world.guest("bob", CAPS)];
        for id in ids {
            world.send(id, "JOIN #x");
        }
        for (who, command, tag, params) in steps {
            let mut value = Vec::new();
            mesyx_irc_codec::escape(&tag.replace('\0', ""), &mut value);
            let mut line = b"@label=1;+x=".to_vec();
            line.extend(value);
            line.push(b' ');
            line.extend_from_slice(command.as_bytes());
            for param in params {
                line.push(b' ');
                line.extend_from_slice(param.as_bytes());
            }
            // As the framer gives them, and whole, as no framer would.
            let whole = line.clone();
            let pieces = line.split(|byte| matches!(byte, b'\r' | b'\n')).map(<[u8]>::to_vec);
            for line in pieces.chain([whole]) {
                let asks = world.server.line(world.now, ids[who], &line);
                for ask in asks {
                    let outcome = match &ask {
                        Ask::Taken { .. } => Ok(Given::Taken(false)),
                        _ => Err(mesyx_sdk::Error::new(mesyx_sdk::ErrorKind::Invalid, tag.clone())),
                    };
                    world.server.given(world.now, ids[who], ask, outcome);
                }
                world.server.finish(ids[who]);
            }
            for id in ids {
                check(&sent(&world, id))?;
            }
        }
    }

    #[test]
    fn no_field_of_the_host_makes_a_line(texts in prop::collection::vec(nasty(), 12), verb in prop::sample::select(vec![Verb::Say, Verb::Notice, Verb::Action, Verb::Topic, Verb::Part, Verb::Kick, Verb::Mode, Verb::Join])) {
        let mut world = World::new();
        let ann = world.guest("ann", CAPS);
        let old = world.guest("old", "");
        let t = |at: usize| texts[at].clone();
        let address: Address = "mesyx:#demo@example.org".parse().unwrap();
        let group = Group {
            address: address.clone(),
            name: "#demo".into(),
            created: Timestamp(0),
            topic: Some((t(0), t(1), Timestamp(0))),
            members: Vec::new(),
            modes: [('k', t(2)), ('n', String::new())].into(),
            lists: [('b', vec![(t(3), t(4), Timestamp(0))])].into(),
        };
        for id in [ann, old] {
            world.send(id, "JOIN #demo");
            world.server.update_group(&Arc::new(group.clone()));
            for line in ["TOPIC #demo", "MODE #demo", "MODE #demo b", "LIST", "WHO #demo"] {
                world.send(id, line);
            }
            let who = Who { nick: t(5), user: t(6), host: t(7) };
            for from in ["mesyx:alice@example.org", "irc:libera/bob", "irc:guests/cy"] {
                let line = ChatLine {
                    mailbox: MailboxId([1; 16]), uid: 1, id: MessageId([1; 16]), at: world.now, from: from.parse().unwrap(), nick: t(5), own: false,
                    seen: false, line: Line { verb, args: vec![t(8), t(9)], text: t(10) }, protection: Protection::None,
                };
                for conversation in [Conversation::Group(address.clone()), Conversation::Direct(line.from.clone())] {
                    world.server.said(world.now, id, &conversation, &line, false);
                }
            }
            for news in [
                News::Join { channel: t(0), who: who.clone(), account: t(1), realname: t(2) },
                News::Part { channel: t(0), who: who.clone(), reason: t(1) },
                News::Kick { channel: t(0), who: who.clone(), nick: t(1), reason: t(2) },
                News::Quit { who: who.clone(), reason: t(1) },
                News::Topic { channel: t(0), who: who.clone(), topic: t(1) },
                News::Mode { target: t(0), who: who.clone(), args: vec![t(1), t(2)] },
                News::Nick { who: who.clone(), nick: t(11) },
                News::Notice { who: who.clone(), text: t(1) },
                News::Invite { who, nick: t(1), channel: t(2) },
            ] {
                let _ = world.server.news(world.now, id, "libera", news);
            }
            world.server.ended(world.now, id, &t(0));
            check(&sent(&world, id))?;
        }
    }
}
