//! On ngircd: joining, talking, kicks, splits, restarts, a frozen server, floods.

use crate::support::{Bridged, Ngircd, Other, PATIENCE, free_port, skipped};
use mesyx_bridge_irc::link::{Ask, Channel, Member, News, Presence, Reply, State};
use mesyx_sdk::*;
use std::time::{Duration, Instant};

fn net() -> String {
    "net".into()
}

#[tokio::test]
async fn joins_talks_and_asks() {
    if skipped() {
        return;
    }
    let server = Ngircd::start("irc", free_port(), "").await;
    let mut bob = Other::connect(server.port, "Bob").await;
    bob.join("#a").await;
    let mut al = Bridged::start(server.port, serde_json::json!({})).await;
    al.joined().await;
    bob.wait("JOIN :#a").await;

    // In: a channel and a private line, what is no UTF-8, and an action; each once, in the right conversation.
    bob.send("PRIVMSG #a :hello channel").await;
    bob.send("PRIVMSG al :hello al").await;
    bob.send("PRIVMSG #a :\u{1}ACTION waves\u{1}").await;
    let (headers, line, _) = al.line("hello channel").await;
    assert_eq!(
        (headers.nick.as_str(), headers.from.to_string(), headers.to.to_string(), line.verb),
        ("Bob", "irc:net/bob".into(), "irc:net/#a".into(), Verb::Say)
    );
    let (headers, ..) = al.line("hello al").await;
    assert_eq!(headers.to.to_string(), "mesyx:al@example.org");
    assert_eq!(al.line("waves").await.1.verb, Verb::Action);
    let conversations: Vec<_> = al.host.accepted().into_iter().map(|envelope| envelope.conversation.unwrap()).collect();
    assert_eq!(conversations[0], Conversation::Group("irc:net/#a".parse().unwrap()));
    assert_eq!(conversations[1], Conversation::Direct("irc:net/bob".parse().unwrap()));

    // Out: said once the server has read it; a refusal comes with its words; no echo of it is stored.
    al.says("#a", "hello bob").await;
    bob.wait("PRIVMSG #a :hello bob").await;
    al.says("#a", &"long words ".repeat(100)).await;
    let (mut long, mut words) = (0, 0);
    while words < 100 {
        let line = bob.wait("PRIVMSG #a :").await;
        assert!(line.len() <= 510);
        long += line.matches("long").count();
        words += line.matches("words").count();
    }
    assert_eq!((long, words), (100, 100));
    let outcome = al.say("nobody", Line::say("is there?")).await;
    assert!(matches!(&outcome, Outcome::Failed { why } if why.contains("401")), "{outcome:?}");
    let action = Line { verb: Verb::Action, ..Line::say("waves back") };
    assert!(matches!(al.say("#a", action).await, Outcome::Delivered { .. }));
    bob.wait("\u{1}ACTION waves back\u{1}").await;
    assert_eq!(al.lines().len(), 3);

    // By whatever address it was sent, it goes by the one connection of its speaker; who is nobody here has none.
    let mail = Address::Mail(al.user.address.clone());
    assert!(matches!(al.say_as(mail, "#a", Line::say("by mail")).await, Outcome::Delivered { .. }));
    assert!(bob.wait("by mail").await.starts_with(":al!"));
    for from in ["joe@example.net", "mesyx:al@example.net", "mesyx:#a@example.org", "irc:net/bob"] {
        let outcome = al.say_as(from.parse().unwrap(), "#a", Line::say("not mine")).await;
        assert!(matches!(&outcome, Outcome::Failed { why } if why.contains("only users")), "{from}: {outcome:?}");
    }
    bob.send("LUSERS").await;
    assert!(bob.wait(" 265 ").await.contains(" 2 "), "al and bob");

    // A channel that al is not in is joined by writing to it.
    bob.join("#new").await;
    al.says("#new", "may I?").await;
    bob.wait("PRIVMSG #new :may I?").await;

    // Questions.
    let presence = Presence::of(&al.ask(Ask::Presence { network: net() }).await.unwrap());
    assert_eq!((presence.state, presence.nick.as_str(), presence.host.as_str()), (State::Connected, "al", "127.0.0.1"));
    assert!(presence.isupport.iter().any(|token| token.starts_with("CHANTYPES")));
    let names = Member::of(&al.ask(Ask::Names { network: net(), channel: "#A".into() }).await.unwrap());
    assert_eq!(
        names.iter().map(|member| format!("{}{}", member.signs, member.nick)).collect::<Vec<_>>(),
        ["al", "@Bob"]
    );
    let command = |command: &str, parameters: &[&str]| Ask::Command {
        network: net(),
        command: command.into(),
        parameters: parameters.iter().map(|parameter| (*parameter).to_owned()).collect(),
    };
    let whois = Reply::of(&al.ask(command("WHOIS", &["bob"])).await.unwrap());
    assert!(whois.iter().any(|reply| reply.command == "311" && reply.parameters[1] == "Bob"), "{whois:?}");
    assert!(whois.iter().any(|reply| reply.command == "318"));
    assert!(al.ask(command("PRIVMSG", &["#a", "x"])).await.is_err());
    bob.send("TOPIC #a :of cheese").await;
    al.news("the topic", |news| matches!(news, News::Topic { topic, .. } if topic == "of cheese").then_some(())).await;
    let join = Ask::Join { network: net(), channel: "#b".into(), key: None };
    assert_eq!(al.ask(join).await.unwrap().rows, Vec::<Vec<String>>::new());
    let channels = Channel::of(&al.ask(Ask::Channels { network: net() }).await.unwrap());
    assert_eq!(
        channels.iter().filter(|channel| channel.joined).map(|channel| channel.name.as_str()).collect::<Vec<_>>(),
        ["#a", "#b", "#new"]
    );
    assert_eq!(channels[0].topic, "of cheese");

    // Removed, and back after a pause.
    bob.send("KICK #a al :out").await;
    al.news("the kick", |news| {
        matches!(news, News::Kick { nick, reason, .. } if nick == "al" && reason == "out").then_some(())
    })
    .await;
    al.joined().await;

    // Channels that were joined are joined again by the next life.
    let (host, user) = al.stop().await;
    bob.wait("QUIT").await;
    let kept = host.checkpoint("user/").await.unwrap();
    assert!(kept.is_none());
    assert_eq!(host.checkpoints("user/").await.unwrap().len(), 1);
    let next = MemoryHost::new("example.org".parse().unwrap());
    for key in host.checkpoints("").await.unwrap() {
        next.set_checkpoint(&key, host.checkpoint(&key).await.unwrap()).await.unwrap();
    }
    let mut al = Bridged::again(next, user, server.port, serde_json::json!({}));
    al.news("the join of #b", |news| matches!(news, News::Join { channel, .. } if channel == "#b").then_some(())).await;
    al.stop().await;
}

#[tokio::test]
async fn comes_back_after_a_restart_and_finds_a_frozen_server_within_a_minute() {
    if skipped() {
        return;
    }
    let mut server = Ngircd::start("irc", free_port(), "").await;
    let mut al = Bridged::start(server.port, serde_json::json!({})).await;
    al.joined().await;
    server.end();
    al.news("the loss", |news| matches!(news, News::Disconnected { .. }).then_some(())).await;
    // Said while there is no connection: it waits for it.
    server.run().await;
    al.says("#a", "still there").await;
    al.joined().await;

    server.signal("-STOP");
    let frozen = Instant::now();
    let outcome = al.say("#a", Line::say("into the void")).await;
    assert!(matches!(outcome, Outcome::Deferred { maybe_sent: true, .. }), "{outcome:?}");
    al.news("the loss", |news| matches!(news, News::Disconnected { .. }).then_some(())).await;
    assert!(frozen.elapsed() < Duration::from_secs(60), "{:?}", frozen.elapsed());
    eprintln!("a frozen server was found dead after {:?}", frozen.elapsed());
    server.signal("-CONT");
    al.joined().await;
    al.stop().await;
}

#[tokio::test]
async fn a_netsplit_is_quiet() {
    if skipped() {
        return;
    }
    let (here, there) = (free_port(), free_port());
    let link = |name: &str, port: &str| {
        format!("[Server]\nName = {name}.example\nHost = 127.0.0.1\n{port}\nMyPassword = x\nPeerPassword = x\n")
    };
    let first = Ngircd::start("one", here, &link("two", "Passive = yes")).await;
    let mut second = Ngircd::start("two", there, &link("one", &format!("Port = {here}"))).await;
    let mut al = Bridged::start(first.port, serde_json::json!({})).await;
    al.joined().await;
    let mut away = Vec::new();
    for n in 0..5 {
        let mut other = Other::connect(second.port, &format!("other{n}")).await;
        other.join("#a").await;
        away.push(other);
    }
    let mut seen = 0;
    al.news("five joins", |news| {
        seen += usize::from(matches!(news, News::Join { .. }));
        (seen == 5).then_some(())
    })
    .await;
    second.end();
    let nicks = al
        .news("the split", |news| match news {
            News::Split { nicks, servers } => Some((nicks, servers)),
            News::Quit { who, reason } => panic!("{} quit: {reason}", who.nick),
            _ => None,
        })
        .await;
    assert_eq!((nicks.0.len(), nicks.1.split(' ').count()), (5, 2));
    al.stop().await;
}

#[tokio::test]
async fn a_hundred_lines_at_once_all_arrive_in_order() {
    if skipped() {
        return;
    }
    let server = Ngircd::start("irc", free_port(), "").await;
    let mut bob = Other::connect(server.port, "bob").await;
    bob.join("#a").await;
    let mut al = Bridged::start(server.port, serde_json::json!({})).await;
    al.joined().await;
    let texts: Vec<String> = (0..100).map(|n| format!("line {n}")).collect();
    let all = texts.iter().map(|text| al.says("#a", text));
    let receive = async {
        for text in &texts {
            let line = bob.wait("PRIVMSG #a").await;
            assert!(line.ends_with(text.as_str()), "{line}");
        }
    };
    tokio::time::timeout(PATIENCE, async { tokio::join!(futures_util::future::join_all(all), receive) }).await.unwrap();
    // And as many in the other direction, each once.
    for text in &texts {
        bob.send(&format!("PRIVMSG #a :{text} back")).await;
    }
    al.line("line 99 back").await;
    let stored: Vec<_> = al.lines().into_iter().map(|(_, line, _)| line.text).collect();
    assert_eq!(stored, texts.iter().map(|text| format!("{text} back")).collect::<Vec<_>>());
    al.stop().await;
}

#[tokio::test]
async fn a_user_adds_a_network_and_a_private_address_is_refused() {
    if skipped() {
        return;
    }
    use mesyx_bridge_irc::link::{NetworkInfo, Settings};
    let server = Ngircd::start("irc", free_port(), "").await;
    let port = server.port.to_string();
    let own = |host: &str| {
        Settings::from([
            ("host", host),
            ("port", port.as_str()),
            ("tls", "0"),
            ("nickname", "ally"),
            ("pass", "s3cret-canary"),
        ])
    };
    let add = |host: &str| Ask::Add { network: "mine".into(), settings: own(host) };
    let al = Bridged::start(server.port, serde_json::json!({})).await;
    al.ask(add("127.0.0.1")).await.unwrap();
    let error = tokio::time::timeout(PATIENCE, async {
        loop {
            let all = NetworkInfo::of(&al.ask(Ask::Networks).await.unwrap());
            assert!(!format!("{:?}", al.ask(Ask::Networks).await.unwrap()).contains("canary"));
            let mine = all.iter().find(|info| info.name == "mine").unwrap();
            if !mine.error.is_empty() {
                return mine.error.clone();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(error.await.unwrap().contains("private address"));
    assert_eq!(al.ask(add("127.0.0.1")).await.unwrap_err().kind(), ErrorKind::Exists);
    let change = Ask::Change { network: net(), settings: Settings::from([("host", "10.0.0.1")]) };
    assert_eq!(al.ask(change).await.unwrap_err().kind(), ErrorKind::Forbidden);
    al.ask(Ask::Remove { network: "mine".into() }).await.unwrap();
    assert_eq!(NetworkInfo::of(&al.ask(Ask::Networks).await.unwrap()).len(), 1);
    al.stop().await;
}
