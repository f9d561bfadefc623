//! Checks JSON against the part of JSON Schema that configuration types use.
//!
//! Known: `$ref` into `$defs`, `type`, `properties`, `required`, `additionalProperties`, `unevaluatedProperties`,
//! `patternProperties`, `items`, `prefixItems`, `minItems`, `maxItems`, `enum`, `const`, `allOf`, `anyOf`, `oneOf`,
//! the bounds of numbers and of lengths, and `pattern` where it is plain text with or without anchors. Every other
//! keyword is passed over, so a check can miss an error, which the parser then finds; it never makes one up.

mod describe;
mod number;

#[cfg(test)]
mod tests;

use super::ConfigError;
use describe::{choices, expected, list, nearest, quoted, shown};
use serde_json::{Map, Value};

/// How deep a schema or a value is followed.
const MAX_DEPTH: usize = 100;

/// Everything in `value` that does not fit `schema`, with its path. Unknown keys name the nearest known one.
///
/// Of alternatives none of which fits, the errors of the nearest are given. Values are not repeated in errors where they
/// could be secret; only what stands where one of a few words is wanted.
///
/// # Examples
/// ```
/// use mesyx_sdk::config::validate;
/// let schema = serde_json::json!({
///     "type": "object",
///     "properties": { "listen": { "type": "array", "items": {
///         "type": "object",
///         "properties": { "address": { "type": "string" } },
///         "additionalProperties": false,
///     } } },
/// });
/// let errors = validate::check(&schema, &serde_json::json!({ "listen": [{ "adress": "[::]:25" }] }));
/// assert_eq!(errors[0].to_string(), "listen[0].adress: there is no such key; write `address`");
/// ```
#[must_use]
pub fn check(schema: &Value, value: &Value) -> Vec<ConfigError> {
    let mut check = Check { root: schema, errors: Vec::new() };
    check.value(schema, value, "", 0);
    check.errors.into_iter().map(|found| found.error).collect()
}

struct Check<'a> {
    root: &'a Value,
    errors: Vec<Found>,
}

/// An error, and how much it speaks against the alternative that it was found in.
struct Found {
    error: ConfigError,
    weight: usize,
}

/// The value is of another kind altogether.
const WRONG_TYPE: usize = 10_000;
/// A word or number that tells alternatives apart is another.
const WRONG_CONSTANT: usize = 100;
const ORDINARY: usize = 1;

impl<'a> Check<'a> {
    fn note(&mut self, weight: usize, path: &str, what: impl Into<String>, fix: impl Into<String>) {
        let error = ConfigError { path: path.to_owned(), what: what.into(), fix: fix.into() };
        self.errors.push(Found { error, weight });
    }

    fn value(&mut self, schema: &'a Value, value: &Value, path: &str, depth: usize) {
        if depth > MAX_DEPTH {
            return;
        }
        if *schema == Value::Bool(false) {
            return self.note(WRONG_TYPE, path, "nothing may stand here", "take it out");
        }
        let Some(keywords) = schema.as_object() else { return };
        if let Some(target) = keywords.get("$ref").and_then(|reference| resolve(self.root, reference)) {
            self.value(target, value, path, depth + 1);
        }
        if !self.kind(schema, keywords, value, path) || !self.constant(schema, keywords, value, path) {
            return;
        }
        match value {
            Value::Object(table) => self.table(schema, keywords, table, path, depth),
            Value::Array(items) => self.array(keywords, items, path, depth),
            Value::String(text) => self.text(keywords, text, path),
            Value::Number(number) => {
                if let Some(what) = number::out_of_bounds(keywords, number) {
                    self.note(ORDINARY, path, what, format!("write {}", expected(self.root, schema)));
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
        for part in list(keywords, "allOf") {
            self.value(part, value, path, depth + 1);
        }
        for alternatives in ["anyOf", "oneOf"] {
            if keywords.contains_key(alternatives) {
                self.alternatives(schema, list(keywords, alternatives), value, path, depth);
            }
        }
    }

    fn kind(&mut self, schema: &'a Value, keywords: &Map<String, Value>, value: &Value, path: &str) -> bool {
        let fits = match keywords.get("type") {
            Some(Value::String(kind)) => is_kind(kind, value),
            Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).any(|kind| is_kind(kind, value)),
            _ => true,
        };
        if !fits {
            self.wrong_type(expected(self.root, schema), value, path);
        }
        fits
    }

    fn wrong_type(&mut self, expected: String, value: &Value, path: &str) {
        self.note(WRONG_TYPE, path, format!("{} can't stand here", describe::kind(value)), format!("write {expected}"));
    }

    fn constant(&mut self, schema: &'a Value, keywords: &Map<String, Value>, value: &Value, path: &str) -> bool {
        let fits = keywords.get("const").is_none_or(|constant| constant == value)
            && keywords.get("enum").and_then(Value::as_array).is_none_or(|values| values.contains(value));
        if !fits {
            let known = choices(self.root, schema).unwrap_or_default();
            self.unknown_choice(&known, value, path);
        }
        fits
    }

    fn unknown_choice(&mut self, known: &[&Value], value: &Value, path: &str) {
        let what = format!("{} is not known here", shown(value));
        let words: Vec<&str> = known.iter().filter_map(|known| known.as_str()).collect();
        let fix = match value.as_str().and_then(|value| nearest(value, words.iter().copied())) {
            Some(word) => format!("write {}", quoted(word)),
            None => format!("write {}", describe::one_of(known)),
        };
        self.note(WRONG_CONSTANT, path, what, fix);
    }

    fn table(
        &mut self,
        schema: &'a Value,
        keywords: &'a Map<String, Value>,
        table: &Map<String, Value>,
        path: &str,
        depth: usize,
    ) {
        let properties = keywords.get("properties").and_then(Value::as_object);
        let patterns = keywords.get("patternProperties").and_then(Value::as_object);
        for (key, value) in table {
            let path = join(path, key);
            if let Some(property) = properties.and_then(|properties| properties.get(key)) {
                self.value(property, value, &path, depth + 1);
            } else if let Some(property) = patterns.and_then(|patterns| patterns.values().next()) {
                self.value(property, value, &path, depth + 1);
            } else {
                self.further_key(schema, keywords, key, value, &path, depth);
            }
        }
        for key in list(keywords, "required").iter().filter_map(Value::as_str) {
            if !table.contains_key(key) {
                let property = properties.and_then(|properties| properties.get(key)).unwrap_or(&Value::Null);
                let fix = format!("add `{key} = …` with {}", expected(self.root, property));
                self.note(ORDINARY, &join(path, key), "this key is missing", fix);
            }
        }
    }

    /// A key that `properties` does not name.
    fn further_key(
        &mut self,
        schema: &'a Value,
        keywords: &'a Map<String, Value>,
        key: &str,
        value: &Value,
        path: &str,
        depth: usize,
    ) {
        let elsewhere = || describe::keys(self.root, schema);
        let known = match (keywords.get("additionalProperties"), keywords.get("unevaluatedProperties")) {
            (Some(Value::Bool(false)), _) => describe::own_keys(keywords),
            (Some(further), _) => return self.value(further, value, path, depth + 1),
            (None, Some(Value::Bool(false))) if !elsewhere().contains(&key) => elsewhere(),
            (None, _) => return,
        };
        let fix = match nearest(key, known.iter().copied()) {
            Some(near) => format!("write `{near}`"),
            None if known.is_empty() => "take it out".to_owned(),
            None => format!("take it out; the keys known here are {}", known.join(", ")),
        };
        self.note(ORDINARY, path, "there is no such key", fix);
    }

    fn array(&mut self, keywords: &'a Map<String, Value>, items: &[Value], path: &str, depth: usize) {
        let first = list(keywords, "prefixItems");
        for (index, item) in items.iter().enumerate() {
            if let Some(schema) = first.get(index).or_else(|| keywords.get("items")) {
                self.value(schema, item, &format!("{path}[{index}]"), depth + 1);
            }
        }
        if let Some((what, fix)) = number::wrong_count(keywords, items.len(), ("minItems", "maxItems"), "entries") {
            self.note(ORDINARY, path, what, fix);
        }
        if keywords.get("uniqueItems") == Some(&Value::Bool(true))
            && let Some(twice) = (1..items.len()).find(|&index| items[..index].contains(&items[index]))
        {
            self.note(ORDINARY, &format!("{path}[{twice}]"), "this entry stands here twice", "take one of them out");
        }
    }

    fn text(&mut self, keywords: &Map<String, Value>, text: &str, path: &str) {
        let count = text.chars().count();
        if let Some((what, fix)) = number::wrong_count(keywords, count, ("minLength", "maxLength"), "characters") {
            self.note(ORDINARY, path, what, fix);
        }
        if let Some(pattern) = keywords.get("pattern").and_then(Value::as_str)
            && !describe::fits_pattern(pattern, text)
        {
            self.note(ORDINARY, path, "this text has the wrong form", format!("write one that matches {pattern}"));
        }
    }

    /// Gives the errors of the alternative that speaks least against the value, where none fits.
    fn alternatives(&mut self, schema: &'a Value, branches: &'a [Value], value: &Value, path: &str, depth: usize) {
        let mut nearest: Option<Vec<Found>> = None;
        // A wrong kind speaks against the alternative only where it is the value's own.
        let here = |found: &Found| found.weight == WRONG_TYPE && found.error.path == path;
        let one = |found: &Found| match found.weight {
            WRONG_TYPE if !here(found) => ORDINARY,
            weight => weight,
        };
        let weight = |errors: &[Found]| errors.iter().map(one).sum::<usize>();
        for branch in branches {
            let mut check = Check { root: self.root, errors: Vec::new() };
            check.value(branch, value, path, depth + 1);
            if check.errors.is_empty() {
                return;
            }
            if nearest.as_ref().is_none_or(|nearest| weight(&check.errors) < weight(nearest)) {
                nearest = Some(check.errors);
            }
        }
        let Some(nearest) = nearest else { return };
        if let Some(known) = choices(self.root, schema) {
            return self.unknown_choice(&known, value, path);
        }
        // No alternative is even of this kind: say all that could stand here.
        if nearest.iter().any(here) {
            return self.wrong_type(expected(self.root, schema), value, path);
        }
        // A table that a word in it tells apart from others, such as `kind = "file"`.
        if let Some((key, known)) = describe::tag(self.root, branches)
            && let Some(tag) = value.get(key)
            && !known.contains(&tag)
        {
            return self.unknown_choice(&known, tag, &join(path, key));
        }
        self.errors.extend(nearest);
    }
}

/// What `#/$defs/NAME` names.
fn resolve<'a>(root: &'a Value, reference: &Value) -> Option<&'a Value> {
    root.pointer(reference.as_str()?.strip_prefix('#')?)
}

fn is_kind(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    }
}

fn join(path: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    let key = if bare { key.to_owned() } else { quoted(key) };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}
