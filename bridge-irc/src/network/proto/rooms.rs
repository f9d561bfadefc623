//! Channels: those to be in, and those that the user is in, with their members.

use super::{Engine, MOST_MEMBERS, MOST_ROOMS};
use crate::link::{Channel, Member, Who};
use mesyx_irc_codec::Writer;
use mesyx_irc_codec::isupport::ModeKind;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Pause before a channel is joined again after a kick.
const AFTER_KICK: Duration = Duration::from_secs(15);
/// Longest pause between attempts to join.
const LONGEST: Duration = Duration::from_secs(600);

/// A channel to be in.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) key: Option<String>,
    /// When to try to join; `None`: joined, or asked for, or hopeless.
    pub(super) next: Option<Instant>,
    tries: u32,
}

/// A channel that the user is in.
#[derive(Debug, Default)]
pub(super) struct Room {
    pub(super) name: String,
    pub(super) topic: String,
    pub(super) topic_by: String,
    pub(super) topic_at: i64,
    pub(super) created: i64,
    modes: BTreeMap<char, Option<String>>,
    pub(super) members: BTreeMap<String, Member>,
    /// Names that are coming in, until 366.
    pub(super) listing: Option<BTreeMap<String, Member>>,
    /// The names were complete once.
    pub(super) complete: bool,
    /// All modes have been told once.
    moded: bool,
}

/// How one stands in a channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Our own ranks, by their signs.
    pub(crate) signs: String,
    /// Nobody else is there.
    pub(crate) alone: bool,
    pub(crate) topic: String,
    /// Only operators set the topic (`+t`).
    pub(crate) guarded: bool,
    /// Only those with a rank speak (`+m`).
    pub(crate) moderated: bool,
}

impl Engine {
    pub(super) fn want_channels(&mut self, now: Instant) {
        let channels = self.id.channels.clone();
        let folded: Vec<_> = channels.iter().map(|(name, _)| self.fold(name)).collect();
        self.wanted.retain(|name, _| folded.contains(name));
        for ((name, key), folded) in channels.into_iter().zip(folded) {
            let joined = self.rooms.contains_key(&folded);
            let wanted = self.wanted.entry(folded).or_insert_with(|| Wanted {
                name,
                key: None,
                next: (!joined).then_some(now),
                tries: 0,
            });
            wanted.key = key;
        }
    }

    /// Asks to join what is due, several channels on a line where the server takes that.
    pub(super) fn join_due(&mut self, now: Instant) {
        let due = |wanted: &Wanted| wanted.next.is_some_and(|at| at <= now);
        let mut channels: Vec<(String, Option<String>)> = Vec::new();
        for wanted in self.wanted.values_mut().filter(|wanted| due(wanted)) {
            wanted.next = None;
            channels.push((wanted.name.clone(), wanted.key.clone()));
        }
        // Keys stand in the order of channels: those with one go first.
        channels.sort_by_key(|(_, key)| key.is_none());
        let most = self.targets("JOIN");
        let room = self.limits().rest - 8;
        let mut rest = &channels[..];
        while !rest.is_empty() {
            let (mut names, mut keys) = (String::new(), String::new());
            let mut count = 0;
            for (name, key) in rest {
                let longer = names.len() + keys.len() + name.len() + key.as_ref().map_or(0, String::len) + 2;
                if count > 0 && (count == most || longer > room) {
                    break;
                }
                let comma = if count > 0 { "," } else { "" };
                names.push_str(comma);
                names.push_str(name);
                if let Some(key) = key {
                    keys.push_str(if keys.is_empty() { "" } else { "," });
                    keys.push_str(key);
                }
                count += 1;
            }
            rest = &rest[count..];
            let line = Writer::new("JOIN").and_then(|line| line.parameter(names.as_bytes()));
            self.normal(if keys.is_empty() { line } else { line.and_then(|line| line.parameter(keys.as_bytes())) });
        }
    }

    /// How many targets a command takes on one line (`TARGMAX`); 1 where the server does not say.
    fn targets(&self, command: &str) -> usize {
        let limits = self.isupport.get("TARGMAX").unwrap_or_default();
        let found = limits.split(',').find_map(|limit| limit.strip_prefix(command)?.strip_prefix(':'));
        match found {
            Some("") => 20,
            Some(number) => number.parse().unwrap_or(1).clamp(1, 20),
            None => 1,
        }
    }

    /// Leaves a channel, and wants it no more.
    pub(crate) fn part(&mut self, name: &str, reason: &str) {
        let folded = self.fold(name);
        self.wanted.remove(&folded);
        if self.rooms.contains_key(&folded) {
            let line = Writer::new("PART").and_then(|line| line.parameter(name.as_bytes()));
            self.normal(if reason.is_empty() { line } else { line.and_then(|line| line.trailing(reason.as_bytes())) });
        }
    }

    /// Wants a channel from now on, without asking for it: the caller does.
    pub(crate) fn want(&mut self, name: &str, key: Option<String>) {
        let folded = self.fold(name);
        if self.wanted.len() < MOST_ROOMS {
            self.wanted.insert(folded, Wanted { name: name.to_owned(), key, next: None, tries: 0 });
        }
    }

    pub(crate) fn in_channel(&self, name: &str) -> bool {
        self.rooms.contains_key(&self.fold(name))
    }

    /// The user is in the channel now.
    pub(super) fn entered(&mut self, name: &str) {
        let folded = self.fold(name);
        if let Some(wanted) = self.wanted.get_mut(&folded) {
            (wanted.next, wanted.tries) = (None, 0);
        }
        if self.rooms.len() < MOST_ROOMS {
            self.rooms.insert(folded, Room { name: name.to_owned(), ..Room::default() });
            // Modes and the time of its making are not told on joining.
            self.normal(Writer::new("MODE").and_then(|line| line.parameter(name.as_bytes())));
        }
    }

    /// The user was removed from a channel: it is joined again after a pause.
    pub(super) fn kicked(&mut self, name: &str, now: Instant) {
        let folded = self.fold(name);
        self.rooms.remove(&folded);
        self.retry(&folded, AFTER_KICK, now);
    }

    /// A channel could not be joined: tried again, where that may help.
    pub(super) fn join_refused(&mut self, name: &str, numeric: u16, now: Instant) {
        let pause = match numeric {
            // Full, for members with an account only, or there are too many for now.
            471 | 477 | 437 | 480 | 500 => Duration::from_secs(60),
            // Invitation, ban, key: somebody may change it.
            473..=475 | 489 | 520 => Duration::from_secs(300),
            _ => return,
        };
        let folded = self.fold(name);
        if !self.rooms.contains_key(&folded) {
            self.retry(&folded, pause, now);
        }
    }

    fn retry(&mut self, folded: &str, pause: Duration, now: Instant) {
        if let Some(wanted) = self.wanted.get_mut(folded) {
            let pause = pause.saturating_mul(1 << wanted.tries.min(6)).min(LONGEST);
            // Not all at once with others that were thrown out together.
            let pause = pause + Duration::from_millis(u64::from(super::jitter()) * 16);
            wanted.tries += 1;
            wanted.next = Some(now + pause);
        }
    }

    /// A member's place, where the room is known.
    pub(super) fn member(&mut self, channel: &str, nick: &str) -> Option<&mut Member> {
        let (channel, nick) = (self.fold(channel), self.fold(nick));
        self.rooms.get_mut(&channel)?.members.get_mut(&nick)
    }

    pub(super) fn add_member(&mut self, channel: &str, who: &Who, account: &str) {
        let (channel, nick) = (self.fold(channel), self.fold(&who.nick));
        let Some(room) = self.rooms.get_mut(&channel).filter(|room| room.members.len() < MOST_MEMBERS) else { return };
        let member = room.members.entry(nick).or_default();
        (member.nick, member.user, member.host) = (who.nick.clone(), who.user.clone(), who.host.clone());
        account.clone_into(&mut member.account);
    }

    /// Everywhere that somebody is a member.
    pub(super) fn everywhere(&mut self, nick: &str, mut each: impl FnMut(&mut Member)) {
        let nick = self.fold(nick);
        self.rooms.values_mut().filter_map(|room| room.members.get_mut(&nick)).for_each(&mut each);
    }

    pub(super) fn remove_everywhere(&mut self, nick: &str) {
        let nick = self.fold(nick);
        for room in self.rooms.values_mut() {
            room.members.remove(&nick);
        }
    }

    pub(super) fn rename_everywhere(&mut self, old: &str, new: &str) {
        let (old, folded) = (self.fold(old), self.fold(new));
        for room in self.rooms.values_mut() {
            if let Some(mut member) = room.members.remove(&old) {
                new.clone_into(&mut member.nick);
                room.members.insert(folded.clone(), member);
            }
        }
    }

    /// Takes in the names of 353.
    pub(super) fn names(&mut self, channel: &str, text: &str) {
        let folded = self.fold(channel);
        let ranks = self.isupport.ranks();
        let casemapping = self.casemapping();
        let Some(room) = self.rooms.get_mut(&folded) else { return };
        let Room { members, listing, .. } = room;
        let listing = listing.get_or_insert_default();
        for name in text.split_whitespace() {
            let at = name.find(|c| !ranks.iter().any(|(_, sign)| *sign == c)).unwrap_or(name.len());
            let (signs, whole) = name.split_at(at);
            let source = mesyx_irc_codec::Source::of(whole.as_bytes());
            let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            let nick = text(Some(source.name)).unwrap_or_default();
            if nick.is_empty() || listing.len() >= MOST_MEMBERS {
                continue;
            }
            let key = casemapping.fold(&nick);
            let mut member = members.get(&key).cloned().unwrap_or_default();
            (member.nick, member.signs) = (nick, signs.to_owned());
            if let (Some(user), Some(host)) = (text(source.user), text(source.host)) {
                (member.user, member.host) = (user, host);
            }
            listing.insert(key, member);
        }
    }

    /// 366. Whether these were the first names of the room.
    pub(super) fn names_end(&mut self, channel: &str) -> bool {
        let folded = self.fold(channel);
        let Some(room) = self.rooms.get_mut(&folded) else { return false };
        if let Some(listing) = room.listing.take() {
            room.members = listing;
        }
        !std::mem::replace(&mut room.complete, true)
    }

    /// Takes in a change of a channel's modes.
    pub(super) fn modes(&mut self, channel: &str, modes: &str, parameters: &[&[u8]]) {
        let ranks = self.isupport.ranks();
        let changes = self.isupport.mode_changes(modes, parameters);
        for change in changes {
            let parameter = change.parameter.map(|parameter| self.decode(parameter));
            if change.kind == ModeKind::Member {
                let Some((_, sign)) = ranks.iter().find(|(mode, _)| *mode == change.mode) else { continue };
                let Some(member) = parameter.and_then(|nick| self.member(channel, &nick)) else { continue };
                member.signs.retain(|other| other != *sign);
                if change.set {
                    member.signs.push(*sign);
                }
                let place = |sign: char| ranks.iter().position(|(_, other)| *other == sign);
                let mut signs: Vec<char> = member.signs.chars().collect();
                signs.sort_by_key(|sign| place(*sign));
                member.signs = signs.into_iter().collect();
            } else if change.kind != ModeKind::List {
                let folded = self.fold(channel);
                let Some(room) = self.rooms.get_mut(&folded) else { continue };
                match change.set {
                    true => room.modes.insert(change.mode, parameter),
                    false => room.modes.remove(&change.mode),
                };
            }
        }
    }

    /// 324: the modes as they are.
    pub(super) fn set_modes(&mut self, channel: &str, modes: &str, parameters: &[&[u8]]) {
        let folded = self.fold(channel);
        if let Some(room) = self.rooms.get_mut(&folded) {
            room.modes.clear();
            room.moded = true;
            self.modes(channel, modes, parameters);
        }
    }

    /// The channels that the user is in, and those that are to be joined.
    pub(crate) fn channels(&self) -> Vec<Channel> {
        let mut all: Vec<_> = self.rooms.values().map(Room::describe).collect();
        let missing = self.wanted.iter().filter(|(folded, _)| !self.rooms.contains_key(*folded));
        all.extend(missing.map(|(_, wanted)| Channel { name: wanted.name.clone(), ..Channel::default() }));
        all
    }

    /// How we stand in a channel; `None` where we are not in it, or not all of it has been told.
    pub(crate) fn standing(&self, channel: &str) -> Option<Standing> {
        let room = self.rooms.get(&self.fold(channel)).filter(|room| room.complete && room.moded)?;
        let own = room.members.get(&self.fold(&self.me.nick))?;
        Some(Standing {
            signs: own.signs.clone(),
            alone: room.members.len() == 1,
            topic: room.topic.clone(),
            guarded: room.modes.contains_key(&'t'),
            moderated: room.modes.contains_key(&'m'),
        })
    }

    /// Whether somebody of this nick is in a channel.
    pub(crate) fn is_member(&self, channel: &str, nick: &str) -> bool {
        self.rooms.get(&self.fold(channel)).is_some_and(|room| room.members.contains_key(&self.fold(nick)))
    }

    /// Leaves a channel that is wanted still, for at least this long.
    pub(crate) fn stay_out(&mut self, name: &str, pause: Duration, now: Instant) {
        let folded = self.fold(name);
        if self.rooms.remove(&folded).is_some() {
            self.normal(Writer::new("PART").and_then(|line| line.parameter(name.as_bytes())));
        }
        self.retry(&folded, pause, now);
    }

    /// Who is in a channel; `None` where the user is not, or the names have not all come.
    pub(crate) fn members(&self, channel: &str) -> Option<Vec<Member>> {
        let room =
            self.rooms.get(&self.fold(channel)).filter(|room| room.complete && room.members.len() < MOST_MEMBERS)?;
        Some(room.members.values().cloned().collect())
    }
}

impl Room {
    fn describe(&self) -> Channel {
        let mut modes = String::from("+");
        modes.extend(self.modes.keys());
        // The key is nobody's business who asks for modes.
        for (_, parameter) in self.modes.iter().filter(|(mode, _)| **mode != 'k') {
            parameter.iter().for_each(|parameter| modes.push_str(&format!(" {parameter}")));
        }
        if self.modes.contains_key(&'k') {
            modes = modes.replacen('k', "", 1);
        }
        Channel {
            name: self.name.clone(),
            joined: true,
            topic: self.topic.clone(),
            topic_by: self.topic_by.clone(),
            topic_at: self.topic_at,
            modes,
            created: self.created,
        }
    }
}
