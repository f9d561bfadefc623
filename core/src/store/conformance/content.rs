//! Sealed content: kept whole, shared, erased.

use super::fixture::{Fixture, session_key};
use crate::seal::PartName;
use crate::store::{Attestation, Placing, StoreError, Write, part_digest};
use mesyx_sdk::{Flag, Role};

pub(super) async fn large_bodies(alice: Fixture) {
    let large = alice.placing(alice.inbox(), 300_000);
    let small = alice.placing(alice.inbox(), 300);
    alice.write(Write::Append(vec![large.clone(), small.clone()])).await;
    let alice = alice.restarted().await;
    let bodies = alice.store.bodies(alice.user, alice.inbox(), &[1, 2], u64::MAX).await.expect("bodies");
    assert_eq!([&bodies[0].part, &bodies[1].part], [&large.message.body, &small.message.body]);
    alice.expunge(alice.inbox(), &[1]).await;
    let bodies = alice.store.bodies(alice.user, alice.inbox(), &[1, 2], u64::MAX).await.expect("bodies");
    assert_eq!(bodies.len(), 1);
}

pub(super) async fn shared_content(alice: Fixture) {
    let placing = alice.placing(alice.inbox(), 200_000);
    alice.write(Write::Append(vec![placing.clone()])).await;
    // The same message comes to another mailbox.
    let archive = Placing { mailbox: alice.mailbox(Role::Archive), ..placing.clone() };
    alice.write(Write::Deliver { copies: vec![archive], dedup: None }).await;
    assert_eq!(alice.store.totals().await.expect("totals").messages, 1);
    alice.expunge(alice.inbox(), &[1]).await;
    let bodies = alice.store.bodies(alice.user, alice.mailbox(Role::Archive), &[1], 1).await.expect("bodies");
    assert_eq!(bodies[0].part, placing.message.body, "the last placement keeps it");
    alice.expunge(alice.mailbox(Role::Archive), &[1]).await;
    assert_eq!(alice.store.totals().await.expect("totals").messages, 0);
}

pub(super) async fn erased_content(alice: Fixture) {
    let placing = alice.placing(alice.inbox(), 5_000);
    alice.write(Write::Append(vec![placing.clone(), alice.placing(alice.inbox(), 10)])).await;
    alice.expunge(alice.inbox(), &[1]).await;
    let alice = alice.restarted().await;
    for (name, part) in [("summary", &placing.message.summary.0), ("body", &placing.message.body.0)] {
        let needle = &part[..64];
        for file in files(&alice.place) {
            let found = std::fs::read(&file).expect("a file").windows(64).any(|window| window == needle);
            assert!(!found, "an erased {name} is still in {}", file.display());
        }
    }
    assert_eq!(alice.uids(alice.inbox()).await, [2]);
}

fn files(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files
}

pub(super) async fn session_keys(alice: Fixture) {
    let other = session_key(alice.user);
    alice.append(alice.inbox(), 2).await;
    let with_other = Fixture { key: other.clone(), ..alice.clone() };
    with_other.append(alice.inbox(), 1).await;
    for key in [&alice.key, &other] {
        let found = alice.store.session_key(alice.user, key.id).await.expect("a session key");
        assert_eq!(&found, key);
    }
    alice.expunge(alice.inbox(), &[3]).await;
    assert!(matches!(alice.store.session_key(alice.user, other.id).await, Err(StoreError::NotFound(_))));
    with_other.append(alice.inbox(), 1).await;
    assert_eq!(alice.store.session_key(alice.user, other.id).await.expect("it came again"), other);
}

pub(super) async fn attestations(alice: Fixture) {
    for _ in 0..3 {
        alice.append(alice.inbox(), 50).await;
    }
    let alice = alice.restarted().await;
    let uids = alice.uids(alice.inbox()).await;
    let summaries = alice.store.summaries(alice.user, alice.inbox(), &uids).await.expect("summaries");
    let bodies = alice.store.bodies(alice.user, alice.inbox(), &uids, u64::MAX).await.expect("bodies");
    let all =
        summaries.iter().map(|part| (PartName::Summary, part)).chain(bodies.iter().map(|part| (PartName::Body, part)));
    let mut count = 0;
    for (name, part) in all {
        let Attestation { instance, digests, signature } = &*part.attestation;
        let signed = [Attestation::SIGNED_PREFIX, digests].concat();
        assert!(Fixture::INSTANCE.verifies(&signed, signature));
        assert_eq!(instance.0, [Fixture::INSTANCE.0; 16]);
        let digest = part_digest(alice.user, part.message, name, &part.part);
        assert!(digests.chunks(32).any(|known| known == digest));
        count += 1;
    }
    assert_eq!(count, 300);
}

pub(super) async fn restart(alice: Fixture) {
    let bob = alice.second("bob").await;
    alice.append(alice.inbox(), 3).await;
    alice.add_flags(alice.inbox(), &[2], &[Flag::Seen]).await;
    bob.append(bob.inbox(), 1).await;
    let before = alice.store.snapshot(alice.user, alice.inbox()).await.expect("a snapshot");
    let totals = alice.store.totals().await.expect("totals");
    let log = alice.store.log(crate::id::InstanceId([1; 16]), 0, 1000).await.expect("the log");
    let alice = alice.restarted().await;
    let after = alice.store.snapshot(alice.user, alice.inbox()).await.expect("a snapshot");
    assert_eq!(before.entries, after.entries);
    assert_eq!((before.uid_validity, before.highest_modseq), (after.uid_validity, after.highest_modseq));
    assert_eq!(alice.store.totals().await.expect("totals"), totals);
    assert_eq!(alice.store.log(crate::id::InstanceId([1; 16]), 0, 1000).await.expect("the log"), log);
    alice.append(alice.inbox(), 1).await;
    let log = alice.store.log(crate::id::InstanceId([1; 16]), 0, 1000).await.expect("the log");
    let numbers: Vec<u64> = log.iter().map(|entry| entry.sequence).collect();
    assert_eq!(numbers, (1..=log.len() as u64).collect::<Vec<_>>(), "numbered without gaps");
    assert!(log.is_sorted_by(|a, b| a.stamp < b.stamp), "stamps never go back");
}

pub(super) async fn backup(alice: Fixture) {
    let large = alice.placing(alice.inbox(), 200_000);
    alice.write(Write::Append(vec![large.clone(), alice.placing(alice.inbox(), 10)])).await;
    let snapshot = alice.store.snapshot(alice.user, alice.inbox()).await.expect("a snapshot");
    let place = alice.place.with_extension("backup");
    alice.store.backup(&place).await.expect("a backup");
    assert!(matches!(alice.store.backup(&place).await, Err(StoreError::Invalid(_))), "only into an empty directory");
    alice.expunge(alice.inbox(), &[1]).await;
    alice.store.close().await;
    let restored = Fixture { store: (alice.open)(&place, Fixture::INSTANCE), ..alice };
    let again = restored.store.snapshot(restored.user, restored.inbox()).await.expect("a snapshot");
    assert_eq!((again.uid_validity, again.entries), (snapshot.uid_validity, snapshot.entries));
    let bodies = restored.store.bodies(restored.user, restored.inbox(), &[1], 1).await.expect("bodies");
    assert_eq!(bodies[0].part, large.message.body);
    assert_eq!(restored.append(restored.inbox(), 1).await.uids, [3]);
}

pub(super) async fn bodies_stop_early(alice: Fixture) {
    alice.append(alice.inbox(), 4).await;
    for (most, expected) in [(0, 1), (99, 1), (100, 2), (1000, 4)] {
        let bodies = alice.store.bodies(alice.user, alice.inbox(), &[9, 1, 2, 3, 4], most).await.expect("bodies");
        assert_eq!(bodies.len(), expected);
    }
}
