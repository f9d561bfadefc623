//! What can be seen without running the bridge: manifest, schema, `build`.

use super::stage::apart;
use super::{Must, Network, Report, Subject};
use crate::config::validate;
use crate::{Config, ConfigErrors, Grant, Manifest};
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub(super) fn check(subject: &Subject, network: &dyn Network, report: &mut Report) {
    let manifest = (subject.manifest)();
    report.holds(Must::ManifestSame, (subject.manifest)() == manifest, || "two calls gave two manifests".to_owned());
    report.note(Must::ManifestValid, valid(&manifest));
    let delivers = manifest.grants.contains(&Grant::Deliver);
    report.holds(Must::DeliversWithGrant, delivers != manifest.delivers.is_empty(), || {
        format!("it delivers to {:?}, and its grants are {:?}", manifest.delivers, manifest.grants)
    });

    let schema = &manifest.config_schema;
    report.holds(Must::SchemaOfObject, schema["type"] == "object", || {
        format!("the schema's type is {}, not \"object\"", schema["type"])
    });
    for error in validate::check(schema, &network.config()) {
        report.note(Must::SchemaOfObject, Err(format!("by the schema, the working configuration is wrong: {error}")));
    }
    pure(subject, network, report);
    wrong(subject, schema, network, report);
}

fn valid(manifest: &Manifest) -> Result<(), String> {
    let name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if manifest.name.is_empty() || manifest.name.len() > Manifest::MAX_NAME || !manifest.name.bytes().all(name) {
        return Err(format!("the name is {:?}", manifest.name));
    }
    for (what, text) in [("version", &manifest.version), ("summary", &manifest.summary)] {
        if text.trim().is_empty() || text.chars().any(char::is_control) {
            return Err(format!("the {what} is {text:?}, not one line"));
        }
    }
    let grants: BTreeSet<_> = manifest.grants.iter().collect();
    if grants.len() != manifest.grants.len() {
        return Err(format!("a grant is named twice: {:?}", manifest.grants));
    }
    Ok(())
}

/// Bytes and calls of reading and writing that this thread made, where the system tells.
fn transfers() -> Option<String> {
    let all = std::fs::read_to_string("/proc/thread-self/io").ok()?;
    let calls = all.lines().filter(|line| line.starts_with("syscr:") || line.starts_with("syscw:"));
    Some(calls.collect::<Vec<_>>().join(" "))
}

fn pure(subject: &Subject, network: &dyn Network, report: &mut Report) {
    let (build, config) = (subject.build, Config::new(network.config()));
    // What is made once for the whole program (tables, providers) may be read the first time.
    let first = apart({
        let config = config.clone();
        move || build(config).map(drop)
    });
    let again = apart(move || {
        // Looking is a read of its own: twice the same look shows what one costs.
        let (nothing, before) = (transfers(), transfers());
        let built = build(config).map(drop);
        let after = transfers();
        (calls(&before) - calls(&nothing), calls(&after) - calls(&before), built)
    });
    match (first, again) {
        (Err(why), _) | (_, Err(why)) => report.note(Must::BuildPure, Err(format!("outside of a runtime, {why}"))),
        (Ok(Err(errors)), _) | (_, Ok((_, _, Err(errors)))) => {
            report.note(Must::BuildPure, Err(format!("the working configuration is refused: {errors}")));
        }
        (Ok(Ok(())), Ok((nothing, cost, Ok(())))) => report.holds(Must::BuildPure, cost <= nothing, || {
            format!("`build` made {} calls that read or write", cost - nothing)
        }),
    }
}

fn calls(transfers: &Option<String>) -> i64 {
    let numbers = transfers.as_deref().unwrap_or_default().split_whitespace();
    numbers.filter_map(|word| word.parse::<i64>().ok()).sum()
}

/// Takes the working configuration apart, one key after the other, and then everything at once.
fn wrong(subject: &Subject, schema: &Value, network: &dyn Network, report: &mut Report) {
    let mut variants = vec![json!([]), json!("text")];
    let good = network.config();
    let keys: Vec<String> = good.as_object().map(|table| table.keys().cloned().collect()).unwrap_or_default();
    let mut all = good.clone();
    for key in &keys {
        let mut one = good.clone();
        for config in [&mut one, &mut all] {
            // Of a type that it does not have now.
            config[key] = if good[key].is_boolean() { json!("maybe") } else { json!(true) };
        }
        variants.push(one);
        if let Some(table) = good.as_object() {
            let mut without = table.clone();
            without.remove(key);
            variants.push(Value::Object(without));
        }
    }
    if good.is_object() {
        for config in [&mut good.clone(), &mut all] {
            config["no such key"] = json!(1);
            variants.push(config.clone());
        }
    }
    for config in variants {
        let expected = validate::check(schema, &config);
        if expected.is_empty() {
            continue;
        }
        match refused(subject, &config) {
            Err(why) => report.note(Must::SchemaAgrees, Err(why)),
            Ok(errors) => {
                report.note(Must::SchemaAgrees, Ok(()));
                let paths = expected.iter().map(|error| error.path.as_str()).collect::<Vec<_>>();
                told(&errors, &paths, &config, report);
            }
        }
    }
    for wrong in network.wrong_configs() {
        match refused(subject, &wrong.config) {
            Err(why) => report.note(Must::ErrorsAllAtOnce, Err(why)),
            Ok(errors) => {
                let paths = wrong.paths.iter().map(String::as_str).collect::<Vec<_>>();
                told(&errors, &paths, &wrong.config, report);
            }
        }
    }
}

fn refused(subject: &Subject, config: &Value) -> Result<ConfigErrors, String> {
    let (build, given) = (subject.build, Config::new(config.clone()));
    match apart(move || build(given).map(drop)) {
        Ok(Err(errors)) => Ok(errors),
        Ok(Ok(())) => Err(format!("`build` took {config}")),
        Err(why) => Err(format!("`build` with {config}: {why}")),
    }
}

fn told(errors: &ConfigErrors, paths: &[&str], config: &Value, report: &mut Report) {
    for path in paths {
        report.holds(Must::ErrorsAllAtOnce, errors.0.iter().any(|error| error.path == *path), || {
            format!("of {config}, nothing is said of '{path}': {errors}")
        });
    }
    let whole = errors.0.iter().all(|error| !error.what.is_empty() && !error.fix.is_empty());
    report.holds(Must::ErrorsAllAtOnce, whole && !errors.0.is_empty(), || {
        format!("of {config}, an error does not say what is wrong and what to write instead: {errors}")
    });
}
