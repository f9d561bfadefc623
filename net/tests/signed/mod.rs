//! Zones that are really signed, by BIND: our own check of signatures, from a trust anchor on.

use mesyx_net::{Dns, DnsConfig, DnsError, Dnssec};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

/// BIND's name server. Of its zones, `signed.example` is signed by it (`dnssec-policy`), `tampered.example` by `dnssec-signzone` and then
/// changed, `plain.example` not at all.
struct Named {
    child: Child,
    place: tempfile::TempDir,
    port: u16,
}

const RECORDS: &str = "@ IN SOA ns hostmaster 1 3600 600 86400 60\n@ IN NS ns\nns IN A 127.0.0.1\n@ IN MX 10 mx\nmx IN A 192.0.2.1\n\
    _25._tcp.mx IN TLSA 3 1 1 0101010101010101010101010101010101010101010101010101010101010101\n";

fn program(name: &str) -> Command {
    let places = ["/usr/sbin", "/usr/bin"].map(|place| Path::new(place).join(name));
    Command::new(
        places
            .into_iter()
            .find(|path| path.exists())
            .unwrap_or_else(|| panic!("BIND is missing; tests/run installs it")),
    )
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

impl Named {
    fn start() -> Self {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        for zone in ["signed", "tampered", "plain"] {
            std::fs::write(at(zone), format!("$TTL 60\n$ORIGIN {zone}.example.\n{RECORDS}")).unwrap();
        }
        let keygen = ["-q", "-K", place.path().to_str().unwrap(), "-a", "ECDSAP256SHA256", "-f", "KSK"];
        run(program("dnssec-keygen").args(keygen).arg("tampered.example"));
        run(program("dnssec-signzone").current_dir(place.path()).args([
            "-S",
            "-z",
            "-K",
            ".",
            "-o",
            "tampered.example",
            "tampered",
        ]));
        let signed = std::fs::read_to_string(at("tampered.signed")).unwrap();
        let changed = signed.replace("192.0.2.1", "192.0.2.66");
        assert_ne!(signed, changed);
        std::fs::write(at("tampered.signed"), changed).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = place.path().display();
        let config = format!(
            "options {{ directory \"{dir}\"; key-directory \"{dir}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; \
             recursion no; pid-file none; session-keyfile none; managed-keys-directory \"{dir}\"; dnssec-validation no; }};\ncontrols {{ }};\n\
             zone \"signed.example\" {{ type primary; file \"signed\"; dnssec-policy default; inline-signing yes; }};\n\
             zone \"tampered.example\" {{ type primary; file \"tampered.signed\"; }};\n\
             zone \"plain.example\" {{ type primary; file \"plain\"; }};\n"
        );
        std::fs::write(at("named.conf"), config).unwrap();
        let log = std::fs::File::create(at("log")).unwrap();
        let mut command = program("named");
        let child = command.args(["-g", "-4", "-n", "1", "-c"]).arg(at("named.conf")).stderr(log).spawn().unwrap();
        Self { child, place, port }
    }

    /// The file of a zone's public key, once it is there.
    fn anchor(&self, zone: &str) -> PathBuf {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let entries = std::fs::read_dir(self.place.path()).unwrap().map(|entry| entry.unwrap().path());
            let is_key = |path: &PathBuf| {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                name.starts_with(&format!("K{zone}.")) && name.ends_with(".key")
            };
            if let Some(key) = entries.into_iter().find(is_key)
                && std::fs::read_to_string(&key).is_ok_and(|text| text.contains("DNSKEY"))
            {
                return key;
            }
            assert!(Instant::now() < end, "there is no key of {zone}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn resolver(&self, anchor: &Path) -> Dns {
        let config = DnsConfig {
            servers: vec![format!("127.0.0.1:{}", self.port)],
            dnssec: Dnssec::Validate,
            trust_anchor: Some(anchor.to_owned()),
            timeout_seconds: 2,
            ..DnsConfig::default()
        };
        Dns::new(&config).unwrap()
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn what_a_zone_signs_is_believed_and_nothing_else() {
    let named = Named::start();
    let anchor = named.anchor("signed.example");
    let end = Instant::now() + Duration::from_secs(30);
    // BIND signs it after it has begun to answer.
    let dns = loop {
        let dns = named.resolver(&anchor);
        match dns.mx("signed.example").await {
            Ok(answer) if answer.secure => break dns,
            other => assert!(Instant::now() < end, "never secure: {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let mx = dns.mx("signed.example").await.unwrap();
    assert_eq!(mx.records[0].host, "mx.signed.example");
    assert!(dns.addresses("mx.signed.example").await.unwrap().secure);
    let tlsa = dns.tlsa("_25._tcp.mx.signed.example").await.unwrap();
    assert!(tlsa.secure && tlsa.records[0].data == [1; 32]);
    // That there is nothing is proved too.
    let none = dns.tlsa("_26._tcp.mx.signed.example").await.unwrap_err();
    assert!(none.is_final(), "{none:?}");
    let none = dns.txt("mx.signed.example").await.unwrap_err();
    assert!(matches!(none, DnsError::NoData(..)), "{none:?}");

    // Another key is no anchor for this zone.
    let stranger = named.resolver(&named.anchor("tampered.example"));
    let refused = stranger.mx("signed.example").await;
    assert!(!refused.as_ref().is_ok_and(|answer| answer.secure), "{refused:?}");
    // What was changed after it was signed is no answer; what was not is one.
    assert!(stranger.mx("tampered.example").await.unwrap().secure);
    let changed = stranger.addresses("mx.tampered.example").await;
    assert!(matches!(changed, Err(DnsError::Bogus(_))), "{changed:?}");
    // A zone that nobody vouches for is never secure.
    let plain = dns.mx("plain.example").await;
    assert!(!plain.as_ref().is_ok_and(|answer| answer.secure), "{plain:?}");
}
