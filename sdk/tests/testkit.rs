//! The test kit can fail: for each sentence of the contract a bridge that breaks it, and is found out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use mesyx_sdk::testkit::{self, Acknowledges, Fate, Incoming, Manner, Must, Network, Reply, WrongConfig};
use mesyx_sdk::*;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The sentence that the bridge breaks, by its place in [`Must::ALL`]; none for a number beyond.
struct Toy<const BREAKS: usize> {
    settings: Settings,
    lives: AtomicUsize,
}

const GOOD: usize = usize::MAX;

const fn place(must: Must) -> usize {
    must as usize
}

#[derive(Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    listen: SocketAddr,
    server: SocketAddr,
    largest: u32,
    /// Senders are told nothing; what they write are lines of chat.
    quiet: bool,
    /// How many messages are being taken.
    #[serde(skip)]
    busy: Arc<AtomicUsize>,
}

static CALLS: AtomicUsize = AtomicUsize::new(0);
static LIVES: AtomicUsize = AtomicUsize::new(0);

impl<const BREAKS: usize> Toy<BREAKS> {
    fn breaks(must: Must) -> bool {
        place(must) == BREAKS
    }

    async fn serve(&self, host: &dyn Host, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let mut line = Vec::new();
            (&mut stream).take(u64::from(self.settings.largest)).read_until(b'\n', &mut line).await?;
            if !line.ends_with(b"\n") {
                return Ok(());
            }
            let text = match String::from_utf8(line) {
                Ok(text) => text,
                Err(error) if Self::breaks(Must::SurvivesGarbage) => panic!("{error}"),
                Err(_) => return Ok(()),
            };
            let answer = match text.trim_end().split(' ').collect::<Vec<_>>()[..] {
                ["login", name, password] => self.login(host, name, password).await,
                [to, text] if self.settings.quiet => {
                    self.settings.busy.fetch_add(1, Ordering::SeqCst);
                    self.take_line(host, to, text).await;
                    self.settings.busy.fetch_sub(1, Ordering::SeqCst);
                    continue;
                }
                [to, text] => {
                    if Self::breaks(Must::NoEarlyYes) {
                        stream.write_all(b"+\n").await?;
                    }
                    self.take(host, to, text).await
                }
                _ => '-',
            };
            stream.write_all(format!("{answer}\n").as_bytes()).await?;
        }
    }

    async fn take(&self, host: &dyn Host, to: &str, text: &str) -> char {
        let Ok(to) = to.parse::<Address>() else { return '-' };
        let reserved = host.budget().reserve(text.len());
        if reserved.is_none() && !Self::breaks(Must::BackPressure) {
            return '~';
        }
        let content = Content::from(format!("\r\n{text}\r\n").into_bytes());
        let mut batch = vec![memory::envelope(None, vec![to], content)];
        if Self::breaks(Must::TakesMessages) {
            batch.push(Envelope { id: MessageId::random(), ..batch[0].clone() });
        }
        match host.accept(batch).await.remove(0) {
            Ok(_) => '+',
            Err(error) if Self::breaks(Must::UnknownRefused) && error.kind() == ErrorKind::NotFound => '+',
            Err(_) if Self::breaks(Must::ErrorsTold) => '-',
            Err(error) if error.kind().is_temporary() => '~',
            Err(_) => '-',
        }
    }

    /// A line of chat, whose sender hears nothing: it waits for room, and is brought until it is taken or refused for good.
    async fn take_line(&self, host: &dyn Host, to: &str, text: &str) {
        let loses = Self::breaks(Must::ErrorsTold);
        let _reserved = loop {
            match host.budget().reserve(text.len()) {
                None if Self::breaks(Must::BackPressure) => break None,
                None if loses => return,
                None => tokio::time::sleep(Duration::from_millis(10)).await,
                some => break some,
            }
        };
        let misled = Self::breaks(Must::TakesMessages) && to.starts_with("ann");
        let mut user = if misled { "bob@example.org" } else { to };
        loop {
            let (from, to) = ("toy:someone".parse::<Address>().unwrap(), format!("mesyx:{user}").parse().unwrap());
            let (id, at) = (MessageId::random(), Timestamp::now());
            let headers = LineHeaders { id, from: from.clone(), nick: "someone".into(), to, at };
            let content = Line::say(text).to_content(&headers, host.domain()).unwrap();
            let mut envelope = memory::envelope(Some(from.clone()), vec![headers.to], content);
            (envelope.id, envelope.style, envelope.conversation) =
                (id, Style::Instant, Some(Conversation::Direct(from)));
            match host.accept(vec![envelope]).await.remove(0) {
                Err(error) if error.kind().is_temporary() && !loses => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) if error.kind() == ErrorKind::NotFound && Self::breaks(Must::UnknownRefused) => {
                    user = "ann@example.org";
                }
                _ => return,
            }
        }
    }

    async fn login(&self, host: &dyn Host, name: &str, password: &str) -> char {
        let client = ClientInfo { ip: [127, 0, 0, 1].into(), protocol: "toy".into(), tls: false };
        let password = Secret::from(password.to_owned());
        match host.login(Credentials { name: name.into(), password, client }).await {
            Ok(_) => '+',
            Err(error) if error.kind().is_temporary() && !Self::breaks(Must::LoginTold) => '~',
            Err(_) => '-',
        }
    }

    /// One recipient's turn.
    async fn bring(&self, to: &Address, content: &Content) -> Outcome {
        let text = String::from_utf8_lossy(content).trim_end().lines().last().unwrap_or_default().to_owned();
        let line = format!("{to} {text}\n");
        let line = if Self::breaks(Must::ArrivesOnce) { line.repeat(2) } else { line };
        let deferred = |maybe_sent| Outcome::Deferred {
            why: "the network is away".into(),
            retry_after: None,
            scope: DeferScope::Recipient,
            maybe_sent,
        };
        let server = self.settings.server;
        let attempt = async move {
            let Ok(mut stream) = TcpStream::connect(server).await else { return None };
            stream.write_all(line.as_bytes()).await.ok()?;
            stream.read_u8().await.ok()
        };
        match attempt.await {
            Some(b'+') => Outcome::Delivered { remote_id: None, dsn: false },
            Some(b'-') => Outcome::Failed { why: "refused".into() },
            Some(_) => {
                if Self::breaks(Must::NeverRetries) {
                    let (to, content) = (to.clone(), content.clone());
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_millis(300)).await;
                        let text = String::from_utf8_lossy(&content).trim_end().lines().last().unwrap().to_owned();
                        let mut stream = TcpStream::connect(server).await.unwrap();
                        stream.write_all(format!("{to} {text}\n").as_bytes()).await.unwrap();
                        let _ = stream.read_u8().await;
                    });
                }
                deferred(false)
            }
            None if Self::breaks(Must::LostLinkDefers) => Outcome::Failed { why: "lost".into() },
            None => deferred(true),
        }
    }
}

#[async_trait]
impl<const BREAKS: usize> Bridge for Toy<BREAKS> {
    fn manifest() -> Manifest {
        let name = if Self::breaks(Must::ManifestValid) { "Toy!" } else { "toy" };
        let call = CALLS.fetch_add(1, Ordering::SeqCst);
        let version = if Self::breaks(Must::ManifestSame) { format!("1.{call}") } else { "1".into() };
        let mut config_schema = config::schema::<Settings>();
        if Self::breaks(Must::SchemaOfObject) {
            config_schema["properties"]["largest"]["maximum"] = json!(10);
        }
        Manifest {
            name: name.into(),
            version,
            summary: "A network of lines.".into(),
            grants: vec![Grant::Accept, Grant::Deliver, Grant::Access, Grant::Listen(0)],
            delivers: if Self::breaks(Must::DeliversWithGrant) { vec![] } else { vec![AddressKind::Mail] },
            config_schema,
        }
    }

    fn build(config: Config) -> Result<Self, ConfigErrors> {
        if Self::breaks(Must::BuildPure) {
            std::fs::read("/proc/self/status").unwrap();
        }
        let lives = AtomicUsize::new(0);
        if Self::breaks(Must::SchemaAgrees) {
            let mut value = config.value().clone();
            value.as_object_mut().map(|table| table.remove("no such key"));
            let settings = serde_json::from_value(value).map_err(|error| {
                let mut errors = ConfigErrors::default();
                errors.push("", error.to_string(), "write it otherwise");
                errors
            })?;
            return Ok(Self { settings, lives });
        }
        let parsed = config.parse::<Settings>().map_err(|mut errors| {
            errors.0.truncate(if Self::breaks(Must::ErrorsAllAtOnce) { 1 } else { usize::MAX });
            errors
        });
        let settings = parsed?;
        let mut errors = ConfigErrors::default();
        if settings.largest < 100 {
            errors.push("largest", "it is under 100", "write 100 or more");
        }
        errors.or(Self { settings, lives })
    }

    async fn run(&self, host: Arc<dyn Host>) -> Result<(), Fatal> {
        self.lives.fetch_add(1, Ordering::SeqCst);
        if Self::breaks(Must::RunsAgain) && LIVES.fetch_add(1, Ordering::SeqCst) > 0 {
            return Err(Fatal::new("something of the last life is left"));
        }
        let spec = ListenSpec { name: "toy".into(), address: self.settings.listen };
        let listener = host.listen(&spec).await;
        if Self::breaks(Must::NoGrantNoPanic) && listener.is_err() {
            panic!("no grant");
        }
        let listener = TcpListener::from_std(listener.map_err(|error| Fatal::new(error.to_string()))?).unwrap();
        let address = listener.local_addr().unwrap();
        host.health(Health::Listening { name: spec.name, address });
        if Self::breaks(Must::BecomesReady) {
            return Ok(());
        }
        host.health(Health::Ready);
        if Self::breaks(Must::LeavesNothing) {
            tokio::spawn(std::future::pending::<()>());
        }
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                () = host.stopped() => break,
                Ok((stream, _)) = listener.accept() => {
                    // Served beside each other by a copy that knows the same.
                    let settings = self.settings.clone();
                    let (this, host) = (Self { settings, lives: AtomicUsize::new(1) }, Arc::clone(&host));
                    open.spawn(async move { this.serve(&*host, stream).await });
                }
                Some(ended) = open.join_next() => assert!(ended.is_ok(), "a connection failed"),
            }
        }
        if Self::breaks(Must::EndsInTime) && (!self.settings.quiet || self.settings.busy.load(Ordering::SeqCst) > 0) {
            return std::future::pending().await;
        }
        // What was begun may end; idle connections are cut.
        let _ = timeout(Duration::from_secs(1), async { while open.join_next().await.is_some() {} }).await;
        open.shutdown().await;
        self.lives.store(0, Ordering::SeqCst);
        Ok(())
    }

    async fn deliver(&self, _: Arc<dyn Host>, job: Delivery) -> Vec<Outcome> {
        if Self::breaks(Must::NullSender) {
            assert!(job.from.is_some());
        }
        // People of chat write to such a network.
        let of_chat = job.from.as_ref().is_none_or(|from| matches!(from, Address::Mesyx(_)));
        assert!(of_chat || !self.settings.quiet, "{:?}", job.from);
        if Self::breaks(Must::AfterStop) && self.lives.load(Ordering::SeqCst) == 0 {
            return Vec::new();
        }
        let left = Duration::from_millis(u64::try_from(job.deadline.0 - Timestamp::now().0).unwrap_or(0));
        let left = left.saturating_sub(Duration::from_secs(1));
        let left = if Self::breaks(Must::BeforeDeadline) { Duration::from_secs(3600) } else { left };
        let mut outcomes = Vec::new();
        for recipient in &job.recipients {
            let late = Outcome::Deferred {
                why: "the network does not answer".into(),
                retry_after: None,
                scope: DeferScope::Host,
                maybe_sent: true,
            };
            outcomes.push(timeout(left, self.bring(&recipient.address, &job.content)).await.unwrap_or(late));
        }
        if Self::breaks(Must::OutcomeEach) {
            outcomes.reverse();
        }
        outcomes
    }
}

/// The network of lines: a client for what comes in, and a server that takes what goes out.
struct Lines {
    server: SocketAddr,
    arrived: Arc<Mutex<Vec<String>>>,
    manner: Arc<Mutex<Manner>>,
    quiet: bool,
    _runtime: tokio::runtime::Runtime,
}

impl Lines {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let server = listener.local_addr().unwrap();
        let (arrived, manner) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Manner::Usual)));
        let (heard, now) = (Arc::clone(&arrived), Arc::clone(&manner));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (heard, now) = (Arc::clone(&heard), Arc::clone(&now));
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let mut line = String::new();
                    while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                        let manner = *now.lock().unwrap();
                        let answer = match manner {
                            Manner::Silent => std::future::pending().await,
                            Manner::HangsUp => return,
                            Manner::Obliging => b"+",
                            Manner::Usual if line.starts_with("gone") => b"-",
                            Manner::Usual if line.starts_with("later") => b"~",
                            Manner::Usual => b"+",
                        };
                        if answer == b"+" {
                            heard.lock().unwrap().push(line.clone());
                        }
                        line.clear();
                        if stream.write_all(answer).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { server, arrived, manner, quiet: false, _runtime: runtime }
    }

    /// The same, where senders are told nothing.
    fn quiet() -> Self {
        Self { quiet: true, ..Self::new() }
    }

    async fn say(&self, host: &MemoryHost, line: String) -> Reply {
        let Ok(mut stream) = TcpStream::connect(host.listening("toy").await).await else { return Reply::Nothing };
        let _ = stream.write_all(line.as_bytes()).await;
        match stream.read_u8().await {
            Ok(b'+') => Reply::Taken,
            Ok(b'~') => Reply::TryLater,
            Ok(b'-') => Reply::Refused,
            _ => Reply::Nothing,
        }
    }
}

#[async_trait]
impl Network for Lines {
    fn config(&self) -> serde_json::Value {
        json!({ "listen": "127.0.0.1:0", "server": self.server, "largest": 1000, "quiet": self.quiet })
    }
    fn acknowledges(&self) -> Acknowledges {
        if self.quiet { Acknowledges::Never } else { Acknowledges::Always }
    }
    fn wrong_configs(&self) -> Vec<WrongConfig> {
        let config = json!({ "listen": "127.0.0.1:0", "server": self.server, "largest": 1, "quiet": self.quiet });
        vec![WrongConfig { config, paths: vec!["largest".into()] }]
    }
    async fn send(&self, host: &MemoryHost, message: &Incoming) -> Reply {
        let line = format!("{} {}\n", message.to, message.text);
        if self.quiet {
            // A bridge that has ended tells nothing either.
            if let Ok(mut stream) = TcpStream::connect(host.listening("toy").await).await {
                let _ = stream.write_all(line.as_bytes()).await;
            }
            return Reply::Nothing;
        }
        self.say(host, line).await
    }
    async fn garbage(&self, host: &MemoryHost, bytes: &[u8]) {
        let Ok(mut stream) = TcpStream::connect(host.listening("toy").await).await else { return };
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    async fn log_in(&self, host: &MemoryHost, name: &str, password: &str) -> Option<Reply> {
        Some(self.say(host, format!("login {name} {password}\n")).await)
    }
    fn recipients(&self) -> Vec<(Address, Fate)> {
        let address = |name: &str| format!("{name}@example.net").parse().unwrap();
        vec![
            (address("cleo"), Fate::Taken),
            (address("gone"), Fate::Refused),
            (address("later"), Fate::Later),
            (address("dan"), Fate::Taken),
        ]
    }
    fn sender(&self) -> Option<Address> {
        let sender = if self.quiet { "mesyx:ann@example.org" } else { "ann@example.org" };
        sender.parse().ok()
    }
    async fn arrived(&self, marker: &str) -> usize {
        // What was sent twice takes a moment to be read twice.
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.arrived.lock().unwrap().iter().filter(|line| line.contains(marker)).count()
    }
    async fn behave(&self, manner: Manner) -> bool {
        *self.manner.lock().unwrap() = manner;
        true
    }
}

#[test]
fn a_good_bridge_keeps_every_sentence() {
    let report = testkit::check::<Toy<GOOD>>(&Lines::new());
    report.assert();
    for must in Must::ALL {
        assert_eq!(report.verdict(*must), testkit::Verdict::Held, "{must:?}");
    }
}

macro_rules! every_sentence {
    ($($must:ident $(and $more:ident)*,)*) => {
        /// With each sentence stand those that may fall with it. Beside each other, since most of the time is waiting.
        #[test]
        fn each_sentence_has_a_bridge_that_breaks_it_and_is_found_out() {
            assert_eq!(Must::ALL, [$(Must::$must),*]);
            let mut wrong = Vec::new();
            std::thread::scope(|scope| {
                let all = [$((
                    &[Must::$must $(, Must::$more)*][..],
                    scope.spawn(|| testkit::check::<Toy<{ place(Must::$must) }>>(&Lines::new())),
                )),*];
                for (wanted, checking) in all {
                    let report = checking.join().unwrap();
                    let broken: Vec<_> = report.broken().collect();
                    if !broken.contains(&wanted[0]) || broken.iter().any(|must| !wanted.contains(must)) {
                        wrong.push(format!("wanted {wanted:?}\n{report}"));
                    }
                }
            });
            assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        }
    };
}

every_sentence! {
    ManifestSame,
    ManifestValid,
    DeliversWithGrant,
    SchemaOfObject and ErrorsAllAtOnce,
    BuildPure,
    ErrorsAllAtOnce,
    SchemaAgrees and ErrorsAllAtOnce,
    BecomesReady,
    EndsInTime,
    LeavesNothing,
    RunsAgain and BecomesReady,
    NoGrantNoPanic,
    TakesMessages and ErrorsTold and BackPressure and SurvivesGarbage,
    NoEarlyYes and ErrorsTold and UnknownRefused,
    ErrorsTold,
    UnknownRefused,
    BackPressure,
    SurvivesGarbage and EndsInTime,
    LoginTold,
    OutcomeEach,
    ArrivesOnce and NeverRetries,
    BeforeDeadline,
    LostLinkDefers,
    NeverRetries and LeavesNothing,
    NullSender,
    AfterStop,
}

#[test]
fn a_good_bridge_of_a_network_that_tells_senders_nothing_keeps_every_sentence() {
    let report = testkit::check::<Toy<GOOD>>(&Lines::quiet());
    report.assert();
    for must in Must::ALL.iter().filter(|must| **must != Must::NoEarlyYes) {
        assert_eq!(report.verdict(*must), testkit::Verdict::Held, "{must:?}");
    }
}

macro_rules! sentences_of_quiet_networks {
    ($($must:ident $(and $more:ident)*,)*) => {
        #[test]
        fn a_bridge_of_a_network_that_tells_senders_nothing_is_found_out() {
            std::thread::scope(|scope| {
                let all = [$((
                    &[Must::$must $(, Must::$more)*][..],
                    scope.spawn(|| testkit::check::<Toy<{ place(Must::$must) }>>(&Lines::quiet())),
                )),*];
                for (wanted, checking) in all {
                    let report = checking.join().unwrap();
                    let mut broken: Vec<_> = report.broken().collect();
                    broken.sort_by_key(|must| *must != wanted[0]);
                    assert_eq!(broken, wanted, "{report}");
                }
            });
        }
    };
}

// To somebody else; taken for lack of an address by anybody; taken without room; lost where there is no room, or no store; never at an
// end while a line is with the host; broken by bytes.
sentences_of_quiet_networks! {
    TakesMessages,
    UnknownRefused,
    BackPressure,
    ErrorsTold and BackPressure,
    EndsInTime,
    SurvivesGarbage and EndsInTime,
}
