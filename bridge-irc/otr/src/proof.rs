//! The zero-knowledge proofs of SMP: Schnorr's, made non-interactive with a hash as the challenge.
//!
//! Each hash begins with a byte that says which proof of which message it belongs to, so that none can be used in
//! the place of another.

use crate::group::{Element, Exponent};
use crate::kdf::same;
use crate::wire::{Reader, Writer};
use crate::{Error, Rejection};
use sha2::{Digest, Sha256};

type Hash = [u8; 32];

/// The hash that stands for the verifier's challenge.
fn challenge(number: u8, commitments: &[&Element]) -> Hash {
    let mut out = Writer::default();
    out.byte(number);
    commitments.iter().for_each(|commitment| {
        out.element(commitment);
    });
    Sha256::digest(&out.0).into()
}

/// A challenge travels as a number, without leading zeros.
fn read_challenge(reader: &mut Reader<'_>) -> Result<Hash, Rejection> {
    let bytes = reader.data()?;
    let mut hash = [0; 32];
    let start = hash.len().checked_sub(bytes.len()).ok_or(Rejection::BadProof)?;
    hash[start..].copy_from_slice(bytes);
    Ok(hash)
}

fn holds(sent: &Hash, computed: &Hash) -> Result<(), Rejection> {
    if same(sent, computed) { Ok(()) } else { Err(Rejection::BadProof) }
}

/// The sender of g^x knows x.
pub(crate) struct KnowsLog {
    pub(crate) challenge: Hash,
    pub(crate) answer: Exponent,
}

impl KnowsLog {
    pub(crate) fn prove(number: u8, x: &Exponent) -> Result<Self, Error> {
        let r = Exponent::random_full()?;
        let challenge = challenge(number, &[&Element::G.pow(&r)]);
        Ok(Self { challenge, answer: r.minus_product(&Exponent::from_hash(&challenge), x) })
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Rejection> {
        Ok(Self { challenge: read_challenge(reader)?, answer: reader.exponent()? })
    }

    pub(crate) fn check(&self, number: u8, power: &Element) -> Result<(), Rejection> {
        let c = Exponent::from_hash(&self.challenge);
        let commitment = Element::G.pow(&self.answer).mul(&power.pow(&c));
        holds(&self.challenge, &challenge(number, &[&commitment]))
    }
}

/// The sender of P = g3^r and Q = g^r g2^secret knows r and the secret.
pub(crate) struct KnowsCoordinates {
    pub(crate) challenge: Hash,
    pub(crate) answer_r: Exponent,
    pub(crate) answer_secret: Exponent,
}

impl KnowsCoordinates {
    pub(crate) fn prove(
        number: u8,
        g2: &Element,
        g3: &Element,
        r: &Exponent,
        secret: &Exponent,
    ) -> Result<Self, Error> {
        let (s, t) = (Exponent::random_full()?, Exponent::random_full()?);
        let challenge = challenge(number, &[&g3.pow(&s), &Element::G.pow(&s).mul(&g2.pow(&t))]);
        let c = Exponent::from_hash(&challenge);
        Ok(Self { challenge, answer_r: s.minus_product(&c, r), answer_secret: t.minus_product(&c, secret) })
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Rejection> {
        let challenge = read_challenge(reader)?;
        Ok(Self { challenge, answer_r: reader.exponent()?, answer_secret: reader.exponent()? })
    }

    pub(crate) fn check(
        &self,
        number: u8,
        g2: &Element,
        g3: &Element,
        p: &Element,
        q: &Element,
    ) -> Result<(), Rejection> {
        let c = Exponent::from_hash(&self.challenge);
        let first = g3.pow(&self.answer_r).mul(&p.pow(&c));
        let second = Element::G.pow(&self.answer_r).mul(&g2.pow(&self.answer_secret)).mul(&q.pow(&c));
        holds(&self.challenge, &challenge(number, &[&first, &second]))
    }
}

/// The sender of R = base^x used the x of its earlier g^x.
pub(crate) struct EqualLogs {
    pub(crate) challenge: Hash,
    pub(crate) answer: Exponent,
}

impl EqualLogs {
    pub(crate) fn prove(number: u8, base: &Element, x: &Exponent) -> Result<Self, Error> {
        let r = Exponent::random_full()?;
        let challenge = challenge(number, &[&Element::G.pow(&r), &base.pow(&r)]);
        Ok(Self { challenge, answer: r.minus_product(&Exponent::from_hash(&challenge), x) })
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Rejection> {
        Ok(Self { challenge: read_challenge(reader)?, answer: reader.exponent()? })
    }

    pub(crate) fn check(&self, number: u8, power: &Element, base: &Element, result: &Element) -> Result<(), Rejection> {
        let c = Exponent::from_hash(&self.challenge);
        let first = Element::G.pow(&self.answer).mul(&power.pow(&c));
        let second = base.pow(&self.answer).mul(&result.pow(&c));
        holds(&self.challenge, &challenge(number, &[&first, &second]))
    }
}
