//! Text that is no UTF-8.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a line is taken for that is no UTF-8.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Charset {
    /// Windows-1252, the most common one of old clients; it holds ISO 8859-1.
    #[default]
    #[serde(rename = "windows-1252")]
    Windows1252,
    /// ISO 8859-15.
    #[serde(rename = "iso-8859-15")]
    Latin9,
    /// None: bytes that are no UTF-8 become U+FFFD.
    #[serde(rename = "utf-8")]
    Utf8,
}

/// Windows-1252 from 0x80 to 0x9f; the five that stand for nothing keep their place among the controls.
const WINDOWS: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’',
    '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

impl Charset {
    /// The text of a line.
    pub(crate) fn decode(self, bytes: &[u8]) -> String {
        if let Ok(text) = std::str::from_utf8(bytes) {
            return text.to_owned();
        }
        // A line that the network cut within a character is UTF-8 all the same.
        if self == Self::Utf8 || cut_short(bytes) {
            return String::from_utf8_lossy(bytes).into_owned();
        }
        bytes.iter().map(|byte| self.of(*byte)).collect()
    }

    fn of(self, byte: u8) -> char {
        match (self, byte) {
            (Self::Windows1252, 0x80..=0x9f) => WINDOWS[usize::from(byte - 0x80)],
            (Self::Latin9, 0xa4) => '€',
            (Self::Latin9, 0xa6) => 'Š',
            (Self::Latin9, 0xa8) => 'š',
            (Self::Latin9, 0xb4) => 'Ž',
            (Self::Latin9, 0xb8) => 'ž',
            (Self::Latin9, 0xbc) => 'Œ',
            (Self::Latin9, 0xbd) => 'œ',
            (Self::Latin9, 0xbe) => 'Ÿ',
            _ => char::from(byte),
        }
    }
}

/// UTF-8 with at least one whole character beyond ASCII, but for an unfinished one at the end.
fn cut_short(bytes: &[u8]) -> bool {
    match std::str::from_utf8(bytes) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none() && !bytes[..error.valid_up_to()].is_ascii(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_utf8_is_read_as_the_fallback_has_it() {
        let all = Charset::default();
        assert_eq!(all.decode("grün €".as_bytes()), "grün €");
        assert_eq!(all.decode(b"gr\xfcn \x80 \x93x\x94"), "grün € “x”");
        assert_eq!(Charset::Latin9.decode(b"\xa4"), "€");
        assert_eq!(Charset::Utf8.decode(b"gr\xfcn"), "gr\u{fffd}n");
        // Cut by a server in the middle of the second é.
        assert_eq!(all.decode(b"\xc3\xa9\xc3"), "é\u{fffd}");
        assert_eq!(all.decode(b"x\xc3"), "xÃ");
    }
}
