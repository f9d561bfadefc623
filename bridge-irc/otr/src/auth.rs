//! The authenticated key exchange: who is there, and with which Diffie-Hellman keys.
//!
//! ```text
//!   committer                       responder
//!     D-H Commit          ------>                   AES_r(g^x), SHA256(g^x)
//!                         <------   D-H Key         g^y
//!     Reveal Signature    ------>                   r, sealed signature over (g^x, g^y, key)
//!                         <------   Signature       sealed signature over (g^y, g^x, key)
//! ```
//!
//! The commitment keeps the responder from choosing g^y after having seen g^x, which is what makes eight bytes of
//! session id enough to compare.

use crate::group::{DhPair, Element};
use crate::identity::{Identity, PublicKey, SIGNATURE_LENGTH};
use crate::kdf::{AkeKeys, SignatureKeys, aes_ctr, hmac_sha256, hmac_sha256_160, same};
use crate::message::{DhCommit, Header, RevealSignature, SealedSignature, encode_dh_key};
use crate::wire::{Reader, Writer};
use crate::{Error, Rejection, random};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// The serial number of the Diffie-Hellman key that we bring into an exchange.
pub(crate) const OUR_KEYID: u32 = 1;

/// A commitment to a fresh g^x, and what opens it.
#[derive(Clone)]
pub(crate) struct Commitment {
    dh: DhPair,
    key: Zeroizing<[u8; 16]>,
    message: DhCommit,
}

impl Commitment {
    pub(crate) fn new() -> Result<Self, Error> {
        let dh = DhPair::generate()?;
        let mut key = Zeroizing::new([0; 16]);
        random::fill(key.as_mut_slice())?;
        let mut encrypted = mpi(&dh.public);
        let hash = Sha256::digest(&encrypted).into();
        aes_ctr(&key, &[0; 8], &mut encrypted);
        Ok(Self { dh, key, message: DhCommit { encrypted, hash } })
    }

    pub(crate) fn encode(&self, header: Header) -> Vec<u8> {
        self.message.encode(header)
    }

    /// When both sides commit at once, the greater hash stands and the other side answers it.
    pub(crate) fn outranks(&self, theirs: &DhCommit) -> bool {
        self.message.hash > theirs.hash
    }

    pub(crate) fn is(&self, message: &DhCommit) -> bool {
        self.message.hash == message.hash
    }
}

/// Where an exchange with one instance stands. The secrets of each state are boxed, so that moving the state leaves no
/// copies of them behind.
#[derive(Default)]
pub(crate) enum Auth {
    /// No exchange under way.
    #[default]
    Idle,
    /// We committed.
    AwaitKey(Box<Commitment>),
    /// They committed, we sent our key.
    AwaitReveal(Box<Answered>),
    /// We committed, had their key, and revealed.
    AwaitSignature(Box<Revealed>),
}

/// The responder's state.
pub(crate) struct Answered {
    dh: DhPair,
    commit: DhCommit,
}

/// The committer's state once it knows the peer's key.
pub(crate) struct Revealed {
    dh: DhPair,
    theirs: Element,
    keys: AkeKeys,
    sent: RevealSignature,
}

/// What a finished exchange gives.
pub(crate) struct Agreed {
    pub(crate) ssid: [u8; 8],
    pub(crate) ours: DhPair,
    pub(crate) theirs: Element,
    pub(crate) their_keyid: u32,
    pub(crate) their_key: PublicKey,
}

impl Auth {
    /// A D-H Commit message came: gives our D-H Key message, or our own commitment again if that one stands.
    pub(crate) fn on_commit(&mut self, commit: DhCommit, header: Header) -> Result<Vec<u8>, Rejection> {
        let dh = match std::mem::take(self) {
            Self::AwaitKey(ours) if ours.outranks(&commit) => {
                let line = ours.encode(header);
                *self = Self::AwaitKey(ours);
                return Ok(line);
            }
            // The same key again: another g^y for each new commitment would leave the two sides out of step.
            Self::AwaitReveal(answered) => answered.dh,
            Self::Idle | Self::AwaitKey(_) | Self::AwaitSignature(_) => DhPair::generate()?,
        };
        let line = encode_dh_key(header, &dh.public);
        *self = Self::AwaitReveal(Box::new(Answered { dh, commit }));
        Ok(line)
    }

    /// A D-H Key message came: gives our Reveal Signature message.
    pub(crate) fn on_key(
        &mut self,
        theirs: Element,
        header: Header,
        identity: &Identity,
    ) -> Result<Vec<u8>, Rejection> {
        match self {
            Self::AwaitKey(commitment) => {
                let dh = commitment.dh.clone();
                let keys = AkeKeys::derive(&dh.shared_secret(&theirs));
                let signature = seal_signature(&keys.reveal, &dh.public, &theirs, identity)?;
                let sent = RevealSignature { key: *commitment.key, signature };
                let line = sent.encode(header);
                *self = Self::AwaitSignature(Box::new(Revealed { dh, theirs, keys, sent }));
                Ok(line)
            }
            // A copy of the key that we answered already: the answer may have been lost.
            Self::AwaitSignature(revealed) if revealed.theirs == theirs => Ok(revealed.sent.encode(header)),
            _ => Err(Rejection::Unexpected),
        }
    }

    /// A Reveal Signature message came: gives our Signature message and ends the exchange.
    pub(crate) fn on_reveal(
        &mut self,
        message: &RevealSignature,
        header: Header,
        identity: &Identity,
    ) -> Result<(Vec<u8>, Agreed), Rejection> {
        let Self::AwaitReveal(answered) = self else { return Err(Rejection::Unexpected) };
        let Answered { dh, commit } = &**answered;
        let mut opened = commit.encrypted.clone();
        aes_ctr(&message.key, &[0; 8], &mut opened);
        if !same(&Sha256::digest(&opened), &commit.hash) {
            return Err(Rejection::BadCommitment);
        }
        let mut reader = Reader::new(&opened, "committed key");
        let theirs = reader.element()?;
        reader.end()?;
        let keys = AkeKeys::derive(&dh.shared_secret(&theirs));
        let (their_key, their_keyid) = open_signature(&keys.reveal, &message.signature, &theirs, &dh.public)?;
        let line = seal_signature(&keys.signature, &dh.public, &theirs, identity)?.encode(header);
        let agreed = Agreed { ssid: keys.ssid, ours: dh.clone(), theirs, their_keyid, their_key };
        *self = Self::Idle;
        Ok((line, agreed))
    }

    /// A Signature message came: ends the exchange.
    pub(crate) fn on_signature(&mut self, message: &SealedSignature) -> Result<Agreed, Rejection> {
        let Self::AwaitSignature(revealed) = self else { return Err(Rejection::Unexpected) };
        let Revealed { dh, theirs, keys, .. } = &**revealed;
        let (their_key, their_keyid) = open_signature(&keys.signature, message, theirs, &dh.public)?;
        let agreed = Agreed { ssid: keys.ssid, ours: dh.clone(), theirs: *theirs, their_keyid, their_key };
        *self = Self::Idle;
        Ok(agreed)
    }
}

fn mpi(element: &Element) -> Vec<u8> {
    let mut out = Writer::default();
    out.element(element);
    out.0
}

/// What is signed: the MAC, under a key only the two know, of both public keys (the signer's first), the signer's
/// DSA key and the serial number of the signer's Diffie-Hellman key.
fn signed_value(keys: &SignatureKeys, signer: &Element, other: &Element, key: &PublicKey, keyid: u32) -> [u8; 32] {
    hmac_sha256(&keys.signed, &[&mpi(signer), &mpi(other), key.encoded(), &keyid.to_be_bytes()])
}

fn seal_signature(
    keys: &SignatureKeys,
    ours: &Element,
    theirs: &Element,
    identity: &Identity,
) -> Result<SealedSignature, Rejection> {
    let value = signed_value(keys, ours, theirs, identity.public(), OUR_KEYID);
    let signature = identity.sign(&value).ok_or(Rejection::BadSignature)?;
    let mut plain = Writer::default();
    plain.raw(identity.public().encoded()).int(OUR_KEYID).raw(&signature);
    let mut encrypted = plain.0;
    aes_ctr(&keys.cipher, &[0; 8], &mut encrypted);
    let mac = signature_mac(keys, &encrypted);
    Ok(SealedSignature { encrypted, mac })
}

fn open_signature(
    keys: &SignatureKeys,
    message: &SealedSignature,
    signer: &Element,
    other: &Element,
) -> Result<(PublicKey, u32), Rejection> {
    if !same(&signature_mac(keys, &message.encrypted), &message.mac) {
        return Err(Rejection::BadMac);
    }
    let mut plain = message.encrypted.clone();
    aes_ctr(&keys.cipher, &[0; 8], &mut plain);
    let mut reader = Reader::new(&plain, "signature of the key exchange");
    let key = PublicKey::read(&mut reader)?;
    let keyid = reader.int()?;
    let signature: [u8; SIGNATURE_LENGTH] = reader.array()?;
    reader.end()?;
    if keyid == 0 {
        return Err(Rejection::Malformed("key serial number"));
    }
    key.verify(&signed_value(keys, signer, other, &key, keyid), &signature)?;
    Ok((key, keyid))
}

/// Covers the ciphertext with its length in front.
fn signature_mac(keys: &SignatureKeys, encrypted: &[u8]) -> [u8; 20] {
    hmac_sha256_160(&keys.mac, &[&(encrypted.len() as u32).to_be_bytes(), encrypted])
}

#[cfg(test)]
mod tests;
