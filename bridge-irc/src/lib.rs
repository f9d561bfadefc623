//! IRC, both ways: the bridge `irc-client` serves people's own IRC clients, the bridge `irc-network` holds their connections to
//! networks outside.
#![forbid(unsafe_code)]

pub mod client;
pub mod link;
pub mod network;
