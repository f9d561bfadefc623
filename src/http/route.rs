//! Which page a request is for. No input or output here.

use super::Site;
use mesyx_sdk::{Domain, MailAddress};

/// A page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Page {
    /// A user's certificate in the Web Key Directory.
    Certificate {
        /// Of which domain.
        domain: String,
        /// The hashed local part.
        hash: String,
    },
    /// The Web Key Directory's policy file.
    DirectoryPolicy,
    /// The MTA-STS policy (RFC 8461, section 3.2).
    MtaSts,
    /// Settings for Thunderbird and others.
    Autoconfig {
        /// Of which domain.
        domain: String,
    },
    /// Settings for Outlook; the address is in what is posted.
    Autodiscover,
    /// Settings for Apple's mail programs.
    AppleProfile {
        /// For whom.
        address: MailAddress,
    },
}

impl Page {
    /// Its name in metrics.
    pub(super) const fn label(&self) -> &'static str {
        match self {
            Self::Certificate { .. } => "wkd",
            Self::DirectoryPolicy => "wkd-policy",
            Self::MtaSts => "mta-sts",
            Self::Autoconfig { .. } => "autoconfig",
            Self::Autodiscover => "autodiscover",
            Self::AppleProfile { .. } => "apple",
        }
    }
}

/// What a name in `Host` stands for.
enum At<'a> {
    /// A domain of ours itself.
    Domain(&'a str),
    /// The host.
    Host,
    /// `LABEL.DOMAIN`, with one of the [`LABELS`].
    Label(&'static str, &'a str),
}

/// The names below a domain that pages are at.
pub(crate) const LABELS: [&str; 4] = ["openpgpkey", "mta-sts", "autoconfig", "autodiscover"];

/// Longest query that is looked at, in bytes: an address and its name.
const MAX_QUERY: usize = 2000;

/// The page for a request; `None` where there is none. `host` is as the client sent it, `path` and `query` still encoded.
pub(super) fn route(host: &str, path: &str, query: Option<&str>, site: &Site) -> Option<Page> {
    let at = place(host, site)?;
    let address = || asked_address(query).filter(|address| domain_of(address, site).is_some());
    let autoconfig = |domain: &str| Some(Page::Autoconfig { domain: domain.to_owned() });
    let page = match (&at, path) {
        (At::Label("mta-sts", _), "/.well-known/mta-sts.txt") => Page::MtaSts,
        (At::Label("openpgpkey", domain), path) => {
            let (named, rest) = path.strip_prefix("/.well-known/openpgpkey/")?.split_once('/')?;
            if !named.parse::<Domain>().is_ok_and(|named| named.as_name() == Some(domain)) {
                return None;
            }
            directory(domain, rest)?
        }
        (At::Domain(domain), path) if path.starts_with("/.well-known/openpgpkey/") => {
            directory(domain, path.strip_prefix("/.well-known/openpgpkey/")?)?
        }
        (At::Label("autoconfig", domain), "/mail/config-v1.1.xml")
        | (At::Label("autoconfig", domain), "/.well-known/autoconfig/mail/config-v1.1.xml")
        | (At::Domain(domain), "/.well-known/autoconfig/mail/config-v1.1.xml") => autoconfig(domain)?,
        (At::Host, "/mail/config-v1.1.xml" | "/.well-known/autoconfig/mail/config-v1.1.xml") => {
            autoconfig(domain_of(&address()?, site)?)?
        }
        (At::Host | At::Domain(_) | At::Label("autoconfig", _), "/mail/apple.mobileconfig") => {
            Page::AppleProfile { address: address()? }
        }
        (At::Host | At::Domain(_) | At::Label("autodiscover", _), path)
            if path.eq_ignore_ascii_case("/autodiscover/autodiscover.xml") =>
        {
            Page::Autodiscover
        }
        _ => return None,
    };
    let served = match page {
        Page::Certificate { .. } | Page::DirectoryPolicy => site.http.wkd,
        Page::MtaSts => site.http.policy.is_some(),
        Page::Autoconfig { .. } | Page::Autodiscover | Page::AppleProfile { .. } => site.http.autoconfig,
    };
    served.then_some(page)
}

fn place<'a>(host: &str, site: &'a Site) -> Option<At<'a>> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name).parse::<Domain>().ok()?;
    let name = name.as_name()?;
    let ours = |name: &str| site.domains.iter().find(|domain| *domain == name);
    if let Some(domain) = ours(name) {
        return Some(At::Domain(domain));
    }
    if name == site.hostname {
        return Some(At::Host);
    }
    let (first, rest) = name.split_once('.')?;
    let label = LABELS.into_iter().find(|label| *label == first)?;
    Some(At::Label(label, ours(rest)?))
}

/// A page of the Web Key Directory, below the part that names the method.
fn directory(domain: &str, rest: &str) -> Option<Page> {
    if rest == "policy" {
        return Some(Page::DirectoryPolicy);
    }
    let hash = rest.strip_prefix("hu/")?;
    let known = |byte: u8| b"ybndrfg8ejkmcpqxot1uwisza345h769".contains(&byte);
    let is_hash = hash.len() == 32 && hash.bytes().all(known);
    is_hash.then(|| Page::Certificate { domain: domain.to_owned(), hash: hash.to_owned() })
}

/// Which of our domains an address is in.
fn domain_of<'a>(address: &MailAddress, site: &'a Site) -> Option<&'a String> {
    site.domains.iter().find(|domain| address.domain().as_name() == Some(domain))
}

/// The `emailaddress` of a query. A plus sign stands for itself: mail programs encode what must be, and addresses have it.
fn asked_address(query: Option<&str>) -> Option<MailAddress> {
    let query = query.filter(|query| query.len() <= MAX_QUERY)?;
    let value = query.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == "emailaddress"))?.1;
    decode(value)?.parse().ok()
}

/// Undoes percent-encoding (RFC 3986, section 2.1); `None` where it is wrong or no UTF-8 comes out.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
            let (high, low) = (digit()?, digit()?);
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
