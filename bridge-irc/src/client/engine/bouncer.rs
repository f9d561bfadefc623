//! BOUNCER: the user's networks, for clients that know `soju.im/bouncer-networks`.

use super::ask::{Ask, Asks};
use super::commands::Command;
use super::{ClientId, Server, caps};
use crate::link::{self, NetworkInfo, Settings};

/// Attributes of the specification by the names of [`Settings`].
const ATTRIBUTES: [(&str, &str); 8] = [
    ("host", "host"),
    ("port", "port"),
    ("tls", "tls"),
    ("nickname", "nickname"),
    ("username", "username"),
    ("realname", "realname"),
    ("pass", "pass"),
    ("name", "name"),
];

/// Writes attributes as message tags are written.
fn write(pairs: &[(String, String)]) -> String {
    let pairs = pairs.iter().map(|(key, value)| {
        let mut escaped = Vec::new();
        mesyx_irc_codec::escape(value, &mut escaped);
        format!("{key}={}", String::from_utf8_lossy(&escaped))
    });
    pairs.collect::<Vec<_>>().join(";")
}

/// Reads them.
fn read(text: &str) -> Vec<(String, String)> {
    let line = format!("@{text} X");
    let Ok(line) = mesyx_irc_codec::Line::parse(line.as_bytes(), mesyx_irc_codec::Limits::FROM_SERVER) else {
        return Vec::new();
    };
    let pair = |tag: mesyx_irc_codec::Tag<'_>| {
        Some((String::from_utf8(tag.key.to_vec()).ok()?, String::from_utf8(tag.value.into_owned()).ok()?))
    };
    line.tags.iter().filter_map(pair).collect()
}

impl Server {
    pub(super) fn bouncer(&mut self, id: ClientId, command: &Command) -> Asks {
        let sub = command.get(0).unwrap_or_default().to_ascii_uppercase();
        if self.clients.get(&id).is_none_or(|client| client.user.is_none()) {
            self.fail(id, "BOUNCER", "ACCOUNT_REQUIRED", &[&sub], "Only users have networks");
            return Vec::new();
        }
        let ask = |question| vec![Ask::Network { question, context: "BOUNCER".into() }];
        match (sub.as_str(), command.get(1)) {
            ("LISTNETWORKS", _) => ask(link::Ask::Networks),
            ("BIND", _) => {
                self.fail(
                    id,
                    "BOUNCER",
                    "REGISTRATION_IS_COMPLETED",
                    &["BIND"],
                    "Bind before the registration is complete",
                );
                Vec::new()
            }
            ("ADDNETWORK", Some(attributes)) => {
                let pairs = read(attributes);
                let host = pairs.iter().find(|(key, _)| key == "host").map(|(_, host)| host.clone());
                let Some(host) = host.filter(|host| !host.is_empty()) else {
                    self.fail(id, "BOUNCER", "NEED_ATTRIBUTE", &["ADDNETWORK", "host"], "The host is missing");
                    return Vec::new();
                };
                let named = pairs.iter().find(|(key, _)| key == "name").map_or(host, |(_, name)| name.clone());
                let network = netid(&named);
                match self.attributes(id, "ADDNETWORK", &pairs) {
                    Some(settings) => ask(link::Ask::Add { network, settings }),
                    None => Vec::new(),
                }
            }
            ("CHANGENETWORK", Some(network)) => {
                match self.attributes(id, "CHANGENETWORK", &read(command.get(2).unwrap_or_default())) {
                    Some(settings) => ask(link::Ask::Change { network: network.to_owned(), settings }),
                    None => Vec::new(),
                }
            }
            ("DELNETWORK", Some(network)) => ask(link::Ask::Remove { network: network.to_owned() }),
            ("ADDNETWORK" | "CHANGENETWORK" | "DELNETWORK", None) => {
                self.fail(id, "BOUNCER", "NEED_MORE_PARAMS", &[&sub], "Missing parameters");
                Vec::new()
            }
            _ => {
                self.fail(id, "BOUNCER", "UNKNOWN_COMMAND", &[&sub], "Unknown subcommand");
                Vec::new()
            }
        }
    }

    /// BOUNCER BIND, before the client is let in.
    pub(super) fn bind(&mut self, id: ClientId, command: &Command) -> Asks {
        if !command.get(0).is_some_and(|sub| sub.eq_ignore_ascii_case("BIND")) {
            self.numeric(id, "451", ["You have not registered"]);
            return Vec::new();
        }
        let Some(network) = command.get(1).map(str::to_ascii_lowercase) else {
            self.fail(id, "BOUNCER", "NEED_MORE_PARAMS", &["BIND"], "Missing parameters");
            return Vec::new();
        };
        let Some(client) = self.clients.get_mut(&id) else { return Vec::new() };
        if client.user.is_none() {
            self.fail(id, "BOUNCER", "ACCOUNT_REQUIRED", &["BIND"], "Log in first");
            return Vec::new();
        }
        client.network = Some(network);
        Vec::new()
    }

    fn attributes(&mut self, id: ClientId, sub: &str, pairs: &[(String, String)]) -> Option<Settings> {
        let mut settings = Settings::default();
        for (key, value) in pairs {
            match ATTRIBUTES.iter().find(|(name, _)| name == key) {
                Some((_, "name")) => {}
                Some((_, ours)) => {
                    settings.0.insert((*ours).to_owned(), value.clone());
                }
                None if matches!(key.as_str(), "state" | "error") => {
                    self.fail(id, "BOUNCER", "READ_ONLY_ATTRIBUTE", &[sub, key], "That can't be set");
                    return None;
                }
                None => {
                    self.fail(id, "BOUNCER", "UNKNOWN_ATTRIBUTE", &[sub, key], "That attribute is not known here");
                    return None;
                }
            }
        }
        Some(settings)
    }

    fn network_line(info: &NetworkInfo) -> String {
        let mut pairs =
            vec![("name".to_owned(), info.name.clone()), ("state".to_owned(), info.state.as_str().to_owned())];
        if !info.error.is_empty() {
            pairs.push(("error".to_owned(), info.error.clone()));
        }
        for (name, ours) in ATTRIBUTES {
            if let Some(value) = info.settings.0.get(ours).filter(|_| name != "name" && name != "pass") {
                pairs.push((name.to_owned(), value.clone()));
            }
        }
        write(&pairs)
    }

    pub(super) fn list_networks(&mut self, id: ClientId, all: &[NetworkInfo]) {
        let batch = self.batch_name();
        let batched = self.caps(id).has(caps::BATCH);
        if batched {
            let open = self.own_msg("BATCH").arg(format!("+{batch}")).arg("soju.im/bouncer-networks");
            self.send(id, open);
        }
        for info in all {
            let mut msg = self.own_msg("BOUNCER").arg("NETWORK").arg(info.name.clone()).arg(Self::network_line(info));
            msg.batch = batched.then(|| batch.clone());
            self.send(id, msg);
        }
        if batched {
            let close = self.own_msg("BATCH").arg(format!("-{batch}"));
            self.send(id, close);
        }
    }

    /// The networks, to a client that asked to be told of them (`soju.im/bouncer-networks-notify`).
    pub(super) fn tell_networks(&mut self, id: ClientId, all: &[NetworkInfo]) {
        self.list_networks(id, all);
    }

    pub(super) fn bouncer_done(&mut self, id: ClientId, sub: &str, network: &str) {
        let msg = self.own_msg("BOUNCER").arg(sub.to_owned()).arg(network);
        self.send(id, msg);
    }
}

/// A name for a network: letters, digits and `-`.
fn netid(name: &str) -> String {
    let good = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let id: String = name.chars().map(good).take(63).collect();
    let id = id.trim_matches('-').to_owned();
    if id.is_empty() { "network".into() } else { id }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_come_back() {
        let pairs = vec![("name".to_owned(), "a; b\\c".to_owned()), ("host".to_owned(), "irc.example.org".to_owned())];
        assert_eq!(read(&write(&pairs)), pairs);
        assert_eq!(netid("Libera Chat!"), "libera-chat");
    }
}
