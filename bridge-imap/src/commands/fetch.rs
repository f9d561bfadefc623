//! FETCH.

use super::gather::{Batch, Batches, Gathered, Needs};
use crate::connection::{Connection, Fault, Handled, Reply};
use crate::proto::command::{Fetch, Item, Section, SectionText};
use crate::proto::date::InternalDate;
use crate::proto::section::{self, Place};
use crate::proto::structure;
use mesyx_sdk::{Content, Flag, FlagChange, Uid};
use std::collections::HashSet;

/// The items of a FETCH and what they take.
struct Plan {
    items: Vec<Item>,
    needs: Needs,
    /// It sets `\Seen`.
    seen: bool,
    condstore: bool,
}

impl Plan {
    fn new(items: Vec<Item>, read_only: bool, condstore: bool) -> Self {
        let body = items.iter().any(needs_body);
        let summary = items.iter().any(|item| needs_summary(item, body));
        let seen = !read_only && items.iter().any(sets_seen);
        Self { items, needs: Needs { summary, body }, seen, condstore }
    }
}

const fn needs_body(item: &Item) -> bool {
    match item {
        Item::Rfc822 | Item::Rfc822Text => true,
        Item::Section { section, .. } => !section::in_top_headers(section),
        _ => false,
    }
}

fn needs_summary(item: &Item, body: bool) -> bool {
    match item {
        Item::Uid | Item::Flags | Item::ModSeq | Item::EmailId | Item::ThreadId | Item::Rfc822 => false,
        // The whole message tells its size.
        Item::Size => !body,
        Item::Section { section, .. } => !(section.path.is_empty() && section.text == SectionText::All),
        _ => true,
    }
}

const fn sets_seen(item: &Item) -> bool {
    match item {
        Item::Rfc822 | Item::Rfc822Text => true,
        Item::Section { peek, .. } => !*peek,
        _ => false,
    }
}

impl Connection {
    pub(crate) async fn fetch(&mut self, fetch: Fetch) -> Handled {
        if fetch.vanished && !self.user()?.qresync {
            return Ok(Reply::bad("Enable QRESYNC first"));
        }
        let mut items = fetch.items;
        if fetch.changed_since.is_some() || items.contains(&Item::ModSeq) {
            self.enable_condstore()?;
        }
        let mut uids = self.uids(&fetch.set, fetch.uid)?;
        if let Some(since) = fetch.changed_since {
            if !items.contains(&Item::ModSeq) {
                items.push(Item::ModSeq);
            }
            if fetch.vanished {
                self.fetch_vanished(&fetch.set, since).await?;
            }
            let view = &self.selected()?.view;
            uids.retain(|uid| view.row(*uid).is_some_and(|row| row.modseq > since));
        }
        let condstore = self.user()?.condstore;
        let plan = Plan::new(items, self.selected()?.read_only, condstore);
        let asked = uids.len();
        let (given, unreadable) = if plan.needs.summary || plan.needs.body {
            self.fetch_opened(&plan, &uids).await?
        } else {
            for uid in &uids {
                let gathered = Gathered { uid: *uid, summary: None, body: None };
                self.write_message(&plan, &gathered, false).await?;
            }
            (asked, 0)
        };
        metrics::counter!("mesyx_imap_fetched_total").increment(given as u64);
        if unreadable > 0 {
            return Ok(
                Reply::no(format!("{unreadable} of the messages are damaged and can't be opened")).code("CORRUPTION")
            );
        }
        // A UID that is not there is passed over without a word (RFC 3501, section 6.4.8).
        if given < asked && !fetch.uid {
            return Ok(Reply::no("Some of the messages exist no longer").code("EXPUNGEISSUED"));
        }
        Ok(Reply::ok("fetched"))
    }

    /// Which messages of the set went since (RFC 7162, section 3.2.6).
    async fn fetch_vanished(&mut self, set: &crate::proto::sequence::SequenceSet, since: u64) -> Result<(), Fault> {
        let mailbox = self.selected()?.mailbox;
        let changes = self.session()?.changes(mailbox, since).await?;
        let ranges = set.ranges(Uid::MAX);
        let asked = |uid: &Uid| ranges.iter().any(|range| range.contains(uid));
        self.write_vanished(changes.vanished.into_iter().filter(asked));
        Ok(())
    }

    /// Fetches what takes opening messages: the next batch is opened while this one is written.
    async fn fetch_opened(&mut self, plan: &Plan, uids: &[Uid]) -> Result<(usize, usize), Fault> {
        let session = self.session()?;
        let selected = self.selected()?;
        let mailbox = selected.mailbox;
        let sized = |uid: &Uid| Some((*uid, selected.view.row(*uid)?.kib));
        let messages: Vec<(Uid, u32)> = uids.iter().filter_map(sized).collect();
        let shares = self.shared.shares.clone();
        let mut batches = Batches::start(session, mailbox, messages, plan.needs, shares);
        let (mut given, mut unreadable) = (0, 0);
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            let now_seen = self.mark_seen(plan, &batch).await?;
            for message in &batch.messages {
                self.write_message(plan, message, now_seen.contains(&message.uid)).await?;
            }
            given += batch.messages.len();
            unreadable += batch.unreadable;
        }
        Ok((given, unreadable))
    }

    /// Sets `\Seen` on those of a batch that lack it, where the FETCH does that; returns which.
    async fn mark_seen(&mut self, plan: &Plan, batch: &Batch) -> Result<HashSet<Uid>, Fault> {
        if !plan.seen {
            return Ok(HashSet::new());
        }
        let session = self.session()?;
        let selected = self.selected()?;
        let unseen = |uid: &Uid| selected.view.row(*uid).is_some_and(|row| !row.flags.contains(&Flag::Seen));
        let uids: Vec<Uid> = batch.messages.iter().map(|message| message.uid).filter(unseen).collect();
        if uids.is_empty() {
            return Ok(HashSet::new());
        }
        let change = FlagChange::Add(vec![Flag::Seen]);
        let stored = session.store_flags(selected.mailbox, &uids, &change, None).await?;
        stored.entries.iter().for_each(|entry| selected.view.stored(entry));
        Ok(uids.into_iter().collect())
    }

    /// Writes one FETCH response.
    async fn write_message(&mut self, plan: &Plan, message: &Gathered, now_seen: bool) -> Result<(), Fault> {
        let Some(selected) = self.user.as_deref().and_then(|user| user.selected.as_ref()) else { return Ok(()) };
        let view = &selected.view;
        let (Some(sequence), Some(row)) = (view.sequence(message.uid), view.row(message.uid)) else { return Ok(()) };
        let recent = row.uid >= view.recent_from;
        let wire = &mut self.wire;
        wire.out().text("* ");
        wire.out().number(sequence.into());
        wire.out().text(" FETCH (");
        for (index, item) in plan.items.iter().enumerate() {
            let out = wire.out();
            if index > 0 {
                out.text(" ");
            }
            match item {
                Item::Uid => {
                    out.text("UID ");
                    out.number(row.uid.into());
                }
                Item::Flags => {
                    out.text("FLAGS ");
                    out.flags(&row.flags, recent);
                }
                Item::ModSeq => out.put(format_args!("MODSEQ ({})", row.modseq)),
                Item::EmailId => out.put(format_args!("EMAILID ({})", row.message)),
                Item::ThreadId => out.text("THREADID NIL"),
                item => {
                    if let Some(content) = write_opened(out, item, message) {
                        wire.literal(&content).await?;
                    }
                }
            }
        }
        let out = wire.out();
        if now_seen && !plan.items.contains(&Item::Flags) {
            out.text(" FLAGS ");
            out.flags(&row.flags, recent);
        }
        // With flags goes the modification sequence, where the client keeps account (RFC 7162, section 3.1).
        let flags = now_seen || plan.items.contains(&Item::Flags);
        if plan.condstore && flags && !plan.items.contains(&Item::ModSeq) {
            out.put(format_args!(" MODSEQ ({})", row.modseq));
        }
        out.text(")\r\n");
        wire.gathered().await?;
        Ok(())
    }
}

/// Writes an item that takes a summary or body, or its label only where the content returned is to follow as a literal.
fn write_opened(out: &mut crate::proto::write::Out, item: &Item, message: &Gathered) -> Option<Content> {
    if let (Item::Size, Some(body)) = (item, &message.body) {
        out.text("RFC822.SIZE ");
        out.number(body.len() as u64);
        return None;
    }
    let label = match item {
        Item::Rfc822 => "RFC822 ",
        Item::Rfc822Header => "RFC822.HEADER ",
        Item::Rfc822Text => "RFC822.TEXT ",
        _ => "",
    };
    out.text(label);
    match item {
        Item::Rfc822 => return Some(message.body.clone().unwrap_or_default()),
        Item::Section { section, partial, .. } => {
            section::label(out, section, *partial);
            out.text(" ");
            return match find(section, message) {
                Some(content) => Some(section::cut(&content, *partial)),
                None => {
                    out.text("NIL");
                    None
                }
            };
        }
        _ => {}
    }
    let summary = message.summary.as_deref()?;
    match item {
        Item::InternalDate => out.put(format_args!("INTERNALDATE {}", InternalDate(summary.internal_date))),
        Item::Size => {
            out.text("RFC822.SIZE ");
            out.number(summary.size);
        }
        Item::Envelope => {
            out.text("ENVELOPE ");
            structure::envelope(out, &summary.fields);
        }
        Item::Body | Item::BodyStructure => {
            let extended = *item == Item::BodyStructure;
            out.text(if extended { "BODYSTRUCTURE " } else { "BODY " });
            structure::body_structure(out, &summary.structure, extended);
        }
        Item::Rfc822Header => return Some(summary.headers.clone()),
        Item::Rfc822Text => {
            let body = message.body.clone().unwrap_or_default();
            return Some(body.slice(summary.structure.header.end, body.len() as u64));
        }
        _ => {}
    }
    None
}

/// The bytes of a section. `None` where the message has no such part.
fn find(section: &Section, message: &Gathered) -> Option<Content> {
    let body = message.body.as_ref();
    if section.path.is_empty() && section.text == SectionText::All {
        return body.cloned();
    }
    let summary = message.summary.as_deref()?;
    if section.path.is_empty()
        && let SectionText::Header = section.text
    {
        return Some(summary.headers.clone());
    }
    if section::in_top_headers(section)
        && let SectionText::Fields { not, names } = &section.text
    {
        return Some(Content::from(section::fields(&summary.headers, *not, names)));
    }
    match (section::find(section, summary), &section.text) {
        (Place::Range(range), _) => Some(body?.slice(range.start, range.end)),
        (Place::Fields(range), SectionText::Fields { not, names }) => {
            Some(Content::from(section::fields(&body?.slice(range.start, range.end), *not, names)))
        }
        _ => None,
    }
}
