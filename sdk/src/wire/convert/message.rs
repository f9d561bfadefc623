//! Messages on their way, and how deliveries ended.

use super::super::{CHUNK, status, v1};
use super::{address, each, id, invalid, maybe, need};
use crate::{
    Content, Conversation, DeferScope, Delivery, Dsn, Envelope, Error, Importance, Kind, MessageId, Notify, Origin,
    Outcome, Protection, Recipient, ReturnPart, Style, Timestamp, UserId,
};
use bytes::Bytes;
use std::time::Duration;

/// A body's first piece, and the others.
pub fn pieces(content: &Content) -> (Bytes, impl Iterator<Item = Bytes> + Send + 'static + use<>) {
    let bytes = content.bytes();
    let first = bytes.slice(..bytes.len().min(CHUNK));
    let rest = (CHUNK..bytes.len()).step_by(CHUNK).map(move |at| bytes.slice(at..bytes.len().min(at + CHUNK)));
    (first, rest)
}

/// The wire's envelope, with the size and the first piece of the body.
impl From<&Envelope> for v1::Envelope {
    fn from(envelope: &Envelope) -> Self {
        Self {
            id: envelope.id.0.to_vec(),
            dedup: envelope.dedup.clone(),
            style: match envelope.style {
                Style::Delayed => v1::Style::Delayed,
                Style::Instant => v1::Style::Instant,
            }
            .into(),
            kind: match envelope.kind {
                Kind::Message => v1::Kind::Message,
                Kind::Receipt => v1::Kind::Receipt,
                Kind::Reaction => v1::Kind::Reaction,
                Kind::Edit => v1::Kind::Edit,
                Kind::Retraction => v1::Kind::Retraction,
                Kind::Event => v1::Kind::Event,
            }
            .into(),
            from: envelope.from.as_ref().map(ToString::to_string),
            to: envelope.to.iter().map(Into::into).collect(),
            conversation: envelope.conversation.as_ref().map(Into::into),
            sent: envelope.sent.map(|at| at.0),
            received: envelope.received.0,
            importance: match envelope.importance {
                Importance::Low => v1::Importance::Low,
                Importance::Normal => v1::Importance::Normal,
                Importance::High => v1::Importance::High,
            }
            .into(),
            origin: Some((&envelope.origin).into()),
            junk: envelope.junk,
            dsn: Some((&envelope.dsn).into()),
            size: envelope.content.len() as u64,
            body: pieces(&envelope.content).0,
        }
    }
}

/// An envelope from the wire's, with the body that was put together.
///
/// # Errors
/// [`crate::ErrorKind::Invalid`].
pub fn envelope(wire: v1::Envelope, content: Content) -> Result<Envelope, Error> {
    if !(1..=1000).contains(&wire.to.len()) {
        return Err(invalid("a message has 1 to 1000 recipients"));
    }
    if wire.dedup.as_ref().is_some_and(|dedup| dedup.len() > 1024) {
        return Err(invalid("an origin's name for a message has at most 1024 bytes"));
    }
    Ok(Envelope {
        id: MessageId(id(&wire.id)?),
        dedup: wire.dedup,
        style: match v1::Style::try_from(wire.style) {
            Ok(v1::Style::Unspecified | v1::Style::Delayed) => Style::Delayed,
            Ok(v1::Style::Instant) => Style::Instant,
            Err(_) => return Err(invalid("a message's style is not known here")),
        },
        kind: match v1::Kind::try_from(wire.kind) {
            Ok(v1::Kind::Unspecified | v1::Kind::Message) => Kind::Message,
            Ok(v1::Kind::Receipt) => Kind::Receipt,
            Ok(v1::Kind::Reaction) => Kind::Reaction,
            Ok(v1::Kind::Edit) => Kind::Edit,
            Ok(v1::Kind::Retraction) => Kind::Retraction,
            Ok(v1::Kind::Event) => Kind::Event,
            Err(_) => return Err(invalid("a message's kind is not known here")),
        },
        from: maybe(wire.from, |from| address(&from))?,
        to: each(wire.to, TryInto::try_into)?,
        conversation: maybe(wire.conversation, TryInto::try_into)?,
        sent: wire.sent.map(Timestamp),
        received: Timestamp(wire.received),
        importance: match v1::Importance::try_from(wire.importance) {
            Ok(v1::Importance::Low) => Importance::Low,
            Ok(v1::Importance::High) => Importance::High,
            _ => Importance::Normal,
        },
        content,
        origin: maybe(wire.origin, TryInto::try_into)?.unwrap_or_default(),
        junk: wire.junk,
        dsn: wire.dsn.map(Into::into).unwrap_or_default(),
    })
}

/// The wire's delivery with its number; the body comes along where it is one piece.
impl From<(u64, &Delivery)> for v1::Deliver {
    fn from((job, delivery): (u64, &Delivery)) -> Self {
        let whole = delivery.content.len() <= CHUNK;
        Self {
            job,
            id: delivery.id.0.to_vec(),
            from: delivery.from.as_ref().map(ToString::to_string),
            recipients: delivery.recipients.iter().map(Into::into).collect(),
            dsn: Some((&delivery.dsn).into()),
            deadline: delivery.deadline.0,
            size: delivery.content.len() as u64,
            body: if whole { delivery.content.bytes() } else { Bytes::new() },
        }
    }
}

/// A delivery from the wire's, with the body that was put together.
///
/// # Errors
/// [`crate::ErrorKind::Invalid`].
pub fn delivery(wire: v1::Deliver, content: Content) -> Result<Delivery, Error> {
    Ok(Delivery {
        id: MessageId(id(&wire.id)?),
        from: maybe(wire.from, |from| address(&from))?,
        recipients: each(wire.recipients, TryInto::try_into)?,
        dsn: wire.dsn.map(Into::into).unwrap_or_default(),
        deadline: Timestamp(wire.deadline),
        content,
    })
}

impl From<&Recipient> for v1::Recipient {
    fn from(recipient: &Recipient) -> Self {
        Self {
            address: recipient.address.to_string(),
            notify: recipient.notify.map(|notify| v1::Notify {
                success: notify.success,
                failure: notify.failure,
                delay: notify.delay,
            }),
            original: recipient.original.clone(),
        }
    }
}

impl TryFrom<v1::Recipient> for Recipient {
    type Error = Error;

    fn try_from(wire: v1::Recipient) -> Result<Self, Error> {
        Ok(Self {
            address: address(&wire.address)?,
            notify: wire.notify.map(|notify| Notify {
                success: notify.success,
                failure: notify.failure,
                delay: notify.delay,
            }),
            original: wire.original,
        })
    }
}

impl From<&Dsn> for v1::Dsn {
    fn from(dsn: &Dsn) -> Self {
        let ret = match dsn.ret {
            None => v1::ReturnPart::Unspecified,
            Some(ReturnPart::Full) => v1::ReturnPart::Full,
            Some(ReturnPart::Headers) => v1::ReturnPart::Headers,
        };
        Self { ret: ret.into(), envid: dsn.envid.clone() }
    }
}

impl From<v1::Dsn> for Dsn {
    fn from(wire: v1::Dsn) -> Self {
        let ret = match v1::ReturnPart::try_from(wire.ret) {
            Ok(v1::ReturnPart::Full) => Some(ReturnPart::Full),
            Ok(v1::ReturnPart::Headers) => Some(ReturnPart::Headers),
            _ => None,
        };
        Self { ret, envid: wire.envid }
    }
}

impl From<&Conversation> for v1::ConversationOf {
    fn from(conversation: &Conversation) -> Self {
        use v1::conversation_of::With;
        let with = match conversation {
            Conversation::Direct(address) => With::Direct(address.to_string()),
            Conversation::Group(address) => With::Group(address.to_string()),
        };
        Self { with: Some(with) }
    }
}

impl TryFrom<v1::ConversationOf> for Conversation {
    type Error = Error;

    fn try_from(wire: v1::ConversationOf) -> Result<Self, Error> {
        use v1::conversation_of::With;
        Ok(match need(wire.with, "conversation")? {
            With::Direct(with) => Self::Direct(address(&with)?),
            With::Group(group) => Self::Group(address(&group)?),
        })
    }
}

impl From<&Origin> for v1::Origin {
    fn from(origin: &Origin) -> Self {
        Self {
            bridge: origin.bridge.clone(),
            network: origin.network.clone(),
            peer: origin.peer.clone(),
            protection: Some((&origin.protection).into()),
            authenticated: origin.authenticated.map(|user| user.0.to_vec()),
            checks: origin.checks.clone(),
        }
    }
}

impl TryFrom<v1::Origin> for Origin {
    type Error = Error;

    fn try_from(wire: v1::Origin) -> Result<Self, Error> {
        Ok(Self {
            bridge: wire.bridge,
            network: wire.network,
            peer: wire.peer,
            protection: wire.protection.map(Into::into).unwrap_or_default(),
            authenticated: maybe(wire.authenticated, |user| Ok(UserId(id(&user)?)))?,
            checks: wire.checks,
        })
    }
}

impl From<&Protection> for v1::Protection {
    fn from(protection: &Protection) -> Self {
        use v1::protection::Protection as Wire;
        let protection = match protection {
            Protection::None => None,
            Protection::Tls { version, cipher } => {
                Some(Wire::Tls(v1::Tls { version: version.clone(), cipher: cipher.clone() }))
            }
            Protection::Otr { verified } => Some(Wire::Otr(v1::Otr { verified: *verified })),
            Protection::Pgp => Some(Wire::Pgp(v1::Pgp {})),
        };
        Self { protection }
    }
}

impl From<v1::Protection> for Protection {
    fn from(wire: v1::Protection) -> Self {
        use v1::protection::Protection as Wire;
        match wire.protection {
            None => Self::None,
            Some(Wire::Tls(tls)) => Self::Tls { version: tls.version, cipher: tls.cipher },
            Some(Wire::Otr(otr)) => Self::Otr { verified: otr.verified },
            Some(Wire::Pgp(_)) => Self::Pgp,
        }
    }
}

impl From<&Outcome> for v1::Outcome {
    fn from(outcome: &Outcome) -> Self {
        use v1::outcome::Outcome as Wire;
        let outcome = match outcome {
            Outcome::Delivered { remote_id, dsn } => {
                Wire::Delivered(v1::Delivered { remote_id: remote_id.clone(), dsn: *dsn })
            }
            Outcome::Deferred { why, retry_after, scope, maybe_sent } => Wire::Deferred(v1::Deferred {
                why: status::cut(why).to_owned(),
                retry_after_ms: retry_after.map(status::millis),
                scope: match scope {
                    DeferScope::Recipient => v1::DeferScope::Recipient,
                    DeferScope::Host => v1::DeferScope::Host,
                    DeferScope::Bridge => v1::DeferScope::Bridge,
                }
                .into(),
                maybe_sent: *maybe_sent,
            }),
            Outcome::Failed { why } => Wire::Failed(v1::Failed { why: status::cut(why).to_owned() }),
        };
        Self { outcome: Some(outcome) }
    }
}

/// What a bridge says is cut to a length that can be stored, and to one line.
impl From<v1::Outcome> for Outcome {
    fn from(wire: v1::Outcome) -> Self {
        use v1::outcome::Outcome as Wire;
        let line = |text: &str| status::cut(text).replace(|c: char| c.is_control(), " ");
        match wire.outcome {
            Some(Wire::Delivered(delivered)) => {
                Self::Delivered { remote_id: delivered.remote_id.map(|id| line(&id)), dsn: delivered.dsn }
            }
            Some(Wire::Deferred(deferred)) => Self::Deferred {
                why: line(&deferred.why),
                retry_after: deferred.retry_after_ms.map(Duration::from_millis),
                scope: match v1::DeferScope::try_from(deferred.scope) {
                    Ok(v1::DeferScope::Host) => DeferScope::Host,
                    Ok(v1::DeferScope::Bridge) => DeferScope::Bridge,
                    _ => DeferScope::Recipient,
                },
                maybe_sent: deferred.maybe_sent,
            },
            Some(Wire::Failed(failed)) => Self::Failed { why: line(&failed.why) },
            None => Self::Deferred {
                why: "the bridge gave an outcome of a sort that is not known here".to_owned(),
                retry_after: None,
                scope: DeferScope::Recipient,
                maybe_sent: true,
            },
        }
    }
}
