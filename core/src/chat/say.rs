//! Lines of users, of networks outside, and of mail programs: to the mailboxes of conversations.

use super::lines::Spoken;
use super::mail;
use super::target::{Target, address_of, clear_name, spelled};
use crate::access::OpenUser;
use crate::core::Shared;
use crate::errors::stored;
use crate::id::{KeysetId, RecordId};
use crate::pgp::Outgoing;
use crate::seal::{RecordContext, SealFor, seal_record};
use crate::store::{NewConversation, NewRecord, Placing, RecordKind, Speaking, StoreError, Then, Write, Written};
use mesyx_sdk::{
    Accepted, Address, ChatEvent, Conversation, Envelope, Error, ErrorKind, Flag, Importance, Line, MailboxId, Origin,
    RecipientStatus, Sender, Timestamp, UserId, Verb, mime,
};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Times that a conversation's mailbox is looked for anew, where the user deleted it a moment ago.
const ATTEMPTS: usize = 8;
/// Most conversations whose place is remembered; then all are forgotten, and looked up again.
const REMEMBERED: usize = 100_000;

/// What is remembered of conversations: it saves a look into the store for each line.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// By the id that a conversation has first: which time it was made, where it is there.
    known: Mutex<HashMap<MailboxId, u32>>,
    /// Who writes to a conversation holds its lane, by the id that it has first, until the line has its place among all writes. It is asked for
    /// before anything else is waited for, so that lines are stored in the order in which they were begun.
    lanes: Mutex<HashMap<MailboxId, Arc<tokio::sync::Mutex<Timestamp>>>>,
}

impl Places {
    fn get(&self, first: MailboxId) -> Option<u32> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&first).copied()
    }

    fn put(&self, first: MailboxId, generation: Option<u32>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        match generation {
            Some(generation) => drop(known.insert(first, generation)),
            None => drop(known.remove(&first)),
        }
    }

    fn lane(&self, mailbox: MailboxId) -> Arc<tokio::sync::Mutex<Timestamp>> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if lanes.len() >= REMEMBERED {
            lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
        }
        Arc::clone(lanes.entry(mailbox).or_insert_with(|| Arc::new(tokio::sync::Mutex::new(Timestamp(0)))))
    }
}

/// One reader's copy of a line.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    pub(super) user: UserId,
    pub(super) conversation: Conversation,
    /// The reader said it.
    pub(super) own: bool,
}

/// What a line brings with it.
#[derive(Debug, Clone)]
pub(super) struct About {
    pub(super) importance: Importance,
    pub(super) origin: Origin,
    pub(super) dedup: Option<[u8; 32]>,
}

impl Shared {
    /// A line that a logged-in user submits; `None` where the recipients are none of the chat world.
    pub(crate) async fn submit_line(
        self: &Arc<Self>,
        open: &Arc<OpenUser>,
        bridge: &str,
        envelope: &Envelope,
    ) -> Result<Option<Accepted>, Error> {
        let invalid = |why: &str| Err(Error::new(ErrorKind::Invalid, why));
        let targets: Vec<_> = envelope.to.iter().map(|to| self.chat_target(&to.address)).collect();
        if targets.iter().all(Option::is_none) {
            return Ok(None);
        }
        let [Some(target)] = &targets[..] else {
            return invalid(
                "what is written to a conversation goes to that one alone: send others a mail of their own",
            );
        };
        let me = &open.member;
        let sender = Sender::User(me.id);
        match self.chat_recipient(target, &sender) {
            RecipientStatus::Local | RecipientStatus::Remote => {}
            RecipientStatus::Refused(why) => return Err(Error::new(ErrorKind::Forbidden, why)),
            _ => return Err(Error::new(ErrorKind::NotFound, "there is nobody of that name here, and no such group")),
        }
        let domain = self.primary()?;
        let (line, answers) = match Line::from_content(&envelope.content, &domain) {
            Some((_, line)) => (line, None),
            None => {
                let said = mail::read(&envelope.content)?;
                (said.line, said.answers)
            }
        };
        check(&line)?;
        if !matches!(line.verb, Verb::Say | Verb::Notice | Verb::Action) {
            return invalid("topics, members and modes are not changed by saying so");
        }
        let from = self.chat_address(me)?;
        let mut origin = envelope.origin.clone();
        origin.authenticated = Some(me.id);
        origin.bridge = bridge.to_owned();
        let users = BTreeSet::from([me.id]);
        let dedup = envelope.dedup.as_deref().map(|name| self.dedup(bridge, name, &users));
        let about = About { importance: Importance::Normal, origin, dedup };
        let mut spoken = Spoken {
            id: envelope.id,
            from: from.clone(),
            nick: me.name.clone(),
            to: from.clone(),
            group: false,
            line,
            protection: envelope.origin.protection.clone(),
            answers,
        };
        let accepted = match target {
            Target::Group(name) => {
                let group = self.chat.groups.by_name(name);
                let group =
                    group.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no group {name}")))?;
                spoken.to = group.now().address.clone();
                spoken.group = true;
                self.say_in_group(&group, spoken, Some(me.id), true, about).await?
            }
            Target::User(other) => {
                spoken.to = self.chat_address(other)?;
                let mut readers =
                    vec![Reader { user: me.id, conversation: Conversation::Direct(spoken.to.clone()), own: true }];
                if other.id != me.id {
                    readers.push(Reader { user: other.id, conversation: Conversation::Direct(from), own: false });
                }
                self.say(spoken, readers, None, about).await?
            }
            Target::Outside(address) => {
                spoken.to = address.clone();
                spoken.group = is_channel(address);
                let conversation = if spoken.group {
                    Conversation::Group(address.clone())
                } else {
                    Conversation::Direct(address.clone())
                };
                let readers = vec![Reader { user: me.id, conversation, own: true }];
                self.say(spoken, readers, Some(me.id), about).await?
            }
            Target::Nobody => return Err(Error::new(ErrorKind::NotFound, "there is nobody of that name here")),
        };
        Ok(Some(accepted))
    }

    /// A line that a bridge brings: from a network outside to one user, or from a guest to a group.
    pub(crate) async fn accept_line(self: &Arc<Self>, bridge: &str, envelope: &Envelope) -> Result<Accepted, Error> {
        let invalid = |why: &str| Error::new(ErrorKind::Invalid, why);
        let [to] = &envelope.to[..] else { return Err(invalid("a line has one recipient")) };
        let from = envelope.from.clone().ok_or_else(|| invalid("a line has somebody who says it"))?;
        let conversation = envelope.conversation.clone().ok_or_else(|| invalid("a line belongs to a conversation"))?;
        if !matches!(self.chat_target(&from), Some(Target::Outside(_) | Target::Nobody)) {
            let text = format!("{from} is not somebody of a network outside; a bridge can't speak for people here");
            return Err(Error::new(ErrorKind::Forbidden, text));
        }
        let domain = self.primary()?;
        let (line, nick) = match Line::from_content(&envelope.content, &domain) {
            Some((headers, line)) => (line, headers.nick),
            None => (mail::read(&envelope.content)?.line, from.to_string()),
        };
        check(&line)?;
        let mut origin = envelope.origin.clone();
        origin.authenticated = None;
        bridge.clone_into(&mut origin.bridge);
        let mut spoken = Spoken {
            id: envelope.id,
            to: from.clone(),
            from,
            nick,
            group: matches!(conversation, Conversation::Group(_)),
            line,
            protection: envelope.origin.protection.clone(),
            answers: None,
        };
        let mut about = About { importance: envelope.importance, origin, dedup: None };
        let with =
            address_of(&conversation).cloned().ok_or_else(|| invalid("this sort of conversation is not known"))?;
        if let Some(Target::Group(name)) = self.chat_target(&with) {
            let group = self.chat.groups.by_name(&name).filter(|group| group.now().is_alive());
            let group = group.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no group {name}")))?;
            spoken.to = group.now().address.clone();
            let names = BTreeSet::from([group.id]);
            about.dedup = envelope.dedup.as_deref().map(|name| self.dedup(bridge, name, &names));
            return self.say_in_group(&group, spoken, None, true, about).await;
        }
        if !matches!(self.chat_target(&with), Some(Target::Outside(_))) {
            return Err(invalid("the conversation is on no network outside"));
        }
        let user = self.reader(&to.address)?;
        if spoken.group {
            spoken.to = with;
        } else {
            let directory = self.directory();
            let member =
                directory.addresses.member(user).ok_or_else(|| Error::new(ErrorKind::NotFound, "no such user"))?;
            spoken.to = self.chat_address(member)?;
        }
        about.dedup = envelope.dedup.as_deref().map(|name| self.dedup(bridge, name, &BTreeSet::from([user])));
        self.say(spoken, vec![Reader { user, conversation, own: false }], None, about).await
    }

    /// The one user whom an address is for.
    fn reader(&self, address: &Address) -> Result<UserId, Error> {
        if let Some(Target::User(member)) = self.chat_target(address) {
            return Ok(member.id);
        }
        let (status, users) = self.directory().addresses.resolve(address, &Sender::Stranger);
        match (status, &users[..]) {
            (RecipientStatus::Local, [user]) => Ok(*user),
            _ => Err(Error::new(ErrorKind::NotFound, format!("{address} is not one user of this server"))),
        }
    }

    /// Seals a line for its readers and stores it; durable when it resolves, and their feeds were told.
    /// `leaves`: it goes on to the network of the address that it is for, and this user submits it.
    pub(super) async fn say(
        self: &Arc<Self>,
        spoken: Spoken,
        readers: Vec<Reader>,
        leaves: Option<UserId>,
        about: About,
    ) -> Result<Accepted, Error> {
        let first = readers.iter().map(|reader| self.conversation_mailbox(reader.user, &reader.conversation, 0)).min();
        let lane = self.chat.places.lane(first.unwrap_or(MailboxId([0; 16])));
        let mut held = Some(lane.lock().await);
        let users: BTreeSet<UserId> = readers.iter().map(|reader| reader.user).collect();
        self.check_quota(&users, spoken.line.text.len() + 1000).await?;
        for _ in 0..ATTEMPTS {
            let last = match held.take() {
                Some(last) => last,
                None => lane.lock().await,
            };
            match self.try_to_say(last, &spoken, &readers, leaves, &about).await {
                Ok(accepted) => return Ok(accepted),
                // A mailbox was deleted a moment ago: the next time it is another one.
                Err(StoreError::Exists(_) | StoreError::NotFound("mailbox")) => {
                    for reader in &readers {
                        self.chat.places.put(self.conversation_mailbox(reader.user, &reader.conversation, 0), None);
                    }
                }
                Err(StoreError::Invalid(why)) => return Err(Error::new(ErrorKind::Invalid, why)),
                Err(error) => return Err(stored(error)),
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "the conversation is being deleted; try again later"))
    }

    /// Holds the lane until the line has its place among all writes.
    async fn try_to_say(
        self: &Arc<Self>,
        mut last: tokio::sync::MutexGuard<'_, Timestamp>,
        spoken: &Spoken,
        readers: &[Reader],
        leaves: Option<UserId>,
        about: &About,
    ) -> Result<Accepted, StoreError> {
        let unsealed = |_| StoreError::Backend("a line could not be sealed".to_owned());
        let mut make = Vec::new();
        let mut mailboxes = Vec::with_capacity(readers.len());
        for reader in readers {
            let (mailbox, new) = self.place_of(reader.user, &reader.conversation).await?;
            mailboxes.push(mailbox);
            make.extend(new);
        }
        let domain = self.primary().map_err(unsealed)?;
        let at = Timestamp::now().max(*last);
        let content = spoken.content(at, &domain).map_err(|_| StoreError::Invalid("the line's address is too long"))?;
        let summary = mime::summarize(&content, at, Some(about.origin.clone()))
            .map_err(|_| StoreError::Invalid("the line's headers are too long"))?;
        let mut copies = Vec::with_capacity(readers.len());
        for (reader, mailbox) in readers.iter().zip(&mailboxes) {
            let target = SealFor { user: reader.user, message: spoken.id, importance: about.importance };
            let keyring = self.directory().keyrings.get(&reader.user).cloned();
            let keyring = keyring.ok_or_else(|| StoreError::Backend("a user's keyring can't be used".to_owned()))?;
            let message = self.sealer.seal_chosen(&keyring, target, &summary, &content, Instant::now());
            let message = message.map_err(|error| StoreError::Backend(error.to_string()))?;
            self.quota.add(reader.user, message.padded_size);
            let flags = if reader.own { vec![Flag::Seen] } else { Vec::new() };
            copies.push(Placing { message, mailbox: *mailbox, flags });
        }
        let mut jobs = crate::queue::Offered::default();
        let outbound = match leaves {
            Some(user) => {
                let outgoing = Outgoing::plain(content.clone());
                let (message, new, offered) = self
                    .seal_line(user, (spoken.id, spoken.from.clone()), spoken.to.clone(), &outgoing)
                    .map_err(unsealed)?;
                jobs = offered;
                Some((message, new, self.settings().queue.jobs_per_user))
            }
            None => None,
        };
        let (live, shared) = (Arc::clone(&self.access.live), Arc::clone(self));
        let told: Vec<_> =
            readers.iter().zip(&mailboxes).map(|(reader, mailbox)| (reader.user, *mailbox, reader.own)).collect();
        let said = spoken.clone();
        let then = Then(Box::new(move |uids| {
            for ((user, mailbox, own), uid) in told.into_iter().zip(uids) {
                if live.listens(user) {
                    live.tell(user, &ChatEvent::Line(Arc::new(said.chat_line(mailbox, *uid, at, own))));
                }
            }
            // In the order of the commits: the queue brings what is said on a network in the order in which it hears of it.
            shared.queue.offered(jobs);
        }));
        let made: Vec<_> = make.iter().map(|new| new.record.user).collect();
        let write =
            Speaking { make, copies, dedup: about.dedup, outbound, author: None, change: None, then: Some(then) };
        let answer = self.store.enqueue(Write::Speak(Box::new(write))).await?;
        *last = at;
        drop(last);
        let written = answer.await.map_err(|_| StoreError::Closed)??;
        made.into_iter().for_each(|user| self.records_changed(user));
        let duplicate = matches!(written, Written::Spoken { duplicate: true });
        if !duplicate {
            metrics::counter!("mesyx_lines_total").increment(1);
            let between = (&spoken.from, &spoken.to);
            self.trace.line(&self.instance, spoken.id, between, "a line of a conversation");
        }
        Ok(Accepted { id: spoken.id, duplicate })
    }

    /// The mailbox of a conversation; with what makes it, where it is not there yet.
    pub(super) async fn place_of(
        &self,
        user: UserId,
        conversation: &Conversation,
    ) -> Result<(MailboxId, Option<NewConversation>), StoreError> {
        let first = self.conversation_mailbox(user, conversation, 0);
        if let Some(generation) = self.chat.places.get(first) {
            return Ok((self.conversation_mailbox(user, conversation, generation), None));
        }
        let mut generation = 0;
        let mailbox = loop {
            let mailbox = self.conversation_mailbox(user, conversation, generation);
            match self.store.status(user, mailbox).await {
                Ok(_) => {
                    self.chat.places.put(first, Some(generation));
                    return Ok((mailbox, None));
                }
                Err(StoreError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
            if !self.store.keyset_removed(KeysetId(mailbox.0)).await? {
                break mailbox;
            }
            generation += 1;
        };
        let directory = self.directory();
        let keyring = directory.keyrings.get(&user).ok_or(StoreError::NotFound("user"))?;
        let (record, kind, day) = (RecordId(mailbox.0), RecordKind::CONVERSATION, Timestamp::now().day());
        let context = RecordContext { user, record, kind, day };
        let sealed = seal_record(keyring.identity(), &context, spelled(conversation).as_bytes(), &*self.instance)
            .map_err(|error| StoreError::Backend(error.to_string()))?;
        let record = NewRecord { user, record, kind, day, sealed, most: None, only_new: true };
        let name = clear_name(mailbox).ok_or(StoreError::Invalid("the conversation has no name"))?;
        Ok((mailbox, Some(NewConversation { mailbox, name, record })))
    }

    /// Makes a conversation's mailbox, where it is not there.
    pub(crate) async fn make_conversation(
        &self,
        user: UserId,
        conversation: &Conversation,
    ) -> Result<MailboxId, Error> {
        for _ in 0..ATTEMPTS {
            let (mailbox, new) = self.place_of(user, conversation).await.map_err(stored)?;
            let Some(new) = new else { return Ok(mailbox) };
            let write = Speaking {
                make: vec![new],
                copies: Vec::new(),
                dedup: None,
                outbound: None,
                author: None,
                change: None,
                then: None,
            };
            match self.store.write(Write::Speak(Box::new(write))).await {
                Ok(_) => {
                    self.records_changed(user);
                    return Ok(mailbox);
                }
                Err(StoreError::Exists(_)) => {}
                Err(error) => return Err(stored(error)),
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "the conversation is being deleted; try again later"))
    }

    /// A user deleted a mailbox: what is remembered may be wrong now.
    pub(crate) fn forget_places(&self) {
        self.chat.places.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Whether an address outside is a channel, which answers go to.
fn is_channel(address: &Address) -> bool {
    match address {
        Address::Irc(irc) => irc.is_channel(),
        Address::Other(other) => other.name().starts_with('#'),
        _ => false,
    }
}

/// # Errors
/// What is wrong with a line.
pub(super) fn check(line: &Line) -> Result<(), Error> {
    if line.text.len() > Line::MAX_TEXT {
        return Err(Error::new(ErrorKind::TooLarge, "a line has at most 64 KiB"));
    }
    if line.args.len() > 10 || line.args.iter().any(|arg| arg.len() > 1024 || arg.contains(['\r', '\n', '\0'])) {
        return Err(Error::new(ErrorKind::Invalid, "a line has at most 10 arguments, none with a line end"));
    }
    if matches!(line.verb, Verb::Say | Verb::Notice | Verb::Action) && line.text.trim_matches(['\n', '\r']).is_empty() {
        return Err(Error::new(ErrorKind::Invalid, "the line says nothing"));
    }
    Ok(())
}
