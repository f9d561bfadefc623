//! Addresses: what is read prints as what reads the same, on one line; IRC names have one spelling in mail.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesyx_sdk::address::{CaseMapping, Domain, IrcAddress, MailAddress};
use mesyx_sdk::{Address, mime, summary::MailAddressee};

fuzz_target!(|data: &[u8]| {
    header(data);
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(address) = text.parse::<Address>() {
        let printed = address.to_string();
        assert!(!printed.chars().any(char::is_control));
        assert_eq!(printed.parse::<Address>(), Ok(address.clone()));
        let _ = address.suspicious();
    }
    let Ok(domain) = "example.org".parse::<Domain>() else { return };
    irc(text, &domain);
    let Ok(below) = "net.irc.example.org".parse() else { return };
    if let Ok(written) = MailAddress::new(text, below)
        && let Ok(address) = IrcAddress::from_mail(&written, &domain, CaseMapping::Ascii)
    {
        let spelled = address.to_mail(&domain).map(|address| address.local().to_owned());
        assert_eq!(spelled, Ok(written.local().to_ascii_lowercase()));
    }
});

fn irc(name: &str, domain: &Domain) {
    for casemapping in [CaseMapping::Ascii, CaseMapping::Rfc1459, CaseMapping::Rfc1459Strict] {
        let Ok(address) = IrcAddress::new("net", name, casemapping) else { continue };
        assert_eq!(address.to_string().parse(), Ok(Address::from(address.clone())));
        if let Ok(spelled) = address.to_mail(domain) {
            assert!(!spelled.needs_utf8());
            assert_eq!(IrcAddress::from_mail(&spelled, domain, casemapping), Ok(address));
        }
    }
}

/// Groups are opened and closed in turn, and what is given fits on one line.
fn header(value: &[u8]) {
    let mut in_group = false;
    for addressee in mime::addresses(value) {
        match addressee {
            MailAddressee::GroupStart(_) => assert!(!std::mem::replace(&mut in_group, true)),
            MailAddressee::GroupEnd => assert!(std::mem::replace(&mut in_group, false)),
            MailAddressee::Mailbox { name, route, local, domain } => {
                for text in [name.unwrap_or_default(), route.unwrap_or_default(), local, domain] {
                    assert!(!text.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
                }
            }
        }
    }
}
