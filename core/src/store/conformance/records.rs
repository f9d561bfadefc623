//! Sealed records.

use super::fixture::{Fixture, TestInstance};
use crate::id::{InstanceId, RecordId};
use crate::operation::{LogEntry, Operation, Stamp};
use crate::store::{Attest, Event, NewRecord, RecordKind, StoreError, Write};
use mesyx_sdk::UserId;

fn new(user: UserId, record: RecordId, sealed: &[u8]) -> NewRecord {
    let (kind, sealed) = (RecordKind::CONTACT, sealed.to_vec());
    NewRecord { user, record, kind, day: 20_000, sealed, most: None, only_new: false }
}

async fn put(fixture: &Fixture, record: RecordId, sealed: &[u8]) {
    fixture.write(Write::PutRecord(new(fixture.user, record, sealed))).await;
}

async fn list(fixture: &Fixture, kind: RecordKind) -> Vec<Vec<u8>> {
    let records = fixture.store.records(fixture.user, kind).await.expect("records");
    records.into_iter().map(|record| record.sealed).collect()
}

pub(super) async fn put_list_remove(alice: Fixture) {
    let bob = alice.second("bob").await;
    let mut events = alice.store.events();
    let (one, two) = (RecordId::random(), RecordId::random());
    put(&alice, one, b"one").await;
    assert_eq!(events.try_recv().expect("an event"), Event::Records(alice.user));
    put(&alice, two, b"two").await;
    put(&alice, one, b"one again").await;
    alice
        .write(Write::PutRecord(NewRecord { kind: RecordKind::SEEN, ..new(alice.user, RecordId::random(), b"seen") }))
        .await;
    let alice = alice.restarted().await;
    assert_eq!(
        list(&alice, RecordKind::CONTACT).await,
        [b"two".to_vec(), b"one again".to_vec()],
        "the oldest write first"
    );
    assert_eq!(list(&alice, RecordKind::SEEN).await, [b"seen".to_vec()]);
    let bob = Fixture { store: alice.store.clone(), ..bob };
    assert!(list(&bob, RecordKind::CONTACT).await.is_empty(), "another's are not shown");
    assert_eq!(alice.store.record(bob.user, one).await.expect("a read"), None);
    let found = alice.store.record(alice.user, one).await.expect("a read").expect("a record");
    assert_eq!((found.record, found.kind, found.day), (one, RecordKind::CONTACT, 20_000));
    alice.write(Write::RemoveRecords { user: alice.user, records: vec![one, RecordId::random()] }).await;
    assert_eq!(list(&alice, RecordKind::CONTACT).await, [b"two".to_vec()]);
    assert_eq!(alice.store.record(alice.user, one).await.expect("a read"), None);
    put(&alice, one, b"one anew").await;
    assert_eq!(list(&alice, RecordKind::CONTACT).await.len(), 2, "a later write brings it again");
    for sealed in [Vec::new(), vec![0; (256 << 10) + 1]] {
        let refused = alice.refused(Write::PutRecord(NewRecord { sealed, ..new(alice.user, one, b"") })).await;
        assert!(matches!(refused, StoreError::Invalid(_)));
    }
    let nobody = alice.refused(Write::PutRecord(new(UserId::random(), one, b"x"))).await;
    assert!(matches!(nobody, StoreError::NotFound(_)));
}

pub(super) async fn write_once(alice: Fixture) {
    let record = RecordId::random();
    for sealed in [b"first", b"other"] {
        alice.write(Write::PutRecord(NewRecord { only_new: true, ..new(alice.user, record, sealed) })).await;
    }
    assert_eq!(list(&alice, RecordKind::CONTACT).await, [b"first".to_vec()]);
    alice.write(Write::RemoveRecords { user: alice.user, records: vec![record] }).await;
    alice.write(Write::PutRecord(NewRecord { only_new: true, ..new(alice.user, record, b"anew") })).await;
    assert_eq!(list(&alice, RecordKind::CONTACT).await, [b"anew".to_vec()]);
}

pub(super) async fn oldest_make_room(alice: Fixture) {
    let keep = NewRecord { kind: RecordKind::SEEN, ..new(alice.user, RecordId::random(), b"another kind") };
    alice.write(Write::PutRecord(keep)).await;
    for at in 0..6_u8 {
        alice.write(Write::PutRecord(NewRecord { most: Some(3), ..new(alice.user, RecordId([at; 16]), &[at]) })).await;
    }
    assert_eq!(list(&alice, RecordKind::CONTACT).await, [[3], [4], [5]]);
    alice.write(Write::PutRecord(NewRecord { most: Some(3), ..new(alice.user, RecordId([3; 16]), &[9]) })).await;
    assert_eq!(list(&alice, RecordKind::CONTACT).await, [[4], [5], [9]], "a newer version takes no more room");
    assert_eq!(list(&alice, RecordKind::SEEN).await.len(), 1);
}

/// Every order of three instances' writes to one record comes to the same.
pub(super) async fn records_merge(alice: Fixture) {
    let record = RecordId([7; 16]);
    let user = alice.user;
    let entry = |instance: u8, counter: u64, operation: Operation| LogEntry {
        sequence: 1000 + counter,
        stamp: Stamp { day: 19_000, counter, instance: InstanceId([instance; 16]) },
        operation,
    };
    let put = |text: &[u8]| Operation::PutRecord { user, record, kind: 1, day: 19_000, sealed: text.to_vec() };
    let histories = [
        (
            vec![entry(2, 1, put(b"a")), entry(3, 2, put(b"b")), entry(4, 3, Operation::RemoveRecord { user, record })],
            None,
        ),
        (
            vec![entry(2, 1, put(b"a")), entry(3, 2, Operation::RemoveRecord { user, record }), entry(4, 3, put(b"c"))],
            Some(b"c"),
        ),
        (vec![entry(2, 2, put(b"a")), entry(3, 2, put(b"b")), entry(4, 1, put(b"c"))], Some(b"b")),
    ];
    for (at, (history, last)) in histories.into_iter().enumerate() {
        for (turn, order) in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]].into_iter().enumerate()
        {
            let there = alice.elsewhere(u8::try_from(100 + at * 10 + turn).expect("a number"));
            let users = alice.store.log(Fixture::INSTANCE.instance(), 0, 1000).await.expect("the log");
            // The user comes amid them: what came before waits.
            there.write(Write::Merge { entries: vec![history[order[0]].clone()], messages: vec![] }).await;
            there.write(Write::Merge { entries: users, messages: vec![] }).await;
            for at in [order[1], order[2], order[0]] {
                there.write(Write::Merge { entries: vec![history[at].clone()], messages: vec![] }).await;
            }
            let found = there.store.record(user, record).await.expect("a read").map(|found| found.sealed);
            assert_eq!(found, last.map(|text| text.to_vec()), "history {at} in order {order:?}");
            let listed = there.store.records(user, RecordKind::CONTACT).await.expect("records");
            assert_eq!(listed.len(), usize::from(last.is_some()));
        }
    }
}

pub(super) async fn log_forgets(alice: Fixture) {
    let (one, two) = (RecordId::random(), RecordId::random());
    put(&alice, one, b"old").await;
    put(&alice, one, b"new").await;
    put(&alice, two, b"gone").await;
    alice.write(Write::RemoveRecords { user: alice.user, records: vec![two] }).await;
    let log = alice.store.log(TestInstance(1).instance(), 0, 10_000).await.expect("the log");
    let kept: Vec<_> = log
        .iter()
        .filter_map(|entry| match &entry.operation {
            Operation::PutRecord { sealed, .. } => Some(sealed.as_slice()),
            _ => None,
        })
        .collect();
    assert_eq!(kept, [&b""[..], b"new", b""], "the log has the bytes of what holds, and no others");
    // Who learns of it from this log comes to the same state.
    let there = alice.elsewhere(2);
    there.write(Write::Merge { entries: log, messages: vec![] }).await;
    assert_eq!(list(&there, RecordKind::CONTACT).await, [b"new".to_vec()]);
}

pub(super) async fn records_of_removed_users(alice: Fixture) {
    let bob = alice.second("bob").await;
    put(&bob, RecordId::random(), b"bob's").await;
    bob.write(Write::RemoveUser(bob.user)).await;
    assert!(list(&bob, RecordKind::CONTACT).await.is_empty());
    let log = bob.store.log(TestInstance(1).instance(), 0, 10_000).await.expect("the log");
    let kept =
        |entry: &&LogEntry| matches!(&entry.operation, Operation::PutRecord { sealed, .. } if !sealed.is_empty());
    assert_eq!(log.iter().filter(kept).count(), 0);
}
