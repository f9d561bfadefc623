//! Messages sealed anew, to another keyset.

use super::rekey::keyset_sizes;
use super::*;
use mesyx_core::secret_keys::{NewReseal, ResealKey, ResealProgress};
use std::time::Duration;

/// Waits for the end.
pub(super) async fn resealed(core: &Core) -> ResealProgress {
    loop {
        let last = core.reseals().pop().unwrap();
        if last.finished {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Alice with an old keyset, retired by a rekey, its id, and messages in it.
pub(super) async fn with_two_keysets(core: &Core, messages: usize) -> String {
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

pub(super) fn reseal(from: &str, key: ResealKey) -> NewReseal {
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
