//! What only the host can do, and what it answered.

use crate::link;
use mesyx_sdk::{
    Address, Answer, ChatLine, Conversation, ConversationInfo, Error, Group, GroupChange, History, MessageId, Secret,
    Timestamp, User, Verb,
};
use std::sync::Arc;

/// Something to ask of the host, for one client. Its connection does it, and hands the outcome to [`super::Server::given`].
#[derive(Debug, Clone)]
pub enum Ask {
    /// Log in. Answer: [`Given::User`].
    Login {
        /// The login name.
        name: String,
        /// The password.
        password: Secret,
        /// By SASL (numerics 903 and 904) or by PASS.
        sasl: bool,
    },
    /// Whether a nick is the name of an account. Answer: [`Given::Taken`].
    Taken {
        /// The nick.
        nick: String,
    },
    /// Open the user's conversations and begin the live feed. Answer: [`Given::Entered`].
    Enter,
    /// Change a group. Answer: [`Given::Group`]; the line that it makes comes on the live feed.
    Change {
        /// The group's name.
        group: String,
        /// The change.
        change: GroupChange,
    },
    /// Say something. Answer: [`Given::Said`]; the line itself comes on the live feed.
    Say {
        /// To whom; may be a group.
        to: Conversation,
        /// The target as the client wrote it, for errors.
        target: String,
        /// The line's id.
        id: MessageId,
        /// What sort of line.
        verb: Verb,
        /// The text.
        text: String,
        /// Errors are not told (NOTICE).
        quiet: bool,
    },
    /// A guest says something in a group. Answer: [`Given::Said`].
    GuestSays {
        /// The group's name.
        group: String,
        /// The line's id.
        id: MessageId,
        /// The guest's nick.
        nick: String,
        /// What sort of line.
        verb: Verb,
        /// The text.
        text: String,
    },
    /// Send a mail. Answer: [`Given::Done`].
    Mail {
        /// To whom.
        to: String,
        /// The text.
        text: String,
    },
    /// What is written to `*mail`. Answer: [`Given::Text`].
    MailService {
        /// The words.
        text: String,
    },
    /// Lines of a conversation. Answer: [`Given::Lines`].
    History {
        /// Which.
        conversation: Conversation,
        /// The target as the client wrote it.
        target: String,
        /// The subcommand, for errors.
        sub: String,
        /// Which lines.
        wanted: History,
        /// How many.
        limit: usize,
        /// Whether what happened counts too, or only what was said.
        events: bool,
    },
    /// The conversations with lines in a time. Answer: [`Given::Targets`].
    Targets {
        /// From here, this moment left out.
        from: Timestamp,
        /// Towards this moment, which is left out, and may be the earlier one.
        to: Timestamp,
        /// How many.
        limit: usize,
    },
    /// Set or get what is read. Answer: [`Given::Marker`].
    Marker {
        /// Which conversation.
        conversation: Conversation,
        /// The target as the client wrote it.
        target: String,
        /// Up to when; `None` asks.
        set: Option<Timestamp>,
        /// The client was just told that it joined: its names come after the marker.
        joined: bool,
    },
    /// Lines since the client was last here. Answer: [`Given::Playback`].
    Playback,
    /// Ask the bridge that holds the connections to networks. Answer: [`Given::Network`].
    Network {
        /// The question.
        question: link::Ask,
        /// The target as the client wrote it, or the command.
        context: String,
    },
    /// Tell what is transient to the other bridges.
    Typing {
        /// Where.
        conversation: Conversation,
        /// `active`, `paused` or `done`.
        state: String,
    },
}

/// What the host answered.
#[derive(Debug)]
pub enum Given {
    /// Logged in.
    User(User),
    /// Whether the name is an account's.
    Taken(bool),
    /// The user's groups, and the networks outside with their channels and nicks there.
    Entered {
        /// Groups that the user belongs to or may see.
        groups: Vec<Arc<Group>>,
        /// Networks outside.
        networks: Vec<link::NetworkInfo>,
        /// Where the user is on the network that the client is bound to.
        bound: Option<(link::Presence, Vec<link::Channel>)>,
    },
    /// The group as it is now.
    Group(Arc<Group>),
    /// The line is stored.
    Said,
    /// It is done.
    Done,
    /// Lines of text to show.
    Text(Vec<String>),
    /// Lines of a conversation.
    Lines(Vec<Arc<ChatLine>>),
    /// Conversations and the time of their last line.
    Targets(Vec<(Conversation, Timestamp)>),
    /// Up to when a conversation was read.
    Marker(Option<Timestamp>),
    /// Conversations with lines that the client has not seen.
    Playback(Vec<(ConversationInfo, Vec<Arc<ChatLine>>)>),
    /// The other bridge's answer.
    Network(Answer),
}

/// An outcome.
pub type Outcome = Result<Given, Error>;

/// What a command leads to: nothing more, or questions that are asked in their order.
pub type Asks = Vec<Ask>;

/// Whom an address is shown as to a client: a nick or a channel.
pub fn shown(address: &Address, bound: Option<&str>) -> String {
    match address {
        Address::Mesyx(mesyx) => mesyx.user.local().to_owned(),
        Address::Irc(irc) if bound == Some(irc.network()) => irc.name().to_owned(),
        Address::Irc(irc) => format!("{}/{}", irc.name(), irc.network()),
        Address::Mail(mail) => mail.to_string(),
        Address::Other(other) => format!("{}/{}", other.name(), other.network()),
        other => other.to_string(),
    }
}
