use super::*;
use proptest::prelude::*;

/// A scripted server: lines go in, what the engine wrote comes out.
struct Server {
    engine: Engine,
    now: Instant,
}

fn identity() -> Identity {
    Identity {
        nick: "al".into(),
        altnicks: vec!["al2".into()],
        username: "al".into(),
        realname: "Al".into(),
        pass: None,
        sasl: None,
        channels: Vec::new(),
        pace: (1000, Duration::from_millis(1)),
        silence: (Duration::from_secs(20), Duration::from_secs(45)),
        charset: Charset::default(),
        tls: true,
        version: "Mesyx".into(),
    }
}

impl Server {
    fn new(identity: Identity) -> Self {
        let now = Instant::now();
        Self { engine: Engine::new(identity, now), now }
    }

    /// Registered, with this own prefix and these tokens.
    fn ready(identity: Identity, tokens: &str) -> Self {
        let mut server = Self::new(identity);
        server.written();
        server.send(&format!(":irc.x 001 al :hi\n:irc.x 005 al {tokens} :are supported\n:irc.x 422 al :no motd"));
        assert!(server.engine.is_ready());
        server.written();
        server.send(":irc.x 302 al :al=+~al@host.example");
        server.events();
        server
    }

    fn send(&mut self, lines: &str) {
        for line in lines.lines() {
            self.engine.line(line.as_bytes(), self.now);
        }
    }

    fn written(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(bytes) = self.engine.next_bytes(self.now) {
            lines.push(String::from_utf8_lossy(&bytes).trim_end().to_owned());
        }
        lines
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.engine.event()).collect()
    }

    fn news(&mut self) -> Vec<News> {
        let news = |event| if let Event::News(news) = event { Some(news) } else { None };
        self.events().into_iter().filter_map(news).collect()
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.engine.tick(self.now);
    }

    /// Answers every PING of ours, as a live server does.
    fn pong(&mut self) {
        for line in self.written() {
            if let Some(token) = line.strip_prefix("PING :") {
                self.send(&format!(":irc.x PONG irc.x :{token}"));
            }
        }
    }

    fn join(&mut self, channel: &str) {
        self.send(&format!(
            ":al!~al@host.example JOIN {channel}\n:irc.x 353 al = {channel} :@al +bob\n:irc.x 366 al {channel} :end"
        ));
        self.events();
        self.written();
    }
}

fn sasl() -> Identity {
    let password = Secret::from("pw".to_owned());
    Identity { sasl: Some(Sasl::Plain { account: "al".into(), password }), ..identity() }
}

#[test]
fn registers_with_capabilities_and_sasl() {
    let mut server = Server::new(sasl());
    assert_eq!(server.written(), ["CAP LS 302", "NICK al", "USER al 0 * :Al"]);
    server.send(":irc.x CAP * LS * :server-time unknown/cap\n:irc.x CAP * LS :sasl=EXTERNAL,PLAIN batch");
    assert_eq!(server.written(), ["CAP REQ :batch", "CAP REQ :sasl", "CAP REQ :server-time"]);
    server.send(":irc.x CAP * ACK :batch\n:irc.x CAP * ACK :sasl");
    assert!(server.written().is_empty());
    server.send(":irc.x CAP * NAK :server-time");
    assert_eq!(server.written(), ["AUTHENTICATE PLAIN"]);
    server.send("AUTHENTICATE +");
    assert_eq!(server.written(), ["AUTHENTICATE AGFsAHB3"]);
    server.send(":irc.x 900 al al!~al@h al :you are\n:irc.x 903 al :ok");
    assert_eq!(server.written(), ["CAP END"]);
    assert_eq!(server.engine.presence().account, "al");
}

#[test]
fn a_login_that_fails_or_is_not_offered_ends_the_connection() {
    for (offer, rest) in [
        ("batch", ""),
        ("sasl=EXTERNAL", ":irc.x CAP * ACK :sasl"),
        ("sasl", ":irc.x CAP * ACK :sasl\n:irc.x 904 al :bad"),
    ] {
        let mut server = Server::new(sasl());
        server.send(&format!(":irc.x CAP * LS :{offer}\n:irc.x CAP * ACK :batch"));
        server.send(rest);
        let events = server.events();
        assert!(matches!(events.last(), Some(Event::Over(Over { again: Again::Late, .. }))), "{offer}: {events:?}");
        assert!(!server.written().contains(&"CAP END".to_owned()));
    }
}

#[test]
fn a_server_that_asks_for_tls_gets_no_word_without() {
    let mut server = Server::new(Identity { tls: false, ..sasl() });
    server.send(":irc.x CAP * LS :sasl sts=port=6697,duration=1");
    assert!(matches!(server.events()[..], [Event::Over(Over { again: Again::Tls(6697), .. })]));
}

#[test]
fn a_taken_nick_is_replaced_and_regained() {
    let mut server = Server::new(identity());
    server.written();
    server.send(":irc.x 433 * al :in use");
    assert_eq!(server.written(), ["NICK al2"]);
    server.send(":irc.x 433 * al2 :in use");
    assert_eq!(server.written(), ["NICK al_"]);
    server.send(":irc.x 001 al_ :hi\n:irc.x 422 al_ :no motd");
    server.written();
    server.pass(11);
    assert_eq!(server.written(), ["ISON al"]);
    server.send(":irc.x 303 al_ :al ");
    assert!(server.written().is_empty());
    server.pass(19);
    server.send("PING :x");
    server.pass(19);
    server.send("PING :x");
    server.pass(19);
    server.send("PING :x");
    server.pass(19);
    assert!(server.written().contains(&"ISON al".to_owned()));
    server.send(":irc.x 303 al_ :");
    assert_eq!(server.written(), ["NICK al"]);
    server.send(":al_!~al@h NICK al");
    assert_eq!(server.engine.presence().nick, "al");
    // And where its holder leaves before we ask.
    let mut server = Server::ready(identity(), "NICKLEN=9");
    server.send(":al!~al@h NICK other");
    server.written();
    server.send(":al!x@y QUIT :gone");
    assert_eq!(server.written(), ["NICK al"]);
}

#[test]
fn a_text_is_delivered_once_the_server_has_read_it() {
    let mut server = Server::ready(identity(), "CHANTYPES=#");
    server.join("#a");
    server.engine.say(1, "#a", Verb::Say, "hello").unwrap();
    server.engine.say(2, "#b", Verb::Say, "nobody").unwrap();
    server.engine.say(3, "bob", Verb::Action, "waves").unwrap();
    let written = server.written();
    assert_eq!(
        written,
        ["PRIVMSG #a :hello", "PING :mesyx-1", "PRIVMSG #b :nobody", "PRIVMSG bob :\u{1}ACTION waves\u{1}"]
    );
    assert!(server.events().is_empty());
    server.send(":irc.x 404 al #b :Cannot send to channel\n:irc.x PONG irc.x :mesyx-1");
    assert!(matches!(&server.events()[..], [Event::Job(1, Fate::Taken { .. })]));
    server.pong();
    match &server.events()[..] {
        [Event::Job(2, Fate::Refused(why)), Event::Job(3, Fate::Taken { .. })] => {
            assert_eq!(why, "404 Cannot send to channel");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_is_what_came_before_the_server_had_read_on() {
    let mut server = Server::ready(identity(), "CHANTYPES=#");
    server.engine.ask(7, "WHOIS", &["bob".into()], Which::All).unwrap();
    server.engine.ask(8, "MODE", &["#a".into(), "+o".into(), "bob".into()], Which::All).unwrap();
    server.send(":irc.x 311 al bob b h * :Bob\n:irc.x 318 al bob :end");
    server.pong();
    match &server.events()[..] {
        [Event::Answer(7, replies)] => {
            assert_eq!(replies.len(), 2);
            assert_eq!(replies[0].parameters, ["al", "bob", "b", "h", "*", "Bob"]);
        }
        other => panic!("{other:?}"),
    }
    server.send(":irc.x 482 al #a :not operator");
    server.pong();
    assert!(matches!(&server.events()[..], [Event::Answer(8, replies)] if replies[0].command == "482"));
    // What nobody asked for is told.
    server.send(":irc.x 401 al nobody :no such nick");
    assert!(matches!(&server.news()[..], [News::Numeric { command, .. }] if command == "401"));
}

#[test]
fn rooms_are_kept_up_to_date() {
    let channels = vec![("#A".to_owned(), Some("key".to_owned())), ("#b".to_owned(), None)];
    let mut server = Server::new(Identity { channels, ..identity() });
    server.written();
    server.send(":irc.x 001 al :hi\n:irc.x 005 al TARGMAX=JOIN:,PRIVMSG:4 PREFIX=(qov)~@+ :x\n:irc.x 422 al :no motd");
    assert_eq!(server.written(), ["USERHOST al", "JOIN #A,#b key"]);
    server.send(
        ":al!~al@h JOIN #A\n:irc.x 332 al #A :topic\n:irc.x 353 al = #A :~@al!~al@h +bob @eve\n:irc.x 366 al #A :end",
    );
    server.send(
        ":irc.x 324 al #A +knt key\n:eve!e@h MODE #A +o-v+l bob bob 5\n:eve!e@h KICK #A bob :out\n:eve!e@h NICK adam",
    );
    let channel = server.engine.channels().remove(0);
    assert_eq!((channel.name.as_str(), channel.modes.as_str(), channel.topic.as_str()), ("#A", "+lnt 5", "topic"));
    let members = server.engine.members("#a").unwrap();
    let members: Vec<_> = members.iter().map(|member| format!("{}{}", member.signs, member.nick)).collect();
    assert_eq!(members, ["@adam", "~@al"]);
    // Removed: joined again, not at once.
    server.events();
    server.written();
    server.send(":adam!e@h KICK #A al :you too");
    assert!(server.engine.members("#a").is_none() && server.written().is_empty());
    server.pass(5);
    server.send("PING x");
    server.written();
    server.pass(15);
    assert_eq!(server.written(), ["JOIN #A key"]);
    server.send(":irc.x 474 al #A :banned");
    server.pass(15);
    assert!(!server.written().contains(&"JOIN #A key".to_owned()));
}

#[test]
fn how_one_stands_in_a_channel_is_known_once_all_of_it_was_told() {
    let channels = vec![("#a".to_owned(), None)];
    let mut server = Server::ready(Identity { channels, ..identity() }, "PREFIX=(ov)@+ STATUSMSG=@+");
    server.send(":al!~al@h JOIN #a\n:irc.x 332 al #a :of cheese\n:irc.x 353 al = #a :al @eve\n:irc.x 366 al #a :end");
    assert!(server.engine.standing("#a").is_none());
    server.send(":irc.x 324 al #a +tm\n:eve!e@h MODE #a +v al");
    let standing = server.engine.standing("#A").unwrap();
    assert_eq!((standing.signs.as_str(), standing.topic.as_str()), ("+", "of cheese"));
    assert!(standing.guarded && standing.moderated && !standing.alone && server.engine.is_member("#a", "EVE"));
    // What is for some of the channel is told from what is for all.
    server.events();
    server.send(":eve!e@h PRIVMSG @#a :among us\n:eve!e@h PRIVMSG #a :to all");
    let to = server.events().into_iter().map(|event| match event {
        Event::Said(said) => (said.channel, said.to_some),
        other => panic!("{other:?}"),
    });
    let to: Vec<_> = to.collect();
    assert_eq!(to, [(Some("#a".to_owned()), true), (Some("#a".to_owned()), false)]);
    // Left for a while, and joined again.
    server.written();
    let now = server.now;
    server.engine.stay_out("#a", Duration::from_secs(60), now);
    assert_eq!(server.written(), ["PART #a"]);
    server.send(":al!~al@h PART #a");
    assert!(server.engine.standing("#a").is_none());
    server.pass(19);
    server.send("PING :x");
    server.pass(19);
    server.send("PING :x");
    assert!(!server.written().contains(&"JOIN #a".to_owned()));
    server.pass(19);
    server.send("PING :x");
    server.pass(10);
    assert!(server.written().contains(&"JOIN #a".to_owned()));
}

#[test]
fn netsplits_are_quiet() {
    let mut server = Server::ready(identity(), "CHANTYPES=#");
    server.join("#a");
    for n in 0..50 {
        server.send(&format!(":n{n}!u@h JOIN #a"));
    }
    server.events();
    for n in 0..50 {
        server.send(&format!(":n{n}!u@h QUIT :a.x b.x"));
    }
    server.send(":bob!u@h QUIT :bye");
    assert!(matches!(&server.news()[..], [News::Quit { who, .. }] if who.nick == "bob"));
    server.pass(3);
    assert!(
        matches!(&server.news()[..], [News::Split { servers, nicks }] if servers == "a.x b.x" && nicks.len() == 50)
    );
    for n in 0..50 {
        server.send(&format!(":n{n}!u@h JOIN #a"));
    }
    server.pass(3);
    assert!(matches!(&server.news()[..], [News::SplitOver { channel, nicks }] if channel == "#a" && nicks.len() == 50));
    assert_eq!(server.engine.members("#a").unwrap().len(), 51);
}

#[test]
fn a_dead_server_is_found_within_a_minute() {
    let mut server = Server::ready(identity(), "CHANTYPES=#");
    server.pass(21);
    assert_eq!(server.written(), ["PING :there"]);
    assert!(server.engine.deadline(server.now) <= server.now + Duration::from_secs(25));
    server.pass(25);
    assert!(matches!(&server.events()[..], [Event::Over(Over { again: Again::Soon, .. })]));
}

#[test]
fn ctcp_is_answered_modestly() {
    let mut server = Server::ready(identity(), "CHANTYPES=#");
    for request in ["VERSION", "PING 12", "FINGER", "USERINFO", "DCC SEND x 1 2 3", "SOURCE"] {
        server.send(&format!(":bob!u@h PRIVMSG al :\u{1}{request}\u{1}"));
    }
    assert_eq!(server.written(), ["NOTICE bob :\u{1}VERSION Mesyx\u{1}", "NOTICE bob :\u{1}PING 12\u{1}"]);
    for _ in 0..50 {
        server.send(":bob!u@h PRIVMSG al :\u{1}VERSION\u{1}");
    }
    assert_eq!(server.written().len(), 1);
    server.send(":bob!u@h PRIVMSG #a :\u{1}VERSION\u{1}\n:bob!u@h NOTICE al :\u{1}VERSION x\u{1}");
    assert!(server.written().is_empty());
}

#[test]
fn a_message_in_several_lines_stays_one() {
    let mut server = Server::new(identity());
    server.send(":irc.x CAP * LS :batch message-tags draft/multiline=max-bytes=4096,max-lines=24 echo-message");
    for cap in ["batch", "message-tags", "draft/multiline", "echo-message"] {
        server.send(&format!(":irc.x CAP * ACK :{cap}"));
    }
    server.send(":irc.x 001 al :hi\n:irc.x 422 al :no motd");
    server.events();
    server.written();
    server.engine.say(1, "bob", Verb::Say, "one\n\ntwo").unwrap();
    let written = server.written();
    assert_eq!(
        written[..5],
        [
            "BATCH +m1 draft/multiline bob",
            "@batch=m1 PRIVMSG bob :one",
            "@batch=m1 PRIVMSG bob :",
            "@batch=m1 PRIVMSG bob :two",
            "BATCH -m1"
        ]
    );
    server.send("@batch=9;msgid=x :al!a@h BATCH +1 draft/multiline bob\n:al!a@h PRIVMSG bob :one");
    server.send("@msgid=y :bob!b@h BATCH +2 draft/multiline al\n@batch=2 :bob!b@h PRIVMSG al :a\n@batch=2;draft/multiline-concat :bob!b@h PRIVMSG al :b\n@batch=2 :bob!b@h PRIVMSG al :c\nBATCH -2");
    match &server.events()[..] {
        [Event::Said(said)] => {
            assert_eq!((&said.raw[..], said.msgid.as_deref()), (&b"ab\nc"[..], Some("y")));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_pace_is_kept_and_pongs_go_before() {
    let mut server = Server::ready(Identity { pace: (5, Duration::from_secs(2)), ..identity() }, "CHANTYPES=#");
    server.pass(10);
    for n in 0..100 {
        server.engine.say(n, "bob", Verb::Say, &format!("line {n}")).unwrap();
    }
    let first = server.written();
    assert!(first.len() <= 6, "{first:?}");
    server.send("PING :now");
    assert_eq!(server.written(), ["PONG :now"]);
    let mut lines = first.iter().filter(|line| line.starts_with("PRIVMSG")).count();
    let mut seconds = 0;
    while lines < 100 {
        seconds += 1;
        server.pass(1);
        for line in server.written() {
            lines += usize::from(line.starts_with("PRIVMSG"));
            if let Some(token) = line.strip_prefix("PING :") {
                server.send(&format!(":irc.x PONG irc.x :{token}"));
            }
        }
        assert!(seconds < 1000);
    }
    assert!(seconds >= 190, "{seconds}");
}

/// What would be a second line or another parameter, where it was written as it is.
const HOSTILE: &str = "[a-c#:,!@ \r\n\u{0}\u{1}é]{0,12}";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Nothing of a text is lost, and no line is longer than what others get of it.
    #[test]
    fn splitting_loses_nothing(text in "[ -~éßα漢🙂\n]{1,900}", action in any::<bool>()) {
        let mut server = Server::ready(identity(), "CHANTYPES=#");
        let verb = if action { Verb::Action } else { Verb::Say };
        if server.engine.say(1, "#channel", verb, &text).is_err() {
            prop_assert!(text.chars().all(|c| c == '\n'));
            return Ok(());
        }
        let mut whole = String::new();
        for line in server.written().iter().filter(|line| line.starts_with("PRIVMSG")) {
            let seen = format!(":al!~al@host.example {line}\r\n");
            prop_assert!(seen.len() <= 512, "{}", seen.len());
            let text = line.strip_prefix("PRIVMSG #channel :").unwrap();
            whole.push_str(text.strip_prefix("\u{1}ACTION ").map_or(text, |text| text.strip_suffix('\u{1}').unwrap()));
        }
        // `written` cuts blanks at the end of lines; compare without blanks.
        let bare = |text: &str| text.replace([' ', '\n'], "");
        prop_assert_eq!(bare(&whole), bare(&text));
    }

    /// No text, target or parameter becomes a second command.
    #[test]
    fn nothing_becomes_a_second_command(target in HOSTILE, text in HOSTILE, more in HOSTILE) {
        let mut server = Server::ready(identity(), "CHANTYPES=#");
        let _ = server.engine.say(1, &target, Verb::Say, &text);
        let _ = server.engine.say_lines(2, &target, &[text.clone().into_bytes()]);
        let _ = server.engine.ask(3, "TOPIC", &[target.clone(), more.clone()], Which::All);
        server.engine.request_ctcp(&target, &more, &text);
        server.engine.away(Some(&text));
        server.engine.part(&target, &text);
        while let Some(bytes) = server.engine.next_bytes(server.now) {
            let line = bytes.strip_suffix(b"\r\n").unwrap();
            prop_assert!(!line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
            let line = Line::parse(line, FROM_NETWORK).unwrap();
            prop_assert!(["PRIVMSG", "TOPIC", "PING", "AWAY"].iter().any(|command| line.is(command)));
            prop_assert!(!line.is("TOPIC") || line.parameters.len() == 2);
        }
    }

    /// Nothing that a user or the operator set, and no parameter of any command, becomes a second line or another command.
    #[test]
    fn no_field_and_no_parameter_becomes_a_second_line(
        fields in proptest::collection::vec(HOSTILE, 10),
        parameters in proptest::collection::vec(HOSTILE, 0..4),
        command in proptest::sample::select(crate::link::COMMANDS.to_vec()),
    ) {
        let field = |at: usize| fields[at].clone();
        let id = Identity {
            nick: field(0),
            altnicks: vec![field(1)],
            username: field(2),
            realname: field(3),
            pass: Some(Secret::from(field(4))),
            sasl: Some(Sasl::Plain { account: field(5), password: Secret::from(field(6)) }),
            channels: vec![(field(7), Some(field(8))), ("#good".into(), None)],
            ..identity()
        };
        let mut server = Server::new(id.clone());
        let mut lines = Vec::new();
        let mut drain = |server: &mut Server| {
            while let Some(bytes) = server.engine.next_bytes(server.now) {
                lines.push(bytes);
            }
        };
        drain(&mut server);
        server.send(":irc.x 433 * al :taken\n:irc.x CAP * LS :sasl batch\n:irc.x CAP * ACK :sasl\n:irc.x CAP * ACK :batch\nAUTHENTICATE +");
        drain(&mut server);
        server.send(":irc.x 903 al :ok\n:irc.x 001 al :hi\n:irc.x 422 al :no motd");
        drain(&mut server);
        server.engine.change(Identity { nick: field(9), channels: vec![(field(8), Some(field(7)))], ..id }, server.now);
        let _ = server.engine.ask(1, command, &parameters, Which::All);
        let join: Vec<String> = parameters.iter().take(2).cloned().collect();
        let _ = server.engine.ask(2, "JOIN", &join, Which::Errors);
        for _ in 0..4 {
            drain(&mut server);
            server.send(":irc.x PONG irc.x :mesyx-1\n:irc.x PONG irc.x :mesyx-2\n:irc.x PONG irc.x :mesyx-3");
        }
        server.engine.part(&field(7), &field(3));
        server.engine.typing(&field(0), "active");
        server.engine.quit(&field(3));
        drain(&mut server);
        let own = [
            "CAP", "PASS", "NICK", "USER", "AUTHENTICATE", "USERHOST", "JOIN", "MODE", "ISON", "PING", "PART", "TAGMSG",
            "QUIT", command,
        ];
        for bytes in lines {
            let line = bytes.strip_suffix(b"\r\n").unwrap();
            prop_assert!(!line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
            let line = Line::parse(line, FROM_NETWORK).unwrap();
            prop_assert!(own.iter().any(|command| line.is(command)), "{:?}", line);
            prop_assert!(!line.is("NICK") || command == "NICK" || line.parameters.len() == 1);
        }
    }

    /// Whatever a server sends is taken without a panic, and with bounded memory.
    #[test]
    fn any_lines_are_taken(lines in proptest::collection::vec(
        "(@(batch=1;)?(time=[0-9TZ:.-]{0,8};)?(msgid=x)? )?(:(al|bob!b@h|irc\\.x) )?(00[15]|302|324|353|366|376|4[0-9]{2}|9[0-9]{2}|JOIN|PART|KICK|MODE|NICK|QUIT|BATCH|CAP|PRIVMSG|FAIL|AUTHENTICATE|[A-Z]{1,5})( (al|#a|\\+1|-1|\\*|LS|[!-~é]{1,8})){0,4}( :[ -~\u{1}é]{0,20})?",
        0..60,
    )) {
        let mut server = Server::new(identity());
        for line in lines {
            server.send(&line);
            server.events();
            server.written();
        }
        server.pass(100);
    }
}
