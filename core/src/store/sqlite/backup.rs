//! A consistent copy while the store serves.

use super::blobs::{self, BlobName};
use super::writer::Shared;
use super::{BLOBS, FILE, StoreError};
use rusqlite::{Connection, OpenFlags};
use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::Ordering;

/// The files that messages name, stored and queued ones.
pub(super) fn blobs_of(connection: &Connection) -> Result<HashSet<BlobName>, StoreError> {
    const SQL: &str = "SELECT blob FROM messages WHERE blob IS NOT NULL
        UNION ALL SELECT blob FROM queued_messages WHERE blob IS NOT NULL";
    let mut select = connection.prepare(SQL)?;
    Ok(select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// Copies the database as of one moment, then the files that the copy names. Files that lose their message meanwhile
/// are removed only after the backup.
pub(super) fn run(connection: &Connection, shared: &Shared, to: &Path) -> Result<(), StoreError> {
    std::fs::create_dir_all(to).map_err(|error| blobs::failed(to, &error))?;
    let mut found = std::fs::read_dir(to).map_err(|error| blobs::failed(to, &error))?;
    if found.next().is_some() {
        return Err(StoreError::Invalid("a backup goes to an empty directory"));
    }
    shared.backups.fetch_add(1, Ordering::SeqCst);
    let copied = copy(connection, shared, to);
    shared.backups.fetch_sub(1, Ordering::SeqCst);
    copied
}

fn copy(connection: &Connection, shared: &Shared, to: &Path) -> Result<(), StoreError> {
    let file = to.join(FILE);
    let name = file.to_str().ok_or(StoreError::Invalid("a backup's path must be UTF-8"))?;
    connection.execute("VACUUM INTO ?", [name])?;
    hold_jobs(&file)?;
    // SQLite does not sync what VACUUM INTO writes.
    let sync = |path: &Path| File::open(path).and_then(|file| file.sync_all());
    sync(&file).map_err(|error| blobs::failed(&file, &error))?;
    let copy = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let directory = to.join(BLOBS);
    std::fs::create_dir_all(&directory).map_err(|error| blobs::failed(&directory, &error))?;
    for blob in blobs_of(&copy)? {
        shared.blobs.copy(blob, &directory)?;
    }
    sync(&directory).and_then(|()| sync(to)).map_err(|error| blobs::failed(to, &error))
}

/// In the copy every job waits for the operator's word: what was sent since must not be sent again by a store that was restored.
fn hold_jobs(file: &Path) -> Result<(), StoreError> {
    let copy = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    copy.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
    copy.execute("UPDATE jobs SET hold = 1", [])?;
    copy.close().map_err(|(_, error)| StoreError::from(error))
}
