//! Sealing and opening one message, both parts, on one core: its processor time, so that other work on the machine matters little.
#![allow(missing_docs, clippy::unwrap_used)]

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use mesyx_core::id::KeysetId;
use mesyx_core::keys::{Keyring, Keyset, Levels, MasterKey, NewKeys, Profile, Span, Unlocked, generate_keyset};
use mesyx_core::seal::{PartContext, Sealer, open_body, open_summary};
use mesyx_core::store::StoredSecrets;
use mesyx_sdk::{Content, MessageId, Summary, Timestamp, UserId, mime};
use sequoia_openpgp::cert::{CertBuilder, CipherSuite};
use std::alloc::System;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// The program's own: what it costs shows where this line is taken out.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<System> = zeroizing_alloc::ZeroAlloc(System);

struct Keys {
    user: UserId,
    keyset: Keyset,
    unlocked: Unlocked,
}

/// A user with one keyset of so many certificates.
fn keys(profile: Profile, certificates: usize) -> Keys {
    let user = UserId::random();
    let new = NewKeys::generate("Alice", "alice@example.org", profile).unwrap();
    let more = (1..certificates).map(|_| generate_keyset("more", Span::Always, Levels::ALL, profile).unwrap().1);
    let all = std::iter::once(new.default_keyset.1.clone()).chain(more).collect();
    let keyset = Keyset::new(KeysetId::random(), "default", Span::Always, Levels::ALL, all).unwrap();
    let master = MasterKey::random();
    let secret_keys = vec![master.wrap(user, Some(keyset.id), &new.default_keyset.1).unwrap()];
    let keyring = Keyring::new(new.identity, vec![keyset.clone()]).unwrap();
    let secrets = StoredSecrets { slots: vec![], secret_keys };
    let unlocked = Unlocked::open(user, &master, &secrets, &keyring).unwrap();
    Keys { user, keyset, unlocked }
}

/// A keyset of one RSA certificate, as people bring it: it is sealed to here, and opened elsewhere.
fn rsa() -> (UserId, Keyset) {
    let builder = CertBuilder::new().set_cipher_suite(CipherSuite::RSA3k).add_storage_encryption_subkey();
    let (certificate, _) = builder.generate().unwrap();
    let keyset = Keyset::new(KeysetId::random(), "rsa", Span::Always, Levels::ALL, vec![certificate]).unwrap();
    (UserId::random(), keyset)
}

fn mail(size: usize) -> (Content, Summary) {
    let mut bytes = b"Date: Sun, 22 Nov 2026 22:00:00 +0000\r\nFrom: Alice <alice@example.org>\r\nTo: Bob <bob@example.net>\r\n\
        Subject: Four kilobytes\r\nMessage-ID: <1@example.org>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n"
        .to_vec();
    while bytes.len() < size {
        bytes.extend_from_slice(b"The quick brown fox jumps over the lazy dog.\r\n");
    }
    let content = Content::from(bytes);
    let summary = mime::summarize(&content, Timestamp(1_795_400_000_000), None).unwrap();
    (content, summary)
}

/// Time that the thread ran, from proc(5)'s `schedstat`. The kernel brings it up to date at each tick, which is short beside a sample.
struct ThreadTime;

impl Measurement for ThreadTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
    }

    fn end(&self, start: Duration) -> Duration {
        // Never nothing: criterion divides by it.
        (self.start() - start).max(Duration::from_nanos(1))
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, time: &Duration) -> f64 {
        time.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

type Group<'a> = BenchmarkGroup<'a, ThreadTime>;

fn group<'a>(c: &'a mut Criterion<ThreadTime>, label: &str, size: usize) -> Group<'a> {
    let mut group = c.benchmark_group(format!("{label}, {} KiB", size / 1024));
    group.throughput(Throughput::Elements(1)).sample_size(30);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    group
}

fn sealing(group: &mut Group<'_>, user: UserId, keyset: &Keyset, size: usize) {
    let (content, summary) = mail(size);
    for (name, window) in [("seal, a session key each", Duration::ZERO), ("seal, shared", Sealer::WINDOW)] {
        let sealer = Sealer::new(window);
        group.bench_function(name, |b| {
            b.iter(|| {
                let message = MessageId::random();
                sealer.seal(keyset, user, message, &summary, &content, Instant::now()).unwrap()
            });
        });
    }
}

fn seal(c: &mut Criterion<ThreadTime>) {
    let (user, keyset) = rsa();
    for size in [4096, 65536] {
        sealing(&mut group(c, "RSA 3072", size), user, &keyset, size);
    }
    for (label, profile, certificates) in [
        ("v4", Profile::V4, 1),
        ("v4 x3", Profile::V4, 3),
        ("v6", Profile::V6, 1),
        ("v6 x3", Profile::V6, 3),
        ("ML-KEM", Profile::PostQuantum, 1),
        ("ML-KEM x3", Profile::PostQuantum, 3),
    ] {
        let keys = keys(profile, certificates);
        for size in [4096, 65536] {
            let (content, summary) = mail(size);
            let mut group = group(c, label, size);
            sealing(&mut group, keys.user, &keys.keyset, size);
            let message = MessageId::random();
            let sealed = Sealer::default();
            let sealed = sealed.seal(&keys.keyset, keys.user, message, &summary, &content, Instant::now()).unwrap();
            let expect = PartContext { user: keys.user, message, keyset: keys.keyset.id };
            let key = keys.unlocked.session_key(&sealed.session_key).unwrap();
            group.bench_function("open body", |b| b.iter(|| open_body(&key, &expect, &sealed.body).unwrap()));
            group.bench_function("open summary", |b| b.iter(|| open_summary(&key, &expect, &sealed.summary).unwrap()));
            group.bench_function("open body, its session key too", |b| {
                b.iter(|| {
                    let key = keys.unlocked.session_key(black_box(&sealed.session_key)).unwrap();
                    open_body(&key, &expect, &sealed.body).unwrap()
                });
            });
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(ThreadTime);
    targets = seal
}
criterion_main!(benches);
