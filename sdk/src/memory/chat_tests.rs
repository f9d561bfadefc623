use super::*;
use crate::chat::address_of;
use crate::{
    Anchor, ChatEvent, ChatLine, Conversation, ErrorKind, GroupChange, History, Kind, Line, LineHeaders, LiveFeed,
    Rank, Session, Style, Verb,
};

async fn three() -> (MemoryHost, Vec<Arc<dyn Session>>) {
    let host = MemoryHost::new("example.org".parse().unwrap());
    let names = ["ann", "bob", "cy"];
    let sessions = names.map(|name| {
        host.add_user(name, "secret").unwrap();
        host.session(name).unwrap()
    });
    (host, sessions.into())
}

fn line(host: &MemoryHost, session: &dyn Session, to: &Conversation, text: &str) -> Envelope {
    let (Conversation::Direct(address) | Conversation::Group(address)) = to;
    let from = address_of(session.user(), crate::Host::domain(host)).unwrap();
    let mut envelope = envelope(Some(from.clone()), vec![address.clone()], crate::Content::default());
    let headers = LineHeaders {
        id: envelope.id,
        from,
        nick: session.user().name.clone(),
        to: address.clone(),
        at: envelope.received,
    };
    envelope.content = Line::say(text).to_content(&headers, crate::Host::domain(host)).unwrap();
    (envelope.style, envelope.kind, envelope.conversation) = (Style::Instant, Kind::Message, Some(to.clone()));
    envelope
}

fn heard(feed: &mut LiveFeed) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(event) = feed.try_next() {
        all.push(match event {
            ChatEvent::Line(line) | ChatEvent::GroupLine { line, .. } => {
                format!("{} {} {}", line.line.verb.as_str(), line.nick, line.line.text)
            }
            ChatEvent::Read { up_to, .. } => format!("read {up_to}"),
            ChatEvent::Group(group) => format!("group of {}", group.members.len()),
            ChatEvent::Signal(signal) => format!("signal {}", signal.name),
            other => format!("{other:?}"),
        });
    }
    all
}

fn texts(lines: &[Arc<ChatLine>]) -> Vec<&str> {
    lines.iter().map(|line| line.line.text.as_str()).collect()
}

#[tokio::test]
async fn a_group_is_heard_by_its_members_and_guests() {
    let (host, sessions) = three().await;
    let demo: crate::Address = "mesyx:#Demo@example.org".parse().unwrap();
    let join = || GroupChange::Join { key: None };
    let group = sessions[0].change_group(&demo, join()).await.unwrap();
    assert_eq!((group.name.as_str(), group.members[0].rank), ("#Demo", Rank::Founder));
    let mut guests = crate::Host::guests(&host).await.unwrap();
    let mut bob = sessions[1].live().await.unwrap();
    let mut cy = sessions[2].live().await.unwrap();
    sessions[1].change_group(&demo, join()).await.unwrap();
    assert_eq!(sessions[1].change_group(&demo, join()).await.unwrap().members.len(), 2);
    let to = Conversation::Group("mesyx:#demo@example.org".parse().unwrap());
    sessions[1].submit(line(&host, &*sessions[1], &to, "hello")).await.unwrap();
    let expected = ["join bob ", "group of 2", "say bob hello"];
    assert_eq!(
        (heard(&mut bob), heard(&mut guests)),
        (expected.map(String::from).into(), expected.map(String::from).into())
    );
    assert_eq!(heard(&mut cy), [] as [&str; 0]);
    let stranger = sessions[2].submit(line(&host, &*sessions[2], &to, "let me")).await;
    assert_eq!(stranger.unwrap_err().kind(), ErrorKind::Forbidden);

    let mode = |set, mode, parameter: &str| GroupChange::Mode { set, mode, parameter: Some(parameter.into()) };
    assert_eq!(sessions[1].change_group(&demo, mode(true, 'k', "x")).await.unwrap_err().kind(), ErrorKind::Forbidden);
    sessions[0].change_group(&demo, mode(true, 'k', "x")).await.unwrap();
    assert!(sessions[2].change_group(&demo, join()).await.unwrap_err().message().contains("(+k)"));
    sessions[1].change_group(&demo, GroupChange::Invite { user: "cy".into() }).await.unwrap();
    assert_eq!(heard(&mut cy), ["signal invite"]);
    sessions[2].change_group(&demo, join()).await.unwrap();
    let kick = GroupChange::Kick { member: "cy".into(), reason: "out".into() };
    sessions[0].change_group(&demo, kick).await.unwrap();
    assert_eq!(heard(&mut cy), ["join cy ", "group of 3", "kick ann out", "group of 2"]);
    assert!(sessions[2].conversation(&to, true).await.is_err());
}

#[tokio::test]
async fn history_and_what_is_read_are_the_same_everywhere() {
    let (host, sessions) = three().await;
    let (ann, bob) = (&*sessions[0], &*sessions[1]);
    let to_bob = Conversation::Direct(address_of(bob.user(), crate::Host::domain(&host)).unwrap());
    let to_ann = Conversation::Direct(address_of(ann.user(), crate::Host::domain(&host)).unwrap());
    let mut ids = Vec::new();
    for text in ["1", "2", "3", "4", "5"] {
        ids.push(ann.submit(line(&host, ann, &to_bob, text)).await.unwrap().id);
    }
    let mine = ann.conversation(&to_bob, false).await.unwrap();
    assert_eq!((mine.last, mine.read), (5, 5));
    let info = bob.conversation(&to_ann, false).await.unwrap();
    assert_eq!((info.last, info.read), (5, 0));
    let at = |place: usize| Anchor::Message(ids[place]);
    for (wanted, limit, expected) in [
        (History::Latest(None), 2, "45"),
        (History::Latest(Some(at(2))), 9, "45"),
        (History::Before(at(3)), 2, "23"),
        (History::After(at(1)), 2, "34"),
        (History::Around(at(2)), 3, "234"),
        (History::Around(at(4)), 3, "345"),
        (History::Between(at(0), at(4)), 2, "23"),
        (History::Between(at(4), at(0)), 2, "34"),
        (History::Between(at(2), at(2)), 2, ""),
    ] {
        let lines = bob.history(info.mailbox, wanted, limit).await.unwrap();
        assert_eq!(texts(&lines).concat(), expected, "{wanted:?}");
    }
    let mut feed = bob.live().await.unwrap();
    bob.mark_read(info.mailbox, 3).await.unwrap();
    let flag = crate::FlagChange::Add(vec![crate::Flag::Seen]);
    bob.store_flags(info.mailbox, &[4], &flag, None).await.unwrap();
    assert_eq!(heard(&mut feed), ["read 3", "read 4"]);
    assert_eq!(bob.conversation(&to_ann, false).await.unwrap().read, 4);
    let names: Vec<_> = bob.mailboxes().await.unwrap().into_iter().map(|mailbox| mailbox.name.to_string()).collect();
    assert!(names.contains(&"Chat/ann".to_owned()), "{names:?}");
    assert_eq!(ann.history(mine.mailbox, History::Latest(None), 9).await.unwrap()[0].line.verb, Verb::Say);
}
