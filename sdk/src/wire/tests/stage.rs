//! A bridge at the other end of a socketpair that does as it is told.

use super::super::client::Connection;
use super::super::host::{Admission, Limits, RemoteBridge};
use super::super::{serve_bridge_unix, v1};
use crate::{
    Accepted, Address, Answer, Bridge, ByteBudget, Certificates, ClientInfo, Config, ConfigErrors, Credentials,
    DeferScope, Delivery, Domain, Envelope, Error, ErrorKind, Fatal, Grant, Health, Host, ListenSpec, Manifest,
    MemoryHost, Outcome, Question, RecipientStatus, Secret, Sender, Session, User,
};
use async_trait::async_trait;
use std::collections::HashMap;
use std::net::TcpListener;
use std::ops::Deref;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub(super) const THROUGH_THE_WIRE: bool = true;

/// Long enough for a slow machine; passed only where something hangs.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Has so much time pass at once for all that waits, so that no test depends on how fast this machine is. What is to begin before must
/// be seen to have begun.
pub(super) async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

type Hosts = mpsc::UnboundedSender<Arc<dyn Host>>;

/// Where a puppet's host is handed to its test, by a number in its configuration.
static HOSTS: LazyLock<Mutex<HashMap<String, Hosts>>> = LazyLock::new(Mutex::default);

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Settings {
    /// Which test it belongs to.
    test: String,
    /// How it runs: `serve`, `fatal`, `panic`, `quit`, `deaf`.
    #[serde(default)]
    run: String,
    #[serde(default)]
    build: String,
}

/// A bridge that does as its configuration and the addresses of what it delivers say.
pub(super) struct Puppet(Settings);

#[async_trait]
impl Bridge for Puppet {
    fn manifest() -> Manifest {
        Manifest {
            name: "puppet".into(),
            version: "1.2.3".into(),
            summary: "Does as it is told.".into(),
            grants: vec![Grant::Accept, Grant::Deliver, Grant::Listen(0), Grant::Secret("a.*".into())],
            delivers: vec![crate::AddressKind::Mail],
            config_schema: crate::config::schema::<Settings>(),
        }
    }

    fn build(config: Config) -> Result<Self, ConfigErrors> {
        let settings: Settings = config.parse()?;
        assert!(settings.build != "panic", "built badly");
        Ok(Self(settings))
    }

    fn listeners(&self) -> Vec<ListenSpec> {
        vec![ListenSpec { name: "mx".into(), address: ([127, 0, 0, 1], 25).into() }]
    }

    fn secrets(&self) -> Vec<String> {
        vec!["a.b".into()]
    }

    async fn run(&self, host: Arc<dyn Host>) -> Result<(), Fatal> {
        match self.0.run.as_str() {
            "fatal" => return Err(Fatal::new("the network is down; plug it in")),
            "panic" => panic!("a hole in the bridge"),
            "quit" => return Ok(()),
            _ => {}
        }
        HOSTS.lock().unwrap()[&self.0.test].send(Arc::clone(&host)).ok();
        host.stopped().await;
        if self.0.run == "deaf" {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    async fn deliver(&self, _: Arc<dyn Host>, job: Delivery) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for recipient in &job.recipients {
            outcomes.push(match recipient.address.as_mail().unwrap().local() {
                "hang" => std::future::pending().await,
                "panic" => panic!("a hole in the delivery"),
                "short" => continue,
                "later" => Outcome::Deferred {
                    why: "busy".into(),
                    retry_after: Some(Duration::from_secs(7)),
                    scope: DeferScope::Host,
                    maybe_sent: false,
                },
                "never" => Outcome::Failed { why: "no such name".into() },
                _ => Outcome::Delivered { remote_id: Some(sum(&job.content).to_string()), dsn: true },
            });
        }
        outcomes
    }

    async fn answer(&self, _: Arc<dyn Host>, question: Question) -> Result<Answer, Error> {
        match question.name.as_str() {
            "echo" => Ok(Answer { rows: vec![question.args, vec![question.asker]] }),
            "panic" => panic!("a hole in the answer"),
            _ => Err(Error::new(ErrorKind::Exists, "asked before").retry_after(Duration::from_millis(1500))),
        }
    }
}

/// Tells bodies apart.
pub(super) fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(bytes.len() as u64, |sum, byte| sum.rotate_left(5) ^ u64::from(*byte))
}

/// Both ends, with the puppet not running yet.
pub(super) struct Ends {
    pub(super) bridge: RemoteBridge,
    pub(super) life: JoinHandle<Result<(), Fatal>>,
}

pub(super) async fn ends(limits: Limits) -> Ends {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let life = tokio::spawn(serve_bridge_unix::<Puppet>(theirs, Some(Secret::from("token".to_owned()))));
    ours.set_nonblocking(true).unwrap();
    let admission = Admission { token: Some(Secret::from("token".to_owned())), name: Some("puppet".into()) };
    let bridge = RemoteBridge::connect_unix(UnixStream::from_std(ours).unwrap(), admission, limits).await.unwrap();
    Ends { bridge, life }
}

/// A puppet that runs, the host that it sees, and its life as both ends tell it.
pub(super) struct Wired {
    pub(super) remote: Arc<dyn Host>,
    pub(super) bridge: RemoteBridge,
    pub(super) run: JoinHandle<Result<(), Fatal>>,
    pub(super) life: JoinHandle<Result<(), Fatal>>,
}

pub(super) async fn wired(host: &MemoryHost, limits: Limits, granted: &[Grant]) -> Wired {
    wired_as(host, limits, granted, "serve").await
}

pub(super) async fn wired_as(host: &MemoryHost, limits: Limits, granted: &[Grant], run: &str) -> Wired {
    let Ends { bridge, life } = ends(limits).await;
    let test = crate::MessageId::random().to_string();
    let (hosts, mut handed) = mpsc::unbounded_channel();
    HOSTS.lock().unwrap().insert(test.clone(), hosts);
    bridge.build(&Config::new(serde_json::json!({ "test": test, "run": run }))).await.unwrap();
    let run = tokio::spawn({
        let (bridge, host, granted) = (bridge.clone(), Arc::new(host.clone()), granted.to_vec());
        async move { bridge.run(host, &granted).await }
    });
    let remote = tokio::time::timeout(PATIENCE, handed.recv()).await.unwrap().unwrap();
    Wired { remote, bridge, run, life }
}

/// The bridge's end of a connection, spoken by hand, and what the host says of it.
pub(super) async fn by_hand(limits: Limits, token: &str) -> (Connection, JoinHandle<Result<RemoteBridge, Fatal>>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let admission = Admission { token: Some(Secret::from(token.to_owned())), name: Some("puppet".into()) };
    let host = tokio::spawn(RemoteBridge::connect_unix(ours, admission, limits));
    (Connection::over_unix(theirs).await.unwrap(), host)
}

pub(super) fn hello(token: &str) -> v1::Hello {
    v1::Hello {
        minor: 0,
        features: Vec::new(),
        sdk: "by hand 1".into(),
        token: token.into(),
        manifest: Puppet::manifest().to_json(),
    }
}

/// A host by hand: introduced, and run for a bridge that does nothing by itself.
pub(super) async fn introduced(
    host: &MemoryHost,
    limits: Limits,
) -> (Connection, RemoteBridge, JoinHandle<Result<(), Fatal>>, tonic::Streaming<v1::Event>) {
    let (connection, bridge) = by_hand(limits, "token").await;
    let mut events = connection.life().live(hello("token")).await.unwrap().into_inner();
    let bridge = bridge.await.unwrap().unwrap();
    let run = tokio::spawn({
        let (bridge, host) = (bridge.clone(), Arc::new(host.clone()));
        async move { bridge.run(host, &[Grant::Accept, Grant::Deliver]).await }
    });
    // Welcome, and run.
    events.message().await.unwrap();
    events.message().await.unwrap();
    (connection, bridge, run, events)
}

/// A host in memory whose calls as a host go through the wire.
#[derive(Clone)]
pub(super) struct Through {
    memory: MemoryHost,
    remote: Arc<dyn Host>,
}

impl Deref for Through {
    type Target = MemoryHost;

    fn deref(&self) -> &MemoryHost {
        &self.memory
    }
}

pub(super) struct Place {
    pub(super) host: Through,
    pub(super) ann: User,
    pub(super) session: Arc<dyn Session>,
}

pub(super) async fn place() -> Place {
    let memory = MemoryHost::new("example.org".parse().unwrap());
    let ann = memory.add_user("ann", "secret").unwrap();
    memory.add_user("bob", "other").unwrap();
    let remote = wired(&memory, Limits::default(), &[]).await.remote;
    let session = remote.login(login("ann", "secret")).await.unwrap();
    Place { host: Through { memory, remote }, ann, session }
}

pub(super) fn login(name: &str, password: &str) -> Credentials {
    let client = ClientInfo { ip: [127, 0, 0, 1].into(), protocol: "imap".into(), tls: true };
    Credentials { name: name.into(), password: Secret::from(password.to_owned()), client }
}

#[async_trait]
impl Host for Through {
    async fn accept(&self, batch: Vec<Envelope>) -> Vec<Result<Accepted, Error>> {
        self.remote.accept(batch).await
    }
    async fn recipient(&self, address: &Address, sender: &Sender) -> Result<RecipientStatus, Error> {
        self.remote.recipient(address, sender).await
    }
    async fn is_user(&self, name: &str) -> Result<bool, Error> {
        self.remote.is_user(name).await
    }
    async fn login(&self, credentials: Credentials) -> Result<Arc<dyn Session>, Error> {
        self.remote.login(credentials).await
    }
    fn certificates(&self) -> Result<watch::Receiver<Arc<Certificates>>, Error> {
        self.remote.certificates()
    }
    async fn secret(&self, name: &str) -> Result<Secret, Error> {
        self.remote.secret(name).await
    }
    async fn listen(&self, spec: &ListenSpec) -> Result<TcpListener, Error> {
        self.remote.listen(spec).await
    }
    fn budget(&self) -> &ByteBudget {
        self.remote.budget()
    }
    fn hostname(&self) -> &str {
        self.remote.hostname()
    }
    fn domain(&self) -> &Domain {
        self.remote.domain()
    }
    fn health(&self, health: Health) {
        self.remote.health(health);
    }
    async fn stopped(&self) {
        self.remote.stopped().await;
    }
}
