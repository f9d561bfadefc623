//! The whole of keys and sealing, as the rest of the core uses it.

use super::*;
use crate::id::{KeysetId, SlotId};
use crate::seal::{OpenError, PartContext, SealFor, Sealer, open_body, open_summary};
use crate::store::StoredSecrets;
use mesyx_sdk::{Content, Importance, MessageId, Secret, Timestamp, UserId};
use proptest::prelude::*;
use sequoia_openpgp as openpgp;
use std::sync::OnceLock;
use std::time::Instant;

pub(crate) const CHEAP: Argon2Params = Argon2Params { memory_kib: 64, passes: 1, lanes: 1 };

/// A user with keys, unlocked.
pub(crate) struct Fixture {
    pub(crate) user: UserId,
    pub(crate) new: NewKeys,
    pub(crate) keyring: Keyring,
    pub(crate) master: MasterKey,
    pub(crate) secrets: StoredSecrets,
    pub(crate) unlocked: Unlocked,
}

pub(crate) fn fixture() -> Fixture {
    fixture_of(Profile::V4)
}

pub(crate) fn fixture_of(profile: Profile) -> Fixture {
    let user = UserId::random();
    let new = NewKeys::generate("Alice", "alice@example.org", profile).unwrap();
    let keyset = &new.default_keyset.0;
    let records = [(keyset.id, keyset.encode().unwrap())];
    let keyring = Keyring::decode(&new.identity_record().unwrap(), &records).unwrap();
    let master = MasterKey::random();
    let secrets = StoredSecrets { slots: vec![], secret_keys: new.wrap(user, &master).unwrap() };
    let unlocked = Unlocked::open(user, &master, &secrets, &keyring).unwrap();
    Fixture { user, new, keyring, master, secrets, unlocked }
}

#[test]
fn what_is_sealed_opens_with_the_users_keys() {
    let all = fixture();
    let sealer = Sealer::default();
    let message = MessageId::random();
    let content = Content::from(b"Subject: hello\r\n\r\nHello.\r\n".to_vec());
    let summary = crate::seal::tests::summary(&content);
    let target = SealFor { user: all.user, message, importance: Importance::Normal };
    let sealed = sealer.seal_chosen(&all.keyring, target, &summary, &content, Instant::now()).unwrap();
    assert!(sealed.padded_size >= content.len() as u64);
    let key = all.unlocked.session_key(&sealed.session_key).unwrap();
    let expect = PartContext { user: all.user, message, keyset: sealed.session_key.keyset };
    assert_eq!(open_body(&key, &expect, &sealed.body).unwrap(), content);
    assert_eq!(open_summary(&key, &expect, &sealed.summary).unwrap(), summary);
}

const LEVELS: [Importance; 3] = [Importance::Low, Importance::Normal, Importance::High];

/// One certificate for all keysets of tests that only choose.
fn certificate() -> openpgp::Cert {
    static CERTIFICATE: OnceLock<openpgp::Cert> = OnceLock::new();
    CERTIFICATE.get_or_init(|| generate_keyset("x", Span::Always, Levels::ALL, Profile::V4).unwrap().1).clone()
}

fn keyset(name: &str, span: &str, levels: Levels) -> Keyset {
    Keyset::new(KeysetId::random(), name, span.parse().unwrap(), levels, vec![certificate()]).unwrap()
}

fn at(day: &str) -> Timestamp {
    let span: Span = format!("{day}..").parse().unwrap();
    Timestamp(span.bounds(Timestamp(0)).start)
}

#[test]
fn the_most_specific_keyset_is_chosen() {
    let high = Levels::of(&[Importance::High]).unwrap();
    let ring = Keyring::new(
        certificate(),
        vec![
            keyset("default", "always", Levels::ALL),
            keyset("year", "2026", Levels::ALL),
            keyset("march", "2026-03", Levels::ALL),
            keyset("week", "2026-W10", Levels::ALL),
            keyset("vault", "always", high),
            keyset("vault 2026", "2026", high),
        ],
    )
    .unwrap();
    let name = |day: &str, importance| ring.choose(at(day), importance).name.clone();
    assert_eq!(name("2025-12-31", Importance::Normal), "default");
    assert_eq!(name("2026-01-01", Importance::Normal), "year");
    assert_eq!(name("2026-03-31", Importance::Low), "march");
    assert_eq!(name("2026-03-02", Importance::Low), "week");
    assert_eq!(name("2026-03-09", Importance::Low), "march");
    assert_eq!(name("2026-03-02", Importance::High), "vault 2026");
    assert_eq!(name("2027-01-01", Importance::High), "vault");
}

#[test]
fn a_keyset_covers_its_first_instant_and_not_the_next_ones() {
    for (text, first, next) in [
        ("2026", "2026-01-01", "2027-01-01"),
        ("2026-12", "2026-12-01", "2027-01-01"),
        ("2024-02", "2024-02-01", "2024-03-01"),
        ("2026-W01", "2025-12-29", "2026-01-05"),
        ("2020-W53", "2020-12-28", "2021-01-04"),
        ("2026-01-15..2026-03-01", "2026-01-15", "2026-03-01"),
    ] {
        let span: Span = text.parse().unwrap();
        let bounds = span.bounds(Timestamp(0));
        assert_eq!(bounds, at(first).0..at(next).0, "{text}");
        assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
    }
    for wrong in [
        "2026-13",
        "2026-00",
        "2026-W54",
        "2025-W53",
        "2026-02-30..",
        "..",
        "20266",
        "26",
        "daily",
        "last-0-days",
        "+026",
    ] {
        assert!(wrong.parse::<Span>().is_err(), "{wrong}");
    }
}

#[test]
fn ties_and_a_missing_default_are_errors() {
    let ring = |keysets| Keyring::new(certificate(), keysets).map(|_| ());
    let default = || keyset("default", "always", Levels::ALL);
    assert_eq!(ring(vec![keyset("year", "2026", Levels::ALL)]), Err(KeyringError::NoDefault));
    let tie =
        ring(vec![default(), keyset("a", "2026-01-01..2026-01-08", Levels::ALL), keyset("b", "2026-W01", Levels::ALL)]);
    assert!(matches!(tie, Err(KeyringError::Tie(..))), "{tie:?}");
    let apart = ring(vec![default(), keyset("a", "2026-W01", Levels::ALL), keyset("b", "2026-W02", Levels::ALL)]);
    assert_eq!(apart, Ok(()));
    let low = Levels::of(&[Importance::Low]).unwrap();
    let high = Levels::of(&[Importance::High]).unwrap();
    assert_eq!(ring(vec![default(), keyset("a", "2026", low), keyset("b", "2026", high)]), Ok(()));
}

fn any_span() -> impl Strategy<Value = Span> {
    prop_oneof![
        (2024..2027i32).prop_map(Span::Year),
        (2024..2027i32, 1..=12u8).prop_map(|(year, month)| Span::Month(year, month)),
        (2024..2027i32, 1..=52u8).prop_map(|(year, week)| Span::Week(year, week)),
        (1..40u16).prop_map(Span::LastDays),
        prop_oneof![Just(Period::Week), Just(Period::Month), Just(Period::Year)].prop_map(Span::Current),
        Just(Span::Always),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Of the keysets that cover a message, the one chosen is strictly more specific than every other.
    #[test]
    fn every_instant_and_importance_has_exactly_one_keyset(
        spans in proptest::collection::vec((any_span(), 1..8u8), 0..6),
        instants in proptest::collection::vec(1_700_000_000_000..1_830_000_000_000i64, 20),
        now in 1_700_000_000_000..1_830_000_000_000i64,
    ) {
        let mut keysets = vec![keyset("default", "always", Levels::ALL)];
        for (index, (span, bits)) in spans.into_iter().enumerate() {
            let levels: Vec<_> = LEVELS.into_iter().filter(|level| bits & 1 << *level as u8 != 0).collect();
            let levels = Levels::of(&levels).unwrap();
            keysets.push(Keyset::new(KeysetId::random(), &index.to_string(), span, levels, vec![certificate()]).unwrap());
        }
        let Ok(ring) = Keyring::new(certificate(), keysets.clone()) else { return Ok(()) };
        for instant in instants {
            for level in LEVELS {
                let (at, now) = (Timestamp(instant), Timestamp(now));
                let chosen = ring.choose_when(at, level, now);
                prop_assert!(chosen.importance.contains(level) && chosen.span.covers(at, now));
                let rank = |keyset: &Keyset| (keyset.importance.count(), keyset.span.length());
                for other in keysets.iter().filter(|other| other.id != chosen.id) {
                    if other.importance.contains(level) && other.span.covers(at, now) {
                        prop_assert!(rank(chosen) < rank(other) || other.span.length() == chosen.span.length() && other.span.rolls());
                    }
                }
            }
        }
    }

    #[test]
    fn reading_any_bytes_as_a_record_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Keyset::decode(&bytes);
        let _ = Slot::decode(&bytes, UserId([0; 16]));
        let _ = std::str::from_utf8(&bytes).map(str::parse::<Span>);
    }
}

#[test]
fn a_keyset_record_is_read_back() {
    let keyset = keyset("a name", "2026-W10", Levels::of(&[Importance::Low, Importance::High]).unwrap());
    let bytes = keyset.encode().unwrap();
    let read = Keyset::decode(&bytes).unwrap();
    assert_eq!(read.encode().unwrap(), bytes);
    assert_eq!(
        (read.id, &read.name, read.span, read.importance),
        (keyset.id, &keyset.name, keyset.span, keyset.importance)
    );
    assert!(!read.certificates()[0].is_tsk(), "no secret part is stored");
    for cut in 0..bytes.len() {
        assert!(Keyset::decode(&bytes[..cut]).is_err());
    }
}

#[test]
fn each_slot_opens_with_its_own_password_only() {
    let (user, master) = (UserId::random(), MasterKey::random());
    let human = Secret::from("correct horse".to_owned());
    let (app, app_password) = Slot::create_app(user, &master, "phone");
    let (recovery, recovery_key) = Slot::create_recovery(user, &master);
    let slots = [Slot::create_human(user, &master, &human, CHEAP).unwrap(), app, recovery];
    let passwords = [human, app_password, recovery_key];
    for (index, slot) in slots.iter().enumerate() {
        let read = Slot::decode(&slot.encode(), user).unwrap();
        for (other, password) in passwords.iter().enumerate() {
            let opened = read.open(password);
            assert_eq!(opened.is_ok(), index == other);
            assert!(opened.is_err() || opened == Ok(master.clone()));
        }
        assert!(Slot::decode(&slot.encode(), UserId::random()).is_err(), "another user's slot");
    }
}

#[test]
fn a_generated_password_finds_its_slot_however_it_is_typed() {
    let (user, master) = (UserId::random(), MasterKey::random());
    let made: Vec<_> = (0..20).map(|_| Slot::create_app(user, &master, "x")).collect();
    let slots: Vec<_> = made.iter().map(|(slot, _)| slot.clone()).collect();
    for (slot, password) in &made {
        let text = String::from_utf8(password.expose().to_vec()).unwrap();
        assert_eq!(text.len(), 39);
        for typed in [
            text.clone(),
            text.to_uppercase(),
            text.replace('-', ""),
            text.replace('-', " ").replace('0', "O").replace('1', "l"),
        ] {
            let typed = Secret::from(typed);
            let named = Slot::named_by(&slots, &typed).unwrap();
            assert!(named.len() < 3 && named.iter().any(|found| found.id() == slot.id()));
            assert_eq!(slot.open(&typed), Ok(master.clone()));
        }
        let last = if text.ends_with('0') { "1" } else { "0" };
        assert_eq!(slot.open(&Secret::from(format!("{}{last}", &text[..38]))), Err(WrongPassword));
    }
    assert!(Slot::named_by(&slots, &Secret::from("correct horse battery staple".to_owned())).is_none());
}

#[test]
fn a_tampered_slot_opens_for_nobody() {
    let (user, master) = (UserId::random(), MasterKey::random());
    let (slot, password) = Slot::create_app(user, &master, "phone");
    let record = slot.encode();
    let mut opened = 0;
    for at in 0..record.len() {
        let mut changed = record.clone();
        changed[at] ^= 1;
        opened += usize::from(Slot::decode(&changed, user).is_ok_and(|slot| slot.open(&password).is_ok()));
    }
    assert_eq!(opened, 0);
}

#[test]
fn hostile_argon2_parameters_are_refused_before_they_cost_anything() {
    let (user, master) = (UserId::random(), MasterKey::random());
    let password = Secret::from("correct horse".to_owned());
    for (memory_kib, passes, lanes) in
        [(u32::MAX, 1, 1), (1024 * 1024 + 1, 1, 1), (64, 21, 1), (64, 0, 1), (128, 1, 9), (64, 1, 0), (8, 1, 2)]
    {
        let params = Argon2Params { memory_kib, passes, lanes };
        assert!(Slot::create_human(user, &master, &password, params).is_err(), "{params:?}");
        let slot = Slot::create_human(user, &master, &password, CHEAP).unwrap();
        let hostile = slot.with_params(params);
        assert!(Slot::decode(&hostile.encode(), user).is_err(), "{params:?}");
        assert_eq!(hostile.open(&password), Err(WrongPassword));
    }
}

#[test]
fn human_passwords_are_normalised_and_checked() {
    let (user, master) = (UserId::random(), MasterKey::random());
    let create = |text: &str| Slot::create_human(user, &master, &Secret::from(text.to_owned()), CHEAP);
    let slot = create("pa\u{df}w\u{f6}rter 1").unwrap();
    assert!(slot.open(&Secret::from("pa\u{df}wo\u{308}rter\u{a0}1".to_owned())).is_ok());
    assert!(slot.open(&Secret::from("passw\u{f6}rter 1".to_owned())).is_err());
    assert_eq!(create("short").unwrap_err(), PasswordError::TooShort);
    assert_eq!(create("with\nnew line").unwrap_err(), PasswordError::Control);
    assert_eq!(create(&"x".repeat(1025)).unwrap_err(), PasswordError::TooLong);
    let (_, generated) = Slot::create_app(user, &master, "x");
    assert_eq!(Slot::create_human(user, &master, &generated, CHEAP).unwrap_err(), PasswordError::LooksGenerated);
}

#[tokio::test]
async fn a_login_tries_the_right_slots_and_unknown_users_fail_alike() {
    let (user, master) = (UserId::random(), MasterKey::random());
    let limiter = Argon2Limiter::new(CHEAP).unwrap();
    let human = Secret::from("correct horse".to_owned());
    let human_slot = limiter.create_human(user, &master, &human).await.unwrap();
    let (app_slot, app) = Slot::create_app(user, &master, "phone");
    let slots = [human_slot.clone(), app_slot.clone()];
    let opened: Vec<SlotId> =
        vec![limiter.open(&slots, &human).await.unwrap().slot, limiter.open(&slots, &app).await.unwrap().slot];
    assert_eq!(opened, [human_slot.id(), app_slot.id()]);
    for password in [Secret::from("wrong horse".to_owned()), Slot::create_app(user, &master, "other").1] {
        assert!(limiter.open(&slots, &password).await.is_err());
        assert!(limiter.open(&[], &password).await.is_err());
    }
}

#[test]
fn a_wrapped_secret_key_opens_only_in_its_place() {
    let all = fixture();
    let [identity, keyset] = &all.secrets.secret_keys[..] else { panic!() };
    assert!(all.master.unwrap(all.user, keyset).unwrap()[0].is_tsk());
    assert_eq!(MasterKey::random().unwrap(all.user, keyset).unwrap_err(), KeyError::Damaged);
    assert_eq!(all.master.unwrap(UserId::random(), keyset).unwrap_err(), KeyError::Damaged);
    let mut elsewhere = keyset.clone();
    elsewhere.keyset = None;
    assert_eq!(all.master.unwrap(all.user, &elsewhere).unwrap_err(), KeyError::Damaged);
    elsewhere.keyset = Some(KeysetId::random());
    assert_eq!(all.master.unwrap(all.user, &elsewhere).unwrap_err(), KeyError::Damaged);
    let mut cut = identity.clone();
    cut.wrapped.truncate(40);
    assert_eq!(all.master.unwrap(all.user, &cut).unwrap_err(), KeyError::Damaged);
    let public = all.new.identity.clone().strip_secret_key_material();
    assert!(matches!(all.master.wrap(all.user, None, &public), Err(KeyError::NoSecret)));
}

#[test]
fn an_offline_keyset_and_a_foreign_key_are_told_apart() {
    let (alice, bob) = (fixture(), fixture());
    let content = Content::from(b"Subject: x\r\n\r\n".to_vec());
    let summary = crate::seal::tests::summary(&content);
    let sealer = Sealer::default();
    let keyset = alice.keyring.default_keyset();
    let sealed = sealer.seal(keyset, alice.user, MessageId::random(), &summary, &content, Instant::now()).unwrap();
    let identity_only = StoredSecrets { slots: vec![], secret_keys: alice.secrets.secret_keys[..1].to_vec() };
    let offline = Unlocked::open(alice.user, &alice.master, &identity_only, &alice.keyring).unwrap();
    assert_eq!(offline.session_key(&sealed.session_key).unwrap_err(), OpenError::Offline(keyset.id));
    assert_eq!(bob.unlocked.session_key(&sealed.session_key).unwrap_err(), OpenError::Swapped("user"));
    let mut foreign = (*sealed.session_key).clone();
    foreign.user = bob.user;
    foreign.keyset = bob.keyring.default_keyset().id;
    assert_eq!(bob.unlocked.session_key(&foreign).unwrap_err(), OpenError::NoKey);
    for cut in 0..sealed.session_key.packets.len() {
        let mut short = (*sealed.session_key).clone();
        short.packets.truncate(cut);
        assert!(alice.unlocked.session_key(&short).is_err());
    }
}

#[test]
fn opening_with_rsa_is_refused_with_the_reason() {
    use openpgp::cert::{CertBuilder, CipherSuite};
    let (user, master) = (UserId::random(), MasterKey::random());
    let builder = CertBuilder::new().set_cipher_suite(CipherSuite::RSA2k).add_userid("rsa");
    let (secret, _) = builder.add_storage_encryption_subkey().generate().unwrap();
    let keyset = Keyset::new(KeysetId::random(), "rsa", Span::Always, Levels::ALL, vec![secret.clone()]).unwrap();
    let secrets =
        StoredSecrets { slots: vec![], secret_keys: vec![master.wrap(user, Some(keyset.id), &secret).unwrap()] };
    let keyring = Keyring::new(secret, vec![keyset.clone()]).unwrap();
    let unlocked = Unlocked::open(user, &master, &secrets, &keyring).unwrap();
    let content = Content::from(b"\r\n".to_vec());
    let summary = crate::seal::tests::summary(&content);
    let sealed =
        Sealer::default().seal(&keyset, user, MessageId::random(), &summary, &content, Instant::now()).unwrap();
    let opened = unlocked.session_key(&sealed.session_key);
    if openpgp::crypto::backend().starts_with("RustCrypto") {
        assert_eq!(opened.unwrap_err(), OpenError::VariableTime("RSA"));
    } else {
        assert!(opened.is_ok());
    }
}

#[test]
fn no_debug_output_shows_a_secret() {
    let all = fixture();
    let master: String = all.master.expose().iter().map(|byte| format!("{byte}, ")).collect();
    let (slot, password) = Slot::create_app(all.user, &all.master, "phone");
    let tags = LoginTags::new();
    let shown = format!(
        "{:?} {:?} {:?} {:?} {password:?} {slot:?} {tags:?} {:?}",
        all.master,
        all.new,
        all.unlocked,
        all.keyring,
        tags.tag(all.user, &password),
    );
    assert!(!shown.contains(master.trim_end_matches(", ")));
    assert!(!shown.contains(std::str::from_utf8(password.expose()).unwrap()));
    assert!(shown.contains("MasterKey(…)") && shown.contains("LoginTag(…)"));
    assert!(shown.len() < 3000, "a certificate was dumped: {shown}");
}

#[test]
fn login_tags_tell_users_and_passwords_apart() {
    let tags = LoginTags::new();
    let (user, secret) = (UserId::random(), Secret::from("password".to_owned()));
    assert_eq!(tags.tag(user, &secret), tags.tag(user, &secret));
    assert_ne!(tags.tag(user, &secret), tags.tag(UserId::random(), &secret));
    assert_ne!(tags.tag(user, &secret), tags.tag(user, &Secret::from("passwore".to_owned())));
    assert_ne!(tags.tag(user, &secret), LoginTags::new().tag(user, &secret));
}
