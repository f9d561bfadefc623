//! The calls of [`Session`].

use super::{RemoteHost, ask, feeds, next, within};
use crate::wire::status::from_status;
use crate::wire::{ACCEPT, CALL, CHUNK, MAX_UIDS, PAGE, convert, v1};
use crate::{
    Accepted, Address, Append, Appended, Change, Changes, ChatLine, Content, Conversation, ConversationInfo, Copied,
    Envelope, Error, ErrorKind, FlagChange, FlagsStored, Group, GroupChange, History, LiveFeed, MailAddress, Mailbox,
    MailboxId, MailboxName, MailboxStatus, ModSeq, Query, RecipientStatus, Role, SearchResult, Session, Snapshot,
    Summary, Uid, User, Watcher,
};
use async_trait::async_trait;
use bytes::BytesMut;
use std::sync::Arc;
use tokio::sync::mpsc;
use tonic::Request;
use tonic::transport::Channel;
use v1::session_client::SessionClient;

/// Most messages whose summaries or bodies are asked for in one call; the contract allows an answer for fewer.
const ASKED: usize = 10 * PAGE;
/// Largest body that is believed to come, in bytes.
const MAX_BODY: u64 = 1 << 31;

/// A user's session at the other end. Closed there when it is dropped here.
pub(super) struct RemoteSession {
    host: RemoteHost,
    number: u64,
    user: User,
}

impl RemoteSession {
    pub(super) const fn new(host: RemoteHost, number: u64, user: User) -> Self {
        Self { host, number, user }
    }

    fn client(&self) -> SessionClient<Channel> {
        self.host.0.connection.session()
    }
}

impl Drop for RemoteSession {
    fn drop(&mut self) {
        let (mut client, session) = (self.client(), self.number);
        // Where there is no runtime any more, the connection ends, and the session with it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { ask!(client, close, v1::CloseRequest { session }).map(drop) });
        }
    }
}

#[async_trait]
impl Session for RemoteSession {
    fn user(&self) -> &User {
        &self.user
    }

    async fn mailboxes(&self) -> Result<Vec<Mailbox>, Error> {
        let reply = ask!(self.client(), mailboxes, v1::MailboxesRequest { session: self.number })?;
        convert::each(reply.mailboxes, TryInto::try_into)
    }

    async fn subscriptions(&self) -> Result<Vec<MailboxName>, Error> {
        let reply = ask!(self.client(), subscriptions, v1::SubscriptionsRequest { session: self.number })?;
        convert::each(reply.names, |name| MailboxName::new(&name))
    }

    async fn subscribe(&self, name: &MailboxName, subscribed: bool) -> Result<(), Error> {
        let request = v1::SubscribeRequest { session: self.number, name: name.to_string(), subscribed };
        ask!(self.client(), subscribe, request).map(drop)
    }

    async fn create_mailbox(&self, name: &MailboxName, role: Option<Role>) -> Result<MailboxId, Error> {
        let role = role.map(|role| v1::Role::from(role).into());
        let request = v1::CreateMailboxRequest { session: self.number, name: name.to_string(), role };
        Ok(MailboxId(convert::id(&ask!(self.client(), create_mailbox, request)?.id)?))
    }

    async fn rename_mailbox(&self, name: &MailboxName, new: &MailboxName) -> Result<(), Error> {
        let request = v1::RenameMailboxRequest { session: self.number, name: name.to_string(), new: new.to_string() };
        ask!(self.client(), rename_mailbox, request).map(drop)
    }

    async fn delete_mailbox(&self, name: &MailboxName) -> Result<(), Error> {
        let request = v1::DeleteMailboxRequest { session: self.number, name: name.to_string() };
        ask!(self.client(), delete_mailbox, request).map(drop)
    }

    async fn status(&self, mailbox: MailboxId) -> Result<MailboxStatus, Error> {
        let request = v1::StatusRequest { session: self.number, mailbox: mailbox.0.to_vec() };
        Ok(ask!(self.client(), status, request)?.into())
    }

    async fn snapshot(&self, mailbox: MailboxId, claim_recent: bool) -> Result<Snapshot, Error> {
        let request = v1::SnapshotRequest { session: self.number, mailbox: mailbox.0.to_vec(), claim_recent };
        within(ACCEPT, async {
            let mut pages = ask!(self.client(), snapshot, request)?;
            let first = convert::need(next(&mut pages).await?, "first page")?;
            let mut snapshot = Snapshot {
                uid_validity: first.uid_validity,
                uid_next: first.uid_next,
                highest_modseq: first.highest_modseq,
                recent_from: first.recent_from,
                entries: convert::each(first.entries, TryInto::try_into)?,
            };
            while let Some(page) = next(&mut pages).await? {
                snapshot.entries.extend(convert::each(page.entries, TryInto::try_into)?);
            }
            Ok(snapshot)
        })
        .await
    }

    async fn changes(&self, mailbox: MailboxId, since: ModSeq) -> Result<Changes, Error> {
        let request = v1::ChangesRequest { session: self.number, mailbox: mailbox.0.to_vec(), since };
        within(ACCEPT, async {
            let mut pages = ask!(self.client(), changes, request)?;
            let first = convert::need(next(&mut pages).await?, "first page")?;
            let mut changes = Changes {
                highest_modseq: first.highest_modseq,
                uid_next: first.uid_next,
                changed: convert::each(first.changed, TryInto::try_into)?,
                vanished: first.vanished.unwrap_or_default().try_into()?,
                deleted: first.deleted,
            };
            while let Some(page) = next(&mut pages).await? {
                changes.changed.extend(convert::each(page.changed, TryInto::try_into)?);
                changes.vanished.extend(Vec::<Uid>::try_from(page.vanished.unwrap_or_default())?);
            }
            Ok(changes)
        })
        .await
    }

    async fn summaries(&self, mailbox: MailboxId, uids: &[Uid]) -> Result<Vec<(Uid, Arc<Summary>)>, Error> {
        let uids = Some(uids[..uids.len().min(ASKED)].into());
        let request = v1::SummariesRequest { session: self.number, mailbox: mailbox.0.to_vec(), uids };
        within(ACCEPT, async {
            let mut stream = ask!(self.client(), summaries, request)?;
            let mut summaries = Vec::new();
            while let Some(of) = next(&mut stream).await? {
                let summary = convert::need(of.summary, "summary")?.try_into()?;
                summaries.push((of.uid, Arc::new(summary)));
            }
            Ok(summaries)
        })
        .await
    }

    async fn bodies(&self, mailbox: MailboxId, uids: &[Uid]) -> Result<Vec<(Uid, Content)>, Error> {
        use v1::download::Part;
        let uids = Some(uids[..uids.len().min(ASKED)].into());
        let request = v1::BodiesRequest { session: self.number, mailbox: mailbox.0.to_vec(), uids };
        within(ACCEPT, async {
            let mut stream = ask!(self.client(), bodies, request)?;
            let mut bodies = Vec::new();
            while let Some(part) = next(&mut stream).await? {
                let Some(Part::Head(head)) = part.part else {
                    return Err(convert::invalid("a body's piece came before its head"));
                };
                if head.size == head.body.len() as u64 {
                    bodies.push((head.uid, Content::from(head.body)));
                    continue;
                }
                if head.size > MAX_BODY {
                    return Err(Error::new(ErrorKind::TooLarge, "a body is larger than a message can be"));
                }
                let size = usize::try_from(head.size).unwrap_or(usize::MAX);
                let mut body = BytesMut::with_capacity(size);
                body.extend_from_slice(&head.body);
                while body.len() < size {
                    match next(&mut stream).await?.and_then(|part| part.part) {
                        Some(Part::Chunk(chunk)) if body.len() + chunk.len() <= size => body.extend_from_slice(&chunk),
                        _ => return Err(Error::new(ErrorKind::Unavailable, "a body did not come whole")),
                    }
                }
                bodies.push((head.uid, Content::from(body.freeze())));
            }
            Ok(bodies)
        })
        .await
    }

    async fn store_flags(
        &self,
        mailbox: MailboxId,
        uids: &[Uid],
        change: &FlagChange,
        unchanged_since: Option<ModSeq>,
    ) -> Result<FlagsStored, Error> {
        let (FlagChange::Set(flags) | FlagChange::Add(flags) | FlagChange::Remove(flags)) = change;
        let request = v1::StoreFlagsRequest {
            session: self.number,
            mailbox: mailbox.0.to_vec(),
            uids: Some(list(uids)?),
            how: v1::FlagChange::from(change).into(),
            flags: convert::words(flags),
            unchanged_since,
        };
        within(ACCEPT, async {
            let mut pages = ask!(self.client(), store_flags, request)?;
            let mut stored = FlagsStored::default();
            while let Some(page) = next(&mut pages).await? {
                stored.entries.extend(convert::each(page.entries, TryInto::try_into)?);
                stored.modified.extend(Vec::<Uid>::try_from(page.modified.unwrap_or_default())?);
            }
            Ok(stored)
        })
        .await
    }

    async fn append(&self, mailbox: MailboxId, messages: Vec<Append>) -> Result<Appended, Error> {
        use v1::append_upload::Part;
        // It can't fail: the semaphore is never closed.
        let _turn = self.host.0.uploads.acquire().await;
        let to = Part::To(v1::AppendTo { session: self.number, mailbox: mailbox.0.to_vec() });
        let parts = messages.into_iter().flat_map(|message| {
            let (body, rest) = convert::pieces(&message.content);
            let head = Part::Message(v1::AppendMessage {
                flags: convert::words(&message.flags),
                internal_date: message.internal_date.map(|at| at.0),
                size: message.content.len() as u64,
                body,
            });
            std::iter::once(head).chain(rest.map(Part::Chunk))
        });
        let parts = std::iter::once(to).chain(parts).map(|part| v1::AppendUpload { part: Some(part) });
        let reply = ask!(self.client(), append, tokio_stream::iter(parts), ACCEPT)?;
        Ok(Appended { uid_validity: reply.uid_validity, uids: reply.uids.unwrap_or_default().try_into()? })
    }

    async fn copy(&self, from: MailboxId, uids: &[Uid], to: MailboxId) -> Result<Copied, Error> {
        ask!(self.client(), copy, self.copying(from, uids, to)?, ACCEPT)?.try_into()
    }

    async fn move_messages(&self, from: MailboxId, uids: &[Uid], to: MailboxId) -> Result<Copied, Error> {
        ask!(self.client(), r#move, self.copying(from, uids, to)?, ACCEPT)?.try_into()
    }

    async fn expunge(&self, mailbox: MailboxId, uids: Option<&[Uid]>) -> Result<Vec<Uid>, Error> {
        let uids = uids.map(list).transpose()?;
        let request = v1::ExpungeRequest { session: self.number, mailbox: mailbox.0.to_vec(), uids };
        ask!(self.client(), expunge, request, ACCEPT)?.uids.unwrap_or_default().try_into()
    }

    async fn search(&self, mailbox: MailboxId, query: &Query) -> Result<SearchResult, Error> {
        let query = convert::terms(query);
        let request = v1::SearchRequest { session: self.number, mailbox: mailbox.0.to_vec(), query };
        let reply = ask!(self.client(), search, request, ACCEPT)?;
        Ok(SearchResult {
            uids: reply.uids.unwrap_or_default().try_into()?,
            highest_modseq: reply.highest_modseq,
            unsearchable: reply.unsearchable,
        })
    }

    async fn watch(&self) -> Result<Watcher, Error> {
        let stream = self.client().watch(Request::new(v1::WatchRequest { session: self.number })).await;
        let stream = stream.map_err(|status| from_status(&status))?.into_inner();
        let (changes, feed) = mpsc::channel(Watcher::CAPACITY);
        tokio::spawn(feeds::follow(stream, changes, |change| Change::try_from(change).map(Some)));
        Ok(Watcher::new(feed))
    }

    async fn may_send_as(&self, address: &MailAddress) -> Result<bool, Error> {
        let request = v1::MaySendAsRequest { session: self.number, address: address.to_string() };
        Ok(ask!(self.client(), may_send_as, request)?.own)
    }

    async fn recipient(&self, address: &Address) -> Result<RecipientStatus, Error> {
        let request = v1::SessionRecipientRequest { session: self.number, address: address.to_string() };
        Ok(ask!(self.client(), recipient, request)?.into())
    }

    async fn submit(&self, envelope: Envelope) -> Result<Accepted, Error> {
        use v1::submit_upload::Part;
        // It can't fail: the semaphore is never closed.
        let _turn = self.host.0.uploads.acquire().await;
        let message = v1::SubmitMessage { session: self.number, envelope: Some((&envelope).into()) };
        let (_, rest) = convert::pieces(&envelope.content);
        let parts = std::iter::once(Part::Message(message)).chain(rest.map(Part::Chunk));
        let parts = parts.map(|part| v1::SubmitUpload { part: Some(part) });
        let reply = ask!(self.client(), submit, tokio_stream::iter(parts), ACCEPT)?;
        convert::need(reply.accepted, "answer")?.try_into()
    }

    async fn conversations(&self) -> Result<Vec<ConversationInfo>, Error> {
        let reply = ask!(self.client(), conversations, v1::ConversationsRequest { session: self.number })?;
        convert::each(reply.conversations, TryInto::try_into)
    }

    async fn conversation(&self, conversation: &Conversation, create: bool) -> Result<ConversationInfo, Error> {
        let request = v1::ConversationRequest { session: self.number, conversation: Some(conversation.into()), create };
        convert::need(ask!(self.client(), conversation, request)?.conversation, "conversation")?.try_into()
    }

    async fn history(&self, mailbox: MailboxId, wanted: History, limit: usize) -> Result<Vec<Arc<ChatLine>>, Error> {
        let (wanted, anchor, until) = convert::places(&wanted);
        let request = v1::HistoryRequest {
            session: self.number,
            mailbox: mailbox.0.to_vec(),
            wanted: wanted.into(),
            anchor,
            until,
            limit: u32::try_from(limit.min(1000)).unwrap_or(1000),
        };
        within(CALL, async {
            let mut stream = ask!(self.client(), history, request)?;
            let mut lines = Vec::new();
            while let Some(line) = next(&mut stream).await? {
                lines.push(Arc::new(line.try_into()?));
            }
            Ok(lines)
        })
        .await
    }

    async fn mark_read(&self, mailbox: MailboxId, up_to: Uid) -> Result<(), Error> {
        let request = v1::MarkReadRequest { session: self.number, mailbox: mailbox.0.to_vec(), up_to };
        ask!(self.client(), mark_read, request).map(drop)
    }

    async fn live(&self) -> Result<LiveFeed, Error> {
        let stream = self.client().live(Request::new(v1::SessionLiveRequest { session: self.number })).await;
        let stream = stream.map_err(|status| from_status(&status))?.into_inner();
        let (events, feed) = mpsc::channel(LiveFeed::CAPACITY);
        tokio::spawn(feeds::follow(stream, events, convert::event));
        Ok(LiveFeed::new(feed))
    }

    async fn groups(&self) -> Result<Vec<Arc<Group>>, Error> {
        let reply = ask!(self.client(), groups, v1::GroupsRequest { session: self.number })?;
        convert::each(reply.groups, |group| group.try_into().map(Arc::new))
    }

    async fn change_group(&self, group: &Address, change: GroupChange) -> Result<Arc<Group>, Error> {
        let request =
            v1::ChangeGroupRequest { session: self.number, group: group.to_string(), change: Some((&change).into()) };
        let group = convert::need(ask!(self.client(), change_group, request)?.group, "group")?;
        group.try_into().map(Arc::new)
    }
}

impl RemoteSession {
    fn copying(&self, from: MailboxId, uids: &[Uid], to: MailboxId) -> Result<v1::CopyRequest, Error> {
        let uids = Some(list(uids)?);
        Ok(v1::CopyRequest { session: self.number, from: from.0.to_vec(), uids, to: to.0.to_vec() })
    }
}

/// A list that is not cut: what is done to it is done to all or none.
fn list(uids: &[Uid]) -> Result<v1::Uids, Error> {
    if uids.len() > MAX_UIDS {
        let what = format!("{} messages at once; at most {MAX_UIDS} can be", uids.len());
        return Err(Error::new(ErrorKind::TooLarge, what));
    }
    Ok(uids.into())
}

/// A body's first piece fits into the message that announces it.
const _: () = assert!(CHUNK < crate::wire::MAX_REQUEST / 2);
