//! The fields of a header block (RFC 5322, section 2.2).

use std::ops::Range;

/// One header field as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name as written, without the colon: printable ASCII, never empty.
    pub name: &'a [u8],
    /// What follows the colon, still folded, without the last line end.
    pub value: &'a [u8],
    /// Where the whole field stands in the block: from its name to behind its last line end.
    pub range: Range<usize>,
}

impl Field<'_> {
    /// Whether the field has this name; case makes no difference.
    #[must_use]
    pub const fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// Walks over the fields of a header block, up to the empty line or the end.
///
/// Lines end in CRLF or LF. A line that begins no field (no colon, a name with a blank or a control character)
/// is passed over together with its continuation lines.
///
/// # Examples
/// ```
/// use mesyx_sdk::mime;
/// let block = b"From: a@example.org\r\nSubject: one\r\n two\r\n\r\nbody";
/// let names: Vec<_> = mime::fields(block).map(|field| field.name.to_vec()).collect();
/// assert_eq!(names, [b"From".to_vec(), b"Subject".to_vec()]);
/// ```
#[must_use]
pub const fn fields(block: &[u8]) -> Fields<'_> {
    Fields { block, at: 0 }
}

/// See [`fields`].
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    block: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        loop {
            let start = self.at;
            let first = line(self.block, start)?;
            if first.is_empty() {
                self.at = self.block.len();
                return None;
            }
            let mut last = first.clone();
            while let Some(next) = line(self.block, last.next)
                && matches!(self.block[next.start], b' ' | b'\t')
            {
                last = next;
            }
            self.at = last.next;
            if let Some((name, colon)) = name(&self.block[first.start..first.end]) {
                let value = &self.block[start + colon + 1..last.end];
                return Some(Field { name, value, range: start..last.next });
            }
        }
    }
}

/// The field's name, and where its colon stands.
fn name(line: &[u8]) -> Option<(&[u8], usize)> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    // Blanks before the colon are obsolete syntax (RFC 5322, section 4.5), still to be read.
    let name = line[..colon].trim_ascii_end();
    let valid = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    valid.then_some((name, colon))
}

/// A line of some text: content at `start..end`, the next line from `next`.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) next: usize,
}

impl Line {
    pub(super) const fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

/// The line that begins at `start`; `None` at the end of the text.
pub(super) fn line(text: &[u8], start: usize) -> Option<Line> {
    let rest = text.get(start..).filter(|rest| !rest.is_empty())?;
    let Some(length) = rest.iter().position(|&byte| byte == b'\n') else {
        return Some(Line { start, end: text.len(), next: text.len() });
    };
    let cr = usize::from(length > 0 && rest[length - 1] == b'\r');
    Some(Line { start, end: start + length - cr, next: start + length + 1 })
}

/// A field's value on one line (RFC 5322, section 2.2.3): line ends of the folding go, blanks around the value too.
///
/// CR, LF and NUL that stand anywhere else become blanks, so that the result can't make a second line.
#[must_use]
pub fn unfold(value: &[u8]) -> Vec<u8> {
    let mut unfolded = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let fold = match (byte, after) {
            (b'\r', [b'\n', b' ' | b'\t', ..]) => Some(1),
            (b'\n', [b' ' | b'\t', ..]) => Some(0),
            _ => None,
        };
        match fold {
            Some(more) => rest = &after[more..],
            None if matches!(byte, b'\r' | b'\n' | 0) => unfolded.push(b' '),
            None => unfolded.push(byte),
        }
    }
    let blanks = unfolded.len() - unfolded.trim_ascii_start().len();
    unfolded.drain(..blanks);
    unfolded.truncate(unfolded.trim_ascii_end().len());
    unfolded
}
