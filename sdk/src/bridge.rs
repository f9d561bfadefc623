//! What a bridge is.

use crate::{
    Answer, Config, ConfigErrors, Content, Dsn, Envelope, Error, Host, ListenSpec, Manifest, MessageId, Question,
    Recipient, Timestamp,
};
use async_trait::async_trait;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// One network, carried in and out.
///
/// Life: [`manifest`](Bridge::manifest) and [`build`](Bridge::build) are called while
/// the configuration is checked; [`run`](Bridge::run) once, when the program serves;
/// [`deliver`](Bridge::deliver) many times beside it, only where the bridge holds the
/// grant `deliver`.
#[async_trait]
pub trait Bridge: Send + Sync + 'static {
    /// Name, version, the grants that the bridge wants, and the schema of its configuration. The same at every call.
    fn manifest() -> Manifest
    where
        Self: Sized;

    /// Makes the bridge from its configuration.
    ///
    /// Pure: no I/O, no task, no clock. Called by `mesyx check` as well as before `run`.
    ///
    /// # Errors
    /// All that is wrong with the configuration, at once.
    fn build(config: Config) -> Result<Self, ConfigErrors>
    where
        Self: Sized;

    /// The sockets that [`run`](Bridge::run) will ask [`Host::listen`] for, as the configuration has them.
    ///
    /// The program binds them before it gives up the right to bind low ports, and checks that no two bridges want the
    /// same one. A socket that is not named here is bound when it is asked for.
    fn listeners(&self) -> Vec<ListenSpec> {
        Vec::new()
    }

    /// The names of the secrets that [`Host::secret`] will be asked for, as the configuration has them.
    ///
    /// Unless the operator lists grants, the bridge is granted these too.
    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }

    /// Serves until [`Host::stopped`] resolves, then finishes what it has begun and returns, within 10 seconds.
    ///
    /// Owns its sockets (through [`Host::listen`]) and its tasks: when it returns, none is left.
    ///
    /// # Errors
    /// What makes serving impossible. The bridge is then restarted with growing pauses and shown as failed.
    async fn run(&self, host: Arc<dyn Host>) -> Result<(), Fatal>;

    /// ONE attempt to bring a message to recipients of this bridge's network, ended before `job.deadline`.
    ///
    /// Never retries and never queues: that is the core's. A lost link, a panic or no answer counts as
    /// [`Outcome::Deferred`] with `maybe_sent`.
    ///
    /// Returns one outcome for each of `job.recipients`, in their order.
    async fn deliver(&self, host: Arc<dyn Host>, job: Delivery) -> Vec<Outcome>;

    /// Answers what another bridge asks through [`Host::query`], within 10 seconds.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] for a question that the bridge does not know: all, unless it says otherwise.
    async fn answer(&self, host: Arc<dyn Host>, question: Question) -> Result<Answer, Error> {
        let _ = host;
        let what = format!("this bridge does not answer '{}'", question.name);
        Err(Error::new(crate::ErrorKind::Invalid, what))
    }
}

/// One attempt to deliver one message.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The message's id, the same in every attempt.
    pub id: MessageId,
    /// The envelope sender; `None` is the null reverse-path.
    pub from: Option<crate::Address>,
    /// The recipients of this attempt, 1 to 1,000.
    pub recipients: Vec<Recipient>,
    /// Wishes on delivery notices.
    pub dsn: Dsn,
    /// When the attempt must be over.
    pub deadline: Timestamp,
    /// The bytes to bring, one MIME entity.
    pub content: Content,
}

impl Delivery {
    /// The attempt that brings `envelope` to all its recipients.
    #[must_use]
    pub fn of(envelope: &Envelope, deadline: Timestamp) -> Self {
        Self {
            id: envelope.id,
            from: envelope.from.clone(),
            recipients: envelope.to.clone(),
            dsn: envelope.dsn.clone(),
            deadline,
            content: envelope.content.clone(),
        }
    }
}

impl Delivery {
    /// The name of the user of ours who sends it, as [`crate::chat::user`] takes it: who writes a mail is `ann@example.org`, who says a line
    /// `mesyx:ann@example.org`. `None` for a notice, and for somebody elsewhere whose mail is sent on.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        match self.from.as_ref()? {
            crate::Address::Mail(mail) => Some(mail.local()),
            crate::Address::Mesyx(mesyx) => Some(mesyx.user.local()),
            _ => None,
        }
    }

    /// How long the attempt may still take so that its outcomes arrive in time: a second less than its deadline says.
    #[must_use]
    pub fn left(&self) -> Duration {
        let left = self.deadline.0.saturating_sub(Timestamp::now().0).saturating_sub(1000);
        Duration::from_millis(u64::try_from(left).unwrap_or(0))
    }
}

/// How one attempt ended for one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The network has taken responsibility.
    Delivered {
        /// What the network calls the message, where it said so.
        remote_id: Option<String>,
        /// Whether the next hop was told the wishes on delivery notices and tells of success itself (for mail: it offers
        /// DSN, RFC 3461). Otherwise the core does, to senders who asked for it.
        dsn: bool,
    },
    /// Not now; the core tries again.
    Deferred {
        /// What happened, in one line for the operator.
        why: String,
        /// The network's own wish, where it has one.
        retry_after: Option<Duration>,
        /// What else it holds for.
        scope: DeferScope,
        /// The network may have taken the message all the same (the line broke before the answer).
        maybe_sent: bool,
    },
    /// Never; the sender is told.
    Failed {
        /// Why, in one line fit for the sender.
        why: String,
    },
}

impl Outcome {
    /// The network has taken it, and gave it no name.
    #[must_use]
    pub const fn delivered() -> Self {
        Self::Delivered { remote_id: None, dsn: false }
    }

    /// Never, and why: one line fit for the sender.
    pub fn failed(why: impl Into<String>) -> Self {
        Self::Failed { why: why.into() }
    }

    /// Not now, for this recipient alone, and why; `maybe_sent` where the network may have taken the message all the same.
    pub fn deferred(why: impl Into<String>, maybe_sent: bool) -> Self {
        Self::Deferred { why: why.into(), retry_after: None, scope: DeferScope::Recipient, maybe_sent }
    }
}

/// What a deferral says about other deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeferScope {
    /// This recipient only.
    Recipient,
    /// Everything for this recipient's host or network: for mail, the domain of the recipient's address.
    Host,
    /// Everything that this bridge delivers.
    Bridge,
}

/// Why a bridge can't serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Fatal(String);

impl Fatal {
    /// What failed, where, and what to do; one line.
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
