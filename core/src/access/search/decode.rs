//! From raw headers and parts to the text that a reader sees, folded for comparison.
//!
//! Linear time, whatever the input: an encoded word is looked for in [`MAX_WORD`] bytes only. Nothing fails: what can't be
//! decoded stands as it is.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use mail_parser::decoders::charsets::map::charset_decoder;
use mesyx_sdk::mime;
use mesyx_sdk::summary::{Part, PartKind};
use std::borrow::Cow;
use unicode_normalization::UnicodeNormalization;

/// Longest encoded word that is decoded, in bytes. RFC 2047, section 2, allows 75; programs write longer ones.
const MAX_WORD: usize = 2000;

/// Text as it is compared: lower case, with what Unicode holds compatible made the same (NFKC), so that `É` typed in two
/// ways, full-width letters and ligatures are found.
pub(super) fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    // Twice, since lower case can give decomposed letters; the final sigma is a sigma.
    let lower: String = text.nfkc().flat_map(char::to_lowercase).nfkc().collect();
    match lower.contains('ς') {
        true => lower.replace('ς', "σ"),
        false => lower,
    }
}

/// The decoded, folded value of a header.
pub(super) fn header_value(raw: &[u8]) -> String {
    fold(&encoded_words(&mime::unfold(raw)))
}

/// Replaces encoded words (RFC 2047) by what they say, anywhere in a value; white space between two of them goes.
fn encoded_words(value: &[u8]) -> Cow<'_, str> {
    let value = value.trim_ascii();
    if memchr2(value).is_none() {
        return String::from_utf8_lossy(value);
    }
    let mut text = String::with_capacity(value.len());
    let mut rest = value;
    // A character may be split over words of the same charset, so their bytes are joined before they are decoded.
    let mut pending: Option<(&[u8], Vec<u8>)> = None;
    while let Some(start) = memchr2(rest) {
        let (before, from) = rest.split_at(start);
        let Some(word) = Word::read(from) else {
            flush(&mut text, &mut pending);
            text.push_str(&String::from_utf8_lossy(&rest[..start + 2]));
            rest = &rest[start + 2..];
            continue;
        };
        let adjacent = pending.is_some() && before.iter().all(u8::is_ascii_whitespace);
        match &mut pending {
            Some((charset, bytes)) if adjacent && charset.eq_ignore_ascii_case(word.charset) => {
                bytes.extend(word.bytes)
            }
            _ => {
                flush(&mut text, &mut pending);
                if !adjacent {
                    text.push_str(&String::from_utf8_lossy(before));
                }
                pending = Some((word.charset, word.bytes));
            }
        }
        rest = &from[word.length..];
    }
    flush(&mut text, &mut pending);
    text.push_str(&String::from_utf8_lossy(rest));
    Cow::Owned(text)
}

fn flush(text: &mut String, pending: &mut Option<(&[u8], Vec<u8>)>) {
    if let Some((charset, bytes)) = pending.take() {
        text.push_str(&charset_text(charset, &bytes));
    }
}

/// Where `=?` stands.
fn memchr2(text: &[u8]) -> Option<usize> {
    text.windows(2).position(|pair| pair == b"=?")
}

struct Word<'a> {
    charset: &'a [u8],
    bytes: Vec<u8>,
    length: usize,
}

impl<'a> Word<'a> {
    /// `=?charset[*language]?Q|B?text?=` at the start of `from`.
    fn read(from: &'a [u8]) -> Option<Self> {
        let from = &from[..from.len().min(MAX_WORD)];
        let mut pieces = from.get(2..)?.splitn(3, |byte| *byte == b'?');
        let (charset, encoding, rest) = (pieces.next()?, pieces.next()?, pieces.next()?);
        let charset = charset.split(|byte| *byte == b'*').next()?;
        if charset.is_empty() || charset.iter().any(u8::is_ascii_whitespace) {
            return None;
        }
        let end = rest.windows(2).position(|pair| pair == b"?=")?;
        let bytes = match encoding {
            b"Q" | b"q" => quoted_printable(&rest[..end], true),
            b"B" | b"b" => lenient_base64(&rest[..end]),
            _ => return None,
        };
        Some(Self { charset, bytes, length: from.len() - rest.len() + end + 2 })
    }
}

/// Bytes in a character set as text; UTF-8 (or what is readable of it) where the set is not known.
fn charset_text<'a>(charset: &[u8], bytes: &'a [u8]) -> Cow<'a, str> {
    let utf8 = charset.eq_ignore_ascii_case(b"utf-8") || charset.eq_ignore_ascii_case(b"us-ascii");
    match (utf8 || bytes.is_ascii() && !is_stateful(charset), charset_decoder(charset)) {
        (false, Some(decode)) => Cow::Owned(decode(bytes)),
        _ => String::from_utf8_lossy(bytes),
    }
}

/// Whether ASCII bytes of this set need not be ASCII text.
fn is_stateful(charset: &[u8]) -> bool {
    let begins = |prefix: &[u8]| charset.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    begins(b"iso-2022") || begins(b"utf-7") || begins(b"utf7") || begins(b"utf-16") || begins(b"hz")
}

/// The decoded text of every text part, each given to `look` until it says that it has seen enough.
pub(super) fn text_parts(message: &[u8], part: &Part, look: &mut impl FnMut(&str) -> bool) -> bool {
    match &part.kind {
        PartKind::Multipart(parts) => parts.iter().any(|part| text_parts(message, part, look)),
        PartKind::Message(_, inner) => text_parts(message, inner, look),
        PartKind::Leaf if part.content_type.0.eq_ignore_ascii_case(b"text") => text_part(message, part, look),
        PartKind::Leaf => false,
    }
}

fn text_part(message: &[u8], part: &Part, look: &mut impl FnMut(&str) -> bool) -> bool {
    let position = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
    let Some(raw) = message.get(position(part.body.start)..position(part.body.end)) else { return false };
    let bytes = if part.encoding.eq_ignore_ascii_case(b"base64") {
        Cow::Owned(lenient_base64(raw))
    } else if part.encoding.eq_ignore_ascii_case(b"quoted-printable") {
        Cow::Owned(quoted_printable(raw, false))
    } else {
        Cow::Borrowed(raw)
    };
    let charset = part.parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(b"charset"));
    let text = charset_text(charset.map_or(b"utf-8", |(_, value)| value), &bytes);
    if look(&fold(&text)) {
        return true;
    }
    // What the reader of a web page sees: entities decoded, tags gone.
    part.content_type.1.eq_ignore_ascii_case(b"html") && look(&fold(&mail_parser::decoders::html::html_to_text(&text)))
}

/// Base64 with anything else passed over (RFC 2045, section 6.8). What follows padding is another piece: some programs join
/// pieces that were encoded one by one.
fn lenient_base64(text: &[u8]) -> Vec<u8> {
    const ENGINE: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let mut digits = Vec::new();
    for piece in text.split(|byte| *byte == b'=') {
        digits.clear();
        digits.extend(piece.iter().filter(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')));
        if digits.len() % 4 == 1 {
            digits.pop();
        }
        bytes.extend(ENGINE.decode(&digits).unwrap_or_default());
    }
    bytes
}

/// Quoted-printable (RFC 2045, section 6.7), or the Q encoding of RFC 2047, where `_` is a space.
fn quoted_printable(text: &[u8], q: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'=' => match tail {
                [b'\r', b'\n', after @ ..] | [b'\n', after @ ..] => rest = after,
                [high, low, after @ ..] => match (hex(*high), hex(*low)) {
                    (Some(high), Some(low)) => {
                        bytes.push(high << 4 | low);
                        rest = after;
                    }
                    _ => bytes.push(b'='),
                },
                _ => bytes.push(b'='),
            },
            b'_' if q => bytes.push(b' '),
            _ => bytes.push(byte),
        }
    }
    bytes
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// The day that a Date header names, its zone disregarded, counted from 1970-01-01.
pub(super) fn written_day(date: &[u8]) -> Option<i32> {
    let text = String::from_utf8_lossy(date);
    let date = mail_parser::DateTime::parse_rfc822(text.trim())?;
    if !(1..=12).contains(&date.month) || !(1..=31).contains(&date.day) {
        return None;
    }
    i32::try_from(date.to_timestamp_local().div_euclid(86_400)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_words_say_what_they_mean() {
        let cases: [(&[u8], &str); 11] = [
            (b"=?UTF-8?Q?J=C3=B6rg?= <j@example.org>", "Jörg <j@example.org>"),
            (b"a =?iso-8859-1?q?=E9t=E9?= b", "a été b"),
            (b"=?utf-8?B?SsO2?= =?utf-8?B?cmc=?=", "Jörg"),
            (b"=?utf-8?Q?J=C3?= =?utf-8?Q?=B6rg?=", "Jörg"),
            (b"=?utf-8*de?Q?gr=C3=BCn_ist?=", "grün ist"),
            (b"=?koi8-r?B?8NLJ18XU?=", "Привет"),
            (b"=?ISO-2022-JP?B?GyRCRnxLXBsoQg==?=", "日本"),
            (b"no =?word here", "no =?word here"),
            (b"=?x?z?y?= and =?utf-8?q?ok?=", "=?x?z?y?= and ok"),
            (b"=?utf-8?q?a?=x=?utf-8?q?b?=", "axb"),
            ("schön roh".as_bytes(), "schön roh"),
        ];
        for (raw, said) in cases {
            assert_eq!(encoded_words(raw), said, "{}", String::from_utf8_lossy(raw));
        }
    }

    #[test]
    fn folding_makes_spellings_the_same() {
        assert_eq!(fold("STRAẞE Ｆｕｌｌ"), fold("straße full"));
        assert_eq!(fold("E\u{301}tude"), fold("étude"));
        assert_eq!(fold("ΟΔΟΣ"), fold("οδος"));
        assert_eq!(fold("İ"), fold("i\u{307}"));
        assert_eq!(fold(&fold("ΐΰΣς ﬁ")), fold("ΐΰΣς ﬁ"));
    }

    #[test]
    fn broken_encodings_lose_little() {
        assert_eq!(lenient_base64(b"SGVs\r\nbG8=!"), b"Hello");
        assert_eq!(lenient_base64(b"SGVsbG8gd29ybGQ=SGVsbG8"), b"Hello worldHello");
        assert_eq!(quoted_printable(b"a=\r\nb=3D=zz=", false), b"ab==zz=");
    }

    #[test]
    fn the_date_header_counts_as_written() {
        assert_eq!(written_day(b"Thu, 01 Jan 1970 23:59:59 -1200"), Some(0));
        assert_eq!(written_day(b" 2 Jan 1970 00:00 +0000 (comment)"), Some(1));
        assert_eq!(written_day(b"Wed, 31 Dec 1969 10:00:00 GMT"), Some(-1));
        assert_eq!(written_day(b"Sun, 22 Nov 2026 22:47:42 +0000"), Some(20_779));
        assert_eq!(written_day(b"yesterday"), None);
        assert_eq!(written_day(b""), None);
    }
}
