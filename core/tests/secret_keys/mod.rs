//! What happens to secret keys, and to the messages under them.

use crate::support::*;
use mesyx_core::Core;
use mesyx_core::admin::Proof;
use mesyx_core::keys::{Argon2Params, MasterKey, Slot};
use mesyx_core::keysets::KeysetChange;
use mesyx_core::secret_keys::{NewReseal, NewUnlock, ResealKey, ResealProgress};
use mesyx_sdk::{
    Change, Changes, ErrorKind, Flag, FlagChange, MailboxId, MessageId, Query, Role, Secret, Session, Uid,
};
use sequoia_openpgp::Cert;
use sequoia_openpgp::parse::Parse;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

fn proof(name: &str) -> Proof {
    Proof::Password(password(name))
}

fn letter(number: usize) -> Vec<u8> {
    let filler = "some more text\r\n".repeat(if number.is_multiple_of(7) { 12_000 } else { 3 });
    format!(
        "From: a@example.net\r\nTo: alice@example.org\r\nSubject: number {number}\r\n\r\n{filler}the end {number}\r\n"
    )
    .into_bytes()
}

/// Takes alice's keyset offline; the file.
async fn offline(core: &Core, keyset: &str, passphrase: Option<Secret>) -> Secret {
    let exported = core.export_keyset("alice", keyset, proof("alice"), passphrase.clone()).await.unwrap();
    let file = exported.armored;
    core.take_keyset_offline("alice", keyset, proof("alice"), &file, passphrase.as_ref()).await.unwrap();
    file
}

/// UIDs and messages of a mailbox.
async fn entries(session: &Arc<dyn Session>, mailbox: MailboxId) -> Vec<(Uid, MessageId)> {
    let snapshot = session.snapshot(mailbox, false).await.unwrap();
    snapshot.entries.iter().map(|entry| (entry.uid, entry.message)).collect()
}

async fn subjects(session: &Arc<dyn Session>, mailbox: MailboxId) -> Vec<String> {
    let uids = uids(session, mailbox).await;
    let summaries = session.summaries(mailbox, &uids).await.unwrap();
    let subject = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap();
    summaries.iter().map(|(_, summary)| subject(summary.fields.subject.as_deref())).collect()
}

/// The secret parts of the keys in a file, as they must stand nowhere else.
fn secret_bytes(file: &Secret) -> Vec<Vec<u8>> {
    use sequoia_openpgp::crypto::mpi::SecretKeyMaterial as Mpis;
    use sequoia_openpgp::packet::key::SecretKeyMaterial;
    let cert = Cert::from_bytes(file.expose()).unwrap();
    let mut found = Vec::new();
    for key in cert.keys().secret() {
        let SecretKeyMaterial::Unencrypted(secret) = key.key().secret() else { panic!("locked") };
        secret.map(|mpis| match mpis {
            Mpis::EdDSA { scalar } | Mpis::ECDH { scalar } => found.push(scalar.value().to_vec()),
            Mpis::X25519 { x } => found.push(x.to_vec()),
            Mpis::Ed25519 { x } => found.push(x.to_vec()),
            _ => panic!("another kind of key"),
        });
    }
    assert!(found.len() >= 2 && found.iter().all(|bytes| bytes.len() >= 31));
    // Little-endian too: libraries keep them so.
    found.iter().cloned().chain(found.iter().map(|bytes| bytes.iter().rev().copied().collect())).collect()
}

fn files_with(directory: &Path, wanted: &[Vec<u8>]) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            read => read.unwrap(),
        };
        if wanted.iter().any(|text| bytes.windows(text.len()).any(|window| window == text)) {
            found.push(path.display().to_string());
        }
    }
    found
}

/// The wrapped secret keys as the database holds them, read by another program's library.
fn wrapped(data: &Path) -> Vec<Vec<u8>> {
    let database = rusqlite::Connection::open(data.join("store/store.db")).unwrap();
    let mut select = database.prepare("SELECT wrapped FROM secret_keys WHERE length(keyset) > 0").unwrap();
    let rows = select.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    rows.map(|row| row.unwrap()[200..264].to_vec()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn going_offline_and_coming_back_give_new_uids_and_nothing_else_changes() {
    let (_place, core) = Place::with_users().await;
    for number in 0..10 {
        deliver(&core, &["alice@example.org"], &letter(number)).await;
    }
    let session = login(&core, "alice").await;
    let inbox = inbox(&session).await;
    let archive = mailbox(&session, Role::Archive).await.id;
    let before = entries(&session, inbox).await;
    let all: Vec<Uid> = before.iter().map(|(uid, _)| *uid).collect();
    session.copy(inbox, &all[2..4], archive).await.unwrap();
    let flagged = FlagChange::Add(vec![Flag::Flagged, Flag::new("$later").unwrap()]);
    session.store_flags(inbox, &all[..3], &flagged, None).await.unwrap();
    let opened = bodies(&session, inbox).await;
    assert_eq!(opened, (0..10).map(letter).collect::<Vec<_>>());
    let snapshot = session.snapshot(inbox, true).await.unwrap();
    let flags: Vec<_> = snapshot.entries.iter().map(|entry| entry.flags.clone()).collect();
    let mut watcher = session.watch().await.unwrap();

    let file = offline(&core, "default", None).await;

    // The session that was open all the time: every UID went, others came, in the same order and with the same flags.
    let Changes { changed, vanished, highest_modseq, .. } =
        session.changes(inbox, snapshot.highest_modseq).await.unwrap();
    assert_eq!(vanished, all);
    assert!(highest_modseq > snapshot.highest_modseq);
    assert!(changed.iter().all(|entry| entry.uid > *all.last().unwrap() && entry.modseq <= highest_modseq));
    assert_eq!(
        changed.iter().map(|entry| entry.message).collect::<Vec<_>>(),
        before.iter().map(|(_, id)| *id).collect::<Vec<_>>()
    );
    assert_eq!(changed.iter().map(|entry| entry.flags.clone()).collect::<Vec<_>>(), flags);
    assert!(matches!(watcher.next().await, Some(Change::Mailbox(..) | Change::Lagged)));
    let after = session.snapshot(inbox, false).await.unwrap();
    assert!(after.recent_from >= after.uid_next, "what was not recent is not recent again");
    assert!(session.bodies(inbox, &all).await.unwrap().is_empty(), "no old UID shows anything");
    assert!(session.summaries(inbox, &all).await.unwrap().is_empty());
    assert_eq!(subjects(&session, inbox).await, vec!["Sealed message (keyset default)"; 10]);
    assert_eq!(subjects(&session, archive).await, vec!["Sealed message (keyset default)"; 2]);
    for body in bodies(&session, inbox).await {
        let text = String::from_utf8(body).unwrap();
        assert!(text.contains("multipart/encrypted") && !text.contains("the end"), "{text}");
    }
    let found = session.search(inbox, &Query::Body("the end".into())).await.unwrap();
    assert_eq!((found.uids.len(), found.unsearchable), (0, 10));
    let found = session.search(inbox, &Query::Flag(Flag::Flagged)).await.unwrap();
    assert_eq!((found.uids.len(), found.unsearchable), (3, 0));
    // New mail for the keyset is shown sealed from the first.
    deliver(&core, &["alice@example.org"], &letter(10)).await;
    assert_eq!(subjects(&session, inbox).await, vec!["Sealed message (keyset default)"; 11]);
    let fresh = login(&core, "alice").await;
    assert_eq!(subjects(&fresh, inbox).await, vec!["Sealed message (keyset default)"; 11]);
    let sealed = entries(&session, inbox).await;

    core.bring_keyset_online("alice", "default", proof("alice"), &file, None).await.unwrap();

    let again = entries(&session, inbox).await;
    assert!(again.iter().all(|(uid, _)| sealed.iter().all(|(old, _)| uid > old)));
    assert_eq!(
        again.iter().map(|(_, id)| *id).collect::<Vec<_>>(),
        sealed.iter().map(|(_, id)| *id).collect::<Vec<_>>()
    );
    assert_eq!(bodies(&session, inbox).await, (0..11).map(letter).collect::<Vec<_>>());
    assert_eq!(bodies(&fresh, archive).await, [letter(2), letter(3)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offline_key_is_in_no_file_also_not_wrapped() {
    let (place, core) = Place::with_users().await;
    for number in 0..5 {
        deliver(&core, &["alice@example.org"], &letter(number)).await;
    }
    let before = wrapped(place.data());
    assert_eq!(before.len(), 2, "alice's and bob's");
    assert!(!files_with(place.data(), &before).is_empty(), "the search finds what is there");
    let file = offline(&core, "default", None).await;
    let left = wrapped(place.data());
    let gone: Vec<Vec<u8>> = before.into_iter().filter(|wrapped| !left.contains(wrapped)).collect();
    assert_eq!(gone.len(), 1);
    let mut wanted = secret_bytes(&file);
    wanted.extend(gone);
    wanted.push(file.expose()[200..260].to_vec());
    assert_eq!(files_with(place.data(), &wanted), Vec::<String>::new(), "while it runs");
    core.close().await;
    assert_eq!(files_with(place.data(), &wanted), Vec::<String>::new(), "after it ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_file_and_proof_nothing_goes_and_nothing_comes() {
    let (_place, core) = Place::with_users().await;
    deliver(&core, &["alice@example.org"], HELLO).await;
    let wrong = Proof::Password(password("bob"));
    let kind = |error: mesyx_sdk::Error| error.kind();
    let refused = core.export_keyset("alice", "default", wrong.clone(), None).await.map(drop).map_err(kind);
    assert_eq!(refused, Err(ErrorKind::LoginFailed));
    assert_eq!(
        core.export_keyset("alice", "x", proof("alice"), None).await.map(drop).map_err(kind),
        Err(ErrorKind::NotFound)
    );
    let other = core.export_keyset("bob", "default", proof("bob"), None).await.unwrap().armored;
    let file = core.export_keyset("alice", "default", proof("alice"), None).await.unwrap().armored;
    let cut = Secret::new(file.expose()[..file.expose().len() / 2].to_vec());
    for bad in [&other, &cut, &Secret::from(String::new()), &Secret::from("nonsense".to_owned())] {
        let refused = core.take_keyset_offline("alice", "default", proof("alice"), bad, None).await;
        assert_eq!(refused.map(drop).map_err(kind), Err(ErrorKind::Invalid));
    }
    let refused = core.take_keyset_offline("alice", "default", wrong.clone(), &file, None).await;
    assert_eq!(refused.map(drop).map_err(kind), Err(ErrorKind::LoginFailed));
    let session = login(&core, "alice").await;
    let inbox = inbox(&session).await;
    assert_eq!(bodies(&session, inbox).await, [HELLO]);
    core.take_keyset_offline("alice", "default", proof("alice"), &file, None).await.unwrap();
    let twice = core.take_keyset_offline("alice", "default", proof("alice"), &file, None).await;
    assert_eq!(twice.map(drop).map_err(kind), Err(ErrorKind::Invalid));
    for bad in [&other, &cut] {
        let refused = core.bring_keyset_online("alice", "default", proof("alice"), bad, None).await;
        assert_eq!(refused.map(drop).map_err(kind), Err(ErrorKind::Invalid));
    }
    let refused = core.bring_keyset_online("alice", "default", wrong, &file, None).await;
    assert_eq!(refused.map(drop).map_err(kind), Err(ErrorKind::LoginFailed));
    assert_eq!(subjects(&session, inbox).await, ["Sealed message (keyset default)"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyset_keeps_the_name_that_its_messages_are_shown_under() {
    let (_place, core) = Place::with_users().await;
    deliver(&core, &["alice@example.org"], HELLO).await;
    let rename = |name: &str| KeysetChange { name: Some(name.to_owned()), ..KeysetChange::default() };
    core.change_keyset("alice", "default", rename("first")).await.unwrap();
    let file = offline(&core, "first", None).await;
    let refused = core.change_keyset("alice", "first", rename("second")).await.map(drop);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Forbidden);
    let session = login(&core, "alice").await;
    assert_eq!(subjects(&session, inbox(&session).await).await, ["Sealed message (keyset first)"]);
    core.bring_keyset_online("alice", "first", proof("alice"), &file, None).await.unwrap();
    core.change_keyset("alice", "first", rename("second")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_may_be_locked_with_a_passphrase() {
    let (_place, core) = Place::with_users().await;
    deliver(&core, &["alice@example.org"], HELLO).await;
    let phrase = Secret::from("open sesame".to_owned());
    let file = offline(&core, "default", Some(phrase.clone())).await;
    let wrong = Secret::from("open barley".to_owned());
    for bad in [None, Some(&wrong)] {
        let refused = core.bring_keyset_online("alice", "default", proof("alice"), &file, bad).await;
        assert_eq!(refused.map(drop).unwrap_err().kind(), ErrorKind::Invalid);
    }
    core.bring_keyset_online("alice", "default", proof("alice"), &file, Some(&phrase)).await.unwrap();
    let session = login(&core, "alice").await;
    assert_eq!(bodies(&session, inbox(&session).await).await, [HELLO]);
}

fn unlock(file: &Secret, seconds: u64) -> NewUnlock {
    NewUnlock {
        user: "alice".into(),
        keyset: "default".into(),
        file: file.clone(),
        passphrase: None,
        time: Duration::from_secs(seconds),
    }
}

async fn unlocked(session: &Arc<dyn Session>) -> Option<MailboxId> {
    let mailboxes = session.mailboxes().await.unwrap();
    mailboxes.into_iter().find(|mailbox| mailbox.name.as_str() == "Unlocked/default").map(|mailbox| mailbox.id)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unlocked_keyset_shows_opened_copies_for_a_while() {
    let (place, core) = Place::with_users().await;
    for number in 0..4 {
        deliver(&core, &["alice@example.org"], &letter(number)).await;
    }
    let session = login(&core, "alice").await;
    let inbox = inbox(&session).await;
    let file = offline(&core, "default", None).await;
    let before = entries(&session, inbox).await;
    assert_eq!(unlocked(&session).await, None);
    let mut watcher = session.watch().await.unwrap();
    let told = core.unlock_keyset(unlock(&file, 600)).await.unwrap();
    assert_eq!(told.mailbox, "Unlocked/default");
    assert_eq!(watcher.next().await, Some(Change::MailboxList));
    let view = unlocked(&session).await.unwrap();
    let status = session.status(view).await.unwrap();
    assert_eq!((status.messages, status.uid_next), (4, 5));
    assert_eq!(bodies(&session, view).await, (0..4).map(letter).collect::<Vec<_>>());
    assert_eq!(subjects(&session, view).await, ["number 0", "number 1", "number 2", "number 3"]);
    let found = session.search(view, &Query::Body("the end 2".into())).await.unwrap();
    assert_eq!((found.uids.as_slice(), found.unsearchable), (&[3][..], 0));
    // The other mailboxes are as they were.
    assert_eq!(entries(&session, inbox).await, before);
    assert_eq!(subjects(&session, inbox).await, vec!["Sealed message (keyset default)"; 4]);
    // Flags stay in the view; nothing else can be changed.
    let seen = FlagChange::Add(vec![Flag::Seen]);
    assert_eq!(session.store_flags(view, &[1], &seen, None).await.unwrap().entries.len(), 1);
    assert_eq!(session.status(view).await.unwrap().unseen, 3);
    assert_eq!(session.move_messages(view, &[1], inbox).await.unwrap_err().kind(), ErrorKind::Forbidden);
    assert_eq!(session.copy(inbox, &[before[0].0], view).await.unwrap_err().kind(), ErrorKind::Forbidden);
    // What comes in meanwhile comes there too.
    let modseq = session.snapshot(view, false).await.unwrap().highest_modseq;
    deliver(&core, &["alice@example.org"], &letter(9)).await;
    while session.changes(view, modseq).await.unwrap().changed.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(bodies(&session, view).await.last(), Some(&letter(9)));
    let bob = login(&core, "bob").await;
    assert_eq!(unlocked(&bob).await, None);
    assert_eq!(bob.snapshot(view, false).await.map(drop).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(core.status().await.unwrap().unlocked_keysets.len(), 1);

    core.lock_keyset("alice", "default").unwrap();
    assert_eq!(unlocked(&session).await, None);
    assert!(session.changes(view, 0).await.unwrap().deleted);
    assert_eq!(session.snapshot(view, false).await.map(drop).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(session.bodies(view, &[1]).await.map(drop).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(core.lock_keyset("alice", "default").unwrap_err().kind(), ErrorKind::NotFound);

    // Another mailbox the next time, and gone by itself.
    let first = status.uid_validity;
    core.unlock_keyset(unlock(&file, 1)).await.unwrap();
    let next = unlocked(&session).await.unwrap();
    assert!(next != view && session.status(next).await.unwrap().uid_validity > first);
    while unlocked(&session).await.is_some() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(core.unlock_keyset(unlock(&file, 0)).await.unwrap_err().kind(), ErrorKind::Invalid);
    core.unlock_keyset(unlock(&file, 600)).await.unwrap();
    let names = secret_bytes(&file);
    assert_eq!(files_with(place.data(), &names), Vec::<String>::new(), "never on the disk");
    drop((session, bob));
    core.close().await;
    drop(core);
    let core = place.open().await;
    assert_eq!(unlocked(&login(&core, "alice").await).await, None, "not after a restart");
}

/// Waits for the end.
async fn resealed(core: &Core) -> ResealProgress {
    loop {
        let last = core.reseals().pop().unwrap();
        if last.finished {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rekeying_retires_the_old_keys_and_loses_nothing() {
    let (place, core) = Place::with_users().await;
    for number in 0..3 {
        deliver(&core, &["alice@example.org"], &letter(number)).await;
    }
    let session = login(&core, "alice").await;
    let inbox = inbox(&session).await;
    let before = entries(&session, inbox).await;
    let old = wrapped(place.data());
    let refused = core.rekey("alice", Proof::Password(password("bob")), None).await.map(drop);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::LoginFailed);
    let keys = core.rekey("alice", proof("alice"), None).await.unwrap();
    assert_eq!((keys.revoked, keys.keysets), (vec!["phone".to_owned()], vec!["default".to_owned()]));
    assert!(keys.password && keys.offline.is_empty());
    assert_eq!(session.mailboxes().await.map(drop).unwrap_err().kind(), ErrorKind::Forbidden, "every session ends");
    deliver(&core, &["alice@example.org"], &letter(3)).await;
    let session = login(&core, "alice").await;
    assert_eq!(bodies(&session, inbox).await, (0..4).map(letter).collect::<Vec<_>>());
    assert_eq!(entries(&session, inbox).await[..3], before, "what is shown is the same, under the same UIDs");
    let left = wrapped(place.data());
    let gone: Vec<_> = old.into_iter().filter(|wrapped| !left.contains(wrapped)).collect();
    assert_eq!(files_with(place.data(), &gone), Vec::<String>::new(), "nothing is left under the old master key");
    // The new message is sealed to the new keyset, and the old one's file opens none of it.
    let sealed = keyset_sizes(place.data());
    assert_eq!(sealed, [1, 3]);
    // Again, by the new recovery key.
    let third = core.rekey("alice", Proof::RecoveryKey(keys.recovery_key), Some(password("alice"))).await.unwrap();
    assert!(third.revoked.is_empty());
    let session = login(&core, "alice").await;
    assert_eq!(bodies(&session, inbox).await, (0..4).map(letter).collect::<Vec<_>>());
}

/// How many messages are sealed to each keyset that has any, sorted.
fn keyset_sizes(data: &Path) -> Vec<u32> {
    let database = rusqlite::Connection::open(data.join("store/store.db")).unwrap();
    let mut select = database
        .prepare(
            "SELECT count(*) FROM session_keys k JOIN messages m ON m.session_key = k.id GROUP BY k.keyset ORDER BY 1",
        )
        .unwrap();
    let rows = select.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

/// Alice with an old keyset, retired by a rekey, its id, and messages in it.
async fn with_two_keysets(core: &Core, messages: usize) -> String {
    for number in 0..messages {
        deliver(core, &["alice@example.org"], &letter(number)).await;
    }
    let file = core.export_keyset("alice", "default", proof("alice"), None).await.unwrap().armored;
    core.rekey("alice", proof("alice"), None).await.unwrap();
    // A certificate of a keyset names it.
    let cert = Cert::from_bytes(file.expose()).unwrap();
    let name = cert.userids().next().unwrap().userid().value().to_vec();
    String::from_utf8(name).unwrap().strip_prefix("Mesyx keyset ").unwrap().to_owned()
}

fn reseal(from: &str, key: ResealKey) -> NewReseal {
    NewReseal { user: "alice".into(), from: from.into(), to: "default".into(), key }
}

#[tokio::test(flavor = "multi_thread")]
async fn resealing_keeps_uids_where_the_same_is_shown() {
    let (place, core) = Place::with_users().await;
    let old = with_two_keysets(&core, 40).await;
    let session = login(&core, "alice").await;
    let inbox = inbox(&session).await;
    session.snapshot(inbox, true).await.unwrap();
    let before = session.snapshot(inbox, false).await.unwrap();
    core.start_reseal(reseal(&old, ResealKey::Proof(proof("alice")))).await.unwrap();
    let progress = resealed(&core).await;
    assert_eq!((progress.done, progress.remaining, progress.failed, progress.error), (40, 0, 0, None));
    let after = session.snapshot(inbox, false).await.unwrap();
    assert_eq!(format!("{before:?}"), format!("{after:?}"), "no UID, flag or modification sequence changed");
    assert_eq!(bodies(&session, inbox).await, (0..40).map(letter).collect::<Vec<_>>());
    assert_eq!(keyset_sizes(place.data()), [40]);
    let database = rusqlite::Connection::open(place.data().join("store/store.db")).unwrap();
    let orphans = "SELECT (SELECT count(*) FROM session_keys WHERE id NOT IN (SELECT session_key FROM messages))
        + (SELECT count(*) FROM attestations WHERE id NOT IN (SELECT attestation FROM messages))
        + (SELECT count(*) FROM messages WHERE session_key NOT IN (SELECT id FROM session_keys))";
    assert_eq!(database.query_row(orphans, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    assert!(core.start_reseal(reseal("default", ResealKey::Proof(proof("alice")))).await.is_err(), "to itself");
    let fresh = login(&core, "alice").await;
    assert_eq!(bodies(&fresh, inbox).await.len(), 40);
    drop((session, fresh));
    core.close().await;
    drop(core);
    let core = place.open().await;
    let session = login(&core, "alice").await;
    assert_eq!(bodies(&session, inbox).await, (0..40).map(letter).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn resealing_gives_new_uids_where_something_else_is_shown() {
    let (_place, core) = Place::with_users().await;
    let old = with_two_keysets(&core, 12).await;
    let session = login(&core, "alice").await;
    let inbox = inbox(&session).await;
    // Offline, then to one that is online.
    let file = offline(&core, &old, None).await;
    let sealed = entries(&session, inbox).await;
    let refused = core.start_reseal(reseal(&old, ResealKey::Proof(proof("alice")))).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid, "its key is not here");
    core.start_reseal(reseal(&old, ResealKey::File { file, passphrase: None })).await.unwrap();
    assert_eq!(resealed(&core).await.done, 12);
    let opened = entries(&session, inbox).await;
    assert!(opened.iter().all(|(uid, _)| *uid > sealed.last().unwrap().0));
    assert_eq!(bodies(&session, inbox).await, (0..12).map(letter).collect::<Vec<_>>());
    assert!(session.bodies(inbox, &sealed.iter().map(|(uid, _)| *uid).collect::<Vec<_>>()).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn resealing_leaves_what_it_cannot_believe_and_says_so() {
    let (place, core) = Place::with_users().await;
    let old = with_two_keysets(&core, 6).await;
    core.close().await;
    drop(core);
    let database = rusqlite::Connection::open(place.data().join("store/store.db")).unwrap();
    database
        .execute_batch(
            "CREATE TEMP TABLE t AS SELECT * FROM bodies ORDER BY id LIMIT 2 OFFSET 1;
             UPDATE bodies SET body = (SELECT body FROM t WHERE t.id <> bodies.id) WHERE id IN (SELECT id FROM t);",
        )
        .unwrap();
    drop(database);
    let core = place.open().await;
    core.start_reseal(reseal(&old, ResealKey::Proof(proof("alice")))).await.unwrap();
    let progress = resealed(&core).await;
    assert_eq!((progress.done, progress.remaining, progress.failed), (4, 2, 2));
    let session = login(&core, "alice").await;
    let shown = bodies(&session, inbox(&session).await).await;
    let damaged = shown.iter().filter(|body| String::from_utf8_lossy(body).contains("cannot be opened")).count();
    assert_eq!((shown.len(), damaged), (6, 2));
    // Swapped after it was sealed anew: still seen.
    drop(session);
    core.close().await;
    drop(core);
    let database = rusqlite::Connection::open(place.data().join("store/store.db")).unwrap();
    database
        .execute_batch(
            "CREATE TEMP TABLE t AS SELECT * FROM bodies ORDER BY id DESC LIMIT 2;
             UPDATE bodies SET body = (SELECT body FROM t WHERE t.id <> bodies.id) WHERE id IN (SELECT id FROM t);",
        )
        .unwrap();
    drop(database);
    let core = place.open().await;
    let session = login(&core, "alice").await;
    let shown = bodies(&session, inbox(&session).await).await;
    let damaged = shown.iter().filter(|body| String::from_utf8_lossy(body).contains("cannot be opened")).count();
    assert_eq!((shown.len(), damaged), (6, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_costs_more_after_the_next_login() {
    let (mut place, core) = Place::with_users().await;
    let params = |data: &Path| {
        let database = rusqlite::Connection::open(data.join("store/store.db")).unwrap();
        let mut select = database.prepare("SELECT slot, record, last_used FROM slots ORDER BY slot").unwrap();
        let rows = select.query_map([], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, Option<i32>>(2)?))
        });
        rows.unwrap().map(Result::unwrap).collect::<Vec<_>>()
    };
    drop(login(&core, "alice").await);
    while params(place.data()).iter().all(|(.., used)| used.is_none()) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let first = params(place.data());
    place.settings.argon2 = mesyx_core::settings::Argon2Settings { memory_kib: 128, passes: 2, lanes: 1 };
    core.reconfigure(place.settings.clone()).unwrap();
    drop(login(&core, "alice").await);
    while params(place.data()) == first {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let raised = params(place.data());
    let changed: Vec<_> = first.iter().zip(&raised).filter(|(one, other)| one != other).collect();
    let [(before, after)] = changed.as_slice() else { panic!("one slot changed, not {}", changed.len()) };
    assert_eq!((&before.0, before.2), (&after.0, after.2), "the same slot, and when it was used last");
    assert!(after.2.is_some());
    drop(login(&core, "alice").await);
    core.close().await;
    assert_eq!(params(place.data()), raised, "once is enough");
}

#[test]
fn a_slot_is_made_costlier_and_never_cheaper() {
    let params = |memory_kib, passes| Argon2Params { memory_kib, passes, lanes: 1 };
    let slot = Slot::create_human(mesyx_sdk::UserId::random(), &MasterKey::random(), &password("alice"), params(64, 2));
    let slot = slot.unwrap();
    assert_eq!(slot.raised(params(64, 2)), None);
    assert_eq!(slot.raised(params(32, 2)), None);
    assert_eq!(slot.raised(params(64, 1)), None);
    assert_eq!(slot.raised(params(128, 1)), Some(params(128, 2)), "more memory, and no fewer passes");
    assert_eq!(slot.raised(params(32, 3)), Some(params(64, 3)), "more passes, and no less memory");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_password_changes_one_row_whatever_the_mailbox_holds() {
    let (place, core) = Place::with_users().await;
    for number in 0..30 {
        deliver(&core, &["alice@example.org"], &letter(number)).await;
    }
    let dump = |data: &Path| {
        let database = rusqlite::Connection::open(data.join("store/store.db")).unwrap();
        let mut tables = database
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name")
            .unwrap();
        let tables: Vec<String> = tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let mut rows: Vec<(String, String)> = Vec::new();
        for table in tables.into_iter().filter(|table| table != "meta") {
            let mut select = database.prepare(&format!("SELECT * FROM {table}")).unwrap();
            let columns = select.column_count();
            let found = select.query_map([], |row| {
                let values: Vec<rusqlite::types::Value> =
                    (0..columns).map(|at| row.get(at)).collect::<Result<_, _>>()?;
                Ok(format!("{values:?}"))
            });
            rows.extend(found.unwrap().map(|row| (table.clone(), row.unwrap())));
        }
        rows
    };
    let before = dump(place.data());
    let new = Secret::from("another password".to_owned());
    core.set_password("alice", proof("alice"), new).await.unwrap();
    let after = dump(place.data());
    let gone: Vec<_> = before.iter().filter(|row| !after.contains(row)).map(|(table, _)| table.as_str()).collect();
    let come: Vec<_> = after.iter().filter(|row| !before.contains(row)).map(|(table, _)| table.as_str()).collect();
    assert_eq!((gone, come), (vec!["slots"], vec!["slots"]));
}

/// What may happen between two looks at the mailboxes; numbers choose among what is there.
#[derive(Debug, Clone, Copy)]
enum Step {
    Deliver,
    Copy(usize),
    Move(usize),
    Expunge(usize),
    Flag(usize),
    /// Takes one of the two keysets offline, or brings it back.
    Turn(bool),
    /// Seals the one keyset's messages anew, to the other.
    Reseal,
    Restart,
}

fn step() -> impl proptest::strategy::Strategy<Value = Step> {
    use proptest::prelude::*;
    prop_oneof![
        3 => Just(Step::Deliver),
        1 => any::<usize>().prop_map(Step::Copy),
        1 => any::<usize>().prop_map(Step::Move),
        1 => any::<usize>().prop_map(Step::Expunge),
        1 => any::<usize>().prop_map(Step::Flag),
        4 => any::<bool>().prop_map(Step::Turn),
        1 => Just(Step::Reseal),
        1 => Just(Step::Restart),
    ]
}

struct Model {
    place: Place,
    core: Arc<Core>,
    session: Arc<dyn Session>,
    /// The keysets by name or id, with the file of the key where it is offline.
    keysets: [(String, Option<Secret>); 2],
    mailboxes: [MailboxId; 2],
    /// What each UID ever showed.
    ever: std::collections::HashMap<(MailboxId, Uid), Vec<u8>>,
    placed: usize,
    delivered: usize,
}

impl Model {
    async fn new() -> Self {
        let (place, core) = Place::with_users().await;
        let old = with_two_keysets(&core, 3).await;
        let session = login(&core, "alice").await;
        let mailboxes = [inbox(&session).await, mailbox(&session, Role::Archive).await.id];
        let keysets = [(old, None), ("default".to_owned(), None)];
        Self { place, core, session, keysets, mailboxes, ever: Default::default(), placed: 3, delivered: 3 }
    }

    async fn step(&mut self, step: Step) {
        let [inbox, archive] = self.mailboxes;
        let there = uids(&self.session, inbox).await;
        let one = |number: usize| there.get(number % there.len().max(1)).copied();
        match step {
            Step::Deliver => {
                deliver(&self.core, &["alice@example.org"], &letter(self.delivered)).await;
                self.delivered += 1;
                self.placed += 1;
            }
            Step::Copy(number) => {
                let Some(uid) = one(number) else { return };
                self.session.copy(inbox, &[uid], archive).await.unwrap();
                self.placed += 1;
            }
            Step::Move(number) => {
                let Some(uid) = one(number) else { return };
                self.session.move_messages(inbox, &[uid], archive).await.unwrap();
            }
            Step::Expunge(number) => {
                let Some(uid) = one(number) else { return };
                let deleted = FlagChange::Add(vec![Flag::Deleted]);
                self.session.store_flags(inbox, &[uid], &deleted, None).await.unwrap();
                self.placed -= self.session.expunge(inbox, None).await.unwrap().len();
            }
            Step::Flag(number) => {
                let Some(uid) = one(number) else { return };
                let seen = FlagChange::Add(vec![Flag::Seen]);
                self.session.store_flags(inbox, &[uid], &seen, None).await.unwrap();
            }
            Step::Turn(which) => {
                let (name, file) = &mut self.keysets[usize::from(which)];
                *file = match file.take() {
                    None => Some(offline(&self.core, name, None).await),
                    Some(file) => {
                        self.core.bring_keyset_online("alice", name, proof("alice"), &file, None).await.unwrap();
                        None
                    }
                };
            }
            Step::Reseal => {
                let (name, file) = &self.keysets[0];
                let key = match file.clone() {
                    Some(file) => ResealKey::File { file, passphrase: None },
                    None => ResealKey::Proof(proof("alice")),
                };
                self.core.start_reseal(reseal(name, key)).await.unwrap();
                assert_eq!(resealed(&self.core).await.remaining, 0);
            }
            Step::Restart => {
                self.core.close().await;
                let fresh = self.place.open().await;
                self.core = fresh;
                self.session = login(&self.core, "alice").await;
            }
        }
    }

    async fn look(&mut self) {
        let mut placed = 0;
        for mailbox in self.mailboxes {
            let uids = uids(&self.session, mailbox).await;
            let shown = bodies(&self.session, mailbox).await;
            assert_eq!(uids.len(), shown.len());
            placed += uids.len();
            for (uid, body) in uids.into_iter().zip(shown) {
                let before = self.ever.entry((mailbox, uid)).or_insert_with(|| body.clone());
                assert!(*before == body, "UID {uid} shows another thing than before");
            }
        }
        assert_eq!(placed, self.placed);
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(12))]

    #[test]
    fn whatever_happens_to_keys_no_uid_ever_shows_two_things(steps in proptest::collection::vec(step(), 1..25)) {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let mut model = Model::new().await;
            model.look().await;
            for step in steps {
                model.step(step).await;
                model.look().await;
            }
            for which in [false, true] {
                if model.keysets[usize::from(which)].1.is_some() {
                    model.step(Step::Turn(which)).await;
                }
            }
            model.look().await;
            for mailbox in model.mailboxes {
                for body in bodies(&model.session, mailbox).await {
                    assert!((0..model.delivered).any(|number| letter(number) == body), "with all keys here, all is opened");
                }
            }
        });
    }
}
