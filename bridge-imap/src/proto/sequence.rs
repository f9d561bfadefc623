//! Sets of message numbers (RFC 3501, section 9, `sequence-set`).

use std::fmt::{self, Write as _};
use std::ops::RangeInclusive;

/// One end of a range: a number from 1, or `*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    Number(u32),
    Last,
}

impl Bound {
    const fn value(self, last: u32) -> u32 {
        match self {
            Self::Number(number) => number,
            Self::Last => last,
        }
    }
}

/// Ranges as the client wrote them; their ends may stand in either order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SequenceSet(pub(crate) Vec<(Bound, Bound)>);

impl SequenceSet {
    /// The set with `*` read as `last`: in order, not touching each other. Empty where `*` names nothing (`last` is 0).
    pub(crate) fn ranges(&self, last: u32) -> Vec<RangeInclusive<u32>> {
        let pairs = self.0.iter().map(|(from, to)| (from.value(last), to.value(last)));
        merge(pairs.map(|(from, to)| from.min(to).max(1)..=from.max(to)).collect())
    }

    /// The highest number written out, `*` aside.
    pub(crate) fn highest(&self) -> u32 {
        self.0.iter().map(|(from, to)| from.value(0).max(to.value(0))).max().unwrap_or(0)
    }

    /// Whether `*` stands in it.
    pub(crate) fn has_last(&self) -> bool {
        self.0.iter().any(|(from, to)| *from == Bound::Last || *to == Bound::Last)
    }
}

/// Sorts ranges and joins those that touch.
fn merge(mut ranges: Vec<RangeInclusive<u32>>) -> Vec<RangeInclusive<u32>> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_unstable_by_key(|range| *range.start());
    let mut merged: Vec<RangeInclusive<u32>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(before) if *range.start() <= before.end().saturating_add(1) => {
                *before = *before.start()..=*before.end().max(range.end());
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// Ranges that hold the numbers given in order.
pub(crate) fn compress(numbers: impl IntoIterator<Item = u32>) -> Vec<RangeInclusive<u32>> {
    let mut ranges: Vec<RangeInclusive<u32>> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some(range) if range.end().checked_add(1) == Some(number) => *range = *range.start()..=number,
            _ => ranges.push(number..=number),
        }
    }
    ranges
}

/// Numbers as a `sequence-set`, in the order given; a rising run is written as a range.
pub(crate) struct AsSet<I>(pub(crate) I);

impl<I: Iterator<Item = u32> + Clone> fmt::Display for AsSet<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in compress(self.0.clone()).into_iter().enumerate() {
            if index > 0 {
                f.write_char(',')?;
            }
            write!(f, "{}", range.start())?;
            if range.start() != range.end() {
                write!(f, ":{}", range.end())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Bound::{Last, Number};
    use super::*;

    #[test]
    fn ends_in_either_order_and_overlaps() {
        let set = SequenceSet(vec![
            (Number(9), Number(7)),
            (Number(2), Number(2)),
            (Number(3), Number(8)),
            (Last, Number(20)),
        ]);
        assert_eq!(set.ranges(15), [2..=9, 15..=20]);
        assert_eq!(set.highest(), 20);
    }

    #[test]
    fn star_in_an_empty_mailbox_names_nothing() {
        assert!(SequenceSet(vec![(Last, Last)]).ranges(0).is_empty());
    }

    #[test]
    fn a_star_alone_reaches_back_to_the_last_message() {
        // RFC 3501, section 6.4.8: UID 559:* has the last message even where its UID is below 559.
        assert_eq!(SequenceSet(vec![(Number(559), Last)]).ranges(100), [100..=559]);
    }

    #[test]
    fn numbers_are_written_in_ranges() {
        assert_eq!(AsSet([1, 2, 3, 7, 9, 10].into_iter()).to_string(), "1:3,7,9:10");
        assert_eq!(AsSet([u32::MAX].into_iter()).to_string(), "4294967295");
        assert_eq!(AsSet([5, 4, 3].into_iter()).to_string(), "5,4,3");
    }
}
