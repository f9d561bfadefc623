//! Notices to senders: `multipart/report` of RFC 3462 and RFC 3464, with RFC 6533 for addresses beyond ASCII.
//!
//! A notice says `Auto-Submitted: auto-replied` and has the null reverse-path, so that nothing answers it. No text of others can
//! make a header or a field of its own: controls become spaces, and the original is a part of its own.

use super::schedule::{Tell, deadline, span};
use super::sealed::Job;
use super::settings::QueueSettings;
use mesyx_sdk::{Address, Content, Domain, MessageId, ReturnPart, Timestamp, chat};
use std::fmt::Write as _;
use time::format_description::well_known::Rfc2822;

/// Most bytes of the original's headers that are returned; cut at a line's end.
const MOST_HEADERS: usize = 64 << 10;
/// A line of text is folded beyond this.
const WIDTH: usize = 76;

/// What one notice is about: recipients of one message, all told the same kind of thing.
pub(crate) struct Report<'a> {
    pub(crate) settings: &'a QueueSettings,
    /// The host's name.
    pub(crate) hostname: &'a str,
    /// The exchange's domain, under which addresses of the chat world are written in mail.
    pub(crate) domain: Option<&'a Domain>,
    pub(crate) now: Timestamp,
    /// At least one.
    pub(crate) recipients: &'a [(&'a Job, &'a Tell)],
    /// What the sender submitted.
    pub(crate) original: &'a Content,
}

/// The kinds of notices: what goes into one notice together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Of [`Tell::Failed`].
    Failed,
    /// Of [`Tell::Delayed`].
    Delayed,
    /// Of [`Tell::Waits`].
    Waits,
    /// Of [`Tell::Held`].
    Held,
    /// Of [`Tell::Relayed`].
    Relayed,
}

impl Tell {
    /// Which kind of notice says this.
    pub(crate) const fn kind(&self) -> Kind {
        match self {
            Self::Failed(_) => Kind::Failed,
            Self::Delayed(_) => Kind::Delayed,
            Self::Waits(_) => Kind::Waits,
            Self::Held(_) => Kind::Held,
            Self::Relayed => Kind::Relayed,
        }
    }

    fn why(&self) -> &str {
        match self {
            Self::Failed(why) | Self::Delayed(why) | Self::Waits(why) | Self::Held(why) => why,
            Self::Relayed => "",
        }
    }
}

impl Report<'_> {
    /// An address as it is written in mail.
    fn spelled(&self, address: &Address) -> String {
        let mail = self.domain.and_then(|domain| chat::to_mail(address, domain).ok());
        mail.map_or_else(|| address.to_string(), |mail| mail.to_string())
    }

    /// The notice as a message to `sender`.
    pub(crate) fn message(&self, sender: &Address) -> Content {
        let Some((first, tell)) = self.recipients.first() else { return Content::default() };
        // Who says a line has a mailbox too.
        let sender = match sender {
            Address::Mesyx(sender) => sender.user.to_string(),
            sender => self.spelled(sender),
        };
        let kind = tell.kind();
        let boundary = format!("=_{}", MessageId::random());
        let host = self.hostname;
        let subject = match kind {
            Kind::Failed => "Undeliverable: your message was not delivered",
            Kind::Delayed => "Delayed: your message has not been delivered yet",
            Kind::Waits => "Held: your message waits for a key",
            Kind::Held => "Held: your message waits for the operator of this server",
            Kind::Relayed => "Relayed: your message was handed on",
        };
        let reference = message_id(self.original);
        let thread = reference.map(|id| format!("In-Reply-To: {id}\r\nReferences: {id}\r\n")).unwrap_or_default();
        let utf8 = self.recipients.iter().any(|(job, _)| !self.spelled(&job.to.address).is_ascii());
        let mut text = format!(
            "Return-Path: <>\r\nFrom: Mail Delivery System <postmaster@{host}>\r\nTo: <{sender}>\r\nSubject: {subject}\r\n\
             Date: {date}\r\nMessage-ID: <{id}@{host}>\r\n{thread}Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"{boundary}\"\r\n\r\n\
             This is a notice in the format of RFC 3464.\r\n\
             --{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n",
            date = date(self.now),
            id = MessageId::random(),
        );
        self.explain(&mut text, kind);
        let status = if utf8 { "global-delivery-status" } else { "delivery-status" };
        let encoding = if utf8 { "Content-Transfer-Encoding: 8bit\r\n" } else { "" };
        let _ = write!(text, "\r\n--{boundary}\r\nContent-Type: message/{status}\r\n{encoding}\r\n");
        self.fields(&mut text, first, utf8);
        let full = kind == Kind::Failed && first.dsn.ret == Some(ReturnPart::Full);
        let returned = if full { self.original } else { &headers(self.original) };
        let global = !headers(self.original).is_ascii();
        let part = match (full, global) {
            (true, false) => "message/rfc822",
            (true, true) => "message/global",
            (false, false) => "text/rfc822-headers",
            (false, true) => "message/global-headers",
        };
        let encoding = if returned.is_ascii() { "" } else { "Content-Transfer-Encoding: 8bit\r\n" };
        let _ = write!(text, "\r\n--{boundary}\r\nContent-Type: {part}\r\n{encoding}\r\n");
        let mut message = text.into_bytes();
        message.extend_from_slice(returned);
        message.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        Content::from(message)
    }

    /// The part for people.
    fn explain(&self, text: &mut String, kind: Kind) {
        let last = self.recipients.first().map_or(self.now, |(job, _)| Timestamp(deadline(self.settings, job)));
        let intro = match kind {
            Kind::Failed => {
                "Your message could not be delivered to the recipients below, and will not be tried again.".to_owned()
            }
            Kind::Delayed => format!(
                "Your message has not been delivered to the recipients below yet. You need do nothing: it will be tried until {} \
                 ({} in all).",
                date(last),
                span(self.settings.expire)
            ),
            Kind::Waits => format!(
                "Your message may not be sent to the recipients below as it is. It waits until that changes, at most until {}, \
                 and goes out by itself then.",
                date(last)
            ),
            Kind::Held => {
                "Your message was not sent to the recipients below. It waits for the operator of this server."
                    .to_owned()
            }
            Kind::Relayed => {
                "Your message was handed to the next mail host for the recipients below. That host does not \
                 tell of delivery, so no further notice of success will follow."
                    .to_owned()
            }
        };
        fold(text, "", &intro);
        for (job, tell) in self.recipients {
            let _ = write!(text, "\r\n  {}\r\n", self.spelled(&job.to.address));
            if !tell.why().is_empty() {
                fold(text, "    ", &clean(tell.why()));
            }
            if kind == Kind::Failed && job.progress.maybe_sent {
                fold(
                    text,
                    "    ",
                    "An earlier attempt broke off before its answer came, so the recipient may have it all the same.",
                );
            }
        }
    }

    /// The part for programs (RFC 3464, section 2).
    fn fields(&self, text: &mut String, first: &Job, utf8: bool) {
        let _ = write!(text, "Reporting-MTA: dns; {}\r\n", self.hostname);
        if let Some(envid) = &first.dsn.envid {
            let _ = write!(text, "Original-Envelope-Id: {}\r\n", clean(envid));
        }
        let _ = write!(text, "Arrival-Date: {}\r\n", date(first.submitted));
        for (job, tell) in self.recipients {
            text.push_str("\r\n");
            if let Some((kind, address)) = job.to.original.as_deref().and_then(|original| original.split_once(';')) {
                let _ = write!(text, "Original-Recipient: {}; {}\r\n", clean(kind), clean(address));
            }
            let address = self.spelled(&job.to.address);
            let kind = if utf8 && !address.is_ascii() { "utf-8" } else { "rfc822" };
            let _ = write!(text, "Final-Recipient: {kind}; {address}\r\n");
            let (action, otherwise) = match tell.kind() {
                Kind::Failed => ("failed", "5.0.0"),
                Kind::Delayed => ("delayed", "4.0.0"),
                Kind::Waits => ("delayed", "4.7.0"),
                Kind::Held => ("delayed", "4.3.0"),
                Kind::Relayed => ("relayed", "2.0.0"),
            };
            let class = otherwise.as_bytes().first().copied().unwrap_or(b'5');
            let found =
                status_in(tell.why()).filter(|status| status.as_bytes().first() == Some(&class) || class == b'5');
            let _ = write!(text, "Action: {action}\r\nStatus: {}\r\n", found.unwrap_or(otherwise));
            if !tell.why().is_empty() {
                // What the peer said has gone through our own words, so it is no `smtp` diagnostic.
                let _ = write!(text, "Diagnostic-Code: x-mesyx; {}\r\n", cut(&clean(tell.why())));
            }
            if let Some(at) = job.progress.last_attempt {
                let _ = write!(text, "Last-Attempt-Date: {}\r\n", date(Timestamp(at)));
            }
            // What the operator holds has no time.
            if action == "delayed" && tell.kind() != Kind::Held {
                let _ = write!(text, "Will-Retry-Until: {}\r\n", date(Timestamp(deadline(self.settings, job))));
            }
        }
    }
}

/// A date as RFC 5322 writes it.
fn date(at: Timestamp) -> String {
    Timestamp::from_seconds(at.seconds()).utc().format(&Rfc2822).unwrap_or_default()
}

/// Text of others, on one line.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A field's value within the line's limit (RFC 5322, section 2.1.1).
fn cut(text: &str) -> &str {
    let mut end = text.len().min(800);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Writes a paragraph in lines of at most [`WIDTH`] bytes, where words allow it; longer words are cut.
fn fold(out: &mut String, indent: &str, text: &str) {
    let mut line = indent.to_owned();
    for word in text.split_whitespace() {
        let word = cut(word);
        if line.len() > indent.len() && line.len() + 1 + word.len() > WIDTH {
            out.push_str(&line);
            out.push_str("\r\n");
            line = indent.to_owned();
        }
        if line.len() > indent.len() {
            line.push(' ');
        }
        line.push_str(word);
    }
    out.push_str(&line);
    out.push_str("\r\n");
}

/// The enhanced status code (RFC 3463) that a text has in it.
fn status_in(text: &str) -> Option<&str> {
    text.split([' ', '-', ',', ';', ':', '(', ')']).find(|word| {
        let mut numbers = word.split('.');
        let class = numbers.next().is_some_and(|class| matches!(class, "2" | "4" | "5"));
        let mut rest =
            numbers.map(|number| (1..=3).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit()));
        class && rest.next() == Some(true) && rest.next() == Some(true) && rest.next().is_none()
    })
}

/// The headers of a message, with the line ends that were there.
fn headers(message: &Content) -> Content {
    let end = message.windows(4).position(|window| window == b"\r\n\r\n").map_or(message.len(), |at| at + 2);
    let mut end = end.min(MOST_HEADERS);
    if end == MOST_HEADERS {
        end = message[..end].windows(2).rposition(|window| window == b"\r\n").map_or(0, |at| at + 2);
    }
    message.slice(0, end as u64)
}

/// The message's own id, where it can stand in a header of ours as it is.
fn message_id(message: &Content) -> Option<String> {
    let headers = headers(message);
    let field = headers.split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(b"message-id:".len())?;
        name.eq_ignore_ascii_case(b"message-id:").then_some(value)
    })?;
    let id = std::str::from_utf8(field).ok()?.trim();
    let good = id.len() < 500 && id.starts_with('<') && id.ends_with('>') && id.bytes().all(|b| b.is_ascii_graphic());
    good.then(|| id.to_owned())
}
