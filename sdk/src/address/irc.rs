//! Names on IRC networks, and how mail clients write them.

use super::{AddressError, Domain, MailAddress};
use std::fmt;
use std::str::FromStr;

/// How a network compares names (`CASEMAPPING` of its `RPL_ISUPPORT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CaseMapping {
    /// `ascii`: the letters A to Z.
    Ascii,
    /// `rfc1459`: A to Z, and `[ ] \ ~` as the upper case of `{ } | ^` (RFC 2812, section 2.2).
    Rfc1459,
    /// `rfc1459-strict` (`strict-rfc1459`): A to Z, and `[ ] \` as the upper case of `{ } |`.
    Rfc1459Strict,
}

impl CaseMapping {
    /// The name in lower case.
    #[must_use]
    pub fn fold(self, name: &str) -> String {
        let fold = |c: char| match (c, self) {
            ('[', Self::Rfc1459 | Self::Rfc1459Strict) => '{',
            (']', Self::Rfc1459 | Self::Rfc1459Strict) => '}',
            ('\\', Self::Rfc1459 | Self::Rfc1459Strict) => '|',
            ('~', Self::Rfc1459) => '^',
            _ => c.to_ascii_lowercase(),
        };
        name.chars().map(fold).collect()
    }
}

impl FromStr for CaseMapping {
    type Err = AddressError;

    /// Reads the value of `CASEMAPPING`.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text {
            "ascii" => Ok(Self::Ascii),
            "rfc1459" => Ok(Self::Rfc1459),
            "rfc1459-strict" | "strict-rfc1459" => Ok(Self::Rfc1459Strict),
            _ => Err(AddressError("the case mapping is none of ascii, rfc1459, rfc1459-strict")),
        }
    }
}

/// A nick or a channel on a configured IRC network, folded by the network's case mapping.
///
/// In the mail world it is spelled `NAME@NETWORK.irc.DOMAIN`; see [`IrcAddress::to_mail`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IrcAddress {
    network: String,
    name: String,
}

impl IrcAddress {
    /// Longest name, in bytes: what networks allow for channels (`CHANNELLEN`) is 50 to 64.
    pub const MAX_NAME: usize = 64;
    /// Longest name of a network, in bytes: it is one label of a domain.
    pub const MAX_NETWORK: usize = 63;

    /// A name on a network. A channel begins with `#`, `&`, `+` or `!`; any other name is a nick.
    ///
    /// # Errors
    /// Where the network's configured name is not a label of letters, digits and `-`; where the name could be taken for
    /// more than one name, a mask or another parameter on an IRC line (RFC 2812, sections 2.3.1 and 3.3.1), or is too long.
    pub fn new(network: &str, name: &str, casemapping: CaseMapping) -> Result<Self, AddressError> {
        Self::folded(network.to_ascii_lowercase(), casemapping.fold(name))
    }

    fn folded(network: String, name: String) -> Result<Self, AddressError> {
        let label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let edge = network.starts_with('-') || network.ends_with('-');
        if network.is_empty() || network.len() > Self::MAX_NETWORK || edge || !network.bytes().all(label) {
            return Err(AddressError("the network's name must have 1 to 63 letters, digits or - within"));
        }
        if name.is_empty() || name.len() > Self::MAX_NAME {
            return Err(AddressError("a name on IRC has 1 to 64 bytes"));
        }
        if name.starts_with(':') || name.chars().any(|c| c.is_control() || c == ' ' || c == ',') {
            return Err(AddressError("a name on IRC has no blank, comma or control character, and no : in front"));
        }
        if !is_channel(&name) && name.contains(['!', '@', '*', '?', '$', '%', '#', '&', '+', '.', ':']) {
            return Err(AddressError("a nick has none of ! @ * ? $ % # & + . :"));
        }
        Ok(Self { network, name })
    }

    /// The network's name in the configuration, in lower case.
    #[must_use]
    pub fn network(&self) -> &str {
        &self.network
    }

    /// The nick or channel, folded.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is a channel.
    #[must_use]
    pub fn is_channel(&self) -> bool {
        is_channel(&self.name)
    }

    /// The address by which mail clients write to it: `NAME@NETWORK.irc.DOMAIN`.
    ///
    /// Of the folded name, ASCII letters, digits, `#`, `-` and `_` stand for themselves; every other ASCII character is
    /// `=` with two hexadecimal digits. A name with characters beyond ASCII is then written in Punycode (RFC 3492) with `=u`
    /// in front, so that it needs no SMTPUTF8. Each name has one such spelling, and each spelling one name.
    ///
    /// | on `libera` | in mail |
    /// | --- | --- |
    /// | `#rust` | `#rust@libera.irc.example.org` |
    /// | `#c++` | `#c=2b=2b@libera.irc.example.org` |
    /// | `#Bücher` | `=u#bcher-4ya@libera.irc.example.org` |
    ///
    /// # Errors
    /// Where the spelling is over the 64 bytes of a local part, or the domain is a literal: such a channel can't be
    /// written to by mail.
    pub fn to_mail(&self, domain: &Domain) -> Result<MailAddress, AddressError> {
        let domain = domain.as_name().ok_or(AddressError("IRC names have no address under an address literal"))?;
        let local = spell(&self.name).filter(|local| local.len() <= MailAddress::MAX_LOCAL);
        let local = local.ok_or(AddressError("the IRC name is too long to be written as a mail address"))?;
        MailAddress::new(&local, format!("{}.irc.{domain}", self.network).parse()?)
    }

    /// The network that a mail address is on, where it is under `irc.DOMAIN`.
    #[must_use]
    pub fn network_of<'a>(address: &'a MailAddress, domain: &Domain) -> Option<&'a str> {
        let network = address.domain().as_name()?.strip_suffix(domain.as_name()?)?.strip_suffix(".irc.")?;
        (!network.is_empty() && !network.contains('.')).then_some(network)
    }

    /// Reads the spelling of [`IrcAddress::to_mail`]; the case of the local part makes no difference.
    ///
    /// # Errors
    /// Where the address is not under `irc.DOMAIN`, or is not the spelling of a name.
    pub fn from_mail(address: &MailAddress, domain: &Domain, casemapping: CaseMapping) -> Result<Self, AddressError> {
        let network =
            Self::network_of(address, domain).ok_or(AddressError("it is not under the domain of IRC names"))?;
        let local = address.local().to_ascii_lowercase();
        // Only what would be spelled so is read, so that no name has two spellings.
        let name = unspell(&local).filter(|name| spell(name).is_some_and(|spelled| spelled == local));
        Self::new(network, &name.ok_or(AddressError("it is not the spelling of an IRC name"))?, casemapping)
    }
}

fn is_channel(name: &str) -> bool {
    name.starts_with(['#', '&', '+', '!'])
}

const PUNYCODE: &str = "=u";

/// The local part for a name; `None` where Punycode can't write it.
pub(crate) fn spell(name: &str) -> Option<String> {
    let mut spelled = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() || matches!(c, '#' | '-' | '_') || !c.is_ascii() {
            spelled.push(c);
        } else {
            spelled.push_str(&format!("={:02x}", u32::from(c)));
        }
    }
    as_ascii(spelled)
}

/// A spelling in Punycode, where it has characters beyond ASCII.
pub(super) fn as_ascii(spelled: String) -> Option<String> {
    if spelled.is_ascii() {
        return Some(spelled);
    }
    Some(format!("{PUNYCODE}{}", idna::punycode::encode_str(&spelled)?))
}

/// The name that a local part stands for.
pub(crate) fn unspell(local: &str) -> Option<String> {
    let decoded = local.strip_prefix(PUNYCODE).map(idna::punycode::decode_to_string);
    let spelled = decoded.unwrap_or_else(|| Some(local.to_owned()))?;
    let mut pieces = spelled.split('=');
    let mut name = pieces.next()?.to_owned();
    for piece in pieces {
        let code = u8::from_str_radix(piece.get(..2)?, 16).ok().filter(u8::is_ascii)?;
        name.push(char::from(code));
        name.push_str(&piece[2..]);
    }
    Some(name)
}

impl FromStr for IrcAddress {
    type Err = AddressError;

    /// Reads `NETWORK/NAME`, with the name folded already.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (network, name) = text.split_once('/').ok_or(AddressError("there is no / after the network"))?;
        if network.bytes().chain(name.bytes()).any(|byte| byte.is_ascii_uppercase()) {
            return Err(AddressError("an IRC name is kept in lower case"));
        }
        Self::folded(network.to_owned(), name.to_owned())
    }
}

impl fmt::Display for IrcAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "irc:{}/{}", self.network, self.name)
    }
}
