//! A bridge's configuration: one type, from which parser, schema and check come.

mod listeners;
pub mod validate;

pub use listeners::check_listeners;

use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt;

/// A bridge's own table of the configuration file, as JSON.
#[derive(Clone, PartialEq)]
pub struct Config(Value);

impl Config {
    /// Wraps a JSON object.
    #[must_use]
    pub const fn new(value: Value) -> Self {
        Self(value)
    }

    /// The JSON itself.
    #[must_use]
    pub const fn value(&self) -> &Value {
        &self.0
    }

    /// Reads the table as `T`, after checking it against `T`'s schema so that all errors are found at once.
    ///
    /// # Errors
    /// Everything that does not fit, each with its path and what to write instead.
    pub fn parse<T: DeserializeOwned + schemars::JsonSchema>(self) -> Result<T, ConfigErrors> {
        let errors = validate::check(&schema::<T>(), &self.0);
        if !errors.is_empty() {
            return Err(ConfigErrors(errors));
        }
        serde_json::from_value(self.0).map_err(|error| {
            let fix = "write it as the commented configuration of `mesyx init` shows".to_owned();
            ConfigErrors(vec![ConfigError { path: String::new(), what: error.to_string(), fix }])
        })
    }
}

impl fmt::Debug for Config {
    /// A configuration may hold secrets, so only its keys are shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Value::Object(table) => f.debug_set().entries(table.keys()).finish(),
            _ => f.write_str("Config"),
        }
    }
}

/// The JSON Schema of a configuration type.
#[must_use]
pub fn schema<T: schemars::JsonSchema>() -> Value {
    schemars::schema_for!(T).to_value()
}

/// One thing wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where: keys and indices from the table's root, as `listen[0].address`; empty for the table itself.
    pub path: String,
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub fix: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}; {}", self.what, self.fix)
    }
}

/// All that is wrong with a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl ConfigErrors {
    /// Notes one more.
    pub fn push(&mut self, path: impl Into<String>, what: impl Into<String>, fix: impl Into<String>) {
        self.0.push(ConfigError { path: path.into(), what: what.into(), fix: fix.into() });
    }

    /// `Ok(value)` where nothing was noted.
    ///
    /// # Errors
    /// Itself, where something was.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
