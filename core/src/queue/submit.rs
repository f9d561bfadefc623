//! From a submitted message to sealed jobs.

use super::sealed::{DataKey, Job, Progress};
use crate::access::OpenUser;
use crate::core::Shared;
use crate::errors::{broken, stored};
use crate::id::JobId;
use crate::pgp::Outgoing;
use crate::store::{Hold, NewJob, Placing, QueuedMessage, Submission, Write, Written};
use mesyx_sdk::{Content, Envelope, Error, ErrorKind, Recipient, Timestamp, UserId};
use std::sync::Arc;

/// Above this size, sealing is done on a thread of its own.
const INLINE_BYTES: usize = 64 << 10;

/// What goes to recipients elsewhere, ready to be committed.
pub(crate) struct Outbound {
    message: QueuedMessage,
    jobs: Vec<Job>,
    new: Vec<NewJob>,
}

/// Jobs that are durable, for the worker.
#[derive(Default)]
pub(crate) struct Offered(Vec<Job>);

impl super::Handle {
    /// Lets the worker know of jobs that were committed a moment ago.
    pub(crate) fn offered(&self, Offered(jobs): Offered) {
        if !jobs.is_empty() {
            metrics::counter!("mesyx_queue_jobs_total").increment(jobs.len() as u64);
            self.offer(jobs);
        }
    }
}

impl Shared {
    /// Prepares and seals a message for recipients elsewhere. Nothing is stored yet.
    ///
    /// # Errors
    /// Where the sender's policy refuses it, or it can't be sealed.
    pub(crate) async fn outbound(
        self: &Arc<Self>,
        open: &OpenUser,
        user: UserId,
        envelope: &Envelope,
        remote: Vec<Recipient>,
    ) -> Result<Outbound, Error> {
        let mut leaving = envelope.clone();
        leaving.content = without_return_path(&envelope.content);
        let outgoing = self.prepare(open, &leaving).await?;
        let shared = Arc::clone(self);
        if outgoing.len() < INLINE_BYTES {
            return shared.seal_outbound(user, &leaving, &outgoing, remote);
        }
        let work = move || shared.seal_outbound(user, &leaving, &outgoing, remote);
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(broken(&error)))
    }

    fn seal_outbound(
        &self,
        user: UserId,
        envelope: &Envelope,
        outgoing: &Outgoing,
        remote: Vec<Recipient>,
    ) -> Result<Outbound, Error> {
        let unsealed = |_| Error::new(ErrorKind::Unavailable, "the message can't be sealed for the queue; try again");
        let key = DataKey::random();
        let message = envelope.id;
        let body = key.seal_content(message, outgoing).map_err(unsealed)?;
        let data_key = key.wrap(&self.instance, message);
        let now = Timestamp::now();
        let due = now.seconds();
        let mut jobs = Vec::with_capacity(remote.len());
        let mut new = Vec::with_capacity(remote.len());
        for to in remote {
            let job = Job {
                id: JobId::random(),
                message,
                user,
                due,
                attempts: 0,
                hold: Hold::No,
                from: envelope.from.clone(),
                to,
                dsn: envelope.dsn.clone(),
                submitted: now,
                progress: Progress::default(),
                bytes: body.len() as u64,
                data_key: data_key.clone(),
            };
            new.push(NewJob { job: job.id, sealed: key.seal_job(&job).map_err(unsealed)?, due });
            jobs.push(job);
        }
        let message = QueuedMessage { user, message, data_key, body };
        Ok(Outbound { message, jobs, new })
    }

    /// A line for one recipient on a network outside, sealed for the queue: what the store is given, and what the worker is offered once that is
    /// durable.
    ///
    /// # Errors
    /// Where it can't be sealed.
    pub(crate) fn seal_line(
        &self,
        user: UserId,
        (id, from): (mesyx_sdk::MessageId, mesyx_sdk::Address),
        to: mesyx_sdk::Address,
        outgoing: &Outgoing,
    ) -> Result<(QueuedMessage, Vec<NewJob>, Offered), Error> {
        let leaving = Envelope {
            id,
            dedup: None,
            style: mesyx_sdk::Style::Instant,
            kind: mesyx_sdk::Kind::Message,
            from: Some(from),
            to: Vec::new(),
            conversation: None,
            sent: None,
            received: Timestamp::now(),
            importance: mesyx_sdk::Importance::Normal,
            content: Content::default(),
            origin: mesyx_sdk::Origin::default(),
            junk: false,
            dsn: mesyx_sdk::Dsn::default(),
        };
        let Outbound { message, jobs, new } = self.seal_outbound(user, &leaving, outgoing, vec![Recipient::new(to)])?;
        Ok((message, new, Offered(jobs)))
    }

    /// Commits copies for users here and jobs for the others, and lets the worker know. Whether the message was known already.
    pub(crate) async fn commit_outbound(
        &self,
        copies: Vec<Placing>,
        dedup: Option<[u8; 32]>,
        outbound: Outbound,
    ) -> Result<bool, Error> {
        let Outbound { message, jobs, new } = outbound;
        let most_jobs = self.settings().queue.jobs_per_user;
        let submission = Submission { copies, message, jobs: new, dedup, most_jobs };
        let written = self.store.write(Write::Submit(Box::new(submission))).await.map_err(stored)?;
        let duplicate = matches!(written, Written::Delivered { duplicate: true });
        if !duplicate {
            metrics::counter!("mesyx_queue_jobs_total").increment(jobs.len() as u64);
            self.queue.offer(jobs);
        }
        Ok(duplicate)
    }
}

/// A message without the `Return-Path` that stands in front of it: that header is the last hop's to write (RFC 5321, section 4.4).
fn without_return_path(content: &Content) -> Content {
    const NAME: &[u8] = b"return-path:";
    if !content.get(..NAME.len()).is_some_and(|start| start.eq_ignore_ascii_case(NAME)) {
        return content.clone();
    }
    // To the end of the field, folded lines with it.
    let mut at = 0;
    while let Some(line) = content.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == b'\n')) {
        at += line + 1;
        if !matches!(content.get(at), Some(b' ' | b'\t')) {
            return content.slice(at as u64, content.len() as u64);
        }
    }
    content.clone()
}
