//! Python's imaplib, a client that nobody here wrote, does a bit of everything.

mod common;

use common::{MAIL, Server};
use std::process::Stdio;
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn imaplib() {
    if Command::new("python3").arg("--version").stdout(Stdio::null()).status().await.is_err() {
        eprintln!("python3 is not here: nothing was tested");
        return;
    }
    let server = Server::start().await;
    server.deliver(&[], MAIL).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/imaplib_client.py");
    let port = server.plain.port().to_string();
    let tls = server.starttls.port().to_string();
    let output = Command::new("python3").args([script, &port, &tls]).output().await.expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
