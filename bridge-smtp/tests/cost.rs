//! What a message and a silent connection cost. Run by hand: `cargo test -p mesyx-bridge-smtp --test cost -- --ignored --nocapture`
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use mesyx_bridge_smtp::Smtp;
use mesyx_bridge_smtp::proto::{Role, simulate};
use mesyx_sdk::{
    Accepted, Address, Bridge, ByteBudget, Certificates, Config, Credentials, Domain, Envelope, Error, Health, Host,
    ListenSpec, MemoryHost, RecipientStatus, Secret, Sender, Session, async_trait,
};
use serde_json::json;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Instant;
use support::Client;
use tokio::net::TcpStream;
use tokio::sync::watch;

/// Takes every message and keeps none.
struct Swallow(MemoryHost);

#[async_trait]
impl Host for Swallow {
    async fn accept(&self, batch: Vec<Envelope>) -> Vec<Result<Accepted, Error>> {
        batch.iter().map(|envelope| Ok(Accepted { id: envelope.id, duplicate: false })).collect()
    }

    async fn recipient(&self, _address: &Address, _sender: &Sender) -> Result<RecipientStatus, Error> {
        Ok(RecipientStatus::Local)
    }

    async fn login(&self, credentials: Credentials) -> Result<Arc<dyn Session>, Error> {
        self.0.login(credentials).await
    }

    fn certificates(&self) -> Result<watch::Receiver<Arc<Certificates>>, Error> {
        self.0.certificates()
    }

    async fn secret(&self, name: &str) -> Result<Secret, Error> {
        self.0.secret(name).await
    }

    async fn listen(&self, spec: &ListenSpec) -> Result<TcpListener, Error> {
        self.0.listen(spec).await
    }

    fn budget(&self) -> &ByteBudget {
        self.0.budget()
    }

    fn hostname(&self) -> &str {
        self.0.hostname()
    }

    fn domain(&self) -> &Domain {
        self.0.domain()
    }

    fn health(&self, health: Health) {
        self.0.health(health);
    }

    async fn stopped(&self) {
        self.0.stopped().await;
    }
}

fn message(bytes: usize) -> String {
    let line = "0123456789012345678901234567890123456789012345678901234567890123456789\r\n";
    format!(
        "Subject: x\r\nMessage-ID: <1@example.net>\r\nFrom: a@example.net\r\n\r\n{}",
        line.repeat(bytes / line.len())
    )
}

/// Seconds of processor time of this process, user and system.
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4
}

#[test]
#[ignore = "a measurement"]
fn the_session_alone() {
    for bytes in [4096, 65536] {
        let mut settings = simulate::settings(Role::Mx);
        Arc::get_mut(&mut settings).unwrap().limits.message_size = 1 << 20;
        let one = format!("MAIL FROM:<a@b.org>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n{}.\r\n", message(bytes));
        let text = format!("EHLO p\r\n{}", one.repeat(1000));
        let pieces: Vec<_> = text.as_bytes().chunks(4096).collect();
        let start = processor();
        for _ in 0..10 {
            assert_eq!(simulate::converse(&settings, &pieces).taken.len(), 1000);
        }
        println!("{bytes} bytes: {:.1} us of processor a message", (processor() - start) / 10_000.0 * 1e6);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn over_sockets() {
    const CONNECTIONS: usize = 32;
    const EACH: usize = 500;
    let host = support::host();
    let config = json!({ "listeners": [{ "name": "mx", "address": "127.0.0.1:0" }] });
    let bridge = Smtp::build(Config::new(config)).unwrap();
    let swallow: Arc<dyn Host> = Arc::new(Swallow(host.clone()));
    tokio::spawn(async move { bridge.run(swallow).await });
    let address = host.listening("mx").await;
    let (start, cpu) = (Instant::now(), processor());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        tasks.spawn(async move {
            let mut client = Client(TcpStream::connect(address).await.unwrap());
            client.0.set_nodelay(true).unwrap();
            client.greet().await;
            let body = message(4096);
            for _ in 0..EACH {
                assert_eq!(client.deliver("a@example.net", &body).await, 250);
            }
        });
    }
    while tasks.join_next().await.is_some() {}
    let count = (CONNECTIONS * EACH) as f64;
    let (wall, cpu) = (start.elapsed().as_secs_f64(), processor() - cpu);
    println!(
        "{:.0} messages/s, {:.0} us of processor each, the client's byte-wise reading included",
        count / wall,
        cpu / count * 1e6
    );
}

#[tokio::test]
#[ignore = "a measurement"]
async fn silent_connections() {
    let running = support::Running::smtp(json!({ "listeners": [{ "name": "mx", "address": "127.0.0.1:0" }] }));
    let mut clients = Vec::new();
    let before = resident();
    for _ in 0..450 {
        let mut client = running.connect("mx").await;
        client.greet().await;
        clients.push(client);
    }
    println!("{:.1} KiB resident a connection, both ends", (resident() - before) as f64 / 450.0);
    let before = resident();
    let mut protected = Vec::new();
    for mut client in clients.drain(..) {
        assert_eq!(client.say("STARTTLS").await, 220);
        protected.push(running.tls(client.0).await.unwrap());
    }
    println!("{:.1} KiB more under TLS, both ends", (resident() - before) as f64 / 450.0);
}
