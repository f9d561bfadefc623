//! What a broken or malicious bridge may do: it hurts itself, and is told why.

use super::super::client::Connection;
use super::super::host::{Admission, Limits, RemoteBridge};
use super::super::status::from_status;
use super::super::{status, v1};
use super::stage::{PATIENCE, by_hand, hello, introduced, pass};
use crate::{Content, Delivery, Dsn, ErrorKind, Grant, Host, MemoryHost, MessageId, Outcome, Recipient, Timestamp};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::transport::Channel;
use v1::host_client::HostClient;

fn host() -> MemoryHost {
    let host = MemoryHost::with_budget("example.org".parse().unwrap(), 8 << 20);
    host.add_user("ann", "secret").unwrap();
    host
}

fn client(connection: &Connection) -> HostClient<Channel> {
    connection.host_for_tests()
}

fn head(size: u64, body: &[u8]) -> v1::Upload {
    let envelope = crate::memory::envelope(None, vec!["ann@example.org".parse().unwrap()], Content::default());
    let envelope = v1::Envelope { size, body: Bytes::copy_from_slice(body), ..(&envelope).into() };
    v1::Upload { part: Some(v1::upload::Part::Envelope(envelope)) }
}

fn chunk(size: usize) -> v1::Upload {
    v1::Upload { part: Some(v1::upload::Part::Chunk(vec![b'x'; size].into())) }
}

fn job(to: &str, content: Vec<u8>, deadline: Duration) -> Delivery {
    Delivery {
        id: MessageId::random(),
        from: None,
        recipients: vec![Recipient::new(to.parse().unwrap())],
        dsn: Dsn::default(),
        deadline: Timestamp(Timestamp::now().0 + i64::try_from(deadline.as_millis()).unwrap()),
        content: Content::from(content),
    }
}

#[tokio::test]
async fn nobody_comes_in_without_the_token_or_under_another_name() {
    for (spoil, why) in [
        ((|hello| hello.token = b"wrong".to_vec()) as fn(&mut v1::Hello), "wrong one"),
        (|hello| hello.token.clear(), "no token"),
        (|hello| hello.manifest = hello.manifest.replace("puppet", "other"), "not of 'puppet'"),
        (|hello| hello.manifest = "{".into(), "can't be read"),
        (|hello| hello.manifest = hello.manifest.replace("accept", "everything"), "'everything' is no grant"),
    ] {
        let (connection, bridge) = by_hand(Limits::default(), "token").await;
        let early = connection.life().ping(v1::PingRequest {}).await.map(drop).unwrap_err();
        assert_eq!(early.code(), tonic::Code::Unauthenticated);
        assert_eq!(
            client(&connection).secret(v1::SecretRequest::default()).await.map(drop).unwrap_err().code(),
            early.code()
        );
        let mut wrong = hello("token");
        spoil(&mut wrong);
        let refused = connection.life().live(wrong).await.map(drop).unwrap_err();
        assert!(refused.code() == tonic::Code::Unauthenticated && refused.message().contains(why), "{refused}");
        let fatal = timeout(PATIENCE, bridge).await.unwrap().unwrap().unwrap_err();
        assert!(fatal.to_string().contains(why), "{fatal}");
        // The connection is closed by that.
        let gone = async {
            while connection.life().ping(v1::PingRequest {}).await.map(drop).unwrap_err().code()
                != tonic::Code::Unavailable
            {}
        };
        timeout(PATIENCE, gone).await.unwrap();
    }
}

#[tokio::test]
async fn who_says_nothing_or_nonsense_is_cut_off() {
    let limits = Limits { hello: Duration::from_millis(200), ..Limits::default() };
    let (silent, _theirs) = UnixStream::pair().unwrap();
    let silent = RemoteBridge::connect_unix(silent, Admission::default(), limits.clone());
    let fatal = timeout(PATIENCE, silent).await.unwrap().unwrap_err();
    assert!(fatal.to_string().contains("did not introduce itself"), "{fatal}");
    for nonsense in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        &[0; 5000],
    ] {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let bridge = tokio::spawn(RemoteBridge::connect_unix(ours, Admission::default(), limits.clone()));
        // It fails where the host has given up already.
        let _ = theirs.write_all(nonsense).await;
        let fatal = timeout(PATIENCE, bridge).await.unwrap().unwrap().unwrap_err();
        let fatal = fatal.to_string();
        assert!(fatal.contains("closed the connection") || fatal.contains("did not introduce itself"), "{fatal}");
        let mut rest = Vec::new();
        // It ends, with or without an error.
        let _ = timeout(PATIENCE, theirs.read_to_end(&mut rest)).await.unwrap();
    }
}

#[tokio::test]
async fn a_second_introduction_is_refused() {
    let (connection, _bridge, _run, _events) = introduced(&host(), Limits::default()).await;
    let again = connection.life().live(hello("token")).await.map(drop).unwrap_err();
    assert_eq!(from_status(&again).kind(), ErrorKind::Exists);
}

#[tokio::test]
async fn malformed_uploads_are_refused() {
    let memory = host();
    let (connection, _bridge, _run, _events) = introduced(&memory, Limits::default()).await;
    let mut no_id = head(0, b"");
    if let Some(v1::upload::Part::Envelope(envelope)) = &mut no_id.part {
        envelope.id.clear();
    }
    for (parts, why) in [
        (vec![chunk(1)], "a piece came before its message"),
        (vec![v1::Upload::default()], "lacks its part"),
        (vec![head(3, b"abcd")], "longer"),
        (vec![head(70_000, b""), chunk(70_000)], "longer than 64 KiB"),
        (vec![head(10, b""), chunk(5), chunk(6)], "than was said"),
        (vec![head(10, b""), chunk(5), head(1, b"x")], "before this one was whole"),
        (vec![head(10, b"abc")], "ended before the message did"),
    ] {
        let refused = client(&connection).accept(tokio_stream::iter(parts)).await.map(drop).unwrap_err();
        let error = from_status(&refused);
        assert!(error.kind() == ErrorKind::Invalid && error.message().contains(why), "{error}");
    }
    let reply = client(&connection).accept(tokio_stream::iter([no_id, head(3, b"abc")])).await.unwrap().into_inner();
    let [one, other] = <[v1::AcceptResult; 2]>::try_from(reply.results).ok().unwrap();
    assert!(matches!(one.result, Some(v1::accept_result::Result::Error(error)) if error.kind == "invalid"));
    assert!(matches!(other.result, Some(v1::accept_result::Result::Accepted(_))));
    assert_eq!((memory.accepted().len(), Host::budget(&memory).available()), (1, 8 << 20));
}

#[tokio::test]
async fn uploads_that_stall_or_swarm_hold_little() {
    let memory = host();
    let limits = Limits { uploads: 3, upload: PATIENCE / 2, ..Limits::default() };
    let (connection, _bridge, _run, _events) = introduced(&memory, limits).await;
    let mut stalled = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut client = client(&connection);
        stalled.spawn(async move {
            let (parts, stream) = tokio::sync::mpsc::channel(1);
            parts.send(head(6 << 20, b"begin")).await.unwrap();
            let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
            let result = client.accept(stream).await;
            drop(parts);
            match result {
                Ok(reply) => format!("{:?}", reply.into_inner().results.len()),
                Err(status) => from_status(&status).message().to_owned(),
            }
        });
    }
    for _ in 0..5 {
        let ended = timeout(PATIENCE, stalled.join_next()).await.unwrap().unwrap().unwrap();
        assert!(ended.contains("in 3 calls already"), "{ended}");
    }
    // Those that were refused were so because three had begun.
    pass(PATIENCE / 2).await;
    let ended = timeout(PATIENCE, stalled.join_all()).await.unwrap();
    assert!(ended.len() == 3 && ended.iter().all(|why| why.contains("did not come within")), "{ended:?}");
    assert_eq!(Host::budget(&memory).available(), 8 << 20);
    let reply = client(&connection).accept(tokio_stream::iter([head(3, b"abc")])).await.unwrap().into_inner();
    assert_eq!(reply.results.len(), 1, "it goes on");
}

#[tokio::test]
async fn requests_are_bounded_together() {
    let limits = Limits { requests: 64 << 10, ..Limits::default() };
    let (connection, _bridge, _run, _events) = introduced(&host(), limits).await;
    let request = |bytes| v1::SecretRequest { name: "x".repeat(bytes) };
    let large = client(&connection).secret(request(100 << 10)).await.map(drop).unwrap_err();
    assert_eq!(from_status(&large).kind(), ErrorKind::Full, "{large}");
    let huge = client(&connection).secret(request(2 << 20)).await.map(drop).unwrap_err();
    assert!(from_status(&huge).kind().is_temporary() || huge.code() == tonic::Code::OutOfRange, "{huge}");
    let uids = Some(v1::Uids { runs: vec![1, 900_000] });
    let mut logging_in = connection.host_for_tests();
    let reply = logging_in.login(v1::LoginRequest {
        name: "ann".into(),
        password: b"secret".to_vec(),
        ip: "::1".into(),
        ..Default::default()
    });
    let session = reply.await.unwrap().into_inner().session;
    let copy = v1::CopyRequest { session, from: vec![0; 16], uids, to: vec![0; 16] };
    let bomb = connection.session_for_tests().copy(copy.clone()).await.map(drop).unwrap_err();
    assert_eq!(from_status(&bomb).kind(), ErrorKind::Full, "{bomb}");
    for runs in [vec![1, u32::MAX], vec![5], vec![0, 0], vec![u32::MAX, 2], vec![1, 1 << 21]] {
        let copy = v1::CopyRequest { uids: Some(v1::Uids { runs }), ..copy.clone() };
        let bomb = from_status(&connection.session_for_tests().copy(copy).await.map(drop).unwrap_err());
        assert!(matches!(bomb.kind(), ErrorKind::Invalid | ErrorKind::TooLarge), "{bomb}");
    }
    let small = from_status(&client(&connection).secret(request(3)).await.map(drop).unwrap_err());
    assert_eq!(small.kind(), ErrorKind::NotFound, "all of it was given back");
}

#[tokio::test]
async fn lies_about_outcomes_are_seen() {
    let (connection, bridge, _run, mut events) = introduced(&host(), Limits::default()).await;
    let delivered = || v1::Outcome { outcome: Some(v1::outcome::Outcome::Delivered(v1::Delivered::default())) };
    for (count, kind) in [(0, "0 outcomes for 1"), (2, "2 outcomes for 1")] {
        let waiting = tokio::spawn({
            let bridge = bridge.clone();
            async move { bridge.deliver(job("a@example.net", vec![], PATIENCE)).await }
        });
        let Some(v1::event::Event::Deliver(deliver)) = events.message().await.unwrap().unwrap().event else { panic!() };
        let request = v1::OutcomesRequest { job: deliver.job, outcomes: vec![delivered(); count] };
        let refused = from_status(&connection.life().outcomes(request.clone()).await.map(drop).unwrap_err());
        assert!(refused.kind() == ErrorKind::Invalid && refused.message().contains(kind), "{refused}");
        let outcomes = timeout(PATIENCE, waiting).await.unwrap().unwrap();
        assert!(matches!(&outcomes[..], [Outcome::Deferred { maybe_sent: true, why, .. }] if why.contains(kind)));
        let late = from_status(&connection.life().outcomes(request).await.map(drop).unwrap_err());
        assert_eq!(late.kind(), ErrorKind::NotFound);
    }
    let unknown = v1::OutcomesRequest { job: 999, outcomes: vec![delivered()] };
    assert_eq!(
        from_status(&connection.life().outcomes(unknown).await.map(drop).unwrap_err()).kind(),
        ErrorKind::NotFound
    );
    let mut life = connection.life();
    let unasked = life.answered(v1::AnsweredRequest {
        id: 999,
        result: Some(v1::answered_request::Result::Answer(v1::Answer::default())),
    });
    assert_eq!(from_status(&unasked.await.map(drop).unwrap_err()).kind(), ErrorKind::NotFound);
    let unasked = connection.life().built(v1::BuiltRequest::default()).await.map(drop).unwrap_err();
    assert_eq!(from_status(&unasked).kind(), ErrorKind::Invalid);
    let nobody = connection.life().body(v1::BodyRequest { job: 999 }).await.map(drop).unwrap_err();
    assert_eq!(from_status(&nobody).kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_bridge_that_takes_no_events_is_not_waited_for() {
    let (_connection, bridge, run, events) = introduced(&host(), Limits { deliveries: 200, ..Limits::default() }).await;
    let mut attempts = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let bridge = bridge.clone();
        let body = vec![b'x'; 60_000];
        attempts.spawn(async move {
            bridge.deliver(job("a@example.net", body, Duration::from_millis(700))).await.remove(0)
        });
    }
    let outcomes = timeout(PATIENCE, attempts.join_all()).await.unwrap();
    let sent = |maybe: bool| {
        outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Outcome::Deferred { maybe_sent, .. } if *maybe_sent == maybe))
            .count()
    };
    assert_eq!(sent(true) + sent(false), 200);
    // What the stream's window and the few waiting events do not hold was never handed over.
    assert!(sent(false) > 0);
    drop(events);
    run.abort();
}

#[tokio::test]
async fn an_answer_left_unread_is_cut_off() {
    let memory = host();
    let limits = Limits { downloads: 1, unread: Duration::from_millis(300), ..Limits::default() };
    let (connection, _bridge, _run, _events) = introduced(&memory, limits).await;
    let session = memory.session("ann").unwrap();
    let inbox = session.mailboxes().await.unwrap().into_iter().find(|mailbox| mailbox.name.is_inbox()).unwrap().id;
    for _ in 0..8 {
        let content = Content::from([&b"\r\n"[..], &vec![b'x'; 1 << 20]].concat());
        session.append(inbox, vec![crate::Append { flags: vec![], internal_date: None, content }]).await.unwrap();
    }
    let login =
        v1::LoginRequest { name: "ann".into(), password: b"secret".to_vec(), ip: "::1".into(), ..Default::default() };
    let session = client(&connection).login(login).await.unwrap().into_inner().session;
    let bodies = v1::BodiesRequest { session, mailbox: inbox.0.to_vec(), uids: Some(v1::Uids { runs: vec![1, 8] }) };
    let mut unread = connection.session_for_tests().bodies(bodies.clone()).await.unwrap().into_inner();
    // Waits for the only turn, which the unread one has.
    let mut next =
        timeout(PATIENCE, connection.session_for_tests().bodies(bodies)).await.unwrap().unwrap().into_inner();
    assert!(next.message().await.unwrap().is_some());
    let error = loop {
        match unread.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("half an answer looked whole"),
            Err(status) => break from_status(&status),
        }
    };
    assert!(error.message().contains("unread"), "{error}");
}

#[tokio::test]
async fn a_call_ends_at_its_deadline() {
    let memory = host();
    let (connection, _bridge, _run, _events) = introduced(&memory, Limits::default()).await;
    memory.hold_accepts();
    let mut request = tonic::Request::new(tokio_stream::iter([head(3, b"abc")]));
    request.set_timeout(PATIENCE / 2);
    let mut asks = client(&connection);
    let over = async {
        memory.brought(1).await;
        pass(PATIENCE / 2).await;
    };
    let (late, ()) = timeout(PATIENCE, async { tokio::join!(asks.accept(request), over) }).await.unwrap();
    assert_eq!(from_status(&late.map(drop).unwrap_err()).kind(), ErrorKind::Unavailable);
    memory.release_accepts();
    // The host's own limit holds where the bridge sets none.
    let limits = Limits { call: PATIENCE / 2, ..Limits::default() };
    let (connection, _bridge, _run, _events) = introduced(&memory, limits).await;
    memory.hold_accepts();
    let mut asks = client(&connection);
    let over = async {
        memory.brought(2).await;
        pass(PATIENCE / 2).await;
    };
    let whole = tokio_stream::iter([head(3, b"abc")]);
    let (late, ()) = timeout(PATIENCE, async { tokio::join!(asks.accept(whole), over) }).await.unwrap();
    assert_eq!(from_status(&late.map(drop).unwrap_err()).kind(), ErrorKind::Unavailable);
    memory.release_accepts();
}

#[tokio::test]
async fn sockets_are_only_bound_within_the_grants() {
    let memory = host();
    memory.grant_only([Grant::Listen(0)]);
    let (ours, theirs) = UnixStream::pair().unwrap();
    let host = tokio::spawn(RemoteBridge::connect(ours, Admission::default(), Limits::default()));
    let connection = Connection::over(theirs).await.unwrap();
    let _events = connection.life().live(hello("")).await.unwrap();
    let bridge = host.await.unwrap().unwrap();
    let _run = tokio::spawn(async move { bridge.run(Arc::new(memory), &[Grant::Listen(0)]).await });
    let spec =
        |address: &str| v1::ListenRequest { spec: Some(v1::ListenSpec { name: "x".into(), address: address.into() }) };
    let granted = async {
        loop {
            // Not before `run` has begun.
            if let Ok(reply) = client(&connection).listen(spec("127.0.0.1:0")).await {
                break reply.into_inner();
            }
        }
    };
    let reply = timeout(PATIENCE, granted).await.unwrap();
    assert_eq!((reply.address.as_str(), reply.descriptor), ("127.0.0.1:0", false), "it can't be passed here");
    let refused = from_status(&client(&connection).listen(spec("127.0.0.1:25")).await.map(drop).unwrap_err());
    assert_eq!(refused.kind(), ErrorKind::NotGranted);
}

#[test]
fn what_a_bridge_says_is_cut_and_on_one_line() {
    let long = format!("a\r\nb{}", "ü".repeat(5000));
    let outcome = v1::Outcome { outcome: Some(v1::outcome::Outcome::Failed(v1::Failed { why: long })) };
    let Outcome::Failed { why } = outcome.into() else { panic!() };
    assert!(why.starts_with("a  bü") && why.len() <= 2048);
    let status = tonic::Status::with_metadata(tonic::Code::NotFound, "x", {
        let mut trailers = tonic::metadata::MetadataMap::new();
        trailers.insert(status::RETRY_AFTER, "18446744073709551615".parse().unwrap());
        trailers
    });
    let error = from_status(&status);
    assert_eq!((error.kind(), error.wait()), (ErrorKind::NotFound, Some(Duration::from_secs(7 * 86_400))));
}
