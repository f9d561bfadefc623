//! Certificates of correspondents: bounded reading, and what of one is used.

use crate::keys::import::read_certificates;
use mesyx_sdk::MailAddress;
use openpgp::cert::Preferences;
use openpgp::packet::{Key, key};
use openpgp::parse::Parse;
use openpgp::policy::StandardPolicy;
use openpgp::serialize::MarshalInto;
use openpgp::types::{Features, RevocationStatus};
use openpgp::{Cert, KeyHandle};
use sequoia_openpgp as openpgp;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use unicode_normalization::UnicodeNormalization;

/// Longest certificate that is kept of a correspondent, in bytes: a post-quantum one with a few keys has some 20 KiB.
pub(crate) const LONGEST: usize = 48 << 10;
/// Longest text that certificates are read from.
pub(crate) const LONGEST_INPUT: usize = 256 << 10;
/// Most certificates in it.
const MOST: usize = 8;
/// Most keys of one certificate that a message is encrypted to.
const MOST_KEYS: usize = 4;

/// An address as contacts and directories know it: local part in lower case and NFC, domain in A-labels. Providers that tell case apart
/// in local parts are not known; correspondents who write their address now so and now so are.
pub(crate) fn canonical(address: &MailAddress) -> String {
    let local = address.local();
    let local = if local.is_ascii() {
        local.to_ascii_lowercase()
    } else {
        local.nfc().collect::<String>().to_lowercase().nfc().collect()
    };
    format!("{local}@{}", address.domain())
}

/// The keys of a certificate that a message is encrypted to now.
#[derive(Debug)]
pub(crate) struct Usable {
    #[cfg(test)]
    pub(crate) fingerprint: String,
    pub(crate) keys: Vec<Key<key::PublicParts, key::UnspecifiedRole>>,
    pub(crate) features: Features,
}

impl Usable {
    /// What names the keys in the message.
    pub(crate) fn handles(&self) -> impl Iterator<Item = (KeyHandle, &Key<key::PublicParts, key::UnspecifiedRole>)> {
        self.keys.iter().map(|key| (KeyHandle::from(key.fingerprint()), key))
    }
}

/// The keys to encrypt to at a time.
///
/// # Errors
/// Why there are none, as it is told to the sender.
pub(crate) fn usable(certificate: &Cert, now: i64) -> Result<Usable, String> {
    let policy = StandardPolicy::new();
    let at = UNIX_EPOCH + Duration::from_secs(u64::try_from(now).unwrap_or(0));
    let valid = certificate
        .with_policy(&policy, at)
        .map_err(|_| "it has no signature of its own that is valid now and uses accepted algorithms".to_owned())?;
    if let RevocationStatus::Revoked(_) = valid.revocation_status() {
        return Err("its owner revoked it".to_owned());
    }
    if valid.alive().is_err() {
        return Err(match valid.primary_key().key_expiration_time() {
            Some(end) if end <= at => format!("it expired on {}", date(end)),
            _ => "it is not valid yet".to_owned(),
        });
    }
    let keys: Vec<_> = valid
        .keys()
        .supported()
        .alive()
        .revoked(false)
        .for_transport_encryption()
        .take(MOST_KEYS)
        .map(|key| key.key().clone())
        .collect();
    if keys.is_empty() {
        let ended = valid.keys().for_transport_encryption().filter_map(|key| key.key_expiration_time()).max();
        return Err(match ended {
            Some(end) if end <= at => format!("its encryption key expired on {}", date(end)),
            _ => "it has no encryption key that is valid now and that this program can use".to_owned(),
        });
    }
    let features = valid.features().unwrap_or_else(Features::empty);
    Ok(Usable {
        #[cfg(test)]
        fingerprint: certificate.fingerprint().to_hex(),
        keys,
        features,
    })
}

fn date(at: SystemTime) -> String {
    time::OffsetDateTime::from(at).date().to_string()
}

/// Reads certificates of others from binary packets or ASCII armor, public parts only, at most [`MOST`] of them.
///
/// # Errors
/// Where there is none, or too much.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<Cert>, String> {
    if bytes.len() > LONGEST_INPUT {
        return Err(format!("more than {LONGEST_INPUT} bytes of certificates"));
    }
    let mut found = read_certificates(bytes).map_err(|error| error.to_string())?;
    found.truncate(MOST);
    Ok(found)
}

/// Whether one of the certificate's own user ids names the address.
pub(crate) fn names(certificate: &Cert, address: &str) -> bool {
    let policy = StandardPolicy::new();
    let Ok(valid) = certificate.with_policy(&policy, None) else {
        // An expired one is worth to be known too: it says why a message is held.
        return certificate.userids().any(|user_id| is_of(user_id.userid(), address));
    };
    valid.userids().revoked(false).any(|user_id| is_of(user_id.userid(), address))
}

fn is_of(user_id: &openpgp::packet::UserID, address: &str) -> bool {
    let email = user_id.email().ok().flatten();
    email.and_then(|email| email.parse::<MailAddress>().ok()).is_some_and(|email| canonical(&email) == address)
}

/// A certificate as it is kept: without what others signed on it, images, and user ids of other addresses.
pub(crate) fn cut(certificate: Cert, address: &str) -> Cert {
    let certificate = certificate.retain_user_attributes(|_| false);
    if names(&certificate, address) {
        return certificate.retain_userids(|user_id| is_of(user_id.userid(), address));
    }
    certificate
}

/// The packets to keep: keys with their owner's signatures, nothing of others.
///
/// # Errors
/// Where that is longer than [`LONGEST`].
pub(crate) fn encode(certificate: &Cert) -> Result<Vec<u8>, String> {
    let bytes = own(certificate)?;
    if bytes.len() > LONGEST {
        return Err(format!("the certificate {} has more than {LONGEST} bytes", certificate.fingerprint()));
    }
    Ok(bytes)
}

fn own(certificate: &Cert) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut push = |packet: openpgp::Packet| -> Result<(), String> {
        out.extend(packet.to_vec().map_err(|error| error.to_string())?);
        Ok(())
    };
    let primary = certificate.primary_key();
    push(primary.key().clone().into())?;
    for signature in primary.self_signatures().chain(primary.self_revocations()) {
        push(signature.clone().into())?;
    }
    for user_id in certificate.userids() {
        push(user_id.userid().clone().into())?;
        for signature in user_id.self_signatures().chain(user_id.self_revocations()) {
            push(signature.clone().into())?;
        }
    }
    for subkey in certificate.keys().subkeys() {
        push(subkey.key().clone().into())?;
        for signature in subkey.self_signatures().chain(subkey.self_revocations()) {
            push(signature.clone().into())?;
        }
    }
    Ok(out)
}

/// Two versions of one certificate in one; `None` where they are not of one, or that would be too long.
pub(crate) fn merge(known: &[u8], found: &[u8]) -> Option<Vec<u8>> {
    let known = Cert::from_bytes(known).ok()?;
    let found = Cert::from_bytes(found).ok()?;
    encode(&known.merge_public(found).ok()?).ok()
}
