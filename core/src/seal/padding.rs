//! Padding: a sealed part's length says little about what is in it.
//!
//! The rule is Padmé (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", 2019):
//! a length keeps about as many leading bits as its exponent has digits. It leaks O(log log length) bits and adds at most 12 %,
//! less for longer messages. Below [`FLOOR`] everything has one length.

/// Every part is at least this long, in bytes.
pub(crate) const FLOOR: u64 = 512;

/// `length` rounded up by the padding rule; never less than `length`.
#[must_use]
pub fn padded_length(length: u64) -> u64 {
    if length <= FLOOR {
        return FLOOR;
    }
    let exponent = length.ilog2();
    let kept = exponent.ilog2() + 1;
    let mask = (1_u64 << (exponent - kept)) - 1;
    length.checked_add(mask).map_or(length, |sum| sum & !mask)
}

/// Clear filler for a MIME epilogue: lines of spaces. Fills `buffer` up to `length`.
pub(crate) fn fill(buffer: &mut Vec<u8>, length: usize) {
    const LINES: &[u8; 78 * 8] = &{
        let mut lines = [b' '; 78 * 8];
        let mut at = 0;
        while at < lines.len() {
            lines[at + 76] = b'\r';
            lines[at + 77] = b'\n';
            at += 78;
        }
        lines
    };
    while buffer.len() < length {
        let take = (length - buffer.len()).min(LINES.len());
        buffer.extend_from_slice(&LINES[..take]);
    }
}
