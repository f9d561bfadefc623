//! MODE, of channels and users.

use super::ask::{Ask, Asks};
use super::channel::MOST_MASKS;
use super::commands::Command;
use super::names::{self, channel_like, fold, full_mask};
use super::{Caps, ClientId, PersonId, Server};
use mesyx_sdk::{GroupChange, Rank};

/// Most changes with a parameter in one command.
pub(super) const MOST_CHANGES: usize = 20;

/// One change that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    set: bool,
    mode: char,
    param: Option<String>,
}

/// Reads `+o-v a b`. A list mode without parameter asks for the list.
fn read(words: &[String]) -> Vec<Change> {
    let (Some(modes), mut params) = (words.first(), words.iter().skip(1)) else { return Vec::new() };
    let mut set = true;
    let mut changes = Vec::new();
    for mode in modes.chars() {
        match mode {
            '+' => set = true,
            '-' => set = false,
            mode => {
                let takes = matches!(mode, 'b' | 'e' | 'I' | 'k' | 'q' | 'o' | 'v') || (mode == 'l' && set);
                let param = if takes { params.next().cloned() } else { None };
                changes.push(Change { set, mode, param });
            }
        }
    }
    changes.truncate(MOST_CHANGES * 2);
    changes
}

/// The changes that were made, as one MODE line tells them.
#[derive(Default)]
struct Made {
    modes: String,
    set: Option<bool>,
    params: Vec<String>,
}

impl Made {
    fn push(&mut self, set: bool, mode: char, param: Option<String>) {
        if self.set != Some(set) {
            self.modes.push(if set { '+' } else { '-' });
            self.set = Some(set);
        }
        self.modes.push(mode);
        self.params.extend(param);
    }
}

impl Server {
    pub(super) fn mode(&mut self, id: ClientId, command: &Command) -> Asks {
        let target = command.get(0).unwrap_or_default();
        if channel_like(target) {
            return self.channel_mode(id, target, &command.params[1..]);
        }
        self.user_mode(id, target, &command.params[1..]);
        Vec::new()
    }

    fn user_mode(&mut self, id: ClientId, target: &str, words: &[String]) {
        let Some((pid, _)) = self.person_of(id) else { return };
        match self.person_named(target) {
            None => return self.numeric(id, "401", [target, "No such nick/channel"]),
            Some((other, _)) if other != pid => return self.numeric(id, "502", ["Cant change mode for other users"]),
            Some(_) => {}
        }
        let Some(person) = self.people.get_mut(&pid) else { return };
        if words.is_empty() {
            let modes = person.mode_word();
            return self.numeric(id, "221", [&modes]);
        }
        let (mut made, mut unknown) = (Made::default(), false);
        for change in read(words) {
            let flag = match change.mode {
                'i' => &mut person.invisible,
                'B' => &mut person.bot,
                // RFC 2812, section 3.1.5: nobody becomes an operator so, and nobody is told.
                'o' | 'O' => continue,
                _ => {
                    unknown = true;
                    continue;
                }
            };
            if *flag != change.set {
                *flag = change.set;
                made.push(change.set, change.mode, None);
            }
        }
        let nick = person.nick.clone();
        if unknown {
            self.numeric(id, "501", ["Unknown MODE flag"]);
        }
        if !made.modes.is_empty() {
            let msg = self.said_by(pid, "MODE").arg(nick).arg(made.modes);
            for client in self.clients_of(pid) {
                self.send(client, msg.clone());
            }
        }
    }

    fn channel_mode(&mut self, id: ClientId, name: &str, words: &[String]) -> Asks {
        let Some((pid, standing, shown)) = self.place(id, name) else { return Vec::new() };
        let key = fold(name);
        if words.is_empty() {
            let Some(channel) = self.channels.get(&key) else { return Vec::new() };
            let (modes, created) = (channel.mode_words(standing.is_some()), channel.created.seconds().to_string());
            let mut msg = self.own_msg("324").arg(self.nick_of(id)).arg(shown.clone());
            msg.params.extend(modes);
            self.send(id, msg);
            self.numeric(id, "329", [&shown, &created]);
            return Vec::new();
        }
        let mut asks = Vec::new();
        let mut made = Made::default();
        let mut with_params = 0;
        for change in read(words) {
            if !"beIiklmnoqstv".contains(change.mode) {
                self.numeric(id, "472", [&change.mode.to_string(), "is unknown mode char to me"]);
                continue;
            }
            if "beI".contains(change.mode) && change.param.as_ref().is_none_or(String::is_empty) {
                self.show_list(id, &key, change.mode, standing.is_some());
                continue;
            }
            let Some(standing) = standing else {
                self.numeric(id, "442", [&shown, "You're not on that channel"]);
                return asks;
            };
            if !standing.may_operate() {
                self.numeric(id, "482", [&shown, "You're not channel operator"]);
                break;
            }
            with_params += usize::from(change.param.is_some());
            if with_params > MOST_CHANGES {
                break;
            }
            if let Some(change) = self.checked(id, &shown, change) {
                match self.apply(id, pid, &key, &change, &mut made) {
                    Ok(ask) => asks.extend(ask),
                    Err((numeric, text)) => self.numeric(id, numeric, [&shown, text]),
                }
            }
        }
        if !made.modes.is_empty() {
            let mut msg = self.said_by(pid, "MODE").arg(shown).arg(made.modes);
            msg.params.extend(made.params);
            self.tell_channel(&key, &msg, None, Caps::NONE);
        }
        asks
    }

    /// The change with a good parameter; tells the client where it is none.
    fn checked(&mut self, id: ClientId, shown: &str, mut change: Change) -> Option<Change> {
        let param = change.param.clone().unwrap_or_default();
        let mode = change.mode.to_string();
        match change.mode {
            'k' if change.set => {
                if param.is_empty() {
                    self.numeric(id, "461", ["MODE", "Not enough parameters"]);
                    return None;
                }
                if param.len() > names::KEY || param.contains([' ', ',', ':']) || param.chars().any(char::is_control) {
                    self.numeric(id, "525", [shown, "Key is not well-formed"]);
                    return None;
                }
            }
            'l' if change.set => match param.parse::<u32>() {
                Ok(most) if most > 0 => change.param = Some(most.to_string()),
                _ if param.is_empty() => {
                    self.numeric(id, "461", ["MODE", "Not enough parameters"]);
                    return None;
                }
                _ => {
                    let given = if param.contains(' ') { "*" } else { &param };
                    self.numeric(id, "696", [shown, &mode, given, "The limit is a number greater than 0"]);
                    return None;
                }
            },
            'o' | 'v' | 'q' if param.is_empty() => {
                self.numeric(id, "461", ["MODE", "Not enough parameters"]);
                return None;
            }
            'b' | 'e' | 'I' => {
                if param.contains([' ', '\0']) || param.len() > 200 || param.starts_with(':') {
                    self.numeric(id, "696", [shown, &mode, "*", "That is no mask"]);
                    return None;
                }
                change.param = Some(full_mask(&param));
            }
            _ => {}
        }
        Some(change)
    }

    /// Makes a change, or says what to ask of the host for it.
    fn apply(
        &mut self,
        id: ClientId,
        pid: PersonId,
        key: &str,
        change: &Change,
        made: &mut Made,
    ) -> Result<Option<Ask>, (&'static str, &'static str)> {
        let (set, mode, now) = (change.set, change.mode, self.now);
        let param = change.param.clone().unwrap_or_default();
        let by = self.people.get(&pid).map_or_else(String::new, |person| person.mask());
        let own = self.people.get(&pid).is_some_and(|person| person.account.is_some());
        let Some(channel) = self.channels.get(key) else { return Ok(None) };
        let (group, shown) = (channel.group.is_some(), channel.name.clone());
        let standing = channel.standing(pid).unwrap_or_default();
        if "oqv".contains(mode) {
            let found =
                self.person_named(&param).map(|(target, person)| (target, person.nick.clone(), person.account.clone()));
            let Some((target, nick, account)) = found else {
                self.numeric(id, "401", [&param, "No such nick/channel"]);
                return Ok(None);
            };
            let Some(theirs) = self.channels.get(key).and_then(|channel| channel.standing(target)) else {
                self.numeric(id, "441", [&nick, &shown, "They aren't on that channel"]);
                return Ok(None);
            };
            if let Some(member) = account.filter(|_| group) {
                let now = if theirs.founder {
                    Rank::Founder
                } else if theirs.operator {
                    Rank::Operator
                } else if theirs.voice {
                    Rank::Voice
                } else {
                    Rank::Member
                };
                let rank = match (mode, set) {
                    ('q', true) => Rank::Founder,
                    ('o', true) => now.max(Rank::Operator),
                    ('v', true) => now.max(Rank::Voice),
                    ('q', false) if now == Rank::Founder => Rank::Operator,
                    ('o', false) if now == Rank::Operator => Rank::Member,
                    ('v', false) if now == Rank::Voice => Rank::Member,
                    _ => now,
                };
                if rank == now {
                    return Ok(None);
                }
                if !own {
                    return Err(("482", "Only members with an account give ranks in a group"));
                }
                return Ok(Some(Ask::Change { group: shown, change: GroupChange::Rank { member, rank } }));
            }
            if group && mode != 'v' {
                return Err(("482", "Who has no account can't be operator of a group"));
            }
            if mode == 'q' && !standing.founder {
                return Err(("482", "You're not channel founder"));
            }
            let Some(theirs) = self.channels.get_mut(key).and_then(|channel| channel.members.get_mut(&target)) else {
                return Ok(None);
            };
            let flag = match mode {
                'q' => &mut theirs.founder,
                'o' => &mut theirs.operator,
                _ => &mut theirs.voice,
            };
            if *flag != set {
                *flag = set;
                made.push(set, mode, Some(nick));
            }
            return Ok(None);
        }
        if group {
            if !own {
                return Err(("482", "Only members with an account change the modes of a group"));
            }
            let same = match mode {
                'b' | 'e' | 'I' => {
                    let there = channel
                        .lists
                        .get(&mode)
                        .is_some_and(|masks| masks.iter().any(|(known, ..)| fold(known) == fold(&param)));
                    there == set
                }
                _ => match channel.modes.get(&mode) {
                    Some(old) => set && (*old == param || !"kl".contains(mode)),
                    None => !set,
                },
            };
            if same {
                return Ok(None);
            }
            let change = if "beI".contains(mode) {
                GroupChange::List { add: set, mode, mask: param }
            } else {
                let parameter = Some(param).filter(|param| set && !param.is_empty());
                GroupChange::Mode { set, mode, parameter }
            };
            return Ok(Some(Ask::Change { group: shown, change }));
        }
        let Some(channel) = self.channels.get_mut(key) else { return Ok(None) };
        match mode {
            'b' | 'e' | 'I' => {
                if set && channel.lists.get(&mode).is_some_and(|masks| masks.len() >= MOST_MASKS) {
                    self.numeric(id, "478", [&shown, &param, &mode.to_string(), "Channel list is full"]);
                    return Ok(None);
                }
                let changed =
                    if set { channel.add_mask(mode, &param, &by, now) } else { channel.remove_mask(mode, &param) };
                if changed {
                    made.push(set, mode, Some(param));
                }
            }
            'k' | 'l' if set => {
                if channel.modes.insert(mode, param.clone()).as_ref() != Some(&param) {
                    made.push(true, mode, Some(param));
                }
            }
            'k' => {
                if let Some(old) = channel.modes.remove(&'k') {
                    made.push(false, 'k', Some(old));
                }
            }
            _ if set => {
                if channel.modes.insert(mode, String::new()).is_none() {
                    made.push(true, mode, None);
                }
            }
            _ => {
                if channel.modes.remove(&mode).is_some() {
                    made.push(false, mode, None);
                }
            }
        }
        Ok(None)
    }

    fn show_list(&mut self, id: ClientId, key: &str, list: char, member: bool) {
        let (item, end, text) = match list {
            'b' => ("367", "368", "End of channel ban list"),
            'e' => ("348", "349", "End of channel exception list"),
            _ => ("346", "347", "End of channel invite list"),
        };
        let Some(channel) = self.channels.get(key) else { return };
        let shown = channel.name.clone();
        let masks = channel.lists.get(&list).cloned().unwrap_or_default();
        if member || !channel.has('s') {
            for (mask, by, at) in masks {
                self.numeric(id, item, [&shown, &mask, &by, &at.seconds().to_string()]);
            }
        }
        self.numeric(id, end, [&shown, text]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_take_their_parameters() {
        let words = ["+ob-l+k", "ann", "*!*@x", "key"].map(String::from);
        let change = |set, mode, param: Option<&str>| Change { set, mode, param: param.map(String::from) };
        let expected = [
            change(true, 'o', Some("ann")),
            change(true, 'b', Some("*!*@x")),
            change(false, 'l', None),
            change(true, 'k', Some("key")),
        ];
        assert_eq!(read(&words), expected);
        assert_eq!(read(&["b".into()]), [change(true, 'b', None)]);
    }
}
