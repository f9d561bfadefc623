//! People: who comes, who goes, and what others are told of it.

use super::ask::Asks;
use super::commands::Command;
use super::msg::Msg;
use super::names::{self, fold};
use super::{Caps, ClientId, MOST_WAS, Person, PersonId, Server, Was, caps};
use crate::link;
use mesyx_sdk::{Timestamp, User};
use ring::hmac;
use std::collections::{BTreeSet, HashMap, HashSet};

impl Person {
    /// The user modes that are set.
    pub(super) fn mode_word(&self) -> String {
        format!("+{}{}", if self.bot { "B" } else { "" }, if self.invisible { "i" } else { "" })
    }

    /// No client is connected: a user who is a member of groups all the same.
    pub(super) fn absent(&self) -> bool {
        self.clients.is_empty()
    }

    pub(super) fn away_text(&self) -> Option<&str> {
        if self.absent() { Some("not connected") } else { self.away.as_deref() }
    }
}

impl Server {
    /// What a guest's address is shown as: the same for one address as long as the server runs.
    pub(super) fn cloak(&self, id: ClientId) -> String {
        let ip = self.clients.get(&id).map_or_else(String::new, |client| client.ip.to_string());
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.facts.cloak);
        let tag = hmac::sign(&key, ip.as_bytes());
        let hex: String = tag.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        format!("{hex}.guest")
    }

    /// The person of an account, made where there is none.
    pub(super) fn account(&mut self, name: &str, real: Option<String>) -> PersonId {
        if let Some(pid) = self.accounts.get(&fold(name)) {
            return *pid;
        }
        if let Some(pid) = self.nicks.get(&fold(name)).copied() {
            // Somebody had the name before there was an account of it.
            let own = self.people.get(&pid).and_then(|person| person.account.clone());
            let number = self.fresh();
            self.rename(pid, &own.unwrap_or_else(|| format!("Guest{number}")));
        }
        let pid = self.fresh();
        let person = Person {
            nick: name.to_owned(),
            user: name.to_owned(),
            host: self.facts.domain.to_string(),
            real: real.unwrap_or_else(|| name.to_owned()),
            account: Some(name.to_owned()),
            clients: Vec::new(),
            channels: BTreeSet::new(),
            away: None,
            invisible: false,
            bot: false,
            since: self.now,
            spoke: self.now,
            invited: HashSet::new(),
            markers: HashMap::new(),
        };
        self.people.insert(pid, person);
        self.nicks.insert(fold(name), pid);
        self.accounts.insert(fold(name), pid);
        pid
    }

    /// One more client of a user. The first one brings the nick, where it is free; the others share it.
    pub(super) fn attach(&mut self, user: &User, id: ClientId, real: String, nick: Option<&str>) -> PersonId {
        let pid = self.account(&user.name, None);
        let now = self.now;
        let first = self.people.get(&pid).is_some_and(|person| person.clients.is_empty());
        if let Some(nick) = nick.filter(|nick| first && !self.is_held(nick, Some(pid))) {
            self.rename(pid, nick);
        }
        let Some(person) = self.people.get_mut(&pid) else { return pid };
        let came = person.clients.is_empty();
        person.clients.push(id);
        if !real.is_empty() {
            person.real = real;
        }
        if came {
            (person.since, person.spoke) = (now, now);
            let nick = person.nick.clone();
            self.tell_away(pid);
            self.tell_online(&nick, true);
        }
        pid
    }

    /// A client of a person is gone.
    pub(super) fn detach(&mut self, pid: PersonId, id: ClientId, reason: &str) {
        let Some(person) = self.people.get_mut(&pid) else { return };
        person.clients.retain(|client| *client != id);
        if !person.clients.is_empty() {
            return;
        }
        if person.account.is_some() {
            // A user stays a member; whoever shares a channel sees the user away.
            person.away = None;
            let nick = person.nick.clone();
            self.tell_away(pid);
            self.tell_online(&nick, false);
            self.drop_if_gone(pid);
            // The nick goes with the last client; members know the user by the login name then.
            if let Some(name) = self.people.get(&pid).and_then(|person| person.account.clone()) {
                self.rename(pid, &name);
            }
            return;
        }
        let msg = self.said_by(pid, "QUIT").arg(reason);
        self.tell_neighbours(pid, &msg, Caps::NONE);
        self.remember(pid);
        let Some(person) = self.people.remove(&pid) else { return };
        self.nicks.remove(&fold(&person.nick));
        for key in person.channels {
            self.leave(pid, &key);
        }
        self.tell_online(&person.nick, false);
    }

    /// Forgets a user who has neither clients nor groups.
    pub(super) fn drop_if_gone(&mut self, pid: PersonId) {
        if self.people.get(&pid).is_some_and(|person| person.clients.is_empty() && person.channels.is_empty()) {
            self.remember(pid);
            if let Some(person) = self.people.remove(&pid) {
                self.nicks.remove(&fold(&person.nick));
                self.accounts.retain(|_, of| *of != pid);
            }
        }
    }

    /// Takes a person out of a channel; a channel without members is gone.
    pub(super) fn leave(&mut self, pid: PersonId, key: &str) {
        if let Some(person) = self.people.get_mut(&pid) {
            person.channels.remove(key);
        }
        if let Some(channel) = self.channels.get_mut(key) {
            channel.members.remove(&pid);
            if channel.members.is_empty() && channel.group.as_ref().is_none_or(|group| group.members.is_empty()) {
                self.channels.remove(key);
            }
        }
    }

    /// WHOWAS will know of it.
    fn remember(&mut self, pid: PersonId) {
        let Some(person) = self.people.get(&pid) else { return };
        let was = Was {
            nick: person.nick.clone(),
            user: person.user.clone(),
            host: person.host.clone(),
            real: person.real.clone(),
            at: self.now,
        };
        if self.was.len() >= MOST_WAS {
            self.was.pop_back();
        }
        self.was.push_front(was);
    }

    /// A line that a person causes, with the account and bot tags.
    pub(super) fn said_by(&self, pid: PersonId, command: &'static str) -> Msg {
        let Some(person) = self.people.get(&pid) else { return self.own_msg(command) };
        let mut msg = Msg::new(person.mask(), command);
        msg.account = person.account.clone();
        msg.bot = person.bot;
        msg
    }

    /// A new nick, which is free. Whoever is bound to a network outside goes by the nick there.
    pub(super) fn rename(&mut self, pid: PersonId, nick: &str) {
        let Some((old, here)) = self.people.get(&pid).map(|person| (person.nick.clone(), !person.absent())) else {
            return;
        };
        if old == nick {
            return;
        }
        let msg = self.said_by(pid, "NICK").arg(nick);
        for id in self.clients_of(pid) {
            if self.is_local(id) {
                self.send(id, msg.clone());
            }
        }
        self.tell_neighbours(pid, &msg, Caps::NONE);
        let other = here && fold(&old) != fold(nick);
        if other {
            self.remember(pid);
            self.tell_online(&old, false);
        }
        self.nicks.remove(&fold(&old));
        self.nicks.insert(fold(nick), pid);
        if let Some(person) = self.people.get_mut(&pid) {
            person.nick = nick.to_owned();
        }
        self.written.clear();
        if other {
            self.tell_online(nick, true);
        }
    }

    pub(super) fn away(&mut self, id: ClientId, command: &Command) -> Asks {
        let Some((pid, _)) = self.person_of(id) else { return Vec::new() };
        let text = command.get(0).map(|text| names::cut(text, names::TEXT));
        if let Some(person) = self.people.get_mut(&pid) {
            person.away.clone_from(&text);
        }
        if text.is_some() {
            self.numeric(id, "306", ["You have been marked as being away"]);
        } else {
            self.numeric(id, "305", ["You are no longer marked as being away"]);
        }
        self.tell_away(pid);
        if self.clients.get(&id).is_none_or(|client| client.user.is_none()) {
            return Vec::new();
        }
        vec![super::Ask::Network { question: link::Ask::Away { network: None, text }, context: "AWAY".into() }]
    }

    /// IRCv3 `away-notify`, and `extended-monitor`.
    pub(super) fn tell_away(&mut self, pid: PersonId) {
        let Some(person) = self.people.get(&pid) else { return };
        let (text, nick) = (person.away_text().map(str::to_owned), person.nick.clone());
        let mut msg = self.said_by(pid, "AWAY");
        msg.params.extend(text);
        let near = self.neighbours(pid);
        self.tell_neighbours(pid, &msg, caps::AWAY_NOTIFY);
        let watchers = self.monitored.get(&fold(&nick)).cloned().unwrap_or_default();
        for id in watchers.difference(&near) {
            if self.caps(*id).has(caps::AWAY_NOTIFY.with(caps::EXTENDED_MONITOR)) {
                self.send(*id, msg.clone());
            }
        }
    }

    pub(super) fn setname(&mut self, id: ClientId, command: &Command) {
        let Some(real) = command.get(0) else {
            self.fail(id, "SETNAME", "INVALID_REALNAME", &[], "A real name must not be empty");
            return;
        };
        if real.len() > names::TEXT {
            self.fail(id, "SETNAME", "INVALID_REALNAME", &[], "The real name is too long");
            return;
        }
        let Some((pid, _)) = self.person_of(id) else { return };
        if let Some(person) = self.people.get_mut(&pid) {
            person.real = real.to_owned();
        }
        let msg = self.said_by(pid, "SETNAME").arg(real);
        for own in self.clients_of(pid) {
            if self.caps(own).has(caps::SETNAME) {
                self.send(own, msg.clone());
            }
        }
        self.tell_neighbours(pid, &msg, caps::SETNAME);
    }

    /// Tells those who monitor a nick that it came or went (numerics 730 and 731).
    pub(super) fn tell_online(&mut self, nick: &str, online: bool) {
        let Some(watchers) = self.monitored.get(&fold(nick)).cloned() else { return };
        let shown = match self.person_here(nick).filter(|_| online) {
            Some(person) => person.mask(),
            None => nick.to_owned(),
        };
        for id in watchers {
            self.numeric(id, if online { "730" } else { "731" }, [&shown]);
        }
    }

    pub(super) fn monitor(&mut self, id: ClientId, command: &Command) {
        let sub = command.get(0).unwrap_or_default().to_ascii_uppercase();
        let targets: Vec<String> =
            command.get(1).unwrap_or_default().split(',').filter(|t| !t.is_empty()).map(str::to_owned).collect();
        let mut refused = Vec::new();
        let mut shown = Vec::new();
        match sub.as_str() {
            "+" => {
                for target in targets {
                    if target.contains(['*', '?', '!', '@', ' ']) {
                        continue;
                    }
                    let key = fold(&target);
                    let Some(client) = self.clients.get_mut(&id) else { return };
                    if client.monitors.len() >= super::MOST_MONITORED && !client.monitors.contains_key(&key) {
                        refused.push(target);
                        continue;
                    }
                    client.monitors.insert(key.clone(), target.clone());
                    self.monitored.entry(key).or_default().insert(id);
                    shown.push(target);
                }
            }
            "-" => {
                for target in targets {
                    self.unmonitor(id, &fold(&target));
                }
            }
            "C" => {
                let all: Vec<String> =
                    self.clients.get(&id).map_or_else(Vec::new, |client| client.monitors.keys().cloned().collect());
                for key in all {
                    self.unmonitor(id, &key);
                }
            }
            "L" => {
                for some in self.monitors(id).chunks(10) {
                    self.numeric(id, "732", [&some.join(",")]);
                }
                self.numeric(id, "733", ["End of MONITOR list"]);
            }
            "S" => {
                shown = self.monitors(id);
            }
            _ => {}
        }
        let (mut online, mut offline) = (Vec::new(), Vec::new());
        for target in shown {
            match self.person_here(&target) {
                Some(person) => online.push(person.mask()),
                None => offline.push(target),
            }
        }
        for (numeric, list) in [("730", online), ("731", offline)] {
            for some in list.chunks(4) {
                self.numeric(id, numeric, [&some.join(",")]);
            }
        }
        if !refused.is_empty() {
            let most = super::MOST_MONITORED.to_string();
            self.numeric(id, "734", [&most, &refused.join(","), "Monitor list is full"]);
        }
    }

    /// Whom a client monitors, each as it was written.
    fn monitors(&self, id: ClientId) -> Vec<String> {
        self.clients.get(&id).map_or_else(Vec::new, |client| client.monitors.values().cloned().collect())
    }

    fn unmonitor(&mut self, id: ClientId, key: &str) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.monitors.remove(key);
        }
        if let Some(watchers) = self.monitored.get_mut(key) {
            watchers.remove(&id);
            if watchers.is_empty() {
                self.monitored.remove(key);
            }
        }
    }

    /// When a person last spoke.
    pub(super) fn spoke(&mut self, pid: PersonId) {
        let now: Timestamp = self.now;
        if let Some(person) = self.people.get_mut(&pid) {
            person.spoke = now;
        }
    }
}
