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
//! ([`Run`]) hand [`Supervisor`] a [`mesyx_sdk::Bridge`] that stands for the one outside, so nothing above changes.
//!
//! What must hold:
//! - a call without its grant never reaches [`Services`];
//! - when `run` has ended, however it ended, nothing that the bridge left behind can call the host any more;
//! - a bridge that fails, panics or hangs while stopping never takes another one with it.
// Only the module that loads libraries may, and says why each time.
#![deny(unsafe_code)]

mod child;
pub mod confine;
mod describe;
mod guard;
mod library;
mod outside;
mod place;
mod process;
mod questions;
mod registry;
mod remote;
mod run;
mod services;
mod sockets;
mod supervisor;
mod trust;

pub use child::is_of_bridge;
pub use describe::{Server, Wrong, describe, describe_file};
pub use guard::GuardedHost;
pub use registry::{Places, Prepared, Registry, Settings};
pub use remote::{AUTHORITY, CERTIFICATE, KEY, NAME};
pub use run::{Builtin, Confine, Library, Pace, Process, Remote, Restart, Run, Way};
pub use services::Services;
pub use sockets::Sockets;
pub use supervisor::{Breaker, RestartPolicy, State, Status, Supervisor};
