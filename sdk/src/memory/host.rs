//! The host's side of the contract.

use super::session::MemorySession;
use super::store::Message;
use super::{MemoryHost, State};
use crate::{
    Accepted, Address, Answer, ByteBudget, Certificates, Credentials, Domain, Envelope, Error, ErrorKind, Flags, Grant,
    Group, Health, Host, ListenSpec, LiveFeed, Question, RecipientStatus, Secret, Sender, Session, Signal, Style,
    UserId,
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

    async fn is_user(&self, name: &str) -> Result<bool, Error> {
        self.check_grant(&Grant::Directory)?;
        Ok(!name.contains('@') && self.state().store.account_named(name).is_ok())
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

    async fn checkpoint(&self, key: &str) -> Result<Option<Secret>, Error> {
        self.check_grant(&Grant::Checkpoint)?;
        Ok(self.state().chat.checkpoints.get(key).cloned())
    }

    async fn set_checkpoint(&self, key: &str, value: Option<Secret>) -> Result<(), Error> {
        self.check_grant(&Grant::Checkpoint)?;
        if !(1..=200).contains(&key.len()) {
            return Err(Error::new(ErrorKind::Invalid, "the key of a checkpoint has 1 to 200 bytes"));
        }
        if value.as_ref().is_some_and(|value| value.expose().len() > 65_536) {
            return Err(Error::new(ErrorKind::TooLarge, "a checkpoint has at most 65536 bytes"));
        }
        let checkpoints = &mut self.state().chat.checkpoints;
        match value {
            Some(_) if checkpoints.len() >= 10_000 && !checkpoints.contains_key(key) => {
                return Err(Error::new(ErrorKind::OverQuota, "a bridge has at most 10000 checkpoints"));
            }
            Some(value) => checkpoints.insert(key.to_owned(), value),
            None => checkpoints.remove(key),
        };
        Ok(())
    }

    async fn checkpoints(&self, prefix: &str) -> Result<Vec<String>, Error> {
        self.check_grant(&Grant::Checkpoint)?;
        let state = self.state();
        Ok(state.chat.checkpoints.keys().filter(|key| key.starts_with(prefix)).cloned().collect())
    }

    fn signal(&self, signal: Signal) {
        if self.check_grant(&Grant::Signal).is_ok() {
            self.state().signal(signal, &self.0.domain);
        }
    }

    async fn query(&self, question: Question) -> Result<Answer, Error> {
        self.check_grant(&Grant::Query)?;
        let answerer = self.state().chat.answerers.get(&question.bridge).cloned();
        let unknown = || Error::new(ErrorKind::NotFound, format!("there is no bridge named {}", question.bridge));
        let answerer = answerer.ok_or_else(unknown)?;
        answerer(question)
    }

    async fn guests(&self) -> Result<LiveFeed, Error> {
        self.check_grant(&Grant::Guests)?;
        Ok(self.state().live(None))
    }

    async fn groups(&self) -> Result<Vec<Arc<Group>>, Error> {
        self.check_grant(&Grant::Guests)?;
        Ok(self.state().groups_for(None))
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
        let accepted = if envelope.style == Style::Instant && envelope.conversation.is_some() {
            let repeated = envelope.dedup.clone().map(|dedup| (envelope.origin.network.clone(), dedup));
            if let Some(&id) = repeated.as_ref().and_then(|name| state.store.taken.get(name)) {
                return Ok(Accepted { id, duplicate: true });
            }
            state.accept_line(&envelope, &self.0.domain)?;
            if let Some(name) = repeated {
                state.store.taken.insert(name, envelope.id);
            }
            Accepted { id: envelope.id, duplicate: false }
        } else {
            self.store(&mut state, &envelope)?
        };
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

    pub(super) fn domain_now(&self) -> &Domain {
        &self.0.domain
    }

    pub(super) fn status_of(&self, address: &Address) -> RecipientStatus {
        if let Address::Mesyx(mesyx) = address {
            let ours = *mesyx.user.domain() == self.0.domain;
            let known = ours && self.state().store.account_named(mesyx.user.local()).is_ok();
            return if known { RecipientStatus::Local } else { RecipientStatus::Unknown };
        }
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
