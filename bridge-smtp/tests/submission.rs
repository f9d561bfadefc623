//! The bridge `submission` over real sockets.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use mesyx_bridge_smtp::{Smtp, Submission, plain_response};
use mesyx_sdk::testkit::{Incoming, Network, Reply};
use mesyx_sdk::{Bridge, Config, Error, ErrorKind, Grant};
use serde_json::json;
use support::{Client, Running};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn listeners() -> serde_json::Value {
    json!({ "listeners": [
        { "name": "starttls", "address": "127.0.0.1:0" },
        { "name": "implicit", "address": "127.0.0.1:0", "tls": "implicit" },
        { "name": "clear", "address": "127.0.0.1:0", "tls": "none", "plain_auth_without_tls": true },
    ] })
}

const MESSAGE: &str = "From: Alice <alice@example.org>\r\nTo: bob@example.org\r\nBcc: hidden@example.org\r\nDate: Sun, 22 \
    Nov 2026 22:37:44 +0000\r\nMessage-ID: <m@example.org>\r\n\r\nhello\r\n";

#[tokio::test]
async fn a_user_sends_over_implicit_tls() {
    let running = Running::submission(listeners());
    let mut client = running.tls(running.connect("implicit").await.0).await.unwrap();
    let hello = client.greet().await;
    assert!(hello.contains("AUTH PLAIN LOGIN") && !hello.contains("STARTTLS"), "{hello}");
    assert_eq!(client.say(&format!("AUTH PLAIN {}", plain_response("alice", "secret"))).await, 235);
    assert_eq!(client.deliver("alice@example.org", MESSAGE.trim_end()).await, 250);
    let submitted = running.host.submitted();
    let content = std::str::from_utf8(&submitted[0].content).unwrap();
    assert!(content.ends_with(&MESSAGE.replace("Bcc: hidden@example.org\r\n", "")), "{content}");
    assert!(content.contains("with ESMTPSA (TLSv1.3"), "{content}");
    assert!(!content.contains("hidden"));
    assert!(submitted[0].origin.authenticated.is_some());
}

#[tokio::test]
async fn no_password_is_taken_in_the_clear() {
    let running = Running::submission(listeners());
    let mut client = running.connect("starttls").await;
    assert!(!client.greet().await.contains("AUTH"));
    assert_eq!(client.say(&format!("AUTH PLAIN {}", plain_response("alice", "secret"))).await, 538);
    assert_eq!(client.say("MAIL FROM:<alice@example.org>").await, 530);
    assert_eq!(client.say("STARTTLS").await, 220);
    let mut client = running.tls(client.0).await.unwrap();
    client.send("EHLO p\r\n").await;
    assert!(client.reply().await.contains("AUTH PLAIN LOGIN"));
    assert_eq!(client.say("AUTH LOGIN").await, 334);
    assert_eq!(client.say("YWxpY2U=").await, 334);
    assert_eq!(client.say("c2VjcmV0").await, 235);
}

#[tokio::test]
async fn users_send_as_themselves_and_to_us_only() {
    let running = Running::submission(listeners());
    let mut client = running.connect("clear").await;
    client.greet().await;
    assert_eq!(client.say(&format!("AUTH PLAIN {}", plain_response("alice", "wrong"))).await, 535);
    running.host.fail_next_login(Error::new(ErrorKind::TooMany, "slow down"));
    assert_eq!(client.say(&format!("AUTH PLAIN {}", plain_response("alice", "secret"))).await, 454);
    assert_eq!(client.say(&format!("AUTH PLAIN {}", plain_response("alice", "secret"))).await, 235);
    assert_eq!(client.say("MAIL FROM:<bob@example.org>").await, 550);
    assert_eq!(client.say("MAIL FROM:<alice@example.org>").await, 250);
    client.send("RCPT TO:<x@other.example>\r\n").await;
    let reply = client.reply().await;
    assert!(reply.starts_with("550 5.7.1 this server brings nothing there"), "{reply}");
    assert_eq!(client.say("RSET").await, 250);
    let foreign = MESSAGE.replace("alice@example.org", "bob@example.org");
    assert_eq!(client.deliver("alice@example.org", foreign.trim_end()).await, 550);
    assert!(running.host.submitted().is_empty());
}

#[tokio::test]
async fn what_is_missing_is_added() {
    let running = Running::submission(listeners());
    let mut client = running.connect("clear").await;
    client.greet().await;
    assert_eq!(client.say(&format!("AUTH PLAIN {}", plain_response("alice", "secret"))).await, 235);
    assert_eq!(client.deliver("alice@example.org", "From: alice@example.org\r\n\r\nx").await, 250);
    let submitted = running.host.submitted();
    let content = std::str::from_utf8(&submitted[0].content).unwrap();
    assert_eq!(content.matches("\r\nDate: ").count(), 1, "{content}");
    assert_eq!(content.matches("\r\nMessage-ID: <").count(), 1, "{content}");
    assert!(content.ends_with("From: alice@example.org\r\n\r\nx\r\n"));
}

/// A user's message may be for another user here, who believes what this program says of it.
#[tokio::test]
async fn fields_that_claim_to_be_ours_are_taken_out() {
    let running = Running::submission(listeners());
    let mut client = running.connect("clear").await;
    client.greet().await;
    assert_eq!(client.say(&format!("AUTH PLAIN {}", plain_response("alice", "secret"))).await, 235);
    let claims = "mesyx-PGP: signature=good;\r\n\tsigner=bob@example.org\r\n\
        Authentication-Results: mail.example.org; dmarc=pass\r\nMesyx-Signature: x\r\n";
    let others = "Authentication-Results: mail.elsewhere.example; spf=pass\r\nX-Mesyx-PGP: mine\r\n";
    let hostname = mesyx_sdk::Host::hostname(&running.host).to_owned();
    let claims = claims.replace("mail.example.org", &hostname);
    assert_eq!(client.deliver("alice@example.org", format!("{claims}{others}{MESSAGE}").trim_end()).await, 250);
    let submitted = running.host.submitted();
    let content = std::str::from_utf8(&submitted[0].content).unwrap();
    let kept = format!("{others}{MESSAGE}").replace("Bcc: hidden@example.org\r\n", "");
    assert!(content.ends_with(&kept), "{content}");
    assert!(!content.contains("signature=good") && !content.contains("dmarc=pass"), "{content}");
    assert!(content.starts_with("Return-Path: "), "{content}");
}

#[tokio::test]
async fn plain_text_on_the_tls_port_gets_nothing() {
    let running = Running::submission(listeners());
    let mut client = running.connect("implicit").await;
    client.send("EHLO p\r\n").await;
    client.0.readable().await.unwrap();
    let mut bytes = Vec::new();
    let _ = client.0.read_to_end(&mut bytes).await;
    assert!(!bytes.starts_with(b"220"), "an alert at most: {bytes:?}");
}

#[tokio::test]
async fn a_missing_grant_is_a_clear_error() {
    let host = support::host();
    host.grant_only([Grant::Accept]);
    let running = Running::with(Smtp::build(Config::new(json!({}))).unwrap(), host);
    let error = running.task.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("listener smtp-v4") && error.contains("listen:25"), "{error}");
}

#[test]
fn wrong_configurations_are_told_at_once() {
    let config = json!({
        "listeners": [{ "adress": "0.0.0.0:587" }, { "address": "0.0.0.0:587", "plain_auth_without_tls": true }],
    });
    let errors = Submission::build(Config::new(config)).unwrap_err().to_string();
    assert!(errors.contains("listeners[0]"), "{errors}");
    let config = json!({ "listeners": [{ "address": "nowhere" }], "limits": { "recipients": 5000 } });
    let errors = Submission::build(Config::new(config)).unwrap_err();
    assert_eq!(errors.0.len(), 2, "{errors}");
    assert!(Smtp::build(Config::new(json!({}))).is_ok());
    assert_eq!(Submission::manifest().name, "submission");
}

/// A mail program of alice's, for the SDK's test kit.
struct Program;

impl Program {
    async fn log_in(host: &mesyx_sdk::MemoryHost, name: &str, password: &str) -> (Client<TcpStream>, u16) {
        let mut client = Client(TcpStream::connect(host.listening("clear").await).await.unwrap());
        client.greet().await;
        let code = client.say(&format!("AUTH PLAIN {}", plain_response(name, password))).await;
        (client, code)
    }
}

fn reply(code: u16) -> Reply {
    match code / 100 {
        2 => Reply::Taken,
        4 => Reply::TryLater,
        _ => Reply::Refused,
    }
}

#[mesyx_sdk::async_trait]
impl Network for Program {
    fn config(&self) -> serde_json::Value {
        listeners()
    }
    fn prepare(&self, host: &mesyx_sdk::MemoryHost) {
        support::certify(host);
    }
    async fn send(&self, host: &mesyx_sdk::MemoryHost, message: &Incoming) -> Reply {
        let (mut client, code) = Self::log_in(host, "bob", "hidden").await;
        assert_eq!(code, 235);
        let rcpt = format!("RCPT TO:<{}>", message.to);
        for (line, wanted) in [("MAIL FROM:<bob@example.org>", 250), (&rcpt, 250), ("DATA", 354)] {
            let code = client.say(line).await;
            if code != wanted {
                return reply(code);
            }
        }
        reply(client.say(&format!("From: bob@example.org\r\n\r\n{}\r\n.", message.text)).await)
    }
    async fn garbage(&self, host: &mesyx_sdk::MemoryHost, bytes: &[u8]) {
        for listener in ["clear", "implicit"] {
            let mut stream = TcpStream::connect(host.listening(listener).await).await.unwrap();
            let _ = stream.write_all(bytes).await;
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    }
    async fn log_in(&self, host: &mesyx_sdk::MemoryHost, name: &str, password: &str) -> Option<Reply> {
        Some(reply(Self::log_in(host, name, password).await.1))
    }
}

#[test]
fn submission_keeps_the_contract() {
    mesyx_sdk::testkit::check::<Submission>(&Program).assert();
}
