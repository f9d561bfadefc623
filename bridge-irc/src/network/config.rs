//! The configuration of `irc-network`: as written ([`IrcNetworkConfig`]), and checked.

use super::proto::Charset;
use super::relay::{self, RelayConfig};
use mesyx_sdk::{ConfigErrors, IrcAddress, address::CaseMapping};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::PathBuf;

/// The table `bridge.irc-network`: networks outside.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IrcNetworkConfig {
    /// Networks that are there for users. Users can add others by their IRC client, see `user_networks`.
    #[schemars(extend("examples" = [[{ "name": "libera", "host": "irc.libera.chat", "channels": ["#mesyx"] }]]))]
    pub network: Vec<NetworkConfig>,
    /// Whether users may add networks of their own.
    pub user_networks: bool,
    /// Whether networks that users add may be on private, link-local or loopback addresses. Off, so that no user can reach through
    /// this host into its own network.
    pub private_addresses: bool,
    /// OTR with people who write privately.
    pub otr: OtrConfig,
    /// What users and connections may cost.
    pub limits: IrcNetworkLimits,
}

/// One network that is there for users.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Its name in addresses: 1 to 63 lower-case letters, digits and `-`; `#rust` there is `#rust@NAME.irc.DOMAIN` to a mail program.
    pub name: String,
    /// Host name or IP address of the server.
    pub host: String,
    /// Its TCP port; unless given 6697, or 6667 without TLS.
    pub port: Option<u16>,
    /// TLS from the first byte. Without it, passwords and texts are open to everybody on the way.
    #[serde(default = "yes")]
    pub tls: bool,
    /// PEM file of the authorities to believe, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// SHA-256 of the server's certificate in hexadecimal (colons may stand in it): this one is believed and no other.
    pub fingerprint: Option<String>,
    /// Login names of those it is for; empty: everybody.
    #[serde(default)]
    pub users: Vec<String>,
    /// Connected from the start for those named in `users`, and from their first login for others. Off: when they ask or say something.
    #[serde(default = "yes")]
    pub connect: bool,
    /// The nick; `{user}` is the login name. Users can change theirs.
    #[serde(default = "user")]
    pub nickname: String,
    /// The real name that others see.
    #[serde(default = "user")]
    pub realname: String,
    /// The user name that others see.
    #[serde(default = "user")]
    pub username: String,
    /// Channels to join: `#name`, or `#name key`. Users can join others.
    #[serde(default)]
    pub channels: Vec<String>,
    /// How to log in.
    #[serde(default)]
    pub sasl: SaslMode,
    /// The account for SASL PLAIN; `{user}` is the login name.
    #[serde(default = "user")]
    pub account: String,
    /// Name of the stored secret with the password for SASL PLAIN; a `{user}` at its end stands for the login name.
    pub password_secret: Option<String>,
    /// Name of the stored secret with the client certificate and its private key (PEM), for SASL EXTERNAL and for networks that know
    /// users by it without; `{user}` as above.
    pub certificate_secret: Option<String>,
    /// Name of the stored secret with the server's password (PASS); `{user}` as above.
    pub pass_secret: Option<String>,
    /// Lines that may be sent at once. RFC 1459, section 8.10, lets five through.
    #[serde(default = "burst")]
    pub burst: u32,
    /// Milliseconds for each further line. The same section takes two seconds.
    #[serde(default = "line_milliseconds")]
    pub line_milliseconds: u32,
    /// What a line that is no UTF-8 is read as.
    #[serde(default)]
    pub charset: Charset,
    /// OTR on this network, in place of the general setting.
    pub otr: Option<OtrPolicy>,
    /// A nick of nobody's own that ties channels to groups here. See docs/irc-networks.md.
    pub relay: Option<RelayConfig>,
}

/// How to log in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SaslMode {
    /// Not at all, unless the user sets an account and password.
    #[default]
    None,
    /// By account and password.
    Plain,
    /// By a client certificate.
    External,
}

/// How much OTR is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OtrPolicy {
    /// None: every line passes as it is.
    Off,
    /// With those who can.
    #[default]
    Opportunistic,
    /// Always: no text goes to a nick in the clear.
    Require,
}

/// Where an offer of OTR stands in the first text to somebody.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OtrOffer {
    /// Before it, where no server strips it.
    #[default]
    Leading,
    /// Behind it. Clients on python-potr (weechat's script) show the text of such a line alone.
    Trailing,
}

/// OTR with people who write privately. It ends at this host: docs/otr.md.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OtrConfig {
    /// Unless the network, or the user for one peer, says otherwise.
    pub policy: OtrPolicy,
    /// Where the offer stands in the first text to somebody.
    pub offer: OtrOffer,
    /// A text to somebody who had OTR before is held for 45 seconds while OTR begins. Where it does not: true sends it in the clear and says
    /// so, false gives it back as not sent. Nothing is ever sent in the clear where OTR is required.
    pub clear_after_hold: bool,
}

/// What users and connections may cost.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IrcNetworkLimits {
    /// Networks of their own that a user may add. Few people are on more than ten.
    pub networks_per_user: u32,
    /// Channels of a user on one network. Most networks allow 100 to 250.
    pub channels: u32,
    /// Seconds of the first pause before connecting again; it doubles with each failure, with a random part. Servers throttle who comes
    /// back faster.
    pub reconnect_seconds: u32,
    /// Seconds of the longest such pause.
    pub reconnect_most_seconds: u32,
    /// Seconds of silence after which the server is asked whether it is there.
    pub ping_seconds: u32,
    /// Seconds of silence after which a connection is taken for dead: under a minute, so that nobody talks into the void for long.
    pub dead_seconds: u32,
    /// Texts that wait to be sent on one connection; more are put off.
    pub waiting: u32,
}

impl Default for IrcNetworkConfig {
    fn default() -> Self {
        Self {
            network: Vec::new(),
            user_networks: true,
            private_addresses: false,
            otr: OtrConfig::default(),
            limits: IrcNetworkLimits::default(),
        }
    }
}

impl Default for IrcNetworkLimits {
    fn default() -> Self {
        Self {
            networks_per_user: 10,
            channels: 200,
            reconnect_seconds: 5,
            reconnect_most_seconds: 600,
            ping_seconds: 20,
            dead_seconds: 45,
            waiting: 500,
        }
    }
}

fn yes() -> bool {
    true
}

fn user() -> String {
    "{user}".to_owned()
}

fn burst() -> u32 {
    5
}

fn line_milliseconds() -> u32 {
    2000
}

impl IrcNetworkConfig {
    /// Checks what the schema can't.
    pub(crate) fn check(&self) -> Result<(), ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let mut names = HashSet::new();
        for (at, network) in self.network.iter().enumerate() {
            let path = |key: &str| format!("network[{at}].{key}");
            if let Err(error) = IrcAddress::new(&network.name, "x", CaseMapping::Ascii) {
                errors.push(path("name"), error.to_string(), "write a name such as libera");
            } else if network.name != network.name.to_ascii_lowercase() || !names.insert(&network.name) {
                errors.push(path("name"), "the name is not in lower case, or there is another of it", "write another");
            }
            if network.host.is_empty() || network.host.contains(char::is_whitespace) {
                errors.push(path("host"), "there is no host", "write a host name such as irc.libera.chat");
            }
            if network.fingerprint.as_deref().is_some_and(|print| parse_fingerprint(print).is_none()) {
                errors.push(path("fingerprint"), "it is no SHA-256", "write 64 hexadecimal digits");
            }
            if network.fingerprint.is_some() && network.ca_file.is_some() {
                errors.push(path("ca_file"), "fingerprint and ca_file are both given", "take one away");
            }
            if network.line_milliseconds < 10 || network.burst == 0 {
                errors.push(
                    path("burst"),
                    "the pace would have no bound",
                    "write a burst of 1 or more, and 10 milliseconds or more",
                );
            }
            match network.sasl {
                SaslMode::Plain if network.password_secret.is_none() => {
                    errors.push(
                        path("password_secret"),
                        "SASL PLAIN needs a password",
                        "write the name of a stored secret",
                    );
                }
                SaslMode::External if network.certificate_secret.is_none() => {
                    errors.push(
                        path("certificate_secret"),
                        "SASL EXTERNAL needs a certificate",
                        "write the name of a stored secret",
                    );
                }
                _ => {}
            }
            if network.sasl != SaslMode::None && !network.tls {
                errors.push(
                    path("tls"),
                    "a login without TLS shows the password to everybody on the way",
                    "write tls = true, or sasl = \"none\"",
                );
            }
        }
        relay::check(&self.network, &mut errors);
        let limits = &self.limits;
        if limits.ping_seconds == 0 || limits.dead_seconds <= limits.ping_seconds || limits.dead_seconds > 3600 {
            errors.push("limits.dead_seconds", "it must be more than ping_seconds", "write 45, with ping_seconds = 20");
        }
        if limits.reconnect_seconds == 0 || limits.reconnect_most_seconds < limits.reconnect_seconds {
            errors.push(
                "limits.reconnect_seconds",
                "the pauses are none",
                "write 5, with reconnect_most_seconds = 600",
            );
        }
        errors.or(())
    }

    /// The names of secrets that may be asked for: `{user}` at the end becomes all that begin so.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let all = |network: &NetworkConfig| {
            let names = [&network.password_secret, &network.certificate_secret, &network.pass_secret];
            let names = names.into_iter().flatten().map(|name| name.replace("{user}", "*"));
            names.chain(network.relay.iter().flat_map(RelayConfig::secrets).cloned()).collect::<Vec<_>>()
        };
        self.network.iter().flat_map(all).collect()
    }
}

/// A SHA-256 in hexadecimal.
pub(crate) fn parse_fingerprint(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b':' | b' ')).collect();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}
