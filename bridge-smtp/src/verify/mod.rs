//! Who a message from another host really comes from: SPF, DKIM, DMARC and ARC.
//!
//! ```text
//!  RCPT   --> gate: rates, greylist (both off by default)
//!  the message, whole --> scan: From, signatures worth a look --> keys and SPF by DNS, until the deadline
//!                     --> hashes and signatures on a thread of their own, with the keys that came
//!                     --> DMARC for each domain in From --> decision: take, file as junk, refuse
//!  taken  --> claim: fields that claim to be ours go, our Authentication-Results (RFC 8601) goes in front
//! ```
//!
//! What always holds:
//! - Everything is bounded whatever the message holds: time, questions to DNS, signatures looked at, fields per signature.
//! - What can't be told (no answer in time, too many questions) is `temperror` or `permerror`, and never refuses a message.
//! - A signature counts only where it covers the whole body (`l=` does not) and every instance of the fields it signs.
//! - The sender that is checked is the one that readers are shown: From as the SDK reads it, for ENVELOPE too.
//! - No Authentication-Results that bears our name, or could be taken to, comes in from outside.

mod arc;
mod claim;
mod config;
mod decide;
mod dkim;
mod gate;
mod lookups;
mod report;
mod scan;

#[cfg(test)]
mod tests;

pub(crate) use claim::Claims;
pub use claim::without_claims;
pub(crate) use config::Checked;
pub use config::{DmarcMode, GreylistConfig, RateConfig, VerifyConfig};
pub(crate) use decide::Action;
pub(crate) use gate::Gate;

use arc::ArcFound;
use bytes::Bytes;
use decide::DmarcFound;
use lookups::Lookups;
use mail_auth::dmarc::verify::DmarcParameters;
use mail_auth::spf::verify::SpfParameters;
use mail_auth::{AuthenticatedMessage, DkimOutput, MessageAuthenticator, SpfOutput, SpfResult};
use mesyx_net::{Dns, DnsConfig};
use mesyx_sdk::MailAddress;
use scan::Scan;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// Checks messages.
pub(crate) struct Verifier {
    resolver: MessageAuthenticator,
    config: Checked,
    hostname: String,
    /// Messages whose hashes are computed at once: as many as there are cores.
    turns: Semaphore,
}

/// Who brings a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer<'a> {
    pub(crate) ip: IpAddr,
    /// The name that it gave itself.
    pub(crate) helo: &'a str,
    /// The envelope sender.
    pub(crate) from: Option<&'a MailAddress>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The whole field `Authentication-Results`, with its line end.
    pub(crate) field: String,
    /// The same in short, for [`mesyx_sdk::Origin::checks`].
    pub(crate) checks: Vec<String>,
    pub(crate) action: Action,
}

/// What SPF said.
#[derive(Debug)]
struct SpfFound {
    result: SpfResult,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier")
    }
}

impl Verifier {
    /// A verifier that asks the servers of `dns`; `None` where nothing is to be checked.
    ///
    /// # Errors
    /// Where no resolver can be made of them.
    pub(crate) fn new(config: &Checked, dns: &DnsConfig, hostname: &str) -> Result<Option<Self>, String> {
        if config.mode == DmarcMode::Off {
            return Ok(None);
        }
        let (servers, options) = Dns::new(dns)?.parts();
        let resolver = MessageAuthenticator::new(servers, options).map_err(|error| format!("DNS: {error}"))?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Some(Self { resolver, config: config.clone(), hostname: hostname.to_owned(), turns: Semaphore::new(cores) }))
    }

    /// Whether mail from there is checked.
    pub(crate) fn checks(&self, ip: IpAddr) -> bool {
        !self.config.exempts(ip)
    }

    /// Checks a message without our own trace headers.
    pub(crate) async fn check(&self, message: Bytes, peer: Peer<'_>) -> Verdict {
        let until = Instant::now() + self.config.time;
        let scan = Arc::new(Scan::of(&message, &self.config));
        let lookups = Arc::new(Lookups::new(self.config.lookups));
        let (spf, ()) = tokio::join!(self.spf(peer, &lookups, until), self.fetch_keys(&scan, &lookups, until));
        let (dkim, arc) = self.verify_signatures(message, &scan, &lookups).await;
        let dmarc = self.dmarc(&scan, peer, &spf, &dkim).await;
        let action = decide::decide(&self.config, &scan, &dmarc, &arc);
        let (field, checks) = report::write(&self.hostname, peer, &spf, &dkim, &dmarc, &arc, &action);
        Verdict { field, checks, action }
    }

    /// SPF of the envelope sender's domain, of the name in HELO where the sender is null (RFC 7208, section 2.4).
    async fn spf(&self, peer: Peer<'_>, lookups: &Lookups, until: Instant) -> SpfFound {
        let from = peer.from.map(ToString::to_string);
        let parameters = match &from {
            Some(from) => SpfParameters::verify_mail_from(peer.ip, peer.helo, &self.hostname, from),
            None => SpfParameters::verify_ehlo(peer.ip, peer.helo, &self.hostname),
        };
        let checking = self.resolver.verify_spf(lookups.with(parameters));
        let output = match timeout_at(until, checking).await {
            Ok(output) => output,
            Err(_) => return SpfFound { result: SpfResult::TempError },
        };
        // Past the last question that it may ask, it was answered with nothing (RFC 7208, section 4.6.4).
        let result = if lookups.exhausted() { SpfResult::PermError } else { output.result() };
        SpfFound { result }
    }

    /// Asks for the public keys of all signatures that will be looked at, side by side.
    async fn fetch_keys(&self, scan: &Scan, lookups: &Arc<Lookups>, until: Instant) {
        let mut asking = JoinSet::new();
        for name in scan.key_names() {
            let (resolver, lookups) = (self.resolver.clone(), Arc::clone(lookups));
            asking.spawn(async move { lookups.fetch_key(&resolver, name).await });
        }
        let all = async { while asking.join_next().await.is_some() {} };
        // What did not come by then is `temperror`; dropping the set ends the questions.
        let _ = timeout_at(until, all).await;
    }

    /// Hashes and signatures, with the keys at hand: no question is asked any more.
    async fn verify_signatures(
        &self,
        message: Bytes,
        scan: &Arc<Scan>,
        lookups: &Arc<Lookups>,
    ) -> (Vec<dkim::DkimFound>, ArcFound) {
        if !scan.has_signatures() {
            return (scan.unsigned(), ArcFound::none());
        }
        // It fails where the semaphore is closed, which it never is.
        let _turn = self.turns.acquire().await;
        let (scan, keys) = (Arc::clone(scan), Arc::clone(lookups));
        let (resolver, runtime) = (self.resolver.clone(), tokio::runtime::Handle::current());
        let work = tokio::task::spawn_blocking(move || {
            keys.close();
            let mut message = AuthenticatedMessage::parse(&message).unwrap_or_default();
            scan.narrow(&mut message);
            runtime.block_on(async {
                let dkim = dkim::verify(&resolver, &keys, &scan, &message).await;
                (dkim, arc::verify(&resolver, &keys, &scan, &message).await)
            })
        });
        work.await.unwrap_or_else(|error| {
            tracing::error!(%error, "the check of a message's signatures broke off");
            (Vec::new(), ArcFound::none())
        })
    }

    /// DMARC of each domain in From (RFC 9989).
    async fn dmarc(&self, scan: &Scan, peer: Peer<'_>, spf: &SpfFound, dkim: &[dkim::DkimFound]) -> Vec<DmarcFound> {
        // Time and questions of its own: a sender whose name server is slow must not use up those for the author's policy.
        let until = Instant::now() + self.config.time;
        let sender = peer.from.map_or(Some(peer.helo), |from| from.domain().as_name()).unwrap_or_default();
        let outputs: Vec<DkimOutput<'_>> = dkim.iter().filter_map(dkim::DkimFound::output).collect();
        let mut found = Vec::new();
        let domains = scan.from.domains();
        for (done, domain) in domains.iter().enumerate() {
            let left = u32::try_from(domains.len() - done).unwrap_or(u32::MAX);
            let share = Instant::now() + until.saturating_duration_since(Instant::now()) / left;
            let lookups = Lookups::new(self.config.lookups);
            let message = AuthenticatedMessage { from: vec![format!("x@{domain}")], ..Default::default() };
            let spf_output = SpfOutput::default().with_result(spf.result);
            let parameters = DmarcParameters::new(&message, &outputs, sender, &spf_output);
            let checking = self.resolver.verify_dmarc(lookups.with(parameters));
            found.push(match timeout_at(share, checking).await {
                Ok(output) => DmarcFound::of(domain, &output),
                Err(_) => DmarcFound::late(domain),
            });
        }
        found
    }
}
