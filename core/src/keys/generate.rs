//! New identity and keyset certificates.

use super::{KeyError, Keyset, Levels, MasterKey, RecordError, Span};
use crate::id::KeysetId;
use crate::store::StoredSecretKey;
use mesyx_sdk::UserId;
use minicbor::{Decode, Encode};
use openpgp::Cert;
use openpgp::cert::{CertBuilder, CipherSuite};
use openpgp::packet::UserID;
use openpgp::serialize::MarshalInto;
use openpgp::types::{Features, KeyFlags};
use sequoia_openpgp as openpgp;
use std::fmt;
use std::str::FromStr;

/// Which kind of certificates is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
#[non_exhaustive]
pub enum Profile {
    /// Version 4, Curve25519, SEIPD version 1: what GnuPG 2.2 and Thunderbird read.
    #[default]
    #[n(0)]
    V4,
    /// Version 6, Curve25519, SEIPD version 2 (RFC 9580): AEAD.
    #[n(1)]
    V6,
    /// Version 6, ML-DSA-65 with Ed25519, ML-KEM-768 with X25519: for what must stay secret for decades.
    #[n(2)]
    PostQuantum,
}

impl fmt::Display for Profile {
    /// `v4`, `v6`, `pq`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
            Self::PostQuantum => "pq",
        })
    }
}

impl FromStr for Profile {
    type Err = GenerateError;

    /// Reads what `Display` writes, and `post-quantum`.
    fn from_str(text: &str) -> Result<Self, GenerateError> {
        match text {
            "v4" => Ok(Self::V4),
            "v6" => Ok(Self::V6),
            "pq" | "post-quantum" => Ok(Self::PostQuantum),
            _ => Err(GenerateError::Crypto(format!("there is no profile {text}; write v4, v6 or pq"))),
        }
    }
}

/// The keys of a new user, with their secret parts.
pub struct NewKeys {
    /// The identity certificate.
    pub identity: Cert,
    /// The first keyset, which covers everything, and its certificate.
    pub default_keyset: (Keyset, Cert),
}

/// Why keys can't be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// The cryptographic library failed or does not know the profile: what it said.
    #[error("the keys can't be made: {0}")]
    Crypto(String),
    /// The keyset can't be made.
    #[error(transparent)]
    Keyset(#[from] RecordError),
}

/// Makes the keys of a new user: an identity for `name <address>`, and the default keyset, in the default profile.
///
/// # Errors
/// Where the operating system gives no randomness.
pub fn generate(name: &str, address: &str) -> Result<NewKeys, GenerateError> {
    NewKeys::generate(name, address, Profile::default())
}

/// Makes one more keyset with one certificate; its secret part beside it.
///
/// # Errors
/// As [`Keyset::new`]; [`GenerateError::Crypto`] where this build does not know the profile.
pub fn generate_keyset(
    name: &str,
    span: Span,
    importance: Levels,
    profile: Profile,
) -> Result<(Keyset, Cert), GenerateError> {
    generate_keyset_as(KeysetId::random(), name, span, importance, profile)
}

/// As [`generate_keyset`], with an id of the caller's.
///
/// # Errors
/// As there.
pub fn generate_keyset_as(
    id: KeysetId,
    name: &str,
    span: Span,
    importance: Levels,
    profile: Profile,
) -> Result<(Keyset, Cert), GenerateError> {
    // The certificate may lie on a server or a stick: it names neither its owner nor what is sealed to it.
    let user_id = UserID::from(format!("Mesyx keyset {id}"));
    let storage = KeyFlags::empty().set_storage_encryption().set_transport_encryption();
    let (certificate, _) = builder(profile)
        .map_err(failed)?
        .add_userid(user_id)
        .add_subkey(storage, None, None)
        .generate()
        .map_err(failed)?;
    Ok((Keyset::new(id, name, span, importance, vec![certificate.clone()])?, certificate))
}

/// Most user IDs of an identity that is made here: more of them, and others may refuse to read the certificate.
pub const MOST_USER_IDS: usize = 32;

/// Makes an identity certificate: a user ID `name <address>` for each address (the first 32), the first one primary; keys that
/// certify, sign and encrypt. It does not expire.
///
/// # Errors
/// [`GenerateError::Crypto`] where this build does not know the profile.
pub fn generate_identity(name: &str, addresses: &[String], profile: Profile) -> Result<Cert, GenerateError> {
    let mut builder = builder(profile).map_err(failed)?;
    for address in addresses.iter().take(MOST_USER_IDS) {
        let user_id = UserID::from_address(Some(name).filter(|name| !name.is_empty()), None, address)
            .unwrap_or_else(|_| UserID::from(address.replace(char::is_control, "")));
        builder = builder.add_userid(user_id);
    }
    let builder = builder.add_signing_subkey().add_transport_encryption_subkey();
    Ok(builder.generate().map_err(failed)?.0)
}

impl NewKeys {
    /// As [`generate`], in a profile.
    ///
    /// # Errors
    /// [`GenerateError::Crypto`] where this build does not know the profile.
    pub fn generate(name: &str, address: &str, profile: Profile) -> Result<Self, GenerateError> {
        Self::for_addresses(name, &[address.to_owned()], profile)
    }

    /// As [`generate`], for several addresses, in a profile.
    ///
    /// # Errors
    /// [`GenerateError::Crypto`] where this build does not know the profile.
    pub fn for_addresses(name: &str, addresses: &[String], profile: Profile) -> Result<Self, GenerateError> {
        let identity = generate_identity(name, addresses, profile)?;
        let default_keyset = generate_keyset("default", Span::Always, Levels::ALL, profile)?;
        Ok(Self { identity, default_keyset })
    }

    /// The public identity certificate, as the store keeps it.
    ///
    /// # Errors
    /// Never for certificates made here.
    pub fn identity_record(&self) -> Result<Vec<u8>, GenerateError> {
        self.identity.to_vec().map_err(failed)
    }

    /// The secret keys, wrapped under a master key.
    ///
    /// # Errors
    /// As [`MasterKey::wrap`].
    pub fn wrap(&self, user: UserId, master: &MasterKey) -> Result<Vec<StoredSecretKey>, KeyError> {
        let (keyset, certificate) = &self.default_keyset;
        Ok(vec![master.wrap(user, None, &self.identity)?, master.wrap(user, Some(keyset.id), certificate)?])
    }
}

impl fmt::Debug for NewKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NewKeys({}, {})", self.identity.fingerprint(), self.default_keyset.1.fingerprint())
    }
}

fn failed(error: impl fmt::Display) -> GenerateError {
    GenerateError::Crypto(error.to_string())
}

fn builder(profile: Profile) -> openpgp::Result<CertBuilder<'static>> {
    let (version, suite, features) = match profile {
        // Sequoia advertises version 2 by default, which GnuPG 2.2 and Thunderbird can't read.
        Profile::V4 => (openpgp::Profile::RFC4880, CipherSuite::Cv25519, Features::empty().set_seipdv1()),
        Profile::V6 => (openpgp::Profile::RFC9580, CipherSuite::Cv25519, Features::sequoia()),
        Profile::PostQuantum => (openpgp::Profile::RFC9580, CipherSuite::MLDSA65_Ed25519, Features::sequoia()),
    };
    suite.is_supported()?;
    CertBuilder::new().set_cipher_suite(suite).set_profile(version)?.set_features(features)
}
