//! Questions and the rows of their answers.

use super::NETWORK_BRIDGE;
use mesyx_sdk::{Answer, Error, ErrorKind, Question, User};
use std::collections::BTreeMap;
use std::fmt;

/// Attributes of a network by key; for [`Ask::Add`] and [`Ask::Change`]. An empty value takes the attribute away.
///
/// | key | value |
/// | --- | --- |
/// | `host` | host name or IP address; only of networks that the user added |
/// | `port` | TCP port; unless given 6697, or 6667 without TLS |
/// | `tls` | `1` (unless given) or `0` |
/// | `fingerprint` | SHA-256 of the server's certificate in hexadecimal, in place of verification by authorities |
/// | `nickname` | the nick wanted; unless given, the login name |
/// | `altnicks` | others, parted by commas |
/// | `username`, `realname` | as they stand in USER |
/// | `pass` | the server's password (PASS) |
/// | `sasl` | `plain`, `external` or `none` |
/// | `account`, `password` | for SASL PLAIN; `account` unless given is `nickname` |
/// | `certificate` | PEM of a client certificate and its private key, for SASL EXTERNAL |
/// | `channels` | to be joined: `#a,#b KEY,#c`; [`Ask::Join`] and [`Ask::Part`] change it too |
/// | `enabled` | `1`: connected from the start; `0`: on demand only |
///
/// What is secret (`pass`, `password`, `certificate`, keys of channels) never comes back in an answer.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Settings(pub BTreeMap<String, String>);

/// Values may be secret.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Settings {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The user's networks: rows are [`NetworkInfo`].
    Networks,
    /// Adds a network of the user's own. Refused where there is one of the name, or the operator's limits forbid it.
    Add {
        /// Its name.
        network: String,
        /// Its attributes; `host` must be among them.
        settings: Settings,
    },
    /// Changes attributes. Takes effect at the next connection, but for nick and channels.
    Change {
        /// Its name.
        network: String,
        /// The attributes to change; others stay.
        settings: Settings,
    },
    /// Removes a network of the user's own, or what the user set for one of the operator's; disconnects.
    Remove {
        /// Its name.
        network: String,
    },
    /// Connects, where not connected. Does not wait for it: [`super::News::Connected`] tells.
    Connect {
        /// Its name.
        network: String,
    },
    /// Disconnects, and stays so until the user asks or says something there.
    Disconnect {
        /// Its name.
        network: String,
        /// The reason to give.
        reason: String,
    },
    /// What the user is there: one row, [`Presence`].
    Presence {
        /// Its name.
        network: String,
    },
    /// The channels: rows are [`Channel`].
    Channels {
        /// Its name.
        network: String,
    },
    /// Who is in a channel: rows are [`Member`]. Answered from memory where the user is in it, else by the network.
    Names {
        /// Its name.
        network: String,
        /// Which.
        channel: String,
    },
    /// Joins a channel, now and whenever connected. Rows are [`Reply`], none where it went well.
    Join {
        /// Its name.
        network: String,
        /// Which; one only.
        channel: String,
        /// Its key; kept sealed.
        key: Option<String>,
    },
    /// Leaves a channel for good. Rows are [`Reply`], none where it went well.
    Part {
        /// Its name.
        network: String,
        /// Which.
        channel: String,
        /// Why.
        reason: String,
    },
    /// A command of [`super::COMMANDS`], sent as it is. Rows are [`Reply`]: the numerics that the server answered, in their order.
    /// What the command makes happen (a new topic, mode or nick) comes as [`super::News`].
    Command {
        /// Its name.
        network: String,
        /// The command, upper case.
        command: String,
        /// Its parameters.
        parameters: Vec<String>,
    },
    /// Marks the user as away, or no longer. On every network where none is named.
    Away {
        /// Its name, or nothing.
        network: Option<String>,
        /// Why; `None` for no longer.
        text: Option<String>,
    },
    /// The user types. No rows; nothing happens where the network does not carry it.
    Typing {
        /// Its name.
        network: String,
        /// Channel or nick.
        target: String,
        /// `active`, `paused` or `done`.
        state: String,
    },
    /// A CTCP request. No rows; the answer comes as [`super::News::Ctcp`].
    Ctcp {
        /// Its name.
        network: String,
        /// Channel or nick.
        target: String,
        /// `VERSION`, `PING`, …
        command: String,
        /// What follows.
        text: String,
    },
    /// What the user wrote to [`super::SERVICE_NICK`]: rows are [`text`] to show. Without words: help.
    Service {
        /// The network that the user's client is bound to, where it is bound to one.
        network: Option<String>,
        /// The words.
        text: String,
    },
}

impl Ask {
    /// The question for a user.
    #[must_use]
    pub fn question(&self, user: &User) -> Question {
        let (name, args) = self.write();
        Question {
            bridge: NETWORK_BRIDGE.to_owned(),
            asker: String::new(),
            user: Some(user.clone()),
            name: name.to_owned(),
            args,
        }
    }

    fn write(&self) -> (&'static str, Vec<String>) {
        let some = |parts: &[&String]| parts.iter().map(|part| (*part).clone()).collect::<Vec<_>>();
        let option = |value: &Option<String>| value.clone().unwrap_or_default();
        let attributes = |network: &String, settings: &Settings| {
            let pairs = settings.0.iter().map(|(key, value)| format!("{key}={value}"));
            std::iter::once(network.clone()).chain(pairs).collect()
        };
        match self {
            Self::Networks => ("networks", Vec::new()),
            Self::Add { network, settings } => ("network-add", attributes(network, settings)),
            Self::Change { network, settings } => ("network-change", attributes(network, settings)),
            Self::Remove { network } => ("network-remove", some(&[network])),
            Self::Connect { network } => ("connect", some(&[network])),
            Self::Disconnect { network, reason } => ("disconnect", some(&[network, reason])),
            Self::Presence { network } => ("presence", some(&[network])),
            Self::Channels { network } => ("channels", some(&[network])),
            Self::Names { network, channel } => ("names", some(&[network, channel])),
            Self::Join { network, channel, key } => ("join", some(&[network, channel, &option(key)])),
            Self::Part { network, channel, reason } => ("part", some(&[network, channel, reason])),
            Self::Command { network, command, parameters } => {
                let mut args = some(&[network, command]);
                args.extend(parameters.iter().cloned());
                ("command", args)
            }
            Self::Away { network, text } => {
                let away = if text.is_some() { "1" } else { "0" };
                ("away", vec![option(network), away.to_owned(), option(text)])
            }
            Self::Typing { network, target, state } => ("typing", some(&[network, target, state])),
            Self::Ctcp { network, target, command, text } => ("ctcp", some(&[network, target, command, text])),
            Self::Service { network, text } => ("service", vec![option(network), text.clone()]),
        }
    }

    /// Reads a question.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for one that is not of this list, or lacks something.
    pub fn of(question: &Question) -> Result<Self, Error> {
        let mut args = question.args.iter().cloned();
        let name = question.name.as_str();
        let mut next = |what: &str| {
            args.next().ok_or_else(|| Error::new(ErrorKind::Invalid, format!("the question '{name}' lacks: {what}")))
        };
        let full = |text: String| Some(text).filter(|text| !text.is_empty());
        Ok(match name {
            "networks" => Self::Networks,
            "network-add" => Self::Add { network: next("network")?, settings: settings(args)? },
            "network-change" => Self::Change { network: next("network")?, settings: settings(args)? },
            "network-remove" => Self::Remove { network: next("network")? },
            "connect" => Self::Connect { network: next("network")? },
            "disconnect" => Self::Disconnect { network: next("network")?, reason: next("reason")? },
            "presence" => Self::Presence { network: next("network")? },
            "channels" => Self::Channels { network: next("network")? },
            "names" => Self::Names { network: next("network")?, channel: next("channel")? },
            "join" => Self::Join { network: next("network")?, channel: next("channel")?, key: full(next("key")?) },
            "part" => Self::Part { network: next("network")?, channel: next("channel")?, reason: next("reason")? },
            "command" => {
                Self::Command { network: next("network")?, command: next("command")?, parameters: args.collect() }
            }
            "away" => {
                let (network, away, text) = (full(next("network")?), next("away")?, next("text")?);
                Self::Away { network, text: (away == "1").then_some(text) }
            }
            "typing" => Self::Typing { network: next("network")?, target: next("target")?, state: next("state")? },
            "ctcp" => Self::Ctcp {
                network: next("network")?,
                target: next("target")?,
                command: next("command")?,
                text: next("text")?,
            },
            "service" => Self::Service { network: full(next("network")?), text: next("text")? },
            _ => {
                return Err(Error::new(ErrorKind::Invalid, format!("irc-network does not know the question '{name}'")));
            }
        })
    }
}

fn settings(args: impl Iterator<Item = String>) -> Result<Settings, Error> {
    let pairs = args.map(|pair| {
        let (key, value) = pair.split_once('=')?;
        Some((key.to_owned(), value.to_owned()))
    });
    let pairs: Option<_> = pairs.collect();
    pairs.map(Settings).ok_or_else(|| Error::new(ErrorKind::Invalid, "attributes of a network are written KEY=VALUE"))
}

/// How a connection does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum State {
    /// Not connected.
    #[default]
    Disconnected,
    /// Being connected, or waiting to try again.
    Connecting,
    /// Registered with the network.
    Connected,
}

impl State {
    /// The word for it, as in soju.im/bouncer-networks.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
        }
    }

    fn of(word: &str) -> Self {
        match word {
            "connected" => Self::Connected,
            "connecting" => Self::Connecting,
            _ => Self::Disconnected,
        }
    }
}

/// A network of the user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkInfo {
    /// Its name.
    pub name: String,
    /// How the connection does.
    pub state: State,
    /// The operator set it up: it can't be removed, and its host is not the user's to change.
    pub shared: bool,
    /// What went wrong last, where it is not connected; empty for nothing.
    pub error: String,
    /// Attributes of [`Settings`] that are no secrets, as they hold (defaults too).
    pub settings: Settings,
}

impl NetworkInfo {
    /// The answer with these rows.
    #[must_use]
    pub fn answer(all: &[Self]) -> Answer {
        let rows = all.iter().map(|info| {
            let shared = if info.shared { "1" } else { "0" };
            let mut row =
                vec![info.name.clone(), info.state.as_str().to_owned(), shared.to_owned(), info.error.clone()];
            row.extend(info.settings.0.iter().map(|(key, value)| format!("{key}={value}")));
            row
        });
        Answer { rows: rows.collect() }
    }

    /// Reads the answer; rows that don't fit are left out.
    #[must_use]
    pub fn of(answer: &Answer) -> Vec<Self> {
        let read = |row: &Vec<String>| {
            let [name, state, shared, error, pairs @ ..] = row.as_slice() else { return None };
            Some(Self {
                name: name.clone(),
                state: State::of(state),
                shared: shared == "1",
                error: error.clone(),
                settings: settings(pairs.iter().cloned()).ok()?,
            })
        };
        answer.rows.iter().filter_map(read).collect()
    }
}

/// What the user is on a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Presence {
    /// How the connection does.
    pub state: State,
    /// The nick, as the network has it (or the wanted one, where not connected).
    pub nick: String,
    /// User name, as others see it; empty where not known yet.
    pub user: String,
    /// Host, as others see it; empty where not known yet.
    pub host: String,
    /// The account logged in to; empty for none.
    pub account: String,
    /// User modes, as `+iw`.
    pub modes: String,
    /// Why the user is away; `None` where not.
    pub away: Option<String>,
    /// The server's ISUPPORT tokens.
    pub isupport: Vec<String>,
    /// The capabilities in use with the server.
    pub capabilities: Vec<String>,
}

impl Presence {
    /// The answer.
    #[must_use]
    pub fn answer(&self) -> Answer {
        let row = |name: &str, value: &str| vec![name.to_owned(), value.to_owned()];
        let list =
            |name: &str, values: &[String]| std::iter::once(name.to_owned()).chain(values.iter().cloned()).collect();
        let mut rows = vec![
            row("state", self.state.as_str()),
            row("nick", &self.nick),
            row("user", &self.user),
            row("host", &self.host),
            row("account", &self.account),
            row("modes", &self.modes),
            list("isupport", &self.isupport),
            list("capabilities", &self.capabilities),
        ];
        rows.extend(self.away.as_ref().map(|away| row("away", away)));
        Answer { rows }
    }

    /// Reads the answer.
    #[must_use]
    pub fn of(answer: &Answer) -> Self {
        let mut presence = Self::default();
        for row in &answer.rows {
            let Some((name, values)) = row.split_first() else { continue };
            let value = values.first().cloned().unwrap_or_default();
            match name.as_str() {
                "state" => presence.state = State::of(&value),
                "nick" => presence.nick = value,
                "user" => presence.user = value,
                "host" => presence.host = value,
                "account" => presence.account = value,
                "modes" => presence.modes = value,
                "away" => presence.away = Some(value),
                "isupport" => presence.isupport = values.to_vec(),
                "capabilities" => presence.capabilities = values.to_vec(),
                _ => {}
            }
        }
        presence
    }
}

/// A channel of the user on a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Channel {
    /// Its name, as the network writes it.
    pub name: String,
    /// The user is in it now; otherwise it is to be joined.
    pub joined: bool,
    /// Its topic; empty for none.
    pub topic: String,
    /// Who set the topic.
    pub topic_by: String,
    /// When the topic was set, in seconds since 1970; 0 where not known.
    pub topic_at: i64,
    /// Its modes with their parameters, as `+nt`; without the key.
    pub modes: String,
    /// When it came to be, in seconds since 1970; 0 where not known.
    pub created: i64,
}

impl Channel {
    /// The answer with these rows.
    #[must_use]
    pub fn answer(all: &[Self]) -> Answer {
        let rows = all.iter().map(|channel| {
            let joined = if channel.joined { "1" } else { "0" };
            vec![
                channel.name.clone(),
                joined.to_owned(),
                channel.topic.clone(),
                channel.topic_by.clone(),
                channel.topic_at.to_string(),
                channel.modes.clone(),
                channel.created.to_string(),
            ]
        });
        Answer { rows: rows.collect() }
    }

    /// Reads the answer; rows that don't fit are left out.
    #[must_use]
    pub fn of(answer: &Answer) -> Vec<Self> {
        let read = |row: &Vec<String>| {
            let [name, joined, topic, topic_by, topic_at, modes, created, ..] = row.as_slice() else { return None };
            Some(Self {
                name: name.clone(),
                joined: joined == "1",
                topic: topic.clone(),
                topic_by: topic_by.clone(),
                topic_at: topic_at.parse().unwrap_or(0),
                modes: modes.clone(),
                created: created.parse().unwrap_or(0),
            })
        };
        answer.rows.iter().filter_map(read).collect()
    }
}

/// Somebody in a channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// Signs of all ranks, the highest first: `@+`.
    pub signs: String,
    /// The nick.
    pub nick: String,
    /// User name; empty where not known.
    pub user: String,
    /// Host; empty where not known.
    pub host: String,
    /// The account; empty for none or not known.
    pub account: String,
    /// Is away.
    pub away: bool,
}

impl Member {
    /// The answer with these rows.
    #[must_use]
    pub fn answer(all: &[Self]) -> Answer {
        let rows = all.iter().map(|member| {
            let away = if member.away { "1" } else { "0" };
            let parts = [&member.signs, &member.nick, &member.user, &member.host, &member.account];
            parts.into_iter().cloned().chain([away.to_owned()]).collect()
        });
        Answer { rows: rows.collect() }
    }

    /// Reads the answer; rows that don't fit are left out.
    #[must_use]
    pub fn of(answer: &Answer) -> Vec<Self> {
        let read = |row: &Vec<String>| {
            let [signs, nick, user, host, account, away, ..] = row.as_slice() else { return None };
            Some(Self {
                signs: signs.clone(),
                nick: nick.clone(),
                user: user.clone(),
                host: host.clone(),
                account: account.clone(),
                away: away == "1",
            })
        };
        answer.rows.iter().filter_map(read).collect()
    }
}

/// A line that the server answered: mostly a numeric, whose first parameter is the user's nick there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// The server's name.
    pub source: String,
    /// Numeric or command.
    pub command: String,
    /// Parameters; the last may hold spaces.
    pub parameters: Vec<String>,
}

impl Reply {
    /// The answer with these rows.
    #[must_use]
    pub fn answer(all: &[Self]) -> Answer {
        let row = |reply: &Self| {
            let head = [reply.source.clone(), reply.command.clone()];
            head.into_iter().chain(reply.parameters.iter().cloned()).collect()
        };
        Answer { rows: all.iter().map(row).collect() }
    }

    /// Reads the answer; rows that don't fit are left out.
    #[must_use]
    pub fn of(answer: &Answer) -> Vec<Self> {
        let read = |row: &Vec<String>| {
            let [source, command, parameters @ ..] = row.as_slice() else { return None };
            Some(Self { source: source.clone(), command: command.clone(), parameters: parameters.to_vec() })
        };
        answer.rows.iter().filter_map(read).collect()
    }
}

/// An answer of lines of text, one a row; and back.
pub mod text {
    use mesyx_sdk::Answer;

    /// The answer with these lines.
    #[must_use]
    pub fn answer(lines: impl IntoIterator<Item = String>) -> Answer {
        Answer { rows: lines.into_iter().map(|line| vec![line]).collect() }
    }

    /// The lines.
    #[must_use]
    pub fn of(answer: &Answer) -> Vec<String> {
        answer.rows.iter().filter_map(|row| row.first().cloned()).collect()
    }
}
