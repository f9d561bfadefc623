//! Operations of other instances.

use super::fixture::{Fixture, TestInstance, name};
use crate::id::InstanceId;
use crate::operation::{LogEntry, Operation, Stamp};
use crate::seal::SealedMessage;
use crate::store::{Attest, Attestation, StoreError, Write, part_digest};
use mesyx_sdk::{Flag, PlacementId, Role};
use std::sync::Arc;

async fn log(fixture: &Fixture, of: TestInstance) -> Vec<LogEntry> {
    fixture.store.log(of.instance(), 0, 10_000).await.expect("the log")
}

/// The message with the proof of the fixture's instance.
fn attested(message: SealedMessage) -> (SealedMessage, Arc<Attestation>) {
    use crate::seal::PartName::{Body, Summary};
    let digest = |name, part| part_digest(message.user, message.message, name, part);
    let digests = [digest(Summary, &message.summary), digest(Body, &message.body)].concat();
    let signature = Fixture::INSTANCE.sign(&[Attestation::SIGNED_PREFIX, &digests].concat());
    let instance = Fixture::INSTANCE.instance();
    (message, Arc::new(Attestation { instance, digests, signature }))
}

async fn merge(fixture: &Fixture, entries: Vec<LogEntry>, messages: Vec<(SealedMessage, Arc<Attestation>)>) {
    fixture.write(Write::Merge { entries, messages }).await;
}

pub(super) async fn two_instances(alice: Fixture) {
    let there = alice.elsewhere(2);
    let placing = alice.placing(alice.inbox(), 50);
    alice.write(Write::Append(vec![placing.clone()])).await;
    alice.add_flags(alice.inbox(), &[1], &[Flag::Flagged]).await;
    merge(&there, log(&alice, TestInstance(1)).await, vec![attested(placing.message.clone())]).await;
    assert_eq!(there.names().await, alice.names().await);
    let [here, entries] = [alice.entries(alice.inbox()).await, there.entries(there.inbox()).await];
    assert_eq!((entries[0].message, &entries[0].flags), (here[0].message, &here[0].flags));
    let bodies = there.store.bodies(there.user, there.inbox(), &[1], 1).await.expect("bodies");
    assert_eq!(bodies[0].part, placing.message.body);
    assert_eq!(bodies[0].attestation.instance, InstanceId([1; 16]), "who took it in stays known");
    // And back.
    there.add_flags(there.inbox(), &[1], &[Flag::Seen]).await;
    merge(&alice, log(&there, TestInstance(2)).await, Vec::new()).await;
    let flags = [Flag::Flagged, Flag::Seen].into_iter().collect();
    assert_eq!(alice.entries(alice.inbox()).await[0].flags, flags);
    assert_eq!(alice.store.status(alice.user, alice.inbox()).await.expect("status").unseen, 0);
    let mine = log(&alice, TestInstance(1)).await;
    alice.append(alice.inbox(), 1).await;
    let newest = log(&alice, TestInstance(1)).await.into_iter().nth(mine.len()).expect("a new entry").stamp;
    let theirs = log(&alice, TestInstance(2)).await.last().expect("their entry").stamp;
    assert!(newest > theirs, "a new stamp is later than every stamp seen");
}

pub(super) async fn merged_twice(alice: Fixture) {
    let there = alice.elsewhere(2);
    let placing = alice.placing(alice.inbox(), 50);
    alice.write(Write::Append(vec![placing.clone()])).await;
    let entries = log(&alice, TestInstance(1)).await;
    merge(&there, entries.clone(), vec![attested(placing.message.clone())]).await;
    let totals = there.store.totals().await.expect("totals");
    let status = there.store.status(there.user, there.inbox()).await.expect("status");
    merge(&there, entries, vec![attested(placing.message)]).await;
    assert_eq!(there.store.totals().await.expect("totals"), totals);
    assert_eq!(there.store.status(there.user, there.inbox()).await.expect("status"), status);
}

pub(super) async fn early_operations(alice: Fixture) {
    let there = alice.elsewhere(2);
    let placing = alice.placing(alice.inbox(), 50);
    alice.write(Write::Append(vec![placing.clone()])).await;
    let work = alice.create("Work").await;
    alice.add_flags(alice.inbox(), &[1], &[Flag::Seen]).await;
    let (user, from) = (alice.user, alice.inbox());
    alice.write(Write::Copy { user, from, uids: vec![1], to: work, remove: true }).await;
    let mut entries = log(&alice, TestInstance(1)).await;
    entries.reverse();
    for entry in entries {
        merge(&there, vec![entry], Vec::new()).await;
    }
    assert_eq!(there.uids(work).await, [0_u32; 0], "its content has not come");
    merge(&there, Vec::new(), vec![attested(placing.message)]).await;
    let there = Fixture { store: there.store.clone(), ..there };
    assert_eq!(there.uids(there.inbox()).await, [0_u32; 0]);
    assert!(there.entries(work).await[0].flags.contains(&Flag::Seen));
    let content = alice.placing(work, 9).message;
    merge(&there, Vec::new(), vec![attested(content)]).await;
    assert_eq!(there.store.totals().await.expect("totals").messages, 1, "content that nothing wants is not kept");
}

pub(super) async fn deleted_mailbox_gives_to_inbox(alice: Fixture) {
    let there = alice.elsewhere(2);
    let work = alice.create("Work").await;
    merge(&there, log(&alice, TestInstance(1)).await, Vec::new()).await;
    there.append(work, 1).await;
    alice.append(work, 1).await;
    alice.write(Write::DeleteMailbox { user: alice.user, name: name("Work") }).await;
    let kept = there.entries(work).await[0].message;
    merge(&there, log(&alice, TestInstance(1)).await, Vec::new()).await;
    assert!(!there.names().await.contains(&"Work".to_owned()));
    let entries = there.entries(there.inbox()).await;
    assert_eq!(entries.iter().map(|entry| entry.message).collect::<Vec<_>>(), [kept], "nobody removed that one");
    assert!(there.store.changes(there.user, work, 1).await.expect("changes").deleted);
}

pub(super) async fn same_name_twice(alice: Fixture) {
    let there = alice.elsewhere(2);
    merge(&there, log(&alice, TestInstance(1)).await, Vec::new()).await;
    alice.create("Work").await;
    there.create("Work").await;
    merge(&there, log(&alice, TestInstance(1)).await, Vec::new()).await;
    merge(&alice, log(&there, TestInstance(2)).await, Vec::new()).await;
    assert_eq!(alice.names().await, there.names().await);
    let shown: Vec<_> = alice.names().await.into_iter().filter(|name| name.starts_with("Work")).collect();
    assert_eq!(shown.len(), 2);
    assert_eq!(shown[0], "Work");
    assert!(shown[1].starts_with("Work ~"));
    // The shown name is one to work with.
    let (user, fresh) = (alice.user, mesyx_sdk::MailboxId::random());
    alice.write(Write::RenameMailbox { user, name: name(&shown[1]), new: name("Other"), fresh }).await;
    assert!(alice.names().await.contains(&"Other".to_owned()));
}

pub(super) async fn impossible_stamps(alice: Fixture) {
    let operation = || Operation::Expunge { placement: PlacementId::random() };
    let instance = InstanceId([3; 16]);
    let wrong = [
        (1, Stamp { day: i32::MAX, counter: 1, instance }),
        (1, Stamp { day: 1, counter: u64::MAX, instance }),
        (0, Stamp { day: 1, counter: 1, instance }),
        (u64::MAX, Stamp { day: 1, counter: 1, instance }),
    ];
    for (sequence, stamp) in wrong {
        let entries = vec![LogEntry { sequence, stamp, operation: operation() }];
        assert!(matches!(alice.refused(Write::Merge { entries, messages: vec![] }).await, StoreError::Invalid(_)));
    }
    assert_eq!(alice.append(alice.mailbox(Role::Drafts), 1).await.uids, [1]);
}
