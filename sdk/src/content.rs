//! Clear message bytes.

use bytes::Bytes;
use std::fmt;
use std::ops::Deref;

/// The clear bytes of a MIME entity, or a piece of one.
///
/// A type of its own so that clear bytes are never taken for sealed ones and
/// never reach a log: `Debug` shows the length alone. Clones share the memory.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Content(Bytes);

impl Content {
    /// Wraps bytes without copying them.
    #[must_use]
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// The bytes, sharing the memory.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// The bytes themselves: their only owner may change them in place.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// The piece `start..end`, cut to what there is; never panics. Shares the memory.
    #[must_use]
    pub fn slice(&self, start: u64, end: u64) -> Self {
        let length = self.0.len();
        let start = usize::try_from(start).unwrap_or(length).min(length);
        let end = usize::try_from(end).unwrap_or(length).clamp(start, length);
        Self(self.0.slice(start..end))
    }
}

impl Deref for Content {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({} bytes)", self.0.len())
    }
}
