//! Lines of a group: in one order, sealed once.

use super::rules::Who;
use super::{Entry, Epoch, Lane};
use crate::chat::lines::Spoken;
use crate::chat::say::About;
use crate::core::{Known, Shared};
use crate::errors::stored;
use crate::id::{KeysetId, SessionKeyId};
use crate::seal::{SealedMessage, SealedSessionKey, SessionKey};
use crate::store::{GroupKey, GroupWrite, Placing, Speaking, StoreError, Then, Write, Written};
use bytes::Bytes;
use mesyx_sdk::{Accepted, ChatEvent, Error, ErrorKind, Flag, Importance, Timestamp, UserId, mime};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long one key serves.
const LONGEST: Duration = Duration::from_secs(3600);
/// Most lines under one key.
const MOST_LINES: u32 = 1000;

impl Shared {
    /// Says a line in a group; durable when it resolves, and every member's feed was told.
    /// `user`: who says it, where it is a user; `checked`: the group's rules are asked whether they may.
    pub(in crate::chat) async fn say_in_group(
        self: &Arc<Self>,
        group: &Arc<Entry>,
        spoken: Spoken,
        user: Option<UserId>,
        checked: bool,
        about: About,
    ) -> Result<Accepted, Error> {
        let domain = self.primary()?;
        let users: BTreeSet<UserId> = user.into_iter().collect();
        self.check_quota(&users, spoken.line.text.len() + 1000).await?;
        let mut lane = group.lane.lock().await;
        let now = group.now();
        if !now.is_alive() {
            return Err(Error::new(ErrorKind::NotFound, "the group is gone"));
        }
        if checked {
            let host = domain.to_string();
            now.may_speak(user, &Who { nick: &spoken.nick, domain: &host })?;
        }
        let epoch = self.epoch(group, &mut lane, now.members.keys().copied().collect()).await?;
        let (key, sealed) = (epoch.key.clone(), Arc::clone(&epoch.sealed));
        epoch.lines += 1;
        let at = Timestamp::now().max(lane.last);
        lane.last = at;
        let content = spoken.content(at, &domain)?;
        let summary = mime::summarize(&content, at, Some(about.origin))
            .map_err(|error| Error::new(ErrorKind::Invalid, error.to_string()))?;
        let message = SealedMessage::under(&key, sealed, spoken.id, &summary, &content).map_err(|error| {
            tracing::error!(group = %group.id, %error, "a line can't be sealed, so it is not taken");
            Error::new(ErrorKind::Unavailable, "the line can't be sealed; try again later")
        })?;
        // Whether it was read is each member's own to say.
        let copy = Placing { message, mailbox: group.mailbox, flags: vec![Flag::Seen] };
        let author = user.filter(|user| now.members.contains_key(user));
        let (live, mailbox, id) = (Arc::clone(&self.access.live), group.mailbox, spoken.id);
        let then = Then(Box::new(move |uids| {
            let [uid] = uids else { return };
            let others = ChatEvent::Line(Arc::new(spoken.chat_line(mailbox, *uid, at, false)));
            let own = author.map(|_| ChatEvent::Line(Arc::new(spoken.chat_line(mailbox, *uid, at, true))));
            let each = now.members.keys().map(|member| match &own {
                Some(own) if author == Some(*member) => (*member, own),
                _ => (*member, &others),
            });
            let guests = live.has_guests().then(|| {
                let group = now.address.clone();
                ChatEvent::GroupLine { group, line: Arc::new(spoken.chat_line(mailbox, *uid, at, false)) }
            });
            live.tell_each(each, guests.as_ref());
        }));
        let line = Speaking {
            make: Vec::new(),
            copies: vec![copy],
            dedup: about.dedup,
            outbound: None,
            author,
            then: Some(then),
        };
        let answer = self.store.enqueue(Write::Speak(Box::new(line))).await.map_err(stored)?;
        drop(lane);
        let written = answer.await.map_err(|_| stored(StoreError::Closed))?.map_err(stored)?;
        metrics::counter!("mesyx_lines_total").increment(1);
        Ok(Accepted { id, duplicate: matches!(written, Written::Spoken { duplicate: true }) })
    }

    /// The key for the next line: a new one where members came or went, a member's keyset is another by now, or the old one served
    /// for long. It is durable, sealed for each member, before any line is sealed under it.
    async fn epoch<'a>(
        &self,
        group: &Entry,
        lane: &'a mut Lane,
        members: BTreeSet<UserId>,
    ) -> Result<&'a mut Epoch, Error> {
        let known = self.directory();
        let fits = match &mut lane.epoch {
            Some(epoch) if epoch.lines < MOST_LINES && epoch.since.elapsed() < LONGEST => {
                epoch.still_fits(&members, &known)
            }
            _ => false,
        };
        if !fits {
            let fresh = self.begin_epoch(group, &members, &known).await?;
            return Ok(lane.epoch.insert(fresh));
        }
        lane.epoch.as_mut().ok_or_else(|| Error::new(ErrorKind::Unavailable, "the group has no key"))
    }

    async fn begin_epoch(&self, group: &Entry, members: &BTreeSet<UserId>, known: &Arc<Known>) -> Result<Epoch, Error> {
        let sealing = |error: crate::seal::SealError| {
            tracing::error!(group = %group.id, %error, "a group's key can't be made");
            Error::new(ErrorKind::Unavailable, "the group's key can't be sealed; try again later")
        };
        let mut recipients = Vec::with_capacity(members.len());
        for user in members {
            let Some(keyring) = known.keyrings.get(user) else { continue };
            match self.sealer.recipients_now(keyring, Timestamp::now()) {
                Ok((keyset, keys)) => recipients.push((*user, keyset, keys)),
                // The others go on; this member misses what is said until a keyset can be used.
                Err(error) => tracing::warn!(%user, %error, "a member of a group has no usable keyset"),
            }
        }
        let id = SessionKeyId::random();
        let key = SessionKey::random(recipients.iter().all(|(.., keys)| keys.v2)).map_err(sealing)?;
        let mut keys = Vec::with_capacity(recipients.len());
        let mut sealed_to = BTreeMap::new();
        for (user, keyset, recipients) in &recipients {
            let packets = crate::seal::seal_session_key(&key, recipients).map_err(sealing)?;
            keys.push(GroupKey { epoch: id, user: *user, keyset: keyset.id, packets });
            sealed_to.insert(*user, *keyset.digest());
        }
        let write = GroupWrite { keys, ..GroupWrite::of(group.id) };
        self.store.write(Write::Group(Box::new(write))).await.map_err(stored)?;
        let sealed = SealedSessionKey { id, user: group.id, keyset: KeysetId(id.0), packets: Bytes::new() };
        Ok(Epoch {
            key,
            sealed: Arc::new(sealed),
            since: Instant::now(),
            lines: 0,
            sealed_to,
            compared: Arc::downgrade(known),
        })
    }
}

impl Epoch {
    /// Whether the key is sealed to just these members' keysets of today.
    fn still_fits(&mut self, members: &BTreeSet<UserId>, known: &Arc<Known>) -> bool {
        if !self.sealed_to.keys().eq(members.iter().filter(|user| known.keyrings.contains_key(user))) {
            return false;
        }
        if std::ptr::eq(self.compared.as_ptr(), Arc::as_ptr(known)) {
            return true;
        }
        let now = Timestamp::now();
        let same = self.sealed_to.iter().all(|(user, digest)| {
            known.keyrings.get(user).is_some_and(|keyring| {
                let mut all = keyring.candidates(now, Importance::Normal, now);
                all.next().unwrap_or_else(|| keyring.default_keyset()).digest() == digest
            })
        });
        if same {
            self.compared = Arc::downgrade(known);
        }
        same
    }
}
