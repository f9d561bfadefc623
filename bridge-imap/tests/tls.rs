//! TLS from the start, after STARTTLS, and what must not get around it.
#![allow(clippy::expect_used, reason = "a test fails where its helper does")]

mod common;

use common::{Client, Server};
use tokio::net::TcpStream;

async fn plain(server: &Server) -> Client<TcpStream> {
    Client::new(TcpStream::connect(server.starttls).await.expect("a connection"))
}

#[tokio::test]
async fn implicit_tls() {
    let server = Server::start().await;
    let stream = TcpStream::connect(server.implicit).await.expect("a connection");
    let mut client = Client::new(server.tls().connect(Server::name(), stream).await.expect("TLS"));
    let greeting = client.line().await;
    assert!(greeting.contains("AUTH=PLAIN") && !greeting.contains("STARTTLS"), "{greeting}");
    client.ok("LOGIN ann secret").await;
    client.ok("SELECT INBOX").await;
    client.run("LOGOUT").await;
    assert_eq!(client.next().await, None);
}

#[tokio::test]
async fn no_password_is_taken_before_starttls() {
    let server = Server::start().await;
    let mut client = plain(&server).await;
    let greeting = client.line().await;
    assert!(greeting.contains("STARTTLS") && greeting.contains("LOGINDISABLED") && !greeting.contains("AUTH="));
    for command in ["LOGIN ann secret", "AUTHENTICATE PLAIN AGFubgBzZWNyZXQ="] {
        assert!(client.refused(command).await.starts_with("NO [PRIVACYREQUIRED]"), "{command}");
    }
    client.ok("STARTTLS").await;
    let mut client = Client::new(server.tls().connect(Server::name(), client.stream).await.expect("TLS"));
    let capabilities = client.ok("CAPABILITY").await;
    assert!(capabilities[0].contains("AUTH=PLAIN") && !capabilities[0].contains("STARTTLS"), "{capabilities:?}");
    assert!(client.refused("STARTTLS").await.starts_with("BAD"));
    client.ok("LOGIN ann secret").await;
}

/// CVE-2011-0411 and kin: what a man in the middle puts behind STARTTLS must not be done under TLS.
#[tokio::test]
async fn what_is_sent_behind_starttls_is_never_done() {
    let server = Server::start().await;
    let mut client = plain(&server).await;
    client.line().await;
    client.send("a STARTTLS\r\nb NOOP\r\nc LOGIN ann secret\r\n").await;
    let mut lines = Vec::new();
    while let Some(line) = client.next().await {
        lines.push(line);
    }
    assert!(lines.iter().all(|line| line.starts_with("* BYE")), "{lines:?}");
}

#[tokio::test]
async fn half_a_line_behind_starttls_is_no_better() {
    let server = Server::start().await;
    let mut client = plain(&server).await;
    client.line().await;
    client.send("a STARTTLS\r\nb NO").await;
    assert!(client.next().await.is_none_or(|line| line.starts_with("* BYE")));
    assert_eq!(client.next().await, None);
}

/// The stop waited for the handshakes of clients that kept silent, until they were cut off.
#[tokio::test]
async fn silent_tls_handshakes_give_way_to_the_stop() {
    let server = Server::start().await;
    let _implicit = TcpStream::connect(server.implicit).await.expect("a connection");
    let mut upgrading = plain(&server).await;
    upgrading.line().await;
    upgrading.ok("STARTTLS").await;
    server.host.stop();
    // What is cut off ends after 8 seconds, what gives way at once.
    let ended = tokio::time::timeout(std::time::Duration::from_secs(6), server.running).await;
    ended.expect("the stop waits").expect("no panic").expect("an orderly end");
}
