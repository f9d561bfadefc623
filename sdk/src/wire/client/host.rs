//! The calls of [`Host`].

use super::session::RemoteSession;
use super::{RemoteHost, Report, ask, feeds};
use crate::wire::convert::{self, invalid};
use crate::wire::{ACCEPT, QUERY, v1};
use crate::{
    Accepted, Address, Answer, ByteBudget, Certificates, Credentials, Domain, Envelope, Error, ErrorKind, Grant, Group,
    Health, Host, ListenSpec, LiveFeed, Question, RecipientStatus, Secret, Sender, Session, Signal,
};
use async_trait::async_trait;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tonic::Request;

/// Most messages in one call; a larger batch takes several.
const BATCH: usize = 256;

#[async_trait]
impl Host for RemoteHost {
    async fn accept(&self, mut batch: Vec<Envelope>) -> Vec<Result<Accepted, Error>> {
        let mut answers = Vec::with_capacity(batch.len());
        while !batch.is_empty() {
            let rest = batch.split_off(batch.len().min(BATCH));
            answers.extend(self.accept_some(batch).await);
            batch = rest;
        }
        answers
    }

    async fn recipient(&self, address: &Address, sender: &Sender) -> Result<RecipientStatus, Error> {
        let text = address.to_string();
        let anybody = *sender == Sender::Stranger;
        if anybody && self.0.known.is_local(&text) {
            return Ok(RecipientStatus::Local);
        }
        let request = v1::RecipientRequest { address: text.clone(), user: convert::asking(sender) };
        let status = ask!(self.0.connection.host(), recipient, request)?.into();
        if anybody && status == RecipientStatus::Local {
            self.0.known.note(text);
        }
        Ok(status)
    }

    async fn login(&self, credentials: Credentials) -> Result<Arc<dyn Session>, Error> {
        let reply = ask!(self.0.connection.host(), login, v1::LoginRequest::from(&credentials))?;
        let user = convert::need(reply.user, "user")?.try_into()?;
        Ok(Arc::new(RemoteSession::new(self.clone(), reply.session, user)))
    }

    fn certificates(&self) -> Result<watch::Receiver<Arc<Certificates>>, Error> {
        if let Some(certificates) = &self.0.certificates {
            return Ok(certificates.clone());
        }
        // The host refuses it too, and logs that it was asked.
        let mut host = self.0.connection.host();
        tokio::spawn(async move { host.certificates(Request::new(v1::CertificatesRequest {})).await.map(drop) });
        let what = format!("the bridge was not granted '{}'", Grant::Certificates);
        Err(Error::new(ErrorKind::NotGranted, what))
    }

    async fn secret(&self, name: &str) -> Result<Secret, Error> {
        let request = v1::SecretRequest { name: name.to_owned() };
        Ok(Secret::new(ask!(self.0.connection.host(), secret, request)?.secret))
    }

    async fn listen(&self, spec: &ListenSpec) -> Result<TcpListener, Error> {
        let request = v1::ListenRequest { spec: Some(spec.into()) };
        let reply = ask!(self.0.connection.host(), listen, request)?;
        let address: SocketAddr =
            reply.address.parse().map_err(|_| invalid("the host gave no address to listen on"))?;
        if reply.descriptor {
            return self.passed(address);
        }
        let bound = TcpListener::bind(address).and_then(|socket| {
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        bound.map_err(|error| {
            let what =
                format!("{} can't listen on {address}: {error}; choose another address, or stop who has it", spec.name);
            Error::new(ErrorKind::Unavailable, what)
        })
    }

    fn budget(&self) -> &ByteBudget {
        &self.0.budget
    }

    fn hostname(&self) -> &str {
        &self.0.hostname
    }

    fn domain(&self) -> &Domain {
        &self.0.domain
    }

    async fn checkpoint(&self, key: &str) -> Result<Option<Secret>, Error> {
        let request = v1::CheckpointRequest { key: key.to_owned() };
        Ok(ask!(self.0.connection.host(), checkpoint, request)?.value.map(Secret::new))
    }

    async fn set_checkpoint(&self, key: &str, value: Option<Secret>) -> Result<(), Error> {
        let value = value.map(|value| value.expose().to_vec());
        let request = v1::SetCheckpointRequest { key: key.to_owned(), value };
        ask!(self.0.connection.host(), set_checkpoint, request).map(drop)
    }

    async fn is_user(&self, name: &str) -> Result<bool, Error> {
        let request = v1::IsUserRequest { name: name.to_owned() };
        Ok(ask!(self.0.connection.host(), is_user, request)?.is_user)
    }

    async fn checkpoints(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let request = v1::CheckpointsRequest { prefix: prefix.to_owned() };
        Ok(ask!(self.0.connection.host(), checkpoints, request)?.keys)
    }

    fn signal(&self, signal: Signal) {
        // Signals are lossy: where too many wait, this one is dropped.
        let _ = self.0.signals.try_send(signal);
    }

    async fn query(&self, question: Question) -> Result<Answer, Error> {
        let request = v1::QueryRequest { question: Some((&question).into()) };
        ask!(self.0.connection.host(), query, request, QUERY)?.answer.unwrap_or_default().try_into()
    }

    async fn guests(&self) -> Result<LiveFeed, Error> {
        let stream = self.0.connection.host().guests(Request::new(v1::GuestsRequest {})).await;
        let stream = stream.map_err(|status| crate::wire::status::from_status(&status))?.into_inner();
        let (events, feed) = mpsc::channel(LiveFeed::CAPACITY);
        tokio::spawn(feeds::follow(stream, events, convert::event));
        Ok(LiveFeed::new(feed))
    }

    async fn groups(&self) -> Result<Vec<Arc<Group>>, Error> {
        let reply = ask!(self.0.connection.host(), groups, v1::HostGroupsRequest {})?;
        convert::each(reply.groups, |group| group.try_into().map(Arc::new))
    }

    fn health(&self, health: Health) {
        if self.0.health.try_send(Report::Health(health)).is_err() {
            tracing::warn!("more reports of health than can be sent; one was dropped");
        }
    }

    async fn stopped(&self) {
        // An error means that the connection is gone, which ends the life as well.
        let _ = self.0.stopping.clone().wait_for(|stop| *stop).await;
    }
}

impl RemoteHost {
    /// One call's worth of messages.
    async fn accept_some(&self, batch: Vec<Envelope>) -> Vec<Result<Accepted, Error>> {
        use v1::upload::Part;
        let count = batch.len();
        // It can't fail: the semaphore is never closed.
        let _turn = self.0.uploads.acquire().await;
        let parts = batch.into_iter().flat_map(|envelope| {
            let head = Part::Envelope((&envelope).into());
            let (_, rest) = convert::pieces(&envelope.content);
            std::iter::once(head).chain(rest.map(Part::Chunk)).map(|part| v1::Upload { part: Some(part) })
        });
        let reply = ask!(self.0.connection.host(), accept, tokio_stream::iter(parts), ACCEPT);
        match reply {
            Ok(reply) if reply.results.len() == count => reply.results.into_iter().map(TryInto::try_into).collect(),
            Ok(_) => vec![Err(invalid("the host gave a wrong number of answers")); count],
            Err(error) => vec![Err(error); count],
        }
    }

    #[cfg(unix)]
    fn passed(&self, address: SocketAddr) -> Result<TcpListener, Error> {
        let inbox = self.0.connection.inbox.as_ref();
        inbox.and_then(|inbox| inbox.listener(address)).ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, format!("the host passed no socket that listens on {address}"))
        })
    }

    #[cfg(not(unix))]
    fn passed(&self, address: SocketAddr) -> Result<TcpListener, Error> {
        Err(Error::new(ErrorKind::Unavailable, format!("no socket can be passed for {address} on this system")))
    }
}
