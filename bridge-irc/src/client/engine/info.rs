//! What the server says of itself: MOTD, LUSERS, VERSION, TIME, INFO, ADMIN, STATS, LINKS, HELP.

use super::commands::Command;
use super::msg::stamp;
use super::{ClientId, Server};

impl Server {
    /// What VERSION and numeric 004 say.
    pub(super) const VERSION: &str = concat!("mesyx-", env!("CARGO_PKG_VERSION"));

    /// Whether a command is for this server; otherwise the client is told that there is no such server.
    pub(super) fn for_us(&mut self, id: ClientId, target: Option<&str>) -> bool {
        let Some(target) = target else { return true };
        let us = mesyx_irc_codec::mask::matches(target, &self.facts.server, mesyx_sdk::address::CaseMapping::Ascii);
        let somebody = self.person_named(target).is_some();
        if !us && !somebody {
            self.numeric(id, "402", [target, "No such server"]);
        }
        us || somebody
    }

    pub(super) fn motd_for(&mut self, id: ClientId, command: &Command) {
        if self.for_us(id, command.get(0)) {
            self.motd(id);
        }
    }

    pub(super) fn motd(&mut self, id: ClientId) {
        if self.facts.motd.is_empty() {
            self.numeric(id, "422", ["MOTD File is missing"]);
            return;
        }
        let server = self.facts.server.clone();
        self.numeric(id, "375", [&format!("- {server} Message of the day - ")]);
        for line in self.facts.motd.clone() {
            self.numeric(id, "372", [&format!("- {line}")]);
        }
        self.numeric(id, "376", ["End of /MOTD command"]);
    }

    /// Somebody came: remembers how many there were at most.
    pub(super) fn count_people(&mut self) {
        let here = self.people.values().filter(|person| !person.absent()).count();
        self.most_people = self.most_people.max(here);
    }

    pub(super) fn lusers(&mut self, id: ClientId) {
        let here: Vec<_> = self.people.values().filter(|person| !person.absent()).collect();
        let invisible = here.iter().filter(|person| person.invisible).count();
        let (clients, visible, all) = (here.len(), here.len() - invisible, here.len().to_string());
        let unknown = self.clients.values().filter(|client| client.reg.is_some()).count();
        let (channels, most) = (self.channels.len().to_string(), self.most_people.to_string());
        self.numeric(id, "251", [&format!("There are {visible} users and {invisible} invisible on 1 servers")]);
        self.numeric(id, "252", ["0", "operator(s) online"]);
        self.numeric(id, "253", [&unknown.to_string(), "unknown connection(s)"]);
        self.numeric(id, "254", [&channels, "channels formed"]);
        self.numeric(id, "255", [&format!("I have {clients} clients and 0 servers")]);
        self.numeric(id, "265", [&all, &most, &format!("Current local users {all}, max {most}")]);
        self.numeric(id, "266", [&all, &most, &format!("Current global users {all}, max {most}")]);
    }

    pub(super) fn version(&mut self, id: ClientId, command: &Command) {
        if self.for_us(id, command.get(0)) {
            let server = self.facts.server.clone();
            self.numeric(id, "351", [Self::VERSION, &server, "Mesyx, the message exchange"]);
            self.isupport(id);
        }
    }

    pub(super) fn time(&mut self, id: ClientId, command: &Command) {
        if self.for_us(id, command.get(0)) {
            let (server, now) = (self.facts.server.clone(), stamp(self.now));
            self.numeric(id, "391", [&server, &now]);
        }
    }

    pub(super) fn info(&mut self, id: ClientId, command: &Command) {
        if self.for_us(id, command.get(0)) {
            for text in [Self::VERSION, "A message exchange: mail and chat over a store sealed to its users' keys."] {
                self.numeric(id, "371", [text]);
            }
            self.numeric(id, "374", ["End of /INFO list"]);
        }
    }

    pub(super) fn admin(&mut self, id: ClientId, command: &Command) {
        if self.for_us(id, command.get(0)) {
            let (server, domain) = (self.facts.server.clone(), self.facts.domain.to_string());
            self.numeric(id, "256", [&server, "Administrative info"]);
            self.numeric(id, "257", [&format!("The exchange of {domain}")]);
            self.numeric(id, "258", ["Its postmaster answers"]);
            self.numeric(id, "259", [&format!("postmaster@{domain}")]);
        }
    }

    pub(super) fn stats(&mut self, id: ClientId, command: &Command) {
        let query = command.get(0).and_then(|query| query.chars().next()).unwrap_or('*');
        if !self.for_us(id, command.get(1)) {
            return;
        }
        if query == 'u' {
            let up = (self.now.0 - self.facts.started.0).max(0) / 1000;
            let (days, hours, minutes, seconds) = (up / 86_400, up / 3600 % 24, up / 60 % 60, up % 60);
            self.numeric(id, "242", [&format!("Server Up {days} days {hours}:{minutes:02}:{seconds:02}")]);
        }
        self.numeric(id, "219", [&query.to_string(), "End of /STATS report"]);
    }

    pub(super) fn links(&mut self, id: ClientId) {
        let server = self.facts.server.clone();
        self.numeric(id, "364", [&server, &server, "0 Mesyx"]);
        self.numeric(id, "365", ["*", "End of /LINKS list"]);
    }

    pub(super) fn help(&mut self, id: ClientId, command: &Command) {
        let given = command.get(0).unwrap_or("index");
        let topic = given.to_ascii_lowercase();
        let shown = given.replace([' ', ':'], "_");
        let text: Vec<&str> = match HELP.iter().find(|(name, _)| *name == topic) {
            Some((_, text)) => text.to_vec(),
            None => match USAGE
                .iter()
                .find(|usage| usage.split(' ').next().is_some_and(|name| name.eq_ignore_ascii_case(&topic)))
            {
                Some(usage) => vec![*usage],
                None => {
                    self.numeric(id, "524", [&shown, "No help on that; try HELP index"]);
                    return;
                }
            },
        };
        self.numeric(id, "704", [&shown, &format!("Help on {topic}")]);
        for line in text {
            self.numeric(id, "705", [&shown, line]);
        }
        self.numeric(id, "706", [&shown, "End of /HELP"]);
    }
}

/// How each command is written.
const USAGE: &[&str] = &[
    "ADMIN [SERVER]",
    "AWAY [:TEXT]",
    "BATCH +REFERENCE draft/multiline TARGET, then BATCH -REFERENCE",
    "BOUNCER LISTNETWORKS | ADDNETWORK ATTRIBUTES | CHANGENETWORK NETWORK ATTRIBUTES | DELNETWORK NETWORK",
    "CAP LS [302] | LIST | REQ :CAPABILITIES | END",
    "CHATHISTORY LATEST|BEFORE|AFTER|AROUND TARGET PLACE LIMIT, BETWEEN TARGET PLACE PLACE LIMIT, TARGETS TIME TIME LIMIT",
    "HELP [SUBJECT]",
    "INFO [SERVER]",
    "INVITE NICK CHANNEL",
    "ISON NICKS",
    "JOIN CHANNELS [KEYS] | 0",
    "KICK CHANNEL NICKS [:REASON]",
    "LINKS",
    "LIST [CHANNELS OR CONDITIONS]",
    "LUSERS",
    "MARKREAD TARGET [timestamp=TIME]",
    "MODE TARGET [MODES [PARAMETERS]]",
    "MONITOR + NICKS | - NICKS | C | L | S",
    "MOTD [SERVER]",
    "NAMES [CHANNELS]",
    "NICK NICK",
    "NOTICE TARGETS :TEXT",
    "PART CHANNELS [:REASON]",
    "PING TOKEN",
    "PRIVMSG TARGETS :TEXT",
    "QUIT [:REASON]",
    "SETNAME :REAL NAME",
    "STATS QUERY [SERVER]",
    "TAGMSG TARGETS",
    "TIME [SERVER]",
    "TOPIC CHANNEL [:TOPIC]",
    "USERHOST NICKS",
    "VERSION [SERVER]",
    "WHO MASK [%FIELDS[,TOKEN]]",
    "WHOIS [SERVER] NICKS",
    "WHOWAS NICK [COUNT]",
];

const HELP: &[(&str, &[&str])] = &[
    (
        "index",
        &[
            "JOIN PART TOPIC NAMES MODE INVITE KICK LIST: channels; those of users with an account are groups of the exchange",
            "PRIVMSG NOTICE: to #channel, to nick, to somebody@example.net (a mail), to *mail (read your mail)",
            "WHO WHOIS WHOWAS AWAY MONITOR ISON USERHOST: who is there",
            "CHATHISTORY MARKREAD: what was said, and what was read",
            "HELP networks, HELP mail: more on these",
        ],
    ),
    (
        "networks",
        &[
            "Networks outside: log in as NAME/NETWORK to see one alone, or write to #channel/network and nick/network",
            "BOUNCER LISTNETWORKS, ADDNETWORK, CHANGENETWORK, DELNETWORK (soju.im/bouncer-networks) set them up",
        ],
    ),
    (
        "mail",
        &[
            "/msg *mail list, /msg *mail read NUMBER, /msg *mail send ADDRESS TEXT",
            "/msg somebody@example.net TEXT sends a mail",
        ],
    ),
];
