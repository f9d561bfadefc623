//! The host that the tests are about: with the users ann and bob, and a session of ann.

use super::MemoryHost;
use crate::{Session, User};
use std::sync::Arc;

/// Whether what is tested is somewhere else.
pub(super) const THROUGH_THE_WIRE: bool = false;

pub(super) struct Place {
    pub(super) host: MemoryHost,
    pub(super) ann: User,
    pub(super) session: Arc<dyn Session>,
}

pub(super) async fn place() -> Place {
    let host = MemoryHost::new("example.org".parse().unwrap());
    let ann = host.add_user("ann", "secret").unwrap();
    host.add_user("bob", "other").unwrap();
    let session = host.session("ann").unwrap();
    Place { host, ann, session }
}
