//! Keys by Web Key Directory (draft-koch-openpgp-webkey-service-21, section 3.1): where a domain publishes those of its addresses.
//!
//! ```text
//!  openpgpkey.DOMAIN exists?  yes: https://openpgpkey.DOMAIN/.well-known/openpgpkey/DOMAIN/hu/HASH?l=LOCAL     (advanced)
//!                             no:  https://DOMAIN/.well-known/openpgpkey/hu/HASH?l=LOCAL                       (direct)
//! ```
//! Only HTTPS with a certificate of the host's name; what comes is bounded, and read by the core, which takes only certificates that
//! name the address.

use async_trait::async_trait;
use mesyx_core::pgp::{KeySource, LookupError};
use mesyx_core::published::wkd_hash;
use mesyx_net::{Dns, DnsConfig, Get, Https, HttpsConfig, HttpsError};
use mesyx_sdk::{Domain, MailAddress};
use std::fmt::Write as _;
use std::sync::Arc;

/// Longest answer, in bytes: what the core reads of certificates at once.
const LONGEST: usize = 256 << 10;
/// Directories are often a redirection away, at a provider's.
const REDIRECTS: u8 = 2;

/// Web Key Directories, asked over the network.
#[derive(Debug)]
pub(crate) struct WebKeys {
    https: Https,
}

/// Where the core looks for keys. Without certificate authorities to believe nobody can be asked, which the log says, and which
/// the operator may want to hold messages for.
pub(crate) fn source(dns: &DnsConfig, https: &HttpsConfig) -> Arc<dyn KeySource> {
    let made = Dns::new(dns).and_then(|dns| Https::new(https, dns).map_err(|error| error.to_string()));
    match made {
        Ok(https) => Arc::new(WebKeys { https }),
        Err(error) => {
            tracing::warn!(error, "keys of correspondents can't be looked for by WKD");
            Arc::new(Unable(error))
        }
    }
}

/// Nobody can be asked: why.
struct Unable(String);

#[async_trait]
impl KeySource for Unable {
    async fn find(&self, _: &MailAddress) -> Result<Option<Vec<u8>>, LookupError> {
        Err(LookupError(format!("this server can't ask: {}", self.0)))
    }
}

#[async_trait]
impl KeySource for WebKeys {
    async fn find(&self, address: &MailAddress) -> Result<Option<Vec<u8>>, LookupError> {
        let Domain::Name(domain) = address.domain() else { return Ok(None) };
        let domain = domain.to_string();
        let file = format!("hu/{}?l={}", wkd_hash(address.local()), escaped(address.local()));
        let advanced = format!("openpgpkey.{domain}");
        match self.get(&advanced, &format!("/.well-known/openpgpkey/{domain}/{file}")).await {
            // Only where there is no such host: otherwise who can disturb it would choose the method.
            Err(Missing::Host) => {}
            Err(Missing::Failed(why)) => return Err(LookupError(why)),
            Ok(found) => return Ok(found),
        }
        match self.get(&domain, &format!("/.well-known/openpgpkey/{file}")).await {
            Err(Missing::Host) => Ok(None),
            Err(Missing::Failed(why)) => Err(LookupError(why)),
            Ok(found) => Ok(found),
        }
    }
}

/// Why a directory says nothing.
enum Missing {
    /// There is no such host.
    Host,
    /// It could not be asked: why.
    Failed(String),
}

impl WebKeys {
    async fn get(&self, host: &str, path: &str) -> Result<Option<Vec<u8>>, Missing> {
        let get = Get { host, path, max_bytes: LONGEST, redirects: REDIRECTS };
        match self.https.get(&get).await {
            Ok(fetched) => match fetched.status {
                200 if fetched.body.is_empty() => Ok(None),
                200 => Ok(Some(fetched.body)),
                // Too many requests, a gateway's timeout, its own errors: neither yes nor no.
                408 | 425 | 429 | 500.. => Err(Missing::Failed(format!("{host} answered {}", fetched.status))),
                _ => Ok(None),
            },
            Err(HttpsError::Dns(error)) if error.is_final() => Err(Missing::Host),
            // A host on a private network is none that others could ask.
            Err(HttpsError::Private(_)) => Err(Missing::Host),
            Err(error) => Err(Missing::Failed(error.to_string())),
        }
    }
}

/// A local part in a query (RFC 3986, section 2.1).
fn escaped(local: &str) -> String {
    let mut out = String::with_capacity(local.len());
    for byte in local.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_authorities_every_lookup_fails() {
        let roots = Some(std::path::PathBuf::from("/nowhere/roots.pem"));
        let source = source(&DnsConfig::default(), &HttpsConfig { roots, ..HttpsConfig::default() });
        let found = source.find(&"bob@example.net".parse().unwrap()).await;
        assert!(found.is_err_and(|error| error.0.contains("/nowhere/roots.pem")));
    }

    #[test]
    fn local_parts_are_escaped() {
        assert_eq!(escaped("Joe.Doe"), "Joe.Doe");
        assert_eq!(escaped("a&b=c d/é"), "a%26b%3Dc%20d%2F%C3%A9");
    }
}
