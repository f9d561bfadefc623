//! The one writer: takes everything that waits, commits it as one group, and only then answers.

use super::blobs::Blobs;
use super::content::Prepared;
use super::tx::{Finished, Ids, Meta, Tx};
use super::{Attest, Event, Options, StoreError, Written, conversations, resolve};
use crate::store::{KeyWrite, Then, Write};
use mesyx_sdk::{MailboxId, Uid, UserId};
use rusqlite::Connection;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{broadcast, mpsc, oneshot};

/// One write in the queue.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) write: Write,
    /// One for each message in the write.
    pub(super) prepared: Vec<Prepared>,
    pub(super) bytes: usize,
    /// See [`is_heavy`].
    pub(super) heavy: bool,
    /// What is done with the UIDs after the commit.
    pub(super) then: Option<Then>,
    pub(super) answer: oneshot::Sender<Result<Written, StoreError>>,
}

/// Whether a write may touch so much that it is better alone in its group: then it needs no savepoint, in which SQLite
/// would keep a copy of every page that it changes (72 s instead of under one for expunging 5,000 messages).
pub(super) fn is_heavy(write: &Write) -> bool {
    const MANY: usize = 100;
    match write {
        Write::RemoveUser(_) | Write::DeleteMailbox { .. } | Write::RenameMailbox { .. } => true,
        Write::Expunge { uids, .. } => uids.as_ref().is_none_or(|uids| uids.len() > MANY),
        Write::Flags { uids, .. } | Write::Copy { uids, .. } => uids.len() > MANY,
        Write::Append(messages) => messages.len() > MANY,
        Write::Submit(submission) => submission.jobs.len() > MANY,
        Write::Progress(progress) => progress.ended.len() + progress.later.len() > MANY,
        Write::ChangeJobs { jobs, .. } => jobs.len() > MANY,
        Write::Merge { entries, .. } => entries.len() > MANY,
        Write::Keys(_) => true,
        _ => false,
    }
}

/// What writer and readers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) events: broadcast::Sender<Event>,
    pub(super) blobs: Blobs,
    pub(super) numbers: NumbersCache,
    /// Backups under way: files are removed after the last of them.
    pub(super) backups: AtomicUsize,
}

/// Numbers of mailboxes that were read and have not changed since, so that asking for nothing new costs no disk.
#[derive(Debug, Default)]
pub(super) struct NumbersCache {
    /// Counts commits: what was read before one must not be put in after it.
    generation: AtomicU64,
    known: Mutex<HashMap<(UserId, MailboxId), mesyx_sdk::MailboxStatus>>,
}

impl NumbersCache {
    const MOST: usize = 50_000;

    fn lock(&self) -> MutexGuard<'_, HashMap<(UserId, MailboxId), mesyx_sdk::MailboxStatus>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, user: UserId, mailbox: MailboxId) -> Option<mesyx_sdk::MailboxStatus> {
        self.lock().get(&(user, mailbox)).copied()
    }

    /// To be taken before the read whose outcome is put in.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    pub(super) fn put(&self, generation: u64, user: UserId, mailbox: MailboxId, status: mesyx_sdk::MailboxStatus) {
        let mut known = self.lock();
        if self.generation() == generation {
            if known.len() >= Self::MOST {
                known.clear();
            }
            known.insert((user, mailbox), status);
        }
    }

    /// After a commit, before anybody hears of it.
    fn drop_changed(&self, changed: impl Iterator<Item = (UserId, MailboxId)>, all: bool) {
        let mut known = self.lock();
        self.generation.fetch_add(1, Ordering::SeqCst);
        if all {
            known.clear();
        }
        for key in changed {
            known.remove(&key);
        }
    }
}

/// The writer's thread. It ends when the queue is closed and empty.
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) meta: Meta,
    pub(super) options: Options,
    pub(super) attest: Arc<dyn Attest>,
    pub(super) shared: Arc<Shared>,
    pub(super) queue: mpsc::Receiver<Job>,
    /// Files whose removal waits for the end of a backup.
    pub(super) gone: Vec<super::blobs::BlobName>,
    pub(super) ids: Ids,
    /// The last day on which old entries of `dedup` were removed.
    pub(super) pruned: i32,
}

impl Writer {
    pub(super) fn run(mut self) {
        let mut held_over = None;
        while let Some(first) = held_over.take().or_else(|| self.queue.blocking_recv()) {
            let (mut bytes, mut heavy) = (first.bytes, first.heavy);
            let mut group = vec![first];
            while !heavy && group.len() < self.options.group_writes && bytes < self.options.group_bytes {
                let Ok(next) = self.queue.try_recv() else { break };
                if next.heavy {
                    heavy = true;
                    held_over = Some(next);
                } else {
                    bytes += next.bytes;
                    group.push(next);
                }
            }
            self.commit(group);
        }
        self.remove_files();
        // The files are whole without this; it only keeps the WAL from outliving the process.
        if let Err(error) = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
            tracing::warn!(%error, "the write-ahead log was not folded in at the end; the next start does it");
        }
    }

    fn commit(&mut self, group: Vec<Job>) {
        let mut answers = Vec::with_capacity(group.len());
        let mut blobs = Vec::with_capacity(group.len());
        let mut results = Vec::with_capacity(group.len());
        let mut jobs = Vec::with_capacity(group.len());
        let mut thens = Vec::with_capacity(group.len());
        let scrub = group.iter().any(|job| matches!(job.write, Write::Keys(KeyWrite::Scrub)));
        for Job { write, prepared, answer, then, .. } in group {
            answers.push(answer);
            thens.push(then);
            blobs.push(prepared.iter().filter_map(|prepared| prepared.blob).collect::<Vec<_>>());
            jobs.push((write, prepared));
        }
        let mut spoken = Vec::new();
        let outcome = self.transact(jobs, &mut results, &mut spoken);
        match outcome {
            Ok(finished) => {
                for (result, blobs) in results.iter().zip(&mut blobs) {
                    if result.is_err() {
                        self.gone.append(blobs);
                    }
                }
                self.published(finished);
                for (at, uids) in spoken {
                    if let Some(Then(then)) = thens.get_mut(at).and_then(Option::take) {
                        then(&uids);
                    }
                }
                if scrub && let Err(error) = self.scrub() {
                    results = answers.iter().map(|_| Err(error.clone())).collect();
                }
            }
            Err(error) => {
                if !self.connection.is_autocommit()
                    && let Err(error) = self.connection.execute_batch("ROLLBACK")
                {
                    tracing::error!(%error, "a failed group could not be rolled back");
                }
                self.ids.clear();
                if matches!(error, StoreError::Full | StoreError::Backend(_)) {
                    tracing::error!(%error, writes = answers.len(), "a group of writes failed and was undone");
                }
                results = answers.iter().map(|_| Err(error.clone())).collect();
                self.gone.extend(blobs.into_iter().flatten());
            }
        }
        for (answer, result) in answers.into_iter().zip(results) {
            // Who asked may have gone away; what was done stays done.
            let _ = answer.send(result);
        }
        self.remove_files();
    }

    /// Runs the writes and commits. An error is the whole group's.
    fn transact(
        &mut self,
        jobs: Vec<(Write, Vec<Prepared>)>,
        results: &mut Vec<Result<Written, StoreError>>,
        spoken: &mut Vec<(usize, Vec<Uid>)>,
    ) -> Result<Finished, StoreError> {
        let connection = &self.connection;
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut tx = Tx::new(connection, &self.options, self.meta.clone(), &mut self.ids);
        if self.pruned != tx.today {
            tx.sql("DELETE FROM dedup WHERE day < ?")?.execute([tx.today - 2])?;
            self.pruned = tx.today;
        }
        let alone = jobs.len() == 1;
        for (write, prepared) in jobs {
            tx.begin(!alone)?;
            let result = match write {
                Write::Speak(line) => conversations::speak(&mut tx, *line, &prepared).map(|(written, uids)| {
                    if !uids.is_empty() {
                        spoken.push((results.len(), uids));
                    }
                    written
                }),
                write => resolve::run(&mut tx, write, &prepared),
            };
            match &result {
                Ok(_) => tx.keep()?,
                // A disk that is full or broken may have undone more than this one write.
                Err(error) if alone || matches!(error, StoreError::Full) || connection.is_autocommit() => {
                    return Err(error.clone());
                }
                Err(_) => tx.undo()?,
            }
            results.push(result);
        }
        let attest = &self.attest;
        let finished = tx.finish(&|bytes| attest.sign(bytes))?;
        connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(finished)
    }

    /// Folds the write-ahead log in and empties it. What `secure_delete` overwrote stands in it as it was until then.
    fn scrub(&self) -> Result<(), StoreError> {
        // Whoever reads the log must not hold up every other write meanwhile.
        self.connection.busy_timeout(std::time::Duration::from_millis(100))?;
        let busy = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
        self.connection.busy_timeout(super::BUSY)?;
        if busy? {
            Err(StoreError::Backend("the write-ahead log is being read, by a backup?".to_owned()))
        } else {
            Ok(())
        }
    }

    fn published(&mut self, finished: Finished) {
        self.meta = finished.meta;
        let changed = finished.mailboxes.iter().map(|row| (row.user_id, row.mailbox));
        self.shared.numbers.drop_changed(changed, !finished.effects.mailboxes_gone.is_empty());
        for event in finished.effects.events {
            // Nobody may be listening.
            let _ = self.shared.events.send(event);
        }
        self.gone.extend(finished.effects.blobs_gone);
    }

    fn remove_files(&mut self) {
        if !self.gone.is_empty() && self.shared.backups.load(Ordering::SeqCst) == 0 {
            for name in self.gone.drain(..) {
                self.shared.blobs.remove(name);
            }
        }
    }
}
