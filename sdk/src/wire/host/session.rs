//! The service `Session`.

use super::calls::{Outgoing, live};
use super::link::{Link, need, refuse};
use super::upload::{Incoming, Room, more};
use crate::wire::{convert, v1};
use crate::{Append, Content, MailboxId, MailboxName, Timestamp};
use prost::Message;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Most messages in one call of `Append`.
const APPENDED: usize = 1000;

pub(super) struct SessionCalls(pub(super) Arc<Link>);

type Reply<T> = Result<Response<T>, Status>;

fn name(text: &str) -> Result<MailboxName, Status> {
    MailboxName::new(text).map_err(refuse)
}

fn mailbox(bytes: &[u8]) -> Result<MailboxId, Status> {
    convert::id(bytes).map(MailboxId).map_err(refuse)
}

#[tonic::async_trait]
impl v1::session_server::Session for SessionCalls {
    type SnapshotStream = Outgoing<v1::SnapshotPage>;
    type ChangesStream = Outgoing<v1::ChangesPage>;
    type SummariesStream = Outgoing<v1::SummaryOf>;
    type BodiesStream = Outgoing<v1::Download>;
    type StoreFlagsStream = Outgoing<v1::FlagsPage>;
    type WatchStream = Outgoing<v1::Change>;
    type HistoryStream = Outgoing<v1::ChatLine>;
    type LiveStream = Outgoing<v1::ChatEvent>;

    async fn close(&self, request: Request<v1::CloseRequest>) -> Reply<v1::CloseReply> {
        self.0.close_session(request.into_inner().session);
        Ok(Response::new(v1::CloseReply {}))
    }

    async fn mailboxes(&self, request: Request<v1::MailboxesRequest>) -> Reply<v1::MailboxesReply> {
        let mailboxes = self.0.session(request.into_inner().session)?.mailboxes().await.map_err(refuse)?;
        Ok(Response::new(v1::MailboxesReply { mailboxes: mailboxes.iter().map(Into::into).collect() }))
    }

    async fn subscriptions(&self, request: Request<v1::SubscriptionsRequest>) -> Reply<v1::SubscriptionsReply> {
        let names = self.0.session(request.into_inner().session)?.subscriptions().await.map_err(refuse)?;
        Ok(Response::new(v1::SubscriptionsReply { names: names.into_iter().map(Into::into).collect() }))
    }

    async fn subscribe(&self, request: Request<v1::SubscribeRequest>) -> Reply<v1::SubscribeReply> {
        let request = request.into_inner();
        let session = self.0.session(request.session)?;
        session.subscribe(&name(&request.name)?, request.subscribed).await.map_err(refuse)?;
        Ok(Response::new(v1::SubscribeReply {}))
    }

    async fn create_mailbox(&self, request: Request<v1::CreateMailboxRequest>) -> Reply<v1::CreateMailboxReply> {
        let request = request.into_inner();
        let session = self.0.session(request.session)?;
        let role = convert::role(request.role);
        let id = session.create_mailbox(&name(&request.name)?, role).await.map_err(refuse)?;
        Ok(Response::new(v1::CreateMailboxReply { id: id.0.to_vec() }))
    }

    async fn rename_mailbox(&self, request: Request<v1::RenameMailboxRequest>) -> Reply<v1::RenameMailboxReply> {
        let request = request.into_inner();
        let session = self.0.session(request.session)?;
        session.rename_mailbox(&name(&request.name)?, &name(&request.new)?).await.map_err(refuse)?;
        Ok(Response::new(v1::RenameMailboxReply {}))
    }

    async fn delete_mailbox(&self, request: Request<v1::DeleteMailboxRequest>) -> Reply<v1::DeleteMailboxReply> {
        let request = request.into_inner();
        self.0.session(request.session)?.delete_mailbox(&name(&request.name)?).await.map_err(refuse)?;
        Ok(Response::new(v1::DeleteMailboxReply {}))
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Reply<v1::StatusReply> {
        let request = request.into_inner();
        let status = self.0.session(request.session)?.status(mailbox(&request.mailbox)?).await.map_err(refuse)?;
        Ok(Response::new((&status).into()))
    }

    async fn snapshot(&self, request: Request<v1::SnapshotRequest>) -> Reply<Self::SnapshotStream> {
        let request = request.into_inner();
        let session = self.0.session(request.session)?;
        let turn = self.0.download_turn().await?;
        let snapshot = session.snapshot(mailbox(&request.mailbox)?, request.claim_recent).await.map_err(refuse)?;
        let pages: Vec<_> = convert::snapshot_pages(&snapshot).collect();
        Ok(Response::new(self.0.answer(turn, pages.into_iter())))
    }

    async fn changes(&self, request: Request<v1::ChangesRequest>) -> Reply<Self::ChangesStream> {
        let request = request.into_inner();
        let session = self.0.session(request.session)?;
        let turn = self.0.download_turn().await?;
        let changes = session.changes(mailbox(&request.mailbox)?, request.since).await.map_err(refuse)?;
        let pages: Vec<_> = convert::changes_pages(&changes).collect();
        Ok(Response::new(self.0.answer(turn, pages.into_iter())))
    }

    async fn summaries(&self, request: Request<v1::SummariesRequest>) -> Reply<Self::SummariesStream> {
        let request = request.into_inner();
        let session = self.0.session(request.session)?;
        let turn = self.0.download_turn().await?;
        let (uids, _held) = self.0.uids(request.uids)?;
        let summaries = session.summaries(mailbox(&request.mailbox)?, &uids).await.map_err(refuse)?;
        let of = summaries.into_iter().map(|(uid, summary)| v1::SummaryOf { uid, summary: Some((&*summary).into()) });
        Ok(Response::new(self.0.answer(turn, of)))
    }

    async fn bodies(&self, request: Request<v1::BodiesRequest>) -> Reply<Self::BodiesStream> {
        use v1::download::Part;
        let request = request.into_inner();
        let session = self.0.session(request.session)?;
        let turn = self.0.download_turn().await?;
        let (uids, _held) = self.0.uids(request.uids)?;
        let bodies = session.bodies(mailbox(&request.mailbox)?, &uids).await.map_err(refuse)?;
        let parts = bodies.into_iter().flat_map(|(uid, content)| {
            let (body, rest) = convert::pieces(&content);
            let head = Part::Head(v1::DownloadHead { uid, size: content.len() as u64, body });
            std::iter::once(head).chain(rest.map(Part::Chunk)).map(|part| v1::Download { part: Some(part) })
        });
        Ok(Response::new(self.0.answer(turn, parts)))
    }

    async fn store_flags(&self, request: Request<v1::StoreFlagsRequest>) -> Reply<Self::StoreFlagsStream> {
        let request = request.into_inner();
        let session = self.0.session(request.session)?;
        let turn = self.0.download_turn().await?;
        let (uids, _held) = self.0.uids(request.uids)?;
        let change = convert::flag_change(request.how, request.flags).map_err(refuse)?;
        let mailbox = mailbox(&request.mailbox)?;
        let stored = session.store_flags(mailbox, &uids, &change, request.unchanged_since).await.map_err(refuse)?;
        let mut pages: Vec<_> =
            convert::pages(&stored.entries).map(|entries| v1::FlagsPage { entries, modified: None }).collect();
        if let Some(first) = pages.first_mut() {
            first.modified = Some(stored.modified.as_slice().into());
        }
        Ok(Response::new(self.0.answer(turn, pages.into_iter())))
    }

    async fn append(&self, request: Request<Streaming<v1::AppendUpload>>) -> Reply<v1::AppendReply> {
        use v1::append_upload::Part;
        let budget = self.0.host()?.budget().clone();
        let _turn = self.0.upload_turn()?;
        let mut stream = request.into_inner();
        let receive = async {
            let Some(Part::To(to)) = more(&mut stream).await?.part else {
                return Err(refuse(convert::invalid("the first part of a call of Append says where to")));
            };
            let session = self.0.session(to.session)?;
            let mut came: Vec<(Append, Room)> = Vec::new();
            while let Some(upload) = stream.message().await? {
                let Part::Message(mut head) = need(upload.part, "part")? else {
                    return Err(refuse(convert::invalid("a piece came before its message")));
                };
                if came.len() == APPENDED {
                    return Err(refuse(convert::invalid(format!("at most {APPENDED} messages are added at once"))));
                }
                let first = std::mem::take(&mut head.body);
                // All or none: one that finds no room ends the call.
                let room = self.0.room(&budget, head.size, head.encoded_len()).map_err(refuse)?;
                let mut incoming = Incoming::new(head.size, first, true)?;
                while incoming.wants_more() {
                    let Some(Part::Chunk(piece)) = more(&mut stream).await?.part else {
                        return Err(refuse(convert::invalid("another message came before this one was whole")));
                    };
                    incoming.add(&piece)?;
                }
                let flags = convert::flags(head.flags).map_err(refuse)?;
                let internal_date = head.internal_date.map(Timestamp);
                came.push((Append { flags, internal_date, content: incoming.content() }, room));
            }
            Ok((session, mailbox(&to.mailbox)?, came))
        };
        let (session, mailbox, came) = self.0.upload_time(receive).await?;
        // The rooms are kept until the session has answered.
        let (messages, _rooms): (Vec<Append>, Vec<Room>) = came.into_iter().unzip();
        self.0.message_turn(messages.iter().map(|message| message.content.len() as u64)).await?;
        let appended = session.append(mailbox, messages).await.map_err(refuse)?;
        let uids = Some(appended.uids.as_slice().into());
        Ok(Response::new(v1::AppendReply { uid_validity: appended.uid_validity, uids }))
    }

    async fn copy(&self, request: Request<v1::CopyRequest>) -> Reply<v1::CopyReply> {
        let request = request.into_inner();
        let session = self.0.session(request.session)?;
        let (uids, _held) = self.0.uids(request.uids)?;
        let copied = session.copy(mailbox(&request.from)?, &uids, mailbox(&request.to)?).await.map_err(refuse)?;
        Ok(Response::new((&copied).into()))
    }

    async fn r#move(&self, request: Request<v1::CopyRequest>) -> Reply<v1::CopyReply> {
        let request = request.into_inner();
        let session = self.0.session(request.session)?;
        let (uids, _held) = self.0.uids(request.uids)?;
        let (from, to) = (mailbox(&request.from)?, mailbox(&request.to)?);
        let moved = session.move_messages(from, &uids, to).await.map_err(refuse)?;
        Ok(Response::new((&moved).into()))
    }

    async fn expunge(&self, request: Request<v1::ExpungeRequest>) -> Reply<v1::ExpungeReply> {
        let request = request.into_inner();
        let session = self.0.session(request.session)?;
        let uids = match request.uids {
            Some(uids) => Some(self.0.uids(Some(uids))?),
            None => None,
        };
        let among = uids.as_ref().map(|(uids, _held)| uids.as_slice());
        let gone = session.expunge(mailbox(&request.mailbox)?, among).await.map_err(refuse)?;
        Ok(Response::new(v1::ExpungeReply { uids: Some(gone.as_slice().into()) }))
    }

    async fn search(&self, request: Request<v1::SearchRequest>) -> Reply<v1::SearchReply> {
        let request = request.into_inner();
        let session = self.0.session(request.session)?;
        let _turn = self.0.download_turn().await?;
        let query = convert::query(request.query).map_err(refuse)?;
        let found = session.search(mailbox(&request.mailbox)?, &query).await.map_err(refuse)?;
        Ok(Response::new(v1::SearchReply {
            uids: Some(found.uids.as_slice().into()),
            highest_modseq: found.highest_modseq,
            unsearchable: found.unsearchable,
        }))
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Reply<Self::WatchStream> {
        let mut watcher = self.0.session(request.into_inner().session)?.watch().await.map_err(refuse)?;
        let (changes, taken) = mpsc::channel(1);
        tokio::spawn(async move {
            loop {
                let change = tokio::select! {
                    change = watcher.next() => match change {
                        Some(change) => change,
                        None => return,
                    },
                    () = changes.closed() => return,
                };
                if changes.send(Ok((&change).into())).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(taken))))
    }

    async fn may_send_as(&self, request: Request<v1::MaySendAsRequest>) -> Reply<v1::MaySendAsReply> {
        let request = request.into_inner();
        let session = self.0.session(request.session)?;
        let address = convert::address(&request.address).map_err(refuse)?;
        let own = match address.as_mail() {
            Some(address) => session.may_send_as(address).await.map_err(refuse)?,
            None => false,
        };
        Ok(Response::new(v1::MaySendAsReply { own }))
    }

    async fn recipient(&self, request: Request<v1::SessionRecipientRequest>) -> Reply<v1::RecipientReply> {
        let request = request.into_inner();
        let session = self.0.session(request.session)?;
        let address = convert::address(&request.address).map_err(refuse)?;
        Ok(Response::new(session.recipient(&address).await.map_err(refuse)?.into()))
    }

    async fn submit(&self, request: Request<Streaming<v1::SubmitUpload>>) -> Reply<v1::SubmitReply> {
        use v1::submit_upload::Part;
        let budget = self.0.host()?.budget().clone();
        let _turn = self.0.upload_turn()?;
        let mut stream = request.into_inner();
        let receive = async {
            let Some(Part::Message(message)) = more(&mut stream).await?.part else {
                return Err(refuse(convert::invalid("the first part of a call of Submit is the message")));
            };
            let session = self.0.session(message.session)?;
            let mut head = need(message.envelope, "envelope")?;
            let first = std::mem::take(&mut head.body);
            let room = self.0.room(&budget, head.size, head.encoded_len()).map_err(refuse)?;
            let mut incoming = Incoming::new(head.size, first, true)?;
            while incoming.wants_more() {
                let Some(Part::Chunk(piece)) = more(&mut stream).await?.part else {
                    return Err(refuse(convert::invalid("a second message came in a call of Submit")));
                };
                incoming.add(&piece)?;
            }
            let content: Content = incoming.content();
            Ok((session, convert::envelope(head, content).map_err(refuse)?, room))
        };
        let (session, envelope, _room) = self.0.upload_time(receive).await?;
        self.0.message_turn(std::iter::once(envelope.content.len() as u64)).await?;
        let accepted = session.submit(envelope).await.map_err(refuse)?;
        Ok(Response::new(v1::SubmitReply { accepted: Some(accepted.into()) }))
    }

    async fn conversations(&self, request: Request<v1::ConversationsRequest>) -> Reply<v1::ConversationsReply> {
        let conversations = self.0.session(request.into_inner().session)?.conversations().await.map_err(refuse)?;
        let conversations = conversations.iter().map(Into::into).collect();
        Ok(Response::new(v1::ConversationsReply { conversations }))
    }

    async fn conversation(&self, request: Request<v1::ConversationRequest>) -> Reply<v1::ConversationReply> {
        let request = request.into_inner();
        let session = self.0.session(request.session)?;
        let conversation = need(request.conversation, "conversation")?.try_into().map_err(refuse)?;
        let conversation = session.conversation(&conversation, request.create).await.map_err(refuse)?;
        Ok(Response::new(v1::ConversationReply { conversation: Some((&conversation).into()) }))
    }

    async fn history(&self, request: Request<v1::HistoryRequest>) -> Reply<Self::HistoryStream> {
        let request = request.into_inner();
        let session = self.0.session(request.session)?;
        let turn = self.0.download_turn().await?;
        let wanted = convert::history(request.wanted, request.anchor, request.until).map_err(refuse)?;
        let limit = request.limit.min(1000) as usize;
        let lines = session.history(mailbox(&request.mailbox)?, wanted, limit).await.map_err(refuse)?;
        Ok(Response::new(self.0.answer(turn, lines.into_iter().map(|line| (&*line).into()))))
    }

    async fn mark_read(&self, request: Request<v1::MarkReadRequest>) -> Reply<v1::MarkReadReply> {
        let request = request.into_inner();
        let session = self.0.session(request.session)?;
        session.mark_read(mailbox(&request.mailbox)?, request.up_to).await.map_err(refuse)?;
        Ok(Response::new(v1::MarkReadReply {}))
    }

    async fn live(&self, request: Request<v1::SessionLiveRequest>) -> Reply<Self::LiveStream> {
        let feed = self.0.session(request.into_inner().session)?.live().await.map_err(refuse)?;
        Ok(Response::new(live(feed)))
    }

    async fn groups(&self, request: Request<v1::GroupsRequest>) -> Reply<v1::GroupsReply> {
        let groups = self.0.session(request.into_inner().session)?.groups().await.map_err(refuse)?;
        Ok(Response::new(v1::GroupsReply { groups: groups.iter().map(|group| (&**group).into()).collect() }))
    }

    async fn change_group(&self, request: Request<v1::ChangeGroupRequest>) -> Reply<v1::ChangeGroupReply> {
        let request = request.into_inner();
        let session = self.0.session(request.session)?;
        let group = convert::address(&request.group).map_err(refuse)?;
        let change = need(request.change, "change")?.try_into().map_err(refuse)?;
        let group = session.change_group(&group, change).await.map_err(refuse)?;
        Ok(Response::new(v1::ChangeGroupReply { group: Some((&*group).into()) }))
    }
}
