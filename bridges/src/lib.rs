//! Hosts bridges: which there are, what each may do, and what happens when one breaks.
//!
//! ```text
//!  configuration --> Registry::prepare --> Prepared (manifest, grants, the bridge)
//!                                             |
//!                    Supervisor --starts, restarts with pauses, stops-->  Bridge::run
//!                                             |                             |
//!                    Services  <-- granted calls only --  GuardedHost  <----+
//!                    another Bridge::answer  <-- questions --  |
//! ```
//!
//! A bridge runs *linked in*: as a trait object in this process, which shares its memory. The other ways
//! ([`Way`]) hand [`Supervisor`] a [`mesyx_sdk::Bridge`] that stands for the one outside, so nothing above changes.
//!
//! What must hold:
//! - a call without its grant never reaches [`Services`];
//! - when `run` has ended, however it ended, nothing that the bridge left behind can call the host any more;
//! - a bridge that fails, panics or hangs while stopping never takes another one with it.
#![forbid(unsafe_code)]

mod guard;
mod questions;
mod registry;
mod services;
mod sockets;
mod supervisor;

pub use guard::GuardedHost;
pub use registry::{Prepared, Registry, Settings, Way};
pub use services::Services;
pub use sockets::Sockets;
pub use supervisor::{RestartPolicy, State, Status, Supervisor};
