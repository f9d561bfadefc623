//! The wire protocol `mesyx.bridge.v1`, for bridges that are not linked in.
//!
//! `sdk/proto/mesyx/bridge/v1/bridge.proto` defines it and says what each message means; [`v1`] is generated from it. A bridge in
//! Rust sees nothing of all this: the same [`Bridge`](crate::Bridge) is run by [`crate::main`] as a program of its own, by
//! [`crate::plugin!`] as a library, or linked in.
//!
//! ```text
//!   the bridge's side (feature `wire`)                        the host's side (feature `wire-host`)
//!   Bridge <-- drive -- Life --------\            /------ Life ------ host::RemoteBridge <-- Supervisor
//!      |                              == gRPC ====
//!      +--> client::RemoteHost ------/            \------ Host -----> Arc<dyn Host> (grants are checked there)
//!      +--> client::RemoteSession ---/            \------ Session --> Arc<dyn Session>, by number
//! ```
//!
//! What must hold:
//! - the host believes nothing that a bridge says: every message is checked when it is turned into the SDK's types ([`convert`]), and
//!   what a bridge makes the host keep is bounded by [`host::Limits`];
//! - bodies never stand whole in a gRPC message, and are reserved in the budget before they are taken;
//! - when the connection ends, so does all that hung on it.

pub mod client;
// Some of it only a host reads.
#[cfg_attr(not(feature = "wire-host"), allow(dead_code, unused_imports))]
pub mod convert;
#[cfg(unix)]
mod descriptors;
mod drive;
mod entry;
#[cfg(feature = "wire-host")]
pub mod host;
mod logs;
pub mod plugin;
pub mod status;
#[allow(missing_docs, unused_qualifications, clippy::all, clippy::pedantic, clippy::nursery)]
#[rustfmt::skip]
pub mod v1;

#[cfg(test)]
mod generated;
#[cfg(test)]
#[cfg(all(unix, feature = "wire-host"))]
mod tests;

pub use drive::serve_bridge;
#[cfg(unix)]
pub use drive::serve_bridge_unix;
pub use entry::{from_environment, main};

use std::time::Duration;

/// The number that `mesyx_bridge_abi()` of a library gives: how it is called, not what is spoken.
pub const ABI: u32 = 1;
/// The minor version of the protocol that this crate speaks.
pub const MINOR: u32 = 0;
/// The feature by which listening sockets are passed over a unix socket.
pub const DESCRIPTORS: &str = "descriptors";
/// Largest piece of a body, in bytes.
pub const CHUNK: usize = 64 << 10;
/// Largest message towards the host, in bytes.
pub const MAX_REQUEST: usize = 1 << 20;
/// Largest message towards the bridge, and largest answer to a question, in bytes.
pub const MAX_EVENT: usize = 4 << 20;
/// Most UIDs in one list.
pub const MAX_UIDS: usize = 1 << 20;
/// Most entries in one page of a list.
pub const PAGE: usize = 1000;

/// HTTP/2's window for one stream: four pieces of a body may be under way, so that neither side waits for the other's thread.
const STREAM_WINDOW: u32 = 256 << 10;
/// HTTP/2's window for the whole connection, towards the host.
#[cfg(feature = "wire-host")]
const HOST_WINDOW: u32 = 4 << 20;
/// The same towards the bridge. Larger, because many feeds share it.
const BRIDGE_WINDOW: u32 = 16 << 20;
/// Largest HTTP/2 frame: a piece of a body with its head fits into one.
const FRAME: u32 = 128 << 10;
/// Largest set of HTTP/2 headers, in bytes: a call has a path, a deadline and an error's text.
const HEADERS: u32 = 16 << 10;

/// How long a call may take, unless something else is said.
const CALL: Duration = Duration::from_secs(60);
/// How long messages may take to be taken in, on their way and in the host together.
const ACCEPT: Duration = Duration::from_secs(300);
/// How long another bridge's answer may take: the contract's 10 s and the way.
const QUERY: Duration = Duration::from_secs(15);
/// How long a bridge may take to stop; the contract says 10 s.
const STOP: Duration = Duration::from_secs(10);
