//! A user's opened secret keys.

use super::{KeyError, Keyring, MasterKey, WrappingKey};
use crate::id::KeysetId;
use crate::seal::{Format, MOST_RECIPIENTS, OpenError, RecipientId, SealedSessionKey, SessionKey};
use crate::store::{Held, StoredSecrets};
use mesyx_sdk::UserId;
use openpgp::crypto::KeyPair;
use openpgp::packet::PKESK;
use openpgp::parse::{PacketParser, PacketParserResult, Parse};
use openpgp::types::{PublicKeyAlgorithm, SymmetricAlgorithm};
use openpgp::{Cert, Fingerprint, KeyID, Packet};
use sequoia_openpgp as openpgp;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A user's secret keys in memory, ready to open session keys; erased when dropped. Sequoia keeps each encrypted in
/// memory but for the moment of its use.
///
/// One for each unlocked user, shared by the user's sessions behind an `Arc`. Keys may come and go while sessions live: a rotation
/// makes a keyset, a secret key is brought here or taken away.
pub struct Unlocked {
    user: UserId,
    wrapping: WrappingKey,
    keys: RwLock<Keys>,
}

#[derive(Default)]
struct Keys {
    identity: Option<Arc<Cert>>,
    /// Identities from before a rotation, the latest first: mail to them still comes.
    earlier: Vec<Arc<Cert>>,
    /// Decryption keys by key id, which is all that a version 3 PKESK names; a fingerprint gives it too.
    pairs: HashMap<KeyID, KeyPair>,
    /// Which of them came with which keyset.
    keysets: HashMap<KeysetId, HashSet<KeyID>>,
    /// Keysets whose stored secret keys can't be unwrapped.
    damaged: HashSet<KeysetId>,
}

impl Unlocked {
    /// Opens all of a user's secret keys. A keyset without one is offline. One that does not open under this master key, for this user and
    /// its place, is logged and left out: its own messages can't be read, all else can.
    ///
    /// # Errors
    /// [`KeyError::Damaged`] where the identity's does not open, as under another master key, or what stands in its place is none of the
    /// user's identities.
    pub fn open(
        user: UserId,
        master: &MasterKey,
        secrets: &StoredSecrets,
        keyring: &Keyring,
    ) -> Result<Self, KeyError> {
        let mut keys = Keys::default();
        for stored in &secrets.secret_keys {
            let secrets = match (master.unwrap(user, stored), stored.keyset) {
                (Ok(secrets), _) => secrets,
                (Err(error), None) => return Err(error),
                (Err(error), Some(keyset)) => {
                    tracing::error!(%user, %keyset, %error, "a keyset's secret key can't be used: restore it from a backup, or bring it back from a file");
                    keys.damaged.insert(keyset);
                    continue;
                }
            };
            for secret in secrets {
                let fingerprint = secret.fingerprint();
                let current = fingerprint == keyring.identity().fingerprint();
                let known = current || keyring.earlier(&fingerprint).is_some();
                match stored.keyset {
                    None if !known => return Err(KeyError::Damaged),
                    // A keyset's key, also one that the keyset's record does not name (any more): it opens what was sealed to it.
                    Some(id) if !known || keyring.get(id).is_some() => keys.add(id, &secret),
                    _ => {}
                }
                if current {
                    keys.identity = Some(Arc::new(secret));
                } else if known {
                    keys.earlier.push(Arc::new(secret));
                }
            }
        }
        let age = |cert: &Arc<Cert>| keyring.earlier(&cert.fingerprint());
        keys.earlier.sort_by_key(age);
        Ok(Self { user, wrapping: master.wrapping_key(user), keys: RwLock::new(keys) })
    }

    fn keys(&self) -> RwLockReadGuard<'_, Keys> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn keys_mut(&self) -> RwLockWriteGuard<'_, Keys> {
        self.keys.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in the secret keys of a keyset, beside those that are here.
    pub fn insert(&self, keyset: KeysetId, secrets: &[Cert]) {
        let mut keys = self.keys_mut();
        secrets.iter().for_each(|secret| keys.add(keyset, secret));
    }

    /// Erases the secret keys of a keyset, but for those that another keyset has too.
    pub fn remove(&self, keyset: KeysetId) {
        let mut keys = self.keys_mut();
        for id in keys.keysets.remove(&keyset).unwrap_or_default() {
            if !keys.keysets.values().any(|others| others.contains(&id)) {
                keys.pairs.remove(&id);
            }
        }
    }

    /// The identity was rotated: the one before stays among the earlier ones.
    pub(crate) fn set_identity(&self, secret: Cert) {
        let mut keys = self.keys_mut();
        if let Some(before) = keys.identity.replace(Arc::new(secret)) {
            keys.earlier.insert(0, before);
        }
    }

    /// Whose keys these are.
    #[must_use]
    pub const fn user(&self) -> UserId {
        self.user
    }

    /// Wraps secret keys that are made while the user is unlocked.
    #[must_use]
    pub const fn wrapping_key(&self) -> &WrappingKey {
        &self.wrapping
    }

    /// Opens a session key that is sealed to an identity, the current one or an earlier one.
    ///
    /// # Errors
    /// [`OpenError::NoKey`] where it is sealed to another key, [`OpenError::VariableTime`] where the identity's is of a kind that this
    /// build does not use.
    pub(crate) fn identity_session_key(&self, packets: &[u8]) -> Result<SessionKey, OpenError> {
        let identities = self.identities();
        let mut why = OpenError::NoKey;
        for packet in recipients(packets)? {
            let Some(recipient) = packet.recipient().map(KeyID::from) else { continue };
            let secrets = identities.iter().flat_map(|identity| identity.keys().unencrypted_secret());
            let mut keys = secrets.filter(|key| key.key().keyid() == recipient);
            let Some(mut pair) = keys.next().and_then(|key| key.key().clone().into_keypair().ok()) else { continue };
            match decrypt(&packet, &mut pair) {
                Ok(key) => return Ok(key),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    /// The identity with its secret part, where this instance has it: signs, and opens mail that others encrypted to it.
    #[must_use]
    pub fn identity(&self) -> Option<Arc<Cert>> {
        self.keys().identity.clone()
    }

    /// Every identity whose secret part is here, the current one first: mail to any of them opens.
    #[must_use]
    pub fn identities(&self) -> Vec<Arc<Cert>> {
        let keys = self.keys();
        keys.identity.iter().chain(&keys.earlier).cloned().collect()
    }

    /// Whether a session key that is sealed to these opens.
    #[must_use]
    pub fn opens(&self, recipients: &[RecipientId]) -> bool {
        let keys = self.keys();
        recipients.iter().any(|recipient| keys.pairs.contains_key(&recipient.key_id()))
    }

    /// Whether all that is listed of a keyset's secret keys is here; where nothing is listed, whether any is.
    #[must_use]
    pub fn has_all(&self, keyset: KeysetId, held: &[Held]) -> bool {
        let keys = self.keys();
        let here = keys.keysets.get(&keyset);
        let mut listed = held.iter().flat_map(|held| &held.keys);
        here.is_some_and(|here| listed.all(|key| here.contains(&key.key_id())))
    }

    /// Whether a secret key of a keyset is here.
    #[must_use]
    pub fn has(&self, keyset: KeysetId) -> bool {
        self.keys().keysets.contains_key(&keyset)
    }

    /// The keysets whose secret keys are here, in no order.
    #[must_use]
    pub fn keysets(&self) -> Vec<KeysetId> {
        self.keys().keysets.keys().copied().collect()
    }

    /// Whether the secret key of an identity is here.
    #[must_use]
    pub fn has_identity(&self, fingerprint: &Fingerprint) -> bool {
        self.identities().iter().any(|cert| cert.fingerprint() == *fingerprint)
    }

    /// Opens a session key with the secret key of the first of its recipients that is here. Costs about as much as an
    /// X25519 agreement (some 60 µs): keep the result while its messages are read.
    ///
    /// # Errors
    /// [`OpenError::Offline`] where the keyset's secret key is not here, [`OpenError::VariableTime`] where it is of a kind that this
    /// build does not use, [`OpenError::NoKey`] where it is sealed to other keys than the keyset's.
    pub fn session_key(&self, sealed: &SealedSessionKey) -> Result<SessionKey, OpenError> {
        if sealed.user != self.user {
            return Err(OpenError::Swapped("user"));
        }
        let mut why = match (self.has(sealed.keyset), self.keys().damaged.contains(&sealed.keyset)) {
            (true, _) => OpenError::NoKey,
            (false, true) => OpenError::Damaged("the secret key of its keyset"),
            (false, false) => OpenError::Offline(sealed.keyset),
        };
        for packet in recipients(&sealed.packets)? {
            let Some(recipient) = packet.recipient().map(KeyID::from) else { continue };
            let Some(mut pair) = self.keys().pairs.get(&recipient).cloned() else { continue };
            match decrypt(&packet, &mut pair) {
                Ok(key) => return Ok(key),
                Err(error) => why = error,
            }
        }
        Err(why)
    }
}

impl Keys {
    /// Takes in every unlocked secret key of a certificate: expired and revoked ones too, for what was sealed before.
    fn add(&mut self, keyset: KeysetId, secret: &Cert) {
        self.damaged.remove(&keyset);
        let ids = self.keysets.entry(keyset).or_default();
        for key in secret.keys().unencrypted_secret() {
            if let Ok(pair) = key.key().clone().into_keypair() {
                let id = key.key().keyid();
                self.pairs.insert(id.clone(), pair);
                ids.insert(id);
            }
        }
    }
}

impl fmt::Debug for Unlocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unlocked({}, {} keysets)", self.user, self.keys().keysets.len())
    }
}

/// The PKESK packets; anything else there is refused.
fn recipients(packets: &[u8]) -> Result<Vec<PKESK>, OpenError> {
    let damaged = |_| OpenError::Damaged("its session key can't be read");
    let mut found = Vec::new();
    let mut parser = PacketParser::from_bytes(packets).map_err(damaged)?;
    while let PacketParserResult::Some(packet) = parser {
        let (packet, rest) = packet.next().map_err(damaged)?;
        match packet {
            Packet::PKESK(packet) if found.len() < MOST_RECIPIENTS => found.push(packet),
            _ => return Err(OpenError::Damaged("its session key has other packets beside it")),
        }
        parser = rest;
    }
    Ok(found)
}

fn decrypt(packet: &PKESK, pair: &mut KeyPair) -> Result<SessionKey, OpenError> {
    if let Some(algorithm) = variable_time(packet.pk_algo()) {
        return Err(OpenError::VariableTime(algorithm));
    }
    let (cipher, key) = packet
        .decrypt(pair, None)
        .ok_or(OpenError::Damaged("its session key does not open with the key that it names"))?;
    let format = match (packet, cipher) {
        (PKESK::V6(_), _) => Format::V2,
        (_, Some(cipher @ (SymmetricAlgorithm::AES128 | SymmetricAlgorithm::AES192 | SymmetricAlgorithm::AES256))) => {
            Format::V1(cipher)
        }
        _ => return Err(OpenError::Refused("its cipher is not accepted")),
    };
    Ok(SessionKey { format, key })
}

/// The kind of a secret key that this build does not use: RustCrypto's arithmetic for these takes a time that depends on the key.
#[allow(deprecated)]
pub(crate) fn variable_time(algorithm: PublicKeyAlgorithm) -> Option<&'static str> {
    use PublicKeyAlgorithm::{DSA, ElGamalEncrypt, ElGamalEncryptSign, RSAEncrypt, RSAEncryptSign, RSASign};
    if !openpgp::crypto::backend().starts_with("RustCrypto") {
        return None;
    }
    match algorithm {
        RSAEncryptSign | RSAEncrypt | RSASign => Some("RSA"),
        ElGamalEncrypt | ElGamalEncryptSign => Some("ElGamal"),
        DSA => Some("DSA"),
        _ => None,
    }
}
