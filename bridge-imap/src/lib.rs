//! IMAP4rev1 for the mail clients that people have.
//!
//! ```text
//!  client -- bytes --> wire -> proto::framing -> proto::grammar -> connection -> commands/*
//!         <- bytes --- wire <- proto::{write, structure, section} <- view <-------+   |
//!                                                                                    mesyx_sdk::Session
//! ```
//!
//! - `proto` has no sockets: commands are cut out of the stream in bounded memory and read by a grammar of our own.
//! - `view` is what one connection was told of its selected mailbox: sequence numbers, flags, and what is yet to be told.
//! - `commands` does each command by calls of the [`mesyx_sdk::Session`]; nothing is cached but the view.
//!
//! What must hold: an EXPUNGE is never told while a client counts on sequence numbers; nothing that came before a TLS
//! handshake is acted on after it; no literal is held that is over its limit; a connection that waits holds no buffers.
#![forbid(unsafe_code)]

pub mod config;

mod commands;
mod connection;
mod proto;
mod server;
mod share;
mod view;
mod wire;

use config::Settings;
use mesyx_sdk::{
    Bridge, Config, ConfigErrors, DeferScope, Delivery, Fatal, Grant, Host, ListenSpec, Manifest, Outcome, async_trait,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The bridge `imap`.
#[derive(Debug)]
pub struct Imap {
    settings: Settings,
}

#[async_trait]
impl Bridge for Imap {
    fn manifest() -> Manifest {
        let listen = Settings::default().listeners.into_iter().map(|listener| Grant::Listen(listener.address.port()));
        Manifest {
            name: "imap".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: "IMAP4rev1: lets mail clients read and file messages".into(),
            // The same port on two addresses is one grant.
            grants: [Grant::Access, Grant::Certificates].into_iter().chain(listen.collect::<BTreeSet<_>>()).collect(),
            delivers: Vec::new(),
            config_schema: mesyx_sdk::config::schema::<Settings>(),
        }
    }

    fn build(config: Config) -> Result<Self, ConfigErrors> {
        Ok(Self { settings: Settings::read(config)? })
    }

    fn listeners(&self) -> Vec<ListenSpec> {
        let spec = |listener: &config::Listener| ListenSpec { name: listener.name.clone(), address: listener.address };
        self.settings.listeners.iter().map(spec).collect()
    }

    async fn run(&self, host: Arc<dyn Host>) -> Result<(), Fatal> {
        server::run(&self.settings, host).await
    }

    /// Nothing is ever delivered by IMAP: the grant `deliver` is not asked for.
    async fn deliver(&self, _host: Arc<dyn Host>, job: Delivery) -> Vec<Outcome> {
        let why = "the bridge imap brings messages to nobody".to_owned();
        let outcome = Outcome::Deferred { why, retry_after: None, scope: DeferScope::Bridge, maybe_sent: false };
        vec![outcome; job.recipients.len()]
    }
}

/// Reads bytes as the bridge would, in pieces: framing, then grammar. Tells what came of them, one line each. For fuzzing.
#[doc(hidden)]
#[must_use]
pub fn fuzz(bytes: &[u8], piece: usize, logged_in: bool) -> Vec<String> {
    proto::fuzz(bytes, piece, logged_in)
}
