//! One line from a client: checked, and given to its command.

use super::ask::{Ask, Asks, Given, Outcome};
use super::multiline::{CONCAT, Pieces};
use super::{Capture, ClientId, Server, caps};
use mesyx_irc_codec::{Limits, Line, ParseError};
use mesyx_sdk::Timestamp;

/// Longest label (IRCv3 `labeled-response`), in bytes.
const LABEL: usize = 64;

/// A command with its parameters as text.
#[derive(Debug)]
pub(super) struct Command {
    /// In capitals.
    pub name: String,
    /// As it was sent.
    pub word: String,
    pub params: Vec<String>,
    /// Tags that clients send each other.
    pub tags: Vec<(String, String)>,
    /// The batch that it belongs to.
    pub batch: Option<String>,
    /// It goes on where the line before it in the batch ended.
    pub concat: bool,
    /// How its text was cut, where it came as a batch.
    pub pieces: Pieces,
}

impl Command {
    pub fn get(&self, at: usize) -> Option<&str> {
        self.params.get(at).map(String::as_str).filter(|param| !param.is_empty())
    }
}

impl Server {
    /// A line that was longer than any may be.
    pub fn too_long(&mut self, now: Timestamp, id: ClientId) {
        self.heard(now, id);
        self.numeric(id, "417", ["Input line was too long"]);
    }

    fn heard(&mut self, now: Timestamp, id: ClientId) {
        self.now = now;
        if let Some(client) = self.clients.get_mut(&id) {
            client.heard = now;
            client.pinged = false;
        }
    }

    /// A line from a client. What comes back is to be asked in its order, each answer handed to [`Server::given`]; then
    /// [`Server::finish`] must be called.
    pub fn line(&mut self, now: Timestamp, id: ClientId, bytes: &[u8]) -> Asks {
        self.heard(now, id);
        let line = match Line::parse(bytes, Limits::FROM_CLIENT) {
            Ok(line) => line,
            Err(ParseError::TooLong) => {
                self.numeric(id, "417", ["Input line was too long"]);
                return Vec::new();
            }
            Err(ParseError::Command) if self.clients.get(&id).is_some_and(|client| client.reg.is_some()) => {
                self.numeric(id, "451", ["You have not registered"]);
                return Vec::new();
            }
            Err(ParseError::Command) => {
                let word = bytes.split(|byte| *byte == b' ').find(|word| !word.is_empty() && word[0] != b'@');
                let word = String::from_utf8_lossy(word.unwrap_or_default()).replace(':', "_");
                self.numeric(id, "421", [&word, "Unknown command"]);
                return Vec::new();
            }
            Err(_) => return Vec::new(),
        };
        let word = String::from_utf8_lossy(line.command).into_owned();
        let name = word.to_ascii_uppercase();
        let caps = self.caps(id);
        if caps.has(caps::LABELED_RESPONSE)
            && let Some(label) = line.tags.get("label").filter(|label| (1..=LABEL).contains(&label.len()))
            && let Some(client) = self.clients.get_mut(&id)
        {
            client.capture = Some(Capture { label, msgs: Vec::new() });
        }
        self.answering = Some(id);
        let Ok(params) = line.parameters.iter().map(|param| String::from_utf8(param.to_vec())).collect() else {
            self.fail(id, &name, "INVALID_UTF8", &[], "Message rejected, your IRC software MUST use UTF-8 encoding");
            return Vec::new();
        };
        let mut tags = Vec::new();
        if caps.has(caps::MESSAGE_TAGS) {
            for tag in line.tags.iter().filter(|tag| tag.key.starts_with(b"+")) {
                let key = String::from_utf8_lossy(tag.key).into_owned();
                let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '/');
                // What is no key can't be passed on; the message can.
                if key.len() < 2 || !key.chars().all(good) {
                    continue;
                }
                match String::from_utf8(tag.value.into_owned()) {
                    Ok(value) if !value.contains('\0') => tags.push((key, value)),
                    _ => {
                        self.fail(id, &name, "INVALID_UTF8", &[], "Message rejected: a tag is no UTF-8");
                        return Vec::new();
                    }
                }
            }
        }
        let multiline = caps.has(caps::MULTILINE.with(caps::BATCH));
        let batch = line.tags.get("batch").filter(|_| multiline);
        let concat = batch.is_some() && line.tags.get(CONCAT).is_some();
        let command = Command { name, word, params, tags, batch, concat, pieces: Vec::new() };
        if command.batch.is_some() && command.name != "BATCH" {
            self.batch_line(id, command);
            self.answering = None;
            return Vec::new();
        }
        let asks = self.command(id, command);
        self.answering = None;
        asks
    }

    fn command(&mut self, id: ClientId, command: Command) -> Asks {
        if let Some(least) = least(&command.name)
            && command.params.len() < least
        {
            self.numeric(id, "461", [&command.name, "Not enough parameters"]);
            return Vec::new();
        }
        let registered = self.clients.get(&id).is_some_and(|client| client.reg.is_none());
        match (command.name.as_str(), registered) {
            ("CAP", _) => self.cap(id, &command),
            ("AUTHENTICATE", _) => self.authenticate(id, &command),
            ("PASS" | "USER", true) => {
                self.numeric(id, "462", ["You may not reregister"]);
                Vec::new()
            }
            ("PASS", false) => self.pass(id, &command),
            ("USER", false) => self.user(id, &command),
            ("NICK", false) => self.nick(id, &command),
            ("PING", _) => self.ping(id, &command),
            ("PONG", _) => Vec::new(),
            ("QUIT", _) => self.quit(id, &command),
            ("ERROR", _) => Vec::new(),
            ("BOUNCER", false) => self.bind(id, &command),
            (_, false) => {
                self.numeric(id, "451", ["You have not registered"]);
                Vec::new()
            }
            ("BATCH", true) => self.batch(id, command),
            (_, true) => self.registered(id, &command),
        }
    }

    fn registered(&mut self, id: ClientId, command: &Command) -> Asks {
        if let Some(asks) = self.outside(id, command) {
            return asks;
        }
        match command.name.as_str() {
            "JOIN" => return self.join(id, command),
            "PART" => return self.part(id, command),
            "KICK" => return self.kick(id, command),
            "INVITE" => return self.invite(id, command),
            "TOPIC" => return self.topic(id, command),
            "MODE" => return self.mode(id, command),
            "PRIVMSG" | "NOTICE" | "TAGMSG" => return self.message(id, command),
            "CHATHISTORY" => return self.chathistory(id, command),
            "MARKREAD" => return self.markread(id, command),
            "BOUNCER" => return self.bouncer(id, command),
            "AWAY" => return self.away(id, command),
            "NICK" => return self.nick(id, command),
            "NAMES" => self.names(id, command),
            "LIST" => self.list(id, command),
            "WHO" => self.who(id, command),
            "WHOIS" => self.whois(id, command),
            "WHOWAS" => self.whowas(id, command),
            "ISON" => self.ison(id, command),
            "USERHOST" => self.userhost(id, command),
            "USERIP" => self.userip(id, command),
            "MONITOR" => self.monitor(id, command),
            "SETNAME" => self.setname(id, command),
            "MOTD" => self.motd_for(id, command),
            "LUSERS" => self.lusers(id),
            "VERSION" => self.version(id, command),
            "TIME" => self.time(id, command),
            "INFO" => self.info(id, command),
            "ADMIN" => self.admin(id, command),
            "STATS" => self.stats(id, command),
            "LINKS" => self.links(id),
            "HELP" | "HELPOP" => self.help(id, command),
            // RFC 2812, sections 4.5 and 4.6: what servers need not have.
            "SUMMON" => self.numeric(id, "445", ["SUMMON has been disabled"]),
            "USERS" => self.numeric(id, "446", ["USERS has been disabled"]),
            "OPER" => self.numeric(id, "491", ["No O-lines for your host"]),
            "KILL" | "REHASH" | "DIE" | "RESTART" | "SQUIT" | "CONNECT" | "WALLOPS" | "TRACE" => {
                self.numeric(id, "481", ["Permission Denied- You're not an IRC operator"]);
            }
            _ => self.numeric(id, "421", [&command.word, "Unknown command"]),
        }
        Vec::new()
    }

    /// What the host answered to an [`Ask`]. What comes back is to be asked before what is still to be asked.
    pub fn given(&mut self, now: Timestamp, id: ClientId, ask: Ask, outcome: Outcome) -> Asks {
        self.now = now;
        self.answering = Some(id);
        let asks = self.take(id, ask, outcome);
        self.answering = None;
        asks
    }

    fn take(&mut self, id: ClientId, ask: Ask, outcome: Outcome) -> Asks {
        match (ask, outcome) {
            (Ask::Login { sasl, .. }, outcome) => return self.logged_in(id, sasl, outcome),
            (Ask::Taken { nick }, outcome) => return self.nick_checked(id, &nick, &outcome),
            (Ask::Enter, outcome) => return self.entered(id, outcome),
            (Ask::Change { group, change }, outcome) => self.changed(id, &group, &change, outcome),
            (Ask::Say { target, quiet, .. }, Err(error)) if !quiet => self.unsaid(id, &target, &error),
            (Ask::GuestSays { group, .. }, Err(error)) => self.unsaid(id, &group, &error),
            (Ask::Mail { to, .. }, Err(error)) => self.unsaid(id, &to, &error),
            (Ask::MailService { .. }, outcome) => {
                let lines = match outcome {
                    Ok(Given::Text(lines)) => lines,
                    Ok(_) => Vec::new(),
                    Err(error) => vec![error.message().to_owned()],
                };
                self.service_says(id, "*mail", &lines);
            }
            (Ask::History { target, sub, .. }, outcome) => self.history_given(id, &target, &sub, outcome),
            (Ask::Targets { .. }, outcome) => self.targets_given(id, outcome),
            (Ask::Marker { target, set, joined, .. }, outcome) => {
                self.marker_given(id, &target, set.is_some(), joined, outcome);
            }
            (Ask::Playback, outcome) => self.playback_given(id, outcome),
            (Ask::Network { question, context }, outcome) => {
                return self.network_given(id, &question, &context, outcome);
            }
            _ => {}
        }
        Vec::new()
    }
}

/// The least number of parameters, where the answer to fewer is 461.
fn least(command: &str) -> Option<usize> {
    Some(match command {
        "PASS" | "AUTHENTICATE" | "JOIN" | "PART" | "TOPIC" | "MODE" | "CAP" | "ISON" | "USERHOST" | "USERIP"
        | "SETNAME" | "MONITOR" | "PING" | "STATS" | "KILL" | "BATCH" => 1,
        "KICK" | "OPER" => 2,
        "USER" => 4,
        _ => return None,
    })
}
