//! The service `Host`.

use super::link::{Link, need, refuse};
use super::upload::{Incoming, Room, more};
use crate::wire::{convert, v1};
use crate::{
    ByteBudget, Certificates, ChatEvent, Credentials, Envelope, Error, ErrorKind, Grant, ListenSpec, LiveFeed, Secret,
};
use prost::Message;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

/// Most messages in one batch.
const BATCH: usize = 1000;
/// Most certificates in one answer.
const IDENTITIES: usize = 1000;

pub(super) struct HostCalls(pub(super) Arc<Link>);

pub(super) type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What came of one message of a batch: the message with its room, or why it is not taken.
type Came = Result<(Envelope, Room), Error>;

#[tonic::async_trait]
impl v1::host_server::Host for HostCalls {
    type CertificatesStream = Outgoing<v1::CertificatesReply>;
    type GuestsStream = Outgoing<v1::ChatEvent>;

    async fn accept(&self, request: Request<Streaming<v1::Upload>>) -> Result<Response<v1::AcceptReply>, Status> {
        let host = self.0.host()?;
        let _turn = self.0.upload_turn()?;
        let mut stream = request.into_inner();
        let came = self.0.upload_time(self.batch(&mut stream, host.budget())).await?;
        let mut batch = Vec::with_capacity(came.len());
        // Kept until the host has answered.
        let mut rooms = Vec::with_capacity(came.len());
        let refused: Vec<Option<Error>> = came
            .into_iter()
            .map(|came| match came {
                Ok((envelope, room)) => {
                    batch.push(envelope);
                    rooms.push(room);
                    None
                }
                Err(error) => Some(error),
            })
            .collect();
        self.0.message_turn(batch.iter().map(|envelope| envelope.content.len() as u64)).await?;
        let mut taken = if batch.is_empty() { Vec::new() } else { host.accept(batch).await }.into_iter();
        let unanswered = || Err(Error::new(ErrorKind::Unavailable, "the host did not answer for this message"));
        let results = refused.into_iter().map(|refused| match refused {
            Some(error) => Err(error).into(),
            None => taken.next().unwrap_or_else(unanswered).into(),
        });
        Ok(Response::new(v1::AcceptReply { results: results.collect() }))
    }

    async fn recipient(&self, request: Request<v1::RecipientRequest>) -> Result<Response<v1::RecipientReply>, Status> {
        let request = request.into_inner();
        let address = convert::address(&request.address).map_err(refuse)?;
        let sender = convert::sender(request.user).map_err(refuse)?;
        let status = self.0.host()?.recipient(&address, &sender).await.map_err(refuse)?;
        Ok(Response::new(status.into()))
    }

    async fn login(&self, request: Request<v1::LoginRequest>) -> Result<Response<v1::LoginReply>, Status> {
        let credentials = Credentials::try_from(request.into_inner()).map_err(refuse)?;
        let session = self.0.host()?.login(credentials).await.map_err(refuse)?;
        let user = Some(session.user().into());
        let session = self.0.open(session).map_err(refuse)?;
        Ok(Response::new(v1::LoginReply { session, user }))
    }

    async fn certificates(
        &self,
        _: Request<v1::CertificatesRequest>,
    ) -> Result<Response<Self::CertificatesStream>, Status> {
        let mut newest = self.0.host()?.certificates().map_err(refuse)?;
        let (replies, taken) = mpsc::channel(1);
        tokio::spawn(async move {
            loop {
                let certificates: Arc<Certificates> = newest.borrow_and_update().clone();
                let mut reply = v1::CertificatesReply::from(&*certificates);
                reply.identities.truncate(IDENTITIES);
                if replies.send(Ok(reply)).await.is_err() {
                    return;
                }
                tokio::select! {
                    changed = newest.changed() => if changed.is_err() { return },
                    () = replies.closed() => return,
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(taken))))
    }

    async fn secret(&self, request: Request<v1::SecretRequest>) -> Result<Response<v1::SecretReply>, Status> {
        let secret = self.0.host()?.secret(&request.into_inner().name).await.map_err(refuse)?;
        Ok(Response::new(v1::SecretReply { secret: secret.expose().to_vec() }))
    }

    async fn listen(&self, request: Request<v1::ListenRequest>) -> Result<Response<v1::ListenReply>, Status> {
        let spec = ListenSpec::try_from(need(request.into_inner().spec, "spec")?).map_err(refuse)?;
        let host = self.0.host()?;
        #[cfg(unix)]
        if let Some(outbox) = self.0.outbox.as_ref().filter(|_| self.0.descriptors.load(Ordering::Relaxed)) {
            let unusable = |what: &str| refuse(Error::new(ErrorKind::Unavailable, what));
            let socket = host.listen(&spec).await.map_err(refuse)?;
            let address = socket.local_addr().map_err(|error| unusable(&error.to_string()))?.to_string();
            if !outbox.put(socket) {
                return Err(unusable("too many sockets wait for the bridge to take them"));
            }
            return Ok(Response::new(v1::ListenReply { address, descriptor: true }));
        }
        let wanted = Grant::from(&spec);
        if !self.0.granted(&wanted) {
            // The host refuses it by itself, and notes that it did.
            host.listen(&spec).await.map_err(refuse)?;
            let what = format!("the bridge was not granted '{wanted}'");
            return Err(refuse(Error::new(ErrorKind::NotGranted, what)));
        }
        drop(host);
        Ok(Response::new(v1::ListenReply { address: spec.address.to_string(), descriptor: false }))
    }

    async fn checkpoint(
        &self,
        request: Request<v1::CheckpointRequest>,
    ) -> Result<Response<v1::CheckpointReply>, Status> {
        let value = self.0.host()?.checkpoint(&request.into_inner().key).await.map_err(refuse)?;
        Ok(Response::new(v1::CheckpointReply { value: value.map(|value| value.expose().to_vec()) }))
    }

    async fn set_checkpoint(
        &self,
        request: Request<v1::SetCheckpointRequest>,
    ) -> Result<Response<v1::SetCheckpointReply>, Status> {
        let request = request.into_inner();
        let value = request.value.map(Secret::new);
        self.0.host()?.set_checkpoint(&request.key, value).await.map_err(refuse)?;
        Ok(Response::new(v1::SetCheckpointReply {}))
    }

    async fn is_user(&self, request: Request<v1::IsUserRequest>) -> Result<Response<v1::IsUserReply>, Status> {
        let is_user = self.0.host()?.is_user(&request.into_inner().name).await.map_err(refuse)?;
        Ok(Response::new(v1::IsUserReply { is_user }))
    }

    async fn checkpoints(
        &self,
        request: Request<v1::CheckpointsRequest>,
    ) -> Result<Response<v1::CheckpointsReply>, Status> {
        let keys = self.0.host()?.checkpoints(&request.into_inner().prefix).await.map_err(refuse)?;
        Ok(Response::new(v1::CheckpointsReply { keys }))
    }

    async fn signal(&self, request: Request<v1::SignalRequest>) -> Result<Response<v1::SignalReply>, Status> {
        let signal = need(request.into_inner().signal, "signal")?.try_into().map_err(refuse)?;
        self.0.host()?.signal(signal);
        Ok(Response::new(v1::SignalReply {}))
    }

    async fn query(&self, request: Request<v1::QueryRequest>) -> Result<Response<v1::QueryReply>, Status> {
        let question = need(request.into_inner().question, "question")?.try_into().map_err(refuse)?;
        let answer = self.0.host()?.query(question).await.map_err(refuse)?;
        Ok(Response::new(v1::QueryReply { answer: Some(answer.into()) }))
    }

    async fn guests(&self, _: Request<v1::GuestsRequest>) -> Result<Response<Self::GuestsStream>, Status> {
        let feed = self.0.host()?.guests().await.map_err(refuse)?;
        Ok(Response::new(live(feed)))
    }

    async fn groups(&self, _: Request<v1::HostGroupsRequest>) -> Result<Response<v1::GroupsReply>, Status> {
        let groups = self.0.host()?.groups().await.map_err(refuse)?;
        Ok(Response::new(v1::GroupsReply { groups: groups.iter().map(|group| (&**group).into()).collect() }))
    }

    async fn health(&self, request: Request<v1::HealthRequest>) -> Result<Response<v1::HealthReply>, Status> {
        let host = self.0.host()?;
        if let Some(health) = convert::health(request.into_inner()).map_err(refuse)? {
            host.health(health);
        }
        Ok(Response::new(v1::HealthReply {}))
    }
}

impl HostCalls {
    /// Reads a batch. What can't be taken is read away, so that the others can.
    async fn batch(&self, stream: &mut Streaming<v1::Upload>, budget: &ByteBudget) -> Result<Vec<Came>, Status> {
        use v1::upload::Part;
        let mut batch = Vec::new();
        while let Some(upload) = stream.message().await? {
            let Part::Envelope(mut head) = need(upload.part, "part")? else {
                return Err(refuse(convert::invalid("a piece came before its message")));
            };
            if batch.len() == BATCH {
                return Err(refuse(convert::invalid(format!("a batch has at most {BATCH} messages"))));
            }
            let first = std::mem::take(&mut head.body);
            let room = self.0.room(budget, head.size, head.encoded_len());
            let mut incoming = Incoming::new(head.size, first, room.is_ok())?;
            while incoming.wants_more() {
                let Some(Part::Chunk(piece)) = more(stream).await?.part else {
                    return Err(refuse(convert::invalid("another message came before this one was whole")));
                };
                incoming.add(&piece)?;
            }
            let content = incoming.content();
            batch.push(room.and_then(|room| Ok((convert::envelope(head, content)?, room))));
        }
        Ok(batch)
    }
}

/// A feed of conversations, as a stream.
pub(super) fn live(mut feed: LiveFeed) -> Outgoing<v1::ChatEvent> {
    let (events, taken) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let event: ChatEvent = tokio::select! {
                event = feed.next() => match event {
                    Some(event) => event,
                    None => return,
                },
                () = events.closed() => return,
            };
            if events.send(Ok((&event).into())).await.is_err() {
                return;
            }
        }
    });
    Box::pin(ReceiverStream::new(taken))
}

impl Link {
    /// The right to answer one more call with lists or bodies; waits for it.
    pub(super) async fn download_turn(&self) -> Result<OwnedSemaphorePermit, Status> {
        // It can't fail: the semaphore is never closed.
        Arc::clone(&self.downloads).acquire_owned().await.map_err(|_| super::link::too_much())
    }

    /// Sends a long answer. One that is not read is given up, with what it holds.
    pub(super) fn answer<T: Send + 'static>(
        &self,
        turn: OwnedSemaphorePermit,
        items: impl Iterator<Item = T> + Send + 'static,
    ) -> Outgoing<T> {
        let (sent, taken) = mpsc::channel(2);
        let unread = self.limits.unread;
        // Set before the channel ends, so that half an answer never looks like a whole one.
        let whole = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let done = Arc::clone(&whole);
        tokio::spawn(async move {
            let _turn = turn;
            for item in items {
                match timeout(unread, sent.send(Ok(item))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) | Err(_) => return,
                }
            }
            done.store(true, Ordering::Release);
        });
        let cut_off = tokio_stream::once(()).filter_map(move |()| {
            let cut = !whole.load(Ordering::Acquire);
            cut.then(|| {
                Err(refuse(Error::new(ErrorKind::Unavailable, "the bridge left the answer unread for too long")))
            })
        });
        Box::pin(ReceiverStream::new(taken).chain(cut_off))
    }
}
