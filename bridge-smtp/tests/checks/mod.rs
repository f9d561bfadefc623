//! Mail whose signatures were made by programs that are not ours (dkimpy, OpenDKIM), through a real connection and a real name server.

#[path = "../../../net/tests/support/dns.rs"]
mod dns;

use crate::support::{Client, Running, host};
use dns::Zone;
use mesyx_bridge_smtp::Smtp;
use mesyx_sdk::{Bridge, Config, Envelope};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpStream;

const MESSAGE: &str = "From: Bank <a@bank.test>\r\nTo: alice@example.org\r\nSubject: hello\r\nDate: Mon, 23 Nov 2026 01:00:00 +0000\r\n\
    Message-ID: <1@bank.test>\r\n\r\ntext of the message\r\n";

/// A directory with keys, gone with the test.
struct Keys(PathBuf);

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs a program that turns a message into another.
fn filter(program: &str, arguments: &[&str], message: &str) -> String {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} is installed (Debian: python3-dkim, opendkim-tools): {error}"));
    child.stdin.take().unwrap().write_all(message.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "{program} {arguments:?}");
    let text = String::from_utf8(done.stdout).unwrap();
    text.replace("\r\n", "\n").replace('\n', "\r\n")
}

fn key(zone: &Zone, kind: &str, selector: &str, domain: &str) -> (Keys, String) {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let directory = std::env::temp_dir().join(format!("mesyx-dkim-{}-{number}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let path = directory.join("key");
    filter("dknewkey", &["--ktype", kind, path.to_str().unwrap()], "");
    let record = std::fs::read_to_string(directory.join("key.dns")).unwrap();
    let record = record.trim();
    zone.txt(&format!("{selector}._domainkey.{domain}"), record);
    let path = path.with_extension("key").display().to_string();
    assert!(Path::new(&path).exists());
    (Keys(directory), path)
}

/// The bridge `smtp`, which checks loopback too.
fn running(zone: &Zone, verify: Value) -> Running {
    let mut checks = json!({ "exempt": [] });
    checks.as_object_mut().unwrap().extend(verify.as_object().unwrap().clone());
    let config = json!({
        "listeners": [{ "name": "mx", "address": "127.0.0.1:0", "tls": "none" }],
        "verify": checks,
        "dns": { "servers": [zone.address.to_string()] },
    });
    Running::with(Smtp::build(Config::new(config)).unwrap(), host())
}

async fn connect(running: &Running) -> Client<TcpStream> {
    let mut client = running.connect("mx").await;
    client.greet().await;
    client
}

fn last(running: &Running) -> (Envelope, String) {
    let envelope = running.host.accepted().pop().unwrap();
    let text = String::from_utf8(envelope.content.to_vec()).unwrap();
    (envelope, text)
}

fn bank() -> Zone {
    let zone = Zone::start();
    zone.txt("bank.test", "v=spf1 ip4:192.0.2.1 -all").txt("_dmarc.bank.test", "v=DMARC1; p=reject");
    zone
}

#[tokio::test]
async fn signatures_of_other_programs_verify() {
    let zone = bank();
    let running = running(&zone, json!({}));
    let mut client = connect(&running).await;
    let (_rsa, rsa) = key(&zone, "rsa", "rsa", "bank.test");
    let (_ed, ed) = key(&zone, "ed25519", "ed", "bank.test");
    let signed = [
        ("dkimpy, RSA", filter("dkimsign", &["rsa", "bank.test", &rsa], MESSAGE)),
        ("dkimpy, simple", filter("dkimsign", &["--hcanon", "simple", "rsa", "bank.test", &rsa], MESSAGE)),
        ("dkimpy, Ed25519", filter("dkimsign", &["--signalg", "ed25519-sha256", "ed", "bank.test", &ed], MESSAGE)),
    ];
    for (who, message) in signed {
        let message = message.trim_end();
        assert_eq!(client.deliver("a@bank.test", message).await, 250, "{who}: {message}");
        let (envelope, text) = last(&running);
        assert_eq!(envelope.origin.checks, ["spf=fail", "dkim=pass", "dmarc=pass"], "{who}");
        assert!(!envelope.junk);
        // Ours stands between our own trace headers; the message is what came, byte for byte.
        let (trace, field) = text.split_once("Authentication-Results: mail.example.org;\r\n\tspf=fail").unwrap();
        assert!(trace.starts_with("Return-Path:") && trace.lines().count() == 1, "{trace}");
        assert!(field.contains("\r\nReceived: from ") && field.ends_with(&format!("\r\n{message}\r\n")), "{text}");
        // One letter more: refused, at the end of DATA.
        assert_eq!(client.deliver("a@bank.test", &message.replace("text of", "texts of")).await, 550, "{who}");
    }
    assert_eq!(running.host.accepted().len(), 3);
    // OpenDKIM's tool for tests signs with SHA-1, which speaks for nobody any more (RFC 8301).
    let old = filter("opendkim-testmsg", &["-d", "bank.test", "-k", &rsa, "-s", "rsa"], MESSAGE);
    assert!(old.contains("a=rsa-sha1"), "{old}");
    assert_eq!(client.deliver("a@bank.test", old.trim_end()).await, 550);
}

#[tokio::test]
async fn what_the_policy_says_is_done() {
    let zone = bank();
    zone.txt("_dmarc.mild.test", "v=DMARC1; p=quarantine").txt("_dmarc.soft.test", "v=DMARC1; p=none");
    let running = running(&zone, json!({}));
    let mut client = connect(&running).await;
    for (domain, code, junk) in
        [("bank.test", 550, false), ("mild.test", 250, true), ("soft.test", 250, false), ("other.test", 250, false)]
    {
        let message = MESSAGE.replace("bank.test", domain);
        assert_eq!(client.deliver(&format!("a@{domain}"), message.trim_end()).await, code, "{domain}");
        assert_eq!(code == 250 && last(&running).0.junk, junk, "{domain}");
    }
    assert_eq!(client.deliver("a@other.test", "From: x@other.test\r\nfrom: y@other.test\r\n\r\nx").await, 550);
    client.send("MAIL FROM:<a@bank.test>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n").await;
    let _ = (client.code().await, client.code().await, client.code().await);
    client.send(format!("{MESSAGE}.\r\n")).await;
    let reply = client.reply().await;
    assert!(reply.starts_with("550 5.7.1 bank.test does not let this host write in its name"), "{reply}");
}

#[tokio::test]
async fn nobody_else_speaks_in_our_name() {
    let zone = Zone::start();
    for verify in [json!({}), json!({ "dmarc": "off" }), json!({ "exempt": ["127.0.0.0/8"] })] {
        let checked = verify == json!({});
        let running = running(&zone, verify);
        let mut client = connect(&running).await;
        let message = "Authentication-Results: mail.example.org; dmarc=pass header.from=bank.test\r\n\
            AUTHENTICATION-RESULTS:\r\n (x) \"Mail.Example.ORG\" 1; spf=pass\r\nMesyx-PGP: signature=good\r\n\
            Authentication-Results: mx.other.test; dmarc=fail\r\nFrom: a@other.test\r\n\r\nAuthentication-Results: mail.example.org";
        assert_eq!(client.deliver("a@other.test", message).await, 250);
        let (_, text) = last(&running);
        let (header, _) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(header.to_lowercase().matches("mail.example.org;").count(), usize::from(checked), "{header}");
        assert!(!header.contains("Mesyx-PGP") && !header.contains("\"Mail."), "{header}");
        assert!(
            header.contains("\r\nAuthentication-Results: mx.other.test; dmarc=fail\r\nFrom: a@other.test"),
            "{header}"
        );
    }
}

#[tokio::test]
async fn a_list_that_is_trusted_may_have_changed_the_message() {
    let zone = bank();
    let (_keys, key) = key(&zone, "rsa", "arc", "lists.test");
    // What the list saw, said in its name; then the footer that breaks the author's signature; then the seal.
    let seen =
        format!("Authentication-Results: lists.test; dmarc=pass header.from=bank.test\r\n{MESSAGE}-- \r\nthe list\r\n");
    let sealed = filter("arcsign", &["arc", "lists.test", &key, "lists.test"], &seen);
    let sealed = sealed.trim_end();
    assert!(sealed.contains("ARC-Seal"), "{sealed}");
    for (trusted, code) in [(json!([]), 550), (json!(["other.test"]), 550), (json!(["lists.test"]), 250)] {
        let running = running(&zone, json!({ "trusted_sealers": trusted }));
        let mut client = connect(&running).await;
        assert_eq!(client.deliver("list@lists.test", sealed).await, code, "{trusted}");
        if code == 250 {
            let (envelope, text) = last(&running);
            assert!(envelope.origin.checks.contains(&"arc=pass".to_owned()), "{:?}", envelope.origin.checks);
            assert!(text.contains("arc=pass (i=1, sealed by lists.test)"), "{text}");
            // The chain does not survive another change.
            assert_eq!(client.deliver("list@lists.test", &sealed.replace("the list", "a list")).await, 550);
        }
    }
}

#[tokio::test]
async fn greylisting_and_rates_say_come_again() {
    let zone = Zone::start();
    let grey = running(&zone, json!({ "greylist": { "enabled": true, "delay_seconds": 1 } }));
    let mut client = connect(&grey).await;
    assert_eq!(client.say("MAIL FROM:<a@other.test>").await, 250);
    client.send("RCPT TO:<alice@example.org>\r\n").await;
    let reply = client.reply().await;
    assert!(reply.starts_with("451 4.7.0 greylisted: come again in "), "{reply}");
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert_eq!(client.say("RCPT TO:<alice@example.org>").await, 250);
    let slow = running(&zone, json!({ "rate": { "messages_per_minute": 1 } }));
    let mut client = connect(&slow).await;
    let codes =
        [client.deliver("", "From: a@b.test\r\n\r\nx").await, client.deliver("", "From: a@b.test\r\n\r\nx").await];
    // Over the turn of a minute both are taken.
    assert!(codes == [250, 451] || codes == [250, 250], "{codes:?}");
}
