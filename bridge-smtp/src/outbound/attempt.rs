//! One attempt: domain after domain, host after host, until every recipient has an outcome or the time is over.

use super::client::{Login, Said};
use super::config::{Plan, TlsPolicy};
use super::link::{Link, Target, Unopened};
use super::message::{Envelope, Message};
use super::outcome::{self, deferred, failed, is_too_many};
use super::pool::{Key, Pool};
use super::reports::Reports;
use super::route::{Hosts, Lookup, Own, Ready};
use super::sts::Policies;
use super::tls::{ClientTls, Requirement, fingerprint};
use mesyx_net::{Dns, DnsConfig, Https, HttpsConfig, roots};
use mesyx_sdk::{DeferScope, Delivery, Domain, Host, Outcome, Timestamp};
use metrics::counter;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

/// What is kept of an attempt's time for telling how it ended; the core counts silence as "maybe sent".
const RESERVE: Duration = Duration::from_secs(2);
/// Transactions in which one message goes to one host, where that takes only so many recipients at once.
const MAX_ROUNDS: usize = 20;

/// Everything that sending needs; one for the life of a bridge.
#[derive(Debug)]
pub(crate) struct Outbound {
    lookup: Lookup,
    tls: ClientTls,
    pool: Arc<Pool>,
    hostname: String,
    /// What does not work, in one line.
    pub(crate) wanting: Option<String>,
}

/// The recipients of one attempt that go the same way.
struct Group {
    domain: Domain,
    /// Where each stands among the job's recipients.
    indexes: Vec<usize>,
}

impl Outbound {
    /// Reads the system's resolver configuration and certificate authorities; asks nothing yet.
    ///
    /// # Errors
    /// Where names can't be looked up at all.
    pub(crate) fn new(plan: Plan, dns: &DnsConfig, https: &HttpsConfig, own: Own) -> Result<Self, String> {
        let dns = Dns::new(dns)?;
        let roots = roots(https.roots.as_deref()).map_err(|error| error.to_string());
        let mut wanting = roots.as_ref().err().cloned();
        let policies = if plan.config.mta_sts && plan.config.tls != TlsPolicy::None {
            match Https::new(https, dns.clone()) {
                Ok(https) => Some(Policies::new(dns.clone(), https)),
                Err(error) => {
                    wanting = Some(format!("policies of MTA-STS can't be fetched: {error}"));
                    None
                }
            }
        } else {
            None
        };
        let limits = &plan.config.limits;
        let idle = Duration::from_secs(limits.idle_seconds.into());
        let pool = Pool::new(limits.connections_per_host as usize, idle);
        let hostname = plan.config.helo.clone().unwrap_or_else(|| own.hostname.clone());
        Ok(Self {
            tls: ClientTls::new(roots)?,
            pool,
            hostname,
            lookup: Lookup { dns, policies, plan, own, reports: Reports::default() },
            wanting,
        })
    }

    /// Ends connections that were idle for long enough, for ever.
    pub(crate) async fn tend(&self) {
        let mut tick = interval(Duration::from_secs(1));
        loop {
            let now = tick.tick().await;
            self.let_go(now, false).await;
        }
    }

    /// Ends all idle connections.
    pub(crate) async fn close(&self) {
        self.let_go(Instant::now(), true).await;
    }

    async fn let_go(&self, now: Instant, all: bool) {
        let mut quitting: JoinSet<()> = self.pool.expired(now, all).into_iter().map(Link::quit).collect();
        while quitting.join_next().await.is_some() {}
    }

    /// One attempt, as [`mesyx_sdk::Bridge::deliver`] wants it. `before` are header lines to put before the content.
    pub(crate) async fn deliver(self: &Arc<Self>, host: Arc<dyn Host>, job: Delivery, before: Vec<u8>) -> Vec<Outcome> {
        let left = u64::try_from(job.deadline.0.saturating_sub(Timestamp::now().0)).unwrap_or(0);
        let left = Duration::from_millis(left);
        let until = Instant::now() + left.saturating_sub(RESERVE.min(left / 10));
        let message = match Message::new(before, job.content.bytes()) {
            Ok(message) => Arc::new(message),
            Err(error) => return job.recipients.iter().map(|_| failed(error.to_string())).collect(),
        };
        let from = match &job.from {
            None => None,
            Some(address) => match address.as_mail() {
                Some(mail) => Some(mail.clone()),
                None => {
                    let why = "5.1.7 the sender's address is no mail address";
                    return job.recipients.iter().map(|_| failed(why)).collect();
                }
            },
        };
        let mut groups: BTreeMap<&Domain, Vec<usize>> = BTreeMap::new();
        let mut outcomes: Vec<Option<Outcome>> = vec![None; job.recipients.len()];
        for (index, recipient) in job.recipients.iter().enumerate() {
            match recipient.address.as_mail() {
                Some(mail) => groups.entry(mail.domain()).or_default().push(index),
                None => outcomes[index] = Some(failed("5.1.3 that is no mail address")),
            }
        }
        let groups: Vec<_> =
            groups.into_iter().map(|(domain, indexes)| Group { domain: domain.clone(), indexes }).collect();
        let envelope = Arc::new(Envelope { from, dsn: job.dsn.clone(), to: job.recipients.clone() });
        let mut running = JoinSet::new();
        let mut done = Vec::new();
        if let [_] = groups.as_slice() {
            // The usual case needs no task of its own.
            for group in groups {
                done.push(self.group(&*host, group, &envelope, &message, until).await);
            }
        } else {
            for group in groups {
                let (this, host) = (Arc::clone(self), Arc::clone(&host));
                let (envelope, message) = (Arc::clone(&envelope), Arc::clone(&message));
                running.spawn(async move { this.group(&*host, group, &envelope, &message, until).await });
            }
        }
        while let Some(ended) = running.join_next().await {
            done.extend(ended);
        }
        for (index, outcome) in done.into_iter().flatten() {
            outcomes[index] = Some(outcome);
        }
        let outcomes: Vec<_> = outcomes
            .into_iter()
            .map(|outcome| {
                outcome.unwrap_or_else(|| Outcome::Deferred {
                    why: "4.3.0 the attempt failed inside Mesyx; the log has the place".to_owned(),
                    retry_after: None,
                    scope: DeferScope::Recipient,
                    maybe_sent: true,
                })
            })
            .collect();
        count(&outcomes);
        outcomes
    }

    async fn group(
        &self,
        host: &dyn Host,
        group: Group,
        envelope: &Envelope,
        message: &Arc<Message>,
        until: Instant,
    ) -> Vec<(usize, Outcome)> {
        let today = Timestamp::now().day();
        let found = tokio::time::timeout_at(until, self.lookup.hosts(host, &group.domain)).await;
        let hosts = match found {
            Ok(Ok(hosts)) => hosts,
            Ok(Err(outcome)) => return group.indexes.into_iter().map(|index| (index, outcome.clone())).collect(),
            Err(_) => {
                let outcome = deferred("4.4.3 looking up where the mail goes took too long", DeferScope::Host);
                return group.indexes.into_iter().map(|index| (index, outcome.clone())).collect();
            }
        };
        let only = hosts.only;
        let mut attempt = Attempt {
            outbound: self,
            envelope,
            message,
            until,
            today,
            login: None,
            domain: hosts.domain.clone(),
            left: group.indexes,
            done: Vec::new(),
            answered: BTreeMap::new(),
            // Replaced by the first thing that goes wrong.
            last: deferred("4.4.7 there was no time left to try", DeferScope::Host),
            all_final: true,
            sessions: 0,
            addresses: 0,
        };
        attempt.run(host, hosts).await;
        let Attempt { left, mut done, last, mut answered, .. } = attempt;
        done.extend(left.into_iter().map(|index| (index, answered.remove(&index).unwrap_or_else(|| last.clone()))));
        if only {
            // The queue leaves alone what failed domain by domain; where all go to the same host, all are to wait for it.
            for (_, outcome) in &mut done {
                if let Outcome::Deferred { scope: scope @ DeferScope::Host, .. } = outcome {
                    *scope = DeferScope::Bridge;
                }
            }
        }
        done
    }
}

/// The way through a domain's hosts.
struct Attempt<'a> {
    outbound: &'a Outbound,
    envelope: &'a Envelope,
    message: &'a Arc<Message>,
    until: Instant,
    today: i32,
    login: Option<Login>,
    domain: Option<String>,
    /// Recipients without a last word.
    left: Vec<usize>,
    done: Vec<(usize, Outcome)>,
    /// What a host said last of those that are left.
    answered: BTreeMap<usize, Outcome>,
    /// What holds for those that are left and of whom no host said anything.
    last: Outcome,
    /// Every host so far can't ever be used.
    all_final: bool,
    sessions: u32,
    addresses: u32,
}

impl Attempt<'_> {
    async fn run(&mut self, host: &dyn Host, hosts: Hosts) {
        if let Some((user, secret)) = &hosts.login {
            match host.secret(secret).await {
                Ok(password) => self.login = Some(Login { name: user.clone(), password }),
                Err(error) => {
                    self.last =
                        deferred(format!("4.3.5 the secret '{secret}' can't be had: {error}"), DeferScope::Host);
                    return;
                }
            }
        }
        let limits = &self.outbound.lookup.plan.config.limits;
        for candidate in &hosts.hosts {
            if self.is_over(limits.sessions, limits.addresses) {
                return;
            }
            let lookup = &self.outbound.lookup;
            let ready = lookup.ready(candidate, hosts.domain.as_deref(), self.today);
            match tokio::time::timeout_at(self.until, ready).await {
                Ok(Ok(ready)) => self.host(&ready).await,
                // A host that can never be used does not make those fail that only can't be used now.
                Ok(Err(outcome @ Outcome::Failed { .. })) if self.all_final => self.last = outcome,
                Ok(Err(Outcome::Failed { .. })) => {}
                Ok(Err(outcome)) => self.note(outcome),
                Err(_) => return,
            }
        }
    }

    fn note(&mut self, outcome: Outcome) {
        self.all_final = false;
        self.last = outcome;
    }

    fn is_over(&self, sessions: u32, addresses: u32) -> bool {
        self.left.is_empty() || self.sessions >= sessions || self.addresses >= addresses || Instant::now() >= self.until
    }

    /// Tries the addresses of a host until one gives a session.
    async fn host(&mut self, ready: &Ready) {
        let most = self.outbound.lookup.plan.config.limits.addresses;
        for address in &ready.addresses {
            if self.is_over(u32::MAX, most) {
                return;
            }
            self.addresses += 1;
            for requirement in &ready.requirements {
                let target = Target {
                    name: ready.name.clone(),
                    address: *address,
                    helo: self.outbound.hostname.clone(),
                    login: self.login.clone(),
                };
                match self.session(&target, requirement, ready).await {
                    Ok(()) => {
                        self.sessions += 1;
                        return;
                    }
                    // What TLS would not do may be done without, where that is allowed: over a new connection.
                    Err(Unopened::Tls(_, why)) => self.note(deferred(why, DeferScope::Host)),
                    Err(Unopened::Other(why)) => {
                        self.note(deferred(why, DeferScope::Host));
                        break;
                    }
                }
            }
        }
    }

    /// Sends over a connection that is there, or a new one. An error says that there was no session.
    async fn session(&mut self, target: &Target, requirement: &Requirement, ready: &Ready) -> Result<(), Unopened> {
        let key = Key {
            address: target.address,
            name: target.name.clone(),
            requirement: fingerprint(requirement),
            user: target.login.as_ref().map(|login| login.name.clone()),
        };
        let outbound = self.outbound;
        let config = &outbound.lookup.plan.config;
        loop {
            let Some((place, idle)) = outbound.pool.place(&key, self.until).await else {
                let label = &target.name;
                return Err(Unopened::Other(format!("4.4.5 all connections to {label} were busy the whole time")));
            };
            let reused = idle.is_some();
            let mut link = match idle {
                Some(link) => link,
                None => {
                    let opened = Link::open(target, requirement, &outbound.tls, config, self.until).await;
                    self.judge(requirement, ready, &opened);
                    opened?
                }
            };
            if self.send(&mut link, reused).await {
                // It was closed while it was idle: not the host's fault.
                continue;
            }
            if link.is_ready() && link.used < config.limits.messages_per_connection {
                place.keep(link);
            } else if link.is_ready() {
                link.quit().await;
            }
            return Ok(());
        }
    }

    /// Counts how TLS went.
    fn judge(&self, requirement: &Requirement, ready: &Ready, opened: &Result<Link, Unopened>) {
        let reports = &self.outbound.lookup.reports;
        let Some(domain) = &self.domain else { return };
        match opened {
            Ok(link) if link.tls => reports.success(self.today, domain, ready.judged),
            Ok(_) if *requirement == Requirement::Opportunistic => {
                reports.failure(self.today, domain, ready.judged, "starttls-not-supported");
            }
            Err(Unopened::Tls(result, _)) => reports.failure(self.today, domain, ready.judged, result),
            // A second try, or nothing to do with TLS.
            _ => {}
        }
    }

    /// Sends the message to those that are left. Whether the host had ended a session that was kept for us; then nothing is noted.
    async fn send(&mut self, link: &mut Link, reused: bool) -> bool {
        for round in 0..MAX_ROUNDS {
            let asked = self.left.clone();
            let to = asked.iter().filter_map(|index| self.envelope.to.get(*index).cloned()).collect();
            let envelope = Envelope { from: self.envelope.from.clone(), dsn: self.envelope.dsn.clone(), to };
            let report = link.send(envelope, Arc::clone(self.message), self.until).await;
            if round == 0 && reused && link.was_stale() {
                return true;
            }
            self.left.clear();
            let ended = link.ended();
            let (mut taken, mut crowded) = (false, false);
            for (index, said) in asked.into_iter().zip(&report.said) {
                taken |= matches!(said, Said::Taken(_));
                crowded |= matches!(said, Said::Refused(super::client::Stage::Rcpt(_), reply) if is_too_many(reply));
                match outcome::of(said, report.dsn, &link.label, &ended) {
                    // Another host may do better; but not where this one may have the message.
                    outcome @ Outcome::Deferred { maybe_sent: false, .. } => {
                        self.all_final = false;
                        self.answered.insert(index, outcome);
                        self.left.push(index);
                    }
                    outcome => self.done.push((index, outcome)),
                }
            }
            if !(taken && crowded && link.is_ready() && !self.left.is_empty()) {
                break;
            }
        }
        false
    }
}

fn count(outcomes: &[Outcome]) {
    for outcome in outcomes {
        let name = match outcome {
            Outcome::Delivered { .. } => "delivered",
            Outcome::Deferred { .. } => "deferred",
            Outcome::Failed { .. } => "failed",
        };
        counter!("mesyx_smtp_deliveries_total", "outcome" => name).increment(1);
    }
}
