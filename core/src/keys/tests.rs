//! The whole of keys and sealing, as the rest of the core uses it.

use super::*;
use crate::seal::{OpenError, PartContext, SealFor, Sealer, open_body, open_summary};
use crate::store::StoredSecrets;
use mesyx_sdk::{Content, Importance, MessageId, Secret, Timestamp, UserId};
use std::time::{Duration, Instant};

pub(crate) const CHEAP: Argon2Params = Argon2Params { memory_kib: 64, passes: 1, lanes: 1 };

/// A user with keys, unlocked.
pub(crate) struct Fixture {
    pub(crate) user: UserId,
    pub(crate) new: NewKeys,
    pub(crate) keyring: Keyring,
    pub(crate) master: MasterKey,
    pub(crate) secrets: StoredSecrets,
    pub(crate) unlocked: Unlocked,
}

pub(crate) fn fixture() -> Fixture {
    fixture_of(Profile::V4)
}

pub(crate) fn fixture_of(profile: Profile) -> Fixture {
    let user = UserId::random();
    let new = NewKeys::generate("Alice", "alice@example.org", profile).unwrap();
    let keyset = &new.default_keyset.0;
    let records = [(keyset.id, keyset.encode().unwrap())];
    let keyring = Keyring::decode(&new.identity_record().unwrap(), &records).unwrap();
    let master = MasterKey::random();
    let secrets = StoredSecrets { slots: vec![], secret_keys: new.wrap(user, &master).unwrap() };
    let unlocked = Unlocked::open(user, &master, &secrets, &keyring).unwrap();
    Fixture { user, new, keyring, master, secrets, unlocked }
}

#[test]
fn what_is_sealed_opens_with_the_users_keys() {
    let all = fixture();
    let sealer = Sealer::default();
    let message = MessageId::random();
    let content = Content::from(b"Subject: hello\r\n\r\nHello.\r\n".to_vec());
    let summary = crate::seal::tests::summary(&content);
    let target = SealFor { user: all.user, message, importance: Importance::Normal };
    let sealed = sealer.seal_chosen(&all.keyring, target, &summary, &content, Instant::now()).unwrap();
    assert!(sealed.padded_size >= content.len() as u64);
    let key = all.unlocked.session_key(&sealed.session_key).unwrap();
    let expect = PartContext { user: all.user, message, keyset: sealed.session_key.keyset };
    assert_eq!(open_body(&key, &expect, &sealed.body).unwrap(), content);
    assert_eq!(open_summary(&key, &expect, &sealed.summary).unwrap(), summary);
}
