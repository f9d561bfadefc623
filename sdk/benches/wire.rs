//! What the wire protocol costs over a socketpair: `cargo bench -p mesyx-sdk --features wire-host`.
//!
//! - `empty call`: the round trip of a call that does nothing;
//! - `accept 4 KiB`: messages brought one at a time, and 16 at a time, to a host that seals and stores nothing, linked in and through the
//!   protocol. The difference is the price of a message; sealing and syncing to disk come on top of both alike.
#![allow(missing_docs, clippy::unwrap_used)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mesyx_sdk::wire::client::Connection;
use mesyx_sdk::wire::host::{Admission, Limits, RemoteBridge};
use mesyx_sdk::wire::{client::RemoteHost, v1};
use mesyx_sdk::*;
use std::sync::Arc;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// A host that takes everything and keeps nothing.
struct Sink(MemoryHost);

#[async_trait]
impl Host for Sink {
    async fn accept(&self, batch: Vec<Envelope>) -> Vec<Result<Accepted, Error>> {
        batch.iter().map(|envelope| Ok(Accepted { id: envelope.id, duplicate: false })).collect()
    }
    async fn recipient(&self, address: &Address, sender: &Sender) -> Result<RecipientStatus, Error> {
        self.0.recipient(address, sender).await
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
    async fn listen(&self, spec: &ListenSpec) -> Result<std::net::TcpListener, Error> {
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

/// Both ends in one program, each with threads of its own, as a library has them.
fn connected(host: Arc<dyn Host>, here: &Runtime, there: &Runtime) -> (Connection, Arc<dyn Host>) {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    for end in [&ours, &theirs] {
        end.set_nonblocking(true).unwrap();
    }
    here.spawn(async move {
        let ours = UnixStream::from_std(ours).unwrap();
        let bridge = RemoteBridge::connect_unix(ours, Admission::default(), Limits::default()).await.unwrap();
        // It ends with the program, which tells nobody that it stops.
        let _ = bridge.run(host, &[Grant::Accept]).await;
    });
    there.block_on(async {
        let connection = Connection::over_unix(UnixStream::from_std(theirs).unwrap()).await.unwrap();
        let manifest = Manifest {
            name: "bench".into(),
            version: "1".into(),
            summary: String::new(),
            grants: vec![],
            delivers: vec![],
            config_schema: serde_json::json!({}),
        };
        let hello = v1::Hello { manifest: manifest.to_json(), ..Default::default() };
        let mut events = connection.life().live(hello).await.unwrap().into_inner();
        let mut welcome = v1::Welcome::default();
        loop {
            match events.message().await.unwrap().unwrap().event {
                Some(v1::event::Event::Welcome(told)) => welcome = told,
                Some(v1::event::Event::Run(run)) => {
                    let (stop, stopping) = watch::channel(false);
                    let host = RemoteHost::new(connection.clone(), &welcome, run, stopping).await.unwrap();
                    tokio::spawn(async move {
                        while let Ok(Some(_)) = events.message().await {}
                        stop.send_replace(true);
                    });
                    return (connection, Arc::new(host) as Arc<dyn Host>);
                }
                _ => {}
            }
        }
    })
}

fn message() -> Envelope {
    let content = Content::from(vec![b'x'; 4096]);
    memory::envelope(Some("bob@example.net".parse().unwrap()), vec!["ann@example.org".parse().unwrap()], content)
}

async fn accept(host: &Arc<dyn Host>, times: u64, side_by_side: u64) {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..side_by_side {
        let host = Arc::clone(host);
        tasks.spawn(async move {
            for _ in 0..times.div_ceil(side_by_side) {
                assert!(host.accept(vec![message()]).await[0].is_ok());
            }
        });
    }
    tasks.join_all().await;
}

fn wire(criterion: &mut Criterion) {
    let (here, there) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let memory = MemoryHost::new("example.org".parse().unwrap());
    let linked: Arc<dyn Host> = Arc::new(Sink(memory));
    let (connection, remote) = connected(Arc::clone(&linked), &here, &there);
    criterion.bench_function("empty call", |bencher| {
        let mut life = connection.life();
        bencher.iter(|| there.block_on(life.ping(v1::PingRequest {})).unwrap());
    });
    let mut group = criterion.benchmark_group("accept 4 KiB");
    group.throughput(Throughput::Elements(1));
    for (name, host) in [("linked in", &linked), ("socketpair", &remote)] {
        for side_by_side in [1, 16] {
            group.bench_function(format!("{name}, {side_by_side} at a time"), |bencher| {
                bencher.iter_custom(|times| {
                    let began = std::time::Instant::now();
                    there.block_on(accept(host, times, side_by_side));
                    began.elapsed()
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, wire);
criterion_main!(benches);
