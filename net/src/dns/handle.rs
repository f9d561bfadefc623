//! The way of a question to the servers, and what their answers say of DNSSEC.

use super::config::{DnsConfig, Dnssec};
use futures_util::stream::{Stream, StreamExt};
use hickory_resolver::config::{ResolverConfig, ResolverOpts};
use hickory_resolver::net::dnssec::DnssecDnsHandle;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsHandle, NetError, RetryDnsHandle};
use hickory_resolver::proto::dnssec::{Proof, TrustAnchors};
use hickory_resolver::proto::op::{DnsRequest, DnsResponse};
use hickory_resolver::proto::rr::Record;
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};
use std::pin::Pin;
use std::sync::Arc;

type Pool = RetryDnsHandle<NameServerPool<TokioRuntimeProvider>>;

/// Sends questions, and marks each record that comes back with what DNSSEC says of it.
#[derive(Clone)]
pub(super) enum Handle {
    /// The servers' AD bit is asked for, and believed where `believed`.
    Asking { pool: Pool, believed: bool },
    /// Signatures are checked here.
    Validating(DnssecDnsHandle<Pool>),
}

impl Handle {
    pub(super) fn new(config: &DnsConfig, servers: &ResolverConfig, options: &ResolverOpts) -> Result<Self, String> {
        let tls = TlsConfig::new().map_err(|error| error.to_string())?;
        let context = Arc::new(PoolContext::new(options.clone(), tls));
        let provider = TokioRuntimeProvider::default();
        let pool = NameServerPool::from_config(servers.name_servers.iter().cloned(), context, provider);
        let pool = RetryDnsHandle::new(pool, options.attempts);
        let local = servers.name_servers.iter().all(|server| server.ip.is_loopback());
        let believed = match config.dnssec {
            Dnssec::Validate => {
                let anchors = match &config.trust_anchor {
                    None => TrustAnchors::default(),
                    Some(path) => TrustAnchors::from_file(path)
                        .map_err(|error| format!("the trust anchor {} can't be read: {error}", path.display()))?,
                };
                return Ok(Self::Validating(DnssecDnsHandle::with_trust_anchor(pool, Arc::new(anchors))));
            }
            Dnssec::Auto => local,
            Dnssec::Trust => true,
            Dnssec::Off => false,
        };
        Ok(Self::Asking { pool, believed })
    }

    /// Whether answers must come with their signatures.
    pub(super) const fn validates(&self) -> bool {
        matches!(self, Self::Validating(_))
    }
}

impl DnsHandle for Handle {
    type Response = Pin<Box<dyn Stream<Item = Result<DnsResponse, NetError>> + Send>>;
    type Runtime = TokioRuntimeProvider;

    fn is_verifying_dnssec(&self) -> bool {
        self.validates()
    }

    fn send(&self, mut request: DnsRequest) -> Self::Response {
        match self {
            Self::Validating(handle) => handle.send(request),
            Self::Asking { pool, believed } => {
                // A set AD bit in a question asks for one in the answer (RFC 6840, section 5.7).
                request.metadata.authentic_data = true;
                let believed = *believed;
                Box::pin(pool.send(request).map(move |answer| answer.map(|answer| marked(answer, believed))))
            }
        }
    }
}

/// The AD bit vouches for the answer section as a whole; it is kept with each record, since an answer
/// with aliases may be put together from several.
fn marked(mut answer: DnsResponse, believed: bool) -> DnsResponse {
    let proof = if believed && answer.metadata.authentic_data { Proof::Secure } else { Proof::Indeterminate };
    for record in &mut answer.answers {
        record.proof = proof;
    }
    answer
}

/// Whether DNSSEC vouches for a record.
pub(super) trait Secured {
    fn is_secured(&self) -> bool;
}

impl Secured for Record {
    fn is_secured(&self) -> bool {
        self.proof == Proof::Secure
    }
}
