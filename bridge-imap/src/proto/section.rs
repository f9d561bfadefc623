//! Finds what `BODY[…]` names in a message (RFC 3501, section 6.4.5).

use super::command::{Section, SectionText};
use super::write::Out;
use mesyx_sdk::Content;
use mesyx_sdk::summary::{Part, PartKind, Summary};
use std::ops::Range;

/// Where a section's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the message, at these offsets.
    Range(Range<u64>),
    /// The header at these offsets, filtered by names.
    Fields(Range<u64>),
    /// The message has no such part.
    Nowhere,
}

/// Whether the section lies in the top headers, which a summary holds, so that the body need not be opened.
pub(crate) const fn in_top_headers(section: &Section) -> bool {
    section.path.is_empty() && matches!(section.text, SectionText::Header | SectionText::Fields { .. })
}

/// What a part number leads to.
#[derive(Clone, Copy)]
enum Node<'a> {
    /// A message: the whole one, or one inside of a part. `end` is where it ends.
    Message { root: &'a Part, end: u64 },
    /// A part, which may hold a message.
    Part(&'a Part),
}

impl<'a> Node<'a> {
    fn child(self, number: u32) -> Option<Self> {
        let nth = |parts: &'a [Part]| parts.get(usize::try_from(number).ok()?.checked_sub(1)?).map(Node::Part);
        match self {
            // Every message has at least one part number: 1 is the body of a message that is not multipart.
            Self::Message { root, .. } => match &root.kind {
                PartKind::Multipart(parts) => nth(parts),
                _ if number == 1 => Some(Self::Part(root)),
                _ => None,
            },
            Self::Part(part) => match &part.kind {
                PartKind::Multipart(parts) => nth(parts),
                PartKind::Message(_, root) => Self::Message { root, end: part.body.end }.child(number),
                PartKind::Leaf => None,
            },
        }
    }

    /// The message whose HEADER and TEXT can be asked for here.
    fn message(self) -> Option<(&'a Part, u64)> {
        match self {
            Self::Message { root, end } => Some((root, end)),
            Self::Part(part) => match &part.kind {
                PartKind::Message(_, root) => Some((root, part.body.end)),
                _ => None,
            },
        }
    }
}

/// Finds a section.
pub(crate) fn find(section: &Section, summary: &Summary) -> Place {
    let top = Node::Message { root: &summary.structure, end: summary.size };
    let Some(node) = section.path.iter().try_fold(top, |node, number| node.child(*number)) else {
        return Place::Nowhere;
    };
    match (&section.text, node) {
        (SectionText::All, Node::Message { end, .. }) => Place::Range(0..end),
        (SectionText::All, Node::Part(part)) => Place::Range(part.body.clone()),
        (SectionText::Mime, Node::Part(part)) => Place::Range(part.header.clone()),
        (SectionText::Mime, Node::Message { .. }) => Place::Nowhere,
        (SectionText::Header, node) => {
            node.message().map_or(Place::Nowhere, |(root, _)| Place::Range(root.header.clone()))
        }
        (SectionText::Fields { .. }, node) => {
            node.message().map_or(Place::Nowhere, |(root, _)| Place::Fields(root.header.clone()))
        }
        (SectionText::Text, node) => {
            node.message().map_or(Place::Nowhere, |(root, end)| Place::Range(root.header.end..end))
        }
    }
}

/// The header lines whose names are (or with `not`, are not) among `names`, with the empty line where the header has one.
pub(crate) fn fields(header: &Content, not: bool, names: &[Vec<u8>]) -> Vec<u8> {
    let mut picked = Vec::new();
    let mut keep = false;
    for line in header.split_inclusive(|&byte| byte == b'\n') {
        if matches!(line, b"\r\n" | b"\n") {
            picked.extend_from_slice(line);
            break;
        }
        if !matches!(line.first(), Some(b' ' | b'\t')) {
            let name = line.split(|&byte| byte == b':').next().unwrap_or_default().trim_ascii_end();
            keep = names.iter().any(|wanted| wanted.eq_ignore_ascii_case(name)) != not;
        }
        if keep {
            picked.extend_from_slice(line);
        }
    }
    picked
}

/// Cuts a partial (`<start.count>`) out of what a section gave.
pub(crate) fn cut(content: &Content, partial: Option<(u32, u32)>) -> Content {
    match partial {
        None => content.clone(),
        Some((start, count)) => content.slice(start.into(), u64::from(start) + u64::from(count)),
    }
}

/// Writes `BODY[…]<start>` as the response repeats it.
pub(crate) fn label(out: &mut Out, section: &Section, partial: Option<(u32, u32)>) {
    out.text("BODY[");
    for (index, number) in section.path.iter().enumerate() {
        if index > 0 {
            out.text(".");
        }
        out.number((*number).into());
    }
    if !section.path.is_empty() && section.text != SectionText::All {
        out.text(".");
    }
    match &section.text {
        SectionText::All => {}
        SectionText::Header => out.text("HEADER"),
        SectionText::Text => out.text("TEXT"),
        SectionText::Mime => out.text("MIME"),
        SectionText::Fields { not, names } => {
            out.text(if *not { "HEADER.FIELDS.NOT (" } else { "HEADER.FIELDS (" });
            for (index, name) in names.iter().enumerate() {
                if index > 0 {
                    out.text(" ");
                }
                let atom = !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
                if atom { out.0.extend_from_slice(name) } else { out.string(name) }
            }
            out.text(")");
        }
    }
    out.text("]");
    if let Some((start, _)) = partial {
        out.text("<");
        out.number(start.into());
        out.text(">");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesyx_sdk::Timestamp;
    use mesyx_sdk::summary::MailFields;

    fn part(header: Range<u64>, body: Range<u64>, kind: PartKind) -> Part {
        Part {
            content_type: (b"text".to_vec(), b"plain".to_vec()),
            parameters: Vec::new(),
            id: None,
            description: None,
            encoding: b"7bit".to_vec(),
            md5: None,
            disposition: None,
            language: Vec::new(),
            location: None,
            header,
            body,
            lines: 0,
            kind,
        }
    }

    fn summary(structure: Part) -> Summary {
        Summary {
            internal_date: Timestamp(0),
            size: 1000,
            headers: Content::default(),
            fields: MailFields::default(),
            structure,
            origin: None,
        }
    }

    fn message(header: Range<u64>, body: Range<u64>, inside: Part) -> Part {
        part(header, body, PartKind::Message(Box::default(), Box::new(inside)))
    }

    /// The tree of RFC 3501, section 6.4.5, as far as it goes: 1 text, 2 octets, 3 message (multipart), 4 multipart.
    fn example() -> Summary {
        let leaf = |header, body| part(header, body, PartKind::Leaf);
        let inner =
            part(300..310, 310..400, PartKind::Multipart(vec![leaf(311..312, 313..340), leaf(341..342, 343..399)]));
        let single = message(520..530, 530..600, leaf(530..540, 540..600));
        let fourth = part(500..510, 510..700, PartKind::Multipart(vec![leaf(511..512, 512..515), single]));
        summary(part(
            0..100,
            100..1000,
            PartKind::Multipart(vec![
                leaf(110..120, 120..150),
                leaf(160..170, 170..200),
                message(290..300, 300..400, inner),
                fourth,
            ]),
        ))
    }

    fn place(section: &str, summary: &Summary) -> Place {
        let command = format!("a FETCH 1 BODY[{section}]");
        let command = crate::proto::grammar::parse(command.as_bytes()).expect("a command");
        let crate::proto::command::Body::Fetch(fetch) = command.body else { panic!("{command:?}") };
        let crate::proto::command::Item::Section { section, .. } = &fetch.items[0] else { panic!("{fetch:?}") };
        find(section, summary)
    }

    #[test]
    fn part_numbers_of_rfc_3501() {
        let summary = example();
        for (section, range) in [
            ("", 0..1000),
            ("HEADER", 0..100),
            ("TEXT", 100..1000),
            ("1", 120..150),
            ("1.MIME", 110..120),
            ("2", 170..200),
            ("3", 300..400),
            ("3.MIME", 290..300),
            ("3.HEADER", 300..310),
            ("3.TEXT", 310..400),
            ("3.1", 313..340),
            ("3.2.MIME", 341..342),
            ("4", 510..700),
            ("4.1", 512..515),
            ("4.2.HEADER", 530..540),
            ("4.2.TEXT", 540..600),
            ("4.2.1", 540..600),
        ] {
            assert_eq!(place(section, &summary), Place::Range(range), "{section}");
        }
        for section in ["5", "1.1", "1.HEADER", "1.TEXT", "4.TEXT", "3.3", "4.2.2", "4.2.1.1", "4294967295"] {
            assert_eq!(place(section, &summary), Place::Nowhere, "{section}");
        }
        assert_eq!(place("3.HEADER.FIELDS (To)", &summary), Place::Fields(300..310));
    }

    #[test]
    fn a_message_that_is_not_multipart_has_part_one() {
        let summary = summary(part(0..50, 50..1000, PartKind::Leaf));
        assert_eq!(place("1", &summary), Place::Range(50..1000));
        assert_eq!(place("1.MIME", &summary), Place::Range(0..50));
        assert_eq!(place("2", &summary), Place::Nowhere);
        assert_eq!(place("1.1", &summary), Place::Nowhere);
        assert_eq!(place("1.TEXT", &summary), Place::Nowhere);
    }

    #[test]
    fn header_fields() {
        let header = Content::new(b"From: a\r\nTO : b,\r\n\tc\r\nX-To: d\r\n\r\n".to_vec());
        let names = [b"to".to_vec(), b"Cc".to_vec()];
        assert_eq!(fields(&header, false, &names), b"TO : b,\r\n\tc\r\n\r\n");
        assert_eq!(fields(&header, true, &names), b"From: a\r\nX-To: d\r\n\r\n");
        let open_ended = Content::new(b"From: a\r\nTo: b".to_vec());
        assert_eq!(fields(&open_ended, false, &names), b"To: b");
    }

    #[test]
    fn partials() {
        let content = Content::new(b"0123456789".to_vec());
        assert_eq!(&*cut(&content, Some((2, 3))), b"234");
        assert_eq!(&*cut(&content, Some((8, 300))), b"89");
        assert_eq!(&*cut(&content, Some((10, 1))), b"");
        assert_eq!(&*cut(&content, Some((u32::MAX, u32::MAX))), b"");
    }
}
