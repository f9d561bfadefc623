//! The client's session: what the engine asks, done by calls of the host.

use super::engine::ask::Outcome;
use super::engine::live::GUESTS;
use super::engine::{Ask, ClientId, Given};
use super::server::Shared;
use super::{mail, past};
use crate::link;
use mesyx_sdk::address::CaseMapping;
use mesyx_sdk::{
    Address, ChatEvent, ChatLine, ClientInfo, Conversation, ConversationInfo, Credentials, Envelope, Error, ErrorKind,
    Group, History, Importance, IrcAddress, Kind, Line, LineHeaders, LiveFeed, MailAddress, MailboxId, MessageId,
    MesyxAddress, Origin, Protection, Recipient, Reservation, Secret, Session, Signal, SignalTo, Style, Timestamp, Uid,
    Verb, chat,
};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Marks of what was read follow each other at least so far apart: each is a commit.
const MARKS: Duration = Duration::from_secs(1);

/// A line on its way into the store.
pub(super) type Saying = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// What one connection has of its user.
pub(super) struct Account {
    shared: Arc<Shared>,
    client: ClientId,
    info: ClientInfo,
    session: Option<Arc<dyn Session>>,
    feed: Option<LiveFeed>,
    conversations: HashMap<MailboxId, Arc<Conversation>>,
    /// The last line that this client was told, by conversation.
    told: HashMap<MailboxId, Uid>,
    /// Lines of others that the client was told since the user last spoke there.
    unread: HashMap<Conversation, (MailboxId, Uid)>,
    marked: Option<Instant>,
    device: String,
}

fn not_logged_in<T>() -> Result<T, Error> {
    Err(Error::new(ErrorKind::Forbidden, "that needs a login"))
}

impl Account {
    pub(super) fn new(shared: Arc<Shared>, client: ClientId, info: ClientInfo) -> Self {
        Self {
            shared,
            client,
            info,
            session: None,
            feed: None,
            conversations: HashMap::new(),
            told: HashMap::new(),
            unread: HashMap::new(),
            marked: None,
            device: String::new(),
        }
    }

    pub(super) const fn listens(&self) -> bool {
        self.feed.is_some()
    }

    /// The next event of the live feed; waits for ever where there is none.
    pub(super) async fn event(&mut self) -> Option<ChatEvent> {
        match &mut self.feed {
            Some(feed) => feed.next().await,
            None => std::future::pending().await,
        }
    }

    /// The next event, where it is there already.
    pub(super) fn event_at_hand(&mut self) -> Option<ChatEvent> {
        self.feed.as_mut()?.try_next()
    }

    fn session(&self) -> Result<&Arc<dyn Session>, Error> {
        match &self.session {
            Some(session) => Ok(session),
            None => not_logged_in(),
        }
    }

    pub(super) async fn perform(&mut self, ask: &Ask) -> Outcome {
        match ask {
            Ask::Login { name, password, .. } => {
                let credentials =
                    Credentials { name: name.clone(), password: password.clone(), client: self.info.clone() };
                let session = self.shared.host.login(credentials).await?;
                let user = session.user().clone();
                self.session = Some(session);
                Ok(Given::User(user))
            }
            Ask::Taken { nick } => self.shared.host.is_user(nick).await.map(Given::Taken),
            Ask::Enter => self.enter().await,
            Ask::Change { group, change } => {
                let address = self.group(group)?;
                self.session()?.change_group(&address, change.clone()).await.map(Given::Group)
            }
            Ask::Say { .. } => self.saying(ask)?.await,
            Ask::GuestSays { group, id, nick, verb, text } => self.guest_says(group, *id, nick, *verb, text).await,
            Ask::Mail { to, text } => {
                let _room = self.room(text.len())?;
                mail::send(&**self.session()?, to, text).await?;
                Ok(Given::Done)
            }
            Ask::MailService { text } => mail::service(&**self.session()?, text).await.map(Given::Text),
            Ask::History { conversation, wanted, limit, events, .. } => {
                let session = self.session()?;
                let info = session.conversation(conversation, false).await?;
                past::lines(&**session, info.mailbox, *wanted, *limit, *events).await.map(Given::Lines)
            }
            Ask::Targets { from, to, limit } => {
                past::targets(&**self.session()?, *from, *to, *limit).await.map(Given::Targets)
            }
            Ask::Marker { conversation, set, .. } => {
                let session = self.session()?;
                past::marker(&self.shared, &**session, conversation, *set).await.map(Given::Marker)
            }
            Ask::Playback => self.playback().await.map(Given::Playback),
            Ask::Network { question, .. } => {
                let question = question.question(self.session()?.user());
                self.shared.host.query(question).await.map(Given::Network)
            }
            Ask::Typing { conversation, state } => {
                let session = self.session()?;
                if let Conversation::Group(group) = conversation {
                    self.shared.host.signal(Signal {
                        to: SignalTo::Group(group.clone()),
                        bridge: String::new(),
                        conversation: Some(conversation.clone()),
                        from: chat::address_of(session.user(), self.shared.host.domain()).ok(),
                        name: "typing".into(),
                        args: vec![state.clone()],
                    });
                }
                Ok(Given::Done)
            }
        }
    }

    async fn enter(&mut self) -> Outcome {
        let (device, network) = self.shared.server().binding(self.client);
        self.device = device;
        let session = Arc::clone(self.session()?);
        // The feed first: what is said from here on is heard, and what was said before is in the history.
        self.feed = Some(session.live().await?);
        let groups: Vec<Arc<Group>> = session.groups().await?;
        self.learn().await?;
        let user = session.user();
        let ask = |question: link::Ask| self.shared.host.query(question.question(user));
        let networks = match ask(link::Ask::Networks).await {
            Ok(answer) => link::NetworkInfo::of(&answer),
            Err(error) => {
                // An exchange without that bridge has no networks outside.
                tracing::debug!(%error, "the user's networks are not known");
                Vec::new()
            }
        };
        let mut bound = None;
        if let Some(network) = network.filter(|network| networks.iter().any(|known| known.name == *network)) {
            let presence = link::Presence::of(&ask(link::Ask::Presence { network: network.clone() }).await?);
            let channels = link::Channel::of(&ask(link::Ask::Channels { network: network.clone() }).await?);
            if presence.state == link::State::Disconnected {
                let _ = ask(link::Ask::Connect { network }).await;
            }
            bound = Some((presence, channels));
        }
        Ok(Given::Entered { groups, networks, bound })
    }

    /// Learns which conversations there are.
    async fn learn(&mut self) -> Result<Vec<ConversationInfo>, Error> {
        let all = self.session()?.conversations().await?;
        self.conversations.extend(all.iter().map(|info| (info.mailbox, Arc::new(info.conversation.clone()))));
        Ok(all)
    }

    /// The conversation of a line on the feed.
    pub(super) async fn conversation_of(&mut self, line: &ChatLine) -> Option<Arc<Conversation>> {
        if !self.conversations.contains_key(&line.mailbox) {
            self.learn().await.ok()?;
        }
        self.conversations.get(&line.mailbox).cloned()
    }

    /// The client was told a line.
    pub(super) fn delivered(&mut self, conversation: &Conversation, line: &ChatLine) {
        self.told.insert(line.mailbox, line.uid);
        if line.own {
            return;
        }
        match self.unread.get_mut(conversation) {
            Some(last) => *last = (line.mailbox, line.uid),
            None => drop(self.unread.insert(conversation.clone(), (line.mailbox, line.uid))),
        }
    }

    fn group(&self, name: &str) -> Result<Address, Error> {
        let user = MailAddress::new(name, self.shared.host.domain().clone());
        let user = user.map_err(|error| Error::new(ErrorKind::Invalid, error.to_string()))?;
        Ok(Address::Mesyx(MesyxAddress { user }))
    }

    /// What brings a line to the host. Polled once, the line has its place among those of this user.
    pub(super) fn saying(&mut self, ask: &Ask) -> Result<Saying, Error> {
        let Ask::Say { to, id, verb, text, .. } = ask else {
            return Err(Error::new(ErrorKind::Invalid, "that is no line"));
        };
        let session = Arc::clone(self.session()?);
        let from = chat::address_of(session.user(), self.shared.host.domain())?;
        let envelope = self.envelope(from, &session.user().name, to, *id, *verb, text)?;
        let room = self.room(envelope.content.len())?;
        self.answered(to, &session);
        Ok(Box::pin(async move {
            let _room = room;
            session.submit(envelope).await.map(|_| Given::Said)
        }))
    }

    /// Room in the byte budget for a message that is on its way to the store.
    fn room(&self, bytes: usize) -> Result<Reservation, Error> {
        self.shared.host.budget().room_for(bytes)
    }

    /// Who answers has read what was said before.
    fn answered(&mut self, to: &Conversation, session: &Arc<dyn Session>) {
        if let Some((mailbox, up_to)) = self.unread.get(to).copied()
            && self.marked.is_none_or(|last| last.elapsed() >= MARKS)
        {
            self.unread.remove(to);
            self.marked = Some(Instant::now());
            let session = Arc::clone(session);
            tokio::spawn(async move {
                if let Err(error) = session.mark_read(mailbox, up_to).await {
                    tracing::debug!(%error, "what was read could not be marked");
                }
            });
        }
    }

    async fn guest_says(&self, group: &str, id: MessageId, nick: &str, verb: Verb, text: &str) -> Outcome {
        let from = IrcAddress::new(GUESTS, nick, CaseMapping::Ascii);
        let from = from.map_err(|error| Error::new(ErrorKind::Invalid, error.to_string()))?;
        let to = Conversation::Group(self.group(group)?);
        let envelope = self.envelope(Address::Irc(from), nick, &to, id, verb, text)?;
        let _room = self.room(envelope.content.len())?;
        for taken in self.shared.host.accept(vec![envelope]).await {
            taken?;
        }
        Ok(Given::Said)
    }

    fn envelope(
        &self,
        from: Address,
        nick: &str,
        to: &Conversation,
        id: MessageId,
        verb: Verb,
        text: &str,
    ) -> Result<Envelope, Error> {
        let (Conversation::Direct(recipient) | Conversation::Group(recipient)) = to else {
            return Err(Error::new(ErrorKind::Invalid, "that sort of conversation is not known"));
        };
        let now = Timestamp::now();
        let headers = LineHeaders { id, from: from.clone(), nick: nick.to_owned(), to: recipient.clone(), at: now };
        let line = Line { verb, args: Vec::new(), text: text.to_owned() };
        let content = line.to_content(&headers, self.shared.host.domain());
        let content = content.map_err(|error| Error::new(ErrorKind::Invalid, error.to_string()))?;
        let protection = if self.info.tls {
            Protection::Tls { version: "TLS".into(), cipher: String::new() }
        } else {
            Protection::None
        };
        Ok(Envelope {
            id,
            dedup: None,
            style: Style::Instant,
            kind: Kind::Message,
            from: Some(from),
            to: vec![Recipient::new(recipient.clone())],
            conversation: Some(to.clone()),
            sent: None,
            received: now,
            importance: Importance::Normal,
            content,
            origin: Origin { network: "irc".into(), protection, ..Origin::default() },
            junk: false,
            dsn: mesyx_sdk::Dsn::default(),
        })
    }

    /// Something was read: where, and up to when; `None` where the client does not want to know.
    pub(super) async fn read_at(
        &mut self,
        mailbox: MailboxId,
        up_to: Uid,
    ) -> Option<(Conversation, Option<Timestamp>)> {
        if !self.shared.server().wants_markers(self.client) {
            return None;
        }
        if !self.conversations.contains_key(&mailbox) {
            self.learn().await.ok()?;
        }
        let conversation = Conversation::clone(self.conversations.get(&mailbox)?);
        let info = ConversationInfo { mailbox, conversation: conversation.clone(), last: up_to, read: up_to };
        Some((conversation, past::read_up_to(&self.shared, &**self.session().ok()?, &info).await.ok()?))
    }

    /// Where the positions of this client stand: what it was told when it was last here.
    fn position_key(&self) -> Option<String> {
        let user = self.session.as_ref()?.user().id;
        let device: String = self.device.chars().filter(char::is_ascii_graphic).take(64).collect();
        Some(format!("told/{user}/{device}"))
    }

    async fn positions(&self) -> HashMap<MailboxId, Uid> {
        let Some(key) = self.position_key() else { return HashMap::new() };
        match self.shared.host.checkpoint(&key).await {
            Ok(Some(kept)) => serde_json::from_slice(kept.expose()).unwrap_or_default(),
            _ => HashMap::new(),
        }
    }

    /// The lines that neither were read on any client nor told to this one before.
    async fn playback(&mut self) -> Result<Vec<(ConversationInfo, Vec<Arc<ChatLine>>)>, Error> {
        let most = self.shared.limits.playback_lines;
        let positions = self.positions().await;
        let mut all = Vec::new();
        for info in self.learn().await? {
            let from = info.read.max(positions.get(&info.mailbox).copied().unwrap_or(0));
            if info.last <= from {
                continue;
            }
            let mut lines = self.session()?.history(info.mailbox, History::Latest(None), most).await?;
            lines.retain(|line| line.uid > from);
            for line in &lines {
                self.delivered(&info.conversation.clone(), line);
            }
            all.push((info, lines));
        }
        all.sort_by_key(|(_, lines)| lines.last().map(|line| line.at));
        Ok(all)
    }

    /// The client is gone: what it was told is kept, so that it is not told again.
    pub(super) async fn left(&mut self) {
        self.feed = None;
        let Some(key) = self.position_key().filter(|_| !self.told.is_empty()) else { return };
        let mut positions = self.positions().await;
        for (mailbox, uid) in self.told.drain() {
            let kept = positions.entry(mailbox).or_default();
            *kept = uid.max(*kept);
        }
        // The newest 1,000 conversations fit into a checkpoint.
        while positions.len() > 1000 {
            let Some(some) = positions.keys().next().copied() else { break };
            positions.remove(&some);
        }
        if let Ok(json) = serde_json::to_vec(&positions)
            && let Err(error) = self.shared.host.set_checkpoint(&key, Some(Secret::new(json))).await
        {
            tracing::debug!(%error, "what the client was told could not be kept");
        }
    }
}
