//! The core of Mesyx: it knows no protocol but its own.
//!
//! ```text
//!   bridge -- accept --> intake -- choose keyset, seal --> store -- one group commit --> resolved
//!   client -- login  --> keys (slot -> master key -> secret keys) --> access session
//!                        access session -- read sealed parts --> open, check, cache --> client
//! ```
//!
//! What must hold, whatever happens:
//! - nothing is acknowledged before it is sealed and durable;
//! - no clear byte of a message reaches a disk;
//! - what is opened was sealed for exactly that message, part and keyset, and was taken in by an instance we know.
#![forbid(unsafe_code)]

mod access;
mod accounts;
pub mod admin;
mod chat;
pub mod core;
pub mod directory;
mod errors;
pub mod id;
pub mod instance;
mod intake;
pub mod keys;
pub mod keysets;
pub mod lookup;
pub mod operation;
pub mod pgp;
pub mod published;
pub mod queue;
mod quota;
mod records;
pub mod seal;
pub mod secret_keys;
pub mod settings;
pub mod store;
#[cfg(test)]
mod testing;
pub mod trace;

pub use crate::core::Core;
pub use settings::Settings;
