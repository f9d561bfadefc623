//! Live feeds: from what was committed, or is transient, to every session that listens.

use mesyx_sdk::{ChatEvent, LiveFeed, UserId};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// Everybody who listens, by user; guests apart.
#[derive(Debug, Default)]
pub(crate) struct LiveFeeds(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    users: HashMap<UserId, Vec<Feed>>,
    guests: Vec<Feed>,
}

/// One listener's end. Two places of its channel are kept: one for [`ChatEvent::Lagged`], one for [`ChatEvent::Ended`].
#[derive(Debug)]
struct Feed {
    session: u64,
    events: mpsc::Sender<ChatEvent>,
    /// It was told that it lagged, and has not caught up since.
    lagging: bool,
}

const KEPT_FOR_LAGGED: usize = 2;
const KEPT_FOR_ENDED: usize = 1;
/// Room that a feed which lagged must have again before it is told of anything.
const CAUGHT_UP: usize = LiveFeed::CAPACITY / 2;

impl LiveFeeds {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A feed for a session, from now on.
    pub(crate) fn listen(&self, user: UserId, session: u64) -> LiveFeed {
        let (feed, events) = Feed::new(session);
        let mut state = self.lock();
        let of_user = state.users.entry(user).or_default();
        of_user.retain(|feed| !feed.events.is_closed());
        of_user.push(feed);
        events
    }

    /// A feed of what is said in groups.
    pub(crate) fn listen_as_guest(&self) -> LiveFeed {
        let (feed, events) = Feed::new(0);
        let mut state = self.lock();
        state.guests.retain(|feed| !feed.events.is_closed());
        state.guests.push(feed);
        events
    }

    /// Whether anybody listens for a user.
    pub(crate) fn listens(&self, user: UserId) -> bool {
        self.lock().users.contains_key(&user)
    }

    /// Whether anybody listens for guests.
    pub(crate) fn has_guests(&self) -> bool {
        !self.lock().guests.is_empty()
    }

    /// Tells one user's feeds.
    pub(crate) fn tell(&self, user: UserId, event: &ChatEvent) {
        self.tell_each(std::iter::once((user, event)), None);
    }

    /// Tells many users' feeds, each an event of its own, and perhaps the guests; under one lock.
    pub(crate) fn tell_each<'a>(
        &self,
        each: impl Iterator<Item = (UserId, &'a ChatEvent)>,
        guests: Option<&ChatEvent>,
    ) {
        let mut state = self.lock();
        for (user, event) in each {
            if let Some(feeds) = state.users.get_mut(&user) {
                feeds.iter_mut().for_each(|feed| feed.tell(event));
            }
        }
        if let Some(event) = guests {
            state.guests.iter_mut().for_each(|feed| feed.tell(event));
        }
    }

    /// Tells everybody that something was missed.
    pub(crate) fn lagged(&self) {
        let mut state = self.lock();
        let State { users, guests } = &mut *state;
        users.values_mut().flatten().chain(guests).for_each(Feed::lagged);
    }

    /// Tells a session's feeds that it is over; nothing follows.
    pub(crate) fn end(&self, user: UserId, session: u64, why: &str) {
        let mut state = self.lock();
        let Some(feeds) = state.users.get_mut(&user) else { return };
        feeds.retain(|feed| {
            if feed.session == session {
                // The last place is kept for this; a listener who is gone hears nothing.
                let _ = feed.events.try_send(ChatEvent::Ended(why.to_owned()));
            }
            feed.session != session
        });
        if feeds.is_empty() {
            state.users.remove(&user);
        }
    }

    /// Forgets a session's feeds.
    pub(crate) fn forget(&self, user: UserId, session: u64) {
        let mut state = self.lock();
        if let Some(feeds) = state.users.get_mut(&user) {
            feeds.retain(|feed| feed.session != session);
            if feeds.is_empty() {
                state.users.remove(&user);
            }
        }
    }
}

impl Feed {
    fn new(session: u64) -> (Self, LiveFeed) {
        let (events, feed) = mpsc::channel(LiveFeed::CAPACITY + KEPT_FOR_LAGGED);
        (Self { session, events, lagging: false }, LiveFeed::new(feed))
    }

    fn tell(&mut self, event: &ChatEvent) {
        let room = self.events.capacity();
        if self.lagging && room < CAUGHT_UP {
            return;
        }
        if room > KEPT_FOR_LAGGED {
            self.lagging = false;
            // A closed channel is swept with the next listener.
            let _ = self.events.try_send(event.clone());
        } else {
            self.lagged();
        }
    }

    /// A listener that has not taken its `Lagged` yet looks at everything after taking it, so one is enough.
    fn lagged(&mut self) {
        if !self.lagging && self.events.capacity() > KEPT_FOR_ENDED {
            self.lagging = true;
            let _ = self.events.try_send(ChatEvent::Lagged);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesyx_sdk::{MailboxId, Uid};

    const USER: UserId = UserId([1; 16]);

    fn read(up_to: Uid) -> ChatEvent {
        ChatEvent::Read { mailbox: MailboxId([1; 16]), up_to }
    }

    fn taken(feed: &mut LiveFeed) -> Vec<String> {
        std::iter::from_fn(|| feed.try_next()).map(|event| format!("{event:?}")).collect()
    }

    #[test]
    fn who_does_not_take_events_is_told_once_that_some_are_missing_and_still_hears_the_end() {
        let feeds = LiveFeeds::default();
        let mut feed = feeds.listen(USER, 1);
        let capacity = Uid::try_from(LiveFeed::CAPACITY).unwrap_or_default();
        (0..capacity + 100).for_each(|up_to| feeds.tell(USER, &read(up_to)));
        feeds.end(USER, 1, "revoked");
        let heard = taken(&mut feed);
        assert_eq!(heard.len(), LiveFeed::CAPACITY + 2);
        assert_eq!(heard[LiveFeed::CAPACITY..], ["Lagged", "Ended(\"revoked\")"]);
        feeds.tell(USER, &read(1));
        assert!(taken(&mut feed).is_empty());
        assert!(!feeds.listens(USER));
    }

    #[test]
    fn after_catching_up_events_come_again() {
        let feeds = LiveFeeds::default();
        let mut feed = feeds.listen(USER, 1);
        let capacity = Uid::try_from(LiveFeed::CAPACITY).unwrap_or_default();
        (0..capacity + 1).for_each(|up_to| feeds.tell(USER, &read(up_to)));
        assert_eq!(taken(&mut feed).last().map(String::as_str), Some("Lagged"));
        feeds.tell(USER, &read(7));
        assert_eq!(taken(&mut feed), [format!("{:?}", read(7))]);
    }

    #[test]
    fn guests_hear_only_what_is_for_guests() {
        let feeds = LiveFeeds::default();
        let (mut user, mut guest) = (feeds.listen(USER, 1), feeds.listen_as_guest());
        feeds.tell(USER, &read(1));
        feeds.tell_each(std::iter::empty(), Some(&read(2)));
        assert_eq!((taken(&mut user).len(), taken(&mut guest).len()), (1, 1));
    }
}
