//! Why something can't be sealed or opened.

use crate::id::KeysetId;

/// Why a message can't be sealed. It is then not taken in: never stored clear.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// No certificate of the keyset may be sealed to now.
    #[error("keyset {name}: no usable certificate ({why}); add one or extend it")]
    NoCertificate {
        /// Which keyset.
        keyset: KeysetId,
        /// Its name.
        name: String,
        /// Why each of its certificates is refused.
        why: String,
    },
    /// The message is longer than an OpenPGP packet may be (4 GiB).
    #[error("the message is too large to be sealed")]
    TooLarge,
    /// The cryptographic library failed: what it said.
    #[error("sealing failed: {0}")]
    Crypto(String),
}

/// Why a sealed part can't be opened. Nothing of it was given to anybody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The secret key of this keyset is not on this instance.
    #[error("the secret key of keyset {0} is not here")]
    Offline(KeysetId),
    /// It is sealed to none of the user's keys.
    #[error("it is sealed to a key that this user does not have")]
    NoKey,
    /// A secret-key operation that this build refuses.
    #[error(
        "opening with {0} secret keys is refused in this build, because its arithmetic takes a time that depends on the key; build Mesyx with `--no-default-features --features crypto-openssl`"
    )]
    VariableTime(&'static str),
    /// It is not what sealing makes: what is wrong.
    #[error("the sealed part is damaged or forged: {0}")]
    Damaged(&'static str),
    /// It is protected in a way that is not accepted: which.
    #[error("the sealed part is refused: {0}")]
    Refused(&'static str),
    /// It is whole, but belongs elsewhere: to another message, part, user or keyset.
    #[error("the sealed part belongs to another {0}")]
    Swapped(&'static str),
}
