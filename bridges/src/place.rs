//! The directory of one life's socket: made for a process that is started, gone when it has connected.
//!
//! A server that is killed in between leaves it behind, so the next one sweeps what nobody holds: a server holds the lock of each of its
//! directories (flock(2)), which the kernel lets go however it ends.

use nix::unistd::{Gid, Uid};
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use tokio::net::UnixListener;

/// How the directories are called: this and 16 hexadecimal digits.
const PREFIX: &str = "mesyx-bridge-";
/// Longest path of a Unix socket (unix(7)), in bytes.
const MAX_SOCKET_PATH: usize = 107;
/// How often another directory is made where one was swept before it was locked.
const TRIES: usize = 8;

/// What this process has swept.
static SWEPT: Mutex<BTreeSet<(PathBuf, u32)>> = Mutex::new(BTreeSet::new());

/// The directory of one life's socket, which only the child's user and root may enter; removed when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    /// Held until the directory is gone.
    _lock: File,
}

impl Place {
    /// Makes one in `parent`, for a user and group where they are others than ours.
    pub(crate) fn new(parent: &Path, ids: Option<(u32, u32)>) -> io::Result<Self> {
        let mut result = Err(io::Error::other("every directory was swept away by another server"));
        for _ in 0..TRIES {
            result = Self::once(parent, ids);
            if !result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) || !parent.exists() {
                break;
            }
        }
        result
    }

    fn once(parent: &Path, ids: Option<(u32, u32)>) -> io::Result<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        let path = parent.join(format!("{PREFIX}{:016x}", u64::from_ne_bytes(random)));
        DirBuilder::new().mode(0o700).create(&path)?;
        let lock = File::open(&path)?;
        match lock.try_lock() {
            Ok(()) => {}
            // Another server takes it for one that was left, and removes it.
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::NotFound.into()),
            // A file system without locks, which nobody can sweep either.
            Err(TryLockError::Error(_)) => {}
        }
        // It may have been removed before it was locked.
        fs::symlink_metadata(&path)?;
        let place = Self { path, _lock: lock };
        give(&place.path, ids)?;
        Ok(place)
    }

    /// The directory.
    pub(crate) const fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Where the socket is.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path.join("bridge")
    }

    /// Listens at the socket.
    pub(crate) fn listen(&self, ids: Option<(u32, u32)>) -> io::Result<UnixListener> {
        let path = self.socket();
        if path.as_os_str().len() > MAX_SOCKET_PATH {
            let what = format!("{} is too long for a socket; set TMPDIR to a shorter path", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let listener = UnixListener::bind(&path)?;
        give(&path, ids)?;
        Ok(listener)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn give(path: &Path, ids: Option<(u32, u32)>) -> io::Result<()> {
    let Some((uid, gid)) = ids.filter(|_| Uid::effective().is_root()) else { return Ok(()) };
    Ok(nix::unistd::chown(path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?)
}

/// Removes what servers that were killed have left in `parent`: directories of ours, or of the user `of` of the bridge that is to be
/// started, that nobody holds. Done once for each in the life of this process.
pub(crate) fn sweep(parent: &Path, of: u32) {
    let owners = [Uid::effective().as_raw(), of];
    let first = SWEPT.lock().unwrap_or_else(PoisonError::into_inner).insert((parent.to_owned(), of));
    if !first {
        return;
    }
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if digits.is_some_and(|digits| digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            remove_left(&entry.path(), &owners);
        }
    }
}

/// Removes one directory, where it was left.
fn remove_left(path: &Path, owners: &[u32]) {
    let flags = nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW;
    let Ok(directory) = OpenOptions::new().read(true).custom_flags(flags).open(path) else { return };
    let ours = directory
        .metadata()
        .is_ok_and(|metadata| owners.contains(&metadata.uid()) && metadata.mode() & 0o7777 == 0o700);
    if !ours || directory.try_lock().is_err() {
        return;
    }
    match fs::remove_dir_all(path) {
        Ok(()) => tracing::info!(path = %path.display(), "removed a socket that a server which was killed had left"),
        Err(error) => tracing::debug!(path = %path.display(), %error, "a socket that was left can't be removed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn left(parent: &Path, name: &str) -> PathBuf {
        let path = parent.join(name);
        DirBuilder::new().mode(0o700).create(&path).unwrap();
        fs::write(path.join("bridge"), "").unwrap();
        path
    }

    #[tokio::test]
    async fn what_nobody_holds_is_swept() {
        let parent = tempfile::tempdir().unwrap();
        let parent = parent.path();
        let alive = Place::new(parent, None).unwrap();
        let _listens = alive.listen(None).unwrap();
        let gone = left(parent, "mesyx-bridge-0123456789abcdef");
        let kept = [left(parent, "mesyx-bridge-0123456789abcdeg"), left(parent, "mesyx-other"), {
            let open = left(parent, "mesyx-bridge-0123456789abcde0");
            fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
            open
        }];
        let target = left(parent, "target");
        let link = parent.join("mesyx-bridge-0123456789abcde1");
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let others = left(parent, "mesyx-bridge-0123456789abcde2");
        if Uid::effective().is_root() {
            std::os::unix::fs::chown(&others, Some(61_235), None).unwrap();
        } else {
            fs::remove_dir_all(&others).unwrap();
        }
        sweep(parent, Uid::effective().as_raw());
        assert!(!gone.exists());
        for kept in kept.iter().chain([&target]) {
            assert!(kept.join("bridge").exists(), "{}", kept.display());
        }
        assert!(link.symlink_metadata().is_ok() && alive.socket().exists(), "not ours to remove, and in use");
        assert_eq!(others.exists(), Uid::effective().is_root(), "another's");
        sweep(parent, 61_235);
        assert!(!others.exists(), "a bridge's own user's");
        let path = alive.path().clone();
        drop(alive);
        assert!(!path.exists());
    }
}
