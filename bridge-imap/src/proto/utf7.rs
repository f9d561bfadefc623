//! Modified UTF-7, in which mailbox names travel (RFC 3501, section 5.1.3).

/// Writes a name in modified UTF-7.
pub(crate) fn encode(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    let mut shifted: Vec<u16> = Vec::new();
    for c in name.chars() {
        if matches!(c, ' '..='~') {
            unshift(&mut shifted, &mut encoded);
            encoded.push(c);
            if c == '&' {
                encoded.push('-');
            }
        } else {
            shifted.extend_from_slice(c.encode_utf16(&mut [0; 2]));
        }
    }
    unshift(&mut shifted, &mut encoded);
    encoded
}

/// Writes what waits for its encoding, if anything does.
fn unshift(units: &mut Vec<u16>, encoded: &mut String) {
    if units.is_empty() {
        return;
    }
    encoded.push('&');
    let (mut bits, mut count) = (0_u32, 0);
    for unit in units.drain(..) {
        bits = bits << 16 | u32::from(unit);
        count += 16;
        while count >= 6 {
            count -= 6;
            encoded.push(digit(bits >> count));
            bits &= (1 << count) - 1;
        }
    }
    if count > 0 {
        encoded.push(digit(bits << (6 - count)));
    }
    encoded.push('-');
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

fn digit(value: u32) -> char {
    char::from(ALPHABET[(value & 63) as usize])
}

/// Reads modified UTF-7. `None` for anything that [`encode`] would have written otherwise, so that every name has one spelling.
pub(crate) fn decode(encoded: &[u8]) -> Option<String> {
    let mut name = String::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some((&byte, after)) = rest.split_first() {
        match byte {
            b'&' => {
                let end = after.iter().position(|&byte| byte == b'-')?;
                let (run, after) = (&after[..end], &after[end + 1..]);
                if run.is_empty() {
                    name.push('&');
                } else {
                    decode_run(run, &mut name)?;
                }
                rest = after;
            }
            b' '..=b'~' => {
                name.push(char::from(byte));
                rest = after;
            }
            _ => return None,
        }
    }
    // Two runs side by side, printable characters in a run and stray bits are all spellings that are not to be used.
    (encode(&name).as_bytes() == encoded).then_some(name)
}

fn decode_run(run: &[u8], name: &mut String) -> Option<()> {
    let mut units = Vec::with_capacity(run.len() * 6 / 16);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in run {
        let value = ALPHABET.iter().position(|digit| digit == byte)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        count += 6;
        if count >= 16 {
            count -= 16;
            units.push(u16::try_from(bits >> count).ok()?);
            bits &= (1 << count) - 1;
        }
    }
    name.push_str(&String::from_utf16(&units).ok()?);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn examples_of_rfc_3501() {
        assert_eq!(encode("~peter/mail/台北/日本語"), "~peter/mail/&U,BTFw-/&ZeVnLIqe-");
        assert_eq!(decode(b"~peter/mail/&U,BTFw-/&ZeVnLIqe-").as_deref(), Some("~peter/mail/台北/日本語"));
        assert_eq!(encode("Boeuf & Bœuf"), "Boeuf &- B&AVM-uf");
    }

    #[test]
    fn other_spellings_are_refused() {
        for wrong in ["&Jjo!", "&U,BTFw-&ZeVnLIqe-", "&AGE-", "&", "a&b", "&AVN-", "&2AA-", "caf\u{e9}", "&AVM"] {
            assert_eq!(decode(wrong.as_bytes()), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(name in any::<String>()) {
            prop_assert_eq!(decode(encode(&name).as_bytes()), Some(name));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>()) {
            if let Some(name) = decode(&bytes) {
                prop_assert_eq!(encode(&name).into_bytes(), bytes);
            }
        }
    }
}
