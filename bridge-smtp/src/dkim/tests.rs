//! Signatures are checked by mail-auth's verifier here; by dkimpy and OpenDKIM in the program's own tests.

use super::canonical::{relax_body, relax_value, split};
use super::*;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mail_auth::common::crypto::HashAlgorithm;
use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::verify::DomainKey;
use mesyx_sdk::{MemoryHost, Secret};
use proptest::prelude::*;

/// A ring with one Ed25519 key, made here.
fn ring(selector: &str, state: KeyState) -> (KeyRing, String) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let public = STANDARD.encode(key.public_key_raw());
    let ring = KeyRing {
        keys: vec![Key {
            selector: selector.into(),
            algorithm: Algorithm::Ed25519Sha256,
            state,
            made: "2026-11-23".into(),
            public: public.clone(),
            private: Some(PrivateKey::from_der(&key.serialize_der())),
        }],
    };
    (ring, public)
}

fn host(domain: &str, ring: &KeyRing) -> MemoryHost {
    let host = MemoryHost::new("example.org".parse().unwrap());
    host.set_secret(&secret_name(domain), ring.to_secret().unwrap());
    host
}

const LETTER: &str = "From: Ann <ann@example.org>\r\nTo: bob@example.net\r\nSubject: Tea\r\n  at five\r\n\
                      Date: Mon, 23 Nov 2026 10:00:00 +0000\r\n\r\nHello  \r\n\tworld\r\n\r\n\r\n";

/// Verifies the only signature of `message` with mail-auth, given the public key.
fn verifies(message: &[u8], public: &str) -> bool {
    let message = AuthenticatedMessage::parse(message).unwrap();
    let record = format!("v=DKIM1; k=ed25519; p={public}");
    let key = DomainKey::parse(record.as_bytes()).unwrap();
    let [field] = &message.dkim_headers[..] else { panic!("one signature: {:?}", message.errors) };
    let signature = &field.header;
    let body = signature.cb.canonical_body(&message.raw_message[message.body_offset as usize..], 0);
    let body_is_same = HashAlgorithm::Sha256.hash(body).as_ref() == signature.bh;
    // The signature itself is not signed; it stands at the end.
    let behind = field.value.windows(3).rposition(|window| window == b"\tb=").unwrap() + 3;
    let mut fields = message.signed_headers(&signature.h, field.name, &field.value[..behind]);
    body_is_same && key.p.verify(&mut fields, &signature.b, signature.ch, signature.a).is_ok()
}

async fn signed(host: &MemoryHost, letter: &str) -> String {
    let dkim = Dkim::new(DkimConfig::default());
    let fields = dkim.sign(host, &Content::from(letter.as_bytes().to_vec())).await.unwrap();
    String::from_utf8(fields).unwrap() + letter
}

#[tokio::test]
async fn what_is_signed_verifies_and_what_was_changed_does_not() {
    let (ring, public) = ring("a", KeyState::Active);
    let host = host("example.org", &ring);
    let message = signed(&host, LETTER).await;
    assert!(message.lines().all(|line| line.len() < 80), "{message}");
    assert!(verifies(message.as_bytes(), &public), "{message}");
    for (old, new) in [
        ("Hello", "Hallo"),
        ("Tea", "Sea"),
        ("ann@", "eve@"),
        ("bob@", "eve@"),
        ("\r\n\tworld", "\r\nworld"),
        ("Subject:", "Subject: other\r\nSubject:"),
        ("From:", "Reply-To: eve@example.net\r\nFrom:"),
        ("From:", "Content-Type: text/html\r\nFrom:"),
        ("From:", "From: eve@example.org\r\nFrom:"),
    ] {
        let (signature, letter) = message.split_at(message.find("From: Ann").unwrap());
        let changed = format!("{signature}{}", letter.replacen(old, new, 1));
        assert!(!verifies(changed.as_bytes(), &public), "{old} -> {new}");
    }
    // What relaxed leaves open.
    let folded = message.replace("Tea\r\n  at", "Tea \t at").replace("Hello  \r\n", "Hello\r\n");
    assert!(verifies(folded.as_bytes(), &public));
}

#[tokio::test]
async fn only_active_keys_of_the_author_sign() {
    for state in [KeyState::Next, KeyState::Retired] {
        let (ring, _) = ring("a", state);
        assert_eq!(signed(&host("example.org", &ring), LETTER).await, LETTER);
    }
    let (ring, public) = ring("a", KeyState::Active);
    let host = host("example.org", &ring);
    let notice = LETTER.replace("ann@example.org", "MAILER-DAEMON@mail.example.org");
    let message = signed(&host, &notice).await;
    assert!(message.contains("d=example.org;"), "the domain above signs for a host: {message}");
    assert!(verifies(message.as_bytes(), &public));
    for other in ["ann@example.net", "ann@badexample.org", "ann@org", "ann@[192.0.2.1]", "undisclosed:;", ""] {
        let letter = LETTER.replace("Ann <ann@example.org>", other);
        assert_eq!(signed(&host, &letter).await, letter, "{other}");
    }
    let twice = format!("From: eve@example.net\r\n{LETTER}");
    assert_eq!(signed(&host, &twice).await, twice, "two authors are none");
    let off = Dkim::new(DkimConfig { sign: false, ..DkimConfig::default() });
    assert!(off.sign(&host, &Content::from(LETTER.as_bytes().to_vec())).await.unwrap().is_empty());
}

#[tokio::test]
async fn damaged_keys_hold_the_message_up() {
    let host = MemoryHost::new("example.org".parse().unwrap());
    let letter = Content::from(LETTER.as_bytes().to_vec());
    host.set_secret(&secret_name("example.org"), Secret::from("{}garbage".to_owned()));
    let error = Dkim::new(DkimConfig::default()).sign(&host, &letter).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreadable);
    let (mut ring, _) = ring("a", KeyState::Active);
    ring.keys[0].private = Some(PrivateKey::from_der(b"\0\0\0"));
    host.set_secret(&secret_name("example.org"), ring.to_secret().unwrap());
    let error = Dkim::new(DkimConfig::default()).sign(&host, &letter).await.unwrap_err();
    assert!(!format!("{error:?}{ring:?}").contains("AAAA"), "no key in an error or in Debug");
}

#[tokio::test]
async fn a_large_message_is_signed_as_a_small_one() {
    let (ring, public) = ring("a", KeyState::Active);
    let large = format!("{LETTER}{}", "line after line\r\n".repeat(60_000));
    assert!(verifies(signed(&host("example.org", &ring), &large).await.as_bytes(), &public));
}

/// RFC 6376, section 3.4.5, the first example.
#[test]
fn the_example_of_the_standard() {
    let (fields, body) = split(b"A: X\r\nB : Y\t\r\n\tZ  \r\n\r\n C \r\nD \t E\r\n\r\n\r\n");
    let mut header = Vec::new();
    fields.iter().for_each(|field| field.relax(&mut header));
    assert_eq!(header, b"a:X\r\nb:Y Z\r\n");
    assert_eq!(relaxed(body), b" C\r\nD E\r\n");
}

fn relaxed(body: &[u8]) -> Vec<u8> {
    let mut collected = Vec::new();
    relax_body(body, |bytes| collected.extend_from_slice(bytes));
    collected
}

/// RFC 6376, section 3.4.4, sentence by sentence.
fn body_by_the_book(body: &str) -> String {
    let mut lines: Vec<String> = body
        .split("\r\n")
        .map(|line| {
            let mut reduced = String::new();
            for c in line.chars() {
                match c {
                    ' ' | '\t' if reduced.ends_with(' ') => {}
                    ' ' | '\t' => reduced.push(' '),
                    c => reduced.push(c),
                }
            }
            reduced.trim_end_matches(' ').to_owned()
        })
        .collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines.iter().map(|line| format!("{line}\r\n")).collect()
}

proptest! {
    #[test]
    fn bodies_are_relaxed_by_the_book(parts in prop::collection::vec(prop_oneof![
        Just("\r\n".to_owned()), Just(" ".to_owned()), Just("\t".to_owned()), Just("\x0c".to_owned()), "[a-z.]{1,12}", "é"
    ], 0..60), long in any::<bool>()) {
        let parts = if long { vec![parts.concat(); 200] } else { parts };
        let body = parts.concat();
        prop_assert_eq!(relaxed(body.as_bytes()), body_by_the_book(&body).into_bytes());
    }

    /// Values: as unfolding, then one space for white space, then none at the ends.
    #[test]
    fn values_are_relaxed_by_the_book(parts in prop::collection::vec(prop_oneof![
        Just("\r\n ".to_owned()), Just(" ".to_owned()), Just("\t".to_owned()), Just("\x0c".to_owned()), "[a-z.]{1,6}"
    ], 0..40)) {
        let value = parts.concat();
        let mut relaxed = Vec::new();
        relax_value(value.as_bytes(), &mut relaxed);
        let unfolded = value.replace("\r\n", "").replace('\t', " ");
        let words: Vec<_> = unfolded.split(' ').filter(|word| !word.is_empty()).collect();
        prop_assert_eq!(relaxed, words.join(" ").into_bytes());
    }

    /// Nothing that a client submits makes signing panic, or makes more than the two fields.
    #[test]
    fn any_bytes_can_be_signed(bytes in prop::collection::vec(any::<u8>(), 0..400), fields in any::<bool>()) {
        let mut message = if fields { b"From: a@example.org\r\n".to_vec() } else { Vec::new() };
        message.extend(bytes);
        let (ring, _) = ring("a", KeyState::Active);
        let signers = ring.signers(&[Algorithm::Ed25519Sha256]).unwrap();
        let signed = signature::sign(&signers, "example.org", &message, 1_795_000_000).unwrap();
        prop_assert!(signed.is_ascii() && signed.ends_with(b"\r\n"));
        let text = String::from_utf8(signed).unwrap();
        prop_assert!(text.split_inclusive("\r\n").skip(1).all(|line| line.starts_with('\t')));
        let _ = author_domain(&message);
    }
}
