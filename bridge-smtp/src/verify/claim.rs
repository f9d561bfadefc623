//! Fields that claim to be ours: only we may say `Authentication-Results` in our name (RFC 8601, section 5).
//!
//! What goes, from mail of other hosts:
//! - `Authentication-Results` whose authserv-id is our host name, above it (a name of two labels at least) or below it, in any
//!   spelling: case, A-labels and U-labels, quotes, comments, folding;
//! - `Authentication-Results` whose authserv-id can't be read, because some program may read our name there;
//! - fields whose names begin with `Mesyx-`, which tell our users what this program found.
//!
//! Everything else stays as it came, byte for byte: `Authentication-Results` of others too.

use mesyx_sdk::Domain;
use mesyx_sdk::mime::{self, Field};

/// The names that nobody else may use.
#[derive(Debug)]
pub(crate) struct Claims {
    hostname: String,
}

/// The start of the names of fields that only this program makes.
const OURS: &str = "Mesyx-";

impl Claims {
    /// For a host of this name.
    pub(crate) fn new(hostname: &str) -> Self {
        let domain = hostname.parse::<Domain>().ok();
        let name = domain.as_ref().and_then(Domain::as_name).unwrap_or(hostname);
        Self { hostname: name.to_ascii_lowercase() }
    }

    /// Takes the fields out of the message that begins at `start`; how many there were. What stays is moved once.
    pub(crate) fn take_out(&self, message: &mut Vec<u8>, start: usize) -> usize {
        let fields = mime::fields(message.get(start..).unwrap_or_default());
        let claims: Vec<_> = fields.filter(|field| self.is_claimed(field)).map(|field| field.range).collect();
        let Some(first) = claims.first() else { return 0 };
        let mut kept = start + first.start;
        for (index, field) in claims.iter().enumerate() {
            let next = claims.get(index + 1).map_or(message.len(), |next| start + next.start);
            message.copy_within(start + field.end..next, kept);
            kept += next - (start + field.end);
        }
        message.truncate(kept);
        claims.len()
    }

    fn is_claimed(&self, field: &Field<'_>) -> bool {
        let start = field.name.get(..OURS.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(OURS.as_bytes()))
            || field.is("Authentication-Results") && self.names_us(field.value)
    }

    /// Whether the value of `Authentication-Results` bears our name, or may be taken to.
    fn names_us(&self, value: &[u8]) -> bool {
        match authserv_id(value) {
            Some(id) => self.is_ours(&id),
            None => true,
        }
    }

    fn is_ours(&self, id: &[u8]) -> bool {
        let Ok(id) = std::str::from_utf8(id) else { return true };
        let id = id.trim_end_matches('.');
        let name = match id.parse::<Domain>() {
            Ok(Domain::Name(name)) => name.to_string(),
            // An address, or a word that is no name: nobody takes it for ours, unless ours is none either.
            _ => return id.eq_ignore_ascii_case(&self.hostname) || id.contains("=?"),
        };
        let below = |name: &str, above: &str| name.strip_suffix(above).is_some_and(|rest| rest.ends_with('.'));
        name == self.hostname || below(&name, &self.hostname) || name.contains('.') && below(&self.hostname, &name)
    }
}

/// The authserv-id of the value of `Authentication-Results` (RFC 8601, section 2.2), unquoted; `None` where the value is not
/// written as it must be up to the first result.
fn authserv_id(value: &[u8]) -> Option<Vec<u8>> {
    let mut rest = value;
    skip_blanks(&mut rest)?;
    let id = word(&mut rest)?;
    skip_blanks(&mut rest)?;
    // A version may follow, then the results.
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    rest = &rest[digits..];
    skip_blanks(&mut rest)?;
    matches!(rest.first(), None | Some(b';')).then_some(id)
}

/// A token or a quoted string (RFC 2045, section 5.1).
fn word(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let mut found = Vec::new();
    if let Some(quoted) = rest.strip_prefix(b"\"") {
        let mut bytes = quoted.iter().enumerate();
        while let Some((at, &byte)) = bytes.next() {
            match byte {
                b'"' => {
                    *rest = &quoted[at + 1..];
                    return (!found.is_empty()).then_some(found);
                }
                b'\\' => found.push(*bytes.next()?.1),
                b'\r' | b'\n' => return None,
                _ => found.push(byte),
            }
        }
        return None;
    }
    let end = rest.iter().position(|byte| b" \t\r\n;()<>@,:\\\"/[]?=".contains(byte)).unwrap_or(rest.len());
    let (token, after) = rest.split_at(end);
    found.extend_from_slice(token);
    *rest = after;
    (!found.is_empty()).then_some(found)
}

/// Passes over blanks, folds and comments; `None` where a comment does not end.
fn skip_blanks(rest: &mut &[u8]) -> Option<()> {
    let mut depth = 0_usize;
    loop {
        let Some((&byte, after)) = rest.split_first() else {
            return (depth == 0).then_some(());
        };
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => *rest = after,
            b'(' => {
                depth += 1;
                *rest = after;
            }
            b')' if depth > 0 => {
                depth -= 1;
                *rest = after;
            }
            b'\\' if depth > 0 => *rest = after.get(1..)?,
            _ if depth > 0 => *rest = after,
            _ => return Some(()),
        }
    }
}

/// A message without the fields that claim to be of the host of that name, as this bridge takes them out of what comes in.
#[must_use]
pub fn without_claims(hostname: &str, mut message: Vec<u8>) -> Vec<u8> {
    Claims::new(hostname).take_out(&mut message, 0);
    message
}

/// Whether a list of results (behind the first `;`) has this result of this method. Text in comments and quotes does not count.
pub(super) fn says(value: &[u8], method: &str, result: &str) -> bool {
    let mut plain = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((&byte, after)) = rest.split_first() {
        match byte {
            b'(' | b' ' | b'\t' | b'\r' | b'\n' => {
                if skip_blanks(&mut rest).is_none() {
                    return false;
                }
                plain.push(b' ');
            }
            b'"' => {
                if word(&mut rest).is_none() {
                    return false;
                }
                plain.push(b'"');
            }
            _ => {
                plain.push(byte.to_ascii_lowercase());
                rest = after;
            }
        }
    }
    plain.split(|&byte| byte == b';').any(|item| {
        let Some(equals) = item.iter().position(|&byte| byte == b'=') else { return false };
        let (name, value) = (item[..equals].trim_ascii(), item[equals + 1..].trim_ascii());
        let value = value.split(|&byte| byte == b' ').next().unwrap_or_default();
        name == method.as_bytes() && value == result.as_bytes()
    })
}

#[cfg(test)]
#[path = "claim_tests.rs"]
mod tests;
