//! DKIM keys: made here, kept as service secrets (`dkim.DOMAIN`), used by the bridge `smtp`.
//!
//! ```text
//!  add --> active                       a domain without keys: they sign at once
//!  rotate --> next -- publish, wait --> activate --> active, and what was active is retired --> drop
//! ```
//!
//! Two kinds for each domain: RSA, which everybody verifies, and Ed25519.

use crate::control::Request;
use crate::exit::{Failure, trying};
use crate::operate;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mesyx_bridge_smtp::dkim::{Algorithm, Key, KeyRing, KeyState, PrivateKey, secret_name};
use mesyx_core::core::Core;
use mesyx_sdk::{ErrorKind, Timestamp};
use rsa::RsaPrivateKey;
use rsa::pkcs8::{EncodePrivateKey, EncodePublicKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Mutex;

/// Bits of an RSA key: what RFC 8301 asks signers for. Longer ones don't fit one UDP answer of DNS, and some hosts can't verify them.
const RSA_BITS: usize = 2048;

/// What can be asked about keys.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", tag = "keys", deny_unknown_fields)]
pub(crate) enum KeysRequest {
    /// → list of [`PublicKey`], of all domains
    List,
    /// Makes keys for the domain, or all domains, that have none. → list of the domains
    Add { domain: Option<String> },
    /// Makes keys that are to follow the active ones. → nothing
    Rotate { domain: String },
    /// Signs with the next keys from now on. → nothing
    Activate { domain: String },
    /// Forgets the retired keys. → nothing
    Drop { domain: String },
}

/// A key without its secret part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PublicKey {
    /// The domain, in A-labels.
    pub(crate) domain: String,
    /// What stands before `._domainkey.DOMAIN`.
    pub(crate) selector: String,
    /// Its kind.
    pub(crate) algorithm: Algorithm,
    /// What it is for now.
    pub(crate) state: KeyState,
    /// The day on which it was made.
    pub(crate) made: String,
    /// The public part, as `p=` has it.
    pub(crate) public: String,
}

impl From<KeysRequest> for Request {
    fn from(request: KeysRequest) -> Self {
        Self::Keys(request)
    }
}

/// Rings are read, changed and written back by one at a time.
static RINGS: Mutex<()> = Mutex::const_new(());

/// Carries out a request.
pub(crate) async fn operate(core: &Core, request: KeysRequest) -> Result<Value, Failure> {
    let _alone = RINGS.lock().await;
    match request {
        KeysRequest::List => serde_json::to_value(list(core).await?).map_err(trying("the answer")),
        KeysRequest::Add { domain } => {
            let domains = match domain {
                Some(domain) => vec![ours(core, &domain)?],
                None => core.domains(),
            };
            let mut made = Vec::new();
            for domain in domains {
                if read(core, &domain).await?.is_none() {
                    write(core, &domain, &KeyRing { keys: new_keys(&[], KeyState::Active).await? }).await?;
                    made.push(domain);
                }
            }
            serde_json::to_value(made).map_err(trying("the answer"))
        }
        KeysRequest::Rotate { domain } => {
            let domain = ours(core, &domain)?;
            let mut ring = existing(core, &domain).await?;
            if ring.keys.iter().any(|key| key.state == KeyState::Next) {
                let text = format!(
                    "{domain} has next keys already: publish them (`mesyx dns {domain}`), then `mesyx dns keys activate {domain}`"
                );
                return Err(Failure::new(text));
            }
            let next = new_keys(&ring.keys, KeyState::Next).await?;
            ring.keys.extend(next);
            write(core, &domain, &ring).await
        }
        KeysRequest::Activate { domain } => {
            let domain = ours(core, &domain)?;
            let mut ring = existing(core, &domain).await?;
            if !ring.keys.iter().any(|key| key.state == KeyState::Next) {
                let text = format!("{domain} has no next keys; make them with `mesyx dns keys rotate {domain}`");
                return Err(Failure::new(text));
            }
            for key in &mut ring.keys {
                match key.state {
                    KeyState::Next => key.state = KeyState::Active,
                    KeyState::Active | KeyState::Retired => {
                        key.state = KeyState::Retired;
                        key.private = None;
                    }
                }
            }
            write(core, &domain, &ring).await
        }
        KeysRequest::Drop { domain } => {
            let domain = ours(core, &domain)?;
            let mut ring = existing(core, &domain).await?;
            ring.keys.retain(|key| key.state != KeyState::Retired);
            write(core, &domain, &ring).await
        }
    }
}

async fn list(core: &Core) -> Result<Vec<PublicKey>, Failure> {
    let mut all = Vec::new();
    for domain in core.domains() {
        let ring = read(core, &domain).await?.unwrap_or_default();
        all.extend(ring.keys.into_iter().map(|key| PublicKey {
            domain: domain.clone(),
            selector: key.selector,
            algorithm: key.algorithm,
            state: key.state,
            made: key.made,
            public: key.public,
        }));
    }
    Ok(all)
}

/// A domain as ours are spelled.
fn ours(core: &Core, domain: &str) -> Result<String, Failure> {
    let name = domain.parse::<mesyx_sdk::Domain>().ok().and_then(|domain| domain.as_name().map(str::to_owned));
    let known = name.filter(|name| core.domains().contains(name));
    known.ok_or_else(|| Failure::new(format!("{domain} is none of the configured domains")))
}

async fn read(core: &Core, domain: &str) -> Result<Option<KeyRing>, Failure> {
    match operate::secret(core, &secret_name(domain)).await {
        Ok(secret) => Ok(Some(KeyRing::from_secret(&secret).map_err(trying(format!("the DKIM keys of {domain}")))?)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn existing(core: &Core, domain: &str) -> Result<KeyRing, Failure> {
    let absent = || Failure::new(format!("{domain} has no DKIM keys; make them with `mesyx dns keys add {domain}`"));
    read(core, domain).await?.ok_or_else(absent)
}

async fn write(core: &Core, domain: &str, ring: &KeyRing) -> Result<Value, Failure> {
    let secret = ring.to_secret().map_err(trying(format!("the DKIM keys of {domain}")))?;
    operate::set_secret(core, &secret_name(domain), Some(secret)).await
}

/// One key of each kind, on a thread of its own: an RSA key takes a moment.
async fn new_keys(known: &[Key], state: KeyState) -> Result<Vec<Key>, Failure> {
    let day = Timestamp::now().utc().date();
    let selectors: Vec<String> = known.iter().map(|key| key.selector.clone()).collect();
    let made = move || {
        [Algorithm::RsaSha256, Algorithm::Ed25519Sha256]
            .into_iter()
            .map(|algorithm| {
                let (private, public) = generate(algorithm)?;
                let selector = selector(algorithm, day, &selectors);
                let private = Some(private);
                Ok(Key { selector, algorithm, state, made: day.to_string(), public, private })
            })
            .collect()
    };
    tokio::task::spawn_blocking(made).await.map_err(trying("making DKIM keys"))?
}

/// `rsa-20261123`; on a day with several, `rsa-20261123b` and so on.
fn selector(algorithm: Algorithm, day: time::Date, taken: &[String]) -> String {
    let base = format!("{}-{:04}{:02}{:02}", algorithm.key_type(), day.year(), u8::from(day.month()), day.day());
    let free = |selector: &String| !taken.contains(selector);
    let letters = ('b'..='z').map(|letter| format!("{base}{letter}"));
    let numbers = (1_u32..).map(|number| format!("{base}x{number}"));
    std::iter::once(base.clone()).chain(letters).chain(numbers).find(free).unwrap_or(base)
}

fn generate(algorithm: Algorithm) -> Result<(PrivateKey, String), Failure> {
    let failed = "making a DKIM key";
    match algorithm {
        Algorithm::RsaSha256 => {
            let key = RsaPrivateKey::new(&mut rsa::rand_core::OsRng, RSA_BITS).map_err(trying(failed))?;
            let private = key.to_pkcs8_der().map_err(trying(failed))?;
            let public = key.to_public_key().to_public_key_der().map_err(trying(failed))?;
            Ok((PrivateKey::from_der(private.as_bytes()), STANDARD.encode(public.as_bytes())))
        }
        Algorithm::Ed25519Sha256 => {
            let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(trying(failed))?;
            let private = zeroize::Zeroizing::new(key.serialize_der());
            Ok((PrivateKey::from_der(&private), STANDARD.encode(key.public_key_raw())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_never_used_twice() {
        let day = time::Date::from_calendar_date(2026, time::Month::November, 3).unwrap();
        let mut taken = Vec::new();
        for _ in 0..60 {
            let new = selector(Algorithm::RsaSha256, day, &taken);
            assert!(!taken.contains(&new) && new.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{new}");
            taken.push(new);
        }
        assert_eq!(taken[0], "rsa-20261103");
        assert_eq!(selector(Algorithm::Ed25519Sha256, day, &taken), "ed25519-20261103");
    }
}
