//! Autocrypt (Level 1, version 1.1): the header that carries its sender's certificate.

use super::certificate;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mesyx_sdk::MailAddress;
use mesyx_sdk::mime;
use mesyx_sdk::summary::MailAddressee;
use openpgp::Cert;
use openpgp::packet::Packet;
use openpgp::policy::StandardPolicy;
use openpgp::serialize::MarshalInto;
use sequoia_openpgp as openpgp;

/// Longest header that is sent or believed, in bytes, with its name and folding.
const LONGEST: usize = 10 << 10;
/// Longest line of a header that we fold.
const LINE: usize = 76;

/// What a valid header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Autocrypt {
    /// See [`certificate::canonical`].
    pub(crate) address: String,
    /// `prefer-encrypt=mutual`.
    pub(crate) mutual: bool,
    /// The certificate's packets, not yet read.
    pub(crate) key: Vec<u8>,
}

/// The one address of the From field; `None` where there is none, or more than one.
pub(crate) fn author(header: &[u8]) -> Option<MailAddress> {
    let addresses = mime::addresses_in(header, "From").ok()?;
    let mut mailboxes = addresses.into_iter().filter_map(|addressee| match addressee {
        MailAddressee::Mailbox { local, domain, .. } => Some((local, domain)),
        _ => None,
    });
    let (local, domain) = mailboxes.next()?;
    if mailboxes.next().is_some() {
        return None;
    }
    MailAddress::new(std::str::from_utf8(&local).ok()?, std::str::from_utf8(&domain).ok()?.parse().ok()?).ok()
}

/// The one valid header of a message; none where there are several, where the message has not exactly one author, or where it is an
/// automatic answer. Its address is that of the author.
pub(crate) fn find(header: &[u8]) -> Option<Autocrypt> {
    // Most messages have none, and end here.
    if !mime::fields(header).any(|field| field.is("Autocrypt")) {
        return None;
    }
    if is_automatic(header) {
        return None;
    }
    let author = certificate::canonical(&author(header)?);
    let mut valid = mime::fields(header)
        .filter(|field| field.is("Autocrypt") && field.range.len() <= LONGEST)
        .filter_map(|field| parse(&mime::unfold(field.value)))
        .filter(|found| found.address == author);
    let found = valid.next()?;
    valid.next().is_none().then_some(found)
}

/// Answers of programs change nothing (they come without the header that their owner's program would send).
pub(crate) fn is_automatic(header: &[u8]) -> bool {
    mime::fields(header).any(|field| {
        let value = || String::from_utf8_lossy(&mime::unfold(field.value)).to_ascii_lowercase();
        (field.is("Auto-Submitted") && value().starts_with("auto-replied"))
            || (field.is("Content-Type") && value().starts_with("multipart/report"))
    })
}

/// Reads a header's value, unfolded. `None` where it is not valid: a critical attribute that is not known, an attribute twice, no address, no
/// key, or something behind the key.
fn parse(value: &[u8]) -> Option<Autocrypt> {
    let value = std::str::from_utf8(value).ok()?;
    let (mut address, mut mutual, mut key) = (None, None, None);
    let mut attributes = value.split(';').map(str::trim).peekable();
    while let Some(attribute) = attributes.next() {
        if attribute.is_empty() && attributes.peek().is_none() {
            break;
        }
        let (name, value) = attribute.split_once('=')?;
        if key.is_some() {
            return None;
        }
        let value = value.trim();
        match name.trim().to_ascii_lowercase().as_str() {
            "addr" if address.is_none() => address = Some(certificate::canonical(&value.parse::<MailAddress>().ok()?)),
            "prefer-encrypt" if mutual.is_none() => mutual = Some(value == "mutual"),
            "keydata" => {
                let digits: String = value.chars().filter(|c| !c.is_ascii_whitespace()).collect();
                key = Some(STANDARD.decode(digits).ok().filter(|key| !key.is_empty())?);
            }
            name if name.starts_with('_') => {}
            _ => return None,
        }
    }
    Some(Autocrypt { address: address?, mutual: mutual.unwrap_or(false), key: key? })
}

/// The header to send from an address, with its line end; `None` where the certificate is not usable now, or too long for it.
pub(crate) fn header(address: &MailAddress, identity: &Cert, mutual: bool) -> Option<Vec<u8>> {
    let key = STANDARD.encode(minimal(identity, address)?);
    let mut out = format!("Autocrypt: addr={address};");
    if mutual {
        out.push_str(" prefer-encrypt=mutual;");
    }
    out.push_str(" keydata=");
    for line in key.as_bytes().chunks(LINE) {
        out.push_str("\r\n ");
        out.push_str(std::str::from_utf8(line).unwrap_or_default());
    }
    out.push_str("\r\n");
    (out.len() <= LONGEST).then(|| out.into_bytes())
}

/// The least of a certificate that serves: primary key, one user id, one encryption subkey; the signing subkey too, where the primary
/// key does not sign itself, because our signatures could not be verified without it.
pub(crate) fn minimal(identity: &Cert, address: &MailAddress) -> Option<Vec<u8>> {
    let policy = StandardPolicy::new();
    let valid = identity.with_policy(&policy, None).ok()?;
    if matches!(valid.revocation_status(), openpgp::types::RevocationStatus::Revoked(_)) {
        return None;
    }
    valid.alive().ok()?;
    let address = certificate::canonical(address);
    let mut packets: Vec<Packet> = vec![valid.primary_key().key().clone().into()];
    if let Ok(direct) = valid.direct_key_signature()
        && valid.primary_key().key().version() == 6
    {
        packets.push(direct.clone().into());
    }
    let of_address = |user_id: &openpgp::packet::UserID| {
        let email = user_id.email().ok().flatten();
        email.and_then(|email| email.parse().ok()).is_some_and(|email| certificate::canonical(&email) == address)
    };
    let user_id = valid
        .userids()
        .revoked(false)
        .find(|user_id| of_address(user_id.userid()))
        .or_else(|| valid.primary_userid().ok());
    if let Some(user_id) = user_id {
        packets.push(user_id.userid().clone().into());
        packets.push(user_id.binding_signature().clone().into());
    }
    let keys = || valid.keys().subkeys().supported().alive().revoked(false);
    let newest = keys().for_transport_encryption().max_by_key(|key| key.key().creation_time())?;
    let signing = match valid.primary_key().for_signing() {
        true => None,
        false => keys().for_signing().max_by_key(|key| key.key().creation_time()),
    };
    for subkey in std::iter::once(newest).chain(signing) {
        packets.push(subkey.key().clone().into());
        packets.push(subkey.binding_signature().clone().into());
    }
    let mut out = Vec::with_capacity(1024);
    for packet in packets {
        out.extend(packet.to_vec().ok()?);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "YWJj ZGVm";

    fn message(lines: &str) -> Vec<u8> {
        format!("From: Ann <ann@Example.org>\r\nTo: bob@example.net\r\n{lines}Subject: x\r\n\r\nAutocrypt: addr=no\r\n")
            .into_bytes()
    }

    #[test]
    fn a_valid_header_is_read() {
        let found = find(&message(&format!(
            "Autocrypt: addr=Ann@example.ORG; prefer-encrypt=mutual; keydata=\r\n {KEY}\r\n\tZw==\r\n"
        )));
        let found = found.expect("valid");
        assert_eq!((found.address.as_str(), found.mutual, &found.key[..]), ("ann@example.org", true, &b"abcdefg"[..]));
        // Case of names, attributes that are not critical, other preferences, a semicolon at the end.
        for (line, mutual) in [
            (format!("Autocrypt: addr=ann@example.org;keydata={KEY}"), false),
            (
                format!("AUTOCRYPT: _x=1; addr=ann@example.org; _y; prefer-encrypt=never; keydata={KEY};")
                    .replace("_y; ", "_y=;"),
                false,
            ),
            (format!("Autocrypt: PREFER-ENCRYPT=mutual; ADDR=ann@example.org; KEYDATA={KEY}"), true),
        ] {
            let found = find(&message(&format!("{line}\r\n"))).unwrap_or_else(|| panic!("{line}"));
            assert_eq!(found.mutual, mutual, "{line}");
        }
    }

    #[test]
    fn what_is_not_valid_is_passed_over() {
        for line in [
            format!("Autocrypt: addr=mallory@example.org; keydata={KEY}"),
            format!("Autocrypt: keydata={KEY}"),
            "Autocrypt: addr=ann@example.org".to_owned(),
            "Autocrypt: addr=ann@example.org; keydata=".to_owned(),
            "Autocrypt: addr=ann@example.org; keydata=!!!!".to_owned(),
            format!("Autocrypt: addr=ann@example.org; critical=1; keydata={KEY}"),
            format!("Autocrypt: addr=ann@example.org; keydata={KEY}; prefer-encrypt=mutual"),
            format!("Autocrypt: addr=ann@example.org; addr=ann@example.org; keydata={KEY}"),
            format!("Autocrypt: addr=ann@example.org; addr; keydata={KEY}"),
            format!("Autocrypt: addr=ann@example.org; keydata={}", "YWJj".repeat(2600)),
        ] {
            assert_eq!(find(&message(&format!("{line}\r\n"))), None, "{line}");
        }
    }

    #[test]
    fn one_valid_header_counts_among_invalid_ones_but_two_are_none() {
        let valid = format!("Autocrypt: addr=ann@example.org; keydata={KEY}\r\n");
        let future = format!("Autocrypt: addr=ann@example.org; level2=1; keydata={KEY}\r\n");
        assert!(find(&message(&format!("{future}{valid}"))).is_some());
        assert!(find(&message(&format!("{valid}{future}"))).is_some());
        assert!(find(&message(&format!("{valid}{valid}"))).is_none());
    }

    #[test]
    fn messages_of_programs_or_of_several_authors_count_for_nothing() {
        let valid = format!("Autocrypt: addr=ann@example.org; keydata={KEY}\r\n");
        assert!(find(&message(&format!("Auto-Submitted: auto-replied (vacation)\r\n{valid}"))).is_none());
        assert!(find(&message(&format!("Auto-Submitted: no\r\n{valid}"))).is_some());
        assert!(find(&message(&format!("Content-Type: Multipart/Report; x=y\r\n{valid}"))).is_none());
        assert!(find(&message(&format!("From: bob@example.net\r\n{valid}"))).is_none());
        let two = message(&valid).strip_prefix(b"From: ").map(|rest| [b"From: eve@example.org, ", rest].concat());
        assert!(find(&two.expect("a From")).is_none());
    }

    #[test]
    fn what_we_send_is_what_we_read_and_small() {
        let address: MailAddress = "ann@example.org".parse().expect("an address");
        let keys = crate::keys::generate("Ann", "ann@example.org").expect("keys");
        let header = header(&address, &keys.identity, true).expect("a header");
        assert!(header.len() < 3 << 10, "{} bytes", header.len());
        assert!(header.split(|byte| *byte == b'\n').all(|line| line.len() <= 79));
        let found = find(&message(&String::from_utf8(header).expect("text"))).expect("valid");
        assert!(found.mutual);
        let read = certificate::read(&found.key).expect("a certificate").remove(0);
        assert_eq!(read.fingerprint(), keys.identity.fingerprint());
        let now = mesyx_sdk::Timestamp::now().0 / 1000;
        assert_eq!(certificate::usable(&read, now).expect("usable").keys.len(), 1);
        assert!(certificate::names(&read, "ann@example.org"));
        assert!(!read.is_tsk() && read.userids().count() == 1);
        let policy = StandardPolicy::new();
        assert_eq!(
            read.keys().with_policy(&policy, None).for_signing().count(),
            1,
            "our signatures can be verified with it"
        );
    }
}
