//! Whole-program tests: the program as it is built, driven by clients that were not written here.
//!
//! They need the Debian packages that `tests/run` installs, and fail where one is missing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends by panicking; clippy does not exempt helpers of integration tests"
)]

#[path = "../support/mod.rs"]
mod support;

mod imap;
mod instance;
mod smtp;
mod tools;

mod at_rest;
mod beside;
mod bombs;
mod byte_exact;
mod contacts;
mod delivery;
mod dkim;
mod dns;
mod http;
mod irc;
mod irc_networks;
mod keysets;
mod kill;
mod loops;
mod mail_clients;
mod memory;
mod misbehaving;
mod pair;
mod pgp_reply;
mod queue;
mod relay;
mod secret_keys;
mod secrets;
mod smuggling;
mod starttls;
mod submission;
mod ways;
mod ways_confined;
mod ways_library;
mod writing_a_bridge;
mod xmpp;
