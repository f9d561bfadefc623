//! Address lists (RFC 5322, sections 3.4 and 4.4), read as far as they make sense.

use super::fields;
use crate::summary::MailAddressee;

/// Most addresses that [`addresses_in`] gives.
const MAX_ADDRESSES: usize = 10_000;

/// A header has more addresses than are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a header of the message has more than 10000 addresses")]
pub struct TooManyAddresses;

/// Every element of every field of that name in a header block, in order, duplicates of the field included.
///
/// Made for checking who a message claims to be from. Whatever a reader could take for an address is given: text
/// without an `@` too, as a mailbox with an empty domain. So to hold only known senders, each
/// [`MailAddressee::Mailbox`] must be known, and there must be one.
///
/// # Errors
/// [`TooManyAddresses`] over 10,000 elements: nothing is left out silently.
pub fn addresses_in(headers: &[u8], name: &str) -> Result<Vec<MailAddressee>, TooManyAddresses> {
    let mut found = Vec::new();
    for field in fields(headers).filter(|field| field.is(name)) {
        parse(field.value, |addressee| {
            found.push(addressee);
            found.len() <= MAX_ADDRESSES
        });
        if found.len() > MAX_ADDRESSES {
            return Err(TooManyAddresses);
        }
    }
    Ok(found)
}

/// The elements of one address field's value, folded or not; at most 10,000 and the end of a group.
///
/// # Examples
/// ```
/// use mesyx_sdk::{mime, summary::MailAddressee};
/// let list = mime::addresses(b"Ann <ann@example.org>, friends: bob@example.net;");
/// assert_eq!(list.len(), 4);
/// assert_eq!(list[1], MailAddressee::GroupStart(b"friends".to_vec()));
/// ```
#[must_use]
pub fn addresses(value: &[u8]) -> Vec<MailAddressee> {
    let mut found = Vec::new();
    parse(value, |addressee| {
        found.push(addressee);
        found.len() < MAX_ADDRESSES
    });
    found
}

/// How many bytes an element holds.
pub(super) fn weight(addressee: &MailAddressee) -> usize {
    match addressee {
        MailAddressee::Mailbox { name, route, local, domain } => {
            let optional = |text: &Option<Vec<u8>>| text.as_ref().map_or(0, Vec::len);
            optional(name) + optional(route) + local.len() + domain.len()
        }
        MailAddressee::GroupStart(name) => name.len(),
        MailAddressee::GroupEnd => 0,
    }
}

/// Gives each element of an address list to `sink`, until the end or until `sink` says `false`. One pass.
///
/// After a `GroupStart` there is always a `GroupEnd`, unless `sink` stopped.
pub(super) fn parse(value: &[u8], sink: impl FnMut(MailAddressee) -> bool) {
    let mut parser = Parser { sink, open: true, in_group: false, element: Element::default(), finished: None };
    let mut rest = value;
    let mut blank = false;
    while parser.open {
        let Some(token) = next(&mut rest, &mut blank) else { break };
        parser.token(token, blank);
        blank = false;
    }
    parser.end_element();
    parser.end_group();
}

enum Token<'a> {
    /// A run of bytes that are neither blank nor special.
    Atom(&'a [u8]),
    /// The content of a quoted string, quoting undone.
    Quoted(Vec<u8>),
    /// A domain literal, brackets included.
    Literal(Vec<u8>),
    /// The content of a comment.
    Comment(Vec<u8>),
    /// One of `< > , ; : @`.
    Special(u8),
}

/// The next token; notes in `blank` whether blanks or comments' neighbours stood before it.
fn next<'a>(rest: &mut &'a [u8], blank: &mut bool) -> Option<Token<'a>> {
    let text = *rest;
    let start = text.iter().position(|&byte| byte > b' ')?;
    *blank |= start > 0;
    let text = &text[start..];
    let (token, length) = match text[0] {
        byte @ (b'<' | b'>' | b',' | b';' | b':' | b'@') => (Token::Special(byte), 1),
        b'"' => {
            let (content, length) = delimited(text, b'"');
            (Token::Quoted(content), length)
        }
        b'[' => {
            let (content, length) = delimited(text, b']');
            (Token::Literal([b"[", &content[..], b"]"].concat()), length)
        }
        b'(' => {
            let length = comment_length(text);
            let content = text[1..length].strip_suffix(b")").unwrap_or(&text[1..length]);
            (Token::Comment(super::unfold(content)), length)
        }
        _ => {
            let ends = |&byte: &u8| byte <= b' ' || b"<>,;:@\"[(".contains(&byte);
            let length = text.iter().position(ends).unwrap_or(text.len());
            (Token::Atom(&text[..length]), length)
        }
    };
    *rest = &text[length..];
    Some(token)
}

/// What stands between the first byte and `close`, backslashes undone and line ends dropped, and how long that is with
/// both delimiters. Takes the rest where `close` is missing.
fn delimited(text: &[u8], close: u8) -> (Vec<u8>, usize) {
    let mut content = Vec::new();
    let mut bytes = text.iter().enumerate().skip(1);
    while let Some((at, &byte)) = bytes.next() {
        let byte = match byte {
            b'\\' => match bytes.next() {
                Some((_, &escaped)) => escaped,
                None => break,
            },
            _ if byte == close => return (content, at + 1),
            _ => byte,
        };
        if !matches!(byte, b'\r' | b'\n' | 0) {
            content.push(byte);
        }
    }
    (content, text.len())
}

/// How long the comment is that `text` begins with, comments inside included; all of it where it is not closed.
pub(super) fn comment_length(text: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut bytes = text.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'(' => depth += 1,
            b')' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    text.len()
}

/// What was read of an element so far.
#[derive(Default)]
struct Element {
    /// All words, a blank between those that had one between them: the display name if `<` or `:` follows.
    phrase: Vec<u8>,
    /// The words without blanks: the local part if `@` follows.
    solid: Vec<u8>,
    /// What follows the `@`.
    domain: Option<Vec<u8>>,
    /// The content of a comment: the display name where there is no other.
    comment: Option<Vec<u8>>,
    /// What stands between `<` and `>`.
    angle: Option<Angle>,
}

#[derive(Default)]
struct Angle {
    in_route: bool,
    route: Vec<u8>,
    local: Vec<u8>,
    domain: Option<Vec<u8>>,
}

struct Parser<S> {
    sink: S,
    open: bool,
    in_group: bool,
    element: Element,
    /// A mailbox whose `>` was read: a comment may still name it.
    finished: Option<MailAddressee>,
}

impl<S: FnMut(MailAddressee) -> bool> Parser<S> {
    fn token(&mut self, token: Token<'_>, blank: bool) {
        if let Token::Comment(text) = token {
            return self.comment(text);
        }
        if let Some(angle) = &mut self.element.angle {
            if !angle.take(&token) {
                self.end_element();
                if matches!(token, Token::Special(b'>')) {
                    return;
                }
                self.top_level(token, blank);
            }
            return;
        }
        self.flush();
        self.top_level(token, blank);
    }

    fn comment(&mut self, text: Vec<u8>) {
        if let Some(MailAddressee::Mailbox { name, .. }) = &mut self.finished {
            if name.is_none() && !text.is_empty() {
                *name = Some(text);
            }
        } else if !text.is_empty() {
            self.element.comment = Some(text);
        }
    }

    fn top_level(&mut self, token: Token<'_>, blank: bool) {
        match token {
            Token::Special(b'<') => self.element.angle = Some(Angle::default()),
            Token::Special(b'>') | Token::Comment(_) => {}
            Token::Special(b',') => self.end_element(),
            Token::Special(b';') => {
                self.end_element();
                self.end_group();
            }
            Token::Special(b':') => {
                let element = std::mem::take(&mut self.element);
                self.end_group();
                self.in_group = true;
                self.emit(MailAddressee::GroupStart(element.phrase));
            }
            Token::Special(at) => self.at(at, blank),
            Token::Atom(word) => self.word(word, blank),
            Token::Quoted(word) | Token::Literal(word) => self.word(&word, blank),
        }
    }

    fn at(&mut self, at: u8, blank: bool) {
        if blank && !self.element.phrase.is_empty() {
            self.element.phrase.push(b' ');
        }
        self.element.phrase.push(at);
        match &mut self.element.domain {
            // A second @ makes a domain that is none, so that nobody takes the address for valid.
            Some(domain) => domain.push(at),
            None => self.element.domain = Some(Vec::new()),
        }
    }

    fn word(&mut self, word: &[u8], blank: bool) {
        // `a@b c@d` lacks a comma, `a@b . c` has obsolete blanks in its domain.
        let begins_anew = blank
            && self.element.domain.as_ref().is_some_and(|domain| {
                !domain.is_empty() && !domain.ends_with(b".") && !domain.ends_with(b"@") && !word.starts_with(b".")
            });
        let element = &mut self.element;
        if blank && !element.phrase.is_empty() {
            element.phrase.push(b' ');
        }
        if begins_anew && !element.solid.is_empty() {
            // Even where it turns out to be the display name of an address in `< >`, it looks like an address: given too.
            let local = std::mem::take(&mut element.solid);
            let domain = element.domain.take().unwrap_or_default();
            let name = element.comment.take();
            element.phrase.clear();
            self.emit(MailAddressee::Mailbox { name, route: None, local, domain });
        }
        let element = &mut self.element;
        element.phrase.extend_from_slice(word);
        element.domain.as_mut().unwrap_or(&mut element.solid).extend_from_slice(word);
    }

    /// The element is over: gives what it is, if it is anything.
    fn end_element(&mut self) {
        self.flush();
        let Element { phrase, solid, domain, comment, angle } = std::mem::take(&mut self.element);
        if let Some(angle) = angle {
            self.finished = Some(angle.mailbox(Some(phrase).filter(|phrase| !phrase.is_empty()).or(comment)));
        } else if let Some(domain) = domain {
            self.emit(MailAddressee::Mailbox { name: comment, route: None, local: solid, domain });
        } else if !phrase.is_empty() {
            self.emit(MailAddressee::Mailbox { name: comment, route: None, local: phrase, domain: Vec::new() });
        }
    }

    fn end_group(&mut self) {
        self.flush();
        if self.in_group {
            self.in_group = false;
            self.emit(MailAddressee::GroupEnd);
        }
    }

    fn flush(&mut self) {
        if let Some(finished) = self.finished.take() {
            self.emit(finished);
        }
    }

    fn emit(&mut self, addressee: MailAddressee) {
        self.open = self.open && (self.sink)(addressee);
    }
}

impl Angle {
    /// Takes one more token; `false` where it ends the address.
    fn take(&mut self, token: &Token<'_>) -> bool {
        let text: &[u8] = match token {
            Token::Comment(_) => return true,
            Token::Atom(text) => text,
            Token::Quoted(text) | Token::Literal(text) => text,
            Token::Special(b'>') => return false,
            // An address that lacks its `>`; in a route, a comma goes on.
            Token::Special(b',' | b';') if !self.in_route && self.domain.is_some() => return false,
            Token::Special(b':') if self.in_route => {
                self.in_route = false;
                return true;
            }
            Token::Special(b'@') if self.at_start() => {
                self.in_route = true;
                b"@"
            }
            Token::Special(b'@') if !self.in_route && self.domain.is_none() => {
                self.domain = Some(Vec::new());
                return true;
            }
            Token::Special(special) => std::slice::from_ref(special),
        };
        let part = match (self.in_route, &mut self.domain) {
            (true, _) => &mut self.route,
            (false, Some(domain)) => domain,
            (false, None) => &mut self.local,
        };
        part.extend_from_slice(text);
        true
    }

    fn at_start(&self) -> bool {
        self.route.is_empty() && self.local.is_empty() && self.domain.is_none()
    }

    fn mailbox(self, name: Option<Vec<u8>>) -> MailAddressee {
        // A route that no `:` ends is a domain without a local part.
        let (route, domain) = if self.in_route { (Vec::new(), Some(self.route)) } else { (self.route, self.domain) };
        let route = Some(route).filter(|route| !route.is_empty());
        MailAddressee::Mailbox { name, route, local: self.local, domain: domain.unwrap_or_default() }
    }
}
