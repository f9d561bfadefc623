//! A message's bytes as they come in, by DATA or BDAT, up to their true end.
//!
//! Bytes are kept exactly, or not at all: once something forbids the message, its memory is given back and the rest
//! is only looked through for the end.

use super::shares::{Held, Purse};
use memchr::{memchr, memchr2};

/// Why a message can't be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A CR or LF outside of CRLF: what one server takes for the end of a message, another does not (CVE-2023-51764).
    BareLineEnd,
    /// A NUL, which no message may have (RFC 5322, section 4).
    Nul,
    /// It is over the size limit.
    TooLarge,
    /// The byte budget of all messages in flight is spent.
    Budget,
}

/// The smallest piece of memory that a message gets.
const FIRST_CAPACITY: usize = 8 * 1024;

/// A message being put together in one buffer, behind the trace headers.
#[derive(Debug)]
pub(crate) struct Assembly {
    bytes: Vec<u8>,
    /// Length of our own headers at the front.
    trace: usize,
    /// Most bytes that the peer's message may have.
    limit: usize,
    purse: Purse,
    reservation: Option<Held>,
    refused: Option<Refusal>,
    /// A CR or LF outside of CRLF was met, be it before or after the refusal.
    bare_line_end: bool,
    /// Bytes that came after the refusal.
    discarded: u64,
    at: Place,
}

/// Where in a line the reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Behind a CRLF, or at the very beginning.
    Start,
    /// Behind a dot that began a line; the dot is not kept.
    Dot,
    /// Behind such a dot and a CR.
    DotCr,
    /// Somewhere in a line.
    Middle,
    /// Behind a CR.
    Cr,
}

/// A message that is whole and may be taken.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) bytes: Vec<u8>,
    pub(crate) trace: usize,
    pub(crate) reservation: Option<Held>,
}

impl Assembly {
    /// Begins a message with our own headers.
    pub(crate) fn new(trace: Vec<u8>, limit: usize, purse: Purse) -> Self {
        let length = trace.len();
        Self {
            bytes: trace,
            trace: length,
            limit,
            purse,
            reservation: None,
            refused: None,
            bare_line_end: false,
            discarded: 0,
            at: Place::Start,
        }
    }

    /// Takes bytes of DATA. `true` at the end of the data, which is CRLF.CRLF alone; `input` then stands behind it.
    pub(crate) fn data(&mut self, input: &mut &[u8]) -> bool {
        let buffer = *input;
        let mut at = 0;
        // Everything between `from` and `at` belongs to the message and was not pushed yet.
        let mut from = 0;
        while let Some(&byte) = buffer.get(at) {
            match self.at {
                Place::Start if byte == b'.' => {
                    self.push(&buffer[from..at]);
                    at += 1;
                    from = at;
                    self.at = Place::Dot;
                }
                Place::Dot if byte == b'\r' => {
                    at += 1;
                    from = at;
                    self.at = Place::DotCr;
                }
                Place::DotCr if byte == b'\n' => {
                    *input = &buffer[at + 1..];
                    return true;
                }
                Place::DotCr => {
                    self.refuse(Refusal::BareLineEnd);
                    self.at = Place::Middle;
                }
                Place::Cr => {
                    if byte == b'\n' {
                        at += 1;
                        self.at = Place::Start;
                    } else {
                        self.push(&buffer[from..at]);
                        from = at;
                        self.refuse(Refusal::BareLineEnd);
                        self.at = Place::Middle;
                    }
                }
                Place::Start | Place::Dot | Place::Middle => {
                    at = self.rest_of_line(buffer, &mut from, at);
                }
            }
        }
        self.push(&buffer[from..at]);
        *input = &[];
        false
    }

    /// Takes bytes of a BDAT chunk: no dots, and the end is known by counting (RFC 3030, section 2).
    pub(crate) fn chunk(&mut self, buffer: &[u8]) {
        let mut at = 0;
        let mut from = 0;
        while let Some(&byte) = buffer.get(at) {
            if self.at == Place::Cr && byte == b'\n' {
                at += 1;
                self.at = Place::Middle;
            } else if self.at == Place::Cr {
                self.push(&buffer[from..at]);
                from = at;
                self.refuse(Refusal::BareLineEnd);
                self.at = Place::Middle;
            } else {
                at = self.rest_of_line(buffer, &mut from, at);
            }
        }
        self.push(&buffer[from..at]);
    }

    /// From `at`, goes behind the next CR, or to the end; a LF met before is refused.
    fn rest_of_line(&mut self, buffer: &[u8], from: &mut usize, at: usize) -> usize {
        self.at = Place::Middle;
        match memchr2(b'\r', b'\n', &buffer[at..]) {
            None => buffer.len(),
            Some(offset) if buffer[at + offset] == b'\r' => {
                self.at = Place::Cr;
                at + offset + 1
            }
            Some(offset) => {
                self.push(&buffer[*from..at + offset]);
                *from = at + offset;
                self.refuse(Refusal::BareLineEnd);
                at + offset + 1
            }
        }
    }

    /// The message after its last byte.
    ///
    /// # Errors
    /// Why it can't be taken.
    pub(crate) fn finish(mut self) -> Result<Whole, Refusal> {
        if self.at == Place::Cr {
            self.refuse(Refusal::BareLineEnd);
        }
        match self.refused {
            Some(refusal) => Err(refusal),
            None => Ok(Whole { bytes: self.bytes, trace: self.trace, reservation: self.reservation }),
        }
    }

    /// Why the message can't be taken, if that is known already.
    pub(crate) const fn refused(&self) -> Option<Refusal> {
        self.refused
    }

    /// So much came after the refusal that waiting for the end is not worth it.
    pub(crate) fn is_flood(&self) -> bool {
        self.discarded > 2 * self.limit as u64 + (1 << 20)
    }

    /// How many bytes of the peer's message are here.
    pub(crate) const fn len(&self) -> usize {
        self.bytes.len() - self.trace
    }

    /// The message may hide a false end, whatever it is refused for.
    pub(crate) const fn has_bare_line_end(&self) -> bool {
        self.bare_line_end
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.bare_line_end |= refusal == Refusal::BareLineEnd;
        if self.refused.is_none() {
            self.refused = Some(refusal);
            self.bytes = Vec::new();
            self.trace = 0;
            self.reservation = None;
        }
    }

    fn push(&mut self, piece: &[u8]) {
        if self.refused.is_some() {
            self.discarded += piece.len() as u64;
            return;
        }
        // What is over the limit is not looked at, so that the same message is refused for the same reason however it was cut.
        let fitting = piece.len().min(self.limit - self.len());
        if memchr(0, &piece[..fitting]).is_some() {
            return self.refuse(Refusal::Nul);
        }
        if fitting < piece.len() {
            return self.refuse(Refusal::TooLarge);
        }
        if self.reserve(piece.len()) {
            self.bytes.extend_from_slice(piece);
        } else {
            self.refuse(Refusal::Budget);
        }
    }

    /// Room for `more` bytes, taken from the budget before it is taken from the allocator.
    fn reserve(&mut self, more: usize) -> bool {
        let needed = self.bytes.len() + more;
        if self.reservation.is_some() && needed <= self.bytes.capacity() {
            return true;
        }
        let most = self.trace + self.limit;
        let capacity = needed.max(self.bytes.capacity().saturating_mul(2)).max(FIRST_CAPACITY).min(most.max(needed));
        let granted = self.purse.grow(&mut self.reservation, capacity);
        if granted {
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesyx_sdk::ByteBudget;
    use proptest::prelude::*;

    const LIMIT: usize = 1000;

    fn budget() -> ByteBudget {
        ByteBudget::new(1 << 20)
    }

    fn assembly() -> Assembly {
        Assembly::new(b"Trace: x\r\n".to_vec(), LIMIT, Purse::whole(budget()))
    }

    type Outcome = (Result<Vec<u8>, Refusal>, Vec<u8>);

    /// The message or its refusal, and what was left behind the end; `None` without an end.
    fn data(pieces: &[&[u8]]) -> Option<Outcome> {
        let mut assembly = assembly();
        for (index, piece) in pieces.iter().enumerate() {
            let mut input = *piece;
            if assembly.data(&mut input) {
                let rest = [input, &pieces[index + 1..].concat()].concat();
                let result = assembly.finish().map(|whole| whole.bytes[whole.trace..].to_vec());
                return Some((result, rest));
            }
            assert!(input.is_empty());
        }
        None
    }

    fn body(text: &[u8]) -> Result<Vec<u8>, Refusal> {
        let (body, rest) = data(&[text]).unwrap();
        assert!(rest.is_empty(), "ended early, before {rest:?}");
        body
    }

    #[test]
    fn dots_are_taken_off() {
        assert_eq!(body(b"a\r\n..\r\n...b\r\n.c\r\n.\r\n").unwrap(), b"a\r\n.\r\n..b\r\nc\r\n");
        assert_eq!(body(b".\r\n").unwrap(), b"");
        assert_eq!(body(b"\r\n.\r\n").unwrap(), b"\r\n");
    }

    #[test]
    fn nothing_but_crlf_dot_crlf_ends_it_and_bare_line_ends_are_refused() {
        for end in [
            "\n.\n",
            "\n.\r\n",
            "\r.\r\n",
            "\r.\r",
            "\r\n.\n",
            "\r\n.\r",
            "\n.\r",
            "\r.\n",
            "\r\n.\r\r\n",
            "\r\r\n.\r\r\n",
            "\r\n\r.\r\n",
            "\n\r.\r\n",
            "\r\n.\n\r\n",
        ] {
            let text = format!("Subject: x\r\n\r\none{end}MAIL FROM:<x@y.z>\r\nsecond\r\n.\r\n");
            assert_eq!(body(text.as_bytes()), Err(Refusal::BareLineEnd), "{end:?}");
        }
        // NUL tricks: neither an end nor a message.
        for end in ["\r\n.\0\r\n", "\r\n\0.\r\n", "\r\0\n.\r\n"] {
            let text = format!("Subject: x\r\n\r\none{end}MAIL FROM:<x@y.z>\r\nsecond\r\n.\r\n");
            assert!(body(text.as_bytes()).is_err(), "{end:?}");
        }
    }

    #[test]
    fn limits() {
        assert_eq!(body(b"a\0b\r\n.\r\n"), Err(Refusal::Nul));
        let fits = [&vec![b'x'; LIMIT - 2][..], b"\r\n.\r\n"].concat();
        assert_eq!(body(&fits).unwrap().len(), LIMIT);
        let over = [&vec![b'x'; LIMIT - 1][..], b"\r\n.\r\n"].concat();
        assert_eq!(body(&over), Err(Refusal::TooLarge));
    }

    #[test]
    fn a_refused_message_holds_no_memory() {
        let budget = budget();
        let mut assembly = Assembly::new(Vec::new(), LIMIT, Purse::whole(budget.clone()));
        assembly.data(&mut &b"something\r\n"[..]);
        assert!(budget.available() < budget.total());
        assembly.data(&mut &b"bare\n"[..]);
        assert_eq!(assembly.bytes.capacity(), 0);
        assert_eq!(budget.available(), budget.total());
    }

    #[test]
    fn a_spent_budget_refuses_before_memory_is_taken() {
        let budget = ByteBudget::new(16 * 1024);
        let mut assembly = Assembly::new(Vec::new(), 1 << 20, Purse::whole(budget.clone()));
        let line = [&[b'x'; 510][..], b"\r\n"].concat();
        for _ in 0..100 {
            assembly.data(&mut &line[..]);
            assert!(assembly.bytes.capacity() <= budget.total());
        }
        assert_eq!(assembly.finish().unwrap_err(), Refusal::Budget);
        assert_eq!(budget.available(), budget.total());
    }

    #[test]
    fn chunks_keep_dots_and_watch_line_ends_across_their_borders() {
        let mut whole = assembly();
        whole.chunk(b".a\r");
        whole.chunk(b"\n.\r\n");
        whole.chunk(b"no end");
        assert_eq!(whole.finish().unwrap().bytes, b"Trace: x\r\n.a\r\n.\r\nno end");
        for pieces in [&[&b"a\r"[..], b"b"][..], &[b"a\n"], &[b"a\r"], &[b"a", b"\n"], &[b"a\r\r\n"]] {
            let mut bad = assembly();
            pieces.iter().for_each(|piece| bad.chunk(piece));
            assert_eq!(bad.finish().unwrap_err(), Refusal::BareLineEnd, "{pieces:?}");
        }
    }

    proptest! {
        #[test]
        fn any_cutting_gives_the_same_message(
            text in prop::collection::vec(prop_oneof![
                20 => Just(&b"\r\n"[..]), 20 => Just(&b"."[..]), 20 => Just(&b"text"[..]), 5 => Just(&b"\r\n.\r\n"[..]),
                1 => Just(&b"\r"[..]), 1 => Just(&b"\n"[..]), 1 => Just(&b"\0"[..]), 1 => Just(&[b'y'; 400][..]),
            ], 0..40),
            cuts in prop::collection::vec(1_usize..9, 1..40),
        ) {
            let text = text.concat();
            let mut pieces = Vec::new();
            let mut rest = &text[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            prop_assert_eq!(data(&pieces), data(&[&text]));
        }

        #[test]
        fn what_was_stuffed_comes_out(lines in prop::collection::vec("[.a-c ]{0,6}", 0..20)) {
            let message: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let stuffed: String = lines.iter().map(|line| match line.starts_with('.') {
                true => format!(".{line}\r\n"),
                false => format!("{line}\r\n"),
            }).collect();
            prop_assert_eq!(body(format!("{stuffed}.\r\n").as_bytes()).unwrap(), message.into_bytes());
        }
    }
}
