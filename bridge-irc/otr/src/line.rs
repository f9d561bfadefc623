//! What kind of line a peer sent: plain text with or without a tag, a query, an error, a fragment, or an encoded
//! message. And the lines of those kinds that we send.

use crate::event::TagPlace;
use crate::{limits, message};

/// Says "OTR is spoken here" to clients that look for it and is invisible to people.
const TAG_BASE: &[u8; 16] = b" \t  \t\t\t\t \t \t \t  ";
const TAG_V1: &[u8; 8] = b" \t \t  \t ";
const TAG_V2: &[u8; 8] = b"  \t\t  \t ";
const TAG_V3: &[u8; 8] = b"  \t\t  \t\t";
/// Ends mIRC formatting; here, a line that would otherwise end in blanks.
const FORMATTING_OFF: &[u8] = b"\x0f";
const ERROR: &[u8] = b"?OTR Error:";
const QUERY: &[u8] = b"?OTR";

/// The versions that a query or a tag offers, as far as we know them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Versions {
    pub(crate) v1: bool,
    pub(crate) v2: bool,
    pub(crate) v3: bool,
}

/// A line, by its form.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    Plain(&'a [u8]),
    /// Plain text that had a tag, which is taken out.
    Tagged(Vec<u8>, Versions),
    Query(Versions),
    Error(&'a [u8]),
    Encoded(&'a [u8]),
    Fragment(&'a [u8]),
}

/// OTR's own lines are recognised at the beginning only, so that a quotation in the middle of a text stays text.
pub(crate) fn classify(line: &[u8]) -> Line<'_> {
    if line.starts_with(message::PREFIX) {
        Line::Encoded(line)
    } else if line.starts_with(b"?OTR,") || line.starts_with(b"?OTR|") {
        Line::Fragment(line)
    } else if let Some(text) = line.strip_prefix(ERROR) {
        Line::Error(text.trim_ascii())
    } else if let Some(versions) = line.strip_prefix(QUERY).and_then(query) {
        Line::Query(versions)
    } else {
        tagged(line).map_or(Line::Plain(line), |(text, versions)| Line::Tagged(text, versions))
    }
}

/// What follows `?OTR`: a question mark offers version 1; `v`, version digits and a question mark offer those.
fn query(rest: &[u8]) -> Option<Versions> {
    let mut versions = Versions::default();
    let rest = match rest.strip_prefix(b"?") {
        Some(rest) => {
            versions.v1 = true;
            rest
        }
        None => rest,
    };
    let Some(list) = rest.strip_prefix(b"v") else { return versions.v1.then_some(versions) };
    let end = list.iter().position(|&byte| byte == b'?');
    let Some(end) = end else { return versions.v1.then_some(versions) };
    versions.v2 = list[..end].contains(&b'2');
    versions.v3 = list[..end].contains(&b'3');
    Some(versions)
}

/// Takes the tag out: the base, wherever it stands, and every group of eight blanks after it.
fn tagged(line: &[u8]) -> Option<(Vec<u8>, Versions)> {
    let start = line.windows(TAG_BASE.len()).position(|window| window == TAG_BASE)?;
    let mut rest = &line[start + TAG_BASE.len()..];
    let mut versions = Versions::default();
    while let Some((group, after)) = rest.split_first_chunk::<8>() {
        match group {
            TAG_V1 => versions.v1 = true,
            TAG_V2 => versions.v2 = true,
            TAG_V3 => versions.v3 = true,
            unknown if unknown.iter().all(|byte| matches!(byte, b' ' | b'\t')) => {}
            _ => break,
        }
        rest = after;
    }
    // What we put behind a tag at the end, another of us takes away.
    if start > 0 && rest == FORMATTING_OFF {
        rest = &[];
    }
    Some(([&line[..start], rest].concat(), versions))
}

/// A text with our tag.
pub(crate) fn with_tag(text: &[u8], place: TagPlace) -> Vec<u8> {
    match place {
        TagPlace::Leading => [TAG_BASE, TAG_V2.as_slice(), TAG_V3, text].concat(),
        TagPlace::Trailing => [text, TAG_BASE, TAG_V2, TAG_V3, FORMATTING_OFF].concat(),
    }
}

/// Our query, with a sentence for people whose client does not know it.
pub(crate) fn our_query(sentence: &str, max: Option<usize>) -> Vec<u8> {
    with_sentence("?OTRv23?", sentence, max)
}

/// An error for the peer.
pub(crate) fn our_error(sentence: &str, max: Option<usize>) -> Vec<u8> {
    with_sentence("?OTR Error:", sentence, max)
}

/// One line, whatever the sentence holds, cut to the length of a line.
fn with_sentence(head: &str, sentence: &str, max: Option<usize>) -> Vec<u8> {
    let mut line = format!("{head} {sentence}").replace(char::is_control, " ");
    if let Some(max) = max {
        line.truncate(line.floor_char_boundary(max.max(limits::MIN_LINE)));
    }
    line.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: Versions = Versions { v1: true, v2: false, v3: false };
    const V12: Versions = Versions { v1: true, v2: true, v3: false };
    const V23: Versions = Versions { v1: false, v2: true, v3: true };

    #[test]
    fn queries() {
        for (line, versions) in [
            (&b"?OTR?"[..], V1),
            (b"?OTR? text", V1),
            (b"?OTR?v2?", V12),
            (b"?OTRv23?", V23),
            (b"?OTRv23? Some sentence? v9", V23),
            (b"?OTRv32x?", V23),
            (b"?OTRv?", Versions::default()),
        ] {
            assert_eq!(classify(line), Line::Query(versions), "{}", line.escape_ascii());
        }
        for line in [&b"?OTR"[..], b"?OTRv23", b"?OTRx", b"see ?OTRv23?", b"?otrv23?"] {
            assert_eq!(classify(line), Line::Plain(line));
        }
    }

    #[test]
    fn a_tag_is_found_and_taken_out_wherever_it_stands() {
        let tag = with_tag(b"", TagPlace::Leading);
        for (line, text) in [
            (with_tag(b"hello", TagPlace::Leading), &b"hello"[..]),
            (with_tag(b"hello", TagPlace::Trailing), b"hello"),
            ([b"hello", &tag[..]].concat(), b"hello"),
            ([b"hel", &tag[..], b"lo"].concat(), b"hello"),
            (tag.clone(), b""),
        ] {
            assert_eq!(classify(&line), Line::Tagged(text.to_vec(), V23));
        }
        assert_eq!(classify(TAG_BASE), Line::Tagged(vec![], Versions::default()));
        assert_eq!(classify(&tag[..15]), Line::Plain(&tag[..15]));
    }

    #[test]
    fn our_sentences_stay_on_one_line_of_the_right_length() {
        assert_eq!(our_query("a\r\nQUIT", None), b"?OTRv23? a  QUIT");
        let long = our_error(&"\u{e4}".repeat(100), Some(0));
        assert_eq!((long.len(), str::from_utf8(&long).is_ok()), (limits::MIN_LINE, true));
    }

    #[test]
    fn the_tag_is_the_one_of_the_specification() {
        let bits = |bytes: &[u8]| bytes.iter().map(|b| if *b == b'\t' { '1' } else { '0' }).collect::<String>();
        assert_eq!(bits(TAG_BASE), "0100111101010100");
        assert_eq!(bits(TAG_V1), "01010010");
        assert_eq!(bits(TAG_V2), "00110010");
        assert_eq!(bits(TAG_V3), "00110011");
    }
}
