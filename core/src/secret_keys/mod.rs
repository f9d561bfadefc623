//! What happens to secret keys, and to the messages under them.
//!
//! ```text
//!  offline  export (file written and synced by who asked) -> check the file -> show sealed -> erase key, memory, log
//!  online   read the file -> one of the keyset's certificates? -> wrap, store -> show opened
//!  unlock   read the file -> memory only -> mailbox `Unlocked/NAME` until its time is over
//!  reseal   open with one keyset's key -> seal to another's certificates -> replace, attested anew
//!  rekey    new master key, slots, keysets in one write; old secret keys wrapped again, nothing new sealed to them
//! ```
//!
//! What must hold: what a UID shows never changes; a secret key is erased only after its file was written, synced and read back;
//! whatever was begun and broken off is either finished at the next start or was never there.

mod offline;
mod rekey;
mod reseal;
mod unlock;

pub use offline::{ExportedKey, KeysetShown};
pub use rekey::Rekeyed;
pub(crate) use reseal::Reseals;
pub use reseal::{NewReseal, ResealKey, ResealProgress};
pub use unlock::{NewUnlock, UnlockedKeyset};

use crate::admin::Proof;
use crate::core::{Core, Shared};
use crate::directory::Member;
use crate::errors::{broken, stored};
use crate::id::KeysetId;
use crate::keys::import::{ImportError, read_secret_keys};
use crate::keys::{Keyring, Keyset, MasterKey, holding, listed};
use crate::store::{Held, KeyWrite, SealedUse, Write, Written};
use mesyx_sdk::{Error, ErrorKind, Secret, UserId};
use sequoia_openpgp::Cert;
use std::sync::Arc;

impl Core {
    /// A user, and one of the user's keysets by its name or id.
    fn user_and_keyset(&self, name: &str, keyset: &str) -> Result<(Arc<Member>, Arc<Keyset>), Error> {
        let member = self.member(name)?;
        let found = self.shared.keyring(member.id)?.find(keyset).cloned();
        let keyset = found.ok_or_else(|| {
            let text = format!(
                "{name} has no keyset {keyset}, or several of that name; `mesyx keyset list` shows all with their ids"
            );
            Error::new(ErrorKind::NotFound, text)
        })?;
        Ok((member, keyset))
    }

    /// The secret keys of a keyset that are stored here, opened with `proof`; none where it is offline.
    async fn stored_secrets(
        &self,
        user: UserId,
        keyset: &Keyset,
        proof: &Proof,
    ) -> Result<(MasterKey, Vec<Cert>), Error> {
        let (_, master) = self.open_with(user, proof).await?;
        let secrets = self.shared.store.secrets(user).await.map_err(stored)?;
        let certificates = match secrets.secret_keys.iter().find(|key| key.keyset == Some(keyset.id)) {
            Some(stored) => master.unwrap(user, stored).map_err(|error| damaged(&error))?,
            None => Vec::new(),
        };
        Ok((master, certificates))
    }
}

impl Shared {
    pub(crate) fn keyring(&self, user: UserId) -> Result<Arc<Keyring>, Error> {
        let directory = self.directory();
        directory.keyrings.get(&user).cloned().ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, "the user's keyring can't be read; the server's log says why")
        })
    }

    /// Whether messages of a keyset are shown sealed, with its name in their subjects.
    pub(crate) async fn shows_sealed(&self, user: UserId, keyset: KeysetId) -> Result<bool, Error> {
        self.store.shows_sealed(user, keyset).await.map_err(stored)
    }

    /// Lists what is in secret keys that an earlier format stored without saying so, from the certificates of their keysets. What is in
    /// those of which that is not known here either counts as opening all of its keyset.
    pub(crate) async fn list_secret_keys(&self) -> Result<(), Error> {
        for (user, secret) in self.store.unlisted_secret_keys().await.map_err(stored)? {
            let Some(keyset) = secret.keyset else { continue };
            let directory = self.directory();
            let Some(found) = directory.keyrings.get(&user).and_then(|keyring| keyring.get(keyset)) else { continue };
            let listed = listed(&secret);
            let is_held = |certificate: &&Cert| match &listed {
                Some(listed) => listed.iter().any(|one| one == certificate.fingerprint().as_bytes()),
                // The first format had one certificate for each keyset, made here, which names the keyset.
                None => {
                    let own = format!("Mesyx keyset {keyset}");
                    certificate.userids().any(|id| id.userid().value() == own.as_bytes())
                }
            };
            let held: Vec<Held> = found.certificates().iter().filter(is_held).map(holding).collect();
            if held.len() != listed.as_ref().map_or(1, Vec::len) {
                continue;
            }
            self.write_keys(KeyWrite::List { user, keyset, held }).await?;
        }
        Ok(())
    }

    /// Reads a file of secret keys for a keyset. Those count that are the secret part of one of its certificates, or of one that was among
    /// them when messages were sealed; others in the file open nothing and are left out, as a file that was taken from here may hold the
    /// key of a certificate that was replaced since.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where the file is refused, or none of its keys counts.
    async fn read_for(
        &self,
        user: UserId,
        keyset: &Arc<Keyset>,
        file: &Secret,
        passphrase: Option<&Secret>,
    ) -> Result<Vec<Cert>, Error> {
        let (file, passphrase) = (file.clone(), passphrase.cloned());
        let read = tokio::task::spawn_blocking(move || read_secret_keys(file.expose(), passphrase.as_ref()));
        let secrets = read.await.map_err(|error| broken(&error))?.map_err(|error| refused(&error))?;
        let present = |secret: &Cert| {
            let mut known = keyset.certificates().iter();
            known.any(|certificate| certificate.fingerprint() == secret.fingerprint())
        };
        if secrets.iter().all(present) {
            return Ok(secrets);
        }
        let used = self.store.sealed_use(user).await.map_err(stored)?;
        let stored = self.store.secrets(user).await.map_err(stored)?.secret_keys;
        let of_keyset = stored.iter().filter(|stored| stored.keyset == Some(keyset.id)).flat_map(|stored| &stored.held);
        let held: Vec<&Held> = of_keyset.collect();
        let counts = |secret: &Cert| {
            let Held { fingerprint, keys } = holding(secret);
            let opens =
                |used: &SealedUse| used.keyset == keyset.id && used.recipients.iter().any(|id| keys.contains(id));
            present(secret) || used.iter().any(opens) || held.iter().any(|held| held.fingerprint == fingerprint)
        };
        let (counting, others): (Vec<Cert>, Vec<Cert>) = secrets.into_iter().partition(counts);
        if !counting.is_empty() {
            return Ok(counting);
        }
        let hex = |certs: &[Cert]| certs.iter().map(|cert| cert.fingerprint().to_hex()).collect::<Vec<_>>();
        let text = format!(
            "the file holds the secret key of {}, which is no certificate of keyset {}, and no message there is sealed to it: give that of {}",
            hex(&others).join(" and "),
            keyset.name,
            hex(keyset.certificates()).join(" or ")
        );
        Err(Error::new(ErrorKind::Invalid, text))
    }

    async fn write_keys(&self, write: KeyWrite) -> Result<Written, Error> {
        self.store.write(Write::Keys(write)).await.map_err(stored)
    }
}

fn damaged(error: &impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unavailable, format!("{error}; restore it from a backup"))
}

fn refused(error: &ImportError) -> Error {
    Error::new(ErrorKind::Invalid, error.to_string())
}
