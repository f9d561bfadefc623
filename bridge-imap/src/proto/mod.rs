//! The protocol without sockets: bytes in, commands out; values in, bytes out.
//!
//! [`framing`] cuts the stream into commands, with their literals in place and bounded. [`grammar`] reads one whole
//! command into a [`command::Command`]. [`write`] and [`structure`] make responses.

pub(crate) mod command;
pub(crate) mod date;
pub(crate) mod framing;
pub(crate) mod grammar;
pub(crate) mod section;
pub(crate) mod sequence;
pub(crate) mod structure;
pub(crate) mod utf7;
pub(crate) mod write;
