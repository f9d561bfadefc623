//! Checks of the files that bridges are run from, before they are run.

use ring::digest::{Context, SHA256};
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Opens a file that is to be run or loaded, after checking that nobody but root and `owner` (besides root) could have changed it.
///
/// What is to be run must be what was opened here: a name can be given to another file meanwhile.
///
/// # Errors
/// What is wrong and what to do, in one line without the path.
pub(crate) fn open(path: &Path, owner: u32, sha256: Option<&str>) -> Result<File, String> {
    let whole = path.canonicalize().map_err(|error| format!("it can't be found: {error}"))?;
    for directory in whole.ancestors().skip(1) {
        let metadata = directory.metadata().map_err(|error| format!("{}: {error}", directory.display()))?;
        // In a directory with the sticky bit nobody can move away what is another's (such as /tmp).
        let sticky = metadata.mode() & 0o1000 != 0;
        check_owner(&metadata, owner, sticky).map_err(|why| format!("its directory {}: {why}", directory.display()))?;
    }
    let mut file = File::open(&whole).map_err(|error| format!("it can't be read: {error}"))?;
    let metadata = file.metadata().map_err(|error| format!("it can't be looked at: {error}"))?;
    if !metadata.is_file() {
        return Err("it is no regular file".into());
    }
    check_owner(&metadata, owner, false)?;
    if let Some(wanted) = sha256 {
        let found = digest(&mut file).map_err(|error| format!("it can't be read: {error}"))?;
        if !found.eq_ignore_ascii_case(wanted.trim()) {
            return Err(format!(
                "its SHA-256 is {found}, not the one that the configuration has: another file stands there"
            ));
        }
    }
    Ok(file)
}

fn check_owner(metadata: &Metadata, owner: u32, sticky: bool) -> Result<(), String> {
    let uid = metadata.uid();
    if uid != 0 && uid != owner {
        return Err(format!("it belongs to the user {uid}; it must belong to root or to the server's user ({owner})"));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o022 != 0 && !sticky {
        return Err(format!("others than its owner may write to it (mode {mode:04o}); take that away with chmod go-w"));
    }
    Ok(())
}

/// The SHA-256 of all that can be read, in hexadecimal.
fn digest(file: &mut File) -> io::Result<String> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            length => context.update(&buffer[..length]),
        }
    }
    Ok(context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::Uid;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn ourselves() -> u32 {
        Uid::effective().as_raw()
    }

    fn sample() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bridge.so");
        fs::write(&path, b"abc").unwrap();
        mode(&path, 0o755);
        (dir, path)
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn our_own_file_is_taken() {
        let (_dir, path) = sample();
        open(&path, ourselves(), None).unwrap();
        open(&path, ourselves(), Some(ABC)).unwrap();
        open(&path, ourselves(), Some(&ABC.to_uppercase())).unwrap();
    }

    #[test]
    fn another_digest_is_refused() {
        let (_dir, path) = sample();
        let error = open(&path, ourselves(), Some(&ABC.replace('b', "c"))).unwrap_err();
        assert!(error.contains(ABC), "{error}");
    }

    #[test]
    fn what_others_may_write_is_refused() {
        let (dir, path) = sample();
        for bad in [0o775, 0o757] {
            mode(&path, bad);
            assert!(open(&path, ourselves(), None).unwrap_err().contains("chmod"), "{bad:o}");
        }
        mode(&path, 0o755);
        mode(dir.path(), 0o777);
        assert!(open(&path, ourselves(), None).unwrap_err().contains("its directory"));
        mode(dir.path(), 0o1777);
        open(&path, ourselves(), None).unwrap();
    }

    #[test]
    fn another_users_file_is_refused() {
        let (dir, path) = sample();
        if !Uid::effective().is_root() {
            // Nobody else's file at hand: then the owner that is looked for is another.
            assert!(open(&path, 4_000_000, None).unwrap_err().contains("belongs"));
            return;
        }
        nix::unistd::chown(&path, Some(Uid::from_raw(4_000_000)), None).unwrap();
        assert!(open(&path, 0, None).unwrap_err().contains("belongs"));
        open(&path, 0, None).unwrap_err();
        nix::unistd::chown(&path, Some(Uid::from_raw(0)), None).unwrap();
        nix::unistd::chown(dir.path(), Some(Uid::from_raw(4_000_000)), None).unwrap();
        assert!(open(&path, 0, None).unwrap_err().contains("its directory"));
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let (dir, path) = sample();
        let inner = dir.path().join("directory");
        fs::DirBuilder::new().create(&inner).unwrap();
        mode(&inner, 0o755);
        assert!(open(&inner, ourselves(), None).unwrap_err().contains("regular"));
        assert!(open(&path.join("x"), ourselves(), None).is_err());
    }
}
