//! Listening sockets that cross a unix socket beside HTTP/2's bytes, by `SCM_RIGHTS` (unix(7)).
//!
//! The host puts a descriptor into its [`Outbox`] before it answers the call; the next bytes that are written carry it. So it has
//! arrived in the bridge's [`Inbox`] before the answer has.

#[cfg(feature = "wire-host")]
pub(super) use outgoing::{Outbox, Sending};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;

/// Most descriptors that go with one piece of the bytes.
const AT_ONCE: usize = 16;
/// Most descriptors that wait to be taken.
const WAITING: usize = 256;

/// Listening sockets that came and that nobody asked for yet.
#[derive(Debug, Default)]
pub(super) struct Inbox(Mutex<Vec<TcpListener>>);

impl Inbox {
    /// The one that listens at an address, non-blocking.
    pub(super) fn listener(&self, address: SocketAddr) -> Option<TcpListener> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = waiting.iter().position(|socket| socket.local_addr().is_ok_and(|at| at == address))?;
        let socket = waiting.swap_remove(found);
        socket.set_nonblocking(true).ok()?;
        Some(socket)
    }

    fn put(&self, descriptor: OwnedFd) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < WAITING {
            waiting.push(TcpListener::from(descriptor));
        }
    }
}

/// The bridge's end of the socket.
pub(super) struct Receiving {
    stream: UnixStream,
    inbox: Arc<Inbox>,
}

impl Receiving {
    pub(super) const fn new(stream: UnixStream, inbox: Arc<Inbox>) -> Self {
        Self { stream, inbox }
    }

    fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        let mut control = cmsg_space!([RawFd; AT_ONCE]);
        let mut slices = [IoSliceMut::new(into)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<UnixAddr>(self.stream.as_raw_fd(), &mut slices, Some(&mut control), flags)?;
        for control in message.cmsgs()? {
            let ControlMessageOwned::ScmRights(descriptors) = control else { continue };
            for descriptor in descriptors {
                self.inbox.put(owned(descriptor));
            }
        }
        Ok(message.bytes)
    }
}

/// Takes over a descriptor that the kernel has just made for us.
#[allow(unsafe_code)]
fn owned(descriptor: RawFd) -> OwnedFd {
    // SAFETY: recvmsg(2) has just opened it in this process and told nobody else, so it is open and ours alone.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

impl AsyncRead for Receiving {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            let read = self.stream.try_io(Interest::READABLE, || self.receive(buf.initialize_unfilled()));
            match read {
                Ok(count) => {
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Receiving {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(feature = "wire-host")]
mod outgoing {
    use super::{AT_ONCE, AsRawFd, OwnedFd, RawFd, UnixStream};
    use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
    use std::io::{self, IoSlice};
    use std::net::TcpListener;
    use std::pin::Pin;
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
    use std::task::{Context, Poll, ready};
    use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

    /// Descriptors that the next bytes will carry.
    #[derive(Debug, Default)]
    pub(in super::super) struct Outbox(Mutex<Vec<OwnedFd>>);

    impl Outbox {
        /// Most that wait for a bridge that reads nothing.
        const WAITING: usize = 64;

        /// Puts one more; `false` where too many wait.
        pub(in super::super) fn put(&self, socket: TcpListener) -> bool {
            let mut waiting = self.waiting();
            let room = waiting.len() < Self::WAITING;
            if room {
                waiting.push(socket.into());
            }
            room
        }

        fn waiting(&self) -> MutexGuard<'_, Vec<OwnedFd>> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    /// The host's end of the socket.
    pub(in super::super) struct Sending {
        stream: UnixStream,
        outbox: Arc<Outbox>,
    }

    impl Sending {
        pub(in super::super) const fn new(stream: UnixStream, outbox: Arc<Outbox>) -> Self {
            Self { stream, outbox }
        }

        /// Writes with what waits; `None` where nothing does.
        fn send(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Option<Poll<io::Result<usize>>> {
            // An empty write carries nothing.
            if slices.iter().all(|slice| slice.is_empty()) || self.outbox.waiting().is_empty() {
                return None;
            }
            loop {
                match self.stream.poll_write_ready(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Some(Poll::Ready(Err(error))),
                    Poll::Pending => return Some(Poll::Pending),
                }
                let sent = self.stream.try_io(Interest::WRITABLE, || {
                    let mut waiting = self.outbox.waiting();
                    let count = waiting.len().min(AT_ONCE);
                    let raw: Vec<RawFd> = waiting.iter().take(count).map(AsRawFd::as_raw_fd).collect();
                    let rights = [ControlMessage::ScmRights(&raw)];
                    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
                    let sent = sendmsg::<UnixAddr>(self.stream.as_raw_fd(), slices, &rights, flags, None)?;
                    // The other side has duplicates of its own now.
                    waiting.drain(..count);
                    Ok(sent)
                });
                match sent {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => return Some(Poll::Ready(other)),
                }
            }
        }
    }

    impl AsyncRead for Sending {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            // A plain read: descriptors that a bridge sends are closed by the kernel.
            Pin::new(&mut self.stream).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Sending {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            match self.send(cx, &[IoSlice::new(buf)]) {
                Some(sent) => sent,
                None => Pin::new(&mut self.stream).poll_write(cx, buf),
            }
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            match self.send(cx, bufs) {
                Some(sent) => sent,
                None => Pin::new(&mut self.stream).poll_write_vectored(cx, bufs),
            }
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_shutdown(cx)
        }
    }
}
