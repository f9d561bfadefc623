//! The host as one bridge sees it.

use crate::services::Services;
use crate::sockets::Sockets;
use crate::supervisor::Monitor;
use async_trait::async_trait;
use mesyx_sdk::{
    Accepted, Address, ByteBudget, Certificates, Credentials, Domain, Envelope, Error, ErrorKind, Grant, Health, Host,
    ListenSpec, RecipientStatus, Secret, Sender, Session,
};
use std::net::TcpListener;
use std::sync::Arc;
use tokio::sync::watch;

/// One bridge's host for one life of the bridge: from the start of `run` to its end.
///
/// Checks the grant of each call, and refuses everything once the life is over.
pub struct GuardedHost {
    bridge: String,
    grants: Vec<Grant>,
    services: Arc<dyn Services>,
    sockets: Arc<Sockets>,
    monitor: Arc<Monitor>,
    life: watch::Receiver<Life>,
}

/// How far a bridge's life has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// It serves.
    Running,
    /// It was asked to stop; calls still work, so that it can finish.
    Stopping,
    /// `run` has ended.
    Over,
}

impl GuardedHost {
    pub(crate) fn new(
        bridge: &str,
        grants: Vec<Grant>,
        services: Arc<dyn Services>,
        sockets: Arc<Sockets>,
        monitor: Arc<Monitor>,
        life: watch::Receiver<Life>,
    ) -> Self {
        Self { bridge: bridge.to_owned(), grants, services, sockets, monitor, life }
    }

    fn need(&self, grant: &Grant) -> Result<(), Error> {
        if *self.life.borrow() == Life::Over || self.life.has_changed().is_err() {
            return Err(Error::new(ErrorKind::Unavailable, format!("the bridge {} has ended", self.bridge)));
        }
        if self.grants.iter().any(|given| given.covers(grant)) {
            return Ok(());
        }
        tracing::warn!(bridge = self.bridge, %grant, "refused a call: the bridge was not granted it");
        metrics::counter!("mesyx_bridge_calls_refused_total", "bridge" => self.bridge.clone()).increment(1);
        let what = format!("the bridge {} was not granted '{grant}'", self.bridge);
        Err(Error::new(ErrorKind::NotGranted, what))
    }
}

#[async_trait]
impl Host for GuardedHost {
    async fn accept(&self, mut batch: Vec<Envelope>) -> Vec<Result<Accepted, Error>> {
        if let Err(error) = self.need(&Grant::Accept) {
            return batch.iter().map(|_| Err(error.clone())).collect();
        }
        for envelope in &mut batch {
            envelope.origin.bridge.clone_from(&self.bridge);
        }
        self.services.accept(&self.bridge, batch).await
    }

    async fn recipient(&self, address: &Address, sender: &Sender) -> Result<RecipientStatus, Error> {
        self.need(&Grant::Directory)?;
        self.services.recipient(address, sender).await
    }

    async fn login(&self, credentials: Credentials) -> Result<Arc<dyn Session>, Error> {
        self.need(&Grant::Access)?;
        self.services.login(credentials).await
    }

    fn certificates(&self) -> Result<watch::Receiver<Arc<Certificates>>, Error> {
        self.need(&Grant::Certificates)?;
        Ok(self.services.certificates())
    }

    async fn secret(&self, name: &str) -> Result<Secret, Error> {
        self.need(&Grant::Secret(name.to_owned()))?;
        self.services.secret(name).await
    }

    async fn listen(&self, spec: &ListenSpec) -> Result<TcpListener, Error> {
        self.need(&Grant::from(spec))?;
        self.sockets.listen(&self.bridge, spec)
    }

    fn budget(&self) -> &ByteBudget {
        self.services.budget()
    }

    fn hostname(&self) -> &str {
        self.services.hostname()
    }

    fn domain(&self) -> &Domain {
        self.services.domain()
    }

    fn health(&self, health: Health) {
        if *self.life.borrow() != Life::Over {
            self.monitor.health(health);
        }
    }

    async fn stopped(&self) {
        // An error means that the supervisor is gone, which ends the life as well.
        let _ = self.life.clone().wait_for(|life| *life != Life::Running).await;
    }
}
