//! From a file's bytes to its packets, counted and measured.

use super::{ImportError, ImportLimits, one_line};
use openpgp::Packet;
use openpgp::armor::{Kind, Reader, ReaderMode};
use openpgp::packet::Tag;
use openpgp::packet::header::BodyLength;
use openpgp::parse::{PacketParserBuilder, PacketParserResult, Parse};
use sequoia_openpgp as openpgp;
use std::io::Read;
use zeroize::Zeroizing;

/// Where an armored block begins (RFC 9580, section 6.2.1), and its last line.
const BEGIN: &[u8] = b"-----BEGIN PGP ";
const END: &[u8] = b"-----END PGP ";

/// All packets of a file. Only those are let through that belong to certificates.
pub(super) fn read(limits: &ImportLimits, bytes: &[u8]) -> Result<Vec<Packet>, ImportError> {
    if bytes.len() > limits.file_bytes {
        return Err(ImportError::TooLarge(limits.file_bytes));
    }
    let mut packets = Packets { limits, found: Vec::new(), certificates: 0, keys: 0, names: 0, signatures: 0 };
    if bytes.first().is_some_and(|first| first & 0x80 != 0) {
        packets.take(bytes)?;
        return Ok(packets.found);
    }
    let mut rest = bytes;
    let mut blocks = 0;
    while let Some(begin) = find(rest, BEGIN) {
        let block = &rest[begin..];
        let end = find(block, END).ok_or(ImportError::Truncated)?;
        let length = block[end..].iter().position(|byte| *byte == b'\n').map_or(block.len(), |line| end + line + 1);
        packets.take(&dearmor(&block[..length])?)?;
        rest = &block[length..];
        blocks += 1;
        if blocks > limits.certificates {
            return Err(ImportError::TooMany("certificates", limits.certificates));
        }
    }
    if blocks == 0 { Err(ImportError::NotOpenPgp) } else { Ok(packets.found) }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

fn dearmor(block: &[u8]) -> Result<Zeroizing<Vec<u8>>, ImportError> {
    let mut reader = Reader::from_bytes(block, ReaderMode::Tolerant(None));
    // Of its final size from the start: growing would leave copies behind.
    let mut clear = Zeroizing::new(Vec::with_capacity(block.len()));
    let read = reader.read_to_end(&mut clear);
    match reader.kind() {
        Some(Kind::PublicKey | Kind::SecretKey) => {}
        Some(kind) => return Err(ImportError::NoKey(format!("an armored {kind:?}").to_lowercase())),
        None => return Err(ImportError::NotOpenPgp),
    }
    read.map_err(|error| ImportError::Damaged(format!("its armor can't be read: {}", one_line(&error.into()))))?;
    Ok(clear)
}

/// What was found, and the counts since the last certificate began.
struct Packets<'a> {
    limits: &'a ImportLimits,
    found: Vec<Packet>,
    certificates: usize,
    keys: usize,
    names: usize,
    signatures: usize,
}

impl Packets<'_> {
    fn take(&mut self, bytes: &[u8]) -> Result<(), ImportError> {
        // Nothing is unpacked here: a container that has others in it is no part of a certificate.
        let parser = PacketParserBuilder::from_bytes(bytes).map(|builder| builder.max_recursion_depth(0));
        let mut next = parser.and_then(PacketParserBuilder::build).map_err(|error| unreadable(&error))?;
        while let PacketParserResult::Some(mut parser) = next {
            let tag = parser.packet.tag();
            if is_container(tag) {
                return Err(ImportError::NoKey(format!("{tag}")));
            }
            if let Packet::Unknown(_) = parser.packet {
                parser.buffer_unread_content().map_err(|error| unreadable(&error))?;
            }
            let length = *parser.header().length();
            let (packet, rest) = parser.next().map_err(|error| unreadable(&error))?;
            self.count(tag, &length)?;
            self.found.push(packet);
            next = rest;
        }
        Ok(())
    }

    fn count(&mut self, tag: Tag, length: &BodyLength) -> Result<(), ImportError> {
        let limits = self.limits;
        if matches!(tag, Tag::PublicKey | Tag::SecretKey) {
            (self.keys, self.names, self.signatures) = (0, 0, 0);
            bounded(&mut self.certificates, "certificates", limits.certificates)?;
        } else if self.certificates == 0 && tag != Tag::Marker {
            return Err(ImportError::NoKey(format!("{tag}")));
        }
        match tag {
            Tag::PublicKey | Tag::SecretKey | Tag::PublicSubkey | Tag::SecretSubkey => {
                // One in pieces, or of a length that is not told, is no key either (RFC 9580, section 4.2.1.4).
                match length {
                    BodyLength::Full(length) if *length as usize <= limits.key_bytes => {}
                    _ => return Err(ImportError::TooMany("bytes of one key", limits.key_bytes)),
                }
                bounded(&mut self.keys, "subkeys", limits.keys)
            }
            Tag::Signature => bounded(&mut self.signatures, "signatures", limits.signatures),
            _ => bounded(&mut self.names, "user IDs", limits.user_ids),
        }
    }
}

fn bounded(count: &mut usize, what: &'static str, most: usize) -> Result<(), ImportError> {
    *count += 1;
    if *count > most { Err(ImportError::TooMany(what, most)) } else { Ok(()) }
}

/// Packets of messages, which hold others or much.
fn is_container(tag: Tag) -> bool {
    matches!(
        tag,
        Tag::CompressedData
            | Tag::SED
            | Tag::SEIP
            | Tag::AED
            | Tag::Literal
            | Tag::PKESK
            | Tag::SKESK
            | Tag::OnePassSig
            | Tag::MDC
    )
}

fn unreadable(error: &openpgp::anyhow::Error) -> ImportError {
    let cut = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::UnexpectedEof)
    };
    // Inside of a key's fields the library says it in words.
    let told =
        matches!(error.downcast_ref(), Some(openpgp::Error::MalformedPacket(what)) if what == "Truncated packet");
    if told || error.chain().any(cut) { ImportError::Truncated } else { ImportError::Damaged(one_line(error)) }
}
