//! Lines of channels as they go to sockets: written once for all clients that are told the same bytes.

use super::caps::{self, Caps};
use super::{ClientId, Server};
use bytes::Bytes;
use mesyx_sdk::{ChatLine, Conversation, MessageId};
use std::collections::{HashMap, VecDeque};

/// Most lines that are kept: the clients of a channel are told a line within a moment of each other, but in bursts.
const MOST: usize = 512;
/// Longest line that is kept, in bytes.
const LONGEST: usize = 1024;
/// The capabilities that make a line different.
const FORM: Caps =
    caps::SERVER_TIME.with(caps::ACCOUNT_TAG).with(caps::MESSAGE_TAGS).with(caps::BATCH).with(caps::MULTILINE);

/// What the bytes of a line depend on, besides the line. A bound client does not see the channels of others, so that its network is told
/// by the channel's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    line: MessageId,
    /// Those of [`FORM`].
    caps: Caps,
    /// The channel as the client calls it.
    channel: String,
    /// By which nick the client is called, where it is its user's own line.
    own: Option<String>,
}

/// The lines that were written last.
#[derive(Debug, Default)]
pub(super) struct Written {
    lines: HashMap<Key, Bytes>,
    /// Their keys, the oldest first.
    order: VecDeque<Key>,
}

impl Written {
    /// Forgets them: somebody is called otherwise from now on.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn put(&mut self, key: Key, line: Bytes) {
        if line.len() > LONGEST {
            return;
        }
        if self.order.len() >= MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.lines.remove(&oldest);
        }
        self.order.push_back(key.clone());
        self.lines.insert(key, line);
    }
}

impl Server {
    /// Whether what is sent to a client now is part of the answer to its command.
    pub(super) fn is_captured(&self, to: ClientId) -> bool {
        self.answering == Some(to) && self.clients.get(&to).is_some_and(|client| client.capture.is_some())
    }

    /// Sends a line of a channel to one client that is told the same as many others.
    pub(super) fn send_shared(&mut self, id: ClientId, conversation: &Conversation, line: &ChatLine) {
        let Some(channel) = self.conversation_name(id, conversation) else { return };
        let Some(client) = self.clients.get(&id) else { return };
        let caps = client.caps.and(FORM);
        let key = Key { line: line.id, caps, channel, own: line.own.then(|| self.nick_of(id)) };
        let bytes = match self.written.lines.get(&key) {
            Some(bytes) => bytes.clone(),
            None => {
                let lines = self.lines_of(id, conversation, line);
                let bytes: Vec<u8> =
                    lines.iter().filter_map(|msg| msg.render(caps, self.now, None)).flatten().collect();
                let bytes = Bytes::from(bytes);
                self.written.put(key, bytes.clone());
                bytes
            }
        };
        if let Some(client) = self.clients.get(&id)
            && !bytes.is_empty()
        {
            client.outbox.push(bytes);
        }
    }
}
