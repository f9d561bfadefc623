//! Killed under load on a disk that keeps only what was synced: everything acknowledged is there, once.
//!
//! The process that is killed is this test binary again, running [`load`] under `tests/unsynced`.

#[path = "../../../../tests/unsynced/mod.rs"]
mod unsynced;

use super::open_with;
use crate::seal::{Sealed, SealedMessage};
use crate::store::conformance::{Fixture, TestInstance, message};
use crate::store::{Options, Placing, Store, StoreError, Write, Written};
use bytes::Bytes;
use mesyx_sdk::{MessageId, UserId};
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// What a message's body must be, so that the reader knows without having been told.
fn body_of(message: MessageId) -> Bytes {
    // One in eight goes to a file.
    let length = if message.0[0].is_multiple_of(8) { 140_000 } else { 3_000 };
    (0..length).map(|at: usize| message.0[at % 16] ^ (at / 16) as u8).collect()
}

fn known(key: &Arc<crate::seal::SealedSessionKey>) -> SealedMessage {
    let sealed = message(key, 0);
    SealedMessage { body: Sealed(body_of(sealed.message)), ..sealed }
}

fn options(sync: bool) -> Options {
    Options { sync, ..Options::default() }
}

/// Delivers until it is killed, and says each message once it is acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child of the tests here"]
async fn load() {
    let (Ok(place), Ok(user)) = (std::env::var("LOAD_STORE"), std::env::var("LOAD_USER")) else { return };
    let user: UserId = user.parse().expect("an id");
    let open = open_with(options(std::env::var("LOAD_SYNC").is_ok()));
    let place = PathBuf::from(place);
    let alice = Fixture {
        store: open(&place, Fixture::INSTANCE),
        user,
        key: crate::store::conformance::session_key(user),
        place,
        open,
    };
    println!("ready");
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let alice = alice.clone();
            tokio::spawn(async move {
                for round in 0_u64.. {
                    let message = known(&alice.key);
                    let id = message.message;
                    let copies = vec![Placing { message, mailbox: alice.inbox(), flags: vec![] }];
                    match alice.store.write(Write::Deliver { copies, dedup: None }).await {
                        Ok(Written::Delivered { .. }) => println!("ack {id}"),
                        Ok(other) => panic!("{other:?}"),
                        Err(error) => println!("refused {error}"),
                    }
                    if round % 16 == 15 {
                        // Expunges too, so that pages and files are freed and used again.
                        let uids = alice.uids(alice.inbox()).await;
                        let entries = alice.entries(alice.inbox()).await;
                        if let (Some(uid), Some(entry)) = (uids.first(), entries.first()) {
                            println!("expunging {}", entry.message);
                            let _ = expunge(&alice, *uid).await;
                        }
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
}

async fn expunge(alice: &Fixture, uid: u32) -> Result<(), StoreError> {
    let (user, mailbox, uids) = (alice.user, alice.inbox(), vec![uid]);
    let change = mesyx_sdk::FlagChange::Add(vec![mesyx_sdk::Flag::Deleted]);
    alice.store.write(Write::Flags { user, mailbox, uids: uids.clone(), change, unchanged_since: None }).await?;
    alice.store.write(Write::Expunge { user, mailbox, uids: Some(uids) }).await?;
    Ok(())
}

struct Bench {
    directory: tempfile::TempDir,
    library: PathBuf,
    user: UserId,
}

impl Bench {
    fn place(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    fn journal(&self) -> PathBuf {
        self.directory.path().join("journal")
    }

    async fn new(sync: bool) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let library = unsynced::library(directory.path());
        let alice = Fixture::new(directory.path().join("store"), open_with(options(sync))).await;
        alice.store.close().await;
        Self { library, user: alice.user, directory }
    }

    fn spawn(&self, sync: bool, fail: Option<&Path>) -> Child {
        let child = format!("{}::load", module_path!().split_once("::").expect("a path").1);
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command
            .args([child.as_str(), "--exact", "--ignored", "--nocapture"])
            .env("LD_PRELOAD", &self.library)
            .env("UNSYNCED_DIR", self.place())
            .env("UNSYNCED_JOURNAL", self.journal())
            .env("LOAD_STORE", self.place())
            .env("LOAD_USER", self.user.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        if sync {
            command.env("LOAD_SYNC", "1");
        }
        if let Some(fail) = fail {
            command.env("UNSYNCED_FAIL_FILE", fail);
        }
        command.spawn().expect("the child starts")
    }

    /// What is in INBOX, each body checked.
    async fn present(&self) -> Result<HashSet<MessageId>, String> {
        let opened = super::SqliteStore::open(&self.place(), options(true), Arc::new(TestInstance(1)));
        let store = opened.map_err(|error| error.to_string())?;
        let inbox = crate::id::mailbox_id_for_role(self.user, mesyx_sdk::Role::Inbox);
        let entries = store.snapshot(self.user, inbox).await.map_err(|error| error.to_string())?.entries;
        let mut present = HashSet::new();
        for chunk in entries.chunks(64) {
            let uids: Vec<u32> = chunk.iter().map(|entry| entry.uid).collect();
            let bodies = store.bodies(self.user, inbox, &uids, u64::MAX).await.map_err(|error| error.to_string())?;
            for body in bodies {
                if body.part.0 != body_of(body.message) {
                    return Err(format!("the body of {} is damaged", body.message));
                }
                if !present.insert(body.message) {
                    return Err(format!("{} is there twice", body.message));
                }
            }
        }
        if present.len() != entries.len() {
            return Err("a message has no body".to_owned());
        }
        store.close().await;
        let file = rusqlite::Connection::open(self.place().join(super::FILE)).map_err(|error| error.to_string())?;
        let sound: String =
            file.query_row("PRAGMA integrity_check", [], |row| row.get(0)).map_err(|error| error.to_string())?;
        if sound == "ok" { Ok(present) } else { Err(sound) }
    }
}

/// What the child said.
#[derive(Default)]
struct Said {
    acknowledged: HashSet<MessageId>,
    expunging: HashSet<MessageId>,
    refused: Vec<String>,
}

impl Said {
    fn hear(&mut self, line: &str) {
        match line.split_once(' ') {
            Some(("ack", id)) => drop(self.acknowledged.insert(id.parse().expect("an id"))),
            Some(("expunging", id)) => drop(self.expunging.insert(id.parse().expect("an id"))),
            Some(("refused", why)) => self.refused.push(why.to_owned()),
            _ => {}
        }
    }
}

/// Runs the load, cuts the power after so many acknowledgements, and says what is wrong then.
async fn cut(bench: &Bench, sync: bool, after: usize, said: &mut Said) -> Result<(), String> {
    let mut child = bench.spawn(sync, None);
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    let goal = said.acknowledged.len() + after;
    while said.acknowledged.len() < goal && output.read_line(&mut line).expect("a line") > 0 {
        said.hear(line.trim_end());
        line.clear();
    }
    // Not always just after an acknowledgement.
    std::thread::sleep(Duration::from_micros(rand_u64() % 3_000));
    child.kill().expect("killed");
    child.wait().expect("gone");
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("the rest");
    let whole = rest.rfind('\n').map_or("", |end| &rest[..end]);
    whole.lines().for_each(|line| said.hear(line));
    unsynced::replay(&bench.place(), &bench.journal());
    let present = bench.present().await?;
    let lost: Vec<_> = said.acknowledged.difference(&present).filter(|id| !said.expunging.contains(*id)).collect();
    if lost.is_empty() { Ok(()) } else { Err(format!("{} acknowledged messages are lost", lost.len())) }
}

fn rand_u64() -> u64 {
    u64::from_le_bytes(MessageId::random().0[..8].try_into().expect("8 bytes"))
}

#[tokio::test]
async fn a_power_cut_loses_nothing_acknowledged() {
    let bench = Bench::new(true).await;
    let mut said = Said::default();
    for round in 0..12 {
        let after = usize::try_from(rand_u64() % 150).expect("a number");
        let outcome = cut(&bench, true, after, &mut said).await;
        assert_eq!(outcome, Ok(()), "round {round}");
    }
    assert!(said.refused.is_empty(), "{:?}", said.refused);
    assert!(said.acknowledged.len() > 50, "the load ran");
}

/// Proves that the test above can fail.
#[tokio::test]
async fn without_syncing_a_power_cut_does_lose_messages() {
    let bench = Bench::new(true).await;
    let outcome = cut(&bench, false, 100, &mut Said::default()).await;
    assert!(outcome.is_err());
}

#[tokio::test]
async fn failing_writes_and_syncs_lose_nothing_and_pass() {
    // ENOSPC, EIO
    for (kind, error) in [("write", 28), ("write", 5), ("sync", 28), ("sync", 5)] {
        let bench = Bench::new(true).await;
        let plan = bench.directory.path().join("plan");
        let mut child = bench.spawn(true, Some(&plan));
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut said = Said::default();
        let mut line = String::new();
        let mut until = |said: &mut Said, enough: &dyn Fn(&Said) -> bool| {
            while !enough(said) {
                line.clear();
                assert!(output.read_line(&mut line).expect("a line") > 0, "{kind} {error}: the load ended");
                said.hear(line.trim_end());
            }
        };
        until(&mut said, &|said| said.acknowledged.len() >= 30);
        std::fs::write(&plan, format!("{kind}:1:1000000000:{error}")).expect("a plan");
        until(&mut said, &|said| said.refused.len() >= 20);
        // The disk works again: so does the store.
        std::fs::remove_file(&plan).expect("no plan");
        let goal = said.acknowledged.len() + 30;
        until(&mut said, &|said| said.acknowledged.len() >= goal);
        child.kill().expect("killed");
        child.wait().expect("gone");
        if error == 28 && kind == "write" {
            assert!(said.refused.iter().all(|why| why.contains("full")), "{:?}", said.refused.first());
        }
        unsynced::replay(&bench.place(), &bench.journal());
        let present = bench.present().await.expect("a sound store");
        let lost = said.acknowledged.difference(&present).filter(|id| !said.expunging.contains(*id)).count();
        assert_eq!(lost, 0, "{kind} {error}");
    }
}
