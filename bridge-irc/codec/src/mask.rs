//! Masks such as `*!*@*.example.org`.

use mesyx_sdk::address::CaseMapping;

/// Whether a name matches a mask: `*` stands for any text, `?` for one byte, `\` takes the next byte as it is (RFC 2812, section 2.5).
///
/// Takes at most the product of both lengths, which a line bounds.
#[must_use]
pub fn matches(mask: &str, name: &str, casemapping: CaseMapping) -> bool {
    let (mask, name) = (compile(&casemapping.fold(mask)), casemapping.fold(name).into_bytes());
    let (mut at, mut of) = (0, 0);
    // Where the last star stands, and up to where it was taken to reach.
    let mut star: Option<(usize, usize)> = None;
    while of < name.len() {
        match mask.get(at) {
            Some(Piece::Any) => {
                star = Some((at, of));
                at += 1;
            }
            Some(Piece::One) => {
                at += 1;
                of += 1;
            }
            Some(Piece::Byte(byte)) if *byte == name[of] => {
                at += 1;
                of += 1;
            }
            _ => match star {
                Some((from, reach)) => {
                    star = Some((from, reach + 1));
                    at = from + 1;
                    of = reach + 1;
                }
                None => return false,
            },
        }
    }
    mask[at..].iter().all(|piece| matches!(piece, Piece::Any))
}

enum Piece {
    Any,
    One,
    Byte(u8),
}

fn compile(mask: &str) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(mask.len());
    let mut bytes = mask.bytes().peekable();
    while let Some(byte) = bytes.next() {
        pieces.push(match byte {
            b'*' => Piece::Any,
            b'?' => Piece::One,
            b'\\' if matches!(bytes.peek(), Some(b'*' | b'?' | b'\\')) => Piece::Byte(bytes.next().unwrap_or(b'\\')),
            byte => Piece::Byte(byte),
        });
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is(mask: &str, name: &str) -> bool {
        matches(mask, name, CaseMapping::Ascii)
    }

    #[test]
    fn stars_and_question_marks() {
        assert!(is("*!*@*.example.org", "Al!u@Host.Example.ORG"));
        assert!(!is("*!*@*.example.org", "al!u@example.org"));
        assert!(is("a?c", "abc") && !is("a?c", "ac"));
        assert!(is("a\\*c", "a*c") && !is("a\\*c", "abc"));
        assert!(is("", "") && is("**", "") && !is("?", ""));
    }

    /// The plain, slow definition.
    fn slow(mask: &[u8], name: &[u8]) -> bool {
        match (mask.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                slow(rest, name) || name.split_first().is_some_and(|(_, later)| slow(mask, later))
            }
            (Some((b'?', rest)), Some((_, later))) => slow(rest, later),
            (Some((byte, rest)), Some((first, later))) => byte == first && slow(rest, later),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn says_what_the_definition_says(mask in "[ab*?]{0,8}", name in "[ab]{0,8}") {
            prop_assert_eq!(is(&mask, &name), slow(mask.as_bytes(), name.as_bytes()));
        }
    }
}
