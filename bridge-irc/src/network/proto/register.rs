//! Registration: capabilities (IRCv3 302), SASL, nick and user name; and getting the wanted nick back.

use super::{Again, Engine, Event, Phase, Sasl};
use crate::link::News;
use mesyx_irc_codec::{Line, Writer, sasl};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// What is asked for where it is offered.
const WANTED: [&str; 16] = [
    "account-notify",
    "account-tag",
    "away-notify",
    "batch",
    "chghost",
    "draft/multiline",
    "echo-message",
    "extended-join",
    "invite-notify",
    "message-tags",
    "multi-prefix",
    "sasl",
    "server-time",
    "setname",
    "standard-replies",
    "userhost-in-names",
];
/// Most capabilities that are kept of an offer.
const MOST: usize = 256;
/// How often a nick that somebody else has is asked about.
const REGAIN: Duration = Duration::from_secs(60);
/// How many nicks are tried before giving up.
const TRIES: usize = 12;

#[derive(Debug, Default)]
pub(super) struct Caps {
    offered: BTreeMap<String, String>,
    /// In use.
    pub(super) on: BTreeSet<String>,
    /// The first list of the offer is complete.
    listed: bool,
    /// REQs that are unanswered.
    asked: usize,
    /// SASL is under way.
    sasl: bool,
    /// Logged in, or not wanted.
    done: bool,
    ended: bool,
}

impl Caps {
    pub(super) fn has(&self, name: &str) -> bool {
        self.on.contains(name)
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.offered.get(name).map(String::as_str)
    }
}

impl Engine {
    /// The first lines.
    pub(super) fn open(&mut self) {
        self.urgent(Writer::new("CAP").and_then(|line| line.parameter(b"LS")).and_then(|line| line.parameter(b"302")));
        if let Some(pass) = self.id.pass.clone() {
            self.urgent(Writer::new("PASS").and_then(|line| line.trailing(pass.expose())));
        }
        let nick = self.me.nick.clone();
        self.nick(&nick);
        let (username, realname) = (self.id.username.clone(), self.id.realname.clone());
        let user = Writer::new("USER").and_then(|line| line.parameter(username.as_bytes()));
        let user = user.and_then(|line| line.parameter(b"0")).and_then(|line| line.parameter(b"*"));
        self.urgent(user.and_then(|line| line.trailing(realname.as_bytes())));
    }

    fn nick(&mut self, nick: &str) {
        self.urgent(Writer::new("NICK").and_then(|line| line.parameter(nick.as_bytes())));
    }

    pub(super) fn cap(&mut self, line: &Line<'_>) {
        let last = line.parameters.last().copied().unwrap_or_default();
        let words = String::from_utf8_lossy(last).into_owned();
        let words: Vec<&str> = words.split_whitespace().collect();
        match &*line.text(1).to_ascii_uppercase() {
            "LS" => {
                self.offered(&words);
                if line.parameter(2) != b"*" {
                    self.caps.listed = true;
                    if !self.upgrade_to_tls() {
                        self.request();
                    }
                }
            }
            "NEW" => {
                self.offered(&words);
                self.request();
            }
            "DEL" => {
                for word in words {
                    self.caps.offered.remove(word);
                    self.caps.on.remove(word);
                }
            }
            "ACK" => {
                self.caps.asked = self.caps.asked.saturating_sub(1);
                for word in words {
                    match word.strip_prefix('-') {
                        Some(gone) => self.caps.on.remove(gone),
                        None => self.caps.on.insert(word.to_owned()),
                    };
                }
                self.after_caps();
            }
            "NAK" => {
                self.caps.asked = self.caps.asked.saturating_sub(1);
                self.after_caps();
            }
            _ => {}
        }
    }

    fn offered(&mut self, words: &[&str]) {
        for word in words {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            if self.caps.offered.len() < MOST || self.caps.offered.contains_key(name) {
                self.caps.offered.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    /// IRCv3 `sts`: a server that can do TLS is not spoken to without.
    fn upgrade_to_tls(&mut self) -> bool {
        let policy = self.caps.value("sts").filter(|_| !self.id.tls).map(str::to_owned);
        let port =
            policy.and_then(|policy| policy.split(',').find_map(|word| word.strip_prefix("port=")?.parse().ok()));
        if let Some(port) = port {
            self.over("the server asks for TLS", Again::Tls(port));
        }
        port.is_some()
    }

    fn request(&mut self) {
        let wanted = WANTED.iter().filter(|name| self.caps.offered.contains_key(**name) && !self.caps.has(name));
        let wanted: Vec<_> = wanted.filter(|name| **name != "sasl" || self.id.sasl.is_some()).copied().collect();
        // One by one: a server that refuses one of several refuses all of them.
        for name in wanted {
            self.caps.asked += 1;
            self.urgent(
                Writer::new("CAP")
                    .and_then(|line| line.parameter(b"REQ"))
                    .and_then(|line| line.trailing(name.as_bytes())),
            );
        }
        self.after_caps();
    }

    /// All asked for has been answered: log in, or end the negotiation.
    fn after_caps(&mut self) {
        if self.caps.ended || !self.caps.listed || self.caps.asked > 0 || self.caps.sasl {
            return;
        }
        if self.caps.done || self.id.sasl.is_none() {
            return self.end_caps();
        }
        let mechanism = match &self.id.sasl {
            Some(Sasl::External) => "EXTERNAL",
            _ => "PLAIN",
        };
        let mechanisms = self.caps.value("sasl").unwrap_or_default();
        if !self.caps.has("sasl") || !(mechanisms.is_empty() || mechanisms.split(',').any(|name| name == mechanism)) {
            let why = format!("the network does not offer SASL {mechanism}, by which the user is to log in");
            return self.over(why, Again::Late);
        }
        self.caps.sasl = true;
        self.urgent(Writer::new("AUTHENTICATE").and_then(|line| line.parameter(mechanism.as_bytes())));
    }

    fn end_caps(&mut self) {
        self.caps.ended = true;
        self.urgent(Writer::new("CAP").and_then(|line| line.parameter(b"END")));
    }

    pub(super) fn authenticate(&mut self, line: &Line<'_>) {
        if !self.caps.sasl || line.parameter(0) != b"+" {
            return;
        }
        let mut payload = Zeroizing::new(Vec::with_capacity(1024));
        if let Some(Sasl::Plain { account, password }) = &self.id.sasl {
            // RFC 4616: authorisation identity (none), authentication identity, password.
            payload.push(0);
            payload.extend_from_slice(account.as_bytes());
            payload.push(0);
            payload.extend_from_slice(password.expose());
        }
        for piece in sasl::chunks(&payload) {
            self.urgent(Writer::new("AUTHENTICATE").and_then(|line| line.parameter(piece.as_bytes())));
        }
    }

    pub(super) fn sasl_numeric(&mut self, numeric: u16, line: &Line<'_>) {
        match numeric {
            900 => {
                let who = self.who(line.parameter(1));
                self.me.account = self.decode(line.parameter(2));
                if self.is_me(&who.nick) && !who.host.is_empty() {
                    (self.me.user, self.me.host) = (who.user, who.host);
                }
            }
            901 => self.me.account.clear(),
            903 | 907 => {
                self.caps.sasl = false;
                self.caps.done = true;
                self.after_caps();
            }
            902 | 904 | 905 | 906 if !self.caps.ended => {
                // Without the login the user's address would show, and channels for members stay shut.
                let text = self.decode(line.parameters.last().copied().unwrap_or_default());
                self.over(format!("the network refused the login by SASL: {text}"), Again::Late);
            }
            _ => {}
        }
    }

    /// 001: the greeting.
    pub(super) fn greeted(&mut self, line: &Line<'_>) {
        self.me.nick = self.decode(line.parameter(0));
        // A server that knows no capabilities.
        self.caps.ended = true;
        if self.phase == Phase::Registering {
            self.phase = Phase::Greeted;
        }
    }

    /// The greeting is over.
    pub(super) fn ready(&mut self, now: Instant) {
        if self.phase != Phase::Greeted {
            return;
        }
        self.phase = Phase::Ready;
        self.events.push_back(Event::Ready);
        let nick = self.me.nick.clone();
        self.news(News::Connected { nick: nick.clone() });
        // What others see of us is part of every line that they get: it limits what ours may hold.
        self.normal(Writer::new("USERHOST").and_then(|line| line.parameter(nick.as_bytes())));
        self.want_channels(now);
        self.join_due(now);
        if !self.is_me(&self.id.nick.clone()) {
            self.regain = Some(now + REGAIN / 6);
        }
    }

    /// The nick is taken, or not allowed, while registering.
    pub(super) fn nick_refused(&mut self, text: &str) {
        if self.phase != Phase::Registering {
            return;
        }
        self.nicks_tried += 1;
        let alternative = self.id.altnicks.get(self.nicks_tried - 1).cloned();
        if self.nicks_tried > TRIES.max(self.id.altnicks.len()) {
            return self.over(format!("the network took none of the nicks: {text}"), Again::Late);
        }
        let nick = alternative.unwrap_or_else(|| {
            let round = self.nicks_tried - self.id.altnicks.len();
            // Nine bytes are allowed everywhere (RFC 1459, section 1.2).
            let stem = &self.id.nick[..self.id.nick.floor_char_boundary(if round > 6 { 7 } else { 24 })];
            if round <= 3 { format!("{stem}{}", "_".repeat(round)) } else { format!("{stem}{round}") }
        });
        self.me.nick.clone_from(&nick);
        self.nick(&nick);
    }

    /// Tries to get the wanted nick, where it may be free.
    pub(super) fn regain_nick(&mut self, now: Instant) {
        if self.regain.is_none_or(|at| at > now) {
            return;
        }
        let nick = self.id.nick.clone();
        if self.is_me(&nick) {
            self.regain = None;
            return;
        }
        self.regain = Some(now + REGAIN);
        // Asking does no harm where it is still taken; a refused NICK is noise to the user and to the server's flood control.
        self.asked_ison = true;
        self.normal(Writer::new("ISON").and_then(|line| line.parameter(nick.as_bytes())));
    }

    /// 303: the answer to our own question.
    pub(super) fn ison(&mut self, line: &Line<'_>) -> bool {
        if !std::mem::take(&mut self.asked_ison) {
            return false;
        }
        let nick = self.id.nick.clone();
        let online = self.decode(line.parameter(1));
        if !online.split_whitespace().any(|other| self.same(other, &nick)) {
            self.nick(&nick);
        }
        true
    }

    /// Somebody who had this nick has it no more.
    pub(super) fn nick_freed(&mut self, nick: &str) {
        let wanted = self.id.nick.clone();
        if self.phase == Phase::Ready && self.same(nick, &wanted) && !self.is_me(&wanted) {
            self.nick(&wanted);
        }
    }
}
