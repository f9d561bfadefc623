//! Changes of groups by their members.

use super::fields::{Field, Fields};
use super::rules::{self, Who, forbidden};
use super::{Entry, Now, fold, rank_number};
use crate::chat::lines::Spoken;
use crate::chat::say::About;
use crate::chat::target::Target;
use crate::core::{Core, Shared};
use crate::directory::Member;
use crate::errors::stored;
use crate::store::{GroupWrite, StoreError, Write};
use mesyx_sdk::{
    Address, ChatEvent, Conversation, Error, ErrorKind, Group, GroupChange, Importance, Line, MessageId, Origin,
    Protection, Rank, Signal, SignalTo, Timestamp, UserId, Verb,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Most groups on this server, those that nobody belongs to any more but some still read too.
const GROUPS: usize = 10_000;
/// Most members of one group: each new key is sealed for all of them.
const MEMBERS: usize = 1000;
/// Most groups that one user belongs to.
const GROUPS_OF_ONE: usize = 500;
/// Most masks on one list, as networks have it.
const MASKS: usize = 100;

impl Shared {
    /// See [`mesyx_sdk::Session::change_group`].
    pub(crate) async fn change_group(
        self: &Arc<Self>,
        me: &Arc<Member>,
        address: &Address,
        change: GroupChange,
    ) -> Result<Arc<Group>, Error> {
        let Some(Target::Group(name)) = self.chat_target(address) else {
            let text = format!("{address} is no name of a group: # and at most 49 letters, digits and signs");
            return Err(Error::new(ErrorKind::Invalid, text));
        };
        let _one = self.chat.groups.changing.lock().await;
        let found = self.chat.groups.by_name(&name);
        if let GroupChange::Join { key } = &change {
            return self.join(me, &name, found, key.as_deref()).await;
        }
        let not_found = || Error::new(ErrorKind::NotFound, format!("there is no group {name}"));
        let entry = found.filter(|entry| entry.now().visible_to(me.id)).ok_or_else(not_found)?;
        let now = entry.now();
        match change {
            GroupChange::Leave { reason } => self.leave(me, &entry, &now, reason).await,
            GroupChange::Topic(text) => self.set_topic(me, &entry, &now, text).await,
            GroupChange::Mode { set, mode, parameter } => {
                now.operator(me.id)?;
                let kept = rules::mode(mode, set, parameter.as_deref())?;
                if set == now.fields.modes.contains_key(&mode) && now.fields.modes.get(&mode).unwrap_or(&kept) == &kept
                {
                    return Ok(now.seen_by(Some(me.id)));
                }
                let field = Field::Mode(mode, kept.clone());
                let mut write = GroupWrite::of(entry.id);
                if set {
                    write.records.push(self.field_record(entry.id, &field));
                } else {
                    write.remove_records.push(self.field_id(entry.id, &field));
                }
                let mut args = vec![format!("{}{mode}", sign(set))];
                // A key is told to nobody who may not see it; members see it in the modes.
                args.extend(Some(kept).filter(|kept| !kept.is_empty() && mode != 'k'));
                self.put_and_say(me, &entry, write, line(Verb::Mode, args, "")).await
            }
            GroupChange::List { add, mode, mask } => {
                now.operator(me.id)?;
                let mask = rules::mask(mode, &mask)?;
                let masks = now.fields.lists.get(&mode).map(Vec::as_slice).unwrap_or_default();
                let there = masks.iter().find(|(known, ..)| fold(known) == fold(&mask));
                if there.is_some() == add {
                    return Ok(now.seen_by(Some(me.id)));
                }
                if add && masks.len() >= MASKS {
                    return Err(Error::new(ErrorKind::OverQuota, "a list has at most 100 masks"));
                }
                let shown = there.map_or(mask.clone(), |(known, ..)| known.clone());
                let field = Field::Mask(mode, mask, me.name.clone(), Timestamp::now());
                let mut write = GroupWrite::of(entry.id);
                if add {
                    write.records.push(self.field_record(entry.id, &field));
                } else {
                    write.remove_records.push(self.field_id(entry.id, &field));
                }
                let args = vec![format!("{}{mode}", sign(add)), shown];
                self.put_and_say(me, &entry, write, line(Verb::Mode, args, "")).await
            }
            GroupChange::Rank { member, rank } => self.set_rank(me, &entry, &now, &member, rank).await,
            GroupChange::Invite { user } => self.invite(me, &entry, &now, &user).await,
            GroupChange::Kick { member, reason } => self.kick(me, &entry, &now, &member, reason).await,
            _ => Err(Error::new(ErrorKind::Invalid, "this change of a group is not known here")),
        }
    }

    async fn join(
        self: &Arc<Self>,
        me: &Arc<Member>,
        name: &str,
        found: Option<Arc<Entry>>,
        key: Option<&str>,
    ) -> Result<Arc<Group>, Error> {
        let mine = self.chat.groups.all().iter().filter(|entry| entry.now().members.contains_key(&me.id)).count();
        if mine >= GROUPS_OF_ONE {
            return Err(Error::new(ErrorKind::OverQuota, "you belong to 500 groups already: leave some"));
        }
        let joined = match found {
            Some(entry) if entry.now().is_alive() => {
                let now = entry.now();
                if now.members.contains_key(&me.id) {
                    return Ok(now.seen_by(Some(me.id)));
                }
                let domain = self.primary()?.to_string();
                now.may_join(me.id, &Who { nick: &me.name, domain: &domain }, key)?;
                if now.members.len() >= MEMBERS {
                    return Err(Error::new(ErrorKind::OverQuota, format!("{name} has 1,000 members already")));
                }
                let mut write = GroupWrite::of(entry.id);
                write.members.push((me.id, Some(rank_number(Rank::Member))));
                if now.fields.invited.contains(&me.id) {
                    write.remove_records.push(self.field_id(entry.id, &Field::Invited(me.id)));
                }
                self.put(write).await?;
                entry.id
            }
            // What is left of an earlier group of that name: those who belonged to it keep what they read.
            Some(entry) => self.found(me, name, entry.id, Some(&entry.now().fields)).await?,
            None => {
                if self.chat.groups.all().len() >= GROUPS {
                    return Err(Error::new(ErrorKind::OverQuota, "there are 10,000 groups on this server already"));
                }
                let mut generation = 0_u32;
                loop {
                    let hash = self.instance.name_hash("group", &[fold(name).as_bytes(), &generation.to_be_bytes()]);
                    let mut id = [0; 16];
                    id.copy_from_slice(&hash[..16]);
                    let removed = self.store.keyset_removed(crate::id::KeysetId(id)).await.map_err(stored)?;
                    if !removed {
                        break self.found(me, name, UserId(id), None).await?;
                    }
                    generation += 1;
                }
            }
        };
        self.refresh_group(joined).await?;
        let mailbox = crate::id::mailbox_id_for_role(joined, mesyx_sdk::Role::Inbox);
        if let Some(name) = crate::chat::target::clear_name(mailbox) {
            let write = Write::Subscribe { user: me.id, name, subscribed: true };
            self.store.write(write).await.map_err(stored)?;
        }
        let gone = || Error::new(ErrorKind::Unavailable, "the group is gone again; try again later");
        let entry = self.chat.groups.by_id(joined).ok_or_else(gone)?;
        self.event(me, &entry, line(Verb::Join, Vec::new(), "")).await?;
        self.tell_group(&entry, &BTreeSet::new());
        Ok(entry.now().seen_by(Some(me.id)))
    }

    /// Founds a group, or what is left of one anew.
    async fn found(
        &self,
        me: &Arc<Member>,
        name: &str,
        group: UserId,
        before: Option<&Fields>,
    ) -> Result<UserId, Error> {
        let mut write = GroupWrite::of(group);
        write.members.push((me.id, Some(rank_number(Rank::Founder))));
        if let Some(before) = before {
            write.remove_records = before.all_but_name().iter().map(|field| self.field_id(group, field)).collect();
        }
        let fields = [
            Field::About(name.to_owned(), Timestamp::now()),
            // What channels commonly begin with: no messages from outside, and the topic is the operators'.
            Field::Mode('n', String::new()),
            Field::Mode('t', String::new()),
        ];
        let put: Vec<_> = fields.iter().map(|field| self.field_record(group, field)).collect();
        write.remove_records.retain(|record| !put.iter().any(|new| new.record == *record));
        write.records = put;
        self.put(write).await?;
        Ok(group)
    }

    async fn leave(
        self: &Arc<Self>,
        me: &Arc<Member>,
        entry: &Arc<Entry>,
        now: &Now,
        reason: String,
    ) -> Result<Arc<Group>, Error> {
        now.rank(me.id)?;
        // Said while they still belong to it, so that they see it too.
        self.event(me, entry, line(Verb::Part, Vec::new(), &one_line(&reason))).await?;
        self.take_out(entry, me.id).await?;
        self.tell_group(entry, &BTreeSet::from([me.id]));
        Ok(entry.now().seen_by(Some(me.id)))
    }

    async fn take_out(&self, entry: &Arc<Entry>, member: UserId) -> Result<(), Error> {
        self.put(GroupWrite { members: vec![(member, None)], ..GroupWrite::of(entry.id) }).await?;
        self.refresh_group(entry.id).await?;
        self.promote(entry).await
    }

    async fn set_topic(
        self: &Arc<Self>,
        me: &Arc<Member>,
        entry: &Arc<Entry>,
        now: &Now,
        text: String,
    ) -> Result<Arc<Group>, Error> {
        now.may_set_topic(me.id)?;
        let text = one_line(&text);
        if text.len() > rules::TOPIC {
            return Err(Error::new(ErrorKind::TooLarge, "a topic has at most 390 bytes"));
        }
        let field = Field::Topic(text.clone(), me.name.clone(), Timestamp::now());
        let mut write = GroupWrite::of(entry.id);
        if text.is_empty() {
            write.remove_records.push(self.field_id(entry.id, &field));
        } else {
            write.records.push(self.field_record(entry.id, &field));
        }
        self.put_and_say(me, entry, write, line(Verb::Topic, Vec::new(), &text)).await
    }

    async fn set_rank(
        self: &Arc<Self>,
        me: &Arc<Member>,
        entry: &Arc<Entry>,
        now: &Now,
        member: &str,
        rank: Rank,
    ) -> Result<Arc<Group>, Error> {
        let other = self.member_of(now, member)?;
        let mine =
            if me.id == other.id && now.rank(me.id)? >= rank { now.rank(me.id)? } else { now.over(me.id, other.id)? };
        if rank > mine {
            return Err(forbidden("nobody gives a higher rank than their own"));
        }
        let before = now.rank(other.id)?;
        if before == rank {
            return Ok(now.seen_by(Some(me.id)));
        }
        let mut write = GroupWrite::of(entry.id);
        write.members.push((other.id, Some(rank_number(rank))));
        let letter = |rank: Rank| match rank {
            Rank::Founder => Some('q'),
            Rank::Operator => Some('o'),
            Rank::Voice => Some('v'),
            Rank::Member => None,
        };
        let (mut signs, mut names) = (String::new(), Vec::new());
        for (rank, set) in [(before, false), (rank, true)] {
            if let Some(letter) = letter(rank) {
                signs.push_str(&format!("{}{letter}", sign(set)));
                names.push(other.name.clone());
            }
        }
        let args = std::iter::once(signs).chain(names).collect();
        self.put_and_say(me, entry, write, line(Verb::Mode, args, "")).await
    }

    async fn invite(
        self: &Arc<Self>,
        me: &Arc<Member>,
        entry: &Arc<Entry>,
        now: &Now,
        user: &str,
    ) -> Result<Arc<Group>, Error> {
        now.may_invite(me.id)?;
        let directory = self.directory();
        let not_found = || Error::new(ErrorKind::NotFound, format!("there is no user {user}"));
        let other = directory.addresses.login(user).ok_or_else(not_found)?;
        if now.members.contains_key(&other.id) {
            return Err(Error::new(ErrorKind::Exists, format!("{} belongs to {} already", other.name, now.group.name)));
        }
        if now.fields.invited.len() >= MEMBERS {
            return Err(Error::new(ErrorKind::OverQuota, "1,000 people are invited already"));
        }
        let mut write = GroupWrite::of(entry.id);
        write.records.push(self.field_record(entry.id, &Field::Invited(other.id)));
        self.put(write).await?;
        self.refresh_group(entry.id).await?;
        let invited = Signal {
            to: SignalTo::User(other.id),
            bridge: String::new(),
            conversation: Some(Conversation::Group(now.address.clone())),
            from: Some(self.chat_address(me)?),
            name: "invite".to_owned(),
            args: vec![now.group.name.clone()],
        };
        self.access.live.tell(other.id, &ChatEvent::Signal(Arc::new(invited)));
        Ok(entry.now().seen_by(Some(me.id)))
    }

    async fn kick(
        self: &Arc<Self>,
        me: &Arc<Member>,
        entry: &Arc<Entry>,
        now: &Now,
        member: &str,
        reason: String,
    ) -> Result<Arc<Group>, Error> {
        now.operator(me.id)?;
        let other = self.member_of(now, member)?;
        now.over(me.id, other.id)?;
        self.event(me, entry, line(Verb::Kick, vec![other.name.clone()], &one_line(&reason))).await?;
        self.take_out(entry, other.id).await?;
        self.tell_group(entry, &BTreeSet::from([other.id]));
        Ok(entry.now().seen_by(Some(me.id)))
    }

    fn member_of(&self, now: &Now, name: &str) -> Result<Arc<Member>, Error> {
        let directory = self.directory();
        let found = directory.addresses.login(name).filter(|member| now.members.contains_key(&member.id));
        let text = format!("{name} does not belong to {}", now.group.name);
        found.cloned().ok_or_else(|| Error::new(ErrorKind::NotFound, text))
    }

    async fn put(&self, write: GroupWrite) -> Result<(), Error> {
        match self.store.write(Write::Group(Box::new(write))).await {
            Ok(_) => Ok(()),
            Err(StoreError::Invalid(why)) => Err(Error::new(ErrorKind::Unavailable, why)),
            Err(error) => Err(stored(error)),
        }
    }

    async fn put_and_say(
        self: &Arc<Self>,
        me: &Arc<Member>,
        entry: &Arc<Entry>,
        write: GroupWrite,
        line: Line,
    ) -> Result<Arc<Group>, Error> {
        self.put(write).await?;
        self.refresh_group(entry.id).await?;
        self.event(me, entry, line).await?;
        self.tell_group(entry, &BTreeSet::new());
        Ok(entry.now().seen_by(Some(me.id)))
    }

    /// Says what happened, in the log of the group.
    async fn event(self: &Arc<Self>, me: &Arc<Member>, entry: &Arc<Entry>, line: Line) -> Result<(), Error> {
        let spoken = Spoken {
            id: MessageId::random(),
            from: self.chat_address(me)?,
            nick: me.name.clone(),
            to: entry.now().address.clone(),
            group: true,
            line,
            protection: Protection::None,
            answers: None,
        };
        let origin = Origin { bridge: "group".to_owned(), authenticated: Some(me.id), ..Origin::default() };
        let about = About { importance: Importance::Normal, origin, dedup: None };
        self.say_in_group(entry, spoken, Some(me.id), false, about).await.map(drop)
    }

    /// Tells members, and those who belonged to it until now, how a group is.
    fn tell_group(&self, entry: &Entry, and: &BTreeSet<UserId>) {
        let now = entry.now();
        let event = ChatEvent::Group(Arc::clone(&now.group));
        let outside = ChatEvent::Group(now.seen_by(None));
        let members = now.members.keys().map(|member| (*member, &event));
        let gone = and.iter().map(|user| (*user, &outside));
        let guests = (!now.fields.modes.contains_key(&'s')).then_some(&outside);
        self.access.live.tell_each(members.chain(gone), guests);
    }

    /// What a user sees of a group that they do not belong to any more goes.
    pub(crate) async fn forget_group(&self, user: UserId, entry: &Entry) -> Result<(), Error> {
        if entry.now().members.contains_key(&user) {
            let text = "you belong to this group: leave it first, then its mailbox can be deleted";
            return Err(forbidden(text));
        }
        let write = GroupWrite { forget: Some(user), ..GroupWrite::of(entry.id) };
        self.put(write).await?;
        self.refresh_group(entry.id).await
    }

    /// The groups that a user belongs to, or sees lines of.
    pub(crate) fn groups_read_by(&self, user: UserId) -> Vec<UserId> {
        let reads = |entry: &Arc<Entry>| {
            let now = entry.now();
            now.members.contains_key(&user) || now.readers.contains(&user)
        };
        self.chat.groups.all().into_iter().filter(reads).map(|entry| entry.id).collect()
    }

    /// After a user was removed: groups of theirs have one member less, and what nobody reads any more goes.
    pub(crate) async fn groups_after_removal(&self, user: UserId, groups: Vec<UserId>) -> Result<(), Error> {
        for group in groups {
            self.put(GroupWrite { forget: Some(user), ..GroupWrite::of(group) }).await?;
            self.refresh_group(group).await?;
            let Some(entry) = self.chat.groups.by_id(group) else { continue };
            self.promote(&entry).await?;
            self.tell_group(&entry, &BTreeSet::new());
        }
        Ok(())
    }

    /// Where no operator is left, the highest of the members, by name, becomes the founder.
    async fn promote(&self, entry: &Arc<Entry>) -> Result<(), Error> {
        let now = entry.now();
        let members = &now.group.members;
        if members.iter().any(|member| member.rank >= Rank::Operator) {
            return Ok(());
        }
        let Some(next) = members.iter().rev().max_by_key(|member| member.rank) else { return Ok(()) };
        let members = vec![(next.user, Some(rank_number(Rank::Founder)))];
        self.put(GroupWrite { members, ..GroupWrite::of(entry.id) }).await?;
        self.refresh_group(entry.id).await
    }
}

impl Core {
    /// Has a user join a group, founding it where there is none: what an operator does for them.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], and as [`mesyx_sdk::Session::change_group`].
    pub async fn join_group(&self, user: &str, group: &str) -> Result<Arc<Group>, Error> {
        let member = self.member(user)?;
        let address = self.shared.local_address(group)?;
        self.shared.change_group(&member, &address, GroupChange::Join { key: None }).await
    }

    /// Every group that has members, with all that is known of it.
    #[must_use]
    pub fn all_groups(&self) -> Vec<Arc<Group>> {
        let all = self.shared.chat.groups.all();
        let alive = all.iter().map(|entry| entry.now()).filter(|now| now.is_alive());
        let mut groups: Vec<_> = alive.map(|now| Arc::clone(&now.group)).collect();
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        groups
    }
}

fn line(verb: Verb, args: Vec<String>, text: &str) -> Line {
    Line { verb, args, text: text.to_owned() }
}

fn one_line(text: &str) -> String {
    text.replace(['\r', '\n', '\0'], " ").trim().chars().take(1000).collect()
}

const fn sign(set: bool) -> char {
    if set { '+' } else { '-' }
}
