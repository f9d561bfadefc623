//! Both ends of the protocol against each other, over a socketpair.

mod hostile;
mod life;
#[allow(clippy::duplicate_mod, reason = "what holds of the host in memory must hold through the wire")]
#[path = "../../memory/tests.rs"]
mod memory;
mod messages;
mod stage;
mod types;
mod versions;

// What the tests of the host in memory take from their parent.
use crate::memory::envelope;
use crate::{Envelope, Error, ErrorKind, Grant, Health, MailAddress, Secret, Session};
use std::sync::Arc;
