//! One logged-in user's view of the store.

use super::lock;
use super::open::Opener;
use super::opened::OpenUser;
use super::search::{BodyFacts, Facts, Search, SummaryFacts};
use super::views::{Place, read_only};
use crate::core::Shared;
use crate::errors::{broken, stored};
use crate::intake::{SealJob, is_own};
use crate::seal::SealFor;
use crate::store::{Event, Placing, Write, Written};
use async_trait::async_trait;
use mesyx_sdk::{
    Accepted, Address, Append, Appended, Changes, ChatLine, Content, Conversation, ConversationInfo, Copied, Entry,
    Envelope, Error, ErrorKind, Flag, FlagChange, FlagsStored, Group, GroupChange, History, Importance, LiveFeed,
    MailAddress, Mailbox, MailboxId, MailboxName, MailboxStatus, MessageId, ModSeq, Query, RecipientStatus, Role,
    SearchResult, Sender, Session, Snapshot, Summary, Timestamp, Uid, User, Watcher,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Most summaries in one answer, and about how many bytes of headers.
const SUMMARIES: usize = 512;
const SUMMARY_BYTES: usize = 8 << 20;
/// Bodies in one answer, and about how many bytes; one larger body comes alone.
const BODIES: usize = 512;
const BODY_BYTES: u64 = 4 << 20;
/// A body from this size on is kept for a client that fetches it piece by piece.
const KEPT_BODY: usize = 64 << 10;

/// A session.
#[derive(Debug)]
pub(crate) struct AccessSession {
    pub(crate) shared: Arc<Shared>,
    pub(crate) keys: Arc<OpenUser>,
    id: u64,
    user: User,
    ended: Arc<AtomicBool>,
}

impl Drop for AccessSession {
    fn drop(&mut self) {
        self.shared.session_over(&self.keys, self.id);
    }
}

impl AccessSession {
    pub(super) const fn new(
        shared: Arc<Shared>,
        keys: Arc<OpenUser>,
        id: u64,
        user: User,
        ended: Arc<AtomicBool>,
    ) -> Self {
        Self { shared, keys, id, user, ended }
    }

    /// Refuses every call of a session whose credential was revoked.
    pub(super) fn alive(&self) -> Result<(), Error> {
        match self.ended.load(Ordering::Acquire) {
            true => Err(Error::new(ErrorKind::Forbidden, "this session is over: its password is not valid any more")),
            false => Ok(()),
        }
    }

    pub(super) fn opener(&self) -> Opener {
        Opener { shared: Arc::clone(&self.shared), keys: Arc::clone(&self.keys) }
    }

    fn place(&self, mailbox: MailboxId) -> Place {
        self.shared.access.place(self.user.id, mailbox)
    }

    /// Refuses what changes a mailbox that is unlocked for a while.
    fn writable(&self, mailbox: MailboxId) -> Result<(), Error> {
        if self.place(mailbox).view.is_some() { Err(read_only()) } else { Ok(()) }
    }

    /// Refuses a name that a mailbox has which is unlocked for a while.
    fn not_unlocked(&self, name: &MailboxName) -> Result<(), Error> {
        match self.shared.access.views.mailboxes(self.user.id).iter().any(|view| view.name == *name) {
            true => Err(Error::new(ErrorKind::Exists, "a mailbox of that name exists already, for a while")),
            false => Ok(()),
        }
    }

    async fn write(&self, write: Write) -> Result<Written, Error> {
        self.alive()?;
        self.shared.store.write(write).await.map_err(stored)
    }

    async fn copy_or_move(&self, from: MailboxId, uids: &[Uid], to: MailboxId, remove: bool) -> Result<Copied, Error> {
        self.writable(from)?;
        self.writable(to)?;
        let user = self.user.id;
        if self.is_group(to) {
            return Err(in_group());
        }
        if self.is_group(from) {
            return self.copy_from_group(from, uids, to, remove).await;
        }
        match self.write(Write::Copy { user, from, uids: uids.to_vec(), to, remove }).await? {
            Written::Copied(copied) => {
                if remove {
                    self.shared.access.forget_bodies(user, from);
                }
                Ok(copied)
            }
            _ => Err(unexpected()),
        }
    }
}

#[async_trait]
impl Session for AccessSession {
    fn user(&self) -> &User {
        &self.user
    }

    async fn mailboxes(&self) -> Result<Vec<Mailbox>, Error> {
        self.alive()?;
        let named = self.named_mailboxes().await?;
        let mut real: Vec<Mailbox> = named.into_iter().map(|(mailbox, _)| mailbox).collect();
        real.extend(self.shared.access.views.mailboxes(self.user.id));
        Ok(with_parents(self.user.id, real))
    }

    async fn subscriptions(&self) -> Result<Vec<MailboxName>, Error> {
        self.alive()?;
        let names = self.shared.store.subscriptions(self.user.id).await.map_err(stored)?;
        let named = self.named_mailboxes().await?;
        let shown = |name: MailboxName| {
            let found = named.iter().find(|(_, clear)| *clear == name);
            found.map_or(name, |(mailbox, _)| mailbox.name.clone())
        };
        let mut names: Vec<MailboxName> = names.into_iter().map(shown).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    async fn subscribe(&self, name: &MailboxName, subscribed: bool) -> Result<(), Error> {
        self.alive()?;
        let name = self.name_in_store(name).await?;
        let write = Write::Subscribe { user: self.user.id, name, subscribed };
        self.write(write).await.map(drop)
    }

    async fn create_mailbox(&self, name: &MailboxName, role: Option<Role>) -> Result<MailboxId, Error> {
        self.alive()?;
        let user = self.user.id;
        self.not_unlocked(name)?;
        let known: Vec<Mailbox> = self.named_mailboxes().await?.into_iter().map(|(mailbox, _)| mailbox).collect();
        if known.iter().any(|mailbox| mailbox.name == *name) {
            return Err(Error::new(ErrorKind::Exists, "a mailbox of that name exists already"));
        }
        let limit = self.shared.settings().limits.mailboxes;
        if known.len() >= limit {
            let text = format!("there are {limit} mailboxes already, which is the limit; delete some");
            return Err(Error::new(ErrorKind::OverQuota, text));
        }
        if let Some(role) = role
            && let Some(other) = known.iter().find(|mailbox| mailbox.role == Some(role))
        {
            let text = format!("the mailbox {} has that special use already", other.name);
            return Err(Error::new(ErrorKind::Exists, text));
        }
        let mailbox = MailboxId::random();
        self.write(Write::CreateMailbox { user, mailbox, name: name.clone(), role }).await?;
        Ok(mailbox)
    }

    async fn rename_mailbox(&self, name: &MailboxName, new: &MailboxName) -> Result<(), Error> {
        let (user, fresh) = (self.user.id, MailboxId::random());
        self.not_unlocked(new)?;
        let named = self.named_mailboxes().await?;
        let found = named.iter().find(|(mailbox, _)| mailbox.name == *name);
        if found.is_some_and(|(mailbox, _)| self.is_group(mailbox.id)) {
            return Err(Error::new(ErrorKind::Forbidden, "the mailbox of a group has the name of the group"));
        }
        if named.iter().any(|(mailbox, _)| mailbox.name == *new) {
            return Err(Error::new(ErrorKind::Exists, "a mailbox of that name exists already"));
        }
        let name = found.map_or_else(|| name.clone(), |(_, clear)| clear.clone());
        self.write(Write::RenameMailbox { user, name, new: new.clone(), fresh }).await.map(drop)
    }

    async fn delete_mailbox(&self, name: &MailboxName) -> Result<(), Error> {
        if name.is_inbox() {
            return Err(Error::new(ErrorKind::Forbidden, "INBOX can't be deleted"));
        }
        self.alive()?;
        self.delete_named(name).await
    }

    async fn status(&self, mailbox: MailboxId) -> Result<MailboxStatus, Error> {
        self.alive()?;
        match self.place(mailbox).view {
            Some(view) => view.status(&*self.shared.store).await,
            None => self.shared.store.status(self.user.id, mailbox).await.map_err(stored),
        }
    }

    async fn snapshot(&self, mailbox: MailboxId, claim_recent: bool) -> Result<Snapshot, Error> {
        self.alive()?;
        if let Some(view) = self.place(mailbox).view {
            return view.snapshot(&*self.shared.store, claim_recent).await;
        }
        let user = self.user.id;
        let mut snapshot = self.shared.store.snapshot(user, mailbox).await.map_err(stored)?;
        // What comes between the two calls is claimed too, and this session is told of it by its next look at the changes.
        if claim_recent
            && snapshot.recent_from < snapshot.uid_next
            && let Written::RecentFrom(from) = self.write(Write::ClaimRecent { user, mailbox }).await?
        {
            snapshot.recent_from = from;
        }
        Ok(snapshot)
    }

    async fn changes(&self, mailbox: MailboxId, since: ModSeq) -> Result<Changes, Error> {
        self.alive()?;
        match self.place(mailbox).view {
            Some(view) => view.changes(&*self.shared.store, since).await,
            None => self.shared.store.changes(self.user.id, mailbox, since).await.map_err(stored),
        }
    }

    async fn summaries(&self, mailbox: MailboxId, uids: &[Uid]) -> Result<Vec<(Uid, Arc<Summary>)>, Error> {
        self.alive()?;
        let opener = self.opener();
        let mut found = Vec::new();
        let mut bytes = 0;
        // A few first: headers can be a megabyte each, and no more of them than this are held beyond the bound.
        let (mut rest, mut step) = (uids, 32);
        while !rest.is_empty() && found.len() < SUMMARIES && bytes < SUMMARY_BYTES {
            let (now, later) = rest.split_at(rest.len().min(step).min(SUMMARIES - found.len()));
            rest = later;
            for (uid, opened) in opener.summaries(mailbox, now).await? {
                bytes += opened.summary.headers.len();
                found.push((uid, opened.summary));
            }
            step = if bytes < SUMMARY_BYTES / 64 { SUMMARIES } else { 32 };
        }
        Ok(found)
    }

    async fn bodies(&self, mailbox: MailboxId, uids: &[Uid]) -> Result<Vec<(Uid, Content)>, Error> {
        self.alive()?;
        let user = self.user.id;
        if let [uid] = uids
            && let Some(content) = lock(&self.shared.access.bodies).get(&(user, mailbox, *uid))
        {
            return Ok(vec![(*uid, content)]);
        }
        let opener = self.opener();
        let epoch = self.shared.access.epoch();
        let mut rest = uids;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(BODIES));
            let found = opener.bodies(mailbox, now, BODY_BYTES).await?;
            if let ([body], true) = (found.as_slice(), uids.len() == 1)
                && body.content.len() >= KEPT_BODY
            {
                self.shared.access.keep_body(epoch, (user, mailbox, body.uid), body.content.clone());
            }
            if !found.is_empty() {
                return Ok(found.into_iter().map(|body| (body.uid, body.content)).collect());
            }
            rest = later;
        }
        Ok(Vec::new())
    }

    async fn store_flags(
        &self,
        mailbox: MailboxId,
        uids: &[Uid],
        change: &FlagChange,
        unchanged_since: Option<ModSeq>,
    ) -> Result<FlagsStored, Error> {
        if let Some(view) = self.place(mailbox).view {
            self.alive()?;
            let (stored, changed) = view.store_flags(uids, change, unchanged_since);
            if let Some(modseq) = changed {
                self.shared.access.feeds.tell(Event::Mailbox(self.user.id, mailbox, modseq));
            }
            return Ok(stored);
        }
        let (user, uids, change) = (self.user.id, uids.to_vec(), change.clone());
        match self.write(Write::Flags { user, mailbox, uids, change, unchanged_since }).await? {
            Written::Flags(stored) => Ok(stored),
            _ => Err(unexpected()),
        }
    }

    async fn append(&self, mailbox: MailboxId, messages: Vec<Append>) -> Result<Appended, Error> {
        self.alive()?;
        self.writable(mailbox)?;
        if self.is_group(mailbox) {
            return Err(in_group());
        }
        let user = self.user.id;
        let users = BTreeSet::from([user]);
        messages.iter().try_for_each(|message| self.shared.check_size(&message.content))?;
        let bytes = messages.iter().map(|message| message.content.len()).sum();
        self.shared.check_quota(&users, bytes).await?;
        let mut placings = Vec::with_capacity(messages.len());
        for Append { flags, internal_date, content } in messages {
            let id = MessageId::random();
            let target = |user| SealFor { user, message: id, importance: Importance::Normal };
            let targets = self.shared.seal_for(&users, target)?;
            let job = SealJob { shared: Arc::clone(&self.shared), targets };
            let date = internal_date.unwrap_or_else(Timestamp::now);
            for message in job.run(content, date, None).await? {
                self.shared.quota.add(user, message.padded_size);
                placings.push(Placing { message, mailbox, flags: flags.clone() });
            }
        }
        match self.write(Write::Append(placings)).await? {
            Written::Placed(appended) => Ok(appended),
            _ => Err(unexpected()),
        }
    }

    async fn copy(&self, from: MailboxId, uids: &[Uid], to: MailboxId) -> Result<Copied, Error> {
        self.copy_or_move(from, uids, to, false).await
    }

    async fn move_messages(&self, from: MailboxId, uids: &[Uid], to: MailboxId) -> Result<Copied, Error> {
        self.copy_or_move(from, uids, to, true).await
    }

    async fn expunge(&self, mailbox: MailboxId, uids: Option<&[Uid]>) -> Result<Vec<Uid>, Error> {
        if self.place(mailbox).view.is_some() {
            return Ok(Vec::new());
        }
        let user = self.user.id;
        match self.write(Write::Expunge { user, mailbox, uids: uids.map(<[Uid]>::to_vec) }).await? {
            Written::Expunged(gone) => {
                self.shared.access.forget_bodies(user, mailbox);
                Ok(gone)
            }
            _ => Err(unexpected()),
        }
    }

    async fn search(&self, mailbox: MailboxId, query: &Query) -> Result<SearchResult, Error> {
        self.alive()?;
        let search = Arc::new(Search::new(query)?);
        let snapshot = self.place(mailbox).snapshot(&*self.shared.store).await?;
        let mut result = SearchResult::default();
        let mut undecided: Vec<Entry> = Vec::new();
        let mut found: Vec<(Uid, ModSeq)> = Vec::new();
        for entry in snapshot.entries {
            match search.matches(&Facts { entry: &entry, summary: None, body: None }) {
                Some(true) => found.push((entry.uid, entry.modseq)),
                Some(false) => {}
                None => undecided.push(entry),
            }
        }
        for some in undecided.chunks(SUMMARIES / 4) {
            self.alive()?;
            self.look_closer(mailbox, &search, some, &mut found, &mut result.unsearchable).await?;
        }
        found.sort_unstable();
        result.highest_modseq = found.iter().map(|(_, modseq)| *modseq).max().unwrap_or(0);
        result.uids = found.into_iter().map(|(uid, _)| uid).collect();
        Ok(result)
    }

    async fn watch(&self) -> Result<Watcher, Error> {
        self.alive()?;
        Ok(self.shared.access.feeds.watch(self.user.id, self.id))
    }

    async fn may_send_as(&self, address: &MailAddress) -> Result<bool, Error> {
        Ok(is_own(&self.shared, self.user.id, &Address::Mail(address.clone())))
    }

    async fn recipient(&self, address: &Address) -> Result<RecipientStatus, Error> {
        self.alive()?;
        Ok(match self.shared.recipient(address, &Sender::User(self.user.id)) {
            RecipientStatus::Foreign if self.shared.sends_to(address) => RecipientStatus::Remote,
            RecipientStatus::Foreign => RecipientStatus::Refused(crate::intake::NO_BRIDGE.to_owned()),
            status => status,
        })
    }

    async fn conversations(&self) -> Result<Vec<ConversationInfo>, Error> {
        self.alive()?;
        self.list_conversations().await
    }

    async fn conversation(&self, conversation: &Conversation, create: bool) -> Result<ConversationInfo, Error> {
        self.alive()?;
        self.one_conversation(conversation, create).await
    }

    async fn history(&self, mailbox: MailboxId, wanted: History, limit: usize) -> Result<Vec<Arc<ChatLine>>, Error> {
        self.alive()?;
        self.read_lines(mailbox, wanted, limit).await
    }

    async fn mark_read(&self, mailbox: MailboxId, up_to: Uid) -> Result<(), Error> {
        self.alive()?;
        self.mark_lines(mailbox, up_to).await
    }

    async fn groups(&self) -> Result<Vec<Arc<Group>>, Error> {
        self.alive()?;
        Ok(self.list_groups())
    }

    async fn change_group(&self, group: &Address, change: GroupChange) -> Result<Arc<Group>, Error> {
        self.alive()?;
        self.change(group, change).await
    }

    async fn live(&self) -> Result<LiveFeed, Error> {
        self.alive()?;
        Ok(self.shared.access.live.listen(self.user.id, self.id))
    }

    async fn submit(&self, envelope: Envelope) -> Result<Accepted, Error> {
        self.alive()?;
        self.send(envelope).await
    }
}

impl AccessSession {
    /// Lines of a group are sealed for the group: a copy elsewhere is sealed for this user.
    async fn copy_from_group(
        &self,
        from: MailboxId,
        uids: &[Uid],
        to: MailboxId,
        remove: bool,
    ) -> Result<Copied, Error> {
        let uids: BTreeSet<Uid> = uids.iter().copied().collect();
        let snapshot = self.snapshot(from, false).await?;
        let (mut old, mut messages) = (Vec::new(), Vec::new());
        let mut rest: Vec<&Entry> = snapshot.entries.iter().filter(|entry| uids.contains(&entry.uid)).collect();
        while !rest.is_empty() {
            let wanted: Vec<Uid> = rest.iter().map(|entry| entry.uid).collect();
            let opened = self.opener().bodies(from, &wanted, BODY_BYTES).await?;
            if opened.iter().any(|body| !body.readable) {
                let text = "some of these lines can't be opened: their keyset is offline";
                return Err(Error::new(ErrorKind::Unreadable, text));
            }
            let Some(last) = opened.last().map(|body| body.uid) else { break };
            for body in opened {
                let Some(entry) = rest.iter().find(|entry| entry.uid == body.uid) else { continue };
                old.push(body.uid);
                let flags = entry.flags.iter().cloned().collect();
                messages.push(Append { flags, internal_date: Some(entry.day), content: body.content });
            }
            rest.retain(|entry| entry.uid > last);
        }
        if messages.is_empty() {
            let uid_validity = self.status(to).await?.uid_validity;
            return Ok(Copied { uid_validity, uids: Vec::new() });
        }
        let appended = self.append(to, messages).await?;
        if remove {
            self.store_flags(from, &old, &FlagChange::Add(vec![Flag::Deleted]), None).await?;
            self.expunge(from, Some(&old)).await?;
        }
        let uids = old.into_iter().zip(appended.uids).collect();
        Ok(Copied { uid_validity: appended.uid_validity, uids })
    }

    /// Decides what could not be told without opening: by the summaries, then by the bodies of what is left.
    async fn look_closer(
        &self,
        mailbox: MailboxId,
        search: &Arc<Search>,
        entries: &[Entry],
        found: &mut Vec<(Uid, ModSeq)>,
        unsearchable: &mut u32,
    ) -> Result<(), Error> {
        let opener = self.opener();
        let uids: Vec<Uid> = entries.iter().map(|entry| entry.uid).collect();
        let summaries = opener.summaries(mailbox, &uids).await?;
        let mut open: Vec<(Entry, Arc<Summary>)> = Vec::new();
        for (uid, opened) in summaries {
            let Ok(at) = entries.binary_search_by_key(&uid, |entry| entry.uid) else { continue };
            let entry = &entries[at];
            let facts = SummaryFacts::new(&opened.summary);
            let none = (!opened.readable).then(|| BodyFacts::unreadable(search));
            *unsearchable += u32::from(!opened.readable);
            match search.matches(&Facts { entry, summary: Some(&facts), body: none.as_ref() }) {
                Some(true) => found.push((uid, entry.modseq)),
                Some(false) => {}
                None => open.push((entry.clone(), opened.summary)),
            }
        }
        let mut rest = open.as_slice();
        while !rest.is_empty() {
            self.alive()?;
            let uids: Vec<Uid> = rest.iter().map(|(entry, _)| entry.uid).collect();
            let bodies = opener.bodies(mailbox, &uids, BODY_BYTES).await?;
            let Some(last) = bodies.last().map(|body| body.uid) else { break };
            let seen = rest.partition_point(|(entry, _)| entry.uid <= last);
            let (now, later) = rest.split_at(seen);
            let (now, search) = (now.to_vec(), Arc::clone(search));
            // Decoding is the processor's work: not on a thread that serves others.
            let work = tokio::task::spawn_blocking(move || look_into(&search, &now, &bodies));
            let (matching, unreadable) = work.await.map_err(|error| broken(&error))?;
            found.extend(matching);
            *unsearchable += unreadable;
            rest = later;
        }
        Ok(())
    }
}

fn look_into(
    search: &Search,
    entries: &[(Entry, Arc<Summary>)],
    bodies: &[super::open::OpenedBody],
) -> (Vec<(Uid, ModSeq)>, u32) {
    let mut found = Vec::new();
    let mut unreadable = 0;
    for body in bodies {
        let Ok(at) = entries.binary_search_by_key(&body.uid, |(entry, _)| entry.uid) else { continue };
        let (entry, summary) = &entries[at];
        let facts = if body.readable {
            search.look_into(&body.content, summary)
        } else {
            unreadable += 1;
            BodyFacts::unreadable(search)
        };
        let summary = SummaryFacts::new(summary);
        if search.matches(&Facts { entry, summary: Some(&summary), body: Some(&facts) }) == Some(true) {
            found.push((body.uid, entry.modseq));
        }
    }
    (found, unreadable)
}

/// Adds the names that only have mailboxes below them.
fn with_parents(user: mesyx_sdk::UserId, mut mailboxes: Vec<Mailbox>) -> Vec<Mailbox> {
    let real: BTreeSet<MailboxName> = mailboxes.iter().map(|mailbox| mailbox.name.clone()).collect();
    let mut parents = BTreeSet::new();
    for name in &real {
        let mut above = name.parent();
        while let Some(parent) = above {
            above = parent.parent();
            if !real.contains(&parent) {
                parents.insert(parent);
            }
        }
    }
    mailboxes.extend(parents.into_iter().map(|name| Mailbox {
        id: name_id(user, &name),
        name,
        role: None,
        selectable: false,
    }));
    mailboxes.sort_by(|a, b| a.name.cmp(&b.name));
    mailboxes
}

/// A name that is no mailbox has an id all the same, so that it is the same in each listing.
fn name_id(user: mesyx_sdk::UserId, name: &MailboxName) -> MailboxId {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(b"mesyx name without a mailbox 1\0");
    context.update(user.as_bytes());
    context.update(name.as_str().as_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&context.finish().as_ref()[..16]);
    MailboxId(id)
}

/// What is said in a group is said to all: no message is put there.
fn in_group() -> Error {
    let text = "this is the log of a group: write to its address to say something there";
    Error::new(ErrorKind::Forbidden, text)
}

fn unexpected() -> Error {
    Error::new(ErrorKind::Unavailable, "the store gave an answer of another kind; this is a defect of the server")
        .retry_after(Duration::from_secs(60))
}
