//! One running instance: core, bridges, certificates.

use super::logging::LogLevel;
use super::memory::MemoryStatus;
use super::outbound::Outbound;
use super::services::CoreServices;
use super::status::Status;
use crate::config::check::{self, Checked};
use crate::control::Request;
use crate::exit::{Failure, trying};
use crate::http::Site;
use crate::operate;
use mesyx_bridges::{RestartPolicy, Services, Sockets, Supervisor};
use mesyx_core::core::Core;
use mesyx_sdk::{Certificates, Timestamp};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use time::format_description::well_known::Rfc3339;
use tokio::sync::{Mutex, watch};

/// How long attempts to send that are under way may take when the server stops; those cut off are made again after the
/// next start, and then a message may come twice.
const DRAIN: Duration = Duration::from_secs(5);

/// Everything that runs, but for the sockets of administration.
pub(crate) struct Instance {
    core: Arc<Core>,
    supervisor: Arc<Supervisor>,
    certificates: watch::Sender<Arc<Certificates>>,
    log: Option<LogLevel>,
    file: PathBuf,
    hostname: String,
    since: Timestamp,
    memory: MemoryStatus,
    listening: Listening,
    /// What the pages for others are about.
    site: watch::Sender<Arc<Site>>,
    /// What needs a restart to change, as it was at the start.
    fixed: Vec<(&'static str, String)>,
    /// One reload at a time.
    reloading: Mutex<()>,
}

/// Where the program itself listens.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listening {
    /// The admin listener.
    pub(crate) admin: Option<SocketAddr>,
    /// The listeners of pages for others, and whether they have TLS.
    pub(crate) http: Vec<(SocketAddr, bool)>,
}

impl Instance {
    /// Opens the core and starts the bridges.
    pub(crate) async fn start(
        checked: Checked,
        sockets: Arc<Sockets>,
        listening: Listening,
        memory: MemoryStatus,
        log: Option<LogLevel>,
    ) -> Result<Arc<Self>, Failure> {
        let certificates = watch::Sender::new(Arc::new(checked.certificates()?));
        let fixed = fixed(&checked);
        let site = watch::Sender::new(Arc::new(Site::of(&checked)));
        let hostname = checked.core.hostname.clone();
        let key_source = crate::wkd::source(&checked.dns, &checked.https);
        let Some(primary) = checked.core.domains.first().map(|first| first.domain.clone()) else {
            return Err(Failure::new("the configuration names no domain"));
        };
        let core = Core::open(checked.core).await?;
        core.set_key_source(Some(key_source));
        let services: Arc<dyn Services> = Arc::new(CoreServices {
            core: Arc::clone(&core),
            hostname: hostname.clone(),
            domain: primary,
            certificates: certificates.subscribe(),
        });
        let supervisor = Arc::new(Supervisor::new(services, sockets, RestartPolicy::default()));
        supervisor.start_all(checked.bridges, || core.start_queue(Arc::new(Outbound(Arc::clone(&supervisor)))));
        Ok(Arc::new(Self {
            core,
            supervisor,
            certificates,
            log,
            file: checked.file,
            hostname,
            since: Timestamp::now(),
            memory,
            listening,
            site,
            fixed,
            reloading: Mutex::default(),
        }))
    }

    /// The core.
    pub(crate) const fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// The bridges.
    pub(crate) fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// Where the program itself listens.
    pub(crate) const fn listening(&self) -> &Listening {
        &self.listening
    }

    /// What the pages for others are about, as now configured.
    pub(crate) fn site(&self) -> Arc<Site> {
        Arc::clone(&self.site.borrow())
    }

    /// The certificates, and their replacements as they come.
    pub(crate) fn certificates(&self) -> watch::Receiver<Arc<Certificates>> {
        self.certificates.subscribe()
    }

    /// Carries out a command.
    pub(crate) async fn operate(&self, request: Request) -> Result<Value, Failure> {
        match request {
            Request::Status => serde_json::to_value(self.status().await?).map_err(trying("the status")),
            Request::Reload => serde_json::to_value(self.reload().await?).map_err(trying("the answer")),
            request => operate::operate(&self.core, request).await,
        }
    }

    /// How everything does.
    pub(crate) async fn status(&self) -> Result<Status, Failure> {
        let certificates = Arc::clone(&self.certificates.borrow());
        let core = self.core.status().await?;
        let mut secrets = vec![
            "the instance key: opens service secrets, and the messages that wait to be sent".to_owned(),
            "private keys of TLS certificates".to_owned(),
            "users' secret keys, each locked by its user's passwords".to_owned(),
        ];
        if !core.unlocked.is_empty() {
            let names: Vec<_> = core.unlocked.iter().map(|user| user.user.as_str()).collect();
            secrets.push(format!("opened while they are logged in: the secret keys of {}", names.join(", ")));
        }
        if !core.unlocked_keysets.is_empty() {
            let names: Vec<_> =
                core.unlocked_keysets.iter().map(|open| format!("{} of {}", open.keyset, open.user)).collect();
            secrets.push(format!("unlocked for a while: the secret keys of {}", names.join(", ")));
        }
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            since: self.since.utc().format(&Rfc3339).unwrap_or_default(),
            hostname: self.hostname.clone(),
            modes: ["gateway", "store", "access"].map(str::to_owned).to_vec(),
            secrets,
            core,
            queue: self.core.queue_status().await?,
            bridges: self.supervisor.status(),
            certificates: certificates.0.iter().map(|identity| identity.names.clone()).collect(),
            memory: self.memory.clone(),
            admin: self.listening.admin.map(|address| address.to_string()),
            http: self.listening.http.iter().map(|(address, tls)| url(*address, *tls)).collect(),
        })
    }

    /// Reads configuration and certificates again and follows them. Where anything in them is wrong, everything stays as
    /// it was. Returns the bridges that were started, restarted or stopped; the others keep their connections.
    pub(crate) async fn reload(&self) -> Result<Vec<String>, Failure> {
        let _alone = self.reloading.lock().await;
        let file = self.file.clone();
        let read = move || {
            let checked = check::read(&file, &super::registry())?;
            let certificates = checked.certificates()?;
            Ok::<_, Failure>((checked, certificates))
        };
        let read = tokio::task::spawn_blocking(read).await.map_err(trying("reading the configuration"))?;
        let refused = |failure: &Failure| {
            for line in failure.text.lines() {
                tracing::error!("the new configuration is refused: {line}");
            }
        };
        let (checked, certificates) = read.inspect_err(refused)?;
        for (key, value) in fixed(&checked) {
            if self.fixed.iter().any(|(known, before)| *known == key && *before != value) {
                tracing::warn!(key, "this change of the configuration needs a restart");
            }
        }
        let key_source = crate::wkd::source(&checked.dns, &checked.https);
        let site = Site::of(&checked);
        self.core.reconfigure(checked.core).map_err(Failure::from).inspect_err(refused)?;
        self.core.set_key_source(Some(key_source));
        self.certificates.send_replace(Arc::new(certificates));
        self.site.send_replace(Arc::new(site));
        if let Some(log) = &self.log {
            log.set(&checked.log.level);
        }
        let touched = self.supervisor.reconcile(checked.bridges).await;
        tracing::info!(restarted = touched.join(", "), "configuration and certificates were read again");
        Ok(touched)
    }

    /// Lets attempts to send end, then stops the bridges, then the core.
    pub(crate) async fn stop(&self) {
        self.core.stop_queue(DRAIN).await;
        self.supervisor.stop_all().await;
        self.core.close().await;
    }
}

fn url(address: SocketAddr, tls: bool) -> String {
    format!("{}://{address}", if tls { "https" } else { "http" })
}

/// What can't change while the server runs.
fn fixed(checked: &Checked) -> Vec<(&'static str, String)> {
    vec![
        ("hostname", checked.core.hostname.clone()),
        ("data_dir", checked.core.data_dir.display().to_string()),
        ("instance_key", checked.core.instance_key.display().to_string()),
        ("limits.budget_bytes", checked.core.limits.budget_bytes.to_string()),
        ("control_socket", checked.control_socket.display().to_string()),
        ("admin.listen", format!("{:?}", checked.admin)),
        ("http.listeners", format!("{:?}", checked.http.listeners)),
        ("http.limits.connections", checked.http.connections.to_string()),
        ("http.limits.connections_per_ip", checked.http.connections_per_ip.to_string()),
        ("run_as", format!("{:?}", checked.run_as)),
        ("memory.lock", format!("{:?}", checked.memory)),
        ("log.format", format!("{:?}", checked.log.format)),
    ]
}
