//! Which key is used, and when nothing is sent: with every history.

use super::contact::{Contact, Known, Learnt};
use super::*;
use proptest::prelude::*;
use std::sync::OnceLock;

/// Certificates to play with: four good ones, one expired, one revoked.
fn keys() -> &'static [Cert] {
    static KEYS: OnceLock<Vec<Cert>> = OnceLock::new();
    KEYS.get_or_init(|| {
        let mut keys: Vec<Cert> = (0..4).map(|_| correspondent("bob@example.net")).collect();
        keys.push(expired("bob@example.net"));
        keys.push(revoked(&correspondent("bob@example.net")));
        keys
    })
}

fn known(key: usize, source: Source, last: i64, authenticated: bool) -> Known {
    let mut known = Known::new(&keys()[key].clone().strip_secret_key_material(), source, last).expect("known");
    known.authenticated = authenticated;
    known
}

fn now() -> i64 {
    Timestamp::now().0 / 1000
}

fn finger(key: usize) -> String {
    keys()[key].fingerprint().to_hex()
}

fn encrypts_to(contact: &Contact, policy: Policy) -> Option<String> {
    match contact.choose(policy, now()) {
        Choice::Encrypt(usable) => Some(usable.fingerprint),
        _ => None,
    }
}

#[test]
fn the_most_trusted_source_wins_and_attachments_count_for_nothing() {
    let mut contact = Contact::new("bob@example.net");
    contact.learn(&known(0, Source::Seen, 10, true));
    assert!(matches!(contact.choose(Policy::Prefer, now()), Choice::Plain), "offered, not trusted");
    assert!(matches!(contact.choose(Policy::Require, now()), Choice::Hold(_)));
    for (key, source) in [(1, Source::Autocrypt), (2, Source::Wkd), (3, Source::User)] {
        assert_eq!(contact.learn(&known(key, source, 5, false)), Learnt::New);
        assert_eq!(encrypts_to(&contact, Policy::Prefer), Some(finger(key)), "{source}");
    }
    assert!(matches!(contact.choose(Policy::Off, now()), Choice::Plain));
}

#[test]
fn an_expired_or_revoked_key_holds_and_says_why() {
    for (key, why) in [(4, "expired on"), (5, "revoked")] {
        for policy in [Policy::Prefer, Policy::Require] {
            let mut contact = Contact::new("bob@example.net");
            contact.learn(&known(0, Source::Autocrypt, 5, true));
            contact.learn(&known(key, Source::Wkd, 5, true));
            let Choice::Hold(text) = contact.choose(policy, now()) else { panic!("not held") };
            assert!(text.contains(why) && text.contains(&finger(key)), "{text}");
        }
    }
}

#[test]
fn the_same_key_extended_or_revoked_later_is_the_same_key() {
    let address = "bob@example.net";
    let good = correspondent(address);
    let mut contact = Contact::new(address);
    contact.learn(&Known::new(&good.clone().strip_secret_key_material(), Source::User, 5).expect("known"));
    contact.pin = Some(good.fingerprint().to_hex());
    let gone = revoked(&good).strip_secret_key_material();
    let learnt = contact.learn(&Known::new(&gone, Source::Wkd, 6).expect("known"));
    assert_eq!(learnt, Learnt::Renewed);
    assert!(
        matches!(contact.choose(Policy::Prefer, now()), Choice::Hold(_)),
        "a revocation counts wherever it comes from"
    );
    // And an expired one that its owner extended is good again.
    let old = expired(address);
    let mut contact = Contact::new(address);
    contact.learn(&Known::new(&old.clone().strip_secret_key_material(), Source::Autocrypt, 5).expect("known"));
    assert!(matches!(contact.choose(Policy::Prefer, now()), Choice::Hold(_)));
    let mut signer =
        old.primary_key().key().clone().parts_into_secret().expect("secret").into_keypair().expect("a pair");
    let policy = openpgp::policy::StandardPolicy::new();
    let then = std::time::SystemTime::now() - std::time::Duration::from_secs(90 * 86_400);
    let end = std::time::SystemTime::now() + std::time::Duration::from_secs(90 * 86_400);
    let mut longer = old.clone();
    let signatures = longer
        .with_policy(&policy, then)
        .expect("valid then")
        .primary_key()
        .set_expiration_time(&mut signer, Some(end))
        .expect("extended");
    longer = longer.insert_packets(signatures).expect("inserted").0;
    let subkeys: Vec<_> = longer
        .with_policy(&policy, None)
        .expect("valid")
        .keys()
        .subkeys()
        .for_transport_encryption()
        .flat_map(|key| key.set_expiration_time(&mut signer, None, Some(end)).expect("extended"))
        .collect();
    longer = longer.insert_packets(subkeys).expect("inserted").0;
    let found = Known::new(&longer.strip_secret_key_material(), Source::Wkd, 6).expect("known");
    assert_eq!(contact.learn(&found), Learnt::Renewed);
    assert_eq!(encrypts_to(&contact, Policy::Prefer), Some(old.fingerprint().to_hex()));
}

#[test]
fn mail_that_proves_less_does_not_replace_a_key() {
    let mut contact = Contact::new("bob@example.net");
    contact.learn(&known(0, Source::Autocrypt, 5, true));
    assert_eq!(contact.learn(&known(1, Source::Autocrypt, 6, false)), Learnt::Aside);
    assert_eq!(encrypts_to(&contact, Policy::Prefer), Some(finger(0)));
    assert_eq!(contact.learn(&known(1, Source::Autocrypt, 7, true)), Learnt::Changed(finger(0)));
    assert_eq!(encrypts_to(&contact, Policy::Prefer), Some(finger(1)));
    assert!(contact.aside.is_empty());
}

/// One thing that may happen to a contact.
#[derive(Debug, Clone)]
enum Event {
    Learn { key: usize, source: Source, last: i64, authenticated: bool },
    Pin(usize),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let source = prop_oneof![
        Just(Source::Seen),
        Just(Source::Autocrypt),
        Just(Source::Wkd),
        Just(Source::Verified),
        Just(Source::User)
    ];
    let learn = (0..6_usize, source, 0..20_i64, any::<bool>())
        .prop_map(|(key, source, last, authenticated)| Event::Learn { key, source, last, authenticated });
    let pin = (0..6_usize).prop_map(Event::Pin);
    proptest::collection::vec(prop_oneof![9 => learn, 1 => pin], 0..14)
}

fn happen(contact: &mut Contact, event: &Event) {
    match event {
        Event::Learn { key, source, last, authenticated } => {
            contact.learn(&known(*key, *source, *last, *authenticated));
        }
        // As `mesyx contact pin`: only one that is known.
        Event::Pin(key) if contact.certificates.iter().any(|known| known.fingerprint == finger(*key)) => {
            contact.pin = Some(finger(*key));
        }
        Event::Pin(_) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_learnt_a_pin_holds_and_nothing_required_goes_in_clear(
        before in events(), pinned in proptest::option::of(0..6_usize), after in events(),
    ) {
        let mut contact = Contact::new("bob@example.net");
        before.iter().for_each(|event| happen(&mut contact, event));
        pinned.iter().for_each(|key| happen(&mut contact, &Event::Pin(*key)));
        let pin = contact.pin.clone();
        for event in after.iter().filter(|event| matches!(event, Event::Learn { .. })) {
            let best = contact.best().map(|best| (best.source, best.fingerprint.clone()));
            happen(&mut contact, event);
            let of = |source| contact.certificates.iter().filter(|known| known.source == source).count();
            prop_assert!(of(Source::Autocrypt) <= 1 && of(Source::Wkd) <= 1);
            prop_assert_eq!(&contact.pin, &pin, "a pin changes by the user's hand alone");
            let used = encrypts_to(&contact, Policy::Require);
            if let (Some(pin), Some(used)) = (&pin, &used) {
                prop_assert_eq!(pin, used);
            }
            prop_assert!(!matches!(contact.choose(Policy::Require, now()), Choice::Plain));
            if pin.is_some() {
                prop_assert!(!matches!(contact.choose(Policy::Prefer, now()), Choice::Plain), "a pinned contact is never written to in clear");
            }
            // What the user set or verified gives way to nothing that was found.
            if let Some((source, fingerprint)) = best
                && source >= Source::Verified
                && matches!(event, Event::Learn { source, .. } if *source < Source::Verified)
            {
                prop_assert_eq!(&contact.best().expect("still one").fingerprint, &fingerprint);
            }
            prop_assert!(contact.certificates.len() <= Contact::MOST && contact.aside.len() <= Contact::MOST);
        }
        let bytes = contact.to_bytes().expect("encoded");
        prop_assert_eq!(Contact::from_bytes(&bytes).expect("decoded"), contact);
    }

    /// Folding that was broken off is done again from its beginning.
    #[test]
    fn learning_the_same_again_changes_nothing(history in events()) {
        let history: Vec<_> = history
            .into_iter()
            .filter(|event| matches!(event, Event::Learn { source: Source::Autocrypt | Source::Wkd | Source::Seen, .. }))
            .collect();
        let mut once = Contact::new("bob@example.net");
        history.iter().for_each(|event| happen(&mut once, event));
        let mut twice = once.clone();
        history.iter().for_each(|event| happen(&mut twice, event));
        prop_assert_eq!(
            once.best().map(|best| best.fingerprint.clone()),
            twice.best().map(|best| best.fingerprint.clone())
        );
        // Of one that had been replaced, when it was first seen may still change, and that a sighting of it was authenticated is
        // remembered, as if it had come first; and one which came in an attachment, which counts for nothing, comes back.
        let mut thrice = twice.clone();
        history.iter().for_each(|event| happen(&mut thrice, event));
        for contact in [&mut twice, &mut thrice] {
            contact.certificates.retain(|known| known.source != Source::Seen);
            contact.aside.retain(|known| known.source != Source::Seen);
            contact.certificates.iter_mut().chain(&mut contact.aside).for_each(|known| {
                (known.first, known.authenticated) = (0, false);
            });
        }
        prop_assert_eq!(twice, thrice);
    }
}
