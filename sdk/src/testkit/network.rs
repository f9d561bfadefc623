//! What the author of a bridge gives to the kit.

use super::Must;
use crate::{Address, Content, MailAddress, MemoryHost};
use async_trait::async_trait;
use serde_json::Value;

/// The other side of a bridge: its network, played by a test.
///
/// Only [`config`](Network::config) is required; what a bridge does not do need not be played, and the report says
/// that it was not checked.
#[async_trait]
pub trait Network: Send + Sync {
    /// A configuration with which the bridge works on this network; its listeners on `127.0.0.1:0`.
    fn config(&self) -> Value;

    /// Configurations that are wrong beyond what the schema can say, with the paths that must be named.
    fn wrong_configs(&self) -> Vec<WrongConfig> {
        Vec::new()
    }

    /// Gives the host what the configuration speaks of: certificates, secrets. The users `ann` (password `secret`) and
    /// `bob` (`hidden`) at `example.org` are there already.
    fn prepare(&self, host: &MemoryHost) {
        let _ = host;
    }

    /// What the network tells a sender.
    fn acknowledges(&self) -> Acknowledges {
        Acknowledges::Always
    }

    /// Sends a message from the network to the bridge, and waits for what the network's sender is told.
    ///
    /// Where the network never says yes ([`Acknowledges::Failures`]), it waits until a refusal would have come. Listeners are found by
    /// [`MemoryHost::listening`]. The message's text must stand in what the bridge brings in.
    async fn send(&self, host: &MemoryHost, message: &Incoming) -> Reply {
        let _ = (host, message);
        Reply::Nothing
    }

    /// Sends these bytes where the bridge takes bytes from the network, on a connection of its own where there are several, and
    /// returns when the bridge has had its chance to read them. Whatever happens to that connection is fine.
    async fn garbage(&self, host: &MemoryHost, bytes: &[u8]) {
        let _ = (host, bytes);
    }

    /// Logs in as people do (grant `access`); `None` where that is not played.
    async fn log_in(&self, host: &MemoryHost, name: &str, password: &str) -> Option<Reply> {
        let _ = (host, name, password);
        None
    }

    /// People on the network to whom the kit delivers, and what the network does with messages to them; at least one is
    /// [`Fate::Taken`]. Empty where delivering is not played.
    fn recipients(&self) -> Vec<(Address, Fate)> {
        Vec::new()
    }

    /// From whom the kit delivers: a user of the host. Where only people of the chat world speak, it is `mesyx:ann@example.org`.
    fn sender(&self) -> Option<Address> {
        "ann@example.org".parse().ok()
    }

    /// The message that is delivered: a mail with the marker as its text, unless the network wants something else.
    fn outgoing(&self, marker: &str) -> Content {
        let mail = format!(
            "From: Ann <ann@example.org>\r\nTo: someone@example.net\r\nDate: Sun, 22 Nov 2026 22:37:44 +0000\r\n\
             Message-ID: <{marker}@example.org>\r\nSubject: test\r\n\r\n{marker}\r\n"
        );
        Content::from(mail.into_bytes())
    }

    /// How often a message with this marker arrived at people of the network, all of them together.
    async fn arrived(&self, marker: &str) -> usize {
        let _ = marker;
        0
    }

    /// Behaves so from now on. `false` where the network can't be played so.
    async fn behave(&self, manner: Manner) -> bool {
        manner == Manner::Usual
    }

    /// What does not apply to this bridge, each with the reason; the report shows them.
    fn exempt(&self) -> Vec<(Must, &'static str)> {
        Vec::new()
    }
}

/// A configuration that must be refused.
#[derive(Debug, Clone)]
pub struct WrongConfig {
    /// The configuration.
    pub config: Value,
    /// The paths of everything that is wrong with it, as [`crate::ConfigError::path`] has them.
    pub paths: Vec<String>,
}

/// Whether a sender on the network is told what became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledges {
    /// Always: SMTP.
    Always,
    /// Only where it was refused: XMPP.
    Failures,
    /// Never: IRC. Nobody sends again then: what can't be taken now must wait in the bridge, or on the connection.
    Never,
}

/// A message for the bridge to bring in.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Whom it is for. A network of chat brings it to the chat address of the same user (`mesyx:` and this), or to this one.
    pub to: MailAddress,
    /// Its text: one line of ASCII.
    pub text: String,
}

/// What the network's side was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// The message is safe; the login succeeded.
    Taken,
    /// Not now; the same may succeed later (SMTP 4yz).
    TryLater,
    /// No (SMTP 5yz).
    Refused,
    /// Nothing was said.
    Nothing,
}

/// What the network does with messages to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Takes them.
    Taken,
    /// Refuses them for now.
    Later,
    /// Refuses them for good: there is nobody of that name.
    Refused,
}

/// How the network behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// As [`Network::recipients`] says.
    Usual,
    /// Takes everything for everybody.
    Obliging,
    /// Takes bytes and never answers.
    Silent,
    /// Breaks the connection when the message has been sent, without an answer to it.
    HangsUp,
}
