//! What is transient: it goes to live feeds, and nowhere else.

use crate::chat::Target;
use crate::core::Core;
use mesyx_sdk::{ChatEvent, Error, Group, LiveFeed, Signal, SignalTo};
use std::sync::Arc;

impl Core {
    /// Hands a signal to live feeds: see [`mesyx_sdk::Host::signal`].
    pub fn signal(&self, signal: Signal) {
        let shared = &self.shared;
        let to = signal.to.clone();
        let event = ChatEvent::Signal(Arc::new(signal));
        match to {
            SignalTo::User(user) => shared.access.live.tell(user, &event),
            SignalTo::Group(address) => {
                let Some(Target::Group(name)) = shared.chat_target(&address) else { return };
                let Some(group) = shared.chat.groups.by_name(&name) else { return };
                let now = group.now();
                shared.access.live.tell_each(now.members.keys().map(|member| (*member, &event)), Some(&event));
            }
        }
    }

    /// What is said in groups, for people without an account: see [`mesyx_sdk::Host::guests`].
    ///
    /// # Errors
    /// None so far.
    #[allow(clippy::unused_async, reason = "a core on another machine will have to be asked")]
    pub async fn guests(&self) -> Result<LiveFeed, Error> {
        Ok(self.shared.access.live.listen_as_guest())
    }

    /// The groups, as somebody sees them who belongs to none: see [`mesyx_sdk::Host::groups`].
    ///
    /// # Errors
    /// None so far.
    #[allow(clippy::unused_async, reason = "a core on another machine will have to be asked")]
    pub async fn groups(&self) -> Result<Vec<Arc<Group>>, Error> {
        Ok(self.shared.groups_seen_by(None))
    }
}
