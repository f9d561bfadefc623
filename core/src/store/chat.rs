//! What the store is asked for conversations, groups, and what bridges keep.

/// Something that a bridge keeps between its lives.
#[derive(Debug)]
pub struct CheckpointWrite {
    /// The bridge.
    pub bridge: String,
    /// Keyed hash of the name.
    pub hash: [u8; 32],
    /// Name and value, each sealed by the caller; `None` takes it away.
    pub sealed: Option<(Vec<u8>, Vec<u8>)>,
    /// Most things that the bridge may keep.
    pub most: u32,
}
