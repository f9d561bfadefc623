use super::*;

fn initiator() -> (Smp, Tlv) {
    Smp::start(Exponent::from_hash(&[1; 32]), None).unwrap()
}

/// The first `count` messages of an honest run, each with the state of the side that is to receive it.
fn honest(message: u16) -> (Smp, Tlv) {
    let secret = Exponent::from_hash(&[1; 32]);
    let (mut alice, first) = initiator();
    let mut bob = Smp::Idle;
    if message == kind::SMP_1 {
        return (bob, first);
    }
    assert!(matches!(bob.receive(&first).unwrap(), Step::Ask(None)));
    let second = bob.answer(&secret).unwrap().unwrap();
    if message == kind::SMP_2 {
        return (alice, second);
    }
    let Step::Reply(third) = alice.receive(&second).unwrap() else { panic!("no third message") };
    if message == kind::SMP_3 {
        return (bob, third);
    }
    let Step::Done { same: true, reply: Some(fourth) } = bob.receive(&third).unwrap() else { panic!("not the same") };
    (alice, fourth)
}

/// The numbers of a message.
fn numbers(tlv: &Tlv) -> Vec<Vec<u8>> {
    let mut reader = Reader::new(&tlv.value, "test");
    (0..reader.int().unwrap()).map(|_| reader.data().unwrap().to_vec()).collect()
}

fn with_numbers(kind: u16, numbers: &[Vec<u8>]) -> Tlv {
    let mut out = Writer::default();
    out.int(numbers.len() as u32);
    numbers.iter().for_each(|number| {
        out.data(number);
    });
    Tlv { kind, value: out.0 }
}

const MESSAGES: [u16; 4] = [kind::SMP_1, kind::SMP_2, kind::SMP_3, kind::SMP_4];

/// Each number of each message is covered by a proof or by the final comparison of a value that is.
#[test]
fn no_number_can_be_changed() {
    for message in MESSAGES {
        let count = numbers(&honest(message).1).len();
        for at in 0..count {
            let (mut receiver, tlv) = honest(message);
            let mut changed = numbers(&tlv);
            *changed[at].last_mut().unwrap() ^= 1;
            let result = receiver.receive(&with_numbers(message, &changed));
            assert!(matches!(result, Err(Rejection::BadProof | Rejection::OutOfRange)), "{message} {at}");
            assert!(matches!(receiver, Smp::Idle));
        }
    }
}

#[test]
fn numbers_out_of_range_are_refused() {
    for message in MESSAGES {
        let count = numbers(&honest(message).1).len();
        for at in 0..count {
            let bad = [vec![], vec![0xff; 192], vec![1; 193]];
            let (mut receiver, tlv) = honest(message);
            let mut changed = numbers(&tlv);
            changed[at] = bad[at % bad.len()].clone();
            assert!(receiver.receive(&with_numbers(message, &changed)).is_err(), "{message} {at}");
        }
    }
}

#[test]
fn numbers_missing_or_left_over_are_refused() {
    for message in MESSAGES {
        let (mut receiver, tlv) = honest(message);
        let mut fewer = numbers(&tlv);
        fewer.pop();
        assert!(receiver.receive(&with_numbers(message, &fewer)).is_err());
        let (mut receiver, mut tlv) = honest(message);
        tlv.value.push(0);
        assert!(receiver.receive(&tlv).is_err());
    }
}

/// A proof made for one message does not serve in another.
#[test]
fn proofs_can_not_be_moved() {
    let (mut bob, first) = honest(kind::SMP_1);
    let mut swapped = numbers(&first);
    swapped.rotate_left(3);
    assert!(matches!(bob.receive(&with_numbers(kind::SMP_1, &swapped)), Err(Rejection::BadProof)));
}

/// The peer's own values played back at it would make the quotients one.
#[test]
fn values_played_back_are_refused() {
    let (mut bob, third) = honest(kind::SMP_3);
    let Smp::AwaitThird(responder) = &bob else { panic!("no third message awaited") };
    let mut reflected = numbers(&third);
    reflected[0] = responder.pb.to_bytes();
    assert!(matches!(bob.receive(&with_numbers(kind::SMP_3, &reflected)), Err(Rejection::OutOfRange)));
}

#[test]
fn messages_out_of_step_end_the_run() {
    for message in MESSAGES {
        let (_, tlv) = honest(message);
        for state in MESSAGES.into_iter().filter(|state| *state != message) {
            let (mut receiver, _) = honest(state);
            assert!(matches!(receiver.receive(&tlv), Err(Rejection::Unexpected)));
            assert!(matches!(receiver, Smp::Idle));
        }
    }
}

#[test]
fn different_secrets_are_told_apart_and_an_abort_at_the_end_counts_as_different() {
    let (mut alice, first) = initiator();
    let mut bob = Smp::Idle;
    bob.receive(&first).unwrap();
    let second = bob.answer(&Exponent::from_hash(&[2; 32])).unwrap().unwrap();
    let Step::Reply(third) = alice.receive(&second).unwrap() else { panic!("no third message") };
    assert!(matches!(bob.receive(&third).unwrap(), Step::Done { same: false, reply: Some(_) }));
    let abort = Tlv::empty(kind::SMP_ABORT);
    assert!(matches!(alice.receive(&abort).unwrap(), Step::Done { same: false, reply: None }));
    assert!(matches!(initiator().0.receive(&abort).unwrap(), Step::Aborted));
}
