//! What a client is still to be sent, bounded.

use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

/// Lines that wait for one client's socket.
#[derive(Debug)]
pub struct Outbox {
    inner: Mutex<Inner>,
    /// Something is there to be sent, or the connection is to end.
    pub changed: Notify,
    /// Most bytes that wait before the client is let in, and after.
    most: (usize, usize),
}

#[derive(Debug, Default)]
struct Inner {
    lines: VecDeque<Bytes>,
    bytes: usize,
    /// The client reads too slowly: nothing more is taken, and the connection ends.
    overflowed: bool,
    /// Once all is sent, the connection ends.
    closing: bool,
    /// The client is known.
    let_in: bool,
}

/// How a connection stands.
#[derive(Debug, PartialEq, Eq)]
pub enum Pending {
    /// Send this.
    Send(Vec<u8>),
    /// Nothing to send now.
    Nothing,
    /// All was sent: close.
    Close,
    /// The client is too slow: close at once.
    Cut,
}

impl Outbox {
    /// Most bytes that wait for a client that is not let in: what it costs whoever it is.
    pub const BEFORE: usize = 32 << 10;

    /// Holds at most `most` bytes, and at most [`Outbox::BEFORE`] until [`Outbox::let_in`].
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { inner: Mutex::default(), changed: Notify::new(), most: (most.min(Self::BEFORE), most) }
    }

    /// The client is known from now on.
    pub fn let_in(&self) {
        self.inner().let_in = true;
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line. A client that lets more than the limit wait is cut.
    pub fn push(&self, line: impl Into<Bytes>) {
        let line = line.into();
        let mut inner = self.inner();
        if inner.overflowed || inner.closing {
            return;
        }
        inner.bytes += line.len();
        if inner.bytes > if inner.let_in { self.most.1 } else { self.most.0 } {
            *inner = Inner { overflowed: true, ..Inner::default() };
        } else {
            inner.lines.push_back(line);
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// Ends the connection once everything is sent.
    pub fn close(&self) {
        self.inner().closing = true;
        self.changed.notify_one();
    }

    /// Takes up to about 64 KiB of what waits, and frees the room.
    pub fn take(&self) -> Pending {
        let mut inner = self.inner();
        if inner.overflowed {
            return Pending::Cut;
        }
        if inner.lines.is_empty() {
            inner.lines = VecDeque::new();
            return if inner.closing { Pending::Close } else { Pending::Nothing };
        }
        let mut joined = Vec::with_capacity(inner.bytes.min(65_536));
        while let Some(line) = inner.lines.front() {
            if !joined.is_empty() && joined.len() + line.len() > 65_536 {
                break;
            }
            joined.extend_from_slice(line);
            inner.lines.pop_front();
        }
        inner.bytes -= joined.len();
        Pending::Send(joined)
    }

    /// Bytes that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.inner().bytes
    }

    /// Whether the connection is to end.
    #[must_use]
    pub fn ends(&self) -> bool {
        let inner = self.inner();
        inner.closing || inner.overflowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_too_slowly_is_cut_and_costs_nothing_more() {
        let outbox = Outbox::new(10);
        outbox.push(b"12345".to_vec());
        assert_eq!(outbox.take(), Pending::Send(b"12345".to_vec()));
        outbox.push(b"12345".to_vec());
        outbox.push(b"123456".to_vec());
        assert_eq!((outbox.take(), outbox.waiting()), (Pending::Cut, 0));
    }

    #[test]
    fn what_waits_is_sent_before_the_end() {
        let outbox = Outbox::new(10);
        outbox.push(b"1".to_vec());
        outbox.close();
        outbox.push(b"2".to_vec());
        assert_eq!((outbox.take(), outbox.take()), (Pending::Send(b"1".to_vec()), Pending::Close));
    }
}
