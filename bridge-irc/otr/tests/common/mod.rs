//! Two identities and a line between two sessions, for all tests.
#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use mesyx_otr::{Config, Event, Identity, Output, Sent, Session, SessionState};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

pub fn alice() -> Arc<Identity> {
    static KEY: OnceLock<Arc<Identity>> = OnceLock::new();
    KEY.get_or_init(|| Arc::new(Identity::generate().unwrap())).clone()
}

pub fn bob() -> Arc<Identity> {
    static KEY: OnceLock<Arc<Identity>> = OnceLock::new();
    KEY.get_or_init(|| Arc::new(Identity::generate().unwrap())).clone()
}

/// Two sessions with a perfect line between them.
pub struct Pair {
    pub a: Session,
    pub b: Session,
    pub now: Instant,
    pub a_events: Vec<Event>,
    pub b_events: Vec<Event>,
    /// Every line that went over, with who sent it.
    pub lines: Vec<(char, Vec<u8>)>,
}

impl Pair {
    pub fn new(a: Config, b: Config) -> Self {
        Self {
            a: Session::new(alice(), a),
            b: Session::new(bob(), b),
            now: Instant::now(),
            a_events: vec![],
            b_events: vec![],
            lines: vec![],
        }
    }

    pub fn private(a: Config, b: Config) -> Self {
        let mut pair = Self::new(a, b);
        let out = pair.a.start(pair.now).unwrap();
        pair.a_sends(out);
        assert_eq!(pair.a.state(), SessionState::Private(bob().fingerprint()));
        assert_eq!(pair.b.state(), SessionState::Private(alice().fingerprint()));
        pair.take();
        pair
    }

    /// Delivers what a call on `a` gave, and all answers.
    pub fn a_sends(&mut self, out: Output) {
        self.a_events.extend(out.events);
        for line in out.lines {
            self.lines.push(('a', line.clone()));
            let answer = self.b.receive(&line, self.now);
            self.b_sends(answer);
        }
    }

    pub fn b_sends(&mut self, out: Output) {
        self.b_events.extend(out.events);
        for line in out.lines {
            self.lines.push(('b', line.clone()));
            let answer = self.a.receive(&line, self.now);
            self.a_sends(answer);
        }
    }

    pub fn a_says(&mut self, text: &[u8]) -> Sent {
        let (sent, out) = self.a.send(text, self.now).unwrap();
        self.a_sends(out);
        sent
    }

    pub fn b_says(&mut self, text: &[u8]) -> Sent {
        let (sent, out) = self.b.send(text, self.now).unwrap();
        self.b_sends(out);
        sent
    }

    /// The events of both sides since the last call.
    pub fn take(&mut self) -> (Vec<Event>, Vec<Event>) {
        (std::mem::take(&mut self.a_events), std::mem::take(&mut self.b_events))
    }
}

pub fn private_texts(events: &[Event]) -> Vec<Vec<u8>> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Private { text, .. } => Some(text.to_vec()),
            _ => None,
        })
        .collect()
}

pub fn clear_texts(events: &[Event]) -> Vec<(Vec<u8>, bool)> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Clear { text, unexpected } => Some((text.to_vec(), *unexpected)),
            _ => None,
        })
        .collect()
}
