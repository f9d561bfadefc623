//! A store with one user, and messages that are sealed as far as a store can tell.

use super::Open;
use crate::id::{InstanceId, KeysetId, SessionKeyId, SlotId, mailbox_id_for_role};
use crate::operation::UserRecord;
use crate::seal::{Sealed, SealedMessage, SealedSessionKey};
use crate::store::{
    Attest, NewUser, Placing, Store, StoreError, StoredSecretKey, StoredSecrets, StoredSlot, Write, Written,
};
use bytes::Bytes;
use mesyx_sdk::{Appended, Entry, Flag, MailboxId, MailboxName, MessageId, Role, Uid, UserId};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use std::path::PathBuf;
use std::sync::Arc;

/// An instance whose key follows from its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TestInstance(pub u8);

impl TestInstance {
    fn key(self) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[self.0; 32]).expect("a seed of 32 bytes")
    }

    /// Whether the signature is this instance's.
    #[must_use]
    pub fn verifies(self, signed: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.key().public_key().as_ref()).verify(signed, signature).is_ok()
    }
}

impl Attest for TestInstance {
    fn instance(&self) -> InstanceId {
        InstanceId([self.0; 16])
    }

    fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        self.key().sign(bytes).as_ref().to_vec()
    }
}

/// A session key of a user, for a keyset that follows from the user.
#[must_use]
pub fn session_key(user: UserId) -> Arc<SealedSessionKey> {
    let id = SessionKeyId::random();
    Arc::new(SealedSessionKey { id, user, keyset: KeysetId(user.0), packets: Bytes::copy_from_slice(&id.0) })
}

/// A message with this many bytes of body.
#[must_use]
pub fn message(key: &Arc<SealedSessionKey>, body: usize) -> SealedMessage {
    let message = MessageId::random();
    let fill =
        |length: usize, from: u8| -> Bytes { (0..length).map(|at| (at as u8) ^ from ^ message.0[at % 16]).collect() };
    SealedMessage {
        message,
        user: key.user,
        session_key: key.clone(),
        summary: Sealed(fill(100, 1)),
        body: Sealed(fill(body, 2)),
        padded_size: body as u64,
        day: 20_000,
    }
}

/// An open store with a user in it.
#[derive(Clone)]
pub struct Fixture {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The user.
    pub user: UserId,
    /// A session key of the user.
    pub key: Arc<SealedSessionKey>,
    /// Where the store is; stores of other instances go beside it.
    pub place: PathBuf,
    /// How it was opened.
    pub open: Open,
}

impl Fixture {
    /// The instance of the fixture's own store.
    pub const INSTANCE: TestInstance = TestInstance(1);

    /// Opens a store and makes the user.
    pub async fn new(place: PathBuf, open: Open) -> Self {
        let store = open(&place, Self::INSTANCE);
        let user = UserId::random();
        let fixture = Self { store, user, key: session_key(user), place, open };
        fixture.write(Write::AddUser(Box::new(new_user(user, "alice")))).await;
        fixture
    }

    /// A second user in the same store.
    pub async fn second(&self, name: &str) -> Self {
        let user = UserId::random();
        let fixture = Self { user, key: session_key(user), ..self.clone() };
        fixture.write(Write::AddUser(Box::new(new_user(user, name)))).await;
        fixture
    }

    /// Another instance's store, with nobody in it, seen with the same user.
    pub fn elsewhere(&self, instance: u8) -> Self {
        let place = self.place.with_extension(instance.to_string());
        Self { store: (self.open)(&place, TestInstance(instance)), place, ..self.clone() }
    }

    /// Closes and opens again.
    pub async fn restarted(mut self) -> Self {
        self.store.close().await;
        self.store = (self.open)(&self.place, Self::INSTANCE);
        self
    }

    /// A write that must succeed.
    pub async fn write(&self, write: Write) -> Written {
        self.store.write(write).await.expect("the write succeeds")
    }

    /// A write that must be refused.
    pub async fn refused(&self, write: Write) -> StoreError {
        self.store.write(write).await.expect_err("the write is refused")
    }

    /// The user's standard mailbox.
    #[must_use]
    pub fn mailbox(&self, role: Role) -> MailboxId {
        mailbox_id_for_role(self.user, role)
    }

    /// The user's INBOX.
    #[must_use]
    pub fn inbox(&self) -> MailboxId {
        self.mailbox(Role::Inbox)
    }

    /// A new message to the mailbox.
    #[must_use]
    pub fn placing(&self, mailbox: MailboxId, body: usize) -> Placing {
        Placing { message: message(&self.key, body), mailbox, flags: Vec::new() }
    }

    /// Appends so many messages.
    pub async fn append(&self, mailbox: MailboxId, count: usize) -> Appended {
        let messages = (0..count).map(|_| self.placing(mailbox, 50)).collect();
        let Written::Placed(appended) = self.write(Write::Append(messages)).await else { panic!("not placed") };
        appended
    }

    /// Makes a mailbox.
    pub async fn create(&self, at: &str) -> MailboxId {
        let mailbox = MailboxId::random();
        self.write(Write::CreateMailbox { user: self.user, mailbox, name: name(at), role: None }).await;
        mailbox
    }

    /// Sets flags.
    pub async fn add_flags(&self, mailbox: MailboxId, uids: &[Uid], flags: &[Flag]) {
        let change = mesyx_sdk::FlagChange::Add(flags.to_vec());
        let (user, uids) = (self.user, uids.to_vec());
        self.write(Write::Flags { user, mailbox, uids, change, unchanged_since: None }).await;
    }

    /// Expunges messages.
    pub async fn expunge(&self, mailbox: MailboxId, uids: &[Uid]) {
        self.add_flags(mailbox, uids, &[Flag::Deleted]).await;
        let Written::Expunged(gone) =
            self.write(Write::Expunge { user: self.user, mailbox, uids: Some(uids.to_vec()) }).await
        else {
            panic!("not expunged")
        };
        assert_eq!(gone, uids);
    }

    /// A mailbox's entries.
    pub async fn entries(&self, mailbox: MailboxId) -> Vec<Entry> {
        self.store.snapshot(self.user, mailbox).await.expect("a snapshot").entries
    }

    /// A mailbox's UIDs.
    pub async fn uids(&self, mailbox: MailboxId) -> Vec<Uid> {
        self.entries(mailbox).await.iter().map(|entry| entry.uid).collect()
    }

    /// The names of the user's mailboxes.
    pub async fn names(&self) -> Vec<String> {
        let mailboxes = self.store.mailboxes(self.user).await.expect("mailboxes");
        mailboxes.iter().map(|mailbox| mailbox.name.as_str().to_owned()).collect()
    }
}

/// A user's record with a slot and two secret keys.
pub(super) fn new_user(user: UserId, name: &str) -> NewUser {
    let keyset = KeysetId(user.0);
    NewUser {
        user,
        record: UserRecord { name: name.to_owned(), addresses: vec![format!("{name}@example.org")], disabled: false },
        identity: b"identity".to_vec(),
        keysets: vec![(keyset, b"keyset".to_vec())],
        secrets: StoredSecrets {
            slots: vec![StoredSlot { id: SlotId(user.0), record: b"slot".to_vec(), last_used: None }],
            secret_keys: vec![
                StoredSecretKey { keyset: None, wrapped: b"identity key".to_vec(), held: Vec::new() },
                StoredSecretKey { keyset: Some(keyset), wrapped: b"keyset key".to_vec(), held: Vec::new() },
            ],
        },
        rotation: None,
    }
}

pub(super) fn name(name: &str) -> MailboxName {
    MailboxName::new(name).expect("a name")
}
