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

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with Python's hashlib from the text of the specification.
    #[test]
    fn keys_are_those_of_the_specification() {
        let secret = [0, 0, 0, 5, 1, 2, 3, 4, 5];
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let keys = AkeKeys::derive(&secret);
        assert_eq!(hex(&keys.ssid), "b8a105dded125a44");
        assert_eq!(hex(&keys.reveal.cipher), "3c4ebd0b99819c4de561103990d22c45");
        assert_eq!(hex(&keys.signature.cipher), "279d385c1f1e8f7999e22837ac551d5c");
        assert_eq!(hex(&keys.reveal.signed), "b148b47d7973fe0c23aa8294679f6704cfd4feda02fd2e80d57e99432ea6fd1b");
        assert_eq!(hex(&keys.reveal.mac), "64e38c9116d2a8eb378e915be3931ca74c79b7104c18dec78a7e043a88766e81");
        assert_eq!(hex(&keys.signature.signed), "460bc4f9064c915dcf65e938fdc4b306eba22bfcd6689c3abb235b9be4d9fa1b");
        assert_eq!(hex(&keys.signature.mac), "2cc9f6f6f5a1e6027079e80d924d437e7a3f7cd74ca95796c96a3b0b04d666d1");
        let (high, low) = (DataKeys::derive(&secret, true), DataKeys::derive(&secret, false));
        assert_eq!(hex(&high.send_cipher), "ad0fc083d2c74e3e4bc5ffb43a0bb135");
        assert_eq!(hex(&high.send_mac), "9cdb8109b40ea797008b2da192c84fd3b36dd43d");
        assert_eq!(hex(&high.receive_cipher), "f83a14a742cf4330ef2fed0c65da7484");
        assert_eq!(hex(&high.receive_mac), "b4fb96ee96324190672de026fa544c89a19a65c9");
        assert_eq!((high.send_cipher, high.send_mac), (low.receive_cipher, low.receive_mac));
        assert_eq!((high.receive_cipher, high.receive_mac), (low.send_cipher, low.send_mac));
    }

    /// RFC 2202, case 2, has a 4-byte key; padded with zeros to 20 bytes it is the same key. RFC 4231, case 2, alike.
    #[test]
    fn codes_are_those_of_the_rfcs() {
        let (mut short, mut long) = ([0; 20], [0; 32]);
        short[..4].copy_from_slice(b"Jefe");
        long[..4].copy_from_slice(b"Jefe");
        let text = b"what do ya want for nothing?";
        assert_eq!(hmac_sha1(&short, text)[..4], [0xef, 0xfc, 0xdf, 0x6a]);
        assert_eq!(hmac_sha256(&long, &[&text[..5], &text[5..]])[..4], [0x5b, 0xdc, 0xc1, 0x46]);
        assert_eq!(hmac_sha256_160(&long, &[text]), hmac_sha256(&long, &[text])[..20]);
    }

    /// The keystream of the zero key and zero counter is AES of the zero block (FIPS 197 implementations agree on it).
    #[test]
    fn counter_mode_counts_in_the_lower_half() {
        let mut bytes = [0; 32];
        aes_ctr(&[0; 16], &[0; 8], &mut bytes);
        assert_eq!(bytes[..4], [0x66, 0xe9, 0x4b, 0xd4]);
        let mut other = [0; 16];
        aes_ctr(&[0; 16], &[0, 0, 0, 0, 0, 0, 0, 1], &mut other);
        assert_ne!(bytes[16..], other);
    }
}
