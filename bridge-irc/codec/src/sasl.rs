//! The payload of `AUTHENTICATE` in lines of 400 bytes (IRCv3 `sasl-3.1`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, Zeroizing};

/// Bytes of base64 on one line; a shorter line is the last.
const CHUNK: usize = 400;

/// The parameters of the AUTHENTICATE lines that carry a payload: base64 in pieces of 400 bytes, `+` for an empty last piece.
#[must_use]
pub fn chunks(payload: &[u8]) -> Vec<Zeroizing<String>> {
    let text = Zeroizing::new(STANDARD.encode(payload));
    let mut lines: Vec<_> = text
        .as_bytes()
        .chunks(CHUNK)
        .map(|piece| Zeroizing::new(piece.iter().map(|byte| char::from(*byte)).collect::<String>()))
        .collect();
    if text.len().is_multiple_of(CHUNK) {
        lines.push(Zeroizing::new("+".to_owned()));
    }
    lines
}

/// Puts the pieces of a payload together.
#[derive(Debug)]
pub struct Collector {
    text: Zeroizing<Vec<u8>>,
    most: usize,
}

/// What one piece came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Collected {
    /// More is to come.
    More,
    /// The payload.
    Whole(Zeroizing<Vec<u8>>),
    /// The client gave up (`*`).
    Aborted,
    /// A piece of more than 400 bytes, too many of them (numeric 905), or no base64.
    Bad,
}

impl Collector {
    /// For payloads of at most `most` bytes of base64.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { text: Zeroizing::default(), most }
    }

    /// Takes in the parameter of one AUTHENTICATE line.
    pub fn push(&mut self, parameter: &[u8]) -> Collected {
        if parameter == b"*" {
            self.text.zeroize();
            return Collected::Aborted;
        }
        let piece = if parameter == b"+" { &[][..] } else { parameter };
        if piece.len() > CHUNK || self.text.len() + piece.len() > self.most {
            self.text.zeroize();
            return Collected::Bad;
        }
        // No growth in place, which would leave a copy behind.
        let mut longer = Zeroizing::new(Vec::with_capacity(self.text.len() + piece.len()));
        longer.extend_from_slice(&self.text);
        longer.extend_from_slice(piece);
        self.text = longer;
        if piece.len() == CHUNK {
            return Collected::More;
        }
        let whole = STANDARD.decode(&*self.text).map(Zeroizing::new);
        self.text.zeroize();
        whole.map_or(Collected::Bad, Collected::Whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_too_much_or_no_base64_is_refused() {
        let mut collector = Collector::new(800);
        assert_eq!(collector.push(&[b'A'; 401]), Collected::Bad);
        assert_eq!(collector.push(&[b'A'; 400]), Collected::More);
        assert_eq!(collector.push(&[b'A'; 400]), Collected::More);
        assert_eq!(collector.push(b"AAAA"), Collected::Bad);
        assert_eq!(collector.push(b"*"), Collected::Aborted);
        assert_eq!(collector.push(b"?"), Collected::Bad);
        assert_eq!(collector.push(b"+"), Collected::Whole(Zeroizing::default()));
    }

    proptest! {
        #[test]
        fn payloads_come_back(payload in proptest::collection::vec(any::<u8>(), 0..1300)) {
            let lines = chunks(&payload);
            let mut collector = Collector::new(2000);
            let (last, first) = lines.split_last().unwrap();
            for line in first {
                prop_assert_eq!(collector.push(line.as_bytes()), Collected::More);
            }
            prop_assert_eq!(collector.push(last.as_bytes()), Collected::Whole(Zeroizing::new(payload)));
        }
    }
}
