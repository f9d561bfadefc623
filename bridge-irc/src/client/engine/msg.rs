//! One line to clients, before it is known which tags each of them wants.

use super::caps::{self, Caps};
use mesyx_irc_codec::{Limits, Writer};
use mesyx_sdk::Timestamp;
use std::borrow::Cow;

/// A line to clients.
#[derive(Debug, Clone)]
pub struct Msg {
    /// Who it comes from: a server's name or `nick!user@host`.
    pub source: String,
    /// Command or numeric.
    pub command: Cow<'static, str>,
    /// Its parameters; only the last may be empty, hold spaces or begin with a colon.
    pub params: Vec<String>,
    /// When it was said, where that is not now.
    pub time: Option<Timestamp>,
    /// The message's id.
    pub msgid: Option<String>,
    /// The account of who said it.
    pub account: Option<String>,
    /// Tags that clients send each other, with their `+`.
    pub tags: Vec<(String, String)>,
    /// The batch that it belongs to.
    pub batch: Option<String>,
    /// It comes from a bot (user mode `B`).
    pub bot: bool,
}

impl Msg {
    /// A line without tags.
    pub fn new(source: impl Into<String>, command: impl Into<Cow<'static, str>>) -> Self {
        Self {
            source: source.into(),
            command: command.into(),
            params: Vec::new(),
            time: None,
            msgid: None,
            account: None,
            tags: Vec::new(),
            batch: None,
            bot: false,
        }
    }

    /// Adds a parameter.
    #[must_use]
    pub fn arg(mut self, param: impl Into<String>) -> Self {
        self.params.push(param.into());
        self
    }

    /// The line for a client of these capabilities, with CR LF; `None` where it can't be written, which is a mistake of ours.
    #[must_use]
    pub fn render(&self, caps: Caps, now: Timestamp, label: Option<&str>) -> Option<Vec<u8>> {
        let source = clean(&self.source);
        let mut line = Writer::from(Some(source.as_bytes()), &self.command).ok()?;
        if let Some(batch) = self.batch.as_ref().filter(|_| caps.has(caps::BATCH)) {
            line = line.tag("batch", batch).ok()?;
        }
        if let Some(label) = label {
            line = line.tag("label", label).ok()?;
        }
        if caps.has(caps::SERVER_TIME) {
            line = line.tag("time", &stamp(self.time.unwrap_or(now))).ok()?;
        }
        if let Some(account) = self.account.as_ref().filter(|_| caps.has(caps::ACCOUNT_TAG)) {
            line = line.tag("account", account).ok()?;
        }
        if caps.has(caps::MESSAGE_TAGS) {
            if let Some(msgid) = &self.msgid {
                line = line.tag("msgid", msgid).ok()?;
            }
            if self.bot {
                line = line.tag("bot", "").ok()?;
            }
        }
        let concat = super::multiline::CONCAT;
        for (key, value) in &self.tags {
            if caps.has(caps::MESSAGE_TAGS) || (key == concat && caps.has(caps::MULTILINE)) {
                line = line.tag(key, value).ok()?;
            }
        }
        let (last, middle) = match self.params.split_last() {
            Some((last, middle)) => (Some(last), middle),
            None => (None, &[][..]),
        };
        for param in middle {
            let param = clean(param);
            // What a client named so that it can't stand between spaces: it is told all the same that there is no such thing.
            let fits = !param.is_empty() && !param.starts_with(':') && !param.contains(' ');
            line = line.parameter(if fits { param.as_bytes() } else { b"*" }).ok()?;
        }
        if let Some(last) = last {
            let last = clean(last);
            let plain = !last.is_empty() && !last.starts_with(':') && !last.contains(' ') && !self.text_is_last();
            line = if plain { line.parameter(last.as_bytes()) } else { line.trailing(last.as_bytes()) }.ok()?;
        }
        line.finish_cut(Limits::FROM_SERVER).ok()
    }

    fn text_is_last(&self) -> bool {
        matches!(&*self.command, "PRIVMSG" | "NOTICE" | "TOPIC" | "QUIT" | "ERROR" | "CAP" | "332" | "353")
    }
}

/// Text that can't end a line: what must never be there is a space.
fn clean(text: &str) -> Cow<'_, str> {
    let bad = |c: char| matches!(c, '\r' | '\n' | '\0');
    if text.contains(bad) { Cow::Owned(text.replace(bad, " ")) } else { Cow::Borrowed(text) }
}

/// A moment as IRCv3 `server-time` writes it.
#[must_use]
pub fn stamp(at: Timestamp) -> String {
    let utc = at.utc();
    let (date, time) = (utc.date(), utc.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    )
}

/// Reads what [`stamp`] writes, and other times of RFC 3339.
#[must_use]
pub fn read_stamp(text: &str) -> Option<Timestamp> {
    let parsed = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
    i64::try_from(parsed.unix_timestamp_nanos().div_euclid(1_000_000)).ok().map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesyx_irc_codec::Line;
    use proptest::prelude::*;

    #[test]
    fn tags_are_for_who_asked() {
        let mut msg = Msg::new("a!b@c", "PRIVMSG").arg("#x").arg("hi");
        msg.msgid = Some("1".into());
        msg.account = Some("a".into());
        msg.tags.push(("+typing".into(), "active".into()));
        let now = Timestamp(1_600_000_000_123);
        assert_eq!(msg.render(Caps::NONE, now, None).unwrap(), b":a!b@c PRIVMSG #x :hi\r\n");
        let caps = caps::MESSAGE_TAGS.with(caps::SERVER_TIME).with(caps::ACCOUNT_TAG);
        let line = String::from_utf8(msg.render(caps, now, Some("L")).unwrap()).unwrap();
        let tags = "@label=L;time=2020-09-13T12:26:40.123Z;account=a;msgid=1;+typing=active";
        assert_eq!(line, format!("{tags} :a!b@c PRIVMSG #x :hi\r\n"));
        assert_eq!(read_stamp("2020-09-13T12:26:40.123Z"), Some(now));
    }

    proptest! {
        /// Whatever text a mail or a bridge brings, a client gets one line.
        #[test]
        fn text_stays_within_its_line(source in "[a-z!@.]{1,20}", text in ".*[\r\n\0]?.*", command in "PRIVMSG|TOPIC|KICK|433") {
            let msg = Msg::new(source, command.clone()).arg("#x").arg(text.clone());
            if let Some(line) = msg.render(Caps::NONE, Timestamp(0), None) {
                let body = line.strip_suffix(b"\r\n").unwrap();
                let read = Line::parse(body, Limits::FROM_SERVER).unwrap();
                prop_assert_eq!(read.command, command.as_bytes());
                prop_assert_eq!(read.parameters.len(), 2);
            }
        }
    }
}
