//! Settings for mail programs, as each kind wants them.

use super::autodiscover::SCHEMA;
use crate::config::http::{Announce, Service};
use crate::tls::sha256;
use mesyx_sdk::MailAddress;
use std::fmt::Write;

/// Text as it may stand in XML, between tags and between quotes.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // XML 1.0 has no way to write the others.
            c if c.is_control() && !matches!(c, '\t' | '\n' | '\r') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Thunderbird's format 1.1, which others read too. Users log in with their address.
pub(super) fn autoconfig(domain: &str, servers: &[Announce]) -> String {
    let domain = escape(domain);
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<clientConfig version=\"1.1\">\n  <emailProvider id=\"{domain}\">\n    \
         <domain>{domain}</domain>\n    <displayName>{domain}</displayName>\n    <displayShortName>{domain}</displayShortName>\n"
    );
    for server in servers {
        let (element, kind, socket) = match server.service {
            Service::Imaps => ("incomingServer", "imap", "SSL"),
            Service::Imap => ("incomingServer", "imap", "STARTTLS"),
            Service::Submissions => ("outgoingServer", "smtp", "SSL"),
            Service::Submission => ("outgoingServer", "smtp", "STARTTLS"),
        };
        // Writing to a string never fails.
        let _ = write!(
            text,
            "    <{element} type=\"{kind}\">\n      <hostname>{}</hostname>\n      <port>{}</port>\n      \
             <socketType>{socket}</socketType>\n      <authentication>password-cleartext</authentication>\n      \
             <username>%EMAILADDRESS%</username>\n    </{element}>\n",
            escape(&server.host),
            server.port
        );
    }
    text.push_str("  </emailProvider>\n</clientConfig>\n");
    text
}

/// Outlook's format of 2006. Only servers with TLS from the first byte are told where there are any: which of several is
/// taken differs between versions.
pub(super) fn autodiscover(address: &MailAddress, servers: &[Announce]) -> String {
    let login = escape(&address.to_string());
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
         <Autodiscover xmlns=\"http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006\">\n  \
         <Response xmlns=\"{SCHEMA}\">\n    <User>\n      <DisplayName>{login}</DisplayName>\n    </User>\n    \
         <Account>\n      <AccountType>email</AccountType>\n      <Action>settings</Action>\n"
    );
    for server in preferred(servers) {
        let (kind, encryption) = match server.service {
            Service::Imaps => ("IMAP", "SSL"),
            Service::Imap => ("IMAP", "TLS"),
            Service::Submissions => ("SMTP", "SSL"),
            Service::Submission => ("SMTP", "TLS"),
        };
        let _ = write!(
            text,
            "      <Protocol>\n        <Type>{kind}</Type>\n        <Server>{}</Server>\n        <Port>{}</Port>\n        \
             <DomainRequired>off</DomainRequired>\n        <LoginName>{login}</LoginName>\n        <SPA>off</SPA>\n        \
             <SSL>{}</SSL>\n        <Encryption>{encryption}</Encryption>\n        <AuthRequired>on</AuthRequired>\n      \
             </Protocol>\n",
            escape(&server.host),
            server.port,
            if encryption == "SSL" { "on" } else { "off" },
        );
    }
    text.push_str("    </Account>\n  </Response>\n</Autodiscover>\n");
    text
}

/// A configuration profile for Apple's mail programs; `None` where there is no server for reading or none for sending.
pub(super) fn apple_profile(address: &MailAddress, servers: &[Announce]) -> Option<String> {
    let preferred = preferred(servers);
    let reading = preferred.iter().find(|server| matches!(server.service, Service::Imaps | Service::Imap))?;
    let sending =
        preferred.iter().find(|server| matches!(server.service, Service::Submissions | Service::Submission))?;
    let text = address.to_string();
    let (mail, profile) = (uuid(&format!("mail {text}")), uuid(&format!("profile {text}")));
    let domain = escape(&address.domain().to_string());
    let login = escape(&text);
    // Apple's programs find out by themselves whether TLS begins at once or after STARTTLS.
    Some(format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>PayloadContent</key>
  <array>
    <dict>
      <key>EmailAccountType</key><string>EmailTypeIMAP</string>
      <key>EmailAccountName</key><string>{login}</string>
      <key>EmailAccountDescription</key><string>{domain}</string>
      <key>EmailAddress</key><string>{login}</string>
      <key>IncomingMailServerAuthentication</key><string>EmailAuthPassword</string>
      <key>IncomingMailServerHostName</key><string>{}</string>
      <key>IncomingMailServerPortNumber</key><integer>{}</integer>
      <key>IncomingMailServerUseSSL</key><true/>
      <key>IncomingMailServerUsername</key><string>{login}</string>
      <key>OutgoingMailServerAuthentication</key><string>EmailAuthPassword</string>
      <key>OutgoingMailServerHostName</key><string>{}</string>
      <key>OutgoingMailServerPortNumber</key><integer>{}</integer>
      <key>OutgoingMailServerUseSSL</key><true/>
      <key>OutgoingMailServerUsername</key><string>{login}</string>
      <key>OutgoingPasswordSameAsIncomingPassword</key><true/>
      <key>PayloadDisplayName</key><string>{login}</string>
      <key>PayloadIdentifier</key><string>mesyx.mail.{mail}</string>
      <key>PayloadType</key><string>com.apple.mail.managed</string>
      <key>PayloadUUID</key><string>{mail}</string>
      <key>PayloadVersion</key><integer>1</integer>
    </dict>
  </array>
  <key>PayloadDisplayName</key><string>{domain}</string>
  <key>PayloadIdentifier</key><string>mesyx.profile.{profile}</string>
  <key>PayloadType</key><string>Configuration</string>
  <key>PayloadUUID</key><string>{profile}</string>
  <key>PayloadVersion</key><integer>1</integer>
</dict>
</plist>
"#,
        escape(&reading.host),
        reading.port,
        escape(&sending.host),
        sending.port,
    ))
}

/// For reading and for sending, the servers with TLS from the first byte where there are any, else those with STARTTLS.
fn preferred(servers: &[Announce]) -> Vec<&Announce> {
    let has = |service| servers.iter().any(|server| server.service == service);
    let worse = |server: &Announce| match server.service {
        Service::Imap => has(Service::Imaps),
        Service::Submission => has(Service::Submissions),
        Service::Imaps | Service::Submissions => false,
    };
    servers.iter().filter(|server| !worse(server)).collect()
}

/// The same for the same text, so that a profile that is installed again replaces itself (RFC 9562, section 5.8).
fn uuid(text: &str) -> String {
    let mut hash = sha256(text.as_bytes());
    hash[6] = hash[6] & 0x0f | 0x80;
    hash[8] = hash[8] & 0x3f | 0x80;
    let hex: String = hash[..16].iter().map(|byte| format!("{byte:02X}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_out_of_the_text() {
        assert_eq!(escape("<a b='c' d=\"e\">&\u{1}"), "&lt;a b=&#39;c&#39; d=&quot;e&quot;&gt;&amp;\u{fffd}");
        let servers = [Announce { service: Service::Imap, host: "mail.example.org".into(), port: 143 }];
        let address: MailAddress = "\"<&>'\"@example.org".parse().unwrap();
        let text = autodiscover(&address, &servers);
        assert!(text.contains("<LoginName>&quot;&lt;&amp;&gt;&#39;&quot;@example.org</LoginName>"), "{text}");
        assert_eq!(apple_profile(&address, &servers), None, "nothing to send with");
    }
}
