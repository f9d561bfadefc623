//! Reads TOML, remembering where each key stands.

use serde_json::{Map, Number, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// One thing wrong with the configuration file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Problem {
    /// The file.
    pub(crate) file: PathBuf,
    /// The line, from 1.
    pub(crate) line: usize,
    /// The key, as `bridge.smtp.limits.connections`; empty for the file itself.
    pub(crate) path: String,
    /// What is wrong.
    pub(crate) what: String,
    /// What to write instead.
    pub(crate) fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file.display(), self.line)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}; {}", self.what, self.fix)
    }
}

/// A configuration file that was read: its content, and where each key stands.
#[derive(Debug)]
pub(crate) struct Located {
    file: PathBuf,
    /// The content as JSON.
    pub(crate) value: Value,
    /// By path: the line, and the JSON Pointer (RFC 6901).
    places: BTreeMap<String, (usize, String)>,
    problems: Vec<Problem>,
}

impl Located {
    /// Reads the text of a file; what is no TOML is noted as problems.
    pub(crate) fn read(file: &Path, text: &str) -> Self {
        let starts: Vec<usize> = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let mut located =
            Self { file: file.to_owned(), value: Value::Null, places: BTreeMap::new(), problems: Vec::new() };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let at = error.span().map_or(0, |span| span.start);
            let line = line(&starts, at);
            located.note_at(line, "", error.message(), "write it as TOML 1.0 wants (https://toml.io)");
        }
        located.value = located.table(table.get_ref(), ("", ""), &starts);
        located
    }

    /// Whether nothing was noted yet.
    pub(crate) fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// Whether something was noted about the key at `path`.
    pub(crate) fn is_noted(&self, path: &str) -> bool {
        self.problems.iter().any(|problem| problem.path == path)
    }

    /// Whether something was noted about the key at `path` or one below it.
    pub(crate) fn is_noted_below(&self, path: &str) -> bool {
        let below =
            |noted: &str| noted.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        self.problems.iter().any(|problem| below(&problem.path))
    }

    /// Notes what is wrong with the key at `path`.
    pub(crate) fn note(&mut self, path: &str, what: impl Into<String>, fix: impl Into<String>) {
        let line = self.line_of(path);
        self.note_at(line, path, what, fix);
    }

    /// All that was noted, in the order of lines.
    pub(crate) fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| problem.line);
        self.problems.dedup();
        self.problems
    }

    fn note_at(&mut self, line: usize, path: &str, what: impl Into<String>, fix: impl Into<String>) {
        let (what, fix) = (what.into(), fix.into());
        self.problems.push(Problem { file: self.file.clone(), line, path: path.to_owned(), what, fix });
    }

    /// The line of a key; where it is not there, that of the nearest table above it.
    pub(crate) fn line_of(&self, path: &str) -> usize {
        let mut path = path;
        loop {
            if let Some((line, _)) = self.places.get(path) {
                return *line;
            }
            match path.rfind(['.', '[']) {
                Some(cut) => path = &path[..cut],
                None => return 1,
            }
        }
    }

    /// Reads a table at a path and pointer.
    fn table(&mut self, table: &DeTable<'_>, at: (&str, &str), starts: &[usize]) -> Value {
        let mut map = Map::new();
        for (key, value) in table {
            let path = join(at.0, key.get_ref());
            let pointer = format!("{}/{}", at.1, key.get_ref().replace('~', "~0").replace('/', "~1"));
            self.places.insert(path.clone(), (line(starts, key.span().start), pointer.clone()));
            let value = self.value(value.get_ref(), (&path, &pointer), starts);
            map.insert(key.get_ref().to_string(), value);
        }
        Value::Object(map)
    }

    fn value(&mut self, value: &DeValue<'_>, at: (&str, &str), starts: &[usize]) -> Value {
        match value {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Boolean(truth) => Value::Bool(*truth),
            DeValue::Integer(integer) => {
                let digits = integer.as_str().replace('_', "");
                i64::from_str_radix(&digits, integer.radix()).map_or_else(
                    |_| {
                        self.note(at.0, "the number is too large", "write one that fits 63 bits");
                        Value::Null
                    },
                    Value::from,
                )
            }
            DeValue::Float(float) => {
                let number = float.as_str().replace('_', "").parse().ok().and_then(Number::from_f64);
                number.map_or_else(
                    || {
                        self.note(at.0, "that is no number here", "write a finite number");
                        Value::Null
                    },
                    Value::Number,
                )
            }
            // No key takes a date; as text it is refused with what is wanted instead.
            DeValue::Datetime(datetime) => Value::String(datetime.to_string()),
            DeValue::Array(array) => {
                let mut values = Vec::new();
                for (index, value) in array.iter().enumerate() {
                    let (path, pointer) = (format!("{}[{index}]", at.0), format!("{}/{index}", at.1));
                    self.places.insert(path.clone(), (line(starts, value.span().start), pointer.clone()));
                    values.push(self.value(value.get_ref(), (&path, &pointer), starts));
                }
                Value::Array(values)
            }
            DeValue::Table(table) => self.table(table, at, starts),
        }
    }

    /// The content without what stands at `paths`, so that the rest can be looked at.
    pub(crate) fn without<'a>(&self, paths: impl Iterator<Item = &'a str>) -> Value {
        let mut value = self.value.clone();
        // From the back, so that taking out an entry of an array does not move one that is still to go.
        let mut pointers: Vec<_> =
            paths.filter_map(|path| self.places.get(path)).map(|(_, pointer)| pointer.as_str()).collect();
        pointers.sort_by_key(|pointer| std::cmp::Reverse((pointer.len(), *pointer)));
        for pointer in pointers {
            let Some((parent, key)) = pointer.rsplit_once('/') else { continue };
            match value.pointer_mut(parent) {
                Some(Value::Object(map)) => {
                    map.remove(&key.replace("~1", "/").replace("~0", "~"));
                }
                Some(Value::Array(array)) => {
                    if let Some(index) = key.parse().ok().filter(|index| *index < array.len()) {
                        array.remove(index);
                    }
                }
                _ => {}
            }
        }
        value
    }
}

/// A path with one key more, spelled as [`mesyx_sdk::config::validate`] does.
pub(crate) fn join(path: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    let key = if bare { key.to_owned() } else { format!("\"{}\"", key.escape_debug()) };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

fn line(starts: &[usize], at: usize) -> usize {
    starts.partition_point(|start| *start <= at)
}
