use super::*;
use crate::proto::sequence::Bound::{Last, Number};
use mesyx_sdk::Timestamp;
use proptest::prelude::*;

const ALL: Telling = Telling { expunge: true, condstore: false, qresync: false };
const NO_EXPUNGE: Telling = Telling { expunge: false, ..ALL };

fn entry(uid: Uid, modseq: ModSeq, flags: &[Flag]) -> Entry {
    Entry {
        uid,
        message: MessageId([0; 16]),
        modseq,
        flags: flags.iter().cloned().collect(),
        padded_size: 4096,
        day: Timestamp(0),
    }
}

fn view(uids: &[Uid]) -> View {
    View::new(&Snapshot {
        uid_validity: 1,
        uid_next: uids.last().map_or(1, |uid| uid + 1),
        highest_modseq: 1,
        recent_from: Uid::MAX,
        entries: uids.iter().map(|uid| entry(*uid, 1, &[])).collect(),
    })
}

fn changes(modseq: ModSeq, changed: Vec<Entry>, vanished: Vec<Uid>) -> Changes {
    Changes { highest_modseq: modseq, uid_next: 1, changed, vanished, deleted: false }
}

fn told(view: &mut View, how: Telling) -> String {
    let mut out = Out::default();
    view.tell(&mut out, how);
    String::from_utf8(out.0).expect("text")
}

#[test]
fn expunges_are_told_from_the_last_and_only_when_allowed() {
    let mut view = view(&[2, 4, 6, 8]);
    view.apply(changes(2, vec![entry(9, 2, &[])], vec![2, 6, 7]));
    assert_eq!(told(&mut view, NO_EXPUNGE), "* 5 EXISTS\r\n* 0 RECENT\r\n");
    assert_eq!(view.sequence(8), Some(4));
    assert_eq!(told(&mut view, ALL), "* 3 EXPUNGE\r\n* 1 EXPUNGE\r\n");
    assert_eq!(view.sequence(8), Some(2));
    assert_eq!(told(&mut view, ALL), "");
}

#[test]
fn a_message_that_came_and_went_is_not_spoken_of() {
    let mut view = view(&[1]);
    view.apply(changes(2, vec![entry(5, 2, &[])], vec![]));
    view.apply(changes(3, vec![], vec![5]));
    assert_eq!(told(&mut view, ALL), "");
    assert_eq!(view.exists(), 1);
}

#[test]
fn flags_of_others_are_told_and_own_are_not() {
    let mut view = view(&[1, 2]);
    view.stored(&entry(1, 2, &[Flag::Seen]));
    view.apply(changes(3, vec![entry(1, 2, &[Flag::Seen]), entry(2, 3, &[Flag::Flagged])], vec![]));
    assert_eq!(
        told(&mut view, Telling { condstore: true, ..ALL }),
        "* 2 FETCH (UID 2 FLAGS (\\Flagged) MODSEQ (3))\r\n"
    );
}

#[test]
fn a_new_keyword_is_announced() {
    let mut view = view(&[1]);
    view.apply(changes(2, vec![entry(1, 2, &[Flag::new("$Todo").expect("a keyword")])], vec![]));
    assert!(told(&mut view, ALL).starts_with("* FLAGS (\\Answered \\Deleted \\Draft \\Flagged \\Seen $Todo)\r\n"));
}

#[test]
fn vanished_stands_for_expunge() {
    let mut view = view(&[3, 4, 5, 9]);
    view.apply(changes(2, vec![], vec![3, 4, 9]));
    assert_eq!(told(&mut view, Telling { qresync: true, ..ALL }), "* VANISHED 3:4,9\r\n");
}

#[test]
fn sets_of_an_empty_mailbox() {
    let view = view(&[]);
    assert_eq!(view.by_sequence(&SequenceSet(vec![(Number(1), Last)])), Some(vec![]));
    assert_eq!(view.by_sequence(&SequenceSet(vec![(Number(1), Number(1))])), None);
    assert!(view.by_uid(&SequenceSet(vec![(Number(1), Last)])).is_empty());
}

#[test]
fn sets_name_only_what_the_client_knows_of() {
    let mut view = view(&[10, 20, 30]);
    view.apply(changes(2, vec![entry(40, 2, &[])], vec![]));
    assert_eq!(view.by_uid(&SequenceSet(vec![(Number(15), Last)])).first(), Some(&(1..3)));
    let last = view.by_sequence(&SequenceSet(vec![(Last, Last)])).expect("a set");
    assert_eq!(last.first(), Some(&(2..3)));
    assert_eq!(view.by_sequence(&SequenceSet(vec![(Number(4), Number(4))])), None);
}

/// A client that knows only what it was told.
#[derive(Debug, Default)]
struct Client(Vec<()>);

impl Client {
    fn hear(&mut self, line: &str) {
        let mut words = line.split(' ').skip(1);
        let number: Option<usize> = words.next().and_then(|word| word.parse().ok());
        match (number, words.next()) {
            (Some(count), Some("EXISTS")) => {
                assert!(count >= self.0.len(), "EXISTS never takes messages away");
                self.0.resize(count, ());
            }
            (Some(number), Some("EXPUNGE")) => {
                self.0.remove(number - 1);
            }
            (Some(number), Some("FETCH")) => assert!((1..=self.0.len()).contains(&number)),
            _ => {}
        }
    }
}

#[derive(Debug, Clone)]
enum Event {
    Add,
    Expunge(proptest::sample::Index),
    Flag(proptest::sample::Index),
    Tell(bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Add),
        any::<proptest::sample::Index>().prop_map(Event::Expunge),
        any::<proptest::sample::Index>().prop_map(Event::Flag),
        any::<bool>().prop_map(Event::Tell),
    ]
}

proptest! {
    #[test]
    fn a_client_that_listens_knows_the_mailbox(events in proptest::collection::vec(event(), 0..60)) {
        let mut view = view(&[]);
        let mut client = Client::default();
        let (mut mailbox, mut next, mut modseq) = (Vec::new(), 1, 1);
        for event in events.into_iter().chain([Event::Tell(true)]) {
            modseq += 1;
            match event {
                Event::Add => {
                    view.apply(changes(modseq, vec![entry(next, modseq, &[])], vec![]));
                    mailbox.push(next);
                    next += 1;
                }
                Event::Expunge(index) if !mailbox.is_empty() => {
                    let uid = mailbox.remove(index.index(mailbox.len()));
                    view.apply(changes(modseq, vec![], vec![uid]));
                }
                Event::Flag(index) if !mailbox.is_empty() => {
                    let uid = mailbox[index.index(mailbox.len())];
                    view.apply(changes(modseq, vec![entry(uid, modseq, &[Flag::Seen])], vec![]));
                }
                Event::Tell(expunge) => {
                    told(&mut view, Telling { expunge, ..ALL }).lines().for_each(|line| client.hear(line));
                    prop_assert_eq!(client.0.len(), view.exists());
                }
                _ => {}
            }
        }
        let uids: Vec<Uid> = view.rows().iter().map(|row| row.uid).collect();
        prop_assert_eq!(uids, mailbox);
    }
}
