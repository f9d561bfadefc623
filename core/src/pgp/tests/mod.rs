//! A core with a user who is logged in, and correspondents.

mod decisions;
mod gnupg;
mod messages;
mod reading;
mod whole;

use super::*;
pub(super) use crate::testing::proof;

use crate::admin::Proof;
use crate::keys::{NewKeys, Profile};
use crate::testing;
use async_trait::async_trait;
use mesyx_sdk::{Recipient, Role, Secret, Session};
use openpgp::Cert;
use openpgp::serialize::MarshalInto;
use sequoia_openpgp as openpgp;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use tempfile::TempDir;

pub(super) const NOW: i64 = 1_800_000_000;

/// A core, alice logged in, and a directory of keys that counts who asks.
pub(super) struct Home {
    #[allow(dead_code)]
    directory: TempDir,
    pub(super) core: Arc<Core>,
    pub(super) session: Arc<dyn Session>,
    pub(super) source: Arc<Directory>,
}

/// What a directory answers.
pub(super) type Published = Result<Option<Vec<u8>>, LookupError>;

/// What the web key directories of the world hold.
#[derive(Default)]
pub(super) struct Directory {
    pub(super) keys: Mutex<HashMap<String, Published>>,
    pub(super) asked: AtomicUsize,
}

#[async_trait]
impl KeySource for Directory {
    async fn find(&self, address: &MailAddress) -> Result<Option<Vec<u8>>, LookupError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let keys = self.keys.lock().expect("the keys");
        keys.get(&address.to_string()).cloned().unwrap_or(Ok(None))
    }
}

impl Directory {
    pub(super) fn put(&self, address: &str, key: Published) {
        self.keys.lock().expect("the keys").insert(address.to_owned(), key);
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Home {
    pub(super) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut PgpSettings)) -> Self {
        let directory = TempDir::new().expect("a directory");
        let mut settings = testing::settings(directory.path());
        change(&mut settings.pgp);
        let core = testing::core(&settings, &["alice"]).await;
        let source = Arc::new(Directory::default());
        core.set_key_source(Some(source.clone()));
        let session = testing::login(&core, "alice").await;
        Self { directory, core, session, source }
    }

    pub(super) fn user(&self) -> UserId {
        self.session.user().id
    }

    pub(super) fn identity(&self) -> Cert {
        self.core.shared.directory().keyrings[&self.user()].identity().as_ref().clone()
    }

    pub(super) async fn prepare(&self, to: &[&str], message: &str) -> Result<Outgoing, Error> {
        let open = self.core.shared.access.open_user(self.user()).expect("alice is logged in");
        self.core.shared.prepare(&open, &envelope("alice@example.org", to, message)).await
    }

    pub(super) async fn wrap(&self, outgoing: &Outgoing, to: &str) -> Wrapped {
        // As it comes out of the queue.
        let stored = Content::from(outgoing.encode().expect("encoded"));
        let outgoing = Outgoing::decode(&stored).expect("decoded");
        self.core.shared.wrap(self.user(), &outgoing, &to.parse().expect("an address")).await
    }

    pub(super) async fn send(&self, to: &str, message: &str) -> Wrapped {
        let outgoing = self.prepare(&[to], message).await.expect("prepared");
        self.wrap(&outgoing, to).await
    }

    /// A message comes in from a stranger.
    pub(super) async fn receive(&self, message: &str, checks: &[&str]) {
        let mut envelope = envelope("bob@example.net", &["alice@example.org"], message);
        envelope.origin.checks = checks.iter().map(|check| (*check).to_owned()).collect();
        let taken = self.core.accept("smtp", vec![envelope]).await.remove(0);
        taken.expect("taken");
        // What is noted is noted beside: wait until nothing more comes.
        let mut before = usize::MAX;
        for _ in 0..100 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            let now =
                self.core.shared.store.records(self.user(), crate::store::RecordKind::SEEN).await.expect("read").len();
            if now == before && now > 0 {
                return;
            }
            before = now;
            if now == 0 && !message.contains("Autocrypt:") {
                return;
            }
        }
    }

    /// The subjects in alice's INBOX.
    pub(super) async fn subjects(&self) -> Vec<String> {
        let inbox = self.session.mailboxes().await.expect("mailboxes");
        let inbox = inbox.into_iter().find(|mailbox| mailbox.role == Some(Role::Inbox)).expect("INBOX").id;
        let entries = self.session.snapshot(inbox, false).await.expect("a snapshot").entries;
        let uids: Vec<_> = entries.iter().map(|entry| entry.uid).collect();
        let summaries = self.session.summaries(inbox, &uids).await.expect("summaries");
        let subject =
            |subject: &Option<Vec<u8>>| String::from_utf8_lossy(subject.as_deref().unwrap_or_default()).into_owned();
        summaries.iter().map(|(_, summary)| subject(&summary.fields.subject)).collect()
    }
}

pub(super) fn envelope(from: &str, to: &[&str], message: &str) -> Envelope {
    let to = to.iter().map(|to| Recipient::new(to.parse().expect("an address"))).collect();
    testing::envelope(Some(from), to, message.as_bytes())
}

/// A correspondent's certificate, with its secret part.
pub(super) fn correspondent(address: &str) -> Cert {
    NewKeys::generate("Bob", address, Profile::V4).expect("keys").identity
}

pub(super) fn public(certificate: &Cert) -> Vec<u8> {
    certificate.clone().strip_secret_key_material().to_vec().expect("bytes")
}

/// A certificate that expired long ago.
pub(super) fn expired(address: &str) -> Cert {
    let then = std::time::SystemTime::now() - std::time::Duration::from_secs(100 * 86_400);
    let (certificate, _) = openpgp::cert::CertBuilder::new()
        .set_creation_time(then)
        .set_validity_period(std::time::Duration::from_secs(50 * 86_400))
        .add_userid(format!("<{address}>"))
        .add_signing_subkey()
        .add_transport_encryption_subkey()
        .generate()
        .expect("a certificate");
    certificate
}

/// The certificate with its owner's revocation.
pub(super) fn revoked(certificate: &Cert) -> Cert {
    let key = certificate.primary_key().key().clone().parts_into_secret().expect("a secret key");
    let mut pair = key.into_keypair().expect("a pair");
    let revocation = certificate
        .revoke(&mut pair, openpgp::types::ReasonForRevocation::KeyCompromised, b"lost")
        .expect("a revocation");
    certificate.clone().insert_packets(revocation).expect("inserted").0
}

pub(super) const MESSAGE: &str = "Received: from client by mail.example.org\r\n\
    From: Alice <alice@example.org>\r\nTo: bob@example.net\r\nBcc: eve@example.com\r\nSubject: the secret plan\r\n\
    Date: Mon, 23 Nov 2026 01:00:00 +0000\r\nMessage-ID: <1@example.org>\r\nX-Note: between us\r\nReferences: <0@example.net>\r\n\
    MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nmeet at nine \u{e9}\r\n";

pub(super) fn encrypted(wrapped: Wrapped) -> Vec<u8> {
    match wrapped {
        Wrapped::Encrypted(content) => content.to_vec(),
        other => panic!("not encrypted: {other:?}"),
    }
}

pub(super) fn held(wrapped: Wrapped) -> String {
    match wrapped {
        Wrapped::Hold(why) => why,
        other => panic!("not held: {other:?}"),
    }
}

pub(super) fn is_plain(wrapped: &Wrapped) -> bool {
    matches!(wrapped, Wrapped::Plain(_))
}

/// Opens a wrapped message with a secret key: the payload, and whether `signer` signed it.
pub(super) fn open(message: &[u8], key: &Cert, signer: Option<&Cert>) -> Vec<u8> {
    use openpgp::crypto::SessionKey;
    use openpgp::packet::{PKESK, SKESK};
    use openpgp::parse::Parse;
    use openpgp::parse::stream::{
        DecryptionHelper, DecryptorBuilder, MessageLayer, MessageStructure, VerificationHelper,
    };
    use openpgp::policy::StandardPolicy;
    use openpgp::types::SymmetricAlgorithm;
    use std::io::Read;

    struct Helper<'a>(&'a Cert, Option<&'a Cert>);
    impl VerificationHelper for Helper<'_> {
        fn get_certs(&mut self, _: &[openpgp::KeyHandle]) -> openpgp::Result<Vec<Cert>> {
            Ok(self.1.into_iter().cloned().collect())
        }
        fn check(&mut self, structure: MessageStructure<'_>) -> openpgp::Result<()> {
            let good = structure.into_iter().any(|layer| match layer {
                MessageLayer::SignatureGroup { results } => results.iter().any(Result::is_ok),
                _ => false,
            });
            assert_eq!(good, self.1.is_some(), "signed as it should be");
            Ok(())
        }
    }
    impl DecryptionHelper for Helper<'_> {
        fn decrypt(
            &mut self,
            pkesks: &[PKESK],
            _: &[SKESK],
            algorithm: Option<SymmetricAlgorithm>,
            decrypt: &mut dyn FnMut(Option<SymmetricAlgorithm>, &SessionKey) -> bool,
        ) -> openpgp::Result<Option<Cert>> {
            for key in self.0.keys().unencrypted_secret() {
                let mut pair = key.key().clone().into_keypair()?;
                for pkesk in pkesks {
                    if pkesk
                        .decrypt(&mut pair, algorithm)
                        .is_some_and(|(algorithm, session)| decrypt(algorithm, &session))
                    {
                        return Ok(None);
                    }
                }
            }
            panic!("no key opens it")
        }
    }
    let policy = StandardPolicy::new();
    let begin = message.windows(27).position(|window| window == b"-----BEGIN PGP MESSAGE-----").expect("armor");
    let mut decryptor = DecryptorBuilder::from_bytes(&message[begin..])
        .and_then(|builder| builder.with_policy(&policy, None, Helper(key, signer)))
        .expect("an OpenPGP message");
    let mut clear = Vec::new();
    decryptor.read_to_end(&mut clear).expect("decrypted");
    clear
}
