//! One `DKIM-Signature` field for each key.

use super::canonical::{self, Field};
use super::keys::Signer;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mail_auth::common::crypto::{HashContext, HashImpl, Sha256, SigningKey};
use mail_auth::common::headers::Writer;
use std::fmt::Write as _;

/// Signed once more than they occur, absent ones too, so that none can be added: what readers see, and what says how the
/// message is to be read (RFC 6376, sections 5.4 and 8.15).
const SEALED: [&str; 14] = [
    "From",
    "Reply-To",
    "Subject",
    "Date",
    "To",
    "Cc",
    "Message-ID",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "Content-Disposition",
    "Autocrypt",
];

/// Signed as often as they occur. Mailing lists and resending add these, and may.
const PRESENT: [&str; 14] = [
    "Sender",
    "Resent-From",
    "Resent-To",
    "Resent-Cc",
    "Resent-Date",
    "Resent-Message-ID",
    "List-Id",
    "List-Help",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "List-Subscribe",
    "List-Post",
    "List-Archive",
    "Auto-Submitted",
];

/// Most occurrences of one field that are signed. A message with more is no letter, and verifiers bound `h=` as well.
const OCCURRENCES: usize = 20;
/// Where lines are folded.
const WIDTH: usize = 76;

/// The signatures of `content`, each a whole field with CRLF. `now` in seconds since 1970.
///
/// # Errors
/// What the cryptographic library says.
pub(super) fn sign(signers: &[Signer], domain: &str, content: &[u8], now: i64) -> Result<Vec<u8>, mail_auth::Error> {
    let (fields, body) = canonical::split(content);
    let mut hasher = Sha256::hasher();
    canonical::relax_body(body, |piece| hasher.write(piece));
    let body_hash = STANDARD.encode(hasher.complete().as_ref());
    let (names, signed) = signed_fields(&fields);
    let mut all = Vec::new();
    for signer in signers {
        let mut field = unsigned(signer, domain, now, &names, &body_hash);
        let mut input = signed.clone();
        let value = field.split_once(':').map_or("", |(_, value)| value);
        input.extend_from_slice(b"dkim-signature:");
        canonical::relax_value(value.as_bytes(), &mut input);
        let signature = STANDARD.encode(signer.key.sign(input.as_slice())?);
        fold_base64(&mut field, &signature);
        field.push_str("\r\n");
        all.extend_from_slice(field.as_bytes());
    }
    Ok(all)
}

/// The names for `h=`, and the relaxed form of what they name, in that order. Of several fields of one name the last is
/// taken first (RFC 6376, section 5.4.2).
fn signed_fields(fields: &[Field<'_>]) -> (Vec<&'static str>, Vec<u8>) {
    let (mut names, mut signed) = (Vec::new(), Vec::new());
    for (name, sealed) in SEALED.map(|name| (name, true)).into_iter().chain(PRESENT.map(|name| (name, false))) {
        let found = fields.iter().rev().filter(|field| field.is(name)).take(OCCURRENCES);
        for field in found {
            names.push(name);
            field.relax(&mut signed);
        }
        if sealed {
            names.push(name);
        }
    }
    (names, signed)
}

/// The field with an empty `b=` at its end.
fn unsigned(signer: &Signer, domain: &str, now: i64, names: &[&str], body_hash: &str) -> String {
    let mut field = format!("DKIM-Signature: v=1; a={}; c=relaxed/relaxed;", signer.algorithm.name());
    // Writing to a string never fails.
    let _ = write!(field, "\r\n\td={domain};\r\n\ts={}; t={now};\r\n\th=", signer.selector);
    let mut width = 11;
    for (index, name) in names.iter().enumerate() {
        if index > 0 {
            field.push(':');
            width += 1;
        }
        if width + name.len() + 1 > WIDTH {
            field.push_str("\r\n\t");
            width = 8;
        }
        field.push_str(name);
        width += name.len();
    }
    let _ = write!(field, ";\r\n\tbh={body_hash};\r\n\tb=");
    field
}

/// Adds base64 behind `b=`, in lines.
fn fold_base64(field: &mut String, text: &str) {
    let mut left = WIDTH - 10;
    let mut rest = text;
    while !rest.is_empty() {
        let (line, more) = rest.split_at(left.min(rest.len()));
        field.push_str(line);
        if !more.is_empty() {
            field.push_str("\r\n\t");
        }
        left = WIDTH - 8;
        rest = more;
    }
}
