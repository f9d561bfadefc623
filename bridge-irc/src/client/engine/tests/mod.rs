//! The server with guests alone: no host, no sockets.

mod injection;
mod nicks;
mod texts;

use super::*;
use mesyx_sdk::{ChatLine, Conversation};
use proptest::prelude::*;

struct World {
    server: Server,
    boxes: HashMap<ClientId, Arc<Outbox>>,
    now: Timestamp,
}

fn facts(guests: bool) -> Facts {
    Facts {
        server: "irc.example.org".into(),
        network: "Example".into(),
        domain: "example.org".parse().unwrap(),
        motd: Vec::new(),
        guests,
        started: Timestamp(1_700_000_000_000),
        channels: 100,
        topic: names::TOPIC,
        channel_name: names::CHANNEL,
        register: 60_000,
        ping: 120_000,
        cloak: [7; 32],
    }
}

impl World {
    fn new() -> Self {
        Self { server: Server::new(facts(true)), boxes: HashMap::new(), now: Timestamp(1_700_000_000_000) }
    }

    fn connect(&mut self) -> ClientId {
        let outbox = Arc::new(Outbox::new(1 << 20));
        let id = self.server.connected(self.now, "192.0.2.1".parse().unwrap(), false, Arc::clone(&outbox));
        self.boxes.insert(id, outbox);
        id
    }

    /// Sends lines; one nick is an account's, whose password is whatever it is said to be.
    fn send(&mut self, id: ClientId, line: &str) {
        let mut asks: VecDeque<Ask> = self.server.line(self.now, id, line.as_bytes()).into();
        while let Some(ask) = asks.pop_front() {
            let outcome = match &ask {
                Ask::Taken { nick } => Ok(Given::Taken(nick == "alice")),
                Ask::Login { name, .. } if name == "alice" => {
                    let (id, address) = (mesyx_sdk::UserId([1; 16]), "alice@example.org".parse().unwrap());
                    Ok(Given::User(User { id, name: name.clone(), address }))
                }
                Ask::Enter => Ok(Given::Entered { groups: Vec::new(), networks: Vec::new(), bound: None }),
                _ => Err(mesyx_sdk::Error::new(mesyx_sdk::ErrorKind::Unavailable, "no host")),
            };
            asks.extend(self.server.given(self.now, id, ask, outcome));
        }
        self.server.finish(id);
    }

    fn lines(&mut self, id: ClientId) -> Vec<String> {
        let mut all = Vec::new();
        while let outbox::Pending::Send(bytes) = self.boxes[&id].take() {
            all.extend(String::from_utf8(bytes).unwrap().split_terminator("\r\n").map(str::to_owned));
        }
        all
    }

    fn say(&mut self, id: ClientId, line: &str) -> Vec<String> {
        self.send(id, line);
        self.lines(id)
    }

    fn guest(&mut self, nick: &str, caps: &str) -> ClientId {
        let id = self.connect();
        if !caps.is_empty() {
            self.send(id, &format!("CAP REQ :{caps}"));
        }
        self.send(id, &format!("NICK {nick}"));
        self.send(id, &format!("USER {nick} 0 * :Real {nick}"));
        if !caps.is_empty() {
            self.send(id, "CAP END");
        }
        let lines = self.lines(id);
        assert!(lines.iter().any(|line| line.contains(" 001 ")), "{lines:?}");
        id
    }
}

fn numerics(lines: &[String]) -> Vec<String> {
    lines
        .iter()
        .map(|line| line.split(' ').filter(|word| !word.starts_with('@')).nth(1).unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn a_guest_registers_and_is_told_what_holds() {
    let mut world = World::new();
    let id = world.connect();
    assert_eq!(numerics(&world.say(id, "JOIN #x")), ["451"]);
    assert_eq!(numerics(&world.say(id, "NICK alice")), ["433"]);
    assert_eq!(numerics(&world.say(id, "NICK 9a")), ["432"]);
    assert_eq!(numerics(&world.say(id, "NICK")), ["431"]);
    assert!(world.say(id, "NICK ann").is_empty());
    assert_eq!(numerics(&world.say(id, "USER ann 0 *")), ["461"]);
    let lines = world.say(id, "USER ann 0 * :Ann");
    let expected =
        ["001", "002", "003", "004", "005", "005", "005", "251", "252", "253", "254", "255", "265", "266", "422"];
    assert_eq!(numerics(&lines), expected);
    assert_eq!(numerics(&world.say(id, "USER ann 0 * :Ann")), ["462"]);
    let other = world.connect();
    assert_eq!(numerics(&world.say(other, "NICK ANN")), ["433"]);
}

#[test]
fn who_proposes_a_users_name_must_log_in() {
    let mut world = World::new();
    let id = world.connect();
    world.send(id, "CAP LS 302");
    world.send(id, "NICK alice");
    world.send(id, "USER alice 0 * :x");
    world.lines(id);
    assert_eq!(numerics(&world.say(id, "CAP END")), ["433"]);
    let lines = world.say(id, "NICK visitor");
    assert!(lines[0].contains(" 001 visitor "), "{lines:?}");
}

#[test]
fn who_has_no_account_is_not_let_in_unless_guests_are() {
    let mut world = World { server: Server::new(facts(false)), ..World::new() };
    let id = world.connect();
    world.send(id, "NICK ann");
    let lines = world.say(id, "USER ann 0 * :Ann");
    assert!(lines[0].contains(" 464 ") && lines.last().unwrap().starts_with("ERROR "), "{lines:?}");
    assert_eq!(world.boxes[&id].take(), outbox::Pending::Close);
}

#[test]
fn channels_of_guests_have_their_modes() {
    let mut world = World::new();
    let (ann, bob) = (world.guest("ann", "multi-prefix"), world.guest("bob", ""));
    let lines = world.say(ann, "JOIN #x");
    assert_eq!(numerics(&lines), ["JOIN", "353", "366"]);
    assert!(lines[1].ends_with("353 ann = #x :@ann"), "{lines:?}");
    for (mode, attempt, refused) in [
        ("+i", "JOIN #x", "473"),
        ("+k sesame", "JOIN #x", "475"),
        ("+l 1", "JOIN #x", "471"),
        ("+b bob!*@*", "JOIN #x", "474"),
    ] {
        world.say(ann, &format!("MODE #x {mode}"));
        assert_eq!(numerics(&world.say(bob, attempt)), [refused]);
        let back = mode.replace('+', "-");
        assert_eq!(numerics(&world.say(ann, &format!("MODE #x {back}"))), ["MODE"]);
    }
    world.say(ann, "MODE #x +k sesame");
    assert_eq!(numerics(&world.say(bob, "JOIN #x sesame")), ["JOIN", "353", "366"]);
    assert_eq!(numerics(&world.say(bob, "TOPIC #x :mine")), ["482"]);
    assert_eq!(numerics(&world.say(bob, "MODE #x +m")), ["482"]);
    world.say(ann, "MODE #x +m");
    world.lines(bob);
    assert_eq!(numerics(&world.say(bob, "PRIVMSG #x :hello")), ["404"]);
    let lines = world.say(ann, "MODE #x +vo bob bob");
    assert_eq!(lines, [":ann!~ann@".to_owned() + &world.server.cloak(ann) + " MODE #x +vo bob bob"]);
    assert!(world.say(ann, "NAMES #x")[0].ends_with(":@ann @+bob"));
    world.lines(bob);
    world.say(bob, "PRIVMSG #x :hello");
    assert!(world.lines(ann)[0].ends_with("PRIVMSG #x :hello"));
    assert_eq!(numerics(&world.say(bob, "KICK #x ann :out")), ["KICK"]);
    assert!(world.lines(ann)[0].ends_with("KICK #x ann out"));
    assert_eq!(numerics(&world.say(ann, "PRIVMSG #x :hello")), ["404"]);
}

#[test]
fn labels_echoes_and_batches() {
    let mut world = World::new();
    let caps = "labeled-response batch echo-message message-tags";
    let (ann, bob) = (world.guest("ann", caps), world.guest("bob", "message-tags"));
    assert_eq!(world.say(ann, "@label=1 PONG x"), ["@label=1 :irc.example.org ACK"]);
    assert_eq!(world.say(ann, "@label=2 PING x"), ["@label=2 :irc.example.org PONG irc.example.org x"]);
    let lines = world.say(ann, "@label=3 WHOIS bob");
    assert!(lines[0].starts_with("@label=3 ") && lines[0].ends_with(" labeled-response"), "{lines:?}");
    assert!(lines[1].starts_with("@batch=") && lines.last().unwrap().contains("BATCH -"), "{lines:?}");
    let lines = world.say(ann, "@label=4;+draft/reply=x PRIVMSG bob :hi");
    assert!(lines[0].starts_with("@label=4;msgid=") && lines[0].contains("+draft/reply=x"), "{lines:?}");
    let heard = world.lines(bob);
    assert!(heard[0].contains("+draft/reply=x") && !heard[0].contains("label"), "{heard:?}");
    world.send(ann, "@+typing=active TAGMSG bob");
    assert!(world.lines(bob)[0].contains("TAGMSG bob"));
}

#[test]
fn who_is_silent_is_asked_and_then_gone() {
    let mut world = World::new();
    let (ann, silent) = (world.guest("ann", ""), world.connect());
    world.now.0 += 61_000;
    world.server.tick(world.now);
    assert!(world.lines(silent)[0].contains("Registration timed out"));
    world.now.0 += 60_000;
    world.server.tick(world.now);
    assert!(world.lines(ann)[0].contains("PING"));
    world.now.0 += 130_000;
    world.server.tick(world.now);
    assert!(world.lines(ann)[0].contains("Ping timeout"));
}

#[test]
fn what_is_no_utf8_or_too_long_is_refused() {
    let mut world = World::new();
    let ann = world.guest("ann", "");
    let _ = world.server.line(world.now, ann, b"PRIVMSG ann :\xff");
    world.server.finish(ann);
    assert!(world.lines(ann)[0].contains("FAIL PRIVMSG INVALID_UTF8"));
    assert_eq!(numerics(&world.say(ann, &format!("PRIVMSG ann :{}", "x".repeat(600)))), ["417"]);
}

/// A text that a client says next to its own prefix is more than a line has room for: it is split, and nothing is lost.
#[test]
fn long_text_arrives_whole() {
    let mut world = World::new();
    let (ann, bob) = (world.guest("ann", ""), world.guest("bob", ""));
    let text: String = (0..470).map(|at| char::from(b'a' + (at % 26) as u8)).collect();
    world.send(ann, &format!("PRIVMSG bob :{text}"));
    let lines = world.lines(bob);
    assert!(lines.iter().all(|line| line.len() <= 510));
    let joined: String = lines.iter().map(|line| line.split_once(" :").unwrap().1).collect();
    assert_eq!(joined, text);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Whatever clients send, in whatever order: no panic, every line is one, and who is gone is nowhere left.
    #[test]
    fn any_commands_leave_a_consistent_server(
        steps in prop::collection::vec((0_usize..3, "[A-Z]{3,8}|JOIN|PART|MODE|KICK|PRIVMSG|NICK|WHO|LIST|TOPIC|INVITE|CHATHISTORY|BOUNCER|MONITOR|AWAY|CAP|AUTHENTICATE|AUTHENTICATE PLAIN|AUTHENTICATE AGFsaWNlAHNlY3JldA==", prop::collection::vec("#x|#y|ann|bob|cy|\\+[a-zA-Z]{1,3}|[ -~é]{0,12}|\\*|LS|REQ|timestamp=2024-01-01T00:00:00.000Z", 0..5)), 0..60),
    ) {
        let mut world = World::new();
        let ids = ["ann", "bob", "cy"].map(|nick| world.guest(nick, "message-tags batch labeled-response echo-message server-time sasl"));
        for (who, command, params) in steps {
            let mut line = command;
            for param in params {
                line.push(' ');
                line.push_str(&param);
            }
            world.send(ids[who], &line);
            for id in ids {
                for line in world.lines(id) {
                    prop_assert!(line.len() <= 510 + 8191);
                    prop_assert!(!line.contains(['\r', '\n', '\0']));
                    prop_assert!(line.contains(' '));
                }
            }
        }
        for (key, channel) in &world.server.channels {
            prop_assert!(!channel.members.is_empty());
            for pid in channel.members.keys() {
                prop_assert!(world.server.people[pid].channels.contains(key));
            }
        }
        for id in ids {
            world.server.disconnected(world.now, id, "gone");
        }
        prop_assert!(world.server.people.is_empty() && world.server.channels.is_empty() && world.server.nicks.is_empty());
        prop_assert!(world.server.monitored.is_empty());
    }
}
