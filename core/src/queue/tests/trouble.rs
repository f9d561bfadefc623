//! What goes wrong inside: it harms no other job, is never forgotten, and the operator sees it.

use super::*;
use crate::id::KeysetId;
use crate::queue::attempt::{Attempt, Notice};
use crate::queue::piece::{Piece, Unwritten};
use crate::queue::window::{Destination, Signal};
use crate::seal::SealedSessionKey;
use crate::store::{Hold, JobEnd, Placing};
use mesyx_sdk::{Content, MailboxId};
use std::path::Path;

const LONG: Duration = Duration::from_secs(3600);

impl Place {
    /// A place in which messages to these wait: no host is there, and no worker any more.
    async fn waiting(to: &[&str], settings: impl FnOnce(&mut Settings)) -> Self {
        let change = |all: &mut Settings| {
            all.queue.first_retry = LONG;
            settings(all);
        };
        let place = Self::with(change, Fake::default()).await;
        place.fake.down.store(true, Ordering::SeqCst);
        for to in to {
            place.submit(&[to]).await;
        }
        place.until("attempts", async |place: &Self| place.list().await.iter().all(|job| !job.why.is_empty())).await;
        place.core.stop_queue(Duration::from_secs(5)).await;
        place
    }

    async fn opened(&self) -> Vec<Job> {
        let stored = self.core.shared.store.jobs(0, 100).await.unwrap();
        stored.into_iter().map(|stored| Job::open(&self.core.shared.instance, stored).unwrap()).collect()
    }

    /// Changes the store's tables behind its back.
    fn sql(&self, sql: &str) {
        let connection = rusqlite::Connection::open(self.settings.data_dir.join("store/store.db")).unwrap();
        connection.busy_timeout(Duration::from_secs(10)).unwrap();
        connection.execute(sql, []).unwrap();
    }
}

/// A notice to a user, and its sealed copies.
async fn notice(place: &Place, user: UserId, text: &str) -> (Notice, Vec<Placing>) {
    let content = Content::from(format!("Subject: {text}\r\n\r\n{text}\r\n").into_bytes());
    let notice = Notice::new(user, content);
    let copies = notice.seal(&place.core.shared).await.unwrap();
    (notice, copies)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_can_not_be_stored_harms_no_other_job() {
    let place = Place::waiting(&["a@a.example", "b@b.example", "c@c.example"], |_| {}).await;
    let jobs = place.opened().await;
    let user = jobs[0].user;
    let nowhere = |mut copies: Vec<Placing>| {
        copies.iter_mut().for_each(|copy| copy.mailbox = MailboxId::random());
        copies
    };
    let mut unwritten = Unwritten::default();
    // A message for somebody here by now, whose inbox is not there.
    unwritten.push(Piece::kept(&jobs[0], nowhere(notice(&place, user, "kept").await.1)));
    // A failure, with a notice that can be stored, and one that can't.
    let mut good = Piece::default();
    good.end(jobs[1].id, JobEnd::Failed);
    let (told, copies) = notice(&place, user, "failed").await;
    good.tell(told, copies);
    unwritten.push(good);
    let mut bad = Piece::default();
    bad.end(jobs[2].id, JobEnd::Failed);
    let (told, copies) = notice(&place, user, "lost").await;
    bad.tell(told, nowhere(copies));
    unwritten.push(bad);

    let outcome = unwritten.write(&place.core.shared).await;
    assert!(outcome.trouble.is_none() && outcome.left.is_empty());
    assert_eq!(outcome.durable.len(), 3);
    let inbox = place.inbox("alice").await;
    assert_eq!(inbox.len(), 1, "one copy could be stored");
    assert!(inbox[0].contains("Subject: failed"), "{inbox:?}");
    let left = place.opened().await;
    assert_eq!(left.iter().map(|job| job.id).collect::<Vec<_>>(), [jobs[0].id], "what was not stored is not done");
    assert_eq!(left[0].attempts, jobs[0].attempts + 1);
    assert!(left[0].due > Timestamp::now().seconds());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_outlives_the_keyset_that_it_was_sealed_to() {
    let place = Place::waiting(&["a@a.example", "b@b.example"], |_| {}).await;
    let jobs = place.opened().await;
    let mut first = Unwritten::default();
    let mut ended = Piece::default();
    ended.end(jobs[0].id, JobEnd::Delivered);
    first.push(ended);
    first.write(&place.core.shared).await;
    // Ids of what is gone are remembered, whatever it was.
    let gone = KeysetId(jobs[0].id.0);
    let (told, mut copies) = notice(&place, jobs[1].user, "failed").await;
    for copy in &mut copies {
        let key = SealedSessionKey::clone(&copy.message.session_key);
        let id = crate::id::SessionKeyId::random();
        copy.message.session_key = Arc::new(SealedSessionKey { id, keyset: gone, ..key });
    }
    let mut piece = Piece::default();
    piece.end(jobs[1].id, JobEnd::Failed);
    piece.tell(told, copies);
    let mut unwritten = Unwritten::default();
    unwritten.push(piece);
    let outcome = unwritten.write(&place.core.shared).await;
    assert_eq!((outcome.durable.len(), place.jobs().await), (1, 0));
    assert_eq!(place.inbox("alice").await.len(), 1, "it was sealed anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_panics_each_time_is_given_up_in_time_and_its_sender_is_told() {
    let change = |settings: &mut Settings| {
        settings.queue.expire = Duration::from_secs(3);
        settings.queue.delay_notice = Duration::from_secs(1);
    };
    let place = Place::with(change, Fake::default()).await;
    *place.fake.always_panics.lock().unwrap() = Some("joe@example.net".into());
    place.submit(&["joe@example.net"]).await;
    place
        .until("the reason is shown", async |place: &Place| {
            place.list().await.iter().any(|job| job.why.contains("broke off inside") && job.maybe_sent)
        })
        .await;
    place.empty().await;
    let notices = place.inbox("alice").await;
    assert_eq!(notices.len(), 2, "one of the delay, one of the end: {notices:?}");
    assert!(notices[0].contains("Action: delayed\r\n") && notices[1].contains("Action: failed\r\n"));
    assert!(notices[1].contains("broke off inside"));
}

fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_file_is_gone_waits_for_the_operator() {
    let place = Place::with(|settings| settings.queue.first_retry = LONG, Fake::default()).await;
    place.fake.down.store(true, Ordering::SeqCst);
    let session = place.login("alice").await;
    let mut large = envelope(vec![recipient("joe@example.net")], Some("alice@example.org"), Dsn::default());
    large.content = Content::from([MESSAGE, &b"Far away.\r\n".repeat(40_000)[..]].concat());
    session.submit(large).await.unwrap();
    place.until("an attempt", async |place: &Place| place.list().await.iter().any(|job| job.attempts == 1)).await;
    let files = files(&place.settings.data_dir.join("store/blobs"));
    assert_eq!(files.len(), 1, "{files:?}");
    std::fs::remove_file(&files[0]).unwrap();
    place.fake.down.store(false, Ordering::SeqCst);
    place.core.queue_change(&JobFilter::default(), JobChange::Retry, false).await.unwrap();
    place
        .until("it is held", async |place: &Place| {
            place.list().await.iter().any(|job| job.state == "held" && job.why.contains("its file is gone"))
        })
        .await;
    let notices = place.inbox("alice").await;
    assert!(notices.last().is_some_and(|notice| notice.contains("waits for the operator")), "{notices:?}");
    assert_eq!(place.core.queue_drop(&JobFilter::default(), true).await.unwrap().changed, 1);
    place.empty().await;
    let notices = place.inbox("alice").await;
    assert!(notices.last().is_some_and(|notice| notice.contains("took the message out")), "{notices:?}");
    assert_eq!(place.fake.sent.lock().unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_can_not_be_opened_is_held_and_shown() {
    let place = Place::with(|settings| settings.queue.first_retry = LONG, Fake::default()).await;
    place.fake.down.store(true, Ordering::SeqCst);
    place.submit(&["joe@example.net"]).await;
    place.until("an attempt", async |place: &Place| place.list().await.iter().any(|job| job.attempts == 1)).await;
    place.sql("UPDATE jobs SET sealed = x'00'");
    place.core.queue_change(&JobFilter::default(), JobChange::Retry, false).await.unwrap();
    place.until("it is held", async |place: &Place| place.list().await.iter().any(|job| job.state == "held")).await;
    let job = place.list().await.remove(0);
    assert!(job.why.contains("can't be opened"), "{}", job.why);
    assert_eq!((&job.user[..], &job.to[..]), ("alice", ""));
    let one = JobFilter { ids: vec![job.id[..8].to_owned()], ..JobFilter::default() };
    assert_eq!(place.core.queue_drop(&one, true).await.unwrap().changed, 1, "though nobody can be told");
    assert_eq!(place.jobs().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_job_is_dropped_with_a_notice() {
    let place = Place::waiting(&["joe@example.net"], |_| {}).await;
    assert_eq!(place.core.queue_change(&JobFilter::default(), JobChange::Hold, true).await.unwrap().changed, 1);
    assert_eq!(place.list().await[0].state, "held");
    assert_eq!(place.core.queue_drop(&JobFilter::default(), true).await.unwrap().changed, 1);
    assert_eq!(place.jobs().await, 0);
    let notices = place.inbox("alice").await;
    assert_eq!(notices.len(), 2);
    assert!(notices[0].contains("waits for the operator") && notices[1].contains("took the message out"));
}

/// Never answers.
struct Silent;

#[async_trait]
impl Deliverer for Silent {
    fn route(&self, _: AddressKind) -> Option<String> {
        Some("smtp".to_owned())
    }

    async fn deliver(&self, _: &str, _: Delivery) -> Vec<Outcome> {
        std::future::pending().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_is_silent_counts_as_dead_soon_after_its_deadline() {
    assert_eq!(QueueSettings::default().grace, Duration::from_secs(60));
    let change = |settings: &mut Settings| {
        settings.queue.attempt = Duration::from_secs(1);
        settings.queue.grace = Duration::from_secs(1);
    };
    let place = Place::waiting(&["joe@example.net"], change).await;
    let job = place.opened().await.remove(0);
    let attempt = Attempt {
        shared: Arc::clone(&place.core.shared),
        deliverer: Arc::new(Silent),
        destination: Destination { bridge: "smtp".to_owned(), host: "example.net".to_owned() },
        jobs: vec![job.clone()],
        settled: None,
    };
    let done = tokio::time::timeout(Duration::from_secs(60), attempt.run()).await.expect("it is cut off");
    assert!(matches!(done.signal, Some(Signal::Down { scope: DeferScope::Host, .. })));
    let later = &done.pieces[0].progress.later[0];
    assert_eq!((later.job, later.attempts, later.hold), (job.id, job.attempts + 1, Hold::No));
    let mut unwritten = Unwritten::default();
    done.pieces.into_iter().for_each(|piece| unwritten.push(piece));
    unwritten.write(&place.core.shared).await;
    assert!(place.list().await[0].maybe_sent, "whether it was sent can't be known");
}
