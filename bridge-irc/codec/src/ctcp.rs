//! CTCP: what clients ask each other within messages.

/// The byte that CTCP stands between.
const MARK: u8 = 1;

/// A CTCP message within the text of a PRIVMSG (a question) or NOTICE (its answer).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ctcp<'a> {
    /// `ACTION`, `VERSION`, `PING`, …; compare without regard to case.
    pub command: &'a [u8],
    /// What follows, without the space.
    pub text: &'a [u8],
}

impl<'a> Ctcp<'a> {
    /// Reads a message's text; `None` where it is no CTCP. The mark at the end may be missing, as where a server cut the line.
    #[must_use]
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let inner = text.strip_prefix(&[MARK])?;
        let inner = inner.strip_suffix(&[MARK]).unwrap_or(inner);
        let end = inner.iter().position(|byte| *byte == b' ').unwrap_or(inner.len());
        let (command, text) = (&inner[..end], inner.get(end + 1..).unwrap_or_default());
        (!command.is_empty()).then_some(Self { command, text })
    }

    /// Whether it is this command.
    #[must_use]
    pub fn is(&self, command: &str) -> bool {
        self.command.eq_ignore_ascii_case(command.as_bytes())
    }
}

/// The text of a message that carries this CTCP. Marks within `text` are left out.
#[must_use]
pub fn write(command: &str, text: &[u8]) -> Vec<u8> {
    let mut message = vec![MARK];
    message.extend(command.bytes().filter(u8::is_ascii_graphic));
    if !text.is_empty() {
        message.push(b' ');
        message.extend(text.iter().filter(|byte| **byte != MARK));
    }
    message.push(MARK);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_comes_back() {
        let written = write("ACTION", b"waves\x01");
        assert_eq!(written, b"\x01ACTION waves\x01");
        let read = Ctcp::parse(&written).unwrap();
        assert!(read.is("action"));
        assert_eq!(read.text, b"waves");
    }

    #[test]
    fn a_cut_one_is_read_and_others_are_not() {
        assert_eq!(Ctcp::parse(b"\x01PING 12").unwrap().text, b"12");
        assert_eq!(Ctcp::parse(b"\x01VERSION\x01").unwrap().text, b"");
        assert_eq!(Ctcp::parse(b"hello"), None);
        assert_eq!(Ctcp::parse(b"\x01\x01"), None);
        assert_eq!(Ctcp::parse(b""), None);
    }
}
