//! What any host must do that keeps all in memory. Run twice: on the host itself, and through the wire protocol (`wire::tests`).

use super::stage::{Place, THROUGH_THE_WIRE, place};
use super::*;
use crate::{
    Append, Change, Content, Credentials, Flag, FlagChange, Host, ListenSpec, MailboxId, MailboxName, Query,
    RecipientStatus, Role, Sender, Timestamp,
};
use std::time::Duration;
use tokio::time::timeout;

fn name(name: &str) -> MailboxName {
    MailboxName::new(name).unwrap()
}

fn mail(address: &str) -> MailAddress {
    address.parse().unwrap()
}

fn to(address: &str, content: &str) -> Envelope {
    envelope(None, vec![mail(address).into()], Content::from(content.as_bytes().to_vec()))
}

fn login(name: &str, password: &str) -> Credentials {
    let client = crate::ClientInfo { ip: [127, 0, 0, 1].into(), protocol: "imap".into(), tls: true };
    Credentials { name: name.into(), password: Secret::from(password.to_owned()), client }
}

async fn mailbox(session: &dyn Session, wanted: &str) -> MailboxId {
    session.mailboxes().await.unwrap().into_iter().find(|mailbox| mailbox.name == name(wanted)).unwrap().id
}

async fn append(session: &dyn Session, to: MailboxId, content: &str, flags: &[&str]) -> u32 {
    let flags = flags.iter().map(|flag| Flag::new(flag).unwrap()).collect();
    let content = Content::from(content.as_bytes().to_vec());
    let message = Append { flags, internal_date: Some(Timestamp::from_seconds(86_400 * 10 + 5)), content };
    session.append(to, vec![message]).await.unwrap().uids[0]
}

#[tokio::test]
async fn accepting_stores_once_for_each_user_or_for_none() {
    let Place { host, ann, session } = place().await;
    host.add_alias("ann", mail("info@example.org")).unwrap();
    let inbox = mailbox(&*session, "INBOX").await;
    let mut envelope = to("ann@example.org", "Subject: x\r\n\r\nbody\r\n");
    envelope.to.extend(to("Ann+list@example.org", "").to);
    envelope.to.extend(to("info@EXAMPLE.org", "").to);
    let id = envelope.id;
    let mut nowhere = to("ann@example.org", "\r\n");
    nowhere.to.extend(to("nobody@example.org", "").to);
    let answers = host.accept(vec![envelope, nowhere]).await;
    assert_eq!(answers[0].as_ref().map(|accepted| (accepted.id, accepted.duplicate)), Ok((id, false)));
    assert_eq!(answers[1].as_ref().map_err(Error::kind).unwrap_err(), ErrorKind::NotFound);
    let snapshot = session.snapshot(inbox, true).await.unwrap();
    assert_eq!((snapshot.entries.len(), snapshot.recent_from, snapshot.uid_next), (1, 1, 2));
    assert_eq!(session.snapshot(inbox, true).await.unwrap().recent_from, 2);
    assert_eq!(&*session.bodies(inbox, &[1, 7]).await.unwrap()[0].1, b"Subject: x\r\n\r\nbody\r\n");
    assert_eq!(host.accepted().len(), 1);
    assert_eq!(ann.address, mail("ann@example.org"));
}

#[tokio::test]
async fn a_repeated_name_is_a_duplicate() {
    let Place { host, .. } = place().await;
    let mut first = to("ann@example.org", "\r\n");
    first.dedup = Some(b"name".to_vec());
    let mut again = to("ann@example.org", "\r\n");
    again.dedup = Some(b"name".to_vec());
    let answers = host.accept(vec![first.clone(), again]).await;
    assert_eq!(answers[1], Ok(crate::Accepted { id: first.id, duplicate: true }));
    assert_eq!(host.accepted().len(), 1);
}

#[tokio::test]
async fn accepts_fail_and_wait_as_told() {
    let Place { host, .. } = place().await;
    host.fail_next_accept(Error::new(ErrorKind::Full, "full"));
    let answers = host.accept(vec![to("ann@example.org", "\r\n"), to("ann@example.org", "\r\n")]).await;
    assert_eq!(answers[0].as_ref().unwrap_err().kind(), ErrorKind::Full);
    assert!(answers[1].is_ok());

    host.hold_accepts();
    let bridge = host.clone();
    let accepting = tokio::spawn(async move { bridge.accept(vec![to("ann@example.org", "\r\n")]).await });
    host.brought(2).await;
    tokio::task::yield_now().await;
    assert!(!accepting.is_finished() && host.accepted().len() == 1);
    host.release_accepts();
    assert!(accepting.await.unwrap()[0].is_ok());
    assert_eq!(host.accepted().len(), 2);
}

#[tokio::test]
async fn logins_and_recipients() {
    let Place { host, .. } = place().await;
    let failure = |result: Result<Arc<dyn Session>, Error>| result.map(|_| ()).unwrap_err().kind();
    assert_eq!(host.login(login("ANN@example.org", "secret")).await.unwrap().user().name, "ann");
    assert_eq!(failure(host.login(login("ann", "wrong")).await), ErrorKind::LoginFailed);
    assert_eq!(failure(host.login(login("nobody", "secret")).await), ErrorKind::LoginFailed);
    host.fail_next_login(Error::new(ErrorKind::TooMany, "wait"));
    assert_eq!(failure(host.login(login("ann", "secret")).await), ErrorKind::TooMany);
    for (address, wanted) in [
        ("ann+x@example.org", RecipientStatus::Local),
        ("nobody@example.org", RecipientStatus::Unknown),
        ("ann@example.net", RecipientStatus::Foreign),
    ] {
        let status = host.recipient(&mail(address).into(), &Sender::Stranger).await.unwrap();
        assert_eq!(status, wanted, "{address}");
    }
}

#[tokio::test]
async fn calls_without_their_grant_are_refused() {
    let Place { host, .. } = place().await;
    host.grant_only([Grant::Listen(0)]);
    let refused = |kind: Option<ErrorKind>| assert_eq!(kind, Some(ErrorKind::NotGranted));
    refused(host.accept(vec![to("ann@example.org", "")]).await[0].as_ref().err().map(Error::kind));
    refused(host.login(login("ann", "secret")).await.err().map(|error| error.kind()));
    refused(host.recipient(&mail("a@b").into(), &Sender::Stranger).await.err().map(|error| error.kind()));
    refused(host.certificates().err().map(|error| error.kind()));
    refused(host.secret("x").await.err().map(|error| error.kind()));
    let spec = |port| ListenSpec { name: "x".into(), address: ([127, 0, 0, 1], port).into() };
    refused(host.listen(&spec(1)).await.err().map(|error| error.kind()));
    assert!(host.listen(&spec(0)).await.is_ok());
    assert!(host.accepted().is_empty());
}

#[tokio::test]
async fn listeners_health_and_stopping() {
    let Place { host, .. } = place().await;
    let spec = ListenSpec { name: "mx".into(), address: ([127, 0, 0, 1], 0).into() };
    let listener = host.listen(&spec).await.unwrap();
    let address = listener.local_addr().unwrap();
    let taken = host.listen(&ListenSpec { name: "again".into(), address }).await.unwrap_err();
    assert!(taken.kind() == ErrorKind::Unavailable && taken.message().contains(&address.to_string()));
    let waiting = tokio::spawn({
        let host = host.clone();
        async move { host.listening("mx").await }
    });
    host.health(Health::Degraded("slow".into()));
    host.health(Health::Listening { name: "mx".into(), address });
    assert_eq!(waiting.await.unwrap(), address);
    assert_eq!(host.health_reports().len(), 2);
    assert!(timeout(Duration::from_millis(1), host.stopped()).await.is_err());
    host.stop();
    host.stopped().await;
}

#[tokio::test]
async fn mailboxes_are_made_renamed_and_deleted() {
    let Place { session, .. } = place().await;
    let names = async || -> Vec<String> {
        let mailboxes = session.mailboxes().await.unwrap();
        let shown = |mailbox: crate::Mailbox| format!("{}{}", mailbox.name, if mailbox.selectable { "" } else { "-" });
        mailboxes.into_iter().filter(|mailbox| mailbox.role.is_none()).map(shown).collect()
    };
    let kind = |result: Result<(), Error>| result.unwrap_err().kind();
    let id = session.create_mailbox(&name("a/b/c"), None).await.unwrap();
    assert_eq!(names().await, ["a-", "a/b-", "a/b/c"]);
    assert_eq!(session.create_mailbox(&name("a/b/c"), None).await.unwrap_err().kind(), ErrorKind::Exists);
    assert_eq!(session.status(mailbox(&*session, "a").await).await.unwrap_err().kind(), ErrorKind::NotFound);
    session.create_mailbox(&name("a"), None).await.unwrap();
    assert_eq!(kind(session.rename_mailbox(&name("a"), &name("a/x")).await), ErrorKind::Invalid);
    assert_eq!(kind(session.rename_mailbox(&name("a"), &name("inbox")).await), ErrorKind::Exists);
    assert_eq!(kind(session.rename_mailbox(&name("q"), &name("r")).await), ErrorKind::NotFound);
    session.rename_mailbox(&name("a"), &name("z/y")).await.unwrap();
    assert_eq!(names().await, ["z-", "z/y", "z/y/b-", "z/y/b/c"]);
    assert_eq!(mailbox(&*session, "z/y/b/c").await, id);
    session.delete_mailbox(&name("z/y")).await.unwrap();
    assert_eq!(names().await, ["z-", "z/y-", "z/y/b-", "z/y/b/c"]);
    assert_eq!(kind(session.delete_mailbox(&name("z/y")).await), ErrorKind::Forbidden);
    session.delete_mailbox(&name("z/y/b/c")).await.unwrap();
    assert!(names().await.is_empty());
    assert!(session.changes(id, 1).await.unwrap().deleted);
    assert_eq!(kind(session.delete_mailbox(&name("INBOX")).await), ErrorKind::Forbidden);

    let inbox = mailbox(&*session, "INBOX").await;
    append(&*session, inbox, "\r\n", &[]).await;
    session.rename_mailbox(&name("INBOX"), &name("old")).await.unwrap();
    assert_eq!(mailbox(&*session, "INBOX").await, inbox);
    assert_eq!(session.status(inbox).await.unwrap().messages, 0);
    assert_eq!(session.status(mailbox(&*session, "old").await).await.unwrap().messages, 1);
}

#[tokio::test]
async fn a_name_used_again_has_another_uid_validity() {
    let Place { session, .. } = place().await;
    let first = session.create_mailbox(&name("x"), None).await.unwrap();
    let before = session.status(first).await.unwrap().uid_validity;
    session.delete_mailbox(&name("x")).await.unwrap();
    let second = session.create_mailbox(&name("x"), Some(Role::Archive)).await.unwrap();
    assert!(session.status(second).await.unwrap().uid_validity > before);
}

#[tokio::test]
async fn flags_copies_moves_and_expunges() {
    let Place { session, .. } = place().await;
    let (inbox, trash) = (mailbox(&*session, "INBOX").await, mailbox(&*session, "Trash").await);
    for content in ["a\r\n\r\n", "b\r\n\r\n", "c\r\n\r\n"] {
        append(&*session, inbox, content, &["\\Seen", "work"]).await;
    }
    let start = session.snapshot(inbox, false).await.unwrap();
    let flag = |text: &str| Flag::new(text).unwrap();
    let stored = session.store_flags(inbox, &[3, 1, 9], &FlagChange::Add(vec![flag("\\Deleted")]), None).await.unwrap();
    assert_eq!(stored.entries.iter().map(|entry| entry.uid).collect::<Vec<_>>(), [1, 3]);
    let now = stored.entries[0].modseq;
    assert!(now > start.highest_modseq && stored.entries[0].flags.contains(&flag("WORK")));
    let same = session.store_flags(inbox, &[1], &FlagChange::Add(vec![flag("\\Deleted")]), None).await.unwrap();
    assert_eq!(same.entries[0].modseq, now);
    let since = Some(start.highest_modseq);
    let late = session.store_flags(inbox, &[1, 2], &FlagChange::Set(vec![]), since).await.unwrap();
    assert_eq!((late.modified, late.entries.len(), late.entries[0].uid), (vec![1], 1, 2));
    let crowd = (0..=crate::Flags::MAX).map(|number| flag(&format!("k{number}"))).collect();
    assert!(session.store_flags(inbox, &[1], &FlagChange::Set(crowd), None).await.is_err());

    let copied = session.copy(inbox, &[3, 1, 8], trash).await.unwrap();
    assert_eq!(copied.uids, [(1, 1), (3, 2)]);
    assert_eq!(session.move_messages(inbox, &[2], trash).await.unwrap().uids, [(2, 3)]);
    assert!(session.move_messages(inbox, &[1], MailboxId::random()).await.is_err());
    assert_eq!(session.expunge(inbox, Some(&[2, 3])).await.unwrap(), [3]);
    assert_eq!(session.expunge(inbox, None).await.unwrap(), [1]);
    let changes = session.changes(inbox, start.highest_modseq).await.unwrap();
    assert_eq!((changes.vanished, changes.changed.len(), changes.uid_next), (vec![1, 2, 3], 0, 4));
    let status = session.status(trash).await.unwrap();
    assert_eq!((status.messages, status.unseen, status.recent, status.size), (3, 1, 3, 3 * 1024));
}

#[tokio::test]
async fn searches() {
    let Place { session, .. } = place().await;
    let inbox = mailbox(&*session, "INBOX").await;
    append(
        &*session,
        inbox,
        "Subject: =?utf-8?b?R3LDvMOfZQ==?= =?utf-8?q?_aus?=\r\nDate: Tue, 6 Feb 2024 10:00:00 +0000\r\n\r\nplain",
        &[],
    )
    .await;
    append(&*session, inbox, "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nh=C3=A4=\r\nuser\r\n--x\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\nZmlu\r\nZG1l\r\n--x\r\nContent-Type: image/png\r\n\r\nhidden\r\n--x--", &["\\Seen"]).await;
    append(&*session, inbox, "To: x\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ndeep", &[]).await;
    let find = async |query: Query| session.search(inbox, &query).await.unwrap().uids;
    let text = |text: &str| Query::Text(text.into());
    let body = |text: &str| Query::Body(text.into());
    let header = |name: &str, text: &str| Query::Header(name.into(), text.into());
    assert_eq!(find(Query::All).await, [1, 2, 3]);
    assert_eq!(find(header("subject", "GRÜßE AUS")).await, [1]);
    assert_eq!(find(header("To", "")).await, [3]);
    assert_eq!(find(body("plain")).await, [1]);
    assert_eq!(find(body("hÄuser")).await, [2]);
    assert_eq!(find(body("findme")).await, [2]);
    assert_eq!(find(body("hidden")).await, [0; 0]);
    assert_eq!(find(body("inner")).await, [3]);
    assert_eq!(find(body("grüße")).await, [0; 0]);
    assert_eq!(find(text("deep")).await, [3]);
    assert_eq!(find(text("Grüße")).await, [1]);
    assert_eq!(find(Query::Flag(Flag::Seen)).await, [2]);
    assert_eq!(find(Query::Not(Box::new(Query::Flag(Flag::Seen)))).await, [1, 3]);
    assert_eq!(
        find(Query::And(vec![Query::All, Query::Or(vec![Query::Uids(vec![1..=1, 9..=20]), text("deep")])])).await,
        [1, 3]
    );
    assert_eq!(find(Query::Or(vec![])).await, [0; 0]);
    assert_eq!(find(Query::On(10)).await.len(), 3);
    assert_eq!((find(Query::Before(10)).await.len(), find(Query::Since(10)).await.len()), (0, 3));
    assert_eq!(find(Query::SentOn(19_759)).await, [1]);
    assert_eq!((find(Query::SentBefore(19_759)).await.len(), find(Query::SentSince(19_759)).await), (0, vec![1]));
    assert_eq!(find(Query::Larger(200)).await, [2]);
    assert_eq!(find(Query::Smaller(70)).await, [3]);
    let entries = session.snapshot(inbox, false).await.unwrap().entries;
    assert_eq!(find(Query::ModSeq(entries[1].modseq)).await, [2, 3]);
    assert_eq!(find(Query::Message(entries[2].message)).await, [3]);
    assert_eq!(session.search(inbox, &Query::All).await.unwrap().highest_modseq, entries[2].modseq);
    let deep = (0..Query::MAX_DEPTH).fold(Query::All, |query, _| Query::Not(Box::new(query)));
    assert_eq!(session.search(inbox, &deep).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert!(session.search(inbox, &Query::Or(vec![Query::All; Query::MAX_TERMS])).await.is_err());
}

#[tokio::test]
async fn watchers_are_told_and_lag_is_told_too() {
    if THROUGH_THE_WIRE {
        // What waits on the way is not counted here; a test there looks at lag.
        return;
    }
    let Place { host, session, .. } = place().await;
    let inbox = mailbox(&*session, "INBOX").await;
    let mut watcher = session.watch().await.unwrap();
    host.accept(vec![to("ann@example.org", "\r\n")]).await.remove(0).unwrap();
    host.accept(vec![to("bob@example.org", "\r\n")]).await.remove(0).unwrap();
    assert_eq!(watcher.next().await, Some(Change::Mailbox(inbox, 2)));
    assert_eq!(watcher.try_next(), None);
    session.create_mailbox(&name("x"), None).await.unwrap();
    assert_eq!(watcher.next().await, Some(Change::MailboxList));
    for _ in 0..100 {
        append(&*session, inbox, "\r\n", &[]).await;
    }
    let waiting: Vec<Change> = std::iter::from_fn(|| watcher.try_next()).collect();
    assert_eq!((waiting.len(), waiting.last()), (crate::Watcher::CAPACITY + 1, Some(&Change::Lagged)));
    append(&*session, inbox, "\r\n", &[]).await;
    assert_eq!(watcher.try_next(), Some(Change::Mailbox(inbox, 103)));
    host.end_sessions("ann", "revoked").unwrap();
    assert_eq!((watcher.next().await, watcher.next().await), (Some(Change::Ended("revoked".into())), None));
}

#[tokio::test]
async fn only_own_addresses_send() {
    let Place { host, session, .. } = place().await;
    let submit = async |from: &str, content: &str, to_address: &str| {
        let mut envelope = to(to_address, content);
        envelope.from = Some(mail(from).into());
        session.submit(envelope).await.map(|_| ()).map_err(|error| error.kind())
    };
    let refused = Err(ErrorKind::Forbidden);
    let bob = "bob@example.org";
    assert_eq!(submit("ann@example.org", "From: Ann <ann+x@example.org>\r\n\r\n", bob).await, Ok(()));
    assert_eq!(submit(bob, "From: ann@example.org\r\n\r\n", bob).await, refused);
    assert_eq!(submit("ann@example.org", "From: ann@example.org, bob@example.org\r\n\r\n", bob).await, refused);
    assert_eq!(submit("ann@example.org", "From: ann@example.org\r\nFrom: bob@example.org\r\n\r\n", bob).await, refused);
    assert_eq!(
        submit("ann@example.org", "From: ann@example.org\r\nSender: bob@example.org\r\n\r\n", bob).await,
        refused
    );
    assert_eq!(submit("ann@example.org", "From: ann@example.org garbage\r\n\r\n", bob).await, refused);
    assert_eq!(submit("ann@example.org", "Subject: x\r\n\r\n", bob).await, refused);
    assert_eq!(submit("ann@example.org", "From: ann@example.org\r\n\r\n", "x@example.net").await, refused);
    assert_eq!(
        submit("ann@example.org", "From: ann@example.org\r\n\r\n", "x@example.org").await,
        Err(ErrorKind::NotFound)
    );
    assert_eq!((host.submitted().len(), host.accepted().len()), (1, 0));
    let bobs = host.session("bob").unwrap();
    let inbox = mailbox(&*bobs, "INBOX").await;
    assert_eq!(bobs.status(inbox).await.unwrap().messages, 1);
}
