//! The queue as a whole, over a real store, with a deliverer that says what it is told to.

mod keys;
mod order;
mod trouble;

use super::*;
use crate::operation::Operation;
use crate::settings::Settings;
use crate::store::JobChange;
use crate::testing;
use mesyx_sdk::{
    DeferScope, Dsn, Envelope, ErrorKind, MessageId, Notify, Recipient, RecipientStatus, ReturnPart, Role, Session,
};
use operate::JobFilter;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tempfile::TempDir;

/// What was delivered: the recipients and the bytes.
type Sent = Vec<(Vec<String>, Vec<u8>)>;

/// Answers as it is told to; unless told, everything is delivered.
#[derive(Default)]
pub(crate) struct Fake {
    sent: Mutex<Sent>,
    /// The next answers for a recipient.
    answers: Mutex<HashMap<String, VecDeque<Outcome>>>,
    /// Panics once for this recipient.
    panics: Mutex<Option<String>>,
    /// Panics each time for this recipient.
    always_panics: Mutex<Option<String>>,
    /// Every host is down.
    pub(crate) down: AtomicBool,
    /// No bridge is there.
    gone: AtomicBool,
    /// Recipients that are being attempted now, and whether one was attempted twice at a time.
    now: Mutex<(Vec<String>, bool)>,
    pause: Duration,
}

impl Fake {
    fn answer(&self, to: &str, outcome: Outcome) {
        self.answers.lock().unwrap().entry(to.to_owned()).or_default().push_back(outcome);
    }

    fn sent_to(&self, to: &str) -> usize {
        self.sent.lock().unwrap().iter().flat_map(|(all, _)| all).filter(|one| *one == to).count()
    }
}

#[async_trait]
impl Deliverer for Fake {
    fn route(&self, kind: AddressKind) -> Option<String> {
        let gone = self.gone.load(Ordering::SeqCst);
        (kind == AddressKind::Mail && !gone).then(|| "smtp".to_owned())
    }

    async fn deliver(&self, bridge: &str, job: Delivery) -> Vec<Outcome> {
        assert_eq!(bridge, "smtp");
        let to: Vec<String> = job.recipients.iter().map(|to| to.address.to_string()).collect();
        if self.panics.lock().unwrap().take_if(|who| to.contains(who)).is_some() {
            panic!("told to");
        }
        let always = self.always_panics.lock().unwrap().as_ref().is_some_and(|who| to.contains(who));
        assert!(!always, "told to, each time");
        {
            let mut now = self.now.lock().unwrap();
            now.1 |= to.iter().any(|one| now.0.contains(one));
            now.0.extend(to.iter().cloned());
        }
        tokio::time::sleep(self.pause).await;
        self.now.lock().unwrap().0.retain(|one| !to.contains(one));
        if self.down.load(Ordering::SeqCst) {
            return vec![deferred(DeferScope::Host, "down"); to.len()];
        }
        let mut answers = self.answers.lock().unwrap();
        let outcomes: Vec<Outcome> =
            to.iter().map(|to| answers.get_mut(to).and_then(VecDeque::pop_front).unwrap_or_else(delivered)).collect();
        let taken = to.iter().zip(&outcomes).filter(|(_, outcome)| matches!(outcome, Outcome::Delivered { .. }));
        let taken: Vec<String> = taken.map(|(to, _)| to.clone()).collect();
        if !taken.is_empty() {
            self.sent.lock().unwrap().push((taken, job.content.to_vec()));
        }
        outcomes
    }
}

fn delivered() -> Outcome {
    Outcome::Delivered { remote_id: None, dsn: false }
}

fn failed(why: &str) -> Outcome {
    Outcome::Failed { why: why.to_owned() }
}

fn deferred(scope: DeferScope, why: &str) -> Outcome {
    Outcome::Deferred { why: why.to_owned(), retry_after: None, scope, maybe_sent: false }
}

pub(crate) struct Place {
    _directory: TempDir,
    pub(crate) settings: Settings,
    pub(crate) core: Arc<Core>,
    pub(crate) fake: Arc<Fake>,
}

impl Place {
    async fn new() -> Self {
        Self::with(|_| {}, Fake::default()).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Settings), fake: Fake) -> Self {
        let directory = TempDir::new().unwrap();
        let mut settings = testing::settings(directory.path());
        settings.queue.first_retry = Duration::from_millis(200);
        change(&mut settings);
        let core = testing::core(&settings, &["alice", "bob"]).await;
        let fake = Arc::new(fake);
        core.start_queue(fake.clone());
        Self { _directory: directory, settings, core, fake }
    }

    /// Ends the program and starts it again.
    async fn restart(&mut self) {
        self.core.close().await;
        self.core = Core::open(self.settings.clone()).await.unwrap();
        self.core.start_queue(self.fake.clone());
    }

    async fn login(&self, name: &str) -> Arc<dyn Session> {
        testing::login(&self.core, name).await
    }

    pub(crate) async fn submit(&self, to: &[&str]) -> MessageId {
        self.submit_as(to.iter().map(|to| recipient(to)).collect(), Some("alice@example.org"), Dsn::default()).await
    }

    async fn submit_as(&self, to: Vec<Recipient>, from: Option<&str>, dsn: Dsn) -> MessageId {
        let session = self.login("alice").await;
        let envelope = envelope(to, from, dsn);
        let id = envelope.id;
        session.submit(envelope).await.unwrap();
        id
    }

    /// The messages in a user's inbox.
    async fn inbox(&self, name: &str) -> Vec<String> {
        let session = self.login(name).await;
        let mailboxes = session.mailboxes().await.unwrap();
        let inbox = mailboxes.into_iter().find(|mailbox| mailbox.role == Some(Role::Inbox)).unwrap().id;
        let entries = session.snapshot(inbox, false).await.unwrap().entries;
        let uids: Vec<_> = entries.iter().map(|entry| entry.uid).collect();
        if uids.is_empty() {
            return Vec::new();
        }
        let bodies = session.bodies(inbox, &uids).await.unwrap();
        bodies.into_iter().map(|(_, body)| String::from_utf8_lossy(&body).into_owned()).collect()
    }

    async fn jobs(&self) -> u64 {
        self.core.queue_status().await.unwrap().jobs
    }

    /// Waits until it is so.
    pub(crate) async fn until(&self, what: &str, mut is_so: impl AsyncFnMut(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(30);
        while !is_so(self).await {
            assert!(Instant::now() < end, "never: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn empty(&self) {
        self.until("the queue is empty", async |place: &Self| place.jobs().await == 0).await;
    }

    pub(crate) async fn list(&self) -> Vec<operate::JobStatus> {
        self.core.queue_list(&JobFilter::default(), 1000).await.unwrap()
    }
}

fn recipient(address: &str) -> Recipient {
    Recipient::new(address.parse().unwrap())
}

const MESSAGE: &[u8] =
    b"Return-Path: <alice@example.org>\r\nReceived: from here by there\r\nFrom: alice@example.org\r\n\
Message-ID: <one@example.org>\r\nSubject: out\r\n\r\nFar away.\r\n";

fn envelope(to: Vec<Recipient>, from: Option<&str>, dsn: Dsn) -> Envelope {
    Envelope { dsn, ..testing::envelope(from, to, MESSAGE) }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_submitted_goes_out_once_and_local_copies_stay() {
    let place = Place::new().await;
    place.submit(&["joe@example.net", "ann@example.net", "bob@example.org", "eve@example.com"]).await;
    place.empty().await;
    let sent = place.fake.sent.lock().unwrap().clone();
    let mut groups: Vec<Vec<String>> = sent.iter().map(|(to, _)| to.clone()).collect();
    groups.sort();
    assert_eq!(groups, [vec!["eve@example.com"], vec!["joe@example.net", "ann@example.net"]], "one attempt a domain");
    for (_, bytes) in &sent {
        let return_path = bytes.windows(12).any(|window| window.eq_ignore_ascii_case(b"return-path:"));
        assert!(!return_path, "that is the last hop's to write");
        assert!(bytes.ends_with(b"Far away.\r\n"));
    }
    assert_eq!(place.inbox("bob").await.len(), 1);
    assert_eq!(place.inbox("alice").await.len(), 0, "nobody asked to be told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_told_to_the_sender() {
    let place = Place::new().await;
    place.fake.answer("joe@example.net", failed("mx.example.net said: 550 5.1.1 no\r\nsuch: user"));
    place.submit(&["joe@example.net", "ann@example.net"]).await;
    place.empty().await;
    assert_eq!(place.fake.sent_to("ann@example.net"), 1);
    place.until("a notice", async |place: &Place| place.inbox("alice").await.len() == 1).await;
    let notice = place.inbox("alice").await.remove(0);
    for part in [
        "Auto-Submitted: auto-replied\r\n",
        "Return-Path: <>\r\n",
        "report-type=delivery-status",
        "In-Reply-To: <one@example.org>\r\n",
        "Final-Recipient: rfc822; joe@example.net\r\n",
        "Action: failed\r\n",
        "Status: 5.1.1\r\n",
        "Subject: out\r\n",
    ] {
        assert!(notice.contains(part), "{part:?} in {notice}");
    }
    assert!(!notice.contains("Far away."), "headers only, unless the sender wants all");
    assert!(!notice.contains("ann@"), "who got it is not in it");
    assert!(!notice.contains("\r\nsuch: user"), "no line of others is a line of ours");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_notice_to_a_null_sender_nor_to_who_wants_none() {
    let place = Place::new().await;
    for to in ["null@example.net", "never@example.net", "full@example.net"] {
        place.fake.answer(to, failed("no"));
    }
    place.submit_as(vec![recipient("null@example.net")], None, Dsn::default()).await;
    let never = Recipient { notify: Some(Notify::default()), ..recipient("never@example.net") };
    place.submit_as(vec![never], Some("alice@example.org"), Dsn::default()).await;
    place.empty().await;
    assert_eq!(place.inbox("alice").await.len(), 0);
    let dsn = Dsn { ret: Some(ReturnPart::Full), envid: Some("Q 1".into()) };
    let failure = Some(Notify { failure: true, ..Notify::default() });
    let original = Some("rfc822;Full@example.net".to_owned());
    let full = Recipient { notify: failure, original, ..recipient("full@example.net") };
    place.submit_as(vec![full], Some("alice+tag@example.org"), dsn).await;
    place.empty().await;
    let notices = place.inbox("alice").await;
    assert_eq!(notices.len(), 1);
    for part in [
        "Far away.",
        "Original-Envelope-Id: Q 1\r\n",
        "Original-Recipient: rfc822; Full@example.net\r\n",
        "To: <alice+tag@example.org>",
    ] {
        assert!(notices[0].contains(part), "{part}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn success_is_told_where_the_next_hop_does_not() {
    let place = Place::new().await;
    place.fake.answer("tells@example.net", Outcome::Delivered { remote_id: None, dsn: true });
    let success = Some(Notify { success: true, ..Notify::default() });
    let to = ["tells@example.net", "mute@example.net"].map(|to| Recipient { notify: success, ..recipient(to) });
    place.submit_as(to.to_vec(), Some("alice@example.org"), Dsn::default()).await;
    place.empty().await;
    let notices = place.inbox("alice").await;
    assert_eq!(notices.len(), 1);
    assert!(notices[0].contains("Action: relayed\r\n") && notices[0].contains("mute@example.net"));
    assert!(!notices[0].contains("tells@example.net"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deferral_is_tried_again_and_a_panic_too() {
    let place = Place::new().await;
    for _ in 0..2 {
        place.fake.answer("joe@example.net", deferred(DeferScope::Recipient, "451 4.2.0 later"));
    }
    *place.fake.panics.lock().unwrap() = Some("ann@example.com".into());
    place.submit(&["joe@example.net", "ann@example.com"]).await;
    place
        .until("a deferral is shown", async |place: &Place| {
            place.list().await.iter().any(|job| job.state == "deferred" && job.why == "451 4.2.0 later")
        })
        .await;
    place.empty().await;
    assert_eq!((place.fake.sent_to("joe@example.net"), place.fake.sent_to("ann@example.com")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_outlive_the_program() {
    let mut place = Place::new().await;
    place.fake.answer("joe@example.net", deferred(DeferScope::Host, "connection refused"));
    place.submit(&["joe@example.net"]).await;
    place.until("an attempt", async |place: &Place| place.list().await.iter().any(|job| job.attempts == 1)).await;
    place.restart().await;
    place.empty().await;
    assert_eq!(place.fake.sent_to("joe@example.net"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_sent_in_time_fails_and_delay_is_told_before() {
    let change = |settings: &mut Settings| {
        settings.queue.expire = Duration::from_secs(3);
        settings.queue.delay_notice = Duration::from_secs(1);
    };
    let place = Place::with(change, Fake::default()).await;
    for _ in 0..100 {
        place.fake.answer("joe@example.net", deferred(DeferScope::Host, "no route"));
    }
    place.submit(&["joe@example.net"]).await;
    place.empty().await;
    let notices = place.inbox("alice").await;
    assert_eq!(notices.len(), 2, "one of the delay, one of the end");
    assert!(notices[0].contains("Action: delayed\r\n") && notices[0].contains("Will-Retry-Until: "));
    assert!(notices[1].contains("Action: failed\r\n") && notices[1].contains("no route"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_relays_without_a_bridge_and_strangers_never() {
    let place = Place::new().await;
    let session = place.login("alice").await;
    let far = "joe@example.net".parse().unwrap();
    assert_eq!(session.recipient(&far).await.unwrap(), RecipientStatus::Remote);
    assert_eq!(place.core.recipient(&far, &mesyx_sdk::Sender::Stranger), RecipientStatus::Foreign);
    let strange = envelope(vec![recipient("joe@example.net")], Some("alice@example.org"), Dsn::default());
    let refused = place.core.accept("smtp", vec![strange]).await.pop().unwrap().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Forbidden);
    place.fake.gone.store(true, Ordering::SeqCst);
    assert!(matches!(session.recipient(&far).await.unwrap(), RecipientStatus::Refused(_)));
    let refused = envelope(vec![recipient("joe@example.net")], Some("alice@example.org"), Dsn::default());
    assert_eq!(session.submit(refused).await.unwrap_err().kind(), ErrorKind::Forbidden);
    assert_eq!(place.jobs().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_holds_releases_and_drops() {
    let place = Place::new().await;
    for to in ["joe@example.net", "ann@example.com"] {
        for _ in 0..100 {
            place.fake.answer(to, deferred(DeferScope::Recipient, "451 busy"));
        }
    }
    place.submit(&["joe@example.net", "ann@example.com"]).await;
    place.until("attempts", async |place: &Place| place.list().await.iter().all(|job| job.attempts > 0)).await;
    let net = JobFilter { destination: Some("EXAMPLE.net".into()), ..JobFilter::default() };
    let until = async |filter: &JobFilter, change| loop {
        let changed = place.core.queue_change(filter, change, false).await.unwrap();
        if changed.busy == 0 {
            break changed.changed;
        }
    };
    assert_eq!(until(&net, JobChange::Hold).await, 1);
    let before = place.list().await.into_iter().find(|job| job.to == "joe@example.net").unwrap();
    assert_eq!(before.state, "held");
    tokio::time::sleep(Duration::from_millis(500)).await;
    let after = place.list().await.into_iter().find(|job| job.to == "joe@example.net").unwrap();
    assert_eq!(after.attempts, before.attempts, "what is held is left alone");
    place.fake.answers.lock().unwrap().clear();
    let held = JobFilter { held: true, ..JobFilter::default() };
    assert_eq!(until(&held, JobChange::Release).await, 1);
    place.empty().await;
    assert_eq!((place.fake.sent_to("joe@example.net"), place.fake.sent_to("ann@example.com")), (1, 1));

    place.fake.answer("joe@example.net", deferred(DeferScope::Recipient, "451 busy"));
    let change = |settings: &mut Settings| settings.queue.first_retry = Duration::from_secs(600);
    let mut slow = place.settings.clone();
    change(&mut slow);
    place.core.reconfigure(slow).unwrap();
    place.submit(&["joe@example.net"]).await;
    place.until("an attempt", async |place: &Place| place.list().await.iter().any(|job| job.attempts == 1)).await;
    place
        .until("dropped", async |place: &Place| {
            place.core.queue_drop(&JobFilter::default(), true).await.unwrap().changed == 1
        })
        .await;
    assert_eq!(place.jobs().await, 0);
    let notices = place.inbox("alice").await;
    assert!(notices.last().is_some_and(|notice| notice.contains("took the message out of the queue")), "{notices:?}");
    assert_eq!(place.fake.sent_to("joe@example.net"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_once_all_is_sent_and_nothing_of_it_is_in_the_log() {
    let place = Place::new().await;
    place.submit(&["joe@example.net"]).await;
    place.empty().await;
    let instance = crate::store::Attest::instance(&*place.core.shared.instance);
    let log = place.core.shared.store.log(instance, 0, 10_000).await.unwrap();
    let of_queue = |entry: &&crate::operation::LogEntry| {
        matches!(entry.operation, Operation::Enqueue { .. } | Operation::Outcome { .. })
    };
    assert_eq!(log.iter().filter(of_queue).count(), 2);
    for entry in log.iter().filter(of_queue) {
        assert!(minicbor::to_vec(&entry.operation).unwrap().len() < 90, "ids, and nothing else");
    }
    place.core.close().await;
    let file = place.settings.data_dir.join("store/store.db");
    let connection = rusqlite::Connection::open(file).unwrap();
    for table in ["jobs", "queued_messages", "queued_bodies"] {
        let count: i64 = connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
        assert_eq!(count, 0, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_user_can_not_fill_the_queue() {
    let place = Place::with(|settings| settings.queue.jobs_per_user = 3, Fake::default()).await;
    for to in ["a@example.net", "b@example.net"] {
        for _ in 0..100 {
            place.fake.answer(to, deferred(DeferScope::Host, "down"));
        }
    }
    place.submit(&["a@example.net", "b@example.net"]).await;
    let session = place.login("alice").await;
    let more = envelope(vec![recipient("c@example.com"), recipient("d@example.com")], None, Dsn::default());
    assert_eq!(session.submit(more).await.unwrap_err().kind(), ErrorKind::OverQuota);
    assert_eq!(place.jobs().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn retrying_also_tries_hosts_that_are_left_alone() {
    let place = Place::with(|settings| settings.queue.first_retry = Duration::from_secs(3600), Fake::default()).await;
    place.fake.down.store(true, Ordering::SeqCst);
    for number in 0..30 {
        place.submit(&[&format!("to{number}@example.net")]).await;
    }
    place
        .until("all are put off", async |place: &Place| {
            place.list().await.iter().all(|job| !job.why.is_empty() || job.attempts == 0)
        })
        .await;
    place.fake.down.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(place.fake.sent.lock().unwrap().len(), 0, "the host is left alone");
    place.core.queue_change(&JobFilter::default(), JobChange::Retry, false).await.unwrap();
    place.empty().await;
    assert_eq!(place.fake.sent.lock().unwrap().len(), 30);
}

/// Jobs that find no place among those that wait in memory are not forgotten: they follow as soon as there is one, not when all is looked
/// through again.
#[tokio::test(flavor = "multi_thread")]
async fn what_finds_no_place_in_memory_follows_at_once() {
    let one_at_a_time = |settings: &mut Settings| settings.queue.attempts_per_destination = 1;
    let fake = Fake { pause: Duration::from_millis(10), ..Fake::default() };
    let place = Arc::new(Place::with(one_at_a_time, fake).await);
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let place = Arc::clone(&place);
        senders.spawn(async move {
            let session = place.login("alice").await;
            for _ in 0..100 {
                let to = vec![recipient("joe@example.net")];
                session.submit(envelope(to, Some("alice@example.org"), Dsn::default())).await.unwrap();
            }
        });
    }
    while senders.join_next().await.is_some() {}
    let left = place.jobs().await;
    assert!(left > 300, "more than wait in memory for one destination: {left}");
    place.empty().await;
    assert_eq!(place.fake.sent_to("joe@example.net"), 800);
}

/// How fast the queue itself is, and what waiting jobs cost: `cargo test --release -p mesyx-core --lib -- --ignored --nocapture rates`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures"]
async fn rates_and_memory() {
    let count: usize = std::env::var("JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(10_000);
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).map(str::to_owned);
        line.unwrap_or_default()
    };
    let change = |settings: &mut Settings| {
        settings.queue.jobs_per_user = u64::MAX;
        settings.pgp.policy = crate::pgp::Policy::Off;
        settings.queue.first_retry = Duration::from_secs(3600);
    };
    let place = Arc::new(Place::with(change, Fake { pause: Duration::from_millis(2), ..Fake::default() }).await);
    place.fake.down.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    let sessions = 32;
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..sessions {
        let place = Arc::clone(&place);
        senders.spawn(async move {
            let session = place.login("alice").await;
            for _ in 0..count / sessions {
                let to = vec![recipient("joe@example.net")];
                session.submit(envelope(to, Some("alice@example.org"), Dsn::default())).await.unwrap();
            }
        });
    }
    while senders.join_next().await.is_some() {}
    println!("{count} submitted in {:?}; {} wait; {}", begun.elapsed(), place.jobs().await, resident());
    tokio::time::sleep(Duration::from_secs(5)).await;
    println!("after a while: {}", resident());
    place.fake.down.store(false, Ordering::SeqCst);
    place.core.queue_change(&JobFilter::default(), JobChange::Retry, false).await.unwrap();
    let begun = Instant::now();
    while place.jobs().await > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("all sent in {:?}; {}", begun.elapsed(), resident());
}
