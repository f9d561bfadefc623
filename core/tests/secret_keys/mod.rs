//! What happens to secret keys, and to the messages under them.

mod elsewhere;
mod property;
mod rekey;
mod reseal;
mod unlock;

use crate::support::*;
use mesyx_core::Core;
use mesyx_core::admin::Proof;
use mesyx_core::keysets::{CertificateChange, KeyFile, KeysetChange};
use mesyx_sdk::{
    Change, Changes, ErrorKind, Flag, FlagChange, MailboxId, MessageId, Query, Role, Secret, Session, Uid,
};
use sequoia_openpgp::Cert;
use sequoia_openpgp::cert::CertBuilder;
use sequoia_openpgp::parse::Parse;
use sequoia_openpgp::serialize::SerializeInto;
use std::path::Path;
use std::sync::Arc;

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

/// A certificate made elsewhere, valid for a while from two hours ago on: its public part, and its secret one.
fn made_elsewhere(valid: Option<std::time::Duration>) -> (KeyFile, Secret) {
    let made = std::time::SystemTime::now() - std::time::Duration::from_secs(7200);
    let builder = CertBuilder::new().set_creation_time(made).set_validity_period(valid).add_userid("elsewhere");
    let (certificate, _) = builder.add_storage_encryption_subkey().generate().unwrap();
    let public = Secret::new(certificate.armored().to_vec().unwrap());
    let secret = Secret::new(certificate.as_tsk().armored().to_vec().unwrap());
    (KeyFile { bytes: public, passphrase: None }, secret)
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
    assert!(!files_holding(place.data(), &before).is_empty(), "the search finds what is there");
    let file = offline(&core, "default", None).await;
    let left = wrapped(place.data());
    let gone: Vec<Vec<u8>> = before.into_iter().filter(|wrapped| !left.contains(wrapped)).collect();
    assert_eq!(gone.len(), 1);
    let mut wanted = secret_bytes(&file);
    wanted.extend(gone);
    wanted.push(file.expose()[200..260].to_vec());
    assert_eq!(files_holding(place.data(), &wanted), Vec::<String>::new(), "while it runs");
    core.close().await;
    assert_eq!(files_holding(place.data(), &wanted), Vec::<String>::new(), "after it ended");
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
