//! Small values of one user, sealed to the user's identity certificate: contacts, what intake saw of correspondents, verdicts.
//!
//! ```text
//!   version, 1 octet | instance, 16 | signature, 64 | length of the PKESK packets, 2 | PKESK packets | SEIPD packet
//!   inside:  mark | user, 16 | record, 16 | kind, 1 | length, 4 | payload | zeros up to the padded length
//! ```
//!
//! Anybody can encrypt to a public key, so the instance that writes a record signs it: who can write to the store's files, but
//! lacks the instance key, can't make a contact or exchange one for another. The identity rather than a keyset, because keysets may be offline while
//! their user is logged in, and because a keyset's end is no reason to forget a correspondent.

use super::packet::{self, Clear, crypto};
use super::padding::padded_length;
use super::{OpenError, SealError, Sealed, SessionKey};
use crate::id::{InstanceId, RecordId};
use crate::keys::Unlocked;
use crate::store::{Attest, RecordKind};
use bytes::Bytes;
use mesyx_sdk::UserId;
use openpgp::cert::Preferences;
use openpgp::cert::amalgamation::ValidAmalgamation;
use openpgp::packet::{PKESK, pkesk};
use openpgp::policy::StandardPolicy;
use openpgp::serialize::MarshalInto;
use openpgp::{Cert, Packet};
use ring::signature::{ED25519, UnparsedPublicKey};
use sequoia_openpgp as openpgp;
use std::cmp::Reverse;
use zeroize::Zeroizing;

/// Whose record it is, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordContext {
    pub(crate) user: UserId,
    pub(crate) record: RecordId,
    pub(crate) kind: RecordKind,
    /// Days since 1970-01-01, UTC; stands in clear too.
    pub(crate) day: i32,
}

const VERSION: u8 = 1;
const MARK: &[u8] = b"mesyx record 1\0";
/// What the signature covers before the rest, so that the key's other signatures can't be mistaken for it.
const SIGNED_PREFIX: &[u8] = b"mesyx record signature 1\0";
const SIGNATURE: usize = 64;
/// Version, instance, signature, length of the PKESK packets.
const HEAD: usize = 1 + 16 + SIGNATURE + 2;
/// What stands before the payload inside.
const INNER_HEAD: usize = MARK.len() + 16 + 16 + 1 + 4;

/// Seals `payload` to the encryption key of `identity`.
///
/// # Errors
/// [`SealError::Crypto`] where the certificate has no encryption key that this program can use.
pub(crate) fn seal_record(
    identity: &Cert,
    context: &RecordContext,
    payload: &[u8],
    attest: &dyn Attest,
) -> Result<Vec<u8>, SealError> {
    let length = u32::try_from(payload.len()).map_err(|_| SealError::TooLarge)?;
    let padded = padded_length((INNER_HEAD + payload.len()) as u64);
    let padded = usize::try_from(padded).map_err(|_| SealError::TooLarge)?;
    let (packets, key) = session_key(identity)?;
    let mut clear = Clear::with_capacity(padded);
    let buffer = clear.buffer();
    buffer.extend_from_slice(MARK);
    buffer.extend_from_slice(context.user.as_bytes());
    buffer.extend_from_slice(&context.record.0);
    buffer.push(context.kind.number());
    buffer.extend_from_slice(&length.to_be_bytes());
    buffer.extend_from_slice(payload);
    buffer.resize(Clear::START + padded, 0);
    let sealed = clear.seal(&key)?;
    let instance = attest.instance();
    let signature = attest.sign(&signed(context, instance, &packets, &sealed));
    let packets_length = u16::try_from(packets.len()).map_err(|_| SealError::TooLarge)?;
    let mut out = Vec::with_capacity(HEAD + packets.len() + sealed.0.len());
    out.push(VERSION);
    out.extend_from_slice(&instance.0);
    out.extend_from_slice(&signature);
    out.extend_from_slice(&packets_length.to_be_bytes());
    out.extend_from_slice(&packets);
    out.extend_from_slice(&sealed.0);
    Ok(out)
}

/// Opens a record that the instance of `public_key` wrote for exactly this place.
///
/// # Errors
/// As [`super::open_body`]; [`OpenError::Damaged`] where the signature is not that instance's.
pub(crate) fn open_record(
    keys: &Unlocked,
    context: &RecordContext,
    public_key: &[u8],
    record: &[u8],
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let short = || OpenError::Damaged("it is cut short");
    let (&version, rest) = record.split_first().ok_or_else(short)?;
    if version != VERSION {
        return Err(OpenError::Refused("it was written by a newer Mesyx: use the newer program"));
    }
    let (instance, rest) = rest.split_first_chunk::<16>().ok_or_else(short)?;
    let (signature, rest) = rest.split_first_chunk::<SIGNATURE>().ok_or_else(short)?;
    let (length, rest) = rest.split_first_chunk::<2>().ok_or_else(short)?;
    let (packets, sealed) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or_else(short)?;
    let sealed = Sealed(Bytes::copy_from_slice(sealed));
    let instance = InstanceId(*instance);
    let signed = signed(context, instance, packets, &sealed);
    if instance != crate::instance::instance_id(public_key)
        || UnparsedPublicKey::new(&ED25519, public_key).verify(&signed, signature).is_err()
    {
        return Err(OpenError::Damaged("no instance that we know wrote this record here"));
    }
    let key = keys.identity_session_key(packets)?;
    let clear = Zeroizing::new(Vec::from(packet::open(&key, &sealed)?));
    let rest = clear.strip_prefix(MARK).ok_or(OpenError::Damaged("it does not say what it is"))?;
    let (user, rest) = rest.split_first_chunk::<16>().ok_or_else(short)?;
    let (id, rest) = rest.split_first_chunk::<16>().ok_or_else(short)?;
    let (&kind, rest) = rest.split_first().ok_or_else(short)?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    if user != context.user.as_bytes() {
        return Err(OpenError::Swapped("user"));
    }
    if (*id, kind) != (context.record.0, context.kind.number()) {
        return Err(OpenError::Swapped("record"));
    }
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| short())?;
    Ok(Zeroizing::new(rest.get(..length).ok_or_else(short)?.to_vec()))
}

fn signed(context: &RecordContext, instance: InstanceId, packets: &[u8], sealed: &Sealed) -> Vec<u8> {
    let mut signed = Vec::with_capacity(SIGNED_PREFIX.len() + 61 + packets.len() + sealed.0.len());
    signed.extend_from_slice(SIGNED_PREFIX);
    signed.extend_from_slice(&instance.0);
    signed.extend_from_slice(context.user.as_bytes());
    signed.extend_from_slice(&context.record.0);
    signed.push(context.kind.number());
    signed.extend_from_slice(&context.day.to_be_bytes());
    signed.extend_from_slice(&(packets.len() as u64).to_be_bytes());
    signed.extend_from_slice(packets);
    signed.extend_from_slice(&sealed.0);
    signed
}

/// A fresh session key, sealed to the best encryption key of the identity: one that is neither expired nor revoked, where there is one.
/// An expired one is better than to lose a record: nobody else's secrecy hangs on it.
fn session_key(identity: &Cert) -> Result<(Vec<u8>, SessionKey), SealError> {
    let policy = StandardPolicy::new();
    let v2 = identity
        .with_policy(&policy, None)
        .ok()
        .and_then(|valid| valid.features().map(|features| features.supports_seipdv2()))
        .unwrap_or(false);
    let keys = identity
        .keys()
        .with_policy(&policy, None)
        .supported()
        .for_transport_encryption()
        .for_storage_encryption()
        .max_by_key(|key| {
            let revoked = matches!(key.revocation_status(), openpgp::types::RevocationStatus::Revoked(_));
            (Reverse(revoked), key.alive().is_ok(), key.key().creation_time())
        });
    let recipient = keys.ok_or_else(|| SealError::Crypto("the identity has no encryption key to use".to_owned()))?;
    let key = SessionKey::random(v2)?;
    let packet: PKESK = if v2 {
        pkesk::PKESK6::for_recipient(&key.key, recipient.key()).map_err(crypto)?.into()
    } else {
        pkesk::PKESK3::for_recipient(key.cipher(), &key.key, recipient.key()).map_err(crypto)?.into()
    };
    Ok((Packet::from(packet).to_vec().map_err(crypto)?, key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Keyring, MasterKey, NewKeys, Profile};
    use crate::store::StoredSecrets;
    use crate::store::conformance::TestInstance;
    use ring::signature::{Ed25519KeyPair, KeyPair};

    struct Instance(Ed25519KeyPair);

    impl Instance {
        fn new(seed: u8) -> Self {
            Self(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a seed"))
        }
        fn public(&self) -> &[u8] {
            self.0.public_key().as_ref()
        }
    }

    impl Attest for Instance {
        fn instance(&self) -> InstanceId {
            crate::instance::instance_id(self.public())
        }
        fn sign(&self, bytes: &[u8]) -> Vec<u8> {
            self.0.sign(bytes).as_ref().to_vec()
        }
    }

    fn user(profile: Profile) -> (UserId, Cert, Unlocked) {
        let user = UserId::random();
        let keys = NewKeys::generate("Ann", "ann@example.org", profile).expect("keys");
        let master = MasterKey::random();
        let keyring = Keyring::new(keys.identity.clone(), vec![keys.default_keyset.0.clone()]).expect("a keyring");
        let secrets = StoredSecrets { slots: vec![], secret_keys: keys.wrap(user, &master).expect("wrapped") };
        let unlocked = Unlocked::open(user, &master, &secrets, &keyring).expect("unlocked");
        (user, keys.identity.strip_secret_key_material(), unlocked)
    }

    fn context(user: UserId) -> RecordContext {
        RecordContext { user, record: RecordId::random(), kind: RecordKind::CONTACT, day: 20_000 }
    }

    #[test]
    fn records_open_for_their_user_alone_and_in_their_place() {
        for profile in [Profile::V4, Profile::V6] {
            let instance = Instance::new(1);
            let (ann, certificate, keys) = user(profile);
            let at = context(ann);
            let sealed = seal_record(&certificate, &at, b"bob@example.net", &instance).expect("sealed");
            assert!(!sealed.windows(3).any(|window| window == b"bob"), "nothing of it is clear");
            let opened = open_record(&keys, &at, instance.public(), &sealed).expect("opened");
            assert_eq!(&opened[..], b"bob@example.net");
            let wrong = [
                RecordContext { record: RecordId::random(), ..at },
                RecordContext { kind: RecordKind::VERDICT, ..at },
                RecordContext { user: UserId::random(), ..at },
                RecordContext { day: 1, ..at },
            ];
            for wrong in wrong {
                assert!(open_record(&keys, &wrong, instance.public(), &sealed).is_err(), "{wrong:?}");
            }
            let (_, _, other) = user(profile);
            assert!(open_record(&other, &at, instance.public(), &sealed).is_err(), "another user");
        }
    }

    #[test]
    fn a_record_that_no_known_instance_signed_is_refused() {
        let (ann, certificate, keys) = user(Profile::V4);
        let (at, ours, theirs) = (context(ann), Instance::new(1), Instance::new(2));
        let forged = seal_record(&certificate, &at, b"mallory's key", &theirs).expect("sealed");
        assert!(open_record(&keys, &at, ours.public(), &forged).is_err());
        let forged = seal_record(&certificate, &at, b"mallory's key", &TestInstance(1)).expect("sealed");
        assert!(open_record(&keys, &at, ours.public(), &forged).is_err(), "an id that is not the key's");
        let sealed = seal_record(&certificate, &at, b"bob's key", &ours).expect("sealed");
        for flip in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[flip] ^= 1;
            assert!(open_record(&keys, &at, ours.public(), &changed).is_err(), "octet {flip}");
        }
        assert!(open_record(&keys, &at, ours.public(), &sealed[..sealed.len() - 1]).is_err());
    }

    #[test]
    fn records_of_about_one_size_have_one_length() {
        let (ann, certificate, _) = user(Profile::V4);
        let length = |size: usize| {
            seal_record(&certificate, &context(ann), &vec![7; size], &Instance::new(1)).expect("sealed").len()
        };
        assert_eq!(length(1), length(400));
        assert_eq!(length(3000), length(3005));
    }
}
