//! Encoded messages cut to the length of a line, and put together again.
//!
//! Version 2: `?OTR,k,n,piece,`; version 3 has both instance tags in front: `?OTR|sender|receiver,k,n,piece,`.

use crate::identity::InstanceTag;
use crate::message::{Header, Version};
use crate::{Rejection, limits};
use std::time::Instant;

/// Cuts an encoded message into lines of at most `max` bytes; a message that fits stays whole.
pub(crate) fn split(line: Vec<u8>, header: Header, max: Option<usize>) -> Vec<Vec<u8>> {
    let Some(max) = max.map(|max| max.max(limits::MIN_LINE)).filter(|max| line.len() > *max) else {
        return vec![line];
    };
    let room = max - fragment(header, 0, 0, &[]).len();
    let pieces = line.chunks(room);
    let count = pieces.len();
    pieces.enumerate().map(|(i, piece)| fragment(header, i + 1, count, piece)).collect()
}

fn fragment(header: Header, number: usize, count: usize, piece: &[u8]) -> Vec<u8> {
    let head = match header.version {
        Version::V2 => format!("?OTR,{number:05},{count:05},"),
        Version::V3 => {
            format!("?OTR|{:08x}|{:08x},{number:05},{count:05},", header.sender.value(), header.receiver.value())
        }
    };
    [head.as_bytes(), piece, b","].concat()
}

/// One fragment, taken apart.
struct Fragment<'a> {
    sender: InstanceTag,
    number: u16,
    count: u16,
    piece: &'a [u8],
}

/// `None` if the fragment is for another of our clients.
fn parse(line: &[u8], ours: InstanceTag) -> Result<Option<Fragment<'_>>, Rejection> {
    const WHAT: Rejection = Rejection::Malformed("fragment");
    let mut fields = line.split(|&byte| byte == b',');
    let mut field = || fields.next().ok_or(WHAT);
    let head = field()?;
    let (number, count) = (short(field()?).ok_or(WHAT)?, short(field()?).ok_or(WHAT)?);
    let piece = field()?;
    // The comma at the end is what shows that the line was not cut.
    field()?;
    let mut sender = InstanceTag::NONE;
    if let Some(tags) = head.strip_prefix(b"?OTR|") {
        let at = tags.iter().position(|&byte| byte == b'|').ok_or(WHAT)?;
        sender = InstanceTag::new(hex(&tags[..at]).ok_or(WHAT)?).ok_or(WHAT)?;
        let receiver = InstanceTag::from_peer(hex(&tags[at + 1..]).ok_or(WHAT)?)?;
        if receiver != InstanceTag::NONE && receiver != ours {
            return Ok(None);
        }
    }
    if number == 0 || number > count || piece.is_empty() {
        return Err(WHAT);
    }
    Ok(Some(Fragment { sender, number, count, piece }))
}

fn short(digits: &[u8]) -> Option<u16> {
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    str::from_utf8(digits).ok().filter(|_| plain)?.parse().ok()
}

fn hex(digits: &[u8]) -> Option<u32> {
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    u32::from_str_radix(str::from_utf8(digits).ok().filter(|_| plain)?, 16).ok()
}

/// Collects fragments, a stream for each sender.
#[derive(Default)]
pub(crate) struct Collector {
    streams: Vec<Stream>,
}

struct Stream {
    sender: InstanceTag,
    received: u16,
    count: u16,
    bytes: Vec<u8>,
    last: Instant,
}

impl Collector {
    /// Takes a fragment in; gives the whole message with its last one. Fragments come in order or not at all: the
    /// networks that OTR runs over keep it, and anything else drops the message.
    pub(crate) fn add(&mut self, line: &[u8], ours: InstanceTag, now: Instant) -> Result<Option<Vec<u8>>, Rejection> {
        self.expire(now);
        let Some(fragment) = parse(line, ours)? else { return Ok(None) };
        let known = self.streams.iter().position(|stream| stream.sender == fragment.sender);
        let mut stream = match known.map(|at| self.streams.swap_remove(at)) {
            _ if fragment.count > limits::MAX_FRAGMENTS => return Err(Rejection::TooLarge),
            _ if fragment.number == 1 => {
                Stream { sender: fragment.sender, received: 0, count: fragment.count, bytes: Vec::new(), last: now }
            }
            Some(stream) if (fragment.count, fragment.number - 1) == (stream.count, stream.received) => stream,
            _ => return Err(Rejection::Malformed("order of fragments")),
        };
        if stream.bytes.len() + fragment.piece.len() > limits::MAX_MESSAGE {
            return Err(Rejection::TooLarge);
        }
        stream.bytes.extend_from_slice(fragment.piece);
        (stream.received, stream.last) = (fragment.number, now);
        if stream.received == stream.count {
            return Ok(Some(stream.bytes));
        }
        if self.streams.len() >= limits::MAX_FRAGMENT_STREAMS
            && let Some(idle) = (0..self.streams.len()).min_by_key(|&at| self.streams[at].last)
        {
            self.streams.swap_remove(idle);
        }
        self.streams.push(stream);
        Ok(None)
    }

    /// Drops what waited too long.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.streams.retain(|stream| now.saturating_duration_since(stream.last) < limits::FRAGMENT_TIMEOUT);
    }

    /// Is this line the last missing fragment? A cheap guess, for telling heavy lines from light ones.
    pub(crate) fn would_complete(&self, line: &[u8]) -> bool {
        let mut fields = line.split(|&byte| byte == b',').skip(1);
        fields.next().and_then(short) == fields.next().and_then(short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OURS: InstanceTag = InstanceTag::new(0x101).unwrap();
    const THEIRS: InstanceTag = InstanceTag::new(0x202).unwrap();
    const HEADER: Header = Header { version: Version::V3, sender: THEIRS, receiver: OURS };

    proptest! {
        #[test]
        fn what_is_cut_is_put_together(length in 1usize..5000, max in 0usize..600, three: bool) {
            let version = if three { Version::V3 } else { Version::V2 };
            let line = vec![b'a'; length];
            let lines = split(line.clone(), Header { version, ..HEADER }, Some(max));
            prop_assert!(lines.iter().all(|line| line.len() <= max.max(limits::MIN_LINE)));
            if lines.len() == 1 {
                prop_assert_eq!(&lines[0], &line);
                return Ok(());
            }
            let (mut collector, now) = (Collector::default(), Instant::now());
            for (i, fragment) in lines.iter().enumerate() {
                let whole = collector.add(fragment, OURS, now).unwrap();
                prop_assert_eq!(whole, (i + 1 == lines.len()).then(|| line.clone()));
            }
        }

        #[test]
        fn no_line_panics(line in proptest::collection::vec(any::<u8>(), 0..80), three: bool) {
            let line = [if three { &b"?OTR|"[..] } else { b"?OTR," }, &line].concat();
            let _ = Collector::default().add(&line, OURS, Instant::now());
        }
    }

    fn add(collector: &mut Collector, line: &str) -> Result<Option<Vec<u8>>, Rejection> {
        collector.add(line.as_bytes(), OURS, Instant::now())
    }

    #[test]
    fn unpadded_numbers_are_read_and_other_receivers_left_alone() {
        let mut collector = Collector::default();
        assert_eq!(add(&mut collector, "?OTR|202|101,1,2,ab,"), Ok(None));
        assert_eq!(add(&mut collector, "?OTR|202|303,2,2,xx,"), Ok(None));
        assert_eq!(add(&mut collector, "?OTR|00000202|0,00002,00002,cd,"), Ok(Some(b"abcd".to_vec())));
    }

    #[test]
    fn a_gap_a_copy_and_a_changed_count_drop_the_message() {
        for second in ["?OTR,3,3,c,", "?OTR,1,3,a,", "?OTR,2,4,b,"] {
            let mut collector = Collector::default();
            assert_eq!(add(&mut collector, "?OTR,1,3,a,"), Ok(None));
            let _ = add(&mut collector, second);
            assert_ne!(add(&mut collector, "?OTR,3,3,c,"), Ok(Some(b"abc".to_vec())));
        }
    }

    #[test]
    fn bad_fragments_are_refused() {
        for line in [
            "?OTR,0,1,a,",
            "?OTR,2,1,a,",
            "?OTR,1,1,,",
            "?OTR,1,1,a",
            "?OTR,+1,1,a,",
            "?OTR,65536,65536,a,",
            "?OTR|ff|0,1,1,a,",
        ] {
            assert!(add(&mut Collector::default(), line).is_err(), "{line}");
        }
        assert_eq!(add(&mut Collector::default(), "?OTR,1,1025,a,"), Err(Rejection::TooLarge));
    }

    #[test]
    fn memory_is_bounded_per_stream_and_in_streams() {
        let mut collector = Collector::default();
        let piece = "x".repeat(600);
        let results: Vec<_> = (1..=200).map(|k| add(&mut collector, &format!("?OTR,{k},200,{piece},"))).collect();
        assert!(results.contains(&Err(Rejection::TooLarge)));
        for tag in 0x100..0x200 {
            let _ = add(&mut collector, &format!("?OTR|{tag:x}|101,1,2,ab,"));
        }
        assert!(collector.streams.len() <= limits::MAX_FRAGMENT_STREAMS);
        collector.expire(Instant::now() + limits::FRAGMENT_TIMEOUT);
        assert!(collector.streams.is_empty());
    }
}
