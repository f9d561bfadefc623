//! Saying in words what a schema wants.

use super::{MAX_DEPTH, number, resolve};
use serde_json::{Map, Value};

/// Longest value that is repeated in an error, in characters.
const MAX_SHOWN: usize = 40;

/// What could stand there: `a whole number from 0 to 65535`, `a text or a list`.
pub(super) fn expected(root: &Value, schema: &Value) -> String {
    let mut said = Vec::new();
    collect(root, schema, &mut said, 0);
    said.dedup();
    let text = match said.split_last() {
        None => "a value".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, before)) => format!("{} or {last}", before.join(", ")),
    };
    let sample = [schema.get("examples").and_then(|examples| examples.get(0)), schema.get("default")];
    match sample.into_iter().flatten().find(|sample| sample.is_string() || sample.is_number() || sample.is_boolean()) {
        Some(sample) => format!("{text}, such as {}", shown(sample)),
        None => text,
    }
}

fn collect(root: &Value, schema: &Value, said: &mut Vec<String>, depth: usize) {
    let Some(keywords) = schema.as_object().filter(|_| depth < MAX_DEPTH) else { return };
    if let Some(target) = keywords.get("$ref").and_then(|reference| resolve(root, reference)) {
        return collect(root, target, said, depth + 1);
    }
    if let Some(known) = choices(root, schema) {
        return said.push(one_of(&known));
    }
    for alternatives in ["anyOf", "oneOf"] {
        list(keywords, alternatives).iter().for_each(|branch| collect(root, branch, said, depth + 1));
    }
    let kinds = match keywords.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().collect(),
        Some(kind) => vec![kind],
        None => Vec::new(),
    };
    for kind in kinds.into_iter().filter_map(Value::as_str) {
        match kind {
            "boolean" => said.push("true or false".to_owned()),
            "integer" => said.push(format!("a whole number{}", number::bounds(keywords))),
            "number" => said.push(format!("a number{}", number::bounds(keywords))),
            "string" => said.push("a text in quotes".to_owned()),
            "array" => said.push("a list in [ ]".to_owned()),
            "object" => said.push("a table".to_owned()),
            // TOML has no null: who wants none leaves the key out.
            _ => {}
        }
    }
}

/// All values that a schema allows, where it lists them: `enum`, `const`, or alternatives of those.
pub(super) fn choices<'a>(root: &'a Value, schema: &'a Value) -> Option<Vec<&'a Value>> {
    choices_at(root, schema, 0)
}

fn choices_at<'a>(root: &'a Value, schema: &'a Value, depth: usize) -> Option<Vec<&'a Value>> {
    let keywords = schema.as_object().filter(|_| depth < MAX_DEPTH)?;
    if let Some(constant) = keywords.get("const") {
        return Some(vec![constant]);
    }
    if let Some(values) = keywords.get("enum").and_then(Value::as_array) {
        return Some(values.iter().collect());
    }
    if let Some(target) = keywords.get("$ref").and_then(|reference| resolve(root, reference)) {
        return choices_at(root, target, depth + 1);
    }
    let branches = ["anyOf", "oneOf"].map(|name| list(keywords, name)).concat_refs();
    let mut all = Vec::new();
    for branch in branches {
        if branch.get("type").is_some_and(|kind| kind == "null") {
            continue;
        }
        all.extend(choices_at(root, branch, depth + 1)?);
    }
    (!all.is_empty()).then_some(all)
}

trait ConcatRefs<'a> {
    fn concat_refs(self) -> Vec<&'a Value>;
}

impl<'a> ConcatRefs<'a> for [&'a [Value]; 2] {
    fn concat_refs(self) -> Vec<&'a Value> {
        self.into_iter().flatten().collect()
    }
}

/// The key whose word tells the alternatives apart, and all its words; `None` where they have no such key.
pub(super) fn tag<'a>(root: &'a Value, branches: &'a [Value]) -> Option<(&'a str, Vec<&'a Value>)> {
    let properties = |branch: &'a Value| {
        let branch = branch.get("$ref").and_then(|reference| resolve(root, reference)).unwrap_or(branch);
        branch.get("properties").and_then(Value::as_object)
    };
    let constant = |branch, key: &str| properties(branch).and_then(|properties| properties.get(key)?.get("const"));
    let (key, _) = properties(branches.first()?)?.iter().find(|(_, property)| property.get("const").is_some())?;
    let known: Option<Vec<&Value>> = branches.iter().map(|branch| constant(branch, key)).collect();
    Some((key, known?))
}

/// The entries of a keyword that holds a list.
pub(super) fn list<'a>(keywords: &'a Map<String, Value>, name: &str) -> &'a [Value] {
    keywords.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The keys in `properties`.
pub(super) fn own_keys(keywords: &Map<String, Value>) -> Vec<&str> {
    let properties = keywords.get("properties").and_then(Value::as_object);
    properties.into_iter().flat_map(Map::keys).map(String::as_str).collect()
}

/// The keys that a schema names anywhere for one table: its own, and those of its parts and alternatives.
pub(super) fn keys<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a str> {
    let mut known = Vec::new();
    let mut waiting = vec![(schema, 0)];
    while let Some((schema, depth)) = waiting.pop() {
        let Some(keywords) = schema.as_object().filter(|_| depth < MAX_DEPTH) else { continue };
        known.extend(own_keys(keywords));
        let target = keywords.get("$ref").and_then(|reference| resolve(root, reference));
        waiting.extend(target.map(|target| (target, depth + 1)));
        for parts in ["allOf", "anyOf", "oneOf"] {
            waiting.extend(list(keywords, parts).iter().map(|part| (part, depth + 1)));
        }
    }
    known
}

/// `"a"`, or `one of "a", "b"`.
pub(super) fn one_of(known: &[&Value]) -> String {
    let known: Vec<String> = known.iter().map(|value| shown(value)).collect();
    match known.as_slice() {
        [only] => only.clone(),
        _ => format!("one of {}", known.join(", ")),
    }
}

/// A value in an error: short, on one line.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        _ => kind(value).to_owned(),
    }
}

/// A text in quotes, cut where it is long.
pub(super) fn quoted(text: &str) -> String {
    let cut: String = text.chars().take(MAX_SHOWN).collect();
    let dots = if cut.len() < text.len() { "…" } else { "" };
    format!("{:?}", cut + dots)
}

/// What kind of value it is.
pub(super) const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

/// The known word that is spelled most like this one; `None` where none is near.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1);
    let near = known.map(|known| (distance(word, known), known)).filter(|(distance, _)| *distance <= limit);
    near.min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}

/// How many letters must be added, taken out, changed or swapped with their neighbour.
fn distance(one: &str, other: &str) -> usize {
    let fold = |text: &str| -> Vec<char> {
        let same = |c: char| if c == '_' { '-' } else { c.to_ascii_lowercase() };
        text.chars().take(MAX_SHOWN * 2).map(same).collect()
    };
    let (one, other) = (fold(one), fold(other));
    let mut rows = [Vec::new(), (0..=other.len()).collect::<Vec<usize>>()];
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let changed = rows[1][j] + usize::from(a != b);
            let mut best = changed.min(rows[1][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && one[i - 1] == *b && other[j - 1] == *a {
                best = best.min(rows[0][j - 1] + 1);
            }
            row.push(best);
        }
        rows.swap(0, 1);
        rows[1] = row;
    }
    rows[1][other.len()]
}

/// Whether the text fits a pattern of plain text with or without anchors; `true` for any other pattern.
pub(super) fn fits_pattern(pattern: &str, text: &str) -> bool {
    let (start, plain) = pattern.strip_prefix('^').map_or((false, pattern), |rest| (true, rest));
    let (end, plain) = plain.strip_suffix('$').map_or((false, plain), |rest| (true, rest));
    if plain.contains(|c: char| "\\^$.|?*+()[]{}".contains(c)) {
        return true;
    }
    match (start, end) {
        (true, true) => text == plain,
        (true, false) => text.starts_with(plain),
        (false, true) => text.ends_with(plain),
        (false, false) => text.contains(plain),
    }
}
