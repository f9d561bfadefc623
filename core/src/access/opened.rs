//! Users whose keys are open: shared by their sessions, closed when the last one ends.

use super::keys::OpenKeys;
use crate::directory::Member;
use crate::id::SlotId;
use crate::keys::{LoginTag, Unlocked};
use mesyx_sdk::{ClientInfo, Timestamp};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One user with open keys. The keys are erased when the last `Arc` goes.
#[derive(Debug)]
pub(crate) struct OpenUser {
    pub(crate) member: Arc<Member>,
    pub(crate) keys: OpenKeys,
    pub(crate) since: Timestamp,
    /// The user's contacts; they go when the keys are closed.
    pub(crate) contacts: crate::pgp::OpenBook,
    /// Which conversations the user's mailboxes are; they go when the keys are closed.
    pub(crate) conversations: super::chat::OpenConversations,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Passwords that were right while the keys are open, with the slots that they opened.
    tags: Vec<(SlotId, LoginTag)>,
    sessions: HashMap<u64, Live>,
    /// Counts the times that the last session ended, so that a timer knows whether it is still the one to act.
    idle: u64,
}

/// A session that lives.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) slot: SlotId,
    /// `password`, or `app password LABEL`.
    pub(crate) credential: String,
    pub(crate) client: ClientInfo,
    pub(crate) since: Timestamp,
    /// Set when the session must not go on.
    pub(crate) ended: Arc<AtomicBool>,
}

impl OpenUser {
    pub(crate) fn new(member: Arc<Member>, keys: Unlocked) -> Self {
        let contacts = crate::pgp::OpenBook::default();
        let conversations = super::chat::OpenConversations::default();
        let (keys, since) = (OpenKeys::new(keys), Timestamp::now());
        Self { member, keys, since, contacts, conversations, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The slot that this password opened while the keys were open. Each comparison takes the same time.
    pub(crate) fn known(&self, tag: &LoginTag) -> Option<SlotId> {
        self.state().tags.iter().find(|(_, known)| known == tag).map(|(slot, _)| *slot)
    }

    pub(crate) fn remember(&self, slot: SlotId, tag: LoginTag) {
        const MOST: usize = 64;
        let mut state = self.state();
        state.tags.retain(|(known, _)| *known != slot);
        if state.tags.len() < MOST {
            state.tags.push((slot, tag));
        }
    }

    /// Registers a session; `false` where there are `most` already.
    pub(crate) fn enter(&self, session: u64, live: Live, most: usize) -> bool {
        let mut state = self.state();
        let room = state.sessions.len() < most;
        if room {
            state.sessions.insert(session, live);
        }
        room
    }

    /// A session ended. The number of this idle time where it was the last.
    pub(crate) fn leave(&self, session: u64) -> Option<u64> {
        let mut state = self.state();
        state.sessions.remove(&session);
        state.sessions.is_empty().then(|| {
            state.idle += 1;
            state.idle
        })
    }

    /// Whether nobody came since the idle time of that number began.
    pub(crate) fn still_idle(&self, idle: u64) -> bool {
        let state = self.state();
        state.idle == idle && state.sessions.is_empty()
    }

    pub(crate) fn sessions(&self) -> Vec<(u64, Live)> {
        self.state().sessions.iter().map(|(id, live)| (*id, live.clone())).collect()
    }

    /// The credential that a slot was last used as, for a login that skipped the slot.
    pub(crate) fn credential_of(&self, slot: SlotId) -> Option<String> {
        self.state().sessions.values().find(|live| live.slot == slot).map(|live| live.credential.clone())
    }

    /// Ends the sessions before number `begun` whose slot `keep` says no to, and forgets these passwords. Answers with the sessions.
    pub(crate) fn end(&self, begun: u64, keep: impl Fn(SlotId) -> bool) -> Vec<u64> {
        let mut state = self.state();
        state.tags.retain(|(slot, _)| keep(*slot));
        let ended = state.sessions.iter().filter(|(id, live)| **id < begun && !keep(live.slot));
        ended
            .map(|(id, live)| {
                live.ended.store(true, Ordering::Release);
                *id
            })
            .collect()
    }
}
