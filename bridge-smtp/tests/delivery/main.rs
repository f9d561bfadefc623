//! Sending to hosts on loopback: names from a server of our own, hosts that behave as told, and Postfix.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../../net/tests/support/dns.rs"]
mod dns;
mod lab;
mod sink;

mod contract;
mod hosts;
mod outcomes;
mod policies;
mod postfix;
mod sessions;
