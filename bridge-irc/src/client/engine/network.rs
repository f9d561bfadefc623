//! Networks outside, as the user's own client sees them: bound to one of them, or all beside the exchange's own channels, as
//! `#channel/network` and `nick/network`. What is asked and told is [`crate::link`]'s.

use super::ask::{Ask, Asks, Given, Outcome};
use super::commands::Command;
use super::msg::Msg;
use super::names::{channel_like, fold};
use super::{ClientId, Server, caps};
use crate::link::{self, NetworkInfo, News, Reply, Who};
use mesyx_sdk::Timestamp;
use std::collections::BTreeMap;

/// Commands that are about a channel or nick of the network that it names, and where in their parameters it stands.
fn place(command: &str) -> Option<usize> {
    Some(match command {
        "JOIN" | "PART" | "TOPIC" | "MODE" | "NAMES" | "WHO" | "WHOIS" | "WHOWAS" | "KICK" => 0,
        "INVITE" => 1,
        _ => return None,
    })
}

/// Where a nick of the network stands in a numeric (RFC 2812, section 5.1; WHOIS numerics of later servers).
fn nick_place(numeric: &str) -> Option<usize> {
    Some(match numeric {
        "301" | "307" | "311" | "312" | "313" | "314" | "317" | "318" | "319" | "320" | "330" | "335" | "338"
        | "341" | "369" | "378" | "379" | "401" | "406" | "441" | "443" | "671" => 1,
        "352" => 5,
        _ => return None,
    })
}

impl Server {
    /// A command about a network outside; `None` where it is about this server.
    pub(super) fn outside(&mut self, id: ClientId, command: &Command) -> Option<Asks> {
        let client = self.clients.get(&id)?;
        client.user.as_ref()?;
        let bound = client.network.clone();
        let name = command.name.as_str();
        if let Some(network) = bound {
            let whole = matches!(
                name,
                "LIST" | "LUSERS" | "ISON" | "USERHOST" | "NICK" | "SETNAME" | "INFO" | "ADMIN" | "STATS" | "LINKS"
            );
            if place(name).is_none() && !whole {
                return None;
            }
            // Who is monitored, the time, help and the like are answered here.
            let own = self.nick_of(id);
            if name == "MODE" && command.get(0).is_some_and(|target| target == own) && command.params.len() == 1 {
                self.numeric(id, "221", ["+"]);
                return Some(Vec::new());
            }
            return Some(Self::network_asks(&network, name, command.params.clone()));
        }
        let at = place(name)?;
        let named = command.get(at)?;
        let mut by_network: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for one in named.split(',') {
            let (inner, network) = one.rsplit_once('/')?;
            by_network.entry(network.to_ascii_lowercase()).or_default().push(inner.to_owned());
        }
        let mut asks = Vec::new();
        for (network, targets) in by_network {
            let mut params = command.params.clone();
            params[at] = targets.join(",");
            if at == 1 {
                params[0] = params[0].rsplit_once('/').map_or_else(|| params[0].clone(), |(nick, _)| nick.to_owned());
            }
            asks.extend(Self::network_asks(&network, name, params));
        }
        Some(asks)
    }

    fn network_asks(network: &str, command: &str, params: Vec<String>) -> Asks {
        let network = network.to_owned();
        let ask = |question: link::Ask| Ask::Network { question, context: command.to_owned() };
        match command {
            "JOIN" => {
                let mut keys = params.get(1).map(|keys| keys.split(',').map(str::to_owned)).into_iter().flatten();
                let channels = params[0].split(',').filter(|channel| !channel.is_empty());
                channels
                    .map(|channel| {
                        let key = keys.next().filter(|key| !key.is_empty());
                        ask(link::Ask::Join { network: network.clone(), channel: channel.to_owned(), key })
                    })
                    .collect()
            }
            "PART" => {
                let reason = params.get(1).cloned().unwrap_or_default();
                let channels = params[0].split(',').filter(|channel| !channel.is_empty());
                channels
                    .map(|channel| {
                        ask(link::Ask::Part {
                            network: network.clone(),
                            channel: channel.to_owned(),
                            reason: reason.clone(),
                        })
                    })
                    .collect()
            }
            _ => vec![ask(link::Ask::Command { network, command: command.to_owned(), parameters: params })],
        }
    }

    /// What to ask once a client is let in: the channels of the connected networks.
    pub(super) fn enter_asks(&self, id: ClientId, networks: &[NetworkInfo]) -> Asks {
        if !self.is_local(id) {
            return Vec::new();
        }
        let connected = networks.iter().filter(|network| network.state == link::State::Connected);
        let ask = |question, context: &str| Ask::Network { question, context: context.to_owned() };
        let both = |network: &NetworkInfo| {
            let name = network.name.clone();
            [
                ask(link::Ask::Presence { network: name.clone() }, &name),
                ask(link::Ask::Channels { network: name.clone() }, &name),
            ]
        };
        connected.flat_map(both).collect()
    }

    /// A client bound to a network is told of the channels that the user is in there. What comes back is to be asked.
    pub(super) fn enter_network(&mut self, id: ClientId, channels: &[link::Channel]) -> Asks {
        let Some(network) = self.clients.get(&id).and_then(|client| client.network.clone()) else { return Vec::new() };
        self.show_channels(id, &network, channels);
        self.names_asks(id, &network, channels)
    }

    /// Who is in the channels that a client was just shown.
    fn names_asks(&self, id: ClientId, network: &str, channels: &[link::Channel]) -> Asks {
        let joined = channels.iter().filter(|channel| channel.joined && !self.caps(id).has(caps::NO_IMPLICIT_NAMES));
        let ask = |channel: &link::Channel| Ask::Network {
            question: link::Ask::Names { network: network.to_owned(), channel: channel.name.clone() },
            context: "NAMES".into(),
        };
        joined.map(ask).collect()
    }

    /// Whether a nick on a network is the user's own there.
    fn is_own(&self, id: ClientId, network: &str, nick: &str) -> bool {
        let Some(client) = self.clients.get(&id) else { return false };
        match &client.network {
            Some(_) => fold(nick) == fold(&self.nick_of(id)),
            None => client.nicks.get(network).is_some_and(|own| fold(own) == fold(nick)),
        }
    }

    /// A nick of a network as a client sees it; the user's own is the one that the client has here.
    fn outer_nick(&self, id: ClientId, network: &str, nick: &str) -> String {
        if self.is_own(id, network, nick) { self.nick_of(id) } else { self.outer(id, network, nick) }
    }

    /// The user has this nick on a network.
    fn own_nick_is(&mut self, id: ClientId, network: &str, nick: &str) {
        if let Some(client) = self.clients.get_mut(&id)
            && !nick.is_empty()
        {
            match client.network {
                Some(_) => client.alias = Some(nick.to_owned()),
                None => drop(client.nicks.insert(network.to_owned(), nick.to_owned())),
            }
        }
    }

    fn show_channels(&mut self, id: ClientId, network: &str, channels: &[link::Channel]) {
        let own = self.own_mask(id);
        for channel in channels.iter().filter(|channel| channel.joined) {
            let name = self.outer(id, network, &channel.name);
            let msg = self.join_msg(id, &own, &name, "*", "");
            self.send(id, msg);
            if !channel.topic.is_empty() {
                self.numeric(id, "332", [&name, &channel.topic]);
                if !channel.topic_by.is_empty() {
                    self.numeric(id, "333", [&name, &channel.topic_by, &channel.topic_at.to_string()]);
                }
            }
        }
    }

    fn join_msg(&self, id: ClientId, source: &str, channel: &str, account: &str, real: &str) -> Msg {
        let msg = Msg::new(source, "JOIN").arg(channel);
        if self.caps(id).has(caps::EXTENDED_JOIN) {
            let account = if account.is_empty() { "*" } else { account };
            msg.arg(account).arg(real)
        } else {
            msg
        }
    }

    fn own_mask(&self, id: ClientId) -> String {
        let user =
            self.clients.get(&id).and_then(|client| client.user.as_ref()).map_or("user", |user| user.name.as_str());
        format!("{}!{user}@{}", self.nick_of(id), self.facts.domain)
    }

    /// A name of a network as a client sees it.
    fn outer(&self, id: ClientId, network: &str, name: &str) -> String {
        let bound = self.clients.get(&id).and_then(|client| client.network.as_deref());
        if bound == Some(network) { name.to_owned() } else { format!("{name}/{network}") }
    }

    pub(super) fn network_given(
        &mut self,
        id: ClientId,
        question: &link::Ask,
        context: &str,
        outcome: Outcome,
    ) -> Asks {
        let answer = match outcome {
            Ok(Given::Network(answer)) => answer,
            Ok(_) => return Vec::new(),
            Err(error) => {
                let text = error.message().to_owned();
                match context {
                    // Not every exchange has networks outside.
                    "AWAY" | "TYPING" => {}
                    link::SERVICE_NICK => self.service_says(id, link::SERVICE_NICK, &[text]),
                    "BOUNCER" => self.fail(id, "BOUNCER", "UNKNOWN_ERROR", &[], &text),
                    _ => {
                        let msg = self.own_msg("NOTICE").arg(self.nick_of(id)).arg(format!("{context}: {text}"));
                        self.send(id, msg);
                    }
                }
                return Vec::new();
            }
        };
        match question {
            link::Ask::Service { .. } => self.service_says(id, link::SERVICE_NICK, &link::text::of(&answer)),
            link::Ask::Channels { network } => {
                let channels = link::Channel::of(&answer);
                self.show_channels(id, network, &channels);
                return self.names_asks(id, network, &channels);
            }
            link::Ask::Presence { network } => self.own_nick_is(id, network, &link::Presence::of(&answer).nick),
            link::Ask::Names { network, channel } => self.outside_names(id, network, channel, &answer),
            link::Ask::Networks => {
                let all = NetworkInfo::of(&answer);
                self.list_networks(id, &all);
            }
            link::Ask::Add { network, .. } => self.bouncer_done(id, "ADDNETWORK", network),
            link::Ask::Change { network, .. } => self.bouncer_done(id, "CHANGENETWORK", network),
            link::Ask::Remove { network } => self.bouncer_done(id, "DELNETWORK", network),
            link::Ask::Command { network, .. } | link::Ask::Join { network, .. } | link::Ask::Part { network, .. } => {
                for reply in Reply::of(&answer) {
                    self.reply(id, network, reply);
                }
            }
            _ => {}
        }
        Vec::new()
    }

    fn outside_names(&mut self, id: ClientId, network: &str, channel: &str, answer: &mesyx_sdk::Answer) {
        let shown = self.outer(id, network, channel);
        let names: Vec<String> = link::Member::of(answer)
            .into_iter()
            .map(|member| format!("{}{}", member.signs, self.outer_nick(id, network, &member.nick)))
            .collect();
        for some in names.chunks(15) {
            self.numeric(id, "353", ["=", &shown, &some.join(" ")]);
        }
        self.numeric(id, "366", [&shown, "End of /NAMES list"]);
    }

    /// A numeric of an outside server, with names as this client knows them.
    fn reply(&mut self, id: ClientId, network: &str, reply: Reply) {
        let own = self.nick_of(id);
        let numeric = reply.command.len() == 3 && reply.command.bytes().all(|byte| byte.is_ascii_digit());
        let nick_at = nick_place(&reply.command);
        let names = reply.command == "353";
        let mut msg = Msg::new(self.facts.server.clone(), reply.command);
        let last = reply.parameters.len().saturating_sub(1);
        for (at, param) in reply.parameters.into_iter().enumerate() {
            let param = match at {
                0 if numeric => own.clone(),
                at if Some(at) == nick_at && at < last && !channel_like(&param) => self.outer_nick(id, network, &param),
                at if at == last && names => {
                    let words = param.split_whitespace().map(|word| {
                        let signs = word.len() - word.trim_start_matches(['~', '&', '@', '%', '+', '!']).len();
                        let (nick, host) = word[signs..]
                            .split_once('!')
                            .map_or((&word[signs..], ""), |(nick, _)| (nick, &word[signs + nick.len()..]));
                        format!("{}{}{host}", &word[..signs], self.outer_nick(id, network, nick))
                    });
                    words.collect::<Vec<_>>().join(" ")
                }
                at if at < last && channel_like(&param) => self.outer(id, network, &param),
                at if at < last && (param.is_empty() || param.contains(' ') || param.starts_with(':')) => {
                    "*".to_owned()
                }
                _ => param,
            };
            msg.params.push(param);
        }
        self.send(id, msg);
    }

    /// Something happened on a network of the user's. What comes back is to be asked.
    pub fn news(&mut self, now: Timestamp, id: ClientId, network: &str, news: News) -> Asks {
        self.now = now;
        let bound = self.clients.get(&id).and_then(|client| client.network.clone());
        if bound.as_deref().is_some_and(|bound| bound != network)
            || self.clients.get(&id).is_none_or(|c| c.reg.is_some())
        {
            return Vec::new();
        }
        let who = |who: &Who| {
            if self.is_own(id, network, &who.nick) {
                return self.own_mask(id);
            }
            let nick = self.outer(id, network, if who.nick.is_empty() { network } else { &who.nick });
            match who.user.is_empty() || who.host.is_empty() {
                true => nick,
                false => format!("{nick}!{}@{}", who.user, who.host),
            }
        };
        let name = |name: &str| {
            if channel_like(name) { self.outer(id, network, name) } else { self.outer_nick(id, network, name) }
        };
        let caps = self.caps(id);
        let msg = match news {
            News::Connected { nick } => {
                let old = self.own_mask(id);
                let changed = bound.is_some() && self.nick_of(id) != nick;
                self.own_nick_is(id, network, &nick);
                if changed {
                    self.send(id, Msg::new(old, "NICK").arg(nick));
                }
                return self.notice(id, &format!("Connected to {network}"));
            }
            News::Disconnected { why } => return self.notice(id, &format!("Disconnected from {network}: {why}")),
            News::Networks if caps.has(caps::BOUNCER_NOTIFY) && bound.is_none() => {
                return vec![Ask::Network { question: link::Ask::Networks, context: "NETWORKS".into() }];
            }
            News::Join { channel, who: person, account, realname } => {
                let own = self.is_own(id, network, &person.nick);
                let msg = self.join_msg(id, &who(&person), &name(&channel), &account, &realname);
                self.send(id, msg);
                if own {
                    let question = link::Ask::Names { network: network.to_owned(), channel };
                    return vec![Ask::Network { question, context: "NAMES".into() }];
                }
                return Vec::new();
            }
            News::Part { channel, who: person, reason } => {
                Msg::new(who(&person), "PART").arg(name(&channel)).arg(reason)
            }
            News::Kick { channel, who: person, nick, reason } => {
                Msg::new(who(&person), "KICK").arg(name(&channel)).arg(name(&nick)).arg(reason)
            }
            News::Quit { who: person, reason } => Msg::new(who(&person), "QUIT").arg(reason),
            News::Split { servers, nicks } => {
                for nick in nicks {
                    let msg = Msg::new(self.outer(id, network, &nick), "QUIT").arg(servers.clone());
                    self.send(id, msg);
                }
                return Vec::new();
            }
            News::SplitOver { channel, nicks } => {
                for nick in nicks {
                    let (nick, channel) = (self.outer(id, network, &nick), self.outer(id, network, &channel));
                    let msg = self.join_msg(id, &nick, &channel, "*", "");
                    self.send(id, msg);
                }
                return Vec::new();
            }
            News::Nick { who: person, nick } => {
                let own = self.is_own(id, network, &person.nick);
                let msg = Msg::new(who(&person), "NICK").arg(name(&nick));
                if own {
                    self.own_nick_is(id, network, &nick);
                    // A client that is bound to no network has one nick everywhere.
                    if bound.is_none() {
                        return Vec::new();
                    }
                }
                msg
            }
            News::Mode { target, who: person, args } => {
                let mut msg = Msg::new(who(&person), "MODE").arg(name(&target));
                msg.params.extend(args);
                msg
            }
            News::Topic { channel, who: person, topic } => {
                Msg::new(who(&person), "TOPIC").arg(name(&channel)).arg(topic)
            }
            News::Away { who: person, text } if caps.has(caps::AWAY_NOTIFY) => {
                let mut msg = Msg::new(who(&person), "AWAY");
                msg.params.extend(text);
                msg
            }
            News::Account { who: person, account } if caps.has(caps::ACCOUNT_NOTIFY) => {
                Msg::new(who(&person), "ACCOUNT").arg(if account.is_empty() { "*".into() } else { account })
            }
            News::Host { who: person, user, host } if caps.has(caps::CHGHOST) => {
                Msg::new(who(&person), "CHGHOST").arg(user).arg(host)
            }
            News::Realname { who: person, realname } if caps.has(caps::SETNAME) => {
                Msg::new(who(&person), "SETNAME").arg(realname)
            }
            News::Invite { who: person, nick, channel } => {
                Msg::new(who(&person), "INVITE").arg(name(&nick)).arg(name(&channel))
            }
            News::Typing { target, who: person, state } => {
                let target = if channel_like(&target) { name(&target) } else { self.nick_of(id) };
                let source = who(&person);
                self.typing(id, source, &target, &state);
                return Vec::new();
            }
            News::Names { channel } => {
                let question = link::Ask::Names { network: network.to_owned(), channel };
                return vec![Ask::Network { question, context: "NAMES".into() }];
            }
            News::Notice { who: person, text } => Msg::new(who(&person), "NOTICE").arg(self.nick_of(id)).arg(text),
            News::Numeric { source, command, parameters } => {
                self.reply(id, network, Reply { source, command, parameters });
                return Vec::new();
            }
            News::Ctcp { who: person, command, text } => {
                Msg::new(who(&person), "NOTICE").arg(self.nick_of(id)).arg(format!("\x01{command} {text}\x01"))
            }
            News::Service { text, .. } => {
                self.service_says(id, link::SERVICE_NICK, &[text]);
                return Vec::new();
            }
            _ => return Vec::new(),
        };
        self.send(id, msg);
        Vec::new()
    }

    fn notice(&mut self, id: ClientId, text: &str) -> Asks {
        let msg = self.own_msg("NOTICE").arg(self.nick_of(id)).arg(text);
        self.send(id, msg);
        Vec::new()
    }
}
