//! What the server sends, but for numerics.

use super::splits::is_split;
use super::{Again, Batch, Engine, MOST_BATCH_LINES, MOST_BATCHES, Phase, Said};
use crate::link::{News, Who};
use mesyx_irc_codec::ctcp::{self, Ctcp};
use mesyx_irc_codec::{Line, Source, Writer};
use mesyx_sdk::{Timestamp, Verb};
use std::time::Instant;
use time::format_description::well_known::{Rfc2822, Rfc3339};

impl Engine {
    pub(super) fn incoming(&mut self, line: &Line<'_>, now: Instant) {
        if let Some(numeric) = line.numeric() {
            return self.numeric(numeric, line, now);
        }
        let who = line.source.map(|source| self.who(source.whole)).unwrap_or_default();
        let text = |at: usize| self.decode(line.parameter(at));
        match &*String::from_utf8_lossy(line.command).to_ascii_uppercase() {
            "PING" => {
                let pong = Writer::new("PONG").and_then(|pong| pong.trailing(line.parameter(0)));
                self.urgent(pong);
            }
            "PONG" => {
                let token = self.decode(line.parameters.last().copied().unwrap_or_default());
                self.pong(&token);
            }
            "ERROR" => {
                let why = format!("the server closed the connection: {}", text(0));
                let again = if why.to_ascii_lowercase().contains("line:") { Again::Late } else { Again::Soon };
                self.over(why, again);
            }
            "CAP" => self.cap(line),
            "AUTHENTICATE" => self.authenticate(line),
            "PRIVMSG" => self.message_in(line, who, Verb::Say, now),
            "NOTICE" => self.message_in(line, who, Verb::Notice, now),
            "TAGMSG" => self.tagmsg(line, who),
            "BATCH" => self.batch(line),
            "JOIN" => self.join(line, who, now),
            "PART" => {
                let (channel, reason) = (text(0), text(1));
                self.gone(&channel, &who.nick);
                self.news(News::Part { channel, who, reason });
            }
            "KICK" => {
                let (channel, nick, reason) = (text(0), text(1), text(2));
                self.gone(&channel, &nick);
                if self.is_me(&nick) {
                    self.kicked(&channel, now);
                }
                self.news(News::Kick { channel, who, nick, reason });
            }
            "QUIT" => {
                let reason = text(0);
                let batch = line.tags.get("batch").and_then(|name| self.batches.get(&name));
                let batch = batch.filter(|batch| batch.kind == "netsplit").map(|batch| batch.parameters.join(" "));
                self.remove_everywhere(&who.nick);
                self.nick_freed(&who.nick);
                match batch.or_else(|| is_split(&reason).then(|| reason.clone())) {
                    Some(servers) => self.split(&servers, &who.nick, now),
                    None => self.news(News::Quit { who, reason }),
                }
            }
            "NICK" => {
                let nick = text(0);
                self.rename_everywhere(&who.nick, &nick);
                if self.is_me(&who.nick) {
                    self.me.nick.clone_from(&nick);
                } else {
                    self.nick_freed(&who.nick);
                }
                self.news(News::Nick { who, nick });
            }
            "MODE" => {
                let (target, modes) = (text(0), text(1));
                let parameters = line.parameters.get(2..).unwrap_or_default();
                if self.is_channel(&target) {
                    self.modes(&target, &modes, parameters);
                } else if self.is_me(&target) {
                    self.user_modes(&modes);
                }
                let args = (1..line.parameters.len()).map(|at| self.decode(line.parameter(at))).collect();
                self.news(News::Mode { target, who, args });
            }
            "TOPIC" => {
                let (channel, topic) = (text(0), text(1));
                let folded = self.fold(&channel);
                if let Some(room) = self.rooms.get_mut(&folded) {
                    room.topic.clone_from(&topic);
                    room.topic_by.clone_from(&who.nick);
                    room.topic_at = Timestamp::now().seconds();
                }
                self.news(News::Topic { channel, who, topic });
            }
            "INVITE" => self.news(News::Invite { nick: text(0), channel: text(1), who }),
            "AWAY" => {
                let away = (!line.parameter(0).is_empty()).then(|| text(0));
                self.everywhere(&who.nick, |member| member.away = away.is_some());
                self.news(News::Away { who, text: away });
            }
            "ACCOUNT" => {
                let account = Some(text(0)).filter(|account| account != "*").unwrap_or_default();
                self.everywhere(&who.nick, |member| member.account.clone_from(&account));
                self.news(News::Account { who, account });
            }
            "CHGHOST" => {
                let (user, host) = (text(0), text(1));
                if self.is_me(&who.nick) {
                    (self.me.user, self.me.host) = (user.clone(), host.clone());
                }
                self.everywhere(&who.nick, |member| (member.user, member.host) = (user.clone(), host.clone()));
                self.news(News::Host { who, user, host });
            }
            "SETNAME" => self.news(News::Realname { realname: text(0), who }),
            "FAIL" | "WARN" | "NOTE" => self.standard_reply(line),
            "WALLOPS" => self.news(News::Notice { text: text(0), who }),
            _ => {}
        }
    }

    pub(super) fn who(&self, whole: &[u8]) -> Who {
        let source = Source::of(whole);
        let text = |bytes: Option<&[u8]>| bytes.map(|bytes| self.decode(bytes)).unwrap_or_default();
        Who { nick: self.decode(source.name), user: text(source.user), host: text(source.host) }
    }

    fn join(&mut self, line: &Line<'_>, who: Who, now: Instant) {
        let channel = self.decode(line.parameter(0));
        let extended = line.parameters.len() > 1;
        let account = Some(self.decode(line.parameter(1))).filter(|account| account != "*").unwrap_or_default();
        let realname = if extended { self.decode(line.parameter(2)) } else { String::new() };
        if self.is_me(&who.nick) {
            if !who.host.is_empty() {
                (self.me.user, self.me.host) = (who.user.clone(), who.host.clone());
            }
            // The news of it comes with the end of the names.
            return self.entered(&channel);
        }
        self.add_member(&channel, &who, &account);
        if !self.split_over(&channel, &who.nick, now) {
            self.news(News::Join { channel, who, account, realname });
        }
    }

    /// Somebody is in a channel no more.
    fn gone(&mut self, channel: &str, nick: &str) {
        let (folded, member) = (self.fold(channel), self.fold(nick));
        if self.is_me(nick) {
            self.rooms.remove(&folded);
        } else if let Some(room) = self.rooms.get_mut(&folded) {
            room.members.remove(&member);
        }
    }

    pub(super) fn user_modes(&mut self, modes: &str) {
        let mut set = true;
        for mode in modes.chars() {
            match mode {
                '+' => set = true,
                '-' => set = false,
                mode => {
                    self.me.modes.retain(|other| other != mode);
                    if set {
                        self.me.modes.push(mode);
                    }
                }
            }
        }
    }

    fn standard_reply(&mut self, line: &Line<'_>) {
        let words: Vec<_> = line.parameters.iter().map(|parameter| self.decode(parameter)).collect();
        let (Some(command), Some(code), Some(text)) = (words.first(), words.get(1), words.last()) else { return };
        let context = words.get(2..words.len() - 1).unwrap_or_default();
        if line.is("FAIL") && self.failed(command, code, context, text) {
            return;
        }
        if self.collect(line, 400) {
            return;
        }
        let source = line.source.map(|source| self.decode(source.whole)).unwrap_or_default();
        self.news(News::Notice { who: Who { nick: source, ..Who::default() }, text: words.join(" ") });
    }

    fn tagmsg(&mut self, line: &Line<'_>, who: Who) {
        let Some(state) = line.tags.get("+typing").or_else(|| line.tags.get("+draft/typing")) else { return };
        if self.is_me(&who.nick) {
            return;
        }
        let to = self.decode(line.parameter(0));
        let target = if self.is_channel(&to) { to } else { who.nick.clone() };
        self.news(News::Typing { target, who, state });
    }

    fn batch(&mut self, line: &Line<'_>) {
        let name = self.decode(line.parameter(0));
        if let Some(name) = name.strip_prefix('+') {
            if self.batches.len() < MOST_BATCHES {
                let parameters = (2..line.parameters.len()).map(|at| self.decode(line.parameter(at))).collect();
                let (kind, msgid) = (self.decode(line.parameter(1)), line.tags.get("msgid"));
                let batch = Batch { kind, parameters, said: None, lines: 0, msgid };
                self.batches.insert(name.to_owned(), batch);
            }
        } else if let Some(batch) = name.strip_prefix('-').and_then(|name| self.batches.remove(name))
            && let Some(mut said) = batch.said
        {
            said.msgid = batch.msgid.or(said.msgid);
            self.said(said);
        }
    }

    fn message_in(&mut self, line: &Line<'_>, who: Who, verb: Verb, now: Instant) {
        let (to, raw) = (self.decode(line.parameter(0)), line.parameter(1));
        // A rank's sign before a channel (STATUSMSG): said in the channel, to some.
        let signs = self.isupport.get("STATUSMSG").unwrap_or("@+").to_owned();
        let bare = to.trim_start_matches(|c| signs.contains(c));
        let channel = [&*to, bare].into_iter().find(|name| self.is_channel(name)).map(str::to_owned);
        let from_server = who.user.is_empty() && (who.nick.contains('.') || who.nick.is_empty());
        let to_some = channel.as_deref().is_some_and(|channel| channel != to);
        let to_me = channel.is_some() || self.is_me(&to);
        let msgid = line.tags.get("msgid").filter(|id| !id.is_empty());
        if self.is_me(&who.nick) && self.phase == Phase::Ready {
            let target = channel.unwrap_or(to);
            return self.echoed(&target, msgid);
        }
        if from_server || !to_me || self.phase != Phase::Ready {
            let text = self.decode(raw);
            return self.news(News::Notice { who, text });
        }
        let at = line.tags.get("time").and_then(|time| read_time(&time));
        let mut said = Said { channel, who, verb, raw: raw.to_vec(), at, msgid, to_some };
        if let Some(ctcp) = Ctcp::parse(raw) {
            match (verb, ctcp.is("ACTION")) {
                (Verb::Say, true) => {
                    said.verb = Verb::Action;
                    said.raw = ctcp.text.to_vec();
                }
                (Verb::Say, false) => return self.ctcp_request(&said, ctcp, now),
                _ => {
                    let (command, text) = (self.decode(ctcp.command), self.decode(ctcp.text));
                    return self.news(News::Ctcp { who: said.who, command, text });
                }
            }
        }
        let batch = line.tags.get("batch").and_then(|name| self.batches.get_mut(&name));
        let Some(batch) = batch.filter(|batch| batch.kind == "draft/multiline") else { return self.said(said) };
        batch.lines += 1;
        match &mut batch.said {
            None => batch.said = Some(said),
            Some(first) if batch.lines <= MOST_BATCH_LINES && first.raw.len() < mesyx_sdk::Line::MAX_TEXT / 2 => {
                if line.tags.get("draft/multiline-concat").is_none() {
                    first.raw.push(b'\n');
                }
                first.raw.extend_from_slice(&said.raw);
            }
            Some(_) => {}
        }
    }

    fn said(&mut self, said: Said) {
        self.events.push_back(super::Event::Said(said));
    }

    /// Questions of other clients: few, slowly, and nothing that tells who or where the user is.
    fn ctcp_request(&mut self, said: &Said, ctcp: Ctcp<'_>, now: Instant) {
        let since = now.saturating_duration_since(self.origin);
        if said.channel.is_some() || !self.ctcp.wait(since).is_zero() {
            return;
        }
        let command = String::from_utf8_lossy(ctcp.command).to_ascii_uppercase();
        let answer = match command.as_str() {
            "VERSION" => self.id.version.clone().into_bytes(),
            "PING" => ctcp.text[..ctcp.text.len().min(64)].to_vec(),
            // In UTC: the local time would tell where the server stands.
            "TIME" => Timestamp::now().utc().format(&Rfc2822).unwrap_or_default().into_bytes(),
            "CLIENTINFO" => b"ACTION CLIENTINFO PING TIME VERSION".to_vec(),
            _ => return,
        };
        self.ctcp.spend(since, 1);
        let line = Writer::new("NOTICE").and_then(|line| line.parameter(said.who.nick.as_bytes()));
        self.normal(line.and_then(|line| line.trailing(&ctcp::write(&command, &answer))));
    }
}

fn read_time(text: &str) -> Option<Timestamp> {
    let time = time::OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok().map(Timestamp)
}
