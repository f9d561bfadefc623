//! Identities and keysets over the years, through the core.

use crate::support::*;
use mesyx_core::admin::Proof;
use mesyx_core::keys::{Levels, Period, Profile, Span};
use mesyx_core::keysets::{CertificateChange, KeyFile, KeysetInfo, KeysetSource, NewKeyset, RotationRule, WarningKind};
use mesyx_core::settings::KeysetSettings;
use mesyx_core::{Core, Settings};
use mesyx_sdk::{ErrorKind, Flag, FlagChange, Importance, Secret, Timestamp};
use sequoia_openpgp as openpgp;
use sequoia_openpgp::cert::{CertBuilder, CertRevocationBuilder};
use sequoia_openpgp::parse::Parse;
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::serialize::SerializeInto;
use sequoia_openpgp::types::ReasonForRevocation;
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

const WEEK: i64 = 7 * 86_400_000;

fn weekly(make: bool) -> RotationRule {
    RotationRule { levels: Levels::ALL, every: Period::Week, profile: Profile::V4, make }
}

fn proof(name: &str) -> Proof {
    Proof::Password(password(name))
}

fn later(weeks: i64) -> Timestamp {
    Timestamp(Timestamp::now().0 + weeks * WEEK)
}

async fn names(core: &Core) -> Vec<String> {
    let keysets = core.keysets("alice").await.unwrap();
    keysets.into_iter().filter(|info| info.retired.is_none()).map(|info| info.name).collect()
}

async fn info(core: &Core, name: &str) -> KeysetInfo {
    let keysets = core.keysets("alice").await.unwrap();
    keysets.into_iter().find(|info| info.name == name).unwrap_or_else(|| panic!("no keyset {name}"))
}

fn making(span: &str) -> NewKeyset {
    let span: Span = span.parse().unwrap();
    NewKeyset { name: None, span, importance: Levels::ALL, source: KeysetSource::Make(None) }
}

/// A keyset of this year's own, which takes what comes in now.
fn this_year() -> String {
    Span::of(Period::Year, Timestamp::now()).to_string()
}

fn file(certificate: &openpgp::Cert) -> KeyFile {
    KeyFile { bytes: Secret::new(certificate.armored().to_vec().unwrap()), passphrase: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_makes_each_keyset_once_whoever_asks() {
    let (_place, core) = Place::with_users().await;
    core.set_rotation("alice", Levels::ALL, Some(weekly(true))).await.unwrap();
    core.look_after_keysets(Timestamp::now()).await;
    assert_eq!(names(&core).await, ["default"], "nobody is unlocked: there is nothing to lock a secret key with");
    let missing = |core: &Core| core.key_warnings().iter().filter(|w| w.kind == WarningKind::Missing).count();
    assert!(missing(&core) >= 2, "{:?}", core.key_warnings());
    let problems = core.status().await.unwrap().problems;
    assert!(problems.iter().any(|line| line.contains("alice: there is no keyset for")), "{problems:?}");

    let session = login(&core, "alice").await;
    let _other = login(&core, "alice").await;
    let now = Timestamp::now();
    futures_util::future::join_all((0..8).map(|_| core.look_after_keysets(now))).await;
    let made = names(&core).await;
    // The present week, and those that begin within four.
    assert_eq!(made.len(), 1 + 5, "{made:?}");
    assert_eq!(missing(&core), 0);
    let ids: BTreeSet<_> = core.keysets("alice").await.unwrap().into_iter().map(|info| info.id).collect();
    assert_eq!(ids.len(), made.len());
    core.look_after_keysets(later(1)).await;
    assert_eq!(names(&core).await.len(), made.len() + 1, "a week later, one more");
    core.look_after_keysets(later(1)).await;
    assert_eq!(names(&core).await.len(), made.len() + 1);

    // What comes in now is sealed to the new keyset, and opens in the session that was there before.
    deliver(&core, &["alice@example.org"], HELLO).await;
    let week = Span::of(Period::Week, Timestamp::now()).to_string();
    assert_eq!(info(&core, &week).await.sealed.messages, 1);
    let inbox = inbox(&session).await;
    assert_eq!(bodies(&session, inbox).await, [HELLO]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_rotation_made_opens_after_a_restart_and_what_was_removed_is_not_made_again() {
    let (place, core) = Place::with_users().await;
    let session = login(&core, "alice").await;
    core.set_rotation("alice", Levels::ALL, Some(weekly(true))).await.unwrap();
    let week = Span::of(Period::Week, Timestamp::now()).to_string();
    deliver(&core, &["alice@example.org"], HELLO).await;
    let last = names(&core).await.pop().unwrap();
    assert_ne!(last, week);
    let removed = core.remove_keyset("alice", &last, true).await.unwrap();
    assert!(removed.gone);
    let removed = core.remove_keyset("alice", &week, false).await.unwrap();
    assert!(!removed.gone && removed.secret_here);
    assert_eq!(removed.messages, 1);
    let before = names(&core).await;
    core.look_after_keysets(Timestamp::now()).await;
    assert_eq!(names(&core).await, before, "what the user took away stays away");
    drop(session);
    core.close().await;
    drop(core);
    let core = place.open().await;
    let session = login(&core, "alice").await;
    let inbox = inbox(&session).await;
    assert_eq!(bodies(&session, inbox).await, [HELLO], "the removed keyset's secret key stayed");
    deliver(&core, &["alice@example.org"], HELLO).await;
    assert_eq!(info(&core, "default").await.sealed.messages, 1);
    assert_eq!(bodies(&session, inbox).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn uploaded_certificates_satisfy_a_rotation_and_never_leave_a_secret_key_here() {
    let (_place, core) = Place::with_users().await;
    let session = login(&core, "alice").await;
    core.set_rotation("alice", Levels::ALL, Some(weekly(false))).await.unwrap();
    assert_eq!(names(&core).await, ["default"]);
    assert_eq!(core.key_warnings().iter().filter(|w| w.kind == WarningKind::Missing).count(), 3);
    let (certificate, _) = CertBuilder::new().add_userid("mine").add_storage_encryption_subkey().generate().unwrap();
    let mut span = Span::of(Period::Week, Timestamp::now());
    let week = span.to_string();
    for _ in 0..3 {
        let source = KeysetSource::Certificates(vec![file(&certificate)]);
        let new = NewKeyset { name: None, span, importance: Levels::ALL, source };
        core.add_keyset("alice", new, None).await.unwrap();
        span = span.next().unwrap();
    }
    core.look_after_keysets(Timestamp::now()).await;
    assert_eq!(core.key_warnings(), []);
    deliver(&core, &["alice@example.org"], HELLO).await;
    let found = info(&core, &week).await;
    assert_eq!((found.sealed.messages, found.secret_here), (1, false));
    let inbox = inbox(&session).await;
    let shown = bodies(&session, inbox).await;
    assert!(String::from_utf8_lossy(&shown[0]).contains(&format!("keyset {week}")), "served as it is stored");
    let audit = core.keyset_audit(Some("alice")).await.unwrap();
    let line = audit.iter().find(|line| line.name.as_deref() == Some(&week)).unwrap();
    assert_eq!((line.opens.messages, line.secret_here), (1, false));
    assert_eq!(line.opens.first_day, line.opens.last_day);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_key_goes_only_when_nothing_depends_on_it() {
    let (_place, core) = Place::with_users().await;
    let year = this_year();
    core.add_keyset("alice", making(&year), Some(proof("alice"))).await.unwrap();
    deliver(&core, &["alice@example.org"], HELLO).await;
    let refused = core.remove_keyset("alice", &year, true).await.unwrap_err();
    assert!(refused.kind() == ErrorKind::Forbidden && refused.message().contains("1 messages"), "{refused:?}");
    assert_eq!(info(&core, &year).await.retired, None, "nothing changed");
    let refused = core.remove_keyset("alice", "default", false).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Forbidden);
    let session = login(&core, "alice").await;
    let inbox = inbox(&session).await;
    let uids = uids(&session, inbox).await;
    let deleted = FlagChange::Add(vec![Flag::Deleted].into_iter().collect());
    session.store_flags(inbox, &uids, &deleted, None).await.unwrap();
    session.expunge(inbox, None).await.unwrap();
    assert!(core.remove_keyset("alice", &year, true).await.unwrap().gone);
    assert_eq!(names(&core).await, ["default"]);
    deliver(&core, &["alice@example.org"], HELLO).await;
    assert_eq!(bodies(&session, inbox).await, [HELLO]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ties_and_missing_proof_are_told() {
    let (_place, core) = Place::with_users().await;
    let refused = core.add_keyset("alice", making("2030"), None).await.unwrap_err();
    assert!(refused.kind() == ErrorKind::LoginFailed && refused.message().contains("recovery key"), "{refused:?}");
    let wrong = Proof::Password(Secret::from("wrong".to_owned()));
    assert_eq!(core.add_keyset("alice", making("2030"), Some(wrong)).await.unwrap_err().kind(), ErrorKind::LoginFailed);
    core.add_keyset("alice", making("2030"), Some(proof("alice"))).await.unwrap();
    let mut tie = making("2030-01-01..2031-01-01");
    let refused = core.add_keyset("alice", tie.clone(), Some(proof("alice"))).await.unwrap_err();
    assert!(refused.message().contains("equally specific"), "{refused:?}");
    tie.importance = Levels::of(&[Importance::High]).unwrap();
    core.add_keyset("alice", tie, Some(proof("alice"))).await.unwrap();
    let refused = core.add_keyset("alice", making("always"), Some(proof("alice"))).await.unwrap_err();
    assert!(refused.message().contains("equally specific"), "{refused:?}");
    // Another default takes the place of the first, which stays for what is sealed to it.
    deliver(&core, &["alice@example.org"], HELLO).await;
    let new = core.set_default_keyset("alice", "2030").await.unwrap();
    assert!(new.default && new.span == "always");
    let old = info(&core, "default").await;
    assert!(old.retired.is_some() && old.secret_here && old.sealed.messages == 1);
    deliver(&core, &["alice@example.org"], HELLO).await;
    assert_eq!(info(&core, "2030").await.sealed.messages, 1);
    let session = login(&core, "alice").await;
    let inbox = inbox(&session).await;
    assert_eq!(bodies(&session, inbox).await, [HELLO, HELLO]);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_keyset_can_be_sealed_to_mail_is_put_off() {
    let (_place, core) = Place::with_users().await;
    let now = SystemTime::now();
    let make = |valid: Option<Duration>| {
        let builder = CertBuilder::new().set_creation_time(now - Duration::from_secs(7200)).set_validity_period(valid);
        builder.add_userid("mine").add_storage_encryption_subkey().generate().unwrap().0
    };
    let expired = make(Some(Duration::from_secs(3600)));
    let mut own = making(&this_year());
    own.source = KeysetSource::Certificates(vec![file(&expired)]);
    let refused = core.add_keyset("alice", own.clone(), None).await.unwrap_err();
    assert!(refused.message().contains("can be sealed to"), "{refused:?}");
    let good = make(None);
    own.source = KeysetSource::Certificates(vec![file(&good)]);
    own.name = Some("own".into());
    core.add_keyset("alice", own, None).await.unwrap();
    deliver(&core, &["alice@example.org"], HELLO).await;
    assert_eq!(info(&core, "own").await.sealed.messages, 1);

    // Revoked, it falls to the default keyset at once.
    let mut signer = good.primary_key().key().clone().parts_into_secret().unwrap().into_keypair().unwrap();
    let revocation = CertRevocationBuilder::new()
        .set_reason_for_revocation(ReasonForRevocation::KeyRetired, b"test")
        .unwrap()
        .build(&mut signer, &good, None)
        .unwrap();
    let revoked = good.clone().insert_packets(revocation).unwrap().0;
    let update = |keyset| core.change_certificates("alice", keyset, vec![file(&revoked)], CertificateChange::Update);
    let refused = update("default").await.unwrap_err();
    assert!(refused.message().contains("--add"), "{refused:?}");
    let changed = update("own").await.unwrap();
    assert!(changed.certificates[0].unusable.as_ref().is_some_and(|why| why.contains("revoked")), "{changed:?}");
    deliver(&core, &["alice@example.org"], HELLO).await;
    assert_eq!((info(&core, "own").await.sealed.messages, info(&core, "default").await.sealed.messages), (1, 1));

    // So does the default keyset: nothing is stored, in clear or otherwise.
    let fingerprint = info(&core, "default").await.certificates[0].fingerprint.clone();
    let replace = CertificateChange::Replace(fingerprint);
    core.change_certificates("alice", "default", vec![file(&revoked)], replace).await.unwrap();
    let refused = accept(&core, envelope(&["alice@example.org"], HELLO)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused:?}");
    assert_eq!(core.status().await.unwrap().messages, 2);
    core.look_after_keysets(Timestamp::now()).await;
    let unusable = core.key_warnings().iter().filter(|w| w.kind == WarningKind::Unusable).count();
    assert_eq!(unusable, 2, "{:?}", core.key_warnings());
    // What was sealed before still opens: the replaced certificate's secret key is still here.
    let session = login(&core, "alice").await;
    let inbox = inbox(&session).await;
    assert_eq!(bodies(&session, inbox).await[1], HELLO);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_identity_is_certified_both_ways_and_the_old_one_still_opens() {
    let (place, core) = Place::with_users().await;
    let cert = |bytes: &[u8]| openpgp::Cert::from_bytes(bytes).unwrap();
    let old = cert(&core.export_identity("alice", None).unwrap());
    let wrong = Proof::Password(Secret::from("wrong".to_owned()));
    assert_eq!(core.rotate_identity("alice", wrong, None, false).await.unwrap_err().kind(), ErrorKind::LoginFailed);
    let session = login(&core, "alice").await;
    let shown = core.rotate_identity("alice", proof("alice"), None, true).await.unwrap();
    let new = cert(&core.export_identity("alice", None).unwrap());
    assert_ne!(new.fingerprint(), old.fingerprint());
    assert_eq!(shown.certificate.fingerprint, new.fingerprint().to_hex());
    assert!(shown.secret_here && shown.unlocked && shown.missing_addresses.is_empty());
    let old_hex = old.fingerprint().to_hex();
    assert_eq!(shown.earlier.len(), 1);
    assert!(shown.earlier[0].secret_here && shown.earlier[0].certificate.fingerprint == old_hex);
    let kept = cert(&core.export_identity("alice", Some(&old_hex)).unwrap());
    let certified = |certificate: &openpgp::Cert, by: &openpgp::Cert| {
        certificate.userids().all(|id| {
            id.certifications().any(|signature| {
                signature
                    .clone()
                    .verify_userid_binding(by.primary_key().key(), certificate.primary_key().key(), id.userid())
                    .is_ok()
            })
        })
    };
    assert!(certified(&new, &old) && certified(&kept, &new));
    assert!(!certified(&new, &new) && !certified(&old, &new));
    let policy = StandardPolicy::new();
    let state = kept.revocation_status(&policy, None);
    assert!(matches!(state, openpgp::types::RevocationStatus::Revoked(_)), "{state:?}");

    // Twice more; then everything is still there, also after a restart.
    core.rotate_identity("alice", proof("alice"), Some(Profile::V6), false).await.unwrap();
    core.rotate_identity("alice", proof("alice"), None, false).await.unwrap();
    drop(session);
    core.close().await;
    drop(core);
    let core = place.open().await;
    let _session = login(&core, "alice").await;
    let shown = core.identity("alice").await.unwrap();
    assert!(shown.unlocked && shown.earlier.len() == 3 && shown.earlier.iter().all(|earlier| earlier.secret_here));
    assert_eq!(shown.earlier[2].certificate.fingerprint, old_hex);
    let secret = core.export_identity_secret("alice", Some(&old_hex), proof("alice")).await.unwrap();
    let secret = cert(secret.expose());
    assert!(secret.is_tsk() && secret.fingerprint() == old.fingerprint());
}

#[tokio::test(flavor = "multi_thread")]
async fn thrown_away_keys_are_all_new_and_the_keysets_keep_their_places() {
    let (_place, core) = Place::with_users().await;
    core.add_keyset("alice", making(&this_year()), Some(proof("alice"))).await.unwrap();
    deliver(&core, &["alice@example.org"], HELLO).await;
    let identity = core.identity("alice").await.unwrap();
    let before = core.keysets("alice").await.unwrap();
    core.discard_keys("alice", Some(password("alice"))).await.unwrap();
    let after = core.keysets("alice").await.unwrap();
    let used = |all: &[KeysetInfo]| -> Vec<(String, String)> {
        let used = all.iter().filter(|info| info.retired.is_none());
        used.map(|info| (info.name.clone(), info.span.clone())).collect()
    };
    assert_eq!(used(&before), used(&after));
    let retired: Vec<_> = after.iter().filter(|info| info.retired.is_some()).collect();
    assert_eq!(retired.len(), before.len());
    assert!(retired.iter().all(|info| !info.secret_here), "{retired:?}");
    assert!(after.iter().filter(|info| info.retired.is_none()).all(|info| info.secret_here));
    let shown = core.identity("alice").await.unwrap();
    assert_ne!(shown.certificate.fingerprint, identity.certificate.fingerprint);
    assert!(shown.secret_here && !shown.earlier[0].secret_here);
    let session = login(&core, "alice").await;
    deliver(&core, &["alice@example.org"], HELLO).await;
    let inbox = inbox(&session).await;
    let bodies = bodies(&session, inbox).await;
    let opened = bodies.iter().filter(|body| *body == HELLO).count();
    assert_eq!((bodies.len(), opened), (2, 1), "the old message does not open any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_users_get_what_the_settings_name() {
    let place = Place::new().await;
    let keysets = KeysetSettings { profile: Profile::V6, rotation: Some(Period::Month), ..KeysetSettings::default() };
    let core = Core::open(Settings { keysets, ..place.settings.clone() }).await.unwrap();
    add(&core, "alice").await;
    let all = core.keysets("alice").await.unwrap();
    assert!(all.len() >= 2, "{all:?}");
    assert!(all.iter().all(|info| info.secret_here && info.certificates[0].kind.starts_with("v6")), "{all:?}");
    assert!(core.identity("alice").await.unwrap().certificate.kind.starts_with("v6"));
    deliver(&core, &["alice@example.org"], HELLO).await;
    let month = Span::of(Period::Month, Timestamp::now()).to_string();
    assert_eq!(info(&core, &month).await.sealed.messages, 1);
    let session = login(&core, "alice").await;
    let inbox = inbox(&session).await;
    assert_eq!(bodies(&session, inbox).await, [HELLO]);
    core.look_after_keysets(Timestamp::now()).await;
    assert_eq!(core.key_warnings(), []);
}
