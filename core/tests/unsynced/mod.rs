//! A simulated power cut: what was never synced is gone.
//!
//! [`library`] compiles the layer that a process is run under (`LD_PRELOAD`); [`replay`] makes its directory what the disk
//! would have kept, after the process was killed. Works for any dynamically linked program.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles the layer into the directory and names the file to preload.
///
/// # Panics
/// Without a C compiler, which the build needs anyway.
pub(crate) fn library(directory: &Path) -> PathBuf {
    let source = directory.join("unsynced.c");
    fs::write(&source, include_str!("unsynced.c")).expect("a writable directory");
    let library = directory.join("unsynced.so");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let compiled = Command::new(compiler)
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(&source)
        .args(["-ldl", "-lpthread"])
        .status();
    assert!(compiled.expect("a C compiler").success(), "{} compiles", source.display());
    library
}

const MAGIC: u32 = 0x6d73_7875;
const HEADER: usize = 40;

/// One record of the journal, as `unsynced.c` writes it.
struct Record<'a> {
    at: u64,
    kind: u32,
    inode: u64,
    offset: u64,
    size: u64,
    data: &'a [u8],
}

/// Undoes everything below `directory` that no later sync covers, and forgets the journal. Answers with the number of
/// changes undone.
///
/// # Panics
/// Where the journal is not one, or a file can't be changed.
pub(crate) fn replay(directory: &Path, journal: &Path) -> usize {
    let bytes = fs::read(journal).expect("the journal");
    let mut records = Vec::new();
    let mut at = 0;
    while bytes.len() - at >= HEADER {
        let u32_at = |from: usize| u32::from_le_bytes(bytes[at + from..at + from + 4].try_into().expect("4 bytes"));
        let u64_at = |from: usize| u64::from_le_bytes(bytes[at + from..at + from + 8].try_into().expect("8 bytes"));
        assert_eq!(u32_at(0), MAGIC, "a record at {at}");
        let length = usize::try_from(u64_at(32)).expect("a length");
        // The last record may be cut short: then its change was never made.
        let Some(data) = bytes.get(at + HEADER..at + HEADER + length) else { break };
        let (kind, inode, offset, size) = (u32_at(4), u64_at(8), u64_at(16), u64_at(24));
        records.push(Record { at: at as u64, kind, inode, offset, size, data });
        at += HEADER + length;
    }
    let mut inodes = HashMap::new();
    index(directory, &mut inodes);
    // Of each file and directory, the journal's length when the last sync began: what was recorded before it is safe.
    let mut safe: HashMap<u64, u64> = HashMap::new();
    for record in records.iter().filter(|record| record.kind == 2) {
        let begun = safe.entry(record.inode).or_default();
        *begun = record.offset.max(*begun);
    }
    let mut undone = 0;
    for record in records.iter().rev().filter(|record| record.kind != 2) {
        if safe.get(&record.inode).is_some_and(|begun| record.at < *begun) {
            continue;
        }
        undone += 1;
        let paths: Vec<&Path> = record
            .data
            .split(|byte| *byte == 0)
            .filter_map(|path| std::str::from_utf8(path).ok().filter(|path| !path.is_empty()).map(Path::new))
            .collect();
        match (record.kind, &paths[..]) {
            (1, _) => {
                // A removed file's number may be a directory's by now. Another file's it may be too: what is undone to that one
                // it never had, but it was then not synced either, so nothing may rely on it.
                let Some(path) = inodes.get(&record.inode).filter(|path| path.is_file()) else { continue };
                let file = OpenOptions::new().write(true).open(path).expect("a file");
                file.write_all_at(record.data, record.offset).expect("old content");
                file.set_len(record.size).expect("the old size");
            }
            (3, [path]) if path.is_dir() => fs::remove_dir_all(path).expect("a directory"),
            (3, [path]) => drop(fs::remove_file(path)),
            (4, [from, to]) => {
                if fs::rename(to, from).is_ok()
                    && let Ok(metadata) = fs::metadata(from)
                {
                    inodes.insert(metadata.ino(), from.to_path_buf());
                }
            }
            _ => panic!("an unknown record"),
        }
    }
    File::create(journal).expect("an empty journal");
    undone
}

fn index(directory: &Path, inodes: &mut HashMap<u64, PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        inodes.insert(fs::metadata(&path).expect("metadata").ino(), path.clone());
        if path.is_dir() {
            index(&path, inodes);
        }
    }
}
