//! `mesyx bridge new`: a starting point for a bridge that compiles and passes the test kit.

use crate::exit::{Failure, USAGE, trying};
use crate::serve::registry;
use clap::Args;
use mesyx_sdk::NetworkName;
use std::fs;
use std::path::PathBuf;

/// The files, and where they go. A test compiles them and runs their tests.
const FILES: [(&str, &str); 5] = [
    ("Cargo.toml", include_str!("bridge_new/Cargo.toml.in")),
    ("README.md", include_str!("bridge_new/README.md.in")),
    ("src/lib.rs", include_str!("bridge_new/lib.rs.in")),
    ("src/main.rs", include_str!("bridge_new/main.rs.in")),
    ("tests/contract.rs", include_str!("bridge_new/contract.rs.in")),
];

/// Names that would not compile: keywords, what cargo keeps for itself, and crates that a bridge uses.
const TAKEN: [&str; 3] = [
    "abstract as async await become box break const continue crate do dyn else enum extern false final fn for gen if impl in let loop \
     macro match mod move mut override priv pub ref return self static struct super trait true try type typeof unsafe unsized use \
     virtual where while yield",
    "alloc build core deps examples incremental proc-macro std test",
    "mesyx-sdk schemars serde serde-json tokio",
];

/// What to make.
#[derive(Debug, Args)]
pub(crate) struct New {
    /// The bridge's name: 2 to 16 lower-case letters, digits or '-', a letter first.
    name: String,
    /// Where to write it; must not be there. A directory of the bridge's name, unless given.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Where the SDK's source is; else it is the version on crates.io, where there is one.
    #[arg(long)]
    sdk: Option<PathBuf>,
}

pub(crate) fn make(new: &New) -> Result<(), Failure> {
    let name = new.name.as_str();
    // It is the name of a network, of a crate, and of a binary.
    let fits = NetworkName::new(name).is_ok() && name.len() > 1 && name.starts_with(|c: char| c.is_ascii_lowercase());
    let text =
        format!("'{name}' can't be the name of a bridge; use 2 to 16 lower-case letters, digits or '-', as xmpp");
    if !fits {
        return Err(Failure::with(USAGE, text));
    }
    if TAKEN.iter().any(|words| words.split(' ').any(|word| word == name)) || registry().manifest(name).is_some() {
        let text =
            format!("{text}; that is a word of Rust, a crate that each bridge uses, or a bridge of this program");
        return Err(Failure::with(USAGE, text));
    }
    let dir = new.dir.clone().unwrap_or_else(|| PathBuf::from(name));
    let sdk = match &new.sdk {
        Some(path) => {
            let path = path.canonicalize().map_err(trying(path.display()))?;
            if !path.join("Cargo.toml").is_file() {
                return Err(Failure::new(format!("{} is not the SDK's source: it has no Cargo.toml", path.display())));
            }
            format!("path = {}", toml::Value::from(path.display().to_string()))
        }
        None => format!("version = \"{}\"", env!("CARGO_PKG_VERSION")),
    };
    if dir.exists() {
        let text = format!("{} is there already; name a new directory with --dir", dir.display());
        return Err(Failure::new(text));
    }
    fs::create_dir(&dir).map_err(trying(dir.display()))?;
    for (file, text) in FILES {
        let to = dir.join(file);
        let parent = to.parent().unwrap_or(&dir);
        fs::create_dir_all(parent).map_err(trying(parent.display()))?;
        fs::write(&to, filled(text, name, &sdk)).map_err(trying(to.display()))?;
    }
    say!("{} is made; `cargo test` there runs every MUST of the contract against it", dir.display());
    Ok(())
}

/// The template with its words replaced.
fn filled(text: &str, name: &str, sdk: &str) -> String {
    let kind: String = name.split('-').filter(|word| !word.is_empty()).map(capitalized).collect();
    let text = text.replace("SDKFIELDS", sdk).replace("= SDK\n", &format!("= {{ {sdk} }}\n"));
    text.replace("NAME", name).replace("TYPE", &kind).replace("CRATE", &name.replace('-', "_"))
}

fn capitalized(word: &str) -> String {
    let mut characters = word.chars();
    characters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(characters).collect()
}
