//! Pages for mail programs and other hosts, asked for by curl and read by programs that were not written here.

use crate::support::{self, Demo, stdout};
use crate::tools;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// Asks for `https://NAME/PATH` at the demo's HTTPS listener as if it were port 443; the status and the body.
fn https(demo: &Demo, name: &str, path: &str, more: &[&str]) -> (u16, Vec<u8>) {
    let body = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "60", "--write-out", "%{http_code}"]);
    command.arg("--cacert").arg(demo.tls_ca()).arg("--output").arg(body.path());
    command.args(["--connect-to", &format!("{name}:443:127.0.0.1:{}", demo.port("https"))]).args(more);
    let code = tools::succeed(command.arg(format!("https://{name}{path}")), b"");
    let code = String::from_utf8(code).unwrap().parse().unwrap();
    (code, std::fs::read(body.path()).unwrap())
}

fn text(answer: (u16, Vec<u8>)) -> String {
    assert_eq!(answer.0, 200);
    String::from_utf8(answer.1).unwrap()
}

/// The hash by which a Web Key Directory has an address, as GnuPG computes it.
fn wkd_hash(address: &str) -> String {
    let client = ["/usr/lib/gnupg/gpg-wks-client", "/usr/bin/gpg-wks-client"];
    let client =
        client.into_iter().find(|path| Path::new(path).exists()).expect("gpg-wks-client; tests/run installs it");
    let shown = tools::succeed(Command::new(client).args(["--print-wkd-hash", address]), b"");
    String::from_utf8(shown).unwrap().split_whitespace().next().unwrap().to_owned()
}

/// What gpg makes of a certificate: its listing, with colons.
fn listed(certificate: &[u8]) -> String {
    let home = tempfile::tempdir().unwrap();
    let gpg = |arguments: &[&str], input: &[u8]| {
        let mut command = Command::new("gpg");
        command.arg("--homedir").arg(home.path()).args(["--batch", "--with-colons"]).args(arguments);
        String::from_utf8(tools::succeed(&mut command, input)).unwrap()
    };
    gpg(&["--import"], certificate);
    let public = gpg(&["--list-keys"], b"");
    let secret = gpg(&["--list-secret-keys"], b"");
    assert_eq!(secret.lines().filter(|line| line.starts_with("sec")).count(), 0, "no secret key is ever served");
    public
}

#[test]
fn a_users_certificate_is_found_by_both_methods() {
    let demo = Demo::start();
    let hash = wkd_hash("alice@example.org");
    let advanced = format!("/.well-known/openpgpkey/example.org/hu/{hash}?l=alice");
    let (code, first) = https(&demo, "openpgpkey.example.org", &advanced, &[]);
    assert_eq!(code, 200);
    let (code, second) = https(&demo, "example.org", &format!("/.well-known/openpgpkey/hu/{hash}?l=alice"), &[]);
    assert_eq!((code, &second), (200, &first));
    let listing = listed(&first);
    let ids: Vec<_> = listing.lines().filter(|line| line.starts_with("uid:")).collect();
    assert!(ids.len() == 1 && ids[0].contains("<alice@example.org>"), "{listing}");
    // It can be encrypted to.
    assert!(
        listing.lines().any(|line| line.starts_with("sub:") && line.split(':').nth(11).unwrap().contains('e')),
        "{listing}"
    );
    // sq reads it, and finds nothing wrong.
    tools::succeed(Command::new("sq").args(["packet", "dump"]), &first);

    let headers = headers(&demo, "example.org", &format!("/.well-known/openpgpkey/hu/{hash}")).to_lowercase();
    assert!(headers.contains("access-control-allow-origin: *"), "{headers}");
    assert!(headers.contains("content-type: application/octet-stream"), "{headers}");
    for path in ["/.well-known/openpgpkey/policy", "/.well-known/openpgpkey/example.org/policy"] {
        let name = if path.contains("example") { "openpgpkey.example.org" } else { "example.org" };
        text(https(&demo, name, path, &[]));
    }
}

/// The header of the answer to HEAD.
fn headers(demo: &Demo, name: &str, path: &str) -> String {
    let mut command = Command::new("curl");
    command.args(["--silent", "--head", "--max-time", "60", "--cacert"]).arg(demo.tls_ca());
    command.args(["--connect-to", &format!("{name}:443:127.0.0.1:{}", demo.port("https"))]);
    String::from_utf8(tools::succeed(command.arg(format!("https://{name}{path}")), b"")).unwrap()
}

#[test]
fn who_has_no_certificate_here_is_not_told_apart() {
    let demo = Demo::start();
    let ask = |name: &str, path: String| https(&demo, name, &path, &[]);
    let unknown = ask("example.org", format!("/.well-known/openpgpkey/hu/{}", wkd_hash("nobody@example.org")));
    assert_eq!(unknown.0, 404);
    // Answered, but nobody's own address; a subaddress; a login name in another domain.
    for (domain, address) in [
        ("example.org", "postmaster@example.org"),
        ("example.org", "alice+x@example.org"),
        ("mail.example.org", "alice@mail.example.org"),
    ] {
        assert_eq!(ask(domain, format!("/.well-known/openpgpkey/hu/{}", wkd_hash(address))), unknown, "{address}");
    }
    for path in
        ["/", "/.well-known/openpgpkey/hu/", "/.well-known/openpgpkey/hu/..", "/metrics", "/etc/passwd", "/%2e%2e/x"]
    {
        assert_eq!(ask("example.org", path.to_owned()).0, 404, "{path}");
    }
    let hash = wkd_hash("alice@example.org");
    let (code, _) = https(&demo, "example.org", &format!("/.well-known/openpgpkey/hu/{hash}"), &["-X", "DELETE"]);
    assert_eq!(code, 405);
    let (code, _) =
        https(&demo, "example.org", &format!("/.well-known/openpgpkey/hu/{hash}"), &["-H", "Host: example.net"]);
    assert_eq!(code, 404, "not our domain");
}

#[test]
fn the_policy_on_tls_and_what_dns_says_of_it_agree() {
    let demo = Demo::start();
    let policy = text(https(&demo, "mta-sts.example.org", "/.well-known/mta-sts.txt", &[]));
    assert_eq!(policy, "version: STSv1\r\nmode: testing\r\nmx: mail.example.org\r\nmax_age: 604800\r\n");
    let id = |demo: &Demo| {
        let zones = support::json(&["--config", &demo.config(), "dns", "--json"], "");
        let records = zones[0]["records"].as_array().unwrap().clone();
        let record = records.iter().find(|record| record["name"] == "_mta-sts.example.org").unwrap();
        record["value"].as_str().unwrap().to_owned()
    };
    let before = id(&demo);
    // A change of the policy is served after a reload, without a restart, and has another id.
    let config = std::fs::read_to_string(demo.config()).unwrap();
    assert!(config.contains("[http.mta_sts]"), "{config}");
    let changed = config.replace("[http.mta_sts]\n", "[http.mta_sts]\nmode = \"enforce\"\n");
    std::fs::write(demo.config(), changed).unwrap();
    stdout(0, &["--config", &demo.config(), "reload"], "");
    let policy = text(https(&demo, "mta-sts.example.org", "/.well-known/mta-sts.txt", &[]));
    assert!(policy.contains("mode: enforce\r\n"), "{policy}");
    assert_ne!(id(&demo), before);
}

/// What an XML parser finds: the tags from the root on, with their text.
const XML: &str = r#"
import sys, xml.etree.ElementTree as tree
def walk(element, path):
    path = path + "/" + element.tag.split("}")[-1]
    for name, value in element.attrib.items():
        print(f"{path}@{name}={value}")
    print(f"{path}={(element.text or '').strip()}")
    for child in element:
        walk(child, path)
walk(tree.parse(sys.argv[1]).getroot(), "")
"#;

fn parsed(xml: &str) -> Vec<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), xml).unwrap();
    tools::python(XML, &[file.path().to_str().unwrap()]).lines().map(str::to_owned).collect()
}

#[test]
fn thunderbird_is_told_where_the_listeners_are() {
    let demo = Demo::start();
    let path = "/mail/config-v1.1.xml?emailaddress=alice%40example.org";
    let settings = text(https(&demo, "autoconfig.example.org", path, &[]));
    let found = parsed(&settings);
    let has = |line: String| assert!(found.contains(&line), "{line} in\n{settings}");
    has("/clientConfig@version=1.1".into());
    has("/clientConfig/emailProvider/domain=example.org".into());
    for (listener, element, socket) in [
        ("imaps", "incomingServer", "SSL"),
        ("imap", "incomingServer", "STARTTLS"),
        ("submissions", "outgoingServer", "SSL"),
        ("submission", "outgoingServer", "STARTTLS"),
    ] {
        has(format!("/clientConfig/emailProvider/{element}/port={}", demo.port(listener)));
        has(format!("/clientConfig/emailProvider/{element}/socketType={socket}"));
        has(format!("/clientConfig/emailProvider/{element}/username=%EMAILADDRESS%"));
    }
    // The other places where mail programs look.
    let other = text(https(&demo, "example.org", "/.well-known/autoconfig/mail/config-v1.1.xml", &[]));
    assert_eq!(other, settings);
    assert_eq!(text(https(&demo, "mail.example.org", path, &[])), settings);
    let plain = support::http_at(demo.address("http"), "autoconfig.example.org", path);
    assert_eq!(plain, (200, settings), "without TLS, as programs ask first");
    // It tells nobody who is a user.
    let nobody = "/mail/config-v1.1.xml?emailaddress=nobody%40example.org";
    assert_eq!(https(&demo, "autoconfig.example.org", nobody, &[]).0, 200);
}

#[test]
fn outlook_is_told_where_the_listeners_are() {
    let demo = Demo::start();
    let ask = |address: &str| {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<Autodiscover xmlns=\"http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006\">\
             <Request><EMailAddress>{address}</EMailAddress><AcceptableResponseSchema>http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a</AcceptableResponseSchema></Request></Autodiscover>"
        );
        text(https(&demo, "autodiscover.example.org", "/autodiscover/autodiscover.xml", &["--data-binary", &body]))
    };
    let answer = ask("o&apos;neil&amp;sons@example.org");
    let found = parsed(&answer);
    let base = "/Autodiscover/Response/Account/Protocol";
    for line in [
        format!("{base}/Type=IMAP"),
        format!("{base}/Port={}", demo.port("imaps")),
        format!("{base}/Type=SMTP"),
        format!("{base}/Port={}", demo.port("submissions")),
        format!("{base}/LoginName=o'neil&sons@example.org"),
        format!("{base}/SSL=on"),
    ] {
        assert!(found.contains(&line), "{line} in\n{answer}");
    }
    assert!(parsed(&ask("a@example.net")).contains(&"/Autodiscover/Response/Error/ErrorCode=600".to_owned()));
    let (code, _) = https(&demo, "autodiscover.example.org", "/autodiscover/autodiscover.xml", &[]);
    assert_eq!(code, 405, "only what is posted is answered");
    let large = "x".repeat(20_000);
    let (code, _) =
        https(&demo, "autodiscover.example.org", "/autodiscover/autodiscover.xml", &["--data-binary", &large]);
    assert_eq!(code, 413);
}

#[test]
fn apple_gets_a_profile_that_its_format_allows() {
    let demo = Demo::start();
    let path = "/mail/apple.mobileconfig?emailaddress=alice@example.org";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text(https(&demo, "mail.example.org", path, &[]))).unwrap();
    let script = "import sys, plistlib, json; print(json.dumps(plistlib.load(open(sys.argv[1], 'rb'))))";
    let profile: Value = serde_json::from_str(&tools::python(script, &[file.path().to_str().unwrap()])).unwrap();
    let mail = &profile["PayloadContent"][0];
    assert_eq!(mail["PayloadType"], "com.apple.mail.managed");
    assert_eq!(mail["IncomingMailServerPortNumber"], demo.port("imaps"));
    assert_eq!(mail["OutgoingMailServerPortNumber"], demo.port("submissions"));
    assert_eq!(mail["IncomingMailServerUsername"], "alice@example.org");
}

#[test]
fn peers_that_send_nothing_or_too_much_are_sent_away() {
    use std::io::{Read, Write};
    let demo = Demo::start();
    let mut stream = std::net::TcpStream::connect(demo.address("http")).unwrap();
    stream.set_write_timeout(Some(support::PATIENCE)).unwrap();
    write!(stream, "GET / HTTP/1.1\r\nHost: example.org\r\n").unwrap();
    let filler = format!("X-Filler: {}\r\n", "y".repeat(1000));
    let mut sent = 0;
    // More than the kernel holds on its way: either the line is cut, or nobody reads on.
    while sent < 50_000_000 && stream.write_all(filler.as_bytes()).is_ok() {
        sent += filler.len();
    }
    assert!(sent < 50_000_000, "a head without end is cut off");
    let mut silent = std::net::TcpStream::connect(demo.address("http")).unwrap();
    silent.set_read_timeout(Some(support::PATIENCE)).unwrap();
    let mut answer = Vec::new();
    let _ = silent.read_to_end(&mut answer);
    let said = String::from_utf8_lossy(&answer);
    assert!(said.is_empty() || said.contains("408"), "closed without an answer, or with the reason: {said}");
    assert_eq!(support::http_at(demo.address("http"), "example.org", "/.well-known/openpgpkey/policy").0, 200);
    let (_, metrics) = support::http(demo.address("admin"), "/metrics");
    assert!(metrics.contains("mesyx_http_requests_total{page=\"wkd-policy\",code=\"200\"} 1"), "{metrics}");
}

#[test]
fn the_check_names_what_a_certificate_lacks_and_who_is_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("instance");
    stdout(0, &["init", dir.to_str().unwrap()], "");
    let config = dir.join("mesyx.toml");
    let path = config.to_str().unwrap();
    let check = || support::json(&["--config", path, "check", "--json"], "");
    assert_eq!(check()["warnings"], serde_json::json!([]), "a new instance has nothing wrong");
    let store = |dir: &Path| {
        let mut names: Vec<_> = std::fs::read_dir(dir.join("data/store"))
            .unwrap()
            .map(|entry| (entry.as_ref().unwrap().file_name(), entry.unwrap().metadata().unwrap().modified().unwrap()))
            .collect();
        names.sort();
        names
    };
    let before = store(&dir);

    let text = std::fs::read_to_string(&config).unwrap();
    let text = text
        .replace("\n[aliases]\n", "\n[aliases]\n\"info@example.org\" = [\"zoe\"]\n")
        .replace("\n[catch_all]\n", "\n[catch_all]\n\"example.org\" = \"nobody\"\n")
        .replace("\n[http]\n", "\n[http]\nlisteners = [{ name = \"https\", address = \"127.0.0.1:0\" }]\n")
        .replace("# postmaster = \"alice\"", "postmaster = \"ghost\"");
    std::fs::write(&config, text).unwrap();
    let warnings = check()["warnings"].to_string();
    for expected in [
        "there is no zoe",
        "there is no nobody",
        "there is no ghost",
        "mta-sts.example.org",
        "openpgpkey.example.org",
        "autoconfig.example.org",
    ] {
        assert!(warnings.contains(expected), "{expected} in {warnings}");
    }
    assert_eq!(store(&dir), before, "looking changes nothing");
    let user = ["--config", path, "user", "add", "zoe", "--no-password", "--json"];
    stdout(0, &user, "");
    let warnings = check()["warnings"].to_string();
    assert!(!warnings.contains("zoe") && warnings.contains("ghost"), "{warnings}");
}
