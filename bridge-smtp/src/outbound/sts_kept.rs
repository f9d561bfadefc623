//! Policies of MTA-STS over restarts (RFC 8461, section 3.3: they are cached for as long as they say; section 10.2: a sender that
//! forgets them lets an attacker suppress them).
//!
//! The host keeps them sealed. They lie on 256 shelves, each under a key that tells one byte of a hash and no domain: which domains our users
//! write to is nobody's business.

use super::sts::Policy;
use mesyx_sdk::{Error, Host, Secret};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most bytes of a shelf: what a host keeps under one key.
const MOST_BYTES: usize = 60 << 10;
/// A policy that is larger than this is fetched anew after a restart; sane ones have a few hundred bytes.
const MOST_POLICY: usize = 4 << 10;

/// What is known of one domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The id in the domain's record.
    pub(super) id: String,
    pub(super) policy: Policy,
    /// When it was fetched, in milliseconds since 1970.
    pub(super) fetched: i64,
}

/// The policies of one shelf, by domain.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Shelf(pub(super) BTreeMap<String, Entry>);

/// On which shelf a domain's policy lies.
pub(super) fn shelf_of(domain: &str) -> u8 {
    ring::digest::digest(&ring::digest::SHA256, domain.as_bytes()).as_ref().first().copied().unwrap_or(0)
}

fn key(shelf: u8) -> String {
    format!("mta-sts/{shelf:02x}")
}

impl Shelf {
    /// Reads a shelf; an empty one where nothing is kept, or what is kept can't be read any more.
    ///
    /// # Errors
    /// Where the host can't say.
    pub(super) async fn read(host: &dyn Host, number: u8) -> Result<Self, Error> {
        let Some(kept) = host.checkpoint(&key(number)).await? else { return Ok(Self::default()) };
        Ok(serde_json::from_slice(kept.expose()).unwrap_or_else(|error| {
            tracing::warn!(%error, "policies of MTA-STS that were kept can't be read; they are fetched anew");
            Self::default()
        }))
    }

    /// Writes a shelf. Where there is no room, those that were fetched longest ago are left out.
    pub(super) async fn write(mut self, host: &dyn Host, number: u8) {
        self.0.retain(|_, entry| serde_json::to_vec(entry).is_ok_and(|bytes| bytes.len() <= MOST_POLICY));
        let mut bytes = serde_json::to_vec(&self).unwrap_or_default();
        while bytes.len() > MOST_BYTES
            && let Some(oldest) = self.0.iter().min_by_key(|(_, entry)| entry.fetched).map(|(domain, _)| domain.clone())
        {
            self.0.remove(&oldest);
            bytes = serde_json::to_vec(&self).unwrap_or_default();
        }
        if let Err(error) = host.set_checkpoint(&key(number), Some(Secret::new(bytes))).await {
            tracing::debug!(%error, "policies of MTA-STS are not kept over a restart");
        }
    }
}
