//! What is kept of a user between lives of the bridge, and the plan of a connection that comes of it and the configuration.

use super::config::{IrcNetworkConfig, NetworkConfig, OtrPolicy, SaslMode, parse_fingerprint};
use super::dial::{Target, Trust};
use super::proto::{Charset, Identity, Sasl};
use crate::link::Settings;
use mesyx_sdk::{Error, ErrorKind, Host, IrcAddress, MailAddress, Secret, User, address::CaseMapping};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Attributes that never leave in an answer.
const SECRET: [&str; 3] = ["pass", "password", "certificate"];
/// Attributes that there are.
const KEYS: [&str; 16] = [
    "account",
    "altnicks",
    "certificate",
    "channels",
    "enabled",
    "fingerprint",
    "host",
    "nickname",
    "pass",
    "password",
    "port",
    "realname",
    "sasl",
    "tls",
    "username",
    "away",
];

/// A user, as kept.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct UserRecord {
    /// Known once the user has asked anything.
    pub(crate) id: Option<mesyx_sdk::UserId>,
    pub(crate) name: String,
    pub(crate) address: String,
    /// The user's main address in mail, once the user has asked anything; empty before.
    #[serde(default)]
    pub(crate) mail: String,
    /// What the user set, by network.
    pub(crate) networks: BTreeMap<String, NetworkRecord>,
}

/// What a user set for one network.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct NetworkRecord {
    /// Attributes, as [`Settings`] has them, without `channels`.
    pub(crate) settings: BTreeMap<String, String>,
    /// Channels with their keys, where the user changed them.
    pub(crate) channels: Option<Vec<(String, Option<String>)>>,
    /// The user disconnected.
    pub(crate) down: bool,
}

/// All that a connection needs.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) network: String,
    pub(crate) target: Target,
    pub(crate) identity: Identity,
    /// Secrets to be fetched before connecting: certificate, password, pass.
    pub(crate) named: [Option<String>; 3],
    pub(crate) connect: bool,
    pub(crate) otr: OtrPolicy,
    pub(crate) shared: bool,
    /// Attributes to show.
    pub(crate) shown: Settings,
}

impl UserRecord {
    pub(crate) fn new(name: &str, address: &MailAddress) -> Self {
        Self {
            id: None,
            name: name.to_owned(),
            address: address.to_string(),
            mail: String::new(),
            networks: BTreeMap::new(),
        }
    }

    pub(crate) fn meet(&mut self, user: &User) -> bool {
        let mail = user.address.to_string();
        let news = self.id != Some(user.id) || self.name != user.name || self.mail != mail;
        (self.id, self.mail) = (Some(user.id), mail);
        self.name.clone_from(&user.name);
        news
    }

    /// The key that it is kept under.
    pub(crate) fn key(&self) -> String {
        format!("user/{}", short(&self.address))
    }

    /// Takes over attributes.
    pub(crate) fn change(&mut self, network: &str, settings: &Settings) -> Result<(), Error> {
        let invalid = |what: String| Error::new(ErrorKind::Invalid, what);
        let mut record = self.networks.get(network).cloned().unwrap_or_default();
        for (key, value) in &settings.0 {
            if !KEYS.contains(&key.as_str()) {
                return Err(invalid(format!("a network has no attribute '{key}'; there are {}", KEYS.join(", "))));
            }
            if value.chars().any(|c| c == '\0' || (c.is_control() && key != "certificate")) || value.len() > 16_384 {
                return Err(invalid(format!("the value of '{key}' holds a control character, or is too long")));
            }
            let good = match key.as_str() {
                "port" => value.is_empty() || value.parse::<u16>().is_ok_and(|port| port > 0),
                "tls" | "enabled" => matches!(value.as_str(), "" | "0" | "1"),
                "sasl" => matches!(value.as_str(), "" | "none" | "plain" | "external"),
                "fingerprint" => value.is_empty() || parse_fingerprint(value).is_some(),
                "nickname" | "username" | "host" => !value.contains(' ') && !value.starts_with(':'),
                _ => true,
            };
            if !good {
                return Err(invalid(format!("'{key}' can't be that")));
            }
            if key == "channels" {
                record.channels = Some(parse_channels(value));
            } else if value.is_empty() {
                record.settings.remove(key);
            } else {
                record.settings.insert(key.clone(), value.clone());
            }
        }
        if let Some(enabled) = settings.0.get("enabled") {
            record.down = enabled == "0";
        }
        self.networks.insert(network.to_owned(), record);
        Ok(())
    }
}

/// `#a,#b KEY`.
pub(crate) fn parse_channels(text: &str) -> Vec<(String, Option<String>)> {
    let one = |part: &str| {
        let (name, key) =
            part.trim().split_once(' ').map_or((part.trim(), None), |(name, key)| (name, Some(key.trim())));
        (name.to_owned(), key.map(str::to_owned).filter(|key| !key.is_empty()))
    };
    text.split(',').map(one).filter(|(name, _)| !name.is_empty()).collect()
}

/// The plan of a user's connection to a network.
pub(crate) fn plan(config: &IrcNetworkConfig, user: &UserRecord, network: &str) -> Result<Plan, Error> {
    let nothing = NetworkRecord::default();
    let operator = config.network.iter().find(|one| one.name == network && allows(one, user));
    let record = user.networks.get(network);
    if operator.is_none() && record.is_none_or(|record| !record.settings.contains_key("host")) {
        let names = networks(config, user).join(", ");
        let known = if names.is_empty() { "you have none yet".to_owned() } else { format!("yours: {names}") };
        return Err(Error::new(ErrorKind::NotFound, format!("there is no network '{network}'; {known}")));
    }
    if operator.is_none() && !config.user_networks {
        return Err(Error::new(ErrorKind::Forbidden, "networks of one's own are switched off here"));
    }
    let record = record.unwrap_or(&nothing);
    let own = |key: &str| record.settings.get(key).cloned();
    let filled = |text: &str| text.replace("{user}", &user.name);
    let either = |key: &str, of: fn(&NetworkConfig) -> &String| {
        own(key).unwrap_or_else(|| filled(operator.map_or("{user}", |operator| of(operator).as_str())))
    };
    let tls = operator.map_or_else(|| own("tls").as_deref() != Some("0"), |operator| operator.tls);
    let port = match operator {
        Some(operator) => operator.port,
        None => own("port").and_then(|port| port.parse().ok()),
    };
    let trust = match operator {
        Some(NetworkConfig { fingerprint: Some(print), .. }) => parse_fingerprint(print).map(Trust::Pinned),
        Some(NetworkConfig { ca_file: Some(path), .. }) => Some(Trust::File(path.clone())),
        Some(_) => None,
        None => own("fingerprint").and_then(|print| parse_fingerprint(&print)).map(Trust::Pinned),
    };
    let host = operator.map_or_else(|| own("host").unwrap_or_default(), |operator| operator.host.clone());
    let port = port.unwrap_or(if tls { 6697 } else { 6667 });
    let nick = clean(&either("nickname", |network| &network.nickname));
    let named =
        |of: fn(&NetworkConfig) -> &Option<String>| operator.and_then(|operator| of(operator).as_deref()).map(filled);
    let secret = |key: &str| own(key).map(Secret::from);
    let mode = match own("sasl").as_deref() {
        Some("plain") => SaslMode::Plain,
        Some("external") => SaslMode::External,
        Some(_) => SaslMode::None,
        None if own("password").is_some() => SaslMode::Plain,
        None => operator.map_or(SaslMode::None, |operator| operator.sasl),
    };
    let account =
        own("account").unwrap_or_else(|| operator.map_or_else(|| nick.clone(), |operator| filled(&operator.account)));
    let sasl = match mode {
        SaslMode::None => None,
        SaslMode::External => Some(Sasl::External),
        SaslMode::Plain => Some(Sasl::Plain {
            account: account.clone(),
            password: secret("password").unwrap_or_else(|| Secret::new(Vec::new())),
        }),
    };
    let names = [
        // Shown to every server that asks: some networks know their users by it, without SASL.
        named(|network| &network.certificate_secret).filter(|_| own("certificate").is_none()),
        named(|network| &network.password_secret).filter(|_| own("password").is_none() && mode == SaslMode::Plain),
        named(|network| &network.pass_secret).filter(|_| own("pass").is_none()),
    ];
    let channels = record.channels.clone().unwrap_or_else(|| {
        operator
            .map(|operator| operator.channels.iter().flat_map(|text| parse_channels(text)).collect())
            .unwrap_or_default()
    });
    let enabled =
        own("enabled").map_or_else(|| operator.is_none_or(|operator| operator.connect), |enabled| enabled == "1");
    let shown = [
        ("host", host.clone()),
        ("port", port.to_string()),
        ("tls", if tls { "1" } else { "0" }.to_owned()),
        ("nickname", nick.clone()),
        ("username", either("username", |network| &network.username)),
        ("realname", either("realname", |network| &network.realname)),
        ("enabled", if enabled { "1" } else { "0" }.to_owned()),
        ("channels", channels.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(",")),
        (
            "sasl",
            match mode {
                SaslMode::None => "none",
                SaslMode::Plain => "plain",
                SaslMode::External => "external",
            }
            .to_owned(),
        ),
    ];
    let mut shown: BTreeMap<String, String> = shown.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let rest = record.settings.iter().filter(|(key, _)| !SECRET.contains(&key.as_str()));
    for (key, value) in rest {
        shown.entry(key.clone()).or_insert_with(|| value.clone());
    }
    let limits = &config.limits;
    let identity = Identity {
        altnicks: own("altnicks").map(|nicks| nicks.split(',').map(clean).collect()).unwrap_or_default(),
        username: clean(&either("username", |network| &network.username)),
        realname: either("realname", |network| &network.realname),
        pass: secret("pass"),
        sasl,
        channels,
        pace: operator.map_or((5, Duration::from_secs(2)), |operator| {
            (operator.burst, Duration::from_millis(u64::from(operator.line_milliseconds)))
        }),
        silence: (
            Duration::from_secs(u64::from(limits.ping_seconds)),
            Duration::from_secs(u64::from(limits.dead_seconds)),
        ),
        charset: operator.map_or(Charset::default(), |operator| operator.charset),
        tls,
        version: "Mesyx".to_owned(),
        nick,
    };
    let certificate = secret("certificate");
    let trust = trust.unwrap_or(Trust::System);
    let private = operator.is_some() || config.private_addresses;
    Ok(Plan {
        network: network.to_owned(),
        target: Target { host, port, tls, trust, certificate, private },
        identity,
        named: names,
        connect: enabled && !record.down,
        otr: operator.and_then(|operator| operator.otr).unwrap_or(config.otr.policy),
        shared: operator.is_some(),
        shown: Settings(shown),
    })
}

impl Plan {
    /// Fetches the secrets that are named in the configuration.
    pub(crate) async fn with_secrets(&self, host: &dyn Host) -> Result<(Target, Identity), String> {
        let (mut target, mut identity) = (self.target.clone(), self.identity.clone());
        let [certificate, password, pass] = &self.named;
        if let Some(name) = certificate {
            target.certificate = Some(fetch(host, name).await?);
        }
        if let (Some(name), Some(Sasl::Plain { password, .. })) = (password, &mut identity.sasl) {
            *password = fetch(host, name).await?;
        }
        if identity.sasl.is_some() && !target.tls {
            return Err(
                "a login without TLS would show the password to everybody on the way: set tls to 1, or sasl to none"
                    .to_owned(),
            );
        }
        if let Some(name) = pass {
            identity.pass = Some(fetch(host, name).await?);
        }
        Ok((target, identity))
    }
}

async fn fetch(host: &dyn Host, name: &str) -> Result<Secret, String> {
    host.secret(name).await.map_err(|error| format!("the secret {name}: {error}"))
}

/// The names of the networks that a user has.
pub(crate) fn networks(config: &IrcNetworkConfig, user: &UserRecord) -> Vec<String> {
    let mut names: Vec<_> = config.network.iter().filter(|one| allows(one, user)).map(|one| one.name.clone()).collect();
    let own = user.networks.iter().filter(|(_, record)| config.user_networks && record.settings.contains_key("host"));
    names.extend(own.map(|(name, _)| name.clone()));
    names.sort();
    names.dedup();
    names
}

pub(crate) fn is_shared(config: &IrcNetworkConfig, user: &UserRecord, network: &str) -> bool {
    config.network.iter().any(|one| one.name == network && allows(one, user))
}

fn allows(network: &NetworkConfig, user: &UserRecord) -> bool {
    network.users.is_empty() || network.users.contains(&user.name)
}

/// Whether a name can be a network's.
pub(crate) fn good_name(name: &str) -> bool {
    IrcAddress::new(name, "x", CaseMapping::Ascii).is_ok() && name == name.to_ascii_lowercase()
}

/// A nick or user name without what can't stand in one.
pub(crate) fn clean(text: &str) -> String {
    let good = |c: &char| c.is_ascii_alphanumeric() || "[]\\`_^{|}-".contains(*c);
    let clean: String = text.trim().chars().filter(good).take(30).collect();
    if clean.starts_with(|c: char| c.is_ascii_digit() || c == '-') || clean.is_empty() {
        format!("_{clean}")
    } else {
        clean
    }
}

/// A short stand-in for a text in keys of checkpoints.
pub(crate) fn short(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.to_lowercase().as_bytes());
    digest.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}
