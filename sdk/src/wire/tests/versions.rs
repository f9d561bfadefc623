//! Older and newer peers, both ways round.

use super::super::client::Connection;
use super::super::host::{Limits, RemoteBridge};
use super::super::status::from_status;
use super::super::{serve_bridge_unix, v1};
use super::stage::{PATIENCE, Puppet, by_hand, hello};
use crate::{Error, ErrorKind, Fatal, Kind, Outcome};
use prost::Message;
use std::sync::Mutex;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use v1::event::Event;

/// A delivery as an older version of the protocol might have had it.
#[derive(Clone, PartialEq, Message)]
struct OldDeliver {
    #[prost(uint64, tag = "1")]
    job: u64,
    #[prost(bytes = "vec", tag = "2")]
    id: Vec<u8>,
    #[prost(message, repeated, tag = "4")]
    recipients: Vec<OldRecipient>,
    #[prost(uint64, tag = "7")]
    size: u64,
}

#[derive(Clone, PartialEq, Message)]
struct OldRecipient {
    #[prost(string, tag = "1")]
    address: String,
}

/// An introduction as a newer version might have it.
#[derive(Clone, PartialEq, Message)]
struct NewHello {
    #[prost(uint32, tag = "1")]
    minor: u32,
    #[prost(string, repeated, tag = "2")]
    features: Vec<String>,
    #[prost(bytes = "vec", tag = "4")]
    token: Vec<u8>,
    #[prost(string, tag = "5")]
    manifest: String,
    #[prost(string, tag = "77")]
    hat: String,
    #[prost(message, optional, tag = "78")]
    coat: Option<OldDeliver>,
}

#[test]
fn fewer_and_more_fields_are_read() {
    let old = OldDeliver {
        job: 7,
        id: vec![1; 16],
        recipients: vec![OldRecipient { address: "a@b.example".into() }],
        size: 0,
    };
    let read = v1::Deliver::decode(old.encode_to_vec().as_slice()).unwrap();
    assert!((read.job, &read.from, &read.dsn) == (7, &None, &None));
    let delivery = super::super::convert::delivery(read.clone(), crate::Content::default()).ok().unwrap();
    assert_eq!(delivery.recipients[0].address.to_string(), "a@b.example");
    let newer = v1::Deliver { from: Some("c@d.example".into()), deadline: 5, body: vec![1, 2].into(), ..read };
    assert!(OldDeliver::decode(newer.encode_to_vec().as_slice()).unwrap() == old);
}

#[test]
fn unknown_values_are_what_the_protocol_says() {
    let envelope = crate::memory::envelope(None, vec!["a@b.example".parse().unwrap()], crate::Content::default());
    let wire = <v1::Envelope as From<_>>::from(&envelope);
    let read = |wire: v1::Envelope| super::super::convert::envelope(wire, crate::Content::default());
    assert_eq!(read(v1::Envelope { kind: 99, ..wire.clone() }).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(read(v1::Envelope { style: -1, ..wire.clone() }).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(read(v1::Envelope { kind: 0, ..wire.clone() }).unwrap().kind, Kind::Message);
    assert_eq!(read(v1::Envelope { importance: 99, ..wire }).unwrap().importance, crate::Importance::Normal);
    assert!(matches!(v1::Outcome { outcome: None }.into(), Outcome::Deferred { maybe_sent: true, .. }));
    let status = crate::RecipientStatus::from(v1::RecipientReply { status: 42, why: String::new() });
    assert_eq!(status, crate::RecipientStatus::Foreign);
    assert_eq!(crate::Change::try_from(v1::Change { change: None }), Ok(crate::Change::Lagged));
    let unknown =
        super::super::status::told(&v1::Error { kind: "tired".into(), message: "x".into(), retry_after_ms: None });
    assert_eq!(unknown, Error::new(ErrorKind::Unavailable, "x"));
    for (code, kind) in [
        (tonic::Code::Unimplemented, ErrorKind::Unavailable),
        (tonic::Code::PermissionDenied, ErrorKind::Forbidden),
        (tonic::Code::ResourceExhausted, ErrorKind::Full),
        (tonic::Code::Aborted, ErrorKind::Unavailable),
    ] {
        assert_eq!(from_status(&Status::new(code, "x")).kind(), kind);
    }
}

#[tokio::test]
async fn a_newer_bridge_meets_this_host() {
    let newer = NewHello {
        minor: 9,
        features: vec!["teleport".into(), "descriptors".into()],
        token: b"token".to_vec(),
        manifest: hello("").manifest.replacen('{', "{\"colour\": \"red\",", 1),
        hat: "green".into(),
        coat: Some(OldDeliver::default()),
    };
    let (connection, bridge) = by_hand(Limits::default(), "token").await;
    let hello = v1::Hello::decode(newer.encode_to_vec().as_slice()).unwrap();
    let mut events = connection.life().live(hello).await.unwrap().into_inner();
    let Some(Event::Welcome(welcome)) = events.message().await.unwrap().unwrap().event else { panic!() };
    assert_eq!((welcome.minor, welcome.features), (0, vec!["descriptors".to_owned()]));
    let bridge: RemoteBridge = bridge.await.unwrap().unwrap();
    assert_eq!(bridge.minor(), 0);
    // A call that is not there.
    let path = http::uri::PathAndQuery::from_static("/mesyx.bridge.v1.Host/Teleport");
    let missing = call(&connection, path).await.map(drop).unwrap_err();
    assert_eq!(missing.code(), tonic::Code::Unimplemented);
    assert_eq!(from_status(&missing).kind(), ErrorKind::Unavailable);
}

/// An introduction as an older version might have had it: no features, no name of a library.
#[derive(Clone, PartialEq, Message)]
struct OldHello {
    #[prost(bytes = "vec", tag = "4")]
    token: Vec<u8>,
    #[prost(string, tag = "5")]
    manifest: String,
}

/// A welcome as an older version might have had it: without limits.
#[derive(Clone, PartialEq, Message)]
struct OldWelcome {
    #[prost(uint32, tag = "1")]
    minor: u32,
}

#[tokio::test]
async fn an_older_bridge_meets_this_host() {
    let host = crate::MemoryHost::new("example.org".parse().unwrap());
    let old = OldHello { token: b"token".to_vec(), manifest: hello("").manifest };
    let (connection, bridge) = by_hand(Limits::default(), "token").await;
    let hello = v1::Hello::decode(old.encode_to_vec().as_slice()).unwrap();
    let mut events = connection.life().live(hello).await.unwrap().into_inner();
    let Some(Event::Welcome(welcome)) = events.message().await.unwrap().unwrap().event else { panic!() };
    assert_eq!(OldWelcome::decode(welcome.encode_to_vec().as_slice()).unwrap(), OldWelcome { minor: 0 });
    assert!(welcome.features.is_empty(), "what it did not list is not used");
    let bridge: RemoteBridge = bridge.await.unwrap().unwrap();
    let run = tokio::spawn({
        let (bridge, host) = (bridge.clone(), host.clone());
        async move { bridge.run(std::sync::Arc::new(host), &[crate::Grant::Listen(0)]).await }
    });
    assert!(matches!(events.message().await.unwrap().unwrap().event, Some(Event::Run(_))));
    // Without the feature, it is told where to bind.
    let spec = v1::ListenSpec { name: "mx".into(), address: "127.0.0.1:0".into() };
    let reply = connection.host_for_tests().listen(v1::ListenRequest { spec: Some(spec) }).await.unwrap().into_inner();
    assert_eq!((reply.address.as_str(), reply.descriptor), ("127.0.0.1:0", false));
    // It says nothing to the log, and ends as it always did.
    // The connection may be closed before this is answered.
    let _ = connection.life().ended(v1::EndedRequest { fatal: None }).await;
    assert_eq!(timeout(PATIENCE, run).await.unwrap().unwrap(), Ok(()));
}

async fn call(connection: &Connection, path: http::uri::PathAndQuery) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(connection.channel_for_tests());
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<v1::PingRequest, v1::PingReply>::default();
    grpc.unary(Request::new(v1::PingRequest {}), path, codec).await.map(drop)
}

/// A host of another version: what it says, and what it is told.
struct OtherHost {
    events: Mutex<Option<mpsc::Receiver<Result<v1::Event, Status>>>>,
    told: mpsc::Sender<String>,
}

#[tonic::async_trait]
impl v1::life_server::Life for OtherHost {
    type LiveStream = ReceiverStream<Result<v1::Event, Status>>;
    type BodyStream = tokio_stream::Empty<Result<v1::Chunk, Status>>;

    async fn live(&self, request: Request<v1::Hello>) -> Result<Response<Self::LiveStream>, Status> {
        let hello = request.into_inner();
        self.told.send(format!("hello {}", hello.minor)).await.unwrap();
        Ok(Response::new(ReceiverStream::new(self.events.lock().unwrap().take().unwrap())))
    }

    async fn built(&self, request: Request<v1::BuiltRequest>) -> Result<Response<v1::BuiltReply>, Status> {
        self.told.send(format!("built {}", request.into_inner().errors.len())).await.unwrap();
        Ok(Response::new(v1::BuiltReply {}))
    }

    async fn body(&self, _: Request<v1::BodyRequest>) -> Result<Response<Self::BodyStream>, Status> {
        Err(Status::unimplemented("an older host"))
    }

    async fn outcomes(&self, request: Request<v1::OutcomesRequest>) -> Result<Response<v1::OutcomesReply>, Status> {
        for outcome in request.into_inner().outcomes {
            self.told.send(format!("{:?}", Outcome::from(outcome))).await.unwrap();
        }
        Ok(Response::new(v1::OutcomesReply {}))
    }

    async fn answered(&self, _: Request<v1::AnsweredRequest>) -> Result<Response<v1::AnsweredReply>, Status> {
        Err(Status::unimplemented("an older host"))
    }

    async fn ended(&self, request: Request<v1::EndedRequest>) -> Result<Response<v1::EndedReply>, Status> {
        self.told.send(format!("ended {:?}", request.into_inner().fatal)).await.unwrap();
        Ok(Response::new(v1::EndedReply {}))
    }

    async fn log(&self, _: Request<v1::LogRequest>) -> Result<Response<v1::LogReply>, Status> {
        Err(Status::unimplemented("an older host"))
    }

    async fn ping(&self, _: Request<v1::PingRequest>) -> Result<Response<v1::PingReply>, Status> {
        Err(Status::unimplemented("an older host"))
    }
}

/// A bridge against a host of another version.
async fn against(events: Vec<v1::Event>) -> (Result<(), Fatal>, Vec<String>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (say, said) = mpsc::channel(100);
    let (told, mut hear) = mpsc::channel(100);
    let host = OtherHost { events: Mutex::new(Some(said)), told };
    let line = super::super::host::line_for_tests(ours);
    let server = tonic::transport::Server::builder();
    let service = v1::life_server::LifeServer::new(host);
    tokio::spawn(server.serve_with_incoming(service, tokio_stream::once(Ok::<_, std::io::Error>(line))));
    for event in events {
        say.send(Ok(event)).await.unwrap();
    }
    let theirs = theirs.into_std().unwrap();
    let ended = timeout(PATIENCE, serve_bridge_unix::<Puppet>(theirs, None)).await.unwrap();
    let mut all = Vec::new();
    while let Ok(told) = hear.try_recv() {
        all.push(told);
    }
    (ended, all)
}

fn event(event: Event) -> v1::Event {
    v1::Event { event: Some(event) }
}

#[tokio::test]
async fn this_bridge_meets_a_newer_host() {
    let run = v1::Run {
        granted: vec!["teleport".into()],
        hostname: "h".into(),
        domain: "example.org".into(),
        budget: 1 << 20,
    };
    let (ended, told) = against(vec![
        event(Event::Welcome(v1::Welcome { minor: 3, features: vec!["teleport".into()], ..Default::default() })),
        // Of a sort that is not known here.
        v1::Event { event: None },
        event(Event::Build(v1::Build { config: r#"{"test": "x", "run": "quit"}"#.into() })),
        v1::Event { event: None },
        event(Event::Run(run)),
    ])
    .await;
    assert_eq!((ended, told), (Ok(()), vec!["hello 0".into(), "built 0".into(), "ended None".into()]));
}

#[tokio::test]
async fn this_bridge_meets_an_older_host() {
    let deliver = v1::Deliver {
        job: 5,
        id: vec![1; 16],
        recipients: vec![v1::Recipient { address: "a@b.example".into(), ..Default::default() }],
        deadline: i64::MAX,
        size: 100_000,
        ..Default::default()
    };
    let (ended, told) = against(vec![
        event(Event::Welcome(v1::Welcome::default())),
        event(Event::Build(v1::Build { config: r#"{"test": "x"}"#.into() })),
        event(Event::Deliver(deliver)),
        event(Event::Stop(v1::Stop {})),
    ])
    .await;
    assert_eq!(ended, Ok(()));
    assert_eq!(
        (&told[0], &told[1], told.last().unwrap()),
        (&"hello 0".into(), &"built 0".into(), &"ended None".into())
    );
    // Delivered before it runs, and with a body that this host can't give: not sent, in any case.
    assert!(told[2].contains("maybe_sent: false"), "{told:?}");
    let (ended, _) = against(vec![event(Event::Stop(v1::Stop {}))]).await;
    assert!(ended.unwrap_err().to_string().contains("did not welcome"));
}
