//! Unlocks the secret keys of a certificate, at a cost that is known before.

use super::{ImportError, ImportLimits};
use crate::keys::unlocked::variable_time;
use mesyx_sdk::Secret;
use openpgp::crypto::{Password, S2K, SessionKey};
use openpgp::packet::Key;
use openpgp::packet::key::{PublicParts, SecretKeyMaterial, SecretParts, UnspecifiedRole};
use openpgp::{Cert, Packet};
use sequoia_openpgp as openpgp;

type SecretKey = Key<SecretParts, UnspecifiedRole>;

/// The tag of S2K that GnuPG marks stubs with (GnuPG's doc/DETAILS): no secret, or one on a card.
const GNU: u8 = 101;

/// A certificate with all of its secret keys unlocked; one that opens messages is among them and fits.
pub(super) fn unlock(
    limits: &ImportLimits,
    certificate: Cert,
    passphrase: Option<&Secret>,
) -> Result<Cert, ImportError> {
    let fingerprint = certificate.fingerprint().to_hex();
    if !certificate.is_tsk() {
        return Err(ImportError::PublicOnly(fingerprint));
    }
    affordable(limits, &certificate)?;
    let passphrase = passphrase.map(|passphrase| Password::from(passphrase.expose()));
    let primary = certificate.primary_key().key().fingerprint();
    let mut packets = Vec::new();
    let (mut opens, mut refused) = (false, None);
    for bound in certificate.keys().secret() {
        let key: SecretKey = bound.key().clone();
        // Where the file was cut between two packets, this is what is missing.
        if key.fingerprint() != primary && bound.self_signatures().next().is_none() {
            return Err(ImportError::Damaged("the signature that binds a subkey is missing or wrong".into()));
        }
        if is_stub(&key) {
            continue;
        }
        let key = open(key, passphrase.as_ref())?;
        if key.pk_algo().for_encryption() {
            match variable_time(key.pk_algo()) {
                Some(algorithm) => refused = Some(ImportError::VariableTime(algorithm)),
                None if !key.pk_algo().is_supported() => {
                    refused = Some(ImportError::Damaged(format!("{} is not known here", key.pk_algo())));
                }
                None => {
                    check(&key)?;
                    opens = true;
                }
            }
        }
        packets.push(if key.fingerprint() == primary {
            Packet::from(key.role_into_primary())
        } else {
            Packet::from(key.role_into_subordinate())
        });
    }
    match refused {
        _ if opens => {}
        Some(why) => return Err(why),
        None => return Err(ImportError::Stub(fingerprint)),
    }
    let public = certificate.strip_secret_key_material();
    let (unlocked, _) =
        public.insert_packets(packets).map_err(|error| ImportError::Damaged(super::one_line(&error)))?;
    Ok(unlocked)
}

fn is_stub(key: &SecretKey) -> bool {
    matches!(key.secret(), SecretKeyMaterial::Encrypted(locked) if matches!(locked.s2k(), S2K::Private { tag: GNU, .. }))
}

/// Adds up what unlocking all keys asks for, before any of it is done.
fn affordable(limits: &ImportLimits, certificate: &Cert) -> Result<(), ImportError> {
    let (mut hashed, mut argon2) = (0_u64, 0_u64);
    for key in certificate.keys().secret() {
        let key = key.key();
        let SecretKeyMaterial::Encrypted(locked) = key.secret() else { continue };
        match locked.s2k() {
            S2K::Iterated { hash, hash_bytes, .. } => {
                // A key longer than the digest takes one more run for each digest (RFC 9580, section 3.7.1.1).
                let digest = hash.digest_size().map_err(|_| ImportError::UnknownLock(hash.to_string()))?;
                let wanted =
                    locked.algo().key_size().map_err(|_| ImportError::UnknownLock(locked.algo().to_string()))?;
                hashed = hashed.saturating_add(u64::from(*hash_bytes).saturating_mul(wanted.div_ceil(digest) as u64));
            }
            S2K::Argon2 { t, m, .. } => {
                let memory = 1_u64.checked_shl(u32::from(*m)).unwrap_or(u64::MAX);
                if memory > limits.argon2_memory_kib {
                    return Err(ImportError::Costly(format!("Argon2 with 2^{m} KiB of memory")));
                }
                argon2 = argon2.saturating_add(memory.saturating_mul(u64::from(*t)));
            }
            S2K::Private { tag: GNU, .. } => {}
            #[allow(deprecated)]
            S2K::Simple { .. } | S2K::Salted { .. } | S2K::Implicit => {}
            other => return Err(ImportError::UnknownLock(other.to_string())),
        }
    }
    if hashed > limits.hashed_bytes {
        return Err(ImportError::Costly(format!("{} MB of hashing", hashed / 1_000_000)));
    }
    if argon2 > limits.argon2_work_kib {
        return Err(ImportError::Costly(format!("{} MiB of Argon2, passes times memory", argon2 >> 10)));
    }
    Ok(())
}

fn open(key: SecretKey, passphrase: Option<&Password>) -> Result<SecretKey, ImportError> {
    if !key.secret().is_encrypted() {
        return Ok(key);
    }
    let passphrase = passphrase.ok_or(ImportError::PassphraseNeeded)?;
    key.decrypt_secret(passphrase).map_err(|_| ImportError::WrongPassphrase)
}

/// Whether what is encrypted to the public part opens with the secret one.
fn check(key: &SecretKey) -> Result<(), ImportError> {
    let mismatch = || ImportError::Mismatch(key.fingerprint().to_hex());
    let probe = SessionKey::from(vec![0x5a; 32]);
    let public: &Key<PublicParts, UnspecifiedRole> = key.parts_as_public();
    let sealed = public.encrypt(&probe).map_err(|error| ImportError::Damaged(super::one_line(&error)))?;
    let mut pair = key.clone().into_keypair().map_err(|_| mismatch())?;
    let opened = openpgp::crypto::Decryptor::decrypt(&mut pair, &sealed, Some(probe.len())).map_err(|_| mismatch())?;
    if opened == probe { Ok(()) } else { Err(mismatch()) }
}
