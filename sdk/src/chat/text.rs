//! The text of a message, for a network that carries nothing but text.

use super::Line;
use crate::memory::decode;
use crate::summary::PartKind;
use crate::{Content, Domain, Part, Timestamp, mime};

/// What a message says, as a line: the line that it is, or a mail's text.
///
/// Of a mail, the first `text/plain` that is no attachment counts, without the signature behind `-- ` (RFC 3676, section
/// 4.3); where there is none, the subject. Character sets other than UTF-8 are taken for ISO 8859-1. Cut to [`Line::MAX_TEXT`].
///
/// # Examples
/// ```
/// use mesyx_sdk::{Content, chat};
/// let mail = b"Subject: x\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\ncaf=C3=A9?\r\n-- \r\nAnn\r\n".to_vec();
/// let line = chat::line_of(&Content::from(mail), &"example.org".parse()?);
/// assert_eq!(line.text, "caf\u{e9}?");
/// # Ok::<(), mesyx_sdk::AddressError>(())
/// ```
#[must_use]
pub fn line_of(content: &Content, domain: &Domain) -> Line {
    if let Some((_, line)) = Line::from_content(content, domain) {
        return line;
    }
    let Ok(summary) = mime::summarize(content, Timestamp(0), None) else { return Line::say("") };
    let text = first_text(&summary.structure).map(|part| {
        let body = content.slice(part.body.start, part.body.end);
        decode::text(&body, &part.encoding)
    });
    let text = text.unwrap_or_default().replace("\r\n", "\n");
    let text = text.split("\n-- \n").next().unwrap_or_default().trim();
    let mut text = match text {
        "" => summary.fields.subject.map(|subject| decode::header(&subject)).unwrap_or_default(),
        text => text.to_owned(),
    };
    let mut end = text.len().min(Line::MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    Line::say(text)
}

/// Parts are at most [`mime::MAX_DEPTH`] deep.
fn first_text(part: &Part) -> Option<&Part> {
    match &part.kind {
        PartKind::Multipart(parts) => parts.iter().find_map(first_text),
        PartKind::Leaf => {
            let (kind, subtype) = &part.content_type;
            let plain = kind.eq_ignore_ascii_case(b"text") && subtype.eq_ignore_ascii_case(b"plain");
            let attached = part.disposition.as_ref().is_some_and(|(kind, _)| kind.eq_ignore_ascii_case(b"attachment"));
            (plain && !attached).then_some(part)
        }
        PartKind::Message(..) => None,
    }
}
