//! MTA-STS (RFC 8461): which hosts may be a domain's mail exchangers, and that they must show certificates.
//!
//! Policies are kept as long as they say, over restarts too (see [`super::sts_kept`]).

use super::sts_kept::{Entry, Shelf, shelf_of};
use mesyx_net::{Dns, Get, Https};
use mesyx_sdk::{Host, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Largest policy that is read (RFC 8461, section 3.3, suggests 64 kilobytes).
const MAX_POLICY: usize = 64 << 10;
/// Longest time that a policy may want to be kept: a year (section 3.2).
const MAX_AGE: u64 = 31_557_600;
/// How long a failed fetch is not repeated.
const PATIENCE: Duration = Duration::from_secs(300);
/// A policy is fetched anew, though its id did not change, when it is so old or half of its time is over (section 3.3).
const REFRESH: Duration = Duration::from_secs(86_400);
/// Most domains that are remembered.
const MAX_DOMAINS: usize = 10_000;

/// What a policy wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// Hosts that don't keep to it get nothing.
    Enforce,
    /// They get everything, and failures are counted.
    Testing,
    /// There is no policy any more.
    None,
}

/// A domain's policy (section 3.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Policy {
    pub(crate) mode: Mode,
    /// Lower-case names, or `*.` and a name.
    pub(crate) mx: Vec<String>,
    pub(crate) max_age: Duration,
}

/// Why there is no policy though there should be, as RFC 8460, section 4.3, names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It could not be fetched.
    Fetch,
    /// The host of the policy did not show a certificate that we believe.
    Certificate,
    /// What was fetched is no policy.
    Invalid,
}

impl Failure {
    pub(crate) const fn result_type(self) -> &'static str {
        match self {
            Self::Fetch => "sts-policy-fetch-error",
            Self::Certificate => "sts-webpki-invalid",
            Self::Invalid => "sts-policy-invalid",
        }
    }
}

impl Policy {
    /// Reads the file.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (mut version, mut mode, mut max_age, mut mx) = (None, None, None, Vec::new());
        for line in text.split('\n') {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let (key, value) = line.split_once(':')?;
            let value = value.trim();
            match key.trim() {
                // Of fields that are there twice, the first counts (section 3.2).
                "version" => version = version.or(Some(value)),
                "mode" => mode = mode.or(Some(value)),
                "max_age" => max_age = max_age.or(Some(value)),
                "mx" => mx.push(pattern(value)?),
                _ => {}
            }
        }
        let mode = match mode? {
            "enforce" => Mode::Enforce,
            "testing" => Mode::Testing,
            "none" => Mode::None,
            _ => return None,
        };
        let max_age = max_age.filter(|age| age.len() <= 10 && age.bytes().all(|byte| byte.is_ascii_digit()))?;
        let max_age = Duration::from_secs(max_age.parse::<u64>().ok()?.min(MAX_AGE));
        let whole = version == Some("STSv1") && (mode == Mode::None || !mx.is_empty());
        whole.then_some(Self { mode, mx, max_age })
    }

    /// Whether a host may be a mail exchanger of the domain (section 4.1). A `*` stands for exactly one label.
    pub(crate) fn allows(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        self.mx.iter().any(|pattern| match pattern.strip_prefix("*.") {
            Some(rest) => host.split_once('.').is_some_and(|(first, under)| !first.is_empty() && under == rest),
            None => host == *pattern,
        })
    }
}

fn pattern(text: &str) -> Option<String> {
    let text = text.trim_end_matches('.').to_ascii_lowercase();
    let name = text.strip_prefix("*.").unwrap_or(&text);
    let right = !name.is_empty()
        && name.split('.').all(|label| {
            !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        });
    right.then_some(text)
}

/// The id in a domain's record (section 3.1).
pub(crate) fn id(record: &str) -> Option<&str> {
    let mut fields = record.split(';').map(str::trim);
    if fields.next()? != "v=STSv1" {
        return None;
    }
    let id = fields.find_map(|field| field.strip_prefix("id="))?;
    (!id.is_empty() && id.len() <= 32 && id.bytes().all(|byte| byte.is_ascii_alphanumeric())).then_some(id)
}

/// What is known of a domain.
#[derive(Debug, Clone)]
struct Known {
    id: String,
    policy: Result<Arc<Policy>, Failure>,
    fetched: Timestamp,
}

impl Known {
    fn age(&self, now: Timestamp) -> Duration {
        Duration::from_millis(u64::try_from(now.0.saturating_sub(self.fetched.0)).unwrap_or(0))
    }

    fn holds(&self, now: Timestamp) -> bool {
        let age = self.age(now);
        match &self.policy {
            Ok(policy) => age < policy.max_age,
            Err(_) => age < PATIENCE,
        }
    }

    /// Whether it need not be fetched again under the same id.
    fn is_fresh(&self, now: Timestamp) -> bool {
        let age = self.age(now);
        match &self.policy {
            Ok(policy) => age < REFRESH.min(policy.max_age / 2).max(PATIENCE.min(policy.max_age)),
            Err(_) => age < PATIENCE,
        }
    }
}

/// The policies of domains.
#[derive(Debug)]
pub(crate) struct Policies {
    dns: Dns,
    https: Https,
    known: Mutex<HashMap<String, Known>>,
    /// Shelves that were read; held while one is read or written.
    read: tokio::sync::Mutex<HashSet<u8>>,
}

impl Policies {
    pub(crate) fn new(dns: Dns, https: Https) -> Self {
        Self { dns, https, known: Mutex::default(), read: tokio::sync::Mutex::default() }
    }

    /// The policy of a domain at this time, where it has one.
    ///
    /// A policy that is remembered holds until its time is over, whatever is wrong with the record or the file by now: whoever can
    /// suppress those must not be able to suppress the policy (section 10.2).
    pub(crate) async fn of(
        &self,
        host: &dyn Host,
        domain: &str,
        now: Timestamp,
    ) -> Option<Result<Arc<Policy>, Failure>> {
        self.read_shelf(host, domain, now).await;
        let known = self.known().get(domain).filter(|known| known.holds(now)).cloned();
        let record = self.record(domain).await;
        match (known, record) {
            (Some(known), Some(id)) if known.id == id && known.is_fresh(now) => Some(known.policy),
            (Some(known), None) => known.policy.is_ok().then_some(known.policy),
            (None, None) => None,
            (known, Some(id)) => {
                let fetched = self.fetch(domain).await;
                let policy = match (fetched, known) {
                    (Err(_), Some(Known { policy: Ok(policy), .. })) => return Some(Ok(policy)),
                    (fetched, _) => fetched,
                };
                self.remember(domain, Known { id, policy: policy.clone(), fetched: now });
                if policy.is_ok() {
                    self.write_shelf(host, domain, now).await;
                }
                Some(policy)
            }
        }
    }

    /// Recalls what was known before the last start, of this domain and those on the same shelf. Once; where the host can't say now, the next
    /// time again.
    async fn read_shelf(&self, host: &dyn Host, domain: &str, now: Timestamp) {
        let number = shelf_of(domain);
        let mut read = self.read.lock().await;
        if read.contains(&number) {
            return;
        }
        let Ok(shelf) = Shelf::read(host, number).await else { return };
        read.insert(number);
        for (domain, Entry { id, policy, fetched }) in shelf.0 {
            let known = Known { id, policy: Ok(Arc::new(policy)), fetched: Timestamp(fetched) };
            // A clock that was set back makes no policy last longer than it says.
            if known.holds(now) && known.fetched <= now && !self.known().contains_key(&domain) {
                self.remember(&domain, known);
            }
        }
    }

    /// Keeps what is known of this domain and those on the same shelf.
    async fn write_shelf(&self, host: &dyn Host, domain: &str, now: Timestamp) {
        let number = shelf_of(domain);
        // Never over one that could not be read so far.
        let read = self.read.lock().await;
        if !read.contains(&number) {
            return;
        }
        let mut shelf = Shelf::default();
        for (domain, known) in
            self.known().iter().filter(|(domain, known)| shelf_of(domain) == number && known.holds(now))
        {
            if let Ok(policy) = &known.policy {
                let entry = Entry { id: known.id.clone(), policy: Policy::clone(policy), fetched: known.fetched.0 };
                shelf.0.insert(domain.clone(), entry);
            }
        }
        shelf.write(host, number).await;
    }

    /// The id that the domain's record gives; `None` where it has none, or none that is right.
    async fn record(&self, domain: &str) -> Option<String> {
        let records = self.dns.txt(&format!("_mta-sts.{domain}")).await.ok()?.records;
        let mut ours = records.iter().filter(|record| record.starts_with("v=STSv1"));
        match (ours.next(), ours.next()) {
            (Some(record), None) => id(record).map(str::to_owned),
            _ => None,
        }
    }

    async fn fetch(&self, domain: &str) -> Result<Arc<Policy>, Failure> {
        let host = format!("mta-sts.{domain}");
        let get = Get { host: &host, path: "/.well-known/mta-sts.txt", max_bytes: MAX_POLICY, redirects: 0 };
        let fetched = match self.https.get(&get).await {
            Ok(fetched) => fetched,
            Err(error) => {
                let certificate = matches!(error, mesyx_net::HttpsError::Tls(..));
                // The error would name the domain.
                tracing::debug!(certificate, "a domain's MTA-STS policy could not be fetched");
                return Err(if certificate { Failure::Certificate } else { Failure::Fetch });
            }
        };
        if fetched.status != 200 {
            return Err(Failure::Fetch);
        }
        if fetched.media_type != "text/plain" {
            return Err(Failure::Invalid);
        }
        Policy::parse(&fetched.body).map(Arc::new).ok_or(Failure::Invalid)
    }

    fn remember(&self, domain: &str, known: Known) {
        let mut all = self.known();
        if all.len() >= MAX_DOMAINS && !all.contains_key(domain) {
            let now = known.fetched;
            all.retain(|_, known| known.holds(now));
            // Where all still hold, the oldest goes.
            if all.len() >= MAX_DOMAINS
                && let Some(oldest) = all.iter().min_by_key(|(_, known)| known.fetched).map(|(name, _)| name.clone())
            {
                all.remove(&oldest);
            }
        }
        all.insert(domain.to_owned(), known);
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_as_published() {
        let policy = Policy::parse(
            b"version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.Example.net.\r\nmax_age: 604800\r\n",
        );
        let policy = policy.unwrap();
        assert_eq!((policy.mode, policy.max_age.as_secs()), (Mode::Enforce, 604_800));
        for (host, allowed) in [
            ("mail.example.com", true),
            ("MAIL.example.com.", true),
            ("x.mail.example.com", false),
            ("a.example.net", true),
            ("a.b.example.net", false),
            ("example.net", false),
            (".example.net", false),
        ] {
            assert_eq!(policy.allows(host), allowed, "{host}");
        }
        assert!(Policy::parse(b"version:STSv1\nmode:none\nmax_age:1").is_some());
        assert_eq!(
            Policy::parse(b"version: STSv1\nmode: testing\nmode: none\nmx: a.b\nmax_age: 99999999").unwrap().mode,
            Mode::Testing
        );
        for bad in [
            &b"mode: enforce\nmx: a.b\nmax_age: 1"[..],
            b"version: STSv2\nmode: enforce\nmx: a.b\nmax_age: 1",
            b"version: STSv1\nmode: enforce\nmax_age: 1",
            b"version: STSv1\nmode: strict\nmx: a.b\nmax_age: 1",
            b"version: STSv1\nmode: enforce\nmx: a.b",
            b"version: STSv1\nmode: enforce\nmx: a.b\nmax_age: -1",
            b"version: STSv1\nmode: enforce\nmx: *\nmax_age: 1",
            b"version: STSv1\nmode: enforce\nmx: a.*.b\nmax_age: 1",
            b"<html>not found</html>",
            b"\xff",
        ] {
            assert_eq!(Policy::parse(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn ids_are_read() {
        assert_eq!(id("v=STSv1; id=20160831085700Z;"), Some("20160831085700Z"));
        assert_eq!(id("v=STSv1;id=1"), Some("1"));
        for bad in ["v=STSv1", "v=STSv1; id=", "v=STSv10; id=1", "id=1; v=STSv1", "v=STSv1; id=a b"] {
            assert_eq!(id(bad), None, "{bad}");
        }
    }
}
