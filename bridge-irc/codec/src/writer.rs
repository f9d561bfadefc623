//! Writing one line.

use crate::line::MOST_PARAMETERS;
use crate::tags::escape;
use crate::{Limits, split};

/// Makes one line. Whatever is given to it, what comes out is exactly one line with exactly these parameters.
#[derive(Debug, Clone)]
pub struct Writer {
    tags: Vec<u8>,
    rest: Vec<u8>,
    parameters: usize,
    trailing: bool,
}

/// Why a line can't be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// CR, LF or NUL.
    #[error("a part of the line holds CR, LF or NUL")]
    Control,
    /// A parameter before the last is empty, holds a space, or begins with a colon.
    #[error("a parameter before the last is empty, holds a space or begins with a colon")]
    Parameter,
    /// The command or a tag's key is not what one may be.
    #[error("the command or the key of a tag is none")]
    Name,
    /// More than 15 parameters, or one after the trailing one.
    #[error("there are more parameters than a line has room for")]
    Parameters,
    /// Longer than the limit.
    #[error("the line is too long")]
    TooLong,
}

impl Writer {
    /// A line with this command.
    ///
    /// # Errors
    /// [`WriteError::Name`] where it is neither letters nor digits.
    pub fn new(command: &str) -> Result<Self, WriteError> {
        Self::from(None, command)
    }

    /// A line from somebody: `nick!user@host`, or a server's name.
    ///
    /// # Errors
    /// [`WriteError::Parameter`] for a source with a space, [`WriteError::Control`], [`WriteError::Name`].
    pub fn from(source: Option<&[u8]>, command: &str) -> Result<Self, WriteError> {
        let mut rest = Vec::with_capacity(128);
        if let Some(source) = source {
            check(source)?;
            if source.is_empty() || source.contains(&b' ') {
                return Err(WriteError::Parameter);
            }
            rest.push(b':');
            rest.extend_from_slice(source);
            rest.push(b' ');
        }
        if command.is_empty() || !command.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(WriteError::Name);
        }
        rest.extend_from_slice(command.as_bytes());
        Ok(Self { tags: Vec::new(), rest, parameters: 0, trailing: false })
    }

    /// Adds a tag; its value is escaped.
    ///
    /// # Errors
    /// [`WriteError::Name`] for a key with other than letters, digits and `+ - . /`; [`WriteError::Control`] for a NUL in the value.
    pub fn tag(mut self, key: &str, value: &str) -> Result<Self, WriteError> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b'/');
        if key.is_empty() || !key.bytes().all(good) {
            return Err(WriteError::Name);
        }
        if value.contains('\0') {
            return Err(WriteError::Control);
        }
        self.tags.push(if self.tags.is_empty() { b'@' } else { b';' });
        self.tags.extend_from_slice(key.as_bytes());
        if !value.is_empty() {
            self.tags.push(b'=');
            escape(value, &mut self.tags);
        }
        Ok(self)
    }

    /// Adds a parameter that may not be taken for more than one.
    ///
    /// # Errors
    /// [`WriteError::Parameter`], [`WriteError::Control`], [`WriteError::Parameters`].
    pub fn parameter(mut self, parameter: &[u8]) -> Result<Self, WriteError> {
        check(parameter)?;
        if parameter.is_empty() || parameter[0] == b':' || parameter.contains(&b' ') {
            return Err(WriteError::Parameter);
        }
        self.room()?;
        self.rest.push(b' ');
        self.rest.extend_from_slice(parameter);
        Ok(self)
    }

    /// Adds the last parameter: any text of one line.
    ///
    /// # Errors
    /// [`WriteError::Control`], [`WriteError::Parameters`].
    pub fn trailing(mut self, text: &[u8]) -> Result<Self, WriteError> {
        check(text)?;
        self.room()?;
        self.trailing = true;
        self.rest.extend_from_slice(b" :");
        self.rest.extend_from_slice(text);
        Ok(self)
    }

    fn room(&mut self) -> Result<(), WriteError> {
        if self.trailing || self.parameters == MOST_PARAMETERS {
            return Err(WriteError::Parameters);
        }
        self.parameters += 1;
        Ok(())
    }

    /// Bytes of the line without tags and line end: what the limit of 510 counts.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.rest.len()
    }

    /// The line, with CR LF.
    ///
    /// # Errors
    /// [`WriteError::TooLong`].
    pub fn finish(self, limits: Limits) -> Result<Vec<u8>, WriteError> {
        if self.rest.len() > limits.rest {
            return Err(WriteError::TooLong);
        }
        self.join(limits)
    }

    /// The line, with CR LF; where it is too long, the end of its last parameter is cut off, between two characters. This is what
    /// a server does to a line that its own prefix made too long; what must not be lost is split before (see [`crate::split`]).
    ///
    /// # Errors
    /// [`WriteError::TooLong`] where the tags are.
    pub fn finish_cut(mut self, limits: Limits) -> Result<Vec<u8>, WriteError> {
        if self.rest.len() > limits.rest {
            let end = split::boundary(&self.rest, limits.rest);
            self.rest.truncate(end);
        }
        self.join(limits)
    }

    fn join(self, limits: Limits) -> Result<Vec<u8>, WriteError> {
        let Self { tags: mut line, rest, .. } = self;
        if !line.is_empty() {
            line.push(b' ');
            if line.len() > limits.tags {
                return Err(WriteError::TooLong);
            }
        }
        line.extend_from_slice(&rest);
        line.extend_from_slice(b"\r\n");
        Ok(line)
    }
}

fn check(bytes: &[u8]) -> Result<(), WriteError> {
    match bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        true => Err(WriteError::Control),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Line;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits::FROM_SERVER;

    #[test]
    fn a_long_line_is_refused_or_cut_between_characters() {
        let line = || Writer::new("PRIVMSG").unwrap().parameter(b"#c").unwrap().trailing("é".repeat(300).as_bytes());
        assert_eq!(line().unwrap().finish(LIMITS), Err(WriteError::TooLong));
        let cut = line().unwrap().finish_cut(LIMITS).unwrap();
        assert!(cut.len() <= 512 && std::str::from_utf8(&cut).is_ok(), "{}", cut.len());
    }

    proptest! {
        /// Whatever text comes from mail or a bridge, the line is one, and reads back as what was meant.
        #[test]
        fn nothing_becomes_a_second_command(
            source in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..12)),
            command in "[A-Z0-9 \r\n]{0,6}",
            tags in proptest::collection::vec(("[ -~\r\n]{0,6}", any::<String>()), 0..3),
            parameters in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..12), 0..18),
            text in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
        ) {
            let written = Writer::from(source.as_deref(), &command).and_then(|mut line| {
                for (key, value) in &tags {
                    line = line.tag(key, value)?;
                }
                for parameter in &parameters {
                    line = line.parameter(parameter)?;
                }
                if let Some(text) = &text {
                    line = line.trailing(text)?;
                }
                line.finish(LIMITS)
            });
            if let Ok(line) = written {
                let body = line.strip_suffix(b"\r\n").unwrap();
                prop_assert!(!body.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
                if let Ok(read) = Line::parse(body, LIMITS) {
                    prop_assert_eq!(read.source.map(|source| source.whole.to_vec()), source);
                    prop_assert_eq!(read.command, command.as_bytes());
                    let meant: Vec<_> = parameters.iter().chain(&text).map(Vec::as_slice).collect();
                    prop_assert_eq!(read.parameters, meant);
                } else {
                    // Digits other than three are no command; the writer leaves that to its caller.
                    prop_assert!(command.bytes().any(|byte| byte.is_ascii_digit()));
                }
            }
        }
    }
}
