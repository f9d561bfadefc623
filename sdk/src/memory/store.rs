//! Users, their mailboxes and messages.

use crate::{
    Append, Change, Content, Conversation, Entry, Error, ErrorKind, Flag, FlagChange, Flags, MailAddress, Mailbox,
    MailboxId, MailboxName, MailboxStatus, MessageId, ModSeq, Origin, Role, Secret, Summary, Timestamp, Uid,
    UidValidity, User, UserId, Watcher, mime,
};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Sizes are told in steps of this many bytes, as by the core.
const PADDING: u64 = 1024;

#[derive(Default)]
pub(super) struct Store {
    accounts: HashMap<UserId, Account>,
    /// What was taken under a name that its origin repeats.
    pub(super) taken: HashMap<(String, Vec<u8>), MessageId>,
}

pub(super) struct Account {
    pub(super) user: User,
    pub(super) password: Secret,
    pub(super) aliases: Vec<MailAddress>,
    pub(super) subscriptions: BTreeSet<MailboxName>,
    folders: BTreeMap<MailboxName, Folder>,
    /// The conversations whose lines stand in mailboxes, some of which may have been deleted.
    pub(super) conversations: Vec<(MailboxId, Conversation)>,
    deleted: HashSet<MailboxId>,
    watchers: Vec<mpsc::Sender<Change>>,
    /// Grows with each mailbox, so that a name used again never shows old UIDs.
    last_uid_validity: UidValidity,
}

pub(super) struct Folder {
    pub(super) id: MailboxId,
    role: Option<Role>,
    /// `false`: only a name with mailboxes below it.
    selectable: bool,
    pub(super) uid_validity: UidValidity,
    pub(super) uid_next: Uid,
    pub(super) modseq: ModSeq,
    pub(super) recent_from: Uid,
    pub(super) messages: BTreeMap<Uid, Message>,
    vanished: Vec<(ModSeq, Uid)>,
}

#[derive(Clone)]
pub(super) struct Message {
    pub(super) id: MessageId,
    pub(super) modseq: ModSeq,
    pub(super) flags: Flags,
    pub(super) content: Content,
    pub(super) summary: Arc<Summary>,
}

pub(super) fn not_found(what: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no such {what}"))
}

impl Store {
    pub(super) fn add_user(&mut self, user: User, password: Secret) -> User {
        if let Some(account) = self.accounts.values_mut().find(|account| account.user.name == user.name) {
            account.password = password;
            return account.user.clone();
        }
        let mut account = Account {
            user: user.clone(),
            password,
            aliases: Vec::new(),
            subscriptions: BTreeSet::new(),
            folders: BTreeMap::new(),
            conversations: Vec::new(),
            deleted: HashSet::new(),
            watchers: Vec::new(),
            last_uid_validity: 0,
        };
        for (role, name) in Role::STANDARD {
            if let Ok(name) = MailboxName::new(name) {
                let folder = account.new_folder(Some(role));
                account.folders.insert(name.clone(), folder);
                account.subscriptions.insert(name);
            }
        }
        self.accounts.insert(user.id, account);
        user
    }

    pub(super) fn account(&mut self, user: UserId) -> Result<&mut Account, Error> {
        self.accounts.get_mut(&user).ok_or_else(|| not_found("user"))
    }

    /// By login name or by address.
    pub(super) fn account_named(&mut self, name: &str) -> Result<&mut Account, Error> {
        let address = name.parse::<MailAddress>().ok();
        let is = |account: &&mut Account| {
            account.user.name.eq_ignore_ascii_case(name)
                || address.as_ref().is_some_and(|address| account.owns(address))
        };
        self.accounts.values_mut().find(is).ok_or_else(|| not_found("user"))
    }

    pub(super) fn owner(&self, address: &MailAddress) -> Option<UserId> {
        self.accounts.values().find(|account| account.owns(address)).map(|account| account.user.id)
    }
}

impl Account {
    /// Whether the address is the user's: its own or an alias, with any subaddress, case of the local part disregarded.
    pub(super) fn owns(&self, address: &MailAddress) -> bool {
        let same = |own: &MailAddress| {
            let local = |address: &MailAddress| address.local().to_lowercase();
            let (own_local, given) = (local(own), local(address));
            let base = given.split_once('+').map_or(given.as_str(), |(base, _)| base);
            own.domain() == address.domain() && (own_local == given || own_local == base)
        };
        same(&self.user.address) || self.aliases.iter().any(same)
    }

    pub(super) fn mailboxes(&self) -> Vec<Mailbox> {
        let mailbox = |(name, folder): (&MailboxName, &Folder)| Mailbox {
            id: folder.id,
            name: name.clone(),
            role: folder.role,
            selectable: folder.selectable,
        };
        self.folders.iter().map(mailbox).collect()
    }

    pub(super) fn inbox(&mut self) -> Result<&mut Folder, Error> {
        self.folders.get_mut(&MailboxName::inbox()).ok_or_else(|| not_found("mailbox"))
    }

    /// Where a message that a bridge holds for unwanted goes.
    pub(super) fn junk(&mut self) -> Result<&mut Folder, Error> {
        let is = |folder: &Folder| folder.selectable && folder.role == Some(Role::Junk);
        match self.folders.iter().find(|(_, folder)| is(folder)).map(|(name, _)| name.clone()) {
            Some(name) => self.folders.get_mut(&name).ok_or_else(|| not_found("mailbox")),
            None => self.inbox(),
        }
    }

    pub(super) fn folder(&mut self, id: MailboxId) -> Result<&mut Folder, Error> {
        let is = |folder: &&mut Folder| folder.id == id && folder.selectable;
        self.folders.values_mut().find(is).ok_or_else(|| not_found("mailbox"))
    }

    /// Whether it was there once.
    pub(super) fn was_deleted(&self, id: MailboxId) -> bool {
        self.deleted.contains(&id)
    }

    fn new_folder(&mut self, role: Option<Role>) -> Folder {
        self.last_uid_validity += 1;
        Folder::new(role, self.last_uid_validity)
    }

    pub(super) fn create(&mut self, name: &MailboxName, role: Option<Role>) -> Result<MailboxId, Error> {
        if self.folders.get(name).is_some_and(|folder| folder.selectable) {
            return Err(Error::new(ErrorKind::Exists, "there is a mailbox of that name already"));
        }
        self.create_above(name);
        let folder = self.new_folder(role);
        let id = folder.id;
        self.folders.insert(name.clone(), folder);
        self.tell(&Change::MailboxList);
        Ok(id)
    }

    fn create_above(&mut self, name: &MailboxName) {
        let mut above = name.parent();
        while let Some(name) = above {
            above = name.parent();
            let name_only = Folder { selectable: false, ..self.new_folder(None) };
            self.folders.entry(name).or_insert(name_only);
        }
    }

    pub(super) fn rename(&mut self, name: &MailboxName, new: &MailboxName) -> Result<(), Error> {
        if self.folders.contains_key(new) {
            return Err(Error::new(ErrorKind::Exists, "there is a mailbox of the new name already"));
        }
        let below = |child: &MailboxName, name: &MailboxName| {
            child.as_str().strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('/'))
        };
        if name.is_inbox() {
            let id = self.create(new, None)?;
            let all: Vec<Uid> = self.inbox()?.messages.keys().copied().collect();
            let moved = self.inbox()?.remove(&all);
            let folder = self.folder(id)?;
            for (_, message) in moved {
                folder.add(message);
            }
            let inbox = self.inbox()?.id;
            self.tell_mailbox(inbox);
            self.tell_mailbox(id);
            return Ok(());
        }
        if !self.folders.contains_key(name) {
            return Err(not_found("mailbox"));
        }
        if below(new, name) {
            return Err(Error::new(ErrorKind::Invalid, "a mailbox can't be moved below itself"));
        }
        let moving: Vec<MailboxName> =
            self.folders.keys().filter(|child| *child == name || below(child, name)).cloned().collect();
        let mut renamed = Vec::new();
        for old in &moving {
            let rest = old.as_str().strip_prefix(name.as_str()).unwrap_or_default();
            renamed.push(MailboxName::new(&format!("{new}{rest}"))?);
        }
        self.create_above(new);
        for (old, new) in moving.iter().zip(renamed) {
            if let Some(folder) = self.folders.remove(old) {
                self.folders.insert(new, folder);
            }
        }
        self.drop_bare_names(name.parent());
        self.tell(&Change::MailboxList);
        Ok(())
    }

    pub(super) fn delete(&mut self, name: &MailboxName) -> Result<(), Error> {
        if name.is_inbox() {
            return Err(Error::new(ErrorKind::Forbidden, "INBOX can't be deleted"));
        }
        let has_below = self.has_below(name);
        let folder = self.folders.get_mut(name).ok_or_else(|| not_found("mailbox"))?;
        if has_below && !folder.selectable {
            return Err(Error::new(ErrorKind::Forbidden, "there are mailboxes below this name; delete them first"));
        }
        let id = folder.id;
        if has_below {
            *folder = Folder { selectable: false, ..Folder::new(None, folder.uid_validity) };
        } else {
            self.folders.remove(name);
            self.drop_bare_names(name.parent());
        }
        self.deleted.insert(id);
        self.tell(&Change::Mailbox(id, ModSeq::MAX >> 1));
        self.tell(&Change::MailboxList);
        Ok(())
    }

    fn has_below(&self, name: &MailboxName) -> bool {
        self.folders.keys().any(|child| child.parent().as_ref() == Some(name))
    }

    /// Drops names that were there only for mailboxes below them, once none is left.
    fn drop_bare_names(&mut self, mut name: Option<MailboxName>) {
        while let Some(bare) = name {
            if self.has_below(&bare) || self.folders.get(&bare).is_none_or(|folder| folder.selectable) {
                return;
            }
            self.folders.remove(&bare);
            name = bare.parent();
        }
    }

    pub(super) fn watch(&mut self) -> Watcher {
        // One place more than may wait, for `Lagged`.
        let (sender, receiver) = mpsc::channel(Watcher::CAPACITY + 1);
        self.watchers.push(sender);
        Watcher::new(receiver)
    }

    /// Tells that a mailbox changed.
    pub(super) fn tell_mailbox(&mut self, id: MailboxId) {
        if let Some(folder) = self.folders.values().find(|folder| folder.id == id) {
            let change = Change::Mailbox(id, folder.modseq);
            self.tell(&change);
        }
    }

    fn tell(&mut self, change: &Change) {
        self.watchers.retain(|watcher| {
            // In a full queue the last place holds `Lagged` already, which stands for this change too.
            let _ = match watcher.capacity() {
                0 => Ok(()),
                1 => watcher.try_send(Change::Lagged),
                _ => watcher.try_send(change.clone()),
            };
            !watcher.is_closed()
        });
    }

    pub(super) fn end(&mut self, why: &str) {
        for watcher in self.watchers.drain(..) {
            let _ = watcher.try_send(Change::Ended(why.to_owned()));
        }
    }
}

impl Message {
    pub(super) fn new(
        id: MessageId,
        flags: Flags,
        date: Timestamp,
        content: &Content,
        origin: Option<Origin>,
    ) -> Result<Self, Error> {
        let summary = mime::summarize(content, date, origin);
        let summary = summary.map_err(|error| Error::new(ErrorKind::TooLarge, error.to_string()))?;
        Ok(Self { id, modseq: 0, flags, content: content.clone(), summary: Arc::new(summary) })
    }

    pub(super) fn appended(append: &Append) -> Result<Self, Error> {
        let flags = checked(append.flags.iter().cloned().collect())?;
        let date = append.internal_date.unwrap_or_else(Timestamp::now);
        Self::new(MessageId::random(), flags, date, &append.content, None)
    }

    pub(super) fn entry(&self, uid: Uid) -> Entry {
        Entry {
            uid,
            message: self.id,
            modseq: self.modseq,
            flags: self.flags.clone(),
            padded_size: self.summary.size.next_multiple_of(PADDING),
            day: Timestamp::from_seconds(i64::from(self.summary.internal_date.day()) * 86_400),
        }
    }

    /// The flags after the change.
    pub(super) fn changed(&self, change: &FlagChange) -> Result<Flags, Error> {
        checked(match change {
            FlagChange::Set(flags) => flags.iter().cloned().collect(),
            FlagChange::Add(flags) => self.flags.iter().chain(flags).cloned().collect(),
            FlagChange::Remove(flags) => self.flags.iter().filter(|flag| !flags.contains(flag)).cloned().collect(),
        })
    }
}

fn checked(flags: Flags) -> Result<Flags, Error> {
    if flags.iter().filter(|flag| matches!(flag, Flag::Keyword(_))).count() > Flags::MAX {
        return Err(Error::new(ErrorKind::Invalid, "a message has at most 100 keywords"));
    }
    Ok(flags)
}

impl Folder {
    fn new(role: Option<Role>, uid_validity: UidValidity) -> Self {
        Self {
            id: MailboxId::random(),
            role,
            selectable: true,
            uid_validity,
            uid_next: 1,
            modseq: 1,
            recent_from: 1,
            messages: BTreeMap::new(),
            vanished: Vec::new(),
        }
    }

    pub(super) const fn next_modseq(&mut self) -> ModSeq {
        self.modseq += 1;
        self.modseq
    }

    pub(super) fn add(&mut self, mut message: Message) -> Uid {
        let uid = self.uid_next;
        self.uid_next += 1;
        message.modseq = self.next_modseq();
        self.messages.insert(uid, message);
        uid
    }

    /// Takes messages out, those that are there.
    pub(super) fn remove(&mut self, uids: &[Uid]) -> Vec<(Uid, Message)> {
        let gone: Vec<(Uid, Message)> =
            uids.iter().filter_map(|uid| Some((*uid, self.messages.remove(uid)?))).collect();
        if !gone.is_empty() {
            let modseq = self.next_modseq();
            self.vanished.extend(gone.iter().map(|(uid, _)| (modseq, *uid)));
        }
        gone
    }

    /// The UIDs that went after `since`, in order.
    pub(super) fn vanished_since(&self, since: ModSeq) -> Vec<Uid> {
        let mut uids: Vec<Uid> =
            self.vanished.iter().filter(|(modseq, _)| *modseq > since).map(|(_, uid)| *uid).collect();
        uids.sort_unstable();
        uids
    }

    pub(super) fn status(&self) -> MailboxStatus {
        let count = |wanted: &dyn Fn((&Uid, &Message)) -> bool| {
            u32::try_from(self.messages.iter().filter(|entry| wanted(*entry)).count()).unwrap_or(u32::MAX)
        };
        MailboxStatus {
            messages: count(&|_| true),
            unseen: count(&|(_, message)| !message.flags.contains(&Flag::Seen)),
            recent: count(&|(uid, _)| *uid >= self.recent_from),
            uid_next: self.uid_next,
            uid_validity: self.uid_validity,
            highest_modseq: self.modseq,
            size: self.messages.iter().map(|(uid, message)| message.entry(*uid).padded_size).sum(),
        }
    }
}
