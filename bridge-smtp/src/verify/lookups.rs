//! The DNS answers of one message, and how many more questions it may ask.

use mail_auth::common::verify::DomainKey;
use mail_auth::{DnsError, DnssecStatus, Error, MX, MessageAuthenticator, Parameters, RecordSet, ResolverCache, Txt};
use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What one message has asked. Every question goes through here first, so this is where they are counted.
pub(super) struct Lookups {
    allowance: Arc<Allowance>,
    txt: Memory<Box<str>, Txt>,
    mx: Memory<Box<str>, RecordSet<MX>>,
    ipv4: Memory<Box<str>, RecordSet<Ipv4Addr>>,
    ipv6: Memory<Box<str>, RecordSet<Ipv6Addr>>,
    ptr: Memory<IpAddr, RecordSet<Box<str>>>,
}

/// How many questions are left.
struct Allowance {
    left: AtomicU32,
    exhausted: AtomicBool,
    closed: AtomicBool,
}

/// Answers of one type; where no question may be asked any more, `refused` stands for the answer.
pub(super) struct Memory<K, V> {
    known: Mutex<HashMap<K, V>>,
    allowance: Arc<Allowance>,
    refused: fn() -> V,
}

/// What mail-auth is given to look things up with.
pub(super) type With<'a, P> = Parameters<
    'a,
    P,
    Memory<Box<str>, Txt>,
    Memory<Box<str>, RecordSet<MX>>,
    Memory<Box<str>, RecordSet<Ipv4Addr>>,
    Memory<Box<str>, RecordSet<Ipv6Addr>>,
    Memory<IpAddr, RecordSet<Box<str>>>,
>;

impl Lookups {
    /// No answers yet, and this many questions.
    pub(super) fn new(questions: u32) -> Self {
        let allowance = Arc::new(Allowance {
            left: AtomicU32::new(questions),
            exhausted: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        });
        Self {
            txt: Memory::new(&allowance, || Txt::Error(not_asked())),
            mx: Memory::new(&allowance, nothing),
            ipv4: Memory::new(&allowance, nothing),
            ipv6: Memory::new(&allowance, nothing),
            ptr: Memory::new(&allowance, nothing),
            allowance,
        }
    }

    /// The parameters of a check that asks through here.
    pub(super) fn with<'a, P>(&'a self, parameters: P) -> With<'a, P> {
        Parameters::new(parameters)
            .with_txt_cache(&self.txt)
            .with_mx_cache(&self.mx)
            .with_ipv4_cache(&self.ipv4)
            .with_ipv6_cache(&self.ipv6)
            .with_ptr_cache(&self.ptr)
    }

    /// Asks for the public key at `name`, and remembers it. That there is none is remembered too, so that it is told from no answer.
    pub(super) async fn fetch_key(&self, resolver: &MessageAuthenticator, name: String) {
        let asked = resolver.txt_lookup::<DomainKey>(name.as_str(), Some(&self.txt)).await;
        if let Err(error) = asked {
            self.txt.lock().entry(name.into_boxed_str()).or_insert(Txt::Error(error));
        }
    }

    /// From now on nothing is asked: what is not known has no answer.
    pub(super) fn close(&self) {
        self.allowance.closed.store(true, Ordering::Relaxed);
    }

    /// More was asked than is allowed.
    pub(super) fn exhausted(&self) -> bool {
        self.allowance.exhausted.load(Ordering::Relaxed)
    }
}

impl Allowance {
    fn take(&self) -> bool {
        if self.closed.load(Ordering::Relaxed) {
            return false;
        }
        let took = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        if !took {
            self.exhausted.store(true, Ordering::Relaxed);
        }
        took
    }
}

impl<K, V> Memory<K, V> {
    fn new(allowance: &Arc<Allowance>, refused: fn() -> V) -> Self {
        Self { known: Mutex::default(), allowance: Arc::clone(allowance), refused }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, V>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq, V: Clone> ResolverCache<K, V> for Memory<K, V> {
    fn get<Q>(&self, name: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let known = self.lock().get(name).cloned();
        known.or_else(|| (!self.allowance.take()).then(self.refused))
    }

    fn remove<Q>(&self, name: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.lock().remove(name)
    }

    fn insert(&self, key: K, value: V, _valid_until: Instant) {
        self.lock().insert(key, value);
    }
}

fn not_asked() -> Error {
    Error::Dns(DnsError::Resolver("not asked".to_owned()))
}

fn nothing<T>() -> RecordSet<T> {
    RecordSet { rrset: Arc::new([]), dnssec_status: DnssecStatus::Indeterminate }
}
