//! Between the SDK's types and the messages of the protocol.
//!
//! Towards the wire nothing can fail. From the wire everything can: what does not fit is [`ErrorKind::Invalid`], with what is
//! wrong with it.

mod chat;
mod host;
mod mailbox;
mod message;
mod query;
mod summary;

pub use message::{delivery, envelope, pieces};
pub use query::{query, terms};

pub(super) use chat::{event, history, places};
pub(super) use host::{asking, health, sender};
pub(super) use mailbox::{changes_pages, flag_change, flags, pages, role, snapshot_pages, words};

use super::v1;
use crate::{Address, Error, ErrorKind, Uid};

/// Longest list of UIDs that is read at all: 256 MiB. What a bridge may send is less, see [`super::MAX_UIDS`].
const MOST: usize = 1 << 26;

/// An error about what came over the wire.
pub(super) fn invalid(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, what)
}

/// The member that must be there.
pub(super) fn need<T>(member: Option<T>, what: &str) -> Result<T, Error> {
    member.ok_or_else(|| invalid(format!("the request lacks its {what}, or has one of a sort that is not known")))
}

/// An id's 16 bytes.
pub(super) fn id(bytes: &[u8]) -> Result<[u8; 16], Error> {
    bytes.try_into().map_err(|_| invalid("an id has 16 bytes"))
}

/// An address from its text.
pub(super) fn address(text: &str) -> Result<Address, Error> {
    text.parse().map_err(|error: crate::AddressError| invalid(error.to_string()))
}

/// Reads what is optional.
pub(super) fn maybe<T, U>(value: Option<T>, read: impl FnOnce(T) -> Result<U, Error>) -> Result<Option<U>, Error> {
    value.map(read).transpose()
}

/// Reads each, and stops at the first that can't be read.
pub(super) fn each<T, U>(values: Vec<T>, read: impl FnMut(T) -> Result<U, Error>) -> Result<Vec<U>, Error> {
    values.into_iter().map(read).collect()
}

/// A list of UIDs as runs of consecutive numbers.
impl From<&[Uid]> for v1::Uids {
    fn from(uids: &[Uid]) -> Self {
        let mut runs: Vec<u32> = Vec::new();
        for &uid in uids {
            match runs.as_mut_slice() {
                [.., first, count] if first.checked_add(*count) == Some(uid) => *count += 1,
                _ => runs.extend([uid, 1]),
            }
        }
        Self { runs }
    }
}

impl v1::Uids {
    /// How many UIDs the list has.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where it is no list of runs; [`ErrorKind::TooLarge`] for more than any mailbox holds.
    pub fn count(&self) -> Result<usize, Error> {
        let (runs, []) = self.runs.as_chunks::<2>() else { return Err(invalid("a list of UIDs has half a run")) };
        let mut all: usize = 0;
        for [first, count] in runs {
            if count.checked_sub(1).and_then(|more| first.checked_add(more)).is_none() {
                return Err(invalid("a run of UIDs is empty, or goes beyond the largest one"));
            }
            all = all.saturating_add(*count as usize);
        }
        if all > MOST {
            return Err(Error::new(ErrorKind::TooLarge, "a list has more UIDs than any mailbox"));
        }
        Ok(all)
    }
}

impl TryFrom<v1::Uids> for Vec<Uid> {
    type Error = Error;

    fn try_from(list: v1::Uids) -> Result<Self, Error> {
        let mut uids = Self::with_capacity(list.count()?);
        for [first, count] in list.runs.as_chunks::<2>().0 {
            uids.extend(*first..=*first + (*count - 1));
        }
        Ok(uids)
    }
}
