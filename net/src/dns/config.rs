//! The configuration section `[dns]`.

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::system_conf::read_system_conf;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// How names are looked up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[allow(rustdoc::broken_intra_doc_links, reason = "the text also stands in the configuration file, without Markdown")]
pub struct DnsConfig {
    /// The name servers to ask, as "127.0.0.1" or "[::1]:5353". Empty: those of /etc/resolv.conf. A validating resolver on
    /// this host, such as unbound, makes DANE work.
    pub servers: Vec<String>,
    /// Whose word on DNSSEC counts. auto: the servers' own (their AD bit) where all of them are on this host, since nobody can
    /// change their answers on the way, else nobody's. trust: the servers' own, wherever they are. validate: signatures are checked here,
    /// from the root on; needs servers that pass them through. off: nobody's, so that DANE is never used.
    pub dnssec: Dnssec,
    /// Has an effect with dnssec = "validate" alone: a file with other trust anchors than the root's keys, as DNSKEY records.
    #[schemars(extend("examples" = ["/etc/mesyx/anchor.key"]))]
    pub trust_anchor: Option<PathBuf>,
    /// Seconds to wait for a server's answer. 5 is what resolvers use by custom.
    #[schemars(range(min = 1, max = 60))]
    pub timeout_seconds: u32,
    /// How often a question is asked again when no server answered.
    #[schemars(range(max = 10))]
    pub attempts: u32,
    /// Answers to remember, at most. 10,000 take some 10 MB.
    #[schemars(range(min = 16, max = 1_000_000))]
    pub cache: u32,
}

/// Whose word on DNSSEC counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dnssec {
    /// The servers' own where all of them are on this host.
    #[default]
    Auto,
    /// The servers' own.
    Trust,
    /// Our own.
    Validate,
    /// Nobody's.
    Off,
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            dnssec: Dnssec::Auto,
            trust_anchor: None,
            timeout_seconds: 5,
            attempts: 2,
            cache: 10_000,
        }
    }
}

impl DnsConfig {
    /// Everything that is wrong with it which its schema can't tell, as `(key, what)`. Reads no file.
    #[must_use]
    pub fn check(&self) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        for (index, text) in self.servers.iter().enumerate() {
            if server(text).is_none() {
                wrong.push((format!("servers[{index}]"), format!("'{text}' is no IP address, with or without a port")));
            }
        }
        wrong
    }

    /// The servers to ask and how to ask them.
    pub(super) fn parts(&self) -> Result<(ResolverConfig, ResolverOpts), String> {
        let servers = if self.servers.is_empty() {
            let system = read_system_conf();
            system.map_err(|error| format!("/etc/resolv.conf can't be used: {error}; name servers in `dns.servers`"))?.0
        } else {
            let mut servers = Vec::new();
            for text in &self.servers {
                let address = server(text).ok_or_else(|| format!("dns.servers: '{text}' is no IP address"))?;
                servers.push(name_server(address));
            }
            ResolverConfig::from_parts(None, Vec::new(), servers)
        };
        let mut options = ResolverOpts::default();
        options.timeout = Duration::from_secs(self.timeout_seconds.into());
        options.attempts = self.attempts as usize;
        options.cache_size = self.cache.into();
        options.edns0 = true;
        options.use_hosts_file = ResolveHosts::Never;
        options.try_tcp_on_error = true;
        // What a name stood for is not believed for longer than a day, nor is its absence for longer than an hour.
        options.positive_max_ttl = Some(Duration::from_secs(86_400));
        options.negative_max_ttl = Some(Duration::from_secs(3600));
        Ok((servers, options))
    }
}

/// An IP address with or without a port.
fn server(text: &str) -> Option<SocketAddr> {
    text.parse().ok().or_else(|| {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 53))
    })
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].into_iter().map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_written_in_any_usual_way() {
        for (text, address) in [
            ("127.0.0.1", "127.0.0.1:53"),
            ("127.0.0.1:5353", "127.0.0.1:5353"),
            ("::1", "[::1]:53"),
            ("[::1]", "[::1]:53"),
            ("[::1]:5353", "[::1]:5353"),
        ] {
            assert_eq!(server(text), Some(address.parse().unwrap()), "{text}");
        }
        let config = DnsConfig { servers: vec!["ns.example.org".into()], ..DnsConfig::default() };
        assert_eq!(config.check().len(), 1);
        assert!(super::super::Dns::new(&config).unwrap_err().contains("ns.example.org"));
    }
}
