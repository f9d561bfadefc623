//! Messages on their way in: announced with their size, reserved, put together from pieces.

use super::link::{Link, refuse};
use crate::wire::{CHUNK, convert};
use crate::{ByteBudget, Content, Error, ErrorKind, Reservation};
use bytes::{Bytes, BytesMut};
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tonic::{Status, Streaming};

/// Room for one message in the common budget and in the bridge's share of it; given back when dropped.
pub(super) struct Room {
    _common: Reservation,
    _share: Reservation,
}

impl Link {
    /// The right to one more call that brings messages.
    pub(super) fn upload_turn(&self) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.uploads).try_acquire_owned().map_err(|_| {
            let what = format!("the bridge brings messages in {} calls already", self.limits.uploads);
            refuse(Error::new(ErrorKind::Full, what))
        })
    }

    /// Ends a call whose bytes take too long.
    pub(super) async fn upload_time<T>(&self, receive: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        timeout(self.limits.upload, receive).await.unwrap_or_else(|_| {
            let seconds = self.limits.upload.as_secs();
            let what = format!("the message did not come within {seconds} seconds");
            Err(refuse(Error::new(ErrorKind::Unavailable, what)))
        })
    }

    /// Room for a message of `size` bytes and what is said about it.
    pub(super) fn room(&self, budget: &ByteBudget, size: u64, about: usize) -> Result<Room, Error> {
        if size > self.limits.largest {
            let what = format!("the message has {size} bytes; at most {} are taken", self.limits.largest);
            return Err(Error::new(ErrorKind::TooLarge, what));
        }
        // What is larger than memory was refused above.
        let bytes = usize::try_from(size).unwrap_or(usize::MAX).saturating_add(about);
        let full =
            |whose| Error::new(ErrorKind::Full, format!("{whose} for messages in flight is spent; try again later"));
        let share = self.share.reserve(bytes).ok_or_else(|| full("this bridge's share of the memory"))?;
        let common = budget.reserve(bytes).ok_or_else(|| full("the memory"))?;
        Ok(Room { _common: common, _share: share })
    }
}

/// A message that is being put together, or one that was refused and whose pieces are read away.
pub(super) struct Incoming {
    size: u64,
    come: u64,
    first: Bytes,
    rest: BytesMut,
    /// Whether the pieces are kept.
    kept: bool,
}

impl Incoming {
    /// A message that was announced with its first piece.
    pub(super) fn new(size: u64, first: Bytes, kept: bool) -> Result<Self, Status> {
        let come = first.len() as u64;
        if first.len() > CHUNK || come > size {
            return Err(refuse(convert::invalid("a message's first piece is longer than 64 KiB, or than the message")));
        }
        Ok(Self { size, come, first: if kept { first } else { Bytes::new() }, rest: BytesMut::new(), kept })
    }

    /// Whether pieces are still to come.
    pub(super) const fn wants_more(&self) -> bool {
        self.come < self.size
    }

    /// Its next piece.
    pub(super) fn add(&mut self, piece: &Bytes) -> Result<(), Status> {
        self.come += piece.len() as u64;
        if piece.is_empty() || piece.len() > CHUNK || self.come > self.size {
            return Err(refuse(convert::invalid("a message's piece is empty, longer than 64 KiB, or than was said")));
        }
        if self.kept {
            if self.rest.is_empty() {
                self.rest.reserve(usize::try_from(self.size).unwrap_or(0));
                self.rest.extend_from_slice(&std::mem::take(&mut self.first));
            }
            self.rest.extend_from_slice(piece);
        }
        Ok(())
    }

    /// The whole message; empty where it was refused.
    pub(super) fn content(self) -> Content {
        if self.rest.is_empty() { Content::from(self.first) } else { Content::from(self.rest.freeze()) }
    }
}

/// The next message of a stream that must not have ended.
pub(super) async fn more<T>(stream: &mut Streaming<T>) -> Result<T, Status> {
    let part = stream.message().await?;
    part.ok_or_else(|| refuse(convert::invalid("the stream ended before the message did")))
}
