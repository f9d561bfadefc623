//! Summaries. The MIME tree is flat on the wire, each part before the parts in it, for it may be deeper than a decoder of
//! protocol buffers goes.

use super::super::v1;
use super::{each, invalid, maybe, need};
use crate::summary::{MailAddressee, Parameters, PartKind};
use crate::{Content, Error, MailFields, Part, Summary, Timestamp};
use v1::mail_addressee::Element;

/// Deepest nesting of parts, and most of them: what the reader of MIME allows (100 and 1,000), with something to spare.
const MAX_DEPTH: usize = 200;
const MAX_PARTS: usize = 10_000;

impl From<&Summary> for v1::Summary {
    fn from(summary: &Summary) -> Self {
        let mut parts = Vec::new();
        add(&summary.structure, &mut parts);
        Self {
            internal_date: summary.internal_date.0,
            size: summary.size,
            headers: summary.headers.bytes(),
            fields: Some((&summary.fields).into()),
            parts,
            origin: summary.origin.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<v1::Summary> for Summary {
    type Error = Error;

    fn try_from(wire: v1::Summary) -> Result<Self, Error> {
        if wire.parts.len() > MAX_PARTS {
            return Err(invalid("a summary has too many parts"));
        }
        let mut parts = wire.parts.into_iter();
        let structure = read(&mut parts, 0)?;
        if parts.next().is_some() {
            return Err(invalid("a summary has parts beside its structure"));
        }
        Ok(Self {
            internal_date: Timestamp(wire.internal_date),
            size: wire.size,
            headers: Content::from(wire.headers),
            fields: maybe(wire.fields, TryInto::try_into)?.unwrap_or_default(),
            structure,
            origin: maybe(wire.origin, TryInto::try_into)?,
        })
    }
}

fn add(part: &Part, parts: &mut Vec<v1::Part>) {
    let (children, message) = match &part.kind {
        PartKind::Leaf => (0, None),
        // More than `u32::MAX` parts don't fit into memory.
        PartKind::Multipart(inner) => (u32::try_from(inner.len()).unwrap_or(u32::MAX), None),
        PartKind::Message(fields, _) => (0, Some(Box::new((&**fields).into()))),
    };
    parts.push(v1::Part {
        r#type: part.content_type.0.clone(),
        subtype: part.content_type.1.clone(),
        parameters: parameters(&part.parameters),
        id: part.id.clone(),
        description: part.description.clone(),
        encoding: part.encoding.clone(),
        md5: part.md5.clone(),
        disposition: part
            .disposition
            .as_ref()
            .map(|(kind, more)| v1::Disposition { kind: kind.clone(), parameters: parameters(more) }),
        language: part.language.clone(),
        location: part.location.clone(),
        header_start: part.header.start,
        header_end: part.header.end,
        body_start: part.body.start,
        body_end: part.body.end,
        lines: part.lines,
        children,
        message,
    });
    match &part.kind {
        PartKind::Leaf => {}
        PartKind::Multipart(inner) => inner.iter().for_each(|inner| add(inner, parts)),
        PartKind::Message(_, inner) => add(inner, parts),
    }
}

fn read(parts: &mut std::vec::IntoIter<v1::Part>, depth: usize) -> Result<Part, Error> {
    if depth > MAX_DEPTH {
        return Err(invalid("a summary's parts are too deep"));
    }
    let part = parts.next().ok_or_else(|| invalid("a summary's parts end before its structure does"))?;
    let kind = match (part.message, part.children) {
        (Some(_), 1..) => return Err(invalid("a part is both a message and a multipart")),
        (Some(fields), 0) => PartKind::Message(Box::new((*fields).try_into()?), Box::new(read(parts, depth + 1)?)),
        (None, 0) => PartKind::Leaf,
        (None, count) => PartKind::Multipart((0..count).map(|_| read(parts, depth + 1)).collect::<Result<_, _>>()?),
    };
    Ok(Part {
        content_type: (part.r#type, part.subtype),
        parameters: pairs(part.parameters),
        id: part.id,
        description: part.description,
        encoding: part.encoding,
        md5: part.md5,
        disposition: part.disposition.map(|disposition| (disposition.kind, pairs(disposition.parameters))),
        language: part.language,
        location: part.location,
        header: part.header_start..part.header_end,
        body: part.body_start..part.body_end,
        lines: part.lines,
        kind,
    })
}

fn parameters(pairs: &Parameters) -> Vec<v1::Parameter> {
    pairs.iter().map(|(name, value)| v1::Parameter { name: name.clone(), value: value.clone() }).collect()
}

fn pairs(parameters: Vec<v1::Parameter>) -> Parameters {
    parameters.into_iter().map(|parameter| (parameter.name, parameter.value)).collect()
}

impl From<&MailFields> for v1::MailFields {
    fn from(fields: &MailFields) -> Self {
        let list = |of: &[MailAddressee]| of.iter().map(Into::into).collect();
        Self {
            date: fields.date.clone(),
            subject: fields.subject.clone(),
            from: list(&fields.from),
            sender: list(&fields.sender),
            reply_to: list(&fields.reply_to),
            to: list(&fields.to),
            cc: list(&fields.cc),
            bcc: list(&fields.bcc),
            in_reply_to: fields.in_reply_to.clone(),
            message_id: fields.message_id.clone(),
        }
    }
}

impl TryFrom<v1::MailFields> for MailFields {
    type Error = Error;

    fn try_from(wire: v1::MailFields) -> Result<Self, Error> {
        Ok(Self {
            date: wire.date,
            subject: wire.subject,
            from: each(wire.from, TryInto::try_into)?,
            sender: each(wire.sender, TryInto::try_into)?,
            reply_to: each(wire.reply_to, TryInto::try_into)?,
            to: each(wire.to, TryInto::try_into)?,
            cc: each(wire.cc, TryInto::try_into)?,
            bcc: each(wire.bcc, TryInto::try_into)?,
            in_reply_to: wire.in_reply_to,
            message_id: wire.message_id,
        })
    }
}

impl From<&MailAddressee> for v1::MailAddressee {
    fn from(addressee: &MailAddressee) -> Self {
        let element = match addressee {
            MailAddressee::Mailbox { name, route, local, domain } => Element::Mailbox(v1::MailboxAddress {
                name: name.clone(),
                route: route.clone(),
                local: local.clone(),
                domain: domain.clone(),
            }),
            MailAddressee::GroupStart(name) => Element::GroupStart(name.clone()),
            MailAddressee::GroupEnd => Element::GroupEnd(v1::GroupEnd {}),
        };
        Self { element: Some(element) }
    }
}

impl TryFrom<v1::MailAddressee> for MailAddressee {
    type Error = Error;

    fn try_from(wire: v1::MailAddressee) -> Result<Self, Error> {
        Ok(match need(wire.element, "addressee")? {
            Element::Mailbox(mailbox) => {
                Self::Mailbox { name: mailbox.name, route: mailbox.route, local: mailbox.local, domain: mailbox.domain }
            }
            Element::GroupStart(name) => Self::GroupStart(name),
            Element::GroupEnd(_) => Self::GroupEnd,
        })
    }
}
