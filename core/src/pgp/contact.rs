//! A correspondent: certificates with where they came from, policy, pin.
//!
//! What must hold, whatever is learnt and in whatever order:
//! - a pinned key is used or nothing is: another one is kept aside, and told of;
//! - what the user set is not replaced by what was found;
//! - learning the same twice changes nothing, and what is older than what is known changes nothing.

use super::Policy;
use super::certificate::{self, Usable};
use minicbor::{Decode, Encode};
use openpgp::Cert;
use openpgp::parse::Parse;
use sequoia_openpgp as openpgp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where a certificate came from, the least trusted first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cbor(index_only)]
pub enum Source {
    /// It was attached to a message. Offered, never used by itself.
    #[n(0)]
    Seen,
    /// From an Autocrypt header.
    #[n(1)]
    Autocrypt,
    /// From the web key directory of the address's domain.
    #[n(2)]
    Wkd,
    /// Its fingerprint was compared by the user.
    #[n(3)]
    Verified,
    /// The user gave it.
    #[n(4)]
    User,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Seen => "seen",
            Self::Autocrypt => "autocrypt",
            Self::Wkd => "wkd",
            Self::Verified => "verified",
            Self::User => "user",
        })
    }
}

/// A certificate of a correspondent.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Known {
    /// OpenPGP packets, cut to what is needed.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub(crate) certificate: Vec<u8>,
    /// Its fingerprint in upper-case hexadecimal digits.
    #[n(1)]
    pub(crate) fingerprint: String,
    #[n(2)]
    pub(crate) source: Source,
    /// When it was first learnt of, in seconds since 1970.
    #[n(3)]
    pub(crate) first: i64,
    /// The latest time that its source speaks of it: the date of a message, or when a directory was asked.
    #[n(4)]
    pub(crate) last: i64,
    /// Its owner wishes encryption by default (`prefer-encrypt=mutual`).
    #[n(5)]
    pub(crate) mutual: bool,
    /// The message that brought it was shown to come from the address's domain (DKIM or DMARC).
    #[n(6)]
    pub(crate) authenticated: bool,
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fingerprint, source, first, last, mutual, authenticated, certificate } = self;
        let (mutual, authenticated) =
            (if *mutual { ", mutual" } else { "" }, if *authenticated { ", authenticated" } else { "" });
        write!(
            f,
            "Known({fingerprint}, {source}, {first} to {last}{mutual}{authenticated}, {} bytes)",
            certificate.len()
        )
    }
}

impl Known {
    /// A certificate, learnt at a time.
    ///
    /// # Errors
    /// Where it can't be written or is too long.
    pub(crate) fn new(certificate: &Cert, source: Source, at: i64) -> Result<Self, String> {
        Ok(Self {
            certificate: certificate::encode(certificate)?,
            fingerprint: certificate.fingerprint().to_hex(),
            source,
            first: at,
            last: at,
            mutual: false,
            authenticated: false,
        })
    }

    pub(crate) fn cert(&self) -> Result<Cert, String> {
        Cert::from_bytes(&self.certificate).map_err(|error| format!("the stored certificate is damaged: {error}"))
    }
}

/// A correspondent.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Contact {
    #[n(0)]
    version: u32,
    /// See [`certificate::canonical`].
    #[n(1)]
    pub(crate) address: String,
    #[n(2)]
    pub(crate) policy: Option<Policy>,
    /// The fingerprint of the only certificate to use.
    #[n(3)]
    pub(crate) pin: Option<String>,
    /// At most [`Contact::MOST`].
    #[n(4)]
    pub(crate) certificates: Vec<Known>,
    /// Others that were found and not taken, because of the pin or because the message that brought them was worse authenticated.
    #[n(5)]
    pub(crate) aside: Vec<Known>,
}

/// What learning came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Learnt {
    /// It was known, or is older than what is.
    Nothing,
    /// A certificate where none of its source was.
    New,
    /// The same certificate, with something new in it or about it.
    Renewed,
    /// Another certificate took the place of this one.
    Changed(String),
    /// Another certificate than the one in use was found, and not taken.
    Aside,
}

/// What to do with a message to a correspondent.
#[derive(Debug)]
pub(crate) enum Choice {
    /// In clear.
    Plain,
    /// Encrypted to this certificate.
    Encrypt(Usable),
    /// Held: why.
    Hold(String),
}

const VERSION: u32 = 1;

impl Contact {
    /// Most certificates of one contact, and most that are kept aside.
    pub(crate) const MOST: usize = 6;

    pub(crate) fn new(address: &str) -> Self {
        let (certificates, aside) = (Vec::new(), Vec::new());
        Self { version: VERSION, address: address.to_owned(), policy: None, pin: None, certificates, aside }
    }

    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, String> {
        minicbor::to_vec(self).map_err(|error| error.to_string())
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let contact: Self = minicbor::decode(bytes).map_err(|error| error.to_string())?;
        if contact.version != VERSION {
            return Err("it was written by a newer Mesyx: use the newer program".to_owned());
        }
        Ok(contact)
    }

    /// The certificate to use: the pinned one, or the most trusted, the newest where two are trusted alike. Those only seen don't count.
    pub(crate) fn best(&self) -> Option<&Known> {
        let usable = self.certificates.iter().filter(|known| known.source > Source::Seen);
        match &self.pin {
            Some(pin) => self.certificates.iter().find(|known| known.fingerprint == *pin),
            None => usable.max_by_key(|known| (known.source, known.last)),
        }
    }

    /// What to do with a message to this contact now (seconds since 1970).
    pub(crate) fn choose(&self, policy: Policy, now: i64) -> Choice {
        let address = &self.address;
        if policy == Policy::Off {
            return Choice::Plain;
        }
        if let Some(best) = self.best() {
            return match best.cert().and_then(|certificate| certificate::usable(&certificate, now)) {
                Ok(usable) => Choice::Encrypt(usable),
                Err(why) => Choice::Hold(format!(
                    "the key {} of {address} can't be used: {why}; get a newer one from its owner and give it with `mesyx contact import`",
                    best.fingerprint
                )),
            };
        }
        if let Some(pin) = &self.pin {
            return Choice::Hold(format!(
                "{address} is pinned to the key {pin}, which is not here; give it with `mesyx contact import`, or take the pin away with `mesyx contact pin --none`"
            ));
        }
        match policy {
            Policy::Require if !self.certificates.is_empty() => Choice::Hold(format!(
                "messages to {address} must be encrypted, and its only key came as an attachment, which proves nothing; compare its fingerprint and say so with `mesyx contact verify`"
            )),
            Policy::Require => Choice::Hold(format!(
                "messages to {address} must be encrypted, and no key of it is known; give one with `mesyx contact import`"
            )),
            _ => Choice::Plain,
        }
    }

    /// Takes in a certificate that was found or given.
    pub(crate) fn learn(&mut self, found: &Known) -> Learnt {
        if let Some(known) = self.certificates.iter_mut().find(|known| known.fingerprint == found.fingerprint) {
            let renewed = renew(known, found);
            let learnt = if found.source > known.source { self.raise(found) } else { Learnt::Nothing };
            return if learnt == Learnt::Nothing && renewed { Learnt::Renewed } else { learnt };
        }
        if let Some(pin) = &self.pin
            && *pin != found.fingerprint
        {
            return self.put_aside(found);
        }
        match self.place_of(found) {
            Place::Free => self.add(found),
            Place::Older => Learnt::Nothing,
            Place::Better => self.put_aside(found),
            Place::Yields(before) => {
                self.certificates.retain(|known| known.fingerprint != before);
                match self.add(found) {
                    Learnt::New => Learnt::Changed(before),
                    other => other,
                }
            }
        }
    }

    /// A known certificate comes from a better source than before.
    fn raise(&mut self, found: &Known) -> Learnt {
        let place = self.place_of(found);
        let pinned_to_another = self.pin.as_ref().is_some_and(|pin| *pin != found.fingerprint);
        let learnt = match place {
            Place::Free => Learnt::Renewed,
            Place::Yields(before) if !pinned_to_another => {
                self.certificates.retain(|known| known.fingerprint != before);
                Learnt::Changed(before)
            }
            _ => return Learnt::Nothing,
        };
        if let Some(known) = self.certificates.iter_mut().find(|known| known.fingerprint == found.fingerprint) {
            (known.source, known.last) = (found.source, found.last);
            (known.mutual, known.authenticated) = (found.mutual, found.authenticated);
        }
        learnt
    }

    /// Directories and Autocrypt headers speak of one certificate at a time: whether this one takes the place of that which has it.
    fn place_of(&self, found: &Known) -> Place {
        if !matches!(found.source, Source::Autocrypt | Source::Wkd) {
            return Place::Free;
        }
        let other = |known: &&Known| known.source == found.source && known.fingerprint != found.fingerprint;
        match self.certificates.iter().find(other) {
            None => Place::Free,
            Some(known) if found.last <= known.last => Place::Older,
            Some(known) if known.authenticated && !found.authenticated => Place::Better,
            Some(known) if Some(&known.fingerprint) == self.pin.as_ref() => Place::Better,
            Some(known) => Place::Yields(known.fingerprint.clone()),
        }
    }

    fn add(&mut self, found: &Known) -> Learnt {
        if self.certificates.len() >= Self::MOST {
            let pin = self.pin.as_deref();
            let spare =
                self.certificates.iter().enumerate().filter(|(_, known)| Some(known.fingerprint.as_str()) != pin);
            let Some((at, least)) = spare.min_by_key(|(_, known)| (known.source, known.last)) else {
                return Learnt::Nothing;
            };
            if (least.source, least.last) >= (found.source, found.last) {
                return Learnt::Nothing;
            }
            self.certificates.remove(at);
        }
        self.aside.retain(|aside| aside.fingerprint != found.fingerprint);
        self.certificates.push(found.clone());
        Learnt::New
    }

    fn put_aside(&mut self, found: &Known) -> Learnt {
        if let Some(known) = self.aside.iter_mut().find(|known| known.fingerprint == found.fingerprint) {
            return if renew(known, found) { Learnt::Renewed } else { Learnt::Nothing };
        }
        if self.aside.len() >= Self::MOST {
            let oldest = self.aside.iter().enumerate().min_by_key(|(_, known)| (known.source, known.last));
            let Some((at, oldest)) = oldest else { return Learnt::Nothing };
            if (oldest.source, oldest.last) >= (found.source, found.last) {
                return Learnt::Nothing;
            }
            self.aside.remove(at);
        }
        self.aside.push(found.clone());
        Learnt::Aside
    }

    /// Joins another record of the same address, as two instances may have made one each.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.policy = match (self.policy, other.policy) {
            (Some(Policy::Require), _) | (_, Some(Policy::Require)) => Some(Policy::Require),
            (one, other) => one.or(other),
        };
        // Two pins are a contradiction that only the user can solve; the one that stands here goes on to hold.
        if self.pin.is_none() && other.pin.is_some() {
            self.pin.clone_from(&other.pin);
        }
        for known in &other.certificates {
            self.learn(known);
        }
        for known in &other.aside {
            if !self.certificates.iter().any(|other| other.fingerprint == known.fingerprint) {
                self.put_aside(known);
            }
        }
    }
}

/// Whether a certificate takes the place that its source has for one.
enum Place {
    /// It is free.
    Free,
    /// A newer one has it.
    Older,
    /// A better proven one has it, or the pinned one.
    Better,
    /// The one of this fingerprint gives way.
    Yields(String),
}

/// Takes what is new of the same certificate; whether there was anything. What a worse source says of it makes it no newer: anybody could
/// bring an old key up again.
fn renew(known: &mut Known, found: &Known) -> bool {
    let before = known.clone();
    if known.certificate != found.certificate
        && let Some(merged) = certificate::merge(&known.certificate, &found.certificate)
    {
        known.certificate = merged;
    }
    if found.source == known.source {
        if found.last > known.last {
            known.mutual = found.mutual;
        }
        known.authenticated |= found.authenticated;
        known.last = known.last.max(found.last);
    }
    known.first = known.first.min(found.first);
    *known != before
}
