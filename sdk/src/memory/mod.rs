//! A host that keeps everything in memory.

/// A host with nothing behind it.
#[derive(Debug)]
pub struct MemoryHost;
