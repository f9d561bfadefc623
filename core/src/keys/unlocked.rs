//! A user's opened secret keys.

use super::{KeyError, Keyring, MasterKey};
use crate::id::KeysetId;
use crate::seal::{Format, OpenError, SealedSessionKey, SessionKey};
use crate::store::StoredSecrets;
use mesyx_sdk::UserId;
use openpgp::crypto::KeyPair;
use openpgp::packet::PKESK;
use openpgp::parse::{PacketParser, PacketParserResult, Parse};
use openpgp::types::{PublicKeyAlgorithm, SymmetricAlgorithm};
use openpgp::{Cert, KeyID, Packet};
use sequoia_openpgp as openpgp;
use std::collections::HashMap;
use std::collections::HashSet;
use std::fmt;

/// A user's secret keys in memory, ready to open session keys; erased when dropped. Sequoia keeps each encrypted in
/// memory but for the moment of its use.
///
/// One for each unlocked user, shared by the user's sessions behind an `Arc`.
pub struct Unlocked {
    user: UserId,
    identity: Option<Cert>,
    /// Decryption keys by key id, which is all that a version 3 PKESK names; a fingerprint gives it too.
    keys: HashMap<KeyID, KeyPair>,
    keysets: HashSet<KeysetId>,
}

/// Most recipients of one session key that are looked at: more than a keyset has certificates.
const MOST_RECIPIENTS: usize = 64;

impl Unlocked {
    /// Opens all of a user's secret keys. A keyset without one is offline.
    ///
    /// # Errors
    /// [`KeyError::Damaged`] where a stored key does not open under this master key, for this user and its place, or is not the
    /// secret part of one of its keyset's certificates.
    pub fn open(
        user: UserId,
        master: &MasterKey,
        secrets: &StoredSecrets,
        keyring: &Keyring,
    ) -> Result<Self, KeyError> {
        let mut unlocked = Self { user, identity: None, keys: HashMap::new(), keysets: HashSet::new() };
        for stored in &secrets.secret_keys {
            let secret = master.unwrap(user, stored)?;
            match stored.keyset {
                None if secret.fingerprint() == keyring.identity().fingerprint() => unlocked.identity = Some(secret),
                None => return Err(KeyError::Damaged),
                Some(id) => {
                    // The key of a keyset that was removed still opens what is sealed to it.
                    if let Some(keyset) = keyring.get(id)
                        && !keyset.certificates().iter().any(|cert| cert.fingerprint() == secret.fingerprint())
                    {
                        return Err(KeyError::Damaged);
                    }
                    unlocked.add(&secret);
                    unlocked.keysets.insert(id);
                }
            }
        }
        Ok(unlocked)
    }

    /// Takes in every unlocked secret key of a certificate: expired and revoked ones too, for what was sealed before.
    fn add(&mut self, secret: &Cert) {
        for key in secret.keys().unencrypted_secret() {
            if let Ok(pair) = key.key().clone().into_keypair() {
                self.keys.insert(key.key().keyid(), pair);
            }
        }
    }

    /// Whose keys these are.
    #[must_use]
    pub const fn user(&self) -> UserId {
        self.user
    }

    /// The identity with its secret part, where this instance has it.
    #[must_use]
    pub const fn identity(&self) -> Option<&Cert> {
        self.identity.as_ref()
    }

    /// Opens a session key that is sealed to the identity.
    ///
    /// # Errors
    /// [`OpenError::NoKey`] where it is sealed to another key, [`OpenError::VariableTime`] where the identity's is of a kind that this
    /// build does not use.
    pub(crate) fn identity_session_key(&self, packets: &[u8]) -> Result<SessionKey, OpenError> {
        let identity = self.identity.as_ref().ok_or(OpenError::NoKey)?;
        let mut why = OpenError::NoKey;
        for packet in recipients(packets)? {
            let Some(recipient) = packet.recipient().map(KeyID::from) else { continue };
            let mut keys = identity.keys().unencrypted_secret().filter(|key| key.key().keyid() == recipient);
            let Some(pair) = keys.next().and_then(|key| key.key().clone().into_keypair().ok()) else { continue };
            match decrypt(&packet, &pair) {
                Ok(key) => return Ok(key),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    /// Whether the secret key of a keyset is here.
    #[must_use]
    pub fn has(&self, keyset: KeysetId) -> bool {
        self.keysets.contains(&keyset)
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
        let mut why = if self.has(sealed.keyset) { OpenError::NoKey } else { OpenError::Offline(sealed.keyset) };
        for packet in recipients(&sealed.packets)? {
            let Some(pair) = packet.recipient().and_then(|recipient| self.keys.get(&KeyID::from(recipient))) else {
                continue;
            };
            match decrypt(&packet, pair) {
                Ok(key) => return Ok(key),
                Err(error) => why = error,
            }
        }
        Err(why)
    }
}

impl fmt::Debug for Unlocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unlocked({}, {} keysets)", self.user, self.keysets.len())
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

fn decrypt(packet: &PKESK, pair: &KeyPair) -> Result<SessionKey, OpenError> {
    if let Some(algorithm) = variable_time(packet.pk_algo()) {
        return Err(OpenError::VariableTime(algorithm));
    }
    let (cipher, key) = packet
        .decrypt(&mut pair.clone(), None)
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
pub(super) fn variable_time(algorithm: PublicKeyAlgorithm) -> Option<&'static str> {
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
