//! What a user is told of in their own mailbox, because nothing else reaches them: a key that changed, a message that went unsigned.

use super::book::Discovery;
use super::contact::{Learnt, Source};
use crate::core::Shared;
use crate::errors::stored;
use crate::id::mailbox_id_for_role;
use crate::intake::SealJob;
use crate::seal::SealFor;
use crate::store::{Placing, Write};
use mesyx_sdk::{Content, Error, Importance, MessageId, Role, Timestamp, UserId};
use std::collections::BTreeSet;
use std::sync::Weak;
use time::format_description::well_known::Rfc2822;

impl Shared {
    /// Tells a user of another key than the one in use.
    pub(crate) async fn tell_of(&self, user: UserId, discovery: &Discovery) {
        let Discovery { address, fingerprint, source, learnt, in_use } = discovery;
        let found = match source {
            Source::Wkd => "the web key directory of its domain gives",
            Source::Autocrypt => "a message from there brought",
            Source::Seen => "a message from there has, attached,",
            Source::Verified | Source::User => "you gave",
        };
        let in_use = in_use.as_deref().unwrap_or("none");
        let (subject, text) = match learnt {
            Learnt::Changed(before) => (
                format!("The key of {address} has changed"),
                format!(
                    "Messages to {address} were encrypted to the key\r\n\r\n    {before}\r\n\r\nNow {found} another one:\r\n\r\n    {fingerprint}\r\n\r\n\
                     Messages to this address are encrypted to {in_use} from now on. People change keys when they\r\n\
                     get a new computer; but this is also what it looks like when somebody puts themselves between you.\r\n\
                     Ask them by another way, compare the fingerprints, and fix the right one:\r\n\r\n\
                     \x20   mesyx contact verify USER {address} FINGERPRINT\r\n    mesyx contact pin USER {address} FINGERPRINT\r\n"
                ),
            ),
            Learnt::Aside => (
                format!("Another key of {address} was found, and is not used"),
                format!(
                    "Messages to {address} are encrypted to the key\r\n\r\n    {in_use}\r\n\r\nand stay so. But {found} another one:\r\n\r\n    {fingerprint}\r\n\r\n\
                     It was not taken, because the key in use is pinned, or because this message was less certain to come from\r\n\
                     its sender. If it is the right one (ask them by another way, and compare), take it:\r\n\r\n\
                     \x20   mesyx contact pin USER {address} {fingerprint}\r\n"
                ),
            ),
            _ => return,
        };
        tracing::warn!(%user, address = self.name_tag(address), ?source, "another key of a correspondent was found");
        metrics::counter!("mesyx_key_changes_total").increment(1);
        self.tell_user(user, &subject, &text).await;
    }

    /// Tells a user, once a day, that messages go out encrypted and unsigned.
    pub(crate) async fn tell_unsigned(&self, user: UserId, why: &str) {
        tracing::warn!(%user, why, "a message goes out encrypted and unsigned");
        metrics::counter!("mesyx_messages_unsigned_total").increment(1);
        if !self.noted.is_new(user, &[b"unsigned", why.as_bytes()]) {
            return;
        }
        let text = format!(
            "A message of yours was encrypted to its recipient, but not signed: {why}.\r\n\r\n\
             Whoever gets it can't tell whether you wrote it. This is told once a day. To have such messages refused instead:\r\n\r\n\
             \x20   mesyx contact sign USER require\r\n"
        );
        self.tell_user(user, "Your messages leave encrypted, but not signed", &text).await;
    }

    /// Puts a message of ours into a user's INBOX. What fails is in the log: nothing depends on it.
    async fn tell_user(&self, user: UserId, subject: &str, text: &str) {
        if let Err(error) = self.deliver_notice(user, subject, text).await {
            tracing::warn!(%user, %error, "a user could not be told of something about keys");
        }
    }

    async fn deliver_notice(&self, user: UserId, subject: &str, text: &str) -> Result<(), Error> {
        let Some(shared) = self.me.upgrade() else { return Ok(()) };
        let Some(member) = self.directory().addresses.member(user).cloned() else { return Ok(()) };
        let Some(to) = member.addresses.first() else { return Ok(()) };
        let now = Timestamp::now();
        let (id, hostname) = (MessageId::random(), self.settings().hostname.clone());
        let date = now.utc().format(&Rfc2822).unwrap_or_default();
        let one_line = |text: &str| text.replace(|c: char| c.is_control(), " ");
        let message = format!(
            "From: Mesyx <postmaster@{hostname}>\r\nTo: <{to}>\r\nSubject: {}\r\nDate: {date}\r\nMessage-ID: <{id}@{hostname}>\r\n\
             Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: 8bit\r\n\r\n{}",
            one_line(subject),
            text.replace(" USER ", &format!(" {} ", member.name))
        );
        let users = BTreeSet::from([user]);
        let target = |user| SealFor { user, message: id, importance: Importance::Normal };
        let job = SealJob { targets: self.seal_for(&users, target)?, shared };
        let sealed = job.run(Content::from(message.into_bytes()), now, None).await?;
        let place = |message| Placing { message, mailbox: mailbox_id_for_role(user, Role::Inbox), flags: Vec::new() };
        let copies = sealed.into_iter().map(place).collect();
        self.store.write(Write::Deliver { copies, dedup: None }).await.map_err(stored).map(drop)
    }
}

/// A way from the core's shared state to an `Arc` of itself.
pub(crate) type Me = Weak<Shared>;
