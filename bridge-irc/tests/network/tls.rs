//! TLS with ngircd, SASL with a server of OpenSSL's, and what stands before a handshake.

use crate::support::{Bridged, Ngircd, Other, PATIENCE, free_port, skipped};
use mesyx_bridge_irc::link::{Ask, NetworkInfo, Reply, State};
use mesyx_sdk::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// An authority, a server's certificate for 127.0.0.1, one for another host, and a client's.
struct Certificates {
    dir: tempfile::TempDir,
    fingerprint: String,
    client: String,
}

impl Certificates {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "authority");
        let key = KeyPair::generate().unwrap();
        let pem = authority.self_signed(&key).unwrap().pem();
        std::fs::write(dir.path().join("ca.pem"), pem).unwrap();
        let issuer = Issuer::new(authority, key);
        let mut made = Vec::new();
        for (name, host) in [("server", "127.0.0.1"), ("other", "irc.example.net"), ("client", "al")] {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            let certificate = params.signed_by(&key, &issuer).unwrap();
            std::fs::write(dir.path().join(format!("{name}.pem")), certificate.pem()).unwrap();
            std::fs::write(dir.path().join(format!("{name}.key")), key.serialize_pem()).unwrap();
            let print = ring::digest::digest(&ring::digest::SHA256, certificate.der());
            let print: String = print.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            made.push((print, format!("{}{}", certificate.pem(), key.serialize_pem())));
        }
        let (fingerprint, client) = (made[0].0.clone(), made[2].1.clone());
        Self { dir, fingerprint, client }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }
}

/// Al, who has a client certificate, with these keys of the network; connected on demand.
async fn bridged(port: u16, certificates: &Certificates, keys: serde_json::Value) -> Bridged {
    let host = MemoryHost::new("example.org".parse().unwrap());
    let user = host.add_user("al", "pw").unwrap();
    host.set_secret("irc.certificate", Secret::from(certificates.client.clone()));
    host.set_secret("irc.password", Secret::from("pa55-canary".to_owned()));
    let mut more = serde_json::json!({ "network.tls": true });
    for (key, value) in keys.as_object().unwrap() {
        more[format!("network.{key}")] = value.clone();
    }
    let al = Bridged::again(host, user, port, more);
    al.ask(Ask::Connect { network: "net".into() }).await.unwrap();
    al
}

/// Why the network can't be reached.
async fn refusal(al: &Bridged) -> String {
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            let info = NetworkInfo::of(&al.ask(Ask::Networks).await.unwrap()).remove(0);
            assert_ne!(info.state, State::Connected);
            if !info.error.is_empty() {
                return info.error;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    found.await.expect("the network is refused")
}

#[tokio::test]
async fn the_certificate_of_a_real_server_is_verified() {
    if skipped() {
        return;
    }
    let certificates = Certificates::new();
    let (port, other_port) = (free_port(), free_port());
    let ssl = |name: &str, port: u16| {
        let (chain, key) = (certificates.path(&format!("{name}.pem")), certificates.path(&format!("{name}.key")));
        format!("[SSL]\nCertFile = {chain}\nKeyFile = {key}\nPorts = {port}\n")
    };
    let server = Ngircd::start("irc", free_port(), &ssl("server", port)).await;
    let _other = Ngircd::start("other", free_port(), &ssl("other", other_port)).await;
    let ca = certificates.path("ca.pem");

    // By authorities that don't know it, by a wrong fingerprint, and for another host: refused, with nothing said.
    let wrong = certificates.fingerprint.replace(|c: char| c.is_ascii_digit(), "0");
    for (port, keys) in [
        (port, serde_json::json!({})),
        (port, serde_json::json!({ "fingerprint": wrong })),
        (other_port, serde_json::json!({ "ca_file": ca })),
        (other_port, serde_json::json!({ "fingerprint": certificates.fingerprint })),
    ] {
        let al = bridged(port, &certificates, keys.clone()).await;
        let why = refusal(&al).await;
        assert!(why.contains("TLS") && why.contains("certificate"), "{keys}: {why}");
        al.stop().await;
    }
    let mut eve = Other::connect(server.port, "eve").await;
    eve.send("ISON al").await;
    assert!(!eve.wait(" 303 ").await.contains("al"));
    eve.join("#a").await;

    // By the authority, and by the fingerprint: what comes is told to have come by TLS.
    for keys in [serde_json::json!({ "ca_file": ca }), serde_json::json!({ "fingerprint": certificates.fingerprint })] {
        let mut al = bridged(port, &certificates, keys).await;
        al.joined().await;
        eve.wait("JOIN :#a").await;
        eve.send("PRIVMSG #a :by TLS").await;
        let (_, _, protection) = al.line("by TLS").await;
        assert!(matches!(&protection, Protection::Tls { version, .. } if version == "TLSv1.3"), "{protection:?}");
        al.stop().await;
        eve.wait("QUIT").await;
    }

    // The client certificate, as the server sees it.
    let keys = serde_json::json!({ "ca_file": ca, "certificate_secret": "irc.certificate" });
    let mut al = bridged(port, &certificates, keys).await;
    al.joined().await;
    let ask = Ask::Command { network: "net".into(), command: "WHOIS".into(), parameters: vec!["al".into()] };
    let whois = Reply::of(&al.ask(ask).await.unwrap());
    assert!(whois.iter().any(|reply| reply.command == "276"), "{whois:?}");
    al.stop().await;
}

/// A scripted server behind OpenSSL's TLS.
struct Peer {
    _child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    fn start(port: u16, certificates: &Certificates, more: &[&str]) -> Self {
        let mut command = Command::new("openssl");
        command.args(["s_server", "-quiet", "-accept", &format!("127.0.0.1:{port}")]);
        command.args(["-cert", &certificates.path("server.pem"), "-key", &certificates.path("server.key")]).args(more);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("install openssl");
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { _child: child, stdin, lines: BufReader::new(stdout).lines() }
    }

    async fn send(&mut self, text: &str) {
        self.stdin.write_all(format!("{text}\r\n").as_bytes()).await.unwrap();
    }

    async fn wait(&mut self, text: &str) -> Vec<String> {
        let mut all = Vec::new();
        let found = tokio::time::timeout(PATIENCE, async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                all.push(line.trim_end().to_owned());
                if all.last().unwrap().contains(text) {
                    return true;
                }
            }
            false
        });
        assert!(found.await.unwrap_or(false), "no {text}: {all:?}");
        all
    }
}

#[tokio::test]
async fn logs_in_by_sasl_over_tls_and_not_without() {
    if skipped() {
        return;
    }
    let certificates = Certificates::new();
    let ca = certificates.path("ca.pem");
    let plain = serde_json::json!({
        "ca_file": ca, "sasl": "plain", "account": "al-account", "password_secret": "irc.password",
    });
    let external = serde_json::json!({ "ca_file": ca, "sasl": "external", "certificate_secret": "irc.certificate" });
    // The peer takes nobody without a certificate that the authority signed.
    let verify = ["-Verify", "1", "-verify_return_error", "-CAfile", ca.as_str()];
    // NUL al-account NUL pa55-canary, by `base64`.
    let word = "AGFsLWFjY291bnQAcGE1NS1jYW5hcnk=";
    for (keys, more, mechanism, word) in
        [(plain.clone(), &[][..], "PLAIN", word), (external, &verify[..], "EXTERNAL", "+")]
    {
        let port = free_port();
        let mut peer = Peer::start(port, &certificates, more);
        let mut al = bridged(port, &certificates, keys).await;
        let first = peer.wait("USER al").await;
        assert_eq!(first[0], "CAP LS 302");
        peer.send(":s CAP * LS :sasl=PLAIN,EXTERNAL tls").await;
        peer.wait("CAP REQ :sasl").await;
        peer.send(":s CAP * ACK :sasl").await;
        peer.wait(&format!("AUTHENTICATE {mechanism}")).await;
        peer.send("AUTHENTICATE +").await;
        assert_eq!(peer.wait("AUTHENTICATE").await.last().unwrap(), &format!("AUTHENTICATE {word}"));
        peer.send(":s 903 al :ok").await;
        peer.wait("CAP END").await;
        peer.send(":s 001 al :hi\r\n:s 376 al :end").await;
        peer.wait("JOIN #a").await;
        peer.send(":al!al@h JOIN #a\r\n:s 353 al = #a :al\r\n:s 366 al #a :end").await;
        al.joined().await;
        al.stop().await;
    }
    // What the server refuses, or has not, is not gone on without.
    for answer in [":s 904 al :bad", ""] {
        let port = free_port();
        let mut peer = Peer::start(port, &certificates, &[]);
        let al = bridged(port, &certificates, plain.clone()).await;
        peer.wait("USER al").await;
        if answer.is_empty() {
            peer.send(":s CAP * LS :batch\r\n:s CAP * ACK :batch").await;
        } else {
            peer.send(":s CAP * LS :sasl").await;
            peer.wait("CAP REQ :sasl").await;
            peer.send(":s CAP * ACK :sasl").await;
            peer.wait("AUTHENTICATE PLAIN").await;
            peer.send("AUTHENTICATE +").await;
            peer.wait("AUTHENTICATE AGF").await;
            peer.send(answer).await;
        }
        let why = refusal(&al).await;
        assert!(why.contains("SASL") && !why.contains("canary"), "{why}");
        al.stop().await;
    }
}

/// Everything that a client without TLS sends within a connection, up to its end.
async fn clear_words(listener: &TcpListener, words: &[u8]) -> Vec<u8> {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut read = vec![0; 4096];
    // Its first bytes are there before ours go.
    let count = stream.read(&mut read).await.unwrap();
    read.truncate(count);
    stream.write_all(words).await.unwrap();
    let _ = stream.read_to_end(&mut read).await;
    read
}

#[tokio::test]
async fn what_came_before_the_handshake_is_never_acted_on() {
    if skipped() {
        return;
    }
    let certificates = Certificates::new();
    const INJECTED: &str = ":s 001 al :hi\r\n:s 376 al :end\r\n:al!al@h JOIN #injected\r\n:s 366 al #injected :end\r\n\
                            :evil!e@e PRIVMSG al :injected\r\n:evil!e@e PRIVMSG #a :injected\r\n";
    // Where TLS is from the first byte, words in clear are no handshake, and no word in clear goes out.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let keys = serde_json::json!({ "ca_file": certificates.path("ca.pem") });
    let al = bridged(listener.local_addr().unwrap().port(), &certificates, keys).await;
    let sent = tokio::time::timeout(PATIENCE, clear_words(&listener, INJECTED.as_bytes())).await.unwrap();
    assert_eq!(sent[0], 22, "a handshake record");
    assert!(!sent.windows(4).any(|word| word == b"NICK" || word == b"USER"));
    assert!(refusal(&al).await.contains("TLS"));
    assert!(al.lines().is_empty() && !al.host.signals().iter().any(|signal| signal.name == "join"));
    al.stop().await;

    // A server without TLS that says where it has it, and more in the same breath: that is left there, and the next connection is by TLS.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = free_port();
    let mut peer = Peer::start(port, &certificates, &[]);
    let keys = serde_json::json!({ "tls": false, "ca_file": certificates.path("ca.pem") });
    let mut al = bridged(listener.local_addr().unwrap().port(), &certificates, keys).await;
    let words = format!(":s CAP * LS :tls sts=port={port},duration=1\r\n{INJECTED}");
    let sent = tokio::time::timeout(PATIENCE, clear_words(&listener, words.as_bytes())).await.unwrap();
    let sent = String::from_utf8(sent).unwrap();
    assert!(sent.starts_with("CAP LS 302") && !sent.contains("STARTTLS") && !sent.contains("JOIN"), "{sent}");
    peer.wait("USER al").await;
    peer.send(":s 001 al :hi\r\n:s 376 al :end").await;
    let all = peer.wait("JOIN #a").await;
    assert!(!all.iter().any(|line| line.contains("STARTTLS")), "{all:?}");
    peer.send(":al!al@h JOIN #a\r\n:s 353 al = #a :al\r\n:s 366 al #a :end\r\n:bob!b@b PRIVMSG #a :by TLS").await;
    al.joined().await;
    assert!(matches!(al.line("by TLS").await.2, Protection::Tls { .. }));
    assert!(!al.lines().iter().any(|(_, line, _)| line.text == "injected"));
    assert!(!format!("{:?}", al.host.signals()).contains("injected"));
    al.stop().await;
}
