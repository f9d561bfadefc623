//! Identifiers that only the core knows.

use mesyx_sdk::{MailboxId, Role, UserId};
use minicbor::{Decode, Encode};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        #[cbor(transparent)]
        pub struct $name(#[cbor(with = "minicbor::bytes")] pub [u8; 16]);

        impl $name {
            /// A fresh random id.
            #[must_use]
            pub fn random() -> Self {
                Self(mesyx_sdk::MessageId::random().0)
            }
        }

        impl fmt::Display for $name {
            /// 32 lower-case hexadecimal digits.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

id! {
    /// One instance of Mesyx.
    InstanceId
}
id! {
    /// One keyset of one user.
    KeysetId
}
id! {
    /// One session key, sealed to a keyset and shared by the messages of a short while.
    SessionKeyId
}
id! {
    /// One sealed record of one user. Random, or derived with a key, so that it tells nothing about what is in the record.
    RecordId
}
id! {
    /// One recipient of a message that waits in the outgoing queue.
    JobId
}
id! {
    /// One slot of a user's master key: one password.
    SlotId
}

/// The id of a user's standard mailbox: the first 16 bytes of SHA-256 over `mesyx mailbox id 1\0`, the user's id and the
/// role's name in lower case. So every instance knows INBOX without asking, and two instances never make two of them.
///
/// A standard mailbox that was deleted and is made anew needs a random id: a removal is for good.
#[must_use]
pub fn mailbox_id_for_role(user: UserId, role: Role) -> MailboxId {
    MailboxId(digest16(&[b"mesyx mailbox id 1\0", user.as_bytes(), role_name(role).as_bytes()]))
}

/// The id of a user's identity: the first 16 bytes of SHA-256 over `mesyx identity id 1\0`, the user's id and the certificate's
/// fingerprint. The secret key of an identity that is not current any more stands under it among the keysets'.
#[must_use]
pub fn identity_id(user: UserId, fingerprint: &[u8]) -> KeysetId {
    KeysetId(digest16(&[b"mesyx identity id 1\0", user.as_bytes(), fingerprint]))
}

/// The id of the keyset that a rotation makes for a span and levels of importance: the first 16 bytes of SHA-256 over
/// `mesyx rotated keyset id 1\0`, the user's id, a byte with a bit for each level, and the span as text. However many sessions make
/// one, it is one keyset.
#[must_use]
pub fn rotated_keyset_id(user: UserId, levels: u8, span: &str) -> KeysetId {
    KeysetId(digest16(&[b"mesyx rotated keyset id 1\0", user.as_bytes(), &[levels], span.as_bytes()]))
}

fn digest16(pieces: &[&[u8]]) -> [u8; 16] {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    pieces.iter().for_each(|piece| context.update(piece));
    let mut id = [0; 16];
    id.copy_from_slice(&context.finish().as_ref()[..16]);
    id
}

/// A role as operations write it: the SDK's own spelling (`inbox`, `sent`, …).
#[must_use]
pub fn role_name(role: Role) -> String {
    match serde_json::to_value(role) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}

/// The role of that name; `None` for one that this program does not know.
#[must_use]
pub fn role_of_name(name: &str) -> Option<Role> {
    serde_json::from_value(serde_json::Value::String(name.to_owned())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mailbox_ids_of_roles_are_fixed_for_ever() {
        let user = UserId([7; 16]);
        assert_eq!(mailbox_id_for_role(user, Role::Inbox).to_string(), "83037e1a613bfc5ddf051760fd5ae545");
        let ids: std::collections::HashSet<_> =
            Role::STANDARD.into_iter().map(|(role, _)| mailbox_id_for_role(user, role)).collect();
        assert_eq!(ids.len(), Role::STANDARD.len());
        assert_ne!(mailbox_id_for_role(UserId([8; 16]), Role::Inbox), mailbox_id_for_role(user, Role::Inbox));
    }

    #[test]
    fn role_names_are_read_back() {
        for (role, _) in Role::STANDARD {
            assert_eq!(role_of_name(&role_name(role)), Some(role));
        }
        assert_eq!(role_of_name("no-such-role"), None);
    }
}
