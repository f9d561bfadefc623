//! Sealed parts: opened, damaged, swapped.

use super::*;
use crate::keys::tests::{Fixture, fixture, fixture_of};
use crate::keys::{Keyset, Levels, Profile, Span};
use mesyx_sdk::summary::{MailAddressee, MailFields, PartKind};
use mesyx_sdk::{Content, Part, Summary, Timestamp};
use proptest::prelude::*;
use std::time::{Duration, Instant};

/// A summary with something in every field.
pub(crate) fn summary(content: &Content) -> Summary {
    let mailbox = MailAddressee::Mailbox {
        name: Some(b"Alice \"A\"".to_vec()),
        route: Some(b"@relay".to_vec()),
        local: b"alice".to_vec(),
        domain: b"example.org".to_vec(),
    };
    let fields = MailFields {
        date: Some(b"Sun, 22 Nov 2026 22:00:00 +0000".to_vec()),
        subject: Some("Grüße\r\nBcc: evil@example.net".as_bytes().to_vec()),
        from: vec![mailbox.clone()],
        to: vec![MailAddressee::GroupStart(b"friends".to_vec()), mailbox, MailAddressee::GroupEnd],
        in_reply_to: Some(b"<1@example.org>".to_vec()),
        ..MailFields::default()
    };
    let leaf = Part {
        content_type: (b"text".to_vec(), b"plain".to_vec()),
        parameters: vec![(b"charset".to_vec(), b"utf-8".to_vec())],
        id: Some(b"<part>".to_vec()),
        description: None,
        encoding: b"8bit".to_vec(),
        md5: None,
        disposition: Some((b"attachment".to_vec(), vec![(b"filename".to_vec(), b"a.txt".to_vec())])),
        language: vec![b"en".to_vec()],
        location: None,
        header: 3..10,
        body: 10..20,
        lines: 2,
        kind: PartKind::Leaf,
    };
    let inner = Part { kind: PartKind::Multipart(vec![leaf.clone(), leaf.clone()]), ..leaf.clone() };
    let message = Part { kind: PartKind::Message(Box::new(fields.clone()), Box::new(inner)), ..leaf.clone() };
    let root = Part { kind: PartKind::Multipart(vec![leaf.clone(), message, leaf.clone()]), ..leaf };
    Summary {
        internal_date: Timestamp(1_795_400_000_123),
        size: content.len() as u64,
        headers: content.slice(0, 10),
        fields,
        structure: root,
        origin: None,
    }
}

fn seal_with(all: &Fixture, content: &Content) -> (SealedMessage, PartContext, SessionKey) {
    let sealer = Sealer::new(Duration::ZERO);
    let keyset = all.keyring.default_keyset();
    let message = MessageId::random();
    let sealed = sealer.seal(keyset, all.user, message, &summary(content), content, Instant::now()).unwrap();
    let key = all.unlocked.session_key(&sealed.session_key).unwrap();
    (sealed, PartContext { user: all.user, message, keyset: keyset.id }, key)
}

const PROFILES: [Profile; 2] = [Profile::V4, Profile::V6];

#[test]
fn every_size_comes_back_exactly() {
    for profile in PROFILES {
        let all = fixture_of(profile);
        for size in [0, 1, 100, 191, 192, 8383, 8384, 65_000, 65_536, 65_537, 200_000, 3_000_000] {
            let content: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            let content = Content::from(content);
            let (sealed, expect, key) = seal_with(&all, &content);
            assert!(open_body(&key, &expect, &sealed.body).unwrap() == content, "{profile:?} {size}");
            assert!(sealed.padded_size >= size as u64);
            assert_eq!(
                padded_length(sealed.padded_size),
                sealed.padded_size,
                "what is told in clear is a padded length"
            );
        }
    }
}

#[test]
fn post_quantum_keys_seal_and_open() {
    use sequoia_openpgp::cert::CipherSuite;
    if CipherSuite::MLDSA65_Ed25519.is_supported().is_err() {
        // OpenSSL before 3.5 does not know these algorithms; then there is a clear error.
        assert!(!sequoia_openpgp::crypto::backend().starts_with("RustCrypto"));
        let refused = crate::keys::generate_keyset("x", Span::Always, Levels::ALL, Profile::PostQuantum).unwrap_err();
        assert!(refused.to_string().contains("ML-DSA-65"), "{refused}");
        return;
    }
    let all = fixture_of(Profile::PostQuantum);
    let content = Content::from(b"Subject: x\r\n\r\nx\r\n".to_vec());
    let (sealed, expect, key) = seal_with(&all, &content);
    assert_eq!(open_body(&key, &expect, &sealed.body).unwrap(), content);
    assert_eq!(all.new.default_keyset.1.keys().last().unwrap().key().pk_algo().to_string(), "ML-KEM-768+X25519");
}

#[test]
fn a_changed_byte_anywhere_is_detected() {
    for profile in PROFILES {
        let all = fixture_of(profile);
        let content = Content::from(b"Subject: x\r\n\r\nx\r\n".to_vec());
        let (sealed, expect, key) = seal_with(&all, &content);
        for at in 0..sealed.body.0.len() {
            let mut changed = sealed.body.0.to_vec();
            changed[at] ^= 0x40;
            assert!(open_body(&key, &expect, &Sealed(changed.into())).is_err(), "{profile:?} byte {at}");
        }
        for cut in 0..sealed.body.0.len() {
            assert!(open_body(&key, &expect, &Sealed(sealed.body.0.slice(..cut))).is_err(), "{profile:?} cut {cut}");
        }
    }
}

#[test]
fn swapped_parts_are_detected_even_under_one_session_key() {
    let all = fixture();
    let sealer = Sealer::default();
    let keyset = all.keyring.default_keyset();
    let content = Content::from(b"Subject: x\r\n\r\nx\r\n".to_vec());
    let seal =
        |user| sealer.seal(keyset, user, MessageId::random(), &summary(&content), &content, Instant::now()).unwrap();
    let (one, two) = (seal(all.user), seal(all.user));
    assert_eq!(one.session_key.id, two.session_key.id);
    let key = all.unlocked.session_key(&one.session_key).unwrap();
    let expect = PartContext { user: all.user, message: one.message, keyset: keyset.id };
    assert!(open_body(&key, &expect, &one.body).is_ok() && open_summary(&key, &expect, &one.summary).is_ok());
    assert_eq!(open_body(&key, &expect, &two.body).unwrap_err(), OpenError::Swapped("message"));
    assert_eq!(open_summary(&key, &expect, &two.summary).unwrap_err(), OpenError::Swapped("message"));
    assert_eq!(open_body(&key, &expect, &one.summary).unwrap_err(), OpenError::Swapped("part"));
    assert_eq!(open_summary(&key, &expect, &one.body).unwrap_err(), OpenError::Swapped("part"));
    let other = PartContext { keyset: KeysetId::random(), ..expect };
    assert_eq!(open_body(&key, &other, &one.body).unwrap_err(), OpenError::Swapped("keyset"));
    let other = PartContext { user: UserId::random(), ..expect };
    assert_eq!(open_body(&key, &other, &one.body).unwrap_err(), OpenError::Swapped("user"));
}

/// Packs clear bytes as a SEIPD version 1 packet would hold them, to forge what sealing never makes.
fn forge(key: &SessionKey, inner: &[u8], with_mdc: bool) -> Vec<u8> {
    use sequoia_openpgp::crypto::symmetric::{BlockCipherMode, Encryptor, PaddingMode};
    use std::io::Write;
    let mut clear = vec![7; 18];
    clear.extend_from_slice(inner);
    if with_mdc {
        clear.extend_from_slice(&[0xd3, 20]);
        let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &clear);
        clear.extend_from_slice(digest.as_ref());
    }
    let mut sealed = Vec::new();
    let cipher = key.cipher();
    let mut out = Encryptor::new(cipher, BlockCipherMode::CFB, PaddingMode::None, &key.key, None, &mut sealed).unwrap();
    out.write_all(&clear).unwrap();
    out.finalize().unwrap();
    sealed
}

fn packet(tag: u8, version: Option<u8>, body: &[u8]) -> Sealed {
    let length = (body.len() + usize::from(version.is_some())) as u32;
    let mut out = vec![0xc0 | tag, 255];
    out.extend_from_slice(&length.to_be_bytes());
    out.extend(version);
    out.extend_from_slice(body);
    Sealed(out.into())
}

#[test]
fn only_a_plain_literal_packet_under_an_mdc_is_opened() {
    let all = fixture();
    let (_, expect, key) = seal_with(&all, &Content::default());
    let literal = |content: &[u8]| {
        [&[0xcb, 255][..], &(content.len() as u32 + 6).to_be_bytes(), b"b\0\0\0\0\0", content].concat()
    };
    let mut line = Vec::new();
    body::frame(&mut line, PartName::Body, &expect, body::FRAME_LENGTH, 2);
    let good = literal(&[&line[..], b"ok"].concat());
    let open = |sealed: &Sealed| open_body(&key, &expect, sealed);
    // The forger's tool makes what opens, so that the refusals below are for the reason meant.
    assert_eq!(&open(&packet(18, Some(1), &forge(&key, &good, true))).unwrap()[..], b"ok");
    assert!(matches!(open(&packet(18, Some(1), &forge(&key, &good, false))), Err(OpenError::Damaged(_))), "no MDC");
    let sed = open(&packet(9, None, &forge(&key, &good, false)));
    assert!(matches!(sed, Err(OpenError::Refused(why)) if why.contains("SED")), "{sed:?}");
    let mut compressed = vec![0xc8, 255, 0, 0, 0, 5, 1];
    compressed.extend_from_slice(&[0xff; 4]);
    let inside = [compressed, [&good[..], &good].concat(), literal(b""), vec![], vec![0xcb, 0xff]];
    for inside in inside {
        assert!(open(&packet(18, Some(1), &forge(&key, &inside, true))).is_err(), "{inside:?}");
    }
    let nested = packet(18, Some(1), &forge(&key, &good, true));
    assert!(open(&packet(18, Some(1), &forge(&key, &nested.0, true))).is_err(), "a packet in a packet");
    let twice = [&nested.0[..], &nested.0[..]].concat();
    assert!(open(&Sealed(twice.into())).is_err(), "two packets");
    assert!(open(&packet(18, Some(2), &forge(&key, &good, true))).is_err(), "another version");
}

#[test]
fn a_session_key_is_shared_for_the_window_only() {
    let all = fixture();
    let keyset = all.keyring.default_keyset();
    let content = Content::default();
    let start = Instant::now();
    let key = |sealer: &Sealer, after: u64| {
        let now = start + Duration::from_secs(after);
        sealer.seal(keyset, all.user, MessageId::random(), &summary(&content), &content, now).unwrap().session_key.id
    };
    let sealer = Sealer::default();
    let first = key(&sealer, 0);
    assert_eq!(key(&sealer, 59), first);
    let second = key(&sealer, 60);
    assert_ne!(second, first);
    for _ in 1..Sealer::MOST_SHARED {
        assert_eq!(key(&sealer, 61), second);
    }
    assert_ne!(key(&sealer, 61), second, "the limit of messages");
    let alone = Sealer::new(Duration::ZERO);
    assert_ne!(key(&alone, 0), key(&alone, 0));
    assert_ne!(
        Sealer::new(Duration::from_secs(3600))
            .seal(keyset, all.user, MessageId::random(), &summary(&content), &content, start)
            .unwrap()
            .session_key
            .id,
        first
    );
}

#[test]
fn a_changed_keyset_never_gets_the_old_session_key() {
    let all = fixture();
    let sealer = Sealer::default();
    let old = all.keyring.default_keyset();
    let (_, more) = crate::keys::generate_keyset("more", Span::Always, Levels::ALL, Profile::V4).unwrap();
    let certificates = old.certificates().iter().cloned().chain([more]).collect();
    let new = Keyset::new(old.id, &old.name, old.span, old.importance, certificates).unwrap();
    let content = Content::default();
    let seal = |keyset: &Keyset| {
        sealer.seal(keyset, all.user, MessageId::random(), &summary(&content), &content, Instant::now()).unwrap()
    };
    let (one, two) = (seal(old), seal(&new));
    assert_ne!(one.session_key.id, two.session_key.id);
    assert!(two.session_key.packets.len() > one.session_key.packets.len());
}

#[test]
fn an_expired_or_revoked_certificate_is_not_sealed_to() {
    use sequoia_openpgp::cert::CertBuilder;
    let all = fixture();
    let past = std::time::SystemTime::now() - Duration::from_secs(7200);
    let builder = CertBuilder::new().set_creation_time(past).set_validity_period(Duration::from_secs(3600));
    let (expired, _) = builder.add_userid("old").add_storage_encryption_subkey().generate().unwrap();
    let (certificate, revocation) =
        CertBuilder::new().add_userid("x").add_storage_encryption_subkey().generate().unwrap();
    let revoked = certificate.insert_packets(revocation).unwrap().0;
    let good = all.new.default_keyset.1.clone();
    let keyset =
        |certificates| Keyset::new(KeysetId::random(), "k", Span::Year(2026), Levels::ALL, certificates).unwrap();
    let now = Timestamp::now();
    for bad in [expired, revoked] {
        let refused = keyset(vec![bad.clone()]).recipients(now).unwrap_err();
        assert!(matches!(refused, SealError::NoCertificate { .. }), "{refused}");
        assert_eq!(keyset(vec![bad.clone(), good.clone()]).recipients(now).unwrap().keys.len(), 1);
        // Chosen by the ring, it falls back to the default keyset; alone, it fails.
        let special = Keyset::new(KeysetId::random(), "2026", Span::Year(2026), Levels::ALL, vec![bad]).unwrap();
        let default = (**all.keyring.default_keyset()).clone();
        let ring = crate::keys::Keyring::new(all.new.identity.clone(), vec![default.clone(), special.clone()]).unwrap();
        let content = Content::default();
        let target =
            SealFor { user: all.user, message: MessageId::random(), importance: mesyx_sdk::Importance::Normal };
        let sealer = Sealer::default();
        let sealed = sealer.seal_chosen(&ring, target, &summary(&content), &content, Instant::now()).unwrap();
        assert_eq!(sealed.session_key.keyset, default.id);
        assert!(sealer.seal(&special, all.user, target.message, &summary(&content), &content, Instant::now()).is_err());
    }
}

#[test]
fn the_next_most_specific_usable_keyset_takes_the_place_of_one_that_is_not() {
    use sequoia_openpgp::cert::CertBuilder;
    let all = fixture();
    let past = std::time::SystemTime::now() - Duration::from_secs(7200);
    let builder = CertBuilder::new().set_creation_time(past).set_validity_period(Duration::from_secs(3600));
    let (expired, _) = builder.add_userid("old").add_storage_encryption_subkey().generate().unwrap();
    let good = all.new.default_keyset.1.clone();
    let content = Content::default();
    let year = Span::of(crate::keys::Period::Year, summary(&content).internal_date);
    let high = Levels::of(&[mesyx_sdk::Importance::High]).unwrap();
    let keyset = |name: &str, span, levels, certificate: &sequoia_openpgp::Cert| {
        Keyset::new(KeysetId::random(), name, span, levels, vec![certificate.clone()]).unwrap()
    };
    let default = (**all.keyring.default_keyset()).clone();
    let keysets =
        vec![default.clone(), keyset("vault", Span::Always, high, &expired), keyset("year", year, Levels::ALL, &good)];
    let ring = crate::keys::Keyring::new(all.new.identity.clone(), keysets.clone()).unwrap();
    let target = SealFor { user: all.user, message: MessageId::random(), importance: mesyx_sdk::Importance::High };
    let sealer = Sealer::default();
    for _ in 0..2 {
        let sealed = sealer.seal_chosen(&ring, target, &summary(&content), &content, Instant::now()).unwrap();
        assert_eq!(sealed.session_key.keyset, keysets[2].id);
    }
}

#[test]
fn padding_hides_small_differences_and_costs_little() {
    for length in 1..100_000_u64 {
        let padded = padded_length(length);
        assert!(padded >= length && padded_length(padded) == padded);
        assert!(length <= padding::FLOOR || padded <= length + length * 12 / 100 + 1, "{length} {padded}");
    }
    assert!(padded_length(u64::MAX) == u64::MAX);
}

#[test]
fn debug_hides_the_session_key() {
    let key = SessionKey::random(false).unwrap();
    let shown = format!("{key:?}");
    assert!(shown.ends_with("…)") && shown.len() < 40, "{shown}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn no_header_of_ours_can_be_broken(subject in any::<Vec<u8>>(), name in any::<Vec<u8>>(), local in any::<Vec<u8>>(), domain in any::<Vec<u8>>(), date in any::<Vec<u8>>()) {
        let mailbox = MailAddressee::Mailbox { name: Some(name), route: None, local, domain };
        let fields = MailFields { subject: Some(subject), date: Some(date), from: vec![mailbox.clone(), mailbox], ..MailFields::default() };
        let mut head = String::new();
        body::copies(&mut head, &fields);
        prop_assert!(head.is_empty() || head.ends_with("\r\n"));
        for line in head.split("\r\n") {
            prop_assert!(!line.contains(|c: char| c.is_control()));
            prop_assert!(line.len() <= 998);
            let known = ["Date: ", "Subject: ", "From: ", "To: ", "Cc: "];
            prop_assert!(line.is_empty() || line.starts_with(' ') || known.iter().any(|name| line.starts_with(name)), "{line:?}");
        }
    }

    #[test]
    fn reading_any_bytes_as_a_summary_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = summary::decode(bytes.into());
    }
}

#[test]
fn a_summary_as_deep_as_can_be_comes_back_and_a_deeper_one_is_refused() {
    let all = fixture();
    let deep = |levels: usize| {
        let mut summary = summary(&Content::default());
        let leaf = Part { kind: PartKind::Leaf, ..summary.structure.clone() };
        summary.structure =
            (0..levels).fold(leaf.clone(), |inner, _| Part { kind: PartKind::Multipart(vec![inner]), ..leaf.clone() });
        summary
    };
    let seal = |summary: &Summary| {
        let key = SessionKey::random(false).unwrap();
        let expect = PartContext { user: all.user, message: MessageId::random(), keyset: KeysetId::random() };
        let sealed = summary::seal(&expect, summary, &key).unwrap();
        open_summary(&key, &expect, &sealed)
    };
    let most = deep(2 * mesyx_sdk::mime::MAX_DEPTH);
    assert!(seal(&most).unwrap() == most);
    assert!(seal(&deep(400)).is_err());
}
