//! Read state that changed, to the feeds that have not heard of it.

use crate::core::Shared;
use crate::id::RecordId;
use crate::store::RecordKind;
use mesyx_sdk::{ChatEvent, MailboxId, Uid, UserId};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Up to where each conversation was read when feeds were told of it last.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<HashMap<(UserId, MailboxId), Uid>>);

/// Most that is remembered; then all is forgotten, and told once more.
const REMEMBERED: usize = 100_000;

impl Shared {
    /// A flag `\\Seen` changed in a mailbox: where it is a conversation, and its marker moved on, the user's feeds hear of it.
    pub(crate) async fn tell_read(&self, user: UserId, mailbox: MailboxId) {
        if !self.access.live.listens(user) {
            return;
        }
        let conversation = self.chat.groups.by_mailbox(mailbox).is_some()
            || self
                .store
                .record(user, RecordId(mailbox.0))
                .await
                .is_ok_and(|record| record.is_some_and(|record| record.kind == RecordKind::CONVERSATION));
        if !conversation {
            return;
        }
        let Ok(numbers) = self.store.line_numbers(user, mailbox).await else { return };
        {
            let mut told = self.chat.told.0.lock().unwrap_or_else(PoisonError::into_inner);
            if told.len() >= REMEMBERED {
                told.clear();
            }
            let before = told.insert((user, mailbox), numbers.read).unwrap_or(0);
            if numbers.read <= before {
                return;
            }
        }
        self.access.live.tell(user, &ChatEvent::Read { mailbox, up_to: numbers.read });
    }
}
