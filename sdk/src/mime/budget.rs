//! What one summary may hold.

use super::{MAX_ITEMS, MAX_VALUE_BYTES};

/// Counts down, so that a hostile message can't make a summary many times its own size.
pub(super) struct Budget {
    items: usize,
    bytes: usize,
}

impl Budget {
    pub(super) const fn new() -> Self {
        Self { items: MAX_ITEMS, bytes: MAX_VALUE_BYTES }
    }

    /// Takes both, or nothing where either is not left.
    pub(super) const fn take(&mut self, items: usize, bytes: usize) -> bool {
        let (Some(items), Some(bytes)) = (self.items.checked_sub(items), self.bytes.checked_sub(bytes)) else {
            return false;
        };
        self.items = items;
        self.bytes = bytes;
        true
    }
}
