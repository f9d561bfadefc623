//! The stream under HTTP/2, which can be closed from outside, and says when it is gone.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tonic::transport::server::Connected;

/// Whether a connection is to be closed, and whether it is.
#[derive(Debug)]
pub(super) struct Closing {
    wanted: watch::Sender<bool>,
    done: watch::Sender<bool>,
}

impl Closing {
    pub(super) fn new() -> Self {
        Self { wanted: watch::Sender::new(false), done: watch::Sender::new(false) }
    }

    pub(super) fn close(&self) {
        self.wanted.send_replace(true);
    }

    /// Resolves when the connection is gone.
    pub(super) async fn closed(&self) {
        // It can't fail: the sending side lives as long as this.
        let _ = self.done.subscribe().wait_for(|done| *done).await;
    }
}

/// A stream that ends when it is told to.
pub(in super::super) struct Line<S> {
    stream: S,
    closing: Arc<Closing>,
    told: Pin<Box<dyn Future<Output = ()> + Send>>,
    over: bool,
}

impl<S> Line<S> {
    pub(super) fn new(stream: S, closing: Arc<Closing>) -> Self {
        let mut wanted = closing.wanted.subscribe();
        let told = Box::pin(async move {
            // An error means that nobody is left to tell, which ends the connection as well.
            let _ = wanted.wait_for(|wanted| *wanted).await;
        });
        Self { stream, closing, told, over: false }
    }

    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        self.over = self.over || self.told.as_mut().poll(cx).is_ready();
        self.over
    }
}

impl<S> Drop for Line<S> {
    fn drop(&mut self) {
        self.closing.done.send_replace(true);
    }
}

fn ended<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the host closed the connection")))
}

impl<S: AsyncRead + Unpin> AsyncRead for Line<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_over(cx) {
            return ended();
        }
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_pending() {
            // Nothing more comes for now: what stood in this room before was read long ago, and may have been a message in clear.
            buf.initialize_unfilled();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Line<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.over {
            return ended();
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.over {
            return ended();
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.over {
            return ended();
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S> Connected for Line<S> {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::MaybeUninit;

    #[tokio::test]
    async fn room_that_nothing_came_into_holds_nothing_old() {
        let (stream, _other) = tokio::io::duplex(64);
        let mut line = Line::new(stream, Arc::new(Closing::new()));
        let mut room = [MaybeUninit::new(0xaa_u8); 32];
        let mut read = ReadBuf::uninit(&mut room);
        std::future::poll_fn(|cx| {
            assert!(Pin::new(&mut line).poll_read(cx, &mut read).is_pending());
            Poll::Ready(())
        })
        .await;
        assert_eq!((read.initialized(), read.filled()), (&[0; 32][..], &[][..]));
    }
}
