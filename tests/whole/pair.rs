//! Two instances write to each other: keys are found by WKD one way, by Autocrypt the other, and what they say is in clear
//! on neither disk nor on the wire between them.

use crate::imap::contains;
use crate::support::port::free_port;
use crate::support::{until, ways};
use crate::tools::{python, succeed};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What is said, and must not be seen.
const CANARIES: [&str; 3] = ["canarysubject", "canarybody", "canaryanswer"];

/// One instance, with one user of the name `user`.
struct Host {
    dir: tempfile::TempDir,
    server: Option<Child>,
    elsewhere: ways::Elsewhere,
    domain: &'static str,
    user: &'static str,
    ports: Ports,
}

#[derive(Clone, Copy)]
struct Ports {
    smtp: u16,
    submission: u16,
    imap: u16,
    https: u16,
}

impl Host {
    fn new(domain: &'static str, user: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("mesyx");
        succeed(Command::new(env!("CARGO_BIN_EXE_mesyx")).arg("init").arg(&home).args(["--domain", domain]), b"");
        let [smtp, submission, imap, https] = free_ports();
        let elsewhere = ways::Elsewhere::default();
        Self { dir, server: None, elsewhere, domain, user, ports: Ports { smtp, submission, imap, https } }
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("mesyx")
    }

    fn password(&self) -> String {
        format!("{}'s long password", self.user)
    }

    /// Writes the configuration: mail for `to` goes by way of the port `way`.
    fn configure(&self, to: &str, way: u16, dns: u16, peer_https: u16, more: &str) {
        let Self { domain, ports: Ports { smtp, submission, imap, .. }, .. } = self;
        let config = format!(
            "hostname = \"mail.{domain}\"\ndomains = [\"{domain}\"]\n\
             [[tls]]\nchain = \"tls/chain.pem\"\nkey = \"tls/key.pem\"\n{more}\n\
             [admin]\nlisten = \"127.0.0.1:0\"\n\
             [dns]\nservers = [\"127.0.0.1:{dns}\"]\n\
             [https]\nport = {peer_https}\nroots = \"roots.pem\"\nallow_private = true\n\
             [bridge.smtp]\nlisteners = [{{ name = \"mx\", address = \"127.0.0.1:{smtp}\", tls = \"starttls\" }}]\n\
             [bridge.smtp.delivery]\nroutes = [{{ domains = [\"{to}\"], hosts = [\"127.0.0.1:{way}\"] }}]\n\
             [bridge.submission]\nlisteners = [{{ name = \"submission\", address = \"127.0.0.1:{submission}\", tls = \"starttls\", plain_auth_without_tls = true }}]\n\
             [bridge.imap]\nlisteners = [{{ name = \"imap\", address = \"127.0.0.1:{imap}\", tls = \"starttls\", plain_auth_without_tls = true }}]\n"
        );
        fs::write(self.home().join("mesyx.toml"), config).unwrap();
        let password = self.dir.path().join("password");
        fs::write(&password, self.password()).unwrap();
        self.mesyx(&["user", "add", self.user, "--password-file", password.to_str().unwrap()]);
    }

    fn mesyx(&self, arguments: &[&str]) -> Vec<u8> {
        let config = self.home().join("mesyx.toml");
        succeed(Command::new(env!("CARGO_BIN_EXE_mesyx")).arg("--config").arg(config).args(arguments), b"")
    }

    fn start(&mut self) {
        let config = self.home().join("mesyx.toml");
        if !fs::read_to_string(&config).unwrap().contains("\nrun = ") {
            self.elsewhere = ways::Elsewhere::apply(ways::Way::wanted(), &config);
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_mesyx"));
        command.arg("--config").arg(self.home().join("mesyx.toml")).arg("run").stdin(Stdio::null());
        self.server = Some(command.spawn().unwrap());
        for port in [self.ports.smtp, self.ports.submission, self.ports.imap] {
            let deadline = Instant::now() + Duration::from_secs(20);
            while TcpStream::connect(("127.0.0.1", port)).is_err() {
                assert!(Instant::now() < deadline, "the server never listened on {port}");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    fn submit(&self, to: &str, subject: &str, body: &str) {
        let script = "
import smtplib, sys
port, user, domain, password, to, subject, body = sys.argv[1:]
smtp = smtplib.SMTP('127.0.0.1', int(port))
smtp.login(user, password)
text = f'From: {user}@{domain}\\r\\nTo: {to}\\r\\nSubject: {subject}\\r\\n\\r\\n{body}\\r\\n'
smtp.sendmail(f'{user}@{domain}', [to], text)
smtp.quit()
";
        let port = self.ports.submission.to_string();
        python(script, &[&port, self.user, self.domain, &self.password(), to, subject, body]);
    }

    /// The user's contacts, as JSON.
    fn contacts(&self) -> String {
        let password = self.dir.path().join("password");
        let command = ["contact", "list", self.user, "--json", "--old-password-file", password.to_str().unwrap()];
        String::from_utf8(self.mesyx(&command)).unwrap()
    }

    /// Every message in INBOX, as it is shown.
    fn inbox(&self) -> String {
        let script = "
import imaplib, sys
port, user, password = sys.argv[1:]
imap = imaplib.IMAP4('127.0.0.1', int(port))
imap.login(user, password)
if int(imap.select('INBOX', readonly=True)[1][0]):
    for item in imap.fetch('1:*', '(BODY.PEEK[])')[1]:
        if isinstance(item, tuple):
            print(item[1].decode())
imap.logout()
";
        python(script, &[&self.ports.imap.to_string(), self.user, &self.password()])
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

fn free_ports<const N: usize>() -> [u16; N] {
    std::array::from_fn(|_| free_port())
}

/// Passes connections on to a port and keeps what went by, both ways. It hides STARTTLS, so that nothing but PGP protects
/// what is said.
struct Wire {
    port: u16,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Wire {
    fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let wire = Self { port: listener.local_addr().unwrap().port(), seen: Arc::default() };
        let seen = Arc::clone(&wire.seen);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                let (back, forth) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                let (one, other) = (Arc::clone(&seen), Arc::clone(&seen));
                std::thread::spawn(move || pass(forth, server, &one, false));
                std::thread::spawn(move || pass(back, client, &other, true));
            }
        });
        wire
    }

    fn seen(&self) -> Vec<u8> {
        self.seen.lock().unwrap().clone()
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, seen: &Mutex<Vec<u8>>, from_server: bool) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let bytes = &mut buffer[..length];
        if from_server && let Some(at) = bytes.windows(8).position(|window| window == b"STARTTLS") {
            bytes[at..at + 8].copy_from_slice(b"XNOTHING");
        }
        seen.lock().unwrap().extend_from_slice(bytes);
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}

/// A DNS server that knows a few hosts, all at 127.0.0.1. Its thread ends with the test's process.
fn dns(hosts: &'static [&'static str]) -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let query = &buffer[..length];
            let mut labels = Vec::new();
            let mut at = 12;
            while let Some(&size @ 1..) = query.get(at) {
                let end = at + 1 + usize::from(size);
                labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_lowercase());
                at = end;
            }
            let end = at + 5;
            let (Some(question), Some(&kind)) = (query.get(12..end), query.get(at + 2)) else { continue };
            let known = hosts.contains(&labels.join(".").as_str());
            let answered = known && kind == 1;
            let mut answer = query[..2].to_vec();
            let (code, counts) = (if known { 0x80 } else { 0x83 }, [u8::from(answered), u8::from(!answered)]);
            answer.extend_from_slice(&[0x85, code, 0, 1, 0, counts[0], 0, counts[1], 0, 0]);
            answer.extend_from_slice(question);
            if answered {
                answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            } else {
                // A negative answer holds by the SOA record beside it (RFC 2308): here the root's, with empty names.
                answer.extend_from_slice(&[0, 0, 6, 0, 1, 0, 0, 0, 60, 0, 22, 0, 0]);
                answer.extend_from_slice(&[0, 0, 0, 60].repeat(5));
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    port
}

/// Files that hold any canary.
fn leaks(dir: &Path) -> Vec<(PathBuf, &'static str)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(leaks(&path));
        } else if let Ok(bytes) = fs::read(&path) {
            let leaked = CANARIES.into_iter().filter(|canary| contains(&bytes, canary.as_bytes()));
            found.extend(leaked.map(|canary| (path.clone(), canary)));
        }
    }
    found
}

#[test]
fn two_instances_write_to_each_other_and_nothing_is_in_clear_between_them() {
    converse("openpgpkey.other.example", &["openpgpkey.other.example", "other.example", "one.example"]);
}

#[test]
fn keys_are_found_by_the_direct_method_where_there_is_no_host_for_keys() {
    converse("other.example", &["other.example", "one.example"]);
}

/// Two instances write to each other. The key directory of the other is at `directory_host`, of the `hosts` that there are.
fn converse(directory_host: &str, hosts: &'static [&'static str]) {
    let (mut one, mut other) = (Host::new("one.example", "alice"), Host::new("other.example", "bob"));
    let dns = dns(hosts);
    let (forth, back) = (Wire::to(other.ports.smtp), Wire::to(one.ports.smtp));

    // The authority that both believe, and the certificate of the key directory.
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![directory_host.to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &authority).unwrap();
    for home in [one.home(), other.home()] {
        fs::write(home.join("roots.pem"), authority.pem()).unwrap();
    }
    // In place of the one that `init` made, which names the domain too.
    fs::write(other.home().join("tls/chain.pem"), leaf.pem()).unwrap();
    fs::write(other.home().join("tls/key.pem"), key.serialize_pem()).unwrap();
    let https = other.ports.https;
    let directory = format!("[http]\nlisteners = [{{ name = \"https\", address = \"127.0.0.1:{https}\" }}]\n");
    one.configure("other.example", forth.port, dns, https, "");
    other.configure("one.example", back.port, dns, 1, &format!("{directory}[pgp]\nwkd = false\n"));
    one.start();
    other.start();

    // Bob's key is in the directory of his domain.
    one.submit("bob@other.example", "canarysubject", "canarybody");
    until("bob has the message", || other.inbox().contains("alice@one.example"));
    let message = String::from_utf8_lossy(&forth.seen()).into_owned();
    assert!(
        message.contains("multipart/encrypted") && message.contains("Autocrypt: addr=alice@one.example"),
        "{message}"
    );
    assert!(message.contains("Subject: [...]"), "{message}");
    assert!(one.contacts().contains("\"wkd\""), "{}", one.contacts());

    // Alice's is in the header of her message.
    until("the header is noted", || other.contacts().contains("\"autocrypt\""));
    other.submit("alice@one.example", "canarysubject", "canaryanswer");
    until("alice has the answer", || one.inbox().contains("bob@other.example"));
    let answer = String::from_utf8_lossy(&back.seen()).into_owned();
    assert!(answer.contains("multipart/encrypted"), "{answer}");

    // Each reads what the other wrote.
    assert!(other.inbox().contains("canarybody"), "{}", other.inbox());
    assert!(one.inbox().contains("canaryanswer"), "{}", one.inbox());

    // And nobody else.
    for (name, seen) in [("there", forth.seen()), ("back", back.seen())] {
        for canary in CANARIES {
            assert!(!contains(&seen, canary.as_bytes()), "{canary} on the way {name}");
        }
    }
    for host in [&one, &other] {
        assert_eq!(leaks(&host.home().join("data")), []);
    }
}
