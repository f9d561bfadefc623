mod groups;
mod merge_order;
mod power_cut;
mod upgrade;

use super::*;
use crate::store::conformance::{self, Fixture, TestInstance};

fn open_with(options: Options) -> conformance::Open {
    Arc::new(move |directory, instance: TestInstance| {
        let store = SqliteStore::open(directory, options.clone(), Arc::new(instance)).expect("the store opens");
        Arc::new(store) as Arc<dyn Store>
    })
}

fn unsynced() -> Options {
    Options { sync: false, ..Options::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let directory = tempfile::tempdir().expect("a directory");
    conformance::run(directory.path(), open_with(unsynced())).await;
}

#[tokio::test]
async fn a_second_process_is_kept_out() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = SqliteStore::open(directory.path(), unsynced(), Arc::new(TestInstance(1))).expect("the store opens");
    let again = SqliteStore::open(directory.path(), unsynced(), Arc::new(TestInstance(1)));
    assert!(matches!(again, Err(StoreError::InUse(_))));
    drop(store);
    SqliteStore::open(directory.path(), unsynced(), Arc::new(TestInstance(1))).expect("the store opens again");
}

#[tokio::test]
async fn another_instances_store_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    drop(SqliteStore::open(directory.path(), unsynced(), Arc::new(TestInstance(1))));
    let other = SqliteStore::open(directory.path(), unsynced(), Arc::new(TestInstance(2)));
    assert!(matches!(other, Err(StoreError::Invalid(_))));
}

#[tokio::test]
async fn a_newer_store_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    drop(SqliteStore::open(directory.path(), unsynced(), Arc::new(TestInstance(1))));
    let connection = Connection::open(directory.path().join(FILE)).expect("the file opens");
    connection.pragma_update(None, "user_version", 99).expect("written");
    drop(connection);
    let newer = SqliteStore::open(directory.path(), unsynced(), Arc::new(TestInstance(1)));
    assert!(matches!(newer, Err(StoreError::Newer { found: 99, known: schema::FORMAT })));
}

#[tokio::test]
async fn orphaned_files_are_swept_at_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let alice = Fixture::new(directory.path().join("store"), open_with(unsynced())).await;
    alice.write(Write::Append(vec![alice.placing(alice.inbox(), 200_000)])).await;
    let blobs = alice.place.join(BLOBS);
    std::fs::create_dir_all(blobs.join("ab")).expect("a directory");
    for orphan in ["ab/ab000000000000000000000000000000", "ab/ab000000000000000000000000000001#1"] {
        std::fs::write(blobs.join(orphan), b"orphan").expect("a file");
    }
    let alice = alice.restarted().await;
    assert_eq!(std::fs::read_dir(blobs.join("ab")).expect("a directory").count(), 0);
    let bodies = alice.store.bodies(alice.user, alice.inbox(), &[1], 1).await.expect("bodies");
    assert_eq!(bodies[0].part.0.len(), 200_000);
}

#[tokio::test]
async fn files_of_refused_writes_are_removed() {
    let directory = tempfile::tempdir().expect("a directory");
    let alice = Fixture::new(directory.path().join("store"), open_with(unsynced())).await;
    alice.refused(Write::Append(vec![alice.placing(MailboxId::random(), 200_000)])).await;
    let dedup = Some([1; 32]);
    for _ in 0..2 {
        let copies = vec![alice.placing(alice.inbox(), 200_000)];
        alice.write(Write::Deliver { copies, dedup }).await;
    }
    alice.store.close().await;
    let count = |path: PathBuf| std::fs::read_dir(path).expect("a directory").count();
    let folders = std::fs::read_dir(alice.place.join(BLOBS)).expect("a directory");
    assert_eq!(folders.map(|folder| count(folder.expect("a folder").path())).sum::<usize>(), 1);
}

#[tokio::test]
async fn who_was_away_too_long_is_told_of_every_uid_that_is_not_there() {
    let directory = tempfile::tempdir().expect("a directory");
    let options = Options { vanished_kept: 3, ..unsynced() };
    let alice = Fixture::new(directory.path().join("store"), open_with(options)).await;
    alice.append(alice.inbox(), 20).await;
    let since = alice.store.status(alice.user, alice.inbox()).await.expect("status").highest_modseq;
    let mut middle = 0;
    for uid in 2..=15 {
        alice.expunge(alice.inbox(), &[uid]).await;
        if uid == 13 {
            middle = alice.store.status(alice.user, alice.inbox()).await.expect("status").highest_modseq;
        }
    }
    let all = alice.store.changes(alice.user, alice.inbox(), since).await.expect("changes");
    assert_eq!(all.vanished, (2..=15).collect::<Vec<_>>());
    let few = alice.store.changes(alice.user, alice.inbox(), middle).await.expect("changes");
    assert_eq!(few.vanished, [14, 15]);
}

#[tokio::test]
async fn old_dedup_hashes_are_forgotten_after_two_days() {
    use std::sync::atomic::{AtomicI32, Ordering};
    static TODAY: AtomicI32 = AtomicI32::new(20_000);
    let directory = tempfile::tempdir().expect("a directory");
    let options = Options { today: || TODAY.load(Ordering::SeqCst), ..unsynced() };
    let alice = Fixture::new(directory.path().join("store"), open_with(options)).await;
    let mut duplicates = Vec::new();
    for day in [20_000, 20_000, 20_002, 20_003] {
        TODAY.store(day, Ordering::SeqCst);
        let deliver = Write::Deliver { copies: vec![alice.placing(alice.inbox(), 9)], dedup: Some([1; 32]) };
        let Written::Delivered { duplicate } = alice.write(deliver).await else { panic!("not delivered") };
        duplicates.push(duplicate);
    }
    assert_eq!(duplicates, [false, true, true, false]);
}

/// Refused alone in its group, a write is undone with the whole transaction; the next must not see anything of it.
#[tokio::test]
async fn a_large_write_that_is_refused_leaves_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let alice = Fixture::new(directory.path().join("store"), open_with(unsynced())).await;
    let before = alice.store.totals().await.expect("totals");
    let mut messages: Vec<_> = (0..150).map(|_| alice.placing(alice.inbox(), 10)).collect();
    let stolen = alice.second("bob").await.key;
    messages[149].message.session_key = stolen;
    assert!(matches!(alice.refused(Write::Append(messages)).await, StoreError::Invalid(_)));
    let after = alice.store.totals().await.expect("totals");
    assert_eq!((after.messages, after.users), (before.messages, 2));
    assert_eq!(alice.append(alice.inbox(), 120).await.uids, (1..=120).collect::<Vec<_>>());
    alice.expunge(alice.inbox(), &(1..=120).collect::<Vec<_>>()).await;
    assert_eq!(alice.store.totals().await.expect("totals").messages, 0);
}
