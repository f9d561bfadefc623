//! Checks of the configuration.

use super::check::{Checked, check};
use super::locate::Problem;
use super::template;
use crate::serve::registry;
use serde_json::json;
use std::path::Path;

fn read(text: &str) -> Result<Checked, Vec<Problem>> {
    check(Path::new("/etc/mesyx/mesyx.toml"), text, &registry())
}

/// Each problem's line, path and whole text.
fn problems(text: &str) -> Vec<(usize, String, String)> {
    let problems = read(text).expect_err("problems");
    problems.into_iter().map(|problem| (problem.line, problem.path.clone(), problem.to_string())).collect()
}

const GOOD: &str = r#"
hostname = "mail.example.org"
domains = ["example.org", "bücher.example"]

[[tls]]
chain = "tls/chain.pem"
key = "tls/key.pem"
"#;

#[test]
fn the_least_configuration_is_taken() {
    let checked = read(GOOD).unwrap();
    assert_eq!(checked.core.data_dir, Path::new("/etc/mesyx/data"));
    assert_eq!(checked.core.instance_key, Path::new("/etc/mesyx/instance.key"));
    assert_eq!(checked.core.domains[1].domain.to_string(), "xn--bcher-kva.example");
    assert_eq!(checked.admin, Some("127.0.0.1:9190".parse().unwrap()));
    assert!(checked.bridges.is_empty(), "only bridges that are named run");
}

#[test]
fn the_default_that_init_writes_is_right_and_runs_every_bridge() {
    let values = json!({
        "hostname": "mail.example.org",
        "domains": ["example.org"],
        "tls": [{ "chain": "tls/chain.pem", "key": "tls/key.pem" }],
    });
    let text = template::render(&values, &registry());
    let checked = read(&text).unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"));
    let names: Vec<_> = checked.bridges.iter().map(|bridge| bridge.manifest.name.clone()).collect();
    assert_eq!(names, ["imap", "irc-client", "irc-network", "smtp", "submission"]);
    // The documentation shows the very same text. INSTA_UPDATE=always writes it anew.
    let shown = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/mesyx.toml");
    if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
        std::fs::write(&shown, &text).unwrap();
    }
    let shown = std::fs::read_to_string(shown).unwrap_or_default();
    assert!(shown == text, "docs/mesyx.toml differs from the definition; write it anew with INSTA_UPDATE=always");
}

#[test]
fn what_the_default_shows_as_comments_is_right_too() {
    let values = json!({
        "hostname": "mail.example.org",
        "domains": ["example.org"],
        "tls": [{ "chain": "tls/chain.pem", "key": "tls/key.pem" }],
    });
    let text = template::render(&values, &registry());
    // A line of a default or example is `# key = value`, or belongs to one that spans several lines.
    let shown = |line: &str| {
        let rest = line.strip_prefix("# ")?;
        let key = rest.split_once(" = ").is_some_and(|(key, _)| {
            !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        });
        (key || rest.starts_with("  {") || rest.starts_with("  \"") || rest == "]").then(|| rest.to_owned())
    };
    let uncommented: String = text
        .lines()
        .map(|line| shown(line).unwrap_or_else(|| line.to_owned()) + "\n")
        .filter(|line| !line.starts_with("run_as") && !line.starts_with("postmaster"))
        .collect();
    assert!(uncommented.contains("\nlisteners = [\n"), "{uncommented}");
    if let Err(problems) = read(&uncommented) {
        panic!("{problems:#?}\n{uncommented}");
    }
}

#[test]
fn every_error_is_found_at_once_with_its_line() {
    let text = r#"hostname = "not a host"
domains = ["example.org", "EXAMPLE.org"]
data_dir = "data"
instance_key = "data/key"
modes = ["gateway"]
separators = "+a"
colour = "blue"

[aliases]
"info@example.org" = []
"info@example.net" = ["alice"]
"info" = ["alice"]

[catch_all]
"example.com" = "bob"

[admin]
listen = "0.0.0.0:9190"

[limits]
message_bytes = 100_000_000
budget_bytes = 50_000_000

[sealing]
window = 61

[log]
level = "mesyx=loud"

[bridge.imap]
run = "process"
grants = ["deliver", "fly"]
listners = []

[bridge.smpt]
"#;
    let all: String = read(text).unwrap_err().iter().map(|problem| format!("{problem}\n")).collect();
    insta::assert_snapshot!(all);
}

#[test]
fn values_of_the_wrong_kind_name_their_line() {
    let found = problems("hostname = 5\ndomains = \"example.org\"\n[login]\nfree_failures = \"many\"\n");
    let lines: Vec<_> = found.iter().map(|(line, path, _)| (*line, path.as_str())).collect();
    assert_eq!(lines, [(1, "hostname"), (2, "domains"), (4, "login.free_failures")], "{found:?}");
}

#[test]
fn missing_keys_are_told() {
    let found = problems("data_dir = \"data\"\n");
    assert!(found.iter().any(|(_, _, text)| text.contains("hostname")), "{found:?}");
    assert!(found.iter().any(|(_, _, text)| text.contains("domains")), "{found:?}");
}

#[test]
fn text_that_is_no_toml_names_its_line() {
    let found = problems("hostname = \"a.example\"\ndomains = [\n\n[tls\nx = = 1\n");
    assert!(found.iter().all(|(_, _, text)| text.contains("TOML")), "{found:?}");
    assert!(found.iter().any(|(line, _, _)| *line >= 4), "{found:?}");
}

#[test]
fn a_key_written_twice_is_an_error() {
    let found = problems("hostname = \"a.example\"\nhostname = \"b.example\"\n");
    assert_eq!(found[0].0, 2, "{found:?}");
}

#[test]
fn two_bridges_on_one_port_are_refused() {
    let text = format!(
        "{GOOD}[bridge.imap]\nlisteners = [{{ name = \"a\", address = \"127.0.0.1:1143\", tls = \"starttls\" }}]\n\
         [bridge.smtp]\nlisteners = [{{ name = \"a\", address = \"127.0.0.1:1143\" }}]\n"
    );
    let found = problems(&text);
    assert!(found[0].2.contains("wants 127.0.0.1:1143, which bridge.imap"), "{found:?}");
}

#[test]
fn no_error_repeats_a_value_that_could_be_a_secret() {
    for text in ["instance_key = 12345678\n", "[bridge.imap.limits]\npassword = \"hunter2hunter2\"\n"] {
        let found = problems(text);
        assert!(found.iter().all(|(_, _, text)| !text.contains("12345678") && !text.contains("hunter2")), "{found:?}");
    }
}

#[test]
fn a_log_level_is_a_level_or_parts_with_levels() {
    for level in ["loud", "info,loud", "", "mesyx=loud"] {
        let found = problems(&format!("{GOOD}[log]\nlevel = \"{level}\"\n"));
        assert_eq!((found.len(), found[0].1.as_str()), (1, "log.level"), "{level}: {found:?}");
    }
    for level in ["error", "warn", "info", "debug", "trace", "info,mesyx_bridge_smtp=debug"] {
        assert!(read(&format!("{GOOD}[log]\nlevel = \"{level}\"\n")).is_ok(), "{level}");
    }
}

#[test]
fn aliases_in_a_loop_name_their_line() {
    let found = problems(&format!(
        "{GOOD}[aliases]\n\"A@Example.org\" = [\"b@example.org\"]\n\"b@example.org\" = [\"a@example.org\"]\n"
    ));
    let lines: Vec<_> = found.iter().map(|(line, path, _)| (*line, path.as_str())).collect();
    assert_eq!(lines, [(9, "aliases.\"A@Example.org\""), (10, "aliases.\"b@example.org\"")], "{found:?}");
}

#[test]
fn clashes_and_missing_certificates_come_with_everything_else() {
    let text = r#"hostname = 5
domains = ["example.org"]
[[tls]]
chain = "/nowhere/chain.pem"
key = "key.pem"
[bridge.imap]
listeners = [{ name = "a", address = "127.0.0.1:1143", tls = "starttls" }]
colour = "blue"
[bridge.smtp]
listeners = [{ name = "a", address = "127.0.0.1:1143" }]
"#;
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("mesyx.toml");
    std::fs::write(&file, text).unwrap();
    let found = super::check::read(&file, &registry()).expect_err("problems");
    let lines: Vec<_> = found.iter().map(|problem| (problem.line, problem.path.as_str())).collect();
    assert_eq!(
        lines,
        [(1, "hostname"), (4, "tls[0].chain"), (6, "bridge.imap"), (8, "bridge.imap.colour")],
        "{found:?}"
    );
    assert!(found.iter().all(|problem| problem.file == file), "{found:?}");
}

#[test]
fn shared_sections_reach_the_bridges_that_want_them() {
    let mut table = serde_json::Map::new();
    let file = json!({ "dns": { "servers": ["127.0.0.1:5353"] }, "https": { "roots": "ca.pem" } });
    let bridge = json!({ "properties": { "dns": {}, "https": {}, "limits": {} } });
    let base = Path::new("/etc/mesyx");
    super::network::pass_on(&file, &bridge, base, &mut table);
    let passed = json!({ "dns": file["dns"], "https": { "roots": "/etc/mesyx/ca.pem" } });
    assert_eq!(serde_json::Value::Object(table.clone()), passed);
    // A bridge's own stays, one that does not know the key gets nothing, and what is wrong is told once.
    table.insert("dns".into(), json!({}));
    super::network::pass_on(&file, &bridge, base, &mut table);
    assert_eq!(table["dns"], json!({}));
    let mut table = serde_json::Map::new();
    super::network::pass_on(&file, &json!({ "properties": {} }), base, &mut table);
    super::network::pass_on(&json!({ "dns": { "servers": ["nowhere"] } }), &bridge, base, &mut table);
    assert!(table.is_empty());
    let text = format!("{GOOD}[dns]\nservers = [\"nowhere\"]\n[bridge.smtp]\n");
    let found = problems(&text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].1, "dns.servers[0]");

    // Clients of IRC are told how long names and topics of groups may be.
    let mut table = serde_json::Map::new();
    let file = json!({ "groups": { "topic_bytes": 100, "name_bytes": 20, "members": 5 } });
    let schema = registry().manifest("irc-client").unwrap().config_schema.clone();
    super::network::pass_on(&file, &schema, base, &mut table);
    assert_eq!(table["groups"], file["groups"]);
    let settings = mesyx_bridge_irc::client::Settings::read(mesyx_sdk::Config::new(table.into())).unwrap();
    assert_eq!((settings.groups.topic_bytes, settings.groups.name_bytes), (100, 20));
    assert!(read(&format!("{GOOD}[groups]\ntopic_bytes = 100\n[bridge.irc-client]\n")).is_ok());
    let found = problems(&format!("{GOOD}[groups]\ntopic_bytes = 1\n[bridge.irc-client]\n"));
    assert_eq!(found.iter().map(|(_, key, _)| key.as_str()).collect::<Vec<_>>(), ["groups.topic_bytes"]);
}
