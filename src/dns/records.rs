//! The records of a domain.

use super::keys::PublicKey;
use crate::config::check::Checked;
use crate::config::http::{Announce, Service};
use crate::tls;
use mesyx_bridge_smtp::dkim::{Algorithm, KeyState};
use serde::Serialize;
use std::fmt;

/// A domain's records.
#[derive(Debug, Serialize)]
pub(crate) struct Zone {
    /// The domain, in A-labels.
    pub(crate) domain: String,
    /// What to publish.
    pub(crate) records: Vec<Record>,
    /// What can't be written as a record here, in sentences.
    pub(crate) hints: Vec<String>,
}

/// A record to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its name, in A-labels without the final dot.
    pub(crate) name: String,
    /// What it says.
    pub(crate) data: Data,
    /// What it is for, in one line.
    pub(crate) purpose: &'static str,
}

/// What a record says. Names have no final dot; the empty name is the root, which says that there is no such service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Data {
    /// A mail exchanger.
    Mx(u16, String),
    /// A text, in whatever pieces it must be written.
    Txt(String),
    /// Another name of a host.
    Cname(String),
    /// Where a service is (RFC 2782).
    Srv {
        /// Lower is preferred.
        priority: u16,
        /// Its port.
        port: u16,
        /// Its host.
        target: String,
    },
    /// SHA-256 of a public key, `3 1 1` (RFC 6698).
    Tlsa(Vec<u8>),
}

impl Data {
    /// The type's name.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Mx(..) => "MX",
            Self::Txt(_) => "TXT",
            Self::Cname(_) => "CNAME",
            Self::Srv { .. } => "SRV",
            Self::Tlsa(_) => "TLSA",
        }
    }
}

/// As a zone file has it (RFC 1035, section 5.1), names absolute.
impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mx(preference, host) => write!(f, "{preference} {host}."),
            Self::Txt(text) => {
                // A string holds 255 bytes at most; the pieces are read as one.
                for (index, piece) in text.as_bytes().chunks(255).enumerate() {
                    f.write_str(if index > 0 { " \"" } else { "\"" })?;
                    for byte in piece {
                        match byte {
                            b'"' | b'\\' => write!(f, "\\{}", char::from(*byte))?,
                            b' '..=b'~' => write!(f, "{}", char::from(*byte))?,
                            byte => write!(f, "\\{byte:03}")?,
                        }
                    }
                    f.write_str("\"")?;
                }
                Ok(())
            }
            Self::Cname(host) => write!(f, "{host}."),
            Self::Srv { priority, port, target } => {
                write!(f, "{priority} {} {port} {target}.", u8::from(!target.is_empty()))
            }
            Self::Tlsa(digest) => {
                f.write_str("3 1 1 ")?;
                digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

/// Seconds for which others may remember a record: an hour, so that a mistake is soon gone.
pub(crate) const TTL: u32 = 3600;

/// As a line of a zone file.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. {TTL} IN {} {}", self.name, self.data.kind(), self.data)
    }
}

impl Serialize for Record {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut fields = serializer.serialize_struct("Record", 6)?;
        fields.serialize_field("name", &self.name)?;
        fields.serialize_field("type", self.data.kind())?;
        fields.serialize_field("ttl", &TTL)?;
        let value = match &self.data {
            Data::Txt(text) => text.clone(),
            other => other.to_string(),
        };
        fields.serialize_field("value", &value)?;
        fields.serialize_field("zone", &self.to_string())?;
        fields.serialize_field("purpose", self.purpose)?;
        fields.end()
    }
}

/// The records of `domain`. `servers` are those that mail programs are told of, under names that hold for everybody.
pub(crate) fn of(domain: &str, checked: &Checked, keys: &[PublicKey], servers: &[Announce]) -> Zone {
    let mut zone = Zone { domain: domain.to_owned(), records: Vec::new(), hints: Vec::new() };
    let host = checked.core.hostname.as_str();
    zone.add(domain, Data::Mx(10, host.to_owned()), "where mail for the domain goes");
    zone.senders(domain, host);
    zone.dkim(domain, keys);
    zone.add(
        &format!("_dmarc.{domain}"),
        Data::Txt(format!("v=DMARC1; p=quarantine; rua=mailto:postmaster@{domain}")),
        "what others do with mail that only pretends to be from the domain (DMARC); p=none first where others send for it too",
    );
    zone.add(
        &format!("_smtp._tls.{domain}"),
        Data::Txt(format!("v=TLSRPTv1; rua=mailto:postmaster@{domain}")),
        "where others report trouble with TLS on the way to us",
    );
    zone.pages(domain, checked);
    zone.services(domain, servers);
    zone.tlsa(domain, checked);
    zone.hints(domain, host);
    zone
}

impl Zone {
    fn add(&mut self, name: &str, data: Data, purpose: &'static str) {
        self.records.push(Record { name: name.to_owned(), data, purpose });
    }

    /// SPF (RFC 7208), for the domain, and for the host, which names itself in EHLO and in notices.
    fn senders(&mut self, domain: &str, host: &str) {
        let spf = "who may send for the domain (SPF); add include:HOST for a smart host";
        self.add(domain, Data::Txt("v=spf1 mx -all".to_owned()), spf);
        if host != domain && host.ends_with(&format!(".{domain}")) {
            self.add(host, Data::Txt("v=spf1 a -all".to_owned()), "the same for the host's own name");
        }
    }

    fn dkim(&mut self, domain: &str, keys: &[PublicKey]) {
        let mut found = false;
        for key in keys.iter().filter(|key| key.domain == domain) {
            found = true;
            let name = format!("{}._domainkey.{domain}", key.selector);
            let hash = match key.algorithm {
                Algorithm::RsaSha256 => " h=sha256;",
                Algorithm::Ed25519Sha256 => "",
            };
            let text = format!("v=DKIM1; k={};{hash} p={}", key.algorithm.key_type(), key.public);
            let purpose = match key.state {
                KeyState::Active => "verifies our signatures (DKIM)",
                KeyState::Next => "will verify our signatures once it is made active: publish it before that",
                KeyState::Retired => "verifies signatures of mail that is still on its way; drop it after a week",
            };
            self.add(&name, Data::Txt(text), purpose);
        }
        if !found {
            self.hints.push(format!("{domain} has no DKIM keys: make them with `mesyx dns keys add {domain}`"));
        }
    }

    /// What the pages for others need; see `http` in the configuration.
    fn pages(&mut self, domain: &str, checked: &Checked) {
        let (host, http) = (checked.core.hostname.as_str(), &checked.http);
        if !http.is_served() {
            self.hints.push(
                "WKD, MTA-STS and settings for mail programs need http.listeners in the configuration; records for them are left out"
                    .to_owned(),
            );
            return;
        }
        let alias = |label: &str| (format!("{label}.{domain}"), Data::Cname(host.to_owned()));
        if let Some(policy) = &http.policy {
            let text = format!("v=STSv1; id={};", policy.id);
            self.add(
                &format!("_mta-sts.{domain}"),
                Data::Txt(text),
                "that there is a policy on TLS to us (MTA-STS), and which",
            );
            let (name, data) = alias("mta-sts");
            self.add(&name, data, "where the policy is");
        }
        if http.wkd {
            let (name, data) = alias("openpgpkey");
            self.add(&name, data, "where users' OpenPGP certificates are (WKD)");
        }
        if http.autoconfig {
            for (label, purpose) in
                [("autoconfig", "settings for Thunderbird and others"), ("autodiscover", "settings for Outlook")]
            {
                let (name, data) = alias(label);
                self.add(&name, data, purpose);
            }
            let data = Data::Srv { priority: 0, port: 443, target: host.to_owned() };
            self.add(
                &format!("_autodiscover._tcp.{domain}"),
                data,
                "settings for Outlook, where there is no such host",
            );
        }
    }

    /// RFC 6186 and RFC 8314: each service where it is, or that there is none.
    fn services(&mut self, domain: &str, servers: &[Announce]) {
        for service in [Service::Submissions, Service::Submission, Service::Imaps, Service::Imap] {
            let name = format!("_{}._tcp.{domain}", service.name());
            let mut offered = false;
            for server in servers.iter().filter(|server| server.service == service) {
                offered = true;
                let priority = match service {
                    Service::Imaps | Service::Submissions => 0,
                    Service::Imap | Service::Submission => 10,
                };
                let data = Data::Srv { priority, port: server.port, target: server.host.clone() };
                self.add(&name, data, "where mail programs find their server");
            }
            if !offered {
                self.absent(&name);
            }
        }
        self.absent(&format!("_pop3._tcp.{domain}"));
        self.absent(&format!("_pop3s._tcp.{domain}"));
    }

    fn absent(&mut self, name: &str) {
        self.add(name, Data::Srv { priority: 0, port: 0, target: String::new() }, "that there is no such service");
    }

    /// DANE for SMTP (RFC 7672), where the host's name is below the domain.
    fn tlsa(&mut self, domain: &str, checked: &Checked) {
        let host = checked.core.hostname.as_str();
        let below = host == domain || host.ends_with(&format!(".{domain}"));
        let Ok(certificates) = checked.certificates() else { return };
        let fitting = certificates.0.iter().find(|identity| tls::covers(&identity.names, host));
        let Some(certificate) = fitting.or(certificates.0.first()).and_then(|identity| identity.chain.first()) else {
            return;
        };
        if let (true, Some(digest)) = (below, tls::key_digest(certificate)) {
            let purpose = "our certificate's key (DANE): only where the zone is signed with DNSSEC; a new key must stand here before it is used";
            self.add(&format!("_25._tcp.{host}"), Data::Tlsa(digest), purpose);
        }
    }

    fn hints(&mut self, domain: &str, host: &str) {
        self.hints.push(format!("{host} needs A and AAAA records with this host's addresses"));
        self.hints.push(format!("each of these addresses needs a PTR record that names {host}; its provider sets it"));
        if host != domain && !host.ends_with(&format!(".{domain}")) {
            self.hints.push(format!("records of {host} itself (SPF, TLSA) are with the domain that it is in"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_and_quoted() {
        let shown = Data::Txt(format!("{}\"\\é", "a".repeat(255))).to_string();
        assert_eq!(shown, format!("\"{}\" \"\\\"\\\\\\195\\169\"", "a".repeat(255)));
        assert_eq!(Data::Txt(String::new()).to_string(), "");
        assert_eq!(Data::Srv { priority: 0, port: 0, target: String::new() }.to_string(), "0 0 0 .");
    }
}
