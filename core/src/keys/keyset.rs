//! One keyset: which messages it is for, and the certificates that they are sealed to.

use super::{Span, SpanError};
use crate::id::KeysetId;
use crate::seal::SealError;
use mesyx_sdk::{Importance, Timestamp};
use minicbor::{Decode, Encode};
use openpgp::Cert;
use openpgp::cert::Preferences;
use openpgp::cert::amalgamation::ValidAmalgamation;
use openpgp::packet::{Key, key};
use openpgp::parse::Parse;
use openpgp::policy::StandardPolicy;
use openpgp::serialize::MarshalInto;
use openpgp::types::RevocationStatus;
use sequoia_openpgp as openpgp;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A keyset, public parts only. Messages are sealed to every certificate in it; each alone opens them.
#[derive(Clone)]
pub struct Keyset {
    /// Its id.
    pub id: KeysetId,
    /// The name that its user gave it, 1 to 64 characters.
    pub name: String,
    /// When messages for it arrive.
    pub span: Span,
    /// How important they are.
    pub importance: Levels,
    /// The day (days since 1970-01-01, UTC) from which nothing is sealed to it any more; what was sealed to it stays.
    retired: Option<i32>,
    certificates: Vec<Cert>,
    digest: [u8; 32],
}

/// A set of levels of importance; never empty.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Levels(u8);

impl Levels {
    /// Every level.
    pub const ALL: Self = Self(0b111);

    /// These levels; `None` where there are none.
    #[must_use]
    pub fn of(levels: &[Importance]) -> Option<Self> {
        let bits = levels.iter().fold(0, |bits, level| bits | 1 << *level as u8);
        (bits != 0).then_some(Self(bits))
    }

    /// Whether a level is among them.
    #[must_use]
    pub const fn contains(self, level: Importance) -> bool {
        self.0 & 1 << level as u8 != 0
    }

    /// A bit for each level: 1 low, 2 normal, 4 high.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The levels of these bits; `None` where there are none, or others.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits != 0 && bits <= Self::ALL.0 { Some(Self(bits)) } else { None }
    }

    /// How many there are, 1 to 3.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// The levels, lowest first.
    pub fn iter(self) -> impl Iterator<Item = Importance> {
        [Importance::Low, Importance::Normal, Importance::High].into_iter().filter(move |level| self.contains(*level))
    }
}

impl fmt::Debug for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// The keys that a keyset's messages are sealed to now, and how.
#[derive(Debug)]
pub struct Recipients {
    /// One encryption key of each usable certificate.
    pub(crate) keys: Vec<Key<key::PublicParts, key::UnspecifiedRole>>,
    /// All of them read SEIPD version 2.
    pub(crate) v2: bool,
}

/// A stored record that can't be read: why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// It is not what was written.
    #[error("the stored {0} is damaged: {1}")]
    Damaged(&'static str, String),
    /// It was written by a newer Mesyx.
    #[error("the stored {0} was written by a newer Mesyx: use the newer program")]
    Newer(&'static str),
    /// Its span makes no sense.
    #[error(transparent)]
    Span(#[from] SpanError),
    /// A certificate can't be used in a keyset: why.
    #[error("the certificate can't be in a keyset: {0}")]
    Certificate(&'static str),
}

/// How a keyset is stored.
#[derive(Encode, Decode)]
struct Record {
    #[n(0)]
    version: u32,
    #[n(1)]
    id: KeysetId,
    #[n(2)]
    name: String,
    #[n(3)]
    span: Span,
    #[n(4)]
    levels: u8,
    #[n(5)]
    certificates: Vec<minicbor::bytes::ByteVec>,
    #[n(6)]
    retired: Option<i32>,
}

const VERSION: u32 = 1;
/// Most certificates in a keyset, so that sealing one message costs a bounded time.
const MOST_CERTIFICATES: usize = 16;
/// Longest certificate, in bytes.
const LONGEST_CERTIFICATE: usize = 256 * 1024;

impl Keyset {
    /// A keyset. Secret parts in the certificates are stripped.
    ///
    /// # Errors
    /// No certificates or more than 16, a name of other than 1 to 64 characters or with control characters, a span of no time.
    pub fn new(
        id: KeysetId,
        name: &str,
        span: Span,
        importance: Levels,
        certificates: Vec<Cert>,
    ) -> Result<Self, RecordError> {
        Self::with_state(id, name, span, importance, certificates, None)
    }

    fn with_state(
        id: KeysetId,
        name: &str,
        span: Span,
        importance: Levels,
        certificates: Vec<Cert>,
        retired: Option<i32>,
    ) -> Result<Self, RecordError> {
        let length = name.chars().count();
        if !(1..=64).contains(&length) || name.contains(char::is_control) {
            return Err(RecordError::Damaged("keyset", "a name has 1 to 64 characters, none of them control".into()));
        }
        if certificates.is_empty() || certificates.len() > MOST_CERTIFICATES {
            return Err(RecordError::Certificate("a keyset has 1 to 16 certificates"));
        }
        let certificates: Vec<Cert> = certificates.into_iter().map(Cert::strip_secret_key_material).collect();
        let mut keyset = Self {
            id,
            name: name.to_owned(),
            span: span.checked()?,
            importance,
            retired,
            certificates,
            digest: [0; 32],
        };
        let digest = ring::digest::digest(&ring::digest::SHA256, &keyset.encode()?);
        keyset.digest.copy_from_slice(digest.as_ref());
        Ok(keyset)
    }

    /// The same keyset, retired on a day, or in use again where it is `None`.
    ///
    /// # Errors
    /// As [`Keyset::new`].
    pub fn retire(&self, day: Option<i32>) -> Result<Self, RecordError> {
        let Self { id, name, span, importance, certificates, .. } = self;
        Self::with_state(*id, name, *span, *importance, certificates.clone(), day)
    }

    /// The same keyset with other certificates.
    ///
    /// # Errors
    /// As [`Keyset::new`].
    pub fn with_certificates(&self, certificates: Vec<Cert>) -> Result<Self, RecordError> {
        let Self { id, name, span, importance, retired, .. } = self;
        Self::with_state(*id, name, *span, *importance, certificates, *retired)
    }

    /// The same keyset under another name, for other messages.
    ///
    /// # Errors
    /// As [`Keyset::new`].
    pub fn change(&self, name: &str, span: Span, importance: Levels) -> Result<Self, RecordError> {
        let Self { id, certificates, retired, .. } = self;
        Self::with_state(*id, name, span, importance, certificates.clone(), *retired)
    }

    /// Whether nothing is sealed to it any more.
    #[must_use]
    pub const fn is_retired(&self) -> bool {
        self.retired.is_some()
    }

    /// The day from which nothing is sealed to it any more: days since 1970-01-01, UTC.
    #[must_use]
    pub const fn retired(&self) -> Option<i32> {
        self.retired
    }

    /// The public certificates that messages are sealed to.
    #[must_use]
    pub fn certificates(&self) -> &[Cert] {
        &self.certificates
    }

    /// SHA-256 of the record as made or read: changes whenever anything of the keyset does.
    pub(crate) const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The record that the store keeps.
    ///
    /// # Errors
    /// A certificate that can't be written; never for one that was read.
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        let damaged = |error: &dyn fmt::Display| RecordError::Damaged("keyset", error.to_string());
        let mut certificates = Vec::new();
        for certificate in &self.certificates {
            let bytes = certificate.to_vec().map_err(|error| damaged(&error))?;
            if bytes.len() > LONGEST_CERTIFICATE {
                return Err(RecordError::Certificate(
                    "it is longer than 256 KiB; remove signatures that others made on it",
                ));
            }
            certificates.push(bytes.into());
        }
        let Self { id, name, span, importance, retired, .. } = self;
        let record = Record {
            version: VERSION,
            id: *id,
            name: name.clone(),
            span: *span,
            levels: importance.0,
            certificates,
            retired: *retired,
        };
        minicbor::to_vec(record).map_err(|error| damaged(&error))
    }

    /// Reads a record.
    ///
    /// # Errors
    /// Where it is damaged, or newer than this program.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let damaged = |error: &dyn fmt::Display| RecordError::Damaged("keyset", error.to_string());
        let record: Record = minicbor::decode(bytes).map_err(|error| damaged(&error))?;
        if record.version != VERSION {
            return Err(RecordError::Newer("keyset"));
        }
        if record.levels == 0 || record.levels > Levels::ALL.0 {
            return Err(damaged(&"it has no level of importance"));
        }
        if record.certificates.len() > MOST_CERTIFICATES {
            return Err(RecordError::Certificate("a keyset has 1 to 16 certificates"));
        }
        let certificates = record
            .certificates
            .iter()
            .map(|bytes| Cert::from_bytes(&bytes[..]).map_err(|error| damaged(&error)))
            .collect::<Result<_, _>>()?;
        let levels = Levels(record.levels);
        Self::with_state(record.id, &record.name, record.span, levels, certificates, record.retired)
    }

    /// The keys to seal to at an instant: of each certificate that is neither expired nor revoked the newest encryption key that is
    /// neither, those meant for storage first. Certificates without one are left out, with a warning in the log.
    ///
    /// # Errors
    /// [`SealError::NoCertificate`] where no certificate is left.
    pub fn recipients(&self, at: Timestamp) -> Result<Recipients, SealError> {
        let mut recipients = Recipients { keys: Vec::new(), v2: true };
        let mut refused = Vec::new();
        for certificate in &self.certificates {
            match encryption_key(certificate, at) {
                Ok((key, v2)) => {
                    recipients.keys.push(key);
                    recipients.v2 &= v2;
                }
                Err(why) => refused.push(format!("{}: {why}", certificate.fingerprint())),
            }
        }
        let why = refused.join("; ");
        if recipients.keys.is_empty() {
            return Err(SealError::NoCertificate { keyset: self.id, name: self.name.clone(), why });
        }
        if !refused.is_empty() {
            tracing::warn!(keyset = %self.id, %why, "sealed without some of the keyset's certificates");
        }
        Ok(recipients)
    }

    /// When the first of its certificates that are usable `at` expires, where one does: what to warn of ahead.
    #[must_use]
    pub fn expires(&self, at: Timestamp) -> Option<Timestamp> {
        self.certificates.iter().filter_map(|certificate| certificate_expiry(certificate, at)).min()
    }

    /// Whether a message could be sealed to it at an instant: whether any certificate is neither expired nor revoked.
    #[must_use]
    pub fn is_usable(&self, at: Timestamp) -> bool {
        self.certificates.iter().any(|certificate| encryption_key(certificate, at).is_ok())
    }
}

/// When a certificate that is usable `at` can't be sealed to any more, where that is known: its own expiry, or that of its last
/// encryption key.
pub(crate) fn certificate_expiry(certificate: &Cert, at: Timestamp) -> Option<Timestamp> {
    let policy = StandardPolicy::new();
    let valid = certificate.with_policy(&policy, system_time(at)).ok()?;
    let certificate_ends = valid.primary_key().key_expiration_time();
    let keys = valid.keys().for_storage_encryption().for_transport_encryption().alive().revoked(false);
    let key_ends =
        keys.map(|key| key.key_expiration_time()).collect::<Option<Vec<_>>>().and_then(|ends| ends.into_iter().max());
    let end = [certificate_ends, key_ends].into_iter().flatten().min()?;
    let seconds = end.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Some(Timestamp::from_seconds(i64::try_from(seconds).unwrap_or(i64::MAX)))
}

impl fmt::Debug for Keyset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let certificates: Vec<_> = self.certificates.iter().map(|cert| cert.fingerprint().to_hex()).collect();
        f.debug_struct("Keyset")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("span", &self.span)
            .field("importance", &self.importance)
            .field("certificates", &certificates)
            .finish()
    }
}

fn system_time(at: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(at.0).unwrap_or(0))
}

pub(crate) type EncryptionKey = Key<key::PublicParts, key::UnspecifiedRole>;

/// The key to seal to of one certificate, and whether its owner reads SEIPD version 2.
pub(crate) fn encryption_key(certificate: &Cert, at: Timestamp) -> Result<(EncryptionKey, bool), String> {
    let policy = StandardPolicy::new();
    let valid = certificate.with_policy(&policy, system_time(at)).map_err(|error| error.to_string())?;
    if let RevocationStatus::Revoked(_) = valid.revocation_status() {
        return Err("it is revoked".to_owned());
    }
    valid.alive().map_err(|error| format!("it is not valid now: {error}"))?;
    let usable = || valid.keys().supported().alive().revoked(false);
    let newest = |key: Option<openpgp::cert::amalgamation::key::ValidErasedKeyAmalgamation<'_, key::PublicParts>>| {
        key.map(|key| (key.key().clone(), key.valid_cert().features().is_some_and(|f| f.supports_seipdv2())))
    };
    let storage = usable().for_storage_encryption().max_by_key(|key| key.key().creation_time());
    let key = newest(storage)
        .or_else(|| newest(usable().for_transport_encryption().max_by_key(|key| key.key().creation_time())));
    key.ok_or_else(|| "it has no encryption key that is valid now and that this program can use".to_owned())
}
