//! What Mesyx gives a bridge.

use crate::{
    Address, Answer, ByteBudget, Certificates, Domain, Envelope, Error, Fatal, Grant, Group, LiveFeed, MessageId,
    Question, Secret, Session, Signal, UserId, chat,
};
use async_trait::async_trait;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use tokio::sync::watch;

/// The core, cut to what the operator granted this bridge.
///
/// Every call may be made at any time between the start of [`crate::Bridge::run`] and its return, from any task.
/// A call whose grant is missing fails with [`crate::ErrorKind::NotGranted`] and is logged.
#[async_trait]
pub trait Host: Send + Sync + 'static {
    /// Takes messages in (grant [`Grant::Accept`]).
    ///
    /// Resolves only when the messages are sealed and durable: only then may the network be told so (SMTP 250).
    /// One answer for each envelope, in their order; each is taken for all its recipients or for none.
    /// Dropping the future does not undo a message that was being committed.
    async fn accept(&self, batch: Vec<Envelope>) -> Vec<Result<Accepted, Error>>;

    /// Whether an address is ours to take messages for, from this sender (grant [`Grant::Directory`]). Cheap: no disk is read.
    ///
    /// Through the wire, that it is ours for strangers may be the answer of up to a second ago. A user who went away meanwhile is refused by
    /// [`Host::accept`], as one is who goes between the question and the message.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unavailable`] where that can't be told now.
    async fn recipient(&self, address: &Address, sender: &Sender) -> Result<RecipientStatus, Error>;

    /// Whether a name is a user's login name, whatever its case, which nobody else may go by (grant [`Grant::Directory`]). Cheap: no disk is
    /// read. Say no more of it to strangers than that a name is taken.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unavailable`] where that can't be told now.
    async fn is_user(&self, name: &str) -> Result<bool, Error> {
        let _ = name;
        Err(Error::new(crate::ErrorKind::Unavailable, "this host does not tell who its users are"))
    }

    /// Checks a name and password, and opens the user's keys for the life of the session (grant [`Grant::Access`]).
    ///
    /// Takes the same time for an unknown name as for a wrong password; slows down after failures, per address and per user.
    ///
    /// # Errors
    /// [`crate::ErrorKind::LoginFailed`], [`crate::ErrorKind::TooMany`], [`crate::ErrorKind::Unavailable`].
    async fn login(&self, credentials: Credentials) -> Result<Arc<dyn Session>, Error>;

    /// The certificates to serve TLS with, and their replacements as they come (grant [`Grant::Certificates`]).
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotGranted`].
    fn certificates(&self) -> Result<watch::Receiver<Arc<Certificates>>, Error>;

    /// A service secret that this bridge was granted (grant [`Grant::Secret`]), such as a password at a network.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] where no such secret is stored.
    async fn secret(&self, name: &str) -> Result<Secret, Error>;

    /// A listening TCP socket (grant [`Grant::Listen`] for its port), bound here or handed over by the service manager; non-blocking.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unavailable`] where the address can't be bound; the text says why.
    async fn listen(&self, spec: &ListenSpec) -> Result<TcpListener, Error>;

    /// The byte budget that all messages in flight share. Reserve before reading a body.
    fn budget(&self) -> &ByteBudget;

    /// The name by which this host is known to other hosts (RFC 5321, section 4.1.1.1), in ASCII.
    fn hostname(&self) -> &str;

    /// The exchange's domain: that under which names in the chat world have mail addresses, see [`crate::chat::to_mail`].
    fn domain(&self) -> &Domain;

    /// Something small that the bridge keeps between its lives: what [`Host::set_checkpoint`] last set under this key
    /// (grant [`Grant::Checkpoint`]). Each bridge has keys of its own.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unavailable`].
    async fn checkpoint(&self, key: &str) -> Result<Option<Secret>, Error> {
        let _ = key;
        chat::none()
    }

    /// Keeps something small, or forgets it (`None`): sealed under the instance key, durable when it resolves
    /// (grant [`Grant::Checkpoint`]). Keys have 1 to 200 bytes, values at most 65,536; a bridge has at most 10,000.
    ///
    /// # Errors
    /// [`crate::ErrorKind::TooLarge`], [`crate::ErrorKind::OverQuota`], [`crate::ErrorKind::Full`].
    async fn set_checkpoint(&self, key: &str, value: Option<Secret>) -> Result<(), Error> {
        let _ = (key, value);
        chat::none()
    }

    /// The keys that are set and begin with `prefix`, sorted (grant [`Grant::Checkpoint`]).
    async fn checkpoints(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let _ = prefix;
        chat::none()
    }

    /// Sends something transient to live feeds (grant [`Grant::Signal`]). Never waits; dropped where nobody listens or a feed is full.
    fn signal(&self, signal: Signal) {
        let _ = signal;
    }

    /// Asks another bridge (grant [`Grant::Query`]). Answered within 10 seconds or with an error.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] where there is no such bridge, [`crate::ErrorKind::Unavailable`] where it does not run, and what it answers.
    async fn query(&self, question: Question) -> Result<Answer, Error> {
        let _ = question;
        chat::none()
    }

    /// What is said in groups, for people without an account (grant [`Grant::Guests`]); what they say comes in by [`Host::accept`], with the
    /// group as conversation and only recipient. Nothing is stored for guests.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unavailable`].
    async fn guests(&self) -> Result<LiveFeed, Error> {
        chat::none()
    }

    /// The groups that there are, as somebody sees them who belongs to none (grant [`Grant::Guests`]).
    async fn groups(&self) -> Result<Vec<Arc<Group>>, Error> {
        chat::none()
    }

    /// Tells how the bridge does; shown by `mesyx status` and the metrics.
    fn health(&self, health: Health);

    /// Resolves when the bridge must stop: take nothing new, finish what was begun, return from `run`.
    async fn stopped(&self);
}

/// A message was taken: sealed and durable for each recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// The id under which it is stored.
    pub id: MessageId,
    /// It had been taken before (same `dedup`), and was not stored again.
    pub duplicate: bool,
}

/// Who asks whether an address takes messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sender {
    /// Anybody: a peer that has not logged in.
    Stranger,
    /// One of our users, logged in.
    User(UserId),
}

/// What an address is to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecipientStatus {
    /// Ours, and messages for it are taken.
    Local,
    /// In a domain of ours, but there is nobody of that name. (SMTP 550 5.1.1.)
    Unknown,
    /// Not ours, nor could it be. A stranger is refused (SMTP 550 5.7.1).
    Foreign,
    /// Not ours, but what this sender submits is brought there. Never the answer to [`Sender::Stranger`].
    Remote,
    /// Ours, but not for this sender. (SMTP 550 5.7.1, with the text.)
    Refused(String),
}

/// A name and a password, and who brings them.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The login name or an address of the user, as the client sent it.
    pub name: String,
    /// The password.
    pub password: Secret,
    /// Who asks.
    pub client: ClientInfo,
}

/// The client behind a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientInfo {
    /// Its IP address (behind a PROXY header: the original one).
    pub ip: IpAddr,
    /// The protocol: `imap`, `submission`.
    pub protocol: String,
    /// Whether TLS protects the connection.
    pub tls: bool,
}

/// A socket that a bridge wants to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenSpec {
    /// Its name within the bridge, unique: `mx`, `imaps`. systemd's `FileDescriptorName=` for it is `BRIDGE.NAME`.
    pub name: String,
    /// Address and port. Port 0 asks for any free port.
    pub address: SocketAddr,
}

impl ListenSpec {
    /// Asks the host for the socket, and tells it that the socket accepts connections ([`Health::Listening`]).
    ///
    /// # Errors
    /// Where the host does not give it; the text names the socket, its address, and why.
    pub async fn open(&self, host: &dyn Host) -> Result<tokio::net::TcpListener, Fatal> {
        let failed = |why: &dyn std::fmt::Display| {
            Fatal::new(format!("the listener {} can't listen on {}: {why}", self.name, self.address))
        };
        let socket = host.listen(self).await.map_err(|error| failed(&error))?;
        let socket = tokio::net::TcpListener::from_std(socket).map_err(|error| failed(&error))?;
        let address = socket.local_addr().map_err(|error| failed(&error))?;
        host.health(Health::Listening { name: self.name.clone(), address });
        Ok(socket)
    }
}

/// How a bridge does.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// A listener accepts connections.
    Listening {
        /// The listener's name, as in [`ListenSpec::name`].
        name: String,
        /// Where it really listens (its port is never 0).
        address: SocketAddr,
    },
    /// Everything that the bridge serves is up.
    Ready,
    /// It serves, but something is wrong: what, in one line.
    Degraded(String),
}

/// Which grant a listening address needs.
impl From<&ListenSpec> for Grant {
    fn from(spec: &ListenSpec) -> Self {
        Self::Listen(spec.address.port())
    }
}
