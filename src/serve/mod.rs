//! The running server.
//!
//! ```text
//!  start: configuration -> sockets -> privileges -> runtime -> Instance (core, bridges) -> admin, control -> READY
//!  then:  SIGHUP -> reload     SIGTERM, SIGINT -> stop: bridges, then core
//! ```

pub(crate) mod admin;
pub(crate) mod endpoints;
pub(crate) mod instance;
pub(crate) mod logging;
pub(crate) mod memory;
mod outbound;
pub(crate) mod privileges;
pub(crate) mod run;
mod services;
pub(crate) mod status;
pub(crate) mod web;

use mesyx_bridges::Registry;

/// The bridges that are linked into this program.
pub(crate) fn registry() -> Registry {
    Registry::new()
        .link::<mesyx_bridge_smtp::Smtp>()
        .link::<mesyx_bridge_smtp::Submission>()
        .link::<mesyx_bridge_imap::Imap>()
        .link::<mesyx_bridge_irc::client::IrcClient>()
        .link::<mesyx_bridge_irc::network::IrcNetwork>()
}
