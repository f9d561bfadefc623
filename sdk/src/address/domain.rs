//! Where a mail address lives.

use super::AddressError;
use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::str::FromStr;

/// A host name in lower-case ASCII (A-labels): labels of letters, digits, `-` and `_`, at most 253 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

impl Deref for HostName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for HostName {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The part of a mail address behind the `@`: a host name, kept as lower-case A-labels, or an address literal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Domain {
    /// A host name.
    Name(HostName),
    /// An address literal (RFC 5321, section 4.1.3).
    Literal(IpAddr),
}

impl Domain {
    /// The domain as people write it, with U-labels where they are safe to show: not where a label looks like another one.
    #[must_use]
    pub fn to_unicode(&self) -> String {
        match self {
            Self::Name(name) => match idna::domain_to_unicode(name) {
                (unicode, Ok(())) if super::suspicion::of_domain(&unicode).is_none() => unicode,
                _ => name.to_string(),
            },
            Self::Literal(_) => self.to_string(),
        }
    }

    /// The host name in ASCII, where it is no literal.
    #[must_use]
    pub fn as_name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::Literal(_) => None,
        }
    }
}

impl FromStr for Domain {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(literal) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let v6 = literal.get(..5).filter(|tag| tag.eq_ignore_ascii_case("IPv6:")).map(|_| &literal[5..]);
            let ip = match v6 {
                Some(v6) => v6.parse().map(IpAddr::V6).ok(),
                None => literal.parse().map(IpAddr::V4).ok(),
            };
            return ip.map(Self::Literal).ok_or(AddressError("what stands in [ ] is no IP address"));
        }
        if text.is_empty() {
            return Err(AddressError("the part after the @ is empty"));
        }
        let ascii = idna::domain_to_ascii(text).map_err(|_| AddressError("the part after the @ is no domain name"))?;
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        if ascii.len() > 253 || !ascii.split('.').all(label) {
            return Err(AddressError("the part after the @ is no domain name"));
        }
        Ok(Self::Name(HostName(ascii)))
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Literal(IpAddr::V4(ip)) => write!(f, "[{ip}]"),
            Self::Literal(IpAddr::V6(ip)) => write!(f, "[IPv6:{ip}]"),
        }
    }
}
