//! Intake: from an envelope to sealed copies that are durable.
//!
//! ```text
//!  envelope --> limits --> recipients (each user once) --> summary --> keyset, seal for each user --> one commit --> Accepted
//! ```
//!
//! - An envelope is taken for all its recipients or for none, and nothing of it is clear on its way to the disk.
//! - The keyset is chosen by the time of arrival and the envelope's importance. Headers such as `Importance` or `X-Priority`
//!   count for nothing: a stranger must not choose into which keyset (and so perhaps offline) their message goes.
//! - What a bridge claims about itself is not believed: its name and the logged-in user are filled in here.
//! - The time of arrival is believed within a day of our clock, so that a bridge which took over a backlog can tell it.

use crate::access::OpenUser;
use crate::chat::Target;
use crate::core::Shared;
use crate::errors::{broken, stored};
use crate::id::mailbox_id_for_role;
use crate::keys::Keyring;
use crate::seal::{SealFor, SealedMessage};
use crate::store::{Placing, Write, Written};
use futures_util::future::join_all;
use mesyx_sdk::{
    Accepted, Address, Content, Envelope, Error, ErrorKind, Flag, Mailbox, MailboxId, Recipient, RecipientStatus, Role,
    Sender, Style, Summary, Timestamp, UserId, mime,
};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

/// Most recipients of one envelope.
const MOST_RECIPIENTS: usize = 1000;
/// What our own trace headers may add to a message of the largest size.
const TRACE_HEADERS: usize = 16 << 10;
/// Above this size, sealing is done on a thread of its own: it would hold up the others for more than a millisecond.
const INLINE_BYTES: usize = 64 << 10;
/// Where no bridge brings messages to.
pub(crate) const NO_BRIDGE: &str =
    "no bridge of this server brings messages there: the bridge smtp, with the grant deliver, brings mail";
/// How far from our clock a time of arrival is believed, in milliseconds.
const BELIEVED: i64 = 24 * 60 * 60 * 1000;

impl Shared {
    /// Takes messages in from a bridge, for strangers.
    pub(crate) async fn accept(self: &Arc<Self>, bridge: &str, batch: Vec<Envelope>) -> Vec<Result<Accepted, Error>> {
        join_all(batch.into_iter().map(|mut envelope| {
            envelope.origin.authenticated = None;
            async move {
                if envelope.style == Style::Instant && envelope.conversation.is_some() {
                    return self.accept_line(bridge, &envelope).await;
                }
                self.take_in(bridge, envelope, &Sender::Stranger, None).await
            }
        }))
        .await
    }

    /// Takes one message in. What `sender` may say was checked. `open`: the keys of a sender who is logged in.
    pub(crate) async fn take_in(
        self: &Arc<Self>,
        bridge: &str,
        mut envelope: Envelope,
        sender: &Sender,
        open: Option<&Arc<OpenUser>>,
    ) -> Result<Accepted, Error> {
        let (users, remote) = self.recipients(&envelope, sender).inspect_err(|error| {
            self.trace.refused(
                &self.instance,
                envelope.from.as_ref(),
                envelope.to.iter().map(|to| &to.address),
                refusal(error.kind()),
            );
        })?;
        self.check_size(&envelope.content)?;
        self.check_quota(&users, envelope.content.len()).await?;
        envelope.origin.bridge = bridge.to_owned();
        let now = Timestamp::now();
        let date = Timestamp(envelope.received.0.clamp(now.0.saturating_sub(BELIEVED), now.0));
        let dedup = envelope.dedup.as_deref().map(|name| self.dedup(bridge, name, &users));
        let outbound = match (sender, open) {
            _ if remote.is_empty() => None,
            (Sender::User(user), Some(open)) => Some(self.outbound(open, *user, &envelope, remote).await?),
            _ => return Err(Error::new(ErrorKind::Forbidden, "this server does not relay for strangers")),
        };
        let Envelope { id, content, origin, importance, from, to, junk, .. } = envelope;
        let places = self.places(&users, junk).await?;
        let keys = self.keys_in(&content, &origin, junk, date);
        let job = SealJob {
            shared: Arc::clone(self),
            targets: self.seal_for(&users, |user| SealFor { user, message: id, importance })?,
        };
        let sealed = job.run(content, date, Some(origin)).await?;
        let inbox = |user: UserId| mailbox_id_for_role(user, Role::Inbox);
        let place = |message: SealedMessage| Placing {
            mailbox: places.get(&message.user).copied().unwrap_or_else(|| inbox(message.user)),
            message,
            flags: Vec::<Flag>::new(),
        };
        let copies: Vec<Placing> = sealed.into_iter().map(place).collect();
        let size: u64 = copies.first().map_or(0, |copy| copy.message.padded_size);
        let queued = outbound.is_some();
        let duplicate = match outbound {
            Some(outbound) => self.commit_outbound(copies, dedup, outbound).await?,
            None => {
                let written = self.store.write(Write::Deliver { copies, dedup }).await.map_err(stored)?;
                matches!(written, Written::Delivered { duplicate: true })
            }
        };
        let what = match (duplicate, queued) {
            (true, _) => "known already, not stored again",
            (false, true) => "delivered here and queued for others elsewhere",
            (false, false) => "delivered",
        };
        self.trace.delivered(&self.instance, id, from.as_ref(), to.iter().map(|to| &to.address), what);
        if !duplicate {
            users.iter().for_each(|user| self.quota.add(*user, size));
            self.note_keys(&users, keys);
            metrics::counter!("mesyx_messages_accepted_total", "bridge" => bridge.to_owned()).increment(1);
        }
        Ok(Accepted { id, duplicate })
    }

    /// The users that a message is for, each once, and the recipients elsewhere.
    fn recipients(&self, envelope: &Envelope, sender: &Sender) -> Result<(BTreeSet<UserId>, Vec<Recipient>), Error> {
        if envelope.to.is_empty() || envelope.to.len() > MOST_RECIPIENTS {
            return Err(Error::new(ErrorKind::Invalid, "a message has 1 to 1000 recipients"));
        }
        let directory = self.directory();
        let mut users = BTreeSet::new();
        let mut remote: Vec<Recipient> = Vec::new();
        for recipient in &envelope.to {
            let (status, found) = directory.addresses.resolve(&recipient.address, sender);
            let refuse = |kind, why: &str| Err(Error::new(kind, format!("{}: {why}", recipient.address)));
            match status {
                RecipientStatus::Local => users.extend(found.iter().copied()),
                RecipientStatus::Unknown => return refuse(ErrorKind::NotFound, "there is nobody of that name here"),
                RecipientStatus::Refused(why) => return refuse(ErrorKind::Forbidden, &why),
                RecipientStatus::Foreign | RecipientStatus::Remote => match sender {
                    Sender::Stranger => {
                        return refuse(ErrorKind::Forbidden, "not an address of this server; it does not relay");
                    }
                    Sender::User(_) if self.sends_to(&recipient.address) => {
                        if !remote.iter().any(|known| known.address == recipient.address) {
                            remote.push(recipient.clone());
                        }
                    }
                    Sender::User(_) => return refuse(ErrorKind::Forbidden, NO_BRIDGE),
                },
            }
        }
        Ok((users, remote))
    }

    /// Where a message goes that does not go to INBOX: with `junk`, each user's mailbox of that role, where there is one.
    async fn places(&self, users: &BTreeSet<UserId>, junk: bool) -> Result<HashMap<UserId, MailboxId>, Error> {
        let mut places = HashMap::new();
        if !junk {
            return Ok(places);
        }
        for user in users {
            let mailboxes = self.store.mailboxes(*user).await.map_err(stored)?;
            let is = |mailbox: &&Mailbox| mailbox.selectable && mailbox.role == Some(Role::Junk);
            places.extend(mailboxes.iter().find(is).map(|mailbox| (*user, mailbox.id)));
        }
        Ok(places)
    }

    pub(crate) fn check_size(&self, content: &Content) -> Result<(), Error> {
        let limit = self.settings().limits.message_bytes;
        if content.len() > limit.saturating_add(TRACE_HEADERS) {
            let text = format!("the message is larger than {limit} bytes");
            return Err(Error::new(ErrorKind::TooLarge, text));
        }
        Ok(())
    }

    /// What the origin calls the message, within this bridge and for these users: the same message handed in for others is another delivery.
    pub(crate) fn dedup(&self, bridge: &str, name: &[u8], users: &BTreeSet<UserId>) -> [u8; 32] {
        let mut text = Vec::with_capacity(bridge.len() + name.len() + 16 * users.len() + 16);
        for piece in [bridge.as_bytes(), name] {
            text.extend_from_slice(&(piece.len() as u64).to_be_bytes());
            text.extend_from_slice(piece);
        }
        users.iter().for_each(|user| text.extend_from_slice(user.as_bytes()));
        self.instance.dedup(&text)
    }

    /// Whom to seal for, with their keyrings.
    pub(crate) fn seal_for(
        &self,
        users: &BTreeSet<UserId>,
        target: impl Fn(UserId) -> SealFor,
    ) -> Result<Vec<(SealFor, Arc<Keyring>)>, Error> {
        let directory = self.directory();
        users
            .iter()
            .map(|user| match directory.keyrings.get(user) {
                Some(keyring) => Ok((target(*user), Arc::clone(keyring))),
                None => {
                    Err(Error::new(ErrorKind::Unavailable, "a recipient's keys can't be used now; try again later"))
                }
            })
            .collect()
    }
}

const fn refusal(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => "refused: unknown recipient",
        ErrorKind::Forbidden => "refused: not allowed",
        _ => "refused",
    }
}

/// One message to seal for some users.
pub(crate) struct SealJob {
    pub(crate) shared: Arc<Shared>,
    pub(crate) targets: Vec<(SealFor, Arc<Keyring>)>,
}

impl SealJob {
    /// Reads the message's structure and seals it for each target.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for headers over the limit, [`ErrorKind::Unavailable`] where a user's certificates can't be sealed to.
    pub(crate) async fn run(
        self,
        content: Content,
        date: Timestamp,
        origin: Option<mesyx_sdk::Origin>,
    ) -> Result<Vec<SealedMessage>, Error> {
        if content.len().saturating_mul(self.targets.len()) < INLINE_BYTES {
            return self.seal(&content, date, origin);
        }
        let work = tokio::task::spawn_blocking(move || self.seal(&content, date, origin));
        work.await.unwrap_or_else(|error| Err(broken(&error)))
    }

    fn seal(
        &self,
        content: &Content,
        date: Timestamp,
        origin: Option<mesyx_sdk::Origin>,
    ) -> Result<Vec<SealedMessage>, Error> {
        let summary: Summary = mime::summarize(content, date, origin)
            .map_err(|error| Error::new(ErrorKind::Invalid, error.to_string()))?;
        self.targets
            .iter()
            .map(|(target, keyring)| {
                self.shared.sealer.seal_chosen(keyring, *target, &summary, content, Instant::now()).map_err(|error| {
                    tracing::error!(user = %target.user, %error, "a message can't be sealed, so it is not taken");
                    Error::new(ErrorKind::Unavailable, "the message can't be sealed for a recipient; try again later")
                })
            })
            .collect()
    }
}

/// Whether an address is one of a user's own, for [`crate::access`].
pub(crate) fn is_own(shared: &Shared, user: UserId, address: &Address) -> bool {
    let mail = address.as_mail().is_some_and(|mail| shared.directory().addresses.may_send_as(user, mail));
    mail || matches!(shared.chat_target(address), Some(Target::User(member)) if member.id == user)
}
