//! How a client is let in: PASS, NICK, USER, AUTHENTICATE, then the welcome.

use super::ask::{Ask, Asks, Given, Outcome};
use super::commands::Command;
use super::msg::{Msg, stamp};
use super::names::{self, fold, is_nick};
use super::{Caps, ClientId, Person, Server, caps};
use mesyx_irc_codec::sasl::{Collected, Collector};
use mesyx_sdk::{ErrorKind, Secret};
use std::collections::{BTreeSet, HashMap, HashSet};
use zeroize::Zeroizing;

/// Most bytes of base64 in one SASL exchange.
const MOST_SASL: usize = 2000;
/// Most failed logins on one connection.
const MOST_TRIES: u32 = 3;

/// Parts of a login: `NAME`, `NAME/NETWORK`, `NAME@CLIENT`, `NAME/NETWORK@CLIENT`.
pub(super) fn login_parts(login: &str) -> (&str, Option<&str>, &str) {
    let (rest, device) = login.split_once('@').unwrap_or((login, ""));
    match rest.split_once('/') {
        Some((name, network)) if !network.is_empty() => (name, Some(network), device),
        Some((name, _)) => (name, None, device),
        None => (rest, None, device),
    }
}

impl Server {
    pub(super) fn pass(&mut self, id: ClientId, command: &Command) -> Asks {
        let pass = command.params.first().cloned().map(Zeroizing::new);
        if let Some(reg) = self.clients.get_mut(&id).and_then(|client| client.reg.as_mut()) {
            reg.pass = pass;
        }
        Vec::new()
    }

    pub(super) fn user(&mut self, id: ClientId, command: &Command) -> Asks {
        let (Some(user), Some(real)) = (command.get(0), command.get(3)) else {
            self.numeric(id, "461", ["USER", "Not enough parameters"]);
            return Vec::new();
        };
        if let Some(reg) = self.clients.get_mut(&id).and_then(|client| client.reg.as_mut()) {
            reg.user = Some(user.to_owned());
            reg.real = names::cut(real, names::TEXT);
        }
        self.try_register(id)
    }

    pub(super) fn nick(&mut self, id: ClientId, command: &Command) -> Asks {
        let Some(nick) = command.get(0) else {
            self.numeric(id, "431", ["No nickname given"]);
            return Vec::new();
        };
        let Some(client) = self.clients.get(&id) else { return Vec::new() };
        let account = client.user.as_ref().map(|user| user.name.clone());
        let Some(reg) = &client.reg else { return self.change_nick(id, nick, account.as_deref()) };
        // `alice/libera` may stand as a nick next to a password; it names the login then, and is nobody's nick.
        let login = reg.pass.is_some() && !nick.contains([' ', '*', ':', ',', '!', '@', '#']);
        if !is_nick(nick) && !login {
            self.no_nick(id, nick);
            return Vec::new();
        }
        let may_log_in = reg.negotiating || reg.pass.is_some() || account.is_some() || !self.facts.guests;
        let key = fold(nick);
        let own = account.as_deref().is_some_and(|name| fold(name) == key);
        match self.nicks.get(&key).or_else(|| self.accounts.get(&key)).and_then(|pid| self.people.get(pid)) {
            // Perhaps one more client of this user, who has not logged in yet.
            Some(person) if may_log_in && person.account.is_some() => self.take_nick(id, nick),
            Some(_) => {
                self.nick_in_use(id, nick);
                Vec::new()
            }
            None if own || login || !self.facts.guests => self.take_nick(id, nick),
            None => vec![Ask::Taken { nick: nick.to_owned() }],
        }
    }

    fn no_nick(&mut self, id: ClientId, nick: &str) {
        let shown = if nick.contains(' ') || nick.starts_with(':') { "*" } else { nick };
        self.numeric(id, "432", [shown, "Erroneous nickname"]);
    }

    fn nick_in_use(&mut self, id: ClientId, nick: &str) {
        if let Some(reg) = self.clients.get_mut(&id).and_then(|client| client.reg.as_mut()) {
            reg.nick = None;
        }
        self.numeric(id, "433", [nick, "Nickname is already in use"]);
    }

    /// NICK of a client that was let in.
    fn change_nick(&mut self, id: ClientId, nick: &str, account: Option<&str>) -> Asks {
        let Some((pid, person)) = self.person_of(id) else { return Vec::new() };
        if !is_nick(nick) && account.is_none_or(|name| fold(name) != fold(nick)) {
            self.no_nick(id, nick);
        } else if self.is_held(nick, Some(pid)) {
            self.nick_in_use(id, nick);
        } else if fold(&person.nick) == fold(nick) || account.is_some_and(|name| fold(name) == fold(nick)) {
            self.rename(pid, nick);
        } else {
            return vec![Ask::Taken { nick: nick.to_owned() }];
        }
        Vec::new()
    }

    /// The host said whether a nick is an account's.
    pub(super) fn nick_checked(&mut self, id: ClientId, nick: &str, outcome: &Outcome) -> Asks {
        let Some(client) = self.clients.get(&id) else { return Vec::new() };
        let (person, logged_in) = (client.person, client.user.is_some());
        let taken = !matches!(outcome, Ok(Given::Taken(false)));
        // A client that logs in later in its registration may propose its own name now.
        let may_log_in = client.reg.as_ref().is_some_and(|reg| reg.negotiating) && !logged_in;
        if self.is_held(nick, person) || (taken && !may_log_in) {
            self.nick_in_use(id, nick);
            return Vec::new();
        }
        if let Some(reg) = self.clients.get_mut(&id).and_then(|client| client.reg.as_mut()) {
            reg.nick = Some(nick.to_owned());
            reg.free = !taken;
            return self.try_register(id);
        }
        self.take_nick(id, nick)
    }

    fn take_nick(&mut self, id: ClientId, nick: &str) -> Asks {
        let Some(client) = self.clients.get_mut(&id) else { return Vec::new() };
        if let Some(reg) = &mut client.reg {
            reg.nick = Some(nick.to_owned());
            reg.free = false;
            return self.try_register(id);
        }
        if let Some(person) = client.person {
            self.rename(person, nick);
        }
        Vec::new()
    }

    /// Lets the client in, if it has said all it must.
    pub(super) fn try_register(&mut self, id: ClientId) -> Asks {
        let guests = self.facts.guests;
        let Some(client) = self.clients.get_mut(&id) else { return Vec::new() };
        let Some(reg) = &mut client.reg else { return Vec::new() };
        let (Some(nick), Some(user)) = (reg.nick.clone(), reg.user.clone()) else { return Vec::new() };
        if reg.negotiating || reg.asked {
            return Vec::new();
        }
        let free = reg.free;
        if let Some(account) = &client.user {
            let name = fold(&account.name);
            // Who comes to a network outside, to clients of the same user, or under the login name, needs no nick here.
            let other = client.network.is_none() && is_nick(&nick) && fold(&nick) != name;
            let pid = self.accounts.get(&name).copied();
            let first = pid.and_then(|pid| self.people.get(&pid)).is_none_or(Person::absent);
            if other && first && self.is_held(&nick, pid) {
                self.nick_in_use(id, &nick);
                return Vec::new();
            }
            if other && first && !free {
                return vec![Ask::Taken { nick }];
            }
            if let Some(reg) = self.clients.get_mut(&id).and_then(|client| client.reg.as_mut()) {
                reg.asked = true;
            }
            return vec![Ask::Enter];
        }
        if let Some(pass) = reg.pass.take() {
            // `PASS NAME:PASSWORD`, or the password alone for the name in USER (or NICK, where USER names nobody).
            let (login, password) = match pass.split_once(':') {
                Some((login, password)) => (login.to_owned(), password),
                None => (user, pass.as_str()),
            };
            reg.asked = true;
            return vec![self.login(id, &login, password.as_bytes(), false)];
        }
        if !guests {
            self.numeric(id, "464", ["This server needs a login: SASL PLAIN, or PASS NAME:PASSWORD"]);
            self.fail(id, "*", "ACCOUNT_REQUIRED", &[], "This server needs a login: SASL PLAIN, or PASS NAME:PASSWORD");
            self.end(id, "A login is needed");
            return Vec::new();
        }
        // CAP END after the nick of an account, without having logged in.
        if self.is_held(&nick, None) {
            self.nick_in_use(id, &nick);
            return Vec::new();
        }
        if !free {
            return vec![Ask::Taken { nick }];
        }
        self.enter_guest(id, &nick, &user)
    }

    fn login(&mut self, id: ClientId, login: &str, password: &[u8], sasl: bool) -> Ask {
        let (name, network, device) = login_parts(login);
        if let Some(client) = self.clients.get_mut(&id) {
            client.device = names::cut(device, 64);
            client.network = network.map(str::to_ascii_lowercase);
        }
        Ask::Login { name: name.to_owned(), password: Secret::new(password.to_vec()), sasl }
    }

    pub(super) fn authenticate(&mut self, id: ClientId, command: &Command) -> Asks {
        let param = command.get(0).unwrap_or_default();
        let Some(client) = self.clients.get_mut(&id) else { return Vec::new() };
        if client.user.is_some() {
            self.numeric(id, "907", ["You have already authenticated using SASL"]);
            return Vec::new();
        }
        let Some(collector) = &mut client.sasl else {
            if param == "*" {
                self.numeric(id, "906", ["SASL authentication aborted"]);
            } else if !client.caps.has(caps::SASL) {
                self.numeric(id, "904", ["SASL authentication failed: request the capability first"]);
            } else if param.eq_ignore_ascii_case("PLAIN") {
                client.sasl = Some(Collector::new(MOST_SASL));
                // AUTHENTICATE has no source in some servers; clients take both.
                let msg = self.own_msg("AUTHENTICATE").arg("+");
                self.send(id, msg);
            } else {
                self.numeric(id, "908", ["PLAIN", "are available SASL mechanisms"]);
                self.numeric(id, "904", ["SASL authentication failed"]);
            }
            return Vec::new();
        };
        if param.len() > 400 {
            client.sasl = None;
            self.numeric(id, "905", ["SASL message too long"]);
            return Vec::new();
        }
        let collected = collector.push(param.as_bytes());
        if collected != Collected::More {
            client.sasl = None;
        }
        let guest = client.reg.is_none();
        match collected {
            Collected::More => {}
            Collected::Aborted => self.numeric(id, "906", ["SASL authentication aborted"]),
            Collected::Bad => self.numeric(id, "904", ["SASL authentication failed"]),
            Collected::Whole(payload) => {
                let parts: Vec<&[u8]> = payload.split(|byte| *byte == 0).collect();
                if let [authzid, authcid, password] = parts.as_slice()
                    && let (Ok(authzid), Ok(authcid)) = (str::from_utf8(authzid), str::from_utf8(authcid))
                    && !authcid.is_empty()
                    && (authzid.is_empty() || login_parts(authzid).0.eq_ignore_ascii_case(login_parts(authcid).0))
                {
                    if guest && login_parts(authcid).1.is_some() {
                        let why = "SASL authentication failed: a network is named when the connection is new";
                        self.numeric(id, "904", [why]);
                        return Vec::new();
                    }
                    return vec![self.login(id, authcid, password, true)];
                }
                self.numeric(id, "904", ["SASL authentication failed"]);
            }
        }
        Vec::new()
    }

    pub(super) fn logged_in(&mut self, id: ClientId, sasl: bool, outcome: Outcome) -> Asks {
        let domain = self.facts.domain.to_string();
        let nick = self.nick_of(id);
        let Some(client) = self.clients.get_mut(&id) else { return Vec::new() };
        let guest = client.reg.is_none();
        if let Some(reg) = &mut client.reg {
            reg.asked = false;
        }
        match outcome {
            Ok(Given::User(user)) => {
                let account = user.name.clone();
                client.user = Some(user);
                let mask = format!("{nick}!{account}@{domain}");
                self.numeric(id, "900", [&mask, &account, &format!("You are now logged in as {account}")]);
                if sasl {
                    self.numeric(id, "903", ["SASL authentication successful"]);
                }
                // IRCv3 `sasl-3.2`: at any time. The guest is gone then, and the user there.
                if guest { vec![Ask::Enter] } else { self.try_register(id) }
            }
            Ok(_) => Vec::new(),
            Err(error) => {
                client.tries += 1;
                client.network = None;
                let (tries, slow) = (client.tries, error.kind() == ErrorKind::TooMany);
                let (later, command) = (error.kind().is_temporary(), if sasl { "AUTHENTICATE" } else { "PASS" });
                let text = if error.kind() == ErrorKind::LoginFailed {
                    "the name or the password is wrong"
                } else {
                    error.message()
                };
                if later {
                    // RFC 2812, section 5.1: what was not processed. No numeric of SASL says it, and 904 stands for all
                    // other failures.
                    self.numeric(id, "263", [command, &format!("Please wait a while and try again: {text}")]);
                }
                if sasl {
                    self.numeric(id, "904", [&format!("SASL authentication failed: {text}")]);
                } else if !later {
                    self.numeric(id, "464", [&format!("Password incorrect: {text}")]);
                }
                if !sasl || tries >= MOST_TRIES || slow {
                    self.end(id, if later { "Try again later" } else { "Login failed" });
                }
                Vec::new()
            }
        }
    }

    fn enter_guest(&mut self, id: ClientId, nick: &str, user: &str) -> Asks {
        let host = self.cloak(id);
        let Some(client) = self.clients.get_mut(&id) else { return Vec::new() };
        let Some(reg) = client.reg.take() else { return Vec::new() };
        let good = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let user: String = user.chars().filter(good).take(names::USER - 1).collect();
        let person = Person {
            nick: nick.to_owned(),
            user: format!("~{}", if user.is_empty() { "guest" } else { &user }),
            host,
            real: reg.real,
            account: None,
            clients: vec![id],
            channels: BTreeSet::new(),
            away: None,
            invisible: false,
            bot: false,
            since: self.now,
            spoke: self.now,
            invited: HashSet::new(),
            markers: HashMap::new(),
        };
        let pid = self.fresh();
        if let Some(client) = self.clients.get_mut(&id) {
            client.person = Some(pid);
        }
        self.people.insert(pid, person);
        self.nicks.insert(fold(nick), pid);
        self.count_people();
        self.welcome(id);
        self.tell_online(nick, true);
        Vec::new()
    }

    /// The user's groups came: the client becomes one more of the user's, and is let in.
    pub(super) fn entered(&mut self, id: ClientId, outcome: Outcome) -> Asks {
        let (groups, networks, bound) = match outcome {
            Ok(Given::Entered { groups, networks, bound }) => (groups, networks, bound),
            Ok(_) => return Vec::new(),
            Err(error) => {
                let why = format!("The conversations can't be opened: {}", error.message());
                self.end(id, &why);
                return Vec::new();
            }
        };
        let Some(client) = self.clients.get_mut(&id) else { return Vec::new() };
        let Some(user) = client.user.clone() else { return Vec::new() };
        let wanted = client.network.clone();
        if let Some(network) = &wanted
            && !networks.iter().any(|known| known.name == *network)
        {
            let why = format!("You have no network named {network}");
            self.fail(id, "BOUNCER", "INVALID_NETID", &["BIND", network], &why);
            self.end(id, &why);
            return Vec::new();
        }
        let was_guest = self.end_guest(id, &user.name);
        for group in &groups {
            self.update_group(group);
        }
        let Some(client) = self.clients.get_mut(&id) else { return Vec::new() };
        let reg = client.reg.take().unwrap_or_default();
        let (guest_nick, real) =
            was_guest.as_ref().map_or((None, reg.real), |guest| (Some(guest.nick.clone()), guest.real.clone()));
        let nick = guest_nick.or(reg.nick).filter(|nick| wanted.is_none() && is_nick(nick));
        let pid = self.attach(&user, id, real, nick.as_deref());
        let Some(client) = self.clients.get_mut(&id) else { return Vec::new() };
        client.person = Some(pid);
        if let Some((presence, _)) = &bound {
            client.alias = Some(presence.nick.clone()).filter(|nick| !nick.is_empty());
        }
        self.count_people();
        match was_guest {
            Some(guest) => {
                let nick = self.nick_of(id);
                if nick != guest.nick {
                    self.send(id, Msg::new(guest.mask(), "NICK").arg(nick));
                }
            }
            None => self.welcome(id),
        }
        let mut asks: Asks = self.enter_asks(id, &networks);
        if let Some((_, channels)) = bound {
            asks.extend(self.enter_network(id, &channels));
        } else {
            let keys: Vec<String> =
                self.people.get(&pid).map_or_else(Vec::new, |p| p.channels.iter().cloned().collect());
            for key in keys {
                asks.extend(self.show_joined(id, &key));
            }
            if self.caps(id).has(caps::BOUNCER_NOTIFY) {
                self.tell_networks(id, &networks);
            }
        }
        if !self.caps(id).has(caps::CHATHISTORY) {
            asks.push(Ask::Playback);
        }
        asks
    }

    /// A guest logged in: those who share a channel with the guest see it leave, and the client is in none of those channels any more, since
    /// what a user says there would be stored.
    fn end_guest(&mut self, id: ClientId, account: &str) -> Option<Person> {
        let (pid, person) = self.person_of(id)?;
        let channels: Vec<String> = person.channels.iter().cloned().collect();
        let guest = person.clone();
        let why = format!("Logged in as {account}");
        for key in channels {
            let Some(name) = self.channels.get(&key).map(|channel| channel.name.clone()) else { continue };
            let msg = self.said_by(pid, "PART").arg(name).arg(why.clone());
            self.send(id, msg);
        }
        self.detach(pid, id, &why);
        if let Some(client) = self.clients.get_mut(&id) {
            client.person = None;
        }
        Some(guest)
    }

    /// The numerics that open a connection (RFC 2812, section 5.1).
    fn welcome(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get(&id) {
            client.outbox.let_in();
        }
        let nick = self.nick_of(id);
        let Some((_, person)) = self.person_of(id) else { return };
        let mask = format!("{nick}!{}@{}", person.user, person.host);
        let network = self.clients.get(&id).and_then(|client| client.network.clone());
        let network = network.unwrap_or_else(|| self.facts.network.clone());
        let (server, started) = (self.facts.server.clone(), stamp(self.facts.started));
        let version = Self::VERSION;
        self.numeric(id, "001", [&format!("Welcome to the {network} Network, {mask}")]);
        self.numeric(id, "002", [&format!("Your host is {server}, running version {version}")]);
        self.numeric(id, "003", [&format!("This server was created {started}")]);
        self.numeric(id, "004", [&server, version, "Bi", "beIiklmnoqstv", "beIkloqv"]);
        self.isupport(id);
        self.lusers(id);
        self.motd(id);
        if let Some((_, person)) = self.person_of(id) {
            let modes = person.mode_word();
            if modes != "+" {
                let msg = self.own_msg("221").arg(nick).arg(modes);
                self.send(id, msg);
            }
        }
    }

    pub(super) fn ping(&mut self, id: ClientId, command: &Command) -> Asks {
        match command.get(0) {
            Some(token) => {
                let msg = self.own_msg("PONG").arg(self.facts.server.clone()).arg(token);
                self.send(id, msg);
            }
            None => self.numeric(id, "409", ["No origin specified"]),
        }
        Vec::new()
    }

    pub(super) fn quit(&mut self, id: ClientId, command: &Command) -> Asks {
        let reason = match command.get(0) {
            Some(text) => format!("Quit: {}", names::cut(text, names::TEXT)),
            None => "Quit".to_owned(),
        };
        if let Some(client) = self.clients.get_mut(&id) {
            client.quit = Some(reason.clone());
        }
        self.end(id, &reason);
        Vec::new()
    }

    /// Tells those who share a channel and asked for it.
    pub(super) fn tell_neighbours(&mut self, person: super::PersonId, msg: &Msg, need: Caps) {
        for id in self.neighbours(person) {
            if self.caps(id).has(need) {
                self.send(id, msg.clone());
            }
        }
    }
}
