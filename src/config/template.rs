//! The commented configuration: what `mesyx init` writes and the documentation shows, made from the definition.

use super::{File, network};
use mesyx_bridges::Registry;
use mesyx_sdk::config::schema;
use mesyx_sdk::{Grant, Manifest};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::net::SocketAddr;

/// The order of keys in the file: what everybody must look at first.
const ORDER: &[&str] = &[
    "hostname",
    "domains",
    "data_dir",
    "instance_key",
    "control_socket",
    "modes",
    "postmaster",
    "separators",
    "run_as",
    "aliases",
    "catch_all",
    "tls",
    "admin",
    "http",
    "log",
    "limits",
    "login",
    "argon2",
    "sealing",
    "keysets",
    "caches",
    "queue",
    "groups",
    "pgp",
    "dns",
    "https",
    "memory",
    "run",
    "grants",
    "restart",
    "pace",
    "listeners",
];

/// Longest line of a comment or of an array on one line.
const WIDTH: usize = 100;

/// The whole file. What stands in `values` is written out; everything else is shown as a comment with its default.
pub(crate) fn render(values: &Value, registry: &Registry) -> String {
    let mut text = "# Configuration of Mesyx. `mesyx check` finds what is wrong with it; a server that runs reads it again on SIGHUP.\n\
         # A line that begins with # shows a default (or, where there is none, an example): take the # away to change it.\n"
        .to_owned();
    let empty = json!({});
    let schema = schema::<File>();
    table(&mut text, &schema, &schema, "", values);
    let head = mesyx_sdk::config::schema::<super::BridgeHead>();
    for manifest in registry.manifests() {
        let path = format!("bridge.{}", manifest.name);
        let values = &values["bridge"][&manifest.name];
        let values = if values.is_object() { values } else { &empty };
        let _ = write!(text, "\n\n# {}.\n[{path}]\n", manifest.summary.trim_end_matches('.'));
        let mut head = head.clone();
        head["properties"]["grants"]["examples"] = json!([grants(manifest)]);
        table(&mut text, &head, &head, "", values);
        table(&mut text, &manifest.config_schema, &manifest.config_schema, &path, values);
    }
    text
}

/// What a bridge has unless told otherwise: all that it asks for, and the ports of its default listeners.
fn grants(manifest: &Manifest) -> Vec<String> {
    let listeners = manifest.config_schema["properties"]["listeners"]["default"].as_array();
    let addresses = listeners.into_iter().flatten().filter_map(|listener| listener["address"].as_str());
    let ports = addresses.filter_map(|address| Some(Grant::Listen(address.parse::<SocketAddr>().ok()?.port())));
    let mut grants = Vec::new();
    for grant in manifest.grants.iter().cloned().chain(ports).map(|grant| grant.to_string()) {
        if !grants.contains(&grant) {
            grants.push(grant);
        }
    }
    grants
}

/// The keys of one table: plain ones first, since what follows a header belongs to it.
fn table(text: &mut String, root: &Value, schema: &Value, path: &str, values: &Value) {
    let empty = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&empty);
    // Bridges have their tables further below; what they share stands once, at the top.
    let elsewhere = |key: &str| key == "bridge" || path.starts_with("bridge.") && network::is_shared(key);
    let mut keys: Vec<_> = properties.keys().map(String::as_str).filter(|key| !elsewhere(key)).collect();
    keys.sort_by_key(|key| ORDER.iter().position(|known| known == key).unwrap_or(ORDER.len()));
    let (tables, plain): (Vec<_>, Vec<_>) =
        keys.into_iter().partition(|key| is_table(resolve(root, &properties[*key]), values.get(*key)));
    for key in plain {
        let property = &properties[key];
        text.push('\n');
        comment(text, describe(root, property));
        match values.get(key) {
            Some(value) => {
                let _ = writeln!(text, "{key} = {}", show(value, "", false));
            }
            None => shown(text, root, key, property),
        }
    }
    for key in tables {
        let property = &properties[key];
        let inner = resolve(root, property);
        let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        text.push_str("\n\n");
        comment(text, describe(root, property));
        if inner["type"] == "array" {
            entries(text, root, inner, &path, &values[key]);
            continue;
        }
        let _ = writeln!(text, "[{path}]");
        let given = values.get(key).and_then(Value::as_object);
        if inner["properties"].is_object() {
            table(text, root, inner, &path, values.get(key).unwrap_or(&Value::Null));
        } else {
            for (key, value) in given.into_iter().flatten() {
                let _ = writeln!(text, "{} = {}", bare_or_quoted(key), show(value, "", false));
            }
        }
    }
}

/// The entries of an array of tables.
fn entries(text: &mut String, root: &Value, schema: &Value, path: &str, values: &Value) {
    let item = resolve(root, &schema["items"]);
    let properties = item["properties"].as_object();
    for entry in values.as_array().into_iter().flatten() {
        let _ = writeln!(text, "[[{path}]]");
        for (key, value) in entry.as_object().into_iter().flatten() {
            let _ = writeln!(text, "{} = {}", bare_or_quoted(key), show(value, "", false));
        }
        for (key, property) in properties.into_iter().flatten() {
            if entry.get(key).is_none() {
                comment(text, describe(root, property));
                shown(text, root, key, property);
            }
        }
    }
}

/// A key that is not written out: its default as a comment, or where there is none, its example.
fn shown(text: &mut String, root: &Value, key: &str, property: &Value) {
    let default = property.get("default").filter(|default| !default.is_null());
    if let Some(value) = default.or_else(|| property["examples"].get(0)) {
        let value = without_defaults(root, property, value);
        let _ = writeln!(text, "{}", commented(&format!("{key} = {}", show(&value, "", false))));
    }
}

/// The entries of an array of tables without the keys that have their default, which would only hide what matters.
fn without_defaults(root: &Value, property: &Value, value: &Value) -> Value {
    let item = resolve(root, &resolve(root, property)["items"]);
    let (Some(properties), Value::Array(entries)) = (item["properties"].as_object(), value) else {
        return value.clone();
    };
    let told = |key: &String, value: &Value| {
        key == "tls" || properties.get(key).and_then(|property| property.get("default")) != Some(value)
    };
    let strip = |entry: &Value| match entry {
        Value::Object(map) => {
            let kept = map.iter().filter(|(key, value)| told(key, value));
            Value::Object(kept.map(|(key, value)| (key.clone(), value.clone())).collect())
        }
        other => other.clone(),
    };
    Value::Array(entries.iter().map(strip).collect())
}

/// Whether a property is shown under a header of its own.
fn is_table(schema: &Value, given: Option<&Value>) -> bool {
    match schema["type"].as_str() {
        Some("object") => true,
        Some("array") => given.is_some_and(|given| given.get(0).is_some_and(Value::is_object)),
        _ => false,
    }
}

fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let pointer = schema["$ref"].as_str().and_then(|target| target.strip_prefix('#'));
    pointer.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}

fn describe<'a>(root: &'a Value, schema: &'a Value) -> &'a str {
    let own = schema["description"].as_str();
    own.or_else(|| resolve(root, schema)["description"].as_str()).unwrap_or_default()
}

/// A comment, its lines broken anew at [`WIDTH`].
fn comment(text: &mut String, what: &str) {
    let mut line = String::from("#");
    for word in what.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(text, "{line}");
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    if line.len() > 1 {
        let _ = writeln!(text, "{line}");
    }
}

fn commented(lines: &str) -> String {
    lines.lines().map(|line| format!("# {line}")).collect::<Vec<_>>().join("\n")
}

/// A value as TOML. Inside an inline table everything stays on one line.
fn show(value: &Value, indent: &str, inline: bool) -> String {
    match value {
        Value::Null => "\"\"".into(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        // JSON's escapes are TOML's, but for the slash that serde_json never escapes.
        Value::String(_) => value.to_string(),
        Value::Array(values) => {
            let items: Vec<_> = values.iter().map(|value| show(value, indent, true)).collect();
            let line = format!("[{}]", items.join(", "));
            if inline || line.len() < WIDTH {
                return line;
            }
            let rows = items.iter().map(|item| format!("{indent}  {item},\n")).collect::<String>();
            format!("[\n{rows}{indent}]")
        }
        Value::Object(map) => {
            let pairs: Vec<_> = map
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| format!("{} = {}", bare_or_quoted(key), show(value, indent, true)))
                .collect();
            if pairs.is_empty() { "{}".into() } else { format!("{{ {} }}", pairs.join(", ")) }
        }
    }
}

fn bare_or_quoted(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if bare { key.to_owned() } else { Value::from(key).to_string() }
}
