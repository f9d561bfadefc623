//! Leads each call to its service, and counts the bytes of its request.

use super::calls::HostCalls;
use super::life::LifeCalls;
use super::link::{Events, Link, too_much};
use super::session::SessionCalls;
use crate::Reservation;
use crate::wire::v1::host_server::HostServer;
use crate::wire::v1::life_server::LifeServer;
use crate::wire::v1::session_server::SessionServer;
use crate::wire::{MAX_EVENT, MAX_REQUEST};
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tonic::Status;
use tonic::body::Body;
use tower::Service;

const LIVE: &str = "/mesyx.bridge.v1.Life/Live";
/// Calls that bring messages: what they bring is counted in the common budget, piece by piece.
const UPLOADS: [&str; 3] =
    ["/mesyx.bridge.v1.Host/Accept", "/mesyx.bridge.v1.Session/Append", "/mesyx.bridge.v1.Session/Submit"];

/// The services of one connection.
#[derive(Clone)]
pub(super) struct Routes {
    link: Arc<Link>,
    life: LifeServer<LifeCalls>,
    host: HostServer<HostCalls>,
    session: SessionServer<SessionCalls>,
}

impl Routes {
    pub(super) fn new(link: Arc<Link>, events: Events) -> Self {
        Self {
            life: LifeServer::new(LifeCalls::new(Arc::clone(&link), events)).max_decoding_message_size(MAX_EVENT),
            host: HostServer::new(HostCalls(Arc::clone(&link))).max_decoding_message_size(MAX_REQUEST),
            session: SessionServer::new(SessionCalls(Arc::clone(&link))).max_decoding_message_size(MAX_REQUEST),
            link,
        }
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl Service<Request<Body>> for Routes {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        let path = request.uri().path();
        if path != LIVE && !self.link.admitted.load(Ordering::Acquire) {
            return refused(Status::unauthenticated("the bridge has not introduced itself: call Life.Live first"));
        }
        // Any request holds one unit at least, so that their number is bounded too.
        let Some(held) = self.link.requests.reserve(1) else { return refused(too_much()) };
        let held = Arc::new(Mutex::new(held));
        let turn = if path == LIVE { Ok(Duration::ZERO) } else { self.link.call_turn() };
        let wait = match turn {
            Ok(wait) => wait,
            Err(status) => return refused(status),
        };
        let counted = !UPLOADS.contains(&path);
        let service = path.strip_prefix("/mesyx.bridge.v1.").and_then(|path| path.split_once('/'));
        let service = service.map(|(service, _)| service.to_owned());
        let request = request.map(|body| match counted {
            true => Body::new(Counted { body, taken: 0, held: Arc::clone(&held) }),
            false => body,
        });
        let answer: Answer = match service.as_deref() {
            Some("Life") => Box::pin(self.life.call(request)),
            Some("Host") => Box::pin(self.host.call(request)),
            Some("Session") => Box::pin(self.session.call(request)),
            _ => return refused(Status::unimplemented("there is no such service")),
        };
        Box::pin(async move {
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            let answer = answer.await;
            drop(held);
            answer
        })
    }
}

fn refused(status: Status) -> Answer {
    Box::pin(std::future::ready(Ok(status.into_http())))
}

/// A request's body whose bytes are reserved until the call is answered.
struct Counted {
    body: Body,
    taken: usize,
    held: Arc<Mutex<Reservation>>,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.taken += data.len();
            let enough = self.held.lock().unwrap_or_else(PoisonError::into_inner).grow(self.taken);
            if !enough {
                return Poll::Ready(Some(Err(too_much())));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
