//! Large bodies: one file each, durable before the row that names it, removed after that row is gone.

use super::StoreError;
use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::{ObjectStoreExt, PutPayload};
use std::collections::HashSet;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

/// A file's name: random, so that nothing on the disk links it to a message.
pub(super) type BlobName = [u8; 16];

#[derive(Debug)]
pub(super) struct Blobs {
    files: LocalFileSystem,
    directory: PathBuf,
}

impl Blobs {
    pub(super) fn open(directory: PathBuf, sync: bool) -> Result<Self, StoreError> {
        std::fs::create_dir_all(&directory).map_err(|error| failed(&directory, &error))?;
        let files = LocalFileSystem::new_with_prefix(&directory).map_err(|error| backend(&error))?.with_fsync(sync);
        Ok(Self { files, directory })
    }

    /// Durable when it resolves.
    pub(super) async fn put(&self, body: Bytes) -> Result<BlobName, StoreError> {
        let name = mesyx_sdk::MessageId::random().0;
        self.files.put(&location(name), PutPayload::from_bytes(body)).await.map_err(|error| backend(&error))?;
        Ok(name)
    }

    /// `None` when it was removed meanwhile.
    pub(super) async fn get(&self, name: BlobName) -> Result<Option<Bytes>, StoreError> {
        match self.files.get(&location(name)).await {
            Ok(found) => found.bytes().await.map(Some).map_err(|error| backend(&error)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(backend(&error)),
        }
    }

    /// A file that stays behind is swept at the next start.
    pub(super) fn remove(&self, name: BlobName) {
        let path = self.path(name);
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "a body's file could not be removed; the next start tries again");
        }
    }

    /// Removes every file that is not `wanted`, half-written ones too.
    pub(super) fn sweep(&self, wanted: &HashSet<BlobName>) -> Result<usize, StoreError> {
        let mut swept = 0;
        for folder in entries(&self.directory)? {
            for file in entries(&folder)? {
                let name = file.file_name().and_then(|name| name.to_str()).and_then(parse);
                if name.is_none_or(|name| !wanted.contains(&name)) {
                    std::fs::remove_file(&file).map_err(|error| failed(&file, &error))?;
                    swept += 1;
                }
            }
        }
        Ok(swept)
    }

    /// Copies a file into another store's directory of blobs, durable.
    pub(super) fn copy(&self, name: BlobName, to: &Path) -> Result<(), StoreError> {
        let target = to.join(location(name).as_ref());
        let folder = target.parent().unwrap_or(to);
        let copy = || {
            std::fs::create_dir_all(folder)?;
            std::fs::copy(self.path(name), &target)?;
            std::fs::File::open(&target)?.sync_all()?;
            std::fs::File::open(folder)?.sync_all()
        };
        copy().map_err(|error| failed(&target, &error))
    }

    fn path(&self, name: BlobName) -> PathBuf {
        self.directory.join(location(name).as_ref())
    }
}

/// `ab/ab…`: 256 folders, so that none grows huge.
fn location(name: BlobName) -> object_store::path::Path {
    let name = mesyx_sdk::MessageId(name).to_string();
    object_store::path::Path::from(format!("{}/{name}", &name[..2]))
}

fn parse(name: &str) -> Option<BlobName> {
    name.parse::<mesyx_sdk::MessageId>().ok().map(|id| id.0)
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    let list = || std::fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path())).collect();
    io::Result::map_err(list(), |error| failed(directory, &error))
}

/// An input or output error on a path, as the store tells it.
pub(super) fn failed(path: &Path, error: &io::Error) -> StoreError {
    if is_full(error) { StoreError::Full } else { StoreError::Backend(format!("{}: {error}", path.display())) }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn backend(error: &object_store::Error) -> StoreError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(this) = cause {
        if this.downcast_ref::<io::Error>().is_some_and(is_full) {
            return StoreError::Full;
        }
        cause = this.source();
    }
    StoreError::Backend(error.to_string())
}
