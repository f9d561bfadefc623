//! Names: which may be, and how they are compared.

/// Longest nick that a guest may choose, in bytes. A user's nick is the login name, of at most 64.
pub const NICK: usize = 32;
/// Longest channel name, in bytes: it is a local part of a mail address too (RFC 5321, section 4.5.3.1.1), some letters escaped.
pub const CHANNEL: usize = 50;
/// Longest user name, in bytes.
pub const USER: usize = 18;
/// Longest topic, in bytes: with the longest names before it, it fits one line of 512 bytes.
pub const TOPIC: usize = 390;
/// Longest real name, away text and kick reason, in bytes.
pub const TEXT: usize = 300;
/// Longest key of a channel, in bytes.
pub const KEY: usize = 23;

/// The spelling in which names are compared (CASEMAPPING=ascii).
#[must_use]
pub fn fold(name: &str) -> String {
    name.to_ascii_lowercase()
}

/// Whether a guest may have this nick (RFC 2812, section 2.3.1, with a longer length).
#[must_use]
pub fn is_nick(name: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_alphabetic() || b"[]\\`_^{|}".contains(&byte);
    let mut bytes = name.bytes();
    (1..=NICK).contains(&name.len())
        && bytes.next().is_some_and(first)
        && bytes.all(|byte| first(byte) || byte.is_ascii_digit() || byte == b'-')
}

/// Whether a channel of this exchange may have this name: `#`, then anything but what IRC or a mail address can't carry.
#[must_use]
pub fn is_channel(name: &str) -> bool {
    let bad = |c: char| c.is_control() || c.is_whitespace() || ",:/*?!@\\\"".contains(c);
    name.len() <= CHANNEL && name.strip_prefix('#').is_some_and(|rest| !rest.is_empty() && !rest.contains(bad))
}

/// Whether a name is meant as a channel's.
#[must_use]
pub fn channel_like(name: &str) -> bool {
    name.starts_with('#')
}

/// A text of at most `most` bytes, cut between characters.
#[must_use]
pub fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text[..end].to_owned()
}

/// A mask with all three parts: `nick!user@host`, `*` for those that are missing.
#[must_use]
pub fn full_mask(mask: &str) -> String {
    let part = |text: &str| if text.is_empty() { "*".to_owned() } else { text.to_owned() };
    match (mask.split_once('!'), mask.rsplit_once('@')) {
        (Some((nick, rest)), _) => match rest.rsplit_once('@') {
            Some((user, host)) => format!("{}!{}@{}", part(nick), part(user), part(host)),
            None => format!("{}!{}@*", part(nick), part(rest)),
        },
        (None, Some((user, host))) => format!("*!{}@{}", part(user), part(host)),
        (None, None) if mask.contains(['.', ':']) => format!("*!*@{mask}"),
        (None, None) => format!("{}!*@*", part(mask)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nicks_and_channels() {
        assert!(is_nick("foo") && is_nick("[x]-9") && !is_nick("9x") && !is_nick("-x") && !is_nick("a b"));
        assert!(!is_nick("") && !is_nick("fo:o") && !is_nick("a.b") && !is_nick(&"a".repeat(NICK + 1)));
        assert!(is_channel("#a") && is_channel("#é") && is_channel("##") && !is_channel("#") && !is_channel("a"));
        assert!(!is_channel("#a,b") && !is_channel("#a/b") && !is_channel(&format!("#{}", "a".repeat(64))));
        assert_eq!(cut("éé", 3), "é");
    }

    #[test]
    fn masks_are_made_whole() {
        for (mask, full) in [
            ("foo", "foo!*@*"),
            ("a@b", "*!a@b"),
            ("a!b", "a!b@*"),
            ("*!*@x", "*!*@x"),
            ("10.0.*", "*!*@10.0.*"),
            ("!@", "*!*@*"),
        ] {
            assert_eq!(full_mask(mask), full);
        }
    }
}
