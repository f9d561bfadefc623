//! Sending: one attempt to bring a message to recipients elsewhere.
//!
//! ```text
//!  deliver -> by domain -> route.rs: hosts (MX, routes), what each must prove (DANE, MTA-STS)
//!                            |
//!                       attempt.rs: host after host -> pool.rs, link.rs: a connection -> client.rs (no I/O, no clock)
//!                            |
//!                       outcome.rs: what was said -> delivered, deferred, failed
//! ```
//!
//! What always holds:
//! - A message that a host may have taken is not sent anywhere else in the same attempt.
//! - Where DANE or MTA-STS applies, nothing goes without what it wants; DANE goes before MTA-STS.
//! - What is sent is the content as it is, behind our own header lines: no byte changed, no bare CR or LF.

mod attempt;
pub mod client;
mod config;
mod dane;
mod link;
pub mod message;
mod outcome;
mod pool;
pub mod reply;
mod reports;
mod route;
pub mod simulate;
mod sts;
mod sts_kept;
mod tls;
mod words;

#[cfg(test)]
mod client_tests;

pub(crate) use attempt::Outbound;
pub use config::{DeliveryConfig, DeliveryLimits, Prefer, Route, Timeouts, TlsPolicy};
pub(crate) use config::{Plan, check};
pub(crate) use outcome::deferred;
pub(crate) use route::Own;
