//! The bridge's configuration.

use mesyx_sdk::config::check_listeners;
use mesyx_sdk::{Config, ConfigErrors};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// The table `imap` of the configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where to take connections.
    pub listeners: Vec<Listener>,
    /// Bounds on what clients may use up.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        let listener = |name: &str, address: IpAddr, port, tls| Listener {
            name: name.into(),
            address: SocketAddr::new(address, port),
            tls,
            plain_auth_without_tls: false,
        };
        // An IPv6 socket takes IPv6 only.
        let (v4, v6) = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        Self {
            listeners: vec![
                listener("imap-v4", v4, 143, Tls::Starttls),
                listener("imap-v6", v6, 143, Tls::Starttls),
                listener("imaps-v4", v4, 993, Tls::Implicit),
                listener("imaps-v6", v6, 993, Tls::Implicit),
            ],
            limits: Limits::default(),
        }
    }
}

/// One listening socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Its name, unique in this bridge; systemd's `FileDescriptorName=` for it is `imap.NAME`.
    pub name: String,
    /// Address and port, such as `0.0.0.0:993` or `[::]:993`; IPv4 and IPv6 are listed apart.
    #[schemars(with = "String")]
    pub address: SocketAddr,
    /// How TLS begins.
    pub tls: Tls,
    /// Takes passwords without TLS. For tests on this machine: allowed only with `tls = "starttls"` on a loopback address.
    #[serde(default)]
    pub plain_auth_without_tls: bool,
}

/// How TLS begins on a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// After the command STARTTLS; login is refused before it (port 143).
    Starttls,
    /// At once (port 993, RFC 8314).
    Implicit,
}

/// Bounds on what clients may use up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Most connections at once: each costs a socket and some tens of KiB. 10000 unless given.
    pub connections: usize,
    /// Most connections at once from one IP address; a household's phones and computers hold about 5 each. 100 unless given.
    pub connections_per_ip: usize,
    /// Largest message that APPEND takes, in bytes. 52428800 (50 MiB) unless given, as much as other hosts take by mail.
    pub append_bytes: u64,
    /// Seconds without a command after which a logged-in client is sent away, IDLE included. 1800 unless given;
    /// RFC 3501 allows no less.
    pub idle_seconds: u64,
    /// Seconds that a client has to log in. 120 unless given.
    pub login_seconds: u64,
    /// Seconds in which a client must take 64 KiB of an answer. 60 unless given.
    pub write_seconds: u64,
    /// Failed logins on one connection before it is ended. 5 unless given.
    pub login_failures: u32,
    /// Commands that can't be read on one connection before it is ended. 20 unless given.
    pub bad_commands: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_ip: 100,
            append_bytes: 50 * 1024 * 1024,
            idle_seconds: 1800,
            login_seconds: 120,
            write_seconds: 60,
            login_failures: 5,
            bad_commands: 20,
        }
    }
}

impl Limits {
    pub(crate) const fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_seconds)
    }

    pub(crate) const fn login(&self) -> Duration {
        Duration::from_secs(self.login_seconds)
    }

    pub(crate) const fn write(&self) -> Duration {
        Duration::from_secs(self.write_seconds)
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
        settings.limits.check(&mut errors);
        errors.or(settings)
    }

    fn check_listeners(&self, errors: &mut ConfigErrors) {
        check_listeners(self.listeners.iter().map(|listener| (&*listener.name, Some(listener.address))), errors);
        for (index, listener) in self.listeners.iter().enumerate() {
            let at = |key: &str| format!("listeners[{index}].{key}");
            if listener.plain_auth_without_tls {
                if !listener.address.ip().is_loopback() {
                    let what = format!("passwords would travel unprotected to {}", listener.address);
                    errors.push(at("plain_auth_without_tls"), what, "leave it out, or listen on 127.0.0.1 or [::1]");
                }
                if listener.tls == Tls::Implicit {
                    let what = "all is under TLS here";
                    errors.push(at("plain_auth_without_tls"), what, "leave it out, or write tls = \"starttls\"");
                }
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
        // The upper bound is what `literal` and APPENDLIMIT can say (RFC 7889).
        range("append_bytes", self.append_bytes, 1024, u32::MAX.into());
        range("idle_seconds", self.idle_seconds, 1800, 24 * 3600);
        range("login_seconds", self.login_seconds, 10, 3600);
        range("write_seconds", self.write_seconds, 5, 3600);
        range("login_failures", self.login_failures.into(), 1, 100);
        range("bad_commands", self.bad_commands.into(), 1, 10_000);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_written_means_the_standard_ports() {
        let settings = Settings::read(Config::new(json!({}))).expect("a configuration");
        let ports: Vec<u16> = settings.listeners.iter().map(|listener| listener.address.port()).collect();
        assert_eq!(ports, [143, 143, 993, 993]);
    }

    #[test]
    fn all_errors_at_once() {
        let config = json!({
            "listeners": [
                { "name": "a", "address": "0.0.0.0:143", "tls": "starttls", "plain_auth_without_tls": true },
                { "name": "a", "address": "0.0.0.0:143", "tls": "implicit" },
            ],
            "limits": { "connections": 0, "idle_seconds": 60 },
        });
        let errors = Settings::read(Config::new(config)).expect_err("errors").0;
        let paths: Vec<&str> = errors.iter().map(|error| error.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "listeners[1].name",
                "listeners[1].address",
                "listeners[0].plain_auth_without_tls",
                "limits.connections",
                "limits.idle_seconds",
            ]
        );
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(Settings::read(Config::new(json!({ "listner": [] }))).is_err());
    }
}
