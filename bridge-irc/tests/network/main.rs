//! Every sentence of the contract, of both bridges; the bridge `irc-network` against ngircd, and its OTR against libotr, python3-potr and irssi's plugin on that network.
//!
//! The programs come from Debian: ngircd, openssl, irssi, irssi-plugin-otr, tmux, gcc, libotr5-dev, python3-potr. Without them these tests fail,
//! unless `MESYX_SKIP_PEERS=1` leaves them out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unused_qualifications,
    reason = "tests fail by panicking"
)]

mod contract;
mod irssi;
mod network;
mod otr;
#[path = "../../../tests/support/port.rs"]
mod port;
mod relay;
mod support;
mod tls;
