//! The relaxed forms of fields and body (RFC 6376, sections 3.4.2 and 3.4.4), and where a message is cut into these.
//!
//! mail-auth has them too, but takes a form feed in a field for white space, and a body of nothing but white space for
//! one line; other verifiers don't.

/// A field of a header section, as it stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field<'a> {
    /// Before the colon, white space included.
    pub(super) name: &'a [u8],
    /// Behind the colon, the last line end included.
    pub(super) value: &'a [u8],
}

impl Field<'_> {
    /// Whether it has this name.
    pub(super) fn is(&self, name: &str) -> bool {
        self.name.trim_ascii_end().eq_ignore_ascii_case(name.as_bytes())
    }

    /// Writes its relaxed form: name in lower case, lines unfolded, white space as one space, none at the ends.
    pub(super) fn relax(&self, to: &mut Vec<u8>) {
        to.extend(self.name.iter().filter(|byte| !is_space(**byte)).map(u8::to_ascii_lowercase));
        to.push(b':');
        relax_value(self.value, to);
        to.extend_from_slice(b"\r\n");
    }
}

/// Writes the relaxed form of a field's value, without a line end.
pub(super) fn relax_value(value: &[u8], to: &mut Vec<u8>) {
    let start = to.len();
    let mut space = false;
    for &byte in value {
        match byte {
            // Unfolding takes the line end out and leaves the white space that follows it.
            b'\r' | b'\n' => {}
            b' ' | b'\t' => space = true,
            byte => {
                if space && to.len() > start {
                    to.push(b' ');
                }
                space = false;
                to.push(byte);
            }
        }
    }
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// The fields of a message, and its body behind the empty line. What is no field, for want of a colon, is left out, as
/// verifiers do.
pub(super) fn split(message: &[u8]) -> (Vec<Field<'_>>, &[u8]) {
    let mut fields = Vec::new();
    let mut at = 0;
    while at < message.len() {
        if message[at..].starts_with(b"\r\n") {
            return (fields, &message[at + 2..]);
        }
        let end = field_end(message, at);
        let field = &message[at..end];
        if let Some(colon) = memchr::memchr(b':', field) {
            fields.push(Field { name: &field[..colon], value: &field[colon + 1..] });
        }
        at = end;
    }
    (fields, &[])
}

/// Behind the first line end from `at` on that no white space follows.
fn field_end(message: &[u8], at: usize) -> usize {
    let mut from = at;
    while let Some(offset) = memchr::memchr(b'\n', &message[from..]) {
        from += offset + 1;
        if !matches!(message.get(from), Some(b' ' | b'\t')) {
            return from;
        }
    }
    message.len()
}

/// Writes the relaxed form of a body in pieces: white space as one space, none at the end of a line, no empty lines at the
/// end; and behind a last line that has none, a line end.
pub(super) fn relax_body(body: &[u8], mut write: impl FnMut(&[u8])) {
    /// Pieces are at least so long, since each costs a call.
    const PIECE: usize = 8 << 10;
    let mut piece = Vec::with_capacity(2 * PIECE);
    let mut empty = 0_usize;
    let mut rest = body;
    while !rest.is_empty() {
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let line = &rest[..end];
        rest = rest.get(end + 1..).unwrap_or_default();
        let mut line = line.strip_suffix(b"\r").unwrap_or(line);
        while let [before @ .., b' ' | b'\t'] = line {
            line = before;
        }
        if line.is_empty() {
            empty += 1;
            continue;
        }
        for _ in 0..std::mem::take(&mut empty) {
            piece.extend_from_slice(b"\r\n");
            flush(&mut piece, PIECE, &mut write);
        }
        while let Some(space) = memchr::memchr2(b' ', b'\t', line) {
            piece.extend_from_slice(&line[..space]);
            piece.push(b' ');
            let next = line[space..].iter().position(|byte| !matches!(byte, b' ' | b'\t'));
            line = next.map_or(&[][..], |next| &line[space + next..]);
            flush(&mut piece, PIECE, &mut write);
        }
        piece.extend_from_slice(line);
        piece.extend_from_slice(b"\r\n");
        flush(&mut piece, PIECE, &mut write);
    }
    flush(&mut piece, 1, &mut write);
}

fn flush(piece: &mut Vec<u8>, least: usize, write: &mut impl FnMut(&[u8])) {
    if piece.len() >= least {
        write(piece);
        piece.clear();
    }
}
