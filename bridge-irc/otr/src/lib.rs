//! Off-the-Record messaging, versions 2 and 3, without I/O.
#![forbid(unsafe_code)]

mod auth;
mod error;
mod event;
mod fragment;
mod group;
mod identity;
mod instance;
mod kdf;
mod keyfile;
pub mod limits;
mod line;
mod message;
mod proof;
mod random;
mod ratchet;
mod session;
mod smp;
mod throttle;
mod tlv;
mod trust;
mod wire;

pub use error::{Error, Rejection};
pub use event::{Config, Established, Event, Output, Policy, Sent, TagPlace, Text, TextId, Verification};
pub use identity::{Fingerprint, Identity, InstanceTag};
pub use keyfile::KeyFileAccount;
pub use message::Version;
pub use session::{Session, SessionState};
pub use trust::{FingerprintBook, Observation, PeerName, Trust};
