//! Secret keys that are open, and the session keys that were opened with them.

use super::lru::Lru;
use crate::id::{KeysetId, SessionKeyId};
use crate::keys::Unlocked;
use crate::seal::{OpenError, SealedSessionKey, SessionKey};
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Session keys that are kept open; each serves up to a thousand messages.
const SESSION_KEYS: usize = 4096;

/// Open keys of one user: those of the sessions, or those of one keyset that is unlocked for a while. Erased when dropped.
#[derive(Debug)]
pub(crate) struct OpenKeys {
    secret: Unlocked,
    session_keys: Mutex<Lru<SessionKeyId, Arc<SessionKey>>>,
}

impl OpenKeys {
    pub(crate) fn new(secret: Unlocked) -> Self {
        Self { secret, session_keys: Mutex::new(Lru::new(SESSION_KEYS)) }
    }

    fn session_keys(&self) -> MutexGuard<'_, Lru<SessionKeyId, Arc<SessionKey>>> {
        self.session_keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session key that was opened before.
    pub(crate) fn known(&self, id: SessionKeyId) -> Option<Arc<SessionKey>> {
        self.session_keys().get(&id)
    }

    /// Opens a session key, and keeps it as long as the keyset's secret key is here.
    pub(crate) fn open(&self, sealed: &SealedSessionKey) -> Result<Arc<SessionKey>, OpenError> {
        let key = Arc::new(self.secret.session_key(sealed)?);
        let mut kept = self.session_keys();
        // Asked under the lock: who takes the secret key away empties this afterwards.
        if self.secret.has(sealed.keyset) {
            kept.put(sealed.id, Arc::clone(&key), 1);
        }
        Ok(key)
    }

    /// Erases a keyset's secret keys, and every session key that may have been opened with them.
    pub(crate) fn forget(&self, keyset: KeysetId) {
        self.secret.remove(keyset);
        self.session_keys().retain(|_| false);
    }
}

impl Deref for OpenKeys {
    type Target = Unlocked;

    fn deref(&self) -> &Unlocked {
        &self.secret
    }
}
