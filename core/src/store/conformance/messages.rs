//! Messages in mailboxes: UIDs, flags, copies, changes.

use super::fixture::{Fixture, message};
use crate::store::{StoreError, Write, Written};
use mesyx_sdk::{Flag, FlagChange, FlagsStored, MailboxId, Role, Uid};

async fn store_flags(alice: &Fixture, uids: &[Uid], change: FlagChange, since: Option<u64>) -> FlagsStored {
    let (user, mailbox, uids) = (alice.user, alice.inbox(), uids.to_vec());
    let written = alice.write(Write::Flags { user, mailbox, uids, change, unchanged_since: since }).await;
    let Written::Flags(stored) = written else { panic!("not flags") };
    stored
}

async fn copy(alice: &Fixture, from: MailboxId, uids: &[Uid], to: MailboxId, remove: bool) -> Vec<(Uid, Uid)> {
    let written = alice.write(Write::Copy { user: alice.user, from, uids: uids.to_vec(), to, remove }).await;
    let Written::Copied(copied) = written else { panic!("not copied") };
    copied.uids
}

fn keyword(text: &str) -> Flag {
    Flag::new(text).expect("a flag")
}

pub(super) async fn append_and_read(alice: Fixture) {
    let mut placing = alice.placing(alice.inbox(), 50);
    placing.flags = vec![Flag::Seen, keyword("$Work")];
    let other = alice.placing(alice.inbox(), 70);
    let Written::Placed(placed) = alice.write(Write::Append(vec![placing.clone(), other.clone()])).await else {
        panic!("not placed")
    };
    assert_eq!(placed.uids, [1, 2]);
    let snapshot = alice.store.snapshot(alice.user, alice.inbox()).await.expect("a snapshot");
    assert_eq!((snapshot.uid_next, snapshot.uid_validity, snapshot.recent_from), (3, placed.uid_validity, 1));
    let entry = &snapshot.entries[0];
    assert_eq!((entry.uid, entry.message, entry.padded_size), (1, placing.message.message, 50));
    assert_eq!(entry.day.seconds(), 20_000 * 86_400);
    assert_eq!(entry.flags, placing.flags.iter().cloned().collect());
    let status = alice.store.status(alice.user, alice.inbox()).await.expect("status");
    assert_eq!((status.messages, status.unseen, status.recent, status.size), (2, 1, 2, 120));
    assert_eq!((status.uid_next, status.highest_modseq), (snapshot.uid_next, snapshot.highest_modseq));

    let summaries = alice.store.summaries(alice.user, alice.inbox(), &[2, 9, 1]).await.expect("summaries");
    assert_eq!(summaries.iter().map(|part| part.uid).collect::<Vec<_>>(), [2, 1], "in the order asked");
    assert_eq!(summaries[0].part, other.message.summary);
    let bodies = alice.store.bodies(alice.user, alice.inbox(), &[1, 2], u64::MAX).await.expect("bodies");
    assert_eq!(bodies[1].part, other.message.body);
    assert_eq!((bodies[0].session_key.id, bodies[0].session_key.keyset), (alice.key.id, alice.key.keyset));
    assert_eq!(bodies[0].message, placing.message.message);
    let mixed = vec![alice.placing(alice.inbox(), 1), alice.placing(alice.mailbox(Role::Sent), 1)];
    assert!(matches!(alice.refused(Write::Append(mixed)).await, StoreError::Invalid(_)));
    assert!(matches!(alice.refused(Write::Append(Vec::new())).await, StoreError::Invalid(_)));
}

pub(super) async fn uids_grow(alice: Fixture) {
    assert_eq!(alice.append(alice.inbox(), 3).await.uids, [1, 2, 3]);
    alice.expunge(alice.inbox(), &[3]).await;
    let alice = alice.restarted().await;
    assert_eq!(alice.append(alice.inbox(), 1).await.uids, [4], "the highest UID is not given again");
    alice.expunge(alice.inbox(), &[1, 2, 4]).await;
    let alice = alice.restarted().await;
    assert_eq!(alice.append(alice.inbox(), 1).await.uids, [5]);
}

pub(super) async fn flags(alice: Fixture) {
    alice.append(alice.inbox(), 3).await;
    let stored = store_flags(&alice, &[3, 1, 7], FlagChange::Add(vec![Flag::Seen, keyword("Later")]), None).await;
    assert_eq!(stored.entries.iter().map(|entry| entry.uid).collect::<Vec<_>>(), [1, 3]);
    assert!(stored.modified.is_empty());
    let status = alice.store.status(alice.user, alice.inbox()).await.expect("status");
    assert_eq!((status.unseen, status.messages), (1, 3));
    assert_eq!(stored.entries[0].modseq, status.highest_modseq);
    // What is so already changes nothing, and keeps its spelling.
    let again = store_flags(&alice, &[1], FlagChange::Add(vec![keyword("LATER")]), None).await;
    assert_eq!(again.entries[0].modseq, stored.entries[0].modseq);
    assert!(again.entries[0].flags.iter().any(|flag| flag.as_str() == "Later"));
    let set = store_flags(&alice, &[1], FlagChange::Set(vec![Flag::Flagged, keyword("later")]), None).await;
    assert_eq!(set.entries[0].flags, [Flag::Flagged, keyword("Later")].into_iter().collect());
    let taken = store_flags(&alice, &[1], FlagChange::Remove(vec![Flag::Flagged, keyword("later")]), None).await;
    assert!(taken.entries[0].flags.is_empty());
    assert_eq!(alice.store.status(alice.user, alice.inbox()).await.expect("status").unseen, 2);
    let many = (0..101).map(|number| keyword(&format!("k{number}"))).collect();
    let (user, mailbox, uids) = (alice.user, alice.inbox(), vec![1]);
    let too_many = Write::Flags { user, mailbox, uids, change: FlagChange::Add(many), unchanged_since: None };
    assert!(matches!(alice.refused(too_many).await, StoreError::Invalid(_)));
    // As many keywords as there may be, and it can still be seen and deleted.
    let most = (0..100).map(|number| keyword(&format!("k{number}"))).collect();
    store_flags(&alice, &[1], FlagChange::Add(most), None).await;
    let marked = store_flags(&alice, &[1], FlagChange::Add(vec![Flag::Seen, Flag::Deleted]), None).await;
    assert_eq!(marked.entries[0].flags.iter().count(), 102);
}

pub(super) async fn flags_unchanged_since(alice: Fixture) {
    alice.append(alice.inbox(), 2).await;
    let since = alice.store.status(alice.user, alice.inbox()).await.expect("status").highest_modseq;
    store_flags(&alice, &[2], FlagChange::Add(vec![Flag::Seen]), None).await;
    let stored = store_flags(&alice, &[1, 2], FlagChange::Add(vec![Flag::Flagged]), Some(since)).await;
    assert_eq!(stored.modified, [2]);
    let flagged: Vec<_> = stored.entries.iter().map(|entry| entry.flags.contains(&Flag::Flagged)).collect();
    assert_eq!(flagged, [true, false]);
}

pub(super) async fn expunge(alice: Fixture) {
    alice.append(alice.inbox(), 5).await;
    alice.add_flags(alice.inbox(), &[1, 2, 4], &[Flag::Deleted]).await;
    let only = |uids| Write::Expunge { user: alice.user, mailbox: alice.inbox(), uids };
    let Written::Expunged(gone) = alice.write(only(Some(vec![2, 3, 9]))).await else { panic!("not expunged") };
    assert_eq!(gone, [2], "only what has \\Deleted");
    let Written::Expunged(gone) = alice.write(only(None)).await else { panic!("not expunged") };
    assert_eq!(gone, [1, 4]);
    assert_eq!(alice.uids(alice.inbox()).await, [3, 5]);
    let status = alice.store.status(alice.user, alice.inbox()).await.expect("status");
    assert_eq!((status.messages, status.unseen, status.size), (2, 2, 100));
}

pub(super) async fn copy_and_move(alice: Fixture) {
    let (inbox, archive) = (alice.inbox(), alice.mailbox(Role::Archive));
    alice.append(inbox, 3).await;
    alice.add_flags(inbox, &[2], &[Flag::Flagged, keyword("kept")]).await;
    assert_eq!(copy(&alice, inbox, &[3, 2, 8], archive, false).await, [(2, 1), (3, 2)]);
    let [from, to] = [inbox, archive].map(|mailbox| (mailbox, alice.clone()));
    let (from, to) = (from.1.entries(from.0).await, to.1.entries(to.0).await);
    assert_eq!((from[1].message, &from[1].flags), (to[0].message, &to[0].flags));
    assert_eq!(copy(&alice, inbox, &[2], archive, true).await, [(2, 3)]);
    assert_eq!(alice.uids(inbox).await, [1, 3]);
    assert!(alice.entries(archive).await[2].flags.contains(&keyword("kept")));
    assert_eq!(copy(&alice, inbox, &[1], inbox, false).await, [(1, 4)], "a copy beside the first");
    assert_eq!(alice.store.totals().await.expect("totals").messages, 3, "copies share their content");
    let nowhere = Write::Copy { user: alice.user, from: inbox, uids: vec![1], to: MailboxId::random(), remove: false };
    assert!(matches!(alice.refused(nowhere).await, StoreError::NotFound(_)));
}

pub(super) async fn changes(alice: Fixture) {
    let inbox = alice.inbox();
    alice.append(inbox, 6).await;
    let since = alice.store.status(alice.user, inbox).await.expect("status").highest_modseq;
    let none = alice.store.changes(alice.user, inbox, since).await.expect("changes");
    assert_eq!((none.highest_modseq, none.uid_next, none.changed.len(), none.vanished.len()), (since, 7, 0, 0));
    alice.add_flags(inbox, &[4, 2], &[Flag::Seen]).await;
    alice.expunge(inbox, &[1, 5]).await;
    alice.append(inbox, 1).await;
    let changes = alice.store.changes(alice.user, inbox, since).await.expect("changes");
    assert_eq!(changes.changed.iter().map(|entry| entry.uid).collect::<Vec<_>>(), [2, 4, 7]);
    assert_eq!(changes.vanished, [1, 5]);
    assert_eq!(changes.uid_next, 8);
    assert!(!changes.deleted);
    let rest = alice.store.changes(alice.user, inbox, changes.highest_modseq).await.expect("changes");
    assert!(rest.changed.is_empty() && rest.vanished.is_empty());
    let alice = alice.restarted().await;
    let all = alice.store.changes(alice.user, inbox, 0).await.expect("changes");
    assert_eq!(all.changed.len(), 5);
    assert!([1, 5].iter().all(|uid| all.vanished.contains(uid)));
}

pub(super) async fn recent(alice: Fixture) {
    alice.append(alice.inbox(), 2).await;
    let claim = || Write::ClaimRecent { user: alice.user, mailbox: alice.inbox() };
    assert!(matches!(alice.write(claim()).await, Written::RecentFrom(1)));
    assert!(matches!(alice.write(claim()).await, Written::RecentFrom(3)));
    assert_eq!(alice.store.status(alice.user, alice.inbox()).await.expect("status").recent, 0);
    alice.append(alice.inbox(), 1).await;
    assert_eq!(alice.store.status(alice.user, alice.inbox()).await.expect("status").recent, 1);
    let alice = alice.restarted().await;
    let claim = Write::ClaimRecent { user: alice.user, mailbox: alice.inbox() };
    assert!(matches!(alice.write(claim).await, Written::RecentFrom(3)));
}

pub(super) async fn other_users_see_nothing(alice: Fixture) {
    let mallory = alice.second("mallory").await;
    let (inbox, user) = (alice.inbox(), mallory.user);
    alice.append(inbox, 1).await;
    let store = &mallory.store;
    assert!(matches!(store.status(user, inbox).await, Err(StoreError::NotFound(_))));
    alice.store.status(alice.user, inbox).await.expect("status");
    assert!(matches!(store.status(user, inbox).await, Err(StoreError::NotFound(_))), "nor what a cache knows");
    assert!(matches!(store.snapshot(user, inbox).await, Err(StoreError::NotFound(_))));
    assert!(store.changes(user, inbox, 0).await.expect("changes").changed.is_empty());
    assert!(matches!(store.summaries(user, inbox, &[1]).await, Err(StoreError::NotFound(_))));
    assert!(matches!(store.bodies(user, inbox, &[1], 9).await, Err(StoreError::NotFound(_))));
    assert!(matches!(store.session_key(user, alice.key.id).await, Err(StoreError::NotFound(_))));
    let change = FlagChange::Add(vec![Flag::Deleted]);
    let writes = [
        Write::Flags { user, mailbox: inbox, uids: vec![1], change, unchanged_since: None },
        Write::Copy { user, from: inbox, uids: vec![1], to: mallory.inbox(), remove: true },
        Write::Copy { user, from: mallory.inbox(), uids: vec![1], to: inbox, remove: false },
        Write::Expunge { user, mailbox: inbox, uids: None },
        Write::ClaimRecent { user, mailbox: inbox },
        Write::Append(vec![mallory.placing(inbox, 3)]),
        Write::Deliver { copies: vec![mallory.placing(inbox, 3)], dedup: None },
    ];
    for write in writes {
        assert!(matches!(mallory.refused(write).await, StoreError::NotFound(_)));
    }
    let mut stolen = mallory.placing(mallory.inbox(), 3);
    stolen.message.session_key = alice.key.clone();
    assert!(matches!(mallory.refused(Write::Append(vec![stolen])).await, StoreError::Invalid(_)));
    assert_eq!(alice.entries(inbox).await.len(), 1);
    assert!(alice.entries(inbox).await[0].flags.is_empty());
}

pub(super) async fn whole_or_nothing(alice: Fixture) {
    let before = alice.store.totals().await.expect("totals");
    let dedup = Some([7; 32]);
    let copies = vec![alice.placing(alice.inbox(), 50), alice.placing(MailboxId::random(), 50)];
    assert!(matches!(alice.refused(Write::Deliver { copies: copies.clone(), dedup }).await, StoreError::NotFound(_)));
    assert_eq!(alice.store.totals().await.expect("totals"), before);
    assert_eq!(alice.uids(alice.inbox()).await, [0_u32; 0]);
    // Nor is it taken for a duplicate when it is tried again.
    let copies = copies[..1].to_vec();
    assert!(matches!(alice.write(Write::Deliver { copies, dedup }).await, Written::Delivered { duplicate: false }));
    assert_eq!(alice.uids(alice.inbox()).await, [1], "no UID was spent");
}

pub(super) async fn dedup(alice: Fixture) {
    let bob = alice.second("bob").await;
    let deliver =
        |dedup| Write::Deliver { copies: vec![alice.placing(alice.inbox(), 9), bob.placing(bob.inbox(), 9)], dedup };
    for (hash, expected) in
        [(Some([1; 32]), false), (Some([1; 32]), true), (Some([2; 32]), false), (None, false), (None, false)]
    {
        let Written::Delivered { duplicate } = alice.write(deliver(hash)).await else { panic!("not delivered") };
        assert_eq!(duplicate, expected);
    }
    assert_eq!(alice.uids(alice.inbox()).await, [1, 2, 3, 4]);
    assert_eq!(bob.uids(bob.inbox()).await, [1, 2, 3, 4]);
}

pub(super) async fn side_by_side(alice: Fixture) {
    let tasks: Vec<_> = (0..40)
        .map(|number: usize| {
            let alice = alice.clone();
            tokio::spawn(async move {
                // Every fourth fails, and must take no other with it.
                let mailbox = if number % 4 == 3 { MailboxId::random() } else { alice.inbox() };
                let placing = crate::store::Placing { message: message(&alice.key, 20), mailbox, flags: vec![] };
                let id = placing.message.message;
                (id, alice.store.write(Write::Append(vec![placing])).await)
            })
        })
        .collect();
    let mut placed = Vec::new();
    for task in tasks {
        match task.await.expect("no panic") {
            (id, Ok(Written::Placed(appended))) => placed.push((appended.uids[0], id)),
            (_, Err(StoreError::NotFound(_))) => {}
            (_, other) => panic!("{other:?}"),
        }
    }
    placed.sort();
    let entries = alice.entries(alice.inbox()).await;
    assert_eq!(placed, entries.iter().map(|entry| (entry.uid, entry.message)).collect::<Vec<_>>());
    assert_eq!(placed.len(), 30);
    assert_eq!(placed.last().map(|(uid, _)| *uid), Some(30));
}
