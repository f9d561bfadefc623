//! One client's connection: lines in at the pace that it may send, what waits out, and the user's live feed to the engine.

use super::account::{Account, Saying};
use super::engine::ask::Outcome;
use super::engine::outbox::{Outbox, Pending};
use super::engine::{Ask, ClientId, Given};
use super::server::{Shared, stopped};
use crate::link::News;
use mesyx_irc_codec::pace::Pace;
use mesyx_irc_codec::{Framed, Framer, Limits};
use mesyx_sdk::{ChatEvent, ChatLine, ClientInfo, Conversation, Error, ErrorKind, MessageId, Timestamp, Verb};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How long the last lines of a connection may take to be sent.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long a line that was stored may take to come on the live feed.
const ECHO: Duration = Duration::from_secs(5);
/// How long a change of a group may take to come there; one that changed nothing makes no line.
const EVENT: Duration = Duration::from_secs(1);
/// Most lines of one connection on their way into the store.
const FLIGHTS: usize = 64;
/// Most events that are taken together: a commit brings many lines, which then go out in few packets.
const BURST: usize = 256;
/// Most bytes read at once, and so what waits of a client's lines.
const PIECE: usize = 2048;

/// Serves a client until it goes, is too slow, or the bridge stops.
pub(super) async fn serve<S>(stream: S, ip: IpAddr, tls: bool, outbox: Arc<Outbox>, shared: &Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let id = shared.server().connected(Timestamp::now(), ip, tls, Arc::clone(&outbox));
    let (reading, writing) = tokio::io::split(stream);
    let info = ClientInfo { ip, protocol: "irc".into(), tls };
    let mut connection = Connection {
        id,
        shared: Arc::clone(shared),
        account: Account::new(Arc::clone(shared), id, info),
        lines: VecDeque::new(),
        flights: VecDeque::new(),
        began: Instant::now(),
        pace: Pace::new(shared.limits.guest_burst, Duration::from_secs(1) / shared.limits.guest_lines_per_second),
        is_user: false,
        before: Some(0),
    };
    let mut stopping = shared.stopping.clone();
    let why = tokio::select! {
        why = write(writing, &outbox) => why,
        why = connection.read(reading) => why,
        () = stopped(&mut stopping) => "The server stops",
    };
    // What the client said before it went is still stored.
    let _ = tokio::time::timeout(ECHO, connection.land_all()).await;
    connection.account.left().await;
    shared.server().disconnected(Timestamp::now(), id, why);
}

/// Sends what waits, until the connection is to end.
async fn write<W: AsyncWrite + Unpin>(mut writing: W, outbox: &Outbox) -> &'static str {
    loop {
        match outbox.take() {
            Pending::Send(bytes) => {
                let sent = async {
                    writing.write_all(&bytes).await?;
                    writing.flush().await
                };
                if outbox.ends() {
                    match tokio::time::timeout(FAREWELL, sent).await {
                        Ok(Ok(())) => {}
                        _ => return "Connection lost",
                    }
                } else {
                    tokio::pin!(sent);
                    loop {
                        tokio::select! {
                            done = &mut sent => match done {
                                Ok(()) => break,
                                Err(_) => return "Connection lost",
                            },
                            () = outbox.changed.notified() => {
                                // One who does not read must not hold what waits for ever.
                                if outbox.ends() {
                                    match tokio::time::timeout(FAREWELL, &mut sent).await {
                                        Ok(Ok(())) => break,
                                        _ => return "Read too slowly",
                                    }
                                }
                            }
                        }
                    }
                }
            }
            Pending::Nothing => outbox.changed.notified().await,
            Pending::Close => {
                let _ = tokio::time::timeout(FAREWELL, writing.shutdown()).await;
                return "Closed";
            }
            Pending::Cut => return "Read too slowly",
        }
    }
}

struct Connection {
    id: ClientId,
    shared: Arc<Shared>,
    account: Account,
    lines: VecDeque<Framed>,
    /// Lines on their way into the store, in their order, so that many share a commit.
    flights: VecDeque<(Ask, Flight)>,
    began: Instant,
    pace: Pace,
    is_user: bool,
    /// Bytes that came, until the client was let in.
    before: Option<usize>,
}

/// A line on its way.
type Flight = tokio::task::JoinHandle<Outcome>;

/// What the connection waits for next.
enum Next {
    Read(usize),
    Event(Option<ChatEvent>),
    Stored(Outcome),
    Paced,
}

impl Connection {
    async fn read<R: AsyncRead + Unpin>(&mut self, mut reading: R) -> &'static str {
        let mut framer = Framer::new(Limits::FROM_CLIENT);
        loop {
            // Nothing more is read while lines wait for the pace, or for those before them.
            let wait = self.pace.wait(self.began.elapsed());
            let full = self.flights.len() >= FLIGHTS;
            let ready = !self.lines.is_empty() && wait.is_zero() && !full;
            if ready {
                if let Some(line) = self.lines.pop_front() {
                    self.pace.spend(self.began.elapsed(), 1);
                    match line {
                        Framed::Line(line) => self.line(&line).await,
                        Framed::TooLong => self.shared.server().too_long(Timestamp::now(), self.id),
                    }
                }
                continue;
            }
            let idle = self.lines.is_empty();
            let mut piece = Vec::new();
            let next = tokio::select! {
                outcome = stored(&mut self.flights) => Next::Stored(outcome),
                event = self.account.event() => Next::Event(event),
                read = read_some(&mut reading, &mut piece), if idle => match read {
                    Ok(read) => Next::Read(read),
                    Err(_) => return "Connection lost",
                },
                () = tokio::time::sleep(wait), if !idle && !full => Next::Paced,
            };
            match next {
                Next::Read(0) => return "Connection closed",
                Next::Read(read) => {
                    if self.is_too_much(read) {
                        // The writing side ends the connection once the reason is sent.
                        std::future::pending::<()>().await;
                    }
                    framer.push(&piece, |line| self.lines.push_back(line));
                }
                Next::Stored(outcome) => self.landed(outcome),
                Next::Event(mut event) => {
                    for at_once in 1..=BURST {
                        if !self.take_event(event, false).await {
                            return "The session is over";
                        }
                        event = if at_once < BURST { self.account.event_at_hand() } else { None };
                        if event.is_none() {
                            break;
                        }
                    }
                }
                Next::Paced => {}
            }
        }
    }

    /// Counts what comes before the client is let in; `true`: it is too much, and the connection ends.
    fn is_too_much(&mut self, read: usize) -> bool {
        let Some(before) = &mut self.before else { return false };
        let mut server = self.shared.server();
        if server.is_let_in(self.id) {
            self.before = None;
            return false;
        }
        *before += read;
        let too_much = *before > self.shared.limits.login_bytes;
        if too_much {
            server.too_much(Timestamp::now(), self.id);
        }
        too_much
    }

    /// The first line on its way is stored, or was refused.
    fn landed(&mut self, outcome: Outcome) {
        if let Some((ask, _)) = self.flights.pop_front() {
            self.shared.server().given(Timestamp::now(), self.id, ask, outcome);
        }
    }

    async fn land_all(&mut self) {
        while !self.flights.is_empty() {
            let outcome = stored(&mut self.flights).await;
            self.landed(outcome);
        }
    }

    /// Starts a line on its way.
    async fn fly(&mut self, ask: Ask) {
        match self.account.saying(&ask) {
            Ok(saying) => match launch(saying).await {
                Ok(outcome) => {
                    self.shared.server().given(Timestamp::now(), self.id, ask, outcome);
                }
                Err(flight) => self.flights.push_back((ask, flight)),
            },
            Err(error) => {
                self.shared.server().given(Timestamp::now(), self.id, ask, Err(error));
            }
        }
    }

    async fn line(&mut self, line: &[u8]) {
        let (asks, labeled) = {
            let mut server = self.shared.server();
            (server.line(Timestamp::now(), self.id, line), server.is_labeled(self.id))
        };
        if !labeled && !asks.is_empty() && asks.iter().all(|ask| matches!(ask, Ask::Say { .. })) {
            for ask in asks {
                self.fly(ask).await;
            }
        } else if !asks.is_empty() {
            // Whatever else a command asks comes after what was said before it.
            self.land_all().await;
            self.ask(asks).await;
        }
        self.shared.server().finish(self.id);
    }

    /// Asks the host what the engine asks, in order; what an answer leads to comes first.
    async fn ask(&mut self, asks: Vec<Ask>) {
        let mut asks: VecDeque<Ask> = asks.into();
        while let Some(ask) = asks.pop_front() {
            let expected = Expected::of(&ask);
            let outcome = self.account.perform(&ask).await;
            let done = outcome.is_ok();
            let logged_in = matches!(outcome, Ok(Given::User(_)));
            let more = self.shared.server().given(Timestamp::now(), self.id, ask, outcome);
            for ask in more.into_iter().rev() {
                asks.push_front(ask);
            }
            if logged_in && !self.is_user {
                let limits = &self.shared.limits;
                self.is_user = true;
                self.pace = Pace::new(limits.user_burst, Duration::from_secs(1) / limits.user_lines_per_second);
            }
            if let Some(expected) = expected.filter(|_| done) {
                self.wait_for(&expected).await;
            }
        }
    }

    /// Brings events to the engine until the one comes that answers the present command.
    async fn wait_for(&mut self, expected: &Expected) {
        let most = if matches!(expected, Expected::Id(_)) { ECHO } else { EVENT };
        let until = tokio::time::Instant::now() + most;
        while self.account.listens() {
            let Ok(event) = tokio::time::timeout_at(until, self.account.event()).await else { return };
            let found = matches!(&event, Some(ChatEvent::Line(line)) if expected.is(line));
            if !self.take_event(event, found).await || found {
                return;
            }
        }
    }

    /// `false`: the session is over.
    async fn take_event(&mut self, event: Option<ChatEvent>, expected: bool) -> bool {
        let now = || Timestamp::now();
        match event {
            Some(ChatEvent::Line(line)) => {
                if let Some(conversation) = self.account.conversation_of(&line).await {
                    self.account.delivered(&conversation, &line);
                    let asks = self.shared.server().said(now(), self.id, &conversation, &line, expected);
                    Box::pin(self.ask(asks)).await;
                }
            }
            Some(ChatEvent::Read { mailbox, up_to }) => {
                if let Some((conversation, at)) = self.account.read_at(mailbox, up_to).await {
                    self.shared.server().read(now(), self.id, &conversation, at);
                }
            }
            Some(ChatEvent::Group(group)) => self.shared.server().update_group(&group),
            Some(ChatEvent::Signal(signal)) => {
                if let Some((network, news)) = News::of(&signal) {
                    let asks = self.shared.server().news(now(), self.id, network, news);
                    Box::pin(self.ask(asks)).await;
                } else if signal.name == "invite"
                    && let (Some(from), Some(Conversation::Group(group))) = (&signal.from, &signal.conversation)
                {
                    let name = match group {
                        mesyx_sdk::Address::Mesyx(mesyx) => mesyx.user.local().to_owned(),
                        other => other.to_string(),
                    };
                    self.shared.server().invited(now(), self.id, from, &name);
                }
            }
            Some(ChatEvent::Lagged) => self.shared.server().lagged(now(), self.id),
            Some(ChatEvent::Ended(why)) => {
                self.shared.server().ended(now(), self.id, &why);
                // What is to be sent goes out; then the writing side ends the connection.
                tokio::time::sleep(FAREWELL).await;
                return false;
            }
            Some(_) => {}
            None => {
                self.shared.server().ended(now(), self.id, "The conversations are closed");
                tokio::time::sleep(FAREWELL).await;
                return false;
            }
        }
        true
    }
}

/// Starts a line on its way: its place among the user's lines is taken when this returns.
async fn launch(mut saying: Saying) -> Result<Outcome, Flight> {
    // Whatever this task has done already in its turn.
    let mut first = std::pin::pin!(tokio::task::unconstrained(saying.as_mut()));
    match std::future::poll_fn(|context| Poll::Ready(first.as_mut().poll(context))).await {
        Poll::Ready(outcome) => Ok(outcome),
        // A task of its own: what waits for its turn among the lines of all must take it as soon as it comes, whatever the connection does
        // then, or the lines of all others wait for it.
        Poll::Pending => Err(tokio::spawn(saying)),
    }
}

/// Waits for the first of the lines on their way; for ever where there is none.
async fn stored(flights: &mut VecDeque<(Ask, Flight)>) -> Outcome {
    match flights.front_mut() {
        Some((_, flight)) => match flight.await {
            Ok(outcome) => outcome,
            Err(error) => Err(Error::new(ErrorKind::Unavailable, format!("the line was not stored: {error}"))),
        },
        None => std::future::pending().await,
    }
}

/// Reads what is there. The buffer stands in the future of the connection: an idle client costs no more.
async fn read_some<R: AsyncRead + Unpin>(reading: &mut R, piece: &mut Vec<u8>) -> std::io::Result<usize> {
    let mut first = [0; PIECE];
    let read = reading.read(&mut first).await?;
    piece.extend_from_slice(&first[..read]);
    Ok(read)
}

/// The line on the live feed that completes an answer.
enum Expected {
    Id(MessageId),
    Event(Verb),
}

impl Expected {
    fn of(ask: &Ask) -> Option<Self> {
        use mesyx_sdk::GroupChange;
        Some(match ask {
            Ask::Say { id, .. } => Self::Id(*id),
            Ask::Change { change, .. } => Self::Event(match change {
                GroupChange::Join { .. } => Verb::Join,
                GroupChange::Leave { .. } => Verb::Part,
                GroupChange::Topic(_) => Verb::Topic,
                GroupChange::Mode { .. } | GroupChange::List { .. } | GroupChange::Rank { .. } => Verb::Mode,
                GroupChange::Kick { .. } => Verb::Kick,
                _ => return None,
            }),
            _ => return None,
        })
    }

    fn is(&self, line: &ChatLine) -> bool {
        match self {
            Self::Id(id) => line.id == *id,
            Self::Event(verb) => line.own && line.line.verb == *verb,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_takes_its_turn_though_nobody_looks_after_it() {
        let lane = Arc::new(tokio::sync::Mutex::new(()));
        let others = lane.lock().await;
        let (stored, commit) = tokio::sync::oneshot::channel::<()>();
        let own = Arc::clone(&lane);
        let saying: Saying = Box::pin(async move {
            drop(own.lock().await);
            let _ = commit.await;
            Ok(Given::Said)
        });
        let flight = launch(saying).await.expect_err("another line goes first");
        drop(others);
        let next = tokio::time::timeout(Duration::from_secs(20), lane.lock()).await;
        assert!(next.is_ok(), "lines of others wait for one that nobody polls");
        let _ = stored.send(());
        assert!(matches!(stored_first(flight).await, Ok(Given::Said)));
    }

    async fn stored_first(flight: Flight) -> Outcome {
        let ask = Ask::Playback;
        stored(&mut VecDeque::from([(ask, flight)])).await
    }
}
