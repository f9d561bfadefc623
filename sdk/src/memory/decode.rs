//! As much decoding as searching needs.

use crate::mime;

/// A header value with its encoded words (RFC 2047) decoded.
pub(crate) fn header(value: &[u8]) -> String {
    let value = characters(mime::unfold(value));
    let mut decoded = String::new();
    let mut rest = value.as_str();
    let mut after_word = false;
    while let Some(start) = rest.find("=?") {
        let (before, from) = rest.split_at(start);
        // Blanks between two encoded words don't count (section 6.2).
        if !(after_word && before.trim().is_empty()) {
            decoded.push_str(before);
        }
        (after_word, rest) = match word(&from[2..]) {
            Some((word, behind)) => {
                decoded.push_str(&word);
                (true, behind)
            }
            None => {
                decoded.push_str("=?");
                (false, &from[2..])
            }
        };
    }
    decoded + rest
}

/// Reads `charset?encoding?text?=`, and gives what follows too.
fn word(text: &str) -> Option<(String, &str)> {
    let (_, text) = text.split_once('?')?;
    let (encoding, text) = text.split_once('?')?;
    let (text, behind) = text.split_once("?=")?;
    if text.contains(' ') {
        return None;
    }
    let bytes = match encoding {
        "B" | "b" => base64(text.as_bytes()),
        "Q" | "q" => quoted_printable(text.replace('_', " ").as_bytes()),
        _ => return None,
    };
    Some((characters(bytes), behind))
}

/// A text part with its transfer encoding undone.
pub(crate) fn text(body: &[u8], encoding: &[u8]) -> String {
    characters(if encoding.eq_ignore_ascii_case(b"base64") {
        base64(body)
    } else if encoding.eq_ignore_ascii_case(b"quoted-printable") {
        quoted_printable(body)
    } else {
        body.to_vec()
    })
}

/// UTF-8, or else ISO 8859-1, whose bytes are Unicode's first characters.
fn characters(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| error.as_bytes().iter().map(|&byte| char::from(byte)).collect())
}

/// RFC 2045, section 6.8; what is no digit is passed over.
fn base64(text: &[u8]) -> Vec<u8> {
    let digit = |byte: &u8| {
        Some(u32::from(match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        }))
    };
    let digits: Vec<u32> = text.iter().filter_map(digit).collect();
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for group in digits.chunks(4) {
        let bits = group.iter().fold(0, |bits, digit| bits << 6 | digit) << (6 * (4 - group.len()));
        bytes.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    bytes
}

/// RFC 2045, section 6.7; a `=` that escapes nothing stands for itself.
fn quoted_printable(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let escaped = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
        match (byte, after) {
            (b'=', [b'\r', b'\n', after @ ..] | [b'\n', after @ ..]) => rest = after,
            (b'=', _) => match after.get(..2).and_then(escaped) {
                Some(escaped) => {
                    bytes.push(escaped);
                    rest = &after[2..];
                }
                None => bytes.push(byte),
            },
            _ => bytes.push(byte),
        }
    }
    bytes
}
