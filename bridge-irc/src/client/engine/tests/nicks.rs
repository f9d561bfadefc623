//! Nicks of users with an account: alice and bob have one; the host of these tests lets them in without a password.

use super::*;
use mesyx_sdk::{Error, ErrorKind, Group, GroupMember, Rank, UserId};

fn user(name: &str) -> User {
    User {
        id: UserId([name.as_bytes()[0]; 16]),
        name: name.into(),
        address: format!("{name}@example.org").parse().unwrap(),
    }
}

fn demo() -> Arc<Group> {
    let member = |name: &str, rank| GroupMember { user: user(name).id, name: name.into(), rank };
    Arc::new(Group {
        address: "mesyx:#demo@example.org".parse().unwrap(),
        name: "#demo".into(),
        created: Timestamp(0),
        topic: None,
        members: vec![member("alice", Rank::Founder), member("bob", Rank::Member)],
        modes: BTreeMap::new(),
        lists: BTreeMap::new(),
    })
}

impl World {
    fn send_as_user(&mut self, id: ClientId, line: &str) {
        let mut asks: VecDeque<Ask> = self.server.line(self.now, id, line.as_bytes()).into();
        while let Some(ask) = asks.pop_front() {
            let outcome = match &ask {
                Ask::Taken { nick } => Ok(Given::Taken(["alice", "bob"].contains(&fold(nick).as_str()))),
                Ask::Login { name, .. } => Ok(Given::User(user(name))),
                Ask::Enter => Ok(Given::Entered { groups: vec![demo()], networks: Vec::new(), bound: None }),
                _ => Err(Error::new(ErrorKind::Unavailable, "no host")),
            };
            for more in self.server.given(self.now, id, ask, outcome).into_iter().rev() {
                asks.push_front(more);
            }
        }
        self.server.finish(id);
    }

    /// Logs in as a user under a nick; the lines up to the first numeric 001 or error.
    fn log_in(&mut self, name: &str, nick: &str) -> (ClientId, Vec<String>) {
        let id = self.connect();
        let plain = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("\0{name}\0x"));
        for line in
            ["CAP LS 302", &format!("NICK {nick}"), "USER x 0 * :Somebody", "CAP REQ sasl", "AUTHENTICATE PLAIN"]
        {
            self.send_as_user(id, line);
        }
        self.send_as_user(id, &format!("AUTHENTICATE {plain}"));
        self.send_as_user(id, "CAP END");
        let lines = self.lines(id);
        (id, lines)
    }
}

fn has(lines: &[String], text: &str) -> bool {
    lines.iter().any(|line| line.contains(text))
}

#[test]
fn a_user_has_any_free_nick_and_the_account_is_shown() {
    let mut world = World::new();
    let (bob, _) = world.log_in("bob", "bob");
    let (alice, lines) = world.log_in("alice", "jdoe");
    assert!(has(&lines, " 900 jdoe jdoe!") && has(&lines, " 903 jdoe ") && has(&lines, " 001 jdoe "), "{lines:#?}");
    assert!(has(&world.lines(bob), ":alice!alice@example.org NICK jdoe"));
    // Whoever asks for the login name finds her too, and nobody else can have it.
    for name in ["jdoe", "alice"] {
        let lines = world.say(bob, &format!("WHOIS {name}"));
        assert!(has(&lines, " 311 bob jdoe alice example.org ") && has(&lines, " 330 bob jdoe alice "), "{lines:#?}");
    }
    let guest = world.guest("guest", "");
    for nick in ["alice", "jdoe", "bob", "JDoe"] {
        assert_eq!(numerics(&world.say(guest, &format!("NICK {nick}"))), ["433"], "{nick}");
    }
    assert!(world.say(guest, "ISON alice jdoe")[0].ends_with(" jdoe"));
    // A second client of hers shares the nick, whatever it brings.
    let (second, lines) = world.log_in("alice", "other");
    assert!(has(&lines, " 001 jdoe "), "{lines:#?}");
    world.lines(bob);
    world.send_as_user(second, "NICK jane");
    for id in [alice, second, bob] {
        assert!(has(&world.lines(id), ":jdoe!alice@example.org NICK jane"));
    }
    // The nick goes with the last client.
    world.server.disconnected(world.now, alice, "gone");
    assert_eq!(world.lines(bob), [] as [&str; 0]);
    world.server.disconnected(world.now, second, "gone");
    assert!(has(&world.lines(bob), ":jane!alice@example.org NICK alice"));
    assert_eq!(numerics(&world.say(guest, "NICK jane")), ["NICK"]);
}

#[test]
fn nobody_takes_a_users_name_and_a_taken_nick_is_asked_for_again() {
    let mut world = World::new();
    let guest = world.guest("jdoe", "");
    let (alice, lines) = world.log_in("alice", "jdoe");
    assert!(has(&lines, " 433 ") && !has(&lines, " 001 "), "{lines:#?}");
    world.send_as_user(alice, "NICK bob");
    assert!(has(&world.lines(alice), " 433 "), "bob is another user, though he is not here");
    world.send_as_user(alice, "NICK jdoe_");
    assert!(has(&world.lines(alice), " 001 jdoe_ "));
    world.send_as_user(alice, "NICK bob");
    assert!(has(&world.lines(alice), " 433 jdoe_ bob "));
    world.send_as_user(alice, "NICK 9x");
    assert!(has(&world.lines(alice), " 432 jdoe_ 9x "));
    world.send_as_user(alice, "NICK ALICE");
    assert!(has(&world.lines(alice), " NICK ALICE"));
    world.send_as_user(guest, "NICK alice");
    assert!(has(&world.lines(guest), " 433 "));
}

#[test]
fn who_has_a_name_that_becomes_an_account_loses_it() {
    let mut world = World::new();
    let guest = world.guest("carol", "");
    let mut group = Group::clone(&demo());
    group.members.push(GroupMember { user: user("carol").id, name: "carol".into(), rank: Rank::Member });
    world.server.update_group(&Arc::new(group));
    assert!(has(&world.lines(guest), ":carol!~carol@") && world.server.nick_of(guest).starts_with("Guest"));
    assert_eq!(world.server.nick_of_account("carol"), "carol");
}

#[test]
fn members_in_lines_go_by_their_nicks() {
    let mut world = World::new();
    let (bob, _) = world.log_in("bob", "bob");
    world.log_in("alice", "jdoe");
    world.lines(bob);
    let conversation = Conversation::Group("mesyx:#demo@example.org".parse().unwrap());
    let mut line = ChatLine {
        mailbox: mesyx_sdk::MailboxId([1; 16]),
        uid: 1,
        id: MessageId([1; 16]),
        at: world.now,
        from: "mesyx:alice@example.org".parse().unwrap(),
        nick: "alice".into(),
        own: false,
        seen: false,
        line: mesyx_sdk::Line::say("hello"),
        protection: mesyx_sdk::Protection::None,
    };
    world.server.said(world.now, bob, &conversation, &line, false);
    line.line =
        mesyx_sdk::Line { verb: mesyx_sdk::Verb::Mode, args: vec!["+v".into(), "alice".into()], text: String::new() };
    world.server.said(world.now, bob, &conversation, &line, false);
    line.line = mesyx_sdk::Line { verb: mesyx_sdk::Verb::Kick, args: vec!["bob".into()], text: String::new() };
    world.server.said(world.now, bob, &conversation, &line, false);
    let lines = world.lines(bob);
    let ends = ["PRIVMSG #demo :hello", "MODE #demo +v jdoe", "KICK #demo bob jdoe"];
    for (line, end) in lines.iter().zip(ends) {
        assert_eq!(*line, format!(":jdoe!alice@example.org {end}"));
    }
    // A user's mask is matched by nick and by login name.
    assert!(world.server.people.values().filter(|person| person.nick == "jdoe").all(|person| {
        let mut channel = Channel::new("#x", Timestamp(0));
        channel.add_mask('b', "alice!*@*", "x", Timestamp(0)) && channel.banned(person)
    }));
}
