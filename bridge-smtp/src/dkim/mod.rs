//! Signing mail that leaves with DKIM (RFC 6376), so that others can tell that it is ours.
//!
//! ```text
//!  content --> From's domain --> keys of it, or of the nearest domain above it that is ours (Host::secret, a minute's memory)
//!          --> relaxed/relaxed --> one DKIM-Signature for each key: Ed25519 (RFC 8463) and RSA --> put in front
//! ```
//!
//! What always holds:
//! - Fields that a reader sees or that say how a message is read are signed once more than they occur, so that none can be
//!   added under the signature; the whole body is signed (no `l=`).
//! - What was signed is what is sent: nothing may change the bytes between [`Dkim::sign`] and the network.
//! - A message without a key of ours for its author's domain leaves unsigned, never signed for another domain.

mod canonical;
mod config;
mod keys;
mod signature;

pub use config::{Algorithm, DkimConfig};
pub use keys::{Key, KeyError, KeyRing, KeyState, PrivateKey};

use keys::Signer;
use mail_auth::AuthenticatedMessage;
use mesyx_sdk::{Content, Domain, Error, ErrorKind, Host, Timestamp};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long keys, and the knowledge that there are none, are used before they are asked for again: so long a change of
/// keys takes to be followed.
const FRESH: Duration = Duration::from_secs(60);
/// Domains remembered. Senders are users of ours, so there are as many as we have domains; notices name the host.
const REMEMBERED: usize = 1000;
/// Messages above this many bytes are signed on a thread for work that blocks: hashing 256 KiB takes a millisecond.
const SMALL: usize = 256 << 10;
/// How many domains above the author's are tried: `a.b.c.example.org` finds `example.org`.
const ABOVE: usize = 4;

/// The service secret that holds a domain's keys, a [`KeyRing`]. The bridge needs the grant `secret:dkim.*`.
#[must_use]
pub fn secret_name(domain: &str) -> String {
    format!("dkim.{domain}")
}

/// Signs what leaves. One for the life of the bridge.
pub struct Dkim {
    config: DkimConfig,
    known: Mutex<HashMap<String, Known>>,
}

/// What was found out about a domain.
struct Known {
    until: Instant,
    /// Empty where there are no keys.
    signers: Arc<[Signer]>,
}

impl std::fmt::Debug for Dkim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dkim").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Dkim {
    /// Without keys yet.
    #[must_use]
    pub fn new(config: DkimConfig) -> Self {
        Self { config, known: Mutex::default() }
    }

    /// The `DKIM-Signature` fields to put in front of exactly `content`, each with its CRLF; empty where its author's
    /// domain has no keys here, or signing is turned off.
    ///
    /// `content` must be what is sent, to the byte, before dots are doubled.
    ///
    /// # Errors
    /// Where there are keys that can't be had or used now, so that the message must wait: unsigned it would be refused
    /// elsewhere, for good.
    pub async fn sign(&self, host: &dyn Host, content: &Content) -> Result<Vec<u8>, Error> {
        if !self.config.sign {
            return Ok(Vec::new());
        }
        let Some(author) = author_domain(content) else {
            metrics::counter!("mesyx_dkim_unsigned_total", "why" => "no author").increment(1);
            return Ok(Vec::new());
        };
        let Some((domain, signers)) = self.signers(host, &author).await? else {
            metrics::counter!("mesyx_dkim_unsigned_total", "why" => "no key").increment(1);
            return Ok(Vec::new());
        };
        let now = Timestamp::now().0.div_euclid(1000);
        let signed = if content.len() <= SMALL {
            signature::sign(&signers, &domain, content, now)
        } else {
            let content = content.clone();
            let work = tokio::task::spawn_blocking(move || signature::sign(&signers, &domain, &content, now));
            work.await.map_err(|error| Error::new(ErrorKind::Unavailable, format!("signing with DKIM: {error}")))?
        };
        let signed =
            signed.map_err(|error| Error::new(ErrorKind::Unavailable, format!("signing with DKIM: {error}")))?;
        metrics::counter!("mesyx_dkim_signed_total").increment(1);
        Ok(signed)
    }

    /// The keys of the nearest domain, `author` itself or one above it, that has any, with that domain.
    async fn signers(&self, host: &dyn Host, author: &str) -> Result<Option<(String, Arc<[Signer]>)>, Error> {
        let mut domain = author;
        for _ in 0..=ABOVE {
            let signers = self.of_domain(host, domain).await?;
            if !signers.is_empty() {
                return Ok(Some((domain.to_owned(), signers)));
            }
            match domain.split_once('.') {
                Some((_, above)) if above.contains('.') => domain = above,
                _ => break,
            }
        }
        Ok(None)
    }

    async fn of_domain(&self, host: &dyn Host, domain: &str) -> Result<Arc<[Signer]>, Error> {
        let now = Instant::now();
        if let Some(known) = self.known().get(domain)
            && known.until > now
        {
            return Ok(Arc::clone(&known.signers));
        }
        let signers: Arc<[Signer]> = match host.secret(&secret_name(domain)).await {
            Ok(secret) => {
                let ring =
                    KeyRing::from_secret(&secret).and_then(|ring| ring.signers(&self.config.algorithms)).map_err(
                        |error| Error::new(ErrorKind::Unreadable, format!("the DKIM keys of {domain}: {error}")),
                    )?;
                ring.into()
            }
            // Whom the operator gives no keys signs nothing; the refused call is in the log and the metrics.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotGranted) => Arc::new([]),
            Err(error) => return Err(error),
        };
        let mut known = self.known();
        if known.len() >= REMEMBERED {
            known.retain(|_, known| known.until > now);
            if known.len() >= REMEMBERED {
                known.clear();
            }
        }
        known.insert(domain.to_owned(), Known { until: now + FRESH, signers: Arc::clone(&signers) });
        Ok(signers)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The domain of the first address in `From`, in A-labels. `None` where there is not exactly one such field, or it has no
/// address of a domain: such a message has no author to sign for.
fn author_domain(content: &[u8]) -> Option<String> {
    let (fields, _) = canonical::split(content);
    let mut from = fields.iter().filter(|field| field.is("from"));
    let (field, None) = (from.next()?, from.next()) else { return None };
    // The parser is given this one field alone, so that nothing else of the message is parsed here.
    let alone = [b"From:", field.value, b"\r\n"].concat();
    let parsed = AuthenticatedMessage::parse(&alone)?;
    let (_, domain) = parsed.from.first()?.rsplit_once('@')?;
    match domain.parse().ok()? {
        Domain::Name(name) => Some(name.to_string()),
        Domain::Literal(_) => None,
    }
}

#[cfg(test)]
mod tests;
