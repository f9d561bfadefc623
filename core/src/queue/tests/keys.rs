//! Messages that wait for a key, or may not go as they are: from submission to what leaves.

use super::*;
use crate::keys::{NewKeys, Profile};
use crate::pgp::{LookupFailure, Policy, Signing};
use crate::store::KeyChange;
use crate::testing::proof;
use sequoia_openpgp::serialize::MarshalInto;

const JOE: &str = "joe@example.net";

fn public_key(address: &str) -> Vec<u8> {
    let identity = NewKeys::generate("Joe", address, Profile::V4).unwrap().identity;
    identity.strip_secret_key_material().to_vec().unwrap()
}

async fn waits_for_a_key(place: &Place) {
    place
        .until("it is held", async |place: &Place| place.list().await.iter().all(|job| job.state == "needs-key"))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_be_encrypted_waits_for_a_key_and_leaves_once_there_is_one() {
    let place = Place::with(|settings| settings.pgp.wkd = false, Fake::default()).await;
    place.core.set_policy("alice", proof(), Some(JOE), Some(Policy::Require)).await.unwrap();
    place.submit(&[JOE, "ann@example.net"]).await;
    place.until("the other one is sent", async |place: &Place| place.fake.sent_to("ann@example.net") == 1).await;
    waits_for_a_key(&place).await;
    assert!(place.list().await[0].why.contains(JOE), "{:?}", place.list().await);
    let notices = place.inbox("alice").await;
    assert_eq!(notices.len(), 1);
    assert!(notices[0].contains("Subject: Held: your message waits for a key") && notices[0].contains("Status: 4.7.0"));
    // The operator's `retry` does not let it out.
    place.core.queue_change(&JobFilter::default(), JobChange::Retry, false).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(place.fake.sent_to(JOE), 0);
    place.core.import_contact("alice", proof(), JOE, &public_key(JOE), false).await.unwrap();
    place.empty().await;
    let sent = place.fake.sent.lock().unwrap().clone();
    let (_, bytes) = sent.iter().find(|(to, _)| to.iter().any(|to| to == JOE)).unwrap();
    let text = String::from_utf8_lossy(bytes);
    assert!(text.contains("-----BEGIN PGP MESSAGE-----") && !text.contains("Far away."), "{text}");
    assert_eq!(place.inbox("alice").await.len(), 1, "told once");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_key_in_vain_fails_in_time() {
    let change = |settings: &mut Settings| {
        settings.pgp.wkd = false;
        settings.pgp.policy = Policy::Require;
        settings.queue.expire = Duration::from_secs(3);
        settings.queue.delay_notice = Duration::from_secs(3);
        settings.queue.key_retry = Duration::from_secs(1);
    };
    let place = Place::with(change, Fake::default()).await;
    place.submit(&[JOE]).await;
    place.empty().await;
    assert_eq!(place.fake.sent_to(JOE), 0);
    let notices = place.inbox("alice").await;
    assert_eq!(notices.len(), 2, "{notices:?}");
    assert!(notices[1].contains("Action: failed\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_can_be_asked_for_keys_messages_are_held_if_the_operator_wants_that() {
    let hold = |settings: &mut Settings| settings.pgp.lookup_failure = LookupFailure::Hold;
    let place = Place::with(hold, Fake::default()).await;
    place.submit(&[JOE]).await;
    waits_for_a_key(&place).await;
    assert!(place.list().await[0].why.contains("nowhere to ask"), "{:?}", place.list().await);
    assert_eq!(place.fake.sent_to(JOE), 0);
    // Unless that is as it should be: keys are not looked for.
    let mut settings = place.settings.clone();
    settings.pgp.wkd = false;
    place.core.reconfigure(settings).unwrap();
    place.core.queue_change(&JobFilter::default(), JobChange::Retry, false).await.unwrap();
    place.empty().await;
    assert_eq!(place.fake.sent_to(JOE), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_be_signed_and_can_not_be_is_refused_at_submission() {
    let place = Place::with(|settings| settings.pgp.sign = Signing::Require, Fake::default()).await;
    place.submit(&[JOE]).await;
    place.empty().await;
    // The secret part of the identity goes elsewhere.
    let user = place.login("alice").await.user().id;
    place.core.shared.access.end_all(user, "test");
    let mut change = KeyChange::of(user);
    change.remove_secret_keys = vec![None];
    place.core.shared.store.write(Write::PutKeys(Box::new(change))).await.unwrap();
    let session = place.login("alice").await;
    let message = || envelope(vec![recipient(JOE)], Some("alice@example.org"), Dsn::default());
    let refused = session.submit(message()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Forbidden);
    assert!(refused.message().contains("must be signed"), "{refused}");
    assert_eq!(place.jobs().await, 0);
    let mut settings = place.settings.clone();
    settings.pgp.sign = Signing::Prefer;
    place.core.reconfigure(settings).unwrap();
    session.submit(message()).await.unwrap();
    place.empty().await;
    assert_eq!(place.fake.sent_to(JOE), 2);
}
