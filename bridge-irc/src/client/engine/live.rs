//! What the live feeds tell: lines, groups, and what was read.

use super::ask::shown;
use super::ask::{Ask, Asks};
use super::channel::{Channel, Standing};
use super::msg::{Msg, stamp};
use super::multiline::{Text, with_text};
use super::names::fold;
use super::{ClientId, Server, caps};
use crate::link;
use mesyx_sdk::{Address, ChatLine, Conversation, Group, Protection, Timestamp, Verb};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The network name in the addresses of guests: they are people of this server, not of the exchange.
pub const GUESTS: &str = "guests";
/// Most markers that are remembered of a client; then all are forgotten, and told once more.
const MOST_MARKERS: usize = 1000;

impl Server {
    /// A group is like this now.
    pub fn update_group(&mut self, group: &Arc<Group>) {
        let key = fold(&group.name);
        let now = self.now;
        if group.members.is_empty() && !self.channels.contains_key(&key) {
            return;
        }
        let members: Vec<(u64, Standing)> =
            group.members.iter().map(|member| (self.account(&member.name, None), member.rank.into())).collect();
        let channel = self.channels.entry(key.clone()).or_insert_with(|| Channel::new(&group.name, now));
        let ids: BTreeSet<u64> = members.iter().map(|(pid, _)| *pid).collect();
        let was_guests_only = channel.group.is_none();
        channel.name.clone_from(&group.name);
        channel.created = group.created;
        channel.topic.clone_from(&group.topic);
        channel.modes.clone_from(&group.modes);
        channel.lists.clone_from(&group.lists);
        channel.group = Some(Arc::clone(group));
        let old: Vec<u64> = channel.members.keys().copied().filter(|pid| !ids.contains(pid)).collect();
        for (pid, standing) in members {
            channel.members.insert(pid, standing);
            if let Some(person) = self.people.get_mut(&pid) {
                person.channels.insert(key.clone());
                person.invited.remove(&key);
            }
        }
        for pid in old {
            let account = self.people.get(&pid).is_none_or(|person| person.account.is_some());
            if account {
                self.leave(pid, &key);
                self.drop_if_gone(pid);
            } else if was_guests_only
                && let Some(standing) = self.channels.get_mut(&key).and_then(|channel| channel.members.get_mut(&pid))
            {
                // What a guest could do ends where users with accounts take the channel over.
                *standing = Standing { voice: standing.voice, ..Standing::default() };
            }
        }
        if group.members.is_empty()
            && let Some(channel) = self.channels.get_mut(&key)
        {
            channel.group = None;
            if channel.members.is_empty() {
                self.channels.remove(&key);
            }
        }
    }

    /// A line was said in one of the client's conversations. `expected`: it answers the client's present command. What comes back is to be
    /// asked.
    pub fn said(
        &mut self,
        now: Timestamp,
        id: ClientId,
        conversation: &Conversation,
        line: &ChatLine,
        expected: bool,
    ) -> Asks {
        self.now = now;
        if expected {
            self.answering = Some(id);
        }
        let mut asks = Vec::new();
        let mine = self.clients.get(&id).is_some_and(|client| client.mine.contains(&line.id));
        let spoken = matches!(line.line.verb, Verb::Say | Verb::Notice | Verb::Action);
        if mine && spoken && matches!(conversation, Conversation::Direct(other) if *other == line.from) {
            // One who writes to itself gets the message, which answers nothing, and the echo too (IRCv3 `labeled-response`).
            for msg in self.lines_of(id, conversation, line) {
                self.tell(id, &msg);
            }
        }
        if !(mine && spoken) || self.caps(id).has(caps::ECHO_MESSAGE) {
            let group = matches!(conversation, Conversation::Group(_));
            if spoken && group && !self.is_captured(id) {
                self.send_shared(id, conversation, line);
            } else {
                for msg in self.lines_of(id, conversation, line) {
                    self.send(id, msg);
                }
            }
            if line.line.verb == Verb::Join
                && line.own
                && let Some(name) = self.conversation_name(id, conversation)
            {
                asks = self.after_join(id, &fold(&name), conversation);
            }
        }
        self.answering = None;
        asks
    }

    /// What follows a client's own JOIN: how far the channel was read, then topic and names.
    pub(super) fn after_join(&mut self, id: ClientId, key: &str, conversation: &Conversation) -> Asks {
        if !self.caps(id).has(caps::READ_MARKER) {
            self.show_channel(id, key);
            return Vec::new();
        }
        let target = self.channels.get(key).map_or_else(|| key.to_owned(), |channel| channel.name.clone());
        vec![Ask::Marker { conversation: conversation.clone(), target, set: None, joined: true }]
    }

    /// A line was said in a group: for the guests in it.
    pub fn said_to_guests(&mut self, now: Timestamp, group: &Address, line: &ChatLine) {
        self.now = now;
        let Address::Mesyx(mesyx) = group else { return };
        let key = fold(mesyx.user.local());
        let Some(channel) = self.channels.get(&key) else { return };
        let guests: Vec<ClientId> = channel
            .members
            .keys()
            .filter(|pid| self.people.get(pid).is_some_and(|person| person.account.is_none()))
            .flat_map(|pid| self.clients_of(*pid))
            .collect();
        let conversation = Conversation::Group(group.clone());
        for id in guests {
            self.said(now, id, &conversation, line, false);
        }
    }

    /// How a client sees a conversation: a nick or a channel; `None` where it does not see it at all.
    pub(super) fn conversation_name(&self, id: ClientId, conversation: &Conversation) -> Option<String> {
        let (Conversation::Direct(address) | Conversation::Group(address)) = conversation else { return None };
        let bound = self.clients.get(&id).and_then(|client| client.network.as_deref());
        match (address, bound) {
            (Address::Irc(irc), Some(bound)) if irc.network() != bound => None,
            (Address::Mesyx(_) | Address::Mail(_) | Address::Other(_), Some(_)) => None,
            (Address::Mesyx(mesyx), None) => {
                let channel = self.channels.get(&fold(mesyx.user.local()));
                Some(channel.map_or_else(|| self.nick_of_account(mesyx.user.local()), |channel| channel.name.clone()))
            }
            _ => Some(shown(address, bound)),
        }
    }

    /// A line as this client is told it: several lines for a long text, none where it does not see the conversation.
    pub(super) fn lines_of(&self, id: ClientId, conversation: &Conversation, line: &ChatLine) -> Vec<Msg> {
        let Some(other) = self.conversation_name(id, conversation) else { return Vec::new() };
        let bound = self.clients.get(&id).and_then(|client| client.network.as_deref());
        let own_nick = self.nick_of(id);
        let (source, account) = match &line.from {
            Address::Mesyx(mesyx) if line.own => {
                let local = mesyx.user.local();
                (format!("{own_nick}!{local}@{}", self.facts.domain), Some(local.to_owned()))
            }
            Address::Mesyx(mesyx) => {
                let local = mesyx.user.local();
                (format!("{}!{local}@{}", self.nick_of_account(local), self.facts.domain), Some(local.to_owned()))
            }
            Address::Irc(irc) if irc.network() == GUESTS => match self.person_named(&line.nick) {
                Some((_, person)) => (person.mask(), None),
                None => (format!("{0}!~guest@{GUESTS}", line.nick), None),
            },
            Address::Irc(irc) if irc.name() == link::SERVICE_NAME => {
                (format!("{}!otr@{}", link::SERVICE_NICK, self.facts.server), None)
            }
            Address::Irc(irc) if irc.name() == link::RELAY_NAME => {
                (format!("{}!relay@{}", link::RELAY_NICK, irc.network()), None)
            }
            Address::Irc(irc) => {
                let nick = if line.nick.is_empty() { irc.name() } else { &line.nick };
                let nick = nick.replace([' ', '!', '@'], "_");
                let shown =
                    if bound == Some(irc.network()) { nick.clone() } else { format!("{nick}/{}", irc.network()) };
                (format!("{shown}!{}@{}", irc.name(), irc.network()), None)
            }
            address => (format!("{0}!mail@{1}", shown(address, bound), self.facts.server), None),
        };
        let group = matches!(conversation, Conversation::Group(_));
        let target = if group || line.own { other } else { own_nick };
        let mut msg = Msg::new(source, "PRIVMSG");
        msg.time = Some(line.at);
        msg.msgid = Some(line.id.to_string());
        msg.account = account;
        let mut pieces: &[(String, bool)] = &[];
        if let Some(kept) = self.kept.iter().find(|kept| kept.id == line.id) {
            msg.tags.clone_from(&kept.tags);
            pieces = &kept.pieces;
        }
        if let Protection::Otr { verified } = line.protection {
            msg.tags.push(("mesyx.org/otr".into(), if verified { "verified" } else { "unverified" }.into()));
        }
        let notice = matches!(&line.from, Address::Irc(irc) if irc.name() == link::SERVICE_NAME);
        let text = &line.line.text;
        // Members stand in lines by their login names.
        let args: Vec<String> = line.line.args.iter().map(|arg| self.nick_of_account(arg)).collect();
        msg.command = match line.line.verb {
            Verb::Say if notice => "NOTICE",
            Verb::Say | Verb::Action => "PRIVMSG",
            Verb::Notice => "NOTICE",
            Verb::Topic => "TOPIC",
            Verb::Join => "JOIN",
            Verb::Part => "PART",
            Verb::Kick => "KICK",
            Verb::Mode => "MODE",
            _ => return Vec::new(),
        }
        .into();
        msg = msg.arg(target);
        match line.line.verb {
            Verb::Say | Verb::Notice | Verb::Action => {
                let text = Text { text, pieces, action: line.line.verb == Verb::Action };
                return with_text(&msg, &text, self.caps(id));
            }
            Verb::Join if self.caps(id).has(caps::EXTENDED_JOIN) => {
                let account = msg.account.clone().unwrap_or_else(|| "*".to_owned());
                let person = self.accounts.get(&fold(&account)).and_then(|pid| self.people.get(pid));
                let real = person.map_or_else(|| line.nick.clone(), |person| person.real.clone());
                msg = msg.arg(account).arg(real);
            }
            Verb::Topic => msg = msg.arg(text.clone()),
            Verb::Part if !text.is_empty() => msg = msg.arg(text.clone()),
            Verb::Kick => {
                let Some(member) = args.first() else { return Vec::new() };
                let reason = if text.is_empty() { self.nick_of_account(&line.nick) } else { text.clone() };
                msg = msg.arg(member.clone()).arg(reason);
            }
            Verb::Mode => msg.params.extend(args),
            _ => {}
        }
        vec![msg]
    }

    /// The user read a conversation up to here, on whichever client (`draft/read-marker`).
    pub fn read(&mut self, now: Timestamp, id: ClientId, conversation: &Conversation, up_to: Option<Timestamp>) {
        self.now = now;
        if let Some(name) = self.conversation_name(id, conversation) {
            self.move_marker(id, &name, up_to);
        }
    }

    /// Tells a client of a marker that moved on, if it wants to know and was not told before.
    pub(super) fn move_marker(&mut self, id: ClientId, name: &str, up_to: Option<Timestamp>) {
        let known = self.clients.get(&id).and_then(|client| client.markers.get(&fold(name)).copied());
        if self.caps(id).has(caps::READ_MARKER) && up_to > known {
            self.tell_marker(id, name, up_to);
        }
    }

    pub(super) fn tell_marker(&mut self, id: ClientId, name: &str, up_to: Option<Timestamp>) {
        if let (Some(at), Some(client)) = (up_to, self.clients.get_mut(&id)) {
            if client.markers.len() >= MOST_MARKERS {
                client.markers.clear();
            }
            client.markers.insert(fold(name), at);
        }
        let mark = up_to.map_or_else(|| "*".to_owned(), |at| format!("timestamp={}", stamp(at)));
        let msg = self.own_msg("MARKREAD").arg(name).arg(mark);
        self.send(id, msg);
    }

    /// Somebody invites the user to a group.
    pub fn invited(&mut self, now: Timestamp, id: ClientId, from: &Address, group: &str) {
        self.now = now;
        let Some((pid, _)) = self.person_of(id) else { return };
        if let Some(person) = self.people.get_mut(&pid) {
            person.invited.insert(fold(group));
        }
        let nick = self.nick_of(id);
        let inviter = shown(from, None);
        let source = format!("{}!{inviter}@{}", self.nick_of_account(&inviter), self.facts.domain);
        let msg = Msg::new(source, "INVITE").arg(nick).arg(group);
        if self.is_local(id) {
            self.send(id, msg);
        }
    }

    /// The user's session is over.
    pub fn ended(&mut self, now: Timestamp, id: ClientId, why: &str) {
        self.now = now;
        self.end(id, why);
    }

    /// The host dropped events: what the client shows may lack lines.
    pub fn lagged(&mut self, now: Timestamp, id: ClientId) {
        self.now = now;
        let msg =
            self.own_msg("NOTICE").arg(self.nick_of(id)).arg("Some lines were not shown here; they are in the history");
        self.send(id, msg);
    }
}
