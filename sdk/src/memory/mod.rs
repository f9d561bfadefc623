//! A host that keeps everything in memory: for a bridge's tests, for examples, and to read how a host behaves.
//!
//! [`MemoryHost`] keeps the whole contract of [`crate::Host`] and [`crate::Session`] but for durability: nothing is
//! sealed, nothing reaches a disk, everything is gone when the last clone is dropped. Beside the contract it has what a
//! test needs: it can refuse or hold what a bridge brings, tell what came, and say where a listener listens.
//!
//! Simpler than the core: one domain; no quotas, no slowing down of logins; searching decodes UTF-8 and takes every
//! other character set for ISO 8859-1.

mod chat;
pub(crate) mod decode;
mod host;
mod search;
mod session;
mod store;

#[cfg(test)]
mod chat_tests;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod tests;

use crate::{
    AddressError, ByteBudget, Certificates, Domain, Envelope, Error, ErrorKind, Grant, Health, MailAddress, Secret,
    Session, User, UserId,
};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use store::Store;
use tokio::sync::watch;

/// A host with nothing behind it. Clones share everything.
///
/// # Examples
/// A message comes in and is read:
/// ```
/// use mesyx_sdk::*;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let host = MemoryHost::new("example.org".parse()?);
/// let ann = host.add_user("ann", "secret")?;
///
/// let content = Content::from(b"Subject: hello\r\n\r\nhow are you\r\n".to_vec());
/// let envelope = memory::envelope(None, vec![ann.address.clone().into()], content);
/// host.accept(vec![envelope]).await.remove(0)?;
///
/// let session = host.session("ann")?;
/// let inbox = session.mailboxes().await?.into_iter().find(|mailbox| mailbox.name.is_inbox()).unwrap();
/// let (_, summary) = session.summaries(inbox.id, &[1]).await?.remove(0);
/// assert_eq!(summary.fields.subject.as_deref(), Some(&b"hello"[..]));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MemoryHost(Arc<Shared>);

struct Shared {
    domain: Domain,
    hostname: String,
    budget: ByteBudget,
    state: Mutex<State>,
    certificates: watch::Sender<Arc<Certificates>>,
    health: watch::Sender<Vec<Health>>,
    stop: watch::Sender<bool>,
    /// Whether `accept` and `submit` wait before they take anything.
    held: watch::Sender<bool>,
    /// How many batches were brought to `accept` or `submit`.
    brought: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    store: Store,
    grants: Option<Vec<Grant>>,
    secrets: HashMap<String, Secret>,
    accepted: Vec<Envelope>,
    submitted: Vec<Envelope>,
    failing_accepts: VecDeque<Error>,
    failing_logins: VecDeque<Error>,
    chat: chat::Chat,
}

impl MemoryHost {
    /// A host of one domain, without users, with every grant, a budget of 256 MiB and the host name `mail.DOMAIN`.
    #[must_use]
    pub fn new(domain: Domain) -> Self {
        Self::with_budget(domain, 256 << 20)
    }

    /// The same with a budget of `bytes` for messages in flight.
    #[must_use]
    pub fn with_budget(domain: Domain, bytes: usize) -> Self {
        let hostname = format!("mail.{}", domain.as_name().unwrap_or("localhost"));
        Self(Arc::new(Shared {
            domain,
            hostname,
            budget: ByteBudget::new(bytes),
            state: Mutex::default(),
            certificates: watch::Sender::default(),
            health: watch::Sender::default(),
            stop: watch::Sender::new(false),
            held: watch::Sender::new(false),
            brought: watch::Sender::new(0),
        }))
    }

    /// Adds a user with the address `NAME@DOMAIN` and the standard mailboxes, or gives the one there is a new password.
    ///
    /// # Errors
    /// Where the name can't be a local part.
    pub fn add_user(&self, name: &str, password: &str) -> Result<User, AddressError> {
        let address = MailAddress::new(name, self.0.domain.clone())?;
        let user = User { id: UserId::random(), name: name.to_owned(), address };
        Ok(self.state().store.add_user(user, Secret::from(password.to_owned())))
    }

    /// Makes an address one more of a user's own.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is no such user.
    pub fn add_alias(&self, user: &str, address: MailAddress) -> Result<(), Error> {
        self.state().store.account_named(user)?.aliases.push(address);
        Ok(())
    }

    /// A session of a user, without a password.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is no such user.
    pub fn session(&self, user: &str) -> Result<Arc<dyn Session>, Error> {
        let user = self.state().store.account_named(user)?.user.clone();
        Ok(Arc::new(session::MemorySession::new(self.clone(), user)))
    }

    /// Ends all sessions of a user, as when a password is revoked: each watcher is told [`crate::Change::Ended`].
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is no such user.
    pub fn end_sessions(&self, user: &str, why: &str) -> Result<(), Error> {
        let mut state = self.state();
        state.store.account_named(user)?.end(why);
        state.end_chat(user, why)?;
        Ok(())
    }

    /// Serves these certificates from now on.
    pub fn set_certificates(&self, certificates: Certificates) {
        self.0.certificates.send_replace(Arc::new(certificates));
    }

    /// Stores a service secret.
    pub fn set_secret(&self, name: &str, secret: Secret) {
        self.state().secrets.insert(name.to_owned(), secret);
    }

    /// Refuses every call that needs another grant than these.
    pub fn grant_only(&self, grants: impl Into<Vec<Grant>>) {
        self.state().grants = Some(grants.into());
    }

    /// Makes the next envelope given to `accept` or `submit` fail so. Several are used up in turn.
    pub fn fail_next_accept(&self, error: Error) {
        self.state().failing_accepts.push_back(error);
    }

    /// Makes the next login fail so, whatever its password. Several are used up in turn.
    pub fn fail_next_login(&self, error: Error) {
        self.state().failing_logins.push_back(error);
    }

    /// Makes `accept` and `submit` wait until [`MemoryHost::release_accepts`]: a bridge that acknowledges to its
    /// network meanwhile does so too early.
    pub fn hold_accepts(&self) {
        self.0.held.send_replace(true);
    }

    /// Lets `accept` and `submit` go on.
    pub fn release_accepts(&self) {
        self.0.held.send_replace(false);
    }

    /// How many batches were brought to `accept` or `submit` until now, taken or not.
    #[must_use]
    pub fn batches(&self) -> usize {
        *self.0.brought.borrow()
    }

    /// Waits until `batches` batches in all were brought to `accept` or `submit`, taken or not.
    pub async fn brought(&self, batches: usize) {
        // It can't fail: the sending side lives as long as this.
        let _ = self.0.brought.subscribe().wait_for(|brought| *brought >= batches).await;
    }

    /// What `accept` took, in order.
    #[must_use]
    pub fn accepted(&self) -> Vec<Envelope> {
        self.state().accepted.clone()
    }

    /// What users sent, in order.
    #[must_use]
    pub fn submitted(&self) -> Vec<Envelope> {
        self.state().submitted.clone()
    }

    /// What was told by [`crate::Host::health`], in order.
    #[must_use]
    pub fn health_reports(&self) -> Vec<Health> {
        self.0.health.borrow().clone()
    }

    /// Waits until a bridge says that its listener `name` listens; tells where.
    pub async fn listening(&self, name: &str) -> SocketAddr {
        let mut reports = self.0.health.subscribe();
        loop {
            let found = reports.borrow_and_update().iter().find_map(|report| match report {
                Health::Listening { name: of, address } if of == name => Some(*address),
                _ => None,
            });
            match found {
                Some(address) => return address,
                // It can't fail: the sending side lives as long as this.
                None => drop(reports.changed().await),
            }
        }
    }

    /// Asks the bridge to stop: [`crate::Host::stopped`] resolves from now on.
    pub fn stop(&self) {
        self.0.stop.send_replace(true);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while accepts are held, then gives the error that was asked for, if any.
    async fn gate(&self) -> Result<(), Error> {
        // It can't fail: the sending side lives as long as this.
        let _ = self.0.held.subscribe().wait_for(|held| !held).await;
        self.state().failing_accepts.pop_front().map_or(Ok(()), Err)
    }

    fn check_grant(&self, wanted: &Grant) -> Result<(), Error> {
        match &self.state().grants {
            Some(grants) if !grants.contains(wanted) => {
                Err(Error::new(ErrorKind::NotGranted, format!("the bridge lacks the grant {wanted}")))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for MemoryHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryHost({})", self.0.domain)
    }
}

/// A mail with an id of its own, received now, with nothing else said of it: a start for tests.
#[must_use]
pub fn envelope(from: Option<crate::Address>, to: Vec<crate::Address>, content: crate::Content) -> Envelope {
    Envelope {
        id: crate::MessageId::random(),
        dedup: None,
        style: crate::Style::Delayed,
        kind: crate::Kind::Message,
        from,
        to: to.into_iter().map(crate::Recipient::new).collect(),
        conversation: None,
        sent: None,
        received: crate::Timestamp::now(),
        importance: crate::Importance::Normal,
        content,
        origin: crate::Origin::default(),
        junk: false,
        dsn: crate::Dsn::default(),
    }
}
