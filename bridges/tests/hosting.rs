//! Bridges that behave badly, and what the host makes of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use mesyx_bridges::{
    Breaker, Places, Prepared, Registry, RestartPolicy, Run, Server, Services, Settings, Sockets, State, Supervisor,
};
use mesyx_misbehaving::{Misbehaving, grants};
use mesyx_sdk::{
    Accepted, Address, Answer, Bridge, ByteBudget, Certificates, Config, ConfigErrors, Content, Credentials, Delivery,
    Domain, Dsn, Envelope, Error, ErrorKind, Fatal, Grant, Group, Health, Host, Importance, Kind, ListenSpec, LiveFeed,
    Manifest, MemoryHost, MessageId, Origin, Outcome, Question, Recipient, RecipientStatus, Secret, Sender, Session,
    Signal, SignalTo, Style, Timestamp, UserId, async_trait,
};
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// Long enough for a slow machine; passed only where something hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Has so much time pass at once for all that waits, so that no test depends on how fast this machine is.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// Notes what reached it.
struct Behind {
    taken: Mutex<Vec<Envelope>>,
    signals: Mutex<Vec<Signal>>,
    kept: Mutex<std::collections::BTreeMap<(String, String), Secret>>,
    budget: ByteBudget,
    domain: Domain,
    certificates: watch::Sender<Arc<Certificates>>,
}

impl Behind {
    fn new() -> Arc<Self> {
        let certificates = watch::Sender::new(Arc::default());
        let domain = "example.org".parse().unwrap();
        Arc::new(Self {
            taken: Mutex::default(),
            signals: Mutex::default(),
            kept: Mutex::default(),
            budget: ByteBudget::new(1 << 20),
            domain,
            certificates,
        })
    }
}

#[async_trait]
impl Services for Behind {
    async fn accept(&self, _: &str, batch: Vec<Envelope>) -> Vec<Result<Accepted, Error>> {
        let answers = batch.iter().map(|envelope| Ok(Accepted { id: envelope.id, duplicate: false })).collect();
        self.taken.lock().unwrap().extend(batch);
        answers
    }
    async fn recipient(&self, _: &Address, _: &Sender) -> Result<RecipientStatus, Error> {
        Ok(RecipientStatus::Local)
    }
    async fn is_user(&self, name: &str) -> Result<bool, Error> {
        Ok(name == "ann")
    }
    async fn login(&self, credentials: Credentials) -> Result<Arc<dyn Session>, Error> {
        if credentials.name != "ann" {
            return Err(Error::new(ErrorKind::LoginFailed, "no"));
        }
        let host = MemoryHost::new(self.domain.clone());
        host.add_user("ann", "secret").unwrap();
        host.login(credentials).await
    }
    async fn secret(&self, name: &str) -> Result<Secret, Error> {
        Ok(Secret::from(name.to_owned()))
    }
    fn certificates(&self) -> watch::Receiver<Arc<Certificates>> {
        self.certificates.subscribe()
    }
    fn budget(&self) -> &ByteBudget {
        &self.budget
    }
    fn hostname(&self) -> &str {
        "mail.example.org"
    }
    fn domain(&self) -> &Domain {
        &self.domain
    }
    async fn checkpoint(&self, bridge: &str, key: &str) -> Result<Option<Secret>, Error> {
        Ok(self.kept.lock().unwrap().get(&(bridge.into(), key.into())).cloned())
    }
    async fn set_checkpoint(&self, bridge: &str, key: &str, value: Option<Secret>) -> Result<(), Error> {
        self.kept.lock().unwrap().extend(value.map(|value| ((bridge.into(), key.into()), value)));
        Ok(())
    }
    async fn checkpoints(&self, bridge: &str, prefix: &str) -> Result<Vec<String>, Error> {
        let kept = self.kept.lock().unwrap();
        let of = kept.keys().filter(|(of, key)| of == bridge && key.starts_with(prefix));
        Ok(of.map(|(_, key)| key.clone()).collect())
    }
    fn signal(&self, signal: Signal) {
        self.signals.lock().unwrap().push(signal);
    }
    async fn guests(&self) -> Result<LiveFeed, Error> {
        Ok(LiveFeed::new(tokio::sync::mpsc::channel(1).1))
    }
    async fn groups(&self) -> Result<Vec<Arc<Group>>, Error> {
        Ok(Vec::new())
    }
}

/// Does what its configuration's `how` says; counts its starts.
struct Odd {
    how: String,
    port: u16,
}

static STARTS: AtomicUsize = AtomicUsize::new(0);
/// How often a bridge that `recovers` fails yet.
static FAILURES_LEFT: AtomicUsize = AtomicUsize::new(0);
static LINGERING: Mutex<Option<Arc<dyn Host>>> = Mutex::new(None);

fn envelope() -> Envelope {
    Envelope {
        id: MessageId::random(),
        dedup: None,
        style: Style::Delayed,
        kind: Kind::Message,
        from: None,
        to: vec![recipient()],
        conversation: None,
        sent: None,
        received: Timestamp(0),
        importance: Importance::Normal,
        content: Content::from(b"Subject: x\r\n\r\n".to_vec()),
        origin: Origin { bridge: "somebody-else".into(), ..Origin::default() },
        junk: false,
        dsn: Dsn::default(),
    }
}

fn recipient() -> Recipient {
    Recipient::new(Address::Mail("alice@example.org".parse().unwrap()))
}

#[async_trait]
impl Bridge for Odd {
    fn manifest() -> Manifest {
        Manifest {
            name: "odd".into(),
            version: "1".into(),
            summary: "Misbehaves".into(),
            grants: vec![Grant::Accept, Grant::Deliver, Grant::Secret("key".into())],
            delivers: vec![mesyx_sdk::AddressKind::Mail],
            config_schema: json!({}),
        }
    }
    fn build(config: Config) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let how = config.value()["how"].as_str().unwrap_or_default().to_owned();
        if how == "unbuildable" {
            errors.push("how", "that can't be", "write something else");
        }
        errors.or(Self { how, port: u16::try_from(config.value()["port"].as_u64().unwrap_or(0)).unwrap() })
    }
    fn listeners(&self) -> Vec<ListenSpec> {
        vec![ListenSpec { name: "main".into(), address: ([127, 0, 0, 1], self.port).into() }]
    }
    async fn run(&self, host: Arc<dyn Host>) -> Result<(), Fatal> {
        STARTS.fetch_add(1, Ordering::SeqCst);
        match self.how.as_str() {
            "panics" => panic!("on purpose"),
            "ends" => Ok(()),
            "fails" => Err(Fatal::new("the network is gone")),
            "recovers" => {
                let left = FAILURES_LEFT.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
                if left.is_ok() {
                    return Err(Fatal::new("the network is not there yet"));
                }
                host.health(Health::Ready);
                host.stopped().await;
                Ok(())
            }
            "hangs" => {
                host.health(Health::Ready);
                std::future::pending().await
            }
            "lingers" => {
                *LINGERING.lock().unwrap() = Some(Arc::clone(&host));
                host.health(Health::Ready);
                host.stopped().await;
                Ok(())
            }
            _ => {
                for spec in self.listeners() {
                    let address = host.listen(&spec).await.unwrap().local_addr().unwrap();
                    host.health(Health::Listening { name: spec.name, address });
                }
                let answers = host.accept(vec![envelope()]).await;
                if let Err(error) = &answers[0] {
                    return Err(Fatal::new(error.message()));
                }
                assert_eq!(host.secret("other").await.unwrap_err().kind(), ErrorKind::NotGranted);
                assert_eq!(host.certificates().unwrap_err().kind(), ErrorKind::NotGranted);
                host.health(Health::Ready);
                host.stopped().await;
                Ok(())
            }
        }
    }
    async fn answer(&self, _: Arc<dyn Host>, question: Question) -> Result<Answer, Error> {
        match question.name.as_str() {
            "who" => Ok(Answer { rows: vec![vec![question.asker]] }),
            "much" => Ok(Answer { rows: vec![vec!["x".repeat(1 << 20)]] }),
            "panic" => panic!("on purpose"),
            "hang" => std::future::pending().await,
            _ => Err(Error::new(ErrorKind::Invalid, "what?")),
        }
    }
    async fn deliver(&self, _: Arc<dyn Host>, job: Delivery) -> Vec<Outcome> {
        match job.recipients.len() {
            1 => vec![Outcome::Delivered { remote_id: None, dsn: false }],
            2 => panic!("on purpose"),
            3 => std::future::pending().await,
            _ => vec![],
        }
    }
}

fn settings(how: &str) -> Settings {
    let places =
        Places { server: Server { uid: 1000, gid: 1000 }, sockets: "/tmp".into(), certificates: "/nowhere".into() };
    Settings {
        name: "odd".into(),
        run: Run::default(),
        grants: None,
        restart: None,
        pace: None,
        config: Config::new(json!({ "how": how })),
        manifest: None,
        places,
    }
}

fn prepared(how: &str) -> Prepared {
    Registry::new().link::<Odd>().prepare(settings(how)).unwrap()
}

fn quick() -> RestartPolicy {
    let short = Duration::from_millis(5);
    RestartPolicy {
        first: short,
        longest: 2 * short,
        failures: 3,
        broken: Duration::from_secs(600),
        healthy: Duration::from_secs(60),
        stop: Duration::from_millis(50),
    }
}

fn supervisor(services: &Arc<Behind>) -> Supervisor {
    Supervisor::new(Arc::clone(services) as Arc<dyn Services>, Arc::new(Sockets::new()), quick())
}

async fn until(supervisor: &Supervisor, wanted: impl Fn(&State) -> bool) -> State {
    let end = std::time::Instant::now() + PATIENCE;
    while std::time::Instant::now() < end {
        let state = supervisor.status()[0].state.clone();
        if wanted(&state) {
            return state;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never got there: {:?}", supervisor.status());
}

#[tokio::test]
async fn a_bridge_serves_within_its_grants_and_can_be_reached() {
    let behind = Behind::new();
    let supervisor = supervisor(&behind);
    supervisor.start(prepared("well"));
    assert!(supervisor.settled(PATIENCE).await, "{:?}", supervisor.status());
    let status = &supervisor.status()[0];
    assert!(std::net::TcpStream::connect(status.listening[0].1).is_ok());
    assert_eq!(behind.taken.lock().unwrap()[0].origin.bridge, "odd", "what the bridge wrote is not believed");
    supervisor.stop_all().await;
    assert!(supervisor.status().is_empty());
}

#[tokio::test]
async fn a_call_without_its_grant_never_arrives() {
    let behind = Behind::new();
    let supervisor = supervisor(&behind);
    let mut settings = settings("well");
    settings.grants = Some(vec![Grant::Listen(0)]);
    supervisor.start(Registry::new().link::<Odd>().prepare(settings).unwrap());
    let state = until(&supervisor, |state| matches!(state, State::Failed { .. } | State::Broken { .. })).await;
    assert!(format!("{state:?}").contains("was not granted 'accept'"), "{state:?}");
    assert!(behind.taken.lock().unwrap().is_empty());
    supervisor.stop_all().await;
}

#[tokio::test]
async fn a_bridge_that_keeps_failing_is_set_aside_and_others_go_on() {
    for (how, why) in [("panics", "panicked"), ("ends", "without being asked"), ("fails", "the network is gone")] {
        let supervisor = supervisor(&Behind::new());
        supervisor.start(prepared(how));
        let state = until(&supervisor, |state| matches!(state, State::Broken { .. })).await;
        assert!(format!("{state:?}").contains(why), "{state:?}");
        assert_eq!(supervisor.status()[0].restarts, 2);
        supervisor.stop_all().await;
    }
}

/// By the test's clock: pauses double up to the longest, then the breaker opens; one try after its pause opens it again or, when
/// the bridge lives on, closes it.
#[tokio::test(start_paused = true)]
async fn pauses_grow_and_the_breaker_opens_and_closes() {
    let seconds = Duration::from_secs;
    let policy = RestartPolicy {
        first: seconds(1),
        longest: seconds(3),
        failures: 5,
        broken: seconds(300),
        healthy: seconds(60),
        stop: seconds(10),
    };
    let supervisor = Supervisor::new(Behind::new(), Arc::new(Sockets::new()), policy);
    FAILURES_LEFT.store(7, Ordering::SeqCst);
    supervisor.start(prepared("recovers"));
    let mut seen = Vec::new();
    loop {
        let status = supervisor.status().remove(0);
        let now = match &status.state {
            State::Failed { pause, why } | State::Broken { pause, why } => {
                assert!(why.contains("not there yet") && status.last_failure.as_ref() == Some(why), "{status:?}");
                (status.failures, *pause, status.breaker)
            }
            _ => (status.failures, 0, status.breaker),
        };
        if now.1 > 0 && seen.last() != Some(&now) {
            seen.push(now);
        }
        if status.state == State::Ready {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let closed = |failures, pause| (failures, pause, Breaker::Closed);
    let open = |failures| (failures, 300, Breaker::Open);
    assert_eq!(seen, [closed(1, 1), closed(2, 2), closed(3, 3), closed(4, 3), open(5), open(6), open(7)]);
    let status = || supervisor.status().remove(0);
    assert_eq!((status().breaker, status().failures, status().restarts), (Breaker::HalfOpen, 7, 7));
    tokio::time::sleep(seconds(61)).await;
    assert_eq!((status().breaker, status().failures), (Breaker::Closed, 0), "it lives on");
    assert!(status().last_failure.is_some(), "which is still told");
    supervisor.stop_all().await;
}

#[tokio::test]
async fn a_bridge_that_does_not_stop_is_cut_off() {
    let supervisor = supervisor(&Behind::new());
    supervisor.start(prepared("hangs"));
    assert!(supervisor.settled(PATIENCE).await);
    tokio::time::timeout(PATIENCE, supervisor.stop_all()).await.expect("stopping ends");
}

#[tokio::test]
async fn what_a_bridge_left_behind_can_call_nothing() {
    let behind = Behind::new();
    let supervisor = supervisor(&behind);
    supervisor.start(prepared("lingers"));
    assert!(supervisor.settled(PATIENCE).await);
    let host = LINGERING.lock().unwrap().take().unwrap();
    assert!(host.accept(vec![envelope()]).await[0].is_ok());
    supervisor.stop_all().await;
    let answers = host.accept(vec![envelope()]).await;
    assert_eq!(answers[0].as_ref().unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(behind.taken.lock().unwrap().len(), 1);
    host.stopped().await;
}

#[tokio::test]
async fn a_delivery_has_an_outcome_whatever_the_bridge_does() {
    let supervisor = supervisor(&Behind::new());
    supervisor.start(prepared("well"));
    assert!(supervisor.settled(PATIENCE).await);
    let in_time = i64::try_from(PATIENCE.as_millis()).unwrap();
    let job = |recipients: usize, time: i64| Delivery {
        deadline: Timestamp(Timestamp::now().0 + time),
        recipients: vec![recipient(); recipients],
        ..Delivery::of(&envelope(), Timestamp(0))
    };
    let outcomes = supervisor.deliver("odd", job(1, in_time)).await;
    assert_eq!(outcomes, [Outcome::Delivered { remote_id: None, dsn: false }]);
    for (recipients, why) in [(2, "failed inside"), (3, "in time"), (4, "wrong number")] {
        let attempt = supervisor.deliver("odd", job(recipients, in_time));
        let outcomes = if why == "in time" { tokio::join!(attempt, pass(PATIENCE)).0 } else { attempt.await };
        assert_eq!(outcomes.len(), recipients);
        let Outcome::Deferred { why: got, maybe_sent: true, .. } = &outcomes[0] else {
            panic!("{outcomes:?}");
        };
        assert!(got.contains(why), "{got}");
    }
    for (bridge, time, why) in [("nobody", in_time, "no bridge nobody"), ("odd", 0, "its time was over")] {
        let outcomes = supervisor.deliver(bridge, job(1, time)).await;
        let Outcome::Deferred { why: got, maybe_sent: false, .. } = &outcomes[0] else { panic!("{outcomes:?}") };
        assert!(got.contains(why), "{got}");
    }
    supervisor.stop_all().await;
}

#[tokio::test]
async fn only_what_changed_is_restarted() {
    let supervisor = supervisor(&Behind::new());
    supervisor.start(prepared("well"));
    assert!(supervisor.settled(PATIENCE).await);
    let address = supervisor.status()[0].listening[0].1;
    assert!(supervisor.reconcile(vec![prepared("well")]).await.is_empty());
    assert_eq!(supervisor.reconcile(vec![prepared("well, changed")]).await, ["odd"]);
    assert!(supervisor.settled(PATIENCE).await);
    assert_eq!(supervisor.status()[0].listening[0].1, address, "the socket stayed open");
    assert_eq!(supervisor.reconcile(vec![]).await, ["odd"]);
    assert!(std::net::TcpListener::bind(address).is_ok(), "the socket is closed");
}

/// Serves nobody; a test asks through its host.
struct Asker;

static ASKING: Mutex<Option<Arc<dyn Host>>> = Mutex::new(None);

#[async_trait]
impl Bridge for Asker {
    fn manifest() -> Manifest {
        Manifest {
            name: "asker".into(),
            version: "1".into(),
            summary: "Asks".into(),
            grants: vec![Grant::Query, Grant::Signal, Grant::Checkpoint, Grant::Access, Grant::Guests],
            delivers: vec![],
            config_schema: json!({}),
        }
    }
    fn build(_: Config) -> Result<Self, ConfigErrors> {
        Ok(Self)
    }
    async fn run(&self, host: Arc<dyn Host>) -> Result<(), Fatal> {
        *ASKING.lock().unwrap() = Some(Arc::clone(&host));
        host.health(Health::Ready);
        host.stopped().await;
        Ok(())
    }
    async fn deliver(&self, _: Arc<dyn Host>, _: Delivery) -> Vec<Outcome> {
        vec![]
    }
}

fn asker(grants: Option<Vec<Grant>>) -> Prepared {
    let settings = Settings { name: "asker".into(), grants, config: Config::new(json!({})), ..settings("") };
    Registry::new().link::<Asker>().prepare(settings).unwrap()
}

fn question(bridge: &str, name: &str) -> Question {
    let (bridge, name, asker) = (bridge.into(), name.into(), "liar".into());
    Question { bridge, asker, user: None, name, args: Vec::new() }
}

fn signal(name: &str) -> Signal {
    let to = SignalTo::User(UserId([1; 16]));
    Signal { to, bridge: "liar".into(), conversation: None, from: None, name: name.into(), args: Vec::new() }
}

/// One test, since the hosts that bridges hand out stand in one place.
#[tokio::test]
async fn bridges_ask_each_other_and_keep_things_within_their_grants() {
    let behind = Behind::new();
    let supervisor = supervisor(&behind);
    supervisor.start(prepared("hangs"));
    supervisor.start(asker(None));
    assert!(supervisor.settled(PATIENCE).await, "{:?}", supervisor.status());
    let host = ASKING.lock().unwrap().take().unwrap();
    let kind = |answer: Result<Answer, Error>| answer.map(|_| ()).unwrap_err().kind();

    let answer = host.query(question("odd", "who")).await.unwrap();
    assert_eq!(answer.rows, [["asker"]], "what the bridge wrote about itself is not believed");
    assert_eq!(kind(host.query(question("nobody", "who")).await), ErrorKind::NotFound);
    assert_eq!(kind(host.query(question("odd", "what")).await), ErrorKind::Invalid);
    assert_eq!(kind(host.query(question("odd", "much")).await), ErrorKind::TooLarge);
    assert_eq!(kind(host.query(question("odd", "panic")).await), ErrorKind::Unavailable);
    let (hung, ()) = tokio::join!(host.query(question("odd", "hang")), pass(PATIENCE));
    assert_eq!(kind(hung), ErrorKind::Unavailable);
    let large = Question { args: vec!["x".repeat(70_000)], ..question("odd", "who") };
    assert_eq!(kind(host.query(large).await), ErrorKind::TooLarge);

    let client = mesyx_sdk::ClientInfo { ip: [127, 0, 0, 1].into(), protocol: "irc".into(), tls: true };
    let ann = Credentials { name: "ann".into(), password: "secret".to_owned().into(), client };
    let session = host.login(ann).await.unwrap();
    let user = session.user().clone();
    let of_ann = || Question { user: Some(user.clone()), ..question("odd", "who") };
    assert!(host.query(of_ann()).await.is_ok());
    drop(session);
    assert_eq!(kind(host.query(of_ann()).await), ErrorKind::Forbidden, "the session is over");

    host.signal(signal("typing"));
    host.signal(signal("a name with blanks"));
    host.signal(Signal { args: vec!["x".repeat(2000)], ..signal("typing") });
    let heard: Vec<_> = behind.signals.lock().unwrap().iter().map(|s| (s.bridge.clone(), s.name.clone())).collect();
    assert_eq!(heard, [("asker".to_owned(), "typing".to_owned())]);

    host.set_checkpoint("a/1", Some("one".to_owned().into())).await.unwrap();
    assert_eq!(host.checkpoint("a/1").await.unwrap().unwrap().expose(), b"one");
    assert_eq!(host.checkpoints("a/").await.unwrap(), ["a/1"]);
    let too_large = host.set_checkpoint("b", Some(Secret::new(vec![0; 65_537]))).await;
    assert_eq!(too_large.unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(host.set_checkpoint("", None).await.unwrap_err().kind(), ErrorKind::TooLarge);
    assert!(host.guests().await.is_ok() && host.groups().await.is_ok());

    supervisor.stop("odd").await;
    assert_eq!(kind(host.query(question("odd", "who")).await), ErrorKind::NotFound);
    supervisor.stop("asker").await;
    supervisor.start(asker(Some(vec![])));
    assert!(supervisor.settled(PATIENCE).await);
    let host = ASKING.lock().unwrap().take().unwrap();
    assert_eq!(kind(host.query(question("odd", "who")).await), ErrorKind::NotGranted);
    assert_eq!(host.checkpoint("a/1").await.unwrap_err().kind(), ErrorKind::NotGranted);
    assert_eq!(host.checkpoints("").await.unwrap_err().kind(), ErrorKind::NotGranted);
    assert_eq!(host.set_checkpoint("a", None).await.unwrap_err().kind(), ErrorKind::NotGranted);
    assert_eq!(host.guests().await.unwrap_err().kind(), ErrorKind::NotGranted);
    assert_eq!(host.groups().await.unwrap_err().kind(), ErrorKind::NotGranted);
    host.signal(signal("typing"));
    assert_eq!(behind.signals.lock().unwrap().len(), 1);
    supervisor.stop_all().await;
}

#[test]
fn a_configuration_is_refused_with_every_reason() {
    let registry = Registry::new().link::<Odd>();
    let settings = Settings {
        run: serde_json::from_value(json!({ "remote": "127.0.0.1:0" })).unwrap(),
        grants: Some(vec![Grant::Access, Grant::Listen(25)]),
        config: Config::new(json!({ "how": "unbuildable" })),
        ..settings("")
    };
    let errors = registry.prepare(settings).unwrap_err();
    let paths: Vec<_> = errors.0.iter().map(|error| error.path.as_str()).collect();
    assert_eq!(paths, ["grants[0]", "how", "run.certificates"], "{errors}");
    let unlisted = Settings { grants: Some(vec![]), ..self::settings("well") };
    assert!(registry.prepare(unlisted).unwrap_err().to_string().contains("add \"listen:0\""));
    let nobody = Settings { name: "smpt".into(), ..self::settings("well") };
    assert!(registry.prepare(nobody).unwrap_err().to_string().contains("the bridges are: odd"));
}

/// Notes what is logged, each event with its fields in one line.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<String>>>);

impl tracing::field::Visit for Logged {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0.lock().unwrap().last_mut().unwrap().push_str(&format!("{}={value:?} ", field.name()));
    }
}

impl tracing::Subscriber for Logged {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        self.0.lock().unwrap().push(String::new());
        event.record(&mut self.clone());
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// Linked in. In the other ways, the tests of the whole program do the same.
#[tokio::test]
async fn what_was_not_granted_is_refused_and_logged_and_what_was_is_not() {
    let known = "nothing".parse::<Grant>().unwrap_err().to_string();
    for grant in grants::CALLS {
        assert!(known.contains(grant.split(':').next().unwrap()), "{grant}: {known}");
    }
    let listed = known.split_once("grants are ").unwrap().1.split([',', ' ']).filter(|word| word.len() > 3).count();
    assert_eq!(listed, grants::CALLS.len() + 1, "the table has every grant, with deliver: {known}");
    let all: Vec<&str> = grants::CALLS.into_iter().chain(["deliver"]).collect();
    // None, each alone, and all.
    let alone = all.iter().map(std::slice::from_ref);
    for given in [&[][..]].into_iter().chain(alone).chain([&all[..]]) {
        let logged = Logged::default();
        let _guard = tracing::subscriber::set_default(logged.clone());
        let record = tempfile::tempdir().unwrap();
        let file = record.path().join("record");
        let settings = Settings {
            name: "misbehaving".into(),
            grants: Some(given.iter().map(|grant| grant.parse().unwrap()).collect()),
            config: Config::new(json!({ "how": "asks", "record": file })),
            ..settings("")
        };
        let behind = Behind::new();
        let supervisor = supervisor(&behind);
        supervisor.start(Registry::new().link::<Misbehaving>().prepare(settings).unwrap());
        assert!(supervisor.settled(PATIENCE).await, "{:?}", supervisor.status());
        let end = std::time::Instant::now() + PATIENCE;
        let lines = loop {
            let lines = std::fs::read_to_string(&file).unwrap_or_default();
            if lines.ends_with("all asked\n") {
                break lines;
            }
            assert!(std::time::Instant::now() < end, "{lines}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        for (line, how) in lines.lines().filter_map(|line| line.split_once(' ').filter(|(_, how)| *how != "asked")) {
            assert_eq!(how, if given.contains(&line) { "allowed" } else { "refused" }, "{line} of {given:?}");
        }
        let kind = mesyx_sdk::AddressKind::Other(mesyx_sdk::NetworkName::new("misbehaving").unwrap());
        assert_eq!(supervisor.route(kind).is_some(), given.contains(&"deliver"));
        let job = Delivery::of(&envelope(), Timestamp(Timestamp::now().0 + 30_000));
        let outcome = supervisor.deliver("misbehaving", job).await.remove(0);
        let refused = matches!(&outcome, Outcome::Deferred { why, .. } if why.contains("was not granted 'deliver'"));
        assert_eq!(refused, !given.contains(&"deliver"), "{outcome:?}");
        let logged = logged.0.lock().unwrap().clone();
        for grant in &all {
            let refused = |line: &&String| line.contains("refused") && line.contains(&format!("grant=\"{grant}\""));
            assert_eq!(
                logged.iter().find(refused).is_none(),
                given.contains(grant),
                "{grant} of {given:?}: {logged:?}"
            );
        }
        assert_eq!(behind.taken.lock().unwrap().len(), usize::from(given.contains(&"accept")));
        assert_eq!(behind.signals.lock().unwrap().len(), usize::from(given.contains(&"signal")));
        supervisor.stop_all().await;
    }
}
