//! A store that an earlier release wrote opens with this one, with everything in it.

use super::{open_with, unsynced};
use crate::id::{JobId, KeysetId, SessionKeyId};
use crate::store::conformance::Fixture;
use crate::store::sqlite::{FILE, schema};
use crate::store::{NewJob, QueuedMessage, Submission, Write};
use bytes::Bytes;
use mesyx_sdk::{Flag, MessageId, Role};
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;

/// Rewrites the store in `directory` as the first release would have: its schema, and of each of its tables the columns that it had.
fn as_format_1(directory: &Path) {
    let old = directory.join("old.db");
    let connection = Connection::open(&old).expect("a new file");
    connection.execute_batch(schema::STEPS[0]).expect("the released schema");
    let application: i32 = {
        let now = Connection::open(directory.join(FILE)).expect("the file opens");
        now.query_row("PRAGMA application_id", [], |row| row.get(0)).expect("an id")
    };
    connection.pragma_update(None, "application_id", application).expect("written");
    connection.pragma_update(None, "user_version", 1).expect("written");
    connection.execute("ATTACH ? AS now", [directory.join(FILE).to_str().expect("UTF-8")]).expect("attached");
    let names = |sql: &str| -> Vec<String> {
        let mut select = connection.prepare(sql).expect("a statement");
        select.query_map([], |row| row.get(0)).expect("rows").map(|row| row.expect("a row")).collect()
    };
    for table in names("SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'") {
        let columns = names(&format!("SELECT name FROM pragma_table_info('{table}', 'main')")).join(", ");
        let copy = format!("INSERT INTO main.{table} ({columns}) SELECT {columns} FROM now.{table}");
        connection.execute(&copy, []).unwrap_or_else(|error| panic!("{table}: {error}"));
    }
    connection.execute("DETACH now", []).expect("detached");
    drop(connection);
    for suffix in ["", "-wal", "-shm"] {
        // The last two are there only while the store is open.
        let _ = std::fs::remove_file(directory.join(format!("{FILE}{suffix}")));
    }
    std::fs::rename(old, directory.join(FILE)).expect("renamed");
}

#[tokio::test]
async fn a_store_of_the_first_release_is_brought_to_todays_format() {
    let directory = tempfile::tempdir().expect("a directory");
    let alice = Fixture::new(directory.path().join("store"), open_with(unsynced())).await;
    alice.append(alice.inbox(), 3).await;
    alice.write(Write::Append(vec![alice.placing(alice.inbox(), 200_000)])).await;
    alice.add_flags(alice.inbox(), &[2], &[Flag::Seen]).await;
    let work = alice.create("Work").await;
    let before = (alice.entries(alice.inbox()).await, alice.names().await, alice.store.totals().await.expect("totals"));
    alice.store.close().await;
    as_format_1(&alice.place);
    let version = |place: &Path| -> u32 {
        let connection = Connection::open(place.join(FILE)).expect("the file opens");
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).expect("a version")
    };
    assert_eq!(version(&alice.place), 1);
    let alice = alice.restarted().await;
    let after = (alice.entries(alice.inbox()).await, alice.names().await, alice.store.totals().await.expect("totals"));
    assert_eq!(after, before);
    let bodies = alice.store.bodies(alice.user, alice.inbox(), &[1, 4], u64::MAX).await.expect("bodies");
    assert_eq!(bodies.iter().map(|body| body.part.0.len()).max(), Some(200_000));
    assert_eq!(alice.append(work, 1).await.uids, [1]);
    let (user, message) = (alice.user, MessageId::random());
    let submission = Submission {
        copies: Vec::new(),
        message: QueuedMessage { user, message, data_key: vec![1], body: Bytes::from_static(b"sealed") },
        jobs: vec![NewJob { job: JobId::random(), sealed: vec![2], due: 0 }],
        dedup: None,
        most_jobs: 1,
    };
    alice.write(Write::Submit(Box::new(submission))).await;
    assert_eq!(alice.store.queue_totals().await.expect("totals").jobs, 1);
    alice.store.close().await;
    assert_eq!(version(&alice.place), schema::FORMAT);
}

#[tokio::test]
async fn mailboxes_whose_sealed_messages_look_otherwise_now_get_a_new_uid_validity() {
    let directory = tempfile::tempdir().expect("a directory");
    let alice = Fixture::new(directory.path().join("store"), open_with(unsynced())).await;
    alice.append(alice.inbox(), 2).await;
    let mut key = (*alice.key).clone();
    (key.id, key.keyset) = (SessionKeyId::random(), KeysetId::random());
    let offline = Fixture { key: Arc::new(key), ..alice.clone() };
    let (drafts, archive) = (alice.mailbox(Role::Drafts), alice.mailbox(Role::Archive));
    offline.append(drafts, 1).await;
    let validities = async |alice: &Fixture| {
        let mut found = Vec::new();
        for mailbox in [alice.inbox(), drafts, archive] {
            found.push(alice.store.status(alice.user, mailbox).await.expect("status").uid_validity);
        }
        found
    };
    let before = validities(&alice).await;
    drop(offline);
    alice.store.close().await;
    as_format_1(&alice.place);
    let alice = alice.restarted().await;
    let after = validities(&alice).await;
    assert_eq!((after[0], after[2]), (before[0], before[2]), "nothing is shown otherwise there");
    assert!(before.iter().all(|validity| after[1] > *validity));
    let work = alice.create("Work").await;
    assert!(alice.store.status(alice.user, work).await.expect("status").uid_validity > after[1]);
}
