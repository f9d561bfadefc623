//! All keysets of one user, and the choice among them.

use super::{Keyset, RecordError, Span};
use crate::id::KeysetId;
use mesyx_sdk::{Importance, Timestamp};
use openpgp::parse::Parse;
use openpgp::{Cert, Fingerprint};
use sequoia_openpgp as openpgp;
use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;

/// A user's public keys: the identity and the keysets, checked so that every message has exactly one.
///
/// Of the keysets that cover a message, the one for the fewest levels of importance wins; among those the shortest span; and a span
/// that stands still before one that moves with the time. Where that leaves two, the ring can't be made.
///
/// A keyset that was retired is never chosen; it is kept because messages are sealed to it.
#[derive(Clone)]
pub struct Keyring {
    identity: Arc<Cert>,
    /// Identities from before a rotation, the latest first.
    earlier: Vec<Arc<Cert>>,
    /// The most specific first; the default keyset last.
    keysets: Vec<Arc<Keyset>>,
    retired: Vec<Arc<Keyset>>,
    default: Arc<Keyset>,
}

/// Why keysets make no ring.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// None covers all time and every importance.
    #[error("there is no default keyset: one must have the span `always` and every level of importance")]
    NoDefault,
    /// Two are equally specific and cover the same messages.
    #[error(
        "keysets {0} and {1} are equally specific and cover the same messages: give one a shorter span or fewer levels of importance"
    )]
    Tie(String, String),
    /// Two have one id or one name.
    #[error("two keysets are named {0}")]
    Twice(String),
    /// A stored record can't be read.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// The smaller the more specific.
pub(crate) fn rank(keyset: &Keyset) -> (u32, u64, bool) {
    (keyset.importance.count(), keyset.span.length(), keyset.span.rolls())
}

impl Keyring {
    /// A ring of an identity certificate and keysets.
    ///
    /// # Errors
    /// Where there is no default keyset, or two would cover a message equally well.
    pub fn new(identity: Cert, keysets: Vec<Keyset>) -> Result<Self, KeyringError> {
        let keysets = keysets.into_iter().map(Arc::new);
        let (retired, mut keysets): (Vec<_>, Vec<_>) = keysets.partition(|keyset: &Arc<Keyset>| keyset.is_retired());
        keysets.sort_by_key(|keyset| rank(keyset));
        if let Some(twice) = retired.iter().find(|one| keysets.iter().any(|other| other.id == one.id)) {
            return Err(KeyringError::Twice(twice.name.clone()));
        }
        for (index, one) in keysets.iter().enumerate() {
            for other in &keysets[index + 1..] {
                if one.id == other.id || one.name == other.name {
                    return Err(KeyringError::Twice(one.name.clone()));
                }
                if rank(one) == rank(other) && overlap(one, other) {
                    return Err(KeyringError::Tie(one.name.clone(), other.name.clone()));
                }
            }
        }
        let all = |keyset: &&Arc<Keyset>| keyset.span == Span::Always && keyset.importance == super::Levels::ALL;
        let default = Arc::clone(keysets.iter().find(all).ok_or(KeyringError::NoDefault)?);
        let identity = Arc::new(identity.strip_secret_key_material());
        Ok(Self { identity, earlier: Vec::new(), keysets, retired, default })
    }

    /// The same ring with the identities that the user had before, the latest first.
    #[must_use]
    pub fn with_earlier(mut self, identities: Vec<Cert>) -> Self {
        let current = self.identity.fingerprint();
        let others = identities.into_iter().filter(|cert| cert.fingerprint() != current);
        self.earlier = others.map(|cert| Arc::new(cert.strip_secret_key_material())).collect();
        self
    }

    /// A ring from what the store keeps.
    ///
    /// # Errors
    /// As [`Keyring::new`], and where a record can't be read or stands under another keyset's id.
    pub fn decode(identity: &[u8], keysets: &[(KeysetId, Vec<u8>)]) -> Result<Self, KeyringError> {
        let identity = Cert::from_bytes(identity)
            .map_err(|error| RecordError::Damaged("identity certificate", error.to_string()))?;
        let mut decoded = Vec::with_capacity(keysets.len());
        for (id, record) in keysets {
            let keyset = Keyset::decode(record)?;
            if keyset.id != *id {
                return Err(RecordError::Damaged("keyset", "it stands in another's place".into()).into());
            }
            decoded.push(keyset);
        }
        Self::new(identity, decoded)
    }

    /// The keyset for a message that arrived `at`. For every instant and importance there is exactly one.
    #[must_use]
    pub fn choose(&self, at: Timestamp, importance: Importance) -> &Arc<Keyset> {
        self.choose_when(at, importance, Timestamp::now())
    }

    /// As [`Keyring::choose`], with the present time given; only spans that move with the time look at it.
    #[must_use]
    pub fn choose_when(&self, at: Timestamp, importance: Importance, now: Timestamp) -> &Arc<Keyset> {
        self.candidates(at, importance, now).next().unwrap_or(&self.default)
    }

    /// Every keyset that covers a message, the chosen one first, the default keyset last: where none of a keyset's certificates can
    /// be sealed to, the next one takes its place.
    pub fn candidates(
        &self,
        at: Timestamp,
        importance: Importance,
        now: Timestamp,
    ) -> impl Iterator<Item = &Arc<Keyset>> {
        let covers = move |keyset: &&Arc<Keyset>| keyset.importance.contains(importance) && keyset.span.covers(at, now);
        self.keysets.iter().filter(covers)
    }

    /// The public identity certificate.
    #[must_use]
    pub fn identity(&self) -> &Arc<Cert> {
        &self.identity
    }

    /// The keyset for what no other covers.
    #[must_use]
    pub const fn default_keyset(&self) -> &Arc<Keyset> {
        &self.default
    }

    /// The identities from before a rotation, the latest first.
    #[must_use]
    pub fn earlier_identities(&self) -> &[Arc<Cert>] {
        &self.earlier
    }

    /// How many identities are later than this earlier one, the current one not counted; `None` where it is none.
    pub(super) fn earlier(&self, fingerprint: &Fingerprint) -> Option<usize> {
        self.earlier.iter().position(|cert| cert.fingerprint() == *fingerprint)
    }

    /// All keysets that are in use, the most specific first.
    #[must_use]
    pub fn keysets(&self) -> &[Arc<Keyset>] {
        &self.keysets
    }

    /// Keysets that are not sealed to any more.
    #[must_use]
    pub fn retired(&self) -> &[Arc<Keyset>] {
        &self.retired
    }

    /// A keyset by its id, a retired one too.
    #[must_use]
    pub fn get(&self, id: KeysetId) -> Option<&Arc<Keyset>> {
        self.keysets.iter().chain(&self.retired).find(|keyset| keyset.id == id)
    }

    /// A keyset by its name, or by its id in hexadecimal; those in use go before retired ones. `None` also where several retired
    /// ones have the name: the id tells them apart.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Arc<Keyset>> {
        let named = |keyset: &&Arc<Keyset>| keyset.name == name || keyset.id.to_string() == name;
        self.keysets.iter().find(named).or_else(|| {
            let mut found = self.retired.iter().filter(named);
            found.next().filter(|_| found.next().is_none())
        })
    }

    /// When each keyset ends, the last first, those without end left out: for the timeline.
    #[must_use]
    pub fn ends(&self) -> Vec<(Timestamp, &Arc<Keyset>)> {
        let mut ends: Vec<_> = self
            .keysets
            .iter()
            .filter(|keyset| !keyset.span.rolls())
            .map(|keyset| (Timestamp(keyset.span.bounds(Timestamp(0)).end), keyset))
            .filter(|(end, _)| end.0 != i64::MAX)
            .collect();
        ends.sort_by_key(|(end, _)| Reverse(*end));
        ends
    }
}

/// Whether two keysets of one rank can cover the same message. Spans that roll meet each other sooner or later.
fn overlap(one: &Keyset, other: &Keyset) -> bool {
    if !one.importance.iter().any(|level| other.importance.contains(level)) {
        return false;
    }
    if one.span.rolls() || other.span.rolls() {
        return true;
    }
    let (one, other) = (one.span.bounds(Timestamp(0)), other.span.bounds(Timestamp(0)));
    one.start < other.end && other.start < one.end
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("identity", &self.identity.fingerprint())
            .field("keysets", &self.keysets)
            .finish_non_exhaustive()
    }
}
