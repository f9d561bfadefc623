//! New keys for a user: after a theft, with the old ones kept for old messages; or where every password is lost, without them.

use crate::accounts::{new_keys, unmade};
use crate::admin::{Account, AddedAccount, DiscardReport, Proof};
use crate::core::Core;
use crate::errors::{broken, stored};
use crate::id::{KeysetId, identity_id};
use crate::keys::{KeyError, Keyset, MasterKey, Profile, Slot, SlotKind, generate_keyset};
use crate::store::{KeyChange, KeysetMove, Shown, StoredSecretKey, Write};
use mesyx_sdk::{Error, ErrorKind, Secret, Timestamp, UserId};
use openpgp::Cert;
use openpgp::serialize::MarshalInto;
use openpgp::types::PublicKeyAlgorithm;
use sequoia_openpgp as openpgp;
use std::collections::HashSet;
use std::sync::Arc;

/// A user has new keys: what is shown once, and never again.
#[derive(Debug)]
pub struct Rekeyed {
    /// The user.
    pub account: Account,
    /// The new recovery key; the old one opens nothing any more.
    pub recovery_key: Secret,
    /// Labels of the app passwords that are gone, because their texts are known to nobody here.
    pub revoked: Vec<String>,
    /// Names of the keysets that were replaced.
    pub keysets: Vec<String>,
    /// Names of the keysets that stay as they are, because their secret keys are not here.
    pub offline: Vec<String>,
}

impl Core {
    /// Gives a user a new master key, new slots, and new keysets in the place of those whose secret keys are here: for after a theft of
    /// the store together with a password. The old keysets are retired: their secret keys, wrapped anew, open old messages, and
    /// nothing is sealed to them any more. One write; every session ends.
    ///
    /// The password is the one in `proof` unless a new one is given. With the recovery key a new one must be given: the new recovery key is
    /// in the answer alone, and were that lost on its way, nothing would open anything any more. App passwords are revoked. The
    /// identity stays: the command `identity rotate` replaces it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::LoginFailed`], [`ErrorKind::Invalid`] for a password that can't be set, or none.
    pub async fn rekey(&self, name: &str, proof: Proof, password: Option<Secret>) -> Result<Rekeyed, Error> {
        let password = match (password, &proof) {
            (Some(new), _) => new,
            (None, Proof::Password(same)) => same.clone(),
            (None, Proof::RecoveryKey(_)) => {
                let text = "with the recovery key, give a new password too: it is what remains should the new recovery key not reach you";
                return Err(Error::new(ErrorKind::Invalid, text));
            }
        };
        let _one = self.shared.administration.lock().await;
        let member = self.member(name)?;
        let user = member.id;
        let (old_slots, old) = self.open_with(user, &proof).await?;
        let secrets = self.shared.store.secrets(user).await.map_err(stored)?;
        let slots = self.new_slots(user, Some(&password), None).await?;
        let wrapping = slots.master.wrapping_key(user);
        let mut change = KeyChange::of(user);
        change.put_slots = slots.slots.iter().map(Slot::to_stored).collect();
        change.remove_slots = secrets.slots.iter().map(|slot| slot.id).collect();
        change.drop_secret_keys = true;
        let damaged = |error: KeyError| super::damaged(&error);
        let mut here: Vec<(KeysetId, Vec<Cert>)> = Vec::new();
        for stored in &secrets.secret_keys {
            let certificates = old.unwrap(user, stored).map_err(damaged)?;
            change.put_secret_keys.push(wrapping.wrap(stored.keyset, &certificates).map_err(damaged)?);
            here.extend(stored.keyset.map(|keyset| (keyset, certificates)));
        }
        let (mut keysets, mut offline) = (Vec::new(), Vec::new());
        for keyset in self.shared.keyring(user)?.keysets() {
            match here.iter().find(|(id, _)| *id == keyset.id) {
                Some((_, held)) => {
                    keysets.push(keyset.name.clone());
                    replace(&mut change, keyset, held, &slots.master).await?;
                }
                None => offline.push(keyset.name.clone()),
            }
        }
        drop(here);
        let hold = self.shared.access.hold(user);
        self.shared.store.write(Write::PutKeys(Box::new(change))).await.map_err(stored)?;
        // The new recovery key is in the answer alone: nothing may keep it back now.
        self.shared.refreshed(user).await;
        self.shared.access.end_all(user, "the user's keys were replaced");
        drop(hold);
        self.shared.scrubbed(user).await;
        tracing::warn!(%user, keysets = keysets.len(), "a user's master key and keysets were replaced");
        let revoked = old_slots.iter().filter_map(|slot| match slot.kind() {
            SlotKind::AppPassword { device } => Some(device.clone()),
            _ => None,
        });
        Ok(Rekeyed {
            account: Account::of(&member),
            recovery_key: slots.recovery_key,
            revoked: revoked.collect(),
            keysets,
            offline,
        })
    }

    pub(crate) async fn discard_report_now(&self, name: &str) -> Result<DiscardReport, Error> {
        let user = self.member(name)?.id;
        let held = self.keysets_here(user).await?;
        let sealed = self.shared.store.keyset_use(user).await.map_err(stored)?;
        let lost = sealed.iter().filter(|used| held.contains(&used.keyset));
        let (messages, bytes) = lost.fold((0, 0), |(m, b), used| (m + used.messages, b + used.bytes));
        Ok(DiscardReport { messages, bytes, keysets: held.len() })
    }

    /// The keysets whose secret keys are here.
    async fn keysets_here(&self, user: UserId) -> Result<HashSet<KeysetId>, Error> {
        let keyring = self.shared.keyring(user)?;
        let secrets = self.shared.store.secrets(user).await.map_err(stored)?;
        let of_keysets = secrets.secret_keys.iter().filter_map(|key| key.keyset);
        Ok(of_keysets.filter(|keyset| keyring.get(*keyset).is_some()).collect())
    }

    /// The old keysets are retired, and their messages shown sealed: a copy of their secret keys from a backup would still open
    /// them. Keysets that are offline stay as they are.
    pub(crate) async fn discard_keys_now(&self, name: &str, new: Option<Secret>) -> Result<AddedAccount, Error> {
        let _one = self.shared.administration.lock().await;
        let member = self.member(name)?;
        let user = member.id;
        let old = self.shared.store.secrets(user).await.map_err(stored)?;
        let held = self.keysets_here(user).await?;
        let slots = self.new_slots(user, new.as_ref(), None).await?;
        let profile = self.shared.settings().keysets.profile;
        let keys = new_keys(&member.name, &member.addresses, profile).await?;
        let mut change = KeyChange::of(user);
        change.put_slots = slots.slots.iter().map(Slot::to_stored).collect();
        change.remove_slots = old.slots.iter().map(|slot| slot.id).collect();
        change.drop_secret_keys = true;
        change.identity = Some(keys.identity_record().map_err(unmade)?);
        // Others may have pinned the old one, though nothing here opens what they encrypt to it any more.
        let keyring = self.shared.keyring(user)?;
        let before = keyring.identity();
        let id = identity_id(user, before.fingerprint().as_bytes());
        change.keep_identities.push((id, before.to_vec().map_err(unmade)?));
        let wrapping = slots.master.wrapping_key(user);
        change.put_secret_keys.push(wrapping.wrap(None, std::slice::from_ref(&keys.identity)).map_err(unmade)?);
        for keyset in self.shared.keyring(user)?.keysets().iter().filter(|keyset| held.contains(&keyset.id)) {
            replace(&mut change, keyset, keyset.certificates(), &slots.master).await?;
        }
        change.show_sealed = held.iter().copied().collect();
        let hold = self.shared.access.hold(user);
        self.shared.access.end_all(user, "the user's keys were replaced");
        self.shared.store.write(Write::PutKeys(Box::new(change))).await.map_err(stored)?;
        self.shared.refreshed(user).await;
        self.shared.access.end_all(user, "the user's keys were replaced");
        for keyset in held {
            if let Err(error) = self.shared.finish_move(KeysetMove { user, keyset, shown: Shown::Sealed }).await {
                tracing::error!(%user, %keyset, %error, "what was lost is shown as sealed from the next start on");
            }
        }
        drop(hold);
        tracing::warn!(%user, "a user's keys were thrown away and made anew");
        let account = Account::of(&member);
        Ok(AddedAccount { account, recovery_key: slots.recovery_key, app_password: None })
    }
}

/// Retires a keyset, and puts a new one of the same name, span and importance in its place: with a fresh certificate instead of
/// those in `held`, and the others as they are.
async fn replace(change: &mut KeyChange, keyset: &Arc<Keyset>, held: &[Cert], master: &MasterKey) -> Result<(), Error> {
    let is_held = |cert: &&Cert| held.iter().any(|held| held.fingerprint() == cert.fingerprint());
    let profile = keyset.certificates().iter().find(is_held).map_or(Profile::default(), profile_of);
    let (name, span, importance) = (keyset.name.clone(), keyset.span, keyset.importance);
    let made = tokio::task::spawn_blocking(move || generate_keyset(&name, span, importance, profile));
    let (fresh, secret) = made.await.map_err(|error| broken(&error))?.map_err(unmade)?;
    let mut certificates = fresh.certificates().to_vec();
    certificates.extend(keyset.certificates().iter().filter(|cert| !is_held(cert)).cloned());
    let fresh = fresh.with_certificates(certificates).map_err(unmade)?;
    let retired = keyset.retire(Some(Timestamp::now().day())).map_err(unmade)?;
    let wrapped: StoredSecretKey = master.wrap(change.user, Some(fresh.id), &secret).map_err(unmade)?;
    change.put_keysets.push((retired.id, retired.encode().map_err(unmade)?));
    change.put_keysets.push((fresh.id, fresh.encode().map_err(unmade)?));
    change.put_secret_keys.push(wrapped);
    Ok(())
}

/// The kind of certificate that takes the place of this one.
fn profile_of(certificate: &Cert) -> Profile {
    let post_quantum = certificate.keys().any(|key| {
        matches!(key.key().pk_algo(), PublicKeyAlgorithm::MLKEM768_X25519 | PublicKeyAlgorithm::MLDSA65_Ed25519)
    });
    match (certificate.primary_key().key().version(), post_quantum) {
        (_, true) => Profile::PostQuantum,
        (6, false) => Profile::V6,
        _ => Profile::V4,
    }
}
