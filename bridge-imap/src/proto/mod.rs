//! The protocol without sockets: bytes in, commands out; values in, bytes out.
//!
//! [`framing`] cuts the stream into commands, with their literals in place and bounded. [`grammar`] reads one whole
//! command into a [`command::Command`]. [`write`] and [`structure`] make responses.

pub(crate) mod command;
pub(crate) mod date;
pub(crate) mod framing;
pub(crate) mod grammar;
pub(crate) mod section;
pub(crate) mod sequence;
pub(crate) mod structure;
pub(crate) mod utf7;
pub(crate) mod write;

/// Feeds bytes in pieces; every message is admitted. Tells each step but the want for more.
pub(crate) fn fuzz(bytes: &[u8], piece: usize, logged_in: bool) -> Vec<String> {
    use framing::{Framer, Step};
    let mut framer = Framer::new(1024 * 1024);
    if logged_in {
        framer.logged_in();
    }
    let mut seen = Vec::new();
    for piece in bytes.chunks(piece.max(1)) {
        framer.space().extend_from_slice(piece);
        framer.fed(piece.len());
        loop {
            let mut step = framer.step();
            // MULTIAPPEND: what follows a message may announce the next.
            while let Step::Message { .. } = step {
                step = framer.admit();
            }
            match step {
                Step::Incomplete => break,
                Step::Frame(frame) => seen.push(format!("{:?}", grammar::parse(frame.bytes()))),
                Step::Overrun => {
                    seen.push("overrun".into());
                    return seen;
                }
                step => seen.push(format!("{step:?}")),
            }
        }
    }
    seen
}
