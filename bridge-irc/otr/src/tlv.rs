//! What a data message carries: the text, a zero byte, and type-length-value records.

use crate::wire::{Reader, Writer};
use crate::{Rejection, limits};
use zeroize::Zeroizing;

/// The types of record.
pub(crate) mod kind {
    pub(crate) const DISCONNECTED: u16 = 1;
    pub(crate) const SMP_1: u16 = 2;
    pub(crate) const SMP_2: u16 = 3;
    pub(crate) const SMP_3: u16 = 4;
    pub(crate) const SMP_4: u16 = 5;
    pub(crate) const SMP_ABORT: u16 = 6;
    pub(crate) const SMP_1_WITH_QUESTION: u16 = 7;
    /// The peer would use the extra symmetric key for something, such as a file. It is reported and nothing else.
    pub(crate) const EXTRA_KEY: u16 = 8;
}

/// One record.
#[derive(Clone)]
pub(crate) struct Tlv {
    pub(crate) kind: u16,
    pub(crate) value: Vec<u8>,
}

impl Tlv {
    pub(crate) fn empty(kind: u16) -> Self {
        Self { kind, value: Vec::new() }
    }
}

/// Joins text and records. The text has no zero byte and values are shorter than 64 KiB; callers see to both.
pub(crate) fn join(text: &[u8], tlvs: &[Tlv]) -> Zeroizing<Vec<u8>> {
    // Room for all of it from the start: growing would leave copies of the text behind.
    let size = tlvs.iter().map(|tlv| 4 + tlv.value.len()).sum::<usize>();
    let mut out = Writer(Vec::with_capacity(text.len() + 1 + size));
    out.raw(text);
    if !tlvs.is_empty() {
        out.byte(0);
    }
    for tlv in tlvs {
        out.short(tlv.kind).short(tlv.value.len() as u16).raw(&tlv.value);
    }
    Zeroizing::new(out.0)
}

/// Splits text and records. The message was authenticated, so that a broken record is the peer's mistake and not an
/// attack: the text counts, and so do the records before the broken one.
pub(crate) fn split(plain: &[u8]) -> (&[u8], Vec<Tlv>) {
    let end = plain.iter().position(|&byte| byte == 0).unwrap_or(plain.len());
    let mut reader = Reader::new(plain.get(end + 1..).unwrap_or_default(), "record");
    let mut tlvs = Vec::new();
    while !reader.is_empty() && tlvs.len() < limits::MAX_TLVS {
        let mut next = || -> Result<Tlv, Rejection> {
            let (kind, length) = (reader.short()?, reader.short()?);
            Ok(Tlv { kind, value: reader.raw(usize::from(length))?.to_vec() })
        };
        match next() {
            Ok(tlv) => tlvs.push(tlv),
            Err(_) => break,
        }
    }
    (&plain[..end], tlvs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_records_survive_the_round_trip() {
        let tlvs = [Tlv { kind: 7, value: b"q\0rest".to_vec() }, Tlv::empty(kind::DISCONNECTED)];
        let plain = join(b"text", &tlvs);
        let (text, back) = split(&plain);
        assert_eq!(text, b"text");
        assert_eq!(
            back.iter().map(|tlv| (tlv.kind, &tlv.value[..])).collect::<Vec<_>>(),
            [(7, &b"q\0rest"[..]), (1, b"")]
        );
    }

    #[test]
    fn a_record_cut_short_is_dropped_and_the_text_stays() {
        let (text, tlvs) = split(b"hi\0\0\x01\0\0\0\x02\0\x09short");
        assert_eq!((text, tlvs.len()), (&b"hi"[..], 1));
        assert_eq!(split(b"hi").1.len(), 0);
        assert_eq!(split(b"").0, b"");
    }
}
