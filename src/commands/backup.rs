//! `mesyx backup` and `mesyx restore`.

use crate::config::check::Checked;
use crate::control::{Request, client};
use crate::exit::{Failure, NOT_RUNNING, trying};
use crate::init;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

pub(super) fn backup(checked: &Checked, to: &Path) -> Result<(), Failure> {
    // The server stands in another directory.
    let to = std::path::absolute(to).map_err(trying(to.display()))?;
    client::ask(checked, Request::Backup { to: to.clone() })?;
    say!("The store was copied to {}.", to.display());
    say!("Not in it, and needed to use it: {} and the configuration.", checked.core.instance_key.display());
    Ok(())
}

pub(super) fn restore(checked: &Checked, from: &Path) -> Result<(), Failure> {
    if client::is_running(checked)? {
        return Err(Failure::with(NOT_RUNNING, "the server is running; stop it first"));
    }
    init::directory(&checked.core.data_dir)?;
    let data = &checked.core.data_dir.join(STORE);
    let is_empty = match fs::read_dir(data) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(trying(data.display())(error)),
    };
    if !is_empty {
        let text = format!("{} is not empty; move it away first", data.display());
        return Err(Failure::new(text));
    }
    if !from.join(DATABASE).is_file() {
        return Err(Failure::new(format!("{} is no backup: there is no {DATABASE} in it", from.display())));
    }
    // Beside the store and moved there at the end, so that a copy that breaks off is not taken for a store.
    let mut beside = data.clone().into_os_string();
    beside.push(".restoring");
    let beside = PathBuf::from(beside);
    if beside.exists() {
        fs::remove_dir_all(&beside).map_err(trying(beside.display()))?;
    }
    copy(from, &beside).inspect_err(|_| {
        let _ = fs::remove_dir_all(&beside);
    })?;
    if data.exists() {
        fs::remove_dir(data).map_err(trying(data.display()))?;
    }
    fs::rename(&beside, data).map_err(trying(data.display()))?;
    if let Some(parent) = data.parent() {
        sync(parent)?;
    }
    say!("The store was restored from {}.", from.display());
    Ok(())
}

/// The store's directory in the data directory; a backup is a copy of it.
const STORE: &str = "store";
/// What every store has.
const DATABASE: &str = "store.db";

/// Copies a directory with all in it, durable when it returns. The owner is that of the directory above.
fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    let mut waiting = vec![(from.to_owned(), to.to_owned())];
    while let Some((from, to)) = waiting.pop() {
        fs::create_dir(&to).map_err(trying(to.display()))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o700)).map_err(trying(to.display()))?;
        for entry in fs::read_dir(&from).map_err(trying(from.display()))? {
            let entry = entry.map_err(trying(from.display()))?;
            let (source, target) = (entry.path(), to.join(entry.file_name()));
            let kind = entry.file_type().map_err(trying(source.display()))?;
            if kind.is_dir() {
                waiting.push((source, target));
            } else if kind.is_file() {
                fs::copy(&source, &target).map_err(trying(source.display()))?;
                fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).map_err(trying(target.display()))?;
                sync(&target)?;
            } else {
                return Err(Failure::new(format!("{} is neither file nor directory", source.display())));
            }
        }
        sync(&to)?;
    }
    Ok(())
}

fn sync(path: &Path) -> Result<(), Failure> {
    fs::File::open(path).and_then(|file| file.sync_all()).map_err(trying(path.display()))
}
