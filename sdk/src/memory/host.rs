//! The host's side of the contract.

use super::session::MemorySession;
use super::store::Message;
use super::{MemoryHost, State};
use crate::{
    Accepted, Address, ByteBudget, Certificates, Credentials, Domain, Envelope, Error, ErrorKind, Flags, Grant, Health,
    Host, ListenSpec, RecipientStatus, Secret, Sender, Session, UserId,
};
use async_trait::async_trait;
use std::net::TcpListener;
use std::sync::Arc;
use tokio::sync::watch;

#[async_trait]
impl Host for MemoryHost {
    async fn accept(&self, batch: Vec<Envelope>) -> Vec<Result<Accepted, Error>> {
        self.0.brought.send_modify(|brought| *brought += 1);
        let mut answers = Vec::with_capacity(batch.len());
        for envelope in batch {
            answers.push(self.accept_one(envelope).await);
        }
        answers
    }

    async fn recipient(&self, address: &Address, _sender: &Sender) -> Result<RecipientStatus, Error> {
        self.check_grant(&Grant::Directory)?;
        Ok(self.status_of(address))
    }

    async fn login(&self, credentials: Credentials) -> Result<Arc<dyn Session>, Error> {
        self.check_grant(&Grant::Access)?;
        let mut state = self.state();
        if let Some(error) = state.failing_logins.pop_front() {
            return Err(error);
        }
        let account = state.store.account_named(&credentials.name).ok();
        match account.filter(|account| account.password == credentials.password) {
            Some(account) => Ok(Arc::new(MemorySession::new(self.clone(), account.user.clone()))),
            None => Err(Error::new(ErrorKind::LoginFailed, "the name or the password is wrong")),
        }
    }

    fn certificates(&self) -> Result<watch::Receiver<Arc<Certificates>>, Error> {
        self.check_grant(&Grant::Certificates)?;
        Ok(self.0.certificates.subscribe())
    }

    async fn secret(&self, name: &str) -> Result<Secret, Error> {
        self.check_grant(&Grant::Secret(name.to_owned()))?;
        let secret = self.state().secrets.get(name).cloned();
        secret.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no secret named {name}")))
    }

    async fn listen(&self, spec: &ListenSpec) -> Result<TcpListener, Error> {
        self.check_grant(&spec.into())?;
        let bound = TcpListener::bind(spec.address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        bound.map_err(|error| {
            let what = format!("can't listen on {} for {}: {error}", spec.address, spec.name);
            Error::new(ErrorKind::Unavailable, what)
        })
    }

    fn budget(&self) -> &ByteBudget {
        &self.0.budget
    }

    fn hostname(&self) -> &str {
        &self.0.hostname
    }

    fn domain(&self) -> &Domain {
        &self.0.domain
    }

    fn health(&self, health: Health) {
        self.0.health.send_modify(|reports| reports.push(health));
    }

    async fn stopped(&self) {
        // It can't fail: the sending side lives as long as this.
        let _ = self.0.stop.subscribe().wait_for(|stop| *stop).await;
    }
}

impl MemoryHost {
    async fn accept_one(&self, envelope: Envelope) -> Result<Accepted, Error> {
        self.check_grant(&Grant::Accept)?;
        self.gate().await?;
        let mut state = self.state();
        let accepted = self.store(&mut state, &envelope)?;
        if !accepted.duplicate {
            state.accepted.push(envelope);
        }
        Ok(accepted)
    }

    /// Puts a message into the INBOX (or Junk mailbox) of each recipient, once each, or into none.
    pub(super) fn store(&self, state: &mut State, envelope: &Envelope) -> Result<Accepted, Error> {
        if !(1..=1000).contains(&envelope.to.len()) {
            return Err(Error::new(ErrorKind::Invalid, "a message has 1 to 1000 recipients"));
        }
        let repeated = envelope.dedup.clone().map(|dedup| (envelope.origin.network.clone(), dedup));
        if let Some(&id) = repeated.as_ref().and_then(|name| state.store.taken.get(name)) {
            return Ok(Accepted { id, duplicate: true });
        }
        let mut users: Vec<UserId> = Vec::new();
        for recipient in &envelope.to {
            let owner = recipient.address.as_mail().and_then(|address| state.store.owner(address));
            let owner = owner.ok_or_else(|| {
                Error::new(ErrorKind::NotFound, format!("there is no mailbox for {}", recipient.address))
            })?;
            if !users.contains(&owner) {
                users.push(owner);
            }
        }
        let origin = Some(envelope.origin.clone());
        let message = Message::new(envelope.id, Flags::default(), envelope.received, &envelope.content, origin)?;
        for user in users {
            let account = state.store.account(user)?;
            let folder = if envelope.junk { account.junk()? } else { account.inbox()? };
            folder.add(message.clone());
            let id = folder.id;
            account.tell_mailbox(id);
        }
        if let Some(name) = repeated {
            state.store.taken.insert(name, envelope.id);
        }
        Ok(Accepted { id: envelope.id, duplicate: false })
    }

    pub(super) fn status_of(&self, address: &Address) -> RecipientStatus {
        let Some(mail) = address.as_mail() else { return RecipientStatus::Foreign };
        if self.state().store.owner(mail).is_some() {
            RecipientStatus::Local
        } else if *mail.domain() == self.0.domain {
            RecipientStatus::Unknown
        } else {
            RecipientStatus::Foreign
        }
    }
}
