//! Secret keys go out, and come back.

use super::damaged;
use crate::admin::Proof;
use crate::core::{Core, Shared};
use crate::errors::broken;
use crate::keys::import::MOST_SECRET_KEYS;
use crate::store::{KeyWrite, KeysetMove, Shown, Written};
use mesyx_sdk::{Error, ErrorKind, Secret, UserId};
use openpgp::Cert;
use openpgp::armor::{Kind, Writer};
use openpgp::serialize::Serialize as _;
use sequoia_openpgp as openpgp;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use zeroize::Zeroizing;

/// Messages that are shown otherwise in one commit: some tenths of a second, in which no mail is taken in.
const AT_ONCE: u32 = 1000;

/// A keyset's secret keys, as a file holds them.
#[derive(Debug)]
pub struct ExportedKey {
    /// Armored OpenPGP transferable secret keys (RFC 9580, section 10.2): one for each secret key that is here.
    pub armored: Secret,
    /// The fingerprints of their certificates.
    pub fingerprints: Vec<String>,
    /// Messages that are sealed to the keyset.
    pub messages: u64,
}

/// The messages of a keyset are shown otherwise now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysetShown {
    /// The keyset's name.
    pub keyset: String,
    /// Messages that got new UIDs, because they are shown otherwise.
    pub messages: u64,
}

impl Core {
    /// A keyset's secret keys, for a file: locked with `passphrase`, or not. Nothing changes here.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::LoginFailed`]; [`ErrorKind::Invalid`] where the keyset is offline already.
    pub async fn export_keyset(
        &self,
        name: &str,
        keyset: &str,
        proof: Proof,
        passphrase: Option<Secret>,
    ) -> Result<ExportedKey, Error> {
        let (member, keyset) = self.user_and_keyset(name, keyset)?;
        let (_, secrets) = self.stored_secrets(member.id, &keyset, &proof).await?;
        if secrets.is_empty() {
            return Err(already_offline(&keyset.name));
        }
        let fingerprints = secrets.iter().map(|secret| secret.fingerprint().to_hex()).collect();
        let certificates = keyset.certificates().to_vec();
        let work = tokio::task::spawn_blocking(move || armor(secrets, &certificates, passphrase.as_ref()));
        let armored = work.await.map_err(|error| broken(&error))?.map_err(|error| damaged(&error))?;
        let sealed = self.shared.store.keyset_use(member.id).await.map_err(crate::errors::stored)?;
        let messages = sealed.iter().find(|used| used.keyset == keyset.id).map_or(0, |used| used.messages);
        Ok(ExportedKey { armored, fingerprints, messages })
    }

    /// Takes a keyset's secret keys out of this instance. `exported` is the file of [`Core::export_keyset`] as it was read back after
    /// it was synced: without it nothing is erased. From here on the keyset's messages are shown sealed, as PGP/MIME, under new
    /// UIDs. When it resolves, the secret keys are in no file of the store and in no session.
    ///
    /// Broken off half-way, the rest is done at the next start.
    ///
    /// # Errors
    /// As [`Core::export_keyset`]; [`ErrorKind::Invalid`] where the file does not open, or lacks one of the keys.
    pub async fn take_keyset_offline(
        &self,
        name: &str,
        keyset: &str,
        proof: Proof,
        exported: &Secret,
        passphrase: Option<&Secret>,
    ) -> Result<KeysetShown, Error> {
        let (member, keyset) = self.user_and_keyset(name, keyset)?;
        let held = self.shared.read_for(member.id, &keyset, exported, passphrase).await?;
        let _one = self.shared.administration.lock().await;
        let (_, secrets) = self.stored_secrets(member.id, &keyset, &proof).await?;
        if secrets.is_empty() {
            return Err(already_offline(&keyset.name));
        }
        if let Some(missing) = secrets.iter().find(|secret| !held.iter().any(|held| holds(held, secret))) {
            let text = format!("the file lacks secret keys of {}: nothing was changed", missing.fingerprint());
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        drop((held, secrets));
        let keyset_move = KeysetMove { user: member.id, keyset: keyset.id, shown: Shown::Sealed };
        self.shared.write_keys(KeyWrite::Move { keyset: keyset_move, secret: None }).await?;
        let messages = self.shared.finish_move(keyset_move).await?;
        tracing::info!(user = %member.id, keyset = %keyset.id, messages, "a keyset's secret key was taken offline");
        Ok(KeysetShown { keyset: keyset.name.clone(), messages })
    }

    /// Brings a keyset's secret key back for good: its messages are shown opened, under new UIDs.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::LoginFailed`]; [`ErrorKind::Invalid`] where the file is refused, or is no secret key of this keyset.
    pub async fn bring_keyset_online(
        &self,
        name: &str,
        keyset: &str,
        proof: Proof,
        file: &Secret,
        passphrase: Option<&Secret>,
    ) -> Result<KeysetShown, Error> {
        let (member, keyset) = self.user_and_keyset(name, keyset)?;
        let user = member.id;
        let mut secrets = self.shared.read_for(user, &keyset, file, passphrase).await?;
        let _one = self.shared.administration.lock().await;
        let (master, here) = self.stored_secrets(user, &keyset, &proof).await?;
        for other in here {
            if !secrets.iter().any(|secret| secret.fingerprint() == other.fingerprint()) {
                secrets.push(other);
            }
        }
        if secrets.len() > MOST_SECRET_KEYS {
            // What could not be read back from one file could never be taken offline again.
            let text = format!(
                "keyset {} would have the secret keys of {} certificates here, more than {MOST_SECRET_KEYS}: nothing was changed; seal its messages to another keyset first (`mesyx keyset reseal`)",
                keyset.name,
                secrets.len()
            );
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        let wrapped = master.wrapping_key(user).wrap(Some(keyset.id), &secrets).map_err(|error| damaged(&error))?;
        let keyset_move = KeysetMove { user, keyset: keyset.id, shown: Shown::Opened };
        // Before the first message is shown opened.
        let came = self.shared.access.keyset_came(user, keyset.id, &secrets);
        let write = KeyWrite::Move { keyset: keyset_move, secret: Some(wrapped) };
        if let Err(error) = self.shared.write_keys(write).await {
            // Whatever of it is stored nevertheless comes back with the next look at what is stored.
            if came {
                self.shared.access.keyset_went(user, keyset.id);
            }
            self.shared.check_slots(user).await;
            return Err(error);
        }
        self.shared.end_unlocks(|view| (view.user, view.keyset) == (user, keyset.id));
        let messages = self.shared.finish_move(keyset_move).await?;
        tracing::info!(%user, keyset = %keyset.id, messages, "a keyset's secret key was brought back");
        Ok(KeysetShown { keyset: keyset.name.clone(), messages })
    }
}

impl Shared {
    /// Finishes what was begun before the program ended.
    pub(crate) async fn finish_moves(&self) -> Result<(), Error> {
        for keyset_move in self.store.keyset_moves().await.map_err(crate::errors::stored)? {
            let KeysetMove { user, keyset, shown } = keyset_move;
            tracing::info!(%user, %keyset, ?shown, "the messages of a keyset are being shown otherwise: going on");
            if let Err(error) = self.finish_move(keyset_move).await {
                tracing::error!(%user, %keyset, %error, "this can't be finished now; the next start tries again");
            }
        }
        Ok(())
    }

    /// Shows the messages of a keyset otherwise, takes its secret key away where it is shown sealed, and leaves no trace of the key.
    /// Answers how many messages got new UIDs.
    pub(crate) async fn finish_move(&self, keyset_move: KeysetMove) -> Result<u64, Error> {
        let KeysetMove { user, keyset, shown } = keyset_move;
        let (mut after, mut changed, mut total) = (0, 0, 0);
        loop {
            let write = KeyWrite::Reshow { user, keyset, after, limit: AT_ONCE };
            let Written::Reshown { messages, next } = self.write_keys(write).await? else { break };
            changed += u64::from(messages);
            if let Some(next) = next {
                after = next;
                continue;
            }
            if changed == 0 {
                break;
            }
            // Once more from the first, until all are found as they should be.
            total += changed;
            (after, changed) = (0, 0);
        }
        self.write_keys(KeyWrite::EndMove { user, keyset }).await?;
        if shown == Shown::Sealed {
            self.sealer.forget(user, keyset);
            self.access.keyset_went(user, keyset);
        }
        self.scrub().await?;
        self.write_keys(KeyWrite::ForgetMove { user, keyset }).await?;
        Ok(total)
    }

    /// As [`Shared::refresh`], where a failure must not undo what is durable.
    pub(crate) async fn refreshed(&self, user: UserId) {
        if let Err(error) = self.refresh().await {
            tracing::error!(%user, %error, "the users can't be read anew; restart the server");
        }
    }

    /// As [`Shared::scrub`], where a failure must not undo what is durable, and who asked for it need not wait for a backup that runs.
    pub(crate) async fn scrubbed(&self, user: UserId) {
        if self.write_keys(KeyWrite::Scrub).await.is_ok() {
            return;
        }
        let Some(shared) = self.me.upgrade() else { return };
        self.runtime.spawn(async move {
            if let Err(error) = shared.scrub().await {
                tracing::error!(%user, %error, "erased keys are still in the write-ahead log, until it is folded in at the next start");
            }
        });
    }

    /// Leaves no copy in the store's files of what was erased. A backup that runs may hold it up for a while.
    pub(super) async fn scrub(&self) -> Result<(), Error> {
        const TRIES: u32 = 30;
        let mut tried = 0;
        loop {
            match self.write_keys(KeyWrite::Scrub).await {
                Err(error) if tried < TRIES => {
                    tracing::warn!(%error, "an erased secret key is still in the write-ahead log; trying again");
                    tried += 1;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                result => return result.map(drop),
            }
        }
    }
}

fn already_offline(keyset: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("keyset {keyset} has no secret key here: it is offline already"))
}

/// Whether `held` has every secret key of `secret`; that each fits its public key was checked when it was read.
fn holds(held: &Cert, secret: &Cert) -> bool {
    held.fingerprint() == secret.fingerprint()
        && secret.keys().secret().all(|key| {
            let fingerprint = key.key().fingerprint();
            held.keys().unencrypted_secret().any(|held| held.key().fingerprint() == fingerprint)
        })
}

/// The secret keys as one armored file, with what the keyset's record knows of their certificates since they were made.
fn armor(secrets: Vec<Cert>, certificates: &[Cert], passphrase: Option<&Secret>) -> openpgp::Result<Secret> {
    let mut text = Zeroizing::new(Vec::with_capacity(64 << 10));
    let mut writer = Writer::new(&mut *text, Kind::SecretKey)?;
    for secret in secrets {
        let public = certificates.iter().find(|certificate| certificate.fingerprint() == secret.fingerprint());
        let mut whole = match public {
            Some(public) => public.clone().merge_public_and_secret(secret)?,
            None => secret,
        };
        if let Some(passphrase) = passphrase {
            whole = lock(whole, passphrase)?;
        }
        whole.as_tsk().serialize(&mut writer)?;
    }
    writer.finalize()?;
    Ok(Secret::new(text.to_vec()))
}

/// Locks every secret key with a passphrase.
fn lock(cert: Cert, passphrase: &Secret) -> openpgp::Result<Cert> {
    let passphrase = openpgp::crypto::Password::from(passphrase.expose());
    let mut packets: Vec<openpgp::Packet> = Vec::new();
    let primary = cert.primary_key().key().fingerprint();
    for key in cert.keys().unencrypted_secret() {
        let secret = key.key().clone().encrypt_secret(&passphrase)?;
        if secret.fingerprint() == primary {
            packets.push(secret.role_into_primary().into());
        } else {
            packets.push(secret.role_into_subordinate().into());
        }
    }
    Ok(cert.insert_packets(packets)?.0)
}
