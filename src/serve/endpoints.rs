//! The listeners that mail programs talk to, as configured and as they run.

use crate::config::http::{Announce, Service};
use mesyx_bridges::{Prepared, Status};
use std::net::SocketAddr;

/// A listener of the bridges `imap` and `submission` that has TLS in some way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// What it serves.
    pub(crate) service: Service,
    /// The bridge's name.
    bridge: String,
    /// The listener's name within the bridge.
    name: String,
    /// Where it listens; its port may be 0 as long as it is only configured.
    pub(crate) address: SocketAddr,
}

/// The listeners that the configuration names. One without TLS is not for mail programs elsewhere.
pub(crate) fn configured(bridges: &[Prepared]) -> Vec<Endpoint> {
    let mut found = Vec::new();
    for prepared in bridges {
        let bridge = prepared.manifest.name.as_str();
        let (implicit, starttls) = match bridge {
            "imap" => (Service::Imaps, Service::Imap),
            "submission" => (Service::Submissions, Service::Submission),
            _ => continue,
        };
        let given = &prepared.config.value()["listeners"];
        let default = &prepared.manifest.config_schema["properties"]["listeners"]["default"];
        let entries = given.as_array().or(default.as_array()).map_or(&[][..], Vec::as_slice);
        for (entry, spec) in entries.iter().zip(prepared.bridge.listeners()) {
            let service = match entry["tls"].as_str() {
                Some("implicit") => implicit,
                Some("none") => continue,
                _ => starttls,
            };
            found.push(Endpoint { service, bridge: bridge.to_owned(), name: spec.name, address: spec.address });
        }
    }
    found
}

/// The same with the addresses at which they really listen; those that don't listen are left out.
pub(crate) fn running(configured: &[Endpoint], bridges: &[Status]) -> Vec<Endpoint> {
    let real = |endpoint: &Endpoint| {
        let bridge = bridges.iter().find(|status| status.name == endpoint.bridge)?;
        let (_, address) = bridge.listening.iter().find(|(name, _)| *name == endpoint.name)?;
        Some(Endpoint { address: *address, ..endpoint.clone() })
    };
    configured.iter().filter_map(real).collect()
}

/// The servers to tell mail programs of, the preferred ones first: for each service those that the operator announces, else
/// our listeners. One on a loopback address is reached from this machine alone, as `local`.
pub(crate) fn servers(endpoints: &[Endpoint], announce: &[Announce], hostname: &str, local: &str) -> Vec<Announce> {
    let mut servers: Vec<Announce> = announce.to_vec();
    for endpoint in endpoints {
        if announce.iter().any(|given| given.service == endpoint.service) {
            continue;
        }
        let host = if endpoint.address.ip().is_loopback() { local } else { hostname };
        let server = Announce { service: endpoint.service, host: host.to_owned(), port: endpoint.address.port() };
        if !servers.contains(&server) {
            servers.push(server);
        }
    }
    servers.sort_by_key(|server| server.service);
    servers
}
