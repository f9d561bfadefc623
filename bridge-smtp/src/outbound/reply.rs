//! What a server says: lines to replies (RFC 5321, section 4.2).

use memchr::memchr;
use std::fmt;

/// Longest line that is read. RFC 5321, section 4.5.3.1.5, says 512; some servers say more.
const MAX_LINE: usize = 4096;
/// Most lines of one reply; the longest known answers to EHLO have some thirty.
const MAX_LINES: usize = 200;
/// Most bytes that are kept of one reply while it is read: more than any answer to EHLO has. What is beyond that is passed over.
const MAX_KEPT: usize = 16 << 10;
/// Most characters of a reply that are shown.
const MAX_SHOWN: usize = 500;
/// Most lines of a reply that are shown.
const MAX_SHOWN_LINES: usize = 5;

/// One reply, all its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The basic code, 200 to 599.
    pub code: u16,
    /// The enhanced code (RFC 3463), where the first line has one that fits the basic code.
    pub enhanced: Option<(u8, u16, u16)>,
    /// What follows the basic code in each line, without control characters.
    pub lines: Vec<String>,
}

impl Reply {
    /// Whether it says yes.
    #[must_use]
    pub const fn is_yes(&self) -> bool {
        self.code < 300
    }

    /// What of it is kept once it was heard: what is shown. A host may say much to each recipient, and nothing of that is in the budget
    /// that messages share.
    #[must_use]
    pub fn brief(mut self) -> Self {
        self.lines.truncate(MAX_SHOWN_LINES);
        let mut left = MAX_SHOWN;
        for line in &mut self.lines {
            if let Some((end, _)) = line.char_indices().nth(left) {
                line.truncate(end);
            }
            left -= line.chars().count();
            line.shrink_to_fit();
        }
        self.lines.shrink_to_fit();
        self
    }

    /// Whether it says no for good.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        self.code >= 500
    }
}

impl fmt::Display for Reply {
    /// On one line, cut to a sane length.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        let mut left = MAX_SHOWN;
        for line in &self.lines {
            let shown: String = line.chars().take(left).collect();
            left -= shown.chars().count();
            if !shown.is_empty() {
                write!(f, " {shown}")?;
            }
        }
        Ok(())
    }
}

/// What came is not SMTP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub(crate) &'static str);

/// Cuts a stream into replies.
#[derive(Debug, Default)]
pub struct ReplyReader {
    partial: Vec<u8>,
    reply: Option<Reply>,
    /// Lines of `reply` that came, and bytes that are kept of them.
    came: (usize, usize),
}

impl ReplyReader {
    /// The next whole reply of `input`, which moves on behind it; `None` where none ends in it.
    ///
    /// # Errors
    /// Where it is no SMTP, or longer than any sane reply. Nothing more can be read then.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Reply>, Malformed> {
        while !input.is_empty() {
            let end = memchr(b'\n', input).map(|at| at + 1);
            let piece = &input[..end.unwrap_or(input.len())];
            if self.partial.len() + piece.len() > MAX_LINE {
                return Err(Malformed("a line of its reply is too long"));
            }
            self.partial.extend_from_slice(piece);
            *input = &input[piece.len()..];
            if end.is_some() {
                let line = std::mem::take(&mut self.partial);
                if let Some(reply) = self.line(&line)? {
                    return Ok(Some(reply));
                }
            }
        }
        Ok(None)
    }

    /// Whether nothing is left of what was given: neither the beginning of a line nor that of a reply.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.partial.is_empty() && self.reply.is_none()
    }

    fn line(&mut self, line: &[u8]) -> Result<Option<Reply>, Malformed> {
        // Some servers end lines with LF alone; nothing hinges on it in this direction.
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let digits = line.get(..3).filter(|digits| digits.iter().all(u8::is_ascii_digit));
        let code = digits.and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|digits| digits.parse().ok());
        let code: u16 = code.filter(|code| (200..600).contains(code)).ok_or(Malformed("it does not speak SMTP"))?;
        let more = match line.get(3) {
            None | Some(b' ') => false,
            Some(b'-') => true,
            Some(_) => return Err(Malformed("it does not speak SMTP")),
        };
        let text: String = String::from_utf8_lossy(line.get(4..).unwrap_or_default())
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let reply =
            self.reply.get_or_insert_with(|| Reply { code, enhanced: enhanced(code, &text), lines: Vec::new() });
        if reply.code != code {
            return Err(Malformed("the lines of its reply have different codes"));
        }
        let (lines, kept) = &mut self.came;
        *lines += 1;
        if *lines > MAX_LINES {
            return Err(Malformed("its reply has too many lines"));
        }
        *kept += text.len();
        if *kept <= MAX_KEPT {
            reply.lines.push(text);
        }
        if more {
            return Ok(None);
        }
        self.came = (0, 0);
        Ok(self.reply.take())
    }
}

/// The enhanced code that begins a text. One of another class than the basic code says nothing (RFC 2034, section 4).
fn enhanced(code: u16, text: &str) -> Option<(u8, u16, u16)> {
    let mut parts = text.split(' ').next()?.split('.');
    let class: u8 = parts.next().filter(|part| part.len() == 1)?.parse().ok()?;
    let mut part = || parts.next().filter(|part| (1..=3).contains(&part.len()))?.parse::<u16>().ok();
    let (subject, detail) = (part()?, part()?);
    let fits = parts.next().is_none() && u16::from(class) == code / 100 && matches!(class, 2 | 4 | 5);
    fits.then_some((class, subject, detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(pieces: &[&[u8]]) -> Result<Vec<Reply>, Malformed> {
        let mut reader = ReplyReader::default();
        let mut replies = Vec::new();
        for piece in pieces {
            let mut input = *piece;
            while let Some(reply) = reader.next(&mut input)? {
                replies.push(reply);
            }
        }
        Ok(replies)
    }

    #[test]
    fn replies_have_one_line_or_many() {
        let replies =
            read(&[b"220 mx.example.net ESMTP\r\n250-mx\r\n250-SIZE 100\n250 PIPELINING\r\n354\r\n"]).unwrap();
        assert_eq!(replies.iter().map(|reply| reply.code).collect::<Vec<_>>(), [220, 250, 354]);
        assert_eq!(replies[1].lines, ["mx", "SIZE 100", "PIPELINING"]);
        assert_eq!(replies[1].to_string(), "250 mx SIZE 100 PIPELINING");
    }

    #[test]
    fn enhanced_codes_count_where_they_fit() {
        for (line, code) in [
            ("550 5.1.1 no such user", Some((5, 1, 1))),
            ("450 4.7.100 slowly", Some((4, 7, 100))),
            ("550 4.7.1 which one now", None),
            ("550 5.1 half", None),
            ("550 5.1.1.1 more", None),
            ("550 5.1.x no", None),
            ("550 No 5.1.1", None),
            ("250 2.0.0", Some((2, 0, 0))),
        ] {
            assert_eq!(read(&[line.as_bytes(), b"\r\n"]).unwrap()[0].enhanced, code, "{line}");
        }
    }

    #[test]
    fn what_is_no_smtp_is_told() {
        for bad in [
            "HTTP/1.1 400\r\n",
            "22\r\n",
            "\r\n",
            "999 x\r\n",
            "100 x\r\n",
            "250x\r\n",
            "250-a\r\n550 b\r\n",
            "+OK\r\n",
        ] {
            assert!(read(&[bad.as_bytes()]).is_err(), "{bad}");
        }
        assert!(read(&[&[b'2'; 5000]]).is_err());
        assert!(read(&["250-x\r\n".repeat(201).as_bytes()]).is_err());
        let odd = read(&[b"550 \x1b[31mred\x00\xff\r\n"]).unwrap();
        assert_eq!(odd[0].lines, [" [31mred \u{fffd}"]);
        assert!(read(&[format!("550 {}\r\n", "é".repeat(2000)).as_bytes()]).unwrap()[0].to_string().len() < 1100);
    }

    #[test]
    fn of_long_replies_little_is_kept() {
        let long = format!("{}550 end\r\n", format!("550-{}\r\n", "\u{e9}".repeat(2000)).repeat(150));
        let whole = read(&[long.as_bytes()]).unwrap().remove(0);
        let bytes = |reply: &Reply| reply.lines.iter().map(String::capacity).sum::<usize>();
        assert!(bytes(&whole) <= 2 * MAX_KEPT, "{}", bytes(&whole));
        let shown = whole.to_string();
        let brief = whole.brief();
        assert!(brief.lines.len() <= 5 && bytes(&brief) <= 2000, "{}", bytes(&brief));
        assert_eq!(brief.to_string(), shown);
        let short = read(&[b"550-a\r\n550-b\r\n550-c\r\n550-d\r\n550-e\r\n550 f\r\n"]).unwrap().remove(0);
        assert_eq!(short.brief().to_string(), "550 a b c d e");
    }

    proptest! {
        #[test]
        fn any_cutting_gives_the_same_replies(
            lines in prop::collection::vec("(250|250|550)( |-)[ -~]{0,30}\r\n", 0..10),
            cut in 1_usize..9,
        ) {
            let text = lines.concat();
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(cut).collect();
            prop_assert_eq!(read(&pieces), read(&[text.as_bytes()]));
        }
    }
}
