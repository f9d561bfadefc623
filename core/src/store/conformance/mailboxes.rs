//! Names of mailboxes.

use super::fixture::{Fixture, name};
use crate::store::{StoreError, Write};
use mesyx_sdk::{MailboxId, Role};

async fn rename(alice: &Fixture, from: &str, to: &str) -> Result<(), StoreError> {
    let fresh = MailboxId::random();
    alice.store.write(Write::RenameMailbox { user: alice.user, name: name(from), new: name(to), fresh }).await.map(drop)
}

async fn delete(alice: &Fixture, at: &str) -> Result<(), StoreError> {
    alice.store.write(Write::DeleteMailbox { user: alice.user, name: name(at) }).await.map(drop)
}

pub(super) async fn standard_mailboxes(alice: Fixture) {
    let mailboxes = alice.store.mailboxes(alice.user).await.expect("mailboxes");
    let mut expected: Vec<_> =
        Role::STANDARD.into_iter().map(|(role, at)| (name(at), Some(role), alice.mailbox(role))).collect();
    expected.sort();
    let found: Vec<_> = mailboxes.into_iter().map(|found| (found.name, found.role, found.id)).collect();
    assert_eq!(found, expected);
    let subscribed = alice.store.subscriptions(alice.user).await.expect("subscriptions");
    assert_eq!(subscribed, expected.into_iter().map(|(name, ..)| name).collect::<Vec<_>>());
}

pub(super) async fn create_and_delete(alice: Fixture) {
    let work = alice.create("Work/2026").await;
    assert!(alice.names().await.contains(&"Work/2026".to_owned()));
    assert!(!alice.names().await.contains(&"Work".to_owned()), "only real ones are listed");
    let again =
        Write::CreateMailbox { user: alice.user, mailbox: MailboxId::random(), name: name("Work/2026"), role: None };
    assert!(matches!(alice.refused(again).await, StoreError::Exists(_)));
    let role = Write::CreateMailbox {
        user: alice.user,
        mailbox: MailboxId::random(),
        name: name("Sent 2"),
        role: Some(Role::Sent),
    };
    assert!(matches!(alice.refused(role).await, StoreError::Exists(_)));
    let known = Write::CreateMailbox { user: alice.user, mailbox: work, name: name("Other"), role: None };
    assert!(matches!(alice.refused(known).await, StoreError::Invalid(_)));
    alice.append(work, 2).await;
    delete(&alice, "Work/2026").await.expect("deleted");
    assert!(matches!(alice.store.status(alice.user, work).await, Err(StoreError::NotFound(_))));
    assert!(alice.store.changes(alice.user, work, 1).await.expect("changes").deleted);
    assert_eq!(alice.store.totals().await.expect("totals").messages, 0, "the messages went with it");
    assert_eq!(alice.uids(alice.inbox()).await, [0_u32; 0]);
    let dead = Write::CreateMailbox { user: alice.user, mailbox: work, name: name("Other"), role: None };
    assert!(matches!(alice.refused(dead).await, StoreError::Invalid(_)), "a removal is for good");
    assert!(matches!(delete(&alice, "Work/2026").await, Err(StoreError::NotFound(_))));
    assert!(matches!(delete(&alice, "inbox").await, Err(StoreError::Invalid(_))));
    delete(&alice, "Trash").await.expect("a standard mailbox can go");
    let trash = MailboxId::random();
    alice
        .write(Write::CreateMailbox { user: alice.user, mailbox: trash, name: name("Bin"), role: Some(Role::Trash) })
        .await;
}

pub(super) async fn rename_with_children(alice: Fixture) {
    let a = alice.create("a").await;
    let ab = alice.create("a/b").await;
    alice.create("ab").await;
    alice.append(ab, 1).await;
    let before = alice.store.status(alice.user, ab).await.expect("status");
    rename(&alice, "a", "x/y").await.expect("renamed");
    let named: Vec<_> = alice.store.mailboxes(alice.user).await.expect("mailboxes");
    let at = |id| named.iter().find(|mailbox| mailbox.id == id).map(|mailbox| mailbox.name.as_str().to_owned());
    assert_eq!(at(a).as_deref(), Some("x/y"));
    assert_eq!(at(ab).as_deref(), Some("x/y/b"));
    assert!(alice.names().await.contains(&"ab".to_owned()));
    assert_eq!(alice.store.status(alice.user, ab).await.expect("status"), before);
    // A name that only has mailboxes below it.
    rename(&alice, "x", "z").await.expect("renamed");
    assert!(alice.names().await.contains(&"z/y/b".to_owned()));
    assert!(matches!(rename(&alice, "z", "z/q").await, Err(StoreError::Invalid(_))));
    assert!(matches!(rename(&alice, "z/y", "ab").await, Err(StoreError::Exists(_))));
    assert!(matches!(rename(&alice, "z/y", "INBOX").await, Err(StoreError::Exists(_))));
    assert!(matches!(rename(&alice, "no", "yes").await, Err(StoreError::NotFound(_))));
    alice.create("q/y").await;
    assert!(matches!(rename(&alice, "z", "q").await, Err(StoreError::Exists(_))), "a child's new name is taken");
    let long = "l".repeat(999);
    assert!(matches!(rename(&alice, "z", &long).await, Err(StoreError::Invalid(_))));
    assert!(alice.names().await.contains(&"z/y/b".to_owned()), "a refused rename changes nothing");
}

pub(super) async fn rename_inbox(alice: Fixture) {
    alice.append(alice.inbox(), 3).await;
    let below = alice.create("INBOX/below").await;
    let fresh = MailboxId::random();
    let user = alice.user;
    alice.write(Write::RenameMailbox { user, name: name("INBOX"), new: name("Old"), fresh }).await;
    assert_eq!(alice.uids(alice.inbox()).await, [0_u32; 0]);
    assert_eq!(alice.uids(fresh).await, [1, 2, 3]);
    assert_eq!(alice.append(alice.inbox(), 1).await.uids, [4], "INBOX goes on counting");
    let names = alice.names().await;
    assert!(names.contains(&"INBOX".to_owned()) && names.contains(&"Old".to_owned()));
    assert!(names.contains(&"INBOX/below".to_owned()), "what is below INBOX stays");
    assert_eq!(alice.uids(below).await, [0_u32; 0]);
}

pub(super) async fn subscriptions(alice: Fixture) {
    let subscribe = |at: &str, subscribed| Write::Subscribe { user: alice.user, name: name(at), subscribed };
    for _ in 0..2 {
        alice.write(subscribe("Not/there", true)).await;
        alice.write(subscribe("Junk", false)).await;
    }
    let names = alice.store.subscriptions(alice.user).await.expect("subscriptions");
    let names: Vec<_> = names.iter().map(|name| name.as_str()).collect();
    assert_eq!(names, ["Archive", "Drafts", "INBOX", "Not/there", "Sent", "Trash"]);
}

pub(super) async fn uid_validity_is_new(alice: Fixture) {
    let first = alice.create("Work").await;
    let before = alice.append(first, 1).await.uid_validity;
    delete(&alice, "Work").await.expect("deleted");
    let alice = alice.restarted().await;
    let second = alice.create("Work").await;
    let after = alice.append(second, 1).await.uid_validity;
    assert!(after > before);
}
