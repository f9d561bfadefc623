//! docs/writing-a-bridge.md, followed word for word: its commands are run, its files written, in their order.

use crate::support::run;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The fenced blocks of a page: what stands behind the fence, and the text.
fn blocks(page: &str) -> Vec<(&str, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(&str, String)> = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(info), None) => open = Some((info, String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, text))) => *text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

/// Where a bridge that is not ours is built: kept, so that its dependencies are built once.
fn target() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_mesyx")).ancestors().nth(2).unwrap().join("new-bridge")
}

#[test]
fn the_page_works_as_it_stands() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(here.join("docs/writing-a-bridge.md")).unwrap();
    let place = tempfile::tempdir().unwrap();
    let mut dir = place.path().to_owned();
    let at = place.path().join("at");
    let path = Path::new(env!("CARGO_BIN_EXE_mesyx")).parent().unwrap().display().to_string();
    let path = format!("{path}:{}", std::env::var("PATH").unwrap());
    let (mut commands, mut files) = (0, 0);
    for (info, text) in blocks(&page) {
        match info.split_once(" file=") {
            Some((_, file)) => {
                fs::write(dir.join(file), text).unwrap();
                files += 1;
            }
            None if info == "sh" => {
                // What is built elsewhere is found where the reader would find it.
                let script = format!("set -euo pipefail\n{text}\npwd > {}", at.display())
                    .replace("./target/", "$CARGO_TARGET_DIR/");
                let ran = Command::new("bash")
                    .args(["-c", &script])
                    .current_dir(&dir)
                    .env("PATH", &path)
                    .env("MESYX_SDK", here.join("sdk"))
                    .env("CARGO_NET_OFFLINE", "true")
                    .env("CARGO_TARGET_DIR", target())
                    .output()
                    .unwrap();
                let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
                assert!(ran.status.success(), "{text}\n--- stdout\n{out}\n--- stderr\n{err}");
                dir = PathBuf::from(fs::read_to_string(&at).unwrap().trim());
                // The versions that this workspace was built with: they are here already.
                let lock = place.path().join("pigeon/Cargo.lock");
                if !lock.exists() {
                    fs::copy(here.join("Cargo.lock"), lock).unwrap();
                }
                commands += 1;
            }
            None => {}
        }
    }
    assert_eq!((commands, files), (4, 1), "the page has other blocks than this test knows");

    // The table of the configuration on the page fits what the bridge says of itself.
    let bridge = target().join("debug/pigeon");
    let manifest = Command::new(&bridge).arg("--manifest").output().unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest.stdout).unwrap();
    let table = blocks(&page).into_iter().find(|(info, _)| *info == "toml").unwrap().1;
    let table: toml::Table = table.parse().unwrap();
    let table = table["bridge"]["pigeon"].as_table().unwrap();
    for key in table.keys().filter(|key| !["run", "grants"].contains(&key.as_str())) {
        assert!(manifest["config_schema"]["properties"][key].is_object(), "{key}");
    }
    for grant in manifest["grants"].as_array().unwrap() {
        assert!(table["grants"].as_array().unwrap().iter().any(|given| given.as_str() == grant.as_str()), "{grant}");
    }
}

#[test]
fn names_that_no_bridge_can_have_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("x");
    for name in [
        "Pigeon",
        "a",
        "-x",
        "irc",
        "7up",
        "much-too-long-a-name",
        "../x",
        "smtp",
        "irc-client",
        "fn",
        "tokio",
        "serde-json",
    ] {
        let refused = run(2, &["bridge", "new", "--dir", dir.to_str().unwrap(), "--", name], "");
        assert!(String::from_utf8_lossy(&refused.stderr).contains("lower-case letters"), "{name}");
        assert!(!dir.exists());
    }
    run(0, &["bridge", "new", "carrier-2", "--dir", dir.to_str().unwrap()], "");
    let library = fs::read_to_string(dir.join("src/lib.rs")).unwrap();
    assert!(library.contains("pub struct Carrier2"), "{library}");
    assert!(fs::read_to_string(dir.join("Cargo.toml")).unwrap().contains("version = \"0.1.0\", features"));
    for entry in ["Cargo.toml", "README.md", "src/lib.rs", "src/main.rs", "tests/contract.rs"] {
        let text = fs::read_to_string(dir.join(entry)).unwrap();
        assert!(!["NAME", "TYPE", "CRATE", "SDK\n", "SDKFIELDS"].iter().any(|word| text.contains(word)), "{entry}");
    }
    run(1, &["bridge", "new", "carrier-2", "--dir", dir.to_str().unwrap()], "");
}
