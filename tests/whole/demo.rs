//! A running `mesyx demo --json`.

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A throw-away instance; stopped, and waited for, when dropped.
pub struct Demo {
    child: Child,
    pub info: Value,
}

impl Demo {
    pub fn start() -> Self {
        Self::start_with(|_| ())
    }

    /// Starts it after `prepare` had its way with the command (arguments, environment).
    pub fn start_with(prepare: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mesyx"));
        command.args(["demo", "--json"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        prepare(&mut command);
        let mut child = command.spawn().expect("the program starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let info = serde_json::from_str(&line).unwrap_or_else(|error| panic!("no JSON line ({error}): {line:?}"));
        Self { child, info }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn port(&self, listener: &str) -> u16 {
        let port = self.info[listener]["port"].as_u64();
        u16::try_from(port.unwrap_or_else(|| panic!("the JSON line has no {listener}: {}", self.info))).unwrap()
    }

    pub fn text(&self, key: &str) -> &str {
        self.info[key].as_str().unwrap_or_else(|| panic!("the JSON line has no {key}: {}", self.info))
    }

    pub fn dir(&self) -> PathBuf {
        self.text("dir").into()
    }

    pub fn user(&self, name: &str) -> User {
        let users = self.info["users"].as_array().expect("users");
        let user = users.iter().find(|user| user["name"] == name).expect("the user is there");
        let text = |key: &str| user[key].as_str().unwrap().to_owned();
        User { name: text("name"), address: text("address"), password: text("password") }
    }

    /// Ends it as a user would, by closing its standard input; its exit status was success.
    pub fn stop(mut self) -> bool {
        drop(self.child.stdin.take());
        self.child.wait().unwrap().success()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// One of the demo's users.
#[derive(Clone, Debug)]
pub struct User {
    pub name: String,
    pub address: String,
    pub password: String,
}
