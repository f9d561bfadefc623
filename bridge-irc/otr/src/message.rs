//! Encoded messages: `?OTR:`, base64, and a full stop; inside, a header and one of five bodies.

use crate::group::Element;
use crate::identity::InstanceTag;
use crate::kdf::MacKey;
use crate::wire::{Reader, Writer};
use crate::{Rejection, limits};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// How an encoded message begins and ends.
pub(crate) const PREFIX: &[u8] = b"?OTR:";
const SUFFIX: u8 = b'.';

const DH_COMMIT: u8 = 0x02;
const DATA: u8 = 0x03;
const DH_KEY: u8 = 0x0a;
const REVEAL_SIGNATURE: u8 = 0x11;
const SIGNATURE: u8 = 0x12;

/// The protocol version of a message or conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// Version 2: no instance tags.
    V2,
    /// Version 3.
    V3,
}

impl Version {
    fn number(self) -> u16 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }
}

/// What stands before every body. In version 2 both tags are "none".
#[derive(Clone, Copy)]
pub(crate) struct Header {
    pub(crate) version: Version,
    pub(crate) sender: InstanceTag,
    pub(crate) receiver: InstanceTag,
}

/// D-H Commit: a commitment to g^x, under the key r that is revealed later.
#[derive(Clone)]
pub(crate) struct DhCommit {
    pub(crate) encrypted: Vec<u8>,
    pub(crate) hash: [u8; 32],
}

/// Reveal Signature.
pub(crate) struct RevealSignature {
    pub(crate) key: [u8; 16],
    pub(crate) signature: SealedSignature,
}

/// A signature of the key exchange, encrypted, with its MAC.
pub(crate) struct SealedSignature {
    pub(crate) encrypted: Vec<u8>,
    pub(crate) mac: [u8; 20],
}

/// A data message without its MAC, which is computed over the encoding of the rest.
pub(crate) struct DataMessage {
    pub(crate) ignore_unreadable: bool,
    pub(crate) sender_keyid: u32,
    pub(crate) recipient_keyid: u32,
    pub(crate) next_key: Element,
    pub(crate) counter: [u8; 8],
    pub(crate) encrypted: Vec<u8>,
}

/// One of the five kinds of message.
pub(crate) enum Body {
    DhCommit(DhCommit),
    DhKey(Element),
    RevealSignature(RevealSignature),
    Signature(SealedSignature),
    Data {
        message: DataMessage,
        /// The bytes that the MAC covers, from the version on.
        covered: Vec<u8>,
        mac: [u8; 20],
    },
}

/// Is set when the receiver need not complain if it can't read the message.
const FLAG_IGNORE_UNREADABLE: u8 = 1;

fn start(header: Header, kind: u8) -> Writer {
    let mut out = Writer::default();
    out.short(header.version.number()).byte(kind);
    if header.version == Version::V3 {
        out.int(header.sender.value()).int(header.receiver.value());
    }
    out
}

impl DhCommit {
    pub(crate) fn encode(&self, header: Header) -> Vec<u8> {
        armour(start(header, DH_COMMIT).data(&self.encrypted).data(&self.hash))
    }
}

pub(crate) fn encode_dh_key(header: Header, key: &Element) -> Vec<u8> {
    armour(start(header, DH_KEY).element(key))
}

impl RevealSignature {
    pub(crate) fn encode(&self, header: Header) -> Vec<u8> {
        let mut out = start(header, REVEAL_SIGNATURE);
        armour(out.data(&self.key).data(&self.signature.encrypted).raw(&self.signature.mac))
    }
}

impl SealedSignature {
    pub(crate) fn encode(&self, header: Header) -> Vec<u8> {
        armour(start(header, SIGNATURE).data(&self.encrypted).raw(&self.mac))
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Rejection> {
        Ok(Self { encrypted: reader.data()?.to_vec(), mac: reader.array()? })
    }
}

impl DataMessage {
    /// Encodes the message; `mac` computes the code over what comes before it.
    pub(crate) fn encode(&self, header: Header, mac: impl Fn(&[u8]) -> [u8; 20], revealed: &[MacKey]) -> Vec<u8> {
        let mut out = start(header, DATA);
        out.byte(if self.ignore_unreadable { FLAG_IGNORE_UNREADABLE } else { 0 })
            .int(self.sender_keyid)
            .int(self.recipient_keyid)
            .element(&self.next_key)
            .raw(&self.counter)
            .data(&self.encrypted);
        let code = mac(&out.0);
        armour(out.raw(&code).data(revealed.as_flattened()))
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Rejection> {
        Ok(Self {
            ignore_unreadable: reader.byte()? & FLAG_IGNORE_UNREADABLE != 0,
            sender_keyid: reader.int()?,
            recipient_keyid: reader.int()?,
            next_key: reader.element()?,
            counter: reader.array()?,
            encrypted: reader.data()?.to_vec(),
        })
    }
}

fn armour(message: &Writer) -> Vec<u8> {
    let mut out = PREFIX.to_vec();
    out.extend_from_slice(STANDARD.encode(&message.0).as_bytes());
    out.push(SUFFIX);
    out
}

/// Reads an encoded message. What follows the full stop is ignored, as some networks and clients append to lines.
pub(crate) fn decode(line: &[u8]) -> Result<(Header, Body), Rejection> {
    const WHAT: Rejection = Rejection::Malformed("encoded message");
    if line.len() > limits::MAX_MESSAGE {
        return Err(Rejection::TooLarge);
    }
    let text = line.strip_prefix(PREFIX).ok_or(WHAT)?;
    let end = text.iter().position(|&byte| byte == SUFFIX).ok_or(WHAT)?;
    let bytes = STANDARD.decode(&text[..end]).map_err(|_| WHAT)?;
    let mut reader = Reader::new(&bytes, "message header");
    let version = match reader.short()? {
        2 => Version::V2,
        3 => Version::V3,
        _ => return Err(Rejection::Version),
    };
    let kind = reader.byte()?;
    let (mut sender, mut receiver) = (InstanceTag::NONE, InstanceTag::NONE);
    if version == Version::V3 {
        sender = InstanceTag::new(reader.int()?).ok_or(Rejection::Malformed("instance tag"))?;
        receiver = InstanceTag::from_peer(reader.int()?)?;
    }
    Ok((Header { version, sender, receiver }, read_body(kind, reader.rest(), &bytes)?))
}

fn read_body(kind: u8, rest: &[u8], whole: &[u8]) -> Result<Body, Rejection> {
    let what = match kind {
        DH_COMMIT => "D-H Commit message",
        DH_KEY => "D-H Key message",
        REVEAL_SIGNATURE => "Reveal Signature message",
        SIGNATURE => "Signature message",
        DATA => "Data message",
        _ => return Err(Rejection::Malformed("message type")),
    };
    let mut reader = Reader::new(rest, what);
    let body = match kind {
        DH_COMMIT => {
            let encrypted = reader.data()?.to_vec();
            let hash = reader.data()?.try_into().map_err(|_| reader.malformed())?;
            Body::DhCommit(DhCommit { encrypted, hash })
        }
        DH_KEY => Body::DhKey(reader.element()?),
        REVEAL_SIGNATURE => {
            let key = reader.data()?.try_into().map_err(|_| reader.malformed())?;
            Body::RevealSignature(RevealSignature { key, signature: SealedSignature::read(&mut reader)? })
        }
        SIGNATURE => Body::Signature(SealedSignature::read(&mut reader)?),
        _ => {
            let message = DataMessage::read(&mut reader)?;
            let covered = whole[..whole.len() - reader.rest().len()].to_vec();
            let mac = reader.array()?;
            // Revealed MAC keys are for deniability; a receiver has no use for them.
            reader.data()?;
            Body::Data { message, covered, mac }
        }
    };
    reader.end()?;
    Ok(body)
}
