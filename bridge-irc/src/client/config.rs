//! The bridge's configuration.

use mesyx_sdk::config::check_listeners;
use mesyx_sdk::{Config, ConfigErrors};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The table `irc-client` of the configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where to take connections.
    pub listeners: Vec<Listener>,
    /// What clients call this network; letters, digits and `-`. `Mesyx` unless given.
    pub network: String,
    /// The message of the day. None unless given.
    #[schemars(extend("examples" = ["Welcome.\nThe rules stand at https://example.org/rules"]))]
    pub motd: String,
    /// Lets people without an account in, for public servers. They take part in groups; nothing is stored for them. `off` unless given.
    pub guests: Guests,
    /// Bounds on what clients may use up.
    pub limits: Limits,
    /// What the section `[groups]` says of names and topics: clients are told it. The program passes that section on.
    pub groups: Groups,
}

/// What clients are told of the section `[groups]`; what else stands there is the exchange's alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Groups {
    /// Longest topic, in bytes. 390 unless given.
    pub topic_bytes: usize,
    /// Longest name of a group, in bytes with its `#`. 50 unless given, and never more.
    pub name_bytes: usize,
}

impl Default for Groups {
    fn default() -> Self {
        Self { topic_bytes: 390, name_bytes: 50 }
    }
}

impl Default for Settings {
    fn default() -> Self {
        let listener = |name: &str, ip: IpAddr| Listener {
            name: name.into(),
            address: SocketAddr::new(ip, 6697),
            tls: Tls::Implicit,
            plain_beyond_this_machine: false,
        };
        // An IPv6 socket takes IPv6 only.
        let (v4, v6) = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        Self {
            listeners: vec![listener("ircs-v4", v4), listener("ircs-v6", v6)],
            network: "Mesyx".into(),
            motd: String::new(),
            guests: Guests::Off,
            limits: Limits::default(),
            groups: Groups::default(),
        }
    }
}

/// Whether people without an account are let in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Guests {
    /// Only users with an account.
    #[default]
    Off,
    /// Anybody.
    On,
}

/// One listening socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Its name, unique in this bridge; systemd's `FileDescriptorName=` for it is `irc-client.NAME`.
    pub name: String,
    /// Address and port, such as `0.0.0.0:6697` or `[::]:6697`; IPv4 and IPv6 are listed apart.
    #[schemars(with = "String")]
    pub address: SocketAddr,
    /// Whether there is TLS.
    pub tls: Tls,
    /// Takes connections without TLS from other hosts: passwords and everything said travel in clear. Only where something
    /// else protects the way, such as a VPN.
    #[serde(default)]
    pub plain_beyond_this_machine: bool,
}

/// Whether a listener has TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// None: only on a loopback address, unless `plain_beyond_this_machine` is set.
    None,
    /// From the first byte (port 6697, RFC 7194).
    Implicit,
}

/// Bounds on what clients may use up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Most connections at once: each costs a socket and, idle, some KiB (with TLS some tens). 10000 unless given.
    pub connections: usize,
    /// Most connections at once from one IP address; a household's programs hold about 5 each. 100 unless given.
    pub connections_per_ip: usize,
    /// Most channels that one person is in; clients slow down with more. 200 unless given.
    pub channels: usize,
    /// Most bytes that wait for one client; who reads more slowly is cut. 4194304 (4 MiB) unless given, some 10,000 lines.
    pub sendq_bytes: usize,
    /// Seconds that a client has to log in. 60 unless given.
    pub login_seconds: u64,
    /// Bytes that a client may send before it has logged in. 65536 unless given: a login takes some hundreds.
    pub login_bytes: usize,
    /// Seconds of silence after which a client is asked whether it is there; it has as long again to answer. 120 unless given.
    pub ping_seconds: u64,
    /// Lines that a guest may send at once. 40 unless given: a client that starts sends about as many.
    pub guest_burst: u32,
    /// Lines a second that a guest may send on average; what is above waits. 10 unless given.
    pub guest_lines_per_second: u32,
    /// Lines that a user may send at once. 2000 unless given: pasting and scripts are not punished.
    pub user_burst: u32,
    /// Lines a second that a user may send on average; what is above waits. 2000 unless given, so that one user can't take all of the store.
    pub user_lines_per_second: u32,
    /// Lines of one conversation that a client without `draft/chathistory` is shown on connecting. 500 unless given.
    pub playback_lines: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_ip: 100,
            channels: 200,
            sendq_bytes: 4 << 20,
            login_seconds: 60,
            login_bytes: 65_536,
            ping_seconds: 120,
            guest_burst: 40,
            guest_lines_per_second: 10,
            user_burst: 2000,
            user_lines_per_second: 2000,
            playback_lines: 500,
        }
    }
}

impl Settings {
    /// Reads and checks the table.
    ///
    /// # Errors
    /// All that is wrong with it, at once.
    pub fn read(config: Config) -> Result<Self, ConfigErrors> {
        let settings: Self = config.parse()?;
        let mut errors = ConfigErrors::default();
        settings.check_listeners(&mut errors);
        let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if !(1..=32).contains(&settings.network.len()) || !settings.network.bytes().all(good) {
            errors.push(
                "network",
                "that is no name of a network",
                "use 1 to 32 letters, digits and -, such as Example",
            );
        }
        if settings.motd.lines().count() > 100 || settings.motd.lines().any(|line| line.len() > 400) {
            errors.push("motd", "it is too long", "write at most 100 lines of at most 400 bytes");
        }
        settings.limits.check(&mut errors);
        settings.groups.check(&mut errors);
        errors.or(settings)
    }

    fn check_listeners(&self, errors: &mut ConfigErrors) {
        check_listeners(self.listeners.iter().map(|listener| (&*listener.name, Some(listener.address))), errors);
        for (index, listener) in self.listeners.iter().enumerate() {
            let plain = listener.tls == Tls::None && !listener.plain_beyond_this_machine;
            if plain && !listener.address.ip().is_loopback() {
                let what = format!("passwords would travel unprotected to {}", listener.address);
                let fix =
                    "write tls = \"implicit\", listen on 127.0.0.1 or [::1], or set plain_beyond_this_machine = true";
                errors.push(format!("listeners[{index}].tls"), what, fix);
            }
        }
    }
}

impl Groups {
    fn check(&self, errors: &mut ConfigErrors) {
        let lengths = [("topic_bytes", self.topic_bytes, 50..=390), ("name_bytes", self.name_bytes, 2..=50)];
        for (key, value, good) in lengths {
            if !good.contains(&value) {
                let fix = format!("write a number from {} to {}", good.start(), good.end());
                errors.push(format!("groups.{key}"), format!("{value} is out of range"), fix);
            }
        }
    }
}

impl Limits {
    fn check(&self, errors: &mut ConfigErrors) {
        let mut range = |key: &str, value: u64, low: u64, high: u64| {
            if !(low..=high).contains(&value) {
                let fix = format!("write a number from {low} to {high}");
                errors.push(format!("limits.{key}"), format!("{value} is out of range"), fix);
            }
        };
        range("connections", self.connections as u64, 1, 1_000_000);
        range("connections_per_ip", self.connections_per_ip as u64, 1, 1_000_000);
        range("channels", self.channels as u64, 1, 10_000);
        range("sendq_bytes", self.sendq_bytes as u64, 65_536, 1 << 30);
        range("login_seconds", self.login_seconds, 5, 3600);
        range("login_bytes", self.login_bytes as u64, 1024, 1 << 20);
        range("ping_seconds", self.ping_seconds, 10, 3600);
        range("guest_burst", self.guest_burst.into(), 1, 10_000);
        range("guest_lines_per_second", self.guest_lines_per_second.into(), 1, 10_000);
        range("user_burst", self.user_burst.into(), 1, 100_000);
        range("user_lines_per_second", self.user_lines_per_second.into(), 1, 100_000);
        range("playback_lines", self.playback_lines as u64, 0, 1000);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_written_means_tls_and_no_guests() {
        let settings = Settings::read(Config::new(json!({}))).expect("a configuration");
        assert_eq!(settings.guests, Guests::Off);
        assert!(
            settings.listeners.iter().all(|listener| listener.address.port() == 6697 && listener.tls == Tls::Implicit)
        );
    }

    #[test]
    fn all_errors_at_once() {
        let config = json!({
            "network": "a b",
            "listeners": [
                { "name": "a", "address": "0.0.0.0:6667", "tls": "none" },
                { "name": "a", "address": "127.0.0.1:6667", "tls": "none" },
                { "name": "b", "address": "0.0.0.0:6668", "tls": "none", "plain_beyond_this_machine": true },
            ],
            "limits": { "connections": 0 },
        });
        let errors = Settings::read(Config::new(config)).expect_err("errors").0;
        let paths: Vec<&str> = errors.iter().map(|error| error.path.as_str()).collect();
        assert_eq!(paths, ["listeners[1].name", "listeners[0].tls", "network", "limits.connections"]);
    }
}
