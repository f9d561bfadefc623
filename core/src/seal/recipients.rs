//! To which keys a session key is sealed, read from its packets without any key.

use minicbor::{Decode, Encode};
use openpgp::KeyID;
use sequoia_openpgp as openpgp;
use std::fmt;

/// The key id (RFC 9580, section 5.5.4) of a key that a session key is sealed to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct RecipientId(#[cbor(with = "minicbor::bytes")] pub [u8; 8]);

impl RecipientId {
    /// That of a key; `None` for the key id of an unknown form.
    #[must_use]
    pub fn of(id: &KeyID) -> Option<Self> {
        id.as_bytes().try_into().ok().map(Self)
    }

    /// As the library writes it.
    #[must_use]
    pub fn key_id(self) -> KeyID {
        KeyID::from_bytes(&self.0)
    }
}

impl fmt::Debug for RecipientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

/// Most recipients of one session key that are looked at: more than a keyset has certificates.
pub(crate) const MOST_RECIPIENTS: usize = 64;

/// Packet type of a PKESK (RFC 9580, section 5.1).
const PKESK: u8 = 1;

/// The recipients that PKESK packets name, in their order. None where anything else is among the packets, or they are damaged: such a
/// session key is not opened either.
#[must_use]
pub fn recipients(packets: &[u8]) -> Vec<RecipientId> {
    let mut found = Vec::new();
    let mut rest = packets;
    let mut count = 0;
    while !rest.is_empty() {
        let Some((PKESK, body, after)) = packet(rest).filter(|_| count < MOST_RECIPIENTS) else { return Vec::new() };
        match recipient(body) {
            Some(id) => found.extend(id),
            None => return Vec::new(),
        }
        (rest, count) = (after, count + 1);
    }
    found
}

/// Type and body of the first packet (RFC 9580, section 4.2), and what follows it. `None` for lengths in pieces and without end.
fn packet(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    if tag & 0x80 == 0 {
        return None;
    }
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte));
    let (kind, (length, rest)) = if tag & 0x40 == 0 {
        let octets = [1, 2, 4].get(usize::from(tag & 3)).copied()?;
        let (length, rest) = rest.split_at_checked(octets)?;
        (tag >> 2 & 15, (number(length), rest))
    } else {
        let (&first, after) = rest.split_first()?;
        let length = match first {
            0..=191 => (usize::from(first), after),
            192..=223 => {
                let (second, after) = after.split_first()?;
                (((usize::from(first) - 192) << 8) + usize::from(*second) + 192, after)
            }
            255 => {
                let (length, after) = after.split_at_checked(4)?;
                (number(length), after)
            }
            _ => return None,
        };
        (tag & 63, length)
    };
    let (body, after) = rest.split_at_checked(length)?;
    Some((kind, body, after))
}

/// Whom one PKESK names (RFC 9580, sections 5.1.1 and 5.1.2): `Some(None)` where it names nobody, `None` where it is of no known kind.
fn recipient(body: &[u8]) -> Option<Option<RecipientId>> {
    let (&version, rest) = body.split_first()?;
    let id = |bytes: &[u8]| bytes.try_into().ok().map(RecipientId).filter(|id| id.0 != [0; 8]);
    match version {
        3 => Some(id(rest.get(..8)?)),
        6 => {
            let (&length, rest) = rest.split_first()?;
            let named = rest.get(..usize::from(length))?;
            match named {
                [] => Some(None),
                [4, fingerprint @ ..] if fingerprint.len() == 20 => Some(id(&fingerprint[12..])),
                [6, fingerprint @ ..] if fingerprint.len() == 32 => Some(id(&fingerprint[..8])),
                _ => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::tests::fixture_of;
    use crate::keys::{Levels, Profile, Span, generate_keyset};
    use crate::seal::Sealer;
    use mesyx_sdk::{Content, MessageId};
    use openpgp::parse::{PacketParser, PacketParserResult, Parse};
    use std::time::Instant;

    /// What sequoia reads of the same packets.
    fn by_sequoia(packets: &[u8]) -> Vec<RecipientId> {
        let mut found = Vec::new();
        let mut parser = PacketParser::from_bytes(packets).unwrap();
        while let PacketParserResult::Some(packet) = parser {
            let (packet, rest) = packet.next().unwrap();
            let openpgp::Packet::PKESK(packet) = packet else { panic!("{packet:?}") };
            found.extend(packet.recipient().map(KeyID::from).as_ref().and_then(RecipientId::of));
            parser = rest;
        }
        found
    }

    fn sealed(profile: Profile) -> Vec<u8> {
        let fixture = fixture_of(profile);
        let (another, _) = generate_keyset("another", Span::Always, Levels::ALL, profile).unwrap();
        let default = fixture.keyring.default_keyset();
        let both = [default.certificates(), another.certificates()].concat();
        let keyset = default.with_certificates(both).unwrap();
        let content = Content::from(b"\r\n".to_vec());
        let summary = crate::seal::tests::summary(&Content::from(vec![b' '; 20]));
        let sealed =
            Sealer::default().seal(&keyset, fixture.user, MessageId::random(), &summary, &content, Instant::now());
        sealed.unwrap().session_key.packets.to_vec()
    }

    #[test]
    fn the_recipients_are_those_that_sequoia_reads() {
        let mut profiles = vec![Profile::V4, Profile::V6];
        // OpenSSL has it from version 3.5 on.
        if sequoia_openpgp::cert::CipherSuite::MLDSA65_Ed25519.is_supported().is_ok() {
            profiles.push(Profile::PostQuantum);
        }
        for profile in profiles {
            let packets = sealed(profile);
            let read = recipients(&packets);
            assert_eq!((read.len(), &read), (2, &by_sequoia(&packets)), "{profile:?}");
        }
    }

    #[test]
    fn what_is_cut_off_or_no_session_key_names_nobody() {
        let packets = sealed(Profile::V4);
        let half = packets.len() / 2;
        for length in (1..packets.len()).filter(|length| *length != half) {
            assert_eq!(recipients(&packets[..length]), [], "{length}");
        }
        assert_eq!(recipients(&packets[..half]).len(), 1, "two packets of one length");
        assert_eq!(recipients(&[]), []);
        let literal = [0xcb, 6, b'b', 0, 0, 0, 0, 0];
        assert_eq!(recipients(&[&packets[..], &literal].concat()), []);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = recipients(&bytes);
        }
    }
}
