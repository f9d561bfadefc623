use super::*;
use crate::identity::{Identity, InstanceTag};
use crate::message::{Body, Version, decode};
use base64::Engine;

const HEADER: Header = Header { version: Version::V2, sender: InstanceTag::NONE, receiver: InstanceTag::NONE };

/// Both sides as an exchange leaves them.
fn pair() -> (Ratchet, Ratchet) {
    let their_key = Identity::generate().unwrap().public().clone();
    let (a, b) = (DhPair::generate().unwrap(), DhPair::generate().unwrap());
    let side = |ours: &DhPair, theirs: &DhPair| {
        let (ours, theirs, their_key) = (ours.clone(), theirs.public, their_key.clone());
        Ratchet::new(&Agreed { ssid: [0; 8], ours, theirs, their_keyid: OUR_KEYID, their_key }, None).unwrap()
    };
    (side(&a, &b), side(&b, &a))
}

fn open(receiver: &mut Ratchet, line: &[u8]) -> Result<Vec<u8>, Rejection> {
    let (_, Body::Data { message, covered, mac }) = decode(line).unwrap() else { panic!("not a data message") };
    receiver.decrypt(message, &covered, &mac).map(|plain| plain.to_vec())
}

fn send(sender: &mut Ratchet, receiver: &mut Ratchet) -> Vec<u8> {
    let line = sender.encrypt(HEADER, b"text", false).unwrap();
    assert_eq!(open(receiver, &line).unwrap(), b"text");
    line
}

fn announced(line: &[u8]) -> (u32, Vec<u8>) {
    let (_, Body::Data { message, .. }) = decode(line).unwrap() else { panic!("not a data message") };
    (message.sender_keyid, message.next_key.to_bytes())
}

/// How many MAC keys a message publishes, and its bytes.
fn revealed(line: &[u8]) -> (usize, Vec<u8>) {
    let text = line.strip_prefix(b"?OTR:").unwrap().strip_suffix(b".").unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    let ends = |count: &usize| bytes[bytes.len() - 4 - 20 * count..].starts_with(&(20 * *count as u32).to_be_bytes());
    ((0..8).find(ends).unwrap(), bytes)
}

#[test]
fn each_answer_brings_new_keys() {
    let (mut a, mut b) = pair();
    let mut seen = Vec::new();
    for round in 0..5 {
        let (first, second) = (announced(&send(&mut a, &mut b)), announced(&send(&mut a, &mut b)));
        assert_eq!(first, second);
        assert_eq!(first.0, OUR_KEYID + round);
        assert!(!seen.contains(&first.1));
        seen.push(first.1);
        send(&mut b, &mut a);
    }
}

/// What was sent long ago can't be opened any more, even by the receiver: its keys are gone.
#[test]
fn old_keys_are_forgotten() {
    let (mut a, mut b) = pair();
    let early = a.encrypt(HEADER, b"early", false).unwrap();
    let late = a.encrypt(HEADER, b"late", false).unwrap();
    assert_eq!(open(&mut b, &late).unwrap(), b"late");
    // Out of order: refused, although the keys are there.
    assert_eq!(open(&mut b, &early), Err(Rejection::Replayed));
    for _ in 0..3 {
        send(&mut b, &mut a);
        send(&mut a, &mut b);
    }
    assert_eq!(open(&mut b, &early), Err(Rejection::UnknownKeys));
    assert!(b.pairings.len() <= 4);
}

/// Every key that verified something is published once, after it was forgotten, and not before.
#[test]
fn used_mac_keys_are_published_once() {
    let (mut a, mut b) = pair();
    let (mut used, mut published) = (Vec::new(), Vec::new());
    for _ in 0..6 {
        send(&mut a, &mut b);
        used.extend(b.pairings.iter().filter(|pairing| pairing.verified).map(|pairing| pairing.keys.receive_mac));
        let held: Vec<_> = b.pairings.iter().map(|pairing| pairing.keys.receive_mac).collect();
        let (count, bytes) = revealed(&send(&mut b, &mut a));
        let keys = bytes[bytes.len() - 20 * count..].chunks(20).map(<[u8]>::to_vec);
        for key in keys {
            assert!(!held.iter().any(|other| other[..] == key));
            assert!(used.iter().any(|other| other[..] == key));
            assert!(!published.contains(&key));
            published.push(key);
        }
    }
    assert!(published.len() >= 3, "{}", published.len());
}

#[test]
fn a_new_exchange_publishes_what_the_old_one_left() {
    let (mut a, mut b) = pair();
    send(&mut a, &mut b);
    let (_, next) = pair();
    let agreed = Agreed {
        ssid: [0; 8],
        ours: next.our_last.clone(),
        theirs: next.their_newest,
        their_keyid: 1,
        their_key: Identity::generate().unwrap().public().clone(),
    };
    let mut b = Ratchet::new(&agreed, Some(b)).unwrap();
    assert_eq!(revealed(&b.encrypt(HEADER, b"", true).unwrap()).0, 1);
    assert_eq!(revealed(&b.encrypt(HEADER, b"", true).unwrap()).0, 0);
}

#[test]
fn serial_numbers_out_of_place_are_refused() {
    let (mut a, _) = pair();
    for (ours, theirs) in [(0, 1), (3, 1), (1, 0), (1, 2), (u32::MAX, u32::MAX), (0, 0)] {
        assert_eq!(a.pairing(ours, theirs).err(), Some(Rejection::UnknownKeys), "{ours} {theirs}");
    }
    assert!(a.pairings.is_empty());
}
