//! What the bridge `irc-client` asks the bridge `irc-network`, and what that one tells.
//!
//! ```text
//!  irc-client -- Ask::question --> Host::query --> Bridge::answer, Ask::of --> irc-network
//!             <-- rows of the answer: NetworkInfo, Presence, Channel, Member, Reply, text --
//!             <-- live feed, News::of <-- Host::signal <-- News::signal --
//! ```
//!
//! What is said is neither asked nor told here: lines go out by [`mesyx_sdk::Session::submit`] (their delivery comes to `irc-network` with the
//! speaker's own address as sender) and come in by the live feed, stored. Everything of this module is transient.
//!
//! - A network has a name of 1 to 63 lower-case letters, digits and `-`: the `NETWORK` of `irc:NETWORK/NAME`.
//! - Every question has a user behind it, and is about that user's own connections.
//! - Said things (PRIVMSG, NOTICE, ACTION) are stored as lines; joins, parts, topics, modes, kicks and nicks of networks outside are [`News`].
//! - A line from the address `irc:NETWORK/-otr-` ([`SERVICE_NAME`]) in a conversation is the bridge's own word on that conversation, such as a changed
//!   fingerprint. Show it as a NOTICE from [`SERVICE_NICK`]. No nick on IRC can begin with `-`. In the same way `irc:NETWORK/-relay-` ([`RELAY_NAME`]) in a
//!   group is a relay's word on what it does there, and comes from [`RELAY_NICK`].
//! - Text that was no UTF-8 has been decoded; nothing here holds CR, LF or NUL.

mod ask;
mod news;
#[cfg(test)]
mod tests;

pub use ask::{Ask, Channel, Member, NetworkInfo, Presence, Reply, Settings, State, text};
pub use news::{News, Who};

/// The bridge that is asked.
pub const NETWORK_BRIDGE: &str = "irc-network";
/// The nick that users write to about OTR; what they write there is [`Ask::Service`], and is never sent to a network.
pub const SERVICE_NICK: &str = "*otr";
/// The name in the address of a stored line that comes from the bridge itself.
pub const SERVICE_NAME: &str = "-otr-";
/// The nick that a relay's words in a group stand under.
pub const RELAY_NICK: &str = "*relay";
/// The name in the address of such a line.
pub const RELAY_NAME: &str = "-relay-";
/// The commands that [`Ask::Command`] takes; others are refused with an error that says so.
pub const COMMANDS: [&str; 27] = [
    "ADMIN", "HELP", "INFO", "INVITE", "ISON", "KICK", "KNOCK", "LINKS", "LIST", "LUSERS", "MODE", "MOTD", "NAMES",
    "NICK", "OPER", "SETNAME", "STATS", "TIME", "TOPIC", "TRACE", "USERHOST", "USERS", "VERSION", "WATCH", "WHO",
    "WHOIS", "WHOWAS",
];
