//! A connection's socket with its two buffers, both bounded and given back while nothing happens.

use crate::proto::framing::{Framer, Step};
use crate::proto::write::{Out, replace_nul};
use mesyx_sdk::Content;
use std::io::{Error, ErrorKind};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

/// How much of an answer is gathered before it is sent; what a slow reader makes us hold.
const GATHER: usize = 64 * 1024;
/// A piece of a message at least this large goes to the socket without being gathered.
const LARGE: usize = 32 * 1024;
/// A client must take this many bytes a second, averaged over the write timeout, while output waits for it.
const LEAST_RATE: u64 = 4 * 1024;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(30);

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Closed,
}

/// See the module.
pub(crate) struct Wire {
    stream: Stream,
    framer: Framer,
    out: Out,
    /// How much of `out` is sent already.
    sent: usize,
    pace: Pace,
}

impl Wire {
    pub(crate) const fn new(stream: TcpStream, append_limit: u64, write_timeout: Duration) -> Self {
        let out = Out(Vec::new());
        Self {
            stream: Stream::Plain(stream),
            framer: Framer::new(append_limit),
            out,
            sent: 0,
            pace: Pace::new(write_timeout),
        }
    }

    /// What is to be sent; [`Wire::flush`] or [`Wire::gathered`] sends it.
    pub(crate) const fn out(&mut self) -> &mut Out {
        &mut self.out
    }

    pub(crate) const fn framer(&mut self) -> &mut Framer {
        &mut self.framer
    }

    /// Begins TLS. What came in before is never acted on: there must be nothing.
    pub(crate) async fn start_tls(&mut self, config: Arc<ServerConfig>) -> Result<(), Error> {
        if !self.framer.is_empty() {
            return Err(Error::new(ErrorKind::InvalidData, "bytes came between STARTTLS and the handshake"));
        }
        let Stream::Plain(plain) = std::mem::replace(&mut self.stream, Stream::Closed) else {
            return Err(ErrorKind::NotConnected.into());
        };
        let stream = timeout(HANDSHAKE, TlsAcceptor::from(config).accept(plain)).await??;
        self.stream = Stream::Tls(Box::new(stream));
        Ok(())
    }

    /// The next step, with as much read as it takes; everything to be sent is sent before waiting. May be dropped while waiting.
    pub(crate) async fn step(&mut self, raw_line: bool) -> Result<Step, Error> {
        loop {
            let step = if raw_line { self.framer.step_raw_line() } else { self.framer.step() };
            if step != Step::Incomplete {
                return Ok(step);
            }
            self.flush().await?;
            self.framer.rest();
            let read = match &mut self.stream {
                Stream::Plain(stream) => stream.read_buf(self.framer.space()).await?,
                Stream::Tls(stream) => stream.read_buf(self.framer.space()).await?,
                Stream::Closed => 0,
            };
            if read == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.framer.fed(read);
        }
    }

    /// Sends what was gathered, if it is much.
    pub(crate) async fn gathered(&mut self) -> Result<(), Error> {
        if self.out.0.len() >= GATHER { self.flush().await } else { Ok(()) }
    }

    /// Sends all that was gathered. May be dropped while waiting: what is left is sent the next time.
    pub(crate) async fn flush(&mut self) -> Result<(), Error> {
        while self.sent < self.out.0.len() {
            let end = self.out.0.len().min(self.sent + GATHER);
            self.sent += write(&mut self.stream, &self.out.0[self.sent..end], &mut self.pace).await?;
        }
        if self.sent == 0 {
            return Ok(());
        }
        if self.out.0.capacity() > 4 * GATHER {
            self.out.0 = Vec::new();
        }
        self.out.0.clear();
        self.sent = 0;
        flush(&mut self.stream, self.pace.within).await
    }

    /// Gives the gathering buffer back.
    pub(crate) fn rest(&mut self) {
        if self.out.0.is_empty() {
            self.out.0 = Vec::new();
        }
    }

    /// Adds a piece of a message as a literal; a large one is not copied.
    pub(crate) async fn literal(&mut self, content: &Content) -> Result<(), Error> {
        if content.len() < LARGE {
            self.out.literal(content);
            return self.gathered().await;
        }
        self.out.literal_head(content.len());
        self.flush().await?;
        if content.contains(&0) {
            let mut bytes = content.to_vec();
            replace_nul(&mut bytes);
            return self.send(&bytes).await;
        }
        self.send(content).await
    }

    async fn send(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let piece = &bytes[..bytes.len().min(GATHER)];
            let written = write(&mut self.stream, piece, &mut self.pace).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Ends the connection in order, as far as the client goes along.
    pub(crate) async fn close(mut self) {
        let closed = async {
            let _ = self.flush().await;
            match &mut self.stream {
                Stream::Plain(stream) => stream.shutdown().await,
                Stream::Tls(stream) => stream.shutdown().await,
                Stream::Closed => Ok(()),
            }
        };
        let _ = timeout(Duration::from_secs(2), closed).await;
    }
}

/// How fast the client takes what is sent: time counts only while output waits for it.
struct Pace {
    /// How long one write may wait, and over how much waiting the rate is averaged.
    within: Duration,
    waited: Duration,
    taken: u64,
}

impl Pace {
    const fn new(within: Duration) -> Self {
        Self { within, waited: Duration::ZERO, taken: 0 }
    }

    /// Takes account of one write. Fails where the client was too slow.
    fn wrote(&mut self, waited: Duration, taken: usize) -> Result<(), Error> {
        self.waited += waited;
        self.taken += taken as u64;
        if self.waited < self.within {
            return Ok(());
        }
        let slow = self.taken < LEAST_RATE * self.waited.as_secs();
        (self.waited, self.taken) = (Duration::ZERO, 0);
        if slow { Err(Error::new(ErrorKind::TimedOut, "the client reads too slowly")) } else { Ok(()) }
    }
}

/// Sends a piece, or part of it, within the time that is given for 64 KiB and no slower than the least rate.
async fn write(stream: &mut Stream, piece: &[u8], pace: &mut Pace) -> Result<usize, Error> {
    let written = async {
        match stream {
            Stream::Plain(stream) => stream.write(piece).await,
            Stream::Tls(stream) => stream.write(piece).await,
            Stream::Closed => Err(ErrorKind::NotConnected.into()),
        }
    };
    let began = Instant::now();
    let written = timeout(pace.within, written).await??;
    if written == 0 {
        return Err(ErrorKind::WriteZero.into());
    }
    pace.wrote(began.elapsed(), written)?;
    Ok(written)
}

/// Sends what TLS holds back.
async fn flush(stream: &mut Stream, within: Duration) -> Result<(), Error> {
    match stream {
        Stream::Tls(stream) => timeout(within, stream.flush()).await?,
        Stream::Plain(_) | Stream::Closed => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_reads_a_little_now_and_then_is_too_slow() {
        let mut pace = Pace::new(Duration::from_secs(60));
        assert!(pace.wrote(Duration::from_secs(59), 64 * 1024).is_ok(), "the time is not yet over");
        assert!(pace.wrote(Duration::from_secs(1), 64 * 1024).is_err(), "2 KiB a second");
        let mut pace = Pace::new(Duration::from_secs(60));
        for _ in 0..100 {
            assert!(pace.wrote(Duration::from_secs(10), 64 * 1024).is_ok(), "6 KiB a second");
        }
    }
}
