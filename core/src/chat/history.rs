//! What was said: ranges of a conversation, opened for one reader.

use crate::access::AccessSession;
use crate::errors::stored;
use crate::store::LineRange;
use mesyx_sdk::{Anchor, ChatLine, Error, ErrorKind, History, MailboxId, Timestamp, Uid};
use std::sync::Arc;

/// Most lines in one answer.
const MOST: usize = 1000;
/// Sealed bytes that are read at once.
const BYTES: u64 = 4 << 20;
/// Lines that are read at once while a time is looked for.
const PROBE: u32 = 4;

impl AccessSession {
    /// See [`mesyx_sdk::Session::history`].
    pub(crate) async fn read_history(
        &self,
        mailbox: MailboxId,
        wanted: History,
        limit: usize,
    ) -> Result<Vec<Arc<ChatLine>>, Error> {
        let limit = limit.min(MOST);
        let range = |after, before, last| LineRange { after, before, last, limit: 0, max_bytes: BYTES };
        match wanted {
            History::Latest(None) => self.gather(mailbox, range(0, Uid::MAX, true), limit).await,
            History::Latest(Some(anchor)) => {
                let after = self.at(mailbox, anchor, Side::After).await?;
                self.gather(mailbox, range(after, Uid::MAX, true), limit).await
            }
            History::Before(anchor) => {
                let before = self.at(mailbox, anchor, Side::Before).await?;
                self.gather(mailbox, range(0, before, true), limit).await
            }
            History::After(anchor) => {
                let after = self.at(mailbox, anchor, Side::After).await?;
                self.gather(mailbox, range(after, Uid::MAX, false), limit).await
            }
            History::Around(anchor) => {
                let from = self.at(mailbox, anchor, Side::Before).await?;
                let before = self.gather(mailbox, range(0, from, true), limit / 2).await?;
                let rest = limit - before.len();
                let after = self.gather(mailbox, range(from.saturating_sub(1), Uid::MAX, false), rest).await?;
                Ok(before.into_iter().chain(after).collect())
            }
            History::Between(one, other) => {
                let (from, to) =
                    (self.at(mailbox, one, Side::After).await?, self.at(mailbox, other, Side::Before).await?);
                if from < to {
                    return self.gather(mailbox, range(from, to, false), limit).await;
                }
                // The other way round: the last ones before the first place.
                let (from, to) =
                    (self.at(mailbox, other, Side::After).await?, self.at(mailbox, one, Side::Before).await?);
                self.gather(mailbox, range(from, to, true), limit).await
            }
        }
    }

    /// Opened lines of a range until there are enough, in their order. What is no line is passed over.
    async fn gather(
        &self,
        mailbox: MailboxId,
        mut range: LineRange,
        limit: usize,
    ) -> Result<Vec<Arc<ChatLine>>, Error> {
        let mut found: Vec<Arc<ChatLine>> = Vec::new();
        while found.len() < limit && range.after.saturating_add(1) < range.before {
            range.limit = u32::try_from(limit - found.len()).unwrap_or(u32::MAX);
            let lines = self.open_lines(mailbox, range).await?;
            let (Some(first), Some(last)) = (lines.first(), lines.last()) else { break };
            let (first, last) = (first.0, last.0);
            let opened = lines.into_iter().filter_map(|(_, line)| line);
            if range.last {
                range.before = first;
                found.splice(0..0, opened);
            } else {
                range.after = last;
                found.extend(opened);
            }
        }
        Ok(found)
    }

    /// The UID that parts what is on one side of a place from the rest: for what comes after it, the last that does not; for what
    /// comes before it, the first that does not.
    async fn at(&self, mailbox: MailboxId, anchor: Anchor, side: Side) -> Result<Uid, Error> {
        match anchor {
            Anchor::Message(message) => {
                let found = self.shared.store.uid_of(self.keys.member.id, mailbox, message).await.map_err(stored)?;
                found.ok_or_else(|| Error::new(ErrorKind::NotFound, "there is no such line in this conversation"))
            }
            Anchor::Time(time) => {
                let numbers = self.shared.store.line_numbers(self.keys.member.id, mailbox).await.map_err(stored)?;
                // The first line that is at the time or later; for what comes after it, the first that is later.
                let past = |at: Timestamp| match side {
                    Side::Before => at >= time,
                    Side::After => at > time,
                };
                let (mut low, mut high) = (numbers.first, numbers.last.saturating_add(1));
                while low < high {
                    let middle = low + (high - low) / 2;
                    match self.first_from(mailbox, middle, high).await? {
                        Some(line) if !past(line.at) => low = line.uid + 1,
                        _ => high = middle,
                    }
                }
                Ok(match side {
                    Side::Before => low,
                    Side::After => low.saturating_sub(1),
                })
            }
        }
    }

    /// The first line with a UID from `from` on, below `before`.
    async fn first_from(&self, mailbox: MailboxId, from: Uid, before: Uid) -> Result<Option<Arc<ChatLine>>, Error> {
        let mut after = from.saturating_sub(1);
        loop {
            let range = LineRange { after, before, last: false, limit: PROBE, max_bytes: 1 };
            let lines = self.open_lines(mailbox, range).await?;
            let Some((last, _)) = lines.last() else { return Ok(None) };
            after = *last;
            if let Some(line) = lines.into_iter().find_map(|(_, line)| line) {
                return Ok(Some(line));
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Side {
    Before,
    After,
}
