//! Where a domain's mail goes: hosts in the order to try them (RFC 5321, section 5.1), and what each must prove.

use super::config::{CheckedRoute, PeerHost, Plan, Prefer, TlsPolicy};
use super::dane;
use super::outcome::{deferred, failed};
use super::reports::{Policy as Judged, Reports};
use super::sts::{Mode, Policies, Policy};
use super::tls::Requirement;
use mesyx_net::{Dns, DnsError, Mx, is_public};
use mesyx_sdk::{DeferScope, Domain, Outcome, Timestamp};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

/// Most mail exchangers that are looked at; sane domains have fewer than ten.
const MAX_HOSTS: usize = 50;

/// What looking up needs.
#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) dns: Dns,
    pub(crate) policies: Option<Policies>,
    pub(crate) plan: Plan,
    pub(crate) own: Own,
    pub(crate) reports: Reports,
}

/// What is us.
#[derive(Debug, Clone)]
pub(crate) struct Own {
    /// Our name, in lower-case ASCII.
    pub(crate) hostname: String,
    /// Ports at which we take mail from other hosts.
    pub(crate) ports: Vec<u16>,
}

impl Own {
    /// Whether mail sent there would come back to us.
    fn is_at(&self, address: SocketAddr) -> bool {
        self.ports.contains(&address.port()) && is_here(address)
    }
}

/// Whether an address is one of this machine: then it is also where what goes there comes from. Nothing is sent. (That an address can be bound
/// says little: with `ip_nonlocal_bind`, all can.)
fn is_here(address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    if ip.is_loopback() || ip.is_unspecified() {
        return true;
    }
    let any: IpAddr = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((ip, address.port()))?;
        socket.local_addr()
    });
    source.is_ok_and(|source| source.ip() == ip)
}

/// The hosts for one domain.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    /// In the order to try them.
    pub(crate) hosts: Vec<Host>,
    /// User and name of the secret.
    pub(crate) login: Option<(String, String)>,
    /// The policy domain, for the counts; none where the operator chose the hosts.
    pub(crate) domain: Option<String>,
    /// All mail goes there, whatever its domain.
    pub(crate) only: bool,
}

/// One host.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(crate) host: PeerHost,
    port: u16,
    /// The operator chose it.
    chosen: bool,
    /// Its name was authenticated by DNSSEC, so that its TLSA records count.
    secure: bool,
    base: TlsPolicy,
    sts: Option<Arc<Policy>>,
}

/// A host that can be connected to.
#[derive(Debug, Clone)]
pub(crate) struct Ready {
    pub(crate) name: String,
    pub(crate) addresses: Vec<SocketAddr>,
    /// What it must prove: the next where the one before failed.
    pub(crate) requirements: Vec<Requirement>,
    /// By which policy it is judged.
    pub(crate) judged: Judged,
}

impl Lookup {
    /// The hosts for a domain, or why there are none.
    pub(crate) async fn hosts(&self, own: &dyn mesyx_sdk::Host, domain: &Domain) -> Result<Hosts, Outcome> {
        let now = Timestamp::now();
        let route = self.plan.route(domain);
        let base = route.and_then(|route| route.tls).unwrap_or(self.plan.config.tls);
        if let Some(route) = route.filter(|route| !route.hosts.is_empty()) {
            return Ok(self.chosen(route, base));
        }
        let name = match domain {
            Domain::Name(name) => name.to_string(),
            Domain::Literal(ip) => {
                let host = self.host(PeerHost::Ip(*ip), base);
                return Ok(Hosts { hosts: vec![host], ..Hosts::default() });
            }
        };
        let (exchangers, secure) = match self.dns.mx(&name).await {
            Ok(answer) => (answer.records, answer.secure),
            // Without MX records, the domain is its own mail exchanger.
            Err(DnsError::NoData(..)) => (vec![Mx { preference: 0, host: name.clone() }], true),
            Err(error @ DnsError::NoName(_)) => return Err(failed(format!("5.1.2 {error}"))),
            Err(error) if error.is_final() => return Err(failed(format!("5.1.2 {error}"))),
            Err(error) => return Err(deferred(format!("4.4.3 {error}"), DeferScope::Host)),
        };
        let ordered = self.ordered(&name, exchangers)?;
        let sts = match &self.policies {
            Some(policies) if base != TlsPolicy::None => match policies.of(own, &name, now).await {
                Some(Ok(policy)) if policy.mode != Mode::None => Some(policy),
                Some(Ok(_)) | None => None,
                Some(Err(failure)) => {
                    self.reports.failure(now.day(), &name, Judged::Sts, failure.result_type());
                    None
                }
            },
            _ => None,
        };
        let hosts = ordered
            .into_iter()
            .map(|host| Host { secure, sts: sts.clone(), ..self.host(PeerHost::Name(host), base) })
            .collect();
        Ok(Hosts { hosts, domain: Some(name), ..Hosts::default() })
    }

    fn chosen(&self, route: &CheckedRoute, base: TlsPolicy) -> Hosts {
        let default = if base == TlsPolicy::Implicit { 465 } else { self.plan.config.port };
        let hosts = route.hosts.iter().map(|peer| Host {
            port: peer.port.unwrap_or(default),
            chosen: true,
            ..self.host(peer.host.clone(), base)
        });
        Hosts { hosts: hosts.collect(), login: route.login.clone(), domain: None, only: self.plan.has_one_way() }
    }

    fn host(&self, host: PeerHost, base: TlsPolicy) -> Host {
        Host { host, port: self.plan.config.port, chosen: false, secure: false, base, sts: None }
    }

    /// Mail exchangers by preference, those of one preference in random order. Those that are not better than
    /// ourselves are no use to us (RFC 5321, section 5.1).
    fn ordered(&self, domain: &str, mut exchangers: Vec<Mx>) -> Result<Vec<String>, Outcome> {
        // A null MX stands alone (RFC 7505); beside others, an empty name means nothing.
        if exchangers.iter().all(|mx| mx.host.is_empty()) {
            return Err(failed(format!("5.1.10 {domain} takes no mail (its MX record says so)")));
        }
        exchangers.retain(|mx| !mx.host.is_empty());
        shuffle(&mut exchangers);
        exchangers.sort_by_key(|mx| mx.preference);
        if let Some(own) = exchangers.iter().find(|mx| mx.host == self.own.hostname).map(|mx| mx.preference) {
            exchangers.retain(|mx| mx.preference < own);
        }
        if exchangers.is_empty() {
            return Err(failed(format!(
                "5.4.6 mail for {domain} loops back to this host: its mail exchanger is this very host, which does not serve it"
            )));
        }
        let mut names: Vec<String> = exchangers.into_iter().map(|mx| mx.host).collect();
        names.truncate(MAX_HOSTS);
        Ok(names)
    }

    /// Where a host is and what it must prove, or why it can't be tried; then the outcome is that of the host.
    pub(crate) async fn ready(&self, host: &Host, domain: Option<&str>, today: i32) -> Result<Ready, Outcome> {
        let config = &self.plan.config;
        let name = match &host.host {
            PeerHost::Ip(ip) => {
                let addresses = self.usable(host, vec![*ip], &ip.to_string())?;
                let requirements = fallbacks(requirement(host.base));
                return Ok(Ready { name: ip.to_string(), addresses, requirements, judged: Judged::None });
            }
            PeerHost::Name(name) => name,
        };
        let allowed = host.sts.as_ref().is_none_or(|policy| policy.allows(name));
        if let (false, Some(policy), Some(domain)) = (allowed, &host.sts, domain) {
            self.reports.failure(today, domain, Judged::Sts, "validation-failure");
            if policy.mode == Mode::Enforce {
                let why = format!("4.7.5 {name} may not be a mail exchanger by the domain's policy (MTA-STS)");
                return Err(deferred(why, DeferScope::Host));
            }
        }
        let found = match self.dns.addresses(name).await {
            Ok(found) => found,
            Err(error) if error.is_final() => return Err(failed(format!("5.4.4 {error}"))),
            Err(error) => return Err(deferred(format!("4.4.3 {error}"), DeferScope::Host)),
        };
        let addresses = self.usable(host, found.ips, name)?;
        let believed = (host.secure || host.chosen) && found.secure;
        if config.dane && believed && host.base != TlsPolicy::None && host.base != TlsPolicy::Implicit {
            let names = [found.canonical.as_str(), name.as_str()];
            if let Some(records) = self.tlsa(&names, host.port).await? {
                let judged = Judged::Tlsa;
                let usable = dane::usable(&records.0);
                // Records that can't be used still say that there is TLS (RFC 7672, section 2.2).
                let requirement = if usable.is_empty() {
                    match requirement(host.base) {
                        Requirement::Opportunistic => Requirement::Encrypted,
                        stricter => stricter,
                    }
                } else {
                    let names = domain.map(str::to_owned).into_iter().chain([name.clone(), records.1]).collect();
                    Requirement::Dane { records: usable, names }
                };
                return Ok(Ready { name: name.clone(), addresses, requirements: vec![requirement], judged });
            }
        }
        let (requirements, judged) = match &host.sts {
            Some(policy) if policy.mode == Mode::Enforce => (vec![Requirement::Verified], Judged::Sts),
            Some(_) if allowed => {
                // While a policy is tested, what fails it is counted and goes on as without it (RFC 8461, section 5).
                let mut requirements = vec![Requirement::Verified];
                requirements
                    .extend(fallbacks(requirement(host.base)).into_iter().filter(|one| *one != Requirement::Verified));
                (requirements, Judged::Sts)
            }
            _ => (fallbacks(requirement(host.base)), Judged::None),
        };
        Ok(Ready { name: name.clone(), addresses, requirements, judged })
    }

    /// The authenticated TLSA records of a host, under the name behind its aliases first (RFC 7672, section 2.2.3), and the name
    /// that they stand at. A lookup that fails leaves the host out: an attacker could be making it fail (section 2.2).
    async fn tlsa(&self, names: &[&str; 2], port: u16) -> Result<Option<(Vec<mesyx_net::Tlsa>, String)>, Outcome> {
        let distinct = if names[0] == names[1] { &names[1..] } else { &names[..] };
        for name in distinct {
            match self.dns.tlsa(&format!("_{port}._tcp.{name}")).await {
                Ok(answer) if answer.secure => return Ok(Some((answer.records, (*name).to_owned()))),
                Ok(_) => {}
                Err(error) if error.is_final() => {}
                Err(error) => {
                    let why = format!("4.7.5 whether {name} must show a certificate by DANE can't be told: {error}");
                    return Err(deferred(why, DeferScope::Host));
                }
            }
        }
        Ok(None)
    }

    /// The addresses that may be connected to, in the order to try them.
    fn usable(&self, host: &Host, mut ips: Vec<IpAddr>, name: &str) -> Result<Vec<SocketAddr>, Outcome> {
        let config = &self.plan.config;
        if !host.chosen && !config.allow_private {
            ips.retain(|ip| is_public(*ip));
            if ips.is_empty() {
                return Err(failed(format!("5.4.4 {name} has private addresses only, to which no mail is sent")));
            }
        }
        shuffle(&mut ips);
        match config.prefer {
            Prefer::Any => {}
            Prefer::Ipv4 => ips.sort_by_key(|ip| !ip.is_ipv4()),
            Prefer::Ipv6 => ips.sort_by_key(|ip| !ip.is_ipv6()),
        }
        let addresses = ips.into_iter().map(|ip| SocketAddr::new(ip, host.port));
        let addresses: Vec<_> = addresses.filter(|address| !self.own.is_at(*address)).collect();
        if addresses.is_empty() {
            return Err(failed(format!("5.4.6 mail for {name} loops back to this host")));
        }
        Ok(addresses)
    }
}

fn requirement(policy: TlsPolicy) -> Requirement {
    match policy {
        TlsPolicy::None => Requirement::None,
        TlsPolicy::Opportunistic => Requirement::Opportunistic,
        TlsPolicy::Required => Requirement::Encrypted,
        TlsPolicy::Verified => Requirement::Verified,
        TlsPolicy::Implicit => Requirement::Implicit,
    }
}

/// Where nothing forbids it, a host whose TLS does not work gets mail without.
fn fallbacks(requirement: Requirement) -> Vec<Requirement> {
    match requirement {
        Requirement::Opportunistic => vec![Requirement::Opportunistic, Requirement::None],
        other => vec![other],
    }
}

/// A random order, so that hosts of one preference share the load.
fn shuffle<T>(items: &mut [T]) {
    let random = RandomState::new();
    for last in (1..items.len()).rev() {
        let other = random.hash_one(last) % (last as u64 + 1);
        items.swap(last, usize::try_from(other).unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Also where `net.ipv4.ip_nonlocal_bind` is 1.
    #[test]
    fn this_machine_is_known_and_no_other_is_taken_for_it() {
        let own = Own { hostname: "mail.example.org".to_owned(), ports: vec![25] };
        let at = |ip: &str, port| SocketAddr::new(ip.parse().unwrap(), port);
        for here in ["127.0.0.1", "127.0.0.9", "::1", "::ffff:127.0.0.1", "0.0.0.0"] {
            assert!(own.is_at(at(here, 25)), "{here}");
            assert!(!own.is_at(at(here, 26)), "{here}");
        }
        for elsewhere in ["192.0.2.1", "203.0.113.9", "2001:db8::1"] {
            assert!(!own.is_at(at(elsewhere, 25)), "{elsewhere}");
        }
        // Where this machine has an address besides loopback.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        if socket.connect("192.0.2.1:9").is_ok() {
            let ip = socket.local_addr().unwrap().ip();
            assert!(own.is_at(SocketAddr::new(ip, 25)), "{ip}");
        }
    }
}
