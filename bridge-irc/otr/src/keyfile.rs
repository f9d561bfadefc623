//! Keys in the file format of libotr (`otr.private_key`, `otr.key` of irssi and others), so that people can take
//! their key along.
//!
//! The format is an S-expression of libgcrypt: `(privkeys (account (name N) (protocol P) (private-key (dsa (p #..#)
//! (q #..#) (g #..#) (y #..#) (x #..#)))) ...)`, with numbers in hexadecimal.

use crate::Error;
use crate::identity::Identity;
use std::fmt::Write;
use zeroize::Zeroizing;

/// Longest file read, bytes: some hundred keys.
const MAX_FILE: usize = 256 * 1024;

/// Deepest nesting read; the format has five.
const MAX_DEPTH: usize = 8;

/// An account in a key file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFileAccount {
    /// The account, as the client that wrote the file names it.
    pub name: String,
    /// The protocol, for instance `prpl-irc` or `IRC`.
    pub protocol: String,
}

/// An S-expression.
enum Node<'a> {
    Atom(&'a str),
    List(Vec<Node<'a>>),
}

impl Identity {
    /// Reads all keys of a libotr key file. Each gets a new instance tag: two programs must not share one.
    ///
    /// # Errors
    /// [`Error::Identity`] if the file or a key in it is not valid; [`Error::Random`].
    pub fn read_key_file(text: &str) -> Result<Vec<(KeyFileAccount, Self)>, Error> {
        const NOT_A_FILE: Error = Error::Identity("not a key file of libotr");
        if text.len() > MAX_FILE {
            return Err(NOT_A_FILE);
        }
        let mut rest = text;
        let root = parse(&mut rest, MAX_DEPTH).filter(|_| rest.trim().is_empty()).ok_or(NOT_A_FILE)?;
        let accounts = root.named("privkeys").ok_or(NOT_A_FILE)?;
        accounts.iter().map(|account| read_account(account).ok_or(NOT_A_FILE)?).collect()
    }

    /// This key as a libotr key file with one account. **Not sealed**: for a user who asked for it.
    #[must_use]
    pub fn to_key_file(&self, account: &KeyFileAccount) -> Zeroizing<String> {
        // Room for all of it from the start: growing would leave copies of the key behind.
        let mut out = Zeroizing::new(String::with_capacity(2048 + 4 * (account.name.len() + account.protocol.len())));
        let _ = write!(out, "(privkeys\n (account\n(name {})\n", quoted(&account.name));
        let _ = write!(out, "(protocol {})\n(private-key \n (dsa \n", quoted(&account.protocol));
        for (name, number) in ["p", "q", "g", "y", "x"].iter().zip(self.numbers()) {
            let _ = write!(out, "  ({name} #");
            // A leading zero byte keeps the number positive for libgcrypt.
            for byte in std::iter::once(&0).chain(number.iter()) {
                let _ = write!(out, "{byte:02X}");
            }
            out.push_str("#)\n");
        }
        out.push_str("  )\n )\n )\n)\n");
        out
    }
}

impl<'a> Node<'a> {
    /// The rest of a list that begins with `name`.
    fn named(&self, name: &str) -> Option<&[Self]> {
        match self {
            Node::List(items) => match items.split_first()? {
                (Node::Atom(first), rest) if *first == name => Some(rest),
                _ => None,
            },
            Node::Atom(_) => None,
        }
    }

    fn atom(&self) -> Option<&'a str> {
        match self {
            Node::Atom(text) => Some(text),
            Node::List(_) => None,
        }
    }
}

fn read_account(node: &Node<'_>) -> Option<Result<(KeyFileAccount, Identity), Error>> {
    let fields = node.named("account")?;
    let field = |name: &str| fields.iter().find_map(|field| field.named(name)).and_then(<[_]>::first);
    let text = |name: &str| Some(unquoted(field(name)?.atom()?));
    let account = KeyFileAccount { name: text("name")?, protocol: text("protocol")? };
    let numbers = field("private-key")?.named("dsa")?;
    let number = |name: &str| {
        let value = numbers.iter().find_map(|number| number.named(name))?.first()?.atom()?;
        hex(value.strip_prefix('#')?.strip_suffix('#')?)
    };
    let (p, q, g, y, x) = (number("p")?, number("q")?, number("g")?, number("y")?, number("x")?);
    Some(Identity::from_numbers(&p, &q, &g, &y, &x).map(|identity| (account, identity)))
}

/// Reads one expression and leaves the rest.
fn parse<'a>(rest: &mut &'a str, depth: usize) -> Option<Node<'a>> {
    *rest = rest.trim_start();
    let Some(mut inner) = rest.strip_prefix('(') else { return atom(rest).map(Node::Atom) };
    let mut items = Vec::new();
    loop {
        inner = inner.trim_start();
        if let Some(after) = inner.strip_prefix(')') {
            *rest = after;
            return Some(Node::List(items));
        }
        items.push(parse(&mut inner, depth.checked_sub(1)?)?);
    }
}

/// A quoted string, a number between `#` signs, or a word.
fn atom<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let end = match rest.chars().next()? {
        '"' => {
            let mut escaped = false;
            let inside = rest[1..].find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            inside? + 2
        }
        '#' => rest[1..].find('#')? + 2,
        _ => rest.find(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '"' | '#')).unwrap_or(rest.len()),
    };
    let (atom, after) = rest.split_at(end);
    *rest = after;
    (!atom.is_empty()).then_some(atom)
}

fn hex(digits: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut out = Zeroizing::new(Vec::with_capacity(digits.len() / 2 + 1));
    let mut nibbles = digits.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16));
    while let Some(high) = nibbles.next() {
        out.push((high? as u8) << 4 | nibbles.next()?? as u8);
    }
    Some(out)
}

/// Quotes a name; what could end the quotation or the line is escaped.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn unquoted(atom: &str) -> String {
    let Some(inside) = atom.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return atom.to_owned() };
    let mut out = String::new();
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        out.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_key_survives_the_file() {
        let identity = Identity::generate().unwrap();
        let account = KeyFileAccount { name: "al\"i\\ce".into(), protocol: "prpl-irc".into() };
        let file = identity.to_key_file(&account);
        let back = Identity::read_key_file(&file).unwrap();
        assert_eq!(back.len(), 1);
        assert_eq!((&back[0].0, back[0].1.fingerprint()), (&account, identity.fingerprint()));
        assert_ne!(back[0].1.tag(), identity.tag());
        for damaged in [file.replace("(x #00", "(x #01"), file.replace("dsa", "rsa"), file[..file.len() - 3].into()] {
            assert!(Identity::read_key_file(&damaged).is_err());
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        assert!(Identity::read_key_file(&"(".repeat(100_000)).is_err());
        assert!(Identity::read_key_file(&format!("{}{}", "(".repeat(20), ")".repeat(20))).is_err());
        assert!(Identity::read_key_file("(privkeys)").unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn no_file_panics(text in "[()\"#\\\\a-z0-9 \u{e9}]{0,60}") {
            let _ = Identity::read_key_file(&text);
            let _ = Identity::read_key_file(&format!("(privkeys (account {text}))"));
        }
    }
}
