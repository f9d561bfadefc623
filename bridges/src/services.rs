//! What stands behind a host.

use async_trait::async_trait;
use mesyx_sdk::{
    Accepted, Address, ByteBudget, Certificates, Credentials, Domain, Envelope, Error, RecipientStatus, Secret, Sender,
    Session,
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
}
