//! The bridge `irc-client`: an IRC server for people's own clients.
//!
//! ```text
//!  client -- bytes --> connection (codec) -- lines --> engine::Server -- Ask --> account -- calls --> Session, Host
//!         <-- bytes -- Outbox <-- lines --------------/      ^------ Given -------/
//!                                                            \------ live feed (one per client of a user, one for all guests)
//! ```
//!
//! - [`engine`] is the server: no sockets, no clock, no sessions. One lock holds it; nothing is awaited under the lock.
//! - `connection` serves one client: reads lines at the pace that it may send, asks the host what the engine asks, and brings the
//!   user's live feed to the engine.
//! - `account` turns an [`engine::Ask`] into calls of the client's session.
//!
//! What must hold: nothing is acknowledged or echoed before it is stored; a client that reads too slowly is cut; nothing a client sends
//! is held beyond one line, but for one message of `draft/multiline` of a client that was let in.

mod account;
mod config;
mod connection;
pub mod engine;
mod mail;
mod past;
mod server;
#[cfg(test)]
mod tests;

pub use config::{Groups, Guests, Limits, Listener, Settings, Tls};

use mesyx_sdk::{
    Bridge, Config, ConfigErrors, DeferScope, Delivery, Fatal, Grant, Host, ListenSpec, Manifest, Outcome, async_trait,
};
use std::sync::Arc;

/// The bridge `irc-client`.
#[derive(Debug)]
pub struct IrcClient {
    settings: Settings,
}

#[async_trait]
impl Bridge for IrcClient {
    fn manifest() -> Manifest {
        let listen = Settings::default().listeners.into_iter().map(|listener| Grant::Listen(listener.address.port()));
        let grants = [
            Grant::Accept,
            Grant::Access,
            Grant::Certificates,
            Grant::Checkpoint,
            Grant::Directory,
            Grant::Guests,
            Grant::Query,
            Grant::Signal,
        ];
        let mut grants: Vec<Grant> = grants.into_iter().chain(listen).collect();
        grants.dedup();
        Manifest {
            name: "irc-client".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: "IRC: lets people chat with their own IRC clients".into(),
            grants,
            delivers: Vec::new(),
            config_schema: mesyx_sdk::config::schema::<Settings>(),
        }
    }

    fn build(config: Config) -> Result<Self, ConfigErrors> {
        Ok(Self { settings: Settings::read(config)? })
    }

    fn listeners(&self) -> Vec<ListenSpec> {
        let spec = |listener: &Listener| ListenSpec { name: listener.name.clone(), address: listener.address };
        self.settings.listeners.iter().map(spec).collect()
    }

    async fn run(&self, host: Arc<dyn Host>) -> Result<(), Fatal> {
        server::run(&self.settings, host).await
    }

    /// Nothing is ever delivered here: readers are told by their live feeds.
    async fn deliver(&self, _host: Arc<dyn Host>, job: Delivery) -> Vec<Outcome> {
        let why = "the bridge irc-client brings messages to nobody".to_owned();
        let outcome = Outcome::Deferred { why, retry_after: None, scope: DeferScope::Bridge, maybe_sent: false };
        vec![outcome; job.recipients.len()]
    }
}
