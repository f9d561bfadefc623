//! What a server says it supports (`RPL_ISUPPORT`, numeric 005), and the modes that follow from it.

use mesyx_sdk::address::CaseMapping;
use std::collections::BTreeMap;

/// Most tokens that are kept: no server sends a third of it.
const MOST_TOKENS: usize = 256;

/// What a server said. Before it said anything, what RFC 1459 has.
#[derive(Debug, Clone, Default)]
pub struct Isupport {
    tokens: BTreeMap<String, String>,
}

/// What a channel mode takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModeKind {
    /// A list of masks: a parameter; without one the list is asked for.
    List,
    /// A parameter when set and when taken away.
    Always,
    /// A parameter when set.
    WhenSet,
    /// No parameter.
    Never,
    /// A rank of a member: a nick.
    Member,
}

/// One mode that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModeChange<'a> {
    /// Set, or taken away.
    pub set: bool,
    /// Its letter.
    pub mode: char,
    /// What it takes.
    pub kind: ModeKind,
    /// Its parameter.
    pub parameter: Option<&'a [u8]>,
}

impl Isupport {
    /// Takes in the tokens of one numeric 005: `KEY`, `KEY=VALUE`, `-KEY`.
    pub fn take<'a>(&mut self, tokens: impl IntoIterator<Item = &'a str>) {
        for token in tokens {
            if let Some(key) = token.strip_prefix('-') {
                self.tokens.remove(key);
                continue;
            }
            let (key, value) = token.split_once('=').unwrap_or((token, ""));
            if !key.is_empty() && (self.tokens.len() < MOST_TOKENS || self.tokens.contains_key(key)) {
                self.tokens.insert(key.to_owned(), unescape(value));
            }
        }
    }

    /// A token's value: empty where it has none, `None` where the server did not say it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.tokens.get(key).map(String::as_str)
    }

    /// A number, where the token has one that is greater than 0.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<usize> {
        self.get(key)?.parse().ok().filter(|number| *number > 0)
    }

    /// How names are compared; `rfc1459` unless the server names another that is known here.
    #[must_use]
    pub fn casemapping(&self) -> CaseMapping {
        self.get("CASEMAPPING").and_then(|value| value.parse().ok()).unwrap_or(CaseMapping::Rfc1459)
    }

    /// Whether a name is a channel's.
    #[must_use]
    pub fn is_channel(&self, name: &str) -> bool {
        name.starts_with(|c| self.get("CHANTYPES").unwrap_or("#&").contains(c))
    }

    /// The ranks of members, the highest first: mode letter and the sign before a nick.
    #[must_use]
    pub fn ranks(&self) -> Vec<(char, char)> {
        let value = self.get("PREFIX").unwrap_or("(ov)@+");
        match value.strip_prefix('(').and_then(|value| value.split_once(')')) {
            Some((modes, signs)) => modes.chars().zip(signs.chars()).collect(),
            None => Vec::new(),
        }
    }

    /// The bytes of a line with CR LF that this server takes, without tags: 512 unless it allows more.
    #[must_use]
    pub fn line_bytes(&self) -> usize {
        self.number("LINELEN").filter(|length| (512..=65_536).contains(length)).unwrap_or(512)
    }

    /// What a channel mode takes; `Never` for one that the server did not name.
    #[must_use]
    pub fn mode_kind(&self, mode: char) -> ModeKind {
        if self.ranks().iter().any(|(rank, _)| *rank == mode) {
            return ModeKind::Member;
        }
        let kinds = [ModeKind::List, ModeKind::Always, ModeKind::WhenSet, ModeKind::Never];
        let modes = self.get("CHANMODES").unwrap_or("b,k,l,imnpst");
        let found = modes.split(',').zip(kinds).find(|(modes, _)| modes.contains(mode));
        found.map_or(ModeKind::Never, |(_, kind)| kind)
    }

    /// Reads a change of channel modes: `+o-k` and its parameters. A letter whose parameter is missing has none.
    #[must_use]
    pub fn mode_changes<'a>(&self, modes: &str, parameters: &[&'a [u8]]) -> Vec<ModeChange<'a>> {
        let mut parameters = parameters.iter().copied();
        let mut set = true;
        let mut changes = Vec::new();
        for mode in modes.chars() {
            match mode {
                '+' => set = true,
                '-' => set = false,
                mode => {
                    let kind = self.mode_kind(mode);
                    let takes = match kind {
                        ModeKind::List | ModeKind::Always | ModeKind::Member => true,
                        ModeKind::WhenSet => set,
                        ModeKind::Never => false,
                    };
                    let parameter = if takes { parameters.next() } else { None };
                    changes.push(ModeChange { set, mode, kind, parameter });
                }
            }
        }
        changes
    }
}

/// `\xHH` stands for a byte that can't stand in a token.
fn unescape(value: &str) -> String {
    let mut clear = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, later)) = rest.split_first() {
        let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        match rest {
            [b'\\', b'x', a, b, after @ ..] if let Some(byte) = hex(&[*a, *b]) => {
                clear.push(byte);
                rest = after;
            }
            _ => {
                clear.push(*first);
                rest = later;
            }
        }
    }
    String::from_utf8_lossy(&clear).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn says_what_the_rfc_has_until_told_otherwise() {
        let mut server = Isupport::default();
        assert_eq!(server.casemapping(), CaseMapping::Rfc1459);
        assert!(server.is_channel("#a") && server.is_channel("&a") && !server.is_channel("+a"));
        assert_eq!(server.ranks(), [('o', '@'), ('v', '+')]);
        server.take(["CASEMAPPING=ascii", "PREFIX=(qaohv)~&@%+", "CHANTYPES=#", "NETWORK=A\\x20B\\x", "NICKLEN=30"]);
        assert_eq!(server.casemapping(), CaseMapping::Ascii);
        assert_eq!(server.ranks().len(), 5);
        assert!(!server.is_channel("&a"));
        assert_eq!(server.get("NETWORK").unwrap(), "A B\\x");
        assert_eq!(server.number("NICKLEN"), Some(30));
        server.take(["-NICKLEN"]);
        assert_eq!(server.number("NICKLEN"), None);
    }

    #[test]
    fn mode_changes_take_their_parameters() {
        let mut server = Isupport::default();
        server.take(["CHANMODES=beI,k,l,imnpst", "PREFIX=(ov)@+"]);
        let changes = server.mode_changes("+ol-kn+b", &[b"al", b"5", b"key", b"*!*@x"]);
        let seen: Vec<_> = changes.iter().map(|change| (change.set, change.mode, change.parameter)).collect();
        assert_eq!(
            seen,
            [
                (true, 'o', Some(&b"al"[..])),
                (true, 'l', Some(b"5")),
                (false, 'k', Some(b"key")),
                (false, 'n', None),
                (true, 'b', Some(b"*!*@x")),
            ]
        );
    }

    proptest! {
        #[test]
        fn any_tokens_are_taken(tokens in proptest::collection::vec("[-A-Z=(),@+a-z\\\\é]{0,20}", 0..400), modes in "[-+a-z]{0,30}") {
            let mut server = Isupport::default();
            server.take(tokens.iter().map(String::as_str));
            prop_assert!(server.tokens.len() <= MOST_TOKENS);
            let _ = server.mode_changes(&modes, &[b"x"]);
        }
    }
}
