//! The table `[bridge.smtp.delivery]`: as written ([`DeliveryConfig`]), and checked ([`Plan`]).

use mesyx_sdk::{ConfigErrors, Domain};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// How mail is sent to other hosts.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DeliveryConfig {
    /// Where mail for certain domains goes instead of to their mail exchangers. The first that fits counts; one for "*" is a smart host.
    #[schemars(extend("examples" = [[{
        "domains": ["*"],
        "hosts": ["relay.example.net:465"],
        "tls": "implicit",
        "user": "example",
        "password": "smarthost.password",
    }]]))]
    pub routes: Vec<Route>,
    /// How much TLS other hosts must show where neither DANE nor MTA-STS asks for more: none, opportunistic, required or verified.
    /// Many hosts have no certificate that could be checked, so that anything above opportunistic loses mail.
    pub tls: TlsPolicy,
    /// Follows the TLSA records of hosts (DANE, RFC 7672). Works where DNSSEC is believed: see dns.dnssec.
    pub dane: bool,
    /// Follows the policies of domains (MTA-STS, RFC 8461).
    pub mta_sts: bool,
    /// The name to give in EHLO; it should stand in the DNS for this host's address, both ways. Unless given, hostname.
    #[schemars(extend("examples" = ["mail.example.org"]))]
    pub helo: Option<String>,
    /// The local IPv4 address to send from, where the host has several.
    #[schemars(extend("examples" = ["192.0.2.1"]))]
    pub bind_ipv4: Option<Ipv4Addr>,
    /// The local IPv6 address to send from, where the host has several.
    #[schemars(extend("examples" = ["2001:db8::1"]))]
    pub bind_ipv6: Option<Ipv6Addr>,
    /// Which addresses of a host to try first. any: in random order. Or ipv4 or ipv6; then the other kind.
    pub prefer: Prefer,
    /// The port of mail exchangers. The Internet's is 25; others are for laboratories.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: u16,
    /// Sends to mail exchangers at private and loopback addresses too. Off, since a stranger's DNS could point our mail at hosts
    /// inside our own network. Hosts of routes may have any address.
    pub allow_private: bool,
    /// What sending may cost.
    pub limits: DeliveryLimits,
    /// How long other hosts may take.
    pub timeouts: Timeouts,
}

/// Where the mail of some domains goes.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The recipients' domains: "example.net", "*.example.net" for all below it, "*" for all.
    pub domains: Vec<String>,
    /// The hosts to hand it to, in the order to try them: "relay.example.net", "relay.example.net:587", "192.0.2.1:25". Empty: the domain's
    /// own mail exchangers, with what else stands here.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// How much TLS: none, opportunistic, required (whatever certificate), verified (a certificate for the host's name), implicit
    /// (verified, from the first byte, as at port 465). Unless given: verified with a user, else as elsewhere.
    #[serde(default)]
    pub tls: Option<TlsPolicy>,
    /// The name to log in with.
    #[serde(default)]
    pub user: Option<String>,
    /// The name of the secret that holds the password: see `mesyx secret set`.
    #[serde(default)]
    pub password: Option<String>,
}

/// How much TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TlsPolicy {
    /// None.
    None,
    /// Where the other host offers it and it works.
    #[default]
    Opportunistic,
    /// Always, whatever the certificate.
    Required,
    /// Always, with a certificate for the host's name.
    Verified,
    /// The same, from the first byte.
    Implicit,
}

/// Which addresses come first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Prefer {
    /// In random order.
    #[default]
    Any,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// What sending may cost.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DeliveryLimits {
    /// Connections to one host at once. Postfix has 20; large providers refuse more.
    #[schemars(range(min = 1, max = 1000))]
    pub connections_per_host: u32,
    /// Messages over one connection, after which a new one is made. Hosts end those that never end.
    #[schemars(range(min = 1, max = 100_000))]
    pub messages_per_connection: u32,
    /// Seconds that a connection is kept for the next message. It takes a place at the other host.
    #[schemars(range(max = 60))]
    pub idle_seconds: u32,
    /// Hosts of a domain that are talked to in one attempt; Postfix has 2.
    #[schemars(range(min = 1, max = 20))]
    pub sessions: u32,
    /// Addresses that are tried in one attempt, of all hosts of a domain together.
    #[schemars(range(min = 1, max = 100))]
    pub addresses: u32,
}

/// How long other hosts may take, in seconds. The defaults are those of RFC 5321, section 4.5.3.2.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// To take a connection.
    #[schemars(range(min = 1, max = 300))]
    pub connect: u32,
    /// For a TLS handshake.
    #[schemars(range(min = 1, max = 300))]
    pub tls: u32,
    /// To greet.
    #[schemars(range(min = 1, max = 3600))]
    pub greeting: u32,
    /// To answer EHLO, MAIL, RCPT and the like.
    #[schemars(range(min = 1, max = 3600))]
    pub command: u32,
    /// To answer DATA.
    #[schemars(range(min = 1, max = 3600))]
    pub data: u32,
    /// To take 64 KiB of a message.
    #[schemars(range(min = 1, max = 3600))]
    pub block: u32,
    /// To answer at a message's end. Whoever gives up earlier sends the message twice.
    #[schemars(range(min = 1, max = 3600))]
    pub end: u32,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self {
            routes: Vec::new(),
            tls: TlsPolicy::Opportunistic,
            dane: true,
            mta_sts: true,
            helo: None,
            bind_ipv4: None,
            bind_ipv6: None,
            prefer: Prefer::Any,
            port: 25,
            allow_private: false,
            limits: DeliveryLimits::default(),
            timeouts: Timeouts::default(),
        }
    }
}

impl Default for DeliveryLimits {
    fn default() -> Self {
        Self { connections_per_host: 20, messages_per_connection: 100, idle_seconds: 5, sessions: 2, addresses: 10 }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: 30, tls: 60, greeting: 300, command: 300, data: 120, block: 180, end: 600 }
    }
}

/// A configuration that can be followed.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) routes: Vec<CheckedRoute>,
    pub(crate) config: DeliveryConfig,
}

#[derive(Debug, Clone)]
pub(crate) struct CheckedRoute {
    domains: Vec<Pattern>,
    pub(crate) hosts: Vec<Peer>,
    pub(crate) tls: Option<TlsPolicy>,
    /// User and name of the secret.
    pub(crate) login: Option<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    All,
    Exact(String),
    Below(String),
}

/// A host to hand mail to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) host: PeerHost,
    pub(crate) port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PeerHost {
    Name(String),
    Ip(IpAddr),
}

impl Plan {
    /// The first route that fits a domain; literals fit `*` alone.
    pub(crate) fn route(&self, domain: &Domain) -> Option<&CheckedRoute> {
        self.routes.iter().find(|route| route.domains.iter().any(|pattern| pattern.fits(domain)))
    }

    /// Whether all mail takes the same way, whatever its domain: a smart host.
    pub(crate) fn has_one_way(&self) -> bool {
        matches!(self.routes.as_slice(), [route, ..] if !route.hosts.is_empty() && route.domains.contains(&Pattern::All))
    }

    /// The secrets that routes name.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let mut names: Vec<_> =
            self.routes.iter().filter_map(|route| route.login.clone()).map(|(_, name)| name).collect();
        names.sort();
        names.dedup();
        names
    }
}

impl Pattern {
    fn fits(&self, domain: &Domain) -> bool {
        match (self, domain.as_name()) {
            (Self::All, _) => true,
            (Self::Exact(name), Some(domain)) => name == domain,
            (Self::Below(name), Some(domain)) => {
                domain.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1)
            }
            (_, None) => false,
        }
    }
}

/// Checks the values that the schema can't; paths begin with `delivery`.
pub(crate) fn check(config: &DeliveryConfig, errors: &mut ConfigErrors) -> Plan {
    let mut routes = Vec::new();
    if config.tls == TlsPolicy::Implicit {
        let fix = "write \"opportunistic\", \"required\" or \"verified\"";
        errors.push("delivery.tls", "mail exchangers speak no TLS from the first byte", fix);
    }
    if let Some(helo) = &config.helo
        && !matches!(helo.parse::<Domain>(), Ok(domain) if domain.to_string() == *helo)
    {
        errors.push("delivery.helo", "that is no name of a host", "write one such as \"mail.example.org\"");
    }
    for (index, route) in config.routes.iter().enumerate() {
        routes.push(check_route(route, &format!("delivery.routes[{index}]"), errors));
    }
    Plan { routes, config: config.clone() }
}

fn check_route(route: &Route, path: &str, errors: &mut ConfigErrors) -> CheckedRoute {
    if route.domains.is_empty() {
        errors.push(format!("{path}.domains"), "the route is for no domain", "write [\"*\"] for all");
    }
    let mut domains = Vec::new();
    for (index, text) in route.domains.iter().enumerate() {
        let name = |text: &str| text.parse::<Domain>().ok().and_then(|domain| domain.as_name().map(str::to_owned));
        let pattern = match (text.as_str(), text.strip_prefix("*.")) {
            ("*", _) => Some(Pattern::All),
            (_, Some(rest)) => name(rest).map(Pattern::Below),
            (text, None) => name(text).map(Pattern::Exact),
        };
        match pattern {
            Some(pattern) => domains.push(pattern),
            None => errors.push(
                format!("{path}.domains[{index}]"),
                "that is no domain",
                "write \"example.net\", \"*.example.net\" or \"*\"",
            ),
        }
    }
    let mut hosts = Vec::new();
    for (index, text) in route.hosts.iter().enumerate() {
        match peer(text) {
            Some(peer) => hosts.push(peer),
            None => errors.push(
                format!("{path}.hosts[{index}]"),
                "that is no host",
                "write \"relay.example.net\", \"relay.example.net:587\" or \"192.0.2.1:25\"",
            ),
        }
    }
    let login = match (&route.user, &route.password) {
        (Some(user), Some(password)) => Some((user.clone(), password.clone())),
        (None, None) => None,
        _ => {
            let fix = "give both: the password by the name of a secret, which `mesyx secret set NAME` stores";
            errors.push(path, "user and password belong together", fix);
            None
        }
    };
    let tls = route.tls.or(login.is_some().then_some(TlsPolicy::Verified));
    if login.is_some() && matches!(tls, Some(TlsPolicy::None | TlsPolicy::Opportunistic)) {
        let fix = "write \"verified\" or \"implicit\"";
        errors.push(format!("{path}.tls"), "a password would cross the network in the clear", fix);
    }
    if hosts.is_empty() && (login.is_some() || tls == Some(TlsPolicy::Implicit)) {
        let what = "mail exchangers take no logins and speak no TLS from the first byte";
        errors.push(format!("{path}.hosts"), what, "name the hosts of this route");
    }
    CheckedRoute { domains, hosts, tls, login }
}

fn peer(text: &str) -> Option<Peer> {
    if let Ok(address) = text.parse::<std::net::SocketAddr>() {
        return Some(Peer { host: PeerHost::Ip(address.ip()), port: Some(address.port()) });
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = bare.parse() {
        return Some(Peer { host: PeerHost::Ip(ip), port: None });
    }
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) => (name, Some(port.parse().ok().filter(|port| *port != 0)?)),
        None => (text, None),
    };
    match name.parse::<Domain>() {
        Ok(Domain::Name(name)) => Some(Peer { host: PeerHost::Name(name.to_string()), port }),
        _ => None,
    }
}

impl Timeouts {
    /// As a duration.
    pub(crate) fn seconds(value: u32) -> Duration {
        Duration::from_secs(value.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(routes: serde_json::Value) -> Result<Plan, ConfigErrors> {
        let config = DeliveryConfig { routes: serde_json::from_value(routes).unwrap(), ..DeliveryConfig::default() };
        let mut errors = ConfigErrors::default();
        let plan = check(&config, &mut errors);
        errors.or(plan)
    }

    #[test]
    fn the_first_route_that_fits_counts() {
        let plan = plan(serde_json::json!([
            { "domains": ["Example.NET", "bücher.example"], "hosts": ["a"] },
            { "domains": ["*.example.net"], "hosts": ["b:587", "[2001:db8::1]", "192.0.2.1:2525", "[2001:db8::2]:26"] },
            { "domains": ["*"], "hosts": ["c"], "user": "u", "password": "p" },
        ]))
        .unwrap();
        let first = |domain: &str| plan.route(&domain.parse().unwrap()).unwrap().hosts[0].clone();
        let name = |host: &str, port| Peer { host: PeerHost::Name(host.into()), port };
        assert_eq!(first("example.net"), name("a", None));
        assert_eq!(first("xn--bcher-kva.example"), name("a", None));
        assert_eq!(first("x.y.example.net"), name("b", Some(587)));
        for other in ["notexample.net", "example.org", "[192.0.2.1]"] {
            assert_eq!(first(other), name("c", None), "{other}");
        }
        assert_eq!(plan.routes[2].tls, Some(TlsPolicy::Verified));
        assert_eq!(plan.secrets(), ["p"]);
        let ips: Vec<_> = plan.routes[1].hosts[1..].iter().map(|peer| peer.port).collect();
        assert_eq!(ips, [None, Some(2525), Some(26)]);
    }

    #[test]
    fn what_can_not_work_is_told() {
        for (routes, path) in [
            (serde_json::json!([{ "domains": [], "hosts": ["a"] }]), "delivery.routes[0].domains"),
            (serde_json::json!([{ "domains": ["a b"] }]), "delivery.routes[0].domains[0]"),
            (serde_json::json!([{ "domains": ["*"], "hosts": ["a:0"] }]), "delivery.routes[0].hosts[0]"),
            (serde_json::json!([{ "domains": ["*"], "hosts": ["a"], "user": "u" }]), "delivery.routes[0]"),
            (
                serde_json::json!([{ "domains": ["*"], "hosts": ["a"], "user": "u", "password": "p", "tls": "none" }]),
                "delivery.routes[0].tls",
            ),
            (serde_json::json!([{ "domains": ["*"], "tls": "implicit" }]), "delivery.routes[0].hosts"),
        ] {
            let errors = plan(routes.clone()).unwrap_err();
            assert_eq!(errors.0.len(), 1, "{routes}: {errors}");
            assert_eq!(errors.0[0].path, path);
        }
    }
}
