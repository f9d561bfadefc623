//! What was said and what was read, as `chathistory` and `draft/read-marker` ask for it.

use super::server::Shared;
use mesyx_sdk::{
    Anchor, ChatLine, Conversation, ConversationInfo, Error, History, Line, MailboxId, Secret, Session, Timestamp, Uid,
    Verb,
};
use std::collections::HashMap;
use std::sync::Arc;

/// Lines that are read at once, where some of them may not be wanted.
const PAGE: usize = 100;
/// Pages of one answer: who wants only what was said is not shown what lies behind some thousand events without a word between them.
const PAGES: usize = 50;
/// Markers kept of one user; the newest stay.
const MARKERS: usize = 1000;

type Lines = Vec<Arc<ChatLine>>;

/// Lines of a conversation; `events`: what happened counts too. An answer of fewer than `limit` lines is all there is.
pub(super) async fn lines(
    session: &dyn Session,
    mailbox: MailboxId,
    wanted: History,
    limit: usize,
    events: bool,
) -> Result<Lines, Error> {
    if events {
        return session.history(mailbox, wanted, limit).await;
    }
    let History::Around(anchor) = wanted else { return spoken(session, mailbox, wanted, limit).await };
    let mut found = spoken(session, mailbox, History::Before(anchor), limit / 2).await?;
    let at = session.history(mailbox, wanted, 1).await?;
    let Some(place) = at.first().map(|line| Anchor::Message(line.id)) else { return Ok(found) };
    found.extend(at.into_iter().filter(|line| is_spoken(line)));
    let rest = limit.saturating_sub(found.len());
    found.extend(spoken(session, mailbox, History::After(place), rest).await?);
    Ok(found)
}

fn is_spoken(line: &ChatLine) -> bool {
    matches!(line.line.verb, Verb::Say | Verb::Notice | Verb::Action)
}

/// Lines that somebody said, in their order.
async fn spoken(session: &dyn Session, mailbox: MailboxId, wanted: History, limit: usize) -> Result<Lines, Error> {
    let mut found: Lines = Vec::new();
    let mut next = wanted;
    let backwards = match wanted {
        History::Latest(_) | History::Before(_) => true,
        History::Between(one, other) => place(session, mailbox, one).await? > place(session, mailbox, other).await?,
        _ => false,
    };
    for _ in 0..PAGES {
        if found.len() >= limit {
            break;
        }
        let wants = limit.max(PAGE);
        let page = session.history(mailbox, next, wants).await?;
        let (Some(first), Some(last)) = (page.first(), page.last()) else { break };
        let reached = Anchor::Message(if backwards { first.id } else { last.id });
        let whole = page.len() >= wants;
        next = match wanted {
            History::Latest(Some(end)) | History::Between(_, end) => History::Between(reached, end),
            _ if backwards => History::Before(reached),
            _ => History::After(reached),
        };
        let said = page.into_iter().filter(|line| is_spoken(line));
        if backwards {
            found.splice(0..0, said);
        } else {
            found.extend(said);
        }
        if !whole {
            break;
        }
    }
    if backwards {
        found.drain(..found.len().saturating_sub(limit));
    }
    found.truncate(limit);
    Ok(found)
}

/// Where a place is among the lines.
async fn place(session: &dyn Session, mailbox: MailboxId, anchor: Anchor) -> Result<Uid, Error> {
    let at = session.history(mailbox, History::Around(anchor), 1).await?;
    Ok(at.first().map_or(Uid::MAX, |line| line.uid))
}

/// The conversations whose last line was said between two moments, in the order of these lines; the `limit` nearest to `from`.
pub(super) async fn targets(
    session: &dyn Session,
    from: Timestamp,
    to: Timestamp,
    limit: usize,
) -> Result<Vec<(Conversation, Timestamp)>, Error> {
    let mut found = Vec::new();
    for info in session.conversations().await? {
        let last = spoken(session, info.mailbox, History::Latest(None), 1).await?;
        if let Some(line) = last.last().filter(|line| from.min(to) < line.at && line.at < from.max(to)) {
            found.push((info.conversation, line.at));
        }
    }
    found.sort_by_key(|(_, at)| *at);
    if from > to {
        found.drain(..found.len().saturating_sub(limit));
    }
    found.truncate(limit);
    Ok(found)
}

/// How far a conversation was read; `set` moves it on, never back. What lies before it is marked as read for every program of the user's.
pub(super) async fn marker(
    shared: &Shared,
    session: &dyn Session,
    conversation: &Conversation,
    set: Option<Timestamp>,
) -> Result<Option<Timestamp>, Error> {
    let mut info = session.conversation(conversation, false).await?;
    if let Some(set) = set {
        let before = History::Before(Anchor::Time(Timestamp(set.0.saturating_add(1))));
        if let Some(line) = session.history(info.mailbox, before, 1).await?.last().filter(|line| line.uid > info.read) {
            session.mark_read(info.mailbox, line.uid).await?;
            info.read = line.uid;
        }
        // A moment at which nothing was said is on no line; only such a one is kept apart from the lines.
        if read_up_to(shared, session, &info).await? < Some(set) {
            keep(shared, session, info.mailbox, set).await?;
        }
    }
    read_up_to(shared, session, &info).await
}

/// How far a conversation was read: the marker that a client set, or the last line that is marked as read, whichever is later.
pub(super) async fn read_up_to(
    shared: &Shared,
    session: &dyn Session,
    info: &ConversationInfo,
) -> Result<Option<Timestamp>, Error> {
    let kept = kept(shared, session).await.get(&info.mailbox.to_string()).copied().map(Timestamp);
    Ok(kept.max(time_of(shared, session, info).await?))
}

/// When the last line that is marked as read was said.
async fn time_of(shared: &Shared, session: &dyn Session, info: &ConversationInfo) -> Result<Option<Timestamp>, Error> {
    if info.read == 0 {
        return Ok(None);
    }
    // Most often that number is a line's, and nothing has to be looked for.
    let body = session.bodies(info.mailbox, &[info.read]).await.unwrap_or_default();
    let line = body.first().filter(|(uid, _)| *uid == info.read);
    if let Some((headers, _)) = line.and_then(|(_, content)| Line::from_content(content, shared.host.domain())) {
        return Ok(Some(headers.at));
    }
    let mut next = History::Latest(None);
    loop {
        let page = session.history(info.mailbox, next, 1000).await?;
        if let Some(line) = page.iter().rev().find(|line| line.uid <= info.read) {
            return Ok(Some(line.at));
        }
        let Some(first) = page.first() else { return Ok(None) };
        next = History::Before(Anchor::Message(first.id));
    }
}

fn key(session: &dyn Session) -> String {
    format!("read/{}", session.user().id)
}

/// The markers that clients of a user set, in milliseconds, by mailbox.
async fn kept(shared: &Shared, session: &dyn Session) -> HashMap<String, i64> {
    match shared.host.checkpoint(&key(session)).await {
        Ok(Some(kept)) => serde_json::from_slice(kept.expose()).unwrap_or_default(),
        _ => HashMap::new(),
    }
}

async fn keep(shared: &Shared, session: &dyn Session, mailbox: MailboxId, at: Timestamp) -> Result<(), Error> {
    let _one = shared.marking.lock().await;
    let mut all = kept(shared, session).await;
    let marker = all.entry(mailbox.to_string()).or_insert(i64::MIN);
    if *marker >= at.0 {
        return Ok(());
    }
    *marker = at.0;
    while all.len() > MARKERS {
        let Some(oldest) = all.iter().min_by_key(|(_, at)| **at).map(|(mailbox, _)| mailbox.clone()) else { break };
        all.remove(&oldest);
    }
    let json = serde_json::to_vec(&all).unwrap_or_default();
    shared.host.set_checkpoint(&key(session), Some(Secret::new(json))).await
}
