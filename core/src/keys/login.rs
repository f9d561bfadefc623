//! What a login gives, and repeated logins.

use super::MasterKey;
use super::vault::random;
use crate::id::SlotId;
use mesyx_sdk::{Secret, UserId};
use ring::hmac;
use std::fmt;
use subtle::ConstantTimeEq;

/// A password that was right: which slot it opened, and what was in it.
#[derive(Debug)]
pub struct Opened {
    /// The slot.
    pub slot: SlotId,
    /// The user's master key.
    pub master: MasterKey,
}

/// Makes tags of passwords that were right a moment ago, so that while a user is unlocked the next login with the same password
/// costs a hash. The key is random and lives in this process only.
pub struct LoginTags(hmac::Key);

/// The keyed hash of one user's password. Compared in constant time.
#[derive(Clone)]
pub struct LoginTag([u8; 32]);

impl LoginTags {
    /// With a fresh key.
    #[must_use]
    pub fn new() -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, &*zeroize::Zeroizing::new(random::<32>())))
    }

    /// The tag of a password, exactly as it was given.
    #[must_use]
    pub fn tag(&self, user: UserId, password: &Secret) -> LoginTag {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(user.as_bytes());
        context.update(password.expose());
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        LoginTag(tag)
    }
}

impl Default for LoginTags {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for LoginTags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LoginTags(…)")
    }
}

impl PartialEq for LoginTag {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for LoginTag {}

impl fmt::Debug for LoginTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LoginTag(…)")
    }
}
