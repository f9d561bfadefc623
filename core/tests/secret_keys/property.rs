//! Whatever happens to keys, no UID ever shows two things.

use super::reseal::resealed;
use super::*;
use mesyx_core::secret_keys::{NewReseal, ResealKey};
use std::collections::HashMap;
use tokio::sync::oneshot::error::TryRecvError;

/// What may happen between two looks at the mailboxes; numbers choose among what is there.
#[derive(Debug, Clone, Copy)]
enum Step {
    Deliver,
    Copy(usize),
    Move(usize),
    Expunge(usize),
    Flag(usize),
    /// Takes a keyset offline, or brings back all that is elsewhere of it; with `true` while others log in and read.
    Turn(usize, bool),
    /// Brings one of the secret keys of a keyset that are elsewhere.
    Bring(usize),
    /// A certificate made elsewhere comes into a keyset; with `true` in the place of its first.
    Certificate(usize, bool),
    /// Seals a keyset's messages anew, to the default one.
    Reseal(usize),
    Rekey,
    Restart,
}

fn step() -> impl proptest::strategy::Strategy<Value = Step> {
    use proptest::prelude::*;
    prop_oneof![
        4 => Just(Step::Deliver),
        1 => any::<usize>().prop_map(Step::Copy),
        1 => any::<usize>().prop_map(Step::Move),
        1 => any::<usize>().prop_map(Step::Expunge),
        1 => any::<usize>().prop_map(Step::Flag),
        4 => any::<(usize, bool)>().prop_map(|(which, beside)| Step::Turn(which, beside)),
        2 => any::<usize>().prop_map(Step::Bring),
        3 => any::<(usize, bool)>().prop_map(|(which, replace)| Step::Certificate(which, replace)),
        2 => any::<usize>().prop_map(Step::Reseal),
        1 => Just(Step::Rekey),
        1 => Just(Step::Restart),
    ]
}

/// What each UID ever showed.
type Ever = HashMap<(MailboxId, Uid), Vec<u8>>;

struct Model {
    place: Place,
    core: Arc<Core>,
    session: Arc<dyn Session>,
    /// Files of secret keys that are elsewhere, by the keyset's id.
    elsewhere: HashMap<String, Vec<Secret>>,
    mailboxes: [MailboxId; 2],
    ever: Ever,
    placed: usize,
    delivered: usize,
}

/// Notes what a UID shows; it must be what it showed before.
fn note(ever: &mut Ever, mailbox: MailboxId, uid: Uid, body: Vec<u8>) {
    let before = ever.entry((mailbox, uid)).or_insert_with(|| body.clone());
    let text = |body: &[u8]| String::from_utf8_lossy(&body[..body.len().min(400)]).into_owned();
    assert!(*before == body, "UID {uid} showed {} and shows {}", text(before), text(&body));
}

/// Logs in and reads all that is there, again and again, until told to end.
async fn read_on(core: Arc<Core>, mailboxes: [MailboxId; 2], mut end: tokio::sync::oneshot::Receiver<()>) -> Vec<Ever> {
    let mut seen = Vec::new();
    loop {
        let last = !matches!(end.try_recv(), Err(TryRecvError::Empty));
        let session = login(&core, "alice").await;
        let mut ever = Ever::new();
        for mailbox in mailboxes {
            for uid in uids(&session, mailbox).await {
                match session.bodies(mailbox, &[uid]).await {
                    Ok(read) => read.into_iter().for_each(|(uid, body)| note(&mut ever, mailbox, uid, body.to_vec())),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
                }
            }
        }
        seen.push(ever);
        if last {
            return seen;
        }
    }
}

impl Model {
    async fn new() -> Self {
        let (place, core) = Place::with_users().await;
        for number in 0..3 {
            deliver(&core, &["alice@example.org"], &letter(number)).await;
        }
        core.rekey("alice", proof("alice"), None).await.unwrap();
        let session = login(&core, "alice").await;
        let mailboxes = [inbox(&session).await, mailbox(&session, Role::Archive).await.id];
        let elsewhere = HashMap::new();
        Self { place, core, session, elsewhere, mailboxes, ever: Ever::new(), placed: 3, delivered: 3 }
    }

    /// A keyset by number.
    async fn keyset(&self, number: usize) -> mesyx_core::keysets::KeysetInfo {
        let mut all = self.core.keysets("alice").await.unwrap();
        all.remove(number % all.len())
    }

    /// Brings secret keys back; one that nothing was sealed to while its certificate was in the keyset may be refused.
    async fn bring(&self, keyset: &str, files: Vec<Secret>) {
        for file in files {
            match self.core.bring_keyset_online("alice", keyset, proof("alice"), &file, None).await {
                Ok(_) => {}
                Err(error) => assert!(error.message().contains("no message there is sealed to it"), "{error}"),
            }
        }
    }

    async fn turn(&mut self, number: usize) {
        let info = self.keyset(number).await;
        if info.secret_here {
            let file = offline(&self.core, &info.id, None).await;
            self.elsewhere.entry(info.id).or_default().push(file);
        } else {
            let files = self.elsewhere.remove(&info.id).unwrap_or_default();
            self.bring(&info.id, files).await;
        }
    }

    async fn step(&mut self, step: Step) {
        let [inbox, archive] = self.mailboxes;
        let there = uids(&self.session, inbox).await;
        let one = |number: usize| there.get(number % there.len().max(1)).copied();
        match step {
            Step::Deliver => {
                deliver(&self.core, &["alice@example.org"], &letter(self.delivered)).await;
                self.delivered += 1;
                self.placed += 1;
            }
            Step::Copy(number) => {
                let Some(uid) = one(number) else { return };
                self.session.copy(inbox, &[uid], archive).await.unwrap();
                self.placed += 1;
            }
            Step::Move(number) => {
                let Some(uid) = one(number) else { return };
                self.session.move_messages(inbox, &[uid], archive).await.unwrap();
            }
            Step::Expunge(number) => {
                let Some(uid) = one(number) else { return };
                let deleted = FlagChange::Add(vec![Flag::Deleted]);
                self.session.store_flags(inbox, &[uid], &deleted, None).await.unwrap();
                self.placed -= self.session.expunge(inbox, None).await.unwrap().len();
            }
            Step::Flag(number) => {
                let Some(uid) = one(number) else { return };
                let seen = FlagChange::Add(vec![Flag::Seen]);
                self.session.store_flags(inbox, &[uid], &seen, None).await.unwrap();
            }
            Step::Turn(number, false) => self.turn(number).await,
            Step::Turn(number, true) => {
                let (end, ended) = tokio::sync::oneshot::channel();
                let readers = tokio::spawn(read_on(Arc::clone(&self.core), self.mailboxes, ended));
                self.turn(number).await;
                end.send(()).unwrap();
                for ((mailbox, uid), body) in readers.await.unwrap().into_iter().flatten() {
                    note(&mut self.ever, mailbox, uid, body);
                }
            }
            Step::Bring(number) => {
                let info = self.keyset(number).await;
                let Some(file) = self.elsewhere.get_mut(&info.id).and_then(Vec::pop) else { return };
                self.bring(&info.id, vec![file]).await;
            }
            Step::Certificate(number, replace) => {
                let info = self.keyset(number).await;
                if info.certificates.len() > 8 {
                    return;
                }
                let (public, secret) = made_elsewhere(None);
                let how = match replace {
                    true => CertificateChange::Replace(info.certificates[0].fingerprint.clone()),
                    false => CertificateChange::Add,
                };
                self.core.change_certificates("alice", &info.id, vec![public], how).await.unwrap();
                self.elsewhere.entry(info.id).or_default().push(secret);
            }
            Step::Reseal(number) => {
                let info = self.keyset(number).await;
                let file = self.elsewhere.get(&info.id).and_then(|files| files.first()).cloned();
                let key = match (info.secret_here, file) {
                    (true, _) => ResealKey::Proof(proof("alice")),
                    (false, Some(file)) => ResealKey::File { file, passphrase: None },
                    (false, None) => return,
                };
                let request = NewReseal { user: "alice".into(), from: info.id, to: "default".into(), key };
                match self.core.start_reseal(request).await {
                    Ok(_) => drop(resealed(&self.core).await),
                    // To itself, or with a file that opens nothing.
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Invalid, "{error}"),
                }
            }
            Step::Rekey => {
                self.core.rekey("alice", proof("alice"), None).await.unwrap();
                self.session = login(&self.core, "alice").await;
            }
            Step::Restart => {
                self.core.close().await;
                let fresh = self.place.open().await;
                self.core = fresh;
                self.session = login(&self.core, "alice").await;
            }
        }
    }

    async fn look(&mut self) {
        let mut placed = 0;
        for mailbox in self.mailboxes {
            let uids = uids(&self.session, mailbox).await;
            let shown = bodies(&self.session, mailbox).await;
            assert_eq!(uids.len(), shown.len());
            placed += uids.len();
            for (uid, body) in uids.into_iter().zip(shown) {
                assert!(!holds(&body, b"cannot be opened"), "what nothing here opens is shown sealed");
                note(&mut self.ever, mailbox, uid, body);
            }
        }
        assert_eq!(placed, self.placed);
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(12))]

    #[test]
    fn whatever_happens_to_keys_no_uid_ever_shows_two_things(steps in proptest::collection::vec(step(), 1..25)) {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let mut model = Model::new().await;
            model.look().await;
            for step in steps {
                model.step(step).await;
                model.look().await;
            }
            for (keyset, files) in std::mem::take(&mut model.elsewhere) {
                model.bring(&keyset, files).await;
            }
            model.look().await;
            for mailbox in model.mailboxes {
                for body in bodies(&model.session, mailbox).await {
                    assert!((0..model.delivered).any(|number| letter(number) == body), "with all keys here, all is opened");
                }
            }
        });
    }
}
