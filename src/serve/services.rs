//! What bridges get from the core.

use async_trait::async_trait;
use mesyx_bridges::Services;
use mesyx_core::core::Core;
use mesyx_sdk::{
    Accepted, Address, ByteBudget, Certificates, Credentials, Domain, Envelope, Error, ErrorKind, Group, LiveFeed,
    RecipientStatus, Secret, Sender, Session, Signal,
};
use std::sync::Arc;
use tokio::sync::watch;

/// The core, with the certificates that the program read.
#[derive(Debug)]
pub(crate) struct CoreServices {
    pub(crate) core: Arc<Core>,
    pub(crate) hostname: String,
    pub(crate) domain: Domain,
    pub(crate) certificates: watch::Receiver<Arc<Certificates>>,
}

#[async_trait]
impl Services for CoreServices {
    async fn accept(&self, bridge: &str, batch: Vec<Envelope>) -> Vec<Result<Accepted, Error>> {
        self.core.accept(bridge, batch).await
    }

    async fn recipient(&self, address: &Address, sender: &Sender) -> Result<RecipientStatus, Error> {
        Ok(self.core.recipient(address, sender))
    }

    async fn login(&self, credentials: Credentials) -> Result<Arc<dyn Session>, Error> {
        self.core.login(credentials).await
    }

    async fn secret(&self, name: &str) -> Result<Secret, Error> {
        // Keys of a domain that is not served any more sign nothing.
        if let Some(domain) = name.strip_prefix("dkim.")
            && !self.core.domains().iter().any(|ours| ours == domain)
        {
            return Err(Error::new(ErrorKind::NotFound, format!("{domain} is no domain of this server")));
        }
        crate::operate::secret(&self.core, name).await
    }

    fn certificates(&self) -> watch::Receiver<Arc<Certificates>> {
        self.certificates.clone()
    }

    fn budget(&self) -> &ByteBudget {
        self.core.budget()
    }

    fn hostname(&self) -> &str {
        &self.hostname
    }

    fn domain(&self) -> &Domain {
        &self.domain
    }

    async fn checkpoint(&self, bridge: &str, key: &str) -> Result<Option<Secret>, Error> {
        self.core.checkpoint(bridge, key).await
    }

    async fn set_checkpoint(&self, bridge: &str, key: &str, value: Option<Secret>) -> Result<(), Error> {
        self.core.set_checkpoint(bridge, key, value).await
    }

    async fn is_user(&self, name: &str) -> Result<bool, Error> {
        Ok(self.core.is_user(name))
    }

    async fn checkpoints(&self, bridge: &str, prefix: &str) -> Result<Vec<String>, Error> {
        self.core.checkpoints(bridge, prefix).await
    }

    fn signal(&self, signal: Signal) {
        self.core.signal(signal);
    }

    async fn guests(&self) -> Result<LiveFeed, Error> {
        self.core.guests().await
    }

    async fn groups(&self) -> Result<Vec<Arc<Group>>, Error> {
        self.core.groups().await
    }
}
