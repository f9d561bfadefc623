//! Users, secrets, values, events, the end.

use super::fixture::{Fixture, message, new_user, session_key};
use crate::id::{KeysetId, SlotId};
use crate::operation::UserRecord;
use crate::seal::SealedSessionKey;
use crate::store::{Event, KeyChange, Placing, StoreError, StoredSecretKey, StoredSlot, Write};
use mesyx_sdk::{MessageId, UserId};
use std::sync::Arc;

pub(super) async fn users_and_secrets(alice: Fixture) {
    let bob = alice.second("bob").await;
    let users = alice.store.users().await.expect("users");
    assert_eq!(users.iter().map(|user| user.record.name.as_str()).collect::<Vec<_>>(), ["alice", "bob"]);
    assert_eq!(users[0].identity, b"identity");
    assert_eq!(users[0].keysets, [(KeysetId(alice.user.0), b"keyset".to_vec())]);

    let record = UserRecord { name: "alicia".to_owned(), disabled: true, ..UserRecord::default() };
    alice.write(Write::PutUser(alice.user, record.clone())).await;
    let keyset = KeysetId::random();
    let secret = Some(b"wrapped".to_vec());
    alice.write(Write::PutKeyset { user: alice.user, keyset, record: b"new".to_vec(), secret }).await;
    let users = alice.store.users().await.expect("users");
    assert_eq!(users[0].record, record);
    assert_eq!(users[0].keysets.len(), 2);
    let secrets = alice.store.secrets(alice.user).await.expect("secrets");
    assert_eq!(secrets.slots.len(), 1);
    assert_eq!(secrets.secret_keys.len(), 3);
    assert!(secrets.secret_keys.iter().any(|key| key.keyset.is_none() && key.wrapped == b"identity key"));

    alice
        .write(Write::PutSecrets {
            user: alice.user,
            put_slots: vec![StoredSlot { id: SlotId([9; 16]), record: b"two".to_vec(), last_used: Some(5) }],
            remove_slots: vec![SlotId(alice.user.0)],
            secret_keys: Some(vec![StoredSecretKey { keyset: None, wrapped: b"again".to_vec(), held: Vec::new() }]),
        })
        .await;
    let secrets = alice.store.secrets(alice.user).await.expect("secrets");
    assert_eq!(
        secrets.slots.iter().map(|slot| (slot.id, slot.last_used)).collect::<Vec<_>>(),
        [(SlotId([9; 16]), Some(5))]
    );
    assert_eq!(secrets.secret_keys.len(), 1);
    assert_eq!(bob.store.secrets(bob.user).await.expect("secrets").slots.len(), 1, "another's are untouched");
    assert!(matches!(alice.store.secrets(UserId::random()).await, Err(StoreError::NotFound(_))));
}

pub(super) async fn key_changes(alice: Fixture) {
    let user = alice.user;
    let (keyset, identity) = (KeysetId([1; 16]), KeysetId([2; 16]));
    let secret = |keyset, wrapped: &[u8]| StoredSecretKey { keyset, wrapped: wrapped.to_vec(), held: Vec::new() };
    let mut change = KeyChange::of(user);
    change.identity = Some(b"new identity".to_vec());
    change.keep_identities = vec![(identity, b"identity".to_vec())];
    change.put_keysets = vec![(keyset, b"second".to_vec())];
    change.rotation = Some(b"weekly".to_vec());
    change.put_secret_keys =
        vec![secret(None, b"new key"), secret(Some(identity), b"identity key"), secret(Some(keyset), b"x")];
    alice.write(Write::PutKeys(Box::new(change))).await;
    let alice = alice.restarted().await;
    let users = alice.store.users().await.expect("users");
    assert_eq!(
        (&users[0].identity[..], &users[0].identities[..]),
        (&b"new identity"[..], &[(identity, b"identity".to_vec())][..])
    );
    assert_eq!((users[0].keysets.len(), users[0].rotation.as_deref()), (2, Some(&b"weekly"[..])));
    assert_eq!(alice.store.secrets(user).await.expect("secrets").secret_keys.len(), 4);

    // Counted by keyset; what messages are sealed to can't go.
    alice.append(alice.inbox(), 3).await;
    let used = alice.store.keyset_use(user).await.expect("counts");
    let of_user = KeysetId(user.0);
    let days = (20_000, 20_000);
    assert_eq!(used.len(), 1);
    assert_eq!((used[0].keyset, used[0].messages, used[0].days), (of_user, 3, days));
    let mut both = KeyChange::of(user);
    both.rotation = Some(b"never".to_vec());
    both.remove_keysets = vec![keyset, of_user];
    assert!(matches!(alice.refused(Write::PutKeys(Box::new(both))).await, StoreError::Invalid(_)));
    let users = alice.store.users().await.expect("users");
    assert_eq!(
        (users[0].keysets.len(), users[0].rotation.as_deref()),
        (2, Some(&b"weekly"[..])),
        "nothing of it is done"
    );

    // What is removed is gone with its secret key, for good: also for a message that was sealed a moment before.
    let mut remove = KeyChange::of(user);
    remove.remove_keysets = vec![keyset];
    alice.write(Write::PutKeys(Box::new(remove))).await;
    assert!(alice.store.keyset_removed(keyset).await.expect("an answer"));
    assert!(!alice.store.keyset_removed(of_user).await.expect("an answer"));
    assert_eq!(alice.store.secrets(user).await.expect("secrets").secret_keys.len(), 3);
    let mut again = KeyChange::of(user);
    again.put_keysets = vec![(keyset, b"again".to_vec())];
    assert!(matches!(alice.refused(Write::PutKeys(Box::new(again))).await, StoreError::Invalid(_)));
    let late = Arc::new(SealedSessionKey { keyset, ..SealedSessionKey::clone(&session_key(user)) });
    let placing = Placing { message: message(&late, 10), mailbox: alice.inbox(), flags: Vec::new() };
    assert!(matches!(alice.refused(Write::Append(vec![placing])).await, StoreError::KeysetGone));
}

pub(super) async fn values(alice: Fixture) {
    assert_eq!(alice.store.value("dkim").await.expect("a value"), None);
    alice.write(Write::PutValue("dkim".to_owned(), Some(vec![1, 2]))).await;
    alice.write(Write::PutValue("dkim".to_owned(), Some(vec![3]))).await;
    let alice = alice.restarted().await;
    assert_eq!(alice.store.value("dkim").await.expect("a value"), Some(vec![3]));
    alice.write(Write::PutValue("dkim".to_owned(), None)).await;
    assert_eq!(alice.store.value("dkim").await.expect("a value"), None);
}

pub(super) async fn slots_used(alice: Fixture) {
    let (user, slot) = (alice.user, SlotId(alice.user.0));
    for (day, expected) in [(7, 7), (6, 7), (8, 8)] {
        alice.write(Write::SlotUsed { user, slot, day }).await;
        let secrets = alice.store.secrets(user).await.expect("secrets");
        assert_eq!(secrets.slots[0].last_used, Some(expected));
    }
}

pub(super) async fn names_are_unique(alice: Fixture) {
    let bob = alice.second("bob").await;
    let error = alice.refused(Write::AddUser(Box::new(new_user(UserId::random(), "alice")))).await;
    assert!(matches!(error, StoreError::Exists(_)));
    let error = alice.refused(Write::AddUser(Box::new(new_user(alice.user, "carol")))).await;
    assert!(matches!(error, StoreError::Exists(_)));
    let record = UserRecord { name: "alice".to_owned(), ..UserRecord::default() };
    assert!(matches!(bob.refused(Write::PutUser(bob.user, record.clone())).await, StoreError::Exists(_)));
    assert!(matches!(bob.refused(Write::PutUser(UserId::random(), record)).await, StoreError::NotFound(_)));
    assert_eq!(alice.store.users().await.expect("users").len(), 2);
}

pub(super) async fn removed_users_leave_nothing(alice: Fixture) {
    let bob = alice.second("bob").await;
    alice.append(alice.inbox(), 3).await;
    bob.append(bob.inbox(), 2).await;
    alice.write(Write::RemoveUser(alice.user)).await;
    assert_eq!(alice.store.users().await.expect("users").len(), 1);
    assert!(matches!(alice.store.status(alice.user, alice.inbox()).await, Err(StoreError::NotFound(_))));
    assert!(matches!(alice.store.session_key(alice.user, alice.key.id).await, Err(StoreError::NotFound(_))));
    assert!(matches!(alice.store.secrets(alice.user).await, Err(StoreError::NotFound(_))));
    let totals = alice.store.totals().await.expect("totals");
    assert_eq!((totals.users, totals.messages), (1, 2));
    assert!(matches!(alice.refused(Write::RemoveUser(alice.user)).await, StoreError::NotFound(_)));
    let deliver = Write::Deliver { copies: vec![alice.placing(alice.inbox(), 9)], dedup: None };
    assert!(matches!(alice.refused(deliver).await, StoreError::NotFound(_)));
    // The id is gone for good, the name is free.
    assert!(matches!(
        bob.refused(Write::AddUser(Box::new(new_user(alice.user, "alice")))).await,
        StoreError::Exists(_)
    ));
    bob.write(Write::AddUser(Box::new(new_user(UserId::random(), "alice")))).await;
    assert_eq!(bob.uids(bob.inbox()).await, [1, 2]);
}

pub(super) async fn close(alice: Fixture) {
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let alice = alice.clone();
            tokio::spawn(async move {
                let copies = vec![alice.placing(alice.inbox(), 9)];
                alice.store.write(Write::Deliver { copies, dedup: None }).await.is_ok()
            })
        })
        .collect();
    tokio::task::yield_now().await;
    alice.store.close().await;
    alice.store.close().await;
    let mut accepted = 0;
    for waiting in waiting {
        accepted += usize::from(waiting.await.expect("no panic"));
    }
    assert!(matches!(alice.store.users().await, Err(StoreError::Closed)));
    assert!(matches!(alice.refused(Write::PutValue("a".to_owned(), None)).await, StoreError::Closed));
    let alice = Fixture { store: (alice.open)(&alice.place, Fixture::INSTANCE), ..alice };
    assert_eq!(alice.entries(alice.inbox()).await.len(), accepted, "what was accepted is there, nothing else is");
}

pub(super) async fn totals(alice: Fixture) {
    let before = alice.store.totals().await.expect("totals");
    assert_eq!((before.users, before.messages, before.bytes), (1, 0, 0));
    alice.append(alice.inbox(), 2).await;
    let after = alice.store.totals().await.expect("totals");
    assert_eq!((after.messages, after.bytes), (2, 300));
    assert_eq!(after.log_entries, before.log_entries + 2);
    alice.expunge(alice.inbox(), &[1, 2]).await;
    let after = alice.restarted().await.store.totals().await.expect("totals");
    assert_eq!((after.messages, after.bytes), (0, 0));
}

pub(super) async fn events(alice: Fixture) {
    let mut events = alice.store.events();
    alice.append(alice.inbox(), 2).await;
    let modseq = alice.store.status(alice.user, alice.inbox()).await.expect("status").highest_modseq;
    assert_eq!(events.try_recv(), Ok(Event::Mailbox(alice.user, alice.inbox(), modseq)));
    assert!(events.try_recv().is_err(), "one event for one change");
    alice.create("Work").await;
    assert_eq!(events.try_recv(), Ok(Event::MailboxList(alice.user)));
    alice.write(Write::PutValue(MessageId::random().to_string(), None)).await;
    alice.store.write(Write::RemoveUser(UserId::random())).await.expect_err("nobody");
    assert!(events.try_recv().is_err(), "nothing changed for anybody");
    let slots = vec![];
    alice
        .write(Write::PutSecrets { user: alice.user, put_slots: slots, remove_slots: vec![], secret_keys: None })
        .await;
    assert_eq!(events.try_recv(), Ok(Event::Secrets(alice.user)));
    alice.write(Write::PutUser(alice.user, UserRecord::default())).await;
    assert_eq!(events.try_recv(), Ok(Event::Directory));
}
