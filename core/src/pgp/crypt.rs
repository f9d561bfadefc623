//! Signing and encrypting, by the OpenPGP library.

use super::certificate::Usable;
use openpgp::Cert;
use openpgp::armor::Kind;
use openpgp::crypto::KeyPair;
use openpgp::policy::StandardPolicy;
use openpgp::serialize::stream::{Armorer, Encryptor, LiteralWriter, Message, Recipient, Signer};
use openpgp::types::{DataFormat, PublicKeyAlgorithm};
use sequoia_openpgp as openpgp;
use std::io::Write;

/// The key that an identity signs with now.
///
/// # Errors
/// Why there is none, as its owner is told.
pub(crate) fn signing_key(identity: Option<&Cert>) -> Result<KeyPair, String> {
    let identity = identity.ok_or("the secret part of your identity is not on this server")?;
    let policy = StandardPolicy::new();
    let valid =
        identity.with_policy(&policy, None).map_err(|_| "your identity certificate is not valid now".to_owned())?;
    if let openpgp::types::RevocationStatus::Revoked(_) = valid.revocation_status() {
        return Err("your identity certificate is revoked".to_owned());
    }
    valid.alive().map_err(|_| "your identity certificate is expired".to_owned())?;
    let keys = valid.keys().supported().alive().revoked(false).for_signing();
    let mut why = "your identity certificate has no signing key that is valid now".to_owned();
    for key in keys {
        let Ok(secret) = key.key().clone().parts_into_secret() else { continue };
        if variable_time(secret.pk_algo()) {
            why = format!(
                "signing with {} keys is refused in this build, whose arithmetic for them takes a time that depends on the key",
                secret.pk_algo()
            );
            continue;
        }
        match secret.into_keypair() {
            Ok(pair) => return Ok(pair),
            Err(_) => why = "your signing key is locked".to_owned(),
        }
    }
    Err(why)
}

/// RustCrypto's arithmetic for these takes a time that depends on the secret key.
#[allow(deprecated)]
fn variable_time(algorithm: PublicKeyAlgorithm) -> bool {
    use PublicKeyAlgorithm::{DSA, RSAEncryptSign, RSASign};
    openpgp::crypto::backend().starts_with("RustCrypto") && matches!(algorithm, RSAEncryptSign | RSASign | DSA)
}

/// A payload as OpenPGP packets that are ready to be encrypted: signed where there is a key, a plain literal packet otherwise.
///
/// # Errors
/// What the library said.
pub(crate) fn packets(payload: &[u8], key: Option<KeyPair>) -> Result<Vec<u8>, String> {
    let failed = |error: openpgp::anyhow::Error| format!("the message can't be signed: {error}");
    let mut out = Vec::with_capacity(payload.len() + 1024);
    let mut message = Message::new(&mut out);
    if let Some(key) = key {
        message = Signer::new(message, key).and_then(Signer::build).map_err(failed)?;
    }
    let mut message = LiteralWriter::new(message).format(DataFormat::Binary).build().map_err(failed)?;
    message.write_all(payload).map_err(|error| failed(error.into()))?;
    message.finalize().map_err(failed)?;
    Ok(out)
}

/// Encrypts packets to recipients, in ASCII armor. SEIPD version 2 where all of them read it, version 1 otherwise.
///
/// # Errors
/// What the library said.
pub(crate) fn encrypt(packets: &[u8], recipients: &[Usable]) -> Result<Vec<u8>, String> {
    let failed = |error: openpgp::anyhow::Error| format!("the message can't be encrypted: {error}");
    let keys = recipients
        .iter()
        .flat_map(|usable| usable.handles().map(|(handle, key)| Recipient::new(usable.features.clone(), handle, key)));
    // Base64 with line ends.
    let mut out = Vec::with_capacity(packets.len() * 4 / 3 + packets.len() / 24 + 2048);
    let message = Armorer::new(Message::new(&mut out)).kind(Kind::Message).build().map_err(failed)?;
    let mut message = Encryptor::for_recipients(message, keys).build().map_err(failed)?;
    message.write_all(packets).map_err(|error| failed(error.into()))?;
    message.finalize().map_err(failed)?;
    Ok(out)
}
