//! Conversations, groups, signals, questions.

use super::super::v1;
use super::{address, each, id, invalid, maybe, need};
use crate::{
    Anchor, Answer, ChatEvent, ChatLine, ConversationInfo, Error, ErrorKind, Group, GroupChange, GroupMember, History,
    Line, MailboxId, MessageId, Question, Rank, Signal, SignalTo, Timestamp, UserId, Verb,
};
use std::sync::Arc;

impl From<&ChatLine> for v1::ChatLine {
    fn from(line: &ChatLine) -> Self {
        Self {
            mailbox: line.mailbox.0.to_vec(),
            uid: line.uid,
            id: line.id.0.to_vec(),
            at: line.at.0,
            from: line.from.to_string(),
            nick: line.nick.clone(),
            own: line.own,
            seen: line.seen,
            verb: line.line.verb.as_str().to_owned(),
            args: line.line.args.clone(),
            text: line.line.text.clone(),
            protection: Some((&line.protection).into()),
        }
    }
}

impl TryFrom<v1::ChatLine> for ChatLine {
    type Error = Error;

    fn try_from(wire: v1::ChatLine) -> Result<Self, Error> {
        let verb = Verb::of(&wire.verb).unwrap_or(Verb::Say);
        Ok(Self {
            mailbox: MailboxId(id(&wire.mailbox)?),
            uid: wire.uid,
            id: MessageId(id(&wire.id)?),
            at: Timestamp(wire.at),
            from: address(&wire.from)?,
            nick: wire.nick,
            own: wire.own,
            seen: wire.seen,
            line: Line { verb, args: wire.args, text: wire.text },
            protection: wire.protection.map(Into::into).unwrap_or_default(),
        })
    }
}

impl From<&ConversationInfo> for v1::ConversationInfo {
    fn from(info: &ConversationInfo) -> Self {
        Self {
            mailbox: info.mailbox.0.to_vec(),
            conversation: Some((&info.conversation).into()),
            last: info.last,
            read: info.read,
        }
    }
}

impl TryFrom<v1::ConversationInfo> for ConversationInfo {
    type Error = Error;

    fn try_from(wire: v1::ConversationInfo) -> Result<Self, Error> {
        Ok(Self {
            mailbox: MailboxId(id(&wire.mailbox)?),
            conversation: need(wire.conversation, "conversation")?.try_into()?,
            last: wire.last,
            read: wire.read,
        })
    }
}

impl From<&Anchor> for v1::Anchor {
    fn from(anchor: &Anchor) -> Self {
        use v1::anchor::Anchor as Wire;
        Self {
            anchor: Some(match anchor {
                Anchor::Time(at) => Wire::Time(at.0),
                Anchor::Message(message) => Wire::Message(message.0.to_vec()),
            }),
        }
    }
}

impl TryFrom<v1::Anchor> for Anchor {
    type Error = Error;

    fn try_from(wire: v1::Anchor) -> Result<Self, Error> {
        use v1::anchor::Anchor as Wire;
        Ok(match need(wire.anchor, "anchor")? {
            Wire::Time(at) => Self::Time(Timestamp(at)),
            Wire::Message(message) => Self::Message(MessageId(id(&message)?)),
        })
    }
}

/// The sort of history that is wanted, and its places.
pub(in super::super) fn places(wanted: &History) -> (v1::HistoryOf, Option<v1::Anchor>, Option<v1::Anchor>) {
    match wanted {
        History::Latest(anchor) => (v1::HistoryOf::Latest, anchor.as_ref().map(Into::into), None),
        History::Before(anchor) => (v1::HistoryOf::Before, Some(anchor.into()), None),
        History::After(anchor) => (v1::HistoryOf::After, Some(anchor.into()), None),
        History::Around(anchor) => (v1::HistoryOf::Around, Some(anchor.into()), None),
        History::Between(from, until) => (v1::HistoryOf::Between, Some(from.into()), Some(until.into())),
    }
}

/// Which history is wanted.
pub(in super::super) fn history(
    wanted: i32,
    anchor: Option<v1::Anchor>,
    until: Option<v1::Anchor>,
) -> Result<History, Error> {
    let anchor = maybe(anchor, Anchor::try_from)?;
    Ok(match v1::HistoryOf::try_from(wanted) {
        Ok(v1::HistoryOf::Latest) => History::Latest(anchor),
        Ok(v1::HistoryOf::Before) => History::Before(need(anchor, "anchor")?),
        Ok(v1::HistoryOf::After) => History::After(need(anchor, "anchor")?),
        Ok(v1::HistoryOf::Around) => History::Around(need(anchor, "anchor")?),
        Ok(v1::HistoryOf::Between) => History::Between(need(anchor, "anchor")?, need(until, "until")?.try_into()?),
        Ok(v1::HistoryOf::Unspecified) | Err(_) => return Err(invalid("history of a sort that is not known here")),
    })
}

impl From<&ChatEvent> for v1::ChatEvent {
    fn from(event: &ChatEvent) -> Self {
        use v1::chat_event::Event as Wire;
        let event = match event {
            ChatEvent::Line(line) => Wire::Line((&**line).into()),
            ChatEvent::Read { mailbox, up_to } => {
                Wire::Read(v1::ReadUpTo { mailbox: mailbox.0.to_vec(), up_to: *up_to })
            }
            ChatEvent::Group(group) => Wire::Group((&**group).into()),
            ChatEvent::Signal(signal) => Wire::Signal((&**signal).into()),
            ChatEvent::Lagged => Wire::Lagged(v1::Nothing {}),
            ChatEvent::Ended(why) => Wire::Ended(why.clone()),
            ChatEvent::GroupLine { group, line } => {
                Wire::GroupLine(v1::GroupLine { group: group.to_string(), line: Some((&**line).into()) })
            }
        };
        Self { event: Some(event) }
    }
}

/// What a feed tells; `None` for what is not known here.
pub(in super::super) fn event(wire: v1::ChatEvent) -> Result<Option<ChatEvent>, Error> {
    use v1::chat_event::Event as Wire;
    Ok(match wire.event {
        Some(Wire::Line(line)) => Some(ChatEvent::Line(Arc::new(line.try_into()?))),
        Some(Wire::Read(read)) => Some(ChatEvent::Read { mailbox: MailboxId(id(&read.mailbox)?), up_to: read.up_to }),
        Some(Wire::Group(group)) => Some(ChatEvent::Group(Arc::new(group.try_into()?))),
        Some(Wire::Signal(signal)) => Some(ChatEvent::Signal(Arc::new(signal.try_into()?))),
        Some(Wire::Lagged(_)) => Some(ChatEvent::Lagged),
        Some(Wire::Ended(why)) => Some(ChatEvent::Ended(why)),
        Some(Wire::GroupLine(said)) => Some(ChatEvent::GroupLine {
            group: address(&said.group)?,
            line: Arc::new(need(said.line, "line")?.try_into()?),
        }),
        None => None,
    })
}

impl From<&Group> for v1::Group {
    fn from(group: &Group) -> Self {
        let masks = group.lists.iter().flat_map(|(mode, masks)| masks.iter().map(move |mask| (mode, mask)));
        Self {
            address: group.address.to_string(),
            name: group.name.clone(),
            created: group.created.0,
            topic: group.topic.as_ref().map(|(text, by, at)| v1::Topic {
                text: text.clone(),
                by: by.clone(),
                at: at.0,
            }),
            members: group
                .members
                .iter()
                .map(|member| v1::GroupMember {
                    user: member.user.0.to_vec(),
                    name: member.name.clone(),
                    rank: v1::Rank::from(member.rank).into(),
                })
                .collect(),
            modes: group
                .modes
                .iter()
                .map(|(mode, parameter)| v1::GroupMode { mode: mode.to_string(), parameter: parameter.clone() })
                .collect(),
            lists: masks
                .map(|(mode, (mask, by, at))| v1::GroupMask {
                    mode: mode.to_string(),
                    mask: mask.clone(),
                    by: by.clone(),
                    at: at.0,
                })
                .collect(),
        }
    }
}

impl TryFrom<v1::Group> for Group {
    type Error = Error;

    fn try_from(wire: v1::Group) -> Result<Self, Error> {
        let member = |member: v1::GroupMember| {
            Ok(GroupMember { user: UserId(id(&member.user)?), name: member.name, rank: rank(member.rank) })
        };
        let mut lists = std::collections::BTreeMap::<char, Vec<_>>::new();
        for mask in wire.lists {
            lists.entry(letter(&mask.mode)?).or_default().push((mask.mask, mask.by, Timestamp(mask.at)));
        }
        Ok(Self {
            address: address(&wire.address)?,
            name: wire.name,
            created: Timestamp(wire.created),
            topic: wire.topic.map(|topic| (topic.text, topic.by, Timestamp(topic.at))),
            members: each(wire.members, member)?,
            modes: wire
                .modes
                .into_iter()
                .map(|mode| Ok((letter(&mode.mode)?, mode.parameter)))
                .collect::<Result<_, Error>>()?,
            lists,
        })
    }
}

fn letter(text: &str) -> Result<char, Error> {
    let mut letters = text.chars();
    match (letters.next(), letters.next()) {
        (Some(letter), None) => Ok(letter),
        _ => Err(invalid("a mode is one letter")),
    }
}

impl From<Rank> for v1::Rank {
    fn from(rank: Rank) -> Self {
        match rank {
            Rank::Member => Self::Member,
            Rank::Voice => Self::Voice,
            Rank::Operator => Self::Operator,
            Rank::Founder => Self::Founder,
        }
    }
}

fn rank(wire: i32) -> Rank {
    match v1::Rank::try_from(wire) {
        Ok(v1::Rank::Voice) => Rank::Voice,
        Ok(v1::Rank::Operator) => Rank::Operator,
        Ok(v1::Rank::Founder) => Rank::Founder,
        Ok(v1::Rank::Unspecified | v1::Rank::Member) | Err(_) => Rank::Member,
    }
}

impl From<&GroupChange> for v1::GroupChange {
    fn from(change: &GroupChange) -> Self {
        use v1::group_change::Change as Wire;
        let change = match change {
            GroupChange::Join { key } => Wire::Join(v1::JoinGroup { key: key.clone() }),
            GroupChange::Leave { reason } => Wire::Leave(reason.clone()),
            GroupChange::Topic(topic) => Wire::Topic(topic.clone()),
            GroupChange::Mode { set, mode, parameter } => {
                Wire::Mode(v1::ModeChange { set: *set, mode: mode.to_string(), parameter: parameter.clone() })
            }
            GroupChange::List { add, mode, mask } => {
                Wire::List(v1::ListChange { add: *add, mode: mode.to_string(), mask: mask.clone() })
            }
            GroupChange::Rank { member, rank } => {
                Wire::Rank(v1::RankChange { member: member.clone(), rank: v1::Rank::from(*rank).into() })
            }
            GroupChange::Invite { user } => Wire::Invite(user.clone()),
            GroupChange::Kick { member, reason } => {
                Wire::Kick(v1::KickMember { member: member.clone(), reason: reason.clone() })
            }
        };
        Self { change: Some(change) }
    }
}

impl TryFrom<v1::GroupChange> for GroupChange {
    type Error = Error;

    fn try_from(wire: v1::GroupChange) -> Result<Self, Error> {
        use v1::group_change::Change as Wire;
        Ok(match need(wire.change, "change")? {
            Wire::Join(join) => Self::Join { key: join.key },
            Wire::Leave(reason) => Self::Leave { reason },
            Wire::Topic(topic) => Self::Topic(topic),
            Wire::Mode(mode) => Self::Mode { set: mode.set, mode: letter(&mode.mode)?, parameter: mode.parameter },
            Wire::List(list) => Self::List { add: list.add, mode: letter(&list.mode)?, mask: list.mask },
            Wire::Rank(change) => Self::Rank { member: change.member, rank: rank(change.rank) },
            Wire::Invite(user) => Self::Invite { user },
            Wire::Kick(kick) => Self::Kick { member: kick.member, reason: kick.reason },
        })
    }
}

impl From<&Signal> for v1::Signal {
    fn from(signal: &Signal) -> Self {
        use v1::signal::To;
        Self {
            to: Some(match &signal.to {
                SignalTo::User(user) => To::User(user.0.to_vec()),
                SignalTo::Group(group) => To::Group(group.to_string()),
            }),
            bridge: signal.bridge.clone(),
            conversation: signal.conversation.as_ref().map(Into::into),
            from: signal.from.as_ref().map(ToString::to_string),
            name: signal.name.clone(),
            args: signal.args.clone(),
        }
    }
}

impl TryFrom<v1::Signal> for Signal {
    type Error = Error;

    fn try_from(wire: v1::Signal) -> Result<Self, Error> {
        use v1::signal::To;
        if wire.args.len() > 16 || wire.args.iter().any(|arg| arg.len() > 1024) || wire.name.len() > 32 {
            return Err(invalid("a signal has at most 16 details of at most 1024 bytes, and a name of at most 32"));
        }
        Ok(Self {
            to: match need(wire.to, "to")? {
                To::User(user) => SignalTo::User(UserId(id(&user)?)),
                To::Group(group) => SignalTo::Group(address(&group)?),
            },
            bridge: wire.bridge,
            conversation: maybe(wire.conversation, TryInto::try_into)?,
            from: maybe(wire.from, |from| address(&from))?,
            name: wire.name,
            args: wire.args,
        })
    }
}

impl From<&Question> for v1::Question {
    fn from(question: &Question) -> Self {
        Self {
            bridge: question.bridge.clone(),
            asker: question.asker.clone(),
            user: question.user.as_ref().map(Into::into),
            name: question.name.clone(),
            args: question.args.clone(),
        }
    }
}

impl TryFrom<v1::Question> for Question {
    type Error = Error;

    fn try_from(wire: v1::Question) -> Result<Self, Error> {
        if wire.args.iter().map(String::len).sum::<usize>() > 64 << 10 {
            return Err(Error::new(ErrorKind::TooLarge, "a question's details have at most 64 KiB together"));
        }
        Ok(Self {
            bridge: wire.bridge,
            asker: wire.asker,
            user: maybe(wire.user, TryInto::try_into)?,
            name: wire.name,
            args: wire.args,
        })
    }
}

impl From<Answer> for v1::Answer {
    fn from(answer: Answer) -> Self {
        Self { rows: answer.rows.into_iter().map(|fields| v1::Row { fields }).collect() }
    }
}

impl TryFrom<v1::Answer> for Answer {
    type Error = Error;

    fn try_from(wire: v1::Answer) -> Result<Self, Error> {
        let bytes: usize = wire.rows.iter().flat_map(|row| &row.fields).map(String::len).sum();
        if bytes > 1 << 20 {
            return Err(Error::new(ErrorKind::TooLarge, "an answer has at most 1 MiB"));
        }
        Ok(Self { rows: wire.rows.into_iter().map(|row| row.fields).collect() })
    }
}
