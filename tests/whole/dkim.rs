//! Signatures of ours, verified by dkimpy and by OpenDKIM.

use crate::delivery::{NextHop, demo};
use crate::queue::Outgoing;
use crate::support::sink::Sink;
use crate::{support, tools};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mesyx_bridge_smtp::dkim::{Algorithm, Dkim, DkimConfig, Key, KeyRing, KeyState, PrivateKey, secret_name};
use mesyx_sdk::{Content, MemoryHost};
use rsa::pkcs8::{EncodePrivateKey, EncodePublicKey};
use std::path::Path;
use std::process::Command;

/// Debian's Python, which has Debian's dkimpy: another one may stand in front of it in the path.
pub const PYTHON: &str = "/usr/bin/python3";

/// Verifies every signature of a message with dkimpy; prints one word for each.
const DKIMPY: &str = r#"
import dkim, json, sys
message = open(sys.argv[1], 'rb').read()
records = json.load(open(sys.argv[2]))
def txt(name, timeout=5):
    name = name.decode() if isinstance(name, bytes) else name
    return records.get(name.rstrip('.'), '').encode()
verifier = dkim.DKIM(message)
count = sum(1 for name, value in verifier.headers if name.lower() == b'dkim-signature')
for index in range(count):
    try:
        print('good' if verifier.verify(idx=index, dnsfunc=txt) else 'bad')
    except dkim.DKIMException as error:
        print('error', error)
"#;

/// What dkimpy says of each signature. `records` are TXT records, by name.
pub fn dkimpy(message: &[u8], records: &serde_json::Map<String, serde_json::Value>) -> Vec<String> {
    let place = tempfile::tempdir().unwrap();
    let (file, keys) = (place.path().join("message"), place.path().join("keys"));
    std::fs::write(&file, message).unwrap();
    std::fs::write(&keys, serde_json::to_vec(records).unwrap()).unwrap();
    let said = tools::succeed(Command::new(PYTHON).args(["-c", DKIMPY]).args([&file, &keys]), b"");
    String::from_utf8(said).unwrap().lines().map(str::to_owned).collect()
}

/// Whether OpenDKIM verifies a message. It knows RSA alone, and passes over what it does not know.
pub fn opendkim(message: &[u8], records: &serde_json::Map<String, serde_json::Value>) -> bool {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let keys: String = records.iter().map(|(name, record)| format!("{name} {}\n", record.as_str().unwrap())).collect();
    let config = format!("Mode v\nTestPublicKeys {}\nSocket inet:0@localhost\n", at("keys").display());
    for (name, content) in [("keys", keys.as_bytes()), ("config", config.as_bytes()), ("message", message)] {
        std::fs::write(at(name), content).unwrap();
    }
    let program = ["/usr/sbin/opendkim", "/usr/bin/opendkim"].into_iter().find(|path| Path::new(path).exists());
    let mut command = Command::new(program.expect("opendkim; tests/run installs it"));
    let output = tools::run(command.arg("-x").arg(at("config")).arg("-t").arg(at("message")).arg("-v"), b"");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{said}");
    said.contains("dkim=pass") || said.contains(") succeeded")
}

/// Keys of both kinds for example.org, with their records.
fn keys() -> (KeyRing, serde_json::Map<String, serde_json::Value>) {
    let rsa = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap();
    let ed25519 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let rsa_public = STANDARD.encode(rsa.to_public_key().to_public_key_der().unwrap().as_bytes());
    let ed_public = STANDARD.encode(ed25519.public_key_raw());
    let key = |selector: &str, algorithm, private: &[u8], public: &str| Key {
        selector: selector.into(),
        algorithm,
        state: KeyState::Active,
        made: "2026-11-23".into(),
        public: public.into(),
        private: Some(PrivateKey::from_der(private)),
    };
    let ring = KeyRing {
        keys: vec![
            key("r", Algorithm::RsaSha256, rsa.to_pkcs8_der().unwrap().as_bytes(), &rsa_public),
            key("e", Algorithm::Ed25519Sha256, &ed25519.serialize_der(), &ed_public),
        ],
    };
    let mut records = serde_json::Map::new();
    records.insert("r._domainkey.example.org".into(), format!("v=DKIM1; k=rsa; h=sha256; p={rsa_public}").into());
    records.insert("e._domainkey.example.org".into(), format!("v=DKIM1; k=ed25519; p={ed_public}").into());
    (ring, records)
}

fn signed(ring: &KeyRing, message: &[u8]) -> Vec<u8> {
    let host = MemoryHost::new("example.org".parse().unwrap());
    host.set_secret(&secret_name("example.org"), ring.to_secret().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let dkim = Dkim::new(DkimConfig::default());
    let fields = runtime.block_on(dkim.sign(&host, &Content::from(message.to_vec()))).unwrap();
    [&fields, message].concat()
}

#[test]
fn others_verify_what_we_sign_and_nothing_that_was_changed() {
    let (ring, records) = keys();
    let header = "From: =?utf-8?q?Ann?= <ann@example.org>\r\nTo: bob@example.net,\r\n\tcarl@example.net\r\nSubject: Tea \r\n at five\r\n\
                  Date: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@example.org>\r\nReceived: from a\r\nReceived: from b\r\n";
    let bodies = [
        "Hello\r\n",
        "",
        "\r\n\r\n",
        " \r\n",
        "no end of line",
        "space at the end \t \r\n  space\t \tin between\r\n\r\n\r\n\r\n",
        ".\r\n..\r\nFrom the first column\r\n",
        "ümläut and \x0c form feed\r\n",
    ];
    for body in bodies {
        let mut message = signed(&ring, format!("{header}\r\n{body}").as_bytes());
        if !message.ends_with(b"\r\n") {
            // SMTP sends whole lines only.
            message.extend_from_slice(b"\r\n");
        }
        let shown = String::from_utf8_lossy(&message);
        assert_eq!(dkimpy(&message, &records), ["good", "good"], "{body:?}\n{shown}");
        assert!(opendkim(&message, &records), "{body:?}\n{shown}");
    }
    let large = format!("{header}\r\n{}", "a line of a large message, with  two spaces \r\n".repeat(20_000));
    assert_eq!(dkimpy(&signed(&ring, large.as_bytes()), &records), ["good", "good"]);

    let message = String::from_utf8(signed(&ring, format!("{header}\r\nHello\r\n").as_bytes())).unwrap();
    for (old, new) in [
        ("Hello", "Hallo"),
        ("Hello\r\n", "Hello\r\nmore\r\n"),
        ("Subject: Tea", "Subject: Sea"),
        ("Subject: Tea", "Subject: other\r\nSubject: Tea"),
        ("Received: from a", "Cc: eve@example.net\r\nReceived: from a"),
        ("Received: from a", "From: eve@example.org\r\nReceived: from a"),
        ("Received: from a", "Reply-To: eve@example.net\r\nReceived: from a"),
        ("Received: from a", "Content-Type: text/html\r\nReceived: from a"),
    ] {
        let changed = message.replacen(old, new, 1);
        assert_ne!(changed, message);
        let said = dkimpy(changed.as_bytes(), &records);
        assert!(said.len() == 2 && said.iter().all(|word| word != "good"), "{old} -> {new}: {said:?}");
        assert!(!opendkim(changed.as_bytes(), &records), "{old} -> {new}");
    }
    // What relays add changes nothing.
    let relayed = format!("Received: from c\r\n{message}");
    assert_eq!(dkimpy(relayed.as_bytes(), &records), ["good", "good"]);
}

#[test]
fn what_leaves_is_signed_by_the_keys_that_dns_shows() {
    let hop = NextHop::start();
    let demo = demo(&hop);
    let alice = demo.user("alice");
    let mut swaks = Command::new("swaks");
    swaks.args(["--server", &format!("127.0.0.1:{}", demo.port("submission")), "--auth", "PLAIN"]);
    swaks.args(["--auth-user", &alice.name, "--auth-password", &alice.password, "--silent", "2"]);
    swaks.args(["--from", &alice.address, "--to", "bob@example.net", "--data", "-"]);
    let message = format!(
        "From: Alice <{}>\nTo: bob@example.net\nBcc: carl@example.net\nSubject: an odd   one\n\n.dot\n..dots\n space \n\n\n",
        alice.address
    );
    tools::succeed(&mut swaks, message.as_bytes());
    support::until("it has left", || !hop.taken().is_empty());
    let zones = support::json(&["--config", &demo.config(), "dns", "--json"], "");
    let records = zones[0]["records"].as_array().unwrap().iter().filter(|record| record["type"] == "TXT");
    let records: serde_json::Map<_, _> =
        records.map(|record| (record["name"].as_str().unwrap().to_owned(), record["value"].clone())).collect();
    let sent = hop.taken().remove(0).content;
    let shown = String::from_utf8_lossy(&sent);
    assert_eq!(dkimpy(&sent, &records), ["good", "good"], "{shown}");
    let keys: serde_json::Map<_, _> =
        records.into_iter().filter(|(name, _): &(String, _)| name.contains("._domainkey.")).collect();
    assert!(opendkim(&sent, &keys), "{shown}");
    assert!(shown.starts_with("DKIM-Signature:"), "nothing stands before it: {shown}");
}

/// Each domain signs its own authors' mail, with keys of its own; those of a domain that is not ours any more sign nothing, and are there again
/// when it is.
#[test]
fn each_domain_signs_for_itself_and_one_that_was_removed_no_more() {
    let sink = Sink::start();
    let mut instance = Outgoing::new(&sink);
    let path = instance.inner.home().join("mesyx.toml");
    let one = std::fs::read_to_string(&path).unwrap();
    let two = one.replacen("domains = [\"example.org\"]", "domains = [\"example.org\", \"second.example\"]", 1);
    assert_ne!(one, two);
    std::fs::write(&path, &two).unwrap();
    let ann =
        ["user", "add", "ann", "--address", "ann@second.example", "--no-password", "--app-password", "x", "--json"];
    let ann: serde_json::Value = serde_json::from_slice(&instance.inner.mesyx(&ann)).unwrap();
    let ann = ann["app_password"].as_str().unwrap().to_owned();
    instance.inner.mesyx(&["dns", "keys", "add"]);
    let records = |instance: &Outgoing| {
        let zones: serde_json::Value = serde_json::from_slice(&instance.inner.mesyx(&["dns", "--json"])).unwrap();
        let all = zones.as_array().unwrap().iter().flat_map(|zone| zone["records"].as_array().unwrap().clone());
        let keys = all.filter(|record| record["name"].as_str().unwrap().contains("._domainkey."));
        let pair = |record: serde_json::Value| (record["name"].as_str().unwrap().to_owned(), record["value"].clone());
        keys.map(pair).collect::<serde_json::Map<_, _>>()
    };
    let published = records(&instance);
    assert_eq!(published.len(), 4, "two of each domain: {published:?}");
    let of = |domain: &str| {
        published.clone().into_iter().filter(|(name, _)| name.ends_with(domain)).collect::<serde_json::Map<_, _>>()
    };

    instance.start();
    let alice = instance.inner.password.clone();
    for (user, password, from) in [("alice", &alice, "alice@example.org"), ("ann", &ann, "ann@second.example")] {
        let reply = instance.login_as(user, password).unwrap().submit(from, &["joe@example.net"], from).unwrap();
        assert!(reply.starts_with("250"), "{reply}");
    }
    instance.drained();
    let sent = |subject: &str| sink.taken().into_iter().find(|taken| taken.subject == subject).unwrap().bytes;
    for (from, domain, other) in [
        ("alice@example.org", "example.org", "second.example"),
        ("ann@second.example", "second.example", "example.org"),
    ] {
        let message = sent(from);
        assert_eq!(dkimpy(&message, &of(domain)), ["good", "good"], "{}", String::from_utf8_lossy(&message));
        assert!(dkimpy(&message, &of(other)).iter().all(|word| word != "good"));
    }

    // What was queued when the domain was removed leaves, and nothing signs for it.
    sink.answer("late@example.net", "451 4.3.0 later");
    let mut late = instance.login_as("ann", &ann).unwrap();
    late.submit("ann@second.example", &["late@example.net"], "late").unwrap();
    support::until("it was tried", || {
        let list = instance.inner.mesyx(&["queue", "list", "--json"]);
        String::from_utf8_lossy(&list).contains("451 4.3.0 later")
    });
    instance.inner.kill();
    std::fs::write(&path, &one).unwrap();
    assert_eq!(records(&instance).len(), 2);
    instance.start();
    instance.drained();
    let message = String::from_utf8(sent("late")).unwrap();
    assert!(!message.contains("DKIM-Signature:"), "{message}");
    instance.inner.kill();
    std::fs::write(&path, &two).unwrap();
    assert_eq!(records(&instance), published, "its keys were kept");
}
