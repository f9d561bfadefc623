//! Message tags (IRCv3 `message-tags`).

use std::borrow::Cow;

/// The tags of a line, as they stand on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tags<'a> {
    raw: &'a [u8],
}

/// One tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag<'a> {
    /// The key, with the `+` of a tag that clients send each other, and the vendor.
    pub key: &'a [u8],
    /// The value, unescaped; an empty one and none mean the same.
    pub value: Cow<'a, [u8]>,
}

impl<'a> Tags<'a> {
    pub(crate) const fn new(raw: &'a [u8]) -> Self {
        Self { raw }
    }

    /// All tags, in their order, repeated ones too.
    pub fn iter(self) -> impl Iterator<Item = Tag<'a>> {
        self.raw.split(|byte| *byte == b';').filter(|tag| !tag.is_empty()).map(|tag| {
            let end = tag.iter().position(|byte| *byte == b'=');
            let (key, value) = end.map_or((tag, &[][..]), |at| (&tag[..at], &tag[at + 1..]));
            Tag { key, value: unescape(value) }
        })
    }

    /// The value of a key: of the last, where it stands there more than once; `None` also where it is no UTF-8.
    #[must_use]
    pub fn get(self, key: &str) -> Option<String> {
        let tag = self.iter().filter(|tag| tag.key == key.as_bytes()).last()?;
        String::from_utf8(tag.value.into_owned()).ok()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }
}

/// A value as it stands in a tag. A NUL, which has no escape, must have been refused before.
pub fn escape(value: &str, into: &mut Vec<u8>) {
    for byte in value.bytes() {
        match byte {
            b';' => into.extend_from_slice(b"\\:"),
            b' ' => into.extend_from_slice(b"\\s"),
            b'\\' => into.extend_from_slice(b"\\\\"),
            b'\r' => into.extend_from_slice(b"\\r"),
            b'\n' => into.extend_from_slice(b"\\n"),
            byte => into.push(byte),
        }
    }
}

/// A backslash before any other character is dropped, as is one at the end.
fn unescape(value: &[u8]) -> Cow<'_, [u8]> {
    if !value.contains(&b'\\') {
        return Cow::Borrowed(value);
    }
    let mut clear = Vec::with_capacity(value.len());
    let mut bytes = value.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => match bytes.next() {
                Some(b':') => clear.push(b';'),
                Some(b's') => clear.push(b' '),
                Some(b'r') => clear.push(b'\r'),
                Some(b'n') => clear.push(b'\n'),
                Some(other) => clear.push(*other),
                None => {}
            },
            byte => clear.push(*byte),
        }
    }
    Cow::Owned(clear)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_of_equal_keys_counts() {
        let tags = Tags::new(b"a=1;b;a=2;;c=");
        assert_eq!(tags.get("a").unwrap(), "2");
        assert_eq!(tags.get("b").unwrap(), "");
        assert_eq!(tags.get("c").unwrap(), "");
        assert_eq!(tags.get("d"), None);
        assert_eq!(tags.iter().count(), 4);
    }

    #[test]
    fn stray_backslashes_are_dropped() {
        assert_eq!(Tags::new(b"a=x\\qy\\").get("a").unwrap(), "xqy");
    }

    proptest! {
        #[test]
        fn values_come_back(value in "[^\0]{0,80}") {
            let mut raw = b"k=".to_vec();
            escape(&value, &mut raw);
            prop_assert!(!raw.iter().any(|byte| matches!(byte, b' ' | b';' | b'\r' | b'\n')));
            prop_assert_eq!(Tags::new(&raw).get("k").unwrap(), value);
        }
    }
}
