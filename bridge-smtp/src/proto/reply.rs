//! Replies: a code, an enhanced code, one line of text (RFC 5321, section 4.2; RFC 2034).

use mesyx_sdk::{Error, ErrorKind};
use std::borrow::Cow;

/// One reply of a single line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The basic code.
    pub code: u16,
    /// The enhanced code (RFC 3463), where the reply has one; its class is that of `code`.
    pub enhanced: Option<&'static str>,
    /// What follows the codes.
    pub text: Cow<'static, str>,
}

impl Reply {
    /// Longest text in bytes; keeps the whole line under the 512 bytes of RFC 5321, section 4.5.3.1.5.
    pub const MAX_TEXT: usize = 480;

    /// A reply with an enhanced code.
    #[must_use]
    pub fn new(code: u16, enhanced: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, enhanced: Some(enhanced), text: text.into() }
    }

    /// A reply that never has an enhanced code: the greeting, and the 3xx.
    #[must_use]
    pub fn plain(code: u16, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, enhanced: None, text: text.into() }
    }

    /// Whether it says no.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        self.code >= 400
    }

    /// Appends the reply's line to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        push_code(out, self.code);
        out.push(b' ');
        if let Some(enhanced) = self.enhanced {
            out.extend_from_slice(enhanced.as_bytes());
            out.push(b' ');
        }
        push_text(out, &self.text);
        out.extend_from_slice(b"\r\n");
    }

    /// What is told to the peer when the host did not take a message.
    #[must_use]
    pub fn of_error(error: &Error) -> Self {
        let (code, enhanced) = match error.kind() {
            ErrorKind::NotFound => (550, "5.1.1"),
            ErrorKind::Forbidden => (550, "5.7.1"),
            ErrorKind::Invalid => (554, "5.6.0"),
            ErrorKind::TooLarge => (552, "5.3.4"),
            ErrorKind::OverQuota => (452, "4.2.2"),
            ErrorKind::Full => (452, "4.3.1"),
            ErrorKind::TooMany => (451, "4.7.0"),
            // The operator's mistake must not cost anybody a message.
            ErrorKind::NotGranted => (451, "4.3.5"),
            _ => (451, "4.3.0"),
        };
        Self::new(code, enhanced, error.message().to_owned())
    }
}

/// Appends a reply of several lines without enhanced codes (the answer to EHLO).
pub(crate) fn write_lines<'a>(out: &mut Vec<u8>, code: u16, lines: impl IntoIterator<Item = Cow<'a, str>>) {
    let mut lines = lines.into_iter().peekable();
    while let Some(line) = lines.next() {
        push_code(out, code);
        out.push(if lines.peek().is_some() { b'-' } else { b' ' });
        push_text(out, &line);
        out.extend_from_slice(b"\r\n");
    }
}

fn push_code(out: &mut Vec<u8>, code: u16) {
    let digit = |value: u16| b'0' + u8::try_from(value % 10).unwrap_or(0);
    out.extend_from_slice(&[digit(code / 100), digit(code / 10), digit(code)]);
}

/// Nothing in a text can end the line or leave ASCII, wherever the text came from.
fn push_text(out: &mut Vec<u8>, text: &str) {
    out.extend(text.chars().take(Reply::MAX_TEXT).map(|c| match c {
        ' '..='~' => c as u8,
        _ => b'?',
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(reply: &Reply) -> String {
        let mut out = Vec::new();
        reply.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_text_can_not_make_a_second_line() {
        let reply = Reply::new(550, "5.1.1", "no\r\n250 2.0.0 yes\0é".to_owned());
        assert_eq!(written(&reply), "550 5.1.1 no??250 2.0.0 yes??\r\n");
    }

    #[test]
    fn a_long_text_is_cut() {
        assert!(written(&Reply::new(451, "4.3.0", "x".repeat(5000))).len() <= 512);
    }

    #[test]
    fn every_line_but_the_last_has_a_hyphen() {
        let mut out = Vec::new();
        write_lines(&mut out, 250, ["a".into(), "b".into()]);
        assert_eq!(out, b"250-a\r\n250 b\r\n");
    }

    #[test]
    fn temporary_errors_are_4xx_and_lasting_ones_5xx() {
        use ErrorKind::*;
        for kind in [OverQuota, Full, TooMany, Unavailable, NotGranted] {
            assert_eq!(Reply::of_error(&Error::new(kind, "x")).code / 100, 4, "{kind:?}");
        }
        for kind in [NotFound, Forbidden, Invalid, TooLarge] {
            assert_eq!(Reply::of_error(&Error::new(kind, "x")).code / 100, 5, "{kind:?}");
        }
    }
}
