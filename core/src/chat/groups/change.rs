//! Changes of groups by their members.

use super::fields::Field;
use super::rules::{self, Who, forbidden};
use super::{Entry, Now, fold, rank_number};
use crate::chat::lines::Spoken;
use crate::chat::target::Target;
use crate::core::{Core, Shared};
use crate::directory::Member;
use crate::errors::stored;
use crate::store::{GroupWrite, StoreError, Write};
use mesyx_sdk::{
    Address, ChatEvent, Conversation, Error, ErrorKind, Group, GroupChange, Line, MessageId, Protection, Rank, Signal,
    SignalTo, Timestamp, UserId, Verb,
};
use std::collections::BTreeSet;
use std::sync::Arc;

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
                let most = self.settings().groups.masks;
                if add && masks.len() >= most {
                    return Err(Error::new(ErrorKind::OverQuota, format!("a list has at most {most} masks")));
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
        let limits = self.settings().groups.clone();
        let mine = self.chat.groups.all().iter().filter(|entry| entry.now().members.contains_key(&me.id)).count();
        if mine >= limits.groups_of_one {
            let text = format!("you belong to {} groups already: leave some", limits.groups_of_one);
            return Err(Error::new(ErrorKind::OverQuota, text));
        }
        let joined = match found {
            Some(entry) if entry.now().is_alive() => {
                let now = entry.now();
                if now.members.contains_key(&me.id) {
                    return Ok(now.seen_by(Some(me.id)));
                }
                let domain = self.primary()?.to_string();
                now.may_join(me.id, &Who { nick: &me.name, domain: &domain }, key)?;
                if now.members.len() >= limits.members {
                    let text = format!(
                        "cannot join {name} (+l): it has {} members, more than that it can't have",
                        limits.members
                    );
                    return Err(forbidden(text));
                }
                let mut write = GroupWrite::of(entry.id);
                write.members.push((me.id, Some(rank_number(Rank::Member))));
                if now.fields.invited.contains(&me.id) {
                    write.remove_records.push(self.field_id(entry.id, &Field::Invited(me.id)));
                }
                let members = now.members.keys().copied().chain([me.id]).collect();
                let joins = self.event(me, now.address.clone(), line(Verb::Join, Vec::new(), ""))?;
                self.change_in_group(Some(&entry), write, members, joins, me.id).await?;
                entry.id
            }
            // What is left of an earlier group of that name: those who belonged to it keep what they read.
            Some(entry) => self.found(me, name, entry.id, Some(&entry)).await?,
            None => {
                if name.len() > limits.name_bytes {
                    let text = format!("the name of a group has at most {} bytes", limits.name_bytes);
                    return Err(Error::new(ErrorKind::Invalid, text));
                }
                if self.chat.groups.all().len() >= limits.groups {
                    let text = format!("there are {} groups on this server already", limits.groups);
                    return Err(Error::new(ErrorKind::OverQuota, text));
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
        let mailbox = crate::id::mailbox_id_for_role(joined, mesyx_sdk::Role::Inbox);
        if let Some(name) = crate::chat::target::clear_name(mailbox) {
            let write = Write::Subscribe { user: me.id, name, subscribed: true };
            self.store.write(write).await.map_err(stored)?;
        }
        let gone = || Error::new(ErrorKind::Unavailable, "the group is gone again; try again later");
        let entry = self.chat.groups.by_id(joined).ok_or_else(gone)?;
        self.tell_group(&entry, &BTreeSet::new());
        Ok(entry.now().seen_by(Some(me.id)))
    }

    /// Founds a group, or what is left of one anew.
    async fn found(
        self: &Arc<Self>,
        me: &Arc<Member>,
        name: &str,
        group: UserId,
        before: Option<&Arc<Entry>>,
    ) -> Result<UserId, Error> {
        let mut write = GroupWrite::of(group);
        write.members.push((me.id, Some(rank_number(Rank::Founder))));
        if let Some(before) = before {
            let fields = before.now().fields.all_but_name();
            write.remove_records = fields.iter().map(|field| self.field_id(group, field)).collect();
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
        let joins = self.event(me, self.local_address(&fold(name))?, line(Verb::Join, Vec::new(), ""))?;
        self.change_in_group(before, write, BTreeSet::from([me.id]), joins, me.id).await?;
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
        self.take_out(me, entry, now, me.id, line(Verb::Part, Vec::new(), &one_line(&reason))).await
    }

    /// Takes a member out, and says so: the line is sealed for those who belonged to it until then. Where no operator is left, the highest
    /// of the others becomes the founder.
    async fn take_out(
        self: &Arc<Self>,
        me: &Arc<Member>,
        entry: &Arc<Entry>,
        now: &Now,
        member: UserId,
        said: Line,
    ) -> Result<Arc<Group>, Error> {
        let mut write = GroupWrite { members: vec![(member, None)], ..GroupWrite::of(entry.id) };
        write.members.extend(now.heir(Some(member)).map(|heir| (heir, Some(rank_number(Rank::Founder)))));
        let said = self.event(me, now.address.clone(), said)?;
        let members = now.members.keys().copied().collect();
        self.change_in_group(Some(entry), write, members, said, me.id).await?;
        self.tell_group(entry, &BTreeSet::from([member]));
        Ok(entry.now().seen_by(Some(me.id)))
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
        let most = self.settings().groups.topic_bytes;
        if text.len() > most {
            return Err(Error::new(ErrorKind::TooLarge, format!("a topic has at most {most} bytes")));
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
        let most = self.settings().groups.members;
        if now.fields.invited.len() >= most {
            return Err(Error::new(ErrorKind::OverQuota, format!("{most} people are invited already")));
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
        let said = line(Verb::Kick, vec![other.name.clone()], &one_line(&reason));
        self.take_out(me, entry, now, other.id, said).await
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
        let now = entry.now();
        let said = self.event(me, now.address.clone(), line)?;
        let members = now.members.keys().copied().collect();
        self.change_in_group(Some(entry), write, members, said, me.id).await?;
        self.tell_group(entry, &BTreeSet::new());
        Ok(entry.now().seen_by(Some(me.id)))
    }

    /// What happened, as a line of the group's log.
    fn event(&self, me: &Arc<Member>, group: Address, line: Line) -> Result<Spoken, Error> {
        Ok(Spoken {
            id: MessageId::random(),
            from: self.chat_address(me)?,
            nick: me.name.clone(),
            to: group,
            group: true,
            line,
            protection: Protection::None,
            answers: None,
        })
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
        let Some(heir) = entry.now().heir(None) else { return Ok(()) };
        let members = vec![(heir, Some(rank_number(Rank::Founder)))];
        self.put(GroupWrite { members, ..GroupWrite::of(entry.id) }).await?;
        self.refresh_group(entry.id).await
    }
}

impl Now {
    /// Who becomes the founder where, without one member, no operator is left: the highest of the others, by name.
    fn heir(&self, without: Option<UserId>) -> Option<UserId> {
        let others = || self.group.members.iter().filter(|member| Some(member.user) != without);
        if others().any(|member| member.rank >= Rank::Operator) {
            return None;
        }
        others().rev().max_by_key(|member| member.rank).map(|member| member.user)
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
