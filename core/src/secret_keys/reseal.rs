//! Messages of one keyset are sealed to another's certificates.
//!
//! Each message is opened, with everything checked that reading it checks, sealed with a fresh session key, and put in its own
//! place in one transaction: killed at any moment, it is sealed to the one keyset or to the other. There is nothing to take up again
//! but the command itself. Mail that comes in meanwhile is sealed as ever; where it still goes to the old keyset, a further pass takes it along.
//!
//! The new parts are attested anew by this instance, and only in place of an attestation of its own: who took a message in stays the
//! one who signs for it, so what the summary says of the message's origin is worth as much as before.

use crate::access::OpenKeys;
use crate::admin::Proof;
use crate::core::{Core, Shared};
use crate::errors::{broken, stored};
use crate::id::KeysetId;
use crate::keys::{Keyset, MasterKey, Unlocked};
use crate::seal::{PartContext, PartName, SealError, Sealer, open_body, open_summary, seal_session_key};
use crate::store::{
    Attest, GroupKey, GroupWrite, KeyWrite, Resealed, SealedTo, StoredPart, StoredSecrets, Write, Written,
};
use mesyx_sdk::{Error, ErrorKind, MessageId, Secret, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Messages listed in one read.
const LISTED: u32 = 512;
/// Messages in one commit, and about how many sealed bytes; one larger message goes alone.
const AT_ONCE: usize = 128;
const BYTES_AT_ONCE: u64 = 4 << 20;
/// Times that the keyset is gone through from the first message, for those that came meanwhile.
const PASSES: u32 = 3;
/// Finished work that is remembered.
const REMEMBERED: usize = 32;

/// Which messages are to be sealed anew, and how they are opened.
#[derive(Debug)]
pub struct NewReseal {
    /// The user's login name.
    pub user: String,
    /// The keyset whose messages it is about: name or id.
    pub from: String,
    /// The keyset that they are to be sealed to: name or id.
    pub to: String,
    /// What opens them.
    pub key: ResealKey,
}

/// What opens the messages.
#[derive(Debug)]
pub enum ResealKey {
    /// The password or recovery key of the user, where the keyset is online.
    Proof(Proof),
    /// The keyset's secret key, where it is offline.
    File {
        /// The file.
        file: Secret,
        /// What it is locked with.
        passphrase: Option<Secret>,
    },
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResealProgress {
    /// The user's login name.
    pub user: String,
    /// The keyset that messages leave.
    pub from: String,
    /// The keyset that they go to.
    pub to: String,
    /// Messages sealed anew so far.
    pub done: u64,
    /// Messages still sealed to the keyset that they are to leave.
    pub remaining: u64,
    /// Those of them that were tried and can't be opened: damaged, forged, or attested by another instance.
    pub failed: u64,
    /// Nothing more is done.
    pub finished: bool,
    /// Why it ended before its end.
    pub error: Option<String>,
}

/// All that was begun since the program started.
#[derive(Debug, Default)]
pub(crate) struct Reseals {
    all: Mutex<Vec<Arc<Reseal>>>,
    stop: AtomicBool,
}

#[derive(Debug)]
struct Reseal {
    user: UserId,
    from: KeysetId,
    progress: Mutex<ResealProgress>,
}

impl Reseal {
    fn progress(&self) -> MutexGuard<'_, ResealProgress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reseals {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Reseal>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins one, unless the same messages are being worked on.
    fn begin(&self, reseal: Arc<Reseal>) -> Result<(), Error> {
        let mut all = self.lock();
        let busy =
            |other: &Arc<Reseal>| (other.user, other.from) == (reseal.user, reseal.from) && !other.progress().finished;
        if all.iter().any(busy) {
            let text = "the messages of this keyset are being sealed anew already; `mesyx status` shows how far it is";
            return Err(Error::new(ErrorKind::Exists, text));
        }
        let finished = all.iter().filter(|other| other.progress().finished).count();
        if finished >= REMEMBERED
            && let Some(oldest) = all.iter().position(|other| other.progress().finished)
        {
            all.remove(oldest);
        }
        all.push(reseal);
        Ok(())
    }

    /// # Errors
    /// [`ErrorKind::Unavailable`] after [`Reseals::stop`].
    fn unless_stopped(&self) -> Result<(), Error> {
        match self.stop.load(Ordering::Acquire) {
            true => Err(Error::new(ErrorKind::Unavailable, "the server is stopping; start it again to go on")),
            false => Ok(()),
        }
    }

    /// Has everything end after the batch that it is at, and waits for that.
    pub(crate) async fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        while self.lock().iter().any(|reseal| !reseal.progress().finished) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Core {
    /// Begins to seal the messages of one keyset to another's certificates, and answers at once; [`Core::reseals`] tells how far it
    /// is. The secret key is in memory until it has ended.
    ///
    /// A message that is shown opened before and after keeps its UIDs; any other gets new ones.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::LoginFailed`]; [`ErrorKind::Invalid`] where the keysets are one, the key is missing or refused, or the
    /// target can't be sealed to; [`ErrorKind::Exists`] where it is under way.
    pub async fn start_reseal(&self, new: NewReseal) -> Result<ResealProgress, Error> {
        let (member, from) = self.user_and_keyset(&new.user, &new.from)?;
        let (_, to) = self.user_and_keyset(&new.user, &new.to)?;
        let user = member.id;
        let invalid = |text: String| Error::new(ErrorKind::Invalid, text);
        if from.id == to.id {
            return Err(invalid("the two keysets are the same".to_owned()));
        }
        if to.is_retired() {
            return Err(invalid(format!("keyset {} is retired: nothing is sealed to it any more", to.name)));
        }
        to.recipients(Timestamp::now()).map_err(|error| invalid(error.to_string()))?;
        let secrets = match &new.key {
            ResealKey::Proof(proof) => self.stored_secrets(user, &from, proof).await?.1,
            ResealKey::File { file, passphrase } => {
                self.shared.read_for(user, &from, file, passphrase.as_ref()).await?
            }
        };
        if secrets.is_empty() {
            return Err(invalid(format!("keyset {} is offline: give the file of its secret key", from.name)));
        }
        let keys = Unlocked::open(user, &MasterKey::random(), &StoredSecrets::default(), &*self.shared.keyring(user)?)
            .map_err(|error| super::damaged(&error))?;
        keys.insert(from.id, &secrets);
        drop(secrets);
        let progress = ResealProgress {
            user: member.name.clone(),
            from: from.name.clone(),
            to: to.name.clone(),
            done: 0,
            remaining: self.shared.sealed_count(user, from.id).await?,
            failed: 0,
            finished: false,
            error: None,
        };
        let reseal = Arc::new(Reseal { user, from: from.id, progress: Mutex::new(progress.clone()) });
        self.shared.reseals.begin(Arc::clone(&reseal))?;
        let work = Work {
            shared: Arc::clone(&self.shared),
            reseal,
            keys: Arc::new(OpenKeys::new(keys)),
            to: to.id,
            sealer: Arc::new(Sealer::default()),
        };
        self.shared.runtime.spawn(work.run());
        Ok(progress)
    }

    /// What is being sealed anew, and what was since the program started; the latest last.
    #[must_use]
    pub fn reseals(&self) -> Vec<ResealProgress> {
        self.shared.reseals.lock().iter().map(|reseal| reseal.progress().clone()).collect()
    }
}

impl Shared {
    async fn sealed_count(&self, user: UserId, keyset: KeysetId) -> Result<u64, Error> {
        let all = self.store.keyset_use(user).await.map_err(stored)?;
        Ok(all.iter().find(|used| used.keyset == keyset).map_or(0, |used| used.messages))
    }
}

/// One such task.
struct Work {
    shared: Arc<Shared>,
    reseal: Arc<Reseal>,
    keys: Arc<OpenKeys>,
    to: KeysetId,
    /// Of its own, so that these messages don't share session keys with those that come in now.
    sealer: Arc<Sealer>,
}

/// Marks the end, also where the task panics or is dropped with the runtime.
struct Finish(Arc<Reseal>);

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.progress().finished = true;
    }
}

impl Work {
    async fn run(self) {
        let finish = Finish(Arc::clone(&self.reseal));
        let (user, from) = (self.reseal.user, self.reseal.from);
        let outcome = self.passes().await;
        match self.shared.sealed_count(user, from).await {
            Ok(remaining) => self.reseal.progress().remaining = remaining,
            Err(error) => tracing::warn!(%user, %error, "the remaining messages can't be counted"),
        }
        if let Err(error) = outcome {
            tracing::error!(%user, keyset = %from, %error, "sealing messages anew ended early; start it again to go on");
            self.reseal.progress().error = Some(error.to_string());
        }
        let ResealProgress { done, remaining, failed, .. } = self.reseal.progress().clone();
        tracing::info!(%user, %from, to = %self.to, done, remaining, failed, "sealing messages anew has ended");
        drop((self, finish));
    }

    async fn passes(&self) -> Result<(), Error> {
        for _ in 0..PASSES {
            let mut moved = 0;
            let mut after = (0, 0);
            self.reseal.progress().failed = 0;
            loop {
                let listed = self.shared.store.sealed_to(self.reseal.user, self.reseal.from, after, LISTED).await;
                let listed = listed.map_err(stored)?;
                let Some(last) = listed.last() else { break };
                after = last.at;
                let mut rest = listed.as_slice();
                while !rest.is_empty() {
                    self.shared.reseals.unless_stopped()?;
                    let (now, later) = rest.split_at(batch(rest));
                    rest = later;
                    moved += self.some(now).await?;
                }
            }
            if moved == 0 {
                break;
            }
        }
        self.groups().await
    }

    /// Keys of groups' epochs are sealed to the other keyset; the lines under them stay as they are, since others read them too.
    async fn groups(&self) -> Result<(), Error> {
        let user = self.reseal.user;
        let _one = self.shared.administration.lock().await;
        let keys = self.shared.store.group_keys(user, self.reseal.from).await.map_err(stored)?;
        let to = self.shared.keyring(user)?.get(self.to).cloned();
        let Some(to) = to.filter(|to| !to.is_retired() && !keys.is_empty()) else { return Ok(()) };
        let invalid = |error: SealError| Error::new(ErrorKind::Invalid, error.to_string());
        let recipients = to.recipients(Timestamp::now()).map_err(invalid)?;
        for (group, sealed) in keys {
            self.shared.reseals.unless_stopped()?;
            let Ok(key) = self.keys.open(&sealed) else {
                self.reseal.progress().failed += 1;
                continue;
            };
            let packets = seal_session_key(&key, &recipients).map_err(invalid)?;
            let key = GroupKey { epoch: sealed.id, user, keyset: to.id, packets };
            let write = GroupWrite { keys: vec![key], ..GroupWrite::of(group) };
            self.shared.store.write(Write::Group(Box::new(write))).await.map_err(stored)?;
        }
        Ok(())
    }

    /// Seals some messages anew; answers how many.
    async fn some(&self, messages: &[SealedTo]) -> Result<u64, Error> {
        let user = self.reseal.user;
        let bytes: u64 = messages.iter().map(|message| message.bytes).sum();
        // Sealed, open, and sealed again, for a moment all at once.
        let _memory = self.memory(bytes.saturating_mul(4)).await?;
        // The keyset that they go to must not be taken away, nor that which they leave be moved, between the look at it and the write.
        let _one = self.shared.administration.lock().await;
        let ids: Vec<MessageId> = messages.iter().map(|message| message.message).collect();
        let store = &self.shared.store;
        let summaries = store.parts_of(user, &ids, PartName::Summary, u64::MAX).await.map_err(stored)?;
        let bodies = store.parts_of(user, &ids, PartName::Body, u64::MAX).await.map_err(stored)?;
        let to = self.shared.keyring(user)?.get(self.to).cloned();
        let to = to.filter(|to| !to.is_retired()).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "the keyset that messages were to be sealed to is gone or retired")
        })?;
        let job = Job {
            shared: Arc::clone(&self.shared),
            user,
            from: self.reseal.from,
            keys: Arc::clone(&self.keys),
            to,
            sealer: Arc::clone(&self.sealer),
        };
        let work = tokio::task::spawn_blocking(move || job.run(summaries, bodies));
        let (resealed, failed) = work.await.map_err(|error| broken(&error))??;
        let mut done = 0;
        if !resealed.is_empty()
            && let Written::Resealed(written) = self.shared.write_keys(KeyWrite::Reseal(resealed)).await?
        {
            done = u64::from(written);
        }
        let mut progress = self.reseal.progress();
        progress.done += done;
        progress.failed += failed;
        progress.remaining = progress.remaining.saturating_sub(done);
        Ok(done)
    }

    /// Room for a batch out of what all messages in flight share; mail that comes in goes first.
    async fn memory(&self, bytes: u64) -> Result<mesyx_sdk::Reservation, Error> {
        const TRIES: u32 = 600;
        let budget = &self.shared.budget;
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).min(budget.total() / 2);
        for _ in 0..TRIES {
            self.shared.reseals.unless_stopped()?;
            if let Some(reservation) = budget.reserve(bytes) {
                return Ok(reservation);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(Error::new(ErrorKind::Full, "the server has no memory to seal messages anew now; start it again later"))
    }
}

/// How many of these messages are sealed anew together; at least one.
fn batch(messages: &[SealedTo]) -> usize {
    let mut bytes = 0;
    let fits = |message: &&SealedTo| {
        bytes += message.bytes;
        bytes <= BYTES_AT_ONCE
    };
    messages.iter().take(AT_ONCE).take_while(fits).count().max(1)
}

/// What a thread needs to open a batch and seal it again.
struct Job {
    shared: Arc<Shared>,
    user: UserId,
    from: KeysetId,
    keys: Arc<OpenKeys>,
    to: Arc<Keyset>,
    sealer: Arc<Sealer>,
}

impl Job {
    /// The messages sealed anew, and how many can't be opened.
    fn run(&self, summaries: Vec<StoredPart>, bodies: Vec<StoredPart>) -> Result<(Vec<Resealed>, u64), Error> {
        let mut bodies: HashMap<MessageId, StoredPart> = bodies.into_iter().map(|body| (body.message, body)).collect();
        let mut resealed = Vec::with_capacity(summaries.len());
        let mut failed = 0;
        for summary in summaries {
            // Expunged meanwhile, or sealed anew by another: not ours any more.
            let Some(body) = bodies.remove(&summary.message) else { continue };
            if summary.session_key.id != body.session_key.id || summary.session_key.keyset != self.from {
                continue;
            }
            match self.one(&summary, &body) {
                Ok(message) => resealed.push(message),
                Err(Failed::Message(why)) => {
                    tracing::warn!(user = %self.user, message = %summary.message, why, "a message can't be sealed anew");
                    failed += 1;
                }
                Err(Failed::Target(error)) => return Err(error),
            }
        }
        Ok((resealed, failed))
    }

    fn one(&self, summary: &StoredPart, body: &StoredPart) -> Result<Resealed, Failed> {
        let public_key = self.shared.instance.public_key();
        for (part, name) in [(summary, PartName::Summary), (body, PartName::Body)] {
            let ours = part.attestation.instance == self.shared.instance.instance();
            if !ours || !self.shared.access.attested(self.user, part, name, public_key) {
                return Err(Failed::Message("this instance did not take it in".to_owned()));
            }
        }
        let failed = |error: crate::seal::OpenError| Failed::Message(error.to_string());
        let old = &summary.session_key;
        let key = match self.keys.known(old.id) {
            Some(key) => key,
            None => self.keys.open(old).map_err(failed)?,
        };
        let context = PartContext { user: self.user, message: summary.message, keyset: old.keyset };
        let opened = open_summary(&key, &context, &summary.part).map_err(failed)?;
        let content = open_body(&key, &context, &body.part).map_err(failed)?;
        let message = self
            .sealer
            .seal(&self.to, self.user, summary.message, &opened, &content, Instant::now())
            .map_err(|error| Failed::Target(Error::new(ErrorKind::Unavailable, error.to_string())))?;
        Ok(Resealed { old: old.id, message })
    }
}

/// Why a message was not sealed anew.
enum Failed {
    /// It can't be opened: the others may.
    Message(String),
    /// Nothing can be sealed.
    Target(Error),
}
