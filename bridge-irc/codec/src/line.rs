//! Reading one line.

use crate::tags::Tags;
use std::borrow::Cow;

/// How long a line may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the tags, with the `@` in front and the space behind.
    pub tags: usize,
    /// Bytes of the rest, without the line end.
    pub rest: usize,
}

impl Limits {
    /// What a client may send: 4,094 bytes of tags between `@` and the space, and 512 bytes with CR LF.
    pub const FROM_CLIENT: Self = Self { tags: 4096, rest: 510 };
    /// What a server may send: 8,191 bytes of tags, and 512 bytes with CR LF.
    pub const FROM_SERVER: Self = Self { tags: 8191, rest: 510 };

    /// The longest line of these limits, without its end.
    #[must_use]
    pub const fn whole(self) -> usize {
        self.tags + self.rest
    }
}

/// Most parameters of a line (RFC 2812, section 2.3). The last takes in whatever follows.
pub const MOST_PARAMETERS: usize = 15;

/// One line, as it was read. Nothing is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// The tags.
    pub tags: Tags<'a>,
    /// Who it comes from, where it says so. What a client says of itself there counts for nothing.
    pub source: Option<Source<'a>>,
    /// The command: letters, or three digits. Compare with [`Line::is`].
    pub command: &'a [u8],
    /// The parameters, at most 15; the last may be empty and hold spaces.
    pub parameters: Vec<&'a [u8]>,
}

/// Who a line comes from: a server, or `nick!user@host`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source<'a> {
    /// All of it.
    pub whole: &'a [u8],
    /// The nick, or the server's name.
    pub name: &'a [u8],
    /// The user name.
    pub user: Option<&'a [u8]>,
    /// The host.
    pub host: Option<&'a [u8]>,
}

impl<'a> Source<'a> {
    /// Takes `nick!user@host` apart; `!user` and `@host` may be missing.
    #[must_use]
    pub fn of(whole: &'a [u8]) -> Self {
        let (front, host) = match whole.iter().rposition(|byte| *byte == b'@') {
            Some(at) => (&whole[..at], Some(&whole[at + 1..])),
            None => (whole, None),
        };
        let (name, user) = match front.iter().position(|byte| *byte == b'!') {
            Some(at) => (&front[..at], Some(&front[at + 1..])),
            None => (front, None),
        };
        Self { whole, name, user, host }
    }
}

/// Why a line can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// There is no command in it. Such lines are passed over in silence.
    #[error("the line is empty")]
    Empty,
    /// It holds CR, LF or NUL.
    #[error("the line holds CR, LF or NUL")]
    Control,
    /// Tags or rest are longer than the limit (numeric 417).
    #[error("the line is too long")]
    TooLong,
    /// The command is neither letters nor three digits.
    #[error("the command is neither letters nor three digits")]
    Command,
}

impl<'a> Line<'a> {
    /// Reads a line without its end.
    ///
    /// # Errors
    /// See [`ParseError`].
    pub fn parse(line: &'a [u8], limits: Limits) -> Result<Self, ParseError> {
        if line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Err(ParseError::Control);
        }
        let (tags, rest) = match line.strip_prefix(b"@") {
            Some(after) => {
                let end = after.iter().position(|byte| *byte == b' ').unwrap_or(after.len());
                if end + 2 > limits.tags {
                    return Err(ParseError::TooLong);
                }
                (Tags::new(&after[..end]), skip_spaces(&after[end..]))
            }
            None => (Tags::default(), skip_spaces(line)),
        };
        if rest.len() > limits.rest {
            return Err(ParseError::TooLong);
        }
        let (source, rest) = match rest.strip_prefix(b":") {
            Some(after) => {
                let (whole, rest) = word(after);
                (Some(Source::of(whole)), rest)
            }
            None => (None, rest),
        };
        let (command, mut rest) = word(rest);
        match command {
            [] => return Err(ParseError::Empty),
            [a, b, c] if [a, b, c].iter().all(|byte| byte.is_ascii_digit()) => {}
            letters if letters.iter().all(u8::is_ascii_alphabetic) => {}
            _ => return Err(ParseError::Command),
        }
        let mut parameters = Vec::with_capacity(4);
        while !rest.is_empty() {
            if let Some(trailing) = rest.strip_prefix(b":") {
                parameters.push(trailing);
                break;
            }
            if parameters.len() + 1 == MOST_PARAMETERS {
                parameters.push(rest);
                break;
            }
            let (parameter, after) = word(rest);
            parameters.push(parameter);
            rest = after;
        }
        Ok(Self { tags, source, command, parameters })
    }

    /// Whether it is this command, whatever the case.
    #[must_use]
    pub fn is(&self, command: &str) -> bool {
        self.command.eq_ignore_ascii_case(command.as_bytes())
    }

    /// The numeric, where the command is one.
    #[must_use]
    pub fn numeric(&self) -> Option<u16> {
        let text = std::str::from_utf8(self.command).ok()?;
        text.as_bytes().first()?.is_ascii_digit().then(|| text.parse().ok())?
    }

    /// A parameter as bytes; empty where there is none at that place.
    #[must_use]
    pub fn parameter(&self, at: usize) -> &'a [u8] {
        self.parameters.get(at).copied().unwrap_or_default()
    }

    /// A parameter as text, with U+FFFD for what is no UTF-8.
    #[must_use]
    pub fn text(&self, at: usize) -> Cow<'a, str> {
        String::from_utf8_lossy(self.parameter(at))
    }
}

fn skip_spaces(bytes: &[u8]) -> &[u8] {
    let spaces = bytes.iter().take_while(|byte| **byte == b' ').count();
    &bytes[spaces..]
}

/// The first word, and what follows the spaces behind it.
fn word(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b' ').unwrap_or(bytes.len());
    (&bytes[..end], skip_spaces(&bytes[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(line: &str) -> Result<Line<'_>, ParseError> {
        Line::parse(line.as_bytes(), Limits::FROM_SERVER)
    }

    #[test]
    fn takes_a_line_apart() {
        let line = read("@time=2026-01-01T00:00:00.000Z;+x=a\\sb :al!u@h PRIVMSG  #c :hi  there").unwrap();
        assert_eq!(line.tags.get("+x").unwrap(), "a b");
        let source = line.source.unwrap();
        assert_eq!((source.name, source.user, source.host), (&b"al"[..], Some(&b"u"[..]), Some(&b"h"[..])));
        assert!(line.is("privmsg"));
        assert_eq!(line.parameters, [&b"#c"[..], b"hi  there"]);
    }

    #[test]
    fn a_trailing_parameter_may_be_empty_or_begin_with_a_colon() {
        assert_eq!(read("TOPIC #c :").unwrap().parameters, [&b"#c"[..], b""]);
        assert_eq!(read("TOPIC #c ::x").unwrap().parameters, [&b"#c"[..], b":x"]);
        assert_eq!(read("MODE #c ").unwrap().parameters, [b"#c"]);
    }

    #[test]
    fn the_fifteenth_parameter_takes_in_the_rest() {
        let line = read("X 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16").unwrap();
        assert_eq!(line.parameters.len(), 15);
        assert_eq!(line.parameter(14), b"15 16");
    }

    #[test]
    fn what_is_no_line_is_told_apart() {
        assert_eq!(read(""), Err(ParseError::Empty));
        assert_eq!(read("   "), Err(ParseError::Empty));
        assert_eq!(read(":only.a.source"), Err(ParseError::Empty));
        assert_eq!(read("PRIVMSG #c :a\rQUIT"), Err(ParseError::Control));
        assert_eq!(read("PRIV-MSG x"), Err(ParseError::Command));
        assert_eq!(read("1234 x"), Err(ParseError::Command));
        assert_eq!(read("12 x"), Err(ParseError::Command));
    }

    #[test]
    fn limits_hold_to_the_byte() {
        let limits = Limits::FROM_CLIENT;
        let line = |tags: usize, rest: usize| {
            let mut line = Vec::new();
            if tags > 0 {
                line.push(b'@');
                line.extend(vec![b'a'; tags]);
                line.push(b' ');
            }
            line.extend(vec![b'A'; rest]);
            Line::parse(&line, limits).map(|_| ())
        };
        assert_eq!(line(0, 510), Ok(()));
        assert_eq!(line(0, 511), Err(ParseError::TooLong));
        assert_eq!(line(4094, 510), Ok(()));
        assert_eq!(line(4095, 510), Err(ParseError::TooLong));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
            if let Ok(line) = Line::parse(&bytes, Limits::FROM_CLIENT) {
                prop_assert!(line.parameters.len() <= MOST_PARAMETERS);
                for parameter in line.parameters.iter().rev().skip(1) {
                    prop_assert!(!parameter.is_empty() && !parameter.contains(&b' ') && parameter[0] != b':');
                }
            }
        }
    }
}
