//! Feeds: what comes is always read, so that an unread feed holds up nothing else on the connection. What the bridge does not take is
//! dropped, and one word stands for it.

use super::next;
use crate::{Change, ChatEvent, Error};
use tokio::sync::mpsc;
use tonic::Streaming;

/// What a feed tells.
pub(super) trait Told: Sized + Send + 'static {
    /// Stands for what was dropped.
    fn lagged() -> Self;
    /// Tells that there will be no more.
    fn ended(why: String) -> Self;
    /// Whether nothing follows this.
    fn is_last(&self) -> bool;
}

impl Told for Change {
    fn lagged() -> Self {
        Self::Lagged
    }

    fn ended(why: String) -> Self {
        Self::Ended(why)
    }

    fn is_last(&self) -> bool {
        matches!(self, Self::Ended(_))
    }
}

impl Told for ChatEvent {
    fn lagged() -> Self {
        Self::Lagged
    }

    fn ended(why: String) -> Self {
        Self::Ended(why)
    }

    fn is_last(&self) -> bool {
        matches!(self, Self::Ended(_))
    }
}

/// Reads a feed to its end, or until nobody takes it any more.
pub(super) async fn follow<T: Told, M>(
    mut from: Streaming<M>,
    into: mpsc::Sender<T>,
    read: impl Fn(M) -> Result<Option<T>, Error>,
) {
    let mut lagged = false;
    let last = loop {
        let message = tokio::select! {
            message = next(&mut from) => message,
            () = into.closed() => return,
            permit = into.reserve(), if lagged => {
                let Ok(permit) = permit else { return };
                permit.send(T::lagged());
                lagged = false;
                continue;
            }
        };
        let told = match message.and_then(|message| message.map(&read).transpose()) {
            Ok(Some(Some(told))) => told,
            // Of a sort that is not known here.
            Ok(Some(None)) => continue,
            Ok(None) => return,
            Err(error) => break T::ended(error.to_string()),
        };
        if told.is_last() {
            break told;
        }
        if !lagged && into.try_send(told).is_err() {
            lagged = true;
        }
    };
    // Both fail where nobody takes it any more.
    if lagged {
        let _ = into.send(T::lagged()).await;
    }
    let _ = into.send(last).await;
}
