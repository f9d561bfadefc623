//! One user's session.

use super::chat::read_up_to;
use super::store::{Account, Folder, Message};
use super::{MemoryHost, search};
use crate::summary::MailAddressee;
use crate::{
    Accepted, Address, Append, Appended, Changes, ChatLine, Content, Conversation, ConversationInfo, Copied, Envelope,
    Error, ErrorKind, Flag, FlagChange, FlagsStored, Group, GroupChange, History, LiveFeed, MailAddress, Mailbox,
    MailboxId, MailboxName, MailboxStatus, ModSeq, Query, RecipientStatus, Role, SearchResult, Session, Snapshot,
    Style, Summary, Uid, User, UserId, Watcher, mime,
};
use async_trait::async_trait;
use std::sync::Arc;

pub(super) struct MemorySession {
    host: MemoryHost,
    user: User,
}

impl MemorySession {
    pub(super) const fn new(host: MemoryHost, user: User) -> Self {
        Self { host, user }
    }

    pub(super) const fn host(&self) -> &MemoryHost {
        &self.host
    }

    pub(super) const fn user_id(&self) -> UserId {
        self.user.id
    }

    fn account<T>(&self, act: impl FnOnce(&mut Account) -> Result<T, Error>) -> Result<T, Error> {
        act(self.host.state().store.account(self.user.id)?)
    }

    fn folder<T>(&self, id: MailboxId, act: impl FnOnce(&mut Folder) -> Result<T, Error>) -> Result<T, Error> {
        self.account(|account| act(account.folder(id)?))
    }

    /// Changes a mailbox, and tells the watchers if anything changed.
    fn change<T>(&self, id: MailboxId, act: impl FnOnce(&mut Folder) -> Result<T, Error>) -> Result<T, Error> {
        let mut state = self.host.state();
        let account = state.store.account(self.user.id)?;
        let talk = account.conversations.iter().any(|(known, _)| *known == id);
        let folder = account.folder(id)?;
        let (before, read) = (folder.modseq, talk.then(|| read_up_to(folder)));
        let result = act(folder);
        if folder.modseq != before {
            account.tell_mailbox(id);
            state.tell_if_read(self.user.id, id, read);
        }
        result
    }

    fn transfer(&self, from: MailboxId, uids: &[Uid], to: MailboxId, keep: bool) -> Result<Copied, Error> {
        let uids = in_order(uids);
        self.account(|account| {
            let uid_validity = account.folder(to)?.uid_validity;
            let source = account.folder(from)?;
            let messages: Vec<(Uid, Message)> = if keep {
                uids.iter().filter_map(|uid| Some((*uid, source.messages.get(uid)?.clone()))).collect()
            } else {
                source.remove(&uids)
            };
            let target = account.folder(to)?;
            let uids: Vec<_> = messages.into_iter().map(|(uid, message)| (uid, target.add(message))).collect();
            if !uids.is_empty() {
                account.tell_mailbox(to);
                if !keep && from != to {
                    account.tell_mailbox(from);
                }
            }
            Ok(Copied { uid_validity, uids })
        })
    }

    fn owns(&self, address: &MailAddress) -> bool {
        self.account(|account| Ok(account.owns(address))).unwrap_or(false)
    }

    /// Every address that the message says it is from must be the user's.
    fn check_sender(&self, envelope: &Envelope) -> Result<(), Error> {
        let foreign = |what: &str| Err(Error::new(ErrorKind::Forbidden, format!("{what} is not an address of yours")));
        if let Some(from) = &envelope.from
            && !from.as_mail().is_some_and(|from| self.owns(from))
        {
            return foreign("the envelope sender");
        }
        let mut authors = 0;
        for name in ["From", "Sender"] {
            let addressees = mime::addresses_in(&envelope.content, name);
            for addressee in addressees.map_err(|error| Error::new(ErrorKind::TooLarge, error.to_string()))? {
                let MailAddressee::Mailbox { local, domain, .. } = addressee else { continue };
                let address = address(&local, &domain);
                if !address.is_some_and(|address| self.owns(&address)) {
                    return foreign(&format!("an address in {name}"));
                }
                authors += usize::from(name == "From");
            }
        }
        if authors == 0 {
            return Err(Error::new(ErrorKind::Forbidden, "the message says nothing in From"));
        }
        Ok(())
    }
}

fn address(local: &[u8], domain: &[u8]) -> Option<MailAddress> {
    MailAddress::new(str::from_utf8(local).ok()?, str::from_utf8(domain).ok()?.parse().ok()?).ok()
}

fn in_order(uids: &[Uid]) -> Vec<Uid> {
    let mut uids = uids.to_vec();
    uids.sort_unstable();
    uids.dedup();
    uids
}

#[async_trait]
impl Session for MemorySession {
    fn user(&self) -> &User {
        &self.user
    }

    async fn mailboxes(&self) -> Result<Vec<Mailbox>, Error> {
        self.account(|account| Ok(account.mailboxes()))
    }

    async fn subscriptions(&self) -> Result<Vec<MailboxName>, Error> {
        self.account(|account| Ok(account.subscriptions.iter().cloned().collect()))
    }

    async fn subscribe(&self, name: &MailboxName, subscribed: bool) -> Result<(), Error> {
        self.account(|account| {
            if subscribed {
                account.subscriptions.insert(name.clone());
            } else {
                account.subscriptions.remove(name);
            }
            Ok(())
        })
    }

    async fn create_mailbox(&self, name: &MailboxName, role: Option<Role>) -> Result<MailboxId, Error> {
        self.account(|account| account.create(name, role))
    }

    async fn rename_mailbox(&self, name: &MailboxName, new: &MailboxName) -> Result<(), Error> {
        self.account(|account| account.rename(name, new))
    }

    async fn delete_mailbox(&self, name: &MailboxName) -> Result<(), Error> {
        self.account(|account| account.delete(name))
    }

    async fn status(&self, mailbox: MailboxId) -> Result<MailboxStatus, Error> {
        self.folder(mailbox, |folder| Ok(folder.status()))
    }

    async fn snapshot(&self, mailbox: MailboxId, claim_recent: bool) -> Result<Snapshot, Error> {
        self.folder(mailbox, |folder| {
            let recent_from = folder.recent_from;
            if claim_recent {
                folder.recent_from = folder.uid_next;
            }
            Ok(Snapshot {
                uid_validity: folder.uid_validity,
                uid_next: folder.uid_next,
                highest_modseq: folder.modseq,
                recent_from,
                entries: folder.messages.iter().map(|(uid, message)| message.entry(*uid)).collect(),
            })
        })
    }

    async fn changes(&self, mailbox: MailboxId, since: ModSeq) -> Result<Changes, Error> {
        self.account(|account| {
            if account.was_deleted(mailbox) {
                let (changed, vanished) = (Vec::new(), Vec::new());
                return Ok(Changes { highest_modseq: since, uid_next: 1, changed, vanished, deleted: true });
            }
            let folder = account.folder(mailbox)?;
            let changed = folder.messages.iter().filter(|(_, message)| message.modseq > since);
            Ok(Changes {
                highest_modseq: folder.modseq,
                uid_next: folder.uid_next,
                changed: changed.map(|(uid, message)| message.entry(*uid)).collect(),
                vanished: folder.vanished_since(since),
                deleted: false,
            })
        })
    }

    async fn summaries(&self, mailbox: MailboxId, uids: &[Uid]) -> Result<Vec<(Uid, Arc<Summary>)>, Error> {
        self.folder(mailbox, |folder| {
            let summary = |uid: &Uid| Some((*uid, Arc::clone(&folder.messages.get(uid)?.summary)));
            Ok(uids.iter().filter_map(summary).collect())
        })
    }

    async fn bodies(&self, mailbox: MailboxId, uids: &[Uid]) -> Result<Vec<(Uid, Content)>, Error> {
        self.folder(mailbox, |folder| {
            let body = |uid: &Uid| Some((*uid, folder.messages.get(uid)?.content.clone()));
            Ok(uids.iter().filter_map(body).collect())
        })
    }

    async fn store_flags(
        &self,
        mailbox: MailboxId,
        uids: &[Uid],
        change: &FlagChange,
        unchanged_since: Option<ModSeq>,
    ) -> Result<FlagsStored, Error> {
        self.change(mailbox, |folder| {
            let mut stored = FlagsStored::default();
            let mut changes = Vec::new();
            for uid in in_order(uids) {
                let Some(message) = folder.messages.get(&uid) else { continue };
                if unchanged_since.is_some_and(|since| message.modseq > since) {
                    stored.modified.push(uid);
                } else {
                    changes.push((uid, message.changed(change)?));
                }
            }
            let changed = |folder: &Folder, (uid, flags): &(Uid, _)| folder.messages[uid].flags != *flags;
            let modseq = if changes.iter().any(|change| changed(folder, change)) { folder.next_modseq() } else { 0 };
            for (uid, flags) in changes {
                let Some(message) = folder.messages.get_mut(&uid) else { continue };
                if message.flags != flags {
                    message.flags = flags;
                    message.modseq = modseq;
                }
                stored.entries.push(message.entry(uid));
            }
            Ok(stored)
        })
    }

    async fn append(&self, mailbox: MailboxId, messages: Vec<Append>) -> Result<Appended, Error> {
        let messages = messages.iter().map(Message::appended).collect::<Result<Vec<_>, _>>()?;
        self.change(mailbox, |folder| {
            let uid_validity = folder.uid_validity;
            Ok(Appended { uid_validity, uids: messages.into_iter().map(|message| folder.add(message)).collect() })
        })
    }

    async fn copy(&self, from: MailboxId, uids: &[Uid], to: MailboxId) -> Result<Copied, Error> {
        self.transfer(from, uids, to, true)
    }

    async fn move_messages(&self, from: MailboxId, uids: &[Uid], to: MailboxId) -> Result<Copied, Error> {
        self.transfer(from, uids, to, false)
    }

    async fn expunge(&self, mailbox: MailboxId, uids: Option<&[Uid]>) -> Result<Vec<Uid>, Error> {
        self.change(mailbox, |folder| {
            let among = |uid: &Uid| uids.is_none_or(|uids| uids.contains(uid));
            let deleted = folder.messages.iter().filter(|(_, message)| message.flags.contains(&Flag::Deleted));
            let gone: Vec<Uid> = deleted.map(|(uid, _)| *uid).filter(among).collect();
            folder.remove(&gone);
            Ok(gone)
        })
    }

    async fn search(&self, mailbox: MailboxId, query: &Query) -> Result<SearchResult, Error> {
        search::check(query)?;
        let messages: Vec<(Uid, Message)> = self.folder(mailbox, |folder| {
            Ok(folder.messages.iter().map(|(uid, message)| (*uid, message.clone())).collect())
        })?;
        let mut result = SearchResult::default();
        for (uid, message) in messages {
            if search::matches(query, uid, &message) {
                result.uids.push(uid);
                result.highest_modseq = result.highest_modseq.max(message.modseq);
            }
        }
        Ok(result)
    }

    async fn watch(&self) -> Result<Watcher, Error> {
        self.account(|account| Ok(account.watch()))
    }

    async fn may_send_as(&self, address: &MailAddress) -> Result<bool, Error> {
        Ok(self.owns(address))
    }

    async fn recipient(&self, address: &Address) -> Result<RecipientStatus, Error> {
        Ok(self.host.status_of(address))
    }

    async fn submit(&self, envelope: Envelope) -> Result<Accepted, Error> {
        if envelope.style == Style::Instant && envelope.conversation.is_some() {
            self.host.0.brought.send_modify(|brought| *brought += 1);
            self.host.gate().await?;
            let mut state = self.host.state();
            let accepted = state.submit_line(&self.user, &envelope, self.host.domain_now())?;
            state.submitted.push(envelope);
            return Ok(accepted);
        }
        self.check_sender(&envelope)?;
        for recipient in &envelope.to {
            if self.host.status_of(&recipient.address) == RecipientStatus::Foreign {
                let what = format!("{} is at another host, and nothing is sent there", recipient.address);
                return Err(Error::new(ErrorKind::Forbidden, what));
            }
        }
        self.host.0.brought.send_modify(|brought| *brought += 1);
        self.host.gate().await?;
        let mut state = self.host.state();
        let accepted = self.host.store(&mut state, &envelope)?;
        if !accepted.duplicate {
            state.submitted.push(envelope);
        }
        Ok(accepted)
    }

    async fn conversations(&self) -> Result<Vec<ConversationInfo>, Error> {
        self.account(|account| Ok(account.infos()))
    }

    async fn conversation(&self, conversation: &Conversation, create: bool) -> Result<ConversationInfo, Error> {
        self.conversation_now(conversation, create)
    }

    async fn history(&self, mailbox: MailboxId, wanted: History, limit: usize) -> Result<Vec<Arc<ChatLine>>, Error> {
        self.account(|account| account.history(mailbox, wanted, limit, self.host.domain_now()))
    }

    async fn mark_read(&self, mailbox: MailboxId, up_to: Uid) -> Result<(), Error> {
        self.mark_read_now(mailbox, up_to)
    }

    async fn live(&self) -> Result<LiveFeed, Error> {
        Ok(self.host.state().live(Some(self.user.id)))
    }

    async fn groups(&self) -> Result<Vec<Arc<Group>>, Error> {
        Ok(self.host.state().groups_for(Some(self.user.id)))
    }

    async fn change_group(&self, group: &Address, change: GroupChange) -> Result<Arc<Group>, Error> {
        self.host.state().change_group(&self.user, group, change, self.host.domain_now())
    }
}
