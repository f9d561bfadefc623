//! Command lines: ended by CRLF and nothing else, limited in length, never buffered beyond the limit.

use memchr::memchr2;
use zeroize::Zeroizing;

/// Longest command line with its CRLF (RFC 5321, section 4.5.3.1.4).
pub const MAX_LINE: usize = 512;
/// Longest MAIL or RCPT line: the base and what SIZE, 8BITMIME, SMTPUTF8, AUTH and DSN add (RFC 1870, 6152, 6531, 4954, 3461).
pub const MAX_ENVELOPE_LINE: usize = MAX_LINE + 1024;
/// Longest AUTH line and longest line of an exchange (RFC 4954, section 4).
pub const MAX_AUTH_LINE: usize = 12_288;

/// What the reader found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// A line, without its CRLF.
    Whole(&'a [u8]),
    /// A line that was over the limit ended here; it was not kept.
    TooLong,
    /// A CR or LF that is no part of a CRLF.
    BareLineEnd,
    /// No line ends in the input; all of it was consumed.
    More,
}

/// Cuts a stream into lines.
#[derive(Debug, Default)]
pub(crate) struct LineReader {
    /// The line's beginning, from earlier input; may end in CR. It may hold a password.
    partial: Zeroizing<Vec<u8>>,
    /// The last line handed out was in `partial`.
    spent: bool,
    /// The line is over its limit: only its end is looked for, and `partial` holds at most a CR.
    skipping: bool,
}

impl LineReader {
    /// The next line of `input`, which moves on behind it. `limit` gives the most bytes for a line with CRLF that begins so.
    pub(crate) fn next<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8], limit: impl Fn(&[u8]) -> usize) -> Line<'a> {
        if std::mem::take(&mut self.spent) {
            self.partial.clear();
        }
        let buffer = *input;
        let Some(&first) = buffer.first() else { return Line::More };
        if self.partial.last() == Some(&b'\r') {
            if first != b'\n' {
                return Line::BareLineEnd;
            }
            *input = &buffer[1..];
            self.partial.pop();
            return self.whole_partial(limit);
        }
        let Some(at) = memchr2(b'\r', b'\n', buffer) else {
            *input = &[];
            self.keep(buffer, limit);
            return Line::More;
        };
        if buffer[at] == b'\n' {
            return Line::BareLineEnd;
        }
        match buffer.get(at + 1) {
            None => {
                *input = &[];
                self.keep(&buffer[..at], limit);
                self.partial.push(b'\r');
                Line::More
            }
            Some(b'\n') => {
                *input = &buffer[at + 2..];
                if self.partial.is_empty() && !self.skipping {
                    let line = &buffer[..at];
                    return if at + 2 > limit(line) { Line::TooLong } else { Line::Whole(line) };
                }
                self.keep(&buffer[..at], &limit);
                self.whole_partial(limit)
            }
            Some(_) => Line::BareLineEnd,
        }
    }

    fn whole_partial(&mut self, limit: impl Fn(&[u8]) -> usize) -> Line<'_> {
        if std::mem::take(&mut self.skipping) || self.partial.len() + 2 > limit(&self.partial) {
            self.partial.clear();
            return Line::TooLong;
        }
        self.spent = true;
        Line::Whole(&self.partial)
    }

    fn keep(&mut self, piece: &[u8], limit: impl Fn(&[u8]) -> usize) {
        if self.skipping {
            return;
        }
        // The limit depends on the verb, so a short beginning is kept before it is asked for.
        let head = piece.len().min(MAX_LINE.saturating_sub(self.partial.len()));
        self.partial.extend_from_slice(&piece[..head]);
        if self.partial.len() + (piece.len() - head) > limit(&self.partial) {
            self.skipping = true;
            self.partial = Zeroizing::default();
            return;
        }
        self.partial.extend_from_slice(&piece[head..]);
    }
}

/// The limit of a line that begins with `line`.
pub(crate) fn command_limit(line: &[u8]) -> usize {
    let verb = |name: &[u8]| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    if verb(b"AUTH ") {
        MAX_AUTH_LINE
    } else if verb(b"MAIL ") || verb(b"RCPT ") {
        MAX_ENVELOPE_LINE
    } else {
        MAX_LINE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Lines, `None` for one that was too long; and whether a bare line end stopped the reading.
    fn read(pieces: &[&[u8]]) -> (Vec<Option<Vec<u8>>>, bool) {
        let mut reader = LineReader::default();
        let mut lines = Vec::new();
        for piece in pieces {
            let mut input = *piece;
            loop {
                match reader.next(&mut input, command_limit) {
                    Line::Whole(line) => lines.push(Some(line.to_vec())),
                    Line::TooLong => lines.push(None),
                    Line::BareLineEnd => return (lines, true),
                    Line::More => break,
                }
            }
            assert!(input.is_empty());
            assert!(reader.partial.len() <= MAX_AUTH_LINE);
        }
        (lines, false)
    }

    #[test]
    fn only_crlf_ends_a_line() {
        assert_eq!(read(&[b"NOOP\r\nQUIT\r\n"]), (vec![Some(b"NOOP".to_vec()), Some(b"QUIT".to_vec())], false));
        for bad in [&b"NOOP\nQUIT\r\n"[..], b"NOOP\rQUIT\r\n", b"NOOP\r\rQUIT\r\n", b"NOOP\r\r\n", b"\n"] {
            assert_eq!(read(&[bad]), (vec![], true), "{bad:?}");
        }
    }

    #[test]
    fn limits_hold_to_the_byte() {
        for (verb, limit) in [("NOOP ", MAX_LINE), ("MAIL ", MAX_ENVELOPE_LINE), ("auth ", MAX_AUTH_LINE)] {
            let fits = format!("{verb}{}\r\n", "x".repeat(limit - verb.len() - 2));
            let over = format!("{verb}{}\r\n", "x".repeat(limit - verb.len() - 1));
            assert_eq!(read(&[fits.as_bytes()]).0, [Some(fits.trim_end().as_bytes().to_vec())]);
            assert_eq!(read(&[over.as_bytes()]).0, [None]);
        }
    }

    #[test]
    fn a_line_without_end_is_not_kept() {
        let mut reader = LineReader::default();
        for _ in 0..1000 {
            let mut input = &[b'x'; 4096][..];
            assert_eq!(reader.next(&mut input, command_limit), Line::More);
            assert!(reader.partial.capacity() <= MAX_AUTH_LINE);
        }
    }

    proptest! {
        #[test]
        fn any_cutting_gives_the_same_lines(
            text in prop::collection::vec(prop_oneof![
                5 => "[A-Z ]{0,12}\r\n".prop_map(String::into_bytes),
                1 => "(AUTH|MAIL|NOOP) x{0,2000}\r\n".prop_map(String::into_bytes),
                1 => "[\r\nA]{1,3}".prop_map(String::into_bytes),
            ], 0..12),
            cuts in prop::collection::vec(1_usize..700, 1..40),
        ) {
            let text = text.concat();
            let mut pieces = Vec::new();
            let mut rest = &text[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            prop_assert_eq!(read(&pieces), read(&[&text]));
        }
    }
}
