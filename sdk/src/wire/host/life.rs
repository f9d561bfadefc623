//! The service `Life`.

use super::Introduced;
use super::link::{Events, Link, need, refuse};
use crate::wire::status::{cut, told};
use crate::wire::{CHUNK, DESCRIPTORS, MAX_REQUEST, MINOR, convert, logs, v1};
use crate::{Error, ErrorKind, Manifest, Secret};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};
use v1::event::Event;

pub(super) struct LifeCalls {
    link: Arc<Link>,
    /// Taken by the first call of `Live`.
    events: Mutex<Option<Events>>,
}

impl LifeCalls {
    pub(super) fn new(link: Arc<Link>, events: Events) -> Self {
        Self { link, events: Mutex::new(Some(events)) }
    }

    /// Who the bridge is, if it may come in.
    fn admit(&self, hello: v1::Hello) -> Result<Introduced, String> {
        let token = Secret::new(hello.token);
        if self.link.admission.token.as_ref().is_some_and(|wanted| *wanted != token) {
            return Err("it showed no token, or a wrong one".to_owned());
        }
        let manifest = Manifest::from_json(&hello.manifest)?;
        if let Some(name) = &self.link.admission.name
            && *name != manifest.name
        {
            return Err(format!("its manifest is that of '{}', not of '{name}'", manifest.name));
        }
        let mut sdk = hello.sdk.replace(|c: char| c.is_control(), " ");
        sdk.truncate(sdk.floor_char_boundary(100));
        let offered = |feature: &str| hello.features.iter().any(|of| of == feature);
        let mut features = Vec::new();
        #[cfg(unix)]
        if self.link.outbox.is_some() && offered(DESCRIPTORS) {
            self.link.descriptors.store(true, Ordering::Relaxed);
            features.push(DESCRIPTORS.to_owned());
        }
        #[allow(clippy::unnecessary_min_or_max, reason = "it has an effect once there is a minor version above 0")]
        let minor = hello.minor.min(MINOR);
        Ok(Introduced { manifest, sdk, minor, features })
    }
}

type Pieces = Pin<Box<dyn Stream<Item = Result<v1::Chunk, Status>> + Send>>;

#[tonic::async_trait]
impl v1::life_server::Life for LifeCalls {
    type LiveStream = Pin<Box<dyn Stream<Item = Result<v1::Event, Status>> + Send>>;
    type BodyStream = Pieces;

    async fn live(&self, request: Request<v1::Hello>) -> Result<Response<Self::LiveStream>, Status> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(events) = events else {
            return Err(refuse(Error::new(ErrorKind::Exists, "the bridge has introduced itself already")));
        };
        let introduced = match self.admit(request.into_inner()) {
            Ok(introduced) => introduced,
            Err(why) => {
                let status = Status::unauthenticated(cut(&why).to_owned());
                self.link.introduced(Err(why));
                return Err(status);
            }
        };
        let welcome = v1::Welcome {
            minor: introduced.minor,
            features: introduced.features.clone(),
            max_message: MAX_REQUEST as u32,
            max_chunk: CHUNK as u32,
            max_uploads: u32::try_from(self.link.limits.uploads).unwrap_or(u32::MAX),
            max_deliveries: u32::try_from(self.link.limits.deliveries).unwrap_or(u32::MAX),
            log_level: logs::taken().into(),
        };
        let first = tokio_stream::once(Ok(v1::Event { event: Some(Event::Welcome(welcome)) }));
        self.link.introduced(Ok(introduced));
        Ok(Response::new(Box::pin(first.chain(ReceiverStream::new(events)))))
    }

    async fn built(&self, request: Request<v1::BuiltRequest>) -> Result<Response<v1::BuiltReply>, Status> {
        self.link.built(request.into_inner()).map_err(refuse)?;
        Ok(Response::new(v1::BuiltReply {}))
    }

    async fn body(&self, request: Request<v1::BodyRequest>) -> Result<Response<Pieces>, Status> {
        let content = self.link.body(request.into_inner().job);
        let content =
            content.ok_or_else(|| refuse(Error::new(ErrorKind::NotFound, "nobody waits for that delivery")))?;
        // The memory is the delivery's own; pieces share it.
        let (first, rest) = convert::pieces(&content);
        let first = (!first.is_empty()).then_some(first);
        let pieces = first.into_iter().chain(rest).map(|data| Ok(v1::Chunk { data }));
        Ok(Response::new(Box::pin(tokio_stream::iter(pieces))))
    }

    async fn outcomes(&self, request: Request<v1::OutcomesRequest>) -> Result<Response<v1::OutcomesReply>, Status> {
        let request = request.into_inner();
        self.link.outcomes(request.job, request.outcomes).map_err(refuse)?;
        Ok(Response::new(v1::OutcomesReply {}))
    }

    async fn answered(&self, request: Request<v1::AnsweredRequest>) -> Result<Response<v1::AnsweredReply>, Status> {
        use v1::answered_request::Result as Wire;
        let request = request.into_inner();
        let answer = match need(request.result, "answer")? {
            Wire::Answer(answer) => answer.try_into(),
            Wire::Error(error) => Err(told(&error)),
        };
        self.link.answered(request.id, answer).map_err(refuse)?;
        Ok(Response::new(v1::AnsweredReply {}))
    }

    async fn ended(&self, request: Request<v1::EndedRequest>) -> Result<Response<v1::EndedReply>, Status> {
        let why = |why: String| cut(&why).replace(|c: char| c.is_control(), " ");
        self.link.say_ended(request.into_inner().fatal.map(why));
        Ok(Response::new(v1::EndedReply {}))
    }

    async fn log(&self, request: Request<v1::LogRequest>) -> Result<Response<v1::LogReply>, Status> {
        self.link.log(&request.into_inner().lines);
        Ok(Response::new(v1::LogReply {}))
    }

    async fn ping(&self, _: Request<v1::PingRequest>) -> Result<Response<v1::PingReply>, Status> {
        Ok(Response::new(v1::PingReply {}))
    }
}
