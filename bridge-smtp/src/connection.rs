//! One connection: carries bytes between the socket and the protocol's [`Session`], and asks the host what it wants to know.

use crate::config::{CheckedListener, TlsMode};
use crate::limits::Counted;
use crate::proto::{Answer, Incoming, Role, Session, Step, TlsInfo};
use crate::proxy;
use crate::server::{Shared, stopped};
use crate::stream::Stream;
use crate::unanswered::Fingerprint;
use crate::verify::{Action, Peer};
use mesyx_sdk::{
    Accepted, Address, ClientInfo, Content, Credentials, Envelope, Error, ErrorKind, MessageId, RecipientStatus,
    Secret, Sender, Timestamp, UserId,
};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;
use zeroize::Zeroizing;

/// What is read at once.
const BUFFER: usize = 4 * 1024;
/// What is read at once after a large message came in: a whole TLS record.
const LARGE_BUFFER: usize = 16 * 1024;
/// How many full reads in a row make a message large.
const FULL_READS: u8 = 4;
/// How long a PROXY header may take.
const PROXY_TIME: Duration = Duration::from_secs(10);
/// How long a message may take before the minimum rate counts.
const MESSAGE_GRACE: Duration = Duration::from_secs(60);
/// How long, and how many bytes, what a peer still sends is listened to after our last word, so that it can read it.
const LINGER: (Duration, usize) = (Duration::from_secs(1), 1 << 20);

/// A connection that talks.
struct Connection {
    shared: Arc<Shared>,
    ip: IpAddr,
    /// `None` only while TLS is being set up.
    stream: Option<Stream>,
    session: Session,
    user: Option<Arc<dyn mesyx_sdk::Session>>,
    tls: bool,
    /// Bytes that were read; it may hold passwords.
    buffer: Zeroizing<Vec<u8>>,
    /// The part of `buffer` that the session has not taken yet.
    unread: std::ops::Range<usize>,
    /// How many reads in a row filled the buffer.
    full_reads: u8,
    stopping: watch::Receiver<bool>,
    told_to_stop: bool,
    /// Until when the peer must have said something whole.
    deadline: Instant,
    /// Since when a message is coming in, and how many bytes have come since.
    message: Option<(Instant, u64)>,
    /// A message that was taken, as long as the peer may not have heard so.
    unheard: Option<(Fingerprint, MessageId)>,
}

/// Serves a connection to its end.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    listener: Arc<CheckedListener>,
    tcp: TcpStream,
    peer: SocketAddr,
    counted: Counted,
) {
    shared.meters.connections.increment(1);
    shared.meters.open.increment(1.0);
    if let Err(error) = begin(&shared, &listener, tcp, peer, counted).await {
        debug!(bridge = shared.protocol, %error, "a connection broke off");
    }
    shared.meters.open.decrement(1.0);
}

async fn begin(
    shared: &Arc<Shared>,
    listener: &CheckedListener,
    tcp: TcpStream,
    peer: SocketAddr,
    mut counted: Counted,
) -> io::Result<()> {
    let mut stopping = shared.stopping.clone();
    let prepared = tokio::select! {
        prepared = prepare(shared, listener, tcp, peer, &mut counted) => prepared?,
        // Nothing was begun that would have to be finished.
        () = stopped(&mut stopping) => None,
    };
    let Some(mut connection) = prepared else { return Ok(()) };
    let result = connection.talk().await;
    if result.is_err() {
        connection.remember_unheard();
    }
    result
}

/// Everything before the greeting: PROXY header, limits, implicit TLS. `None` where the connection is not wanted.
async fn prepare(
    shared: &Arc<Shared>,
    listener: &CheckedListener,
    mut tcp: TcpStream,
    peer: SocketAddr,
    counted: &mut Counted,
) -> io::Result<Option<Connection>> {
    tcp.set_nodelay(true)?;
    let mut ip = peer.ip().to_canonical();
    if let Some(networks) = &listener.proxy {
        if !networks.iter().any(|network| network.contains(ip)) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "a PROXY header from outside of proxy_from"));
        }
        let source = timeout(PROXY_TIME, proxy::read(&mut tcp)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        ip = source.map_or(ip, |source| source.ip().to_canonical());
    }
    if !counted.of_peer(ip) {
        shared.meters.crowded.increment(1);
        refuse(tcp, listener).await?;
        return Ok(None);
    }
    let config = match (listener.tls, &shared.tls) {
        (TlsMode::None, _) | (_, None) => None,
        (_, Some(tls)) => tls.config().ok(),
    };
    let can_starttls = listener.tls == TlsMode::Starttls && config.is_some();
    let (stream, tls) = match (listener.tls, config) {
        (TlsMode::Implicit, None) => return Err(io::Error::other("there is no TLS certificate")),
        (TlsMode::Implicit, Some(config)) => {
            let (stream, tls) = Stream::handshake(tcp, config).await?;
            (stream, Some(tls))
        }
        _ => (Stream::Plain(tcp), None),
    };
    Ok(Some(Connection::new(shared, ip, stream, tls, can_starttls, listener.login_in_clear)))
}

/// Says why there is no conversation, where the peer can read it.
async fn refuse(mut tcp: TcpStream, listener: &CheckedListener) -> io::Result<()> {
    if listener.tls != TlsMode::Implicit {
        let text = b"421 4.7.0 too many connections from you; come back later\r\n";
        timeout(LINGER.0, tcp.write_all(text)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    }
    Ok(())
}

impl Connection {
    fn new(
        shared: &Arc<Shared>,
        ip: IpAddr,
        stream: Stream,
        tls: Option<TlsInfo>,
        can_starttls: bool,
        login_in_clear: bool,
    ) -> Self {
        let protected = tls.is_some();
        Self {
            ip,
            stream: Some(stream),
            session: Session::new(Arc::clone(&shared.settings), ip, tls, can_starttls, login_in_clear),
            user: None,
            tls: protected,
            buffer: Zeroizing::default(),
            unread: 0..0,
            full_reads: 0,
            stopping: shared.stopping.clone(),
            told_to_stop: false,
            deadline: Instant::now() + shared.checked.timeout,
            message: None,
            unheard: None,
            shared: Arc::clone(shared),
        }
    }

    async fn talk(&mut self) -> io::Result<()> {
        loop {
            let mut input = &self.buffer[self.unread.clone()];
            let step = self.session.advance(&mut input, Timestamp::now());
            self.unread.start = self.unread.end - input.len();
            for code in self.session.refusals() {
                self.shared.meters.refused(code);
            }
            let answer = match step {
                Step::Read => {
                    self.flush().await?;
                    if self.read().await? {
                        continue;
                    }
                    return Ok(());
                }
                Step::Close => {
                    self.flush().await?;
                    return self.linger().await;
                }
                Step::StartTls => Answer::Tls(self.start_tls().await?),
                Step::Recipient(address) => Answer::Recipient(self.recipient(&address).await),
                Step::Sender(address) => Answer::Sender(match &self.user {
                    Some(user) => user.may_send_as(&address).await,
                    None => Ok(false),
                }),
                Step::Login { name, password } => Answer::Login(self.login(name, password).await),
                Step::Take(incoming) => Answer::Taken(self.take(*incoming).await),
            };
            self.session.answer(answer);
            self.progress();
        }
    }

    /// The peer did its part: its time begins anew.
    fn progress(&mut self) {
        self.deadline = Instant::now() + self.shared.checked.timeout;
    }

    async fn flush(&mut self) -> io::Result<()> {
        let output = self.session.output();
        if output.is_empty() {
            return Ok(());
        }
        let stream = self.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let sending = async {
            stream.write_all(output).await?;
            stream.flush().await
        };
        timeout(self.shared.checked.timeout, sending).await.map_err(|_| io::ErrorKind::TimedOut)??;
        output.clear();
        // Whatever was asked was answered now; a silent client need not cost the memory of a busy one.
        if output.capacity() > BUFFER {
            *output = Vec::new();
        }
        Ok(())
    }

    /// Waits for bytes. `false` when the peer has gone, or the conversation is over.
    async fn read(&mut self) -> io::Result<bool> {
        self.note_receiving();
        let deadline = self.message_deadline().map_or(self.deadline, |message| message.min(self.deadline));
        let stream = self.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let reading = async {
            tokio::select! {
                biased;
                read = stream.read(&mut self.buffer) => read.map(Some),
                () = stopped(&mut self.stopping), if !self.told_to_stop => Ok(None),
            }
        };
        let read = match timeout_at(deadline, reading).await {
            Ok(result) => result?,
            Err(_) => {
                self.session.timed_out();
                return Ok(true);
            }
        };
        match read {
            None => {
                self.told_to_stop = true;
                self.session.stop();
                Ok(true)
            }
            Some(0) => Ok(false),
            Some(bytes) => {
                self.unread = 0..bytes;
                self.unheard = None;
                if let Some((_, received)) = &mut self.message {
                    *received += bytes as u64;
                }
                // While a command comes in byte by byte, its time runs on.
                if self.session.is_receiving() || memchr::memchr(b'\n', &self.buffer[..bytes]).is_some() {
                    self.progress();
                }
                Ok(true)
            }
        }
    }

    /// Until when the next bytes of the message that is coming in must be here.
    fn message_deadline(&self) -> Option<Instant> {
        let (start, received) = self.message?;
        let allowed =
            MESSAGE_GRACE + Duration::from_secs(received / u64::from(self.shared.checked.minimum_rate.max(1)));
        Some(start + allowed.min(self.shared.checked.message_time))
    }

    /// Fits the buffer and the deadline to what is expected.
    fn note_receiving(&mut self) {
        if !self.session.has_part_of_message() {
            self.message = None;
        } else if self.message.is_none() {
            self.message = Some((Instant::now(), 0));
        }
        let full = !self.buffer.is_empty() && self.unread.end == self.buffer.len();
        self.full_reads = if full { self.full_reads.saturating_add(1) } else { 0 };
        let wanted = if self.full_reads >= FULL_READS { LARGE_BUFFER } else { BUFFER };
        // It never shrinks: erasing and allocating it for each message would cost more than it is worth.
        if self.buffer.len() < wanted {
            self.buffer = Zeroizing::new(vec![0; wanted]);
        }
        self.unread = 0..0;
    }

    async fn start_tls(&mut self) -> io::Result<TlsInfo> {
        self.flush().await?;
        let unexpected = || io::Error::new(io::ErrorKind::InvalidData, "STARTTLS can't be done here");
        let config = self.shared.tls.as_ref().and_then(|tls| tls.config().ok()).ok_or_else(unexpected)?;
        // Nothing that was read in the clear may be acted on under TLS; the session has refused it already.
        if !self.unread.is_empty() {
            return Err(unexpected());
        }
        let Some(Stream::Plain(tcp)) = self.stream.take() else { return Err(unexpected()) };
        let (stream, tls) = tokio::select! {
            done = Stream::handshake(tcp, config) => done?,
            () = stopped(&mut self.stopping) => return Err(io::Error::other("stopped during a TLS handshake")),
        };
        self.stream = Some(stream);
        self.tls = true;
        Ok(tls)
    }

    async fn recipient(&self, address: &Address) -> Result<RecipientStatus, Error> {
        match &self.user {
            Some(user) => user.recipient(address).await,
            None => {
                let status = self.shared.host.recipient(address, &Sender::Stranger).await?;
                if status == RecipientStatus::Local
                    && let Some(strangers) = &self.shared.strangers
                {
                    strangers.gate.recipient(self.ip, self.session.sender(), address, Timestamp::now())?;
                }
                Ok(status)
            }
        }
    }

    async fn login(&mut self, name: String, password: Secret) -> Result<UserId, Error> {
        let client = ClientInfo { ip: self.ip, protocol: self.shared.protocol.to_owned(), tls: self.tls };
        let user = self.shared.host.login(Credentials { name, password, client }).await?;
        let id = user.user().id;
        self.user = Some(user);
        Ok(id)
    }

    /// Resolves when the message is durable.
    async fn take(&mut self, incoming: Incoming) -> Result<Accepted, Error> {
        let Incoming { envelope, trace, message_id, reservation } = incoming;
        // The next message has a time of its own, though it may have begun in the same read.
        self.message = None;
        let fingerprint = message_id.map(|id| self.shared.unanswered.fingerprint(self.ip, &id, &envelope, trace));
        let known = fingerprint.and_then(|fingerprint| self.shared.unanswered.look_up(fingerprint, envelope.received));
        let bytes = envelope.content.len();
        let result = match known {
            Some(id) => Ok(Accepted { id, duplicate: true }),
            None => match self.screen(envelope, trace).await {
                Ok(envelope) => self.hand_over(envelope).await,
                Err(error) => Err(error),
            },
        };
        drop(reservation);
        if let Ok(accepted) = &result {
            self.shared.meters.messages.increment(1);
            self.shared.meters.bytes.increment(bytes as u64);
            debug!(bridge = self.shared.protocol, id = %accepted.id, bytes, duplicate = accepted.duplicate, "a message was taken");
            self.unheard = fingerprint.map(|fingerprint| (fingerprint, accepted.id));
        }
        result
    }

    /// What a message goes through before it is taken: who a stranger is, and no field in it, whoever wrote it, that claims to be ours: a
    /// user's message may be for another user here.
    async fn screen(&self, mut envelope: Envelope, trace: usize) -> Result<Envelope, Error> {
        let Some(strangers) = &self.shared.strangers else {
            self.take_claims_out(&mut envelope, trace, "");
            return Ok(envelope);
        };
        strangers.gate.message(self.ip, envelope.received)?;
        let mut field = String::new();
        if let Some(verifier) = strangers.verifier.as_ref().filter(|verifier| verifier.checks(self.ip)) {
            let from = envelope.from.as_ref().and_then(Address::as_mail);
            let peer = Peer { ip: self.ip, helo: self.session.helo(), from };
            let verdict = verifier.check(envelope.content.bytes().slice(trace..), peer).await;
            self.shared.meters.verified(&verdict.checks);
            match verdict.action {
                Action::Take => {}
                Action::Junk(why) => {
                    debug!(bridge = self.shared.protocol, id = %envelope.id, why, "a message goes to Junk");
                    envelope.junk = true;
                }
                Action::Refuse(why) => return Err(Error::new(ErrorKind::Forbidden, why)),
            }
            envelope.origin.checks = verdict.checks;
            field = verdict.field;
        }
        self.take_claims_out(&mut envelope, trace, &field);
        Ok(envelope)
    }

    /// Takes out fields that claim to be ours, and puts `field` in.
    fn take_claims_out(&self, envelope: &mut Envelope, trace: usize, field: &str) {
        // The bytes have no other owner by now, so they are changed in place.
        let mut bytes = Vec::from(std::mem::take(&mut envelope.content).into_bytes());
        self.shared.claims.take_out(&mut bytes, trace);
        if !field.is_empty() {
            // Return-Path stays the first line (RFC 5321, section 4.4); the newest of what we found stands above Received.
            let at = memchr::memchr(b'\n', &bytes[..trace]).map_or(0, |end| end + 1);
            bytes.reserve_exact(field.len());
            bytes.splice(at..at, field.bytes());
        }
        envelope.content = Content::from(bytes);
    }

    async fn hand_over(&self, envelope: Envelope) -> Result<Accepted, Error> {
        match (self.shared.settings.role, &self.user) {
            (Role::Submission, Some(user)) => user.submit(envelope).await,
            (Role::Submission, None) => Err(Error::new(ErrorKind::Forbidden, "log in first")),
            (Role::Mx, _) => {
                let mut answers = self.shared.host.accept(vec![envelope]).await;
                answers.pop().unwrap_or_else(|| Err(Error::new(ErrorKind::Unavailable, "the host gave no answer")))
            }
        }
    }

    /// The connection broke: if the peer may not know that its message was taken, remember that it was.
    fn remember_unheard(&mut self) {
        if let Some((fingerprint, id)) = self.unheard.take() {
            self.shared.unanswered.remember(fingerprint, id, Timestamp::now());
        }
    }

    /// Ends the connection so that our last word arrives: a socket closed with bytes unread would take it back.
    async fn linger(&mut self) -> io::Result<()> {
        let Some(mut stream) = self.stream.take() else { return Ok(()) };
        let ending = async {
            stream.shutdown().await?;
            self.buffer.resize(BUFFER, 0);
            let mut left = LINGER.1;
            while left > 0 {
                match stream.read(&mut self.buffer).await? {
                    0 => break,
                    bytes => left = left.saturating_sub(bytes),
                }
            }
            Ok::<_, io::Error>(())
        };
        // Whatever goes wrong now, everything was said.
        let _ = timeout(LINGER.0, ending).await;
        Ok(())
    }
}
