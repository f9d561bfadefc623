//! Looking for keys of correspondents where their domains publish them, and remembering what came of it.
//!
//! What is remembered stands in the store under a keyed hash of the address, sealed under the instance key: neither tells whom our users
//! write to. A directory that can't be asked does not undo what it said before: who cuts us off from it gains nothing where a
//! key was found once.

use super::certificate;
use crate::core::Shared;
use crate::store::Write;
use async_trait::async_trait;
use mesyx_sdk::{Domain, MailAddress, Timestamp};
use minicbor::{Decode, Encode};
use openpgp::Cert;
use openpgp::parse::Parse;
use sequoia_openpgp as openpgp;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Where keys are looked for: a web key directory, in the program.
#[async_trait]
pub trait KeySource: Send + Sync + 'static {
    /// The certificates that the address's domain publishes for it, binary or armored, as they came; `None` where it says that there are none,
    /// or has no directory. Bounded in time and bytes by whoever implements it.
    ///
    /// # Errors
    /// [`LookupError`] where the directory could not be asked, or answered neither yes nor no.
    async fn find(&self, address: &MailAddress) -> Result<Option<Vec<u8>>, LookupError>;
}

/// A directory could not be asked: why, in one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LookupError(pub String);

/// What a directory says.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// A certificate, and when it was found (seconds since 1970).
    Found(Box<Cert>, i64),
    /// There is none.
    Absent,
    /// It can't be asked now, and never said anything: why.
    Failed(String),
}

/// Lookups that are under way, so that many messages to one address ask once.
#[derive(Default)]
pub(crate) struct Lookups {
    source: Mutex<Option<Arc<dyn KeySource>>>,
    running: Mutex<HashMap<[u8; 32], Arc<tokio::sync::Mutex<()>>>>,
}

impl fmt::Debug for Lookups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lookups")
    }
}

impl Lookups {
    pub(crate) fn set_source(&self, source: Option<Arc<dyn KeySource>>) {
        *self.source.lock().unwrap_or_else(PoisonError::into_inner) = source;
    }

    fn source(&self) -> Option<Arc<dyn KeySource>> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What is remembered of one address.
#[derive(Debug, Clone, Default, Encode, Decode)]
struct Remembered {
    /// When the directory was last asked.
    #[n(0)]
    asked: i64,
    /// What went wrong then.
    #[n(1)]
    failed: Option<String>,
    /// The certificate that it last gave, and when; none once it said that there is none.
    #[n(2)]
    found: Option<Found>,
}

#[derive(Debug, Clone, Encode, Decode)]
struct Found {
    #[cbor(n(0), with = "minicbor::bytes")]
    certificate: Vec<u8>,
    #[n(1)]
    at: i64,
}

/// After a failure the directory is left alone for this time, in seconds.
const FAILED: i64 = 300;
/// A directory is asked anew for a key that can't be used, but not more often than this, in seconds.
const UNUSABLE: i64 = 600;
/// Everything that a lookup may take.
const LONGEST: Duration = Duration::from_secs(45);
/// Days after which what is remembered is forgotten.
const KEPT_DAYS: i32 = 90;
/// Most addresses that are remembered.
const MOST: u32 = 100_000;
const PURPOSE: &[u8] = b"mesyx web key directory 1\0";

impl Shared {
    /// Whether the address is to be looked for: the operator wants it, and a directory belongs to a name.
    pub(crate) fn looks_for(&self, address: &MailAddress) -> bool {
        matches!(address.domain(), Domain::Name(_)) && self.settings().pgp.wkd
    }

    /// Asks the directory of an address, or remembers what it said. `again`: what it gave is of no use, so that it is asked sooner.
    pub(crate) async fn look_for(&self, address: &MailAddress, again: bool) -> Answer {
        let canonical = certificate::canonical(address);
        let hash = self.instance.dedup(&[PURPOSE, canonical.as_bytes()].concat());
        let turn = {
            let mut running = self.lookups.running.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(running.entry(hash).or_default())
        };
        let guard = turn.lock().await;
        let answer = self.look_alone(address, &canonical, hash, again).await;
        drop(guard);
        let mut running = self.lookups.running.lock().unwrap_or_else(PoisonError::into_inner);
        // The map's and ours: nobody else waits.
        if Arc::strong_count(&turn) <= 2 {
            running.remove(&hash);
        }
        answer
    }

    async fn look_alone(&self, address: &MailAddress, canonical: &str, hash: [u8; 32], again: bool) -> Answer {
        let settings = self.settings().pgp.clone();
        let now = Timestamp::now().0.div_euclid(1000);
        let mut remembered = self.remembered(hash).await;
        let age = now.saturating_sub(remembered.asked).max(0);
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        let believed = match &remembered {
            Remembered { failed: Some(_), .. } => FAILED,
            Remembered { found: Some(_), .. } if again => UNUSABLE,
            Remembered { found: Some(_), .. } => seconds(settings.wkd_fresh),
            Remembered { .. } => seconds(settings.wkd_absent),
        };
        if age >= believed {
            let Some(source) = self.lookups.source() else {
                // Nobody was asked: that is not a no.
                remembered.failed = Some("this server has nowhere to ask; its log says why".to_owned());
                return remembered.answer();
            };
            let found = tokio::time::timeout(LONGEST, source.find(address)).await;
            let found = found.unwrap_or_else(|_| Err(LookupError("the directory took too long".to_owned())));
            let outcome = match &found {
                Ok(Some(_)) => "found",
                Ok(None) => "absent",
                Err(_) => "failed",
            };
            metrics::counter!("mesyx_key_lookups_total", "outcome" => outcome).increment(1);
            remembered.take(found, canonical, now);
            self.remember(hash, &remembered).await;
        }
        remembered.answer()
    }

    async fn remembered(&self, hash: [u8; 32]) -> Remembered {
        let stored = match self.store.cached(hash).await {
            Ok(stored) => stored,
            Err(error) => {
                tracing::warn!(%error, "what key directories said can't be read");
                None
            }
        };
        let opened = stored.and_then(|sealed| self.instance.open_secret(&name_of(hash), &sealed).ok());
        opened.and_then(|clear| minicbor::decode(&clear).ok()).unwrap_or_default()
    }

    async fn remember(&self, hash: [u8; 32], remembered: &Remembered) {
        let Ok(clear) = minicbor::to_vec(remembered) else { return };
        let value = self.instance.seal_secret(&name_of(hash), &clear);
        let day = Timestamp::now().day();
        let write = Write::PutCached { hash, day, value, oldest: day.saturating_sub(KEPT_DAYS), most: MOST };
        if let Err(error) = self.store.write(write).await {
            tracing::warn!(%error, "what a key directory said can't be kept");
        }
    }
}

fn name_of(hash: [u8; 32]) -> String {
    let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("web key directory:{digits}")
}

impl Remembered {
    fn take(&mut self, found: Result<Option<Vec<u8>>, LookupError>, address: &str, now: i64) {
        self.asked = now;
        self.failed = None;
        match found {
            Ok(Some(bytes)) => match best_of(&bytes, address, now).and_then(|best| certificate::encode(&best)) {
                Ok(certificate) => self.found = Some(Found { certificate, at: now }),
                Err(why) => self.failed = Some(why),
            },
            Ok(None) => self.found = None,
            Err(LookupError(why)) => self.failed = Some(why),
        }
    }

    fn answer(self) -> Answer {
        let found = self.found.and_then(|found| Some((Cert::from_bytes(&found.certificate).ok()?, found.at)));
        match (found, self.failed) {
            (Some((certificate, at)), _) => Answer::Found(Box::new(certificate), at),
            (None, Some(why)) => Answer::Failed(why),
            (None, None) => Answer::Absent,
        }
    }
}

/// Of what a directory gives, the certificate that is the address's own: one that can be used before one that can't, the newest.
fn best_of(bytes: &[u8], address: &str, now: i64) -> Result<Cert, String> {
    let found = certificate::read(bytes)?;
    let own = found.into_iter().filter(|certificate| certificate::names(certificate, address));
    let best = own.max_by_key(|certificate| {
        (certificate::usable(certificate, now).is_ok(), certificate.primary_key().key().creation_time())
    });
    best.map(|certificate| certificate::cut(certificate, address))
        .ok_or_else(|| "the directory gave no certificate that names the address".to_owned())
}
