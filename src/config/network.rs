//! The sections `[dns]`, `[https]` and `[groups]`: written once, and passed to every bridge that wants them.

use super::groups::Groups;
use super::locate::Located;
use mesyx_net::{DnsConfig, HttpsConfig};
use mesyx_sdk::config::{schema, validate};
use serde_json::{Map, Value};
use std::path::Path;

/// The sections that bridges share, and which of their keys are paths; empty for none.
const SHARED: [(&str, &str); 3] = [("dns", "trust_anchor"), ("https", "roots"), ("groups", "")];

/// Whether a bridge's key is one that it shares with others, so that it is written at the top of the file.
pub(crate) fn is_shared(key: &str) -> bool {
    SHARED.iter().any(|(section, _)| *section == key)
}

/// How names are looked up and files fetched, checked; paths are taken from the directory `base`.
pub(crate) fn check(
    located: &mut Located,
    dns: &DnsConfig,
    https: &HttpsConfig,
    base: &Path,
) -> (DnsConfig, HttpsConfig) {
    for (key, what) in dns.check() {
        located.note(&format!("dns.{key}"), what, "write it as \"127.0.0.1\" or \"[::1]:5353\"");
    }
    let (mut dns, mut https) = (dns.clone(), https.clone());
    dns.trust_anchor = dns.trust_anchor.map(|path| base.join(path));
    https.roots = https.roots.map(|path| base.join(path));
    (dns, https)
}

/// Puts the shared sections into a bridge's table, where its schema knows them and it has none of its own.
///
/// A section with errors is left out: those are told where it stands.
pub(crate) fn pass_on(file: &Value, bridge: &Value, base: &Path, table: &mut Map<String, Value>) {
    for (section, path_key) in SHARED {
        let wanted = bridge["properties"].get(section).is_some() && !table.contains_key(section);
        let Some(given) = file.get(section).filter(|given| wanted && is_right(section, given)) else { continue };
        let mut given = given.clone();
        if let Some(path) = given.get(path_key).and_then(Value::as_str) {
            given[path_key] = base.join(path).display().to_string().into();
        }
        table.insert(section.to_owned(), given);
    }
}

/// The files that the shared sections in a bridge's table name.
pub(crate) fn files(table: &Map<String, Value>) -> Vec<std::path::PathBuf> {
    let named = SHARED.iter().filter_map(|(section, key)| table.get(*section)?.get(*key)?.as_str());
    named.map(std::path::PathBuf::from).collect()
}

fn is_right(section: &str, given: &Value) -> bool {
    if section == "https" {
        return validate::check(&schema::<HttpsConfig>(), given).is_empty();
    }
    if section == "groups" {
        return validate::check(&schema::<Groups>(), given).is_empty();
    }
    let read = || serde_json::from_value::<DnsConfig>(given.clone());
    validate::check(&schema::<DnsConfig>(), given).is_empty() && read().is_ok_and(|dns| dns.check().is_empty())
}
