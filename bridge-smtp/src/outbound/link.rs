//! One connection to one host: the socket, TLS, and the clock around a [`Client`].

use super::client::{Client, End, Login, Need, Report, Stage, StartTls};
use super::config::{DeliveryConfig, Timeouts};
use super::message::{Envelope, Message};
use super::tls::{ClientTls, Requirement, result_type};
use rustls::pki_types::ServerName;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

/// How long the last word of a host is waited for whose connection broke while we wrote, and the answer to QUIT.
const LAST_WORD: Duration = Duration::from_secs(2);
/// How much is read at once.
const BUFFER: usize = 4096;

/// Where to connect, as whom.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The host's name; for a literal, its address.
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    /// Our own name.
    pub(crate) helo: String,
    pub(crate) login: Option<Login>,
}

/// Why there is no session.
#[derive(Debug)]
pub(crate) enum Unopened {
    /// TLS did not come about; how RFC 8460, section 4.3, names it, and why.
    Tls(&'static str, String),
    /// Something else, in one line that begins with a status of RFC 3463.
    Other(String),
}

/// A session that is ready.
#[derive(Debug)]
pub(crate) struct Link {
    client: Client,
    stream: Stream,
    buffer: Vec<u8>,
    timeouts: Timeouts,
    /// How people call the host.
    pub(crate) label: String,
    /// Messages begun over it.
    pub(crate) used: u32,
    /// It is under TLS.
    pub(crate) tls: bool,
}

impl Link {
    /// Connects, secures and logs in, until the session is ready, or `until`.
    pub(crate) async fn open(
        target: &Target,
        requirement: &Requirement,
        tls: &ClientTls,
        config: &DeliveryConfig,
        until: Instant,
    ) -> Result<Self, Unopened> {
        let timeouts = &config.timeouts;
        let label = format!("{} [{}]", target.name, target.address.ip());
        let connected = connect(target.address, config, until).await;
        let tcp = connected.map_err(|error| Unopened::Other(format!("4.4.1 {label} can't be reached: {error}")))?;
        let starttls = match requirement {
            Requirement::None | Requirement::Implicit => StartTls::Never,
            Requirement::Opportunistic => StartTls::IfOffered,
            _ => StartTls::Always,
        };
        let client = Client::new(&target.helo, starttls, target.login.clone());
        let mut link = Self {
            client,
            stream: Stream::Plain(tcp),
            buffer: vec![0; BUFFER],
            timeouts: timeouts.clone(),
            label,
            used: 0,
            tls: false,
        };
        if *requirement == Requirement::Implicit {
            link.handshake(target, requirement, tls, until).await?;
        }
        loop {
            link.drive(until).await;
            match link.client.need() {
                Need::Handshake => {
                    link.handshake(target, requirement, tls, until).await?;
                    link.client.secured();
                }
                Need::Close => return Err(link.unopened()),
                _ => return Ok(link),
            }
        }
    }

    async fn handshake(
        &mut self,
        target: &Target,
        requirement: &Requirement,
        tls: &ClientTls,
        until: Instant,
    ) -> Result<(), Unopened> {
        let label = self.label.clone();
        let config = tls.config(requirement).map_err(|error| Unopened::Other(format!("4.3.5 {error}")))?;
        let name = match target.name.parse::<IpAddr>() {
            Ok(ip) => Ok(ServerName::from(ip)),
            Err(_) => ServerName::try_from(target.name.clone()),
        };
        let name = name.map_err(|error| Unopened::Tls("validation-failure", format!("4.7.5 {label}: {error}")))?;
        let Stream::Plain(tcp) = std::mem::replace(&mut self.stream, Stream::None) else { return Ok(()) };
        let until = until.min(Instant::now() + Timeouts::seconds(self.timeouts.tls));
        let failed = |result, error: &dyn std::fmt::Display| {
            Unopened::Tls(result, format!("4.7.5 the TLS handshake with {label} failed: {error}"))
        };
        match timeout_at(until, Box::pin(TlsConnector::from(config).connect(name, tcp))).await {
            Ok(Ok(stream)) => self.stream = Stream::Tls(Box::new(stream)),
            Ok(Err(error)) => return Err(failed(result_type(&error), &error)),
            Err(_) => return Err(failed("validation-failure", &"it took too long")),
        }
        self.tls = true;
        Ok(())
    }

    fn unopened(&self) -> Unopened {
        let label = &self.label;
        match self.client.end() {
            Some(End::NoTls) => {
                Unopened::Tls("starttls-not-supported", format!("4.7.4 {label} offers no TLS, which is needed here"))
            }
            Some(End::TlsRefused(reply)) => Unopened::Tls(
                "starttls-not-supported",
                format!("4.7.4 {label} refused TLS, which is needed here: {reply}"),
            ),
            _ => Unopened::Other(self.ended()),
        }
    }

    /// Why the session is over, in one line that begins with a status.
    pub(crate) fn ended(&self) -> String {
        let label = &self.label;
        match self.client.end() {
            Some(End::Refused(stage, reply)) => {
                format!("{} {label} said to {}: {reply}", super::outcome::status(reply, '4'), stage.name())
            }
            Some(End::Injected) => {
                format!(
                    "4.7.5 {label} sent something between its yes to STARTTLS and the handshake, as only an attacker would"
                )
            }
            Some(End::NoLogin) => {
                format!("4.7.4 {label} offers no way to log in that is known here (AUTH PLAIN, LOGIN)")
            }
            Some(End::LoginRefused(reply)) => format!("4.7.8 {label} refused our login: {reply}"),
            Some(End::Malformed(what)) => format!("4.5.0 {label}: {what}"),
            Some(End::Lost(why)) => format!("4.4.2 the connection to {label} was lost: {why}"),
            Some(End::Abandoned) => format!("4.5.0 {label} refused all recipients and yet wanted the message"),
            Some(End::NoTls | End::TlsRefused(_)) => format!("4.7.4 {label} gives no TLS"),
            Some(End::Quit) | None => format!("4.4.2 the connection to {label} is closed"),
        }
    }

    /// Sends a message, until `until`. The session may be over afterwards: see [`Link::is_ready`].
    pub(crate) async fn send(&mut self, envelope: Envelope, message: Arc<Message>, until: Instant) -> Report {
        let recipients = envelope.to.len();
        self.used += 1;
        self.client.send(envelope, message);
        self.drive(until).await;
        self.client.report().unwrap_or_else(|| Report {
            said: vec![super::client::Said::Unheard { maybe_sent: true }; recipients],
            dsn: false,
        })
    }

    /// Whether another message can be sent.
    pub(crate) fn is_ready(&self) -> bool {
        self.client.need() == Need::Nothing
    }

    /// Whether the host had ended the session before it heard of the message that was begun last.
    pub(crate) fn was_stale(&self) -> bool {
        match self.client.end() {
            Some(End::Lost(_)) => !self.client.heard(),
            Some(End::Refused(Stage::Mail | Stage::Reset, reply)) => reply.code == 421,
            _ => false,
        }
    }

    /// Says goodbye, without waiting long for an answer.
    pub(crate) async fn quit(mut self) {
        self.client.quit();
        self.drive(Instant::now() + LAST_WORD).await;
        let _ = timeout_at(Instant::now() + LAST_WORD, self.stream.shutdown()).await;
    }

    /// Writes and reads until the machine waits for something else.
    async fn drive(&mut self, until: Instant) {
        let mut out = Zeroizing::new(Vec::new());
        loop {
            match self.client.need() {
                Need::Write => {
                    out.clear();
                    self.client.output(&mut out);
                    let until = until.min(Instant::now() + Timeouts::seconds(self.timeouts.block));
                    let written = async {
                        self.stream.write_all(&out).await?;
                        self.stream.flush().await
                    };
                    let why = match timeout_at(until, written).await {
                        Ok(Ok(())) => continue,
                        Ok(Err(error)) => error.to_string(),
                        Err(_) => "it took no more of what we sent".to_owned(),
                    };
                    self.last_word().await;
                    self.client.lost(&why);
                }
                Need::Read(stage) => {
                    let limit = self.patience(stage);
                    let until = until.min(Instant::now() + limit);
                    match timeout_at(until, self.stream.read(&mut self.buffer)).await {
                        Ok(Ok(0)) => self.client.lost("it closed the connection"),
                        Ok(Ok(bytes)) => self.client.input(&self.buffer[..bytes]),
                        Ok(Err(error)) => self.client.lost(&error.to_string()),
                        Err(_) => self.client.lost(&format!("no answer to {} in time", stage.name())),
                    }
                }
                Need::Handshake | Need::Nothing | Need::Close => return,
            }
        }
    }

    /// A host that hangs up on us mostly says why.
    async fn last_word(&mut self) {
        let until = Instant::now() + LAST_WORD;
        while self.client.need() != Need::Close {
            match timeout_at(until, self.stream.read(&mut self.buffer)).await {
                Ok(Ok(bytes)) if bytes > 0 => self.client.input(&self.buffer[..bytes]),
                _ => return,
            }
        }
    }

    fn patience(&self, stage: Stage) -> Duration {
        let timeouts = &self.timeouts;
        Timeouts::seconds(match stage {
            Stage::Greeting => timeouts.greeting,
            Stage::Data => timeouts.data,
            Stage::End => timeouts.end,
            _ => timeouts.command,
        })
    }
}

async fn connect(address: SocketAddr, config: &DeliveryConfig, until: Instant) -> io::Result<TcpStream> {
    let (socket, bind) = match address.ip() {
        IpAddr::V4(_) => (TcpSocket::new_v4()?, config.bind_ipv4.map(IpAddr::V4)),
        IpAddr::V6(_) => (TcpSocket::new_v6()?, config.bind_ipv6.map(IpAddr::V6)),
    };
    if let Some(ip) = bind {
        socket.bind(SocketAddr::new(ip, 0))?;
    }
    let until = until.min(Instant::now() + Timeouts::seconds(config.timeouts.connect));
    let connected = timeout_at(until, socket.connect(address)).await;
    let tcp = connected.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer in time"))??;
    // Commands are small and waited for; they must not wait for company.
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

/// The kinds of connection; `None` only while a handshake takes place, or after one that failed.
#[derive(Debug)]
enum Stream {
    None,
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

fn gone<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::None => gone(),
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::None => gone(),
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::None => gone(),
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::None => gone(),
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
