//! The structure that we read, against what the mail-parser crate reads, over the sample messages that it ships.
#![allow(clippy::unwrap_used)]

use mail_parser::{MessageParser, PartType};
use mesyx_sdk::summary::PartKind;
use mesyx_sdk::{Content, Part, Timestamp, mime};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where cargo keeps the sources of mail-parser 0.11.
fn samples() -> Vec<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let metadata = Command::new(cargo)
        .args([
            "metadata",
            "--offline",
            "--format-version",
            "1",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
            "--manifest-path",
            manifest,
        ])
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let package = metadata["packages"].as_array().unwrap().iter().find(|package| {
        package["name"] == "mail-parser"
            && package["version"].as_str().is_some_and(|version| version.starts_with("0.11."))
    });
    let manifest = package.unwrap()["manifest_path"].as_str().unwrap().to_owned();
    let mut found = Vec::new();
    let mut folders = vec![Path::new(&manifest).with_file_name("resources").join("eml")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "eml") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn with_crlf(text: &[u8]) -> Vec<u8> {
    let mut converted = Vec::with_capacity(text.len());
    for (at, &byte) in text.iter().enumerate() {
        if byte == b'\n' && (at == 0 || text[at - 1] != b'\r') {
            converted.push(b'\r');
        }
        converted.push(byte);
    }
    converted
}

/// What both tell of a part: how deep it is, what it is, and where its headers and its body stand.
type Told = (usize, &'static str, u64, u64, u64);

fn ours(part: &Part, depth: usize, told: &mut Vec<Told>) {
    let mut tell = |kind, end| told.push((depth, kind, part.header.start, part.body.start, end));
    match &part.kind {
        PartKind::Leaf => tell("leaf", part.body.end),
        // The other side ends a multipart elsewhere, at its last part's end or its own close.
        PartKind::Multipart(parts) => {
            tell("multipart", 0);
            parts.iter().for_each(|part| ours(part, depth + 1, told));
        }
        PartKind::Message(_, inner) => {
            tell("message", part.body.end);
            ours(inner, depth + 1, told);
        }
    }
}

fn theirs(message: &mail_parser::Message<'_>, id: u32, depth: usize, told: &mut Vec<Told>) {
    let part = &message.parts[id as usize];
    let mut tell =
        |kind, end: u32| told.push((depth, kind, part.offset_header.into(), part.offset_body.into(), end.into()));
    match &part.body {
        PartType::Multipart(parts) => {
            tell("multipart", 0);
            parts.iter().for_each(|id| theirs(message, *id, depth + 1, told));
        }
        PartType::Message(inner) if part.encoding == mail_parser::Encoding::None => {
            tell("message", part.offset_end);
            theirs(inner, 0, depth + 1, told);
        }
        _ => tell("leaf", part.offset_end),
    }
}

#[test]
fn the_structure_is_the_same() {
    let samples = samples();
    assert!(samples.len() > 100, "only {} samples", samples.len());
    let mut different = Vec::new();
    for path in &samples {
        let text = with_crlf(&fs::read(path).unwrap());
        let Some(message) = MessageParser::default().parse(&text) else { continue };
        let summary = mime::summarize(&Content::from(text.clone()), Timestamp(0), None).unwrap();
        let (mut one, mut other) = (Vec::new(), Vec::new());
        ours(&summary.structure, 0, &mut one);
        theirs(&message, 0, 0, &mut other);
        if one != other {
            let name =
                path.components().rev().take(2).map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>();
            different.push(format!("{}/{}", name[1], name[0]));
            if !EXPLAINED.iter().any(|(explained, _)| different.last().is_some_and(|name| name == explained)) {
                eprintln!("{}\n  ours   {one:?}\n  theirs {other:?}", path.display());
            }
        }
    }
    let explained: Vec<&str> = EXPLAINED.iter().map(|(name, _)| *name).collect();
    assert_eq!(different, explained);
}

const IN_HEADERS: &str = "a delimiter stands in a part's headers, before any empty line: we end the part there";
const PREFIX: &str = "a line goes on behind the boundary: we take it for text, they for the delimiter";
const OUTER: &str = "an outer delimiter stands where an inner one is missing: we let it end the inner multipart";
const AT_END: &str = "the last line is a delimiter: we begin an empty part there";
const NO_EMPTY_LINE: &str =
    "no empty line before the inner boundary: we see the end of the headers at the next empty line";

/// Where both differ, all on broken messages, and why.
const EXPLAINED: [(&str, &str); 16] = [
    ("malformed/000.eml", IN_HEADERS),
    ("malformed/001.eml", PREFIX),
    ("malformed/004.eml", PREFIX),
    ("malformed/007.eml", NO_EMPTY_LINE),
    ("malformed/008.eml", OUTER),
    ("malformed/009.eml", OUTER),
    ("malformed/011.eml", OUTER),
    ("malformed/012.eml", OUTER),
    ("malformed/013.eml", AT_END),
    ("malformed/014.eml", AT_END),
    ("malformed/016.eml", OUTER),
    ("malformed/020.eml", NO_EMPTY_LINE),
    ("malformed/021.eml", NO_EMPTY_LINE),
    ("malformed/022.eml", "the message inside has no headers: we show it as a message all the same"),
    ("thirdparty/005.eml", "text stands before the last delimiter on its line: we take the line for text"),
    ("thirdparty/015.eml", OUTER),
];

/// Every range lies in the message, in order, and inside of what holds it.
fn check(part: &Part, start: u64, end: u64) {
    assert!(start <= part.header.start && part.header.start <= part.header.end && part.body.end <= end);
    assert!(part.header.end == part.body.start && part.body.start <= part.body.end);
    match &part.kind {
        PartKind::Leaf => {}
        PartKind::Multipart(parts) => {
            let mut at = part.body.start;
            for inner in parts {
                check(inner, at, part.body.end);
                at = inner.body.end;
            }
        }
        PartKind::Message(_, inner) => check(inner, part.body.start, part.body.end),
    }
}

/// Real messages with pieces of them taken out, repeated and changed.
#[test]
fn damaged_messages_are_read() {
    let samples: Vec<Vec<u8>> = samples().iter().map(|path| with_crlf(&fs::read(path).unwrap())).collect();
    let damage = (any::<Index>(), proptest::collection::vec((any::<Index>(), 0_usize..60, 0_u8..4, any::<u8>()), 1..8));
    let mut runner = TestRunner::new(Config { failure_persistence: None, cases: 3000, ..Config::default() });
    let run = runner.run(&damage, |(which, damages)| {
        let mut text = which.get(&samples).clone();
        for (at, length, kind, byte) in damages {
            let start = at.index(text.len() + 1);
            let end = (start + length).min(text.len());
            match kind {
                0 => drop(text.drain(start..end)),
                1 => drop(text.splice(start..start, text[start..end].to_vec())),
                2 => text.insert(start, byte),
                _ => text.truncate(end.max(text.len() / 2)),
            }
        }
        let length = text.len() as u64;
        if let Ok(summary) = mime::summarize(&Content::from(text), Timestamp(0), None) {
            check(&summary.structure, 0, length);
            prop_assert_eq!(summary.structure.body.end, length);
        }
        Ok(())
    });
    run.unwrap();
}
