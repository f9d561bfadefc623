use super::check;
use crate::config::{Config, schema};
use proptest::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One of each form that configuration types take.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[allow(dead_code)]
struct Sample {
    listen: Vec<Listener>,
    #[serde(default = "thirty")]
    timeout: u16,
    greeting: Option<String>,
    mode: Option<Mode>,
    storage: Option<Storage>,
    limits: Option<Limits>,
    #[serde(default)]
    networks: BTreeMap<String, Listener>,
    size: Option<Size>,
    pair: Option<(u8, String)>,
}

const fn thirty() -> u16 {
    30
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Listener {
    name: String,
    /// Where.
    address: std::net::SocketAddr,
    tls: Option<bool>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(dead_code)]
enum Mode {
    /// Documented variants make `oneOf` with `const`.
    Gateway,
    /// Store.
    Store,
    Access,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
#[allow(dead_code)]
enum Storage {
    File { path: String },
    Memory { bytes: u32 },
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Limits {
    #[schemars(range(min = 1, max = 100))]
    parts: u32,
    #[schemars(length(min = 2, max = 4))]
    word: Option<String>,
    #[schemars(length(min = 1))]
    words: Option<Vec<String>>,
    ratio: Option<f32>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[allow(dead_code)]
enum Size {
    Bytes(u64),
    Text(String),
}

fn errors(value: Value) -> Vec<String> {
    check(&schema::<Sample>(), &value).iter().map(ToString::to_string).collect()
}

#[test]
fn a_right_configuration_has_no_errors() {
    let right = json!({
        "listen": [{ "name": "mx", "address": "[::]:25", "tls": true }],
        "timeout": 65535,
        "greeting": "hello",
        "mode": "store",
        "storage": { "kind": "memory", "bytes": 5 },
        "limits": { "parts": 100, "word": "abcd", "words": ["a"], "ratio": 1 },
        "networks": { "a.b": { "name": "x", "address": "1.2.3.4:5" } },
        "size": "1 MiB",
        "pair": [1, "x"],
    });
    assert_eq!(errors(right.clone()), [""; 0]);
    assert!(Config::new(right).parse::<Sample>().is_ok());
    assert_eq!(errors(json!({ "listen": [], "mode": null })), [""; 0]);
}

#[test]
fn all_errors_are_found_at_once() {
    let found = errors(json!({
        "listen": [{ "adress": "[::]:25", "name": "mx" }, { "name": 5, "address": "1.2.3.4:5", "tls": "yes" }, 7],
        "timeout": 65536,
        "greeting": ["x"],
        "mode": "stor",
        "nonsense": 1,
    }));
    let wanted = [
        "greeting: a list can't stand here; write a text in quotes",
        "listen[0].adress: there is no such key; write `address`",
        "listen[0].address: this key is missing; add `address = …` with a text in quotes",
        "listen[1].name: a number can't stand here; write a text in quotes",
        "listen[1].tls: a text can't stand here; write true or false",
        "listen[2]: a number can't stand here; write a table",
        "mode: \"stor\" is not known here; write \"store\"",
        "nonsense: there is no such key; take it out; the keys known here are greeting, limits, listen, mode, networks, pair, size, storage, timeout",
        "timeout: 65536 is more than 65535; write a whole number from 0 to 65535, such as 30",
    ];
    assert_eq!(found, wanted);
    assert_eq!(errors(json!({})), ["listen: this key is missing; add `listen = …` with a list in [ ]"]);
    assert_eq!(errors(json!(5)), ["a number can't stand here; write a table"]);
}

fn one(key: &str, value: Value) -> Vec<String> {
    errors(json!({ "listen": [], key: value }))
}

#[test]
fn the_nearest_alternative_tells_its_errors() {
    let kind = "storage.kind: \"files\" is not known here; write \"file\"";
    assert_eq!(one("storage", json!({ "kind": "files" })), [kind]);
    let kind = "storage.kind: \"postgres\" is not known here; write one of \"file\", \"memory\"";
    assert_eq!(one("storage", json!({ "kind": "postgres", "path": "x" })), [kind]);
    let missing = "storage.path: this key is missing; add `path = …` with a text in quotes";
    assert_eq!(one("storage", json!({ "kind": "file" })), [missing]);
    let wrong = one("storage", json!({ "kind": "memory", "bytes": "1" }));
    assert_eq!(wrong, ["storage.bytes: a text can't stand here; write a whole number from 0 to 4294967295"]);
    assert_eq!(one("storage", json!("file")), ["storage: a text can't stand here; write a table"]);
    assert_eq!(
        one("mode", json!("x")),
        ["mode: \"x\" is not known here; write one of \"access\", \"gateway\", \"store\""]
    );
    let size = "size: true or false can't stand here; write a whole number of at least 0 or a text in quotes";
    assert_eq!(one("size", json!(true)), [size]);
    assert_eq!(one("size", json!(-1)), ["size: -1 is less than 0; write a whole number of at least 0"]);
}

#[test]
fn bounds_of_numbers_texts_and_lists() {
    assert_eq!(
        one("limits", json!({ "parts": 0, "word": "a", "words": [], "ratio": "x" })),
        [
            "limits.parts: 0 is less than 1; write a whole number from 1 to 100",
            "limits.ratio: a text can't stand here; write a number",
            "limits.word: it has 1 characters; write at least 2",
            "limits.words: it has 0 entries; write at least 1",
        ]
    );
    assert_eq!(one("timeout", json!(1.5)).len(), 1);
    assert_eq!(one("pair", json!([256, 5])).len(), 2);
    assert_eq!(one("pair", json!([1])).len(), 1);
}

#[test]
fn keys_that_are_no_bare_words_are_quoted_in_paths() {
    let found = one("networks", json!({ "a.b": { "name": "x" } }));
    assert_eq!(found, ["networks.\"a.b\".address: this key is missing; add `address = …` with a text in quotes"]);
}

#[test]
fn values_that_may_be_secret_are_not_repeated() {
    let found = one("greeting", json!({ "hunter2": "hunter2" }));
    assert!(!found.concat().contains("hunter2"), "{found:?}");
}

#[test]
fn further_keywords() {
    let fails = |schema: Value, value: Value| !check(&schema, &value).is_empty();
    assert!(fails(json!(false), json!(1)) && !fails(json!(true), json!(1)));
    assert!(fails(json!({ "pattern": "^ab" }), json!("ba")) && !fails(json!({ "pattern": "^ab" }), json!("abc")));
    assert!(!fails(json!({ "pattern": "^[a-z]+$" }), json!("5")));
    assert!(fails(json!({ "const": 1 }), json!(2)));
    assert!(fails(json!({ "allOf": [{ "type": "string" }, { "minLength": 2 }] }), json!("x")));
    assert!(fails(json!({ "exclusiveMinimum": 0 }), json!(0)) && fails(json!({ "exclusiveMaximum": 1.5 }), json!(1.5)));
    assert!(fails(json!({ "uniqueItems": true }), json!([1, 1])));
    assert!(fails(json!({ "additionalProperties": { "type": "string" } }), json!({ "x": 1 })));
    let flattened =
        json!({ "properties": { "a": {} }, "allOf": [{ "properties": { "b": {} } }], "unevaluatedProperties": false });
    assert!(fails(flattened.clone(), json!({ "c": 1 })) && !fails(flattened, json!({ "a": 1, "b": 1 })));
    // A reference to itself ends.
    assert!(!fails(json!({ "$ref": "#" }), json!(1)));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop_oneof![Just("file"), Just("store"), Just("memory"), Just("1.2.3.4:5")].prop_map(Value::from),
    ];
    let keys = || {
        proptest::sample::select(vec![
            "listen", "kind", "path", "bytes", "name", "address", "tls", "mode", "storage", "limits", "parts", "size",
            "pair", "x",
        ])
    };
    leaf.prop_recursive(4, 40, 5, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(keys().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|table| Value::Object(table.into_iter().collect())),
        ]
    })
}

proptest! {
    /// The parser is the judge: what it takes, the check must not refuse.
    #[test]
    fn what_the_parser_takes_has_no_errors(value in any_json()) {
        let parsed = serde_json::from_value::<Sample>(value.clone());
        let found = check(&schema::<Sample>(), &value);
        if parsed.is_ok() {
            prop_assert!(found.is_empty() || value.to_string().contains("parts"), "{value}: {found:?}");
        }
    }
}
