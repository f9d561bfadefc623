//! What is shown of a message that can't be opened here.
//!
//! It never changes: it is made from what is stored alone, with no clock and no configuration (RFC 3501, section 2.3.1.1).

use crate::id::KeysetId;
use crate::seal::{Sealed, SealedSessionKey, message};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mesyx_sdk::{Content, MessageId, Timestamp};
use std::fmt::Write as _;

/// A message whose keyset's secret key is not here, as PGP/MIME (RFC 3156, section 4), so that whoever has the key opens it
/// with their own program. `keyset` is the keyset's name where it is known.
pub(super) fn offline(
    id: MessageId,
    day: Timestamp,
    keyset: (KeysetId, Option<&str>),
    key: &SealedSessionKey,
    body: &Sealed,
) -> Content {
    let subject = match keyset {
        (_, Some(name)) if name.bytes().all(|byte| (b' '..=b'~').contains(&byte)) => {
            format!("Sealed message (keyset {name})")
        }
        (id, _) => format!("Sealed message (keyset {id})"),
    };
    let boundary = format!("mesyx-{id}");
    let mut text = headers(id, day, &subject);
    let _ = write!(
        text,
        "Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\";\r\n boundary=\"{boundary}\"\r\n\r\n\
         This message is sealed to a key that the server does not have.\r\n\
         --{boundary}\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n\
         --{boundary}\r\nContent-Type: application/octet-stream; name=\"encrypted.asc\"\r\n\
         Content-Disposition: inline; filename=\"encrypted.asc\"\r\n\r\n"
    );
    armor(&mut text, &message(key, body), is_v1(body));
    let _ = write!(text, "--{boundary}--\r\n");
    Content::from(text.into_bytes())
}

/// A message that is damaged, forged, or sealed to a key that is gone.
pub(super) fn damaged(id: MessageId, day: Timestamp) -> Content {
    let mut text = headers(id, day, "This message cannot be opened");
    let _ = write!(
        text,
        "Content-Type: text/plain; charset=us-ascii\r\n\r\n\
         A message is stored here that cannot be opened: it was damaged or changed,\r\n\
         or it was sealed to a key that was thrown away.\r\n\r\n\
         Nothing of it is shown, because nothing of it can be trusted. The server's log\r\n\
         says what is wrong; a backup may have it whole.\r\n\r\n\
         Message id: {id}\r\n"
    );
    Content::from(text.into_bytes())
}

/// The sender stands in a domain that can't exist (RFC 2606), so that nobody is blamed and nothing can be answered.
fn headers(id: MessageId, day: Timestamp, subject: &str) -> String {
    let date = day.utc().format(&time::format_description::well_known::Rfc2822).unwrap_or_default();
    format!(
        "From: Mesyx <sealed@mesyx.invalid>\r\nSubject: {subject}\r\nDate: {date}\r\nMessage-ID: <{id}@mesyx.invalid>\r\nMIME-Version: 1.0\r\n"
    )
}

/// Whether a part is a SEIPD packet of version 1, which begins with a new-format header (RFC 9580, section 4.2.1).
fn is_v1(body: &Sealed) -> bool {
    let at = match body.0.get(1) {
        Some(0..=191) => 2,
        Some(192..=223) => 3,
        _ => 6,
    };
    body.0.get(at) == Some(&1)
}

/// ASCII armor (RFC 9580, section 6.2). The checksum stands at the end of what older programs read: GnuPG 2.2 complains where it
/// is missing. Behind newer packets it must not stand (section 6.1).
fn armor(text: &mut String, packets: &[u8], checksum: bool) {
    text.push_str("-----BEGIN PGP MESSAGE-----\r\n\r\n");
    for line in packets.chunks(48) {
        STANDARD.encode_string(line, text);
        text.push_str("\r\n");
    }
    if checksum {
        text.push('=');
        STANDARD.encode_string(&crc24(packets).to_be_bytes()[1..], text);
        text.push_str("\r\n");
    }
    text.push_str("-----END PGP MESSAGE-----\r\n");
}

/// CRC-24 (RFC 9580, section 6.1.1), four bits at a time.
fn crc24(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 16] = {
        let mut table = [0; 16];
        let mut nibble = 0;
        while nibble < 16 {
            let mut crc = (nibble as u32) << 20;
            let mut bit = 0;
            while bit < 4 {
                crc = if crc & 0x80_0000 != 0 { crc << 1 ^ 0x86_4cfb } else { crc << 1 };
                bit += 1;
            }
            table[nibble] = crc & 0xff_ffff;
            nibble += 1;
        }
        table
    };
    let step = |crc: u32, nibble: u8| (crc << 4 ^ TABLE[(crc >> 20 ^ u32::from(nibble)) as usize & 15]) & 0xff_ffff;
    bytes.iter().fold(0xb7_04ce, |crc, byte| step(step(crc, byte >> 4), byte & 15))
}

#[cfg(test)]
mod tests {
    use super::crc24;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        // The check value of CRC-24/OPENPGP.
        assert_eq!(crc24(b"123456789"), 0x21_cf02);
        assert_eq!(crc24(b""), 0xb7_04ce);
    }
}
