//! The bridge `irc-network`: users' connections to networks outside.
//!
//! ```text
//!  irc-client --Ask--> Manager --orders--> Actor (one for each user and network) <--> Engine (no I/O) <--> server
//!  core --deliver----->                      |      \--> Desk (OTR)
//!                                            \--> intake --> Host::accept, Host::signal
//!  groups --Host::guests--> Actor of a relay: one connection that is no user's
//! ```
//!
//! What always holds:
//! - A line from a network is sealed and durable before anything that happened after it is told.
//! - A text is delivered when the server has read it and not refused it; one attempt each, the core retries.
//! - What a user set, passwords and OTR keys too, is kept in sealed checkpoints alone.

mod actor;
mod config;
mod dial;
mod intake;
mod manager;
mod otr;
mod proto;
mod records;
mod relay;

pub use config::{IrcNetworkConfig, IrcNetworkLimits, NetworkConfig, OtrConfig, OtrOffer, OtrPolicy, SaslMode};
pub use proto::Charset;
pub use relay::{RelayChannel, RelayConfig};

use manager::Manager;
use mesyx_sdk::config::schema;
use mesyx_sdk::{
    AddressKind, Answer, Bridge, Config, ConfigErrors, DeferScope, Delivery, Error, ErrorKind, Fatal, Grant, Health,
    Host, Manifest, Outcome, Question, async_trait,
};
use std::sync::{Arc, Mutex, PoisonError};

/// The bridge `irc-network`.
pub struct IrcNetwork {
    config: IrcNetworkConfig,
    manager: Mutex<Option<Arc<Manager>>>,
}

impl IrcNetwork {
    fn manager(&self) -> Option<Arc<Manager>> {
        self.manager.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_manager(&self, manager: Option<Arc<Manager>>) {
        *self.manager.lock().unwrap_or_else(PoisonError::into_inner) = manager;
    }
}

#[async_trait]
impl Bridge for IrcNetwork {
    fn manifest() -> Manifest {
        Manifest {
            name: crate::link::NETWORK_BRIDGE.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "Holds users' connections to IRC networks, with OTR".to_owned(),
            grants: vec![Grant::Accept, Grant::Deliver, Grant::Checkpoint, Grant::Signal, Grant::Guests],
            delivers: vec![AddressKind::Irc],
            config_schema: schema::<IrcNetworkConfig>(),
        }
    }

    fn build(config: Config) -> Result<Self, ConfigErrors> {
        let config: IrcNetworkConfig = config.parse()?;
        config.check()?;
        Ok(Self { config, manager: Mutex::default() })
    }

    fn secrets(&self) -> Vec<String> {
        self.config.secrets()
    }

    async fn run(&self, host: Arc<dyn Host>) -> Result<(), Fatal> {
        let started = Manager::start(Arc::clone(&host), self.config.clone()).await;
        let manager = started
            .map_err(|error| Fatal::new(format!("irc-network: what is kept of users can't be read: {error}")))?;
        let manager = Arc::new(manager);
        self.set_manager(Some(Arc::clone(&manager)));
        host.health(Health::Ready);
        let begun = manager.begin_relays().await;
        let begun =
            begun.map_err(|error| Fatal::new(format!("irc-network: what is kept of relays can't be read: {error}")));
        if begun.is_ok() {
            host.stopped().await;
        }
        self.set_manager(None);
        manager.stop().await;
        begun
    }

    async fn deliver(&self, _host: Arc<dyn Host>, job: Delivery) -> Vec<Outcome> {
        match self.manager() {
            Some(manager) => manager.deliver(&job).await,
            None => vec![
                manager::deferred("irc-network is starting or stopping", DeferScope::Bridge, false);
                job.recipients.len()
            ],
        }
    }

    async fn answer(&self, _host: Arc<dyn Host>, question: Question) -> Result<Answer, Error> {
        match self.manager() {
            Some(manager) => manager.answer(&question).await,
            None => Err(Error::new(ErrorKind::Unavailable, "irc-network is starting or stopping")),
        }
    }
}
