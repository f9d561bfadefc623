//! Gets summaries and bodies for FETCH, one batch ahead of what is being written.

use crate::connection::BUDGET_PATIENCE;
use crate::share::{Held, Shares};
use mesyx_sdk::{Content, Error, ErrorKind, MailboxId, Session, Summary, Uid};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Most messages in a batch.
const BATCH: usize = 256;
/// Most bytes of bodies in a batch, by their padded sizes; a larger message is a batch of its own.
const BATCH_KIB: u64 = 1024;

/// What a FETCH needs to know of each message beyond its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Needs {
    pub(super) summary: bool,
    pub(super) body: bool,
}

/// One message, as far as it was asked for.
pub(super) struct Gathered {
    pub(super) uid: Uid,
    pub(super) summary: Option<Arc<Summary>>,
    pub(super) body: Option<Content>,
}

/// Messages in the order of their UIDs. Holds its part of the byte budget until it is dropped.
pub(super) struct Batch {
    pub(super) messages: Vec<Gathered>,
    /// Messages that are there but can't be opened.
    pub(super) unreadable: usize,
    _reservation: Option<Held>,
    /// Counts the batches that are not yet written.
    _unwritten: Arc<()>,
}

/// The batches of one FETCH; gathering ends when it is dropped.
pub(super) struct Batches {
    batches: mpsc::Receiver<Result<Batch, Error>>,
    _task: JoinSet<()>,
}

impl Batches {
    /// Begins to gather. `messages` are UIDs in order, with padded sizes in KiB.
    pub(super) fn start(
        session: Arc<dyn Session>,
        mailbox: MailboxId,
        messages: Vec<(Uid, u32)>,
        needs: Needs,
        shares: Shares,
    ) -> Self {
        let (give, batches) = mpsc::channel(1);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let unwritten = Arc::new(());
            let mut rest = messages.as_slice();
            while !rest.is_empty() {
                let count = batch_length(rest, needs);
                let (now, later) = rest.split_at(count);
                rest = later;
                let batch = gather(&*session, mailbox, now, needs, &shares, &unwritten).await;
                let failed = batch.is_err();
                if give.send(batch).await.is_err() || failed {
                    return;
                }
            }
        });
        Self { batches, _task: task }
    }

    pub(super) async fn next(&mut self) -> Option<Result<Batch, Error>> {
        self.batches.recv().await
    }
}

fn batch_length(messages: &[(Uid, u32)], needs: Needs) -> usize {
    if !needs.body {
        return messages.len().min(BATCH);
    }
    let mut kib = 0;
    let fits = |(_, size): &&(Uid, u32)| {
        kib += u64::from(*size);
        kib <= BATCH_KIB
    };
    messages.iter().take(BATCH).take_while(fits).count().max(1)
}

async fn gather(
    session: &dyn Session,
    mailbox: MailboxId,
    messages: &[(Uid, u32)],
    needs: Needs,
    shares: &Shares,
    unwritten: &Arc<()>,
) -> Result<Batch, Error> {
    let uids: Vec<Uid> = messages.iter().map(|(uid, _)| *uid).collect();
    let reservation = match needs.body {
        true => {
            let bytes = messages.iter().map(|(_, kib)| *kib as usize * 1024).sum();
            Some(reserve(shares, session, bytes, unwritten).await?)
        }
        false => None,
    };
    let (summaries, bodies) = tokio::join!(
        async { if needs.summary { summaries(session, mailbox, &uids).await } else { Ok(Found::default()) } },
        async { if needs.body { bodies(session, mailbox, &uids).await } else { Ok(Found::default()) } },
    );
    let (summaries, bodies) = (summaries?, bodies?);
    let unreadable = summaries.unreadable.max(bodies.unreadable);
    let (mut summaries, mut bodies) = (summaries.found.into_iter().peekable(), bodies.found.into_iter().peekable());
    let mut gathered = Vec::with_capacity(uids.len());
    for uid in uids {
        let summary = summaries.next_if(|(of, _)| *of == uid).map(|(_, summary)| summary);
        let body = bodies.next_if(|(of, _)| *of == uid).map(|(_, body)| body);
        if needs.summary == summary.is_some() && needs.body == body.is_some() {
            gathered.push(Gathered { uid, summary, body });
        }
    }
    Ok(Batch { messages: gathered, unreadable, _reservation: reservation, _unwritten: Arc::clone(unwritten) })
}

/// Takes memory for bodies; waits a while with nothing held, since others give theirs back.
async fn reserve(shares: &Shares, session: &dyn Session, bytes: usize, unwritten: &Arc<()>) -> Result<Held, Error> {
    // A message larger than the whole budget is read when nothing else is.
    let bytes = bytes.min(shares.total());
    let user = &session.user().id;
    let mut until = Instant::now() + BUDGET_PATIENCE;
    loop {
        if let Some(reservation) = shares.reserve(user, bytes) {
            return Ok(reservation);
        }
        // This FETCH's own earlier batches come first: how long they take is up to the client, within the limits of writing.
        if Arc::strong_count(unwritten) > 1 {
            until = Instant::now() + BUDGET_PATIENCE;
        }
        if Instant::now() >= until {
            return Err(Error::new(ErrorKind::Full, "there is no memory for the messages now; try again later"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

struct Found<T> {
    found: Vec<(Uid, T)>,
    unreadable: usize,
}

impl<T> Default for Found<T> {
    fn default() -> Self {
        Self { found: Vec::new(), unreadable: 0 }
    }
}

impl<T> Found<T> {
    /// Takes in an answer to `asked`; returns the UIDs that are yet to be asked for.
    fn take<'a>(&mut self, asked: &'a [Uid], answer: Vec<(Uid, T)>) -> &'a [Uid] {
        // An answer is never empty while one of the messages is there.
        let Some(last) = answer.last().map(|(uid, _)| *uid) else { return &[] };
        if self.found.is_empty() {
            self.found = answer;
        } else {
            self.found.extend(answer);
        }
        &asked[asked.partition_point(|uid| *uid <= last)..]
    }

    /// After an unreadable message among `asked`: each is asked for alone, so that only this one is missing.
    fn take_alone(&mut self, answer: Result<Vec<(Uid, T)>, Error>) -> Result<(), Error> {
        match answer {
            Ok(answer) => self.found.extend(answer),
            Err(error) if error.kind() == ErrorKind::Unreadable => self.unreadable += 1,
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

async fn summaries(session: &dyn Session, mailbox: MailboxId, uids: &[Uid]) -> Result<Found<Arc<Summary>>, Error> {
    let mut found = Found::default();
    let mut rest = uids;
    while !rest.is_empty() {
        match session.summaries(mailbox, rest).await {
            Ok(answer) => rest = found.take(rest, answer),
            Err(error) if error.kind() == ErrorKind::Unreadable => {
                for uid in std::mem::take(&mut rest) {
                    found.take_alone(session.summaries(mailbox, &[*uid]).await)?;
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

async fn bodies(session: &dyn Session, mailbox: MailboxId, uids: &[Uid]) -> Result<Found<Content>, Error> {
    let mut found = Found::default();
    let mut rest = uids;
    while !rest.is_empty() {
        match session.bodies(mailbox, rest).await {
            Ok(answer) => rest = found.take(rest, answer),
            Err(error) if error.kind() == ErrorKind::Unreadable => {
                for uid in std::mem::take(&mut rest) {
                    found.take_alone(session.bodies(mailbox, &[*uid]).await)?;
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded_in_count_and_bytes() {
        let bodies = Needs { summary: true, body: true };
        let listing = Needs { summary: true, body: false };
        assert_eq!(batch_length(&vec![(1, 4); 1000], bodies), 256);
        assert_eq!(batch_length(&vec![(1, 64); 1000], bodies), 16);
        assert_eq!(batch_length(&[(1, 60_000); 3], bodies), 1);
        assert_eq!(batch_length(&vec![(1, 60_000); 1000], listing), 256);
    }
}
