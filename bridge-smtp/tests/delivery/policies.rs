//! How much TLS a host must show.

use crate::lab::{Identity, Lab, deferred, delivered, self_signed};
use crate::sink::{Act, Manner, Sink};
use mesyx_net::hickory_resolver::proto::rr::RecordType;
use mesyx_sdk::Host as _;
use serde_json::json;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

fn with(identity: &Identity) -> Manner {
    Manner { tls: Some(identity.config.clone()), ..Manner::default() }
}

#[tokio::test]
async fn tls_is_used_where_it_works_and_done_without_where_it_does_not() {
    let lab = Lab::new();
    let sink = lab.only(with(&self_signed(&["whatever.example"]))).await;
    assert!(delivered(&lab.sender(json!({})).one("bob@example.net").await));
    assert!(sink.taken()[0].tls, "against those who listen, any certificate does");
    assert!(delivered(&lab.sender(json!({ "tls": "none" })).one("bob@example.net").await));
    assert!(!sink.taken()[1].tls);
    assert!(delivered(&lab.sender(json!({ "tls": "required" })).one("bob@example.net").await));
    let outcome = lab.sender(json!({ "tls": "verified" })).one("bob@example.net").await;
    assert!(deferred(&outcome).0.starts_with("4.7.5"), "{outcome:?}");

    let lab = Lab::new();
    let sink = lab.only(Manner { broken_tls: true, ..Manner::default() }).await;
    assert!(delivered(&lab.sender(json!({})).one("bob@example.net").await));
    assert_eq!((sink.connections(), sink.taken()[0].tls), (2, false), "over a new connection");
    let outcome = lab.sender(json!({ "tls": "required" })).one("bob@example.net").await;
    assert!(deferred(&outcome).0.starts_with("4.7.5"), "{outcome:?}");

    let lab = Lab::new();
    let refusing = Arc::new(|line: &str, _: &_| (line == "STARTTLS").then(|| Act::Say("454 4.7.0 no".into())));
    let sink = lab.only(Manner { broken_tls: true, decide: refusing, ..Manner::default() }).await;
    assert!(delivered(&lab.sender(json!({})).one("bob@example.net").await));
    assert_eq!(sink.connections(), 1);
    let outcome = lab.sender(json!({ "tls": "required" })).one("bob@example.net").await;
    assert!(deferred(&outcome).0.starts_with("4.7.4"), "{outcome:?}");
}

#[tokio::test]
async fn an_answer_slipped_in_before_the_handshake_ends_the_attempt() {
    let lab = Lab::new();
    let injecting =
        Arc::new(|line: &str, _: &_| (line == "STARTTLS").then(|| Act::Say("220 go\r\n250 PIPELINING".into())));
    let sink = lab.only(Manner { broken_tls: true, decide: injecting, ..Manner::default() }).await;
    let outcome = lab.sender(json!({})).one("bob@example.net").await;
    assert!(deferred(&outcome).0.contains("attacker"), "{outcome:?}");
    assert!(sink.taken().is_empty() && sink.connections() == 1, "not even without TLS");
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA256, bytes).as_ref().to_vec()
}

/// A lab whose zone example.net is signed.
async fn signed(identity: &Identity) -> (Lab, Sink, String) {
    let lab = Lab::new();
    lab.zone.secure("example.net");
    let sink = lab.only(with(identity)).await;
    let at = format!("_{}._tcp.mx2.example.net", lab.port);
    (lab, sink, at)
}

#[tokio::test]
async fn dane_decides_where_the_zone_is_signed() {
    let identity = self_signed(&["another.example"]);
    let (lab, sink, at) = signed(&identity).await;
    lab.zone.tlsa(&at, 3, 1, 1, &sha256(&identity.key));
    assert!(delivered(&lab.sender(json!({})).one("bob@example.net").await));
    assert!(sink.taken()[0].tls);

    let (lab, sink, at) = signed(&identity).await;
    lab.zone.tlsa(&at, 3, 1, 1, &sha256(b"another key"));
    let outcome = lab.sender(json!({})).one("bob@example.net").await;
    let (why, host, maybe) = deferred(&outcome);
    assert!(why.starts_with("4.7.5") && host && !maybe, "{why}");
    assert!(sink.taken().is_empty());
    assert!(delivered(&lab.sender(json!({ "dane": false })).one("bob@example.net").await));

    // TLSA records that can't be used still ask for TLS.
    let (lab, sink, at) = signed(&identity).await;
    lab.zone.tlsa(&at, 0, 0, 1, &[1; 32]);
    assert!(delivered(&lab.sender(json!({})).one("bob@example.net").await));
    assert!(sink.taken()[0].tls);

    // That there are none must be certain.
    let (lab, sink, at) = signed(&identity).await;
    lab.zone.fail(&at, Some(RecordType::TLSA));
    let outcome = lab.sender(json!({})).one("bob@example.net").await;
    assert!(deferred(&outcome).0.starts_with("4.7.5"), "{outcome:?}");
    assert_eq!(sink.connections(), 0);
}

#[tokio::test]
async fn a_host_without_tls_gets_nothing_where_dane_wants_it() {
    for broken_tls in [false, true] {
        let lab = Lab::new();
        lab.zone.secure("example.net");
        let sink = lab.only(Manner { broken_tls, ..Manner::default() }).await;
        lab.zone.tlsa(&format!("_{}._tcp.mx2.example.net", lab.port), 3, 1, 1, &[1; 32]);
        let outcome = lab.sender(json!({})).one("bob@example.net").await;
        assert!(deferred(&outcome).0.starts_with("4.7."), "{outcome:?}");
        assert!(sink.taken().is_empty());
    }
}

#[tokio::test]
async fn records_of_zones_that_are_not_signed_mean_nothing() {
    let identity = self_signed(&["mx2.example.net"]);
    let lab = Lab::new();
    let sink = lab.only(with(&identity)).await;
    let at = format!("_{}._tcp.mx2.example.net", lab.port);
    lab.zone.tlsa(&at, 3, 1, 1, &[1; 32]);
    assert!(delivered(&lab.sender(json!({})).one("bob@example.net").await));
    // The host's zone is signed, but who says that it is the host is not.
    lab.zone.secure("mx2.example.net").secure(&at);
    assert!(delivered(&lab.sender(json!({})).one("bob@example.net").await));
    assert_eq!(sink.taken().len(), 2);
}

#[tokio::test]
async fn an_authority_that_dane_names_vouches_for_the_hosts_name() {
    let lab = Lab::new();
    lab.zone.secure("example.net");
    let identity = lab.identity(&["mx2.example.net"]);
    let sink = lab.only(with(&identity)).await;
    let at = format!("_{}._tcp.mx2.example.net", lab.port);
    lab.zone.tlsa(&at, 2, 0, 1, &sha256(lab.authority.der()));
    assert!(delivered(&lab.sender(json!({})).one("bob@example.net").await));
    assert!(sink.taken()[0].tls);
    // The same authority, another name; and the record stands at the name behind the alias.
    lab.zone.secure("signed.example").mx("signed.example", 10, "alias.signed.example");
    lab.zone.alias("alias.signed.example", "mx2.example.net");
    assert!(delivered(&lab.sender(json!({})).one("bob@signed.example").await));
    let other = Lab::new();
    other.zone.secure("example.net");
    let wrong = other.identity(&["wrong.example"]);
    let sink = other.only(with(&wrong)).await;
    other.zone.tlsa(&format!("_{}._tcp.mx2.example.net", other.port), 2, 0, 1, &sha256(other.authority.der()));
    let outcome = other.sender(json!({})).one("bob@example.net").await;
    assert!(deferred(&outcome).0.starts_with("4.7.5"), "{outcome:?}");
    assert!(sink.taken().is_empty());
}

/// Publishes a policy for example.net; the text can be changed.
async fn policy(lab: &Lab, text: &str) -> (u16, Arc<Mutex<Option<String>>>) {
    let text = Arc::new(Mutex::new(Some(text.to_owned())));
    let acceptor = TlsAcceptor::from(lab.identity(&["mta-sts.example.net"]).config);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    lab.zone.address("mta-sts.example.net", "127.0.0.1");
    let shown = Arc::clone(&text);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let Ok(byte) = tls.read_u8().await else { break };
                request.push(byte);
            }
            let shown = shown.lock().unwrap().clone();
            let answer = match shown {
                Some(text) if request.starts_with(b"GET /.well-known/mta-sts.txt ") => {
                    format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{text}",
                        text.len()
                    )
                }
                _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
            };
            let _ = tls.write_all(answer.as_bytes()).await;
            let _ = tls.shutdown().await;
        }
    });
    (port, text)
}

fn enforce(mode: &str, mx: &str) -> String {
    format!("version: STSv1\r\nmode: {mode}\r\nmx: {mx}\r\nmax_age: 86400\r\n")
}

fn sender(lab: &Lab, https: u16) -> crate::lab::Sender {
    let mut config = lab.config();
    config["listeners"] = json!([{ "address": "127.0.0.1:0" }]);
    config["delivery"] = json!({ "port": lab.port, "allow_private": true });
    config["https"]["port"] = json!(https);
    config["https"]["timeout_seconds"] = json!(5);
    // Records are asked for anew each time.
    config["dns"]["cache"] = json!(16);
    lab.sender_with(config)
}

#[tokio::test]
async fn a_policy_of_mta_sts_is_kept() {
    let lab = Lab::new();
    lab.zone.txt("_mta-sts.example.net", "v=STSv1; id=1;");
    let sink = lab.only(with(&lab.identity(&["mx2.example.net"]))).await;
    let (port, _text) = policy(&lab, &enforce("enforce", "*.example.net")).await;
    assert!(delivered(&sender(&lab, port).one("bob@example.net").await));
    assert!(sink.taken()[0].tls);

    for (identity, mx, mode, goes) in [
        (None, "*.example.net", "enforce", false),
        (Some(&["mx2.example.net"][..]), "other.example.net", "enforce", false),
        (Some(&["wrong.example.net"][..]), "*.example.net", "enforce", false),
        (None, "*.example.net", "testing", true),
        (Some(&["mx2.example.net"][..]), "other.example.net", "testing", true),
        (None, "*.example.net", "none", true),
    ] {
        let lab = Lab::new();
        lab.zone.txt("_mta-sts.example.net", "v=STSv1; id=1;");
        let identity = identity.map_or_else(|| self_signed(&["mx2.example.net"]), |names| lab.identity(names));
        let sink = lab.only(with(&identity)).await;
        let (port, _text) = policy(&lab, &enforce(mode, mx)).await;
        let outcome = sender(&lab, port).one("bob@example.net").await;
        assert_eq!(delivered(&outcome), goes, "{mode} {mx}: {outcome:?}");
        if goes {
            assert!(sink.taken()[0].tls);
        } else {
            let (why, host, maybe) = deferred(&outcome);
            assert!(why.starts_with("4.7.5") && host && !maybe, "{why}");
            assert!(sink.taken().is_empty());
        }
    }
    // Without TLS at all.
    for (mode, goes) in [("enforce", false), ("testing", true)] {
        let lab = Lab::new();
        lab.zone.txt("_mta-sts.example.net", "v=STSv1; id=1;");
        lab.only(Manner::default()).await;
        let (port, _text) = policy(&lab, &enforce(mode, "*.example.net")).await;
        let outcome = sender(&lab, port).one("bob@example.net").await;
        assert_eq!(delivered(&outcome), goes, "{mode}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_policy_outlives_whoever_suppresses_it() {
    let lab = Lab::new();
    lab.zone.txt("_mta-sts.example.net", "v=STSv1; id=1;");
    let sink = lab.only(with(&self_signed(&["mx2.example.net"]))).await;
    let (port, text) = policy(&lab, &enforce("enforce", "*.example.net")).await;
    let one = sender(&lab, port);
    deferred(&one.one("bob@example.net").await);
    // An attacker takes the record and the file away, or only changes the record.
    *text.lock().unwrap() = None;
    lab.zone.remove("_mta-sts.example.net").txt("_mta-sts.example.net", "v=STSv1; id=2;");
    deferred(&one.one("bob@example.net").await);
    lab.zone.remove("_mta-sts.example.net");
    deferred(&one.one("bob@example.net").await);
    assert!(sink.taken().is_empty());
    // One who never knew the policy can't keep to it.
    let mut newcomer = sender(&lab, port);
    newcomer.host = mesyx_sdk::MemoryHost::new("example.org".parse().unwrap());
    assert!(delivered(&newcomer.one("bob@example.net").await));
}

/// What this program logs, in one text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("mesyx")
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = self.0.lock().unwrap();
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            text.push_str(&format!("{field}={value:?} "));
        });
        text.push('\n');
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// The log tells nobody to whom our users write.
#[tokio::test]
async fn a_policy_that_can_not_be_had_is_logged_without_its_domain() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    for right in [true, false] {
        let lab = Lab::new();
        lab.zone.txt("_mta-sts.example.net", "v=STSv1; id=1;");
        lab.only(with(&lab.identity(&["mx2.example.net"]))).await;
        let (port, text) = policy(&lab, &enforce("enforce", "*.example.net")).await;
        if right {
            // Its host is not there at all.
            lab.zone.remove("mta-sts.example.net").address("mta-sts.example.net", "127.0.0.99");
        }
        *text.lock().unwrap() = None;
        assert!(delivered(&sender(&lab, port).one("bob@example.net").await));
    }
    let log = log.0.lock().unwrap().clone();
    assert!(log.contains("policy could not be fetched"), "{log}");
    assert!(!log.contains("example.net"), "{log}");
}

/// RFC 8461, section 10.2: who makes a sender forget the policy takes the protection away.
#[tokio::test]
async fn a_policy_outlives_a_restart() {
    let lab = Lab::new();
    lab.zone.txt("_mta-sts.example.net", "v=STSv1; id=1;");
    let sink = lab.only(with(&lab.identity(&["mx2.example.net"]))).await;
    let (port, text) = policy(&lab, &enforce("enforce", "*.example.net")).await;
    assert!(delivered(&sender(&lab, port).one("bob@example.net").await));
    assert!(lab.host.checkpoints("").await.unwrap().iter().all(|key| !key.contains("example")));
    // After a restart, the record and the policy are suppressed, and so is TLS.
    *text.lock().unwrap() = None;
    lab.zone.remove("_mta-sts.example.net");
    lab.zone.mx("example.net", 5, "mx3.example.net");
    let other = lab.sink(3, Manner::default()).await;
    lab.zone.remove("mx2.example.net");
    deferred(&sender(&lab, port).one("bob@example.net").await);
    assert_eq!((sink.taken().len(), other.taken().len()), (1, 0));
}

#[tokio::test]
async fn dane_goes_before_mta_sts() {
    let identity = self_signed(&["mx2.example.net"]);
    let (lab, sink, at) = signed(&identity).await;
    lab.zone.txt("_mta-sts.example.net", "v=STSv1; id=1;");
    lab.zone.tlsa(&at, 3, 1, 1, &sha256(&identity.key));
    let (port, _text) = policy(&lab, &enforce("enforce", "*.example.net")).await;
    assert!(delivered(&sender(&lab, port).one("bob@example.net").await), "self-signed, but named by DANE");
    // The other way round: a certificate that MTA-STS would take, but that DANE does not name.
    let lab = Lab::new();
    lab.zone.secure("example.net").txt("_mta-sts.example.net", "v=STSv1; id=1;");
    let other = lab.only(with(&lab.identity(&["mx2.example.net"]))).await;
    lab.zone.tlsa(&format!("_{}._tcp.mx2.example.net", lab.port), 3, 1, 1, &[1; 32]);
    let (port, _text) = policy(&lab, &enforce("enforce", "*.example.net")).await;
    deferred(&sender(&lab, port).one("bob@example.net").await);
    assert_eq!((sink.taken().len(), other.taken().len()), (1, 0));
}
