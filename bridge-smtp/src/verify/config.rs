//! The table `bridge.smtp.verify`: as written, and checked.

use crate::proxy::Network;
use mesyx_sdk::{ConfigErrors, Domain};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::time::Duration;

/// What is checked of mail from other hosts.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct VerifyConfig {
    /// What is done where the domain in From denies the message by its DMARC policy. honour: what the policy says, refuse or file as
    /// junk; a message with two From fields is refused. report: it is written into Authentication-Results, and that is all. off: neither
    /// SPF nor DKIM, DMARC or ARC are looked at.
    pub dmarc: DmarcMode,
    /// Mailing lists and forwarders, by the domain that their ARC seals bear, whose word is taken where DMARC fails because of what they
    /// changed. Empty: nobody's.
    pub trusted_sealers: Vec<String>,
    /// Peers whose mail is not checked, as networks: a relay of your own in front of this host, behind which the true sender
    /// can't be seen. Loopback is this machine itself.
    pub exempt: Vec<String>,
    /// Seconds that questions to DNS may take for one message; what has no answer then counts as not known. 20 is far below what
    /// senders wait for (10 minutes).
    #[schemars(range(min = 1, max = 120))]
    pub seconds: u32,
    /// Questions to DNS for one message. SPF alone may take 10 records with 10 hosts each; real messages take 10 to 20.
    #[schemars(range(min = 10, max = 1000))]
    pub lookups: u32,
    /// DKIM signatures of one message that are looked at, those of the domain in From first. Real messages have up to 4.
    #[schemars(range(min = 1, max = 50))]
    pub signatures: u32,
    /// Largest number of ARC sets in a message. RFC 8617 allows 50; each is a question to DNS and a signature to verify.
    #[schemars(range(min = 1, max = 50))]
    pub arc_sets: u32,
    /// Letting unknown senders wait before their first message is taken.
    pub greylist: GreylistConfig,
    /// How much one network may send.
    pub rate: RateConfig,
}

/// What is done where DMARC fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DmarcMode {
    /// What the domain's policy says.
    #[default]
    Honour,
    /// It is told, and nothing more.
    Report,
    /// Nothing is checked.
    Off,
}

/// Greylisting (RFC 6647): who comes with a sender, recipient and network that were not seen together before is asked to come again.
/// Kept in memory as keyed hashes, and forgotten at a restart.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GreylistConfig {
    /// Off by default: it delays the first message of everybody, and DMARC stops most of what it would.
    pub enabled: bool,
    /// Seconds after which it is taken. 300 is what most senders wait before they try again.
    #[schemars(range(min = 1, max = 86_400))]
    pub delay_seconds: u32,
    /// Days for which it is remembered after the last message. 35 has room for what comes once a month.
    #[schemars(range(min = 1, max = 366))]
    pub days: u32,
    /// How many are remembered; the oldest go beyond. 100,000 take some 5 MB.
    #[schemars(range(min = 100, max = 10_000_000))]
    pub entries: u32,
}

/// How much one network (an IPv4 /24, an IPv6 /64) may send. Over it, it is asked to come again (451).
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RateConfig {
    /// Messages a minute; 0 sets no limit. Off by default: large providers send from few networks.
    pub messages_per_minute: u32,
    /// Recipients a minute; 0 sets no limit. It slows down whoever tries out addresses.
    pub recipients_per_minute: u32,
}

impl Default for VerifyConfig {
    fn default() -> Self {
        Self {
            dmarc: DmarcMode::Honour,
            trusted_sealers: Vec::new(),
            exempt: vec!["127.0.0.0/8".to_owned(), "::1/128".to_owned()],
            seconds: 20,
            lookups: 100,
            signatures: 10,
            arc_sets: 20,
            greylist: GreylistConfig::default(),
            rate: RateConfig::default(),
        }
    }
}

impl Default for GreylistConfig {
    fn default() -> Self {
        Self { enabled: false, delay_seconds: 300, days: 35, entries: 100_000 }
    }
}

/// A table that can be followed.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    pub(crate) mode: DmarcMode,
    /// In lower-case A-labels.
    pub(crate) trusted_sealers: Vec<String>,
    exempt: Vec<Network>,
    pub(crate) time: Duration,
    pub(crate) lookups: u32,
    pub(crate) signatures: usize,
    pub(crate) arc_sets: usize,
    pub(crate) greylist: GreylistConfig,
    pub(crate) rate: RateConfig,
}

impl Checked {
    /// Whether mail from there is neither checked nor slowed down.
    pub(crate) fn exempts(&self, ip: IpAddr) -> bool {
        self.exempt.iter().any(|network| network.contains(ip))
    }
}

impl VerifyConfig {
    /// Checks the values, with every error noted.
    pub(crate) fn check(&self, errors: &mut ConfigErrors) -> Checked {
        let mut within = |name: &str, value: u32, least: u32, most: u32| {
            if !(least..=most).contains(&value) {
                let fix = format!("write a number from {least} to {most}");
                errors.push(format!("verify.{name}"), format!("{value} is out of range"), fix);
            }
        };
        within("seconds", self.seconds, 1, 120);
        within("lookups", self.lookups, 10, 1000);
        within("signatures", self.signatures, 1, 50);
        within("arc_sets", self.arc_sets, 1, 50);
        within("greylist.delay_seconds", self.greylist.delay_seconds, 1, 86_400);
        within("greylist.days", self.greylist.days, 1, 366);
        within("greylist.entries", self.greylist.entries, 100, 10_000_000);
        let mut exempt = Vec::new();
        for (index, text) in self.exempt.iter().enumerate() {
            match text.parse() {
                Ok(network) => exempt.push(network),
                Err(_) => {
                    let (path, what) = (format!("verify.exempt[{index}]"), format!("'{text}' is no network"));
                    errors.push(path, what, "write it as 192.0.2.0/24 or 2001:db8::/32");
                }
            }
        }
        let mut trusted_sealers = Vec::new();
        for (index, text) in self.trusted_sealers.iter().enumerate() {
            match text.parse::<Domain>() {
                Ok(Domain::Name(name)) => trusted_sealers.push(name.to_string()),
                _ => {
                    let path = format!("verify.trusted_sealers[{index}]");
                    errors.push(path, format!("'{text}' is no domain name"), "write it as lists.example.org");
                }
            }
        }
        Checked {
            mode: self.dmarc,
            trusted_sealers,
            exempt,
            time: Duration::from_secs(self.seconds.into()),
            lookups: self.lookups,
            signatures: self.signatures as usize,
            arc_sets: self.arc_sets as usize,
            greylist: self.greylist.clone(),
            rate: self.rate.clone(),
        }
    }
}
