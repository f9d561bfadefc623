//! From shared secrets to keys, and the ciphers and codes under those keys.
//!
//! In every derivation the shared secret comes in as `secret`: the MPI with its length, as
//! [`DhPair::shared_secret`](crate::group::DhPair::shared_secret) gives it.

use aes::Aes128;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// A MAC key; published after use.
pub(crate) type MacKey = [u8; 20];

/// The keys of one authenticated key exchange.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct AkeKeys {
    /// The secure session id.
    pub(crate) ssid: [u8; 8],
    /// For the Reveal Signature message.
    pub(crate) reveal: SignatureKeys,
    /// For the Signature message.
    pub(crate) signature: SignatureKeys,
}

/// What protects one of the two signatures of a key exchange.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct SignatureKeys {
    /// AES key: c or c'.
    pub(crate) cipher: [u8; 16],
    /// Key of what is signed: m1 or m1'.
    pub(crate) signed: [u8; 32],
    /// Key of the MAC over the encrypted signature: m2 or m2'.
    pub(crate) mac: [u8; 32],
}

impl AkeKeys {
    pub(crate) fn derive(secret: &[u8]) -> Self {
        let h2 = |byte: u8| sha256_with(byte, secret);
        let halves = h2(1);
        let half = |at: usize| std::array::from_fn(|i| halves[at + i]);
        let start = h2(0);
        Self {
            ssid: std::array::from_fn(|i| start[i]),
            reveal: SignatureKeys { cipher: half(0), signed: *h2(2), mac: *h2(3) },
            signature: SignatureKeys { cipher: half(16), signed: *h2(4), mac: *h2(5) },
        }
    }
}

/// The keys of data messages between one of our and one of their Diffie-Hellman keys.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct DataKeys {
    pub(crate) send_cipher: [u8; 16],
    pub(crate) send_mac: MacKey,
    pub(crate) receive_cipher: [u8; 16],
    pub(crate) receive_mac: MacKey,
}

impl DataKeys {
    /// `high` is whether our public key is the greater of the two.
    pub(crate) fn derive(secret: &[u8], high: bool) -> Self {
        let (send, receive) = if high { (1, 2) } else { (2, 1) };
        let cipher = |byte: u8| -> [u8; 16] {
            let hash =
                Zeroizing::new(<[u8; 20]>::from(Sha1::new().chain_update([byte]).chain_update(secret).finalize()));
            std::array::from_fn(|i| hash[i])
        };
        let (send_cipher, receive_cipher) = (cipher(send), cipher(receive));
        Self {
            send_mac: Sha1::digest(send_cipher).into(),
            receive_mac: Sha1::digest(receive_cipher).into(),
            send_cipher,
            receive_cipher,
        }
    }
}

fn sha256_with(byte: u8, secret: &[u8]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(Sha256::new().chain_update([byte]).chain_update(secret).finalize().into())
}

/// AES-128 in counter mode, in place; `top` is the upper half of the first counter block, the lower half is zero.
pub(crate) fn aes_ctr(key: &[u8; 16], top: &[u8; 8], bytes: &mut [u8]) {
    let mut block = [0; 16];
    block[..8].copy_from_slice(top);
    Ctr128BE::<Aes128>::new(key.into(), &block.into()).apply_keystream(bytes);
}

/// HMAC-SHA256.
pub(crate) fn hmac_sha256(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new((&*hmac_key(key)).into());
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// HMAC-SHA256 cut to its first 160 bits.
pub(crate) fn hmac_sha256_160(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 20] {
    let full = hmac_sha256(key, parts);
    std::array::from_fn(|i| full[i])
}

/// HMAC-SHA1.
pub(crate) fn hmac_sha1(key: &MacKey, bytes: &[u8]) -> [u8; 20] {
    Hmac::<Sha1>::new((&*hmac_key(key)).into()).chain_update(bytes).finalize().into_bytes().into()
}

/// HMAC fills a key that is shorter than a block with zeros, so that a whole block needs no failure case.
fn hmac_key<const N: usize>(key: &[u8; N]) -> Zeroizing<[u8; 64]> {
    const { assert!(N <= 64) };
    let mut block = Zeroizing::new([0; 64]);
    block[..N].copy_from_slice(key);
    block
}

/// Compares in a time that does not depend on the contents.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}
