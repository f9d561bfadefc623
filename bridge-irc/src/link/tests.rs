use super::*;
use mesyx_sdk::{MessageId, User, UserId};

fn user() -> User {
    User { id: UserId([7; 16]), name: "al".into(), address: "al@example.org".parse().unwrap() }
}

#[test]
fn questions_come_back() {
    let net = || "libera".to_owned();
    let settings = || Settings::from([("host", "irc.example.org"), ("channels", "#a,#b k=1")]);
    let all = [
        Ask::Networks,
        Ask::Add { network: net(), settings: settings() },
        Ask::Change { network: net(), settings: settings() },
        Ask::Remove { network: net() },
        Ask::Connect { network: net() },
        Ask::Disconnect { network: net(), reason: String::new() },
        Ask::Presence { network: net() },
        Ask::Channels { network: net() },
        Ask::Names { network: net(), channel: "#a".into() },
        Ask::Join { network: net(), channel: "#a".into(), key: None },
        Ask::Join { network: net(), channel: "#a".into(), key: Some("k".into()) },
        Ask::Part { network: net(), channel: "#a".into(), reason: "bye now".into() },
        Ask::Command { network: net(), command: "WHO".into(), parameters: vec!["#a".into(), "%n".into()] },
        Ask::Away { network: None, text: Some(String::new()) },
        Ask::Away { network: Some(net()), text: None },
        Ask::Typing { network: net(), target: "#a".into(), state: "active".into() },
        Ask::Ctcp { network: net(), target: "bob".into(), command: "PING".into(), text: "1".into() },
        Ask::Service { network: None, text: "status bob".into() },
    ];
    for ask in all {
        assert_eq!(Ask::of(&ask.question(&user())).unwrap(), ask);
    }
    let mut question = Ask::Names { network: net(), channel: "#a".into() }.question(&user());
    question.args.pop();
    assert!(Ask::of(&question).unwrap_err().message().contains("channel"));
}

#[test]
fn news_come_back_and_keep_to_the_limits_of_a_signal() {
    let who = || Who { nick: "bob".into(), user: "b".into(), host: "h".into() };
    let (channel, text) = (|| "#a".to_owned(), || "x".to_owned());
    let all = [
        News::Connected { nick: text() },
        News::Disconnected { why: text() },
        News::Networks,
        News::Join { channel: channel(), who: who(), account: text(), realname: text() },
        News::Part { channel: channel(), who: who(), reason: text() },
        News::Kick { channel: channel(), who: who(), nick: text(), reason: text() },
        News::Quit { who: who(), reason: text() },
        News::Split { servers: "a.x b.x".into(), nicks: vec![text(), text()] },
        News::SplitOver { channel: channel(), nicks: vec![text()] },
        News::Nick { who: who(), nick: text() },
        News::Mode {
            target: channel(),
            who: Who { nick: "irc.x".into(), ..Who::default() },
            args: vec!["+o".into(), text()],
        },
        News::Topic { channel: channel(), who: who(), topic: String::new() },
        News::Away { who: who(), text: None },
        News::Away { who: who(), text: Some(text()) },
        News::Account { who: who(), account: text() },
        News::Host { who: who(), user: text(), host: text() },
        News::Realname { who: who(), realname: text() },
        News::Invite { who: who(), nick: text(), channel: channel() },
        News::Typing { target: channel(), who: who(), state: text() },
        News::Names { channel: channel() },
        News::Notice { who: who(), text: text() },
        News::Numeric { source: text(), command: "401".into(), parameters: vec![text()] },
        News::Ctcp { who: who(), command: text(), text: text() },
        News::Service { peer: text(), text: text() },
        News::Sent { id: MessageId([1; 16]), otr: true, msgid: text() },
    ];
    for news in all {
        let mut signal = news.signal("libera", UserId([7; 16]));
        assert_eq!(News::of(&signal), None, "another bridge's signal is not ours");
        signal.bridge = NETWORK_BRIDGE.into();
        assert_eq!(News::of(&signal), Some(("libera", news)));
    }
    let long = News::Mode { target: channel(), who: who(), args: vec!["é".repeat(1000); 40] };
    let signal = long.signal("libera", UserId([7; 16]));
    assert!(signal.args.len() <= 16 && signal.args.iter().all(|arg| arg.len() <= 1024));
}
