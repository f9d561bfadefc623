//! One SEIPD packet from clear bytes, and back.
//!
//! Only the framing is written here (RFC 9580, sections 4.2, 5.9 and 5.13): a literal data packet inside one SEIPD packet, each
//! with a definite length. Ciphers, AEAD and key schedule are sequoia's, SHA-1 of the MDC is ring's. Opening takes exactly this
//! shape: no partial lengths, no compression, no nested encryption, no SED, so there is nothing to expand and nothing to join.
//!
//! The bytes that a version 1 packet repeats for a "quick check" are not looked at (an oracle: RFC 9580, section 13.4);
//! the MDC covers them.

use super::{OpenError, SealError, Sealed};
use bytes::Bytes;
use openpgp::crypto::symmetric::{BlockCipherMode, Decryptor, Encryptor, PaddingMode, UnpaddingMode};
use openpgp::crypto::{SessionKey as RawKey, aead};
use openpgp::parse::buffered_reader::Memory;
use openpgp::types::{AEADAlgorithm, SymmetricAlgorithm};
use sequoia_openpgp as openpgp;
use std::fmt;
use std::io::{Read, Write};
use zeroize::Zeroizing;

/// New-format packet headers (RFC 9580, section 4.2).
const SEIPD: u8 = 0xc0 | 18;
const LITERAL: u8 = 0xc0 | 11;
const MDC_HEADER: [u8; 2] = [0xc0 | 19, 20];

/// What follows a literal packet's length: binary, no file name, no date (RFC 9580, section 5.9).
const LITERAL_FIELDS: [u8; 6] = [b'b', 0, 0, 0, 0, 0];

/// Block size of AES; the random prefix of a version 1 packet is this and two bytes more.
const BLOCK: usize = 16;
const PREFIX: usize = BLOCK + 2;
const MDC: usize = 20;

/// The cipher that sealing uses.
const CIPHER: SymmetricAlgorithm = SymmetricAlgorithm::AES256;
/// AEAD of version 2 packets: the one that every implementation has (RFC 9580, section 9.6).
const AEAD: AEADAlgorithm = AEADAlgorithm::OCB;
const TAG: usize = 16;
/// Chunk size of version 2 packets that sealing makes, as the exponent in the packet: 2^(6+10) bytes.
const CHUNK_OCTET: u8 = 10;
/// Largest chunk size that is opened: 4 MiB (RFC 9580, section 5.13.2).
const MAX_CHUNK_OCTET: u8 = 16;

/// How a session key is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// SEIPD version 1 with this cipher: CFB with an MDC.
    V1(SymmetricAlgorithm),
    /// SEIPD version 2: AEAD; the packet names the cipher.
    V2,
}

/// A session key that is open, with the packet format that it is for. Erased when dropped; `Debug` hides it.
#[derive(Clone)]
pub struct SessionKey {
    pub(crate) format: Format,
    pub(crate) key: RawKey,
}

impl SessionKey {
    /// A fresh key for `format` with the cipher that sealing uses.
    pub(crate) fn random(v2: bool) -> Result<Self, SealError> {
        let key = RawKey::new(32).map_err(crypto)?;
        Ok(Self { format: if v2 { Format::V2 } else { Format::V1(CIPHER) }, key })
    }

    /// The cipher of the key, as a PKESK for version 1 names it.
    pub(crate) const fn cipher(&self) -> SymmetricAlgorithm {
        match self.format {
            Format::V1(cipher) => cipher,
            Format::V2 => CIPHER,
        }
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionKey({:?}, …)", self.format)
    }
}

pub(crate) fn crypto(error: impl fmt::Display) -> SealError {
    SealError::Crypto(error.to_string())
}

/// A clear part while it is written: room for the packet framing in front, so that it is sealed without being copied.
pub(crate) struct Clear {
    buffer: Zeroizing<Vec<u8>>,
}

/// Longest framing in front of a part: random prefix, packet tag, 5 octets of length, literal fields.
const ROOM: usize = PREFIX + 6 + LITERAL_FIELDS.len();

impl Clear {
    /// An empty part with room for `capacity` bytes.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        let mut buffer = Zeroizing::new(Vec::with_capacity(ROOM + capacity + MDC_HEADER.len() + MDC));
        buffer.resize(ROOM, 0);
        Self { buffer }
    }

    /// The buffer to append to. It begins with [`Clear::START`] bytes that are not part of the text; they must stay.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Where the part begins in the buffer.
    pub(crate) const START: usize = ROOM;

    /// Seals it under a session key.
    pub(crate) fn seal(mut self, key: &SessionKey) -> Result<Sealed, SealError> {
        let length = self.buffer.len() - ROOM + LITERAL_FIELDS.len();
        let length = u32::try_from(length).map_err(|_| SealError::TooLarge)?;
        if length > u32::MAX - (1 << 20) {
            return Err(SealError::TooLarge);
        }
        let mut header = vec![LITERAL];
        push_length(&mut header, length);
        header.extend_from_slice(&LITERAL_FIELDS);
        let start = ROOM - header.len();
        self.buffer[start..ROOM].copy_from_slice(&header);
        match key.format {
            Format::V1(cipher) => self.seal_v1(start, cipher, key),
            Format::V2 => seal_v2(&self.buffer[start..], key),
        }
    }

    fn seal_v1(mut self, start: usize, cipher: SymmetricAlgorithm, key: &SessionKey) -> Result<Sealed, SealError> {
        let start = start - PREFIX;
        openpgp::crypto::random(&mut self.buffer[start..start + BLOCK]).map_err(crypto)?;
        self.buffer.copy_within(start + BLOCK - 2..start + BLOCK, start + BLOCK);
        self.buffer.extend_from_slice(&MDC_HEADER);
        let digest = sha1(&self.buffer[start..]);
        self.buffer.extend_from_slice(digest.as_ref());
        let clear = &self.buffer[start..];
        let length = u32::try_from(clear.len() + 1).map_err(|_| SealError::TooLarge)?;
        let mut packet = Vec::with_capacity(clear.len() + 7);
        packet.push(SEIPD);
        push_length(&mut packet, length);
        packet.push(1);
        let mut encryptor =
            Encryptor::new(cipher, BlockCipherMode::CFB, PaddingMode::None, &key.key, None, &mut packet)
                .map_err(crypto)?;
        encryptor.write_all(clear).map_err(crypto)?;
        encryptor.finalize().map_err(crypto)?;
        Ok(Sealed(Bytes::from(packet)))
    }
}

fn seal_v2(clear: &[u8], key: &SessionKey) -> Result<Sealed, SealError> {
    let chunk = 1_usize << (CHUNK_OCTET + 6);
    let mut salt = [0; 32];
    openpgp::crypto::random(&mut salt).map_err(crypto)?;
    let chunks = clear.len().div_ceil(chunk);
    let length = 36 + clear.len() + chunks * TAG + TAG;
    let mut packet = Vec::with_capacity(length + 6);
    packet.push(SEIPD);
    push_length(&mut packet, u32::try_from(length).map_err(|_| SealError::TooLarge)?);
    packet.extend_from_slice(&[2, CIPHER.into(), AEAD.into(), CHUNK_OCTET]);
    packet.extend_from_slice(&salt);
    let schedule = aead::SEIPv2Schedule::new(&key.key, CIPHER, AEAD, chunk, &salt).map_err(crypto)?;
    // The chunk size in memory need not be larger than the text: sequoia allocates it whole.
    let mut encryptor = aead::Encryptor::new(CIPHER, AEAD, chunk, schedule, &mut packet).map_err(crypto)?;
    encryptor.write_all(clear).map_err(crypto)?;
    encryptor.finalize().map_err(crypto)?;
    Ok(Sealed(Bytes::from(packet)))
}

fn sha1(bytes: &[u8]) -> ring::digest::Digest {
    ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, bytes)
}

/// Opens one packet: its whole clear text, after the integrity of the whole was checked.
pub(crate) fn open(key: &SessionKey, sealed: &Sealed) -> Result<Bytes, OpenError> {
    let packet = &sealed.0[..];
    let (&tag, rest) = packet.split_first().ok_or(OpenError::Damaged("it is empty"))?;
    if tag != SEIPD {
        return Err(OpenError::Refused(match tag {
            _ if tag & 0x80 == 0 => "it is no OpenPGP packet",
            _ if tag == 0xc0 | 9 || tag & 0xfc == 0x80 | 9 << 2 => {
                "it is encrypted without protection of its integrity (SED)"
            }
            _ => "it is another OpenPGP packet than SEIPD",
        }));
    }
    let (length, body) = read_length(rest)?;
    if length != body.len() {
        return Err(OpenError::Damaged("its length is wrong"));
    }
    let (&version, body) = body.split_first().ok_or(OpenError::Damaged("it is cut short"))?;
    match (version, key.format) {
        (1, Format::V1(cipher)) => open_v1(key, cipher, body),
        (2, Format::V2) => open_v2(key, body),
        _ => Err(OpenError::Refused("its version is not that of its session key")),
    }
}

fn open_v1(key: &SessionKey, cipher: SymmetricAlgorithm, body: &[u8]) -> Result<Bytes, OpenError> {
    if body.len() < PREFIX + MDC_HEADER.len() + MDC {
        return Err(OpenError::Damaged("it is cut short"));
    }
    let mut clear = vec![0; body.len()];
    let reader = Memory::with_cookie(body, Default::default());
    let mut decryptor = Decryptor::new(cipher, BlockCipherMode::CFB, UnpaddingMode::None, &key.key, None, reader)
        .map_err(|_| OpenError::Damaged("its session key does not fit"))?;
    let mut filled = 0;
    while filled < clear.len() {
        match decryptor.read(&mut clear[filled..]) {
            Ok(0) | Err(_) => return Err(OpenError::Damaged("it can't be decrypted")),
            Ok(read) => filled += read,
        }
    }
    let hashed = clear.len() - MDC;
    let digest = sha1(&clear[..hashed]);
    let framed = clear[hashed - MDC_HEADER.len()..hashed] == MDC_HEADER;
    let equal: bool = subtle::ConstantTimeEq::ct_eq(digest.as_ref(), &clear[hashed..]).into();
    if !(framed & equal) {
        return Err(OpenError::Damaged("its integrity check (MDC) fails"));
    }
    literal(Bytes::from(clear).slice(PREFIX..hashed - MDC_HEADER.len()))
}

fn open_v2(key: &SessionKey, body: &[u8]) -> Result<Bytes, OpenError> {
    let short = OpenError::Damaged("it is cut short");
    let (&[cipher, mode, chunk], rest) = body.split_first_chunk().ok_or(short.clone())?;
    let (salt, sealed) = rest.split_first_chunk::<32>().ok_or(short.clone())?;
    let cipher = SymmetricAlgorithm::from(cipher);
    let mode = AEADAlgorithm::from(mode);
    if !matches!(cipher, SymmetricAlgorithm::AES128 | SymmetricAlgorithm::AES192 | SymmetricAlgorithm::AES256)
        || !matches!(mode, AEADAlgorithm::OCB | AEADAlgorithm::GCM | AEADAlgorithm::EAX)
        || chunk > MAX_CHUNK_OCTET
    {
        return Err(OpenError::Refused("its cipher, mode or chunk size is not accepted"));
    }
    let chunk = 1_usize << (chunk + 6);
    let failed = |_| OpenError::Damaged("its integrity check (AEAD) fails");
    let sealed_chunk = chunk + TAG;
    let (sealed, final_tag) = sealed.split_last_chunk::<TAG>().ok_or(short)?;
    let chunks = sealed.len().div_ceil(sealed_chunk);
    let mut clear = vec![0; sealed.len().saturating_sub(chunks * TAG)];
    let schedule = aead::SEIPv2Schedule::new(&key.key, cipher, mode, chunk, salt).map_err(failed)?;
    let mut index = 0;
    for (from, to) in sealed.chunks(sealed_chunk).zip(clear.chunks_mut(chunk)) {
        if from.len() != to.len() + TAG {
            return Err(OpenError::Damaged("it is cut short"));
        }
        decryption(&schedule, index, None, cipher, mode)
            .and_then(|mut c| c.decrypt_verify(to, from))
            .map_err(failed)?;
        index += 1;
    }
    if index as usize != chunks {
        return Err(OpenError::Damaged("it is cut short"));
    }
    decryption(&schedule, index, Some(clear.len() as u64), cipher, mode)
        .and_then(|mut context| context.decrypt_verify(&mut [], final_tag))
        .map_err(failed)?;
    literal(Bytes::from(clear))
}

/// The AEAD context of chunk `index`, or of the final tag over `total` bytes.
fn decryption(
    schedule: &aead::SEIPv2Schedule,
    index: u64,
    total: Option<u64>,
    cipher: SymmetricAlgorithm,
    mode: AEADAlgorithm,
) -> openpgp::Result<aead::DecryptionContext> {
    use aead::Schedule;
    let mut make = |key: &RawKey, nonce: &[u8], ad: &[u8]| mode.context(cipher, key, ad, nonce)?.for_decryption();
    match total {
        None => schedule.chunk(index, &mut make),
        Some(total) => schedule.finalizer(index, total, &mut make),
    }
}

/// The content of the one literal data packet that `clear` must be.
fn literal(clear: Bytes) -> Result<Bytes, OpenError> {
    let (&tag, rest) = clear.split_first().ok_or(OpenError::Damaged("nothing is inside"))?;
    if tag != LITERAL {
        return Err(OpenError::Refused("what is inside is not one plain literal packet"));
    }
    let (length, body) = read_length(rest)?;
    if length != body.len() || body.get(..LITERAL_FIELDS.len()) != Some(&LITERAL_FIELDS[..]) {
        return Err(OpenError::Damaged("the literal packet inside is not as sealing makes it"));
    }
    Ok(clear.slice(clear.len() - length + LITERAL_FIELDS.len()..))
}

/// Writes a definite length (RFC 9580, section 4.2.1).
fn push_length(out: &mut Vec<u8>, length: u32) {
    match length {
        0..192 => out.push(length as u8),
        192..8384 => out.extend_from_slice(&[((length - 192) >> 8) as u8 + 192, (length - 192) as u8]),
        _ => {
            out.push(255);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
}

/// Reads a definite length; what follows it.
fn read_length(bytes: &[u8]) -> Result<(usize, &[u8]), OpenError> {
    let short = || OpenError::Damaged("it is cut short");
    let (&first, rest) = bytes.split_first().ok_or_else(short)?;
    match first {
        0..192 => Ok((usize::from(first), rest)),
        192..224 => {
            let (&second, rest) = rest.split_first().ok_or_else(short)?;
            Ok(((usize::from(first) - 192) * 256 + usize::from(second) + 192, rest))
        }
        224..255 => Err(OpenError::Refused("its length is in pieces")),
        255 => {
            let (&length, rest) = rest.split_first_chunk().ok_or_else(short)?;
            let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| short())?;
            Ok((length, rest))
        }
    }
}
