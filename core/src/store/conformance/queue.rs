//! The outgoing queue.

use super::fixture::{Fixture, TestInstance};
use crate::id::JobId;
use crate::operation::{LogEntry, Operation, Stamp};
use crate::store::{
    Attest, Hold, JobChange, JobEnd, JobLater, NewJob, QueueProgress, QueuedMessage, StoreError, StoredJob, Submission,
    Write, Written,
};
use bytes::Bytes;
use mesyx_sdk::{MailboxId, MessageId};

fn submission(alice: &Fixture, jobs: usize, body: usize) -> Submission {
    Submission {
        copies: vec![alice.placing(alice.inbox(), 50)],
        message: QueuedMessage {
            user: alice.user,
            message: MessageId::random(),
            data_key: b"wrapped data key".to_vec(),
            body: Bytes::from(vec![7; body]),
        },
        jobs: (0..jobs).map(|at| NewJob { job: JobId::random(), sealed: vec![at as u8; 40], due: 100 }).collect(),
        dedup: None,
        most_jobs: 1000,
    }
}

async fn submit(alice: &Fixture, jobs: usize, body: usize) -> (MessageId, Vec<JobId>) {
    let submission = submission(alice, jobs, body);
    let made = (submission.message.message, submission.jobs.iter().map(|job| job.job).collect());
    let written = alice.write(Write::Submit(Box::new(submission))).await;
    assert!(matches!(written, Written::Delivered { duplicate: false }));
    made
}

async fn due(alice: &Fixture, until: i64) -> Vec<StoredJob> {
    alice.store.due_jobs(until, (i64::MIN, i64::MIN), 1000).await.expect("due jobs")
}

async fn finish(alice: &Fixture, jobs: &[JobId]) {
    let ended = jobs.iter().map(|job| (*job, JobEnd::Delivered)).collect();
    alice.write(Write::Progress(Box::new(QueueProgress { ended, ..QueueProgress::default() }))).await;
}

async fn count(alice: &Fixture) -> u64 {
    alice.store.queue_totals().await.expect("totals").jobs
}

pub(super) async fn submit_and_finish(alice: Fixture) {
    let (message, jobs) = submit(&alice, 3, 500).await;
    assert_eq!(alice.uids(alice.inbox()).await, [1], "the local copy");
    assert!(due(&alice, 99).await.is_empty());
    assert_eq!(alice.store.next_due(50).await.expect("a time"), Some(100));
    let found = due(&alice, 100).await;
    assert_eq!(found.iter().map(|job| job.job).collect::<Vec<_>>(), jobs, "in the order in which they came");
    assert_eq!((found[1].message, found[1].user, found[1].attempts), (message, alice.user, 0));
    assert_eq!(
        (found[1].bytes, &found[1].data_key[..], &found[1].sealed[..]),
        (500, &b"wrapped data key"[..], &[1; 40][..])
    );
    let after = alice.store.due_jobs(100, (found[0].due, found[0].row), 1).await.expect("a page");
    assert_eq!(after[0].job, jobs[1], "page by page");
    let queued = alice.store.queued(message, &jobs).await.expect("content").expect("is there");
    assert_eq!((queued.content.expect("content").len(), queued.jobs.len()), (500, 3));
    // Together with the end of a job a notice comes.
    let progress = QueueProgress {
        ended: vec![(jobs[0], JobEnd::Failed)],
        later: vec![JobLater { job: jobs[1], due: 200, attempts: 1, hold: Hold::No, progress: Some(b"why".to_vec()) }],
        copies: vec![alice.placing(alice.inbox(), 60)],
    };
    alice.write(Write::Progress(Box::new(progress))).await;
    assert_eq!(alice.uids(alice.inbox()).await, [1, 2]);
    let found = alice.store.jobs(0, 10).await.expect("jobs");
    assert_eq!(found.iter().map(|job| (job.due, job.attempts)).collect::<Vec<_>>(), [(200, 1), (100, 0)]);
    assert_eq!(found[0].progress.as_deref(), Some(&b"why"[..]));
    let totals = alice.store.queue_totals().await.expect("totals");
    assert_eq!((totals.jobs, totals.deferred, totals.held), (2, 1, 0));
}

pub(super) async fn content_goes_with_the_last_job(alice: Fixture) {
    // In the database, and in a file of its own.
    for body in [500, 300_000] {
        let (message, jobs) = submit(&alice, 2, body).await;
        let queued = alice.store.queued(message, &[]).await.expect("content").expect("is there");
        assert_eq!(queued.content.expect("content"), vec![7; body]);
        finish(&alice, &jobs[..1]).await;
        assert!(alice.store.queued(message, &[]).await.expect("content").is_some(), "one job is left");
        finish(&alice, &jobs[1..]).await;
        assert!(alice.store.queued(message, &jobs).await.expect("content").is_none());
        // Again: a job that is done stays so, and nothing is written.
        let entries = alice.store.totals().await.expect("totals").log_entries;
        finish(&alice, &jobs).await;
        assert_eq!(alice.store.totals().await.expect("totals").log_entries, entries);
    }
    assert_eq!(count(&alice).await, 0);
}

pub(super) async fn submissions_are_whole_or_nothing(alice: Fixture) {
    let mut wrong = submission(&alice, 2, 300_000);
    wrong.copies[0].mailbox = MailboxId::random();
    alice.refused(Write::Submit(Box::new(wrong))).await;
    let mut twice = submission(&alice, 2, 10);
    twice.jobs[1].job = twice.jobs[0].job;
    assert!(matches!(alice.refused(Write::Submit(Box::new(twice))).await, StoreError::Invalid(_)));
    assert_eq!((count(&alice).await, alice.uids(alice.inbox()).await.len()), (0, 0));
    for expected in [false, true] {
        let again = Submission { dedup: Some([5; 32]), ..submission(&alice, 1, 300_000) };
        let written = alice.write(Write::Submit(Box::new(again))).await;
        assert!(matches!(written, Written::Delivered { duplicate } if duplicate == expected));
    }
    assert_eq!(count(&alice).await, 1);
}

pub(super) async fn jobs_wait_and_are_held(alice: Fixture) {
    let (_, jobs) = submit(&alice, 3, 10).await;
    let change = async |change, jobs: &[JobId], due| {
        alice.write(Write::ChangeJobs { jobs: jobs.to_vec(), change, due }).await;
    };
    change(JobChange::Hold, &jobs[..1], 0).await;
    let later = |job, hold| JobLater { job, due: 500, attempts: 1, hold, progress: None };
    let later = vec![later(jobs[0], Hold::No), later(jobs[1], Hold::Key), later(jobs[2], Hold::No)];
    alice.write(Write::Progress(Box::new(QueueProgress { later, ..QueueProgress::default() }))).await;
    let totals = alice.store.queue_totals().await.expect("totals");
    assert_eq!((totals.held, totals.keyless), (1, 1), "an attempt that was under way does not release");
    assert_eq!(due(&alice, 1000).await.len(), 2);
    alice.write(Write::KeysCame { user: alice.user, due: 300 }).await;
    assert_eq!(due(&alice, 300).await.iter().map(|job| job.job).collect::<Vec<_>>(), jobs[1..2]);
    change(JobChange::Retry, &jobs, 200).await;
    assert_eq!(due(&alice, 200).await.len(), 2, "what is held stays held");
    change(JobChange::Release, &jobs, 150).await;
    assert_eq!(due(&alice, 150).await.iter().map(|job| job.job).collect::<Vec<_>>(), jobs[..1]);
}

pub(super) async fn jobs_outlast_a_restart(alice: Fixture) {
    let (small, first) = submit(&alice, 1, 10).await;
    let (large, _) = submit(&alice, 1, 300_000).await;
    let alice = alice.restarted().await;
    assert_eq!(due(&alice, 100).await.len(), 2);
    for (message, body) in [(small, 10), (large, 300_000)] {
        let queued = alice.store.queued(message, &[]).await.expect("content").expect("is there");
        assert_eq!(queued.content.expect("content").len(), body);
    }
    finish(&alice, &first).await;
    let alice = alice.restarted().await;
    assert_eq!(due(&alice, 100).await.len(), 1);
}

pub(super) async fn jobs_go_with_their_user(alice: Fixture) {
    let bob = alice.second("bob").await;
    let (message, _) = submit(&alice, 2, 10).await;
    submit(&bob, 1, 10).await;
    alice.write(Write::RemoveUser(alice.user)).await;
    assert_eq!(count(&bob).await, 1);
    assert!(bob.store.queued(message, &[]).await.expect("content").is_none());
}

pub(super) async fn jobs_are_limited(alice: Fixture) {
    submit(&alice, 2, 10).await;
    let more = |most_jobs| Submission { most_jobs, ..submission(&alice, 2, 10) };
    assert!(matches!(alice.refused(Write::Submit(Box::new(more(3)))).await, StoreError::Limit(_)));
    alice.write(Write::Submit(Box::new(more(4)))).await;
    assert_eq!(count(&alice).await, 4);
}

pub(super) async fn jobs_merge(alice: Fixture) {
    let there = alice.elsewhere(2);
    let (_, jobs) = submit(&alice, 3, 10).await;
    finish(&alice, &jobs[..1]).await;
    let mut entries = alice.store.log(TestInstance(1).instance(), 0, 1000).await.expect("the log");
    let operations: Vec<_> = entries.iter().map(|entry| &entry.operation).collect();
    assert_eq!(operations.iter().filter(|one| matches!(one, Operation::Enqueue { .. })).count(), 3);
    assert_eq!(operations.iter().filter(|one| matches!(one, Operation::Outcome { .. })).count(), 1);
    let newest = entries[entries.len() - 1].stamp;
    entries.reverse();
    for _ in 0..2 {
        there.write(Write::Merge { entries: entries.clone(), messages: Vec::new() }).await;
    }
    assert_eq!(count(&there).await, 2);
    assert!(due(&there, 1000).await.is_empty(), "they are another's to bring, and their content is not here");
    // They are given to the other instance: ours no more.
    let instance = TestInstance(2).instance();
    let stamp = Stamp { counter: 1 << 40, instance, ..newest };
    let assign = Operation::Assign { job: jobs[1], gateway: instance };
    let entries = vec![LogEntry { sequence: 1, stamp, operation: assign }];
    alice.write(Write::Merge { entries, messages: Vec::new() }).await;
    assert_eq!(due(&alice, 1000).await.iter().map(|job| job.job).collect::<Vec<_>>(), jobs[2..]);
}

pub(super) async fn jobs_are_backed_up(alice: Fixture) {
    let (message, _) = submit(&alice, 1, 300_000).await;
    let to = alice.place.with_extension("backup");
    alice.store.backup(&to).await.expect("a backup");
    let copy = (alice.open)(&to, Fixture::INSTANCE);
    let queued = copy.queued(message, &[]).await.expect("content").expect("is there");
    assert_eq!((queued.content.expect("content").len(), queued.jobs.len()), (300_000, 0));
    let held = copy.queue_totals().await.expect("totals");
    assert_eq!((held.jobs, held.held), (1, 1), "what was sent since must not be sent again by a restored copy");
    assert_eq!(due(&alice, 1000).await.len(), 1);
}
