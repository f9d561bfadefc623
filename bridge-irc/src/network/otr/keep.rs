//! What lasts of OTR: key, instance tag, fingerprints and policies, as one sealed checkpoint.

use super::{Desk, OtrPolicy};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mesyx_otr::{Fingerprint, Identity, Trust};
use mesyx_sdk::Secret;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use zeroize::{Zeroize, Zeroizing};

/// Bytes that a checkpoint may have, with room to spare.
const MOST: usize = 60_000;

#[derive(Default, Serialize, Deserialize)]
struct Kept {
    /// Base64.
    identity: String,
    policies: BTreeMap<String, OtrPolicy>,
    peers: BTreeMap<String, Vec<(String, u8)>>,
}

impl Desk {
    /// Reads what was kept.
    ///
    /// # Errors
    /// Where it can't be read: one line.
    pub(crate) fn load(&mut self, kept: &Secret) -> Result<(), String> {
        let kept: Kept = serde_json::from_slice(kept.expose()).map_err(|error| error.to_string())?;
        let bytes = Zeroizing::new(STANDARD.decode(kept.identity.as_bytes()).map_err(|error| error.to_string())?);
        self.identity = Some(Arc::new(Identity::from_bytes(&bytes).map_err(|error| error.to_string())?));
        self.policies.clone_from(&kept.policies);
        for (nick, prints) in &kept.peers {
            let peer = self.peer_name(nick);
            for (print, trust) in prints {
                let trust = [Trust::Unknown, Trust::Seen, Trust::Smp, Trust::ByHand].get(usize::from(*trust)).copied();
                if let (Some(print), Some(trust)) = (Fingerprint::parse(print), trust) {
                    self.book.set_trust(&peer, print, trust);
                }
            }
        }
        Ok(())
    }

    /// What is to be kept, where it changed since the last call.
    pub(crate) fn save(&mut self) -> Option<Secret> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let identity = STANDARD.encode(self.identity.as_ref()?.to_bytes());
        let mut peers: BTreeMap<String, Vec<(String, u8)>> = BTreeMap::new();
        for (peer, print, trust) in self.book.entries() {
            let digits: String = print.to_string().chars().filter(|c| !c.is_whitespace()).collect();
            peers.entry(peer.peer.clone()).or_default().push((digits, trust as u8));
        }
        let mut kept = Kept { identity, policies: self.policies.clone(), peers };
        // Who floods us with keys must not push out those that were verified: those only seen go first.
        for least in [Trust::Smp as u8, u8::MAX] {
            while size(&kept) > MOST {
                let spare = kept.peers.iter().find(|(_, prints)| prints.iter().all(|(_, trust)| *trust < least));
                let Some(nick) = spare.map(|(nick, _)| nick.clone()) else { break };
                kept.peers.remove(&nick);
            }
        }
        serde_json::to_vec(&kept).ok().map(Secret::new)
    }

    /// The key is new: keep it.
    pub(crate) fn touch(&mut self) {
        self.changed = true;
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.identity.zeroize();
    }
}

fn size(kept: &Kept) -> usize {
    let peers = kept.peers.iter().map(|(nick, prints)| nick.len() + 8 + prints.len() * 50);
    let policies = kept.policies.keys().map(|nick| nick.len() + 20);
    kept.identity.len() + peers.sum::<usize>() + policies.sum::<usize>() + 200
}
