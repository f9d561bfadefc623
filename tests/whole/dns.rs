//! What `mesyx dns` prints, read by BIND's own parser; and the keys behind it.

use crate::support::port::free_port;
use crate::support::{self, stdout};
use crate::tools;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A new instance for `domains`, the first of them its own; its configuration file.
fn instance(dir: &Path, domains: &[&str], more: &str) -> PathBuf {
    let dir = dir.join("instance");
    let made = stdout(0, &["init", dir.to_str().unwrap(), "--domain", domains[0]], "");
    assert!(made.contains("dns"), "the next steps name it: {made}");
    let config = dir.join("mesyx.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let list = format!("domains = {}", serde_json::to_string(domains).unwrap());
    let text = text.replace(&format!("domains = [\"{}\"]", domains[0]), &list) + more;
    let http = "\n[http]\nlisteners = [{ name = \"https\", address = \"127.0.0.1:8443\" }]\n";
    std::fs::write(&config, text.replace("\n[http]\n", http)).unwrap();
    config
}

fn mesyx(config: &Path, arguments: &[&str]) -> String {
    stdout(0, &[&["--config", config.to_str().unwrap()], arguments].concat(), "")
}

fn json(config: &Path, arguments: &[&str]) -> Value {
    serde_json::from_str(&mesyx(config, arguments)).unwrap()
}

/// Has BIND read a zone with these records; how it understood them.
fn checked_zone(domain: &str, records: &str) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    let host = format!("mail.{domain}");
    let zone = format!(
        "$TTL 3600\n{domain}. IN SOA ns.{domain}. hostmaster.{domain}. 1 3600 600 86400 3600\n{domain}. IN NS ns.{domain}.\n\
         ns.{domain}. IN A 192.0.2.1\n{host}. IN A 192.0.2.2\n{records}"
    );
    std::fs::write(file.path(), &zone).unwrap();
    let mut command = Command::new("named-checkzone");
    command.args([
        "-D", "-q", "-o", "-", "-k", "fail", "-m", "fail", "-M", "fail", "-n", "fail", "-r", "fail", "-S", "fail",
        "-T", "warn",
    ]);
    let shown = tools::succeed(command.arg(domain).arg(file.path()), b"");
    String::from_utf8(shown).unwrap()
}

#[test]
fn bind_takes_the_records_of_every_domain() {
    let place = tempfile::tempdir().unwrap();
    let config = instance(place.path(), &["example.org", "bücher.example"], "");
    let made = mesyx(&config, &["dns", "keys", "add"]);
    assert!(made.contains("xn--bcher-kva.example") && !made.contains("example.org"), "one domain had keys: {made}");
    let zones = json(&config, &["dns", "--json"]);
    for domain in ["example.org", "xn--bcher-kva.example"] {
        let records = mesyx(&config, &["dns", domain, "--zone"]);
        // Records of the host itself belong to the zone that it is in.
        assert_eq!(records.contains("_25._tcp.mail.example.org."), domain == "example.org");
        let understood = checked_zone(domain, &records);
        let zone = zones.as_array().unwrap().iter().find(|zone| zone["domain"] == domain).unwrap();
        for record in zone["records"].as_array().unwrap() {
            let name = format!("{}.", record["name"].as_str().unwrap());
            let kind = record["type"].as_str().unwrap();
            let found: Vec<String> = understood
                .lines()
                .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>())
                .filter(|words| words.len() > 4 && words[0] == name && words[3] == kind)
                .map(|words| words[4..].join(" ").replace("\" \"", ""))
                .collect();
            let value = record["value"].as_str().unwrap().to_lowercase();
            let bare = |text: &str| text.trim_matches('"').replace("\\;", ";").to_lowercase();
            let matches = |text: &String| {
                let text = bare(text);
                text == value || kind == "TLSA" && text.replace(' ', "") == value.replace(' ', "")
            };
            assert!(found.iter().any(matches), "{name} {kind} {value} in {found:?}");
        }
        for needed in [
            "MX",
            "v=spf1",
            "v=DMARC1",
            "_mta-sts",
            "v=TLSRPTv1",
            "openpgpkey",
            "autoconfig",
            "autodiscover",
            "_imaps._tcp",
            "_submissions._tcp",
            "_submission._tcp",
            "_imap._tcp",
        ] {
            assert!(records.contains(needed), "{needed} in {records}");
        }
        assert_eq!(records.matches("v=DKIM1").count(), 2, "a key of each kind");
    }
    let text = mesyx(&config, &["dns"]);
    assert!(text.contains("PTR") && text.contains("; example.org"), "{text}");
    support::run(1, &["--config", config.to_str().unwrap(), "dns", "example.net"], "");
}

#[test]
fn the_keys_are_what_their_records_say() {
    let place = tempfile::tempdir().unwrap();
    let config = instance(place.path(), &["example.org"], "");
    let keys = json(&config, &["dns", "keys", "list", "--json"]);
    let of =
        |algorithm: &str| keys.as_array().unwrap().iter().find(|key| key["algorithm"] == algorithm).unwrap().clone();
    let rsa = of("rsa-sha256");
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", rsa["public"].as_str().unwrap());
    let shown = tools::succeed(Command::new("openssl").args(["pkey", "-pubin", "-noout", "-text"]), pem.as_bytes());
    assert!(String::from_utf8(shown).unwrap().contains("2048 bit"));
    assert_eq!(of("ed25519-sha256")["public"].as_str().unwrap().len(), 44, "32 bytes in base64");
    // The certificate's key, as another program computes its digest.
    let chain = config.with_file_name("tls").join("chain.pem");
    let script = "openssl x509 -in \"$1\" -noout -pubkey | openssl pkey -pubin -outform DER | openssl dgst -sha256 -r | cut -d' ' -f1";
    let digest = tools::succeed(Command::new("sh").args(["-c", script, "sh"]).arg(chain), b"");
    let zone = mesyx(&config, &["dns", "--zone"]);
    assert!(zone.contains(&format!("TLSA 3 1 1 {}", String::from_utf8(digest).unwrap().trim())), "{zone}");

    // No file holds a secret key in clear: neither the header of PKCS #8 for RSA nor that of its base64.
    let mut waiting = vec![config.parent().unwrap().to_owned()];
    let mut looked_at = 0;
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        looked_at += bytes.len();
        for canary in [&b"MIIEv"[..], b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01", b"\"private\""] {
            assert!(!bytes.windows(canary.len()).any(|window| window == canary), "{}", path.display());
        }
    }
    assert!(looked_at > 50_000, "there is a store to look at");
    assert!(mesyx(&config, &["secret", "list"]).contains("dkim.example.org"));
}

#[test]
fn keys_are_changed_in_steps_that_break_no_signature() {
    let place = tempfile::tempdir().unwrap();
    let config = instance(place.path(), &["example.org"], "");
    let states = |wanted: &str| -> Vec<String> {
        let keys = json(&config, &["dns", "keys", "list", "--json"]);
        let fitting = keys.as_array().unwrap().iter().filter(|key| key["state"] == wanted).cloned().collect::<Vec<_>>();
        fitting.iter().map(|key| key["selector"].as_str().unwrap().to_owned()).collect()
    };
    let keys = |command: &str| mesyx(&config, &["dns", "keys", command, "example.org"]);
    let first = states("active");
    assert_eq!(first.len(), 2);
    support::run(1, &["--config", config.to_str().unwrap(), "dns", "keys", "activate", "example.org"], "");
    keys("rotate");
    assert_eq!(states("active"), first, "the old ones sign on");
    let next = states("next");
    assert!(next.len() == 2 && next.iter().all(|selector| !first.contains(selector)));
    let zone = mesyx(&config, &["dns", "--zone"]);
    assert!(first.iter().chain(&next).all(|selector| zone.contains(&format!("{selector}._domainkey"))), "{zone}");
    support::run(1, &["--config", config.to_str().unwrap(), "dns", "keys", "rotate", "example.org"], "");
    keys("activate");
    assert_eq!((states("active"), states("retired")), (next.clone(), first.clone()));
    assert!(
        mesyx(&config, &["dns", "--zone"]).contains(&format!("{}._domainkey", first[0])),
        "mail on its way still verifies"
    );
    keys("drop");
    assert_eq!((states("active"), states("retired")), (next, Vec::new()));
    keys("rotate");
    support::run(1, &["--config", config.to_str().unwrap(), "dns", "keys", "add", "example.net"], "");
}

/// BIND's own server for one zone, on a port of its own.
struct Named {
    child: std::process::Child,
    _place: tempfile::TempDir,
}

impl Named {
    fn start(port: u16, domain: &str, zone: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name).display().to_string();
        let config = format!(
            "options {{ directory \"{}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; recursion no; \
             pid-file none; session-keyfile none; managed-keys-directory \"{}\"; dnssec-validation no; }};\ncontrols {{ }};\n\
             zone \"{domain}\" {{ type primary; file \"{}\"; check-names ignore; }};\n",
            place.path().display(),
            place.path().display(),
            at("zone")
        );
        std::fs::write(at("zone"), zone).unwrap();
        std::fs::write(at("named.conf"), config).unwrap();
        let program = ["/usr/sbin/named", "/usr/bin/named"].into_iter().find(|path| Path::new(path).exists());
        let mut command = Command::new(program.expect("named; tests/run installs it"));
        let log = std::fs::File::create(at("log")).unwrap();
        let child = command.args(["-g", "-4", "-n", "1", "-c", &at("named.conf")]).stderr(log).spawn().unwrap();
        support::until("named answers", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { child, _place: place }
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_name_server_with_our_records_passes_the_check_and_one_without_does_not() {
    let port = free_port();
    let place = tempfile::tempdir().unwrap();
    let config = instance(place.path(), &["example.org"], "");
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace("\n[dns]\n", &format!("\n[dns]\nservers = [\"127.0.0.1:{port}\"]\n"));
    std::fs::write(&config, text).unwrap();
    let head = "$TTL 60\nexample.org. IN SOA ns.example.org. hostmaster.example.org. 1 60 60 60 60\nexample.org. IN NS ns.example.org.\n\
                ns.example.org. IN A 127.0.0.1\nmail.example.org. IN A 192.0.2.2\nmail.example.org. IN AAAA 2001:db8::2\n";
    let records = mesyx(&config, &["dns", "--zone"]);
    let check = |code: i32| -> Value {
        let arguments = ["--config", config.to_str().unwrap(), "dns", "--check", "--json"];
        serde_json::from_str(&stdout(code, &arguments, "")).unwrap()
    };
    let wrong = |said: &Value| -> Vec<(String, String)> {
        let all = said["records"].as_array().unwrap();
        assert!(all.len() > 15, "every record is looked at: {said}");
        let odd = all.iter().filter(|record| record["dns"]["is"] != "right");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        odd.map(|record| (text(&record["name"]), text(&record["dns"]["is"]))).collect()
    };
    let named = Named::start(port, "example.org", &format!("{head}{records}"));
    assert_eq!(wrong(&check(0)), []);
    drop(named);

    let changed: String = records
        .lines()
        .filter(|line| !line.starts_with("_dmarc.") && !line.starts_with("mta-sts."))
        .map(|line| line.replace("MX 10 mail.", "MX 10 other.").replace(" 993 ", " 1993 ") + "\n")
        .collect();
    let more = "other.example.org. A 192.0.2.9\nexample.org. TXT \"v=spf1 -all\"\nmta-sts.example.org. A 192.0.2.9\n";
    let _named = Named::start(port, "example.org", &format!("{head}{changed}{more}"));
    let expected = [
        ("example.org", "other"),
        ("example.org", "other"),
        ("_dmarc.example.org", "missing"),
        ("mta-sts.example.org", "other"),
        ("_imaps._tcp.example.org", "other"),
    ];
    let found = wrong(&check(1));
    assert_eq!(found.iter().map(|(name, is)| (name.as_str(), is.as_str())).collect::<Vec<_>>(), expected);
}
