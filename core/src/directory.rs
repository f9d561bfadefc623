//! Who an address is: users, aliases, catch-alls, subaddresses, and the addresses that every domain must answer.
//!
//! ```text
//!  address --> domain of ours? --> exact (user, alias) --> subaddress --> postmaster, abuse --> catch-all
//!                   |  no: a bridge's domain? the host itself? else Foreign          none of these: Unknown
//! ```
//!
//! All in memory, built anew when users or settings change; a look-up reads no disk. The local part is an opaque name:
//! `%`, `!` and quoted `@` in it route nowhere, so nothing here can be made to relay.

use crate::settings::Settings;
use mesyx_sdk::{Address, Domain, Error, ErrorKind, MailAddress, RecipientStatus, Sender, UserId};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use unicode_normalization::UnicodeNormalization;

/// A user, as far as addresses go.
#[derive(Debug, Clone)]
pub struct Member {
    /// Who.
    pub id: UserId,
    /// Login name.
    pub name: String,
    /// Addresses, the main one first; never empty.
    pub addresses: Vec<MailAddress>,
    /// Logins are refused; mail is still taken.
    pub disabled: bool,
}

/// Every address of ours.
#[derive(Debug, Default)]
pub struct Directory {
    members: HashMap<UserId, Arc<Member>>,
    by_name: HashMap<String, UserId>,
    /// The addresses of users, for logins and uniqueness.
    own: HashMap<Key, UserId>,
    /// What an exact address stands for: users' own addresses and aliases. Never empty lists.
    exact: HashMap<Key, Arc<[UserId]>>,
    domains: HashMap<String, CatchAll>,
    hostname: String,
    separators: Vec<char>,
    duty: Option<UserId>,
    problems: Vec<String>,
}

type CatchAll = Option<Arc<[UserId]>>;

/// An address as it is looked up: domain in A-labels, local part in lower case and NFC.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    domain: String,
    local: String,
}

/// The addresses that RFC 5321, section 4.5.1, and RFC 2142 want answered everywhere.
const DUTY: [&str; 2] = ["postmaster", "abuse"];

impl Directory {
    /// Builds the directory. What can't be followed is left out and told by [`Directory::problems`].
    #[must_use]
    pub fn new(settings: &Settings, members: Vec<Member>) -> Self {
        let mut directory = Self {
            hostname: settings.hostname.to_ascii_lowercase(),
            separators: settings.separators.clone(),
            domains: settings.domains.iter().filter_map(|domain| Some((name_of(&domain.domain)?, None))).collect(),
            ..Self::default()
        };
        for member in members {
            directory.add(member);
        }
        directory.add_aliases(settings);
        for domain in &settings.domains {
            let (Some(name), Some(target)) = (name_of(&domain.domain), &domain.catch_all) else { continue };
            match directory.target(target) {
                Some(users) => drop(directory.domains.insert(name, Some(users))),
                None => directory.problems.push(format!("the catch-all of {name}: there is no {target}")),
            }
        }
        directory.duty = directory.find_duty(settings.postmaster.as_deref());
        directory
    }

    fn add(&mut self, member: Member) {
        for address in &member.addresses {
            let key = Key::of(address);
            if let Some(other) = self.own.get(&key) {
                self.problems.push(format!("{address} belongs to two users, {other} and {}", member.id));
                continue;
            }
            if !self.domains.contains_key(&key.domain) {
                self.problems.push(format!("{address} of {} is in no domain of ours", member.name));
            }
            self.exact.insert(key.clone(), Arc::new([member.id]));
            self.own.insert(key, member.id);
        }
        self.by_name.insert(member.name.clone(), member.id);
        self.members.insert(member.id, Arc::new(member));
    }

    /// Follows aliases of aliases to users.
    fn add_aliases(&mut self, settings: &Settings) {
        let aliases: HashMap<Key, &[String]> =
            settings.aliases.iter().map(|alias| (Key::of(&alias.address), alias.targets.as_slice())).collect();
        let mut resolved = Vec::new();
        for alias in &settings.aliases {
            let mut users = BTreeSet::new();
            let mut seen = HashSet::new();
            let mut open = vec![Key::of(&alias.address)];
            while let Some(key) = open.pop() {
                if !seen.insert(key.clone()) {
                    continue;
                }
                for target in aliases.get(&key).copied().unwrap_or_default() {
                    match self.step(target, &aliases) {
                        Step::Users(found) => users.extend(found.iter().copied()),
                        Step::Alias(next) => open.push(next),
                        Step::Nobody => {
                            let problem = format!("the alias {}: there is no {target}", alias.address);
                            if !self.problems.contains(&problem) {
                                self.problems.push(problem);
                            }
                        }
                    }
                }
            }
            let key = Key::of(&alias.address);
            if self.own.contains_key(&key) {
                self.problems.push(format!("the alias {} is a user's own address", alias.address));
            } else if !users.is_empty() {
                resolved.push((key, users.into_iter().collect::<Arc<[UserId]>>()));
            }
        }
        self.exact.extend(resolved);
    }

    fn step(&self, target: &str, aliases: &HashMap<Key, &[String]>) -> Step {
        if let Some(user) = self.by_name.get(&fold(target)) {
            return Step::Users(Arc::new([*user]));
        }
        let Ok(address) = target.parse::<MailAddress>() else { return Step::Nobody };
        let key = Key::of(&address);
        for key in std::iter::once(key.clone()).chain(self.base(&key)) {
            if let Some(user) = self.own.get(&key) {
                return Step::Users(Arc::new([*user]));
            }
            if aliases.contains_key(&key) {
                return Step::Alias(key);
            }
        }
        Step::Nobody
    }

    /// The users whom a login name or an address of ours stands for.
    fn target(&self, target: &str) -> Option<Arc<[UserId]>> {
        if let Some(user) = self.by_name.get(&fold(target)) {
            return Some(Arc::new([*user]));
        }
        self.named(&Key::of(&target.parse().ok()?)).cloned()
    }

    fn find_duty(&mut self, target: Option<&str>) -> Option<UserId> {
        if let Some(target) = target {
            if let Some(user) = self.target(target).and_then(|users| users.first().copied()) {
                return Some(user);
            }
            self.problems.push(format!("postmaster: there is no {target}"));
        }
        self.members.values().min_by(|a, b| a.name.cmp(&b.name)).map(|member| member.id)
    }

    /// What an address stands for by name, exactly or without its subaddress.
    fn named(&self, key: &Key) -> Option<&Arc<[UserId]>> {
        self.exact.get(key).or_else(|| self.exact.get(&self.base(key)?))
    }

    /// The address without its subaddress.
    fn base(&self, key: &Key) -> Option<Key> {
        let end = key.local.find(|c| self.separators.contains(&c)).filter(|end| *end > 0)?;
        Some(Key { domain: key.domain.clone(), local: key.local[..end].to_owned() })
    }

    /// What an address is to us, and for whom.
    #[must_use]
    pub fn resolve(&self, address: &Address, sender: &Sender) -> (RecipientStatus, Arc<[UserId]>) {
        let nobody: Arc<[UserId]> = Arc::new([]);
        let mail = match address {
            Address::Mail(address) => address,
            Address::Mesyx(address) => &address.user,
            _ => return (bridge_address(sender), nobody),
        };
        let Some(domain) = mail.domain().as_name() else { return (RecipientStatus::Foreign, nobody) };
        let key = Key::of(mail);
        let Some(catch_all) = self.domains.get(domain) else {
            return match self.duty(&key).filter(|_| domain == self.hostname) {
                Some(user) => (RecipientStatus::Local, Arc::new([user])),
                None if domain == self.hostname => (RecipientStatus::Unknown, nobody),
                None if self.is_bridge_domain(domain) => (bridge_address(sender), nobody),
                None => (RecipientStatus::Foreign, nobody),
            };
        };
        let users = self
            .named(&key)
            .cloned()
            .or_else(|| Some(Arc::new([self.duty(&key)?]) as Arc<[UserId]>))
            .or_else(|| catch_all.clone());
        match users {
            Some(users) => (RecipientStatus::Local, users),
            None => (RecipientStatus::Unknown, nobody),
        }
    }

    /// The user who reads `postmaster` and `abuse`, where the address is one of them (with a subaddress or without).
    fn duty(&self, key: &Key) -> Option<UserId> {
        let base = self.base(key);
        let local = base.as_ref().map_or(key.local.as_str(), |base| base.local.as_str());
        DUTY.contains(&local).then_some(self.duty).flatten()
    }

    /// `NETWORK.irc.DOMAIN`, for any domain of ours: the addresses of a bridge to chat networks.
    fn is_bridge_domain(&self, domain: &str) -> bool {
        domain
            .split_once(".irc.")
            .is_some_and(|(network, ours)| !network.contains('.') && self.domains.contains_key(ours))
    }

    /// Whether a user may write as this address: their own, aliases that reach them, and subaddresses of these. A catch-all gives no such right.
    #[must_use]
    pub fn may_send_as(&self, user: UserId, address: &MailAddress) -> bool {
        let key = Key::of(address);
        if let Some(users) = self.named(&key) {
            return users.contains(&user);
        }
        let here = self.domains.contains_key(&key.domain) || key.domain == self.hostname;
        here && self.duty(&key) == Some(user)
    }

    /// The user of a login name or of an own address. Aliases are no logins.
    #[must_use]
    pub fn login(&self, name: &str) -> Option<&Arc<Member>> {
        let by_name = self.by_name.get(&fold(name));
        let by_address = || self.own.get(&Key::of(&name.parse().ok()?));
        self.members.get(by_name.or_else(by_address)?)
    }

    /// One user.
    #[must_use]
    pub fn member(&self, user: UserId) -> Option<&Arc<Member>> {
        self.members.get(&user)
    }

    /// Every user, by name.
    #[must_use]
    pub fn members(&self) -> Vec<Arc<Member>> {
        let mut members: Vec<_> = self.members.values().cloned().collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        members
    }

    /// What of the settings can't be followed, one line each.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Checks that a new user's address can be theirs.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] outside our domains, [`ErrorKind::Exists`] where a user or alias has it.
    pub fn check_free(&self, address: &MailAddress) -> Result<(), Error> {
        let key = Key::of(address);
        if !self.domains.contains_key(&key.domain) {
            let text = format!("{address} is in no domain of this server; add the domain to the configuration first");
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        match self.exact.contains_key(&key) {
            true => Err(Error::new(ErrorKind::Exists, format!("{address} belongs to a user or an alias already"))),
            false => Ok(()),
        }
    }
}

enum Step {
    Users(Arc<[UserId]>),
    Alias(Key),
    Nobody,
}

impl Key {
    fn of(address: &MailAddress) -> Self {
        Self { domain: address.domain().to_string(), local: fold(address.local()) }
    }
}

/// Lower case and NFC: what makes two spellings of a local part or a login name the same here. RFC 5321 leaves the case
/// of the local part to us.
fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    text.nfc().collect::<String>().to_lowercase().nfc().collect()
}

fn name_of(domain: &Domain) -> Option<String> {
    domain.as_name().map(str::to_owned)
}

/// Chat networks hear only users of ours; and no bridge carries messages to them in this version.
fn bridge_address(sender: &Sender) -> RecipientStatus {
    RecipientStatus::Refused(match sender {
        Sender::Stranger => {
            "this address takes messages from users of this server only; log in to send to it".to_owned()
        }
        _ => "sending to chat networks is not part of this version".to_owned(),
    })
}

/// Checks a login name and gives it in lower case.
///
/// # Errors
/// [`ErrorKind::Invalid`], with what a login name is.
pub fn check_name(name: &str) -> Result<String, Error> {
    let name = name.to_ascii_lowercase();
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !begins || name.len() > 64 || !name.chars().all(fits) {
        let text = "a login name has 1 to 64 of a-z 0-9 . _ - and begins with a letter or digit";
        return Err(Error::new(ErrorKind::Invalid, text));
    }
    if DUTY.contains(&name.as_str()) {
        let text = format!("{name} is kept for the address that every domain must answer; choose another login name");
        return Err(Error::new(ErrorKind::Invalid, text));
    }
    Ok(name)
}

impl Settings {
    /// What in the settings contradicts itself, one line each: known without the users.
    #[must_use]
    pub fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let domains: HashSet<String> = self.domains.iter().filter_map(|domain| name_of(&domain.domain)).collect();
        if domains.is_empty() {
            wrong.push("there is no domain: name at least one".to_owned());
        }
        if domains.len() < self.domains.len() {
            wrong.push("a domain is named twice, or is an IP address: name each once, as a host name".to_owned());
        }
        if self.sealing_window.as_secs() > 60 {
            wrong.push("the sealing window is longer than 60 s: shorten it".to_owned());
        }
        let mut aliases: HashMap<Key, &crate::settings::Alias> = HashMap::new();
        for alias in &self.aliases {
            let key = Key::of(&alias.address);
            if !domains.contains(&key.domain) {
                wrong.push(format!("the alias {} is in no domain of this server", alias.address));
            }
            if alias.targets.is_empty() {
                wrong.push(format!("the alias {} has no target: name a user", alias.address));
            }
            for target in &alias.targets {
                let foreign =
                    target.parse::<MailAddress>().is_ok_and(|address| !domains.contains(&Key::of(&address).domain));
                if foreign {
                    wrong.push(format!("the alias {}: {target} is not on this server, and forwarding to others is not part of this version", alias.address));
                }
            }
            if aliases.insert(key, alias).is_some() {
                wrong.push(format!("the alias {} is written twice: put all targets into one", alias.address));
            }
        }
        for alias in &self.aliases {
            let start = Key::of(&alias.address);
            let mut seen = HashSet::new();
            let mut open = vec![start.clone()];
            while let Some(key) = open.pop() {
                let targets = aliases.get(&key).map(|alias| alias.targets.as_slice()).unwrap_or_default();
                for target in targets.iter().filter_map(|target| target.parse::<MailAddress>().ok()) {
                    let target = Key::of(&target);
                    if target == start {
                        wrong.push(format!("the alias {} leads back to itself: take one target out", alias.address));
                        open.clear();
                        break;
                    }
                    if seen.insert(target.clone()) {
                        open.push(target);
                    }
                }
            }
        }
        wrong
    }
}

#[cfg(test)]
mod tests;
