//! Keysets with certificates whose secret keys are elsewhere.

use super::reseal::resealed;
use super::*;
use mesyx_core::keys::{Levels, Period, Span};
use mesyx_core::keysets::{AuditLine, KeysetSource, NewKeyset};
use mesyx_core::secret_keys::{NewReseal, NewUnlock, ResealKey};
use mesyx_sdk::Timestamp;
use std::time::Duration;

const SEALED: &str = "Sealed message (keyset default)";

/// What the audit says of alice's keysets: the fingerprint, whether its secret key is here, and how many messages it opens.
async fn audit(core: &Core) -> Vec<(Vec<String>, bool, u64)> {
    let lines = core.keyset_audit(Some("alice")).await.unwrap();
    let of_keysets = lines.into_iter().filter(|line| line.kind.ends_with("keyset"));
    of_keysets
        .map(|AuditLine { fingerprints, secret_here, opens, .. }| (fingerprints, secret_here, opens.messages))
        .collect()
}

fn fingerprint(file: &Secret) -> String {
    Cert::from_bytes(file.expose()).unwrap().fingerprint().to_hex()
}

/// Alice with a message to the first certificate of her keyset, and one to another that took its place: its secret key, and the first one's.
async fn with_a_replaced_certificate(core: &Core) -> (Secret, Secret) {
    deliver(core, &["alice@example.org"], &letter(1)).await;
    let first = core.export_keyset("alice", "default", proof("alice"), None).await.unwrap();
    let (public, second) = made_elsewhere(None);
    let replace = CertificateChange::Replace(first.fingerprints[0].clone());
    core.change_certificates("alice", "default", vec![public], replace).await.unwrap();
    deliver(core, &["alice@example.org"], &letter(2)).await;
    (first.armored, second)
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_sealed_to_a_certificate_whose_key_is_elsewhere_is_shown_sealed_until_the_key_comes() {
    let (_place, core) = Place::with_users().await;
    let (first, second) = with_a_replaced_certificate(&core).await;
    let session = login(&core, "alice").await;
    let inbox = inbox(&session).await;
    let before = entries(&session, inbox).await;
    assert_eq!(subjects(&session, inbox).await, ["number 1", SEALED]);
    let shown = bodies(&session, inbox).await;
    assert_eq!(shown[0], letter(1));
    assert!(String::from_utf8_lossy(&shown[1]).contains("multipart/encrypted"));
    let here = (vec![fingerprint(&first)], true, 1);
    assert_eq!(audit(&core).await, [here.clone(), (vec![fingerprint(&second)], false, 1)]);
    let renamed = KeysetChange { name: Some("other".into()), ..KeysetChange::default() };
    let refused = core.change_keyset("alice", "default", renamed).await.map(drop);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Forbidden, "its name is shown");

    core.bring_keyset_online("alice", "default", proof("alice"), &second, None).await.unwrap();
    assert_eq!(bodies(&session, inbox).await, [letter(1), letter(2)]);
    let after = entries(&session, inbox).await;
    assert_eq!(after[0], before[0], "what was shown opened is as it was");
    assert!(after[1].0 > before[1].0 && after[1].1 == before[1].1);
    assert!(session.bodies(inbox, &[before[1].0]).await.unwrap().is_empty(), "the old UID shows nothing else");
    let mut both = audit(&core).await;
    both.sort_by_key(|(fingerprints, ..)| *fingerprints != here.0);
    assert_eq!(both, [here, (vec![fingerprint(&second)], true, 1)]);
    deliver(&core, &["alice@example.org"], &letter(3)).await;
    assert_eq!(bodies(&session, inbox).await.last(), Some(&letter(3)));
    assert_eq!(bodies(&login(&core, "alice").await, inbox).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_a_replaced_certificate_leaves_and_comes_back() {
    let (_place, core) = Place::with_users().await;
    let (first, second) = with_a_replaced_certificate(&core).await;
    let session = login(&core, "alice").await;
    let inbox = inbox(&session).await;
    let file = offline(&core, "default", None).await;
    assert_eq!(fingerprint(&file), fingerprint(&first));
    assert_eq!(subjects(&session, inbox).await, [SEALED, SEALED]);
    // Nothing of the keyset's record names the first certificate any more: the messages do.
    let unlock = |file: &Secret| NewUnlock {
        user: "alice".into(),
        keyset: "default".into(),
        file: file.clone(),
        passphrase: None,
        time: Duration::from_secs(600),
    };
    for (file, number) in [(&file, 1), (&second, 2)] {
        core.unlock_keyset(unlock(file)).await.unwrap();
        let mailboxes = session.mailboxes().await.unwrap();
        let view = mailboxes.iter().find(|mailbox| mailbox.name.as_str() == "Unlocked/default").unwrap().id;
        assert_eq!(bodies(&session, view).await, [letter(number)], "what the key opens, and nothing else");
    }
    core.bring_keyset_online("alice", "default", proof("alice"), &first, None).await.unwrap();
    assert_eq!(subjects(&session, inbox).await, [SEALED, "number 1"], "what is shown otherwise comes last");
    assert_eq!(core.unlock_keyset(unlock(&first)).await.unwrap_err().kind(), ErrorKind::Invalid, "it is online");
    core.unlock_keyset(unlock(&second)).await.unwrap();
    core.lock_keyset("alice", "default").unwrap();
    let bobs = core.export_keyset("bob", "default", proof("bob"), None).await.unwrap().armored;
    for file in [&bobs, &made_elsewhere(None).1] {
        let refused = core.bring_keyset_online("alice", "default", proof("alice"), file, None).await.map(drop);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid, "no message is sealed to it");
    }
    // Both together leave and come back in one file.
    core.bring_keyset_online("alice", "default", proof("alice"), &second, None).await.unwrap();
    let both = offline(&core, "default", None).await;
    core.bring_keyset_online("alice", "default", proof("alice"), &both, None).await.unwrap();
    assert_eq!(bodies(&session, inbox).await, [letter(1), letter(2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_taken_from_here_comes_back_though_one_of_its_keys_opens_nothing_any_more() {
    let (_place, core) = Place::with_users().await;
    deliver(&core, &["alice@example.org"], &letter(1)).await;
    let replaced_by_another = async |secret: bool| {
        let keysets = core.keysets("alice").await.unwrap();
        let first = keysets[0].certificates[0].fingerprint.clone();
        let (public, elsewhere) = made_elsewhere(None);
        core.change_certificates("alice", "default", vec![public], CertificateChange::Replace(first)).await.unwrap();
        if secret {
            core.bring_keyset_online("alice", "default", proof("alice"), &elsewhere, None).await.unwrap();
        }
    };
    // The file holds the first key, to which a message is sealed, and the second, to which none is nor can be any more.
    replaced_by_another(true).await;
    let file = offline(&core, "default", None).await;
    replaced_by_another(false).await;
    core.bring_keyset_online("alice", "default", proof("alice"), &file, None).await.unwrap();
    let session = login(&core, "alice").await;
    assert_eq!(bodies(&session, inbox(&session).await).await, [letter(1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyset_takes_no_more_secret_keys_than_can_leave_again() {
    let (_place, core) = Place::with_users().await;
    let mut refused = None;
    for number in 0..32 {
        let first = core.keysets("alice").await.unwrap()[0].certificates[0].fingerprint.clone();
        let (public, secret) = made_elsewhere(None);
        core.change_certificates("alice", "default", vec![public], CertificateChange::Replace(first)).await.unwrap();
        if let Err(error) = core.bring_keyset_online("alice", "default", proof("alice"), &secret, None).await {
            refused = Some((number, error));
        }
    }
    let (number, error) = refused.unwrap();
    assert_eq!((number, error.kind()), (31, ErrorKind::Invalid), "the first was made here: {error}");
    let file = offline(&core, "default", None).await;
    assert!(!core.keysets("alice").await.unwrap()[0].secret_here);
    core.bring_keyset_online("alice", "default", proof("alice"), &file, None).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_a_replaced_certificate_seals_its_messages_anew() {
    let (_place, core) = Place::with_users().await;
    let (_, second) = with_a_replaced_certificate(&core).await;
    let archive = NewKeyset {
        name: Some("archive".into()),
        span: "1999".parse().unwrap(),
        importance: Levels::ALL,
        source: KeysetSource::Make(None),
    };
    core.add_keyset("alice", archive, Some(proof("alice"))).await.unwrap();
    let key = ResealKey::File { file: second, passphrase: None };
    let request = NewReseal { user: "alice".into(), from: "default".into(), to: "archive".into(), key };
    core.start_reseal(request).await.unwrap();
    let progress = resealed(&core).await;
    assert_eq!((progress.done, progress.remaining), (1, 1), "the other message is sealed to another key");
    let session = login(&core, "alice").await;
    assert_eq!(bodies(&session, inbox(&session).await).await, [letter(1), letter(2)]);
}

/// A keyset of two certificates: one whose secret key is here has expired, the other's is elsewhere.
async fn with_an_expired_certificate(core: &Core) -> (String, Secret) {
    let (expired, here) = made_elsewhere(Some(Duration::from_secs(3600)));
    let (good, elsewhere) = made_elsewhere(None);
    let span = Span::of(Period::Year, Timestamp::now());
    let source = KeysetSource::Certificates(vec![expired, good]);
    let new = NewKeyset { name: None, span, importance: Levels::ALL, source };
    core.add_keyset("alice", new, None).await.unwrap();
    core.bring_keyset_online("alice", &span.to_string(), proof("alice"), &here, None).await.unwrap();
    deliver(core, &["alice@example.org"], &letter(1)).await;
    (span.to_string(), elsewhere)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_expired_certificate_was_left_out_of_is_shown_sealed() {
    let (_place, core) = Place::with_users().await;
    let (keyset, elsewhere) = with_an_expired_certificate(&core).await;
    let session = login(&core, "alice").await;
    let inbox = inbox(&session).await;
    assert_eq!(subjects(&session, inbox).await, [format!("Sealed message (keyset {keyset})")]);
    let audit = audit(&core).await;
    assert!(audit.contains(&(vec![fingerprint(&elsewhere)], false, 1)), "{audit:?}");
    assert_eq!(audit.iter().filter(|(_, here, messages)| *here && *messages > 0).count(), 0, "{audit:?}");
    core.bring_keyset_online("alice", &keyset, proof("alice"), &elsewhere, None).await.unwrap();
    assert_eq!(bodies(&session, inbox).await, [letter(1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_format_showed_wrongly_gets_new_uids_at_the_next_start() {
    let (place, core) = Place::with_users().await;
    let (keyset, _) = with_an_expired_certificate(&core).await;
    let session = login(&core, "alice").await;
    let inbox = inbox(&session).await;
    let before = entries(&session, inbox).await;
    drop(session);
    core.close().await;
    drop(core);
    let database = rusqlite::Connection::open(place.data().join("store/store.db")).unwrap();
    database.execute_batch("UPDATE secret_keys SET held = NULL; UPDATE messages SET shown = 0").unwrap();
    let core = place.open().await;
    let session = login(&core, "alice").await;
    let after = entries(&session, inbox).await;
    assert!(after[0].0 > before[0].0 && after[0].1 == before[0].1);
    assert_eq!(subjects(&session, inbox).await, [format!("Sealed message (keyset {keyset})")]);
    let unknown = "SELECT count(*) FROM secret_keys WHERE held IS NULL AND length(keyset) > 0";
    assert_eq!(database.query_row(unknown, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    assert_eq!(database.query_row("SELECT count(*) FROM keyset_moves", [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_secret_keys_of_the_first_format_is_told_by_the_certificate_that_was_made_with_them() {
    let (place, core) = Place::with_users().await;
    with_a_replaced_certificate(&core).await;
    core.close().await;
    drop(core);
    let database = rusqlite::Connection::open(place.data().join("store/store.db")).unwrap();
    // A key of that format begins with another byte, and no list follows.
    let old = "UPDATE secret_keys SET held = NULL, wrapped = CAST(x'01' || substr(wrapped, 2) AS BLOB) WHERE length(keyset) > 0";
    assert_eq!(database.execute(old, []).unwrap(), 2);
    let _core = place.open().await;
    let known = "SELECT u.name FROM secret_keys s JOIN users u ON u.id = s.user
        WHERE s.held IS NOT NULL AND length(s.keyset) > 0";
    let mut select = database.prepare(known).unwrap();
    let known: Vec<String> = select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(known, ["bob"], "of alice's keyset only a certificate is known that came later");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_be_shown_opened_is_not_shown_otherwise_where_its_key_is_missing() {
    let (place, core) = Place::with_users().await;
    deliver(&core, &["alice@example.org"], HELLO).await;
    core.close().await;
    drop(core);
    let database = rusqlite::Connection::open(place.data().join("store/store.db")).unwrap();
    // As in the moment between the coming of a key and the session that learns of it.
    database.execute_batch("DELETE FROM secret_keys WHERE length(keyset) > 0").unwrap();
    let core = place.open().await;
    let session = login(&core, "alice").await;
    let inbox = inbox(&session).await;
    let uids = uids(&session, inbox).await;
    assert_eq!(session.bodies(inbox, &uids).await.map(drop).unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(session.summaries(inbox, &uids).await.map(drop).unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_message_is_not_shown_under_another_name_while_the_keyring_cannot_be_read() {
    let (place, core) = Place::with_users().await;
    deliver(&core, &["alice@example.org"], HELLO).await;
    offline(&core, "default", None).await;
    let session = login(&core, "alice").await;
    let inbox = inbox(&session).await;
    let uids = uids(&session, inbox).await;
    let database = rusqlite::Connection::open(place.data().join("store/store.db")).unwrap();
    let alice = "user = (SELECT id FROM users WHERE name = 'alice')";
    database.execute_batch(&format!("UPDATE keysets SET record = x'ff' WHERE {alice}")).unwrap();
    // Has the users read anew.
    add(&core, "carol").await;
    assert_eq!(session.bodies(inbox, &uids).await.map(drop).unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(session.summaries(inbox, &uids).await.map(drop).unwrap_err().kind(), ErrorKind::Unavailable);
}
