//! From a stream of bytes to lines.

use crate::Limits;

/// Cuts a stream into lines. Holds at most one line of the limit.
#[derive(Debug)]
pub struct Framer {
    buffer: Vec<u8>,
    most: usize,
    /// The present line is over the limit: what comes is dropped up to its end.
    skipping: bool,
}

/// One line of the stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Framed {
    /// A line without its end.
    Line(Vec<u8>),
    /// A line that was longer than the limit; its bytes are gone.
    TooLong,
}

impl Framer {
    /// For lines of these limits.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        // One more: a CR that belongs to the line end.
        Self { buffer: Vec::new(), most: limits.whole() + 1, skipping: false }
    }

    /// Takes in bytes as they came, and calls `each` with every line that they end, in order.
    ///
    /// A line ends with LF, CR LF or CR (servers take all three); empty lines are passed over.
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(Framed)) {
        for piece in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let ended = matches!(piece.last(), Some(b'\n' | b'\r'));
            let text = if ended { &piece[..piece.len() - 1] } else { piece };
            if !self.skipping {
                let room = self.most - self.buffer.len();
                if text.len() > room {
                    self.skipping = true;
                    self.buffer = Vec::new();
                } else {
                    self.buffer.extend_from_slice(text);
                }
            }
            if ended {
                let line = std::mem::take(&mut self.buffer);
                if std::mem::take(&mut self.skipping) {
                    each(Framed::TooLong);
                } else if !line.is_empty() {
                    each(Framed::Line(line));
                }
            }
        }
    }

    /// Bytes of a line that is not ended yet.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.buffer.len()
    }

    /// Drops what was not ended: what came before a TLS handshake must not be acted on after it.
    pub fn clear(&mut self) {
        self.buffer = Vec::new();
        self.skipping = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(framer: &mut Framer, bytes: &[u8]) -> Vec<Framed> {
        let mut lines = Vec::new();
        framer.push(bytes, |line| lines.push(line));
        lines
    }

    #[test]
    fn a_long_line_holds_nothing_and_the_next_one_is_whole() {
        let mut framer = Framer::new(Limits { tags: 4, rest: 4 });
        assert_eq!(all(&mut framer, &[b'x'; 1000]), []);
        assert_eq!(framer.held(), 0);
        assert_eq!(all(&mut framer, b"yy\r\nPING\r\n"), [Framed::TooLong, Framed::Line(b"PING".to_vec())]);
    }

    #[test]
    fn what_came_before_is_dropped() {
        let mut framer = Framer::new(Limits::FROM_SERVER);
        assert_eq!(all(&mut framer, b"PRIVMSG a"), []);
        framer.clear();
        assert_eq!(all(&mut framer, b"PING\n"), [Framed::Line(b"PING".to_vec())]);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_stream_is_cut(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'a'), any::<u8>()], 0..300),
            cuts in proptest::collection::vec(1_usize..20, 1..40),
        ) {
            let limits = Limits { tags: 6, rest: 6 };
            let whole = all(&mut Framer::new(limits), &bytes);
            let mut framer = Framer::new(limits);
            let mut pieces = Vec::new();
            let (mut rest, mut cuts) = (&bytes[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (now, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                pieces.extend(all(&mut framer, now));
                prop_assert!(framer.held() <= limits.whole() + 1);
                rest = later;
            }
            prop_assert_eq!(whole, pieces);
        }
    }
}
