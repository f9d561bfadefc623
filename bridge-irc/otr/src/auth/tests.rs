use super::*;
use crate::identity::InstanceTag;
use crate::message::Version;
use std::sync::OnceLock;

const HEADER: Header = Header { version: Version::V2, sender: InstanceTag::NONE, receiver: InstanceTag::NONE };

fn identities() -> &'static (Identity, Identity) {
    static KEYS: OnceLock<(Identity, Identity)> = OnceLock::new();
    KEYS.get_or_init(|| (Identity::generate().unwrap(), Identity::generate().unwrap()))
}

/// Both sides of an exchange in which the keys are exchanged and nothing is signed yet.
struct Halfway {
    committer: Revealed,
    responder: Answered,
}

fn halfway() -> Halfway {
    let commitment = Commitment::new().unwrap();
    let dh = DhPair::generate().unwrap();
    let keys = AkeKeys::derive(&commitment.dh.shared_secret(&dh.public));
    let signature = seal_signature(&keys.reveal, &commitment.dh.public, &dh.public, &identities().0).unwrap();
    let sent = RevealSignature { key: *commitment.key, signature };
    let committer = Revealed { dh: commitment.dh.clone(), theirs: dh.public, keys, sent };
    Halfway { committer, responder: Answered { dh, commit: commitment.message } }
}

/// Seals what a peer may claim: a public key, a serial number and a signature, under the right keys.
fn seal(keys: &SignatureKeys, claimed: &Identity, keyid: u32, signature: &[u8]) -> SealedSignature {
    let mut plain = Writer::default();
    plain.raw(claimed.public().encoded()).int(keyid).raw(signature);
    let mut encrypted = plain.0;
    aes_ctr(&keys.cipher, &[0; 8], &mut encrypted);
    let mac = signature_mac(keys, &encrypted);
    SealedSignature { encrypted, mac }
}

#[test]
fn an_honest_exchange_agrees() {
    let Halfway { committer, responder } = halfway();
    let reveal = RevealSignature { key: committer.sent.key, signature: clone(&committer.sent.signature) };
    let mut bob = Auth::AwaitReveal(Box::new(responder));
    let (_, agreed) = bob.on_reveal(&reveal, HEADER, &identities().1).unwrap();
    assert_eq!(agreed.their_key.fingerprint(), identities().0.fingerprint());
    assert_eq!((agreed.ssid, agreed.their_keyid), (committer.keys.ssid, OUR_KEYID));
    assert!(matches!(bob, Auth::Idle));
}

fn clone(message: &SealedSignature) -> SealedSignature {
    SealedSignature { encrypted: message.encrypted.clone(), mac: message.mac }
}

/// Whoever sits between has all the keys of the exchange, and no signature of the one it claims to be.
#[test]
fn a_signature_by_another_key_is_refused() {
    let (alice, mallory) = identities();
    for (signer, claimed) in [(mallory, alice), (alice, mallory)] {
        let Halfway { committer, responder } = halfway();
        let keys = &committer.keys.reveal;
        let value = signed_value(keys, &committer.dh.public, &committer.theirs, claimed.public(), OUR_KEYID);
        let signature = seal(keys, claimed, OUR_KEYID, &signer.sign(&value).unwrap());
        let mut bob = Auth::AwaitReveal(Box::new(responder));
        let result = bob.on_reveal(&RevealSignature { key: committer.sent.key, signature }, HEADER, mallory);
        assert_eq!(result.err(), Some(Rejection::BadSignature));
        assert!(matches!(bob, Auth::AwaitReveal(_)));
    }
}

/// A signature made for one exchange is worth nothing in another, nor for another serial number, nor the other way
/// round.
#[test]
fn a_signature_over_something_else_is_refused() {
    let bob = &identities().1;
    let committer = halfway().committer;
    let Revealed { dh, theirs, keys, .. } = &committer;
    let other = DhPair::generate().unwrap().public;
    for (signer, peer, signed_keyid, keyid) in [
        (&other, &dh.public, 1, 1),
        (theirs, &other, 1, 1),
        (&dh.public, theirs, 1, 1),
        (theirs, &dh.public, 1, 2),
        (theirs, &dh.public, 2, 1),
    ] {
        let value = signed_value(&keys.signature, signer, peer, bob.public(), signed_keyid);
        let message = seal(&keys.signature, bob, keyid, &bob.sign(&value).unwrap());
        let result = open_signature(&keys.signature, &message, theirs, &dh.public);
        assert_eq!(result.err(), Some(Rejection::BadSignature));
    }
    let value = signed_value(&keys.signature, theirs, &dh.public, bob.public(), 7);
    let good = seal(&keys.signature, bob, 7, &bob.sign(&value).unwrap());
    assert_eq!(open_signature(&keys.signature, &good, theirs, &dh.public).unwrap().1, 7);
    // The peer's own words played back at it: its keys are those of the other direction.
    let mut alice_waits = Auth::AwaitSignature(Box::new(committer));
    let Auth::AwaitSignature(state) = &alice_waits else { panic!("not waiting") };
    let echo = clone(&state.sent.signature);
    assert_eq!(alice_waits.on_signature(&echo).err(), Some(Rejection::BadMac));
}

#[test]
fn serial_number_zero_is_refused() {
    let Revealed { dh, theirs, keys, .. } = halfway().committer;
    let bob = &identities().1;
    let value = signed_value(&keys.signature, &theirs, &dh.public, bob.public(), 0);
    let message = seal(&keys.signature, bob, 0, &bob.sign(&value).unwrap());
    let result = open_signature(&keys.signature, &message, &theirs, &dh.public);
    assert_eq!(result.err(), Some(Rejection::Malformed("key serial number")));
}

/// The commitment binds: another key than the committed one can't be opened.
#[test]
fn a_commitment_opens_to_one_key_only() {
    let (first, second) = (halfway(), halfway());
    let key = second.committer.sent.key;
    let reveal = RevealSignature { key, signature: clone(&first.committer.sent.signature) };
    let mut bob = Auth::AwaitReveal(Box::new(first.responder));
    assert_eq!(bob.on_reveal(&reveal, HEADER, &identities().1).err(), Some(Rejection::BadCommitment));
}

/// A committed key outside the group is found when it is opened.
#[test]
fn a_committed_key_is_checked() {
    let mut encrypted = vec![0, 0, 0, 1, 1];
    let hash = Sha256::digest(&encrypted).into();
    aes_ctr(&[9; 16], &[0; 8], &mut encrypted);
    let commit = DhCommit { encrypted, hash };
    let mut bob = Auth::AwaitReveal(Box::new(Answered { dh: DhPair::generate().unwrap(), commit }));
    let signature = SealedSignature { encrypted: vec![], mac: [0; 20] };
    let result = bob.on_reveal(&RevealSignature { key: [9; 16], signature }, HEADER, &identities().1);
    assert_eq!(result.err(), Some(Rejection::OutOfRange));
}

#[test]
fn messages_out_of_step_are_refused() {
    let Halfway { committer, responder } = halfway();
    let (identity, element) = (&identities().0, committer.dh.public);
    let mut waiting = Auth::AwaitReveal(Box::new(responder));
    assert_eq!(waiting.on_key(element, HEADER, identity).err(), Some(Rejection::Unexpected));
    assert_eq!(waiting.on_signature(&committer.sent.signature).err(), Some(Rejection::Unexpected));
    assert_eq!(Auth::Idle.on_reveal(&committer.sent, HEADER, identity).err(), Some(Rejection::Unexpected));
    // Another key after the one that was answered; the same key is answered as before.
    let known = committer.theirs;
    let before = committer.sent.encode(HEADER);
    let mut waiting = Auth::AwaitSignature(Box::new(committer));
    assert_eq!(waiting.on_key(element, HEADER, identity).err(), Some(Rejection::Unexpected));
    assert_eq!(waiting.on_key(known, HEADER, identity).unwrap(), before);
}

/// DSA keys that are none: of the wrong size, out of range, outside the subgroup, or no primes at all. None panics.
#[test]
fn strange_keys_are_refused() {
    let encoded = identities().0.public().encoded();
    let mut reader = Reader::new(&encoded[2..], "key");
    let numbers: Vec<_> = (0..4).map(|_| reader.data().unwrap().to_vec()).collect();
    let read = |numbers: &[Vec<u8>]| {
        let mut out = Writer::default();
        out.short(0);
        numbers.iter().for_each(|number| {
            out.data(number);
        });
        PublicKey::read(&mut Reader::new(&out.0, "key")).map(|key| key.fingerprint())
    };
    assert_eq!(read(&numbers), Ok(identities().0.fingerprint()));
    for at in 0..4 {
        let same = numbers[at].clone();
        let even = [&same[..same.len() - 1], &[same[same.len() - 1] & 0xfe]].concat();
        let bads = [
            vec![],
            vec![1],
            vec![2],
            even,
            [&[1], &same[..]].concat(),
            vec![0xff; 20],
            vec![0xff; 128],
            vec![0xff; 400],
        ];
        for bad in bads.into_iter().filter(|bad| *bad != same) {
            let mut changed = numbers.clone();
            changed[at] = bad;
            // A generator out of place makes a key that signs nothing; all else is refused when read.
            let result = read(&changed);
            assert!(at == 2 || result.is_err(), "{at}");
        }
    }
}

/// The greater hash stands when both commit at once.
#[test]
fn one_of_two_commitments_stands() {
    let (a, b) = (Commitment::new().unwrap(), Commitment::new().unwrap());
    assert_ne!(a.outranks(&b.message), b.outranks(&a.message));
    let (high, low) = if a.outranks(&b.message) { (a, b) } else { (b, a) };
    let again = high.encode(HEADER);
    let (high_message, low_message) = (high.message.clone(), low.message.clone());
    let (mut winner, mut loser) = (Auth::AwaitKey(Box::new(high)), Auth::AwaitKey(Box::new(low)));
    assert_eq!(winner.on_commit(low_message, HEADER).unwrap(), again);
    loser.on_commit(high_message, HEADER).unwrap();
    assert!(matches!((winner, loser), (Auth::AwaitKey(_), Auth::AwaitReveal(_))));
}
