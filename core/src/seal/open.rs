//! Opening sealed parts with a session key.

use super::body::unframe;
use super::{OpenError, PartContext, PartName, Sealed, SealedSessionKey, SessionKey, packet, summary};
use mesyx_sdk::{Content, Summary};

/// Opens a message's summary. Nothing is looked at before the integrity of the whole part was checked.
///
/// # Errors
/// As [`open_body`].
pub fn open_summary(key: &SessionKey, expect: &PartContext, sealed: &Sealed) -> Result<Summary, OpenError> {
    let payload = unframe(&packet::open(key, sealed)?, PartName::Summary, expect)?;
    summary::decode(payload)
}

/// Opens a message's exact bytes; they share the memory that they were decrypted to.
///
/// # Errors
/// [`OpenError::Damaged`] where integrity fails or the form is wrong, [`OpenError::Refused`] for another protection than
/// sealing uses, [`OpenError::Swapped`] where the part is whole but not the one expected.
pub fn open_body(key: &SessionKey, expect: &PartContext, sealed: &Sealed) -> Result<Content, OpenError> {
    let payload = unframe(&packet::open(key, sealed)?, PartName::Body, expect)?;
    Ok(Content::from(payload))
}

/// A sealed part as one OpenPGP message, which any OpenPGP program with the secret key can decrypt.
#[must_use]
pub fn message(session_key: &SealedSessionKey, part: &Sealed) -> Vec<u8> {
    [&session_key.packets[..], &part.0[..]].concat()
}
