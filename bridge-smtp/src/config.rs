//! The configuration of both bridges: as written ([`SmtpConfig`], [`SubmissionConfig`]), and checked (`Checked`).

use crate::dkim::DkimConfig;
use crate::outbound::{self, DeliveryConfig};
use crate::proto;
use crate::proxy::Network;
use crate::verify::{self, VerifyConfig};
use mesyx_net::{DnsConfig, HttpsConfig};
use mesyx_sdk::config::check_listeners;
use mesyx_sdk::{ConfigErrors, ListenSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::Duration;

/// The table `bridges.smtp`: mail from other hosts.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SmtpConfig {
    /// Where to listen. Other hosts deliver to port 25 only; they begin without TLS and ask for it by STARTTLS.
    pub listeners: Vec<Listener>,
    /// What a connection and a message may cost.
    pub limits: LimitsConfig,
    /// Whether a message comes from whom it says: SPF, DKIM, DMARC and ARC.
    pub verify: VerifyConfig,
    /// How mail is sent to other hosts.
    pub delivery: DeliveryConfig,
    /// How names are looked up. The program puts its own section `dns` here.
    pub dns: DnsConfig,
    /// Signing of mail that leaves.
    pub dkim: DkimConfig,
    /// How policies are fetched, and which authorities are believed. The program puts its own section `https` here.
    pub https: HttpsConfig,
}

/// The table `bridges.submission`: mail from our own users' programs.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SubmissionConfig {
    /// Where to listen. Port 465 has TLS from the first byte, port 587 by STARTTLS.
    pub listeners: Vec<Listener>,
    /// What a connection and a message may cost.
    pub limits: LimitsConfig,
}

/// A socket that takes connections.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Its name in `mesyx status` and for systemd's socket activation; unique among the listeners. Empty: `smtp` or
    /// `submission` with its place in the list behind it.
    #[serde(default)]
    pub name: String,
    /// IP address and port, as `0.0.0.0:25` or `[::]:25`; IPv4 and IPv6 are listed apart.
    pub address: String,
    /// How connections are protected.
    #[serde(default)]
    pub tls: TlsMode,
    /// Every connection begins with a PROXY header (version 1 or 2), as a load balancer sends it. One without it is closed.
    #[serde(default)]
    pub proxy: bool,
    /// Who may send PROXY headers, as networks: `192.0.2.0/24`. Connections from elsewhere are closed. Has an effect with
    /// `proxy` alone.
    #[serde(default = "loopback")]
    pub proxy_from: Vec<String>,
    /// Takes passwords without TLS. For development: only a listener on a loopback address may have it.
    #[serde(default)]
    pub plain_auth_without_tls: bool,
}

/// How connections to a listener are protected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// Not at all.
    None,
    /// When the client asks for it.
    #[default]
    Starttls,
    /// From the first byte.
    Implicit,
}

/// What a connection and a message may cost.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Largest message in bytes. 50 MiB is what the large mail providers take.
    pub message_bytes: u64,
    /// Most recipients of one message, at most 1000. RFC 5321 asks for 100 at least; beyond 1000 a message holds too much memory.
    pub recipients: u32,
    /// Refused commands after which a connection is ended; a taken message sets the count back. 20 stops guessing of
    /// addresses and passwords without hurting a list with a few dead addresses.
    pub errors: u32,
    /// Commands without a message (NOOP, RSET, EHLO) after which a connection is ended. No real program needs 100.
    pub idle_commands: u32,
    /// Bytes of commands, without a message, after which a connection that has not logged in is ended. 100,000 has room
    /// for 1000 recipients.
    pub command_bytes: u32,
    /// Connections at once, over all listeners. 2000 idle ones stay under 64 MiB of memory.
    pub connections: u32,
    /// Connections at once from one IPv4 address or IPv6 /64 network; loopback is not counted. 50 serves a large provider's host.
    pub connections_per_ip: u32,
    /// Seconds that a peer may be silent. RFC 5321, section 4.5.3.2.7, asks for 5 minutes.
    pub timeout_seconds: u32,
    /// Seconds that one message may take to come in. Two hours are enough for 50 MiB over a modem.
    pub message_seconds: u32,
    /// Bytes per second that a message must come in with, after a first minute; within `message_seconds` in any case.
    /// It keeps half-sent messages from holding memory for hours. 4096 is slower than any modem that is still in use.
    pub minimum_rate: u32,
    /// `Received` fields after which a message is taken to go in a circle. RFC 5321, section 6.3, asks for 100 at most; real routes stay under 20.
    pub received: u32,
}

impl Default for SmtpConfig {
    fn default() -> Self {
        Self {
            listeners: vec![
                Listener::new("smtp-v4", "0.0.0.0:25", TlsMode::Starttls),
                Listener::new("smtp-v6", "[::]:25", TlsMode::Starttls),
            ],
            limits: LimitsConfig::default(),
            verify: VerifyConfig::default(),
            delivery: DeliveryConfig::default(),
            dns: DnsConfig::default(),
            dkim: DkimConfig::default(),
            https: HttpsConfig::default(),
        }
    }
}

impl Default for SubmissionConfig {
    fn default() -> Self {
        Self {
            listeners: vec![
                Listener::new("submission-v4", "0.0.0.0:587", TlsMode::Starttls),
                Listener::new("submission-v6", "[::]:587", TlsMode::Starttls),
                Listener::new("submissions-v4", "0.0.0.0:465", TlsMode::Implicit),
                Listener::new("submissions-v6", "[::]:465", TlsMode::Implicit),
            ],
            limits: LimitsConfig::default(),
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            message_bytes: 50 << 20,
            recipients: 1000,
            errors: 20,
            idle_commands: 100,
            command_bytes: 100_000,
            connections: 2000,
            connections_per_ip: 50,
            timeout_seconds: 300,
            message_seconds: 7200,
            minimum_rate: 4096,
            received: 50,
        }
    }
}

impl Listener {
    /// A listener without PROXY, and without passwords in the clear.
    #[must_use]
    pub fn new(name: &str, address: &str, tls: TlsMode) -> Self {
        Self {
            name: name.to_owned(),
            address: address.to_owned(),
            tls,
            proxy: false,
            proxy_from: loopback(),
            plain_auth_without_tls: false,
        }
    }
}

fn loopback() -> Vec<String> {
    vec!["127.0.0.0/8".to_owned(), "::1/128".to_owned()]
}

/// A configuration that can be served.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    pub(crate) listeners: Vec<CheckedListener>,
    pub(crate) session: proto::Limits,
    pub(crate) connections: usize,
    pub(crate) connections_per_ip: usize,
    pub(crate) timeout: Duration,
    pub(crate) message_time: Duration,
    /// In bytes per second; not 0.
    pub(crate) minimum_rate: u32,
    /// What is checked of mail from strangers, and by which name servers.
    pub(crate) verify: Option<(verify::Checked, DnsConfig)>,
}

#[derive(Debug, Clone)]
pub(crate) struct CheckedListener {
    pub(crate) spec: ListenSpec,
    pub(crate) tls: TlsMode,
    /// Networks that send PROXY headers; `None` where there are no such headers.
    pub(crate) proxy: Option<Vec<Network>>,
    pub(crate) login_in_clear: bool,
}

/// Checks all of the table `bridge.smtp` that the schema can't.
pub(crate) fn check_smtp(config: &SmtpConfig) -> Result<(Checked, outbound::Plan), ConfigErrors> {
    let mut errors = ConfigErrors::default();
    let plan = outbound::check(&config.delivery, &mut errors);
    let verify = config.verify.check(&mut errors);
    for (key, what) in config.dns.check() {
        errors.push(format!("dns.{key}"), what, "write it as \"127.0.0.1\" or \"[::1]:5353\"");
    }
    match check(&config.listeners, &config.limits, "smtp") {
        Ok(checked) => errors.or((Checked { verify: Some((verify, config.dns.clone())), ..checked }, plan)),
        Err(others) => {
            errors.0.extend(others.0);
            Err(errors)
        }
    }
}

/// Checks the values that the schema can't; `prefix` names listeners that have no name.
pub(crate) fn check(listeners: &[Listener], limits: &LimitsConfig, prefix: &str) -> Result<Checked, ConfigErrors> {
    let mut errors = ConfigErrors::default();
    let mut checked = Vec::new();
    let name = |(index, listener): (usize, &Listener)| match listener.name.as_str() {
        "" => format!("{prefix}-{}", index + 1),
        name => name.to_owned(),
    };
    let named: Vec<_> = listeners.iter().enumerate().map(name).collect();
    let addresses = listeners.iter().map(|listener| listener.address.parse().ok());
    check_listeners(named.iter().map(String::as_str).zip(addresses), &mut errors);
    for (index, (listener, name)) in listeners.iter().zip(named).enumerate() {
        let path = format!("listeners[{index}]");
        let proxy = listener.proxy.then(|| networks(&listener.proxy_from, &path, &mut errors));
        let Ok(address) = listener.address.parse::<SocketAddr>() else {
            let what = format!("'{}' is no IP address with a port", listener.address);
            errors.push(format!("{path}.address"), what, "write it as 0.0.0.0:25 or [::]:25");
            continue;
        };
        if listener.plain_auth_without_tls && !address.ip().is_loopback() {
            errors.push(
                format!("{path}.plain_auth_without_tls"),
                format!("{address} is no loopback address, so passwords would cross the network in the clear"),
                "take it out, or listen on 127.0.0.1 or [::1]",
            );
        }
        checked.push(CheckedListener {
            spec: ListenSpec { name, address },
            tls: listener.tls,
            proxy,
            login_in_clear: listener.plain_auth_without_tls,
        });
    }
    let session = check_limits(limits, &mut errors);
    errors.or(Checked {
        listeners: checked,
        session,
        connections: limits.connections as usize,
        connections_per_ip: limits.connections_per_ip as usize,
        timeout: Duration::from_secs(limits.timeout_seconds.into()),
        message_time: Duration::from_secs(limits.message_seconds.into()),
        minimum_rate: limits.minimum_rate,
        verify: None,
    })
}

fn networks(texts: &[String], path: &str, errors: &mut ConfigErrors) -> Vec<Network> {
    let mut networks = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match text.parse() {
            Ok(network) => networks.push(network),
            Err(_) => {
                let what = format!("'{text}' is no network");
                errors.push(format!("{path}.proxy_from[{index}]"), what, "write it as 192.0.2.0/24 or 2001:db8::/32");
            }
        }
    }
    networks
}

fn check_limits(limits: &LimitsConfig, errors: &mut ConfigErrors) -> proto::Limits {
    let mut within = |name: &str, value: u64, least: u64, most: u64| {
        if !(least..=most).contains(&value) {
            let fix = format!("write a number from {least} to {most}");
            errors.push(format!("limits.{name}"), format!("{value} is out of range"), fix);
        }
    };
    within("message_bytes", limits.message_bytes, 64 << 10, 1 << 30);
    within("recipients", limits.recipients.into(), 100, 1000);
    within("errors", limits.errors.into(), 5, 10_000);
    within("idle_commands", limits.idle_commands.into(), 10, 100_000);
    within("command_bytes", limits.command_bytes.into(), 20_000, 10_000_000);
    within("connections", limits.connections.into(), 1, 100_000);
    within("connections_per_ip", limits.connections_per_ip.into(), 1, 100_000);
    within("timeout_seconds", limits.timeout_seconds.into(), 10, 3600);
    within("message_seconds", limits.message_seconds.into(), 60, 86_400);
    within("minimum_rate", limits.minimum_rate.into(), 1, 1_000_000);
    within("received", limits.received.into(), 20, 100);
    proto::Limits {
        message_size: usize::try_from(limits.message_bytes).unwrap_or(usize::MAX),
        recipients: limits.recipients as usize,
        errors: limits.errors,
        idle_commands: limits.idle_commands,
        command_bytes: limits.command_bytes.into(),
        received: limits.received as usize,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_fine() {
        let smtp = SmtpConfig::default();
        let checked = check(&smtp.listeners, &smtp.limits, "smtp").unwrap();
        assert_eq!(checked.listeners.len(), 2);
        let submission = SubmissionConfig::default();
        assert_eq!(check(&submission.listeners, &submission.limits, "submission").unwrap().listeners.len(), 4);
    }

    #[test]
    fn all_errors_are_told_at_once() {
        let mut listeners = vec![
            Listener::new("a", "0.0.0.0:587", TlsMode::Starttls),
            Listener::new("a", "localhost:25", TlsMode::Starttls),
        ];
        listeners[0].plain_auth_without_tls = true;
        listeners[1].proxy = true;
        listeners[1].proxy_from = vec!["10.0.0.0/33".into()];
        let limits = LimitsConfig { recipients: 0, received: 1000, ..LimitsConfig::default() };
        let errors = check(&listeners, &limits, "smtp").unwrap_err();
        let mut paths: Vec<_> = errors.0.iter().map(|error| error.path.as_str()).collect();
        paths.sort_unstable();
        assert_eq!(
            paths,
            [
                "limits.received",
                "limits.recipients",
                "listeners[0].plain_auth_without_tls",
                "listeners[1].address",
                "listeners[1].name",
                "listeners[1].proxy_from[0]",
            ]
        );
    }
}
