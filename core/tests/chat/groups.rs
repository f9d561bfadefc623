//! Groups: who sees what, and who may do what.

use super::support::{self, Place, add, login};
use super::{address, change, join, line, next, next_line, say, texts, waiting};
use mesyx_sdk::{
    ChatEvent, Conversation, ErrorKind, Flag, FlagChange, GroupChange, History, Line, MailboxId, MailboxName, Rank,
    Session, Verb,
};
use std::sync::Arc;

const DEMO: &str = "mesyx:#demo@example.org";

async fn mailbox(session: &Arc<dyn Session>) -> MailboxId {
    session.conversation(&Conversation::Group(address(DEMO)), false).await.unwrap().mailbox
}

/// What was said, without joins and the like.
async fn said(session: &Arc<dyn Session>, mailbox: MailboxId) -> Vec<String> {
    let lines = session.history(mailbox, History::Latest(None), 1000).await.unwrap();
    lines.iter().filter(|line| line.line.verb == Verb::Say).map(|line| line.line.text.clone()).collect()
}

fn forbidden<T>(result: Result<T, mesyx_sdk::Error>, what: &str) {
    let error = result.map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
    assert!(error.message().contains(what), "{error}");
}

#[tokio::test]
async fn members_see_what_is_said_while_they_belong_to_it() {
    let (place, core) = Place::with_users().await;
    add(&core, "carol").await;
    let (alice, bob, carol) = (login(&core, "alice").await, login(&core, "bob").await, login(&core, "carol").await);
    let founded = join(&alice).await.unwrap();
    assert_eq!((founded.name.as_str(), founded.members[0].rank), ("#demo", Rank::Founder));
    say(&alice, DEMO, "alone").await.unwrap();
    join(&bob).await.unwrap();
    let (mut to_alice, mut to_bob) = (alice.live().await.unwrap(), bob.live().await.unwrap());
    let first = say(&alice, DEMO, "hello all").await.unwrap();
    for (feed, own) in [(&mut to_alice, true), (&mut to_bob, false)] {
        let heard = next_line(feed).await;
        assert_eq!((heard.line.text.as_str(), heard.own, heard.id), ("hello all", own, first.id));
        assert!(waiting(feed).is_empty());
    }
    forbidden(say(&carol, DEMO, "let me in").await, "(+n)");
    join(&carol).await.unwrap();
    say(&bob, DEMO, "three of us").await.unwrap();
    change(&alice, GroupChange::Kick { member: "bob".into(), reason: "noise".into() }).await.unwrap();
    say(&alice, DEMO, "without bob").await.unwrap();
    let log = mailbox(&alice).await;
    assert_eq!(said(&alice, log).await, ["alone", "hello all", "three of us", "without bob"]);
    assert_eq!(said(&bob, log).await, ["hello all", "three of us"]);
    assert_eq!(said(&carol, log).await, ["three of us", "without bob"]);
    let events: Vec<Verb> =
        bob.history(log, History::Latest(None), 100).await.unwrap().iter().map(|line| line.line.verb).collect();
    assert_eq!(events, [Verb::Join, Verb::Say, Verb::Join, Verb::Say, Verb::Kick]);
    forbidden(say(&bob, DEMO, "still here?").await, "(+n)");
    let gone = bob.conversation(&Conversation::Group(address(DEMO)), false).await;
    assert_eq!(gone.unwrap_err().kind(), ErrorKind::NotFound);
    join(&bob).await.unwrap();
    say(&bob, DEMO, "back").await.unwrap();
    assert_eq!(said(&bob, log).await, ["hello all", "three of us", "back"]);

    // The same by IMAP's means, and after a restart.
    drop((alice, bob, carol));
    core.close().await;
    let core = place.open().await;
    let (alice, carol) = (login(&core, "alice").await, login(&core, "carol").await);
    let names: Vec<String> = carol.mailboxes().await.unwrap().iter().map(|mailbox| mailbox.name.to_string()).collect();
    assert!(names.contains(&"Chat/#demo".to_owned()), "{names:?}");
    let texts = support::bodies(&carol, log).await;
    let texts = String::from_utf8(texts.concat()).unwrap();
    assert!(texts.contains("three of us") && !texts.contains("hello all"), "{texts}");
    let status = carol.status(log).await.unwrap();
    assert_eq!(status.messages as usize, carol.snapshot(log, false).await.unwrap().entries.len());
    say(&alice, DEMO, "after a restart").await.unwrap();
    assert_eq!(said(&carol, log).await.last().unwrap(), "after a restart");
    assert_eq!(core.status().await.unwrap().users, 3, "a group is no user");
}

#[tokio::test]
async fn flags_and_what_was_read_are_each_member_s_own() {
    let (_place, core) = Place::with_users().await;
    let (alice, bob) = (login(&core, "alice").await, login(&core, "bob").await);
    join(&alice).await.unwrap();
    join(&bob).await.unwrap();
    let log = mailbox(&alice).await;
    alice.mark_read(log, u32::MAX).await.unwrap();
    bob.mark_read(log, u32::MAX).await.unwrap();
    let since = bob.snapshot(log, false).await.unwrap().highest_modseq;
    for text in ["one", "two", "three"] {
        say(&alice, DEMO, text).await.unwrap();
    }
    let info = async |session: &Arc<dyn Session>| {
        let info = session.conversation(&Conversation::Group(address(DEMO)), false).await.unwrap();
        (info.last, info.read)
    };
    assert_eq!(info(&bob).await, (5, 2));
    assert_eq!(info(&alice).await, (5, 5), "own lines are read");
    let uids: Vec<u32> = bob.changes(log, since).await.unwrap().changed.iter().map(|entry| entry.uid).collect();
    assert_eq!(uids, [3, 4, 5]);
    let mut feed = bob.live().await.unwrap();
    bob.mark_read(log, 4).await.unwrap();
    assert!(matches!(next(&mut feed).await, ChatEvent::Read { up_to: 4, .. }));
    assert_eq!(info(&bob).await, (5, 4));
    bob.store_flags(log, &[5], &FlagChange::Add(vec![Flag::Seen, Flag::Flagged]), None).await.unwrap();
    assert!(matches!(next(&mut feed).await, ChatEvent::Read { up_to: 5, .. }));
    let flags = async |session: &Arc<dyn Session>, uid: u32| {
        let entries = session.snapshot(log, false).await.unwrap().entries;
        entries.into_iter().find(|entry| entry.uid == uid).map(|entry| entry.flags)
    };
    assert!(flags(&bob, 5).await.unwrap().contains(&Flag::Flagged));
    assert!(!flags(&alice, 5).await.unwrap().contains(&Flag::Flagged));
    // Back to unread, and read again by the marker.
    let before = bob.snapshot(log, false).await.unwrap().highest_modseq;
    bob.store_flags(log, &[3], &FlagChange::Remove(vec![Flag::Seen]), None).await.unwrap();
    assert_eq!(info(&bob).await, (5, 2));
    assert_eq!(bob.status(log).await.unwrap().unseen, 1);
    bob.mark_read(log, 5).await.unwrap();
    assert_eq!(info(&bob).await, (5, 5));
    let changed: Vec<u32> = bob.changes(log, before).await.unwrap().changed.iter().map(|entry| entry.uid).collect();
    assert!(changed.contains(&3), "{changed:?}");
    // An expunge is the member's own, until nobody is left who sees the line.
    bob.store_flags(log, &[4], &FlagChange::Add(vec![Flag::Deleted]), None).await.unwrap();
    let since = bob.snapshot(log, false).await.unwrap().highest_modseq;
    assert_eq!(bob.expunge(log, None).await.unwrap(), [4]);
    assert_eq!(bob.changes(log, since).await.unwrap().vanished, [4]);
    assert!(flags(&bob, 4).await.is_none());
    assert!(flags(&alice, 4).await.is_some());
    let messages = core.status().await.unwrap().messages;
    alice.store_flags(log, &[4], &FlagChange::Add(vec![Flag::Deleted]), None).await.unwrap();
    assert_eq!(alice.expunge(log, None).await.unwrap(), [4]);
    assert_eq!(core.status().await.unwrap().messages, messages - 1, "its content is erased");
    // A copy is the member's alone; nothing can be put into the log.
    let inbox = support::inbox(&bob).await;
    assert_eq!(bob.copy(log, &[5], inbox).await.unwrap().uids.len(), 1);
    assert!(String::from_utf8_lossy(&support::bodies(&bob, inbox).await[0]).contains("three"));
    forbidden(bob.copy(inbox, &[1], log).await, "log of a group");
    let query = mesyx_sdk::Query::Text("three".into());
    assert_eq!(bob.search(log, &query).await.unwrap().uids, [5]);
}

#[tokio::test]
async fn modes_lists_and_ranks_mean_what_they_mean_on_irc() {
    let (_place, core) = Place::with_users().await;
    add(&core, "carol").await;
    let (alice, bob, carol) = (login(&core, "alice").await, login(&core, "bob").await, login(&core, "carol").await);
    join(&alice).await.unwrap();
    let mode = |set: bool, mode: char, parameter: &str| GroupChange::Mode {
        set,
        mode,
        parameter: (!parameter.is_empty()).then(|| parameter.to_owned()),
    };
    change(&alice, mode(true, 'k', "sesame")).await.unwrap();
    forbidden(join(&bob).await, "(+k)");
    change(&bob, GroupChange::Join { key: Some("sesame".into()) }).await.unwrap();
    let seen = carol.groups().await.unwrap();
    assert_eq!(seen[0].modes.get(&'k').unwrap(), "", "the key is the members'");
    change(&alice, mode(false, 'k', "")).await.unwrap();
    change(&alice, mode(true, 'l', "2")).await.unwrap();
    forbidden(join(&carol).await, "(+l)");
    change(&alice, mode(false, 'l', "")).await.unwrap();
    change(&alice, mode(true, 'i', "")).await.unwrap();
    forbidden(join(&carol).await, "(+i)");
    forbidden(change(&bob, GroupChange::Invite { user: "carol".into() }).await, "(+i)");
    let mut feed = carol.live().await.unwrap();
    change(&alice, GroupChange::Invite { user: "carol".into() }).await.unwrap();
    let ChatEvent::Signal(invited) = next(&mut feed).await else { panic!("not invited") };
    assert_eq!((invited.name.as_str(), &invited.args[..]), ("invite", &["#demo".to_owned()][..]));
    join(&carol).await.unwrap();
    change(&carol, GroupChange::Leave { reason: String::new() }).await.unwrap();
    forbidden(join(&carol).await, "(+i)");
    change(&alice, mode(false, 'i', "")).await.unwrap();
    let list = |add: bool, mode: char, mask: &str| GroupChange::List { add, mode, mask: mask.into() };
    change(&alice, list(true, 'b', "carol")).await.unwrap();
    forbidden(join(&carol).await, "(+b)");
    change(&alice, list(true, 'e', "*!*@example.org")).await.unwrap();
    join(&carol).await.unwrap();
    change(&alice, list(false, 'e', "*!*@example.org")).await.unwrap();
    forbidden(say(&carol, DEMO, "x").await, "(+b)");
    change(&alice, list(false, 'b', "CAROL!*@*")).await.unwrap();
    change(&alice, mode(true, 'm', "")).await.unwrap();
    forbidden(say(&bob, DEMO, "x").await, "(+m)");
    let rank = |member: &str, rank| GroupChange::Rank { member: member.into(), rank };
    forbidden(change(&bob, rank("bob", Rank::Operator)).await, "operator");
    change(&alice, rank("bob", Rank::Voice)).await.unwrap();
    say(&bob, DEMO, "voiced").await.unwrap();
    forbidden(change(&bob, GroupChange::Topic("x".into())).await, "(+t)");
    change(&alice, rank("bob", Rank::Operator)).await.unwrap();
    let now = change(&bob, GroupChange::Topic("two\nlines".into())).await.unwrap();
    assert_eq!(now.topic.as_ref().map(|(text, by, _)| (text.as_str(), by.as_str())), Some(("two lines", "bob")));
    forbidden(change(&bob, rank("alice", Rank::Member)).await, "founder");
    forbidden(change(&bob, GroupChange::Kick { member: "alice".into(), reason: String::new() }).await, "founder");
    forbidden(change(&bob, rank("bob", Rank::Founder)).await, "higher");
    change(&alice, mode(true, 's', "")).await.unwrap();
    change(&bob, GroupChange::Kick { member: "carol".into(), reason: "x".into() }).await.unwrap();
    assert!(carol.groups().await.unwrap().is_empty(), "secret");
    let unseen = change(&carol, GroupChange::Topic("x".into())).await;
    assert_eq!(unseen.unwrap_err().kind(), ErrorKind::NotFound);
    // The founder leaves, an operator is left; he leaves, and the group is gone, with its topic.
    change(&alice, GroupChange::Leave { reason: "bye".into() }).await.unwrap();
    let log = mailbox(&bob).await;
    let last = bob.history(log, History::Latest(None), 1).await.unwrap();
    assert_eq!((last[0].line.verb, texts(&last)), (Verb::Part, vec!["bye"]));
    change(&bob, GroupChange::Leave { reason: String::new() }).await.unwrap();
    assert!(core.all_groups().is_empty());
    let again = join(&carol).await.unwrap();
    assert_eq!((again.topic.as_ref(), again.modes.len(), again.members[0].rank), (None, 2, Rank::Founder));
    assert_eq!(change(&carol, mode(true, 'z', "")).await.unwrap_err().kind(), ErrorKind::Invalid);
    for name in ["#", "#a b", "#a,b", "#a/b", &format!("#{}", "x".repeat(60))] {
        let Ok(address) = format!("mesyx:\"{name}\"@example.org").parse() else { continue };
        let refused = alice.change_group(&address, GroupChange::Join { key: None }).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid, "{name}");
    }
}

#[tokio::test]
async fn a_group_goes_with_the_last_who_reads_it() {
    let (_place, core) = Place::with_users().await;
    let (alice, bob) = (login(&core, "alice").await, login(&core, "bob").await);
    join(&alice).await.unwrap();
    join(&bob).await.unwrap();
    say(&alice, DEMO, "hello").await.unwrap();
    let name = MailboxName::new("Chat/#demo").unwrap();
    forbidden(alice.delete_mailbox(&name).await, "leave it first");
    change(&alice, GroupChange::Leave { reason: String::new() }).await.unwrap();
    alice.delete_mailbox(&name).await.unwrap();
    assert!(!alice.mailboxes().await.unwrap().iter().any(|mailbox| mailbox.name == name));
    let log = mailbox(&bob).await;
    assert_eq!(said(&bob, log).await, ["hello"], "the others' log is theirs");
    let now = core.all_groups();
    assert_eq!(now[0].members[0].rank, Rank::Founder, "somebody must be able to look after it");
    assert!(core.status().await.unwrap().messages > 0);
    drop(bob);
    core.remove_user("bob").await.unwrap();
    assert!(core.all_groups().is_empty());
    assert_eq!(core.status().await.unwrap().messages, 0, "nobody reads it any more");
    join(&alice).await.unwrap();
    say(&alice, DEMO, "anew").await.unwrap();
    assert_eq!(said(&alice, mailbox(&alice).await).await, ["anew"]);
}

#[tokio::test]
async fn guests_hear_and_speak_and_nothing_is_theirs() {
    let (_place, core) = Place::with_users().await;
    let alice = login(&core, "alice").await;
    join(&alice).await.unwrap();
    let (mut guests, mut feed) = (core.guests().await.unwrap(), alice.live().await.unwrap());
    say(&alice, DEMO, "hello").await.unwrap();
    next_line(&mut feed).await;
    let ChatEvent::GroupLine { group, line: heard } = next(&mut guests).await else { panic!("not heard") };
    assert_eq!((group, heard.line.text.as_str(), heard.own), (address(DEMO), "hello", false));
    let answer = core.accept("irc-client", vec![line("mesyx:visitor@example.org", DEMO, &Line::say("hi"))]).await;
    assert!(answer[0].is_ok(), "{answer:?}");
    assert_eq!(next_line(&mut feed).await.from, address("mesyx:visitor@example.org"));
    let forged = core.accept("irc-client", vec![line("mesyx:alice@example.org", DEMO, &Line::say("hi"))]).await;
    assert_eq!(forged[0].as_ref().unwrap_err().kind(), ErrorKind::Forbidden);
    let seen = core.groups().await.unwrap();
    assert_eq!((seen.len(), seen[0].members.len()), (1, 1));
}

#[tokio::test]
async fn a_new_key_comes_with_members_and_keysets() {
    let (_place, core) = Place::with_users().await;
    let (alice, bob) = (login(&core, "alice").await, login(&core, "bob").await);
    join(&alice).await.unwrap();
    join(&bob).await.unwrap();
    say(&alice, DEMO, "before").await.unwrap();
    drop(alice);
    let proof = mesyx_core::admin::Proof::Password(support::password("alice"));
    core.rekey("alice", proof, None).await.unwrap();
    say(&bob, DEMO, "between").await.unwrap();
    let alice = login(&core, "alice").await;
    say(&alice, DEMO, "after").await.unwrap();
    let log = mailbox(&alice).await;
    for session in [&alice, &bob] {
        assert_eq!(said(session, log).await, ["before", "between", "after"]);
    }
}

#[tokio::test]
async fn a_group_has_members_with_old_and_with_new_certificates() {
    let (place, core) = Place::with_users().await;
    let mut settings = place.settings.clone();
    settings.keysets.profile = mesyx_core::keys::Profile::V6;
    core.reconfigure(settings).unwrap();
    add(&core, "carol").await;
    add(&core, "dave").await;
    let (alice, carol, dave) = (login(&core, "alice").await, login(&core, "carol").await, login(&core, "dave").await);
    for session in [&carol, &dave] {
        join(session).await.unwrap();
    }
    say(&carol, DEMO, "new").await.unwrap();
    join(&alice).await.unwrap();
    say(&alice, DEMO, "mixed").await.unwrap();
    let log = mailbox(&alice).await;
    for session in [&carol, &dave] {
        assert_eq!(said(session, log).await, ["new", "mixed"]);
    }
    assert_eq!(said(&alice, log).await, ["mixed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_many_speakers_come_to_all_in_one_order() {
    let (_place, core) = Place::with_users().await;
    let (alice, bob) = (login(&core, "alice").await, login(&core, "bob").await);
    join(&alice).await.unwrap();
    join(&bob).await.unwrap();
    let (mut one, mut two) = (alice.live().await.unwrap(), bob.live().await.unwrap());
    let speakers = [&alice, &bob].map(|session| {
        let session = Arc::clone(session);
        tokio::spawn(async move {
            for at in 0..60 {
                say(&session, DEMO, &format!("{} {at}", session.user().name)).await.unwrap();
            }
        })
    });
    for speaker in speakers {
        speaker.await.unwrap();
    }
    let (mut heard, mut same) = (Vec::new(), Vec::new());
    for _ in 0..120 {
        heard.push(next_line(&mut one).await);
        same.push(next_line(&mut two).await.uid);
    }
    assert_eq!(heard.iter().map(|line| line.uid).collect::<Vec<_>>(), same);
    assert!(heard.is_sorted_by_key(|line| (line.uid, line.at)));
    let log = mailbox(&alice).await;
    let stored = alice.history(log, History::Latest(None), 120).await.unwrap();
    assert_eq!(
        stored.iter().map(|line| (line.uid, line.at, line.id)).collect::<Vec<_>>(),
        heard.iter().map(|line| (line.uid, line.at, line.id)).collect::<Vec<_>>()
    );
}
