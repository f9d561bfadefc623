//! What the bridge tells of a network, as it happens.

use mesyx_sdk::address::CaseMapping;
use mesyx_sdk::{Address, Conversation, IrcAddress, MessageId, Signal, SignalTo, UserId};

/// Most bytes of one detail of a signal.
const LONGEST: usize = 1024;
/// Most details of a signal, without the network.
const MOST: usize = 15;

/// Somebody on a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Who {
    /// The nick, or a server's name.
    pub nick: String,
    /// User name; empty where not known.
    pub user: String,
    /// Host; empty where not known.
    pub host: String,
}

impl Who {
    fn write(&self) -> String {
        if self.user.is_empty() && self.host.is_empty() {
            return self.nick.clone();
        }
        format!("{}!{}@{}", self.nick, self.user, self.host)
    }

    fn of(text: &str) -> Self {
        let (front, host) = text.rsplit_once('@').unwrap_or((text, ""));
        let (nick, user) = front.split_once('!').unwrap_or((front, ""));
        Self { nick: nick.to_owned(), user: user.to_owned(), host: host.to_owned() }
    }
}

/// Something that happened on a network of the user's. `who` may be the user: compare with the own nick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Registered with the network, under this nick. Ask for presence and channels again.
    Connected {
        /// The nick.
        nick: String,
    },
    /// The connection is gone: why. All channels are left by that.
    Disconnected {
        /// Why.
        why: String,
    },
    /// The user's networks or their attributes changed: ask for them again. The network named may be gone.
    Networks,
    /// Somebody joined a channel; the user's own join comes when its names are known.
    Join {
        /// Channel.
        channel: String,
        /// Who.
        who: Who,
        /// Account; empty for none or not known.
        account: String,
        /// Real name; empty where not known.
        realname: String,
    },
    /// Somebody left a channel.
    Part {
        /// Channel.
        channel: String,
        /// Who.
        who: Who,
        /// Why.
        reason: String,
    },
    /// Somebody was removed from a channel. If it is the user, it is joined again after a pause, once it can be.
    Kick {
        /// Channel.
        channel: String,
        /// By whom.
        who: Who,
        /// The nick removed.
        nick: String,
        /// Why.
        reason: String,
    },
    /// Somebody left the network. Netsplits come as [`News::Split`].
    Quit {
        /// Who.
        who: Who,
        /// Why.
        reason: String,
    },
    /// Servers lost each other, and these people with them. May come in several pieces.
    Split {
        /// The two servers, as in the reason of a QUIT.
        servers: String,
        /// Nicks.
        nicks: Vec<String>,
    },
    /// Those came back to a channel after a split.
    SplitOver {
        /// Channel.
        channel: String,
        /// Nicks.
        nicks: Vec<String>,
    },
    /// Somebody has another nick.
    Nick {
        /// Who, as before.
        who: Who,
        /// The new nick.
        nick: String,
    },
    /// Modes of a channel or of the user changed.
    Mode {
        /// Channel, or the own nick.
        target: String,
        /// Who did it; a server too.
        who: Who,
        /// Modes and their parameters.
        args: Vec<String>,
    },
    /// A channel's topic changed; empty for none.
    Topic {
        /// Channel.
        channel: String,
        /// Who did it.
        who: Who,
        /// The topic.
        topic: String,
    },
    /// Somebody went away (with a text) or is back.
    Away {
        /// Who.
        who: Who,
        /// Why; `None`: is back.
        text: Option<String>,
    },
    /// Somebody logged in to an account, or out (empty).
    Account {
        /// Who.
        who: Who,
        /// The account.
        account: String,
    },
    /// Somebody's user name and host changed.
    Host {
        /// Who, as before.
        who: Who,
        /// The new user name.
        user: String,
        /// The new host.
        host: String,
    },
    /// Somebody changed the real name.
    Realname {
        /// Who.
        who: Who,
        /// The new one.
        realname: String,
    },
    /// Somebody invites the user (or another, on networks that tell of that).
    Invite {
        /// Who.
        who: Who,
        /// The nick invited.
        nick: String,
        /// To which channel.
        channel: String,
    },
    /// Somebody types.
    Typing {
        /// Channel, or the nick of who types.
        target: String,
        /// Who.
        who: Who,
        /// `active`, `paused` or `done`.
        state: String,
    },
    /// Who is in the channel changed in more ways than are told: ask for the names again.
    Names {
        /// Channel.
        channel: String,
    },
    /// A server's notice or another word that belongs to no conversation.
    Notice {
        /// Who.
        who: Who,
        /// The text.
        text: String,
    },
    /// A numeric that answers nothing that was asked here.
    Numeric {
        /// The server's name.
        source: String,
        /// The numeric.
        command: String,
        /// Its parameters.
        parameters: Vec<String>,
    },
    /// The answer to a CTCP request.
    Ctcp {
        /// Who.
        who: Who,
        /// The command.
        command: String,
        /// The answer.
        text: String,
    },
    /// A word of [`super::SERVICE_NICK`] in passing, such as on fresh keys. What must not be missed is stored as a line instead.
    Service {
        /// The nick that it is about; empty for none.
        peer: String,
        /// The text.
        text: String,
    },
    /// A line of the user's went out.
    Sent {
        /// The line.
        id: MessageId,
        /// Protected by OTR.
        otr: bool,
        /// What the network calls it (`msgid`); empty where it has no name.
        msgid: String,
    },
}

impl News {
    /// The signal that tells it to a user. Details over the limits of a signal are cut.
    #[must_use]
    pub fn signal(&self, network: &str, to: UserId) -> Signal {
        let (name, place, args) = self.write();
        let mut all = vec![cut(network.to_owned())];
        all.extend(args.into_iter().take(MOST).map(cut));
        let address = place.and_then(|place| IrcAddress::new(network, &place, CaseMapping::Rfc1459).ok());
        let conversation = address.map(|address| match address.is_channel() {
            true => Conversation::Group(Address::Irc(address)),
            false => Conversation::Direct(Address::Irc(address)),
        });
        Signal {
            to: SignalTo::User(to),
            bridge: String::new(),
            conversation,
            from: None,
            name: name.to_owned(),
            args: all,
        }
    }

    /// Name, conversation, details.
    fn write(&self) -> (&'static str, Option<String>, Vec<String>) {
        let at = |channel: &String| Some(channel.clone());
        let list =
            |first: &String, rest: &[String]| std::iter::once(first.clone()).chain(rest.iter().cloned()).collect();
        match self {
            Self::Connected { nick } => ("connected", None, vec![nick.clone()]),
            Self::Disconnected { why } => ("disconnected", None, vec![why.clone()]),
            Self::Networks => ("networks", None, vec![]),
            Self::Join { channel, who, account, realname } => {
                ("join", at(channel), vec![channel.clone(), who.write(), account.clone(), realname.clone()])
            }
            Self::Part { channel, who, reason } => {
                ("part", at(channel), vec![channel.clone(), who.write(), reason.clone()])
            }
            Self::Kick { channel, who, nick, reason } => {
                ("kick", at(channel), vec![channel.clone(), who.write(), nick.clone(), reason.clone()])
            }
            Self::Quit { who, reason } => ("quit", None, vec![who.write(), reason.clone()]),
            Self::Split { servers, nicks } => ("split", None, vec![servers.clone(), nicks.join(" ")]),
            Self::SplitOver { channel, nicks } => ("split-over", at(channel), vec![channel.clone(), nicks.join(" ")]),
            Self::Nick { who, nick } => ("nick", None, vec![who.write(), nick.clone()]),
            Self::Mode { target, who, args } => {
                let mut all = vec![target.clone(), who.write()];
                all.extend(args.iter().cloned());
                ("mode", at(target), all)
            }
            Self::Topic { channel, who, topic } => {
                ("topic", at(channel), vec![channel.clone(), who.write(), topic.clone()])
            }
            Self::Away { who, text } => ("away", None, list(&who.write(), text.as_slice())),
            Self::Account { who, account } => ("account", None, vec![who.write(), account.clone()]),
            Self::Host { who, user, host } => ("host", None, vec![who.write(), user.clone(), host.clone()]),
            Self::Realname { who, realname } => ("realname", None, vec![who.write(), realname.clone()]),
            Self::Invite { who, nick, channel } => {
                ("invite", at(channel), vec![who.write(), nick.clone(), channel.clone()])
            }
            Self::Typing { target, who, state } => {
                ("typing", at(target), vec![target.clone(), who.write(), state.clone()])
            }
            Self::Names { channel } => ("names", at(channel), vec![channel.clone()]),
            Self::Notice { who, text } => ("notice", None, vec![who.write(), text.clone()]),
            Self::Numeric { source, command, parameters } => {
                let mut all = vec![source.clone(), command.clone()];
                all.extend(parameters.iter().cloned());
                ("numeric", None, all)
            }
            Self::Ctcp { who, command, text } => ("ctcp", None, vec![who.write(), command.clone(), text.clone()]),
            Self::Service { peer, text } => ("service", None, vec![peer.clone(), text.clone()]),
            Self::Sent { id, otr, msgid } => {
                ("sent", None, vec![id.to_string(), if *otr { "1" } else { "0" }.to_owned(), msgid.clone()])
            }
        }
    }

    /// The network, and what happened there; `None` for a signal of another bridge or one that can't be read.
    #[must_use]
    pub fn of(signal: &Signal) -> Option<(&str, Self)> {
        if signal.bridge != super::NETWORK_BRIDGE {
            return None;
        }
        let (network, args) = signal.args.split_first()?;
        let text = |at: usize| args.get(at).cloned();
        let who = |at: usize| args.get(at).map(|text| Who::of(text));
        let words = |at: usize| Some(args.get(at)?.split_whitespace().map(str::to_owned).collect());
        let rest = |from: usize| args.get(from..).unwrap_or_default().to_vec();
        let news = match signal.name.as_str() {
            "connected" => Self::Connected { nick: text(0)? },
            "disconnected" => Self::Disconnected { why: text(0)? },
            "networks" => Self::Networks,
            "join" => Self::Join { channel: text(0)?, who: who(1)?, account: text(2)?, realname: text(3)? },
            "part" => Self::Part { channel: text(0)?, who: who(1)?, reason: text(2)? },
            "kick" => Self::Kick { channel: text(0)?, who: who(1)?, nick: text(2)?, reason: text(3)? },
            "quit" => Self::Quit { who: who(0)?, reason: text(1)? },
            "split" => Self::Split { servers: text(0)?, nicks: words(1)? },
            "split-over" => Self::SplitOver { channel: text(0)?, nicks: words(1)? },
            "nick" => Self::Nick { who: who(0)?, nick: text(1)? },
            "mode" => Self::Mode { target: text(0)?, who: who(1)?, args: rest(2) },
            "topic" => Self::Topic { channel: text(0)?, who: who(1)?, topic: text(2)? },
            "away" => Self::Away { who: who(0)?, text: text(1) },
            "account" => Self::Account { who: who(0)?, account: text(1)? },
            "host" => Self::Host { who: who(0)?, user: text(1)?, host: text(2)? },
            "realname" => Self::Realname { who: who(0)?, realname: text(1)? },
            "invite" => Self::Invite { who: who(0)?, nick: text(1)?, channel: text(2)? },
            "typing" => Self::Typing { target: text(0)?, who: who(1)?, state: text(2)? },
            "names" => Self::Names { channel: text(0)? },
            "notice" => Self::Notice { who: who(0)?, text: text(1)? },
            "numeric" => Self::Numeric { source: text(0)?, command: text(1)?, parameters: rest(2) },
            "ctcp" => Self::Ctcp { who: who(0)?, command: text(1)?, text: text(2)? },
            "service" => Self::Service { peer: text(0)?, text: text(1)? },
            "sent" => Self::Sent { id: text(0)?.parse().ok()?, otr: text(1)? == "1", msgid: text(2)? },
            _ => return None,
        };
        Some((network, news))
    }
}

/// At most 1,024 bytes, whole characters.
fn cut(mut text: String) -> String {
    let end = text.floor_char_boundary(LONGEST);
    text.truncate(end);
    text
}
