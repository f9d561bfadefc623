use super::*;
use crate::proto::command::{Action, Body, Item, Key, Section, SectionText, StatusItem};
use crate::proto::sequence::{Bound, SequenceSet};
use mesyx_sdk::{Flag, Timestamp};
use proptest::prelude::*;

fn body(text: &str) -> Body<'_> {
    let command = parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error:?}"));
    command.body
}

fn refused(text: &str) -> String {
    match parse(text.as_bytes()) {
        Ok(command) => panic!("{text}: {command:?}"),
        Err(error) => error.expected,
    }
}

fn key(text: &str) -> Key {
    match body(text) {
        Body::Search(search) => search.key,
        other => panic!("{other:?}"),
    }
}

fn fetch(text: &str) -> Vec<Item> {
    match body(text) {
        Body::Fetch(fetch) => fetch.items,
        other => panic!("{other:?}"),
    }
}

fn set(pairs: &[(u32, u32)]) -> SequenceSet {
    SequenceSet(pairs.iter().map(|(from, to)| (Bound::Number(*from), Bound::Number(*to))).collect())
}

#[test]
fn login_in_all_kinds_of_strings() {
    for text in ["a001 LOGIN SMITH SESAME", "a001 login \"SMITH\" \"SESAME\"", "a001 LOGIN {5}\r\nSMITH {6+}\r\nSESAME"]
    {
        let Body::Login { name, password } = body(text) else { panic!("{text}") };
        assert_eq!((name.as_slice(), password.expose()), (&b"SMITH"[..], &b"SESAME"[..]));
    }
    let Body::Login { password, .. } = body("a LOGIN x \"a\\\"b\\\\c\"") else { panic!() };
    assert_eq!(password.expose(), b"a\"b\\c");
}

#[test]
fn a_password_is_never_shown() {
    assert!(!format!("{:?}", parse(b"a LOGIN smith sesame")).contains("sesame"));
}

#[test]
fn append_of_rfc_3501() {
    let text = "A003 APPEND saved-messages (\\Seen \\Recent $Todo) \"17-Jul-1996 02:44:25 -0700\" {5}\r\nHello";
    let Body::Append { mailbox, messages } = body(text) else { panic!() };
    assert_eq!(mailbox, b"saved-messages");
    assert_eq!(messages[0].bytes, b"Hello");
    assert_eq!(messages[0].flags, [Flag::Seen, Flag::new("$Todo").expect("a keyword")]);
    assert_eq!(messages[0].date, Some(Timestamp::from_seconds(837_596_665)));
}

#[test]
fn append_of_several_messages_and_of_utf8() {
    let Body::Append { messages, .. } = body("a APPEND x {2+}\r\nhi (\\Seen) UTF8 (~{3+}\r\nabc)") else { panic!() };
    assert_eq!(messages.len(), 2);
    assert!(!messages[0].utf8 && messages[1].utf8);
    assert_eq!(messages[1].bytes, b"abc");
}

#[test]
fn search_of_rfc_3501() {
    assert_eq!(
        key("A282 SEARCH FLAGGED SINCE 1-Feb-1994 NOT FROM \"Smith\""),
        Key::And(vec![
            Key::Flag(Flag::Flagged),
            Key::Since(8797),
            Key::Not(Box::new(Key::Header(b"From".to_vec(), b"Smith".to_vec()))),
        ])
    );
    let Body::Search(search) = body("A284 SEARCH CHARSET UTF-8 TEXT {6}\r\nабв") else { panic!() };
    assert_eq!(search.charset.as_deref(), Some("UTF-8"));
    assert_eq!(search.key, Key::Text("абв".into()));
    assert_eq!(
        key("a UID SEARCH OR (SEEN 1:3) (UID 4,9 KEYWORD foo)"),
        Key::Or(
            Box::new(Key::And(vec![Key::Flag(Flag::Seen), Key::Sequence(set(&[(1, 3)]))])),
            Box::new(Key::And(vec![Key::Uid(set(&[(4, 4), (9, 9)])), Key::Flag(Flag::new("foo").expect("a keyword"))]))
        )
    );
    assert_eq!(key("a SEARCH MODSEQ \"/flags/\\\\draft\" all 620162338"), Key::ModSeq(620_162_338));
}

#[test]
fn search_is_bounded() {
    let deep = format!("a SEARCH {}ALL{}", "(".repeat(200), ")".repeat(200));
    assert!(refused(&deep).contains("nested"));
    let deep = format!("a SEARCH {}ALL", "NOT ".repeat(100_000));
    assert!(refused(&deep).contains("nested"));
    assert!(refused(&format!("a SEARCH ALL{}", " ALL".repeat(1000))).contains("333"));
}

#[test]
fn fetch_of_rfc_3501() {
    let Body::Fetch(read) = body("A654 FETCH 2:4 (FLAGS BODY[HEADER.FIELDS (DATE FROM)])") else { panic!() };
    assert_eq!(read.set, set(&[(2, 4)]));
    let names = vec![b"DATE".to_vec(), b"FROM".to_vec()];
    let section = Section { path: vec![], text: SectionText::Fields { not: false, names } };
    assert_eq!(read.items, [Item::Flags, Item::Section { peek: false, section, partial: None }]);
    assert_eq!(fetch("a FETCH 1 FULL"), [Item::Flags, Item::InternalDate, Item::Size, Item::Envelope, Item::Body]);
    assert_eq!(
        fetch("a UID FETCH 1:* body.peek[4.2.text]<0.2048>"),
        [
            Item::Uid,
            Item::Section {
                peek: true,
                section: Section { path: vec![4, 2], text: SectionText::Text },
                partial: Some((0, 2048)),
            }
        ]
    );
    let Body::Fetch(read) = body("s100 UID FETCH 1:* (FLAGS MODSEQ) (CHANGEDSINCE 12345 VANISHED)") else { panic!() };
    assert_eq!((read.changed_since, read.vanished), (Some(12345), true));
}

#[test]
fn store_copy_status_list() {
    let Body::Store(store) = body("a STORE 2:4 (UNCHANGEDSINCE 12121230045) +FLAGS.SILENT (\\Deleted)") else {
        panic!()
    };
    assert_eq!((store.action, store.silent, store.unchanged_since), (Action::Add, true, Some(12_121_230_045)));
    let Body::Store(store) = body("a UID STORE 9 -FLAGS \\Seen $x") else { panic!() };
    assert_eq!((store.uid, store.action, store.flags.len()), (true, Action::Remove, 2));
    let Body::Store(store) = body("a STORE 1 FLAGS ()") else { panic!() };
    assert!(store.flags.is_empty());
    let Body::Status { items, .. } = body("A042 STATUS blurdybloop (UIDNEXT MESSAGES)") else { panic!() };
    assert_eq!(items, [StatusItem::UidNext, StatusItem::Messages]);
    let Body::List(list) =
        body("a LIST (SUBSCRIBED RECURSIVEMATCH) \"\" (INBOX \"%\") RETURN (CHILDREN STATUS (UNSEEN))")
    else {
        panic!()
    };
    assert!(list.select_subscribed && list.recursive_match && list.extended);
    assert_eq!(list.patterns, [b"INBOX".to_vec(), b"%".to_vec()]);
    assert_eq!(list.return_status, [StatusItem::Unseen]);
    let Body::Select(select) = body("a SELECT x (QRESYNC (67890007 20050715194045000 41,43:211,214:541) CONDSTORE)")
    else {
        panic!()
    };
    assert!(select.condstore && select.qresync.is_some());
    let Body::Create { uses, .. } = body("t2 CREATE MySpecial (USE (\\Drafts \\Sent))") else { panic!() };
    assert_eq!(uses, ["\\Drafts", "\\Sent"]);
}

#[test]
fn mistakes_say_what_was_expected() {
    for (text, expected) in [
        ("a FOO", "a command that this server knows"),
        ("a LOGIN", "a space and one more argument"),
        ("a LOGIN joe", "a space and one more argument"),
        ("a FETCH 1 BODY[", "HEADER"),
        ("a FETCH 1 BODY[MIME]", "MIME after a part number"),
        ("a FETCH 0 FLAGS", "a number from 1"),
        ("a FETCH 1 (FLAGS", "a closing parenthesis"),
        ("a STORE 1 +FLAGS (\\Foo)", "\\Answered"),
        ("a NOOP x", "the end of the command"),
        ("a SEARCH SINCE 1-Foo-2000", "a date"),
        ("a UID NOOP x", "after UID"),
        ("a SELECT \"x", "a closing quote"),
        ("a SEARCH RETURN (MIN FOO) ALL", "MIN, MAX"),
        ("a FETCH 4294967296 FLAGS", "a number"),
        ("+ NOOP", "a tag"),
    ] {
        let said = refused(text);
        assert!(said.contains(expected), "{text}: {said}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn anything_like_a_command_is_read_or_refused(
        name in "(UID )?(FETCH|STORE|SEARCH|LIST|STATUS|APPEND|SELECT|CREATE|ID|LOGIN)",
        rest in "[ a-zA-Z0-9()\\[\\]{}<>:,.*%\"\\\\+~\r\n-]{0,60}",
    ) {
        let _ = parse(format!("a {name} {rest}").as_bytes());
    }

    #[test]
    fn sets_read_back(numbers in proptest::collection::btree_set(1_u32.., 1..50)) {
        let text = format!("a FETCH {} FLAGS", crate::proto::sequence::AsSet(numbers.iter().copied()));
        let Body::Fetch(fetch) = body(&text) else { panic!() };
        let read: Vec<u32> = fetch.set.ranges(0).into_iter().flatten().collect();
        prop_assert_eq!(read, numbers.into_iter().collect::<Vec<_>>());
    }
}
