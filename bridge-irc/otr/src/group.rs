//! The group of OTR's Diffie-Hellman and SMP: the 1536-bit MODP group of RFC 3526, section 2, with generator 2.
//!
//! The modulus p is a safe prime and 2 generates the subgroup of prime order q = (p - 1) / 2. All powers, and all
//! arithmetic with exponents, take the same time whatever the exponent.

use crate::wire::MpiBytes;
use crate::{Error, Rejection, random};
use crypto_bigint::modular::{FixedMontyForm, FixedMontyParams};
use crypto_bigint::{Odd, U256, U1536};
use std::cmp::Ordering;
use std::sync::LazyLock;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

const LIMBS: usize = U1536::LIMBS;
const BYTES: usize = 192;

/// Bits of a Diffie-Hellman private key: the specification asks for at least 320.
const DH_BITS: u32 = 320;

const MODULUS: Odd<U1536> = Odd::<U1536>::from_be_hex(concat!(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD1",
    "29024E088A67CC74020BBEA63B139B22514A08798E3404DD",
    "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245",
    "E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED",
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3D",
    "C2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F",
    "83655D23DCA3AD961C62F356208552BB9ED529077096966D",
    "670C354E4ABC9804F1746C08CA237327FFFFFFFFFFFFFFFF",
));

/// p - 1 is even, so that half of p, rounded down, is q.
const ORDER: Odd<U1536> = MODULUS.get_copy().shr_vartime(1).to_odd().expect_copied("q ends in a one bit");

type Residue = FixedMontyForm<LIMBS>;

static MOD_P: LazyLock<FixedMontyParams<LIMBS>> = LazyLock::new(|| FixedMontyParams::new_vartime(MODULUS));
static MOD_Q: LazyLock<FixedMontyParams<LIMBS>> = LazyLock::new(|| FixedMontyParams::new_vartime(ORDER));

/// An element of the group that is, or will be, public.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Element(U1536);

impl Element {
    /// The generator.
    pub(crate) const G: Self = Self(U1536::from_u8(2));

    /// Reads an element that a peer sent: 2 to p - 2, which leaves out 0 and the subgroups of order 1 and 2.
    pub(crate) fn from_peer(bytes: &[u8]) -> Result<Self, Rejection> {
        let value = uint(bytes).ok_or(Rejection::OutOfRange)?;
        let highest = MODULUS.wrapping_sub(&U1536::from_u8(2));
        if value < U1536::from_u8(2) || value > highest { Err(Rejection::OutOfRange) } else { Ok(Self(value)) }
    }

    /// This element to the power of a secret exponent.
    pub(crate) fn pow(&self, exponent: &Exponent) -> Self {
        Self(Residue::new(&self.0, &MOD_P).pow_bounded_exp(&exponent.value, exponent.bits).retrieve())
    }

    pub(crate) fn mul(&self, other: &Self) -> Self {
        Self((Residue::new(&self.0, &MOD_P) * Residue::new(&other.0, &MOD_P)).retrieve())
    }

    /// This element divided by another. Elements are never zero, so that the inverse exists.
    pub(crate) fn div(&self, other: &Self) -> Self {
        let inverse = Residue::new(&other.0, &MOD_P).invert();
        let inverse = Option::<Residue>::from(inverse).unwrap_or(Residue::zero(&MOD_P));
        Self((Residue::new(&self.0, &MOD_P) * inverse).retrieve())
    }

    /// Big-endian, without leading zeros, as an MPI carries it.
    pub(crate) fn to_bytes(self) -> MpiBytes {
        trimmed(&self.0)
    }

    /// Order as numbers; decides which side of a conversation is the "high" end.
    pub(crate) fn is_above(&self, other: &Self) -> bool {
        self.0.cmp_vartime(&other.0) == Ordering::Greater
    }
}

/// A secret exponent, or the public answer of a zero-knowledge proof.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Exponent {
    value: U1536,
    /// How many low bits of `value` can be set; public.
    #[zeroize(skip)]
    bits: u32,
}

impl Exponent {
    /// A Diffie-Hellman private key: 320 random bits.
    pub(crate) fn random_dh() -> Result<Self, Error> {
        let mut bytes = Zeroizing::new([0; BYTES]);
        random::fill(&mut bytes[BYTES - (DH_BITS / 8) as usize..])?;
        Ok(Self { value: U1536::from_be_slice(bytes.as_slice()), bits: DH_BITS })
    }

    /// A random exponent of full length, modulo q.
    pub(crate) fn random_full() -> Result<Self, Error> {
        let mut bytes = Zeroizing::new([0; BYTES]);
        random::fill(bytes.as_mut_slice())?;
        let wide = Zeroizing::new(U1536::from_be_slice(bytes.as_slice()));
        // 2^1536 lies within a part in 2^64 of 2q, so that reducing leaves no bias worth the name.
        Ok(Self { value: Residue::new(&wide, &MOD_Q).retrieve(), bits: U1536::BITS })
    }

    /// A 256-bit hash as an exponent.
    pub(crate) fn from_hash(hash: &[u8; 32]) -> Self {
        Self { value: U256::from_be_slice(hash).resize(), bits: U256::BITS }
    }

    /// Reads the answer of a zero-knowledge proof: 1 to q - 1.
    pub(crate) fn from_peer(bytes: &[u8]) -> Result<Self, Rejection> {
        let value = uint(bytes).ok_or(Rejection::OutOfRange)?;
        if value == U1536::ZERO || value >= *ORDER {
            return Err(Rejection::OutOfRange);
        }
        Ok(Self { value, bits: U1536::BITS })
    }

    /// `self - factor * secret` modulo q: the answer of a Schnorr proof.
    pub(crate) fn minus_product(&self, factor: &Self, secret: &Self) -> Self {
        let product = Residue::new(&factor.value, &MOD_Q) * Residue::new(&secret.value, &MOD_Q);
        Self { value: (Residue::new(&self.value, &MOD_Q) - product).retrieve(), bits: U1536::BITS }
    }

    /// Big-endian, without leading zeros; only for values that are published.
    pub(crate) fn to_bytes(&self) -> MpiBytes {
        trimmed(&self.value)
    }
}

/// A Diffie-Hellman key pair.
#[derive(Clone)]
pub(crate) struct DhPair {
    pub(crate) public: Element,
    secret: Exponent,
}

impl DhPair {
    pub(crate) fn generate() -> Result<Self, Error> {
        let secret = Exponent::random_dh()?;
        Ok(Self { public: Element::G.pow(&secret), secret })
    }

    /// The shared secret with the owner of `theirs`, as the bytes of an MPI with its length, which is how every key
    /// derivation takes it in.
    pub(crate) fn shared_secret(&self, theirs: &Element) -> Zeroizing<Vec<u8>> {
        let shared = Zeroizing::new(theirs.pow(&self.secret).0);
        let bytes = Zeroizing::new(trimmed(&shared));
        let mut out = Zeroizing::new(Vec::with_capacity(4 + BYTES));
        out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        out.extend_from_slice(&bytes);
        out
    }
}

/// A number of at most 1536 bits; leading zeros are tolerated, as libotr does.
fn uint(bytes: &[u8]) -> Option<U1536> {
    let start = bytes.iter().position(|&byte| byte != 0).unwrap_or(bytes.len());
    let digits = &bytes[start..];
    let mut full = [0; BYTES];
    full.get_mut(BYTES.checked_sub(digits.len())?..)?.copy_from_slice(digits);
    Some(U1536::from_be_slice(&full))
}

fn trimmed(value: &U1536) -> MpiBytes {
    let bytes = Zeroizing::new(value.to_be_bytes());
    let bytes = bytes.as_slice();
    let start = bytes.iter().position(|&byte| byte != 0).unwrap_or(bytes.len());
    bytes[start..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Little Fermat and Euler: p and q behave as primes, and 2 lies in the subgroup of order q.
    #[test]
    fn the_generator_has_order_q() {
        let q = Exponent { value: *ORDER, bits: U1536::BITS };
        assert!(Element::G.pow(&q) == Element(U1536::ONE));
        let base = Residue::new(&U1536::from_u8(3), &MOD_Q);
        assert_eq!(base.pow(&ORDER.wrapping_sub(&U1536::ONE)).retrieve(), U1536::ONE);
    }

    #[test]
    fn elements_outside_2_to_p_minus_2_are_refused() {
        let below = |n: u8| MODULUS.wrapping_sub(&U1536::from_u8(n)).to_be_bytes().as_slice().to_vec();
        for bad in [vec![], vec![0], vec![1], below(1), below(0), vec![0xff; BYTES], vec![1; BYTES + 1]] {
            assert_eq!(Element::from_peer(&bad).err(), Some(Rejection::OutOfRange));
        }
        for good in [vec![2], vec![0, 0, 2], below(2)] {
            assert!(Element::from_peer(&good).is_ok());
        }
    }

    #[test]
    fn proof_answers_outside_1_to_q_minus_1_are_refused() {
        let order = ORDER.to_be_bytes().as_slice().to_vec();
        for bad in [vec![], vec![0], order] {
            assert_eq!(Exponent::from_peer(&bad).err(), Some(Rejection::OutOfRange));
        }
        assert!(Exponent::from_peer(&[1]).is_ok());
    }

    #[test]
    fn both_sides_of_diffie_hellman_agree() {
        let (a, b) = (DhPair::generate().unwrap(), DhPair::generate().unwrap());
        assert_eq!(a.shared_secret(&b.public), b.shared_secret(&a.public));
        assert_ne!(a.shared_secret(&b.public), a.shared_secret(&a.public));
    }

    #[test]
    fn division_undoes_multiplication_and_exponents_subtract() {
        let (r, c, x) =
            (Exponent::random_full().unwrap(), Exponent::from_hash(&[7; 32]), Exponent::random_full().unwrap());
        let d = r.minus_product(&c, &x);
        let left = Element::G.pow(&d).mul(&Element::G.pow(&x).pow(&c));
        assert!(left == Element::G.pow(&r));
        assert!(left.mul(&Element::G).div(&Element::G) == left);
    }
}
