//! Who is speaking: the long-lived DSA key, its fingerprint, and the instance tag.

use crate::wire::{Reader, Writer};
use crate::{Error, Rejection, random};
use crypto_bigint::{BoxedUint, Integer, NonZero};
use dsa::{Components, KeySize, Signature, SigningKey, VerifyingKey};
use sha1::{Digest, Sha1};
use sha2::Sha256;
use std::fmt;
use zeroize::Zeroizing;

/// Bits of p and q: every implementation of OTR makes keys of this size, and no other is taken.
const P_BITS: u32 = 1024;
const Q_BITS: u32 = 160;

/// Bytes of a signature: r and s, 20 bytes each.
pub(crate) const SIGNATURE_LENGTH: usize = 40;

/// Marks a DSA key in a public key.
const KEY_TYPE_DSA: u16 = 0;

/// First byte of a serialised identity.
const IDENTITY_FORMAT: u8 = 1;

/// The fingerprint of a DSA key: SHA-1 over the public key. People compare these.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 20]);

impl Fingerprint {
    /// Reads 40 hexadecimal digits; spaces between them are ignored, so that what [`Display`](fmt::Display) prints
    /// can be read back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits: Vec<u8> =
            text.chars().filter(|c| *c != ' ').map(|c| Some(c.to_digit(16)? as u8)).collect::<Option<_>>()?;
        let bytes: Vec<u8> = digits.chunks(2).map(|pair| (pair[0] << 4) | pair.get(1).unwrap_or(&0)).collect();
        if digits.len() == 40 { Some(Self(bytes.try_into().ok()?)) } else { None }
    }
}

/// Five groups of eight upper-case digits, as other clients show it.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            let space = if i > 0 && i % 4 == 0 { " " } else { "" };
            write!(f, "{space}{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Tells the clients of one account apart (version 3). Valid tags are at least 0x100.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceTag(u32);

impl InstanceTag {
    /// Stands for "no tag": version 2, or a recipient not known yet.
    pub(crate) const NONE: Self = Self(0);
    const LOWEST: u32 = 0x100;

    /// A tag, if it is a valid one.
    #[must_use]
    pub const fn new(value: u32) -> Option<Self> {
        if value < Self::LOWEST { None } else { Some(Self(value)) }
    }

    /// The tag as a number.
    #[must_use]
    pub const fn value(self) -> u32 {
        self.0
    }

    /// What a header says: a valid tag or none.
    pub(crate) fn from_peer(value: u32) -> Result<Self, Rejection> {
        if value == 0 { Ok(Self::NONE) } else { Self::new(value).ok_or(Rejection::Malformed("instance tag")) }
    }

    fn random() -> Result<Self, Error> {
        let mut bytes = [0; 4];
        loop {
            random::fill(&mut bytes)?;
            if let Some(tag) = Self::new(u32::from_be_bytes(bytes)) {
                return Ok(tag);
            }
        }
    }
}

impl fmt::Debug for InstanceTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// A peer's public key, checked: the sizes are right and y lies in the subgroup.
#[derive(Clone)]
pub(crate) struct PublicKey {
    key: VerifyingKey,
    encoded: Vec<u8>,
}

impl PublicKey {
    fn new(key: VerifyingKey) -> Self {
        let parts = key.components();
        let mut out = Writer::default();
        out.short(KEY_TYPE_DSA);
        for number in [parts.p().as_ref(), parts.q().as_ref(), parts.g().as_ref(), key.y().as_ref()] {
            out.data(&number.to_be_bytes_trimmed_vartime());
        }
        Self { key, encoded: out.0 }
    }

    /// Reads a public key and leaves the reader behind it.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Rejection> {
        if reader.short()? != KEY_TYPE_DSA {
            return Err(Rejection::BadSignature);
        }
        let [p, q, g, y] = [reader.data()?, reader.data()?, reader.data()?, reader.data()?];
        verifying_key(p, q, g, y).map(Self::new).ok_or(Rejection::BadSignature)
    }

    /// As it is sent, signed and fingerprinted: with type and lengths.
    pub(crate) fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// The two bytes of the type are left out for DSA keys.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint(Sha1::digest(&self.encoded[2..]).into())
    }

    /// Checks a signature over a 256-bit value.
    pub(crate) fn verify(&self, signed: &[u8; 32], signature: &[u8; SIGNATURE_LENGTH]) -> Result<(), Rejection> {
        use dsa::signature::hazmat::PrehashVerifier;
        let (r, s) = signature.split_at(SIGNATURE_LENGTH / 2);
        let number = |bytes| BoxedUint::from_be_slice(bytes, Q_BITS).ok();
        let parsed = number(r).zip(number(s)).and_then(|(r, s)| Signature::from_components(r, s));
        let parsed = parsed.ok_or(Rejection::BadSignature)?;
        let digest = reduced(signed, self.key.components().q());
        self.key.verify_prehash(&digest, &parsed).map_err(|_| Rejection::BadSignature)
    }
}

/// OTR signs the whole 256-bit value modulo q, where DSA as standardised would cut it to 160 bits. Reducing first
/// makes both the same.
fn reduced(value: &[u8; 32], q: &NonZero<BoxedUint>) -> [u8; 20] {
    let wide = BoxedUint::from_be_slice_truncated(value, 256);
    let bytes = (wide % q).to_be_bytes();
    let mut out = [0; 20];
    let low = bytes.len().saturating_sub(out.len());
    out.copy_from_slice(&bytes[low..]);
    out
}

fn components(p: &[u8], q: &[u8], g: &[u8]) -> Option<Components> {
    let (p, q, g) = (number(p, P_BITS)?, number(q, Q_BITS)?, number(g, P_BITS)?);
    if p.bits_vartime() != P_BITS || q.bits_vartime() != Q_BITS || !bool::from(q.is_odd()) {
        return None;
    }
    Components::from_components(p, q, g).ok()
}

/// A public key of the right size with 1 < y < p and y^q = 1.
fn verifying_key(p: &[u8], q: &[u8], g: &[u8], y: &[u8]) -> Option<VerifyingKey> {
    let components = components(p, q, g)?;
    let y = number(y, P_BITS)?;
    if y >= *components.p().as_ref() { None } else { VerifyingKey::from_components(components, y).ok() }
}

/// A number of at most `bits` bits; leading zeros are tolerated.
fn number(bytes: &[u8], bits: u32) -> Option<BoxedUint> {
    let start = bytes.iter().position(|&byte| byte != 0).unwrap_or(bytes.len());
    BoxedUint::from_be_slice(&bytes[start..], bits).ok()
}

/// An account's OTR identity: its DSA key and its instance tag. Made once, kept sealed, shared by all sessions of the
/// account.
pub struct Identity {
    signing: SigningKey,
    public: PublicKey,
    tag: InstanceTag,
}

impl Identity {
    /// Makes a new key and tag. Searching for the primes takes up to a second of CPU, sometimes longer: call it away
    /// from threads that must answer.
    ///
    /// # Errors
    /// [`Error::Random`].
    pub fn generate() -> Result<Self, Error> {
        #[expect(deprecated, reason = "the protocol knows no larger keys")]
        let size = KeySize::DSA_1024_160;
        let components = Components::try_generate_from_rng_with_key_size(&mut random::SystemRandom, size)?;
        let signing = SigningKey::try_generate_from_rng_with_components(&mut random::SystemRandom, components)?;
        Ok(Self::new(signing, InstanceTag::random()?))
    }

    fn new(signing: SigningKey, tag: InstanceTag) -> Self {
        Self { public: PublicKey::new(signing.verifying_key().clone()), signing, tag }
    }

    /// Puts a key together from its numbers, big-endian, with a new tag: for keys that come from elsewhere.
    ///
    /// # Errors
    /// [`Error::Identity`] if the numbers are not a DSA key of 1024 and 160 bits.
    pub fn from_numbers(p: &[u8], q: &[u8], g: &[u8], y: &[u8], x: &[u8]) -> Result<Self, Error> {
        Self::with_tag(p, q, g, y, x, InstanceTag::random()?)
    }

    fn with_tag(p: &[u8], q: &[u8], g: &[u8], y: &[u8], x: &[u8], tag: InstanceTag) -> Result<Self, Error> {
        const NOT_A_KEY: Error = Error::Identity("the numbers are not a DSA key of 1024 and 160 bits");
        let verifying = verifying_key(p, q, g, y).ok_or(NOT_A_KEY)?;
        let secret = number(x, Q_BITS).ok_or(NOT_A_KEY)?;
        let identity = Self::new(SigningKey::from_components(verifying, secret).map_err(|_| NOT_A_KEY)?, tag);
        // y = g^x is what makes a pair of the two halves; a signature that verifies shows it.
        let probe = [0x5a; 32];
        identity.public.verify(&probe, &identity.sign(&probe).ok_or(NOT_A_KEY)?).map_err(|_| NOT_A_KEY)?;
        Ok(identity)
    }

    /// The whole identity, secret key included, to be kept **sealed**.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Writer(Vec::with_capacity(1024));
        out.byte(IDENTITY_FORMAT).int(self.tag.0).raw(&self.public.encoded);
        out.data(&Zeroizing::new(self.signing.x().to_be_bytes()));
        Zeroizing::new(out.0)
    }

    /// Reads back what [`Identity::to_bytes`] gave.
    ///
    /// # Errors
    /// [`Error::Identity`] if the bytes are of another format or not a valid key.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        const BROKEN: Error = Error::Identity("unknown format or damaged");
        let mut reader = Reader::new(bytes, "identity");
        let mut read = || -> Result<_, Rejection> {
            let head = (reader.byte()?, reader.int()?, reader.short()?);
            let numbers = [reader.data()?, reader.data()?, reader.data()?, reader.data()?, reader.data()?];
            reader.end().map(|()| (head, numbers))
        };
        let ((format, tag, kind), [p, q, g, y, x]) = read().map_err(|_| BROKEN)?;
        if (format, kind) != (IDENTITY_FORMAT, KEY_TYPE_DSA) {
            return Err(BROKEN);
        }
        Self::with_tag(p, q, g, y, x, InstanceTag::new(tag).ok_or(BROKEN)?)
    }

    /// The fingerprint that peers see.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.public.fingerprint()
    }

    /// Our instance tag.
    #[must_use]
    pub fn tag(&self) -> InstanceTag {
        self.tag
    }

    pub(crate) fn public(&self) -> &PublicKey {
        &self.public
    }

    /// p, q, g, y and the secret x, big-endian.
    pub(crate) fn numbers(&self) -> [Zeroizing<Vec<u8>>; 5] {
        let (key, bytes) = (&self.public.key, |number: &BoxedUint| Zeroizing::new(number.to_be_bytes().into_vec()));
        let (p, q, g) = (key.components().p().as_ref(), key.components().q().as_ref(), key.components().g().as_ref());
        [bytes(p), bytes(q), bytes(g), bytes(key.y()), bytes(self.signing.x())]
    }

    /// Signs a 256-bit value, with the deterministic nonce of RFC 6979. `None` has a chance of 2^-160.
    pub(crate) fn sign(&self, value: &[u8; 32]) -> Option<[u8; SIGNATURE_LENGTH]> {
        let digest = reduced(value, self.public.key.components().q());
        let signature = self.signing.sign_prehashed_rfc6979::<Sha256>(&digest).ok()?;
        let mut out = [0; SIGNATURE_LENGTH];
        let (first, second) = out.split_at_mut(SIGNATURE_LENGTH / 2);
        for (half, number) in [(first, signature.r()), (second, signature.s())] {
            let bytes = number.to_be_bytes();
            half.copy_from_slice(bytes.get(bytes.len().checked_sub(half.len())?..)?);
        }
        Some(out)
    }
}

/// Shows the public half only.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("fingerprint", &self.fingerprint())
            .field("tag", &self.tag)
            .finish_non_exhaustive()
    }
}
