//! Lines of a group: in one order, sealed once.

use super::rules::Who;
use super::{Entry, Epoch, Lane};
use crate::chat::lines::Spoken;
use crate::chat::say::About;
use crate::core::{Known, Shared};
use crate::errors::stored;
use crate::id::{KeysetId, SessionKeyId, mailbox_id_for_role};
use crate::seal::{SealedMessage, SealedSessionKey, SessionKey};
use crate::store::{GroupKey, GroupWrite, Placing, Speaking, StoreError, Then, Told, Write, Written};
use bytes::Bytes;
use mesyx_sdk::{
    Accepted, Address, ChatEvent, Error, ErrorKind, Flag, Importance, MailboxId, Origin, Role, Timestamp, UserId, mime,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

/// What is said in a group, and what changes with it.
struct Saying {
    spoken: Spoken,
    /// Who says it, where it is a user.
    user: Option<UserId>,
    about: About,
    change: Option<GroupWrite>,
    /// Whom the line is sealed for and told to.
    members: BTreeSet<UserId>,
}

/// Where it is said.
struct Place {
    group: UserId,
    mailbox: MailboxId,
    address: Address,
}

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
        // The lane before anything else that is waited for: lines are stored in the order in which they were begun.
        let lane = group.lane.lock().await;
        self.check_quota(&users, spoken.line.text.len() + 1000).await?;
        let now = group.now();
        if !now.is_alive() {
            return Err(Error::new(ErrorKind::NotFound, "the group is gone"));
        }
        if checked {
            let host = domain.to_string();
            now.may_speak(user, &Who { nick: &spoken.nick, domain: &host })?;
        }
        let members = now.members.keys().copied().collect();
        let place = Place { group: group.id, mailbox: group.mailbox, address: now.address.clone() };
        self.put_line(&place, lane, Saying { spoken, user, about, change: None, members }).await
    }

    /// Changes a group and says so in its log, in one commit; `members`: who hears of it, as they are with or before the change.
    /// `entry`: the group, unless it is only made by this.
    pub(super) async fn change_in_group(
        self: &Arc<Self>,
        entry: Option<&Arc<Entry>>,
        change: GroupWrite,
        members: BTreeSet<UserId>,
        spoken: Spoken,
        user: UserId,
    ) -> Result<(), Error> {
        let group = change.group;
        let place = Place {
            group,
            mailbox: entry.map_or_else(|| mailbox_id_for_role(group, Role::Inbox), |entry| entry.mailbox),
            address: spoken.to.clone(),
        };
        let origin = Origin { bridge: "group".to_owned(), authenticated: Some(user), ..Origin::default() };
        let about = About { importance: Importance::Normal, origin, dedup: None };
        let saying = Saying { spoken, user: Some(user), about, change: Some(change), members };
        let said = match entry {
            Some(entry) => {
                let lane = entry.lane.lock().await;
                self.put_line(&place, lane, saying).await
            }
            None => {
                // Nobody else knows the group before this is done.
                let lane = tokio::sync::Mutex::new(Lane { last: Timestamp(0), epoch: None });
                self.put_line(&place, lane.lock().await, saying).await
            }
        };
        said.map(drop)
    }

    async fn put_line(
        self: &Arc<Self>,
        place: &Place,
        mut lane: tokio::sync::MutexGuard<'_, Lane>,
        saying: Saying,
    ) -> Result<Accepted, Error> {
        let Saying { spoken, user, about, change, members } = saying;
        let domain = self.primary()?;
        let (mut change, mut pending) = (change, None);
        if let Some((fresh, keys)) = self.epoch(place.group, &mut lane, &members)? {
            // A key is durable, sealed for each member, before any line is sealed under it, or with the first such line.
            match &mut change {
                Some(change) => {
                    change.keys = keys;
                    pending = Some(fresh);
                }
                None => {
                    let write = GroupWrite { keys, ..GroupWrite::of(place.group) };
                    self.store.write(Write::Group(Box::new(write))).await.map_err(stored)?;
                    lane.epoch = Some(fresh);
                }
            }
        }
        let no_key = || Error::new(ErrorKind::Unavailable, "the group has no key");
        let epoch = pending.as_mut().or(lane.epoch.as_mut()).ok_or_else(no_key)?;
        let (key, sealed) = (epoch.key.clone(), Arc::clone(&epoch.sealed));
        epoch.lines += 1;
        let at = Timestamp::now().max(lane.last);
        lane.last = at;
        let content = spoken.content(at, &domain)?;
        let summary = mime::summarize(&content, at, Some(about.origin))
            .map_err(|error| Error::new(ErrorKind::Invalid, error.to_string()))?;
        let message = SealedMessage::under(&key, sealed, spoken.id, &summary, &content).map_err(|error| {
            tracing::error!(group = %place.group, %error, "a line can't be sealed, so it is not taken");
            Error::new(ErrorKind::Unavailable, "the line can't be sealed; try again later")
        })?;
        // Whether it was read is each member's own to say.
        let copy = Placing { message, mailbox: place.mailbox, flags: vec![Flag::Seen] };
        let author = user.filter(|user| members.contains(user));
        let (live, mailbox, id) = (Arc::clone(&self.access.live), place.mailbox, spoken.id);
        let (group, from) = (place.address.clone(), spoken.from.clone());
        let tell: Told = Box::new(move |uids| {
            let [uid] = uids else { return };
            let others = ChatEvent::Line(Arc::new(spoken.chat_line(mailbox, *uid, at, false)));
            let own = author.map(|_| ChatEvent::Line(Arc::new(spoken.chat_line(mailbox, *uid, at, true))));
            let each = members.iter().map(|member| match &own {
                Some(own) if author == Some(*member) => (*member, own),
                _ => (*member, &others),
            });
            let guests = live.has_guests().then(|| {
                let line = Arc::new(spoken.chat_line(mailbox, *uid, at, false));
                ChatEvent::GroupLine { group, line }
            });
            live.tell_each(each, guests.as_ref());
        });
        // Who hears of a change looks at the group, which must be known as it is then.
        let (then, changed) = if change.is_some() {
            let (got, uids) = tokio::sync::oneshot::channel();
            (Then(Box::new(move |uids| drop(got.send(uids.to_vec())))), Some((tell, uids)))
        } else {
            (Then(tell), None)
        };
        let line = Speaking {
            make: Vec::new(),
            copies: vec![copy],
            dedup: about.dedup,
            outbound: None,
            author,
            change: change.map(Box::new),
            then: Some(then),
        };
        let answer = self.store.enqueue(Write::Speak(Box::new(line))).await.map_err(stored)?;
        // The line has its place. Others are said while it is committed, unless it changes who hears them.
        let mut lane = changed.is_some().then_some(lane);
        let written = answer.await.map_err(|_| stored(StoreError::Closed))?;
        let written = written.map_err(|error| match error {
            StoreError::Invalid(why) => Error::new(ErrorKind::Unavailable, why),
            error => stored(error),
        })?;
        if let Some((tell, uids)) = changed {
            if let (Some(lane), Some(fresh)) = (&mut lane, pending) {
                lane.epoch = Some(fresh);
            }
            self.refresh_group(place.group).await?;
            if let Ok(uids) = uids.await {
                tell(&uids);
            }
        }
        drop(lane);
        metrics::counter!("mesyx_lines_total").increment(1);
        self.trace.line(&self.instance, id, (&from, &place.address), "a line of a group");
        Ok(Accepted { id, duplicate: matches!(written, Written::Spoken { duplicate: true }) })
    }

    /// Sees to the key for the next line: a new one where members came or went, a member's keyset is another by now, or the old one served
    /// for long. A new one is answered with what it is sealed in for each member, which is to be stored before the key is taken.
    fn epoch(
        &self,
        group: UserId,
        lane: &mut Lane,
        members: &BTreeSet<UserId>,
    ) -> Result<Option<(Epoch, Vec<GroupKey>)>, Error> {
        let known = self.directory();
        let limits = self.settings().groups.clone();
        let fits = match &mut lane.epoch {
            Some(epoch) if epoch.lines < limits.epoch_lines && epoch.since.elapsed() < limits.epoch => {
                epoch.still_fits(members, &known)
            }
            _ => false,
        };
        if fits {
            return Ok(None);
        }
        self.begin_epoch(group, members, &known).map(Some)
    }

    fn begin_epoch(
        &self,
        group: UserId,
        members: &BTreeSet<UserId>,
        known: &Arc<Known>,
    ) -> Result<(Epoch, Vec<GroupKey>), Error> {
        let sealing = |error: crate::seal::SealError| {
            tracing::error!(%group, %error, "a group's key can't be made");
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
        let sealed = Arc::new(SealedSessionKey { id, user: group, keyset: KeysetId(id.0), packets: Bytes::new() });
        let compared = Arc::downgrade(known);
        Ok((Epoch { key, sealed, since: Instant::now(), lines: 0, sealed_to, compared }, keys))
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
