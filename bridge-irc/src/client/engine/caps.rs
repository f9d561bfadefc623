//! Capabilities that clients may ask for (IRCv3 `capability-negotiation`).

/// The capabilities that a client has, one bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Caps(u32);

macro_rules! caps {
    ($($constant:ident = $name:literal),* $(,)?) => {
        /// Every capability: its bit and its name, as `CAP LS` lists them.
        pub const ALL: &[(Caps, &str)] = &{
            let mut at = 0;
            [$(({ at += 1; Caps(1 << (at - 1)) }, $name)),*]
        };
        caps!(@each 0u32; $($constant)*);
    };
    (@each $at:expr; $constant:ident $($rest:ident)*) => {
        #[allow(missing_docs)]
        pub const $constant: Caps = Caps(1 << $at);
        caps!(@each $at + 1; $($rest)*);
    };
    (@each $at:expr;) => {};
}

caps! {
    ACCOUNT_NOTIFY = "account-notify",
    ACCOUNT_TAG = "account-tag",
    AWAY_NOTIFY = "away-notify",
    BATCH = "batch",
    CAP_NOTIFY = "cap-notify",
    CHGHOST = "chghost",
    CHATHISTORY = "draft/chathistory",
    EVENT_PLAYBACK = "draft/event-playback",
    READ_MARKER = "draft/read-marker",
    ECHO_MESSAGE = "echo-message",
    EXTENDED_JOIN = "extended-join",
    EXTENDED_MONITOR = "extended-monitor",
    INVITE_NOTIFY = "invite-notify",
    LABELED_RESPONSE = "labeled-response",
    MULTILINE = "draft/multiline",
    MESSAGE_TAGS = "message-tags",
    MULTI_PREFIX = "multi-prefix",
    NO_IMPLICIT_NAMES = "draft/no-implicit-names",
    SASL = "sasl",
    SERVER_TIME = "server-time",
    SETNAME = "setname",
    BOUNCER = "soju.im/bouncer-networks",
    BOUNCER_NOTIFY = "soju.im/bouncer-networks-notify",
    STANDARD_REPLIES = "standard-replies",
    USERHOST_IN_NAMES = "userhost-in-names",
}

impl Caps {
    /// None.
    pub const NONE: Self = Self(0);

    /// Whether all of `other` are among these.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These and `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These without `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Those of these that are among `other`.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The capability of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        ALL.iter().find(|(_, known)| *known == name).map(|(cap, _)| *cap)
    }

    /// The value of a capability as `CAP LS 302` tells it.
    #[must_use]
    pub const fn value(self) -> Option<&'static str> {
        match self {
            MULTILINE => Some(super::multiline::VALUE),
            SASL => Some("PLAIN"),
            _ => None,
        }
    }

    /// The names of these.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        ALL.iter().filter(move |(cap, _)| self.has(*cap)).map(|(_, name)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_bit_of_its_own() {
        let mut all = Caps::NONE;
        for (cap, name) in ALL {
            assert!(!all.has(*cap));
            all = all.with(*cap);
            assert_eq!(Caps::named(name), Some(*cap));
        }
        assert_eq!(Caps::named("userhost-in-names"), Some(USERHOST_IN_NAMES));
        assert_eq!(Caps::named("account-notify"), Some(ACCOUNT_NOTIFY));
    }
}
