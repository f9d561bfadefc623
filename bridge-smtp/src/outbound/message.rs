//! A message as it goes over the wire: what it needs of a server, and the bytes, stuffed or not.

use bytes::Bytes;
use memchr::{memchr, memchr2_iter};
use mesyx_sdk::{Dsn, MailAddress, Recipient, ReturnPart};

/// Longest line without its CRLF (RFC 5321, section 4.5.3.1.6).
pub const MAX_LINE: usize = 998;
/// How much content is put out at once.
const PIECE: usize = 64 << 10;

/// Why a message can never be sent by SMTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsendable {
    /// CR or LF outside of CRLF: some servers would take it for a line end, and what follows for commands.
    #[error("5.6.0 the message has a CR or LF that is no part of a line end, which mail can't carry")]
    BareLineEnd,
    /// A zero byte.
    #[error("5.6.0 the message has a NUL, which mail can't carry")]
    Nul,
    /// A line is longer than mail allows.
    #[error(
        "5.6.0 the message has a line of more than 998 bytes, which mail can't carry; send it with quoted-printable or base64"
    )]
    LongLine,
}

/// A message to be sent: its bytes, and what they need.
#[derive(Clone)]
pub struct Message {
    /// The bytes in order; each line ends in CRLF, the last one too.
    pieces: Vec<Bytes>,
    /// How many bytes there are.
    pub size: u64,
    /// There are bytes beyond ASCII: needs 8BITMIME (RFC 6152).
    pub eight_bit: bool,
    /// The headers are UTF-8 beyond ASCII: needs SMTPUTF8 (RFC 6532).
    pub utf8_headers: bool,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Message({} bytes)", self.size)
    }
}

impl Message {
    /// Looks through the bytes once. `before` are header lines that are put before the content.
    ///
    /// A line end that is missing at the very end is added; nothing else is changed.
    ///
    /// # Errors
    /// Where it can't be sent at all.
    pub fn new(before: Vec<u8>, content: Bytes) -> Result<Self, Unsendable> {
        let mut pieces = vec![Bytes::from(before), content];
        pieces.retain(|piece| !piece.is_empty());
        for piece in &pieces {
            check(piece)?;
        }
        if pieces.last().is_some_and(|last| !last.ends_with(b"\r\n")) {
            pieces.push(Bytes::from_static(b"\r\n"));
        }
        let size = pieces.iter().map(|piece| piece.len() as u64).sum();
        let eight_bit = pieces.iter().any(|piece| !piece.is_ascii());
        let utf8_headers = eight_bit && pieces.iter().any(|piece| has_utf8_headers(piece));
        Ok(Self { pieces, size, eight_bit, utf8_headers })
    }
}

fn check(piece: &[u8]) -> Result<(), Unsendable> {
    if memchr(0, piece).is_some() {
        return Err(Unsendable::Nul);
    }
    let mut begin = 0;
    for at in memchr2_iter(b'\r', b'\n', piece) {
        match piece[at] {
            b'\r' if piece.get(at + 1) != Some(&b'\n') => return Err(Unsendable::BareLineEnd),
            b'\r' => {
                if at - begin > MAX_LINE {
                    return Err(Unsendable::LongLine);
                }
                begin = at + 2;
            }
            _ if at == 0 || piece[at - 1] != b'\r' => return Err(Unsendable::BareLineEnd),
            _ => {}
        }
    }
    if piece.len() - begin > MAX_LINE { Err(Unsendable::LongLine) } else { Ok(()) }
}

/// Headers that are not ASCII and not UTF-8 either were never right; they go as they are, as 8BITMIME.
fn has_utf8_headers(piece: &[u8]) -> bool {
    let mut at = 0;
    while at < piece.len() && !piece[at..].starts_with(b"\r\n") {
        at += memchr(b'\n', &piece[at..]).map_or(piece.len() - at, |end| end + 1);
    }
    let headers = &piece[..at];
    !headers.is_ascii() && std::str::from_utf8(headers).is_ok()
}

/// How far a message was put out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cursor {
    piece: usize,
    at: usize,
    inside_line: bool,
}

impl Cursor {
    /// Puts some more of the message out as DATA wants it: a dot before each line that begins with one. `false` when all is out.
    pub(crate) fn stuffed(&mut self, message: &Message, out: &mut Vec<u8>) -> bool {
        let until = out.len() + PIECE;
        while let Some(rest) = self.rest(message) {
            if out.len() >= until {
                return true;
            }
            if !self.inside_line && rest[0] == b'.' {
                out.push(b'.');
            }
            let end = memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
            out.extend_from_slice(&rest[..end]);
            self.inside_line = rest[end - 1] != b'\n';
            self.at += end;
        }
        false
    }

    /// Puts some more of the message out as BDAT wants it: as it is. `false` when all is out.
    pub(crate) fn plain(&mut self, message: &Message, out: &mut Vec<u8>) -> bool {
        let until = out.len() + PIECE;
        while let Some(rest) = self.rest(message) {
            let room = until - out.len();
            if room == 0 {
                return true;
            }
            let end = rest.len().min(room);
            out.extend_from_slice(&rest[..end]);
            self.at += end;
        }
        false
    }

    /// What is left of the present piece; never empty.
    fn rest<'m>(&mut self, message: &'m Message) -> Option<&'m [u8]> {
        loop {
            let rest = message.pieces.get(self.piece)?.get(self.at..).unwrap_or_default();
            if !rest.is_empty() {
                return Some(rest);
            }
            self.piece += 1;
            self.at = 0;
        }
    }
}

/// Whom a message goes to, and what the envelope says besides.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// The reverse-path; `None` is the null one.
    pub from: Option<MailAddress>,
    /// Wishes for the whole message.
    pub dsn: Dsn,
    /// The recipients, all mail addresses.
    pub to: Vec<Recipient>,
}

impl Envelope {
    /// The MAIL command with what the server offers of the wishes.
    pub(crate) fn mail(&self, message: &Message, offers: &super::client::Offers, utf8: bool) -> String {
        let mut line = match &self.from {
            Some(from) => format!("MAIL FROM:<{from}>"),
            None => "MAIL FROM:<>".to_owned(),
        };
        if offers.size.is_some() {
            line.push_str(&format!(" SIZE={}", message.size));
        }
        if message.eight_bit && offers.eight_bit {
            line.push_str(" BODY=8BITMIME");
        }
        if utf8 {
            line.push_str(" SMTPUTF8");
        }
        if offers.dsn {
            match self.dsn.ret {
                Some(ReturnPart::Full) => line.push_str(" RET=FULL"),
                Some(ReturnPart::Headers) => line.push_str(" RET=HDRS"),
                None => {}
            }
            if let Some(envid) = self.dsn.envid.as_deref().filter(|envid| is_sendable(envid, utf8)) {
                line.push_str(&format!(" ENVID={}", crate::proto::encode_xtext(envid)));
            }
        }
        line
    }

    /// The RCPT command of one recipient.
    pub(crate) fn rcpt(&self, index: usize, offers: &super::client::Offers, utf8: bool) -> String {
        let Some(recipient) = self.to.get(index) else { return String::new() };
        let mut line = format!("RCPT TO:<{}>", recipient.address);
        if !offers.dsn {
            return line;
        }
        if let Some(notify) = recipient.notify {
            let chosen = [(notify.success, "SUCCESS"), (notify.failure, "FAILURE"), (notify.delay, "DELAY")];
            let words: Vec<_> = chosen.iter().filter(|(wanted, _)| *wanted).map(|(_, word)| *word).collect();
            let words = if words.is_empty() { "NEVER".to_owned() } else { words.join(",") };
            line.push_str(&format!(" NOTIFY={words}"));
        }
        if let Some((kind, address)) = recipient.original.as_deref().and_then(|original| original.split_once(';'))
            && kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !kind.is_empty()
            && is_sendable(address, utf8)
        {
            line.push_str(&format!(" ORCPT={kind};{}", crate::proto::encode_xtext(address)));
        }
        line
    }
}

/// Whether a parameter can be written: whoever made it, it holds no control character, and no more than the server reads.
fn is_sendable(text: &str, utf8: bool) -> bool {
    !text.is_empty() && text.len() <= 500 && !text.chars().any(char::is_control) && (utf8 || text.is_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(content: &[u8]) -> Result<Message, Unsendable> {
        Message::new(Vec::new(), Bytes::copy_from_slice(content))
    }

    fn put_out(message: &Message, stuffed: bool) -> Vec<u8> {
        let mut cursor = Cursor::default();
        let mut all = Vec::new();
        loop {
            let mut out = Vec::new();
            let more = if stuffed { cursor.stuffed(message, &mut out) } else { cursor.plain(message, &mut out) };
            assert!(out.len() <= PIECE + MAX_LINE + 3);
            all.extend_from_slice(&out);
            if !more {
                return all;
            }
        }
    }

    #[test]
    fn what_mail_can_not_carry_is_refused() {
        for bare in ["a\nb\r\n", "a\rb\r\n", "\n.\r\n", "a\r\n.\n", "a\r", "a\r\r\n", "\n"] {
            assert_eq!(message(bare.as_bytes()).unwrap_err(), Unsendable::BareLineEnd, "{bare:?}");
        }
        assert_eq!(message(b"a\0\r\n").unwrap_err(), Unsendable::Nul);
        let line = |length: usize| format!("A: b\r\n\r\n{}\r\n.\r\n", "x".repeat(length));
        assert!(message(line(998).as_bytes()).is_ok());
        assert_eq!(message(line(999).as_bytes()).unwrap_err(), Unsendable::LongLine);
        assert_eq!(message(&[b'x'; 999]).unwrap_err(), Unsendable::LongLine);
    }

    #[test]
    fn needs_are_told_from_the_bytes() {
        let needs = |text: &[u8]| message(text).map(|message| (message.eight_bit, message.utf8_headers)).unwrap();
        assert_eq!(needs(b"Subject: a\r\n\r\nb\r\n"), (false, false));
        assert_eq!(needs("Subject: a\r\n\r\nä\r\n".as_bytes()), (true, false));
        assert_eq!(needs("Subject: ä\r\n\r\nb\r\n".as_bytes()), (true, true));
        assert_eq!(needs(b"Subject: \xe4\r\n\r\nb\r\n"), (true, false));
        assert_eq!(needs("Subject: ä".as_bytes()), (true, true));
    }

    #[test]
    fn dots_are_stuffed_across_pieces() {
        let message =
            Message::new(b"DKIM-Signature: x\r\n".to_vec(), Bytes::from_static(b".a\r\n\r\n..\r\nb.\r\n.")).unwrap();
        assert_eq!(put_out(&message, true), b"DKIM-Signature: x\r\n..a\r\n\r\n...\r\nb.\r\n..\r\n");
        assert_eq!(put_out(&message, false), b"DKIM-Signature: x\r\n.a\r\n\r\n..\r\nb.\r\n.\r\n");
        assert_eq!(message.size, 36);
    }

    proptest! {
        #[test]
        fn stuffing_is_undone_by_taking_dots_out(lines in prop::collection::vec("[.a]{0,4}|[ -~]{900,998}", 0..200)) {
            let text: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let message = message(text.as_bytes()).unwrap();
            let stuffed = String::from_utf8(put_out(&message, true)).unwrap();
            prop_assert!(!stuffed.split("\r\n").any(|line| line == "."));
            let undone: String = stuffed.split_inclusive("\r\n").map(|line| line.strip_prefix('.').unwrap_or(line)).collect();
            prop_assert_eq!(&undone, &text);
            prop_assert_eq!(put_out(&message, false), text.as_bytes());
        }
    }
}
