//! What stands behind a host.

use async_trait::async_trait;
use mesyx_sdk::{
    Accepted, Address, ByteBudget, Certificates, Credentials, Domain, Envelope, Error, Group, LiveFeed,
    RecipientStatus, Secret, Sender, Session, Signal,
};
use std::sync::Arc;
use tokio::sync::watch;

/// The core, as the bridges' host needs it. Grants are checked before any of these is called.
///
/// The calls mean what their namesakes in [`mesyx_sdk::Host`] mean; `bridge` is the name of the bridge that asks.
#[async_trait]
pub trait Services: Send + Sync + 'static {
    /// Seals and stores messages; one answer for each, in their order.
    async fn accept(&self, bridge: &str, batch: Vec<Envelope>) -> Vec<Result<Accepted, Error>>;

    /// What an address is to us, from this sender.
    ///
    /// # Errors
    /// [`mesyx_sdk::ErrorKind::Unavailable`].
    async fn recipient(&self, address: &Address, sender: &Sender) -> Result<RecipientStatus, Error>;

    /// Checks a password and opens a session.
    ///
    /// # Errors
    /// As [`mesyx_sdk::Host::login`].
    async fn login(&self, credentials: Credentials) -> Result<Arc<dyn Session>, Error>;

    /// A service secret.
    ///
    /// # Errors
    /// [`mesyx_sdk::ErrorKind::NotFound`].
    async fn secret(&self, name: &str) -> Result<Secret, Error>;

    /// The TLS certificates, now and as they are replaced.
    fn certificates(&self) -> watch::Receiver<Arc<Certificates>>;

    /// The byte budget of all messages in flight.
    fn budget(&self) -> &ByteBudget;

    /// This host's name, in ASCII.
    fn hostname(&self) -> &str;

    /// The exchange's domain.
    fn domain(&self) -> &Domain;

    /// What the bridge last kept under a key.
    ///
    /// # Errors
    /// As [`mesyx_sdk::Host::checkpoint`].
    async fn checkpoint(&self, bridge: &str, key: &str) -> Result<Option<Secret>, Error>;

    /// Keeps something for the bridge, or forgets it.
    ///
    /// # Errors
    /// As [`mesyx_sdk::Host::set_checkpoint`].
    async fn set_checkpoint(&self, bridge: &str, key: &str, value: Option<Secret>) -> Result<(), Error>;

    /// Whether a name is a user's login name.
    ///
    /// # Errors
    /// As [`mesyx_sdk::Host::is_user`].
    async fn is_user(&self, name: &str) -> Result<bool, Error>;

    /// The keys of the bridge that begin with `prefix`, sorted.
    ///
    /// # Errors
    /// As [`mesyx_sdk::Host::checkpoints`].
    async fn checkpoints(&self, bridge: &str, prefix: &str) -> Result<Vec<String>, Error>;

    /// Hands a signal, whose form was checked, to live feeds. Never waits.
    fn signal(&self, signal: Signal);

    /// What is said in groups, for people without an account.
    ///
    /// # Errors
    /// As [`mesyx_sdk::Host::guests`].
    async fn guests(&self) -> Result<LiveFeed, Error>;

    /// The groups, as somebody sees them who belongs to none.
    ///
    /// # Errors
    /// As [`mesyx_sdk::Host::groups`].
    async fn groups(&self) -> Result<Vec<Arc<Group>>, Error>;
}
