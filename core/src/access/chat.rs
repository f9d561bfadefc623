//! Conversations of a logged-in user: which there are, what they are called, what was said in them.

use super::opened::OpenUser;
use super::session::AccessSession;
use crate::chat;
use crate::core::Shared;
use crate::errors::stored;
use crate::id::RecordId;
use crate::store::{LineRange, RecordKind, StoredPart, Write};
use mesyx_sdk::{
    Address, ChatLine, Conversation, ConversationInfo, Error, ErrorKind, Group, GroupChange, History, Mailbox,
    MailboxId, MailboxName, Uid,
};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the mailboxes of a user's conversations are about, opened. Goes when the keys are closed.
#[derive(Debug)]
pub(crate) struct OpenConversations {
    known: tokio::sync::Mutex<Arc<HashMap<MailboxId, Conversation>>>,
    stale: AtomicBool,
}

impl Default for OpenConversations {
    fn default() -> Self {
        Self { known: tokio::sync::Mutex::default(), stale: AtomicBool::new(true) }
    }
}

impl OpenConversations {
    /// Something was written that may concern it.
    pub(crate) fn touch(&self) {
        self.stale.store(true, Ordering::Release);
    }
}

impl Shared {
    /// Which conversation each mailbox of a user is, groups left out.
    async fn conversations(&self, open: &OpenUser) -> Result<Arc<HashMap<MailboxId, Conversation>>, Error> {
        let cache = &open.conversations;
        let mut known = cache.known.lock().await;
        if cache.stale.swap(false, Ordering::AcqRel) {
            let user = open.member.id;
            let stored = self.store.records(user, RecordKind::CONVERSATION).await.map_err(stored);
            let stored = stored.inspect_err(|_| cache.touch())?;
            let mut fresh = HashMap::with_capacity(stored.len());
            for record in stored {
                let mailbox = MailboxId(record.record.0);
                // A record says one thing for ever, so that each is opened once.
                let conversation = match known.get(&mailbox) {
                    Some(conversation) => Some(conversation.clone()),
                    None => self
                        .open_record(&open.keys, &record)
                        .and_then(|opened| chat::unspelled(std::str::from_utf8(&opened.payload).ok()?)),
                };
                fresh.extend(conversation.map(|conversation| (mailbox, conversation)));
            }
            *known = Arc::new(fresh);
        }
        Ok(Arc::clone(&known))
    }
}

impl AccessSession {
    /// What the store lists, with the names of conversations as they are shown; each with its name in the store.
    pub(super) async fn named_mailboxes(&self) -> Result<Vec<(Mailbox, MailboxName)>, Error> {
        let real = self.shared.store.mailboxes(self.keys.member.id).await.map_err(stored)?;
        let conversations = self.shared.conversations(&self.keys).await?;
        let mut taken: HashSet<String> = real.iter().map(|mailbox| mailbox.name.as_str().to_owned()).collect();
        let mut named = Vec::with_capacity(real.len());
        for mut mailbox in real {
            let clear = mailbox.name.clone();
            let marker = format!("~{}", mailbox.id);
            if let Some(above) = clear.as_str().strip_suffix(&marker) {
                let about = match conversations.get(&mailbox.id) {
                    Some(conversation) => Some(chat::shown_name(conversation)),
                    None => self.shared.chat.groups.by_mailbox(mailbox.id).map(|group| group.now().name().to_owned()),
                };
                let about = about.map(|about| about.replace("//", "/_"));
                let free = |name: String| (!taken.contains(&name)).then(|| MailboxName::new(&name).ok()).flatten();
                let digits = mailbox.id.to_string();
                let shown = about.and_then(|about| {
                    let plain = format!("{above}{about}");
                    free(plain.clone()).or_else(|| free(format!("{plain} ~{}", &digits[..8])))
                });
                if let Some(shown) = shown {
                    taken.insert(shown.as_str().to_owned());
                    mailbox.name = shown;
                }
            }
            named.push((mailbox, clear));
        }
        Ok(named)
    }

    /// The name that the store has for a name as it is shown.
    pub(super) async fn name_in_store(&self, shown: &MailboxName) -> Result<MailboxName, Error> {
        let named = self.named_mailboxes().await?;
        Ok(named
            .into_iter()
            .find(|(mailbox, _)| mailbox.name == *shown)
            .map_or_else(|| shown.clone(), |(_, clear)| clear))
    }

    /// Whether a mailbox is the view of a group, which is not the user's alone to change.
    pub(super) fn is_group(&self, mailbox: MailboxId) -> bool {
        self.shared.chat.groups.by_mailbox(mailbox).is_some()
    }

    /// Deletes a mailbox by its name as shown.
    pub(super) async fn delete_named(&self, shown: &MailboxName) -> Result<(), Error> {
        let user = self.keys.member.id;
        let found = self.named_mailboxes().await?.into_iter().find(|(mailbox, _)| mailbox.name == *shown);
        let Some((mailbox, name)) = found else {
            return Err(Error::new(ErrorKind::NotFound, "mailbox not found"));
        };
        if let Some(group) = self.shared.chat.groups.by_mailbox(mailbox.id) {
            return self.shared.forget_group(user, &group).await;
        }
        self.shared.store.write(Write::DeleteMailbox { user, name }).await.map_err(stored)?;
        self.shared.forget_places();
        let record = RecordId(mailbox.id.0);
        self.shared.remove_records(user, vec![record]).await
    }

    pub(super) async fn list_conversations(&self) -> Result<Vec<ConversationInfo>, Error> {
        let user = self.keys.member.id;
        // Who was told of a line asks here where it belongs, perhaps before the store's event of a new conversation has been seen.
        self.keys.conversations.touch();
        let known = self.shared.conversations(&self.keys).await?;
        let mailboxes = self.shared.store.mailboxes(user).await.map_err(stored)?;
        let mut found = Vec::new();
        for mailbox in mailboxes {
            let conversation = match known.get(&mailbox.id) {
                Some(conversation) => conversation.clone(),
                None => match self.shared.chat.groups.by_mailbox(mailbox.id).map(|group| group.now()) {
                    Some(now) if now.members.contains_key(&user) => Conversation::Group(now.address.clone()),
                    _ => continue,
                },
            };
            match self.info(mailbox.id, conversation).await {
                Ok(info) => found.push(info),
                // It went a moment ago.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    async fn info(&self, mailbox: MailboxId, conversation: Conversation) -> Result<ConversationInfo, Error> {
        let numbers = self.shared.store.line_numbers(self.keys.member.id, mailbox).await.map_err(stored)?;
        Ok(ConversationInfo { mailbox, conversation, last: numbers.last, read: numbers.read })
    }

    pub(super) async fn one_conversation(
        &self,
        conversation: &Conversation,
        create: bool,
    ) -> Result<ConversationInfo, Error> {
        let user = self.keys.member.id;
        let not_found = || Error::new(ErrorKind::NotFound, "there is no such conversation");
        let address = chat::address_of(conversation).ok_or_else(not_found)?;
        let conversation = match self.shared.chat_target(address) {
            Some(chat::Target::Group(_)) => {
                let group = self.shared.group_of(address, user)?;
                let now = group.now();
                if !now.members.contains_key(&user) {
                    return Err(not_found());
                }
                return self.info(group.mailbox, Conversation::Group(now.address.clone())).await;
            }
            Some(chat::Target::User(member)) => Conversation::Direct(self.shared.chat_address(&member)?),
            Some(chat::Target::Outside(address)) => match conversation {
                Conversation::Group(_) => Conversation::Group(address),
                _ => Conversation::Direct(address),
            },
            _ => return Err(not_found()),
        };
        if create {
            let mailbox = self.shared.make_conversation(user, &conversation).await?;
            return self.info(mailbox, conversation).await;
        }
        self.keys.conversations.touch();
        let known = self.shared.conversations(&self.keys).await?;
        let found = known.iter().find(|(_, known)| **known == conversation).map(|(mailbox, _)| *mailbox);
        self.info(found.ok_or_else(not_found)?, conversation).await
    }

    pub(super) async fn read_lines(
        &self,
        mailbox: MailboxId,
        wanted: History,
        limit: usize,
    ) -> Result<Vec<Arc<ChatLine>>, Error> {
        self.read_history(mailbox, wanted, limit).await
    }

    /// Bodies of a range as lines; `None` for what is no line, or can't be opened.
    pub(crate) async fn open_lines(
        &self,
        mailbox: MailboxId,
        range: LineRange,
    ) -> Result<Vec<(Uid, Option<Arc<ChatLine>>)>, Error> {
        let user = self.keys.member.id;
        let stored_lines = self.shared.store.lines(user, mailbox, range).await.map_err(stored)?;
        let seen: Vec<bool> = stored_lines.iter().map(|line| line.seen).collect();
        let parts: Vec<StoredPart> = stored_lines.into_iter().map(|line| line.part).collect();
        let domain = self.shared.primary()?;
        let me: Address = self.shared.chat_address(&self.keys.member)?;
        let opened = self.opener().contents(mailbox, parts).await?;
        let read = opened.into_iter().zip(seen).map(|((uid, content), seen)| {
            let line = content.and_then(|content| chat::read_line(&content, &domain, (mailbox, uid, seen), &me));
            (uid, line.map(Arc::new))
        });
        Ok(read.collect())
    }

    pub(super) async fn mark_lines(&self, mailbox: MailboxId, up_to: Uid) -> Result<(), Error> {
        let user = self.keys.member.id;
        self.shared.store.write(Write::MarkRead { user, mailbox, up_to }).await.map_err(stored).map(drop)
    }

    pub(super) fn list_groups(&self) -> Vec<Arc<Group>> {
        self.shared.groups_seen_by(Some(self.keys.member.id))
    }

    pub(super) async fn change(&self, group: &Address, change: GroupChange) -> Result<Arc<Group>, Error> {
        let (shared, me, group) = (Arc::clone(&self.shared), Arc::clone(&self.keys.member), group.clone());
        // Whole, also where whoever asked is gone before it is done.
        let changed = tokio::spawn(async move { shared.change_group(&me, &group, change).await }).await;
        changed.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Unavailable, "the change was broken off; look what came of it"))
        })
    }
}
