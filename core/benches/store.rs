//! What the store costs: delivering, and reading a mailbox of 5,000 messages.
//!
//! `cargo bench -p mesyx-core --bench store --features conformance`. Delivery is measured twice: with syncing, as a server
//! does it, and without, which leaves the processor's share.
#![allow(missing_docs, clippy::expect_used)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mesyx_core::seal::{Sealed, SealedMessage};
use mesyx_core::store::conformance::{Fixture, Open, TestInstance, message};
use mesyx_core::store::{Options, Placing, SqliteStore, Store, Write};
use std::sync::Arc;
use tokio::runtime::Runtime;

const BODY: usize = 4096;
const SUMMARY: usize = 1536;
const GROUP: u64 = 32;
const MESSAGES: usize = 5_000;

fn open(sync: bool) -> Open {
    Arc::new(move |directory, instance: TestInstance| {
        let options = Options { sync, ..Options::default() };
        Arc::new(SqliteStore::open(directory, options, Arc::new(instance)).expect("the store opens")) as Arc<dyn Store>
    })
}

fn placing(alice: &Fixture) -> Placing {
    let sealed = message(&alice.key, BODY);
    let summary = Sealed(sealed.body.0.slice(..SUMMARY));
    Placing { message: SealedMessage { summary, ..sealed }, mailbox: alice.inbox(), flags: Vec::new() }
}

async fn deliver(alice: &Fixture, copies: Vec<Placing>) {
    let tasks: Vec<_> = copies
        .into_iter()
        .map(|placing| {
            let store = alice.store.clone();
            tokio::spawn(async move { store.write(Write::Deliver { copies: vec![placing], dedup: None }).await })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic").expect("delivered");
    }
}

fn store(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let directory = tempfile::tempdir().expect("a directory");
    let mut group = criterion.benchmark_group("deliver 4 KiB");
    group.throughput(Throughput::Elements(GROUP));
    for (name, sync) in [("32 at once, synced", true), ("32 at once, unsynced", false)] {
        let alice = runtime.block_on(Fixture::new(directory.path().join(name), open(sync)));
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || (0..GROUP).map(|_| placing(&alice)).collect::<Vec<_>>(),
                |copies| runtime.block_on(deliver(&alice, copies)),
                criterion::BatchSize::LargeInput,
            );
        });
    }
    group.finish();

    let alice = runtime.block_on(Fixture::new(directory.path().join("read"), open(false)));
    for _ in 0..MESSAGES / 50 {
        let copies = (0..50).map(|_| placing(&alice)).collect();
        runtime.block_on(deliver(&alice, copies));
    }
    let (user, inbox) = (alice.user, alice.inbox());
    let uids: Vec<u32> = (1..=MESSAGES as u32).collect();
    let mut group = criterion.benchmark_group("read 5,000");
    group.sample_size(20);
    group.bench_function("snapshot", |bencher| {
        bencher.iter(|| runtime.block_on(alice.store.snapshot(user, inbox)).expect("a snapshot"));
    });
    group.bench_function("summaries", |bencher| {
        bencher.iter(|| runtime.block_on(alice.store.summaries(user, inbox, &uids)).expect("summaries"));
    });
    group.bench_function("bodies", |bencher| {
        bencher.iter(|| runtime.block_on(alice.store.bodies(user, inbox, &uids, u64::MAX)).expect("bodies"));
    });
    let since = runtime.block_on(alice.store.status(user, inbox)).expect("status").highest_modseq;
    group.bench_function("changes, none", |bencher| {
        bencher.iter(|| runtime.block_on(alice.store.changes(user, inbox, since)).expect("changes"));
    });
    group.finish();
}

criterion_group!(benches, store);
criterion_main!(benches);
