//! What RFC 1459, RFC 2812, modern.ircdocs.horse and the IRCv3 specifications say of single commands.

use super::*;

/// Has a client send each line, and compares the numerics and commands that come back.
fn table(world: &mut World, id: ClientId, rows: &[(&str, &[&str])]) {
    for (line, expected) in rows {
        let lines = world.say(id, line);
        assert_eq!(numerics(&lines), *expected, "{line}: {lines:#?}");
    }
}

#[test]
fn numerics_have_their_parameters() {
    let mut world = World::new();
    let (ann, _bob) = (world.guest("ann", ""), world.guest("bob", ""));
    let other = world.guest("other", "");
    world.say(ann, "JOIN #x");
    world.say(other, "JOIN #y");
    for (line, expected) in [
        ("JOIN", "461 ann JOIN :Not enough parameters"),
        ("JOIN x", "403 ann x :No such channel"),
        ("PART #none", "403 ann #none :No such channel"),
        ("PART #y", "442 ann #y :You're not on that channel"),
        ("TOPIC #x", "331 ann #x :No topic is set"),
        ("TOPIC #y :mine", "442 ann #y :You're not on that channel"),
        ("KICK #x nobody", "401 ann nobody :No such nick/channel"),
        ("KICK #x bob", "441 ann bob #x :They aren't on that channel"),
        ("KICK #none bob", "403 ann #none :No such channel"),
        ("KICK #x", "461 ann KICK :Not enough parameters"),
        ("INVITE bob", "461 ann INVITE :Not enough parameters"),
        ("INVITE nobody #x", "401 ann nobody :No such nick/channel"),
        ("INVITE ann #x", "443 ann ann #x :is already on channel"),
        ("INVITE bob #y", "442 ann #y :You're not on that channel"),
        ("MODE #x +E", "472 ann E :is unknown mode char to me"),
        ("MODE #x +k", "461 ann MODE :Not enough parameters"),
        ("MODE #x +o nobody", "401 ann nobody :No such nick/channel"),
        ("MODE #x +v bob", "441 ann bob #x :They aren't on that channel"),
        ("MODE #none +n", "403 ann #none :No such channel"),
        ("MODE bob +i", "502 ann :Cant change mode for other users"),
        ("MODE nobody +i", "401 ann nobody :No such nick/channel"),
        ("MODE ann +Q", "501 ann :Unknown MODE flag"),
        ("MODE ann", "221 ann +"),
        ("PRIVMSG", "411 ann :No recipient given (PRIVMSG)"),
        ("PRIVMSG bob", "412 ann :No text to send"),
        ("PRIVMSG bob :", "412 ann :No text to send"),
        ("PRIVMSG nobody :x", "401 ann nobody :No such nick/channel"),
        ("PRIVMSG #none :x", "403 ann #none :No such channel"),
        ("PRIVMSG #y :x", "404 ann #y :Cannot send to channel (+n)"),
        ("PRIVMSG a,b,c,d,e :x", "407 ann e :Too many recipients"),
        ("WHOIS", "431 ann :No nickname given"),
        ("WHOIS irc.elsewhere ann", "402 ann irc.elsewhere :No such server"),
        ("MOTD irc.elsewhere", "402 ann irc.elsewhere :No such server"),
        ("TIME irc.elsewhere", "402 ann irc.elsewhere :No such server"),
        ("NAMES #none", "366 ann #none :End of /NAMES list"),
        ("NAMES", "366 ann * :End of /NAMES list"),
        ("WHO #none", "315 ann #none :End of WHO list"),
        ("ISON nobody bob", "303 ann bob"),
        ("OPER x y", "491 ann :No O-lines for your host"),
        ("KILL bob :x", "481 ann :Permission Denied- You're not an IRC operator"),
        ("SUMMON bob", "445 ann :SUMMON has been disabled"),
        ("USERS", "446 ann :USERS has been disabled"),
        ("STARTTLS", "421 ann STARTTLS :Unknown command"),
        ("NICK bob", "433 ann bob :Nickname is already in use"),
        ("NICK a!b", "432 ann a!b :Erroneous nickname"),
        ("NICK", "431 ann :No nickname given"),
        ("Frobnicate x", "421 ann Frobnicate :Unknown command"),
        ("FOO-BAR x", "421 ann FOO-BAR :Unknown command"),
        ("STATS z", "219 ann z :End of /STATS report"),
        ("HELP nothing", "524 ann nothing :No help on that; try HELP index"),
        ("AWAY :gone", "306 ann :You have been marked as being away"),
        ("AWAY", "305 ann :You are no longer marked as being away"),
        ("CAP FOO", "410 ann FOO :Invalid CAP command"),
        ("PING", "461 ann PING :Not enough parameters"),
        ("MONITOR L", "733 ann :End of MONITOR list"),
        ("MONITOR + nobody", "731 ann nobody"),
        ("USER x 0 * :x", "462 ann :You may not reregister"),
        ("PASS x", "462 ann :You may not reregister"),
    ] {
        let lines = world.say(ann, line);
        assert_eq!(lines.len(), 1, "{line}: {lines:#?}");
        // A last parameter without spaces stands with or without a colon.
        assert_eq!(lines[0].replace(" :", " "), format!(":irc.example.org {expected}").replace(" :", " "), "{line}");
    }
}

#[test]
fn answers_of_many_lines_are_whole() {
    let mut world = World::new();
    let (ann, bob) = (world.guest("ann", ""), world.guest("bob", ""));
    table(
        &mut world,
        ann,
        &[
            ("JOIN #x,#y key", &["JOIN", "353", "366", "JOIN", "353", "366"]),
            ("MODE #x", &["324", "329"]),
            ("MODE #x b", &["368"]),
            ("MODE #x +b bob", &["MODE"]),
            ("MODE #x +b", &["367", "368"]),
            ("MODE #x +e", &["349"]),
            ("MODE #x I", &["347"]),
            ("TOPIC #x :t", &["TOPIC"]),
            ("TOPIC #x", &["332", "333"]),
            ("TOPIC #x :", &["TOPIC"]),
            ("TOPIC #x", &["331"]),
            ("LUSERS", &["251", "252", "253", "254", "255", "265", "266"]),
            ("MOTD", &["422"]),
            ("VERSION", &["351", "005", "005", "005"]),
            ("TIME", &["391"]),
            ("INFO", &["371", "371", "374"]),
            ("ADMIN", &["256", "257", "258", "259"]),
            ("LINKS", &["364", "365"]),
            ("STATS u", &["242", "219"]),
            ("HELP PRIVMSG", &["704", "705", "706"]),
            ("LIST", &["321", "322", "322", "323"]),
            ("LIST #x", &["321", "322", "323"]),
            ("LIST >1", &["321", "323"]),
            ("WHO #x", &["352", "315"]),
            ("WHO ann o", &["315"]),
            ("WHO #x %tcuihsnfdlaor,7", &["354", "315"]),
            ("WHOIS bob", &["311", "312", "317", "318"]),
            ("WHOIS irc.example.org bob", &["311", "312", "317", "318"]),
            ("WHOIS bob bob", &["311", "312", "317", "318"]),
            ("WHOIS nobody,bob", &["401", "318", "311", "312", "317", "318"]),
            ("WHOIS nobody", &["401", "318"]),
            ("WHOWAS nobody", &["406", "369"]),
            ("USERHOST ann bob nobody", &["302"]),
            ("KICK #x,#y nobody,bob", &["401", "441"]),
            ("MODE ann +i", &["MODE"]),
            ("MODE ann +o", &[]),
            ("NOTICE nobody :x", &[]),
            ("JOIN 0", &["PART", "PART"]),
        ],
    );
    table(&mut world, bob, &[("JOIN #x", &["JOIN", "353", "366"]), ("PART #x :bye", &["PART"])]);
    world.say(ann, "NICK anna");
    table(&mut world, bob, &[("WHOWAS ann", &["314", "312", "369"]), ("WHOWAS ann 0 irc.elsewhere", &["402"])]);
}

#[test]
fn who_rows_have_their_order() {
    let mut world = World::new();
    let (ann, bob) = (world.guest("ann", "multi-prefix"), world.guest("bob", ""));
    world.say(ann, "JOIN #x");
    let host = world.server.cloak(ann);
    let row = world.say(ann, "WHO #x");
    assert_eq!(row[0], format!(":irc.example.org 352 ann #x ~ann {host} irc.example.org ann H@ :0 Real ann"));
    let row = world.say(ann, "WHO #x %tcuhsnfdaor,7");
    let expected = format!(":irc.example.org 354 ann 7 #x ~ann {host} irc.example.org ann H@ 0 0 n/a :Real ann");
    assert_eq!(row[0], expected);
    let hidden = world.say(bob, "WHO ann");
    assert_eq!(hidden[0], format!(":irc.example.org 352 bob #x ~ann {host} irc.example.org ann H@ :0 Real ann"));
    world.say(ann, "MODE #x +s");
    assert!(world.say(bob, "WHO ann")[0].contains(" 352 bob * "));
    world.say(ann, "MODE ann +i");
    assert_eq!(numerics(&world.say(bob, "WHO a*")), ["315"]);
    assert_eq!(numerics(&world.say(bob, "WHO ann")), ["352", "315"]);
}

#[test]
fn capabilities_are_listed_for_each_version() {
    let mut world = World::new();
    let id = world.connect();
    let lines = world.say(id, "CAP LS 302");
    assert!(lines.len() > 1 && lines[0].starts_with(":irc.example.org CAP * LS * :"), "{lines:?}");
    assert!(lines.last().unwrap().starts_with(":irc.example.org CAP * LS :"), "{lines:?}");
    assert!(lines.concat().contains("sasl=PLAIN") && lines.concat().contains("draft/multiline=max-bytes="));
    assert!(world.say(id, "CAP LIST")[0].ends_with(" LIST :cap-notify"));
    assert!(world.say(id, "CAP REQ :batch nonsense")[0].contains(" NAK :batch nonsense"));
    assert!(!world.say(id, "CAP LIST").concat().contains("batch"), "all of a request or nothing");
    assert!(world.say(id, "CAP REQ :batch sasl")[0].contains(" ACK :batch sasl"));
    assert!(world.say(id, "CAP REQ :-batch")[0].contains(" ACK "));
    assert!(!world.say(id, "CAP LIST").concat().contains("batch"));
    let old = world.connect();
    let lines = world.say(old, "CAP LS");
    assert_eq!(lines.len(), 1, "version 301 knows no list that goes on: {lines:?}");
    assert!(lines[0].len() <= 510 && !lines[0].contains('='), "{lines:?}");
}

#[test]
fn who_goes_on_in_the_midst_of_sasl_gives_it_up() {
    let mut world = World::new();
    let id = world.connect();
    for line in ["CAP REQ :sasl", "NICK ann", "USER ann 0 * :x"] {
        world.say(id, line);
    }
    assert_eq!(world.say(id, "AUTHENTICATE PLAIN"), [":irc.example.org AUTHENTICATE :+".replace(":+", "+")]);
    let lines = world.say(id, "CAP END");
    assert_eq!(numerics(&lines)[..2], ["906", "001"]);
    let id = world.connect();
    world.say(id, "CAP REQ :sasl");
    table(
        &mut world,
        id,
        &[
            ("AUTHENTICATE SCRAM-SHA-256", &["908", "904"]),
            ("AUTHENTICATE *", &["906"]),
            ("AUTHENTICATE PLAIN", &["AUTHENTICATE"]),
            ("AUTHENTICATE *", &["906"]),
            ("AUTHENTICATE plain", &["AUTHENTICATE"]),
            ("AUTHENTICATE !!", &["904"]),
        ],
    );
    world.say(id, "AUTHENTICATE PLAIN");
    assert_eq!(numerics(&world.say(id, &format!("AUTHENTICATE {}", "A".repeat(401)))), ["905"]);
}

#[test]
fn one_who_writes_to_itself_has_the_label_on_the_echo_only() {
    let mut world = World::new();
    let ann = world.guest("ann", "labeled-response batch echo-message message-tags");
    let lines = world.say(ann, "@label=1 PRIVMSG ann :hi");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(!lines[0].contains("label=") && lines[1].starts_with("@label=1;"), "{lines:?}");
    let bob = world.guest("bob", "");
    assert_eq!(world.say(bob, "PRIVMSG bob :hi").len(), 1);
}

#[test]
fn a_stranger_can_make_little_wait() {
    let mut world = World::new();
    let id = world.connect();
    for _ in 0..200 {
        world.send(id, "CAP LS 302");
    }
    assert_eq!((world.boxes[&id].take(), world.boxes[&id].waiting()), (outbox::Pending::Cut, 0));
    // One who is let in has the room that the configuration gives.
    let ann = world.guest("ann", "");
    for _ in 0..200 {
        world.send(ann, "CAP LS 302");
    }
    assert!(world.boxes[&ann].waiting() > 2 * Outbox::BEFORE);
}

#[test]
fn who_asks_before_registering_learns_of_nobody() {
    let mut world = World::new();
    let _ann = world.guest("ann", "");
    let id = world.connect();
    for line in
        ["WHOIS ann", "ISON ann", "NAMES", "LIST", "WHO *", "PRIVMSG ann :x", "MONITOR + ann", "STARTTLS", "LUSERS"]
    {
        assert_eq!(numerics(&world.say(id, line)), ["451"], "{line}");
    }
}

#[test]
fn labels_without_batches_stand_on_answers_of_one_line() {
    let mut world = World::new();
    let ann = world.guest("ann", "labeled-response");
    assert_eq!(world.say(ann, "@label=1 PING x"), ["@label=1 :irc.example.org PONG irc.example.org x"]);
    let lines = world.say(ann, "@label=1 WHOIS ann");
    assert!(lines.len() > 3 && !lines.concat().contains("BATCH"), "{lines:?}");
}

#[test]
fn a_message_of_several_lines_is_one() {
    let mut world = World::new();
    let caps = "draft/multiline batch message-tags echo-message labeled-response";
    let (ann, bob, old) = (world.guest("ann", caps), world.guest("bob", caps), world.guest("old", "message-tags"));
    for id in [ann, bob, old] {
        world.say(id, "JOIN #x");
    }
    for id in [ann, bob, old] {
        world.lines(id);
    }
    for line in [
        "@label=7;+x=y BATCH +1 draft/multiline #x",
        "@batch=1 PRIVMSG #x :first",
        "@batch=1 PRIVMSG #X :",
        "@batch=1 PRIVMSG #x :second, ",
        "@batch=1;draft/multiline-concat PRIVMSG #x :whole",
    ] {
        assert_eq!(world.say(ann, line), [] as [&str; 0], "{line}");
    }
    let echo = world.say(ann, "BATCH -1");
    assert!(echo[0].starts_with("@label=7;msgid=") && echo[0].contains(" BATCH +m"), "{echo:#?}");
    let heard = world.lines(bob);
    assert_eq!(heard.len(), 6, "{heard:#?}");
    assert!(heard[0].contains("+x=y") && heard[0].ends_with(" draft/multiline #x"), "{heard:#?}");
    assert!(heard[1].starts_with("@batch=m") && heard[1].ends_with(" PRIVMSG #x :first"), "{heard:#?}");
    assert!(heard[4].contains(";draft/multiline-concat ") && heard[4].ends_with(":whole"), "{heard:#?}");
    let plain = world.lines(old);
    let texts: Vec<&str> = plain.iter().map(|line| line.split_once(" PRIVMSG #x :").unwrap().1).collect();
    assert_eq!(texts, ["first", "second, ", "whole"]);
    assert!(plain[0].contains("msgid=") && !plain[1].contains("msgid="), "{plain:#?}");
}

#[test]
fn a_bad_batch_delivers_nothing() {
    let mut world = World::new();
    let caps = "draft/multiline batch message-tags";
    let (ann, bob) = (world.guest("ann", caps), world.guest("bob", ""));
    let long = format!("@batch=1 PRIVMSG bob :{}", "x".repeat(480));
    let many: Vec<&str> = vec!["@batch=1 PRIVMSG bob :x"; 201];
    let much: Vec<&str> = vec![long.as_str(); 69];
    let cases: [(Vec<&str>, &str); 8] = [
        (vec!["@batch=1 PRIVMSG other :x"], "MULTILINE_INVALID_TARGET bob other "),
        (vec![], "MULTILINE_INVALID "),
        (vec!["@batch=1 PRIVMSG bob :"], "MULTILINE_INVALID "),
        (vec!["@batch=1 PRIVMSG bob :x", "@batch=1;draft/multiline-concat PRIVMSG bob :"], "MULTILINE_INVALID "),
        (vec!["@batch=1 JOIN #x"], "MULTILINE_INVALID "),
        (vec!["@batch=2 PRIVMSG bob :x", "@batch=1 PRIVMSG other :x"], "MULTILINE_INVALID "),
        (many, "MULTILINE_MAX_LINES 200 "),
        (much, "MULTILINE_MAX_BYTES 32768 "),
    ];
    for (lines, code) in cases {
        world.say(ann, "BATCH +1 draft/multiline bob");
        let mut answers = Vec::new();
        for line in &lines {
            answers.extend(world.say(ann, line));
        }
        answers.extend(world.say(ann, "BATCH -1"));
        assert_eq!(answers.len(), 1, "{code}: {answers:#?}");
        assert!(answers[0].contains(&format!("FAIL BATCH {code}")), "{code}: {answers:#?}");
        assert_eq!(world.lines(bob), [] as [&str; 0], "{code}");
    }
    assert!(world.say(ann, "BATCH -1")[0].contains("FAIL BATCH MULTILINE_INVALID"));
    assert_eq!(numerics(&world.say(bob, "BATCH +1 draft/multiline ann")), ["421"]);
}

#[test]
fn markers_come_between_join_and_names_and_never_go_back() {
    let mut world = World::new();
    let ann = world.guest("ann", "draft/read-marker server-time");
    let marks =
        |lines: Vec<String>| lines.into_iter().map(|l| l.rsplit(' ').next().unwrap().to_owned()).next().unwrap();
    assert_eq!(numerics(&world.say(ann, "JOIN #x")), ["JOIN", "MARKREAD", "353", "366"]);
    assert_eq!(marks(world.say(ann, "MARKREAD #x")), "*");
    let (early, late) = ("timestamp=2020-01-01T00:00:00.000Z", "timestamp=2021-01-01T00:00:00.000Z");
    assert_eq!(marks(world.say(ann, &format!("MARKREAD #x {late}"))), late);
    assert_eq!(marks(world.say(ann, &format!("MARKREAD #x {early}"))), late);
    assert_eq!(marks(world.say(ann, "MARKREAD #x")), late);
    let now = format!("timestamp={}", msg::stamp(world.now));
    assert_eq!(marks(world.say(ann, "MARKREAD #x timestamp=2999-01-01T00:00:00.000Z")), now, "not beyond now");
    assert!(world.say(ann, "MARKREAD")[0].contains("FAIL MARKREAD NEED_MORE_PARAMS"));
    assert!(world.say(ann, "MARKREAD #x yesterday")[0].contains("FAIL MARKREAD INVALID_PARAMS"));
}

#[test]
fn history_is_refused_with_the_right_code() {
    let mut world = World::new();
    let ann = world.guest("ann", "draft/chathistory batch server-time message-tags");
    world.say(ann, "JOIN #x");
    for (line, code) in [
        ("CHATHISTORY", "NEED_MORE_PARAMS"),
        ("CHATHISTORY SOMETIMES #x * 1", "UNKNOWN_COMMAND SOMETIMES"),
        ("CHATHISTORY LATEST #x *", "NEED_MORE_PARAMS LATEST"),
        ("CHATHISTORY LATEST #x * many", "INVALID_PARAMS LATEST many"),
        ("CHATHISTORY BEFORE #x * 1", "INVALID_MSGREFTYPE BEFORE *"),
        ("CHATHISTORY BEFORE #x hash=1 1", "INVALID_MSGREFTYPE BEFORE hash=1"),
        ("CHATHISTORY AFTER #x timestamp=soon 1", "INVALID_PARAMS AFTER timestamp=soon"),
        ("CHATHISTORY LATEST #none * 1", "INVALID_TARGET LATEST #none"),
    ] {
        let lines = world.say(ann, line);
        assert!(lines[0].contains(&format!("FAIL CHATHISTORY {code} ")), "{line}: {lines:?}");
    }
    assert_eq!(numerics(&world.say(ann, "CHATHISTORY LATEST #x * 1")).len(), 2, "an empty batch");
}

#[test]
fn channels_let_in_what_their_modes_let_in() {
    let mut world = World::new();
    let (ann, bob) = (world.guest("ann", ""), world.guest("bob", ""));
    world.say(ann, "JOIN #x");
    assert_eq!(numerics(&world.say(bob, "PRIVMSG #x :x")), ["404"]);
    world.say(ann, "MODE #x -n");
    assert_eq!(numerics(&world.say(bob, "PRIVMSG #x :from outside")), [] as [&str; 0]);
    assert!(world.lines(ann)[0].ends_with("PRIVMSG #x :from outside"));
    world.say(ann, "MODE #x +sn");
    assert_eq!(numerics(&world.say(bob, "NAMES #x")), ["366"]);
    assert_eq!(numerics(&world.say(bob, "LIST")), ["321", "323"]);
    assert_eq!(numerics(&world.say(bob, "TOPIC #x")), ["442"]);
}

#[test]
fn only_who_is_left_unmonitored_is_told_of_nobody() {
    let mut world = World::new();
    let ann = world.guest("ann", "");
    assert_eq!(numerics(&world.say(ann, "MONITOR + Bob,cy")), ["731"]);
    let bob = world.guest("bob", "");
    assert!(world.lines(ann)[0].contains(" 730 ann bob!~bob@"));
    world.say(bob, "NICK robert");
    assert_eq!(numerics(&world.lines(ann)), ["731"]);
    world.say(bob, "NICK bob");
    assert_eq!(numerics(&world.lines(ann)), ["730"]);
    assert_eq!(numerics(&world.say(ann, "MONITOR S")), ["730", "731"]);
    assert!(world.say(ann, "MONITOR L")[0].ends_with("732 ann Bob,cy"), "as they were written");
    assert_eq!(numerics(&world.say(ann, "MONITOR C")), [] as [&str; 0]);
    world.server.disconnected(world.now, bob, "gone");
    assert_eq!(world.lines(ann), [] as [&str; 0]);
    let many: Vec<String> = (0..101).map(|n| format!("n{n}")).collect();
    let mut lines = Vec::new();
    for some in many.chunks(50) {
        lines.extend(world.say(ann, &format!("MONITOR + {}", some.join(","))));
    }
    assert!(lines.last().unwrap().contains(" 734 ann 100 n100 "), "{lines:?}");
}

/// IRCv3 `sasl-3.2`: "a client, authenticated or otherwise", may authenticate at any time; 907 is for those who can't change accounts.
#[test]
fn a_guest_logs_in_later_and_a_user_only_once() {
    let mut world = World::new();
    let (ann, bob) = (world.guest("ann", "sasl"), world.guest("bob", ""));
    world.say(ann, "JOIN #x");
    world.say(bob, "JOIN #x");
    world.lines(ann);
    assert_eq!(world.say(ann, "AUTHENTICATE PLAIN"), [":irc.example.org AUTHENTICATE +"]);
    // "\0alice/net\0secret": networks are for new connections.
    assert_eq!(numerics(&world.say(ann, "AUTHENTICATE AGFsaWNlL25ldABzZWNyZXQ=")), ["904"]);
    world.say(ann, "AUTHENTICATE PLAIN");
    let asks = world.server.line(world.now, ann, b"AUTHENTICATE AGFsaWNlAHNlY3JldA==");
    assert!(matches!(&asks[..], [Ask::Login { name, sasl: true, .. }] if name == "alice"));
    let user =
        User { id: mesyx_sdk::UserId([1; 16]), name: "alice".into(), address: "alice@example.org".parse().unwrap() };
    let ask = asks.into_iter().next().unwrap();
    let asks = world.server.given(world.now, ann, ask, Ok(Given::User(user)));
    assert!(matches!(asks[..], [Ask::Enter]));
    assert_eq!(numerics(&world.lines(ann)), ["900", "903"]);
    let entered = Given::Entered { groups: Vec::new(), networks: Vec::new(), bound: None };
    world.server.given(world.now, ann, Ask::Enter, Ok(entered));
    world.server.finish(ann);
    // The user has the guest's nick, which is free now; what others see is that the guest left.
    let lines = world.lines(ann);
    assert!(lines[0].starts_with(":ann!~ann@") && lines[0].ends_with(" PART #x :Logged in as alice"), "{lines:?}");
    assert!(world.lines(bob).iter().any(|line| line.starts_with(":ann!~ann@") && line.contains(" QUIT :Logged in")));
    assert!(world.say(bob, "WHOIS ann").iter().any(|line| line.contains(" 330 bob ann alice ")));
    assert!(!world.say(bob, "NAMES #x")[0].contains("ann"));
    assert_eq!(numerics(&world.say(ann, "AUTHENTICATE PLAIN")), ["907"]);
    world.server.disconnected(world.now, ann, "gone");
    world.server.disconnected(world.now, bob, "gone");
    assert!(world.server.people.is_empty() && world.server.channels.is_empty() && world.server.nicks.is_empty());
}

#[test]
fn three_failed_logins_of_a_guest_end_the_connection() {
    let mut world = World::new();
    let ann = world.guest("ann", "sasl");
    for attempt in 1..=3 {
        world.say(ann, "AUTHENTICATE PLAIN");
        let ask = world.server.line(world.now, ann, b"AUTHENTICATE AGFsaWNlAHdyb25n").remove(0);
        let wrong = mesyx_sdk::Error::new(mesyx_sdk::ErrorKind::LoginFailed, "no");
        world.server.given(world.now, ann, ask, Err(wrong));
        world.server.finish(ann);
        let lines = world.lines(ann);
        assert_eq!(numerics(&lines)[0], "904");
        assert_eq!(lines.iter().any(|line| line.starts_with("ERROR ")), attempt == 3, "{lines:?}");
    }
}

/// What ISUPPORT says of lengths is what holds, and a topic is given back as it was set.
#[test]
fn lengths_are_as_told() {
    let facts = Facts { topic: 60, channel_name: 8, ..facts(true) };
    for (facts, topic, name) in [(facts, 60, 8), (super::facts(true), 390, 50)] {
        let mut world = World { server: Server::new(facts), ..World::new() };
        let ann = world.guest("ann", "");
        let told = world.say(ann, "VERSION").join(" ");
        assert!(
            told.contains(&format!(" TOPICLEN={topic} ")) && told.contains(&format!(" CHANNELLEN={name} ")),
            "{told}"
        );
        let channel = format!("#{}", "c".repeat(name - 1));
        assert_eq!(numerics(&world.say(ann, &format!("JOIN {channel}c"))), ["403"]);
        assert_eq!(numerics(&world.say(ann, &format!("JOIN {channel}")))[0], "JOIN");
        let text = "t".repeat(topic);
        let lines = world.say(ann, &format!("TOPIC {channel} :{text}t"));
        assert!(lines[0].ends_with(&format!(" TOPIC {channel} :{text}")), "{lines:?}");
        let lines = world.say(ann, &format!("TOPIC {channel}"));
        assert!(lines[0].ends_with(&format!(" 332 ann {channel} :{text}")), "{lines:?}");
    }
}

/// A name with blanks, which no answer can repeat, is answered all the same.
#[test]
fn what_can_not_be_repeated_is_answered() {
    let mut world = World::new();
    let ann = world.guest("ann", "");
    world.say(ann, "JOIN #x");
    table(
        &mut world,
        ann,
        &[
            ("VERSION :no such server", &["402"]),
            ("MODE :a b", &["401"]),
            ("KICK #x :a b", &["401"]),
            ("PRIVMSG :a b", &["412"]),
            ("PRIVMSG a,:b :x", &["401", "401"]),
            ("JOIN :#a b", &["403"]),
            ("WHOIS :a b", &["401", "318"]),
            ("WHOWAS :a b", &["406", "369"]),
            ("NAMES :#a b", &["366"]),
            ("MODE #x +o :a b", &["401"]),
            ("HELP :a b", &["524"]),
        ],
    );
}
