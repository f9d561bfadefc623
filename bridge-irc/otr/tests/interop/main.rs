//! Conversations with libotr and python3-potr: the whole life of a conversation, with each, in each version, with and
//! without fragments.
//!
//! The programs come from Debian: gcc, libotr5-dev, libgcrypt20-dev, python3-potr. Without them these tests fail,
//! unless `MESYX_SKIP_PEERS=1` leaves them out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

#[path = "../common/mod.rs"]
mod common;
mod peer;

use common::{alice, clear_texts, private_texts};
use mesyx_otr::{
    Config, Event, Fingerprint, Identity, KeyFileAccount, Policy, Rejection, Sent, Session, SessionState, TagPlace,
    Version,
};
use peer::{Conversation, Kind, Peer, hex, skipped};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

const LINE: usize = 400;

/// The whole life of a conversation.
fn life(kind: Kind, max_line: Option<usize>) {
    if skipped() {
        return;
    }
    let directory = key_directory(kind);
    // potr reads only what stands before a tag.
    let tag_place = if kind == Kind::Potr { TagPlace::Trailing } else { TagPlace::Leading };
    let config = Config { max_line, tag_place, ..Config::default() };
    let version = if matches!(kind, Kind::Potr | Kind::Libotr("2")) { Version::V2 } else { Version::V3 };

    // By our query; talk; fresh keys begun by us, then by the peer; talk; the end by us.
    let mut talk = Conversation::new(alice(), config.clone(), Peer::start(kind, &directory));
    let out = talk.us.start(Instant::now()).unwrap();
    talk.ours(out);
    began(&mut talk, version, false);
    ten_each_way(&mut talk);
    for by_query in [true, false] {
        let now = Instant::now();
        let out = if by_query { talk.us.start(now) } else { talk.us.refresh(now) }.unwrap();
        talk.ours(out);
        began(&mut talk, version, true);
        ten_each_way(&mut talk);
    }
    talk.tell("query");
    began(&mut talk, version, true);
    ten_each_way(&mut talk);
    verifications(&mut talk);
    ten_each_way(&mut talk);
    let out = talk.us.end(Instant::now());
    talk.ours(out);
    assert_eq!(talk.us.state(), SessionState::Plain);
    assert!(talk.take().1.contains(&"finished".to_owned()));
    // Nothing of the peer's is lost or leaks: it must not send in the clear what was meant to be private.
    talk.tell("end");
    talk.take();

    // By the peer's query; talk; the end by the peer.
    talk.tell("query");
    began(&mut talk, version, false);
    ten_each_way(&mut talk);
    talk.tell("end");
    assert_eq!(talk.take().0, [Event::EndedByPeer]);
    assert!(talk.us.send(b"secret", Instant::now()).is_err());
    only_fitting_lines(&talk, max_line);

    // By a tag of ours; then both programs start anew, with stored keys, and know each other by them.
    let mut talk = Conversation::new(alice(), config.clone(), Peer::start(kind, &directory));
    assert_eq!(talk.say(b"hello"), Sent::Clear);
    assert!(talk.reports.contains(&format!("text clear {}", hex(b"hello"))), "{:?}", talk.reports);
    began(&mut talk, version, false);
    ten_each_way(&mut talk);

    let fingerprint = talk.peer.fingerprint.clone();
    let peer = Peer::start(kind, &directory);
    assert_eq!(peer.fingerprint, fingerprint);
    let identity = Arc::new(Identity::from_bytes(&alice().to_bytes()).unwrap());
    let known = Config { known: vec![Fingerprint::parse(&fingerprint).unwrap()], ..config.clone() };
    let mut talk = Conversation::new(identity, known, peer);
    assert!(matches!(talk.say(b"only for you"), Sent::Held(_)));
    assert!(talk.reports.contains(&format!("text private {}", hex(b"only for you"))), "{:?}", talk.reports);
    assert!(clear_texts(&talk.events).is_empty());
    began(&mut talk, version, false);
    ten_each_way(&mut talk);

    // Only the peer starts anew: our next text is lost. potr says so, and we ask it to begin again; libotr keeps
    // silent, until its user's next text, in the clear, offers OTR again.
    talk.peer = Peer::start(kind, &directory);
    talk.say(b"lost");
    if kind == Kind::Potr {
        assert!(talk.events.iter().any(|event| matches!(event, Event::PeerError(_))), "{:?}", talk.events);
    } else {
        talk.peer_says(b"back again");
        assert_eq!(clear_texts(&talk.events), [(b"back again".to_vec(), true)]);
    }
    began(&mut talk, version, true);
    ten_each_way(&mut talk);

    // Only we start anew: the peer's text can't be read and is reported; libotr then begins again by itself and,
    // in version 2, sends its text once more.
    talk.us = Session::new(alice(), config.clone());
    talk.peer_says(b"twice");
    assert!(talk.events.contains(&Event::Unreadable(Rejection::UnknownKeys)), "{:?}", talk.events);
    if kind == Kind::Potr {
        let out = talk.us.start(Instant::now()).unwrap();
        talk.ours(out);
    } else if version == Version::V2 {
        assert_eq!(private_texts(&talk.events), [b"[resent] twice"]);
    }
    assert!(matches!(talk.us.state(), SessionState::Private(_)));
    talk.take();
    ten_each_way(&mut talk);

    // By a tag of the peer's.
    let mut talk = Conversation::new(alice(), config, Peer::start(kind, &directory));
    talk.peer_says(b"hi");
    assert_eq!(clear_texts(&talk.events), [(b"hi".to_vec(), false)]);
    began(&mut talk, version, false);
    ten_each_way(&mut talk);
    only_fitting_lines(&talk, max_line);

    // With OTR required on our side, the first text waits and nothing of it is sent in the clear.
    let config = Config { policy: Policy::Require, max_line, ..Config::default() };
    let mut talk = Conversation::new(alice(), config, Peer::start(kind, &directory));
    assert!(matches!(talk.say(b"secret"), Sent::Held(_)));
    assert!(talk.reports.contains(&format!("text private {}", hex(b"secret"))), "{:?}", talk.reports);
    assert!(!talk.lines.iter().any(|(_, line)| line.windows(6).any(|window| window == b"secret")));
}

/// A directory with a key of the peer, made once per program: making keys is slow.
fn key_directory(kind: Kind) -> PathBuf {
    static LIBOTR: OnceLock<PathBuf> = OnceLock::new();
    static POTR: OnceLock<PathBuf> = OnceLock::new();
    let (cell, name) = if kind == Kind::Potr { (&POTR, "potr") } else { (&LIBOTR, "libotr") };
    let made = cell.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        Peer::start(kind, &directory);
        directory
    });
    made.clone()
}

/// Both sides say that a conversation began, with each other, and nothing else happened.
fn began(talk: &mut Conversation, version: Version, refreshed: bool) {
    let (events, reports) = talk.take();
    let established: Vec<_> =
        events.iter().filter_map(|event| if let Event::Established(e) = event { Some(e) } else { None }).collect();
    let [established] = established[..] else { panic!("{events:?} {reports:?}") };
    assert_eq!(established.fingerprint.to_string().replace(' ', ""), talk.peer.fingerprint);
    assert_eq!((established.version, established.changed), (version, false));
    assert_eq!(established.refreshed, refreshed);
    assert_eq!(established.instance.is_some(), version == Version::V3);
    let ours = hex(&alice().fingerprint().0);
    let told = [format!("private {ours}"), format!("refreshed {ours}")];
    assert_eq!(reports.iter().filter(|report| told.contains(report)).count(), 1, "{reports:?}");
    assert!(!events.iter().any(|event| matches!(event, Event::Rejected(_) | Event::Unreadable(_))), "{events:?}");
    assert!(matches!(talk.us.state(), SessionState::Private(_)));
}

/// Ten messages each way, in bursts of three before an answer; among them long ones and all bytes that lines can have.
fn ten_each_way(talk: &mut Conversation) {
    let text = |who: &str, number: usize| match number {
        3 => [format!("{who} long ").as_bytes(), &[b'l'; 1500]].concat(),
        5 => [who.as_bytes(), " ümläut ✓, ?OTR: <b>&amp;</b>".as_bytes()].concat(),
        7 => [who.as_bytes(), b" \x01ACTION\x01\t\x02bold\x02"].concat(),
        _ => format!("{who} {number}").into_bytes(),
    };
    let (mut ours, mut theirs) = (0, 0);
    while ours < 10 || theirs < 10 {
        for _ in 0..3.min(10 - ours) {
            assert_eq!(talk.say(&text("us", ours)), Sent::Encrypted);
            ours += 1;
        }
        for _ in 0..3.min(10 - theirs) {
            talk.peer_says(&text("peer", theirs));
            theirs += 1;
        }
    }
    let (events, reports) = talk.take();
    let expected: Vec<_> = (0..10).map(|number| text("peer", number)).collect();
    assert_eq!(private_texts(&events), expected);
    assert_eq!(events.len(), 10, "{events:?}");
    let expected: Vec<_> = (0..10).map(|number| format!("text private {}", hex(&text("us", number)))).collect();
    assert_eq!(reports, expected);
}

/// Begun by either side, with and without a question, ending in both ways; and given up.
fn verifications(talk: &mut Conversation) {
    for (secret, same) in [(&b"horse"[..], true), (b"cow", false)] {
        for question in [&b""[..], b"which animal?"] {
            let verdict = if same { "smp same" } else { "smp different" };
            let asked = (!question.is_empty()).then_some(question);
            let out = talk.us.smp_start(b"horse", asked, Instant::now()).unwrap();
            talk.ours(out);
            assert_eq!(talk.take(), (vec![], vec![format!("asked {}", hex(question))]));
            talk.tell(&format!("answer {}", hex(secret)));
            verified(talk, same, true, verdict);

            talk.tell(&format!("smp {} {}", hex(b"horse"), hex(question)));
            let (events, _) = talk.take();
            assert!(
                matches!(&events[..], [Event::SmpAsked { question }] if question.as_deref() == asked),
                "{events:?}"
            );
            let out = talk.us.smp_answer(secret, Instant::now()).unwrap();
            talk.ours(out);
            verified(talk, same, false, verdict);
        }
    }
    let out = talk.us.smp_start(b"horse", None, Instant::now()).unwrap();
    talk.ours(out);
    talk.tell("abort");
    assert!(talk.take().0.contains(&Event::SmpAborted));
    talk.tell("smp 00 -");
    let out = talk.us.smp_abort(Instant::now()).unwrap();
    talk.ours(out);
    assert!(talk.take().1.contains(&"smp aborted".to_owned()));
}

fn verified(talk: &mut Conversation, same: bool, ours: bool, verdict: &str) {
    let (events, reports) = talk.take();
    assert!(matches!(&events[..], [Event::SmpDone(v)] if v.same == same && v.ours == ours), "{events:?} {reports:?}");
    assert!(reports.contains(&verdict.to_owned()), "{reports:?}");
}

/// Every encoded line of either side fits, and there were some that had to be cut.
fn only_fitting_lines(talk: &Conversation, max_line: Option<usize>) {
    let Some(max) = max_line else { return };
    for ours in [true, false] {
        let otr = talk
            .lines
            .iter()
            .filter(|(who, line)| *who == ours && line.starts_with(b"?OTR") && !line.starts_with(b"?OTRv"));
        assert!(otr.clone().all(|(_, line)| line.len() <= max));
        assert!(otr.clone().any(|(_, line)| line.starts_with(b"?OTR|") || line.starts_with(b"?OTR,")));
    }
}

#[test]
fn keys_go_to_libotr_and_back() {
    if skipped() {
        return;
    }
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("keys-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("otr.key");
    let account = KeyFileAccount { name: "peer".into(), protocol: "irc".into() };
    std::fs::write(&file, alice().to_key_file(&account)).unwrap();
    let ours = alice().fingerprint().to_string().replace(' ', "");
    assert_eq!(Peer::start(Kind::Libotr("3"), &directory).fingerprint, ours);

    let theirs = std::fs::read_to_string(key_directory(Kind::Libotr("3")).join("otr.key")).unwrap();
    let keys = Identity::read_key_file(&theirs).unwrap();
    let peer = Peer::start(Kind::Libotr("3"), &key_directory(Kind::Libotr("3")));
    assert_eq!((keys.len(), &keys[0].0), (1, &account));
    assert_eq!(keys[0].1.fingerprint().to_string().replace(' ', ""), peer.fingerprint);
}

#[test]
fn libotr_version_3() {
    life(Kind::Libotr("3"), None);
}

#[test]
fn libotr_version_3_in_fragments() {
    life(Kind::Libotr("23"), Some(LINE));
}

#[test]
fn libotr_version_2() {
    life(Kind::Libotr("2"), None);
}

#[test]
fn libotr_version_2_in_fragments() {
    life(Kind::Libotr("2"), Some(LINE));
}

#[test]
fn potr() {
    life(Kind::Potr, None);
}

#[test]
fn potr_in_fragments() {
    life(Kind::Potr, Some(LINE));
}
