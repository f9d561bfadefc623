//! What the commands about keysets and identities answer. Times are RFC 3339 in UTC, days are `YYYY-MM-DD`.

use serde::{Deserialize, Serialize};

/// A certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateInfo {
    /// The fingerprint, in upper-case hexadecimal.
    pub fingerprint: String,
    /// The version of its primary key, and the kind of the key that is sealed to: `v4 ECDH`.
    pub kind: String,
    /// When it was made.
    pub created: String,
    /// When it can't be sealed to any more, where that is known.
    pub expires: Option<String>,
    /// Why it can't be sealed to now, where it can't.
    pub unusable: Option<String>,
}

/// A keyset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysetInfo {
    /// Its id, 32 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its span, as it is written.
    pub span: String,
    /// The first instant of the span; nothing where it has none.
    pub from: Option<String>,
    /// The first instant after the span; nothing where it has none.
    pub until: Option<String>,
    /// `low`, `normal`, `high`.
    pub importance: Vec<String>,
    /// It takes what no other covers.
    pub default: bool,
    /// The day since when nothing is sealed to it.
    pub retired: Option<String>,
    /// Its certificates: each opens its messages.
    pub certificates: Vec<CertificateInfo>,
    /// A secret key of it is here, locked by the user's passwords. Otherwise it is offline.
    pub secret_here: bool,
    /// Messages that are sealed to it.
    #[serde(flatten)]
    pub sealed: Counted,
}

/// Some messages, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// How many.
    pub messages: u64,
    /// Their padded sizes added up, in bytes.
    pub bytes: u64,
    /// The day of the first of them.
    pub first_day: Option<String>,
    /// The day of the last of them.
    pub last_day: Option<String>,
}

/// What a week would use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedWeek {
    /// The week as ISO 8601 counts them: `2026-W48`.
    pub week: String,
    /// Its Monday; of the present week, today.
    pub from: String,
    /// For messages of low importance: the names of the keysets, in order; more than one where it changes within the week.
    pub low: Vec<String>,
    /// For messages of normal importance.
    pub normal: Vec<String>,
    /// For messages of high importance.
    pub high: Vec<String>,
    /// What is wrong with it: keysets that are missing or can't be sealed to.
    pub problems: Vec<String>,
}

/// How keysets are renewed: one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotationInfo {
    /// `low`, `normal`, `high`.
    pub importance: Vec<String>,
    /// `week`, `month`, `year`.
    pub every: String,
    /// `v4`, `v6`, `pq`.
    pub profile: String,
    /// Made by itself while the user is unlocked; otherwise certificates are uploaded.
    pub make: bool,
}

/// What became of a keyset that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Its name.
    pub name: String,
    /// Messages that depend on its secret key.
    pub messages: u64,
    /// The secret key is kept here, so that they open.
    pub secret_here: bool,
    /// It is gone for good, with its secret key.
    pub gone: bool,
}

/// What one secret key opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLine {
    /// The user's login name.
    pub user: String,
    /// `identity`, `earlier identity`, `keyset`, `retired keyset`, `removed keyset`.
    pub kind: String,
    /// The keyset's name; the identity's main user ID.
    pub name: Option<String>,
    /// The keyset's id.
    pub id: Option<String>,
    /// The fingerprint of the certificate whose secret key this is; where none is here, those of the others. Several where it is not told apart.
    pub fingerprints: Vec<String>,
    /// A secret key is on this instance.
    pub secret_here: bool,
    /// Messages that it opens.
    #[serde(flatten)]
    pub opens: Counted,
}

/// A user's identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityInfo {
    /// The login name.
    pub user: String,
    /// The certificate.
    #[serde(flatten)]
    pub certificate: CertificateInfo,
    /// Its user IDs, the main one first.
    pub user_ids: Vec<String>,
    /// Addresses of the user that no user ID names: a rotation brings them in.
    pub missing_addresses: Vec<String>,
    /// The secret key is here, locked by the user's passwords.
    pub secret_here: bool,
    /// It is unlocked now, by a session of the user.
    pub unlocked: bool,
    /// Identities from before a rotation, the latest first.
    pub earlier: Vec<EarlierIdentity>,
}

/// An identity from before a rotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlierIdentity {
    /// The certificate.
    #[serde(flatten)]
    pub certificate: CertificateInfo,
    /// Its secret key is here: mail to it still opens.
    pub secret_here: bool,
}

/// Something about keys that needs somebody's attention.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyWarning {
    /// The user's login name.
    pub user: String,
    /// What kind of thing.
    pub kind: WarningKind,
    /// The keyset's name, or the span that has none; nothing for the identity.
    pub keyset: Option<String>,
    /// What is wrong, what happens until it is mended, and what to do.
    pub text: String,
}

/// The kinds of [`KeyWarning`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WarningKind {
    /// A rotation has no keyset for a span that begins soon or has begun.
    Missing,
    /// A keyset ends soon and nothing as specific follows.
    Ends,
    /// A certificate expires soon.
    Expires,
    /// A certificate can't be sealed to: expired, revoked.
    Unusable,
}

impl WarningKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Missing, Self::Ends, Self::Expires, Self::Unusable];

    /// As it stands in JSON and in the metric's label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Ends => "ends",
            Self::Expires => "expires",
            Self::Unusable => "unusable",
        }
    }
}
