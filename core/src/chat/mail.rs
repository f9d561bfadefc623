//! From a mail to what is said in a conversation.
//!
//! What a mail program adds around the words is taken off: the signature, what is quoted from the line that is answered, the
//! sentence that introduces the quotation. HTML alone becomes its text.

use mail_parser::{MessageParser, MimeHeaders};
use mesyx_sdk::{Content, Error, ErrorKind, Line};

/// What a mail says, and the Message-ID that it answers.
pub(crate) struct Said {
    pub(crate) line: Line,
    pub(crate) answers: Option<String>,
}

/// # Errors
/// [`ErrorKind::Invalid`] where the mail says nothing, or has what a line can't carry; [`ErrorKind::TooLarge`].
pub(crate) fn read(content: &Content) -> Result<Said, Error> {
    let invalid = |why: &str| Error::new(ErrorKind::Invalid, why);
    let mail = MessageParser::default().parse(&content[..]).ok_or_else(|| invalid("the mail can't be read"))?;
    for part in mail.attachments() {
        let kind = part.content_type().map(|kind| (kind.ctype(), kind.subtype().unwrap_or_default()));
        let harmless = matches!(kind, Some(("application", "pgp-signature" | "pgp-keys" | "pkcs7-signature")));
        if !harmless {
            return Err(invalid("a conversation takes text only; send the mail without attachments"));
        }
    }
    let flowed = mail
        .text_part(0)
        .and_then(|part| part.content_type())
        .is_some_and(|kind| kind.attribute("format").is_some_and(|format| format.eq_ignore_ascii_case("flowed")));
    let text = mail.body_text(0).unwrap_or_default();
    let text = said(&text, flowed);
    if text.is_empty() {
        return Err(invalid("the mail says nothing besides what it quotes"));
    }
    if text.len() > Line::MAX_TEXT {
        return Err(Error::new(ErrorKind::TooLarge, "a line has at most 64 KiB"));
    }
    let answers = mail.in_reply_to().as_text().map(str::to_owned);
    Ok(Said { line: Line::say(text), answers })
}

/// The words of the author.
fn said(text: &str, flowed: bool) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut lines: Vec<String> = Vec::new();
    // RFC 3676: a blank at the end of a line says that it goes on, but for the signature's mark.
    let mut goes_on = false;
    for line in text.split('\n') {
        if line == "-- " || is_original(line) {
            break;
        }
        let quoted = line.starts_with('>');
        let line = if flowed && !quoted { line.strip_prefix(' ').unwrap_or(line) } else { line };
        match lines.last_mut().filter(|_| goes_on && !quoted) {
            Some(last) => last.push_str(line),
            None => lines.push(line.to_owned()),
        }
        goes_on = flowed && !quoted && line.ends_with(' ');
    }
    let mut kept: Vec<String> = Vec::new();
    let mut in_quote = false;
    for line in lines {
        if line.starts_with('>') {
            if !in_quote {
                take_introduction(&mut kept);
            }
            in_quote = true;
            continue;
        }
        in_quote = in_quote && line.trim().is_empty();
        kept.push(line.trim_end().to_owned());
    }
    // Blank lines at the ends say nothing, and of several in a row one is enough.
    kept.dedup_by(|a, b| a.is_empty() && b.is_empty());
    kept.join("\n").trim_matches('\n').to_owned()
}

/// "On Sunday, Bob wrote:", over one or two lines, and the blank lines after it.
fn take_introduction(kept: &mut Vec<String>) {
    while kept.last().is_some_and(|line| line.trim().is_empty()) {
        kept.pop();
    }
    if !kept.last().is_some_and(|line| line.trim_end().ends_with(':')) {
        return;
    }
    let speaks_of_time = |line: &str| line.chars().any(|c| c.is_ascii_digit()) || line.contains('@');
    let blank = |line: Option<&String>| line.is_none_or(|line| line.trim().is_empty());
    let last = kept.len() - 1;
    // Two lines of their own: the time in the first, the name and address in the second.
    let two = last > 0
        && kept[last].contains('<')
        && kept[last].contains('@')
        && !blank(kept.get(last - 1))
        && speaks_of_time(&kept[last - 1])
        && blank(last.checked_sub(2).and_then(|before| kept.get(before)));
    if two {
        kept.truncate(last - 1);
    } else if speaks_of_time(&kept[last]) {
        kept.pop();
    }
}

/// Where programs put the whole message that is answered below.
fn is_original(line: &str) -> bool {
    let line = line.trim();
    let dashes = line.trim_matches('-');
    (line.len() > dashes.len() + 6 && dashes.trim().to_lowercase().contains("original"))
        || (line.len() >= 20 && line.chars().all(|c| c == '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(mail: &str) -> String {
        read(&Content::from(mail.replace('\n', "\r\n").into_bytes()))
            .map_or_else(|error| error.to_string(), |said| said.line.text)
    }

    #[test]
    fn what_a_mail_program_adds_is_taken_off() {
        let mail = "From: a@example.org\nSubject: Re: x\nContent-Type: text/plain; charset=utf-8\n\n\
            Yes, at noon.\n\nSee you!\n\nOn Sun, 22 Nov 2026 at 12:00, Bob <bob@irc.example.org> wrote:\n> Lunch?\n> \n\n-- \nAlice\n";
        assert_eq!(text(mail), "Yes, at noon.\n\nSee you!");
        let below =
            "Content-Type: text/plain\n\nAm 22.11.2026 um 12:00 schrieb\nBob <bob@irc.example.org>:\n> Lunch?\n\nYes\n";
        assert_eq!(text(below), "Yes");
        let outlook = "Content-Type: text/plain\n\nYes\n\n-----Original Message-----\nFrom: Bob\nLunch?\n";
        assert_eq!(text(outlook), "Yes");
    }

    #[test]
    fn words_that_look_like_a_quotation_s_introduction_stay() {
        assert_eq!(text("Content-Type: text/plain\n\nTwo things:\nfirst\n"), "Two things:\nfirst");
        assert_eq!(text("Content-Type: text/plain\n\nHe said:\n> go\nand went\n"), "He said:\nand went");
    }

    #[test]
    fn flowed_lines_are_one_and_html_is_its_text() {
        assert_eq!(text("Content-Type: text/plain; format=flowed\n\none \ntwo\n three\n"), "one two\nthree");
        assert_eq!(text("Content-Type: text/html\n\n<p>Hi <b>you</b></p>\n"), "Hi you");
    }

    #[test]
    fn what_a_line_can_t_carry_is_refused() {
        let with = "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\nhi\n--b\n\
            Content-Type: image/png\nContent-Disposition: attachment; filename=x.png\n\nAAAA\n--b--\n";
        assert!(text(with).contains("without attachments"));
        assert!(text("Content-Type: text/plain\n\n> only quoted\n").contains("says nothing"));
    }
}
