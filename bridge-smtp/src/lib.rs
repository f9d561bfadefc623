//! SMTP: the bridges `smtp` (mail from other hosts) and `submission` (mail from our users' programs).
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
//! - Memory for messages comes from the host's byte budget before it is held.
#![forbid(unsafe_code)]

mod config;
mod connection;
pub mod dkim;
mod limits;
mod meters;
pub mod proto;
mod proxy;
mod server;
mod stream;
mod unanswered;
mod verify;

pub use config::{LimitsConfig, Listener, SmtpConfig, SubmissionConfig, TlsMode};
pub use proto::plain_response;
pub use verify::{DmarcMode, GreylistConfig, RateConfig, VerifyConfig};

use config::Checked;
use mesyx_sdk::config::schema;
use mesyx_sdk::{
    AddressKind, Bridge, Config, ConfigErrors, Delivery, Fatal, Grant, Host, ListenSpec, Manifest, Outcome, async_trait,
};
use std::sync::Arc;

/// The bridge `smtp`: takes mail from other hosts for our own recipients.
#[derive(Debug)]
pub struct Smtp(Checked);

/// The bridge `submission`: takes mail from our users' programs, after a login.
#[derive(Debug)]
pub struct Submission(Checked);

#[async_trait]
impl Bridge for Smtp {
    fn manifest() -> Manifest {
        Manifest {
            name: "smtp".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "Takes mail from other hosts by SMTP, as the domain's MX".to_owned(),
            grants: vec![
                Grant::Accept,
                Grant::Directory,
                Grant::Certificates,
                Grant::Secret("dkim.*".to_owned()),
                Grant::Listen(25),
            ],
            delivers: vec![AddressKind::Mail],
            config_schema: schema::<SmtpConfig>(),
        }
    }

    fn build(config: Config) -> Result<Self, ConfigErrors> {
        let config: SmtpConfig = config.parse()?;
        config::check_smtp(&config).map(Self)
    }

    fn listeners(&self) -> Vec<ListenSpec> {
        specs(&self.0)
    }

    async fn run(&self, host: Arc<dyn Host>) -> Result<(), Fatal> {
        server::serve(host, "smtp", proto::Role::Mx, &self.0).await
    }

    async fn deliver(&self, _host: Arc<dyn Host>, job: Delivery) -> Vec<Outcome> {
        not_sent(&job)
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

/// Sending to other hosts is no part of this version; nobody is left waiting for it.
fn not_sent(job: &Delivery) -> Vec<Outcome> {
    let why = "sending mail to other hosts is not in this version";
    job.recipients.iter().map(|_| Outcome::Failed { why: why.to_owned() }).collect()
}
