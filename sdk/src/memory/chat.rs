//! Conversations, groups, and what is transient.
//!
//! What holds here holds at every host (the core does the same by other means):
//! - A line is submitted by its speaker's own chat address ([`address_of`]), style [`crate::Style::Instant`], one recipient, and that
//!   recipient's [`Conversation`]; the content is [`Line::to_content`] under the envelope's id. Anything else is [`ErrorKind::Invalid`], and another speaker [`ErrorKind::Forbidden`].
//! - Names of groups are compared in lower case; [`Group::name`] keeps what its founder wrote.
//! - 1:1: both users store the line, each in a conversation with the other. To a group: every member stores it. To a network outside: the
//!   speaker does, and the line is the network's bridge to bring. Own lines are `\Seen` from the start.
//! - Feeds hear of a line once it is stored, the speaker's own feeds too, in one order for everybody. A submit that resolved has been told.
//! - [`GroupChange::Join`] founds a group with the modes `n` and `t`; a member who joins again changes nothing. Join, part, kick, topic, modes
//!   (lists and ranks too) are lines of the group's log of kind [`crate::Kind::Event`]. Feeds hear the line first, then [`ChatEvent::Group`]; who leaves hears both.
//! - An invitation is no line: the invited hears the signal `invite` from the inviter, with the group as conversation, and may join once.
//! - `Mode` lines have the mode letters with their sign as first argument (`+o`), then the parameters.
//! - What is refused names the mode in parentheses: `(+i)`, `(+k)`, `(+l)`, `(+m)`, `(+t)`.
//! - Masks in lists are kept, not judged: only who speaks a network's protocol knows what they stand for.
//! - The feed of [`crate::Host::guests`] hears the lines ([`ChatEvent::GroupLine`]), groups and group signals of all groups.
//!
//! Simpler than the core: each member of a group stores a copy; a mail to a chat address stays a mail.

use super::store::{Account, Folder, Message, not_found};
use super::{MemoryHost, State};
use crate::chat::address_of;
use crate::{
    Accepted, Address, Anchor, Answer, ChatEvent, ChatLine, Content, Conversation, ConversationInfo, Domain, Envelope,
    Error, ErrorKind, Flag, Flags, Group, GroupChange, GroupMember, History, Kind, Line, LineHeaders, LiveFeed,
    MailAddress, MailboxId, MailboxName, MessageId, MesyxAddress, Origin, Protection, Question, Rank, Secret, Signal,
    SignalTo, Style, Timestamp, Uid, User, UserId, Verb,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Most masks of one list, and most lines of one answer.
const MOST_MASKS: usize = 100;
const MOST_LINES: usize = 1000;

/// Answers what is asked of a bridge.
pub(super) type Answerer = Arc<dyn Fn(Question) -> Result<Answer, Error> + Send + Sync>;

#[derive(Default)]
pub(super) struct Chat {
    groups: BTreeMap<Address, Kept>,
    feeds: Vec<Feed>,
    pub(super) checkpoints: BTreeMap<String, Secret>,
    pub(super) answerers: HashMap<String, Answerer>,
    pub(super) signals: Vec<Signal>,
    /// The time of the last line, so that none is older than the one before.
    last: Timestamp,
}

struct Kept {
    group: Group,
    invited: BTreeSet<UserId>,
}

struct Feed {
    /// `None`: the guests'.
    user: Option<UserId>,
    sender: mpsc::Sender<ChatEvent>,
}

fn forbidden<T>(what: impl Into<String>) -> Result<T, Error> {
    Err(Error::new(ErrorKind::Forbidden, what))
}

fn invalid<T>(what: &str) -> Result<T, Error> {
    Err(Error::new(ErrorKind::Invalid, what))
}

/// A group's address in the one spelling in which groups are compared; `None` for what is no group of ours.
fn group_key(address: &Address, domain: &Domain) -> Option<Address> {
    let Address::Mesyx(mesyx) = address else { return None };
    let local = mesyx.user.local().to_lowercase();
    let ours = local.starts_with('#') && local.len() > 1 && mesyx.user.domain() == domain;
    ours.then(|| MailAddress::new(&local, domain.clone()).ok())?.map(|user| Address::Mesyx(MesyxAddress { user }))
}

/// Who said the line that an envelope carries.
fn speaker(envelope: &Envelope, domain: &Domain) -> Result<Address, Error> {
    match Line::from_content(&envelope.content, domain) {
        Some((headers, _)) if headers.id == envelope.id => Ok(headers.from),
        _ => invalid("the content is no line of this id"),
    }
}

/// A line as it stands in a folder.
fn chat_line(
    mailbox: MailboxId,
    uid: Uid,
    message: &Message,
    reader: Option<&Address>,
    domain: &Domain,
) -> Option<ChatLine> {
    let (headers, line) = Line::from_content(&message.content, domain)?;
    let protection = message.summary.origin.as_ref().map_or(Protection::None, |origin| origin.protection.clone());
    Some(ChatLine {
        mailbox,
        uid,
        id: message.id,
        at: message.summary.internal_date,
        own: reader == Some(&headers.from),
        from: headers.from,
        nick: headers.nick,
        seen: message.flags.contains(&Flag::Seen),
        line,
        protection,
    })
}

/// The number up to which all lines have been read.
pub(super) fn read_up_to(folder: &Folder) -> Uid {
    let unread = folder.messages.iter().find(|(_, message)| !message.flags.contains(&Flag::Seen));
    match unread {
        Some((uid, _)) => folder.messages.range(..uid).next_back().map_or(0, |(uid, _)| *uid),
        None => folder.messages.keys().next_back().copied().unwrap_or(0),
    }
}

impl State {
    fn tell_feeds(&mut self, to: impl Fn(Option<UserId>) -> Option<ChatEvent>) {
        self.chat.feeds.retain(|feed| {
            let Some(event) = to(feed.user) else { return !feed.sender.is_closed() };
            // In a full queue the last place holds `Lagged` already, which stands for this event too.
            let _ = match feed.sender.capacity() {
                0 => Ok(()),
                1 => feed.sender.try_send(ChatEvent::Lagged),
                _ => feed.sender.try_send(event),
            };
            !feed.sender.is_closed()
        });
    }

    pub(super) fn tell_read(&mut self, user: UserId, mailbox: MailboxId, up_to: Uid) {
        self.tell_feeds(|of| (of == Some(user)).then_some(ChatEvent::Read { mailbox, up_to }));
    }

    /// The same for whatever changed the flags.
    pub(super) fn tell_if_read(&mut self, user: UserId, mailbox: MailboxId, before: Option<Uid>) {
        let now = self.store.account(user).and_then(|account| account.folder(mailbox)).map(|folder| read_up_to(folder));
        if let (Some(before), Ok(now)) = (before, now)
            && now > before
        {
            self.tell_read(user, mailbox, now);
        }
    }

    pub(super) fn live(&mut self, user: Option<UserId>) -> LiveFeed {
        // One place more than may wait, for `Lagged`.
        let (sender, receiver) = mpsc::channel(LiveFeed::CAPACITY + 1);
        self.chat.feeds.push(Feed { user, sender });
        LiveFeed::new(receiver)
    }

    fn end_feeds(&mut self, user: UserId, why: &str) {
        self.tell_feeds(|of| (of == Some(user)).then(|| ChatEvent::Ended(why.to_owned())));
        self.chat.feeds.retain(|feed| feed.user != Some(user));
    }

    pub(super) fn end_chat(&mut self, name: &str, why: &str) -> Result<(), Error> {
        let user = self.store.account_named(name)?.user.id;
        self.end_feeds(user, why);
        Ok(())
    }

    pub(super) fn signal(&mut self, signal: Signal, domain: &Domain) {
        let audience: Vec<UserId> = match &signal.to {
            SignalTo::User(user) => vec![*user],
            SignalTo::Group(group) => {
                let kept = group_key(group, domain).and_then(|key| self.chat.groups.get(&key));
                kept.map_or_else(Vec::new, |kept| kept.group.members.iter().map(|member| member.user).collect())
            }
        };
        let guests = matches!(signal.to, SignalTo::Group(_));
        self.chat.signals.push(signal.clone());
        let signal = Arc::new(signal);
        self.tell_feeds(|of| {
            let hears = of.map_or(guests, |user| audience.contains(&user));
            hears.then(|| ChatEvent::Signal(Arc::clone(&signal)))
        });
    }

    /// Stores a line for one user, and tells the feeds.
    fn put(
        &mut self,
        user: UserId,
        conversation: &Conversation,
        message: &Message,
        domain: &Domain,
    ) -> Result<(), Error> {
        let account = self.store.account(user)?;
        let own = address_of(&account.user, domain)?;
        let mailbox = account.conversation(conversation, domain)?;
        let folder = account.folder(mailbox)?;
        let mut message = message.clone();
        let is_own = chat_line(mailbox, 0, &message, Some(&own), domain).is_some_and(|line| line.own);
        if is_own {
            message.flags = message.flags.iter().cloned().chain([Flag::Seen]).collect();
        }
        let uid = folder.add(message);
        let line = folder.messages.get(&uid).and_then(|message| chat_line(mailbox, uid, message, Some(&own), domain));
        account.tell_mailbox(mailbox);
        if let Some(line) = line.map(Arc::new) {
            self.tell_feeds(|of| (of == Some(user)).then(|| ChatEvent::Line(Arc::clone(&line))));
        }
        Ok(())
    }

    fn message(&mut self, envelope: &Envelope) -> Result<Message, Error> {
        let at = envelope.received.max(self.chat.last);
        self.chat.last = at;
        Message::new(envelope.id, Flags::default(), at, &envelope.content, Some(envelope.origin.clone()))
    }

    fn put_group(
        &mut self,
        key: &Address,
        audience: &[UserId],
        message: &Message,
        domain: &Domain,
    ) -> Result<(), Error> {
        let conversation = Conversation::Group(key.clone());
        for user in audience {
            self.put(*user, &conversation, message, domain)?;
        }
        if let Some(line) = chat_line(MailboxId([0; 16]), 0, message, None, domain).map(Arc::new) {
            self.tell_feeds(|of| {
                of.is_none().then(|| ChatEvent::GroupLine { group: key.clone(), line: Arc::clone(&line) })
            });
        }
        Ok(())
    }

    /// A line of a user's.
    pub(super) fn submit_line(&mut self, user: &User, envelope: &Envelope, domain: &Domain) -> Result<Accepted, Error> {
        let own = address_of(user, domain)?;
        if envelope.from.as_ref() != Some(&own) {
            return forbidden("a line is said by the chat address of who is logged in");
        }
        if speaker(envelope, domain)? != own {
            return forbidden("the line says that somebody else said it");
        }
        let [recipient] = envelope.to.as_slice() else { return invalid("a line has one recipient") };
        let message = self.message(envelope)?;
        match &envelope.conversation {
            Some(Conversation::Group(group)) if recipient.address == *group => match group_key(group, domain) {
                Some(key) => {
                    let kept = self.chat.groups.get(&key).ok_or_else(|| not_found("group"))?;
                    let rank = kept.rank_of(user.id);
                    let Some(rank) = rank else { return forbidden("you do not belong to the group (+n)") };
                    if kept.group.modes.contains_key(&'m') && rank < Rank::Voice {
                        return forbidden("the group is moderated (+m)");
                    }
                    let audience = kept.audience();
                    self.put_group(&key, &audience, &message, domain)?;
                }
                None => self.put(user.id, &Conversation::Group(group.clone()), &message, domain)?,
            },
            Some(Conversation::Direct(other)) if recipient.address == *other => match other {
                Address::Mesyx(mesyx) => {
                    let (peer, address) = self.user_at(mesyx, domain)?;
                    self.put(user.id, &Conversation::Direct(address), &message, domain)?;
                    if peer != user.id {
                        self.put(peer, &Conversation::Direct(own), &message, domain)?;
                    }
                }
                _ => self.put(user.id, &Conversation::Direct(other.clone()), &message, domain)?,
            },
            _ => return invalid("a line's recipient is its conversation"),
        }
        Ok(Accepted { id: envelope.id, duplicate: false })
    }

    /// The user whose chat address this is.
    fn user_at(&mut self, address: &MesyxAddress, domain: &Domain) -> Result<(UserId, Address), Error> {
        if address.user.domain() != domain {
            return Err(not_found("user"));
        }
        let user = self.store.account_named(address.user.local())?.user.clone();
        Ok((user.id, address_of(&user, domain)?))
    }

    /// A line that a bridge brings: for a user in a conversation, or of a guest to a group.
    pub(super) fn accept_line(&mut self, envelope: &Envelope, domain: &Domain) -> Result<(), Error> {
        speaker(envelope, domain)?;
        let [recipient] = envelope.to.as_slice() else { return invalid("a line has one recipient") };
        let Some(conversation) = &envelope.conversation else { return invalid("a line has a conversation") };
        let message = self.message(envelope)?;
        if let Some(key) = group_key(&recipient.address, domain) {
            let kept = self.chat.groups.get(&key).ok_or_else(|| not_found("group"))?;
            let audience = kept.audience();
            return self.put_group(&key, &audience, &message, domain);
        }
        let user = match &recipient.address {
            Address::Mail(mail) => self.store.owner(mail).ok_or_else(|| not_found("user"))?,
            Address::Mesyx(mesyx) => self.user_at(mesyx, domain)?.0,
            Address::Irc(_) | Address::Other(_) => return Err(not_found("user")),
        };
        self.put(user, conversation, &message, domain)
    }

    pub(super) fn groups_for(&self, user: Option<UserId>) -> Vec<Arc<Group>> {
        let seen = |kept: &Kept| {
            let belongs = user.is_some_and(|user| kept.rank_of(user).is_some());
            let secret = kept.group.modes.contains_key(&'s');
            (belongs || !secret || user.is_none()).then(|| Arc::new(kept.group.clone()))
        };
        self.chat.groups.values().filter_map(seen).collect()
    }

    /// A group's change by a user. See the head of this file.
    pub(super) fn change_group(
        &mut self,
        user: &User,
        group: &Address,
        change: GroupChange,
        domain: &Domain,
    ) -> Result<Arc<Group>, Error> {
        let Some(key) = group_key(group, domain) else { return invalid("that is no group of this exchange") };
        if let GroupChange::Join { key: password } = &change {
            return self.join(user, group, &key, password.as_deref(), domain);
        }
        let Self { store, chat, .. } = self;
        let kept = chat.groups.get_mut(&key).ok_or_else(|| not_found("group"))?;
        let Some(rank) = kept.rank_of(user.id) else { return forbidden("you do not belong to the group") };
        let before = kept.audience();
        let needs_operator = |what: &str| {
            if rank >= Rank::Operator { Ok(()) } else { forbidden(format!("only operators {what} (+o)")) }
        };
        let now = Timestamp::now();
        let mut event = Line { verb: Verb::Mode, args: Vec::new(), text: String::new() };
        match change {
            GroupChange::Join { .. } => {}
            GroupChange::Leave { reason } => {
                kept.group.members.retain(|member| member.user != user.id);
                event = Line { verb: Verb::Part, args: Vec::new(), text: reason };
            }
            GroupChange::Topic(topic) => {
                if kept.group.modes.contains_key(&'t') {
                    needs_operator("set the topic here (+t)")?;
                }
                kept.group.topic = (!topic.is_empty()).then(|| (topic.clone(), user.name.clone(), now));
                event = Line { verb: Verb::Topic, args: Vec::new(), text: topic };
            }
            GroupChange::Mode { set, mode, parameter } => {
                needs_operator("change modes")?;
                if !"iklmnst".contains(mode) {
                    return invalid("groups have the modes i, k, l, m, n, s, t");
                }
                let value = parameter.clone().unwrap_or_default();
                if set && ((mode == 'k' && value.is_empty()) || (mode == 'l' && value.parse::<u32>().is_err())) {
                    return invalid("the mode needs a parameter");
                }
                let same = match kept.group.modes.get(&mode) {
                    Some(old) => set && *old == value,
                    None => !set,
                };
                if same {
                    return Ok(Arc::new(kept.group.clone()));
                }
                if set {
                    kept.group.modes.insert(mode, value)
                } else {
                    kept.group.modes.remove(&mode)
                };
                event.args.push(format!("{}{mode}", if set { '+' } else { '-' }));
                event.args.extend(parameter.filter(|parameter| !parameter.is_empty()));
            }
            GroupChange::List { add, mode, mask } => {
                needs_operator("change lists")?;
                if !"beI".contains(mode) {
                    return invalid("groups have the lists b, e, I");
                }
                let list = kept.group.lists.entry(mode).or_default();
                let at = list.iter().position(|(known, ..)| known.eq_ignore_ascii_case(&mask));
                match (add, at) {
                    (true, None) if list.len() >= MOST_MASKS => {
                        return Err(Error::new(ErrorKind::OverQuota, "the list has as many masks as it may"));
                    }
                    (true, None) => list.push((mask.clone(), user.name.clone(), now)),
                    (false, Some(at)) => drop(list.remove(at)),
                    _ => return Ok(Arc::new(kept.group.clone())),
                }
                event.args = vec![format!("{}{mode}", if add { '+' } else { '-' }), mask];
            }
            GroupChange::Rank { member, rank: new } => {
                needs_operator("give ranks")?;
                let target = kept.member(&member)?;
                if (new == Rank::Founder || target.rank == Rank::Founder) && rank < Rank::Founder {
                    return forbidden("only the founder does that (+q)");
                }
                let old = std::mem::replace(&mut target.rank, new);
                if old == new {
                    return Ok(Arc::new(kept.group.clone()));
                }
                let letter = |rank| match rank {
                    Rank::Member => None,
                    Rank::Voice => Some('v'),
                    Rank::Operator => Some('o'),
                    Rank::Founder => Some('q'),
                };
                let mut modes = String::new();
                for (sign, rank) in [('-', old), ('+', new)] {
                    if let Some(letter) = letter(rank) {
                        modes.extend([sign, letter]);
                        event.args.push(member.clone());
                    }
                }
                event.args.insert(0, modes);
            }
            GroupChange::Invite { user: invited } => {
                if kept.group.modes.contains_key(&'i') {
                    needs_operator("invite here (+i)")?;
                }
                let invited = store.account_named(&invited)?.user.clone();
                if kept.rank_of(invited.id).is_some() {
                    return Err(Error::new(ErrorKind::Exists, "the user belongs to the group already"));
                }
                kept.invited.insert(invited.id);
                let group = Arc::new(kept.group.clone());
                let signal = Signal {
                    to: SignalTo::User(invited.id),
                    bridge: String::new(),
                    conversation: Some(Conversation::Group(key)),
                    from: Some(address_of(user, domain)?),
                    name: "invite".into(),
                    args: vec![group.name.clone()],
                };
                self.signal(signal, domain);
                return Ok(group);
            }
            GroupChange::Kick { member, reason } => {
                needs_operator("remove members")?;
                let target = kept.member(&member)?;
                if target.rank == Rank::Founder && rank < Rank::Founder {
                    return forbidden("the founder can't be removed (+q)");
                }
                let name = target.name.clone();
                kept.group.members.retain(|member| member.name != name);
                event = Line { verb: Verb::Kick, args: vec![name], text: reason };
            }
        }
        self.changed(user, &key, event, before, domain)
    }

    fn join(
        &mut self,
        user: &User,
        written: &Address,
        key: &Address,
        password: Option<&str>,
        domain: &Domain,
    ) -> Result<Arc<Group>, Error> {
        let name = match written {
            Address::Mesyx(mesyx) => mesyx.user.local().to_owned(),
            _ => return invalid("that is no group of this exchange"),
        };
        let mut rank = Rank::Member;
        let kept = self.chat.groups.entry(key.clone()).or_insert_with(|| {
            rank = Rank::Founder;
            let group = Group {
                address: key.clone(),
                name,
                created: Timestamp::now(),
                topic: None,
                members: Vec::new(),
                modes: ['n', 't'].map(|mode| (mode, String::new())).into(),
                lists: BTreeMap::new(),
            };
            Kept { group, invited: BTreeSet::new() }
        });
        if kept.rank_of(user.id).is_some() {
            return Ok(Arc::new(kept.group.clone()));
        }
        if rank < Rank::Founder && !kept.invited.remove(&user.id) {
            let modes = &kept.group.modes;
            if modes.contains_key(&'i') {
                return forbidden("only who is invited may join (+i)");
            }
            if modes.get(&'k').is_some_and(|key| Some(key.as_str()) != password) {
                return forbidden("the key is wrong (+k)");
            }
            let most = modes.get(&'l').and_then(|most| most.parse::<usize>().ok());
            if most.is_some_and(|most| kept.group.members.len() >= most) {
                return forbidden("the group is full (+l)");
            }
        }
        kept.group.members.push(GroupMember { user: user.id, name: user.name.clone(), rank });
        let event = Line { verb: Verb::Join, args: Vec::new(), text: String::new() };
        self.changed(user, key, event, Vec::new(), domain)
    }

    /// Writes the change into the log, and tells everybody.
    fn changed(
        &mut self,
        user: &User,
        key: &Address,
        event: Line,
        before: Vec<UserId>,
        domain: &Domain,
    ) -> Result<Arc<Group>, Error> {
        let kept = self.chat.groups.get(key).ok_or_else(|| not_found("group"))?;
        let group = Arc::new(kept.group.clone());
        let mut audience = kept.audience();
        audience.extend(before.into_iter().filter(|user| kept.rank_of(*user).is_none()));
        let id = MessageId::random();
        let headers = LineHeaders {
            id,
            from: address_of(user, domain)?,
            nick: user.name.clone(),
            to: key.clone(),
            at: Timestamp::now().max(self.chat.last),
        };
        let content = event.to_content(&headers, domain);
        let content: Content = content.map_err(|error| Error::new(ErrorKind::Invalid, error.to_string()))?;
        let mut envelope = super::envelope(Some(headers.from), vec![key.clone()], content);
        (envelope.id, envelope.style, envelope.kind) = (id, Style::Instant, Kind::Event);
        envelope.origin = Origin { authenticated: Some(user.id), ..Origin::default() };
        let message = self.message(&envelope)?;
        self.put_group(key, &audience, &message, domain)?;
        self.tell_feeds(|of| {
            let hears = of.is_none_or(|user| audience.contains(&user));
            hears.then(|| ChatEvent::Group(Arc::clone(&group)))
        });
        if group.members.is_empty() {
            self.chat.groups.remove(key);
        }
        Ok(group)
    }
}

impl Kept {
    fn rank_of(&self, user: UserId) -> Option<Rank> {
        self.group.members.iter().find(|member| member.user == user).map(|member| member.rank)
    }

    fn member(&mut self, name: &str) -> Result<&mut GroupMember, Error> {
        let mut members = self.group.members.iter_mut();
        members.find(|member| member.name.eq_ignore_ascii_case(name)).ok_or_else(|| not_found("member"))
    }

    fn audience(&self) -> Vec<UserId> {
        self.group.members.iter().map(|member| member.user).collect()
    }
}

impl Account {
    /// The mailbox of a conversation, made where there is none.
    pub(super) fn conversation(&mut self, conversation: &Conversation, domain: &Domain) -> Result<MailboxId, Error> {
        let conversation = match conversation {
            Conversation::Group(group) => {
                Conversation::Group(group_key(group, domain).unwrap_or_else(|| group.clone()))
            }
            direct => direct.clone(),
        };
        if let Some(id) = self.find_conversation(&conversation) {
            return Ok(id);
        }
        let name = match &conversation {
            Conversation::Direct(address) | Conversation::Group(address) => match address {
                Address::Mail(mail) => mail.to_string(),
                Address::Irc(irc) => format!("{}/{}", irc.network(), irc.name()),
                Address::Mesyx(mesyx) => mesyx.user.local().to_owned(),
                Address::Other(other) => format!("{}/{}", other.network(), other.name().replace('/', "=2f")),
            },
        };
        let id = self.create(&MailboxName::new(&format!("Chat/{name}"))?, None)?;
        self.conversations.push((id, conversation));
        Ok(id)
    }

    pub(super) fn find_conversation(&mut self, conversation: &Conversation) -> Option<MailboxId> {
        let known: Vec<MailboxId> =
            self.conversations.iter().filter(|(_, known)| known == conversation).map(|(id, _)| *id).collect();
        known.into_iter().find(|id| self.folder(*id).is_ok())
    }

    fn info(&mut self, mailbox: MailboxId, conversation: Conversation) -> Option<ConversationInfo> {
        let folder = self.folder(mailbox).ok()?;
        let last = folder.messages.keys().next_back().copied().unwrap_or(0);
        Some(ConversationInfo { mailbox, conversation, last, read: read_up_to(folder) })
    }

    pub(super) fn infos(&mut self) -> Vec<ConversationInfo> {
        let known = self.conversations.clone();
        known.into_iter().filter_map(|(id, conversation)| self.info(id, conversation)).collect()
    }

    pub(super) fn history(
        &mut self,
        mailbox: MailboxId,
        wanted: History,
        limit: usize,
        domain: &Domain,
    ) -> Result<Vec<Arc<ChatLine>>, Error> {
        let own = address_of(&self.user, domain)?;
        let folder = self.folder(mailbox)?;
        let lines: Vec<ChatLine> = folder
            .messages
            .iter()
            .filter_map(|(uid, message)| chat_line(mailbox, *uid, message, Some(&own), domain))
            .collect();
        Ok(select(&lines, wanted, limit.min(MOST_LINES))?.iter().cloned().map(Arc::new).collect())
    }
}

/// The lines that are wanted, in their order.
fn select(lines: &[ChatLine], wanted: History, limit: usize) -> Result<&[ChatLine], Error> {
    // Where the lines before a place end, and where those after it begin.
    let ends = |anchor: Anchor| match anchor {
        Anchor::Time(at) => {
            Ok::<_, Error>((lines.partition_point(|line| line.at < at), lines.partition_point(|line| line.at <= at)))
        }
        Anchor::Message(id) => {
            let at = lines.iter().position(|line| line.id == id).ok_or_else(|| not_found("message"))?;
            Ok((at, at + 1))
        }
    };
    let last = |from: usize, to: usize| &lines[to.saturating_sub(limit).max(from).min(to)..to];
    let first = |from: usize, to: usize| &lines[from.min(to)..to.min(from.saturating_add(limit)).max(from.min(to))];
    Ok(match wanted {
        History::Latest(None) => last(0, lines.len()),
        History::Latest(Some(anchor)) => last(ends(anchor)?.1, lines.len()),
        History::Before(anchor) => last(0, ends(anchor)?.0),
        History::After(anchor) => first(ends(anchor)?.1, lines.len()),
        History::Around(anchor) => {
            let middle = ends(anchor)?.0;
            let from = middle.saturating_sub(limit / 2).min(lines.len().saturating_sub(limit));
            first(from, lines.len())
        }
        History::Between(one, other) => {
            let (one, other) = (ends(one)?, ends(other)?);
            if one.0 <= other.0 { first(one.1, other.0.max(one.1)) } else { last(other.1, one.0.max(other.1)) }
        }
    })
}

impl MemoryHost {
    /// Answers what is asked of the bridge `bridge` (see [`crate::Host::query`]) by this function, in place of a bridge.
    pub fn answer_with(
        &self,
        bridge: &str,
        answer: impl Fn(Question) -> Result<Answer, Error> + Send + Sync + 'static,
    ) {
        self.state().chat.answerers.insert(bridge.to_owned(), Arc::new(answer));
    }

    /// The signals that were sent, in order.
    #[must_use]
    pub fn signals(&self) -> Vec<Signal> {
        self.state().chat.signals.clone()
    }
}

impl super::session::MemorySession {
    pub(super) fn conversation_now(&self, wanted: &Conversation, create: bool) -> Result<ConversationInfo, Error> {
        let domain = self.host().0.domain.clone();
        let mut state = self.host().state();
        let mut wanted = wanted.clone();
        if let Conversation::Group(group) = &wanted
            && let Some(key) = group_key(group, &domain)
        {
            let belongs = state.chat.groups.get(&key).is_some_and(|kept| kept.rank_of(self.user_id()).is_some());
            if !belongs {
                return Err(not_found("group"));
            }
            wanted = Conversation::Group(key);
        }
        if let Conversation::Direct(Address::Mesyx(mesyx)) = &wanted {
            wanted = Conversation::Direct(state.user_at(mesyx, &domain)?.1);
        }
        let account = state.store.account(self.user_id())?;
        let id = match account.find_conversation(&wanted) {
            Some(id) => id,
            None if create => account.conversation(&wanted, &domain)?,
            None => return Err(not_found("conversation")),
        };
        account.infos().into_iter().find(|info| info.mailbox == id).ok_or_else(|| not_found("conversation"))
    }

    pub(super) fn mark_read_now(&self, mailbox: MailboxId, up_to: Uid) -> Result<(), Error> {
        let mut state = self.host().state();
        let account = state.store.account(self.user_id())?;
        let folder = account.folder(mailbox)?;
        let unread: Vec<Uid> = folder
            .messages
            .range(..=up_to)
            .filter(|(_, message)| !message.flags.contains(&Flag::Seen))
            .map(|(uid, _)| *uid)
            .collect();
        if unread.is_empty() {
            return Ok(());
        }
        let modseq = folder.next_modseq();
        for uid in unread {
            if let Some(message) = folder.messages.get_mut(&uid) {
                message.flags = message.flags.iter().cloned().chain([Flag::Seen]).collect();
                message.modseq = modseq;
            }
        }
        let read = read_up_to(folder);
        account.tell_mailbox(mailbox);
        state.tell_read(self.user_id(), mailbox, read);
        Ok(())
    }
}
