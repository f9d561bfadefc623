//! Timelines, rotations and warnings, with the clock given.

use super::rotate::{DAY, wanted};
use super::timeline::{due, is_covered, segments};
use super::warn::warnings;
use super::*;
use crate::id::{KeysetId, rotated_keyset_id};
use crate::keys::{Keyring, Keyset, Levels, Period, Profile, Span};
use mesyx_sdk::{Importance, UserId};
use openpgp::Cert;
use openpgp::cert::CertBuilder;
use proptest::prelude::*;
use sequoia_openpgp as openpgp;
use std::sync::OnceLock;
use std::time::{Duration as Time, UNIX_EPOCH};

const LEVELS: [Importance; 3] = [Importance::Low, Importance::Normal, Importance::High];

fn at(day: &str) -> Timestamp {
    let span: Span = format!("{day}..").parse().unwrap();
    Timestamp(span.bounds(Timestamp(0)).start)
}

/// Made on 2020-01-01, so that tests may stand anywhere after; without expiry, or with one on a day.
fn certificate(expires: Option<&str>) -> Cert {
    let made = at("2020-01-01");
    let mut builder = CertBuilder::new().set_creation_time(UNIX_EPOCH + Time::from_millis(made.0 as u64));
    if let Some(day) = expires {
        builder = builder.set_validity_period(Time::from_millis((at(day).0 - made.0) as u64));
    }
    builder.add_userid("x").add_storage_encryption_subkey().generate().unwrap().0
}

fn good() -> Cert {
    static GOOD: OnceLock<Cert> = OnceLock::new();
    GOOD.get_or_init(|| certificate(None)).clone()
}

/// Of the year 2027: some property tests cross it.
fn expiring() -> Cert {
    static EXPIRING: OnceLock<Cert> = OnceLock::new();
    EXPIRING.get_or_init(|| certificate(Some("2027-01-01"))).clone()
}

fn keyset(name: &str, span: &str, levels: Levels, certificate: Cert) -> Keyset {
    Keyset::new(KeysetId::random(), name, span.parse().unwrap(), levels, vec![certificate]).unwrap()
}

fn ring(keysets: Vec<Keyset>) -> Keyring {
    let default = keyset("default", "always", Levels::ALL, good());
    Keyring::new(good(), [vec![default], keysets].concat()).unwrap()
}

fn every(period: Period, levels: Levels, make: bool) -> RotationRule {
    RotationRule { levels, every: period, profile: Profile::V4, make }
}

fn policy(rules: Vec<RotationRule>) -> RotationPolicy {
    RotationPolicy::new(rules).unwrap()
}

fn days(from: Timestamp, days: i64) -> Timestamp {
    Timestamp(from.0 + days * DAY)
}

#[test]
fn a_rotation_lacks_the_present_span_and_those_that_begin_soon() {
    let now = at("2026-11-23");
    let names = |period, ahead| -> Vec<String> {
        let due = due(&ring(vec![]), &every(period, Levels::ALL, true), now, days(now, ahead));
        due.iter().map(ToString::to_string).collect()
    };
    assert_eq!(names(Period::Week, 14), ["2026-W48", "2026-W49", "2026-W50"]);
    assert_eq!(names(Period::Month, 28), ["2026-11", "2026-12"]);
    assert_eq!(names(Period::Year, 38), ["2026"]);
    assert_eq!(names(Period::Year, 39), ["2026", "2027"]);
}

#[test]
fn what_covers_a_span_as_well_needs_no_other() {
    let now = at("2026-11-23");
    let rule = every(Period::Month, Levels::ALL, true);
    let december: Span = "2026-12".parse().unwrap();
    let is_covered = |keysets: Vec<Keyset>| is_covered(&ring(keysets), &rule, december, now);
    let high = Levels::of(&[Importance::High]).unwrap();
    let rest = Levels::of(&[Importance::Low, Importance::Normal]).unwrap();
    assert!(!is_covered(vec![]));
    assert!(!is_covered(vec![keyset("year", "2026", Levels::ALL, good())]), "a longer span is less specific");
    assert!(is_covered(vec![keyset("x", "2026-12", Levels::ALL, good())]), "uploaded ahead");
    assert!(is_covered(vec![keyset("x", "2026-12-01..2027-01-01", Levels::ALL, good())]));
    assert!(!is_covered(vec![keyset("x", "2026-12-02..2027-01-01", Levels::ALL, good())]), "a day is left out");
    assert!(!is_covered(vec![keyset("x", "2026", high, good())]), "the other levels are left out");
    assert!(is_covered(vec![keyset("x", "2026", high, good()), keyset("y", "2026-12", rest, good())]));
}

#[test]
fn rules_that_would_tie_are_refused() {
    let levels = |levels: &[Importance]| Levels::of(levels).unwrap();
    let (high, low) = (levels(&[Importance::High]), levels(&[Importance::Low]));
    let (a, b) = (levels(&LEVELS[..2]), levels(&LEVELS[1..]));
    let new = |one, other| {
        RotationPolicy::new(vec![every(Period::Week, one, true), every(Period::Month, other, true)]).is_ok()
    };
    assert!(new(high, low) && new(high, Levels::ALL) && new(high, b));
    assert!(!new(high, high) && !new(a, b) && !new(Levels::ALL, Levels::ALL));
    let policy = policy(vec![every(Period::Week, high, false), every(Period::Year, Levels::ALL, true)]);
    assert_eq!(RotationPolicy::decode(&policy.encode()), Ok(policy.clone()));
    let bytes = policy.encode();
    assert!((0..bytes.len()).all(|cut| RotationPolicy::decode(&bytes[..cut]).is_err()));
}

/// The texts of the warnings at an instant.
fn warned(keyring: &Keyring, policy: &RotationPolicy, now: Timestamp) -> Vec<(WarningKind, String)> {
    let found = warnings("alice", keyring, policy, now, 14);
    assert!(found.iter().all(|warning| warning.user == "alice" && !warning.text.contains("alice")));
    found.into_iter().map(|warning| (warning.kind, warning.text)).collect()
}

#[test]
fn a_missing_keyset_is_warned_of_fourteen_days_ahead() {
    let november = keyset("november", "2026-11", Levels::ALL, good());
    let policy = policy(vec![every(Period::Month, Levels::ALL, false)]);
    let ring = ring(vec![november]);
    assert_eq!(warned(&ring, &policy, at("2026-11-16")), [], "fifteen days ahead");
    let warned = warned(&ring, &policy, at("2026-11-17"));
    let [(WarningKind::Missing, text)] = &warned[..] else { panic!("{warned:?}") };
    assert!(text.contains("2026-12") && text.contains("2026-12-01") && text.contains("keyset default"), "{text}");
}

#[test]
fn a_keyset_that_ends_is_warned_of_unless_another_follows() {
    let none = RotationPolicy::default();
    let march = || keyset("march", "2027-03", Levels::ALL, good());
    let february = || keyset("february", "2027-02", Levels::ALL, good());
    let (early, late) = (at("2027-02-14"), at("2027-02-15"));
    assert_eq!(warned(&ring(vec![february()]), &none, early), []);
    let found = warned(&ring(vec![february()]), &none, late);
    assert!(matches!(&found[..], [(WarningKind::Ends, text)] if text.contains("keyset default")), "{found:?}");
    assert_eq!(warned(&ring(vec![february(), march()]), &none, late), []);
    let ruled = policy(vec![every(Period::Month, Levels::ALL, true)]);
    let found = warned(&ring(vec![february()]), &ruled, late);
    assert!(matches!(&found[..], [(WarningKind::Missing, _)]), "told once, by the rule: {found:?}");
    // Part of a longer keyset of the same levels: what follows is less specific.
    let found = warned(&ring(vec![february(), keyset("year", "2027", Levels::ALL, good())]), &none, late);
    assert!(matches!(&found[..], [(WarningKind::Ends, text)] if text.contains("keyset year")), "{found:?}");
}

#[test]
fn certificates_are_warned_of_before_and_after_they_expire() {
    let none = RotationPolicy::default();
    let year = || keyset("year", "2027", Levels::ALL, certificate(Some("2027-06-15")));
    assert_eq!(warned(&ring(vec![year()]), &none, at("2027-05-31")), []);
    let found = warned(&ring(vec![year()]), &none, at("2027-06-01"));
    assert!(
        matches!(&found[..], [(WarningKind::Expires, text)] if text.contains("2027-06-15") && text.contains("keyset default")),
        "{found:?}"
    );
    let found = warned(&ring(vec![year()]), &none, at("2027-06-16"));
    assert!(matches!(&found[..], [(WarningKind::Unusable, text)] if text.contains("keyset default")), "{found:?}");
    // The fallback is the next most specific one that can be used, not the default.
    let more = vec![year(), keyset("decade", "2020-01-01..2030-01-01", Levels::ALL, good())];
    let found = warned(&ring(more), &none, at("2027-06-16"));
    assert!(matches!(&found[..], [(WarningKind::Unusable, text)] if text.contains("keyset decade")), "{found:?}");
    // Another certificate of the keyset does as well.
    let two = Keyset::new(
        KeysetId::random(),
        "year",
        Span::Year(2027),
        Levels::ALL,
        vec![certificate(Some("2027-06-15")), good()],
    );
    let found = warned(&ring(vec![two.unwrap()]), &none, at("2027-06-16"));
    assert!(matches!(&found[..], [(WarningKind::Unusable, text)] if text.contains("other certificates")), "{found:?}");
    // A default keyset that can't be used is told as what it is.
    let dead = Keyring::new(good(), vec![keyset("default", "always", Levels::ALL, certificate(Some("2021-01-01")))]);
    let found = warned(&dead.unwrap(), &none, at("2027-06-16"));
    assert!(matches!(&found[..], [(WarningKind::Unusable, text)] if text.contains("mail is put off")), "{found:?}");
    let identity =
        Keyring::new(certificate(Some("2027-06-15")), vec![keyset("default", "always", Levels::ALL, good())]);
    let found = warned(&identity.unwrap(), &none, at("2027-06-10"));
    assert!(matches!(&found[..], [(WarningKind::Expires, text)] if text.contains("identity")), "{found:?}");
}

#[test]
fn a_plan_names_what_each_week_uses_and_what_is_wrong() {
    let now = at("2026-12-21");
    let high = Levels::of(&[Importance::High]).unwrap();
    let ring = ring(vec![
        keyset("year", "2026", Levels::ALL, good()),
        keyset("vault", "always", high, certificate(Some("2026-12-30"))),
    ]);
    let policy = policy(vec![every(Period::Year, Levels::ALL, false)]);
    let plan = plan::plan(&ring, &policy, now, 3);
    assert_eq!(plan.iter().map(|week| week.week.as_str()).collect::<Vec<_>>(), ["2026-W52", "2026-W53", "2027-W01"]);
    assert_eq!((&plan[0].normal[..], &plan[0].high[..]), (&["year".to_owned()][..], &["vault".to_owned()][..]));
    assert_eq!(plan[0].problems, [] as [String; 0]);
    assert_eq!(plan[1].low, ["year", "default"], "the year ends on a Thursday");
    assert_eq!(plan[1].high, ["vault", "year", "default"], "the vault's certificate expires on Wednesday");
    assert!(plan[1].problems.iter().any(|problem| problem.contains("vault")), "{:?}", plan[1].problems);
    assert!(plan[1].problems.iter().any(|problem| problem.contains("no keyset for 2027")), "{:?}", plan[1].problems);
    assert_eq!(plan[2].normal, ["default"]);
}

fn any_span() -> impl Strategy<Value = Span> {
    prop_oneof![
        (2026..2029i32).prop_map(Span::Year),
        (2026..2028i32, 1..=12u8).prop_map(|(year, month)| Span::Month(year, month)),
        (2026..2028i32, 1..=52u8).prop_map(|(year, week)| Span::Week(year, week)),
        (1..40u16).prop_map(Span::LastDays),
        prop_oneof![Just(Period::Week), Just(Period::Month), Just(Period::Year)].prop_map(Span::Current),
        (0..700i64, 1..100i64).prop_map(|(from, length)| {
            let start = at("2026-01-01").0 + from * DAY;
            Span::Between { from: Some(start), until: Some(start + length * DAY / 2) }
        }),
    ]
}

fn some_levels(bits: u8) -> Levels {
    Levels::from_bits(bits).unwrap()
}

fn any_policy() -> impl Strategy<Value = RotationPolicy> {
    let period = || prop_oneof![Just(Period::Week), Just(Period::Month), Just(Period::Year)];
    proptest::collection::vec((period(), 1..8u8), 0..3).prop_map(|rules| {
        let mut kept = Vec::new();
        for (period, bits) in rules {
            let mut more: Vec<RotationRule> = kept.clone();
            more.push(every(period, some_levels(bits), true));
            if RotationPolicy::new(more.clone()).is_ok() {
                kept = more;
            }
        }
        policy(kept)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whatever keysets there are, some of them expired at some time, and whatever a policy made of them: a time is tiled without gap or
    /// overlap, every instant has exactly one keyset, which is the most specific by the rules as they are written down, and what is
    /// sealed to is the most specific that can be used. What a policy makes is what it lacked, and nothing more.
    #[test]
    fn every_instant_has_exactly_one_keyset_also_with_policies_and_expired_certificates(
        spans in proptest::collection::vec((any_span(), 1..8u8, any::<bool>()), 0..6),
        policy in any_policy(),
        start in 0..500i64,
        instants in proptest::collection::vec((0..60 * DAY, 0..3usize), 30),
    ) {
        let now = Timestamp(at("2026-01-01").0 + start * DAY + DAY / 3);
        let mut keysets = vec![keyset("default", "always", Levels::ALL, good())];
        for (index, (span, bits, expires)) in spans.into_iter().enumerate() {
            let certificate = if expires { expiring() } else { good() };
            let new = Keyset::new(KeysetId::random(), &index.to_string(), span, some_levels(bits), vec![certificate]).unwrap();
            if Keyring::new(good(), [keysets.clone(), vec![new.clone()]].concat()).is_ok() {
                keysets.push(new);
            }
        }
        let before = Keyring::new(good(), keysets.clone()).unwrap();
        let user = UserId([1; 16]);
        let horizon = days(now, 28);
        for wanted in wanted(&before, &policy, now, horizon) {
            let id = rotated_keyset_id(user, wanted.rule.levels.bits(), &wanted.span.to_string());
            let new = Keyset::new(id, &wanted.name, wanted.span, wanted.rule.levels, vec![good()]).unwrap();
            // An own keyset of part of the span may tie with it: then it is not made.
            if Keyring::new(good(), [keysets.clone(), vec![new.clone()]].concat()).is_ok() {
                prop_assert!(keysets.iter().all(|known| known.id != id && known.name != new.name));
                keysets.push(new);
            }
        }
        let ring = Keyring::new(good(), keysets.clone()).unwrap();
        let made: Vec<_> = keysets.iter().map(|keyset| keyset.id).collect();
        for again in wanted(&ring, &policy, now, horizon) {
            let id = rotated_keyset_id(user, again.rule.levels.bits(), &again.span.to_string());
            prop_assert!(!made.contains(&id), "{} would be made twice", again.span);
        }
        let time = now.0..now.0 + 60 * DAY;
        for level in LEVELS {
            let segments = segments(&ring, level, time.clone());
            prop_assert_eq!(segments.first().map(|segment| segment.time.start), Some(time.start));
            prop_assert_eq!(segments.last().map(|segment| segment.time.end), Some(time.end));
            prop_assert!(segments.windows(2).all(|pair| pair[0].time.end == pair[1].time.start));
            for (offset, _) in instants.iter().filter(|(_, index)| LEVELS[*index] == level) {
                let instant = Timestamp(now.0 + offset);
                let segment = segments.iter().find(|segment| segment.time.contains(&instant.0)).unwrap();
                // The rules as the documentation has them, without the ring.
                let covering = keysets.iter().filter(|keyset| {
                    keyset.importance.contains(level) && keyset.span.bounds(instant).contains(&instant.0)
                });
                let mut by_rank: Vec<_> = covering.collect();
                by_rank.sort_by_key(|keyset| (keyset.importance.count(), keyset.span.length(), keyset.span.rolls()));
                prop_assert_eq!(segment.chosen.id, by_rank[0].id);
                prop_assert_eq!(ring.choose_when(instant, level, instant).id, by_rank[0].id);
                let usable = by_rank.iter().find(|keyset| keyset.is_usable(instant)).unwrap();
                prop_assert_eq!(segment.used.as_ref().map(|used| used.id), Some(usable.id));
            }
        }
    }
}

#[test]
fn ids_of_rotated_keysets_are_fixed_for_ever() {
    let id = |bits, span| rotated_keyset_id(UserId([7; 16]), bits, span);
    assert_eq!(id(7, "2026-W48"), id(7, "2026-W48"));
    assert_ne!(id(7, "2026-W48"), id(7, "2026-W49"));
    assert_ne!(id(7, "2026-W48"), id(4, "2026-W48"));
    assert_ne!(id(7, "2026-W48"), rotated_keyset_id(UserId([8; 16]), 7, "2026-W48"));
    assert_eq!(id(7, "2026-W48").to_string(), "bd95a76393f748d983b684b6f907b3f1");
}
