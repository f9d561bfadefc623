//! What the modes, lists and ranks of a group allow. No store and no clock.

use super::Now;
use mesyx_sdk::address::CaseMapping;
use mesyx_sdk::{Error, ErrorKind, Rank, UserId};

/// Longest key, in bytes.
const KEY: usize = 64;
/// Longest mask, in bytes.
const MASK: usize = 200;

pub(super) fn forbidden(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::Forbidden, text)
}

/// Somebody as the masks of lists see them.
pub(super) struct Who<'a> {
    pub(super) nick: &'a str,
    pub(super) domain: &'a str,
}

impl Who<'_> {
    /// `nick!user@host`; of users of ours the nick is the user too, and the host is the exchange.
    fn mask(&self) -> String {
        format!("{}!{}@{}", self.nick, self.nick, self.domain)
    }
}

impl Now {
    fn on_list(&self, letter: char, who: &Who<'_>) -> bool {
        let name = who.mask();
        self.fields.lists.get(&letter).is_some_and(|masks| masks.iter().any(|(mask, ..)| matches(&whole(mask), &name)))
    }

    /// A ban, unless an exception covers it.
    fn banned(&self, who: &Who<'_>) -> bool {
        self.on_list('b', who) && !self.on_list('e', who)
    }

    fn has(&self, mode: char) -> bool {
        self.fields.modes.contains_key(&mode)
    }

    /// Whether somebody may join.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`]; the text has the mode in brackets.
    pub(super) fn may_join(&self, user: UserId, who: &Who<'_>, key: Option<&str>) -> Result<(), Error> {
        let name = &self.group.name;
        if self.fields.invited.contains(&user) {
            return Ok(());
        }
        if self.banned(who) {
            return Err(forbidden(format!("cannot join {name} (+b): you are banned")));
        }
        if self.has('i') && !self.on_list('I', who) {
            return Err(forbidden(format!("cannot join {name} (+i): it is for those who are invited")));
        }
        if let Some(wanted) = self.fields.modes.get(&'k') {
            // The key keeps honest people out; the time that comparing takes tells who is logged in little.
            if key != Some(wanted) {
                return Err(forbidden(format!("cannot join {name} (+k): the key is wrong")));
            }
        }
        let limit = self.fields.modes.get(&'l').and_then(|limit| limit.parse::<usize>().ok());
        if limit.is_some_and(|limit| self.members.len() >= limit) {
            return Err(forbidden(format!("cannot join {name} (+l): it is full")));
        }
        Ok(())
    }

    /// Whether somebody may speak; `None` is a guest.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`]; the text has the mode in brackets.
    pub(super) fn may_speak(&self, user: Option<UserId>, who: &Who<'_>) -> Result<(), Error> {
        let name = &self.group.name;
        let rank = user.and_then(|user| self.members.get(&user).copied());
        if rank.is_some_and(|rank| rank >= Rank::Voice) {
            return Ok(());
        }
        if user.is_some() && rank.is_none() && self.has('n') {
            return Err(forbidden(format!("cannot send to {name} (+n): join it first")));
        }
        if self.has('m') {
            return Err(forbidden(format!("cannot send to {name} (+m): it is moderated")));
        }
        if self.banned(who) {
            return Err(forbidden(format!("cannot send to {name} (+b): you are banned")));
        }
        Ok(())
    }

    /// A member's rank.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for who does not belong to the group.
    pub(super) fn rank(&self, user: UserId) -> Result<Rank, Error> {
        let text = format!("you do not belong to {}: join it first", self.group.name);
        self.members.get(&user).copied().ok_or_else(|| Error::new(ErrorKind::NotFound, text))
    }

    /// # Errors
    /// [`ErrorKind::Forbidden`] for who is no operator.
    pub(super) fn operator(&self, user: UserId) -> Result<Rank, Error> {
        match self.rank(user)? {
            rank if rank >= Rank::Operator => Ok(rank),
            _ => Err(forbidden(format!("you are not an operator of {}", self.group.name))),
        }
    }

    /// # Errors
    /// [`ErrorKind::Forbidden`] where only operators change the topic, and this is none.
    pub(super) fn may_set_topic(&self, user: UserId) -> Result<(), Error> {
        let rank = self.rank(user)?;
        if self.has('t') && rank < Rank::Operator {
            return Err(forbidden(format!("only operators of {} change its topic (+t)", self.group.name)));
        }
        Ok(())
    }

    /// # Errors
    /// [`ErrorKind::Forbidden`] where only operators invite, and this is none.
    pub(super) fn may_invite(&self, user: UserId) -> Result<(), Error> {
        let rank = self.rank(user)?;
        if self.has('i') && rank < Rank::Operator {
            return Err(forbidden(format!("only operators of {} invite (+i)", self.group.name)));
        }
        Ok(())
    }

    /// Whether `user` may do something to `other`: operators to all but the founder.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`].
    pub(super) fn over(&self, user: UserId, other: UserId) -> Result<Rank, Error> {
        let rank = self.operator(user)?;
        if user != other && self.members.get(&other) == Some(&Rank::Founder) && rank < Rank::Founder {
            return Err(forbidden(format!("the founder of {} is nobody's to change", self.group.name)));
        }
        Ok(rank)
    }
}

/// A mode with its parameter, as it is kept.
///
/// # Errors
/// [`ErrorKind::Invalid`], with what is wrong.
pub(super) fn mode(letter: char, set: bool, parameter: Option<&str>) -> Result<String, Error> {
    let invalid = |why: String| Err(Error::new(ErrorKind::Invalid, why));
    match (letter, set) {
        ('i' | 'm' | 'n' | 's' | 't', _) | ('k' | 'l', false) => Ok(String::new()),
        ('k', true) => match parameter {
            Some(key)
                if (1..=KEY).contains(&key.len())
                    && !key.contains([' ', ',', '\0', '\r', '\n'])
                    && !key.starts_with(':') =>
            {
                Ok(key.to_owned())
            }
            _ => invalid("a key has 1 to 64 bytes without blanks and commas".to_owned()),
        },
        ('l', true) => match parameter.and_then(|limit| limit.parse::<u32>().ok()) {
            Some(limit) if limit > 0 => Ok(limit.to_string()),
            _ => invalid("a limit is a number above 0".to_owned()),
        },
        _ => invalid(format!("there is no mode {letter}: the modes are i k l m n s t, the lists b e I")),
    }
}

/// A mask of a list, as it is kept: `nick` alone is `nick!*@*`.
///
/// # Errors
/// [`ErrorKind::Invalid`], with what is wrong.
pub(super) fn mask(letter: char, text: &str) -> Result<String, Error> {
    if !matches!(letter, 'b' | 'e' | 'I') {
        return Err(Error::new(ErrorKind::Invalid, format!("there is no list {letter}: the lists are b e I")));
    }
    let fits = |c: char| !c.is_control() && !c.is_whitespace() && c != ',';
    if text.is_empty() || text.len() > MASK || !text.chars().all(fits) || text.starts_with(':') {
        return Err(Error::new(ErrorKind::Invalid, "a mask has 1 to 200 bytes without blanks and commas"));
    }
    Ok(whole(text))
}

/// A mask with all its parts.
fn whole(mask: &str) -> String {
    match (mask.contains('!'), mask.contains('@')) {
        (true, true) => mask.to_owned(),
        (true, false) => format!("{mask}@*"),
        (false, true) => format!("*!{mask}"),
        (false, false) => format!("{mask}!*@*"),
    }
}

/// Whether a name matches a mask: `*` stands for any text, `?` for one character. Takes at most the product of both lengths.
fn matches(mask: &str, name: &str) -> bool {
    let fold = |text: &str| CaseMapping::Rfc1459.fold(text).chars().collect::<Vec<_>>();
    let (mask, name) = (fold(mask), fold(name));
    let (mut at, mut of) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while of < name.len() {
        match mask.get(at) {
            Some('*') => {
                star = Some((at, of));
                at += 1;
            }
            Some(c) if *c == '?' || *c == name[of] => {
                at += 1;
                of += 1;
            }
            _ => {
                let Some((from, reach)) = star else { return false };
                star = Some((from, reach + 1));
                at = from + 1;
                of = reach + 1;
            }
        }
    }
    mask[at..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::{mask, matches, mode};

    #[test]
    fn masks_match_as_on_irc() {
        for (mask, name, is) in [
            ("*!*@*", "bob!bob@example.org", true),
            ("BOB!*@*", "bob!bob@example.org", true),
            ("b?b!*@*.org", "bob!bob@example.org", true),
            ("b?b!*@*.com", "bob!bob@example.org", false),
            ("{x}!*@*", "[X]!x@y", true),
            ("*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
            ("", "x", false),
        ] {
            assert_eq!(matches(mask, name), is, "{mask} {name}");
        }
        assert_eq!(mask('b', "bob").ok().as_deref(), Some("bob!*@*"));
        assert_eq!(mask('I', "*@host").ok().as_deref(), Some("*!*@host"));
        assert!(mask('x', "bob").is_err() && mask('b', "a b").is_err());
    }

    #[test]
    fn modes_have_their_parameters() {
        assert_eq!(mode('l', true, Some("05")).ok().as_deref(), Some("5"));
        assert!(mode('l', true, Some("0")).is_err() && mode('k', true, None).is_err());
        assert!(mode('z', true, None).is_err() && mode('k', false, None).is_ok());
    }
}
