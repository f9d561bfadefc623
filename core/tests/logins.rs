//! Who gets in, who is kept out, and for how long the keys stay open.
#![allow(clippy::unwrap_used, clippy::panic)]

mod lifecycle;
mod secret_keys;
mod support;

use mesyx_core::admin::Proof;
use mesyx_sdk::{Change, ErrorKind, Secret, Session};
use std::sync::Arc;
use std::time::Duration;
use support::*;

async fn refused(core: &mesyx_core::Core, name: &str, password: Secret, ip: std::net::IpAddr) -> ErrorKind {
    core.login(credentials(name, password, ip)).await.map(drop).unwrap_err().kind()
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_addresses_log_in_and_aliases_do_not() {
    let (_place, core) = Place::with_users().await;
    for name in ["alice", "Alice", "alice@example.org", "ALICE@Example.Org"] {
        let session = core.login(credentials(name, password("alice"), HOME)).await.unwrap();
        assert_eq!(session.user().name, "alice");
        assert_eq!(session.user().address.to_string(), "alice@example.org");
    }
    for name in ["postmaster@example.org", "alice+x@example.org", "carol", ""] {
        assert_eq!(refused(&core, name, password("alice"), AWAY).await, ErrorKind::LoginFailed, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_open_only_while_somebody_is_there() {
    let (_place, core) = Place::with_users().await;
    let names = async || {
        let unlocked = core.status().await.unwrap().unlocked;
        unlocked.into_iter().map(|open| (open.user, open.sessions.len())).collect::<Vec<_>>()
    };
    assert_eq!(names().await, []);
    let first = login(&core, "alice").await;
    let second = login(&core, "alice").await;
    assert_eq!(names().await, [("alice".to_owned(), 2)]);
    drop(first);
    assert_eq!(names().await, [("alice".to_owned(), 1)]);
    drop(second);
    assert_eq!(names().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_slows_down_and_the_owner_still_gets_in() {
    let (_place, core) = Place::with_users().await;
    drop(login(&core, "alice").await);
    for _ in 0..5 {
        assert_eq!(refused(&core, "alice", password("wrong"), AWAY).await, ErrorKind::LoginFailed);
    }
    let error = core.login(credentials("alice", password("alice"), AWAY)).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooMany);
    assert!(error.wait().is_some());
    // Names that nobody has slow down just the same.
    let elsewhere = "203.0.113.5".parse().unwrap();
    for _ in 0..5 {
        assert_eq!(refused(&core, "nobody", password("wrong"), elsewhere).await, ErrorKind::LoginFailed);
    }
    assert_eq!(refused(&core, "nobody", password("wrong"), elsewhere).await, ErrorKind::TooMany);
    // Where alice is known she is not kept out by strangers.
    drop(login(&core, "alice").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_password_gets_in_and_is_revoked() {
    let (_place, core) = Place::with_users().await;
    let proof = Proof::Password(password("alice"));
    let app = core.add_app_password("alice", proof, "laptop").await.unwrap();
    let mut watchers = Vec::new();
    let session = core.login(credentials("alice", app.clone(), HOME)).await.unwrap();
    watchers.push(session.watch().await.unwrap());
    let human = login(&core, "alice").await;
    let listed = core.app_passwords("alice").await.unwrap();
    assert_eq!(listed.iter().map(|app| app.label.as_str()).collect::<Vec<_>>(), ["laptop", "phone"]);
    core.revoke_app_password("alice", "laptop").await.unwrap();
    let change = tokio::time::timeout(Duration::from_secs(20), watchers[0].next()).await.unwrap();
    assert!(matches!(change, Some(Change::Ended(_))), "{change:?}");
    assert_eq!(session.mailboxes().await.map(drop).unwrap_err().kind(), ErrorKind::Forbidden);
    assert!(human.mailboxes().await.is_ok());
    assert_eq!(refused(&core, "alice", app, HOME).await, ErrorKind::LoginFailed);
    assert_eq!(core.revoke_app_password("alice", "laptop").await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_app_password_never_waits() {
    let (_place, core) = Place::with_users().await;
    let app = core.add_app_password("alice", Proof::Password(password("alice")), "x").await.unwrap();
    for _ in 0..8 {
        refused(&core, "alice", password("wrong"), AWAY).await;
    }
    assert!(core.login(credentials("alice", app, AWAY)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_keeps_the_messages_and_ends_old_sessions() {
    let place = Place::new().await;
    let core = place.open().await;
    let added = add(&core, "alice").await;
    deliver(&core, &["alice@example.org"], HELLO).await;
    let old = login(&core, "alice").await;
    let new = Secret::from("another password".to_owned());
    let wrong = Proof::Password(password("bob"));
    assert_eq!(core.set_password("alice", wrong, new.clone()).await.unwrap_err().kind(), ErrorKind::LoginFailed);
    let app = Proof::Password(added.app_password.unwrap());
    assert_eq!(core.set_password("alice", app, new.clone()).await.unwrap_err().kind(), ErrorKind::LoginFailed);
    core.set_password("alice", Proof::Password(password("alice")), new.clone()).await.unwrap();
    assert_eq!(old.mailboxes().await.map(drop).unwrap_err().kind(), ErrorKind::Forbidden);
    assert_eq!(refused(&core, "alice", password("alice"), HOME).await, ErrorKind::LoginFailed);
    let session = core.login(credentials("alice", new, HOME)).await.unwrap();
    assert_eq!(bodies(&session, inbox(&session).await).await, [HELLO]);
    // The recovery key opens nothing by itself, and sets a password.
    assert_eq!(refused(&core, "alice", added.recovery_key.clone(), HOME).await, ErrorKind::LoginFailed);
    let third = Secret::from("a third password".to_owned());
    core.set_password("alice", Proof::RecoveryKey(added.recovery_key), third.clone()).await.unwrap();
    let session = core.login(credentials("alice", third, HOME)).await.unwrap();
    assert_eq!(bodies(&session, inbox(&session).await).await, [HELLO]);
}

#[tokio::test(flavor = "multi_thread")]
async fn discarded_keys_leave_old_messages_unreadable_and_new_ones_readable() {
    let (_place, core) = Place::with_users().await;
    deliver(&core, &["alice@example.org"], HELLO).await;
    let report = core.discard_report("alice").await.unwrap();
    assert_eq!((report.messages, report.keysets), (1, 1));
    let new = Secret::from("a fresh password".to_owned());
    core.discard_keys("alice", Some(new.clone())).await.unwrap();
    deliver(&core, &["alice@example.org"], HELLO).await;
    let session = core.login(credentials("alice", new, HOME)).await.unwrap();
    let inbox = inbox(&session).await;
    let bodies = bodies(&session, inbox).await;
    assert_eq!(bodies.len(), 2);
    assert!(bodies[0] != HELLO && bodies[1] == HELLO);
    let shown = String::from_utf8(bodies[0].clone()).unwrap();
    assert!(shown.contains("multipart/encrypted"), "{shown}");
    let uids = uids(&session, inbox).await;
    let summaries = session.summaries(inbox, &uids).await.unwrap();
    assert_eq!(summaries[0].1.size, bodies[0].len() as u64);
    assert_eq!(refused(&core, "alice", password("alice"), HOME).await, ErrorKind::LoginFailed);
    let found = session.search(inbox, &mesyx_sdk::Query::Body("world".into())).await.unwrap();
    assert_eq!((found.uids.as_slice(), found.unsearchable), (&uids[1..], 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_limited_by_number() {
    let (mut place, core) = Place::with_users().await;
    place.settings.login.sessions_per_user = 3;
    core.reconfigure(place.settings.clone()).unwrap();
    let mut sessions: Vec<Arc<dyn Session>> = Vec::new();
    for _ in 0..3 {
        sessions.push(login(&core, "alice").await);
    }
    assert_eq!(refused(&core, "alice", password("alice"), HOME).await, ErrorKind::TooMany);
    sessions.pop();
    sessions.push(login(&core, "alice").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_addresses_are_checked_and_unique() {
    let (_place, core) = Place::with_users().await;
    let account = |name: &str, addresses: &[&str]| mesyx_core::admin::NewAccount {
        name: name.into(),
        addresses: addresses.iter().map(|address| (*address).to_owned()).collect(),
        password: None,
        app_password: None,
    };
    let refused = async |name: &str, addresses: &[&str]| {
        core.add_user(account(name, addresses)).await.map(drop).unwrap_err().kind()
    };
    for name in ["", "-x", "a b", "postmaster", "Abuse", "a@b", "ü"] {
        assert_eq!(refused(name, &[]).await, ErrorKind::Invalid, "{name}");
    }
    assert_eq!(refused("Alice", &["x@example.org"]).await, ErrorKind::Exists);
    assert_eq!(refused("carol", &["BOB@example.org"]).await, ErrorKind::Exists);
    assert_eq!(refused("carol", &["carol@example.com"]).await, ErrorKind::Invalid);
    assert_eq!(refused("carol", &["no address"]).await, ErrorKind::Invalid);
    let added = core.add_user(account("Carol", &["jörg@example.org", "carol@example.org"])).await.unwrap();
    assert_eq!(added.account.name, "carol");
    assert_eq!(core.list_users().iter().map(|user| user.name.as_str()).collect::<Vec<_>>(), ["alice", "bob", "carol"]);
    deliver(&core, &["JÖRG+x@example.org"], HELLO).await;
}
