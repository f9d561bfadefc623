//! The `xtext` encoding of DSN parameters (RFC 3461, section 4).

/// Decodes `xtext`; `None` where it is malformed, or hides a control character, which could later make a second header line.
///
/// Characters beyond ASCII stand for themselves (RFC 6533, section 3); the caller allows them with SMTPUTF8 only.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => {
                let value = (hex(bytes.next()?)? << 4) | hex(bytes.next()?)?;
                out.push(value);
            }
            b'=' => return None,
            _ => out.push(byte),
        }
    }
    let text = String::from_utf8(out).ok()?;
    (!text.chars().any(char::is_control)).then_some(text)
}

/// Encodes text as `xtext`.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '+' | '=' | '\0'..=' ' | '\x7f' => out.push_str(&format!("+{:02X}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        // The grammar has upper case only; lower case is common and means the same.
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn control_characters_do_not_hide_in_it() {
        for bad in ["a+0D+0Ab", "+00", "+7F", "a+", "a+4", "a+4G", "a=b", "+FF"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
        assert_eq!(decode("a+2Bb+3Dc").unwrap(), "a+b=c");
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(text in "[ -~äδ]{0,40}") {
            let encoded = encode(&text);
            prop_assert!(!encoded.contains([' ', '=']));
            prop_assert_eq!(decode(&encoded), Some(text));
        }
    }
}
