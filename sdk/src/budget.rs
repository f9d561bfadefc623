//! One byte budget for all messages in flight.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many bytes of messages may be held in memory at once, by all bridges together.
///
/// Reserve before reading a body, keep the [`Reservation`] beside the bytes.
/// A spent budget is answered with 452 (SMTP) or `NO [LIMIT]` (IMAP), never by waiting
/// with the bytes already in memory.
#[derive(Debug, Clone)]
pub struct ByteBudget {
    pages: Arc<Semaphore>,
    total: usize,
}

/// Bytes taken from a [`ByteBudget`]; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    permit: OwnedSemaphorePermit,
    budget: ByteBudget,
}

/// The unit of account: small enough to waste little, large enough that a gigabyte fits a semaphore.
const PAGE: usize = 1024;

impl ByteBudget {
    /// A budget of `total` bytes, rounded down to whole KiB.
    #[must_use]
    pub fn new(total: usize) -> Self {
        let pages = (total / PAGE).min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        Self { pages: Arc::new(Semaphore::new(pages)), total: pages * PAGE }
    }

    /// Takes `bytes` (rounded up to whole KiB) now, or `None` where so much is not left.
    #[must_use]
    pub fn reserve(&self, bytes: usize) -> Option<Reservation> {
        let pages = u32::try_from(bytes.div_ceil(PAGE)).ok()?;
        let permit = Arc::clone(&self.pages).try_acquire_many_owned(pages).ok()?;
        Some(Reservation { permit, budget: self.clone() })
    }

    /// The same as [`ByteBudget::reserve`], for whoever answers with an error.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Full`] where so much is not left.
    pub fn room_for(&self, bytes: usize) -> Result<Reservation, crate::Error> {
        let full = || crate::Error::new(crate::ErrorKind::Full, "too much is under way; try again later");
        self.reserve(bytes).ok_or_else(full)
    }

    /// The whole budget in bytes.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.total
    }

    /// What is left, in bytes.
    #[must_use]
    pub fn available(&self) -> usize {
        self.pages.available_permits() * PAGE
    }
}

impl Reservation {
    /// How many bytes are reserved.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.permit.num_permits() * PAGE
    }

    /// Makes the reservation at least `bytes` large. `false`, with nothing changed, where the budget has not so much left.
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        let missing = bytes.saturating_sub(self.bytes());
        match self.budget.reserve(missing) {
            Some(more) => {
                self.permit.merge(more.permit);
                true
            }
            None => false,
        }
    }
}
