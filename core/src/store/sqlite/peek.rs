//! A look at the users of a store that nobody has open, which changes nothing: no file is made, none is written.

use super::{FILE, SqliteStore, blobs, read, schema};
use crate::store::{StoreError, StoredUser};
use rusqlite::{Connection, OpenFlags};
use std::fs::File;
use std::path::Path;

impl SqliteStore {
    /// The users of the store in `directory`, where it was closed in order and has today's format.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while a process has it open, [`StoreError::Newer`], [`StoreError::Invalid`] where only
    /// [`SqliteStore::open`] could read it (of an older format, or not closed in order), [`StoreError::Backend`].
    pub fn peek(directory: &Path) -> Result<Vec<StoredUser>, StoreError> {
        let path = directory.join("lock");
        let lock = File::open(&path).map_err(|error| blobs::failed(&path, &error))?;
        // Held until the look is over, so that no server starts to write meanwhile.
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(StoreError::InUse(directory.display().to_string())),
            Err(std::fs::TryLockError::Error(error)) => return Err(blobs::failed(&path, &error)),
        }
        let file = directory.join(FILE);
        let log = directory.join(format!("{FILE}-wal"));
        if std::fs::metadata(&log).is_ok_and(|log| log.len() > 0) {
            return Err(StoreError::Invalid("the store was not closed in order; start the server once"));
        }
        // Told that the file does not change, SQLite makes none beside it.
        let mut uri = String::from("file:");
        for byte in file.as_os_str().as_encoded_bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
                byte => uri.push_str(&format!("%{byte:02x}")),
            }
        }
        uri.push_str("?immutable=1");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(uri, flags)?;
        let found: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        match found.cmp(&schema::FORMAT) {
            std::cmp::Ordering::Greater => Err(StoreError::Newer { found, known: schema::FORMAT }),
            std::cmp::Ordering::Less => {
                Err(StoreError::Invalid("the store has an older format; start the server once"))
            }
            std::cmp::Ordering::Equal => read::users(&connection),
        }
    }
}
