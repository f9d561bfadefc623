//! What PGP costs a message that leaves: signing once, encrypting for each recipient.
#![allow(missing_docs, clippy::unwrap_used)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mesyx_core::keys::{NewKeys, Profile};
use mesyx_core::pgp::measure::{Measured, prepare};
use std::hint::black_box;

fn message(bytes: usize) -> Vec<u8> {
    let mut message = b"From: Alice <alice@example.org>\r\nTo: bob@example.net\r\nSubject: measured\r\nMessage-ID: <1@example.org>\r\n\
        Date: Mon, 23 Nov 2026 01:00:00 +0000\r\nContent-Type: text/plain\r\n\r\n"
        .to_vec();
    while message.len() < bytes {
        message.extend_from_slice(b"A line of a message as people write them, with some seventy characters\r\n");
    }
    message
}

fn wrapping(criterion: &mut Criterion) {
    let sender = NewKeys::generate("Alice", "alice@example.org", Profile::V4).unwrap().identity;
    for (profile, name) in [(Profile::V4, "v4"), (Profile::V6, "v6"), (Profile::PostQuantum, "post-quantum")] {
        let recipient = NewKeys::generate("Bob", "bob@example.net", profile).unwrap().identity;
        let mut group = criterion.benchmark_group(format!("wrap/{name}"));
        for bytes in [2 << 10, 20 << 10, 1 << 20] {
            let prepared: Measured = prepare(&message(bytes), &sender, "bob@example.net", &recipient);
            group.throughput(Throughput::Elements(1));
            group.bench_with_input(BenchmarkId::from_parameter(bytes), &prepared, |bench, prepared| {
                bench.iter(|| black_box(prepared.wrap()));
            });
        }
        group.finish();
    }
    let recipient = NewKeys::generate("Bob", "bob@example.net", Profile::V4).unwrap().identity;
    let mut group = criterion.benchmark_group("prepare");
    for bytes in [2 << 10, 20 << 10, 1 << 20] {
        let text = message(bytes);
        group.bench_with_input(BenchmarkId::from_parameter(bytes), &text, |bench, text| {
            bench.iter(|| black_box(prepare(text, &sender, "bob@example.net", &recipient)));
        });
    }
    group.finish();
}

criterion_group!(benches, wrapping);
criterion_main!(benches);
