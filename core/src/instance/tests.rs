use super::*;
use crate::seal::{PartName, Sealed};
use crate::store::part_digest;
use mesyx_sdk::{MessageId, UserId};

fn key() -> (tempfile::TempDir, PathBuf, InstanceKey) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("instance.key");
    let key = InstanceKey::create(&path).unwrap();
    (dir, path, key)
}

#[test]
fn a_key_is_made_once_and_read_back() {
    let (_dir, path, key) = key();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let again = InstanceKey::load(&path).unwrap();
    assert_eq!((again.instance(), again.public_key()), (key.instance(), key.public_key()));
    assert_eq!(&again.open_secret("a", &key.seal_secret("a", b"secret")).unwrap()[..], b"secret");
    assert!(
        matches!(InstanceKey::create(&path), Err(InstanceKeyError::File { .. })),
        "an existing key is never replaced"
    );
    let text = std::fs::read(&path).unwrap();
    assert!(!format!("{key:?}").as_bytes().windows(8).any(|window| text[MARK.len()..].starts_with(window)));
}

#[test]
fn a_key_that_others_may_read_or_that_is_cut_short_is_refused() {
    let (_dir, path, _) = key();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(InstanceKey::load(&path), Err(InstanceKeyError::Mode { mode: 0o640, .. })));
    assert!(InstanceKey::load_credential(&path).is_ok());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let text = std::fs::read(&path).unwrap();
    std::fs::write(&path, &text[..40]).unwrap();
    assert!(matches!(InstanceKey::load(&path), Err(InstanceKeyError::Damaged(_))));
}

#[test]
fn a_service_secret_opens_only_under_its_name_and_key() {
    let (_dir, _, one) = key();
    let (_dir2, _, two) = key();
    let sealed = one.seal_secret("dkim", b"secret");
    assert!(!sealed.windows(6).any(|window| window == b"secret"));
    assert!(one.open_secret("dkim", &sealed).is_ok());
    assert!(one.open_secret("tls", &sealed).is_err());
    assert!(two.open_secret("dkim", &sealed).is_err());
    assert!(one.open_secret("dkim", &sealed[..sealed.len() - 1]).is_err());
}

#[test]
fn an_attestation_covers_what_was_signed_and_nothing_else() {
    let (_dir, _, key) = key();
    let (_dir2, _, other) = self::key();
    let (user, message) = (UserId::random(), MessageId::random());
    let part = Sealed(vec![1, 2, 3].into());
    let summary = part_digest(user, message, PartName::Summary, &part);
    let body = part_digest(user, message, PartName::Body, &part);
    let digests = summary.to_vec();
    let signature = key.sign(&[Attestation::SIGNED_PREFIX, &digests].concat());
    let attestation = Attestation { instance: key.instance(), digests, signature };
    assert!(verify_attestation(&attestation, key.public_key(), &summary));
    assert!(!verify_attestation(&attestation, key.public_key(), &body), "another part");
    assert!(!verify_attestation(&attestation, other.public_key(), &summary), "another instance");
    let mut forged = attestation.clone();
    forged.digests.extend_from_slice(&body);
    assert!(!verify_attestation(&forged, key.public_key(), &body), "a digest added");
    forged.digests.truncate(40);
    assert!(VerifiedAttestation::verify(&forged, key.public_key()).is_none());
}

#[test]
fn hashes_differ_by_day_and_purpose() {
    let (_dir, _, key) = key();
    assert_eq!(key.address_hash(1, "Alice@example.org"), key.address_hash(1, "alice@example.org"));
    assert_ne!(key.address_hash(1, "alice@example.org"), key.address_hash(2, "alice@example.org"));
    assert_ne!(key.dedup(b"a"), key.dedup(b"b"));
    assert_eq!(key.address_hash(1, "x").len(), 16);
}
