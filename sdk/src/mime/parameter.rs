//! `Content-Type` and its kin: a value with parameters (RFC 2045, section 5.1; RFC 2183, section 2).

use super::budget::Budget;
use crate::summary::Parameters;

/// Type and subtype as written.
pub(super) type MediaType = (Vec<u8>, Vec<u8>);

/// Reads `type/subtype; name=value; …`. `None` where that can't be read.
pub(super) fn content_type(value: &[u8], budget: &mut Budget) -> Option<(MediaType, Parameters)> {
    let mut cursor = Cursor { rest: value };
    let main = cursor.token();
    if main.is_empty() || !cursor.take(b'/') {
        return None;
    }
    let sub = cursor.token();
    if sub.is_empty() || !budget.take(0, main.len() + sub.len()) {
        return None;
    }
    Some(((main, sub), cursor.parameters(budget)))
}

/// Reads `token; name=value; …`. `None` where there is no token.
pub(super) fn disposition(value: &[u8], budget: &mut Budget) -> Option<(Vec<u8>, Parameters)> {
    let mut cursor = Cursor { rest: value };
    let kind = cursor.token();
    if kind.is_empty() || !budget.take(0, kind.len()) {
        return None;
    }
    Some((kind, cursor.parameters(budget)))
}

/// Reads one token, comments dropped: `Content-Transfer-Encoding`. Empty where there is none.
pub(super) fn token(value: &[u8]) -> Vec<u8> {
    Cursor { rest: value }.token()
}

/// Reads `tag, tag`, comments dropped (RFC 3282, section 2).
pub(super) fn language(value: &[u8], budget: &mut Budget) -> Vec<Vec<u8>> {
    let mut cursor = Cursor { rest: value };
    let mut tags = Vec::new();
    loop {
        let tag = cursor.token();
        if !tag.is_empty() {
            if !budget.take(1, tag.len()) {
                return tags;
            }
            tags.push(tag);
        }
        if !cursor.skip_past(b',') {
            return tags;
        }
    }
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl Cursor<'_> {
    /// A token: what stands up to a blank or a special of RFC 2045, without blanks and comments before it.
    fn token(&mut self) -> Vec<u8> {
        self.skip_blanks();
        let special = |&byte: &u8| byte <= b' ' || byte == 127 || b"()<>@,;:\\\"/[]?=".contains(&byte);
        let length = self.rest.iter().position(special).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(length);
        self.rest = rest;
        token.to_vec()
    }

    fn parameters(&mut self, budget: &mut Budget) -> Parameters {
        let mut parameters = Vec::new();
        // Some senders forget the `;` before the first parameter.
        let mut first = Cursor { rest: self.rest };
        let mut begins = !first.token().is_empty() && first.take(b'=');
        while std::mem::take(&mut begins) || self.skip_past(b';') {
            let name = self.token();
            if name.is_empty() || !self.take(b'=') {
                continue;
            }
            let value = self.value();
            if !budget.take(1, name.len() + value.len()) {
                break;
            }
            parameters.push((name, value));
        }
        parameters
    }

    /// A quoted string without its quotes; or, more lenient than a token, all up to `;` or a comment, so that a file
    /// name with blanks that lacks its quotes is read whole.
    fn value(&mut self) -> Vec<u8> {
        self.skip_blanks();
        if self.rest.first() == Some(&b'"') {
            return self.quoted();
        }
        let length = self.rest.iter().position(|byte| b";(\"".contains(byte)).unwrap_or(self.rest.len());
        let (value, rest) = self.rest.split_at(length);
        self.rest = rest;
        super::unfold(value)
    }

    /// A quoted string from its opening quote (RFC 5322, section 3.2.4); folding in it goes. One that is not closed takes the rest.
    fn quoted(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        let mut bytes = self.rest.iter().enumerate().skip(1);
        let mut end = self.rest.len();
        while let Some((at, &byte)) = bytes.next() {
            match byte {
                b'"' => {
                    end = at + 1;
                    break;
                }
                b'\\' => text.extend(bytes.next().map(|(_, &escaped)| escaped)),
                b'\r' | b'\n' | 0 => {}
                _ => text.push(byte),
            }
        }
        text.retain(|byte| !matches!(byte, b'\r' | b'\n' | 0));
        self.rest = &self.rest[end..];
        text
    }

    fn take(&mut self, wanted: u8) -> bool {
        self.skip_blanks();
        match self.rest.split_first() {
            Some((&byte, rest)) if byte == wanted => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// Goes behind the next `separator` that stands in no quotes and no comment. `false` at the end.
    fn skip_past(&mut self, separator: u8) -> bool {
        loop {
            self.skip_blanks();
            match self.rest.split_first() {
                None => return false,
                Some((b'"', _)) => drop(self.quoted()),
                Some((&byte, rest)) => {
                    self.rest = rest;
                    if byte == separator {
                        return true;
                    }
                }
            }
        }
    }

    /// Passes over blanks, line ends and comments.
    fn skip_blanks(&mut self) {
        loop {
            let blanks = self.rest.iter().position(|&byte| byte > b' ').unwrap_or(self.rest.len());
            self.rest = &self.rest[blanks..];
            if self.rest.first() != Some(&b'(') {
                return;
            }
            self.rest = &self.rest[super::address::comment_length(self.rest)..];
        }
    }
}
