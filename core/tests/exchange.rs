//! A message's whole way: taken in, sealed, stored, and read back by its owner.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use mesyx_sdk::{
    Append, Change, ErrorKind, Flag, FlagChange, MailboxName, Query, RecipientStatus, Role, Sender, Timestamp,
};
use std::time::Duration;
use support::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_in_is_read_back_byte_for_byte() {
    let (_place, core) = Place::with_users().await;
    let accepted = deliver(&core, &["alice@example.org"], HELLO).await;
    assert!(!accepted.duplicate);
    let session = login(&core, "alice").await;
    let inbox = inbox(&session).await;
    let status = session.status(inbox).await.unwrap();
    assert_eq!((status.messages, status.unseen, status.recent), (1, 1, 1));
    let snapshot = session.snapshot(inbox, true).await.unwrap();
    assert_eq!(snapshot.entries.len(), 1);
    assert_eq!(snapshot.entries[0].message, accepted.id);
    assert!(snapshot.recent_from <= snapshot.entries[0].uid);
    let uid = snapshot.entries[0].uid;
    assert_eq!(session.bodies(inbox, &[uid]).await.unwrap()[0].1.to_vec(), HELLO);
    let (_, summary) = session.summaries(inbox, &[uid]).await.unwrap().remove(0);
    assert_eq!(summary.size, HELLO.len() as u64);
    assert_eq!(summary.fields.subject.as_deref(), Some(&b"hello"[..]));
    let origin = summary.origin.clone().unwrap();
    assert_eq!((origin.bridge.as_str(), origin.network.as_str(), origin.authenticated), ("smtp", "smtp", None));
    assert!(snapshot.entries[0].padded_size >= summary.size);
    let other = login(&core, "bob").await;
    assert_eq!(uids(&other, support::inbox(&other).await).await, Vec::<u32>::new());
    assert_eq!(other.bodies(inbox, &[uid]).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_there_after_a_restart() {
    let (place, core) = Place::with_users().await;
    deliver(&core, &["alice@example.org", "bob@example.org"], HELLO).await;
    core.close().await;
    drop(core);
    let core = place.open().await;
    for name in ["alice", "bob"] {
        let session = login(&core, name).await;
        assert_eq!(bodies(&session, inbox(&session).await).await, [HELLO]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_user_gets_one_copy_however_often_named() {
    let (mut place, core) = Place::with_users().await;
    let alias = |address: &str, targets: &[&str]| mesyx_core::settings::Alias {
        address: address.parse().unwrap(),
        targets: targets.iter().map(|target| (*target).to_owned()).collect(),
    };
    place.settings.aliases =
        vec![alias("team@example.org", &["alice", "bob"]), alias("all@example.org", &["team@example.org", "alice"])];
    core.reconfigure(place.settings.clone()).unwrap();
    let to = ["all@example.org", "ALICE+x@Example.ORG", "team@example.org", "alice@example.org"];
    deliver(&core, &to, HELLO).await;
    for name in ["alice", "bob"] {
        let session = login(&core, name).await;
        assert_eq!(bodies(&session, inbox(&session).await).await.len(), 1, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_recipients_or_none() {
    let (_place, core) = Place::with_users().await;
    for (to, kind) in [
        (vec!["alice@example.org", "nobody@example.org"], ErrorKind::NotFound),
        (vec!["alice@example.org", "someone@example.com"], ErrorKind::Forbidden),
        (vec!["alice@example.org", "rust@libera.irc.example.org"], ErrorKind::Forbidden),
        (vec![], ErrorKind::Invalid),
    ] {
        assert_eq!(accept(&core, envelope(&to, HELLO)).await.unwrap_err().kind(), kind, "{to:?}");
    }
    let mut huge = b"Subject: x\r\n".to_vec();
    (0..20_000).for_each(|_| huge.extend_from_slice(b"X-Pad: y\r\n"));
    assert_eq!(accept(&core, envelope(&["alice@example.org"], &huge)).await.unwrap_err().kind(), ErrorKind::Invalid);
    let session = login(&core, "alice").await;
    assert_eq!(uids(&session, inbox(&session).await).await, Vec::<u32>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_delivery_is_stored_once_and_two_equal_mails_twice() {
    let (_place, core) = Place::with_users().await;
    let mut first = envelope(&["alice@example.org"], HELLO);
    first.dedup = Some(b"<id@example.net>".to_vec());
    let mut again = envelope(&["alice@example.org"], HELLO);
    again.dedup = first.dedup.clone();
    let mut other = envelope(&["bob@example.org"], HELLO);
    other.dedup = first.dedup.clone();
    assert!(!accept(&core, first).await.unwrap().duplicate);
    assert!(accept(&core, again).await.unwrap().duplicate);
    assert!(!accept(&core, other).await.unwrap().duplicate);
    deliver(&core, &["alice@example.org"], HELLO).await;
    let session = login(&core, "alice").await;
    assert_eq!(uids(&session, inbox(&session).await).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_appended_flagged_copied_moved_and_expunged() {
    let (_place, core) = Place::with_users().await;
    let session = login(&core, "alice").await;
    let drafts = mailbox(&session, Role::Drafts).await.id;
    let date = Timestamp::from_seconds(1_000_000_000);
    let append =
        |text: &[u8]| Append { flags: vec![Flag::Draft], internal_date: Some(date), content: text.to_vec().into() };
    let large = [HELLO, &vec![b'x'; 300_000]].concat();
    let appended = session.append(drafts, vec![append(HELLO), append(&large)]).await.unwrap();
    assert_eq!(appended.uids.len(), 2);
    assert_eq!(bodies(&session, drafts).await, [HELLO, &large]);
    let (_, summary) = session.summaries(drafts, &appended.uids[..1]).await.unwrap().remove(0);
    assert_eq!((summary.internal_date, &summary.origin), (date, &None));
    let trash = mailbox(&session, Role::Trash).await.id;
    let copied = session.copy(drafts, &appended.uids, trash).await.unwrap();
    assert_eq!(copied.uids.len(), 2);
    assert_eq!(bodies(&session, trash).await, [HELLO, &large]);
    let moved = session.move_messages(trash, &[copied.uids[1].1], drafts).await.unwrap();
    assert_eq!(moved.uids.len(), 1);
    assert_eq!(session.bodies(trash, &[copied.uids[1].1]).await.unwrap(), []);
    let change = FlagChange::Add(vec![Flag::Deleted]);
    session.store_flags(drafts, &appended.uids, &change, None).await.unwrap();
    assert_eq!(session.expunge(drafts, None).await.unwrap(), appended.uids);
    assert_eq!(bodies(&session, drafts).await, [&large[..]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mailboxes_come_and_go_with_the_names_above_them() {
    let (_place, core) = Place::with_users().await;
    let session = login(&core, "alice").await;
    let name = |text: &str| MailboxName::new(text).unwrap();
    session.create_mailbox(&name("a/b/c"), None).await.unwrap();
    let listed = |mailboxes: Vec<mesyx_sdk::Mailbox>| {
        mailboxes
            .into_iter()
            .filter(|mailbox| mailbox.role.is_none())
            .map(|mailbox| (mailbox.name.to_string(), mailbox.selectable))
            .collect::<Vec<_>>()
    };
    let expected = [("a".to_owned(), false), ("a/b".to_owned(), false), ("a/b/c".to_owned(), true)];
    assert_eq!(listed(session.mailboxes().await.unwrap()), expected);
    assert_eq!(session.create_mailbox(&name("a/b/c"), None).await.unwrap_err().kind(), ErrorKind::Exists);
    assert_eq!(session.create_mailbox(&name("second"), Some(Role::Sent)).await.unwrap_err().kind(), ErrorKind::Exists);
    assert_eq!(session.delete_mailbox(&name("inbox")).await.unwrap_err().kind(), ErrorKind::Forbidden);
    session.rename_mailbox(&name("a/b/c"), &name("z")).await.unwrap();
    assert_eq!(listed(session.mailboxes().await.unwrap()), [("z".to_owned(), true)]);
    session.subscribe(&name("not/there"), true).await.unwrap();
    assert!(session.subscriptions().await.unwrap().contains(&name("not/there")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_hears_of_new_mail() {
    let (_place, core) = Place::with_users().await;
    let session = login(&core, "alice").await;
    let inbox = inbox(&session).await;
    let mut watcher = session.watch().await.unwrap();
    deliver(&core, &["bob@example.org"], HELLO).await;
    deliver(&core, &["alice@example.org"], HELLO).await;
    let change = tokio::time::timeout(Duration::from_secs(20), watcher.next()).await.unwrap();
    assert!(matches!(change, Some(Change::Mailbox(mailbox, _)) if mailbox == inbox), "{change:?}");
    core.remove_user("alice").await.unwrap();
    loop {
        match tokio::time::timeout(Duration::from_secs(20), watcher.next()).await.unwrap() {
            Some(Change::Ended(_)) => break,
            Some(_) => {}
            None => panic!("the end was not told"),
        }
    }
    assert_eq!(session.mailboxes().await.unwrap_err().kind(), ErrorKind::Forbidden);
}

#[tokio::test(flavor = "multi_thread")]
async fn searching_opens_summaries_and_bodies() {
    let (_place, core) = Place::with_users().await;
    for number in 0..300 {
        let text = format!("Subject: number {number}\r\nFrom: a@example.net\r\n\r\nbody of {number}\r\n");
        deliver(&core, &["alice@example.org"], text.as_bytes()).await;
    }
    let session = login(&core, "alice").await;
    let inbox = inbox(&session).await;
    let find = async |query| session.search(inbox, &query).await.unwrap().uids.len();
    assert_eq!(find(Query::Header("Subject".into(), "NUMBER 29".into())).await, 11);
    assert_eq!(find(Query::Body("body of 299".into())).await, 1);
    assert_eq!(find(Query::Text("number".into())).await, 300);
    assert_eq!(find(Query::Not(Box::new(Query::Body("of 1".into())))).await, 300 - 111);
    assert_eq!(session.search(inbox, &Query::All).await.unwrap().unsearchable, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_send_to_each_other_as_themselves_only() {
    let (_place, core) = Place::with_users().await;
    let session = login(&core, "alice").await;
    let text = |from: &str| format!("From: {from}\r\nTo: bob@example.org\r\nSubject: x\r\n\r\nhi\r\n");
    let mail = |from: &str, header: &str, to: &[&str]| {
        let mut envelope = envelope(to, text(header).as_bytes());
        envelope.from = Some(address(from));
        envelope
    };
    let bob = ["bob@example.org"];
    let me = "alice@example.org";
    let refused = async |envelope| session.submit(envelope).await.unwrap_err().kind();
    assert_eq!(refused(mail("bob@example.org", me, &bob)).await, ErrorKind::Forbidden);
    assert_eq!(refused(mail(me, "bob@example.org", &bob)).await, ErrorKind::Forbidden);
    assert_eq!(refused(mail(me, "Alice <alice@example.org>, x@example.com", &bob)).await, ErrorKind::Forbidden);
    assert_eq!(refused(mail(me, "alice@example.org\r\nFrom: x@example.com", &bob)).await, ErrorKind::Forbidden);
    assert_eq!(refused(mail(me, "alice@example.org\r\nSender: x@example.com", &bob)).await, ErrorKind::Forbidden);
    assert_eq!(refused(mail(me, "alice", &bob)).await, ErrorKind::Forbidden);
    assert_eq!(refused(mail(me, "", &bob)).await, ErrorKind::Forbidden);
    assert_eq!(refused(mail(me, me, &["x@example.com"])).await, ErrorKind::Forbidden);
    assert_eq!(refused(mail(me, me, &["bob@example.org", "nobody@example.org"])).await, ErrorKind::NotFound);
    let accepted = session.submit(mail("alice+list@example.org", "A <Alice@EXAMPLE.org>", &bob)).await.unwrap();
    let other = login(&core, "bob").await;
    let inbox = inbox(&other).await;
    let snapshot = other.snapshot(inbox, false).await.unwrap();
    assert_eq!(snapshot.entries.iter().map(|entry| entry.message).collect::<Vec<_>>(), [accepted.id]);
    let (_, summary) = other.summaries(inbox, &[snapshot.entries[0].uid]).await.unwrap().remove(0);
    assert_eq!(summary.origin.clone().unwrap().authenticated, Some(session.user().id));
    let status = session.recipient(&address("x@example.com")).await.unwrap();
    assert!(matches!(status, RecipientStatus::Refused(_)));
    assert_eq!(core.recipient(&address("x@example.com"), &Sender::Stranger), RecipientStatus::Foreign);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_bridge_holds_for_unwanted_goes_to_junk_while_there_is_such_a_mailbox() {
    let (_place, core) = Place::with_users().await;
    let session = login(&core, "alice").await;
    let (inbox, junk) = (inbox(&session).await, mailbox(&session, Role::Junk).await);
    let unwanted = || mesyx_sdk::Envelope { junk: true, ..envelope(&["alice@example.org"], HELLO) };
    accept(&core, unwanted()).await.unwrap();
    assert_eq!((uids(&session, inbox).await.len(), uids(&session, junk.id).await.len()), (0, 1));
    deliver(&core, &["alice@example.org"], HELLO).await;
    assert_eq!((uids(&session, inbox).await.len(), uids(&session, junk.id).await.len()), (1, 1));
    session.delete_mailbox(&junk.name).await.unwrap();
    accept(&core, unwanted()).await.unwrap();
    assert_eq!(uids(&session, inbox).await.len(), 2);
}
