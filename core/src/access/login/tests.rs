//! Logins beside what changes keys.

use super::*;
use crate::admin::Proof;
use crate::core::Core;
use crate::secret_keys::{NewReseal, ResealKey};
use crate::testing;
use mesyx_sdk::{
    Address, ClientInfo, Content, Dsn, Envelope, Importance, Kind, MessageId, Origin, Recipient, Style, UserId,
};
use std::time::Duration;
use tempfile::TempDir;

fn password() -> Secret {
    Secret::from("alice's password".to_owned())
}

/// A core with alice.
async fn with_alice() -> (TempDir, Arc<Core>, Arc<Member>) {
    let directory = TempDir::new().unwrap();
    let mut settings = testing::settings(directory.path());
    settings.login.grace = Duration::ZERO;
    let core = testing::core(&settings, &["alice"]).await;
    let member = core.member("alice").unwrap();
    (directory, core, member)
}

/// What a login has in its hands after its password was found right: read before `replaced` could change.
async fn halfway(core: &Core, user: UserId) -> (u64, StoredSecrets, Opened) {
    let replaced = core.shared.access.replaced();
    let secrets = core.shared.store.secrets(user).await.unwrap();
    let slots = read_slots(user, &secrets);
    let opened = core.shared.limiter().open(&slots, &password()).await.unwrap();
    (replaced, secrets, opened)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_read_the_old_master_key_opens_nothing_after_a_rekey() {
    let (_directory, core, member) = with_alice().await;
    let (replaced, secrets, opened) = halfway(&core, member.id).await;
    core.rekey("alice", Proof::Password(password()), None).await.unwrap();
    // Nobody holds logins back any more, and no session is open: only the counter tells.
    assert!(!core.shared.access.is_held(member.id) && core.shared.access.open_user(member.id).is_none());
    let refused = core.shared.unlock(&member, &secrets, &opened, replaced).map(drop);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(core.shared.access.open_user(member.id).is_none(), "new secret keys would be wrapped under the old key");
    let (replaced, secrets, opened) = halfway(&core, member.id).await;
    core.shared.unlock(&member, &secrets, &opened, replaced).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_unlocked_before_a_rekey_gets_no_session_after_it() {
    let (_directory, core, member) = with_alice().await;
    let (replaced, secrets, opened) = halfway(&core, member.id).await;
    let keys = core.shared.unlock(&member, &secrets, &opened, replaced).unwrap();
    core.rekey("alice", Proof::Password(password()), None).await.unwrap();
    let proven = Proven { slot: opened.slot, credential: "password".into(), keys, replaced };
    let client = ClientInfo { ip: [127, 0, 0, 1].into(), protocol: "imap".into(), tls: true };
    let credentials = Credentials { name: "alice".into(), password: password(), client };
    let refused = core.shared.begin_session(proven, credentials, 10).map(drop);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(core.shared.access.open_user(member.id).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_after_a_rekey_is_not_ended_by_who_read_the_passwords_before_it() {
    let (_directory, core, member) = with_alice().await;
    // As far as what is told of changes comes on a busy machine, before it goes on.
    let begun = core.shared.access.begun();
    let secrets = core.shared.store.secrets(member.id).await;
    core.rekey("alice", Proof::Password(password()), None).await.unwrap();
    let client = ClientInfo { ip: [127, 0, 0, 1].into(), protocol: "imap".into(), tls: true };
    let credentials = Credentials { name: "alice".into(), password: password(), client };
    let session = core.shared.login(credentials).await.unwrap();
    core.shared.follow_slots(member.id, begun, secrets);
    session.mailboxes().await.unwrap();
    let stale = core.shared.store.secrets(member.id).await.map(|secrets| StoredSecrets { slots: vec![], ..secrets });
    core.shared.follow_slots(member.id, core.shared.access.begun(), stale);
    assert_eq!(session.mailboxes().await.unwrap_err().kind(), ErrorKind::Forbidden, "one that began before is ended");
}

fn envelope(number: usize) -> Envelope {
    let address: Address = Address::Mail("alice@example.org".parse().unwrap());
    Envelope {
        id: MessageId::random(),
        dedup: None,
        style: Style::Delayed,
        kind: Kind::Message,
        from: None,
        to: vec![Recipient::new(address)],
        conversation: None,
        sent: None,
        received: Timestamp::now(),
        importance: Importance::Normal,
        content: Content::from(format!("Subject: {number}\r\n\r\n").into_bytes()),
        origin: Origin::default(),
        junk: false,
        dsn: Dsn::default(),
    }
}

/// Alice with five messages in a keyset that was retired; the request to seal them anew.
async fn to_reseal(core: &Core) -> NewReseal {
    let batch = core.accept("smtp", (0..5).map(envelope).collect()).await;
    assert!(batch.iter().all(Result::is_ok));
    let from = core.keysets("alice").await.unwrap().pop().unwrap().id;
    core.rekey("alice", Proof::Password(password()), None).await.unwrap();
    NewReseal { user: "alice".into(), from, to: "default".into(), key: ResealKey::Proof(Proof::Password(password())) }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_sealed_anew_only_while_nobody_else_changes_keys() {
    let (_directory, core, _) = with_alice().await;
    let request = to_reseal(&core).await;
    let one = core.shared.administration.lock().await;
    core.start_reseal(request).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((core.reseals()[0].done, core.reseals()[0].finished), (0, false));
    drop(one);
    while !core.reseals()[0].finished {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!((core.reseals()[0].done, core.reseals()[0].remaining), (5, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_memory_ends_with_the_program() {
    let (_directory, core, _) = with_alice().await;
    let mut request = to_reseal(&core).await;
    let exported = core.export_keyset("alice", &request.from, Proof::Password(password()), None).await.unwrap();
    request.key = ResealKey::File { file: exported.armored, passphrase: None };
    let _all = core.budget().reserve(core.budget().available()).unwrap();
    core.start_reseal(request).await.unwrap();
    // Time enough to come to where it waits, for a minute.
    tokio::time::sleep(Duration::from_millis(500)).await;
    tokio::time::timeout(Duration::from_secs(30), core.close()).await.unwrap();
    assert_eq!((core.reseals()[0].done, core.reseals()[0].finished), (0, true));
}
