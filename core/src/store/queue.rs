//! The outgoing queue, as the store sees it: jobs whose addresses and content it can't read.

use super::Placing;
use crate::id::JobId;
use bytes::Bytes;
use mesyx_sdk::{MessageId, UserId};
use minicbor::{Decode, Encode};

/// A message that a user submitted: copies for users here, and jobs for recipients elsewhere, all or nothing.
#[derive(Debug)]
pub struct Submission {
    /// One for each local user whom the message is for.
    pub copies: Vec<Placing>,
    /// What the jobs bring out.
    pub message: QueuedMessage,
    /// One for each recipient elsewhere; at least one.
    pub jobs: Vec<NewJob>,
    /// HMAC of what the origin calls the message; known already, nothing is done.
    pub dedup: Option<[u8; 32]>,
    /// Most jobs that the user may have waiting, these with them.
    pub most_jobs: u64,
}

/// The content of a submitted message, sealed.
#[derive(Debug, Clone)]
pub struct QueuedMessage {
    /// Whose.
    pub user: UserId,
    /// Which.
    pub message: MessageId,
    /// The message's data key, wrapped by the instance key.
    pub data_key: Vec<u8>,
    /// The content, sealed under the data key.
    pub body: Bytes,
}

/// A job to put into the queue.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Which.
    pub job: JobId,
    /// Addresses, wishes and exact time, sealed under the message's data key.
    pub sealed: Vec<u8>,
    /// When it is due, in seconds since 1970-01-01, UTC.
    pub due: i64,
}

/// How a job ended. Nothing follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum JobEnd {
    /// The next hop took it.
    #[n(0)]
    Delivered,
    /// It can't be brought there.
    #[n(1)]
    Failed,
    /// It could not be brought there in time.
    #[n(2)]
    Expired,
    /// The operator took it out.
    #[n(3)]
    Dropped,
}

/// What came of attempts; committed as one.
#[derive(Debug, Clone, Default)]
pub struct QueueProgress {
    /// Jobs that are done. One that is not there any more is passed over, with its copies left in.
    pub ended: Vec<(JobId, JobEnd)>,
    /// Jobs that wait on.
    pub later: Vec<JobLater>,
    /// Notices to senders, and messages for recipients who are local by now.
    pub copies: Vec<Placing>,
}

impl QueueProgress {
    /// Adds another's.
    pub fn append(&mut self, mut other: Self) {
        self.ended.append(&mut other.ended);
        self.later.append(&mut other.later);
        self.copies.append(&mut other.copies);
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ended.is_empty() && self.later.is_empty() && self.copies.is_empty()
    }
}

/// A job that waits on.
#[derive(Debug, Clone)]
pub struct JobLater {
    /// Which.
    pub job: JobId,
    /// When it is due, in seconds since 1970-01-01, UTC.
    pub due: i64,
    /// Attempts so far.
    pub attempts: u32,
    /// What it waits for. Where the operator holds it, that stays so.
    pub hold: Hold,
    /// What happened so far, sealed under the message's data key; `None` where that is as it was.
    pub progress: Option<Vec<u8>>,
}

/// What a job waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hold {
    /// Its time.
    No,
    /// The operator's word; it has no time.
    Operator,
    /// Its time, or a certificate to encrypt to.
    Key,
}

/// What the operator does with jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobChange {
    /// They wait for the operator's word.
    Hold,
    /// They wait no more for that word, and are due at once.
    Release,
    /// They are due at once, but those that the operator holds.
    Retry,
}

/// A job as stored.
#[derive(Debug, Clone)]
pub struct StoredJob {
    /// Its number here, in the order in which jobs came.
    pub row: i64,
    /// Which.
    pub job: JobId,
    /// The message.
    pub message: MessageId,
    /// Who submitted it.
    pub user: UserId,
    /// When it is due, in seconds since 1970-01-01, UTC.
    pub due: i64,
    /// Attempts so far.
    pub attempts: u32,
    /// What it waits for.
    pub hold: Hold,
    /// Bytes of the message's sealed content.
    pub bytes: u64,
    /// See [`QueuedMessage::data_key`].
    pub data_key: Vec<u8>,
    /// See [`NewJob::sealed`].
    pub sealed: Vec<u8>,
    /// See [`JobLater::progress`]; `None` before the first attempt.
    pub progress: Option<Vec<u8>>,
}

/// A queued message, as an attempt needs it.
#[derive(Debug, Clone)]
pub struct Queued {
    /// Its sealed content; `None` where jobs wait for it and it is gone all the same: a file was lost.
    pub content: Option<Bytes>,
    /// The jobs that were asked for, where they are there.
    pub jobs: Vec<StoredJob>,
}

/// How the queue stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueTotals {
    /// All jobs that are not done.
    pub jobs: u64,
    /// Of these, those that had an attempt.
    pub deferred: u64,
    /// Of these, those that the operator holds.
    pub held: u64,
    /// Of these, those that wait for a certificate.
    pub keyless: u64,
}
