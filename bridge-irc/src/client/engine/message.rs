//! PRIVMSG, NOTICE, TAGMSG.

use super::ask::{Ask, Asks};
use super::commands::Command;
use super::msg::Msg;
use super::multiline::{Text, with_text};
use super::names::{channel_like, fold};
use super::{Caps, ClientId, PersonId, Server, caps};
use crate::link;
use mesyx_irc_codec::ctcp::Ctcp;
use mesyx_sdk::address::CaseMapping;
use mesyx_sdk::{
    Address, Conversation, Error, ErrorKind, IrcAddress, MailAddress, MessageId, MesyxAddress, Verb, chat,
};

/// Most targets of one message, as TARGMAX says.
const MOST_TARGETS: usize = 4;
/// The service to which people write about their mail.
pub(super) const MAIL_SERVICE: &str = "*mail";

/// What a target stands for.
#[derive(Debug)]
pub(super) enum Target {
    /// A channel here, and which members: all, or from a prefix up.
    Channel(String, Option<char>),
    /// A person without an account, or any person to somebody without one.
    Person(PersonId),
    /// A conversation that is stored.
    Stored(Conversation),
    /// Somebody's mailbox.
    Mail(String),
    /// `*mail` or `*otr`.
    Service(&'static str),
    /// Nobody.
    Nobody,
}

/// What one client says at once.
#[derive(Clone, Copy)]
struct Said<'a> {
    command: &'a Command,
    text: &'a str,
    id: MessageId,
}

impl Server {
    /// The address of a user or group of this exchange.
    pub(super) fn local_address(&self, name: &str) -> Option<Address> {
        let user = MailAddress::new(&fold(name), self.facts.domain.clone()).ok()?;
        Some(Address::Mesyx(MesyxAddress { user }))
    }

    pub(super) fn outside_conversation(network: &str, name: &str) -> Option<Conversation> {
        let address = IrcAddress::new(network, name, CaseMapping::Rfc1459).ok()?;
        let channel = address.is_channel();
        let address = Address::Irc(address);
        Some(if channel { Conversation::Group(address) } else { Conversation::Direct(address) })
    }

    pub(super) fn target(&self, id: ClientId, name: &str) -> Target {
        let Some(client) = self.clients.get(&id) else { return Target::Nobody };
        let account = client.user.is_some();
        if account {
            if name == MAIL_SERVICE {
                return Target::Service(MAIL_SERVICE);
            }
            if name == link::SERVICE_NICK {
                return Target::Service(link::SERVICE_NICK);
            }
            if let Some(network) = &client.network {
                return Self::outside_conversation(network, name).map_or(Target::Nobody, Target::Stored);
            }
            if let Some((inner, network)) = name.rsplit_once('/') {
                return Self::outside_conversation(network, inner).map_or(Target::Nobody, Target::Stored);
            }
            if name.contains('@')
                && !name.starts_with('@')
                && let Ok(mail) = name.parse::<MailAddress>()
            {
                return match chat::from_mail(&mail, &self.facts.domain) {
                    Some(Address::Mesyx(mesyx)) => self.target(id, mesyx.user.local()),
                    Some(address @ Address::Irc(_)) => {
                        let Address::Irc(irc) = &address else { return Target::Nobody };
                        let group = irc.is_channel();
                        Target::Stored(if group { Conversation::Group(address) } else { Conversation::Direct(address) })
                    }
                    _ => Target::Mail(name.to_owned()),
                };
            }
        }
        let (prefix, bare) = match name.chars().next() {
            Some(sign @ ('~' | '@' | '+')) if channel_like(&name[1..]) => (Some(sign), &name[1..]),
            _ => (None, name),
        };
        if channel_like(bare) {
            let key = fold(bare);
            return if self.channels.contains_key(&key) { Target::Channel(key, prefix) } else { Target::Nobody };
        }
        match self.person_named(name) {
            Some((pid, person)) if person.account.is_none() || !account => Target::Person(pid),
            None if !account => Target::Nobody,
            found => {
                // By the login name, whatever the user's nick is.
                let name = found.and_then(|(_, person)| person.account.as_deref()).unwrap_or(name);
                self.local_address(name).map_or(Target::Nobody, |to| Target::Stored(Conversation::Direct(to)))
            }
        }
    }

    pub(super) fn message(&mut self, id: ClientId, command: &Command) -> Asks {
        let quiet = command.name != "PRIVMSG";
        let tags_only = command.name == "TAGMSG";
        let Some(targets) = command.get(0) else {
            if command.name != "NOTICE" {
                self.numeric(id, "411", [&format!("No recipient given ({})", command.name)]);
            }
            return Vec::new();
        };
        let text = command.params.get(1).cloned().unwrap_or_default();
        if tags_only && !self.caps(id).has(caps::MESSAGE_TAGS) {
            self.numeric(id, "421", ["TAGMSG", "Unknown command"]);
            return Vec::new();
        }
        if text.is_empty() && !tags_only {
            if command.name != "NOTICE" {
                self.numeric(id, "412", ["No text to send"]);
            }
            return Vec::new();
        }
        let mut asks = Vec::new();
        let targets: Vec<String> = targets.split(',').filter(|target| !target.is_empty()).map(str::to_owned).collect();
        if targets.len() > MOST_TARGETS {
            self.numeric(id, "407", [&targets[MOST_TARGETS], "Too many recipients"]);
            return Vec::new();
        }
        if let Some((pid, _)) = self.person_of(id) {
            self.spoke(pid);
        }
        for target in targets {
            asks.extend(self.message_to(id, command, &target, &text, quiet, tags_only));
        }
        asks
    }

    fn message_to(
        &mut self,
        id: ClientId,
        command: &Command,
        target: &str,
        text: &str,
        quiet: bool,
        tags_only: bool,
    ) -> Asks {
        let Some((pid, person)) = self.person_of(id) else { return Vec::new() };
        let own_account = person.account.is_some();
        let line_id = MessageId::random();
        let said = Said { command, text, id: line_id };
        let ctcp = Ctcp::parse(text.as_bytes()).filter(|_| !tags_only);
        let action = ctcp.is_some_and(|ctcp| ctcp.is("ACTION")) && !quiet;
        let verb = if quiet {
            Verb::Notice
        } else if action {
            Verb::Action
        } else {
            Verb::Say
        };
        let stored_text = match ctcp.filter(|_| action) {
            Some(ctcp) => String::from_utf8_lossy(ctcp.text).into_owned(),
            None => text.to_owned(),
        };
        // Questions and answers of programs are never stored.
        let transient = tags_only || (ctcp.is_some() && !action);
        let shown = if target.contains(' ') { "*" } else { target };
        match self.target(id, target) {
            Target::Nobody => {
                if command.name != "NOTICE" {
                    let numeric = if channel_like(target) { "403" } else { "401" };
                    self.numeric(
                        id,
                        numeric,
                        [shown, if numeric == "403" { "No such channel" } else { "No such nick/channel" }],
                    );
                }
                Vec::new()
            }
            Target::Channel(key, prefix) => {
                let Some(channel) = self.channels.get(&key) else { return Vec::new() };
                let name = channel.name.clone();
                let standing = channel.standing(pid);
                let may_speak = standing.is_some_and(|standing| standing.may_speak());
                let refused = if standing.is_none() && channel.has('n') {
                    Some("Cannot send to channel (+n)")
                } else if channel.has('m') && !may_speak {
                    Some("Cannot send to channel (+m)")
                } else if !may_speak && channel.banned(person) {
                    Some("Cannot send to channel (+b)")
                } else {
                    None
                };
                if let Some(why) = refused {
                    if command.name != "NOTICE" {
                        self.numeric(id, "404", [&name, why]);
                    }
                    return Vec::new();
                }
                let group = channel.group.as_ref().is_some_and(|group| !group.members.is_empty());
                if group && !transient && prefix.is_none() {
                    self.keep(line_id, command.tags.clone(), command.pieces.clone());
                    self.mine(id, line_id);
                    if !own_account {
                        let nick = self.nick_of(id);
                        return vec![Ask::GuestSays { group: name, id: line_id, nick, verb, text: stored_text }];
                    }
                    let Some(address) = self.local_address(&key) else { return Vec::new() };
                    let to = Conversation::Group(address);
                    return vec![Ask::Say { to, target: name, id: line_id, verb, text: stored_text, quiet }];
                }
                let shown = prefix.map_or(name.clone(), |prefix| format!("{prefix}{name}"));
                let mut targets: Vec<ClientId> = Vec::new();
                for (member, standing) in &channel.members {
                    let high = match prefix {
                        Some('~') => standing.founder,
                        Some('@') => standing.may_operate(),
                        Some('+') => standing.may_speak(),
                        _ => true,
                    };
                    if high || *member == pid {
                        targets.extend(self.clients_of(*member));
                    }
                }
                self.relay(id, pid, &targets, &shown, &said);
                Vec::new()
            }
            Target::Person(other) => {
                let Some(person) = self.people.get(&other) else { return Vec::new() };
                let (nick, away) = (person.nick.clone(), person.away_text().map(str::to_owned));
                if person.absent() {
                    if command.name == "PRIVMSG" {
                        self.numeric(id, "401", [&nick, "No such nick/channel"]);
                    }
                    return Vec::new();
                }
                let mut targets = self.clients_of(other);
                if other != pid {
                    targets.extend(self.clients_of(pid));
                }
                self.relay(id, pid, &targets, &nick, &said);
                if let Some(away) = away.filter(|_| command.name == "PRIVMSG") {
                    self.numeric(id, "301", [&nick, &away]);
                }
                Vec::new()
            }
            Target::Stored(to) => {
                if transient {
                    return self.transient(id, pid, to, target, &said);
                }
                if let Conversation::Direct(Address::Mesyx(mesyx)) = &to
                    && let Some((_, person)) = self.person_named(mesyx.user.local())
                    && command.name == "PRIVMSG"
                    && let Some(away) = person.away_text().map(str::to_owned)
                {
                    let nick = person.nick.clone();
                    self.numeric(id, "301", [&nick, &away]);
                }
                self.keep(line_id, command.tags.clone(), command.pieces.clone());
                self.mine(id, line_id);
                vec![Ask::Say { to, target: target.to_owned(), id: line_id, verb, text: stored_text, quiet }]
            }
            Target::Mail(to) if transient => {
                let _ = to;
                Vec::new()
            }
            Target::Mail(to) => vec![Ask::Mail { to, text: text.to_owned() }],
            Target::Service(_) if transient => Vec::new(),
            Target::Service(MAIL_SERVICE) => vec![Ask::MailService { text: text.to_owned() }],
            Target::Service(_) => {
                let network = self.clients.get(&id).and_then(|client| client.network.clone());
                let question = link::Ask::Service { network, text: text.to_owned() };
                vec![Ask::Network { question, context: link::SERVICE_NICK.into() }]
            }
        }
    }

    /// What is not stored, to a conversation that is: typing, CTCP.
    fn transient(&mut self, id: ClientId, pid: PersonId, to: Conversation, target: &str, said: &Said<'_>) -> Asks {
        let Said { command, text, .. } = *said;
        let typing = command.tags.iter().find(|(key, _)| key == "+typing").map(|(_, state)| state.clone());
        let (Conversation::Direct(address) | Conversation::Group(address)) = &to else { return Vec::new() };
        if let Address::Irc(irc) = address {
            let (network, name) = (irc.network().to_owned(), irc.name().to_owned());
            if let Some(ctcp) = Ctcp::parse(text.as_bytes()) {
                let words = (ctcp.command, ctcp.text);
                let [command, text] = [words.0, words.1].map(|word| String::from_utf8_lossy(word).into_owned());
                let question = link::Ask::Ctcp { network, target: name, command, text };
                return vec![Ask::Network { question, context: "CTCP".into() }];
            }
            let question = typing.map(|state| link::Ask::Typing { network, target: name, state });
            return question.map(|question| Ask::Network { question, context: "TYPING".into() }).into_iter().collect();
        }
        let Some((other, person)) = self.person_named(target) else {
            if command.name != "NOTICE" {
                self.numeric(id, "401", [target, "No such nick/channel"]);
            }
            return Vec::new();
        };
        let nick = person.nick.clone();
        let mut targets = self.clients_of(other);
        if other != pid {
            targets.extend(self.clients_of(pid));
        }
        self.relay(id, pid, &targets, &nick, said);
        Vec::new()
    }

    /// Brings a message that is not stored to clients: the sender's own too, by the rules of echoes.
    fn relay(&mut self, id: ClientId, pid: PersonId, targets: &[ClientId], shown: &str, said: &Said<'_>) {
        let Said { command, text, id: line_id } = *said;
        let name = match command.name.as_str() {
            "PRIVMSG" => "PRIVMSG",
            "NOTICE" => "NOTICE",
            _ => "TAGMSG",
        };
        let mut msg = self.said_by(pid, name).arg(shown);
        msg.msgid = Some(line_id.to_string());
        msg.tags.clone_from(&command.tags);
        let text = Text { text, pieces: &command.pieces, action: false };
        let lines = |caps: Caps| if name == "TAGMSG" { vec![msg.clone()] } else { with_text(&msg, &text, caps) };
        let mut told = std::collections::BTreeSet::new();
        for to in targets.iter().copied().filter(|to| *to != id && told.insert(*to)).collect::<Vec<_>>() {
            let caps = self.caps(to);
            if !self.is_local(to) || (name == "TAGMSG" && !caps.has(caps::MESSAGE_TAGS)) {
                continue;
            }
            for line in lines(caps) {
                self.send(to, line);
            }
        }
        // One who writes to itself gets the message, which answers nothing, and the echo too (IRCv3 `labeled-response`).
        let caps = self.caps(id);
        if targets.contains(&id) && fold(shown) == fold(&self.nick_of(id)) {
            for line in lines(caps) {
                self.tell(id, &line);
            }
        }
        if caps.has(caps::ECHO_MESSAGE) {
            for line in lines(caps) {
                self.send(id, line);
            }
        }
    }

    fn mine(&mut self, id: ClientId, line: MessageId) {
        if let Some(client) = self.clients.get_mut(&id) {
            if client.mine.len() >= 128 {
                client.mine.pop_front();
            }
            client.mine.push_back(line);
        }
    }

    /// A line could not be said.
    pub(super) fn unsaid(&mut self, id: ClientId, target: &str, error: &Error) {
        let shown = if target.contains(' ') { "*" } else { target };
        let channel = channel_like(target);
        match error.kind() {
            ErrorKind::NotFound if channel => self.numeric(id, "403", [shown, "No such channel"]),
            ErrorKind::NotFound => self.numeric(id, "401", [shown, "No such nick/channel"]),
            // RFC 2812, section 5.1: what may succeed later was not processed.
            kind if kind.is_temporary() => {
                self.numeric(id, "263", ["PRIVMSG", &format!("Not sent to {shown}: {}", error.message())]);
            }
            _ if channel => self.numeric(id, "404", [shown, &format!("Cannot send to channel: {}", error.message())]),
            _ => self.numeric(id, "401", [shown, &format!("Not sent: {}", error.message())]),
        }
    }

    /// Text from one of the services. `*otr` speaks by NOTICE, as it does in stored lines: its words are about other conversations.
    pub(super) fn service_says(&mut self, id: ClientId, service: &str, lines: &[String]) {
        let source = format!("{service}!{}@{}", service.trim_start_matches('*'), self.facts.server);
        let nick = self.nick_of(id);
        let command = if service == link::SERVICE_NICK { "NOTICE" } else { "PRIVMSG" };
        for line in lines {
            let msg = Msg::new(source.clone(), command).arg(nick.clone());
            for piece in with_text(&msg, &Text { text: line, ..Text::default() }, Caps::NONE) {
                self.send(id, piece);
            }
        }
    }

    /// Sends a TAGMSG with `+typing` to one client.
    pub(super) fn typing(&mut self, id: ClientId, source: String, target: &str, state: &str) {
        if self.caps(id).has(caps::MESSAGE_TAGS) && matches!(state, "active" | "paused" | "done") {
            let mut msg = Msg::new(source, "TAGMSG").arg(target);
            msg.tags.push(("+typing".into(), state.to_owned()));
            self.send(id, msg);
        }
    }
}
