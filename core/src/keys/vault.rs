//! Small secrets sealed under a symmetric key, and keys from keys. Ring's primitives, put together in one way.

use super::KeyError;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf;
use zeroize::Zeroizing;

/// Fresh random bytes.
///
/// # Panics
/// If the operating system has no randomness to give, as `mesyx_sdk::MessageId::random`.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    #[allow(clippy::expect_used)]
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// HKDF-SHA256 to 32 bytes.
///
/// # Panics
/// Never: HKDF-SHA256 gives up to 8,160 bytes. A key of zeros must not come out of here quietly.
pub(crate) fn derive(salt: &[u8], secret: &[u8], info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret);
    let filled = secret.expand(info, hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut key[..]));
    #[allow(clippy::expect_used)]
    filled.expect("HKDF-SHA256 gives 32 bytes");
    key
}

/// The first byte of everything sealed here.
const VERSION: u8 = 1;

/// AES-256-GCM with a random nonce: version, nonce, ciphertext, tag. `None` only for texts beyond the cipher's limit of 64 GiB.
pub(crate) fn seal(key: &[u8; 32], aad: &[u8], clear: &[u8]) -> Option<Vec<u8>> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?);
    let nonce: [u8; NONCE_LEN] = random();
    let mut out = Vec::with_capacity(1 + NONCE_LEN + clear.len() + AES_256_GCM.tag_len());
    out.push(VERSION);
    out.extend_from_slice(&nonce);
    out.extend_from_slice(clear);
    let start = 1 + NONCE_LEN;
    let tag =
        key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut out[start..]).ok()?;
    out.extend_from_slice(tag.as_ref());
    Some(out)
}

/// Opens what [`seal`] made.
pub(crate) fn open(key: &[u8; 32], aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let (&version, rest) = sealed.split_first().ok_or(KeyError::Damaged)?;
    if version != VERSION {
        return Err(KeyError::Newer);
    }
    let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>().ok_or(KeyError::Damaged)?;
    let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| KeyError::Damaged)?;
    let mut clear = Zeroizing::new(rest.to_vec());
    let length = LessSafeKey::new(key)
        .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(aad), &mut clear)
        .map_err(|_| KeyError::Damaged)?
        .len();
    clear.truncate(length);
    Ok(clear)
}
