//! Names, by DNS.

mod config;
mod handle;

pub use config::{DnsConfig, Dnssec};

use handle::{Handle, Secured};
use hickory_resolver::caching_client::CachingClient;
use hickory_resolver::config::{ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError as WireError, NetError};
use hickory_resolver::proto::dnssec::Proof;
use hickory_resolver::proto::op::{DnsRequestOptions, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// There is no such name (NXDOMAIN), for any type of record.
    #[error("the name {0} does not exist")]
    NoName(String),
    /// The name exists, or may exist, without records of this type.
    #[error("{0} has no {1} record")]
    NoData(String, &'static str),
    /// It can't be told now: no server answered, or the one that did could not tell.
    #[error("the DNS lookup of {0} failed for now: {1}")]
    Temporary(String, String),
    /// DNSSEC says that what was answered is forged or broken. May be mended, so it is temporary too.
    #[error("the DNS records of {0} fail DNSSEC")]
    Bogus(String),
    /// The text is no name.
    #[error("'{0}' is no DNS name")]
    BadName(String),
}

impl DnsError {
    /// Whether the answer is known: there is nothing (or can't be anything) of that name and type.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::NoName(_) | Self::NoData(..) | Self::BadName(_))
    }
}

/// Records, and how far they can be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// At least one.
    pub records: Vec<T>,
    /// DNSSEC authenticated every record, and every alias on the way.
    pub secure: bool,
    /// How long the answer holds.
    pub valid_until: Instant,
}

/// A mail exchanger (RFC 5321, section 5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mx {
    /// Lower is preferred.
    pub preference: u16,
    /// Host name in lower-case ASCII, without the final dot; empty where the domain takes no mail (RFC 7505).
    pub host: String,
}

/// The addresses of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// At least one; IPv6 first.
    pub ips: Vec<IpAddr>,
    /// DNSSEC authenticated every record, and every alias on the way.
    pub secure: bool,
    /// The name behind all aliases, in lower-case ASCII without the final dot; the host's own where it is no alias.
    pub canonical: String,
}

/// A certificate association (RFC 6698, section 2.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tlsa {
    /// Certificate usage.
    pub usage: u8,
    /// Selector: 0 the certificate, 1 its public key.
    pub selector: u8,
    /// Matching type: 0 as it is, 1 SHA-256, 2 SHA-512.
    pub matching: u8,
    /// Certificate association data.
    pub data: Vec<u8>,
}

/// Where a service is (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Srv {
    /// Lower is preferred.
    pub priority: u16,
    /// Among equal priorities, how often it is to be chosen.
    pub weight: u16,
    /// TCP or UDP port.
    pub port: u16,
    /// Host name in lower-case ASCII without the final dot; empty where the service is not offered.
    pub host: String,
}

/// Asks name servers, and remembers what they said as long as it holds. Clones share the memory and the connections.
#[derive(Clone)]
pub struct Dns {
    client: CachingClient<Handle>,
    options: DnsRequestOptions,
    parts: Arc<(ResolverConfig, ResolverOpts)>,
}

impl std::fmt::Debug for Dns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dns({} servers)", self.parts.0.name_servers.len())
    }
}

impl Dns {
    /// Reads `/etc/resolv.conf` where the configuration names no server, and asks nothing yet. Needs a tokio runtime once it
    /// is asked.
    ///
    /// # Errors
    /// Where a server's address, the system's configuration or the trust anchor can't be read; one line.
    pub fn new(config: &DnsConfig) -> Result<Self, String> {
        let (servers, options) = config.parts()?;
        let handle = Handle::new(config, &servers, &options)?;
        let mut request = DnsRequestOptions::default();
        request.recursion_desired = true;
        request.use_edns = true;
        request.edns_payload_len = options.edns_payload_len;
        request.edns_set_dnssec_ok = handle.validates();
        let client = CachingClient::new(options.cache_size, handle, true);
        Ok(Self { client, options: request, parts: Arc::new((servers, options)) })
    }

    /// What to make another resolver with that asks the same servers, as the crate mail-auth does.
    #[must_use]
    pub fn parts(&self) -> (ResolverConfig, ResolverOpts) {
        (*self.parts).clone()
    }

    /// A domain's mail exchangers, in no particular order.
    ///
    /// # Errors
    /// [`DnsError`]; without any MX record [`DnsError::NoData`].
    pub async fn mx(&self, domain: &str) -> Result<Answer<Mx>, DnsError> {
        let found = self.lookup(domain, RecordType::MX, "MX").await?;
        pick(domain, "MX", &found, |data| match data {
            RData::MX(mx) => Some(Mx { preference: mx.preference, host: host(&mx.exchange) }),
            _ => None,
        })
    }

    /// A host's IPv6 and IPv4 addresses. `/etc/hosts` is not looked at.
    ///
    /// # Errors
    /// [`DnsError`]. Where one family is there, a failure of the other goes unmentioned.
    pub async fn addresses(&self, name: &str) -> Result<Addresses, DnsError> {
        let (v6, v4) =
            tokio::join!(self.lookup(name, RecordType::AAAA, "address"), self.lookup(name, RecordType::A, "address"));
        let mut all =
            Addresses { ips: Vec::new(), secure: true, canonical: name.trim_end_matches('.').to_ascii_lowercase() };
        let mut failed = None;
        for found in [v6, v4] {
            let found = match found {
                Ok(found) => found,
                Err(error) => {
                    if failed.as_ref().is_none_or(DnsError::is_final) {
                        failed = Some(error);
                    }
                    continue;
                }
            };
            let before = all.ips.len();
            all.ips.extend(found.answers().iter().filter_map(|record| record.data.ip_addr()));
            if all.ips.len() > before {
                all.secure &= is_secure(&found);
                all.canonical = canonical(&found);
            }
        }
        if all.ips.is_empty() {
            return Err(failed.unwrap_or_else(|| DnsError::NoData(name.to_owned(), "address")));
        }
        Ok(all)
    }

    /// A name's TXT records, the strings of each joined. What is not UTF-8 is replaced.
    ///
    /// # Errors
    /// [`DnsError`].
    pub async fn txt(&self, name: &str) -> Result<Answer<String>, DnsError> {
        let found = self.lookup(name, RecordType::TXT, "TXT").await?;
        pick(name, "TXT", &found, |data| match data {
            RData::TXT(txt) => Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned()),
            _ => None,
        })
    }

    /// The certificate associations of a service, as `_25._tcp.mail.example.org`.
    ///
    /// # Errors
    /// [`DnsError`].
    pub async fn tlsa(&self, name: &str) -> Result<Answer<Tlsa>, DnsError> {
        let found = self.lookup(name, RecordType::TLSA, "TLSA").await?;
        pick(name, "TLSA", &found, |data| match data {
            RData::TLSA(tlsa) => Some(Tlsa {
                usage: tlsa.cert_usage.into(),
                selector: tlsa.selector.into(),
                matching: tlsa.matching.into(),
                data: tlsa.cert_data.clone(),
            }),
            _ => None,
        })
    }

    /// Where a service is, as `_imaps._tcp.example.org`, in no particular order.
    ///
    /// # Errors
    /// [`DnsError`].
    pub async fn srv(&self, name: &str) -> Result<Answer<Srv>, DnsError> {
        let found = self.lookup(name, RecordType::SRV, "SRV").await?;
        pick(name, "SRV", &found, |data| match data {
            RData::SRV(srv) => {
                Some(Srv { priority: srv.priority, weight: srv.weight, port: srv.port, host: host(&srv.target) })
            }
            _ => None,
        })
    }

    /// Forgets everything that it remembers.
    pub fn forget(&self) {
        self.client.clear_cache();
    }

    async fn lookup(&self, text: &str, kind: RecordType, what: &'static str) -> Result<Lookup, DnsError> {
        let mut name = Name::from_str_relaxed(text).map_err(|_| DnsError::BadName(text.to_owned()))?;
        if name.is_root() || text.is_empty() {
            return Err(DnsError::BadName(text.to_owned()));
        }
        // Mail names are whole: no search list is tried.
        name.set_fqdn(true);
        let query = Query::query(name, kind);
        self.client.lookup(query, self.options).await.map_err(|error| failure(text, what, error))
    }
}

fn failure(name: &str, what: &'static str, error: NetError) -> DnsError {
    let nothing = |code: ResponseCode| match code {
        ResponseCode::NXDomain => DnsError::NoName(name.to_owned()),
        ResponseCode::NoError => DnsError::NoData(name.to_owned(), what),
        code => DnsError::Temporary(name.to_owned(), code.to_string()),
    };
    match error {
        NetError::Dns(WireError::NoRecordsFound(none)) => nothing(none.response_code),
        NetError::Dns(WireError::Nsec { proof: Proof::Bogus, .. } | WireError::DnssecBogus) => {
            DnsError::Bogus(name.to_owned())
        }
        NetError::Dns(WireError::Nsec { response, .. }) => nothing(response.response_code),
        error => DnsError::Temporary(name.to_owned(), error.to_string()),
    }
}

fn pick<T>(
    name: &str,
    what: &'static str,
    found: &Lookup,
    read: impl Fn(&RData) -> Option<T>,
) -> Result<Answer<T>, DnsError> {
    let records: Vec<T> = found.answers().iter().filter_map(|record| read(&record.data)).collect();
    if records.is_empty() {
        return Err(DnsError::NoData(name.to_owned(), what));
    }
    Ok(Answer { records, secure: is_secure(found), valid_until: found.valid_until() })
}

/// Aliases are among the answers, so that one that is not authenticated spoils the whole.
fn is_secure(found: &Lookup) -> bool {
    let mut answers = found.answers().iter().peekable();
    answers.peek().is_some() && answers.all(Secured::is_secured)
}

/// The name that the addresses stand at.
fn canonical(found: &Lookup) -> String {
    let address = found.answers().iter().find(|record| record.data.ip_addr().is_some());
    address.map_or_else(String::new, |record| host(&record.name))
}

fn host(name: &Name) -> String {
    name.to_lowercase().to_ascii().trim_end_matches('.').to_owned()
}
