//! Sealed parts: opened, damaged, swapped.

use super::*;
use mesyx_sdk::summary::{MailAddressee, MailFields, PartKind};
use mesyx_sdk::{Content, Part, Summary, Timestamp};

/// A summary with something in every field.
pub(crate) fn summary(content: &Content) -> Summary {
    let mailbox = MailAddressee::Mailbox {
        name: Some(b"Alice \"A\"".to_vec()),
        route: Some(b"@relay".to_vec()),
        local: b"alice".to_vec(),
        domain: b"example.org".to_vec(),
    };
    let fields = MailFields {
        date: Some(b"Sun, 22 Nov 2026 22:00:00 +0000".to_vec()),
        subject: Some("Grüße\r\nBcc: evil@example.net".as_bytes().to_vec()),
        from: vec![mailbox.clone()],
        to: vec![MailAddressee::GroupStart(b"friends".to_vec()), mailbox, MailAddressee::GroupEnd],
        in_reply_to: Some(b"<1@example.org>".to_vec()),
        ..MailFields::default()
    };
    let leaf = Part {
        content_type: (b"text".to_vec(), b"plain".to_vec()),
        parameters: vec![(b"charset".to_vec(), b"utf-8".to_vec())],
        id: Some(b"<part>".to_vec()),
        description: None,
        encoding: b"8bit".to_vec(),
        md5: None,
        disposition: Some((b"attachment".to_vec(), vec![(b"filename".to_vec(), b"a.txt".to_vec())])),
        language: vec![b"en".to_vec()],
        location: None,
        header: 3..10,
        body: 10..20,
        lines: 2,
        kind: PartKind::Leaf,
    };
    let inner = Part { kind: PartKind::Multipart(vec![leaf.clone(), leaf.clone()]), ..leaf.clone() };
    let message = Part { kind: PartKind::Message(Box::new(fields.clone()), Box::new(inner)), ..leaf.clone() };
    let root = Part { kind: PartKind::Multipart(vec![leaf.clone(), message, leaf.clone()]), ..leaf };
    Summary {
        internal_date: Timestamp(1_795_400_000_123),
        size: content.len() as u64,
        headers: content.slice(0, 10),
        fields,
        structure: root,
        origin: None,
    }
}
