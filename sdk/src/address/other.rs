//! Names on networks that have no kind of address of their own here.

use super::{AddressError, Domain, MailAddress, irc};
use std::fmt;
use std::str::FromStr;
use unicode_normalization::UnicodeNormalization;

/// The name of a kind of network, such as `xmpp`: 1 to 16 lower-case letters, digits and `-` within.
///
/// A bridge that brings messages to such a network names it in [`crate::Manifest::delivers`], and the addresses that it
/// makes carry it. `mail`, `irc` and `mesyx` have kinds of their own and are no such names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkName {
    /// The name, filled up with zeros.
    bytes: [u8; Self::MAX],
}

impl NetworkName {
    /// Longest name, in bytes.
    pub const MAX: usize = 16;

    /// The name of a network.
    ///
    /// # Errors
    /// Where it is not of the form above.
    ///
    /// # Examples
    /// ```
    /// use mesyx_sdk::address::NetworkName;
    /// assert_eq!(NetworkName::new("xmpp")?.as_str(), "xmpp");
    /// assert!(NetworkName::new("XMPP").is_err());
    /// assert!(NetworkName::new("irc").is_err());
    /// # Ok::<(), mesyx_sdk::AddressError>(())
    /// ```
    pub fn new(name: &str) -> Result<Self, AddressError> {
        let label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let edge = name.starts_with('-') || name.ends_with('-');
        if name.is_empty() || name.len() > Self::MAX || edge || !name.bytes().all(label) {
            return Err(AddressError("a network's name has 1 to 16 lower-case letters, digits or - within"));
        }
        if matches!(name, "mail" | "irc" | "mesyx") {
            return Err(AddressError("mail, irc and mesyx have kinds of addresses of their own"));
        }
        let mut bytes = [0; Self::MAX];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Ok(Self { bytes })
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let end = self.bytes.iter().position(|&byte| byte == 0).unwrap_or(Self::MAX);
        // It was ASCII when it was made.
        str::from_utf8(&self.bytes[..end]).unwrap_or_default()
    }
}

impl fmt::Display for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Someone or something on a network that has no kind of address of its own here: `xmpp:juliet@capulet.example`.
///
/// Only the network's bridge knows what the name means. Where several spellings mean the same there, the bridge chooses
/// one and always gives that one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OtherAddress {
    network: NetworkName,
    name: String,
}

impl OtherAddress {
    /// Longest name, in bytes.
    pub const MAX_NAME: usize = 512;

    /// A name on a network, kept in Unicode's NFC.
    ///
    /// # Errors
    /// Where the name is empty, too long, or has a control character.
    pub fn new(network: NetworkName, name: &str) -> Result<Self, AddressError> {
        let name: String = name.nfc().collect();
        if name.is_empty() || name.len() > Self::MAX_NAME {
            return Err(AddressError("a name on a network has 1 to 512 bytes"));
        }
        if name.chars().any(char::is_control) {
            return Err(AddressError("it has a control character"));
        }
        Ok(Self { network, name })
    }

    /// The network.
    #[must_use]
    pub const fn network(&self) -> NetworkName {
        self.network
    }

    /// The name, as the network's bridge wrote it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address by which mail clients write to it: `NAME@NETWORK.x.DOMAIN`.
    ///
    /// ASCII lower-case letters, digits, `#`, `-`, `_` and single dots within (of a name in ASCII) stand for themselves; every other ASCII
    /// character is `=` with two hexadecimal digits. A name with characters beyond ASCII is then written in Punycode
    /// (RFC 3492) with `=u` in front. Each name has one such spelling, and each spelling one name.
    ///
    /// # Errors
    /// Where the spelling is over the 64 bytes of a local part, or the domain is a literal: such a name can't be written to by
    /// mail.
    ///
    /// # Examples
    /// ```
    /// use mesyx_sdk::Address;
    /// let juliet: Address = "xmpp:juliet@capulet.example".parse()?;
    /// let domain = "example.org".parse()?;
    /// let mail = mesyx_sdk::chat::to_mail(&juliet, &domain)?;
    /// assert_eq!(mail.to_string(), "juliet=40capulet.example@xmpp.x.example.org");
    /// assert_eq!(mesyx_sdk::chat::from_mail(&mail, &domain), Some(juliet));
    /// # Ok::<(), mesyx_sdk::AddressError>(())
    /// ```
    pub fn to_mail(&self, domain: &Domain) -> Result<MailAddress, AddressError> {
        let domain = domain.as_name().ok_or(AddressError("other networks have no address under an address literal"))?;
        let local = spell(&self.name).filter(|local| local.len() <= MailAddress::MAX_LOCAL);
        let local = local.ok_or(AddressError("the name is too long to be written as a mail address"))?;
        MailAddress::new(&local, format!("{}.x.{domain}", self.network).parse()?)
    }

    /// Reads the spelling of [`OtherAddress::to_mail`]; `None` for any other mail address. The case of the local part makes no
    /// difference.
    #[must_use]
    pub fn from_mail(address: &MailAddress, domain: &Domain) -> Option<Self> {
        let network = Self::network_of(address, domain)?;
        let local = address.local().to_ascii_lowercase();
        // Only what would be spelled so is read, so that no name has two spellings.
        let name = irc::unspell(&local).filter(|name| spell(name).is_some_and(|spelled| spelled == local))?;
        Self::new(network, &name).ok().filter(|address| address.name == name)
    }

    /// The network that a mail address is on, where it is under `x.DOMAIN`.
    #[must_use]
    pub fn network_of(address: &MailAddress, domain: &Domain) -> Option<NetworkName> {
        let network = address.domain().as_name()?.strip_suffix(domain.as_name()?)?.strip_suffix(".x.")?;
        NetworkName::new(network).ok()
    }
}

/// The local part for a name; `None` where Punycode can't write it.
fn spell(name: &str) -> Option<String> {
    let mut spelled = String::new();
    let mut characters = name.chars().peekable();
    while let Some(c) = characters.next() {
        // A dot that begins, ends or follows another one could not stand in a mail address without quotes. Punycode puts dots together
        // that had other characters between them.
        let dot = c == '.'
            && name.is_ascii()
            && !spelled.is_empty()
            && !spelled.ends_with('.')
            && characters.peek().is_some();
        if c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '#' | '-' | '_') || dot || !c.is_ascii() {
            spelled.push(c);
        } else {
            spelled.push_str(&format!("={:02x}", u32::from(c)));
        }
    }
    irc::as_ascii(spelled)
}

impl FromStr for OtherAddress {
    type Err = AddressError;

    /// Reads `NETWORK:NAME`.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (network, name) = text.split_once(':').ok_or(AddressError("there is no : after the network"))?;
        Self::new(NetworkName::new(network)?, name)
    }
}

impl fmt::Display for OtherAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.network, self.name)
    }
}
