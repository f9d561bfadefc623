//! What is written down together: each piece is there whole or not at all, and none keeps another from being written.

use super::attempt::{Notice, jitter};
use super::schedule::backoff;
use super::sealed::Job;
use super::settings::QueueSettings;
use crate::core::Shared;
use crate::id::JobId;
use crate::store::{Hold, JobEnd, JobLater, Placing, QueueProgress, StoreError, Write, Written};
use std::sync::Arc;

/// How often notices are sealed anew, each time because a keyset went meanwhile.
const RESEALS: usize = 3;

/// A part of what came of attempts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Piece {
    /// What the store is to do.
    pub(crate) progress: QueueProgress,
    /// The jobs that it is about.
    pub(crate) jobs: Vec<JobId>,
    /// The notices that its copies are of.
    notices: Vec<Notice>,
    /// Its copies are the message itself, for users here: the job that they end, and its attempts.
    kept: Option<(JobId, u32)>,
}

impl Piece {
    /// Jobs that wait on.
    pub(crate) fn later(later: Vec<JobLater>) -> Self {
        let mut piece = Self::default();
        later.into_iter().for_each(|later| piece.wait(later));
        piece
    }

    /// A job that ends with copies for users here.
    pub(crate) fn kept(job: &Job, copies: Vec<Placing>) -> Self {
        let ended = vec![(job.id, JobEnd::Delivered)];
        let progress = QueueProgress { ended, copies, ..QueueProgress::default() };
        Self { progress, jobs: vec![job.id], kept: Some((job.id, job.attempts)), ..Self::default() }
    }

    /// A job waits on.
    pub(crate) fn wait(&mut self, later: JobLater) {
        self.jobs.push(later.job);
        self.progress.later.push(later);
    }

    /// A job ends.
    pub(crate) fn end(&mut self, job: JobId, end: JobEnd) {
        self.jobs.push(job);
        self.progress.ended.push((job, end));
    }

    /// A sender is told.
    pub(crate) fn tell(&mut self, notice: Notice, mut copies: Vec<Placing>) {
        self.notices.push(notice);
        self.progress.copies.append(&mut copies);
    }

    /// The store refuses it for its copies: it goes without them. A notice for a user who is gone has no reader; a message for a
    /// user here is tried again, when it is found out anew whose it is. Whether anything changed.
    fn give_up_copies(&mut self, settings: &QueueSettings, now: i64, jitter: f64) -> bool {
        if self.progress.copies.is_empty() {
            return false;
        }
        self.progress.copies.clear();
        self.notices.clear();
        if let Some((job, attempts)) = self.kept.take() {
            let attempts = attempts.saturating_add(1);
            let wait = i64::try_from(backoff(settings, attempts, jitter).as_secs()).unwrap_or(i64::MAX).max(1);
            self.progress.ended.retain(|(ended, _)| *ended != job);
            let due = now.saturating_add(wait);
            self.progress.later.push(JobLater { job, due, attempts, hold: Hold::No, progress: None });
        }
        true
    }

    /// Writes it down alone. Notices whose keyset goes meanwhile are sealed anew.
    async fn write(&mut self, shared: &Arc<Shared>) -> Result<Written, StoreError> {
        let mut left = RESEALS;
        loop {
            let write = Write::Progress(Box::new(self.progress.clone()));
            let error = match shared.store.write(write).await {
                Err(error @ StoreError::KeysetGone) if left > 0 && !self.notices.is_empty() => error,
                result => return result,
            };
            left -= 1;
            let mut copies = Vec::new();
            for notice in &self.notices {
                match notice.seal(shared).await {
                    Ok(mut sealed) => copies.append(&mut sealed),
                    Err(_) => return Err(error),
                }
            }
            self.progress.copies = copies;
        }
    }
}

/// What came of attempts and is not durable yet, with the jobs that stay leased until it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unwritten(Vec<Piece>);

/// What came of writing.
#[derive(Debug, Default)]
pub(crate) struct WriteDown {
    /// Jobs of which everything is durable.
    pub(crate) durable: Vec<JobId>,
    /// Some of them wait for a certificate now.
    pub(crate) keyless: bool,
    /// What is to be written again.
    pub(crate) left: Unwritten,
    /// Why it is: the store can't write now.
    pub(crate) trouble: Option<StoreError>,
}

impl Unwritten {
    /// Whether there is nothing to write.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a piece that has something in it.
    pub(crate) fn push(&mut self, piece: Piece) {
        if !piece.progress.is_empty() {
            self.0.push(piece);
        }
    }

    /// Adds what came later.
    pub(crate) fn append(&mut self, mut later: Self) {
        self.0.append(&mut later.0);
    }

    /// Writes everything in one commit; where something in it is refused, each piece in its own.
    pub(crate) async fn write(self, shared: &Arc<Shared>) -> WriteDown {
        let mut outcome = WriteDown::default();
        let mut all = QueueProgress::default();
        self.0.iter().for_each(|piece| all.append(piece.progress.clone()));
        match shared.store.write(Write::Progress(Box::new(all))).await {
            Ok(_) => self.0.into_iter().for_each(|piece| outcome.durable(piece)),
            Err(error) if is_trouble(&error) => {
                outcome.left = self;
                outcome.trouble = Some(error);
            }
            Err(error) => {
                tracing::warn!(%error, pieces = self.0.len(), "some of what came of attempts to send was refused by the store; it is written down one by one");
                for piece in self.0 {
                    outcome.write_alone(piece, shared).await;
                }
            }
        }
        outcome
    }
}

impl WriteDown {
    fn durable(&mut self, piece: Piece) {
        self.keyless |= piece.progress.later.iter().any(|later| later.hold == Hold::Key);
        self.durable.extend(piece.jobs);
    }

    async fn write_alone(&mut self, mut piece: Piece, shared: &Arc<Shared>) {
        while self.trouble.is_none() {
            match piece.write(shared).await {
                Ok(_) => return self.durable(piece),
                Err(error) if is_trouble(&error) => self.trouble = Some(error),
                Err(error) => {
                    let now = mesyx_sdk::Timestamp::now().seconds();
                    if piece.give_up_copies(&shared.settings().queue, now, jitter()) {
                        tracing::warn!(%error, jobs = ?piece.jobs, "a copy for a user here could not be stored");
                    } else {
                        // Its jobs stay leased, so that nothing is sent again while this process lives.
                        tracing::error!(%error, jobs = ?piece.jobs, "what came of an attempt to send can't be written down");
                        return;
                    }
                }
            }
        }
        self.left.push(piece);
    }
}

/// Whether the store can't write anything now.
const fn is_trouble(error: &StoreError) -> bool {
    matches!(error, StoreError::Full | StoreError::Backend(_) | StoreError::Closed)
}
