//! Reverse-path and forward-path (RFC 5321, section 4.1.2; RFC 6531, section 3.3).

use super::reply::Reply;
use mesyx_sdk::{Domain, MailAddress};
use std::fmt;

/// Longest path with its brackets (RFC 5321, section 4.5.3.1.3), twice over because of source routes, which are cut off.
const MAX_PATH: usize = 512;

/// What stands between `<` and `>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Path {
    /// `<>`
    Null,
    /// `<postmaster>`, in any case, which every host must take (RFC 5321, section 4.5.1).
    Postmaster,
    /// A mailbox; a source route before it was cut off, as RFC 5321, appendix C, wants it.
    Mailbox {
        /// The address.
        address: MailAddress,
        /// It was spelled with characters beyond ASCII, which only SMTPUTF8 allows.
        utf8: bool,
    },
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("<>"),
            Self::Postmaster => f.write_str("<postmaster>"),
            Self::Mailbox { address, .. } => write!(f, "<{address}>"),
        }
    }
}

/// Reads a path at the beginning of `text`; gives it and what follows the `>`.
pub(crate) fn parse(text: &str) -> Result<(Path, &str), Reply> {
    let text = text.strip_prefix('<').ok_or_else(|| syntax("the address must stand in < >"))?;
    let end = closing_bracket(text).ok_or_else(|| syntax("the address has no closing >"))?;
    let (inner, rest) = (&text[..end], &text[end + 1..]);
    if inner.len() > MAX_PATH {
        return Err(Reply::new(501, "5.1.3", "the address is too long"));
    }
    if inner.is_empty() {
        return Ok((Path::Null, rest));
    }
    if inner.eq_ignore_ascii_case("postmaster") {
        return Ok((Path::Postmaster, rest));
    }
    let mailbox = after_route(inner)?;
    let address: MailAddress = mailbox.parse().map_err(|error| Reply::new(501, "5.1.3", format!("{error}")))?;
    Ok((Path::Mailbox { address, utf8: !inner.is_ascii() }, rest))
}

/// The index of the `>` that is not inside quotes.
fn closing_bracket(text: &str) -> Option<usize> {
    let mut quoted = false;
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => quoted = !quoted,
            b'\\' if quoted => {
                bytes.next();
            }
            b'>' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// The mailbox behind a source route `@one,@two:`, each hop of which must be a domain.
fn after_route(text: &str) -> Result<&str, Reply> {
    if !text.starts_with('@') {
        return Ok(text);
    }
    let bad = || Reply::new(501, "5.1.7", "the source route is malformed; leave it out");
    // Address literals hold colons themselves, so each hop is read on its own.
    let mut rest = text;
    loop {
        let hop = rest.strip_prefix('@').ok_or_else(bad)?;
        let literal = if hop.starts_with('[') { hop.find(']').ok_or_else(bad)? } else { 0 };
        let end = literal + hop[literal..].find([',', ':']).ok_or_else(bad)?;
        hop[..end].parse::<Domain>().map_err(|_| bad())?;
        rest = &hop[end + 1..];
        if hop.as_bytes()[end] == b':' {
            return Ok(rest);
        }
    }
}

fn syntax(what: &'static str) -> Reply {
    Reply::new(501, "5.5.2", what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mailbox(text: &str) -> String {
        match parse(text).unwrap() {
            (Path::Mailbox { address, .. }, "") => address.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_stands_in_quotes_does_not_end_the_path() {
        assert_eq!(mailbox(r#"<"a>b"@example.org>"#), r#""a>b"@example.org"#);
        assert_eq!(mailbox(r#"<"a\"> b"@example.org>"#), r#""a\"> b"@example.org"#);
    }

    #[test]
    fn a_source_route_is_cut_off() {
        assert_eq!(mailbox("<@a.example,@[IPv6:::1],@b.example:user@example.org>"), "user@example.org");
        for bad in ["<@a.example user@x.org>", "<@:user@x.org>", "<@a,b:user@x.org>", "<@a:@b:user@x.org>", "<@a:>"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_special_paths() {
        assert_eq!(parse("<> SIZE=1").unwrap(), (Path::Null, " SIZE=1"));
        assert_eq!(parse("<PostMaster>").unwrap(), (Path::Postmaster, ""));
    }

    #[test]
    fn malformed_paths_are_refused() {
        for bad in [
            "",
            "a@b",
            "<a@b",
            "a@b>",
            "<a b@c.org>",
            "<a>",
            "<@b>",
            "<a@>",
            "<a@b@c>",
            "<a..b@c>",
            "<.a@b>",
            "<a@b..c>",
            "<\"a@b>",
            "<\"a\"b@c>",
            "< a@b>",
            "<a@b >",
            "<a@[1.2.3]>",
            "<a@-b>",
            "<a\u{1}@b>",
            "<(c)a@b>",
            "<<a@b>>",
        ] {
            assert!(matches!(parse(bad), Err(reply) if reply.code == 501), "{bad}: {:?}", parse(bad));
        }
    }

    #[test]
    fn utf8_is_told() {
        assert!(matches!(parse("<δοκιμή@example.org>").unwrap().0, Path::Mailbox { utf8: true, .. }));
        assert!(matches!(parse("<a@bücher.example>").unwrap().0, Path::Mailbox { utf8: true, .. }));
        assert!(matches!(parse("<a@example.org>").unwrap().0, Path::Mailbox { utf8: false, .. }));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_again(local in "[ -~äδ]{1,20}", domain in "[a-z]{1,9}(\\.[a-z]{2,5}){0,2}") {
            if let Ok(address) = MailAddress::new(&local, domain.parse().unwrap()) {
                let utf8 = !address.to_string().is_ascii();
                let text = format!("<{address}> X");
                prop_assert_eq!(parse(&text).unwrap(), (Path::Mailbox { address, utf8 }, " X"));
            }
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,40}|<[@a-c,:\"\\\\\\[\\]>.]{0,30}>?") {
            let _ = parse(&text);
        }
    }
}
