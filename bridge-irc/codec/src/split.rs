//! Long text over several lines, with nothing lost.

/// The pieces of a text of any length, each of 1 to `most` bytes (at least 4), for one line each.
///
/// Line ends in the text end a piece. A long line is cut behind its last space that leaves the piece at least half full, else
/// between two characters. The pieces put together are the text without CR and LF; bytes that are no UTF-8 are kept.
pub fn pieces(text: &[u8], most: usize) -> impl Iterator<Item = &[u8]> {
    let most = most.max(4);
    text.split(|byte| matches!(byte, b'\n' | b'\r')).flat_map(move |line| {
        let mut rest = line;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let end = end(rest, most);
            let (piece, later) = rest.split_at(end);
            rest = later;
            Some(piece)
        })
    })
}

fn end(line: &[u8], most: usize) -> usize {
    if line.len() <= most {
        return line.len();
    }
    match line[most / 2..most].iter().rposition(|byte| *byte == b' ') {
        Some(space) => most / 2 + space + 1,
        None => boundary(line, most),
    }
}

/// The last place at or before `most` (at least 4) that is not within a UTF-8 character; never 0 for text that is longer.
pub(crate) fn boundary(text: &[u8], most: usize) -> usize {
    if text.len() <= most {
        return text.len();
    }
    let inside = |at: &usize| text[*at] & 0b1100_0000 == 0b1000_0000;
    // A character has at most three continuation bytes: more of them are no UTF-8, and cut anywhere.
    (most.saturating_sub(3)..=most).rev().find(|at| *at > 0 && !inside(at)).unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(text: &str, most: usize) -> Vec<&str> {
        pieces(text.as_bytes(), most).map(|piece| std::str::from_utf8(piece).unwrap()).collect()
    }

    #[test]
    fn cuts_behind_spaces() {
        assert_eq!(all("one two three four", 10), ["one two ", "three four"]);
        assert_eq!(all("abcdefghijkl", 5), ["abcde", "fghij", "kl"]);
        assert_eq!(all("a\r\n\nb", 10), ["a", "b"]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost(text in any::<String>(), most in 0_usize..20) {
            let pieces = all(&text, most);
            prop_assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= most.max(4)));
            prop_assert_eq!(pieces.concat(), text.replace(['\r', '\n'], ""));
        }

        #[test]
        fn bytes_are_kept(text in proptest::collection::vec(any::<u8>(), 0..200), most in 0_usize..20) {
            let joined: Vec<u8> = pieces(&text, most).collect::<Vec<_>>().concat();
            let clean: Vec<u8> = text.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
            prop_assert_eq!(joined, clean);
        }
    }
}
