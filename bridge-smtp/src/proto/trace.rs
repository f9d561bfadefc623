//! The trace headers that stand before a message (RFC 5321, section 4.4).

use super::terms::TlsInfo;
use mesyx_sdk::{Domain, MailAddress, MessageId, Timestamp};
use std::net::IpAddr;

/// What is known of how a message came in.
#[derive(Debug)]
pub(crate) struct Trace<'a> {
    pub(crate) from: Option<&'a MailAddress>,
    /// The name that the peer gave itself, checked by [`helo_name`].
    pub(crate) helo: &'a str,
    pub(crate) ip: IpAddr,
    pub(crate) hostname: &'a str,
    /// The peer said EHLO, not HELO.
    pub(crate) extended: bool,
    pub(crate) utf8: bool,
    pub(crate) authenticated: bool,
    pub(crate) tls: Option<&'a TlsInfo>,
    pub(crate) id: MessageId,
    pub(crate) now: Timestamp,
}

impl Trace<'_> {
    /// `Return-Path` and `Received`, each line under 998 bytes and mostly under 78.
    pub(crate) fn headers(&self) -> Vec<u8> {
        let from = self.from.map(ToString::to_string).unwrap_or_default();
        let tls = self.tls.map(|tls| format!(" ({} {})", tls.version, tls.cipher)).unwrap_or_default();
        format!(
            "Return-Path: <{from}>\r\nReceived: from {}\r\n\t({})\r\n\tby {} with {}{tls}\r\n\tid {};\r\n\t{}\r\n",
            self.helo,
            Domain::Literal(self.ip),
            self.hostname,
            self.protocol(),
            self.id,
            date(self.now),
        )
        .into_bytes()
    }

    /// The registered `with` word (RFC 3848; RFC 6531, section 4.3).
    fn protocol(&self) -> &'static str {
        match (self.extended, self.utf8, self.tls.is_some(), self.authenticated) {
            (false, ..) => "SMTP",
            (true, false, false, false) => "ESMTP",
            (true, false, false, true) => "ESMTPA",
            (true, false, true, false) => "ESMTPS",
            (true, false, true, true) => "ESMTPSA",
            (true, true, false, false) => "UTF8SMTP",
            (true, true, false, true) => "UTF8SMTPA",
            (true, true, true, false) => "UTF8SMTPS",
            (true, true, true, true) => "UTF8SMTPSA",
        }
    }
}

/// The name in HELO or EHLO as it may stand in a header: a domain as A-labels, an address literal, or what hosts that
/// don't know their own name say (underscores, a single label). `None` where it could mean anything else there.
pub(crate) fn helo_name(text: &str) -> Option<String> {
    if text.is_empty() || text.len() > 255 {
        return None;
    }
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if text.bytes().all(harmless) {
        return Some(text.to_owned());
    }
    text.parse::<Domain>().ok().map(|domain| domain.to_string())
}

/// A date as RFC 5322, section 3.3, writes it, in UTC.
pub(crate) fn date(now: Timestamp) -> String {
    let now = now.utc();
    let weekday =
        ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"][usize::from(now.weekday().number_days_from_monday()).min(6)];
    let month = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        [usize::from(u8::from(now.month()) - 1).min(11)];
    let (day, year, (hour, minute, second)) = (now.day(), now.year(), now.to_hms());
    format!("{weekday}, {day} {month} {year:04} {hour:02}:{minute:02}:{second:02} +0000")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_headers() {
        let from = "a@example.org".parse().unwrap();
        let tls = TlsInfo { version: "TLSv1.3".into(), cipher: "TLS13_AES_256_GCM_SHA384".into() };
        let trace = Trace {
            from: Some(&from),
            helo: "mx.example.org",
            ip: "2001:db8::1".parse().unwrap(),
            hostname: "mail.example.com",
            extended: true,
            utf8: false,
            authenticated: false,
            tls: Some(&tls),
            id: MessageId([0xab; 16]),
            now: Timestamp::from_seconds(1_795_387_064),
        };
        assert_eq!(
            String::from_utf8(trace.headers()).unwrap(),
            "Return-Path: <a@example.org>\r\nReceived: from mx.example.org\r\n\t([IPv6:2001:db8::1])\r\n\
             \tby mail.example.com with ESMTPS (TLSv1.3 TLS13_AES_256_GCM_SHA384)\r\n\
             \tid abababababababababababababababab;\r\n\tSun, 22 Nov 2026 22:37:44 +0000\r\n"
        );
    }

    #[test]
    fn names_that_are_no_names() {
        for bad in ["", "a b", "a\tb", "a(b", "a)b", "a<b>", "a;b", "a\"b", "a@b", "a\rb", "a\u{85}b", &"x".repeat(256)]
        {
            assert_eq!(helo_name(bad), None, "{bad:?}");
        }
        assert_eq!(helo_name("[IPv6:::1]").unwrap(), "[IPv6:::1]");
        assert_eq!(helo_name("my_pc").unwrap(), "my_pc");
        assert_eq!(helo_name("bücher.example").unwrap(), "xn--bcher-kva.example");
    }

    proptest! {
        #[test]
        fn no_name_makes_a_second_header(name in "\\PC{0,30}|[\\x00-\\x7f]{0,30}") {
            if let Some(name) = helo_name(&name) {
                prop_assert!(name.bytes().all(|byte| byte.is_ascii_graphic() && !b"()<>;,\"\\@".contains(&byte)));
            }
        }
    }
}
