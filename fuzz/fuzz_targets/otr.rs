//! OTR: two sessions, and between them somebody who does with their lines what the input says. Nothing panics, nobody
//! is taken for another, no text is shown as private that the other side did not send so, and every line fits.
//!
//! The input is a script: each byte is a step, and what a step needs follows it. Keys and nonces are fresh in each
//! run, so that a finding deep in an encrypted message may need several runs to show again.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use mesyx_otr::{Config, Event, Identity, Output, Policy, Sent, Session, SessionState, TagPlace, limits};
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// A line of the network: so many bytes, as on IRC.
const MAX_LINE: usize = 400;

/// Key exchanges cost milliseconds; longer scripts only repeat.
const MAX_STEPS: usize = 64;

static KEYS: OnceLock<[Arc<Identity>; 2]> = OnceLock::new();

fuzz_target!(
    init: {
        KEYS.get_or_init(|| [0, 1].map(|_| Arc::new(Identity::generate().expect("random bytes"))));
    },
    |data: &[u8]| -> Corpus {
        let Some(keys) = KEYS.get() else { return Corpus::Reject };
        run(keys, data)
    }
);

struct Side {
    session: Session,
    max_line: Option<usize>,
    /// Lines for this side that are under way.
    inbox: VecDeque<Vec<u8>>,
    /// What its user said that went out encrypted, or was held.
    said: Vec<Vec<u8>>,
    /// The secrets that its user gave for verifications.
    secrets: Vec<u8>,
}

fn run(keys: &[Arc<Identity>; 2], mut script: &[u8]) -> Corpus {
    let Some(setup) = take(&mut script) else { return Corpus::Reject };
    let mut sides = [0, 1].map(|at| {
        let bits = setup >> (4 * at);
        let policy = if bits & 1 == 0 { Policy::Opportunistic } else { Policy::Require };
        let tag_place = if bits & 2 == 0 { TagPlace::Leading } else { TagPlace::Trailing };
        let known = if bits & 4 == 0 { Vec::new() } else { vec![keys[1 - at].fingerprint()] };
        let max_line = (bits & 8 == 0).then_some(MAX_LINE);
        let config = Config { policy, tag_place, known, max_line, ..Config::default() };
        let session = Session::new(Arc::clone(&keys[at]), config);
        Side { session, max_line, inbox: VecDeque::new(), said: Vec::new(), secrets: Vec::new() }
    });
    let mut now = Instant::now();
    for _ in 0..MAX_STEPS {
        let Some(step) = take(&mut script) else { break };
        let (at, other) = if step & 1 == 0 { (0, 1) } else { (1, 0) };
        let before = sides[at].session.state();
        let out = match (step >> 1) % 16 {
            // Any line at all.
            0 => {
                let line = text(&mut script);
                let _ = sides[at].session.is_heavy(line);
                sides[at].session.receive(line, now)
            }
            // The next line under way, as it is.
            1 | 2 => deliver(&mut sides[at], now, |_| {}),
            // All lines, both ways, until nothing is under way.
            3 | 4 => {
                settle(&mut sides, keys, now);
                continue;
            }
            // The next line with a byte changed.
            5 => {
                let (place, change) = (take(&mut script).unwrap_or(9), take(&mut script).unwrap_or(1));
                deliver(&mut sides[at], now, |line| {
                    let place = usize::from(place) * line.len() / 256;
                    if let Some(byte) = line.get_mut(place) {
                        *byte ^= change;
                    }
                })
            }
            // The next line cut short.
            6 => {
                let place = take(&mut script).unwrap_or(0);
                deliver(&mut sides[at], now, |line| line.truncate(usize::from(place) * line.len() / 256))
            }
            // A line twice, the second time after the others.
            7 => {
                if let Some(line) = sides[at].inbox.front().cloned() {
                    sides[at].inbox.push_back(line);
                }
                continue;
            }
            // Lost, or late.
            8 => {
                if let Some(line) = sides[at].inbox.pop_front()
                    && take(&mut script).unwrap_or(0) & 1 == 1
                {
                    sides[at].inbox.push_back(line);
                }
                continue;
            }
            // A line back to the one who sent it.
            9 => {
                let Some(line) = sides[other].inbox.front().cloned() else { continue };
                sides[at].session.receive(&line, now)
            }
            10 | 11 => {
                let text = text(&mut script);
                let Ok((sent, out)) = sides[at].session.send(text, now) else { continue };
                if sent == Sent::Clear {
                    assert_eq!(before, SessionState::Plain, "clear text in a private conversation");
                    sides[other].inbox.extend(out.lines);
                    continue;
                }
                sides[at].said.push(text.to_vec());
                // A query is a sentence of our own.
                let open =
                    |line: &Vec<u8>| !line.starts_with(b"?OTRv") && line.windows(text.len()).any(|part| part == text);
                assert!(text.len() < 20 || !out.lines.iter().any(open), "a text went out in the clear");
                out
            }
            12 => sides[at].session.start(now).unwrap_or_default(),
            13 => {
                let secret = take(&mut script).unwrap_or(0);
                let question = (secret & 1 == 1).then_some(&b"which?"[..]);
                let session = &mut sides[at].session;
                match session
                    .smp_start(&[secret >> 1], question, now)
                    .or_else(|_| session.smp_answer(&[secret >> 1], now))
                {
                    Ok(out) => {
                        sides[at].secrets.push(secret >> 1);
                        out
                    }
                    Err(_) => session.smp_abort(now).unwrap_or_default(),
                }
            }
            14 => {
                now += Duration::from_secs(u64::from(take(&mut script).unwrap_or(0)));
                sides[at].session.tick(now)
            }
            _ => sides[at].session.end(now),
        };
        pass(&mut sides, keys, at, out);
    }
    settle(&mut sides, keys, now);
    Corpus::Keep
}

fn take(script: &mut &[u8]) -> Option<u8> {
    script.split_off_first().copied()
}

/// A length (of two bytes, the first the higher) and so many bytes.
fn text<'a>(script: &mut &'a [u8]) -> &'a [u8] {
    let length = u16::from_be_bytes([take(script).unwrap_or(0), take(script).unwrap_or(0)]);
    let (text, rest) = script.split_at(script.len().min(usize::from(length)));
    *script = rest;
    text
}

fn deliver(side: &mut Side, now: Instant, change: impl FnOnce(&mut Vec<u8>)) -> Output {
    let Some(mut line) = side.inbox.pop_front() else { return Output::default() };
    change(&mut line);
    side.session.receive(&line, now)
}

/// Two sessions must come to rest: each line leads to few others.
fn settle(sides: &mut [Side; 2], keys: &[Arc<Identity>; 2], now: Instant) {
    let mut left = 10_000;
    while sides.iter().any(|side| !side.inbox.is_empty()) {
        left -= 1;
        assert!(left > 0, "the two answer each other without end");
        for at in [0, 1] {
            let out = deliver(&mut sides[at], now, |_| {});
            pass(sides, keys, at, out);
        }
    }
}

/// Checks what a call on one side gave, and puts its lines on the way to the other.
fn pass(sides: &mut [Side; 2], keys: &[Arc<Identity>; 2], at: usize, out: Output) {
    let other = 1 - at;
    for event in &out.events {
        match event {
            Event::Private { text, fingerprint } => {
                assert_eq!(*fingerprint, keys[other].fingerprint());
                assert!(sides[other].said.iter().any(|said| said[..] == **text), "nobody said this in private");
            }
            Event::Established(established) => {
                assert_eq!(established.fingerprint, keys[other].fingerprint());
                assert!(!established.changed);
            }
            Event::SmpDone(done) if done.same => {
                let theirs = &sides[other].secrets;
                assert!(sides[at].secrets.iter().any(|secret| theirs.contains(secret)), "the secrets differ");
            }
            Event::PeerError(text) => assert!(text.len() <= limits::MAX_ERROR_TEXT),
            _ => {}
        }
    }
    for line in &out.lines {
        assert!(sides[at].max_line.is_none_or(|most| line.len() <= most), "a line is too long");
        assert!(!line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "a line can't be sent");
    }
    sides[other].inbox.extend(out.lines);
}
