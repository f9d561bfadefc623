//! Addresses: typed, always valid, one spelling in each client world.
//!
//! No address holds a control character, so none can make a second header, command or line wherever it is written.

mod domain;
mod irc;
mod other;
mod suspicion;

#[cfg(test)]
mod tests;

pub use domain::{Domain, HostName};
pub use irc::{CaseMapping, IrcAddress};
pub(crate) use irc::{spell, unspell};
pub use other::{NetworkName, OtherAddress};
pub use suspicion::Suspicion;

use std::fmt;
use std::str::FromStr;
use unicode_normalization::UnicodeNormalization;

/// Where a message comes from or goes to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Address {
    /// A mailbox on the Internet.
    Mail(MailAddress),
    /// A nick or channel on an IRC network.
    Irc(IrcAddress),
    /// A user of a Mesyx exchange.
    Mesyx(MesyxAddress),
    /// Someone or something on a network without a kind of its own.
    Other(OtherAddress),
}

/// The kinds of addresses, by the network that they belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
#[non_exhaustive]
pub enum AddressKind {
    /// [`Address::Mail`].
    Mail,
    /// [`Address::Irc`].
    Irc,
    /// [`Address::Mesyx`].
    Mesyx,
    /// [`Address::Other`] on this network.
    Other(NetworkName),
}

impl FromStr for AddressKind {
    type Err = AddressError;

    /// Reads `mail`, `irc`, `mesyx`, or the name of another network.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        Ok(match text {
            "mail" => Self::Mail,
            "irc" => Self::Irc,
            "mesyx" => Self::Mesyx,
            _ => Self::Other(NetworkName::new(text)?),
        })
    }
}

impl From<AddressKind> for String {
    fn from(kind: AddressKind) -> String {
        kind.to_string()
    }
}

impl TryFrom<String> for AddressKind {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl fmt::Display for AddressKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mail => f.write_str("mail"),
            Self::Irc => f.write_str("irc"),
            Self::Mesyx => f.write_str("mesyx"),
            Self::Other(network) => network.fmt(f),
        }
    }
}

impl Address {
    /// Which kind it is.
    #[must_use]
    pub const fn kind(&self) -> AddressKind {
        match self {
            Self::Mail(_) => AddressKind::Mail,
            Self::Irc(_) => AddressKind::Irc,
            Self::Mesyx(_) => AddressKind::Mesyx,
            Self::Other(address) => AddressKind::Other(address.network()),
        }
    }

    /// The mail address, where it is one.
    #[must_use]
    pub const fn as_mail(&self) -> Option<&MailAddress> {
        match self {
            Self::Mail(address) => Some(address),
            _ => None,
        }
    }

    /// What about the address could make a reader take it for another one, if anything: see [`Suspicion`].
    ///
    /// # Examples
    /// ```
    /// use mesyx_sdk::{Address, address::Suspicion};
    /// let address: Address = "ann@\u{440}aypal.example".parse()?;
    /// assert_eq!(address.suspicious(), Some(Suspicion::MixedScripts));
    /// # Ok::<(), mesyx_sdk::AddressError>(())
    /// ```
    #[must_use]
    pub fn suspicious(&self) -> Option<Suspicion> {
        match self {
            Self::Mail(address) => suspicion::of_mail(address),
            Self::Irc(address) => suspicion::of_name(address.name()),
            Self::Mesyx(address) => suspicion::of_mail(&address.user),
            Self::Other(address) => suspicion::of_name(address.name()),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    /// Reads what `Display` writes: `local@domain`, `irc:NETWORK/NAME` (the name folded already), `mesyx:local@domain`,
    /// `NETWORK:NAME` for any other network.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(user) = text.strip_prefix("mesyx:") {
            return Ok(Self::Mesyx(MesyxAddress { user: user.parse()? }));
        }
        if let Some(irc) = text.strip_prefix("irc:") {
            return irc.parse().map(Self::Irc);
        }
        // A mail address has a colon only in quotes or in an address literal, and neither of them follows a bare word.
        match text.split_once(':') {
            Some((network, name)) if NetworkName::new(network).is_ok() => {
                OtherAddress::new(NetworkName::new(network)?, name).map(Self::Other)
            }
            _ => text.parse().map(Self::Mail),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mail(address) => address.fmt(f),
            Self::Irc(address) => address.fmt(f),
            Self::Mesyx(address) => address.fmt(f),
            Self::Other(address) => address.fmt(f),
        }
    }
}

impl From<OtherAddress> for Address {
    fn from(address: OtherAddress) -> Self {
        Self::Other(address)
    }
}

impl From<MailAddress> for Address {
    fn from(address: MailAddress) -> Self {
        Self::Mail(address)
    }
}

impl From<IrcAddress> for Address {
    fn from(address: IrcAddress) -> Self {
        Self::Irc(address)
    }
}

/// The text is not an address: why, in one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an address: {0}")]
pub struct AddressError(pub(crate) &'static str);

/// A mail address: `Mailbox` of RFC 5321, section 4.1.2, with the UTF-8 of RFC 6531, section 3.3.
///
/// Never holds a control character. Two spellings of one address compare equal: quoting that is not needed, the case
/// of the domain, and A-label against U-label make no difference. The local part is kept in Unicode's NFC, so that a letter
/// typed with a combining accent is the same letter, and in the case it came in: only the host of a mailbox knows
/// whether case matters there (RFC 5321, section 2.4). Who looks up an address of ours folds it first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailAddress {
    local: String,
    domain: Domain,
}

impl MailAddress {
    /// Longest local part, in bytes (RFC 5321, section 4.5.3.1.1).
    pub const MAX_LOCAL: usize = 64;
    /// Longest address as it stands in a path, in bytes (RFC 5321, section 4.5.3.1.3).
    pub const MAX_LENGTH: usize = 254;

    /// An address from an unquoted local part and a domain.
    ///
    /// # Errors
    /// Where the local part is empty, too long, or has a control character.
    pub fn new(local: &str, domain: Domain) -> Result<Self, AddressError> {
        let local: String = local.nfc().collect();
        if local.is_empty() {
            return Err(AddressError("the part before the @ is empty"));
        }
        if local.len() > Self::MAX_LOCAL {
            return Err(AddressError("the part before the @ is longer than 64 bytes"));
        }
        if local.chars().any(char::is_control) {
            return Err(AddressError("it has a control character"));
        }
        let address = Self { local, domain };
        if address.to_string().len() > Self::MAX_LENGTH {
            return Err(AddressError("it is longer than 254 bytes"));
        }
        Ok(address)
    }

    /// The local part, without quotes.
    #[must_use]
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The domain.
    #[must_use]
    pub const fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Whether it needs SMTPUTF8 (RFC 6531): the local part has characters beyond ASCII.
    #[must_use]
    pub fn needs_utf8(&self) -> bool {
        !self.local.is_ascii()
    }
}

impl FromStr for MailAddress {
    type Err = AddressError;

    /// Reads `local@domain`, `"quoted local"@domain` and `local@[address literal]`; no comments, routes or display names.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.len() > 2 * Self::MAX_LENGTH {
            return Err(AddressError("it is longer than 254 bytes"));
        }
        if let Some(rest) = text.strip_prefix('"') {
            let (local, rest) = unquote(rest)?;
            let domain = rest.strip_prefix('@').ok_or(AddressError("no @ after the quoted part"))?;
            return Self::new(&local, domain.parse()?);
        }
        let (local, domain) = text.split_once('@').ok_or(AddressError("there is no @"))?;
        if !is_dot_string(local) {
            return Err(AddressError("the part before the @ has characters that must be quoted"));
        }
        Self::new(local, domain.parse()?)
    }
}

impl fmt::Display for MailAddress {
    /// As RFC 5321 writes it: quoted only where that is needed, the domain as A-labels.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_string(&self.local) {
            return write!(f, "{}@{}", self.local, self.domain);
        }
        f.write_str("\"")?;
        for c in self.local.chars() {
            if matches!(c, '"' | '\\') {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        write!(f, "\"@{}", self.domain)
    }
}

impl fmt::Debug for MailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{self}>")
    }
}

/// Reads up to the closing quote of a `Quoted-string`; returns the content and what follows.
fn unquote(text: &str) -> Result<(String, &str), AddressError> {
    let mut content = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((content, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, escaped)) if escaped == ' ' || escaped.is_ascii_graphic() => content.push(escaped),
                _ => return Err(AddressError("a backslash quotes nothing")),
            },
            _ => content.push(c),
        }
    }
    Err(AddressError("a quote is not closed"))
}

/// `Dot-string` of RFC 5321, section 4.1.2, with UTF-8.
fn is_dot_string(text: &str) -> bool {
    let atext =
        |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || (!c.is_ascii() && !c.is_control());
    text.split('.').all(|atom| !atom.is_empty() && atom.chars().all(atext))
}

/// A user of a Mesyx exchange, by the exchange's domain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MesyxAddress {
    /// The user's main mail address stands for the user.
    pub user: MailAddress,
}

impl fmt::Display for MesyxAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mesyx:{}", self.user)
    }
}
