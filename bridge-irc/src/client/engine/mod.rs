//! The IRC server itself, without sockets, sessions or a clock: lines and events in, lines into [`Outbox`]es, and [`Ask`]s out for what
//! only the host can do.
//!
//! A **person** is somebody on the network: a guest (one client) or a user with an account (any number of clients, also none, as long as
//! the user belongs to a group). All clients of a person share its nick, channels, modes and absence. A channel whose
//! members have accounts is a **group** of the exchange: its state comes from the host, its lines from each client's live feed. A channel of
//! guests alone lives here only.
//!
//! What must hold:
//! - everything that a client is sent goes through `Server::send`, which gives labels and tags as the client asked for them;
//! - while a command waits for the host, its client's next commands wait too, so that answers come in the order of the commands;
//! - a login name is nobody else's nick; a user may go by any other nick that is free, and has the login name again as nick once no
//!   client of the user's is left; a person is removed once it has neither clients nor groups.

mod answer;
pub mod ask;
mod bouncer;
mod cap;
pub mod caps;
mod channel;
mod commands;
mod history;
mod info;
mod isupport;
mod join;
pub mod live;
mod message;
mod modes;
pub mod msg;
mod multiline;
pub mod names;
mod network;
pub mod outbox;
mod people;
mod register;
#[cfg(test)]
mod tests;
mod who;
mod written;

pub use ask::{Ask, Given};
use caps::Caps;
use channel::Channel;
use mesyx_irc_codec::sasl::Collector;
use mesyx_sdk::{Domain, MessageId, Timestamp, User};
use msg::Msg;
use names::fold;
use outbox::Outbox;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use zeroize::Zeroizing;

/// A connection.
pub type ClientId = u64;
/// A person.
pub type PersonId = u64;

/// What the server says of itself, and what it allows.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The server's name: the host name.
    pub server: String,
    /// The network's name.
    pub network: String,
    /// The exchange's domain.
    pub domain: Domain,
    /// The message of the day, a line each; empty for none.
    pub motd: Vec<String>,
    /// Whether people without an account are let in.
    pub guests: bool,
    /// When the server was started.
    pub started: Timestamp,
    /// Most channels of a guest.
    pub channels: usize,
    /// Longest topic, in bytes.
    pub topic: usize,
    /// Longest name of a channel, in bytes with its `#`.
    pub channel_name: usize,
    /// How long a client may take to register, in milliseconds.
    pub register: i64,
    /// After how long without a line a client is asked whether it is there, in milliseconds; and as long after that it is gone.
    pub ping: i64,
    /// Secret under which the hosts of guests are hidden.
    pub cloak: [u8; 32],
}

/// One connection.
#[derive(Debug)]
pub(super) struct Client {
    outbox: Arc<Outbox>,
    ip: IpAddr,
    tls: bool,
    caps: Caps,
    /// Version of `CAP LS`; 0 before it.
    cap_version: u16,
    /// What it says before it is let in; `None` from then on.
    reg: Option<Registration>,
    person: Option<PersonId>,
    /// What it said of a login by SASL so far.
    sasl: Option<Collector>,
    /// Logins of it that failed.
    tries: u32,
    /// The account that it logged in to.
    user: Option<User>,
    /// Name of the client program after `@` in the login.
    pub(super) device: String,
    /// The outside network that it is bound to.
    pub(super) network: Option<String>,
    since: Timestamp,
    heard: Timestamp,
    pinged: bool,
    capture: Option<Capture>,
    /// Whom it monitors: folded, and as it was written.
    monitors: BTreeMap<String, String>,
    /// Lines that this connection submitted.
    mine: VecDeque<MessageId>,
    /// A message of several lines that the client is sending.
    sending: Option<multiline::Open>,
    /// What it was told last of how far conversations were read.
    markers: HashMap<String, Timestamp>,
    quit: Option<String>,
    /// The nick told to this client: on a bound connection that of the outside network.
    alias: Option<String>,
    /// The user's nicks on networks outside, where the client is bound to none of them.
    nicks: BTreeMap<String, String>,
}

/// The answer to one labeled command as it grows.
#[derive(Debug)]
struct Capture {
    label: String,
    msgs: Vec<Msg>,
}

/// What a client said of itself so far.
#[derive(Debug, Default)]
struct Registration {
    nick: Option<String>,
    /// The nick is known to be no account's.
    free: bool,
    user: Option<String>,
    real: String,
    pass: Option<Zeroizing<String>>,
    negotiating: bool,
    /// The host is being asked.
    asked: bool,
}

/// Somebody on the network.
#[derive(Debug, Clone)]
pub(super) struct Person {
    nick: String,
    user: String,
    host: String,
    real: String,
    account: Option<String>,
    clients: Vec<ClientId>,
    channels: BTreeSet<String>,
    away: Option<String>,
    invisible: bool,
    bot: bool,
    since: Timestamp,
    spoke: Timestamp,
    /// Channels that it was invited to.
    invited: HashSet<String>,
    /// How far a guest read: in memory only, as all of a guest's.
    markers: HashMap<String, Timestamp>,
}

impl Person {
    fn mask(&self) -> String {
        format!("{}!{}@{}", self.nick, self.user, self.host)
    }
}

/// What of a line does not go over the host.
#[derive(Debug)]
struct Kept {
    id: MessageId,
    tags: Vec<(String, String)>,
    pieces: multiline::Pieces,
}

/// Somebody who was there.
#[derive(Debug, Clone)]
struct Was {
    nick: String,
    user: String,
    host: String,
    real: String,
    at: Timestamp,
}

/// Most people that WHOWAS remembers.
const MOST_WAS: usize = 500;
/// Most nicks that a client may monitor.
pub(super) const MOST_MONITORED: usize = 100;

/// The server. See the head of this module.
#[derive(Debug)]
pub struct Server {
    facts: Facts,
    now: Timestamp,
    clients: HashMap<ClientId, Client>,
    people: HashMap<PersonId, Person>,
    /// By nick as it is now.
    nicks: HashMap<String, PersonId>,
    /// People with an account, by login name: it is nobody else's nick, whatever theirs is.
    accounts: HashMap<String, PersonId>,
    channels: BTreeMap<String, Channel>,
    was: VecDeque<Was>,
    monitored: HashMap<String, BTreeSet<ClientId>>,
    /// Lines of channels as they were written last, for the next client that is told them.
    written: written::Written,
    /// Tags that came with a line, and how its sender cut it, until it comes back on the live feeds.
    kept: VecDeque<Kept>,
    next: u64,
    batches: u64,
    /// Most people who were connected at once.
    most_people: usize,
    /// Whose command is being answered.
    answering: Option<ClientId>,
}

impl Server {
    /// A server without clients.
    #[must_use]
    pub fn new(facts: Facts) -> Self {
        let now = facts.started;
        Self {
            facts,
            now,
            clients: HashMap::new(),
            people: HashMap::new(),
            nicks: HashMap::new(),
            accounts: HashMap::new(),
            channels: BTreeMap::new(),
            was: VecDeque::new(),
            monitored: HashMap::new(),
            written: written::Written::default(),
            kept: VecDeque::new(),
            next: 1,
            batches: 0,
            most_people: 0,
            answering: None,
        }
    }

    /// A client connected.
    pub fn connected(&mut self, now: Timestamp, ip: IpAddr, tls: bool, outbox: Arc<Outbox>) -> ClientId {
        self.now = now;
        let id = self.fresh();
        let client = Client {
            outbox,
            ip,
            tls,
            caps: Caps::NONE,
            cap_version: 0,
            reg: Some(Registration::default()),
            person: None,
            sasl: None,
            tries: 0,
            user: None,
            device: String::new(),
            network: None,
            since: now,
            heard: now,
            pinged: false,
            capture: None,
            monitors: BTreeMap::new(),
            mine: VecDeque::new(),
            sending: None,
            markers: HashMap::new(),
            quit: None,
            alias: None,
            nicks: BTreeMap::new(),
        };
        self.clients.insert(id, client);
        id
    }

    /// The connection is gone.
    pub fn disconnected(&mut self, now: Timestamp, id: ClientId, why: &str) {
        self.now = now;
        let Some(client) = self.clients.remove(&id) else { return };
        for nick in client.monitors.keys() {
            if let Some(watchers) = self.monitored.get_mut(nick) {
                watchers.remove(&id);
                if watchers.is_empty() {
                    self.monitored.remove(nick);
                }
            }
        }
        let reason = client.quit.unwrap_or_else(|| why.to_owned());
        if let Some(person) = client.person {
            self.detach(person, id, &reason);
        }
    }

    /// Time passed: asks the silent whether they are there, and ends those that are not.
    pub fn tick(&mut self, now: Timestamp) {
        self.now = now;
        let mut ends = Vec::new();
        let mut asks = Vec::new();
        for (id, client) in &self.clients {
            let silent = now.0 - client.heard.0;
            if client.reg.is_some() {
                // A login that the host is still checking is not the client's delay.
                if now.0 - client.since.0 > self.facts.register {
                    ends.push((*id, "Registration timed out"));
                }
            } else if client.pinged && silent > self.facts.ping.saturating_mul(2) {
                ends.push((*id, "Ping timeout"));
            } else if !client.pinged && silent > self.facts.ping {
                asks.push(*id);
            }
        }
        for id in asks {
            if let Some(client) = self.clients.get_mut(&id) {
                client.pinged = true;
            }
            self.send(id, Msg::new(self.facts.server.clone(), "PING").arg(self.facts.server.clone()));
        }
        for (id, why) in ends {
            self.end(id, why);
        }
    }

    /// The name of the client program in its login, and the network that it is bound to.
    pub fn binding(&self, id: ClientId) -> (String, Option<String>) {
        self.clients.get(&id).map_or_else(Default::default, |client| (client.device.clone(), client.network.clone()))
    }

    /// Whether the client's present command is labeled, so that all of its answer must be waited for.
    pub fn is_labeled(&self, id: ClientId) -> bool {
        self.clients.get(&id).is_some_and(|client| client.capture.is_some())
    }

    /// Whether a client is let in.
    pub fn is_let_in(&self, id: ClientId) -> bool {
        self.clients.get(&id).is_some_and(|client| client.reg.is_none())
    }

    /// A client sent too much before it was let in.
    pub fn too_much(&mut self, now: Timestamp, id: ClientId) {
        self.now = now;
        self.end(id, "Too much before the login");
    }

    /// Whether a client is told what was read.
    pub fn wants_markers(&self, id: ClientId) -> bool {
        self.caps(id).has(caps::READ_MARKER)
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    fn person_of(&self, id: ClientId) -> Option<(PersonId, &Person)> {
        let pid = self.clients.get(&id)?.person?;
        Some((pid, self.people.get(&pid)?))
    }

    /// Who has this nick, or else this login name.
    fn person_named(&self, nick: &str) -> Option<(PersonId, &Person)> {
        let key = fold(nick);
        let pid = *self.nicks.get(&key).or_else(|| self.accounts.get(&key))?;
        Some((pid, self.people.get(&pid)?))
    }

    /// Who is connected under just this nick.
    fn person_here(&self, nick: &str) -> Option<&Person> {
        self.people.get(self.nicks.get(&fold(nick))?).filter(|person| !person.absent())
    }

    /// Whether somebody else has this nick, or has it as login name.
    fn is_held(&self, nick: &str, own: Option<PersonId>) -> bool {
        let key = fold(nick);
        [&self.nicks, &self.accounts].iter().any(|names| names.get(&key).is_some_and(|pid| Some(*pid) != own))
    }

    /// The nick by which a user of the exchange goes now.
    pub(super) fn nick_of_account(&self, name: &str) -> String {
        let person = self.accounts.get(&fold(name)).and_then(|pid| self.people.get(pid));
        person.map_or_else(|| name.to_owned(), |person| person.nick.clone())
    }

    fn caps(&self, id: ClientId) -> Caps {
        self.clients.get(&id).map_or(Caps::NONE, |client| client.caps)
    }

    /// The nick by which the server calls a client.
    fn nick_of(&self, id: ClientId) -> String {
        let Some(client) = self.clients.get(&id) else { return "*".into() };
        if let Some(alias) = &client.alias {
            return alias.clone();
        }
        match client.person.and_then(|pid| self.people.get(&pid)) {
            Some(person) => person.nick.clone(),
            None => client.reg.as_ref().and_then(|reg| reg.nick.clone()).unwrap_or_else(|| "*".into()),
        }
    }

    fn batch_name(&mut self) -> String {
        self.batches += 1;
        format!("b{}", self.batches)
    }

    /// All clients of a person.
    fn clients_of(&self, person: PersonId) -> Vec<ClientId> {
        self.people.get(&person).map_or_else(Vec::new, |person| person.clients.clone())
    }

    /// Sends a line to every client in a channel, but for one.
    fn tell_channel(&mut self, key: &str, msg: &Msg, except: Option<ClientId>, need: Caps) {
        let Some(channel) = self.channels.get(key) else { return };
        let all: Vec<ClientId> = channel.members.keys().flat_map(|person| self.clients_of(*person)).collect();
        for id in all {
            if Some(id) != except && self.caps(id).has(need) && self.is_local(id) {
                self.send(id, msg.clone());
            }
        }
    }

    /// Whether a connection sees this exchange's own channels: one bound to an outside network does not.
    pub(super) fn is_local(&self, id: ClientId) -> bool {
        self.clients.get(&id).is_some_and(|client| client.network.is_none())
    }

    /// The clients that share a channel with a person, its own left out.
    fn neighbours(&self, person: PersonId) -> BTreeSet<ClientId> {
        let mut all = BTreeSet::new();
        let Some(own) = self.people.get(&person) else { return all };
        for key in &own.channels {
            let Some(channel) = self.channels.get(key) else { continue };
            for member in channel.members.keys().filter(|member| **member != person) {
                all.extend(self.clients_of(*member));
            }
        }
        all.retain(|id| self.is_local(*id));
        all
    }

    /// What of a line goes not over the host, kept for when it comes back.
    fn keep(&mut self, id: MessageId, tags: Vec<(String, String)>, pieces: multiline::Pieces) {
        if tags.is_empty() && pieces.is_empty() {
            return;
        }
        if self.kept.len() >= 256 {
            self.kept.pop_front();
        }
        self.kept.push_back(Kept { id, tags, pieces });
    }
}
