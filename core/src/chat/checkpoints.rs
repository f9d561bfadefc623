//! What bridges keep between their lives: sealed under the instance key, found by a keyed hash of its name.

use crate::core::Core;
use crate::errors::stored;
use crate::store::{CheckpointWrite, Write};
use mesyx_sdk::{Error, ErrorKind, Secret};

/// Most things that one bridge keeps.
const MOST: u32 = 10_000;
/// Values are rounded up to a multiple of this many bytes before they are sealed.
const STEP: usize = 64;

impl Core {
    /// See [`mesyx_sdk::Host::checkpoint`].
    ///
    /// # Errors
    /// [`ErrorKind::Unreadable`] where it was sealed under another instance key; as the store's.
    pub async fn checkpoint(&self, bridge: &str, key: &str) -> Result<Option<Secret>, Error> {
        let shared = &self.shared;
        let hash = shared.instance.name_hash("checkpoint", &[bridge.as_bytes(), key.as_bytes()]);
        let Some(sealed) = shared.store.checkpoint(bridge, hash).await.map_err(stored)? else { return Ok(None) };
        let opened = shared.instance.open_secret(&value_name(bridge, key), &sealed);
        let opened = opened.map_err(|error| Error::new(ErrorKind::Unreadable, error.to_string()))?;
        let (length, rest) = opened.split_first_chunk::<4>().ok_or_else(damaged)?;
        let value = rest.get(..u32::from_be_bytes(*length) as usize).ok_or_else(damaged)?;
        Ok(Some(Secret::new(value.to_vec())))
    }

    /// See [`mesyx_sdk::Host::set_checkpoint`].
    ///
    /// # Errors
    /// [`ErrorKind::OverQuota`] over the limit; as the store's.
    pub async fn set_checkpoint(&self, bridge: &str, key: &str, value: Option<Secret>) -> Result<(), Error> {
        let shared = &self.shared;
        let hash = shared.instance.name_hash("checkpoint", &[bridge.as_bytes(), key.as_bytes()]);
        let sealed = value.map(|value| {
            let value = value.expose();
            let mut clear = zeroize::Zeroizing::new(Vec::with_capacity((value.len() + 4).next_multiple_of(STEP)));
            clear.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
            clear.extend_from_slice(value);
            let padded = clear.len().next_multiple_of(STEP);
            clear.resize(padded, 0);
            let name = shared.instance.seal_secret(&name_of(bridge), key.as_bytes());
            (name, shared.instance.seal_secret(&value_name(bridge, key), &clear))
        });
        let write = CheckpointWrite { bridge: bridge.to_owned(), hash, sealed, most: MOST };
        shared.store.write(Write::PutCheckpoint(write)).await.map_err(stored).map(drop)
    }

    /// See [`mesyx_sdk::Host::checkpoints`].
    ///
    /// # Errors
    /// As the store's.
    pub async fn checkpoints(&self, bridge: &str, prefix: &str) -> Result<Vec<String>, Error> {
        let sealed = self.shared.store.checkpoints(bridge).await.map_err(stored)?;
        let name = name_of(bridge);
        let open = |sealed: &Vec<u8>| {
            let opened = self.shared.instance.open_secret(&name, sealed).ok()?;
            String::from_utf8(opened.to_vec()).ok()
        };
        let mut keys: Vec<String> = sealed.iter().filter_map(open).filter(|key| key.starts_with(prefix)).collect();
        keys.sort_unstable();
        Ok(keys)
    }
}

fn name_of(bridge: &str) -> String {
    format!("checkpoint name:{bridge}")
}

fn value_name(bridge: &str, key: &str) -> String {
    format!("checkpoint:{bridge}:{key}")
}

fn damaged() -> Error {
    Error::new(ErrorKind::Unreadable, "what a bridge kept is damaged")
}
