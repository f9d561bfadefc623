use super::*;
use proptest::prelude::*;

/// What came out for `input` given in pieces; messages are admitted, continuations noted as `+`.
fn run(pieces: &[&[u8]], logged_in: bool) -> Vec<String> {
    let mut framer = Framer::new(1_000_000);
    if logged_in {
        framer.logged_in();
    }
    let mut seen = Vec::new();
    for piece in pieces {
        framer.space().extend_from_slice(piece);
        framer.fed(piece.len());
        loop {
            let mut step = framer.step();
            while let Step::Message { .. } = step {
                step = framer.admit();
            }
            match step {
                Step::Incomplete => break,
                Step::Frame(frame) => seen.push(String::from_utf8_lossy(frame.bytes()).into_owned()),
                Step::Continue => seen.push("+".into()),
                Step::Message { .. } => unreachable!("it was admitted"),
                Step::Refused { tag, why } => seen.push(format!("{tag:?} {why:?}")),
                Step::Overrun => {
                    seen.push("overrun".into());
                    return seen;
                }
            }
        }
    }
    seen
}

#[test]
fn many_literals_in_one_command_do_not_nest() {
    let mut input = b"a X ".to_vec();
    input.extend(b"{0+}\r\n".repeat(40_000));
    input.extend(b"\r\nb NOOP\r\n");
    let seen = run(&[&input], true);
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[1], "b NOOP");
}

/// Fuzzing found it: admitting the first may announce the second, where the client waits for neither.
#[test]
fn a_message_right_behind_a_message_is_announced_in_turn() {
    let input = b"a APPEND x (\\Seen{3+}\r\nabc \"\" {12+}\r\nSubject: x\r\n\r\nb NOOP\r\n";
    let mut framer = Framer::new(1_000_000);
    framer.logged_in();
    framer.space().extend_from_slice(input);
    framer.fed(input.len());
    assert_eq!(framer.step(), Step::Message { size: 3 });
    assert_eq!(framer.admit(), Step::Message { size: 12 });
    assert!(matches!(framer.admit(), Step::Frame(_)));
    let pieces: Vec<&[u8]> = input.chunks(1).collect();
    assert_eq!(run(&pieces, true), run(&[input], true));
}

#[test]
fn lines_and_literals() {
    assert_eq!(
        run(&[b"a NOOP\r\nb LOGIN {3}\r\n", b"joe {2+}\r\npw\r\n"], false),
        ["a NOOP", "+", "b LOGIN {3}\r\njoe {2+}\r\npw"]
    );
}

#[test]
fn a_literal_with_line_ends_and_braces_is_taken_by_its_size() {
    assert_eq!(run(&[b"a X {11+}\r\nb Y {99}\r\nz\r\nc NOOP\r\n"], true), ["a X {11+}\r\nb Y {99}\r\nz", "c NOOP"]);
}

#[test]
fn a_synchronising_literal_over_its_limit_is_refused_before_it_comes() {
    assert_eq!(run(&[b"a LOGIN {9000}\r\nb NOOP\r\n"], false), ["Some(\"a\") TooBig", "b NOOP"]);
    assert_eq!(run(&[b"a SEARCH {65537}\r\nb NOOP\r\n"], true), ["Some(\"a\") TooBig", "b NOOP"]);
    assert_eq!(run(&[b"a APPEND x {1000001}\r\nb NOOP\r\n"], true), ["Some(\"a\") TooBig", "b NOOP"]);
    assert_eq!(run(&[b"a X {99999999999999999999999}\r\nb NOOP\r\n"], true), ["Some(\"a\") TooBig", "b NOOP"]);
}

#[test]
fn a_literal_that_comes_anyway_is_skipped_exactly() {
    let mut input = b"a SEARCH {70000+}\r\n".to_vec();
    input.extend(std::iter::repeat_n(b'\n', 70000));
    input.extend(b" {4+}\r\nabcd\r\nb NOOP\r\n");
    assert_eq!(run(&[&input], true), ["Some(\"a\") TooBig", "b NOOP"]);
}

#[test]
fn skipping_holds_nothing() {
    let mut framer = Framer::new(1000);
    framer.logged_in();
    framer.space().extend_from_slice(b"a APPEND x {50000000+}\r\n");
    assert_eq!(framer.step(), Step::Incomplete);
    for _ in 0..1000 {
        let space = framer.space();
        assert!(space.capacity() < 100_000, "{}", space.capacity());
        space.extend_from_slice(&[b'x'; 10_000]);
        assert_eq!(framer.step(), Step::Incomplete);
    }
}

#[test]
fn a_refused_message_is_never_held() {
    let mut framer = Framer::new(1000);
    framer.logged_in();
    framer.space().extend_from_slice(b"a APPEND x {900}\r\n");
    assert_eq!(framer.step(), Step::Message { size: 900 });
    assert_eq!(framer.refuse(Refusal::NoMemory), Step::Refused { tag: Some("a".into()), why: Refusal::NoMemory });
    assert!(framer.is_empty());
}

#[test]
fn only_append_after_login_takes_a_large_literal() {
    assert_eq!(run(&[b"a APPEND INBOX {100000}\r\n"], false), ["Some(\"a\") TooBig"]);
    assert_eq!(run(&[b"a APPEND INBOX {100000}\r\n"], true), ["+"]);
    assert_eq!(run(&[b"a XAPPEND INBOX {100000}\r\n"], true), ["Some(\"a\") TooBig"]);
}

#[test]
fn input_before_login_is_bounded() {
    let line = [b"a NOOP ".as_slice(), &[b'x'; 3000], b"\r\n"].concat();
    let pieces: Vec<&[u8]> = (0..40).map(|_| line.as_slice()).collect();
    assert_eq!(run(&pieces, false).last().map(String::as_str), Some("overrun"));
    assert_eq!(run(&pieces, true).len(), 40);
}

#[test]
fn an_overlong_line_is_thrown_away_with_its_literals() {
    let mut input = b"tag7 LOGIN ".to_vec();
    input.extend([b'x'; 9000]);
    input.extend(b" {6+}\r\nb NO\r\n\r\nc NOOP\r\n");
    assert_eq!(run(&[&input], false), ["Some(\"tag7\") LineTooLong", "c NOOP"]);
}

#[test]
fn a_bare_line_feed_ends_nothing_but_its_command() {
    assert_eq!(run(&[b"a NOOP\nb NOOP\r\n"], true), ["Some(\"a\") BareLineFeed", "b NOOP"]);
}

#[test]
fn lines_as_such_for_done() {
    let mut framer = Framer::new(1000);
    framer.space().extend_from_slice(b"DONE {5}\r\nb NOOP\r\n");
    match framer.step_raw_line() {
        Step::Frame(frame) => assert_eq!(frame.bytes(), b"DONE {5}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(framer.step(), Step::Frame(_)));
}

/// Bytes that look like what clients send, now and then.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"a NOOP\r\n".to_vec()),
        Just(b"b LOGIN {3}\r\njoe {2+}\r\npw\r\n".to_vec()),
        Just(b"c APPEND INBOX {12}\r\n".to_vec()),
        Just(b"d SEARCH {70000+}\r\n".to_vec()),
        Just(b"e X {9999999999}\r\n".to_vec()),
        Just(vec![b'y'; 9000]),
        Just(b"\n".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..20),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_pieces_give_what_one_piece_gives(
        input in input(), cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..10), logged_in: bool,
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        cuts.extend([0, input.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &input[pair[0]..pair[1]]).collect();
        // How much came before login is counted as it comes: what is seen before the limit is the same.
        let (whole, cut) = (run(&[&input], logged_in), run(&pieces, logged_in));
        if input.len() as u64 <= MAX_INPUT_BEFORE_LOGIN {
            prop_assert_eq!(whole, cut);
        }
    }
}

/// A message that took longer to come than a client may be idle was cut off.
#[test]
fn a_message_that_comes_in_is_progress_and_a_trickle_is_none() {
    let mut framer = Framer::new(1_000_000);
    framer.logged_in();
    let feed = |framer: &mut Framer, bytes: &[u8]| {
        framer.space().extend_from_slice(bytes);
        framer.fed(bytes.len());
        framer.step()
    };
    assert_eq!(feed(&mut framer, b"a APPEND b {900000+}\r\n"), Step::Message { size: 900_000 });
    assert_eq!(framer.admit(), Step::Incomplete);
    assert!(!framer.message_progressed(), "nothing came");
    feed(&mut framer, &[b'x'; 256 * 1024]);
    assert!(framer.message_progressed());
    assert!(!framer.message_progressed(), "nothing came since");
    feed(&mut framer, b"x");
    assert!(!framer.message_progressed(), "a byte");
}
