//! What the bridge must know of a message's headers, found in one pass, and the two changes that submission makes.

use memchr::memchr;
use mesyx_sdk::Importance;
use std::ops::Range;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// Most lines that the headers may have.
const MOST_LINES: usize = 10_000;
/// Most bytes that the headers may have.
const MOST_BYTES: usize = 1_000_000;

/// Whether the headers of `message` are over what a mailbox takes. Nothing beyond the limits is looked at.
pub(crate) fn are_too_large(message: &[u8]) -> bool {
    let mut at = 0;
    let mut lines = 0;
    while at < message.len() && !message[at..].starts_with(b"\r\n") {
        let within = &message[at..message.len().min(MOST_BYTES + 1)];
        at += memchr(b'\n', within).map_or(within.len(), |offset| offset + 1);
        lines += 1;
        if lines > MOST_LINES || at > MOST_BYTES {
            return true;
        }
    }
    false
}

/// The headers that matter to the exchange of a message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Headers {
    /// How many `Received` fields there are.
    pub(crate) received: usize,
    /// There is a `Date`; its value.
    pub(crate) date: Option<Range<usize>>,
    /// There is a `Message-ID`; its value.
    pub(crate) message_id: Option<Range<usize>>,
    /// Where `Bcc` and `Resent-Bcc` fields stand, in order.
    pub(crate) bcc: Vec<Range<usize>>,
    /// What the sender says of its importance.
    pub(crate) importance: Importance,
}

impl Headers {
    /// Looks through the headers of `message` from `start` on. Ranges are indices into `message`.
    pub(crate) fn scan(message: &[u8], start: usize) -> Self {
        let mut headers = Self::default();
        let mut at = start;
        while at < message.len() && !message[at..].starts_with(b"\r\n") {
            let end = field_end(message, at);
            headers.note(message, at..end);
            at = end;
        }
        headers
    }

    fn note(&mut self, message: &[u8], field: Range<usize>) {
        let text = &message[field.clone()];
        let Some(colon) = memchr(b':', text) else { return };
        let name = text[..colon].trim_ascii_end();
        let value = field.start + colon + 1..field.end;
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            8 if is("Received") => self.received += 1,
            4 if is("Date") => self.date = self.date.take().or(Some(value)),
            10 if is("Message-ID") => self.message_id = self.message_id.take().or(Some(value)),
            3 if is("Bcc") => self.note_blind(field),
            10 if is("Resent-Bcc") => self.note_blind(field),
            10 if is("Importance") => self.weigh(&message[value]),
            10 if is("X-Priority") => self.weigh(&message[value]),
            8 if is("Priority") => self.weigh(&message[value]),
            _ => {}
        }
    }

    /// Fields side by side are kept as one range, so that a heap of them holds no memory.
    fn note_blind(&mut self, field: Range<usize>) {
        match self.bcc.last_mut() {
            Some(last) if last.end == field.start => last.end = field.end,
            _ => self.bcc.push(field),
        }
    }

    /// `Importance` (RFC 2156), `Priority` (the same), and the `X-Priority` of 1 to 5 that mail programs write.
    fn weigh(&mut self, value: &[u8]) {
        let word =
            value.trim_ascii().split(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-').next().unwrap_or(b"");
        let is = |words: &[&str]| words.iter().any(|known| word.eq_ignore_ascii_case(known.as_bytes()));
        if is(&["high", "urgent", "1", "2"]) {
            self.importance = Importance::High;
        } else if is(&["low", "non-urgent", "4", "5"]) && self.importance == Importance::Normal {
            self.importance = Importance::Low;
        }
    }

    /// The time in `Date`, in seconds since 1970, where it can be read.
    pub(crate) fn sent(&self, message: &[u8]) -> Option<i64> {
        let value = std::str::from_utf8(&message[self.date.clone()?]).ok()?;
        // A value of sane length, without its comment, which the parser does not know at the end.
        let value = value.split('(').next().unwrap_or(value).trim();
        if value.len() > 64 {
            return None;
        }
        OffsetDateTime::parse(value, &Rfc2822).ok().map(OffsetDateTime::unix_timestamp)
    }

    /// The message id, trimmed, where there is one of a sane length.
    pub(crate) fn id<'a>(&self, message: &'a [u8]) -> Option<&'a [u8]> {
        let id = message[self.message_id.clone()?].trim_ascii();
        (!id.is_empty() && id.len() <= 998).then_some(id)
    }
}

/// Where the field that begins at `at` ends: behind the first line end that no white space follows. Every LF in a message
/// that was taken belongs to a CRLF.
fn field_end(message: &[u8], at: usize) -> usize {
    let mut from = at;
    while let Some(offset) = memchr(b'\n', &message[from..]) {
        from += offset + 1;
        if !matches!(message.get(from), Some(b' ' | b'\t')) {
            return from;
        }
    }
    message.len()
}

/// What submission does to a message (RFC 6409, section 8): a missing `Date` and `Message-ID` are put in at `start`,
/// and blind recipients are taken out. Every other byte stays as it is.
pub(crate) fn complete(message: &mut Vec<u8>, start: usize, headers: &Headers, date: &str, message_id: &str) {
    take_out(message, &headers.bcc);
    let mut missing = String::new();
    if headers.date.is_none() {
        missing = format!("Date: {date}\r\n");
    }
    if headers.message_id.is_none() {
        missing = format!("{missing}Message-ID: {message_id}\r\n");
    }
    if !missing.is_empty() {
        message.splice(start..start, missing.into_bytes());
    }
}

/// Takes `fields`, which stand in order, out of the message. What stays is moved once, however many they are.
fn take_out(message: &mut Vec<u8>, fields: &[Range<usize>]) {
    let Some(first) = fields.first() else { return };
    let mut kept = first.start;
    for (index, field) in fields.iter().enumerate() {
        let next = fields.get(index + 1).map_or(message.len(), |next| next.start);
        message.copy_within(field.end..next, kept);
        kept += next - field.end;
    }
    message.truncate(kept);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_are_found_and_the_body_is_not_looked_at() {
        let message = b"X: y\r\nReceived: a\r\n b\r\nRECEIVED : c\r\nDate: Sun, 22 Nov 2026 22:37:44 +0100 (CET)\r\n\
            message-id:\r\n <a@b>\r\nImportance: High\r\n\r\nReceived: no\r\nBcc: no\r\n";
        let headers = Headers::scan(message, 0);
        assert_eq!(headers.received, 2);
        assert_eq!(headers.id(message).unwrap(), b"<a@b>");
        assert_eq!(headers.sent(message), Some(1_795_383_464));
        assert_eq!(headers.importance, Importance::High);
        assert!(headers.bcc.is_empty());
    }

    #[test]
    fn limits_hold_to_the_line_and_byte() {
        let lines = |count| b"A: b\r\n".repeat(count);
        assert!(!are_too_large(&lines(MOST_LINES)));
        assert!(are_too_large(&lines(MOST_LINES + 1)));
        let long = |count| [&vec![b'x'; count - 2][..], b"\r\n\r\n"].concat();
        assert!(!are_too_large(&long(MOST_BYTES)));
        assert!(are_too_large(&long(MOST_BYTES + 1)));
        let body = [&b"A: b\r\n\r\n"[..], &b"x\r\n".repeat(1_000_000)].concat();
        assert!(!are_too_large(&body), "the body is not counted");
    }

    #[test]
    fn only_what_is_missing_is_added() {
        let fix = |text: &str| {
            let mut message = text.as_bytes().to_vec();
            let headers = Headers::scan(&message, 0);
            complete(&mut message, 0, &headers, "D", "<I>");
            String::from_utf8(message).unwrap()
        };
        assert_eq!(fix("A: b\r\n\r\nbody"), "Date: D\r\nMessage-ID: <I>\r\nA: b\r\n\r\nbody");
        let whole = "Date: x\r\nMESSAGE-ID: <y>\r\n\r\n";
        assert_eq!(fix(whole), whole);
        assert_eq!(
            fix(
                "Bcc: one,\r\n\ttwo\r\nDate: x\r\nbcc:\r\nMessage-ID: <y>\r\nResent-BCC: z\r\nTo: a\r\n\r\nBcc: stays\r\n"
            ),
            "Date: x\r\nMessage-ID: <y>\r\nTo: a\r\n\r\nBcc: stays\r\n"
        );
        assert_eq!(fix("Date: x\r\nMessage-ID: <y>\r\nBcc: leak"), "Date: x\r\nMessage-ID: <y>\r\n");
    }

    #[test]
    fn many_blind_recipients_in_a_large_message_take_no_quadratic_time() {
        // Moving the body once for each field would copy 5 TB here.
        let body = [&b"\r\n"[..], &vec![b'x'; 5 << 20]].concat();
        let mut message = [&b"Bcc:\r\nA: b\r\n".repeat(1_000_000)[..], &body].concat();
        let headers = Headers::scan(&message, 0);
        complete(&mut message, 0, &headers, "D", "<I>");
        let kept = [&b"Date: D\r\nMessage-ID: <I>\r\n"[..], &b"A: b\r\n".repeat(1_000_000), &body].concat();
        assert!(message == kept);
    }

    proptest! {
        #[test]
        fn nothing_panics(message in prop::collection::vec(prop_oneof![
            Just(&b"\r\n"[..]), Just(&b" "[..]), Just(&b":"[..]), Just(&b"Date"[..]), Just(&b"Bcc"[..]), Just(&b"Message-ID"[..]), Just(&b"\xff"[..]),
        ], 0..30)) {
            let mut message = message.concat();
            let headers = Headers::scan(&message, 0);
            headers.sent(&message);
            headers.id(&message);
            complete(&mut message, 0, &headers, "d", "i");
        }
    }
}
