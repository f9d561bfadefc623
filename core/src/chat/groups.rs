//! Groups: who belongs to them, what may be said, and the keys of their epochs.
//!
//! ```text
//!   change_group --> rules --> one commit: members, fields, the line that tells of it (join, topic, mode, …) --> every member's feed
//!   line --> lane (order) --> epoch key: as long as the members are the same, for a bounded time and number of lines --> sealed once --> log
//! ```
//!
//! A member has the key of each epoch in which they belonged to the group, sealed to the keyset of that time, and so reads what was said
//! then and nothing else. Names, topics, modes and lists are sealed under the instance key, since whoever joins must find them.

mod change;
mod fields;
mod rules;
mod say;

use super::target::Target;
use crate::core::Shared;
use crate::errors::stored;
use crate::seal::{SealedSessionKey, SessionKey};
use crate::store::StoredGroup;
use fields::Fields;
use mesyx_sdk::{Address, Error, ErrorKind, Group, GroupMember, MailboxId, Rank, Timestamp, UserId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

/// Every group.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    all: RwLock<Known>,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
    /// One look into the store at a time, so that an earlier one never overwrites a later one.
    refreshing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    by_id: HashMap<UserId, Arc<Entry>>,
    /// By folded name.
    by_name: HashMap<String, UserId>,
    by_mailbox: HashMap<MailboxId, UserId>,
}

/// One group.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: UserId,
    pub(crate) mailbox: MailboxId,
    now: RwLock<Arc<Now>>,
    lane: tokio::sync::Mutex<Lane>,
}

/// A group as it is now.
#[derive(Debug)]
pub(crate) struct Now {
    pub(crate) address: Address,
    pub(crate) members: BTreeMap<UserId, Rank>,
    /// Who sees lines of it in a mailbox.
    pub(crate) readers: BTreeSet<UserId>,
    fields: Fields,
    /// As members see it.
    group: Arc<Group>,
}

/// The order in which lines are said, and the key that they are sealed under.
#[derive(Debug)]
struct Lane {
    last: Timestamp,
    epoch: Option<Epoch>,
}

/// One epoch's key.
#[derive(Debug)]
struct Epoch {
    key: SessionKey,
    sealed: Arc<SealedSessionKey>,
    since: Instant,
    lines: u32,
    /// Whose keysets it is sealed to: the digests of those keysets.
    sealed_to: BTreeMap<UserId, [u8; 32]>,
    /// The users as they were known when that was compared last.
    compared: std::sync::Weak<crate::core::Known>,
}

impl Entry {
    pub(crate) fn now(&self) -> Arc<Now> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Now {
    /// Its name as it was founded.
    pub(crate) fn name(&self) -> &str {
        &self.group.name
    }

    /// Whether there is such a group, or only what is left of one.
    pub(crate) fn is_alive(&self) -> bool {
        !self.members.is_empty()
    }

    /// Whether somebody may know that it is there.
    pub(crate) fn visible_to(&self, user: UserId) -> bool {
        self.is_alive() && (self.members.contains_key(&user) || !self.fields.modes.contains_key(&'s'))
    }

    /// The group as somebody sees it.
    pub(crate) fn seen_by(&self, user: Option<UserId>) -> Arc<Group> {
        if user.is_some_and(|user| self.members.contains_key(&user)) {
            return Arc::clone(&self.group);
        }
        let mut group = Group::clone(&self.group);
        if self.fields.modes.contains_key(&'s') {
            group.members.clear();
        }
        if let Some(key) = group.modes.get_mut(&'k') {
            key.clear();
        }
        Arc::new(group)
    }
}

impl Groups {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.all.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The group of a name, whatever its case; also one that nobody belongs to.
    pub(crate) fn by_name(&self, name: &str) -> Option<Arc<Entry>> {
        let known = self.read();
        known.by_id.get(known.by_name.get(&fold(name))?).cloned()
    }

    /// The group of a mailbox.
    pub(crate) fn by_mailbox(&self, mailbox: MailboxId) -> Option<Arc<Entry>> {
        let known = self.read();
        known.by_id.get(known.by_mailbox.get(&mailbox)?).cloned()
    }

    pub(crate) fn by_id(&self, group: UserId) -> Option<Arc<Entry>> {
        self.read().by_id.get(&group).cloned()
    }

    /// All that there are, those without members too.
    pub(crate) fn all(&self) -> Vec<Arc<Entry>> {
        self.read().by_id.values().cloned().collect()
    }
}

/// Lower case, as a channel's name is compared: by `rfc1459`, and beyond ASCII as Unicode has it.
fn fold(name: &str) -> String {
    mesyx_sdk::address::CaseMapping::Rfc1459.fold(&name.to_lowercase())
}

impl Shared {
    /// Reads every group.
    ///
    /// # Errors
    /// As the store's.
    pub(crate) async fn load_groups(&self) -> Result<(), Error> {
        let _one = self.chat.groups.refreshing.lock().await;
        for group in self.store.groups(None).await.map_err(stored)? {
            self.take_group(group);
        }
        Ok(())
    }

    /// Reads one group anew.
    ///
    /// # Errors
    /// As the store's.
    pub(crate) async fn refresh_group(&self, id: UserId) -> Result<(), Error> {
        let _one = self.chat.groups.refreshing.lock().await;
        match self.store.groups(Some(id)).await.map_err(stored)?.pop() {
            Some(group) => self.take_group(group),
            None => {
                let mut known = self.chat.groups.all.write().unwrap_or_else(PoisonError::into_inner);
                if let Some(gone) = known.by_id.remove(&id) {
                    known.by_mailbox.remove(&gone.mailbox);
                    known.by_name.retain(|_, of| *of != id);
                }
            }
        }
        Ok(())
    }

    fn take_group(&self, stored: StoredGroup) {
        let id = stored.group;
        let fields = self.open_fields(id, &stored.records);
        let Ok(address) = self.local_address(&fold(&fields.name)) else { return };
        let directory = self.directory();
        let members: BTreeMap<UserId, Rank> = stored
            .members
            .iter()
            .filter(|(user, _)| directory.addresses.member(*user).is_some())
            .map(|(user, rank)| (*user, rank_of(*rank)))
            .collect();
        let named = |(user, rank): (&UserId, &Rank)| {
            let name = directory.addresses.member(*user)?.name.clone();
            Some(GroupMember { user: *user, name, rank: *rank })
        };
        let mut listed: Vec<GroupMember> = members.iter().filter_map(named).collect();
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        let group = Arc::new(Group {
            address: address.clone(),
            name: fields.name.clone(),
            created: fields.created,
            topic: fields.topic.clone(),
            members: listed,
            modes: fields.modes.clone(),
            lists: fields.lists.clone(),
        });
        let readers = stored.readers.into_iter().collect();
        let name = fold(&fields.name);
        let now = Arc::new(Now { address, members, readers, fields, group });
        let mut known = self.chat.groups.all.write().unwrap_or_else(PoisonError::into_inner);
        known.by_name.insert(name, id);
        known.by_mailbox.insert(stored.mailbox, id);
        match known.by_id.get(&id) {
            Some(entry) => *entry.now.write().unwrap_or_else(PoisonError::into_inner) = now,
            None => {
                let lane = tokio::sync::Mutex::new(Lane { last: Timestamp(0), epoch: None });
                let entry = Arc::new(Entry { id, mailbox: stored.mailbox, now: RwLock::new(now), lane });
                known.by_id.insert(id, entry);
            }
        }
    }

    /// The groups that somebody may see.
    pub(crate) fn groups_seen_by(&self, user: Option<UserId>) -> Vec<Arc<Group>> {
        let seen = |now: &Arc<Now>| match user {
            Some(user) => now.visible_to(user),
            None => now.is_alive() && !now.fields.modes.contains_key(&'s'),
        };
        let all = self.chat.groups.all();
        let mut groups: Vec<_> =
            all.iter().map(|entry| entry.now()).filter(seen).map(|now| now.seen_by(user)).collect();
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        groups
    }

    /// The group that an address stands for.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], also where the group is not this user's to see.
    pub(crate) fn group_of(&self, address: &Address, user: UserId) -> Result<Arc<Entry>, Error> {
        let not_found = || Error::new(ErrorKind::NotFound, format!("there is no group {address}"));
        let Some(Target::Group(name)) = self.chat_target(address) else { return Err(not_found()) };
        let entry = self.chat.groups.by_name(&name).ok_or_else(not_found)?;
        if entry.now().visible_to(user) { Ok(entry) } else { Err(not_found()) }
    }
}

/// The rank of a number in the store.
pub(super) const fn rank_of(number: u8) -> Rank {
    match number {
        0 => Rank::Member,
        1 => Rank::Voice,
        2 => Rank::Operator,
        _ => Rank::Founder,
    }
}

/// The number of a rank in the store.
pub(super) const fn rank_number(rank: Rank) -> u8 {
    match rank {
        Rank::Member => 0,
        Rank::Voice => 1,
        Rank::Operator => 2,
        Rank::Founder => 3,
    }
}
