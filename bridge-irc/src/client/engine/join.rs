//! JOIN, PART, KICK, INVITE, TOPIC.

use super::ask::{Ask, Asks};
use super::channel::Channel;
use super::commands::Command;
use super::names::{self, fold, is_channel};
use super::{Caps, ClientId, PersonId, Server, caps};
use mesyx_sdk::{Conversation, GroupChange};

impl Server {
    pub(super) fn join(&mut self, id: ClientId, command: &Command) -> Asks {
        let mut asks = Vec::new();
        if command.get(0) == Some("0") {
            let all = self
                .person_of(id)
                .map_or_else(Vec::new, |(_, person)| person.channels.iter().cloned().collect::<Vec<_>>());
            for key in all {
                asks.extend(self.part_one(id, &key, "Left all channels"));
            }
            return asks;
        }
        let mut keys = command.params.get(1).map(|keys| keys.split(',')).into_iter().flatten();
        let names: Vec<String> =
            command.params[0].split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        for name in names {
            let password = keys.next().filter(|key| !key.is_empty()).map(str::to_owned);
            asks.extend(self.join_one(id, &name, password));
        }
        asks
    }

    fn join_one(&mut self, id: ClientId, name: &str, password: Option<String>) -> Asks {
        let Some((pid, person)) = self.person_of(id) else { return Vec::new() };
        if !is_channel(name) {
            let shown = if name.contains(' ') || name.starts_with(':') { "*" } else { name };
            self.numeric(id, "403", [shown, "No such channel"]);
            return Vec::new();
        }
        let (key, account) = (fold(name), person.account.is_some());
        if person.channels.contains(&key) {
            return Vec::new();
        }
        // Those that were made when names could be longer are there still.
        if name.len() > self.facts.channel_name && !self.channels.contains_key(&key) {
            self.numeric(id, "403", [name, "No such channel: the name is too long"]);
            return Vec::new();
        }
        if person.channels.len() >= self.facts.channels {
            self.numeric(id, "405", [name, "You have joined too many channels"]);
            return Vec::new();
        }
        let invited = person.invited.contains(&key);
        if let Some(channel) = self.channels.get(&key) {
            let refused = if channel.banned(person) && !invited {
                Some(("474", "Cannot join channel (+b)"))
            } else if channel.has('i') && !invited && !channel.welcome(person) {
                Some(("473", "Cannot join channel (+i)"))
            } else if channel.modes.get(&'k').is_some_and(|key| Some(key) != password.as_ref()) && !invited {
                Some(("475", "Cannot join channel (+k)"))
            } else if channel
                .modes
                .get(&'l')
                .and_then(|most| most.parse().ok())
                .is_some_and(|most: usize| channel.members.len() >= most)
                && !invited
            {
                Some(("471", "Cannot join channel (+l)"))
            } else {
                None
            };
            if let Some((numeric, text)) = refused {
                let name = channel.name.clone();
                self.numeric(id, numeric, [&name, text]);
                return Vec::new();
            }
        }
        if account {
            return vec![Ask::Change { group: name.to_owned(), change: GroupChange::Join { key: password } }];
        }
        self.enter_channel(pid, name);
        Vec::new()
    }

    /// A guest comes into a channel.
    fn enter_channel(&mut self, pid: PersonId, name: &str) {
        let key = fold(name);
        let now = self.now;
        let channel = self.channels.entry(key.clone()).or_insert_with(|| Channel::new(name, now));
        let first = channel.members.is_empty() && channel.group.is_none();
        let standing = super::channel::Standing { operator: first, ..Default::default() };
        channel.members.insert(pid, standing);
        if let Some(person) = self.people.get_mut(&pid) {
            person.channels.insert(key.clone());
            person.invited.remove(&key);
        }
        self.tell_join(pid, &key, None);
        for id in self.clients_of(pid) {
            self.show_channel(id, &key);
        }
    }

    /// Tells members (or one client) that somebody joined.
    pub(super) fn tell_join(&mut self, pid: PersonId, key: &str, only: Option<ClientId>) {
        let Some(channel) = self.channels.get(key) else { return };
        let Some(person) = self.people.get(&pid) else { return };
        let name = channel.name.clone();
        let plain = self.said_by(pid, "JOIN").arg(name.clone());
        let account = person.account.clone().unwrap_or_else(|| "*".into());
        let extended = plain.clone().arg(account).arg(person.real.clone());
        let away = person.away_text().map(|text| self.said_by(pid, "AWAY").arg(text));
        let targets: Vec<ClientId> = match only {
            Some(id) => vec![id],
            None => channel.members.keys().flat_map(|member| self.clients_of(*member)).collect(),
        };
        for id in targets.into_iter().filter(|id| self.is_local(*id)).collect::<Vec<_>>() {
            let caps = self.caps(id);
            self.send(id, if caps.has(caps::EXTENDED_JOIN) { extended.clone() } else { plain.clone() });
            let own = self.clients.get(&id).and_then(|client| client.person) == Some(pid);
            if let Some(away) = away.as_ref().filter(|_| caps.has(caps::AWAY_NOTIFY) && !own) {
                self.send(id, away.clone());
            }
        }
    }

    /// What a client is told of a channel that it is in, once it knows that it joined: topic and names.
    pub(super) fn show_channel(&mut self, id: ClientId, key: &str) {
        let Some(channel) = self.channels.get(key) else { return };
        let name = channel.name.clone();
        let guest = self.person_of(id).filter(|(_, person)| person.account.is_none());
        if self.caps(id).has(caps::READ_MARKER)
            && let Some((_, person)) = guest
        {
            let read = person.markers.get(key).copied();
            self.tell_marker(id, &name, read);
        }
        let Some(channel) = self.channels.get(key) else { return };
        if channel.topic.is_some() {
            self.show_topic(id, key);
        }
        if !self.caps(id).has(caps::NO_IMPLICIT_NAMES) {
            self.show_names(id, key, &name);
        }
    }

    /// A client that connects is told of a channel that its person is in.
    pub(super) fn show_joined(&mut self, id: ClientId, key: &str) -> Asks {
        let (Some((pid, _)), Some(address)) = (self.person_of(id), self.local_address(key)) else { return Vec::new() };
        self.tell_join(pid, key, Some(id));
        self.after_join(id, key, &Conversation::Group(address))
    }

    fn show_topic(&mut self, id: ClientId, key: &str) {
        let Some(channel) = self.channels.get(key) else { return };
        let name = channel.name.clone();
        match channel.topic.clone() {
            Some((topic, by, at)) => {
                self.numeric(id, "332", [&name, &topic]);
                self.numeric(id, "333", [&name, &by, &at.seconds().to_string()]);
            }
            None => self.numeric(id, "331", [&name, "No topic is set"]),
        }
    }

    pub(super) fn part(&mut self, id: ClientId, command: &Command) -> Asks {
        let reason = names::cut(command.get(1).unwrap_or_default(), names::TEXT);
        let names: Vec<String> =
            command.params[0].split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let mut asks = Vec::new();
        for name in names {
            asks.extend(self.part_one(id, &name, &reason));
        }
        asks
    }

    fn part_one(&mut self, id: ClientId, name: &str, reason: &str) -> Asks {
        let key = fold(name);
        let Some((pid, standing, shown)) = self.place(id, name) else { return Vec::new() };
        if standing.is_none() {
            self.numeric(id, "442", [&shown, "You're not on that channel"]);
            return Vec::new();
        }
        if self.people.get(&pid).is_some_and(|person| person.account.is_some()) {
            return vec![Ask::Change { group: shown, change: GroupChange::Leave { reason: reason.to_owned() } }];
        }
        let mut msg = self.said_by(pid, "PART").arg(shown);
        if !reason.is_empty() {
            msg = msg.arg(reason);
        }
        self.tell_channel(&key, &msg, None, Caps::NONE);
        self.leave(pid, &key);
        Vec::new()
    }

    /// Where a client stands in a channel; tells it 403 where there is none.
    pub(super) fn place(
        &mut self,
        id: ClientId,
        name: &str,
    ) -> Option<(PersonId, Option<super::channel::Standing>, String)> {
        let (pid, _) = self.person_of(id)?;
        let found = self.channels.get(&fold(name)).map(|channel| (channel.standing(pid), channel.name.clone()));
        match found {
            Some((standing, shown)) => Some((pid, standing, shown)),
            None => {
                let shown = if name.is_empty() || name.contains(' ') || name.starts_with(':') { "*" } else { name };
                self.numeric(id, "403", [shown, "No such channel"]);
                None
            }
        }
    }

    pub(super) fn kick(&mut self, id: ClientId, command: &Command) -> Asks {
        let list = |at: usize| command.params[at].split(',').filter(|word| !word.is_empty()).collect::<Vec<_>>();
        let (channels, nicks) = (list(0), list(1));
        // RFC 2812, section 3.2.8: one channel and any number of nicks, or as many channels as nicks.
        let mut asks = Vec::new();
        match channels.as_slice() {
            [channel] => return self.kick_from(id, channel, &nicks, command.get(2)),
            _ if channels.len() == nicks.len() => {
                for (channel, nick) in channels.into_iter().zip(nicks) {
                    asks.extend(self.kick_from(id, channel, &[nick], command.get(2)));
                }
            }
            _ => self.numeric(id, "461", ["KICK", "Not enough parameters"]),
        }
        asks
    }

    fn kick_from(&mut self, id: ClientId, name: &str, nicks: &[&str], reason: Option<&str>) -> Asks {
        let Some((pid, standing, shown)) = self.place(id, name) else { return Vec::new() };
        let Some(standing) = standing else {
            self.numeric(id, "442", [&shown, "You're not on that channel"]);
            return Vec::new();
        };
        if !standing.may_operate() {
            self.numeric(id, "482", [&shown, "You're not channel operator"]);
            return Vec::new();
        }
        let key = fold(&shown);
        let own = self.people.get(&pid).map_or_else(String::new, |person| person.nick.clone());
        let reason = names::cut(reason.unwrap_or(&own), names::TEXT);
        let mut asks = Vec::new();
        for nick in nicks.iter().copied() {
            let Some((target, person)) = self.person_named(nick) else {
                self.numeric(id, "401", [nick, "No such nick/channel"]);
                continue;
            };
            let (nick, account) = (person.nick.clone(), person.account.clone());
            let Some(their) = self.channels.get(&key).and_then(|channel| channel.standing(target)) else {
                self.numeric(id, "441", [&nick, &shown, "They aren't on that channel"]);
                continue;
            };
            if their.founder && !standing.founder {
                self.numeric(id, "482", [&shown, "The founder can't be removed"]);
                continue;
            }
            if let Some(member) = account {
                let change = GroupChange::Kick { member, reason: reason.clone() };
                asks.push(Ask::Change { group: shown.clone(), change });
                continue;
            }
            let msg = self.said_by(pid, "KICK").arg(shown.clone()).arg(nick).arg(reason.clone());
            self.tell_channel(&key, &msg, None, Caps::NONE);
            self.leave(target, &key);
        }
        asks
    }

    pub(super) fn invite(&mut self, id: ClientId, command: &Command) -> Asks {
        let Some((_, person)) = self.person_of(id) else { return Vec::new() };
        let (Some(nick), Some(name)) = (command.get(0), command.get(1)) else {
            if command.get(0).is_some() {
                self.numeric(id, "461", ["INVITE", "Not enough parameters"]);
                return Vec::new();
            }
            let all: Vec<String> = person.invited.iter().cloned().collect();
            for channel in all {
                self.numeric(id, "336", [&channel]);
            }
            self.numeric(id, "337", ["End of /INVITE list"]);
            return Vec::new();
        };
        let target =
            self.person_named(nick).map(|(target, person)| (target, person.nick.clone(), person.account.clone()));
        let own_account = person.account.is_some();
        if target.is_none() && (!own_account || nick.contains(['/', '@'])) {
            self.numeric(id, "401", [nick, "No such nick/channel"]);
            return Vec::new();
        }
        let Some((pid, standing, shown)) = self.place(id, name) else { return Vec::new() };
        let key = fold(&shown);
        let Some(standing) = standing else {
            self.numeric(id, "442", [&shown, "You're not on that channel"]);
            return Vec::new();
        };
        let Some(channel) = self.channels.get(&key) else { return Vec::new() };
        if channel.has('i') && !standing.may_operate() {
            self.numeric(id, "482", [&shown, "You're not channel operator"]);
            return Vec::new();
        }
        if let Some((target, nick, _)) = &target
            && channel.standing(*target).is_some()
        {
            self.numeric(id, "443", [nick, &shown, "is already on channel"]);
            return Vec::new();
        }
        let is_group = channel.group.is_some();
        if is_group && own_account && target.as_ref().is_none_or(|(.., account)| account.is_some()) {
            let user = target.and_then(|(.., account)| account).unwrap_or_else(|| nick.to_owned());
            return vec![Ask::Change { group: shown, change: GroupChange::Invite { user } }];
        }
        let Some((target, nick, _)) = target else {
            self.numeric(id, "401", [nick, "No such nick/channel"]);
            return Vec::new();
        };
        let Some(person) = self.people.get_mut(&target) else { return Vec::new() };
        person.invited.insert(key.clone());
        let away = person.away_text().map(str::to_owned);
        self.numeric(id, "341", [&nick, &shown]);
        if let Some(away) = away {
            self.numeric(id, "301", [&nick, &away]);
        }
        let msg = self.said_by(pid, "INVITE").arg(nick).arg(shown);
        for client in self.clients_of(target) {
            self.send(client, msg.clone());
        }
        self.tell_channel(&key, &msg, Some(id), caps::INVITE_NOTIFY);
        Vec::new()
    }

    pub(super) fn topic(&mut self, id: ClientId, command: &Command) -> Asks {
        let name = command.get(0).unwrap_or_default();
        let Some((pid, standing, shown)) = self.place(id, name) else { return Vec::new() };
        let key = fold(name);
        let Some(topic) = command.params.get(1) else {
            if standing.is_none() && self.channels.get(&key).is_some_and(|channel| channel.has('s')) {
                self.numeric(id, "442", [&shown, "You're not on that channel"]);
            } else {
                self.show_topic(id, &key);
            }
            return Vec::new();
        };
        let Some(standing) = standing else {
            self.numeric(id, "442", [&shown, "You're not on that channel"]);
            return Vec::new();
        };
        if self.channels.get(&key).is_some_and(|channel| channel.has('t')) && !standing.may_operate() {
            self.numeric(id, "482", [&shown, "You're not channel operator"]);
            return Vec::new();
        }
        let topic = names::cut(topic, self.facts.topic);
        let is_group = self.channels.get(&key).is_some_and(|channel| channel.group.is_some());
        let account = self.people.get(&pid).is_some_and(|person| person.account.is_some());
        if is_group && account {
            return vec![Ask::Change { group: shown, change: GroupChange::Topic(topic) }];
        }
        if is_group {
            self.numeric(id, "482", [&shown, "Only members with an account change the topic of a group"]);
            return Vec::new();
        }
        let (by, now) = (self.people.get(&pid).map_or_else(String::new, super::Person::mask), self.now);
        if let Some(channel) = self.channels.get_mut(&key) {
            channel.topic = (!topic.is_empty()).then(|| (topic.clone(), by, now));
        }
        let msg = self.said_by(pid, "TOPIC").arg(shown).arg(topic);
        self.tell_channel(&key, &msg, None, Caps::NONE);
        Vec::new()
    }

    /// The host's answer to a change of a group. What happened is told by the live feeds; here are only refusals.
    pub(super) fn changed(&mut self, id: ClientId, group: &str, change: &GroupChange, outcome: super::ask::Outcome) {
        use mesyx_sdk::ErrorKind;
        let error = match outcome {
            Ok(super::Given::Group(state)) => {
                self.update_group(&state);
                if let GroupChange::Invite { user } = change {
                    let nick = self.nick_of_account(user);
                    self.numeric(id, "341", [&nick, &state.name]);
                    let Some((pid, _)) = self.person_of(id) else { return };
                    let msg = self.said_by(pid, "INVITE").arg(nick).arg(state.name.clone());
                    self.tell_channel(&fold(group), &msg, Some(id), caps::INVITE_NOTIFY);
                }
                return;
            }
            Ok(_) => return,
            Err(error) => error,
        };
        let text = error.message().to_owned();
        let has = |mode: &str| text.contains(mode);
        match (change, error.kind()) {
            (GroupChange::Join { .. }, ErrorKind::Forbidden) if has("(+i)") => {
                self.numeric(id, "473", [group, "Cannot join channel (+i)"])
            }
            (GroupChange::Join { .. }, ErrorKind::Forbidden) if has("(+k)") => {
                self.numeric(id, "475", [group, "Cannot join channel (+k)"])
            }
            (GroupChange::Join { .. }, ErrorKind::Forbidden) if has("(+l)") => {
                self.numeric(id, "471", [group, "Cannot join channel (+l)"])
            }
            (GroupChange::Join { .. }, ErrorKind::Forbidden) => self.numeric(id, "474", [group, &text]),
            (GroupChange::Join { .. }, ErrorKind::OverQuota) => {
                self.numeric(id, "405", [group, "You have joined too many channels"])
            }
            (GroupChange::Join { .. }, _) => self.numeric(id, "403", [group, &text]),
            (GroupChange::Invite { user }, ErrorKind::NotFound) => {
                self.numeric(id, "401", [user, "No such nick/channel"])
            }
            (GroupChange::Invite { user }, ErrorKind::Exists) => {
                let nick = self.nick_of_account(user);
                self.numeric(id, "443", [&nick, group, "is already on channel"])
            }
            (GroupChange::Kick { member, .. } | GroupChange::Rank { member, .. }, ErrorKind::NotFound) => {
                let nick = self.nick_of_account(member);
                self.numeric(id, "441", [&nick, group, "They aren't on that channel"]);
            }
            (GroupChange::List { mode, mask, .. }, ErrorKind::OverQuota) => {
                self.numeric(id, "478", [group, mask, &mode.to_string(), "Channel ban list is full"]);
            }
            (_, ErrorKind::Forbidden) => self.numeric(id, "482", [group, &text]),
            (_, ErrorKind::NotFound) => self.numeric(id, "403", [group, "No such channel"]),
            _ => self.numeric(id, "482", [group, &text]),
        }
    }
}
