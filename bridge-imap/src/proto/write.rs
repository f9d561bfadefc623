//! Writes the parts that responses are made of (RFC 3501, section 9).

use mesyx_sdk::{Flag, Flags, MailboxName};
use std::fmt::{self, Write as _};
use std::ops::RangeInclusive;

/// A buffer of response bytes that `write!` can fill; writing to it never fails.
#[derive(Default)]
pub(crate) struct Out(pub(crate) Vec<u8>);

impl fmt::Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

impl Out {
    /// Text made by `format_args!`.
    pub(crate) fn put(&mut self, text: fmt::Arguments<'_>) {
        // Writing to memory can't fail.
        let _ = self.write_fmt(text);
    }

    /// Text as it is.
    pub(crate) fn text(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    /// A number; the quick way for what stands in every response.
    pub(crate) fn number(&mut self, number: u64) {
        let mut digits = [0_u8; 20];
        let mut at = digits.len();
        let mut rest = number;
        loop {
            at -= 1;
            digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.0.extend_from_slice(&digits[at..]);
    }

    /// `string`: quoted where that can be, else a literal. NUL, which no IMAP string may hold, becomes 0x80.
    pub(crate) fn string(&mut self, bytes: &[u8]) {
        // A long quoted string is legal, but a literal is what clients expect of one.
        let quotable = bytes.len() <= 1000 && bytes.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
        if !quotable {
            return self.literal(bytes);
        }
        self.0.push(b'"');
        for &byte in bytes {
            if matches!(byte, b'"' | b'\\') {
                self.0.push(b'\\');
            }
            self.0.push(byte);
        }
        self.0.push(b'"');
    }

    /// The announcement of a literal, without its bytes.
    pub(crate) fn literal_head(&mut self, length: usize) {
        self.0.push(b'{');
        self.number(length as u64);
        self.text("}\r\n");
    }

    /// A literal. NUL becomes 0x80, so that the length stays.
    pub(crate) fn literal(&mut self, bytes: &[u8]) {
        self.literal_head(bytes.len());
        let start = self.0.len();
        self.0.extend_from_slice(bytes);
        replace_nul(&mut self.0[start..]);
    }

    /// `nstring`
    pub(crate) fn nstring(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.string(bytes),
            None => self.text("NIL"),
        }
    }

    /// A mailbox name: modified UTF-7, or quoted UTF-8 where the client enabled that (RFC 9755, section 3).
    pub(crate) fn mailbox(&mut self, name: &MailboxName, utf8: bool) {
        if !utf8 {
            return self.string(super::utf7::encode(name.as_str()).as_bytes());
        }
        self.0.push(b'"');
        for &byte in name.as_str().as_bytes() {
            if matches!(byte, b'"' | b'\\') {
                self.0.push(b'\\');
            }
            self.0.push(byte);
        }
        self.0.push(b'"');
    }

    /// Flags in parentheses.
    pub(crate) fn flags(&mut self, flags: &Flags, recent: bool) {
        self.0.push(b'(');
        for (index, flag) in flags.iter().map(Flag::as_str).chain(recent.then_some("\\Recent")).enumerate() {
            if index > 0 {
                self.0.push(b' ');
            }
            self.text(flag);
        }
        self.0.push(b')');
    }

    /// A `sequence-set` of ranges that are in order. Empty ranges make no valid set: ask first.
    pub(crate) fn ranges(&mut self, ranges: &[RangeInclusive<u32>]) {
        for (index, range) in ranges.iter().enumerate() {
            if index > 0 {
                self.0.push(b',');
            }
            self.number((*range.start()).into());
            if range.start() != range.end() {
                self.0.push(b':');
                self.number((*range.end()).into());
            }
        }
    }
}

/// NUL is no byte of an IMAP literal (RFC 3501, section 9, `CHAR8`).
pub(crate) fn replace_nul(bytes: &mut [u8]) {
    if bytes.contains(&0) {
        bytes.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = 0x80);
    }
}

/// Text that is fit for the rest of a response line: one line of printable ASCII, not empty.
pub(crate) fn line_text(text: &str) -> String {
    let clean: String = text.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).take(400).collect();
    if clean.trim().is_empty() { "failed".into() } else { clean }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::grammar;
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut Out)) -> String {
        let mut out = Out::default();
        write(&mut out);
        String::from_utf8_lossy(&out.0).into_owned()
    }

    #[test]
    fn strings_are_quoted_where_they_can_be() {
        assert_eq!(written(|out| out.string(b"a \"b\" \\c\t")), "\"a \\\"b\\\" \\\\c\t\"");
        assert_eq!(written(|out| out.string(b"")), "\"\"");
        assert_eq!(written(|out| out.string(b"a\r\nb")), "{4}\r\na\r\nb");
        assert_eq!(written(|out| out.string("é".as_bytes())), "{2}\r\né");
    }

    #[test]
    fn nul_never_goes_out() {
        let mut out = Out::default();
        out.string(b"a\0b");
        assert_eq!(out.0, b"{3}\r\na\x80b");
    }

    #[test]
    fn numbers() {
        assert_eq!(written(|out| out.number(0)), "0");
        assert_eq!(written(|out| out.number(u64::MAX)), u64::MAX.to_string());
    }

    proptest! {
        #[test]
        fn strings_read_back(bytes in proptest::collection::vec(1_u8.., 0..1500)) {
            let mut out = Out::default();
            out.text("a LOGIN x ");
            out.string(&bytes);
            let command = grammar::parse(&out.0).expect("a command");
            let crate::proto::command::Body::Login { password, .. } = command.body else { panic!("{command:?}") };
            prop_assert_eq!(password.expose(), bytes);
        }
    }
}
