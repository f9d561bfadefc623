//! Conversations of one user: with other users, with networks outside, by mail.

use super::support::{self, Place, login};
use super::{address, holds, line, next, next_line, say, texts, waiting, with_network};
use mesyx_core::Core;
use mesyx_sdk::{
    Anchor, ChatEvent, Content, Conversation, ErrorKind, Flag, FlagChange, History, Line, Mailbox, MailboxName,
    RecipientStatus, Secret, Sender, Session, Verb,
};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

async fn shown(session: &Arc<dyn Session>) -> Vec<String> {
    let all = session.mailboxes().await.unwrap();
    all.iter().map(|mailbox| mailbox.name.as_str().to_owned()).filter(|name| name.starts_with("Chat")).collect()
}

async fn chat(session: &Arc<dyn Session>, name: &str) -> Mailbox {
    let all = session.mailboxes().await.unwrap();
    all.into_iter().find(|mailbox| mailbox.name.as_str() == name).unwrap_or_else(|| panic!("there is no {name}"))
}

#[tokio::test]
async fn a_line_comes_once_to_each_session_and_stays() {
    let (_place, core) = Place::with_users().await;
    let (alice, bob) = (login(&core, "alice").await, login(&core, "bob").await);
    let other = login(&core, "alice").await;
    let mut feeds = [alice.live().await.unwrap(), other.live().await.unwrap(), bob.live().await.unwrap()];
    let accepted = say(&alice, "mesyx:bob@example.org", "hello bob").await.unwrap();
    say(&bob, "mesyx:alice@example.org", "hello alice").await.unwrap();
    for (feed, own) in feeds.iter_mut().zip([true, true, false]) {
        let (first, second) = (next_line(feed).await, next_line(feed).await);
        assert_eq!((first.line.text.as_str(), first.own, first.id), ("hello bob", own, accepted.id));
        assert_eq!((second.line.text.as_str(), second.own), ("hello alice", !own));
        assert_eq!(first.nick, "alice");
        assert!(first.at <= second.at && first.uid < second.uid);
        assert_eq!(waiting(feed), Vec::<String>::new(), "nothing comes twice");
    }
    assert_eq!(shown(&alice).await, ["Chat", "Chat/bob"]);
    assert_eq!(shown(&bob).await, ["Chat", "Chat/alice"]);
    let with_bob = alice.conversations().await.unwrap();
    let [with_bob] = &with_bob[..] else { panic!("{with_bob:?}") };
    assert_eq!(with_bob.conversation, Conversation::Direct(address("mesyx:bob@example.org")));
    assert_eq!((with_bob.last, with_bob.read), (2, 1));
    let lines = alice.history(with_bob.mailbox, History::Latest(None), 10).await.unwrap();
    assert_eq!(texts(&lines), ["hello bob", "hello alice"]);
    assert_eq!(lines.iter().map(|line| (line.own, line.seen)).collect::<Vec<_>>(), [(true, true), (false, false)]);
    assert_eq!(alice.subscriptions().await.unwrap().last().unwrap().as_str(), "Trash");
    assert!(alice.subscriptions().await.unwrap().iter().any(|name| name.as_str() == "Chat/bob"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lines_submitted_at_once_are_stored_in_their_order() {
    let (_place, core) = Place::with_users().await;
    let alice = login(&core, "alice").await;
    let mut flights = Vec::new();
    for number in 0..100 {
        let session = Arc::clone(&alice);
        let saying = async move { say(&session, "mesyx:bob@example.org", &number.to_string()).await.unwrap() };
        let mut saying = Box::pin(tokio::task::unconstrained(saying));
        // The first poll gives a line its place, also while the conversation is still to be looked for.
        let first = std::future::poll_fn(|context| Poll::Ready(saying.as_mut().poll(context))).await;
        if first.is_pending() {
            flights.push(tokio::spawn(saying));
        }
    }
    for flight in flights {
        flight.await.unwrap();
    }
    let lines = alice.history(chat(&alice, "Chat/bob").await.id, History::Latest(None), 1000).await.unwrap();
    assert_eq!(texts(&lines), (0..100).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_was_read_is_shared_with_mail_programs_both_ways() {
    let (_place, core) = Place::with_users().await;
    let (alice, bob) = (login(&core, "alice").await, login(&core, "bob").await);
    for text in ["one", "two", "three"] {
        say(&bob, "mesyx:alice@example.org", text).await.unwrap();
    }
    let with_bob = chat(&alice, "Chat/bob").await.id;
    let mut feed = alice.live().await.unwrap();
    alice.mark_read(with_bob, 1).await.unwrap();
    let ChatEvent::Read { mailbox, up_to: 1 } = next(&mut feed).await else { panic!("not read") };
    assert_eq!(mailbox, with_bob);
    let flags = alice.snapshot(with_bob, false).await.unwrap().entries;
    assert_eq!(flags.iter().map(|entry| entry.flags.contains(&Flag::Seen)).collect::<Vec<_>>(), [true, false, false]);
    // The third alone moves no marker; with the second it does.
    for (uid, last) in [(3, 1), (2, 3)] {
        alice.store_flags(with_bob, &[uid], &FlagChange::Add(vec![Flag::Seen]), None).await.unwrap();
        assert_eq!(alice.conversations().await.unwrap()[0].read, last);
    }
    let ChatEvent::Read { up_to: 3, .. } = next(&mut feed).await else { panic!("not read") };
    assert!(feed.try_next().is_none());
}

#[tokio::test]
async fn history_is_found_by_time_and_by_message() {
    let (_place, core) = Place::with_users().await;
    let (alice, bob) = (login(&core, "alice").await, login(&core, "bob").await);
    let mut ids = Vec::new();
    for at in 0..40 {
        ids.push(say(&bob, "mesyx:alice@example.org", &format!("line {at}")).await.unwrap().id);
        if at % 10 == 9 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let mailbox = chat(&alice, "Chat/bob").await.id;
    // Mail that somebody put there is no line, and hides none.
    alice
        .append(
            mailbox,
            vec![mesyx_sdk::Append {
                flags: vec![],
                internal_date: None,
                content: Content::from(support::HELLO.to_vec()),
            }],
        )
        .await
        .unwrap();
    let all = alice.history(mailbox, History::Latest(None), 1000).await.unwrap();
    assert_eq!(all.len(), 40);
    let numbers = |lines: &[Arc<mesyx_sdk::ChatLine>]| -> Vec<usize> {
        texts(lines).iter().map(|text| text["line ".len()..].parse().unwrap()).collect()
    };
    let get = async |wanted, limit| numbers(&alice.history(mailbox, wanted, limit).await.unwrap());
    let message = |at: usize| Anchor::Message(ids[at]);
    assert_eq!(get(History::Latest(None), 3).await, [37, 38, 39]);
    assert_eq!(get(History::Latest(Some(message(38))), 3).await, [39]);
    assert_eq!(get(History::Before(message(5)), 2).await, [3, 4]);
    assert_eq!(get(History::After(message(5)), 2).await, [6, 7]);
    assert_eq!(get(History::Around(message(5)), 4).await, [3, 4, 5, 6]);
    assert_eq!(get(History::Between(message(5), message(9)), 10).await, [6, 7, 8]);
    assert_eq!(get(History::Between(message(9), message(5)), 2).await, [7, 8]);
    for at in [0, 9, 10, 25, 39] {
        let time = all[at].at;
        let before: Vec<usize> = (0..40).filter(|other| all[*other].at < time).collect();
        let after: Vec<usize> = (0..40).filter(|other| all[*other].at > time).collect();
        assert_eq!(get(History::Before(Anchor::Time(time)), 100).await, before);
        assert_eq!(get(History::After(Anchor::Time(time)), 100).await, after);
        assert_eq!(get(History::Latest(Some(Anchor::Time(time))), 100).await, after);
    }
    let nowhere = alice.history(mailbox, History::After(Anchor::Message(mesyx_sdk::MessageId([1; 16]))), 5).await;
    assert_eq!(nowhere.unwrap_err().kind(), ErrorKind::NotFound);
}

fn mail(from: &str, to: &str, more: &str, text: &str) -> mesyx_sdk::Envelope {
    let content = format!("From: {from}@example.org\r\nTo: {to}\r\nSubject: Re: x\r\n{more}\r\n{text}");
    mesyx_sdk::Envelope {
        from: Some(support::address(&format!("{from}@example.org"))),
        ..support::envelope(&[to], content.as_bytes())
    }
}

#[tokio::test]
async fn a_mail_to_a_chat_address_is_said_there_and_threaded() {
    let (_place, core) = Place::with_users().await;
    let (alice, bob) = (login(&core, "alice").await, login(&core, "bob").await);
    let network = with_network(&core).await;
    let mut feed = bob.live().await.unwrap();
    let said = say(&bob, "mesyx:alice@example.org", "Lunch?").await.unwrap();
    next_line(&mut feed).await;
    let answer = format!("In-Reply-To: <{}@irc.example.org>\r\n", said.id);
    let text = "At noon.\r\n\r\nOn Sunday, 22 Nov 2026, bob wrote:\r\n> Lunch?\r\n-- \r\nAlice\r\n";
    alice.submit(mail("alice", "bob@irc.example.org", &answer, text)).await.unwrap();
    assert_eq!(next_line(&mut feed).await.line, Line::say("At noon."));
    assert!(waiting(&mut feed).is_empty());
    let stored = support::bodies(&bob, chat(&bob, "Chat/alice").await.id).await.pop().unwrap();
    let stored = String::from_utf8(stored).unwrap();
    assert!(stored.contains(&format!("In-Reply-To: <{}@irc.example.org>", said.id)), "{stored}");
    assert!(stored.contains("From: alice <alice@irc.example.org>"), "{stored}");
    let inbox = support::inbox(&bob).await;
    assert!(support::uids(&bob, inbox).await.is_empty(), "it is no mail");

    alice.submit(mail("alice", "#rust@libera.irc.example.org", "", "hello channel\r\n")).await.unwrap();
    for _ in 0..200 {
        if !network.0.lock().unwrap().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let job = network.0.lock().unwrap()[0].clone();
    assert_eq!(job.recipients[0].address, address("irc:libera/#rust"));
    assert_eq!(job.from, Some(address("mesyx:alice@example.org")));
    let (headers, line) = Line::from_content(&job.content, &"example.org".parse().unwrap()).unwrap();
    assert_eq!((headers.from, line), (address("mesyx:alice@example.org"), Line::say("hello channel")));
    let own = support::bodies(&alice, chat(&alice, "Chat/libera/#rust").await.id).await;
    assert!(String::from_utf8_lossy(&own[0]).contains("Reply-To: <#rust@libera.irc.example.org>"));

    for at in 0..8 {
        say(&alice, "irc:libera/#rust", &format!("{at}")).await.unwrap();
    }
    for _ in 0..500 {
        if network.0.lock().unwrap().len() == 9 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let domain = "example.org".parse().unwrap();
    let brought: Vec<String> = network.0.lock().unwrap()[1..]
        .iter()
        .map(|job| Line::from_content(&job.content, &domain).unwrap().1.text)
        .collect();
    assert_eq!(brought.concat(), "01234567", "lines come in their order");

    let both = mesyx_sdk::Envelope {
        to: ["bob@irc.example.org", "bob@example.org"]
            .map(|to| mesyx_sdk::Recipient::new(support::address(to)))
            .to_vec(),
        ..mail("alice", "bob@irc.example.org", "", "x\r\n")
    };
    assert_eq!(alice.submit(both).await.unwrap_err().kind(), ErrorKind::Invalid);
    let nobody = alice.submit(mail("alice", "carol@irc.example.org", "", "x\r\n")).await;
    assert_eq!(nobody.unwrap_err().kind(), ErrorKind::NotFound);
    core.close().await;
}

#[tokio::test]
async fn strangers_reach_nobody_in_the_chat_world() {
    let (_place, core) = Place::with_users().await;
    let alice = login(&core, "alice").await;
    core.join_group("alice", "#demo").await.unwrap();
    let _network = with_network(&core).await;
    for to in ["bob@irc.example.org", "nobody@irc.example.org", "#demo@irc.example.org", "#rust@libera.irc.example.org"]
    {
        let status = core.recipient(&support::address(to), &Sender::Stranger);
        assert!(matches!(status, RecipientStatus::Refused(_)), "{to}: {status:?}");
        let taken = support::accept(&core, support::envelope(&[to], support::HELLO)).await;
        assert_eq!(taken.unwrap_err().kind(), ErrorKind::Forbidden, "{to}");
    }
    let status = async |to| alice.recipient(&support::address(to)).await.unwrap();
    assert_eq!(status("bob@irc.example.org").await, RecipientStatus::Local);
    assert_eq!(status("#demo@irc.example.org").await, RecipientStatus::Local);
    assert_eq!(status("nobody@irc.example.org").await, RecipientStatus::Unknown);
    assert_eq!(status("#rust@libera.irc.example.org").await, RecipientStatus::Remote);
    assert!(matches!(status("joe@xmpp.x.example.org").await, RecipientStatus::Refused(_)));
    core.close().await;
}

#[tokio::test]
async fn a_network_s_lines_come_to_one_user_and_speak_for_nobody_here() {
    let (_place, core) = Place::with_users().await;
    let alice = login(&core, "alice").await;
    let mut feed = alice.live().await.unwrap();
    let from_network = |from: &str, text: &str| {
        let mut said = line(from, "irc:libera/#rust", &Line { verb: Verb::Action, args: vec![], text: text.into() });
        said.to = vec![mesyx_sdk::Recipient::new(address("mesyx:alice@example.org"))];
        said.origin.protection = mesyx_sdk::Protection::Otr { verified: true };
        said
    };
    let mut known = from_network("irc:libera/joe", "waves");
    known.dedup = Some(b"msgid 1".to_vec());
    let answers = core.accept("irc-network", vec![known.clone(), known]).await;
    assert_eq!(answers.into_iter().map(|answer| answer.unwrap().duplicate).filter(|known| *known).count(), 1);
    let heard = next_line(&mut feed).await;
    assert_eq!(
        (heard.from.clone(), heard.nick.as_str(), heard.line.verb),
        (address("irc:libera/joe"), "nick", Verb::Action)
    );
    assert_eq!(heard.protection, mesyx_sdk::Protection::Otr { verified: true });
    assert!(waiting(&mut feed).is_empty(), "the same line is said once");
    let history = alice.history(heard.mailbox, History::Latest(None), 5).await.unwrap();
    assert_eq!(*history[0], *heard, "history says what the feed said");
    for forged in ["mesyx:bob@example.org", "bob@example.org", "mesyx:alice@example.org"] {
        let taken = core.accept("irc-network", vec![from_network(forged, "lies")]).await.pop().unwrap();
        assert_eq!(taken.unwrap_err().kind(), ErrorKind::Forbidden, "{forged}");
    }
    let forged = alice.submit(line("mesyx:bob@example.org", "mesyx:bob@example.org", &Line::say("I am bob"))).await;
    assert_eq!(forged.unwrap_err().kind(), ErrorKind::Forbidden);
    let topic = Line { verb: Verb::Topic, args: vec![], text: "x".into() };
    let topic = alice.submit(line("mesyx:alice@example.org", "mesyx:bob@example.org", &topic)).await;
    assert_eq!(topic.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_conversation_that_was_deleted_comes_again_empty() {
    let (_place, core) = Place::with_users().await;
    let (alice, bob) = (login(&core, "alice").await, login(&core, "bob").await);
    say(&bob, "mesyx:alice@example.org", "one").await.unwrap();
    let first = chat(&alice, "Chat/bob").await.id;
    let name = MailboxName::new("Chat/bob").unwrap();
    assert_eq!(alice.create_mailbox(&name, None).await.unwrap_err().kind(), ErrorKind::Exists);
    alice.delete_mailbox(&name).await.unwrap();
    assert!(alice.conversations().await.unwrap().is_empty());
    say(&bob, "mesyx:alice@example.org", "two").await.unwrap();
    let again = chat(&alice, "Chat/bob").await.id;
    assert_ne!(first, again);
    let lines = alice.history(again, History::Latest(None), 5).await.unwrap();
    assert_eq!(texts(&lines), ["two"]);
    // A name of the user's own is in clear, and stays the conversation's.
    alice.rename_mailbox(&name, &MailboxName::new("Friends/Bob").unwrap()).await.unwrap();
    say(&bob, "mesyx:alice@example.org", "three").await.unwrap();
    assert_eq!(chat(&alice, "Friends/Bob").await.id, again);
    let by_name = alice.conversation(&Conversation::Direct(address("mesyx:BOB@example.org")), false).await.unwrap();
    assert_eq!((by_name.mailbox, by_name.last), (again, 2));
    let unknown = alice.conversation(&Conversation::Direct(address("irc:libera/joe")), false).await;
    assert_eq!(unknown.unwrap_err().kind(), ErrorKind::NotFound);
    let made = alice.conversation(&Conversation::Direct(address("irc:libera/joe")), true).await.unwrap();
    assert_eq!((made.last, made.read), (0, 0));
    assert_eq!(chat(&alice, "Chat/libera/joe").await.id, made.mailbox);
}

async fn speak_of_secrets(core: &Core) {
    let (alice, bob) = (login(core, "alice").await, login(core, "bob").await);
    say(&alice, "mesyx:bob@example.org", "CANARYLINE").await.unwrap();
    say(&alice, "irc:canarynet/canarypeer", "CANARYLINE").await.unwrap();
    let group = address("mesyx:#canarygroup@example.org");
    let change = async |change| alice.change_group(&group, change).await.unwrap();
    change(mesyx_sdk::GroupChange::Join { key: None }).await;
    change(mesyx_sdk::GroupChange::Topic("CANARYTOPIC".into())).await;
    change(mesyx_sdk::GroupChange::Mode { set: true, mode: 'k', parameter: Some("CANARYKEY".into()) }).await;
    change(mesyx_sdk::GroupChange::List { add: true, mode: 'b', mask: "CANARYMASK".into() }).await;
    say(&alice, "mesyx:#canarygroup@example.org", "CANARYLINE").await.unwrap();
    alice.submit(mail("alice", "bob@irc.example.org", "", "CANARYMAIL\r\n")).await.unwrap();
    core.set_checkpoint("irc-network", "CANARYKEPT", Some(Secret::from("CANARYVALUE".to_owned()))).await.unwrap();
    alice.subscribe(&MailboxName::new("Chat/canarynet/canarypeer").unwrap(), true).await.unwrap();
    drop(bob);
}

#[tokio::test]
async fn nothing_that_was_said_nor_to_whom_is_in_any_file() {
    let (place, core) = Place::with_users().await;
    let _network = with_network(&core).await;
    speak_of_secrets(&core).await;
    for when in ["while it is open", "after it was closed"] {
        let bytes = super::all_bytes(place.directory.path());
        assert!(holds(&bytes, "SQLite format"), "the files are looked at");
        assert!(!holds(&bytes, "canary"), "{when}");
        core.close().await;
    }
}

#[tokio::test]
async fn what_bridges_keep_is_found_again_and_bounded() {
    let (place, core) = Place::with_users().await;
    let kept = |text: &str| Some(Secret::from(text.to_owned()));
    core.set_checkpoint("a", "x/1", kept("one")).await.unwrap();
    core.set_checkpoint("a", "x/2", kept("")).await.unwrap();
    core.set_checkpoint("b", "x/1", kept("other")).await.unwrap();
    core.set_checkpoint("a", "x/1", kept("uno")).await.unwrap();
    core.close().await;
    let core = place.open().await;
    assert_eq!(core.checkpoint("a", "x/1").await.unwrap().unwrap().expose(), b"uno");
    assert_eq!(core.checkpoint("a", "x/2").await.unwrap().unwrap().expose(), b"");
    assert_eq!(core.checkpoints("a", "x/").await.unwrap(), ["x/1", "x/2"]);
    core.set_checkpoint("a", "x/1", None).await.unwrap();
    assert!(core.checkpoint("a", "x/1").await.unwrap().is_none());
    assert_eq!(core.checkpoints("b", "").await.unwrap(), ["x/1"]);
}
