//! NAMES, LIST, WHO, WHOIS, WHOWAS, ISON, USERHOST, USERIP.

use super::commands::Command;
use super::names::{channel_like, fold};
use super::{ClientId, PersonId, Server, caps};
use mesyx_irc_codec::mask;
use mesyx_sdk::address::CaseMapping;

/// Most nicks of one WHOIS or WHOWAS, as TARGMAX says.
const MOST_NICKS: usize = 4;
/// Most bytes of names in one numeric 353.
const NAMES_LINE: usize = 350;

impl Server {
    pub(super) fn names(&mut self, id: ClientId, command: &Command) {
        let Some(targets) = command.get(0) else {
            self.numeric(id, "366", ["*", "End of /NAMES list"]);
            return;
        };
        let targets: Vec<String> = targets.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        for name in targets {
            let shown = self.channels.get(&fold(&name)).map_or(name.clone(), |channel| channel.name.clone());
            self.show_names(id, &fold(&name), &shown);
        }
    }

    /// Numerics 353 and 366.
    pub(super) fn show_names(&mut self, id: ClientId, key: &str, shown: &str) {
        let viewer = self.clients.get(&id).and_then(|client| client.person).unwrap_or_default();
        let caps = self.caps(id);
        let (multi, hosts) = (caps.has(caps::MULTI_PREFIX), caps.has(caps::USERHOST_IN_NAMES));
        let mut lines = vec![String::new()];
        let mut symbol = "=";
        if let Some(channel) = self.channels.get(key).filter(|channel| channel.seen_by(viewer)) {
            if channel.has('s') {
                symbol = "@";
            }
            let inside = channel.members.contains_key(&viewer);
            for (pid, standing) in &channel.members {
                let Some(person) = self.people.get(pid) else { continue };
                if person.invisible && !inside {
                    continue;
                }
                let mut name = standing.prefixes(multi);
                name.push_str(&if hosts { person.mask() } else { person.nick.clone() });
                match lines.last_mut() {
                    Some(line) if line.is_empty() => *line = name,
                    Some(line) if line.len() + 1 + name.len() <= NAMES_LINE => {
                        line.push(' ');
                        line.push_str(&name);
                    }
                    _ => lines.push(name),
                }
            }
        }
        for line in lines.into_iter().filter(|line| !line.is_empty()) {
            self.numeric(id, "353", [symbol, shown, &line]);
        }
        self.numeric(id, "366", [shown, "End of /NAMES list"]);
    }

    pub(super) fn list(&mut self, id: ClientId, command: &Command) {
        let viewer = self.clients.get(&id).and_then(|client| client.person).unwrap_or_default();
        let conditions: Vec<String> =
            command.get(0).unwrap_or_default().split(',').filter(|c| !c.is_empty()).map(str::to_owned).collect();
        let now = self.now;
        // ELIST: C and T count minutes, U counts members; M and N are masks.
        let holds = |channel: &super::Channel, condition: &str| {
            let age = |at: mesyx_sdk::Timestamp| (now.0 - at.0) / 60_000;
            let number = |text: &str| text.parse::<i64>().unwrap_or(0);
            let members = i64::try_from(channel.members.len()).unwrap_or(i64::MAX);
            let topic = channel.topic.as_ref().map(|(.., at)| age(*at));
            if let Some(most) = condition.strip_prefix('<') {
                return members < number(most);
            }
            if let Some(least) = condition.strip_prefix('>') {
                return members > number(least);
            }
            let time = |rest: &str, age: Option<i64>| match (rest.chars().next(), age) {
                (Some('<'), Some(age)) => Some(age < number(&rest[1..])),
                (Some('>'), Some(age)) => Some(age > number(&rest[1..])),
                (Some('<' | '>'), None) => Some(false),
                _ => None,
            };
            let named = |pattern: &str| mask::matches(pattern, &channel.name, CaseMapping::Ascii);
            match condition.chars().next() {
                Some('C' | 'c') if let Some(held) = time(&condition[1..], Some(age(channel.created))) => held,
                Some('T' | 't') if let Some(held) = time(&condition[1..], topic) => held,
                Some('!') => !named(&condition[1..]),
                _ => named(condition),
            }
        };
        let masks_any: Vec<&String> = conditions.iter().filter(|c| c.starts_with(['#', '*', '?'])).collect();
        let rows: Vec<(String, usize, String)> = self
            .channels
            .values()
            .filter(|channel| channel.seen_by(viewer))
            .filter(|channel| {
                let others = conditions.iter().filter(|c| !masks_any.contains(c));
                others.clone().all(|condition| holds(channel, condition))
                    && (masks_any.is_empty() || masks_any.iter().any(|condition| holds(channel, condition)))
            })
            .map(|channel| {
                let topic = channel.topic.as_ref().map_or_else(String::new, |(topic, ..)| topic.clone());
                (channel.name.clone(), channel.members.len(), topic)
            })
            .collect();
        self.numeric(id, "321", ["Channel", "Users  Name"]);
        for (name, members, topic) in rows {
            self.numeric(id, "322", [&name, &members.to_string(), &topic]);
        }
        self.numeric(id, "323", ["End of /LIST"]);
    }

    /// Whether a person may be shown to a client that names it by a mask only.
    fn visible(&self, viewer: PersonId, other: PersonId) -> bool {
        let Some(person) = self.people.get(&other) else { return false };
        viewer == other
            || !person.invisible
            || self.people.get(&viewer).is_some_and(|own| !own.channels.is_disjoint(&person.channels))
    }

    pub(super) fn who(&mut self, id: ClientId, command: &Command) {
        let Some((viewer, _)) = self.person_of(id) else { return };
        let wanted = command.get(0).unwrap_or("*").to_owned();
        let option = command.get(1).unwrap_or_default().to_owned();
        let mut found: Vec<(PersonId, Option<String>)> = Vec::new();
        let operators = option.split('%').next().unwrap_or_default().contains('o');
        if operators {
            // RFC 2812, section 3.6.1: operators of the network only, and there are none.
        } else if channel_like(&wanted) {
            let key = fold(&wanted);
            if let Some(channel) = self.channels.get(&key).filter(|channel| channel.seen_by(viewer)) {
                let inside = channel.members.contains_key(&viewer);
                let seen = channel.members.keys().filter(|pid| inside || self.visible(viewer, **pid));
                found = seen.map(|pid| (*pid, Some(key.clone()))).collect();
            }
        } else {
            let any = wanted == "*" || wanted == "0";
            let exact = self.person_named(&wanted).map(|(pid, _)| pid);
            let matches = |text: &str| mask::matches(&wanted, text, CaseMapping::Ascii);
            let mut all: Vec<PersonId> = match exact {
                Some(pid) => vec![pid],
                None => self
                    .people
                    .iter()
                    .filter(|(pid, person)| {
                        self.visible(viewer, **pid)
                            && (any
                                || [&person.nick, &person.user, &person.host, &person.real, &self.facts.server]
                                    .iter()
                                    .any(|text| matches(text)))
                    })
                    .map(|(pid, _)| *pid)
                    .collect(),
            };
            all.sort_unstable();
            all.truncate(500);
            let shared = |pid: PersonId| {
                let channels = &self.people.get(&pid)?.channels;
                channels
                    .iter()
                    .find(|key| self.channels.get(*key).is_some_and(|channel| channel.seen_by(viewer)))
                    .cloned()
            };
            found = all.into_iter().map(|pid| (pid, shared(pid))).collect();
        }
        let (fields, token) = match option.split_once('%') {
            Some((_, rest)) => {
                let (fields, token) = rest.split_once(',').unwrap_or((rest, "0"));
                (Some(fields.to_owned()), token.to_owned())
            }
            None => (None, String::new()),
        };
        for (pid, key) in found {
            self.who_row(id, viewer, pid, key.as_deref(), fields.as_deref(), &token);
        }
        let mask = if wanted.contains(' ') { "*".to_owned() } else { wanted };
        self.numeric(id, "315", [&mask, "End of WHO list"]);
    }

    fn who_row(
        &mut self,
        id: ClientId,
        viewer: PersonId,
        pid: PersonId,
        key: Option<&str>,
        fields: Option<&str>,
        token: &str,
    ) {
        let Some(person) = self.people.get(&pid) else { return };
        let channel = key.and_then(|key| self.channels.get(key));
        let shown = channel.map_or_else(|| "*".to_owned(), |channel| channel.name.clone());
        let multi = self.caps(id).has(caps::MULTI_PREFIX);
        let standing =
            channel.and_then(|channel| channel.standing(pid)).map_or_else(String::new, |s| s.prefixes(multi));
        let here = if person.away_text().is_some() { "G" } else { "H" };
        let flags = format!("{here}{}{standing}", if person.bot { "B" } else { "" });
        let ip = match person.clients.first().and_then(|client| self.clients.get(client)) {
            Some(client) if viewer == pid => client.ip.to_string(),
            _ => "255.255.255.255".to_owned(),
        };
        let idle = ((self.now.0 - person.spoke.0).max(0) / 1000).to_string();
        let mut msg = self.own_msg(if fields.is_some() { "354" } else { "352" }).arg(self.nick_of(id));
        let server = self.facts.server.clone();
        if let Some(fields) = fields {
            for field in "tcuihsnfdlaor".chars().filter(|field| fields.contains(*field)) {
                msg = msg.arg(match field {
                    't' => token.to_owned(),
                    'c' => shown.clone(),
                    'u' => person.user.clone(),
                    'i' => {
                        if ip.starts_with(':') {
                            format!("0{ip}")
                        } else {
                            ip.clone()
                        }
                    }
                    'h' => person.host.clone(),
                    's' => server.clone(),
                    'n' => person.nick.clone(),
                    'f' => flags.clone(),
                    'd' => "0".to_owned(),
                    'l' => idle.clone(),
                    'a' => person.account.clone().unwrap_or_else(|| "0".into()),
                    'o' => "n/a".to_owned(),
                    _ => person.real.clone(),
                });
            }
        } else {
            let words = [shown, person.user.clone(), person.host.clone(), server, person.nick.clone(), flags];
            msg.params.extend(words);
            msg = msg.arg(format!("0 {}", person.real));
        }
        self.send(id, msg);
    }

    pub(super) fn whois(&mut self, id: ClientId, command: &Command) {
        let nicks = match (command.get(0), command.get(1)) {
            (server, Some(nicks)) if self.for_us(id, server) => nicks.to_owned(),
            (Some(nicks), None) => nicks.to_owned(),
            (_, Some(_)) => return,
            (None, None) => String::new(),
        };
        let nicks: Vec<&str> = nicks.split(',').filter(|nick| !nick.is_empty()).take(MOST_NICKS).collect();
        if nicks.is_empty() {
            self.numeric(id, "431", ["No nickname given"]);
        }
        for nick in nicks {
            self.whois_one(id, nick);
        }
    }

    fn whois_one(&mut self, id: ClientId, nick: &str) {
        let Some((viewer, _)) = self.person_of(id) else { return };
        let Some((pid, person)) = self.person_named(nick) else {
            let shown = if nick.contains(' ') || nick.starts_with(':') { "*" } else { nick };
            self.numeric(id, "401", [shown, "No such nick/channel"]);
            self.numeric(id, "318", [shown, "End of /WHOIS list"]);
            return;
        };
        let multi = self.caps(id).has(caps::MULTI_PREFIX);
        let (nick, user, host, real) =
            (person.nick.clone(), person.user.clone(), person.host.clone(), person.real.clone());
        let (account, away, bot) = (person.account.clone(), person.away_text().map(str::to_owned), person.bot);
        let idle = ((self.now.0 - person.spoke.0).max(0) / 1000).to_string();
        let since = person.since.seconds().to_string();
        let own = self.people.get(&viewer).map_or_else(Default::default, |own| own.channels.clone());
        let channels: Vec<String> = person
            .channels
            .iter()
            .filter(|key| !person.invisible || viewer == pid || own.contains(*key))
            .filter_map(|key| self.channels.get(key))
            .filter(|channel| channel.seen_by(viewer))
            .map(|channel| {
                let prefixes = channel.standing(pid).map_or_else(String::new, |standing| standing.prefixes(multi));
                format!("{prefixes}{}", channel.name)
            })
            .collect();
        let secure = !person.clients.is_empty()
            && person.clients.iter().all(|client| self.clients.get(client).is_some_and(|client| client.tls));
        let ip = person.clients.first().and_then(|client| self.clients.get(client)).map(|client| client.ip.to_string());
        let (absent, modes) = (person.absent(), person.mode_word());
        let server = self.facts.server.clone();
        self.numeric(id, "311", [&nick, &user, &host, "*", &real]);
        let mut line = String::new();
        for channel in channels {
            if line.len() + channel.len() > 380 {
                self.numeric(id, "319", [&nick, line.trim_end()]);
                line.clear();
            }
            line.push_str(&channel);
            line.push(' ');
        }
        if !line.is_empty() {
            self.numeric(id, "319", [&nick, line.trim_end()]);
        }
        self.numeric(id, "312", [&nick, &server, "Mesyx"]);
        if let Some(away) = away {
            self.numeric(id, "301", [&nick, &away]);
        }
        if let Some(account) = account {
            self.numeric(id, "330", [&nick, &account, "is logged in as"]);
        }
        if bot {
            self.numeric(id, "335", [&nick, "is a bot"]);
        }
        if let Some(ip) = ip.filter(|_| viewer == pid) {
            self.numeric(id, "378", [&nick, &format!("is connecting from *@{ip} {ip}")]);
            self.numeric(id, "379", [&nick, &format!("is using modes {modes}")]);
        }
        if secure {
            self.numeric(id, "671", [&nick, "is using a secure connection"]);
        }
        if !absent {
            self.numeric(id, "317", [&nick, &idle, &since, "seconds idle, signon time"]);
        }
        self.numeric(id, "318", [&nick, "End of /WHOIS list"]);
    }

    pub(super) fn whowas(&mut self, id: ClientId, command: &Command) {
        let nicks = command.get(0).unwrap_or_default().to_owned();
        let nicks: Vec<&str> = nicks.split(',').filter(|nick| !nick.is_empty()).take(MOST_NICKS).collect();
        if nicks.is_empty() {
            self.numeric(id, "431", ["No nickname given"]);
            return;
        }
        if !self.for_us(id, command.get(2)) {
            return;
        }
        let most =
            command.get(1).and_then(|most| most.parse::<usize>().ok()).filter(|most| *most > 0).unwrap_or(usize::MAX);
        for nick in nicks {
            self.whowas_one(id, nick, most);
        }
    }

    fn whowas_one(&mut self, id: ClientId, nick: &str, most: usize) {
        let server = self.facts.server.clone();
        let all: Vec<_> = self.was.iter().filter(|was| fold(&was.nick) == fold(nick)).take(most).cloned().collect();
        let shown = if nick.contains(' ') || nick.starts_with(':') { "*" } else { nick };
        if all.is_empty() {
            self.numeric(id, "406", [shown, "There was no such nickname"]);
        }
        for was in all {
            self.numeric(id, "314", [&was.nick, &was.user, &was.host, "*", &was.real]);
            self.numeric(id, "312", [&was.nick, &server, &super::msg::stamp(was.at)]);
        }
        self.numeric(id, "369", [shown, "End of WHOWAS"]);
    }

    pub(super) fn ison(&mut self, id: ClientId, command: &Command) {
        let words = command.params.iter().flat_map(|param| param.split(' ')).filter(|word| !word.is_empty());
        let here: Vec<String> =
            words.filter_map(|nick| self.person_here(nick)).map(|person| person.nick.clone()).collect();
        let msg = self.own_msg("303").arg(self.nick_of(id)).arg(here.join(" "));
        self.send(id, msg);
    }

    pub(super) fn userhost(&mut self, id: ClientId, command: &Command) {
        self.hosts(id, command, "302", false);
    }

    pub(super) fn userip(&mut self, id: ClientId, command: &Command) {
        self.hosts(id, command, "340", true);
    }

    fn hosts(&mut self, id: ClientId, command: &Command, numeric: &'static str, ip: bool) {
        let viewer = self.clients.get(&id).and_then(|client| client.person);
        let words = command.params.iter().flat_map(|param| param.split(' ')).filter(|word| !word.is_empty()).take(5);
        let rows: Vec<String> = words
            .filter_map(|nick| self.person_named(nick).filter(|(_, person)| !person.absent()))
            .map(|(pid, person)| {
                let sign = if person.away_text().is_some() { '-' } else { '+' };
                let client = person.clients.first().and_then(|client| self.clients.get(client));
                let host = match client.filter(|_| ip && viewer == Some(pid)) {
                    Some(client) => client.ip.to_string(),
                    None if ip => "255.255.255.255".to_owned(),
                    None => person.host.clone(),
                };
                format!("{}={sign}{}@{host}", person.nick, person.user)
            })
            .collect();
        let msg = self.own_msg(numeric).arg(self.nick_of(id)).arg(rows.join(" "));
        self.send(id, msg);
    }
}
