//! Our field `Authentication-Results` (RFC 8601). Every text in it that comes from the message is cut down to what can't end a line, a
//! comment or a value.

use super::arc::ArcFound;
use super::decide::{Action, Asked, DmarcFound};
use super::dkim::{DkimFound, Word};
use super::{Peer, SpfFound};
use base64::Engine as _;
use mail_auth::SpfResult;
use mail_auth::common::crypto::Algorithm;
use std::fmt::Write as _;

/// Longest text of the message in one value.
const LONGEST: usize = 255;

/// The whole field, and its results in short.
pub(super) fn write(
    hostname: &str,
    peer: Peer<'_>,
    spf: &SpfFound,
    dkim: &[DkimFound],
    dmarc: &[DmarcFound],
    arc: &ArcFound,
    action: &Action,
) -> (String, Vec<String>) {
    let mut field = format!("Authentication-Results: {hostname}");
    let mut checks = Vec::new();
    write_spf(&mut field, &mut checks, peer, spf);
    write_dkim(&mut field, &mut checks, dkim);
    write_dmarc(&mut field, &mut checks, dmarc, action);
    write_arc(&mut field, &mut checks, peer, arc);
    field.push_str("\r\n");
    (field, checks)
}

fn write_spf(field: &mut String, checks: &mut Vec<String>, peer: Peer<'_>, spf: &SpfFound) {
    let word = match spf.result {
        SpfResult::Pass => "pass",
        SpfResult::Fail => "fail",
        SpfResult::SoftFail => "softfail",
        SpfResult::Neutral => "neutral",
        SpfResult::TempError => "temperror",
        SpfResult::PermError => "permerror",
        SpfResult::None => "none",
    };
    let _ = write!(field, ";\r\n\tspf={word}");
    match peer.from {
        Some(from) => drop(write!(field, " smtp.mailfrom={}", from.domain())),
        None => drop(write!(field, " smtp.helo={}", value(peer.helo))),
    }
    checks.push(format!("spf={word}"));
}

fn write_dkim(field: &mut String, checks: &mut Vec<String>, dkim: &[DkimFound]) {
    if dkim.is_empty() {
        field.push_str(";\r\n\tdkim=none");
        checks.push("dkim=none".to_owned());
    }
    for found in dkim {
        let word = found.word.as_str();
        let _ = write!(field, ";\r\n\tdkim={word}");
        if !found.why.is_empty() {
            let _ = write!(field, " ({})", comment(found.why));
        }
        let Some(signature) = &found.signature else { continue };
        let algorithm = match signature.a {
            Algorithm::RsaSha1 => "rsa-sha1",
            Algorithm::RsaSha256 => "rsa-sha256",
            Algorithm::Ed25519Sha256 => "ed25519-sha256",
        };
        let _ = write!(
            field,
            "\r\n\t header.d={} header.s={} header.a={algorithm}",
            value(&signature.d),
            value(&signature.s)
        );
        // The first 8 characters tell signatures of one domain apart (RFC 6008).
        if let Some(start) = signature.b.get(..6) {
            let start = base64::engine::general_purpose::STANDARD.encode(start);
            let _ = write!(field, " header.b=\"{start}\"");
        }
    }
    // What speaks for the message is told first.
    let order = [Word::Pass, Word::TempError, Word::Policy, Word::Fail, Word::PermError];
    let best = order.into_iter().find(|word| dkim.iter().any(|found| found.word == *word));
    checks.extend(best.map(|word| format!("dkim={}", word.as_str())));
}

fn write_dmarc(field: &mut String, checks: &mut Vec<String>, dmarc: &[DmarcFound], action: &Action) {
    if dmarc.is_empty() {
        field.push_str(";\r\n\tdmarc=none (From names nobody who could be checked)");
        checks.push("dmarc=none".to_owned());
    }
    for DmarcFound { domain, word, policy } in dmarc {
        let _ = write!(field, ";\r\n\tdmarc={}", word.as_str());
        let policy = match policy {
            Asked::Nothing => "none",
            Asked::Quarantine => "quarantine",
            Asked::Reject => "reject",
        };
        if matches!(word, Word::Pass | Word::Fail) {
            let done = match action {
                Action::Junk(_) => "junk",
                Action::Take | Action::Refuse(_) => "taken",
            };
            let _ = write!(field, " ({done})");
        }
        let _ = write!(field, " header.from={} policy.dmarc={policy}", value(domain));
    }
    // Of several domains all must pass.
    let order = [Word::Fail, Word::PermError, Word::TempError, Word::None, Word::Pass];
    let worst = order.into_iter().find(|word| dmarc.iter().any(|found| found.word == *word));
    checks.extend(worst.map(|word| format!("dmarc={}", word.as_str())));
}

fn write_arc(field: &mut String, checks: &mut Vec<String>, peer: Peer<'_>, arc: &ArcFound) {
    let word = arc.word.as_str();
    let _ = write!(field, ";\r\n\tarc={word}");
    if arc.sets > 0 {
        match &arc.sealer {
            Some(sealer) => drop(write!(field, " (i={}, sealed by {})", arc.sets, value(sealer))),
            None => drop(write!(field, " (i={}, {})", arc.sets, comment(arc.why))),
        }
        let _ = write!(field, " smtp.remote-ip=\"{}\"", peer.ip);
        checks.push(format!("arc={word}"));
    }
}

/// A text of the message as a value: letters, digits and what names are made of; anything else is a question mark in quotes.
fn value(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let mut kept: String = text.chars().take(LONGEST).map(|c| if plain(c) { c } else { '?' }).collect();
    if kept.is_empty() || kept.contains('?') {
        kept = format!("\"{kept}\"");
    }
    kept
}

/// Words of ours in a comment: a `=` or bracket in them must not be taken for more.
fn comment(text: &str) -> String {
    text.replace(['(', ')', '\\'], "'")
}
