//! What one connection has been told of its selected mailbox: sequence numbers, flags, and what it must yet be told.

use crate::proto::sequence::{SequenceSet, compress};
use crate::proto::write::Out;
use mesyx_sdk::{Changes, Entry, Flag, Flags, MessageId, ModSeq, Snapshot, Uid, UidValidity};
use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};

/// One message. Kept small: every connection has one for each message.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) uid: Uid,
    /// Its padded size in KiB, rounded up.
    pub(crate) kib: u32,
    pub(crate) modseq: ModSeq,
    pub(crate) message: MessageId,
    pub(crate) flags: Flags,
}

impl Row {
    fn new(entry: &Entry, flags: Flags) -> Self {
        let kib = u32::try_from(entry.padded_size.div_ceil(1024)).unwrap_or(u32::MAX);
        Self { uid: entry.uid, kib, modseq: entry.modseq, message: entry.message, flags }
    }
}

/// How changes are told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Telling {
    /// Whether EXPUNGE may be told now (RFC 3501, section 7.4.1).
    pub(crate) expunge: bool,
    /// Modification sequences go with flags (RFC 7162).
    pub(crate) condstore: bool,
    /// VANISHED in place of EXPUNGE.
    pub(crate) qresync: bool,
}

/// See the module. The position of a row is its sequence number less one.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) uid_validity: UidValidity,
    pub(crate) uid_next: Uid,
    pub(crate) modseq: ModSeq,
    /// Messages from this UID on are `\Recent` here.
    pub(crate) recent_from: Uid,
    rows: Vec<Row>,
    /// Expunged, but not told yet.
    gone: BTreeSet<Uid>,
    /// Flags changed, but not told yet.
    changed: BTreeSet<Uid>,
    /// How many messages the client knows of.
    told: usize,
    keywords: BTreeSet<Flag>,
    new_keywords: bool,
}

impl View {
    /// The view of a mailbox that is being selected.
    pub(crate) fn new(snapshot: &Snapshot) -> Self {
        let mut view = Self {
            uid_validity: snapshot.uid_validity,
            uid_next: snapshot.uid_next,
            modseq: snapshot.highest_modseq,
            recent_from: snapshot.recent_from,
            rows: Vec::with_capacity(snapshot.entries.len()),
            gone: BTreeSet::new(),
            changed: BTreeSet::new(),
            told: snapshot.entries.len(),
            keywords: BTreeSet::new(),
            new_keywords: false,
        };
        let mut shared = SharedFlags::default();
        for entry in &snapshot.entries {
            let flags = shared.share(&entry.flags);
            view.note_keywords(&flags);
            view.rows.push(Row::new(entry, flags));
        }
        view.new_keywords = false;
        view
    }

    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// How many messages the client knows of.
    pub(crate) const fn exists(&self) -> usize {
        self.told
    }

    pub(crate) fn recent(&self) -> usize {
        let told = &self.rows[..self.told];
        told.len() - told.partition_point(|row| row.uid < self.recent_from)
    }

    /// The sequence number of the first message without `\Seen`.
    pub(crate) fn first_unseen(&self) -> Option<usize> {
        self.rows.iter().position(|row| !row.flags.contains(&Flag::Seen)).map(|index| index + 1)
    }

    /// The system flags and all keywords seen so far.
    pub(crate) fn known_flags(&self) -> Flags {
        let system = [Flag::Answered, Flag::Deleted, Flag::Draft, Flag::Flagged, Flag::Seen];
        system.into_iter().chain(self.keywords.iter().cloned()).collect()
    }

    fn note_keywords(&mut self, flags: &Flags) {
        for flag in flags {
            if matches!(flag, Flag::Keyword(_)) && !self.keywords.contains(flag) {
                self.keywords.insert(flag.clone());
                self.new_keywords = true;
            }
        }
    }

    fn index(&self, uid: Uid) -> Option<usize> {
        self.rows.binary_search_by_key(&uid, |row| row.uid).ok()
    }

    /// The row of a message.
    pub(crate) fn row(&self, uid: Uid) -> Option<&Row> {
        self.index(uid).map(|index| &self.rows[index])
    }

    /// The sequence number of a message that the client knows of.
    pub(crate) fn sequence(&self, uid: Uid) -> Option<u32> {
        self.index(uid).filter(|index| *index < self.told).and_then(|index| u32::try_from(index + 1).ok())
    }

    /// The rows that a set of sequence numbers names. `None` where it names a message that is not there.
    pub(crate) fn by_sequence(&self, set: &SequenceSet) -> Option<Vec<Range<usize>>> {
        let last = u32::try_from(self.told).unwrap_or(u32::MAX);
        if last == 0 {
            return set.has_last().then(Vec::new);
        }
        if set.highest() > last {
            return None;
        }
        Some(set.ranges(last).into_iter().map(|range| *range.start() as usize - 1..*range.end() as usize).collect())
    }

    /// The rows that a set of UIDs names; those that are not there are passed over.
    pub(crate) fn by_uid(&self, set: &SequenceSet) -> Vec<Range<usize>> {
        let told = &self.rows[..self.told];
        let Some(last) = told.last() else {
            return Vec::new();
        };
        let place = |uid: Uid| told.partition_point(|row| row.uid < uid);
        let rows =
            |range: RangeInclusive<Uid>| place(*range.start())..told.partition_point(|row| row.uid <= *range.end());
        set.ranges(last.uid).into_iter().map(rows).filter(|range| !range.is_empty()).collect()
    }

    /// The UIDs of the messages that the client knows of as recent.
    pub(crate) fn recent_uids(&self) -> RangeInclusive<Uid> {
        self.recent_from..=Uid::MAX
    }

    /// Takes in what changed in the mailbox.
    pub(crate) fn apply(&mut self, changes: Changes) {
        self.modseq = self.modseq.max(changes.highest_modseq);
        self.uid_next = self.uid_next.max(changes.uid_next);
        for entry in changes.changed {
            self.apply_entry(&entry);
        }
        for uid in changes.vanished {
            self.remove(uid);
        }
    }

    fn apply_entry(&mut self, entry: &Entry) {
        match self.index(entry.uid) {
            Some(index) => {
                let row = &self.rows[index];
                if entry.modseq < row.modseq {
                    return;
                }
                if row.flags != entry.flags || row.modseq != entry.modseq {
                    self.changed.insert(entry.uid);
                }
                self.set(index, entry);
            }
            // UIDs only grow: a lower one that is not here was expunged, and the client told so.
            None if self.rows.last().is_none_or(|last| last.uid < entry.uid) => {
                self.note_keywords(&entry.flags);
                self.rows.push(Row::new(entry, entry.flags.clone()));
            }
            None => {}
        }
    }

    fn set(&mut self, index: usize, entry: &Entry) {
        self.note_keywords(&entry.flags);
        self.rows[index].flags = entry.flags.clone();
        self.rows[index].modseq = entry.modseq;
    }

    /// Takes in what this connection itself did to a message's flags, which the client is told of otherwise.
    pub(crate) fn stored(&mut self, entry: &Entry) {
        if let Some(index) = self.index(entry.uid)
            && entry.modseq >= self.rows[index].modseq
        {
            self.set(index, entry);
            self.changed.remove(&entry.uid);
        }
    }

    /// Notes that the client must be told a message's flags.
    pub(crate) fn must_tell(&mut self, uid: Uid) {
        self.changed.insert(uid);
    }

    /// Notes that a message was expunged.
    pub(crate) fn remove(&mut self, uid: Uid) {
        if self.index(uid).is_some() {
            self.gone.insert(uid);
        }
    }

    /// Writes the untagged responses that bring the client up to date.
    pub(crate) fn tell(&mut self, out: &mut Out, how: Telling) {
        if how.expunge && !self.gone.is_empty() {
            self.tell_gone(out, how.qresync);
        }
        self.tell_new_keywords(out);
        if self.told != self.rows.len() {
            self.told = self.rows.len();
            out.put(format_args!("* {} EXISTS\r\n* {} RECENT\r\n", self.told, self.recent()));
        }
        for uid in std::mem::take(&mut self.changed) {
            let Some(index) = self.index(uid) else { continue };
            if !self.gone.contains(&uid) {
                self.tell_row(out, index, how.condstore);
            }
        }
    }

    /// Writes which flags there are, if there are more than before: ahead of the first message that has them.
    pub(crate) fn tell_new_keywords(&mut self, out: &mut Out) {
        if std::mem::take(&mut self.new_keywords) {
            self.tell_flags(out, true);
        }
    }

    /// Writes which flags there are; `\*` says that keywords can be made, where the mailbox can be changed.
    pub(crate) fn tell_flags(&self, out: &mut Out, writable: bool) {
        let flags = self.known_flags();
        out.text("* FLAGS ");
        out.flags(&flags, false);
        out.text("\r\n* OK [PERMANENTFLAGS (");
        if writable {
            for flag in &flags {
                out.text(flag.as_str());
                out.text(" ");
            }
            out.text("\\*");
        }
        out.text(")] flags that stay\r\n");
    }

    fn tell_row(&self, out: &mut Out, index: usize, condstore: bool) {
        let row = &self.rows[index];
        out.put(format_args!("* {} FETCH (UID {} FLAGS ", index + 1, row.uid));
        out.flags(&row.flags, row.uid >= self.recent_from);
        if condstore {
            out.put(format_args!(" MODSEQ ({})", row.modseq));
        }
        out.text(")\r\n");
    }

    fn tell_gone(&mut self, out: &mut Out, vanished: bool) {
        let gone = std::mem::take(&mut self.gone);
        // A message that came and went before the client knew of it is not spoken of.
        let known = self.rows[..self.told].last().map_or(0, |row| row.uid);
        if vanished {
            let ranges = compress(gone.iter().copied().filter(|uid| *uid <= known));
            if !ranges.is_empty() {
                out.text("* VANISHED ");
                out.ranges(&ranges);
                out.text("\r\n");
            }
        } else {
            // From the last to the first: no number shifts another that is yet to be told.
            for uid in gone.iter().rev().filter(|uid| **uid <= known) {
                if let Some(sequence) = self.sequence(*uid) {
                    out.put(format_args!("* {sequence} EXPUNGE\r\n"));
                }
            }
        }
        let told = &self.rows[..self.told];
        let lost = gone.iter().filter(|uid| told.binary_search_by_key(uid, |row| &row.uid).is_ok()).count();
        self.told -= lost;
        self.rows.retain(|row| !gone.contains(&row.uid));
        for uid in &gone {
            self.changed.remove(uid);
        }
    }
}

/// Lets messages with the same flags share them: most have one of a few combinations.
#[derive(Default)]
struct SharedFlags(Vec<Flags>);

impl SharedFlags {
    fn share(&mut self, flags: &Flags) -> Flags {
        if let Some(known) = self.0.iter().find(|known| *known == flags) {
            return known.clone();
        }
        if self.0.len() < 16 {
            self.0.push(flags.clone());
        }
        flags.clone()
    }
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
