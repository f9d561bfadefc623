//! What DNS says, beside what it should say.

use super::records::{Data, Record, Zone};
use mesyx_net::{Dns, DnsError};
use serde::Serialize;

/// How a record does in DNS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub(crate) enum Found {
    /// As it should be.
    Right,
    /// Something else stands there.
    Other {
        /// What.
        found: Vec<String>,
    },
    /// Nothing stands there.
    Missing,
    /// It can't be told now.
    Unknown {
        /// Why.
        why: String,
    },
}

/// A record and how it does.
#[derive(Debug, Serialize)]
pub(crate) struct Compared {
    /// What should be there.
    #[serde(flatten)]
    pub(crate) record: Record,
    /// What is.
    pub(crate) dns: Found,
}

/// Looks all records of a zone up, one after the other. Records that others have added beside ours are no difference, but a
/// second policy of one kind is (SPF, DMARC, MTA-STS, TLS-RPT): which of two holds is not defined.
pub(crate) async fn compare(zone: &Zone, dns: &Dns, hostname: &str) -> Vec<Compared> {
    let mut compared = Vec::new();
    for record in &zone.records {
        let found = look_up(record, dns, hostname).await;
        compared.push(Compared { record: record.clone(), dns: found });
    }
    compared
}

async fn look_up(record: &Record, dns: &Dns, hostname: &str) -> Found {
    let name = record.name.as_str();
    match &record.data {
        Data::Mx(_, host) => settle(dns.mx(name).await.map(|found| {
            let hosts: Vec<String> = found.records.into_iter().map(|mx| mx.host).collect();
            (hosts.contains(host), hosts)
        })),
        Data::Txt(text) => settle(dns.txt(name).await.map(|found| {
            // The first word names the kind: v=spf1, v=DMARC1;
            let kind = text.split_ascii_whitespace().next().unwrap_or_default();
            let same: Vec<String> = found.records.into_iter().filter(|other| other.starts_with(kind)).collect();
            (same.len() == 1 && same_text(&same[0], text), same)
        })),
        Data::Srv { target, port, .. } => settle(dns.srv(name).await.map(|found| {
            let right = found.records.iter().any(|srv| srv.host == *target && (srv.port == *port || target.is_empty()));
            (right, found.records.into_iter().map(|srv| format!("{} {}", srv.port, srv.host)).collect())
        })),
        Data::Tlsa(digest) => settle(dns.tlsa(name).await.map(|found| {
            let right = found
                .records
                .iter()
                .any(|tlsa| (tlsa.usage, tlsa.selector, tlsa.matching) == (3, 1, 1) && tlsa.data == *digest);
            let shown = found.records.iter().map(|tlsa| {
                let data: String = tlsa.data.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("{} {} {} {data}", tlsa.usage, tlsa.selector, tlsa.matching)
            });
            (right, shown.collect())
        })),
        // Whether by an alias or by addresses of its own, it must lead to this host.
        Data::Cname(_) => {
            let ours = match dns.addresses(hostname).await {
                Ok(ours) => ours.ips,
                Err(error) => return Found::Unknown { why: error.to_string() },
            };
            settle(dns.addresses(name).await.map(|found| {
                let right = found.ips.iter().all(|ip| ours.contains(ip));
                (right, found.ips.iter().map(ToString::to_string).collect())
            }))
        }
    }
    .unless_optional(record)
}

/// DKIM keys are published as providers of DNS write them: white space means nothing there.
fn same_text(one: &str, other: &str) -> bool {
    let bare = |text: &str| text.chars().filter(|c| !c.is_ascii_whitespace()).collect::<String>();
    bare(one).trim_end_matches(';') == bare(other).trim_end_matches(';')
}

fn settle(answer: Result<(bool, Vec<String>), DnsError>) -> Found {
    match answer {
        Ok((true, _)) => Found::Right,
        Ok((false, found)) if found.is_empty() => Found::Missing,
        Ok((false, found)) => Found::Other { found },
        Err(error) if error.is_final() => Found::Missing,
        Err(error) => Found::Unknown { why: error.to_string() },
    }
}

impl Found {
    /// That a service is not offered need not be said.
    fn unless_optional(self, record: &Record) -> Self {
        let says_nothing = matches!(&record.data, Data::Srv { target, .. } if target.is_empty());
        if says_nothing && self == Self::Missing { Self::Right } else { self }
    }

    /// In words.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Right => "right".to_owned(),
            Self::Missing => "missing".to_owned(),
            Self::Other { found } => format!("differs: {}", found.join(" | ")),
            Self::Unknown { why } => format!("unknown: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_compared_without_white_space() {
        assert!(same_text("v=DKIM1;k=rsa; p=AB CD;", "v=DKIM1; k=rsa; p=ABCD"));
        assert!(!same_text("v=spf1 mx -all", "v=spf1 mx ~all"));
    }
}
