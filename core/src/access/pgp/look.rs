//! Decrypting, and verifying signatures: all of a message or nothing, within bounds.

use super::super::opened::OpenUser;
use super::{Kind, compose, pgp_of};
use crate::keys::variable_time;
use mesyx_sdk::{ByteBudget, Content, Error, ErrorKind, Reservation, Timestamp, mime};
use openpgp::crypto::SessionKey;
use openpgp::packet::{PKESK, SKESK};
use openpgp::parse::Parse;
use openpgp::parse::stream::{
    DecryptionHelper, DecryptorBuilder, DetachedVerifierBuilder, MessageLayer, MessageStructure, VerificationError,
    VerificationHelper, VerificationResult,
};
use openpgp::policy::StandardPolicy;
use openpgp::types::SymmetricAlgorithm;
use openpgp::{Cert, KeyHandle, KeyID};
use sequoia_openpgp as openpgp;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

/// What is decrypted at once.
const CHUNK: usize = 64 << 10;
/// Most secret keys that are tried for one message: each costs an agreement, and strangers choose whom they name.
const MOST_TRIES: usize = 32;

/// A certificate of the sender that is shown.
#[derive(Debug, Clone)]
pub(super) struct Signer {
    pub(super) certificate: Cert,
    pub(super) address: String,
    /// Where the certificate came from.
    pub(super) trust: String,
}

/// One message to look at.
pub(super) struct Look {
    pub(super) kind: Kind,
    pub(super) content: Content,
    pub(super) keys: Arc<OpenUser>,
    pub(super) signers: Vec<Signer>,
    /// Most bytes that it may expand to.
    pub(super) most: usize,
    pub(super) budget: ByteBudget,
}

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// The decrypted entity, where the message was encrypted and could be opened.
    pub(super) entity: Option<Content>,
    /// Why it is not opened.
    pub(super) closed: Option<Closed>,
    pub(super) signature: Signature,
    /// The signed part, where it is signed outside or inside of the encryption.
    pub(super) signed: Option<Content>,
}

/// Why a message is not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    /// It is encrypted to no key that is here: perhaps the reader's own program has one.
    NotForUs,
    /// It is refused.
    Refused(&'static str),
}

/// What a signature is worth.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Signature {
    /// There is none.
    #[default]
    None,
    /// By a key of the sender that is shown.
    Good { key: String, address: String, trust: String },
    /// By a key of the sender, and it does not verify: the message was changed.
    Bad,
    /// By a key that can't make it: expired, revoked, or of a kind that is not accepted.
    Unusable,
    /// By a key that is not known to be the sender's.
    Unknown(Option<String>),
}

impl Look {
    /// Looks. A pure computation of the message, the keys and the certificates.
    pub(super) fn run(self) -> Result<Looked, Error> {
        match &self.kind {
            Kind::Encrypted(at, encoding) => {
                let data = decoded(&self.content.slice(at.start, at.end), encoding);
                self.encrypted(&data)
            }
            Kind::Signed(part, signature, encoding) => {
                let signature = decoded(&self.content.slice(signature.start, signature.end), encoding);
                let signed = self.content.slice(part.start, part.end);
                let signature = self.detached(&signed, &signature);
                Ok(Looked { signature, signed: Some(signed), ..Looked::default() })
            }
        }
    }

    fn encrypted(&self, data: &[u8]) -> Result<Looked, Error> {
        let state = Mutex::new(State::default());
        let helper = Helper { look: self, state: &state };
        let plain = match self.decrypt(data, helper) {
            Ok(plain) => plain,
            Err(Stop::Full) => {
                let text = "there is no room to open an encrypted message now; try again later";
                return Err(Error::new(ErrorKind::Full, text));
            }
            Err(Stop::Refused(why)) => return Ok(Looked::closed(Closed::Refused(why))),
            Err(Stop::Failed(error)) => {
                let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
                tracing::info!(user = %self.keys.member.id, %error, "an encrypted message is not opened");
                return Ok(Looked::closed(match (state.opened, state.unused) {
                    (true, _) => Closed::Refused("its integrity is not protected, or was broken"),
                    (false, Some(_)) => {
                        Closed::Refused("it is encrypted to a kind of key that this build does not use")
                    }
                    // A packet that is refused before any key is asked for is no message for anybody.
                    (false, None) if !state.asked => {
                        Closed::Refused("its integrity is not protected, or it can't be read")
                    }
                    (false, None) => Closed::NotForUs,
                }));
            }
        };
        let mut state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let entity = match compose::entity(plain) {
            Ok(entity) => Content::from(entity),
            Err(why) => return Ok(Looked::closed(Closed::Refused(why))),
        };
        let mut signed = None;
        // Signed first, then encrypted as a whole (RFC 3156, section 6.1).
        if let Ok(inner) = mime::summarize(&entity, Timestamp(0), None)
            && let Some(Kind::Signed(part, signature, encoding)) = pgp_of(&inner.structure)
        {
            let part = entity.slice(part.start, part.end);
            let signature = decoded(&entity.slice(signature.start, signature.end), &encoding);
            if state.signature == Signature::None {
                state.signature = self.detached(&part, &signature);
            }
            signed = Some(part);
        }
        Ok(Looked { entity: Some(entity), closed: None, signature: state.signature, signed })
    }

    /// Everything, or nothing: the integrity of the whole is known when the last byte was read.
    fn decrypt(&self, data: &[u8], helper: Helper<'_>) -> Result<Vec<u8>, Stop> {
        let policy = StandardPolicy::new();
        let builder = DecryptorBuilder::from_bytes(data).map_err(Stop::Failed)?.buffer_size(CHUNK);
        let mut decryptor = builder.with_policy(&policy, None, helper).map_err(Stop::Failed)?;
        let mut reservation = self.budget.reserve(2 * CHUNK).ok_or(Stop::Full)?;
        let mut plain = Vec::new();
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = decryptor.read(&mut chunk).map_err(|error| Stop::Failed(error.into()))?;
            if read == 0 {
                break;
            }
            if plain.len() + read > self.most {
                return Err(Stop::Refused("it expands to more than is taken"));
            }
            grow(&mut plain, read, &mut reservation)?;
            plain.extend_from_slice(&chunk[..read]);
        }
        if decryptor.message_processed() { Ok(plain) } else { Err(Stop::Refused("it ends too soon")) }
    }

    fn detached(&self, signed: &[u8], signature: &[u8]) -> Signature {
        let state = Mutex::new(State { detached: true, ..State::default() });
        let policy = StandardPolicy::new();
        let verify = || -> openpgp::Result<()> {
            let helper = Helper { look: self, state: &state };
            DetachedVerifierBuilder::from_bytes(signature)?.with_policy(&policy, None, helper)?.verify_bytes(signed)
        };
        let result = verify();
        let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(()) if state.signature != Signature::None => state.signature,
            _ => Signature::Unusable,
        }
    }
}

impl Looked {
    fn closed(why: Closed) -> Self {
        Self { closed: Some(why), ..Self::default() }
    }
}

/// Why decrypting ended.
enum Stop {
    Full,
    Refused(&'static str),
    Failed(openpgp::anyhow::Error),
}

/// Room for `more` bytes, taken from the budget before it is taken from the allocator.
fn grow(plain: &mut Vec<u8>, more: usize, reservation: &mut Reservation) -> Result<(), Stop> {
    let needed = plain.len() + more;
    if needed > plain.capacity() {
        let capacity = needed.max(2 * plain.capacity()).max(2 * CHUNK);
        if !reservation.grow(capacity) {
            return Err(Stop::Full);
        }
        plain.reserve_exact(capacity - plain.len());
    }
    Ok(())
}

/// A part's bytes without their transfer encoding.
fn decoded(body: &[u8], encoding: &[u8]) -> Vec<u8> {
    let decoded = if encoding.eq_ignore_ascii_case(b"base64") {
        mail_parser::decoders::base64::base64_decode(body)
    } else if encoding.eq_ignore_ascii_case(b"quoted-printable") {
        mail_parser::decoders::quoted_printable::quoted_printable_decode(body)
    } else {
        None
    };
    decoded.unwrap_or_else(|| body.to_vec())
}

#[derive(Debug, Default)]
struct State {
    /// Recipients were named, and keys looked for.
    asked: bool,
    /// A key of ours opened the session key.
    opened: bool,
    /// A key of ours would have, and is of a kind that is not used.
    unused: Option<&'static str>,
    detached: bool,
    signature: Signature,
}

struct Helper<'a> {
    look: &'a Look,
    state: &'a Mutex<State>,
}

impl Helper<'_> {
    fn with<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        with(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn worth(&self, results: &[VerificationResult<'_>]) -> Signature {
        let mut worth = Signature::None;
        for result in results {
            let this = match result {
                Ok(good) => {
                    let key = good.ka.cert().fingerprint();
                    let signer = self.look.signers.iter().find(|signer| signer.certificate.fingerprint() == key);
                    match signer {
                        Some(Signer { address, trust, .. }) => {
                            return Signature::Good {
                                key: key.to_hex(),
                                address: address.clone(),
                                trust: trust.clone(),
                            };
                        }
                        None => Signature::Unknown(Some(key.to_hex())),
                    }
                }
                Err(VerificationError::BadSignature { .. }) => Signature::Bad,
                Err(VerificationError::MissingKey { sig }) => {
                    Signature::Unknown(sig.get_issuers().first().map(KeyHandle::to_hex))
                }
                Err(_) => Signature::Unusable,
            };
            if worth == Signature::None || this == Signature::Bad {
                worth = this;
            }
        }
        worth
    }
}

impl VerificationHelper for Helper<'_> {
    fn get_certs(&mut self, _: &[KeyHandle]) -> openpgp::Result<Vec<Cert>> {
        Ok(self.look.signers.iter().map(|signer| signer.certificate.clone()).collect())
    }

    fn check(&mut self, structure: MessageStructure<'_>) -> openpgp::Result<()> {
        let (mut encrypted, mut compressed, mut groups) = (0, 0, 0);
        for layer in structure.iter() {
            match layer {
                MessageLayer::Encryption { .. } => encrypted += 1,
                MessageLayer::Compression { .. } => compressed += 1,
                MessageLayer::SignatureGroup { results } => {
                    groups += 1;
                    let worth = self.worth(results);
                    self.with(|state| state.signature = worth);
                }
            }
        }
        let wanted = usize::from(!self.with(|state| state.detached));
        if encrypted != wanted || compressed > 1 || groups > 1 {
            let text = "it has other layers than one encryption, one compression and one set of signatures";
            return Err(openpgp::Error::MalformedMessage(text.to_owned()).into());
        }
        Ok(())
    }
}

impl DecryptionHelper for Helper<'_> {
    fn decrypt(
        &mut self,
        pkesks: &[PKESK],
        _: &[SKESK],
        cipher: Option<SymmetricAlgorithm>,
        decrypt: &mut dyn FnMut(Option<SymmetricAlgorithm>, &SessionKey) -> bool,
    ) -> openpgp::Result<Option<Cert>> {
        self.with(|state| state.asked = true);
        let identities = self.look.keys.keys.identities();
        let mut tries = 0;
        for packet in pkesks {
            // A recipient may be left unnamed: then every key may be meant.
            let named = packet.recipient().map(KeyID::from);
            let secrets = identities.iter().flat_map(|identity| identity.keys().unencrypted_secret());
            for key in secrets.filter(|key| named.as_ref().is_none_or(|named| *named == key.key().keyid())) {
                if let Some(kind) = variable_time(packet.pk_algo()) {
                    self.with(|state| state.unused = Some(kind));
                    continue;
                }
                tries += 1;
                if tries > MOST_TRIES {
                    return Ok(None);
                }
                let Ok(mut pair) = key.key().clone().into_keypair() else { continue };
                let opened = packet.decrypt(&mut pair, cipher).is_some_and(|(cipher, key)| decrypt(cipher, &key));
                if opened {
                    self.with(|state| state.opened = true);
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }
}
