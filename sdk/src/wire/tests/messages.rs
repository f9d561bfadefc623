//! Calls with bodies, sockets, certificates, feeds and conversations.

use super::super::host::Limits;
use super::stage::{PATIENCE, login, wired};
use crate::chat::address_of;
use crate::memory::envelope;
use crate::{
    Address, Answer, Append, Certificates, Change, ChatEvent, Content, Conversation, Error, ErrorKind, Flag, Grant,
    GroupChange, History, Host, Kind, Line, LineHeaders, ListenSpec, LiveFeed, MailboxId, MemoryHost, Question,
    RecipientStatus, Secret, Sender, Session, Signal, SignalTo, Style, TlsIdentity,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

fn host() -> MemoryHost {
    let host = MemoryHost::new("example.org".parse().unwrap());
    host.add_user("ann", "secret").unwrap();
    host.add_user("bob", "other").unwrap();
    host
}

fn bytes(size: u32) -> Vec<u8> {
    (0..size).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}

fn to_ann(content: Vec<u8>) -> crate::Envelope {
    envelope(None, vec!["ann@example.org".parse().unwrap()], Content::from(content))
}

async fn inbox(session: &dyn Session) -> MailboxId {
    session.mailboxes().await.unwrap().into_iter().find(|mailbox| mailbox.name.is_inbox()).unwrap().id
}

#[tokio::test]
async fn bodies_come_and_go_whole() {
    let host = host();
    let remote = wired(&host, Limits::default(), &[]).await.remote;
    let session = remote.login(login("ann", "secret")).await.unwrap();
    let inbox = inbox(&*session).await;
    let sizes = [0, 1, 65_535, 65_536, 65_537, 131_072, 1_000_000];
    let batch = sizes.iter().map(|size| to_ann(bytes(*size))).collect();
    assert!(remote.accept(batch).await.iter().all(Result::is_ok));
    for size in sizes {
        let content = Content::from(bytes(size));
        session.append(inbox, vec![Append { flags: vec![Flag::Seen], internal_date: None, content }]).await.unwrap();
    }
    let uids: Vec<u32> = (1..=14).collect();
    let mut all = Vec::new();
    while all.len() < uids.len() {
        all.extend(session.bodies(inbox, &uids[all.len()..]).await.unwrap());
    }
    for ((uid, body), size) in all.iter().zip(sizes.iter().chain(&sizes)) {
        assert!(**body == *bytes(*size), "message {uid} of {size} bytes");
    }
    let many: Vec<_> = (0..600).map(|_| to_ann(bytes(10))).collect();
    assert_eq!(remote.accept(many).await.iter().filter(|result| result.is_ok()).count(), 600);
    let snapshot = session.snapshot(inbox, false).await.unwrap();
    assert_eq!(snapshot.entries.len(), 614);
}

/// Messages that many bring at once are answered each for itself.
#[tokio::test]
async fn many_at_once_are_answered_each_for_itself() {
    let host = host();
    let remote = wired(&host, Limits::default(), &[]).await.remote;
    let mut tasks = Vec::new();
    for number in 0..60 {
        let mut message = to_ann(bytes(10 + number));
        if number % 3 == 0 {
            message.to[0].address = "nobody@example.org".parse().unwrap();
        }
        let remote = Arc::clone(&remote);
        tasks.push((message.id, tokio::spawn(async move { remote.accept(vec![message]).await })));
    }
    for (number, (id, task)) in tasks.into_iter().enumerate() {
        let mut answers = timeout(PATIENCE, task).await.unwrap().unwrap();
        assert_eq!(answers.len(), 1);
        match answers.remove(0) {
            Ok(accepted) => assert!(accepted.id == id && number % 3 != 0, "{number}"),
            Err(error) => assert!(error.kind() != ErrorKind::Unavailable && number % 3 == 0, "{number}: {error}"),
        }
    }
    assert_eq!(host.accepted().len(), 40);
}

/// A name that was not there is asked about anew; one that is there is taken for that for a moment, where a stranger writes to it.
#[tokio::test]
async fn an_address_is_remembered_for_a_moment_where_it_is_ours() {
    let host = host();
    let both = wired(&host, Limits::default(), &[]).await;
    let asks = async |address: &str, sender: Sender| both.remote.recipient(&address.parse().unwrap(), &sender).await;
    assert_eq!(asks("cat@example.org", Sender::Stranger).await, Ok(RecipientStatus::Unknown));
    let cat = host.add_user("cat", "meow").unwrap();
    assert_eq!(asks("cat@example.org", Sender::Stranger).await, Ok(RecipientStatus::Local));
    both.bridge.close();
    timeout(PATIENCE, both.remote.stopped()).await.unwrap();
    tokio::time::pause();
    assert_eq!(asks("cat@example.org", Sender::Stranger).await, Ok(RecipientStatus::Local));
    assert!(asks("cat@example.org", Sender::User(cat.id)).await.is_err(), "what a user may do is always asked");
    assert!(asks("ann@example.org", Sender::Stranger).await.is_err());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(asks("cat@example.org", Sender::Stranger).await.is_err());
}

#[tokio::test]
async fn large_messages_share_a_small_budget() {
    let host = MemoryHost::with_budget("example.org".parse().unwrap(), 30 << 20);
    host.add_user("ann", "secret").unwrap();
    let remote = wired(&host, Limits::default(), &[]).await.remote;
    let large = [&b"\r\n"[..], &bytes(24_999_998)].concat();
    host.hold_accepts();
    let first = tokio::spawn({
        let (remote, message) = (Arc::clone(&remote), to_ann(large.clone()));
        async move { remote.accept(vec![message]).await.remove(0) }
    });
    timeout(PATIENCE, host.brought(1)).await.unwrap();
    let left = Host::budget(&host).available();
    assert!(left < 7 << 20, "the message is counted while it is taken: {left}");
    let batch = vec![to_ann(large), to_ann(bytes(100)), to_ann(bytes(20))];
    let second = tokio::spawn(async move { remote.accept(batch).await });
    timeout(PATIENCE, host.brought(2)).await.unwrap();
    host.release_accepts();
    assert!(timeout(PATIENCE, first).await.unwrap().unwrap().is_ok());
    let second = timeout(PATIENCE, second).await.unwrap().unwrap();
    let kinds: Vec<_> = second.iter().map(|result| result.as_ref().map(drop).map_err(Error::kind)).collect();
    assert_eq!(kinds, [Err(ErrorKind::Full), Ok(()), Ok(())]);
    assert_eq!(Host::budget(&host).available(), 30 << 20, "all of it is given back");
}

#[tokio::test]
async fn a_share_and_a_size_bound_one_bridge() {
    let limits = Limits { upload_share: 1 << 20, largest: 2 << 20, ..Limits::default() };
    let remote = wired(&host(), limits, &[]).await.remote;
    let answers = remote.accept(vec![to_ann(bytes(1_100_000)), to_ann(bytes(3_000_000)), to_ann(bytes(9))]).await;
    let kinds: Vec<_> = answers.iter().map(|result| result.as_ref().map(drop).map_err(Error::kind)).collect();
    assert_eq!(kinds, [Err(ErrorKind::Full), Err(ErrorKind::TooLarge), Ok(())]);
}

#[tokio::test]
async fn a_message_cut_off_is_not_taken() {
    let host = host();
    let both = wired(&host, Limits::default(), &[]).await;
    host.hold_accepts();
    let accepting = tokio::spawn({
        let remote = Arc::clone(&both.remote);
        async move { remote.accept(vec![to_ann(bytes(10)), to_ann(bytes(70_000))]).await }
    });
    timeout(PATIENCE, host.brought(1)).await.unwrap();
    both.bridge.close();
    let answers = timeout(PATIENCE, accepting).await.unwrap().unwrap();
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap_err().kind() == ErrorKind::Unavailable), "{answers:?}");
    assert_eq!(answers.len(), 2);
    timeout(PATIENCE, both.run).await.unwrap().unwrap().unwrap_err();
    host.release_accepts();
    assert!(host.accepted().is_empty());
    let gone = both.remote.login(login("ann", "secret")).await.err().unwrap();
    assert_eq!(gone.kind(), ErrorKind::Unavailable);
    // The bridge is told to stop, too.
    timeout(PATIENCE, both.remote.stopped()).await.unwrap();
}

#[tokio::test]
async fn listening_sockets_are_passed() {
    let remote = wired(&host(), Limits::default(), &[]).await.remote;
    let spec = |name: &str| ListenSpec { name: name.into(), address: ([127, 0, 0, 1], 0).into() };
    let mut calls = tokio::task::JoinSet::new();
    for name in ["a", "b", "c", "d", "e", "f"] {
        let remote = Arc::clone(&remote);
        calls.spawn(async move { (name, remote.listen(&spec(name)).await.unwrap()) });
    }
    let sockets: HashMap<_, _> = calls.join_all().await.into_iter().collect();
    assert_eq!(sockets.len(), 6);
    for socket in sockets.into_values() {
        let socket = tokio::net::TcpListener::from_std(socket).unwrap();
        let address = socket.local_addr().unwrap();
        let (client, server) = tokio::join!(tokio::net::TcpStream::connect(address), socket.accept());
        assert_eq!(client.unwrap().local_addr().unwrap(), server.unwrap().1);
    }
}

#[tokio::test]
async fn certificates_and_their_replacements_come() {
    let host = host();
    let identity = |name: &str| {
        let key = rustls_pki_types::PrivatePkcs8KeyDer::from(name.as_bytes().to_vec()).into();
        Certificates(vec![TlsIdentity { names: vec![name.to_owned()], chain: vec![vec![1, 2].into()], key }])
    };
    host.set_certificates(identity("one"));
    let remote = wired(&host, Limits::default(), &[Grant::Certificates]).await.remote;
    let mut certificates = remote.certificates().unwrap();
    assert_eq!(certificates.borrow_and_update().0[0].key.secret_der(), b"one");
    host.set_certificates(identity("two"));
    timeout(PATIENCE, certificates.changed()).await.unwrap().unwrap();
    assert_eq!(certificates.borrow().0[0].names, ["two"]);
    let without = wired(&host, Limits::default(), &[]).await.remote;
    assert_eq!(without.certificates().unwrap_err().kind(), ErrorKind::NotGranted);
}

#[tokio::test]
async fn small_things_are_kept_and_asked() {
    let host = host();
    host.set_secret("a.b", Secret::from("xyz".to_owned()));
    host.answer_with("irc", |question| Ok(Answer { rows: vec![question.args] }));
    let remote = wired(&host, Limits::default(), &[]).await.remote;
    assert_eq!(remote.secret("a.b").await.unwrap().expose(), b"xyz");
    assert_eq!(remote.secret("a.c").await.unwrap_err().kind(), ErrorKind::NotFound);
    let key = Secret::from("value".to_owned());
    remote.set_checkpoint("k/1", Some(key.clone())).await.unwrap();
    assert_eq!(remote.checkpoint("k/1").await.unwrap(), Some(key));
    assert_eq!(remote.checkpoints("k/").await.unwrap(), ["k/1"]);
    remote.set_checkpoint("k/1", None).await.unwrap();
    assert_eq!(remote.checkpoint("k/1").await.unwrap(), None);
    let question = |bridge: &str| Question {
        bridge: bridge.into(),
        asker: String::new(),
        user: None,
        name: "names".into(),
        args: vec!["#x".into()],
    };
    assert_eq!(remote.query(question("irc")).await.unwrap().rows, [["#x"]]);
    assert_eq!(remote.query(question("none")).await.unwrap_err().kind(), ErrorKind::NotFound);
}

/// Waits for an event that fits.
async fn hear<T>(feed: &mut LiveFeed, wanted: impl Fn(ChatEvent) -> Option<T>) -> T {
    loop {
        let event = timeout(PATIENCE, feed.next()).await.unwrap().unwrap();
        if let Some(found) = wanted(event) {
            return found;
        }
    }
}

#[tokio::test]
async fn conversations_cross() {
    let host = host();
    let remote = wired(&host, Limits::default(), &[]).await.remote;
    let ann = remote.login(login("ann", "secret")).await.unwrap();
    let bob = remote.login(login("bob", "other")).await.unwrap();
    let demo: Address = "mesyx:#demo@example.org".parse().unwrap();
    let mut guests = remote.guests().await.unwrap();
    let mut live = bob.live().await.unwrap();
    for session in [&ann, &bob] {
        session.change_group(&demo, GroupChange::Join { key: None }).await.unwrap();
    }
    let refused = bob.change_group(&demo, GroupChange::Kick { member: "ann".into(), reason: String::new() }).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Forbidden);
    let to = Conversation::Group(demo.clone());
    let from = address_of(ann.user(), remote.domain()).unwrap();
    let mut said = envelope(Some(from.clone()), vec![demo.clone()], Content::default());
    let headers = LineHeaders { id: said.id, from, nick: "ann".into(), to: demo.clone(), at: said.received };
    said.content = Line::say("hello").to_content(&headers, remote.domain()).unwrap();
    (said.style, said.kind, said.conversation) = (Style::Instant, Kind::Message, Some(to.clone()));
    ann.submit(said).await.unwrap();
    let text = |event| match event {
        // Guests are told which group a line is of.
        ChatEvent::Line(line) | ChatEvent::GroupLine { line, .. } if line.line.text == "hello" => {
            Some(line.nick.clone())
        }
        _ => None,
    };
    assert_eq!(hear(&mut live, text).await, "ann");
    assert_eq!(hear(&mut guests, text).await, "ann");
    let info = bob.conversation(&to, false).await.unwrap();
    assert!(bob.conversations().await.unwrap().contains(&info));
    let lines = bob.history(info.mailbox, History::Latest(None), 10).await.unwrap();
    assert!(
        lines
            .iter()
            .any(|line| line.line.text == "hello" && line.from == address_of(ann.user(), remote.domain()).unwrap())
    );
    bob.mark_read(info.mailbox, info.last).await.unwrap();
    assert_eq!(bob.conversation(&to, false).await.unwrap().read, info.last);
    let groups = (remote.groups().await.unwrap(), bob.groups().await.unwrap());
    assert_eq!((groups.0.len(), groups.1[0].members.len()), (1, 2));
    remote.signal(Signal {
        to: SignalTo::User(bob.user().id),
        bridge: String::new(),
        conversation: Some(to),
        from: None,
        name: "typing".into(),
        args: vec!["1".into()],
    });
    let signal = |event| match event {
        ChatEvent::Signal(signal) if signal.name == "typing" => Some(signal.args.clone()),
        _ => None,
    };
    assert_eq!(hear(&mut live, signal).await, ["1"]);
}

#[tokio::test]
async fn an_unread_feed_holds_up_nothing_and_says_that_it_lagged() {
    let host = host();
    let remote = wired(&host, Limits::default(), &[]).await.remote;
    let session = remote.login(login("ann", "secret")).await.unwrap();
    let mut watchers = Vec::new();
    for _ in 0..50 {
        watchers.push(session.watch().await.unwrap());
    }
    for _ in 0..20 {
        let batch = (0..100).map(|_| to_ann(bytes(3))).collect();
        assert!(timeout(PATIENCE, remote.accept(batch)).await.unwrap().iter().all(Result::is_ok));
    }
    host.end_sessions("ann", "revoked").unwrap();
    for watcher in &mut watchers {
        let mut last = Vec::new();
        while let Some(change) = timeout(PATIENCE, watcher.next()).await.unwrap() {
            last.push(change);
        }
        assert_eq!(last.pop(), Some(Change::Ended("revoked".into())));
        assert!(last.contains(&Change::Lagged) && last.len() < 500, "{}", last.len());
    }
}

#[tokio::test]
async fn a_session_is_closed_with_its_last_owner() {
    let limits = Limits { sessions: 2, ..Limits::default() };
    let remote = wired(&host(), limits, &[]).await.remote;
    let mut open = vec![remote.login(login("ann", "secret")).await.unwrap()];
    open.push(remote.login(login("ann", "secret")).await.unwrap());
    assert_eq!(remote.login(login("ann", "secret")).await.err().unwrap().kind(), ErrorKind::TooMany);
    open.pop();
    let again = async {
        while remote.login(login("ann", "secret")).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, again).await.unwrap();
}
