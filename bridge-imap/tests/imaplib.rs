//! Python's imaplib, a client that nobody here wrote, does a bit of everything.
#![allow(clippy::expect_used, reason = "a test fails where its helper does")]

mod common;

use common::{MAIL, Server};
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn imaplib() {
    let server = Server::start().await;
    server.deliver(&[], MAIL).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/imaplib_client.py");
    let port = server.plain.port().to_string();
    let tls = server.starttls.port().to_string();
    let output = Command::new("python3").args([script, &port, &tls]).output().await.expect("this test needs python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
