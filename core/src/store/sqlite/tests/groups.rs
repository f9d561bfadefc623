//! Groups: whatever order operations come in, the state is that of the rules; and a member sees what a plain model says.

use super::{open_with, unsynced};
use crate::id::{InstanceId, KeysetId, SessionKeyId, mailbox_id_for_role};
use crate::operation::{LogEntry, Operation, Stamp, UserRecord};
use crate::seal::{SealedMessage, SealedSessionKey};
use crate::store::conformance::{TestInstance, message};
use crate::store::{Attestation, GroupKey, GroupWrite, Placing, Speaking, Store, Write};
use bytes::Bytes;
use mesyx_sdk::{Flag, FlagChange, MailboxId, MessageId, PlacementId, Role, Uid, UserId};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const GROUP: UserId = UserId([9; 16]);
const USERS: [UserId; 3] = [UserId([1; 16]), UserId([2; 16]), UserId([3; 16])];
const FLAGS: [&str; 3] = ["\\Seen", "\\Flagged", "Later"];

fn log() -> MailboxId {
    mailbox_id_for_role(GROUP, Role::Inbox)
}

fn epoch(at: u8) -> SessionKeyId {
    SessionKeyId([0x60 + at; 16])
}

fn epoch_key(id: SessionKeyId) -> Arc<SealedSessionKey> {
    Arc::new(SealedSessionKey { id, user: GROUP, keyset: KeysetId(id.0), packets: Bytes::new() })
}

fn placement(at: u8) -> PlacementId {
    PlacementId([0x80 + at; 16])
}

fn message_id(at: u8) -> MessageId {
    MessageId([0xc0 + at; 16])
}

/// Six lines, two of each epoch.
const LINES: u8 = 6;

fn any_operation() -> impl Strategy<Value = Operation> {
    let user = || proptest::sample::select(USERS[..2].to_vec());
    let flags = || proptest::sample::subsequence(FLAGS.map(str::to_owned).to_vec(), 1..=2);
    let rank = proptest::option::of(0..4_u8);
    let key = (0..3_u8, user(), 0..2_u8).prop_map(|(at, user, keyset)| Operation::PutGroupKey {
        group: GROUP,
        epoch: epoch(at),
        user,
        keyset: KeysetId([keyset; 16]),
        packets: vec![keyset],
    });
    prop_oneof![
        2 => (user(), rank).prop_map(|(user, rank)| Operation::SetMember { group: GROUP, user, rank }),
        4 => key,
        1 => (user(), 0..3_u8).prop_map(|(user, at)| Operation::ForgetGroupKeys { group: GROUP, user, epochs: vec![epoch(at)] }),
        3 => (user(), 0..LINES).prop_map(|(user, at)| Operation::ReadTo { group: GROUP, user, placement: placement(at) }),
        6 => (user(), 0..LINES, flags(), any::<bool>()).prop_map(|(user, at, flags, set)| {
            Operation::MemberFlags { user, placement: placement(at), flags, set }
        }),
        1 => (user(), 0..LINES).prop_map(|(user, at)| Operation::MemberExpunge { user, placement: placement(at) }),
        1 => Just(Operation::RemoveUser { user: USERS[1] }),
    ]
}

fn any_history() -> impl Strategy<Value = Vec<LogEntry>> {
    let made = proptest::collection::vec(any_operation(), 0..30).prop_flat_map(|others| {
        let put = |user: UserId| Operation::PutUser {
            user,
            record: UserRecord { name: user.to_string(), ..UserRecord::default() },
        };
        let mut all = vec![put(USERS[0]), put(USERS[1]), Operation::PutGroup { group: GROUP }];
        all.extend((0..LINES).map(|at| Operation::Place {
            placement: placement(at),
            user: GROUP,
            mailbox: log(),
            message: message_id(at),
            flags: vec!["\\Seen".to_owned()],
        }));
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

type Seen = BTreeMap<UserId, BTreeMap<MessageId, BTreeSet<String>>>;
/// A placement's flag for one user: when it was written last, and whether it was set.
type Registers = BTreeMap<(UserId, PlacementId, String), (Stamp, bool)>;

/// The rules, read plainly. The order of lines is each instance's own: `uids` is that of this one.
fn fold(history: &[LogEntry], uids: &BTreeMap<u8, Uid>) -> (BTreeMap<UserId, u8>, Seen) {
    let (mut ranks, mut keys) = (BTreeMap::new(), BTreeMap::<UserId, BTreeSet<u8>>::new());
    let (mut forgotten, mut gone, mut removed) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut flags = Registers::new();
    let mut markers: BTreeMap<UserId, (Uid, Stamp)> = BTreeMap::new();
    for LogEntry { stamp, operation, .. } in history {
        match operation {
            Operation::SetMember { user, rank, .. } => {
                let latest = ranks.entry(*user).or_insert((*stamp, *rank));
                *latest = (*latest).max((*stamp, *rank));
            }
            Operation::PutGroupKey { epoch, user, .. } => {
                keys.entry(*user).or_default().insert(epoch.0[0] - 0x60);
            }
            Operation::ForgetGroupKeys { user, epochs, .. } => {
                forgotten.extend(epochs.iter().map(|epoch| (*user, epoch.0[0] - 0x60)));
            }
            Operation::ReadTo { user, placement, .. } => {
                let at = (uids[&(placement.0[0] - 0x80)], *stamp);
                let marker = markers.entry(*user).or_insert(at);
                *marker = (*marker).max(at);
            }
            Operation::MemberFlags { user, placement, flags: written, set } => {
                for flag in written {
                    let latest = flags.entry((*user, *placement, flag.clone())).or_insert((*stamp, *set));
                    *latest = (*latest).max((*stamp, *set));
                }
            }
            Operation::MemberExpunge { user, placement } => drop(gone.insert((*user, *placement))),
            Operation::RemoveUser { user } => drop(removed.insert(*user)),
            _ => {}
        }
    }
    let ranks = ranks.into_iter().filter(|(user, _)| !removed.contains(user));
    let ranks = ranks.filter_map(|(user, (_, rank))| Some((user, rank?))).collect();
    let mut seen = Seen::new();
    for user in USERS[..2].iter().filter(|user| !removed.contains(user)) {
        for at in 0..LINES {
            let has =
                keys.get(user).is_some_and(|keys| keys.contains(&(at / 2))) && !forgotten.contains(&(*user, at / 2));
            if !has || gone.contains(&(*user, placement(at))) {
                continue;
            }
            let marker = markers.get(user);
            let is_set = |flag: &str| {
                let register = flags.get(&(*user, placement(at), flag.to_owned()));
                if flag != "\\Seen" {
                    return register.is_some_and(|(_, set)| *set);
                }
                let read = marker.is_some_and(|(up_to, _)| uids[&at] <= *up_to);
                match register {
                    Some((stamp, set)) if !read || marker.is_some_and(|(_, marked)| stamp > marked) => *set,
                    _ => read,
                }
            };
            let set = FLAGS.iter().filter(|flag| is_set(flag)).map(|flag| (*flag).to_owned()).collect();
            seen.entry(*user).or_default().insert(message_id(at), set);
        }
    }
    (ranks, seen)
}

async fn read(store: &dyn Store) -> (BTreeMap<UserId, u8>, Seen) {
    let group = store.groups(Some(GROUP)).await.expect("groups").pop().expect("the group");
    let mut seen = Seen::new();
    for user in &USERS[..2] {
        let Ok(snapshot) = store.snapshot(*user, log()).await else { continue };
        let status = store.status(*user, log()).await.expect("status");
        assert_eq!(status.messages as usize, snapshot.entries.len());
        let unseen = snapshot.entries.iter().filter(|entry| !entry.flags.contains(&Flag::Seen));
        assert_eq!(status.unseen as usize, unseen.count());
        for entry in snapshot.entries {
            let flags = entry.flags.iter().map(|flag| flag.as_str().to_owned()).collect();
            seen.entry(*user).or_default().insert(entry.message, flags);
        }
    }
    (group.members.into_iter().collect(), seen)
}

fn contents() -> Vec<(SealedMessage, Arc<Attestation>)> {
    let attestation = Arc::new(Attestation { instance: InstanceId([2; 16]), digests: vec![], signature: vec![] });
    let line = |at: u8| SealedMessage { message: message_id(at), ..message(&epoch_key(epoch(at / 2)), 20) };
    (0..LINES).map(|at| (line(at), attestation.clone())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn merging_groups_is_commutative_and_idempotent(
        (history, order) in any_history().prop_flat_map(|history| {
            let twice: Vec<LogEntry> = history.iter().chain(&history).cloned().collect();
            (Just(history), Just(twice).prop_shuffle())
        }),
        groups in proptest::collection::vec(1..9_usize, 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let directory = tempfile::tempdir().expect("a directory");
            let store = open_with(unsynced())(directory.path(), TestInstance(1));
            let (mut rest, mut step) = (&order[..], 0);
            while !rest.is_empty() {
                let (now, later) = rest.split_at(groups[step % groups.len()].min(rest.len()));
                store.write(Write::Merge { entries: now.to_vec(), messages: contents() }).await.expect("merged");
                (rest, step) = (later, step + 1);
            }
            let all = store.snapshot(GROUP, log()).await.expect("the log");
            let uids = all.entries.iter().map(|entry| (entry.message.0[0] - 0xc0, entry.uid)).collect();
            assert_eq!(all.entries.len(), usize::from(LINES));
            assert_eq!(read(&*store).await, fold(&history, &uids));
        });
    }
}

/// What members do.
#[derive(Debug, Clone)]
enum Step {
    Join(usize),
    Leave(usize),
    Say(usize),
    Flags(usize, Uid, bool, usize),
    Read(usize, Uid),
    Expunge(usize, Uid),
}

fn any_step() -> impl Strategy<Value = Step> {
    let (user, uid) = (0..3_usize, 1..12_u32);
    prop_oneof![
        3 => user.clone().prop_map(Step::Join),
        1 => user.clone().prop_map(Step::Leave),
        6 => user.clone().prop_map(Step::Say),
        4 => (user.clone(), uid.clone(), any::<bool>(), 0..3_usize).prop_map(|(user, uid, set, flag)| Step::Flags(user, uid, set, flag)),
        3 => (user.clone(), uid.clone()).prop_map(|(user, uid)| Step::Read(user, uid)),
        1 => (user, uid).prop_map(|(user, uid)| Step::Expunge(user, uid)),
    ]
}

/// A member's view as a list: UID and flags.
type View = BTreeMap<Uid, BTreeSet<String>>;

async fn view(store: &dyn Store, user: UserId) -> Option<(u64, View)> {
    let snapshot = store.snapshot(user, log()).await.ok()?;
    let flags = |entry: &mesyx_sdk::Entry| entry.flags.iter().map(|flag| flag.as_str().to_owned()).collect();
    Some((snapshot.highest_modseq, snapshot.entries.iter().map(|entry| (entry.uid, flags(entry))).collect()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn each_member_s_view_is_what_a_plain_list_says(steps in proptest::collection::vec(any_step(), 1..50)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let directory = tempfile::tempdir().expect("a directory");
            let store = open_with(unsynced())(directory.path(), TestInstance(1));
            let put = |(user, sequence): (&UserId, u64)| LogEntry {
                sequence,
                stamp: Stamp { day: 1, counter: sequence, instance: InstanceId([2; 16]) },
                operation: Operation::PutUser { user: *user, record: UserRecord { name: user.to_string(), ..UserRecord::default() } },
            };
            let entries = USERS.iter().zip(1..).map(put).collect();
            store.write(Write::Merge { entries, messages: Vec::new() }).await.expect("users");
            store.write(Write::Group(Box::new(GroupWrite::of(GROUP)))).await.expect("a group");
            let mut members: BTreeSet<usize> = BTreeSet::new();
            let mut key: Option<(BTreeSet<usize>, Arc<SealedSessionKey>)> = None;
            let mut model: [View; 3] = Default::default();
            let mut last = 0;
            for step in steps {
                let mut before = Vec::new();
                for user in USERS {
                    before.push(view(&*store, user).await);
                }
                match step.clone() {
                    Step::Join(at) | Step::Leave(at) => {
                        let joins = matches!(step, Step::Join(_));
                        if joins { members.insert(at) } else { members.remove(&at) };
                        let write = GroupWrite { members: vec![(USERS[at], joins.then_some(0))], ..GroupWrite::of(GROUP) };
                        store.write(Write::Group(Box::new(write))).await.expect("a member");
                    }
                    Step::Say(at) => {
                        if !members.contains(&at) {
                            continue;
                        }
                        if key.as_ref().is_none_or(|(of, _)| *of != members) {
                            let fresh = epoch_key(SessionKeyId::random());
                            let sealed = |at: &usize| GroupKey { epoch: fresh.id, user: USERS[*at], keyset: KeysetId([7; 16]), packets: Bytes::from_static(b"k") };
                            let write = GroupWrite { keys: members.iter().map(sealed).collect(), ..GroupWrite::of(GROUP) };
                            store.write(Write::Group(Box::new(write))).await.expect("a key");
                            key = Some((members.clone(), fresh));
                        }
                        let Some((_, under)) = &key else { continue };
                        let copies = vec![Placing { message: message(under, 30), mailbox: log(), flags: vec![Flag::Seen] }];
                        let line = Speaking { make: vec![], copies, dedup: None, outbound: None, author: Some(USERS[at]), change: None, then: None };
                        store.write(Write::Speak(Box::new(line))).await.expect("a line");
                        last += 1;
                        for member in &members {
                            let seen = (*member == at).then(|| "\\Seen".to_owned());
                            model[*member].insert(last, seen.into_iter().collect());
                        }
                    }
                    Step::Flags(at, uid, set, flag) => {
                        let flag = Flag::new(FLAGS[flag]).expect("a flag");
                        let text = flag.as_str().to_owned();
                        let change = if set { FlagChange::Add(vec![flag]) } else { FlagChange::Remove(vec![flag]) };
                        let write = Write::Flags { user: USERS[at], mailbox: log(), uids: vec![uid], change, unchanged_since: None };
                        let done = store.write(write).await;
                        assert!(done.is_ok() || before[at].is_none());
                        if let Some(flags) = model[at].get_mut(&uid) {
                            if set { flags.insert(text) } else { flags.remove(&text) };
                        }
                    }
                    Step::Read(at, up_to) => {
                        let done = store.write(Write::MarkRead { user: USERS[at], mailbox: log(), up_to }).await;
                        assert!(done.is_ok() || before[at].is_none());
                        model[at].range_mut(..=up_to).for_each(|(_, flags)| _ = flags.insert("\\Seen".to_owned()));
                    }
                    Step::Expunge(at, uid) => {
                        let (user, mailbox) = (USERS[at], log());
                        let change = FlagChange::Add(vec![Flag::Deleted]);
                        let flags = Write::Flags { user, mailbox, uids: vec![uid], change, unchanged_since: None };
                        let done = store.write(flags).await.is_ok() && store.write(Write::Expunge { user, mailbox, uids: Some(vec![uid]) }).await.is_ok();
                        assert!(done || before[at].is_none());
                        model[at].remove(&uid);
                    }
                }
                for (at, user) in USERS.iter().enumerate() {
                    let Some((modseq, now)) = view(&*store, *user).await else {
                        assert!(model[at].is_empty());
                        continue;
                    };
                    assert_eq!(now, model[at], "{step:?} of {at}");
                    let numbers = store.line_numbers(*user, log()).await.expect("numbers");
                    let unread = now.iter().find(|(_, flags)| !flags.contains("\\Seen")).map(|(uid, _)| uid - 1);
                    let newest = now.keys().last().copied().unwrap_or(0);
                    assert_eq!((numbers.last, numbers.read), (newest, unread.unwrap_or(newest)), "{step:?}");
                    // Who knows the state before needs the changes only.
                    if let Some((since, mut known)) = before[at].clone() {
                        let changes = store.changes(*user, log(), since).await.expect("changes");
                        assert_eq!(changes.highest_modseq, modseq);
                        for entry in changes.changed {
                            known.insert(entry.uid, entry.flags.iter().map(|flag| flag.as_str().to_owned()).collect());
                        }
                        changes.vanished.iter().for_each(|uid| drop(known.remove(uid)));
                        assert_eq!(known, now, "{step:?} of {at}");
                    }
                }
            }
        });
    }
}

/// A change of a group and the line that tells of it are one transaction: where the line can't be stored, nothing changed.
#[tokio::test]
async fn a_change_without_its_line_is_none() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open_with(unsynced())(directory.path(), TestInstance(1));
    let put = |(user, sequence): (&UserId, u64)| LogEntry {
        sequence,
        stamp: Stamp { day: 1, counter: sequence, instance: InstanceId([2; 16]) },
        operation: Operation::PutUser {
            user: *user,
            record: UserRecord { name: user.to_string(), ..UserRecord::default() },
        },
    };
    let entries = USERS.iter().zip(1..).map(put).collect();
    store.write(Write::Merge { entries, messages: Vec::new() }).await.expect("users");
    let joins = |at: usize| GroupWrite { members: vec![(USERS[at], Some(0))], ..GroupWrite::of(GROUP) };
    store.write(Write::Group(Box::new(joins(0)))).await.expect("a group");
    let fresh = epoch_key(epoch(0));
    let line = |mailbox: MailboxId| {
        let copies = vec![Placing { message: message(&fresh, 30), mailbox, flags: vec![Flag::Seen] }];
        let change = Some(Box::new(joins(1)));
        Box::new(Speaking { make: vec![], copies, dedup: None, outbound: None, author: None, change, then: None })
    };
    let members = async || store.groups(Some(GROUP)).await.expect("groups")[0].members.len();
    store.write(Write::Speak(line(MailboxId([0x77; 16])))).await.expect_err("no such mailbox");
    assert_eq!(members().await, 1);
    store.write(Write::Speak(line(log()))).await.expect("a line");
    assert_eq!(members().await, 2);
}
