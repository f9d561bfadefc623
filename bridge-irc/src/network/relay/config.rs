//! A relay's configuration, and its connection's plan.

use crate::network::config::{IrcNetworkConfig, NetworkConfig, SaslMode};
use crate::network::records::{self, Plan, UserRecord};
use mesyx_sdk::address::CaseMapping;
use mesyx_sdk::{ConfigErrors, Domain, Error, ErrorKind, IrcAddress, MailAddress};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// One nick on a network, no user's own, that ties channels there to groups here.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RelayConfig {
    /// Its nick on the network.
    pub nick: String,
    /// What it ties together. It speaks only in channels whose operators allow it: by giving it voice, or by `relay:NICK` in a topic that
    /// only they can set (`+t`).
    pub channels: Vec<RelayChannel>,
    /// Nicks that are not heard: other relays in the same channels.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// Its account on the network, for SASL PLAIN; unless given, its nick.
    pub account: Option<String>,
    /// Name of the stored secret with the account's password. With it, the relay logs in by SASL PLAIN.
    pub password_secret: Option<String>,
    /// Name of the stored secret with a client certificate and its private key (PEM). Without `password_secret`, the relay logs in by SASL EXTERNAL.
    pub certificate_secret: Option<String>,
}

/// A channel outside, tied to a group here.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RelayChannel {
    /// The channel on the network.
    pub name: String,
    /// Its key, where it has one.
    pub key: Option<String>,
    /// The group on this exchange, such as `#demo`. One that is secret, for invited people or behind a key (`+s`, `+i`, `+k`) is not relayed.
    pub group: String,
}

impl RelayConfig {
    /// The names of the secrets that it uses.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &String> {
        [&self.password_secret, &self.certificate_secret].into_iter().flatten()
    }
}

/// Checks the relays of all networks.
pub(crate) fn check(networks: &[NetworkConfig], errors: &mut ConfigErrors) {
    let mut groups = HashSet::new();
    for (at, network) in networks.iter().enumerate() {
        let Some(relay) = &network.relay else { continue };
        let path = |key: &str| format!("network[{at}].relay.{key}");
        if relay.nick.is_empty() || records::clean(&relay.nick) != relay.nick {
            errors.push(path("nick"), "that is no nick", "write letters, digits, - and _, no digit first, at most 30");
        }
        if relay.channels.is_empty() {
            let how = "write channels = [{ name = \"#demo\", group = \"#demo\" }], or take the relay away";
            errors.push(path("channels"), "the relay ties nothing together", how);
        }
        if !network.tls && relay.secrets().next().is_some() {
            errors.push(
                path("password_secret"),
                "a login without TLS shows the password to everybody on the way",
                "write tls = true, or take the secret away",
            );
        }
        let mut channels = HashSet::new();
        for (number, channel) in relay.channels.iter().enumerate() {
            let path = |key: &str| path(&format!("channels[{number}].{key}"));
            let folded = CaseMapping::Rfc1459.fold(&channel.name);
            let named = IrcAddress::new("x", &channel.name, CaseMapping::Rfc1459).is_ok_and(|name| name.is_channel());
            if !named || channel.name.contains('\u{7}') {
                errors.push(path("name"), "that is no name of a channel", "write a name such as #demo");
            } else if !channels.insert(folded) {
                errors.push(path("name"), "the channel is tied already", "tie a channel to one group");
            }
            if channel.key.as_ref().is_some_and(|key| key.is_empty() || key.contains([' ', ',', '\r', '\n', '\0'])) {
                errors.push(path("key"), "that is no key of a channel", "write one word without commas");
            }
            let fits = |c: char| !c.is_control() && !c.is_whitespace() && !",:/*?!@\\\"".contains(c);
            let group = channel.group.strip_prefix('#').filter(|rest| !rest.is_empty() && rest.len() < 50);
            if !group.is_some_and(|rest| rest.chars().all(fits)) {
                errors.push(path("group"), "that is no name of a group", "write a name such as #demo");
            } else if !groups.insert(channel.group.to_lowercase()) {
                // With two channels tied to it, nobody could tell any more where a line ends up.
                errors.push(path("group"), "the group is tied already", "tie a group to one channel of one network");
            }
        }
    }
}

/// The plan of a relay's connection: as that of a user who is called by its nick.
///
/// # Errors
/// Where its nick makes no address, which the configuration's check refuses.
pub(crate) fn plan(
    config: &IrcNetworkConfig,
    network: &NetworkConfig,
    relay: &RelayConfig,
    domain: &Domain,
) -> Result<(Plan, MailAddress), Error> {
    let address = MailAddress::new(&relay.nick.to_lowercase(), domain.clone())
        .map_err(|error| Error::new(ErrorKind::Invalid, format!("the relay on {}: {error}", network.name)))?;
    let channel = |channel: &RelayChannel| match &channel.key {
        Some(key) => format!("{} {key}", channel.name),
        None => channel.name.clone(),
    };
    let groups: Vec<_> = relay.channels.iter().map(|channel| channel.group.as_str()).collect();
    let sasl = match (&relay.password_secret, &relay.certificate_secret) {
        (Some(_), _) => SaslMode::Plain,
        (None, Some(_)) => SaslMode::External,
        (None, None) => SaslMode::None,
    };
    let own = NetworkConfig {
        users: Vec::new(),
        connect: true,
        nickname: relay.nick.clone(),
        username: "relay".to_owned(),
        realname: format!("Relay of {} on {domain}", groups.join(", ")),
        channels: relay.channels.iter().map(channel).collect(),
        sasl,
        account: relay.account.clone().unwrap_or_else(|| relay.nick.clone()),
        password_secret: relay.password_secret.clone(),
        certificate_secret: relay.certificate_secret.clone(),
        relay: None,
        ..network.clone()
    };
    let config = IrcNetworkConfig { network: vec![own], ..config.clone() };
    let mut plan = records::plan(&config, &UserRecord::new(&relay.nick, &address), &network.name)?;
    plan.otr = crate::network::config::OtrPolicy::Off;
    plan.identity.version = "Mesyx, a relay".to_owned();
    Ok((plan, address))
}
