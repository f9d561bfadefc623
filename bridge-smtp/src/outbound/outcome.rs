//! From what a host said to what the core does about it.

use super::client::{Said, Stage};
use super::reply::Reply;
use mesyx_sdk::{DeferScope, Outcome};

/// Longest id that is kept of what a host called a message.
const MAX_ID: usize = 200;

/// The status of a reply as RFC 3463 writes it: its enhanced code, else the plainest one of the class.
pub(crate) fn status(reply: &Reply, class: char) -> String {
    match reply.enhanced {
        Some((own, subject, detail)) if own.to_string().starts_with(class) => format!("{class}.{subject}.{detail}"),
        _ => format!("{class}.0.0"),
    }
}

/// Not now; `why` begins with a status.
pub(crate) fn deferred(why: impl Into<String>, scope: DeferScope) -> Outcome {
    Outcome::Deferred { why: why.into(), retry_after: None, scope, maybe_sent: false }
}

/// Never; `why` begins with a status.
pub(crate) fn failed(why: impl Into<String>) -> Outcome {
    Outcome::Failed { why: why.into() }
}

/// The outcome for a recipient. `ended` says why the session is over, where it is.
///
/// The basic code decides between deferred and failed (RFC 5321, section 4.2.1); an enhanced code of another class was not
/// kept. 421 holds for the host. 552 for a recipient means that there are too many of them (section 4.5.3.1.10) unless its
/// enhanced code says otherwise.
pub(crate) fn of(said: &Said, dsn: bool, label: &str, ended: &str) -> Outcome {
    match said {
        Said::Taken(reply) => Outcome::Delivered { remote_id: remote_id(reply), dsn },
        Said::Unable(why) => failed(format!("{why}: {label}")),
        Said::Unheard { maybe_sent } => Outcome::Deferred {
            why: ended.to_owned(),
            retry_after: None,
            scope: if *maybe_sent { DeferScope::Recipient } else { DeferScope::Host },
            maybe_sent: *maybe_sent,
        },
        Said::Refused(stage, reply) => {
            let lasting = reply.is_final() && !(matches!(stage, Stage::Rcpt(_)) && is_too_many(reply));
            let class = if lasting { '5' } else { '4' };
            let why = format!("{} {label} said to {}: {reply}", status(reply, class), stage.name());
            if lasting {
                return failed(why);
            }
            deferred(why, if reply.code == 421 { DeferScope::Host } else { DeferScope::Recipient })
        }
    }
}

/// Whether a recipient was refused because there were too many in one message: the rest go in the next one.
pub(crate) fn is_too_many(reply: &Reply) -> bool {
    matches!((reply.code, reply.enhanced), (_, Some((_, 5, 3))) | (552, None) | (452, None | Some((_, 3 | 5, _))))
}

/// What the host calls the message: the text behind its yes.
fn remote_id(reply: &Reply) -> Option<String> {
    let text = reply.lines.last()?;
    let text = match reply.enhanced {
        Some(_) => text.split_once(' ').map_or("", |(_, rest)| rest),
        None => text,
    };
    let text: String = text.trim().chars().take(MAX_ID).collect();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::reply::ReplyReader;

    fn reply(text: &str) -> Reply {
        ReplyReader::default().next(&mut format!("{text}\r\n").as_bytes()).unwrap().unwrap()
    }

    fn refused(stage: Stage, text: &str) -> Outcome {
        of(&Said::Refused(stage, reply(text)), false, "mx.example.net [192.0.2.1]", "")
    }

    #[test]
    fn codes_decide() {
        let rcpt = Stage::Rcpt(0);
        for (stage, text, status, lasting, scope) in [
            (rcpt, "550 5.1.1 no such user", "5.1.1", true, None),
            (rcpt, "550 no such user", "5.0.0", true, None),
            (rcpt, "450 4.2.0 greylisted", "4.2.0", false, Some(DeferScope::Recipient)),
            (rcpt, "451 5.1.1 which", "4.0.0", false, Some(DeferScope::Recipient)),
            (rcpt, "550 4.7.1 which", "5.0.0", true, None),
            (rcpt, "552 too many", "4.0.0", false, Some(DeferScope::Recipient)),
            (rcpt, "552 5.2.2 mailbox full", "5.2.2", true, None),
            (rcpt, "552 5.5.3 too many", "4.0.0", false, Some(DeferScope::Recipient)),
            (Stage::End, "552 5.3.4 too big", "5.3.4", true, None),
            (Stage::End, "552 too big", "5.0.0", true, None),
            (Stage::Mail, "421 4.7.0 slow down", "4.7.0", false, Some(DeferScope::Host)),
            (Stage::End, "554 5.7.1 spam", "5.7.1", true, None),
        ] {
            match refused(stage, text) {
                Outcome::Failed { why } => {
                    assert!(lasting && why.starts_with(&format!("{status} mx.example.net")), "{text}: {why}");
                    assert!(why.contains(text), "{why}");
                }
                Outcome::Deferred { why, scope: of, maybe_sent, .. } => {
                    assert!(!lasting && !maybe_sent && why.starts_with(&format!("{status} mx")), "{text}: {why}");
                    assert_eq!(Some(of), scope, "{text}");
                }
                Outcome::Delivered { .. } => panic!("{text}"),
            }
        }
    }

    #[test]
    fn a_yes_has_the_hosts_own_name_for_the_message() {
        let id = |text: &str| match of(&Said::Taken(reply(text)), true, "", "") {
            Outcome::Delivered { remote_id, dsn: true } => remote_id,
            other => panic!("{other:?}"),
        };
        assert_eq!(id("250 2.0.0 Ok: queued as 4XyZ").as_deref(), Some("Ok: queued as 4XyZ"));
        assert_eq!(id("250 Ok").as_deref(), Some("Ok"));
        assert_eq!(id("250"), None);
    }

    #[test]
    fn silence_after_the_message_may_mean_it_was_taken() {
        for maybe_sent in [true, false] {
            let outcome = of(&Said::Unheard { maybe_sent }, false, "", "4.4.2 lost");
            let Outcome::Deferred { maybe_sent: told, why, scope, .. } = outcome else { panic!() };
            assert_eq!((told, &*why), (maybe_sent, "4.4.2 lost"));
            assert_eq!(scope == DeferScope::Host, !maybe_sent);
        }
    }
}
