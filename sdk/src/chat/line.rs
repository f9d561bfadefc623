//! A line as the MIME entity that is stored, so that every mail client shows it and every bridge reads it back exactly.

use super::{Line, Verb};
use crate::{
    Address, AddressError, Content, Conversation, Domain, Envelope, IrcAddress, MailAddress, MessageId, Origin,
    OtherAddress, Style, Timestamp, mime,
};
use std::fmt::Write as _;
use time::format_description::well_known::Rfc2822;

/// The header that makes a message a line: `VERB; nick=NICK; arg=ARG; …`, values percent-encoded.
const HEADER: &str = "Mesyx-Line";
/// Longest subject, in characters.
const SUBJECT: usize = 60;
/// Longest line of text that may stand unencoded (RFC 5322, section 2.1.1), in bytes.
const LONGEST: usize = 998;

/// Who said a line to whom, and when: what stands in the headers of its MIME entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineHeaders {
    /// The message's id.
    pub id: MessageId,
    /// Who says it.
    pub from: Address,
    /// The name that the speaker is shown by; 1 to 128 bytes.
    pub nick: String,
    /// The other one, or the group.
    pub to: Address,
    /// When it was said.
    pub at: Timestamp,
}

/// The address by which mail clients write to someone or something in the chat world.
///
/// | address | in mail, where the exchange is `example.org` |
/// | --- | --- |
/// | `irc:libera/#rust` | `#rust@libera.irc.example.org` |
/// | `mesyx:bob@example.org` | `bob@irc.example.org` |
/// | `mesyx:#demo@example.org` | `#demo@irc.example.org` |
/// | `xmpp:juliet@capulet.example` | `juliet=40capulet.example@xmpp.x.example.org` |
///
/// # Errors
/// Where the spelling would be too long; a mail address is its own spelling.
pub fn to_mail(address: &Address, domain: &Domain) -> Result<MailAddress, AddressError> {
    match address {
        Address::Mail(mail) => Ok(mail.clone()),
        Address::Irc(irc) => irc.to_mail(domain),
        Address::Other(other) => other.to_mail(domain),
        Address::Mesyx(mesyx) => {
            let domain =
                mesyx.user.domain().as_name().ok_or(AddressError("an address literal has no chat addresses"))?;
            let local = crate::address::spell(mesyx.user.local()).filter(|local| local.len() <= MailAddress::MAX_LOCAL);
            let local = local.ok_or(AddressError("the name is too long to be written as a mail address"))?;
            MailAddress::new(&local, format!("irc.{domain}").parse()?)
        }
    }
}

/// Reads what [`to_mail`] writes; `None` for any other mail address. Names on IRC networks are folded by `rfc1459`.
#[must_use]
pub fn from_mail(mail: &MailAddress, domain: &Domain) -> Option<Address> {
    if IrcAddress::network_of(mail, domain).is_some() {
        return IrcAddress::from_mail(mail, domain, crate::address::CaseMapping::Rfc1459).ok().map(Address::Irc);
    }
    if let Some(other) = OtherAddress::from_mail(mail, domain) {
        return Some(Address::Other(other));
    }
    let exchange = mail.domain().as_name()?.strip_prefix("irc.")?;
    if exchange != domain.as_name()? {
        return None;
    }
    let spelled = mail.local().to_ascii_lowercase();
    let local = crate::address::unspell(&spelled)
        .filter(|local| crate::address::spell(local).is_some_and(|again| again == spelled))?;
    let user = MailAddress::new(&local, domain.clone()).ok()?;
    Some(Address::Mesyx(crate::MesyxAddress { user }))
}

impl Line {
    /// The line as a MIME entity: `text/plain`, with a subject that shows how it begins.
    ///
    /// # Errors
    /// Where an address has no spelling in mail.
    ///
    /// # Examples
    /// ```
    /// use mesyx_sdk::{Line, LineHeaders, MessageId, Timestamp};
    /// let headers = LineHeaders {
    ///     id: MessageId([7; 16]),
    ///     from: "irc:libera/bob".parse()?,
    ///     nick: "Bob".into(),
    ///     to: "irc:libera/#rust".parse()?,
    ///     at: Timestamp(0),
    /// };
    /// let domain = "example.org".parse()?;
    /// let content = Line::say("hello\nworld").to_content(&headers, &domain)?;
    /// assert_eq!(Line::from_content(&content, &domain), Some((headers, Line::say("hello\nworld"))));
    /// # Ok::<(), mesyx_sdk::AddressError>(())
    /// ```
    pub fn to_content(&self, headers: &LineHeaders, domain: &Domain) -> Result<Content, AddressError> {
        let (from, to) = (to_mail(&headers.from, domain)?, to_mail(&headers.to, domain)?);
        let mut out = format!("From: {} <{from}>\r\nTo: <{to}>\r\n", phrase(&headers.nick));
        if let Ok(date) = headers.at.utc().format(&Rfc2822) {
            let _ = write!(out, "Date: {date}\r\n");
        }
        let _ =
            write!(out, "Message-ID: <{}@irc.{domain}>\r\nSubject: {}\r\n", headers.id, phrase(&self.subject(headers)));
        let _ = write!(out, "{HEADER}: {}; at={}; nick={}", self.verb.as_str(), headers.at.0, percent(&headers.nick));
        for arg in self.args.iter().take(10) {
            let _ = write!(out, ";\r\n arg={}", percent(arg));
        }
        out.push_str("\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n");
        let text: String = self.text.chars().map(|c| if matches!(c, '\r' | '\0') { ' ' } else { c }).collect();
        let text = text + "\n";
        if text.lines().any(|line| line.len() > LONGEST) {
            out.push_str("Content-Transfer-Encoding: quoted-printable\r\n\r\n");
            quoted_printable(&mut out, &text);
        } else {
            let encoding = if text.is_ascii() { "7bit" } else { "8bit" };
            let _ = write!(out, "Content-Transfer-Encoding: {encoding}\r\n\r\n{}", text.replace('\n', "\r\n"));
        }
        Ok(Content::from(out.into_bytes()))
    }

    /// The line in an envelope as [`crate::Host::accept`] takes it: said now to `to`, a user of ours, by somebody on the bridge's own
    /// network whom people know as `nick`.
    ///
    /// # Errors
    /// Where an address has no spelling in mail.
    pub fn to_envelope(
        &self,
        from: OtherAddress,
        nick: &str,
        to: Address,
        domain: &Domain,
    ) -> Result<Envelope, AddressError> {
        let (id, at, network) = (MessageId::random(), Timestamp::now(), from.network());
        let from = Address::Other(from);
        let headers = LineHeaders { id, from: from.clone(), nick: nick.to_owned(), to: to.clone(), at };
        let content = self.to_content(&headers, domain)?;
        Ok(Envelope {
            id,
            style: Style::Instant,
            conversation: Some(Conversation::Direct(from.clone())),
            sent: Some(at),
            origin: Origin { network: network.to_string(), ..Origin::default() },
            ..crate::memory::envelope(Some(from), vec![to], content)
        })
    }

    /// Reads what [`Line::to_content`] wrote; `None` for any other message.
    #[must_use]
    pub fn from_content(content: &Content, domain: &Domain) -> Option<(LineHeaders, Self)> {
        let (mut header, mut id, mut encoded) = (None, None, false);
        let mut ends = 0;
        for field in mime::fields(content) {
            ends = field.range.end;
            if field.is(HEADER) {
                header.get_or_insert_with(|| mime::unfold(field.value));
            } else if field.is("Message-ID") {
                id.get_or_insert_with(|| mime::unfold(field.value));
            } else if field.is("Content-Transfer-Encoding") {
                encoded = mime::unfold(field.value) == b"quoted-printable";
            }
        }
        let header = String::from_utf8(header?).ok()?;
        let mut parts = header.split("; ");
        let verb = Verb::of(parts.next()?)?;
        let (mut at, mut nick, mut args) = (None, None, Vec::new());
        for part in parts {
            match part.split_once('=')? {
                ("at", value) => at = value.parse().ok().map(Timestamp),
                ("nick", value) => nick = Some(unpercent(value)?),
                ("arg", value) => args.push(unpercent(value)?),
                _ => {}
            }
        }
        let id = String::from_utf8(id?).ok()?;
        let id = id.strip_prefix('<')?.split_once('@')?.0.parse().ok()?;
        let (from, to) = (the_address(content, "From", domain)?, the_address(content, "To", domain)?);
        let body = content.get(ends..)?;
        let body = body.strip_prefix(b"\r\n").unwrap_or(body);
        let text = if encoded { unquote_printable(body) } else { body.to_vec() };
        let text = String::from_utf8(text).ok()?.replace("\r\n", "\n");
        let text = text.strip_suffix('\n').unwrap_or(&text).to_owned();
        Some((LineHeaders { id, from, nick: nick?, to, at: at? }, Self { verb, args, text }))
    }

    fn subject(&self, headers: &LineHeaders) -> String {
        let nick = &headers.nick;
        let text = self.text.lines().next().unwrap_or_default();
        let said = match self.verb {
            Verb::Say | Verb::Notice => text.to_owned(),
            Verb::Action => format!("* {nick} {text}"),
            Verb::Topic => format!("* {nick} changed the topic to: {text}"),
            Verb::Join => format!("* {nick} joined"),
            Verb::Part => format!("* {nick} left"),
            Verb::Kick => format!("* {nick} removed {}", self.args.first().map_or("", |member| member)),
            Verb::Mode => format!("* {nick} set {}", self.args.join(" ")),
        };
        let printable = said.chars().filter(|c| !c.is_control());
        let mut cut: String = printable.clone().take(SUBJECT).collect();
        if printable.count() > SUBJECT {
            cut.push('…');
        }
        cut
    }
}

/// The first address of a header, in the chat world where it has a place there.
fn the_address(content: &Content, name: &str, domain: &Domain) -> Option<Address> {
    let all = mime::addresses_in(content, name).ok()?;
    all.into_iter().find_map(|addressee| {
        let crate::summary::MailAddressee::Mailbox { local, domain: host, .. } = addressee else { return None };
        let mail = MailAddress::new(str::from_utf8(&local).ok()?, str::from_utf8(&host).ok()?.parse().ok()?).ok()?;
        Some(from_mail(&mail, domain).unwrap_or(Address::Mail(mail)))
    })
}

/// A text as it may stand in a header: in quotes, or as encoded words (RFC 2047, section 2) of at most 75 characters.
fn phrase(text: &str) -> String {
    let plain = |c: char| c == ' ' || c.is_ascii_graphic();
    if text.len() <= 70
        && text.chars().all(|c| c == ' ' || c.is_ascii_alphanumeric())
        && !text.is_empty()
        && text.trim() == text
    {
        return text.to_owned();
    }
    if text.len() <= 70
        && text.chars().all(|c| plain(c) && !matches!(c, '"' | '\\' | '=' | '?'))
        && !text.trim().is_empty()
    {
        return format!("\"{text}\"");
    }
    let mut words = Vec::new();
    let mut word = String::new();
    for c in text.chars() {
        let mut encoded = String::new();
        if c.is_ascii_alphanumeric() {
            encoded.push(c);
        } else {
            let mut buffer = [0; 4];
            for byte in c.encode_utf8(&mut buffer).bytes() {
                let _ = write!(encoded, "={byte:02X}");
            }
        }
        // "=?utf-8?q?" and "?=" take 12 of the 75.
        if word.len() + encoded.len() > 60 {
            words.push(std::mem::take(&mut word));
        }
        word.push_str(&encoded);
    }
    words.push(word);
    let words: Vec<_> = words.into_iter().map(|word| format!("=?utf-8?q?{word}?=")).collect();
    words.join("\r\n ")
}

fn percent(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"#-_.".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02x}");
        }
    }
    encoded
}

fn unpercent(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut pieces = text.split('%');
    bytes.extend_from_slice(pieces.next()?.as_bytes());
    for piece in pieces {
        bytes.push(u8::from_str_radix(piece.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(piece.get(2..)?.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

/// RFC 2045, section 6.7, with lines of at most 76 characters.
fn quoted_printable(out: &mut String, text: &str) {
    for line in text.lines() {
        let mut width = 0;
        for (at, byte) in line.bytes().enumerate() {
            let plain = (byte.is_ascii_graphic() && byte != b'=') || (byte == b' ' && at + 1 < line.len());
            let needs = if plain { 1 } else { 3 };
            if width + needs > 75 {
                out.push_str("=\r\n");
                width = 0;
            }
            width += needs;
            if plain {
                out.push(char::from(byte));
            } else {
                let _ = write!(out, "={byte:02X}");
            }
        }
        out.push_str("\r\n");
    }
}

fn unquote_printable(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'=' {
            out.push(byte);
        } else if let Some(next) = after.strip_prefix(b"\r\n") {
            rest = next;
        } else if let Some(value) =
            after.get(..2).and_then(|hex| str::from_utf8(hex).ok()).and_then(|hex| u8::from_str_radix(hex, 16).ok())
        {
            out.push(value);
            rest = &after[2..];
        } else {
            out.push(byte);
        }
    }
    out
}
