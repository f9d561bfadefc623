//! The core's own errors, in the terms that bridges know.

use crate::store::StoreError;
use mesyx_sdk::{Error, ErrorKind};

/// What the store said, as a bridge is told it. What the operator must know goes to the log.
pub(crate) fn stored(error: StoreError) -> Error {
    let text = error.to_string();
    match error {
        StoreError::NotFound(_) => Error::new(ErrorKind::NotFound, text),
        StoreError::Exists(_) => Error::new(ErrorKind::Exists, text),
        StoreError::Invalid(_) => Error::new(ErrorKind::Invalid, text),
        StoreError::Limit(_) => Error::new(ErrorKind::OverQuota, text),
        StoreError::Full => {
            tracing::error!("the disk is full: messages are refused until there is room");
            Error::new(ErrorKind::Full, "the server's disk is full; try again later")
        }
        StoreError::KeysetGone => {
            Error::new(ErrorKind::Unavailable, "the recipient's keys changed just now; try again later")
        }
        StoreError::Closed => Error::new(ErrorKind::Unavailable, "the server is stopping; try again later"),
        _ => {
            tracing::error!(error = %text, "the store failed");
            Error::new(ErrorKind::Unavailable, "the server's store failed; try again later")
        }
    }
}

/// A store that can't be opened: the operator reads this.
pub(crate) fn unopened(error: &StoreError) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the store can't be opened: {error}"))
}

/// Work on a thread of its own did not end: the program is stopping, or the work panicked.
pub(crate) fn broken(error: &tokio::task::JoinError) -> Error {
    if error.is_panic() {
        tracing::error!("a computation panicked");
    }
    Error::new(ErrorKind::Unavailable, "the server could not finish this; try again later")
}
