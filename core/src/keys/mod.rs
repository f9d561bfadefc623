//! Keys: identity, keysets, and the secrets that open them.
//!
//! ```text
//!   password --(Argon2id | HKDF)--> slot key --unwraps--> master key --unwraps--> secret keys of identity and keysets
//!                                   (one slot a password)                         |
//!   sealed session key --(the recipient that it names)----------------------------+--> session key --> a message's parts
//! ```
//!
//! What must hold: a password, the master key, a secret key or a session key is never in a log, an error or `Debug`, and is
//! erased when dropped; everything wrapped is bound to its user and its place by the additional data of the AEAD.

mod argon;
mod generate;
pub mod import;
mod keyring;
mod keyset;
mod login;
mod master;
mod password;
mod slot;
mod span;
mod unlocked;
pub(crate) mod vault;

pub use argon::{Argon2Limiter, Argon2Params, ParamsError};
pub use generate::{
    GenerateError, MOST_USER_IDS, NewKeys, Profile, generate, generate_identity, generate_keyset, generate_keyset_as,
};
pub(crate) use keyring::rank;
pub use keyring::{Keyring, KeyringError};
pub use keyset::{Keyset, Levels, Recipients, RecordError};
pub(crate) use keyset::{certificate_expiry, encryption_key};
pub use login::{LoginTag, LoginTags, Opened};
pub(crate) use master::holding;
pub use master::{KeyError, MasterKey, WrappingKey, listed};
pub use password::PasswordError;
pub use slot::{Slot, SlotKind, WrongPassword};
pub use span::{Period, Span, SpanError};
pub use unlocked::Unlocked;
pub(crate) use unlocked::variable_time;

#[cfg(test)]
pub(crate) mod tests;
