//! SMTP: the bridges `smtp` (mail from and to other hosts) and `submission` (mail from our users' programs).
//!
//! ```text
//!            sockets, TLS, PROXY            bytes in, bytes and steps out         the host
//! peer <--> server.rs, connection.rs <--> proto::Session (no I/O, no clock) <--> accept / submit
//! ```
//!
//! What always holds:
//! - 250 for a message is said only after the host has taken it, which means sealed and durable.
//! - Only CRLF.CRLF ends a message; one with a bare CR or LF is never taken (CVE-2023-51764).
//! - Bytes that came before a TLS handshake are never acted on after it (CVE-2011-0411).
//! - Who has not logged in reaches our own recipients only.
//! - The bytes of a message are kept exactly, behind our own `Return-Path` and `Received`; submission may add `Date`
//!   and `Message-ID`, and takes out `Bcc`.
//! - Sending has its own drawing and rules: see [`outbound`].
//! - Memory for messages comes from the host's byte budget before it is held.
#![forbid(unsafe_code)]

mod config;
mod connection;
pub mod dkim;
mod limits;
mod meters;
pub mod outbound;
pub mod proto;
mod proxy;
mod server;
mod stream;
mod unanswered;
mod verify;

pub use config::{LimitsConfig, Listener, SmtpConfig, SubmissionConfig, TlsMode};
pub use outbound::DeliveryConfig;
pub use proto::plain_response;
pub use verify::without_claims;
pub use verify::{DmarcMode, GreylistConfig, RateConfig, VerifyConfig};

use config::Checked;
use dkim::Dkim;
use mesyx_net::{DnsConfig, HttpsConfig};
use mesyx_sdk::config::schema;
use mesyx_sdk::{
    AddressKind, Bridge, Config, ConfigErrors, DeferScope, Delivery, Fatal, Grant, Host, ListenSpec, Manifest, Outcome,
    async_trait,
};
use outbound::{Outbound, Own, Plan};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often it is tried to make what sending needs, where that failed.
const UNABLE: Duration = Duration::from_secs(60);

/// The bridge `smtp`: takes mail from other hosts for our own recipients, and brings mail to other hosts.
#[derive(Debug)]
pub struct Smtp {
    checked: Checked,
    plan: Plan,
    dns: DnsConfig,
    https: HttpsConfig,
    dkim: Dkim,
    /// Made when it is first needed, since that reads files; where that fails, it is tried again.
    outbound: Mutex<Option<Arc<Outbound>>>,
}

/// The bridge `submission`: takes mail from our users' programs, after a login.
#[derive(Debug)]
pub struct Submission(Checked);

#[async_trait]
impl Bridge for Smtp {
    fn manifest() -> Manifest {
        Manifest {
            name: "smtp".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "Takes mail from other hosts by SMTP, as the domain's MX, and brings mail to them".to_owned(),
            grants: vec![
                Grant::Accept,
                Grant::Deliver,
                Grant::Directory,
                Grant::Certificates,
                Grant::Secret("dkim.*".to_owned()),
                Grant::Checkpoint,
                Grant::Listen(25),
            ],
            delivers: vec![AddressKind::Mail],
            config_schema: schema::<SmtpConfig>(),
        }
    }

    fn build(config: Config) -> Result<Self, ConfigErrors> {
        let config: SmtpConfig = config.parse()?;
        let (checked, plan) = config::check_smtp(&config)?;
        let dkim = Dkim::new(config.dkim);
        Ok(Self { checked, plan, dns: config.dns, https: config.https, dkim, outbound: Mutex::default() })
    }

    fn listeners(&self) -> Vec<ListenSpec> {
        specs(&self.checked)
    }

    fn secrets(&self) -> Vec<String> {
        self.plan.secrets()
    }

    async fn run(&self, host: Arc<dyn Host>) -> Result<(), Fatal> {
        let wanting = match self.outbound(&*host) {
            Ok(outbound) => outbound.wanting.clone(),
            Err(why) => Some(format!("no mail can be sent: {why}")),
        };
        if let Some(why) = wanting {
            tracing::warn!(why, "sending mail to other hosts");
        }
        let serving = server::serve(Arc::clone(&host), "smtp", proto::Role::Mx, &self.checked);
        let served = tokio::select! {
            served = serving => served,
            () = self.tend(&*host) => Ok(()),
        };
        // Nothing of it is left behind; what is delivered after this makes its own.
        let outbound = self.made().take();
        if let Some(outbound) = outbound {
            outbound.close().await;
        }
        served
    }

    async fn deliver(&self, host: Arc<dyn Host>, job: Delivery) -> Vec<Outcome> {
        let outbound = match self.outbound(&*host) {
            Ok(outbound) => outbound,
            Err(why) => {
                let why = format!("4.3.5 no mail can be sent: {why}");
                let outcome = outbound::deferred(why, DeferScope::Bridge);
                return vec![outcome; job.recipients.len()];
            }
        };
        // What is signed is what is sent: nothing changes the content behind this.
        let signature = match self.dkim.sign(&*host, &job.content).await {
            Ok(signature) => signature,
            Err(error) => {
                // One domain's keys: the mail of the others goes on.
                let outcome = outbound::deferred(format!("4.7.0 {error}"), DeferScope::Recipient);
                return vec![outcome; job.recipients.len()];
            }
        };
        outbound.deliver(host, job, signature).await
    }
}

impl Smtp {
    fn outbound(&self, host: &dyn Host) -> Result<Arc<Outbound>, String> {
        let mut made = self.made();
        if let Some(outbound) = &*made {
            return Ok(Arc::clone(outbound));
        }
        let ports = self.checked.listeners.iter().map(|listener| listener.spec.address.port());
        let own = Own { hostname: host.hostname().to_ascii_lowercase(), ports: ports.collect() };
        let outbound = Arc::new(Outbound::new(self.plan.clone(), &self.dns, &self.https, own)?);
        *made = Some(Arc::clone(&outbound));
        Ok(outbound)
    }

    fn made(&self) -> MutexGuard<'_, Option<Arc<Outbound>>> {
        self.outbound.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks after connections, once there can be any.
    async fn tend(&self, host: &dyn Host) {
        loop {
            if let Ok(outbound) = self.outbound(host) {
                return outbound.tend().await;
            }
            tokio::time::sleep(UNABLE).await;
        }
    }
}

#[async_trait]
impl Bridge for Submission {
    fn manifest() -> Manifest {
        Manifest {
            name: "submission".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "Takes mail from our users' mail programs, after a login".to_owned(),
            grants: vec![Grant::Access, Grant::Certificates, Grant::Listen(587), Grant::Listen(465)],
            delivers: Vec::new(),
            config_schema: schema::<SubmissionConfig>(),
        }
    }

    fn build(config: Config) -> Result<Self, ConfigErrors> {
        let config: SubmissionConfig = config.parse()?;
        config::check(&config.listeners, &config.limits, "submission").map(Self)
    }

    fn listeners(&self) -> Vec<ListenSpec> {
        specs(&self.0)
    }

    async fn run(&self, host: Arc<dyn Host>) -> Result<(), Fatal> {
        server::serve(host, "submission", proto::Role::Submission, &self.0).await
    }

    async fn deliver(&self, _host: Arc<dyn Host>, job: Delivery) -> Vec<Outcome> {
        not_sent(&job)
    }
}

fn specs(checked: &Checked) -> Vec<ListenSpec> {
    checked.listeners.iter().map(|listener| listener.spec.clone()).collect()
}

/// This bridge never asks for deliveries; nobody is left waiting for one.
fn not_sent(job: &Delivery) -> Vec<Outcome> {
    let why = "5.3.3 the bridge submission brings nothing anywhere";
    job.recipients.iter().map(|_| Outcome::Failed { why: why.to_owned() }).collect()
}
