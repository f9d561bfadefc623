//! SMP between two of our own sessions, over a perfect line.

mod common;

use common::{Pair, alice, bob};
use mesyx_otr::{Config, Error, Event, Identity, Verification};

#[test]
fn smp_tells_same_from_different_whoever_begins() {
    for (secret, same) in [(&b"horse"[..], true), (b"Horse", false)] {
        for question in [None, Some(&b"animal?"[..])] {
            let mut pair = Pair::private(Config::default(), Config::default());
            let out = pair.a.smp_start(b"horse", question, pair.now).unwrap();
            pair.a_sends(out);
            let (_, b) = pair.take();
            let asked = match &b[..] {
                [Event::SmpAsked { question }] => question.as_ref().map(|text| text.to_vec()),
                other => panic!("{other:?}"),
            };
            assert_eq!(asked.as_deref(), question);
            assert_eq!(pair.a.smp_start(b"x", None, pair.now).err(), Some(Error::SmpBusy));
            let out = pair.b.smp_answer(secret, pair.now).unwrap();
            pair.b_sends(out);
            let done = |key: &Identity, ours| {
                let with_question = question.is_some();
                Event::SmpDone(Verification { fingerprint: key.fingerprint(), same, ours, with_question })
            };
            let (a, b) = pair.take();
            assert_eq!((a, b), (vec![done(&bob(), true)], vec![done(&alice(), false)]));
        }
    }
}

#[test]
fn smp_can_be_aborted_and_begun_again() {
    let mut pair = Pair::private(Config::default(), Config::default());
    assert_eq!(pair.a.smp_answer(b"x", pair.now).err(), Some(Error::SmpNotAsked));
    let out = pair.a.smp_start(b"one", None, pair.now).unwrap();
    pair.a_sends(out);
    let out = pair.b.smp_abort(pair.now).unwrap();
    pair.b_sends(out);
    assert_eq!(pair.take().0, [Event::SmpAborted]);
    // Both begin at once: out of step, both give up.
    let (x, y) = (pair.a.smp_start(b"x", None, pair.now).unwrap(), pair.b.smp_start(b"x", None, pair.now).unwrap());
    pair.a_sends(x);
    pair.b_sends(y);
    assert!(pair.take().0.contains(&Event::SmpAborted));
    let out = pair.b.smp_start(b"two", None, pair.now).unwrap();
    pair.b_sends(out);
    let out = pair.a.smp_answer(b"two", pair.now).unwrap();
    pair.a_sends(out);
    assert!(pair.take().1.iter().any(|event| matches!(event, Event::SmpDone(v) if v.same && v.ours)));
}
