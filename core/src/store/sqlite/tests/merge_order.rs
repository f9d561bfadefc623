//! Whatever order operations come in, and however often, the state is the one that a plain reading of the rules gives.

use super::{open_with, unsynced};
use crate::id::{InstanceId, JobId, mailbox_id_for_role};
use crate::operation::{LogEntry, Operation, Stamp, UserRecord};
use crate::seal::SealedMessage;
use crate::store::conformance::{TestInstance, message, session_key};
use crate::store::{Attestation, JobEnd, Store, Write};
use mesyx_sdk::{Flag, MailboxId, MessageId, PlacementId, Role, UserId};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const USER: UserId = UserId([1; 16]);
const FLAGS: [&str; 3] = ["\\Seen", "\\Deleted", "Later"];
const NAMES: [&str; 3] = ["A", "B/C", "D"];

fn mailbox(at: u8) -> MailboxId {
    if at == 0 { mailbox_id_for_role(USER, Role::Inbox) } else { MailboxId([0x40 + at; 16]) }
}

fn placement(at: u8) -> PlacementId {
    PlacementId([0x80 + at; 16])
}

fn message_id(at: u8) -> MessageId {
    MessageId([0xc0 + at; 16])
}

fn job(at: u8) -> JobId {
    JobId([0xe0 + at; 16])
}

fn enqueue(at: u8) -> Operation {
    Operation::Enqueue { job: job(at), message: message_id(at), user: USER, gateway: InstanceId([2; 16]) }
}

fn create(at: u8, name: &str) -> Operation {
    let role = (at == 0).then(|| "inbox".to_owned());
    Operation::CreateMailbox { user: USER, mailbox: mailbox(at), name: name.to_owned(), role }
}

fn place(at: u8, in_mailbox: u8, flag: bool) -> Operation {
    let flags = if flag { vec![FLAGS[0].to_owned()] } else { Vec::new() };
    let (placement, message) = (placement(at), message_id(at));
    Operation::Place { placement, user: USER, mailbox: mailbox(in_mailbox), message, flags }
}

fn any_operation() -> impl Strategy<Value = Operation> {
    let flags = || proptest::sample::subsequence(FLAGS.map(str::to_owned).to_vec(), 1..=2);
    let name = || proptest::sample::select(NAMES.map(str::to_owned).to_vec());
    prop_oneof![
        4 => (0..4_u8, flags()).prop_map(|(at, flags)| Operation::AddFlags { placement: placement(at), flags }),
        4 => (0..4_u8, flags()).prop_map(|(at, flags)| Operation::RemoveFlags { placement: placement(at), flags }),
        4 => (0..4_u8, 0..3_u8).prop_map(|(at, to)| Operation::Move { placement: placement(at), mailbox: mailbox(to) }),
        1 => (0..4_u8).prop_map(|at| Operation::Expunge { placement: placement(at) }),
        2 => (1..3_u8, name()).prop_map(|(at, name)| Operation::RenameMailbox { mailbox: mailbox(at), name }),
        1 => (0..3_u8).prop_map(|at| Operation::DeleteMailbox { mailbox: mailbox(at) }),
        2 => (name(), any::<bool>()).prop_map(|(name, subscribed)| Operation::Subscribe { user: USER, name, subscribed }),
        1 => any::<bool>().prop_map(|disabled| {
            Operation::PutUser { user: USER, record: UserRecord { name: "alice".to_owned(), disabled, ..UserRecord::default() } }
        }),
        1 => Just(create(0, "INBOX")),
        2 => (0..2_u8, 2..5_u8).prop_map(|(at, to)| Operation::Assign { job: job(at), gateway: InstanceId([to; 16]) }),
        1 => (0..2_u8).prop_map(|at| Operation::Outcome { job: job(at), end: JobEnd::Delivered }),
    ]
}

/// A history: everything that is named is made somewhere, at any time; three instances stamp in turn.
fn any_history() -> impl Strategy<Value = Vec<LogEntry>> {
    let placed = proptest::collection::vec((0..3_u8, any::<bool>()), 4);
    let others = proptest::collection::vec(any_operation(), 0..25);
    let made = (placed, others).prop_flat_map(|(placed, others)| {
        let mut all = vec![
            Operation::PutUser { user: USER, record: UserRecord { name: "alice".to_owned(), ..UserRecord::default() } },
            create(0, "INBOX"),
            create(1, "A"),
            create(2, "D"),
            enqueue(0),
            enqueue(1),
        ];
        all.extend(placed.into_iter().zip(0..).map(|((to, flag), at)| place(at, to, flag)));
        all.extend(others);
        let length = all.len();
        (Just(all).prop_shuffle(), proptest::collection::vec(2..5_u8, length))
    });
    made.prop_map(|(operations, instances)| {
        let mut sequences = [0_u64; 5];
        let stamped = operations.into_iter().zip(instances).zip(1_u64..).map(|((operation, instance), counter)| {
            sequences[usize::from(instance)] += 1;
            let stamp = Stamp { day: 100, counter, instance: InstanceId([instance; 16]) };
            LogEntry { sequence: sequences[usize::from(instance)], stamp, operation }
        });
        stamped.collect()
    })
}

/// What a user sees, without the numbers that are each instance's own.
#[derive(Debug, Default, PartialEq)]
struct State {
    disabled: bool,
    names: BTreeMap<MailboxId, String>,
    messages: BTreeMap<MessageId, (MailboxId, BTreeSet<String>)>,
    subscribed: BTreeSet<String>,
    unseen: BTreeMap<MailboxId, u32>,
    /// Who is to bring each job.
    jobs: BTreeMap<JobId, InstanceId>,
}

/// The latest write of a register.
type Latest<T> = (Stamp, T);

fn write<K: Ord, T>(registers: &mut BTreeMap<K, Latest<T>>, key: K, stamp: Stamp, value: T) {
    if registers.get(&key).is_none_or(|(before, _)| *before < stamp) {
        registers.insert(key, (stamp, value));
    }
}

/// The rules, read plainly: over all operations at once.
fn fold(history: &[LogEntry]) -> State {
    let (mut names, mut places, mut flags) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let (mut subscribed, mut users) = (BTreeMap::new(), BTreeMap::new());
    let (mut expunged, mut deleted) = (BTreeSet::new(), BTreeSet::new());
    let (mut jobs, mut done) = (BTreeMap::new(), BTreeSet::new());
    for LogEntry { stamp, operation, .. } in history {
        let mut write_flags = |placement: &PlacementId, changed: &[String], set: bool| {
            changed.iter().for_each(|flag| write(&mut flags, (*placement, flag.clone()), *stamp, set));
        };
        match operation {
            Operation::PutUser { record, .. } => write(&mut users, (), *stamp, record.disabled),
            Operation::CreateMailbox { mailbox, name, .. } | Operation::RenameMailbox { mailbox, name } => {
                write(&mut names, *mailbox, *stamp, name.clone());
            }
            Operation::Subscribe { name, subscribed: set, .. } => write(&mut subscribed, name.clone(), *stamp, *set),
            Operation::Place { placement, mailbox, flags, .. } => {
                write(&mut places, *placement, *stamp, *mailbox);
                write_flags(placement, flags, true);
            }
            Operation::Move { placement, mailbox } => write(&mut places, *placement, *stamp, *mailbox),
            Operation::AddFlags { placement, flags } => write_flags(placement, flags, true),
            Operation::RemoveFlags { placement, flags } => write_flags(placement, flags, false),
            Operation::Expunge { placement } => drop(expunged.insert(*placement)),
            Operation::DeleteMailbox { mailbox: gone } => drop(deleted.insert(*gone)),
            Operation::Enqueue { job, gateway, .. } | Operation::Assign { job, gateway } => {
                write(&mut jobs, *job, *stamp, *gateway);
            }
            Operation::Outcome { job, .. } => drop(done.insert(*job)),
            _ => panic!("not made here"),
        }
    }
    deleted.remove(&mailbox(0));
    let mut state = State { disabled: users[&()].1, ..State::default() };
    state.names = names.into_iter().filter(|(id, _)| !deleted.contains(id)).map(|(id, (_, name))| (id, name)).collect();
    state.subscribed = subscribed.into_iter().filter(|(_, (_, set))| *set).map(|(name, _)| name).collect();
    for (placement, (_, at)) in places.into_iter().filter(|(placement, _)| !expunged.contains(placement)) {
        let at = if deleted.contains(&at) { mailbox(0) } else { at };
        let set = FLAGS.iter().filter(|flag| flags.get(&(placement, (**flag).to_owned())).is_some_and(|(_, set)| *set));
        let set: BTreeSet<String> = set.map(|flag| (*flag).to_owned()).collect();
        *state.unseen.entry(at).or_default() += u32::from(!set.contains("\\Seen"));
        state.messages.insert(MessageId([placement.0[0] + 0x40; 16]), (at, set));
    }
    state.unseen.retain(|_, count| *count > 0);
    state.jobs = jobs.into_iter().filter(|(job, _)| !done.contains(job)).map(|(job, (_, to))| (job, to)).collect();
    state
}

/// Jobs of other instances have no content here, so that the store does not list them.
fn jobs_in(directory: &std::path::Path) -> BTreeMap<JobId, InstanceId> {
    let connection = rusqlite::Connection::open(directory.join(super::FILE)).expect("the file opens");
    let sql = "SELECT j.job, i.instance FROM jobs j JOIN instances i ON i.id = j.gateway";
    let mut select = connection.prepare(sql).expect("a statement");
    let rows = select.query_map([], |row| Ok((JobId(row.get(0)?), InstanceId(row.get(1)?)))).expect("rows");
    rows.collect::<Result<_, _>>().expect("rows")
}

async fn read(store: &dyn Store) -> State {
    let users = store.users().await.expect("users");
    let mut state = State { disabled: users[0].record.disabled, ..State::default() };
    let subscriptions = store.subscriptions(USER).await.expect("subscriptions");
    state.subscribed = subscriptions.iter().map(|name| name.as_str().to_owned()).collect();
    for mailbox in store.mailboxes(USER).await.expect("mailboxes") {
        // Two mailboxes may have come to one name: the suffix has tests of its own.
        let shown = mailbox.name.as_str();
        let name = shown.split_once(" ~").map_or(shown, |(name, _)| name).to_owned();
        state.names.insert(mailbox.id, name);
        let snapshot = store.snapshot(USER, mailbox.id).await.expect("a snapshot");
        let status = store.status(USER, mailbox.id).await.expect("status");
        assert_eq!(status.messages as usize, snapshot.entries.len());
        assert_eq!(status.size, snapshot.entries.iter().map(|entry| entry.padded_size).sum::<u64>());
        if status.unseen > 0 {
            state.unseen.insert(mailbox.id, status.unseen);
        }
        for entry in snapshot.entries {
            let flags = entry.flags.iter().map(|flag: &Flag| flag.as_str().to_owned()).collect();
            let again = state.messages.insert(entry.message, (mailbox.id, flags));
            assert!(again.is_none(), "a placement is in one mailbox");
        }
    }
    state
}

fn contents() -> Vec<(SealedMessage, Arc<Attestation>)> {
    let key = session_key(USER);
    let attestation = Arc::new(Attestation { instance: InstanceId([2; 16]), digests: vec![], signature: vec![] });
    (0..4).map(|at| (SealedMessage { message: message_id(at), ..message(&key, 20) }, attestation.clone())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn merging_is_commutative_and_idempotent(
        (history, order) in any_history().prop_flat_map(|history| {
            let twice: Vec<LogEntry> = history.iter().chain(&history).cloned().collect();
            (Just(history), Just(twice).prop_shuffle())
        }),
        groups in proptest::collection::vec(1..9_usize, 1..60),
        content_at in 0..60_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let directory = tempfile::tempdir().expect("a directory");
            let store = open_with(unsynced())(directory.path(), TestInstance(1));
            let (mut rest, mut step) = (&order[..], 0);
            while !rest.is_empty() {
                let (now, later) = rest.split_at(groups[step % groups.len()].min(rest.len()));
                // Content is brought before, amid or after; early content that nothing wants yet is not kept.
                let messages = if step >= content_at { contents() } else { Vec::new() };
                store.write(Write::Merge { entries: now.to_vec(), messages }).await.expect("merged");
                (rest, step) = (later, step + 1);
            }
            store.write(Write::Merge { entries: Vec::new(), messages: contents() }).await.expect("merged");
            let state = State { jobs: jobs_in(directory.path()), ..read(&*store).await };
            assert_eq!(state, fold(&history));
            let totals = store.totals().await.expect("totals");
            assert_eq!(totals.log_entries as usize, history.len());
            assert_eq!(totals.messages as usize, state.messages.len(), "content stays for what is placed, and only that");
        });
    }
}
