//! Two of our own sessions over a line that loses, copies, swaps and damages: whatever happens, nothing that was to be
//! private is seen on the line, nothing that was not sent is believed, and nothing panics.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{Pair, alice, bob, private_texts};
use mesyx_otr::{Config, Event, Output, Policy, Sent, Session, SessionState};
use proptest::prelude::*;
use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// What can happen next. `true`: on Alice's side, or to a line on its way from Alice.
#[derive(Debug, Clone)]
enum Step {
    Say(bool),
    Deliver(bool),
    Lose(bool),
    Copy(bool),
    Swap(bool),
    Damage(bool, usize, u8),
    Start(bool),
    End(bool),
    Wait(u64),
    Restart(bool),
    Verify(bool),
    Answer(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let side = any::<bool>;
    prop_oneof![
        6 => side().prop_map(Step::Say),
        24 => side().prop_map(Step::Deliver),
        1 => side().prop_map(Step::Lose),
        1 => side().prop_map(Step::Copy),
        1 => side().prop_map(Step::Swap),
        1 => (side(), any::<usize>(), 1..=255u8).prop_map(|(side, at, with)| Step::Damage(side, at, with)),
        2 => side().prop_map(Step::Start),
        1 => side().prop_map(Step::End),
        1 => (0..100u64).prop_map(Step::Wait),
        1 => side().prop_map(Step::Restart),
        1 => side().prop_map(Step::Verify),
        1 => side().prop_map(Step::Answer),
    ]
}

/// One side and the lines on their way from it.
struct Side {
    session: Session,
    config: Config,
    wire: VecDeque<Vec<u8>>,
    /// What was, or is to be, sent encrypted.
    secrets: BTreeSet<Vec<u8>>,
    /// What arrived through a private conversation.
    read: Vec<Vec<u8>>,
}

struct World {
    sides: [Side; 2],
    now: Instant,
    said: usize,
}

impl World {
    fn new(a: Config, b: Config) -> Self {
        let side = |key, config: Config| Side {
            session: Session::new(key, config.clone()),
            config,
            wire: VecDeque::new(),
            secrets: BTreeSet::new(),
            read: vec![],
        };
        Self { sides: [side(alice(), a), side(bob(), b)], now: Instant::now(), said: 0 }
    }

    /// Takes what a side produced; here the promises are checked.
    fn take(&mut self, at: usize, out: Output) {
        for line in &out.lines {
            for secret in self.sides.iter().flat_map(|side| &side.secrets) {
                assert!(!line.windows(secret.len()).any(|window| window == secret), "{}", line.escape_ascii());
            }
        }
        let read = private_texts(&out.events);
        for text in &read {
            assert!(self.sides[1 - at].secrets.contains(text), "never sent: {}", text.escape_ascii());
            assert!(!self.sides[at].read.contains(text), "twice: {}", text.escape_ascii());
        }
        for event in &out.events {
            assert!(!matches!(event, Event::SmpDone(done) if !done.same), "both gave the same secret");
        }
        self.sides[at].read.extend(read);
        self.sides[at].wire.extend(out.lines);
    }

    fn step(&mut self, step: &Step) {
        let now = self.now;
        match *step {
            Step::Say(a) => {
                let at = usize::from(!a);
                self.said += 1;
                let text = format!("text <{}> from {at}", self.said).into_bytes();
                if let Ok((sent, out)) = self.sides[at].session.send(&text, now) {
                    if sent != Sent::Clear {
                        self.sides[at].secrets.insert(text);
                    } else {
                        assert_ne!(self.sides[at].config.policy, Policy::Require);
                        assert_eq!(self.sides[at].session.state(), SessionState::Plain);
                    }
                    self.take(at, out);
                }
            }
            Step::Deliver(a) => self.deliver(usize::from(!a)),
            Step::Lose(a) => {
                self.sides[usize::from(!a)].wire.pop_front();
            }
            Step::Copy(a) => {
                let wire = &mut self.sides[usize::from(!a)].wire;
                wire.extend(wire.front().cloned());
            }
            Step::Swap(a) => {
                let wire = &mut self.sides[usize::from(!a)].wire;
                if wire.len() > 1 {
                    wire.swap(0, 1);
                }
            }
            Step::Damage(a, at, with) => {
                if let Some(line) = self.sides[usize::from(!a)].wire.front_mut() {
                    damage(line, at, with);
                }
            }
            Step::Start(a) => {
                let at = usize::from(!a);
                if let Ok(out) = self.sides[at].session.start(now) {
                    self.take(at, out);
                }
            }
            Step::End(a) => {
                let at = usize::from(!a);
                let out = self.sides[at].session.end(now);
                self.take(at, out);
            }
            Step::Wait(seconds) => {
                self.now += Duration::from_secs(seconds);
                for at in 0..2 {
                    let out = self.sides[at].session.tick(self.now);
                    self.take(at, out);
                }
            }
            Step::Restart(a) => {
                let side = &mut self.sides[usize::from(!a)];
                side.session = Session::new(if a { alice() } else { bob() }, side.config.clone());
            }
            Step::Verify(a) => {
                let at = usize::from(!a);
                if let Ok(out) = self.sides[at].session.smp_start(b"shared", None, now) {
                    self.take(at, out);
                }
            }
            Step::Answer(a) => {
                let at = usize::from(!a);
                if let Ok(out) = self.sides[at].session.smp_answer(b"shared", now) {
                    self.take(at, out);
                }
            }
        }
    }

    fn deliver(&mut self, from: usize) {
        if let Some(line) = self.sides[from].wire.pop_front() {
            let out = self.sides[1 - from].session.receive(&line, self.now);
            self.take(1 - from, out);
        }
    }

    /// Delivers all that is on its way. Bounded: two sides that answer each other for ever would be a defect.
    fn settle(&mut self) {
        for _ in 0..2000 {
            if self.sides.iter().all(|side| side.wire.is_empty()) {
                return;
            }
            self.deliver(0);
            self.deliver(1);
        }
        panic!("the two sides never fall silent");
    }
}

/// Changes a byte: inside the base64 armour, so that the damage goes deep, or of the line itself.
fn damage(line: &mut Vec<u8>, at: usize, with: u8) {
    let inside = line.strip_prefix(b"?OTR:").and_then(|rest| rest.strip_suffix(b"."));
    match inside.and_then(|text| STANDARD.decode(text).ok()).filter(|bytes| !bytes.is_empty()) {
        Some(mut bytes) => {
            let at = at % protected(&bytes);
            bytes[at] ^= with;
            *line = [b"?OTR:", STANDARD.encode(bytes).as_bytes(), b"."].concat();
        }
        None if !line.is_empty() => {
            let at = at % line.len();
            line[at] ^= with;
        }
        None => {}
    }
}

/// How much of a message is protected. Published MAC keys at the end of a data message are not, and need not be.
fn protected(bytes: &[u8]) -> usize {
    let end = |count: usize| bytes.len().checked_sub(4 + 20 * count);
    let is_end = |at: usize| bytes[at..at + 4] == u32::to_be_bytes((bytes.len() - at - 4) as u32);
    let data = bytes.get(2) == Some(&3);
    (0..64).filter_map(end).find(|at| data && is_end(*at)).unwrap_or(bytes.len())
}

fn config() -> impl Strategy<Value = Config> {
    (any::<bool>(), any::<bool>()).prop_map(|(require, fragments)| Config {
        policy: if require { Policy::Require } else { Policy::Opportunistic },
        max_line: fragments.then_some(300),
        ..Config::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn nothing_leaks_and_nothing_is_forged(a in config(), b in config(), steps in proptest::collection::vec(step(), 0..150)) {
        let mut world = World::new(a, b);
        steps.iter().for_each(|step| world.step(step));
        world.settle();
        // After the storm, and once the limits allow it, the two find each other again.
        world.step(&Step::Wait(300));
        world.step(&Step::Start(true));
        world.settle();
        let before = world.sides[1].read.len();
        world.step(&Step::Say(true));
        world.settle();
        prop_assert_eq!(world.sides[1].read.len(), before + 1);
    }

    /// Every line of a whole conversation, damaged in one place, comes before the sound one.
    #[test]
    fn damaged_lines_change_nothing(places in proptest::collection::vec((any::<usize>(), 1..=255u8), 60)) {
        let mut pair = Pair::new(Config::default(), Config::default());
        let mut places = places.into_iter().cycle();
        let mut wires = [VecDeque::from(pair.a.start(pair.now).unwrap().lines), VecDeque::new()];
        let (mut read, mut verified) = (vec![], 0);
        for round in 0..3 {
            while let Some(from) = (0..2).find(|&from| !wires[from].is_empty()) {
                let line = wires[from].pop_front().unwrap();
                let mut bad = line.clone();
                let (at, with) = places.next().unwrap();
                damage(&mut bad, at, with);
                let to = if from == 0 { &mut pair.b } else { &mut pair.a };
                // A query and a commitment have no protection of their own, and count as they come.
                let protected = line.len() > 400 && !line.starts_with(b"?OTR:AAMC");
                if protected {
                    let events = to.receive(&bad, pair.now).events;
                    prop_assert!(private_texts(&events).is_empty());
                }
                let out = to.receive(&line, pair.now);
                read.extend(private_texts(&out.events));
                verified += out.events.iter().filter(|event| matches!(event, Event::SmpDone(v) if v.same)).count();
                wires[1 - from].extend(out.lines);
                if out.events.iter().any(|event| matches!(event, Event::SmpAsked { .. })) {
                    wires[1 - from].extend(to.smp_answer(b"s", pair.now).unwrap().lines);
                }
            }
            wires[0].extend(match round {
                0 => pair.a.send(&[b'x'; 400], pair.now).unwrap().1.lines,
                1 => pair.a.smp_start(b"s", None, pair.now).unwrap().lines,
                _ => vec![],
            });
        }
        prop_assert_eq!(read, [vec![b'x'; 400]]);
        prop_assert_eq!(verified, 2);
    }

    #[test]
    fn no_line_panics(lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..20), kind in 0..6usize) {
        let mut session = Session::new(alice(), Config::default());
        for bytes in lines {
            let prefix: &[u8] = [&b""[..], b"?OTR", b"?OTR:", b"?OTR|", b"?OTR,", b"?OTR Error:"][kind];
            let line = [prefix, &bytes].concat();
            let _ = session.is_heavy(&line);
            session.receive(&line, Instant::now());
            for header in [&[0, 3, kind as u8][..], &[0, 2, 2], &[0, 3, 2, 0, 0, 1, 1, 0, 0, 0, 0], &[0, 3, 3, 0, 0, 1, 1]] {
                let armoured = STANDARD.encode([header, &bytes].concat());
                session.receive(format!("?OTR:{armoured}.").as_bytes(), Instant::now());
            }
        }
    }
}
