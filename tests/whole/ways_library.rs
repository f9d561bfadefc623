//! Libraries that must not be loaded, and some that misbehave: made by a C compiler.

use crate::support::{Server, json, run, until};
use crate::tools::succeed;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

struct Made {
    dir: tempfile::TempDir,
    library: PathBuf,
}

/// A library whose functions are `code`, with a manifest for the bridge `cee`.
fn made(code: &str) -> Made {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("mesyx");
    succeed(Command::new(env!("CARGO_BIN_EXE_mesyx")).arg("init").arg(&home).args(["--domain", "example.org"]), b"");
    let manifest = r#"{"name":"cee","version":"1.0.0","summary":"Does little","grants":["accept"],"delivers":[],"config_schema":{"type":"object","additionalProperties":false}}"#;
    let source = dir.path().join("cee.c");
    let text = format!(
        "#include <unistd.h>\n__attribute__((used, section(\".mesyx.manifest\"))) static const char manifest[{}] = {manifest:?};\n{code}\n",
        manifest.len()
    );
    fs::write(&source, text).unwrap();
    let library = dir.path().join("libcee.so");
    succeed(Command::new("gcc").args(["-shared", "-fPIC", "-w", "-o"]).arg(&library).arg(&source), b"");
    fs::set_permissions(&library, fs::Permissions::from_mode(0o755)).unwrap();
    let made = Made { dir, library };
    made.configure("");
    made
}

impl Made {
    fn config(&self) -> PathBuf {
        self.dir.path().join("mesyx/mesyx.toml")
    }

    fn configure(&self, more: &str) {
        let text = format!(
            "hostname = \"mail.example.org\"\ndomains = [\"example.org\"]\n[admin]\nlisten = \"\"\n[bridge.cee]\n\
             run = {{ library = {:?}{more} }}\nrestart = {{ first = 0.01, longest = 0.02, failures = 2, broken = 600.0 }}\n",
            self.library
        );
        fs::write(self.config(), text).unwrap();
    }

    fn check(&self, code: i32) -> String {
        let said = run(code, &["--config", self.config().to_str().unwrap(), "check"], "");
        String::from_utf8(said.stderr).unwrap() + &String::from_utf8(said.stdout).unwrap()
    }

    fn status(&self) -> Value {
        let list = json(&["--config", self.config().to_str().unwrap(), "bridge", "list", "--json"], "");
        list.as_array().unwrap().iter().find(|bridge| bridge["name"] == "cee").expect("the bridge")["status"].clone()
    }

    /// Why the bridge fails in a server that runs on.
    fn failure(&self) -> String {
        let server = Server::start(&self.config());
        until("the breaker is open", || self.status()["breaker"] == "open");
        let why = self.status()["last_failure"].as_str().unwrap().to_owned();
        assert!(server.stop());
        why
    }
}

const GOOD: &str =
    "unsigned mesyx_bridge_abi(void) { return 1; }\nint mesyx_bridge_main(int fd) { close(fd); return 1; }";

#[test]
fn a_library_is_checked_before_it_is_loaded() {
    // Were it loaded by any of this, the process would end.
    let library = made(&format!("__attribute__((constructor)) static void loaded(void) {{ _exit(66); }}\n{GOOD}"));
    let said = library.check(0);
    assert!(said.contains("cee") && said.contains("was not granted accept"), "{said}");
    let shown = json(&["bridge", "check", library.library.to_str().unwrap(), "--json"], "");
    assert_eq!((&shown["name"], &shown["grants"][0]), (&"cee".into(), &"accept".into()));
    let sum = String::from_utf8(succeed(Command::new("sha256sum").arg(&library.library), b"")).unwrap();
    let sum = sum.split(' ').next().unwrap();
    library.configure(&format!(", sha256 = \"{sum}\""));
    library.check(0);
    library.configure(&format!(", sha256 = \"{}\"", sum.replace('a', "b").replace('1', "2")));
    assert!(library.check(3).contains("its SHA-256 is"));
    library.configure("");
    fs::set_permissions(&library.library, fs::Permissions::from_mode(0o775)).unwrap();
    assert!(library.check(3).contains("chmod go-w"));
    fs::set_permissions(&library.library, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(library.dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(library.check(3).contains("its directory"));
    fs::set_permissions(library.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&library.library, Some(61_234), None).unwrap();
        assert!(library.check(3).contains("belongs to the user 61234"));
        std::os::unix::fs::chown(&library.library, Some(0), None).unwrap();
    }
    fs::write(&library.library, "no library").unwrap();
    assert!(library.check(3).contains("no shared library"));
    fs::copy("/lib/x86_64-linux-gnu/libc.so.6", &library.library).ok();
    assert!(library.check(3).contains(".mesyx.manifest"));
}

#[test]
fn another_abi_is_refused() {
    let code = "unsigned mesyx_bridge_abi(void) { return 99; }\nint mesyx_bridge_main(int fd) { _exit(66); }";
    assert!(made(code).failure().contains("made for ABI 99"));
}

#[test]
fn one_without_an_entry_is_refused() {
    assert!(made("unsigned mesyx_bridge_abi(void) { return 1; }").failure().contains("mesyx_bridge_main"));
}

#[test]
fn one_that_returns_is_a_bridge_that_failed() {
    // Were it unloaded between its lives, it would say so.
    let place = tempfile::tempdir().unwrap();
    let unloaded = place.path().join("unloaded");
    let says = format!("__attribute__((destructor)) static void unloaded(void) {{ creat({unloaded:?}, 0600); }}");
    let library = made(&format!("#include <fcntl.h>\n{says}\n{GOOD}"));
    let server = Server::start(&library.config());
    until("the breaker is open", || library.status()["breaker"] == "open");
    let status = library.status();
    assert!(!status["last_failure"].as_str().unwrap().is_empty() && status["failures"] == 2, "{status}");
    assert!(!unloaded.exists(), "it stays in the server");
    assert!(server.stop());
}

#[test]
fn one_that_panicked_says_so() {
    let code = "unsigned mesyx_bridge_abi(void) { return 1; }\nint mesyx_bridge_main(int fd) { close(fd); return 2; }";
    let why = made(code).failure();
    assert!(why.contains("panicked"), "{why}");
}
