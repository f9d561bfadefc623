//! All users and their connections.

use super::actor::{Actor, Link, Order, Say, otr_key};
use super::config::{IrcNetworkConfig, NetworkConfig};
use super::records::{self, UserRecord, good_name, is_shared, parse_channels, plan};
use super::relay::{self, Relay, RelayConfig};
use crate::link::{Ask, NetworkInfo, News, Reply, Settings, State};
use mesyx_sdk::{
    Address, Answer, DeferScope, Delivery, Error, ErrorKind, Host, Line, MailAddress, Outcome, Question, Secret,
    Timestamp, User,
};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;

/// The longest that a network may take to answer; the host waits ten seconds.
const PATIENCE: Duration = Duration::from_millis(9_500);
/// The longest that taking leave of all networks may take.
const GOODBYE: Duration = Duration::from_secs(6);

pub(crate) struct Manager {
    host: Arc<dyn Host>,
    config: IrcNetworkConfig,
    /// By address in the chat world, in lower case.
    users: Mutex<HashMap<String, Entry>>,
    relays: Mutex<Vec<Running>>,
}

/// A relay's connection, and what brings it what is said in groups.
struct Running {
    link: Link,
    hearing: JoinHandle<()>,
}

struct Entry {
    record: UserRecord,
    address: MailAddress,
    links: HashMap<String, Link>,
}

fn invalid(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, what)
}

impl Manager {
    /// Reads what is kept, and connects who is to be connected.
    pub(crate) async fn start(host: Arc<dyn Host>, config: IrcNetworkConfig) -> Result<Self, Error> {
        let manager = Self { host, config, users: Mutex::default(), relays: Mutex::default() };
        let mut users = manager.users.lock().await;
        for key in manager.host.checkpoints("user/").await? {
            let Some(kept) = manager.host.checkpoint(&key).await? else { continue };
            let record: Result<UserRecord, _> = serde_json::from_slice(kept.expose());
            match record.map_err(|error| error.to_string()).and_then(Entry::new) {
                Ok((name, entry)) => drop(users.insert(name, entry)),
                Err(error) => tracing::error!(key, error, "a user's networks can't be read"),
            }
        }
        for name in manager.config.network.iter().flat_map(|network| &network.users) {
            let Ok(address) = MailAddress::new(name, manager.host.domain().clone()) else { continue };
            users.entry(key_of(&address)).or_insert_with(|| Entry::of(UserRecord::new(name, &address), address));
        }
        for entry in users.values_mut() {
            manager.connect_all(entry);
        }
        drop(users);
        Ok(manager)
    }

    /// Begins the relays. What ails one must be told after the bridge said that it is ready, or that would cover it.
    pub(crate) async fn begin_relays(&self) -> Result<(), Error> {
        for network in &self.config.network {
            if let Some(config) = &network.relay {
                let running = self.relay(network, config).await?;
                self.relays.lock().await.push(running);
            }
        }
        Ok(())
    }

    /// Begins a network's relay.
    async fn relay(&self, network: &NetworkConfig, config: &RelayConfig) -> Result<Running, Error> {
        let (plan, address) = relay::plan(&self.config, network, config, self.host.domain())?;
        let relay = Relay::load(Arc::clone(&self.host), &network.name, config).await?;
        let (hears, heard) = mpsc::channel(256);
        let link = Actor::start(&self.host, &self.config, plan, None, address, Some((relay, heard)));
        let groups = config.channels.iter().map(|channel| channel.group.to_lowercase()).collect();
        let hearing = relay::hear(Arc::clone(&self.host), network.name.clone(), groups, hears);
        Ok(Running { link, hearing: tokio::spawn(hearing) })
    }

    /// Takes leave of all networks.
    pub(crate) async fn stop(&self) {
        let mut links: Vec<Link> =
            self.users.lock().await.values_mut().flat_map(|entry| entry.links.drain()).map(|(_, link)| link).collect();
        for Running { link, hearing } in self.relays.lock().await.drain(..) {
            hearing.abort();
            links.push(link);
        }
        for link in &links {
            let _ = link.orders.try_send(Order::Stop);
        }
        let all = async {
            for link in links {
                // The channel is closed by this: an actor that did not get the order ends too.
                drop(link.orders);
                let _ = link.task.await;
            }
        };
        let _ = tokio::time::timeout(GOODBYE, all).await;
    }

    /// Connections that are to be there from the start.
    fn connect_all(&self, entry: &mut Entry) {
        for network in records::networks(&self.config, &entry.record) {
            if plan(&self.config, &entry.record, &network).is_ok_and(|plan| plan.connect) {
                let _ = self.link(entry, &network);
            }
        }
    }

    /// The connection of a user to a network, begun where there is none.
    fn link<'a>(&self, entry: &'a mut Entry, network: &str) -> Result<&'a Link, Error> {
        let plan = plan(&self.config, &entry.record, network)?;
        let (user, address) = (entry.record.id, entry.address.clone());
        let link = entry.links.entry(network.to_owned());
        Ok(link.or_insert_with(|| Actor::start(&self.host, &self.config, plan, user, address, None)))
    }

    async fn keep(&self, record: &UserRecord) -> Result<(), Error> {
        let bytes = serde_json::to_vec(record).map_err(|error| invalid(error.to_string()))?;
        self.host.set_checkpoint(&record.key(), Some(Secret::new(bytes))).await
    }

    /// Tells a connection that the plan is another.
    fn replan(&self, entry: &Entry, network: &str) {
        if let (Ok(plan), Some(link)) = (plan(&self.config, &entry.record, network), entry.links.get(network)) {
            let _ = link.orders.try_send(Order::Plan(Box::new(plan), entry.record.id));
        }
    }

    fn changed(&self, user: &User, network: &str) {
        self.host.signal(News::Networks.signal(network, user.id));
    }

    /// Answers a question of `irc-client`.
    pub(crate) async fn answer(&self, question: &Question) -> Result<Answer, Error> {
        let user = question.user.as_ref().ok_or_else(|| invalid("irc-network answers questions of users only"))?;
        let ask = Ask::of(question)?;
        let address = self.address(user)?;
        let mut users = self.users.lock().await;
        let entry = users
            .entry(key_of(&address))
            .or_insert_with(|| Entry::of(UserRecord::new(&user.name, &address), address.clone()));
        if entry.record.meet(user) {
            self.keep(&entry.record).await?;
            for network in entry.links.keys().cloned().collect::<Vec<_>>() {
                self.replan(entry, &network);
            }
            self.connect_all(entry);
        }
        match ask {
            Ask::Networks => Ok(self.list(entry)),
            Ask::Add { network, settings } => {
                self.add(entry, &network, &settings)?;
                self.keep(&entry.record).await?;
                self.connect_all(entry);
                self.changed(user, &network);
                Ok(Answer::default())
            }
            Ask::Change { network, settings } => {
                plan(&self.config, &entry.record, &network)?;
                self.forbid(entry, &network, &settings)?;
                entry.record.change(&network, &settings)?;
                self.keep(&entry.record).await?;
                self.replan(entry, &network);
                self.connect_all(entry);
                if settings.0.get("enabled").is_some_and(|enabled| enabled == "0") {
                    order(entry, &network, Order::Disconnect(String::new()));
                }
                self.changed(user, &network);
                Ok(Answer::default())
            }
            Ask::Remove { network } => {
                plan(&self.config, &entry.record, &network)?;
                let shared = is_shared(&self.config, &entry.record, &network);
                if entry.record.networks.remove(&network).is_none() && shared {
                    return Err(Error::new(
                        ErrorKind::Forbidden,
                        format!("{network} is the operator's; disconnect from it instead"),
                    ));
                }
                if let Some(link) = entry.links.remove(&network) {
                    let _ = link.orders.try_send(Order::Stop);
                }
                if !shared {
                    self.host.set_checkpoint(&otr_key(&entry.record.address, &network), None).await?;
                }
                self.keep(&entry.record).await?;
                self.connect_all(entry);
                self.changed(user, &network);
                Ok(Answer::default())
            }
            Ask::Connect { network } => {
                self.set_down(entry, &network, false).await?;
                self.link(entry, &network)?;
                order(entry, &network, Order::Connect);
                Ok(Answer::default())
            }
            Ask::Disconnect { network, reason } => {
                self.set_down(entry, &network, true).await?;
                order(entry, &network, Order::Disconnect(reason));
                Ok(Answer::default())
            }
            Ask::Away { network: None, text } => {
                for (network, link) in &entry.links {
                    let (reply, _) = oneshot::channel();
                    let _ = link
                        .orders
                        .try_send(Order::Ask(Ask::Away { network: Some(network.clone()), text: text.clone() }, reply));
                }
                Ok(Answer::default())
            }
            Ask::Service { network, text } => {
                let (network, text) = self.service(entry, network, text)?;
                let sender = self.link(entry, &network)?.orders.clone();
                drop(users);
                forward(&sender, Ask::Service { network: Some(network), text }).await
            }
            ask => {
                let network = network_of(&ask).unwrap_or_default();
                if let Ask::Join { channel, .. } = &ask {
                    self.may_join(entry, &network, channel)?;
                }
                let sender = self.link(entry, &network)?.orders.clone();
                drop(users);
                let answer = forward(&sender, ask.clone()).await?;
                self.remember(user, &network, &ask, &answer).await?;
                Ok(answer)
            }
        }
    }

    /// The user's address in the chat world, by which lines come and go.
    fn address(&self, user: &User) -> Result<MailAddress, Error> {
        match mesyx_sdk::chat::address_of(user, self.host.domain())? {
            Address::Mesyx(mesyx) => Ok(mesyx.user),
            _ => Ok(user.address.clone()),
        }
    }

    fn list(&self, entry: &Entry) -> Answer {
        let info = |network: String| {
            let plan = plan(&self.config, &entry.record, &network).ok()?;
            let (state, error) = match entry.links.get(&network) {
                Some(link) => {
                    let status = link.status.lock().unwrap_or_else(PoisonError::into_inner);
                    (status.state, status.error.clone())
                }
                None => (State::Disconnected, String::new()),
            };
            Some(NetworkInfo { name: network, state, shared: plan.shared, error, settings: plan.shown })
        };
        let all: Vec<_> = records::networks(&self.config, &entry.record).into_iter().filter_map(info).collect();
        NetworkInfo::answer(&all)
    }

    fn add(&self, entry: &mut Entry, network: &str, settings: &Settings) -> Result<(), Error> {
        if !self.config.user_networks {
            return Err(Error::new(ErrorKind::Forbidden, "networks of one's own are switched off here"));
        }
        if !good_name(network) {
            return Err(invalid("the name of a network has 1 to 63 lower-case letters, digits and -"));
        }
        let taken = self.config.network.iter().any(|one| one.name == network);
        if taken || entry.record.networks.get(network).is_some_and(|record| record.settings.contains_key("host")) {
            return Err(Error::new(ErrorKind::Exists, format!("there is a network '{network}' already")));
        }
        let own = entry.record.networks.values().filter(|record| record.settings.contains_key("host")).count();
        if own >= self.config.limits.networks_per_user as usize {
            let what = format!("you have {own} networks of your own, which is the most that the operator allows");
            return Err(Error::new(ErrorKind::OverQuota, what));
        }
        if settings.0.get("host").is_none_or(String::is_empty) {
            return Err(invalid("the attribute 'host' is missing"));
        }
        self.forbid(entry, network, settings)?;
        entry.record.change(network, settings)
    }

    /// What is not the user's to set.
    fn forbid(&self, entry: &Entry, network: &str, settings: &Settings) -> Result<(), Error> {
        if is_shared(&self.config, &entry.record, network) {
            let theirs = ["host", "port", "tls", "fingerprint"];
            if let Some(key) = theirs.into_iter().find(|key| settings.0.contains_key(*key)) {
                return Err(Error::new(ErrorKind::Forbidden, format!("'{key}' of {network} is the operator's to set")));
            }
        }
        let channels = settings.0.get("channels").map_or(0, |text| parse_channels(text).len());
        if channels > self.config.limits.channels as usize {
            return Err(Error::new(ErrorKind::OverQuota, format!("at most {} channels", self.config.limits.channels)));
        }
        Ok(())
    }

    fn may_join(&self, entry: &Entry, network: &str, channel: &str) -> Result<(), Error> {
        if channel.is_empty() || channel.contains([',', ' ', '\u{7}']) {
            return Err(invalid("that is no name of a channel"));
        }
        let channels = plan(&self.config, &entry.record, network)?.identity.channels.len();
        if channels >= self.config.limits.channels as usize {
            return Err(Error::new(ErrorKind::OverQuota, format!("at most {} channels", self.config.limits.channels)));
        }
        Ok(())
    }

    async fn set_down(&self, entry: &mut Entry, network: &str, down: bool) -> Result<(), Error> {
        plan(&self.config, &entry.record, network)?;
        let record = entry.record.networks.entry(network.to_owned()).or_default();
        if record.down != down {
            record.down = down;
            self.keep(&entry.record).await?;
        }
        Ok(())
    }

    /// The network that words to the service nick are about: that of the nick in them, that which the client is bound to, or the only one.
    fn service(&self, entry: &Entry, bound: Option<String>, text: String) -> Result<(String, String), Error> {
        let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        let names = records::networks(&self.config, &entry.record);
        for word in words.iter_mut().take(2) {
            let parts = word.split_once('/').map(|(nick, network)| (nick.to_owned(), network.to_owned()));
            if let Some((nick, network)) = parts.filter(|(_, network)| names.contains(network)) {
                *word = nick;
                return Ok((network, words.join(" ")));
            }
        }
        match (bound, &names[..]) {
            (Some(network), _) => Ok((network, text)),
            (None, [only]) => Ok((only.clone(), text)),
            (None, []) => Err(Error::new(ErrorKind::NotFound, "you have no networks yet")),
            (None, _) => Err(invalid(format!(
                "on which network? Write NICK/NETWORK, or policy/NETWORK; yours are {}",
                names.join(", ")
            ))),
        }
    }

    /// Keeps what lasts of an answered question.
    async fn remember(&self, user: &User, network: &str, ask: &Ask, answer: &Answer) -> Result<(), Error> {
        let errors = Reply::of(answer);
        let never = |code: &str| errors.iter().any(|reply| reply.command == code);
        let mut users = self.users.lock().await;
        let Some(entry) = users.get_mut(&key_of(&self.address(user)?)) else { return Ok(()) };
        let channels = plan(&self.config, &entry.record, network)?.identity.channels;
        let record = entry.record.networks.entry(network.to_owned()).or_default();
        let others = |channel: &str| -> Vec<_> {
            channels.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(channel)).cloned().collect()
        };
        match ask {
            Ask::Join { channel, key, .. } if !["403", "405", "407", "476", "479"].into_iter().any(never) => {
                let mut all = others(channel);
                all.push((channel.clone(), key.clone()));
                record.channels = Some(all);
            }
            Ask::Part { channel, .. } => record.channels = Some(others(channel)),
            Ask::Command { command, parameters, .. }
                if command.eq_ignore_ascii_case("NICK") && answer.rows.is_empty() =>
            {
                if let Some(nick) = parameters.first() {
                    record.settings.insert("nickname".to_owned(), nick.clone());
                }
            }
            _ => return Ok(()),
        }
        self.keep(&entry.record).await?;
        self.replan(entry, network);
        Ok(())
    }

    /// Brings a line to its recipients.
    pub(crate) async fn deliver(&self, job: &Delivery) -> Vec<Outcome> {
        let failed = |why: &str| Outcome::Failed { why: why.to_owned() };
        let Some(speaker) = self.speaker(job.from.as_ref()).await else {
            let why = "only users of this exchange speak on IRC, each by the own chat address";
            return vec![failed(why); job.recipients.len()];
        };
        let Some((_, line)) = Line::from_content(&job.content, self.host.domain()) else {
            return vec![failed("this is no line that could be said on IRC"); job.recipients.len()];
        };
        let left = u64::try_from(job.deadline.0.saturating_sub(Timestamp::now().0)).unwrap_or(0);
        // The answer must be there before the deadline.
        let deadline = Instant::now() + Duration::from_millis(left).saturating_sub(Duration::from_millis(500));
        let mut waiting = Vec::new();
        for recipient in &job.recipients {
            let begun = match &recipient.address {
                Address::Irc(address) => self.begin(&speaker, address, &line, job, deadline).await,
                _ => Err(failed("this is no address on an IRC network")),
            };
            waiting.push(begun);
        }
        let mut outcomes = Vec::new();
        for waiting in waiting {
            outcomes.push(match waiting {
                Ok(done) => {
                    done.await.unwrap_or_else(|_| deferred("the connection was given up", DeferScope::Host, true))
                }
                Err(outcome) => outcome,
            });
        }
        outcomes
    }

    /// Whose connection a line goes by: the user's with that chat address. A mail address is that of a user who is known here, or of nobody:
    /// it never makes another user.
    async fn speaker(&self, from: Option<&Address>) -> Option<MailAddress> {
        match from? {
            Address::Mesyx(mesyx) => {
                let own = &mesyx.user;
                let user = own.domain() == self.host.domain() && !own.local().starts_with('#');
                user.then(|| own.clone())
            }
            Address::Mail(mail) => {
                let users = self.users.lock().await;
                let mail = key_of(mail);
                let found = users.values().find(|entry| entry.record.mail.to_lowercase() == mail);
                found.map(|entry| entry.address.clone())
            }
            _ => None,
        }
    }

    async fn begin(
        &self,
        speaker: &MailAddress,
        address: &mesyx_sdk::IrcAddress,
        line: &Line,
        job: &Delivery,
        deadline: Instant,
    ) -> Result<oneshot::Receiver<Outcome>, Outcome> {
        use mesyx_sdk::Verb;
        if !matches!(line.verb, Verb::Say | Verb::Notice | Verb::Action) {
            return Err(Outcome::Failed { why: format!("'{}' can't be said on IRC", line.verb.as_str()) });
        }
        let sender = {
            let mut users = self.users.lock().await;
            let entry = users
                .entry(key_of(speaker))
                .or_insert_with(|| Entry::of(UserRecord::new(speaker.local(), speaker), speaker.clone()));
            self.link(entry, address.network())
                .map_err(|error| Outcome::Failed { why: error.to_string() })?
                .orders
                .clone()
        };
        let (done, outcome) = oneshot::channel();
        let (target, text) = (address.name().to_owned(), line.text.clone());
        let say = Say { id: job.id, target, verb: line.verb, text, deadline, done };
        match sender.try_send(Order::Say(say)) {
            Ok(()) => Ok(outcome),
            Err(_) => Err(deferred("too much waits for this network", DeferScope::Host, false)),
        }
    }
}

impl Entry {
    fn new(record: UserRecord) -> Result<(String, Self), String> {
        let address: MailAddress =
            record.address.parse().map_err(|error: mesyx_sdk::AddressError| error.to_string())?;
        Ok((key_of(&address), Self::of(record, address)))
    }

    fn of(record: UserRecord, address: MailAddress) -> Self {
        Self { record, address, links: HashMap::new() }
    }
}

fn key_of(address: &MailAddress) -> String {
    address.to_string().to_lowercase()
}

fn order(entry: &Entry, network: &str, order: Order) {
    if let Some(link) = entry.links.get(network) {
        let _ = link.orders.try_send(order);
    }
}

async fn forward(sender: &mpsc::Sender<Order>, ask: Ask) -> Result<Answer, Error> {
    let unavailable = |what: &str| Error::new(ErrorKind::Unavailable, what);
    let (reply, answer) = oneshot::channel();
    sender.try_send(Order::Ask(ask, reply)).map_err(|_| unavailable("too much waits for this network"))?;
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(answer)) => answer,
        _ => Err(unavailable("the network did not answer")),
    }
}

fn network_of(ask: &Ask) -> Option<String> {
    match ask {
        Ask::Presence { network }
        | Ask::Channels { network }
        | Ask::Names { network, .. }
        | Ask::Join { network, .. }
        | Ask::Part { network, .. }
        | Ask::Command { network, .. }
        | Ask::Typing { network, .. }
        | Ask::Ctcp { network, .. } => Some(network.clone()),
        Ask::Away { network, .. } => network.clone(),
        _ => None,
    }
}

pub(super) fn deferred(why: &str, scope: DeferScope, maybe_sent: bool) -> Outcome {
    Outcome::Deferred { why: why.to_owned(), retry_after: None, scope, maybe_sent }
}
