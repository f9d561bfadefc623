//! Key files: what people have, and what an attacker might send.

use super::*;
use crate::keys::{Levels, Profile, Span, generate_keyset};
use openpgp::Packet;
use openpgp::armor::{Kind, Writer};
use openpgp::cert::CertBuilder;
use openpgp::crypto::mpi::SecretKeyChecksum;
use openpgp::crypto::{Password, S2K};
use openpgp::packet::key::{Encrypted, SecretKeyMaterial, SecretParts, UnspecifiedRole};
use openpgp::packet::{Key, Literal, UserID};
use openpgp::serialize::{Serialize, SerializeInto};
use openpgp::types::{AEADAlgorithm, HashAlgorithm, SymmetricAlgorithm};
use proptest::prelude::*;
use std::io::Write;

type SecretKey = Key<SecretParts, UnspecifiedRole>;

fn secret(profile: Profile) -> Cert {
    generate_keyset("x", Span::Always, Levels::ALL, profile).unwrap().1
}

fn file(certificate: &Cert) -> Vec<u8> {
    certificate.as_tsk().to_vec().unwrap()
}

fn armored(kind: Kind, bytes: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), kind).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finalize().unwrap()
}

fn passphrase(text: &str) -> Secret {
    Secret::from(text.to_owned())
}

/// The certificate with each of its secret keys changed.
fn changed(certificate: &Cert, change: impl Fn(SecretKey) -> SecretKey) -> Cert {
    let primary = certificate.fingerprint();
    let keys = certificate.keys().secret().map(|key| change(key.key().clone()));
    let packets = keys.map(|key| match key.fingerprint() == primary {
        true => Packet::from(key.role_into_primary()),
        false => Packet::from(key.role_into_subordinate()),
    });
    certificate.clone().insert_packets(packets.collect::<Vec<_>>()).unwrap().0
}

/// Locked with cheap parameters.
fn locked(certificate: &Cert, text: &str) -> Cert {
    changed(certificate, |key| {
        let v6 = key.version() == 6;
        let s2k = match v6 {
            true => S2K::Argon2 { salt: [9; 16], t: 1, p: 1, m: 6 },
            false => S2K::new_iterated(HashAlgorithm::SHA256, 65536).unwrap(),
        };
        let aead = v6.then_some(AEADAlgorithm::OCB);
        let SecretKeyMaterial::Unencrypted(clear) = key.secret() else { panic!("it is locked already") };
        let material = clear.encrypt_with(&key, s2k, SymmetricAlgorithm::AES256, aead, &Password::from(text)).unwrap();
        key.add_secret(material.into()).0
    })
}

/// A file that claims to be locked with these parameters. Nothing was computed with them.
fn claiming(s2k: &S2K) -> Vec<u8> {
    let material =
        || Encrypted::new(s2k.clone(), SymmetricAlgorithm::AES256, Some(SecretKeyChecksum::SHA1), vec![7; 80].into());
    file(&changed(&secret(Profile::V4), |key| key.add_secret(material().into()).0))
}

/// A stub as GnuPG writes it: S2K 101, "GNU", 1.
fn stub(key: SecretKey) -> SecretKey {
    let s2k = S2K::Private { tag: 101, parameters: None };
    let material =
        Encrypted::new(s2k, SymmetricAlgorithm::AES128, Some(SecretKeyChecksum::SHA1), b"\0GNU\x01"[..].into());
    key.add_secret(material.into()).0
}

#[test]
fn binary_and_armored_keys_of_each_kind_are_read_locked_or_not() {
    let post_quantum = openpgp::cert::CipherSuite::MLDSA65_Ed25519.is_supported().is_ok();
    assert!(post_quantum || !openpgp::crypto::backend().starts_with("RustCrypto"));
    let profiles = [Profile::V4, Profile::V6].into_iter().chain(post_quantum.then_some(Profile::PostQuantum));
    for profile in profiles {
        let clear = secret(profile);
        let locked = locked(&clear, "pass phrase");
        for (bytes, phrase) in [(file(&clear), None), (file(&locked), Some(passphrase("pass phrase")))] {
            for bytes in [armored(Kind::SecretKey, &bytes), bytes] {
                let read = read_secret_key(&bytes, phrase.as_ref()).unwrap();
                assert_eq!(read.as_tsk().to_vec().unwrap(), file(&clear), "{profile:?}");
                let public = read_certificates(&bytes).unwrap();
                assert_eq!(public, [clear.clone().strip_secret_key_material()]);
                assert!(!public[0].is_tsk(), "no secret key stays in it");
            }
        }
        let refused = |phrase: Option<&Secret>| read_secret_key(&file(&locked), phrase).unwrap_err();
        assert_eq!(refused(None), ImportError::PassphraseNeeded);
        assert_eq!(refused(Some(&passphrase("Pass phrase"))), ImportError::WrongPassphrase);
        assert_eq!(refused(Some(&passphrase(""))), ImportError::WrongPassphrase);
    }
}

#[test]
fn several_blocks_and_text_around_them_are_read_as_certificates() {
    let (one, two) = (secret(Profile::V4), secret(Profile::V6));
    let mut bytes = b"Dear Bob,\nhere they are:\n\n".to_vec();
    for certificate in [&one, &two] {
        bytes.extend(armored(Kind::PublicKey, &certificate.to_vec().unwrap()));
        bytes.extend_from_slice(b"\nand\n");
    }
    let fingerprints =
        |bytes: &[u8]| read_certificates(bytes).unwrap().iter().map(Cert::fingerprint).collect::<Vec<_>>();
    assert_eq!(fingerprints(&bytes), [one.fingerprint(), two.fingerprint()]);
    let binary = [one.to_vec().unwrap(), two.to_vec().unwrap()].concat();
    assert_eq!(fingerprints(&binary), [one.fingerprint(), two.fingerprint()]);
    assert_eq!(read_secret_key(&binary, None), Err(ImportError::Several(2)));
}

#[test]
fn what_is_no_secret_key_is_told_from_one() {
    let read = |bytes: &[u8]| read_secret_key(bytes, None).unwrap_err();
    assert_eq!(read(b""), ImportError::NotOpenPgp);
    assert_eq!(read(b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 bob"), ImportError::NotOpenPgp);
    assert!(matches!(read(b"\x89PNG\r\n\x1a\n"), ImportError::Truncated | ImportError::Damaged(_)));
    let public = secret(Profile::V4).to_vec().unwrap();
    assert!(matches!(read(&public), ImportError::PublicOnly(_)));
    assert!(matches!(read(&armored(Kind::PublicKey, &public)), ImportError::PublicOnly(_)));
    let mut literal = Vec::new();
    Packet::from(Literal::new(openpgp::types::DataFormat::Binary)).serialize(&mut literal).unwrap();
    assert!(matches!(read(&literal), ImportError::NoKey(_)));
    assert!(matches!(read(&armored(Kind::Message, &literal)), ImportError::NoKey(_)));
    let mut after_a_key = file(&secret(Profile::V4));
    after_a_key.extend(literal);
    assert!(matches!(read(&after_a_key), ImportError::NoKey(_)));
    let mut user_id = Vec::new();
    Packet::from(UserID::from("nobody")).serialize(&mut user_id).unwrap();
    assert!(matches!(read(&user_id), ImportError::NoKey(_)));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let key = secret(Profile::V4);
    let whole = file(&key);
    for end in 1..whole.len() {
        let cut = read_secret_key(&whole[..end], None);
        // Between two packets: then the key that opens messages is missing, or its binding signature.
        assert!(
            matches!(cut, Err(ImportError::Truncated | ImportError::Stub(_) | ImportError::Damaged(_))),
            "{end} of {}: {cut:?}",
            whole.len()
        );
    }
    let text = armored(Kind::SecretKey, &whole);
    for end in 40..text.len() - 40 {
        assert_eq!(read_secret_key(&text[..end], None), Err(ImportError::Truncated), "{end} of {}", text.len());
    }
}

#[test]
fn stubs_are_told_from_keys() {
    let all = changed(&secret(Profile::V4), stub);
    assert!(matches!(read_secret_key(&file(&all), None), Err(ImportError::Stub(_))));
    // The primary key elsewhere, the one that opens messages here: what people have who keep the primary in a safe.
    let certificate = secret(Profile::V4);
    let primary = certificate.fingerprint();
    let mixed = changed(&certificate, |key| if key.fingerprint() == primary { stub(key) } else { key });
    let read = read_secret_key(&file(&mixed), None).unwrap();
    assert!(!read.primary_key().key().has_secret());
    assert_eq!(read.keys().unencrypted_secret().count(), 1);
    let other = changed(&certificate, |key| if key.fingerprint() == primary { key } else { stub(key) });
    assert!(matches!(read_secret_key(&file(&other), None), Err(ImportError::Stub(_))));
}

#[test]
fn hashing_without_measure_is_refused_before_it_begins() {
    let phrase = passphrase("x");
    let tiny = ImportLimits { hashed_bytes: 0, argon2_memory_kib: 0, argon2_work_kib: 0, ..ImportLimits::DEFAULT };
    let costly = |limits: &ImportLimits, s2k: &S2K| {
        matches!(read_secret_key_within(limits, &claiming(s2k), Some(&phrase)), Err(ImportError::Costly(_)))
    };
    let argon2 = |t, m| S2K::Argon2 { salt: [1; 16], t, p: 1, m };
    // Each of these would take minutes, or memory that nobody has.
    for (t, m) in [(1, 31), (1, 21), (255, 20), (255, 255), (1, 63), (1, 64)] {
        assert!(costly(&ImportLimits::DEFAULT, &argon2(t, m)), "t={t} m={m}");
    }
    let most = S2K::Iterated { hash: HashAlgorithm::SHA256, salt: [1; 8], hash_bytes: 0x3e0_0000 };
    // One key may ask for that much; what all ask for is added up. This one has two, of one digest each.
    let limits = |hashed_bytes| ImportLimits { hashed_bytes, ..tiny };
    assert!(costly(&limits(2 * 0x3e0_0000 - 1), &most));
    let asked = read_secret_key_within(
        &limits(2 * 0x3e0_0000),
        &claiming(&S2K::Iterated { hash: HashAlgorithm::SHA256, salt: [1; 8], hash_bytes: 0x3e0_0000 }),
        Some(&phrase),
    );
    assert_eq!(asked, Err(ImportError::WrongPassphrase));
    // SHA-1 gives 20 bytes, so a key of 32 takes two runs.
    let short = S2K::Iterated { hash: HashAlgorithm::SHA1, salt: [1; 8], hash_bytes: 1024 };
    assert!(costly(&limits(4 * 1024 - 1), &short) && !costly(&limits(4 * 1024), &short));
    let work = |argon2_work_kib| ImportLimits { argon2_memory_kib: 64, argon2_work_kib, ..tiny };
    assert!(costly(&work(2 * 3 * 64 - 1), &argon2(3, 6)) && !costly(&work(2 * 3 * 64), &argon2(3, 6)));
    let unknown = S2K::Unknown { tag: 9, parameters: None };
    assert!(matches!(read_secret_key(&claiming(&unknown), Some(&phrase)), Err(ImportError::UnknownLock(_))));
}

#[test]
fn sizes_and_counts_are_limited() {
    let limits = ImportLimits::DEFAULT;
    let key = secret(Profile::V4);
    assert_eq!(read_certificates(&vec![0x99; limits.file_bytes + 1]), Err(ImportError::TooLarge(limits.file_bytes)));
    let mut names = file(&key);
    for number in 0..limits.user_ids {
        Packet::from(UserID::from(format!("name {number}"))).serialize(&mut names).unwrap();
    }
    assert_eq!(read_secret_key(&names, None), Err(ImportError::TooMany("user IDs", limits.user_ids)));
    let signature = key.userids().next().unwrap().self_signatures().next().unwrap().clone();
    let mut signatures = file(&key);
    for _ in 0..limits.signatures {
        Packet::from(signature.clone()).serialize(&mut signatures).unwrap();
    }
    assert_eq!(read_secret_key(&signatures, None), Err(ImportError::TooMany("signatures", limits.signatures)));
    let subkey = key.keys().subkeys().next().unwrap().key().clone();
    let mut subkeys = key.to_vec().unwrap();
    for _ in 0..limits.keys {
        Packet::from(subkey.clone()).serialize(&mut subkeys).unwrap();
    }
    assert_eq!(read_certificates(&subkeys), Err(ImportError::TooMany("subkeys", limits.keys)));
    let many = key.to_vec().unwrap().repeat(limits.certificates + 1);
    assert_eq!(read_certificates(&many), Err(ImportError::TooMany("certificates", limits.certificates)));
    // Old format, tag 6, four octets of length.
    let mut large = vec![0x9a];
    large.extend(u32::to_be_bytes(limits.key_bytes as u32 + 1));
    large.push(4);
    large.resize(large.len() + limits.key_bytes, 0);
    assert_eq!(read_certificates(&large), Err(ImportError::TooMany("bytes of one key", limits.key_bytes)));
}

#[test]
fn a_secret_that_does_not_fit_is_refused() {
    let (one, other) = (secret(Profile::V4), secret(Profile::V4));
    let foreign = other.keys().subkeys().secret().next().unwrap().key().secret().clone();
    let mixed =
        changed(&one, |key| if key.pk_algo().for_encryption() { key.add_secret(foreign.clone()).0 } else { key });
    assert!(matches!(read_secret_key(&file(&mixed), None), Err(ImportError::Mismatch(_))));
}

#[test]
fn an_expired_key_is_read_for_what_was_sealed_before() {
    use std::time::{Duration, SystemTime};
    let made = SystemTime::now() - Duration::from_secs(3 * 86400);
    let builder = CertBuilder::new().set_creation_time(made).set_validity_period(Duration::from_secs(86400));
    let (expired, _) = builder.add_userid("x").add_storage_encryption_subkey().generate().unwrap();
    assert!(expired.with_policy(&openpgp::policy::StandardPolicy::new(), None).unwrap().alive().is_err());
    assert!(read_secret_key(&file(&expired), None).unwrap().is_tsk());
}

#[test]
fn rsa_is_refused_where_its_arithmetic_leaks() {
    let suite = openpgp::cert::CipherSuite::RSA2k;
    let (rsa, _) = CertBuilder::new().set_cipher_suite(suite).add_storage_encryption_subkey().generate().unwrap();
    assert_eq!(read_certificates(&rsa.to_vec().unwrap()).unwrap().len(), 1, "its public part can be sealed to");
    let read = read_secret_key(&file(&rsa), None);
    if openpgp::crypto::backend().starts_with("RustCrypto") {
        assert_eq!(read, Err(ImportError::VariableTime("RSA")));
        assert!(read.unwrap_err().to_string().contains("--no-default-features --features crypto-openssl"));
    } else {
        assert!(read.unwrap().is_tsk());
    }
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..600), at in 0..2000_usize, cut in 0..2000_usize) {
        static WHOLE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let whole = WHOLE.get_or_init(|| file(&secret(Profile::V4)));
        let (at, cut) = (at % whole.len(), cut % whole.len());
        bytes.splice(0..0, whole[..at].iter().copied());
        bytes.extend_from_slice(&whole[cut..]);
        let tiny = ImportLimits { hashed_bytes: 1 << 16, argon2_memory_kib: 64, argon2_work_kib: 64, ..ImportLimits::DEFAULT };
        let _ = read_secret_key_within(&tiny, &bytes, Some(&passphrase("x")));
        let _ = read_certificates(&bytes);
    }
}
