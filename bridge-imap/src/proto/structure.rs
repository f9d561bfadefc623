//! ENVELOPE, BODY and BODYSTRUCTURE (RFC 3501, section 7.4.2).

use super::write::Out;
use mesyx_sdk::summary::{MailAddressee, MailFields, Part, PartKind};

/// Writes an envelope. Where there is no Sender or Reply-To, From stands for it.
pub(crate) fn envelope(out: &mut Out, fields: &MailFields) {
    out.text("(");
    out.nstring(fields.date.as_deref());
    out.text(" ");
    out.nstring(fields.subject.as_deref());
    addresses(out, &fields.from);
    addresses(out, if fields.sender.is_empty() { &fields.from } else { &fields.sender });
    addresses(out, if fields.reply_to.is_empty() { &fields.from } else { &fields.reply_to });
    addresses(out, &fields.to);
    addresses(out, &fields.cc);
    addresses(out, &fields.bcc);
    out.text(" ");
    out.nstring(fields.in_reply_to.as_deref());
    out.text(" ");
    out.nstring(fields.message_id.as_deref());
    out.text(")");
}

fn addresses(out: &mut Out, list: &[MailAddressee]) {
    if list.is_empty() {
        return out.text(" NIL");
    }
    out.text(" (");
    for addressee in list {
        match addressee {
            MailAddressee::Mailbox { name, route, local, domain } => {
                out.text("(");
                out.nstring(name.as_deref());
                out.text(" ");
                out.nstring(route.as_deref());
                out.text(" ");
                out.string(local);
                out.text(" ");
                // NIL here would mean a group.
                out.string(domain);
                out.text(")");
            }
            MailAddressee::GroupStart(name) => {
                out.text("(NIL NIL ");
                out.string(name);
                out.text(" NIL)");
            }
            MailAddressee::GroupEnd => out.text("(NIL NIL NIL NIL)"),
        }
    }
    out.text(")");
}

/// Writes a body structure, with the extension data where `extended` (BODYSTRUCTURE, not BODY).
pub(crate) fn body_structure(out: &mut Out, part: &Part, extended: bool) {
    out.text("(");
    match &part.kind {
        PartKind::Multipart(parts) => {
            parts.iter().for_each(|part| body_structure(out, part, extended));
            out.text(" ");
            out.string(&part.content_type.1);
            if extended {
                out.text(" ");
                parameters(out, &part.parameters);
            }
        }
        PartKind::Leaf | PartKind::Message(..) => {
            single_part(out, part, extended);
            if extended {
                out.text(" ");
                out.nstring(part.md5.as_deref());
            }
        }
    }
    if extended {
        disposition_language_location(out, part);
    }
    out.text(")");
}

fn single_part(out: &mut Out, part: &Part, extended: bool) {
    out.string(&part.content_type.0);
    out.text(" ");
    out.string(&part.content_type.1);
    out.text(" ");
    parameters(out, &part.parameters);
    out.text(" ");
    out.nstring(part.id.as_deref());
    out.text(" ");
    out.nstring(part.description.as_deref());
    out.text(" ");
    out.string(&part.encoding);
    out.text(" ");
    out.number(part.body.end.saturating_sub(part.body.start));
    match &part.kind {
        PartKind::Message(fields, inner) => {
            out.text(" ");
            envelope(out, fields);
            out.text(" ");
            body_structure(out, inner, extended);
            out.text(" ");
            out.number(part.lines.into());
        }
        // `message/rfc822` here would have to have an envelope: one that was not looked into is shown as plain bytes.
        _ if part.content_type.0.eq_ignore_ascii_case(b"text") => {
            out.text(" ");
            out.number(part.lines.into());
        }
        _ => {}
    }
}

fn parameters(out: &mut Out, parameters: &[(Vec<u8>, Vec<u8>)]) {
    if parameters.is_empty() {
        return out.text("NIL");
    }
    out.text("(");
    for (index, (name, value)) in parameters.iter().enumerate() {
        if index > 0 {
            out.text(" ");
        }
        out.string(name);
        out.text(" ");
        out.string(value);
    }
    out.text(")");
}

fn disposition_language_location(out: &mut Out, part: &Part) {
    match &part.disposition {
        None => out.text(" NIL "),
        Some((kind, values)) => {
            out.text(" (");
            out.string(kind);
            out.text(" ");
            parameters(out, values);
            out.text(") ");
        }
    }
    match part.language.as_slice() {
        [] => out.text("NIL"),
        [tag] => out.string(tag),
        tags => {
            out.text("(");
            for (index, tag) in tags.iter().enumerate() {
                if index > 0 {
                    out.text(" ");
                }
                out.string(tag);
            }
            out.text(")");
        }
    }
    out.text(" ");
    out.nstring(part.location.as_deref());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::option;
    use proptest::prelude::*;

    fn mailbox(name: Option<&str>, local: &str, domain: &str) -> MailAddressee {
        let name = name.map(|name| name.as_bytes().to_vec());
        MailAddressee::Mailbox { name, route: None, local: local.into(), domain: domain.into() }
    }

    fn leaf(kind: &str, subtype: &str, body: std::ops::Range<u64>, lines: u32) -> Part {
        Part {
            content_type: (kind.into(), subtype.into()),
            parameters: Vec::new(),
            id: None,
            description: None,
            encoding: b"7BIT".to_vec(),
            md5: None,
            disposition: None,
            language: Vec::new(),
            location: None,
            header: 0..0,
            body,
            lines,
            kind: PartKind::Leaf,
        }
    }

    fn written(write: impl FnOnce(&mut Out)) -> String {
        let mut out = Out::default();
        write(&mut out);
        String::from_utf8(out.0).expect("text")
    }

    #[test]
    fn envelope_of_rfc_3501() {
        let gray = mailbox(Some("Terry Gray"), "gray", "cac.washington.edu");
        let fields = MailFields {
            date: Some(b"Wed, 17 Jul 1996 02:23:25 -0700 (PDT)".to_vec()),
            subject: Some(b"IMAP4rev1 WG mtg summary and minutes".to_vec()),
            from: vec![gray.clone()],
            to: vec![mailbox(None, "imap", "cac.washington.edu")],
            cc: vec![
                mailbox(None, "minutes", "CNRI.Reston.VA.US"),
                mailbox(Some("John Klensin"), "KLENSIN", "MIT.EDU"),
            ],
            message_id: Some(b"<B27397-0100000@cac.washington.edu>".to_vec()),
            ..MailFields::default()
        };
        let expected = "(\"Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\" \"IMAP4rev1 WG mtg summary and minutes\" \
            ((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) ((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) \
            ((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) ((NIL NIL \"imap\" \"cac.washington.edu\")) \
            ((NIL NIL \"minutes\" \"CNRI.Reston.VA.US\")(\"John Klensin\" NIL \"KLENSIN\" \"MIT.EDU\")) NIL NIL \
            \"<B27397-0100000@cac.washington.edu>\")";
        assert_eq!(written(|out| envelope(out, &fields)), expected);
    }

    #[test]
    fn groups_and_missing_domains() {
        let fields = MailFields {
            to: vec![MailAddressee::GroupStart(b"A Group".to_vec()), mailbox(None, "ed", ""), MailAddressee::GroupEnd],
            ..MailFields::default()
        };
        let text = written(|out| envelope(out, &fields));
        assert_eq!(
            text,
            "(NIL NIL NIL NIL NIL ((NIL NIL \"A Group\" NIL)(NIL NIL \"ed\" \"\")(NIL NIL NIL NIL)) NIL NIL NIL NIL)"
        );
    }

    #[test]
    fn body_of_rfc_3501() {
        let mut text = leaf("TEXT", "PLAIN", 100..1252, 23);
        text.parameters = vec![(b"CHARSET".to_vec(), b"US-ASCII".to_vec())];
        let mut attached = leaf("TEXT", "PLAIN", 2000..6554, 73);
        attached.parameters =
            vec![(b"CHARSET".to_vec(), b"US-ASCII".to_vec()), (b"NAME".to_vec(), b"cc.diff".to_vec())];
        attached.id = Some(b"<960723163407.20117h@cac.washington.edu>".to_vec());
        attached.description = Some(b"Compiler diff".to_vec());
        attached.encoding = b"BASE64".to_vec();
        let mut whole = leaf("MULTIPART", "MIXED", 50..7000, 200);
        whole.kind = PartKind::Multipart(vec![text, attached]);
        assert_eq!(
            written(|out| body_structure(out, &whole, false)),
            "((\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 1152 23)(\"TEXT\" \"PLAIN\" (\"CHARSET\" \
             \"US-ASCII\" \"NAME\" \"cc.diff\") \"<960723163407.20117h@cac.washington.edu>\" \"Compiler diff\" \"BASE64\" \
             4554 73) \"MIXED\")"
        );
    }

    #[test]
    fn extension_data_and_messages_inside() {
        let mut message = leaf("message", "rfc822", 10..60, 4);
        message.kind = PartKind::Message(Box::default(), Box::new(leaf("text", "plain", 40..60, 2)));
        message.disposition = Some((b"attachment".to_vec(), vec![(b"filename".to_vec(), b"a.eml".to_vec())]));
        message.language = vec![b"en".to_vec(), b"de".to_vec()];
        assert_eq!(
            written(|out| body_structure(out, &message, true)),
            "(\"message\" \"rfc822\" NIL NIL NIL \"7BIT\" 50 (NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL) (\"text\" \"plain\" \
             NIL NIL NIL \"7BIT\" 20 2 NIL NIL NIL NIL) 4 NIL (\"attachment\" (\"filename\" \"a.eml\")) (\"en\" \"de\") NIL)"
        );
    }

    /// What a response is made of, as a client reads it.
    #[derive(Debug, Clone, PartialEq)]
    enum Value {
        Nil,
        Number(u64),
        String(Vec<u8>),
        List(Vec<Value>),
    }

    fn read(input: &mut &[u8]) -> Value {
        match input.split_first() {
            Some((b'(', rest)) => {
                *input = rest;
                let mut values = Vec::new();
                while input[0] != b')' {
                    values.push(read(input));
                    if input[0] == b' ' {
                        *input = &input[1..];
                    }
                }
                *input = &input[1..];
                Value::List(values)
            }
            Some((b'"', rest)) => {
                *input = rest;
                let mut value = Vec::new();
                loop {
                    match (input[0], input[1]) {
                        (b'"', _) => break,
                        (b'\\', next) => {
                            value.push(next);
                            *input = &input[2..];
                        }
                        (byte, _) => {
                            assert!(byte.is_ascii() && byte != b'\r' && byte != b'\n' && byte != 0);
                            value.push(byte);
                            *input = &input[1..];
                        }
                    }
                }
                *input = &input[1..];
                Value::String(value)
            }
            Some((b'{', rest)) => {
                let end = rest.iter().position(|byte| *byte == b'}').expect("a literal");
                let size: usize = std::str::from_utf8(&rest[..end]).expect("digits").parse().expect("a size");
                let rest = rest[end + 1..].strip_prefix(b"\r\n").expect("a line end");
                *input = &rest[size..];
                assert!(!rest[..size].contains(&0));
                Value::String(rest[..size].to_vec())
            }
            Some((b'0'..=b'9', _)) => {
                let end = input.iter().position(|byte| !byte.is_ascii_digit()).expect("an end");
                let (digits, rest) = input.split_at(end);
                *input = rest;
                Value::Number(std::str::from_utf8(digits).expect("digits").parse().expect("a number"))
            }
            _ => {
                *input = input.strip_prefix(b"NIL").expect("NIL");
                Value::Nil
            }
        }
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![proptest::collection::vec(1_u8.., 0..8), "[ -~]{0,12}".prop_map(String::into_bytes)]
    }

    fn fields() -> impl Strategy<Value = MailFields> {
        let one = || {
            (option::of(bytes()), option::of(bytes()), bytes(), bytes())
                .prop_map(|(name, route, local, domain)| MailAddressee::Mailbox { name, route, local, domain })
        };
        let many = || proptest::collection::vec(one(), 0..3);
        (option::of(bytes()), option::of(bytes()), many(), many(), many(), option::of(bytes())).prop_map(
            |(date, subject, from, reply_to, to, message_id)| MailFields {
                date,
                subject,
                from,
                reply_to,
                to,
                message_id,
                ..MailFields::default()
            },
        )
    }

    fn part() -> impl Strategy<Value = Part> {
        let one =
            (bytes(), bytes(), proptest::collection::vec((bytes(), bytes()), 0..3), option::of(bytes()), 0..99_u32);
        let one = one.prop_map(|(kind, subtype, parameters, id, lines)| {
            let mut part = leaf("", "", 5..u64::from(lines) + 5, lines);
            part.content_type = (kind, subtype);
            part.disposition = id.clone().map(|id| (id, parameters.clone()));
            (part.parameters, part.id) = (parameters, id);
            part
        });
        one.prop_recursive(4, 20, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 1..4).prop_map(|parts| {
                    let mut part = leaf("multipart", "mixed", 0..9, 1);
                    part.kind = PartKind::Multipart(parts);
                    part
                }),
                (fields(), inner).prop_map(|(fields, inside)| {
                    let mut part = leaf("message", "rfc822", 0..9, 1);
                    part.kind = PartKind::Message(Box::new(fields), Box::new(inside));
                    part
                }),
            ]
        })
    }

    fn nstring(bytes: Option<&Vec<u8>>) -> Value {
        bytes.map_or(Value::Nil, |bytes| Value::String(bytes.clone()))
    }

    /// The parts of a structure that has been read, against what it was written from.
    fn check(value: &Value, part: &Part, extended: bool) {
        let Value::List(values) = value else { panic!("{value:?}") };
        match &part.kind {
            PartKind::Multipart(parts) => {
                values.iter().zip(parts).for_each(|(value, part)| check(value, part, extended));
                assert_eq!(values.len(), parts.len() + if extended { 5 } else { 1 });
            }
            kind => {
                assert_eq!(values[0], Value::String(part.content_type.0.clone()));
                assert_eq!(values[3], nstring(part.id.as_ref()));
                assert_eq!(values[6], Value::Number(part.body.end - part.body.start));
                let mut length = if extended { 11 } else { 7 };
                if let PartKind::Message(_, inside) = kind {
                    check(&values[8], inside, extended);
                    length += 3;
                } else if part.content_type.0.eq_ignore_ascii_case(b"text") {
                    length += 1;
                }
                assert_eq!(values.len(), length, "{values:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn envelopes_read_back(fields in fields()) {
            let mut out = Out::default();
            envelope(&mut out, &fields);
            let mut input = out.0.as_slice();
            let Value::List(values) = read(&mut input) else { panic!("{out:?}", out = out.0) };
            prop_assert!(input.is_empty());
            prop_assert_eq!(values.len(), 10);
            prop_assert_eq!(&values[0], &nstring(fields.date.as_ref()));
            prop_assert_eq!(&values[1], &nstring(fields.subject.as_ref()));
            prop_assert_eq!(&values[3], &values[2], "Sender stands for From");
            prop_assert_eq!(&values[9], &nstring(fields.message_id.as_ref()));
            let to = match &values[5] {
                Value::Nil => 0,
                Value::List(list) => list.len(),
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(to, fields.to.len());
        }

        #[test]
        fn structures_read_back(part in part(), extended: bool) {
            let mut out = Out::default();
            body_structure(&mut out, &part, extended);
            let mut input = out.0.as_slice();
            let value = read(&mut input);
            prop_assert!(input.is_empty());
            check(&value, &part, extended);
        }
    }
}
